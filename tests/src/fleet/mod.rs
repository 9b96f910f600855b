//! The simulator of a cluster: several nodes whose slots move, the database that they share, and people with their devices, in one thread
//! from one seed. It runs the production cores, links, stewards, queries and client; simulated are the clock of each node, what passes
//! between all of them, when the database does what it is asked and when that is heard of, and what operators and accidents do: nodes
//! that stand still, die, come back, are replaced, join, are drained, and end.
//!
//! A *process* is one start of a node. A node that comes back is another process of the same name, and the one before may live still.

mod database;
mod door;
pub mod faults;
pub mod groups;
mod lines;
mod network;
mod oracle;
mod people;
mod process;
mod rim;
mod steward;
mod trouble;
mod wires;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
};

use proto_spec::{DeviceId, Seq, UserId};
use server::{
    access::auth::{self, Keys, SigningKey},
    core::LinkId,
    shard::{ConnId, topology::CoreId},
};

use self::{
    database::{Asked, Database, Said},
    faults::Fault,
    groups::Gathering,
    network::{Line, LineId, Network, Way, WireId},
    oracle::Terms,
    people::App,
    process::Process,
};
use crate::{
    rng::Rng,
    sim::{Coverage, Failure, oracle::Oracle},
};

/// What the time was when the simulation began, in milliseconds since 1970.
const BEGAN_MS: u64 = 1_800_000_000_000;

/// How long chaos lasts, in milliseconds of simulated time.
const CHAOS_MS: u64 = 9_000;

/// How long healing may take: leases, the longest silence that a client bears, backoffs, and receipts.
const HEALING_MS: u64 = 120_000;

/// Seeds of the standard run.
pub const SEEDS: u64 = 80;

/// Within so many seeds every deliberate fault must be found.
pub const SEEDS_TO_FIND: u64 = SEEDS;

/// Every situation that is counted: rarely reached, and where bugs live. All must be reached in the standard run.
pub const SITUATIONS: &[&str] = &[
    "app restarted with unanswered messages",
    "change of the roll found something else",
    "change of the roll with an unknown outcome",
    "client followed a redirect in place of a welcome",
    "client followed a redirect of a connection that was served",
    "circle of redirects avoided",
    "commit failed since its slot had moved",
    "commit found done",
    "commit in flight when its node died",
    "commit in flight when its slot went",
    "commit of several slots",
    "commit with an unknown outcome",
    "database away for a node",
    "database that answered too late",
    "connection to a node in which nobody listens",
    "drained node owns nothing",
    "envelope that came to a node which does not own its user",
    "link cut in one direction",
    "link cut with bytes on their way",
    "link ended",
    "link replaced by a later one",
    "node replaced while it stood still",
    "node started with slots of its earlier life",
    "operator's wish granted",
    "paused",
    "slot given",
    "slot gained that another one owned",
    "slot of a dead node taken",
    "slot regained",
    "stopped in order",
    "two nodes believe that they own a slot",
    "unfinished user told to a new owner",
    "user was being loaded when its slot went",
    "welcome by a node that had lost the user",
];

/// A process: its place in [`Fleet::processes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::fleet) struct Pid(usize);

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    // What a process does and hears: later, if it stands still.
    Tick(Pid),
    Mail(Pid, CoreId),
    Turn(Pid, CoreId),
    Moved { pid: Pid, core: CoreId, conn: ConnId, home: CoreId, ticket: u32 },
    Arrived { pid: Pid, core: CoreId, from: CoreId, ticket: u32, slot: u32 },
    Said(Pid, Box<Said>),
    Wake { pid: Pid, round: u64 },
    Late { pid: Pid, call: u64 },
    Unseated(Pid),
    Taken { pid: Pid, core: CoreId, conn: ConnId, bytes: usize },
    Sent { pid: Pid, core: CoreId, link: LinkId, bytes: usize },
    LinkBroke { pid: Pid, core: CoreId, link: LinkId },
    Gone(Pid, Box<Line>),
    Stopped(Pid),
    // What happens elsewhere.
    Apply(Pid, Box<Asked>),
    Wire(WireId, Way),
    Dialled(WireId),
    Opened(LineId),
    ToServer(LineId),
    ToClient(LineId),
    Cut(LineId),
    AppTick(usize),
    AppAct(usize),
    AppStart(usize),
    Trouble,
    Start(usize),
}

impl Happening {
    /// The process that has to run for it.
    const fn process(&self) -> Option<Pid> {
        match self {
            Self::Tick(pid)
            | Self::Mail(pid, _)
            | Self::Turn(pid, _)
            | Self::Moved { pid, .. }
            | Self::Arrived { pid, .. }
            | Self::Said(pid, _)
            | Self::Wake { pid, .. }
            | Self::Late { pid, .. }
            | Self::Unseated(pid)
            | Self::Taken { pid, .. }
            | Self::Sent { pid, .. }
            | Self::LinkBroke { pid, .. }
            | Self::Gone(pid, _)
            | Self::Stopped(pid) => Some(*pid),
            _ => None,
        }
    }
}

/// See the head of this file.
pub struct Fleet {
    seed: u64,
    rng: Rng,
    now_ms: u64,
    fault: Option<Fault>,
    happenings: BinaryHeap<Reverse<(u64, u64)>>,
    details: BTreeMap<u64, Happening>,
    next_happening: u64,
    keys: Keys,
    signing_key: SigningKey,
    lease_ms: u64,
    processes: Vec<Process>,
    database: Database,
    network: Network,
    apps: Vec<App>,
    oracle: Oracle,
    terms: Terms,
    /// Up to where each log was ever shown to anybody.
    told: BTreeMap<UserId, Seq>,
    coverage: Coverage,
    healing: bool,
    next_text: u64,
    /// The groups of people who have some.
    gathering: Option<Gathering>,
    trace: Option<String>,
}

/// Runs one seed; gives back the situations that it reached.
///
/// # Errors
/// Something that must never happen has happened.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Fleet::new(seed, fault, false).run()
}

/// Runs one seed and writes down what happens.
///
/// # Errors
/// As [`run`], with a trace.
pub fn run_traced(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Fleet::new(seed, fault, true).run()
}

impl Fleet {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut apps = Vec::new();
        for user in 1..=rng.within(3, 6) {
            for device in 1..=rng.within(1, 3) {
                apps.push(App::new((UserId(user), DeviceId(device)), rng.chance(50)));
            }
        }
        let pem = auth::generate_pem().expect("the system has randomness");
        Self {
            seed,
            lease_ms: rng.within(600, 2_000),
            rng,
            now_ms: 1_000,
            fault,
            happenings: BinaryHeap::new(),
            details: BTreeMap::new(),
            next_happening: 0,
            keys: Keys::from_pem(pem.as_bytes()).expect("made just above"),
            signing_key: SigningKey::from_pem(pem.as_bytes()).expect("made just above"),
            processes: Vec::new(),
            database: Database::new(),
            network: Network::default(),
            apps,
            oracle: Oracle::default(),
            terms: Terms::default(),
            told: BTreeMap::new(),
            coverage: Coverage::default(),
            healing: false,
            next_text: 0,
            gathering: None,
            trace: traced.then(String::new),
        }
    }

    fn run(mut self) -> Result<Coverage, Failure> {
        for name in 0..self.rng.within(2, 4) as usize {
            let delay = self.rng.within(0, 300);
            self.schedule(delay, Happening::Start(name));
        }
        for app in 0..self.apps.len() {
            let delay = self.rng.within(0, 1_000);
            self.schedule(delay, Happening::AppStart(app));
        }
        self.schedule(1_000, Happening::Trouble);
        self.go_on_until(self.now_ms + CHAOS_MS);
        self.bounce();
        let leaves = self.last_words();
        self.heal();
        self.leave_for_good(leaves);
        let end = self.now_ms + HEALING_MS;
        while self.now_ms < end && self.oracle.failure.is_none() {
            // Not in step with pings.
            self.go_on_until(self.now_ms + 1_370);
            if self.open().is_none() {
                break;
            }
        }
        if self.oracle.failure.is_none()
            && let Some(open) = self.open()
        {
            self.oracle.fail(|| format!("after healing something is still open: {open}"));
        }
        // Receipts of the last acknowledgements.
        self.go_on_until(self.now_ms + 5_000);
        self.rest_of_groups();
        self.absence_in_groups();
        self.check_the_end();
        match self.oracle.failure.take() {
            Some(what) => Err(Failure { seed: self.seed, what, trace: self.trace.unwrap_or_default() }),
            None => Ok(self.coverage),
        }
    }

    fn go_on_until(&mut self, end_ms: u64) {
        while self.oracle.failure.is_none() {
            match self.happenings.peek() {
                Some(Reverse((at, _))) if *at <= end_ms => {}
                _ => break,
            }
            let Some(Reverse((at, order))) = self.happenings.pop() else { break };
            self.now_ms = self.now_ms.max(at);
            if let Some(happening) = self.details.remove(&order) {
                self.happen(happening);
            }
        }
        self.now_ms = self.now_ms.max(end_ms);
    }

    fn schedule(&mut self, in_ms: u64, happening: Happening) {
        let order = self.next_happening;
        self.next_happening += 1;
        self.happenings.push(Reverse((self.now_ms + in_ms, order)));
        self.details.insert(order, happening);
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(pid) = happening.process() {
            let process = &self.processes[pid.0];
            if !process.is_alive {
                return;
            }
            // It finds everything there when it goes on, in the same order.
            if process.paused_until_ms > self.now_ms {
                return self.schedule(process.paused_until_ms - self.now_ms, happening);
            }
        }
        if !matches!(happening, Happening::Tick(_) | Happening::Turn(..) | Happening::Mail(..)) {
            self.note(|| format!("{happening:?}"));
        }
        match happening {
            Happening::Tick(pid) => self.on_tick(pid),
            Happening::Mail(pid, core) => self.on_mail(pid, core),
            Happening::Turn(pid, core) => self.on_turn(pid, core),
            Happening::Moved { pid, core, conn, home, ticket } => self.on_moved(pid, core, conn, home, ticket),
            Happening::Arrived { pid, core, from, ticket, slot } => {
                self.act(pid, core, |core, _| core.arrived(from, ticket, slot));
            }
            Happening::Said(pid, said) => self.on_said(pid, *said),
            Happening::Wake { pid, round } => self.on_wake(pid, round),
            Happening::Late { pid, call } => self.on_late(pid, call),
            Happening::Unseated(pid) => self.die(pid, true),
            Happening::Taken { pid, core, conn, bytes } => self.on_taken(pid, core, conn, bytes),
            Happening::Sent { pid, core, link, bytes } => self.on_sent(pid, core, link, bytes),
            Happening::LinkBroke { pid, core, link } => self.on_link_broke(pid, core, link),
            Happening::Gone(_, line) => self.depart(&line),
            Happening::Stopped(pid) => self.on_stopped(pid),
            Happening::Apply(pid, asked) => self.apply(pid, *asked),
            Happening::Wire(wire, way) => self.on_wire(wire, way),
            Happening::Dialled(wire) => self.on_dialled(wire),
            Happening::Opened(line) => self.on_opened(line),
            Happening::ToServer(line) => self.on_to_server(line),
            Happening::ToClient(line) => self.on_to_client(line),
            Happening::Cut(line) => self.cut(line),
            Happening::AppTick(app) => self.on_app_tick(app),
            Happening::AppAct(app) => self.on_app_act(app),
            Happening::AppStart(app) => self.start_app(app),
            Happening::Trouble => self.on_trouble(),
            Happening::Start(name) => self.start(name),
        }
    }

    fn reached(&mut self, situation: &'static str) {
        debug_assert!(SITUATIONS.contains(&situation) || groups::SITUATIONS.contains(&situation), "{situation}");
        *self.coverage.counts.entry(situation).or_default() += 1;
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>7} {}", self.now_ms, what());
        }
    }

    /// The fault, if it is this one and chance lets it strike.
    fn strikes(&mut self, fault: Fault, percent: u64) -> bool {
        self.fault == Some(fault) && self.rng.chance(percent)
    }

    /// Rarely much, otherwise little; both only while there is trouble.
    fn delay(&mut self, usual_ms: u64, rare_ms: u64) -> u64 {
        if !self.healing && self.rng.chance(4) { self.rng.within(0, rare_ms) } else { self.rng.within(0, usual_ms) }
    }
}
