//! Feed: how far one connection has been offered its user's log, and how it gets what follows.
//!
//! It is live (each entry is delivered when it is released) or catching up (pages, one after the other). Pure data; `outbox` reads,
//! sends, and decides when a connection has room.
//!
//! Invariants: what was offered is a prefix of the log above the cursor, without holes, and ends before what is not released
//! (contract 5); one page is read at a time.

use proto_spec::Seq;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    Live,
    CatchingUp { reading: bool },
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Feed {
    /// Everything up to here has been offered.
    offered: Seq,
    push: Push,
}

/// What a connection that catches up gets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing now: it is live, or a page of it is being read.
    Nothing,
    /// A page from here on, which the store has. See [`Feed::has_read`].
    Store(Seq),
    /// A page from here on, which the tail has.
    Tail(Seq),
}

impl Feed {
    /// A connection that knows everything up to `cursor`.
    pub(super) const fn after(cursor: Seq) -> Self {
        Self { offered: cursor, push: Push::CatchingUp { reading: false } }
    }

    /// Everything up to here has been offered.
    pub(super) const fn offered(&self) -> Seq {
        self.offered
    }

    pub(super) fn is_live(&self) -> bool {
        self.push == Push::Live
    }

    /// An entry is delivered to a connection that is live.
    pub(super) fn deliver(&mut self, seq: Seq) {
        assert_eq!(self.offered.next(), seq, "an entry is offered once, in its order, and none is left out");
        self.offered = seq;
    }

    /// A connection that was live goes on with pages.
    pub(super) const fn fall_behind(&mut self) {
        self.push = Push::CatchingUp { reading: false };
    }

    /// The connection is told that its own send has become an entry. With nothing else to catch up the client counts that as
    /// covered (SPEC 4.8).
    pub(super) fn accept(&mut self, seq: Seq) {
        if self.offered.next() == seq {
            self.offered = seq;
        }
    }

    /// How a connection with room goes on, in a log that is stored and released so far. With nothing left it is live.
    pub(super) fn next(&mut self, stored: Seq, released: Seq) -> Next {
        let first = self.offered.next();
        match self.push {
            Push::Live | Push::CatchingUp { reading: true } => Next::Nothing,
            Push::CatchingUp { reading: false } if first > released => {
                self.push = Push::Live;
                Next::Nothing
            }
            Push::CatchingUp { reading: false } if first <= stored => {
                self.push = Push::CatchingUp { reading: true };
                Next::Store(first)
            }
            Push::CatchingUp { reading: false } => Next::Tail(first),
        }
    }

    /// The store has answered.
    pub(super) fn has_read(&mut self) {
        assert_eq!(self.push, Push::CatchingUp { reading: true }, "the store is asked for each page once");
        self.push = Push::CatchingUp { reading: false };
    }

    /// A page is pushed. It begins right after what was offered, or overlaps with it: an own entry may have been accepted again while
    /// the page was read.
    pub(super) fn push_page(&mut self, first: Seq, last: Seq) {
        assert!(first <= self.offered.next(), "a page leaves no hole");
        self.offered = self.offered.max(last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connection_gets_what_the_store_has_then_the_tail_and_is_live_with_nothing_left() {
        let mut feed = Feed::after(Seq(2));
        assert_eq!(feed.next(Seq(5), Seq(9)), Next::Store(Seq(3)));
        assert_eq!(feed.next(Seq(5), Seq(9)), Next::Nothing, "one page is read at a time");
        feed.has_read();
        feed.push_page(Seq(3), Seq(5));
        assert_eq!(feed.next(Seq(5), Seq(9)), Next::Tail(Seq(6)));
        feed.push_page(Seq(6), Seq(9));
        assert!(!feed.is_live());
        assert_eq!(feed.next(Seq(5), Seq(9)), Next::Nothing);
        assert!(feed.is_live());
        feed.deliver(Seq(10));
        feed.fall_behind();
        assert_eq!(feed.next(Seq(5), Seq(11)), Next::Tail(Seq(11)));
    }

    proptest! {
        /// A log that grows, a store that takes it in, and a client that counts what it was offered.
        #[test]
        fn every_entry_is_offered_once_released_and_none_is_left_out(
            steps in prop::collection::vec((0..6u8, 1..20u64), 0..200), cursor in 0..10u64
        ) {
            let (mut feed, mut stored, mut released) = (Feed::after(Seq(cursor)), Seq(cursor), Seq(cursor + 5));
            let (mut client, mut asked) = (Seq(cursor), None);
            for (step, many) in steps {
                match step {
                    // An entry, which a live connection gets or falls behind at; or it is the connection's own.
                    0 | 1 => {
                        released = released.next();
                        if many == 1 {
                            feed.accept(released);
                            client = if client.next() == released { released } else { client };
                        } else if feed.is_live() && many < 17 {
                            prop_assert_eq!(client.next(), released);
                            feed.deliver(released);
                            client = released;
                        } else if feed.is_live() {
                            feed.fall_behind();
                        }
                    }
                    2 => stored = released.min(Seq(stored.0 + many)),
                    // An own entry that was not known to be accepted is accepted again.
                    3 if many == 1 && client < released => {
                        let seq = client.next();
                        feed.accept(seq);
                        client = seq;
                    }
                    4 if asked.is_some() => {
                        let (first, end): (Seq, Seq) = asked.take().unwrap();
                        let last = end.min(Seq(first.0 + many));
                        feed.has_read();
                        prop_assert!(first <= client.next());
                        feed.push_page(first, last);
                        client = client.max(last);
                    }
                    _ => match feed.next(stored, released) {
                        Next::Nothing => prop_assert!(asked.is_some() || client == released),
                        Next::Store(first) => {
                            prop_assert!(asked.is_none() && first <= stored);
                            asked = Some((first, stored));
                        }
                        Next::Tail(first) => {
                            prop_assert!(asked.is_none() && stored < first && first == client.next());
                            let last = released.min(Seq(first.0 + many));
                            feed.push_page(first, last);
                            client = last;
                        }
                    },
                }
                prop_assert_eq!(feed.offered(), client);
                prop_assert!(client <= released);
            }
        }
    }
}
