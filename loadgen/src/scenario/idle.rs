//! Connections that do nothing but stay: what a connection costs, and whether the server keeps all of them. Each pings when it has heard nothing
//! for a while, and every ping must have its pong.

use std::time::Duration;

use super::seconds;
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    verify::Crew,
    world::{World, share},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Connections, each of a user of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    connections: u64,

    /// How long they stay once all are there
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,

    /// Silence after which a connection pings
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    ping_after: u32,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let lanes = world.lanes_for(self.connections)?;
        let parameters = vec![
            ("connections", self.connections.to_string()),
            seconds(self.seconds),
            ("ping after seconds", self.ping_after.to_string()),
        ];
        Ok(Plan {
            scenario: "idle",
            parameters,
            lanes: singles(world, self.connections, lanes, || Box::new(Stay { seconds: self.seconds, end_us: 0 })),
            trace: None,
            goal: Goal::Time(Duration::from_secs(self.seconds)),
            login: LoginFirst::Everybody,
            window: 1,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: self.ping_after,
            eras: &[],
            stages: None,
            notes: Vec::new(),
        })
    }
}

/// Lanes of users with one device each.
pub(super) fn singles(
    world: &World,
    connections: u64,
    lanes: usize,
    script: impl Fn() -> Box<dyn Script>,
) -> Vec<LanePlan> {
    let mut next_user = 0;
    let plan = |lane| {
        let mut crew = Crew::default();
        for _ in 0..share(connections, lane, lanes) {
            crew.add(world.user(next_user), 1);
            next_user += 1;
        }
        LanePlan { crew, script: script() }
    };
    (0..lanes).map(plan).collect()
}

#[derive(Debug)]
struct Stay {
    seconds: u64,
    end_us: u64,
}

impl Script for Stay {
    fn begin(&mut self, devices: &mut Devices) {
        self.end_us = devices.now_us() + self.seconds * 1_000_000;
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        if devices.now_us() >= self.end_us { Next::Finished } else { Next::At(self.end_us) }
    }
}
