//! Changes: what is said about a message of a group later: an edit or that it is taken back, by its author, and reactions, by all. The
//! entry that says so supersedes, in the group's log, the one that told of the message until then; the message keeps its place.
//!
//! The message is in the tail, or it is read; meanwhile what comes of the same author waits (`looking`), and nobody else does.
//! Invariant: of a user's reactions to one message the last one counts, and a message that was taken back has none.

use proto_spec::{
    Body, Content, ErrorCode, GroupEntry, GroupId, MessageName, Seq, Stands, TimestampMs, UserId, limits::REACTIONS_MAX,
};
use storage::{GroupMessage, GroupRewrite, Query, Shown, group::beside};

use super::home::Group;
use crate::{
    group::roll::Roll,
    shard::{
        Limits, Shard, Turn,
        input::{Envelope, EnvelopeBody},
        question::Question,
    },
};

/// Something that was sent to a group.
#[derive(Debug)]
pub(in crate::shard) struct Sent {
    pub(super) group: GroupId,
    pub(super) from: UserId,
    /// Its seq in the author's log, and that of the one before.
    pub(super) places: (Seq, Seq),
    pub(super) content: Content,
}

/// Where a message that is to be changed may be.
pub(super) enum Search {
    /// It is known.
    Done(Option<GroupMessage>),
    /// In the store, if there is one.
    InStore(Query),
}

impl Group {
    /// Looks for a message by its name.
    pub(super) fn search(&self, id: GroupId, name: MessageName) -> Search {
        let place = name.seq;
        if place > self.head || place == Seq::ZERO {
            return Search::Done(None);
        }
        match self.in_tail(place) {
            Some(message) => Search::Done(message),
            None => Search::InStore(Query::GroupMessage { group: id, place }),
        }
    }

    /// The message at `place`, if all that there is to tell of it is in the tail.
    fn in_tail(&self, place: Seq) -> Option<Option<GroupMessage>> {
        let Some((_, now)) = self.shown.get(&place) else {
            let entry = self.tail_entry(place)?;
            let message = || GroupMessage { place, entry: (**entry).clone(), reactions: Vec::new() };
            return Some(entry.content.is_message().then(message));
        };
        let entry = |seq: Seq| self.tail_entry(seq).map(|entry| (**entry).clone());
        let reactions = now.reactions.iter().map(|seq| entry(*seq)).collect::<Option<_>>()?;
        Some(Some(GroupMessage { place, entry: entry(now.says)?, reactions }))
    }

    /// A message as the store knows it, with what the tail says of it. None: neither has an entry that it names, so what was read is of before.
    fn with_tail(&self, place: Seq, read: Option<GroupMessage>) -> Option<Option<GroupMessage>> {
        let Some((_, now)) = self.shown.get(&place) else { return Some(read) };
        let known = |seq: Seq| {
            let in_tail = self.tail_entry(seq).map(|entry| (**entry).clone());
            let read = || read.iter().flat_map(|read| std::iter::once(&read.entry).chain(&read.reactions));
            in_tail.or_else(|| read().find(|entry| entry.seq == seq).cloned())
        };
        let reactions = now.reactions.iter().map(|seq| known(*seq)).collect::<Option<_>>()?;
        Some(Some(GroupMessage { place, entry: known(now.says)?, reactions }))
    }
}

/// What a change that is taken says in the log, and what it does.
///
/// # Errors
/// Why it is not (SPEC 5.4.5 to 5.4.7).
pub(super) fn change(
    group: &Group,
    from: UserId,
    content: &Content,
    message: Option<GroupMessage>,
    at: Seq,
    limits: &Limits,
    now: TimestampMs,
) -> Result<(Content, GroupRewrite), ErrorCode> {
    let (name, _) = content.about().ok_or(ErrorCode::ContentLimits)?;
    let may_read = |place| group.book.roll.row(from).is_some_and(|row| Roll::may_read(row, place));
    let message = message.filter(|message| message.entry.from == name.author && may_read(message.place));
    let GroupMessage { place, entry, reactions } = message.ok_or(ErrorCode::NoSuchMessage)?;
    let written = written(&entry);
    judge(from, content, &entry, limits, (written, now))?;
    let (mut gone, mut kept, mut says) = (Vec::new(), reactions, entry.seq);
    if matches!(content, Content::Reaction(_)) {
        gone.extend(kept.extract_if(.., |reaction| reaction.from == from).map(|reaction| reaction.seq));
        if kept.len() >= REACTIONS_MAX {
            // Who felt something and does not any more makes room. That stays in the log: somebody may not have heard of it.
            let empty = kept.iter().position(says_nothing).ok_or(ErrorCode::ReactionsFull)?;
            kept.remove(empty);
        }
    } else {
        gone.push(entry.seq);
        says = at;
        if content.is_unsend() {
            gone.extend(kept.drain(..).map(|reaction| reaction.seq));
        }
    }
    let mut reactions: Vec<_> = kept.iter().map(|reaction| reaction.seq).collect();
    reactions.extend(matches!(content, Content::Reaction(_)).then_some(at));
    let of = GroupRewrite { place, now: Shown { says, reactions }, replaces: gone };
    Ok((content.standing(Some(Stands { place, time: written })), of))
}

/// Whether a reaction has been taken back.
fn says_nothing(reaction: &GroupEntry) -> bool {
    matches!(reaction.content.body(), Ok(Body::Reaction(reaction)) if reaction.reaction.is_empty())
}

/// When a message was written, whatever has changed it since.
fn written(entry: &GroupEntry) -> TimestampMs {
    entry.content.about().and_then(|(_, stands)| stands).map_or(entry.time, |stands| stands.time)
}

/// Whether a user may say this about a message that says that.
fn judge(
    from: UserId,
    content: &Content,
    entry: &GroupEntry,
    limits: &Limits,
    (written, now): (TimestampMs, TimestampMs),
) -> Result<(), ErrorCode> {
    if entry.content.is_unsend() {
        return Err(ErrorCode::TakenBack);
    }
    let kind = match entry.content.body() {
        Ok(Body::Edit(edit)) => edit.kind,
        _ => entry.content.parts().0,
    };
    let within_ms = match content.body() {
        Ok(Body::Reaction(_)) => return Ok(()),
        _ if entry.from != from => return Err(ErrorCode::NotTheAuthor),
        Ok(Body::Edit(edit)) if edit.kind != kind => return Err(ErrorCode::OtherKind),
        Ok(Body::Edit(_)) => limits.edit_within_ms,
        _ => limits.unsend_within_ms,
    };
    if written.0.saturating_add(within_ms) < now.0 {
        return Err(ErrorCode::TooLate);
    }
    Ok(())
}

impl Shard {
    /// The message that a change is about is in the store. What comes of the same author meanwhile waits behind it.
    pub(super) fn look_for_message(&mut self, sent: Sent, query: Query, cx: &mut Turn<'_>) {
        if let Some(group) = self.groups.resident(sent.group) {
            group.held += 1;
        }
        self.looking.begin((sent.from, sent.group.into()));
        self.ask(query, Question::GroupChange(Box::new(sent)), cx);
    }

    /// The store has looked for it; none: it could not be read.
    pub(in crate::shard) fn group_message_read(
        &mut self,
        sent: Sent,
        read: Option<Option<GroupMessage>>,
        cx: &mut Turn<'_>,
    ) {
        let Sent { group: id, from, places: (origin, _), .. } = sent;
        let behind = self.looking.end((from, id.into()));
        let place = sent.content.about().map(|(name, _)| name.seq).unwrap_or_default();
        let Some(group) = self.groups.resident(id) else {
            return behind.into_iter().for_each(|envelope| self.put_off(&envelope, cx));
        };
        group.held -= 1;
        let known = match (read, group.in_tail(place)) {
            (None, _) => None,
            (_, Some(message)) => Some(message),
            (Some(read), None) => group.with_tail(place, read),
        };
        match known {
            Some(message) => self.group_sent(&sent, Some(message), cx),
            // It changes faster than it is read, or can not be read: the author's home tries again.
            None => {
                let body = EnvelopeBody::GroupPutOff { origin };
                self.post(Envelope { to: from, from: beside(id), body }, cx);
            }
        }
        behind.into_iter().for_each(|envelope| self.group_envelope(envelope, cx));
        self.forget_group_if_unused(id);
    }
}
