//! Every frame of both directions (SPEC 4): the kinds here, fields and bytes in one file per direction.

mod client;
mod server;

use thiserror::Error;

pub use self::{
    client::{ClientFrame, Direction, Resume},
    server::{Durability, Page, Recipient, ServerFrame},
};
use crate::wire::{DecodeError, varint_len};

/// Why a frame that arrived whole could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A kind that this version does not have. Answered with an error; the connection goes on.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// A known kind whose body is malformed. Closes the connection.
    #[error("frame kind {kind:#04x}: {error}")]
    Body {
        /// The kind of the frame.
        kind: u8,
        /// What is wrong with its body.
        error: DecodeError,
    },
}

macro_rules! kinds {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident = $value:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum {
            $(#[doc = concat!("`", $name, "`")] $variant = $value,)*
        }

        impl $enum {
            /// Every kind, in the order of the table in SPEC 4.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The kind of a byte on the wire.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The byte on the wire.
            #[must_use]
            pub const fn byte(self) -> u8 {
                self as u8
            }

            /// The name in SPEC 4.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Kinds of frames that a client sends: 0x01 to 0x7f.
    ClientKind {
        Hello = 0x01 "hello",
        Send = 0x02 "send",
        Acknowledge = 0x03 "acknowledge",
        FetchLog = 0x04 "fetch_log",
        FetchConversation = 0x05 "fetch_conversation",
        Ping = 0x06 "ping",
        Pong = 0x07 "pong",
        Bye = 0x08 "bye",
    }
}

kinds! {
    /// Kinds of frames that a server sends: 0x81 to 0xff.
    ServerKind {
        Welcome = 0x81 "welcome",
        Accepted = 0x82 "accepted",
        Refused = 0x83 "refused",
        Deliver = 0x84 "deliver",
        Page = 0x85 "page",
        Error = 0x86 "error",
        Ping = 0x87 "ping",
        Pong = 0x88 "pong",
        Bye = 0x89 "bye",
    }
}

/// Appends length, kind and body of one frame.
fn put_frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind);
    body(out);
    let size = out.len() - start;
    // The length stands first but is known last: move the frame up by the length's own size.
    let prefix = varint_len(size as u64);
    out.resize(out.len() + prefix, 0);
    out.copy_within(start..start + size, start + prefix);
    let mut value = size as u64;
    for byte in &mut out[start..start + prefix] {
        *byte = (value as u8 & 0x7f) | if value >= 0x80 { 0x80 } else { 0 };
        value >>= 7;
    }
}
