//! For people who run the tests on a system that allows few open files: a server of the tests closes when it is dropped.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::server::Connection;
use crate::support::{Hold, Server, wait_until};

/// An address that no other test uses, so that no other server takes a port that was closed.
const ADDRESS: &str = if cfg!(target_os = "linux") {
    "127.115.101.114:0"
} else {
    "127.0.0.1:0"
};

/// Whether the port is closed. A child that another test has just forked has every listener open until its exec, so
/// the port may accept connections for a moment after the server has closed it.
fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_dropped_server_leaves_no_port_no_connection_and_no_thread() {
    // The states in which a connection can be when the server is dropped.
    let states: [fn(&Connection); 3] = [
        |connection| drop((&*connection.stream).read(&mut [0])),
        |connection| connection.pause(Duration::MAX),
        |connection| connection.wait_for(&Hold::default()),
    ];
    for stay_in_state in states {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let server = Server::listen(ADDRESS, move |connection| {
            counter.fetch_add(1, Ordering::SeqCst);
            stay_in_state(connection);
        });
        let address = server.address();
        let mut stream = TcpStream::connect(address).expect("it listens");
        wait_until("the connection", || connections.load(Ordering::SeqCst) == 1);
        drop(server);

        wait_until("the closed port", || is_refused(address));
        assert_eq!(stream.read(&mut [0]).expect("the end, and no reset"), 0);
        // Every thread of the server held a reference.
        assert_eq!(Arc::strong_count(&connections), 1);
    }
}

#[test]
fn a_reopened_server_has_its_old_address_and_no_old_connections() {
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
