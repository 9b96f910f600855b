//! Residents: which users and conversations are in memory, what waits for those that are being loaded, and when they
//! may be forgotten.
//!
//! Invariant: what is resident may be forgotten only when every batch that changed it is in the store, no connection
//! uses it and no duty is open; so a load from the store never sees an old state.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use proto_spec::{ClientKind, ConversationId, ErrorCode, RequestId, UserId};
use storage::{Answer, ConversationSnapshot, Query, UserSnapshot};

use crate::limits::{ASK_AGAIN_MS, FORGOTTEN_TURN_MAX, RETRY_STORAGE_MS};

use super::{
    ConnId, Shard, Turn,
    fetch::Fetch,
    input::{Connected, Envelope, QueryId},
    question::Question,
    user::{Conversation, User, UserSlot, Waiting},
};

/// The users of a shard.
#[derive(Debug, Default)]
pub(super) struct Users {
    slots: HashMap<UserId, UserSlot, RandomState>,
}

impl Users {
    pub(super) fn resident(&mut self, user: UserId) -> Option<&mut User> {
        match self.slots.get_mut(&user) {
            Some(UserSlot::Resident(user)) => Some(user),
            Some(UserSlot::Loading(_)) | None => None,
        }
    }

    pub(super) fn waiting(&mut self, user: UserId) -> Option<&mut Vec<Waiting>> {
        match self.slots.get_mut(&user) {
            Some(UserSlot::Loading(waiting)) => Some(waiting),
            Some(UserSlot::Resident(_)) | None => None,
        }
    }

    /// How much waits for a user who is being loaded.
    pub(super) fn envelopes_waiting(&self, user: UserId) -> usize {
        match self.slots.get(&user) {
            Some(UserSlot::Loading(waiting)) => waiting.len(),
            Some(UserSlot::Resident(_)) | None => 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// What waits until a conversation is loaded, in order.
#[derive(Debug)]
pub(super) enum ConversationWaiting {
    Envelope(Envelope),
    Fetch(ConnId, RequestId, Fetch),
}

#[derive(Debug)]
enum ConversationSlot {
    Loading(Vec<ConversationWaiting>),
    Resident(Conversation),
}

/// The conversations of a shard, by whose side it is.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    slots: HashMap<(UserId, ConversationId), ConversationSlot, RandomState>,
}

impl Conversations {
    pub(super) fn resident(&mut self, user: UserId, conversation: ConversationId) -> Option<&mut Conversation> {
        match self.slots.get_mut(&(user, conversation)) {
            Some(ConversationSlot::Resident(conversation)) => Some(conversation),
            Some(ConversationSlot::Loading(_)) | None => None,
        }
    }

    /// How much waits for a conversation that is being loaded.
    pub(super) fn envelopes_waiting(&self, user: UserId, conversation: ConversationId) -> usize {
        match self.slots.get(&(user, conversation)) {
            Some(ConversationSlot::Loading(waiting)) => waiting.len(),
            Some(ConversationSlot::Resident(_)) | None => 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Shard {
    /// Lets `waiting` wait for `user`, who is not resident; begins to load the user if nobody has.
    pub(super) fn wait_for_user(&mut self, user: UserId, waiting: Waiting, cx: &mut Turn<'_>) {
        debug_assert!(self.users.resident(user).is_none());
        if let Some(list) = self.users.waiting(user) {
            list.push(waiting);
            return;
        }
        self.users.slots.insert(user, UserSlot::Loading(vec![waiting]));
        self.ask(Query::User(user), Question::User(user), cx);
    }

    /// Lets `waiting` wait for a conversation that is not resident; begins to load it if nobody has.
    pub(super) fn wait_for_conversation(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        waiting: ConversationWaiting,
        cx: &mut Turn<'_>,
    ) {
        debug_assert!(self.conversations.resident(user, conversation).is_none());
        if let Some(ConversationSlot::Loading(list)) = self.conversations.slots.get_mut(&(user, conversation)) {
            list.push(waiting);
            return;
        }
        if let Some(user) = self.users.resident(user) {
            user.loading += 1;
        }
        self.conversations.slots.insert((user, conversation), ConversationSlot::Loading(vec![waiting]));
        self.ask(Query::Conversation { user, conversation }, Question::Conversation { user, conversation }, cx);
    }

    /// Asks the store.
    pub(super) fn ask(&mut self, query: Query, question: Question, cx: &mut Turn<'_>) {
        self.next_query = QueryId(self.next_query.0 + 1);
        self.questions.insert(self.next_query, question);
        self.counters.queries += 1;
        cx.effects.queries.push((self.next_query, query));
    }

    /// Tries again to load users with unfinished duties who could not be read. The rim has tried several times, so somebody or
    /// something had to act first.
    pub(super) fn load_postponed(&mut self, cx: &mut Turn<'_>) {
        while self.postponed.front().is_some_and(|(due_ms, _)| *due_ms <= cx.now.monotonic_ms) {
            let Some((_, user)) = self.postponed.pop_front() else { return };
            self.unfinished.push_back(user);
        }
        self.load_unfinished(cx);
    }

    /// The store has answered, or could not be read (`None`).
    pub(super) fn answered(&mut self, query: QueryId, answer: Option<Answer>, cx: &mut Turn<'_>) {
        let Some(question) = self.questions.remove(&query) else {
            debug_assert!(false, "each query is answered once");
            return;
        };
        // An answer of the wrong kind is a bug of the rim; in a release it counts as unreadable.
        let entries = |answer: Option<Answer>| match answer {
            Some(Answer::Entries(entries)) => Some(entries),
            _ => None,
        };
        match question {
            Question::User(user) => match answer {
                Some(Answer::User(snapshot)) => self.user_loaded(user, &snapshot, cx),
                _ => self.user_unreadable(user, cx),
            },
            Question::Conversation { user, conversation } => match answer {
                Some(Answer::Conversation(snapshot)) => self.conversation_loaded(user, conversation, snapshot, cx),
                _ => self.conversation_unreadable(user, conversation, cx),
            },
            Question::CatchUp { conn, first, last } => self.caught_up(conn, (first, last), entries(answer), cx),
            Question::Fetch { conn, request, fetch, last } => {
                self.fetched(conn, request, fetch, last, entries(answer), cx);
            }
            Question::Repeated { conn, number } => {
                let found = match answer {
                    Some(Answer::Send(found)) => found,
                    _ => None,
                };
                self.repeated_found(conn, number, found, cx);
            }
            Question::Forward { user, last } => self.forwards_read(user, last, entries(answer), cx),
            Question::Receipts { user, last } => self.receipts_read(user, last, entries(answer), cx),
        }
    }

    fn user_loaded(&mut self, user_id: UserId, snapshot: &UserSnapshot, cx: &mut Turn<'_>) {
        let mut user = Box::new(User::load(snapshot));
        user.buckets = self.spent.take(user_id);
        // Held while those who wait are served: one who leaves at once must not take the user from the others.
        user.loading = 1;
        let Some(UserSlot::Loading(waiting)) = self.users.slots.insert(user_id, UserSlot::Resident(user)) else {
            debug_assert!(false, "a user is loaded once");
            return;
        };
        if snapshot.unfinished {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        for waiting in waiting {
            match waiting {
                Waiting::Connect(connected) => self.start(connected, cx),
                Waiting::Envelope(envelope) => {
                    let envelope = self.release_waiting(envelope);
                    self.envelope(envelope, cx);
                }
                Waiting::Duties => self.unfinished_loading -= 1,
            }
        }
        self.loading_ended(user_id);
        self.load_unfinished(cx);
    }

    /// Who waits to connect is sent away, and what others said is put off. A user's own duties are nobody else's: they wait.
    fn user_unreadable(&mut self, user: UserId, cx: &mut Turn<'_>) {
        let Some(UserSlot::Loading(waiting)) = self.users.slots.remove(&user) else { return };
        let mut has_duties = false;
        for waiting in waiting {
            match waiting {
                Waiting::Connect(Connected { conn, .. }) => {
                    let detail = "the store can not be read";
                    self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
                }
                Waiting::Envelope(envelope) => {
                    let envelope = self.release_waiting(envelope);
                    self.put_off(&envelope, cx);
                }
                Waiting::Duties => has_duties = true,
            }
        }
        if has_duties {
            // Behind the others that are left over: nobody waits for one who can not be read.
            self.unfinished_loading -= 1;
            self.postponed.push_back((cx.now.monotonic_ms + ASK_AGAIN_MS, user));
        }
        self.load_unfinished(cx);
    }

    fn conversation_loaded(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        snapshot: ConversationSnapshot,
        cx: &mut Turn<'_>,
    ) {
        let resident = ConversationSlot::Resident(Conversation {
            received_up_to: snapshot.received_up_to,
            delivered_up_to: snapshot.delivered_up_to,
            delivered_at: snapshot.delivered_at,
            delivered_released: snapshot.delivered_up_to,
            changed_in: storage::BatchId(0),
        });
        let Some(ConversationSlot::Loading(waiting)) = self.conversations.slots.insert((user, conversation), resident)
        else {
            debug_assert!(false, "a conversation is loaded once");
            return;
        };
        for waiting in waiting {
            match waiting {
                ConversationWaiting::Envelope(envelope) => {
                    let envelope = self.release_waiting(envelope);
                    self.envelope(envelope, cx);
                }
                ConversationWaiting::Fetch(conn, request, fetch) => self.fetch_page(conn, request, fetch, cx),
            }
        }
        self.forget_conversation_if_unused(user, conversation);
        self.loading_ended(user);
    }

    fn loading_ended(&mut self, user_id: UserId) {
        if let Some(user) = self.users.resident(user_id) {
            user.loading -= 1;
            self.forget_if_unused(user_id);
        }
    }

    fn conversation_unreadable(&mut self, user: UserId, conversation: ConversationId, cx: &mut Turn<'_>) {
        let Some(ConversationSlot::Loading(waiting)) = self.conversations.slots.remove(&(user, conversation)) else {
            return;
        };
        for waiting in waiting {
            match waiting {
                ConversationWaiting::Envelope(envelope) => {
                    let envelope = self.release_waiting(envelope);
                    self.put_off(&envelope, cx);
                }
                ConversationWaiting::Fetch(conn, request, _) => {
                    self.fetch_failed(conn, ClientKind::FetchConversation, request, cx);
                }
            }
        }
        self.loading_ended(user);
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
            } else if let Some((user, conversation)) = lane.next_ingested_conversation() {
                self.forget_conversation_if_unused(user, conversation);
            } else {
                return;
            }
        }
    }

    pub(super) fn forget_if_unused(&mut self, user_id: UserId) {
        let ingested = self.lanes[self.lane_of(user_id)].ingested();
        let Some(user) = self.users.resident(user_id) else { return };
        let unused = !user.is_connected()
            && user.changed_in <= ingested
            && user.tail.is_empty()
            && !user.dirty
            && !user.unfinished
            && user.loading == 0
            && user.is_idle();
        if unused {
            let buckets = user.buckets;
            self.users.slots.remove(&user_id);
            self.spent.keep(user_id, buckets);
        }
    }

    pub(super) fn forget_conversation_if_unused(&mut self, user: UserId, conversation: ConversationId) {
        let ingested = self.lanes[self.lane_of(user)].ingested();
        if self
            .conversations
            .resident(user, conversation)
            .is_some_and(|conversation| conversation.changed_in <= ingested)
        {
            self.conversations.slots.remove(&(user, conversation));
        }
    }
}
