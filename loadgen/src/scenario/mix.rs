//! A day in small. People with one to three devices write to their contacts, mostly to the same few; open chats and read; answer, edit, react
//! and delete; leave and come back, with a word or without; and some watch who is there (`glances`). An open loop at a rate of acts, at random
//! moments, of which most are messages.

use std::{collections::HashMap, time::Duration};

use proto_spec::{limits::SEND_WINDOW, limits::TEXT_BYTES_MAX};

use super::{
    acts::{ASKED_MAX, Act, Acts, People, Shares},
    glances::{Glances, Glancing},
    seconds,
};
use crate::{
    devices::Devices,
    draw::{Draw, mix},
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    schedule::{Schedule, Spacing},
    session::Happened,
    verify::{
        Answered, Crew, StreamId, Text, Written,
        text::{BESIDE_BYTES, LABEL_BYTES},
    },
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

    #[command(flatten)]
    shares: Shares,

    #[command(flatten)]
    glancing: Glancing,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let acts = self.shares.of_a_day()?;
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
            let first_user = world.user(next_user);
            for _ in 0..people {
                firsts.push(crew.add(world.user(next_user), devices_of(next_user)));
                next_user += 1;
            }
            let mut draw = Draw::new(mix(world.run) ^ lane as u64);
            let script = Mix {
                rate: self.rate as f64 * people as f64 / self.users as f64,
                seconds: self.seconds,
                acts,
                people: People::new(first_user, firsts.clone(), Draw::new(draw.number())),
                firsts,
                streams: HashMap::new(),
                schedule: None,
                end_us: 0,
                glances: Glances::new(&self.glancing, Draw::new(mix(!world.run) ^ lane as u64)),
                draw,
            };
            plans.push(LanePlan { crew, script: Box::new(script) });
        }
        let mut parameters = vec![
            ("users", self.users.to_string()),
            ("devices", connections.to_string()),
            ("acts a second", self.rate.to_string()),
            seconds(self.seconds),
        ];
        parameters.extend(acts.parameters());
        parameters.push(("watching, % of the people", self.glancing.watching.to_string()));
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
            eras: &[],
            stages: None,
            notes,
        })
    }
}

#[derive(Debug)]
struct Mix {
    rate: f64,
    seconds: u64,
    acts: Acts,
    people: People,
    /// By person: the slot of the first device.
    firsts: Vec<u32>,
    /// By sending device and the first device of the recipient.
    streams: HashMap<(u32, u32), StreamId>,
    schedule: Option<Schedule>,
    end_us: u64,
    /// What is done about who is there, if anything.
    glances: Option<Glances>,
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
        let contact = self.draw.rank(CONTACTS);
        contact_of(&self.firsts, devices, slot, contact)
    }

    fn write(&mut self, devices: &mut Devices, slot: u32, to: u32, intended_us: u64, answers: Option<Box<Answered>>) {
        if let Some(glances) = &mut self.glances {
            glances.write(devices, slot, to);
        }
        let stream = *self.streams.entry((slot, to)).or_insert_with(|| devices.open(slot, to));
        let bytes = self.draw.log_normal(TEXT_BYTES_MEAN, TEXT_BYTES_SIGMA) as usize;
        let text = Text::Made(bytes.clamp(LABEL_BYTES, TEXT_BYTES_MAX - BESIDE_BYTES) as u32);
        devices.send(stream, intended_us, Written { text, answers });
    }

    /// A message that answers another one; to somebody else if there is none.
    fn reply(&mut self, devices: &mut Devices, slot: u32, intended_us: u64) {
        let found = self.people.answerable(devices).and_then(|(kept, slot, other)| {
            let answered = devices.ledger().answered(kept, devices.seat(slot))?;
            Some((slot, other, answered))
        });
        match found {
            Some((slot, other, answered)) => self.write(devices, slot, other, intended_us, Some(Box::new(answered))),
            None => {
                let to = self.contact(devices, slot);
                self.write(devices, slot, to, intended_us, None);
            }
        }
    }
}

/// The slot of the first device of one of somebody's contacts.
fn contact_of(firsts: &[u32], devices: &Devices, slot: u32, contact: u64) -> u32 {
    let own = devices.crew().member(slot).first;
    let people = firsts.len() as u64;
    // Those who write much are also written to much.
    let person = Draw::new(mix(u64::from(own)) ^ contact).rank(people);
    let first = firsts[person as usize];
    if first == own { firsts[((person + 1) % people) as usize] } else { first }
}

impl Script for Mix {
    fn begin(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        self.end_us = now_us + self.seconds * 1_000_000;
        self.people.end_at(self.end_us);
        devices.ledger().change_messages();
        let draw = Draw::new(self.draw.number());
        self.schedule = Some(Schedule::new(Spacing::Random, self.rate, 0.0, now_us, self.end_us, draw));
        if let Some(glances) = &mut self.glances {
            let firsts = &self.firsts;
            glances.begin(devices, (self.rate, self.end_us), |devices, slot| {
                (0..CONTACTS).map(|contact| contact_of(firsts, devices, slot, contact)).collect()
            });
        }
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        while let Some(intended_us) = self.schedule.as_mut().and_then(|schedule| schedule.due(now_us)) {
            let Some(slot) = self.somebody(devices) else { continue };
            match self.acts.draw(&mut self.draw) {
                Act::Write => {
                    let to = self.contact(devices, slot);
                    self.write(devices, slot, to, intended_us, None);
                }
                Act::Reply => self.reply(devices, slot, intended_us),
                act => {
                    let peer = self.contact(devices, slot);
                    self.people.act(devices, act, slot, peer);
                }
            }
        }
        let glance_us = self.glances.as_mut().map(|glances| glances.drive(devices));
        if now_us >= self.end_us {
            self.people.come_back(devices);
            return Next::Finished;
        }
        let act_us = self.schedule.as_ref().and_then(Schedule::peek).unwrap_or(self.end_us);
        Next::At(glance_us.map_or(act_us, |at_us| at_us.min(act_us)))
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.people.happened(devices, what);
        if let Some(glances) = &mut self.glances {
            glances.happened(devices, what);
        }
    }

    fn settle(&mut self, devices: &mut Devices) -> bool {
        self.glances.as_mut().is_none_or(|glances| glances.settle(devices))
    }
}
