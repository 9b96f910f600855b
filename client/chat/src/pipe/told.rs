//! Messages that were told, and can be answered, changed or deleted: by the seq that they were told as, or the newest of somebody.
//!
//! Invariant: at most `TOLD_MAX`, the newest.

use std::collections::BTreeMap;

use client::{Content, ConversationId, Entry, Event, MessageName, Seq, UserId};

/// What a person remembers of a conversation, ten times over.
const TOLD_MAX: usize = 1_000;

/// A message that was told.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    conversation: ConversationId,
    pub(crate) name: MessageName,
    pub(crate) content: Content,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    messages: BTreeMap<Seq, Message>,
}

impl Told {
    /// A message was told as this seq, or what it says has changed.
    pub(crate) fn insert(&mut self, seq: Seq, conversation: ConversationId, name: MessageName, content: Content) {
        self.messages.insert(seq, Message { conversation, name, content });
        while self.messages.len() > TOLD_MAX {
            self.messages.pop_first();
        }
    }

    /// An entry is told in the log of `me`.
    pub(crate) fn entry(&mut self, entry: &Entry, me: Option<UserId>) {
        let (conversation, name, content) = match (&entry.event, me) {
            (Event::Received { from, origin, content }, _) => {
                ((*from).into(), MessageName { author: *from, seq: *origin }, content)
            }
            (Event::Sent { to, content, .. }, Some(author)) => (*to, MessageName { author, seq: entry.seq }, content),
            (
                Event::Sent { .. }
                | Event::Delivered { .. }
                | Event::Read { .. }
                | Event::Seen { .. }
                | Event::Settings { .. }
                | Event::Deleted { .. }
                | Event::Devices { .. }
                | Event::Visibility { .. }
                | Event::Group { .. }
                | Event::GroupRefused { .. }
                | Event::Unknown { .. },
                _,
            ) => return,
        };
        let name = content.about().map_or(name, |(name, _)| name);
        if let Some(place) = entry.place() {
            self.insert(place, conversation, name, content.clone());
        }
    }

    pub(crate) fn remove(&mut self, seq: Seq) {
        self.messages.remove(&seq);
    }

    pub(crate) fn has(&self, seq: Seq) -> bool {
        self.messages.contains_key(&seq)
    }

    /// The message of this conversation that was told as `of`, or else the newest one that is meant without a number.
    pub(crate) fn find(
        &self,
        conversation: ConversationId,
        of: Option<Seq>,
        is_meant: impl Fn(&Message) -> bool,
    ) -> Option<(Seq, &Message)> {
        let found = match of {
            Some(seq) => self.messages.get_key_value(&seq).filter(|(_, message)| message.conversation == conversation),
            None => {
                let mut here = self.messages.iter().rev().filter(|(_, message)| message.conversation == conversation);
                here.find(|(_, message)| is_meant(message))
            }
        };
        found.map(|(seq, message)| (*seq, message))
    }
}
