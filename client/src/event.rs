//! What a client tells its application.

use std::fmt;

use proto_spec::{
    Capabilities, Content, ContentKind, ConversationId, DeviceId, DeviceInfo, Digests, Direction, Durability, Entry,
    EpochId, ErrorCode, GroupEntry, GroupId, GroupPage, GroupRow, Inbox, MemberInfo, Page, Presence, PresenceState,
    PushState, Recipient, RedirectReason, RequestId, SendNumber, Seq, TimestampMs, UserId, Visibility,
};
use thiserror::Error;

/// Names a message of this client from `send` to its answer. Never reused; means nothing to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendHandle(pub u64);

/// Names a fetch or a mark of this client until its answer. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchHandle(pub(crate) RequestId);

impl FetchHandle {
    /// As a number, for who can not keep it as it is.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0.0
    }
}

impl fmt::Display for SendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Connected, for the first time or again.
    Welcome(WelcomeInfo),
    /// The device was so far behind that the log is not handed out from there: the next entry is the one after `up_to`
    /// ([`crate::Config::skip_above`]). Comes before the [`ClientEvent::Welcome`] of the connection.
    ///
    /// What stands up to `up_to` is fetched when somebody looks at it. What the application holds of it may have been changed or taken
    /// back meanwhile: it lets go of lists and messages, or lays what it fetches over them. Who stores a position stores `up_to`
    /// beside it, for [`crate::Config::since`].
    Skipped {
        /// Everything up to here was handed out before, or is held since an earlier run.
        after: Seq,
        /// The last seq that is skipped: the position now.
        up_to: Seq,
    },
    /// A message got a number, or another one than before, or lost the one it had. Only with [`crate::Keeping::ByApplication`].
    Numbered {
        /// Which message.
        handle: SendHandle,
        /// Its number from now on; none: the one it had is not its own any more, and it will get another, unless it was cancelled.
        number: Option<SendNumber>,
    },
    /// A message is in the log. Comes once for each message.
    MessageAccepted {
        /// Which message.
        handle: SendHandle,
        /// The number it was accepted under.
        number: SendNumber,
        /// Its place in the user's log.
        seq: Seq,
        /// When the server numbered it.
        time: TimestampMs,
        /// What the acknowledgement promises.
        durability: Durability,
        /// Whether somebody is there to read it.
        recipient: Recipient,
    },
    /// What was accepted with a lower durability is [`Durability::Committed`] now. After a reconnect that is in
    /// [`WelcomeInfo::committed`] instead.
    Committed {
        /// So is everything before it in the user's log.
        up_to: Seq,
    },
    /// A message was refused and would be refused again. It is in no log, and the client has let go of it.
    ///
    /// With [`ErrorCode::NumberUsed`] it is not in the log under the number that it had, which stands for another message. That is so when
    /// an older copy of what the application keeps was put back, or another program was this device; under which number the message may
    /// have been accepted since, only the log can tell. So the client does not send it again by itself.
    MessageRefused {
        /// Which message.
        handle: SendHandle,
        /// Why.
        code: ErrorCode,
    },
    /// A message that the application has cancelled is in no log and will not be, and the client has let go of it.
    MessageCancelled {
        /// Which message.
        handle: SendHandle,
    },
    /// A message waited for a connection, and the server that answered does not take it: as if [`crate::Client::send`] had not taken it. It never
    /// had a number, so it is in no log, and the client has let go of it.
    MessageReturned {
        /// Which message.
        handle: SendHandle,
        /// Whom it was for.
        to: ConversationId,
        /// What it says.
        content: Content,
        /// What the server lacks.
        why: SendError,
    },
    /// The next entry of the log. Each comes once, in order; own messages too, and they after or before their
    /// [`ClientEvent::MessageAccepted`].
    Entry(Entry),
    /// All that stood in the log when this connection began has been handed out, or skipped. Once a connection.
    CaughtUp,
    /// The server's log is not the one that this device holds: the server was set back to an older copy, or is another one. Everything that
    /// the application holds of the log is void: its entries, its position and epoch, its list of conversations, and all seqs. In one
    /// step it discards that, and the messages in `dropped`; then it calls [`crate::Client::log_discarded`]. The log is handed out
    /// from its beginning, or from its end on with [`proto_spec::Resume::Live`]. Messages without an answer are sent to the new log, once.
    ///
    /// Until that call, acknowledgements are passed over, and what names a place in the log is not taken. If the application ends before it
    /// has discarded anything, the next run is told again.
    LogReplaced {
        /// How it was found, for the developer.
        detail: String,
        /// Messages without an answer that were to change an older one: that one is not in this log under its name. They are in no log, and
        /// the client has let go of them.
        dropped: Vec<SendHandle>,
    },
    /// A later epoch of the log begins with one of the entries that follow. Who stores a position stores the newest epoch beside it, in one
    /// step, for [`crate::Config::epoch`]: if the log is not the same when it comes back, the server says so
    /// ([`ErrorCode::OtherLog`]).
    Epoch(EpochId),
    /// The answer to a fetch.
    Page {
        /// Which fetch.
        fetch: FetchHandle,
        /// What the server has.
        page: Page,
    },
    /// Something has happened in a group, and is pushed. It is no entry of the user's log: what a connection that was lost did not bring
    /// has to be fetched, and [`crate::Groups`] says when and from where.
    GroupEntry {
        /// In which group.
        group: GroupId,
        /// What.
        entry: GroupEntry,
    },
    /// The answer to a fetch of a group.
    GroupPage {
        /// Which fetch.
        fetch: FetchHandle,
        /// In which direction it was asked for.
        direction: Direction,
        /// What the server has.
        page: GroupPage,
    },
    /// The answer to a request for the user's groups.
    Groups {
        /// Which fetch.
        fetch: FetchHandle,
        /// A seq of the own log: read marks and settings are not older than what it says up to here.
        at: Seq,
        /// Whether there are more, behind the last one.
        more: bool,
        /// By ascending id.
        rows: Vec<GroupRow>,
    },
    /// The answer to a request for the members of a group.
    Members {
        /// Which fetch.
        fetch: FetchHandle,
        /// Of which group.
        group: GroupId,
        /// Whether there are more, behind the last one.
        more: bool,
        /// As of this entry of the group's log.
        at: Seq,
        /// By ascending id.
        members: Vec<MemberInfo>,
        /// How many others have the entry that was asked about.
        delivered: u64,
        /// How many of these have read it, and let others know.
        read: u64,
    },
    /// The answer to a request for the inbox. If messages of the first conversation were asked for and there is one, a
    /// [`ClientEvent::Page`] of the same fetch follows.
    Inbox {
        /// Which fetch.
        fetch: FetchHandle,
        /// What the server has.
        inbox: Inbox,
    },
    /// A read mark, or how a conversation is kept, or what is hidden of the own presence, is in the log.
    Marked {
        /// Which one.
        fetch: FetchHandle,
    },
    /// The user's devices: asked for, or as they are since one was removed or named.
    Devices {
        /// Which fetch, removal or naming this answers.
        fetch: FetchHandle,
        /// All of them, by ascending id.
        devices: Vec<DeviceInfo>,
    },
    /// How this device is subscribed to notifications: asked for, or as it is since it was changed.
    Subscription {
        /// Which fetch or change this answers.
        fetch: FetchHandle,
        /// How it is subscribed, and what it needs to be.
        state: PushState,
    },
    /// The answer to a request for digests, for [`crate::Check::answer`].
    Digest {
        /// Which fetch.
        fetch: FetchHandle,
        /// What the server has.
        digests: Digests,
    },
    /// A user that is watched is this now. Before the first one, and without a connection, all of them are unknown; and so is who is not
    /// watched any more, which is told too.
    Presence(UserPresence),
    /// The answer to a question for presence: each user that was asked for, in that order, the first time they were named.
    Presences {
        /// Which fetch.
        fetch: FetchHandle,
        /// What the server tells of them.
        users: Vec<UserPresence>,
    },
    /// Somebody types, until [`ClientEvent::TypingEnded`] says otherwise.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// Somebody does not type any more: a message of theirs came, or nothing for a while, or the connection is gone.
    TypingEnded {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// A fetch or a mark, or a change of a device, was refused and would be refused again. With [`ErrorCode::UnknownKind`] the server does not
    /// have what was asked for: if its welcome said so, it was not asked.
    FetchRefused {
        /// Which fetch.
        fetch: FetchHandle,
        /// Why.
        code: ErrorCode,
        /// For the developer.
        detail: String,
    },
    /// The token expires soon: without a newer one from `set_token` the server closes the connection then, and this client
    /// stops.
    TokenExpiring {
        /// Time that is left, in milliseconds.
        expires_in_ms: u64,
    },
    /// The connection goes on with the newer token.
    TokenRefreshed {
        /// Until then.
        expires: TimestampMs,
    },
    /// The server did not take the newer token. The connection goes on with the one it had, until that expires.
    TokenRefused {
        /// Why.
        code: ErrorCode,
        /// For the developer.
        detail: String,
    },
    /// The server did not take a frame that is neither a send nor a fetch nor a token. Points to a fault in one of the programs.
    ServerError {
        /// Why.
        code: ErrorCode,
        /// The kind of the frame.
        kind: u8,
        /// For the developer.
        detail: String,
    },
    /// The server takes the token no longer, or never did, and there is no connection until [`Client::set_token`](crate::Client::set_token)
    /// gives another one. Only with [`crate::Config::asks_for_tokens`].
    TokenWanted {
        /// What is the matter with the one that there is.
        code: ErrorCode,
        /// For the developer.
        detail: String,
    },
    /// There is no connection until [`Client::resume`](crate::Client::resume), as the application wanted.
    Suspended,
    /// The connection is gone, or could not be made. The client tries again by itself.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// When the next attempt begins.
        retry_in_ms: u64,
    },
    /// The client has stopped and will not connect again. The last event.
    Ended(EndReason),
}

impl ClientEvent {
    /// The newest entry of a group that this hands out: what an application that acknowledges by itself has then
    /// ([`Client::acknowledge_group`](crate::Client::acknowledge_group)).
    #[must_use]
    pub fn newest_of_group(&self) -> Option<(GroupId, Seq)> {
        match self {
            Self::GroupEntry { group, entry } => Some((*group, entry.seq)),
            Self::GroupPage { page, .. } => page.entries.last().map(|last| (page.group, last.seq)),
            _ => None,
        }
    }
}

/// What the server said when it let the device in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WelcomeInfo {
    /// Who the token says the user is.
    pub user: UserId,
    /// Which device this is.
    pub device: DeviceId,
    /// The server's wall clock.
    pub server_time: TimestampMs,
    /// The last seq of the log.
    pub head: Seq,
    /// The seq after which the server pushes on this connection. Entries that were handed out already are not handed out again.
    pub cursor: Seq,
    /// The device's last accepted send number.
    pub last_number: SendNumber,
    /// Sends that may await their answer.
    pub send_window: u64,
    /// Longest text.
    pub text_bytes_max: u64,
    /// Most entries of a page.
    pub page_entries_max: u64,
    /// Everything in the log up to here is [`Durability::Committed`].
    pub committed: Seq,
    /// The newest epoch of which the device holds something; zero if there is none.
    pub epoch: EpochId,
    /// What the server takes on this connection; of one that does not say, what every server takes.
    pub capabilities: Capabilities,
    /// What the user hides of their presence. What changes it later comes as an entry.
    pub visibility: Visibility,
    /// The address of the node that serves this user, if a redirect has led there from [`crate::Config::server`].
    pub elsewhere: Option<String>,
}

/// What is known of whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserPresence {
    /// Of whom.
    pub user: UserId,
    /// Whether they are there, as far as one may know.
    pub state: Presence,
    /// With [`Presence::Offline`]: when they were last connected, by the server's clock and as exactly as its operator tells. None: not told.
    pub last_seen: Option<TimestampMs>,
}

impl From<&PresenceState> for UserPresence {
    fn from(of: &PresenceState) -> Self {
        let is_told = of.state == Presence::Offline && of.last_seen > TimestampMs(0);
        Self { user: of.user, state: of.state, last_seen: is_told.then_some(of.last_seen) }
    }
}

/// Why a connection ended that will be followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DisconnectReason {
    /// The other side closed, or the network failed.
    #[error("{0}")]
    Link(String),
    /// Who has answered can not show that it is the server: its certificate is not one that is trusted for this name, or not
    /// at this time. The token has not been sent.
    #[error("the server is not trusted: {0}")]
    Untrusted(String),
    /// Who has answered does not speak this protocol, or not over this transport. The same will answer again.
    #[error("who answers is no Ringpost server: {0}")]
    NotRingpost(String),
    /// No connection in time.
    #[error("the server could not be reached in time")]
    OpenTimeout,
    /// No welcome in time.
    #[error("the server did not answer the hello in time")]
    WelcomeTimeout,
    /// No answer to a ping.
    #[error("the server has fallen silent")]
    Silent,
    /// The network changed while a connection was being made.
    #[error("the network has changed")]
    NetworkChanged,
    /// The server sent what the protocol does not allow.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The push left something out. Resuming gets it.
    #[error("the push left out what follows seq {position} and went on at {next}")]
    Hole {
        /// What the device has, without a gap.
        position: Seq,
        /// Where the push went on.
        next: Seq,
    },
    /// What this device holds is not the beginning of the server's log. The client begins anew ([`ClientEvent::LogReplaced`]).
    #[error("the server's log is not the one that this device holds: {0}")]
    OtherLog(String),
    /// Another node serves this user, or does from now on: the next connection goes there.
    #[error("another node serves this user: {address}")]
    Redirected {
        /// Where it is.
        address: String,
        /// Why.
        reason: RedirectReason,
    },
    /// The nodes do not agree on who serves this user. The next connection goes to [`crate::Config::server`].
    #[error(
        "the nodes of the server do not agree on who serves this user: one sent here and there, at last to {address}"
    )]
    Circle {
        /// Where the redirect led that was not followed.
        address: String,
    },
    /// An attempt failed at a node to which a redirect has led. The next connection goes to [`crate::Config::server`].
    #[error("at {address}, where this user was served or should be: {why}")]
    Elsewhere {
        /// Where that was.
        address: String,
        /// What failed.
        why: Box<DisconnectReason>,
    },
    /// The server said why.
    #[error("the server closed the connection: {} ({detail})", code.name())]
    Bye {
        /// Its reason.
        code: ErrorCode,
        /// Its words.
        detail: String,
    },
}

/// Why a client stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndReason {
    /// The application asked for it.
    #[error("closed")]
    Closed,
    /// The server said what makes another attempt pointless.
    #[error("the server refused the device: {} ({detail})", code.name())]
    Refused {
        /// Its reason.
        code: ErrorCode,
        /// Its words.
        detail: String,
    },
    /// The user has so many devices that there is no room for this one. One of them has to be removed, from another device or by the
    /// operator.
    #[error("the server refused the device: {detail}")]
    TooManyDevices {
        /// Those that the user has, first the one that was not seen for longest.
        devices: Vec<DeviceInfo>,
        /// The server's words.
        detail: String,
    },
    /// The server speaks a version that this client does not.
    #[error("the server chose protocol version {0}, which was not offered")]
    Version(u64),
}

/// Why `send` did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too many messages are on their way. Wait for an answer to one of them.
    #[error("{max} messages are waiting already")]
    QueueFull {
        /// How many may wait.
        max: usize,
    },
    /// The text is empty, or longer than the server takes.
    #[error("the text has {size} bytes, 1 to {max} are allowed")]
    TextLength {
        /// Its bytes.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A part of it is missing or longer than any server takes (SPEC 5.4).
    #[error("a part of the content is missing or too long")]
    ContentLimits,
    /// The server takes no content of this kind; of an edit, the edit or what it says. Another server may.
    #[error("this server takes no {}", name_of(*kind))]
    ContentKind {
        /// The kind that it does not take.
        kind: u8,
    },
    /// The server has no conversations of this kind.
    #[error("this server has no conversations of this kind")]
    ConversationKind,
    /// It names a message of a log that is void ([`ClientEvent::LogReplaced`]).
    #[error("the server's history was replaced, and the message is of the one before")]
    LogReplaced,
    /// Zero is neither a user nor a group.
    #[error("the recipient must not be zero")]
    Recipient,
    /// What is done to a group can not be sent to a user.
    #[error("what is done to a group can only be sent to a group")]
    ActToUser,
    /// The client has stopped.
    #[error("the client has stopped")]
    Ended,
}

/// A kind of content as it is called in a sentence.
fn name_of(kind: u8) -> &'static str {
    match ContentKind::from_byte(kind) {
        Some(ContentKind::Text) => "texts",
        Some(ContentKind::Reply) => "replies",
        Some(ContentKind::Attachment) => "attachments",
        Some(ContentKind::Opaque) => "encrypted contents",
        Some(ContentKind::Edit) => "edits",
        Some(ContentKind::Unsend) => "taking back of messages",
        Some(ContentKind::Reaction) => "reactions",
        Some(ContentKind::Act) => "changes of groups",
        Some(ContentKind::Mention) => "texts that name users",
        None => "content of this kind",
    }
}

/// Why a fetch, a watch, or a change of a device, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// Too many fetches are on their way. Wait for a page.
    #[error("{max} fetches are waiting already")]
    QueueFull {
        /// How many may wait.
        max: usize,
    },
    /// It names a place in a log that is void ([`ClientEvent::LogReplaced`]).
    #[error("the server's history was replaced, and this is a place in the one before")]
    LogReplaced,
    /// More users than one question or one watch may name.
    #[error("{count} users are too many for one request, at most {max} are allowed")]
    TooManyUsers {
        /// How many they are.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A device's name that is too long.
    #[error("the name has {size} bytes, at most {max} are allowed")]
    NameLength {
        /// Its bytes.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A subscription's address that is too long.
    #[error("the address has {size} bytes, at most {max} are allowed")]
    AddressLength {
        /// Its bytes.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A subscription that has not what its provider needs.
    #[error("no notification can be sent there: {0}")]
    BadSubscription(&'static str),
    /// The client has stopped.
    #[error("the client has stopped")]
    Ended,
}
