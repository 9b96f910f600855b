//! A day in small. People with one to three devices write to their contacts, mostly to the same few; open chats and read; answer, edit, react
//! and delete; leave and come back, with a word or without; and some watch who is there (`glances`). An open loop at a rate of acts, at random
//! moments, of which most are messages. If there are to be groups, their members write, answer, edit, react, take back and type there too,
//! and each device must have all of it.

use std::{collections::HashMap, time::Duration};

use anyhow::ensure;
use proto_spec::{
    GroupId, UserId,
    limits::{SEND_WINDOW, TEXT_BYTES_MAX},
};

use super::{
    acts::{ASKED_MAX, Act, Acts, People, Shares},
    founding::{announce, create, group_id},
    glances::{Glances, Glancing},
    seconds,
    settle::Settle,
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
        groups::Said,
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

    /// Groups in which people write too
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000))]
    groups: u64,

    /// Members of each group
    #[arg(long, value_name = "PEOPLE", default_value_t = 20, requires = "groups", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    group_members: u64,

    /// Of 100 messages, answers, changes and times that somebody types, how many are in a group, if there are groups
    #[arg(long, value_name = "PERCENT", default_value_t = 20, requires = "groups", value_parser = clap::value_parser!(u64).range(..=100))]
    group_share: u64,

    #[command(flatten)]
    shares: Shares,

    #[command(flatten)]
    glancing: Glancing,
}

impl Arguments {
    /// The groups of a lane that has these people, of whom each is given by the slot of the first device.
    fn circles(&self, world: &World, firsts: &[u32], groups: std::ops::Range<u64>) -> anyhow::Result<Vec<Circle>> {
        let (people, members) = (firsts.len() as u64, self.group_members);
        ensure!(
            groups.is_empty() || members <= people,
            "--group-members {members}: only {people} people are together in one lane; take more --users or fewer --lanes"
        );
        let circle = |group: u64| {
            // Neighbours, from anybody on. So some are in several groups, and some in none.
            let first = mix(!world.run ^ mix(group)) % people;
            let members = (first..first + members).map(|at| firsts[(at % people) as usize]);
            Circle { id: group_id(world.run, group), place: 0, members: members.collect() }
        };
        Ok(groups.map(circle).collect())
    }

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
        let groups = self.groups;
        ensure!(
            groups == 0 || groups >= lanes as u64,
            "--groups {groups}: the people are in {lanes} lanes, each of which needs one; take more groups or fewer --lanes"
        );
        let (mut next_user, mut next_group) = (0, 0);
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
            let first_group = next_group;
            next_group += share(groups, lane, lanes);
            let circles = self.circles(world, &firsts, first_group..next_group)?;
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
                circles,
                group_share: self.group_share,
                is_founded: false,
                compares: world.compares_histories,
                settle: Settle::default(),
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
        if groups > 0 {
            parameters.push(("groups", groups.to_string()));
            parameters.push(("members of each", self.group_members.to_string()));
            parameters.push(("in groups, % of messages and changes", self.group_share.to_string()));
        }
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

/// A group and its people.
#[derive(Debug)]
struct Circle {
    id: GroupId,
    /// Among the groups of the ledger.
    place: u32,
    /// The slots of their first devices; the first one is the owner's.
    members: Vec<u32>,
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
    circles: Vec<Circle>,
    /// Of 100 things that can be done in a group, how many are.
    group_share: u64,
    /// What makes them was sent.
    is_founded: bool,
    compares: bool,
    settle: Settle,
    draw: Draw,
}

impl Mix {
    /// A device that is there, of somebody; the active are chosen more often.
    fn somebody(&mut self, devices: &Devices) -> Option<u32> {
        somebody_of(&self.firsts, devices, &mut self.draw)
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
        let text = self.text();
        devices.send(stream, intended_us, Written { text, answers });
    }

    fn text(&mut self) -> Text {
        let bytes = self.draw.log_normal(TEXT_BYTES_MEAN, TEXT_BYTES_SIGMA) as usize;
        Text::Made(bytes.clamp(LABEL_BYTES, TEXT_BYTES_MAX - BESIDE_BYTES) as u32)
    }

    /// Whether what is done next is done in a group, if it can be done there. Without groups nothing is drawn.
    fn is_for_group(&mut self, act: Act) -> bool {
        let can_be = matches!(act, Act::Write | Act::Reply) || act.is_change();
        can_be && is_in_group(&self.circles, self.group_share, &mut self.draw)
    }

    /// Somebody who is there does something in a group.
    fn act_in_group(&mut self, devices: &mut Devices, act: Act, intended_us: u64) {
        let Some((slot, circle)) = some_member(&self.circles, devices, &mut self.draw) else { return };
        let group = circle.place;
        if act.is_change() {
            return self.people.change_in_group(devices, act, slot, group);
        }
        let text = self.text();
        let answered = (act == Act::Reply).then(|| self.people.answerable_in_group(devices, slot, group)).flatten();
        let said = answered.map_or(Said::Message(text), |message| Said::Reply(text, message));
        devices.send_to_group(slot, group, said, intended_us);
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

/// Of 100 things that can be done in a group, so many are.
fn is_in_group(circles: &[Circle], share: u64, draw: &mut Draw) -> bool {
    !circles.is_empty() && draw.below(100) < share
}

/// A device that is there of a member of a group, and that group; the first of both are chosen more often.
fn some_member<'a>(circles: &'a [Circle], devices: &Devices, draw: &mut Draw) -> Option<(u32, &'a Circle)> {
    let circle = &circles[draw.rank(circles.len() as u64) as usize];
    somebody_of(&circle.members, devices, draw).map(|slot| (slot, circle))
}

/// A device that is there, of one of these people, each given by the slot of the first device; those in front are chosen more often.
fn somebody_of(firsts: &[u32], devices: &Devices, draw: &mut Draw) -> Option<u32> {
    for _ in 0..ASKED_MAX {
        let person = draw.rank(firsts.len() as u64) as usize;
        let all = devices.crew().devices(firsts[person]);
        let slot = all.start + draw.below(u64::from(all.end - all.start)) as u32;
        if devices.is_ready(slot) {
            return Some(slot);
        }
    }
    None
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
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        if !std::mem::replace(&mut self.is_founded, true) {
            for Circle { id, place, members } in &mut self.circles {
                let seats: Vec<u32> = members.iter().map(|slot| devices.seat(*slot)).collect();
                *place = announce(&mut devices.ledger(), *id, seats);
                let others: Vec<UserId> = members[1..].iter().map(|slot| devices.crew().member(*slot).user).collect();
                create(devices, members[0], *place, others);
            }
        }
        devices.under_way() == 0
    }

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
                act if self.is_for_group(act) => self.act_in_group(devices, act, intended_us),
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
        let (circles, share) = (&self.circles[..], self.group_share);
        let types_in_group = |devices: &Devices, draw: &mut Draw| {
            let found = is_in_group(circles, share, draw).then(|| some_member(circles, devices, draw)).flatten();
            found.map(|(slot, circle)| (slot, circle.id))
        };
        let glance_us = self.glances.as_mut().map(|glances| glances.drive(devices, types_in_group));
        if now_us >= self.end_us {
            self.people.come_back(devices);
            return Next::Finished;
        }
        let act_us = self.schedule.as_ref().and_then(Schedule::peek).unwrap_or(self.end_us);
        Next::At(glance_us.map_or(act_us, |at_us| at_us.min(act_us)))
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        if let Happened::GroupPage { slot, fetch, page } = what {
            self.settle.take(devices, *slot, fetch, page);
        }
        self.people.happened(devices, what);
        if let Some(glances) = &mut self.glances {
            glances.happened(devices, what);
        }
    }

    fn settle(&mut self, devices: &mut Devices) -> bool {
        let circles = if self.compares { &self.circles[..] } else { &[] };
        let are_read = self.settle.drive(devices, |devices| {
            let of = |circle: &Circle| circle.members.iter().map(|first| (circle.id, *first)).collect::<Vec<_>>();
            let members = circles.iter().flat_map(of);
            members.flat_map(|(id, first)| devices.crew().devices(first).map(move |slot| (slot, id))).collect()
        });
        self.glances.as_mut().is_none_or(|glances| glances.settle(devices)) && are_read
    }
}
