//! What a message of a run carries. A text begins with a label of [`LABEL_BYTES`] bytes that names the run, the stream and the
//! message's place in it, and is filled up to its length with bytes that follow from these; so it need not be kept to be sent again, and
//! what earlier runs left in a log can be told apart. The lines of a trace are sent as they are.

use std::sync::Arc;

use proto_spec::{Body, Content, MessageName, Reply, limits::TEXT_BYTES_MAX};

use super::StreamId;
use crate::draw::mix;

/// Bytes of a label: the shortest text.
pub const LABEL_BYTES: usize = 15;

/// Runs are told apart by this many bits.
pub const RUN_BITS: u32 = 24;
/// Bits of a stream, and of an index.
const FIELD_BITS: u32 = 30;

/// Messages of one stream: what the label has room for.
pub const INDEX_MAX: u64 = (1 << FIELD_BITS) - 1;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const FILLER: &str = "the quick brown fox jumps over the lazy dog and then has a rest. ";

/// How the text of a message is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// A label and filler, this many bytes together.
    Made(u32),
    /// This line of the run's trace.
    Line(u32),
}

impl Text {
    /// Appends it: of the message with this label, or out of the trace.
    pub fn write(self, label: &Label, lines: Option<&Lines>, out: &mut String) {
        match (self, lines) {
            (Self::Made(bytes), _) => label.write(bytes as usize, out),
            (Self::Line(line), Some(lines)) => out.push_str(&lines[line as usize]),
            (Self::Line(_), None) => debug_assert!(false, "lines are of a trace"),
        }
    }
}

/// What a message says, as it can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its text.
    pub text: Text,
    /// What it answers, if it does.
    pub answers: Option<Box<Answered>>,
}

/// A message that another one answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its name.
    pub name: MessageName,
    /// Of which stream.
    pub stream: StreamId,
    /// Which of its messages.
    pub index: u64,
    /// Its text.
    pub text: Text,
}

impl Written {
    /// A text that answers nothing.
    #[must_use]
    pub const fn text(text: Text) -> Self {
        Self { text, answers: None }
    }
}

/// Room for what an answer or an edit has beside its text, in bytes.
pub const BESIDE_BYTES: usize = 128;

/// As much of a message as an answer quotes, in bytes: enough for a label.
pub const QUOTE_BYTES: usize = 40;

/// The first `bytes` of a text, or less: up to the end of a character.
#[must_use]
pub fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

/// A text that answers a message, of which it quotes the beginning.
#[must_use]
pub fn answer(to: MessageName, answered: &str, text: &str) -> Content {
    let text = beginning(text, TEXT_BYTES_MAX - BESIDE_BYTES);
    Content::reply(&Reply { to, quote: beginning(answered, QUOTE_BYTES), text })
}

/// Makes a text that of its edit `number`.
pub fn edit_text(text: &mut String, number: usize) {
    text.truncate(beginning(text, TEXT_BYTES_MAX - BESIDE_BYTES).len());
    text.push_str(&format!(" (edit {number})"));
}

/// The text of a message, whatever its kind; empty if it has none.
#[must_use]
pub fn text_of(content: &Content) -> &[u8] {
    match content {
        Content::Text(text) => text,
        Content::Reply(_) => match content.body() {
            Ok(Body::Reply(reply)) => reply.text.as_bytes(),
            _ => &[],
        },
        _ => &[],
    }
}

/// One message as its text tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Of the run: [`RUN_BITS`] bits.
    pub run: u32,
    /// Of the run: 30 bits.
    pub stream: StreamId,
    /// 0, 1, 2, ... among the messages of one stream: 30 bits.
    pub index: u64,
}

impl Label {
    /// Appends a text of `bytes` bytes, but at least the label.
    pub fn write(&self, bytes: usize, out: &mut String) {
        let start = out.len();
        put(out, self.run.into(), RUN_BITS);
        put(out, self.stream.0.into(), FIELD_BITS);
        put(out, self.index, FIELD_BITS);
        out.push('.');
        while out.len() - start < bytes {
            let missing = bytes - (out.len() - start);
            out.push_str(&FILLER[..missing.min(FILLER.len())]);
        }
    }

    /// The label of a text, if it has one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let label = text.get(..LABEL_BYTES)?;
        if label[LABEL_BYTES - 1] != b'.' {
            return None;
        }
        let (run, stream, index) = (get(&label[..4])?, get(&label[4..9])?, get(&label[9..14])?);
        Some(Self { run: run as u32, stream: StreamId(stream as u32), index })
    }
}

fn put(out: &mut String, value: u64, bits: u32) {
    debug_assert!(value < 1 << bits, "a field of a label has {bits} bits, not {value}");
    for at in (0..bits / 6).rev() {
        out.push(char::from(DIGITS[(value >> (6 * at)) as usize & 63]));
    }
}

fn get(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(value << 6 | u64::from(digit))
    })
}

/// The texts of a trace, by line.
pub type Lines = Arc<Vec<Box<str>>>;

/// A fingerprint of a text: that what arrived is what was sent.
#[must_use]
pub fn fingerprint(text: &[u8]) -> u32 {
    let (chunks, rest) = text.as_chunks::<8>();
    let mut sum = text.len() as u64;
    for chunk in chunks {
        // A multiplication and a rotation for eight bytes: order and every bit count, and no attacker writes these texts.
        sum = (sum ^ u64::from_le_bytes(*chunk)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    for byte in rest {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    (mix(sum) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_survive_the_text_and_fit_the_shortest() {
        let largest = Label { run: (1 << RUN_BITS) - 1, stream: StreamId((1 << FIELD_BITS) - 1), index: INDEX_MAX };
        for label in [largest, Label { run: 0, stream: StreamId(0), index: 0 }] {
            for bytes in [LABEL_BYTES, LABEL_BYTES + 1, 100, 5_000] {
                let mut text = String::new();
                label.write(bytes, &mut text);
                assert_eq!((text.len(), Label::parse(text.as_bytes())), (bytes, Some(label)));
            }
        }
    }

    #[test]
    fn what_people_write_has_no_label() {
        for text in ["", "hello there", "hello there. It is a long text", "0000000000000.", "00000000000ü00."] {
            assert_eq!(Label::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_changes_with_every_byte_and_with_their_order() {
        let text = b"0123456789abcdefghi";
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 1;
            assert_ne!(fingerprint(&other), fingerprint(text), "byte {at}");
        }
        assert_ne!(fingerprint(b"89abcdef01234567"), fingerprint(b"0123456789abcdef"));
        assert_ne!(fingerprint(b"a\0"), fingerprint(b"a"));
    }
}
