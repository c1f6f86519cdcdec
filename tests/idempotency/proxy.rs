//! A network between the service and PostgreSQL that fails at chosen moments.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::cluster;

/// Listens on a TCP port and forwards to the cluster's socket.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// The next COMMIT arrives, but its answer doesn't: the connection is cut instead.
    LosesNextCommitAnswer,
    /// A COMMIT is on its way, and its answer will be lost.
    LosesNextAnswer,
    /// Nothing arrives any more, and nobody is told.
    Silent,
}

struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network { state: Mutex::new(State::Sound), changed: Condvar::new() });
        let shared = Arc::clone(&network);
        // Ends with the process, as do the threads of its connections.
        thread::spawn(move || {
            for client in listener.incoming() {
                let server = UnixStream::connect(cluster().dir().join(".s.PGSQL.5432")).unwrap();
                forward(client.unwrap(), server, &shared);
            }
        });
        Self { port, network }
    }

    /// The URL of the same database behind this proxy. Unencrypted, or the proxy could not see a COMMIT.
    pub fn url(&self, direct: &str) -> String {
        let (_, database) = direct.rsplit_once('/').unwrap();
        format!("postgresql://payments@127.0.0.1:{}/{database}?sslmode=disable&gssencmode=disable", self.port)
    }

    /// Cuts the connection of the next COMMIT when PostgreSQL has answered it, before the answer arrives.
    pub fn lose_answer_of_next_commit(&self) {
        self.network.set(State::LosesNextCommitAnswer);
    }

    /// Drops what is sent from now on, in both directions, as when a host vanishes.
    pub fn go_silent(&self) {
        self.network.set(State::Silent);
    }

    /// The network is back; what was open when it went is reset.
    pub fn recover(&self) {
        self.network.set(State::Sound);
    }
}

impl Network {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    /// Whether a COMMIT of the client's is the one whose answer is to be lost.
    fn sees_from_client(&self, bytes: &[u8]) -> State {
        let mut state = self.state.lock().unwrap();
        if *state == State::LosesNextCommitAnswer && bytes.windows(7).any(|window| window == b"COMMIT\0") {
            *state = State::LosesNextAnswer;
        }
        *state
    }

    fn sees_from_server(&self) -> State {
        let mut state = self.state.lock().unwrap();
        // The client sends nothing else before it has its answer, so this is it.
        if *state == State::LosesNextAnswer { std::mem::replace(&mut *state, State::Sound) } else { *state }
    }

    fn wait_until_sound(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| *state == State::Silent).unwrap());
    }
}

fn forward(client: TcpStream, server: UnixStream, network: &Arc<Network>) {
    client.set_nodelay(true).unwrap();
    let (client_2, server_2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (network, network_2) = (Arc::clone(network), Arc::clone(network));
    thread::spawn(move || {
        let state = pump(&client, &server, |bytes| network.sees_from_client(bytes));
        close(&network, state, &client, &server);
    });
    thread::spawn(move || {
        let state = pump(&server_2, &client_2, |_| network_2.sees_from_server());
        close(&network_2, state, &client_2, &server_2);
    });
}

/// Forwards until either side ends, or until what arrived must not go on; then says why.
fn pump(mut from: impl Read, mut to: impl Write, mut look: impl FnMut(&[u8]) -> State) -> State {
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer) else { return State::Sound };
        let state = look(&buffer[..length]);
        let from_client_on_its_way = buffer[..length].ends_with(b"COMMIT\0");
        match state {
            State::Silent => return state,
            State::LosesNextAnswer if !from_client_on_its_way => return state,
            _ => {}
        }
        if to.write_all(&buffer[..length]).is_err() {
            return State::Sound;
        }
    }
}

fn close(network: &Network, state: State, client: &TcpStream, server: &UnixStream) {
    if state == State::Silent {
        network.wait_until_sound();
    }
    // Either may be closed already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
