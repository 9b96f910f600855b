//! Digests of the log: what a device compares to know that it holds the same history (SPEC 8.9).
//!
//! They are made when they are asked for, of what a fetch of the same range would show, piece by piece. To keep one with the log would
//! cost each message, and each entry that supersedes another the hash of that one, for what is asked for rarely.

use proto_spec::{
    ClientKind, Digests, Direction, Entry, RequestId, Seq, ServerFrame,
    digest::{self, Digest, RangeDigest},
    limits::DIGESTS_MAX,
};

use super::{ConnId, Shard, Turn, fetch::Fetch, shedding::Class, user::Room};
use crate::limits::{DIGEST_PIECE_BYTES, DIGEST_PIECE_ENTRIES};

/// Digests in the making.
#[derive(Debug)]
pub(super) struct Digesting {
    first: Seq,
    width: u64,
    done: Vec<Digest>,
    open: RangeDigest,
}

impl Digesting {
    /// Of this range, by `width` seqs each or all at once if that is zero; and up to where all of them together can reach.
    pub(super) fn of((first, last): (Seq, Seq), width: u64) -> (Self, Seq) {
        let all = last.0.saturating_sub(first.previous().0).max(1);
        let digesting = Self::new(first, if width == 0 { all } else { width });
        let last = last.min(digesting.reach());
        (digesting, last)
    }

    /// Of the ranges of `width` seqs, above zero, from `first` on.
    fn new(first: Seq, width: u64) -> Self {
        Self { first, width, done: Vec::new(), open: RangeDigest::new() }
    }

    /// The last seq that all ranges together can reach.
    const fn reach(&self) -> Seq {
        Seq(self.first.0.saturating_add(self.width.saturating_mul(DIGESTS_MAX) - 1))
    }

    const fn open_first(&self) -> Seq {
        Seq(self.first.0.saturating_add(self.width.saturating_mul(self.done.len() as u64)))
    }

    /// These entries, by their digests, are what the log has up to `covered`, after what was added before.
    pub(super) fn add(&mut self, entries: impl IntoIterator<Item = (Seq, Digest)>, covered: Seq) {
        for (seq, digest) in entries {
            self.close_before(seq);
            self.open.add(&digest);
        }
        self.close_before(covered.next());
    }

    /// Ends the ranges that end before `seq`.
    fn close_before(&mut self, seq: Seq) {
        while self.open_first().0.saturating_add(self.width) <= seq.0 && (self.done.len() as u64) < DIGESTS_MAX {
            self.done.push(std::mem::take(&mut self.open).finish());
        }
    }

    /// Nothing more is added: up to `covered` all is.
    pub(super) fn finish(mut self, request: RequestId, at: Seq, covered: Seq) -> Digests {
        if self.open_first() <= covered {
            self.done.push(std::mem::take(&mut self.open).finish());
        }
        Digests { request, at, first: self.first, last: covered, width: self.width, digests: self.done }
    }
}

impl Shard {
    /// A client asks for digests of the user's log.
    pub(super) fn fetch_digest(
        &mut self,
        (conn, request): (ConnId, RequestId),
        (first, last): (Seq, Seq),
        width: u64,
        cx: &mut Turn<'_>,
    ) {
        if !self.may_fetch(conn, ClientKind::FetchDigest, request, cx) {
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let first = first.max(Seq(1));
        let last = if last == Seq::ZERO { user.released } else { last.min(user.released) };
        let (digesting, last) = Digesting::of((first, last), width);
        let room = Room { direction: Direction::Forwards, entries: DIGEST_PIECE_ENTRIES, bytes: DIGEST_PIECE_BYTES };
        self.fetch_page(conn, request, Fetch::digest(digesting, (first, last), room), cx);
    }

    /// A piece has been read, up to `covered`. The next one, if the store has it and the user may ask for so much; else the answer.
    pub(super) fn piece_read(
        &mut self,
        (conn, request): (ConnId, RequestId),
        mut fetch: Fetch,
        mut digesting: Digesting,
        (entries, covered): (&[Entry], Seq),
        cx: &mut Turn<'_>,
    ) {
        digesting.add(entries.iter().map(|entry| (entry.seq, digest::of_entry(entry))), covered);
        let sheds = self.sheds(Class::Read).is_some();
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let goes_on = covered < fetch.last && covered < user.stored && !sheds;
        let limits = &self.settings.limits;
        if goes_on && limits.fetches.take(&mut user.buckets.fetches, cx.now.monotonic_ms).is_ok() {
            fetch.goes_on(covered.next(), digesting);
            return self.fetch_page(conn, request, fetch, cx);
        }
        session.fetches -= 1;
        let digests = digesting.finish(request, user.released, covered);
        self.send(conn, &ServerFrame::Digest(digests), cx);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };
    use proto_spec::{Event, TimestampMs, UserId};

    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry { seq: Seq(seq), time: TimestampMs(seq), event: Event::Seen { peer: UserId(1), up_to: Seq(seq) } }
    }

    proptest! {
        /// However the log is cut into pieces, each digest is that of what its range has.
        #[test]
        fn pieces_make_the_digests_of_the_ranges(
            seqs in btree_set(1..300u64, 0..100), first in 1..50u64, last in 0..300u64, width in 1..40u64,
            cuts in vec(0..300u64, 0..5)
        ) {
            let mut digesting = Digesting::new(Seq(first), width);
            let last = last.max(first - 1).min(digesting.reach().0);
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| (first..last).contains(cut)).chain([last]).collect();
            cuts.sort_unstable();
            let mut begin = first;
            for end in cuts {
                let piece: Vec<_> = seqs.range(begin..end + 1).copied().map(entry).collect();
                digesting.add(piece.iter().map(|entry| (entry.seq, digest::of_entry(entry))), Seq(end));
                begin = end + 1;
            }
            let made = digesting.finish(RequestId(1), Seq(400), Seq(last));
            let wanted: Vec<_> = (0..)
                .map(|part| first + part * width)
                .take_while(|begin| *begin <= last)
                .map(|begin| {
                    let mut range = RangeDigest::new();
                    let end = (begin + width - 1).min(last);
                    seqs.range(begin..=end).for_each(|seq| range.add(&digest::of_entry(&entry(*seq))));
                    range.finish()
                })
                .collect();
            prop_assert_eq!(made.digests, wanted);
        }
    }
}
