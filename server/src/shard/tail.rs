//! Tail: the newest entries of a user's log, which are not in the store yet.
//!
//! A log's seqs have no gaps, so an entry's place is its seq's distance from the first: nothing is searched. An entry
//! that is superseded leaves its place, because closing the gap would move all that lies behind it, and what it had superseded itself,
//! which the store may have still.
//!
//! Invariant: the last place has its entry.

use std::collections::VecDeque;

use proto_spec::{Entry, Seq};
use storage::BatchId;

/// An entry that is not in the store yet.
#[derive(Debug)]
pub(super) struct TailEntry {
    pub(super) entry: Entry,
    /// An earlier entry that this one supersedes, once it is released.
    pub(super) replaces: Option<Seq>,
    /// As its record has it. Of a deletion: how many are unread no more.
    pub(super) count: u64,
    pub(super) batch: BatchId,
}

/// The entries of one user that are not in the store yet, by ascending seq.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The seq of the first place.
    first: Seq,
    places: VecDeque<Place>,
}

#[derive(Debug)]
enum Place {
    Entry(TailEntry),
    /// What its entry has superseded is still to be told of what the store has.
    Superseded {
        replaces: Option<Seq>,
        batch: BatchId,
    },
}

impl Place {
    const fn entry(&self) -> Option<&TailEntry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Superseded { .. } => None,
        }
    }

    const fn origin(&self) -> (Option<Seq>, BatchId) {
        match self {
            Self::Entry(TailEntry { replaces, batch, .. }) | Self::Superseded { replaces, batch } => {
                (*replaces, *batch)
            }
        }
    }
}

impl Tail {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends the log's next entry.
    pub(super) fn push(&mut self, entry: TailEntry) {
        let seq = entry.entry.seq;
        if self.places.is_empty() {
            self.first = seq;
        }
        assert_eq!(seq.0, self.first.0 + self.places.len() as u64, "the seqs of a log have no gaps");
        self.places.push_back(Place::Entry(entry));
    }

    /// The entry with this seq, if it is here.
    pub(super) fn get(&self, seq: Seq) -> Option<&TailEntry> {
        self.places.get(self.place(seq)?)?.entry()
    }

    /// Takes out an entry that a later one supersedes.
    pub(super) fn supersede(&mut self, seq: Seq) {
        let Some(place) = self.place(seq).filter(|place| *place < self.places.len()) else { return };
        debug_assert!(place + 1 < self.places.len(), "an entry is superseded by a later one");
        let (replaces, batch) = self.places[place].origin();
        self.places[place] = Place::Superseded { replaces, batch };
    }

    /// The entries that those up to `last` have superseded, here and in the store.
    pub(super) fn superseded(&self, last: Seq) -> impl Iterator<Item = Seq> {
        let end = (last.next().0.saturating_sub(self.first.0) as usize).min(self.places.len());
        self.places.range(..end).filter_map(|place| place.origin().0)
    }

    /// Everything before this has left, or was never here: what it said is said by the store alone.
    pub(super) const fn begins(&self) -> Seq {
        self.first
    }

    /// Forgets entries from the front as long as their batches are in the store; gives the last one's seq.
    pub(super) fn trim(&mut self, ingested: BatchId) -> Option<Seq> {
        let mut last = None;
        while self.places.front().is_some_and(|place| place.origin().1 <= ingested) {
            if self.places.pop_front().is_some_and(|place| place.entry().is_some()) {
                last = Some(self.first);
            }
            self.first = self.first.next();
        }
        if self.places.is_empty() {
            self.places.shrink_to(0);
        }
        last
    }

    /// The entries from `first` to `last`.
    pub(super) fn range(&self, first: Seq, last: Seq) -> impl DoubleEndedIterator<Item = &TailEntry> {
        let place_of = |seq: Seq| (seq.0.saturating_sub(self.first.0) as usize).min(self.places.len());
        let start = place_of(first);
        self.places.range(start..place_of(last.next()).max(start)).filter_map(Place::entry)
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        seq.0.checked_sub(self.first.0).map(|place| place as usize)
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Event, TimestampMs};

    use super::*;

    /// Ten entries, 100 to 109, of which those whose bit is not set are superseded; two of each batch.
    fn tail(pattern: u64) -> Tail {
        let mut tail = Tail::default();
        for seq in (100..110).map(Seq) {
            let entry = Entry { seq, time: TimestampMs(1), event: Event::Unknown { kind: 99 } };
            tail.push(TailEntry { entry, replaces: None, count: 0, batch: BatchId((seq.0 - 100) / 2) });
        }
        (100..110).filter(|seq| pattern >> (seq - 100) & 1 == 0).for_each(|seq| tail.supersede(Seq(seq)));
        tail
    }

    const NONE: [u64; 0] = [];

    fn seqs<'a>(entries: impl Iterator<Item = &'a TailEntry>) -> Vec<u64> {
        entries.map(|tail| tail.entry.seq.0).collect()
    }

    #[test]
    fn entries_are_found_whatever_was_superseded_and_trimmed() {
        // The last one never is superseded.
        for pattern in 1 << 9..1_u64 << 10 {
            let there = |seq: &u64| (100..110).contains(seq) && pattern >> (seq - 100) & 1 == 1;
            for ingested in 0..6 {
                let mut tail = tail(pattern);
                let mut kept = (98..112).filter(there).filter(|seq| (seq - 100) / 2 >= ingested);
                let gone = (98..112).filter(there).filter(|seq| (seq - 100) / 2 < ingested).max();
                let trimmed = ingested.checked_sub(1).and_then(|last| tail.trim(BatchId(last)));
                assert_eq!(trimmed, gone.map(Seq), "{pattern:b} {ingested}");
                for seq in 98..112 {
                    let is_kept = there(&seq) && (seq - 100) / 2 >= ingested;
                    assert_eq!(tail.get(Seq(seq)).is_some(), is_kept, "{pattern:b} {ingested} {seq}");
                }
                assert_eq!(tail.is_empty(), kept.next().is_none());
            }
        }
    }

    #[test]
    fn a_range_has_what_lies_in_it_in_both_directions() {
        let mut tail = tail(0b10_1101_1101);
        let all = [100, 102, 103, 104, 106, 107, 109];
        assert_eq!(seqs(tail.range(Seq(1), Seq(200))), all);
        assert_eq!(seqs(tail.range(Seq(101), Seq(105)).rev()), [104, 103, 102]);
        assert_eq!(seqs(tail.range(Seq(110), Seq(200))), NONE);
        assert_eq!(seqs(tail.range(Seq(105), Seq(105))), NONE);
        tail.trim(BatchId(1));
        assert_eq!(seqs(tail.range(Seq(1), Seq(106))), [104, 106]);
        assert_eq!(seqs(tail.range(Seq(1), Seq(102))), NONE);
    }

    #[test]
    fn an_emptied_tail_begins_where_the_log_goes_on() {
        let mut tail = tail(0x3ff);
        assert_eq!(tail.trim(BatchId(9)), Some(Seq(109)));
        assert!(tail.is_empty() && tail.places.capacity() == 0);
        let entry = Entry { seq: Seq(115), time: TimestampMs(1), event: Event::Unknown { kind: 99 } };
        tail.push(TailEntry { entry, replaces: None, count: 0, batch: BatchId(9) });
        assert!(tail.get(Seq(115)).is_some() && tail.get(Seq(109)).is_none());
    }
}
