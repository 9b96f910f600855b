//! Sequencer: gives entries their place in a log. The only code that grows a log.
//!
//! Invariants: seqs of a user count up by one; a device's send numbers count up by one; an entry and its record are made
//! in the same call; what leaves the node waits in the ledger for the record's batch.

use proto_spec::{
    Act, Body, Content, ConversationId, DeviceId, Entry, EpochId, ErrorCode, Event, GroupId, SendNumber, Seq,
    ServerFrame, UserId, limits::SEND_WINDOW,
};
use storage::{Batch, BatchId, LaneId, MarkRow, Message, ReceivedRow, Record, Rewrite};

use super::{
    Admission, ConnId, Promise, Shard, Turn,
    changes::{self, Arrival, Change},
    contents,
    groups::group_of,
    input::{Envelope, EnvelopeBody, Parcel},
    ledger::{Ledger, OnceStored, Parked},
    presence::ShownTo,
    repeated::{Asked, Said},
    shedding::{Class, Reason},
    tail::TailEntry,
    user::{Device, Recent, User},
};
use crate::{
    host::timekeeper::time_after,
    limits::{BATCH_BYTES_MAX, RETRY_BUSY_MS, RETRY_STOPPING_MS, RETRY_STORAGE_MS, UNRELEASED_BYTES_MAX},
};

/// Why a send is not taken, when to try again, and what is expected.
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) retry_after_ms: u64,
    /// Why it is shed; none if the send itself is wrong.
    pub(super) sheds: Option<Reason>,
}

/// Why a number that is neither the next one nor used is refused.
const GAP: Refusal = Refusal { code: ErrorCode::SendGap, retry_after_ms: 0, sheds: None };

/// The user is in as many groups as they may be in.
const TOO_MANY_GROUPS: Refusal = Refusal { code: ErrorCode::TooManyGroups, retry_after_ms: 0, sheds: None };

/// The recipient takes nothing from this user.
const UNWANTED: Refusal = Refusal { code: ErrorCode::Unwanted, retry_after_ms: 0, sheds: None };

impl Shard {
    /// A device wants to write to somebody.
    #[inline]
    pub(super) fn send_requested(
        &mut self,
        conn: ConnId,
        number: SendNumber,
        to: ConversationId,
        content: Content,
        cx: &mut Turn<'_>,
    ) {
        let closed = self.refuse_admission();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(device) = user.device(device_id) else { return };
        let (expected, in_flight) = (device.last_number.next(), device.in_flight);
        if number < expected && number.0 > 0 {
            return self.number_repeated(conn, number, Asked::Send(Said::new(to, &content), to), cx);
        }
        let limits = &self.settings.limits;
        let refusal = if number != expected {
            Some(GAP)
        } else {
            let refusal = refuse_content(to, &content).or_else(|| refuse_group(user, to, &content, limits.user_groups));
            refusal.or(closed).or_else(|| refuse_window(in_flight)).or_else(|| {
                let opens = (to != user_id.into()).then_some(to);
                user.take_send(limits, device_id, opens, cx.now.monotonic_ms).err().map(too_many)
            })
        };
        let refusal = refusal.or_else(|| user.unwanted.is_known(to, cx.now.monotonic_ms).then_some(UNWANTED));
        if let Some(refusal) = refusal {
            return self.refuse(conn, number, refusal, expected, cx);
        }
        if content.is_message() || group_of(to).is_some() {
            self.take_send(conn, number, to, content, None, cx);
        } else {
            self.change_requested(Change { conn, number, to, content }, cx);
        }
    }

    /// A send that is taken; with what it changes, if it is a change.
    #[inline]
    pub(super) fn take_send(
        &mut self,
        conn: ConnId,
        number: SendNumber,
        to: ConversationId,
        content: Content,
        change: Option<Rewrite>,
        cx: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let next = user.head.next();
        let Some(device) = user.device(device_id) else { return };
        use_number(device, Recent::Sent(next), user_id, &mut cx.effects.filling[at].batch);
        user.unfinished = true;
        let forward = to != user_id.into() && user.outgoing.take(next, to);
        let after = user.outgoing.before(next, to);
        let event = Event::Sent { to, device: device_id, number, content: content.clone() };
        let lane = (at, &mut self.lanes[at]);
        let seq = match change {
            None => Self::append(user_id, user, event, None, 0, lane, cx),
            Some(of) => Self::append_change(user_id, user, event, of, 0, lane, cx),
        };
        debug_assert_eq!(seq, next);
        self.counters.entries += 1;
        // Elsewhere nobody asks whether it was the user who has written.
        if self.settings.presence.shown_to == ShownTo::Written
            && content.is_message()
            && let Some(known) = self.conversations.resident((user_id, to))
        {
            known.numbered.sent = seq;
        }
        self.lanes[at].park(Parked::Sent { user: user_id, device: device_id, number, seq });
        if self.settings.promise == Promise::Store {
            self.lanes[at].park_until_stored(OnceStored::Entry { user: user_id, seq, answer: None });
        } else if forward && self.leaves_now(to) {
            self.forward(user_id, to, (seq, after), Parcel::Message(content), cx);
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// A device does not need a number: it counts as used from now on, and nothing is in the log for it.
    pub(super) fn give_up_requested(&mut self, conn: ConnId, number: SendNumber, cx: &mut Turn<'_>) {
        let closed = self.refuse_admission();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(device) = user.device(device_id) else { return };
        let expected = device.last_number.next();
        if number < expected && number.0 > 0 {
            return self.number_repeated(conn, number, Asked::GiveUp, cx);
        }
        let refusal = if number != expected {
            Some(GAP)
        } else {
            closed.or_else(|| refuse_window(device.in_flight)).or_else(|| {
                let limits = &self.settings.limits;
                user.take_send(limits, device_id, None, cx.now.monotonic_ms).err().map(too_many)
            })
        };
        if let Some(refusal) = refusal {
            return self.refuse(conn, number, refusal, expected, cx);
        }
        let lane = &mut self.lanes[at];
        let Some(device) = user.device(device_id) else { return };
        let batch = &mut cx.effects.filling[at].batch;
        use_number(device, Recent::GivenUp(lane.filling()), user_id, batch);
        batch.push(&Record::GivenUp { user: user_id, device: device_id, number });
        // Nothing is owed for it. But the first number of a device comes with its cursor, for which a restart looks at the user.
        user.unfinished |= number == SendNumber(1);
        lane.change_user(user_id, &mut user.changed_in);
        lane.park(Parked::GivenUp { user: user_id, device: device_id, number });
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// That a number is void is released.
    pub(super) fn number_given_up(&mut self, user: UserId, of: DeviceId, number: SendNumber, cx: &mut Turn<'_>) {
        // A device that was removed meanwhile waits for nothing.
        let Some(device) = self.users.resident(user).and_then(|user| user.device(of)) else { return };
        device.in_flight -= 1;
        if let Some(conn) = device.session
            && self.sessions.get_mut(conn).is_some_and(|session| session.is_ready())
        {
            self.send(conn, &ServerFrame::GivenUp { number, seq: Seq::ZERO }, cx);
        }
    }

    /// Why this core takes no new send just now, if so.
    pub(super) fn refuse_admission(&self) -> Option<Refusal> {
        let shed = self.sheds(Class::Send);
        let (code, retry_after_ms) = match self.admission {
            _ if self.draining => (ErrorCode::Stopping, RETRY_STOPPING_MS),
            Admission::Full => (ErrorCode::StorageFull, RETRY_STORAGE_MS),
            Admission::Failed | Admission::Outage => (ErrorCode::StorageFailed, RETRY_STORAGE_MS),
            Admission::Behind => (ErrorCode::Overloaded, RETRY_BUSY_MS),
            Admission::Open if self.unreleased_bytes() > UNRELEASED_BYTES_MAX => (ErrorCode::Overloaded, RETRY_BUSY_MS),
            Admission::Open if shed.is_some() => (ErrorCode::Overloaded, RETRY_BUSY_MS),
            Admission::Open => return None,
        };
        let sheds = (!self.draining).then_some(shed.unwrap_or(Reason::Journal));
        Some(Refusal { code, retry_after_ms, sheds })
    }

    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        number: SendNumber,
        refusal: Refusal,
        expected: SendNumber,
        cx: &mut Turn<'_>,
    ) {
        self.counters.refused += 1;
        let Refusal { code, retry_after_ms, sheds } = refusal;
        if let Some(reason) = sheds {
            self.counters.shed.count(Class::Send, reason);
        }
        self.send(conn, &ServerFrame::Refused { number, code, retry_after_ms, expected }, cx);
    }

    /// A message, the change of one, or a read mark for a user whose home is here. Exactly once: what is not above the watermark came
    /// before. `found`: what it changes, once that has been looked for in the store.
    pub(super) fn arrived(&mut self, arrival: Arrival, found: Option<Option<Message>>, cx: &mut Turn<'_>) {
        let Arrival { to, from, places: (origin, after), .. } = arrival;
        let at = self.lane_of(to);
        self.cut_batch_if_full(at, cx);
        let answer = |is_unwanted| {
            let body = EnvelopeBody::Forwarded { origin, is_unwanted };
            Envelope { to: from, from: to, body }
        };
        let Some(conversation) = self.conversations.resident((to, from.into())) else { return };
        if origin <= conversation.received_up_to {
            self.counters.duplicates += 1;
            let changed_in = conversation.changed_in;
            return self.answer_once_durable(at, changed_in, answer(false), cx);
        }
        if after > conversation.received_up_to {
            // The one before was put off: this one must not overtake it.
            return self.put_off_arrival(&arrival, cx);
        }
        let is_blocked = conversation.is_blocked();
        let (Arrival { parcel, .. }, changed) = match found {
            Some(found) => (arrival, found),
            None if is_blocked || !arrival.is_change() => (arrival, None),
            None => match self.changed_message(arrival, cx) {
                Some(known) => known,
                None => return,
            },
        };
        let Some(user) = self.users.resident(to) else { return };
        let Some(conversation) = self.conversations.resident((to, from.into())) else { return };
        // What leaves no row moves it in memory only: should it come again, it leaves none again.
        conversation.received_up_to = origin;
        let was_known = conversation.numbered.received.up_to > Seq::ZERO || conversation.numbered.sent > Seq::ZERO;
        let mut of = None;
        let (event, replaces, count) = match parcel {
            parcel if conversation.is_blocked() => {
                let changed_in = conversation.changed_in;
                let is_said = matches!(parcel, Parcel::Message(_));
                let answer = answer(is_said && self.settings.limits.tell_blocked);
                return self.answer_once_durable(at, changed_in, answer, cx);
            }
            Parcel::Message(content) if changes::is_moot(&content, changed.as_ref()) => {
                let changed_in = conversation.changed_in;
                return self.answer_once_durable(at, changed_in, answer(false), cx);
            }
            Parcel::Message(content) if let Some(message) = changed => {
                let (next, known) = (user.head.next(), &mut conversation.numbered);
                let (content, rewrite) = changes::received(origin, &content, &message, next, known);
                of = Some(rewrite);
                (Event::Received { from, origin, content }, None, 0)
            }
            Parcel::Message(content) => {
                // A change of what never came, since it was superseded before it went out: this is all that comes of it.
                let content = changes::in_its_own_place(content, user.head.next(), cx.now.wall);
                let received = &mut conversation.numbered.received;
                let count = received.count + u64::from(!content.is_unsend());
                *received = ReceivedRow { up_to: origin, at: user.head.next(), count };
                (Event::Received { from, origin, content }, None, count)
            }
            Parcel::Read(up_to) if up_to <= conversation.numbered.seen.up_to => {
                let changed_in = conversation.changed_in;
                return self.answer_once_durable(at, changed_in, answer(false), cx);
            }
            Parcel::Read(up_to) => {
                let before =
                    std::mem::replace(&mut conversation.numbered.seen, MarkRow { up_to, at: user.head.next() });
                (Event::Seen { peer: from, up_to }, some(before.at), 0)
            }
        };
        self.lanes[at].change_conversation((to, from.into()), &mut conversation.changed_in);
        let lane = (at, &mut self.lanes[at]);
        let seq = match of {
            None => Self::append(to, user, event, replaces, count, lane, cx),
            Some(of) => Self::append_change(to, user, event, of, 0, lane, cx),
        };
        self.counters.entries += 1;
        self.park_entry(at, to, seq, Some(answer(false)));
        self.has_come(to, seq, cx);
        self.heard_of(to, from, was_known, cx);
    }

    /// An arrival can not be taken now: its author's home tries again.
    pub(super) fn put_off_arrival(&mut self, arrival: &Arrival, cx: &mut Turn<'_>) {
        let Arrival { to, from, places: (origin, _), .. } = *arrival;
        let body = EnvelopeBody::ForwardPutOff { origin };
        self.post(Envelope { to: from, from: to, body }, cx);
    }

    /// An entry that no send made: pushed once it is released; who waits for the answer must not be ahead of the store, if
    /// that is what acknowledgements are about.
    pub(super) fn park_entry(&mut self, at: usize, user: UserId, seq: Seq, answer: Option<Envelope>) {
        let lane = &mut self.lanes[at];
        if self.settings.promise == Promise::Store {
            lane.park(Parked::Entry { user, seq, answer: None });
            lane.park_until_stored(OnceStored::Entry { user, seq, answer });
        } else {
            lane.park(Parked::Entry { user, seq, answer });
        }
    }

    /// Answers what had been done before: at once, or when the batch that did it is durable.
    pub(super) fn answer_once_durable(&mut self, at: usize, batch: BatchId, answer: Envelope, cx: &mut Turn<'_>) {
        let lane = &mut self.lanes[at];
        match self.settings.promise {
            Promise::Store if lane.is_stored(batch) => self.post(answer, cx),
            Promise::Store => lane.park_behind_stored(batch, OnceStored::Answer(answer)),
            Promise::Disk | Promise::Journal if lane.is_released(batch) => self.post(answer, cx),
            Promise::Disk | Promise::Journal => lane.park_behind(batch, Parked::Answer(answer)),
        }
    }

    /// A device of `from` has the messages of `to` up to `up_to`: an entry of `to`'s log, unless it was known.
    pub(super) fn receipt_arrived(
        &mut self,
        to: UserId,
        from: UserId,
        up_to: Seq,
        received_as: Seq,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(to);
        self.cut_batch_if_full(at, cx);
        let answer = Envelope { to: from, from: to, body: EnvelopeBody::Receipted { received_as } };
        let Some(user) = self.users.resident(to) else { return };
        let Some(conversation) = self.conversations.resident((to, from.into())) else { return };
        if up_to <= conversation.numbered.delivered.up_to || conversation.is_blocked() {
            let changed_in = conversation.changed_in;
            return self.answer_once_durable(at, changed_in, answer, cx);
        }
        let replaces = some(conversation.numbered.delivered.at);
        let event = Event::Delivered { peer: from, up_to };
        let seq = Self::append(to, user, event, replaces, 0, (at, &mut self.lanes[at]), cx);
        self.counters.entries += 1;
        conversation.numbered.delivered = MarkRow { up_to, at: seq };
        self.lanes[at].change_conversation((to, from.into()), &mut conversation.changed_in);
        self.park_entry(at, to, seq, Some(answer));
    }

    /// Begins another batch if the one being filled has its size. Between steps only: the records of a step, and what
    /// waits for them, belong to one batch.
    pub(super) fn cut_batch_if_full(&mut self, at: usize, cx: &mut Turn<'_>) {
        let batch = &mut cx.effects.filling[at].batch;
        if batch.weight() >= BATCH_BYTES_MAX {
            let full = std::mem::take(batch);
            let bytes = full.bytes().len();
            let lane = LaneId(self.homes.topology.first_lane_of(self.core).0 + at as u16);
            cx.effects.full_batches.push((lane, self.lanes[at].seal(bytes), full));
        }
    }

    /// The one place where a log grows: the record into the batch, the entry into the tail. Says at which seq.
    pub(super) fn append(
        user_id: UserId,
        user: &mut User,
        event: Event,
        replaces: Option<Seq>,
        count: u64,
        (at, lane): (usize, &mut Ledger),
        cx: &mut Turn<'_>,
    ) -> Seq {
        let entry = Self::number(user_id, user, event, (at, lane.epoch()), cx);
        cx.effects.filling[at].batch.append(user_id, &entry, replaces, count);
        let batch = lane.filling();
        Self::keep(user_id, user, TailEntry { entry, replaces, count, batch }, lane)
    }

    /// The same, for an entry that changes a message, and by that so many are unread no more.
    pub(super) fn append_change(
        user_id: UserId,
        user: &mut User,
        event: Event,
        of: Rewrite,
        count: u64,
        (at, lane): (usize, &mut Ledger),
        cx: &mut Turn<'_>,
    ) -> Seq {
        let entry = Self::number(user_id, user, event, (at, lane.epoch()), cx);
        cx.effects.filling[at].batch.rewrite(user_id, &entry, &of);
        if of.place == Seq::ZERO {
            user.rewrites.supersede(of.replaces, entry.seq);
        } else {
            user.rewrites.add(of, entry.seq);
        }
        let batch = lane.filling();
        Self::keep(user_id, user, TailEntry { entry, replaces: None, count, batch }, lane)
    }

    /// The next entry of a log; before it the record of the epoch that it begins, if it begins one.
    #[inline]
    fn number(
        user_id: UserId,
        user: &mut User,
        event: Event,
        (at, epoch): (usize, EpochId),
        cx: &mut Turn<'_>,
    ) -> Entry {
        let seq = user.head.next();
        if let Some(forgotten) = user.epochs.append(seq, epoch) {
            let record = Record::Epoch { user: user_id, first: seq, epoch, forgotten };
            cx.effects.filling[at].batch.push(&record);
        }
        let time = time_after(user.head_time, cx.now.wall);
        Entry { seq, time, event }
    }

    #[inline]
    fn keep(user_id: UserId, user: &mut User, tail: TailEntry, lane: &mut Ledger) -> Seq {
        let Entry { seq, time, .. } = tail.entry;
        user.head = seq;
        user.head_time = time;
        user.tail.push(tail);
        lane.change_user(user_id, &mut user.changed_in);
        seq
    }
}

/// Where an entry is, if there is one.
pub(super) fn some(at: Seq) -> Option<Seq> {
    (at > Seq::ZERO).then_some(at)
}

/// The device's next number is used, for a send or to be void.
fn use_number(device: &mut Device, what: Recent, user: UserId, batch: &mut Batch) {
    if device.last_number == SendNumber(0) {
        // A device is found by its cursor: no number of it may be durable without one.
        device.cursor_dirty = false;
        batch.push(&Record::Cursor { user, device: device.id, seq: device.cursor });
    }
    device.last_number = device.last_number.next();
    device.in_flight += 1;
    device.recent.push_back(what);
}

/// Why this will never be taken, if so.
fn refuse_content(to: ConversationId, content: &Content) -> Option<Refusal> {
    let code = match to {
        ConversationId::Person(UserId(0)) | ConversationId::Group(GroupId(0)) => ErrorCode::Recipient,
        ConversationId::Person(_) => contents::fault(content).or_else(|| contents::fault_for_user(content))?,
        ConversationId::Group(_) => contents::fault(content)?,
    };
    Some(Refusal { code, retry_after_ms: 0, sheds: None })
}

/// Why a user may not come into one more group. Those that they are about to come into are not counted: they are not known yet.
fn refuse_group(user: &User, to: ConversationId, content: &Content, groups_max: usize) -> Option<Refusal> {
    let group = group_of(to).filter(|_| matches!(content, Content::Act(_)))?;
    let comes = matches!(content.body(), Ok(Body::Act(Act::Create { .. } | Act::Join { .. })));
    (comes && !user.has_room_for_group(group, groups_max, true)).then_some(TOO_MANY_GROUPS)
}

/// Why a device that does too much may not send.
const fn too_many(retry_after_ms: u64) -> Refusal {
    Refusal { code: ErrorCode::RateLimited, retry_after_ms, sheds: Some(Reason::Rate) }
}

/// Why a device that waits for so many answers may not send, if so.
fn refuse_window(in_flight: u16) -> Option<Refusal> {
    let full = u64::from(in_flight) >= SEND_WINDOW;
    full.then_some(Refusal { code: ErrorCode::WindowFull, retry_after_ms: RETRY_BUSY_MS, sheds: None })
}
