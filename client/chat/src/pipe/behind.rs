//! Changes of messages that have no answer yet, and so no name by which they could be changed: they wait for it, in order.
//!
//! Invariant: at most `BEHIND_MAX` wait, by ascending ordinal. One whose message is refused is refused with it.

use std::collections::VecDeque;

use client::{Content, ConversationId, MessageName, SendHandle};

use crate::content::typed_over;

/// Changes that wait. As many as messages may be without an answer; beyond it the input is not read.
const BEHIND_MAX: usize = client::limits::QUEUED_MESSAGES_MAX;

/// What a message is to say from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Edit(String),
    Unsend,
}

impl Change {
    /// Of the message of this name, which is a text.
    pub(crate) fn of(&self, name: MessageName) -> Content {
        match self {
            Self::Edit(text) => Content::edit(name, &Content::text(text), None),
            Self::Unsend => Content::unsend(name, None),
        }
    }

    /// Of the message of this name, which says this.
    pub(crate) fn over(&self, name: MessageName, says: &Content) -> Content {
        match self {
            Self::Edit(text) => Content::edit(name, &typed_over(says, text), None),
            Self::Unsend => self.of(name),
        }
    }
}

/// The message that is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// It has no answer.
    Sent(SendHandle),
    Named(MessageName),
}

#[derive(Clone, Debug)]
struct Waiting {
    ordinal: u64,
    to: ConversationId,
    of: Of,
    change: Change,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    waiting: VecDeque<Waiting>,
}

impl Behind {
    pub(crate) const fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= BEHIND_MAX
    }

    /// One of them has only not found room.
    pub(crate) fn has_ready(&self) -> bool {
        self.waiting.iter().any(|waiting| matches!(waiting.of, Of::Named(_)))
    }

    /// The change, which counts as this message of the run, waits for the answer to another one.
    pub(crate) fn push(&mut self, ordinal: u64, to: ConversationId, of: SendHandle, change: Change) {
        self.waiting.push_back(Waiting { ordinal, to, of: Of::Sent(of), change });
    }

    /// The message was accepted, under this name.
    pub(crate) fn accepted(&mut self, handle: SendHandle, name: MessageName) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.of == Of::Sent(handle)) {
            waiting.of = Of::Named(name);
        }
    }

    /// The message is in no log. The changes that go with it.
    pub(crate) fn refused(&mut self, handle: SendHandle) -> Vec<u64> {
        self.take(|waiting| waiting.of == Of::Sent(handle))
    }

    /// Names have another meaning from now on. The changes that go with them.
    pub(crate) fn names_are_void(&mut self) -> Vec<u64> {
        self.take(|waiting| matches!(waiting.of, Of::Named(_)))
    }

    /// The newest one that waits, if it is newer than this message.
    pub(crate) fn cancel_newest(&mut self, than: Option<u64>) -> Option<u64> {
        self.waiting.back().filter(|waiting| Some(waiting.ordinal) > than)?;
        self.waiting.pop_back().map(|waiting| waiting.ordinal)
    }

    /// Hands over what can be sent, in order, until there is no room.
    pub(crate) fn send(&mut self, mut takes: impl FnMut(u64, ConversationId, Content) -> bool) {
        while let Some(at) = self.waiting.iter().position(|waiting| matches!(waiting.of, Of::Named(_))) {
            let Some(Waiting { ordinal, to, of: Of::Named(name), change }) = self.waiting.get(at).cloned() else {
                return;
            };
            if !takes(ordinal, to, change.of(name)) {
                return;
            }
            self.waiting.remove(at);
        }
    }

    fn take(&mut self, goes: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let gone = self.waiting.iter().filter(|waiting| goes(waiting)).map(|waiting| waiting.ordinal).collect();
        self.waiting.retain(|waiting| !goes(waiting));
        gone
    }
}

#[cfg(test)]
mod tests {
    use client::{Seq, UserId};

    use super::*;

    #[test]
    fn changes_leave_in_their_order_once_their_message_has_a_name_and_go_with_one_that_is_refused() {
        let to = UserId(8).into();
        let name = |seq| MessageName { author: UserId(7), seq: Seq(seq) };
        let mut behind = Behind::new();
        behind.push(2, to, SendHandle(1), Change::Edit("a".into()));
        behind.push(4, to, SendHandle(2), Change::Unsend);
        behind.push(5, to, SendHandle(1), Change::Unsend);
        let sent = |behind: &mut Behind, room: usize| {
            let mut sent = Vec::new();
            behind.send(|ordinal, _, content| {
                let is_room = sent.len() < room;
                sent.extend(is_room.then_some((ordinal, content)));
                is_room
            });
            sent
        };
        assert_eq!(sent(&mut behind, 9), []);
        behind.accepted(SendHandle(1), name(3));
        assert_eq!(sent(&mut behind, 1), [(2, Content::edit(name(3), &Content::text("a"), None))]);
        assert_eq!(behind.refused(SendHandle(2)), [4]);
        assert_eq!(sent(&mut behind, 1), [(5, Content::unsend(name(3), None))]);
        assert_eq!(behind.len(), 0);
        behind.push(7, to, SendHandle(6), Change::Unsend);
        assert_eq!((behind.cancel_newest(Some(8)), behind.cancel_newest(Some(6))), (None, Some(7)));
    }
}
