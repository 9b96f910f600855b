//! Which epochs of the log this device was told of (SPEC 3.7, 8.2).
//!
//! A connection may resume before the position, when the application has not confirmed all that it was handed. Then the server tells
//! again of the epochs that lie between, and each must be one that is known: another one there is that of another log.

use std::collections::VecDeque;

use proto_spec::{EpochId, Seq};

use crate::limits::EPOCHS_KEPT;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs {
    /// By ascending first seq. That of the first one is zero where only its name was told.
    told: VecDeque<(Seq, EpochId)>,
}

/// What came of being told of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is the newest one now.
    New,
    /// It was known.
    Again,
    /// What the device holds from there on is of another log.
    OtherLog,
}

impl Epochs {
    /// Of a device that was told of this one last, if of any.
    pub(crate) fn after(newest: EpochId) -> Self {
        let is_any = newest != EpochId(0);
        Self { told: is_any.then_some((Seq::ZERO, newest)).into_iter().collect() }
    }

    /// The newest one of which a device that holds everything up to `position` holds anything; zero if there is none.
    pub(crate) fn newest(&self, position: Seq) -> EpochId {
        self.told.iter().rfind(|(first, _)| *first <= position).map_or(EpochId(0), |(_, epoch)| *epoch)
    }

    /// An epoch begins at `first`; the device holds everything up to `position`.
    pub(crate) fn begins(&mut self, first: Seq, epoch: EpochId, position: Seq) -> Told {
        if first <= position {
            let is_known = self.told.contains(&(first, epoch));
            return if is_known { Told::Again } else { Told::OtherLog };
        }
        // What was told for beyond the position, before the connection ended, is told again or has become something else.
        while self.told.back().is_some_and(|(begins, _)| *begins >= first) {
            self.told.pop_back();
        }
        self.told.push_back((first, epoch));
        if self.told.len() > EPOCHS_KEPT {
            self.told.pop_front();
        }
        Told::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_again_is_known_and_changes_nothing() {
        let mut epochs = Epochs::after(EpochId(1));
        assert_eq!(epochs.begins(Seq(60), EpochId(2), Seq(50)), Told::New);
        assert_eq!(epochs.begins(Seq(80), EpochId(3), Seq(79)), Told::New);
        // The application has confirmed 50 of 100.
        assert_eq!(epochs.begins(Seq(60), EpochId(2), Seq(100)), Told::Again);
        assert_eq!(epochs.newest(Seq(100)), EpochId(3), "the hello goes on naming the newest");
        assert_eq!(epochs.begins(Seq(80), EpochId(3), Seq(100)), Told::Again);
    }

    #[test]
    fn an_epoch_that_begins_within_what_the_device_holds_and_is_not_known_is_another_log() {
        let mut epochs = Epochs::after(EpochId(1));
        assert_eq!(epochs.begins(Seq(61), EpochId(9), Seq(100)), Told::OtherLog);
        assert_eq!(epochs.begins(Seq(60), EpochId(2), Seq(50)), Told::New);
        assert_eq!(epochs.begins(Seq(61), EpochId(2), Seq(100)), Told::OtherLog, "at another place");
        assert_eq!(epochs.begins(Seq(60), EpochId(9), Seq(100)), Told::OtherLog);
        assert_eq!(epochs.newest(Seq(100)), EpochId(2));
        assert_eq!(epochs.newest(Seq(59)), EpochId(1), "it holds nothing of the newer one yet");
    }

    #[test]
    fn what_was_told_for_beyond_the_position_may_become_another() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.begins(Seq(5), EpochId(1), Seq(4)), Told::New);
        assert_eq!(epochs.begins(Seq(5), EpochId(2), Seq(4)), Told::New);
        assert_eq!(epochs.begins(Seq(5), EpochId(1), Seq(5)), Told::OtherLog);
        assert_eq!(epochs.begins(Seq(5), EpochId(2), Seq(5)), Told::Again);
        for first in 6..3_000 {
            epochs.begins(Seq(first), EpochId(first), Seq(5));
        }
        assert_eq!(epochs.told.len(), EPOCHS_KEPT);
    }
}
