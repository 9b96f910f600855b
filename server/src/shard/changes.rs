//! Changes: what is said about a message later: an edit or that it is taken back, by its author, and reactions, by both. The message keeps
//! its place in the conversation; the entry that told until then what is told now is superseded, on both sides.
//!
//! The message is in the tail, or it is read. Meanwhile what the author's connection says next is held, for its sends must be answered
//! in their order; and so is what comes behind a change from its author's home (`looking`).
//!
//! Invariants: a home changes only what its own user wrote, in time; a change of what the other side never got, since it was
//! superseded before it went out, comes there in its place; of a user's reactions to one message the last one counts. A user's entry
//! supersedes one of another user only where that leaves nothing to be told: what has not gone out must not be lost.

use proto_spec::{
    Body, Content, ConversationId, Entry, ErrorCode, Event, MessageName, SendNumber, Seq, Stands, TimestampMs, UserId,
    limits::REACTIONS_MAX,
};
use storage::{ConversationSnapshot, FirstResult, Message, Query, Replaced, Rewrite, Shown};

use super::{
    ConnId, Limits, Shard, Turn, input::Parcel, question::Question, repeated::Said, sequencer::Refusal, user::User,
};
use crate::limits::{QUERIES_IN_FLIGHT_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// Where a message that is to be changed may be.
enum Search {
    /// It is known.
    Done(Option<Message>),
    /// In the store, if there is one.
    InStore(Query),
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

    fn search(&self, user: &User) -> Search {
        let about = if let Parcel::Message(content) = &self.parcel { content.about() } else { None };
        about.map_or(Search::Done(None), |(name, _)| named(user, self.to, self.from.into(), name))
    }
}

impl Shard {
    /// A device wants to change a message, and may: if the message is one that can be changed.
    pub(super) fn change_requested(&mut self, change: Change, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(change.conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let Some((name, _)) = change.content.about() else { return };
        if name.author != user_id && !is_reaction(&change.content) {
            return self.refuse_change(&change, ErrorCode::NotTheAuthor, 0, cx);
        }
        match named(user, user_id, change.to, name) {
            Search::Done(message) => self.change(change, message.as_ref(), cx),
            Search::InStore(..) if self.questions.len() >= QUERIES_IN_FLIGHT_MAX => {
                self.refuse_change(&change, ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
            }
            Search::InStore(query) => {
                user.loading += 1;
                if let Some(mut session) = self.sessions.get_mut(change.conn) {
                    session.hold();
                }
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
        let name = change.content.about().map(|(name, _)| name);
        let search = name.map(|name| named(user, user_id, change.to, name));
        let message = match (read, search) {
            (None, _) => None,
            // Another device was faster.
            (_, Some(Search::Done(message))) => Some(message),
            (Some(None), _) => Some(None),
            (Some(Some(read)), _) => with_tail(user, read).map(Some),
        };
        match (message, self.refuse_admission()) {
            (_, Some(refusal)) => self.refuse_change(&change, refusal.code, refusal.retry_after_ms, cx),
            (None, None) => self.refuse_change(&change, ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx),
            (Some(message), None) => self.change(change, message.as_ref(), cx),
        }
        self.go_on_with_held(conn, cx);
        self.loading_ended(user_id);
    }

    fn change(&mut self, change: Change, message: Option<&Message>, cx: &mut Turn<'_>) {
        let user_id = self.sessions.get_mut(change.conn).map(|session| session.user);
        let Some(next) = user_id.and_then(|user| Some(self.users.resident(user)?.head.next())) else { return };
        let message = message.ok_or(ErrorCode::NoSuchMessage);
        match message.and_then(|message| judge(&change, message, &self.settings.limits, cx.now.wall).map(|()| message))
        {
            Err(code) => self.refuse_change(&change, code, 0, cx),
            Ok(message) => {
                let of = Rewrite { received: None, ..rewrite(message, &change.content, By::User, next) };
                let Change { conn, number, to, content } = change;
                self.take_send(conn, number, to, content.standing(Some(stands(message))), Some(of), cx);
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
        let user = self.users.resident(to)?;
        match arrival.search(user) {
            Search::Done(message) => Some((arrival, message)),
            Search::InStore(query) => {
                user.loading += 1;
                let conversation = from.into();
                if let Some(known) = self.conversations.resident((to, conversation)) {
                    known.held += 1;
                }
                self.looking.begin((to, conversation));
                self.ask(query, Question::Arrival { arrival }, cx);
                None
            }
        }
    }

    /// The store has looked for what an arrival changes; none: it could not be read.
    pub(super) fn arrival_read(&mut self, arrival: Arrival, read: Option<Option<Message>>, cx: &mut Turn<'_>) {
        let (to, from) = (arrival.to, arrival.from);
        let Some(user) = self.users.resident(to) else { return };
        let read = match (read, arrival.search(user)) {
            (None, _) => None,
            (_, Search::Done(message)) => Some(message),
            (Some(None), _) => Some(None),
            (Some(Some(read)), _) => with_tail(user, read).map(Some),
        };
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
    let about = entry.event.content().and_then(Content::about);
    about.and_then(|(_, stands)| stands).map_or(entry.time, |stands| stands.time)
}

fn stands(message: &Message) -> Stands {
    Stands { place: message.place, time: written(&message.entry) }
}

/// Whether it leaves nothing to be told: what is said about a message that was deleted here, a reaction to what says nothing any more.
pub(super) fn is_moot(content: &Content, message: Option<&Message>) -> bool {
    if message.is_some_and(|message| matches!(message.entry.event, Event::Deleted { .. })) {
        return true;
    }
    is_reaction(content) && message.is_none_or(|message| message.entry.is_unsend() || is_full(message, By::Peer))
}

/// What a change that has come from the other side says here, and what it does.
pub(super) fn received(
    origin: Seq,
    content: &Content,
    message: &Message,
    next: Seq,
    known: &mut ConversationSnapshot,
) -> (Content, Rewrite) {
    let row = &mut known.received;
    row.up_to = origin;
    if content.is_unsend() && !message.entry.is_unsend() && message.place > known.read.up_to {
        // It was not read, and there is nothing to read any more.
        row.count = row.count.saturating_sub(1);
    }
    let of = Rewrite { received: Some(known.received), ..rewrite(message, content, By::Peer, next) };
    (content.standing(Some(stands(message))), of)
}

/// A change that stands for itself, at `place`. What is no change stays as it is.
pub(super) fn in_its_own_place(content: Content, place: Seq, now: TimestampMs) -> Content {
    let Some((_, stands)) = content.about() else { return content };
    content.standing(Some(Stands { place, time: stands.map_or(now, |stands| stands.time) }))
}

/// Who says something about a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Whose log it is.
    User,
    /// The other side.
    Peer,
}

fn is_by(entry: &Entry, by: By) -> bool {
    matches!(entry.event, Event::Sent { .. }) == (by == By::User)
}

/// What an entry at `next` does that says this about a message.
fn rewrite(message: &Message, content: &Content, by: By, next: Seq) -> Rewrite {
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut says = message.entry.seq;
    if is_reaction(content) {
        (gone, kept) = message.reactions.iter().partition(|reaction| is_by(reaction, by));
    } else {
        says = next;
        gone.push(&message.entry);
        let reactions = if content.is_unsend() { &mut gone } else { &mut kept };
        reactions.extend(&message.reactions);
    }
    let mut reactions: Vec<_> = kept.into_iter().map(|reaction| reaction.seq).collect();
    reactions.extend(is_reaction(content).then_some(next));
    let replaces = gone.into_iter().map(replaced).collect();
    Rewrite { place: message.place, now: Shown { says, reactions }, replaces, received: None, last: None }
}

/// An entry that is superseded. If it was sent from here, something is kept of it for who sends it again.
pub(super) fn replaced(entry: &Entry) -> Replaced {
    let first = match &entry.event {
        Event::Sent { to, content, .. } => {
            Some(FirstResult { time: entry.time, said: Said::new(*to, content).bytes() })
        }
        _ => None,
    };
    Replaced { seq: entry.seq, first }
}

const fn is_reaction(content: &Content) -> bool {
    matches!(content, Content::Reaction(_))
}

/// Whether one more user may not react to it.
fn is_full(message: &Message, by: By) -> bool {
    message.reactions.len() >= REACTIONS_MAX && !message.reactions.iter().any(|reaction| is_by(reaction, by))
}

/// Whether a user may say this about a message.
fn judge(change: &Change, message: &Message, limits: &Limits, now: TimestampMs) -> Result<(), ErrorCode> {
    if message.entry.event.conversation() != Some(change.to) {
        return Err(ErrorCode::NoSuchMessage);
    }
    if let Ok(Body::Reaction(reaction)) = change.content.body() {
        let is_theirs = matches!(message.entry.event, Event::Received { .. });
        return match message {
            // The own log has something else under the number.
            _ if is_theirs && change.to != reaction.of.author.into() => Err(ErrorCode::NoSuchMessage),
            message if message.entry.is_unsend() => Err(ErrorCode::TakenBack),
            message if is_full(message, By::User) => Err(ErrorCode::ReactionsFull),
            _ => Ok(()),
        };
    }
    let said = match &message.entry.event {
        Event::Sent { content, .. } => content,
        _ => return Err(ErrorCode::NotTheAuthor),
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
    if written(&message.entry).0.saturating_add(within_ms) < now.0 {
        return Err(ErrorCode::TooLate);
    }
    Ok(())
}

/// Looks for a message by its name, in the log of `me`.
fn named(user: &User, me: UserId, conversation: ConversationId, name: MessageName) -> Search {
    let (place, query) = if name.author == me {
        if user.rewrites.is_deleted(name.seq) {
            return Search::Done(None);
        }
        // By its place.
        (Some(name.seq), Query::Message { user: me, conversation, place: name.seq })
    } else if conversation == name.author.into() {
        if let Some(deleted) = deleted(user, name) {
            return Search::Done(Some(deleted));
        }
        let place = their_place(user, name);
        (place, Query::Origin { user: me, conversation, origin: name.seq })
    } else {
        return Search::Done(None);
    };
    match place.and_then(|place| in_tail(user, place)) {
        Some(message) if message.entry.place() == Some(message.place) => Search::Done(Some(message)),
        Some(_) => Search::Done(None),
        None if user.stored == Seq::ZERO || (name.author == me && name.seq > user.stored) => Search::Done(None),
        None => Search::InStore(query),
    }
}

/// The entry of the tail that deletes this message of somebody else, as the message that it was.
fn deleted(user: &User, name: MessageName) -> Option<Message> {
    if user.rewrites.is_empty() {
        return None;
    }
    let mut tail = user.tail.range(user.stored.next(), user.head).map(|tail| &tail.entry);
    let entry = tail.find(|entry| matches!(entry.event, Event::Deleted { of, .. } if of == name))?;
    Some(Message { place: entry.concerns()?, entry: entry.clone(), reactions: Vec::new() })
}

/// Where a message of somebody else stands, if an entry of the tail says it: it is looked through from the newest on.
fn their_place(user: &User, name: MessageName) -> Option<Seq> {
    let is_it = |entry: &&Entry| match &entry.event {
        Event::Received { from, origin, content } if *from == name.author && !is_reaction(content) => {
            content.about().map_or(*origin, |(of, _)| of.seq) == name.seq
        }
        _ => false,
    };
    let mut tail = user.tail.range(user.stored.next(), user.head).map(|tail| &tail.entry).rev();
    tail.find(is_it)?.place()
}

/// The message that stands at `place`, if all that there is to tell of it is in the tail.
pub(super) fn in_tail(user: &User, place: Seq) -> Option<Message> {
    let entry = |seq: Seq| user.tail.get(seq).map(|tail| tail.entry.clone());
    match user.rewrites.now(place) {
        Some(now) => {
            let reactions = now.reactions.iter().map(|seq| entry(*seq)).collect::<Option<_>>()?;
            Some(Message { place, entry: entry(now.says)?, reactions })
        }
        None => Some(Message { place, entry: entry(place)?, reactions: Vec::new() }),
    }
}

/// A message as the store knows it, with what the tail says of it. None: neither has an entry that it names, so what was read is of before.
pub(super) fn with_tail(user: &User, read: Message) -> Option<Message> {
    let Some(now) = user.rewrites.now(read.place) else { return Some(read) };
    let known = |seq: Seq| {
        let in_tail = user.tail.get(seq).map(|tail| tail.entry.clone());
        in_tail.or_else(|| std::iter::once(&read.entry).chain(&read.reactions).find(|entry| entry.seq == seq).cloned())
    };
    let reactions = now.reactions.iter().map(|seq| known(*seq)).collect::<Option<_>>()?;
    Some(Message { place: read.place, entry: known(now.says)?, reactions })
}

#[cfg(test)]
mod tests {
    use proto_spec::DeviceId;

    use super::*;

    #[test]
    fn a_message_takes_no_more_reactions_than_it_keeps() {
        let (me, peer) = (UserId(1), UserId(2));
        let name = MessageName { author: me, seq: Seq(1) };
        let entry = |seq: u64, content: Content, by: By| {
            let event = match by {
                By::User => Event::Sent { to: peer.into(), device: DeviceId(1), number: SendNumber(seq), content },
                By::Peer => Event::Received { from: peer, origin: Seq(seq), content },
            };
            Entry { seq: Seq(seq), time: TimestampMs(1), event }
        };
        let reaction = |seq, by| entry(seq, Content::reaction(name, "+", None), by);
        let mut message = Message {
            place: Seq(1),
            entry: entry(1, Content::text("hello"), By::User),
            reactions: (2..).map(|seq| reaction(seq, By::Peer)).take(REACTIONS_MAX).collect(),
        };
        let conn = ConnId { slot: 1, generation: 1 };
        let content = Content::reaction(name, "!", None);
        let change = Change { conn, number: SendNumber(9), to: peer.into(), content: content.clone() };
        let judged = |message: &Message| judge(&change, message, &Limits::OFF, TimestampMs(1));
        assert_eq!(judged(&message), Err(ErrorCode::ReactionsFull));
        assert!(!is_moot(&content, Some(&message)), "another one of the same user takes no more room");
        message.reactions.pop();
        assert_eq!(judged(&message), Ok(()));
    }
}
