//! Duties: what a user's home owes to others, derived from the user's own log and two marks.
//!
//! Sent messages above the mark `forwarded` go to their recipients' homes ([`Outgoing`](super::outgoing::Outgoing)); received messages
//! above the mark `receipted` that a device has acknowledged are reported to their authors ([`Reports`](super::reports::Reports)). Each
//! destination has its own place in that, and who cannot be reached holds up nobody else. Marks and cursors are written once in
//! [`RECEIPT_DELAY_MS`](crate::limits::RECEIPT_DELAY_MS) at most.
//! Invariant: a mark moves only over what the other homes have confirmed as durable.

use std::mem;

use proto_spec::{
    ClientKind, ConversationId, Direction, Entry, ErrorCode, GroupId, RequestId, Seq, UserId,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use storage::{Entries, Query, Record, Span};

use super::{
    Admission, ConnId, Promise, Shard, Turn,
    elsewhere::may_leave,
    input::{Envelope, EnvelopeBody, Parcel},
    loading::ConversationWaiting,
    question::Question,
    reports::Report,
    tail::TailEntry,
    user::Room,
};
use crate::limits::{FLUSHES_TURN_MAX, WOKEN_TICK_MAX};

/// What a user's home tries again after a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resting {
    /// Messages to a conversation.
    Messages(ConversationId),
    /// Reports to an author.
    Reports(UserId),
    /// How this user stands to the group, to their home.
    Standing(GroupId, UserId),
}

/// How much of a log is looked at in one step.
const STEP: Room = Room { direction: Direction::Forwards, entries: PAGE_ENTRIES_MAX as usize, bytes: PAGE_BYTES_MAX };

const fn step_span(first: Seq, last: Seq) -> Span {
    Span { first, last, direction: STEP.direction, entries_max: STEP.entries, bytes_max: STEP.bytes }
}

impl Shard {
    /// A device has received everything up to `seq`.
    pub(super) fn acknowledge(&mut self, conn: ConnId, seq: Seq, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id, offered) = (session.user, session.device, session.feed.offered());
        if seq > offered {
            // Invariant (g): a cursor never passes what its device was not offered.
            let detail = format!("{seq} was acknowledged, {offered} is the last that was offered");
            let (code, kind) = (ErrorCode::AcknowledgeAhead, ClientKind::Acknowledge.byte());
            return self.send_error(conn, code, kind, RequestId(0), 0, &detail, cx);
        }
        let is_new = seq > session.acknowledged;
        session.acknowledged = session.acknowledged.max(seq);
        let covers_after = session.covers_after;
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        if !is_new || seq <= device.cursor {
            return;
        }
        if covers_after <= device.cursor {
            device.cursor = seq;
            device.cursor_dirty = true;
        } else if let Some(user) = self.users.resident(user_id) {
            // Behind a gap of this device, which another one may fill.
            user.join(&[(covers_after, seq)]);
        }
        self.counters.acknowledged += 1;
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// Puts a user on the list of those whose cursors, reports and marks are to be looked at.
    pub(super) fn mark_dirty(&mut self, user_id: UserId, now_ms: u64) {
        if let Some(user) = self.users.resident(user_id)
            && !mem::replace(&mut user.dirty, true)
        {
            self.dirty.push(now_ms, user_id);
        }
    }

    /// Looks at dirty users whose time has come; at all of them when the server stops.
    pub(super) fn flush_if_due(&mut self, cx: &mut Turn<'_>) {
        // Cursors and receipts can wait; the journal's reserve is for the consequences of what was accepted.
        if self.admission != Admission::Open {
            return;
        }
        let (most, now_ms) =
            if self.draining { (usize::MAX, u64::MAX) } else { (FLUSHES_TURN_MAX, cx.now.monotonic_ms) };
        // Who is marked again meanwhile has another time.
        for _ in 0..most.min(self.dirty.len()) {
            let Some(user_id) = self.dirty.take_due(now_ms) else { return };
            self.flush(user_id, cx);
        }
    }

    /// Writes moved cursors, carries on with the duties, writes moved marks.
    fn flush(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        user.dirty = false;
        let covered = user.devices.iter().filter_map(|device| self.sessions.get(device.session?));
        let behind_gaps = covered.map(|session| (session.covers_after, session.acknowledged));
        let behind_gaps: Vec<_> = behind_gaps.filter(|(after, _)| *after > Seq::ZERO).collect();
        user.join(&behind_gaps);
        self.write_cursors(user_id, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        if user.notes_dirty {
            self.write_notes(user_id, cx);
        }
        self.write_last_seen(user_id, cx);
        self.forward_from_log(user_id, cx);
        self.report_received(user_id, cx);
        self.flush_dues(user_id, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        if self.homes.cluster.is_some() {
            self.elsewhere.looked_at(user_id, user.outgoing.is_open() || user.reports.is_open());
        }
        user.advance_marks();
        let idle = user.is_idle();
        if user.unfinished && (idle || user.marks != user.marks_written) {
            user.unfinished = !idle;
            user.marks_written = user.marks;
            cx.effects.filling[at].batch.push(&Record::Marks { user: user_id, marks: user.marks, idle });
            self.lanes[at].change_user(user_id, &mut user.changed_in);
        }
        self.forget_if_unused(user_id);
    }

    /// Sends on, in order, what waits in the log for those who can take something. Not while the server stops: then nothing
    /// begins that others would have to wait for, and the next start finds it.
    pub(super) fn forward_from_log(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        if !user.outgoing.waits_in_log() || self.admission != Admission::Open || self.draining {
            return;
        }
        let Some(next) = user.outgoing.begin_scan() else { return };
        if next <= user.stored {
            let last = user.stored;
            let query = Query::Log { user: user_id, span: step_span(next, last) };
            return self.ask(query, Question::Forward { user: user_id, last }, cx);
        }
        // What must be durable first is on the way now, and leaves when it is.
        let (lane, homes, promise) = (&self.lanes[at], &self.homes, self.settings.promise);
        let mut due = Vec::new();
        for TailEntry { entry, batch, .. } in user.tail.range(next, user.head) {
            if let Some((to, parcel)) = Parcel::by(user_id, &entry.event)
                && user.outgoing.offer(entry.seq, to)
                && may_leave(promise, homes, lane, *batch, to)
            {
                due.push((to, (entry.seq, user.outgoing.before(entry.seq, to)), parcel));
            }
        }
        user.outgoing.end_scan(user.head, true);
        for (to, places, parcel) in due {
            self.forward(user_id, to, places, parcel, cx);
        }
    }

    /// A part of the log has been read for forwarding.
    pub(super) fn forwards_read(&mut self, user_id: UserId, last: Seq, read: Option<Entries>, cx: &mut Turn<'_>) {
        // If the store could not be read: again at the next flush.
        self.mark_dirty(user_id, cx.now.monotonic_ms);
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(Entries { entries, complete }) = read.filter(|_| !self.draining) else {
            return user.outgoing.abandon_scan();
        };
        let covered = match entries.last() {
            Some(entry) if !complete => entry.seq,
            _ => last,
        };
        let mut due = Vec::new();
        for Entry { seq, event, .. } in entries {
            if let Some((to, parcel)) = Parcel::by(user_id, &event)
                && user.outgoing.offer(seq, to)
            {
                due.push((to, (seq, user.outgoing.before(seq, to)), parcel));
            }
        }
        user.outgoing.end_scan(covered, covered == user.head);
        for (to, places, parcel) in due {
            self.forward(user_id, to, places, parcel, cx);
        }
        self.forward_from_log(user_id, cx);
    }

    /// Tells authors what has arrived of theirs, if devices have acknowledged something new.
    fn report_received(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let known = if self.settings.promise == Promise::Store { user.assured } else { user.released };
        let target = user.delivered().min(known);
        let Some(first) = user.reports.next(target) else { return };
        if first <= user.stored {
            if self.draining {
                return;
            }
            user.reports.reading = true;
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
        user.reports.reading = false;
        if let Some(Entries { entries, complete }) = read.filter(|_| !self.draining) {
            self.report(user_id, &entries, complete, last, cx);
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// Tells each author among `entries` the last of their messages in it.
    fn report(&mut self, user_id: UserId, entries: &[Entry], complete: bool, last: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let covered = match entries.last() {
            Some(entry) if !complete => entry.seq,
            _ => last,
        };
        let reports = user.reports.look(user_id, entries, covered);
        if covered < user.delivered() {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        for (author, report) in reports {
            self.post_report(user_id, author, report, cx);
        }
    }

    /// Tells an author, if they may know that a device is there (SPEC 8.10): else it counts as told.
    pub(super) fn post_report(&mut self, from: UserId, to: UserId, report: Report, cx: &mut Turn<'_>) {
        let Report { up_to, received_as } = report;
        let Some(conversation) = self.conversations.resident((from, to.into())) else {
            return self.wait_for_conversation(from, to.into(), ConversationWaiting::Report(to, report), cx);
        };
        let (numbered, Some(user)) = (conversation.numbered, self.users.resident(from)) else { return };
        if self.settings.presence.shows(user, to, &numbered) {
            self.counters.receipts += 1;
            return self.post(Envelope { to, from, body: EnvelopeBody::Receipt { up_to, received_as } }, cx);
        }
        self.receipt_confirmed(from, to, received_as, cx);
    }

    /// The recipient's home has the message in its log, or takes nothing from this user.
    pub(super) fn forward_confirmed(
        &mut self,
        user_id: UserId,
        from: UserId,
        (origin, is_unwanted): (Seq, bool),
        cx: &mut Turn<'_>,
    ) {
        // A user who has been forgotten had no open duty: this is a second confirmation.
        let Some(user) = self.users.resident(user_id) else { return };
        if is_unwanted {
            user.unwanted.learn(from.into(), cx.now.monotonic_ms);
        }
        user.outgoing.confirm(origin, from.into());
        self.confirmed(user_id, cx);
    }

    /// The home of a group has what was on the way there.
    pub(super) fn forward_confirmed_by(&mut self, user_id: UserId, by: ConversationId, origin: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        user.outgoing.confirm(origin, by);
        self.confirmed(user_id, cx);
    }

    /// Something that was on the way has been confirmed.
    pub(super) fn confirmed(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        if user.outgoing.waits_in_log() {
            self.forward_from_log(user_id, cx);
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        } else if !user.outgoing.is_open() {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }

    /// The recipient's home does not take the message now.
    pub(super) fn forward_put_off(&mut self, user_id: UserId, from: ConversationId, origin: Seq, cx: &Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        if user.outgoing.put_off(origin, from) {
            self.rest(user_id, Resting::Messages(from), cx);
        }
    }

    /// The author's home has the report in its log.
    pub(super) fn receipt_confirmed(&mut self, user_id: UserId, from: UserId, received_as: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let next = user.reports.confirm(received_as, from);
        if !user.reports.is_open() {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        if let Some(report) = next {
            self.post_report(user_id, from, report, cx);
        }
    }

    /// The author's home does not take the report now.
    pub(super) fn receipt_put_off(&mut self, user_id: UserId, from: UserId, received_as: Seq, cx: &Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        if user.reports.put_off(received_as, from) {
            self.rest(user_id, Resting::Reports(from), cx);
        }
    }

    fn rest(&mut self, user_id: UserId, what: Resting, cx: &Turn<'_>) {
        self.resting.push(cx.now.monotonic_ms, (user_id, what));
    }

    /// Tries again those who have rested long enough.
    pub(super) fn wake_resting(&mut self, cx: &mut Turn<'_>) {
        if self.draining {
            return;
        }
        for _ in 0..WOKEN_TICK_MAX {
            let Some((user_id, what)) = self.resting.take_due(cx.now.monotonic_ms) else { return };
            if self.rests_longer(user_id, what) {
                continue;
            }
            match what {
                Resting::Standing(group, user) => self.wake_standing(group, user, cx),
                Resting::Messages(to) => {
                    let Some(user) = self.users.resident(user_id) else { continue };
                    user.outgoing.wake(to);
                    self.forward_from_log(user_id, cx);
                    self.mark_dirty(user_id, cx.now.monotonic_ms);
                }
                Resting::Reports(author) => {
                    let Some(user) = self.users.resident(user_id) else { continue };
                    if let Some(report) = user.reports.wake(author) {
                        self.post_report(user_id, author, report, cx);
                    }
                }
            }
        }
    }
}
