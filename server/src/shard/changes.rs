//! Changes: what its author says of a message later, an edit or that it is taken back. The message keeps its place in the conversation;
//! the entry that said until then what it says is superseded, on both sides.
//!
//! The message is in the tail, or it is read. Meanwhile what the author's connection says next is held, for its sends must be answered
//! in their order; and so is what comes behind a change from its author's home (`looking`).
//!
//! Invariants: a home changes only what its own user wrote, in time; a change of what the other side never got, since it was
//! superseded before it went out, comes there in its place.

use proto_spec::{
    Body, Content, ConversationId, Entry, ErrorCode, Event, SendNumber, Seq, Stands, TimestampMs, UserId,
};
use storage::{ConversationSnapshot, FirstResult, Message, Query, Rewrite};

use super::{
    ConnId, Limits, Shard, Turn, input::Parcel, question::Question, repeated::Said, sequencer::Refusal, user::User,
};
use crate::limits::{QUERIES_IN_FLIGHT_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// Where a message that is to be changed may be.
enum Search {
    /// It is known.
    Done(Option<Message>),
    /// In the store, if there is one.
    InStore,
}

/// A change on its way into the log of its author.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) conn: ConnId,
    pub(super) number: SendNumber,
    pub(super) to: ConversationId,
    pub(super) content: Content,
}

/// A change that has come to the home of the other side.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) to: UserId,
    pub(super) from: UserId,
    pub(super) places: (Seq, Seq),
    pub(super) parcel: Parcel,
}

impl Arrival {
    pub(super) const fn is_change(&self) -> bool {
        matches!(&self.parcel, Parcel::Message(content) if !content.is_message())
    }
}

impl Shard {
    /// A device wants to change a message, and may: if the message is one that can be changed.
    pub(super) fn change_requested(&mut self, change: Change, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(change.conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let Some((name, _)) = change.content.about() else { return };
        if name.author != user_id {
            return self.refuse_change(&change, ErrorCode::NotTheAuthor, 0, cx);
        }
        match own_message(user, change.to, name.seq) {
            Search::Done(message) => self.change(change, message.as_ref(), cx),
            Search::InStore if self.questions.len() >= QUERIES_IN_FLIGHT_MAX => {
                self.refuse_change(&change, ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
            }
            Search::InStore => {
                user.loading += 1;
                if let Some(mut session) = self.sessions.get_mut(change.conn) {
                    session.hold();
                }
                let query = Query::Message { user: user_id, conversation: change.to, place: name.seq };
                self.ask(query, Question::Change { user: user_id, change }, cx);
            }
        }
    }

    /// The store has looked for the message; none: it could not be read.
    pub(super) fn change_read(
        &mut self,
        user_id: UserId,
        change: Change,
        read: Option<Option<Message>>,
        cx: &mut Turn<'_>,
    ) {
        let conn = change.conn;
        let Some(user) = self.users.resident(user_id) else { return };
        let newer = match change.content.about().map(|(name, _)| own_message(user, change.to, name.seq)) {
            // Another device was faster.
            Some(Search::Done(newer)) => newer,
            Some(Search::InStore) | None => None,
        };
        match (read, self.refuse_admission()) {
            (_, Some(refusal)) => self.refuse_change(&change, refusal.code, refusal.retry_after_ms, cx),
            (None, None) => self.refuse_change(&change, ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx),
            (Some(read), None) => self.change(change, newer.or(read).as_ref(), cx),
        }
        self.go_on_with_held(conn, cx);
        self.loading_ended(user_id);
    }

    fn change(&mut self, change: Change, message: Option<&Message>, cx: &mut Turn<'_>) {
        match judge(&change, message, &self.settings.limits, cx.now.wall) {
            Err(code) => self.refuse_change(&change, code, 0, cx),
            Ok((stands, first)) => {
                let replaces = message.map(|message| message.entry.seq);
                let of = replaces.map(|replaces| Rewrite {
                    place: stands.place,
                    replaces,
                    first: Some(first),
                    received: None,
                });
                let Change { conn, number, to, content } = change;
                self.take_send(conn, number, to, content.standing(Some(stands)), of, cx);
            }
        }
    }

    fn refuse_change(&mut self, change: &Change, code: ErrorCode, retry_after_ms: u64, cx: &mut Turn<'_>) {
        self.refuse(change.conn, change.number, Refusal { code, retry_after_ms, sheds: None }, change.number, cx);
    }

    /// A change for a user whose home is here. What it changes, if that is known by now; else the store is asked.
    pub(super) fn changed_message(
        &mut self,
        arrival: Arrival,
        cx: &mut Turn<'_>,
    ) -> Option<(Arrival, Option<Message>)> {
        let (to, from) = (arrival.to, arrival.from);
        let about = if let Parcel::Message(content) = &arrival.parcel { content.about() } else { None };
        let Some((name, _)) = about else { return Some((arrival, None)) };
        let user = self.users.resident(to)?;
        match their_message(user, from, name.seq) {
            Search::Done(message) => Some((arrival, message)),
            Search::InStore => {
                user.loading += 1;
                let conversation = from.into();
                if let Some(known) = self.conversations.resident((to, conversation)) {
                    known.held += 1;
                }
                self.looking.begin((to, conversation));
                let query = Query::Origin { user: to, conversation, origin: name.seq };
                self.ask(query, Question::Arrival(arrival), cx);
                None
            }
        }
    }

    /// The store has looked for what an arrival changes; none: it could not be read.
    pub(super) fn arrival_read(&mut self, arrival: Arrival, read: Option<Option<Message>>, cx: &mut Turn<'_>) {
        let (to, from) = (arrival.to, arrival.from);
        if let Some(known) = self.conversations.resident((to, from.into())) {
            known.held -= 1;
        }
        let behind = self.looking.end((to, from.into()));
        match read {
            Some(message) => self.arrived(arrival, Some(message), cx),
            None => self.put_off_arrival(&arrival, cx),
        }
        behind.into_iter().for_each(|envelope| self.envelope(envelope, cx));
        self.forget_conversation_if_unused(to, from.into());
        self.loading_ended(to);
    }
}

/// When a message was written, whatever has changed it since.
fn written(entry: &Entry) -> TimestampMs {
    let content = match &entry.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => content,
        _ => return entry.time,
    };
    content.about().and_then(|(_, stands)| stands).map_or(entry.time, |stands| stands.time)
}

fn stands(message: &Message) -> Stands {
    Stands { place: message.place, time: written(&message.entry) }
}

/// What a change that has come from the other side says here, and what it does.
pub(super) fn received(
    origin: Seq,
    content: &Content,
    message: &Message,
    known: &mut ConversationSnapshot,
) -> (Content, Rewrite) {
    let row = &mut known.received;
    row.up_to = origin;
    let was_counted = !matches!(&message.entry.event, Event::Received { content: Content::Unsend(_), .. });
    if was_counted && matches!(content, Content::Unsend(_)) && message.place > known.read.up_to {
        // It was not read, and there is nothing to read any more.
        row.count = row.count.saturating_sub(1);
    }
    let of = Rewrite { place: message.place, replaces: message.entry.seq, first: None, received: Some(known.received) };
    (content.standing(Some(stands(message))), of)
}

/// A change that stands for itself, at `place`. What is no change stays as it is.
pub(super) fn in_its_own_place(content: Content, place: Seq, now: TimestampMs) -> Content {
    let Some((_, stands)) = content.about() else { return content };
    content.standing(Some(Stands { place, time: stands.map_or(now, |stands| stands.time) }))
}

/// Whether a message may be changed like this, and if so, where it stands and what is to be kept of the send that it was.
fn judge(
    change: &Change,
    message: Option<&Message>,
    limits: &Limits,
    now: TimestampMs,
) -> Result<(Stands, FirstResult), ErrorCode> {
    let message = message.ok_or(ErrorCode::NoSuchMessage)?;
    let said = match &message.entry.event {
        Event::Sent { to, content, .. } if *to == change.to => content,
        Event::Received { .. } => return Err(ErrorCode::NotTheAuthor),
        _ => return Err(ErrorCode::NoSuchMessage),
    };
    let kind = match said.body() {
        Ok(Body::Unsend(_)) => return Err(ErrorCode::TakenBack),
        Ok(Body::Edit(edit)) => edit.kind,
        _ => said.parts().0,
    };
    let within_ms = match change.content.body() {
        Ok(Body::Edit(edit)) if edit.kind != kind => return Err(ErrorCode::OtherKind),
        Ok(Body::Edit(_)) => limits.edit_within_ms,
        _ => limits.unsend_within_ms,
    };
    let stands = stands(message);
    if stands.time.0.saturating_add(within_ms) < now.0 {
        return Err(ErrorCode::TooLate);
    }
    Ok((stands, FirstResult { time: message.entry.time, said: Said::new(change.to, said).bytes() }))
}

/// A message of the user's own, by its place.
fn own_message(user: &User, to: ConversationId, place: Seq) -> Search {
    let at = user.rewrites.now(place).unwrap_or(place);
    match user.tail.get(at).map(|tail| &tail.entry) {
        Some(entry) if entry.place() == Some(place) && entry.event.conversation() == Some(to) => {
            Search::Done(Some(Message { place, entry: entry.clone() }))
        }
        None if place <= user.stored => Search::InStore,
        Some(_) | None => Search::Done(None),
    }
}

/// A message of somebody else, by its name. Its place is not known, so the tail is looked through, from the newest on.
fn their_message(user: &User, author: UserId, origin: Seq) -> Search {
    for tail in user.tail.range(user.stored.next(), user.head).rev() {
        if let Event::Received { from, origin: own, content } = &tail.entry.event
            && *from == author
            && let Some(place) = tail.entry.place()
            && content.about().map_or(*own, |(name, _)| name.seq) == origin
        {
            return Search::Done(Some(Message { place, entry: tail.entry.clone() }));
        }
    }
    if user.stored > Seq::ZERO { Search::InStore } else { Search::Done(None) }
}
