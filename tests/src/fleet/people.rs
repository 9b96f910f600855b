//! Apps: the production client of one device each, with a person who writes, and whose app crashes. An app keeps what has no answer and
//! where it was, and follows redirects from node to node.

use std::time::Duration;

use client::{
    ClientEvent, ClientState, Config, DisconnectReason, Effects, Input, Keeping, Link, MonotonicMs, Unanswered,
};
use proto_spec::{Content, EpochId, RedirectReason, Resume, Seq, TimestampMs, UserId};
use server::{access::auth, cluster::map::Slot};

use super::{
    BEGAN_MS, Fleet, Happening,
    network::{LineId, people_go_to},
};
use crate::{
    rng::Rng,
    sim::oracle::{DeviceKey, Message},
};

/// Longer than a simulation.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// A device and its app.
pub(super) struct App {
    pub(super) key: DeviceKey,
    token: Option<String>,
    pub(super) state: Option<ClientState>,
    line: Option<LineId>,
    /// By handle: what was written in this run and not answered.
    pub(super) texts: Vec<(client::SendHandle, String)>,
    /// What the app keeps over a crash.
    unanswered: Vec<(Unanswered, String)>,
    /// Whether it keeps its log over a crash, up to where it has it, and the newest epoch that it was told of.
    keeps: bool,
    position: Option<Seq>,
    epoch: EpochId,
    /// Does not read until then.
    pub(super) stalled_until_ms: u64,
    /// Nothing passes between it and any node until then.
    pub(super) parted_until_ms: u64,
    /// It is started again and again until then, and comes to other nodes by that.
    pub(super) roams_until_ms: u64,
    ticks_at_ms: Option<u64>,
    connected: bool,
    /// Nobody uses it any more.
    pub(super) is_gone: bool,
}

impl App {
    pub(super) const fn new(key: DeviceKey, keeps: bool) -> Self {
        Self {
            key,
            keeps,
            position: None,
            epoch: EpochId(0),
            token: None,
            state: None,
            line: None,
            texts: Vec::new(),
            unanswered: Vec::new(),
            stalled_until_ms: 0,
            parted_until_ms: 0,
            roams_until_ms: 0,
            ticks_at_ms: None,
            connected: false,
            is_gone: false,
        }
    }

    /// Where its line leads.
    pub(super) fn address(&self) -> String {
        self.state.as_ref().map_or_else(String::new, |state| state.address().to_owned())
    }

    /// Connected, everything answered, and at the head of its log.
    pub(super) fn is_quiet(&self, head: Seq) -> bool {
        let Some(state) = &self.state else { return false };
        self.connected && state.unanswered_count() == 0 && state.position() == Some(head)
    }

    pub(super) fn describe(&self) -> String {
        let state = self.state.as_ref();
        format!(
            "user {} device {}: connected {} at {}, {:?} unanswered, has its log up to {:?}",
            self.key.0,
            self.key.1,
            self.connected,
            self.address(),
            state.map(ClientState::unanswered_count),
            state.and_then(ClientState::position),
        )
    }
}

/// Anybody but the last one, to whom nobody writes: what that one owes nobody else gives a reason to look for.
fn somebody(apps: &[App], rng: &mut Rng) -> UserId {
    let last = hermit(apps);
    let others: Vec<_> = apps.iter().map(|app| app.key.0).filter(|user| *user != last).collect();
    *rng.pick(&others)
}

fn hermit(apps: &[App]) -> UserId {
    apps.iter().map(|app| app.key.0).max().unwrap_or_default()
}

impl Fleet {
    /// An app is started, perhaps after a crash.
    pub(super) fn start_app(&mut self, index: usize) {
        if self.apps[index].state.is_some() || self.apps[index].is_gone {
            return;
        }
        if self.apps[index].token.is_none() {
            let minted = auth::mint(&self.signing_key, self.apps[index].key.0, TOKEN_TTL, TimestampMs(BEGAN_MS));
            self.apps[index].token = Some(minted.expect("the key is good"));
        }
        let first = if self.apps[index].roams_until_ms > self.now_ms || self.rng.chance(70) {
            people_go_to().to_owned()
        } else {
            "a:1".to_owned()
        };
        let app = &mut self.apps[index];
        let key = app.key;
        let mut config = Config::new(first, app.token.clone().unwrap_or_default(), key.1);
        config.keeping = Keeping::ByApplication;
        config.backoff_max_ms = 1_000;
        if let Some(position) = app.position.filter(|_| app.keeps) {
            (config.resume, config.epoch) = (Resume::After(position), app.epoch);
        }
        let unanswered = std::mem::take(&mut app.unanswered);
        config.unanswered = unanswered.iter().map(|(message, _)| message.clone()).collect();
        let state = ClientState::new(config).expect("the simulator's configuration is good");
        let handles = state.unanswered().into_iter().map(|(handle, _)| handle);
        app.texts = handles.zip(unanswered.into_iter().map(|(_, text)| text)).collect();
        app.state = Some(state);
        app.connected = false;
        if !app.texts.is_empty() {
            self.reached("app restarted with unanswered messages");
        }
        self.oracle.app_started(key);
        self.turn(index, Input::Tick);
        if !self.healing {
            let delay = self.rng.within(1, 200);
            self.schedule(delay, Happening::AppAct(index));
        }
    }

    /// The app crashes; it comes back later.
    pub(super) fn crash_app(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let Some(state) = app.state.take() else { return };
        app.position = state.position();
        self.forget_group_fetches(index);
        let app = &mut self.apps[index];
        let texts = std::mem::take(&mut app.texts);
        let text_of = |handle| texts.iter().find(|(of, _)| *of == handle).map(|(_, text)| text.clone());
        let unanswered = state.unanswered().into_iter();
        app.unanswered = unanswered.filter_map(|(handle, message)| Some((message, text_of(handle)?))).collect();
        if let Some(line) = app.line.take() {
            self.client_closes(line);
        }
        let longest = if self.apps[index].roams_until_ms > self.now_ms { 100 } else { 1_500 };
        let away = self.rng.within(1, longest);
        self.schedule(away, Happening::AppStart(index));
    }

    pub(super) fn on_app_act(&mut self, index: usize) {
        if self.healing || self.apps[index].state.is_none() {
            return;
        }
        if self.apps[index].roams_until_ms > self.now_ms && self.rng.chance(40) {
            return self.crash_app(index);
        }
        match self.rng.within(0, 99) {
            0..=74 => {
                for _ in 0..self.rng.within(1, 3) {
                    self.write_something(index);
                }
            }
            75..=79 => self.apps[index].stalled_until_ms = self.now_ms + self.rng.within(1, 2_000),
            80..=89 => return self.crash_app(index),
            90 => self.apps[index].parted_until_ms = self.now_ms + self.rng.within(200, 5_000),
            _ => {}
        }
        self.turn(index, Input::Tick);
        let delay = self.rng.within(10, 500);
        self.schedule(delay, Happening::AppAct(index));
    }

    fn write_something(&mut self, index: usize) {
        if self.gathering.is_some() && self.rng.chance(75) && self.acts_in_group(index) {
            return;
        }
        let to = somebody(&self.apps, &mut self.rng);
        self.next_text += 1;
        let text = format!("m{}", self.next_text);
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        if let Ok(handle) = state.send(to, Content::text(&text)) {
            app.texts.push((handle, text.clone()));
            let from = app.key;
            let message = Message { from, to, accepted: None, is_cancelled: false, is_text: true, is_silent: false };
            self.oracle.messages.insert(text, message);
        }
    }

    /// The end of trouble: everybody is there and reads.
    pub(super) fn heal_people(&mut self) {
        for index in 0..self.apps.len() {
            (self.apps[index].stalled_until_ms, self.apps[index].parted_until_ms) = (0, 0);
            self.start_app(index);
        }
    }

    /// Somebody is about to leave for good, and writes once more.
    pub(super) fn last_words(&mut self) -> UserId {
        let user = hermit(&self.apps);
        for index in 0..self.apps.len() {
            if self.apps[index].key.0 == user {
                (0..3).for_each(|_| self.write_something(index));
                self.turn(index, Input::Tick);
            }
        }
        // Until some of it is accepted, and has not left.
        let (head, end_ms) = (self.oracle.head_of(user), self.now_ms + 500);
        while self.now_ms < end_ms && self.oracle.head_of(user) == head && self.oracle.failure.is_none() {
            self.go_on_until(self.now_ms + 1);
        }
        user
    }

    /// They are gone, and so is the node that served them: what it owed others for them another one finds.
    pub(super) fn leave_for_good(&mut self, user: UserId) {
        for index in 0..self.apps.len() {
            if self.apps[index].key.0 == user {
                self.apps[index].is_gone = true;
                self.crash_app(index);
                self.oracle.kept.remove(&self.apps[index].key);
            }
        }
        let serving = self.serving();
        let home = serving.iter().copied().find(|pid| self.processes[pid.0].believes_to_own(Slot::of(user)));
        if let Some(home) = home.filter(|_| serving.len() > 1) {
            let is_noticed = self.rng.chance(60);
            self.die(home, is_noticed);
        }
    }

    pub(super) fn on_app_tick(&mut self, index: usize) {
        self.apps[index].ticks_at_ms = None;
        self.turn(index, Input::Tick);
    }

    pub(super) fn app_connected(&mut self, index: usize, line: LineId) {
        if self.apps[index].line == Some(line) {
            self.turn(index, Input::Connected);
        }
    }

    pub(super) fn app_bytes(&mut self, index: usize, line: LineId, bytes: &[u8]) {
        if self.apps[index].line == Some(line) {
            self.turn(index, Input::Bytes(bytes));
        }
    }

    pub(super) fn app_lost(&mut self, index: usize, line: LineId) {
        let app = &mut self.apps[index];
        if app.line == Some(line) {
            app.line = None;
            app.connected = false;
            self.turn(index, Input::Disconnected("the simulator cut it".to_owned()));
        }
    }

    /// One turn of the client, and what it asks for.
    pub(super) fn turn(&mut self, index: usize, input: Input<'_>) {
        let (random, now) = (self.rng.next(), MonotonicMs(self.now_ms));
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let mut effects = Effects::default();
        state.handle(now, random, input, &mut effects);
        let deadline = state.deadline(now);
        if let Some(line) = app.line
            && !effects.bytes.is_empty()
        {
            self.group_asked(line, index, &effects.bytes);
            self.write_to_server(line, &effects.bytes);
        }
        match effects.link {
            Some(Link::Open) => {
                let line = self.open_line(index);
                self.apps[index].line = Some(line);
            }
            Some(Link::Close) => {
                if let Some(line) = self.apps[index].line.take() {
                    self.client_closes(line);
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
                let in_ms = at.saturating_sub(self.now_ms).max(1);
                self.schedule(in_ms, Happening::AppTick(index));
            }
        }
        if again {
            self.turn(index, Input::Tick);
        }
    }

    /// What the app does with an event; true if the client should look again.
    fn on_event(&mut self, index: usize, event: ClientEvent) -> bool {
        let key = self.apps[index].key;
        self.note(|| format!("user {} device {}: {event:?}", key.0, key.1));
        if let Some(again) = self.group_event(index, &event) {
            return again;
        }
        match event {
            ClientEvent::Welcome(welcome) => {
                (self.apps[index].connected, self.apps[index].epoch) = (true, welcome.epoch)
            }
            ClientEvent::Epoch(epoch) => self.apps[index].epoch = epoch,
            ClientEvent::Numbered { handle, number } => {
                if let (Some(state), Some(number)) = (&mut self.apps[index].state, number) {
                    state.kept(handle, number);
                }
                return true;
            }
            ClientEvent::MessageAccepted { handle, seq, .. } => {
                let texts = &mut self.apps[index].texts;
                let text = texts.iter().position(|(of, _)| *of == handle).map(|at| texts.remove(at).1);
                match text {
                    Some(text) => self.oracle.accepted(key, &text, seq),
                    None => self.oracle.fail(|| format!("{key:?}: {handle} was accepted twice, or never sent")),
                }
            }
            ClientEvent::Entry(entry) => self.oracle.handed(key, &entry),
            ClientEvent::Disconnected { reason, .. } => {
                self.apps[index].connected = false;
                self.on_disconnected(key, reason);
            }
            ClientEvent::CaughtUp | ClientEvent::Committed { .. } | ClientEvent::Presence(_) => {}
            other => self.oracle.fail(|| format!("{key:?}: this must not be: {other:?}")),
        }
        false
    }

    fn on_disconnected(&mut self, key: DeviceKey, reason: DisconnectReason) {
        match reason {
            DisconnectReason::Redirected { reason: RedirectReason::Elsewhere, .. } => {
                self.reached("client followed a redirect in place of a welcome");
            }
            DisconnectReason::Redirected { .. } => {
                self.reached("client followed a redirect of a connection that was served");
            }
            DisconnectReason::Circle { .. } => self.reached("circle of redirects avoided"),
            DisconnectReason::Elsewhere { why, .. } => self.on_disconnected(key, *why),
            DisconnectReason::Hole { .. }
            | DisconnectReason::Protocol(_)
            | DisconnectReason::NotRingpost(_)
            | DisconnectReason::OtherLog(_) => {
                self.oracle.fail(|| format!("{key:?}: {reason}"));
            }
            _ => {}
        }
    }
}
