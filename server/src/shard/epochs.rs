//! Epochs: which parts of a log were written after which start of the server (SPEC 3.7). PURE.
//!
//! An epoch has a random name, and the first entry after a start begins one. So what a device holds is the beginning of a log if the
//! newest epoch that it was told of is one of the log's, and does not end before the device's position: a server that was set back to
//! an older copy appends under an epoch that no device has.

use proto_spec::{EpochId, Seq};

use crate::limits::EPOCHS_MAX;

/// The epochs of one log that are remembered, at most [`EPOCHS_MAX`], each with its first entry.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// Before a log has one it is epoch zero, which begins before the first entry.
    newest: (Seq, EpochId),
    /// By ascending seq.
    older: Vec<(Seq, EpochId)>,
}

impl Epochs {
    /// As the store has them: by ascending seq.
    pub(super) fn of_snapshot(epochs: &[(Seq, EpochId)]) -> Self {
        match epochs.split_last() {
            Some((newest, older)) => Self { newest: *newest, older: older.to_vec() },
            None => Self::default(),
        }
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = (Seq, EpochId)> {
        self.older.iter().copied().chain([self.newest])
    }

    /// The epoch that the entry at `seq` is of; zero if it is not remembered.
    pub(super) fn at(&self, seq: Seq) -> EpochId {
        self.all().rfind(|(first, _)| *first <= seq).map_or(EpochId(0), |(_, epoch)| epoch)
    }

    /// Whether no epoch begins at `first` or later.
    pub(super) fn none_begins_from(&self, first: Seq) -> bool {
        self.newest.0 < first
    }

    /// The epochs that begin within `first..=last`, which is after the beginning of the log.
    pub(super) fn beginning_within(&self, first: Seq, last: Seq) -> impl Iterator<Item = (Seq, EpochId)> {
        self.all().filter(move |(begins, _)| (first..=last).contains(begins))
    }

    /// Whether who holds a log up to `seq`, and was told of `newest` last, holds the beginning of this one.
    pub(super) fn agree(&self, seq: Seq, newest: EpochId) -> bool {
        let mut from = self.all().skip_while(|(_, epoch)| *epoch != newest);
        newest == EpochId(0) || (from.next().is_some() && from.next().is_none_or(|(next, _)| seq < next))
    }

    /// An entry is appended at `seq` in `now`. If that begins an epoch: the first entry of the one that is forgotten for it, if one is.
    pub(super) fn append(&mut self, seq: Seq, now: EpochId) -> Option<Option<Seq>> {
        if self.newest.1 == now { None } else { Some(self.begin(seq, now)) }
    }

    #[cold]
    fn begin(&mut self, seq: Seq, now: EpochId) -> Option<Seq> {
        let before = std::mem::replace(&mut self.newest, (seq, now));
        if before.1 != EpochId(0) {
            self.older.push(before);
        }
        (self.older.len() >= EPOCHS_MAX).then(|| self.older.remove(0).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (seq, epoch) in [(1, 11), (2, 11), (5, 12), (6, 12), (9, 13)] {
            let begins = epochs.append(Seq(seq), EpochId(epoch));
            assert_eq!(begins, [1, 5, 9].contains(&seq).then_some(None));
        }
        epochs
    }

    #[test]
    fn an_entry_is_of_the_epoch_that_began_before_it() {
        let epochs = epochs();
        let at: Vec<_> = (0..11).map(|seq| epochs.at(Seq(seq)).0).collect();
        assert_eq!(at, [0, 11, 11, 11, 11, 12, 12, 12, 12, 13, 13]);
        let within =
            |first, last| epochs.beginning_within(Seq(first), Seq(last)).map(|(seq, _)| seq.0).collect::<Vec<_>>();
        assert_eq!(within(1, 20), [1, 5, 9]);
        assert_eq!(within(2, 8), [5]);
        assert_eq!(within(6, 8), [0; 0]);
    }

    #[test]
    fn who_was_told_of_an_epoch_agrees_up_to_where_the_next_one_begins() {
        let epochs = epochs();
        let agrees = |epoch| (0..12).filter(|seq| epochs.agree(Seq(*seq), EpochId(epoch))).max();
        assert_eq!(agrees(11), Some(4), "what it holds at 5 is not this log's");
        assert_eq!(agrees(12), Some(8));
        assert_eq!(agrees(13), Some(11));
        assert_eq!(agrees(99), None, "it was told of entries that are not here");
        assert_eq!(agrees(0), Some(11), "nothing is known");
    }

    #[test]
    fn the_oldest_epoch_is_forgotten_when_there_are_many() {
        let mut epochs = Epochs::default();
        let forgotten: Vec<_> = (1..=EPOCHS_MAX as u64 + 2)
            .map(|n| epochs.append(Seq(10 * n), EpochId(n)).expect("another epoch"))
            .collect();
        assert_eq!(forgotten[EPOCHS_MAX - 1..], [None, Some(Seq(10)), Some(Seq(20))]);
        assert!(!epochs.agree(Seq(15), EpochId(1)) && epochs.agree(Seq(35), EpochId(3)));
        assert_eq!(epochs.all().count(), EPOCHS_MAX);
    }
}
