//! Epochs: which parts of a log were written after which start of the server (SPEC 3.7). PURE.
//!
//! An epoch has a name by chance, and the first entry after a start begins one. So what a device holds is the beginning of a log if the
//! newest epoch that it was told of is one of the log's, and does not end before the device's position: a server that was set back to
//! an older copy appends under an epoch that no device has.

use proto_spec::{EpochId, Seq};

use crate::limits::EPOCHS_MAX;

/// The epochs of one log that are remembered, at most [`EPOCHS_MAX`], with the first entry of each, by ascending seq.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<(Seq, EpochId)>);

impl Epochs {
    pub(super) fn of_snapshot(epochs: &[(Seq, EpochId)]) -> Self {
        Self(epochs.to_vec())
    }

    /// The epoch that the entry at `seq` is of; zero if it is not remembered.
    pub(super) fn at(&self, seq: Seq) -> EpochId {
        self.0.iter().rfind(|(first, _)| *first <= seq).map_or(EpochId(0), |(_, epoch)| *epoch)
    }

    /// The epochs that begin within `first..=last`.
    pub(super) fn beginning_within(&self, first: Seq, last: Seq) -> impl Iterator<Item = (Seq, EpochId)> {
        let newest_first = self.0.iter().rev().take_while(move |(begins, _)| *begins >= first);
        let count = newest_first.count();
        self.0[self.0.len() - count..].iter().copied().take_while(move |(begins, _)| *begins <= last)
    }

    /// Whether who holds a log up to `seq`, and was told of `newest` last, holds the beginning of this one.
    pub(super) fn agree(&self, seq: Seq, newest: EpochId) -> bool {
        let Some(at) = self.0.iter().position(|(_, epoch)| *epoch == newest) else { return newest == EpochId(0) };
        self.0.get(at + 1).is_none_or(|(next, _)| seq < *next)
    }

    /// An entry is appended at `seq` in `now`. If that begins an epoch: the first entry of the one that is forgotten for it, if one is.
    pub(super) fn append(&mut self, seq: Seq, now: EpochId) -> Option<Option<Seq>> {
        if self.0.last().is_some_and(|(_, epoch)| *epoch == now) {
            return None;
        }
        let forgotten = (self.0.len() >= EPOCHS_MAX).then(|| self.0.remove(0).0);
        self.0.push((seq, now));
        Some(forgotten)
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
        assert_eq!(epochs.0.len(), EPOCHS_MAX);
    }
}
