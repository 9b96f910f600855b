//! The conversation that is shown: opening it, scrolling, older messages that are fetched, and up to where it has been read.

use client::{ConversationId, Seq};

use super::{Model, events::Retold};
use crate::screen::{
    draw,
    effect::Effect,
    messages::{MESSAGES_MAX, Older},
};

/// Messages of one page of older history, at least; a high screen asks for as many as it shows.
const PAGE_MIN: u64 = 20;

impl Model {
    /// Shows the conversation that is chosen in the list.
    pub(super) fn open_chosen(&mut self, effects: &mut Vec<Effect>) {
        match self.list.chosen() {
            Some(peer) if peer == self.peer => self.list.is_open = false,
            Some(peer) => self.switch(peer, effects),
            None => self.say("There is no conversation yet: /to USER begins one."),
        }
    }

    pub(super) fn switch(&mut self, peer: ConversationId, effects: &mut Vec<Effect>) {
        self.list.is_open = false;
        self.peer = peer;
        self.messages.switch(peer);
        self.unread.remove(&peer);
        self.read = Seq::ZERO;
        (self.fetching, self.filling) = (None, None);
        self.follow();
        self.fetch(self.page(), effects);
        self.ask_name(effects);
    }

    pub(super) fn fetch(&mut self, limit: u64, effects: &mut Vec<Effect>) {
        let Older::UpTo(from) = self.messages.older else { return };
        if self.fetching.is_some() || limit == 0 {
            return;
        }
        if self.messages.kept() >= MESSAGES_MAX {
            return self.say(format!("Older messages are not shown here: {MESSAGES_MAX} are the most."));
        }
        effects.push(Effect::Fetch { peer: self.peer, from, limit });
    }

    /// Messages of one page.
    pub(super) fn page(&self) -> u64 {
        PAGE_MIN.max(self.size.1.into())
    }

    pub(super) fn scroll_up(&mut self, rows: usize, effects: &mut Vec<Effect>) {
        let (anchor, is_top) = draw::up(self, rows);
        self.anchor = anchor;
        if is_top {
            self.fetch(self.page(), effects);
        }
    }

    pub(super) fn scroll_down(&mut self, rows: usize) {
        match draw::down(self, rows) {
            Some(anchor) => self.anchor = Some(anchor),
            None => self.follow(),
        }
    }

    pub(super) fn follow(&mut self) {
        self.anchor = None;
        self.unseen = 0;
    }

    /// What is shown has been read, if it is the newest.
    pub(super) fn mark_read(&mut self, effects: &mut Vec<Effect>) {
        let is_seen = self.anchor.is_none() && !self.list.is_open && self.retold == Retold::Done;
        if let Some(up_to) = self.messages.last_received().filter(|last| is_seen && *last > self.read) {
            self.read = up_to;
            effects.push(Effect::MarkRead { peer: self.peer, up_to });
        }
    }
}
