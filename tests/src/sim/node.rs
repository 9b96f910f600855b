//! The node: production shards on simulated cores, the production journal on files of a temporary folder, and a store in
//! memory. A crash forgets everything but what was synced, a random part of the write that was in flight, and the store. The
//! store is an engine or, for other seeds, a database, whose commits are in flight while time passes and end in every way.
//!
//! Here: the machine, its lives, the turns of its shards, and mail between cores. Writes and syncs are `journal`'s, ingestion and
//! queries `store`'s, what is special about a database `database`'s; `frames` looks at what leaves.

mod database;
mod frames;
mod journal;
mod store;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    path::Path,
    sync::Arc,
    time::Duration,
};

use proto_spec::{Entry, Event, Seq, TimestampMs, UserId};
use server::{
    auth::{self, Keys, SigningKey},
    committer::{Committer, Duty, News, OnStoreOutage},
    directory::Directory,
    lanes::{Lanes, Work},
    limits::{TICK_MS, UNCOMMITTED_BYTES_MAX},
    shard::{
        Admission, Close, ConnId, Effects, Envelope, Grant, Input, Limits, Presence, Promise, ReadState, Refresh,
        Settings, Shard, StoreState,
    },
    timekeeper::Timekeeper,
    topology::{CoreId, Topology},
};
use storage::{
    BatchId, Fence, Holder, LaneId, MemoryStore, Query, Record, Store as _,
    contract::block_on,
    journal::{JournalConfig, JournalFolder, SegmentNumber, Write, Writer, recover},
};

use super::{Happening, Simulation, entries_of, faults::Fault, network::LinkId};
use crate::rng::Rng;

const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 640 * 1024, journal_bytes_max: 5 * 640 * 1024, reserve_bytes: 64 * 1024 };

/// Messages that fit a mailbox. Small, so that it is full sometimes.
const MAILBOX_MAX: usize = 6;

/// Short, so that segments are ingested often.
const SEAL_AFTER_MS: u64 = 1_500;

const SETTINGS: Settings = Settings {
    ping_after_ms: 2_000,
    idle_timeout_ms: 5_000,
    expiry_warning_ms: 3_000,
    token_leeway_ms: 500,
    promise: Promise::Disk,
    limits: Limits::OFF,
};

/// Short, so that the database is given up on often.
const SLOW_AFTER_MS: u64 = 300;

/// Short, so that connections outlive their tokens.
const TOKEN_TTL: Duration = Duration::from_secs(8);

const _: () = assert!(JOURNAL.reserve_bytes < UNCOMMITTED_BYTES_MAX as u64);

/// What cores tell each other.
#[derive(Debug)]
enum Mail {
    Envelope(Envelope),
    Batch(LaneId, BatchId, Vec<u8>),
    Stored(LaneId, BatchId),
    Away(CoreId, bool),
    News(News),
    Unfinished(UserId),
}

/// What a crash forgets.
struct Life {
    shards: Vec<Shard>,
    directory: Directory,
    topology: Topology,
    committer: Committer,
    files: HashMap<SegmentNumber, File>,
    in_flight: Option<Write>,
    /// Records of batches that are not durable, those of a lane in order.
    undecided: VecDeque<(LaneId, BatchId, Vec<Record>)>,
    /// Of each core, where acknowledgements wait for a database.
    lanes: Option<Vec<Lanes>>,
    /// What each core has told of its lanes.
    lanes_away: Vec<bool>,
    /// On their way into the database.
    commits: BTreeMap<LaneId, Work>,
    mailboxes: Vec<VecDeque<Mail>>,
    /// What a core could not put into a full mailbox, for each core.
    backlogs: Vec<VecDeque<(usize, Mail)>>,
    links: BTreeMap<(usize, ConnId), LinkId>,
    duties: VecDeque<Duty>,
    ingest_failures: u32,
    /// For each core whether it knows that the store is away.
    told_away: Vec<bool>,
    next_slot: u32,
    counted: (u64, u64, u64),
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
    alive: Option<Life>,
    /// The disk is full until then; the store is away until then.
    disk_full_until_ms: u64,
    store_away_until_ms: u64,
    chaos: bool,
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
            alive: None,
            disk_full_until_ms: 0,
            store_away_until_ms: 0,
            chaos: rng.chance(85),
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
        self.alive.as_ref().is_some_and(|life| life.committer.failure().is_some())
    }

    pub(super) fn heal(&mut self) {
        self.chaos = false;
        self.disk_full_until_ms = 0;
        self.store_away_until_ms = 0;
    }

    /// A core is behind with its mail: clients are not read from.
    pub(super) fn is_stalled(&self) -> bool {
        self.alive.as_ref().is_some_and(|life| life.backlogs.iter().any(|backlog| !backlog.is_empty()))
    }

    pub(super) fn has_parked(&self) -> bool {
        self.alive.as_ref().is_some_and(|life| life.in_flight.is_some())
    }

    /// Nothing is on its way to the disk or between cores.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(life) = &self.alive else { return false };
        life.committer.is_idle()
            && life.lanes.iter().flatten().all(|lanes| lanes.waiting().0 == 0)
            && life.mailboxes.iter().all(VecDeque::is_empty)
            && life.backlogs.iter().all(VecDeque::is_empty)
            && life.committer.admission() == Admission::Open
    }

    fn stored_log(&self, user: UserId) -> Vec<Entry> {
        let query = Query::Log { user, span: Simulation::span_of_everything() };
        entries_of(block_on(storage::answer(&*self.store, &query)).expect("the store answers after healing"))
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
        let users = (1..=4).chain([99]).map(UserId);
        let mut logs: BTreeMap<UserId, BTreeMap<Seq, Entry>> =
            users.map(|user| (user, self.stored_log(user).into_iter().map(|e| (e.seq, e)).collect())).collect();
        for (_, record) in self.journaled() {
            if let Record::Append { user, entry, replaces } = record {
                let log = logs.entry(user).or_default();
                replaces.map(|old| log.remove(&old));
                log.insert(entry.seq, entry);
            }
        }
        logs
    }

    /// A place in the table of the user's core.
    pub(super) fn admit(&mut self, user: UserId, link: LinkId) -> (usize, ConnId) {
        let life = self.alive.as_mut().expect("links are cut when the node dies");
        let core = usize::from(life.topology.home_of(user).0);
        // The lowest slot that is free, as descriptors are given.
        let slot = (0..).find(|slot| !life.links.keys().any(|(c, conn)| *c == core && conn.slot == *slot));
        life.next_slot += 1;
        let conn = ConnId { slot: slot.expect("slots do not end"), generation: life.next_slot };
        life.links.insert((core, conn), link);
        (core, conn)
    }

    pub(super) fn forget_conn(&mut self, core: usize, conn: ConnId) {
        if let Some(life) = &mut self.alive {
            life.links.remove(&(core, conn));
        }
    }
}

impl Simulation {
    // ---- life and death

    pub(super) fn start_machine(&mut self) {
        if self.machine.is_up() {
            return;
        }
        self.machine.life += 1;
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
        let skip = self.strikes(Fault::SkipReplay, 100);
        while !found.segments.is_empty() {
            let segment = found.segments.remove(0);
            if !skip {
                self.ingest(std::slice::from_ref(&segment)).expect("nothing fails during recovery");
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
        let settings = Settings { promise, ..SETTINGS };
        let lanes_of = |core| Lanes::new(topology.lanes_of(CoreId(core)), SLOW_AFTER_MS);
        self.machine.alive = Some(Life {
            shards: (0..cores).map(|core| Shard::new(CoreId(core), topology, settings)).collect(),
            directory: Directory::default(),
            topology,
            committer,
            files,
            in_flight: None,
            undecided: VecDeque::new(),
            lanes: (promise == Promise::Store).then(|| (0..cores).map(lanes_of).collect()),
            lanes_away: vec![false; cores.into()],
            commits: BTreeMap::new(),
            mailboxes: (0..cores).map(|_| VecDeque::new()).collect(),
            backlogs: (0..cores).map(|_| VecDeque::new()).collect(),
            links: BTreeMap::new(),
            duties: VecDeque::new(),
            ingest_failures: 0,
            told_away: vec![false; cores.into()],
            next_slot: 0,
            counted: (0, 0, 0),
        });
        let logs = self.machine.logs();
        self.oracle.restarted(&logs);
        let unfinished = block_on(storage::unfinished(&*self.machine.store, None, 1_000)).expect("reads work now");
        for user in unfinished {
            self.reached("unfinished user after restart");
            self.mail(0, usize::from(topology.home_of(user).0), Mail::Unfinished(user));
        }
        let life = self.machine.life;
        self.schedule(TICK_MS, Happening::Tick { life });
        self.begin_write();
    }

    pub(super) fn crash(&mut self) {
        let Some(mut life) = self.machine.alive.take() else { return };
        self.note(|| "CRASH".to_owned());
        if let Some(write) = life.in_flight.take() {
            self.reached("crash with a write in flight");
            self.tear(&life.files[&write.segment], &write);
        }
        for (_, Work { step, sorted, .. }) in std::mem::take(&mut life.commits) {
            self.reached("crash with a commit in flight");
            if self.rng.chance(50) {
                let advanced = block_on(self.machine.store.advance(self.machine.fence, &[step], sorted));
                advanced.expect("the lane is where its commit goes on from");
            }
        }
        self.machine.life += 1;
        self.cut_all();
        if self.rng.chance(20) {
            self.reached("wall clock went back");
            self.set_clock(-60_000);
        }
        let away = self.rng.within(1, 800);
        self.schedule(away, Happening::Start);
    }

    // ---- shards

    /// One input to one shard, as a turn of its own.
    pub(super) fn feed(&mut self, core: usize, input: Input<'_>) {
        let now = self.now;
        let Some(life) = &mut self.machine.alive else { return };
        let mut effects = Effects::default();
        life.shards[core].handle(now, input, &life.directory, &mut effects);
        life.shards[core].end_turn(now, &life.directory, &mut effects);
        self.carry_out(core, effects);
    }

    fn carry_out(&mut self, core: usize, mut effects: Effects) {
        let this = CoreId(core as u16);
        for (lane, id, batch) in effects.batches() {
            let bytes = self.tamper_with_batch(batch.bytes().to_vec());
            let records: Result<Vec<Record>, _> = storage::records(&bytes).collect();
            let Some(life) = &mut self.machine.alive else { return };
            life.undecided.push_back((lane, id, records.expect("a shard's own batch can be read")));
            if let Some(lanes) = &mut life.lanes {
                lanes[core].push(self.now.monotonic_ms, lane, id, bytes.clone());
            }
            self.mail(core, 0, Mail::Batch(lane, id, bytes));
        }
        self.begin_commits(core);
        for (user, presence) in effects.presence.drain(..) {
            let Some(life) = &mut self.machine.alive else { return };
            match presence {
                Presence::Online => life.directory.insert(user, this),
                Presence::Offline => life.directory.remove(user),
            }
        }
        for (home, envelope) in effects.envelopes.drain(..) {
            self.mail(core, usize::from(home.0), Mail::Envelope(envelope));
        }
        for (id, query) in effects.queries.drain(..) {
            let delay = if self.rng.chance(5) { self.rng.within(0, 200) } else { self.rng.within(0, 5) };
            let life = self.machine.life;
            self.schedule(delay, Happening::Answer { life, core: this, id, query });
        }
        for (conn, range) in effects.sends.drain(..) {
            let Some(life) = &mut self.machine.alive else { return };
            let Some(link) = life.links.get(&(core, conn)).copied() else { continue };
            let bytes = effects.bytes[range].to_vec();
            self.check_frames(core, link, &bytes);
            self.queue_frame(link, &bytes);
        }
        for (conn, state) in effects.reads.drain(..) {
            let Some(life) = &mut self.machine.alive else { return };
            if let Some(link) = life.links.get(&(core, conn)).copied() {
                self.set_paused(link, state == ReadState::Paused);
            }
        }
        for Close { conn, .. } in effects.closes.drain(..) {
            let Some(life) = &mut self.machine.alive else { return };
            if let Some(link) = life.links.remove(&(core, conn)) {
                self.server_closes(link);
            }
        }
        for Refresh { conn, user, device, token } in effects.refreshes.drain(..) {
            match self.machine.keys.verify_for(&token, user, device, self.now.wall) {
                Ok(claims) => {
                    self.reached("token refreshed");
                    let grant = Grant { expires: claims.expires, issued: claims.issued };
                    self.feed(core, Input::Refreshed { conn, grant });
                }
                Err(error) => self.oracle.fail(|| format!("user {user}: a new token was refused: {error}")),
            }
        }
        self.count_shards();
    }

    /// Deliberate faults in what a shard writes.
    fn tamper_with_batch(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.fault != Some(Fault::CursorTooFar) {
            return bytes;
        }
        let mut batch = storage::Batch::default();
        for record in storage::records(&bytes) {
            let mut record = record.expect("a shard's own batch can be read");
            if let Record::Cursor { seq, .. } = &mut record {
                *seq = seq.next();
            }
            if let Record::Append { entry, .. } = &record {
                debug_assert!(!matches!(entry.event, Event::Unknown { .. }));
            }
            batch.push(&record);
        }
        batch.bytes().to_vec()
    }

    fn count_shards(&mut self) {
        let Some(life) = &mut self.machine.alive else { return };
        let (mut repeated, mut behind, mut duplicates) = (0, 0, 0);
        for shard in &life.shards {
            let counters = shard.counters();
            repeated += counters.repeated;
            behind += counters.fell_behind;
            duplicates += counters.duplicates;
        }
        let before = std::mem::replace(&mut life.counted, (repeated, behind, duplicates));
        let grown = [
            (repeated > before.0, "retry answered with the first result"),
            (behind > before.1, "live connection fell behind"),
            (duplicates > before.2, "duplicate message found"),
        ];
        for (_, situation) in grown.into_iter().filter(|(grown, _)| *grown) {
            self.reached(situation);
        }
    }

    pub(super) fn on_tick(&mut self) {
        let life = self.machine.life;
        self.schedule(TICK_MS, Happening::Tick { life });
        for core in 0..self.machine.alive.as_ref().map_or(0, |life| life.shards.len()) {
            self.feed(core, Input::Tick);
        }
        let now_ms = self.now.monotonic_ms;
        if let Some(life) = &mut self.machine.alive {
            life.committer.seal_if_old(now_ms);
        }
        self.look_at_lanes();
        self.take_duties();
        if self.machine.chaos && self.rng.chance(1) {
            let until = self.now.monotonic_ms + self.rng.within(50, 1_500);
            if self.rng.chance(50) {
                self.machine.disk_full_until_ms = until;
            } else {
                let long = if self.rng.chance(30) { 3_000 } else { 0 };
                self.machine.store_away_until_ms = until + long;
            }
        }
        if self.machine.chaos && !self.healing && self.rng.next().is_multiple_of(500) {
            self.leap();
        }
        self.pass_news();
        self.begin_write();
    }

    // ---- mail between cores

    fn mail(&mut self, from: usize, to: usize, mail: Mail) {
        if self.machine.alive.is_none() {
            return;
        }
        // Core 0 has the journal: its own batches need no mail.
        if from == to
            && let Mail::Batch(lane, id, bytes) = mail
        {
            return self.journal(lane, id, &bytes);
        }
        let Some(life) = &mut self.machine.alive else { return };
        let is_full = life.mailboxes[to].len() >= MAILBOX_MAX || !life.backlogs[from].is_empty();
        if is_full {
            life.backlogs[from].push_back((to, mail));
            self.reached("mailbox full");
            if self.fault == Some(Fault::DropOnFullMailbox)
                && let Some(life) = &mut self.machine.alive
                && matches!(life.backlogs[from].back(), Some((_, Mail::Envelope(_))))
            {
                life.backlogs[from].pop_back();
            }
            return;
        }
        self.put(to, mail);
    }

    fn put(&mut self, to: usize, mail: Mail) {
        let is_swapped = matches!(mail, Mail::Envelope(_)) && self.strikes(Fault::ReorderMailbox, 20);
        let Some(life) = &mut self.machine.alive else { return };
        life.mailboxes[to].push_back(mail);
        let len = life.mailboxes[to].len();
        if is_swapped && len >= 2 {
            life.mailboxes[to].swap(len - 1, len - 2);
        }
        let delay = self.rng.within(0, 3);
        let life = self.machine.life;
        self.schedule(delay, Happening::Mail { life, core: to });
    }

    pub(super) fn on_mail(&mut self, core: usize) {
        let Some(life) = &mut self.machine.alive else { return };
        let Some(mail) = life.mailboxes[core].pop_front() else { return };
        match mail {
            Mail::Envelope(envelope) => self.feed(core, Input::Envelope(envelope)),
            Mail::Batch(lane, id, bytes) => self.journal(lane, id, &bytes),
            Mail::Stored(lane, up_to) => {
                life.committer.stored(lane, up_to);
                self.take_duties();
            }
            Mail::Away(core, is_away) => {
                life.committer.lanes_away(core, is_away);
                self.pass_news();
            }
            Mail::News(News::Committed { lane, up_to }) if life.lanes.is_some() => {
                let lanes = life.lanes.as_mut().expect("as the guard says");
                if let Some(up_to) = lanes[core].synced(lane, up_to) {
                    self.feed(core, Input::Committed { lane, up_to });
                }
            }
            Mail::News(News::Store(store)) => {
                life.told_away[core] = store == StoreState::Away;
                if !self.strikes(Fault::HideOutage, 100) {
                    self.feed(core, Input::Store(store));
                }
            }
            Mail::News(news) => self.feed(core, news.input()),
            Mail::Unfinished(user) => self.feed(core, Input::Unfinished(user)),
        }
        self.send_backlogs();
    }

    fn send_backlogs(&mut self) {
        for from in 0..self.machine.alive.as_ref().map_or(0, |life| life.backlogs.len()) {
            loop {
                let Some(life) = &mut self.machine.alive else { return };
                match life.backlogs[from].front() {
                    Some((to, _)) if life.mailboxes[*to].len() < MAILBOX_MAX => {}
                    _ => break,
                }
                let Some((to, mail)) = life.backlogs[from].pop_front() else { break };
                self.put(to, mail);
            }
        }
    }
}
