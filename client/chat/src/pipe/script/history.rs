//! The history before this run, which is told before what is new: what happens meanwhile is held back.
//!
//! Invariant: at most `HELD_MAX` events are held; beyond it they are told and the history is left out.

use client::{ClientEvent, ConversationId, Direction, Page, Seq};

use super::Script;
use crate::pipe::line::{Line, Origin};

/// Events that wait for the history which is to be told before them. A backlog of days; beyond it the history is left out.
const HELD_MAX: usize = 10_000;

/// Where older history begins.
pub(super) enum Older {
    /// Up to this seq, included.
    UpTo(Seq),
    Nothing,
}

impl Script {
    pub(crate) fn on_event(&mut self, event: ClientEvent) -> Vec<Line> {
        match (&mut self.held, event) {
            (Some(held), event) if is_of_the_log(&event) => {
                held.push(event);
                if held.len() < HELD_MAX {
                    return Vec::new();
                }
                self.fetching = None;
                let mut lines = vec![Line::Problem("what is new is so much that the history is left out".into())];
                lines.extend(self.release());
                lines
            }
            (_, event) => self.tell(event),
        }
    }

    /// Tells what was held back.
    pub(super) fn release(&mut self) -> Vec<Line> {
        self.held.take().into_iter().flatten().flat_map(|event| self.tell(event)).collect()
    }

    /// What follows is of another conversation.
    pub(super) fn leave_behind(&mut self, peer: ConversationId) -> Vec<Line> {
        self.who.peer = peer;
        // A page of the conversation left behind would be shown as one of this.
        self.fetching = None;
        self.older = Older::Nothing;
        self.release()
    }

    pub(super) fn switch(&mut self, peer: ConversationId) -> Vec<Line> {
        let mut lines = self.leave_behind(peer);
        // Zero means the head: what was missed here while writing to somebody else.
        self.older = Older::UpTo(Seq::ZERO);
        lines.extend(self.show_history(self.who.history));
        lines
    }

    pub(super) fn show_history(&mut self, count: u64) -> Vec<Line> {
        let Older::UpTo(from) = self.older else { return Vec::new() };
        if count == 0 || self.fetching.is_some() {
            return Vec::new();
        }
        match self.client.fetch_conversation(self.who.peer, from, Direction::Backwards, count) {
            Ok(fetch) => {
                self.fetching = Some(fetch);
                Vec::new()
            }
            Err(error) => vec![Line::Problem(error.to_string())],
        }
    }

    pub(super) fn on_history(&mut self, page: &Page) -> Vec<Line> {
        self.older = if page.more && page.first > Seq(1) { Older::UpTo(page.first.previous()) } else { Older::Nothing };
        page.entries.iter().for_each(|entry| self.told.entry(entry, self.me));
        let mut lines: Vec<Line> =
            page.entries.iter().filter_map(|entry| self.told_of(entry, Origin::History)).collect();
        if page.delivered_up_to > Seq::ZERO {
            lines.push(Line::Delivered { peer: self.who.peer, up_to: page.delivered_up_to });
        }
        if page.seen_up_to > Seq::ZERO {
            lines.push(Line::Seen { peer: self.who.peer, up_to: page.seen_up_to });
        }
        lines
    }
}

/// What must not be told before the history.
const fn is_of_the_log(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Entry(_)
        | ClientEvent::MessageAccepted { .. }
        | ClientEvent::MessageRefused { .. }
        | ClientEvent::MessageReturned { .. }
        | ClientEvent::MessageCancelled { .. }
        | ClientEvent::GroupEntry { .. }
        | ClientEvent::Committed { .. } => true,
        ClientEvent::Welcome(_)
        | ClientEvent::LogReplaced { .. }
        | ClientEvent::Epoch(_)
        | ClientEvent::Skipped { .. }
        | ClientEvent::Numbered { .. }
        | ClientEvent::Page { .. }
        | ClientEvent::GroupPage { .. }
        | ClientEvent::Groups { .. }
        | ClientEvent::Members { .. }
        | ClientEvent::Inbox { .. }
        | ClientEvent::Marked { .. }
        | ClientEvent::Devices { .. }
        | ClientEvent::Subscription { .. }
        | ClientEvent::Digest { .. }
        | ClientEvent::Presence(_)
        | ClientEvent::Presences { .. }
        | ClientEvent::Typing { .. }
        | ClientEvent::TypingEnded { .. }
        | ClientEvent::FetchRefused { .. }
        | ClientEvent::TokenExpiring { .. }
        | ClientEvent::TokenRefreshed { .. }
        | ClientEvent::TokenRefused { .. }
        | ClientEvent::ServerError { .. }
        | ClientEvent::TokenWanted { .. }
        | ClientEvent::Suspended
        | ClientEvent::CaughtUp
        | ClientEvent::Disconnected { .. }
        | ClientEvent::Ended(_) => false,
    }
}
