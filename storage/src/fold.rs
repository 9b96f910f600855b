//! PURE: records, in the order of the journal, to the rows that they leave behind.
//!
//! Owns what a record means as rows. Does no I/O: `sends` rows are merged with the rows that are already in the store,
//! so the fold first says which of those it needs ([`Fold::needed`]) and then takes them ([`Fold::finish`]).
//!
//! Invariants: one change for each key, the one of the last record; folding twice, or folding the parts of a sequence of
//! records one after the other, leaves the same rows as folding the sequence once.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use proto_spec::{DeviceId, Entry, Event, SendNumber, Seq, UserId};

use crate::{
    codec,
    record::{Marks, Record},
    run::{Run, RunBuilder},
    schema::{DeliveredRow, Key, RowKey, SendsBlock},
};

/// A run that is being gathered.
#[derive(Debug, Default)]
pub struct Fold {
    /// Rows that records write once, or nearly so.
    rows: RunBuilder,
    /// Rows that many records of a run write; the last one stays.
    states: HashMap<Key, State, RandomState>,
    sends: HashMap<Key, Sends, RandomState>,
    records: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Device(Seq),
    Received(Seq),
    Delivered(DeliveredRow),
    Marks(Marks),
    Unfinished,
    Finished,
}

#[derive(Debug, Default)]
struct Sends {
    block: SendsBlock,
    /// The first send of the block is in this run: the store has none of an earlier run.
    from_the_first: bool,
}

impl Fold {
    /// Takes the next record.
    pub fn add(&mut self, record: &Record) {
        self.records += 1;
        match record {
            Record::Append { user, entry, replaces } => self.append(*user, entry, *replaces),
            Record::Cursor { user, device, seq } => {
                self.set(RowKey::Device { user: *user, device: *device }, State::Device(*seq));
                self.set(RowKey::Unfinished { user: *user }, State::Unfinished);
            }
            Record::Marks { user, marks, idle } => {
                self.set(RowKey::Marks { user: *user }, State::Marks(*marks));
                if *idle {
                    self.set(RowKey::Unfinished { user: *user }, State::Finished);
                }
            }
        }
    }

    fn append(&mut self, user: UserId, entry: &Entry, replaces: Option<Seq>) {
        let seq = entry.seq;
        self.rows.put(RowKey::Timeline { user, seq }.encode(), |out| codec::put_timeline_entry(out, entry));
        if let Some(peer) = entry.event.conversation() {
            self.rows.put(RowKey::Conversation { user, peer, seq }.encode(), |_| ());
        }
        if let Some(replaced) = replaces {
            self.rows.delete(RowKey::Timeline { user, seq: replaced }.encode());
        }
        match entry.event {
            Event::Received { from: peer, origin, .. } => {
                self.set(RowKey::Received { user, peer }, State::Received(origin));
            }
            Event::Sent { device, number, .. } => {
                self.sent(user, device, number, seq);
                self.set(RowKey::Unfinished { user }, State::Unfinished);
            }
            Event::Delivered { peer, up_to } => {
                self.set(RowKey::Delivered { user, peer }, State::Delivered(DeliveredRow { up_to, at: seq }));
            }
            Event::Unknown { .. } => {}
        }
    }

    fn sent(&mut self, user: UserId, device: DeviceId, number: SendNumber, seq: Seq) {
        let (block, place) = SendsBlock::place(number);
        let sends = self.sends.entry(RowKey::Sends { user, device, block }.encode()).or_default();
        sends.block.seqs[place] = seq;
        // Numbers begin at one and have no gaps.
        sends.from_the_first |= place == 0 || number == SendNumber(1);
    }

    fn set(&mut self, key: RowKey, state: State) {
        self.states.insert(key.encode(), state);
    }

    /// The rows of the store that [`Fold::finish`] must be given, by ascending key.
    #[must_use]
    pub fn needed(&self) -> Vec<Key> {
        let needed = self.sends.iter().filter(|(_, sends)| !sends.from_the_first);
        let mut keys: Vec<_> = needed.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// How many records were taken.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The rows. `base` holds, for each of the needed keys in their order, what the store has.
    ///
    /// # Panics
    /// `base` has not as many items as there are needed keys.
    #[must_use]
    pub fn finish(mut self, base: Vec<Option<SendsBlock>>) -> Run {
        let needed = self.needed();
        assert_eq!(base.len(), needed.len(), "a base row for each needed key");
        for (key, older) in needed.into_iter().zip(base) {
            let sends = self.sends.get_mut(&key).expect("a needed key is one of the fold");
            sends.block.fill_from(&older.unwrap_or_default());
        }
        let Self { mut rows, states, sends, .. } = self;
        for (key, Sends { block, .. }) in sends {
            rows.put(key, |out| codec::put_sends_block(out, &block));
        }
        for (key, state) in states {
            match state {
                State::Device(seq) | State::Received(seq) => rows.put(key, |out| codec::put_seq(out, seq)),
                State::Delivered(row) => rows.put(key, |out| codec::put_delivered(out, row)),
                State::Marks(marks) => rows.put(key, |out| codec::put_marks(out, marks)),
                State::Unfinished => rows.put(key, |_| ()),
                State::Finished => rows.delete(key),
            }
        }
        rows.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{run::Change, testing::history};

    type Rows = BTreeMap<Key, Vec<u8>>;

    fn apply(rows: &mut Rows, records: &[Record]) {
        let mut fold = Fold::default();
        records.iter().for_each(|record| fold.add(record));
        let base: Vec<_> =
            fold.needed().iter().map(|key| rows.get(key).map(|value| codec::sends_block(value).unwrap())).collect();
        for (key, change) in fold.finish(base).iter() {
            match change {
                Change::Put(value) => drop(rows.insert(*key, value.to_vec())),
                Change::Delete => drop(rows.remove(key)),
            }
        }
    }

    fn folded(records: &[Record]) -> Rows {
        let mut rows = Rows::new();
        apply(&mut rows, records);
        rows
    }

    proptest! {
        #[test]
        fn folding_in_parts_equals_folding_at_once(records in history(200), cuts in vec(0..200usize, 0..4)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(records.len())).collect();
            cuts.extend([0, records.len()]);
            cuts.sort_unstable();
            let mut rows = Rows::new();
            cuts.windows(2).for_each(|part| apply(&mut rows, &records[part[0]..part[1]]));
            prop_assert_eq!(rows, folded(&records));
        }

        #[test]
        fn folding_again_from_any_earlier_place_changes_nothing(
            records in history(200), from in 0..200usize, to in 0..200usize
        ) {
            let (from, to) = (from.min(records.len()), to.min(records.len()));
            let mut rows = folded(&records);
            // A crash between ingestion and the end of a journal: the runs from some place on are applied again.
            apply(&mut rows, &records[from..to.max(from)]);
            apply(&mut rows, &records[to.max(from)..]);
            prop_assert_eq!(rows, folded(&records));
        }
    }

    #[test]
    fn a_superseded_entry_leaves_no_row() {
        let user = UserId(1);
        let delivered = |seq, up_to, replaces| Record::Append {
            user,
            entry: Entry {
                seq: Seq(seq),
                time: proto_spec::TimestampMs(1),
                event: Event::Delivered { peer: UserId(2), up_to: Seq(up_to) },
            },
            replaces,
        };
        let rows = folded(&[delivered(5, 1, None), delivered(6, 2, Some(Seq(5)))]);
        assert!(!rows.contains_key(&RowKey::Timeline { user, seq: Seq(5) }.encode()));
        assert!(rows.contains_key(&RowKey::Timeline { user, seq: Seq(6) }.encode()));
        let row = codec::delivered(&rows[&RowKey::Delivered { user, peer: UserId(2) }.encode()]);
        assert_eq!(row, Ok(DeliveredRow { up_to: Seq(2), at: Seq(6) }));
    }

    #[test]
    fn a_user_is_unfinished_from_a_cursor_to_idle_marks() {
        let user = UserId(1);
        let key = RowKey::Unfinished { user }.encode();
        let cursor = Record::Cursor { user, device: DeviceId(1), seq: Seq::ZERO };
        let marks = |idle| Record::Marks { user, marks: Marks::default(), idle };
        assert!(folded(std::slice::from_ref(&cursor)).contains_key(&key));
        assert!(folded(&[cursor.clone(), marks(false)]).contains_key(&key));
        assert!(!folded(&[cursor.clone(), marks(true)]).contains_key(&key));
        assert!(folded(&[cursor.clone(), marks(true), cursor]).contains_key(&key));
    }

    #[test]
    fn a_block_begun_in_this_run_needs_no_read() {
        let mut fold = Fold::default();
        let sent = |number| Record::Append {
            user: UserId(1),
            entry: Entry {
                seq: Seq(number),
                time: proto_spec::TimestampMs(1),
                event: Event::Sent {
                    to: UserId(2),
                    device: DeviceId(3),
                    number: SendNumber(number),
                    content: proto_spec::Content::text(""),
                },
            },
            replaces: None,
        };
        (1..=130).for_each(|number| fold.add(&sent(number)));
        assert_eq!(fold.needed().len(), 0);
        let mut fold = Fold::default();
        (2..=65).for_each(|number| fold.add(&sent(number)));
        assert_eq!(fold.needed().len(), 1);
    }
}
