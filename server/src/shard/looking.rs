//! Looking: conversations in which the message is being looked for that a change is about, and what has come behind the change meanwhile:
//! it must not overtake it.
//!
//! Invariant: `bytes` is the sum of what the envelopes here hold.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, UserId};

use super::input::Envelope;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Looking {
    behind: HashMap<(UserId, ConversationId), VecDeque<Envelope>, RandomState>,
    bytes: usize,
}

impl Looking {
    /// Begins in a conversation in which nothing is being looked for.
    pub(super) fn begin(&mut self, of: (UserId, ConversationId)) {
        let earlier = self.behind.insert(of, VecDeque::new());
        assert!(earlier.is_none(), "what comes behind a change waits, other changes too");
    }

    /// How many wait in this conversation; none: nothing is being looked for there.
    pub(super) fn waiting(&self, of: (UserId, ConversationId)) -> Option<usize> {
        // Mostly nothing is looked for anywhere.
        if self.behind.is_empty() { None } else { self.behind.get(&of).map(VecDeque::len) }
    }

    /// One more has come.
    pub(super) fn wait(&mut self, of: (UserId, ConversationId), envelope: Envelope) {
        if let Some(behind) = self.behind.get_mut(&of) {
            self.bytes += envelope.bytes();
            behind.push_back(envelope);
        }
    }

    /// It has been found, or can not be. What came behind it, in its order.
    pub(super) fn end(&mut self, of: (UserId, ConversationId)) -> VecDeque<Envelope> {
        let behind = self.behind.remove(&of).unwrap_or_default();
        self.bytes -= behind.iter().map(Envelope::bytes).sum::<usize>();
        behind
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes
    }
}
