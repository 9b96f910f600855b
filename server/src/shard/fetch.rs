//! Fetch: pages that clients ask for, of their log or of one conversation, in both directions.
//!
//! A page speaks for one contiguous range of the log, of which it shows everything (contract 4). The range may lie in the
//! store, in the tail, or across both; only the released part of the log is visible.

use proto_spec::{
    ClientKind, ConversationId, Direction, Entry, ErrorCode, Page, RequestId, Seq, ServerFrame,
    limits::{FETCHES_IN_FLIGHT_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use storage::{Entries, Query, Span};

use super::{
    ConnId, Shard, Turn,
    digest::Digesting,
    loading::ConversationWaiting,
    opened::Newest,
    question::Question,
    shedding::{Class, Reason},
    user::Room,
};
use crate::limits::{FETCH_OUTBOX_BYTES_MAX, READ_TRIES_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// A page in the making.
#[derive(Debug)]
pub(super) struct Fetch {
    /// One conversation, or the whole log.
    conversation: Option<ConversationId>,
    /// The range that was asked for.
    first: Seq,
    pub(super) last: Seq,
    room: Room,
    /// What the tail had of a page that goes backwards, before the store was asked for the rest.
    newer: Vec<Entry>,
    /// In a conversation: the other side's devices have what was sent up to here.
    delivered_up_to: Seq,
    /// In a conversation: the other side has read what was sent up to here.
    seen_up_to: Seq,
    /// How far the log was released when the page was begun, and where the tail began.
    begun: (Seq, Seq),
    /// How often it was begun.
    tries: u8,
    /// Not the entries are wanted, but their digests.
    digesting: Option<Digesting>,
}

impl Fetch {
    fn new(conversation: Option<ConversationId>, (first, last): (Seq, Seq), room: Room) -> Self {
        let (newer, delivered_up_to, seen_up_to) = (Vec::new(), Seq::ZERO, Seq::ZERO);
        Self {
            conversation,
            first,
            last,
            room,
            newer,
            delivered_up_to,
            seen_up_to,
            begun: (Seq::ZERO, Seq::ZERO),
            tries: 0,
            digesting: None,
        }
    }

    /// Digests of a range.
    pub(super) fn digest(digesting: Digesting, range: (Seq, Seq), room: Room) -> Self {
        Self { digesting: Some(digesting), ..Self::new(None, range, room) }
    }

    /// The next piece of a range that is read forwards.
    pub(super) fn goes_on(&mut self, from: Seq, digesting: Digesting) {
        self.first = from;
        self.tries = 0;
        self.digesting = Some(digesting);
    }

    /// The newest messages of a conversation, in a log that ends at `head`.
    pub(super) fn newest(conversation: ConversationId, head: Seq, limit: u64) -> Self {
        let entries = limit.clamp(1, PAGE_ENTRIES_MAX) as usize;
        let room = Room { direction: Direction::Backwards, entries, bytes: PAGE_BYTES_MAX };
        Self::new(Some(conversation), (Seq(1), head), room)
    }

    const fn kind(&self) -> ClientKind {
        match self.conversation {
            Some(_) => ClientKind::FetchConversation,
            None if self.digesting.is_some() => ClientKind::FetchDigest,
            None => ClientKind::FetchLog,
        }
    }

    /// Where an entry is in what was asked for.
    fn place_of(&self, entry: &Entry) -> Seq {
        match self.conversation {
            Some(_) => entry.concerns().unwrap_or(entry.seq),
            None => entry.seq,
        }
    }

    /// What is left of the room after these. In a conversation reactions do not count, for they come with their messages.
    fn left_after(&self, entries: &[Entry]) -> Room {
        let counts = |entry: &&Entry| self.conversation.is_none() || !entry.is_reaction();
        self.room.after(entries, entries.iter().filter(counts).count())
    }

    /// Up to where a range that was read forwards to `last` is covered by what was found.
    fn covered_forwards(&self, entries: &[Entry], complete: bool, last: Seq) -> Seq {
        match entries.last() {
            Some(entry) if !complete => self.place_of(entry),
            _ => last,
        }
    }
}

impl Shard {
    /// A client asks for a page.
    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, each of its own type")]
    pub(super) fn fetch(
        &mut self,
        conn: ConnId,
        request: RequestId,
        conversation: Option<ConversationId>,
        from: Seq,
        direction: Direction,
        limit: u64,
        cx: &mut Turn<'_>,
    ) {
        let kind = if conversation.is_some() { ClientKind::FetchConversation } else { ClientKind::FetchLog };
        if !self.may_fetch(conn, kind, request, cx) {
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let (first, last) = match direction {
            Direction::Forwards => (from.max(Seq(1)), user.released),
            Direction::Backwards if from == Seq::ZERO => (Seq(1), user.released),
            Direction::Backwards => (Seq(1), from.min(user.released)),
        };
        let entries = limit.clamp(1, PAGE_ENTRIES_MAX) as usize;
        let room = Room { direction, entries, bytes: PAGE_BYTES_MAX };
        self.fetch_loaded(conn, request, Fetch::new(conversation, (first, last), room), cx);
    }

    /// Begins to count a fetch, or refuses it.
    pub(super) fn may_fetch(&mut self, conn: ConnId, kind: ClientKind, request: RequestId, cx: &mut Turn<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let user_id = session.user;
        // A page that the client has not taken yet counts too, by its bytes: pages of the tail are answered at once.
        let unread = session.queued() > FETCH_OUTBOX_BYTES_MAX;
        if usize::from(session.fetches) >= FETCHES_IN_FLIGHT_MAX || unread {
            let (code, detail) = (ErrorCode::TooManyFetches, "wait for the pages of earlier fetches");
            self.send_error(conn, code, kind.byte(), request, RETRY_BUSY_MS, detail, cx);
            return false;
        }
        if let Some(reason) = self.sheds(Class::Read) {
            self.counters.shed.count(Class::Read, reason);
            let (code, detail) = (ErrorCode::Overloaded, reason.detail());
            self.send_error(conn, code, kind.byte(), request, RETRY_BUSY_MS, detail, cx);
            return false;
        }
        let Some(user) = self.users.resident(user_id) else { return false };
        if let Err(wait_ms) = self.settings.limits.fetches.take(&mut user.buckets.fetches, cx.now.monotonic_ms) {
            self.counters.shed.count(Class::Read, Reason::Rate);
            let detail = "too many fetches of this user";
            self.send_error(conn, ErrorCode::RateLimited, kind.byte(), request, wait_ms, detail, cx);
            return false;
        }
        let Some(mut session) = self.sessions.get_mut(conn) else { return false };
        session.fetches += 1;
        true
    }

    /// Makes a page: from what is kept, or once its conversation is loaded if it is of one.
    pub(super) fn fetch_loaded(&mut self, conn: ConnId, request: RequestId, mut fetch: Fetch, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        if let Some(conversation) = fetch.conversation.filter(|_| fetch.room.direction == Direction::Backwards) {
            let (first, last) = (fetch.first, fetch.last);
            if let Some(newest) = user.opened().and_then(|opened| opened.newest(conversation, last, fetch.room)) {
                let Newest { entries, complete, standing } = newest;
                (fetch.delivered_up_to, fetch.seen_up_to) = (standing.delivered_up_to, standing.seen_up_to);
                self.cache.used(user_id, user);
                self.counters.cache_hits += 1;
                let covered = entries.first().filter(|_| !complete).map_or(first, |entry| fetch.place_of(entry));
                return self.answer_fetch(conn, request, fetch, entries, (covered, last), cx);
            }
            self.counters.cache_misses += u64::from(last == user.released);
        }
        match fetch.conversation {
            Some(conversation) if !self.conversations.is_resident((user_id, conversation)) => {
                let waiting = ConversationWaiting::Fetch(conn, request, fetch);
                self.wait_for_conversation(user_id, conversation, waiting, cx);
            }
            _ => self.fetch_page(conn, request, fetch, cx),
        }
    }

    /// Answers from the tail, or asks the store for its part.
    pub(super) fn fetch_page(&mut self, conn: ConnId, request: RequestId, mut fetch: Fetch, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let watermarks =
            fetch.conversation.and_then(|conversation| self.conversations.resident((user_id, conversation)));
        if let Some(watermarks) = watermarks {
            fetch.delivered_up_to = watermarks.released.delivered_up_to;
            fetch.seen_up_to = watermarks.released.seen_up_to;
        }
        let (first, last, room) = (fetch.first, fetch.last, fetch.room);
        fetch.begun = (user.released, user.tail.begins());
        fetch.tries += 1;
        if first > last {
            return self.answer_fetch(conn, request, fetch, Vec::new(), (first, last), cx);
        }
        let stored = user.stored;
        match room.direction {
            Direction::Forwards if first > stored => {
                let (entries, complete) = user.tail_entries(fetch.conversation, first, last, room);
                let covered = fetch.covered_forwards(&entries, complete, last);
                self.answer_fetch(conn, request, fetch, entries, (first, covered), cx);
            }
            Direction::Forwards => {
                let stop = last.min(stored);
                self.ask_page(conn, request, fetch, (first, stop), room, cx);
            }
            Direction::Backwards => {
                if last > stored {
                    let (entries, complete) =
                        user.tail_entries(fetch.conversation, first.max(stored.next()), last, room);
                    let covered = match entries.first() {
                        Some(entry) if !complete => fetch.place_of(entry),
                        _ => first.max(stored.next()),
                    };
                    let left = fetch.left_after(&entries);
                    if covered == first || !complete || !left.fits_any_entry() {
                        return self.answer_fetch(conn, request, fetch, entries, (covered, last), cx);
                    }
                    fetch.newer = entries;
                }
                let left = fetch.left_after(&fetch.newer);
                let stop = last.min(stored);
                self.ask_page(conn, request, fetch, (first, stop), left, cx);
            }
        }
    }

    fn ask_page(
        &mut self,
        conn: ConnId,
        request: RequestId,
        fetch: Fetch,
        (first, last): (Seq, Seq),
        room: Room,
        cx: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user = session.user;
        let span = Span { first, last, direction: room.direction, entries_max: room.entries, bytes_max: room.bytes };
        let query = match fetch.conversation {
            Some(conversation) => Query::ConversationLog { user, conversation, span },
            None => Query::Log { user, span },
        };
        self.ask(query, Question::Fetch { conn, request, fetch, last }, cx);
    }

    /// The store's part of a page has been read; `asked_last` is the far end of what it was asked for.
    pub(super) fn fetched(
        &mut self,
        conn: ConnId,
        request: RequestId,
        mut fetch: Fetch,
        asked_last: Seq,
        read: Option<Entries>,
        cx: &mut Turn<'_>,
    ) {
        let Some(Entries { entries, complete }) = read else {
            return self.fetch_failed(conn, fetch.kind(), request, cx);
        };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(user) = self.users.resident(session.user) else { return };
        if user.tail.begins() != fetch.begun.1 {
            // What has gone from the tail to the store since it was begun may be in neither part.
            if fetch.tries == READ_TRIES_MAX {
                return self.fetch_failed(conn, fetch.kind(), request, cx);
            }
            fetch.newer.clear();
            return self.fetch_page(conn, request, fetch, cx);
        }
        let mut entries = entries;
        entries.append(&mut fetch.newer);
        let (mut entries, all_fit) = user.changed_since(fetch.conversation, entries, fetch.room);
        let complete = complete && all_fit;
        let covered = match fetch.room.direction {
            Direction::Forwards => {
                let mut covered = fetch.covered_forwards(&entries, complete, asked_last);
                let left = fetch.left_after(&entries);
                // Go on in the tail, unless what follows has moved from the tail to the store meanwhile.
                let goes_on = complete && covered < fetch.last && user.stored <= covered;
                if goes_on && left.fits_any_entry() {
                    let (more, complete) = user.tail_entries(fetch.conversation, covered.next(), fetch.last, left);
                    covered = fetch.covered_forwards(&more, complete, fetch.last);
                    entries.extend(more);
                }
                (fetch.first, covered)
            }
            Direction::Backwards => {
                let covered = match entries.first() {
                    Some(entry) if !complete => fetch.place_of(entry),
                    _ => fetch.first,
                };
                (covered, fetch.last)
            }
        };
        if fetch.conversation.is_none() {
            user.drop_superseded(&mut entries);
        }
        self.answer_fetch(conn, request, fetch, entries, covered, cx);
    }

    fn answer_fetch(
        &mut self,
        conn: ConnId,
        request: RequestId,
        mut fetch: Fetch,
        entries: Vec<Entry>,
        (first, last): (Seq, Seq),
        cx: &mut Turn<'_>,
    ) {
        // An empty range is told as `first - 1` (SPEC 4.11, 4.32).
        if let Some(digesting) = fetch.digesting.take() {
            return self.piece_read((conn, request), fetch, digesting, (&entries, last.max(first.previous())), cx);
        }
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        session.fetches -= 1;
        let more = match fetch.room.direction {
            Direction::Forwards => last < fetch.last,
            Direction::Backwards => first > fetch.first && first <= last,
        };
        let (delivered_up_to, seen_up_to) = (fetch.delivered_up_to, fetch.seen_up_to);
        if let Some(conversation) = fetch.conversation {
            if let Some(user) = self.users.resident(user_id)
                && fetch.room.direction == Direction::Backwards
                && fetch.last == user.released
                && fetch.begun == (user.released, user.tail.begins())
            {
                // Nothing has been said since it was begun, so it says what the log says.
                self.cache.fill(user, conversation, (&entries, !more));
                self.make_room();
            }
            self.forget_conversation_if_unused(user_id, conversation);
        }
        let last = last.max(first.previous());
        self.counters.pages_fetched += 1;
        let page = Page { request, first, last, more, entries, delivered_up_to, seen_up_to };
        self.send(conn, &ServerFrame::Page(page), cx);
    }

    /// The store could not be read.
    pub(super) fn fetch_failed(&mut self, conn: ConnId, kind: ClientKind, request: RequestId, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.fetches -= 1;
        let detail = "the store can not be read";
        self.send_error(conn, ErrorCode::StorageFailed, kind.byte(), request, RETRY_STORAGE_MS, detail, cx);
    }
}
