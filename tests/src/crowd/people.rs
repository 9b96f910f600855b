//! People: each device has the production client, and what it holds of groups. It follows SPEC 8.12: pointers, pushes and pages say how far a
//! group has reached, and what lacks of it is fetched.

use std::ops::ControlFlow;

use client::{ClientEvent, ClientState, Config, DisconnectReason, Effects, Input, MonotonicMs};
use proto_spec::{
    ClientFrame, Decoder, DeviceId, Direction, EpochId, GroupId, Resume, Seq, UserId, limits::CLIENT_FRAME_BYTES_MAX,
};
use server::access::handshake::Resumption;

use super::{
    Crowd,
    device::{Device, Heard, Held},
    told::Line,
};
use crate::world::Link;

/// A device.
pub(super) struct App {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) state: Option<ClientState>,
    pub(super) link: Option<Link>,
    line: Option<Line>,
    /// The client has asked for a link, and there is none yet.
    opens: bool,
    pub(super) connected: bool,
    position: Option<Seq>,
    epoch: EpochId,
    unanswered: Vec<client::Unanswered>,
    /// Does not read until then.
    pub(super) stalled_until_ms: u64,
    /// Is not started before.
    pub(super) away_until_ms: u64,
    pub(super) holds: Device,
}

impl App {
    pub(super) fn new(user: UserId, device: DeviceId) -> Self {
        Self {
            user,
            device,
            state: None,
            link: None,
            line: None,
            opens: false,
            connected: false,
            position: None,
            epoch: EpochId(0),
            unanswered: Vec::new(),
            stalled_until_ms: 0,
            away_until_ms: 0,
            holds: Device::default(),
        }
    }

    /// Connected, everything answered.
    pub(super) fn is_quiet(&self) -> bool {
        let is_answered = self.state.as_ref().is_some_and(|state| state.unanswered_count() == 0);
        self.connected && is_answered && self.holds.is_answered()
    }

    pub(super) fn describe(&self) -> String {
        let state = self.state.as_ref();
        let unanswered = state.map(ClientState::unanswered_count);
        format!(
            "user {} device {}: connected {}, {unanswered:?} unanswered, everything answered {}, at {:?}",
            self.user,
            self.device,
            self.connected,
            self.holds.is_answered(),
            state.and_then(ClientState::position)
        )
    }
}

impl Crowd {
    /// An app starts, perhaps again.
    pub(super) fn start_app(&mut self, index: usize) {
        let app = &mut self.apps[index];
        if app.state.is_some() || app.away_until_ms > self.world.now.monotonic_ms {
            return;
        }
        let mut config = Config::new("simulated:1", "a token", app.device);
        config.backoff_max_ms = 500;
        if let Some(position) = app.position {
            (config.resume, config.epoch) = (Resume::After(position), app.epoch);
        }
        config.unanswered = std::mem::take(&mut app.unanswered);
        let is_again = !config.unanswered.is_empty();
        app.state = Some(ClientState::new(config).expect("the simulator's configuration is good"));
        if is_again {
            self.reached("app restarted with unanswered sends");
        }
        self.turn(index, Input::Tick);
    }

    /// The app ends without a word, and keeps what it holds.
    pub(super) fn crash_app(&mut self, index: usize, away_ms: u64) {
        self.lose_link(index);
        let now_ms = self.world.now.monotonic_ms;
        let app = &mut self.apps[index];
        let Some(state) = app.state.take() else { return };
        app.position = state.position();
        app.unanswered = state.unanswered().into_iter().map(|(_, message)| message).collect();
        (app.opens, app.connected) = (false, false);
        app.holds.forget_fetches();
        app.away_until_ms = now_ms + away_ms;
    }

    /// The connection breaks; the client does not know of it yet.
    fn lose_link(&mut self, index: usize) -> bool {
        let app = &mut self.apps[index];
        app.line = None;
        let Some(link) = app.link.take() else { return false };
        if self.world.clients[link.0].closed.is_none() {
            self.world.disconnect(link);
        }
        true
    }

    /// The connection breaks.
    pub(super) fn cut(&mut self, index: usize) {
        if self.lose_link(index) {
            self.reached("connection cut");
            self.turn(index, Input::Disconnected("the simulator cut it".to_owned()));
        }
    }

    /// Whether the client wants a link.
    pub(super) fn wants_link(&self, index: usize) -> bool {
        self.apps[index].opens && self.apps[index].link.is_none()
    }

    pub(super) fn open_link(&mut self, index: usize) {
        self.apps[index].opens = false;
        self.turn(index, Input::Connected);
    }

    /// Something for the client to read, or the end of its connection.
    pub(super) fn may_read(&self, index: usize) -> bool {
        let app = &self.apps[index];
        let Some(link) = app.link else { return false };
        let is_stalled = app.stalled_until_ms > self.world.now.monotonic_ms;
        let client = &self.world.clients[link.0];
        client.closed.is_some() || (!is_stalled && self.world.waiting(link) > 0)
    }

    /// The client reads what the kernel has for it.
    pub(super) fn read(&mut self, index: usize, bytes_max: usize) {
        let Some(link) = self.apps[index].link else { return };
        let taken = self.world.drain_some(link, bytes_max);
        if let Some(line) = &mut self.apps[index].line {
            line.ahead -= taken.min(line.ahead);
        }
        let mut bytes = Vec::new();
        self.world.take(link).iter().for_each(|frame| frame.encode(&mut bytes));
        if !bytes.is_empty() {
            self.turn(index, Input::Bytes(&bytes));
        }
        if self.apps[index].link == Some(link) && self.world.clients[link.0].closed.is_some() {
            self.lose_link(index);
            self.turn(index, Input::Disconnected("the server closed it".to_owned()));
        }
    }

    /// Looks at what has been queued for clients since the last time.
    pub(super) fn look_at_lines(&mut self) {
        for index in 0..self.apps.len() {
            let app = &mut self.apps[index];
            let (Some(link), Some(line)) = (app.link, &mut app.line) else { continue };
            if self.world.waiting(link) > line.ahead {
                let bytes = self.world.waiting_behind(link, line.ahead);
                let frames = line.hears(&bytes, &mut self.truth);
                frames.iter().for_each(|frame| self.frame_left(index, frame));
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick_apps(&mut self) {
        for index in 0..self.apps.len() {
            let now = MonotonicMs(self.world.now.monotonic_ms);
            let deadline = self.apps[index].state.as_ref().and_then(|state| state.deadline(now));
            if deadline.is_some_and(|at| at <= now) {
                self.turn(index, Input::Tick);
            }
        }
    }

    /// One turn of the client, and what it asks for.
    pub(super) fn turn(&mut self, index: usize, input: Input<'_>) {
        let random = self.rng.next();
        let now = MonotonicMs(self.world.now.monotonic_ms);
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let mut effects = Effects::default();
        state.handle(now, random, input, &mut effects);
        if !effects.bytes.is_empty() {
            self.client_says(index, &effects.bytes);
        }
        match effects.link {
            Some(client::Link::Open) => self.apps[index].opens = true,
            Some(client::Link::Close) => _ = self.lose_link(index),
            None => {}
        }
        let mut again = false;
        for event in effects.events {
            again |= self.on_event(index, event);
        }
        if again {
            self.turn(index, Input::Tick);
        }
    }

    /// The first frame is a hello, with which a connection begins; all others go to it.
    fn client_says(&mut self, index: usize, bytes: &[u8]) {
        let mut frames = Vec::new();
        let decoded = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32).decode(bytes, |raw| {
            frames.push(ClientFrame::decode(raw).expect("a client's own frame can be read"));
            ControlFlow::Continue(())
        });
        decoded.expect("a client's own frames can be read");
        for frame in frames {
            let app = &mut self.apps[index];
            if let ClientFrame::Hello { resume, epoch, since, skip_above, .. } = frame {
                let resumption = Resumption { resume, epoch, since, skip_above };
                app.link = Some(self.world.open(app.user, app.device, resumption));
                app.line = Some(Line::new(app.user, app.device));
                self.after_step();
                continue;
            }
            let Some(link) = app.link.filter(|link| self.world.clients[link.0].closed.is_none()) else { continue };
            self.world.frame(link, &frame);
            if let Some(line) = &mut self.apps[index].line {
                line.says(frame, Some(&mut self.truth));
            }
            self.after_step();
        }
    }

    /// What the app does with an event; true if the client should look again.
    fn on_event(&mut self, index: usize, event: ClientEvent) -> bool {
        let (user, device) = (self.apps[index].user, self.apps[index].device);
        self.note(|| format!("user {user} device {device}: {event:?}"));
        if let Some(heard) = self.apps[index].holds.hears(&event) {
            return self.heard(index, heard);
        }
        match event {
            ClientEvent::Welcome(welcome) => {
                (self.apps[index].connected, self.apps[index].epoch) = (true, welcome.epoch);
                self.subscribe_app(index);
                return true;
            }
            ClientEvent::Subscription { state, .. } => self.on_subscription(index, &state),
            ClientEvent::Epoch(epoch) => self.apps[index].epoch = epoch,
            ClientEvent::MessageAccepted { number, seq, .. } => {
                let sent = self.truth.sent.get(&(user, seq)).map(|sent| (sent.device, sent.number));
                if sent != Some((device, number)) {
                    self.truth.fail(|| format!("user {user} device {device}: {number} is {seq}: {sent:?}"));
                }
                self.accepted.insert((user, seq));
            }
            ClientEvent::Disconnected { reason, .. } => {
                self.apps[index].connected = false;
                self.apps[index].holds.forget_fetches();
                match reason {
                    DisconnectReason::Hole { .. }
                    | DisconnectReason::Protocol(_)
                    | DisconnectReason::NotRingpost(_)
                    | DisconnectReason::OtherLog(_) => {
                        self.truth.fail(|| format!("user {user} device {device}: {reason}"));
                    }
                    _ => {}
                }
            }
            ClientEvent::CaughtUp
            | ClientEvent::Committed { .. }
            | ClientEvent::Entry(_)
            | ClientEvent::Numbered { .. }
            | ClientEvent::Presence(_) => {}
            other => self.truth.fail(|| format!("user {user} device {device}: this must not be: {other:?}")),
        }
        false
    }

    fn heard(&mut self, index: usize, heard: Heard) -> bool {
        if let Some(wrong) = heard.wrong {
            let who = (self.apps[index].user, self.apps[index].device);
            self.truth.fail(|| format!("{who:?}: {wrong}"));
        }
        if heard.is_pointed_at {
            self.reached("pointer before the push that it speaks of");
        }
        heard.on.is_some_and(|(group, from)| self.fetch(index, group, from, Direction::Forwards, 100))
    }

    // ---- what an app asks for

    /// Looks at a group of which something lacks; says whether something does.
    pub(super) fn fetch_lacking(&mut self, index: usize) -> bool {
        let limit = self.rng.within(1, 10);
        let app = &mut self.apps[index];
        app.state.as_mut().is_some_and(|state| app.holds.fetch_lacking(state, limit))
    }

    fn fetch(&mut self, index: usize, group: GroupId, from: Seq, direction: Direction, limit: u64) -> bool {
        let app = &mut self.apps[index];
        app.state.as_mut().is_some_and(|state| app.holds.fetch(state, group, from, direction, limit))
    }

    /// Reads everything of a group from the first entry on.
    pub(super) fn fetch_all(&mut self, index: usize, group: GroupId) {
        self.apps[index].holds.held.insert(group, Held::default());
        self.fetch(index, group, Seq(1), Direction::Forwards, 7);
        self.turn(index, Input::Tick);
    }

    /// Asks for the members of a group, all of them.
    pub(super) fn fetch_members(&mut self, index: usize, group: GroupId) {
        let app = &mut self.apps[index];
        let asked = app.state.as_mut().and_then(|state| state.fetch_members(group, UserId(0), 100, Seq(0)).ok());
        asked.into_iter().for_each(|fetch| app.holds.asks(fetch));
        self.turn(index, Input::Tick);
    }

    /// Looks at something, whatever it is.
    pub(super) fn look(&mut self, index: usize) {
        let group = *self.rng.pick(&self.groups);
        let limit = self.rng.within(1, 6);
        let from = Seq(self.rng.within(0, 40));
        let app = &mut self.apps[index];
        let Some(state) = &mut app.state else { return };
        let asked = match self.rng.within(0, 11) {
            0..=3 => {
                app.holds.fetch_lacking(state, limit);
                None
            }
            4..=5 => {
                app.holds.fetch(state, group, from, Direction::Backwards, limit);
                None
            }
            6 => {
                app.holds.fetch(state, group, from, Direction::Forwards, limit);
                None
            }
            7..=8 => state.fetch_members(group, UserId(from.0 % 3), limit, Seq(0)).ok(),
            9 => state.fetch_groups(GroupId(0), limit).ok(),
            _ => state.mark_read(group, from, limit > 2).ok(),
        };
        asked.into_iter().for_each(|fetch| app.holds.asks(fetch));
        self.turn(index, Input::Tick);
    }
}
