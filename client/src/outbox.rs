//! Messages from `send` to their answer, and the numbers they are sent under.
//!
//! The rule that exactly-once hangs on: **a number that may have been accepted is never given to another message.** A
//! message keeps its number over every loss of connection; the server answers a repeated number with its first result. Only
//! the server can free a number, by refusing it (`refused.expected` says that no number from there on is used up), or void it, by
//! saying that it is given up.
//!
//! After a refusal nothing is sent until everything in flight has been answered ([`Flow::Draining`]). Then the state of every
//! number is known, what is left is numbered anew from `expected` on, and sending goes on. That costs one round trip after a
//! refusal; renumbering while frames are in flight would leave two meanings of one number on the wire.
//!
//! The first message to a conversation may be refused for the conversation's sake. If another one is to leave behind it, its number is
//! given up in the same breath: should it be refused, the number is void and not missing, those behind it are taken, and it
//! waits for its time without a number. Had it been accepted, giving up changes nothing.
//!
//! Invariants: numbers ascend and are below `next_number`; handles in `waiting` ascend; the first `sent` of `numbered` were sent on this
//! connection, or refused on it, and no others.

use std::collections::{HashMap, VecDeque};

use proto_spec::{ClientFrame, Content, ConversationId, ErrorCode, SendNumber, Seq};

use crate::{
    config::{Keeping, Unanswered},
    event::{SendError, SendHandle},
    limits::{GAP_RETRY_MS, QUEUED_MESSAGES_MAX, RETRY_AFTER_MAX_MS},
    state::MonotonicMs,
    turns::Turns,
};

/// A message that has not been answered.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) handle: SendHandle,
    pub(crate) to: ConversationId,
    pub(crate) content: Content,
}

/// A number that has been given to a message, and is not answered for good.
#[derive(Clone, Debug)]
struct Numbered {
    number: SendNumber,
    /// None: it was refused for good, and all that is left to do is to void the number.
    message: Option<Outgoing>,
    /// Whether the application has kept the number, if it wants to.
    is_kept: bool,
    /// The application has taken the message back. It is not known yet whether that was too late.
    is_cancelled: bool,
    /// The next message to the same conversation waits for the answer to this one, which may be refused without the others.
    is_first: bool,
    wire: Wire,
}

/// What of a number is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Nothing yet, on this connection.
    Unsent,
    /// A send.
    Sent,
    /// A send, and that the number is given up if it is refused.
    SentAndGivenUp,
    /// That the number is given up.
    GivenUp,
    /// Nothing any more: it was refused. When everything is answered it is numbered anew.
    Refused,
    /// Nothing any more: a message was accepted under it on an earlier connection. To be sent again, since only that is compared.
    Again,
}

impl Wire {
    const fn awaits_answer(self) -> bool {
        matches!(self, Self::Sent | Self::SentAndGivenUp | Self::GivenUp)
    }
}

/// Whether messages may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Yes, from `not_before` on.
    Open { not_before: MonotonicMs },
    /// Something was refused: when everything in flight is answered, number anew from `expected` on.
    Draining { not_before: MonotonicMs, expected: SendNumber },
}

/// What a refusal means for its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It will be sent again, unless it was cancelled ([`Outbox::next_cancelled`]).
    Later,
    /// It would be refused again, and has been removed.
    ForGood(SendHandle),
    /// It was not in flight; an answer too many.
    Unasked,
}

/// The server's statements about numbers contradict each other. Resuming asks it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction;

#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    numbered: VecDeque<Numbered>,
    sent: usize,
    in_flight: usize,
    waiting: VecDeque<Outgoing>,
    turns: Turns,
    keeping: Keeping,
    next_number: SendNumber,
    last_handle: SendHandle,
    flow: Flow,
    /// Messages that were cancelled and are in no log, of which the application has not been told.
    cancelled: VecDeque<SendHandle>,
}

impl Outbox {
    /// Starts with what an earlier run left, in the order in which it was sent. Its handles are 1, 2, 3, ...
    pub(crate) fn new(keeping: Keeping, unanswered: Vec<Unanswered>) -> Self {
        let mut outbox = Self {
            numbered: VecDeque::new(),
            sent: 0,
            in_flight: 0,
            waiting: VecDeque::new(),
            turns: Turns::default(),
            keeping,
            next_number: SendNumber(1),
            last_handle: SendHandle(0),
            flow: Flow::Open { not_before: MonotonicMs(0) },
            cancelled: VecDeque::new(),
        };
        for Unanswered { number, to, content } in unanswered {
            let message = outbox.message(to, content);
            match number {
                Some(number) => {
                    outbox.next_number = outbox.next_number.max(number.next());
                    outbox.numbered.push_back(Numbered {
                        number,
                        message: Some(message),
                        is_kept: true,
                        is_cancelled: false,
                        is_first: false,
                        wire: Wire::Unsent,
                    });
                }
                None => outbox.waiting.push_back(message),
            }
        }
        outbox.numbered.make_contiguous().sort_by_key(|of| of.number);
        outbox
    }

    pub(crate) fn push(&mut self, to: ConversationId, content: Content) -> Result<SendHandle, SendError> {
        if self.len() >= QUEUED_MESSAGES_MAX {
            return Err(SendError::QueueFull { max: QUEUED_MESSAGES_MAX });
        }
        let message = self.message(to, content);
        let handle = message.handle;
        self.waiting.push_back(message);
        Ok(handle)
    }

    fn message(&mut self, to: ConversationId, content: Content) -> Outgoing {
        self.last_handle = SendHandle(self.last_handle.0 + 1);
        Outgoing { handle: self.last_handle, to, content }
    }

    pub(crate) fn len(&self) -> usize {
        self.messages().count()
    }

    fn messages(&self) -> impl Iterator<Item = (Option<SendNumber>, &Outgoing)> {
        let numbered = self.numbered.iter().filter_map(|of| Some((Some(of.number), of.message.as_ref()?)));
        numbered.chain(self.waiting.iter().map(|message| (None, message)))
    }

    /// Everything without an answer, as [`Outbox::new`] takes it.
    pub(crate) fn unanswered(&self) -> Vec<(SendHandle, Unanswered)> {
        let keep = |number, of: &Outgoing| Unanswered { number, to: of.to, content: of.content.clone() };
        let mut kept: Vec<_> =
            self.messages().map(|(number, message)| (message.handle, keep(number, message))).collect();
        kept.sort_by_key(|(handle, _)| *handle);
        kept
    }

    /// The application takes a message back. Whether there is one; what becomes of it is told by [`Outbox::next_cancelled`], unless it
    /// is accepted: what may have been accepted already is asked for first.
    pub(crate) fn cancel(&mut self, handle: SendHandle) -> bool {
        if let Ok(at) = self.waiting.binary_search_by_key(&handle, |message| message.handle) {
            self.waiting.remove(at);
            self.cancelled.push_back(handle);
            return true;
        }
        let is_it = |of: &&mut Numbered| of.message.as_ref().is_some_and(|message| message.handle == handle);
        self.numbered.iter_mut().find(is_it).map(|of| of.is_cancelled = true).is_some()
    }

    /// The next message that was cancelled in time.
    pub(crate) fn next_cancelled(&mut self) -> Option<SendHandle> {
        self.cancelled.pop_front()
    }

    /// A connection begins; `last_number` is the last that the server accepted from this device.
    pub(crate) fn connected(&mut self, last_number: SendNumber) {
        // A device without memory goes on after what the server knows. Numbered messages keep theirs: those up to `last_number` were
        // accepted and get their first answer again; if there is a gap, a refusal will say so.
        self.next_number = self.next_number.max(last_number.next());
        let mut messages_to = HashMap::new();
        for message in self.numbered.iter().filter_map(|of| of.message.as_ref()) {
            *messages_to.entry(message.to).or_insert(0_u32) += 1;
        }
        // Where there are several they keep their order: then one must not be left out.
        for of in &mut self.numbered {
            of.is_first = of.message.as_ref().is_some_and(|message| messages_to[&message.to] == 1);
            if let Some(message) = of.message.as_ref().filter(|_| of.is_first) {
                self.turns.sends(message.to);
            }
        }
    }

    /// The connection is gone: whether what was in flight was accepted is not known until it is sent again.
    pub(crate) fn disconnected(&mut self) {
        // A number that only was to be voided is sent by nobody again: it was refused.
        self.numbered.retain(|of| of.message.is_some());
        for of in &mut self.numbered {
            of.wire = Wire::Unsent;
        }
        (self.sent, self.in_flight) = (0, 0);
        self.turns.disconnected();
        // `expected` may be out of date by the time of the next connection; a server's wish to be left alone is not.
        let (Flow::Open { not_before } | Flow::Draining { not_before, .. }) = self.flow;
        self.flow = Flow::Open { not_before };
        self.invariants();
    }

    /// Gives numbers to as many messages as may be in flight. Calls `on_numbered` for each that got one, if the
    /// application keeps numbers.
    pub(crate) fn number(
        &mut self,
        now: MonotonicMs,
        window: usize,
        mut on_numbered: impl FnMut(SendHandle, Option<SendNumber>),
    ) {
        if matches!(self.flow, Flow::Draining { .. }) {
            return;
        }
        let mut at = 0;
        while self.numbered.len() < window
            && let Some(message) = self.waiting.get(at)
        {
            if !self.turns.may_send(now, message.to) {
                at += 1;
                continue;
            }
            let Some(message) = self.waiting.remove(at) else { break };
            self.numbered.push_back(Numbered {
                number: self.next_number,
                is_kept: announce(self.keeping, message.handle, self.next_number, &mut on_numbered),
                is_cancelled: false,
                is_first: self.turns.sends(message.to),
                wire: Wire::Unsent,
                message: Some(message),
            });
            self.next_number = self.next_number.next();
        }
        self.invariants();
    }

    /// The application has kept the number of this message.
    pub(crate) fn kept(&mut self, handle: SendHandle) {
        let is_it = |of: &&mut Numbered| of.message.as_ref().is_some_and(|message| message.handle == handle);
        if let Some(of) = self.numbered.iter_mut().find(is_it) {
            of.is_kept = true;
        }
    }

    /// What may leave next now.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs, window: usize) -> Option<ClientFrame> {
        let frame = self.frame_again().or_else(|| self.frame_in_order(now, window))?;
        self.invariants();
        Some(frame)
    }

    /// What turned out to have been accepted before, so that its order does not matter.
    fn frame_again(&mut self) -> Option<ClientFrame> {
        let of = self.numbered.iter_mut().take(self.sent).find(|of| of.wire == Wire::Again)?;
        of.wire = Wire::Sent;
        self.in_flight += 1;
        of.send()
    }

    fn frame_in_order(&mut self, now: MonotonicMs, window: usize) -> Option<ClientFrame> {
        let Flow::Open { not_before } = self.flow else { return None };
        if now < not_before || self.in_flight >= window {
            return None;
        }
        let next = self.numbered.get(self.sent).filter(|next| next.is_kept || next.is_cancelled)?;
        let is_given_up = next.is_cancelled;
        let before = self.sent.checked_sub(1).and_then(|at| self.numbered.get_mut(at));
        if let Some(before) = before.filter(|before| before.is_first && before.wire == Wire::Sent) {
            before.wire = Wire::SentAndGivenUp;
            return Some(ClientFrame::GiveUp { number: before.number });
        }
        let next = &mut self.numbered[self.sent];
        self.sent += 1;
        self.in_flight += 1;
        if is_given_up {
            next.wire = Wire::GivenUp;
            return Some(ClientFrame::GiveUp { number: next.number });
        }
        next.wire = Wire::Sent;
        next.send()
    }

    /// When messages that were put off may leave.
    pub(crate) fn deadline(&self, now: MonotonicMs) -> Option<MonotonicMs> {
        let conversation = self.turns.deadline(now).filter(|_| !self.waiting.is_empty());
        match self.flow {
            Flow::Open { not_before } if not_before > now && self.len() > 0 => Some(not_before),
            Flow::Open { .. } | Flow::Draining { .. } => conversation,
        }
    }

    /// The server has accepted `number`. Returns the message; none when it was not in flight.
    pub(crate) fn accepted(&mut self, number: SendNumber) -> Option<Outgoing> {
        let at = self.find_in_flight(number).filter(|at| self.numbered[*at].message.is_some())?;
        let message = self.remove(at);
        if let Some(message) = &message {
            self.turns.accepted(message.to);
        }
        self.invariants();
        message
    }

    /// The server has refused `number`, which is therefore not used up; unless it stands for another message, or for none: then what
    /// comes after it is judged on its own, and nothing is numbered anew.
    ///
    /// A message under a number that was given up was not accepted, and gets another one. If the number stands for another message, what
    /// this device holds is a copy of an older state, and its message may have been accepted under another number since: so it gets none.
    pub(crate) fn refused(
        &mut self,
        now: MonotonicMs,
        number: SendNumber,
        code: ErrorCode,
        retry_after_ms: u64,
        expected: SendNumber,
    ) -> Refusal {
        let Some(at) = self.find_in_flight(number) else { return Refusal::Unasked };
        let refusal = match (code, self.numbered[at].wire) {
            (ErrorCode::NumberUsed, _) => self.remove(at).map_or(Refusal::Later, |of| Refusal::ForGood(of.handle)),
            (ErrorCode::GivenUp, _) => {
                self.void(at);
                Refusal::Later
            }
            (_, Wire::SentAndGivenUp) => self.refused_alone(now, at, code, retry_after_ms),
            _ => self.refused_with_others(now, at, code, retry_after_ms, expected),
        };
        self.invariants();
        refusal
    }

    /// A send was refused whose number is given up behind it.
    fn refused_alone(&mut self, now: MonotonicMs, at: usize, code: ErrorCode, retry_after_ms: u64) -> Refusal {
        let of = &mut self.numbered[at];
        of.wire = Wire::GivenUp;
        let Some(message) = &of.message else { return Refusal::Later };
        let (handle, to) = (message.handle, message.to);
        if is_for_good(code, retry_after_ms) {
            of.message = None;
            self.turns.answered(to);
            return Refusal::ForGood(handle);
        }
        if code == ErrorCode::RateLimited {
            self.turns.refused_until(now, to, retry_after_ms.min(RETRY_AFTER_MAX_MS));
        }
        Refusal::Later
    }

    /// Something was refused that those behind it need: they come back too.
    fn refused_with_others(
        &mut self,
        now: MonotonicMs,
        at: usize,
        code: ErrorCode,
        retry_after_ms: u64,
        expected: SendNumber,
    ) -> Refusal {
        let is_consequence = matches!(self.flow, Flow::Draining { .. });
        let of = &mut self.numbered[at];
        let is_send = of.wire == Wire::Sent;
        of.wire = Wire::Refused;
        self.in_flight -= 1;
        let mut wait_ms = match code {
            ErrorCode::SendGap if is_consequence => 0,
            ErrorCode::SendGap | ErrorCode::WindowFull => retry_after_ms.max(GAP_RETRY_MS),
            _ => retry_after_ms.min(RETRY_AFTER_MAX_MS),
        };
        let mut refusal = Refusal::Later;
        if let Some(message) = &of.message {
            let (handle, to) = (message.handle, message.to);
            if is_send && is_for_good(code, retry_after_ms) {
                of.message = None;
                self.turns.answered(to);
                refusal = Refusal::ForGood(handle);
            } else if is_send && of.is_first && code == ErrorCode::RateLimited {
                // For the conversation's sake. If it is the device that sends too much, the next one is told so.
                self.turns.refused_until(now, to, wait_ms);
                wait_ms = 0;
            }
        }
        self.drain(now.after(wait_ms), expected);
        refusal
    }

    fn drain(&mut self, wait_until: MonotonicMs, expected: SendNumber) {
        self.flow = match self.flow {
            Flow::Open { not_before } => Flow::Draining { not_before: not_before.max(wait_until), expected },
            // `expected` can only have grown.
            Flow::Draining { not_before, expected: earlier } => {
                Flow::Draining { not_before: not_before.max(wait_until), expected: expected.max(earlier) }
            }
        };
    }

    /// The server says what became of a number that was to be given up: it is void, or it was accepted before, as this entry. False: that was not asked.
    pub(crate) fn given_up(&mut self, number: SendNumber, seq: Seq) -> bool {
        let at = self.find_in_flight(number).filter(|at| self.numbered[*at].wire != Wire::Sent);
        // An acceptance that had been on its way has answered it.
        let Some(at) = at else { return number < self.next_number };
        if seq == Seq::ZERO {
            self.void(at);
            if let Flow::Draining { expected, .. } = &mut self.flow {
                *expected = number.next().max(*expected);
            }
        } else {
            let of = &mut self.numbered[at];
            of.is_cancelled = false;
            if of.wire == Wire::GivenUp {
                of.wire = Wire::Again;
                self.in_flight -= 1;
            }
        }
        self.invariants();
        true
    }

    /// Nothing is or will be accepted under this number: its message goes on without it.
    fn void(&mut self, at: usize) {
        let is_cancelled = self.numbered[at].is_cancelled;
        if let Some(message) = self.remove(at) {
            self.put_back(message, is_cancelled);
        }
    }

    /// A message has no number any more.
    fn put_back(&mut self, message: Outgoing, is_cancelled: bool) {
        if is_cancelled {
            self.cancelled.push_back(message.handle);
        } else {
            let at = self.waiting.partition_point(|waiting| waiting.handle < message.handle);
            self.waiting.insert(at, message);
        }
    }

    /// When everything in flight has been answered and something was refused, numbers what is left anew.
    pub(crate) fn settle(
        &mut self,
        now: MonotonicMs,
        mut on_numbered: impl FnMut(SendHandle, Option<SendNumber>),
    ) -> Result<(), Contradiction> {
        let Flow::Draining { not_before, expected } = self.flow else { return Ok(()) };
        if self.in_flight > 0 || self.numbered.iter().any(|of| of.wire == Wire::Again) {
            return Ok(());
        }
        // Refused means not used up, and `expected` is the lowest number that is not.
        if self.numbered.front().is_some_and(|lowest| lowest.number < expected) {
            return Err(Contradiction);
        }
        self.sent = 0;
        self.next_number = expected;
        for mut of in std::mem::take(&mut self.numbered) {
            let Some(message) = of.message.take() else { continue };
            if of.is_first {
                self.turns.answered(message.to);
            }
            if of.is_cancelled || self.turns.is_refused(now, message.to) {
                if self.keeping == Keeping::ByApplication {
                    // The next one gets its number.
                    on_numbered(message.handle, None);
                }
                self.put_back(message, of.is_cancelled);
                continue;
            }
            if of.is_first {
                self.turns.sends(message.to);
            }
            if of.number != self.next_number {
                of.number = self.next_number;
                of.is_kept = announce(self.keeping, message.handle, of.number, &mut on_numbered);
            }
            self.next_number = self.next_number.next();
            self.numbered.push_back(Numbered { message: Some(message), wire: Wire::Unsent, ..of });
        }
        self.flow = Flow::Open { not_before };
        self.invariants();
        Ok(())
    }

    fn find_in_flight(&self, number: SendNumber) -> Option<usize> {
        let at = self.numbered.partition_point(|of| of.number < number);
        let of = self.numbered.get(at)?;
        (of.number == number && of.wire.awaits_answer()).then_some(at)
    }

    /// A number that was in flight is answered for good. Nobody waits for that any more.
    fn remove(&mut self, at: usize) -> Option<Outgoing> {
        self.in_flight -= 1;
        self.sent -= 1;
        let Numbered { message, is_first, .. } = self.numbered.remove(at)?;
        if let Some(message) = message.as_ref().filter(|_| is_first) {
            self.turns.answered(message.to);
        }
        message
    }

    fn invariants(&self) {
        if cfg!(debug_assertions) {
            debug_assert!(self.numbered.iter().is_sorted_by(|a, b| a.number < b.number));
            debug_assert!(self.numbered.back().is_none_or(|last| last.number < self.next_number));
            debug_assert!(self.waiting.iter().is_sorted_by(|a, b| a.handle < b.handle));
            debug_assert_eq!(self.numbered.iter().filter(|of| of.wire.awaits_answer()).count(), self.in_flight);
            let is_unsent = |of: &Numbered| of.wire == Wire::Unsent;
            debug_assert_eq!(self.numbered.iter().position(is_unsent).unwrap_or(self.numbered.len()), self.sent);
        }
    }
}

impl Numbered {
    fn send(&self) -> Option<ClientFrame> {
        let message = self.message.as_ref()?;
        Some(ClientFrame::Send { number: self.number, to: message.to, content: message.content.clone() })
    }
}

/// Whether the same send would be refused again.
const fn is_for_good(code: ErrorCode, retry_after_ms: u64) -> bool {
    retry_after_ms == 0 && !matches!(code, ErrorCode::SendGap | ErrorCode::WindowFull)
}

/// Whether the number counts as kept at once.
fn announce(
    keeping: Keeping,
    handle: SendHandle,
    number: SendNumber,
    on_numbered: &mut impl FnMut(SendHandle, Option<SendNumber>),
) -> bool {
    match keeping {
        Keeping::InMemory => true,
        Keeping::ByApplication => {
            on_numbered(handle, Some(number));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;

    use super::*;

    const NOW: MonotonicMs = MonotonicMs(1_000);
    const WINDOW: usize = 8;

    fn outbox(messages: u64) -> Outbox {
        let mut outbox = Outbox::new(Keeping::InMemory, Vec::new());
        outbox.turns.accepted(UserId(8).into());
        for text in 1..=messages {
            outbox.push(UserId(8).into(), Content::text(&text.to_string())).unwrap();
        }
        outbox
    }

    /// What leaves at `now`, as (number, text); text 0: that the number is given up.
    fn sent(outbox: &mut Outbox, now: MonotonicMs) -> Vec<(u64, u64)> {
        outbox.number(now, WINDOW, |_, _| ());
        std::iter::from_fn(|| outbox.next_frame(now, WINDOW))
            .map(|frame| match frame {
                ClientFrame::Send { number, content, .. } => (number.0, content.as_text().unwrap().parse().unwrap()),
                ClientFrame::GiveUp { number } => (number.0, 0),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn refuse(outbox: &mut Outbox, number: u64, code: ErrorCode, retry_after_ms: u64, expected: u64) -> Refusal {
        outbox.refused(NOW, SendNumber(number), code, retry_after_ms, SendNumber(expected))
    }

    fn settle(outbox: &mut Outbox) {
        outbox.settle(NOW, |_, _| ()).unwrap();
    }

    #[test]
    fn a_device_without_memory_goes_on_after_what_the_server_knows() {
        let mut outbox = outbox(2);
        outbox.connected(SendNumber(41));
        assert_eq!(sent(&mut outbox, NOW), [(42, 1), (43, 2)]);
    }

    #[test]
    fn no_more_than_the_window_is_in_flight() {
        let mut outbox = outbox(20);
        assert_eq!(sent(&mut outbox, NOW).len(), WINDOW);
        assert!(outbox.accepted(SendNumber(1)).is_some());
        assert_eq!(sent(&mut outbox, NOW), [(9, 9)]);
    }

    #[test]
    fn a_lost_connection_changes_no_number() {
        let mut outbox = outbox(3);
        sent(&mut outbox, NOW);
        outbox.disconnected();
        // Two of them had been accepted.
        outbox.connected(SendNumber(2));
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2), (3, 3)]);
    }

    #[test]
    fn a_refusal_that_passes_keeps_order_and_numbers() {
        let mut outbox = outbox(4);
        sent(&mut outbox, NOW);
        assert!(outbox.accepted(SendNumber(1)).is_some());
        assert_eq!(refuse(&mut outbox, 2, ErrorCode::Overloaded, 500, 2), Refusal::Later);
        assert_eq!(refuse(&mut outbox, 3, ErrorCode::SendGap, 0, 2), Refusal::Later);
        assert_eq!(sent(&mut outbox, NOW.after(10_000)), [], "number 4 is not answered yet");
        assert_eq!(refuse(&mut outbox, 4, ErrorCode::SendGap, 0, 2), Refusal::Later);
        settle(&mut outbox);
        assert_eq!((sent(&mut outbox, NOW.after(499)), outbox.deadline(NOW)), (vec![], Some(NOW.after(500))));
        assert_eq!(sent(&mut outbox, NOW.after(500)), [(2, 2), (3, 3), (4, 4)]);
    }

    #[test]
    fn those_behind_a_message_refused_for_good_move_up_by_one() {
        let mut outbox = outbox(4);
        sent(&mut outbox, NOW);
        assert_eq!(refuse(&mut outbox, 2, ErrorCode::Recipient, 0, 2), Refusal::ForGood(SendHandle(2)));
        refuse(&mut outbox, 3, ErrorCode::SendGap, 0, 2);
        // An acceptance that waited for its commit may come after the refusals.
        assert!(outbox.accepted(SendNumber(1)).is_some());
        refuse(&mut outbox, 4, ErrorCode::SendGap, 0, 2);
        settle(&mut outbox);
        assert_eq!(sent(&mut outbox, NOW), [(2, 3), (3, 4)]);
    }

    #[test]
    fn a_number_that_stands_for_another_message_costs_its_own_and_no_other() {
        let kept = |number: u64, text: &str| Unanswered {
            number: Some(SendNumber(number)),
            to: UserId(8).into(),
            content: Content::text(text),
        };
        let mut outbox = Outbox::new(Keeping::InMemory, vec![kept(3, "3"), kept(4, "4"), kept(6, "6")]);
        outbox.connected(SendNumber(5));
        assert_eq!(sent(&mut outbox, NOW), [(3, 3), (4, 4), (6, 6)]);
        assert!(outbox.accepted(SendNumber(6)).is_some(), "a new one does not wait for those that are looked up");
        assert_eq!(refuse(&mut outbox, 3, ErrorCode::NumberUsed, 0, 7), Refusal::ForGood(SendHandle(1)));
        settle(&mut outbox);
        outbox.push(UserId(8).into(), Content::text("7")).unwrap();
        assert_eq!(sent(&mut outbox, NOW), [(7, 7)], "it is neither waited for nor numbered anew");
        assert!(outbox.accepted(SendNumber(4)).is_some());
    }

    #[test]
    fn nobody_waits_for_one_whose_number_stands_for_another_message() {
        let kept = Unanswered { number: Some(SendNumber(3)), to: UserId(8).into(), content: Content::text("3") };
        let mut outbox = Outbox::new(Keeping::InMemory, vec![kept]);
        outbox.push(UserId(8).into(), Content::text("6")).unwrap();
        outbox.connected(SendNumber(5));
        assert_eq!(sent(&mut outbox, NOW), [(3, 3)]);
        assert_eq!(refuse(&mut outbox, 3, ErrorCode::NumberUsed, 0, 6), Refusal::ForGood(SendHandle(1)));
        assert_eq!(sent(&mut outbox, NOW), [(6, 6)]);
    }

    #[test]
    fn a_connection_lost_while_draining_renumbers_nothing() {
        let mut outbox = outbox(3);
        sent(&mut outbox, NOW);
        refuse(&mut outbox, 1, ErrorCode::Recipient, 0, 1);
        outbox.disconnected();
        outbox.connected(SendNumber(0));
        settle(&mut outbox);
        assert_eq!(sent(&mut outbox, NOW), [(2, 2), (3, 3)]);
        // The server says what it thinks of that, and only then numbers change.
        refuse(&mut outbox, 2, ErrorCode::SendGap, 0, 1);
        refuse(&mut outbox, 3, ErrorCode::SendGap, 0, 1);
        settle(&mut outbox);
        assert_eq!(sent(&mut outbox, NOW), [], "a gap out of nothing waits");
        assert_eq!(sent(&mut outbox, NOW.after(GAP_RETRY_MS)), [(1, 2), (2, 3)]);
    }

    #[test]
    fn a_server_that_forgot_numbers_says_where_it_is() {
        let mut outbox = outbox(2);
        outbox.connected(SendNumber(9));
        sent(&mut outbox, NOW);
        refuse(&mut outbox, 10, ErrorCode::SendGap, 0, 6);
        refuse(&mut outbox, 11, ErrorCode::SendGap, 0, 6);
        settle(&mut outbox);
        assert_eq!(sent(&mut outbox, NOW.after(GAP_RETRY_MS)), [(6, 1), (7, 2)]);
    }

    #[test]
    fn an_answer_too_many_changes_nothing() {
        let mut outbox = outbox(2);
        sent(&mut outbox, NOW);
        assert!(outbox.accepted(SendNumber(1)).is_some());
        assert!(outbox.accepted(SendNumber(1)).is_none());
        assert!(outbox.accepted(SendNumber(77)).is_none());
        assert_eq!(refuse(&mut outbox, 1, ErrorCode::Overloaded, 5, 1), Refusal::Unasked);
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn a_refusal_of_a_number_that_is_used_up_is_a_contradiction() {
        let mut outbox = outbox(2);
        sent(&mut outbox, NOW);
        refuse(&mut outbox, 1, ErrorCode::Overloaded, 5, 3);
        refuse(&mut outbox, 2, ErrorCode::Overloaded, 5, 3);
        assert_eq!(outbox.settle(NOW, |_, _| ()), Err(Contradiction));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut outbox = outbox(QUEUED_MESSAGES_MAX as u64);
        let full = Err(SendError::QueueFull { max: QUEUED_MESSAGES_MAX });
        assert_eq!(outbox.push(UserId(8).into(), Content::text("x")), full);
    }

    #[test]
    fn a_number_that_the_application_keeps_is_kept_before_it_is_used() {
        let mut outbox = Outbox::new(Keeping::ByApplication, Vec::new());
        outbox.turns.accepted(UserId(8).into());
        let first = outbox.push(UserId(8).into(), Content::text("1")).unwrap();
        let second = outbox.push(UserId(8).into(), Content::text("2")).unwrap();
        let mut numbered = Vec::new();
        outbox.number(NOW, WINDOW, |handle, number| numbered.push((handle, number.unwrap().0)));
        assert_eq!(numbered, [(first, 1), (second, 2)]);
        outbox.kept(second);
        assert_eq!(sent(&mut outbox, NOW), [], "not in front of the first");
        outbox.kept(first);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2)]);
        refuse(&mut outbox, 1, ErrorCode::TextLength, 0, 1);
        refuse(&mut outbox, 2, ErrorCode::SendGap, 0, 1);
        let mut renumbered = Vec::new();
        outbox.settle(NOW, |handle, number| renumbered.push((handle, number.unwrap().0))).unwrap();
        assert_eq!(renumbered, [(second, 1)]);
        assert_eq!(sent(&mut outbox, NOW), [], "its new number is not kept yet");
        outbox.kept(second);
        assert_eq!(sent(&mut outbox, NOW), [(1, 2)]);
    }

    #[test]
    fn what_an_earlier_run_kept_is_sent_under_its_numbers() {
        let kept = |number: Option<u64>, text: &str| Unanswered {
            number: number.map(SendNumber),
            to: UserId(8).into(),
            content: Content::text(text),
        };
        let mut outbox = Outbox::new(Keeping::InMemory, vec![kept(Some(6), "1"), kept(Some(8), "2"), kept(None, "3")]);
        outbox.connected(SendNumber(6));
        assert_eq!(sent(&mut outbox, NOW), [(6, 1), (8, 2), (9, 3)]);
    }

    /// Messages 1, 2, 3, ... to these users.
    fn outbox_to(users: &[u64]) -> Outbox {
        let mut outbox = Outbox::new(Keeping::InMemory, Vec::new());
        for (text, user) in (1..).zip(users) {
            outbox.push(UserId(*user).into(), Content::text(&text.to_string())).unwrap();
        }
        outbox
    }

    #[test]
    fn one_that_is_refused_alone_lets_the_others_go_on_and_follows_under_a_new_number() {
        let mut outbox = outbox_to(&[9, 8, 9, 7]);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2), (2, 0), (3, 4)], "3 waits for the answer to 1");
        assert_eq!(refuse(&mut outbox, 1, ErrorCode::RateLimited, 500, 1), Refusal::Later);
        assert!(outbox.given_up(SendNumber(1), Seq::ZERO));
        assert!(outbox.accepted(SendNumber(2)).is_some() && outbox.accepted(SendNumber(3)).is_some());
        settle(&mut outbox);
        assert_eq!((sent(&mut outbox, NOW), outbox.deadline(NOW)), (vec![], Some(NOW.after(500))));
        outbox.push(UserId(8).into(), Content::text("5")).unwrap();
        assert_eq!(sent(&mut outbox, NOW), [(4, 5)]);
        assert_eq!(sent(&mut outbox, NOW.after(500)), [(5, 1)], "alone, and its number is not given up for nobody");
        assert!(outbox.accepted(SendNumber(5)).is_some());
        assert_eq!(sent(&mut outbox, NOW.after(500)), [(6, 3)], "a conversation keeps its order");
    }

    #[test]
    fn the_last_one_that_is_refused_alone_gives_its_number_to_the_next() {
        let mut outbox = outbox_to(&[9]);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1)]);
        refuse(&mut outbox, 1, ErrorCode::RateLimited, 500, 1);
        settle(&mut outbox);
        outbox.push(UserId(8).into(), Content::text("2")).unwrap();
        assert_eq!(sent(&mut outbox, NOW), [(1, 2)]);
        assert_eq!(sent(&mut outbox, NOW.after(500)), [(1, 0), (2, 1)]);
    }

    #[test]
    fn what_is_refused_with_its_giving_up_holds_up_the_others() {
        let mut outbox = outbox_to(&[9, 8]);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
        for (number, code, wait_ms) in
            [(1, ErrorCode::Overloaded, 300), (1, ErrorCode::Overloaded, 300), (2, ErrorCode::SendGap, 0)]
        {
            assert_eq!(refuse(&mut outbox, number, code, wait_ms, 1), Refusal::Later);
        }
        settle(&mut outbox);
        assert_eq!((sent(&mut outbox, NOW.after(299)), outbox.deadline(NOW)), (vec![], Some(NOW.after(300))));
        assert_eq!(sent(&mut outbox, NOW.after(300)), [(1, 1), (1, 0), (2, 2)]);
    }

    #[test]
    fn one_refused_for_good_leaves_a_void_number_and_no_gap() {
        let mut outbox = outbox_to(&[9, 8]);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
        assert_eq!(refuse(&mut outbox, 1, ErrorCode::TextLength, 0, 1), Refusal::ForGood(SendHandle(1)));
        assert!(outbox.accepted(SendNumber(2)).is_some() && outbox.len() == 0);
        assert!(outbox.given_up(SendNumber(1), Seq::ZERO));
        outbox.push(UserId(9).into(), Content::text("3")).unwrap();
        assert_eq!(sent(&mut outbox, NOW), [(3, 3)]);
    }

    #[test]
    fn a_message_whose_number_turns_out_to_be_void_gets_another() {
        let mut outbox = outbox_to(&[9, 8]);
        sent(&mut outbox, NOW);
        outbox.disconnected();
        // The first one was refused and is void, which this device was not told.
        outbox.connected(SendNumber(2));
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
        assert_eq!(refuse(&mut outbox, 1, ErrorCode::GivenUp, 0, 3), Refusal::Later);
        assert!(outbox.given_up(SendNumber(1), Seq::ZERO), "its giving up was asked for");
        assert!(outbox.accepted(SendNumber(2)).is_some());
        assert_eq!(sent(&mut outbox, NOW), [(3, 1)]);
    }

    #[test]
    fn what_is_cancelled_in_time_is_in_no_log() {
        let mut outbox = outbox_to(&[8, 8, 8]);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1)]);
        assert!(outbox.cancel(SendHandle(3)) && !outbox.cancel(SendHandle(4)));
        assert_eq!(outbox.next_cancelled(), Some(SendHandle(3)), "it had no number");
        assert!(outbox.cancel(SendHandle(1)));
        assert_eq!(outbox.next_cancelled(), None, "it may have been accepted");
        assert_eq!(refuse(&mut outbox, 1, ErrorCode::Overloaded, 100, 1), Refusal::Later);
        settle(&mut outbox);
        assert_eq!((outbox.next_cancelled(), outbox.len()), (Some(SendHandle(1)), 1));
        assert_eq!(sent(&mut outbox, NOW.after(100)), [(1, 2)]);
    }

    #[test]
    fn what_may_have_been_accepted_before_it_was_cancelled_is_asked_for() {
        for accepted_before in [true, false] {
            let mut outbox = outbox(2);
            sent(&mut outbox, NOW);
            outbox.disconnected();
            assert!(outbox.cancel(SendHandle(1)));
            outbox.connected(SendNumber(if accepted_before { 2 } else { 0 }));
            assert_eq!(sent(&mut outbox, NOW), [(1, 0), (2, 2)]);
            assert!(outbox.given_up(SendNumber(1), Seq(u64::from(accepted_before) * 7)));
            assert!(outbox.accepted(SendNumber(2)).is_some());
            if accepted_before {
                assert_eq!(sent(&mut outbox, NOW), [(1, 1)], "only a send is compared with what was accepted");
                assert!(outbox.accepted(SendNumber(1)).is_some() && outbox.next_cancelled().is_none());
            } else {
                assert_eq!(outbox.next_cancelled(), Some(SendHandle(1)));
            }
            assert_eq!((outbox.len(), sent(&mut outbox, NOW)), (0, vec![]));
        }
    }
}
