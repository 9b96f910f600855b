//! The client's end: how it asks for the upgrade, and how it masks.
//!
//! It is for programs that put load on a server. A mask keeps a page's script from choosing the bytes that a proxy on the way sees; there
//! is no page here, so masks are only spread, and the key of the request is the one of the RFC's example.

use proto_spec::{WEBSOCKET_PATH, WEBSOCKET_PROTOCOL};
use thiserror::Error;

use super::{Frames, Side, unmask};
use crate::limits::WEBSOCKET_ANSWER_BYTES_MAX;

/// The key of the example in RFC 6455, 1.3, and what it is answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPTED: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How an answer begins.
const BEGIN: &str = "HTTP/1.1 ";

/// How its head ends.
const END: &[u8] = b"\r\n\r\n";

/// The client's end. Its masks follow from the number with which it begins.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    next_mask: u32,
}

/// The client's end of a connection.
pub type ClientWebSocket = Frames<Client>;

impl ClientWebSocket {
    /// Just upgraded. Connections with different numbers have different masks.
    #[must_use]
    pub fn of_client(number: u32) -> Self {
        Self {
            side: Client { next_mask: number | 1 },
            at: Default::default(),
            in_message: false,
            control: Vec::new(),
            pong: None,
            frame: None,
            unsent: 0,
            heard: Default::default(),
            said: Default::default(),
        }
    }
}

impl Side for Client {
    const HEARS_MASKED: bool = false;
    const MASK_BYTES: usize = 4;

    fn mask(&mut self, payload: &mut [u8]) -> [u8; 4] {
        // Xorshift, which comes by every number but zero.
        self.next_mask ^= self.next_mask << 13;
        self.next_mask ^= self.next_mask >> 17;
        self.next_mask ^= self.next_mask << 5;
        let mask = self.next_mask.to_ne_bytes();
        unmask(payload, &mut mask.clone());
        mask
    }
}

/// A connection that asks for the upgrade. Holds a part of the answer: at most [`WEBSOCKET_ANSWER_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Opening {
    held: Vec<u8>,
}

/// Why there is no upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpeningFault {
    /// The answer has another status than 101.
    #[error("there is no upgrade to WebSocket: {0}")]
    Refused(String),
    /// The answer is none to this request.
    #[error("who answers does not speak WebSocket with the protocol {WEBSOCKET_PROTOCOL}")]
    Foreign,
    /// The answer does not end.
    #[error("the head of the answer has more than {WEBSOCKET_ANSWER_BYTES_MAX} bytes")]
    TooLong,
}

impl Opening {
    /// What is said first, to who is called so: `host:port`.
    #[must_use]
    pub fn request(host: &str) -> Vec<u8> {
        format!(
            "GET {WEBSOCKET_PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {WEBSOCKET_PROTOCOL}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Takes received bytes, in any cut. Once the answer is whole: how many of these bytes are of it; what follows is frames.
    ///
    /// # Errors
    /// There is no upgrade, and nothing more comes of this.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<Option<usize>, OpeningFault> {
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        if self.held.iter().zip(BEGIN.as_bytes()).any(|(byte, wanted)| byte != wanted) {
            return Err(OpeningFault::Foreign);
        }
        let Some(end) = self.held.windows(END.len()).position(|window| window == END) else {
            return if self.held.len() > WEBSOCKET_ANSWER_BYTES_MAX { Err(OpeningFault::TooLong) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&self.held[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().strip_prefix(BEGIN).ok_or(OpeningFault::Foreign)?;
        if !status.starts_with("101 ") {
            // Behind the head a line says why, if it came along.
            let why = String::from_utf8_lossy(&self.held[end + END.len()..]);
            return Err(OpeningFault::Refused(format!("{status}: {}", why.trim_end())));
        }
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let has = |name: &str, wanted: &str| {
            let mut named = headers.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name));
            named.any(|(_, value)| value.trim() == wanted)
        };
        if !has("sec-websocket-accept", ACCEPTED) || !has("sec-websocket-protocol", WEBSOCKET_PROTOCOL) {
            return Err(OpeningFault::Foreign);
        }
        self.held = Vec::new();
        Ok(Some(end + END.len() - before))
    }
}
