//! A day in small. People with one to three devices write to their contacts, mostly to the same few; open chats and read; and
//! leave and come back, with a word or without. An open loop at a rate of acts, at random moments, of which most are messages.

use std::{collections::HashMap, time::Duration};

use proto_spec::{Direction, Seq, limits::SEND_WINDOW, limits::TEXT_BYTES_MAX};

use super::seconds;
use crate::{
    devices::Devices,
    draw::{Draw, mix},
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    schedule::{Schedule, Spacing},
    session::{Fetch, Happened},
    verify::{Crew, StreamId, Text, text::LABEL_BYTES},
    world::{World, share},
};

/// People whom one person writes to.
const CONTACTS: u64 = 20;

/// Of 100 people, how many have more than one device, and how many more than two.
const TWO_DEVICES_PERCENT: u64 = 30;
const THREE_DEVICES_PERCENT: u64 = 5;

/// Mean length of a text in bytes, and the width of its logarithm: half of the texts are shorter than 67.
const TEXT_BYTES_MEAN: f64 = 100.0;
const TEXT_BYTES_SIGMA: f64 = 0.9;

/// Mean time that a device stays away, in microseconds.
const AWAY_US_MEAN: f64 = 3_000_000.0;

/// Entries of the page with which a chat opens.
const CHAT_PAGE: u64 = 20;

/// Devices that are asked before an act is left to the last one: somebody is nearly always there.
const ASKED_MAX: u32 = 16;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// People; each has one to three devices
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=5_000_000))]
    users: u64,

    /// Acts a second of all people together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,

    /// How long the day is
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,

    /// Of 100 acts, how many open a chat and read
    #[arg(long, value_name = "PERCENT", default_value_t = 15, value_parser = clap::value_parser!(u64).range(..=100))]
    reads: u64,

    /// Of 100 acts, how many are a device that goes away for a while
    #[arg(long, value_name = "PERCENT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(..=100))]
    leaves: u64,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        anyhow::ensure!(self.reads + self.leaves <= 100, "--reads and --leaves together are more than 100 of 100 acts");
        // Who has how many devices depends on the seed alone.
        let devices_of = |user: u64| match mix(world.run ^ mix(user)) % 100 {
            percent if percent < THREE_DEVICES_PERCENT => 3,
            percent if percent < TWO_DEVICES_PERCENT => 2,
            _ => 1,
        };
        let connections: u64 = (0..self.users).map(|user| u64::from(devices_of(user))).sum();
        // The lanes share people, not devices: room for those who have more than others.
        let lanes = world.lanes_for(connections + connections / 20)?.min(self.users as usize / 2).max(1);
        let mut next_user = 0;
        let mut plans = Vec::new();
        for lane in 0..lanes {
            let people = share(self.users, lane, lanes);
            let mut crew = Crew::default();
            let mut firsts = Vec::new();
            for _ in 0..people {
                firsts.push(crew.add(world.user(next_user), devices_of(next_user)));
                next_user += 1;
            }
            let script = Mix {
                rate: self.rate as f64 * people as f64 / self.users as f64,
                seconds: self.seconds,
                reads: self.reads,
                leaves: self.leaves,
                firsts,
                streams: HashMap::new(),
                away: Vec::new(),
                schedule: None,
                end_us: 0,
                draw: Draw::new(mix(world.run) ^ lane as u64),
            };
            plans.push(LanePlan { crew, script: Box::new(script) });
        }
        let parameters = vec![
            ("users", self.users.to_string()),
            ("devices", connections.to_string()),
            ("acts a second", self.rate.to_string()),
            seconds(self.seconds),
            ("reads, % of the acts", self.reads.to_string()),
            ("leaves, % of the acts", self.leaves.to_string()),
        ];
        let mut notes = Vec::new();
        if lanes > 1 {
            notes.push(format!("People write to people of their own lane, of which there are {lanes}."));
        }
        Ok(Plan {
            scenario: "mix",
            parameters,
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_secs(self.seconds)),
            login: LoginFirst::Everybody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: PING_AFTER_S,
            eras: None,
            notes,
        })
    }
}

#[derive(Debug)]
struct Mix {
    rate: f64,
    seconds: u64,
    reads: u64,
    leaves: u64,
    /// By person: the slot of the first device.
    firsts: Vec<u32>,
    /// By sending device and the first device of the recipient.
    streams: HashMap<(u32, u32), StreamId>,
    /// Devices that are away on purpose.
    away: Vec<u32>,
    schedule: Option<Schedule>,
    end_us: u64,
    draw: Draw,
}

impl Mix {
    /// A device that is there, of somebody; the active are chosen more often.
    fn somebody(&mut self, devices: &Devices) -> Option<u32> {
        for _ in 0..ASKED_MAX {
            let person = self.draw.rank(self.firsts.len() as u64) as usize;
            let all = devices.crew().devices(self.firsts[person]);
            let slot = all.start + self.draw.below(u64::from(all.end - all.start)) as u32;
            if devices.is_ready(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// One of somebody's contacts, mostly one of the first few: the slot of a first device.
    fn contact(&mut self, devices: &Devices, slot: u32) -> u32 {
        let own = devices.crew().member(slot).first;
        let contact = self.draw.rank(CONTACTS);
        let people = self.firsts.len() as u64;
        // Those who write much are also written to much.
        let person = Draw::new(mix(u64::from(own)) ^ contact).rank(people);
        let first = self.firsts[person as usize];
        if first == own { self.firsts[((person + 1) % people) as usize] } else { first }
    }

    fn write(&mut self, devices: &mut Devices, slot: u32, intended_us: u64) {
        let to = self.contact(devices, slot);
        let stream = *self.streams.entry((slot, to)).or_insert_with(|| devices.open(slot, to));
        let bytes = self.draw.log_normal(TEXT_BYTES_MEAN, TEXT_BYTES_SIGMA) as usize;
        devices.send(stream, intended_us, Text::Made(bytes.clamp(LABEL_BYTES, TEXT_BYTES_MAX) as u32));
    }

    fn open_chat(&mut self, devices: &mut Devices, slot: u32) {
        let to = self.contact(devices, slot);
        let peer = Some(devices.crew().member(to).user);
        // Somebody who scrolls faster than pages come does not ask for more of them.
        devices.fetch(slot, Fetch { peer, from: Seq::ZERO, direction: Direction::Backwards, limit: CHAT_PAGE });
    }

    fn go_away(&mut self, devices: &mut Devices, slot: u32) {
        if self.draw.below(2) == 0 {
            devices.leave(slot);
        } else {
            devices.cut(slot);
        }
        let away_us = self.draw.exponential(AWAY_US_MEAN) as u64;
        devices.connect_at(slot, devices.now_us() + away_us);
        self.away.push(slot);
    }
}

impl Script for Mix {
    fn begin(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        self.end_us = now_us + self.seconds * 1_000_000;
        let draw = Draw::new(self.draw.number());
        self.schedule = Some(Schedule::new(Spacing::Random, self.rate, 0.0, now_us, self.end_us, draw));
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        while let Some(intended_us) = self.schedule.as_mut().and_then(|schedule| schedule.due(now_us)) {
            let Some(slot) = self.somebody(devices) else { continue };
            match self.draw.below(100) {
                act if act < self.reads => self.open_chat(devices, slot),
                act if act < self.reads + self.leaves => self.go_away(devices, slot),
                _ => self.write(devices, slot, intended_us),
            }
        }
        if now_us >= self.end_us {
            // The day is over: everybody comes back to see what there is.
            for slot in self.away.drain(..) {
                if !devices.is_ready(slot) {
                    devices.connect_at(slot, now_us);
                }
            }
            return Next::Finished;
        }
        Next::At(self.schedule.as_ref().and_then(Schedule::peek).unwrap_or(self.end_us))
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        match what {
            // One in four scrolls on.
            Happened::Page { slot, fetch, page } if self.draw.below(4) == 0 => {
                if let Some(next) = fetch.following(page)
                    && devices.now_us() < self.end_us
                {
                    devices.fetch(*slot, next);
                }
            }
            Happened::Ready { slot } => self.away.retain(|away| away != slot),
            Happened::Accepted { .. }
            | Happened::Delivered { .. }
            | Happened::Page { .. }
            | Happened::Opened { .. }
            | Happened::Gone { .. } => {}
        }
    }
}
