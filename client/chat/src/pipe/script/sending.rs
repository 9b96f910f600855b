//! Messages that are sent, changes of messages, and what is to become of those that have no answer.

use client::{Content, ConversationId, ErrorCode, MessageName, Reply, SendError, SendHandle, Seq, UserId};

use super::{Said, Script};
use crate::{
    content::quote,
    pipe::{behind::Change, line::Line},
    words,
};

/// A message without an answer.
pub(super) struct Sent {
    /// The how many-th of this run it is.
    pub(super) ordinal: u64,
    pub(super) to: ConversationId,
    pub(super) content: Content,
}

impl Script {
    pub(super) fn send(&mut self, content: Content) -> Said {
        self.send_to(self.who.peer, content)
    }

    pub(super) fn send_to(&mut self, to: ConversationId, content: Content) -> Said {
        match self.client.send(to, content.clone()) {
            Ok(handle) => {
                self.sent += 1;
                let sent = Sent { ordinal: self.sent, to, content };
                self.unanswered.insert(handle, sent);
                Said::Taken(Vec::new())
            }
            // The line is not at fault if the client has ended: its last event, which is on its way, says why.
            Err(SendError::QueueFull { .. } | SendError::Ended) => Said::Later,
            Err(
                error @ (SendError::TextLength { .. }
                | SendError::ContentLimits
                | SendError::ContentKind { .. }
                | SendError::ConversationKind
                | SendError::LogReplaced
                | SendError::Recipient
                | SendError::ActToUser),
            ) => Said::Wrong(error.to_string()),
        }
    }

    pub(super) fn change(&mut self, of: Option<Seq>, change: Change) -> Said {
        let newest = self.newest_unanswered().filter(|_| of.is_none());
        match (self.who.peer, newest) {
            // In a group it has its name when the group has numbered it.
            (ConversationId::Group(group), newest) if newest.is_some() || self.following.awaits(group) => {
                return Said::Later;
            }
            (ConversationId::Person(_), Some(handle)) => return self.change_behind(handle, change),
            _ => {}
        }
        if self.behind.has_ready() {
            // Not before an earlier change.
            return Said::Later;
        }
        match (self.find(of, |author| Some(author) == self.me), of) {
            (Some((_, name, says)), _) => self.send(change.over(name, says)),
            (None, Some(seq)) => Said::Wrong(format!("no message of this conversation was told as {seq}")),
            (None, None) => Said::Wrong("nothing was sent there yet: /history tells older messages".to_owned()),
        }
    }

    /// A message of this conversation: the one that was told as this, or else the newest whose author is meant. Where it stands, its name,
    /// and what it says.
    fn find(&self, of: Option<Seq>, is_meant: impl Fn(UserId) -> bool) -> Option<(Seq, MessageName, &Content)> {
        match self.who.peer {
            ConversationId::Group(group) => self.following.find(group, of, is_meant),
            peer @ ConversationId::Person(_) => {
                let found = self.told.find(peer, of, |told| is_meant(told.name.author));
                found.map(|(place, told)| (place, told.name, &told.content))
            }
        }
    }

    /// The newest message to this user that has no answer.
    fn newest_unanswered(&self) -> Option<SendHandle> {
        let here = |sent: &Sent| sent.to == self.who.peer && sent.content.is_message();
        self.unanswered.iter().rev().find(|(_, sent)| here(sent)).map(|(handle, _)| *handle)
    }

    /// The message has no name yet: the change waits for it.
    fn change_behind(&mut self, of: SendHandle, change: Change) -> Said {
        if self.behind.is_full() {
            return Said::Later;
        }
        self.sent += 1;
        self.behind.push(self.sent, self.who.peer, of, change);
        Said::Taken(Vec::new())
    }

    /// Sends the changes whose message has a name now. What finds no room goes with a later event.
    pub(super) fn send_behind(&mut self) -> Vec<Line> {
        let Self { behind, client, unanswered, refused, .. } = self;
        let mut lines = Vec::new();
        behind.send(|ordinal, to, content| match client.send(to, content.clone()) {
            Ok(handle) => {
                unanswered.insert(handle, Sent { ordinal, to, content });
                true
            }
            // The next answer makes room, and the end is told anyway.
            Err(SendError::QueueFull { .. } | SendError::Ended) => false,
            Err(why) => {
                *refused += 1;
                lines.push(Line::Problem(format!("your message {ordinal} was not sent: {why}")));
                lines.push(Line::Refused { ordinal, why: words::untaken(&why).into() });
                true
            }
        });
        lines
    }

    /// A message is in no log, as these lines of it say, and so its changes are refused with it.
    pub(super) fn gone(&mut self, handle: SendHandle, say: impl FnOnce(u64) -> Vec<Line>) -> Vec<Line> {
        let Some(Sent { ordinal, .. }) = self.unanswered.remove(&handle) else { return Vec::new() };
        let mut lines = say(ordinal);
        lines.extend(self.behind.refused(handle).into_iter().flat_map(|change| {
            let words = format!("your message {change} was to change your message {ordinal}, which is in no log");
            [Line::Problem(words), Line::Refused { ordinal: change, why: ErrorCode::NoSuchMessage.name().into() }]
        }));
        self.refused += lines.iter().filter(|line| matches!(line, Line::Refused { .. })).count() as u64;
        lines
    }

    pub(super) fn reply(&mut self, to: Option<Seq>, text: &str) -> Said {
        match self.answerable(to) {
            Ok((to, content)) => {
                let reply = Content::reply(&Reply { to, quote: quote(content), text });
                self.send(reply)
            }
            Err(why) => Said::Wrong(why),
        }
    }

    pub(super) fn react(&mut self, of: Option<Seq>, reaction: &str) -> Said {
        match self.answerable(of).map(|(name, _)| name) {
            Ok(name) => self.send(Content::reaction(name, reaction, None)),
            Err(why) => Said::Wrong(why),
        }
    }

    /// A message of this conversation is to go from the own history: the one told as this, or else the last one.
    pub(super) fn delete(&mut self, of: Option<Seq>) -> Said {
        match (self.find(of, |_| true).map(|(place, ..)| place), of) {
            (Some(place), _) => self.ask(|client, peer| client.delete_message(peer, place)),
            (None, Some(seq)) => Said::Wrong(format!("no message of this conversation was told as {seq}")),
            (None, None) => {
                Said::Wrong("nothing was told of this conversation yet: /history tells older messages".to_owned())
            }
        }
    }

    /// The message of this conversation that was told as this, or else the last one received; or why there is none.
    fn answerable(&self, to: Option<Seq>) -> Result<(MessageName, &Content), String> {
        let is_theirs = |author: UserId| match self.who.peer {
            ConversationId::Person(peer) => author == peer,
            ConversationId::Group(_) => Some(author) != self.me,
        };
        self.find(to, is_theirs).map(|(_, name, content)| (name, content)).ok_or_else(|| match to {
            Some(seq) => format!("no message of this conversation was told as {seq}: /history tells older ones"),
            None => "nothing was received there yet: /history tells older messages".to_owned(),
        })
    }

    /// Takes back the newest message without an answer; which it was is told when that is certain.
    pub(super) fn cancel(&mut self) -> Vec<Line> {
        let newest = self.unanswered.last_key_value().map(|(handle, sent)| (*handle, sent.ordinal));
        if let Some(ordinal) = self.behind.cancel_newest(newest.map(|(_, ordinal)| ordinal)) {
            return vec![Line::Cancelled { ordinal }];
        }
        let newest = newest.map(|(handle, _)| handle);
        let is_waiting = newest.is_some_and(|handle| self.client.cancel(handle));
        if is_waiting { Vec::new() } else { vec![Line::Problem("no message waits for its answer".into())] }
    }
}
