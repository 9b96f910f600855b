//! What is told for an event of the client.

use client::{ClientEvent, Content, ConversationId, Durability, ErrorCode, MessageName, SendHandle, Seq};

use super::{
    Said, Script,
    entries::inbox_line,
    history::Older,
    presence::{presence_line, typing_line},
    sending::Sent,
};
use crate::{
    checking::Checking,
    pipe::{
        following::Following,
        line::{How, Line},
        told::Told,
    },
    words,
};

impl Script {
    pub(super) fn tell(&mut self, event: ClientEvent) -> Vec<Line> {
        let mut lines = self.tell_alone(event);
        lines.extend(self.send_behind());
        self.fetch_missing();
        lines
    }

    /// What the event says, without what follows from it.
    fn tell_alone(&mut self, event: ClientEvent) -> Vec<Line> {
        match event {
            ClientEvent::Welcome(welcome) => {
                self.away = None;
                self.me = Some(welcome.user);
                self.following.welcome(welcome.user);
                let mut lines = vec![Line::Connected { user: welcome.user, elsewhere: welcome.elsewhere }];
                lines.extend(self.on_committed(welcome.committed));
                if std::mem::take(&mut self.is_replaced) {
                    // What follows is the whole log: this run's messages up to here are told with the others.
                    self.last_number = Some(welcome.last_number);
                } else if self.last_number.is_none() {
                    self.last_number = Some(welcome.last_number);
                    // History ends where the push begins, so nothing is shown twice. That of a group is told with it up to its end.
                    let is_group = matches!(self.who.peer, ConversationId::Group(_));
                    if welcome.cursor > Seq::ZERO {
                        self.older = Older::UpTo(if is_group { Seq::ZERO } else { welcome.cursor });
                        lines.extend(self.show_history(self.who.history));
                        self.held = self.fetching.map(|_| Vec::new());
                    }
                }
                lines
            }
            ClientEvent::MessageAccepted { handle, seq, durability, recipient, .. } => {
                let Some(Sent { ordinal, to, content }) = self.unanswered.remove(&handle) else { return Vec::new() };
                if let ConversationId::Group(group) = to {
                    self.following.sent(group, seq);
                } else if let Some(author) = self.me {
                    let name = content.about().map_or(MessageName { author, seq }, |(name, _)| name);
                    self.behind.accepted(handle, name);
                    if !matches!(content, Content::Reaction(_)) {
                        self.told.insert(name.seq, to, name, content);
                    }
                }
                if recipient != client::Recipient::Yourself && matches!(to, ConversationId::Person(_)) {
                    self.undelivered.insert(to, seq);
                }
                if durability < Durability::Committed {
                    self.uncommitted = self.uncommitted.max(Some(seq));
                }
                vec![Line::Accepted { ordinal, seq, durability, recipient }]
            }
            ClientEvent::LogReplaced { dropped, .. } => self.on_replaced(&dropped),
            ClientEvent::Committed { up_to } => self.on_committed(up_to).into_iter().collect(),
            ClientEvent::MessageRefused { handle, code } => {
                self.gone(handle, |ordinal| vec![Line::Refused { ordinal, why: code.name().into() }])
            }
            ClientEvent::MessageReturned { handle, why, .. } => self.gone(handle, |ordinal| {
                let words = format!("your message {ordinal} was not sent: {why}");
                vec![Line::Problem(words), Line::Refused { ordinal, why: words::untaken(&why).into() }]
            }),
            ClientEvent::MessageCancelled { handle } => self.gone(handle, |ordinal| vec![Line::Cancelled { ordinal }]),
            ClientEvent::Entry(entry) => {
                self.shown = entry.seq;
                self.checking.entry(&entry);
                let mut lines: Vec<Line> = self.on_entry(&entry).into_iter().collect();
                lines.extend(self.on_entry_of_groups(&entry));
                lines
            }
            ClientEvent::Page { fetch, page } if self.fetching == Some(fetch) => {
                self.fetching = None;
                let mut lines = self.on_history(&page);
                lines.extend(self.release());
                lines
            }
            ClientEvent::GroupPage { fetch, page, .. } if self.fetching == Some(fetch) => {
                self.fetching = None;
                let mut lines = self.on_group_history(&page);
                lines.extend(self.release());
                lines
            }
            ClientEvent::GroupPage { fetch, page, .. } => {
                let told = self.following.page(fetch, &page);
                told.into_iter().flatten().map(Line::Group).collect()
            }
            ClientEvent::GroupEntry { group, entry } => {
                self.following.pushed(group, &entry).into_iter().map(Line::Group).collect()
            }
            ClientEvent::Groups { fetch, at, more, rows } => self.on_groups(fetch, (at, more), rows),
            ClientEvent::Members { fetch, group, more, members, delivered, read, .. } => {
                self.on_members(fetch, (group, more), members, (delivered, read))
            }
            ClientEvent::FetchRefused { fetch, code, .. } if self.fetching == Some(fetch) => {
                self.fetching = None;
                let mut lines = vec![Line::Problem(format!("no history: {}", words::refused(code)))];
                lines.extend(self.release());
                lines
            }
            ClientEvent::Inbox { fetch, inbox } => {
                self.answered(fetch);
                inbox.rows.into_iter().map(inbox_line).collect()
            }
            ClientEvent::Marked { fetch } => {
                self.answered(fetch);
                Vec::new()
            }
            ClientEvent::FetchRefused { fetch, code, .. } if self.asked.contains(&fetch) => {
                self.answered(fetch);
                vec![Line::Problem(format!("not done: {}", words::refused(code)))]
            }
            ClientEvent::ServerError { code, detail, .. } => {
                vec![Line::Problem(format!("the server complains: {} ({detail})", code.name()))]
            }
            ClientEvent::TokenRefused { code, detail } => {
                vec![Line::Problem(format!("the newer token was not taken: {} ({detail})", code.name()))]
            }
            ClientEvent::Disconnected { reason, .. } => {
                let reason = words::disconnected(&reason, &self.server);
                let is_news = self.away.replace(reason.clone()) != Some(reason.clone());
                is_news.then_some(Line::Disconnected { reason }).into_iter().collect()
            }
            // A terminal is on while it shows something, and has nothing to wake.
            ClientEvent::Subscription { .. } => Vec::new(),
            ClientEvent::Digest { fetch, digests } => {
                self.answered(fetch);
                let next = self.checking.answered(fetch, &digests);
                match next.map(|next| self.check(next)) {
                    Some(Said::Taken(lines)) => lines,
                    Some(_) => vec![Line::Problem("not compared: too much is asked for at once".to_owned())],
                    None => Vec::new(),
                }
            }
            ClientEvent::Skipped { up_to, .. } => {
                self.checking.skipped(up_to);
                Vec::new()
            }
            ClientEvent::Devices { fetch, devices } => {
                self.answered(fetch);
                std::iter::once(Line::Devices(devices.len())).chain(devices.into_iter().map(Line::Device)).collect()
            }
            ClientEvent::Presence(of) => vec![presence_line(of)],
            ClientEvent::Presences { fetch, users } => {
                self.answered(fetch);
                users.into_iter().map(presence_line).collect()
            }
            ClientEvent::Typing { conversation, user } => vec![typing_line(conversation, user, How::Begins)],
            ClientEvent::TypingEnded { conversation, user } => vec![typing_line(conversation, user, How::Ends)],
            ClientEvent::FetchRefused { fetch, code, .. } => {
                let group = self.following.refused(fetch);
                let words = |group| format!("what happened in group #{group} can not be had: {}", words::refused(code));
                group.map(|group| Line::Problem(words(group))).into_iter().collect()
            }
            ClientEvent::Page { .. }
            | ClientEvent::Numbered { .. }
            | ClientEvent::Epoch(_)
            | ClientEvent::TokenExpiring { .. }
            | ClientEvent::TokenRefreshed { .. }
            | ClientEvent::TokenWanted { .. }
            | ClientEvent::Suspended
            | ClientEvent::CaughtUp
            | ClientEvent::Ended(_) => Vec::new(),
        }
    }

    /// Nothing that was told of the log holds any more: it is told anew.
    fn on_replaced(&mut self, dropped: &[SendHandle]) -> Vec<Line> {
        let mut lines = self.release();
        self.fetching = None;
        self.older = Older::Nothing;
        self.told = Told::default();
        self.following = Following::default();
        self.checking = Checking::default();
        self.undelivered.clear();
        (self.uncommitted, self.received, self.shown) = (None, 0, Seq::ZERO);
        self.is_replaced = true;
        lines.push(Line::Problem("the server's history was replaced: it is told from its beginning".into()));
        lines.push(Line::Replaced);
        let mut void = self.behind.names_are_void();
        void.extend(dropped.iter().filter_map(|handle| Some(self.unanswered.remove(handle)?.ordinal)));
        for ordinal in void {
            self.refused += 1;
            lines.push(Line::Refused { ordinal, why: ErrorCode::OtherLog.name().into() });
        }
        // Last of all: until now no change leaves, so none names a message of the old log in the new one.
        self.client.log_discarded();
        lines
    }

    /// Worth a line if it was said of a message that it is not committed.
    fn on_committed(&mut self, up_to: Seq) -> Option<Line> {
        self.uncommitted.take_if(|seq| *seq <= up_to).map(|_| Line::Committed { up_to })
    }
}
