//! Session: one device of one user through all its connections, as SPEC 8 tells a client to be, and suspicious. Pure: bytes and times
//! in, bytes and happenings out.
//!
//! Written from the specification and not on the client's state machine: it is a second opinion, and costs a fraction of the memory.
//! A device that does nothing has no outbox, no fetches and no buffer.

mod answers;
mod fetches;
mod groups;
mod happened;
mod looking;
mod opening;
mod outbox;
mod presence;
mod pushes;

use std::ops::ControlFlow;

use proto_spec::{
    ClientFrame, ClientKind, ConversationId, Decoder, Durability, EpochId, ErrorCode, FrameError, GroupId,
    PROTOCOL_VERSION, RawFrame, RequestId, Resume, SendNumber, Seq, ServerFrame, Status, limits,
};

pub use self::{
    fetches::{Ask, Fetch, SETTINGS, check_answer, check_inbox, check_page},
    happened::Happened,
    looking::{Seen, Told},
    opening::{Opened, Screen},
    outbox::{Answer, Leaving, Outbox, Pending},
};
use crate::{
    stats::{Count, Measure, Refused, Stats},
    verify::{Digest, Ledger},
};

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server said so.
    Bye {
        /// Why.
        code: ErrorCode,
        /// When to come back, in milliseconds; 0: not without a change.
        retry_after_ms: u64,
        /// In words.
        detail: String,
    },
    /// Another node serves this user.
    Redirect(Redirect),
    /// The server broke the protocol.
    Fault(String),
}

/// Where a server sends a device (SPEC 4.40).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirect {
    /// Where to connect.
    pub address: String,
    /// Not there earlier, in milliseconds.
    pub after_ms: u64,
    /// Of what the node knows of who serves whom.
    pub map_version: u64,
}

/// What a turn of a session works with.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time, in microseconds since the start of the run.
    pub now_us: u64,
    /// Which connection of the lane it is.
    pub slot: u32,
    /// Its place in the ledger's crew.
    pub seat: u32,
    /// The messages of the lane.
    pub ledger: &'a mut Ledger,
    /// The counts of the lane.
    pub stats: &'a mut Stats,
    /// Bytes for the connection.
    pub out: &'a mut Vec<u8>,
    /// For the scenario.
    pub happened: &'a mut Vec<Happened>,
    /// What the device must be called again for: an outbox that is held, a fetch that was refused for now.
    pub wake: &'a mut Vec<Wake>,
}

/// When a device must be called again, and for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// [`Session::pump`], at this time in microseconds.
    Pump(u64),
    /// [`Session::repeat`], at this time in microseconds.
    Repeat(u64, RequestId),
    /// [`Session::renew_watch`], at this time in microseconds.
    Renew(u64),
    /// [`Session::acknowledge`], when acknowledgements are due.
    Acknowledge,
    /// [`Session::acknowledge_groups`], when those of groups are due.
    AcknowledgeGroups,
    /// [`Session::bye`], when the time has come to go elsewhere.
    Move(Redirect),
}

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection, or none that a hello has been sent on.
    Away,
    Greeting,
    Ready,
}

/// One device. Small: a lane holds thousands.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    outbox: Option<Box<Outbox>>,
    fetches: Option<Box<fetches::Fetches>>,
    opening: Option<Box<opening::Opening>>,
    looking: Option<Box<looking::Looking>>,
    /// What the device was told of the run's messages.
    told: Digest,
    /// Everything up to it has been covered (SPEC 8.2).
    position: Seq,
    /// The newest epoch of the log that it was told of.
    epoch: EpochId,
    acknowledged: Seq,
    /// What it has been pushed of groups and has not acknowledged.
    unsaid: Vec<(GroupId, Seq)>,
    /// Everything up to it has reached the history store (SPEC 4.14).
    committed: Seq,
    /// Where the log stood when the device came first.
    start: Seq,
    last_number: SendNumber,
    /// When the ping left that has no answer; 0: none.
    pinged_us: u64,
    /// When the connection began, when it was welcome, and when something was heard last.
    began_us: u64,
    ready_us: u64,
    heard_us: u64,
    /// Sends that may be in flight: what the run wants, and what the server allows.
    window: u16,
    phase: Phase,
    /// Whether somebody looks at the device.
    status: Status,
    has_been_ready: bool,
    is_acknowledging: bool,
    /// The server knows how to give a number up.
    gives_up: bool,
    /// The hello said that it goes where redirects lead.
    follows: bool,
}

/// With its connection in `links` and its place in the crew an idle device costs far less than the kilobyte that a run may take.
const _: () = assert!(size_of::<Session>() <= 192);

impl Session {
    /// A device that has never connected and has at most `window` sends in flight.
    #[must_use]
    pub const fn new(window: u16) -> Self {
        Self {
            decoder: Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32),
            outbox: None,
            fetches: None,
            opening: None,
            looking: None,
            told: Digest { count: 0, sum: 0 },
            position: Seq::ZERO,
            epoch: EpochId(0),
            acknowledged: Seq::ZERO,
            unsaid: Vec::new(),
            committed: Seq::ZERO,
            start: Seq::ZERO,
            last_number: SendNumber(0),
            pinged_us: 0,
            began_us: 0,
            ready_us: 0,
            heard_us: 0,
            window,
            phase: Phase::Away,
            status: Status::Here,
            has_been_ready: false,
            is_acknowledging: false,
            gives_up: false,
            follows: false,
        }
    }

    /// Whether the device is connected and welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether the device has no connection that a hello was sent on.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.phase == Phase::Away
    }

    /// Whether it ever was.
    #[must_use]
    pub const fn has_been_ready(&self) -> bool {
        self.has_been_ready
    }

    /// Where the log stood when the device came first.
    #[must_use]
    pub const fn start(&self) -> Seq {
        self.start
    }

    /// What the device was told of the run's messages.
    #[must_use]
    pub const fn told(&self) -> &Digest {
        &self.told
    }

    /// Messages without an answer, sent or not.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Fetches without their page.
    #[must_use]
    pub fn fetching(&self) -> usize {
        self.fetches.as_ref().map_or(0, |fetches| fetches.len())
    }

    /// Everything that was asked for and has no answer.
    #[must_use]
    pub fn asking(&self) -> usize {
        let looking = self.looking.as_ref().map_or(0, |looking| looking.asking());
        looking + self.fetches.as_ref().map_or(0, |fetches| fetches.all())
    }

    /// When something was heard last, and when the ping left that has no answer.
    #[must_use]
    pub fn heard_and_pinged_us(&self) -> (u64, Option<u64>) {
        (self.heard_us, (self.pinged_us > 0).then_some(self.pinged_us))
    }

    /// An attempt to connect begins.
    pub const fn begin(&mut self, now_us: u64) {
        self.began_us = now_us;
    }

    /// The connection is open: says hello, and how it came there; `hops` 0: it follows no redirects (SPEC 8.11).
    pub fn greet(&mut self, turn: &mut Turn<'_>, token: String, hops: u64) {
        (self.phase, self.follows) = (Phase::Greeting, hops > 0);
        self.decoder = Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32);
        let device = turn.ledger.crew().member(turn.seat).device();
        // The logs may hold earlier runs: this one begins at their heads.
        let resume = if self.has_been_ready { Resume::After(self.position) } else { Resume::Live };
        let (version_min, version_max) = (PROTOCOL_VERSION, PROTOCOL_VERSION);
        let epoch = self.epoch;
        let (since, skip_above) = (Seq::ZERO, 0);
        turn.send(&ClientFrame::Hello {
            version_min,
            version_max,
            device,
            resume,
            token,
            epoch,
            since,
            skip_above,
            hops,
        });
        if let Some(opening) = &mut self.opening {
            turn.stats[Count::FramesSent] += 1;
            opening.ask(turn.now_us, turn.out);
        }
    }

    /// The next connection is an app that opens.
    pub fn will_open(&mut self, screen: Screen) {
        self.opening = Some(Box::new(opening::Opening::new(screen)));
    }

    /// The connection is gone.
    pub fn left(&mut self) {
        self.phase = Phase::Away;
        self.decoder = Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32);
        (self.pinged_us, self.is_acknowledging) = (0, false);
        if let Some(looking) = &mut self.looking {
            looking.left();
        }
    }

    /// Takes a message, which leaves when the window has room.
    pub fn push(&mut self, turn: &mut Turn<'_>, message: Pending) {
        let to: ConversationId = match &message {
            Pending::Message { stream, .. } => turn.ledger.recipient(*stream).into(),
            Pending::Change { kept, side, .. } => turn.ledger.changes_to(*kept, *side).into(),
            Pending::Group(sent) => turn.ledger.groups.group_of(*sent).into(),
        };
        let (last_number, gives_up) = (self.last_number, self.gives_up);
        self.outbox.get_or_insert_with(|| Box::new(Outbox::new(last_number, gives_up))).push(to, message);
        self.pump(turn);
    }

    /// Sends what may leave.
    pub fn pump(&mut self, turn: &mut Turn<'_>) {
        if let Some(outbox) = &mut self.outbox
            && self.phase == Phase::Ready
        {
            outbox.fill(turn.now_us, self.window.into(), |number, leaving| {
                let frame = match leaving {
                    Leaving::GiveUp => ClientFrame::GiveUp { number },
                    Leaving::Send(Pending::Message { stream, index, written }) => {
                        let to = turn.ledger.recipient(*stream).into();
                        ClientFrame::Send { number, to, content: turn.ledger.content(*stream, *index, written) }
                    }
                    Leaving::Send(Pending::Change { kept, side, which }) => {
                        let to = turn.ledger.changes_to(*kept, *side).into();
                        ClientFrame::Send { number, to, content: turn.ledger.change_content(*kept, *which) }
                    }
                    Leaving::Send(Pending::Group(sent)) => {
                        let to = turn.ledger.groups.group_of(*sent).into();
                        ClientFrame::Send { number, to, content: turn.ledger.groups.content(*sent) }
                    }
                };
                turn.stats[Count::FramesSent] += 1;
                frame.encode(turn.out);
            });
        }
    }

    /// Whether one more may be asked for, of the kind of this one.
    #[must_use]
    pub fn has_room(&self, ask: Ask) -> bool {
        self.fetches.as_ref().is_none_or(|fetches| fetches.has_room(ask))
    }

    /// Asks for something; false when too much is waited for.
    pub fn ask(&mut self, turn: &mut Turn<'_>, ask: Ask) -> bool {
        let fetches = self.fetches.get_or_insert_default();
        if self.phase == Phase::Ready {
            fetches.ask(turn.now_us, ask, turn.out)
        } else {
            // It leaves with the welcome.
            fetches.ask(turn.now_us, ask, &mut Vec::new())
        }
    }

    /// Asks again for what was refused for now.
    pub fn repeat(&mut self, turn: &mut Turn<'_>, request: RequestId) {
        if let Some(opening) = &self.opening
            && self.phase == Phase::Ready
            && request == opening::REQUEST
        {
            opening.ask_again(turn.out);
        }
        if let Some(looking) = &mut self.looking
            && self.phase == Phase::Ready
            && looking::is_of_looking(request)
        {
            looking.repeat(request, turn.out);
        }
        if let Some(fetches) = &self.fetches
            && self.phase == Phase::Ready
        {
            fetches.repeat(request, turn.out);
        }
    }

    /// Acknowledges everything up to the position.
    pub fn acknowledge(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Ready && self.is_acknowledging {
            self.is_acknowledging = false;
            self.acknowledged = self.position;
            turn.send(&ClientFrame::Acknowledge { seq: self.position });
        }
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self, turn: &mut Turn<'_>) {
        self.pinged_us = turn.now_us.max(1);
        turn.send(&ClientFrame::Ping { nonce: self.pinged_us });
    }

    /// Says bye, after what is still to be acknowledged.
    pub fn bye(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Ready {
            self.acknowledge(turn);
            self.acknowledge_groups(turn);
            turn.send(&ClientFrame::Bye);
        }
    }

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// The connection ends, and why.
    pub fn on_bytes(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) -> Result<(), Ending> {
        if self.phase == Phase::Away {
            return Ok(());
        }
        self.heard_us = turn.now_us;
        turn.stats[Count::BytesReceived] += bytes.len() as u64;
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::new(0));
        let mut outcome = Ok(());
        let decoded = decoder.decode(bytes, |raw| {
            outcome = self.on_frame(turn, raw);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.decoder = decoder;
        decoded.map_err(|error| Ending::Fault(error.to_string()))?;
        outcome?;
        self.pump(turn);
        Ok(())
    }

    fn on_frame(&mut self, turn: &mut Turn<'_>, raw: RawFrame<'_>) -> Result<(), Ending> {
        let frame = match ServerFrame::decode(raw) {
            Ok(frame) => frame,
            // A kind of a newer server, which promises that nothing is lost by passing it over.
            Err(FrameError::UnknownKind(_)) => return Ok(()),
            Err(error @ FrameError::Body { .. }) => return Err(Ending::Fault(error.to_string())),
        };
        match frame {
            ServerFrame::Bye { code, retry_after_ms, detail, .. } => {
                return Err(Ending::Bye { code, retry_after_ms, detail });
            }
            ServerFrame::Welcome { .. } if self.phase == Phase::Greeting => return self.on_welcome(turn, &frame),
            ServerFrame::Redirect { address, .. } if !self.follows => {
                return fault(format!("a redirect to {address:?} for a device that said that it follows none"));
            }
            ServerFrame::Redirect { address, after_ms, map_version, .. } => {
                let redirect = Redirect { address, after_ms, map_version };
                match self.phase {
                    Phase::Ready => turn.wake.push(Wake::Move(redirect)),
                    Phase::Away | Phase::Greeting => return Err(Ending::Redirect(redirect)),
                }
            }
            _ if self.phase == Phase::Greeting => {
                return fault(format!("a {:?} came before the welcome", frame.kind()));
            }
            ServerFrame::Welcome { .. } => return fault("a second welcome".to_owned()),
            ServerFrame::Accepted { number, seq, durability, .. } => {
                turn.stats[Count::AcceptedLocally] += u64::from(durability < Durability::Committed);
                self.on_accepted(turn, number, seq);
            }
            ServerFrame::Refused { number, code, retry_after_ms, .. } => {
                self.on_refused(turn, number, code, retry_after_ms);
            }
            ServerFrame::Deliver { entry } => self.on_deliver(turn, &entry)?,
            ServerFrame::Page(page) if page.request == RequestId(0) => self.on_pushed(turn, &page)?,
            ServerFrame::Page(page) if page.request == opening::REQUEST => {
                self.on_opening(turn, |opening, now_us| opening.take_page(now_us, page));
            }
            ServerFrame::Page(page) => self.on_page(turn, page),
            ServerFrame::Inbox(inbox) if inbox.request == opening::REQUEST => {
                self.on_opening(turn, |opening, now_us| opening.take_inbox(now_us, inbox));
            }
            ServerFrame::Inbox(inbox) => self.on_inbox(turn, inbox),
            ServerFrame::Error { code, kind, request, retry_after_ms, detail } => {
                if request != RequestId(0) && retry_after_ms > 0 {
                    turn.stats[Count::FetchesRefused] += 1;
                    turn.stats.refused(Refused::Fetch, code);
                    turn.wake.push(Wake::Repeat(turn.now_us + retry_after_ms * 1_000, request));
                } else {
                    turn.fault(format!("error {} for frame kind {kind:#04x}: {detail}", code.name()));
                }
            }
            ServerFrame::Committed { up_to } => self.on_committed(turn, up_to),
            ServerFrame::Marked { request } => self.on_marked(turn, request),
            ServerFrame::Epoch { first, epoch } => {
                if first <= self.position {
                    return fault(format!("an epoch that begins at {first}, where {} is covered", self.position));
                }
                self.epoch = epoch;
            }
            ServerFrame::Devices { .. } => turn.fault("a list of devices, which was not asked for".to_owned()),
            ServerFrame::DeliverGroup { group, entry } => self.on_group_pushed(turn, group, &entry),
            ServerFrame::GroupPage(page) => self.on_group_page(turn, page),
            ServerFrame::Groups { request, more, rows, .. } => self.on_groups(turn, request, more, &rows),
            ServerFrame::Members { .. } => turn.fault("a list of members, which was not asked for".to_owned()),
            ServerFrame::TypingInGroup { group, user, ends_in_ms } => {
                self.on_typing_in_group(turn, group, user, ends_in_ms);
            }
            ServerFrame::Subscription { .. } => turn.fault("a subscription, which was not asked for".to_owned()),
            ServerFrame::Digest(_) => turn.fault("digests, which were not asked for".to_owned()),
            ServerFrame::Presence { request, lifetime_ms, states } => {
                self.on_presence(turn, (request, lifetime_ms), states);
            }
            ServerFrame::Typing { conversation, user, ends_in_ms } => {
                self.on_typing(turn, conversation, user, ends_in_ms);
            }
            // A load does not renew its tokens: it is over before they are.
            ServerFrame::TokenExpiring { .. } => {}
            ServerFrame::Refreshed { .. } => turn.fault("an answer to a refresh, which was not sent".to_owned()),
            ServerFrame::GivenUp { number, seq } => self.on_given_up(turn, number, seq),
            ServerFrame::Ping { nonce } => turn.send(&ClientFrame::Pong { nonce }),
            ServerFrame::Pong { nonce } => {
                if nonce == self.pinged_us && nonce > 0 {
                    turn.stats.record(Measure::Ping, turn.now_us - nonce);
                    turn.stats[Count::Pongs] += 1;
                    self.pinged_us = 0;
                } else {
                    turn.fault(format!("a pong of nonce {nonce}, which no ping had"));
                }
            }
        }
        Ok(())
    }

    fn on_welcome(&mut self, turn: &mut Turn<'_>, frame: &ServerFrame) -> Result<(), Ending> {
        let ServerFrame::Welcome {
            version,
            user,
            head,
            cursor,
            last_number,
            send_window,
            committed,
            epoch,
            ref capabilities,
            ..
        } = *frame
        else {
            return Ok(());
        };
        turn.ledger.within_s = [capabilities.edit_within_s, capabilities.unsend_within_s];
        self.gives_up = capabilities.takes_frame(ClientKind::GiveUp);
        let me = turn.ledger.crew().member(turn.seat);
        if version != PROTOCOL_VERSION || user != me.user {
            return fault(format!("a welcome of version {version} for user {user}"));
        }
        let wanted = if self.has_been_ready { self.position } else { head };
        if committed > head {
            return fault(format!("a welcome that says committed up to {committed}, beyond the head {head}"));
        }
        if committed < self.committed {
            return fault(format!("a welcome that says committed up to {committed}, after {}", self.committed));
        }
        self.committed = committed;
        if cursor != wanted || head < cursor {
            return fault(format!("a welcome with cursor {cursor} and head {head}, where {wanted} was due"));
        }
        if !self.has_been_ready {
            (self.start, self.position, self.epoch) = (cursor, cursor, epoch);
        }
        // Resuming after a position acknowledges it.
        self.acknowledged = cursor;
        (self.phase, self.has_been_ready, self.last_number) = (Phase::Ready, true, last_number);
        self.window = self.window.min(u16::try_from(send_window).unwrap_or(u16::MAX)).max(1);
        if let Some(outbox) = &mut self.outbox
            && let Err(words) = outbox.connected(last_number, self.gives_up)
        {
            turn.fault(words);
        }
        self.ready_us = turn.now_us;
        turn.ledger.groups.connected(turn.seat);
        turn.stats[Count::Logins] += 1;
        turn.stats.record(Measure::Login, turn.now_us.saturating_sub(self.began_us));
        turn.happened.push(Happened::Ready { slot: turn.slot });
        if let Some(fetches) = &self.fetches {
            fetches.ask_again(turn.out);
        }
        self.look_again(turn);
        self.pump(turn);
        Ok(())
    }

    fn on_committed(&mut self, turn: &mut Turn<'_>, up_to: Seq) {
        if up_to < self.committed {
            turn.fault(format!("committed up to {up_to}, after {}", self.committed));
        }
        self.committed = up_to;
    }
}

impl Turn<'_> {
    fn send(&mut self, frame: &ClientFrame) {
        self.stats[Count::FramesSent] += 1;
        frame.encode(self.out);
    }

    fn fault(&mut self, what: String) {
        let member = self.ledger.crew().member(self.seat);
        self.ledger.faults.add(format!("user {} device {}: {what}", member.user, member.device()));
    }
}

fn fault(what: String) -> Result<(), Ending> {
    Err(Ending::Fault(what))
}

#[cfg(test)]
mod tests;
