//! A lane of groups and their members.

use proto_spec::{GroupId, UserId};

use super::{Arguments, Part, Times, Wanted};
use crate::{
    devices::Devices,
    engine::{Next, Script, Stages},
    limits::{GROUP_AWAY_US, GROUP_STAGE_US},
    scenario::{
        founding::{announce, create},
        settle::Settle,
    },
    schedule::{Schedule, Spacing},
    session::{Ask, Happened},
    verify::{Text, groups::Said},
};

/// How far a lane is with making its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prepared {
    Nothing,
    /// The owners are connected, or all are.
    Called,
    /// They have sent everything.
    Created,
    /// The others are connected too.
    Gathered,
}

/// How far those are who were away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returned {
    Nobody,
    /// They are on their way.
    Called,
    /// They ask for what they lack.
    Looked,
}

/// One group.
#[derive(Debug)]
struct Group {
    wanted: Wanted,
    /// Among the groups of the ledger.
    at: u32,
    /// Of the connected members, without the owner: those who are to be in it.
    members: Vec<u32>,
}

/// When members who are gone come back to their group.
#[derive(Clone, Copy, Debug)]
struct Gone {
    due_us: u64,
    group: usize,
    slot: u32,
}

/// What happens in the load at times of its own.
#[derive(Debug)]
struct Schedules {
    messages: Schedule,
    leaves: Schedule,
    removals: Schedule,
    cuts: Schedule,
}

/// A lane of groups.
#[derive(Debug)]
pub(super) struct Members {
    wants: Arguments,
    times: Times,
    stages: Stages,
    compares: bool,
    prepared: Prepared,
    groups: Vec<Group>,
    /// Devices that ask for the groups of their users, as soon as they may.
    to_list: Vec<u32>,
    /// Those that know them.
    listed: usize,
    began_us: u64,
    part: Part,
    schedules: Option<Schedules>,
    gone: Vec<Gone>,
    /// By slot: away until the end.
    is_returning: Vec<bool>,
    returned: Returned,
    /// Since when what the stage waits for is so.
    done_us: Option<u64>,
    settle: Settle,
}

impl Members {
    pub(super) fn new(wants: Arguments, groups: Vec<Wanted>, times: Times, stages: Stages, compares: bool) -> Self {
        let groups = groups.into_iter().map(|wanted| Group { at: 0, members: wanted.connected[1..].to_vec(), wanted });
        Self {
            wants,
            times,
            stages,
            compares,
            prepared: Prepared::Nothing,
            groups: groups.collect(),
            to_list: Vec::new(),
            listed: 0,
            began_us: 0,
            part: Part::Over,
            schedules: None,
            gone: Vec::new(),
            is_returning: Vec::new(),
            returned: Returned::Nobody,
            done_us: None,
            settle: Settle::default(),
        }
    }

    /// Who is in it, for the ledger.
    fn announce(&mut self, devices: &mut Devices) {
        for group in &mut self.groups {
            let seats: Vec<u32> = group.wanted.connected.iter().map(|slot| devices.seat(*slot)).collect();
            group.at = announce(&mut devices.ledger(), group.wanted.id, seats);
        }
    }

    fn create(&self, devices: &mut Devices) {
        for Group { wanted, at, .. } in &self.groups {
            let here: Vec<UserId> =
                wanted.connected[1..].iter().map(|slot| devices.crew().member(*slot).user).collect();
            create(devices, wanted.connected[0], *at, wanted.others.iter().copied().chain(here));
        }
    }

    /// A part of the load in which members write begins.
    fn schedules(&self, devices: &mut Devices, now_us: u64, end_us: u64) -> Schedules {
        let mut schedule = |rate: f64, spacing| {
            // Without a rate there is none before the end.
            let end_us = if rate > 0.0 { end_us } else { 0 };
            let draw = devices.draw().number();
            Schedule::new(spacing, rate, 0.5, now_us, end_us, crate::draw::Draw::new(draw))
        };
        Schedules {
            messages: schedule(self.wants.messages_per_s, Spacing::Even),
            leaves: schedule(self.wants.churn, Spacing::Random),
            removals: schedule(self.wants.removals, Spacing::Random),
            cuts: schedule(self.wants.cuts, Spacing::Random),
        }
    }

    /// Somebody of a group who can write now.
    fn author(&self, devices: &mut Devices, group: usize) -> Option<u32> {
        let connected = &self.groups[group].wanted.connected;
        (0..4).find_map(|_| {
            let slot = connected[devices.draw().below(connected.len() as u64) as usize];
            devices.is_ready(slot).then_some(slot)
        })
    }

    fn any_group(&self, devices: &mut Devices) -> usize {
        devices.draw().below(self.groups.len() as u64) as usize
    }

    fn write(&self, devices: &mut Devices, group: usize, slot: u32, intended_us: u64) {
        devices.send_to_group(slot, self.groups[group].at, Said::Message(Text::Made(self.wants.size)), intended_us);
    }

    /// A member is to be gone for a while. Gives who.
    fn goes(&mut self, devices: &mut Devices, group: usize) -> Option<u32> {
        let members = &self.groups[group].members;
        let at = devices.draw().below(members.len() as u64) as usize;
        let slot = *members.get(at)?;
        if !devices.is_ready(slot) {
            return None;
        }
        self.groups[group].members.swap_remove(at);
        self.gone.push(Gone { due_us: devices.now_us() + GROUP_AWAY_US, group, slot });
        Some(slot)
    }

    /// Does what is due in a part in which members write.
    fn act(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        let Some(mut schedules) = self.schedules.take() else { return };
        while let Some(intended_us) = schedules.messages.due(now_us) {
            let group = self.any_group(devices);
            if let Some(slot) = self.author(devices, group) {
                self.write(devices, group, slot, intended_us);
            }
        }
        while schedules.leaves.due(now_us).is_some() {
            let group = self.any_group(devices);
            if let Some(slot) = self.goes(devices, group) {
                let user = devices.crew().member(slot).user;
                devices.send_to_group(slot, self.groups[group].at, Said::Remove(user), now_us);
            }
        }
        while schedules.removals.due(now_us).is_some() {
            let group = self.any_group(devices);
            if let Some(slot) = self.goes(devices, group) {
                let (user, owner) = (devices.crew().member(slot).user, self.groups[group].wanted.connected[0]);
                self.write(devices, group, slot, now_us);
                devices.send_to_group(owner, self.groups[group].at, Said::Remove(user), now_us);
                (0..2).for_each(|_| self.write(devices, group, slot, now_us));
            }
        }
        while schedules.cuts.due(now_us).is_some() {
            let count = devices.len() as u64;
            let slot = devices.draw().below(count) as u32;
            let is_owner = self.groups.iter().any(|group| group.wanted.connected[0] == slot);
            if !is_owner && devices.is_ready(slot) {
                devices.cut(slot);
                devices.connect_at(slot, now_us + GROUP_AWAY_US);
            }
        }
        self.schedules = Some(schedules);
        self.bring_back(devices, now_us);
    }

    /// Those whose time has come are added again.
    fn bring_back(&mut self, devices: &mut Devices, now_us: u64) {
        let due = self.gone.partition_point(|gone| gone.due_us <= now_us);
        for Gone { group, slot, .. } in self.gone.drain(..due).collect::<Vec<_>>() {
            let (user, owner) = (devices.crew().member(slot).user, self.groups[group].wanted.connected[0]);
            devices.send_to_group(owner, self.groups[group].at, Said::Add(user), now_us);
            self.groups[group].members.push(slot);
        }
    }

    /// Those who were away come back, are told of what they lack, and look at it; true when that is done. Each stage begins when what was
    /// counted before has been told, so that it has what it cost and nothing else.
    fn return_all(&mut self, devices: &mut Devices, stage: usize) -> bool {
        let returning: Vec<u32> = (0..).zip(&self.is_returning).filter(|(_, is)| **is).map(|(slot, _)| slot).collect();
        let knows_all = |slot: &u32| devices.is_ready(*slot) && devices.ledger().groups.knows_all(devices.seat(*slot));
        let is_done = match self.returned {
            Returned::Nobody => devices.ledger().groups.waiting() == 0,
            Returned::Called => returning.iter().all(knows_all),
            Returned::Looked => devices.under_way() == 0,
        };
        let now_us = devices.now_us();
        if !is_done || now_us < *self.done_us.get_or_insert(now_us) + GROUP_STAGE_US {
            return false;
        }
        self.done_us = None;
        match self.returned {
            Returned::Nobody => {
                self.stages.begin(stage);
                returning.iter().for_each(|slot| devices.connect_at(*slot, 0));
                self.returned = Returned::Called;
            }
            Returned::Called => {
                self.stages.begin(stage + 1);
                returning.iter().for_each(|slot| devices.look_at_groups(*slot));
                self.returned = Returned::Looked;
            }
            Returned::Looked => return true,
        }
        false
    }
}

impl Script for Members {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        match self.prepared {
            Prepared::Nothing => {
                self.announce(devices);
                // What keeps no history can tell nobody later what was before they came.
                let first = if self.compares { 1 } else { usize::MAX };
                for group in &self.groups {
                    group.wanted.connected.iter().take(first).for_each(|slot| devices.connect_at(*slot, 0));
                }
                self.prepared = Prepared::Called;
            }
            Prepared::Called if devices.is_complete() => {
                self.create(devices);
                self.prepared = Prepared::Created;
            }
            Prepared::Created if devices.ledger().groups.waiting() == 0 => {
                if self.compares {
                    for slot in 0..devices.len() as u32 {
                        if devices.is_ready(slot) {
                            self.to_list.push(slot);
                        } else {
                            devices.connect_at(slot, 0);
                        }
                    }
                }
                self.prepared = Prepared::Gathered;
            }
            Prepared::Called | Prepared::Created => {}
            Prepared::Gathered => {
                self.to_list.retain(|slot| !devices.ask(*slot, Ask::Groups { after: GroupId(0) }));
                let are_listed = !self.compares || self.listed >= devices.len();
                return are_listed && devices.is_complete() && devices.under_way() == 0;
            }
        }
        false
    }

    fn begin(&mut self, devices: &mut Devices) {
        self.began_us = devices.now_us();
        self.is_returning = vec![false; devices.len()];
        let owners: Vec<u32> = self.groups.iter().map(|group| group.wanted.connected[0]).collect();
        let others = (0..devices.len() as u32).rev().filter(|slot| !owners.contains(slot));
        for slot in others.take(self.wants.returning as usize) {
            self.is_returning[slot as usize] = true;
            let seat = devices.seat(slot);
            devices.ledger().groups.set_patient(seat, true);
            devices.leave(slot);
            self.groups.iter_mut().for_each(|group| group.members.retain(|member| *member != slot));
        }
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        let (part, stage) = self.times.at(now_us - self.began_us);
        if part != self.part {
            self.part = part;
            devices.stats_mut().era = self.times.era(part);
            self.schedules = match part {
                Part::Groups { end_us } => Some(self.schedules(devices, now_us, self.began_us + end_us)),
                Part::Calm | Part::Over => None,
            };
            if part != Part::Over {
                self.stages.begin(stage);
            }
        }
        match part {
            Part::Over if self.wants.returning == 0 || self.return_all(devices, stage) => Next::Finished,
            Part::Over => Next::At(now_us + 1_000),
            Part::Calm => Next::At(now_us + 1_000),
            Part::Groups { end_us } => {
                self.act(devices);
                let schedules = self.schedules.iter();
                let due = schedules
                    .flat_map(|all| [&all.messages, &all.leaves, &all.removals, &all.cuts])
                    .filter_map(Schedule::peek);
                let back = self.gone.first().map(|gone| gone.due_us);
                Next::At(due.chain(back).fold(self.began_us + end_us, u64::min))
            }
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        match what {
            Happened::Ready { slot } if self.prepared == Prepared::Gathered && self.compares && self.began_us == 0 => {
                self.to_list.push(*slot);
            }
            Happened::Groups { .. } => self.listed += 1,
            Happened::GroupPage { slot, fetch, page } => self.settle.take(devices, *slot, fetch, page),
            _ => {}
        }
    }

    fn settle(&mut self, devices: &mut Devices) -> bool {
        let groups = if self.compares { &self.groups[..] } else { &[] };
        self.settle.drive(devices, |_| {
            groups.iter().flat_map(|group| group.wanted.connected.iter().map(|slot| (*slot, group.wanted.id))).collect()
        })
    }

    fn wants_read_back(&self) -> bool {
        false
    }
}
