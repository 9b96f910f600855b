//! Timekeeper: what time it is, as far as this server trusts the wall clock of its machine. PURE: both clocks are arguments.
//!
//! The wall clock is what people set, and what time services correct; it may be wrong for some seconds by a day or a year.
//! The steady clock only counts. Between two looks both advance alike, so a wall clock that leapt shows: it is not believed
//! until it has stayed for [`CLOCK_TRUST_MS`] where it leapt to, and meanwhile the time before is carried on by the steady
//! clock. Differences up to [`CLOCK_LEAP_MS`] are corrections of every day, and followed at once.
//!
//! At a start there is nothing to compare with: the wall clock is believed as it stands.

use proto_spec::TimestampMs;

use crate::limits::{CLOCK_LEAP_MS, CLOCK_TRUST_MS};

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub struct Timekeeper {
    /// The trusted time is the steady clock plus this, in milliseconds.
    ahead_ms: i64,
    doubt: Option<Doubt>,
}

/// A wall clock that is not believed.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// What it is ahead of the steady clock.
    ahead_ms: i64,
    /// Since when by the steady clock it has been there, in milliseconds.
    since_ms: u64,
}

/// What a look at the clocks has shown. Times are in milliseconds, and negative for a clock that went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The wall clock differs by this from the trusted time, and is not believed.
    Leapt(i64),
    /// It has come back, and was wrong.
    Returned,
    /// It has stayed where it leapt to: from now on it is believed, and the trusted time has changed by this.
    TakenOver(i64),
}

impl Timekeeper {
    /// Believes the wall clock.
    #[must_use]
    pub fn new(steady_ms: u64, wall: TimestampMs) -> Self {
        Self { ahead_ms: ahead(steady_ms, wall), doubt: None }
    }

    /// Looks at both clocks. Says what has changed.
    pub fn look(&mut self, steady_ms: u64, wall: TimestampMs) -> Option<Judgement> {
        let ahead_ms = ahead(steady_ms, wall);
        let by_ms = ahead_ms.saturating_sub(self.ahead_ms);
        if is_alike(ahead_ms, self.ahead_ms) {
            self.ahead_ms = ahead_ms;
            return self.doubt.take().map(|_| Judgement::Returned);
        }
        match &mut self.doubt {
            Some(doubt) if is_alike(ahead_ms, doubt.ahead_ms) => {
                doubt.ahead_ms = ahead_ms;
                if steady_ms.saturating_sub(doubt.since_ms) < CLOCK_TRUST_MS {
                    return None;
                }
                *self = Self::new(steady_ms, wall);
                Some(Judgement::TakenOver(by_ms))
            }
            doubt => {
                *doubt = Some(Doubt { ahead_ms, since_ms: steady_ms });
                Some(Judgement::Leapt(by_ms))
            }
        }
    }

    /// The trusted time: the steady clock plus this, in milliseconds.
    #[must_use]
    pub const fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// How far the wall clock was from the trusted time at the last look, if it is not believed; else 0.
    #[must_use]
    pub fn doubted_ms(&self) -> i64 {
        self.doubt.map_or(0, |doubt| doubt.ahead_ms.saturating_sub(self.ahead_ms))
    }
}

/// The time that is `ahead_ms` ahead of the steady clock. Not before 1970.
#[must_use]
pub const fn wall_at(steady_ms: u64, ahead_ms: i64) -> TimestampMs {
    TimestampMs(steady_ms.saturating_add_signed(ahead_ms))
}

/// The time of an entry that follows one of the time `last` in a log. It stands still while the clock is a little behind that
/// time. If it is far behind, that time was wrong: order is given by seq, and this entry is right again.
#[must_use]
pub fn time_after(last: TimestampMs, now: TimestampMs) -> TimestampMs {
    if last.0 > now.0.saturating_add(CLOCK_LEAP_MS) { now } else { now.max(last) }
}

fn ahead(steady_ms: u64, wall: TimestampMs) -> i64 {
    // A clock that does not fit is as wrong as can be.
    let fit = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    fit(wall.0) - fit(steady_ms)
}

const fn is_alike(one_ms: i64, other_ms: i64) -> bool {
    one_ms.abs_diff(other_ms) <= CLOCK_LEAP_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: u64 = 1_800_000_000_000;
    const DAY: i64 = 86_400_000;
    /// Between two looks.
    const LOOK: u64 = 50;

    /// The clocks of a machine, looked at as a core does.
    struct Machine {
        keeper: Timekeeper,
        steady_ms: u64,
        /// What the wall clock is wrong by.
        wrong_ms: i64,
    }

    impl Machine {
        fn new() -> Self {
            Self { keeper: Timekeeper::new(7, TimestampMs(NOON + 7)), steady_ms: 7, wrong_ms: 0 }
        }

        /// Lets so much time pass, and gives what was found.
        fn pass(&mut self, ms: u64) -> Vec<Judgement> {
            let end_ms = self.steady_ms + ms;
            let mut found = Vec::new();
            while self.steady_ms < end_ms {
                self.steady_ms += LOOK;
                let wall = wall_at(self.steady_ms, NOON as i64 + self.wrong_ms);
                found.extend(self.keeper.look(self.steady_ms, wall));
            }
            found
        }

        /// What the trusted time is wrong by.
        fn error_ms(&self) -> i64 {
            self.keeper.ahead_ms() - NOON as i64
        }
    }

    #[test]
    fn a_clock_that_is_a_day_or_a_year_wrong_for_some_seconds_is_not_believed() {
        for wrong_ms in [DAY, 365 * DAY, -DAY, -365 * DAY, 20_000] {
            let mut machine = Machine::new();
            machine.pass(10_000);
            machine.wrong_ms = wrong_ms;
            assert_eq!(machine.pass(30_000), [Judgement::Leapt(wrong_ms)]);
            assert_eq!((machine.error_ms(), machine.keeper.doubted_ms()), (0, wrong_ms));
            machine.wrong_ms = 0;
            assert_eq!(machine.pass(1_000_000), [Judgement::Returned]);
            assert_eq!((machine.error_ms(), machine.keeper.doubted_ms()), (0, 0));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_is_taken_over_after_a_while() {
        for right_ms in [DAY, -DAY] {
            let mut machine = Machine::new();
            machine.wrong_ms = right_ms;
            assert_eq!(machine.pass(CLOCK_TRUST_MS - LOOK), [Judgement::Leapt(right_ms)]);
            assert_eq!(machine.error_ms(), 0);
            assert_eq!(machine.pass(3 * LOOK), [Judgement::TakenOver(right_ms)]);
            assert_eq!((machine.error_ms(), machine.keeper.doubted_ms()), (right_ms, 0));
            assert_eq!(machine.pass(1_000_000), []);
        }
    }

    #[test]
    fn a_clock_that_does_not_come_to_rest_is_never_believed() {
        let mut machine = Machine::new();
        for leap in 1..=20 {
            machine.wrong_ms = leap * DAY;
            assert_eq!(machine.pass(CLOCK_TRUST_MS / 2), [Judgement::Leapt(leap * DAY)]);
            assert_eq!(machine.error_ms(), 0);
        }
        machine.wrong_ms = 500;
        assert_eq!(machine.pass(CLOCK_TRUST_MS), [Judgement::Returned]);
        assert_eq!(machine.error_ms(), 500);
    }

    #[test]
    fn what_a_time_service_corrects_every_day_is_followed_at_once() {
        let mut machine = Machine::new();
        for wrong_ms in [1, -128, 900, 5_000, -4_000] {
            machine.wrong_ms = wrong_ms;
            assert_eq!(machine.pass(LOOK), []);
            assert_eq!(machine.error_ms(), wrong_ms);
        }
    }

    #[test]
    fn times_of_a_log_stand_still_for_a_bounded_time_and_are_right_after_that() {
        let after = |last, now| time_after(TimestampMs(last), TimestampMs(now)).0;
        assert_eq!(after(NOON, NOON + 5), NOON + 5);
        assert_eq!(after(NOON, NOON - CLOCK_LEAP_MS), NOON);
        assert_eq!(after(NOON, NOON - CLOCK_LEAP_MS - 1), NOON - CLOCK_LEAP_MS - 1);
        assert_eq!(after(NOON + 365 * DAY as u64, NOON), NOON, "a year ahead is not carried on");
        assert_eq!(after(u64::MAX, NOON), NOON);
    }

    proptest! {
        #[test]
        fn any_two_clocks_are_judged_and_what_is_believed_was_seen(looks: Vec<(u32, u64)>, first: u64) {
            let mut steady_ms = 0;
            let mut keeper = Timekeeper::new(steady_ms, TimestampMs(first));
            let mut seen = vec![keeper.ahead_ms()];
            for (step, wall) in looks {
                steady_ms += u64::from(step);
                seen.push(ahead(steady_ms, TimestampMs(wall)));
                keeper.look(steady_ms, TimestampMs(wall));
                prop_assert!(seen.contains(&keeper.ahead_ms()));
                let _ = wall_at(steady_ms, keeper.ahead_ms());
            }
        }
    }
}
