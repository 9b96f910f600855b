//! What devices do about who is there (SPEC 8.10).

use proto_spec::{ConversationId, Status, UserId};

use super::Devices;
use crate::{
    session::{Ask, Seen},
    verify::presence::Patience,
};

impl Devices {
    /// A device watches these users from now on and nobody else.
    pub fn watch(&mut self, slot: u32, users: Vec<UserId>, patience: &Patience) {
        let tick_us = patience.tick_ms * 1_000;
        self.turn(slot, |session, turn| session.watch(turn, users, tick_us));
    }

    /// A device asks who of these is there, if it is connected.
    pub fn fetch_presence(&mut self, slot: u32, users: Vec<UserId>, patience: &Patience) {
        let tick_us = patience.tick_ms * 1_000;
        self.turn(slot, |session, turn| session.fetch_presence(turn, users, tick_us));
    }

    /// What a device was told last of whom it watches.
    #[must_use]
    pub fn seen(&self, slot: u32) -> &[Seen] {
        self.sessions[slot as usize].seen()
    }

    /// What a device has asked for without an answer: fetches, marks, settings, who is there.
    #[must_use]
    pub fn asking(&self, slot: u32) -> usize {
        self.sessions[slot as usize].asking()
    }

    /// A device says whether somebody looks at it, now and after each welcome.
    pub fn set_status(&mut self, slot: u32, status: Status) {
        self.turn(slot, |session, turn| session.set_status(turn, status));
    }

    /// Somebody types in a conversation.
    pub fn typing(&mut self, slot: u32, conversation: impl Into<ConversationId>) {
        self.turn(slot, |session, turn| session.typing(turn, conversation.into()));
    }

    /// The user of a device blocks somebody, or does no longer; false if the device waits for too much.
    pub fn block(&mut self, slot: u32, peer: UserId, is_blocked: bool) -> bool {
        self.ask(slot, Ask::Block { peer, is_blocked })
    }

    /// The user of a device hides, or does no longer; false if the device waits for too much.
    pub fn hide(&mut self, slot: u32, is_hidden: bool) -> bool {
        self.ask(slot, Ask::Hide { is_hidden })
    }
}
