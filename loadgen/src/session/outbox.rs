//! Outbox: the messages of one device without an answer, and the rules for sending them again (SPEC 8.1). Pure.
//!
//! `queue` holds consecutive send numbers from `base` on. The first `on_wire` of them were sent on this connection, and `in_flight` of
//! those have no answer on it. `in_flight <= on_wire <= queue.len()`. What is refused for good leaves the queue when everything in flight has
//! been answered; its number goes to what is behind it.

use std::collections::VecDeque;

use proto_spec::{ErrorCode, SendNumber, Seq};

use crate::{
    limits::{GAP_RETRY_MS, RETRY_AFTER_MAX_MS},
    verify::{KeptId, StreamId, Written},
};

/// A send without its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A message.
    Message {
        /// Of which stream.
        stream: StreamId,
        /// Which of its messages.
        index: u64,
        /// What it says.
        written: Written,
    },
    /// Something about a message.
    Change {
        /// About which one.
        kept: KeptId,
        /// The side of its conversation that says it.
        side: u8,
        /// Which of its changes.
        which: u8,
    },
}

#[derive(Clone, Debug)]
struct Queued {
    message: Pending,
    is_answered: bool,
    /// Refused for good.
    is_void: bool,
}

/// Whether messages may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    None,
    /// One was refused: everything in flight must be answered before the wait begins.
    Draining {
        retry_after_ms: u64,
    },
    Until {
        us: u64,
    },
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was accepted.
    Accepted(Pending),
    /// It was refused for now; everything from there on leaves again when the hold ends.
    Later,
    /// As [`Answer::Later`], and everything in flight has been answered: the hold ends at this time, in microseconds.
    HeldUntil(u64),
    /// Nothing waits for this answer.
    Unasked,
    /// It was refused for good, which no message of a run should be; those behind it leave again when the hold ends, if that is known by now.
    Final(Pending, Option<u64>),
}

/// The messages of one device.
#[derive(Clone, Debug)]
pub struct Outbox {
    base: SendNumber,
    queue: VecDeque<Queued>,
    on_wire: usize,
    in_flight: usize,
    hold: Hold,
    /// Seq of the accepted message with the highest number: later numbers have later seqs.
    last: (SendNumber, Seq),
}

impl Outbox {
    /// A device that has sent up to `last_number` in earlier runs.
    #[must_use]
    pub fn new(last_number: SendNumber) -> Self {
        let last = (last_number, Seq::ZERO);
        Self { base: last_number.next(), queue: VecDeque::new(), on_wire: 0, in_flight: 0, hold: Hold::None, last }
    }

    /// Messages without an answer, sent or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Everything has its answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a message; its number is the next one.
    pub fn push(&mut self, message: Pending) {
        self.queue.push_back(Queued { message, is_answered: false, is_void: false });
    }

    /// A connection begins on which nothing has been sent.
    ///
    /// # Errors
    /// The server has forgotten sends that it has accepted, or knows some that were never made.
    pub fn connected(&mut self, last_number: SendNumber) -> Result<(), String> {
        (self.on_wire, self.in_flight, self.hold) = (0, 0, Hold::None);
        self.queue.retain(|queued| !queued.is_void);
        let (first, end) = (self.base.0, self.base.0 + self.queue.len() as u64);
        if last_number.0 + 1 < first || last_number.0 >= end {
            return Err(format!(
                "the server knows send {last_number} as the last one, but up to {} were accepted and up to {} sent",
                first - 1,
                end - 1
            ));
        }
        Ok(())
    }

    /// Hands out the messages that may leave now, with at most `window` in flight.
    pub fn fill(&mut self, now_us: u64, window: usize, mut send: impl FnMut(SendNumber, &Pending)) {
        match self.hold {
            Hold::None => {}
            Hold::Until { us } if us <= now_us => self.hold = Hold::None,
            Hold::Until { .. } | Hold::Draining { .. } => return,
        }
        while self.in_flight < window
            && let Some(queued) = self.queue.get(self.on_wire)
        {
            let number = SendNumber(self.base.0 + self.on_wire as u64);
            self.on_wire += 1;
            // One that was answered on an earlier connection has nothing to learn.
            if !queued.is_answered {
                self.in_flight += 1;
                send(number, &queued.message);
            }
        }
        debug_assert!(self.in_flight <= self.on_wire && self.on_wire <= self.queue.len());
    }

    /// A send was accepted.
    ///
    /// # Errors
    /// A later number than another one has an earlier seq.
    pub fn accepted(&mut self, now_us: u64, number: SendNumber, seq: Seq) -> Result<Answer, String> {
        let Some(at) = self.waiting(number) else { return Ok(Answer::Unasked) };
        self.queue[at].is_answered = true;
        self.in_flight -= 1;
        let message = self.queue[at].message.clone();
        while self.queue.front().is_some_and(|queued| queued.is_answered) {
            self.queue.pop_front();
            self.base = self.base.next();
            self.on_wire -= 1;
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        self.end_hold(now_us);
        let (last_number, last_seq) = self.last;
        if (number > last_number) != (seq > last_seq) {
            return Err(format!("send {number} was accepted as {seq}, but send {last_number} as {last_seq}"));
        }
        self.last = self.last.max((number, seq));
        Ok(Answer::Accepted(message))
    }

    /// A send was refused.
    pub fn refused(&mut self, now_us: u64, number: SendNumber, code: ErrorCode, retry_after_ms: u64) -> Answer {
        let Some(at) = self.waiting(number) else { return Answer::Unasked };
        let is_gap = matches!(code, ErrorCode::SendGap | ErrorCode::WindowFull);
        self.in_flight -= 1;
        let is_final = retry_after_ms == 0 && !is_gap;
        let refused = is_final.then(|| self.queue[at].message.clone());
        self.queue[at].is_void = is_final;
        if self.hold == Hold::None {
            let retry_after_ms = if retry_after_ms == 0 && is_gap { GAP_RETRY_MS } else { retry_after_ms };
            self.hold = Hold::Draining { retry_after_ms: retry_after_ms.min(RETRY_AFTER_MAX_MS) };
        }
        let until = self.end_hold(now_us);
        match refused {
            Some(message) => Answer::Final(message, until),
            None => until.map_or(Answer::Later, Answer::HeldUntil),
        }
    }

    /// When the hold ends, if there is one and everything in flight has been answered.
    #[must_use]
    pub const fn held_until(&self) -> Option<u64> {
        match self.hold {
            Hold::Until { us } => Some(us),
            Hold::None | Hold::Draining { .. } => None,
        }
    }

    fn end_hold(&mut self, now_us: u64) -> Option<u64> {
        match self.hold {
            Hold::Draining { retry_after_ms } if self.in_flight == 0 => {
                let us = now_us + retry_after_ms * 1000;
                self.hold = Hold::Until { us };
                self.on_wire = 0;
                self.queue.retain(|queued| !queued.is_void);
                Some(us)
            }
            _ => None,
        }
    }

    /// Where in the queue a number is that was sent on this connection and has no answer.
    fn waiting(&self, number: SendNumber) -> Option<usize> {
        let at = usize::try_from(number.0.checked_sub(self.base.0)?).ok()?;
        let is_open = |queued: &Queued| !queued.is_answered && !queued.is_void;
        (at < self.on_wire && is_open(&self.queue[at]) && self.in_flight > 0).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Text;

    fn message(index: u64) -> Pending {
        Pending::Message { stream: StreamId(0), index, written: Written::text(Text::Made(40)) }
    }

    fn outbox(messages: u64) -> Outbox {
        let mut outbox = Outbox::new(SendNumber(10));
        (0..messages).for_each(|index| outbox.push(message(index)));
        outbox.connected(SendNumber(10)).unwrap();
        outbox
    }

    fn fill(outbox: &mut Outbox, now_us: u64, window: usize) -> Vec<(u64, u64)> {
        let mut sent = Vec::new();
        outbox.fill(now_us, window, |number, pending| {
            let Pending::Message { index, .. } = pending else { panic!("{pending:?}") };
            sent.push((number.0, *index));
        });
        sent
    }

    fn accept(outbox: &mut Outbox, number: u64) -> Answer {
        outbox.accepted(0, SendNumber(number), Seq(number * 2)).unwrap()
    }

    #[test]
    fn a_window_is_filled_in_order_and_again_as_answers_come() {
        let mut outbox = outbox(4);
        assert_eq!(fill(&mut outbox, 0, 2), [(11, 0), (12, 1)]);
        assert_eq!(fill(&mut outbox, 0, 2), []);
        assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)));
        assert_eq!(fill(&mut outbox, 0, 2), [(13, 2)]);
        assert_eq!(accept(&mut outbox, 11), Answer::Unasked);
        assert_eq!(accept(&mut outbox, 14), Answer::Unasked, "not sent yet");
        assert_eq!(outbox.len(), 3);
    }

    #[test]
    fn after_a_reconnect_the_unanswered_are_sent_again_under_their_numbers() {
        let mut outbox = outbox(3);
        fill(&mut outbox, 0, 3);
        accept(&mut outbox, 12);
        outbox.connected(SendNumber(12)).unwrap();
        assert_eq!(fill(&mut outbox, 0, 3), [(11, 0), (13, 2)]);
        accept(&mut outbox, 13);
        assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)), "answers to retries may come late");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_server_that_has_forgotten_or_invented_sends_is_found() {
        let mut outbox = outbox(2);
        fill(&mut outbox, 0, 2);
        accept(&mut outbox, 11);
        assert!(outbox.connected(SendNumber(10)).unwrap_err().contains("up to 11 were accepted"));
        assert!(outbox.connected(SendNumber(13)).unwrap_err().contains("up to 12 sent"));
        assert!(outbox.connected(SendNumber(11)).is_ok() && outbox.connected(SendNumber(12)).is_ok());
    }

    #[test]
    fn after_a_refusal_everything_in_flight_is_waited_for_and_then_the_time() {
        let mut outbox = outbox(4);
        fill(&mut outbox, 0, 3);
        accept(&mut outbox, 11);
        assert_eq!(outbox.refused(0, SendNumber(12), ErrorCode::Overloaded, 200), Answer::Later);
        assert_eq!(fill(&mut outbox, 0, 3), []);
        assert_eq!(outbox.refused(5, SendNumber(13), ErrorCode::SendGap, 0), Answer::HeldUntil(200_005));
        assert_eq!(fill(&mut outbox, 200_004, 3), []);
        assert_eq!(fill(&mut outbox, 200_005, 3), [(12, 1), (13, 2), (14, 3)]);
    }

    #[test]
    fn what_is_refused_for_good_leaves_its_number_to_what_is_behind_it() {
        let mut outbox = outbox(4);
        fill(&mut outbox, 0, 3);
        accept(&mut outbox, 11);
        assert_eq!(outbox.refused(7, SendNumber(12), ErrorCode::TakenBack, 0), Answer::Final(message(1), None));
        assert_eq!(fill(&mut outbox, 7, 3), []);
        assert_eq!(outbox.refused(7, SendNumber(13), ErrorCode::SendGap, 0), Answer::HeldUntil(7));
        assert_eq!(fill(&mut outbox, 7, 3), [(12, 2), (13, 3)]);
        accept(&mut outbox, 12);
        assert_eq!(outbox.refused(7, SendNumber(13), ErrorCode::TooLate, 0), Answer::Final(message(3), Some(7)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_refused_for_good_is_not_sent_on_the_next_connection() {
        let mut outbox = outbox(3);
        fill(&mut outbox, 0, 3);
        outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0);
        outbox.connected(SendNumber(10)).unwrap();
        assert_eq!(fill(&mut outbox, 0, 3), [(11, 1), (12, 2)]);
    }

    #[test]
    fn later_numbers_must_have_later_seqs() {
        let mut outbox = outbox(2);
        fill(&mut outbox, 0, 2);
        outbox.accepted(0, SendNumber(11), Seq(7)).unwrap();
        assert!(outbox.accepted(0, SendNumber(12), Seq(7)).unwrap_err().contains("send 12 was accepted as 7"));
    }
}
