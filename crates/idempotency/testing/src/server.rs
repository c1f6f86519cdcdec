// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server that the tests of this process use.
//!
//! `DATABASE_URL` names it: a server on which the tests may create databases. In the repository where these crates are
//! developed, Cargo sets `TEST_CLUSTER` to a program that starts a server for each test process (`.cargo/config.toml`).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

static SERVER: OnceLock<Server> = OnceLock::new();

/// A server, by the parts of its URL.
pub(crate) struct Server {
    /// `user:password@`, or nothing.
    user: String,
    /// A name, an address, or the directory of a socket.
    host: String,
    port: u16,
    /// The existing database.
    database: String,
    parameters: Vec<String>,
    /// The server of this process. It stops when its standard input is closed, so a crash of this process stops it too.
    _own: Option<Child>,
}

/// Makes the tests use this server. Only the first call counts.
pub fn serve_from(url: &str) {
    SERVER.get_or_init(|| Server::at(url, None));
}

/// The server of this process.
pub(crate) fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        if let Some(program) = std::env::var_os("TEST_CLUSTER") {
            return Server::started_by(&program);
        }
        let Ok(url) = std::env::var("DATABASE_URL") else {
            panic!("DATABASE_URL must name a PostgreSQL server on which the tests may make databases")
        };
        Server::at(&url, None)
    })
}

impl Server {
    fn started_by(program: &OsStr) -> Self {
        let mut command = Command::new(program);
        command.args(["sh", "-c", "echo \"$CLUSTER_URL\"; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut own = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(own.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self::at(url.trim_end(), Some(own))
    }

    fn at(url: &str, own: Option<Child>) -> Self {
        let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
        let rest = rest.unwrap_or_else(|| panic!("DATABASE_URL must begin with postgresql://"));
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, "postgres"));
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, host) = authority.split_at(at);
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
        let mut server = Self {
            user: user.to_owned(),
            host: host.to_owned(),
            port: port.parse().unwrap(),
            database: database.to_owned(),
            parameters: Vec::new(),
            _own: own,
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("host", host)) => host.clone_into(&mut server.host),
                Some(("port", port)) => server.port = port.parse().unwrap(),
                _ => server.parameters.push(parameter.to_owned()),
            }
        }
        server.host = match server.host.as_str() {
            "" => "localhost".to_owned(),
            host => host.replace("%2F", "/").replace("%2f", "/"),
        };
        server
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        let host = self.host.replace('/', "%2F");
        format!("postgresql://{}{host}:{}/{database}?{}", self.user, self.port, self.parameters.join("&"))
    }

    /// The URL of the existing database.
    pub(crate) fn own_url(&self) -> String {
        self.url(&self.database)
    }

    /// The URL of the same database through a port of this machine, without encryption.
    pub(crate) fn through(url: &str, port: u16) -> String {
        let Self { user, database, mut parameters, .. } = Self::at(url, None);
        parameters.retain(|parameter| !parameter.starts_with("sslmode="));
        parameters.extend(["sslmode=disable".to_owned(), "gssencmode=disable".to_owned()]);
        format!("postgresql://{user}127.0.0.1:{port}/{database}?{}", parameters.join("&"))
    }

    pub(crate) fn dial(&self) -> Stream {
        if self.host.starts_with('/') {
            Stream::Unix(UnixStream::connect(format!("{}/.s.PGSQL.{}", self.host, self.port)).unwrap())
        } else {
            Stream::Tcp(TcpStream::connect((self.host.as_str(), self.port)).unwrap())
        }
    }
}

/// A connection to the server.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    pub(crate) fn shutdown(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        let vectors = [
            ("postgresql://payments@%2Ftmp%2Fx:5432/postgres", "postgresql://payments@%2Ftmp%2Fx:5432/t?"),
            ("postgresql://ci@/postgres?host=/tmp/x&port=5433", "postgresql://ci@%2Ftmp%2Fx:5433/t?"),
            ("postgres://a:b%40@db/x?sslmode=require", "postgresql://a:b%40@db:5432/t?sslmode=require"),
            ("postgresql:///x", "postgresql://localhost:5432/t?"),
        ];
        for (url, of_a_database) in vectors {
            assert_eq!(Server::at(url, None).url("t"), of_a_database, "{url}");
        }
        let through = Server::through(vectors[2].0, 7);
        assert_eq!(through, "postgresql://a:b%40@127.0.0.1:7/x?sslmode=disable&gssencmode=disable");
    }
}
