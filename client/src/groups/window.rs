//! What is held of a group's log: one part without a gap, of which each message is held as it is said last, and pushed entries that are
//! ahead of it.
//!
//! Whether an entry came by push or by page, and in which order, makes no difference: of two that say the same thing anew the one with the
//! higher seq stays.

use std::collections::BTreeMap;

use proto_spec::{Body, Content, GroupEntry, Reaction, Seq, UserId};

use super::PageTaken;
use crate::limits::{GROUP_AHEAD_MAX, GROUP_ENTRIES_MAX};

/// See the head of this file. Begins with nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// The first and the last seq of the part that is held; the last is the one before the first if all is held of a log without entries.
    span: Option<(Seq, Seq)>,
    /// Nothing that the user may read stands before it.
    is_whole: bool,
    /// What is held of it: the entries that no later one of it supersedes.
    entries: BTreeMap<Seq, GroupEntry>,
    /// Where the entry is that says this.
    latest: BTreeMap<Says, Seq>,
    /// Pushed entries that follow on a gap.
    ahead: BTreeMap<Seq, GroupEntry>,
}

/// What an entry says that a later one may say anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Message(Seq),
    Reaction(Seq, UserId),
}

impl Says {
    fn of(entry: &GroupEntry) -> Option<Self> {
        match entry.content.body() {
            Ok(Body::Reaction(Reaction { of, .. })) => Some(Self::Reaction(of.seq, entry.from)),
            _ => entry.place().map(Self::Message),
        }
    }
}

impl Window {
    /// The first and the last seq of what is held without a gap.
    pub(super) const fn span(&self) -> Option<(Seq, Seq)> {
        self.span
    }

    /// The last seq of which an entry has come.
    pub(super) fn highest(&self) -> Seq {
        let ahead = self.ahead.last_key_value().map(|(seq, _)| *seq);
        ahead.or(self.span.map(|(_, last)| last)).unwrap_or_default()
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &GroupEntry> {
        self.entries.values()
    }

    /// What a message says, by where it stands.
    pub(super) fn message(&self, place: Seq) -> Option<&GroupEntry> {
        self.entries.get(self.latest.get(&Says::Message(place))?)
    }

    /// Messages by ascending place, of those that stand in what is held, each as it is said last.
    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = (Seq, &GroupEntry)> {
        let first = self.span.map_or(Seq::ZERO, |(first, _)| first);
        self.latest.range(Says::Message(first)..Says::Reaction(Seq::ZERO, UserId(0))).filter_map(|(says, seq)| {
            let Says::Message(place) = says else { return None };
            Some((*place, self.entries.get(seq)?))
        })
    }

    /// Who has reacted to a message, each with the entry that says so last.
    pub(super) fn reactions(&self, place: Seq) -> impl Iterator<Item = &GroupEntry> {
        let all = Says::Reaction(place, UserId(0))..=Says::Reaction(place, UserId(u64::MAX));
        self.latest.range(all).filter_map(|(_, seq)| self.entries.get(seq))
    }

    /// Takes a pushed entry.
    pub(super) fn push(&mut self, entry: GroupEntry) {
        match self.span {
            // Who has looked at nothing yet begins here.
            None => self.hold(entry.seq, entry.seq),
            Some((first, last)) if entry.seq == last.next() => self.hold(first, entry.seq),
            Some((_, last)) if entry.seq > last => {
                self.ahead.insert(entry.seq, entry);
                if self.ahead.len() > GROUP_AHEAD_MAX {
                    // The nearest ones go on from what is held; the others are fetched.
                    self.ahead.pop_last();
                }
                return;
            }
            Some(_) => return,
        }
        self.insert(entry);
        self.go_on();
        self.trim();
    }

    /// Takes a range that goes forwards, all of which is in these entries.
    pub(super) fn forwards(&mut self, first: Seq, last: Seq, entries: &[GroupEntry]) -> PageTaken {
        let laid = self.lay(first, last, entries);
        self.trim();
        laid
    }

    /// The same for one that goes backwards; `is_whole`: nothing stands before it.
    pub(super) fn backwards(&mut self, first: Seq, last: Seq, entries: &[GroupEntry], is_whole: bool) -> PageTaken {
        let is_below = self.span.is_some_and(|(begin, _)| last < begin);
        if is_below && self.entries.len() >= GROUP_ENTRIES_MAX {
            return PageTaken::Left;
        }
        let laid = self.lay(first, last, entries);
        if laid != PageTaken::Left && is_whole {
            self.is_whole = true;
            // Of a log without entries all is held.
            self.span = self.span.or(Some((first, last)));
        }
        laid
    }

    fn lay(&mut self, first: Seq, last: Seq, entries: &[GroupEntry]) -> PageTaken {
        if first > last {
            return PageTaken::Joined;
        }
        let laid = match self.span {
            Some((begin, _)) if last.next() < begin => return PageTaken::Left,
            Some((_, end)) if first > end.next() => {
                let ahead = std::mem::take(&mut self.ahead);
                *self = Self { ahead, ..Self::default() };
                self.hold(first, last);
                PageTaken::Restarted
            }
            Some((begin, end)) => {
                self.hold(begin.min(first), end.max(last));
                PageTaken::Joined
            }
            None => {
                self.hold(first, last);
                PageTaken::Joined
            }
        };
        entries.iter().for_each(|entry| self.insert(entry.clone()));
        self.go_on();
        laid
    }

    /// What is held goes from here to there.
    fn hold(&mut self, first: Seq, last: Seq) {
        self.span = Some((first, last));
        self.is_whole |= first <= Seq(1);
    }

    /// Takes what was ahead and follows now.
    fn go_on(&mut self) {
        while let Some((first, last)) = self.span {
            self.ahead = self.ahead.split_off(&last.next());
            let Some(entry) = self.ahead.remove(&last.next()) else { return };
            self.hold(first, entry.seq);
            self.insert(entry);
        }
    }

    fn insert(&mut self, entry: GroupEntry) {
        let Some(says) = Says::of(&entry) else {
            // What is done to a group is said once.
            self.entries.insert(entry.seq, entry);
            return;
        };
        let is_old = self.latest.get(&says).is_some_and(|latest| *latest >= entry.seq);
        let is_void = matches!(says, Says::Reaction(place, _) if self.is_taken_back(place, entry.seq));
        if is_old || is_void {
            return;
        }
        if let (Says::Message(place), Content::Unsend(_)) = (says, &entry.content) {
            let all = Says::Reaction(place, UserId(0))..=Says::Reaction(place, UserId(u64::MAX));
            let before = self.latest.range(all).filter(|(_, seq)| **seq < entry.seq);
            let before: Vec<_> = before.map(|(says, _)| *says).collect();
            before.into_iter().for_each(|says| self.supersede(says));
        }
        self.supersede(says);
        self.latest.insert(says, entry.seq);
        self.entries.insert(entry.seq, entry);
    }

    /// Whether the message that stands there was taken back after this seq.
    fn is_taken_back(&self, place: Seq, seq: Seq) -> bool {
        self.message(place).is_some_and(|entry| entry.seq > seq && entry.content.is_unsend())
    }

    fn supersede(&mut self, says: Says) {
        if let Some(before) = self.latest.remove(&says) {
            self.entries.remove(&before);
        }
    }

    /// Lets go of the oldest of more than may be held.
    fn trim(&mut self) {
        while self.entries.len() > GROUP_ENTRIES_MAX
            && let Some(seq) = self.let_go()
        {
            self.span = self.span.map(|(_, last)| (seq.next(), last));
            self.is_whole = false;
        }
    }

    /// Lets go of the oldest entry that is held.
    fn let_go(&mut self) -> Option<Seq> {
        let (seq, entry) = self.entries.pop_first()?;
        if let Some(says) = Says::of(&entry) {
            self.latest.remove(&says);
        }
        Some(seq)
    }

    /// From this seq on all may be read now, and not only from `before` on, or none: from where is not known. What may have been left out of what is
    /// held is let go of.
    pub(super) fn may_read_from(&mut self, first: Seq, before: Option<Seq>) {
        let Some((begin, end)) = self.span.filter(|_| !self.entries.is_empty()) else { return };
        let keep = before.unwrap_or_else(|| {
            let mut last = end.next();
            let without_gap = self.entries.keys().rev().take_while(|seq| {
                let follows = seq.next() == last;
                last = **seq;
                follows
            });
            without_gap.last().copied().unwrap_or(end.next())
        });
        while self.entries.first_key_value().is_some_and(|(seq, _)| *seq < keep) {
            self.let_go();
        }
        let begin = begin.max(keep);
        self.span = (begin <= end).then_some((begin, end));
        self.is_whole = begin <= first && begin <= end;
    }
}
