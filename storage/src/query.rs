//! What a shard may ask of the store, and the answers.

use std::sync::Arc;

use proto_spec::{
    ConversationId, DeviceId, Direction, Entry, EpochId, GroupId, SendNumber, Seq, Subscription, TimestampMs, UserId,
};

use crate::{
    group::{self, GroupEntries, GroupMessage, GroupSnapshot, StandingRow},
    record::{DeviceNotes, FirstResult, LaneId, Marks, Notified},
    schema::{MarkRow, ReadRow, ReceivedRow, SettingsRow, VisibilityRow},
};

/// A part of one user's log, to be read in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Lowest seq, included.
    pub first: Seq,
    /// Highest seq, included.
    pub last: Seq,
    /// From which end to read.
    pub direction: Direction,
    /// Most entries to return; at least 1. In a conversation reactions do not count, for they come with their messages.
    pub entries_max: usize,
    /// Stop before the entries' wire form exceeds this many bytes; the first entry is returned whatever its size.
    pub bytes_max: usize,
}

/// A question about the rows in the store. Says nothing about records that have not been ingested yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Everything that a shard must know of a user before it can serve them.
    User(UserId),
    /// The watermarks of one conversation; of a group what the user keeps of it.
    Conversation {
        /// Whose side.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
    },
    /// As [`Query::Conversation`], of several.
    Conversations {
        /// Whose side.
        user: UserId,
        /// Which.
        conversations: Arc<[ConversationId]>,
    },
    /// The conversations of a user by their last messages, from the newest on.
    Inbox {
        /// Whose.
        user: UserId,
        /// Those whose last message is before this one.
        before: Seq,
        /// Most of them.
        rows_max: usize,
        /// What is known of these is wanted in any case, and they are not among the others.
        named: Arc<[ConversationId]>,
        /// The last message of these stands here instead of where the store has it; zero: there is none any more.
        moved: Arc<[(ConversationId, Seq)]>,
    },
    /// Entries of a user's log.
    Log {
        /// Whose log.
        user: UserId,
        /// Which part.
        span: Span,
    },
    /// Messages of one conversation with a person: those of a group are in its own log, and here there are none.
    ConversationLog {
        /// Whose log.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
        /// Which part of the log.
        span: Span,
    },
    /// A message of a conversation, by where it stands.
    Message {
        /// Whose log.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
        /// The seq that it had first.
        place: Seq,
    },
    /// A message that is to be deleted, and where the newest of its conversation stand.
    ToDelete {
        /// Whose log.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
        /// Where the message stands.
        place: Seq,
        /// So many of the newest.
        newest_max: usize,
    },
    /// A message of the other side of a conversation, by its name. If it was deleted, the entry that says so is the answer. Of a group
    /// nothing but that is known.
    Origin {
        /// Whose log.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
        /// Its seq in the log of the other side.
        origin: Seq,
    },
    /// The first result of a send.
    Send {
        /// Who sent.
        user: UserId,
        /// From which device.
        device: DeviceId,
        /// The device's number of the send.
        number: SendNumber,
    },
    /// Whether a device has been removed.
    IsRemoved {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// In which term the slot of a user is, where slots move.
    Term {
        /// Whose slot.
        user: UserId,
        /// It.
        lane: LaneId,
    },
    /// Everything that a shard must know of a group before it can serve it.
    Group(GroupId),
    /// Entries of a group's log.
    GroupLog {
        /// Whose log.
        group: GroupId,
        /// Which part.
        span: Span,
    },
    /// A message of a group, by where it stands.
    GroupMessage {
        /// Of which group.
        group: GroupId,
        /// The seq that it had first.
        place: Seq,
    },
    /// What says whether one user may see the presence of others. The reads are the same whether these exist or not.
    Presence {
        /// Who looks.
        looks: UserId,
        /// At whom; six rows of each are read at once.
        users: Vec<UserId>,
    },
}

impl Query {
    /// Of whom it asks; for whom, if it asks of several. Of a group: whom it lies beside.
    #[must_use]
    pub const fn user(&self) -> UserId {
        match *self {
            Self::User(user)
            | Self::Conversation { user, .. }
            | Self::Conversations { user, .. }
            | Self::Inbox { user, .. }
            | Self::Log { user, .. }
            | Self::ConversationLog { user, .. }
            | Self::Message { user, .. }
            | Self::ToDelete { user, .. }
            | Self::Origin { user, .. }
            | Self::Send { user, .. }
            | Self::IsRemoved { user, .. }
            | Self::Term { user, .. }
            | Self::Presence { looks: user, .. } => user,
            Self::Group(group) | Self::GroupLog { group, .. } | Self::GroupMessage { group, .. } => {
                group::beside(group)
            }
        }
    }
}

/// What the store knows of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSnapshot {
    /// Which device.
    pub device: DeviceId,
    /// Its acknowledgement.
    pub cursor: Seq,
    /// Its last accepted send.
    pub last_number: SendNumber,
    /// Where its notifications go; none: nowhere.
    pub subscription: Option<Box<Subscription>>,
}

/// What the store knows of a user. The default is a user of whom the store knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSnapshot {
    /// The last seq of the log.
    pub head: Seq,
    /// The time of that entry.
    pub head_time: TimestampMs,
    /// By ascending device id.
    pub devices: Vec<DeviceSnapshot>,
    /// What is remembered of them beside that.
    pub notes: DeviceNotes,
    /// Duties fulfilled.
    pub marks: Marks,
    /// Something may be left to forward or to report.
    pub unfinished: bool,
    /// The epochs of the log that are remembered, with the first entry of each, in order.
    pub epochs: Vec<(Seq, EpochId)>,
    /// What they hide of their presence.
    pub visibility: VisibilityRow,
    /// When they were last connected, as far as it was noted; zero: never.
    pub last_seen: TimestampMs,
    /// What they were notified of.
    pub notified: Notified,
    /// How they stand to groups, by ascending group.
    pub groups: Vec<(GroupId, StandingRow)>,
}

/// What the store knows of one side of a conversation. The default is a conversation that has not begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConversationSnapshot {
    /// What was received.
    pub received: ReceivedRow,
    /// How far the other side's devices have what was sent.
    pub delivered: MarkRow,
    /// How far the other side has read what was sent.
    pub seen: MarkRow,
    /// How far it has been read.
    pub read: ReadRow,
    /// How it is kept.
    pub settings: SettingsRow,
    /// The last message that the user has sent in it, in the own log, whether or not it was deleted since; zero: none.
    pub sent: Seq,
}

/// What says of a user whether somebody who looks may see them, and what there is to see. The default is a user of whom the store knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceRows {
    /// What they hide.
    pub visibility: VisibilityRow,
    /// When they were last connected, as far as it was noted; zero: never.
    pub last_seen: TimestampMs,
    /// The last message that they have sent to who looks, in their own log, whether or not it was deleted since; zero: none.
    pub sent: Seq,
    /// The last message that they have had from who looks, in the log of who looks, whether or not it was deleted since; zero: none.
    pub received: Seq,
    /// How they keep the conversation with who looks.
    pub settings: SettingsRow,
    /// How who looks keeps the conversation with them.
    pub of_looks: SettingsRow,
}

/// A conversation and its last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxEntry {
    /// Which one.
    pub conversation: ConversationId,
    /// What is known of it.
    pub snapshot: ConversationSnapshot,
    /// Its last message.
    pub last: Entry,
}

/// The answer to [`Query::Inbox`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxSnapshot {
    /// What is known of those that were named, in their order.
    pub named: Vec<ConversationSnapshot>,
    /// The others, by descending seq of the last message.
    pub rows: Vec<InboxEntry>,
    /// Whether there are no more.
    pub complete: bool,
    /// Where the last message of all conversations stands, whether or not it is one of the rows; zero: there is none.
    pub newest: Seq,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it stands: the seq that it had first.
    pub place: Seq,
    /// What says now what it says.
    pub entry: Entry,
    /// The reactions to it, by ascending seq.
    pub reactions: Vec<Entry>,
}

/// The answer to [`Query::ToDelete`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToDelete {
    /// The message, if it is there.
    pub message: Option<Message>,
    /// Where the newest messages stand, in descending order.
    pub newest: Vec<Seq>,
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// This entry.
    Entry(Entry),
    /// An entry that has been superseded since.
    Superseded {
        /// Where it was.
        seq: Seq,
        /// What is left of it.
        first: FirstResult,
    },
    /// Nothing: the number was given up.
    GivenUp,
}

/// Entries of a span, by ascending seq whatever the direction they were read in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// What is there.
    pub entries: Vec<Entry>,
    /// Whether the whole span was read. If not, the span was covered up to the last entry in the direction of reading.
    pub complete: bool,
}

/// The answer to a [`Query`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Query::User`].
    User(UserSnapshot),
    /// To [`Query::Conversation`].
    Conversation(ConversationSnapshot),
    /// To [`Query::Conversations`], in the order in which they were asked for.
    Conversations(Vec<ConversationSnapshot>),
    /// To [`Query::Inbox`].
    Inbox(InboxSnapshot),
    /// To [`Query::Log`] and [`Query::ConversationLog`].
    Entries(Entries),
    /// To [`Query::Message`] and [`Query::Origin`], when there is one.
    Message(Option<Message>),
    /// To [`Query::ToDelete`].
    ToDelete(ToDelete),
    /// To [`Query::Send`], when there was one.
    Send(Option<Sent>),
    /// To [`Query::IsRemoved`].
    IsRemoved(bool),
    /// To [`Query::Term`].
    Term(u64),
    /// To [`Query::Group`].
    Group(Box<GroupSnapshot>),
    /// To [`Query::GroupLog`].
    GroupEntries(GroupEntries),
    /// To [`Query::GroupMessage`], when there is one.
    GroupMessage(Option<GroupMessage>),
    /// To [`Query::Presence`], in the order in which it names the users.
    Presence(Vec<PresenceRows>),
}
