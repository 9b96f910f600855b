//! What logs say, and the rows of lists.

use client::{Entry, Event, InboxRow};

use crate::content::{Content, Conversation, MessageName, Role, Rule};

/// Between an enum of flags here and a set of bits there. What a newer version has beside these is left out.
macro_rules! flags {
    ($flag:ident, $set:ident { $($name:ident = $bit:ident,)* }) => {
        impl $flag {
            /// Those that are set.
            pub(crate) fn of(set: client::$set) -> Vec<Self> {
                [$((Self::$name, client::$set::$bit)),*].into_iter().filter(|(_, bit)| set.has(*bit)).map(|(flag, _)| flag).collect()
            }

            /// The set of these.
            pub(crate) fn all(flags: &[Self]) -> client::$set {
                let bit = |flag: &Self| match flag { $(Self::$name => client::$set::$bit),* };
                client::$set::from_bits(flags.iter().fold(0, |bits, flag| bits | bit(flag).bits()))
            }
        }
    };
}
pub(crate) use flags;

/// One entry of the user's log, the same on all devices of the user.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct LogEntry {
    /// Its position. What an entry supersedes is gone, and its seq empty.
    pub seq: u64,
    /// When the server numbered it, in milliseconds since 1970. For people: order is given by `seq` alone.
    pub time_ms: u64,
    /// Where it is shown as a message of its conversation: at its own seq, or where the message stands that it changes. None: nowhere.
    pub place: Option<u64>,
    /// What happened.
    pub what: Happened,
}

/// What happened, as the user's log tells it.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Happened {
    /// Somebody wrote to this user.
    Received {
        /// Who.
        author: u64,
        /// The message's seq in their log: (`author`, `origin`) names it.
        origin: u64,
        /// What.
        content: Content,
    },
    /// This user wrote, on whichever device. To a group: it is not numbered there yet.
    Sent {
        /// Where.
        to: Conversation,
        /// Which device.
        device: u64,
        /// That device's number of it.
        number: u64,
        /// What.
        content: Content,
    },
    /// A device of a peer has what this user sent up to here.
    Delivered {
        /// Who.
        peer: u64,
        /// A seq of this log.
        up_to: u64,
    },
    /// A peer has read what this user sent up to here.
    Seen {
        /// Who.
        peer: u64,
        /// A seq of this log.
        up_to: u64,
    },
    /// This user has read a conversation, on whichever device.
    Read {
        /// Which.
        conversation: Conversation,
        /// A seq of this log; of a group, of the group's.
        up_to: u64,
        /// Messages that are not read. Zero for a group.
        unread: u64,
    },
    /// How this user keeps a conversation.
    Settings {
        /// Which.
        conversation: Conversation,
        /// All that are set.
        settings: Vec<Setting>,
    },
    /// This user has deleted a message for themselves.
    Deleted {
        /// Where.
        conversation: Conversation,
        /// Which message. In a group its author is zero.
        of: MessageName,
        /// Where it stood.
        place: u64,
        /// Messages of the conversation that are not read. Zero for a group.
        unread: u64,
    },
    /// What this user hides of their presence.
    Visibility {
        /// Nobody sees whether they are there.
        is_invisible: bool,
        /// Nobody sees when they were last there.
        hides_last_seen: bool,
    },
    /// A device of this user was removed.
    DeviceRemoved {
        /// Which.
        device: u64,
        /// All that the user has now.
        devices: Vec<u64>,
    },
    /// How this user stands to a group, and how far that has come.
    Group {
        /// Which.
        group: u64,
        /// Whether the user is a member.
        is_member: bool,
        /// The first seq of the group's log that the user may read, since they are a member.
        first: u64,
        /// The last one, when this was written.
        up_to: u64,
        /// What the user sent there up to this seq of their own log is numbered there, or was refused.
        sent_up_to: u64,
    },
    /// A group has not taken what this user sent.
    GroupRefused {
        /// Which.
        group: u64,
        /// What was sent: its seq in this log.
        origin: u64,
        /// Why: a name of SPEC 6.
        code: String,
    },
    /// Of a newer version.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// One entry of a group's log, the same for all members.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct GroupEntry {
    /// Its position in the group's log.
    pub seq: u64,
    /// When the server numbered it, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who wrote it, or did it.
    pub author: u64,
    /// Its seq in their own log.
    pub origin: u64,
    /// Where it is shown as a message. None: nowhere.
    pub place: Option<u64>,
    /// What.
    pub content: Content,
}

/// How a user keeps a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Setting {
    /// Its messages are not announced.
    Muted,
    /// It is put away until somebody looks for it.
    Archived,
    /// It stands above the others.
    Pinned,
    /// What the other side sends is not taken.
    Blocked,
    /// Of a group only messages that name the user are announced.
    MentionsOnly,
}

flags!(Setting, Settings {
    Muted = MUTED,
    Archived = ARCHIVED,
    Pinned = PINNED,
    Blocked = BLOCKED,
    MentionsOnly = MENTIONS_ONLY,
});

/// A conversation with a user, in the list of them.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ConversationRow {
    /// With whom.
    pub conversation: Conversation,
    /// How the user keeps it.
    pub settings: Vec<Setting>,
    /// Messages that are not read: exact up to 999, and above that "many".
    pub unread: u64,
    /// It is read up to this seq of the log.
    pub read_up_to: u64,
    /// The other side's devices have what was sent up to this seq of the log.
    pub delivered_up_to: u64,
    /// The other side has read what was sent up to this seq of the log.
    pub seen_up_to: u64,
    /// Bytes of a long text that `last` leaves out.
    pub left_out: u64,
    /// The last message.
    pub last: LogEntry,
}

/// A group, in the list of them.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct GroupRow {
    /// Which.
    pub group: u64,
    /// Whether the user is a member.
    pub is_member: bool,
    /// What the user may do there.
    pub role: Role,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// How many members it has.
    pub members: u64,
    /// The last seq of its log that the user may read.
    pub head: u64,
    /// What people call it.
    pub name: String,
    /// Where a picture of it lies, or empty.
    pub picture: String,
    /// The last message that the user may read.
    pub last: Option<GroupEntry>,
    /// How the user keeps it.
    pub settings: Vec<Setting>,
    /// It is read up to this seq of its log.
    pub read_up_to: u64,
    /// Messages above that.
    pub unread: u64,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Member {
    /// Who.
    pub user: u64,
    /// What they may do.
    pub role: Role,
    /// They have read everything up to this seq of the group's log, as far as they let others know.
    pub read_up_to: u64,
    /// A device of theirs has everything up to this seq.
    pub delivered_up_to: u64,
}

/// A device of the user.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Device {
    /// Which.
    pub device: u64,
    /// What people call it, or empty.
    pub name: String,
    /// The day on which it was last connected, in days since 1970; zero: not known.
    pub seen_day: u64,
    /// Whether it is connected now.
    pub is_connected: bool,
}

impl From<&Entry> for LogEntry {
    fn from(of: &Entry) -> Self {
        Self { seq: of.seq.0, time_ms: of.time.0, place: of.place().map(|place| place.0), what: (&of.event).into() }
    }
}

impl From<&Event> for Happened {
    fn from(of: &Event) -> Self {
        match of {
            Event::Received { from, origin, content } => {
                Self::Received { author: from.0, origin: origin.0, content: content.into() }
            }
            Event::Sent { to, device, number, content } => {
                Self::Sent { to: (*to).into(), device: device.0, number: number.0, content: content.into() }
            }
            Event::Delivered { peer, up_to } => Self::Delivered { peer: peer.0, up_to: up_to.0 },
            Event::Seen { peer, up_to } => Self::Seen { peer: peer.0, up_to: up_to.0 },
            Event::Read { conversation, up_to, unread, .. } => {
                Self::Read { conversation: (*conversation).into(), up_to: up_to.0, unread: *unread }
            }
            Event::Settings { conversation, settings } => {
                Self::Settings { conversation: (*conversation).into(), settings: Setting::of(*settings) }
            }
            Event::Deleted { conversation, of, place, unread } => Self::Deleted {
                conversation: (*conversation).into(),
                of: (*of).into(),
                place: place.0,
                unread: *unread,
            },
            Event::Visibility { visibility } => Self::Visibility {
                is_invisible: visibility.has(client::Visibility::INVISIBLE),
                hides_last_seen: visibility.has(client::Visibility::HIDE_LAST_SEEN),
            },
            Event::Devices { removed, devices, .. } => {
                Self::DeviceRemoved { device: removed.0, devices: devices.iter().map(|device| device.0).collect() }
            }
            Event::Group { group, standing, first, up_to, sent_up_to } => Self::Group {
                group: group.0,
                is_member: standing.is_member(),
                first: first.0,
                up_to: up_to.0,
                sent_up_to: sent_up_to.0,
            },
            Event::GroupRefused { group, origin, code } => {
                Self::GroupRefused { group: group.0, origin: origin.0, code: code.name().to_owned() }
            }
            Event::Unknown { kind } => Self::Unknown { kind: *kind },
        }
    }
}

impl From<&client::GroupEntry> for GroupEntry {
    fn from(of: &client::GroupEntry) -> Self {
        Self {
            seq: of.seq.0,
            time_ms: of.time.0,
            author: of.from.0,
            origin: of.origin.0,
            place: of.place().map(|place| place.0),
            content: (&of.content).into(),
        }
    }
}

impl From<&InboxRow> for ConversationRow {
    fn from(of: &InboxRow) -> Self {
        Self {
            conversation: of.conversation.into(),
            settings: Setting::of(of.settings),
            unread: of.unread,
            read_up_to: of.read_up_to.0,
            delivered_up_to: of.delivered_up_to.0,
            seen_up_to: of.seen_up_to.0,
            left_out: of.left_out,
            last: (&of.last).into(),
        }
    }
}

impl From<&client::GroupRow> for GroupRow {
    fn from(of: &client::GroupRow) -> Self {
        Self {
            group: of.group.0,
            is_member: of.standing.is_member(),
            role: of.role.into(),
            rules: Rule::of(of.rules),
            members: of.members,
            head: of.head.0,
            name: of.name.clone(),
            picture: of.picture.clone(),
            last: of.last.as_ref().map(Into::into),
            settings: Setting::of(of.settings),
            read_up_to: of.read_up_to.0,
            unread: of.unread,
        }
    }
}

impl From<&client::MemberInfo> for Member {
    fn from(of: &client::MemberInfo) -> Self {
        Self {
            user: of.user.0,
            role: of.role.into(),
            read_up_to: of.read_up_to.0,
            delivered_up_to: of.delivered_up_to.0,
        }
    }
}

impl From<&client::DeviceInfo> for Device {
    fn from(of: &client::DeviceInfo) -> Self {
        Self { device: of.device.0, name: of.name.clone(), seen_day: of.seen_day, is_connected: of.is_connected }
    }
}
