//! Cutting a byte stream into frames (SPEC 2.1): a varint length, then that many bytes of kind and body.
//!
//! Owns the incomplete tail between two reads and nothing else. A length over the limit is refused before anything is
//! allocated; a stream that ends inside a frame is not an error.

use std::ops::ControlFlow;

use thiserror::Error;

use crate::wire::{Prefix, peek_varint};

/// A frame as it stands in the stream: its kind and its undecoded body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// The first byte after the length.
    pub kind: u8,
    /// Everything after the kind.
    pub body: &'a [u8],
}

/// Why a stream can not be cut any further. After one of these the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The length prefix is not a canonical varint.
    #[error("the length prefix of a frame is not a canonical varint")]
    Length,
    /// The peer announced more than the receiver takes.
    #[error("a frame of {size} bytes was announced, at most {max} are taken")]
    TooLong {
        /// Bytes announced.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// A length of zero leaves no room for the kind.
    #[error("a frame of length zero has no kind")]
    Empty,
}

/// What stands at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A whole frame.
    Frame {
        /// The frame.
        frame: RawFrame<'a>,
        /// Bytes of the buffer that it fills, its length prefix included.
        taken: usize,
    },
    /// The start of a frame, or nothing.
    Incomplete,
}

/// Looks at the front of a buffer without taking anything: for a reader of one frame, who must leave the rest alone.
///
/// # Errors
/// No frame of at most `frame_bytes_max` bytes can begin like this.
pub fn cut(buf: &[u8], frame_bytes_max: usize) -> Result<Cut<'_>, FramingError> {
    let (size, prefix) = match peek_varint(buf) {
        Prefix::Whole(size, prefix) => (size, prefix),
        Prefix::Incomplete => return Ok(Cut::Incomplete),
        Prefix::Invalid => return Err(FramingError::Length),
    };
    if size == 0 {
        return Err(FramingError::Empty);
    }
    if size > frame_bytes_max as u64 {
        return Err(FramingError::TooLong { size, max: frame_bytes_max as u64 });
    }
    let taken = prefix + size as usize;
    match buf.get(prefix..taken) {
        Some([kind, body @ ..]) => Ok(Cut::Frame { frame: RawFrame { kind: *kind, body }, taken }),
        _ => Ok(Cut::Incomplete),
    }
}

/// Turns bytes in any cut into frames. Holds at most one incomplete frame: `tail.len() < frame_bytes_max + 10`.
#[derive(Clone, Debug)]
pub struct Decoder {
    tail: Vec<u8>,
    frame_bytes_max: u32,
}

impl Decoder {
    /// A decoder at the start of a stream whose frames have at most `frame_bytes_max` bytes after their length.
    #[must_use]
    pub const fn new(frame_bytes_max: u32) -> Self {
        Self { tail: Vec::new(), frame_bytes_max }
    }

    /// Bytes of an incomplete frame that are held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tail.len()
    }

    /// Takes the next bytes of the stream and calls `on_frame` for each frame that they complete, in order. When
    /// `on_frame` breaks, the rest of `input` is dropped: the caller is closing the connection.
    ///
    /// # Errors
    /// The stream can not be cut further; frames before the fault have been handed out.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut on_frame: impl FnMut(RawFrame<'_>) -> ControlFlow<()>,
    ) -> Result<(), FramingError> {
        let max = self.frame_bytes_max as usize;
        let mut rest = input;
        // First complete the frame whose start is held, copying no more than it needs.
        while !self.tail.is_empty() {
            match cut(&self.tail, max)? {
                Cut::Frame { frame, .. } => {
                    let flow = on_frame(frame);
                    // Idle connections own no buffer.
                    self.tail = Vec::new();
                    if flow.is_break() {
                        return Ok(());
                    }
                }
                Cut::Incomplete if rest.is_empty() => return Ok(()),
                Cut::Incomplete => {
                    let wanted = missing(&self.tail, max).min(rest.len());
                    self.tail.extend_from_slice(&rest[..wanted]);
                    rest = &rest[wanted..];
                }
            }
        }
        loop {
            match cut(rest, max)? {
                Cut::Frame { frame, taken } => {
                    if on_frame(frame).is_break() {
                        return Ok(());
                    }
                    rest = &rest[taken..];
                }
                Cut::Incomplete => {
                    self.tail = rest.to_vec();
                    return Ok(());
                }
            }
        }
    }
}

/// How many more bytes make the held frame whole, as far as its start tells; at least 1.
fn missing(tail: &[u8], frame_bytes_max: usize) -> usize {
    match peek_varint(tail) {
        Prefix::Whole(size, prefix) => {
            debug_assert!(size <= frame_bytes_max as u64, "checked by cut()");
            (prefix + size as usize).saturating_sub(tail.len()).max(1)
        }
        Prefix::Incomplete | Prefix::Invalid => 1,
    }
}
