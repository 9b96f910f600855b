//! Readers of histories. Pairs write to each other first; then each user reads, again and again: the log and the conversation, forwards
//! and backwards, in turn. Every reading must have exactly what the user was told, in order.

use std::time::Duration;

use proto_spec::{Direction, Seq, UserId, limits::PAGE_ENTRIES_MAX};

use super::{
    TEXT_BYTES,
    chat::{Pace, Talk},
    seconds,
};
use crate::{
    devices::Devices,
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::PING_AFTER_S,
    session::{Fetch, Happened},
    stats::Count,
    verify::{Crew, HistoryCheck},
    world::{World, share},
};

/// Messages of one user that wait for their answer while the histories are made.
const PREPARE_WINDOW: u64 = 32;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Pairs of users, each of whom reads
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pairs: u64,

    /// Messages that each user sends before the reading begins
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    messages: u64,

    /// Entries of a page, at most: a phone asks for fewer than a desktop
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=PAGE_ENTRIES_MAX))]
    page: u64,

    /// How long they read
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(TEXT_BYTES))]
    size: u32,
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let lanes = world.lanes_for(self.pairs * 2)?;
        let mut next_user = 0;
        let mut plans = Vec::new();
        for lane in 0..lanes {
            let pairs = share(self.pairs, lane, lanes);
            let mut crew = Crew::default();
            for _ in 0..pairs * 2 {
                crew.add(world.user(next_user), 1);
                next_user += 1;
            }
            let pace = Pace::ClosedCount { messages: self.messages };
            let talk = Talk::new(pairs as u32, pace, PREPARE_WINDOW.min(self.messages), self.size, 0.0);
            let (readings, page, seconds) = (Vec::new(), self.page, self.seconds);
            let script = Readers { talk, has_begun: false, readings, page, seconds, end_us: 0 };
            plans.push(LanePlan { crew, script: Box::new(script) });
        }
        let parameters = vec![
            ("pairs", self.pairs.to_string()),
            ("messages a user", self.messages.to_string()),
            ("entries a page", self.page.to_string()),
            seconds(self.seconds),
            ("text bytes", self.size.to_string()),
        ];
        Ok(Plan {
            scenario: "history",
            parameters,
            lanes: plans,
            trace: None,
            goal: Goal::Time(Duration::from_secs(self.seconds)),
            login: LoginFirst::Everybody,
            window: PREPARE_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::AsFastAsItGoes,
            ping_after_s: PING_AFTER_S,
            eras: &[],
            stages: None,
            notes: Vec::new(),
        })
    }
}

/// What a user reads, by turns: the log or the conversation, forwards or backwards.
const KINDS: [(bool, Direction); 4] = [
    (false, Direction::Forwards),
    (true, Direction::Backwards),
    (true, Direction::Forwards),
    (false, Direction::Backwards),
];

#[derive(Debug)]
struct Readers {
    talk: Talk,
    has_begun: bool,
    /// By slot: which kind, and how far.
    readings: Vec<Option<(usize, HistoryCheck)>>,
    page: u64,
    seconds: u64,
    end_us: u64,
}

impl Readers {
    fn read(&mut self, devices: &mut Devices, slot: u32, kind: usize) {
        let (of_peer, direction) = KINDS[kind % KINDS.len()];
        let peer = if of_peer { self.talk.peer(devices, slot) } else { None };
        let from = match direction {
            Direction::Forwards => devices.start(slot).next(),
            Direction::Backwards => Seq::ZERO,
        };
        self.readings[slot as usize] = Some((kind, HistoryCheck::new(devices.seat(slot), direction)));
        devices.fetch(slot, Fetch { peer, from, direction, limit: self.page });
    }
}

impl Script for Readers {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        if !self.has_begun {
            self.has_begun = true;
            self.talk.begin(devices);
        }
        self.talk.drive(devices) == Next::Finished
    }

    fn begin(&mut self, devices: &mut Devices) {
        self.end_us = devices.now_us() + self.seconds * 1_000_000;
        self.readings.resize_with(devices.len(), || None);
        // Not all the same at the same time.
        (0..devices.len() as u32).for_each(|slot| self.read(devices, slot, slot as usize));
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let is_over = devices.now_us() >= self.end_us;
        match (is_over, self.readings.iter().all(Option::is_none)) {
            (true, true) => Next::Finished,
            (true, false) => Next::WhenSomethingHappens,
            (false, _) => Next::At(self.end_us),
        }
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.talk.happened(devices, what);
        let Happened::Page { slot, fetch, page } = what else { return };
        let Some((kind, mut check)) = self.readings[*slot as usize].take() else { return };
        check.take(&mut devices.ledger(), &page.entries);
        let start = devices.start(*slot);
        // Below the start there are only earlier runs.
        let is_below = fetch.direction == Direction::Backwards && page.first <= start.next();
        let is_over = devices.now_us() >= self.end_us;
        match fetch.following(page).filter(|_| !is_below) {
            // A reading that the end of the time interrupts is not compared.
            Some(_) if is_over => {}
            Some(next) => {
                devices.fetch(*slot, next);
                self.readings[*slot as usize] = Some((kind, check));
            }
            None => {
                check.finish(&mut devices.ledger(), devices.told(*slot));
                devices.stats_mut()[Count::HistoriesChecked] += 1;
                if !is_over {
                    self.read(devices, *slot, kind + 1);
                }
            }
        }
    }

    fn peer(&self, _devices: &Devices, _slot: u32) -> Option<UserId> {
        // The whole log, in the end.
        None
    }
}
