//! PURE: the rows of the ordered store: their tables, keys and values, and the way back.
//!
//! A key is a table byte, the partition (u16), the user (u64) and what the table adds, all big-endian, so that the rows
//! of one user in one table are one range in the order of their numbers. Owns the layout of keys and the format
//! version; does not own the bytes of values (`codec`) nor when a row is written (`fold`).
//!
//! Invariants: table numbers are never reused; a key parses back to what made it; keys of one table order as
//! (partition, user, rest).

use std::{cmp::Ordering, fmt, ops::Deref};

use proto_spec::{ConversationId, DeviceId, SendNumber, Seq, Settings, UserId, Visibility};
use thiserror::Error;

use crate::record::Shown;

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
        /// Which conversation.
        conversation: ConversationId,
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
    /// When a user was last connected. The first row of the range that a user is loaded from: this one, how visible they are, their
    /// devices with their last sends, and epochs.
    LastSeen {
        /// Who.
        user: UserId,
    },
    /// What a user hides of their presence.
    Visibility {
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
    /// What was received in a conversation, and where that is. The rows of what was received and of what was sent are one range of each
    /// user, both of a conversation side by side; behind them stand those of last messages.
    Received {
        /// Who received.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
    },
    /// How far the other side's devices have what was sent in a conversation.
    Delivered {
        /// Who sent.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
    },
    /// The last message that was sent in a conversation. Stays when that is deleted: it says as well that the user has written there.
    Sent {
        /// Who sent.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
    },
    /// The last message of a conversation in which one was deleted that was the last.
    Last {
        /// Whose log.
        user: UserId,
        /// Which conversation.
        conversation: ConversationId,
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
        /// In which conversation.
        conversation: ConversationId,
    },
    /// How a user keeps a conversation.
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
    /// A message of somebody else that the user has deleted, by its name: what is said about it later is passed over.
    Deleted {
        /// Whose log.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
        /// The message's seq in the author's log.
        origin: Seq,
    },
    /// A message of the other side that was changed before it came, by its name: it stands where the change came, behind messages that
    /// were written after it.
    Displaced {
        /// Whose log.
        user: UserId,
        /// In which conversation.
        conversation: ConversationId,
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
}

/// A stored key: at most [`Key::LEN_MAX`] bytes, kept in place. Orders as its bytes do.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    // The padding is zero, and the length decides last: so the order is that of the bytes.
    bytes: [u8; Self::LEN_MAX],
    len: u8,
}

impl Key {
    /// The bytes as numbers that order as they do; the last one takes up some of the one before it again.
    fn words(&self) -> [u64; 4] {
        [0, 8, 16, Self::LEN_MAX - 8].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[at..at + 8]);
            u64::from_be_bytes(word)
        })
    }
}

// By words: a run of a journal segment sorts millions of keys.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words().cmp(&other.words()).then(self.len.cmp(&other.len))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bytes that are not a key of this version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a key of a known table: {}", hex(bytes))]
pub struct KeyError {
    /// What was found.
    pub bytes: Vec<u8>,
}

/// Which 64 sends of a device a `sends` row is about: the send number divided by 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendsBlockNumber(pub u64);

/// The value of a `sends` row: the seqs of 64 sends, zero for a number that is not known to be used, [`SendsBlock::GIVEN_UP`] for one
/// that is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendsBlock {
    /// By the place of the send number in its block.
    pub seqs: [Seq; Self::LEN],
}

/// The value of a row of the conversation index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Which entries tell of the message.
    pub shown: Shown,
    /// Whose it is.
    pub whose: Whose,
}

/// Whose a message is, as its row in the conversation index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user's.
    Own,
    /// The other side's, and nothing has been said about it since it came: the seq that the entry has in the log of the other side.
    Came(Seq),
    /// The other side's, and something has been said about it since: its name.
    Named(Seq),
    /// The row is of before that was kept; the entry says it.
    Unsaid,
}

/// The value of a `displaced` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisplacedRow {
    /// Where the message stands.
    pub place: Seq,
    /// The seq that the change with which it came has in the log of the other side.
    pub came: Seq,
}

/// The value of a `received` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedRow {
    /// The highest seq of the other side's log that was received.
    pub up_to: Seq,
    /// The last message that was received, in the own log. Zero in a row of before it was kept.
    pub at: Seq,
    /// How many were received since they are counted.
    pub count: u64,
}

/// The value of a `delivered` or a `seen` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkRow {
    /// A seq of the sender's own log: the peer has, or has read, everything sent to them up to here.
    pub up_to: Seq,
    /// The entry of the sender's log that says so.
    pub at: Seq,
}

/// The value of a `last` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRow {
    /// Where the last message stands; zero: there is none. Its row, `received` or `sent`, may name one that is gone.
    pub place: Seq,
    /// As of this entry: a later message of the conversation is the last.
    pub at: Seq,
}

/// The value of a `read` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRow {
    /// A seq of the own log: everything in the conversation up to here has been read.
    pub up_to: Seq,
    /// The entry that says so.
    pub at: Seq,
    /// Of the messages that were received, how many have been read.
    pub count: u64,
}

/// The value of a `settings` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsRow {
    /// What they are.
    pub settings: Settings,
    /// The entry that says so.
    pub at: Seq,
}

/// The value of a `visibility` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisibilityRow {
    /// What is hidden.
    pub visibility: Visibility,
    /// The entry that says so.
    pub at: Seq,
}

// Table numbers are on disk and never reused. Zero is left to a backend's own rows. The tables of conversations are those of
// conversations with a person; another kind has its own tables, so that these keys stay as short as they are.
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

/// Ends the key of a row that stands right behind the one of the same device or conversation. The lowest byte, so that nothing of another
/// one comes between.
const BESIDE: u8 = 0;
/// In place of a device or a conversation: behind all of them, and what stands beside the last.
const BEHIND: u64 = u64::MAX;

/// The tables whose keys order as (partition, user, rest).
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
];
/// The tables whose keys order as users.
pub(crate) const TABLES_BY_USER: &[u8] = &[UNFINISHED];

impl RowKey {
    /// The stored key.
    #[must_use]
    pub fn encode(self) -> Key {
        match self {
            Self::Timeline { user, seq } => Key::of_user(TIMELINE, user).then(seq.0),
            Self::Conversation { user, conversation: ConversationId::Person(peer), seq } => {
                Key::of_user(CONVERSATION, user).then(peer.0).then(seq.0)
            }
            Self::Sends { user, device, block } => Key::of_user(SENDS, user).then(device.0).then(block.0),
            Self::Device { user, device } => Key::of_user(DEVICE, user).then(device.0),
            Self::Received { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(RECEIVED, user).then(peer.0)
            }
            Self::Delivered { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(DELIVERED, user).then(peer.0)
            }
            Self::Sent { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(RECEIVED, user).then(peer.0).then_byte(BESIDE)
            }
            Self::Last { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(RECEIVED, user).then(BEHIND).then(peer.0)
            }
            Self::Read { user, conversation: ConversationId::Person(peer) } => Key::of_user(READ, user).then(peer.0),
            Self::Seen { user, conversation: ConversationId::Person(peer) } => Key::of_user(SEEN, user).then(peer.0),
            Self::Settings { user, conversation: ConversationId::Person(peer) } => {
                Key::of_user(SETTINGS, user).then(peer.0)
            }
            Self::Marks { user } => Key::of_user(MARKS, user),
            // Both before the first device.
            Self::LastSeen { user } => Key::of_user(DEVICE, user),
            Self::Visibility { user } => Key::of_user(DEVICE, user).then_byte(BESIDE),
            Self::LastSends { user, device } => Key::of_user(DEVICE, user).then(device.0).then_byte(BESIDE),
            Self::Epoch { user, first } => Key::of_user(DEVICE, user).then(BEHIND).then(first.0),
            Self::DeviceNotes { user } => Key::of_user(DEVICE_NOTES, user),
            Self::Removed { user, device } => Key::of_user(REMOVED, user).then(device.0),
            Self::First { user, seq } => Key::of_user(FIRST, user).then(seq.0),
            Self::Deleted { user, conversation: ConversationId::Person(peer), origin } => {
                Key::of_user(DELETED, user).then(peer.0).then(origin.0)
            }
            Self::Displaced { user, conversation: ConversationId::Person(peer), origin } => {
                Key::of_user(DISPLACED, user).then(peer.0).then(origin.0)
            }
            Self::Unfinished { user } => Key::of_table(UNFINISHED).then(user.0),
            Self::Migration => Key::of_table(MIGRATION),
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
            let [user] = numbers(rest)?;
            return Some(Self::Unfinished { user: UserId(user) });
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
        Some(match table {
            TIMELINE => numbers(rest).map(|[seq]| Self::Timeline { user, seq: Seq(seq) })?,
            CONVERSATION => numbers(rest).map(|[peer, seq]| Self::Conversation {
                user,
                conversation: person(peer),
                seq: Seq(seq),
            })?,
            SENDS => numbers(rest).map(|[device, block]| Self::Sends {
                user,
                device: DeviceId(device),
                block: SendsBlockNumber(block),
            })?,
            DEVICE if rest.is_empty() => Self::LastSeen { user },
            DEVICE if rest == [BESIDE] => Self::Visibility { user },
            DEVICE => match (numbers(rest), numbers(rest), beside(rest)) {
                (Some([device]), ..) => Self::Device { user, device: DeviceId(device) },
                (_, Some([BEHIND, first]), _) => Self::Epoch { user, first: Seq(first) },
                (.., Some(device)) => Self::LastSends { user, device: DeviceId(device) },
                _ => return None,
            },
            RECEIVED => match (numbers(rest), numbers(rest), beside(rest)) {
                (Some([peer]), ..) => Self::Received { user, conversation: person(peer) },
                (_, Some([BEHIND, peer]), _) => Self::Last { user, conversation: person(peer) },
                (.., Some(peer)) => Self::Sent { user, conversation: person(peer) },
                _ => return None,
            },
            DELIVERED => numbers(rest).map(|[peer]| Self::Delivered { user, conversation: person(peer) })?,
            READ => numbers(rest).map(|[peer]| Self::Read { user, conversation: person(peer) })?,
            SEEN => numbers(rest).map(|[peer]| Self::Seen { user, conversation: person(peer) })?,
            SETTINGS => numbers(rest).map(|[peer]| Self::Settings { user, conversation: person(peer) })?,
            MARKS => numbers(rest).map(|[]| Self::Marks { user })?,
            DEVICE_NOTES => numbers(rest).map(|[]| Self::DeviceNotes { user })?,
            REMOVED => numbers(rest).map(|[device]| Self::Removed { user, device: DeviceId(device) })?,
            FIRST => numbers(rest).map(|[seq]| Self::First { user, seq: Seq(seq) })?,
            DELETED => numbers(rest).map(|[peer, origin]| Self::Deleted {
                user,
                conversation: person(peer),
                origin: Seq(origin),
            })?,
            DISPLACED => numbers(rest).map(|[peer, origin]| Self::Displaced {
                user,
                conversation: person(peer),
                origin: Seq(origin),
            })?,
            _ => return None,
        })
    }
}

impl Key {
    /// Table, partition, user and two more numbers.
    pub const LEN_MAX: usize = 1 + 2 + 3 * 8;

    /// A key of these bytes, if it is not too long to be one.
    #[must_use]
    pub fn from_bytes(source: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::LEN_MAX];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self { bytes, len: source.len() as u8 })
    }

    /// The key that follows immediately.
    pub(crate) fn successor(self) -> Option<Self> {
        let mut bytes = self.to_vec();
        if bytes.len() < Self::LEN_MAX {
            bytes.push(0);
        } else {
            while bytes.last() == Some(&u8::MAX) {
                bytes.pop();
            }
            *bytes.last_mut()? += 1;
        }
        Self::from_bytes(&bytes)
    }

    fn of_table(table: u8) -> Self {
        let mut bytes = [0; Self::LEN_MAX];
        bytes[0] = table;
        Self { bytes, len: 1 }
    }

    fn of_user(table: u8, user: UserId) -> Self {
        let mut key = Self::of_table(table);
        key.bytes[1..3].copy_from_slice(&partition_of(user).to_be_bytes());
        key.len = 3;
        key.then(user.0)
    }

    fn then_byte(mut self, byte: u8) -> Self {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
        self
    }

    fn then(mut self, number: u64) -> Self {
        let start = usize::from(self.len);
        self.bytes[start..start + 8].copy_from_slice(&number.to_be_bytes());
        self.len += 8;
        self
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RowKey::decode(self) {
            Ok(row) => row.fmt(f),
            Err(_) => write!(f, "Key({})", hex(self)),
        }
    }
}

impl SendsBlock {
    /// Sends in a block. A power of two that makes the merge rare and the row small: 100 to 200 bytes when it is full.
    pub const LEN: usize = 64;

    /// In the place of the seq of a send whose number was given up: the last seq of all, which no log reaches.
    pub const GIVEN_UP: Seq = Seq(u64::MAX);

    /// The block of a send and its place in it.
    #[must_use]
    pub const fn place(number: SendNumber) -> (SendsBlockNumber, usize) {
        (SendsBlockNumber(number.0 / Self::LEN as u64), (number.0 % Self::LEN as u64) as usize)
    }

    /// The highest send number that is known, of this block of the given number.
    #[must_use]
    pub fn last_number(&self, block: SendsBlockNumber) -> Option<SendNumber> {
        let place = self.seqs.iter().rposition(|&seq| seq != Seq::ZERO)?;
        Some(SendNumber(block.0 * Self::LEN as u64 + place as u64))
    }

    /// Fills what is not known here from `older`.
    pub fn fill_from(&mut self, older: &Self) {
        for (seq, older) in self.seqs.iter_mut().zip(older.seqs) {
            if *seq == Seq::ZERO {
                *seq = older;
            }
        }
    }
}

impl Default for SendsBlock {
    fn default() -> Self {
        Self { seqs: [Seq::ZERO; Self::LEN] }
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
    let mut last = Key { bytes: [u8::MAX; Key::LEN_MAX], len: Key::LEN_MAX as u8 };
    last.bytes[0] = table;
    (Key::of_table(table), last)
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
fn beside(bytes: &[u8]) -> Option<u64> {
    let [number] = numbers(bytes.strip_suffix(&[BESIDE])?)?;
    Some(number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = RowKey> {
        (0..23u8, any::<[u64; 3]>()).prop_map(|(table, [a, b, c])| {
            let user = UserId(a);
            match table {
                0 => RowKey::Timeline { user, seq: Seq(b) },
                1 => RowKey::Conversation { user, conversation: person(b), seq: Seq(c) },
                2 => RowKey::Sends { user, device: DeviceId(b), block: SendsBlockNumber(c) },
                3 => RowKey::Device { user, device: DeviceId(b) },
                4 => RowKey::Received { user, conversation: person(b) },
                5 => RowKey::Delivered { user, conversation: person(b) },
                6 => RowKey::Marks { user },
                7 => RowKey::Unfinished { user },
                8 => RowKey::Epoch { user, first: Seq(b) },
                9 => RowKey::Sent { user, conversation: person(b) },
                10 => RowKey::Read { user, conversation: person(b) },
                11 => RowKey::Seen { user, conversation: person(b) },
                12 => RowKey::Settings { user, conversation: person(b) },
                13 => RowKey::DeviceNotes { user },
                14 => RowKey::Removed { user, device: DeviceId(b) },
                15 => RowKey::First { user, seq: Seq(b) },
                16 => RowKey::Deleted { user, conversation: person(b), origin: Seq(c) },
                18 => RowKey::LastSends { user, device: DeviceId(b) },
                17 => RowKey::Displaced { user, conversation: person(b), origin: Seq(c) },
                19 => RowKey::LastSeen { user },
                20 => RowKey::Visibility { user },
                21 => RowKey::Last { user, conversation: person(b) },
                _ => RowKey::Migration,
            }
        })
    }

    proptest! {
        #[test]
        fn a_key_parses_back(row in any_key()) {
            prop_assert_eq!(RowKey::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn keys_of_a_log_order_as_user_and_seq(a in 1..5u64, b in 1..5u64, s in any::<u64>(), t in any::<u64>()) {
            let key = |user, seq| RowKey::Timeline { user: UserId(user), seq: Seq(seq) }.encode();
            let place = |user, seq| (partition_of(UserId(user)), user, seq);
            prop_assert_eq!(key(a, s).cmp(&key(b, t)), place(a, s).cmp(&place(b, t)));
        }

        #[test]
        fn keys_order_as_their_bytes(a in any_key(), b in any_key()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.encode().to_vec().cmp(&b.encode().to_vec()));
        }

        #[test]
        fn noise_is_no_key_or_the_same_key(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Ok(row) = RowKey::decode(&bytes) {
                prop_assert_eq!(row.encode().to_vec(), bytes);
            }
        }
    }

    #[test]
    fn what_is_read_together_stands_together() {
        let user = UserId(7);
        let rows = [
            RowKey::LastSeen { user },
            RowKey::Visibility { user },
            RowKey::Device { user, device: DeviceId(0) },
            RowKey::LastSends { user, device: DeviceId(0) },
            RowKey::Device { user, device: DeviceId(1) },
            RowKey::Device { user, device: DeviceId(u64::MAX) },
            RowKey::LastSends { user, device: DeviceId(u64::MAX) },
            RowKey::Epoch { user, first: Seq(0) },
            RowKey::Epoch { user, first: Seq(u64::MAX) },
            RowKey::Received { user, conversation: person(1) },
            RowKey::Sent { user, conversation: person(1) },
            RowKey::Received { user, conversation: person(2) },
            RowKey::Sent { user, conversation: person(u64::MAX) },
            RowKey::Last { user, conversation: person(0) },
            RowKey::Last { user, conversation: person(u64::MAX) },
        ];
        assert!(rows.map(RowKey::encode).is_sorted());
    }

    #[test]
    fn a_key_in_the_wrong_partition_is_refused() {
        let mut bytes = RowKey::Marks { user: UserId(7) }.encode().to_vec();
        bytes[1] ^= 1;
        assert_eq!(RowKey::decode(&bytes), Err(KeyError { bytes }));
    }

    #[test]
    fn the_layout_of_a_key_never_changes() {
        let key = RowKey::Timeline { user: UserId(7), seq: Seq(258) }.encode();
        assert_eq!(hex(&key), format!("01{:04x}00000000000000070000000000000102", partition_of(UserId(7))));
        assert_eq!(partition_of(UserId(7)), 0x63cb);
    }
}
