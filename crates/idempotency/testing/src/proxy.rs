// SPDX-License-Identifier: MIT OR Apache-2.0
//! A proxy between the service and PostgreSQL that fails at chosen moments.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::server::{Server, Stream, server};

/// No connection has this number.
const NONE: usize = usize::MAX;

/// Listens on a TCP port and forwards to the server.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// The next message with these bytes reaches PostgreSQL. Then the proxy cuts the connection instead of forwarding
    /// the answer.
    LosesAnswerTo(&'static [u8]),
    /// PostgreSQL has the message, and the proxy will lose the answer.
    LosesNextAnswer,
    /// The proxy forwards nothing and keeps the connections open.
    Silent,
    /// The next message with these bytes reaches PostgreSQL. Then the proxy pauses.
    PausesAfter(&'static [u8]),
    /// The next message with these bytes reaches PostgreSQL. Then its connection stays paused for good.
    ForgetsAfter(&'static [u8]),
    /// The proxy accepts and acknowledges everything, and forwards it when the pause is over.
    Paused,
}

struct Network {
    state: Mutex<State>,
    changed: Condvar,
    /// The number of connections so far.
    connections: AtomicUsize,
    /// Connections before this number stay paused for good.
    forgotten: AtomicUsize,
    /// The connection with this number stays paused for good.
    forgotten_one: AtomicUsize,
    /// The state at the end of each answer of PostgreSQL: `I` idle, `T` inside a transaction, `E` inside a failed transaction.
    ends: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Starts the proxy on a free port, in front of the server of this process.
    #[must_use]
    pub fn start() -> Self {
        Self::forwards_to(|| Some(server().dial()))
    }

    /// Starts the proxy on a free port, in front of a server's socket. While the server is down, the proxy closes each connection
    /// at once.
    #[must_use]
    pub fn to(socket: PathBuf) -> Self {
        Self::forwards_to(move || UnixStream::connect(&socket).ok().map(Stream::Unix))
    }

    fn forwards_to(dial: impl Fn() -> Option<Stream> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network {
            state: Mutex::new(State::Sound),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
            forgotten: AtomicUsize::new(0),
            forgotten_one: AtomicUsize::new(NONE),
            ends: Mutex::default(),
        });
        let shared = Arc::clone(&network);
        // This thread and the threads of the connections end with the process.
        thread::spawn(move || {
            for client in listener.incoming() {
                if let Some(server) = dial() {
                    forward(client.unwrap(), server, &shared);
                }
            }
        });
        Self { port, network }
    }

    /// The URL of the same database through this proxy. The connection is not encrypted, so that the proxy sees a COMMIT.
    #[must_use]
    pub fn url(&self, direct: &str) -> String {
        Server::through(direct, self.port)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.network.connections.load(Ordering::Relaxed)
    }

    /// Cuts the connection of the next COMMIT: PostgreSQL has answered, but the answer does not arrive.
    pub fn lose_answer_of_next_commit(&self) {
        self.lose_answer_to(b"COMMIT\0");
    }

    /// Cuts the connection of the next message with these bytes in the same way.
    pub fn lose_answer_to(&self, bytes: &'static [u8]) {
        self.network.set(State::LosesAnswerTo(bytes));
    }

    /// The round trips since the last call, each as the state at its end. For example `IIT`.
    #[expect(clippy::must_use_candidate, reason = "a caller may only want to reset the count")]
    pub fn round_trips(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.network.ends.lock().unwrap())).unwrap()
    }

    /// From now on, drops all data in both directions, like a host that has vanished.
    pub fn go_silent(&self) {
        self.network.set(State::Silent);
    }

    /// From now on, accepts and acknowledges everything but forwards nothing, like a paused pooler or a stopped server.
    pub fn pause(&self) {
        self.network.set(State::Paused);
    }

    /// Pauses once PostgreSQL has the next message with these bytes, before its answer.
    pub fn pause_after(&self, bytes: &'static [u8]) {
        self.network.set(State::PausesAfter(bytes));
    }

    /// Whether the message to pause after has come.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.network.state.lock().unwrap() == State::Paused
    }

    /// Pauses one connection for good once PostgreSQL has its message with these bytes, before its answer. All others go on.
    pub fn forget_after(&self, bytes: &'static [u8]) {
        self.network.set(State::ForgetsAfter(bytes));
    }

    /// Whether the message of the connection to forget has come.
    #[must_use]
    pub fn has_forgotten_one(&self) -> bool {
        self.network.forgotten_one.load(Ordering::Relaxed) != NONE
    }

    /// Ends the pause, and forwards what was held.
    pub fn resume(&self) {
        self.network.set(State::Sound);
    }

    /// Ends the pause for new connections. The others stay silent for good.
    pub fn resume_for_new_connections(&self) {
        self.network.forgotten.store(self.network.connections.load(Ordering::Relaxed), Ordering::Relaxed);
        self.network.set(State::Sound);
    }

    /// Forwards again. The connections of the silent time are reset.
    pub fn recover(&self) {
        self.network.set(State::Sound);
    }
}

impl Network {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    /// Waits while the connection of this number is paused.
    fn until_resumed(&self, connection: usize) -> MutexGuard<'_, State> {
        let state = self.state.lock().unwrap();
        let is_paused = |state: &mut State| {
            *state == State::Paused
                || connection < self.forgotten.load(Ordering::Relaxed)
                || connection == self.forgotten_one.load(Ordering::Relaxed)
        };
        self.changed.wait_while(state, is_paused).unwrap()
    }

    /// Returns a state if the client's data must not be forwarded.
    fn sees_from_client(&self, connection: usize, bytes: &[u8]) -> Option<State> {
        let mut state = self.until_resumed(connection);
        if let State::PausesAfter(these) = *state
            && bytes.windows(these.len()).any(|window| window == these)
        {
            *state = State::Paused;
        }
        if let State::ForgetsAfter(these) = *state
            && bytes.windows(these.len()).any(|window| window == these)
        {
            self.forgotten_one.store(connection, Ordering::Relaxed);
            *state = State::Sound;
        }
        if let State::LosesAnswerTo(these) = *state
            && bytes.windows(these.len()).any(|window| window == these)
        {
            *state = State::LosesNextAnswer;
        }
        (*state == State::Silent).then_some(State::Silent)
    }

    /// Returns a state if the server's data must not be forwarded.
    fn sees_from_server(&self, connection: usize, bytes: &[u8]) -> Option<State> {
        let mut state = self.until_resumed(connection);
        // ReadyForQuery is the last message of each answer.
        if let [.., b'Z', 0, 0, 0, 5, end] = bytes {
            self.ends.lock().unwrap().push(*end);
        }
        match *state {
            State::Silent => Some(State::Silent),
            // The client waits for this answer and has sent nothing else, so these bytes are the answer to lose.
            State::LosesNextAnswer => Some(std::mem::replace(&mut *state, State::Sound)),
            _ => None,
        }
    }

    fn wait_until_sound(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| *state == State::Silent).unwrap());
    }
}

fn forward(client: TcpStream, server: Stream, network: &Arc<Network>) {
    client.set_nodelay(true).unwrap();
    let (client_2, server_2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (network, network_2) = (Arc::clone(network), Arc::clone(network));
    let number = network.connections.fetch_add(1, Ordering::Relaxed);
    thread::spawn(move || {
        let state = pump(&client, &server, |bytes| network.sees_from_client(number, bytes));
        close(&network, state, &client, &server);
    });
    thread::spawn(move || {
        let state = pump(&server_2, &client_2, |bytes| network_2.sees_from_server(number, bytes));
        close(&network_2, state, &client_2, &server_2);
    });
}

/// Forwards until either side ends, or until `look` returns a state. Returns that state.
fn pump(mut from: impl Read, mut to: impl Write, mut look: impl FnMut(&[u8]) -> Option<State>) -> State {
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer) else { return State::Sound };
        if let Some(state) = look(&buffer[..length]) {
            return state;
        }
        if to.write_all(&buffer[..length]).is_err() {
            return State::Sound;
        }
    }
}

fn close(network: &Network, state: State, client: &TcpStream, server: &Stream) {
    if state == State::Silent {
        network.wait_until_sound();
    }
    // Either side may be closed already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown();
}
