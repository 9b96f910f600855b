//! What is told for an entry of the log, and for a row of the inbox.

use client::{Body, ConversationId, Entry, Event, InboxRow};

use super::Script;
use crate::{
    content::shown,
    pipe::{
        group_line::GroupLine,
        line::{Line, Origin},
    },
};

impl Script {
    pub(super) fn on_entry(&mut self, entry: &Entry) -> Option<Line> {
        // In a log that was replaced, the answer to a message of this run may come before its entry.
        let is_told = self.told.has(entry.seq);
        self.told.entry(entry, self.me);
        match &entry.event {
            Event::Received { content, .. } => {
                self.received += u64::from(content.is_message());
                self.told_of(entry, Origin::Now)
            }
            // What this run sent is told when it is accepted.
            Event::Sent { device, number, .. } if *device == self.who.device && Some(*number) > self.last_number => {
                None
            }
            Event::Sent { device, .. } if *device == self.who.device && is_told => None,
            Event::Sent { .. } => self.told_of(entry, Origin::Now),
            Event::Delivered { peer, up_to } => {
                if self.undelivered.get(&ConversationId::Person(*peer)).is_some_and(|seq| seq <= up_to) {
                    self.undelivered.remove(&ConversationId::Person(*peer));
                }
                Some(Line::Delivered { peer: (*peer).into(), up_to: *up_to })
            }
            Event::Seen { peer, up_to } => Some(Line::Seen { peer: (*peer).into(), up_to: *up_to }),
            Event::Read { conversation: ConversationId::Group(group), up_to, .. } => {
                Some(Line::Group(GroupLine::Read { group: *group, up_to: *up_to }))
            }
            Event::Read { conversation, up_to, unread, .. } => {
                Some(Line::Read { conversation: *conversation, up_to: *up_to, unread: *unread })
            }
            Event::Settings { conversation, settings } => {
                Some(Line::Kept { conversation: *conversation, settings: *settings })
            }
            Event::Deleted { conversation, place, .. } => {
                if matches!(conversation, ConversationId::Person(_)) {
                    self.told.remove(*place);
                }
                Some(Line::Deleted { conversation: *conversation, place: *place })
            }
            Event::Devices { removed, why, .. } => Some(Line::Removed { device: *removed, why: *why }),
            Event::Visibility { visibility } => Some(Line::Visibility(*visibility)),
            Event::Group { .. } | Event::GroupRefused { .. } | Event::Unknown { .. } => None,
        }
    }

    /// What an entry says of a message.
    pub(super) fn told_of(&self, entry: &Entry, origin: Origin) -> Option<Line> {
        let (by, content) = match &entry.event {
            Event::Received { from, content, .. } => (*from, content),
            Event::Sent { content, .. } => (self.me?, content),
            _ => return None,
        };
        match content.body() {
            Ok(Body::Reaction(reaction)) => {
                let (place, time) = (reaction.stands?.place, entry.time);
                Some(Line::Reacted { by, place, time, text: reaction.reaction.to_owned(), origin })
            }
            _ => message(entry, origin),
        }
    }
}

fn message(entry: &Entry, origin: Origin) -> Option<Line> {
    let (seq, mut time) = (entry.place()?, entry.time);
    let (Event::Received { content, .. } | Event::Sent { content, .. }) = &entry.event else { return None };
    if let Some((name, Some(stands))) = content.about() {
        time = stands.time;
        let (author, place) = (name.author, stands.place);
        match (origin, content.body()) {
            (Origin::Now, Ok(Body::Edit(edit))) => {
                return Some(Line::Edited { author, place, time, text: shown(&edit.content()) });
            }
            (Origin::Now, Ok(_)) => return Some(Line::Unsent { author, place, time }),
            _ => {}
        }
    }
    match &entry.event {
        Event::Received { from, content, .. } => {
            Some(Line::Received { from: *from, seq, time, text: shown(content), origin })
        }
        Event::Sent { to, content, .. } => Some(Line::Sent { to: *to, seq, time, text: shown(content), origin }),
        Event::Delivered { .. }
        | Event::Deleted { .. }
        | Event::Devices { .. }
        | Event::Read { .. }
        | Event::Seen { .. }
        | Event::Settings { .. }
        | Event::Visibility { .. }
        | Event::Group { .. }
        | Event::GroupRefused { .. }
        | Event::Unknown { .. } => None,
    }
}

pub(super) fn inbox_line(row: InboxRow) -> Line {
    let InboxRow { conversation, unread, settings, last, left_out, .. } = row;
    let mut text = match &last.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => shown(content),
        _ => String::new(),
    };
    if left_out > 0 {
        text.push('…');
    }
    Line::Inbox { conversation, unread, settings, seq: last.seq, time: last.time, text }
}
