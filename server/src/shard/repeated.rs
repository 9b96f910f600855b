//! Repeated sends: a number that was used before is answered with its first result, however late (contract 2), and stands for that
//! message alone: whoever says something else under it is told so.
//!
//! Invariants: nothing is stored here; a message and a retry are compared before the first result is told.

use std::cmp::Reverse;

use aws_lc_rs::digest;
use proto_spec::{
    Content, ConversationId, ErrorCode, Event, Recipient, SendNumber, Seq, ServerFrame, TimestampMs,
    limits::SEND_WINDOW,
};
use storage::{Query, Sent};

use super::{ConnId, Shard, Turn, question::Question};
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
        let ConversationId::Person(to) = to;
        let (kind, body) = content.parts();
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&to.0.to_be_bytes());
        hash.update(&[kind]);
        hash.update(body);
        let mut said = [0; Self::LEN];
        said.copy_from_slice(&hash.finish().as_ref()[..Self::LEN]);
        Self(said)
    }
}

/// Where the entry of the first send is or was, its time, and whether it said the same.
fn compare(first: &Sent, said: Said) -> (Seq, TimestampMs, bool) {
    match first {
        Sent::Superseded { seq, first } => (*seq, first.time, first.said == said.bytes()),
        Sent::Entry(entry) => {
            let is_same = match &entry.event {
                Event::Sent { to, content, .. } => Said::new(*to, content) == said,
                _ => false,
            };
            (entry.seq, entry.time, is_same)
        }
    }
}

impl Shard {
    /// A send under a number that was used before.
    pub(super) fn send_repeated(&mut self, conn: ConnId, number: SendNumber, said: Said, cx: &mut Turn<'_>) {
        self.counters.repeated += 1;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let Some(user) = self.users.resident(user_id) else { return };
        let recent = user.device(device_id).and_then(|device| device.recent_send(number));
        let first = recent.and_then(|seq| match user.tail.get(seq) {
            Some(tail) => Some(Sent::Entry(tail.entry.clone())),
            None => user.rewrites.first(seq).map(|first| Sent::Superseded { seq, first }),
        });
        if let Some(first) = first {
            let (seq, time, is_same) = compare(&first, said);
            if !is_same {
                self.refuse_used(conn, number, cx);
            } else if seq <= user.released {
                self.accept_again(conn, number, seq, time, cx);
            }
            // Else its acceptance is on its way to this device.
            return;
        }
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
        self.look_up(conn, number, said, cx);
    }

    /// Asks the store for the first result of a send, at the pace of the user's fetches. It can not be refused, which would say that
    /// the number is not used up; so what is too much waits for its turn.
    fn look_up(&mut self, conn: ConnId, number: SendNumber, said: Said, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device) = (session.user, session.device);
        let Some(user) = self.users.resident(user_id) else { return };
        match self.settings.limits.fetches.take(&mut user.buckets.fetches, cx.now.monotonic_ms) {
            Ok(()) => {
                let query = Query::Send { user: user_id, device, number };
                self.ask(query, Question::Repeated { conn, number, said }, cx);
            }
            Err(wait_ms) => self.lookups.push(Reverse((cx.now.monotonic_ms + wait_ms, conn, number, said))),
        }
    }

    /// Asks for those whose turn has come.
    pub(super) fn look_up_due(&mut self, cx: &mut Turn<'_>) {
        while self.lookups.peek().is_some_and(|Reverse((due_ms, ..))| *due_ms <= cx.now.monotonic_ms) {
            let Some(Reverse((_, conn, number, said))) = self.lookups.pop() else { return };
            self.look_up(conn, number, said, cx);
        }
    }

    /// The store has looked for the entry that a send became.
    pub(super) fn repeated_found(
        &mut self,
        conn: ConnId,
        number: SendNumber,
        said: Said,
        found: Option<Sent>,
        cx: &mut Turn<'_>,
    ) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.lookups -= 1;
        match found.map(|first| compare(&first, said)) {
            Some((seq, time, true)) => self.accept_again(conn, number, seq, time, cx),
            Some((.., false)) => self.refuse_used(conn, number, cx),
            None => {
                // Used up and not found: the store cannot be read. It must not be stored again, nor called refused.
                let detail = "the store can not be read";
                self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
            }
        }
    }

    fn accept_again(&mut self, conn: ConnId, number: SendNumber, seq: Seq, time: TimestampMs, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        session.tell_epochs_if_next(seq, &user.epochs, cx);
        session.feed.accept(seq);
        let durability = user.levels.tell(seq, user.released);
        // Whether the recipient is there was of interest when the message was new.
        let recipient = Recipient::Offline;
        self.send(conn, &ServerFrame::Accepted { number, seq, time, durability, recipient }, cx);
    }

    /// The number stands for another message.
    fn refuse_used(&mut self, conn: ConnId, number: SendNumber, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        let expected = device.last_number.next();
        self.counters.refused += 1;
        let refused = ServerFrame::Refused { number, code: ErrorCode::NumberUsed, retry_after_ms: 0, expected };
        self.send(conn, &refused, cx);
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
