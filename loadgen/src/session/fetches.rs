//! Fetches of one connection that wait for their page, and whether a page is an answer to its fetch (SPEC 4.11, 8.3). Pure.

use proto_spec::{ClientFrame, Direction, Page, RequestId, Seq, UserId, limits::FETCHES_IN_FLIGHT_MAX};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The peer of a conversation; none for the whole log.
    pub peer: Option<UserId>,
    /// Where to start, included. Zero, going backwards, means the head.
    pub from: Seq,
    /// Which way.
    pub direction: Direction,
    /// Most entries wanted.
    pub limit: u64,
}

impl Fetch {
    /// The next page of this reading, if there is one.
    #[must_use]
    pub fn following(&self, page: &Page) -> Option<Self> {
        let from = match self.direction {
            Direction::Forwards => page.last.next(),
            Direction::Backwards => page.first.previous(),
        };
        page.more.then_some(Self { from, ..*self })
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: RequestId,
    fetch: Fetch,
    asked_us: u64,
}

/// The fetches of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetches {
    waiting: Vec<Waiting>,
    last_request: u64,
}

impl Fetches {
    /// Fetches without their page.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Asks for a page; false when too many wait.
    pub(super) fn ask(&mut self, now_us: u64, fetch: Fetch, out: &mut Vec<u8>) -> bool {
        let has_room = self.waiting.len() < FETCHES_IN_FLIGHT_MAX;
        if has_room {
            self.last_request += 1;
            let waiting = Waiting { request: RequestId(self.last_request), fetch, asked_us: now_us };
            waiting.encode(out);
            self.waiting.push(waiting);
        }
        has_room
    }

    /// Asks again for everything that waits: on a new connection, or after a refusal that has passed.
    pub(super) fn ask_again(&self, out: &mut Vec<u8>) {
        self.waiting.iter().for_each(|waiting| waiting.encode(out));
    }

    /// Asks again for one page whose fetch was refused for now.
    pub(super) fn repeat(&self, request: RequestId, out: &mut Vec<u8>) {
        self.waiting.iter().filter(|waiting| waiting.request == request).for_each(|waiting| waiting.encode(out));
    }

    /// The fetch that a page answers, and when it was asked for.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<(Fetch, u64)> {
        let at = self.waiting.iter().position(|waiting| waiting.request == request)?;
        let waiting = self.waiting.remove(at);
        Some((waiting.fetch, waiting.asked_us))
    }
}

impl Waiting {
    fn encode(&self, out: &mut Vec<u8>) {
        let (request, Fetch { peer, from, direction, limit }) = (self.request, self.fetch);
        let frame = match peer {
            Some(peer) => ClientFrame::FetchConversation { request, conversation: peer.into(), from, direction, limit },
            None => ClientFrame::FetchLog { request, from, direction, limit },
        };
        frame.encode(out);
    }
}

/// What is wrong with a page as such: its range and the order of its entries.
///
/// # Errors
/// In words.
pub fn check_page(page: &Page) -> Result<(), String> {
    let Page { first, last, .. } = page;
    let mut before = first.previous();
    for entry in &page.entries {
        if entry.seq <= before || entry.seq > *last {
            return Err(format!("a page of {first} to {last} has entry {} after {before}", entry.seq));
        }
        before = entry.seq;
    }
    if *first == Seq::ZERO || last.next() < *first || (page.more && last < first) {
        return Err(format!("a page says it covers {first} to {last}, more: {}", page.more));
    }
    Ok(())
}

/// What is wrong with a page as the answer to a fetch.
///
/// # Errors
/// In words.
pub fn check_answer(fetch: &Fetch, page: &Page) -> Result<(), String> {
    check_page(page)?;
    let from = fetch.from;
    let begins = match fetch.direction {
        Direction::Forwards => page.first == from.max(Seq(1)),
        // The head, for anything beyond it.
        Direction::Backwards => from == Seq::ZERO || page.last <= from,
    };
    let ends = page.more || fetch.direction == Direction::Forwards || page.first <= Seq(1);
    let is_short = page.entries.len() as u64 <= fetch.limit.max(1);
    if !(begins && ends && is_short) {
        let (first, last, more, entries) = (page.first, page.last, page.more, page.entries.len());
        return Err(format!("{fetch:?} was answered with {first} to {last}, {entries} entries, more: {more}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto_spec::{Entry, Event, TimestampMs};

    use super::*;

    fn page(first: u64, last: u64, more: bool, seqs: &[u64]) -> Page {
        let entry = |seq: &u64| Entry { seq: Seq(*seq), time: TimestampMs(1), event: Event::Unknown { kind: 60 } };
        Page {
            request: RequestId(1),
            first: Seq(first),
            last: Seq(last),
            more,
            entries: seqs.iter().map(entry).collect(),
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
        }
    }

    fn fetch(from: u64, direction: Direction) -> Fetch {
        Fetch { peer: None, from: Seq(from), direction, limit: 2 }
    }

    #[test]
    fn a_page_must_be_ascending_and_within_its_range() {
        for good in [page(1, 3, true, &[1, 3]), page(4, 3, false, &[]), page(1, 9, false, &[])] {
            assert_eq!(check_page(&good), Ok(()));
        }
        let bad = [
            page(1, 3, false, &[3, 1]),
            page(1, 3, false, &[2, 2]),
            page(1, 3, false, &[4]),
            page(2, 3, false, &[1]),
            page(0, 3, false, &[]),
            page(5, 3, false, &[]),
            page(4, 3, true, &[]),
        ];
        for bad in bad {
            assert!(check_page(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_begins_where_it_was_asked_to_and_says_when_there_is_more() {
        let (forwards, backwards) = (Direction::Forwards, Direction::Backwards);
        for (from, direction, answer) in [
            (0, forwards, page(1, 3, true, &[1])),
            (5, forwards, page(5, 4, false, &[])),
            (0, backwards, page(4, 5, true, &[4, 5])),
            (9, backwards, page(1, 9, false, &[])),
            (9, backwards, page(1, 7, false, &[])),
        ] {
            assert_eq!(check_answer(&fetch(from, direction), &answer), Ok(()));
        }
        for (from, direction, answer) in [
            (5, forwards, page(6, 7, false, &[])),
            (5, forwards, page(4, 7, false, &[])),
            (5, forwards, page(5, 7, false, &[5, 6, 7])),
            (9, backwards, page(1, 10, false, &[])),
            (9, backwards, page(3, 9, false, &[])),
        ] {
            assert!(check_answer(&fetch(from, direction), &answer).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_reading_goes_on_behind_its_last_page_and_ends() {
        let on = |direction, answer: Page| fetch(5, direction).following(&answer).map(|fetch| fetch.from.0);
        assert_eq!(on(Direction::Forwards, page(5, 8, true, &[])), Some(9));
        assert_eq!(on(Direction::Backwards, page(3, 5, true, &[])), Some(2));
        assert_eq!(on(Direction::Forwards, page(5, 8, false, &[])), None);
    }

    #[test]
    fn no_more_fetches_wait_than_the_server_takes_and_each_is_answered_once() {
        let mut fetches = Fetches::default();
        let mut out = Vec::new();
        let asked = (0..9).filter(|from| fetches.ask(0, fetch(*from, Direction::Forwards), &mut out)).count();
        assert_eq!(asked, FETCHES_IN_FLIGHT_MAX);
        assert_eq!(fetches.answered(RequestId(2)).map(|(fetch, _)| fetch.from), Some(Seq(1)));
        assert_eq!(fetches.answered(RequestId(2)), None);
    }
}
