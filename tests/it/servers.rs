//! For those who run the tests with few open files: a server of the tests ends with its owner.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
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

/// A child that another test has just forked holds every listener of this process until its exec, so the port may take
/// connections for a moment after the server has closed it.
fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

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

        wait_until("the closed port", || is_refused(address));
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
    wait_until("the closed port", || is_refused(server.address()));
    assert_eq!(before.read(&mut [0]).unwrap_or(0), 0);
    server.reopen();
    TcpStream::connect(server.address()).expect("it listens again");
}
