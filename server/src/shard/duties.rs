//! Duties: what a user's home owes to others, derived from the user's own log and two marks.
//!
//! Sent messages above the mark `forwarded` are forwarded; received messages above the mark `receipted` that a device has
//! acknowledged are reported to their senders. Marks and cursors are written once in [`RECEIPT_DELAY_MS`] at most.
//! Invariant: a mark moves only over what the other home has confirmed as durable.

use std::mem;

use proto_spec::{
    ClientKind, Direction, Entry, ErrorCode, Event, RequestId, Seq, UserId,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use storage::{Entries, Query, Record, Span};

use super::{
    Admission, ConnId, Promise, Shard, Turn,
    input::{Envelope, EnvelopeBody},
    question::Question,
    tail::TailEntry,
    user::{Forwarding, Room, Waiting},
};
use crate::limits::{FLUSHES_TURN_MAX, RECEIPT_DELAY_MS};

/// How much of a log is looked at in one step.
const STEP: Room = Room { direction: Direction::Forwards, entries: PAGE_ENTRIES_MAX as usize, bytes: PAGE_BYTES_MAX };

const fn step_span(first: Seq, last: Seq) -> Span {
    Span { first, last, direction: STEP.direction, entries_max: STEP.entries, bytes_max: STEP.bytes }
}

impl Shard {
    /// A device has received everything up to `seq`.
    pub(super) fn acknowledge(&mut self, conn: ConnId, seq: Seq, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id, offered) = (session.user, session.device, session.offered);
        if seq > offered {
            // Invariant (g): a cursor never passes what its device was not offered.
            let detail = format!("{seq} was acknowledged, {offered} is the last that was offered");
            let (code, kind) = (ErrorCode::AcknowledgeAhead, ClientKind::Acknowledge.byte());
            return self.send_error(conn, code, kind, RequestId(0), 0, &detail, cx);
        }
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        if seq > device.cursor {
            device.cursor = seq;
            device.cursor_dirty = true;
            self.counters.acknowledged += 1;
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }

    /// Puts a user on the list of those whose cursors, reports and marks are to be looked at.
    pub(super) fn mark_dirty(&mut self, user_id: UserId, now_ms: u64) {
        if let Some(user) = self.users.resident(user_id)
            && !mem::replace(&mut user.dirty, true)
        {
            self.dirty.push_back((now_ms + RECEIPT_DELAY_MS, user_id));
        }
    }

    /// A restart left duties of this user open.
    pub(super) fn unfinished(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        if self.users.resident(user_id).is_none() {
            self.wait_for_user(user_id, Waiting::Duties, cx);
        }
    }

    /// Looks at dirty users whose time has come; at all of them when the server stops.
    pub(super) fn flush_if_due(&mut self, cx: &mut Turn<'_>) {
        // Cursors and receipts can wait; the journal's reserve is for the consequences of what was accepted.
        if self.admission != Admission::Open {
            return;
        }
        let now_ms = cx.now.monotonic_ms;
        let most = if self.draining { usize::MAX } else { FLUSHES_TURN_MAX };
        // Who is marked again meanwhile has another time.
        for _ in 0..most.min(self.dirty.len()) {
            let Some(&(due_ms, user_id)) = self.dirty.front() else { return };
            if due_ms > now_ms && !self.draining {
                return;
            }
            self.dirty.pop_front();
            self.flush(user_id, cx);
        }
    }

    /// Writes moved cursors, carries on with the duties, writes moved marks.
    fn flush(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        user.dirty = false;
        let mut has_moved = false;
        for device in user.devices.iter_mut().filter(|device| device.cursor_dirty) {
            device.cursor_dirty = false;
            has_moved = true;
            cx.effects.filling[at].batch.push(&Record::Cursor { user: user_id, device: device.id, seq: device.cursor });
        }
        if has_moved {
            user.unfinished = true;
            Self::note_change(&mut self.lanes[at], user_id, user);
        }
        self.forward_from_log(user_id, cx);
        self.report_received(user_id, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        user.advance_forwarded();
        let idle = user.is_idle();
        if user.unfinished && (idle || user.marks != user.marks_written) {
            user.unfinished = !idle;
            user.marks_written = user.marks;
            cx.effects.filling[at].batch.push(&Record::Marks { user: user_id, marks: user.marks, idle });
            Self::note_change(&mut self.lanes[at], user_id, user);
        }
        self.forget_if_unused(user_id);
    }

    /// Forwards, in order, what a restart left over. New messages wait until this has reached the head.
    pub(super) fn forward_from_log(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let Forwarding::FromLog { next, reading: false } = user.forwarding else { return };
        if !user.unconfirmed.is_empty() || self.admission != Admission::Open {
            return;
        }
        if next <= user.stored {
            user.forwarding = Forwarding::FromLog { next, reading: true };
            let last = user.stored;
            let query = Query::Log { user: user_id, span: step_span(next, last) };
            return self.ask(query, Question::Forward { user: user_id, last }, cx);
        }
        // Inside the node everything is in one order, so what is not committed yet may go too.
        let lane = &self.lanes[at];
        let is_due = |tail: &&TailEntry| self.settings.promise != Promise::Store || lane.is_stored(tail.batch);
        let rest = || user.tail.range(next, user.head);
        let due: Vec<Entry> = rest().take_while(is_due).map(|tail| tail.entry.clone()).collect();
        let later = rest()
            .skip_while(is_due)
            .filter(|tail| matches!(tail.entry.event, Event::Sent { to, .. } if to != user_id.into()));
        let later: Vec<Seq> = later.map(|tail| tail.entry.seq).collect();
        user.forwarding = Forwarding::Direct;
        self.forward_entries(user_id, due, cx);
        // They are forwarded when they are stored.
        if let Some(user) = self.users.resident(user_id) {
            user.unconfirmed.extend(later);
        }
    }

    /// A part of the log has been read for forwarding.
    pub(super) fn forwards_read(&mut self, user_id: UserId, last: Seq, read: Option<Entries>, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let Forwarding::FromLog { next, .. } = user.forwarding else { return };
        user.forwarding = Forwarding::FromLog { next, reading: false };
        if let Some(Entries { entries, complete }) = read {
            let covered = match entries.last() {
                Some(entry) if !complete => entry.seq,
                _ => last,
            };
            user.forwarding = Forwarding::FromLog { next: covered.next(), reading: false };
            self.forward_entries(user_id, entries, cx);
            self.forward_from_log(user_id, cx);
        }
        // If the store could not be read: again at the next flush.
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    fn forward_entries(&mut self, user_id: UserId, entries: Vec<Entry>, cx: &mut Turn<'_>) {
        for Entry { seq: origin, event, .. } in entries {
            if let Event::Sent { to, content, .. } = event
                && to != user_id.into()
                && let Some(user) = self.users.resident(user_id)
            {
                user.unconfirmed.push_back(origin);
                self.forward(user_id, to, origin, content, cx);
            }
        }
    }

    /// Begins a round of reports to senders, if devices have acknowledged something new and no round is under way.
    fn report_received(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let known = if self.settings.promise == Promise::Store { user.assured } else { user.committed };
        let target = user.delivered().min(known);
        let first = user.marks.receipted.next();
        if first > target || user.receipts.reading || !user.receipts.awaited.is_empty() {
            return;
        }
        if first <= user.stored {
            user.receipts.reading = true;
            let last = target.min(user.stored);
            let query = Query::Log { user: user_id, span: step_span(first, last) };
            return self.ask(query, Question::Receipts { user: user_id, last }, cx);
        }
        let (entries, complete) = user.tail_entries(None, first, target, STEP);
        self.report(user_id, &entries, complete, target, cx);
    }

    /// A part of the log has been read for reports.
    pub(super) fn receipts_read(&mut self, user_id: UserId, last: Seq, read: Option<Entries>, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        user.receipts.reading = false;
        if let Some(Entries { entries, complete }) = read {
            self.report(user_id, &entries, complete, last, cx);
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// Tells each sender among `entries` the last of their messages in it.
    fn report(&mut self, user_id: UserId, entries: &[Entry], complete: bool, last: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let covered = match entries.last() {
            Some(entry) if !complete => entry.seq,
            _ => last,
        };
        let mut newest: Vec<(UserId, Seq, Seq)> = Vec::new();
        for entry in entries {
            if let Event::Received { from, origin, .. } = entry.event {
                match newest.iter_mut().find(|(sender, ..)| *sender == from) {
                    Some(known) => *known = (from, origin, entry.seq),
                    None => newest.push((from, origin, entry.seq)),
                }
            }
        }
        user.receipts.up_to = covered;
        if newest.is_empty() {
            user.marks.receipted = covered;
            if covered < user.delivered() {
                self.mark_dirty(user_id, cx.now.monotonic_ms);
            }
            return;
        }
        user.receipts.awaited = newest.iter().map(|(.., received_as)| *received_as).collect();
        for (to, up_to, received_as) in newest {
            self.counters.receipts += 1;
            let body = EnvelopeBody::Receipt { up_to, received_as };
            self.post(Envelope { to, from: user_id, body }, cx);
        }
    }
}
