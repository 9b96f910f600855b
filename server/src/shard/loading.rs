//! Loading: what a shard reads of a user or a conversation before it does anything for them, and what it does when that has come.
//!
//! Who is in memory and who waits is kept in `residents`, whose duties a restart left open in `left_over`.

use proto_spec::{ClientKind, ConversationId, ErrorCode, RequestId, TimestampMs, UserId};
use storage::{ConversationSnapshot, Query, UserSnapshot};

use super::{
    ConnId, Shard, Turn,
    fetch::Fetch,
    input::{Connected, DevicesWish, Envelope, Ticket},
    marks::Mark,
    presence::ShownTo,
    push::Asked,
    question::Question,
    reports::Report,
    residents::Waits,
    user::{Conversation, User},
};
use crate::limits::{FORGOTTEN_TURN_MAX, RETRY_STORAGE_MS, WAITING_ENVELOPES_MAX};

/// What waits until a user is loaded.
#[derive(Debug)]
pub(super) enum UserWaiting {
    Connect(Connected),
    Envelope(Envelope),
    Operator(Ticket, DevicesWish),
    Why(Asked),
    /// Nothing but the user's own duties, left over from before a restart.
    Duties,
}

impl Waits for UserWaiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Envelope(envelope) => envelope.bytes(),
            Self::Connect(_) | Self::Operator(..) | Self::Why(_) | Self::Duties => 0,
        }
    }
}

/// What waits until a conversation is loaded.
#[derive(Debug)]
pub(super) enum ConversationWaiting {
    Envelope(Envelope),
    Fetch(ConnId, RequestId, Fetch),
    Mark((ConnId, RequestId), Mark),
    Report(UserId, Report),
    /// Something that is due.
    Notify,
    Why(Asked, Option<TimestampMs>),
}

impl Waits for ConversationWaiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Envelope(envelope) => envelope.bytes(),
            Self::Fetch(..) | Self::Mark(..) | Self::Report(..) | Self::Notify | Self::Why(..) => 0,
        }
    }
}

impl Shard {
    /// Whether one more envelope may wait behind so many others. If not it is put off: its author's log has it.
    pub(super) fn may_wait(&self, waiting: usize) -> bool {
        waiting < WAITING_ENVELOPES_MAX && self.held_bytes() <= self.settings.limits.memory_bytes
    }

    /// Lets `waiting` wait for `user`, who is not resident; begins to load the user if nobody has.
    pub(super) fn wait_for_user(&mut self, user: UserId, waiting: UserWaiting, cx: &mut Turn<'_>) {
        if self.users.wait(user, waiting) {
            self.ask(Query::User(user), Question::User(user), cx);
        }
    }

    /// Lets `waiting` wait for a conversation that is not resident; begins to load it if nobody has.
    pub(super) fn wait_for_conversation(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        waiting: ConversationWaiting,
        cx: &mut Turn<'_>,
    ) {
        if self.conversations.wait((user, conversation), waiting) {
            if let Some(user) = self.users.resident(user) {
                user.loading += 1;
            }
            self.ask(Query::Conversation { user, conversation }, Question::Conversation { user, conversation }, cx);
        }
    }

    /// Loads the next users whose duties a restart left open, as far as their turn has come.
    pub(super) fn load_left_over(&mut self, cx: &mut Turn<'_>) {
        if self.draining {
            return;
        }
        while let Some(user) = self.left_over.next(self.questions.len(), |user| self.users.is_resident(user)) {
            self.wait_for_user(user, UserWaiting::Duties, cx);
        }
    }

    pub(super) fn user_loaded(&mut self, user_id: UserId, snapshot: &UserSnapshot, cx: &mut Turn<'_>) {
        let mut user = Box::new(User::load(snapshot));
        if self.settings.push.is_none() {
            // Nobody is notified here, whoever has subscribed before.
            user.dues = None;
        }
        user.buckets = self.spent.take(user_id);
        // Held while those who wait are served: one who leaves at once must not take the user from the others.
        user.loading = 1;
        let waiting = self.users.loaded(user_id, user);
        if snapshot.unfinished {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        for waiting in waiting {
            match waiting {
                UserWaiting::Connect(connected) => self.start(connected, cx),
                UserWaiting::Envelope(envelope) => self.envelope(envelope, cx),
                UserWaiting::Why(asked) => self.why(user_id, asked, cx),
                UserWaiting::Operator(ticket, wish) => self.operator_asks(ticket, user_id, wish, cx),
                UserWaiting::Duties => self.left_over.loaded(),
            }
        }
        self.loading_ended(user_id);
        self.load_left_over(cx);
    }

    /// Who waits to connect is sent away, and what others said is put off. A user's own duties are nobody else's: they wait.
    pub(super) fn user_unreadable(&mut self, user: UserId, cx: &mut Turn<'_>) {
        for waiting in self.users.unreadable(user) {
            match waiting {
                UserWaiting::Connect(Connected { conn, .. }) => {
                    let detail = "the store can not be read";
                    self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
                }
                UserWaiting::Envelope(envelope) => self.put_off(&envelope, cx),
                UserWaiting::Why(Asked { ticket, .. }) => {
                    cx.effects.push_told.push((ticket, Err(ErrorCode::StorageFailed)));
                }
                UserWaiting::Operator(ticket, _) => cx.effects.told.push((ticket, Err(ErrorCode::StorageFailed))),
                UserWaiting::Duties => self.left_over.unreadable(user, cx.now.monotonic_ms),
            }
        }
        self.load_left_over(cx);
    }

    pub(super) fn conversation_loaded(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        mut snapshot: ConversationSnapshot,
        cx: &mut Turn<'_>,
    ) {
        if self.settings.presence.shown_to == ShownTo::Written
            && let ConversationId::Person(peer) = conversation
            && let Some(user) = self.users.resident(user)
        {
            // What the user has written there is kept up in memory; what has been written lately may be in the log alone.
            snapshot.sent = snapshot.sent.max(user.lately_written(peer).unwrap_or_default());
        }
        // Held while those who wait are served: one who is done at once must not take the conversation from the others.
        let loaded = Conversation { held: 1, ..Conversation::load(snapshot) };
        for waiting in self.conversations.loaded((user, conversation), loaded) {
            match waiting {
                ConversationWaiting::Envelope(envelope) => self.envelope(envelope, cx),
                ConversationWaiting::Fetch(conn, request, fetch) => self.fetch_page(conn, request, fetch, cx),
                ConversationWaiting::Mark(by, mark) => self.mark_loaded(by, conversation, mark, cx),
                ConversationWaiting::Report(author, report) => self.post_report(user, author, report, cx),
                ConversationWaiting::Notify => self.decide(user, conversation, cx),
                ConversationWaiting::Why(asked, at) => self.why_told(user, (conversation, at), asked, cx),
            }
        }
        if let Some(known) = self.conversations.resident((user, conversation)) {
            known.held -= 1;
        }
        self.forget_conversation_if_unused(user, conversation);
        self.loading_ended(user);
    }

    pub(super) fn conversation_unreadable(&mut self, user: UserId, conversation: ConversationId, cx: &mut Turn<'_>) {
        for waiting in self.conversations.unreadable((user, conversation)) {
            match waiting {
                ConversationWaiting::Envelope(envelope) => self.put_off(&envelope, cx),
                ConversationWaiting::Fetch(conn, request, _) => {
                    self.fetch_failed(conn, ClientKind::FetchConversation, request, cx);
                }
                ConversationWaiting::Report(author, Report { received_as, .. }) => {
                    self.receipt_put_off(user, author, received_as, cx);
                }
                ConversationWaiting::Notify => self.notify_unreadable(user, conversation, cx),
                ConversationWaiting::Why(Asked { ticket, .. }, _) => {
                    cx.effects.push_told.push((ticket, Err(ErrorCode::StorageFailed)));
                }
                ConversationWaiting::Mark(by, mark) => {
                    self.mark_failed(by, mark.kind(), ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx);
                }
            }
        }
        self.loading_ended(user);
    }

    pub(super) fn loading_ended(&mut self, user_id: UserId) {
        if let Some(user) = self.users.resident(user_id) {
            user.loading -= 1;
            self.forget_if_unused(user_id);
        }
    }

    /// Batches up to what the ledger says are in the store: tails shrink, the unused are forgotten. Some of them a turn, see
    /// [`FORGOTTEN_TURN_MAX`]; what is known longer than need be does no harm.
    pub(super) fn forget_ingested(&mut self, at: usize, cx: &mut Turn<'_>) {
        let ingested = self.lanes[at].ingested();
        for _ in 0..FORGOTTEN_TURN_MAX {
            let lane = &mut self.lanes[at];
            if let Some(user_id) = lane.next_ingested_user() {
                if let Some(user) = self.users.resident(user_id) {
                    user.trim(ingested);
                    if user.levels.stored(user.stored) {
                        self.tell_committed(user_id, cx);
                    }
                    self.forget_if_unused(user_id);
                }
            } else if let Some(group) = lane.next_ingested_group() {
                if let Some(known) = self.groups.resident(group) {
                    known.trim(ingested);
                }
                self.forget_group_if_unused(group);
            } else if let Some((user, conversation)) = lane.next_ingested_conversation() {
                self.forget_conversation_if_unused(user, conversation);
            } else {
                return;
            }
        }
    }

    pub(super) fn forget_if_unused(&mut self, user_id: UserId) {
        let ingested = self.lanes[self.lane_of(user_id)].ingested();
        if let Some(user) = self.users.forget_if(user_id, |user| user.is_unused(ingested)) {
            self.spent.keep(user_id, user.buckets);
            self.elsewhere.looked_at(user_id, false);
        }
    }

    pub(super) fn forget_conversation_if_unused(&mut self, user: UserId, conversation: ConversationId) {
        let ingested = self.lanes[self.lane_of(user)].ingested();
        self.conversations.forget_if((user, conversation), |conversation| conversation.is_unused(ingested));
    }
}
