//! The client's side of the protocol as a pure state machine: arguments in, effects out. No socket, no clock, no randomness.
//!
//! Owns the life of the connection: opening, greeting, keepalive, when to try again. What it knows about messages is in
//! `outbox`, about the log in `position`, about fetches in `fetches`.
//!
//! ```text
//! Waiting -> Opening -> Greeting -> Ready      any of them -> Waiting (something failed) or Ended (pointless or closed)
//! ```

use std::ops::ControlFlow;

use proto_spec::{
    Body, ClientFrame, ClientKind, Content, ConversationId, Decoder, DeviceId, DeviceInfo, Direction, Entry, ErrorCode,
    Event, Page, RawFrame, Reply, RequestId, Seq, ServerFrame, Settings, UserId, frame::FrameError, limits,
};

use crate::{
    backoff::Backoff,
    config::{Config, ConfigError, Unanswered, check_token},
    epochs::Told,
    event::{ClientEvent, DisconnectReason, EndReason, FetchError, FetchHandle, SendError, SendHandle, WelcomeInfo},
    fetches::{Fetches, Range},
    limits::{
        ACKNOWLEDGE_AFTER_MS, OPEN_TIMEOUT_MS, PING_AFTER_MS, PONG_TIMEOUT_MS, REPLACED_MAX, REPLACED_WITHIN_MS,
        RETRY_AFTER_MAX_MS, STABLE_AFTER_MS, WELCOME_TIMEOUT_MS,
    },
    outbox::{Contradiction, Outbox, Refusal},
    position::{Position, check_page},
    renewal::Renewal,
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
    /// Open a link to the server and answer with [`Input::Connected`] or [`Input::Disconnected`].
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
    Ended,
}

/// A connection after its welcome.
#[derive(Clone, Debug)]
struct Session {
    since: MonotonicMs,
    window: usize,
    ping_after_ms: u64,
    /// When the last byte came, and when the last frame left.
    heard_at: MonotonicMs,
    spoke_at: MonotonicMs,
    /// When a ping left after which nothing was heard.
    pinged_at: Option<MonotonicMs>,
    acknowledge_at: Option<MonotonicMs>,
    /// A message was accepted or an entry handed out: the server does its work.
    has_progressed: bool,
}

impl Session {
    fn keepalive_deadline(&self) -> MonotonicMs {
        match self.pinged_at {
            Some(at) => at.after(PONG_TIMEOUT_MS),
            None => self.heard_at.min(self.spoke_at).after(self.ping_after_ms),
        }
    }
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
    phase: Phase,
    decoder: Option<Decoder>,
    outbox: Outbox,
    position: Position,
    fetches: Fetches,
    backoff: Backoff,
    text_bytes_max: usize,
    close_wanted: bool,
    last_nonce: u64,
    /// How often another connection of this device took the place of this one of late, and when first.
    replaced: (u32, MonotonicMs),
    /// Answers that nothing had asked for. Harmless; a number that grows points to a fault in the server.
    unasked_answers: u64,
}

/// What handling a frame led to. The connection ends with `Break`.
type Flow = ControlFlow<Stop>;

/// Why a connection ends, and whether another follows.
enum Stop {
    Retry { reason: DisconnectReason, retry_after_ms: u64 },
    End(EndReason),
}

impl From<DisconnectReason> for Stop {
    fn from(reason: DisconnectReason) -> Self {
        Self::Retry { reason, retry_after_ms: 0 }
    }
}

impl ClientState {
    /// A device that has not connected yet. The first [`Input::Tick`] asks for a link.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            device: config.device,
            good_token: config.token.clone(),
            hello_token: String::new(),
            token: config.token,
            renewal: Renewal::default(),
            phase: Phase::Waiting { open_at: MonotonicMs(0) },
            decoder: None,
            outbox: Outbox::new(config.keeping, config.unanswered),
            position: Position::new(config.resume, config.epoch, config.acknowledging),
            fetches: Fetches::default(),
            backoff: Backoff::new(config.backoff_max_ms),
            text_bytes_max: limits::TEXT_BYTES_MAX,
            close_wanted: false,
            last_nonce: 0,
            replaced: (0, MonotonicMs(0)),
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
                self.outbox.deadline(now),
                self.fetches.deadline(now),
                self.renewal.deadline(),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Ended => None,
        }
    }

    /// Takes a message. It leaves with the next turn, so follow up with [`Input::Tick`].
    ///
    /// # Errors
    /// The queue is full, the message is one that no server takes, or the client has stopped.
    pub fn send(&mut self, to: impl Into<ConversationId>, content: Content) -> Result<SendHandle, SendError> {
        if self.is_stopping() {
            return Err(SendError::Ended);
        }
        let to = to.into();
        if to == UserId(0).into() {
            return Err(SendError::Recipient);
        }
        check_content(&content, self.text_bytes_max)?;
        self.outbox.push(to, content)
    }

    /// Takes a message back that has no answer yet. The answer is [`ClientEvent::MessageCancelled`], or
    /// [`ClientEvent::MessageAccepted`] if it was too late: it comes with the next turn, so follow up with [`Input::Tick`], or, if the
    /// message may have been accepted on an earlier connection, with the next connection. Whether there is such a message.
    pub fn cancel(&mut self, handle: SendHandle) -> bool {
        self.outbox.cancel(handle)
    }

    /// Asks for a page of the user's log. `from` is included; zero, going backwards, means the head.
    ///
    /// # Errors
    /// Too many fetches wait, or the client has stopped.
    pub fn fetch_log(&mut self, from: Seq, direction: Direction, limit: u64) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Log, from, direction, limit)
    }

    /// Asks for a page of one conversation; otherwise as [`ClientState::fetch_log`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_conversation(
        &mut self,
        conversation: impl Into<ConversationId>,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Conversation(conversation.into()), from, direction, limit)
    }

    /// Asks for the conversations whose last message is before `before` (zero: all), from the newest on, and for the newest
    /// `messages` of the first of them.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_inbox(&mut self, before: Seq, limit: u64, messages: u64) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Inbox { messages }, before, Direction::Backwards, limit)
    }

    /// The user has read everything in the conversation up to this seq of the own log. `tell`: the other side is told.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn mark_read(
        &mut self,
        conversation: impl Into<ConversationId>,
        up_to: Seq,
        tell: bool,
    ) -> Result<FetchHandle, FetchError> {
        let range = Range::Read { conversation: conversation.into(), tell };
        self.fetch(range, up_to, Direction::Forwards, 0)
    }

    /// From now on the user keeps the conversation with these set, and with those cleared.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn set_conversation(
        &mut self,
        conversation: impl Into<ConversationId>,
        set: Settings,
        cleared: Settings,
    ) -> Result<FetchHandle, FetchError> {
        let range = Range::Settings { conversation: conversation.into(), set, cleared };
        self.fetch(range, Seq::ZERO, Direction::Forwards, 0)
    }

    /// Asks for the user's devices. The answer is [`ClientEvent::Devices`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_devices(&mut self) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Devices, Seq::ZERO, Direction::Forwards, 0)
    }

    /// Removes a device of the user, for ever. The answer is [`ClientEvent::Devices`], or the end of this client if it was its own.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn remove_device(&mut self, device: DeviceId) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::RemoveDevice(device), Seq::ZERO, Direction::Forwards, 0)
    }

    /// Gives a device of the user a name; empty: none. The answer is [`ClientEvent::Devices`].
    ///
    /// # Errors
    /// The name has more than [`limits::NAME_BYTES_MAX`] bytes; else as [`ClientState::fetch_log`].
    pub fn name_device(&mut self, device: DeviceId, name: &str) -> Result<FetchHandle, FetchError> {
        let (size, max) = (name.len(), limits::NAME_BYTES_MAX);
        if size > max {
            return Err(FetchError::NameLength { size, max });
        }
        self.fetch(Range::NameDevice(device, name.to_owned()), Seq::ZERO, Direction::Forwards, 0)
    }

    fn fetch(&mut self, range: Range, from: Seq, direction: Direction, limit: u64) -> Result<FetchHandle, FetchError> {
        if self.is_stopping() {
            return Err(FetchError::Ended);
        }
        self.fetches.push(range, from, direction, limit)
    }

    /// The application is done with everything up to `seq`. Needed with [`crate::Acknowledging::ByApplication`] only.
    pub fn acknowledge(&mut self, seq: Seq) {
        self.position.confirm(seq);
    }

    /// The application has stored the number of this message. Needed with [`crate::Keeping::ByApplication`] only.
    pub fn kept(&mut self, handle: SendHandle) {
        self.outbox.kept(handle);
    }

    /// The token from now on: for the next connection, and for the one that is there, which goes on with it. It leaves with the
    /// next turn, so follow up with [`Input::Tick`]. The one that is known already changes nothing.
    ///
    /// # Errors
    /// It is one that no server takes.
    pub fn set_token(&mut self, token: String) -> Result<(), ConfigError> {
        check_token(&token)?;
        if token != self.token {
            self.token = token;
            self.renewal.begin();
        }
        Ok(())
    }

    /// Says bye and stops with the next turn, whatever is still unanswered.
    pub fn close(&mut self) {
        self.close_wanted = true;
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
        self.close_wanted || self.is_ended()
    }

    fn on_connected(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        if let Phase::Opening { .. } = self.phase {
            self.phase = Phase::Greeting { deadline: now.after(WELCOME_TIMEOUT_MS) };
            self.decoder = Some(Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32));
            let token = self.renewal.token_of_hello(&self.token, &self.good_token).to_owned();
            self.hello_token.clone_from(&token);
            let hello = ClientFrame::Hello {
                version_min: proto_spec::PROTOCOL_VERSION,
                version_max: proto_spec::PROTOCOL_VERSION,
                device: self.device,
                resume: self.position.resume(),
                token,
                epoch: self.position.epoch(),
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
                Phase::Waiting { .. } | Phase::Opening { .. } | Phase::Ended => Flow::Continue(()),
            },
            // A kind of a newer server, which promises that nothing is lost by passing it over.
            Err(FrameError::UnknownKind(_)) => Flow::Continue(()),
            Err(error @ FrameError::Body { .. }) => protocol_fault(error.to_string()),
        }
    }

    fn on_greeting(&mut self, now: MonotonicMs, frame: ServerFrame, effects: &mut Effects) -> Flow {
        match frame {
            ServerFrame::Welcome {
                version,
                user,
                server_time,
                head,
                cursor,
                last_number,
                send_window,
                text_bytes_max,
                page_entries_max,
                idle_timeout_ms,
                committed,
                epoch,
                capabilities,
            } => {
                if version != proto_spec::PROTOCOL_VERSION {
                    return Flow::Break(Stop::End(EndReason::Version(version)));
                }
                self.good_token.clone_from(&self.hello_token);
                if self.position.is_beyond(head) {
                    return other_log(format!("the log ends at {head}, before what this device holds"));
                }
                if let Err(reason) = self.position.welcome(cursor, epoch) {
                    return Flow::Break(reason.into());
                }
                self.outbox.connected(last_number);
                self.text_bytes_max = usize::try_from(text_bytes_max).unwrap_or(usize::MAX).min(limits::TEXT_BYTES_MAX);
                self.phase = Phase::Ready(Session {
                    since: now,
                    // A window of zero would be a client that never sends.
                    window: send_window.clamp(1, limits::SEND_WINDOW) as usize,
                    // Twice in the server's patience, so that one lost ping does not end the connection.
                    ping_after_ms: (idle_timeout_ms / 3).clamp(1_000, PING_AFTER_MS),
                    heard_at: now,
                    spoke_at: now,
                    pinged_at: None,
                    acknowledge_at: None,
                    has_progressed: false,
                });
                effects.events.push(ClientEvent::Welcome(WelcomeInfo {
                    user,
                    device: self.device,
                    server_time,
                    head,
                    cursor,
                    last_number,
                    send_window,
                    text_bytes_max,
                    page_entries_max,
                    committed,
                    epoch: self.position.epoch(),
                    capabilities: capabilities.or_first(),
                }));
                Flow::Continue(())
            }
            ServerFrame::Bye { code: ErrorCode::Replaced, detail, .. } => self.on_replaced(now, detail),
            ServerFrame::Bye { code, retry_after_ms, detail, devices } => {
                self.on_bye(code, retry_after_ms, detail, devices)
            }
            ServerFrame::Error { code, retry_after_ms, detail, .. } => Flow::Break(Stop::Retry {
                reason: DisconnectReason::Protocol(format!("{} before the welcome: {detail}", code.name())),
                retry_after_ms,
            }),
            ServerFrame::Accepted { .. }
            | ServerFrame::Refused { .. }
            | ServerFrame::Deliver { .. }
            | ServerFrame::Page(_)
            | ServerFrame::Ping { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::Committed { .. }
            | ServerFrame::TokenExpiring { .. }
            | ServerFrame::Refreshed { .. }
            | ServerFrame::Epoch { .. }
            | ServerFrame::GivenUp { .. }
            | ServerFrame::Inbox(_)
            | ServerFrame::Marked { .. }
            | ServerFrame::Devices { .. } => protocol_fault(format!("{} before the welcome", frame.kind().name())),
        }
    }

    fn on_frame(&mut self, now: MonotonicMs, frame: ServerFrame, effects: &mut Effects) -> Flow {
        match frame {
            ServerFrame::Accepted { number, seq, time, durability, recipient } => {
                let Some(message) = self.outbox.accepted(number) else {
                    self.unasked_answers += 1;
                    return Flow::Continue(());
                };
                let handle = message.handle;
                let event = ClientEvent::MessageAccepted { handle, number, seq, time, durability, recipient };
                effects.events.push(event);
                if self.position.accepted(seq) {
                    let (to, device, content) = (message.to, self.device, message.content);
                    let event = Event::Sent { to, device, number, content };
                    effects.events.push(ClientEvent::Entry(Entry { seq, time, event }));
                }
                self.settle(now, effects)
            }
            ServerFrame::GivenUp { number, seq } => {
                self.unasked_answers += u64::from(!self.outbox.given_up(number, seq));
                self.settle(now, effects)
            }
            ServerFrame::Refused { number, code, retry_after_ms, expected } => {
                match self.outbox.refused(now, number, code, retry_after_ms, expected) {
                    Refusal::Later => {}
                    Refusal::ForGood(handle) => effects.events.push(ClientEvent::MessageRefused { handle, code }),
                    Refusal::Unasked => self.unasked_answers += 1,
                }
                self.settle(now, effects)
            }
            ServerFrame::Deliver { entry } => match self.position.deliver(entry) {
                Ok(entry) => {
                    effects.events.extend(entry.map(ClientEvent::Entry));
                    Flow::Continue(())
                }
                Err(reason) => Flow::Break(reason.into()),
            },
            ServerFrame::Page(page) => self.on_page(page, effects),
            ServerFrame::Inbox(inbox) => {
                let first = inbox.rows.first().map(|row| row.conversation);
                match self.fetches.inbox_came(inbox.request, first) {
                    Some(fetch) => effects.events.push(ClientEvent::Inbox { fetch, inbox }),
                    None => self.unasked_answers += 1,
                }
                Flow::Continue(())
            }
            ServerFrame::Marked { request } => {
                match self.fetches.answered(request) {
                    Some(fetch) => effects.events.push(ClientEvent::Marked { fetch }),
                    None => self.unasked_answers += 1,
                }
                Flow::Continue(())
            }
            ServerFrame::Error { code, kind, request, retry_after_ms, detail } => {
                self.on_error(now, code, kind, request, retry_after_ms, detail, effects);
                Flow::Continue(())
            }
            ServerFrame::Ping { nonce } => {
                ClientFrame::Pong { nonce }.encode(&mut effects.bytes);
                Flow::Continue(())
            }
            // Any byte proves that the link lives; which ping this answers does not matter.
            ServerFrame::Pong { .. } => Flow::Continue(()),
            ServerFrame::Bye { code: ErrorCode::Replaced, detail, .. } => self.on_replaced(now, detail),
            ServerFrame::Bye { code, retry_after_ms, detail, devices } => {
                self.on_bye(code, retry_after_ms, detail, devices)
            }
            ServerFrame::TokenExpiring { expires_in_ms } => {
                effects.events.push(ClientEvent::TokenExpiring { expires_in_ms });
                Flow::Continue(())
            }
            ServerFrame::Refreshed { expires } => {
                if self.renewal.accepted() {
                    if self.renewal == Renewal::Done {
                        self.good_token.clone_from(&self.token);
                    }
                    effects.events.push(ClientEvent::TokenRefreshed { expires });
                } else {
                    self.unasked_answers += 1;
                }
                Flow::Continue(())
            }
            ServerFrame::Epoch { first, epoch } => match self.position.epoch_begins(first, epoch) {
                Told::New => {
                    effects.events.push(ClientEvent::Epoch(epoch));
                    Flow::Continue(())
                }
                Told::Again => Flow::Continue(()),
                Told::OtherLog => other_log(format!("an epoch that this device does not know begins at {first}")),
            },
            ServerFrame::Devices { request, devices } => {
                match self.fetches.answered(request) {
                    Some(fetch) => effects.events.push(ClientEvent::Devices { fetch, devices }),
                    None => self.unasked_answers += 1,
                }
                Flow::Continue(())
            }
            ServerFrame::Committed { up_to } => {
                effects.events.push(ClientEvent::Committed { up_to });
                Flow::Continue(())
            }
            ServerFrame::Welcome { .. } => protocol_fault("a second welcome".into()),
        }
    }

    fn on_page(&mut self, page: Page, effects: &mut Effects) -> Flow {
        if page.request == RequestId(0) {
            return match self.position.page(page) {
                Ok(entries) => {
                    effects.events.extend(entries.into_iter().map(ClientEvent::Entry));
                    Flow::Continue(())
                }
                Err(reason) => Flow::Break(reason.into()),
            };
        }
        if let Err(reason) = check_page(&page) {
            return Flow::Break(reason.into());
        }
        match self.fetches.answered(page.request) {
            Some(fetch) => effects.events.push(ClientEvent::Page { fetch, page }),
            None => self.unasked_answers += 1,
        }
        Flow::Continue(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    fn on_error(
        &mut self,
        now: MonotonicMs,
        code: ErrorCode,
        kind: u8,
        request: RequestId,
        retry_after_ms: u64,
        detail: String,
        effects: &mut Effects,
    ) {
        if kind == ClientKind::Refresh.byte() {
            return self.on_refresh_refused(now, code, retry_after_ms, detail, effects);
        }
        let requests = match request {
            RequestId(0) => self.fetches.in_flight_of(kind),
            request => vec![request],
        };
        if code == ErrorCode::NoSuchDevice && self.fetches.was_removed_before(request) {
            return;
        }
        if requests.is_empty() {
            effects.events.push(ClientEvent::ServerError { code, kind, detail });
        } else if retry_after_ms > 0 {
            let not_before = now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS));
            requests.into_iter().for_each(|request| self.fetches.put_off(request, not_before));
        } else {
            let refused = requests.into_iter().filter_map(|request| self.fetches.answered(request));
            effects.events.extend(refused.map(|fetch| ClientEvent::FetchRefused {
                fetch,
                code,
                detail: detail.clone(),
            }));
        }
    }

    fn on_refresh_refused(
        &mut self,
        now: MonotonicMs,
        code: ErrorCode,
        retry_after_ms: u64,
        detail: String,
        effects: &mut Effects,
    ) {
        let was_asked = if retry_after_ms > 0 {
            self.renewal.put_off(now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS)))
        } else {
            // A server that does not know refreshes takes new tokens in a hello only.
            let was_asked = match code {
                ErrorCode::UnknownKind => self.renewal.accepted(),
                _ => self.renewal.refused(),
            };
            effects.events.extend(was_asked.then_some(ClientEvent::TokenRefused { code, detail }));
            was_asked
        };
        self.unasked_answers += u64::from(!was_asked);
    }

    fn settle(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        let numbered = |handle, number| effects.events.push(ClientEvent::Numbered { handle, number });
        match self.outbox.settle(now, numbered) {
            Ok(()) => Flow::Continue(()),
            Err(Contradiction) => protocol_fault("a number was refused that is used up".into()),
        }
    }

    /// What is due by now, whatever the input was.
    fn end_turn(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        while let Some(handle) = self.outbox.next_cancelled() {
            effects.events.push(ClientEvent::MessageCancelled { handle });
        }
        if self.close_wanted && !self.is_ended() {
            if matches!(self.phase, Phase::Ready(_)) {
                self.acknowledge_now(effects);
                ClientFrame::Bye.encode(&mut effects.bytes);
            }
            return Flow::Break(Stop::End(EndReason::Closed));
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
            Phase::Ended => {}
        }
        Flow::Continue(())
    }

    fn end_ready_turn(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        let Phase::Ready(session) = &mut self.phase else { return Flow::Continue(()) };
        let window = session.window;
        self.outbox.number(now, window, |handle, number| effects.events.push(ClientEvent::Numbered { handle, number }));
        while let Some(frame) = self.outbox.next_frame(now, window) {
            frame.encode(&mut effects.bytes);
        }
        while let Some(frame) = self.fetches.next_frame(now) {
            frame.encode(&mut effects.bytes);
        }
        if let Some(frame) = self.renewal.next_frame(now, &self.token) {
            frame.encode(&mut effects.bytes);
        }
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

    fn acknowledge_now(&mut self, effects: &mut Effects) {
        if let Some(seq) = self.position.unacknowledged() {
            ClientFrame::Acknowledge { seq }.encode(&mut effects.bytes);
            self.position.acknowledged(seq);
        }
    }

    /// The end of this connection, and perhaps of the client.
    /// Another connection of this device came: of another program, or an own one that was given up and came late.
    fn on_replaced(&mut self, now: MonotonicMs, detail: String) -> Flow {
        let (times, first) = &mut self.replaced;
        if now.since(*first) >= REPLACED_WITHIN_MS {
            *times = 0;
        }
        if *times == 0 {
            *first = now;
        }
        *times += 1;
        let code = ErrorCode::Replaced;
        Flow::Break(if *times < REPLACED_MAX {
            DisconnectReason::Bye { code, detail }.into()
        } else {
            Stop::End(EndReason::Refused { code, detail })
        })
    }

    fn on_lost(&self, reason: DisconnectReason) -> Flow {
        match self.phase {
            Phase::Opening { .. } | Phase::Greeting { .. } | Phase::Ready(_) => Flow::Break(reason.into()),
            Phase::Waiting { .. } | Phase::Ended => Flow::Continue(()),
        }
    }

    fn on_bye(&self, code: ErrorCode, retry_after_ms: u64, detail: String, devices: Vec<DeviceInfo>) -> Flow {
        if code == ErrorCode::DeviceRefused && !devices.is_empty() {
            return Flow::Break(Stop::End(EndReason::TooManyDevices { devices, detail }));
        }
        // It was the older token's fault: the next hello has the newer one.
        let is_outdated = is_of_the_token(code) && self.renewal.has_newer();
        Flow::Break(if is_final(code) && !is_outdated {
            Stop::End(EndReason::Refused { code, detail })
        } else {
            Stop::Retry { reason: DisconnectReason::Bye { code, detail }, retry_after_ms }
        })
    }

    fn stop(&mut self, now: MonotonicMs, random: u64, stop: Stop, effects: &mut Effects) {
        if !matches!(self.phase, Phase::Waiting { .. } | Phase::Ended) {
            effects.link = Some(Link::Close);
        }
        if let Phase::Ready(session) = &self.phase
            && (session.has_progressed || now.since(session.since) >= STABLE_AFTER_MS)
        {
            self.backoff.reset();
        }
        self.decoder = None;
        self.outbox.disconnected();
        self.fetches.disconnected();
        match stop {
            Stop::Retry { reason, retry_after_ms } => {
                let retry_in_ms = self.backoff.delay_ms(random, retry_after_ms);
                self.phase = Phase::Waiting { open_at: now.after(retry_in_ms) };
                effects.events.push(ClientEvent::Disconnected { reason, retry_in_ms });
            }
            Stop::End(reason) => {
                self.phase = Phase::Ended;
                effects.events.push(ClientEvent::Ended(reason));
            }
        }
    }
}

/// What no server takes would only be refused.
fn check_content(content: &Content, text_bytes_max: usize) -> Result<(), SendError> {
    let text_length = |size| SendError::TextLength { size, max: text_bytes_max };
    match (content.body(), content.fault()) {
        (Ok(Body::Text(text) | Body::Reply(Reply { text, .. })), Some(ErrorCode::TextLength)) => {
            Err(text_length(text.len()))
        }
        (Ok(Body::Text(text)), _) if text.len() > text_bytes_max => Err(text_length(text.len())),
        // A server may be newer than this client.
        (_, None | Some(ErrorCode::ContentKind)) => Ok(()),
        (_, Some(_)) => Err(SendError::ContentLimits),
    }
}

const fn is_progress(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::MessageAccepted { .. } | ClientEvent::Entry(_))
}

/// Kinds of frames below it are never a server's (SPEC 4).
const SERVER_KIND_MIN: u8 = 0x81;

/// What came instead of a welcome is no frame of a server.
fn foreign(bytes: &[u8]) -> Flow {
    // An alert of TLS, of whatever version.
    let words = match bytes {
        [0x15, 0x03, ..] => "it answers in TLS",
        _ => "it answers in another protocol",
    };
    Flow::Break(DisconnectReason::NotRingpost(words.to_owned()).into())
}

/// What the device holds is not the beginning of the log. The server does not always see that: it knows where a connection resumes, not
/// what had been handed out.
fn other_log(detail: String) -> Flow {
    Flow::Break(Stop::End(EndReason::Refused { code: ErrorCode::OtherLog, detail }))
}

fn protocol_fault(what: String) -> Flow {
    Flow::Break(DisconnectReason::Protocol(what).into())
}

/// Whether another token may help.
const fn is_of_the_token(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TokenMissing | ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::Revoked)
}

/// Whether the same device with the same token would be sent away again.
const fn is_final(code: ErrorCode) -> bool {
    match code {
        ErrorCode::Version
        | ErrorCode::TlsRequired
        | ErrorCode::TokenMissing
        | ErrorCode::TokenInvalid
        | ErrorCode::TokenExpired
        | ErrorCode::Revoked
        | ErrorCode::DeviceRefused
        | ErrorCode::DeviceRemoved
        | ErrorCode::CursorAhead
        | ErrorCode::OtherLog => true,
        ErrorCode::Malformed
        | ErrorCode::FrameTooLarge
        | ErrorCode::UnknownKind
        | ErrorCode::NotNow
        | ErrorCode::NoSuchDevice
        | ErrorCode::HandshakeTimeout
        | ErrorCode::SendGap
        | ErrorCode::TextLength
        | ErrorCode::ContentKind
        | ErrorCode::ContentLimits
        | ErrorCode::Recipient
        | ErrorCode::WindowFull
        | ErrorCode::AcknowledgeAhead
        | ErrorCode::NoSuchMessage
        | ErrorCode::NotTheAuthor
        | ErrorCode::TooLate
        | ErrorCode::OtherKind
        | ErrorCode::TakenBack
        | ErrorCode::TooManyFetches
        | ErrorCode::NumberUsed
        | ErrorCode::GivenUp
        | ErrorCode::Overloaded
        | ErrorCode::StorageFull
        | ErrorCode::StorageFailed
        | ErrorCode::TooManyConnections
        | ErrorCode::RateLimited
        | ErrorCode::Replaced
        | ErrorCode::IdleTimeout
        | ErrorCode::Stopping
        | ErrorCode::SlowConsumer
        | ErrorCode::Unknown(_) => false,
    }
}
