//! Outbox: the messages of one device without an answer, and the rules for sending them again (SPEC 8.1). Pure.
//!
//! `queue` holds consecutive send numbers from `base` on. The first `on_wire` of them were sent on this connection, and `in_flight` of
//! those, and of the numbers given up, have no answer on it. `in_flight <= 2 * on_wire` and `on_wire <= queue.len()`. What is refused for
//! good leaves the queue when everything in flight has been answered; its number goes to what is behind it.
//!
//! The first message of a connection to a conversation may be refused for the conversation's sake. Before one to another conversation
//! leaves, its number is given up (SPEC 8.1, 10): if it is refused then, that number is void, and it waits for its time without one
//! (`later`), with all that follows to the same conversation.

use std::collections::VecDeque;

use proto_spec::{ConversationId, ErrorCode, SendNumber, Seq};

use crate::{
    limits::{GAP_RETRY_MS, RETRY_AFTER_MAX_MS},
    verify::{KeptId, StreamId, Written, groups::SentId},
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
    /// A message or an act for a group.
    Group(SentId),
}

/// What leaves under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving<'a> {
    /// A send.
    Send(&'a Pending),
    /// That the number of the send before it is given up.
    GiveUp,
}

#[derive(Clone, Debug)]
struct Queued {
    message: Pending,
    /// To whom.
    to: ConversationId,
    is_answered: bool,
    /// Refused for good.
    is_void: bool,
    /// It was refused for good on an earlier connection, where its number was given up too: it is sent again to learn what became of that.
    is_told: bool,
    first: First,
}

/// Whether a message is the first one of this connection to its conversation, and has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    No,
    Yes,
    /// Yes, and its number was given up.
    GivenUp,
    /// It was refused; that its number was given up has no answer.
    Refused {
        retry_after_ms: u64,
    },
}

/// Messages to somebody that wait without numbers.
#[derive(Clone, Debug)]
struct Later {
    us: u64,
    to: ConversationId,
    messages: Vec<Pending>,
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
    later: Vec<Later>,
    /// The server of this connection knows how to give a number up.
    gives_up: bool,
    /// The device's last number when the connection began: those up to it are retries.
    known: SendNumber,
    /// To whom a message was accepted on this connection.
    opened: Vec<ConversationId>,
    /// Seq of the accepted message with the highest number: later numbers have later seqs.
    last: (SendNumber, Seq),
}

impl Outbox {
    /// A device that has sent up to `last_number` in earlier runs. `gives_up`: the server knows how to give a number up.
    #[must_use]
    pub fn new(last_number: SendNumber, gives_up: bool) -> Self {
        Self {
            base: last_number.next(),
            queue: VecDeque::new(),
            on_wire: 0,
            in_flight: 0,
            hold: Hold::None,
            later: Vec::new(),
            gives_up,
            known: last_number,
            opened: Vec::new(),
            last: (last_number, Seq::ZERO),
        }
    }

    /// Messages without an answer, sent or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len() + self.later.iter().map(|later| later.messages.len()).sum::<usize>()
    }

    /// Everything has its answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a message to somebody; its number is the next one, unless others to them wait for theirs.
    pub fn push(&mut self, to: impl Into<ConversationId>, message: Pending) {
        let to = to.into();
        match self.later.iter_mut().find(|later| later.to == to) {
            Some(later) => later.messages.push(message),
            None => self.enqueue(to, message),
        }
    }

    fn enqueue(&mut self, to: ConversationId, message: Pending) {
        self.queue.push_back(Queued {
            message,
            to,
            is_answered: false,
            is_void: false,
            is_told: false,
            first: First::No,
        });
    }

    /// A connection begins on which nothing has been sent. `gives_up`: the server knows how to give a number up.
    ///
    /// # Errors
    /// The server has forgotten sends that it has accepted, or knows some that were never made.
    pub fn connected(&mut self, last_number: SendNumber, gives_up: bool) -> Result<(), String> {
        (self.on_wire, self.in_flight, self.hold) = (0, 0, Hold::None);
        (self.known, self.gives_up) = (last_number, gives_up);
        self.opened.clear();
        for queued in self.queue.iter_mut().filter(|queued| queued.is_void && queued.first != First::No) {
            // What is behind it may have been accepted, so nothing else may have its number.
            (queued.is_void, queued.is_told) = (false, true);
        }
        self.begin_again();
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

    /// Everything that is not answered leaves anew.
    fn begin_again(&mut self) {
        self.on_wire = 0;
        self.queue.retain(|queued| !queued.is_void || queued.is_answered);
        self.queue.iter_mut().for_each(|queued| queued.first = First::No);
    }

    /// Hands out what may leave now, with at most `window` in flight.
    pub fn fill(&mut self, now_us: u64, window: usize, mut send: impl FnMut(SendNumber, Leaving<'_>)) {
        while let Some(at) = self.later.iter().position(|later| later.us <= now_us) {
            let Later { to, messages, .. } = self.later.remove(at);
            messages.into_iter().for_each(|message| self.enqueue(to, message));
        }
        match self.hold {
            Hold::None => {}
            Hold::Until { us } if us <= now_us => self.hold = Hold::None,
            Hold::Until { .. } | Hold::Draining { .. } => return,
        }
        while self.in_flight < window
            && let Some(queued) = self.queue.get(self.on_wire)
        {
            let number = SendNumber(self.base.0 + self.on_wire as u64);
            // One that was answered on an earlier connection has nothing to learn.
            if queued.is_answered {
                self.on_wire += 1;
                continue;
            }
            let (to, opens) = (queued.to, self.gives_up && !self.opened.contains(&queued.to));
            let known = self.known;
            let is_open_to = |(place, before): (u64, &Queued)| {
                // Of a retry the number may have been given up on an earlier connection.
                let is_retry = SendNumber(self.base.0 + place) <= known && !before.is_answered;
                before.to == to && (before.first != First::No || (is_retry && number > known))
            };
            if opens && (0..).zip(self.queue.range(..self.on_wire)).any(is_open_to) {
                // What follows to the same conversation waits for the answer.
                break;
            }
            if let Some(before) = self.on_wire.checked_sub(1).map(|before| &mut self.queue[before])
                && before.first == First::Yes
            {
                before.first = First::GivenUp;
                self.in_flight += 1;
                send(SendNumber(number.0 - 1), Leaving::GiveUp);
                continue;
            }
            let queued = &mut self.queue[self.on_wire];
            queued.first = if opens && number > self.known { First::Yes } else { First::No };
            self.on_wire += 1;
            self.in_flight += 1;
            send(number, Leaving::Send(&queued.message));
        }
        debug_assert!(self.in_flight <= 2 * self.on_wire && self.on_wire <= self.queue.len());
    }

    /// A send was accepted.
    ///
    /// # Errors
    /// A later number than another one has an earlier seq.
    pub fn accepted(&mut self, now_us: u64, number: SendNumber, seq: Seq) -> Result<Answer, String> {
        let Some(at) = self.waiting(number) else { return Ok(Answer::Unasked) };
        let queued = &mut self.queue[at];
        queued.is_answered = true;
        // Of a number that was given up, that is the only answer.
        self.in_flight -= if queued.first == First::GivenUp { 2 } else { 1 };
        queued.first = First::No;
        let (to, message) = (queued.to, queued.message.clone());
        if self.gives_up && !self.opened.contains(&to) {
            self.opened.push(to);
        }
        self.forget_answered();
        self.end_hold(now_us);
        let (last_number, last_seq) = self.last;
        if (number > last_number) != (seq > last_seq) {
            return Err(format!("send {number} was accepted as {seq}, but send {last_number} as {last_seq}"));
        }
        self.last = self.last.max((number, seq));
        Ok(Answer::Accepted(message))
    }

    fn forget_answered(&mut self) {
        while self.queue.front().is_some_and(|queued| queued.is_answered) {
            self.queue.pop_front();
            self.base = self.base.next();
            self.on_wire -= 1;
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
    }

    /// A send was refused, or that its number was given up.
    pub fn refused(&mut self, now_us: u64, number: SendNumber, code: ErrorCode, retry_after_ms: u64) -> Answer {
        let Some(at) = self.waiting(number) else { return Answer::Unasked };
        let is_gap = matches!(code, ErrorCode::SendGap | ErrorCode::WindowFull);
        self.in_flight -= 1;
        let is_void = code == ErrorCode::GivenUp;
        let is_final = retry_after_ms == 0 && !is_gap && !is_void && !self.queue[at].is_void;
        let refused = (is_final && !self.queue[at].is_told).then(|| self.queue[at].message.clone());
        self.queue[at].is_void |= is_final;
        match self.queue[at].first {
            First::GivenUp => {
                self.queue[at].first = First::Refused { retry_after_ms };
                return refused.map_or(Answer::Later, |message| Answer::Final(message, None));
            }
            // The number was void on an earlier connection already.
            First::No | First::Yes if is_void => return Answer::HeldUntil(self.postpone(at, now_us)),
            First::No | First::Yes | First::Refused { .. } => {}
        }
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

    /// A number was given up; gives when to go on with its message. `seq` is not zero if its message was accepted before: then nothing
    /// has changed.
    ///
    /// # Errors
    /// It was not given up, or what is said of its message is not what was said before.
    pub fn given_up(&mut self, now_us: u64, number: SendNumber, seq: Seq) -> Result<Option<u64>, String> {
        let at = self.place(number).filter(|at| *at < self.on_wire);
        let is_accepted = number < self.base || at.is_some_and(|at| self.queue[at].is_answered);
        let at = match at {
            _ if is_accepted && seq > Seq::ZERO => return Ok(None),
            Some(at) if !is_accepted && seq == Seq::ZERO => at,
            _ => return Err(format!("send {number} was given up, as {seq}, though nothing waits for that")),
        };
        let First::Refused { retry_after_ms } = self.queue[at].first else {
            return Err(format!("send {number} was given up, though it was not refused"));
        };
        self.in_flight -= 1;
        let us = self.postpone(at, now_us + retry_after_ms.min(RETRY_AFTER_MAX_MS) * 1_000);
        Ok(Some(self.end_hold(now_us).map_or(us, |held| us.max(held))))
    }

    /// A message whose number is void waits for another one, and all to the same conversation that was not sent yet with it.
    fn postpone(&mut self, at: usize, us: u64) -> u64 {
        let queued = &mut self.queue[at];
        (queued.is_answered, queued.first) = (true, First::No);
        let to = queued.to;
        let mut messages = if queued.is_void || queued.is_told { Vec::new() } else { vec![queued.message.clone()] };
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for (place, queued) in self.queue.drain(..).enumerate() {
            if place >= self.on_wire && queued.to == to && !queued.is_answered {
                messages.push(queued.message);
            } else {
                kept.push_back(queued);
            }
        }
        self.queue = kept;
        self.later.push(Later { us, to, messages });
        self.forget_answered();
        us
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
                self.begin_again();
                Some(us)
            }
            _ => None,
        }
    }

    /// Where in the queue a number is that was sent on this connection and has no answer.
    fn waiting(&self, number: SendNumber) -> Option<usize> {
        let at = self.place(number)?;
        let is_open = |queued: &Queued| !queued.is_answered && (!queued.is_void || queued.first != First::No);
        (at < self.on_wire && is_open(&self.queue[at]) && self.in_flight > 0).then_some(at)
    }

    fn place(&self, number: SendNumber) -> Option<usize> {
        usize::try_from(number.0.checked_sub(self.base.0)?).ok()
    }
}

#[cfg(test)]
mod tests;
