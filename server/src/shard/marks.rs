//! Marks: how far a user has read a conversation, and how the user keeps it (SPEC 4.19, 4.22). Both are entries of the user's own log that
//! supersede the one before, so that all devices learn of them by the one cursor that they have.
//!
//! The unread messages of a conversation are those received less those read, so nothing is counted but what lies behind a mark in the
//! middle. A read mark that is to be told goes to the other side as a message does ([`Parcel::Read`]).
//!
//! Invariants: a read mark moves up only; it never passes what is released.

use proto_spec::{
    ClientKind, ConversationId, Direction, Entry, ErrorCode, Event, RequestId, Seq, ServerFrame, Settings, UserId,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, UNREAD_MAX},
};
use storage::{BatchId, Entries, Query, ReadRow, SettingsRow, Span};

use super::{
    ConnId, Promise, Shard, Turn,
    groups::group_of,
    input::Parcel,
    ledger::{OnceStored, Parked},
    loading::ConversationWaiting,
    push::wanted,
    question::Question,
    sequencer::some,
    user::User,
};
use crate::limits::{QUERIES_IN_FLIGHT_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// What a client wants to be known of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Read {
        up_to: Seq,
        tell: bool,
    },
    Settings {
        set: Settings,
        cleared: Settings,
    },
    /// Not a mark, but asked for and answered like one.
    Delete {
        place: Seq,
    },
}

impl Mark {
    pub(super) const fn kind(self) -> ClientKind {
        match self {
            Self::Read { .. } => ClientKind::MarkRead,
            Self::Settings { .. } => ClientKind::SetConversation,
            Self::Delete { .. } => ClientKind::DeleteMessage,
        }
    }
}

/// A read mark, and what was found behind it so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    by: (ConnId, RequestId),
    up_to: Seq,
    tell: bool,
    /// How many messages were received behind it.
    count: u64,
    /// Where the first of them is in the log of the other side.
    first_origin: Option<Seq>,
    /// The log has been looked through up to here.
    covered: Seq,
}

impl Unread {
    /// What was taken back needs no reading.
    fn look<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>, user: &User) {
        for entry in entries {
            if let Event::Received { origin, content, .. } = &entry.event
                && !entry.place().is_none_or(|place| user.is_taken_back(place))
                && !content.is_unsend()
            {
                self.count += 1;
                let name = content.about().map_or(*origin, |(name, _)| name.seq);
                self.first_origin = Some(self.first_origin.map_or(name, |first| first.min(name)));
            }
        }
    }

    /// There are "many": how many there are exactly is not of interest.
    const fn are_many(&self) -> bool {
        self.count > UNREAD_MAX
    }
}

impl Shard {
    /// A client marks a conversation.
    pub(super) fn mark(
        &mut self,
        (conn, request): (ConnId, RequestId),
        conversation: ConversationId,
        mark: Mark,
        cx: &mut Turn<'_>,
    ) {
        let refusal = self.refuse_admission();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let Some(user) = self.users.resident(user_id) else { return };
        let now_ms = cx.now.monotonic_ms;
        let rate = self.settings.limits.device_sends;
        let refused = match refusal {
            Some(refusal) => Some((refusal.code, refusal.retry_after_ms)),
            None => user
                .device(device_id)
                .and_then(|device| rate.take(&mut device.sends, now_ms).err())
                .map(|wait_ms| (ErrorCode::RateLimited, wait_ms)),
        };
        let is_strange = group_of(conversation).is_some_and(|group| user.group(group).is_none());
        let is_loaded = self.conversations.is_resident((user_id, conversation));
        let may_ask = !is_loaded || !matches!(mark, Mark::Settings { .. });
        if let Some((code, wait_ms)) = refused {
            self.mark_failed((conn, request), mark.kind(), code, wait_ms, cx);
        } else if is_strange {
            self.mark_failed((conn, request), mark.kind(), ErrorCode::NoSuchGroup, 0, cx);
        } else if may_ask && self.questions.len() >= QUERIES_IN_FLIGHT_MAX {
            self.mark_failed((conn, request), mark.kind(), ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
        } else if is_loaded {
            self.mark_loaded((conn, request), conversation, mark, cx);
        } else {
            let waiting = ConversationWaiting::Mark((conn, request), mark);
            self.wait_for_conversation(user_id, conversation, waiting, cx);
        }
    }

    /// The conversation is here.
    pub(super) fn mark_loaded(
        &mut self,
        by: (ConnId, RequestId),
        conversation: ConversationId,
        mark: Mark,
        cx: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(by.0) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let released = user.released;
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        let (numbered, changed_in) = (known.numbered, known.changed_in);
        let settings = numbered.settings.settings;
        match mark {
            Mark::Settings { set, cleared } if settings.changed(set, cleared) != settings => {
                let settings = settings.changed(set, cleared);
                let event = Event::Settings { conversation, settings };
                if let Some(at) = self.append_mark((user_id, by), conversation, event, (numbered.settings.at, 0), cx)
                    && let Some(known) = self.conversations.resident((user_id, conversation))
                {
                    let was_blocked = known.is_blocked();
                    known.numbered.settings = SettingsRow { settings, at };
                    if known.is_blocked() != was_blocked {
                        self.blocks_or_not(user_id, conversation, cx);
                    }
                    if let Some(group) = group_of(conversation) {
                        self.say_wants(user_id, group, Some(wanted(settings)), cx);
                    }
                }
            }
            Mark::Read { up_to, tell } if let Some(group) = group_of(conversation) => {
                // Beyond the last entry that this core was told of nothing was read.
                let Some(up_to) = self.group_reached(user_id, group, up_to) else {
                    return self.mark_failed(by, ClientKind::MarkRead, ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
                };
                if up_to <= numbered.read.up_to {
                    return self.answer_marked(user_id, by, changed_in, cx);
                }
                let told = if tell { up_to } else { Seq::ZERO };
                let event = Event::Read { conversation, up_to, unread: 0, told };
                if let Some(at) = self.append_mark((user_id, by), conversation, event, (numbered.read.at, 0), cx)
                    && let Some(known) = self.conversations.resident((user_id, conversation))
                {
                    known.numbered.read = ReadRow { up_to, at, count: 0 };
                }
            }
            Mark::Read { up_to, tell } if up_to.min(released) > numbered.read.up_to => {
                let up_to = up_to.min(released);
                let unread = Unread { by, up_to, tell, count: 0, first_origin: None, covered: up_to };
                self.count_unread(user_id, conversation, unread, cx);
            }
            Mark::Delete { place } if let Some(group) = group_of(conversation) => {
                self.delete_in_group(user_id, by, group, place, cx);
            }
            Mark::Delete { place } => self.delete_message(user_id, by, conversation, place, cx),
            Mark::Settings { .. } | Mark::Read { .. } => self.answer_marked(user_id, by, changed_in, cx),
        }
    }

    /// Looks through what lies behind a mark, in the store and in the tail, and sets it.
    fn count_unread(&mut self, user_id: UserId, conversation: ConversationId, mut unread: Unread, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        if known.numbered.received.at > unread.covered && !unread.are_many() {
            if unread.covered < user.stored {
                let (first, last) = (unread.covered.next(), user.stored);
                let (direction, entries_max) = (Direction::Forwards, PAGE_ENTRIES_MAX as usize);
                let span = Span { first, last, direction, entries_max, bytes_max: PAGE_BYTES_MAX };
                // Held meanwhile: what is known of them must not be read anew.
                user.loading += 1;
                known.held += 1;
                let query = Query::ConversationLog { user: user_id, conversation, span };
                return self.ask(query, Question::Unread { user: user_id, conversation, unread, last }, cx);
            }
            let newer = user.tail.range(unread.covered.next(), user.head).map(|tail| &tail.entry);
            let newer = newer.filter(|entry| entry.event.conversation() == Some(conversation));
            let covered = unread.covered;
            unread.look(newer.filter(|entry| user.is_newly_said(entry, covered)), user);
        }
        let (numbered, changed_in) = (known.numbered, known.changed_in);
        let Unread { by, up_to, tell, count, first_origin, .. } = unread;
        if up_to <= numbered.read.up_to {
            // Another device was faster.
            return self.answer_marked(user_id, by, changed_in, cx);
        }
        let is_told = tell && !known.is_blocked();
        let told = if is_told { first_origin.map_or(known.received_up_to, Seq::previous) } else { Seq::ZERO };
        let read = numbered.received.count.saturating_sub(count);
        let event = Event::Read { conversation, up_to, unread: count.min(UNREAD_MAX + 1), told };
        if let Some(at) = self.append_mark((user_id, by), conversation, event, (numbered.read.at, read), cx)
            && let Some(known) = self.conversations.resident((user_id, conversation))
        {
            known.numbered.read = ReadRow { up_to, at, count: read };
        }
    }

    /// The store's part of what lies behind a mark has been read.
    pub(super) fn unread_read(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        mut unread: Unread,
        last: Seq,
        read: Option<Entries>,
        cx: &mut Turn<'_>,
    ) {
        if let Some(known) = self.conversations.resident((user_id, conversation)) {
            known.held -= 1;
        }
        match read {
            Some(Entries { entries, complete }) => {
                if let Some(user) = self.users.resident(user_id) {
                    unread.look(entries.iter(), user);
                }
                let covered = entries.last().filter(|_| !complete).and_then(Entry::concerns);
                unread.covered = covered.unwrap_or(last);
                self.count_unread(user_id, conversation, unread, cx);
            }
            None => self.mark_failed(unread.by, ClientKind::MarkRead, ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx),
        }
        self.forget_conversation_if_unused(user_id, conversation);
        self.loading_ended(user_id);
    }

    /// It could not be done.
    pub(super) fn mark_failed(
        &mut self,
        (conn, request): (ConnId, RequestId),
        kind: ClientKind,
        code: ErrorCode,
        retry_after_ms: u64,
        cx: &mut Turn<'_>,
    ) {
        let detail = match kind {
            ClientKind::DeleteMessage => "the message can not be deleted now",
            _ => "the conversation can not be marked now",
        };
        self.send_error(conn, code, kind.byte(), request, retry_after_ms, detail, cx);
    }

    /// What was asked for is so since `batch`: says so once that is released.
    pub(super) fn answer_marked(
        &mut self,
        user_id: UserId,
        by: (ConnId, RequestId),
        batch: BatchId,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(user_id);
        if self.lanes[at].is_released(batch) {
            self.marked(by, cx);
        } else {
            self.lanes[at].park_behind(batch, Parked::Marked(by));
        }
    }

    /// A mark is in the log.
    pub(super) fn marked(&mut self, (conn, request): (ConnId, RequestId), cx: &mut Turn<'_>) {
        self.send(conn, &ServerFrame::Marked { request }, cx);
    }

    /// An entry of the user's own that supersedes the one at `before`, if there is one. Where it is.
    pub(super) fn append_mark(
        &mut self,
        (user_id, by): (UserId, (ConnId, RequestId)),
        conversation: ConversationId,
        event: Event,
        (before, count): (Seq, u64),
        cx: &mut Turn<'_>,
    ) -> Option<Seq> {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let user = self.users.resident(user_id)?;
        let known = self.conversations.resident((user_id, conversation))?;
        self.lanes[at].change_conversation((user_id, conversation), &mut known.changed_in);
        let next = user.head.next();
        let mut goes_out = None;
        if let Some((to, parcel)) = Parcel::by(user_id, &event) {
            user.unfinished = true;
            let is_taken = user.outgoing.take(next, to);
            goes_out = is_taken.then(|| (to, user.outgoing.before(next, to), parcel));
        }
        let seq = Self::append(user_id, user, event, some(before), count, (at, &mut self.lanes[at]), cx);
        self.counters.entries += 1;
        self.lanes[at].park(Parked::Entry { user: user_id, seq, answer: None });
        self.lanes[at].park(Parked::Marked(by));
        if self.settings.promise == Promise::Store {
            self.lanes[at].park_until_stored(OnceStored::Entry { user: user_id, seq, answer: None });
        } else if let Some((to, after, parcel)) = goes_out.filter(|(to, ..)| self.leaves_now(*to)) {
            self.forward(user_id, to, (seq, after), parcel, cx);
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
        Some(seq)
    }
}
