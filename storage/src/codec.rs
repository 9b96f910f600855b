//! The one place that uses bincode: records and stored values to bytes and back.
//!
//! bincode stays at 2.0.1: 3.0.0 on the registry is an empty tombstone. Should it have to go, this file and those in its folder are what
//! changes.
//! Owns the mirror types, because `proto-spec` knows no bincode and its types may change without the bytes changing.
//! Does not own keys (`schema`) nor what a record means (`fold`).
//!
//! Invariants: the order of variants and fields of the mirror types never changes (they are what is on disk); everything
//! is read as borrowed slices, so damaged bytes can neither panic nor make anybody allocate what they announce; what a mirror type has
//! been read as has been looked at as a whole, its lists too, so what is made of it cannot fail and all readers refuse the same bytes.

mod entries;
mod groups;
mod lists;
#[cfg(any(feature = "foundationdb", test))]
pub(crate) mod roll;
mod rows;

use bincode::{
    BorrowDecode, Encode,
    config::{self, Configuration},
    enc::write::Writer,
    error::EncodeError,
};
use proto_spec::{
    Content, ContentKind, ConversationId, DeviceId, Entry, EpochId, ErrorCode, Event, GroupId, MessageName, Removal,
    SendNumber, Seq, Settings, Show, Subscription, TimestampMs, UserId, Visibility,
};
use thiserror::Error;

pub(crate) use entries::*;
pub(crate) use groups::*;
pub(crate) use lists::StoredIds;
use lists::{StoredNoteList, StoredReactions, StoredReplacedList, StoredSpans};
pub(crate) use rows::*;

use crate::{
    group::GroupMarks,
    record::{DeviceNote, DeviceNotes, FirstResult, Marks, Notified, Record, Replaced, Rewrite, Shown},
    schema::{
        DisplacedRow, IndexRow, LastRow, MarkRow, ReadRow, ReceivedRow, SendsBlock, SendsBlockNumber, SettingsRow,
        VisibilityRow, Whose,
    },
};

/// The first byte of every stored value that has any. A value of another version is refused, never guessed at.
pub(crate) const VALUE_VERSION: u8 = 1;

/// The same of rows of the conversation index, since these say whose a message is.
const INDEX_VERSION: u8 = 2;

const CONFIG: Configuration = config::standard();

/// What errors call a record.
const RECORD: &str = "a record";

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The bytes end early, or a field has a value that it cannot have.
    #[error("cannot read {what}: {reason}")]
    Malformed {
        /// What should have stood there.
        what: &'static str,
        /// What was wrong with it.
        reason: String,
    },
    /// More bytes than the value has.
    #[error("{what} is followed by {bytes} bytes that do not belong to it")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many bytes are left.
        bytes: usize,
    },
    /// A value written by another version.
    #[error("{what} has format version {found}, this version reads {VALUE_VERSION}")]
    Version {
        /// What should have stood there.
        what: &'static str,
        /// The version byte.
        found: u8,
    },
}

/// Appends a record.
#[inline]
pub(crate) fn put_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Append { user, entry, replaces, count } => put_append(out, *user, entry, *replaces, *count),
        Record::Rewrite { user, entry, of } => put_rewrite(out, *user, entry, of),
        Record::Cursor { user, device, seq } => {
            put(out, &StoredRecord::Cursor { user: user.0, device: device.0, seq: seq.0 });
        }
        Record::Marks { user, marks, idle } => {
            let (forwarded, receipted) = (marks.forwarded.0, marks.receipted.0);
            put(out, &StoredRecord::Marks { user: user.0, forwarded, receipted, idle: *idle });
        }
        Record::Epoch { user, first, epoch, forgotten } => {
            let forgotten = forgotten.map(|seq| seq.0);
            put(out, &StoredRecord::Epoch { user: user.0, first: first.0, epoch: epoch.0, forgotten });
        }
        Record::Devices { user, notes } => {
            let devices = lists::notes(&notes.devices);
            put(out, &StoredRecord::Devices { user: user.0, notes: StoredNotes::of(notes, &devices) });
        }
        Record::Removed { user, device } => put(out, &StoredRecord::Removed { user: user.0, device: device.0 }),
        Record::GivenUp { user, device, number } => {
            put(out, &StoredRecord::GivenUp { user: user.0, device: device.0, number: number.0 });
        }
        Record::Subscribed { user, device, subscription } => {
            let subscription = subscription.as_ref().map(StoredSubscription::from);
            put(out, &StoredRecord::Subscribed { user: user.0, device: device.0, subscription });
        }
        Record::Due { user } => put(out, &StoredRecord::Due { user: user.0 }),
        Record::Notified { user, notified } => {
            let told = lists::told(&notified.told);
            put(out, &StoredRecord::Notified { user: user.0, notified: StoredNotified::of(notified, &told) });
        }
        Record::LastSeen { user, at } => put(out, &StoredRecord::LastSeen { user: user.0, at: at.0 }),
        Record::GroupAppend { group, entry, of } => put_group_append(out, *group, entry, of.as_ref()),
        Record::GroupState { group, state } => {
            put(out, &StoredRecord::GroupState { group: group.0, state: state.into() });
        }
        Record::GroupMember { group, user, row } => put_group_member(out, *group, *user, row),
        Record::GroupCame { group, from, row } => put_group_came(out, *group, *from, row),
        Record::GroupWants { group, user, wants } => {
            let wants = wants.map(Into::into);
            put(out, &StoredRecord::GroupWants { group: group.0, user: user.0, wants });
        }
        Record::GroupMarks { group, marks, idle } => {
            put(out, &StoredRecord::GroupMarks { group: group.0, told: marks.told.0, idle: *idle });
        }
    }
}

/// Appends the record of an entry, without taking the entry.
#[inline]
pub(crate) fn put_append(out: &mut Vec<u8>, user: UserId, entry: &Entry, replaces: Option<Seq>, count: u64) {
    let (user, replaces, seq) = (user.0, replaces.map(|seq| seq.0), entry.seq.0);
    match count {
        0 => put(out, &StoredRecord::Append { user, replaces, seq }),
        count => put(out, &StoredRecord::Counted { user, replaces, seq, count }),
    }
    put(out, &StoredEntry::from(entry));
}

/// Appends the record of an entry that changes a message, without taking the entry.
pub(crate) fn put_rewrite(out: &mut Vec<u8>, user: UserId, entry: &Entry, of: &Rewrite) {
    let (reactions, replaces) = (lists::reactions(&of.now), lists::replaced(&of.replaces));
    let of = StoredRewrite {
        place: of.place.0,
        now: StoredShown { says: of.now.says.0, reactions: StoredReactions::of(&reactions) },
        replaces: StoredReplacedList::of(&replaces),
        received: of.received.map(|row| (row.up_to.0, row.at.0, row.count)),
        last: of.last.map(|seq| seq.0),
    };
    put(out, &StoredRecord::Rewrite { user: user.0, seq: entry.seq.0, of });
    put(out, &StoredEntry::from(entry));
}

/// Takes a record off the front of `bytes`. After that of an append, counted or not, or of a rewrite its entry follows, for [`take_entry`];
/// after that of a group's entry the entry, for [`take_group_entry`].
#[inline]
pub(crate) fn take_record<'a>(bytes: &mut &'a [u8]) -> Result<StoredRecord<'a>, CodecError> {
    let (stored, len) = take(RECORD, bytes)?;
    *bytes = &bytes[len..];
    Ok(stored)
}

/// Takes the entry of a record off the front of `bytes`, and gives its bytes as well: they are those of its row, see
/// [`put_stored_entry`].
#[inline]
pub(crate) fn take_entry<'a>(bytes: &mut &'a [u8]) -> Result<(StoredEntry<'a>, &'a [u8]), CodecError> {
    take_with_bytes(bytes)
}

#[inline]
fn take_with_bytes<'a, T: BorrowDecode<'a, ()>>(bytes: &mut &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    let (taken, len) = take(RECORD, bytes)?;
    let (stored, rest) = bytes.split_at(len);
    *bytes = rest;
    Ok((taken, stored))
}

/// Takes a record with its entry off the front of `bytes`, as a value of its own.
pub(crate) fn take_owned(bytes: &mut &[u8]) -> Result<Record, CodecError> {
    Ok(match take_record(bytes)? {
        StoredRecord::Append { user, replaces, seq } => {
            let (entry, _) = take_entry(bytes)?;
            let (user, entry) = (UserId(user), entry.into_entry(Seq(seq)));
            Record::Append { user, entry, replaces: replaces.map(Seq), count: 0 }
        }
        StoredRecord::Counted { user, replaces, seq, count } => {
            let (entry, _) = take_entry(bytes)?;
            let (user, entry) = (UserId(user), entry.into_entry(Seq(seq)));
            Record::Append { user, entry, replaces: replaces.map(Seq), count }
        }
        StoredRecord::Rewrite { user, seq, of } => {
            let (entry, _) = take_entry(bytes)?;
            Record::Rewrite { user: UserId(user), entry: entry.into_entry(Seq(seq)), of: of.into() }
        }
        StoredRecord::Cursor { user, device, seq } => {
            Record::Cursor { user: UserId(user), device: DeviceId(device), seq: Seq(seq) }
        }
        StoredRecord::Marks { user, forwarded, receipted, idle } => Record::Marks {
            user: UserId(user),
            marks: Marks { forwarded: Seq(forwarded), receipted: Seq(receipted) },
            idle,
        },
        StoredRecord::Epoch { user, first, epoch, forgotten } => Record::Epoch {
            user: UserId(user),
            first: Seq(first),
            epoch: EpochId(epoch),
            forgotten: forgotten.map(Seq),
        },
        StoredRecord::Devices { user, notes } => Record::Devices { user: UserId(user), notes: notes.into() },
        StoredRecord::Removed { user, device } => Record::Removed { user: UserId(user), device: DeviceId(device) },
        StoredRecord::GivenUp { user, device, number } => {
            Record::GivenUp { user: UserId(user), device: DeviceId(device), number: SendNumber(number) }
        }
        StoredRecord::Subscribed { user, device, subscription } => Record::Subscribed {
            user: UserId(user),
            device: DeviceId(device),
            subscription: subscription.map(Into::into),
        },
        StoredRecord::Due { user } => Record::Due { user: UserId(user) },
        StoredRecord::Notified { user, notified } => Record::Notified { user: UserId(user), notified: notified.into() },
        StoredRecord::LastSeen { user, at } => Record::LastSeen { user: UserId(user), at: TimestampMs(at) },
        StoredRecord::GroupAppend { group, seq, of } => {
            let (entry, _) = take_group_entry(bytes)?;
            let (group, entry) = (GroupId(group), entry.into_entry(Seq(seq)));
            Record::GroupAppend { group, entry, of: of.map(Into::into) }
        }
        StoredRecord::GroupState { group, state } => Record::GroupState { group: GroupId(group), state: state.into() },
        StoredRecord::GroupMember { group, user, row } => {
            Record::GroupMember { group: GroupId(group), user: UserId(user), row: row.into() }
        }
        StoredRecord::GroupCame { group, from, row } => {
            Record::GroupCame { group: GroupId(group), from: UserId(from), row: row.into() }
        }
        StoredRecord::GroupWants { group, user, wants } => {
            Record::GroupWants { group: GroupId(group), user: UserId(user), wants: wants.map(Into::into) }
        }
        StoredRecord::GroupMarks { group, told, idle } => {
            Record::GroupMarks { group: GroupId(group), marks: GroupMarks { told: Seq(told) }, idle }
        }
    })
}

/// A record without the entry that follows an `Append`, a `Counted`, a `Rewrite` or a `GroupAppend`.
#[derive(Encode, BorrowDecode)]
pub(crate) enum StoredRecord<'a> {
    Append {
        user: u64,
        replaces: Option<u64>,
        seq: u64,
    },
    Cursor {
        user: u64,
        device: u64,
        seq: u64,
    },
    Marks {
        user: u64,
        forwarded: u64,
        receipted: u64,
        idle: bool,
    },
    Epoch {
        user: u64,
        first: u64,
        epoch: u64,
        forgotten: Option<u64>,
    },
    /// An `Append` with a count. Most have none.
    Counted {
        user: u64,
        replaces: Option<u64>,
        seq: u64,
        count: u64,
    },
    Devices {
        user: u64,
        notes: StoredNotes<'a>,
    },
    Removed {
        user: u64,
        device: u64,
    },
    Rewrite {
        user: u64,
        seq: u64,
        of: StoredRewrite<'a>,
    },
    GivenUp {
        user: u64,
        device: u64,
        number: u64,
    },
    LastSeen {
        user: u64,
        at: u64,
    },
    GroupAppend {
        group: u64,
        seq: u64,
        of: Option<StoredGroupRewrite<'a>>,
    },
    GroupState {
        group: u64,
        state: StoredGroupState<'a>,
    },
    GroupMember {
        group: u64,
        user: u64,
        row: StoredMemberRow<'a>,
    },
    GroupCame {
        group: u64,
        from: u64,
        row: StoredCameRow<'a>,
    },
    GroupMarks {
        group: u64,
        told: u64,
        idle: bool,
    },
    Subscribed {
        user: u64,
        device: u64,
        subscription: Option<StoredSubscription<'a>>,
    },
    Due {
        user: u64,
    },
    Notified {
        user: u64,
        notified: StoredNotified<'a>,
    },
    GroupWants {
        group: u64,
        user: u64,
        wants: Option<StoredWants>,
    },
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredNotes<'a> {
    told_at: u64,
    acknowledged: u64,
    devices: StoredNoteList<'a>,
}

#[derive(Encode, BorrowDecode)]
struct StoredNote<'a> {
    device: u64,
    seen_day: u64,
    name: &'a str,
}

impl<'a> StoredNotes<'a> {
    const fn of(notes: &DeviceNotes, devices: &'a [u8]) -> Self {
        let devices = StoredNoteList::of(devices);
        Self { told_at: notes.told_at.0, acknowledged: notes.acknowledged.0, devices }
    }
}

impl From<StoredNotes<'_>> for DeviceNotes {
    fn from(stored: StoredNotes<'_>) -> Self {
        let devices = stored.devices.items().flatten();
        let devices = devices.map(|StoredNote { device, seen_day, name }| DeviceNote {
            device: DeviceId(device),
            seen_day,
            name: name.into(),
        });
        Self { devices: devices.collect(), told_at: Seq(stored.told_at), acknowledged: Seq(stored.acknowledged) }
    }
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredSubscription<'a> {
    provider: u64,
    show: StoredShow,
    address: &'a str,
    key: &'a [u8],
    secret: &'a [u8],
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
enum StoredShow {
    Nothing,
    Sender,
    Text,
}

impl<'a> From<&'a Subscription> for StoredSubscription<'a> {
    fn from(Subscription { provider, show, address, key, secret }: &'a Subscription) -> Self {
        let show = match show {
            Show::Nothing => StoredShow::Nothing,
            Show::Sender => StoredShow::Sender,
            Show::Text => StoredShow::Text,
        };
        Self { provider: *provider, show, address, key, secret }
    }
}

impl From<StoredSubscription<'_>> for Subscription {
    fn from(StoredSubscription { provider, show, address, key, secret }: StoredSubscription<'_>) -> Self {
        let show = match show {
            StoredShow::Nothing => Show::Nothing,
            StoredShow::Sender => Show::Sender,
            StoredShow::Text => Show::Text,
        };
        Self { provider, show, address: address.to_owned(), key: key.to_vec(), secret: secret.to_vec() }
    }
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredNotified<'a> {
    up_to: u64,
    told: StoredSpans<'a>,
    told_in_groups: StoredSpans<'a>,
}

impl<'a> StoredNotified<'a> {
    const fn of(notified: &Notified, (people, groups): &'a (Vec<u8>, Vec<u8>)) -> Self {
        let (told, told_in_groups) = (StoredSpans::of(people.as_slice()), StoredSpans::of(groups.as_slice()));
        Self { up_to: notified.up_to.0, told, told_in_groups }
    }
}

impl From<StoredNotified<'_>> for Notified {
    fn from(stored: StoredNotified<'_>) -> Self {
        let people = stored.told.spans().map(|(peer, seq)| (UserId(peer.0).into(), seq));
        let groups = stored.told_in_groups.spans().map(|(group, seq)| (GroupId(group.0).into(), seq));
        Self { up_to: Seq(stored.up_to), told: people.chain(groups).collect() }
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredRewrite<'a> {
    place: u64,
    now: StoredShown<'a>,
    replaces: StoredReplacedList<'a>,
    received: Option<(u64, u64, u64)>,
    last: Option<u64>,
}

/// See [`Whose`].
#[derive(Encode, BorrowDecode)]
enum StoredIndex<'a> {
    Own,
    Came(u64),
    OwnChanged(StoredShown<'a>),
    Named(u64, StoredShown<'a>),
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
struct StoredShown<'a> {
    says: u64,
    reactions: StoredReactions<'a>,
}

#[derive(Encode, BorrowDecode)]
struct StoredReplaced {
    seq: u64,
    first: Option<StoredFirst>,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredFirst {
    time: u64,
    said: [u8; 16],
}

impl From<StoredRewrite<'_>> for Rewrite {
    fn from(stored: StoredRewrite<'_>) -> Self {
        let StoredRewrite { place, now, replaces, received, last } = stored;
        let row = |(up_to, at, count)| ReceivedRow { up_to: Seq(up_to), at: Seq(at), count };
        let mut replaces: Vec<_> = replaces.items().flatten().map(Replaced::from).collect();
        // Earlier builds wrote them in another order.
        replaces.sort_unstable_by_key(|replaced| replaced.seq);
        Self { place: Seq(place), now: now.into(), replaces, received: received.map(row), last: last.map(Seq) }
    }
}

impl From<StoredReplaced> for Replaced {
    fn from(stored: StoredReplaced) -> Self {
        Self { seq: Seq(stored.seq), first: stored.first.map(FirstResult::from) }
    }
}

impl From<StoredFirst> for FirstResult {
    fn from(stored: StoredFirst) -> Self {
        Self { time: TimestampMs(stored.time), said: stored.said }
    }
}

impl From<StoredShown<'_>> for Shown {
    fn from(stored: StoredShown<'_>) -> Self {
        Self { says: Seq(stored.says), reactions: stored.reactions.seqs().flatten().map(Seq).collect() }
    }
}

/// An offset is one more than the distance from `base`; zero is an empty slot.
#[derive(Encode, BorrowDecode)]
struct StoredSends {
    base: u64,
    offsets: [u64; SendsBlock::LEN],
}

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[inline]
fn put<T: Encode>(out: &mut Vec<u8>, value: &T) {
    bincode::encode_into_writer(value, Append(out), CONFIG).expect("appending to a Vec cannot fail");
}

#[inline]
fn take<'a, T: BorrowDecode<'a, ()>>(what: &'static str, bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
    bincode::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed { what, reason: error.to_string() })
}

#[inline]
fn put_value<T: Encode>(out: &mut Vec<u8>, stored: &T) {
    put_version(out, VALUE_VERSION, stored);
}

#[inline]
fn put_version<T: Encode>(out: &mut Vec<u8>, version: u8, stored: &T) {
    out.push(version);
    put(out, stored);
}

fn value_body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    body_of(what, VALUE_VERSION, bytes)
}

fn body_of<'a>(what: &'static str, version: u8, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    match bytes.split_first() {
        Some((found, body)) if *found == version => Ok(body),
        Some((&found, _)) => Err(CodecError::Version { what, found }),
        None => Err(CodecError::Malformed { what, reason: "it is empty".to_owned() }),
    }
}

fn read_value<'a, T: BorrowDecode<'a, ()>>(what: &'static str, bytes: &'a [u8]) -> Result<T, CodecError> {
    read_version(what, VALUE_VERSION, bytes)
}

fn read_version<'a, T: BorrowDecode<'a, ()>>(
    what: &'static str,
    version: u8,
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    let body = body_of(what, version, bytes)?;
    let (stored, len) = take(what, body)?;
    match body.len() - len {
        0 => Ok(stored),
        bytes => Err(CodecError::Trailing { what, bytes }),
    }
}

#[cfg(test)]
mod tests;
