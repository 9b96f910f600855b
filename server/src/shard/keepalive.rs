//! Keepalive: when a connection is pinged, and when it is closed because nobody answers.
//!
//! Proxies and routers on the way forget a connection when one of its directions is silent, many after 50 or 60 seconds. So
//! while nothing else is said the server pings: each ping is bytes one way, its pong bytes the other way. Invariant: as long
//! as the ticks of the core come in time, less than `ping_after_ms` pass between two moments at which something was said, and
//! a client that answers is heard as often.

use super::{Settings, wheel::LATE_MS_MAX};
use crate::limits::PONG_MS_MIN;

/// When something was last said and heard on one connection, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    heard_ms: u64,
    said_ms: u64,
    /// The first and the last ping since something was heard.
    asked_ms: Option<(u64, u64)>,
}

/// What is to be done about a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Close,
}

impl Keepalive {
    pub(super) const fn new(now_ms: u64) -> Self {
        Self { heard_ms: now_ms, said_ms: now_ms, asked_ms: None }
    }

    pub(super) const fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.asked_ms = None;
    }

    pub(super) const fn said(&mut self, now_ms: u64) {
        self.said_ms = now_ms;
    }

    /// Looks at the connection. Whoever gets `Ping` pings.
    pub(super) fn look(&mut self, now_ms: u64, settings: &Settings) -> Due {
        if self.close_due_ms(settings).is_some_and(|due_ms| due_ms <= now_ms) {
            return Due::Close;
        }
        if self.ping_due_ms(settings) > now_ms {
            return Due::Nothing;
        }
        let first_ms = self.asked_ms.map_or(now_ms, |(first_ms, _)| first_ms);
        self.asked_ms = Some((first_ms, now_ms));
        self.said_ms = now_ms;
        Due::Ping
    }

    /// When to look next, unless something is said or heard meanwhile.
    pub(super) fn due_ms(&self, settings: &Settings) -> u64 {
        let ping_ms = self.ping_due_ms(settings);
        self.close_due_ms(settings).map_or(ping_ms, |close_ms| close_ms.min(ping_ms))
    }

    /// Early by as much as the wheel may be late. A client that does not answer is asked again and again: the way to it may
    /// be open in one direction only, and whatever is on that way must see something too.
    fn ping_due_ms(&self, settings: &Settings) -> u64 {
        let quiet_since_ms = self.asked_ms.map_or(self.heard_ms.min(self.said_ms), |(_, last_ms)| last_ms);
        quiet_since_ms + settings.ping_after_ms.saturating_sub(LATE_MS_MAX)
    }

    /// Nobody is closed unasked, however late a look comes; and whoever is asked has the time to answer.
    fn close_due_ms(&self, settings: &Settings) -> Option<u64> {
        self.asked_ms.map(|(first_ms, _)| (self.heard_ms + settings.idle_timeout_ms).max(first_ms + PONG_MS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::TICK_MS,
        shard::{CacheLimits, ConnId, Limits, PresenceSettings, Promise, wheel::Wheel},
    };

    const CONN: ConnId = ConnId { slot: 1, generation: 1 };
    const HOURS_MS: u64 = 4 * 3_600_000;

    fn settings(ping_after_ms: u64, idle_timeout_ms: u64) -> Settings {
        Settings {
            ping_after_ms,
            idle_timeout_ms,
            expiry_warning_ms: 0,
            token_leeway_ms: 0,
            promise: Promise::Disk,
            limits: Limits::OFF,
            cache: CacheLimits::OFF,
            presence: PresenceSettings::DEFAULT,
            moves_per_s: 1_000,
            push: None,
        }
    }

    /// One connection, its wheel, and ticks that come every [`TICK_MS`] from a moment that is no whole second.
    struct World {
        settings: Settings,
        keepalive: Keepalive,
        wheel: Wheel,
        now_ms: u64,
        /// When the server said something, the beginning included.
        said_ms: Vec<u64>,
        looks: u64,
        is_closed: bool,
    }

    impl World {
        fn new(settings: Settings, begin_ms: u64) -> Self {
            let keepalive = Keepalive::new(begin_ms);
            let mut wheel = Wheel::new();
            wheel.due(begin_ms);
            wheel.insert(begin_ms, keepalive.due_ms(&settings), CONN);
            Self { settings, keepalive, wheel, now_ms: begin_ms, said_ms: vec![begin_ms], looks: 0, is_closed: false }
        }

        /// One tick; says whether the client was pinged.
        fn tick(&mut self) -> bool {
            self.now_ms += TICK_MS;
            let mut is_pinged = false;
            for conn in self.wheel.due(self.now_ms) {
                self.looks += 1;
                match self.keepalive.look(self.now_ms, &self.settings) {
                    Due::Nothing => {}
                    Due::Ping => {
                        is_pinged = true;
                        self.said_ms.push(self.now_ms);
                    }
                    Due::Close => {
                        self.is_closed = true;
                        return false;
                    }
                }
                self.wheel.insert(self.now_ms, self.keepalive.due_ms(&self.settings), conn);
            }
            is_pinged
        }

        fn longest_gap_ms(&self) -> u64 {
            self.said_ms.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX)
        }
    }

    #[test]
    fn pings_to_a_client_that_only_answers_are_never_further_apart_than_they_may_be() {
        for ping_after_ms in [2_000, 2_500, 10_000, 25_000, 50_000, 600_000] {
            for begin_ms in [0, 1, 333, 999, 123_456_789] {
                for answer_ms in [0, 100, 900] {
                    let mut world = World::new(settings(ping_after_ms, 5 * ping_after_ms), begin_ms);
                    let mut answer_at_ms = None;
                    while world.now_ms < begin_ms + HOURS_MS {
                        if world.tick() {
                            answer_at_ms = Some(world.now_ms + answer_ms);
                        }
                        if answer_at_ms.take_if(|at_ms| *at_ms <= world.now_ms).is_some() {
                            world.keepalive.heard(world.now_ms);
                        }
                    }
                    let gap_ms = world.longest_gap_ms();
                    assert!(gap_ms <= ping_after_ms, "{gap_ms} ms, with {ping_after_ms}, {begin_ms}, {answer_ms}");
                    assert!(!world.is_closed);
                    // Not much oftener than it must be, either: a look a ping, and the pings as early as looks may be late.
                    let pings = world.said_ms.len() as u64 - 1;
                    assert!(pings <= HOURS_MS / (ping_after_ms - LATE_MS_MAX) + 1, "{pings} with {ping_after_ms}");
                    // What lies further ahead than the wheel reaches is looked at on the way.
                    let looks_max = (2 + ping_after_ms / 50_000) * (pings + 1);
                    assert!(world.looks <= looks_max, "{} looks for {pings} pings", world.looks);
                }
            }
        }
    }

    /// Acknowledgements and the like: a proxy that watches what the server says would forget the connection.
    #[test]
    fn a_client_that_says_what_needs_no_answer_is_pinged_all_the_same() {
        let mut world = World::new(settings(25_000, 120_000), 1_234);
        while world.now_ms < HOURS_MS {
            world.tick();
            if world.now_ms % 7_000 < TICK_MS {
                world.keepalive.heard(world.now_ms);
            }
        }
        assert!(world.longest_gap_ms() <= 25_000, "{}", world.longest_gap_ms());
    }

    /// The other way round: the server says much, and hears nothing.
    #[test]
    fn a_client_that_only_reads_is_pinged_so_that_it_says_something() {
        let mut world = World::new(settings(25_000, 120_000), 1_234);
        let mut heard_ms = vec![world.now_ms];
        while world.now_ms < HOURS_MS {
            world.keepalive.said(world.now_ms);
            if world.tick() {
                world.keepalive.heard(world.now_ms);
                heard_ms.push(world.now_ms);
            }
        }
        assert!(heard_ms.windows(2).all(|pair| pair[1] - pair[0] <= 25_000), "{heard_ms:?}");
        assert!(heard_ms.len() > 500);
    }

    #[test]
    fn while_both_sides_speak_nobody_is_pinged() {
        let mut world = World::new(settings(25_000, 120_000), 1_234);
        while world.now_ms < HOURS_MS {
            assert!(!world.tick());
            if world.now_ms % 20_000 < TICK_MS {
                world.keepalive.heard(world.now_ms);
                world.keepalive.said(world.now_ms);
            }
        }
    }

    #[test]
    fn who_never_answers_is_asked_again_and_closed_when_the_time_is_over() {
        for (ping_after_ms, idle_timeout_ms) in [(25_000, 120_000), (2_000, 4_000), (2_000, 5_000), (2_500, 5_001)] {
            for begin_ms in [0, 1, 333, 999, 123_456_789] {
                let mut world = World::new(settings(ping_after_ms, idle_timeout_ms), begin_ms);
                while !world.is_closed {
                    world.tick();
                }
                let silent_ms = world.now_ms - begin_ms;
                assert!((idle_timeout_ms..=idle_timeout_ms + LATE_MS_MAX).contains(&silent_ms), "{silent_ms}");
                assert!(world.said_ms.len() as u64 > idle_timeout_ms / ping_after_ms, "{:?}", world.said_ms);
                assert!(world.longest_gap_ms() <= ping_after_ms, "{:?}", world.said_ms);
            }
        }
    }

    #[test]
    fn nobody_is_closed_unasked_however_late_the_look_comes() {
        let settings = settings(25_000, 120_000);
        let mut keepalive = Keepalive::new(0);
        assert_eq!(keepalive.look(900_000, &settings), Due::Ping);
        assert_eq!(keepalive.due_ms(&settings), 900_000 + PONG_MS_MIN);
        assert_eq!(keepalive.look(900_000 + PONG_MS_MIN - 1, &settings), Due::Nothing);
        assert_eq!(keepalive.look(900_000 + PONG_MS_MIN, &settings), Due::Close);
        keepalive.heard(900_500);
        assert_eq!(keepalive.look(900_000 + PONG_MS_MIN, &settings), Due::Nothing);
    }
}
