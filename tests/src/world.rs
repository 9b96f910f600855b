//! A world: the shards of one node, their journal, their store and their clients, in one thread and without a clock.
//! Every step is taken by the test: what is sent, what is committed, what the kernel takes, when the node crashes.

use std::collections::{BTreeMap, VecDeque};

use proto_spec::{
    ClientFrame, Content, ConversationId, Decoder, DeviceId, EpochId, ErrorCode, Event, RawFrame, Resume, SendNumber,
    Seq, ServerFrame, TimestampMs, UserId, limits::SERVER_FRAME_BYTES_MAX,
};
use server::shard::{
    Admission, Close, ConnId, Connected, Effects, Grant, Input, Limits, Now, Presence, Promise, QueryId, ReadState,
    Refresh, Settings, Shard, StoreState,
    directory::Directory,
    topology::{CoreId, Topology},
};
use storage::{BatchId, LaneId, Query, Record};

use crate::model::{Model, user_of};

/// A connection of the world, by the order of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub usize);

/// What a client has of its connection.
#[derive(Debug)]
pub struct Client {
    core: usize,
    conn: ConnId,
    decoder: Decoder,
    /// Bytes that the kernel has not taken from the server yet.
    outbox: VecDeque<u8>,
    /// The client does not read: the kernel takes nothing.
    pub stuck: bool,
    /// The server does not read from this connection.
    pub paused: bool,
    /// Everything received, in order.
    pub frames: Vec<ServerFrame>,
    /// The server has closed, with this reason.
    pub closed: Option<Option<ErrorCode>>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct World {
    /// The clocks.
    pub now: Now,
    /// The shards, by core.
    pub shards: Vec<Shard>,
    /// Who is connected.
    pub directory: Directory,
    topology: Topology,
    settings: Settings,
    journal: VecDeque<(LaneId, BatchId, Vec<Record>)>,
    committed: VecDeque<(LaneId, BatchId, Vec<Record>)>,
    /// What has been ingested.
    pub store: Model,
    /// Queries under way.
    pub queries: VecDeque<(usize, QueryId, Query)>,
    mailboxes: VecDeque<(usize, server::shard::Envelope)>,
    /// By the order of connecting.
    pub clients: Vec<Client>,
    by_conn: BTreeMap<(usize, ConnId), Link>,
    /// Nothing is committed until this is cleared.
    pub disk_stalled: bool,
    /// Queries are not answered until this is cleared.
    pub store_stalled: bool,
    /// The store can not be read until this is cleared.
    pub store_fails: bool,
    /// The rows of this user can not be read until this is cleared.
    pub unreadable: Option<UserId>,
    /// Tokens of live connections that nobody has judged.
    pub refreshes: VecDeque<(usize, Refresh)>,
    /// They are not judged until this is cleared.
    pub judge_stalled: bool,
    /// Queries that found the store unreadable.
    pub failed_queries: u64,
    /// Bytes of the largest batch so far.
    pub largest_batch: usize,
    generation: u32,
    /// That of this start.
    epoch: EpochId,
}

const FOREVER: Grant = Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) };

/// Settings that no test waits for.
const SETTINGS: Settings = Settings {
    ping_after_ms: 60_000,
    idle_timeout_ms: 150_000,
    expiry_warning_ms: 60_000,
    token_leeway_ms: 5_000,
    promise: Promise::Disk,
    limits: Limits::OFF,
};

impl World {
    /// A node with `cores` cores, an empty store and no clients.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn new(cores: u16) -> Self {
        Self::with(cores, 1, SETTINGS)
    }

    /// As `new`, with limits.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn limited(cores: u16, limits: Limits) -> Self {
        Self::with(cores, 1, Settings { limits, ..SETTINGS })
    }

    /// As `new`, with a database that acknowledgements wait for: settling commits into it lane by lane.
    ///
    /// # Panics
    /// `cores` or `lanes` is zero.
    #[must_use]
    pub fn of_database(cores: u16, lanes: u16) -> Self {
        Self::with(cores, lanes, Settings { promise: Promise::Store, ..SETTINGS })
    }

    fn with(cores: u16, lanes: u16, settings: Settings) -> Self {
        let topology = Topology::with_lanes(cores, lanes).expect("a node has a core, and a core a lane");
        Self {
            now: Now { monotonic_ms: 1_000, wall: TimestampMs(1_700_000_000_000) },
            shards: (0..cores).map(|core| Shard::new(CoreId(core), topology, settings, EpochId(1))).collect(),
            settings,
            directory: Directory::default(),
            topology,
            journal: VecDeque::new(),
            committed: VecDeque::new(),
            store: Model::default(),
            queries: VecDeque::new(),
            mailboxes: VecDeque::new(),
            clients: Vec::new(),
            by_conn: BTreeMap::new(),
            disk_stalled: false,
            store_stalled: false,
            store_fails: false,
            unreadable: None,
            refreshes: VecDeque::new(),
            judge_stalled: false,
            failed_queries: 0,
            largest_batch: 0,
            generation: 0,
            epoch: EpochId(1),
        }
    }

    /// Connects a device and lets everything settle.
    pub fn connect(&mut self, user: u64, device: u64, resume: Resume) -> Link {
        let link = self.connect_only(user, device, resume);
        self.settle();
        link
    }

    /// Connects a device with a token that outlives the test.
    pub fn connect_only(&mut self, user: u64, device: u64, resume: Resume) -> Link {
        self.connect_with(user, device, resume, FOREVER)
    }

    /// Connects a device with a token that grants this.
    pub fn connect_with(&mut self, user: u64, device: u64, resume: Resume, grant: Grant) -> Link {
        let user = UserId(user);
        let core = usize::from(self.topology.home_of(user).0);
        self.generation += 1;
        let conn = ConnId { slot: self.clients.len() as u32, generation: self.generation };
        let link = Link(self.clients.len());
        self.clients.push(Client {
            core,
            conn,
            decoder: Decoder::new(SERVER_FRAME_BYTES_MAX as u32),
            outbox: VecDeque::new(),
            stuck: false,
            paused: false,
            frames: Vec::new(),
            closed: None,
        });
        self.by_conn.insert((core, conn), link);
        let device = DeviceId(device);
        self.input(
            core,
            Input::Connected(Connected { conn, user, device, version: 1, resume, epoch: EpochId(0), grant }),
        );
        link
    }

    /// The client goes away without a word.
    pub fn disconnect(&mut self, link: Link) {
        let Client { core, conn, .. } = self.clients[link.0];
        self.by_conn.remove(&(core, conn));
        self.clients[link.0].closed = Some(None);
        self.input(core, Input::Disconnected { conn });
    }

    /// The client sends a frame.
    pub fn frame(&mut self, link: Link, frame: &ClientFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.bytes(link, &bytes);
    }

    /// The client sends bytes.
    pub fn bytes(&mut self, link: Link, bytes: &[u8]) {
        let Client { core, conn, .. } = self.clients[link.0];
        self.input(core, Input::Bytes { conn, bytes });
    }

    /// The client sends a text.
    pub fn send(&mut self, link: Link, number: u64, to: u64, text: &str) {
        let frame =
            ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content: Content::text(text) };
        self.frame(link, &frame);
    }

    /// The client acknowledges.
    pub fn acknowledge(&mut self, link: Link, seq: u64) {
        self.frame(link, &ClientFrame::Acknowledge { seq: Seq(seq) });
    }

    /// Takes what a client has received since the last call.
    pub fn take(&mut self, link: Link) -> Vec<ServerFrame> {
        std::mem::take(&mut self.clients[link.0].frames)
    }

    /// The journal's admission changes.
    pub fn admission(&mut self, admission: Admission) {
        for core in 0..self.shards.len() {
            self.input(core, Input::Admission(admission));
        }
    }

    /// The store goes away or comes back.
    pub fn store_is(&mut self, state: StoreState) {
        for core in 0..self.shards.len() {
            self.input(core, Input::Store(state));
        }
    }

    /// Feeds one input to a shard as a turn of its own.
    pub fn input(&mut self, core: usize, input: Input<'_>) {
        let mut effects = Effects::default();
        self.shards[core].handle(self.now, input, &self.directory, &mut effects);
        self.shards[core].end_turn(self.now, &self.directory, &mut effects);
        self.carry_out(core, &mut effects);
    }

    fn carry_out(&mut self, core: usize, effects: &mut Effects) {
        for (lane, id, batch) in effects.batches() {
            assert!(!batch.is_empty());
            self.largest_batch = self.largest_batch.max(batch.bytes().len());
            let records: Result<Vec<Record>, _> = storage::records(batch.bytes()).collect();
            self.journal.push_back((lane, id, records.expect("a shard's own batch can be read")));
        }
        for (user, presence) in effects.presence.drain(..) {
            match presence {
                Presence::Online => self.directory.insert(user, CoreId(core as u16)),
                Presence::Offline => self.directory.remove(user),
            }
        }
        for (home, envelope) in effects.envelopes.drain(..) {
            assert_ne!(usize::from(home.0), core, "a shard keeps its own envelopes");
            self.mailboxes.push_back((usize::from(home.0), envelope));
        }
        self.queries.extend(effects.queries.drain(..).map(|(id, query)| (core, id, query)));
        for (conn, range) in effects.sends.drain(..) {
            if let Some(link) = self.by_conn.get(&(core, conn)) {
                self.clients[link.0].outbox.extend(&effects.bytes[range]);
            }
        }
        self.refreshes.extend(effects.refreshes.drain(..).map(|refresh| (core, refresh)));
        for (conn, state) in effects.reads.drain(..) {
            if let Some(link) = self.by_conn.get(&(core, conn)) {
                self.clients[link.0].paused = state == ReadState::Paused;
            }
        }
        for Close { conn, reason, .. } in effects.closes.drain(..) {
            if let Some(link) = self.by_conn.remove(&(core, conn)) {
                // What is queued is sent before the connection closes.
                self.receive(link, usize::MAX);
                self.clients[link.0].closed = Some(reason);
            }
        }
    }

    /// The client receives up to `bytes_max` of what the server has queued; says how many.
    fn receive(&mut self, link: Link, bytes_max: usize) -> usize {
        let client = &mut self.clients[link.0];
        let count = client.outbox.len().min(bytes_max);
        let bytes: Vec<u8> = client.outbox.drain(..count).collect();
        let frames = &mut client.frames;
        let result = client.decoder.decode(&bytes, |raw: RawFrame<'_>| {
            frames.push(ServerFrame::decode(raw).expect("the server's frames can be read"));
            std::ops::ControlFlow::Continue(())
        });
        result.expect("the server's stream can be cut into frames");
        count
    }

    /// The kernel takes up to `bytes_max` from the server for this client.
    pub fn drain(&mut self, link: Link, bytes_max: usize) -> bool {
        if self.clients[link.0].closed.is_some() {
            return false;
        }
        let taken = self.receive(link, bytes_max);
        let Client { core, conn, .. } = self.clients[link.0];
        if taken > 0 {
            self.input(core, Input::Sent { conn, bytes: taken });
        }
        taken > 0
    }

    /// Bytes that wait in the server for this client.
    #[must_use]
    pub fn waiting(&self, link: Link) -> usize {
        self.clients[link.0].outbox.len()
    }

    /// Commits the oldest batch; says whether there was one.
    pub fn commit_one(&mut self) -> bool {
        if self.settings.promise == Promise::Store {
            return self.store_one(0);
        }
        self.sync_one()
    }

    /// Commits the oldest batch of a lane into the database: that of the batch which is at this place among all.
    pub fn store_one(&mut self, place: usize) -> bool {
        let Some(lane) = self.journal.get(place).map(|(lane, ..)| *lane) else { return false };
        let oldest = self.journal.iter().position(|(of, ..)| *of == lane).expect("there is one");
        let Some((_, up_to, records)) = self.journal.remove(oldest) else { return false };
        records.iter().for_each(|record| self.store.apply(record));
        self.input(self.core_of(lane), Input::Stored { lane, up_to });
        true
    }

    /// The database is away: everything is released as the journal has it.
    pub fn sync_all(&mut self) {
        while self.sync_one() {}
    }

    fn sync_one(&mut self) -> bool {
        let Some((lane, batch, records)) = self.journal.pop_front() else { return false };
        self.committed.push_back((lane, batch, records));
        self.input(self.core_of(lane), Input::Released { lane, up_to: batch });
        true
    }

    fn core_of(&self, lane: LaneId) -> usize {
        usize::from(self.topology.core_of(lane).0)
    }

    /// Ingests everything that is committed.
    pub fn ingest(&mut self) {
        self.ingest_first(usize::MAX);
    }

    /// Ingests the oldest of the batches that are committed, as many as this.
    pub fn ingest_first(&mut self, batches: usize) {
        let mut watermarks = BTreeMap::new();
        for (lane, batch, records) in self.committed.drain(..batches.min(self.committed.len())) {
            records.iter().for_each(|record| self.store.apply(record));
            watermarks.insert(lane, batch);
        }
        for (lane, up_to) in watermarks {
            self.input(self.core_of(lane), Input::Stored { lane, up_to });
        }
    }

    /// Answers the oldest query; says whether there was one.
    pub fn answer_one(&mut self) -> bool {
        let Some((core, id, query)) = self.queries.pop_front() else { return false };
        let fails = self.store_fails || self.unreadable == Some(user_of(&query));
        let answer = (!fails).then(|| self.store.answer(&query));
        self.failed_queries += u64::from(fails);
        self.input(core, Input::Answer { query: id, answer });
        true
    }

    /// Judges the oldest token of a live connection; says whether there was one. Here a token is the time in milliseconds until
    /// which it is good, issued when it is judged; anything else is no token.
    pub fn judge_one(&mut self) -> bool {
        let Some((core, Refresh { conn, token, .. })) = self.refreshes.pop_front() else { return false };
        match token.parse() {
            Ok(expires) => {
                let grant = Grant { expires: TimestampMs(expires), issued: self.now.wall };
                self.input(core, Input::Refreshed { conn, grant });
            }
            Err(_) => {
                let (code, detail) = (ErrorCode::TokenInvalid, "not a time");
                self.input(core, Input::RefreshRefused { conn, code, detail });
            }
        }
        true
    }

    /// Delivers the oldest envelope between cores; says whether there was one.
    pub fn deliver_one(&mut self) -> bool {
        let Some((core, envelope)) = self.mailboxes.pop_front() else { return false };
        self.input(core, Input::Envelope(envelope));
        true
    }

    /// Lets everything happen that can happen without time passing.
    pub fn settle(&mut self) {
        loop {
            let mut moved = self.deliver_one();
            moved |= !self.store_stalled && self.answer_one();
            moved |= !self.disk_stalled && self.commit_one();
            moved |= !self.judge_stalled && self.judge_one();
            for link in 0..self.clients.len() {
                moved |= !self.clients[link].stuck && self.drain(Link(link), usize::MAX);
            }
            if !moved {
                return;
            }
        }
    }

    /// As `settle`, but that nothing is committed.
    pub fn settle_without_commits(&mut self) {
        let stalled = std::mem::replace(&mut self.disk_stalled, true);
        self.settle();
        self.disk_stalled = stalled;
    }

    /// Batches that are committed and not ingested.
    #[must_use]
    pub fn committed_len(&self) -> usize {
        self.committed.len()
    }

    /// Batches that are not committed.
    #[must_use]
    pub fn journal_len(&self) -> usize {
        self.journal.len()
    }

    /// Lets time pass, in ticks, and everything settle.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < end {
            let step = (end - self.now.monotonic_ms).min(server::limits::TICK_MS);
            self.now.monotonic_ms += step;
            self.now.wall.0 += step;
            for core in 0..self.shards.len() {
                self.input(core, Input::Tick);
            }
            self.settle();
        }
    }

    /// The node stops at once: what is not committed is lost, connections break; then it starts again with `cores`.
    ///
    /// # Panics
    /// `cores` is zero.
    pub fn crash(&mut self, cores: u16) {
        self.journal.clear();
        self.mailboxes.clear();
        self.queries.clear();
        self.refreshes.clear();
        self.by_conn.clear();
        self.clients.iter_mut().filter(|client| client.closed.is_none()).for_each(|client| client.closed = Some(None));
        self.directory = Directory::default();
        for (_, _, records) in self.committed.drain(..) {
            records.iter().for_each(|record| self.store.apply(record));
        }
        self.epoch.0 += 1;
        self.topology = Topology::with_lanes(cores, self.topology.lanes()).expect("a node has a core");
        self.shards =
            (0..cores).map(|core| Shard::new(CoreId(core), self.topology, self.settings, self.epoch)).collect();
        for user in self.store.unfinished.clone() {
            self.input(usize::from(self.topology.home_of(user).0), Input::Unfinished(user));
        }
    }

    /// The messages of a user's log as it is durable now: (seq, other user, text), and whether it was sent.
    #[must_use]
    pub fn messages(&mut self, user: u64) -> Vec<(u64, bool, u64, String)> {
        self.ingest();
        let Some(rows) = self.store.users.get(&UserId(user)) else { return Vec::new() };
        rows.log
            .values()
            .filter_map(|entry| match &entry.event {
                Event::Sent { to: ConversationId::Person(to), content, .. } => {
                    Some((entry.seq.0, true, to.0, content.as_text().unwrap_or_default().to_owned()))
                }
                Event::Received { from, content, .. } => {
                    Some((entry.seq.0, false, from.0, content.as_text().unwrap_or_default().to_owned()))
                }
                Event::Delivered { .. } | Event::Unknown { .. } => None,
            })
            .collect()
    }
}
