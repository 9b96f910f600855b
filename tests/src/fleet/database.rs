//! The database that all nodes share: it does what it is asked some time after it was asked, and who has asked hears of it some time
//! after that, or of something else. What it does it does though the one who asked has died or stands still.

use std::{collections::BTreeMap, mem};

use proto_spec::{GroupId, UserId};
use server::{
    cluster::map::Slot,
    durability::lanes::{Work, WorkId},
    shard::{QueryId, topology::CoreId},
};
use storage::{
    Advanced, Answer, BatchId, CommitFault, Fence, LaneId, Member, MemoryStore, Owner, Query, Roll, RollChange, Step,
    Store as _, StoreError, contract::block_on, fold::Sorted, run::RunBuilder,
};

use super::{Fleet, Happening, Pid, faults::Fault, steward::Gained};

/// How old reads may be with a deliberate fault, in milliseconds.
const STALE_MS: u64 = 300;

/// What a process asks.
#[derive(Debug)]
pub(super) enum Asked {
    Roll {
        call: u64,
    },
    Change {
        call: u64,
        change: RollChange,
        asked_ms: u64,
    },
    Read {
        core: CoreId,
        id: QueryId,
        query: Query,
    },
    /// `was_in_term`: when it was asked.
    Advance {
        core: CoreId,
        work: Box<Work>,
        was_in_term: bool,
    },
    Unfinished(Gained),
}

/// What it hears.
#[derive(Debug)]
pub(super) enum Said {
    Roll { call: u64, result: Result<Roll, StoreError> },
    Changed { call: u64, change: RollChange, asked_ms: u64, result: Result<bool, StoreError> },
    Answer { core: CoreId, id: QueryId, user: UserId, answer: Option<Answer> },
    Advanced { core: CoreId, work: WorkId, batches: usize, result: Result<Advanced, StoreError> },
    Unfinished { slots: Gained, owing: Result<(Vec<UserId>, Vec<GroupId>), StoreError> },
}

/// See the head of this file.
pub(super) struct Database {
    pub(super) store: MemoryStore,
    /// Reads that are under way: for whom, and about whom.
    pub(super) reads: Vec<(Pid, CoreId, UserId)>,
    /// Commits that are under way: of which lanes.
    pub(super) commits: BTreeMap<(Pid, CoreId, WorkId), Vec<LaneId>>,
    /// Everything takes longer until then.
    pub(super) slow_until_ms: u64,
    /// Who has ever owned what.
    owned: BTreeMap<LaneId, Vec<Owner>>,
    /// The rows as they were at some time, for a deliberate fault.
    stale: Option<(u64, MemoryStore)>,
    /// How far each lane was in its earlier terms, and is in this one, for a deliberate fault.
    earlier: BTreeMap<LaneId, BatchId>,
    reached: BTreeMap<LaneId, BatchId>,
}

impl Database {
    pub(super) fn new() -> Self {
        let store = MemoryStore::database();
        block_on(store.found("fleet")).expect("it is nobody's");
        Self {
            store,
            reads: Vec::new(),
            commits: BTreeMap::new(),
            slow_until_ms: 0,
            owned: BTreeMap::new(),
            stale: None,
            earlier: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    pub(super) fn roll(&self) -> Roll {
        block_on(self.store.roll()).expect("it is there")
    }

    fn copy(&self) -> MemoryStore {
        let copy = MemoryStore::database();
        let mut run = RunBuilder::default();
        self.store.rows().iter().for_each(|(key, value)| run.put(*key, |out| out.extend_from_slice(value)));
        let fence = block_on(copy.take_over()).expect("it is nobody's");
        block_on(copy.commit(fence, &run.finish())).expect("it does not fail by itself");
        copy
    }

    fn progress(&self, lane: LaneId) -> BatchId {
        let progress = block_on(self.store.progress()).expect("it is there");
        progress.into_iter().find(|(of, _)| *of == lane).map_or(BatchId(0), |(_, at)| at)
    }

    fn in_term(&self, steps: &[Step]) -> bool {
        let roll = self.roll();
        steps.iter().all(|step| roll.term(step.lane) == step.term)
    }
}

fn away() -> StoreError {
    StoreError::Unavailable { reason: "it can not be reached".to_owned() }
}

fn unknown() -> StoreError {
    StoreError::Unknown { reason: "it can not be reached".to_owned() }
}

impl Fleet {
    // ---- a process asks

    pub(super) fn ask(&mut self, pid: Pid, asked: Asked) {
        let slow = if self.database.slow_until_ms > self.now_ms { 300 } else { 6 };
        let delay = self.delay(slow, 2 * self.lease_ms);
        self.schedule(delay, Happening::Apply(pid, Box::new(asked)));
    }

    pub(super) fn begin_commit(&mut self, pid: Pid, core: CoreId, work: Work) {
        let lanes: Vec<_> = work.steps.iter().map(|step| step.lane).collect();
        if lanes.len() > 1 {
            self.reached("commit of several slots");
        }
        self.database.commits.insert((pid, core, work.id), lanes);
        let was_in_term = self.fault == Some(Fault::CheckTermEarly) && self.database.in_term(&work.steps);
        if self.strikes(Fault::AcknowledgeEarly, 10) {
            let (batches, result) = (work.batches, Ok(Advanced::default()));
            let said = Said::Advanced { core, work: work.id, batches, result };
            self.schedule(1, Happening::Said(pid, Box::new(said)));
        }
        self.ask(pid, Asked::Advance { core, work: Box::new(work), was_in_term });
    }

    /// The process has died: nobody hears of its commits.
    pub(super) fn lose_commits(&mut self, pid: Pid) {
        if self.database.commits.keys().any(|(of, ..)| *of == pid) {
            self.reached("commit in flight when its node died");
        }
        self.database.commits.retain(|(of, ..), _| *of != pid);
        self.database.reads.retain(|(of, ..)| *of != pid);
    }

    // ---- the database does it

    pub(super) fn apply(&mut self, pid: Pid, asked: Asked) {
        let process = &self.processes[pid.0];
        let is_away = process.away_until_ms > self.now_ms;
        let is_lost = is_away && self.rng.chance(50);
        if is_away {
            self.reached("database away for a node");
        } else if !self.healing && matches!(asked, Asked::Advance { .. } | Asked::Change { .. }) && self.rng.chance(4) {
            let faults = [CommitFault::Conflict, CommitFault::UnknownApplied, CommitFault::UnknownLost];
            self.database.store.fail_next_commit(*self.rng.pick(&faults));
        }
        let said = match asked {
            Asked::Roll { call } => {
                self.beat_for_the_dead();
                let roll = self.database.roll();
                let result = if is_away { Err(away()) } else { Ok(self.shown(roll)) };
                Said::Roll { call, result }
            }
            Asked::Change { call, change, asked_ms } => {
                let result = if is_lost { Err(away()) } else { self.change(&change) };
                let result = if is_away && result.is_ok() { Err(unknown()) } else { result };
                if matches!(result, Err(StoreError::Unknown { .. })) {
                    self.reached("change of the roll with an unknown outcome");
                }
                Said::Changed { call, change, asked_ms, result }
            }
            Asked::Read { core, id, query } => {
                let answer = match query {
                    Query::Term { lane, .. } => self.term(pid, lane, is_away),
                    _ if is_away => None,
                    _ => self.read(&query),
                };
                Said::Answer { core, id, user: query.user(), answer }
            }
            Asked::Advance { core, work, was_in_term } => {
                let Work { id, steps, sorted, batches } = *work;
                let result = if is_lost { Err(away()) } else { self.advance(pid, &steps, sorted, was_in_term) };
                let result = if is_away && result.is_ok() { Err(unknown()) } else { result };
                Said::Advanced { core, work: id, batches, result }
            }
            Asked::Unfinished(slots) => {
                let users = block_on(storage::unfinished(&self.database.store, None, 1_000));
                let groups = block_on(storage::unfinished_groups(&self.database.store, None, 1_000));
                let owing = users.and_then(|users| Ok((users, groups?)));
                Said::Unfinished { slots, owing: if is_away { Err(away()) } else { owing } }
            }
        };
        self.database.store.forget_faults();
        let delay = if is_away { self.rng.within(20, 400) } else { self.delay(4, self.lease_ms) };
        self.schedule(delay, Happening::Said(pid, Box::new(said)));
    }

    /// The term of a slot, asked for by a node that means to own it.
    fn term(&mut self, pid: Pid, lane: LaneId, is_away: bool) -> Option<Answer> {
        let told = self.processes[pid.0].told.as_ref().map(|nodes| nodes.term(Slot(lane.0 as u8)));
        let term = self.database.roll().term(lane);
        if told.is_some_and(|told| told != term) {
            self.reached("welcome by a node that had lost the user");
        }
        match self.fault {
            // The node goes by what it knows.
            Some(Fault::WelcomeUnasked) => told.map(Answer::Term),
            Some(Fault::KeepTerm) => Some(Answer::Term(1)),
            _ => (!is_away).then_some(Answer::Term(term)),
        }
    }

    fn read(&mut self, query: &Query) -> Option<Answer> {
        if self.fault == Some(Fault::StaleReads)
            && self.database.stale.as_ref().is_none_or(|(read_ms, _)| read_ms + STALE_MS < self.now_ms)
        {
            self.database.stale = Some((self.now_ms, self.database.copy()));
        }
        let store = self.database.stale.as_ref().map_or(&self.database.store, |(_, stale)| stale);
        match block_on(storage::answer(store, query)) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.oracle.fail(|| format!("{query:?} fails by itself: {error}"));
                None
            }
        }
    }

    fn advance(&mut self, pid: Pid, steps: &[Step], sorted: Sorted, was_in_term: bool) -> Result<Advanced, StoreError> {
        if self.fault == Some(Fault::KeepProgress)
            && steps.iter().any(|step| self.database.earlier.get(&step.lane).is_some_and(|at| *at >= step.up_to))
        {
            return Ok(Advanced::default());
        }
        let result = match self.fault {
            // The rows of the terms were read in another transaction.
            Some(Fault::CheckTermEarly) if was_in_term && !self.database.in_term(steps) => {
                block_on(self.database.store.advance(Fence(1), &[], sorted))
            }
            Some(Fault::KeepTerm) => {
                let roll = self.database.roll();
                let steps: Vec<_> = steps.iter().map(|step| Step { term: roll.term(step.lane), ..*step }).collect();
                block_on(self.database.store.advance(Fence(1), &steps, sorted))
            }
            _ => block_on(self.database.store.advance(Fence(1), steps, sorted)),
        };
        match &result {
            Ok(done) if done.rows == 0 => self.reached("commit found done"),
            Ok(_) => {}
            Err(StoreError::Unknown { .. }) => self.reached("commit with an unknown outcome"),
            Err(StoreError::Moved { .. }) => self.reached("commit failed since its slot had moved"),
            Err(_) => {}
        }
        for step in steps {
            let (lane, up_to) = (step.lane, step.up_to);
            let is_there =
                |step: &Step| self.database.progress(step.lane) >= step.up_to && self.database.in_term(&[*step]);
            if result.is_ok() || (matches!(result, Err(StoreError::Unknown { .. })) && is_there(step)) {
                self.learn(pid, lane, up_to);
            }
        }
        self.look_at_logs(pid, steps);
        self.database.reached.extend(steps.iter().filter(|_| result.is_ok()).map(|step| (step.lane, step.up_to)));
        result
    }

    fn change(&mut self, change: &RollChange) -> Result<bool, StoreError> {
        if change.owners.is_empty() {
            return block_on(self.database.store.change_roll(change));
        }
        let before = self.database.roll();
        let change = self.meant(change, &before);
        let result = block_on(self.database.store.change_roll(&change));
        if matches!(result, Ok(false)) {
            self.reached("change of the roll found something else");
        }
        let after = self.database.roll();
        if before.owners != after.owners {
            self.look_at_owners(&before, &after);
            self.ring();
        }
        result
    }

    /// Counts what happens to the slots of people.
    fn look_at_owners(&mut self, before: &Roll, after: &Roll) {
        let people: Vec<LaneId> = self.apps.iter().map(|app| Slot::of(app.key.0).lane()).collect();
        for lane in people {
            let (Some(old), Some(new)) = (before.owners.get(&lane).copied(), after.owners.get(&lane).copied()) else {
                continue;
            };
            if old.term == new.term {
                continue;
            }
            self.database.owned.entry(lane).or_default().push(old);
            let holder = before.members.get(&old.member).map(|member| member.holder);
            let is_alive = self.processes.iter().any(|process| process.is_alive && Some(process.holder) == holder);
            let is_regained = self.database.owned[&lane].iter().any(|owner| owner.member == new.member);
            match (old.member == new.member, is_alive) {
                (true, _) => self.reached("node started with slots of its earlier life"),
                (false, true) => self.reached("slot given"),
                (false, false) => self.reached("slot of a dead node taken"),
            }
            if is_regained && old.member != new.member {
                self.reached("slot regained");
            }
        }
        let begun: Vec<_> = after.owners.iter().filter(|(lane, owner)| before.term(**lane) != owner.term).collect();
        for (lane, _) in begun {
            if let Some(at) = self.database.reached.remove(lane) {
                self.database.earlier.insert(*lane, at);
            }
        }
    }

    // ---- deliberate faults

    /// What a node is shown of the roll.
    fn shown(&self, mut roll: Roll) -> Roll {
        if self.fault == Some(Fault::KeepTerm) {
            roll.owners.values_mut().for_each(|owner| owner.term = 1);
        }
        roll
    }

    /// What becomes of a change that a node wants.
    fn meant(&self, change: &RollChange, roll: &Roll) -> RollChange {
        let mut change = change.clone();
        let is_enrolment = !change.members.is_empty() && !change.owners.is_empty();
        match self.fault {
            Some(Fault::KeepTerm) => {
                for (lane, expected) in &mut change.expects_owners {
                    expected.iter_mut().for_each(|owner| owner.term = roll.term(*lane));
                }
                change.owners.iter_mut().for_each(|(lane, owner)| owner.term = roll.term(*lane) + 1);
            }
            Some(Fault::EnrolInSameTerm) if is_enrolment => {
                change.owners.clear();
                change.expects_owners.clear();
            }
            _ => {}
        }
        change
    }

    fn beat_for_the_dead(&mut self) {
        if self.fault != Some(Fault::GhostBeat) {
            return;
        }
        let roll = self.database.roll();
        let is_alive =
            |member: &Member| self.processes.iter().any(|process| process.is_alive && process.holder == member.holder);
        for (id, member) in roll.members.iter().filter(|(_, member)| !is_alive(member)) {
            let next = Member { beat: member.beat + 1, ..member.clone() };
            let change = RollChange {
                expects_members: vec![(*id, Some(member.clone()))],
                members: vec![(*id, next)],
                ..RollChange::default()
            };
            drop(block_on(self.database.store.change_roll(&change)));
        }
    }

    // ---- the process hears of it

    pub(super) fn on_said(&mut self, pid: Pid, said: Said) {
        match said {
            Said::Roll { call, result } => self.on_roll(pid, call, result),
            Said::Changed { call, change, asked_ms, result } => self.on_changed(pid, call, (&change, asked_ms), result),
            Said::Unfinished { slots, owing } => self.on_unfinished(pid, slots, owing),
            Said::Answer { core, id, user, answer } => {
                let reads = &mut self.database.reads;
                if let Some(at) = reads.iter().position(|read| *read == (pid, core, user)) {
                    reads.swap_remove(at);
                }
                self.act(pid, core, |core, now| core.answer(now, id, answer));
            }
            Said::Advanced { core, work, batches, mut result } => {
                if self.database.commits.remove(&(pid, core, work)).is_none() {
                    // A deliberate fault has said so before.
                    return;
                }
                if matches!(result, Err(StoreError::Unknown { .. })) && self.fault == Some(Fault::UnknownCountsAsDone) {
                    result = Ok(Advanced::default());
                }
                let random = self.rng.next();
                self.act(pid, core, |core, now| core.advanced(now, work, result, batches, 0, random));
                // A commit that failed is tried again when its time has come.
                let process = &self.processes[pid.0];
                let Some(serving) = &process.serving else { return };
                let in_ms = process.ms_until(self.now_ms, serving.cores.get(core).wakes_at_ms());
                self.schedule(in_ms, Happening::Turn(pid, core));
            }
        }
    }

    /// All rows of a log, as the database has them.
    pub(super) fn stored_log(&self, user: UserId) -> BTreeMap<proto_spec::Seq, proto_spec::Entry> {
        let query = Query::Log { user, span: crate::sim::span_of_everything() };
        let answer = block_on(storage::answer(&self.database.store, &query)).expect("reads do not fail by themselves");
        let Answer::Entries(mut entries) = answer else { return BTreeMap::new() };
        mem::take(&mut entries.entries).into_iter().map(|entry| (entry.seq, entry)).collect()
    }
}
