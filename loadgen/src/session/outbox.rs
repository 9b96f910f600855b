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

use proto_spec::{ErrorCode, SendNumber, Seq, UserId};

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
    to: UserId,
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
    to: UserId,
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
    opened: Vec<UserId>,
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
    pub fn push(&mut self, to: UserId, message: Pending) {
        match self.later.iter_mut().find(|later| later.to == to) {
            Some(later) => later.messages.push(message),
            None => self.enqueue(to, message),
        }
    }

    fn enqueue(&mut self, to: UserId, message: Pending) {
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
            let is_first_to = |queued: &Queued| queued.to == to && queued.first != First::No;
            if opens && self.queue.range(..self.on_wire).any(is_first_to) {
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
mod tests {
    use super::*;
    use crate::verify::Text;

    /// As [`fill`] shows that a number is given up.
    const GIVE_UP: u64 = 99;

    fn message(index: u64) -> Pending {
        Pending::Message { stream: StreamId(0), index, written: Written::text(Text::Made(40)) }
    }

    fn outbox(messages: u64) -> Outbox {
        let mut outbox = Outbox::new(SendNumber(10), false);
        (0..messages).for_each(|index| outbox.push(UserId(8), message(index)));
        outbox.connected(SendNumber(10), false).unwrap();
        outbox
    }

    fn fill(outbox: &mut Outbox, now_us: u64, window: usize) -> Vec<(u64, u64)> {
        let mut sent = Vec::new();
        outbox.fill(now_us, window, |number, leaving| match leaving {
            Leaving::Send(Pending::Message { index, .. }) => sent.push((number.0, *index)),
            Leaving::GiveUp => sent.push((number.0, GIVE_UP)),
            Leaving::Send(pending) => panic!("{pending:?}"),
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
        outbox.connected(SendNumber(12), false).unwrap();
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
        assert!(outbox.connected(SendNumber(10), false).unwrap_err().contains("up to 11 were accepted"));
        assert!(outbox.connected(SendNumber(13), false).unwrap_err().contains("up to 12 sent"));
        assert!(outbox.connected(SendNumber(11), false).is_ok() && outbox.connected(SendNumber(12), false).is_ok());
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
        outbox.connected(SendNumber(10), false).unwrap();
        assert_eq!(fill(&mut outbox, 0, 3), [(11, 1), (12, 2)]);
    }

    #[test]
    fn later_numbers_must_have_later_seqs() {
        let mut outbox = outbox(2);
        fill(&mut outbox, 0, 2);
        outbox.accepted(0, SendNumber(11), Seq(7)).unwrap();
        assert!(outbox.accepted(0, SendNumber(12), Seq(7)).unwrap_err().contains("send 12 was accepted as 7"));
    }
    /// To these users, message 0, 1, 2, ..., on a connection to a server that knows how to give numbers up.
    fn to(users: &[u64]) -> Outbox {
        let mut outbox = Outbox::new(SendNumber(10), false);
        (0..).zip(users).for_each(|(index, user)| outbox.push(UserId(*user), message(index)));
        outbox.connected(SendNumber(10), true).unwrap();
        outbox
    }

    #[test]
    fn the_number_of_a_first_message_is_given_up_before_one_to_somebody_else_and_nobodys_else() {
        let mut outbox = to(&[8, 9, 8, 8]);
        assert_eq!(fill(&mut outbox, 0, 9), [(11, 0), (11, GIVE_UP), (12, 1)], "what follows to user 8 waits");
        assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)));
        // That to user 9 is the last one that was sent.
        assert_eq!(fill(&mut outbox, 0, 9), [(12, GIVE_UP), (13, 2), (14, 3)]);
        (12..15).for_each(|number| drop(accept(&mut outbox, number)));
        assert!(outbox.is_empty() && outbox.in_flight == 0);
        assert_eq!(outbox.given_up(0, SendNumber(12), Seq(24)), Ok(None), "it came after it was accepted");
        assert!(outbox.given_up(0, SendNumber(12), Seq::ZERO).is_err());
    }

    #[test]
    fn a_first_message_that_is_refused_waits_without_a_number_and_holds_up_its_conversation_only() {
        let mut outbox = to(&[8, 9, 8]);
        fill(&mut outbox, 0, 9);
        assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 5), Answer::Later);
        assert_eq!(outbox.given_up(0, SendNumber(11), Seq::ZERO), Ok(Some(5_000)));
        outbox.push(UserId(8), message(3));
        outbox.push(UserId(9), message(4));
        assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
        assert_eq!((fill(&mut outbox, 4_999, 9), outbox.len()), (vec![(13, 4)], 4));
        assert_eq!(fill(&mut outbox, 5_000, 9), [(14, 0)]);
        assert_eq!(accept(&mut outbox, 14), Answer::Accepted(message(0)));
        assert_eq!(fill(&mut outbox, 5_000, 9), [(15, 2), (16, 3)]);
    }

    #[test]
    fn if_the_number_is_not_given_up_everything_waits_as_after_any_refusal() {
        let mut outbox = to(&[8, 9]);
        fill(&mut outbox, 0, 9);
        assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 5), Answer::Later);
        assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 7), Answer::Later);
        assert_eq!(outbox.refused(0, SendNumber(12), ErrorCode::SendGap, 0), Answer::HeldUntil(7_000));
        assert_eq!(fill(&mut outbox, 7_000, 9), [(11, 0), (11, GIVE_UP), (12, 1)]);
    }

    #[test]
    fn a_number_that_was_void_on_an_earlier_connection_is_not_used_again() {
        let mut outbox = to(&[8, 9, 8]);
        fill(&mut outbox, 0, 9);
        // The answers got lost: number 11 is void, 12 was accepted.
        outbox.connected(SendNumber(12), true).unwrap();
        assert_eq!(fill(&mut outbox, 0, 2), [(11, 0), (12, 1)]);
        assert_eq!(outbox.refused(7, SendNumber(11), ErrorCode::GivenUp, 0), Answer::HeldUntil(7));
        assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
        assert_eq!(fill(&mut outbox, 7, 9), [(13, 0)]);
        assert_eq!(accept(&mut outbox, 13), Answer::Accepted(message(0)));
        assert_eq!(fill(&mut outbox, 7, 9), [(14, 2)]);
    }

    #[test]
    fn a_first_message_that_is_refused_for_good_leaves_its_number_void() {
        let mut outbox = to(&[8, 9]);
        fill(&mut outbox, 0, 9);
        assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0), Answer::Final(message(0), None));
        assert_eq!(outbox.given_up(0, SendNumber(11), Seq::ZERO), Ok(Some(0)));
        assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn nothing_else_gets_the_number_of_what_was_refused_for_good_and_given_up_without_an_answer() {
        for is_void in [true, false] {
            let mut outbox = to(&[8, 9]);
            fill(&mut outbox, 0, 9);
            outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0);
            // Whether number 11 is void is not known; 12 may have been accepted.
            outbox.connected(SendNumber(if is_void { 12 } else { 10 }), true).unwrap();
            assert_eq!(fill(&mut outbox, 0, 2)[0], (11, 0));
            let again =
                outbox.refused(0, SendNumber(11), if is_void { ErrorCode::GivenUp } else { ErrorCode::TakenBack }, 0);
            if is_void {
                assert_eq!((again, accept(&mut outbox, 12)), (Answer::HeldUntil(0), Answer::Accepted(message(1))));
            } else {
                // It is not told again.
                assert_eq!(again, Answer::Later);
                assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::TooLate, 0), Answer::HeldUntil(0));
                assert_eq!(fill(&mut outbox, 0, 9), [(11, 1)]);
            }
        }
    }

    #[test]
    fn what_was_not_given_up_or_not_refused_can_not_be_void() {
        let mut outbox = to(&[8, 9]);
        fill(&mut outbox, 0, 9);
        for (number, seq) in [(11, 0), (12, 0), (13, 0), (11, 5)] {
            assert!(outbox.given_up(0, SendNumber(number), Seq(seq)).is_err(), "{number} as {seq}");
        }
    }
}
