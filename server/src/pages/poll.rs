//! Poll: a session of long polling, as two streams of bytes, in each of which both sides know how far they are. So a request whose answer is
//! lost is made again as it was, and nothing is lost or doubled. PURE.
//!
//! Invariant: what waits for the client is what it has not asked behind, at most [`POLL_WAITING_BYTES_MAX`] and one read more.

use thiserror::Error;

use crate::limits::POLL_WAITING_BYTES_MAX;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Poll {
    /// Bytes of the client's stream that have been taken.
    taken: u64,
    /// Bytes of the server's stream that the client has.
    told: u64,
    /// The bytes behind these.
    waiting: Vec<u8>,
    /// The server's stream has ended behind them.
    is_over: bool,
}

/// A request names a place in a stream where the session can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Astray {
    /// Bytes before it have not come.
    #[error("the server has {taken} bytes of the client's stream: send on from there, not from {at}")]
    Gap {
        /// Where the body begins.
        at: u64,
        /// Bytes that have come.
        taken: u64,
    },
    /// The server has let go of it, or has not said so much.
    #[error("the server's stream goes on at byte {from} at the earliest and {to} at the latest, not at {at}")]
    Outside {
        /// Where the client wants to go on.
        at: u64,
        /// What the client has had for sure.
        from: u64,
        /// Where the stream ends now.
        to: u64,
    },
}

/// What there is for a client that asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// These bytes, from where it has asked.
    Bytes(&'a [u8]),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over,
}

impl Poll {
    /// How many bytes of the client's stream have been taken.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Which part of a body is new that stands at this place of the client's stream. What is taken of it is noted with [`Poll::took`].
    ///
    /// # Errors
    /// Something is missing before it.
    pub fn fresh<'a>(&self, at: u64, body: &'a [u8]) -> Result<&'a [u8], Astray> {
        let known = self.taken.checked_sub(at).ok_or(Astray::Gap { at, taken: self.taken })?;
        Ok(usize::try_from(known).ok().and_then(|known| body.get(known..)).unwrap_or_default())
    }

    /// So many more bytes of the client's stream have been taken.
    pub const fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// Whether there is room for more of the server's stream.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.waiting.len() < POLL_WAITING_BYTES_MAX
    }

    /// The server's stream goes on with these bytes.
    pub fn came(&mut self, bytes: &[u8]) {
        debug_assert!(self.has_room() && !self.is_over, "read when there is room");
        self.waiting.extend_from_slice(bytes);
    }

    /// The server's stream has ended.
    pub const fn end(&mut self) {
        self.is_over = true;
    }

    /// The client has the server's stream up to this place: what is behind it?
    ///
    /// # Errors
    /// The stream can not go on there.
    pub fn ask(&mut self, at: u64) -> Result<Told<'_>, Astray> {
        let to = self.told + self.waiting.len() as u64;
        if !(self.told..=to).contains(&at) {
            return Err(Astray::Outside { at, from: self.told, to });
        }
        self.waiting.drain(..(at - self.told) as usize);
        self.told = at;
        Ok(match &self.waiting[..] {
            [] if self.is_over => Told::Over,
            [] => Told::Nothing,
            bytes => Told::Bytes(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_sent_again_is_taken_once() {
        let mut poll = Poll::default();
        assert_eq!(poll.fresh(0, b"hello").unwrap(), b"hello");
        poll.took(3);
        assert_eq!(poll.fresh(0, b"hello").unwrap(), b"lo");
        assert_eq!(poll.fresh(3, b"lo and more").unwrap(), b"lo and more");
        poll.took(2);
        assert_eq!((poll.fresh(0, b"hello").unwrap(), poll.taken()), (&b""[..], 5));
        assert_eq!(poll.fresh(0, b"he").unwrap(), b"");
        assert_eq!(poll.fresh(6, b"x"), Err(Astray::Gap { at: 6, taken: 5 }));
    }

    #[test]
    fn what_was_not_heard_is_told_again_and_what_was_is_let_go() {
        let mut poll = Poll::default();
        assert_eq!(poll.ask(0), Ok(Told::Nothing));
        poll.came(b"welcome");
        for _ in 0..2 {
            assert_eq!(poll.ask(0), Ok(Told::Bytes(b"welcome")));
        }
        assert_eq!(poll.ask(4), Ok(Told::Bytes(b"ome")));
        assert_eq!(poll.ask(0), Err(Astray::Outside { at: 0, from: 4, to: 7 }));
        assert_eq!(poll.ask(8), Err(Astray::Outside { at: 8, from: 4, to: 7 }));
        poll.end();
        assert_eq!(poll.ask(4), Ok(Told::Bytes(b"ome")));
        assert_eq!(poll.ask(7), Ok(Told::Over));
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let mut poll = Poll::default();
        poll.came(&vec![0; POLL_WAITING_BYTES_MAX - 1]);
        assert!(poll.has_room());
        poll.came(&[0; 2]);
        assert!(!poll.has_room());
        poll.ask(2).unwrap();
        assert!(poll.has_room());
    }

    proptest! {
        /// Requests and answers are lost and come again in any order; each stream arrives as it was.
        #[test]
        fn both_streams_arrive_whole_whatever_is_lost(
            said in prop::collection::vec(any::<u8>(), 0..200),
            told in prop::collection::vec(any::<u8>(), 0..200),
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 1_usize..40, 1_usize..40), 0..200),
        ) {
            let mut poll = Poll::default();
            // What arrived, how far the client knows that, and what the server has been given to tell.
            let (mut arrived, mut known, mut heard, mut given) = (Vec::new(), 0, Vec::new(), 0);
            let every = [(true, false, 40, 40), (false, false, 40, 40)];
            for (says, is_lost, much, some) in steps.into_iter().chain(every.into_iter().cycle().take(40)) {
                if says {
                    let body = &said[known..said.len().min(known + much)];
                    let fresh = poll.fresh(known as u64, body).unwrap();
                    let took = fresh.len().min(some);
                    arrived.extend_from_slice(&fresh[..took]);
                    poll.took(took);
                    known = if is_lost { known } else { poll.taken() as usize };
                } else {
                    let more = &told[given..told.len().min(given + much)];
                    poll.came(more);
                    given += more.len();
                    match poll.ask(heard.len() as u64).unwrap() {
                        Told::Bytes(bytes) if !is_lost => heard.extend_from_slice(bytes),
                        Told::Bytes(_) | Told::Nothing => {}
                        Told::Over => prop_assert!(false, "it has not ended"),
                    }
                }
            }
            prop_assert_eq!(arrived, said);
            prop_assert_eq!(heard, told);
        }
    }
}
