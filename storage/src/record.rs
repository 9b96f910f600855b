//! Records: what a shard decides, as the journal keeps it. Rows are derived from records (see `fold`), so that one
//! record is the atomic unit: the entry of a send and the device's send number are the same record.
//!
//! Owns the records and their sequence in a batch; does not own their bytes (`codec`) nor their meaning as rows (`fold`).

use std::collections::BTreeMap;

use proto_spec::{
    ConversationId, DeviceId, Entry, EpochId, Event, GroupEntry, GroupId, SendNumber, Seq, Subscription, TimestampMs,
    UserId,
};

use crate::{
    codec::{self, CodecError},
    group::{CameRow, GroupMarks, GroupRewrite, GroupState, MemberRow, Wants},
    schema::ReceivedRow,
};

/// A lane: batches that become durable one after the other. A shard has one or several; all records of a user are in batches
/// of one lane, so that what is known of a user never has a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// A lane's own number of a batch: 1, 2, 3, ... since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// The first and the last batch of each lane that a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneSpans(BTreeMap<LaneId, (BatchId, BatchId)>);

impl LaneSpans {
    /// Takes the next batch of the journal.
    pub fn add(&mut self, lane: LaneId, batch: BatchId) {
        self.0.entry(lane).or_insert((batch, batch)).1 = batch;
    }

    /// Each lane with its first and its last batch, by ascending lane.
    pub fn iter(&self) -> impl Iterator<Item = (LaneId, BatchId, BatchId)> {
        self.0.iter().map(|(&lane, &(first, last))| (lane, first, last))
    }
}

/// How far a user's outgoing duties have been fulfilled. Both are seqs of the user's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Every message sent up to here is in its recipient's log.
    pub forwarded: Seq,
    /// Every message received up to here that a device acknowledged has been reported to its sender.
    pub receipted: Seq,
}

/// What is remembered of a user's devices beside their cursors: one row, written as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNotes {
    /// By ascending id. A device without a note was there before there were notes.
    pub devices: Vec<DeviceNote>,
    /// The entry of the log that tells of the last removal; zero if no device was ever removed.
    pub told_at: Seq,
    /// Up to here each entry has been acknowledged by one device or another, though none of those that are left may have all of it.
    pub acknowledged: Seq,
}

/// What is remembered of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNote {
    /// Which device.
    pub device: DeviceId,
    /// The day on which it was last connected, as days since 1970.
    pub seen_day: u64,
    /// What people call it; empty if it has no name.
    pub name: Box<str>,
}

/// How far a user was notified of what came: one row, written as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notified {
    /// Whether to notify was decided of every message received up to here.
    pub up_to: Seq,
    /// Conversations that notifications may show on some screen, with the last message that they were about: people, then
    /// groups, of each the last told at the end.
    pub told: Vec<(ConversationId, Seq)>,
}

/// How an entry changes an earlier message of its log, or reacts to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Where the message stands in its conversation: the seq that it had first.
    pub place: Seq,
    /// Which entries tell of the message from now on, this one among them.
    pub now: Shown,
    /// Those that told of it until now, each once, in any order; in a batch by ascending seq. They are superseded.
    pub replaces: Vec<Replaced>,
    /// If the entry was received: what is known of what was received in the conversation, with this entry. A message that is taken back before
    /// it was read does not count any more.
    pub received: Option<ReceivedRow>,
    /// If the last message of the conversation is deleted: where the one before it stands, zero if there is none.
    pub last: Option<Seq>,
}

/// The entries that tell of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Says what the message says. Zero: nothing does, for it was deleted.
    pub says: Seq,
    /// One for each user who has reacted to it, by ascending seq; at most [`REACTIONS_MAX`](proto_spec::limits::REACTIONS_MAX).
    pub reactions: Vec<Seq>,
}

impl Shown {
    /// All of them, the one that says what the message says first.
    pub fn seqs(&self) -> impl Iterator<Item = Seq> + '_ {
        std::iter::once(self.says).chain(self.reactions.iter().copied())
    }
}

/// An entry that is superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Where it was.
    pub seq: Seq,
    /// If it was sent from here: what is kept of it for who sends it again.
    pub first: Option<FirstResult>,
}

/// What is left of a send whose entry has been superseded: enough to answer a retry, and to tell it from another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstResult {
    /// When the entry was numbered.
    pub time: TimestampMs,
    /// A hash of what was sent.
    pub said: [u8; 16],
}

/// One durable fact. Applying a record twice equals applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry of a user's log.
    Append {
        /// Whose log.
        user: UserId,
        /// The entry; its seq is the one after the log's head.
        entry: Entry,
        /// An earlier entry of the log that this one supersedes.
        replaces: Option<Seq>,
        /// Of a received message: how many the conversation has, with this one. Of a read mark: how many of them are read.
        /// Otherwise zero.
        count: u64,
    },
    /// An entry that changes an earlier message of the log, or reacts to it, and is shown in its place.
    Rewrite {
        /// Whose log.
        user: UserId,
        /// The entry; its seq is the one after the log's head.
        entry: Entry,
        /// What it does.
        of: Rewrite,
    },
    /// A device's acknowledgement; with a seq of zero, the device's first connection.
    Cursor {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// Everything up to here has been received. Never decreases.
        seq: Seq,
    },
    /// Duties fulfilled.
    Marks {
        /// Whose.
        user: UserId,
        /// How far. Never decreases.
        marks: Marks,
        /// Nothing is left to forward or to report: a restart need not look at this user.
        idle: bool,
    },
    /// A new epoch of a log begins.
    Epoch {
        /// Whose log.
        user: UserId,
        /// The first entry of the epoch.
        first: Seq,
        /// Which.
        epoch: EpochId,
        /// The first entry of an epoch that is forgotten, for there are enough that are newer.
        forgotten: Option<Seq>,
    },
    /// What is remembered of a user's devices from now on.
    Devices {
        /// Whose devices.
        user: UserId,
        /// All of it.
        notes: DeviceNotes,
    },
    /// A device is gone for ever: its id is never taken again. No record of this device follows.
    Removed {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// A number of a device is void: no send becomes an entry under it.
    GivenUp {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// The one after the device's last.
        number: SendNumber,
    },
    /// An entry of a group's log.
    GroupAppend {
        /// Whose log.
        group: GroupId,
        /// The entry; its seq is the one after the log's head.
        entry: GroupEntry,
        /// What it changes of what earlier ones say.
        of: Option<GroupRewrite>,
    },
    /// What a group is called from now on, and how it goes on there.
    GroupState {
        /// Which.
        group: GroupId,
        /// All of it.
        state: GroupState,
    },
    /// A row of a group's roll from now on.
    GroupMember {
        /// Of which group.
        group: GroupId,
        /// Whose.
        user: UserId,
        /// All of it.
        row: MemberRow,
    },
    /// What has come to a group of an author, where something of it was refused. An entry of the group's log says by itself that it has come,
    /// and that nothing was refused lately.
    GroupCame {
        /// To which group.
        group: GroupId,
        /// Who sent it.
        from: UserId,
        /// All of it. `up_to` never decreases.
        row: CameRow,
    },
    /// Of which messages a member's home wants to be told, for notifications.
    GroupWants {
        /// Of which group.
        group: GroupId,
        /// The member.
        user: UserId,
        /// Of which; none: no device of theirs is subscribed.
        wants: Option<Wants>,
    },
    /// What a group's home has told others.
    GroupMarks {
        /// Of which group.
        group: GroupId,
        /// How far. Never decreases.
        marks: GroupMarks,
        /// Nothing is left to tell: a restart need not look at this group. Else it does.
        idle: bool,
    },
    /// Notifications for a device go there from now on.
    Subscribed {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// Where; none: nowhere.
        subscription: Option<Subscription>,
    },
    /// A user has something to be notified of: a restart looks at this user.
    Due {
        /// Who.
        user: UserId,
    },
    /// How far a user was notified.
    Notified {
        /// Who.
        user: UserId,
        /// All of it.
        notified: Notified,
    },
    /// A user was last connected then. The newest record counts, whatever time it has.
    LastSeen {
        /// Who.
        user: UserId,
        /// When.
        at: TimestampMs,
    },
}

impl Record {
    /// See [`Batch::is_urgent`].
    const fn is_urgent(&self) -> bool {
        match self {
            Self::Cursor { .. } | Self::Marks { .. } | Self::GroupMarks { .. } | Self::LastSeen { .. } => false,
            Self::Append { entry, .. } => is_urgent(&entry.event),
            _ => true,
        }
    }
}

/// Receipts tell of what has happened already.
const fn is_urgent(event: &Event) -> bool {
    !matches!(event, Event::Delivered { .. } | Event::Seen { .. })
}

/// The records of one turn of one shard, encoded. Becomes durable as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u32,
    /// Somebody waits for one of them.
    is_urgent: bool,
    /// Entries that its changes of messages supersede.
    superseded: usize,
}

/// What an entry that a change of a message supersedes adds to [`Batch::weight`]. A record has one byte of it, or a few; a database is told
/// its key twice.
const SUPERSEDED_WEIGHT: usize = 32;

impl Batch {
    /// Appends one record. The bytes of its content are copied once, into the batch.
    pub fn push(&mut self, record: &Record) {
        codec::put_record(&mut self.bytes, record);
        self.records += 1;
        self.is_urgent |= record.is_urgent();
        self.superseded += match record {
            Record::Rewrite { of, .. } => of.replaces.len(),
            Record::GroupAppend { of: Some(of), .. } => of.replaces.len(),
            _ => 0,
        };
    }

    /// As [`Batch::push`] of a [`Record::Append`], without taking the entry.
    pub fn append(&mut self, user: UserId, entry: &Entry, replaces: Option<Seq>, count: u64) {
        codec::put_append(&mut self.bytes, user, entry, replaces, count);
        self.records += 1;
        self.is_urgent |= is_urgent(&entry.event);
    }

    /// As [`Batch::push`] of a [`Record::Rewrite`], without taking the entry.
    pub fn rewrite(&mut self, user: UserId, entry: &Entry, of: &Rewrite) {
        codec::put_rewrite(&mut self.bytes, user, entry, of);
        self.records += 1;
        self.is_urgent = true;
        self.superseded += of.replaces.len();
    }

    /// As [`Batch::push`] of a [`Record::GroupAppend`], without taking the entry.
    pub fn group_append(&mut self, group: GroupId, entry: &GroupEntry, of: Option<&GroupRewrite>) {
        codec::put_group_append(&mut self.bytes, group, entry, of);
        self.records += 1;
        self.is_urgent = true;
        self.superseded += of.map_or(0, |of| of.replaces.len());
    }

    /// Whether somebody waits for one of the records: a person for a message, say. Else the batch may wait a little for one of which that is
    /// so, and become durable with it: how far devices and duties are, receipts.
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records as usize
    }

    /// The encoded records.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much of a transaction the batch takes up, in bytes of records that do no more than to set a few rows: its own bytes, and more where
    /// few of them clear many rows. A message that is taken back takes all reactions with it.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.bytes.len() + self.superseded * SUPERSEDED_WEIGHT
    }

    /// Empties the batch, keeping its allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.is_urgent = false;
        self.superseded = 0;
    }
}

/// Reads the records of an encoded batch, in the order in which they were pushed. Ends after the first error.
///
/// # Errors
/// An item is an error when the bytes are not what [`Batch::bytes`] gave.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record, CodecError>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = codec::take_owned(&mut rest);
        if read.is_err() {
            rest = &[];
        }
        Some(read)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use proto_spec::{Content, MessageName};

    use super::*;
    use crate::testing::any_record;

    #[test]
    fn a_batch_is_urgent_if_somebody_waits_for_one_of_its_records() {
        let user = UserId(1);
        let entry = |event| Entry { seq: Seq(1), time: TimestampMs(1), event };
        let receipt = entry(Event::Delivered { peer: UserId(2), up_to: Seq(1) });
        let message =
            entry(Event::Received { from: UserId(2), origin: Seq(1), content: Content::Text(b"a"[..].into()) });
        let mut batch = Batch::default();
        batch.push(&Record::Cursor { user, device: DeviceId(1), seq: Seq(1) });
        batch.push(&Record::Append { user, entry: receipt.clone(), replaces: None, count: 0 });
        batch.append(user, &receipt, None, 0);
        assert!(!batch.is_urgent());
        batch.append(user, &message, None, 1);
        batch.push(&Record::Cursor { user, device: DeviceId(1), seq: Seq(1) });
        assert!(batch.is_urgent());
        batch.clear();
        assert!(!batch.is_urgent());
        batch.push(&Record::Append { user, entry: message, replaces: None, count: 1 });
        assert!(batch.is_urgent());
    }

    proptest! {
        #[test]
        fn a_batch_gives_its_records_back_in_order(pushed in vec(any_record(), 0..20)) {
            let mut batch = Batch::default();
            pushed.iter().for_each(|record| batch.push(record));
            prop_assert_eq!(batch.len(), pushed.len());
            let read: Result<Vec<_>, _> = records(batch.bytes()).collect();
            prop_assert_eq!(read.as_ref(), Ok(&pushed));

            let mut appended = Batch::default();
            for record in &pushed {
                match record {
                    Record::Append { user, entry, replaces, count } => appended.append(*user, entry, *replaces, *count),
                    Record::Rewrite { user, entry, of } => appended.rewrite(*user, entry, of),
                    Record::GroupAppend { group, entry, of } => appended.group_append(*group, entry, of.as_ref()),
                    Record::Cursor { .. }
                    | Record::Marks { .. }
                    | Record::Epoch { .. }
                    | Record::Devices { .. }
                    | Record::Removed { .. }
                    | Record::GivenUp { .. }
                    | Record::GroupState { .. }
                    | Record::GroupMember { .. }
                    | Record::GroupCame { .. }
                    | Record::GroupWants { .. }
                    | Record::GroupMarks { .. }
                    | Record::Subscribed { .. }
                    | Record::Due { .. }
                    | Record::Notified { .. }
                    | Record::LastSeen { .. } => appended.push(record),
                }
            }
            prop_assert_eq!(appended, batch);
        }
    }

    #[test]
    fn what_clears_many_rows_weighs_more_than_its_bytes() {
        let append = |replaces: u64| {
            let content = Content::unsend(MessageName { author: UserId(2), seq: Seq(1) }, None);
            let (time, origin) = (TimestampMs(1), Seq(1));
            let entry = GroupEntry { seq: Seq(100), time, from: UserId(2), origin, messages: 1, content };
            let now = Shown { says: Seq(100), reactions: Vec::new() };
            let of = GroupRewrite { place: Seq(1), now, replaces: (1..=replaces).map(Seq).collect() };
            Record::GroupAppend { group: GroupId(1), entry, of: Some(of) }
        };
        let mut batch = Batch::default();
        batch.push(&Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(3) });
        assert_eq!(batch.weight(), batch.bytes().len());
        batch.push(&append(65));
        assert_eq!(batch.weight(), batch.bytes().len() + 65 * 32);
        batch.clear();
        assert_eq!(batch.weight(), 0);
    }

    #[test]
    fn reading_ends_at_the_first_damage() {
        let mut batch = Batch::default();
        let record = Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(3) };
        batch.push(&record);
        let mut bytes = batch.bytes().to_vec();
        bytes.extend([0xff, 0xff, 1]);
        let read: Vec<_> = records(&bytes).collect();
        assert_eq!(read[0], Ok(record));
        assert!(matches!(read[1], Err(CodecError::Malformed { .. })));
        assert_eq!(read.len(), 2);
    }
}
