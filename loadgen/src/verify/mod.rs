//! Verification: each accepted message is delivered to each device of its recipient, and to the sender's other devices, exactly
//! once, in order, under the accepted seq; and the history says the same in the end. Pure.
//!
//! Memory is bounded by what is under way, not by what was sent: a message is kept from its send until it was accepted and has
//! reached every device (`ledger`); of what is settled each device keeps a count and a sum (`Digest`), which the history must
//! reproduce (`history`).
//!
//! Of a run that changes messages the newest ones are kept longer (`kept`, `changes`), and of each conversation that was marked what its
//! devices were told last (`marks`). What an entry supersedes is taken out of the sum again. Lists and pages of conversations must say what
//! the history says (`lists`).

mod changes;
pub mod crew;
pub mod groups;
pub mod history;
mod kept;
pub mod ledger;
pub mod lists;
mod marks;
pub mod opening;
pub mod presence;
pub mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto_spec::{MessageName, Seq};

use crate::{draw::mix, limits::FAULTS_KEPT};

pub use changes::{KeptId, Parties};
pub use crew::{Crew, Member};
pub use history::HistoryCheck;
pub use kept::Change;
pub use ledger::Ledger;
pub use lists::{ListCheck, Standings};
pub use opening::Acquaintances;
pub use text::{Answered, Label, Text, Written};

/// A ledger and all lanes whose people write to each other: usually one lane, of a trace all.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Nobody else has it yet.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// For as long as one device acts. A lane that has panicked has said so; what the others find is still true.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of one device to one user, numbered 0, 1, 2, ... Unique in a run: six bits of lane, 24 of the stream in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// What a device was told of a run, in any order, without what was superseded since: equal for all devices of a user, and for the user's
/// history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many entries.
    pub count: u64,
    pub(crate) sum: u64,
}

impl Digest {
    /// What an entry adds: its seq in the user's log, the message that it is, changes or marks, its kind, and what it says.
    #[must_use]
    pub const fn mark(seq: Seq, name: MessageName, kind: u8, fingerprint: u32) -> u64 {
        let what = mix(name.author.0 ^ mix(name.seq.0 ^ ((kind as u64) << 32 | fingerprint as u64) << 16));
        mix(what ^ seq.0.rotate_left(17))
    }

    /// Adds an entry.
    pub const fn add(&mut self, mark: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(mark);
    }

    /// Takes away an entry that was superseded.
    pub const fn take(&mut self, mark: u64) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(mark);
    }
}

/// What went wrong, in words with the ids. The first ones are kept, the others counted.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    kept: Vec<String>,
    count: u64,
}

impl Faults {
    /// One more.
    pub fn add(&mut self, what: String) {
        self.count += 1;
        if self.kept.len() < FAULTS_KEPT {
            self.kept.push(what);
        }
    }

    /// Takes over the faults of another part of the run.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        self.kept.extend(other.kept);
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The first ones.
    #[must_use]
    pub fn kept(&self) -> &[String] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;

    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_order_and_on_everything_else() {
        let digest = |entries: &[(u64, u64, u64, u8, u32)]| {
            let mut digest = Digest::default();
            for &(seq, author, name, kind, print) in entries {
                digest.add(Digest::mark(Seq(seq), MessageName { author: UserId(author), seq: Seq(name) }, kind, print));
            }
            digest
        };
        let right = digest(&[(1, 7, 1, 1, 5), (2, 8, 9, 1, 6)]);
        assert_eq!(digest(&[(2, 8, 9, 1, 6), (1, 7, 1, 1, 5)]), right);
        for wrong in [
            &[(1, 7, 1, 1, 5)][..],
            &[(1, 7, 1, 1, 5), (3, 8, 9, 1, 6)],
            &[(1, 7, 1, 1, 5), (2, 9, 9, 1, 6)],
            &[(1, 7, 1, 1, 5), (2, 8, 8, 1, 6)],
            &[(1, 7, 1, 1, 5), (2, 8, 9, 2, 6)],
            &[(1, 7, 1, 1, 5), (2, 8, 9, 1, 7)],
            &[(2, 7, 1, 1, 5), (1, 8, 9, 1, 6)],
            &[(1, 7, 1, 1, 5), (2, 8, 9, 1, 6), (2, 8, 9, 1, 6)],
        ] {
            assert_ne!(digest(wrong), right, "{wrong:?}");
        }
        let mut less = right;
        less.take(Digest::mark(Seq(2), MessageName { author: UserId(8), seq: Seq(9) }, 1, 6));
        assert_eq!(less, digest(&[(1, 7, 1, 1, 5)]));
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let mut faults = Faults::default();
        for n in 0..FAULTS_KEPT + 5 {
            faults.add(format!("{n}"));
        }
        assert_eq!((faults.count(), faults.kept().len()), (FAULTS_KEPT as u64 + 5, FAULTS_KEPT));
    }
}
