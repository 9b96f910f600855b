//! Cutting a byte stream into frames (SPEC 2.1): a varint length, then that many bytes of kind and body.
//!
//! Owns the incomplete tail between two reads and nothing else. A length over the limit is refused before anything is
//! allocated; a stream that ends inside a frame is not an error.

use std::ops::ControlFlow;

use thiserror::Error;

use crate::{
    code::ErrorCode,
    wire::{Prefix, peek_varint},
};

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

impl FramingError {
    /// What a server says in its bye.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Length | Self::Empty => ErrorCode::Malformed,
            Self::TooLong { .. } => ErrorCode::FrameTooLarge,
        }
    }
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

    /// The kind of the incomplete frame, as soon as it has come.
    #[must_use]
    pub fn held_kind(&self) -> Option<u8> {
        match peek_varint(&self.tail) {
            Prefix::Whole(_, prefix) => self.tail.get(prefix).copied(),
            Prefix::Incomplete | Prefix::Invalid => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames of kind 1 with the bodies `a` and `bc`.
    const TWO: [u8; 7] = [2, 1, b'a', 3, 1, b'b', b'c'];

    fn bodies(decoder: &mut Decoder, input: &[u8]) -> (Vec<Vec<u8>>, Result<(), FramingError>) {
        let mut bodies = Vec::new();
        let outcome = decoder.decode(input, |frame| {
            bodies.push(frame.body.to_vec());
            ControlFlow::Continue(())
        });
        (bodies, outcome)
    }

    #[test]
    fn one_read_hands_out_every_whole_frame_and_holds_the_rest() {
        let mut decoder = Decoder::new(3);
        assert_eq!(bodies(&mut decoder, &TWO[..6]), (vec![b"a".to_vec()], Ok(())));
        assert_eq!(decoder.held_bytes(), 3);
        assert_eq!(bodies(&mut decoder, &TWO[6..]), (vec![b"bc".to_vec()], Ok(())));
    }

    #[test]
    fn the_kind_of_a_frame_is_known_before_the_frame_is_whole() {
        let mut decoder = Decoder::new(3);
        assert_eq!(bodies(&mut decoder, &TWO[..4]), (vec![b"a".to_vec()], Ok(())));
        assert_eq!(decoder.held_kind(), None);
        assert_eq!(bodies(&mut decoder, &TWO[4..5]), (vec![], Ok(())));
        assert_eq!(decoder.held_kind(), Some(1));
    }

    #[test]
    fn a_decoder_between_frames_owns_no_buffer() {
        let mut decoder = Decoder::new(3);
        assert_eq!(bodies(&mut decoder, &TWO[..1]).1, Ok(()));
        assert_eq!(bodies(&mut decoder, &TWO[1..]).1, Ok(()));
        assert_eq!((decoder.held_bytes(), decoder.tail.capacity()), (0, 0));
    }

    #[test]
    fn frames_before_a_fault_are_handed_out() {
        let mut decoder = Decoder::new(3);
        assert_eq!(bodies(&mut decoder, &[2, 1, b'a', 0]), (vec![b"a".to_vec()], Err(FramingError::Empty)));
    }

    #[test]
    fn a_length_that_comes_in_two_pieces_is_checked_when_it_is_whole() {
        let mut decoder = Decoder::new(127);
        assert_eq!(bodies(&mut decoder, &[0x80]), (vec![], Ok(())));
        assert_eq!(bodies(&mut decoder, &[0x01]), (vec![], Err(FramingError::TooLong { size: 128, max: 127 })));
    }

    #[test]
    fn nothing_is_handed_out_after_a_break() {
        let mut frames = 0;
        let outcome = Decoder::new(3).decode(&TWO, |_| {
            frames += 1;
            ControlFlow::Break(())
        });
        assert_eq!((frames, outcome), (1, Ok(())));
    }

    #[test]
    fn the_longest_frame_is_taken_and_one_byte_more_is_not() {
        assert_eq!(bodies(&mut Decoder::new(3), &TWO[3..]).1, Ok(()));
        assert_eq!(bodies(&mut Decoder::new(2), &TWO[3..]).1, Err(FramingError::TooLong { size: 3, max: 2 }));
    }
}
