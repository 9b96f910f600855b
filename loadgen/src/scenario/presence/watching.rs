//! A lane of those who watch: makes the conversations, and then goes through the stages.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use proto_spec::{Status, UserId};

use super::{
    Arguments, ENDING_S, Stage,
    flapping::{Role, flap, moment_us, roles},
};
use crate::{
    devices::Devices,
    draw::Draw,
    engine::{Next, Script, Stages},
    limits::FILL_UNDER_WAY_MAX,
    scenario::lookers::Lookers,
    session::Happened,
    stats::Measure,
    verify::{StreamId, Text, Written},
};

/// Over so long all begin to watch, in microseconds, as apps do not open at once.
const WATCH_WITHIN_US: u64 = 2_000_000;

/// Mean time for which somebody is gone, in microseconds.
const GONE_US_MEAN: f64 = 8_000_000.0;

/// Of four who go, how many do not come back.
const GONE_FOR_GOOD: u64 = 1;

/// A user id that is so far above the run's has nobody.
const NOBODY_ABOVE: u64 = 1 << 40;

/// Something that is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    BeginToWatch(u32),
    EndToWatch(u32),
    Change,
    Scroll,
    Type,
    Flap(u32),
}

/// How far the conversations are made.
#[derive(Debug, Default)]
struct Fill {
    pairs: Vec<(u32, u32)>,
    written: usize,
    has_asked: bool,
}

/// A lane of those who watch.
#[derive(Debug)]
pub(super) struct Watching {
    wants: Arguments,
    stages: Stages,
    /// The stages of the run, one after the other, and in which of them it is.
    course: Vec<Stage>,
    step: usize,
    fill: Fill,
    lookers: Lookers,
    roles: Vec<Role>,
    /// Slots of who blocks and of who is blocked.
    blocked: HashSet<(u32, u32)>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    stage_ends_us: u64,
    /// When the crowd was cut.
    cut_us: u64,
    /// By slot: was cut, and has not come back.
    is_cut: Vec<bool>,
    cut_left: u64,
    /// The longest that somebody of the crowd was gone, in microseconds.
    gone_us: u64,
    pushed_before: u64,
    draw: Draw,
}

impl Watching {
    pub(super) fn new(wants: Arguments, stages: Stages, seed: u64) -> Self {
        let lookers = Lookers::new(wants.patience);
        Self {
            stages,
            course: Stage::all(wants.rounds).collect(),
            step: 0,
            fill: Fill::default(),
            lookers,
            roles: Vec::new(),
            blocked: HashSet::new(),
            due: BinaryHeap::new(),
            stage_ends_us: 0,
            cut_us: 0,
            is_cut: Vec::new(),
            cut_left: 0,
            gone_us: 0,
            pushed_before: 0,
            draw: Draw::new(seed),
            wants,
        }
    }

    // ---- who knows whom

    fn contacts(&self, slot: u32) -> impl Iterator<Item = u32> + use<> {
        (1..=self.wants.contacts as u32).map(move |k| slot ^ k)
    }

    const fn watches_popular(&self, slot: u32) -> bool {
        slot > 0 && slot as u64 <= self.wants.popular
    }

    /// All between whom there is a conversation: who writes, and to whom.
    fn pairs(&self, count: u32) -> Vec<(u32, u32)> {
        let of = |slot| self.contacts(slot).map(move |contact| (slot, contact));
        let mut pairs: Vec<_> = (0..count).flat_map(of).collect();
        // The first contacts of the popular user are theirs anyway.
        let popular = (1..=self.wants.popular as u32).filter(|slot| u64::from(*slot) > self.wants.contacts);
        pairs.extend(popular.flat_map(|slot| [(slot, 0), (0, slot)]));
        pairs
    }

    /// Of them nothing may be told to who is at this slot: somebody of another group, unless that is the popular one, and nobody at all.
    fn strangers(&self, devices: &Devices, slot: u32) -> Vec<UserId> {
        let group = (self.wants.contacts as u32 + 1).next_power_of_two();
        let other = slot ^ group;
        let user = |slot| devices.crew().member(slot).user;
        let mut strangers = vec![UserId(user(slot).0 + NOBODY_ABOVE)];
        if (other as usize) < devices.len() {
            strangers.push(user(other));
        }
        strangers
    }

    /// Whom a device shows: all that it ever does, or half of them.
    fn shown(&mut self, devices: &Devices, slot: u32, is_all: bool) -> Vec<UserId> {
        let contacts: Vec<_> = self.contacts(slot).filter(|_| is_all || self.draw.below(2) == 0).collect();
        let popular = self.watches_popular(slot).then_some(0);
        let user = |slot| devices.crew().member(slot).user;
        contacts.into_iter().chain(popular).map(user).chain(self.strangers(devices, slot)).collect()
    }

    // ---- making what is needed

    /// Writes one message for each pair; true when all are with everybody.
    fn fill(&mut self, devices: &mut Devices) -> bool {
        if self.fill.pairs.is_empty() {
            let count = devices.len() as u32;
            if let Some(slot) = (0..count).find(|slot| devices.start(*slot).0 > 0) {
                let user = devices.crew().member(slot).user;
                devices.give_up(format!("user {user} has a log: take other users with --first-user"));
                return false;
            }
            self.fill.pairs = self.pairs(count);
        }
        while self.fill.written < self.fill.pairs.len() && devices.under_way() < FILL_UNDER_WAY_MAX {
            let (from, to) = self.fill.pairs[self.fill.written];
            let stream: StreamId = devices.open(from, to);
            devices.send(stream, devices.now_us(), Written::text(Text::Made(self.wants.size)));
            let user = |slot| devices.crew().member(slot).user;
            self.lookers.write(user(from), user(to));
            self.fill.written += 1;
        }
        self.fill.written == self.fill.pairs.len() && devices.under_way() == 0
    }

    /// Hides and blocks who is hidden and blocked from the beginning.
    fn hide_and_block(&mut self, devices: &mut Devices) {
        for slot in 0..devices.len() as u32 {
            if self.roles[slot as usize] != Role::Popular && self.draw.unit() * 100.0 <= self.wants.invisible {
                self.lookers.hide(devices, slot, true);
            }
            for contact in self.contacts(slot) {
                if self.draw.unit() * 100.0 <= self.wants.blocked {
                    self.block(devices, slot, contact, true);
                }
            }
        }
    }

    fn block(&mut self, devices: &mut Devices, slot: u32, whom: u32, is_blocked: bool) {
        let user = devices.crew().member(whom).user;
        if !self.lookers.block(devices, slot, user, is_blocked) {
            return;
        }
        if is_blocked {
            self.blocked.insert((slot, whom));
        } else {
            self.blocked.remove(&(slot, whom));
        }
    }

    // ---- the stages

    fn stage(&self) -> Stage {
        self.course[self.step]
    }

    fn enter(&mut self, devices: &mut Devices, step: usize) {
        let now_us = devices.now_us();
        self.step = step;
        self.stages.begin(step);
        let stage = self.stage();
        devices.stats_mut().era = stage.era();
        let calm_us = self.wants.calm * 1_000_000;
        match stage {
            Stage::Calm => {
                for slot in self.slots_of(Role::Gone) {
                    devices.leave(slot);
                }
                self.due.push(Reverse((now_us, Due::Change)));
                self.stage_ends_us = now_us + calm_us;
            }
            Stage::Watching => {
                self.due.clear();
                self.spread(devices, WATCH_WITHIN_US.min(calm_us / 2), Due::BeginToWatch);
                self.stage_ends_us = now_us + calm_us;
            }
            Stage::Changes => {
                self.due.extend([Due::Change, Due::Scroll, Due::Type].map(|due| Reverse((now_us, due))));
                for role in [Role::There, Role::Gone, Role::Popular] {
                    for slot in self.slots_of(role) {
                        let at_us = now_us + self.draw.below(self.wants.patience.hold_ms * 2_000 + 1);
                        self.due.push(Reverse((at_us, Due::Flap(slot))));
                    }
                }
                self.stage_ends_us = now_us + self.wants.seconds * 1_000_000;
            }
            Stage::Ending => {
                self.due.clear();
                devices.call_back();
                self.spread(devices, WATCH_WITHIN_US, Due::EndToWatch);
                self.stage_ends_us = now_us + ENDING_S * 1_000_000;
            }
            Stage::Quiet => {
                self.due.clear();
                devices.call_back();
            }
            Stage::Storm => {
                self.pushed_before = self.lookers.pushed();
                self.cut_us = now_us;
                self.is_cut = vec![false; devices.len()];
                let there: Vec<_> = (0..devices.len() as u32).filter(|slot| devices.is_ready(*slot)).collect();
                for slot in there.into_iter().take(self.wants.storm as usize) {
                    devices.cut(slot);
                    let at_us = now_us + self.draw.below(self.wants.storm_within * 1_000_000 + 1);
                    devices.connect_at(slot, at_us);
                    self.is_cut[slot as usize] = true;
                    self.cut_left += 1;
                }
            }
        }
    }

    /// Something that all devices do within a time.
    fn spread(&mut self, devices: &Devices, within_us: u64, due: fn(u32) -> Due) {
        for slot in 0..devices.len() as u32 {
            let at_us = devices.now_us() + self.draw.below(within_us);
            self.due.push(Reverse((at_us, due(slot))));
        }
    }

    fn slots_of(&self, role: Role) -> Vec<u32> {
        (0..self.roles.len() as u32).filter(|slot| self.roles[*slot as usize] == role).collect()
    }

    /// Everybody must have been told everything.
    fn is_quiet(&self, devices: &Devices) -> bool {
        devices.is_complete() && devices.now_us() >= self.lookers.quiet_at_us()
    }

    /// A crowd that was back within the grace time was never away for anybody.
    fn check_storm(&self, devices: &Devices) {
        let pushed = self.lookers.pushed() - self.pushed_before;
        if self.gone_us < self.wants.patience.grace_ms * 1_000 && pushed > 0 {
            let words = format!(
                "{pushed} frames with changes were pushed, though all were back within {} ms",
                self.gone_us / 1_000
            );
            devices.ledger().faults.add(words);
        }
    }

    // ---- what is done in them

    fn do_due(&mut self, devices: &mut Devices, due: Due) {
        let (now_us, users) = (devices.now_us(), devices.len() as f64);
        let again = |this: &mut Self, percent: f64| {
            if percent > 0.0 {
                let at_us = now_us + this.draw.exponential(1e6 / (users * percent / 100.0)) as u64;
                this.due.push(Reverse((at_us, due)));
            }
        };
        match due {
            Due::BeginToWatch(slot) => {
                let shown = self.shown(devices, slot, true);
                self.lookers.watch(devices, slot, shown);
            }
            Due::EndToWatch(slot) => self.lookers.watch(devices, slot, Vec::new()),
            Due::Change => {
                self.change(devices);
                again(self, self.wants.changes);
            }
            Due::Scroll => {
                if let Some(slot) = self.somebody(devices) {
                    let is_all = self.draw.below(2) == 0;
                    let shown = self.shown(devices, slot, is_all);
                    self.lookers.watch(devices, slot, shown);
                    // Who opens a profile asks once.
                    let asked = self.shown(devices, slot, false);
                    devices.fetch_presence(slot, asked, &self.wants.patience);
                }
                again(self, self.wants.scrolls);
            }
            Due::Type => {
                if let Some(slot) = self.somebody(devices) {
                    let to = devices.crew().member(self.contact(slot)).user;
                    self.lookers.type_in(devices, slot, to);
                }
                again(self, self.wants.types);
            }
            Due::Flap(slot) => {
                let role = self.roles[slot as usize];
                let next = flap(devices, slot, role, &self.wants.patience, &mut self.draw);
                if role == Role::Popular && self.draw.below(2) == 0 {
                    self.toggle_status(devices, slot);
                }
                self.due.extend(next.map(|at_us| Reverse((at_us, due))));
            }
        }
    }

    fn somebody(&mut self, devices: &Devices) -> Option<u32> {
        let slot = self.draw.below(devices.len() as u64) as u32;
        devices.is_ready(slot).then_some(slot)
    }

    fn contact(&mut self, slot: u32) -> u32 {
        slot ^ (1 + self.draw.below(self.wants.contacts) as u32)
    }

    fn toggle_status(&mut self, devices: &mut Devices, slot: u32) {
        let status = match self.lookers.status(slot) {
            Status::Here => Status::Away,
            Status::Away => Status::Here,
        };
        self.lookers.set_status(devices, slot, status);
    }

    /// Somebody changes what others see of them.
    fn change(&mut self, devices: &mut Devices) {
        let Some(slot) = self.somebody(devices).filter(|slot| self.roles[*slot as usize] == Role::Plain) else {
            return;
        };
        match self.draw.below(20) {
            0..=9 => self.toggle_status(devices, slot),
            10..=16 => {
                if self.draw.below(4) == 0 {
                    devices.cut(slot);
                } else {
                    devices.leave(slot);
                }
                if self.draw.below(4) >= GONE_FOR_GOOD {
                    let at_us = devices.now_us() + self.draw.exponential(GONE_US_MEAN) as u64;
                    devices.connect_at(slot, at_us);
                }
            }
            17 | 18 => {
                let is_hidden = self.lookers.is_hidden(devices.crew().member(slot).user);
                self.lookers.hide(devices, slot, !is_hidden);
            }
            _ => {
                let whom = self.contact(slot);
                let is_blocked = self.blocked.contains(&(slot, whom));
                self.block(devices, slot, whom, !is_blocked);
            }
        }
    }
}

impl Script for Watching {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        // How long it takes to make the conversations is of no interest.
        devices.stats_mut().clear_latencies();
        if !self.fill(devices) {
            return false;
        }
        if !self.fill.has_asked {
            self.fill.has_asked = true;
            self.roles = roles(devices.len(), self.wants.flapping, self.wants.popular > 0, &mut self.draw);
            self.lookers.begin(devices);
            self.hide_and_block(devices);
        }
        (0..devices.len() as u32).all(|slot| devices.asking(slot) == 0)
    }

    fn begin(&mut self, devices: &mut Devices) {
        self.enter(devices, 0);
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        while let Some(Reverse((_, due))) = self.due.peek().copied().filter(|Reverse((at_us, _))| *at_us <= now_us) {
            self.due.pop();
            self.do_due(devices, due);
        }
        let sweep_us = self.lookers.sweep(devices);
        let next_us = self.due.peek().map_or(sweep_us, |Reverse((at_us, _))| sweep_us.min(*at_us));
        match self.stage() {
            Stage::Calm | Stage::Watching | Stage::Changes | Stage::Ending => {
                if now_us < self.stage_ends_us {
                    return Next::At(next_us.min(self.stage_ends_us));
                }
                self.enter(devices, self.step + 1);
            }
            Stage::Quiet if self.is_quiet(devices) => {
                self.lookers.check_views(devices);
                if self.wants.storm == 0 {
                    return Next::Finished;
                }
                self.enter(devices, self.step + 1);
            }
            Stage::Storm if self.cut_left == 0 && self.is_quiet(devices) => {
                self.check_storm(devices);
                self.lookers.check_views(devices);
                return Next::Finished;
            }
            Stage::Quiet | Stage::Storm => {}
        }
        Next::At(next_us)
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.lookers.happened(devices, what);
        let Happened::Ready { slot } = what else { return };
        let now_us = devices.now_us();
        if self.stage() == Stage::Changes && self.roles[*slot as usize] == Role::Gone {
            self.due.push(Reverse((now_us + moment_us(&self.wants.patience), Due::Flap(*slot))));
        }
        if let Some(is_cut) = self.is_cut.get_mut(*slot as usize)
            && std::mem::take(is_cut)
        {
            self.cut_left -= 1;
            self.gone_us = self.gone_us.max(now_us - self.cut_us);
            devices.stats_mut().record(Measure::Back, now_us - self.cut_us);
        }
    }

    fn wants_read_back(&self) -> bool {
        false
    }
}
