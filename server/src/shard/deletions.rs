//! Deletions: a user deletes a message for themselves, on all their devices (SPEC 4.30). The other side keeps it.
//!
//! An entry supersedes all that told of the message, and names it, so that a device which holds it learns that it is gone, and what the
//! other side says about it later is passed over.
//!
//! Invariant: nothing is deleted that the other side may not have yet.

use proto_spec::{ConversationId, ErrorCode, Event, MessageName, RequestId, Seq, UserId, limits::UNREAD_MAX};
use storage::{Message, Query, Rewrite, Shown, ToDelete};

use super::{
    ConnId, Promise, Shard, Turn,
    changes::{in_tail, replaced, with_tail},
    ledger::{OnceStored, Parked},
    marks::Mark,
    question::Question,
    user::User,
};
use crate::limits::{RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// A deletion for which the store is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    by: (ConnId, RequestId),
    place: Seq,
    /// Most of the newest messages of its conversation that it was asked for.
    newest_max: usize,
}

impl Shard {
    /// A message of a conversation that is loaded is to go.
    pub(super) fn delete_message(
        &mut self,
        user_id: UserId,
        by: (ConnId, RequestId),
        conversation: ConversationId,
        place: Seq,
        cx: &mut Turn<'_>,
    ) {
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        user.loading += 1;
        known.held += 1;
        self.ask_to_delete(user_id, conversation, by, place, cx);
    }

    fn ask_to_delete(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        by: (ConnId, RequestId),
        place: Seq,
        cx: &mut Turn<'_>,
    ) {
        let Some(user) = self.users.resident(user_id) else { return };
        let newest_max = newest_wanted(user);
        let deletion = Deletion { by, place, newest_max };
        let query = Query::ToDelete { user: user_id, conversation, place, newest_max };
        self.ask(query, Question::Delete { user: user_id, conversation, deletion }, cx);
    }

    /// The store has said what it knows of the message.
    pub(super) fn deletion_read(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        deletion: Deletion,
        read: Option<ToDelete>,
        cx: &mut Turn<'_>,
    ) {
        let Deletion { by, place, newest_max } = deletion;
        let Some(user) = self.users.resident(user_id) else { return };
        if read.as_ref().is_some_and(|read| read.newest.len() == newest_max) && newest_max < newest_wanted(user) {
            // Others were deleted meanwhile, and may be all that was read.
            return self.ask_to_delete(user_id, conversation, by, place, cx);
        }
        if let Some(known) = self.conversations.resident((user_id, conversation)) {
            known.held -= 1;
        }
        let kind = Mark::Delete { place }.kind();
        match (read, self.refuse_admission()) {
            (_, Some(refusal)) => self.mark_failed(by, kind, refusal.code, refusal.retry_after_ms, cx),
            (None, None) => self.mark_failed(by, kind, ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx),
            (Some(read), None) => self.delete_known(user_id, conversation, (by, place), read, cx),
        }
        self.forget_conversation_if_unused(user_id, conversation);
        self.loading_ended(user_id);
    }

    fn delete_known(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        (by, place): ((ConnId, RequestId), Seq),
        read: ToDelete,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        let Some(message) = there(user, conversation, place, read.message) else {
            let changed_in = known.changed_in;
            return self.answer_marked(user_id, by, changed_in, cx);
        };
        let told = || std::iter::once(&message.entry).chain(&message.reactions);
        let is_owed = |event: &Event, seq| match event {
            Event::Sent { to, .. } => *to != user_id.into() && user.outgoing.is_owed(seq, *to),
            _ => false,
        };
        if told().any(|entry| is_owed(&entry.event, entry.seq)) {
            return self.mark_failed(by, Mark::Delete { place }.kind(), ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
        }
        let (row, read_row) = (&mut known.numbered.received, &known.numbered.read);
        let is_received = matches!(message.entry.event, Event::Received { .. });
        let was_unread = is_received && !message.entry.is_unsend() && place > read_row.up_to;
        row.count = row.count.saturating_sub(u64::from(was_unread));
        let last = last_without(user, conversation, place, &read.newest);
        row.at = last.unwrap_or(row.at);
        let unread = row.count.saturating_sub(read_row.count).min(UNREAD_MAX + 1);
        let of = Rewrite {
            place,
            now: Shown::default(),
            replaces: told().map(replaced).collect(),
            received: Some(*row),
            last,
        };
        let event = Event::Deleted { conversation, of: name_of(&message, user_id), place, unread };
        self.lanes[at].change_conversation((user_id, conversation), &mut known.changed_in);
        let seq = Self::append_change(user_id, user, event, of, u64::from(was_unread), (at, &mut self.lanes[at]), cx);
        user.rewrites.move_last(seq, conversation, last);
        self.counters.entries += 1;
        self.lanes[at].park(Parked::Entry { user: user_id, seq, answer: None });
        self.lanes[at].park(Parked::Marked(by));
        if self.settings.promise == Promise::Store {
            self.lanes[at].park_until_stored(OnceStored::Entry { user: user_id, seq, answer: None });
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }
}

/// How many of the newest messages of the store have to be known: the one that goes, the one before it, and those that the tail deletes.
fn newest_wanted(user: &User) -> usize {
    2 + user.rewrites.deletions()
}

/// The message at `place`, if it is of this conversation and has not been deleted.
fn there(user: &User, conversation: ConversationId, place: Seq, read: Option<Message>) -> Option<Message> {
    if user.rewrites.is_deleted(place) {
        return None;
    }
    let message = in_tail(user, place).or_else(|| with_tail(user, read?))?;
    let is_it = message.entry.place() == Some(place) && message.entry.event.conversation() == Some(conversation);
    is_it.then_some(message)
}

/// If the message at `place` is the last one of its conversation: where the one before it stands, zero if there is none. `newest`:
/// those that the store has.
fn last_without(user: &User, conversation: ConversationId, place: Seq, newest: &[Seq]) -> Option<Seq> {
    let tail = user.tail.range(user.stored.next(), user.head).map(|tail| &tail.entry);
    let in_tail =
        tail.filter(|entry| entry.event.conversation() == Some(conversation)).filter_map(|entry| entry.place());
    let others = in_tail.chain(newest.iter().copied()).filter(|other| *other != place);
    let last = others.filter(|other| !user.rewrites.is_deleted(*other)).max().unwrap_or_default();
    (last < place).then_some(last)
}

fn name_of(message: &Message, me: UserId) -> MessageName {
    let (author, own, content) = match &message.entry.event {
        Event::Received { from, origin, content } => (*from, *origin, content),
        Event::Sent { content, .. } => (me, message.entry.seq, content),
        _ => unreachable!("it is a message"),
    };
    content.about().map_or(MessageName { author, seq: own }, |(name, _)| name)
}
