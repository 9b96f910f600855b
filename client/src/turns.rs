//! Turns: which conversations may be written to now.
//!
//! A server may refuse a message because of the conversation that it opens, and take those to others (`limits.opened_per_s` of an
//! operator). Until a message to a conversation was accepted on this connection, the next ones to it wait for that: so one that is
//! refused is not overtaken by a later one, and only it has to wait.

use std::collections::{HashMap, VecDeque};

use proto_spec::ConversationId;

use crate::{limits::OPEN_CONVERSATIONS_MAX, state::MonotonicMs};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    /// Where messages were accepted on this connection, the last one at the end.
    open: VecDeque<ConversationId>,
    /// Where the next message has to wait: at most as many as there are messages.
    waiting: HashMap<ConversationId, Wait>,
}

/// What the next message to a conversation waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    /// The answer to the one before it, be it that it was refused and its number is not void yet.
    answer: bool,
    /// This time.
    until: MonotonicMs,
}

impl Turns {
    /// Whether a message to there may leave.
    pub(crate) fn may_send(&self, now: MonotonicMs, to: ConversationId) -> bool {
        self.waiting.get(&to).is_none_or(|wait| !wait.answer && wait.until <= now)
    }

    /// A message to there will leave. Whether the next one has to wait for its answer.
    pub(crate) fn sends(&mut self, to: ConversationId) -> bool {
        let is_first = !self.open.contains(&to);
        if is_first {
            self.waiting.insert(to, Wait { answer: true, ..Wait::default() });
        }
        is_first
    }

    /// A message to there was accepted. That does not help those who wait for another one.
    pub(crate) fn accepted(&mut self, to: ConversationId) {
        if self.waiting.get(&to).is_some_and(|wait| wait.answer) {
            return;
        }
        self.waiting.remove(&to);
        if self.open.back() != Some(&to) {
            self.open.retain(|open| *open != to);
            self.open.push_back(to);
            if self.open.len() > OPEN_CONVERSATIONS_MAX {
                self.open.pop_front();
            }
        }
    }

    /// Messages to there are refused for so long.
    pub(crate) fn refused_until(&mut self, now: MonotonicMs, to: ConversationId, wait_ms: u64) {
        self.open.retain(|open| *open != to);
        self.waiting.retain(|_, wait| wait.answer || wait.until > now);
        self.waiting.entry(to).or_default().until = now.after(wait_ms);
    }

    /// Whether messages to there are refused for a time.
    pub(crate) fn is_refused(&self, now: MonotonicMs, to: ConversationId) -> bool {
        self.waiting.get(&to).is_some_and(|wait| wait.until > now)
    }

    /// The message to there whose answer the next one waits for has it, or will not get one.
    pub(crate) fn answered(&mut self, to: ConversationId) {
        if let Some(wait) = self.waiting.get_mut(&to) {
            wait.answer = false;
            if wait.until == MonotonicMs(0) {
                self.waiting.remove(&to);
            }
        }
    }

    /// The connection is gone, and with it what the server knew.
    pub(crate) fn disconnected(&mut self) {
        self.open.clear();
        self.waiting.retain(|_, wait| wait.until > MonotonicMs(0));
        self.waiting.values_mut().for_each(|wait| wait.answer = false);
    }

    /// When the next of those that are refused for a time may be written to.
    pub(crate) fn deadline(&self, now: MonotonicMs) -> Option<MonotonicMs> {
        self.waiting.values().map(|wait| wait.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;

    use super::*;

    const NOW: MonotonicMs = MonotonicMs(1_000);
    const HERE: ConversationId = ConversationId::Person(UserId(8));
    const THERE: ConversationId = ConversationId::Person(UserId(9));

    #[test]
    fn a_conversation_is_open_once_a_message_was_accepted_there() {
        let mut turns = Turns::default();
        assert!(turns.may_send(NOW, HERE) && turns.sends(HERE));
        assert!(!turns.may_send(NOW, HERE) && turns.may_send(NOW, THERE));
        turns.accepted(HERE);
        assert!(!turns.may_send(NOW, HERE), "an older one, before it was forgotten that the conversation is open");
        turns.answered(HERE);
        turns.accepted(HERE);
        assert!(!turns.sends(HERE) && turns.may_send(NOW, HERE));
        turns.disconnected();
        assert!(turns.sends(HERE), "another connection, another server");
        turns.answered(HERE);
        assert!(turns.may_send(NOW, HERE));
    }

    #[test]
    fn one_that_was_refused_waits_for_its_time_over_all_connections() {
        let mut turns = Turns::default();
        turns.accepted(HERE);
        turns.refused_until(NOW, HERE, 500);
        turns.answered(HERE);
        turns.disconnected();
        assert_eq!(turns.deadline(NOW), Some(NOW.after(500)));
        assert!(!turns.may_send(NOW.after(499), HERE) && turns.may_send(NOW.after(500), HERE));
        assert_eq!(turns.deadline(NOW.after(500)), None);
        assert!(turns.sends(HERE));
    }

    #[test]
    fn one_that_is_refused_is_not_overtaken_before_its_number_is_void_however_long_that_takes() {
        let mut turns = Turns::default();
        assert!(turns.sends(HERE));
        turns.refused_until(NOW, HERE, 500);
        assert!(!turns.may_send(NOW.after(1_000), HERE));
        turns.answered(HERE);
        assert!(turns.may_send(NOW.after(1_000), HERE));
    }

    #[test]
    fn of_many_the_last_ones_are_remembered() {
        let mut turns = Turns::default();
        (1..=OPEN_CONVERSATIONS_MAX as u64 + 1).for_each(|user| turns.accepted(UserId(user).into()));
        assert!(turns.sends(UserId(1).into()) && !turns.sends(UserId(2).into()));
    }
}
