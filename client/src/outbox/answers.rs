//! What the server says of numbers: accepted, refused, given up; and what is numbered anew after a refusal.

use proto_spec::{ErrorCode, SendNumber, Seq};

use super::{Contradiction, Flow, Numbered, Outbox, Outgoing, Refusal, Wire, announce};
use crate::{
    config::Keeping,
    event::SendHandle,
    limits::{GAP_RETRY_MS, RETRY_AFTER_MAX_MS},
    state::MonotonicMs,
};

impl Outbox {
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
        on_numbered: impl FnMut(SendHandle, Option<SendNumber>),
    ) -> Refusal {
        let Some(at) = self.find_in_flight(number) else { return Refusal::Unasked };
        let refusal = match (code, self.numbered[at].wire) {
            (ErrorCode::NumberUsed, _) => self.remove(at).map_or(Refusal::Later, |of| Refusal::ForGood(of.handle)),
            (ErrorCode::GivenUp, _) => {
                self.void(at, on_numbered);
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
            } else if is_send && of.is_awaited && code == ErrorCode::RateLimited {
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
    pub(crate) fn given_up(
        &mut self,
        number: SendNumber,
        seq: Seq,
        on_numbered: impl FnMut(SendHandle, Option<SendNumber>),
    ) -> bool {
        let at = self.find_in_flight(number).filter(|at| self.numbered[*at].wire != Wire::Sent);
        // An acceptance that had been on its way has answered it.
        let Some(at) = at else { return number < self.next_number };
        if seq == Seq::ZERO {
            self.void(at, on_numbered);
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
    fn void(&mut self, at: usize, on_numbered: impl FnMut(SendHandle, Option<SendNumber>)) {
        let is_cancelled = self.numbered[at].is_cancelled;
        if let Some(message) = self.remove(at) {
            self.put_back(message, is_cancelled, on_numbered);
        }
    }

    /// A message has no number any more. Who keeps numbers is told at once: the next message may get it, be it from a server that was
    /// set back, and no two may be kept under one.
    fn put_back(
        &mut self,
        message: Outgoing,
        is_cancelled: bool,
        mut on_numbered: impl FnMut(SendHandle, Option<SendNumber>),
    ) {
        if self.keeping == Keeping::ByApplication {
            on_numbered(message.handle, None);
        }
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
            if of.is_awaited {
                self.turns.answered(message.to);
            }
            if of.is_cancelled || self.turns.is_refused(now, message.to) {
                self.put_back(message, of.is_cancelled, &mut on_numbered);
                continue;
            }
            if of.is_awaited {
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
}

/// Whether the same send would be refused again.
const fn is_for_good(code: ErrorCode, retry_after_ms: u64) -> bool {
    retry_after_ms == 0 && !matches!(code, ErrorCode::SendGap | ErrorCode::WindowFull)
}
