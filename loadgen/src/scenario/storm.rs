//! A reconnect storm: after a calm time all connections but those that chat are cut at once, and each comes back after a random
//! part of the jitter. Latencies of the chat are told apart: calm, and from the cut until everybody is back.

use std::time::Duration;

use proto_spec::{UserId, limits::SEND_WINDOW};

use super::{
    TEXT_BYTES,
    chat::{Pace, Talk},
};
use crate::{
    devices::Devices,
    engine::{Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    session::Happened,
    stats::Measure,
    verify::Crew,
    world::{World, share},
};

/// The part of the run before the cut and after everybody is back, and the part between.
const ERAS: [&str; 2] = ["calm", "storm"];

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
        let lanes = world.lanes_for(self.pairs * 2 + self.connections)?;
        let mut next_user = 0;
        let mut plans = Vec::new();
        for lane in 0..lanes {
            let pairs = share(self.pairs, lane, lanes);
            let mut crew = Crew::default();
            for _ in 0..pairs * 2 + share(self.connections, lane, lanes) {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            let rate = self.rate as f64 * pairs as f64 / self.pairs.max(1) as f64;
            // It ends when the storm is over: the script says when.
            let pace = Pace::Open { rate, seconds: 1_000_000 };
            let talk = Talk::new(pairs as u32, pace, 1, self.size, lane as f64 / lanes as f64);
            let (calm_us, jitter_us) = (self.calm * 1_000_000, self.jitter * 1_000_000);
            let storm = Storm { talk, calm_us, jitter_us, away: 0, phase: Phase::Before { cut_us: 0 } };
            plans.push(LanePlan { crew, script: Box::new(storm), lines: None });
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
            goal: Goal::Time(Duration::from_secs(2 * self.calm + self.jitter)),
            login: LoginFirst::Everybody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            ping_after_s: PING_AFTER_S,
            eras: Some(ERAS),
            notes: vec!["All are back after the longest time of `cut to welcome again`.".to_owned()],
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Before { cut_us: u64 },
    Storm { cut_us: u64 },
    After { end_us: u64 },
}

#[derive(Debug)]
struct Storm {
    talk: Talk,
    calm_us: u64,
    jitter_us: u64,
    /// Who were cut and are not back.
    away: u64,
    phase: Phase,
}

impl Storm {
    fn cut_all(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        for slot in 0..devices.len() as u32 {
            if !self.talk.is_talking(slot) {
                devices.cut(slot);
                let at_us = now_us + devices.draw().below(self.jitter_us + 1);
                devices.connect_at(slot, at_us);
                self.away += 1;
            }
        }
        devices.stats_mut().era = 1;
        self.phase = Phase::Storm { cut_us: now_us };
    }
}

impl Script for Storm {
    fn begin(&mut self, devices: &mut Devices) {
        self.talk.begin(devices);
        self.phase = Phase::Before { cut_us: devices.now_us() + self.calm_us };
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        match self.phase {
            Phase::Before { cut_us } if now_us >= cut_us => self.cut_all(devices),
            Phase::Storm { .. } if self.away == 0 => {
                devices.stats_mut().era = 0;
                self.phase = Phase::After { end_us: now_us + self.calm_us };
            }
            Phase::After { end_us } if now_us >= end_us => return Next::Finished,
            Phase::Before { .. } | Phase::Storm { .. } | Phase::After { .. } => {}
        }
        let own = match self.phase {
            Phase::Before { cut_us: at_us } | Phase::After { end_us: at_us } => at_us,
            Phase::Storm { .. } => u64::MAX,
        };
        match self.talk.drive(devices) {
            Next::At(at_us) => Next::At(at_us.min(own)),
            Next::WhenSomethingHappens | Next::Finished => Next::At(own),
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        if let (Happened::Ready { slot }, Phase::Storm { cut_us }) = (what, self.phase)
            && !self.talk.is_talking(*slot)
        {
            self.away = self.away.saturating_sub(1);
            let back_us = devices.now_us() - cut_us;
            devices.stats_mut().record(Measure::Back, back_us);
        }
        self.talk.happened(devices, what);
    }

    fn peer(&self, devices: &Devices, slot: u32) -> Option<UserId> {
        self.talk.peer(devices, slot)
    }
}
