//! Outgoing: the messages that a user's home owes to the other side of each conversation, and how far each has come.
//!
//! A message is *on the way* from when it is numbered until the other side's home confirms it. A destination that puts off what it is
//! sent, or has [`ON_THE_WAY_MAX`] on the way, falls *behind*: what follows for it stays in the log, and is read from there once it
//! takes something again. Nobody else waits for it.
//!
//! Pure data; `duties` reads the log, posts, and tries again.
//!
//! Invariants: each destination is sent its messages in order, each with the one before it that it may not have yet
//! ([`Outgoing::before`]); [`Outgoing::confirmed_up_to`] never passes a message that is not confirmed.

use std::collections::VecDeque;

use proto_spec::{ConversationId, Seq};

use crate::limits::{BEHIND_MAX, ON_THE_WAY_KEPT, ON_THE_WAY_MAX, ON_THE_WAY_OF_ALL_MAX};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// By ascending seq.
    on_the_way: VecDeque<(Seq, ConversationId)>,
    behind: Vec<Behind>,
    /// The log from here on has not been looked at for those who are not behind: it is left over from before a restart, or too many
    /// are behind already.
    unseen: Option<Seq>,
    /// Where the part of the log begins that is being read.
    scan: Option<Seq>,
    /// The scan has met something that neither goes out nor can be remembered: it ends there for all who are not behind.
    scan_is_full: bool,
}

/// A destination whose messages wait in the log.
#[derive(Debug)]
struct Behind {
    to: ConversationId,
    /// The first that waits is here or later.
    next: Seq,
    /// How many are on the way to it.
    on_the_way: usize,
    /// How many may be: one, until it has taken one.
    room: usize,
    /// It has put something off, and is not tried again yet.
    rests: bool,
    /// The scan has met a message that it does not take now.
    is_full: bool,
}

impl Outgoing {
    /// What a restart left over begins at `next`.
    pub(super) fn from_log(next: Seq) -> Self {
        Self { unseen: Some(next), ..Self::default() }
    }

    /// Something is on the way, or waits in the log.
    pub(super) fn is_open(&self) -> bool {
        !self.on_the_way.is_empty() || self.waits_in_log()
    }

    /// Something waits in the log.
    pub(super) fn waits_in_log(&self) -> bool {
        !self.behind.is_empty() || self.unseen.is_some()
    }

    /// Everything up to here is confirmed, in a log that ends at `head`.
    pub(super) fn confirmed_up_to(&self, head: Seq) -> Seq {
        let first = self.on_the_way.front().map(|(seq, _)| *seq);
        let waiting = self.behind.iter().map(|behind| behind.next).chain(self.unseen).chain(first).min();
        waiting.map_or(head, Seq::previous)
    }

    /// A message has been numbered. True: it is on the way now; otherwise it is found in the log when its turn has come.
    pub(super) fn take(&mut self, seq: Seq, to: ConversationId) -> bool {
        if self.waits_in_log() && (self.unseen.is_some() || self.place_behind(to).is_some()) {
            return false;
        }
        if self.has_room(to) {
            self.on_the_way.push_back((seq, to));
            return true;
        }
        self.fall_behind(seq, to);
        false
    }

    /// Whether this message is on the way.
    pub(super) fn is_on_the_way(&self, seq: Seq) -> bool {
        self.on_the_way.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok()
    }

    /// Whether the destination may not have this message yet.
    pub(super) fn is_owed(&self, seq: Seq, to: ConversationId) -> bool {
        let is_behind = self.place_behind(to).is_some_and(|at| self.behind[at].next <= seq);
        is_behind || self.unseen.is_some_and(|unseen| unseen <= seq) || self.is_on_the_way(seq)
    }

    /// The message to the same destination that is on the way before this one; zero: it has all before this one.
    pub(super) fn before(&self, seq: Seq, to: ConversationId) -> Seq {
        let mut earlier = self.on_the_way.iter().rev().filter(|(of, other)| *of < seq && *other == to);
        earlier.next().map_or(Seq::ZERO, |(seq, _)| *seq)
    }

    /// The destination has the message.
    pub(super) fn confirm(&mut self, seq: Seq, to: ConversationId) {
        // Mostly they come in order.
        if self.on_the_way.front() == Some(&(seq, to)) {
            self.on_the_way.pop_front();
        } else if let Ok(at) = self.on_the_way.binary_search(&(seq, to)) {
            self.on_the_way.remove(at);
        } else {
            return;
        }
        if self.on_the_way.is_empty() && self.on_the_way.capacity() > ON_THE_WAY_KEPT {
            self.on_the_way.shrink_to(ON_THE_WAY_KEPT);
        }
        if let Some(at) = self.place_behind(to) {
            let behind = &mut self.behind[at];
            behind.on_the_way -= 1;
            behind.room = ON_THE_WAY_MAX;
        }
    }

    /// A read mark that is on the way and that nobody need be told any more.
    pub(super) fn forgo(&mut self, seq: Seq) {
        if let Ok(at) = self.on_the_way.binary_search_by_key(&seq, |(seq, _)| *seq) {
            let (_, to) = self.on_the_way[at];
            self.confirm(seq, to);
        }
    }

    /// The destination does not take the message now, nor what followed it. True: it begins to rest, until [`Outgoing::wake`].
    pub(super) fn put_off(&mut self, seq: Seq, to: ConversationId) -> bool {
        if self.on_the_way.binary_search(&(seq, to)).is_err() {
            // It was confirmed, or put off with an earlier one.
            return false;
        }
        self.on_the_way.retain(|(of, other)| *other != to || *of < seq);
        let at = self.place_behind(to).unwrap_or_else(|| {
            self.behind.push(Behind { to, next: seq, on_the_way: 0, room: 1, rests: false, is_full: false });
            self.behind.len() - 1
        });
        let on_the_way = self.count(to);
        let behind = &mut self.behind[at];
        (behind.next, behind.on_the_way, behind.room) = (behind.next.min(seq), on_the_way, 1);
        !std::mem::replace(&mut behind.rests, true)
    }

    /// Whether something is on the way to one of these destinations.
    pub(super) fn is_on_the_way_to(&self, is_meant: impl Fn(ConversationId) -> bool) -> bool {
        self.on_the_way.iter().any(|(_, to)| is_meant(*to))
    }

    /// These destinations may not get what is on the way to them, nor answer it. Which of them begin to rest.
    pub(super) fn lose(&mut self, is_lost: impl Fn(ConversationId) -> bool) -> Vec<ConversationId> {
        let mut lost: Vec<(Seq, ConversationId)> = Vec::new();
        for (seq, to) in &self.on_the_way {
            if is_lost(*to) && !lost.iter().any(|(_, other)| other == to) {
                lost.push((*seq, *to));
            }
        }
        lost.retain(|(seq, to)| self.put_off(*seq, *to));
        lost.into_iter().map(|(_, to)| to).collect()
    }

    /// A destination that rested is to be tried again.
    pub(super) fn wake(&mut self, to: ConversationId) {
        if let Some(at) = self.place_behind(to) {
            self.behind[at].rests = false;
        }
    }

    /// Begins to read the log for those who can take something, if there are any and no part of it is being read. From where on.
    pub(super) fn begin_scan(&mut self) -> Option<Seq> {
        if self.scan.is_some() {
            return None;
        }
        let ready = self.behind.iter().filter(|behind| !behind.rests && behind.on_the_way == 0);
        let has_room = self.behind.len() < BEHIND_MAX && self.on_the_way.len() <= ON_THE_WAY_OF_ALL_MAX / 2;
        self.scan = ready.map(|behind| behind.next).chain(self.unseen.filter(|_| has_room)).min();
        self.scan
    }

    /// A message in the part of the log that is being read, in its order. True: it is on the way now.
    pub(super) fn offer(&mut self, seq: Seq, to: ConversationId) -> bool {
        let Some(begin) = self.scan else { return false };
        let all = self.on_the_way.len();
        let Some(at) = self.place_behind(to) else {
            if self.scan_is_full || self.unseen.is_none_or(|unseen| seq < unseen) {
                // It is on the way, or confirmed; or it is found again.
                return false;
            }
            let is_taken = self.has_room(to);
            if is_taken {
                self.insert(seq, to);
            } else if self.behind.len() < BEHIND_MAX {
                let on_the_way = self.count(to);
                let room = ON_THE_WAY_MAX;
                self.behind.push(Behind { to, next: seq, on_the_way, room, rests: false, is_full: true });
            } else {
                self.scan_is_full = true;
                self.unseen = Some(seq);
                return false;
            }
            self.unseen = Some(seq.next());
            return is_taken;
        };
        let behind = &mut self.behind[at];
        if behind.is_full || seq < behind.next || behind.next < begin {
            return false;
        }
        // One is always let through, so that no destination waits for others.
        let has_room = behind.on_the_way == 0 || (behind.on_the_way < behind.room && all < ON_THE_WAY_OF_ALL_MAX);
        if behind.rests || !has_room {
            (behind.next, behind.is_full) = (seq, true);
            return false;
        }
        (behind.next, behind.on_the_way) = (seq.next(), behind.on_the_way + 1);
        self.insert(seq, to);
        true
    }

    /// The log has been read up to `covered`. `is_head`: it ends there, and those who have got everything are no longer behind.
    pub(super) fn end_scan(&mut self, covered: Seq, is_head: bool) {
        let Some(begin) = self.scan.take() else { return };
        for behind in &mut self.behind {
            if !std::mem::take(&mut behind.is_full) && behind.next >= begin {
                behind.next = behind.next.max(covered.next());
            }
        }
        if !std::mem::take(&mut self.scan_is_full) {
            self.unseen = self.unseen.map(|unseen| if unseen >= begin { unseen.max(covered.next()) } else { unseen });
        }
        if is_head {
            self.behind.retain(|behind| behind.next <= covered);
            self.unseen = self.unseen.filter(|unseen| *unseen <= covered);
        }
    }

    /// The log could not be read.
    pub(super) fn abandon_scan(&mut self) {
        self.scan = None;
        self.scan_is_full = false;
        self.behind.iter_mut().for_each(|behind| behind.is_full = false);
    }

    fn place_behind(&self, to: ConversationId) -> Option<usize> {
        self.behind.iter().position(|behind| behind.to == to)
    }

    fn count(&self, to: ConversationId) -> usize {
        self.on_the_way.iter().filter(|(_, other)| *other == to).count()
    }

    /// Whether one more may be on the way to a destination that is not behind.
    fn has_room(&self, to: ConversationId) -> bool {
        let all = self.on_the_way.len();
        all < ON_THE_WAY_MAX || (all < ON_THE_WAY_OF_ALL_MAX && self.count(to) < ON_THE_WAY_MAX)
    }

    fn fall_behind(&mut self, seq: Seq, to: ConversationId) {
        if self.behind.len() < BEHIND_MAX {
            let on_the_way = self.count(to);
            self.behind.push(Behind { to, next: seq, on_the_way, room: ON_THE_WAY_MAX, rests: false, is_full: false });
        } else {
            self.unseen = Some(seq);
        }
    }

    fn insert(&mut self, seq: Seq, to: ConversationId) {
        if let Err(at) = self.on_the_way.binary_search(&(seq, to)) {
            self.on_the_way.insert(at, (seq, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use proto_spec::UserId;

    use super::*;

    const fn to(user: u64) -> ConversationId {
        ConversationId::Person(UserId(user))
    }

    #[test]
    fn one_who_takes_nothing_holds_up_nobody() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.take(Seq(1), to(8)) && outgoing.take(Seq(2), to(9)));
        assert!(outgoing.put_off(Seq(1), to(8)));
        assert!(!outgoing.take(Seq(3), to(8)), "it is behind");
        assert!(outgoing.take(Seq(4), to(9)), "nobody else is");
        outgoing.confirm(Seq(2), to(9));
        outgoing.confirm(Seq(4), to(9));
        assert_eq!(outgoing.confirmed_up_to(Seq(4)), Seq(0));
        assert_eq!(outgoing.begin_scan(), None, "it rests");
        outgoing.wake(to(8));
        assert_eq!(outgoing.begin_scan(), Some(Seq(1)));
        assert!(outgoing.offer(Seq(1), to(8)));
        assert!(!outgoing.offer(Seq(3), to(8)), "one, until it has taken one");
        outgoing.end_scan(Seq(4), true);
        outgoing.confirm(Seq(1), to(8));
        assert_eq!(outgoing.begin_scan(), Some(Seq(3)));
        assert!(outgoing.offer(Seq(3), to(8)));
        outgoing.end_scan(Seq(4), true);
        assert!(!outgoing.waits_in_log() && outgoing.take(Seq(5), to(8)));
    }

    #[test]
    fn what_a_restart_left_over_goes_out_before_what_is_new_and_past_those_who_take_nothing() {
        let mut outgoing = Outgoing::from_log(Seq(1));
        assert!(!outgoing.take(Seq(4), to(9)), "older ones may be in the log");
        assert_eq!(outgoing.begin_scan(), Some(Seq(1)));
        assert!(outgoing.offer(Seq(1), to(8)) && outgoing.offer(Seq(2), to(9)));
        outgoing.end_scan(Seq(2), false);
        assert!(outgoing.put_off(Seq(1), to(8)));
        assert_eq!(outgoing.begin_scan(), Some(Seq(3)));
        assert!(!outgoing.offer(Seq(3), to(8)) && outgoing.offer(Seq(4), to(9)));
        outgoing.end_scan(Seq(4), true);
        assert_eq!(outgoing.before(Seq(4), to(9)), Seq(2));
        assert!(outgoing.take(Seq(5), to(9)) && !outgoing.take(Seq(6), to(8)));
    }

    /// A world of one sender: a log, and destinations that take, put off or stay silent as they like.
    #[derive(Debug, Default)]
    struct Model {
        outgoing: Outgoing,
        log: Vec<ConversationId>,
        posted: Vec<(Seq, Seq, ConversationId)>,
        received: BTreeMap<ConversationId, Seq>,
        resting: BTreeSet<ConversationId>,
    }

    impl Model {
        fn post(&mut self, seq: Seq, to: ConversationId) {
            let before = self.outgoing.before(seq, to);
            self.posted.push((seq, before, to));
        }

        fn send(&mut self, to: ConversationId) {
            self.log.push(to);
            let seq = Seq(self.log.len() as u64);
            if self.outgoing.take(seq, to) {
                self.post(seq, to);
            }
        }

        fn scan(&mut self, most: usize) {
            let Some(begin) = self.outgoing.begin_scan() else { return };
            let end = (begin.0 as usize - 1 + most).min(self.log.len());
            for at in begin.0 as usize - 1..end {
                let (seq, to) = (Seq(at as u64 + 1), self.log[at]);
                if self.outgoing.offer(seq, to) {
                    self.post(seq, to);
                }
            }
            self.outgoing.end_scan(Seq(end as u64), end == self.log.len());
        }

        /// The recipient's home gets the oldest envelope for some destination, in its order.
        fn arrive(&mut self, pick: usize, takes: bool) {
            if self.posted.is_empty() {
                return;
            }
            let to = self.posted[pick % self.posted.len()].2;
            let at = self.posted.iter().position(|(.., other)| *other == to).unwrap();
            let (seq, before, to) = self.posted.remove(at);
            let received = self.received.entry(to).or_default();
            if seq <= *received {
                return self.outgoing.confirm(seq, to);
            }
            if !takes || before > *received {
                if self.outgoing.put_off(seq, to) {
                    self.resting.insert(to);
                }
                return;
            }
            let missed = (received.0 as usize..seq.0 as usize - 1).find(|at| self.log[*at] == to);
            assert_eq!(missed, None, "{seq} to {to} has overtaken one");
            *received = seq;
            self.outgoing.confirm(seq, to);
        }

        fn wake(&mut self) {
            std::mem::take(&mut self.resting).into_iter().for_each(|to| self.outgoing.wake(to));
        }

        fn check(&self) {
            let confirmed = self.outgoing.confirmed_up_to(Seq(self.log.len() as u64));
            for (at, to) in self.log.iter().enumerate().take(confirmed.0 as usize) {
                let received = self.received.get(to).copied().unwrap_or_default();
                assert!(Seq(at as u64 + 1) <= received, "the mark has passed {} to {to}", at + 1);
            }
            assert!(self.outgoing.on_the_way.len() <= ON_THE_WAY_OF_ALL_MAX + BEHIND_MAX);
        }
    }

    proptest! {
        #[test]
        fn every_message_arrives_once_and_in_order(
            steps in proptest::collection::vec((0..10u8, any::<usize>()), 0..400), left_over in 0..20usize
        ) {
            let mut model = Model::default();
            model.log.extend((0..left_over).map(|at| to(1 + at as u64 % 3)));
            if left_over > 0 {
                model.outgoing = Outgoing::from_log(Seq(1));
            }
            for (kind, pick) in steps {
                match kind {
                    0..=2 => model.send(to(1 + pick as u64 % 5)),
                    3 => model.scan(1 + pick % 20),
                    4..=6 => model.arrive(pick, true),
                    7 => model.arrive(pick, false),
                    8 => model.wake(),
                    // So many at once that the bounds are reached.
                    _ => (0..pick % 400).for_each(|_| model.send(to(1 + pick as u64 % 5))),
                }
                model.check();
            }
            while model.outgoing.is_open() {
                model.wake();
                model.scan(500);
                while !model.posted.is_empty() {
                    model.arrive(0, true);
                }
                model.check();
            }
            for (at, to) in model.log.iter().enumerate() {
                prop_assert!(model.received[to] >= Seq(at as u64 + 1));
            }
        }
    }
}
