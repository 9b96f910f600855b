//! The simulator of groups: the cores of a node in a world, people with their devices who write to groups and do things to them, and what
//! goes wrong, in one thread from one seed. It runs the production cores, journal and client; what is simulated is what a world simulates,
//! one step at a time, in any order.
//!
//! `truth` follows what is decided and what of it is durable, and judges it by a `law` of its own; `told` looks at every frame that leaves;
//! `ending` at what everybody has once all is quiet.

pub(crate) mod deeds;
pub(crate) mod device;
mod ending;
pub mod faults;
mod law;
mod messages;
mod notified;
mod people;
mod situations;
pub(crate) mod told;
pub(crate) mod truth;
mod verdict;

use std::{collections::BTreeSet, fmt::Write as _};

use proto_spec::{DeviceId, GroupId, Seq, ServerFrame, UserId};
use server::shard::{Limits, topology::CoreId};

pub use self::situations::SITUATIONS;
use self::{deeds::Habits, faults::Fault, notified::Screens, people::App, truth::Truth};
use crate::{
    rng::Rng,
    sim::{Coverage, Failure},
    world::World,
};

/// Seeds of the standard run.
pub const SEEDS: u64 = 60;

/// Within so many seeds every deliberate fault must be found.
pub const SEEDS_TO_FIND: u64 = SEEDS;

/// Steps of a seed in which things go wrong.
const STEPS: u64 = 2_500;

/// Simulated seconds after which everything must have come to rest.
const HEALING_S: u64 = 120;

/// See the head of this file.
pub struct Crowd {
    seed: u64,
    rng: Rng,
    world: World,
    truth: Truth,
    apps: Vec<App>,
    users: u64,
    groups: Vec<GroupId>,
    habits: Habits,
    /// Batches that have been looked at.
    decided: u64,
    /// What was accepted of whom.
    accepted: BTreeSet<(UserId, Seq)>,
    next_text: u64,
    healing: bool,
    screens: Screens,
    fault: Option<Fault>,
    coverage: Coverage,
    trace: Option<String>,
}

/// Runs one seed; gives back the situations that it reached.
///
/// # Errors
/// Something that must never happen has happened.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Crowd::new(seed, fault, false).run()
}

/// Runs one seed and writes down what happens.
///
/// # Errors
/// As [`run`], with a trace.
pub fn run_traced(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Crowd::new(seed, fault, true).run()
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Mail(CoreId),
    Work,
    Query,
    Answer(usize),
    Sync,
    Store(usize),
    Open(usize),
    Read(usize),
}

/// Some, or none, of so many users who have blocked others.
fn some_blocked(rng: &mut Rng, users: u64) -> BTreeSet<(UserId, UserId)> {
    let pairs = if rng.chance(50) { rng.within(1, 8) } else { 0 };
    let blocked = (0..pairs).map(|_| (UserId(rng.within(1, users)), UserId(rng.within(1, users))));
    blocked.filter(|(user, other)| user != other).collect()
}

impl Crowd {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let cores = rng.within(1, 3) as u16;
        let lanes = rng.chance(40).then(|| rng.within(1, 4) as u16);
        let members_max = if rng.chance(30) { rng.within(2, 4) as usize } else { Limits::OFF.group_members };
        // Not from the seed's own chances: all else is to go as it would without.
        let push = (!seed.is_multiple_of(3)).then_some(notified::PUSH);
        let mut world = World::crowded(cores, lanes, Limits { group_members: members_max, ..Limits::OFF }, push);
        // Some never connect.
        let users = rng.within(4, 7);
        world.unreadable = rng.chance(25).then_some(UserId(users));
        let mut apps = Vec::new();
        for user in 1..users {
            for device in 1..=*rng.pick(&[1, 1, 2, 3]) {
                apps.push(App::new(UserId(user), DeviceId(device)));
            }
        }
        let groups = (0..rng.within(1, 3)).map(|_| GroupId(rng.next() >> 1)).collect();
        let blocked = some_blocked(&mut rng, users);
        blocked.iter().for_each(|(user, other)| world.store.block(*user, *other));
        let screens = Screens::new(seed, push.is_some(), apps.iter().map(|app| (app.user, app.device)));
        Self {
            seed,
            world,
            truth: Truth::new(members_max, lanes.is_none(), blocked),
            apps,
            users,
            groups,
            habits: Habits { users, ends: rng.chance(35), floods: rng.chance(25) },
            decided: 0,
            accepted: BTreeSet::new(),
            next_text: 0,
            healing: false,
            screens,
            fault,
            coverage: Coverage::default(),
            trace: traced.then(String::new),
            rng,
        }
    }

    fn run(mut self) -> Result<Coverage, Failure> {
        self.after_step();
        (0..self.apps.len()).for_each(|index| self.start_app(index));
        for _ in 0..STEPS {
            if self.truth.failure.is_some() {
                break;
            }
            self.step();
        }
        self.end();
        match self.truth.failure.take() {
            Some(what) => Err(Failure { seed: self.seed, what, trace: self.trace.unwrap_or_default() }),
            None => Ok(self.coverage),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>7} {}", self.world.now.monotonic_ms, what());
        }
    }

    /// Something happens, or goes wrong.
    fn step(&mut self) {
        match self.rng.within(0, 199) {
            0..=149 => _ = self.goes_on(),
            150..=169 => self.act(),
            170..=176 => {
                let index = self.rng.within(0, self.apps.len() as u64 - 1) as usize;
                self.look(index);
            }
            177..=190 => {
                let ms = if self.rng.chance(10) { self.rng.within(500, 3_000) } else { self.rng.within(1, 100) };
                self.pass(ms);
            }
            _ => self.trouble(),
        }
    }

    fn trouble(&mut self) {
        let index = self.rng.within(0, self.apps.len() as u64 - 1) as usize;
        match self.rng.within(0, 99) {
            0..=24 => _ = self.world.ingest_next(),
            25..=39 => self.cut(index),
            40..=45 => {
                let away_ms = self.rng.within(1, 3_000);
                self.crash_app(index, away_ms);
            }
            46..=49 => {
                let (user, away_ms) = (self.apps[index].user, self.rng.within(500, 6_000));
                let of_user = (0..self.apps.len()).filter(|index| self.apps[*index].user == user);
                of_user.collect::<Vec<_>>().into_iter().for_each(|index| self.crash_app(index, away_ms));
            }
            50..=59 => {
                self.reached("app stalled");
                self.apps[index].stalled_until_ms = self.world.now.monotonic_ms + self.rng.within(1, 3_000);
            }
            60..=69 => self.world.disk_stalled ^= true,
            70..=79 => self.world.store_stalled ^= true,
            80..=84 => {
                self.world.store_fails ^= true;
                self.reached("store unreadable");
            }
            85..=89 => {
                let user = UserId(if self.rng.chance(50) { self.users } else { self.rng.within(1, self.users) });
                let group = storage::group::beside(*self.rng.pick(&self.groups));
                let whose = *self.rng.pick(&[Some(user), Some(group), None]);
                self.world.unreadable = whose;
            }
            90..=95 => self.die(),
            _ => {
                (self.world.disk_stalled, self.world.store_stalled) = (false, false);
                (self.world.store_fails, self.world.unreadable) = (false, None);
            }
        }
        self.after_step();
    }

    fn die(&mut self) {
        self.look_at_counters();
        self.note(|| "the node dies".to_owned());
        self.reached("node died");
        if self.truth.waiting_count() > 0 {
            self.reached("node died with batches that were not durable");
        }
        let cores = self.rng.within(1, 3) as u16;
        let percent = *self.rng.pick(&[0, 50, 90, 100]);
        let waiting = self.truth.waiting_count();
        let Self { rng, world, .. } = self;
        let lost = world.die(cores, self.fault == Some(Fault::ForgetUnfinished), || rng.chance(percent));
        if lost.len() < waiting {
            self.reached("something survived that nobody was told of");
        }
        self.truth.lose(&lost);
        self.after_step();
    }

    /// Time passes.
    fn pass(&mut self, ms: u64) {
        self.world.tick(ms);
        self.after_step();
        for index in 0..self.apps.len() {
            self.start_app(index);
        }
        self.tick_apps();
    }

    /// Something happens that can; says whether there was anything.
    fn goes_on(&mut self) -> bool {
        let mut steps: Vec<Step> = self.world.with_mail().into_iter().map(Step::Mail).collect();
        if self.world.has_work() {
            steps.push(Step::Work);
        }
        if !self.world.store_stalled {
            let (queries, answers) = self.world.reads();
            steps.extend((queries > 0).then_some(Step::Query));
            steps.extend((answers > 0).then_some(Step::Answer(answers)));
        }
        if !self.world.disk_stalled {
            steps.extend(self.world.is_writing().then_some(Step::Sync));
            let commits = self.world.commits.len();
            steps.extend((commits > 0).then_some(Step::Store(commits)));
        }
        for index in 0..self.apps.len() {
            steps.extend(self.wants_link(index).then_some(Step::Open(index)));
            steps.extend(self.may_read(index).then_some(Step::Read(index)));
        }
        if steps.is_empty() {
            return false;
        }
        let step = *self.rng.pick(&steps);
        self.note(|| format!("{step:?}"));
        match step {
            Step::Mail(core) => {
                if let Some(message) = self.world.take_mail(core) {
                    self.note(|| format!("core {}: {message:?}", core.0));
                    let messages = self.meddle(message);
                    messages.into_iter().for_each(|message| self.world.hear(core, message));
                }
            }
            Step::Work => _ = self.world.work_one(),
            Step::Query => {
                let fault = self.fault;
                self.world.read_next(|answer| faults::meddle_with_answer(fault, answer));
            }
            Step::Answer(answers) => {
                let place = self.rng.within(0, answers as u64 - 1) as usize;
                self.world.answer_at(place);
            }
            Step::Sync => _ = self.world.sync_one(),
            Step::Store(commits) => {
                let place = self.rng.within(0, commits as u64 - 1) as usize;
                self.world.store_one(place);
            }
            Step::Open(index) => self.open_link(index),
            Step::Read(index) => {
                let bytes = if self.rng.chance(30) { self.rng.within(1, 500) as usize } else { usize::MAX };
                self.read(index, bytes);
            }
        }
        self.after_step();
        true
    }

    /// After each step: what has become durable, what was decided, what is on its way to clients.
    fn after_step(&mut self) {
        let new = (self.world.decided_count() - self.decided) as usize;
        if self.world.open_batches() < self.truth.waiting_count() + new {
            let waiting = self.truth.waiting();
            let are = self.world.are_durable(&waiting);
            self.truth.become_durable(&are);
        }
        if new > 0 {
            let mut entries = Vec::new();
            let mut decided: Vec<_> = Vec::new();
            for (key, records) in self.world.decided_since(self.decided) {
                for record in records {
                    if let storage::Record::GroupAppend { group, entry, .. } = record {
                        entries.push((*group, entry.clone()));
                    }
                }
                decided.push((key, records.to_vec()));
            }
            for (key, records) in decided {
                self.note(|| format!("{key:?}: {records:?}"));
                self.truth.decided(key, &records);
            }
            self.meddle_with_decided();
            self.decided = self.world.decided_count();
            self.push_early(entries);
        }
        self.take_notices();
        self.look_at_lines();
    }

    /// A frame is on its way to a client.
    fn frame_left(&mut self, index: usize, frame: &ServerFrame) {
        let user = self.apps[index].user;
        self.note(|| format!("to user {user}: {frame:?}"));
    }
}
