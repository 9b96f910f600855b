//! Every frame of both directions, its fields and its bytes (SPEC 4).

use thiserror::Error;

use crate::{
    code::ErrorCode,
    entry::{Content, Entry},
    framing::RawFrame,
    ids::{DeviceId, RequestId, SendNumber, Seq, TimestampMs, UserId},
    limits::{DETAIL_BYTES_MAX, TOKEN_BYTES_MAX},
    wire::{DecodeError, Reader, put_bytes, put_varint, varint_len},
};

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

/// Where the server's push starts after the welcome (SPEC 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// After what this device acknowledged last, as the server remembers it.
    Stored,
    /// After this seq, which the device says it has. Counts as its acknowledgement.
    After(Seq),
    /// After the head of the log: nothing old is pushed. For a device that fetches history by itself.
    Live,
}

/// Which way a fetch goes from its starting seq, which is included (SPEC 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To higher seqs.
    Forwards,
    /// To lower seqs.
    Backwards,
}

/// What an acknowledgement promises (SPEC 4.8). Ordered: a higher level survives more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the server's memory.
    Memory,
    /// On the node's disk, synced.
    Local,
    /// In the history store; in a cluster, replicated.
    Committed,
}

/// Whether the recipient was connected when the message was accepted (SPEC 4.8). A hint, not a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// No device of the recipient is connected.
    Offline,
    /// At least one device of the recipient is connected.
    Online,
    /// A note to self.
    Yourself,
}

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// The first frame of a connection.
    Hello {
        /// Lowest protocol version that the client speaks.
        version_min: u64,
        /// Highest protocol version that the client speaks.
        version_max: u64,
        /// Which of the user's devices this is.
        device: DeviceId,
        /// Where to start pushing.
        resume: Resume,
        /// Says who the user is. At most [`TOKEN_BYTES_MAX`] bytes.
        token: String,
    },
    /// A message to somebody.
    Send {
        /// The device's number of this send.
        number: SendNumber,
        /// To whom.
        to: UserId,
        /// What.
        content: Content,
    },
    /// Everything up to this seq has been received.
    Acknowledge {
        /// The highest seq below which nothing is missing.
        seq: Seq,
    },
    /// Asks for a page of the user's own log.
    FetchLog {
        /// Comes back in the page.
        request: RequestId,
        /// Where to start, included. Zero, going backwards, means the head.
        from: Seq,
        /// Which way.
        direction: Direction,
        /// Most entries wanted.
        limit: u64,
    },
    /// Asks for a page of one conversation.
    FetchConversation {
        /// Comes back in the page.
        request: RequestId,
        /// The other user.
        peer: UserId,
        /// Where to start, included, as a seq of the own log. Zero, going backwards, means the head.
        from: Seq,
        /// Which way.
        direction: Direction,
        /// Most entries wanted.
        limit: u64,
    },
    /// Asks for a pong.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
    },
    /// Answers a ping.
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// The client is about to close.
    Bye,
}

/// A run of entries and the range that it speaks for (SPEC 4.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// From the fetch; zero for a page that the server pushed.
    pub request: RequestId,
    /// First seq of the range that this page speaks for.
    pub first: Seq,
    /// Last seq of that range; `first - 1` when the range is empty.
    pub last: Seq,
    /// Whether there is more in the direction of the fetch.
    pub more: bool,
    /// What the log has in that range, by ascending seq. A seq of the range without an entry has been superseded or,
    /// in a conversation, belongs elsewhere.
    pub entries: Vec<Entry>,
    /// In a page of a conversation: the peer's devices have what was sent up to this own seq. Otherwise zero.
    pub delivered_up_to: Seq,
}

/// A frame from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// The hello was good.
    Welcome {
        /// The protocol version of this connection.
        version: u64,
        /// Who the token says the user is.
        user: UserId,
        /// The server's wall clock.
        server_time: TimestampMs,
        /// The last seq of the user's log.
        head: Seq,
        /// Where the push starts: the first pushed entry is the one after this.
        cursor: Seq,
        /// The device's last accepted send number.
        last_number: SendNumber,
        /// Sends that may await their answer.
        send_window: u64,
        /// Longest text.
        text_bytes_max: u64,
        /// Most entries of a page.
        page_entries_max: u64,
        /// Silence after which the server closes.
        idle_timeout_ms: u64,
    },
    /// A send is in the log.
    Accepted {
        /// The device's number of the send.
        number: SendNumber,
        /// Its seq in the sender's log.
        seq: Seq,
        /// When it was numbered.
        time: TimestampMs,
        /// What this acknowledgement promises.
        durability: Durability,
        /// Whether somebody is there to read it.
        recipient: Recipient,
    },
    /// A send was not taken; its number is not used up.
    Refused {
        /// The device's number of the send.
        number: SendNumber,
        /// Why.
        code: ErrorCode,
        /// When to try again; zero: the same send will be refused again.
        retry_after_ms: u64,
        /// The number that the server expects next from this device.
        expected: SendNumber,
    },
    /// The next entry of the log.
    Deliver {
        /// Its seq is the one after the last that this connection covered.
        entry: Entry,
    },
    /// A page, asked for or pushed.
    Page(Page),
    /// Something else was refused; the connection goes on.
    Error {
        /// Why.
        code: ErrorCode,
        /// Kind of the frame that is refused.
        kind: u8,
        /// Request id of that frame, or zero.
        request: RequestId,
        /// When to try again; zero: not at all.
        retry_after_ms: u64,
        /// For the developer, not for the user.
        detail: String,
    },
    /// Asks for a pong.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
    },
    /// Answers a ping.
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// The server is about to close.
    Bye {
        /// Why.
        code: ErrorCode,
        /// When to connect again; zero: not without a change.
        retry_after_ms: u64,
        /// For the developer, not for the user.
        detail: String,
    },
}

const CONVERSATION_USER: u64 = 1;

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

impl ClientFrame {
    /// The kind of this frame.
    #[must_use]
    pub const fn kind(&self) -> ClientKind {
        match self {
            Self::Hello { .. } => ClientKind::Hello,
            Self::Send { .. } => ClientKind::Send,
            Self::Acknowledge { .. } => ClientKind::Acknowledge,
            Self::FetchLog { .. } => ClientKind::FetchLog,
            Self::FetchConversation { .. } => ClientKind::FetchConversation,
            Self::Ping { .. } => ClientKind::Ping,
            Self::Pong { .. } => ClientKind::Pong,
            Self::Bye => ClientKind::Bye,
        }
    }

    /// Appends the frame, length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, self.kind().byte(), |out| match self {
            Self::Hello { version_min, version_max, device, resume, token } => {
                put_varint(out, *version_min);
                put_varint(out, *version_max);
                put_varint(out, device.0);
                let (mode, seq) = match resume {
                    Resume::Stored => (0, Seq::ZERO),
                    Resume::After(seq) => (1, *seq),
                    Resume::Live => (2, Seq::ZERO),
                };
                out.push(mode);
                put_varint(out, seq.0);
                put_bytes(out, token.as_bytes());
            }
            Self::Send { number, to, content } => {
                put_varint(out, number.0);
                put_conversation(out, *to);
                content.encode(out);
            }
            Self::Acknowledge { seq } => put_varint(out, seq.0),
            Self::FetchLog { request, from, direction, limit } => {
                put_varint(out, request.0);
                put_fetch(out, *from, *direction, *limit);
            }
            Self::FetchConversation { request, peer, from, direction, limit } => {
                put_varint(out, request.0);
                put_conversation(out, *peer);
                put_fetch(out, *from, *direction, *limit);
            }
            Self::Ping { nonce } | Self::Pong { nonce } => put_varint(out, *nonce),
            Self::Bye => {}
        });
    }

    /// Reads a frame. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The kind is unknown, or the body is malformed.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, FrameError> {
        let kind = ClientKind::from_byte(raw.kind).ok_or(FrameError::UnknownKind(raw.kind))?;
        Self::decode_body(kind, raw.body).map_err(|error| FrameError::Body { kind: raw.kind, error })
    }

    fn decode_body(kind: ClientKind, body: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(body);
        Ok(match kind {
            ClientKind::Hello => Self::Hello {
                version_min: r.varint("version_min")?,
                version_max: r.varint("version_max")?,
                device: DeviceId(r.varint("device")?),
                resume: {
                    let mode = r.u8("resume")?;
                    let seq = Seq(r.varint("resume_seq")?);
                    match mode {
                        0 => Resume::Stored,
                        1 => Resume::After(seq),
                        2 => Resume::Live,
                        other => return Err(DecodeError::Unlisted { field: "resume", value: other.into() }),
                    }
                },
                token: r.str("token", TOKEN_BYTES_MAX)?.to_owned(),
            },
            ClientKind::Send => Self::Send {
                number: SendNumber(r.varint("number")?),
                to: conversation(r)?,
                content: Content::decode(r)?,
            },
            ClientKind::Acknowledge => Self::Acknowledge { seq: Seq(r.varint("seq")?) },
            ClientKind::FetchLog => {
                let request = RequestId(r.varint("request")?);
                let (from, direction, limit) = fetch(r)?;
                Self::FetchLog { request, from, direction, limit }
            }
            ClientKind::FetchConversation => {
                let request = RequestId(r.varint("request")?);
                let peer = conversation(r)?;
                let (from, direction, limit) = fetch(r)?;
                Self::FetchConversation { request, peer, from, direction, limit }
            }
            ClientKind::Ping => Self::Ping { nonce: r.varint("nonce")? },
            ClientKind::Pong => Self::Pong { nonce: r.varint("nonce")? },
            ClientKind::Bye => Self::Bye,
        })
    }
}

fn put_conversation(out: &mut Vec<u8>, peer: UserId) {
    put_varint(out, CONVERSATION_USER);
    put_varint(out, peer.0);
}

fn conversation(r: &mut Reader<'_>) -> Result<UserId, DecodeError> {
    match r.varint("conversation")? {
        CONVERSATION_USER => Ok(UserId(r.varint("peer")?)),
        value => Err(DecodeError::Unlisted { field: "conversation", value }),
    }
}

fn put_fetch(out: &mut Vec<u8>, from: Seq, direction: Direction, limit: u64) {
    put_varint(out, from.0);
    out.push(match direction {
        Direction::Forwards => 0,
        Direction::Backwards => 1,
    });
    put_varint(out, limit);
}

fn fetch(r: &mut Reader<'_>) -> Result<(Seq, Direction, u64), DecodeError> {
    let from = Seq(r.varint("from")?);
    let direction = match r.u8("direction")? {
        0 => Direction::Forwards,
        1 => Direction::Backwards,
        other => return Err(DecodeError::Unlisted { field: "direction", value: other.into() }),
    };
    Ok((from, direction, r.varint("limit")?))
}

impl ServerFrame {
    /// The kind of this frame.
    #[must_use]
    pub const fn kind(&self) -> ServerKind {
        match self {
            Self::Welcome { .. } => ServerKind::Welcome,
            Self::Accepted { .. } => ServerKind::Accepted,
            Self::Refused { .. } => ServerKind::Refused,
            Self::Deliver { .. } => ServerKind::Deliver,
            Self::Page(_) => ServerKind::Page,
            Self::Error { .. } => ServerKind::Error,
            Self::Ping { .. } => ServerKind::Ping,
            Self::Pong { .. } => ServerKind::Pong,
            Self::Bye { .. } => ServerKind::Bye,
        }
    }

    /// Appends a deliver frame without taking the entry.
    pub fn encode_deliver(entry: &Entry, out: &mut Vec<u8>) {
        put_frame(out, ServerKind::Deliver.byte(), |out| entry.encode(out));
    }

    /// Appends the frame, length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, self.kind().byte(), |out| match self {
            Self::Welcome {
                version,
                user,
                server_time,
                head,
                cursor,
                last_number,
                send_window,
                text_bytes_max,
                page_entries_max,
                idle_timeout_ms,
            } => {
                for value in [
                    *version,
                    user.0,
                    server_time.0,
                    head.0,
                    cursor.0,
                    last_number.0,
                    *send_window,
                    *text_bytes_max,
                    *page_entries_max,
                    *idle_timeout_ms,
                ] {
                    put_varint(out, value);
                }
            }
            Self::Accepted { number, seq, time, durability, recipient } => {
                put_varint(out, number.0);
                put_varint(out, seq.0);
                put_varint(out, time.0);
                out.push(match durability {
                    Durability::Memory => 1,
                    Durability::Local => 2,
                    Durability::Committed => 3,
                });
                out.push(match recipient {
                    Recipient::Offline => 0,
                    Recipient::Online => 1,
                    Recipient::Yourself => 2,
                });
            }
            Self::Refused { number, code, retry_after_ms, expected } => {
                put_varint(out, number.0);
                put_varint(out, code.number().into());
                put_varint(out, *retry_after_ms);
                put_varint(out, expected.0);
            }
            Self::Deliver { entry } => entry.encode(out),
            Self::Page(page) => page.encode(out),
            Self::Error { code, kind, request, retry_after_ms, detail } => {
                put_varint(out, code.number().into());
                out.push(*kind);
                put_varint(out, request.0);
                put_varint(out, *retry_after_ms);
                put_detail(out, detail);
            }
            Self::Ping { nonce } | Self::Pong { nonce } => put_varint(out, *nonce),
            Self::Bye { code, retry_after_ms, detail } => {
                put_varint(out, code.number().into());
                put_varint(out, *retry_after_ms);
                put_detail(out, detail);
            }
        });
    }

    /// Reads a frame. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The kind is unknown, or the body is malformed.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, FrameError> {
        let kind = ServerKind::from_byte(raw.kind).ok_or(FrameError::UnknownKind(raw.kind))?;
        Self::decode_body(kind, raw.body).map_err(|error| FrameError::Body { kind: raw.kind, error })
    }

    fn decode_body(kind: ServerKind, body: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(body);
        Ok(match kind {
            ServerKind::Welcome => Self::Welcome {
                version: r.varint("version")?,
                user: UserId(r.varint("user")?),
                server_time: TimestampMs(r.varint("server_time")?),
                head: Seq(r.varint("head")?),
                cursor: Seq(r.varint("cursor")?),
                last_number: SendNumber(r.varint("last_number")?),
                send_window: r.varint("send_window")?,
                text_bytes_max: r.varint("text_bytes_max")?,
                page_entries_max: r.varint("page_entries_max")?,
                idle_timeout_ms: r.varint("idle_timeout_ms")?,
            },
            ServerKind::Accepted => Self::Accepted {
                number: SendNumber(r.varint("number")?),
                seq: Seq(r.varint("seq")?),
                time: TimestampMs(r.varint("time")?),
                durability: match r.u8("durability")? {
                    1 => Durability::Memory,
                    2 => Durability::Local,
                    3 => Durability::Committed,
                    other => return Err(DecodeError::Unlisted { field: "durability", value: other.into() }),
                },
                recipient: match r.u8("recipient")? {
                    0 => Recipient::Offline,
                    1 => Recipient::Online,
                    2 => Recipient::Yourself,
                    other => return Err(DecodeError::Unlisted { field: "recipient", value: other.into() }),
                },
            },
            ServerKind::Refused => Self::Refused {
                number: SendNumber(r.varint("number")?),
                code: error_code(r)?,
                retry_after_ms: r.varint("retry_after_ms")?,
                expected: SendNumber(r.varint("expected")?),
            },
            ServerKind::Deliver => Self::Deliver { entry: Entry::decode(body)? },
            ServerKind::Page => Self::Page(Page::decode(r)?),
            ServerKind::Error => Self::Error {
                code: error_code(r)?,
                kind: r.u8("kind")?,
                request: RequestId(r.varint("request")?),
                retry_after_ms: r.varint("retry_after_ms")?,
                detail: r.str("detail", DETAIL_BYTES_MAX)?.to_owned(),
            },
            ServerKind::Ping => Self::Ping { nonce: r.varint("nonce")? },
            ServerKind::Pong => Self::Pong { nonce: r.varint("nonce")? },
            ServerKind::Bye => Self::Bye {
                code: error_code(r)?,
                retry_after_ms: r.varint("retry_after_ms")?,
                detail: r.str("detail", DETAIL_BYTES_MAX)?.to_owned(),
            },
        })
    }
}

/// Details are for people: one that is too long is cut at a character, not refused.
fn put_detail(out: &mut Vec<u8>, detail: &str) {
    put_bytes(out, &detail.as_bytes()[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]);
}

fn error_code(r: &mut Reader<'_>) -> Result<ErrorCode, DecodeError> {
    let value = r.varint("code")?;
    match u16::try_from(value) {
        Ok(number) => Ok(ErrorCode::from_number(number)),
        Err(_) => Err(DecodeError::Unlisted { field: "code", value }),
    }
}

impl Page {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.request.0);
        put_varint(out, self.first.0);
        put_varint(out, self.last.0);
        out.push(u8::from(self.more));
        put_varint(out, self.entries.len() as u64);
        let mut scratch = Vec::new();
        for entry in &self.entries {
            scratch.clear();
            entry.encode(&mut scratch);
            put_bytes(out, &scratch);
        }
        put_varint(out, self.delivered_up_to.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = RequestId(r.varint("request")?);
        let first = Seq(r.varint("first")?);
        let last = Seq(r.varint("last")?);
        let more = match r.u8("more")? {
            0 => false,
            1 => true,
            other => return Err(DecodeError::Unlisted { field: "more", value: other.into() }),
        };
        let count = r.varint("count")?;
        // Each entry has at least four bytes, so a count that lies is found before anything is allocated.
        if count > r.rest().len() as u64 / 4 {
            return Err(DecodeError::Truncated { field: "entries" });
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            entries.push(Entry::decode(r.bytes("entry", usize::MAX)?)?);
        }
        let delivered_up_to = Seq(r.varint("delivered_up_to")?);
        Ok(Self { request, first, last, more, entries, delivered_up_to })
    }
}
