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
    Content, ContentKind, ConversationId, DeviceId, Entry, EpochId, Event, MessageName, Removal, SendNumber, Seq,
    Settings, TimestampMs, UserId, Visibility,
};
use thiserror::Error;

pub(crate) use lists::StoredIds;
use lists::{StoredNoteList, StoredReactions, StoredReplacedList};
pub(crate) use rows::*;

use crate::{
    record::{DeviceNote, DeviceNotes, FirstResult, Marks, Record, Replaced, Rewrite, Shown},
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
        Record::LastSeen { user, at } => put(out, &StoredRecord::LastSeen { user: user.0, at: at.0 }),
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

/// Takes a record off the front of `bytes`. After that of an append, counted or not, or of a rewrite its entry follows, for [`take_entry`].
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
    let (entry, len) = take(RECORD, bytes)?;
    let (stored, rest) = bytes.split_at(len);
    *bytes = rest;
    Ok((entry, stored))
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
        StoredRecord::LastSeen { user, at } => Record::LastSeen { user: UserId(user), at: TimestampMs(at) },
    })
}

/// A record without the entry that follows an `Append`, a `Counted` or a `Rewrite`.
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

/// An entry without its seq, in a record and in a row.
// The time stands first: `timeline_time` reads it alone.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredEntry<'a> {
    time: u64,
    pub(crate) event: StoredEvent<'a>,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum StoredEvent<'a> {
    Received { from: u64, origin: u64, content: StoredContent<'a> },
    Sent { to: u64, device: u64, number: u64, content: StoredContent<'a> },
    Delivered { peer: u64, up_to: u64 },
    Unknown { kind: u8 },
    Read { peer: u64, up_to: u64, unread: u64, told: u64 },
    Seen { peer: u64, up_to: u64 },
    Settings { peer: u64, settings: u64 },
    Devices { removed: u64, why: StoredRemoval, devices: StoredIds<'a> },
    Deleted { peer: u64, author: u64, author_seq: u64, place: u64, unread: u64 },
    Visibility { visibility: u64 },
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum StoredRemoval {
    User,
    Room,
    Operator,
}

impl From<Removal> for StoredRemoval {
    fn from(why: Removal) -> Self {
        match why {
            Removal::User => Self::User,
            Removal::Room => Self::Room,
            Removal::Operator => Self::Operator,
        }
    }
}

impl From<StoredRemoval> for Removal {
    fn from(why: StoredRemoval) -> Self {
        match why {
            StoredRemoval::User => Self::User,
            StoredRemoval::Room => Self::Room,
            StoredRemoval::Operator => Self::Operator,
        }
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredContent<'a> {
    kind: u8,
    body: &'a [u8],
}

impl StoredContent<'_> {
    /// The name of the message that it is about.
    pub(crate) fn about(&self) -> Option<MessageName> {
        // Nearly all content is a message: its body is not looked at.
        if ContentKind::from_byte(self.kind).is_none_or(ContentKind::is_message) {
            return None;
        }
        Content::from_parts(self.kind, self.body.into()).about().map(|(name, _)| name)
    }
}

/// An offset is one more than the distance from `base`; zero is an empty slot.
#[derive(Encode, BorrowDecode)]
struct StoredSends {
    base: u64,
    offsets: [u64; SendsBlock::LEN],
}

impl<'a> From<&'a Entry> for StoredEntry<'a> {
    fn from(entry: &'a Entry) -> Self {
        let event = match &entry.event {
            Event::Received { from, origin, content } => {
                StoredEvent::Received { from: from.0, origin: origin.0, content: content.into() }
            }
            Event::Sent { to: ConversationId::Person(to), device, number, content } => {
                StoredEvent::Sent { to: to.0, device: device.0, number: number.0, content: content.into() }
            }
            Event::Delivered { peer, up_to } => StoredEvent::Delivered { peer: peer.0, up_to: up_to.0 },
            Event::Read { conversation: ConversationId::Person(peer), up_to, unread, told } => {
                StoredEvent::Read { peer: peer.0, up_to: up_to.0, unread: *unread, told: told.0 }
            }
            Event::Seen { peer, up_to } => StoredEvent::Seen { peer: peer.0, up_to: up_to.0 },
            Event::Settings { conversation: ConversationId::Person(peer), settings } => {
                StoredEvent::Settings { peer: peer.0, settings: settings.bits() }
            }
            Event::Deleted { conversation: ConversationId::Person(peer), of, place, unread } => StoredEvent::Deleted {
                peer: peer.0,
                author: of.author.0,
                author_seq: of.seq.0,
                place: place.0,
                unread: *unread,
            },
            Event::Visibility { visibility } => StoredEvent::Visibility { visibility: visibility.bits() },
            Event::Unknown { kind } => StoredEvent::Unknown { kind: *kind },
            Event::Devices { removed, why, devices } => {
                StoredEvent::Devices { removed: removed.0, why: (*why).into(), devices: StoredIds::Ids(devices) }
            }
        };
        Self { time: entry.time.0, event }
    }
}

impl StoredEntry<'_> {
    fn into_entry(self, seq: Seq) -> Entry {
        let event = match self.event {
            StoredEvent::Received { from, origin, content } => {
                Event::Received { from: UserId(from), origin: Seq(origin), content: content.into() }
            }
            StoredEvent::Sent { to, device, number, content } => Event::Sent {
                to: UserId(to).into(),
                device: DeviceId(device),
                number: SendNumber(number),
                content: content.into(),
            },
            StoredEvent::Delivered { peer, up_to } => Event::Delivered { peer: UserId(peer), up_to: Seq(up_to) },
            StoredEvent::Read { peer, up_to, unread, told } => {
                Event::Read { conversation: UserId(peer).into(), up_to: Seq(up_to), unread, told: Seq(told) }
            }
            StoredEvent::Seen { peer, up_to } => Event::Seen { peer: UserId(peer), up_to: Seq(up_to) },
            StoredEvent::Settings { peer, settings } => {
                Event::Settings { conversation: UserId(peer).into(), settings: Settings::from_bits(settings) }
            }
            StoredEvent::Deleted { peer, author, author_seq, place, unread } => Event::Deleted {
                conversation: UserId(peer).into(),
                of: MessageName { author: UserId(author), seq: Seq(author_seq) },
                place: Seq(place),
                unread,
            },
            StoredEvent::Visibility { visibility } => {
                Event::Visibility { visibility: Visibility::from_bits(visibility) }
            }
            StoredEvent::Unknown { kind } => Event::Unknown { kind },
            StoredEvent::Devices { removed, why, devices } => {
                Event::Devices { removed: DeviceId(removed), why: why.into(), devices: devices.into() }
            }
        };
        Entry { seq, time: TimestampMs(self.time), event }
    }
}

impl<'a> From<&'a Content> for StoredContent<'a> {
    fn from(content: &'a Content) -> Self {
        let (kind, body) = content.parts();
        Self { kind, body }
    }
}

impl From<StoredContent<'_>> for Content {
    fn from(stored: StoredContent<'_>) -> Self {
        Self::from_parts(stored.kind, stored.body.into())
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_entry, any_record};

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    proptest! {
        #[test]
        fn a_record_survives_the_round_trip(record in any_record()) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, &record);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_owned(&mut rest), Ok(record));
            prop_assert_eq!(rest, b"");
        }

        #[test]
        fn every_prefix_of_a_record_is_refused_by_name(record in any_record()) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, &record);
            for cut in 0..bytes.len() {
                let refused = take_owned(&mut &bytes[..cut]);
                let named = matches!(refused, Err(CodecError::Malformed { what: "a record", .. }));
                prop_assert!(named, "{:?}", refused);
            }
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_owned(&mut &bytes[..]);
            let _ = timeline_entry(Seq(1), &bytes);
            let _ = timeline_time(&bytes);
            let _ = sends_block(&bytes);
            let _ = (received(&bytes), mark("a delivered row", &bytes), read(&bytes), settings(&bytes));
            let _ = (visibility(&bytes), last_seen(&bytes), last(&bytes));
            let _ = marks(&bytes);
            let _ = device_notes(&bytes);
            let _ = (seq("a device row", &bytes), first(&bytes), index(Seq(1), &bytes), displaced(&bytes), last_sends(&bytes));
        }

        #[test]
        fn a_timeline_value_survives_the_round_trip(entry in any_entry()) {
            let record = written(|out| put_append(out, UserId(1), &entry, None, 0));
            let mut rest = &record[..];
            take_record(&mut rest).unwrap();
            let (_, stored) = take_entry(&mut rest).unwrap();
            let bytes = written(|out| put_stored_entry(out, stored));
            prop_assert_eq!(&bytes, &written(|out| put_timeline_entry(out, &entry)));
            prop_assert_eq!(timeline_time(&bytes), Ok(entry.time));
            prop_assert_eq!(timeline_entry(entry.seq, &bytes), Ok(entry));
        }

        #[test]
        fn a_sends_block_survives_the_round_trip(
            seqs in proptest::array::uniform32(any::<u64>()), given_up in 0..SendsBlock::LEN
        ) {
            let mut block = SendsBlock::default();
            for (slot, seq) in seqs.into_iter().enumerate() {
                block.seqs[slot * 2] = Seq(seq);
            }
            block.seqs[given_up] = SendsBlock::GIVEN_UP;
            prop_assert_eq!(sends_block(&written(|out| put_sends_block(out, &block))), Ok(block));
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        // Append, user 1, no replaces, seq 1, time 1, Sent to 1 by device 1 number 1, a text of 2^64 - 1 bytes.
        let mut bytes = vec![0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 253];
        bytes.extend([0xff; 8]);
        assert!(matches!(take_owned(&mut &bytes[..]), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn a_value_of_another_version_is_refused_by_its_number() {
        let mut bytes = written(|out| put_seq(out, Seq(7)));
        bytes[0] = 9;
        assert_eq!(seq("a device row", &bytes), Err(CodecError::Version { what: "a device row", found: 9 }));
    }

    #[test]
    fn what_earlier_builds_wrote_in_another_order_reads_as_what_is_written_now() {
        let replaces = [5, 9].map(|seq| Replaced { seq: Seq(seq), first: None }).to_vec();
        let now = Shown { says: Seq(11), reactions: Vec::new() };
        let of = Rewrite { place: Seq(3), now, replaces, received: None, last: None };
        let event = Event::Unknown { kind: 99 };
        let entry = Entry { seq: Seq(11), time: TimestampMs(1), event };
        let mut batch = crate::record::Batch::default();
        batch.push(&Record::Rewrite { user: UserId(1), entry, of });
        let mut earlier = batch.bytes().to_vec();
        let at = earlier.windows(4).position(|window| window == [5, 0, 9, 0]).unwrap();
        earlier[at..at + 4].copy_from_slice(&[9, 0, 5, 0]);
        let read = |bytes: &[u8]| crate::record::records(bytes).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(read(&earlier), read(batch.bytes()));
    }

    #[test]
    fn bytes_after_a_value_are_refused() {
        let mut bytes = written(|out| put_seq(out, Seq(7)));
        bytes.push(0);
        assert_eq!(seq("a device row", &bytes), Err(CodecError::Trailing { what: "a device row", bytes: 1 }));
    }
}
