//! A world: the cores of one node, its journal, its store and its clients, in one thread and without a clock. The cores and the journal
//! are the server's own; what they ask of a disk, a store and a network is here.
//! Every step is taken by the test: what is sent, what the disk has, what the kernel takes, when the node crashes.

mod clients;
mod rim;
mod steps;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use proto_spec::{ConversationId, DeviceId, Entry, EpochId, Event, TimestampMs, UserId};
use push::hosts::HostRules;
use server::{
    access::{
        auth::{self, Keys, SigningKey},
        revocation::{Change, Revocations, Subject},
    },
    core::{Common, Core, CoreConfig, CoreMessage, Cores, OriginLimits},
    durability::{
        committer::{Committer, Fate, News, OnStoreOutage, Outcome},
        lanes::Work,
    },
    host::capacity::Capacity,
    limits::{LOAD_TICKS, MAILBOX_MESSAGES_MAX},
    operator::counters::Counters,
    shard::{
        Admission, CacheLimits, ConnId, DevicesTold, DevicesWish, Limits, Now, PresenceSettings, Promise, PushQuestion,
        PushSettings, PushTold, QueryId, Settings, ShardCounters, StoreState, Ticket,
        directory::Directory,
        topology::{CoreId, Topology},
    },
};
use storage::{
    Advanced, Answer, BatchId, LaneId, Query, Record,
    group::beside,
    journal::{JournalConfig, Position, Write, Writer},
};

use self::rim::TurnRim;
pub use self::{
    clients::{Client, Link},
    steps::BatchKey,
};
use crate::model::Model;

/// A batch that is not in the store.
#[derive(Debug)]
struct Decided {
    lane: LaneId,
    id: BatchId,
    records: Vec<Record>,
    /// The journal has it on the disk.
    is_synced: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub struct World {
    /// The clocks.
    pub now: Now,
    cores: Cores,
    settings: Settings,
    /// That of this start.
    epoch: EpochId,
    keys: Arc<Keys>,
    /// What tokens are signed with.
    pem: String,
    /// What has been decided and is not in the store; the batches of a lane in order.
    batches: VecDeque<Decided>,
    /// What the journal has given to the disk.
    write: Option<Write>,
    /// What is to become of the journal's sealed segments, in order.
    segments: VecDeque<Fate>,
    /// Commits into the database that are under way, one of a lane at most, oldest first.
    pub commits: VecDeque<(CoreId, Work)>,
    /// What the store has.
    pub store: Model,
    /// Queries under way.
    pub queries: VecDeque<(CoreId, QueryId, Query)>,
    /// Answers that were read and have not come.
    pub answers: VecDeque<(CoreId, QueryId, Option<Answer>)>,
    /// By the order of connecting.
    pub clients: Vec<Client>,
    by_conn: BTreeMap<(CoreId, ConnId), Link>,
    /// Neither the disk nor the database takes anything until this is cleared.
    pub disk_stalled: bool,
    /// Queries are not answered until this is cleared.
    pub store_stalled: bool,
    /// The store can not be read until this is cleared.
    pub store_fails: bool,
    /// The rows of this user can not be read until this is cleared.
    pub unreadable: Option<UserId>,
    /// The audit log is behind, so no token of a live connection is judged, until this is cleared.
    pub audit_stalled: bool,
    /// How many batches have been decided.
    decided_count: u64,
    /// How many records have been decided, and how many of them that something is due or how far somebody was notified.
    pub records: u64,
    /// See `records`.
    pub push_records: u64,
    /// How often what is remembered of devices was written.
    pub device_notes: u64,
    /// What the operator was told.
    pub told: Vec<(Ticket, DevicesTold)>,
    /// What the operator was told of notifications.
    pub push_told: Vec<(Ticket, PushTold)>,
    /// Notices that the push service has taken, with the core of each, in order.
    pub notices: VecDeque<(CoreId, Box<push::Notice>)>,
    /// The push service takes no more than so many.
    pub notices_max: usize,
    /// Queries that found the store unreadable.
    pub failed_queries: u64,
    /// Bytes of the largest batch so far.
    pub largest_batch: usize,
    /// How often a core told another one something about presence.
    pub presence_mails: u64,
    /// What cores tell each other of presence is lost until this is cleared.
    pub presence_lost: bool,
}

/// Settings that no test waits for.
const SETTINGS: Settings = Settings {
    ping_after_ms: 60_000,
    idle_timeout_ms: 150_000,
    expiry_warning_ms: 60_000,
    token_leeway_ms: 5_000,
    promise: Promise::Disk,
    limits: Limits::OFF,
    cache: CacheLimits::DEFAULT,
    presence: PresenceSettings::DEFAULT,
    moves_per_s: 1_000,
    push: None,
};

/// When a commit into the database is waited for no longer.
pub const SLOW_AFTER_MS: u64 = 1_000;

/// Hosts that endpoints of Web Push may name: those of the default.
static HOSTS: LazyLock<HostRules> = LazyLock::new(HostRules::default);

/// How long a message of somebody who is connected waits to be acknowledged before they are notified.
pub const PUSH_DELAY_MS: u64 = 5_000;

/// Segments are sealed by the test.
const SEAL_AFTER_MS: u64 = u64::MAX / 2;

/// Rounds of everything after which a world that has something to do still never comes to rest. Far more than the largest test takes.
const SETTLE_ROUNDS_MAX: u32 = 1_000_000;

/// The journal's place.
const CORE_0: CoreId = CoreId(0);

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

    /// As `new`, with as much kept for apps that open.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn keeping(cores: u16, cache: CacheLimits) -> Self {
        Self::with(cores, 1, Settings { cache, ..SETTINGS })
    }

    /// As `new`, with notifications: a push service that takes what it gets and says nothing of it before the test does.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn notifying(cores: u16) -> Self {
        let push = PushSettings { delay_ms: PUSH_DELAY_MS, providers: 0b110, server_key: Some([4; 65]), hosts: &HOSTS };
        Self::with(cores, 1, Settings { push: Some(push), ..SETTINGS })
    }

    /// As `new`, with other settings of presence.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn showing(cores: u16, presence: PresenceSettings) -> Self {
        Self::with(cores, 1, Settings { presence, ..SETTINGS })
    }

    fn with(cores: u16, lanes: u16, settings: Settings) -> Self {
        let topology = Topology::with_lanes(cores, lanes).expect("a node has a core, and a core a lane");
        let pem = auth::generate_pem().expect("the system has randomness");
        let keys = Keys::from_pem(pem.as_bytes()).expect("made just above");
        let mut world = Self {
            now: Now { monotonic_ms: 1_000, wall: TimestampMs(1_700_000_000_000) },
            cores: start(topology, settings, Revocations::default(), EpochId(1)),
            settings,
            epoch: EpochId(1),
            keys: Arc::new(keys.with_leeway(Duration::from_millis(settings.token_leeway_ms))),
            pem,
            batches: VecDeque::new(),
            write: None,
            segments: VecDeque::new(),
            commits: VecDeque::new(),
            store: Model::default(),
            queries: VecDeque::new(),
            answers: VecDeque::new(),
            clients: Vec::new(),
            by_conn: BTreeMap::new(),
            disk_stalled: false,
            store_stalled: false,
            store_fails: false,
            unreadable: None,
            audit_stalled: false,
            decided_count: 0,
            device_notes: 0,
            records: 0,
            push_records: 0,
            told: Vec::new(),
            push_told: Vec::new(),
            notices: VecDeque::new(),
            notices_max: usize::MAX,
            failed_queries: 0,
            largest_batch: 0,
            presence_mails: 0,
            presence_lost: false,
        };
        world.turn(CORE_0, |_, _| ());
        world
    }

    // ---- cores

    /// A turn of a core, in which this happens.
    fn turn<T>(&mut self, core: CoreId, happens: impl FnOnce(&mut Core, Now) -> T) -> T {
        let now = self.now;
        let mut core = self.cores.begin_turn(core);
        let done = happens(&mut core, now);
        let mut rim = TurnRim { world: self, core: core.id(), closed: 0 };
        core.obey(now, &mut rim);
        core.finish_turn(now, &mut rim);
        (0..rim.closed).for_each(|_| core.closed());
        self.cores.end_turn(core);
        done
    }

    /// A core hears of something.
    fn tell(&mut self, core: CoreId, message: CoreMessage) {
        self.turn(core, |core, now| core.message(now, message));
    }

    /// All cores hear of something.
    fn tell_all(&mut self, news: News) {
        for core in self.cores.ids() {
            self.tell(core, CoreMessage::News(news));
        }
    }

    /// Whether a core has something to do though nothing happens.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.with_work().is_some()
    }

    fn with_work(&self) -> Option<CoreId> {
        let has_work = |core: &&Core| core.has_work(self.now, self.audit_stalled) || core.is_stalled();
        self.cores.iter().find(has_work).map(Core::id)
    }

    /// The sum of a counter over all cores.
    pub fn total(&self, of: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(&core.shard_counters())).sum()
    }

    /// Where a user is at home.
    #[must_use]
    pub fn home_of(&self, user: UserId) -> CoreId {
        self.cores.common().topology.home_of(user)
    }

    /// Who is connected.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.cores.common().directory
    }

    // ---- the operator

    /// A token for a user that expires then, or less than a second before: tokens have whole seconds.
    ///
    /// # Panics
    /// It has expired.
    #[must_use]
    pub fn token(&self, user: u64, expires: TimestampMs) -> String {
        let ttl = Duration::from_millis(expires.0.checked_sub(self.now.wall.0).expect("it has not expired"));
        let key = SigningKey::from_pem(self.pem.as_bytes()).expect("it was made for this");
        auth::mint(&key, UserId(user), ttl, self.now.wall).expect("the key is good")
    }

    /// Judges the oldest token of a live connection; says whether there was one.
    pub fn judge_one(&mut self) -> bool {
        self.cores.ids().any(|core| self.judge_one_of(core))
    }

    fn judge_one_of(&mut self, core: CoreId) -> bool {
        let (keys, audit_is_behind) = (Arc::clone(&self.keys), self.audit_stalled);
        self.turn(core, |core, now| core.judge(now, &keys, 0, audit_is_behind).is_some())
    }

    /// Tokens of a user, or for one device, that were issued up to this moment are revoked.
    pub fn revoke(&mut self, user: u64, device: Option<u64>, issued_up_to: TimestampMs) {
        let subject = Subject { user: UserId(user), device: device.map(DeviceId) };
        self.cores.common().revocations.write().apply(Change::Revoke(subject, issued_up_to));
        self.tell(self.home_of(subject.user), CoreMessage::Revoked(subject, issued_up_to));
    }

    /// The operator asks about a user's devices, or removes one; the answer comes into [`World::told`].
    pub fn ask_devices(&mut self, ticket: u64, user: u64, wish: DevicesWish) {
        let user = UserId(user);
        self.tell(self.home_of(user), CoreMessage::Devices(Ticket(ticket), user, wish));
    }

    /// From the next start on there is no provider by which anybody could be notified.
    pub fn forget_push(&mut self) {
        self.settings.push = None;
    }

    /// The operator asks why a user was notified of a message, or was not; the answer comes into [`World::push_told`].
    pub fn ask_why(&mut self, ticket: u64, about: PushQuestion) {
        let user = about.user;
        self.tell(self.home_of(user), CoreMessage::Why(Ticket(ticket), about));
    }

    /// The oldest notice that the push service has ends like this.
    ///
    /// # Panics
    /// It has none.
    pub fn end_notice(&mut self, outcome: push::Outcome) {
        let (core, notice) = self.notices.pop_front().expect("the push service has a notice");
        self.tell(core, CoreMessage::Notified(Box::new((*notice, outcome))));
    }

    /// The node is told to stop.
    pub fn stop(&mut self) {
        for core in self.cores.ids() {
            self.turn(core, |core, now| core.stop(now));
        }
    }

    /// Whether nothing keeps the node from ending now.
    pub fn is_stopped(&mut self) -> bool {
        let Self { cores, by_conn, now, .. } = self;
        let mut look = || cores.are_over(*now, |core| !by_conn.keys().any(|(at, _)| *at == core));
        // Each tells the others: the last one knows it first.
        look() || look()
    }

    // ---- the journal and the store

    /// The journal says whether it takes new messages.
    pub fn admission(&mut self, admission: Admission) {
        self.tell_all(News::Admission(admission));
    }

    /// The store goes away or comes back, as the journal says.
    pub fn store_is(&mut self, state: StoreState) {
        self.tell_all(News::Store(state));
    }

    /// The disk takes what the journal is writing; says whether that was anything. What has been decided meanwhile is the next write.
    pub fn sync_one(&mut self) -> bool {
        self.end_write(Outcome::Durable)
    }

    /// The disk takes all that the journal has.
    pub fn sync_all(&mut self) {
        while self.sync_one() {}
    }

    /// The disk has lost what the journal was writing; says whether that was anything.
    pub fn sync_fails(&mut self) -> bool {
        self.end_write(Outcome::NotSynced(io::Error::other("the disk of a test failed")))
    }

    fn end_write(&mut self, outcome: Outcome) -> bool {
        let Some(write) = self.write.take() else { return false };
        let news = self.turn(CORE_0, |core, now| {
            let journal = journal_of(core);
            journal.finished(now.monotonic_ms, outcome, write.bytes);
            journal.untold().to_vec()
        });
        for (_, news) in news {
            if let News::Synced { lane: of, up_to } = news {
                let synced = self.batches.iter_mut().filter(|batch| batch.lane == of && batch.id <= up_to);
                synced.for_each(|batch| batch.is_synced = true);
            }
        }
        true
    }

    /// The database takes the commit at this place among those that are under way; says whether there was one.
    pub fn store_one(&mut self, place: usize) -> bool {
        let Some((core, Work { id, steps, batches, .. })) = self.commits.remove(place) else { return false };
        steps.iter().for_each(|step| self.store_up_to(step.lane, step.up_to));
        self.turn(core, |core, now| core.advanced(now, id, Ok(Advanced::default()), batches, 0, 0));
        true
    }

    fn store_up_to(&mut self, lane: LaneId, up_to: BatchId) {
        let Self { batches, store, .. } = self;
        batches.retain(|batch| {
            let is_stored = batch.lane == lane && batch.id <= up_to;
            if is_stored {
                batch.records.iter().for_each(|record| store.apply(record));
            }
            !is_stored
        });
    }

    /// The store takes everything that it can get, and the cores hear of it.
    pub fn ingest(&mut self) {
        while self.store_one(0) {}
        self.ingest_sealed();
        self.seal();
        self.ingest_sealed();
    }

    /// What is on the disk becomes a segment for the store.
    pub fn seal(&mut self) {
        self.turn(CORE_0, |core, _| journal_of(core).seal_if_old(u64::MAX));
    }

    /// The store takes the segments that are sealed, and the cores hear of it.
    pub fn ingest_sealed(&mut self) {
        while let Some(fate) = self.segments.pop_front() {
            if let Fate::Ingest(sealed) = &fate {
                sealed.completes.iter().for_each(|(lane, up_to)| self.store_up_to(*lane, *up_to));
            }
            let (Fate::Ingest(sealed) | Fate::Free(sealed)) = fate;
            self.tell(CORE_0, CoreMessage::Ingested(Box::new(sealed)));
        }
        while self.deliver_one() {}
    }

    /// Reads what is asked of the store, so that the answers say how it is now, whenever they come.
    pub fn read_all(&mut self) {
        while self.read_one() {}
    }

    fn read_one(&mut self) -> bool {
        let Some((core, id, query)) = self.queries.pop_front() else { return false };
        let fails = self.store_fails || self.unreadable == Some(query.user());
        let answer = (!fails).then(|| self.store.answer(&query));
        self.failed_queries += u64::from(fails);
        self.answers.push_back((core, id, answer));
        true
    }

    /// Answers one query; says whether there was one.
    pub fn answer_one(&mut self) -> bool {
        if self.answers.is_empty() {
            self.read_one();
        }
        let Some((core, id, answer)) = self.answers.pop_front() else { return false };
        self.turn(core, |core, now| core.answer(now, id, answer));
        true
    }

    /// Delivers a message between cores; says whether there was one.
    pub fn deliver_one(&mut self) -> bool {
        let Some((core, message)) = self.cores.ids().find_map(|core| Some((core, self.cores.take(core)?))) else {
            return self.deliver_presence();
        };
        self.tell(core, message);
        true
    }

    /// Delivers what a core says of presence to another one; says whether there was anything.
    fn deliver_presence(&mut self) -> bool {
        let mail = self.cores.ids().find_map(|core| Some((core, self.cores.take_presence(core)?)));
        let Some((core, mail)) = mail else { return false };
        self.turn(core, |core, now| core.presence(now, mail));
        true
    }

    // ---- time

    /// Lets everything happen that can happen without time passing.
    ///
    /// # Panics
    /// It never comes to an end.
    #[track_caller]
    pub fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let mut moved = self.deliver_one();
            moved |= !self.store_stalled && self.answer_one();
            moved |= !self.disk_stalled && (self.sync_one() | self.store_one(0));
            if let Some(core) = self.with_work() {
                self.judge_one_of(core);
                moved = true;
            }
            for link in 0..self.clients.len() {
                moved |= !self.clients[link].stuck && self.drain(Link(link), usize::MAX);
            }
            if !moved {
                return;
            }
        }
        panic!("there is still something to do after {SETTLE_ROUNDS_MAX} rounds");
    }

    /// As `settle`, but that nothing is committed.
    pub fn settle_without_commits(&mut self) {
        let stalled = std::mem::replace(&mut self.disk_stalled, true);
        self.settle();
        self.disk_stalled = stalled;
    }

    /// Lets time pass, in ticks, and everything settle.
    pub fn advance(&mut self, ms: u64) {
        let end_ms = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < end_ms {
            let wakes_at_ms = self.cores.iter().map(Core::wakes_at_ms).min().unwrap_or(end_ms);
            self.pass(wakes_at_ms.min(end_ms).saturating_sub(self.now.monotonic_ms));
        }
    }

    /// Lets time pass in which each tick comes so late, until the cores have noticed that they are one step busier, or calmer.
    pub fn lag(&mut self, tick_ms: u64) {
        // Before the first one there may have been none.
        for _ in 0..=LOAD_TICKS {
            self.pass(tick_ms);
        }
    }

    /// Lets so much time pass at once. Then cores tick that have to, and everything settles.
    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall.0 += ms;
        for core in self.cores.ids() {
            self.turn(core, |core, now| {
                if core.is_tick_due(now) {
                    core.tick(now)
                }
            });
        }
        self.settle();
    }

    /// The node stops at once: what is not on the disk or in the database is lost, connections break; then it starts again with `cores`.
    ///
    /// # Panics
    /// `cores` is zero.
    pub fn crash(&mut self, cores: u16) {
        self.write = None;
        self.segments.clear();
        self.commits.clear();
        self.queries.clear();
        self.answers.clear();
        self.notices.clear();
        self.by_conn.clear();
        self.clients.iter_mut().filter(|client| client.closed.is_none()).for_each(|client| client.closed = Some(None));
        for batch in self.batches.drain(..).filter(|batch| batch.is_synced) {
            batch.records.iter().for_each(|record| self.store.apply(record));
        }
        let before = self.cores.common();
        let topology =
            Topology::with_lanes(cores, before.topology.lanes_of(CoreId(0)).len() as u16).expect("a node has a core");
        let revocations = before.revocations.read().clone();
        self.epoch.0 += 1;
        self.cores = start(topology, self.settings, revocations, self.epoch);
        self.turn(CORE_0, |_, _| ());
        for user in self.store.unfinished.clone() {
            self.tell(self.home_of(user), CoreMessage::Unfinished(user));
        }
        for group in self.store.unfinished_groups.clone() {
            self.tell(self.home_of(beside(group)), CoreMessage::UnfinishedGroup(group));
        }
    }

    /// The log of a user, once everything is in the store.
    pub fn log(&mut self, user: u64) -> Vec<Entry> {
        self.ingest();
        self.store.users.get(&UserId(user)).map_or_else(Vec::new, |rows| rows.log.values().cloned().collect())
    }

    /// The messages of a user's log, once the store has everything that it can get: (seq, other user, text), and whether it was sent.
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
                Event::Delivered { .. }
                | Event::Deleted { .. }
                | Event::Devices { .. }
                | Event::Read { .. }
                | Event::Seen { .. }
                | Event::Settings { .. }
                | Event::Visibility { .. }
                | Event::Sent { to: ConversationId::Group(_), .. }
                | Event::Group { .. }
                | Event::GroupRefused { .. }
                | Event::Unknown { .. } => None,
            })
            .collect()
    }
}

/// The cores of a node that has just started, with an empty journal.
fn start(topology: Topology, settings: Settings, revocations: Revocations, epoch: EpochId) -> Cores {
    let (writer, promise) = (Writer::new(JournalConfig::default(), Position::default()), settings.promise);
    let journal = Some(Committer::new(writer, topology, promise, SEAL_AFTER_MS, OnStoreOutage::Accept));
    let counters = Arc::new(Counters::new(topology.cores()));
    let capacity = Capacity { table: u32::MAX, core_max: u32::MAX, node_max: u32::MAX, tunnels_max: u32::MAX };
    let common = Common::new(topology, counters, revocations, OriginLimits::default(), capacity, 10_000);
    let config =
        CoreConfig { settings, journal, slow_after_ms: SLOW_AFTER_MS, commits_max: 1, epoch, queries_kept_max: 0 };
    Cores::new(config, Arc::new(common), MAILBOX_MESSAGES_MAX)
}

fn journal_of(core: &mut Core) -> &mut Committer {
    core.journal_mut().expect("core 0 has the journal")
}
