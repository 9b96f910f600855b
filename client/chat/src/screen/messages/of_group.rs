//! The messages of a group: its log has its own seqs, and what one sends there stands in it when the group has numbered it.

use client::{Body, ConversationId, ErrorCode, GroupEntry, GroupId, GroupPage, SendHandle, Seq, UserId};

use super::{Author, MESSAGES_MAX, Message, Messages, Older, Waiting};

impl Messages {
    /// Takes an entry of the group that is shown, of which `me` may be the author. False: it is no message.
    pub(crate) fn group_entry(&mut self, entry: &GroupEntry, me: UserId) -> bool {
        let is_older = |place| matches!(self.older, Older::UpTo(up_to) if place <= up_to);
        if entry.place().is_some_and(|place| place < entry.seq && is_older(place)) {
            // It stands in what has not been loaded, and comes with it.
            return false;
        }
        self.put_of_group(entry, me);
        while self.log.len() > MESSAGES_MAX {
            let dropped = self.log.pop_first();
            self.older = dropped.map_or(self.older, |(seq, _)| Older::UpTo(seq));
        }
        entry.content.is_message()
    }

    /// Takes a page of older history of the group that is shown. What changes a message stands in it, or has come before.
    pub(crate) fn group_page(&mut self, page: &GroupPage, me: UserId) {
        page.entries.iter().for_each(|entry| self.put_of_group(entry, me));
        let is_more = page.more && page.first > Seq(1);
        self.older = if is_more { Older::UpTo(page.first.previous()) } else { Older::Nothing };
    }

    fn put_of_group(&mut self, entry: &GroupEntry, me: UserId) {
        let author = if entry.from == me { Author::Me } else { Author::Other(entry.from) };
        if author == Author::Me {
            self.numbered(entry.origin, entry.origin);
        }
        if let Ok(Body::Reaction(reaction)) = entry.content.body() {
            if let Some(message) = self.log.get_mut(&reaction.of.seq) {
                message.react(author, entry.seq, reaction.reaction);
            }
            return;
        }
        let message = Message::new(author, entry.seq, entry.seq, entry.time, entry.content.clone());
        self.show(entry.place().unwrap_or(entry.seq), message);
    }

    /// What was sent to the group that is shown, from the first to the last of these seqs of the own log, is in the group's log now.
    pub(crate) fn numbered(&mut self, first: Seq, last: Seq) {
        let is_done = |waiting: &Waiting| {
            waiting.to == self.peer
                && waiting.refused.is_none()
                && waiting.accepted.is_some_and(|seq| first <= seq && seq <= last)
        };
        self.waiting.retain(|_, waiting| !is_done(waiting));
    }

    /// The message was accepted, and is for a group: there it has no place yet. False: it is for a user.
    pub(super) fn accepted_for_group(&mut self, number: u64, seq: Seq) -> bool {
        match self.waiting.get_mut(&number) {
            Some(waiting) if matches!(waiting.to, ConversationId::Group(_)) => {
                (waiting.handle, waiting.accepted) = (None, Some(seq));
                true
            }
            _ => false,
        }
    }

    /// A group has not taken what is in the own log as this. None: it was not sent here.
    pub(crate) fn refused_by_group(&mut self, group: GroupId, origin: Seq, code: ErrorCode) -> Option<&Waiting> {
        let to = ConversationId::Group(group);
        let mut waiting = self.waiting.values_mut().filter(|waiting| waiting.to == to);
        let waiting = waiting.find(|waiting| waiting.accepted == Some(origin))?;
        waiting.refused = Some(code);
        Some(waiting)
    }

    /// The client has drawn the id of the group that this message begins.
    pub(crate) fn begun(&mut self, number: u64, group: GroupId, handle: SendHandle) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.to = group.into();
        }
        self.taken(number, handle);
    }

    /// Columns that the longest name of an author fills.
    pub(crate) fn name_columns(&self) -> usize {
        let name = |message: &Message| match message.author {
            Author::Me => 0,
            Author::Other(user) => user.0.checked_ilog10().map_or(1, |digits| digits as usize + 1),
        };
        self.log.values().map(name).max().unwrap_or(0)
    }
}
