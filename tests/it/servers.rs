//! For those who run the tests with few open files: a server of the tests ends with its owner.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::server::Connection;
use crate::support::{Hold, Server, wait_until};

/// One that no other test uses, so that none takes the port of a server that has ended.
const ADDRESS: &str = if cfg!(target_os = "linux") {
    "127.115.101.114:0"
} else {
    "127.0.0.1:0"
};

/// A server with a connection in each of these states is dropped; then nothing of it is left.
#[test]
fn a_dropped_server_leaves_no_port_no_connection_and_no_thread() {
    let states: [fn(&Connection); 3] = [
        |connection| drop((&*connection.stream).read(&mut [0])),
        |connection| connection.pause(Duration::MAX),
        |connection| connection.wait_for(&Hold::default()),
    ];
    for serve in states {
        let serving = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&serving);
        let server = Server::listen(ADDRESS, move |connection| {
            counted.fetch_add(1, Ordering::SeqCst);
            serve(connection);
        });
        let address = server.address();
        let mut stream = TcpStream::connect(address).expect("it listens");
        wait_until("the connection", || serving.load(Ordering::SeqCst) == 1);
        drop(server);

        let refused = TcpStream::connect(address).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
        assert_eq!(stream.read(&mut [0]).expect("the end, and no reset"), 0);
        // Every thread had a share of it.
        assert_eq!(Arc::strong_count(&serving), 1);
    }
}

#[test]
fn a_server_comes_up_again_at_its_address_and_breaks_what_was_open_before() {
    let server = Server::listen(ADDRESS, |connection| {
        drop((&*connection.stream).read(&mut [0]));
    });
    let mut before = TcpStream::connect(server.address()).expect("it listens");
    server.close();
    assert!(TcpStream::connect(server.address()).is_err());
    assert_eq!(before.read(&mut [0]).unwrap_or(0), 0);
    server.reopen();
    TcpStream::connect(server.address()).expect("it listens again");
}
