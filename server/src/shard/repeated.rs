//! Repeated sends: a number that was used before is answered with its first result, however late (contract 2), and stands for that
//! message alone: whoever says something else under it is told so, and so is whoever uses one that was given up.
//!
//! Invariants: nothing is stored here; a message and a retry are compared before the first result is told.

use std::cmp::Reverse;

use aws_lc_rs::digest;
use proto_spec::{
    Content, ConversationId, ErrorCode, Event, Recipient, SendNumber, Seq, ServerFrame, TimestampMs,
    limits::SEND_WINDOW,
};
use storage::{Query, Sent};

use super::{ConnId, Shard, Turn, question::Question, user::Recent};
use crate::limits::{QUERIES_IN_FLIGHT_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// What a send says, and to whom, in a few bytes: a retry that waits for the store is no longer than that, whatever its text.
/// Two that differ do not have the same one by chance or by design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said([u8; Self::LEN]);

impl Said {
    /// Of SHA-256. Who finds two messages for one value has made 2^64 attempts, and fools nobody but themselves.
    const LEN: usize = 16;

    pub(super) fn new(to: ConversationId, content: &Content) -> Self {
        if !content.is_message() {
            // In the log it says besides where the message stands.
            return Self::hash(to, &content.standing(None));
        }
        Self::hash(to, content)
    }

    pub(super) const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    fn hash(to: ConversationId, content: &Content) -> Self {
        let (kind, body) = content.parts();
        let mut hash = digest::Context::new(&digest::SHA256);
        match to {
            ConversationId::Person(to) => hash.update(&to.0.to_be_bytes()),
            ConversationId::Group(to) => {
                // Nothing that is said to a user hashes the same: there a kind of content comes next.
                hash.update(&to.0.to_be_bytes());
                hash.update(&[u8::MAX]);
            }
        }
        hash.update(&[kind]);
        hash.update(body);
        let mut said = [0; Self::LEN];
        said.copy_from_slice(&hash.finish().as_ref()[..Self::LEN]);
        Self(said)
    }
}

/// What is asked of a number that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// To accept this under it, for this recipient.
    Send(Said, ConversationId),
    /// To void it.
    GiveUp,
}

/// Whether the first send of a number, of which there may be little left, said the same.
fn is_same_send(first: &Sent, said: Said) -> bool {
    match first {
        Sent::Superseded { first, .. } => first.said == said.bytes(),
        Sent::Entry(entry) => match &entry.event {
            Event::Sent { to, content, .. } => Said::new(*to, content) == said,
            _ => false,
        },
        Sent::GivenUp => false,
    }
}

/// Whether the first answer to a number answers this too.
fn is_on_the_way(asked: Asked, first: &Sent) -> bool {
    match (asked, first) {
        (Asked::Send(said, _), first) => is_same_send(first, said),
        (Asked::GiveUp, _) => true,
    }
}

impl Shard {
    /// A number that was used before is used again.
    pub(super) fn number_repeated(&mut self, conn: ConnId, number: SendNumber, asked: Asked, cx: &mut Turn<'_>) {
        self.counters.repeated += 1;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let (first, is_released) = match user.device(device_id).and_then(|device| device.recent(number)) {
            Some(Recent::Sent(seq)) => match (user.tail.get(seq), user.rewrites.first(seq)) {
                (Some(tail), _) => (Sent::Entry(tail.entry.clone()), seq <= user.released),
                (None, Some(first)) => (Sent::Superseded { seq, first }, seq <= user.released),
                (None, None) => return self.look_up_later(conn, number, asked, cx),
            },
            Some(Recent::GivenUp(batch)) => (Sent::GivenUp, self.lanes[at].is_released(batch)),
            None => return self.look_up_later(conn, number, asked, cx),
        };
        // What is not released yet has its first answer on the way to this device. It is the answer to whoever asks for the same.
        if is_released || !is_on_the_way(asked, &first) {
            self.answer_repeated(conn, number, asked, &first, cx);
        }
    }

    /// The store knows what the number stands for, and is asked as soon as it may be.
    fn look_up_later(&mut self, conn: ConnId, number: SendNumber, asked: Asked, cx: &mut Turn<'_>) {
        let Some(user) = self.sessions.get_mut(conn).map(|session| session.user) else { return };
        let Some(user) = self.users.resident(user) else { return };
        // Of all devices together: each is a read, and the queue to the readers is everybody's.
        let conns: Vec<_> = user.devices.iter().filter_map(|device| device.session).collect();
        let lookups: u64 =
            conns.into_iter().map(|conn| self.sessions.get_mut(conn).map_or(0, |of| of.lookups.into())).sum();
        if lookups >= SEND_WINDOW || self.questions.len() >= QUERIES_IN_FLIGHT_MAX {
            // Not refused: a refusal would say that the number is not used up.
            let detail = "too many repeated sends at once";
            return self.close(conn, ErrorCode::Overloaded, RETRY_BUSY_MS, detail, cx);
        }
        if let Some(mut session) = self.sessions.get_mut(conn) {
            session.lookups += 1;
        }
        self.look_up(conn, number, asked, cx);
    }

    /// Asks the store for the first result of a number, at the pace of the user's fetches. It can not be refused, which would say that
    /// the number is not used up; so what is too much waits for its turn.
    fn look_up(&mut self, conn: ConnId, number: SendNumber, asked: Asked, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device) = (session.user, session.device);
        let Some(user) = self.users.resident(user_id) else { return };
        match self.settings.limits.fetches.take(&mut user.buckets.fetches, cx.now.monotonic_ms) {
            Ok(()) => {
                let query = Query::Send { user: user_id, device, number };
                self.ask(query, Question::Repeated { conn, number, asked }, cx);
            }
            Err(wait_ms) => self.lookups.push(Reverse((cx.now.monotonic_ms + wait_ms, conn, number, asked))),
        }
    }

    /// Asks for those whose turn has come.
    pub(super) fn look_up_due(&mut self, cx: &mut Turn<'_>) {
        while self.lookups.peek().is_some_and(|Reverse((due_ms, ..))| *due_ms <= cx.now.monotonic_ms) {
            let Some(Reverse((_, conn, number, asked))) = self.lookups.pop() else { return };
            self.look_up(conn, number, asked, cx);
        }
    }

    /// The store has looked for what a number stands for.
    pub(super) fn repeated_found(
        &mut self,
        conn: ConnId,
        number: SendNumber,
        asked: Asked,
        found: Option<Sent>,
        cx: &mut Turn<'_>,
    ) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.lookups -= 1;
        match found {
            Some(first) => self.answer_repeated(conn, number, asked, &first, cx),
            None => {
                // Used up and not found: the store cannot be read. It must not be stored again, nor called refused.
                let detail = "the store can not be read";
                self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
            }
        }
    }

    fn answer_repeated(&mut self, conn: ConnId, number: SendNumber, asked: Asked, first: &Sent, cx: &mut Turn<'_>) {
        let at = match first {
            Sent::Entry(entry) => Some((entry.seq, entry.time)),
            Sent::Superseded { seq, first } => Some((*seq, first.time)),
            Sent::GivenUp => None,
        };
        match (asked, at) {
            (Asked::Send(said, to), Some((seq, time))) if is_same_send(first, said) => {
                self.accept_again(conn, (number, to), seq, time, cx);
            }
            (Asked::Send(..), Some(_)) => self.refuse_used(conn, number, ErrorCode::NumberUsed, cx),
            (Asked::Send(..), None) => self.refuse_used(conn, number, ErrorCode::GivenUp, cx),
            (Asked::GiveUp, at) => {
                let seq = at.map_or(Seq::ZERO, |(seq, _)| seq);
                self.send(conn, &ServerFrame::GivenUp { number, seq }, cx);
            }
        }
    }

    fn accept_again(
        &mut self,
        conn: ConnId,
        (number, to): (SendNumber, ConversationId),
        seq: Seq,
        time: TimestampMs,
        cx: &mut Turn<'_>,
    ) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        session.tell_epochs_if_next(seq, &user.epochs, cx);
        session.feed.accept(seq);
        let durability = user.levels.tell(seq, user.released);
        let recipient = match (to, session.watch) {
            (to, _) if to == user_id.into() => Recipient::Yourself,
            // Whether the recipient is there was of interest when the message was new: what the device was told stands.
            (ConversationId::Person(to), Some(watch)) if self.sights.has_told_of(watch, to) => Recipient::Online,
            (ConversationId::Person(_) | ConversationId::Group(_), _) => Recipient::Offline,
        };
        self.send(conn, &ServerFrame::Accepted { number, seq, time, durability, recipient }, cx);
    }

    /// The number stands for another message, or for none.
    fn refuse_used(&mut self, conn: ConnId, number: SendNumber, code: ErrorCode, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        let expected = device.last_number.next();
        self.counters.refused += 1;
        self.send(conn, &ServerFrame::Refused { number, code, retry_after_ms: 0, expected }, cx);
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;

    use super::*;

    #[test]
    fn what_is_said_differs_by_recipient_kind_and_content() {
        let said = |to: u64, content: &Content| Said::new(UserId(to).into(), content);
        let text = Content::text("hello");
        let (same, other) = (Content::text("hello"), Content::text("hello "));
        let kind = Content::Unknown { kind: 9, body: (*b"hello").into() };
        assert_eq!(said(8, &text), said(8, &same));
        for (to, content) in [(9, &text), (8, &other), (8, &kind), (8, &Content::text(""))] {
            assert_ne!(said(8, &text), said(to, content), "{to} {content:?}");
        }
    }
}
