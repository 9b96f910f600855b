//! What a line of input does, and which lines an event makes. Knows the client; prints nothing.

use std::collections::BTreeMap;

use client::{
    Body, Client, ClientEvent, Content, ConversationId, DeviceId, Direction, Durability, Entry, ErrorCode, Event,
    FetchError, FetchHandle, InboxRow, MessageName, Page, Reply, SendError, SendHandle, SendNumber, Seq, UserId,
};

use super::{
    behind::{Behind, Change},
    line::{Line, Origin},
};
use crate::{
    attach::Attach,
    checking::{Checking, Next},
    command::Command,
    content::{quote, shown},
    words,
};

/// Events that wait for the history which is to be told before them. A backlog of days; beyond it the history is left out.
const HELD_MAX: usize = 10_000;

/// Messages that were told and can be answered. What a person remembers of a conversation, ten times over.
const TOLD_MAX: usize = 1_000;

/// Conversations of an inbox, if the line does not say how many.
const INBOX_ROWS: u64 = 20;

/// What became of a line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Taken(Vec<Line>),
    /// To be described, which may take a while, and then given to [`Script::attach`].
    Describe(Box<Attach>),
    /// Too much is on its way: offer the line again.
    Later,
    Quit,
    /// It can not be done: the input ends here.
    Wrong(String),
}

/// Where older history begins.
enum Older {
    /// Up to this seq, included.
    UpTo(Seq),
    Nothing,
}

/// A message that was told, and can be answered.
struct Told {
    conversation: ConversationId,
    name: MessageName,
    content: Content,
}

/// What a script is told by its command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) device: DeviceId,
    pub(crate) peer: ConversationId,
    pub(crate) history: u64,
}

pub(crate) struct Script {
    client: Client,
    who: Who,
    server: String,
    older: Older,
    fetching: Option<FetchHandle>,
    /// Whatever else was asked for and is not answered.
    asked: Vec<FetchHandle>,
    checking: Checking,
    /// What has happened since the history was asked for, while it has not come.
    held: Option<Vec<ClientEvent>>,
    /// Numbers above it, of this device, were sent by this run. None before the first welcome.
    last_number: Option<SendNumber>,
    sent: u64,
    /// The ordinal, the recipient and the content of each.
    unanswered: BTreeMap<SendHandle, (u64, ConversationId, Content)>,
    /// Changes of them.
    behind: Behind,
    me: Option<UserId>,
    /// The newest of the messages that were told.
    told: BTreeMap<Seq, Told>,
    refused: u64,
    received: u64,
    shown: Seq,
    /// The last accepted seq of each recipient that has not been reported as delivered.
    undelivered: BTreeMap<ConversationId, Seq>,
    /// The last message that was accepted with less than `committed`, until it is.
    uncommitted: Option<Seq>,
    /// The log was replaced, and its welcome has not come.
    is_replaced: bool,
    /// Why there is no connection, once it has been told.
    away: Option<String>,
}

impl Script {
    pub(crate) fn new(client: Client, who: Who, server: String) -> Self {
        Self {
            client,
            who,
            server,
            older: Older::Nothing,
            fetching: None,
            asked: Vec::new(),
            checking: Checking::default(),
            held: None,
            last_number: None,
            sent: 0,
            unanswered: BTreeMap::new(),
            behind: Behind::new(),
            me: None,
            told: BTreeMap::new(),
            refused: 0,
            received: 0,
            shown: Seq::ZERO,
            undelivered: BTreeMap::new(),
            uncommitted: None,
            is_replaced: false,
            away: None,
        }
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Up to where the log has been told.
    pub(crate) const fn shown(&self) -> Seq {
        self.shown
    }

    /// Everything sent has its answer, and everything asked for has been shown.
    pub(crate) fn is_answered(&self) -> bool {
        self.last_number.is_some()
            && self.unanswered.is_empty()
            && self.behind.len() == 0
            && self.fetching.is_none()
            && self.asked.is_empty()
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// In words, for somebody who waited in vain.
    pub(crate) fn state(&self) -> String {
        let (unanswered, undelivered) = (self.unanswered.len() + self.behind.len(), self.undelivered.len());
        let connection = match (&self.away, self.last_number) {
            (Some(why), _) => format!("; not connected: {why}"),
            (None, None) => format!("; {} has not answered yet: is it a Ringpost server?", self.server),
            (None, Some(_)) => String::new(),
        };
        format!(
            "{unanswered} messages without an answer, {undelivered} recipients without delivery, {} received{connection}",
            self.received
        )
    }

    pub(crate) fn say(&mut self, line: &str) -> Said {
        match Command::parse(line) {
            Ok(Command::Say(text)) => self.send(Content::text(&text)),
            Ok(Command::Reply(to, text)) => self.reply(to, &text),
            Ok(Command::Edit(of, text)) => self.change(of, Change::Edit(text)),
            Ok(Command::Unsend(of)) => self.change(of, Change::Unsend),
            Ok(Command::React(of, reaction)) => match self.answerable(of) {
                Ok(name) => self.send(Content::reaction(name, &reaction, None)),
                Err(why) => Said::Wrong(why),
            },
            Ok(Command::Delete(of)) => self.delete(of),
            Ok(Command::Attach(attach)) => Said::Describe(attach),
            Ok(Command::To(user)) => Said::Taken(self.switch(user)),
            Ok(Command::History(count)) => Said::Taken(self.show_history(count.unwrap_or(self.who.history.max(1)))),
            Ok(Command::Inbox(count)) => {
                self.ask(|client, _| client.fetch_inbox(Seq::ZERO, count.unwrap_or(INBOX_ROWS), 0))
            }
            // All of it: what is on its way to the pipe has not been shown, and whoever wrote the script means the conversation.
            Ok(Command::Read) => self.ask(|client, peer| client.mark_read(peer, Seq(u64::MAX), true)),
            Ok(Command::Keep { set, cleared }) => self.ask(|client, peer| client.set_conversation(peer, set, cleared)),
            Ok(Command::Check) => {
                let next = self.checking.begin();
                self.check(next)
            }
            Ok(Command::Devices) => self.ask(|client, _| client.fetch_devices()),
            Ok(Command::NameDevice(name)) => {
                let own = self.who.device;
                self.ask(|client, _| client.name_device(own, &name))
            }
            Ok(Command::RemoveDevice(device)) => self.ask(|client, _| client.remove_device(device)),
            Ok(Command::Cancel) => Said::Taken(self.cancel()),
            Ok(Command::Quit) => Said::Quit,
            Ok(Command::Help | Command::Nothing) => Said::Taken(Vec::new()),
            Err(error) => Said::Wrong(error.to_string()),
        }
    }

    fn change(&mut self, of: Option<Seq>, change: Change) -> Said {
        if of.is_none()
            && let Some(handle) = self.newest_unanswered()
        {
            return self.change_behind(handle, change);
        }
        if self.behind.has_ready() {
            // Not before an earlier change.
            return Said::Later;
        }
        let mut here = self.told.iter().rev().filter(|(_, told)| told.conversation == self.who.peer);
        let found = match of {
            Some(seq) => here.find(|(of, _)| **of == seq),
            None => here.find(|(_, told)| Some(told.name.author) == self.me),
        };
        match (found, of) {
            (Some((_, told)), _) => self.send(change.of(told.name)),
            (None, Some(seq)) => Said::Wrong(format!("no message of this conversation was told as {seq}")),
            (None, None) => Said::Wrong("nothing was sent to this user yet: /history tells older messages".to_owned()),
        }
    }

    /// The newest message to this user that has no answer.
    fn newest_unanswered(&self) -> Option<SendHandle> {
        let here = |(_, to, content): &(u64, ConversationId, Content)| *to == self.who.peer && content.is_message();
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
    fn send_behind(&mut self) -> Vec<Line> {
        let Self { behind, client, unanswered, refused, .. } = self;
        let mut lines = Vec::new();
        behind.send(|ordinal, to, content| match client.send(to, content.clone()) {
            Ok(handle) => {
                unanswered.insert(handle, (ordinal, to, content));
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

    /// A message is in no log, and so its changes are refused with it.
    fn refuse_behind(&mut self, handle: SendHandle, ordinal: u64) -> Vec<Line> {
        let gone = self.behind.refused(handle).into_iter();
        let lines = gone.flat_map(|change| {
            self.refused += 1;
            let words = format!("your message {change} was to change your message {ordinal}, which is in no log");
            [Line::Problem(words), Line::Refused { ordinal: change, why: ErrorCode::NoSuchMessage.name().into() }]
        });
        lines.collect()
    }

    fn reply(&mut self, to: Option<Seq>, text: &str) -> Said {
        match self.answerable(to) {
            Ok(to) => {
                let told = self.told.values().find(|told| told.name == to);
                let quote = told.map_or("", |told| quote(&told.content));
                let reply = Content::reply(&Reply { to, quote, text });
                self.send(reply)
            }
            Err(why) => Said::Wrong(why),
        }
    }

    /// A message of this conversation is to go from the own history: the one told as this, or else the last one.
    fn delete(&mut self, of: Option<Seq>) -> Said {
        let mut here = self.told.iter().rev().filter(|(_, told)| told.conversation == self.who.peer);
        let found = match of {
            Some(seq) => here.find(|(place, _)| **place == seq),
            None => here.next(),
        };
        match (found.map(|(place, _)| *place), of) {
            (Some(place), _) => self.ask(|client, peer| client.delete_message(peer, place)),
            (None, Some(seq)) => Said::Wrong(format!("no message of this conversation was told as {seq}")),
            (None, None) => {
                Said::Wrong("nothing was told of this conversation yet: /history tells older messages".to_owned())
            }
        }
    }

    /// The message of this conversation that was told as this, or else the last one received; or why there is none.
    fn answerable(&self, to: Option<Seq>) -> Result<MessageName, String> {
        let mut here = self.told.iter().rev().filter(|(_, told)| told.conversation == self.who.peer);
        let found = match to {
            Some(seq) => here.find(|(of, _)| **of == seq),
            None => here.find(|(_, told)| ConversationId::Person(told.name.author) == self.who.peer),
        };
        found.map(|(_, told)| told.name).ok_or_else(|| match to {
            Some(seq) => format!("no message of this conversation was told as {seq}: /history tells older ones"),
            None => "nothing was received from this user yet: /history tells older messages".to_owned(),
        })
    }

    /// Something that lies elsewhere has been described.
    pub(crate) fn attach(&mut self, described: Result<Content, String>) -> Said {
        described.map_or_else(Said::Wrong, |content| self.send(content))
    }

    fn send(&mut self, content: Content) -> Said {
        match self.client.send(self.who.peer, content.clone()) {
            Ok(handle) => {
                self.sent += 1;
                self.unanswered.insert(handle, (self.sent, self.who.peer, content));
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
                | SendError::Recipient),
            ) => Said::Wrong(error.to_string()),
        }
    }

    /// Asks for something whose answer is waited for at the end.
    fn ask(&mut self, ask: impl FnOnce(&Client, ConversationId) -> Result<FetchHandle, FetchError>) -> Said {
        match ask(&self.client, self.who.peer) {
            Ok(fetch) => {
                self.asked.push(fetch);
                Said::Taken(Vec::new())
            }
            Err(FetchError::QueueFull { .. } | FetchError::LogReplaced | FetchError::Ended) => Said::Later,
            Err(error @ FetchError::NameLength { .. }) => Said::Wrong(error.to_string()),
        }
    }

    fn check(&mut self, next: Next) -> Said {
        let check = match next {
            Next::Ask(check) => check,
            Next::Done(found) => return Said::Taken(vec![Line::Checked(found)]),
        };
        match self.client.fetch_digest(check.ask()) {
            Ok(fetch) => {
                self.checking.asked(fetch, check);
                self.asked.push(fetch);
                Said::Taken(Vec::new())
            }
            Err(_) => Said::Later,
        }
    }

    /// An answer to [`Script::ask`] has come.
    fn answered(&mut self, fetch: FetchHandle) {
        self.asked.retain(|asked| *asked != fetch);
    }

    /// Takes back the newest message without an answer; which it was is told when that is certain.
    fn cancel(&mut self) -> Vec<Line> {
        let newest = self.unanswered.last_key_value().map(|(handle, (ordinal, ..))| (*handle, *ordinal));
        if let Some(ordinal) = self.behind.cancel_newest(newest.map(|(_, ordinal)| ordinal)) {
            return vec![Line::Cancelled { ordinal }];
        }
        let newest = newest.map(|(handle, _)| handle);
        let is_waiting = newest.is_some_and(|handle| self.client.cancel(handle));
        if is_waiting { Vec::new() } else { vec![Line::Problem("no message waits for its answer".into())] }
    }

    fn switch(&mut self, user: ConversationId) -> Vec<Line> {
        self.who.peer = user;
        // A page of the conversation left behind would be shown as one of this.
        self.fetching = None;
        let mut lines = self.release();
        // Zero means the head: what was missed here while writing to somebody else.
        self.older = Older::UpTo(Seq::ZERO);
        lines.extend(self.show_history(self.who.history));
        lines
    }

    fn show_history(&mut self, count: u64) -> Vec<Line> {
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
    fn release(&mut self) -> Vec<Line> {
        self.held.take().into_iter().flatten().flat_map(|event| self.tell(event)).collect()
    }

    fn tell(&mut self, event: ClientEvent) -> Vec<Line> {
        let mut lines = self.tell_alone(event);
        lines.extend(self.send_behind());
        lines
    }

    /// What the event says, without what follows from it.
    fn tell_alone(&mut self, event: ClientEvent) -> Vec<Line> {
        match event {
            ClientEvent::Welcome(welcome) => {
                self.away = None;
                self.me = Some(welcome.user);
                let mut lines = vec![Line::Connected { user: welcome.user }];
                lines.extend(self.on_committed(welcome.committed));
                if std::mem::take(&mut self.is_replaced) {
                    // What follows is the whole log: this run's messages up to here are told with the others.
                    self.last_number = Some(welcome.last_number);
                } else if self.last_number.is_none() {
                    self.last_number = Some(welcome.last_number);
                    // History ends where the push begins, so nothing is shown twice.
                    if welcome.cursor > Seq::ZERO {
                        self.older = Older::UpTo(welcome.cursor);
                        lines.extend(self.show_history(self.who.history));
                        self.held = self.fetching.map(|_| Vec::new());
                    }
                }
                lines
            }
            ClientEvent::MessageAccepted { handle, seq, durability, recipient, .. } => {
                let Some((ordinal, to, content)) = self.unanswered.remove(&handle) else { return Vec::new() };
                if let Some(author) = self.me {
                    let name = content.about().map_or(MessageName { author, seq }, |(name, _)| name);
                    self.behind.accepted(handle, name);
                    if !matches!(content, Content::Reaction(_)) {
                        self.remember(name.seq, to, name, content);
                    }
                }
                if recipient != client::Recipient::Yourself {
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
                let Some((ordinal, ..)) = self.unanswered.remove(&handle) else { return Vec::new() };
                self.refused += 1;
                let mut lines = vec![Line::Refused { ordinal, why: code.name().into() }];
                lines.extend(self.refuse_behind(handle, ordinal));
                lines
            }
            ClientEvent::MessageReturned { handle, why, .. } => {
                let Some((ordinal, ..)) = self.unanswered.remove(&handle) else { return Vec::new() };
                self.refused += 1;
                let words = format!("your message {ordinal} was not sent: {why}");
                let mut lines = vec![Line::Problem(words), Line::Refused { ordinal, why: words::untaken(&why).into() }];
                lines.extend(self.refuse_behind(handle, ordinal));
                lines
            }
            ClientEvent::MessageCancelled { handle } => {
                let Some((ordinal, ..)) = self.unanswered.remove(&handle) else { return Vec::new() };
                let mut lines = vec![Line::Cancelled { ordinal }];
                lines.extend(self.refuse_behind(handle, ordinal));
                lines
            }
            ClientEvent::Entry(entry) => {
                self.shown = entry.seq;
                self.checking.entry(&entry);
                self.on_entry(&entry).into_iter().collect()
            }
            ClientEvent::Page { fetch, page } if self.fetching == Some(fetch) => {
                self.fetching = None;
                let mut lines = self.on_history(&page);
                lines.extend(self.release());
                lines
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
            ClientEvent::Page { .. }
            | ClientEvent::FetchRefused { .. }
            | ClientEvent::Numbered { .. }
            | ClientEvent::Epoch(_)
            | ClientEvent::TokenExpiring { .. }
            | ClientEvent::TokenRefreshed { .. }
            | ClientEvent::Ended(_) => Vec::new(),
        }
    }

    /// Nothing that was told of the log holds any more: it is told anew.
    fn on_replaced(&mut self, dropped: &[SendHandle]) -> Vec<Line> {
        let mut lines = self.release();
        self.fetching = None;
        self.older = Older::Nothing;
        self.told.clear();
        self.checking = Checking::default();
        self.undelivered.clear();
        (self.uncommitted, self.received, self.shown) = (None, 0, Seq::ZERO);
        self.is_replaced = true;
        lines.push(Line::Problem("the server's history was replaced: it is told from its beginning".into()));
        lines.push(Line::Replaced);
        let mut void = self.behind.names_are_void();
        void.extend(dropped.iter().filter_map(|handle| Some(self.unanswered.remove(handle)?.0)));
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

    fn remember(&mut self, seq: Seq, conversation: ConversationId, name: MessageName, content: Content) {
        self.told.insert(seq, Told { conversation, name, content });
        while self.told.len() > TOLD_MAX {
            self.told.pop_first();
        }
    }

    fn remember_entry(&mut self, entry: &Entry) {
        let name_of = |content: &Content, name| content.about().map_or(name, |(name, _)| name);
        let named = match (&entry.event, self.me) {
            (Event::Received { from, origin, content }, _) => {
                let name = name_of(content, MessageName { author: *from, seq: *origin });
                Some(((*from).into(), name, content))
            }
            (Event::Sent { to, content, .. }, Some(author)) => {
                Some((*to, name_of(content, MessageName { author, seq: entry.seq }), content))
            }
            (
                Event::Sent { .. }
                | Event::Delivered { .. }
                | Event::Read { .. }
                | Event::Seen { .. }
                | Event::Settings { .. }
                | Event::Deleted { .. }
                | Event::Devices { .. }
                | Event::Unknown { .. },
                _,
            ) => None,
        };
        if let (Some((conversation, name, content)), Some(place)) = (named, entry.place()) {
            self.remember(place, conversation, name, content.clone());
        }
    }

    fn on_entry(&mut self, entry: &Entry) -> Option<Line> {
        // In a log that was replaced, the answer to a message of this run may come before its entry.
        let is_told = self.told.contains_key(&entry.seq);
        self.remember_entry(entry);
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
            Event::Read { conversation, up_to, unread, .. } => {
                Some(Line::Read { conversation: *conversation, up_to: *up_to, unread: *unread })
            }
            Event::Settings { conversation, settings } => {
                Some(Line::Kept { conversation: *conversation, settings: *settings })
            }
            Event::Deleted { conversation, place, .. } => {
                self.told.remove(place);
                Some(Line::Deleted { conversation: *conversation, place: *place })
            }
            Event::Devices { removed, why, .. } => Some(Line::Removed { device: *removed, why: *why }),
            Event::Unknown { .. } => None,
        }
    }

    /// What an entry says of a message.
    fn told_of(&self, entry: &Entry, origin: Origin) -> Option<Line> {
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

    fn on_history(&mut self, page: &Page) -> Vec<Line> {
        self.older = if page.more && page.first > Seq(1) { Older::UpTo(page.first.previous()) } else { Older::Nothing };
        page.entries.iter().for_each(|entry| self.remember_entry(entry));
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
        | ClientEvent::Committed { .. } => true,
        ClientEvent::Welcome(_)
        | ClientEvent::LogReplaced { .. }
        | ClientEvent::Epoch(_)
        | ClientEvent::Skipped { .. }
        | ClientEvent::Numbered { .. }
        | ClientEvent::Page { .. }
        | ClientEvent::Inbox { .. }
        | ClientEvent::Marked { .. }
        | ClientEvent::Devices { .. }
        | ClientEvent::Digest { .. }
        | ClientEvent::FetchRefused { .. }
        | ClientEvent::TokenExpiring { .. }
        | ClientEvent::TokenRefreshed { .. }
        | ClientEvent::TokenRefused { .. }
        | ClientEvent::ServerError { .. }
        | ClientEvent::Disconnected { .. }
        | ClientEvent::Ended(_) => false,
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
        | Event::Unknown { .. } => None,
    }
}

fn inbox_line(row: InboxRow) -> Line {
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

#[cfg(test)]
mod tests {
    use client::{Config, UserId};

    use super::*;

    #[tokio::test]
    async fn a_line_is_not_blamed_for_the_end_of_the_client() {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, mut events) = Client::connect(config).unwrap();
        let who = Who { device: DeviceId(1), peer: UserId(8).into(), history: 0 };
        let mut script = Script::new(client.clone(), who, "127.0.0.1:9".into());
        client.close();
        while events.next().await.is_some() {}
        assert_eq!(script.say("hello"), Said::Later);
    }

    #[tokio::test]
    async fn a_change_is_refused_with_its_message_and_sent_once_that_is_accepted() {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, _events) = Client::connect(config).unwrap();
        let who = Who { device: DeviceId(1), peer: UserId(8).into(), history: 0 };
        let mut script = Script::new(client.clone(), who, "127.0.0.1:9".into());
        script.me = Some(UserId(7));
        for line in ["one", "/edit 1", "two", "/edit 2"] {
            assert_eq!(script.say(line), Said::Taken(Vec::new()), "{line}");
        }
        assert_eq!(client.unanswered_count(), 2, "the changes wait");
        let (first, second) = (SendHandle(1), SendHandle(2));
        let told = script.on_event(ClientEvent::MessageRefused { handle: first, code: ErrorCode::Recipient });
        let plain: Vec<String> = told.iter().filter_map(Line::plain).collect();
        assert_eq!(plain, ["refused 1 recipient", "refused 2 no_such_message"]);
        assert!(
            told.contains(&Line::Problem("your message 2 was to change your message 1, which is in no log".into()))
        );
        script.on_event(ClientEvent::MessageAccepted {
            handle: second,
            number: SendNumber(1),
            seq: Seq(5),
            time: client::TimestampMs(1),
            durability: Durability::Committed,
            recipient: client::Recipient::Offline,
        });
        let sent: Vec<Content> = client.unanswered().into_iter().map(|(_, message)| message.content).collect();
        let name = MessageName { author: UserId(7), seq: Seq(5) };
        assert_eq!(sent.last(), Some(&Content::edit(name, &Content::text("2"), None)));
        assert_eq!((script.refused(), script.is_answered()), (2, false));
    }
}
