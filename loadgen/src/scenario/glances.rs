//! Glances: what of a day in small is about who is there. Some people watch those whom they write to; people type, look away and hide; and
//! when everything has settled each of those who watch must show the truth.

use proto_spec::{GroupId, Status, UserId};

use super::lookers::Lookers;
use crate::{
    devices::Devices,
    draw::Draw,
    schedule::{Schedule, Spacing},
    session::Happened,
    verify::presence::Patience,
};

/// Of what is done here for each act of the day.
const GLANCES_AN_ACT: f64 = 0.1;

/// How many watch, and how the server is set up.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Glancing {
    /// Of 100 people, how many watch those whom they write to; 0: nothing is done about who is there
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=100))]
    pub(super) watching: u64,

    #[command(flatten)]
    patience: Patience,
}

/// How far the comparison in the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    NotYet,
    /// All have asked once more.
    Asked,
    Compared,
}

/// The people of one lane.
#[derive(Debug)]
pub(super) struct Glances {
    percent: u64,
    lookers: Lookers,
    schedule: Option<Schedule>,
    settling: Settling,
    draw: Draw,
}

impl Glances {
    /// Nothing, if nobody is to watch.
    pub(super) fn new(glancing: &Glancing, draw: Draw) -> Option<Self> {
        let Glancing { watching: percent, patience } = *glancing;
        let lookers = Lookers::new(patience);
        (percent > 0).then_some(Self { percent, lookers, schedule: None, settling: Settling::NotYet, draw })
    }

    /// The day begins. `contacts`: the slots of the first devices of those whom somebody writes to.
    pub(super) fn begin(
        &mut self,
        devices: &mut Devices,
        (acts_a_second, end_us): (f64, u64),
        contacts: impl Fn(&Devices, u32) -> Vec<u32>,
    ) {
        self.lookers.begin(devices);
        let draw = Draw::new(self.draw.number());
        let rate = acts_a_second * GLANCES_AN_ACT;
        self.schedule = Some(Schedule::new(Spacing::Random, rate, 0.0, devices.now_us(), end_us, draw));
        for slot in 0..devices.len() as u32 {
            // An earlier run may have left somebody hidden.
            if devices.start(slot).0 > 0 && devices.crew().member(slot).first == slot {
                self.lookers.hide(devices, slot, false);
            }
        }
        let mut first = 0;
        while (first as usize) < devices.len() {
            let all = devices.crew().devices(first);
            if self.draw.below(100) < self.percent {
                let watched: Vec<UserId> =
                    contacts(devices, first).iter().map(|contact| devices.crew().member(*contact).user).collect();
                all.clone().for_each(|slot| self.lookers.watch(devices, slot, watched.clone()));
            }
            first = all.end;
        }
    }

    /// Does what is due by now. Gives when the next is. `in_group`: a device and a group, if somebody types there next and not to a user.
    pub(super) fn drive(
        &mut self,
        devices: &mut Devices,
        in_group: impl Fn(&Devices, &mut Draw) -> Option<(u32, GroupId)>,
    ) -> u64 {
        let now_us = devices.now_us();
        while self.schedule.as_mut().and_then(|schedule| schedule.due(now_us)).is_some() {
            let slot = self.draw.below(devices.len() as u64) as u32;
            if devices.is_ready(slot) {
                self.act(devices, slot, &in_group);
            }
        }
        let sweep_us = self.lookers.sweep(devices);
        self.schedule.as_ref().and_then(Schedule::peek).map_or(sweep_us, |at_us| at_us.min(sweep_us))
    }

    fn act(
        &mut self,
        devices: &mut Devices,
        slot: u32,
        in_group: impl Fn(&Devices, &mut Draw) -> Option<(u32, GroupId)>,
    ) {
        match self.draw.below(10) {
            0..=5 => {
                if let Some((slot, group)) = in_group(devices, &mut self.draw) {
                    return self.lookers.type_in(devices, slot, group);
                }
                let watched = devices.seen(slot);
                let at = self.draw.below(watched.len() as u64) as usize;
                if let Some(to) = watched.get(at).map(|seen| seen.user) {
                    self.lookers.type_in(devices, slot, to);
                }
            }
            6..=8 => {
                let status = if self.draw.below(2) == 0 { Status::Away } else { Status::Here };
                self.lookers.set_status(devices, slot, status);
            }
            _ => {
                let is_hidden = self.lookers.is_hidden(devices.crew().member(slot).user);
                self.lookers.hide(devices, slot, !is_hidden);
            }
        }
    }

    /// Somebody writes to the user of whom a slot is the first.
    pub(super) fn write(&mut self, devices: &Devices, slot: u32, to: u32) {
        let user = |slot| devices.crew().member(slot).user;
        self.lookers.write(user(slot), user(to));
    }

    /// Something has happened.
    pub(super) fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.lookers.happened(devices, what);
    }

    /// The day is over: waits until everybody must have been told everything, lets all ask once more, since who has written to them
    /// meanwhile is told only then, and compares. True when that is done.
    pub(super) fn settle(&mut self, devices: &mut Devices) -> bool {
        let is_answered = (0..devices.len() as u32).all(|slot| devices.asking(slot) == 0);
        match self.settling {
            Settling::NotYet if is_answered && devices.now_us() >= self.lookers.quiet_at_us() => {
                self.lookers.watch_again(devices);
                self.settling = Settling::Asked;
            }
            Settling::Asked if is_answered => {
                self.lookers.check_views(devices);
                self.settling = Settling::Compared;
            }
            Settling::NotYet | Settling::Asked | Settling::Compared => {}
        }
        self.settling == Settling::Compared
    }
}
