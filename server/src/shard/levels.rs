//! Levels: how much of one user's log is `committed` (SPEC 4.8), and what the user's devices were told of it.
//!
//! Invariant: what was once `committed` stays so, whatever the store does later, and everything before it is too. So one seq says it
//! all ([`Levels::committed`]), and it never goes down.

use proto_spec::{Durability, Seq};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// The first and the last entry that were released as less than committed and are not known to be in the store. What
    /// lies between them counts as they do.
    local: Option<(Seq, Seq)>,
    /// Devices were told of entries up to here that they are not committed yet. Zero: nothing is owed.
    owed: Seq,
}

impl Levels {
    /// The log's next entry is released, and its batch is worth so much now.
    pub(super) fn released(&mut self, seq: Seq, worth: Durability) {
        if worth < Durability::Committed {
            let first = self.local.map_or(seq, |(first, _)| first);
            self.local = Some((first, seq));
        }
    }

    /// Everything up to here is committed, of a log that is released up to `head`.
    pub(super) fn committed(&self, head: Seq) -> Seq {
        self.local.map_or(head, |(first, _)| first.previous())
    }

    /// As [`Levels::committed`], to be told to a device: the rest of the log is owed from now on.
    pub(super) fn tell_committed(&mut self, head: Seq) -> Seq {
        self.tell(head, head);
        self.committed(head)
    }

    /// What a device is to be told of an entry. If that is less than committed, the rest is owed from now on.
    pub(super) fn tell(&mut self, seq: Seq, head: Seq) -> Durability {
        if seq <= self.committed(head) {
            return Durability::Committed;
        }
        self.owed = self.owed.max(seq);
        Durability::Local
    }

    /// Entries up to `stored` are in the store. Whether devices are to be told ([`Levels::tell_all`]).
    #[must_use]
    pub(super) fn stored(&mut self, stored: Seq) -> bool {
        let Some((first, last)) = self.local.filter(|(first, _)| *first <= stored) else { return false };
        self.local = (stored < last).then(|| (first.max(stored.next()), last));
        self.owed > Seq::ZERO
    }

    /// As [`Levels::committed`], to be told to all devices: what is committed is owed no more.
    pub(super) fn tell_all(&mut self, head: Seq) -> Seq {
        let committed = self.committed(head);
        if self.owed <= committed {
            self.owed = Seq::ZERO;
        }
        committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: Durability = Durability::Committed;
    const LOCAL: Durability = Durability::Local;

    #[test]
    fn what_was_committed_before_an_outage_stays_so_and_what_comes_after_waits_for_the_store() {
        let mut levels = Levels::default();
        (1..=3).for_each(|seq| levels.released(Seq(seq), COMMITTED));
        (4..=5).for_each(|seq| levels.released(Seq(seq), LOCAL));
        // The store is back, and has nothing of the outage yet.
        levels.released(Seq(6), COMMITTED);
        let told: Vec<_> = (1..=6).map(|seq| levels.tell(Seq(seq), Seq(6))).collect();
        assert_eq!(told, [COMMITTED, COMMITTED, COMMITTED, LOCAL, LOCAL, LOCAL]);
        assert_eq!(levels.tell_committed(Seq(6)), Seq(3));
        assert!(!levels.stored(Seq(3)), "nothing new");
        assert!(levels.stored(Seq(4)));
        assert_eq!(levels.tell_all(Seq(6)), Seq(4));
        assert!(levels.stored(Seq(5)), "the rest is owed still");
        assert_eq!(levels.tell_all(Seq(6)), Seq(6));
        assert!(!levels.stored(Seq(6)));
        assert_eq!(levels.tell(Seq(7), Seq(7)), COMMITTED);
    }

    #[test]
    fn who_was_told_nothing_is_owed_nothing() {
        let mut levels = Levels::default();
        (1..=2).for_each(|seq| levels.released(Seq(seq), LOCAL));
        assert!(!levels.stored(Seq(2)));
        assert_eq!(levels.tell_committed(Seq(2)), Seq(2));
    }

    /// Whatever happens to the store, in whatever order, and whoever asks when.
    #[test]
    fn what_is_committed_never_goes_down() {
        for seed in 0..200_u64 {
            let mut levels = Levels::default();
            let (mut head, mut stored, mut before) = (Seq::ZERO, Seq::ZERO, Seq::ZERO);
            let mut state = seed;
            for _ in 0..200 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match state >> 61 {
                    0..4 => {
                        head = head.next();
                        levels.released(head, if state >> 50 & 0b110 == 0 { LOCAL } else { COMMITTED });
                    }
                    4 => {
                        stored = Seq(stored.0 + (state >> 40) % (head.0 - stored.0 + 1));
                        if levels.stored(stored) {
                            levels.tell_all(head);
                        }
                    }
                    5 => drop(levels.tell(Seq((state >> 40) % (head.0 + 1)), head)),
                    _ => drop(levels.tell_committed(head)),
                }
                let committed = levels.committed(head);
                assert!(before <= committed && stored <= committed && committed <= head, "seed {seed}: {levels:?}");
                assert!(levels.owed == Seq::ZERO || levels.owed > committed, "seed {seed}: {levels:?}, {committed}");
                before = committed;
            }
        }
    }
}
