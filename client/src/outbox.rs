//! Messages from `send` to their answer, and the numbers they are sent under.
//!
//! The rule that exactly-once hangs on: **a number that may have been accepted is never given to another message.** A
//! message keeps its number over every loss of connection; the server answers a repeated number with its first result. Only
//! the server can free a number, by refusing it: `refused.expected` says that no number from there on is used up.
//!
//! After a refusal nothing is sent until everything in flight has been answered ([`Flow::Draining`]). Then the state of every
//! number is known, what is left is numbered anew from `expected` on, and sending goes on. That costs one round trip after a
//! refusal; renumbering while frames are in flight would leave two meanings of one number on the wire.
//!
//! Invariants: numbered messages come first, their numbers ascend, and all are below `next_number`. Unless draining, the messages
//! in flight are the first `in_flight` ones.

use std::collections::VecDeque;

use proto_spec::{ClientFrame, Content, ConversationId, ErrorCode, SendNumber};

use crate::{
    config::{Keeping, Unanswered},
    event::{SendError, SendHandle},
    limits::{GAP_RETRY_MS, QUEUED_MESSAGES_MAX, RETRY_AFTER_MAX_MS},
    state::MonotonicMs,
};

/// A message that has not been answered.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) handle: SendHandle,
    pub(crate) to: ConversationId,
    pub(crate) content: Content,
    number: Option<SendNumber>,
    /// Whether the application has kept the number, if it wants to.
    is_kept: bool,
    /// Sent on this connection and not answered on it.
    is_in_flight: bool,
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
    /// It will be sent again.
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
    queue: VecDeque<Outgoing>,
    keeping: Keeping,
    next_number: SendNumber,
    last_handle: SendHandle,
    in_flight: usize,
    flow: Flow,
}

impl Outbox {
    /// Starts with what an earlier run left, in the order of its numbers. Its handles are 1, 2, 3, ...
    pub(crate) fn new(keeping: Keeping, unanswered: Vec<Unanswered>) -> Self {
        let mut outbox = Self {
            queue: VecDeque::new(),
            keeping,
            next_number: SendNumber(1),
            last_handle: SendHandle(0),
            in_flight: 0,
            flow: Flow::Open { not_before: MonotonicMs(0) },
        };
        for Unanswered { number, to, content } in unanswered {
            if let Some(number) = number {
                outbox.next_number = number.next();
            }
            outbox.append(number, to, content);
        }
        outbox
    }

    pub(crate) fn push(&mut self, to: ConversationId, content: Content) -> Result<SendHandle, SendError> {
        if self.queue.len() >= QUEUED_MESSAGES_MAX {
            return Err(SendError::QueueFull { max: QUEUED_MESSAGES_MAX });
        }
        Ok(self.append(None, to, content))
    }

    fn append(&mut self, number: Option<SendNumber>, to: ConversationId, content: Content) -> SendHandle {
        self.last_handle = SendHandle(self.last_handle.0 + 1);
        let handle = self.last_handle;
        self.queue.push_back(Outgoing { handle, to, content, number, is_kept: number.is_some(), is_in_flight: false });
        handle
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Everything without an answer, as [`Outbox::new`] takes it.
    pub(crate) fn unanswered(&self) -> Vec<(SendHandle, Unanswered)> {
        let keep = |m: &Outgoing| Unanswered { number: m.number, to: m.to, content: m.content.clone() };
        self.queue.iter().map(|message| (message.handle, keep(message))).collect()
    }

    /// A connection begins; `last_number` is the last that the server accepted from this device.
    pub(crate) fn connected(&mut self, last_number: SendNumber) {
        // A device without memory goes on after what the server knows. Numbered messages keep theirs: those up to `last_number` were
        // accepted and get their first answer again; if there is a gap, a refusal will say so.
        self.next_number = self.next_number.max(last_number.next());
    }

    /// The connection is gone: whether what was in flight was accepted is not known until it is sent again.
    pub(crate) fn disconnected(&mut self) {
        for message in &mut self.queue {
            message.is_in_flight = false;
        }
        self.in_flight = 0;
        // `expected` may be out of date by the time of the next connection; a server's wish to be left alone is not.
        let (Flow::Open { not_before } | Flow::Draining { not_before, .. }) = self.flow;
        self.flow = Flow::Open { not_before };
        self.invariants();
    }

    /// Gives numbers to as many messages as may be in flight. Calls `on_numbered` for each that got one, if the
    /// application keeps numbers.
    pub(crate) fn number(&mut self, window: usize, mut on_numbered: impl FnMut(SendHandle, SendNumber)) {
        if matches!(self.flow, Flow::Draining { .. }) {
            return;
        }
        for message in self.queue.iter_mut().take(window).filter(|message| message.number.is_none()) {
            message.number = Some(self.next_number);
            message.is_kept = announce(self.keeping, message.handle, self.next_number, &mut on_numbered);
            self.next_number = self.next_number.next();
        }
        self.invariants();
    }

    /// The application has kept the number of this message.
    pub(crate) fn kept(&mut self, handle: SendHandle) {
        // Handles ascend along the queue.
        if let Ok(index) = self.queue.binary_search_by_key(&handle, |message| message.handle) {
            self.queue[index].is_kept = self.queue[index].number.is_some();
        }
    }

    /// The next message that may leave now.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs, window: usize) -> Option<ClientFrame> {
        let Flow::Open { not_before } = self.flow else { return None };
        if now < not_before || self.in_flight >= window {
            return None;
        }
        let message = self.queue.get_mut(self.in_flight).filter(|message| message.is_kept)?;
        let number = message.number?;
        message.is_in_flight = true;
        self.in_flight += 1;
        let frame = ClientFrame::Send { number, to: message.to, content: message.content.clone() };
        self.invariants();
        Some(frame)
    }

    /// When messages that were put off may leave.
    pub(crate) fn deadline(&self, now: MonotonicMs) -> Option<MonotonicMs> {
        match self.flow {
            Flow::Open { not_before } if not_before > now && !self.queue.is_empty() => Some(not_before),
            Flow::Open { .. } | Flow::Draining { .. } => None,
        }
    }

    /// The server has accepted `number`. Returns the message; none when it was not in flight.
    pub(crate) fn accepted(&mut self, number: SendNumber) -> Option<Outgoing> {
        let index = self.find_in_flight(number)?;
        let message = self.remove_in_flight(index);
        self.invariants();
        Some(message)
    }

    /// The server has refused `number`, which is therefore not used up; unless it is because it stands for another message: then what
    /// comes after it is judged on its own, and nothing is numbered anew. The message is not either: where a number stands for another
    /// message, what this device holds is a copy of an older state, and the message may have been accepted under another number since.
    pub(crate) fn refused(
        &mut self,
        now: MonotonicMs,
        number: SendNumber,
        code: ErrorCode,
        retry_after_ms: u64,
        expected: SendNumber,
    ) -> Refusal {
        let Some(index) = self.find_in_flight(number) else { return Refusal::Unasked };
        if code == ErrorCode::NumberUsed {
            return Refusal::ForGood(self.remove_in_flight(index).handle);
        }
        let is_consequence = matches!(self.flow, Flow::Draining { .. });
        let wait_ms = match code {
            ErrorCode::SendGap if is_consequence => Some(0),
            ErrorCode::SendGap | ErrorCode::WindowFull => Some(retry_after_ms.max(GAP_RETRY_MS)),
            _ => (retry_after_ms > 0).then_some(retry_after_ms),
        };
        let wait_until = now.after(wait_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS));
        self.flow = match self.flow {
            Flow::Open { not_before } => Flow::Draining { not_before: not_before.max(wait_until), expected },
            // `expected` can only have grown.
            Flow::Draining { not_before, expected: earlier } => {
                Flow::Draining { not_before: not_before.max(wait_until), expected: expected.max(earlier) }
            }
        };
        if wait_ms.is_some() {
            self.in_flight -= 1;
            self.queue[index].is_in_flight = false;
            return Refusal::Later;
        }
        Refusal::ForGood(self.remove_in_flight(index).handle)
    }

    /// When everything in flight has been answered and something was refused, numbers what is left anew.
    pub(crate) fn settle(&mut self, mut on_numbered: impl FnMut(SendHandle, SendNumber)) -> Result<(), Contradiction> {
        let Flow::Draining { not_before, expected } = self.flow else { return Ok(()) };
        if self.in_flight > 0 {
            return Ok(());
        }
        // Refused means not used up, and `expected` is the lowest number that is not.
        let lowest = self.queue.front().and_then(|message| message.number);
        if lowest.is_some_and(|lowest| lowest < expected) {
            return Err(Contradiction);
        }
        let mut next = expected;
        for message in self.queue.iter_mut() {
            let Some(number) = message.number else { break };
            if number != next {
                message.number = Some(next);
                message.is_kept = announce(self.keeping, message.handle, next, &mut on_numbered);
            }
            next = next.next();
        }
        self.next_number = next;
        self.flow = Flow::Open { not_before };
        self.invariants();
        Ok(())
    }

    fn find_in_flight(&self, number: SendNumber) -> Option<usize> {
        let numbered = self.queue.partition_point(|message| message.number.is_some_and(|n| n < number));
        let message = self.queue.get(numbered)?;
        (message.number == Some(number) && message.is_in_flight).then_some(numbered)
    }

    fn remove_in_flight(&mut self, index: usize) -> Outgoing {
        self.in_flight -= 1;
        self.queue.remove(index).expect("it was found there")
    }

    fn invariants(&self) {
        if cfg!(debug_assertions) {
            let mut numbers = self.queue.iter().map_while(|message| message.number);
            debug_assert!(numbers.clone().is_sorted_by(|a, b| a < b));
            debug_assert!(numbers.all(|number| number < self.next_number));
            debug_assert!(self.queue.iter().skip_while(|m| m.number.is_some()).all(|m| m.number.is_none()));
            debug_assert_eq!(self.queue.iter().filter(|message| message.is_in_flight).count(), self.in_flight);
            if matches!(self.flow, Flow::Open { .. }) {
                debug_assert!(self.queue.iter().take(self.in_flight).all(|message| message.is_in_flight));
            }
        }
    }
}

/// Whether the number counts as kept at once.
fn announce(
    keeping: Keeping,
    handle: SendHandle,
    number: SendNumber,
    on_numbered: &mut impl FnMut(SendHandle, SendNumber),
) -> bool {
    match keeping {
        Keeping::InMemory => true,
        Keeping::ByApplication => {
            on_numbered(handle, number);
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
        for text in 1..=messages {
            outbox.push(UserId(8).into(), Content::text(&text.to_string())).unwrap();
        }
        outbox
    }

    /// What leaves at `now`, as (number, text).
    fn sent(outbox: &mut Outbox, now: MonotonicMs) -> Vec<(u64, u64)> {
        outbox.number(WINDOW, |_, _| ());
        std::iter::from_fn(|| outbox.next_frame(now, WINDOW))
            .map(|frame| match frame {
                ClientFrame::Send { number, content, .. } => (number.0, content.as_text().unwrap().parse().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn refuse(outbox: &mut Outbox, number: u64, code: ErrorCode, retry_after_ms: u64, expected: u64) -> Refusal {
        outbox.refused(NOW, SendNumber(number), code, retry_after_ms, SendNumber(expected))
    }

    fn settle(outbox: &mut Outbox) {
        outbox.settle(|_, _| ()).unwrap();
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
        assert_eq!(outbox.settle(|_, _| ()), Err(Contradiction));
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
        let first = outbox.push(UserId(8).into(), Content::text("1")).unwrap();
        let second = outbox.push(UserId(8).into(), Content::text("2")).unwrap();
        let mut numbered = Vec::new();
        outbox.number(WINDOW, |handle, number| numbered.push((handle, number.0)));
        assert_eq!(numbered, [(first, 1), (second, 2)]);
        outbox.kept(second);
        assert_eq!(sent(&mut outbox, NOW), [], "not in front of the first");
        outbox.kept(first);
        assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2)]);
        refuse(&mut outbox, 1, ErrorCode::TextLength, 0, 1);
        refuse(&mut outbox, 2, ErrorCode::SendGap, 0, 1);
        let mut renumbered = Vec::new();
        outbox.settle(|handle, number| renumbered.push((handle, number.0))).unwrap();
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
}
