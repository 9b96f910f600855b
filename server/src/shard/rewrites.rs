//! Rewrites: of one user, the messages that entries in the tail have changed, and what is left of the sends that these have superseded.
//! The store knows it of everything older.
//!
//! Empty for all who have changed nothing lately: then it owns no memory.

use std::collections::BTreeMap;

use proto_spec::Seq;
use storage::{FirstResult, Rewrite};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    /// By where a message stands: which entry says what it says.
    now: BTreeMap<Seq, Seq>,
    /// By where the entry of a send was: which entry has superseded it, and what is left of it.
    firsts: BTreeMap<Seq, (Seq, FirstResult)>,
}

impl Rewrites {
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// The entry at `seq` changes a message.
    pub(super) fn add(&mut self, of: &Rewrite, seq: Seq) {
        self.now.insert(of.place, seq);
        if let Some(first) = of.first {
            self.firsts.insert(of.replaces, (seq, first));
        }
    }

    /// Which entry says what the message says that stands at `place`, if one in the tail changes it.
    pub(super) fn now(&self, place: Seq) -> Option<Seq> {
        self.now.get(&place).copied()
    }

    /// What is left of the send whose entry was at `seq`.
    pub(super) fn first(&self, seq: Seq) -> Option<FirstResult> {
        self.firsts.get(&seq).map(|(_, first)| *first)
    }

    /// The store has everything up to `stored`.
    pub(super) fn trim(&mut self, stored: Seq) {
        if !self.is_empty() {
            self.now.retain(|_, seq| *seq > stored);
            self.firsts.retain(|_, (seq, _)| *seq > stored);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::TimestampMs;

    use super::*;

    #[test]
    fn what_the_store_has_is_forgotten_and_the_newest_change_counts() {
        let first = |time| FirstResult { time: TimestampMs(time), said: [0; 16] };
        let mut rewrites = Rewrites::default();
        rewrites.add(&Rewrite { place: Seq(3), replaces: Seq(3), first: Some(first(1)), received: None }, Seq(7));
        rewrites.add(&Rewrite { place: Seq(3), replaces: Seq(7), first: Some(first(2)), received: None }, Seq(9));
        rewrites.add(&Rewrite { place: Seq(4), replaces: Seq(4), first: None, received: None }, Seq(8));
        assert_eq!((rewrites.now(Seq(3)), rewrites.now(Seq(7))), (Some(Seq(9)), None));
        assert_eq!((rewrites.first(Seq(3)), rewrites.first(Seq(7))), (Some(first(1)), Some(first(2))));
        rewrites.trim(Seq(8));
        assert_eq!((rewrites.now(Seq(3)), rewrites.now(Seq(4))), (Some(Seq(9)), None));
        assert_eq!((rewrites.first(Seq(3)), rewrites.first(Seq(7))), (None, Some(first(2))));
        rewrites.trim(Seq(9));
        assert!(rewrites.is_empty() && rewrites.first(Seq(7)).is_none());
    }
}
