//! Ignores a client's offer of another protocol. The client gets its answer in HTTP/1.1, and the connection stays open.
//!
//! Guarantees: the server ignores `Connection: Upgrade` with `Upgrade: h2c`. RFC 9110 section 7.8 allows this. Java's client
//! sends both headers by default. The module changes no body that this API accepts.
//!
//! Without this module, actix closes the connection after a request with an offer. If the client offers a websocket, actix reads
//! the body until the connection ends. actix decides this while it parses, so no middleware can change it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONNECTION: &[u8] = b"connection:";
const UPGRADE: &[u8] = b"upgrade";

/// A client's connection without offers.
///
/// On purpose: each read changes `upgrade` into `upgradx`, at the start of a line, and at the start of a word in a line
/// `Connection:`, so that actix sees a header that it does not know. `Upgrade-Insecure-Requests` changes too, and nobody reads it
/// here. The lengths stay the same. A JSON body never has such a line: JSON has no bare word `upgrade`, and no string with a bare
/// line feed.
#[derive(Debug)]
pub(super) struct WithoutOffers {
    io: TcpStream,
    place: Place,
}

impl WithoutOffers {
    pub(super) fn new(io: TcpStream) -> Self {
        Self { io, place: Place::LINE_START }
    }
}

impl AsyncRead for WithoutOffers {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.place.misspell(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for WithoutOffers {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// The place of the stream in a line. A read may end anywhere in a line.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// How many bytes of `connection:` begin the line. `None`: the line begins with other bytes.
    name: Option<usize>,
    /// How many bytes of `upgrade` begin the present word. `None`: the word begins with other bytes.
    word: Option<usize>,
}

impl Place {
    const LINE_START: Self = Self { name: Some(0), word: Some(0) };

    fn misspell(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let in_connection = self.name == Some(CONNECTION.len());
            match *byte {
                b'\n' => *self = Self::LINE_START,
                b',' | b' ' | b'\t' if in_connection => self.word = Some(0),
                _ => {
                    self.word = longer(self.word, UPGRADE, *byte);
                    if self.word == Some(UPGRADE.len()) {
                        *byte = b'x';
                    }
                    if !in_connection {
                        self.name = longer(self.name, CONNECTION, *byte);
                        if self.name == Some(CONNECTION.len()) {
                            self.word = Some(0);
                        }
                    }
                }
            }
        }
    }
}

/// The length of the match with one more byte, if the byte continues the match.
fn longer(matched: Option<usize>, text: &[u8], byte: u8) -> Option<usize> {
    matched.filter(|at| text.get(*at) == Some(&byte.to_ascii_lowercase())).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_two(text: &str, at: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let mut place = Place::LINE_START;
        let (first, second) = bytes.split_at_mut(at);
        place.misspell(first);
        place.misspell(second);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_offer_is_misspelt_wherever_the_reads_divide_it() {
        let offer = "POST / HTTP/1.1\r\nConnection: keep-alive, Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nconnection:upgrade\r\n\r\n";
        let wanted = "POST / HTTP/1.1\r\nConnection: keep-alive, Upgradx, HTTP2-Settings\r\nUPGRADx: h2c\r\nconnection:upgradx\r\n\r\n";
        for at in 0..=offer.len() {
            assert_eq!(read_in_two(offer, at), wanted, "divided at {at}");
        }
    }

    #[test]
    fn other_headers_and_json_stay_as_they_are() {
        let request = "POST /upgrade HTTP/1.1\r\nConnection: keep-alive\r\nX-Upgrade: upgrade\r\nKey: upgrade, connection: upgrade\r\n\r\n\
                       {\n\"upgrade\": \"connection: upgrade\",\n \"connection\": \"upgrade, upgrade\"\n}";
        for at in 0..=request.len() {
            assert_eq!(read_in_two(request, at), request, "divided at {at}");
        }
    }
}
