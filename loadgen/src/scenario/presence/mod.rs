//! Who is there: users who know each other in groups watch each other, come and go, look away and back, hide, block, type and scroll,
//! first nobody and then all of them, and in the end a part of them is cut at once and comes back. Pairs of users in a lane of their own
//! write to each other with and without that. Everything that a device is told is compared with what it may know and with what is so.
//!
//! The stages: in `calm` nobody watches, though people come, go and look away as they do later; in `watching` all begin to watch, and nothing
//! changes; in `changes` much does; in `ending` nobody watches any more, and another round of these begins; `quiet` is as long as it takes until everybody must have been told everything; in `storm` a crowd is cut and comes back, of which nobody may be told.

mod chatting;
mod flapping;
mod watching;

use std::time::Duration;

use anyhow::ensure;
use proto_spec::limits::{SEND_WINDOW, WATCHED_MAX};

use self::{chatting::Chat, watching::Watching};
use super::{
    TEXT_BYTES,
    chat::{Pace, Talk},
    seconds,
};
use crate::{
    engine::{Asked, Goal, LanePlan, LoginFirst, Plan, Stages},
    limits::{LANE_CONNECTIONS_MAX, LANES_MAX, PING_AFTER_S},
    verify::{Crew, presence::Patience},
    world::{World, share},
};

/// The parts of the run: nobody watches; all begin to, or end it; they do.
const ERAS: &[&str] = &["without", "while all begin or end", "with presence"];

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Calm,
    Watching,
    Changes,
    Ending,
    Quiet,
    Storm,
}

impl Stage {
    /// Those that come again in each round.
    const ROUND: [Self; 4] = [Self::Calm, Self::Watching, Self::Changes, Self::Ending];

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Watching => "watching",
            Self::Changes => "changes",
            Self::Ending => "ending",
            Self::Quiet => "quiet",
            Self::Storm => "storm",
        }
    }

    /// Which of [`ERAS`] it belongs to.
    const fn era(self) -> usize {
        match self {
            Self::Calm => 0,
            Self::Watching | Self::Ending => 1,
            Self::Changes | Self::Quiet | Self::Storm => 2,
        }
    }

    /// All of a run, one after the other: the last round ends with [`Self::Quiet`].
    fn all(rounds: u64) -> impl Iterator<Item = Self> + Clone {
        let of_rounds = Self::ROUND.len() * rounds as usize - 1;
        Self::ROUND.into_iter().cycle().take(of_rounds).chain([Self::Quiet, Self::Storm])
    }
}

/// So long it takes until nobody watches any more, in seconds.
const ENDING_S: u64 = 3;

/// Users whom each device watches beside its acquaintances: one whom many do, and strangers of whom nothing may be told.
const WATCHED_BESIDE: usize = 4;

const CONTACTS_MAX: u64 = (WATCHED_MAX - WATCHED_BESIDE) as u64;

const EXAMPLES: &str = "\
Examples, with a server that holds nobody back (ringpost serve --config benches/unlimited.toml):
  ringpost-loadgen presence --users 5000 --server-pid $(pgrep -o ringpost)      what watching, changes and a storm cost
  ringpost-loadgen presence --messages-per-s 5000 --pairs 200 --rounds 5        messages without presence and with it, in turn
  ringpost-loadgen presence --users 10000 --popular 9000 --storm 9000           one whom everybody watches, and a crowd
  ringpost-loadgen presence --hold-ms 500 --grace-ms 2000 --tick-ms 200         a server whose [presence] says so";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Users, each with one device. There may be a few more: all groups have the same size
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    users: u64,

    /// Others whom each user has written with, and watches
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=CONTACTS_MAX))]
    contacts: u64,

    /// Seconds in which people come, go and look away and nobody watches, and then as many in which all watch and nothing changes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    calm: u64,

    /// Seconds in which people come, go, look away, scroll and type
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seconds: u64,

    /// How often all that comes, one after the other: what changes with time is in the parts without and with presence then
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,

    /// Of 100 users, how many change what others see of them in a second
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    changes: f64,

    /// Of 100 users, how many show others in a second
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    scrolls: f64,

    /// Of 100 users, how many type in a second
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    types: f64,

    /// Of 100 users, how many come for a moment, or go for one, again and again
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    flapping: f64,

    /// Of 100 users, how many hide from the beginning
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    invisible: f64,

    /// Of 100 acquaintances, how many are blocked from the beginning
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    blocked: f64,

    /// Users who watch one more, the first one, who comes and goes all the time
    #[arg(long, value_name = "USERS", default_value_t = 0)]
    popular: u64,

    /// Connections that are cut at once in the end, and come back
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 500)]
    storm: u64,

    /// Seconds over which they come back, each at a random moment
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(..=3_600))]
    storm_within: u64,

    /// Messages a second of the chatting users together, until everything is quiet
    #[arg(long, value_name = "MESSAGES", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    messages_per_s: u64,

    /// Pairs of users who chat
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pairs: u64,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,

    #[command(flatten)]
    patience: Patience,
}

fn percent(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("{text} is not in 0 to 100"))
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let group = (self.contacts + 1).next_power_of_two();
        let groups = self.users.div_ceil(group);
        let users = groups * group;
        let watching = world.lanes_for(users)?;
        let in_lane = groups.div_ceil(watching as u64) * group;
        ensure!(in_lane <= LANE_CONNECTIONS_MAX as u64, "lanes of {in_lane} users: --lanes {} has room", watching + 1);
        let chatting = if self.messages_per_s > 0 { world.lanes_for(self.pairs * 2)? } else { 0 };
        ensure!(watching + chatting <= LANES_MAX, "so many users and pairs do not fit in {LANES_MAX} lanes");
        let first = share(groups, 0, watching) * group;
        ensure!(
            self.popular < first,
            "--popular {}: who is popular is watched from the first lane, which has {first} users",
            self.popular
        );
        let stages = Stages::new(Stage::all(self.rounds).map(Stage::name));
        let rounds_s = self.rounds * (2 * self.calm + self.seconds) + (self.rounds - 1) * ENDING_S;
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
        for lane in 0..watching {
            let users_here = share(groups, lane, watching) * group;
            let mut wants = self.clone();
            // Who is popular is so in the first lane.
            wants.popular = if lane == 0 { self.popular } else { 0 };
            wants.storm = share(self.storm.min(users), lane, watching).min(users_here);
            let script = Watching::new(wants, stages.clone(), world.run ^ lane as u64);
            plans.push(LanePlan { crew: crew(users_here), script: Box::new(script) });
        }
        for lane in 0..chatting {
            let pairs = share(self.pairs, lane, chatting);
            let rate = self.messages_per_s as f64 * pairs as f64 / self.pairs as f64;
            let pace = Pace::Open { rate, seconds: rounds_s };
            let talk = Talk::new(pairs as u32, pace, 1, self.size, lane as f64 / chatting as f64);
            plans.push(LanePlan {
                crew: crew(pairs * 2),
                script: Box::new(Chat::new(talk, stages.clone(), self.rounds)),
            });
        }
        let quiet_s = self.patience.quiet_us() / 1_000_000;
        let storm_s = if self.storm > 0 { self.storm_within + quiet_s } else { 0 };
        Ok(Plan {
            scenario: "presence",
            parameters: self.parameters(users),
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_secs(rounds_s + quiet_s + storm_s)),
            login: LoginFirst::Everybody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: PING_AFTER_S,
            eras: if self.messages_per_s > 0 { ERAS } else { &[] },
            stages: Some(stages),
            notes: Vec::new(),
        })
    }

    fn parameters(&self, users: u64) -> Vec<(&'static str, String)> {
        let Patience { hold_ms, grace_ms, tick_ms } = self.patience;
        let mut parameters = vec![
            ("users", users.to_string()),
            ("contacts", self.contacts.to_string()),
            ("calm seconds", self.calm.to_string()),
            seconds(self.seconds),
            ("rounds", self.rounds.to_string()),
            ("changes, % of the users a second", self.changes.to_string()),
            ("scrolls, % of the users a second", self.scrolls.to_string()),
            ("types, % of the users a second", self.types.to_string()),
            ("flapping, % of the users", self.flapping.to_string()),
            ("invisible, % of the users", self.invisible.to_string()),
            ("blocked, % of the contacts", self.blocked.to_string()),
            ("watchers of one user", self.popular.to_string()),
            ("connections cut", self.storm.min(users).to_string()),
            ("hold, grace, tick, ms", format!("{hold_ms}, {grace_ms}, {tick_ms}")),
        ];
        if self.storm > 0 {
            parameters.push(("storm within seconds", self.storm_within.to_string()));
        }
        if self.messages_per_s > 0 {
            parameters.extend([
                ("messages a second", self.messages_per_s.to_string()),
                ("pairs", self.pairs.to_string()),
                ("text bytes", self.size.to_string()),
            ]);
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_one_after_the_other_and_the_last_one_ends_in_quiet() {
        let names = |rounds| Stage::all(rounds).map(Stage::name).collect::<Vec<_>>().join(" ");
        assert_eq!(names(1), "calm watching changes quiet storm");
        assert_eq!(names(2), "calm watching changes ending calm watching changes quiet storm");
    }
}
