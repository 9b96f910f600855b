//! The simulator: one node with its cores, journal and store, and people with several devices, in one thread from one
//! seed. It runs the production cores with all that they decide, journal files, recovery, fold, queries, ingestion and client;
//! simulated are time, network, the disk's writes and syncs, the store's answers and commits, the operator, and crashes of the node
//! and of apps.

mod client;
mod devices;
pub mod faults;
mod inbox;
pub(crate) mod network;
mod node;
mod notifying;
pub mod oracle;
mod presence;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt::Write as _,
};

use proto_spec::{DeviceId, Direction, Entry, EpochId, Event, SendNumber, Seq, TimestampMs, UserId};
use server::{
    host::timekeeper::{Timekeeper, wall_at},
    shard::{ConnId, Now, QueryId, presence::ShownTo, topology::CoreId},
};
use storage::{Answer, LaneId, Query, Span, journal::SegmentNumber};

use client::App;
use faults::Fault;
use network::{LinkId, Links};
use node::{Machine, Read};
use notifying::Provider;
pub(crate) use notifying::words;
use oracle::Oracle;
use presence::Watching;

use crate::rng::Rng;

/// What the time was when the machine was booted, in milliseconds since 1970.
const BOOTED_MS: i64 = 1_800_000_000_000;

const HOUR_MS: u64 = 3_600_000;

/// How long chaos lasts, in milliseconds of simulated time.
const CHAOS_MS: u64 = 8_000;

/// How long healing may take: the longest backoff of a client, a few handshakes, and receipts.
const HEALING_MS: u64 = 120_000;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Happening {
    Tick { life: u32 },
    Mail { life: u32, core: CoreId },
    Written { life: u32 },
    Prepared { life: u32, segment: SegmentNumber },
    Ingest { life: u32 },
    Advanced { life: u32, core: CoreId, lane: LaneId },
    Turn { life: u32, core: CoreId },
    Moved { life: u32, core: CoreId, conn: ConnId, home: CoreId, ticket: u32 },
    Arrived { life: u32, core: CoreId, from: CoreId, ticket: u32, slot: u32 },
    Stopped { life: u32 },
    Answer { life: u32, core: CoreId, id: QueryId, query: Query, read: Option<Box<Read>> },
    Drain(LinkId),
    ToServer(LinkId),
    ToClient(LinkId),
    Opened(LinkId),
    Cut(LinkId),
    AppTick(usize),
    AppAct(usize),
    AppLook(usize),
    AppStart(usize),
    NoticeEnds { life: u32, id: u64 },
    Crash,
    Start,
    ClockBack { by_ms: i64 },
}

/// Seeds of the standard run.
pub const SEEDS: u64 = 300;

/// Within so many seeds every deliberate fault must be found.
pub const SEEDS_TO_FIND: u64 = SEEDS;

/// Situations that are rarely reached and where bugs live. All must be reached in the standard run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By name, how often.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Every situation that is counted.
pub const SITUATIONS: &[&str] = &[
    "accepted by the database",
    "accepted by the journal",
    "accepted by the journal while the database is away",
    "accepted while the store is away",
    "accepted with its recipient there",
    "app restarted",
    "app restarted with unanswered messages",
    "batch of the journal found in the database",
    "began at the head",
    "change of what was deleted",
    "change of what was taken back",
    "changes of presence told together",
    "client lost its connection",
    "client went away while its connection moved",
    "commit failed",
    "commit found done",
    "connection closed for silence",
    "connection cut with bytes on their way to the client",
    "connection cut with bytes on their way to the server",
    "connection moved to its home core",
    "conversation marked",
    "history compared",
    "core takes no mail for a while",
    "crash during recovery",
    "crash with a commit in flight",
    "crash with a write in flight",
    "crash with accepted messages on their way to the client",
    "descriptor that could not be moved",
    "device removed",
    "device replaced by itself",
    "disk full",
    "duplicate message found",
    "failed sync",
    "group of several batches",
    "ingestion behind",
    "ingestion failed",
    "inbox",
    "later epoch of a log",
    "log skipped",
    "live connection fell behind",
    "mailbox full",
    "message cancelled",
    "message read with reactions to it",
    "message put off for its conversation",
    "no room for a segment",
    "node restarted with another number of cores",
    "number given up",
    "number used for another message",
    "page read from the store",
    "parted from the node",
    "query failed",
    "query waits for the store",
    "refused because the store is away",
    "removed device tried to come back",
    "resume by cursor",
    "resume during traffic",
    "retry answered with the first result",
    "question about presence not answered",
    "rows of one user can not be read",
    "segment given up that the lanes had stored",
    "segment reused",
    "send refused",
    "several changes of presence in a frame",
    "stopped in order",
    "store away",
    "time leapt",
    "token expired",
    "token refreshed",
    "token revoked under a live connection",
    "tokens revoked",
    "told later that a message is committed",
    "torn write found at recovery",
    "typing passed on",
    "unfinished user after restart",
    "user with too many watchers",
    "something put off",
    "verdict asked for again",
    "wall clock leapt and stays",
    "wall clock leapt for a moment",
    "wall clock went back",
    "watch taken over from a lost connection",
    "welcome while messages are not committed",
    "word of presence given up",
    "word of presence lost",
    "crash while somebody sleeps",
    "crash with a notice under way",
    "somebody not notified by their provider",
    "subscription gone",
    "subscription replaced",
    "taken off a screen",
    "somebody notified",
    "push service full",
    "device subscribed",
];

/// A failed run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// What happened, if it was traced.
    pub trace: String,
}

/// See the head of this file.
pub struct Simulation {
    seed: u64,
    rng: Rng,
    /// As the node goes by it: the wall clock is the one that it trusts.
    now: Now,
    keeper: Timekeeper,
    /// What the wall clock of the machine is wrong by.
    wrong_ms: i64,
    fault: Option<Fault>,
    happenings: BinaryHeap<Reverse<(u64, u64)>>,
    details: BTreeMap<u64, Happening>,
    next_happening: u64,
    machine: Machine,
    links: Links,
    apps: Vec<App>,
    oracle: Oracle,
    coverage: Coverage,
    healing: bool,
    next_text: u64,
    watching: Watching,
    provider: Provider,
    /// The epoch that entries of logs were written in.
    written_in: BTreeMap<(UserId, Seq), EpochId>,
    /// What a user's devices were told first of a message, by its place; for a deliberate fault.
    first_told: BTreeMap<(UserId, Seq), Entry>,
    /// Logins that the audit log knows of, and welcomes, of each user.
    audited: BTreeMap<UserId, u64>,
    welcomed: BTreeMap<UserId, u64>,
    trace: Option<String>,
}

/// Runs one seed; gives back the situations that it reached.
///
/// # Errors
/// Something that must never happen has happened.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Simulation::new(seed, fault, false).run()
}

/// Runs one seed and writes down what happens.
///
/// # Errors
/// As [`run`], with a trace.
pub fn run_traced(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Simulation::new(seed, fault, true).run()
}

impl Simulation {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let people = rng.within(2, 4);
        let mut apps = Vec::new();
        for user in 1..=people {
            for device in 1..=rng.within(1, 2) {
                apps.push(App::new((UserId(user), DeviceId(device)), &mut rng));
            }
        }
        let watching = Watching::new(&mut rng);
        let is_strict = watching.settings.shown_to == ShownTo::Written;
        let mut oracle = Oracle::default();
        oracle.is_strict = is_strict;
        Self {
            seed,
            watching,
            provider: Provider::new(seed),
            machine: Machine::new(&mut rng),
            rng,
            now: Now { monotonic_ms: 1_000, wall: wall_at(1_000, BOOTED_MS) },
            keeper: Timekeeper::new(1_000, wall_at(1_000, BOOTED_MS)),
            wrong_ms: 0,
            fault,
            happenings: BinaryHeap::new(),
            details: BTreeMap::new(),
            next_happening: 0,
            links: Links::default(),
            apps,
            oracle,
            coverage: Coverage::default(),
            healing: false,
            next_text: 0,
            written_in: BTreeMap::new(),
            first_told: BTreeMap::new(),
            audited: BTreeMap::new(),
            welcomed: BTreeMap::new(),
            trace: traced.then(String::new),
        }
    }

    fn run(mut self) -> Result<Coverage, Failure> {
        self.start_machine();
        for app in 0..self.apps.len() {
            self.start_app(app);
        }
        let mut at = self.now.monotonic_ms;
        for _ in 0..self.rng.within(0, 4) {
            at += self.rng.within(100, CHAOS_MS / 2);
            self.schedule(at - self.now.monotonic_ms, Happening::Crash);
        }
        self.go_on_until(self.now.monotonic_ms + CHAOS_MS);
        self.heal();
        self.go_on_until_quiet();
        if self.oracle.failure.is_none() {
            self.spend_a_night();
            self.go_on_until_quiet();
        }
        if self.oracle.failure.is_none() {
            // Receipts of the last acknowledgements.
            self.go_on_until(self.now.monotonic_ms + 3_000);
            // Of whom a device has everything; what no device has is delivered to nobody.
            let has_all = |app: &&App| self.oracle.kept.get(&app.key).is_none_or(|kept| kept.since == Seq::ZERO);
            let everybody: BTreeSet<UserId> = self.apps.iter().filter(has_all).map(|app| app.key.0).collect();
            let logs = self.machine.logs();
            self.learn_void_numbers(&logs);
            let times = (wall_at(0, BOOTED_MS), wall_at(self.now.monotonic_ms, BOOTED_MS));
            self.oracle.check_times(&logs, times);
            if let Some(wrong) = self.machine.misplaced() {
                self.oracle.fail(|| wrong);
            }
            self.oracle.at_the_end(&logs, &everybody);
            for app in &self.apps {
                self.oracle.check_list(app.key, &app.list);
            }
            self.end_presence();
        }
        match self.oracle.failure.take() {
            Some(what) => Err(Failure { seed: self.seed, what, trace: self.trace.unwrap_or_default() }),
            None => Ok(self.coverage),
        }
    }

    /// Until nothing is open, with a bound.
    fn go_on_until_quiet(&mut self) {
        let end = self.now.monotonic_ms + HEALING_MS;
        while self.now.monotonic_ms < end && self.oracle.failure.is_none() {
            // Not in step with the pings of the silent: then links are never empty.
            self.go_on_until(self.now.monotonic_ms + 1_370);
            if self.is_quiet() {
                return;
            }
        }
        let open: Vec<String> = self.apps.iter().map(App::describe).collect();
        self.oracle.fail(|| format!("after healing something is still open: {open:?}"));
    }

    /// Numbers that were given up in a commit of which a crash has cut off the news are in the store alone.
    fn learn_void_numbers(&mut self, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>) {
        for (user, log) in logs {
            let sent = log.values().filter_map(|entry| match entry.event {
                Event::Sent { device, number, .. } => Some((device, number)),
                _ => None,
            });
            let last: BTreeMap<DeviceId, SendNumber> = sent.collect();
            for (device, last) in last {
                for number in (1..last.0).map(SendNumber) {
                    if self.oracle.sent_as(*user, device, number).is_none()
                        && self.machine.is_void(*user, device, number)
                    {
                        self.oracle.is_void(*user, device, number);
                    }
                }
            }
        }
    }

    fn go_on_until(&mut self, end_ms: u64) {
        while self.oracle.failure.is_none() {
            match self.happenings.peek() {
                Some(Reverse((at, _))) if *at <= end_ms => {}
                _ => break,
            }
            let Some(Reverse((at, order))) = self.happenings.pop() else { break };
            // After a leap of the clock much is late.
            self.pass_time(at.saturating_sub(self.now.monotonic_ms));
            if let Some(happening) = self.details.remove(&order) {
                self.note(|| format!("{happening:?}"));
                self.happen(happening);
            }
        }
        self.pass_time(end_ms.saturating_sub(self.now.monotonic_ms));
    }

    fn pass_time(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.look_at_clock();
    }

    /// The wall clock of the machine.
    fn machine_wall(&self) -> TimestampMs {
        wall_at(self.now.monotonic_ms, BOOTED_MS + self.wrong_ms)
    }

    fn look_at_clock(&mut self) {
        let steady_ms = self.now.monotonic_ms;
        self.keeper.look(steady_ms, self.machine_wall());
        let trusted = wall_at(steady_ms, self.keeper.ahead_ms());
        self.now.wall = if self.fault == Some(Fault::BelieveEveryClock) { self.machine_wall() } else { trusted };
    }

    /// Somebody sets the clock of the machine.
    fn set_clock(&mut self, by_ms: i64) {
        self.wrong_ms += by_ms;
        self.look_at_clock();
    }

    /// The machine was suspended, or somebody set its clock.
    fn leap(&mut self) {
        if self.rng.chance(50) {
            self.reached("time leapt");
            let leap = self.rng.within(1_000, 7_000);
            return self.pass_time(leap);
        }
        let ahead = self.rng.chance(50);
        let leap = |ms: u64| if ahead { ms as i64 } else { -(ms as i64) };
        if self.rng.chance(50) {
            self.reached("wall clock leapt and stays");
            let by_ms = leap(self.rng.within(1_000, 3_600_000));
            self.set_clock(by_ms);
            return self.oracle.clock_may_be_wrong_by(self.wrong_ms);
        }
        self.reached("wall clock leapt for a moment");
        let by_ms = leap(self.rng.within(HOUR_MS, 365 * 24 * HOUR_MS));
        self.set_clock(by_ms);
        let moment = self.rng.within(100, 5_000);
        self.schedule(moment, Happening::ClockBack { by_ms });
    }

    fn schedule(&mut self, in_ms: u64, happening: Happening) {
        let order = self.next_happening;
        self.next_happening += 1;
        self.happenings.push(Reverse((self.now.monotonic_ms + in_ms, order)));
        self.details.insert(order, happening);
    }

    fn happen(&mut self, happening: Happening) {
        let life = self.machine.life;
        match happening {
            Happening::Tick { life: l } if l == life => self.on_tick(),
            Happening::Mail { life: l, core } if l == life => self.on_mail(core),
            Happening::Written { life: l } if l == life => self.on_written(),
            Happening::Prepared { life: l, segment } if l == life => self.on_prepared(segment),
            Happening::Ingest { life: l } if l == life => self.on_ingest(),
            Happening::Advanced { life: l, core, lane } if l == life => self.on_advanced(core, lane),
            Happening::Turn { life: l, core } if l == life => self.on_turn(core),
            Happening::Moved { life: l, core, conn, home, ticket } if l == life => {
                self.on_moved(core, conn, home, ticket);
            }
            Happening::Arrived { life: l, core, from, ticket, slot } if l == life => {
                self.act(core, |core, _| core.arrived(from, ticket, slot));
            }
            Happening::Stopped { life: l } if l == life => self.on_stopped(),
            Happening::Answer { life: l, core, id, query, read } if l == life => {
                self.on_answer(core, id, &query, read.map(|read| *read))
            }
            Happening::NoticeEnds { life: l, id } if l == life => self.on_notice_ends(id),
            Happening::Drain(link) => self.on_drain(link),
            Happening::ToServer(link) => self.on_to_server(link),
            Happening::ToClient(link) => self.on_to_client(link),
            Happening::Opened(link) => self.on_opened(link),
            Happening::Cut(link) => self.cut(link),
            Happening::AppTick(app) => self.on_app_tick(app),
            Happening::AppAct(app) => self.on_app_act(app),
            Happening::AppLook(app) => self.on_app_look(app),
            Happening::AppStart(app) => self.start_app(app),
            Happening::Crash if !self.healing => self.crash(),
            Happening::Start => self.start_machine(),
            Happening::ClockBack { by_ms } => {
                self.set_clock(-by_ms);
                self.oracle.clock_may_be_wrong_by(self.wrong_ms);
            }
            // Of an earlier life, or chaos after its end.
            _ => {}
        }
    }

    fn reached(&mut self, situation: &'static str) {
        debug_assert!(SITUATIONS.contains(&situation), "{situation}");
        *self.coverage.counts.entry(situation).or_default() += 1;
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>7} {}", self.now.monotonic_ms, what());
        }
    }

    /// The end of chaos: disk, store and network work, everybody is there and reads.
    fn heal(&mut self) {
        self.healing = true;
        self.note(|| "healing".to_owned());
        if !self.machine.is_up() || self.machine.is_broken() {
            self.crash();
            self.start_machine();
        }
        self.machine.heal();
        self.idle_turn(CoreId(0));
        for app in 0..self.apps.len() {
            self.apps[app].stalled_until_ms = 0;
            self.apps[app].parted_until_ms = 0;
            self.confirm(app);
            if !self.apps[app].is_running() {
                self.start_app(app);
            }
        }
    }

    /// Everybody is connected, has everything, and waits for nothing.
    fn is_quiet(&self) -> bool {
        self.machine.is_quiet()
            && self.apps.iter().all(|app| app.is_quiet(self.oracle.head_of(app.key.0)))
            && self.links.are_empty()
    }

    /// The fault, if it is this one and chance lets it strike.
    fn strikes(&mut self, fault: Fault, percent: u64) -> bool {
        self.fault == Some(fault) && self.rng.chance(percent)
    }
}

/// Reads a whole log the way a shard would.
pub(crate) const fn span_of_everything() -> Span {
    Span {
        first: Seq(1),
        last: Seq(u64::MAX),
        direction: Direction::Forwards,
        entries_max: usize::MAX,
        bytes_max: usize::MAX,
    }
}

/// What a log answer holds.
fn entries_of(answer: Answer) -> Vec<Entry> {
    match answer {
        Answer::Entries(entries) => entries.entries,
        _ => Vec::new(),
    }
}
