//! Pairs of users write to each other. Closed loop: a user has at most `window` messages without an answer and sends the next one when
//! one is accepted; so the rate is what the server gives, and latencies under overload flatter. That measures capacity. Open loop
//! (`--rate`): messages leave when they should, whatever the server does, and latencies count from then. That measures what people wait.

use std::time::Duration;

use proto_spec::{UserId, limits::SEND_WINDOW};

use super::{TEXT_BYTES, seconds};
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    schedule::{Schedule, Spacing},
    session::Happened,
    stats::Count,
    verify::{Crew, StreamId, Text, Written},
    world::{World, share},
};

/// How long an open loop runs if nothing else is said, in seconds.
const OPEN_LOOP_SECONDS: u64 = 10;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Pairs of users; each user is one connection
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pairs: u64,

    /// Further connections that only stay
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    connections: u64,

    /// Messages of one user that may wait for their answer
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256), conflicts_with = "rate")]
    window: u64,

    /// Messages that each user sends
    #[arg(long, default_value_t = 1_000, conflicts_with_all = ["seconds", "rate"])]
    messages: u64,

    /// Send for this long instead of a number of messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: Option<u64>,

    /// Messages a second of all users together, sent when they should be, however slow the server is
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let lanes = world.lanes_for(self.pairs * 2 + self.connections)?;
        let pace = match (self.rate, self.seconds) {
            (Some(rate), seconds) => Pace::Open { rate: rate as f64, seconds: seconds.unwrap_or(OPEN_LOOP_SECONDS) },
            (None, Some(seconds)) => Pace::ClosedFor { seconds },
            (None, None) => Pace::ClosedCount { messages: self.messages },
        };
        let mut next_user = 0;
        let mut plans = Vec::new();
        for lane in 0..lanes {
            let (pairs, idle) = (share(self.pairs, lane, lanes), share(self.connections, lane, lanes));
            let mut crew = Crew::default();
            for _ in 0..pairs * 2 + idle {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            let pace = pace.part(pairs as f64 / self.pairs as f64);
            let part = lane as f64 / lanes as f64;
            let talk = Talk::new(pairs as u32, pace, self.window, self.size, part);
            plans.push(LanePlan { crew, script: Box::new(talk) });
        }
        let mut parameters = vec![("pairs", self.pairs.to_string())];
        match pace {
            Pace::Open { rate, seconds: length } => {
                parameters.extend([("messages a second", rate.to_string()), seconds(length)]);
            }
            Pace::ClosedFor { seconds: length } => {
                parameters.extend([("window", self.window.to_string()), seconds(length)]);
            }
            Pace::ClosedCount { messages } => {
                parameters.extend([("window", self.window.to_string()), ("messages a user", messages.to_string())]);
            }
        }
        parameters.push(("text bytes", self.size.to_string()));
        if self.connections > 0 {
            parameters.push(("idle connections", self.connections.to_string()));
        }
        Ok(Plan {
            scenario: "chat",
            parameters,
            lanes: plans,
            trace: None,
            goal: pace.goal(self.pairs * 2),
            login: LoginFirst::Everybody,
            window: if self.rate.is_some() { SEND_WINDOW as u16 } else { self.window as u16 },
            handshakes_max: None,
            logins_a_second: None,
            asked: match pace {
                Pace::Open { rate, .. } => Asked::Rate(Count::Accepted, rate),
                Pace::ClosedFor { .. } | Pace::ClosedCount { .. } => Asked::AsFastAsItGoes,
            },
            ping_after_s: PING_AFTER_S,
            eras: &[],
            stages: None,
            notes: Vec::new(),
        })
    }
}

/// When users send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// When one is accepted, until everybody has sent so many.
    ClosedCount { messages: u64 },
    /// When one is accepted, until the time is over.
    ClosedFor { seconds: u64 },
    /// At their times.
    Open { rate: f64, seconds: u64 },
}

impl Pace {
    /// For this part of the users.
    pub(super) fn part(self, part: f64) -> Self {
        match self {
            Self::Open { rate, seconds } => Self::Open { rate: rate * part, seconds },
            closed => closed,
        }
    }

    fn goal(self, users: u64) -> Goal {
        match self {
            Self::ClosedCount { messages } => Goal::Messages(messages * users),
            Self::ClosedFor { seconds } | Self::Open { seconds, .. } => Goal::Time(Duration::from_secs(seconds)),
        }
    }
}

/// Slots 0 and 1 write to each other, 2 and 3, and so on.
#[derive(Debug)]
pub(super) struct Talk {
    users: u32,
    pace: Pace,
    window: u64,
    text: Text,
    /// Of this lane's schedule within a gap.
    part: f64,
    /// By slot.
    streams: Vec<StreamId>,
    /// Messages that each slot may still begin.
    left: Vec<u64>,
    schedule: Option<Schedule>,
    end_us: u64,
    is_over: bool,
}

impl Talk {
    pub(super) fn new(pairs: u32, pace: Pace, window: u64, size: u32, part: f64) -> Self {
        let (streams, left) = (Vec::new(), Vec::new());
        let text = Text::Made(size);
        Self { users: pairs * 2, pace, window, text, part, streams, left, schedule: None, end_us: 0, is_over: false }
    }

    /// Whether a device takes part.
    pub(super) const fn is_talking(&self, slot: u32) -> bool {
        slot < self.users
    }

    fn send(&mut self, devices: &mut Devices, slot: u32, intended_us: u64) {
        if self.left[slot as usize] > 0 {
            self.left[slot as usize] -= 1;
            devices.send(self.streams[slot as usize], intended_us, Written::text(self.text));
        }
    }
}

impl Script for Talk {
    fn begin(&mut self, devices: &mut Devices) {
        self.streams = (0..self.users).map(|slot| devices.open(slot, slot ^ 1)).collect();
        let now_us = devices.now_us();
        let messages = match self.pace {
            Pace::ClosedCount { messages } => messages,
            Pace::ClosedFor { seconds } => {
                self.end_us = now_us + seconds * 1_000_000;
                u64::MAX
            }
            Pace::Open { rate, seconds } => {
                self.end_us = now_us + seconds * 1_000_000;
                let draw = devices.draw().clone();
                self.schedule = Some(Schedule::new(Spacing::Even, rate, self.part, now_us, self.end_us, draw));
                u64::MAX
            }
        };
        self.left = vec![messages; self.users as usize];
        if self.schedule.is_none() {
            for slot in 0..self.users {
                (0..self.window).for_each(|_| self.send(devices, slot, now_us));
            }
        }
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        while self.users > 0
            && let Some(intended_us) = self.schedule.as_mut().and_then(|schedule| schedule.due(now_us))
        {
            let slot = devices.draw().below(self.users.into()) as u32;
            self.send(devices, slot, intended_us);
        }
        self.is_over = match self.pace {
            Pace::ClosedCount { .. } => self.left.iter().all(|left| *left == 0) && devices.under_way() == 0,
            Pace::ClosedFor { .. } | Pace::Open { .. } => now_us >= self.end_us,
        };
        match (self.is_over, self.pace, &self.schedule) {
            (true, ..) => Next::Finished,
            (_, Pace::ClosedCount { .. }, _) => Next::WhenSomethingHappens,
            (_, _, Some(schedule)) => Next::At(schedule.peek().unwrap_or(self.end_us)),
            (_, _, None) => Next::At(self.end_us),
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        if let Happened::Accepted { slot, .. } = what
            && self.schedule.is_none()
            && !self.is_over
            && self.is_talking(*slot)
        {
            self.send(devices, *slot, devices.now_us());
        }
    }

    fn peer(&self, devices: &Devices, slot: u32) -> Option<UserId> {
        self.is_talking(slot).then(|| devices.crew().member(slot ^ 1).user)
    }
}
