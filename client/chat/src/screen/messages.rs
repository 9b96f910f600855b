//! The messages of one conversation, in the order of the log, and those that are on their way into it.
//!
//! Invariants: at most `MESSAGES_MAX` of the log are kept, the newest; `older` says where the next older ones begin. A message
//! that waits stands behind all of the log, until its answer names its place: in a group that of the group. In `messages/`: what is of groups.

mod of_group;

use std::collections::BTreeMap;

use client::{
    Body, Content, ConversationId, Entry, ErrorCode, Event, MessageName, Page, SendHandle, Seq, TimestampMs, UserId,
};

use crate::content::{shown, shown_of};

/// Messages that are kept of a conversation. A person scrolls through hundreds; the server has the rest.
pub(crate) const MESSAGES_MAX: usize = 5_000;

/// Who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Author {
    Me,
    Other(UserId),
}

fn words(author: Author, content: &Content) -> String {
    match author {
        Author::Me => shown(content),
        Author::Other(user) => shown_of(user, content),
    }
}

/// Whose message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Mine,
    Theirs,
}

impl Whose {
    const fn is(self, author: Author) -> bool {
        matches!((self, author), (Self::Mine, Author::Me) | (Self::Theirs, Author::Other(_)))
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Of somebody else: it is here.
    None,
    Waiting,
    InTheLog,
    Delivered,
    Seen,
    Refused(ErrorCode),
}

/// A message, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown<'a> {
    pub(crate) author: Author,
    pub(crate) time: TimestampMs,
    pub(crate) text: &'a str,
    pub(crate) tick: Tick,
}

/// Where a message stands. Those that wait stand behind the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Log(Seq),
    Waiting(u64),
}

/// Where older history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// Up to this seq, included; zero means the head.
    UpTo(Seq),
    Nothing,
}

#[derive(Clone, Debug)]
struct Message {
    author: Author,
    /// Its seq in the author's log, or in that of the group.
    origin: Seq,
    /// Of the entry that says this of it.
    seq: Seq,
    time: TimestampMs,
    /// What is shown of `content`, and of the reactions.
    text: String,
    content: Content,
    /// The last reaction of each, and the seq of its entry.
    reactions: BTreeMap<Author, (Seq, String)>,
}

impl Message {
    /// What an entry at `seq` says of a message: a new one, whose name has `origin`, or one that it changes.
    fn new(author: Author, origin: Seq, seq: Seq, time: TimestampMs, content: Content) -> Self {
        let (origin, time) = match content.about() {
            Some((name, stands)) => (name.seq, stands.map_or(time, |stands| stands.time)),
            None => (origin, time),
        };
        Self { author, origin, seq, time, text: words(author, &content), content, reactions: BTreeMap::new() }
    }

    /// Somebody reacts to it, with an entry at `seq`.
    fn react(&mut self, by: Author, seq: Seq, reaction: &str) {
        if self.reactions.get(&by).is_none_or(|(known, _)| *known < seq) {
            self.reactions.insert(by, (seq, reaction.to_owned()));
            self.write();
        }
    }

    /// What is shown: reactions behind what the message says, each with how many have it if that is more than one.
    fn write(&mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, reaction) in self.reactions.values().filter(|(_, reaction)| !reaction.is_empty()) {
            *counts.entry(reaction).or_default() += 1;
        }
        let shown_of = |(reaction, count): (&&str, &usize)| match count {
            1 => (*reaction).to_owned(),
            count => format!("{reaction} {count}"),
        };
        let reactions: Vec<_> = counts.iter().map(shown_of).collect();
        self.text = words(self.author, &self.content);
        if !reactions.is_empty() {
            self.text += &format!("  [{}]", reactions.join(" · "));
        }
    }
}

/// A message without its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) to: ConversationId,
    /// What was typed.
    pub(crate) draft: String,
    /// What is shown of `content`.
    text: String,
    content: Content,
    time: TimestampMs,
    /// None once it is answered.
    handle: Option<SendHandle>,
    /// Its seq in the own log, if it was sent to a group that has not numbered it.
    accepted: Option<Seq>,
    refused: Option<ErrorCode>,
}

#[derive(Clone, Debug)]
pub(crate) struct Messages {
    peer: ConversationId,
    log: BTreeMap<Seq, Message>,
    /// The peer's devices have what was sent up to here.
    delivered: Seq,
    /// The peer has read what was sent up to here.
    seen: Seq,
    pub(crate) older: Older,
    /// To whomever: a message goes on its way whatever is shown.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

impl Messages {
    pub(crate) fn new(peer: ConversationId) -> Self {
        Self {
            peer,
            log: BTreeMap::new(),
            delivered: Seq::ZERO,
            seen: Seq::ZERO,
            older: Older::Nothing,
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    /// Shows another conversation. What waits goes on waiting.
    pub(crate) fn switch(&mut self, peer: ConversationId) {
        self.peer = peer;
        self.log.clear();
        (self.delivered, self.seen) = (Seq::ZERO, Seq::ZERO);
        self.older = Older::UpTo(Seq::ZERO);
    }

    /// The log is another one, which is told from its beginning. What waits goes on waiting.
    pub(crate) fn discard(&mut self) {
        self.switch(self.peer);
        self.older = Older::Nothing;
    }

    /// Takes an entry of the log. False: it is no message of this conversation.
    pub(crate) fn entry(&mut self, entry: &Entry) -> bool {
        let is_older = |place| matches!(self.older, Older::UpTo(up_to) if place <= up_to);
        if entry.place().is_some_and(|place| place < entry.seq && is_older(place)) {
            // It stands in what has not been loaded, and comes as it is then.
            return false;
        }
        let is_taken = self.put(entry);
        while self.log.len() > MESSAGES_MAX {
            let dropped = self.log.pop_first();
            self.older = dropped.map_or(self.older, |(seq, _)| Older::UpTo(seq));
        }
        is_taken
    }

    /// Takes a page of older history.
    pub(crate) fn page(&mut self, page: &Page) {
        page.entries.iter().for_each(|entry| _ = self.put(entry));
        self.delivered = self.delivered.max(page.delivered_up_to);
        self.seen = self.seen.max(page.seen_up_to);
        let is_more = page.more && page.first > Seq(1);
        self.older = if is_more { Older::UpTo(page.first.previous()) } else { Older::Nothing };
    }

    fn put(&mut self, entry: &Entry) -> bool {
        let (author, origin, content) = match &entry.event {
            Event::Received { from, origin, content } if ConversationId::Person(*from) == self.peer => {
                (Author::Other(*from), *origin, content)
            }
            Event::Sent { to: to @ ConversationId::Person(_), content, .. } if *to == self.peer => {
                (Author::Me, entry.seq, content)
            }
            Event::Delivered { peer, up_to } if ConversationId::Person(*peer) == self.peer => {
                self.delivered = self.delivered.max(*up_to);
                return true;
            }
            Event::Seen { peer, up_to } if ConversationId::Person(*peer) == self.peer => {
                self.seen = self.seen.max(*up_to);
                return true;
            }
            Event::Deleted { conversation, place, .. } if *conversation == self.peer => {
                self.log.remove(place);
                return false;
            }
            Event::Received { .. }
            | Event::Sent { .. }
            | Event::Deleted { .. }
            | Event::Delivered { .. }
            | Event::Seen { .. }
            | Event::Read { .. }
            | Event::Settings { .. }
            | Event::Devices { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => return false,
        };
        if let Ok(Body::Reaction(reaction)) = content.body() {
            let place = reaction.stands.map(|stands| stands.place);
            if let Some(message) = place.and_then(|place| self.log.get_mut(&place)) {
                message.react(author, entry.seq, reaction.reaction);
            }
            return false;
        }
        let message = Message::new(author, origin, entry.seq, entry.time, content.clone());
        if let Some(place) = entry.place() {
            self.show(place, message);
        }
        content.is_message()
    }

    /// Shows a message at its place, unless a newer entry has said something else of it.
    fn show(&mut self, place: Seq, mut message: Message) {
        match self.log.get_mut(&place) {
            Some(known) if known.seq >= message.seq => return,
            // An edit keeps the reactions.
            Some(known) if !matches!(message.content, Content::Unsend(_)) => {
                message.reactions = std::mem::take(&mut known.reactions);
                message.write();
            }
            _ => {}
        }
        self.log.insert(place, message);
    }

    /// Where a message of this conversation stands, by its name.
    fn place_of(&self, name: MessageName) -> Option<Seq> {
        let is_theirs = ConversationId::Person(name.author) == self.peer;
        let is_it = |message: &Message| message.origin == name.seq && (message.author != Author::Me) == is_theirs;
        self.log.iter().find(|(_, message)| is_it(message)).map(|(place, _)| *place)
    }

    /// A message goes on its way. Its number here.
    pub(crate) fn wait(&mut self, to: ConversationId, draft: String, content: Content, time: TimestampMs) -> u64 {
        let number = self.next;
        self.next += 1;
        let text = shown(&content);
        self.waiting
            .insert(number, Waiting { to, draft, text, content, time, handle: None, accepted: None, refused: None });
        number
    }

    /// The client has it.
    pub(crate) fn taken(&mut self, number: u64, handle: SendHandle) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.handle = Some(handle);
        }
    }

    /// The client has not taken it.
    pub(crate) fn not_taken(&mut self, number: u64) -> Option<Waiting> {
        self.waiting.remove(&number)
    }

    pub(crate) fn accepted(&mut self, handle: SendHandle, seq: Seq, time: TimestampMs) {
        let Some(number) = self.number_of(handle) else { return };
        if self.accepted_for_group(number, seq) {
            return;
        }
        let Some(waiting) = self.waiting.remove(&number) else { return };
        if waiting.to != self.peer {
            return;
        }
        let Some((name, _)) = waiting.content.about() else {
            return self.show(seq, Message::new(Author::Me, seq, seq, time, waiting.content));
        };
        if let Ok(Body::Reaction(reaction)) = waiting.content.body() {
            if let Some(message) = self.place_of(name).and_then(|place| self.log.get_mut(&place)) {
                message.react(Author::Me, seq, reaction.reaction);
            }
            return;
        }
        if let Some(known) = self.log.get(&name.seq) {
            let message = Message { time: known.time, ..Message::new(Author::Me, seq, seq, time, waiting.content) };
            self.show(name.seq, message);
        }
    }

    pub(crate) fn refused(&mut self, handle: SendHandle, code: ErrorCode) -> Option<&Waiting> {
        let number = self.number_of(handle)?;
        let waiting = self.waiting.get_mut(&number)?;
        waiting.refused = Some(code);
        Some(waiting)
    }

    /// It was taken back in time.
    pub(crate) fn cancelled(&mut self, handle: SendHandle) -> Option<Waiting> {
        self.waiting.remove(&self.number_of(handle)?)
    }

    /// The newest one of this conversation without an answer.
    pub(crate) fn newest_unanswered(&self) -> Option<SendHandle> {
        let here =
            |waiting: &&Waiting| waiting.to == self.peer && waiting.refused.is_none() && waiting.handle.is_some();
        self.waiting.values().rev().find(here)?.handle
    }

    /// Whether a message of this conversation, and not only a change of one, has no answer: there is no name for it yet.
    pub(crate) fn has_unanswered_message(&self) -> bool {
        let mut unanswered = self.waiting.values().filter(|waiting| waiting.refused.is_none());
        unanswered.any(|waiting| waiting.to == self.peer && waiting.content.is_message())
    }

    fn number_of(&self, handle: SendHandle) -> Option<u64> {
        self.waiting.iter().find(|(_, waiting)| waiting.handle == Some(handle)).map(|(number, _)| *number)
    }

    /// The message that a command is about, by its place in the log; none: the newest of one's own, or of others. With its name, if `me` is who
    /// sits here.
    pub(crate) fn find(&self, seq: Option<Seq>, by: Whose, me: UserId) -> Option<(MessageName, &Content)> {
        let is_message = |message: &&Message| !matches!(message.content, Content::Act(_));
        let message = match seq {
            Some(seq) => self.log.get(&seq).filter(is_message)?,
            None => self.log.values().rev().filter(is_message).find(|message| by.is(message.author))?,
        };
        let author = match message.author {
            Author::Me => me,
            Author::Other(user) => user,
        };
        Some((MessageName { author, seq: message.origin }, &message.content))
    }

    /// The message that is to be deleted, by its place in the log; none: the last one.
    pub(crate) fn find_place(&self, seq: Option<Seq>) -> Option<Seq> {
        let is_message = |message: &Message| !matches!(message.content, Content::Act(_));
        match seq {
            Some(seq) => self.log.get(&seq).filter(|message| is_message(message)).map(|_| seq),
            None => self.log.iter().rev().find(|(_, message)| is_message(message)).map(|(seq, _)| *seq),
        }
    }

    /// What has no answer yet.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values().filter(|waiting| waiting.refused.is_none() && waiting.accepted.is_none())
    }

    /// How many of the log are kept.
    pub(crate) fn kept(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn at(&self, place: Place) -> Option<Shown<'_>> {
        match place {
            Place::Log(seq) => self.log.get(&seq).map(|message| {
                let tick = match message.author {
                    Author::Other(_) => Tick::None,
                    Author::Me if seq <= self.seen => Tick::Seen,
                    Author::Me if seq <= self.delivered => Tick::Delivered,
                    Author::Me => Tick::InTheLog,
                };
                Shown { author: message.author, time: message.time, text: &message.text, tick }
            }),
            Place::Waiting(number) => {
                self.waiting.get(&number).filter(|waiting| waiting.to == self.peer).map(|waiting| {
                    let tick = waiting.refused.map_or(Tick::Waiting, Tick::Refused);
                    Shown { author: Author::Me, time: waiting.time, text: &waiting.text, tick }
                })
            }
        }
    }

    /// The newest message of others.
    pub(crate) fn last_received(&self) -> Option<Seq> {
        let mut received = self.log.iter().rev().filter(|(_, message)| message.author != Author::Me);
        received.next().map(|(seq, _)| *seq)
    }

    pub(crate) fn last(&self) -> Option<Place> {
        self.waiting_here().next_back().or_else(|| self.log.keys().next_back().map(|seq| Place::Log(*seq)))
    }

    pub(crate) fn before(&self, place: Place) -> Option<Place> {
        let in_log = |end: Seq| self.log.range(..end).next_back().map(|(seq, _)| Place::Log(*seq));
        match place {
            Place::Log(seq) => in_log(seq),
            Place::Waiting(_) => {
                let waiting = self.waiting_here().rfind(|other| *other < place);
                waiting.or_else(|| self.log.keys().next_back().map(|seq| Place::Log(*seq)))
            }
        }
    }

    pub(crate) fn after(&self, place: Place) -> Option<Place> {
        let in_log = match place {
            Place::Log(seq) => self.log.range(seq.next()..).next().map(|(seq, _)| Place::Log(*seq)),
            Place::Waiting(_) => None,
        };
        in_log.or_else(|| self.waiting_here().find(|other| *other > place))
    }

    fn waiting_here(&self) -> impl DoubleEndedIterator<Item = Place> {
        let here = self.waiting.iter().filter(|(_, waiting)| waiting.to == self.peer);
        here.map(|(number, _)| Place::Waiting(*number))
    }
}
