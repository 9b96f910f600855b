//! A reconnect storm: after a calm time all connections but those that chat are cut at once, and each comes back after a random
//! part of the jitter. Latencies of the chat are told apart: calm, and from the cut until everybody is back.
//!
//! Those who chat have lanes of their own: to cut thousands of sockets keeps a thread busy, and the clock of the chat must not stand
//! still meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use proto_spec::{UserId, limits::SEND_WINDOW};

use super::{
    TEXT_BYTES,
    chat::{Pace, Talk},
};
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::{LANES_MAX, PING_AFTER_S},
    session::Happened,
    stats::Measure,
    verify::Crew,
    world::{World, share},
};

/// The part of the run before the cut and after everybody is back, and the part between.
const ERAS: &[&str] = &["calm", "storm"];

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Connections that are cut
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    connections: u64,

    /// Seconds over which they come back, each at a random moment
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=3_600))]
    jitter: u64,

    /// Seconds before the cut, and after everybody is back
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    calm: u64,

    /// Pairs of users who chat all the time and are not cut
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pairs: u64,

    /// Messages a second of the chatting users together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let chatting = if self.pairs > 0 { world.lanes_for(self.pairs * 2)? } else { 0 };
        let crowded = world.lanes_for(self.connections)?;
        anyhow::ensure!(
            chatting + crowded <= LANES_MAX,
            "so many connections and pairs do not fit in {LANES_MAX} lanes"
        );
        let storm = Arc::new(Storm { has_begun: AtomicBool::new(false), away: AtomicU64::new(self.connections) });
        let watch = || Watch { storm: Arc::clone(&storm), calm_us: self.calm * 1_000_000, phase: Phase::Before };
        let mut next_user = 0;
        let mut crew = |users| {
            let mut crew = Crew::default();
            for _ in 0..users {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            crew
        };
        let mut plans = Vec::new();
        for lane in 0..chatting {
            let pairs = share(self.pairs, lane, chatting);
            // It ends when the storm is over: the watch says when.
            let pace = Pace::Open { rate: self.rate as f64 * pairs as f64 / self.pairs as f64, seconds: 1_000_000 };
            let talk = Talk::new(pairs as u32, pace, 1, self.size, lane as f64 / chatting as f64);
            let script = Box::new(Chat { talk, watch: watch() });
            plans.push(LanePlan { crew: crew(pairs * 2), script });
        }
        for lane in 0..crowded {
            let script =
                Box::new(Crowd { watch: watch(), jitter_us: self.jitter * 1_000_000, cut_us: 0, is_away: Vec::new() });
            plans.push(LanePlan { crew: crew(share(self.connections, lane, crowded)), script });
        }
        let parameters = vec![
            ("connections", self.connections.to_string()),
            ("jitter seconds", self.jitter.to_string()),
            ("calm seconds", self.calm.to_string()),
            ("pairs", self.pairs.to_string()),
            ("messages a second", if self.pairs > 0 { self.rate } else { 0 }.to_string()),
            ("text bytes", self.size.to_string()),
        ];
        Ok(Plan {
            scenario: "storm",
            parameters,
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_secs(2 * self.calm + self.jitter)),
            login: LoginFirst::Everybody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: PING_AFTER_S,
            eras: ERAS,
            stages: None,
            notes: vec!["All are back after the longest time of `cut to welcome again`.".to_owned()],
        })
    }
}

/// What the lanes know of each other.
#[derive(Debug)]
struct Storm {
    /// The first lane has begun to cut.
    has_begun: AtomicBool,
    /// Connections that are cut, or will be, and are not back.
    away: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Before,
    Storm,
    After { end_us: u64 },
}

/// How far the storm is, as one lane sees it.
#[derive(Debug)]
struct Watch {
    storm: Arc<Storm>,
    calm_us: u64,
    phase: Phase,
}

impl Watch {
    /// Looks, and moves the lane to the era in which the storm is.
    fn look(&mut self, devices: &mut Devices) -> Phase {
        if matches!(self.phase, Phase::Before) && self.storm.has_begun.load(Ordering::Relaxed) {
            devices.stats_mut().era = 1;
            self.phase = Phase::Storm;
        }
        if matches!(self.phase, Phase::Storm) && self.storm.away.load(Ordering::Relaxed) == 0 {
            devices.stats_mut().era = 0;
            self.phase = Phase::After { end_us: devices.now_us() + self.calm_us };
        }
        self.phase
    }
}

/// A lane of those who chat all the time.
#[derive(Debug)]
struct Chat {
    talk: Talk,
    watch: Watch,
}

impl Script for Chat {
    fn begin(&mut self, devices: &mut Devices) {
        self.talk.begin(devices);
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        match self.watch.look(devices) {
            Phase::After { end_us } if devices.now_us() >= end_us => Next::Finished,
            Phase::Before | Phase::Storm | Phase::After { .. } => self.talk.drive(devices),
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.talk.happened(devices, what);
    }

    fn peer(&self, devices: &Devices, slot: u32) -> Option<UserId> {
        self.talk.peer(devices, slot)
    }
}

/// A lane of those who are cut.
#[derive(Debug)]
struct Crowd {
    watch: Watch,
    jitter_us: u64,
    /// When they are to be cut, and then when they were.
    cut_us: u64,
    /// By slot: was cut, and has not come back. Who is lost once more is not waited for again.
    is_away: Vec<bool>,
}

impl Crowd {
    fn cut_all(&mut self, devices: &mut Devices) {
        self.cut_us = devices.now_us();
        self.is_away = vec![true; devices.len()];
        for slot in 0..devices.len() as u32 {
            devices.cut(slot);
            let at_us = self.cut_us + devices.draw().below(self.jitter_us + 1);
            devices.connect_at(slot, at_us);
        }
    }
}

impl Script for Crowd {
    fn begin(&mut self, devices: &mut Devices) {
        self.cut_us = devices.now_us() + self.watch.calm_us;
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        let was_before = matches!(self.watch.phase, Phase::Before);
        if was_before && now_us >= self.cut_us {
            self.watch.storm.has_begun.store(true, Ordering::Relaxed);
        }
        match self.watch.look(devices) {
            Phase::Before => return Next::At(self.cut_us),
            // One lane began; all follow.
            Phase::Storm if was_before => self.cut_all(devices),
            Phase::After { end_us } if now_us >= end_us => return Next::Finished,
            Phase::After { end_us } => return Next::At(end_us),
            Phase::Storm => {}
        }
        Next::WhenSomethingHappens
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        if let Happened::Ready { slot } = what
            && let Some(is_away) = self.is_away.get_mut(*slot as usize)
            && std::mem::take(is_away)
        {
            self.watch.storm.away.fetch_sub(1, Ordering::Relaxed);
            let back_us = devices.now_us() - self.cut_us;
            devices.stats_mut().record(Measure::Back, back_us);
        }
    }
}
