//! Logins: everybody connects, as fast as the server takes them or at a rate, with a bounded number on their way; in further rounds each
//! leaves and comes back at once.

use super::idle::singles;
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    session::Happened,
    stats::Count,
    world::World,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Connections, each of a user of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    connections: u64,

    /// Times that each connects
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rounds: u64,

    /// Connections on their way to their welcome at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=4096))]
    at_once: u64,

    /// Logins a second, at most; without it as many as the server takes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let lanes = world.lanes_for(self.connections)?;
        let mut parameters = vec![
            ("connections", self.connections.to_string()),
            ("rounds", self.rounds.to_string()),
            ("at once", self.at_once.to_string()),
        ];
        parameters.extend(self.rate.map(|rate| ("logins a second", rate.to_string())));
        let script = || -> Box<dyn Script> { Box::new(Connect { rounds: self.rounds, left: Vec::new(), waiting: 0 }) };
        Ok(Plan {
            scenario: "connect",
            parameters,
            lanes: singles(world, self.connections, lanes, script),
            trace: None,
            goal: Goal::Logins(self.connections * self.rounds),
            login: LoginFirst::Nobody,
            window: 1,
            handshakes_max: Some(self.at_once as usize),
            logins_a_second: self.rate.map(|rate| rate as f64),
            asked: self.rate.map_or(Asked::AsFastAsItGoes, |rate| Asked::Rate(Count::Logins, rate as f64)),
            ping_after_s: PING_AFTER_S,
            eras: &[],
            stages: None,
            notes: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct Connect {
    rounds: u64,
    /// Logins that each slot has still to make.
    left: Vec<u64>,
    /// Slots that have any.
    waiting: usize,
}

impl Script for Connect {
    fn begin(&mut self, devices: &mut Devices) {
        self.left = vec![self.rounds; devices.len()];
        self.waiting = devices.len();
        (0..devices.len() as u32).for_each(|slot| devices.connect_at(slot, 0));
    }

    fn drive(&mut self, _devices: &mut Devices) -> Next {
        if self.waiting == 0 { Next::Finished } else { Next::WhenSomethingHappens }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        match what {
            Happened::Ready { slot } => {
                let left = &mut self.left[*slot as usize];
                *left = left.saturating_sub(1);
                match *left {
                    0 => self.waiting = self.waiting.saturating_sub(1),
                    _ => {
                        devices.leave(*slot);
                        devices.connect_at(*slot, 0);
                    }
                }
            }
            Happened::Accepted { .. }
            | Happened::Delivered { .. }
            | Happened::Page { .. }
            | Happened::Opened { .. }
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
}
