//! WebSocket: one end of a WebSocket connection (RFC 6455) after its upgrade, as a function of bytes in both directions: the server's
//! end, or in `client.rs` that of a client. No socket, clock or thread in it; it may go from one core to another between any two calls.
//!
//! What the peer sends is unmasked where it lies, and given as a part of the same buffer: messages mean nothing here, the bytes of all
//! of them are one stream. What is sent gets its frame headers where it is gathered: room is left for one as a frame begins, and it is
//! written when the frame ends. So nothing is copied for the sake of frames, in either direction, but for short ones.
//!
//! Held are a header that is not whole, a control frame that is not whole, and a pong that has not left: below
//! [`WEBSOCKET_HELD_BYTES_MAX`]. An idle connection owns no buffer.

mod client;

use std::ops::Range;

use thiserror::Error;

pub use self::client::{Client, ClientWebSocket, Opening, OpeningFault};

use crate::limits::WEBSOCKET_HELD_BYTES_MAX;

/// The longest header of a client's frame: two bytes, eight of length, the mask.
const HEADER_BYTES_MAX: usize = 14;

/// Beside the length: a mask follows.
const MASKED: u8 = 0x80;

/// The longest payload of a control frame (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Room for the length of a frame that is sent, in its header: two bytes and two of length.
const LENGTH_BYTES: usize = 4;

/// The longest payload for whose length two bytes are enough.
const SENT_FRAME_BYTES_MAX: usize = u16::MAX as usize;

// What is held at a time: a control frame behind its header, and a pong.
const _: () = assert!(HEADER_BYTES_MAX + 2 * CONTROL_BYTES_MAX < WEBSOCKET_HELD_BYTES_MAX);

/// What a close frame says of the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The stream has ended as its own protocol ends streams.
    pub const NORMAL: Self = Self(1000);
    /// The peer has broken the protocol of WebSocket.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer has sent text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The peer has sent words that are not UTF-8.
    pub const NOT_UTF8: Self = Self(1007);

    /// Whether a close frame may carry it (RFC 6455, 7.4): those that are left out stand for what no frame says.
    const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Which end it is.
pub trait Side {
    /// Whether what comes is masked: what a client says is, and what a server says is not (RFC 6455, 5.1).
    const HEARS_MASKED: bool;
    /// Bytes of a mask in the header of what is sent.
    const MASK_BYTES: usize;

    /// Masks the payload of a frame that ends, and gives its mask.
    fn mask(&mut self, payload: &mut [u8]) -> [u8; 4];
}

/// The server's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server;

impl Side for Server {
    const HEARS_MASKED: bool = true;
    const MASK_BYTES: usize = 0;

    fn mask(&mut self, _payload: &mut [u8]) -> [u8; 4] {
        [0; 4]
    }
}

/// The server's end of a connection.
pub type WebSocket = Frames<Server>;

/// How a peer has broken the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WebSocketFault {
    /// Clients mask what they send (RFC 6455, 5.1).
    #[error("a frame that is not masked")]
    Unmasked,
    /// Servers do not.
    #[error("a frame of a server that is masked")]
    Masked,
    /// Bits that belong to extensions, of which there are none.
    #[error("a frame with reserved bits")]
    Reserved,
    /// A kind of frame that there is not.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// A text frame.
    #[error("a text frame; the protocol is carried by binary ones")]
    Text,
    /// A length that is not in its shortest form, or above 2^63.
    #[error("a length that is not in its shortest form, or too large")]
    Length,
    /// A control frame that is too long or in pieces.
    #[error("a control frame of more than {CONTROL_BYTES_MAX} bytes, or in pieces")]
    Control,
    /// A continuation of nothing, or a message that begins within another one.
    #[error("a continuation of no message, or a message within another one")]
    Order,
    /// A close frame of one byte, or with a code that no frame carries.
    #[error("a close frame with a code that there is not")]
    Close,
    /// A close frame whose words are no text.
    #[error("a close frame whose words are not UTF-8")]
    CloseWords,
}

impl WebSocketFault {
    /// What the peer is told.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::UNSUPPORTED,
            Self::CloseWords => CloseCode::NOT_UTF8,
            Self::Unmasked
            | Self::Masked
            | Self::Reserved
            | Self::Kind(_)
            | Self::Length
            | Self::Control
            | Self::Order
            | Self::Close => CloseCode::PROTOCOL,
        }
    }
}

/// What received bytes have brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unframed {
    /// Where in the buffer the payload of messages stands now.
    pub data: Range<usize>,
    /// The peer has said that nothing more comes from it, with this call.
    pub closed: bool,
    /// It has broken the protocol, with this call, behind that payload.
    pub fault: Option<WebSocketFault>,
}

/// One end of a WebSocket connection; see the head of this file.
#[derive(Debug, Default)]
pub struct Frames<S: Side> {
    side: S,
    at: At,
    /// A message has begun and not ended.
    in_message: bool,
    /// What has come of a control frame that is not whole.
    control: Vec<u8>,
    /// What the peer's last ping said, if it is to be answered still. Of several the last counts (RFC 6455, 5.5.3).
    pong: Option<Vec<u8>>,
    /// Where in what is queued a frame has begun that has not ended.
    frame: Option<usize>,
    /// Payload bytes of frames that have ended, less those that [`WebSocket::left`] has told of.
    unsent: usize,
    heard: Said,
    said: Said,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In a header, of which this much is there.
    Header { bytes: [u8; HEADER_BYTES_MAX], count: usize },
    /// In the payload of a frame of this kind, of which so much is to come. The mask begins with the byte for the next one.
    Payload { kind: Kind, left: u64, mask: [u8; 4] },
}

impl Default for At {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES_MAX], count: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

/// What one side has said of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    /// That nothing more comes, with this code.
    Close(CloseCode),
    /// What is no WebSocket.
    Nonsense(CloseCode),
}

impl WebSocket {
    /// Just upgraded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: Side> Frames<S> {
    /// Bytes that a frame's header is given room for.
    const ROOM_BYTES: usize = LENGTH_BYTES + S::MASK_BYTES;

    /// What stands beside the length.
    const MASKED: u8 = if S::MASK_BYTES > 0 { MASKED } else { 0 };

    /// Bytes of memory that are held for what is not whole or has not left.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.control.capacity() + self.pong.as_ref().map_or(0, Vec::capacity)
    }

    /// Whether the peer has said that nothing more comes from it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.heard, Said::Close(_))
    }

    /// Whether this end has said so, and the peer has not answered that.
    #[must_use]
    pub fn awaits_close(&self) -> bool {
        self.said != Said::Nothing && self.heard == Said::Nothing
    }

    /// Whether a pong waits to leave.
    #[must_use]
    pub fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Takes received bytes, in any cut. They are overwritten, and what messages carry is left among them. Nothing more comes of what
    /// follows a close or a fault.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Unframed {
        let mut found = Unframed::default();
        let mut next = 0;
        while next < bytes.len() && self.heard == Said::Nothing {
            match &mut self.at {
                At::Header { bytes: header, count } => {
                    // Usually all of it is there.
                    let there = if *count == 0 { &bytes[next..] } else { &bytes[next..=next] };
                    let taken = there.len().min(HEADER_BYTES_MAX - *count);
                    header[*count..*count + taken].copy_from_slice(&there[..taken]);
                    match header_of(&header[..*count + taken], self.in_message, S::HEARS_MASKED) {
                        Ok(None) => {
                            *count += taken;
                            next += taken;
                        }
                        Ok(Some(Header { kind, left, mask, is_last, bytes: whole })) => {
                            next += whole - *count;
                            if kind == Kind::Data {
                                self.in_message = !is_last;
                            }
                            self.at = At::Payload { kind, left, mask };
                            if left == 0 {
                                self.end_frame(kind, &mut found);
                            }
                        }
                        Err(fault) => self.fail(fault, &mut found),
                    }
                }
                At::Payload { kind, left, mask } => {
                    let part = (bytes.len() - next).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    if S::HEARS_MASKED {
                        unmask(&mut bytes[next..next + part], mask);
                    }
                    *left -= part as u64;
                    let (kind, is_whole) = (*kind, *left == 0);
                    if kind == Kind::Data {
                        keep(bytes, next..next + part, &mut found.data);
                    } else {
                        self.control.extend_from_slice(&bytes[next..next + part]);
                    }
                    next += part;
                    if is_whole {
                        self.end_frame(kind, &mut found);
                    }
                }
            }
        }
        found
    }

    fn end_frame(&mut self, kind: Kind, found: &mut Unframed) {
        self.at = At::default();
        let said = std::mem::take(&mut self.control);
        match kind {
            Kind::Data | Kind::Pong => {}
            // Nothing follows a close frame.
            Kind::Ping if self.said != Said::Nothing => {}
            Kind::Ping => self.pong = Some(said),
            Kind::Close => match close_code(&said) {
                Ok(code) => {
                    self.heard = Said::Close(code);
                    found.closed = true;
                }
                Err(fault) => self.fail(fault, found),
            },
        }
    }

    fn fail(&mut self, fault: WebSocketFault, found: &mut Unframed) {
        self.heard = Said::Nonsense(fault.code());
        self.control = Vec::new();
        found.fault = Some(fault);
    }

    /// Appends to what is queued, as the payload of binary messages.
    pub fn put(&mut self, mut bytes: &[u8], queued: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let begin = *self.frame.get_or_insert_with(|| {
                queued.resize(queued.len() + Self::ROOM_BYTES, 0);
                queued.len() - Self::ROOM_BYTES
            });
            let room = SENT_FRAME_BYTES_MAX - (queued.len() - begin - Self::ROOM_BYTES);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            queued.extend_from_slice(now);
            bytes = later;
            if now.len() == room {
                self.seal(queued);
            }
        }
    }

    /// What is queued may leave after this: the frame that has begun ends, and a pong is put behind it.
    pub fn finish_frames(&mut self, queued: &mut Vec<u8>) {
        self.seal(queued);
        let Some(pong) = self.pong.take() else { return };
        debug_assert_eq!(self.said, Said::Nothing, "who has said close keeps no pong");
        self.put_control(0x8a, &pong, queued);
    }

    /// A control frame.
    fn put_control(&mut self, first: u8, payload: &[u8], queued: &mut Vec<u8>) {
        queued.extend_from_slice(&[first, Self::MASKED | payload.len() as u8]);
        let begin = queued.len() + S::MASK_BYTES;
        queued.resize(begin, 0);
        queued.extend_from_slice(payload);
        let mask = self.side.mask(&mut queued[begin..]);
        queued[begin - S::MASK_BYTES..begin].copy_from_slice(&mask[..S::MASK_BYTES]);
    }

    /// Nothing is queued after this: a close frame is put behind it. It answers that of the peer, or tells what the peer did wrong.
    pub fn close(&mut self, queued: &mut Vec<u8>) {
        self.finish_frames(queued);
        if self.said == Said::Nothing {
            let code = match self.heard {
                Said::Nothing => CloseCode::NORMAL,
                Said::Close(code) | Said::Nonsense(code) => code,
            };
            self.said = Said::Close(code);
            self.put_control(0x88, &code.0.to_be_bytes(), queued);
        }
    }

    /// Of the bytes that were sent last, the first `taken` have left. Gives how much payload that is, not more than there was; all of it
    /// when all have left.
    pub fn left(&mut self, taken: usize) -> usize {
        let payload = taken.min(self.unsent);
        self.unsent -= payload;
        payload
    }

    /// The frame that has begun in what is queued ends: its header is written.
    pub fn seal(&mut self, queued: &mut Vec<u8>) {
        let Some(begin) = self.frame.take() else { return };
        let payload = queued.len() - begin - Self::ROOM_BYTES;
        self.unsent += payload;
        let mask = self.side.mask(&mut queued[begin + Self::ROOM_BYTES..]);
        queued[begin + LENGTH_BYTES..begin + Self::ROOM_BYTES].copy_from_slice(&mask[..S::MASK_BYTES]);
        queued[begin] = 0x82;
        if payload <= CONTROL_BYTES_MAX {
            // Two bytes are enough, and the shortest form must be taken.
            queued[begin + 1] = Self::MASKED | payload as u8;
            queued.copy_within(begin + LENGTH_BYTES.., begin + 2);
            queued.truncate(queued.len() - (LENGTH_BYTES - 2));
        } else {
            queued[begin + 1] = Self::MASKED | 126;
            queued[begin + 2..begin + LENGTH_BYTES].copy_from_slice(&(payload as u16).to_be_bytes());
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
struct Header {
    kind: Kind,
    /// Bytes of the payload, none of which has come.
    left: u64,
    mask: [u8; 4],
    /// The last frame of its message.
    is_last: bool,
    /// Bytes of the header itself.
    bytes: usize,
}

/// The header of a frame that begins like this; none while it is not whole. What is wrong is said as soon as it is known.
fn header_of(bytes: &[u8], in_message: bool, hears_masked: bool) -> Result<Option<Header>, WebSocketFault> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (is_last, kind) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return Err(WebSocketFault::Reserved);
    }
    let (short, is_masked) = (second & !MASKED, second & MASKED != 0);
    let kind = match kind {
        0 | 2 if in_message != (kind == 0) => return Err(WebSocketFault::Order),
        0 | 2 => Kind::Data,
        1 => return Err(WebSocketFault::Text),
        8..=10 if !is_last || usize::from(short) > CONTROL_BYTES_MAX => return Err(WebSocketFault::Control),
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        kind => return Err(WebSocketFault::Kind(kind)),
    };
    if is_masked != hears_masked {
        return Err(if is_masked { WebSocketFault::Masked } else { WebSocketFault::Unmasked });
    }
    let (length, mask) = match short {
        126 => {
            let Some((length, mask)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            ((126..).contains(&length).then_some(length), mask)
        }
        127 => {
            let Some((length, mask)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            ((1 << 16..1 << 63).contains(&length).then_some(length), mask)
        }
        short => (Some(u64::from(short)), rest),
    };
    let left = length.ok_or(WebSocketFault::Length)?;
    let (mask, behind) = match mask.split_first_chunk() {
        _ if !is_masked => (&[0; 4], mask),
        Some(split) => split,
        None => return Ok(None),
    };
    Ok(Some(Header { kind, left, mask: *mask, is_last, bytes: bytes.len() - behind.len() }))
}

/// The code of a close frame; without one it is as if it said [`CloseCode::NORMAL`].
fn close_code(said: &[u8]) -> Result<CloseCode, WebSocketFault> {
    let Some((code, words)) = said.split_first_chunk() else {
        return if said.is_empty() { Ok(CloseCode::NORMAL) } else { Err(WebSocketFault::Close) };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    match std::str::from_utf8(words) {
        _ if !code.is_sendable() => Err(WebSocketFault::Close),
        Ok(_) => Ok(code),
        Err(_) => Err(WebSocketFault::CloseWords),
    }
}

/// Puts a part of a buffer behind what is kept of it. The first part stays where it is.
fn keep(bytes: &mut [u8], part: Range<usize>, kept: &mut Range<usize>) {
    if kept.start == kept.end {
        *kept = part;
        return;
    }
    let count = part.len();
    bytes.copy_within(part, kept.end);
    kept.end += count;
}

/// Takes a mask off, eight bytes at a time, and turns it to where the next byte stands.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(*mask)) * 0x0000_0001_0000_0001;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests;
