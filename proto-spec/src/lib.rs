//! The Ringpost client protocol. `SPEC.md` beside this crate is normative; this is the codec that must match it, and
//! `vectors/` holds the bytes that both are checked against. No I/O, no async, no unsafe.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod act;
pub mod capabilities;
pub mod code;
pub mod content;
pub mod device;
pub mod digest;
pub mod entry;
pub mod frame;
pub mod framing;
pub mod group;
pub mod ids;
pub mod limits;
mod listed;
pub mod presence;
pub mod push;
pub mod wire;

pub use act::{Act, ActKind};
pub use capabilities::{Capabilities, Kinds};
pub use code::ErrorCode;
pub use content::{
    Attachment, AttachmentKind, Body, Content, ContentKind, Edit, Mention, MessageName, Reaction, Reply, Stands, Unsend,
};
pub use device::{DeviceInfo, Removal};
pub use entry::{Entry, EntryKind, Event, Settings, Visibility};
pub use frame::{
    ClientFrame, ClientKind, Digests, Direction, Durability, FrameError, Inbox, InboxRow, Page, Recipient,
    RedirectReason, Resume, ServerFrame, ServerKind,
};
pub use framing::{Decoder, FramingError, RawFrame};
pub use group::{GroupEntry, GroupPage, GroupRow, MemberInfo, Role, Rules, Standing};
pub use ids::{
    ConversationId, ConversationKind, DeviceId, EpochId, GroupId, RequestId, SendNumber, Seq, TimestampMs, UserId,
};
pub use presence::{Presence, PresenceState, Status};
pub use push::{Provider, PushState, Show, Subscription};

/// The one protocol version so far (SPEC 1.2).
pub const PROTOCOL_VERSION: u64 = 1;

/// What clients offer as their protocol within TLS (SPEC 1.1). One that offers nothing is served too.
pub const ALPN: &[u8] = b"ringpost/1";

/// Where WebSocket is, behind the name of the server (SPEC 1.4).
pub const WEBSOCKET_PATH: &str = "/v1/ws";

/// Where long polling is, likewise (SPEC 1.5).
pub const FRAMES_PATH: &str = "/v1/frames";

/// The subprotocol of WebSocket that carries this protocol (SPEC 1.4).
pub const WEBSOCKET_PROTOCOL: &str = "ringpost.v1";

/// What clients that speak WebSocket within TLS may offer as their protocol: that of the upgrade (SPEC 1.4).
pub const WEBSOCKET_ALPN: &[u8] = b"http/1.1";
