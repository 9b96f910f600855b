//! The node: production cores, the production journal on files of a temporary folder, and a store in memory. A crash forgets
//! everything but what was synced, a random part of the write that was in flight, and the store. The store is an engine or, for
//! other seeds, a database, whose commits are in flight while time passes and end in every way.
//!
//! Here: the machine, its lives, and what happens to cores. What they ask for in a turn is `rim`'s; connections are `door`'s, writes
//! and syncs `journal`'s, ingestion and queries `store`'s, what is special about a database `database`'s; `frames` looks at what leaves.

mod database;
mod door;
mod frames;
mod journal;
mod rim;
mod store;

pub(super) use store::Read;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::File,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto_spec::{DeviceId, Entry, EpochId, SendNumber, Seq, TimestampMs, UserId};
use server::{
    access::{
        auth::{self, Keys, SigningKey},
        rate::Rate,
        revocation::{Change, Revocations, Subject},
    },
    core::{Awaited, Common, CoreConfig, CoreMessage, Cores, OriginLimits},
    durability::{
        committer::{Committer, Fate, News, OnStoreOutage},
        lanes::Work,
    },
    host::{capacity::Capacity, timekeeper::Timekeeper},
    limits::{MAILBOX_MESSAGES_MAX, STOP_MS, TICK_MS, UNRELEASED_BYTES_MAX},
    operator::counters::Counters,
    shard::{
        Admission, CacheLimits, ConnId, KeptOfUser, Limits, PresenceSettings, Promise, Settings, StoreState,
        topology::{CoreId, Topology},
    },
};
use storage::{
    Answer, BatchId, Fence, Holder, LaneId, MemoryStore, Query, Record, Sent, Store as _,
    contract::block_on,
    journal::{JournalConfig, JournalFolder, SegmentNumber, Write, Writer, recover},
};

use super::{Happening, Simulation, entries_of, faults::Fault, network::LinkId, notifying::entries_of_user};
use crate::rng::Rng;

const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 640 * 1024, journal_bytes_max: 5 * 640 * 1024, reserve_bytes: 64 * 1024 };

/// Messages that fit a mailbox in some lives. Small, so that it is full sometimes.
const MAILBOX_SMALL: usize = 6;

/// Reads that the store has under way for a core. Small, so that some wait.
const READS_MAX: usize = 3;

/// For hellos; not short, since bytes come in any cut.
const HANDSHAKE_TIMEOUT_MS: u64 = 4_000;

/// Short, so that segments are ingested often.
const SEAL_AFTER_MS: u64 = 1_500;

const SETTINGS: Settings = Settings {
    ping_after_ms: 2_000,
    idle_timeout_ms: 5_000,
    expiry_warning_ms: 3_000,
    token_leeway_ms: 500,
    promise: Promise::Disk,
    limits: Limits::OFF,
    cache: CacheLimits::OFF,
    presence: PresenceSettings::DEFAULT,
    moves_per_s: 1_000,
    push: None,
};

/// Small, so that what is kept is left out, pushed out and read anew all the time.
fn small_cache(rng: &mut Rng) -> CacheLimits {
    let user = KeptOfUser {
        conversations: rng.within(0, 4) as usize,
        messages: rng.within(1, 6) as usize,
        bytes: rng.within(1_400, 4_000) as usize,
    };
    CacheLimits { user, core_bytes: rng.within(2_000, 20_000) as usize }
}

/// Short, so that the database is given up on often.
const SLOW_AFTER_MS: u64 = 300;

/// Those who never connect.
pub(super) const STRANGERS: RangeInclusive<u64> = 80..=99;

/// Short, so that connections outlive their tokens.
const TOKEN_TTL: Duration = Duration::from_secs(8);

const _: () = assert!(JOURNAL.reserve_bytes < UNRELEASED_BYTES_MAX as u64);

/// What a crash forgets.
pub(super) struct Life {
    pub(super) cores: Cores,
    files: HashMap<SegmentNumber, File>,
    in_flight: Option<Write>,
    /// Records of batches that are not durable, those of a lane in order.
    undecided: VecDeque<(LaneId, BatchId, Vec<Record>)>,
    /// On their way into the database, by the first of their lanes: no other commit has that.
    commits: BTreeMap<LaneId, Work>,
    /// Reads that the store has under way for each core.
    reads: BTreeMap<CoreId, usize>,
    /// By core and place in its table.
    links: BTreeMap<(CoreId, ConnId), LinkId>,
    /// Descriptors that have come from another core, by core and place, before anybody said who it is.
    arrived: BTreeMap<(CoreId, u32), LinkId>,
    segments: VecDeque<Fate>,
    ingest_failures: u32,
    /// For each core that knows that the store is away: what was durable when it heard of it.
    told_away: BTreeMap<CoreId, BTreeMap<UserId, Seq>>,
    /// A core that takes no mail, until then.
    hangs: Option<(CoreId, u64)>,
    /// Batches that a deliberate fault lets leave with the next turn of their core.
    held: BTreeMap<CoreId, Vec<(CoreId, CoreMessage)>>,
    /// Cores that have a turn soon in which nothing else happens.
    have_turns: BTreeSet<CoreId>,
    next_generation: u32,
    /// What the operator has revoked, as far as the user's core has been told.
    revoked: BTreeMap<UserId, u64>,
    counted: (u64, u64, u64, u64, u64),
}

/// The machine: what survives a crash, and the current life.
pub(super) struct Machine {
    pub(super) life: u32,
    pub(super) keys: Keys,
    signing_key: SigningKey,
    folder: tempfile::TempDir,
    promise: Promise,
    store: Arc<MemoryStore>,
    fence: Fence,
    /// What the operator has revoked and not lifted, and by whose number of happenings that was.
    revocations: Revocations,
    revoked: BTreeMap<UserId, u64>,
    pub(super) alive: Option<Life>,
    /// The disk is full until then; the store is away until then.
    disk_full_until_ms: u64,
    store_away_until_ms: u64,
    /// When the stop that is under way was asked for.
    stopping_since_ms: Option<u64>,
    /// Nobody can read what a row of this user says until then.
    unreadable: Option<(UserId, u64)>,
    chaos: bool,
    /// Few conversations may be opened, and people write to many.
    pub(super) few_open: bool,
    /// The store as it was some time ago, for a deliberate fault.
    stale: Option<Arc<MemoryStore>>,
}

impl Machine {
    pub(super) fn new(rng: &mut Rng) -> Self {
        // A folder in memory where there is one: nothing here depends on a disk.
        let folder =
            if Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
        let promise = match rng.within(0, 9) {
            0..4 => Promise::Disk,
            4..6 => Promise::Journal,
            _ => Promise::Store,
        };
        let store = if promise == Promise::Disk { MemoryStore::default() } else { MemoryStore::database() };
        let pem = auth::generate_pem().expect("the system has randomness");
        Self {
            life: 0,
            keys: Keys::from_pem(pem.as_bytes()).expect("made just above"),
            signing_key: SigningKey::from_pem(pem.as_bytes()).expect("made just above"),
            folder: folder.expect("a temporary folder can be made"),
            promise,
            store: Arc::new(store),
            fence: Fence::default(),
            revocations: Revocations::default(),
            revoked: BTreeMap::new(),
            alive: None,
            disk_full_until_ms: 0,
            store_away_until_ms: 0,
            stopping_since_ms: None,
            unreadable: None,
            chaos: rng.chance(85),
            few_open: rng.chance(30),
            stale: None,
        }
    }

    pub(super) fn token(&self, user: UserId, now: TimestampMs) -> String {
        auth::mint(&self.signing_key, user, TOKEN_TTL, now).expect("the key is good")
    }

    pub(super) const fn is_up(&self) -> bool {
        self.alive.is_some()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.alive.as_ref().is_some_and(|life| life.journal().failure().is_some())
    }

    pub(super) fn heal(&mut self) {
        self.chaos = false;
        self.disk_full_until_ms = 0;
        self.store_away_until_ms = 0;
        self.unreadable = None;
        // Where the clock went back, new tokens would be void for as long.
        for (subject, _) in std::mem::take(&mut self.revocations).iter() {
            if let Some(life) = &mut self.alive {
                life.cores.common().revocations.write().apply(Change::Lift(subject));
                life.revoked.clear();
            }
        }
        self.revoked.clear();
    }

    /// Others are behind: this core reads from no client.
    pub(super) fn is_stalled(&self, core: CoreId) -> bool {
        self.alive.as_ref().is_some_and(|life| life.cores.get(core).is_stalled())
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stopping_since_ms.is_some()
    }

    pub(super) fn has_parked(&self) -> bool {
        self.alive.as_ref().is_some_and(|life| life.in_flight.is_some())
    }

    /// Nothing is on its way to the disk or between cores.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(life) = &self.alive else { return false };
        let journal = life.journal();
        journal.is_idle()
            && journal.admission() == Admission::Open
            && !self.is_stopping()
            && life.commits.is_empty()
            && life.cores.iter().all(|core| core.shard_counters().unreleased_bytes == 0 && !core.is_stalled())
            && life.cores.have_no_mail()
    }

    fn stored_log(&self, user: UserId) -> Vec<Entry> {
        let query = Query::Log { user, span: super::span_of_everything() };
        entries_of(block_on(storage::answer(&*self.store, &query)).expect("the store answers after healing"))
    }

    /// The last entry of a user's log that is in the store.
    fn stored_up_to(&self, user: UserId) -> Seq {
        self.stored_log(user).last().map_or(Seq::ZERO, |entry| entry.seq)
    }

    /// Records in the journal's segments, in order.
    fn journaled(&self) -> Vec<(LaneId, Record)> {
        let mut records = Vec::new();
        // If it is damaged, the start has said so.
        let Ok(found) = recover(self.folder.path()) else { return records };
        for segment in &found.segments {
            let mut read = segment.read().expect("the segment can be read");
            while let Some(record) = read.next_record().expect("the record is whole") {
                for item in storage::records(record.payload) {
                    records.push((record.lane, item.expect("the batch can be read")));
                }
            }
        }
        records
    }

    /// Everybody's durable log: the store, and what the journal has on top.
    pub(super) fn logs(&self) -> BTreeMap<UserId, BTreeMap<Seq, Entry>> {
        let users = (1..=4).chain(STRANGERS).map(UserId);
        let mut logs: BTreeMap<UserId, BTreeMap<Seq, Entry>> =
            users.map(|user| (user, self.stored_log(user).into_iter().map(|e| (e.seq, e)).collect())).collect();
        for (_, record) in self.journaled() {
            let (user, entry, replaces) = match record {
                Record::Append { user, entry, replaces, .. } => (user, entry, replaces.into_iter().collect()),
                Record::Rewrite { user, entry, of } => {
                    (user, entry, of.replaces.iter().map(|replaced| replaced.seq).collect::<Vec<_>>())
                }
                _ => continue,
            };
            let log = logs.entry(user).or_default();
            for old in &replaces {
                log.remove(old);
            }
            log.insert(entry.seq, entry);
        }
        logs
    }

    /// Entries of a user's log that have been decided and are not durable.
    pub(super) fn undecided_entries(&self, user: UserId) -> Vec<Entry> {
        let batches = self.alive.iter().flat_map(|life| &life.undecided);
        batches.flat_map(|(.., records)| entries_of_user(records, user)).cloned().collect()
    }

    /// Whether the store knows that this number was given up.
    pub(super) fn is_void(&self, user: UserId, device: DeviceId, number: SendNumber) -> bool {
        let query = Query::Send { user, device, number };
        let answer = block_on(storage::answer(&*self.store, &query)).expect("reads do not fail by themselves");
        answer == Answer::Send(Some(Sent::GivenUp))
    }

    /// What is wrong with the places of connections, when nothing happens any more.
    pub(super) fn misplaced(&self) -> Option<String> {
        let life = self.alive.as_ref()?;
        let (counted, there) = (life.cores.common().connections.load(Ordering::Relaxed), life.links.len() as u64);
        let nowhere = life.arrived.len();
        let is_wrong = counted != there || nowhere > 0;
        is_wrong
            .then(|| format!("{counted} places count as taken, {there} are, and {nowhere} descriptors are nobody's"))
    }

    /// The core of a user.
    pub(super) fn home_of(&self, user: UserId) -> Option<CoreId> {
        self.alive.as_ref().map(|life| life.cores.common().topology.home_of(user))
    }

    /// The cores, by number.
    pub(super) fn cores(&self) -> Vec<CoreId> {
        self.alive.as_ref().map_or_else(Vec::new, |life| life.cores.ids().collect())
    }
}

impl Life {
    fn journal(&self) -> &Committer {
        self.cores.get(CoreId(0)).journal().expect("core 0 has the journal")
    }
}

impl Simulation {
    // ---- life and death

    pub(super) fn start_machine(&mut self) {
        if self.machine.is_up() {
            return;
        }
        self.machine.life += 1;
        // What was to fail in the life before does not any more.
        self.machine.store.forget_faults();
        // There is nothing to compare the clock with.
        self.keeper = Timekeeper::new(self.now.monotonic_ms, self.machine_wall());
        self.oracle.clock_may_be_wrong_by(self.wrong_ms);
        self.look_at_clock();
        let cores = self.rng.within(1, 3) as u16;
        if self.machine.life > 1 {
            self.reached("node restarted with another number of cores");
        }
        let machine = &mut self.machine;
        machine.fence = block_on(machine.store.take_over()).expect("a store in memory can be taken over");
        let segments = JournalFolder::open(machine.folder.path(), JOURNAL.segment_bytes).expect("the folder is good");
        let mut found = match recover(machine.folder.path()) {
            Ok(found) => found,
            Err(error) => return self.oracle.fail(|| format!("the node does not start: {error}")),
        };
        if found.torn.is_some() {
            self.reached("torn write found at recovery");
        }
        // What the last write before a crash left counts from now on, superseded within it or not.
        self.machine.journaled().iter().for_each(|(_, record)| self.oracle.learns(record));
        let skip = self.strikes(Fault::SkipReplay, 100);
        while !found.segments.is_empty() {
            let segment = found.segments.remove(0);
            if !skip && let Err(error) = self.ingest(std::slice::from_ref(&segment)) {
                return self.oracle.fail(|| format!("what the journal has does not get into the store: {error}"));
            }
            if !self.healing && self.rng.chance(20) {
                // Ingested and not freed: all of it is found again.
                self.reached("crash during recovery");
                self.machine.fence = block_on(self.machine.store.take_over()).expect("as above");
                found = recover(self.machine.folder.path()).expect("as above");
                continue;
            }
            segments.free(segment.number).expect("the folder is good");
        }
        for empty in &found.empty {
            segments.free(*empty).expect("the folder is good");
        }
        let holder = Holder(1);
        block_on(self.machine.store.begin(self.machine.fence, holder)).expect("the fence was just taken");
        let promise = self.machine.promise;
        let lanes = if promise == Promise::Store { self.rng.within(1, 3) as u16 } else { 1 };
        let topology = Topology::with_lanes(cores, lanes).expect("at least one of each");
        let on_outage = if self.rng.chance(25) { OnStoreOutage::Refuse } else { OnStoreOutage::Accept };
        let writer = Writer::new(JOURNAL, found.next);
        let mut committer = Committer::new(writer, topology, promise, SEAL_AFTER_MS, on_outage);
        let mut files = HashMap::new();
        while let Some(segment) = committer.wanted_segment(self.now.monotonic_ms) {
            let (salt, file) = self.prepare(segment);
            files.insert(segment, file);
            committer.prepared(segment, salt);
        }
        let counters = Arc::new(Counters::new(cores));
        let capacity = Capacity::new(1_000, cores, 20_000).expect("there is room for all");
        let (revocations, origins) = (self.machine.revocations.clone(), OriginLimits::default());
        let common = Common::new(topology, counters, revocations, origins, capacity, HANDSHAKE_TIMEOUT_MS);
        let common = Arc::new(common);
        let opened = if self.machine.few_open { Rate::per_second(1) } else { Rate::OFF };
        let limits = Limits { opened, ..SETTINGS.limits };
        let cache = small_cache(&mut Rng::new(self.seed.wrapping_add(self.machine.life.into())));
        let presence = self.watching.settings;
        let push = self.provider.settings();
        let (settings, journal) = (Settings { promise, limits, cache, presence, push, ..SETTINGS }, Some(committer));
        let epoch = EpochId(self.machine.life.into());
        let config =
            CoreConfig { settings, journal, slow_after_ms: SLOW_AFTER_MS, commits_max: 1, epoch, queries_kept_max: 0 };
        let mailbox_messages_max = if self.rng.chance(70) { MAILBOX_SMALL } else { MAILBOX_MESSAGES_MAX };
        self.machine.alive = Some(Life {
            cores: Cores::new(config, common, mailbox_messages_max),
            files,
            in_flight: None,
            undecided: VecDeque::new(),
            commits: BTreeMap::new(),
            reads: BTreeMap::new(),
            links: BTreeMap::new(),
            arrived: BTreeMap::new(),
            segments: VecDeque::new(),
            ingest_failures: 0,
            told_away: BTreeMap::new(),
            hangs: None,
            held: BTreeMap::new(),
            have_turns: BTreeSet::new(),
            next_generation: 0,
            revoked: self.machine.revoked.clone(),
            counted: (0, 0, 0, 0, 0),
        });
        self.machine.stopping_since_ms = None;
        self.oracle.restarted(&self.machine.logs());
        self.begin_presence();
        let unfinished = block_on(storage::unfinished(&*self.machine.store, None, 1_000)).expect("reads work now");
        for user in unfinished {
            self.reached("unfinished user after restart");
            self.put(topology.home_of(user), CoreMessage::Unfinished(user));
        }
        let life = self.machine.life;
        self.schedule(TICK_MS, Happening::Tick { life });
        self.idle_turn(CoreId(0));
    }

    pub(super) fn crash(&mut self) {
        let Some(mut life) = self.machine.alive.take() else { return };
        self.note(|| "CRASH".to_owned());
        if let Some(write) = life.in_flight.take() {
            self.reached("crash with a write in flight");
            self.tear(&life.files[&write.segment], &write);
        }
        for (_, Work { steps, sorted, .. }) in std::mem::take(&mut life.commits) {
            self.reached("crash with a commit in flight");
            if self.rng.chance(50) {
                let advanced = block_on(self.machine.store.advance(self.machine.fence, &steps, sorted));
                if let Err(error) = advanced {
                    self.oracle.fail(|| format!("a commit that was under way is not the lane's next one: {error:?}"));
                }
                let is_in = |lane, batch| steps.iter().any(|step| step.lane == lane && batch <= step.up_to);
                let committed = life.undecided.iter().filter(|(lane, batch, _)| is_in(*lane, *batch));
                committed.flat_map(|(.., records)| records).for_each(|record| self.oracle.learns(record));
            }
        }
        self.die();
    }

    /// Nothing is left of the life that has ended; the next one begins later.
    fn die(&mut self) {
        self.machine.life += 1;
        self.machine.stopping_since_ms = None;
        self.lose_notices();
        self.cut_all();
        if self.rng.chance(20) {
            self.reached("wall clock went back");
            self.set_clock(-60_000);
        }
        let away = self.rng.within(1, 800);
        self.schedule(away, Happening::Start);
    }

    // ---- an orderly stop

    /// The operator stops the node.
    pub(super) fn stop_machine(&mut self) {
        if !self.machine.is_up() || self.machine.is_stopping() {
            return;
        }
        self.note(|| "STOP".to_owned());
        self.machine.stopping_since_ms = Some(self.now.monotonic_ms);
        // That deliberate fault shows only while a core takes no mail.
        if self.rng.chance(50) || self.fault == Some(Fault::StopWithoutMail) {
            self.hang();
        }
        for core in self.machine.cores() {
            self.act(core, |core, now| core.stop(now));
        }
        let life = self.machine.life;
        self.schedule(1, Happening::Stopped { life });
    }

    /// Looks whether the stop is over.
    pub(super) fn on_stopped(&mut self) {
        let now = self.now;
        let Some(since_ms) = self.machine.stopping_since_ms else { return };
        let Some(life) = &mut self.machine.alive else { return };
        let links = &life.links;
        let are_over = life.cores.are_over(now, |core| !links.keys().any(|(at, _)| *at == core));
        let is_hasty = match self.fault {
            Some(Fault::StopWhenAllHaveGone) => life.cores.iter().all(|core| core.shard_counters().sessions == 0),
            Some(Fault::StopWithoutMail) => life.cores.common().awaited_between_cores() == Some(Awaited::Mail),
            _ => false,
        };
        if !are_over && !is_hasty {
            let number = self.machine.life;
            // A turn of each, so that what the stop waits for goes on.
            for core in self.machine.cores() {
                self.idle_turn(core);
            }
            return self.schedule(5, Happening::Stopped { life: number });
        }
        let is_late = now.monotonic_ms >= since_ms + STOP_MS;
        let has_failed = life.journal().failure().is_some();
        let waiting = life.undecided.len();
        let open = life.cores.common().connections.load(Ordering::Relaxed);
        let on_the_way = life.cores.awaited_mail();
        if is_late {
            self.note(|| "stopped without being drained".to_owned());
        } else {
            self.reached("stopped in order");
        }
        if !is_late && !has_failed && waiting > 0 {
            self.oracle.fail(|| format!("the node stops in order, and {waiting} batches are not durable"));
        }
        if !is_late && on_the_way > 0 {
            self.oracle
                .fail(|| format!("the node stops in order, and {on_the_way} messages are on their way between cores"));
        }
        if !is_late && open > 0 {
            self.oracle.fail(|| format!("the node stops in order, and {open} connections have a place still"));
        }
        self.machine.alive = None;
        self.die();
    }

    // ---- cores

    fn count_shards(&mut self) {
        let Some(life) = &mut self.machine.alive else { return };
        let (mut repeated, mut behind, mut duplicates, mut merged, mut late) = (0, 0, 0, 0, 0);
        for core in life.cores.iter() {
            let counters = core.shard_counters();
            repeated += counters.repeated;
            behind += counters.fell_behind;
            duplicates += counters.duplicates;
            merged += counters.presence_merged;
            late += counters.presence_late;
        }
        let before = std::mem::replace(&mut life.counted, (repeated, behind, duplicates, merged, late));
        let grown = [
            (repeated > before.0, "retry answered with the first result"),
            (behind > before.1, "live connection fell behind"),
            (duplicates > before.2, "duplicate message found"),
            (merged > before.3, "changes of presence told together"),
            (late > before.4, "word of presence given up"),
        ];
        for (_, situation) in grown.into_iter().filter(|(grown, _)| *grown) {
            self.reached(situation);
        }
    }

    pub(super) fn on_tick(&mut self) {
        let life = self.machine.life;
        self.schedule(TICK_MS, Happening::Tick { life });
        self.before_ticks();
        for core in self.machine.cores() {
            self.act(core, |core, now| core.tick(now));
        }
        self.after_ticks();
        // Nothing overtakes but what is put off, which is rare: for that fault it is not.
        let puts_off = self.fault == Some(Fault::ForgetBefore);
        if self.machine.chaos && self.rng.chance(if puts_off { 20 } else { 1 }) {
            let until = self.now.monotonic_ms + self.rng.within(50, 1_500);
            let what = if puts_off { 3 } else { self.rng.within(0, 3) };
            match what {
                0..2 => self.machine.disk_full_until_ms = until,
                2 => {
                    let long = if self.rng.chance(30) { 3_000 } else { 0 };
                    self.machine.store_away_until_ms = until + long;
                }
                _ => {
                    let user = self.apps[self.rng.within(0, self.apps.len() as u64 - 1) as usize].key.0;
                    self.machine.unreadable = Some((user, until));
                }
            }
        }
        if self.machine.chaos && !self.healing {
            match self.rng.next() % 1_000 {
                0..2 => self.leap(),
                2..4 => self.revoke_somebody(),
                4..9 => self.stop_machine(),
                9..12 => self.hang(),
                _ => {}
            }
        }
    }

    /// A core takes no mail for a while.
    fn hang(&mut self) {
        let cores = self.machine.cores();
        if cores.is_empty() {
            return;
        }
        let (core, ms) = (*self.rng.pick(&cores), self.rng.within(200, 2_000));
        let until_ms = self.now.monotonic_ms + ms;
        if let Some(life) = &mut self.machine.alive {
            life.hangs = Some((core, until_ms));
            self.reached("core takes no mail for a while");
        }
    }

    // ---- the operator

    /// The operator revokes what tokens somebody has.
    fn revoke_somebody(&mut self) {
        let user = self.apps[self.rng.within(0, self.apps.len() as u64 - 1) as usize].key.0;
        self.reached("tokens revoked");
        let Some(life) = &self.machine.alive else { return };
        let moment = life.cores.common().revocation_moment(self.now.wall);
        let change = Change::Revoke(Subject { user, device: None }, moment);
        let home = life.cores.common().topology.home_of(user);
        if self.fault != Some(Fault::RevokeWithoutTable) {
            // The command has made it durable.
            self.machine.revocations.apply(change);
            life.cores.common().revocations.write().apply(change);
        }
        self.machine.revoked.insert(user, self.next_happening);
        let Change::Revoke(subject, moment) = change else { return };
        self.put(home, CoreMessage::Revoked(subject, moment));
    }

    // ---- mail between cores

    /// A thread puts a message, and waits for room if it has to.
    pub(super) fn put(&mut self, to: CoreId, message: CoreMessage) {
        let Some(life) = &mut self.machine.alive else { return };
        life.cores.put(to, message);
        self.deliver_soon(to);
    }

    pub(super) fn deliver_soon(&mut self, to: CoreId) {
        let delay = self.rng.within(0, 3);
        let life = self.machine.life;
        self.schedule(delay, Happening::Mail { life, core: to });
    }

    pub(super) fn on_mail(&mut self, core: CoreId) {
        let Some(life) = &mut self.machine.alive else { return };
        if let Some((hanging, until_ms)) = life.hangs
            && hanging == core
            && until_ms > self.now.monotonic_ms
        {
            let life = self.machine.life;
            return self.schedule(until_ms - self.now.monotonic_ms, Happening::Mail { life, core });
        }
        let Some(message) = life.cores.take(core) else {
            return self.hear_presence(core);
        };
        if let CoreMessage::News(News::Store(store)) = &message {
            match store {
                StoreState::Away => life.told_away.insert(core, self.oracle.heads()),
                StoreState::Present => life.told_away.remove(&core),
            };
        }
        let is_lost = match &message {
            CoreMessage::StoreAway | CoreMessage::Away { is_away: true, .. } => {
                life.told_away.entry(CoreId(0)).or_insert_with(|| self.oracle.heads());
                self.fault == Some(Fault::HideOutage)
            }
            CoreMessage::Guest(_) => self.strikes(Fault::LoseGuest, 30),
            CoreMessage::Revoked(Subject { user, .. }, _) => {
                life.revoked.extend(self.machine.revoked.get(user).map(|at| (*user, *at)));
                self.fault == Some(Fault::RevokeNobody)
            }
            _ => false,
        };
        if is_lost {
            return self.idle_turn(core);
        }
        self.act(core, |core, now| core.message(now, message));
    }
}
