//! What one device has asked for beside its sends and waits for, and whether a page is an answer to its fetch (SPEC 4.11, 8.3). Pure.

use proto_spec::{
    ClientFrame, Direction, Entry, GroupId, Inbox, Page, RequestId, Seq, Settings, UserId, Visibility,
    limits::{FETCHES_IN_FLIGHT_MAX, GROUP_ROWS_MAX, PAGE_ENTRIES_MAX, UNREAD_MAX},
};

use crate::{
    limits::MARKS_IN_FLIGHT_MAX,
    verify::{KeptId, groups::GroupFetch},
};

/// What is asked for. Each may be asked for again: it changes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A page.
    Page(Fetch),
    /// A page of the list of conversations.
    Inbox {
        /// Those whose last message stands before this place; zero: all.
        before: Seq,
        /// Most rows wanted.
        limit: u64,
    },
    /// A page of a group.
    GroupPage(GroupFetch),
    /// The groups of the user with higher ids.
    Groups {
        /// Than this.
        after: GroupId,
    },
    /// That a conversation has been read.
    Read {
        /// With whom.
        author: UserId,
        /// Up to this place.
        up_to: Seq,
    },
    /// How a conversation is kept.
    Set {
        /// With whom.
        peer: UserId,
        /// These, and none of the others that there are for a person.
        settings: Settings,
    },
    /// That somebody is blocked, or is no longer.
    Block {
        /// Who.
        peer: UserId,
        /// Which of it.
        is_blocked: bool,
    },
    /// That nobody sees whether this user is there, or that they see it again.
    Hide {
        /// Which of it.
        is_hidden: bool,
    },
    /// That a message is gone for this user.
    Delete {
        /// Which message.
        kept: KeptId,
        /// In the conversation with whom.
        peer: UserId,
        /// Where it stands.
        place: Seq,
    },
}

/// A page that is asked for.
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
    ask: Ask,
    asked_us: u64,
}

/// What one device waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetches {
    waiting: Vec<Waiting>,
    last_request: u64,
}

impl Fetches {
    /// Nothing is waited for.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Fetches without their page.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.ask.is_fetch()).count()
    }

    /// Everything that has no answer.
    pub(super) const fn all(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more may be asked for, of the kind of this one.
    pub(super) fn has_room(&self, ask: Ask) -> bool {
        let most = if ask.is_fetch() { FETCHES_IN_FLIGHT_MAX } else { MARKS_IN_FLIGHT_MAX };
        self.waiting.iter().filter(|waiting| waiting.ask.is_fetch() == ask.is_fetch()).count() < most
    }

    /// Asks for something; false when too much is waited for.
    pub(super) fn ask(&mut self, now_us: u64, ask: Ask, out: &mut Vec<u8>) -> bool {
        let has_room = self.has_room(ask);
        if has_room {
            self.last_request += 1;
            let waiting = Waiting { request: RequestId(self.last_request), ask, asked_us: now_us };
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

    /// What an answer is to, and when that was asked for.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<(Ask, u64)> {
        let at = self.waiting.iter().position(|waiting| waiting.request == request)?;
        let waiting = self.waiting.remove(at);
        Some((waiting.ask, waiting.asked_us))
    }
}

impl Ask {
    /// Whether the answer is a page.
    pub(super) const fn is_fetch(&self) -> bool {
        matches!(self, Self::Page(_) | Self::Inbox { .. } | Self::GroupPage(_) | Self::Groups { .. })
    }
}

/// What a person can set of a conversation, but that they block it.
pub const SETTINGS: Settings =
    Settings::from_bits(Settings::MUTED.bits() | Settings::ARCHIVED.bits() | Settings::PINNED.bits());

impl Waiting {
    fn encode(&self, out: &mut Vec<u8>) {
        let request = self.request;
        let frame = match self.ask {
            Ask::Page(Fetch { peer: Some(peer), from, direction, limit }) => {
                ClientFrame::FetchConversation { request, conversation: peer.into(), from, direction, limit }
            }
            Ask::Page(Fetch { peer: None, from, direction, limit }) => {
                ClientFrame::FetchLog { request, from, direction, limit }
            }
            Ask::Inbox { before, limit } => ClientFrame::FetchInbox { request, before, limit, messages: 0 },
            Ask::GroupPage(GroupFetch { group, from, .. }) => {
                let (direction, limit) = (Direction::Forwards, PAGE_ENTRIES_MAX);
                ClientFrame::FetchConversation { request, conversation: group.into(), from, direction, limit }
            }
            Ask::Groups { after } => ClientFrame::FetchGroups { request, after, limit: GROUP_ROWS_MAX },
            Ask::Read { author, up_to } => {
                ClientFrame::MarkRead { request, conversation: author.into(), up_to, tell: true }
            }
            Ask::Set { peer, settings } => {
                let cleared = Settings::from_bits(SETTINGS.bits() & !settings.bits());
                ClientFrame::SetConversation { request, conversation: peer.into(), set: settings, cleared }
            }
            Ask::Block { peer, is_blocked } => {
                let (set, cleared) = either(is_blocked, Settings::BLOCKED, Settings::default());
                ClientFrame::SetConversation { request, conversation: peer.into(), set, cleared }
            }
            Ask::Hide { is_hidden } => {
                let (set, cleared) = either(is_hidden, Visibility::INVISIBLE, Visibility::default());
                ClientFrame::SetVisibility { request, set, cleared }
            }
            Ask::Delete { peer, place, .. } => ClientFrame::DeleteMessage { request, conversation: peer.into(), place },
        };
        frame.encode(out);
    }
}

/// What is set and what is cleared.
const fn either<T: Copy>(is_set: bool, bits: T, none: T) -> (T, T) {
    if is_set { (bits, none) } else { (none, bits) }
}

/// What is wrong with a page of the log as such: its range and the order of its entries.
///
/// # Errors
/// In words.
pub fn check_page(page: &Page) -> Result<(), String> {
    let mut before = page.first.previous();
    for entry in &page.entries {
        if entry.seq <= before || entry.seq > page.last {
            let (first, last) = (page.first, page.last);
            return Err(format!("a page of {first} to {last} has entry {} after {before}", entry.seq));
        }
        before = entry.seq;
    }
    check_range(page)
}

/// What is wrong with a page of a conversation: messages stand at their places, and their reactions behind them.
fn check_talk(page: &Page) -> Result<(), String> {
    let (mut before, mut reaction) = (page.first.previous(), Seq::ZERO);
    for entry in &page.entries {
        let place = entry.concerns().unwrap_or_default();
        let is_right = match entry.is_reaction() {
            true => place == before && entry.seq > reaction && place >= page.first,
            false => place > before && place <= page.last,
        };
        if !is_right {
            let (first, last) = (page.first, page.last);
            return Err(format!(
                "a page of a conversation of {first} to {last} has entry {} for place {place} after {before}",
                entry.seq
            ));
        }
        (before, reaction) = (place, if entry.is_reaction() { entry.seq } else { Seq::ZERO });
    }
    check_range(page)
}

/// What is wrong with a page of the list of conversations (SPEC 4.21).
///
/// # Errors
/// In words.
pub fn check_inbox(before: Seq, limit: u64, inbox: &Inbox) -> Result<(), String> {
    let mut above = if before == Seq::ZERO { inbox.at.next() } else { before };
    for row in &inbox.rows {
        let place = row.last.place().unwrap_or_default();
        if place >= above || place == Seq::ZERO || row.last.seq > inbox.at || row.unread > UNREAD_MAX + 1 {
            return Err(format!("a list before {before} at {} has {row:?} behind {above}", inbox.at));
        }
        above = place;
    }
    let rows = inbox.rows.len() as u64;
    if rows > limit.max(1) || (inbox.more && rows == 0) {
        return Err(format!("a list of at most {limit} has {rows} rows, more: {}", inbox.more));
    }
    Ok(())
}

fn check_range(page: &Page) -> Result<(), String> {
    let Page { first, last, .. } = page;
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
    if fetch.peer.is_some() {
        check_talk(page)?
    } else {
        check_page(page)?
    }
    let from = fetch.from;
    let begins = match fetch.direction {
        Direction::Forwards => page.first == from.max(Seq(1)),
        // The head, for anything beyond it.
        Direction::Backwards => from == Seq::ZERO || page.last <= from,
    };
    let ends = page.more || fetch.direction == Direction::Forwards || page.first <= Seq(1);
    // Reactions come with their messages.
    let is_counted = |entry: &&Entry| fetch.peer.is_none() || !entry.is_reaction();
    let is_short = page.entries.iter().filter(is_counted).count() as u64 <= fetch.limit.max(1);
    if !(begins && ends && is_short) {
        let (first, last, more, entries) = (page.first, page.last, page.more, page.entries.len());
        return Err(format!("{fetch:?} was answered with {first} to {last}, {entries} entries, more: {more}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, Event, InboxRow, MessageName, Stands, TimestampMs};

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
        let page = |from| Ask::Page(fetch(from, Direction::Forwards));
        let asked = (0..9).filter(|from| fetches.ask(0, page(*from), &mut out)).count();
        assert_eq!(asked, FETCHES_IN_FLIGHT_MAX);
        assert_eq!(fetches.answered(RequestId(2)).map(|(ask, _)| ask), Some(page(1)));
        assert_eq!(fetches.answered(RequestId(2)), None);
    }
    /// A message of somebody, an edit that stands for the one at a place, or a reaction to it.
    fn talk(seq: u64, about: Option<(u64, bool)>) -> Entry {
        let name = |place| MessageName { author: UserId(8), seq: Seq(place) };
        let stands = |place| Some(Stands { place: Seq(place), time: TimestampMs(1) });
        let content = match about {
            None => Content::text("hello"),
            Some((place, false)) => Content::edit(name(place), &Content::text("hi"), stands(place)),
            Some((place, true)) => Content::reaction(name(place), "+", stands(place)),
        };
        let event = Event::Received { from: UserId(8), origin: Seq(seq), content };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    #[test]
    fn in_a_conversation_messages_stand_at_their_places_and_reactions_behind_them() {
        let check = |entries: Vec<Entry>| {
            let fetch = Fetch { peer: Some(UserId(8)), ..fetch(0, Direction::Backwards) };
            check_answer(&fetch, &Page { entries, ..page(1, 9, false, &[]) })
        };
        let (edit, reaction) = (|seq, of| talk(seq, Some((of, false))), |seq, of| talk(seq, Some((of, true))));
        assert_eq!(check(vec![edit(12, 2), reaction(11, 2), reaction(13, 2), talk(5, None)]), Ok(()));
        for wrong in [
            vec![talk(5, None), edit(12, 2)],
            vec![reaction(11, 2), edit(12, 2)],
            vec![edit(12, 2), reaction(13, 2), reaction(11, 2)],
            vec![edit(12, 2), reaction(13, 5)],
            vec![edit(12, 10)],
            vec![talk(2, None), talk(3, None), talk(4, None)],
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rows_come_by_their_last_messages_and_are_of_their_place() {
        let row = |last: Entry, unread| InboxRow {
            conversation: UserId(8).into(),
            settings: Settings::default(),
            unread,
            read_up_to: Seq::ZERO,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
            left_out: 0,
            last,
        };
        let inbox = |at, rows: Vec<InboxRow>| Inbox { request: RequestId(1), at: Seq(at), more: false, rows };
        let check = |at, rows| check_inbox(Seq(8), 2, &inbox(at, rows));
        assert_eq!(check(9, vec![row(talk(7, None), 1), row(talk(9, Some((3, false))), 1000)]), Ok(()));
        for (at, rows) in [
            (9, vec![row(talk(3, None), 1), row(talk(7, None), 1)]),
            (9, vec![row(talk(8, None), 1)]),
            (6, vec![row(talk(7, None), 1)]),
            (9, vec![row(talk(7, None), 1001)]),
            (9, vec![row(talk(7, None), 1), row(talk(6, None), 1), row(talk(5, None), 1)]),
        ] {
            assert!(check(at, rows.clone()).is_err(), "{rows:?}");
        }
    }
}
