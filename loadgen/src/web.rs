//! WebSocket on the links: the request, and then frames of bytes. The frames are the server's own `rim::websocket`, from the other end.

use rim::websocket::{ClientWebSocket, Opening, Unframed};

/// What carries the bytes of the protocol over a socket, or over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Nothing more.
    Bytes,
    /// Binary messages of WebSocket.
    WebSocket,
}

/// One end of a link that speaks WebSocket.
#[derive(Debug)]
pub enum Web {
    /// The upgrade is not answered: nothing else is said before.
    Asking {
        /// What is said first, until it is.
        request: Vec<u8>,
        /// What comes back.
        opening: Opening,
        /// Tells its masks apart from those of others.
        number: u32,
    },
    /// Bytes come in frames.
    Open(ClientWebSocket),
    /// The last has been said. What is queued leaves as it is, and nothing is heard any more.
    Over,
}

impl Web {
    /// Asks for the upgrade at this address.
    #[must_use]
    pub fn asking(address: &str, number: u32) -> Self {
        Self::Asking { request: Opening::request(address), opening: Opening::default(), number }
    }

    /// Whether something of it can leave.
    #[must_use]
    pub fn has_output(&self, queued: &[u8]) -> bool {
        match self {
            Self::Asking { request, .. } => !request.is_empty(),
            Self::Open(socket) => !queued.is_empty() || socket.has_pong(),
            Self::Over => !queued.is_empty(),
        }
    }

    /// Takes received bytes, and gives those of the protocol among them.
    ///
    /// # Errors
    /// The link is over, for this reason.
    pub fn receive<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a mut [u8], String> {
        let bytes = match self {
            Self::Asking { opening, number, .. } => match opening.answer(bytes).map_err(|fault| fault.to_string())? {
                None => return Ok(&mut []),
                Some(head) => {
                    *self = Self::Open(ClientWebSocket::of_client(*number));
                    &mut bytes[head..]
                }
            },
            Self::Open(_) => bytes,
            Self::Over => return Ok(&mut []),
        };
        let Self::Open(socket) = self else { return Ok(&mut []) };
        match socket.receive(bytes) {
            Unframed { fault: Some(fault), .. } => Err(format!("WebSocket: {fault}")),
            // The server's last words are behind it; then it ends the connection, which is told as any end is.
            Unframed { data, .. } => Ok(&mut bytes[data]),
        }
    }

    /// What is queued leaves now, as frames in `out`. What has to wait for the upgrade stays.
    pub fn seal(&mut self, queued: &mut Vec<u8>, out: &mut Vec<u8>) {
        match self {
            Self::Asking { request, .. } => out.append(request),
            Self::Open(socket) => {
                socket.put(queued, out);
                socket.finish_frames(out);
                queued.clear();
            }
            Self::Over => out.append(queued),
        }
    }

    /// Nothing follows what is queued: gives it as it leaves, with the goodbye behind it. Before the upgrade there is nobody to say it to.
    pub fn finish(&mut self, queued: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Self::Open(socket) = self {
            socket.put(&queued, &mut out);
            socket.close(&mut out);
        }
        *self = Self::Over;
        out
    }
}

#[cfg(test)]
mod tests {
    use rim::websocket::WebSocket;

    use super::*;

    /// What a server answers.
    fn upgraded() -> Vec<u8> {
        let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Sec-WebSocket-Protocol: ringpost.v1\r\n\r\n";
        head.as_bytes().to_vec()
    }

    #[test]
    fn what_is_written_before_the_upgrade_leaves_behind_it_and_the_end_is_said() {
        let mut web = Web::asking("127.0.0.1:7680", 5);
        let (mut queued, mut out) = (b"hello".to_vec(), Vec::new());
        assert!(web.has_output(&queued));
        web.seal(&mut queued, &mut out);
        assert!(out.starts_with(b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:7680\r\n") && queued == b"hello");
        assert!(!web.has_output(&queued), "it waits for the answer");
        let mut server = WebSocket::new();
        let mut said = upgraded();
        server.put(b"welcome", &mut said);
        server.finish_frames(&mut said);
        assert_eq!(web.receive(&mut said).unwrap(), b"welcome");
        let mut out = Vec::new();
        web.seal(&mut queued, &mut out);
        assert!(queued.is_empty() && !web.has_output(&queued));
        let last = web.finish(b"bye".to_vec());
        assert!(web.has_output(&last), "as it is, to the socket or TLS");
        out.extend(last);
        let Unframed { data, closed, fault } = server.receive(&mut out);
        assert_eq!((&out[data], closed, fault), (&b"hellobye"[..], true, None));
        assert_eq!(web.receive(&mut b"the server's answer".to_vec()).unwrap(), b"");
    }

    #[test]
    fn who_is_refused_is_told_why_and_says_no_goodbye() {
        let mut web = Web::asking("127.0.0.1:7680", 5);
        let mut answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\noverloaded: too much\n".to_vec();
        let words = web.receive(&mut answer).unwrap_err();
        assert_eq!(words, "there is no upgrade to WebSocket: 503 Service Unavailable: overloaded: too much");
        assert_eq!(Web::asking("127.0.0.1:7680", 5).finish(b"bye".to_vec()), b"");
    }
}
