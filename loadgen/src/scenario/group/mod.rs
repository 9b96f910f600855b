//! Groups: somebody in each creates it and adds the others one by one; then members write, and others come, go, are removed while they write,
//! and lose their connections. Pairs of users in lanes of their own write to each other meanwhile, with and without the groups in turn.
//!
//! Everything that a member is told is compared with what was sent and with what the others are told (`verify::groups`); in the end each
//! reads the groups from end to end.
//!
//! The stages: in `calm` pairs alone write, in `groups` groups do too; both come again in each round. In `returning` those who were away all
//! the time come back and are told which groups have moved, in `looking` they fetch what they lack.

mod beside;
mod lane;

use std::time::Duration;

use anyhow::ensure;
use proto_spec::{GroupId, UserId, limits::SEND_WINDOW};

use self::{beside::Beside, lane::Members};
use super::{
    TEXT_BYTES,
    chat::{Pace, Talk},
    founding::group_id,
    seconds,
};
use crate::{
    engine::{Asked, Goal, LanePlan, LoginFirst, Plan, Stages},
    limits::{LANES_MAX, PING_AFTER_S},
    stats::Count,
    verify::Crew,
    world::{World, share},
};

/// The parts of a run in which pairs write without the groups and with them.
const ERAS: &[&str] = &["without groups", "with groups"];

const EXAMPLES: &str = "\
Examples, with a server that holds nobody back (ringpost serve --config benches/unlimited.toml):
  ringpost-loadgen group --members 1000 --messages-per-s 10 --server-pid $(pgrep -o ringpost)     what a large group costs
  ringpost-loadgen group --members 1000 --pairs 100 --rate 2000 --calm 10 --rounds 3              what it costs others, in turn
  ringpost-loadgen group --groups 20 --members 100 --churn 10 --removals 5 --cuts 5               members who come, go and lose connections
  ringpost-loadgen group --members 100000 --connected 4000 --messages-per-s 1                     a channel";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Groups
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    groups: u64,

    /// Members of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    members: u64,

    /// How many members of each are connected; without it all of them
    #[arg(long, value_name = "MEMBERS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    connected: Option<u64>,

    /// Different users who are connected; without it nobody is in two groups
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    users: Option<u64>,

    /// Messages a second to all groups together
    #[arg(long, value_name = "MESSAGES", default_value_t = 10.0, value_parser = rate)]
    messages_per_s: f64,

    /// Seconds in which members write, of each round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seconds: u64,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,

    /// Members a second who leave; each is added again a second later
    #[arg(long, value_name = "MEMBERS", default_value_t = 0.0, value_parser = rate)]
    churn: f64,

    /// Members a second whom the owner removes while they write; each is added again a second later
    #[arg(long, value_name = "MEMBERS", default_value_t = 0.0, value_parser = rate)]
    removals: f64,

    /// Connections of members cut a second; each comes back a second later
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 0.0, value_parser = rate)]
    cuts: f64,

    /// Users who are away while the others write and come back in the end
    #[arg(long, value_name = "USERS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    returning: u64,

    /// Pairs of other users who write to each other
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pairs: u64,

    /// Messages a second of the pairs together
    #[arg(long, value_name = "MESSAGES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,

    /// Seconds before the groups in each round, in which only pairs write
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_600))]
    calm: u64,

    /// How often these parts come, one after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| format!("{text} is not in 0 to 10,000,000"))
}

/// When what happens, in microseconds since the load began.
#[derive(Clone, Copy, Debug)]
struct Times {
    calm_us: u64,
    groups_us: u64,
    rounds: u64,
}

/// A part of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Calm,
    /// Until when.
    Groups {
        end_us: u64,
    },
    Over,
}

impl Times {
    const fn all_us(self) -> u64 {
        (self.calm_us + self.groups_us) * self.rounds
    }

    /// Which part it is at a time, and the place of its stage.
    const fn at(self, us: u64) -> (Part, usize) {
        let round_us = self.calm_us + self.groups_us;
        let round = us / round_us;
        let stages = if self.calm_us > 0 { 2 } else { 1 };
        if round >= self.rounds {
            return (Part::Over, (self.rounds * stages) as usize);
        }
        let is_calm = us % round_us < self.calm_us;
        let part = if is_calm { Part::Calm } else { Part::Groups { end_us: (round + 1) * round_us } };
        let in_round = if is_calm { 0 } else { stages - 1 };
        (part, (round * stages + in_round) as usize)
    }

    /// Which of [`ERAS`] a part belongs to, if the run has them.
    const fn era(self, part: Part) -> usize {
        if self.calm_us == 0 || matches!(part, Part::Calm) { 0 } else { 1 }
    }
}

/// One group as it is to be made.
#[derive(Clone, Debug)]
struct Wanted {
    id: GroupId,
    /// Slots of its lane; the first one is the owner's.
    connected: Vec<u32>,
    /// Members who are never there.
    others: Vec<UserId>,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let connected = self.connected.unwrap_or(self.members);
        ensure!(connected <= self.members, "--connected {connected}: a group has {} members", self.members);
        let users = self.users.unwrap_or(self.groups * connected);
        ensure!(
            (connected..=self.groups * connected).contains(&users),
            "--users {users}: groups with {connected} connected members have that many to {}",
            self.groups * connected
        );
        // Who is in two groups is in one lane, so that its ledger has both.
        let lanes = if self.users.is_some() { 1 } else { world.lanes_for(users)?.min(self.groups as usize) };
        let in_lane = self.groups.div_ceil(lanes as u64) * connected;
        let most = world.lanes_for(in_lane.min(users)).map_or(0, |lanes| lanes);
        ensure!(
            most == 1 || world.lanes.is_some(),
            "the {users} connected users of these groups do not fit in their lanes"
        );
        ensure!(self.returning + self.groups <= users, "--returning {}: that leaves nobody to write", self.returning);
        ensure!(self.calm == 0 || self.pairs > 0, "--calm {}: only --pairs write then", self.calm);
        let chatting = if self.pairs > 0 { world.lanes_for(self.pairs * 2)? } else { 0 };
        ensure!(lanes + chatting <= LANES_MAX, "so many groups and pairs do not fit in {LANES_MAX} lanes");
        let times = Times { calm_us: self.calm * 1_000_000, groups_us: self.seconds * 1_000_000, rounds: self.rounds };
        let of_round = if self.calm > 0 { &["calm", "groups"][..] } else { &["groups"][..] };
        let names = of_round.iter().copied().cycle().take(of_round.len() * self.rounds as usize);
        let after: &[&str] = if self.returning > 0 { &["returning", "looking"] } else { &[] };
        let stages = Stages::new(names.chain(after.iter().copied()));
        let mut next_user = 0;
        let mut crew = |users| {
            let mut crew = Crew::default();
            for _ in 0..users {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            crew
        };
        let (mut plans, mut group) = (Vec::new(), 0);
        // Behind all who are connected.
        let mut next_other = users + self.pairs * 2;
        for lane in 0..lanes {
            let groups = share(self.groups, lane, lanes);
            let here = if self.users.is_some() { users } else { groups * connected };
            let part = groups as f64 / self.groups as f64;
            let mut wanted = Vec::new();
            for at in 0..groups {
                let id = group_id(world.run, group);
                group += 1;
                let first = if self.users.is_some() { at * (users / self.groups).max(1) } else { at * connected };
                let connected = (0..connected).map(|member| ((first + member) % here) as u32).collect();
                let others = (0..self.members - self.connected.unwrap_or(self.members))
                    .map(|other| world.user(next_other + other));
                wanted.push(Wanted { id, connected, others: others.collect() });
            }
            let mut arguments = self.clone();
            arguments.messages_per_s *= part;
            arguments.churn *= part;
            arguments.removals *= part;
            arguments.cuts *= part;
            arguments.returning = share(self.returning, lane, lanes);
            let script = Members::new(arguments, wanted, times, stages.clone(), world.compares_histories);
            plans.push(LanePlan { crew: crew(here), script: Box::new(script) });
        }
        next_other += self.members;
        ensure!(
            world.first_user.checked_add(next_other).is_some(),
            "--first-user leaves no room for the users that follow"
        );
        for lane in 0..chatting {
            let pairs = share(self.pairs, lane, chatting);
            let rate = self.rate as f64 * pairs as f64 / self.pairs as f64;
            let pace = Pace::Open { rate, seconds: times.all_us() / 1_000_000 };
            let talk = Talk::new(pairs as u32, pace, 1, self.size, lane as f64 / chatting as f64);
            plans.push(LanePlan { crew: crew(pairs * 2), script: Box::new(Beside::new(talk, times)) });
        }
        Ok(Plan {
            scenario: "group",
            parameters: self.parameters(connected, users),
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_micros(times.all_us())),
            login: LoginFirst::Nobody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: if self.calm == 0 && self.returning == 0 {
                Asked::Rate(Count::GroupAccepted, self.messages_per_s)
            } else {
                Asked::OwnTimes
            },
            ping_after_s: PING_AFTER_S,
            eras: if self.calm > 0 { ERAS } else { &[] },
            stages: (self.calm > 0 || self.returning > 0).then_some(stages),
            notes: Vec::new(),
        })
    }

    fn parameters(&self, connected: u64, users: u64) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("groups", self.groups.to_string()),
            ("members", self.members.to_string()),
            ("of them connected", connected.to_string()),
            ("users connected", users.to_string()),
            ("group messages a second", self.messages_per_s.to_string()),
            seconds(self.seconds),
            ("rounds", self.rounds.to_string()),
            ("text bytes", self.size.to_string()),
            ("leave a second", self.churn.to_string()),
            ("removed a second", self.removals.to_string()),
            ("cut a second", self.cuts.to_string()),
            ("returning", self.returning.to_string()),
        ];
        if self.pairs > 0 {
            parameters.extend([
                ("pairs", self.pairs.to_string()),
                ("messages a second", self.rate.to_string()),
                ("calm seconds", self.calm.to_string()),
            ]);
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_turn_and_have_their_stages() {
        let times = Times { calm_us: 2, groups_us: 3, rounds: 2 };
        let parts: Vec<_> = (0..11).map(|us| times.at(us)).collect();
        let (first, second) = (Part::Groups { end_us: 5 }, Part::Groups { end_us: 10 });
        assert_eq!(parts[..5], [(Part::Calm, 0), (Part::Calm, 0), (first, 1), (first, 1), (first, 1)]);
        assert_eq!(parts[5..8], [(Part::Calm, 2), (Part::Calm, 2), (second, 3)]);
        assert_eq!(parts[10], (Part::Over, 4));
        assert_eq!((times.era(Part::Calm), times.era(first)), (0, 1));
        let alone = Times { calm_us: 0, ..times };
        assert_eq!(
            (alone.at(0), alone.at(3), alone.at(6)),
            ((Part::Groups { end_us: 3 }, 0), (Part::Groups { end_us: 6 }, 1), (Part::Over, 2))
        );
        assert_eq!(alone.era(first), 0, "a run without calm is one");
    }
}
