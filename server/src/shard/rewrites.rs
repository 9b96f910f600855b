//! Rewrites: of one user, the messages that entries in the tail have changed, and what is left of the sends that these have superseded.
//! The store knows it of everything older.
//!
//! Empty for all who have changed nothing lately: then it owns no memory.

use std::collections::BTreeMap;

use proto_spec::{ConversationId, Seq};
use storage::{FirstResult, Replaced, Rewrite, Shown};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    /// By where a message stands: which entries tell of it, and the last of them.
    now: BTreeMap<Seq, (Seq, Shown)>,
    /// By an entry that is not released yet: those that it supersedes.
    superseded: BTreeMap<Seq, Vec<Seq>>,
    /// Those that released entries have superseded, with these.
    gone: Vec<(Seq, Seq)>,
    /// By where the entry of a send was: which entry has superseded it, and what is left of it.
    firsts: BTreeMap<Seq, (Seq, FirstResult)>,
    /// By an entry that deletes the last message of a conversation: where the last one stands then.
    lasts: BTreeMap<Seq, (ConversationId, Seq)>,
}

impl Rewrites {
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// The entry at `seq` changes a message, or reacts to it.
    pub(super) fn add(&mut self, of: Rewrite, seq: Seq) {
        self.supersede(of.replaces, seq);
        self.now.insert(of.place, (seq, of.now));
    }

    /// The entry at `seq` takes the place of others, and tells of no message.
    pub(super) fn supersede(&mut self, replaces: Vec<Replaced>, seq: Seq) {
        let firsts = replaces.iter().filter_map(|replaced| Some((replaced.seq, (seq, replaced.first?))));
        self.firsts.extend(firsts);
        self.superseded.insert(seq, replaces.into_iter().map(|replaced| replaced.seq).collect());
    }

    /// Which entries tell of the message that stands at `place`, if one in the tail changes it or reacts to it.
    pub(super) fn now(&self, place: Seq) -> Option<&Shown> {
        self.now.get(&place).map(|(_, now)| now)
    }

    /// Whether an entry in the tail deletes the message that stands at `place`.
    pub(super) fn is_deleted(&self, place: Seq) -> bool {
        self.now(place).is_some_and(|now| now.says == Seq::ZERO)
    }

    /// How many messages entries in the tail delete.
    pub(super) fn deletions(&self) -> usize {
        self.now.values().filter(|(_, now)| now.says == Seq::ZERO).count()
    }

    /// The entry at `seq` deletes the last message of a conversation, if there is another last one then.
    pub(super) fn move_last(&mut self, seq: Seq, conversation: ConversationId, last: Option<Seq>) {
        self.lasts.extend(last.map(|last| (seq, (conversation, last))));
    }

    /// Where the last messages of conversations stand that are in the store, as far as the store says otherwise and `released` allows.
    pub(super) fn moved(&self, stored: Seq, released: Seq) -> Vec<(ConversationId, Seq)> {
        let mut moved: Vec<(ConversationId, Seq)> = Vec::new();
        for (conversation, last) in self.lasts.range(..=released).map(|(_, moved)| *moved) {
            moved.retain(|(of, _)| *of != conversation);
            moved.extend((last <= stored).then_some((conversation, last)));
        }
        moved
    }

    /// The entry at `seq` is released: what it supersedes.
    pub(super) fn released(&mut self, seq: Seq) -> Vec<Seq> {
        let Some(gone) = (if self.superseded.is_empty() { None } else { self.superseded.remove(&seq) }) else {
            return Vec::new();
        };
        self.gone.extend(gone.iter().map(|gone| (*gone, seq)));
        gone
    }

    /// What entries of the tail have superseded that are released: the store may have it still.
    pub(super) fn gone(&self) -> impl Iterator<Item = Seq> {
        self.gone.iter().map(|(gone, _)| *gone)
    }

    /// What is left of the send whose entry was at `seq`.
    pub(super) fn first(&self, seq: Seq) -> Option<FirstResult> {
        self.firsts.get(&seq).map(|(_, first)| *first)
    }

    /// The store has everything up to `stored`.
    pub(super) fn trim(&mut self, stored: Seq) {
        if !(self.is_empty() && self.firsts.is_empty() && self.gone.is_empty()) {
            self.now.retain(|_, (seq, _)| *seq > stored);
            self.firsts.retain(|_, (seq, _)| *seq > stored);
            self.gone.retain(|(_, seq)| *seq > stored);
            self.lasts.retain(|seq, _| *seq > stored);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::TimestampMs;
    use storage::Replaced;

    use super::*;

    #[test]
    fn what_the_store_has_is_forgotten_and_the_newest_change_counts() {
        let first = |time| FirstResult { time: TimestampMs(time), said: [0; 16] };
        let edit = |place: u64, replaces: u64, first, seq: u64| Rewrite {
            place: Seq(place),
            now: Shown { says: Seq(seq), reactions: Vec::new() },
            replaces: vec![Replaced { seq: Seq(replaces), first }],
            received: None,
            last: None,
        };
        let mut rewrites = Rewrites::default();
        rewrites.add(edit(3, 3, Some(first(1)), 7), Seq(7));
        rewrites.add(edit(3, 7, Some(first(2)), 9), Seq(9));
        rewrites.add(edit(4, 4, None, 8), Seq(8));
        assert_eq!(rewrites.released(Seq(7)), [Seq(3)]);
        assert!(rewrites.released(Seq(7)).is_empty(), "it is released once");
        assert_eq!((rewrites.now(Seq(3)).unwrap().says, rewrites.now(Seq(7))), (Seq(9), None));
        assert_eq!((rewrites.first(Seq(3)), rewrites.first(Seq(7))), (Some(first(1)), Some(first(2))));
        rewrites.trim(Seq(8));
        assert!(rewrites.now(Seq(3)).is_some() && rewrites.now(Seq(4)).is_none());
        assert_eq!((rewrites.first(Seq(3)), rewrites.first(Seq(7))), (None, Some(first(2))));
        rewrites.trim(Seq(9));
        assert!(rewrites.is_empty() && rewrites.first(Seq(7)).is_none());
    }
}
