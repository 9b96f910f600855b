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
//! waits for its time without a number. Had it been accepted, giving up changes nothing. Where the server does not know how to give a
//! number up, one that is refused holds up those behind it for a round trip.
//!
//! So of each conversation only the last number may be void, be it on a connection that was lost before the device was told. After a
//! reconnect a new message waits until the last one of its conversation that is sent again is answered, or it would overtake it.
//!
//! Invariants: numbers ascend and are below `next_number`; handles in `waiting` ascend; the first `sent` of `numbered` were sent on this
//! connection, or refused on it, and no others.

mod answers;

use std::collections::{HashSet, VecDeque};

use proto_spec::{ClientFrame, Content, ConversationId, SendNumber};

use crate::{
    config::{Keeping, Unanswered},
    event::{SendError, SendHandle},
    limits::QUEUED_MESSAGES_MAX,
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
    is_awaited: bool,
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
    /// The server of this connection knows how to give a number up.
    gives_up: bool,
    /// A server said that it does not know that, after its welcome had said that it does.
    is_give_up_unknown: bool,
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
            gives_up: true,
            is_give_up_unknown: false,
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
                        is_awaited: false,
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

    /// The log was replaced by one in which `last_number` is the last that was accepted: a change of an older message may mean another one
    /// there. Lets go of those that are not in that log.
    pub(crate) fn drop_changes(&mut self, last_number: SendNumber) -> Vec<SendHandle> {
        let mut dropped = Vec::new();
        let mut drops = |message: &Outgoing| {
            let is_change = message.content.about().is_some();
            dropped.extend(is_change.then_some(message.handle));
            is_change
        };
        self.numbered.retain(|of| of.number <= last_number || !of.message.as_ref().is_some_and(&mut drops));
        self.waiting.retain(|message| !drops(message));
        dropped.sort();
        dropped
    }

    /// Takes out what waits without a number and can not be sent for this reason.
    pub(crate) fn take_untaken(
        &mut self,
        why: impl Fn(ConversationId, &Content) -> Option<SendError>,
    ) -> Vec<(Outgoing, SendError)> {
        let (mut untaken, mut waiting) = (Vec::new(), VecDeque::new());
        for message in self.waiting.drain(..) {
            match why(message.to, &message.content) {
                Some(why) => untaken.push((message, why)),
                None => waiting.push_back(message),
            }
        }
        self.waiting = waiting;
        untaken
    }

    /// A connection begins; `last_number` is the last that the server accepted from this device. Whether numbers can be given up there.
    /// [`Outbox::settle`] follows.
    pub(crate) fn connected(&mut self, last_number: SendNumber, gives_up: bool) {
        self.gives_up = gives_up && !self.is_give_up_unknown;
        // A device without memory goes on after what the server knows, and so does one that has more: the server was set back (SPEC 8.1).
        // Numbered messages keep theirs, if the server may know one of them: those up to `last_number` were accepted and get their first
        // answer again; if there is a gap, a refusal will say so.
        let expected = last_number.next();
        match (self.numbered.front(), self.flow) {
            (None, _) => self.next_number = expected,
            (Some(lowest), Flow::Open { not_before }) if lowest.number > expected => {
                self.flow = Flow::Draining { not_before, expected };
            }
            (Some(_), _) => self.next_number = self.next_number.max(expected),
        }
        // The number of the last one to a conversation may be void; those before it were not given up, for others were to follow them.
        let mut later = HashSet::new();
        for of in self.numbered.iter_mut().rev() {
            let message = of.message.as_ref().filter(|message| later.insert(message.to));
            of.is_awaited = message.is_some();
            if let Some(message) = message {
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
                is_awaited: self.turns.sends(message.to),
                wire: Wire::Unsent,
                message: Some(message),
            });
            self.next_number = self.next_number.next();
        }
        self.invariants();
    }

    /// The application has kept this number of this message. One that the message does not have any more says nothing of the one it has.
    pub(crate) fn kept(&mut self, handle: SendHandle, number: SendNumber) {
        let Ok(at) = self.numbered.binary_search_by_key(&number, |of| of.number) else { return };
        let of = &mut self.numbered[at];
        of.is_kept |= of.message.as_ref().is_some_and(|message| message.handle == handle);
    }

    /// A server does not know how to give a number up, though it had said so: never again. What is on the wire has to be asked for anew.
    pub(crate) fn give_up_is_unknown(&mut self) {
        self.is_give_up_unknown = true;
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
        let is_given_up = |next: &Numbered| next.is_cancelled && self.gives_up;
        let next = self.numbered.get(self.sent).filter(|next| next.is_kept || is_given_up(next))?;
        let is_given_up = is_given_up(next);
        let before = self.sent.checked_sub(1).filter(|_| self.gives_up).and_then(|at| self.numbered.get_mut(at));
        if let Some(before) = before.filter(|before| before.is_awaited && before.wire == Wire::Sent) {
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

    fn find_in_flight(&self, number: SendNumber) -> Option<usize> {
        let at = self.numbered.partition_point(|of| of.number < number);
        let of = self.numbered.get(at)?;
        (of.number == number && of.wire.awaits_answer()).then_some(at)
    }

    /// A number that was in flight is answered for good. Nobody waits for that any more.
    fn remove(&mut self, at: usize) -> Option<Outgoing> {
        self.in_flight -= 1;
        self.sent -= 1;
        let Numbered { message, is_awaited, .. } = self.numbered.remove(at)?;
        if let Some(message) = message.as_ref().filter(|_| is_awaited) {
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
mod tests;
