//! A listening socket for tests: one thread that accepts connections, and one thread for each connection.
//!
//! When the server is dropped, the port closes, every connection ends and every thread is joined: some
//! systems (macOS) let a process open only 256 files, and the tests start hundreds of servers.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::patience::{Deadline, MAX_WAIT};
use super::reply::Hold;

/// A server; it is closed when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    serve: Arc<dyn Fn(&Connection) + Send + Sync>,
    /// The thread that accepts connections; `None` while the server is closed.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// A connection that a server has accepted.
pub struct Connection {
    /// Counts the server's connections from 1.
    pub number: usize,
    pub stream: Arc<TcpStream>,
    server: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// How many connections were accepted.
    connection_count: usize,
    /// The connections that threads serve, by number.
    streams: HashMap<usize, Arc<TcpStream>>,
    threads: HashMap<usize, JoinHandle<()>>,
    /// The holds that threads may wait for.
    holds: Vec<Hold>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens on an address and serves every connection in a separate thread.
    pub fn listen(address: &str, serve: impl Fn(&Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            shared: Arc::default(),
            serve: Arc::new(serve),
            acceptor: Mutex::default(),
        };
        server.start_accepting(listener);
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_accepting(&self, listener: TcpListener) {
        let (shared, serve) = (Arc::clone(&self.shared), Arc::clone(&self.serve));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut state = shared.state();
                if state.closed {
                    return;
                }
                if let Ok(stream) = stream {
                    // Real servers do this too: without it, a small write waits until the client has acknowledged the one before.
                    let _ = stream.set_nodelay(true);
                    state.start_serving(stream, &shared, &serve);
                }
            }
        });
        *self.acceptor.lock().unwrap() = Some(thread);
    }

    /// Closes the port and breaks every connection.
    pub fn close(&self) {
        let holds = {
            let mut state = self.shared.state();
            state.closed = true;
            for stream in state.streams.values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            state.holds.clone()
        };
        self.shared.changed.notify_all();
        for hold in holds {
            hold.wake_waiting();
        }
        let acceptor = self.acceptor.lock().unwrap().take();
        if let Some(acceptor) = acceptor {
            self.wake_acceptor(&acceptor);
            acceptor
                .join()
                .expect("accepting connections does not panic");
        }
    }

    /// Connects to the server, so that the accepting thread stops waiting and notices that the server is closed.
    fn wake_acceptor(&self, acceptor: &JoinHandle<()>) {
        let deadline = Instant::now() + MAX_WAIT;
        while !acceptor.is_finished() && Instant::now() < deadline {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            thread::yield_now();
        }
    }

    /// Listens at the same address again, after [`Self::close`].
    pub fn reopen(&self) {
        let deadline = Instant::now() + MAX_WAIT;
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                // A child between fork and exec has the old listener open for a moment.
                Err(_) if Instant::now() < deadline => thread::yield_now(),
                Err(error) => panic!("{} cannot be listened on again: {error}", self.address),
            }
        };
        self.shared.state().closed = false;
        self.start_accepting(listener);
    }

    /// Waits until no accepted connection is open.
    #[track_caller]
    pub fn wait_until_all_connections_are_closed(&self) {
        let deadline = Deadline::start();
        let mut state = self.shared.state();
        while !state.streams.is_empty() {
            let left = deadline.left();
            assert!(
                !left.is_zero(),
                "{} connections stay open",
                state.streams.len()
            );
            let changed = self.shared.changed.wait_timeout(state, left);
            state = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Joins the threads of all connections; returns how many threads have not ended in time.
    fn join_connection_threads(&self) -> usize {
        let state = self.shared.state();
        let has_connections = |state: &mut State| !state.streams.is_empty();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, MAX_WAIT, has_connections);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let threads: Vec<_> = state.threads.drain().collect();
        let late: Vec<usize> = state.streams.keys().copied().collect();
        drop(state);
        for (number, thread) in threads {
            if !late.contains(&number) {
                let _ = thread.join();
            }
        }
        late.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
        let late = self.join_connection_threads();
        assert!(
            late == 0 || thread::panicking(),
            "{late} connections of the tests' server at {} do not end",
            self.address
        );
    }
}

impl State {
    /// Serves the connection in a new thread.
    fn start_serving(
        &mut self,
        stream: TcpStream,
        shared: &Arc<Shared>,
        serve: &Arc<dyn Fn(&Connection) + Send + Sync>,
    ) {
        // The handles of threads that have ended need memory.
        self.threads.retain(|_, thread| !thread.is_finished());
        self.connection_count += 1;
        let connection = Connection {
            number: self.connection_count,
            stream: Arc::new(stream),
            server: Arc::clone(shared),
        };
        self.streams
            .insert(connection.number, Arc::clone(&connection.stream));
        let serve = Arc::clone(serve);
        let number = connection.number;
        let thread = thread::spawn(move || serve(&connection));
        self.threads.insert(number, thread);
    }
}

impl Connection {
    /// Waits for this time, or until the server closes.
    pub fn pause(&self, time: Duration) {
        let is_open = |state: &mut State| !state.closed;
        let state = self.server.state();
        drop(self.server.changed.wait_timeout_while(state, time, is_open));
    }

    /// Waits until a test releases a hold, or until the server closes.
    pub fn wait_for(&self, hold: &Hold) {
        self.server.state().holds.push(hold.clone());
        hold.wait(|| self.server.state().closed);
    }

    /// Resets the connection when its last handle is dropped. A shutdown would send FIN and not RST.
    pub fn reset(&self) -> io::Result<()> {
        let linger = Some(Duration::ZERO);
        Ok(rustix::net::sockopt::set_socket_linger(
            &self.stream,
            linger,
        )?)
    }
}

impl Drop for Connection {
    /// Removes the connection from the server, also when its thread panics; dropping the last handle closes it.
    fn drop(&mut self) {
        let mut state = self.server.state();
        state.streams.remove(&self.number);
        drop(state);
        self.server.changed.notify_all();
    }
}
