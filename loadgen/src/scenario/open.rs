//! Apps that open. People who know each other in groups write to each other first; then each opens the app at a random moment within the
//! time: connects, says hello with a current cursor and asks for the list of conversations and the newest messages of the first one at
//! once, has both, and leaves. What came is compared with what was filled in. In further rounds everybody does so again.
//!
//! Each of a group has a conversation with the same number of others, whose places in the group differ by a bit pattern (`at ^ k`): so
//! whoever one knows knows one too. All conversations get a message of either side, the first one (`k` = 1) last, and more of them.

use std::time::Duration;

use anyhow::ensure;
use proto_spec::{UserId, limits::INBOX_ROWS_MAX, limits::PAGE_ENTRIES_MAX};

use super::{TEXT_BYTES, seconds};
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::{FILL_UNDER_WAY_MAX, LANE_CONNECTIONS_MAX, PING_AFTER_S, SETTLE_US},
    session::{Happened, Screen},
    stats::Measure,
    verify::{Acquaintances, Crew, StreamId, Text, Written, text::RUN_BITS},
    world::{World, share},
};

/// The first time that everybody opens the app, and all others.
const ERAS: &[&str] = &["first round", "later rounds"];

/// Conversations of a user: a group has a power of two.
const CONVERSATIONS_MAX: i64 = 1023;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Users, each with one device. There may be a few more: all groups have the same size
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    users: u64,

    /// Conversations of each user
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=CONVERSATIONS_MAX as u64))]
    conversations: u64,

    /// Messages that each of the two has written in a first conversation; in any other one
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    messages: u64,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,

    /// How long it takes until everybody has opened the app
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seconds: u64,

    /// Times that everybody opens it; 0 only writes the messages
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=10_000))]
    rounds: u64,

    /// Write nothing: an earlier run has, with the same seed, first user, users, conversations, messages and lanes
    #[arg(long)]
    filled: bool,

    /// Conversations that the list shows
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=INBOX_ROWS_MAX))]
    rows: u64,

    /// Messages of the first conversation that are shown
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(..=PAGE_ENTRIES_MAX))]
    page: u64,

    /// Only this of it, to compare what it costs
    #[arg(long)]
    only: Option<Part>,
}

/// A part of opening the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Hello and welcome.
    Login,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let group = (self.conversations + 1).next_power_of_two();
        let groups = self.users.div_ceil(group);
        let users = groups * group;
        let lanes = world.lanes_for(users)?;
        ensure!(
            groups.div_ceil(lanes as u64) * group <= LANE_CONNECTIONS_MAX as u64,
            "lanes of {} users: --lanes {} leaves room for whole groups of {group}",
            groups.div_ceil(lanes as u64) * group,
            lanes + 1
        );
        let mut next_user = 0;
        let mut plans = Vec::new();
        for lane in 0..lanes {
            let mut crew = Crew::default();
            for _ in 0..share(groups, lane, lanes) * group {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            let fill = (!self.filled).then(Fill::default);
            let run = world.run as u32 & ((1 << RUN_BITS) - 1);
            let script = Open { wants: self.clone(), run, fill, round: 0, end_us: 0, due: Vec::new(), waiting: 0 };
            plans.push(LanePlan { crew, script: Box::new(script) });
        }
        let mut parameters = vec![
            ("users", users.to_string()),
            ("conversations a user", self.conversations.to_string()),
            ("messages of each in the first", self.messages.to_string()),
            ("text bytes", self.size.to_string()),
            seconds(self.seconds),
            ("rounds", self.rounds.to_string()),
        ];
        parameters.push(match self.only {
            Some(Part::Login) => ("shown", "nothing, hello and welcome only".to_owned()),
            None => ("shown", format!("{} conversations, {} messages", self.rows, self.page)),
        });
        let mut notes = Vec::new();
        if self.rounds > 1 && !self.filled {
            notes.push("What was measured while the messages were written is in the first round.".to_owned());
        }
        Ok(Plan {
            scenario: "open",
            parameters,
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_secs(self.seconds * self.rounds)),
            login: if self.filled { LoginFirst::Nobody } else { LoginFirst::Everybody },
            window: FILL_WINDOW,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: PING_AFTER_S,
            eras: if self.rounds > 1 { ERAS } else { &[] },
            stages: None,
            notes,
        })
    }
}

/// Sends of a device that may be in flight while the conversations are filled.
const FILL_WINDOW: u16 = 32;

/// How far the conversations are filled.
#[derive(Debug, Default)]
struct Fill {
    /// By slot, and then by acquaintance.
    streams: Vec<StreamId>,
    /// Messages written.
    written: u64,
    /// Since when all is with everybody; 0: not yet.
    settled_us: u64,
}

#[derive(Debug)]
struct Open {
    wants: Arguments,
    run: u32,
    /// While there is something to fill in.
    fill: Option<Fill>,
    /// Rounds that have begun.
    round: u64,
    /// When this round ends.
    end_us: u64,
    /// By slot: when its app is opened, in this round; none once it has been.
    due: Vec<Option<u64>>,
    /// Slots whose apps are to be opened or opening.
    waiting: usize,
}

impl Open {
    const fn screen(&self) -> Screen {
        Screen { rows: self.wants.rows, messages: self.wants.page }
    }

    /// Writes as much as may be under way; true when all is with everybody.
    fn fill(&self, devices: &mut Devices, fill: &mut Fill) -> bool {
        let (users, conversations) = (devices.len() as u64, self.wants.conversations);
        if fill.streams.is_empty() {
            if let Some(slot) = (0..users as u32).find(|slot| devices.start(*slot).0 > 0) {
                let user = devices.crew().member(slot).user;
                devices.give_up(format!("user {user} has a log: take other users with --first-user, or say --filled"));
                return false;
            }
            let pairs = (0..users as u32).flat_map(|slot| (1..=conversations as u32).map(move |k| (slot, slot ^ k)));
            fill.streams = pairs.map(|(from, to)| devices.open(from, to)).collect();
        }
        // One of each to all but the first acquaintance; when these are with everybody, those to the first one.
        let others = users * (conversations - 1);
        let all = others + users * self.wants.messages;
        while fill.written < all
            && devices.under_way() < FILL_UNDER_WAY_MAX
            && (fill.written != others || devices.under_way() == 0)
        {
            let (nth, slot) = (fill.written / users, fill.written % users);
            let acquaintance = if fill.written < others { nth + 1 } else { 0 };
            let stream = fill.streams[(slot * conversations + acquaintance) as usize];
            devices.send(stream, devices.now_us(), Written::text(Text::Made(self.wants.size)));
            fill.written += 1;
        }
        fill.written == all && devices.under_way() == 0
    }

    fn begin_round(&mut self, devices: &mut Devices) {
        let length_us = self.wants.seconds * 1_000_000;
        let now_us = devices.now_us();
        devices.stats_mut().era = usize::from(self.round > 0);
        (self.round, self.end_us) = (self.round + 1, now_us + length_us);
        self.waiting = devices.len();
        self.due.clear();
        for slot in 0..devices.len() as u32 {
            let at_us = now_us + devices.draw().below(length_us);
            self.due.push(Some(at_us));
            if self.wants.only.is_none() {
                devices.will_open(slot, self.screen());
            }
            devices.connect_at(slot, at_us);
        }
    }

    /// An app has all that it wanted.
    fn is_open(&mut self, devices: &mut Devices, slot: u32) {
        // Who is lost after that comes back by itself, and is not waited for.
        if let Some(due_us) = self.due.get_mut(slot as usize).and_then(Option::take) {
            let since_us = devices.now_us().saturating_sub(due_us);
            devices.stats_mut().record(Measure::Opened, since_us);
            self.waiting -= 1;
        }
        devices.leave(slot);
    }

    fn acquaintances(&self, devices: &Devices, slot: u32) -> Acquaintances {
        let peer = |k| -> UserId { devices.crew().member(slot ^ k).user };
        let peers = (1..=self.wants.conversations as u32).map(peer).collect();
        Acquaintances { run: self.run, first: self.wants.messages, peers }
    }
}

impl Script for Open {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        let Some(mut fill) = self.fill.take() else { return devices.is_closed() };
        if !self.fill(devices, &mut fill) {
            fill.settled_us = 0;
        } else if fill.settled_us == 0 {
            fill.settled_us = devices.now_us().max(1);
        } else if devices.now_us() > fill.settled_us + SETTLE_US {
            (0..devices.len() as u32).for_each(|slot| devices.leave(slot));
            return false;
        }
        self.fill = Some(fill);
        false
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        if self.waiting > 0 {
            return Next::WhenSomethingHappens;
        }
        match (self.round == self.wants.rounds, devices.now_us() >= self.end_us) {
            (true, _) => Next::Finished,
            (false, false) => Next::At(self.end_us),
            (false, true) => {
                self.begin_round(devices);
                Next::WhenSomethingHappens
            }
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        match what {
            Happened::Ready { slot } if self.wants.only.is_some() && self.round > 0 => self.is_open(devices, *slot),
            Happened::Opened { slot, opened } => {
                if let Err(words) = self.acquaintances(devices, *slot).check(self.screen(), opened) {
                    let user = devices.crew().member(*slot).user;
                    devices.ledger().faults.add(format!("the app of user {user} opened, and {words}"));
                }
                self.is_open(devices, *slot);
            }
            Happened::Ready { .. }
            | Happened::Accepted { .. }
            | Happened::Delivered { .. }
            | Happened::Page { .. }
            | Happened::Inbox { .. }
            | Happened::Marked { .. }
            | Happened::Presence { .. }
            | Happened::GroupPage { .. }
            | Happened::Groups { .. }
            | Happened::Typing { .. }
            | Happened::Left { .. }
            | Happened::Gone { .. } => {}
        }
    }

    fn wants_read_back(&self) -> bool {
        false
    }
}
