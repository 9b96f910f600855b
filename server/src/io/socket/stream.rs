//! Stream: what the protocol's bytes become on a connection's socket. Two layers lie over a socket, each of which may be missing: TLS,
//! and above it WebSocket, of which the first bytes are a request of HTTP. If that asks for something else, WebSocket is missing from then on.
//!
//! Output is gathered with the frames of WebSocket already in it, and is encrypted when it is flushed. The shard counts the protocol's
//! bytes, whatever they become.

use rim::{
    tls::{ServerTls, TlsFault},
    websocket::{Unframed, WebSocket, WebSocketFault},
};

use crate::{
    access::upgrade::{self, Pages, Step, Upgrade},
    config::Transport,
};

/// See the head of this file. Each layer in a box, so that a connection without it costs no more than a pointer.
#[derive(Debug, Default)]
pub struct Stream {
    tls: Option<Box<ServerTls>>,
    web: Option<Box<Web>>,
}

/// Where a connection is on its way to the frames of WebSocket.
#[derive(Debug)]
enum Web {
    /// The request is not whole.
    Asking(Upgrade),
    /// Nothing is said or heard any more: the request or the connection has been refused, or the end was not answered in time.
    Over,
    /// Its bytes come in frames.
    Open(WebSocket),
    /// They come in requests of long polling, which have been taken apart: as they are, from this process.
    Polled,
}

/// What an idle connection costs more by it: this, and nothing that grows. See [`WebSocket`].
const _: () = assert!(size_of::<Web>() <= 160);

/// How a peer has ended what it says, on one of the layers.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It has said that nothing more comes from it.
    Announced,
    /// Its TLS cannot be understood.
    Tls(TlsFault),
    /// Its frames cannot.
    WebSocket(WebSocketFault),
}

/// Why a request does not become a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoUpgrade {
    /// It is refused, and answered.
    Refused(upgrade::Refusal),
    /// It asks for something else: all that has come of it. From now on the stream has no WebSocket.
    Elsewhere(Vec<u8>),
}

/// What received bytes have changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The TLS handshake is done.
    pub opened: bool,
    /// There were frames of WebSocket, or parts of some, with nothing in them.
    pub idle: bool,
    /// Nothing more comes.
    pub end: Option<End>,
}

impl Stream {
    /// With TLS over the socket, or not, and WebSocket above that, or not.
    #[must_use]
    pub fn new(tls: Option<Box<ServerTls>>, speaks_websocket: bool) -> Self {
        Self { tls, web: speaks_websocket.then(|| Box::new(Web::Asking(Upgrade::new()))) }
    }

    /// Of a session of long polling: its socket is one of this process.
    #[must_use]
    pub fn polled() -> Self {
        Self { tls: None, web: Some(Box::new(Web::Polled)) }
    }

    /// Whether the protocol's bytes travel as they are.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.tls.is_none() && self.web.is_none()
    }

    /// What it is.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match (&self.tls, &self.web) {
            (None, None) => Transport::Plain,
            (Some(_), None) => Transport::Tls,
            (None, Some(_)) => Transport::WebSocket,
            (Some(_), Some(_)) => Transport::WebSocketTls,
        }
    }

    /// Whether it is TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it is WebSocket, or what stands for it.
    #[must_use]
    pub const fn is_websocket(&self) -> bool {
        self.web.is_some()
    }

    /// Whether the request of WebSocket is awaited.
    #[must_use]
    pub fn awaits_request(&self) -> bool {
        matches!(self.web.as_deref(), Some(Web::Asking(_)))
    }

    /// The TLS of the connection.
    pub fn tls(&mut self) -> Option<&mut ServerTls> {
        self.tls.as_deref_mut()
    }

    /// The connection goes on without TLS.
    pub(super) fn drop_tls(&mut self) {
        self.tls = None;
    }

    /// Whether the peer has said on one of the layers that nothing more comes from it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_half_closed())
            || matches!(self.web.as_deref(), Some(Web::Open(socket)) if socket.is_closed())
    }

    /// Takes received bytes, in any cut, and gives those of the protocol that they carry: where they lay, or in `plain`, if they were
    /// encrypted. Before the upgrade those of its request.
    pub fn receive<'a>(&mut self, bytes: &'a mut [u8], plain: &'a mut Vec<u8>) -> (&'a [u8], Heard) {
        let (bytes, mut heard) = match &mut self.tls {
            None => (bytes, Heard::default()),
            Some(tls) => {
                let heard = match tls.receive(bytes, plain) {
                    Ok(heard) => {
                        let end = heard.half_closed.then_some(End::Announced);
                        Heard { opened: heard.opened, end, ..Heard::default() }
                    }
                    Err(fault) => Heard { end: Some(End::Tls(fault)), ..Heard::default() },
                };
                (&mut plain[..], heard)
            }
        };
        match self.web.as_deref_mut() {
            None | Some(Web::Asking(_) | Web::Polled) => (bytes, heard),
            Some(Web::Over) => (&[], heard),
            Some(Web::Open(socket)) => {
                let Unframed { data, closed, fault } = socket.receive(bytes);
                heard.idle = data.is_empty() && !bytes.is_empty();
                if let Some(fault) = fault {
                    heard.end = heard.end.or(Some(End::WebSocket(fault)));
                } else if closed {
                    heard.end = heard.end.or(Some(End::Announced));
                }
                (&bytes[data], heard)
            }
        }
    }

    /// Takes bytes of the request of WebSocket, in any cut. Its answer, if there is one, is queued.
    pub(super) fn request(&mut self, bytes: &[u8], pages: Pages<'_>, queued: &mut Vec<u8>) -> Option<NoUpgrade> {
        let web = self.web.as_deref_mut()?;
        let Web::Asking(upgrade) = web else { return None };
        match upgrade.bytes(bytes, pages) {
            Step::More => None,
            Step::Upgraded(answer) => {
                queued.extend_from_slice(&answer);
                *web = Web::Open(WebSocket::new());
                None
            }
            Step::Refused(answer, refusal) => {
                queued.extend_from_slice(&answer);
                *web = Web::Over;
                Some(NoUpgrade::Refused(refusal))
            }
            Step::Elsewhere(bytes) => {
                self.web = None;
                Some(NoUpgrade::Elsewhere(bytes))
            }
        }
    }

    /// Queues bytes of the protocol.
    pub(super) fn put(&mut self, bytes: &[u8], queued: &mut Vec<u8>) {
        match self.web.as_deref_mut() {
            None | Some(Web::Polled) => queued.extend_from_slice(bytes),
            Some(Web::Open(socket)) => socket.put(bytes, queued),
            Some(web @ Web::Asking(_)) => {
                queued.extend_from_slice(&upgrade::instead_of(bytes));
                *web = Web::Over;
            }
            // What is said to it has been said.
            Some(Web::Over) => {}
        }
    }

    /// Whether the stream itself has bytes that wait to leave, beside what is queued for the connection.
    pub(super) fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_pending()) || self.has_pong()
    }

    /// Whether some of these bytes wait for no other output: those of a handshake, or the answer to a ping.
    pub(super) fn has_answer(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_pending() && !tls.is_open()) || self.has_pong()
    }

    fn has_pong(&self) -> bool {
        matches!(self.web.as_deref(), Some(Web::Open(socket)) if socket.has_pong())
    }

    /// What is queued is about to leave: gives that, and what waits with it, as it goes to the socket. Empty if TLS cannot say anything.
    /// `spare`: an empty buffer, if one is needed. Gives a buffer that can be used again, too.
    pub(super) fn seal(&mut self, mut queued: Vec<u8>, spare: impl FnOnce() -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        if let Some(Web::Open(socket)) = self.web.as_deref_mut() {
            socket.finish_frames(&mut queued);
        }
        match &mut self.tls {
            None => (queued, Vec::new()),
            Some(tls) => {
                let mut out = spare();
                tls.seal(&queued, &mut out);
                (out, queued)
            }
        }
    }

    /// Of the bytes that were sent last, the first `taken` have left. Gives how many bytes of the protocol that is.
    pub(super) fn left(&mut self, taken: usize) -> usize {
        let taken = self.tls.as_mut().map_or(taken, |tls| tls.left(taken));
        match self.web.as_deref_mut() {
            None | Some(Web::Polled) => taken,
            Some(Web::Open(socket)) => socket.left(taken),
            Some(Web::Asking(_) | Web::Over) => 0,
        }
    }

    /// Takes back what has not left of the bytes that were sent last: it leaves before what is queued. Gives a buffer that
    /// can be used again.
    pub(super) fn keep(&mut self, mut leftover: Vec<u8>, queued: &mut Vec<u8>) -> Vec<u8> {
        match &mut self.tls {
            None => {
                // A frame that has begun in what is queued ends there: it will stand elsewhere.
                if let Some(Web::Open(socket)) = self.web.as_deref_mut() {
                    socket.seal(queued);
                }
                leftover.append(queued);
                std::mem::replace(queued, leftover)
            }
            Some(tls) => {
                tls.keep(leftover);
                Vec::new()
            }
        }
    }

    /// Nothing of the protocol is queued after this: the stream puts its goodbye behind it, if it has one. That of TLS waits until that
    /// of WebSocket has been answered. Gives a buffer that can be used again.
    pub(super) fn finish(&mut self, queued: &mut Vec<u8>) -> Vec<u8> {
        if let Some(Web::Open(socket)) = self.web.as_deref_mut() {
            socket.close(queued);
        }
        let awaits_close = self.awaits_close();
        match &mut self.tls {
            Some(tls) if !awaits_close => {
                tls.finish(queued);
                std::mem::take(queued)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Whether the peer has been told that nothing more comes, and its answer is awaited before its end of the socket. From a peer whose
    /// TLS has ended or failed nothing can come.
    pub(super) fn awaits_close(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_open() && !tls.is_half_closed())
            && matches!(self.web.as_deref(), Some(Web::Open(socket)) if socket.awaits_close())
    }

    /// The answer of the peer has not come in time. Gives whether the goodbye of TLS waits to leave now.
    pub(super) fn give_up(&mut self) -> bool {
        self.web = self.web.take().map(|_| Box::new(Web::Over));
        self.tls.as_mut().is_some_and(|tls| {
            tls.finish(&[]);
            tls.has_pending()
        })
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::ErrorCode;

    use super::*;
    use crate::access::handshake::bye;

    /// A stream whose request has been answered.
    fn upgraded() -> Stream {
        Stream { tls: None, web: Some(Box::new(Web::Open(WebSocket::new()))) }
    }

    #[test]
    fn frames_with_nothing_in_them_are_told_of() {
        let mask = [0; 4];
        let ping = [&[0x89, 0x84][..], &mask, b"ping"].concat();
        let data = [&[0x82, 0x81][..], &mask, b"x"].concat();
        for (bytes, said, idle) in [
            (ping.clone(), &b""[..], true),
            ([ping, data.clone()].concat(), b"x", false),
            (data[..3].to_vec(), b"", true),
            (Vec::new(), b"", false),
        ] {
            let (mut bytes, mut plain) = (bytes, Vec::new());
            let mut stream = upgraded();
            let (found, heard) = stream.receive(&mut bytes, &mut plain);
            assert_eq!((found, heard), (said, Heard { idle, ..Heard::default() }));
        }
    }

    #[test]
    fn a_bye_before_the_request_is_one_answer_of_http_and_nothing_follows() {
        let mut stream = Stream::new(None, true);
        let mut queued = Vec::new();
        stream.put(&bye(ErrorCode::Stopping, 1_000, "the server is stopping"), &mut queued);
        let length = queued.len();
        assert!(queued.starts_with(b"HTTP/1.1 503 ") && queued.ends_with(b"stopping: the server is stopping\n"));
        stream.put(b"more", &mut queued);
        stream.finish(&mut queued);
        let pages = Pages { origins: &[], is_tls: false };
        assert_eq!(stream.request(b"GET", pages, &mut queued), None);
        assert!(queued.len() == length && !stream.awaits_close() && stream.left(length) == 0);
    }
}
