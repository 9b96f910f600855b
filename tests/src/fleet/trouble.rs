//! What operators and accidents do to nodes, the network between them and the database, and the end of all that.

use server::{
    cluster::{map::Slot, steward::Wish},
    shard::topology::NodeId,
};

use super::{Fleet, Happening, Pid, process::name_of};

/// How often something happens, on average, in milliseconds.
const EVERY_MS: u64 = 350;

/// Names that nodes may have.
const NAMES: u64 = 5;

impl Fleet {
    pub(super) fn on_trouble(&mut self) {
        if self.healing {
            return;
        }
        let next = self.rng.within(1, 2 * EVERY_MS);
        self.schedule(next, Happening::Trouble);
        let running: Vec<Pid> =
            self.serving().into_iter().filter(|pid| self.processes[pid.0].paused_until_ms <= self.now_ms).collect();
        if running.is_empty() {
            return;
        }
        let pid = *self.rng.pick(&running);
        let name = self.processes[pid.0].name;
        let leases = self.rng.within(0, 3 * self.lease_ms);
        let until_ms = self.now_ms + leases;
        let others = running.len() > 1;
        match self.rng.within(0, 99) {
            0..=12 => self.pause(pid, until_ms),
            13..=20 => self.strand(&running, until_ms + 3 * self.lease_ms),
            21..=24 => {
                // Somebody takes it for dead, and starts another one in its place.
                self.pause(pid, until_ms + self.lease_ms);
                self.start(name);
            }
            25..=38 if others => {
                let is_noticed = self.rng.chance(60);
                self.die(pid, is_noticed);
                if self.rng.chance(80) {
                    let within = if self.rng.chance(40) { self.lease_ms / 2 } else { 3 * self.lease_ms };
                    let back = self.rng.within(1, within);
                    self.schedule(back, Happening::Start(name));
                }
            }
            39..=48 => {
                let joins = self.rng.within(0, NAMES - 1) as usize;
                self.start(joins);
            }
            49..=56 => {
                let is_leaving = self.rng.chance(60);
                let whom = name_of(self.processes[self.rng.pick(&running).0].name);
                self.wish(pid, Wish::Leave(whom, is_leaving));
            }
            57..=59 => self.bounce(),
            60..=63 => {
                let slot = self.slot_of_somebody();
                let to = name_of(self.processes[self.rng.pick(&running).0].name);
                let to = self.rng.chance(80).then_some(to);
                self.wish(pid, Wish::Pin(slot, to));
            }
            64..=69 if others && !self.processes[pid.0].is_ending => {
                self.end(pid);
                let back = self.rng.within(500, 4_000);
                self.schedule(back, Happening::Start(name));
            }
            // Others take over what it goes on to serve.
            70..=78 => self.processes[pid.0].away_until_ms = until_ms + 2 * self.lease_ms,
            79..=80 => self.database.slow_until_ms = self.now_ms + self.lease_ms,
            81..=92 if others => {
                let other = self.processes[self.rng.pick(&running).0].name;
                let until_ms = self.now_ms + self.rng.within(100, 7_000);
                self.network.part(name, other, until_ms);
                if self.rng.chance(40) {
                    self.network.part(other, name, until_ms);
                }
            }
            93..=99 if others => {
                let other = self.processes[self.rng.pick(&running).0].name;
                if other != name {
                    self.break_wires(name, other);
                }
            }
            _ => {}
        }
    }

    /// A slot of somebody goes away from its owner and comes back, and the owner, who hears of both at once, is written to in between.
    pub(super) fn bounce(&mut self) {
        let slot = self.slot_of_somebody();
        let running: Vec<Pid> =
            self.serving().into_iter().filter(|pid| self.processes[pid.0].paused_until_ms <= self.now_ms).collect();
        let owner = running.iter().copied().find(|pid| self.processes[pid.0].believes_to_own(slot));
        let other = running.iter().copied().find(|pid| Some(*pid) != owner);
        if let (Some(owner), Some(other)) = (owner, other) {
            let [here, there] = [owner, other].map(|pid| name_of(self.processes[pid.0].name));
            self.wish(other, Wish::Pin(slot, Some(there)));
            self.wish(other, Wish::Pin(slot, Some(here)));
        }
    }

    /// Nothing of a process runs for a while, its connections stay.
    fn pause(&mut self, pid: Pid, until_ms: u64) {
        self.reached("paused");
        self.note(|| format!("{pid:?} stands still until {until_ms}"));
        self.processes[pid.0].paused_until_ms = until_ms;
    }

    /// A process can not reach the database, others take over what it goes on to serve, and somebody who is served there by another device
    /// goes to and fro between them.
    fn strand(&mut self, running: &[Pid], until_ms: u64) {
        let served = self.network.served().into_iter().filter(|(.., at)| running.contains(at));
        let mut served: Vec<_> = served.map(|(_, app, at)| (self.apps[app].key.0, at, app)).collect();
        served.sort_unstable();
        let two = served.windows(2).find(|two| (two[0].0, two[0].1) == (two[1].0, two[1].1));
        if let Some((_, pid, app)) = two.map(|two| two[1]) {
            self.processes[pid.0].away_until_ms = until_ms;
            self.apps[app].roams_until_ms = until_ms;
        }
    }

    fn slot_of_somebody(&mut self) -> Slot {
        self.slot_of_group().unwrap_or_else(|| Slot::of(self.rng.pick(&self.apps).key.0))
    }

    /// The end of trouble: everything works that there is, and there is a node that stays.
    pub(super) fn heal(&mut self) {
        self.healing = true;
        self.note(|| "healing".to_owned());
        let roll = self.database.roll();
        let left = |own: NodeId| roll.members.get(&storage::MemberId(own.0)).is_some_and(|member| member.is_leaving);
        for process in &mut self.processes {
            process.away_until_ms = 0;
            process.paused_until_ms = process.paused_until_ms.min(self.now_ms);
        }
        self.database.slow_until_ms = 0;
        self.network.heal();
        for pid in self.serving() {
            let owns_nothing = self.processes[pid.0].told.as_ref().zip(self.processes[pid.0].serving.as_ref());
            if owns_nothing.is_some_and(|(nodes, of)| left(of.own) && nodes.map.owned(of.own) == 0) {
                self.reached("drained node owns nothing");
            }
        }
        // To which some apps go first.
        self.schedule(1, Happening::Start(0));
        let stays = |pid: &Pid| !self.processes[pid.0].is_ending;
        if let Some(pid) = self.serving().into_iter().find(stays) {
            let pinned = roll.owners.iter().filter(|(_, owner)| owner.is_pinned).map(|(lane, _)| Slot(lane.0 as u8));
            pinned.for_each(|slot| self.wish(pid, Wish::Pin(slot, None)));
        }
        self.heal_people();
    }
}
