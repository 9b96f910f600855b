//! The office of a process: drives the production steward as its thread does (`server/src/io/steward.rs`), with what it asks the
//! database on its way for a while.

use std::{collections::VecDeque, sync::Arc};

use proto_spec::{GroupId, UserId};
use server::{
    cluster::{
        file::{Identity, Nodes},
        map::{SLOTS, Slot},
        steward::{Unseated, Users, Wish},
    },
    core::CoreMessage,
    limits::{INGEST_RETRY_MS, ROLL_CHANGES_MAX, TICK_MS, WISH_TRIES_MAX},
    shard::topology::CoreId,
};
use storage::{Roll, RollChange, StoreError, group::beside};

use super::{Fleet, Happening, Pid, database::Asked, faults::Fault};

/// Slots that a node has now and had not before.
pub(super) type Gained = Box<[bool; SLOTS]>;

/// What the office does.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Counts rounds, and waits between them.
    round: u64,
    /// It waits until it is woken.
    is_idle: bool,
    /// No change of owners wakes it.
    is_deaf: bool,
    changes: usize,
    /// Calls of the database: only what the last one says counts, if it is in time.
    pub(super) call: u64,
    /// Whose round it is.
    wish: Option<Wish>,
    errands: VecDeque<Wish>,
}

impl Fleet {
    /// Reads the roll, and changes it as long as the steward, or an operator, wants that.
    pub(super) fn begin_round(&mut self, pid: Pid, wish: Option<Wish>) {
        let now_ms = self.now_ms;
        let process = &mut self.processes[pid.0];
        let desk = &mut process.desk;
        desk.round += 1;
        (desk.is_idle, desk.changes, desk.wish) = (false, 0, wish);
        let now = process.now(now_ms);
        let is_stuck = process
            .serving
            .as_ref()
            .is_some_and(|of| of.cores.common().counters.pulse.stuck(now.monotonic_ms).is_some());
        // Others are to serve what stands still here.
        if is_stuck && process.desk.wish.is_none() { self.rest(pid, false) } else { self.call(pid, None) }
    }

    /// Asks for the roll, or for a change of it, which was decided then. It is waited for the third part of a lease.
    fn call(&mut self, pid: Pid, change: Option<(RollChange, u64)>) {
        let process = &mut self.processes[pid.0];
        process.desk.call += 1;
        let call = process.desk.call;
        let patience_ms = self.lease_ms / 3 * 1_000 / process.rate;
        self.schedule(patience_ms, Happening::Late { pid, call });
        match change {
            None => self.ask(pid, Asked::Roll { call }),
            Some((change, asked_ms)) => self.ask(pid, Asked::Change { call, change, asked_ms }),
        }
    }

    /// The database has not answered in time. What it was asked for it may do all the same.
    pub(super) fn on_late(&mut self, pid: Pid, call: u64) {
        if self.is_awaited(pid, call) {
            self.reached("database that answered too late");
            self.fail_round(pid);
        }
    }

    /// Whether the office waits for this. Then it does not any more.
    fn is_awaited(&mut self, pid: Pid, call: u64) -> bool {
        let desk = &mut self.processes[pid.0].desk;
        let is_awaited = desk.call == call;
        desk.call += u64::from(is_awaited);
        is_awaited
    }

    pub(super) fn on_roll(&mut self, pid: Pid, call: u64, roll: Result<Roll, StoreError>) {
        let now_ms = self.now_ms;
        if !self.is_awaited(pid, call) {
            return;
        }
        let Ok(roll) = roll else { return self.fail_round(pid) };
        let process = &mut self.processes[pid.0];
        let local_ms = process.now(now_ms).monotonic_ms;
        let has_read = process.steward.read(local_ms, roll);
        if let Err(why) = has_read
            && self.fault != Some(Fault::IgnoreReplacement)
        {
            return self.unseat(pid, &why);
        }
        let process = &mut self.processes[pid.0];
        let next = match &process.desk.wish {
            Some(wish) => process.steward.wished(wish).ok().flatten(),
            None => {
                let directory = process.serving.as_ref().map(|of| Arc::clone(&of.cores.common().directory));
                let users = || {
                    let mut users: Users = Box::new([0; SLOTS]);
                    if let Some(there) = directory {
                        there.each(|user: UserId| users[usize::from(Slot::of(user).0)] += 1);
                    }
                    users
                };
                match process.steward.next(local_ms, users) {
                    Ok(next) => next,
                    Err(why) => return self.unseat(pid, &why),
                }
            }
        };
        let Some(change) = next else {
            if self.processes[pid.0].desk.wish.is_none() {
                self.tell(pid);
            }
            return self.rest(pid, true);
        };
        if self.fault == Some(Fault::BeginBeforeTaken) {
            self.tell_of(pid, &change);
        }
        self.call(pid, Some((change, local_ms)));
    }

    pub(super) fn on_changed(
        &mut self,
        pid: Pid,
        call: u64,
        (change, asked_ms): (&RollChange, u64),
        result: Result<bool, StoreError>,
    ) {
        if !self.is_awaited(pid, call) {
            return;
        }
        let Ok(is_made) = result else { return self.fail_round(pid) };
        let process = &mut self.processes[pid.0];
        let desk = &mut process.desk;
        desk.changes += 1;
        match desk.wish {
            Some(_) if is_made => {
                self.reached("operator's wish granted");
                self.rest(pid, true);
            }
            Some(_) if desk.changes >= WISH_TRIES_MAX => self.rest(pid, true),
            Some(_) => self.call(pid, None),
            None => {
                let is_restless = desk.changes >= ROLL_CHANGES_MAX && process.serving.is_some();
                process.steward.changed(asked_ms, change, is_made);
                // What has been read before.
                self.tell(pid);
                if is_restless { self.rest(pid, false) } else { self.call(pid, None) }
            }
        }
    }

    fn unseat(&mut self, pid: Pid, why: &Unseated) {
        let process = &self.processes[pid.0];
        let is_replaced = self.processes.iter().skip(pid.0 + 1).any(|later| later.name == process.name);
        if !is_replaced {
            self.oracle.fail(|| format!("{pid:?} ends: {why}"));
        }
        self.reached("node replaced while it stood still");
        let process = &mut self.processes[pid.0];
        process.is_unseated = true;
        match process.serving {
            Some(_) => self.put(pid, CoreId(0), CoreMessage::Lost(why.to_string())),
            None => self.die(pid, true),
        }
    }

    /// A round has ended early. A node that starts ends with it; a supervisor starts it again.
    fn fail_round(&mut self, pid: Pid) {
        let process = &self.processes[pid.0];
        if process.serving.is_some() {
            return self.rest(pid, false);
        }
        let name = process.name;
        self.die(pid, true);
        self.schedule(300, Happening::Start(name));
    }

    /// A round is over, and something is waited for: a change of owners too, if the roll has been read.
    fn rest(&mut self, pid: Pid, has_read: bool) {
        let process = &mut self.processes[pid.0];
        let was_wish = process.desk.wish.is_some();
        let local_ms = process.now(self.now_ms).monotonic_ms;
        if process.serving.is_none() {
            let Some(identity) = process.steward.identity(local_ms) else {
                if process.began_ms + 2 * self.lease_ms <= self.now_ms {
                    return self.fail_round(pid);
                }
                // Others that begin at the same moment have not taken what is to be theirs.
                process.desk.is_idle = true;
                let round = process.desk.round;
                return self.schedule(TICK_MS, Happening::Wake { pid, round });
            };
            self.serve(pid, identity);
            return self.begin_round(pid, None);
        }
        if was_wish {
            return self.begin_round(pid, None);
        }
        if process.is_ending
            && process.steward.has_given_all(local_ms)
            && !process.serving.as_ref().is_some_and(|of| of.is_stopping)
        {
            self.stop(pid);
        }
        let process = &mut self.processes[pid.0];
        if !process.is_alive {
            return;
        }
        if let Some(wish) = process.desk.errands.pop_front() {
            return self.begin_round(pid, Some(wish));
        }
        (process.desk.is_idle, process.desk.is_deaf) = (true, !has_read);
        let round = process.desk.round;
        let version = process.steward.version();
        let in_ms = process.ms_until(self.now_ms, process.steward.wakes_at_ms(local_ms));
        self.schedule(in_ms, Happening::Wake { pid, round });
        if self.fault != Some(Fault::KeepTerm) && self.database.roll().version() != version {
            self.ring_at(pid);
        }
    }

    /// Owners have changed: whoever waits for that hears of it.
    pub(super) fn ring(&mut self) {
        for pid in self.serving() {
            if self.processes[pid.0].desk.is_idle {
                self.ring_at(pid);
            }
        }
    }

    fn ring_at(&mut self, pid: Pid) {
        let process = &self.processes[pid.0];
        if process.away_until_ms <= self.now_ms && !process.desk.is_deaf {
            let round = process.desk.round;
            let delay = self.delay(10, 2_000);
            self.schedule(delay, Happening::Wake { pid, round });
        }
    }

    pub(super) fn on_wake(&mut self, pid: Pid, round: u64) {
        let desk = &self.processes[pid.0].desk;
        if desk.is_idle && desk.round == round {
            self.begin_round(pid, None);
        }
    }

    /// An operator wants something of a node that serves.
    pub(super) fn wish(&mut self, pid: Pid, wish: Wish) {
        let desk = &mut self.processes[pid.0].desk;
        if desk.is_idle { self.begin_round(pid, Some(wish)) } else { desk.errands.push_back(wish) }
    }

    /// A node is to end.
    pub(super) fn end(&mut self, pid: Pid) {
        let process = &mut self.processes[pid.0];
        process.is_ending = true;
        process.steward.end();
        if process.desk.is_idle {
            self.begin_round(pid, None);
        }
    }

    /// Tells the cores what is known now, if that is something else than before.
    fn tell(&mut self, pid: Pid) {
        let process = &self.processes[pid.0];
        let now_ms = process.now(self.now_ms).monotonic_ms;
        let Some(serving) = &process.serving else { return };
        let common = Arc::clone(serving.cores.common());
        common.counters.lease_until_ms.set(process.steward.lease_until_ms());
        let Some(Identity { nodes, own }) = process.steward.identity(now_ms) else { return };
        let before = process.told.clone();
        if before.as_ref().is_some_and(|told| **told == *nodes) {
            return;
        }
        let is_own = |nodes: &Nodes, slot| nodes.map.owner(slot) == own;
        let is_gained = |slot: Slot| {
            let had = before.as_ref().is_some_and(|told| is_own(told, slot) && told.term(slot) == nodes.term(slot));
            is_own(&nodes, slot) && !had
        };
        let gained: Gained = Box::new(std::array::from_fn(|slot| is_gained(Slot(slot as u8))));
        let people = self.apps.iter().map(|app| usize::from(Slot::of(app.key.0).0));
        if before.is_some() && people.into_iter().any(|slot| gained[slot]) {
            self.reached("slot gained that another one owned");
        }
        self.note(|| format!("{pid:?} is told version {}, and owns {}", nodes.version(), nodes.map.owned(own)));
        if let Some(mesh) = &common.mesh {
            mesh.learn(Arc::clone(&nodes));
        }
        for core in self.cores(pid) {
            self.put(pid, core, CoreMessage::Owners(Arc::clone(&nodes)));
        }
        self.swap_owners(pid);
        let is_forgotten = self.fault == Some(Fault::ForgetUnfinished) && before.is_some();
        if gained.contains(&true) && !is_forgotten {
            self.ask(pid, Asked::Unfinished(gained));
        }
        self.processes[pid.0].told = Some(nodes);
        self.look_at_beliefs();
    }

    /// A deliberate fault: the cores are told of what this node takes before it is written.
    fn tell_of(&mut self, pid: Pid, change: &RollChange) {
        let now_ms = self.now_ms;
        let process = &mut self.processes[pid.0];
        if process.serving.is_none() || change.owners.is_empty() {
            return;
        }
        let local_ms = process.now(now_ms).monotonic_ms;
        let roll = self.database.roll();
        let mut early = roll.clone();
        early.apply(change);
        if process.steward.read(local_ms, early).is_ok() {
            self.tell(pid);
            // What it does next it does by what there is.
            drop(self.processes[pid.0].steward.read(local_ms, roll));
        }
    }

    pub(super) fn on_unfinished(
        &mut self,
        pid: Pid,
        slots: Gained,
        owing: Result<(Vec<UserId>, Vec<GroupId>), StoreError>,
    ) {
        let Ok((users, groups)) = owing else {
            return self.schedule(INGEST_RETRY_MS, Happening::Apply(pid, Box::new(Asked::Unfinished(slots))));
        };
        let Some(serving) = &self.processes[pid.0].serving else { return };
        let topology = serving.cores.common().topology;
        for user in users.into_iter().filter(|user| slots[usize::from(Slot::of(*user).0)]) {
            self.reached("unfinished user told to a new owner");
            self.put(pid, topology.home_of(user), CoreMessage::Unfinished(user));
        }
        for group in groups.into_iter().filter(|group| slots[usize::from(Slot::of(beside(*group)).0)]) {
            self.reached("unfinished group told to a new owner");
            self.put(pid, topology.home_of(beside(group)), CoreMessage::UnfinishedGroup(group));
        }
    }
}
