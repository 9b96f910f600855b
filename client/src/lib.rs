//! A Ringpost client, in two layers.
//!
//! - [`ClientState`] is the protocol as a pure state machine: connecting, numbering, retrying, resuming, removing
//!   duplicates. It has no socket, clock or randomness; a simulator can drive it, and so can any runtime.
//! - [`Client`] and [`Events`] are that machine on tokio, with a socket that reconnects.
//!
//! What an application may rely on:
//!
//! - A message that [`Client::send`] took is in the log **once**, or its refusal is an event. No loss of connection, on
//!   either side of any byte, changes that.
//! - Each entry of the user's log above the starting point is handed out **once**, in order, the user's own messages included.
//! - What happens in the user's groups is told as it happens, and what a lost connection has swallowed can be fetched: [`Groups`] lays
//!   both together, and says from where.
//! - Every queue is bounded. A full one refuses ([`SendError::QueueFull`]) or stops reading the socket; nothing is dropped.
//! - That much holds as long as the process lives. Over a crash of the application see [`Config::unanswered`] and
//!   [`Keeping::ByApplication`].
//!
//! ```no_run
#![doc = include_str!("../examples/hello.rs")]
//! ```

pub mod config;
pub mod event;
pub mod limits;

mod backoff;
mod conversations;
mod driver;
mod epochs;
mod fetches;
mod groups;
mod history;
mod invitation;
mod nodes;
mod outbox;
mod position;
mod receipts;
mod renewal;
mod state;
mod tls;
mod turns;
mod typing;
mod watching;

pub use config::{Acknowledging, Config, ConfigError, Keeping, Roots, Transport, Unanswered};
pub use conversations::{Conversations, NotKnown};
pub use driver::{Client, Events};
pub use event::{
    ClientEvent, DisconnectReason, EndReason, FetchError, FetchHandle, SendError, SendHandle, UserPresence, WelcomeInfo,
};
pub use groups::{Group, GroupMessage, Groups, PageTaken};
pub use history::{Check, History, Verdict};
pub use invitation::{INVITATION_BYTES, Invitation};
pub use state::{ClientState, Effects, Input, Link, MonotonicMs};

// What the API speaks in, so that an application needs no second dependency.
pub use proto_spec::limits::{
    GROUP_NAME_BYTES_MAX, GROUP_ROWS_MAX, MEMBERS_PAGE_MAX, MENTIONS_MAX, NAME_BYTES_MAX, PRESENCE_USERS_MAX,
    QUOTE_BYTES_MAX, REACTION_BYTES_MAX, TEXT_BYTES_MAX, UNREAD_MAX, WATCHED_MAX,
};
pub use proto_spec::{
    Act, ActKind, Attachment, AttachmentKind, Body, Capabilities, Content, ContentKind, ConversationId, DeviceId,
    DeviceInfo, Digests, Direction, Durability, Edit, Entry, EpochId, ErrorCode, Event, GroupEntry, GroupId, GroupPage,
    GroupRow, Inbox, InboxRow, Kinds, MemberInfo, Mention, MessageName, Page, Presence, Provider, PushState, Reaction,
    Recipient, RedirectReason, Removal, Reply, Resume, Role, Rules, SendNumber, Seq, Settings, Show, Standing, Stands,
    Status, Subscription, TimestampMs, Unsend, UserId, Visibility,
};
