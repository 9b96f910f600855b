//! What must hold in a cluster, beside what the [`crate::sim::oracle`] says of logs, frames and devices.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{Durability, Entry, Event, SendNumber, Seq, ServerFrame, UserId};
use server::{
    cluster::map::{SLOTS, Slot},
    shard::topology::NodeId,
};
use storage::{Answer, BatchId, LaneId, MemberId, Query, Record, Sent, Step, contract::block_on};

use super::{
    Fleet, Pid,
    network::{LineId, ServerEnd},
    process::name_of,
};
use crate::sim::oracle::text_of;

/// In which term each slot was committed in last, and by whom.
#[derive(Debug, Default)]
pub(super) struct Terms(BTreeMap<LaneId, (u64, Pid)>);

impl Terms {
    /// A node has committed something: what is wrong with that.
    fn commits(&mut self, pid: Pid, step: &Step) -> Option<String> {
        let (lane, term) = (step.lane.0, step.term);
        match self.0.insert(step.lane, (term, pid)) {
            Some((last, by)) if last > term || (last == term && by != pid) => {
                Some(format!("slot {lane}: {pid:?} commits in term {term}, after {by:?} in {last}"))
            }
            _ => None,
        }
    }
}

impl Fleet {
    /// Batches of a lane of a process are in the database, up to this one.
    pub(super) fn learn(&mut self, pid: Pid, lane: LaneId, up_to: BatchId) {
        let Some(waiting) = self.processes[pid.0].undecided.get_mut(&lane) else { return };
        let is_in = waiting.iter().take_while(|(id, _)| *id <= up_to).count();
        let learned: Vec<_> = waiting.drain(..is_in).collect();
        for (id, records) in learned {
            records.iter().for_each(|record| self.oracle.learns(record));
            self.group_learns((lane, id), &records);
        }
    }

    /// After something may have been committed: what the logs say now follows from what they said.
    pub(super) fn look_at_logs(&mut self, pid: Pid, steps: &[Step]) {
        let users: BTreeSet<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        for step in steps {
            let mut has_changed = false;
            for user in users.iter().copied().filter(|user| Slot::of(*user).lane() == step.lane) {
                let log = self.stored_log(user);
                let known = (user, Seq::ZERO)..=(user, Seq(u64::MAX));
                let gone = self
                    .oracle
                    .durable
                    .range(known)
                    .find(|((_, seq), entry)| text_of(entry).is_some() && !log.contains_key(seq));
                if let Some(((_, seq), entry)) = gone {
                    let sentence = format!("user {user}: seq {seq} was durable and is gone: {entry:?}");
                    self.oracle.fail(|| sentence);
                }
                for entry in log.into_values() {
                    if self.oracle.durable.get(&(user, entry.seq)) != Some(&entry) {
                        has_changed = true;
                        self.oracle.learns(&Record::Append { user, entry, replaces: None, count: 0 });
                    }
                }
            }
            if has_changed && let Some(wrong) = self.terms.commits(pid, step) {
                self.oracle.fail(|| wrong);
            }
        }
    }

    /// A frame leaves a node for a client.
    pub(super) fn check_frame(&mut self, id: LineId, user: UserId, frame: &ServerFrame) {
        self.oracle.leaves(user, frame);
        self.group_told(id, frame);
        let known = self.network.line(id).map_or(Seq::ZERO, |line| line.told);
        let told = match *frame {
            ServerFrame::Accepted { seq, durability: Durability::Committed, .. } => seq,
            ServerFrame::Accepted { seq, durability, .. } => {
                return self.oracle.fail(|| format!("user {user}: {seq} is accepted as {durability:?} in a cluster"));
            }
            ServerFrame::Deliver { ref entry } => entry.seq,
            ServerFrame::Welcome { head, .. } if head < known => {
                return self
                    .oracle
                    .fail(|| format!("user {user}: a welcome says head {head}, and {known} had been told"));
            }
            ServerFrame::Welcome { head, .. } => head,
            _ => return,
        };
        let of_user = self.told.entry(user).or_default();
        *of_user = told.max(*of_user);
    }

    /// Two nodes may believe that they own a slot, for a while.
    pub(super) fn look_at_beliefs(&mut self) {
        let users: BTreeSet<Slot> = self.apps.iter().map(|app| Slot::of(app.key.0)).collect();
        let believe = |slot: &Slot| self.processes.iter().filter(|process| process.believes_to_own(*slot)).count();
        if users.iter().any(|slot| believe(slot) > 1) {
            self.reached("two nodes believe that they own a slot");
        }
    }

    /// What is not as it must be when nothing happens any more, in words: whoever waits, waits for it.
    pub(super) fn open(&self) -> Option<String> {
        if let Some(app) = self.apps.iter().find(|app| !app.is_gone && !app.is_quiet(self.oracle.head_of(app.key.0))) {
            return Some(app.describe());
        }
        let serving = self.serving();
        for pid in serving.iter().copied() {
            let Some(of) = &self.processes[pid.0].serving else { continue };
            let common = of.cores.common();
            let name = name_of(self.processes[pid.0].name);
            for core in of.cores.iter() {
                let counters = core.shard_counters();
                if counters.unreleased_bytes > 0 || counters.unfinished > 0 || core.is_stalled() {
                    return Some(format!("core {} of {name} waits for something: {counters:?}", core.id().0));
                }
            }
            let others = serving.iter().filter(|other| **other != pid);
            let others = others.filter_map(|other| self.processes[other.0].serving.as_ref().map(|of| of.own));
            if let Some(other) =
                others.into_iter().find(|own| common.mesh.as_ref().is_none_or(|mesh| mesh.host(*own).is_none()))
            {
                return Some(format!("{name} has no link to {other:?}"));
            }
        }
        if !self.database.commits.is_empty() {
            return Some(format!("commits are under way: {:?}", self.database.commits));
        }
        self.unbalanced()
    }

    /// Each node that is there and stays owns its share.
    fn unbalanced(&self) -> Option<String> {
        let roll = self.database.roll();
        let nodes: Vec<NodeId> =
            self.serving().iter().filter_map(|pid| self.processes[pid.0].serving.as_ref().map(|of| of.own)).collect();
        let stays = |own: &NodeId| roll.members.get(&MemberId(own.0)).is_some_and(|member| !member.is_leaving);
        let mut staying: Vec<_> = nodes.iter().copied().filter(stays).collect();
        if staying.is_empty() {
            staying = nodes;
        }
        let share = SLOTS / staying.len().max(1);
        let owned = |own: &NodeId| roll.owners.values().filter(|owner| owner.member.0 == own.0).count();
        let wrong = staying.iter().find(|own| !(share..=share + 1).contains(&owned(own)))?;
        Some(format!("{wrong:?} owns {} slots of {SLOTS}, and {staying:?} are there", owned(wrong)))
    }

    pub(super) fn check_the_end(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        let users: BTreeSet<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let everybody = self.apps.iter().filter(|app| !app.is_gone).map(|app| app.key.0).collect();
        let logs = users.iter().map(|user| (*user, self.stored_log(*user))).collect();
        self.learn_void_numbers(&logs);
        self.oracle.at_the_end(&logs, &everybody);
        if let Some(open) = self.open() {
            self.oracle.fail(|| format!("something has become open again: {open}"));
        }
        let owed = block_on(storage::unfinished(&self.database.store, None, 1_000)).expect("reads do not fail");
        self.check_groups();
        if !owed.is_empty() {
            self.oracle.fail(|| format!("{owed:?} owe something, and nothing happens"));
        }
        for (id, app, pid) in self.network.served() {
            let user = self.apps[app].key.0;
            if !self.processes[pid.0].believes_to_own(Slot::of(user)) {
                let name = name_of(self.processes[pid.0].name);
                self.oracle.fail(|| format!("user {user} is served by {name} on {id:?}, which does not own it"));
            }
        }
        for line in self.network.all() {
            if let ServerEnd::Moving { .. } | ServerEnd::Arriving = line.server {
                self.oracle.fail(|| "a connection is between two cores".to_owned());
            }
        }
    }

    /// Numbers that were given up are in the store alone.
    fn learn_void_numbers(&mut self, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>) {
        for (user, log) in logs {
            let mut next = BTreeMap::new();
            for entry in log.values() {
                let Event::Sent { device, number, .. } = entry.event else { continue };
                let first = next.insert(device, number.0 + 1).unwrap_or(1);
                for number in (first..number.0).map(SendNumber) {
                    let query = Query::Send { user: *user, device, number };
                    let found = block_on(storage::answer(&self.database.store, &query));
                    if matches!(found, Ok(Answer::Send(Some(Sent::GivenUp)))) {
                        self.oracle.is_void(*user, device, number);
                    }
                }
            }
        }
    }
}
