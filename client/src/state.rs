//! The client's side of the protocol as a pure state machine: arguments in, effects out. No socket, no clock, no randomness.
//!
//! Owns the life of the connection: opening, greeting, keepalive, when to try again. What it knows about messages is in
//! `outbox`, about the log in `position`, about fetches in `fetches`. In `state/`: what the application calls, what the server
//! says, and how a connection ends.
//!
//! ```text
//! Waiting -> Opening -> Greeting -> Ready      any of them -> Waiting (something failed), Tokenless (another token is wanted),
//!                                              Suspended (the application wants none), or Ended (pointless or closed)
//! ```

mod answers;
mod calls;
mod ending;
mod greeting;
mod groups;
mod presence;
mod replacing;
mod session;

use std::ops::ControlFlow;

use proto_spec::{
    ClientFrame, ClientKind, Decoder, DeviceId, ErrorCode, RawFrame, Seq, ServerFrame, Status, frame::FrameError,
    limits,
};

use self::{
    answers::announces,
    ending::{Flow, Lately, Stop, foreign, protocol_fault},
    replacing::Replacing,
    session::Session,
};
use crate::{
    backoff::Backoff,
    config::{Config, ConfigError, Unanswered},
    event::{ClientEvent, DisconnectReason, EndReason, SendHandle},
    fetches::Fetches,
    limits::{ACKNOWLEDGE_AFTER_MS, OPEN_TIMEOUT_MS, WELCOME_TIMEOUT_MS},
    nodes::Nodes,
    outbox::Outbox,
    position::Position,
    receipts::Receipts,
    renewal::Renewal,
    typing::Typing,
    watching::Watching,
};

/// Milliseconds of a clock that never goes back. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicMs(pub u64);

impl MonotonicMs {
    /// This much later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long ago `earlier` was.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What happened to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The link that was to be opened is open.
    Connected,
    /// The next bytes of the stream, in any cut.
    Bytes(&'a [u8]),
    /// The link is gone, or could not be opened; in words for a person.
    Disconnected(String),
    /// The link is gone, because who answered could not show that it is the server.
    Untrusted(String),
    /// The link is gone, because who answered does not speak what was spoken to it.
    Foreign(String),
    /// Nothing; but time has passed, or the application has called something.
    Tick,
}

/// What to do with the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Open a link to [`ClientState::address`] and answer with [`Input::Connected`] or [`Input::Disconnected`].
    Open,
    /// Write the bytes of this turn if that is possible at once, and close. No answer is expected.
    Close,
}

/// What a turn asks for. Bytes first, then the link.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// To be written to the link.
    pub bytes: Vec<u8>,
    /// To be done with the link.
    pub link: Option<Link>,
    /// For the application, in this order.
    pub events: Vec<ClientEvent>,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No link until `open_at`.
    Waiting {
        open_at: MonotonicMs,
    },
    Opening {
        deadline: MonotonicMs,
    },
    /// Hello is sent.
    Greeting {
        deadline: MonotonicMs,
    },
    Ready(Session),
    /// No link until there is another token, nor before `open_at`.
    Tokenless {
        open_at: MonotonicMs,
    },
    /// No link until [`ClientState::resume`].
    Suspended,
    Ended,
}

/// What the application wants of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    GoOn,
    BeSuspended,
    End,
}

/// One device of one user, through all its connections.
#[derive(Clone, Debug)]
pub struct ClientState {
    device: DeviceId,
    /// The newest one.
    token: String,
    /// The one that the server has taken last.
    good_token: String,
    /// That of the last hello: good if it is welcome.
    hello_token: String,
    renewal: Renewal,
    nodes: Nodes,
    phase: Phase,
    decoder: Option<Decoder>,
    outbox: Outbox,
    position: Position,
    receipts: Receipts,
    fetches: Fetches,
    watching: Watching,
    typing: Typing,
    /// Whether somebody looks at the application, and what this connection was told of that.
    status: Status,
    said_status: Status,
    backoff: Backoff,
    text_bytes_max: usize,
    replacing: Replacing,
    wish: Wish,
    /// The server wants no connection before.
    not_before: MonotonicMs,
    asks_for_tokens: bool,
    /// The network may be another one since the last turn.
    is_network_new: bool,
    last_nonce: u64,
    /// Another connection of this device took the place of this one.
    replaced: Lately,
    /// Answers that nothing had asked for. Harmless; a number that grows points to a fault in the server.
    unasked_answers: u64,
}

impl ClientState {
    /// A device that has not connected yet. The first [`Input::Tick`] asks for a link.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let position = Position::new(&config);
        Ok(Self {
            device: config.device,
            good_token: config.token.clone(),
            hello_token: String::new(),
            token: config.token,
            renewal: Renewal::default(),
            nodes: Nodes::new(config.server, config.follows_redirects),
            phase: Phase::Waiting { open_at: MonotonicMs(0) },
            decoder: None,
            outbox: Outbox::new(config.keeping, config.unanswered),
            position,
            receipts: Receipts::new(config.acknowledging),
            fetches: Fetches::default(),
            watching: Watching::default(),
            typing: Typing::default(),
            status: Status::Here,
            said_status: Status::Here,
            backoff: Backoff::new(config.backoff_max_ms),
            text_bytes_max: limits::TEXT_BYTES_MAX,
            replacing: Replacing::default(),
            wish: Wish::GoOn,
            is_network_new: false,
            not_before: MonotonicMs(0),
            asks_for_tokens: config.asks_for_tokens,
            last_nonce: 0,
            replaced: Lately::default(),
            unasked_answers: 0,
        })
    }

    /// One turn. `random` is any number, used for the delay of a reconnect.
    pub fn handle(&mut self, now: MonotonicMs, random: u64, input: Input<'_>, effects: &mut Effects) {
        let flow = match input {
            Input::Connected => self.on_connected(now, effects),
            Input::Bytes(bytes) => self.on_bytes(now, bytes, effects),
            Input::Disconnected(words) => self.on_lost(DisconnectReason::Link(words)),
            Input::Untrusted(words) => self.on_lost(DisconnectReason::Untrusted(words)),
            Input::Foreign(words) => self.on_lost(DisconnectReason::NotRingpost(words)),
            Input::Tick => Flow::Continue(()),
        };
        let flow = match flow {
            Flow::Continue(()) => self.end_turn(now, effects),
            stop => stop,
        };
        if let Flow::Break(stop) = flow {
            self.stop(now, random, stop, effects);
        }
    }

    /// When the next [`Input::Tick`] is due, if nothing else happens.
    #[must_use]
    pub fn deadline(&self, now: MonotonicMs) -> Option<MonotonicMs> {
        match &self.phase {
            Phase::Waiting { open_at } => Some(*open_at),
            Phase::Opening { deadline } | Phase::Greeting { deadline } => Some(*deadline),
            Phase::Ready(session) => [
                Some(session.keepalive_deadline()),
                session.acknowledge_at,
                self.receipts.deadline(),
                session.redirect.as_ref().map(|redirect| redirect.due),
                self.outbox.deadline(now),
                self.fetches.deadline(now),
                self.renewal.deadline(),
                self.watching.deadline(),
                self.typing.deadline(),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Tokenless { .. } | Phase::Suspended | Phase::Ended => None,
        }
    }

    /// `host:port` of the node that the link leads to, or the next one will: a link that leads elsewhere is not the one that was asked for.
    #[must_use]
    pub fn address(&self) -> &str {
        self.nodes.address()
    }

    /// Messages without an answer, sent or not.
    #[must_use]
    pub fn unanswered_count(&self) -> usize {
        self.outbox.len()
    }

    /// The messages without an answer, as [`Config::unanswered`] takes them. Also after the end.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(SendHandle, Unanswered)> {
        self.outbox.unanswered()
    }

    /// Everything up to here has been handed out. None before the first welcome, unless the application said where it was.
    #[must_use]
    pub fn position(&self) -> Option<Seq> {
        self.position.position()
    }

    /// Answers that nothing had asked for. They are passed over.
    #[must_use]
    pub const fn unasked_answers(&self) -> u64 {
        self.unasked_answers
    }

    /// Whether the client has stopped for good.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    const fn is_stopping(&self) -> bool {
        matches!(self.wish, Wish::End) || self.is_ended()
    }

    fn on_connected(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        if let Phase::Opening { .. } = self.phase {
            self.phase = Phase::Greeting { deadline: now.after(WELCOME_TIMEOUT_MS) };
            self.decoder = Some(Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32));
            let token = self.renewal.token_of_hello(&self.token, &self.good_token).to_owned();
            self.hello_token.clone_from(&token);
            let (since, skip_above) = self.position.wish();
            let hello = ClientFrame::Hello {
                version_min: proto_spec::PROTOCOL_VERSION,
                version_max: proto_spec::PROTOCOL_VERSION,
                device: self.device,
                resume: self.position.resume(),
                token,
                epoch: self.position.epoch(),
                since,
                skip_above,
                hops: self.nodes.hops(),
            };
            hello.encode(&mut effects.bytes);
        }
        Flow::Continue(())
    }

    fn on_bytes(&mut self, now: MonotonicMs, bytes: &[u8], effects: &mut Effects) -> Flow {
        // Without a decoder there is no connection, and these bytes are what was left of the last one.
        let Some(mut decoder) = self.decoder.take() else { return Flow::Continue(()) };
        let mut flow = Flow::Continue(());
        let decoded = decoder.decode(bytes, |raw| match self.on_raw_frame(now, raw, effects) {
            Flow::Continue(()) => ControlFlow::Continue(()),
            stop => {
                flow = stop;
                ControlFlow::Break(())
            }
        });
        if let Phase::Ready(session) = &mut self.phase {
            session.has_progressed |= effects.events.iter().any(is_progress);
            session.heard_at = now;
            session.pinged_at = None;
            session.is_doubted = false;
        }
        let held_kind = decoder.held_kind();
        self.decoder = Some(decoder);
        match (decoded, &self.phase) {
            (Ok(()), Phase::Greeting { .. }) if flow.is_continue() => match held_kind {
                // Not waited for until it is whole, which it may never be.
                Some(kind) if kind < SERVER_KIND_MIN => foreign(bytes),
                _ => flow,
            },
            (Ok(()), _) => flow,
            (Err(_), Phase::Greeting { .. }) => foreign(bytes),
            (Err(error), _) => protocol_fault(error.to_string()),
        }
    }

    fn on_raw_frame(&mut self, now: MonotonicMs, raw: RawFrame<'_>, effects: &mut Effects) -> Flow {
        if matches!(self.phase, Phase::Greeting { .. }) && raw.kind < SERVER_KIND_MIN {
            return foreign(&[]);
        }
        match ServerFrame::decode(raw) {
            Ok(frame) => match self.phase {
                Phase::Greeting { .. } => self.on_greeting(now, frame, effects),
                Phase::Ready(_) => self.on_frame(now, frame, effects),
                Phase::Waiting { .. }
                | Phase::Opening { .. }
                | Phase::Tokenless { .. }
                | Phase::Suspended
                | Phase::Ended => Flow::Continue(()),
            },
            // A kind of a newer server, which promises that nothing is lost by passing it over.
            Err(FrameError::UnknownKind(_)) => Flow::Continue(()),
            Err(error @ FrameError::Body { .. }) => protocol_fault(error.to_string()),
        }
    }

    /// What is due by now, whatever the input was.
    fn end_turn(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        while let Some(handle) = self.outbox.next_cancelled() {
            effects.events.push(ClientEvent::MessageCancelled { handle });
        }
        let stop = match (self.wish, &self.phase) {
            (_, Phase::Ended) | (Wish::GoOn, _) | (Wish::BeSuspended, Phase::Suspended) => None,
            (Wish::BeSuspended, _) => Some(Stop::Suspend),
            (Wish::End, _) => Some(Stop::End(EndReason::Closed)),
        };
        if let Some(stop) = stop {
            if matches!(self.phase, Phase::Ready(_)) {
                self.say_bye(now, effects);
            }
            return Flow::Break(stop);
        }
        if std::mem::take(&mut self.is_network_new) {
            self.on_network_changed()?;
        }
        match &mut self.phase {
            Phase::Waiting { open_at } => {
                if *open_at <= now {
                    self.phase = Phase::Opening { deadline: now.after(OPEN_TIMEOUT_MS) };
                    effects.link = Some(Link::Open);
                }
            }
            Phase::Opening { deadline } => {
                if *deadline <= now {
                    return Flow::Break(DisconnectReason::OpenTimeout.into());
                }
            }
            Phase::Greeting { deadline } => {
                if *deadline <= now {
                    return Flow::Break(DisconnectReason::WelcomeTimeout.into());
                }
            }
            Phase::Ready(_) => return self.end_ready_turn(now, effects),
            Phase::Tokenless { .. } | Phase::Suspended | Phase::Ended => {}
        }
        Flow::Continue(())
    }

    fn end_ready_turn(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        let Phase::Ready(session) = &mut self.phase else { return Flow::Continue(()) };
        if let Some(redirect) = session.redirect.take_if(|redirect| redirect.due <= now) {
            self.say_bye(now, effects);
            return Flow::Break(Stop::Redirect(redirect));
        }
        if session.catching_up_to.take_if(|head| self.position.position() >= Some(*head)).is_some() {
            effects.events.push(ClientEvent::CaughtUp);
        }
        let window = session.window;
        self.outbox.number(now, window, announces(effects));
        while let Some(frame) = self.outbox.next_frame(now, window) {
            frame.encode(&mut effects.bytes);
        }
        let server = session.capabilities;
        while let Some((fetch, what)) = self.fetches.next_untaken(&server) {
            let detail = lacks(what);
            effects.events.push(ClientEvent::FetchRefused { fetch, code: ErrorCode::UnknownKind, detail });
        }
        while let Some(frame) = self.fetches.next_frame(now) {
            frame.encode(&mut effects.bytes);
        }
        match self.renewal.next_frame(now, &self.token) {
            Some(frame) if server.takes_frame(frame.kind()) => frame.encode(&mut effects.bytes),
            Some(frame) => self.on_refresh_refused(now, ErrorCode::UnknownKind, 0, lacks(frame.kind().name()), effects),
            None => {}
        }
        self.say_presence(now, effects);
        let Phase::Ready(session) = &mut self.phase else { return Flow::Continue(()) };
        let is_acknowledgement_due = match (self.position.unacknowledged(), session.acknowledge_at) {
            (None, _) => false,
            (Some(_), Some(at)) => at <= now,
            (Some(_), None) => {
                session.acknowledge_at = Some(now.after(ACKNOWLEDGE_AFTER_MS));
                false
            }
        };
        if is_acknowledgement_due {
            session.acknowledge_at = None;
            self.acknowledge_now(effects);
        }
        self.acknowledge_groups(now, false, effects);
        self.keep_alive(now, effects)
    }

    fn keep_alive(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        let Phase::Ready(session) = &mut self.phase else { return Flow::Continue(()) };
        if !effects.bytes.is_empty() {
            session.spoke_at = now;
        }
        if now < session.keepalive_deadline() {
            return Flow::Continue(());
        }
        if session.pinged_at.is_some() {
            return Flow::Break(DisconnectReason::Silent.into());
        }
        session.pinged_at = Some(now);
        session.spoke_at = now;
        self.last_nonce += 1;
        ClientFrame::Ping { nonce: self.last_nonce }.encode(&mut effects.bytes);
        Flow::Continue(())
    }

    fn say_bye(&mut self, now: MonotonicMs, effects: &mut Effects) {
        self.acknowledge_now(effects);
        self.acknowledge_groups(now, true, effects);
        ClientFrame::Bye.encode(&mut effects.bytes);
    }

    fn acknowledge_groups(&mut self, now: MonotonicMs, at_once: bool, effects: &mut Effects) {
        if let Phase::Ready(session) = &self.phase
            && session.capabilities.takes_frame(ClientKind::AcknowledgeGroup)
        {
            self.receipts.take(now, at_once).iter().for_each(|frame| frame.encode(&mut effects.bytes));
        }
    }

    fn acknowledge_now(&mut self, effects: &mut Effects) {
        if let Some(seq) = self.position.unacknowledged() {
            ClientFrame::Acknowledge { seq }.encode(&mut effects.bytes);
            self.position.acknowledged(seq);
        }
    }
}

/// For the developer: what the welcome said that the server does not have.
fn lacks(what: &str) -> String {
    format!("this server does not have `{what}`")
}

const fn is_progress(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::MessageAccepted { .. } | ClientEvent::Entry(_))
}

/// Kinds of frames below it are never a server's (SPEC 4).
const SERVER_KIND_MIN: u8 = 0x81;
