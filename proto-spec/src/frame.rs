//! Every frame of both directions (SPEC 4): the kinds here, fields and bytes in one file per direction.

mod client;
mod server;

use thiserror::Error;

pub use self::{
    client::{ClientFrame, Direction, Resume},
    server::{Digests, Durability, Inbox, InboxRow, Page, Recipient, RedirectReason, ServerFrame},
};
use crate::{
    code::ErrorCode,
    ids::{ConversationId, ConversationKind, GroupId, UserId},
    listed::listed,
    wire::{DecodeError, Reader, put_sized, put_varint},
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

impl FrameError {
    /// What a server says in its error, for an unknown kind, or in its bye.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownKind(_) => ErrorCode::UnknownKind,
            Self::Body { .. } => ErrorCode::Malformed,
        }
    }
}

listed! {
    /// Kinds of frames that a client sends: 0x01 to 0x7f.
    ClientKind {
        /// SPEC 4.1.
        Hello = 0x01 "hello",
        /// SPEC 4.2.
        Send = 0x02 "send",
        /// SPEC 4.3.
        Acknowledge = 0x03 "acknowledge",
        /// SPEC 4.4.
        FetchLog = 0x04 "fetch_log",
        /// SPEC 4.5.
        FetchConversation = 0x05 "fetch_conversation",
        /// SPEC 4.6.
        Ping = 0x06 "ping",
        /// SPEC 4.6.
        Pong = 0x07 "pong",
        /// SPEC 4.13.
        Bye = 0x08 "bye",
        /// SPEC 4.15.
        Refresh = 0x09 "refresh",
        /// SPEC 4.28.
        GiveUp = 0x0a "give_up",
        /// SPEC 4.19.
        MarkRead = 0x0b "mark_read",
        /// SPEC 4.20.
        FetchInbox = 0x0c "fetch_inbox",
        /// SPEC 4.22.
        SetConversation = 0x0d "set_conversation",
        /// SPEC 4.24.
        FetchDevices = 0x0e "fetch_devices",
        /// SPEC 4.25.
        RemoveDevice = 0x0f "remove_device",
        /// SPEC 4.26.
        NameDevice = 0x10 "name_device",
        /// [`ClientFrame::DeleteMessage`].
        DeleteMessage = 0x11 "delete_message",
        /// SPEC 4.33.
        FetchPresence = 0x12 "fetch_presence",
        /// SPEC 4.34.
        Watch = 0x13 "watch",
        /// SPEC 4.31.
        FetchDigest = 0x14 "fetch_digest",
        /// SPEC 4.35.
        Typing = 0x15 "typing",
        /// SPEC 4.36.
        SetStatus = 0x16 "set_status",
        /// SPEC 4.37.
        SetVisibility = 0x17 "set_visibility",
        /// SPEC 4.41.
        FetchGroups = 0x18 "fetch_groups",
        /// SPEC 4.42.
        FetchMembers = 0x19 "fetch_members",
        /// SPEC 4.48.
        AcknowledgeGroup = 0x1a "acknowledge_group",
        /// SPEC 4.49.
        Subscribe = 0x1b "subscribe",
        /// SPEC 4.50.
        Unsubscribe = 0x1c "unsubscribe",
        /// SPEC 4.51.
        FetchSubscription = 0x1d "fetch_subscription",
    }
}

listed! {
    /// Kinds of frames that a server sends: 0x81 to 0xff.
    ServerKind {
        /// SPEC 4.7.
        Welcome = 0x81 "welcome",
        /// SPEC 4.8.
        Accepted = 0x82 "accepted",
        /// SPEC 4.9.
        Refused = 0x83 "refused",
        /// SPEC 4.10.
        Deliver = 0x84 "deliver",
        /// SPEC 4.11.
        Page = 0x85 "page",
        /// SPEC 4.12.
        Error = 0x86 "error",
        /// SPEC 4.6.
        Ping = 0x87 "ping",
        /// SPEC 4.6.
        Pong = 0x88 "pong",
        /// SPEC 4.13.
        Bye = 0x89 "bye",
        /// SPEC 4.14.
        Committed = 0x8a "committed",
        /// SPEC 4.16.
        TokenExpiring = 0x8b "token_expiring",
        /// SPEC 4.17.
        Refreshed = 0x8c "refreshed",
        /// SPEC 4.18.
        Epoch = 0x8d "epoch",
        /// SPEC 4.21.
        Inbox = 0x8e "inbox",
        /// SPEC 4.27.
        Devices = 0x8f "devices",
        /// SPEC 4.29.
        GivenUp = 0x90 "given_up",
        /// SPEC 4.38.
        Presence = 0x91 "presence",
        /// SPEC 4.39.
        Typing = 0x92 "typing",
        /// SPEC 4.46.
        DeliverGroup = 0x93 "deliver_group",
        /// SPEC 4.23.
        Marked = 0x94 "marked",
        /// SPEC 4.32.
        Digest = 0x95 "digest",
        /// SPEC 4.40.
        Redirect = 0x96 "redirect",
        /// SPEC 4.43.
        GroupPage = 0x97 "group_page",
        /// SPEC 4.44.
        Groups = 0x98 "groups",
        /// SPEC 4.45.
        Members = 0x99 "members",
        /// SPEC 4.47.
        TypingInGroup = 0x9a "typing_in_group",
        /// SPEC 4.52.
        Subscription = 0x9b "subscription",
    }
}

/// Appends length, kind and body of one frame.
fn put_frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    put_sized(out, |out| {
        out.push(kind);
        body(out);
    });
}

fn put_conversation(out: &mut Vec<u8>, conversation: ConversationId) {
    put_varint(out, conversation.kind().byte().into());
    match conversation {
        ConversationId::Person(user) => put_varint(out, user.0),
        ConversationId::Group(group) => put_varint(out, group.0),
    }
}

fn conversation(r: &mut Reader<'_>) -> Result<ConversationId, DecodeError> {
    let value = r.varint("conversation")?;
    match u8::try_from(value).ok().and_then(ConversationKind::from_byte) {
        Some(ConversationKind::User) => Ok(ConversationId::Person(UserId(r.varint("user")?))),
        Some(ConversationKind::Group) => Ok(ConversationId::Group(GroupId(r.varint("group")?))),
        None => Err(DecodeError::Unlisted { field: "conversation", value }),
    }
}

/// A conversation in a frame of a server: with a user, since older clients could not read another one (SPEC 2.2).
fn conversation_with_user(r: &mut Reader<'_>) -> Result<ConversationId, DecodeError> {
    let value = r.varint("conversation")?;
    if value != u64::from(ConversationKind::User.byte()) {
        return Err(DecodeError::Unlisted { field: "conversation", value });
    }
    Ok(ConversationId::Person(UserId(r.varint("user")?)))
}

/// A yes or a no.
pub(crate) fn flag(r: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    r.listed(field, |byte| [false, true].get(usize::from(byte)).copied())
}

/// Appends the numbers at the end of a frame, which it may end before: it does not end with one that is zero.
fn put_later(out: &mut Vec<u8>, values: &[u64]) {
    let end = values.iter().rposition(|value| *value != 0).map_or(0, |last| last + 1);
    values[..end].iter().for_each(|value| put_varint(out, *value));
}

/// Reads it: zero if the frame ends before it, as frames of older senders do.
fn later(r: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    if r.rest().is_empty() { Ok(0) } else { r.varint(field) }
}
