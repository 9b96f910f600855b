//! PURE: the rows of the ordered store: their tables, keys and values, and the way back.
//!
//! A key is a table byte, the partition (u16), the user (u64) and what the table adds, all big-endian, so that the rows
//! of one user in one table are one range in the order of their numbers. Owns the layout of keys and the format
//! version; does not own the bytes of values (`codec`) nor when a row is written (`fold`).
//!
//! Invariants: table numbers are never reused; a key parses back to what made it; keys of one table order as
//! (partition, user, rest).

mod key;
mod values;

use proto_spec::{ConversationId, DeviceId, GroupId, Seq, UserId};

use crate::group::beside;
pub use key::{Key, KeyError};
pub use values::{
    DisplacedRow, IndexRow, LastRow, MarkRow, ReadRow, ReceivedRow, SendsBlock, SendsBlockNumber, SettingsRow,
    VisibilityRow, Whose,
};

/// The version of a data folder's layout: journal, keys and values. A folder of a newer version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// The logical partition of a user: the top 16 bits of a fixed mix of the id. Part of every stored key: never changes.
#[must_use]
pub const fn partition_of(user: UserId) -> u16 {
    // The finalizer of splitmix64: ids that count up spread evenly.
    let mut x = user.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 48) as u16
}

/// What a row is, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKey {
    /// An entry of a user's log.
    Timeline {
        /// Whose log.
        user: UserId,
        /// Its position.
        seq: Seq,
    },
    /// A message of a conversation, by the position that it had first. Its value says whose it is, and where its entries are if that is not
    /// here in the timeline.
    Conversation {
        /// Whose log.
        user: UserId,
        /// With whom.
        peer: UserId,
        /// The message's first position in the user's log.
        seq: Seq,
    },
    /// Where the entries of 64 sends of a device are.
    Sends {
        /// Who sent.
        user: UserId,
        /// From which device.
        device: DeviceId,
        /// Which 64 sends.
        block: SendsBlockNumber,
    },
    /// When a user was last connected. The first row of the range that a user is loaded from: this one, how visible they are, what they
    /// were notified of, their devices with their last sends and subscriptions, how they stand to groups, and epochs.
    LastSeen {
        /// Who.
        user: UserId,
    },
    /// What a user hides of their presence.
    Visibility {
        /// Who.
        user: UserId,
    },
    /// What a user was notified of.
    Notified {
        /// Who.
        user: UserId,
    },
    /// A device's cursor.
    Device {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// Which of its `sends` rows a device has begun last.
    LastSends {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// Where notifications for a device go. Among the devices: see [`RowKey::LastSeen`].
    Subscription {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// What was received in a conversation, and where that is. The rows of what was received and of what was sent are one range of each
    /// user, both of a conversation side by side; behind them stand those of last messages.
    Received {
        /// Who received.
        user: UserId,
        /// With whom.
        peer: UserId,
    },
    /// How far the other side's devices have what was sent in a conversation.
    Delivered {
        /// Who sent.
        user: UserId,
        /// With whom.
        peer: UserId,
    },
    /// The last message that was sent in a conversation. Stays when that is deleted: it says as well that the user has written there.
    Sent {
        /// Who sent.
        user: UserId,
        /// With whom.
        peer: UserId,
    },
    /// The last message of a conversation in which one was deleted that was the last.
    Last {
        /// Whose log.
        user: UserId,
        /// With whom.
        peer: UserId,
    },
    /// How far a user has read a conversation.
    Read {
        /// Who reads.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
    },
    /// How far the other side has read what was sent in a conversation.
    Seen {
        /// Who sent.
        user: UserId,
        /// With whom.
        peer: UserId,
    },
    /// How a user keeps a conversation. What a user keeps of a group is one range: this, how far it has been read, and which messages are
    /// deleted.
    Settings {
        /// Who.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
    },
    /// A user's fulfilled duties.
    Marks {
        /// Whose.
        user: UserId,
    },
    /// The epoch that a log is of from an entry on.
    Epoch {
        /// Whose log.
        user: UserId,
        /// The first entry of the epoch.
        first: Seq,
    },
    /// What is remembered of a user's devices beside their cursors.
    DeviceNotes {
        /// Whose devices.
        user: UserId,
    },
    /// A device that was removed; its value is empty. One for each, for ever: an id that came back would go on with the numbers of
    /// the sends that were under it.
    Removed {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// What is left of a send whose entry has been superseded.
    First {
        /// Who sent.
        user: UserId,
        /// Where the entry was.
        seq: Seq,
    },
    /// A message of somebody else, or of a group, that the user has deleted, by its name: what is said about it later is passed over.
    Deleted {
        /// Whose log.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
        /// The message's seq in the author's log; of a group: where it stands.
        name: Seq,
    },
    /// A message of the other side that was changed before it came, by its name: it stands where the change came, behind messages that
    /// were written after it.
    Displaced {
        /// Whose log.
        user: UserId,
        /// With whom.
        peer: UserId,
        /// The message's seq in the author's log.
        origin: Seq,
    },
    /// A user who may have duties left; its value is empty. Without a partition: a restart reads the whole table.
    Unfinished {
        /// Which user.
        user: UserId,
    },
    /// Nobody's: a migration into this store is under way. See `migrate`.
    Migration,
    /// How a user stands to a group. Among the devices: see [`RowKey::LastSeen`].
    Standing {
        /// Who.
        user: UserId,
        /// To which group.
        group: GroupId,
    },
    /// An entry of a group's log.
    GroupLog {
        /// Whose log.
        group: GroupId,
        /// Its position.
        seq: Seq,
    },
    /// What a group is called, and how it goes on there.
    GroupState {
        /// Which.
        group: GroupId,
    },
    /// What a group's home has told others. Right behind the state.
    GroupMarks {
        /// Whose.
        group: GroupId,
    },
    /// A row of a group's roll. The roll, and what has come of those who are in it, are one range.
    GroupMember {
        /// Of which group.
        group: GroupId,
        /// Whose.
        user: UserId,
    },
    /// What has come of somebody who sent to a group.
    GroupCame {
        /// To which group.
        group: GroupId,
        /// Who sent.
        user: UserId,
    },
    /// Of which messages a member's home wants to be told, for notifications. In the range of the roll.
    GroupWants {
        /// Of which group.
        group: GroupId,
        /// The member.
        user: UserId,
    },
    /// Which entries tell of a message of a group, if it was changed or reacted to.
    GroupShown {
        /// Of which group.
        group: GroupId,
        /// Where the message stands.
        place: Seq,
    },
    /// A group that may owe something; its value is empty. Without a partition, as of users.
    GroupUnfinished {
        /// Which.
        group: GroupId,
    },
}

// Table numbers are on disk and never reused. Zero is left to a backend's own rows, and from 33 on they are characters: see `fdb`. The
// tables of conversations are those of conversations with a person; another kind has its own tables, so that these keys stay as short as
// they are.
const TIMELINE: u8 = 1;
const CONVERSATION: u8 = 2;
const SENDS: u8 = 3;
const DEVICE: u8 = 4;
const RECEIVED: u8 = 5;
const DELIVERED: u8 = 6;
const MARKS: u8 = 7;
const UNFINISHED: u8 = 8;
const MIGRATION: u8 = 9;
// 10 and 11 were tables of no released version.
const READ: u8 = 12;
const SEEN: u8 = 13;
const SETTINGS: u8 = 14;
const DEVICE_NOTES: u8 = 15;
const REMOVED: u8 = 16;
const FIRST: u8 = 17;
const DELETED: u8 = 18;
const DISPLACED: u8 = 19;
const OF_GROUP: u8 = 20;
const GROUP_LOG: u8 = 21;
const GROUP_STATE: u8 = 22;
const GROUP_ROLL: u8 = 23;
const GROUP_SHOWN: u8 = 24;
const GROUP_UNFINISHED: u8 = 25;

/// Ends the key of a row that stands right behind the one of the same device or conversation. The lowest byte, so that nothing of another
/// one comes between.
const BESIDE: u8 = 0;
/// In place of a device or a conversation: behind all of them, and what stands beside the last.
const BEHIND: u64 = u64::MAX;

/// The tables whose keys order as (partition, user, rest). A group is in the place of the user beside whom it is.
pub(crate) const TABLES_BY_PARTITION: &[u8] = &[
    TIMELINE,
    CONVERSATION,
    SENDS,
    DEVICE,
    RECEIVED,
    DELIVERED,
    MARKS,
    READ,
    SEEN,
    SETTINGS,
    DEVICE_NOTES,
    REMOVED,
    FIRST,
    DELETED,
    DISPLACED,
    OF_GROUP,
    GROUP_LOG,
    GROUP_STATE,
    GROUP_ROLL,
    GROUP_SHOWN,
];
/// The tables whose keys order as users.
pub(crate) const TABLES_BY_USER: &[u8] = &[UNFINISHED, GROUP_UNFINISHED];

impl RowKey {
    /// The stored key.
    #[must_use]
    pub fn encode(self) -> Key {
        match self {
            Self::Timeline { user, seq } => Key::of_user(TIMELINE, user).then(seq.0),
            Self::Conversation { user, peer, seq } => Key::of_user(CONVERSATION, user).then(peer.0).then(seq.0),
            Self::Sends { user, device, block } => Key::of_user(SENDS, user).then(device.0).then(block.0),
            Self::Device { user, device } => Key::of_user(DEVICE, user).then(device.0),
            Self::Received { user, peer } => Key::of_user(RECEIVED, user).then(peer.0),
            Self::Delivered { user, peer } => Key::of_user(DELIVERED, user).then(peer.0),
            Self::Sent { user, peer } => Key::of_user(RECEIVED, user).then(peer.0).then_byte(BESIDE),
            Self::Last { user, peer } => Key::of_user(RECEIVED, user).then(BEHIND).then(peer.0),
            Self::Read { user, conversation: ConversationId::Person(peer) } => Key::of_user(READ, user).then(peer.0),
            Self::Read { user, conversation: ConversationId::Group(group) } => {
                Key::of_user(OF_GROUP, user).then(group.0)
            }
            Self::Seen { user, peer } => Key::of_user(SEEN, user).then(peer.0),
            Self::Settings { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(SETTINGS, user).then(peer.0)
            }
            Self::Settings { user, conversation: ConversationId::Group(group) } => {
                Key::of_user(OF_GROUP, user).then(group.0).then_byte(BESIDE)
            }
            Self::Marks { user } => Key::of_user(MARKS, user),
            // All before the first device.
            Self::LastSeen { user } => Key::of_user(DEVICE, user),
            Self::Visibility { user } => Key::of_user(DEVICE, user).then_byte(BESIDE),
            Self::Notified { user } => Key::of_user(DEVICE, user).then_byte(BESIDE).then_byte(BESIDE),
            Self::LastSends { user, device } => Key::of_user(DEVICE, user).then(device.0).then_byte(BESIDE),
            Self::Subscription { user, device } => {
                Key::of_user(DEVICE, user).then(device.0).then_byte(BESIDE).then_byte(BESIDE).then_byte(BESIDE)
            }
            Self::Epoch { user, first } => Key::of_user(DEVICE, user).then(BEHIND).then(first.0),
            Self::DeviceNotes { user } => Key::of_user(DEVICE_NOTES, user),
            Self::Removed { user, device } => Key::of_user(REMOVED, user).then(device.0),
            Self::First { user, seq } => Key::of_user(FIRST, user).then(seq.0),
            Self::Deleted { user, conversation: ConversationId::Person(peer), name } => {
                Key::of_user(DELETED, user).then(peer.0).then(name.0)
            }
            Self::Deleted { user, conversation: ConversationId::Group(group), name } => {
                Key::of_user(OF_GROUP, user).then(group.0).then(name.0)
            }
            Self::Displaced { user, peer, origin } => Key::of_user(DISPLACED, user).then(peer.0).then(origin.0),
            Self::Unfinished { user } => Key::of_table(UNFINISHED).then(user.0),
            Self::Migration => Key::of_table(MIGRATION),
            Self::Standing { user, group } => {
                Key::of_user(DEVICE, user).then(group.0).then_byte(BESIDE).then_byte(BESIDE)
            }
            Self::GroupLog { group, seq } => Key::of_user(GROUP_LOG, beside(group)).then(seq.0),
            Self::GroupState { group } => Key::of_user(GROUP_STATE, beside(group)),
            Self::GroupMarks { group } => Key::of_user(GROUP_STATE, beside(group)).then_byte(BESIDE),
            Self::GroupMember { group, user } => Key::of_user(GROUP_ROLL, beside(group)).then(user.0),
            Self::GroupCame { group, user } => Key::of_user(GROUP_ROLL, beside(group)).then(user.0).then_byte(BESIDE),
            Self::GroupWants { group, user } => {
                Key::of_user(GROUP_ROLL, beside(group)).then(user.0).then_byte(BESIDE).then_byte(BESIDE)
            }
            Self::GroupShown { group, place } => Key::of_user(GROUP_SHOWN, beside(group)).then(place.0),
            Self::GroupUnfinished { group } => Key::of_table(GROUP_UNFINISHED).then(group.0),
        }
    }

    /// Parses a stored key.
    ///
    /// # Errors
    /// The table is not known, the length is not that of the table, or the partition is not that of the user.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::parse(bytes).ok_or_else(|| KeyError { bytes: bytes.to_vec() })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&table, rest) = bytes.split_first()?;
        if table == UNFINISHED {
            return numbers(rest).map(|[user]| Self::Unfinished { user: UserId(user) });
        }
        if table == GROUP_UNFINISHED {
            return numbers(rest).map(|[group]| Self::GroupUnfinished { group: GroupId(group) });
        }
        if table == MIGRATION {
            return rest.is_empty().then_some(Self::Migration);
        }
        let (partition, rest) = rest.split_first_chunk::<2>()?;
        let user = UserId(numbers::<1>(rest.get(..8)?)?[0]);
        if u16::from_be_bytes(*partition) != partition_of(user) {
            return None;
        }
        let rest = &rest[8..];
        // Of the tables of groups.
        let group = GroupId(user.0);
        Some(match table {
            TIMELINE => numbers(rest).map(|[seq]| Self::Timeline { user, seq: Seq(seq) })?,
            CONVERSATION => {
                numbers(rest).map(|[peer, seq]| Self::Conversation { user, peer: UserId(peer), seq: Seq(seq) })?
            }
            SENDS => numbers(rest).map(|[device, block]| Self::Sends {
                user,
                device: DeviceId(device),
                block: SendsBlockNumber(block),
            })?,
            DEVICE if rest.is_empty() => Self::LastSeen { user },
            DEVICE if rest == [BESIDE] => Self::Visibility { user },
            DEVICE if rest == [BESIDE, BESIDE] => Self::Notified { user },
            DEVICE => match (numbers(rest), numbers(rest), beside_that(rest)) {
                (Some([device]), ..) => Self::Device { user, device: DeviceId(device) },
                (_, Some([BEHIND, first]), _) => Self::Epoch { user, first: Seq(first) },
                (.., Some(device)) => Self::LastSends { user, device: DeviceId(device) },
                _ => match rest.strip_suffix(&[BESIDE, BESIDE]).and_then(beside_that) {
                    Some(device) => Self::Subscription { user, device: DeviceId(device) },
                    None => Self::Standing { user, group: GroupId(beside_that(rest.strip_suffix(&[BESIDE])?)?) },
                },
            },
            RECEIVED => match (numbers(rest), numbers(rest), beside_that(rest)) {
                (Some([peer]), ..) => Self::Received { user, peer: UserId(peer) },
                (_, Some([BEHIND, peer]), _) => Self::Last { user, peer: UserId(peer) },
                (.., Some(peer)) => Self::Sent { user, peer: UserId(peer) },
                _ => return None,
            },
            DELIVERED => numbers(rest).map(|[peer]| Self::Delivered { user, peer: UserId(peer) })?,
            READ => numbers(rest).map(|[peer]| Self::Read { user, conversation: person(peer) })?,
            SEEN => numbers(rest).map(|[peer]| Self::Seen { user, peer: UserId(peer) })?,
            SETTINGS => numbers(rest).map(|[peer]| Self::Settings { user, conversation: person(peer) })?,
            MARKS => numbers(rest).map(|[]| Self::Marks { user })?,
            DEVICE_NOTES => numbers(rest).map(|[]| Self::DeviceNotes { user })?,
            REMOVED => numbers(rest).map(|[device]| Self::Removed { user, device: DeviceId(device) })?,
            FIRST => numbers(rest).map(|[seq]| Self::First { user, seq: Seq(seq) })?,
            DELETED => {
                numbers(rest).map(|[peer, name]| Self::Deleted { user, conversation: person(peer), name: Seq(name) })?
            }
            DISPLACED => {
                numbers(rest).map(|[peer, origin]| Self::Displaced { user, peer: UserId(peer), origin: Seq(origin) })?
            }
            OF_GROUP => match (numbers(rest), numbers(rest), beside_that(rest)) {
                (Some([group]), ..) => Self::Read { user, conversation: GroupId(group).into() },
                (_, Some([group, name]), _) => {
                    Self::Deleted { user, conversation: GroupId(group).into(), name: Seq(name) }
                }
                (.., group) => Self::Settings { user, conversation: GroupId(group?).into() },
            },
            GROUP_LOG => numbers(rest).map(|[seq]| Self::GroupLog { group, seq: Seq(seq) })?,
            GROUP_STATE if rest.is_empty() => Self::GroupState { group },
            GROUP_STATE if rest == [BESIDE] => Self::GroupMarks { group },
            GROUP_ROLL => match (numbers(rest), beside_that(rest)) {
                (Some([user]), _) => Self::GroupMember { group, user: UserId(user) },
                (_, Some(user)) => Self::GroupCame { group, user: UserId(user) },
                _ => Self::GroupWants { group, user: UserId(beside_that(rest.strip_suffix(&[BESIDE])?)?) },
            },
            GROUP_SHOWN => numbers(rest).map(|[place]| Self::GroupShown { group, place: Seq(place) })?,
            _ => return None,
        })
    }
}

/// The lowest and the highest key that the conversation index can have.
pub(crate) fn conversation_table() -> (Key, Key) {
    table(CONVERSATION)
}

/// The lowest and the highest key that a `received` row can have, or one beside it.
pub(crate) fn received_table() -> (Key, Key) {
    table(RECEIVED)
}

/// The lowest and the highest key that a `sends` row can have.
pub(crate) fn sends_table() -> (Key, Key) {
    table(SENDS)
}

fn table(table: u8) -> (Key, Key) {
    (Key::of_table(table), Key::last_of_table(table))
}

const fn person(id: u64) -> ConversationId {
    ConversationId::Person(UserId(id))
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let chunks: &[[u8; 8]; N] = chunks.try_into().ok()?;
    Some(chunks.map(u64::from_be_bytes))
}

/// The number in the key of a row that stands beside another one.
fn beside_that(bytes: &[u8]) -> Option<u64> {
    let [number] = numbers(bytes.strip_suffix(&[BESIDE])?)?;
    Some(number)
}

#[cfg(test)]
mod tests;
