//! Outbox: what a connection is offered ([`Feed`](super::feed::Feed)), and how much may wait for it.
//!
//! A connection is live (each entry is delivered when it is released) or catching up (pages, one after the other, as
//! it drains). Invariant: a connection that catches up has a page being read or at least [`OUTBOX_REFILL_BYTES`] waiting, so its
//! next event makes it go on.

use std::ops::Range;

use proto_spec::{
    ConversationId, DeviceId, Direction, Durability, ErrorCode, Event, Page, Recipient, RequestId, SendNumber, Seq,
    ServerFrame, UserId,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use storage::{Entries, Query, Span};

use super::{
    ConnId, Shard, Turn, epochs::Epochs, feed::Next, input::Parcel, question::Question, sessions::SessionMut,
    shedding::Class, tail::TailEntry, user::Room,
};
use crate::limits::{OUTBOX_LIVE_BYTES_MAX, OUTBOX_REFILL_BYTES, RETRY_STORAGE_MS};

/// The room in one pushed page.
const PUSHED_PAGE: Room =
    Room { direction: Direction::Forwards, entries: PAGE_ENTRIES_MAX as usize, bytes: PAGE_BYTES_MAX };

impl SessionMut<'_> {
    /// What is sent next covers the log up to `last`: says first which epochs begin there.
    fn tell_epochs(&mut self, last: Seq, epochs: &Epochs, cx: &mut Turn<'_>) {
        let first = self.feed.offered().next();
        if !epochs.none_begins_from(first) {
            self.tell_epochs_within(first, last, epochs, cx);
        }
    }

    /// The same for an own send, which covers its entry if that is the next one.
    pub(super) fn tell_epochs_if_next(&mut self, seq: Seq, epochs: &Epochs, cx: &mut Turn<'_>) {
        if self.feed.offered().next() == seq {
            self.tell_epochs(seq, epochs, cx);
        }
    }

    #[cold]
    fn tell_epochs_within(&mut self, first: Seq, last: Seq, epochs: &Epochs, cx: &mut Turn<'_>) {
        for (first, epoch) in epochs.beginning_within(first, last) {
            let range = cx.effects.frame(&ServerFrame::Epoch { first, epoch });
            self.queue(range, cx);
        }
    }
}

impl Shard {
    /// `seq` of `user` is released: offers it to the user's connections. `own` is the send that made it, if one did.
    pub(super) fn publish(
        &mut self,
        user_id: UserId,
        seq: Seq,
        own: Option<(DeviceId, SendNumber)>,
        cx: &mut Turn<'_>,
    ) {
        let sheds = self.sheds(Class::Push);
        let (synced, at) = (self.synced(), self.lane_of(user_id));
        let Some(user) = self.users.resident(user_id) else {
            unreachable!("a user with entries that are not ingested is not forgotten");
        };
        assert!(user.released < seq, "an entry is released once, in its order");
        user.released = seq;
        let Some(TailEntry { entry, replaces, count, batch }) = user.tail.get(seq) else {
            unreachable!("an entry leaves the tail after its release");
        };
        user.levels.released(seq, if self.lanes[at].is_stored(*batch) { Durability::Committed } else { synced });
        let durability = own.map(|_| user.levels.tell(seq, seq));
        if let Some(marked) = marked_by(&entry.event)
            && let Some(conversation) = self.conversations.resident((user_id, marked))
        {
            // Pages and inboxes may say so from now on.
            conversation.released.take(&entry.event, *count);
        }
        let mut deliver: Option<Range<usize>> = None;
        for device in &mut user.devices {
            let own_number = own.and_then(|(id, number)| (id == device.id).then_some(number));
            if own_number.is_some() {
                device.in_flight -= 1;
            }
            let Some(mut session) = device.session.and_then(|conn| self.sessions.get_mut(conn)) else { continue };
            if !session.is_ready() {
                continue;
            }
            if let (Some(number), Some(durability)) = (own_number, durability) {
                let accepted = ServerFrame::Accepted {
                    number,
                    seq,
                    time: entry.time,
                    durability,
                    recipient: match entry.event.conversation() {
                        Some(ConversationId::Person(peer)) if peer == user_id => Recipient::Yourself,
                        Some(ConversationId::Person(peer))
                            if self.sights.answers(session.watch, peer, &self.homes, cx.directory) =>
                        {
                            Recipient::Online
                        }
                        Some(ConversationId::Person(_) | ConversationId::Group(_)) | None => Recipient::Offline,
                    },
                };
                session.tell_epochs_if_next(seq, &user.epochs, cx);
                let range = cx.effects.frame(&accepted);
                session.queue(range, cx);
                self.counters.accepted += 1;
                session.feed.accept(seq);
            } else if session.feed.is_live() {
                let range = deliver.get_or_insert_with(|| cx.effects.deliver(entry)).clone();
                // Shed only if something waits already: what has been taken makes the connection go on.
                let shed = sheds.filter(|_| session.queued() > 0);
                if shed.is_some() || session.queued() + range.len() > OUTBOX_LIVE_BYTES_MAX {
                    session.feed.fall_behind();
                    self.counters.fell_behind += 1;
                    if let Some(reason) = shed {
                        self.counters.shed.count(Class::Push, reason);
                    }
                } else {
                    session.tell_epochs(seq, &user.epochs, cx);
                    session.feed.deliver(seq);
                    session.queue(range, cx);
                    self.counters.delivered += 1;
                }
            }
        }
        if let Some(superseded) = *replaces {
            user.tail.supersede(superseded);
        }
        for superseded in user.rewrites.released(seq) {
            user.tail.supersede(superseded);
        }
        let has_dues = user.dues.is_some();
        if user.kept.is_some() {
            self.cache.feed(user_id, user, &mut self.conversations);
            self.make_room();
        }
        if has_dues {
            self.due_released(user_id, seq, cx);
        }
    }

    /// An entry is in the store: what it obliges to begins. Whether the user's devices are to be told.
    pub(super) fn entry_stored(&mut self, user_id: UserId, seq: Seq, cx: &mut Turn<'_>) -> bool {
        let Some(user) = self.users.resident(user_id) else {
            unreachable!("a user with entries that are not ingested is not forgotten");
        };
        user.assured = seq;
        let is_owed = user.levels.stored(seq);
        let mut forward = None;
        if user.outgoing.is_on_the_way(seq) {
            forward = user.tail.get(seq).and_then(|tail| Parcel::by(user_id, &tail.entry.event));
            if forward.is_none() {
                // A read mark that a later one has superseded meanwhile, which is told in its place.
                user.outgoing.forgo(seq);
            }
        }
        let forward = forward.map(|(to, parcel)| (to, user.outgoing.before(seq, to), parcel));
        if user.delivered() >= seq {
            // Acknowledged before: the sender may be told now.
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        if let Some((to, after, parcel)) = forward {
            self.forward(user_id, to, (seq, after), parcel, cx);
        }
        is_owed
    }

    /// More of what was accepted while the store was away is in it now.
    pub(super) fn tell_committed(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let up_to = user.levels.tell_all(user.released);
        let conns: Vec<ConnId> = user.devices.iter().filter_map(|device| device.session).collect();
        for conn in conns {
            if self.sessions.get_mut(conn).is_some_and(|session| session.is_ready()) {
                self.send(conn, &ServerFrame::Committed { up_to }, cx);
            }
        }
    }

    /// Pushes pages to a connection that catches up, until enough waits in its outbox or it has reached the head.
    pub(super) fn push_more(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        loop {
            let Some(mut session) = self.sessions.get_mut(conn) else { return };
            if session.feed.is_live() || session.queued() >= OUTBOX_REFILL_BYTES {
                return;
            }
            let user_id = session.user;
            let Some(user) = self.users.resident(user_id) else { return };
            let (stored, released) = (user.stored, user.released);
            match session.feed.next(stored, released) {
                Next::Nothing => return self.take_up_groups(conn, cx),
                Next::Store(first) => {
                    let Room { direction, entries: entries_max, bytes: bytes_max } = PUSHED_PAGE;
                    let span = Span { first, last: stored, direction, entries_max, bytes_max };
                    let question = Question::CatchUp { conn, first, last: stored };
                    return self.ask(Query::Log { user: user_id, span }, question, cx);
                }
                Next::Tail(first) => {
                    let (entries, complete) = user.tail_entries(None, first, released, PUSHED_PAGE);
                    self.push_page(conn, Entries { entries, complete }, (first, released), cx);
                }
            }
        }
    }

    /// The store's part of a pushed page has been read.
    pub(super) fn caught_up(&mut self, conn: ConnId, asked: (Seq, Seq), entries: Option<Entries>, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.feed.has_read();
        match entries {
            Some(entries) => {
                self.push_page(conn, entries, asked, cx);
                self.push_more(conn, cx);
            }
            None => self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, "the store can not be read", cx),
        }
    }

    /// Pushes what was read of a range.
    fn push_page(&mut self, conn: ConnId, mut read: Entries, (first, last): (Seq, Seq), cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let last = match read.entries.last() {
            Some(entry) if !read.complete => entry.seq,
            _ => last,
        };
        if let Some(user) = self.users.resident(session.user) {
            session.tell_epochs(last, &user.epochs, cx);
            user.drop_superseded(&mut read.entries);
        }
        let page = Page {
            request: RequestId(0),
            first,
            last,
            more: !read.complete,
            entries: read.entries,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
        };
        self.counters.pages_pushed += 1;
        session.feed.push_page(first, last);
        self.send(conn, &ServerFrame::Page(page), cx);
    }

    /// The kernel took bytes of this connection.
    pub(super) fn drained(&mut self, conn: ConnId, bytes: usize, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.drained(bytes, cx.now.monotonic_ms);
        session.unpause_if_drained(cx);
        self.push_more(conn, cx);
    }
}

/// The conversation of which an entry says how far somebody is, or how it is kept.
const fn marked_by(event: &Event) -> Option<ConversationId> {
    match event {
        Event::Delivered { peer, .. } | Event::Seen { peer, .. } => Some(ConversationId::Person(*peer)),
        Event::Read { conversation, .. } | Event::Settings { conversation, .. } => Some(*conversation),
        Event::Received { .. }
        | Event::Sent { .. }
        | Event::Deleted { .. }
        | Event::Devices { .. }
        | Event::Group { .. }
        | Event::GroupRefused { .. }
        | Event::Visibility { .. }
        | Event::Unknown { .. } => None,
    }
}
