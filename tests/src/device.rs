//! A device that plays by SPEC 8 and checks that the server does: it remembers everything it was ever told, over all
//! connections and all deaths of the server, and panics when the server contradicts itself.
//!
//! What it checks: an acknowledgement says `committed` and always the same seq for a number; an accepted send is never
//! forgotten; an entry never changes; pushes have no hole and no repeat; accepted frames come by ascending number.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto_spec::{
    ClientFrame, Content, DeviceId, Durability, Entry, EpochId, ErrorCode, Event, RequestId, Resume, SendNumber, Seq,
    ServerFrame, TimestampMs, UserId,
};

use crate::{
    DEADLINE,
    connection::{Connection, Received, hello_of},
    route::Route,
    wait_until,
};

/// See the head of this file.
#[derive(Debug)]
pub struct Device {
    /// Whose.
    pub user: u64,
    /// Which.
    pub device: u64,
    /// The seqs of accepted sends, by number.
    pub accepted: BTreeMap<u64, u64>,
    /// The seqs of those that were accepted with less than `committed` and are not known to be more.
    pub uncommitted: BTreeSet<u64>,
    /// It was told that everything up to here is committed.
    committed: u64,
    /// All entries it was ever told of, by seq.
    pub log: BTreeMap<u64, Entry>,
    /// Everything up to here has been covered.
    pub position: u64,
    /// The newest epoch that it was told of.
    pub epoch: EpochId,
    /// Sends that were refused for the time being, by code.
    pub refused: BTreeMap<&'static str, u64>,
    token: String,
    last_number: u64,
    unanswered: BTreeMap<u64, ClientFrame>,
    acknowledged: u64,
    connection: Option<Connection>,
    on_connection: OnConnection,
    route: Option<Route>,
}

/// How long a device that can go to another node waits for one that says nothing: longer than a server that is well ever needs.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What is true for one connection only.
#[derive(Debug)]
struct OnConnection {
    in_flight: BTreeSet<u64>,
    /// Numbers above it are new to the server.
    last_number: u64,
    last_accepted: u64,
    /// After a refusal nothing is sent until all that was in flight is answered and this moment has come.
    resend_at: Option<Instant>,
    send_window: usize,
    /// Seqs of entries that were pushed here.
    pushed: BTreeSet<u64>,
    /// When the last frame came, or the first one went that nobody has answered.
    heard: Instant,
}

impl Default for OnConnection {
    fn default() -> Self {
        Self {
            in_flight: BTreeSet::new(),
            last_number: 0,
            last_accepted: 0,
            resend_at: None,
            send_window: 0,
            pushed: BTreeSet::new(),
            heard: Instant::now(),
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Took a frame.
    Frame,
    /// Nothing came.
    Nothing,
    /// The connection is gone, with these last words.
    Lost(Option<ErrorCode>),
}

impl Device {
    /// A device that was never connected.
    #[must_use]
    pub fn new(user: u64, device: u64, token: String) -> Self {
        Self {
            user,
            device,
            accepted: BTreeMap::new(),
            uncommitted: BTreeSet::new(),
            committed: 0,
            log: BTreeMap::new(),
            position: 0,
            epoch: EpochId(0),
            refused: BTreeMap::new(),
            token,
            last_number: 0,
            unanswered: BTreeMap::new(),
            acknowledged: 0,
            connection: None,
            on_connection: OnConnection::default(),
            route: None,
        }
    }

    /// With somewhere to connect.
    #[must_use]
    pub fn along(self, route: Route) -> Self {
        Self { route: Some(route), ..self }
    }

    /// Whether it has a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What it waits for, in words.
    #[must_use]
    pub fn state(&self) -> String {
        let OnConnection { in_flight, last_number, last_accepted, resend_at, .. } = &self.on_connection;
        let wait = resend_at.map(|at| at.saturating_duration_since(Instant::now()));
        let unanswered = (self.unanswered.keys().next(), self.unanswered.keys().last());
        format!(
            "{self}: connected {}, unanswered {unanswered:?}, in flight {:?} to {:?}, welcome said {last_number}, \
             accepted {last_accepted}, resends in {wait:?}, position {}, refused {:?}",
            self.is_connected(),
            in_flight.first(),
            in_flight.last(),
            self.position,
            self.refused
        )
    }

    /// Sends without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Sends that it has begun, answered or not.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.last_number
    }

    /// Tries to connect, and to be welcome; then sends again what is unanswered.
    ///
    /// # Panics
    /// The welcome contradicts what was promised before.
    pub fn try_connect(&mut self, address: SocketAddr, resume: Resume) -> bool {
        match Connection::open(address) {
            Ok(connection) => self.try_connect_over(connection, resume),
            Err(_) => false,
        }
    }

    /// As `try_connect`, along its route. False, too, if it is sent on.
    ///
    /// # Panics
    /// It has none, or the welcome contradicts what was promised before.
    pub fn try_go(&mut self, resume: Resume) -> bool {
        let address = self.route.as_mut().expect("it has a route").take();
        address.is_some_and(|address| self.try_connect(address, resume))
    }

    /// As `try_go`, until it is welcome.
    ///
    /// # Panics
    /// It is not welcome.
    #[track_caller]
    pub fn go(&mut self, resume: Resume) {
        wait_until("the device is welcome", || self.try_go(resume));
    }

    /// As `try_connect`, over a connection that is open.
    ///
    /// # Panics
    /// The welcome contradicts what was promised before.
    pub fn try_connect_over(&mut self, mut connection: Connection, resume: Resume) -> bool {
        let mut hello = hello_of(&self.token, self.device, resume, self.epoch);
        if let (ClientFrame::Hello { hops, .. }, Some(route)) = (&mut hello, &self.route) {
            *hops = route.hops();
        }
        if connection.try_send(&[hello]).is_err() {
            return false;
        }
        let follows = self.route.as_ref().is_some_and(Route::follows);
        let welcome = match connection.receive(if follows { SILENCE_MAX } else { DEADLINE }) {
            Received::Frame(ServerFrame::Redirect { address, after_ms, .. }) => {
                self.is_sent(&address, after_ms);
                return false;
            }
            Received::Frame(welcome) => welcome,
            Received::Closed => return false,
            // There are other nodes.
            Received::Nothing if follows => return false,
            Received::Nothing => panic!("{self}: no welcome"),
        };
        let ServerFrame::Welcome { user, head, cursor, last_number, send_window, committed, epoch, .. } = welcome
        else {
            use ErrorCode::{Elsewhere, Overloaded, Stopping, StorageFailed, TooManyConnections};
            match welcome {
                ServerFrame::Bye { code: Overloaded | Stopping | StorageFailed | TooManyConnections, .. } => {}
                ServerFrame::Bye { code: Elsewhere, retry_after_ms, .. } if retry_after_ms > 0 => {}
                _ => panic!("{self}: {welcome:?}"),
            }
            return false;
        };
        assert_eq!(user, UserId(self.user));
        let highest = self.accepted.keys().last().copied().unwrap_or_default();
        assert!(last_number.0 >= highest, "{self}: accepted {highest} and was told of {last_number}: it is lost");
        assert!(last_number.0 <= self.last_number, "{self}: never sent {last_number}");
        assert!(head.0 >= self.position, "{self}: the log has shrunk from {} to {head}", self.position);
        match resume {
            Resume::After(seq) => {
                assert_eq!(cursor, seq);
                self.acknowledged = self.acknowledged.max(seq.0);
            }
            Resume::Stored => assert!(cursor.0 <= self.acknowledged, "{self}: {cursor} was never acknowledged"),
            Resume::Live => assert_eq!(cursor, head),
        }
        assert!(committed <= head, "{self}: {committed} of {head} are committed");
        self.is_committed(committed.0);
        if self.epoch == EpochId(0) {
            self.epoch = epoch;
        }
        self.position = cursor.0;
        if let Some(route) = &mut self.route {
            route.arrived();
        }
        self.connection = Some(connection);
        self.on_connection =
            OnConnection { last_number: last_number.0, send_window: send_window as usize, ..OnConnection::default() };
        self.resend();
        true
    }

    /// Connects, again if it is told to come back.
    ///
    /// # Panics
    /// It is not welcome.
    #[track_caller]
    pub fn connect(&mut self, address: SocketAddr, resume: Resume) {
        wait_until("the device is welcome", || self.try_connect(address, resume));
    }

    /// It goes where a node says.
    fn is_sent(&mut self, address: &str, after_ms: u64) {
        let Some(route) = &mut self.route else { panic!("{self}: redirected to {address}") };
        route.send(address, after_ms);
    }

    /// The connection breaks.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Gives a message the next number and sends it, if it may be sent now.
    pub fn say(&mut self, to: u64, text: &str) -> u64 {
        self.last_number += 1;
        let number = SendNumber(self.last_number);
        let frame = ClientFrame::Send { number, to: UserId(to).into(), content: Content::text(text) };
        self.unanswered.insert(self.last_number, frame);
        self.resend();
        self.last_number
    }

    /// Acknowledges everything that was covered.
    pub fn acknowledge(&mut self) {
        self.acknowledged = self.acknowledged.max(self.position);
        self.write(&[ClientFrame::Acknowledge { seq: Seq(self.position) }]);
    }

    /// Sends what is unanswered and not on its way, in order, as far as it may be sent now.
    fn resend(&mut self) {
        let state = &mut self.on_connection;
        if self.connection.is_none() {
            return;
        }
        if let Some(at) = state.resend_at {
            if !state.in_flight.is_empty() || Instant::now() < at {
                return;
            }
            state.resend_at = None;
        }
        if state.in_flight.is_empty() {
            state.heard = Instant::now();
        }
        let room = state.send_window.saturating_sub(state.in_flight.len());
        let after = state.in_flight.last().copied().unwrap_or_default();
        let frames: Vec<ClientFrame> =
            self.unanswered.range(after + 1..).take(room).map(|(_, frame)| frame.clone()).collect();
        state.in_flight.extend(self.unanswered.range(after + 1..).take(room).map(|(number, _)| *number));
        self.write(&frames);
    }

    fn write(&mut self, frames: &[ClientFrame]) {
        if let Some(connection) = &mut self.connection
            && !frames.is_empty()
        {
            // What was sent before the end may still be there to be read, and then the end is found.
            let _ = connection.try_send(frames);
        }
    }

    /// Waits up to `wait` for a frame and takes it.
    ///
    /// # Panics
    /// The server breaks a promise, or the device is not connected.
    #[track_caller]
    pub fn step(&mut self, wait: Duration) -> Step {
        self.resend();
        match self.connection.as_mut().expect("a connection").receive(wait) {
            Received::Nothing if self.is_deserted() => {
                self.connection = None;
                Step::Lost(None)
            }
            Received::Nothing => Step::Nothing,
            Received::Closed => {
                self.connection = None;
                Step::Lost(None)
            }
            Received::Frame(ServerFrame::Bye { code, .. }) => {
                self.connection = None;
                Step::Lost(Some(code))
            }
            Received::Frame(ServerFrame::Redirect { address, after_ms, .. }) => {
                self.is_sent(&address, after_ms);
                self.connection = None;
                Step::Lost(Some(ErrorCode::Elsewhere))
            }
            Received::Frame(frame) => {
                self.on_connection.heard = Instant::now();
                self.take(frame);
                Step::Frame
            }
        }
    }

    /// Whether it looks for another node, since this one says nothing though it should.
    fn is_deserted(&self) -> bool {
        let OnConnection { heard, in_flight, .. } = &self.on_connection;
        let follows = self.route.as_ref().is_some_and(Route::follows);
        follows && !in_flight.is_empty() && heard.elapsed() > SILENCE_MAX
    }

    /// Takes frames until `happened`.
    ///
    /// # Panics
    /// It does not happen in time, or the connection is lost.
    #[track_caller]
    pub fn step_until(&mut self, what: &str, happened: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(start.elapsed() < DEADLINE, "{}: it did not happen: {what}", self.state());
            if let Step::Lost(code) = self.step(Duration::from_millis(20)) {
                panic!("{self}: lost ({code:?}) while waiting: {what}");
            }
        }
    }

    /// Everything in the log up to here; it never is less than before, on whatever connection.
    fn is_committed(&mut self, up_to: u64) {
        assert!(up_to >= self.committed, "{self}: {up_to} is committed, and {} was", self.committed);
        self.committed = up_to;
        self.uncommitted.retain(|seq| *seq > up_to);
    }

    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Accepted { number, seq, time, durability, .. } => {
                if durability < Durability::Committed {
                    assert!(seq.0 > self.committed, "{self}: {seq} is not committed, and {} was", self.committed);
                    self.uncommitted.insert(seq.0);
                } else {
                    self.is_committed(seq.0.max(self.committed));
                }
                self.on_accepted(number.0, seq.0, time);
            }
            ServerFrame::Refused { number, code, retry_after_ms, .. } => {
                let for_now = match code {
                    ErrorCode::Overloaded | ErrorCode::StorageFull | ErrorCode::StorageFailed | ErrorCode::Stopping => {
                        retry_after_ms > 0
                    }
                    code => code == ErrorCode::SendGap,
                };
                assert!(for_now, "{self}: {number} refused: {code:?}");
                *self.refused.entry(code.name()).or_default() += 1;
                let state = &mut self.on_connection;
                assert!(state.in_flight.remove(&number.0), "{number} is refused and was not in flight");
                state.resend_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(retry_after_ms));
            }
            ServerFrame::Deliver { entry } => {
                assert_eq!(entry.seq.0, self.position + 1, "{self}: a hole or a repeat");
                self.position = entry.seq.0;
                self.pushed(entry);
            }
            ServerFrame::Page(page) => {
                assert_eq!(page.request, RequestId(0), "{self}: nothing was fetched");
                assert!(page.first.0 <= self.position + 1, "{self}: a hole before {} at {}", page.first, self.position);
                for entry in page.entries {
                    assert!(page.first <= entry.seq && entry.seq <= page.last);
                    self.pushed(entry);
                }
                self.position = self.position.max(page.last.0);
            }
            ServerFrame::Ping { nonce } => self.write(&[ClientFrame::Pong { nonce }]),
            ServerFrame::Committed { up_to } => self.is_committed(up_to.0),
            ServerFrame::Epoch { first, epoch } => {
                assert!(first.0 > self.position, "{self}: an epoch begins at {first}, which is covered");
                self.epoch = epoch;
            }
            other @ (ServerFrame::Welcome { .. }
            | ServerFrame::Inbox(_)
            | ServerFrame::Marked { .. }
            | ServerFrame::Error { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::TokenExpiring { .. }
            | ServerFrame::Refreshed { .. }
            | ServerFrame::Devices { .. }
            | ServerFrame::Digest(_)
            | ServerFrame::GivenUp { .. }
            | ServerFrame::Presence { .. }
            | ServerFrame::Typing { .. }
            | ServerFrame::Redirect { .. }
            | ServerFrame::DeliverGroup { .. }
            | ServerFrame::GroupPage(_)
            | ServerFrame::TypingInGroup { .. }
            | ServerFrame::Groups { .. }
            | ServerFrame::Members { .. }
            | ServerFrame::Subscription { .. }
            | ServerFrame::Bye { .. }) => panic!("{self}: unexpected {other:?}"),
        }
    }

    fn on_accepted(&mut self, number: u64, seq: u64, time: TimestampMs) {
        let state = &mut self.on_connection;
        assert!(state.in_flight.remove(&number), "{number} is accepted and was not in flight");
        if number > state.last_number {
            assert_eq!(number, state.last_accepted.max(state.last_number) + 1, "accepted frames come in order");
            state.last_accepted = number;
        }
        let before = self.accepted.insert(number, seq);
        assert!(before.is_none_or(|before| before == seq), "{self}: {number} was {before:?} and now is {seq}");
        if let Some(ClientFrame::Send { number, to, content }) = self.unanswered.remove(&number) {
            let event = Event::Sent { to, device: DeviceId(self.device), number, content };
            self.learn(Entry { seq: Seq(seq), time, event });
        }
        if seq == self.position + 1 {
            self.position = seq;
        }
    }

    fn pushed(&mut self, entry: Entry) {
        assert!(self.on_connection.pushed.insert(entry.seq.0), "{self}: {} was pushed twice", entry.seq);
        self.learn(entry);
    }

    fn learn(&mut self, entry: Entry) {
        match self.log.get(&entry.seq.0) {
            Some(known) => assert_eq!(*known, entry, "{self}: an entry has changed"),
            None => _ = self.log.insert(entry.seq.0, entry),
        }
    }

    /// Messages that it has received, as (seq, author, origin, text).
    #[must_use]
    pub fn received(&self) -> Vec<(u64, u64, u64, &str)> {
        self.log.values().filter_map(received).collect()
    }

    /// How many messages its log has: received ones, and sent ones.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.log.values().fold((0, 0), |(received, sent), entry| match entry.event {
            Event::Received { .. } => (received + 1, sent),
            Event::Sent { .. } => (received, sent + 1),
            Event::Delivered { .. }
            | Event::Deleted { .. }
            | Event::Devices { .. }
            | Event::Read { .. }
            | Event::Seen { .. }
            | Event::Settings { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => (received, sent),
        })
    }

    /// Its log without what can be superseded.
    #[must_use]
    pub fn messages(&self) -> BTreeMap<u64, &Entry> {
        let messages = self.log.iter().filter(|(_, entry)| entry.event.conversation().is_some());
        messages.map(|(seq, entry)| (*seq, entry)).collect()
    }
}

/// A received message as (seq, author, origin, text).
#[must_use]
pub fn received(entry: &Entry) -> Option<(u64, u64, u64, &str)> {
    match &entry.event {
        Event::Received { from, origin, content } => {
            Some((entry.seq.0, from.0, origin.0, content.as_text().unwrap_or_default()))
        }
        Event::Sent { .. }
        | Event::Delivered { .. }
        | Event::Read { .. }
        | Event::Seen { .. }
        | Event::Settings { .. }
        | Event::Deleted { .. }
        | Event::Devices { .. }
        | Event::Visibility { .. }
        | Event::Group { .. }
        | Event::GroupRefused { .. }
        | Event::Unknown { .. } => None,
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user {} device {}", self.user, self.device)
    }
}
