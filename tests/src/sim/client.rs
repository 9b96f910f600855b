//! Apps: the production client of one device each, with a person who writes, reads slowly, and whose app crashes.

use std::{collections::BTreeSet, ops::ControlFlow};

use client::{
    Acknowledging, Check, ClientEvent, ClientState, Config, Conversations, DisconnectReason, Effects, EndReason,
    FetchHandle, History, Input, Keeping, Link, MonotonicMs, NotKnown, Unanswered,
};

use proto_spec::{
    Attachment, AttachmentKind, ClientFrame, Content, ConversationId, Decoder, DeviceId, Direction, Durability, Entry,
    EpochId, ErrorCode, Event, MessageName, Reply, Resume, SendNumber, Seq, UserId, limits::CLIENT_FRAME_BYTES_MAX,
};

use super::{
    Happening, Simulation,
    faults::Fault,
    network::LinkId,
    node::STRANGERS,
    oracle::{DeviceKey, Message, text_of},
};
use crate::rng::Rng;

/// A device and its app.
pub(super) struct App {
    pub(super) key: DeviceKey,
    /// Its own device, while it says that it is one which was removed.
    pub(super) own: Option<DeviceId>,
    token: Option<String>,
    /// When it was made, by the number of happenings.
    pub(super) token_at: u64,
    keeping: Keeping,
    /// Confirms what it is handed late, so that its connections resume before its position.
    is_late: bool,
    pub(super) state: Option<ClientState>,
    link: Option<LinkId>,
    /// By handle: what was written in this run and not answered.
    texts: Vec<(client::SendHandle, String)>,
    /// What the app keeps over a crash.
    unanswered: Vec<(Unanswered, String)>,
    /// The last number of its own that it knows to be used.
    used: Option<SendNumber>,
    /// Messages under numbers that stand for others: what an older copy of its folder would hold.
    misnumbered: BTreeSet<String>,
    /// Does not read until then.
    pub(super) stalled_until_ms: u64,
    /// Nothing passes between it and the node until then.
    pub(super) parted_until_ms: u64,
    ticks_at_ms: Option<u64>,
    connected: bool,
    /// The last message that was accepted with less than `committed`, until it is.
    uncommitted: Option<Seq>,
    /// The newest epoch that it was told of.
    epoch: EpochId,
    /// How it begins.
    begins: Begins,
    /// It has been welcomed since it was started.
    is_placed: bool,
    /// The list of its conversations.
    pub(super) list: Conversations,
    /// What it was handed since it was started.
    pub(super) history: History,
    /// A person looks who is there.
    pub(super) looks: bool,
    /// Whom they watched last.
    pub(super) watches: Vec<UserId>,
    /// What has no answer yet.
    pub(super) fetches: Vec<(FetchHandle, Asked)>,
}

/// Where an app begins in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// Where it was, however much that is.
    Stored,
    /// At the head: it keeps nothing.
    Live,
    /// Where it was, unless more than this lies above it.
    Near(u64),
}

/// What an app has asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// Of the log, or of a conversation.
    Page(Option<UserId>),
    Inbox {
        before: Seq,
        limit: u64,
        messages: u64,
    },
    Mark,
    /// Digests, for this comparison.
    Check(Check),
}

impl App {
    pub(super) fn new(key: DeviceKey, rng: &mut Rng) -> Self {
        Self {
            key,
            own: None,
            token: None,
            token_at: 0,
            is_late: rng.chance(40),
            keeping: if rng.chance(50) { Keeping::ByApplication } else { Keeping::InMemory },
            state: None,
            link: None,
            texts: Vec::new(),
            unanswered: Vec::new(),
            used: None,
            misnumbered: BTreeSet::new(),
            stalled_until_ms: 0,
            parted_until_ms: 0,
            ticks_at_ms: None,
            connected: false,
            uncommitted: None,
            epoch: EpochId(0),
            begins: match rng.within(0, 9) {
                0..=1 => Begins::Live,
                2..=4 => Begins::Near(rng.within(1, 20)),
                _ => Begins::Stored,
            },
            is_placed: false,
            list: Conversations::default(),
            history: History::default(),
            looks: false,
            watches: Vec::new(),
            fetches: Vec::new(),
        }
    }

    /// Another device in the same hands: nothing is left of the one before.
    pub(super) fn begin_anew(&mut self, key: DeviceKey) {
        self.key = key;
        self.unanswered.clear();
        self.used = None;
        self.uncommitted = None;
        self.epoch = EpochId(0);
    }

    /// Up to where it has its log.
    pub(super) fn position(&self) -> Option<Seq> {
        self.state.as_ref()?.position()
    }

    /// Its connection, if it has been welcomed there.
    pub(super) fn welcomed_link(&self) -> Option<LinkId> {
        self.link.filter(|_| self.connected && self.is_running())
    }

    pub(super) const fn is_running(&self) -> bool {
        self.state.is_some()
    }

    /// Connected, everything answered, and at the head of its log.
    pub(super) fn is_quiet(&self, head: Seq) -> bool {
        let Some(state) = &self.state else { return false };
        let is_answered = state.unanswered_count() == 0 && self.uncommitted.is_none();
        self.connected && is_answered && self.fetches.is_empty() && state.position() == Some(head)
    }

    pub(super) fn describe(&self) -> String {
        let state = self.state.as_ref();
        format!(
            "user {} device {}: connected {}, {:?} unanswered, not committed {:?}, asked for {:?}, at {:?}",
            self.key.0,
            self.key.1,
            self.connected,
            state.map(ClientState::unanswered_count),
            self.uncommitted,
            self.fetches,
            state.and_then(ClientState::position),
        )
    }
}

impl Simulation {
    /// An app is started, perhaps after a crash.
    pub(super) fn start_app(&mut self, index: usize) {
        let token = match self.apps[index].token.clone() {
            Some(token) => token,
            None => self.new_token(index),
        };
        self.apps[index].token = Some(token.clone());
        if self.apps[index].is_running() || self.provider.asleep == Some(self.apps[index].key.0) {
            return;
        }
        if self.apps[index].own.is_none() {
            self.pretend(index);
        }
        if self.apps[index].own.is_none() {
            self.misnumber(index);
        }
        let app = &mut self.apps[index];
        let key = app.key;
        let mut config = Config::new("simulated:1", token, key.1);
        config.keeping = app.keeping;
        config.backoff_max_ms = 2_000;
        (config.resume, config.skip_above) = match app.begins {
            Begins::Stored => (Resume::Stored, 0),
            Begins::Live => (Resume::Live, 0),
            Begins::Near(seqs) => (Resume::Stored, seqs),
        };
        if app.is_late {
            config.acknowledging = Acknowledging::ByApplication;
        }
        // Who pretends to be another device has nothing of it.
        let unanswered = if app.own.is_none() { std::mem::take(&mut app.unanswered) } else { Vec::new() };
        config.unanswered = unanswered.iter().map(|(message, _)| message.clone()).collect();
        let state = ClientState::new(config).expect("the simulator's configuration is good");
        app.texts = state
            .unanswered()
            .into_iter()
            .map(|(handle, _)| handle)
            .zip(unanswered.into_iter().map(|(_, t)| t))
            .collect();
        app.state = Some(state);
        (app.connected, app.is_placed, app.list) = (false, false, Conversations::default());
        app.fetches.clear();
        app.history = History::default();
        if !app.texts.is_empty() {
            self.reached("app restarted with unanswered messages");
        }
        self.oracle.app_started(key);
        self.turn(index, Input::Tick);
        if !self.healing {
            let delay = self.rng.within(1, 200);
            self.schedule(delay, Happening::AppAct(index));
            if !std::mem::replace(&mut self.apps[index].looks, true) {
                self.schedule(delay, Happening::AppLook(index));
            }
        }
    }

    /// Sometimes an app comes back with a message under a number that it has used for another one.
    fn misnumber(&mut self, index: usize) {
        let first = self.apps[index].unanswered.iter().filter_map(|(message, _)| message.number).min();
        let used = self.apps[index].used.filter(|used| first.is_none_or(|first| *used < first));
        let (Some(number), Keeping::ByApplication) = (used, self.apps[index].keeping) else { return };
        if self.healing || !self.rng.chance(20) {
            return;
        }
        let to = self.somebody(index);
        self.watching.writes(self.apps[index].key.0, to);
        let text = self.new_text(0);
        let app = &mut self.apps[index];
        let message = Unanswered { number: Some(number), to: to.into(), content: Content::text(&text) };
        app.unanswered.insert(0, (message, text.clone()));
        app.misnumbered.insert(text.clone());
        self.oracle.messages.insert(
            text,
            Message { from: app.key, to, accepted: None, is_cancelled: false, is_text: false, is_silent: false },
        );
    }

    fn new_token(&mut self, index: usize) -> String {
        self.apps[index].token_at = self.next_happening;
        self.machine.token(self.apps[index].key.0, self.now.wall)
    }

    /// The app crashes; it comes back later.
    pub(super) fn crash_app(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let Some(state) = app.state.take() else { return };
        if app.keeping == Keeping::ByApplication && app.own.is_none() {
            let texts = std::mem::take(&mut app.texts);
            let text_of = |handle| texts.iter().find(|(h, _)| *h == handle).map(|(_, text)| text.clone());
            let unanswered = state.unanswered();
            app.unanswered =
                unanswered.into_iter().filter_map(|(handle, message)| Some((message, text_of(handle)?))).collect();
        }
        app.texts.clear();
        let link = app.link.take();
        if let Some(link) = link {
            self.client_closes(link);
        }
        self.reached("app restarted");
        let away = self.rng.within(1, 1_500);
        self.schedule(away, Happening::AppStart(index));
    }

    pub(super) fn on_app_act(&mut self, index: usize) {
        if self.healing || !self.apps[index].is_running() {
            return;
        }
        match self.rng.within(0, 99) {
            0..=9 => self.change_something(index),
            10..=17 => self.react_to_something(index),
            18..=69 => {
                for _ in 0..self.rng.within(1, 4) {
                    self.write_something(index);
                }
            }
            70..=79 => self.fetch_something(index),
            80..=84 => self.apps[index].stalled_until_ms = self.now.monotonic_ms + self.rng.within(1, 3_000),
            85..=90 => return self.crash_app(index),
            91..=92 => {
                // A flood of long texts, so that somebody who does not read falls behind.
                for _ in 0..20 {
                    self.write_text(index, 9_000);
                }
            }
            93 => {
                self.reached("parted from the node");
                self.apps[index].parted_until_ms = self.now.monotonic_ms + self.rng.within(200, 12_000);
            }
            94..=97 => self.mark_something(index),
            98 => self.remove_something(index),
            _ => self.cancel_something(index),
        }
        self.turn(index, Input::Tick);
        let delay = self.rng.within(1, 300);
        self.schedule(delay, Happening::AppAct(index));
    }

    fn write_something(&mut self, index: usize) {
        let long = self.rng.within(0, 60) as usize;
        self.write_text(index, long);
    }

    fn write_text(&mut self, index: usize, padding: usize) {
        let to = self.somebody(index);
        let text = self.new_text(padding);
        let content = self.content_with(&text);
        self.say(index, to, text, content);
    }

    /// Writes to somebody in particular.
    pub(super) fn write_text_to(&mut self, index: usize, to: UserId) {
        let text = self.new_text(0);
        let content = Content::text(&text);
        self.say(index, to, text, content);
        self.turn(index, Input::Tick);
    }

    fn say(&mut self, index: usize, to: UserId, text: String, content: Content) {
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let (is_text, is_silent) = match &content {
            Content::Text(_) | Content::Edit(_) => (true, false),
            Content::Unsend(_) | Content::Reaction(_) => (false, true),
            _ => (false, false),
        };
        if let Ok(handle) = state.send(to, content) {
            app.texts.push((handle, text.clone()));
            let from = app.key;
            self.watching.writes(from.0, to);
            self.oracle
                .messages
                .insert(text, Message { from, to, accepted: None, is_cancelled: false, is_text, is_silent });
        }
    }

    /// Says something else in a text of this user, or takes one back: one of the last, or any.
    fn change_something(&mut self, index: usize) {
        let user = self.apps[index].key.0;
        let own = |message: &&Message| message.from.0 == user && message.is_text;
        let mut texts: Vec<_> =
            self.oracle.messages.values().filter(own).filter_map(|of| Some((of.accepted?, of.to))).collect();
        texts.sort_unstable();
        if texts.is_empty() {
            return;
        }
        let first = if self.rng.chance(50) { texts.len().saturating_sub(3) } else { 0 };
        let (seq, to) = *self.rng.pick(&texts[first..]);
        let Some(entry) = self.oracle.durable.get(&(user, seq)) else { return };
        let Some(place) = entry.place() else { return };
        let name = MessageName { author: user, seq: place };
        let text = self.new_text(5);
        let content = match self.rng.chance(80) {
            true => Content::edit(name, &Content::text(&text), None),
            false => Content::unsend(name, None),
        };
        self.say(index, to, text, content);
    }

    /// Reacts to a message of any kind, own or received: one of the last, or any.
    fn react_to_something(&mut self, index: usize) {
        let user = self.apps[index].key.0;
        let log = self.oracle.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX))).map(|(_, entry)| entry);
        let messages: Vec<(MessageName, UserId)> = log
            .filter_map(|entry| match &entry.event {
                Event::Received { from, origin, content } if content.is_message() => {
                    Some((MessageName { author: *from, seq: *origin }, *from))
                }
                Event::Sent { to: ConversationId::Person(to), content, .. } if content.is_message() => {
                    Some((MessageName { author: user, seq: entry.seq }, *to))
                }
                _ => None,
            })
            .collect();
        if messages.is_empty() {
            return;
        }
        let first = if self.rng.chance(60) { messages.len().saturating_sub(3) } else { 0 };
        let (name, to) = *self.rng.pick(&messages[first..]);
        let reaction = *self.rng.pick(&["👍", "❤", "so true", ""]);
        let text = self.new_text(0);
        self.say(index, to, text, Content::reaction(name, reaction, None));
    }

    fn somebody(&mut self, index: usize) -> UserId {
        let from = self.apps[index].key.0;
        let people = self.apps.iter().map(|app| app.key.0);
        let people: Vec<UserId> = people.filter(|to| !self.watching.are_parted(from, *to)).collect();
        // Sometimes somebody who never connects.
        let percent = if self.machine.few_open { 20 } else { 3 };
        if self.rng.chance(percent) {
            return UserId(self.rng.within(*STRANGERS.start(), *STRANGERS.end()));
        }
        *self.rng.pick(&people)
    }

    fn new_text(&mut self, padding: usize) -> String {
        self.next_text += 1;
        format!("m{}{}", self.next_text, ".".repeat(padding))
    }

    /// A content of some kind, by whose words the message is known again.
    fn content_with(&mut self, text: &str) -> Content {
        let (author, seq) = (self.apps[0].key.0, Seq(self.rng.within(1, 40)));
        match self.rng.within(0, 9) {
            0 => Content::reply(&Reply { to: MessageName { author, seq }, quote: "as was said", text }),
            1 => Content::attachment(&Attachment {
                kind: AttachmentKind::Image,
                size: self.rng.within(0, 1 << 40),
                sha256: &[7; 32],
                content_type: "image/png",
                location: "somewhere",
                width: 640,
                height: 480,
                duration_ms: 0,
                thumbnail: "",
                caption: text,
            }),
            2 => Content::opaque(text.as_bytes()),
            _ => Content::text(text),
        }
    }

    /// Takes back one of the last messages that have no answer.
    fn cancel_something(&mut self, index: usize) {
        let back = self.rng.within(1, 3) as usize;
        let app = &mut self.apps[index];
        let handle = app.texts.len().checked_sub(back).map(|at| app.texts[at].0);
        let is_there = handle.zip(app.state.as_mut()).is_none_or(|(handle, state)| state.cancel(handle));
        if !is_there {
            self.oracle.fail(|| format!("{handle:?} has no answer and can not be cancelled"));
        }
    }

    fn fetch_something(&mut self, index: usize) {
        let people: Vec<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let peer = *self.rng.pick(&people);
        let direction = if self.rng.chance(50) { Direction::Forwards } else { Direction::Backwards };
        let from = Seq(self.rng.within(0, 40));
        let limit = self.rng.within(1, 20);
        let conversation = self.rng.chance(50);
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let fetched = if conversation {
            state.fetch_conversation(peer, from, direction, limit)
        } else {
            state.fetch_log(from, direction, limit)
        };
        if let Ok(handle) = fetched {
            app.fetches.push((handle, Asked::Page(conversation.then_some(peer))));
        }
    }

    /// The application is done with everything that it was handed.
    pub(super) fn confirm(&mut self, index: usize) -> bool {
        let Some(state) = &mut self.apps[index].state else { return false };
        state.position().into_iter().for_each(|seq| state.acknowledge(seq));
        true
    }

    pub(super) fn on_app_tick(&mut self, index: usize) {
        self.apps[index].ticks_at_ms = None;
        self.turn(index, Input::Tick);
    }

    pub(super) fn app_connected(&mut self, index: usize, link: LinkId) {
        if self.apps[index].link == Some(link) {
            self.turn(index, Input::Connected);
        }
    }

    pub(super) fn app_bytes(&mut self, index: usize, link: LinkId, bytes: &[u8]) {
        if self.apps[index].link == Some(link) {
            self.turn(index, Input::Bytes(bytes));
        }
    }

    pub(super) fn app_lost(&mut self, index: usize, link: LinkId) {
        let app = &mut self.apps[index];
        if app.link == Some(link) {
            app.link = None;
            app.connected = false;
            self.turn(index, Input::Disconnected("the simulator cut it".to_owned()));
        }
    }

    /// One turn of the client, and what it asks for.
    fn turn(&mut self, index: usize, input: Input<'_>) {
        let random = self.rng.next();
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let mut effects = Effects::default();
        state.handle(MonotonicMs(self.now.monotonic_ms), random, input, &mut effects);
        let deadline = state.deadline(MonotonicMs(self.now.monotonic_ms));
        if let Some(link) = app.link
            && !effects.bytes.is_empty()
        {
            let bytes = self.tamper_hello(effects.bytes);
            self.write_to_server(link, &bytes);
        }
        match effects.link {
            Some(Link::Open) => {
                let link = self.open_link(index);
                self.apps[index].link = Some(link);
            }
            Some(Link::Close) => {
                if let Some(link) = self.apps[index].link.take() {
                    self.client_closes(link);
                }
            }
            None => {}
        }
        let mut again = false;
        for event in effects.events {
            again |= self.on_event(index, event);
        }
        if let Some(MonotonicMs(at)) = deadline {
            let app = &mut self.apps[index];
            if app.ticks_at_ms.is_none_or(|ticks| ticks > at) {
                app.ticks_at_ms = Some(at);
                let in_ms = at.saturating_sub(self.now.monotonic_ms).max(1);
                self.schedule(in_ms, Happening::AppTick(index));
            }
        }
        if again {
            self.turn(index, Input::Tick);
        }
    }

    /// A deliberate fault: what a device says of its gaps is passed over.
    fn tamper_hello(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.fault != Some(Fault::ClaimGaps) {
            return bytes;
        }
        let mut tampered = Vec::new();
        let decoded = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32).decode(&bytes, |raw| {
            let mut frame = ClientFrame::decode(raw).expect("a client's own frame can be read");
            if let ClientFrame::Hello { since, .. } = &mut frame {
                *since = Seq::ZERO;
            }
            frame.encode(&mut tampered);
            ControlFlow::Continue(())
        });
        decoded.expect("a client's own frame can be read");
        tampered
    }

    /// What the app does with an event; true if the client should look again.
    fn on_event(&mut self, index: usize, event: ClientEvent) -> bool {
        let key = self.apps[index].key;
        self.note(|| format!("user {} device {}: {event:?}", key.0, key.1));
        match event {
            ClientEvent::Welcome(welcome) => {
                if self.oracle.removed.contains(&key) {
                    self.oracle.fail(|| format!("{key:?} was removed and is let in"));
                }
                let app = &mut self.apps[index];
                if !app.is_placed && app.begins == Begins::Live && welcome.cursor > Seq::ZERO {
                    self.oracle.skipped(key, welcome.cursor);
                    self.reached("began at the head");
                }
                self.apps[index].is_placed = true;
                self.apps[index].connected = true;
                self.apps[index].epoch = welcome.epoch;
                self.apps[index].uncommitted.take_if(|seq| *seq <= welcome.committed);
                self.subscribe_app(index);
                return true;
            }
            ClientEvent::Skipped { up_to, .. } => {
                self.reached("log skipped");
                self.oracle.skipped(key, up_to);
                self.apps[index].list = Conversations::default();
                self.apps[index].history.skipped(up_to);
            }
            ClientEvent::Epoch(epoch) => {
                self.reached("later epoch of a log");
                self.apps[index].epoch = epoch;
            }
            ClientEvent::Committed { up_to } => {
                self.apps[index].uncommitted.take_if(|seq| *seq <= up_to);
            }
            ClientEvent::Numbered { handle, number } => {
                if let (Some(state), Some(number)) = (&mut self.apps[index].state, number) {
                    state.kept(handle, number);
                }
                return true;
            }
            ClientEvent::MessageAccepted { handle, number, seq, durability, .. } => {
                let app = &mut self.apps[index];
                app.used = app.used.max(Some(number));
                if durability < Durability::Committed {
                    app.uncommitted = app.uncommitted.max(Some(seq));
                }
                let text = app.texts.iter().position(|(h, _)| *h == handle).map(|at| app.texts.remove(at).1);
                match text {
                    Some(text) => self.oracle.accepted(key, &text, seq),
                    None => self.oracle.fail(|| format!("{key:?}: {handle} was accepted twice, or never sent")),
                }
            }
            ClientEvent::MessageCancelled { handle } => {
                self.reached("message cancelled");
                let app = &mut self.apps[index];
                let text = app.texts.iter().position(|(h, _)| *h == handle).map(|at| app.texts.remove(at).1);
                match text {
                    Some(text) => self.oracle.cancelled(key, &text),
                    None => self.oracle.fail(|| format!("{key:?}: {handle} was cancelled and had its answer")),
                }
            }
            ClientEvent::MessageRefused { handle, code: ErrorCode::NumberUsed } => {
                self.reached("number used for another message");
                let app = &mut self.apps[index];
                let text = app.texts.iter().position(|(h, _)| *h == handle).map(|at| app.texts.remove(at).1);
                if text.is_none_or(|text| !app.misnumbered.remove(&text)) {
                    self.oracle.fail(|| format!("{key:?}: {handle} was refused, as if its number were another's"));
                }
            }
            // Another device was faster, or this one.
            ClientEvent::MessageRefused { handle, code: ErrorCode::TakenBack } => {
                self.reached("change of what was taken back");
                let texts = &mut self.apps[index].texts;
                texts.retain(|(of, _)| *of != handle);
            }
            ClientEvent::MessageRefused { handle, code: ErrorCode::NoSuchMessage } => {
                self.reached("change of what was deleted");
                let texts = &mut self.apps[index].texts;
                texts.retain(|(of, _)| *of != handle);
            }
            ClientEvent::MessageRefused { handle, code } => {
                self.oracle.fail(|| format!("{key:?}: {handle} was refused for good with {}", code.name()));
            }
            ClientEvent::GroupEntry { .. }
            | ClientEvent::GroupPage { .. }
            | ClientEvent::Groups { .. }
            | ClientEvent::Members { .. } => {
                self.oracle.fail(|| format!("{key:?} is in no group"));
            }
            ClientEvent::LogReplaced { detail, .. } => {
                self.oracle.fail(|| format!("{key:?}: its log was never replaced: {detail}"));
            }
            ClientEvent::MessageReturned { handle, why, .. } => {
                self.oracle.fail(|| format!("{key:?}: {handle} came back, though the server takes it: {why}"));
            }
            ClientEvent::Entry(entry) => {
                self.oracle.handed(key, &entry);
                self.apps[index].history.entry(&entry);
                let listed = self.apps[index].list.entry(&entry);
                if let Err(NotKnown { before }) = listed {
                    self.ask_for_row(index, before);
                }
                let (told, of) = (self.apps[index].epoch, self.written_in.get(&(key.0, entry.seq)).copied());
                if of > Some(told) {
                    self.oracle.fail(|| format!("{key:?} is handed {entry:?} of epoch {of:?}, and was told of {told}"));
                }
                if self.apps[index].is_late && (self.healing || self.rng.chance(20)) {
                    return self.confirm(index);
                }
                return listed.is_err();
            }
            ClientEvent::Page { fetch, page } => {
                let fetches = &mut self.apps[index].fetches;
                match fetches.iter().position(|(handle, _)| *handle == fetch) {
                    Some(at) => match fetches.remove(at) {
                        (_, Asked::Page(peer)) => self.check_page(key, peer, &page),
                        (_, other) => self.oracle.fail(|| format!("{key:?}: a page instead of {other:?}")),
                    },
                    None => self.oracle.fail(|| format!("{key:?}: a page that nobody asked for")),
                }
            }
            ClientEvent::Inbox { fetch, inbox } => self.on_inbox(index, fetch, &inbox),
            ClientEvent::Marked { fetch } => {
                self.reached("conversation marked");
                self.apps[index].fetches.retain(|(handle, _)| *handle != fetch);
            }
            ClientEvent::FetchRefused { fetch, .. } => {
                self.apps[index].fetches.retain(|(handle, _)| *handle != fetch);
            }
            ClientEvent::Disconnected { reason, .. } => {
                self.apps[index].connected = false;
                self.reached("client lost its connection");
                match reason {
                    DisconnectReason::Hole { .. }
                    | DisconnectReason::Protocol(_)
                    | DisconnectReason::NotRingpost(_) => {
                        self.oracle.fail(|| format!("{key:?}: {reason}"));
                    }
                    _ => {}
                }
            }
            ClientEvent::TokenExpiring { .. } => {
                let token = self.new_token(index);
                self.apps[index].token = Some(token.clone());
                if let Some(link) = self.apps[index].link
                    && let Some(link) = self.links.get(link)
                {
                    link.token_at = self.apps[index].token_at;
                }
                if let Some(state) = &mut self.apps[index].state {
                    let is_set = state.set_token(token);
                    debug_assert!(is_set.is_ok());
                }
                return true;
            }
            ClientEvent::Devices { devices, .. } => self.check_devices(key, &devices),
            ClientEvent::Subscription { state, .. } => self.on_subscription(key, state),
            ClientEvent::Digest { fetch, digests } => self.on_digest(index, fetch, &digests),
            ClientEvent::TokenRefreshed { .. } => self.reached("token refreshed"),
            // The clock jumped, or nobody was there to renew it: whoever used the application signs in again.
            ClientEvent::Ended(EndReason::Refused { code: ErrorCode::TokenExpired, .. }) => {
                self.reached("token expired");
                self.apps[index].token = None;
                self.crash_app(index);
            }
            ClientEvent::Ended(EndReason::Refused { code: ErrorCode::Revoked, .. }) => {
                self.apps[index].token = None;
                self.crash_app(index);
            }
            ClientEvent::Ended(EndReason::Refused { code: ErrorCode::DeviceRemoved, .. }) => self.on_removed(index),
            // Revoked while it was on its way: the connection ends.
            ClientEvent::TokenRefused { code: ErrorCode::Revoked, .. } => {}
            ClientEvent::TokenRefused { code, detail } | ClientEvent::ServerError { code, detail, .. } => {
                self.oracle.fail(|| format!("{key:?}: the server did not take a frame: {} {detail}", code.name()));
            }
            ClientEvent::Typing { .. } | ClientEvent::TypingEnded { .. } => {}
            ClientEvent::Presence(_) | ClientEvent::Presences { .. } => {
                self.oracle.fail(|| format!("{key:?}: it was told of presence, which it did not ask for"));
            }
            ClientEvent::CaughtUp => {}
            other @ (ClientEvent::TokenWanted { .. } | ClientEvent::Suspended) => {
                self.oracle.fail(|| format!("{key:?}: {other:?}, which it did not ask for"));
            }
            ClientEvent::Ended(reason) => self.oracle.fail(|| format!("{key:?}: the client has ended: {reason}")),
        }
        false
    }

    /// A page shows every message of its range (contract 4), in order.
    fn check_page(&mut self, key: DeviceKey, peer: Option<UserId>, page: &proto_spec::Page) {
        let (first, last) = (page.first, page.last);
        let place = |entry: &Entry| if peer.is_some() { entry.concerns().unwrap_or_default() } else { entry.seq };
        let shown: Vec<Seq> = page.entries.iter().map(place).collect();
        if !shown.is_sorted() || shown.iter().any(|seq| *seq < first || *seq > last) {
            self.oracle.fail(|| format!("{key:?}: a page of {first} to {last} shows {shown:?}"));
        }
        if first > last {
            return;
        }
        let wanted = |entry: &&Entry| {
            match peer {
                // Whatever is said of it by now.
                Some(peer) => {
                    let is_it = entry.event.conversation() == Some(peer.into()) && entry.place() == Some(entry.seq);
                    is_it && !self.oracle.is_deleted_at(key.0, entry.seq)
                }
                None => text_of(entry).is_some() && !self.oracle.has_superseded(key.0, entry.seq),
            }
        };
        let range = self.oracle.durable.range((key.0, first)..=(key.0, last)).map(|(_, entry)| entry);
        let missing: Vec<Seq> =
            range.filter(wanted).map(|entry| entry.seq).filter(|seq| shown.binary_search(seq).is_err()).collect();
        if !missing.is_empty() {
            self.oracle.fail(|| format!("{key:?}: a page of {first} to {last} leaves out {missing:?}"));
        }
    }
}
