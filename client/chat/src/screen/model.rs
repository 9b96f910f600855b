//! Everything that a person sees, as a function of what has happened: no terminal, no clock, no connection.
//!
//! Owns the state of the screen and its one step: an [`Input`] changes the model and asks for [`Effect`]s; `draw.rs` shows it. In
//! `model/`: what the client tells, what keys do, what Enter does, and the conversation that is shown. What the program
//! does to the outside world for an effect is in `screen/mod.rs`, which answers with the methods at the end of `impl Model`.

mod commands;
mod conversation;
mod events;
mod groups;
mod keys;
mod people;

use std::collections::BTreeMap;

use client::{
    ConversationId, DeviceId, FetchError, FetchHandle, Groups, MonotonicMs, SendError, SendHandle, Seq, UserId,
};
use crossterm::event::KeyEventKind;
use jiff::tz::TimeZone;

use self::{events::Retold, groups::Filling, people::People};
use super::{
    drafts::Drafts,
    draw,
    editor::Editor,
    effect::{Effect, Input, Now},
    list::List,
    messages::{Messages, Older, Place},
    notice::{About, Notice},
};
use crate::checking::Checking;

/// No conversation is open.
const NOBODY: ConversationId = ConversationId::Person(UserId(0));

/// The connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting,
    Connected,
    /// Tried again then.
    Down {
        until: MonotonicMs,
    },
}

/// The lowest row that is shown, when it is not the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) place: Place,
    /// Counted from the message's first row.
    pub(crate) row: usize,
}

/// What a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// None: the list of conversations is shown.
    pub(crate) peer: Option<ConversationId>,
    pub(crate) history: u64,
    pub(crate) server: String,
    pub(crate) zone: TimeZone,
    pub(crate) size: (u16, u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) me: Option<UserId>,
    pub(crate) list: List,
    pub(crate) checking: Checking,
    /// User 0, who is nobody, until a conversation is opened.
    pub(crate) peer: ConversationId,
    pub(crate) messages: Messages,
    /// Messages of other conversations that came since they were shown, by who wrote them.
    pub(crate) unread: BTreeMap<ConversationId, u64>,
    pub(crate) people: People,
    pub(crate) link: Link,
    /// Where the connection leads, if a redirect has led there.
    pub(crate) elsewhere: Option<String>,
    pub(crate) notice: Option<Notice>,
    pub(crate) editor: Editor,
    /// None: the newest message is shown, and those that come.
    pub(crate) anchor: Option<Anchor>,
    /// Messages that came while others are looked at.
    pub(crate) unseen: u64,
    pub(crate) shows_help: bool,
    /// A list that was asked for, of devices for instance, while it is shown.
    pub(crate) listing: Option<String>,
    /// This one, once the server has said so.
    device: Option<DeviceId>,
    /// What was asked about devices, groups or members and has no answer yet.
    asked: Option<FetchHandle>,
    pub(crate) zone: TimeZone,
    pub(crate) size: (u16, u16),
    server: String,
    history: u64,
    fetching: Option<(FetchHandle, Older)>,
    pub(crate) groups: Groups,
    /// What is missing of the group that is shown is on its way.
    filling: Option<Filling>,
    /// Up to where the conversation that is shown has been marked as read.
    read: Seq,
    /// The log was replaced: up to here it is told anew, and nothing of that is news.
    retold: Retold,
    drafts: Drafts,
    leaving: Option<MonotonicMs>,
    /// A file is being read that is to be attached.
    is_describing: bool,
}

impl Model {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { peer, history, server, zone, size } = setup;
        let list = List::new(peer.is_none());
        let peer = peer.unwrap_or(NOBODY);
        Self {
            me: None,
            list,
            peer,
            messages: Messages::new(peer),
            unread: BTreeMap::new(),
            people: People::default(),
            link: Link::Connecting,
            elsewhere: None,
            notice: None,
            editor: Editor::default(),
            anchor: None,
            unseen: 0,
            shows_help: false,
            checking: Checking::default(),
            listing: None,
            groups: Groups::default(),
            filling: None,
            device: None,
            asked: None,
            zone,
            size,
            server,
            history,
            fetching: None,
            read: Seq::ZERO,
            retold: Retold::Done,
            drafts: Drafts::default(),
            leaving: None,
            is_describing: false,
        }
    }

    /// One step.
    pub(crate) fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(input, Input::Key(_) | Input::Pasted(_)) {
            self.people.key(now, &mut effects);
        }
        match input {
            Input::Client(event) => self.on_event(now, event, &mut effects),
            Input::Key(key) => {
                // Some terminals tell of keys that are let go, too.
                if key.kind != KeyEventKind::Release {
                    self.on_key(now, key, &mut effects);
                }
            }
            Input::Pasted(text) => self.on_paste(&text),
            Input::Resized(columns, rows) => self.size = (columns, rows),
            Input::Described(described) => self.on_described(now, *described, &mut effects),
            Input::Tick => {}
        }
        self.fill(&mut effects);
        self.mark_read(&mut effects);
        self.tell_of_oneself(now, &mut effects);
        if self.leaving.is_some_and(|until| until <= now.monotonic || self.messages.unanswered().next().is_none()) {
            effects.push(Effect::Leave);
        }
        effects
    }

    /// When what is shown changes though nothing happens.
    pub(crate) fn deadline(&self, now: Now) -> Option<MonotonicMs> {
        let next_second = match self.link {
            Link::Down { until } if until > now.monotonic => {
                let left = until.since(now.monotonic);
                Some(now.monotonic.after(left - left.div_ceil(1000).saturating_sub(1) * 1000))
            }
            Link::Connecting | Link::Connected | Link::Down { .. } => None,
        };
        [next_second, self.leaving, self.people.deadline(), draw::deadline(self, now)].into_iter().flatten().min()
    }

    /// What would be lost if the program ended now: messages without an answer, then the draft.
    pub(crate) fn unsent(&self) -> (Vec<String>, Option<String>) {
        let waiting = self.messages.unanswered().map(|waiting| waiting.draft.clone()).collect();
        (waiting, Some(self.editor.text().to_owned()).filter(|draft| !draft.trim().is_empty()))
    }

    fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), about: About::Typing });
    }

    /// The client has taken the message.
    pub(crate) fn taken(&mut self, number: u64, handle: SendHandle) {
        self.messages.taken(number, handle);
    }

    /// It has not: the text is a draft again.
    pub(crate) fn not_taken(&mut self, number: u64, error: SendError) {
        if let Some(waiting) = self.messages.not_taken(number) {
            self.editor.replace(waiting.draft);
        }
        self.say(format!("Not sent: {error}."));
    }

    /// The client has not asked for the conversations.
    pub(crate) fn not_listed(&mut self, error: FetchError) {
        self.say(format!("The conversations can not be had: {error}."));
    }

    /// The client has asked for the page.
    pub(crate) fn fetching(&mut self, fetch: FetchHandle) {
        self.fetching = Some((fetch, self.messages.older));
    }

    /// The client has asked for a list, or for a change of one.
    pub(crate) const fn asked_list(&mut self, fetch: FetchHandle) {
        self.asked = Some(fetch);
    }

    /// It has not.
    pub(crate) fn not_asked(&mut self, error: FetchError) {
        self.say(format!("Not done: {error}."));
    }

    /// It has not.
    pub(crate) fn not_fetched(&mut self, error: FetchError) {
        self.say(format!("Older messages can not be had: {error}."));
    }
}
