//! Who types: what is said of the own person, and what is told of others until it ends (SPEC 4.35, 4.39). PURE.
//!
//! Invariants: at most `TYPING_MAX` conversations are remembered, and as many people told of; nothing waits for a connection.

use proto_spec::{ClientFrame, ConversationId, UserId};

use crate::{
    event::ClientEvent,
    limits::{TYPING_AGAIN_AFTER_MS, TYPING_MAX, TYPING_SHOWN_MAX_MS},
    state::MonotonicMs,
};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typing {
    /// Where somebody types here, to be said with this turn.
    wanted: Vec<ConversationId>,
    /// Where that was said, and when.
    said: Vec<(ConversationId, MonotonicMs)>,
    /// Who types there, as the application was told.
    told: Vec<Typist>,
}

#[derive(Clone, Copy, Debug)]
struct Typist {
    conversation: ConversationId,
    user: UserId,
    until: MonotonicMs,
}

impl Typist {
    const fn ended(self) -> ClientEvent {
        ClientEvent::TypingEnded { conversation: self.conversation, user: self.user }
    }
}

impl Typing {
    /// Somebody types here.
    pub(crate) fn want(&mut self, conversation: ConversationId) {
        if !self.wanted.contains(&conversation) && self.wanted.len() < TYPING_MAX {
            self.wanted.push(conversation);
        }
    }

    /// The next one to be said; what was said a moment ago is left out.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs) -> Option<ClientFrame> {
        self.said.retain(|(_, at)| now.since(*at) < TYPING_AGAIN_AFTER_MS);
        while let Some(conversation) = self.wanted.pop() {
            if self.said.len() < TYPING_MAX && self.said.iter().all(|(said, _)| *said != conversation) {
                self.said.push((conversation, now));
                return Some(ClientFrame::Typing { conversation });
            }
        }
        None
    }

    /// The server says that somebody types; the event is none if the application knows it.
    pub(crate) fn types(
        &mut self,
        now: MonotonicMs,
        conversation: ConversationId,
        user: UserId,
        ends_in_ms: u64,
    ) -> Option<ClientEvent> {
        let until = now.after(ends_in_ms.min(TYPING_SHOWN_MAX_MS));
        if let Some(told) = self.told.iter_mut().find(|told| (told.conversation, told.user) == (conversation, user)) {
            told.until = until;
            return None;
        }
        if self.told.len() >= TYPING_MAX {
            return None;
        }
        self.told.push(Typist { conversation, user, until });
        Some(ClientEvent::Typing { conversation, user })
    }

    /// A message of this user has come.
    pub(crate) fn wrote(&mut self, conversation: ConversationId, user: UserId) -> Vec<ClientEvent> {
        self.end(|told| (told.conversation, told.user) == (conversation, user))
    }

    /// Who types no more.
    pub(crate) fn ended(&mut self, now: MonotonicMs) -> Vec<ClientEvent> {
        self.end(|told| told.until <= now)
    }

    /// The connection is gone, and nobody tells any more.
    pub(crate) fn disconnected(&mut self) -> Vec<ClientEvent> {
        self.wanted.clear();
        self.end(|_| true)
    }

    pub(crate) fn deadline(&self) -> Option<MonotonicMs> {
        self.told.iter().map(|told| told.until).min()
    }

    fn end(&mut self, ends: impl Fn(&Typist) -> bool) -> Vec<ClientEvent> {
        let ended = self.told.iter().filter(|told| ends(told)).map(|told| told.ended()).collect();
        self.told.retain(|told| !ends(told));
        ended
    }
}
