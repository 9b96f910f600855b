//! What a line of input does, and which lines an event makes. Knows the client; prints nothing.

use std::collections::BTreeMap;

use client::{
    Client, ClientEvent, Content, DeviceId, Direction, Durability, Entry, Event, FetchError, FetchHandle, Page,
    SendError, SendHandle, SendNumber, Seq, UserId,
};

use crate::line::{Line, Origin};

/// What became of a line of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Taken,
    /// Too much is on its way: offer the line again.
    Later,
    Quit,
}

/// A message of this run.
struct Sent {
    ordinal: u64,
    to: UserId,
    text: String,
}

/// Where older history begins.
enum Older {
    /// Up to this seq, included.
    UpTo(Seq),
    Nothing,
}

pub(crate) struct Chat {
    client: Client,
    device: DeviceId,
    peer: UserId,
    history: u64,
    older: Older,
    fetching: Option<FetchHandle>,
    /// Numbers above it, of this device, were sent by this run. None before the first welcome.
    last_number: Option<SendNumber>,
    sent: u64,
    unanswered: BTreeMap<SendHandle, Sent>,
    refused: u64,
    received: u64,
    /// The last accepted seq of each recipient that has not been reported as delivered.
    undelivered: BTreeMap<UserId, Seq>,
    /// The last message that was accepted with less than `committed`, until it is.
    uncommitted: Option<Seq>,
}

const HELP: &str = "/history [N]  older messages of this conversation
/to USER      write to somebody else
/quit         leave
/help         this
✓ the server has it, ✓✓ a device of the other has it. A text that begins with / is typed as //.";

impl Chat {
    pub(crate) const fn new(client: Client, device: DeviceId, peer: UserId, history: u64) -> Self {
        Self {
            client,
            device,
            peer,
            history,
            older: Older::Nothing,
            fetching: None,
            last_number: None,
            sent: 0,
            unanswered: BTreeMap::new(),
            refused: 0,
            received: 0,
            undelivered: BTreeMap::new(),
            uncommitted: None,
        }
    }

    pub(crate) const fn peer(&self) -> UserId {
        self.peer
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Everything sent has its answer, and everything asked for has been shown.
    pub(crate) fn is_answered(&self) -> bool {
        self.last_number.is_some() && self.unanswered.is_empty() && self.fetching.is_none()
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// In words, for somebody who waited in vain.
    pub(crate) fn state(&self) -> String {
        if self.last_number.is_none() {
            return "the server did not let us in".into();
        }
        let (unanswered, undelivered) = (self.unanswered.len(), self.undelivered.len());
        format!(
            "{unanswered} messages without an answer, {undelivered} recipients without delivery, {} received",
            self.received
        )
    }

    pub(crate) fn say(&mut self, line: &str) -> (Said, Vec<Line>) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, _, _) => (Said::Taken, Vec::new()),
            (Some("/quit"), None, None) => (Said::Quit, Vec::new()),
            (Some("/help"), None, None) => (Said::Taken, HELP.lines().map(|l| Line::Notice(l.into())).collect()),
            (Some("/to"), Some(user), None) => (Said::Taken, self.switch(user)),
            (Some("/history"), None, None) => (Said::Taken, self.show_history(self.history.max(1))),
            (Some("/history"), Some(count), None) => (
                Said::Taken,
                match count.parse() {
                    Ok(count) if count > 0 => self.show_history(count),
                    _ => vec![Line::Problem(format!("/history takes a number of messages, not {count}"))],
                },
            ),
            (Some(word), _, _) if word.starts_with('/') && !word.starts_with("//") => {
                let problem = format!("{word} is not a command, or not like this; /help lists them");
                (Said::Taken, vec![Line::Problem(problem)])
            }
            _ => self.send(line.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(line)),
        }
    }

    fn send(&mut self, text: &str) -> (Said, Vec<Line>) {
        let error = match self.client.send(self.peer, Content::text(text)) {
            Ok(handle) => {
                self.sent += 1;
                let sent = Sent { ordinal: self.sent, to: self.peer, text: text.to_owned() };
                self.unanswered.insert(handle, sent);
                return (Said::Taken, Vec::new());
            }
            Err(error) => error,
        };
        match error {
            SendError::QueueFull { .. } => (Said::Later, vec![Line::Wait(error.to_string())]),
            SendError::TextLength { .. } | SendError::Recipient | SendError::Ended => {
                self.sent += 1;
                self.refused += 1;
                let line = Line::Refused { ordinal: self.sent, why: "not_sent".into(), text: text.to_owned() };
                (Said::Taken, vec![line, Line::Problem(error.to_string())])
            }
        }
    }

    fn switch(&mut self, user: &str) -> Vec<Line> {
        match user.parse() {
            Ok(user) if user > 0 => {
                self.peer = UserId(user);
                // A page of the conversation left behind would be shown as one of this.
                self.fetching = None;
                // Zero means the head: what was missed here while writing to somebody else.
                self.older = Older::UpTo(Seq::ZERO);
                let mut lines = vec![Line::Notice(format!("To {user}."))];
                lines.extend(self.show_history(self.history));
                lines
            }
            _ => vec![Line::Problem(format!("/to takes the number of a user, not {user}"))],
        }
    }

    fn show_history(&mut self, count: u64) -> Vec<Line> {
        let Older::UpTo(from) = self.older else { return vec![Line::Notice("There is nothing older.".into())] };
        if count == 0 || self.fetching.is_some() {
            return Vec::new();
        }
        match self.client.fetch_conversation(self.peer, from, Direction::Backwards, count) {
            Ok(fetch) => {
                self.fetching = Some(fetch);
                Vec::new()
            }
            Err(error @ (FetchError::QueueFull { .. } | FetchError::Ended)) => vec![Line::Problem(error.to_string())],
        }
    }

    pub(crate) fn on_event(&mut self, event: &ClientEvent) -> Vec<Line> {
        match event {
            ClientEvent::Welcome(welcome) => {
                let mut lines = vec![Line::Connected { user: welcome.user }];
                lines.extend(self.on_committed(welcome.committed));
                if self.last_number.is_none() {
                    self.last_number = Some(welcome.last_number);
                    // History ends where the push begins, so nothing is shown twice.
                    if welcome.cursor > Seq::ZERO {
                        self.older = Older::UpTo(welcome.cursor);
                        lines.extend(self.show_history(self.history));
                    }
                }
                lines
            }
            ClientEvent::MessageAccepted { handle, seq, durability, recipient, .. } => {
                let Some(sent) = self.unanswered.remove(handle) else { return Vec::new() };
                let Sent { ordinal, to, text } = sent;
                if *recipient != client::Recipient::Yourself {
                    self.undelivered.insert(to, *seq);
                }
                let (seq, durability, recipient) = (*seq, *durability, *recipient);
                if durability < Durability::Committed {
                    self.uncommitted = self.uncommitted.max(Some(seq));
                }
                vec![Line::Accepted { ordinal, to, seq, durability, recipient, text }]
            }
            ClientEvent::Committed { up_to } => self.on_committed(*up_to).into_iter().collect(),
            ClientEvent::MessageRefused { handle, code } => {
                let Some(sent) = self.unanswered.remove(handle) else { return Vec::new() };
                self.refused += 1;
                vec![Line::Refused { ordinal: sent.ordinal, why: code.name().into(), text: sent.text }]
            }
            ClientEvent::Entry(entry) => self.on_entry(entry),
            ClientEvent::Page { fetch, page } if self.fetching == Some(*fetch) => {
                self.fetching = None;
                self.on_history(page)
            }
            ClientEvent::FetchRefused { code, detail, .. } => {
                self.fetching = None;
                vec![Line::Problem(format!("the history was refused: {} ({detail})", code.name()))]
            }
            ClientEvent::ServerError { code, detail, .. } => {
                vec![Line::Problem(format!("the server complains: {} ({detail})", code.name()))]
            }
            ClientEvent::TokenExpiring { expires_in_ms } => {
                vec![Line::Notice(format!("-- the token expires in {} s", expires_in_ms.div_ceil(1000)))]
            }
            ClientEvent::TokenRefused { code, detail } => {
                vec![Line::Problem(format!("the new token was refused: {} ({detail})", code.name()))]
            }
            ClientEvent::Disconnected { reason, retry_in_ms } => {
                vec![Line::Disconnected { retry_in_ms: *retry_in_ms, reason: reason.to_string() }]
            }
            ClientEvent::Page { .. }
            | ClientEvent::Numbered { .. }
            | ClientEvent::TokenRefreshed { .. }
            | ClientEvent::Ended(_) => Vec::new(),
        }
    }

    /// Worth a line if it was said of a message that it is not committed.
    fn on_committed(&mut self, up_to: Seq) -> Option<Line> {
        self.uncommitted.take_if(|seq| *seq <= up_to).map(|_| Line::Committed { up_to })
    }

    fn on_entry(&mut self, entry: &Entry) -> Vec<Line> {
        match &entry.event {
            Event::Received { .. } => {
                self.received += 1;
                self.message(entry, Origin::Now).into_iter().collect()
            }
            // What this run sent is shown when it is accepted.
            Event::Sent { device, number, .. } if *device == self.device && Some(*number) > self.last_number => {
                Vec::new()
            }
            Event::Sent { .. } => self.message(entry, Origin::Now).into_iter().collect(),
            Event::Delivered { peer, up_to } => {
                if self.undelivered.get(peer).is_some_and(|seq| seq <= up_to) {
                    self.undelivered.remove(peer);
                }
                vec![Line::Delivered { peer: *peer, up_to: *up_to }]
            }
            Event::Unknown { .. } => Vec::new(),
        }
    }

    fn on_history(&mut self, page: &Page) -> Vec<Line> {
        self.older = if page.more && page.first > Seq(1) { Older::UpTo(page.first.previous()) } else { Older::Nothing };
        let is_delivered = |entry: &Entry| entry.seq <= page.delivered_up_to;
        let origin = |entry| Origin::History { is_delivered: is_delivered(entry) };
        let mut lines: Vec<Line> = page.entries.iter().filter_map(|entry| self.message(entry, origin(entry))).collect();
        if let Older::UpTo(_) = self.older {
            lines.insert(0, Line::Notice("(there is more: /history)".into()));
        }
        lines
    }

    fn message(&self, entry: &Entry, origin: Origin) -> Option<Line> {
        let (seq, time) = (entry.seq, entry.time);
        let text = |content: &Content| content.as_text().unwrap_or("(something that this version can not show)").into();
        match &entry.event {
            Event::Received { from, content, .. } => {
                let is_peer = *from == self.peer;
                Some(Line::Received { from: *from, is_peer, seq, time, text: text(content), origin })
            }
            Event::Sent { to, content, .. } => Some(Line::Sent { to: *to, seq, time, text: text(content), origin }),
            Event::Delivered { .. } | Event::Unknown { .. } => None,
        }
    }
}
