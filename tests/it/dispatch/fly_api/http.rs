//! Requests and answers on a connection.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use serde_json::Value;

use super::{Answer, Shared, answer};
use crate::support::server::Connection;

pub struct Request {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub authorization: String,
    pub body: Value,
}

/// Answers the requests of one connection.
pub fn serve(shared: &Arc<Shared>, connection: &Connection) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(connection, &mut buffer) {
        let Answer::Send {
            status,
            retry_after,
            body,
        } = answer(shared, connection, &request)
        else {
            let _ = connection.stream.shutdown(Shutdown::Both);
            return;
        };
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        if let Some(seconds) = retry_after {
            let _ = write!(head, "retry-after: {seconds}\r\n");
        }
        let text = format!("{head}\r\n{body}");
        if (&*connection.stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads one request; `None` if the connection ends.
fn read_request(connection: &Connection, buffer: &mut Vec<u8>) -> Option<Request> {
    let read_more = |buffer: &mut Vec<u8>| {
        let mut chunk = [0; 8 * 1024];
        let count = (&*connection.stream)
            .read(&mut chunk)
            .ok()
            .filter(|count| *count > 0)?;
        buffer.extend_from_slice(&chunk[..count]);
        Some(())
    };
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(buffer) {
            let header = |name: &str| {
                let header = request
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case(name));
                header.map(|header| String::from_utf8_lossy(header.value).into_owned())
            };
            let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
            let target = request.path.expect("a path").to_owned();
            let (method, authorization) = (
                request.method.expect("a method").to_owned(),
                header("authorization"),
            );
            while buffer.len() < head + length {
                read_more(buffer)?;
            }
            let rest = buffer.split_off(head + length);
            let body = serde_json::from_slice(&buffer[head..]).unwrap_or_default();
            *buffer = rest;
            let url = reqwest::Url::parse(&format!("http://x{target}")).expect("a target");
            return Some(Request {
                method,
                path: url.path().to_owned(),
                query: url.query_pairs().into_owned().collect(),
                authorization: authorization.unwrap_or_default(),
                body,
            });
        }
        read_more(buffer)?;
    }
}
