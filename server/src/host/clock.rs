//! Clock: the clocks of this machine, read once a turn, and the trusted time that follows from them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use proto_spec::TimestampMs;
use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use crate::{
    host::timekeeper::{Judgement, Timekeeper, wall_at},
    limits::{CLOCK_PAUSE_US, CLOCK_READINGS_MAX, CLOCK_TRUST_MS},
    operator::counters::ClockCounters,
    shard::Now,
};

/// Reads the time for one process. Clones agree.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// The clock that people set.
    wall: fn() -> SystemTime,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keeper: Mutex<Timekeeper>,
    /// The keeper's, for everybody else.
    ahead_ms: AtomicI64,
}

impl Clock {
    /// A clock that starts now, on this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::set_by(SystemTime::now)
    }

    /// A clock that starts now, on a machine whose wall clock is this.
    #[must_use]
    pub fn set_by(wall: fn() -> SystemTime) -> Self {
        let (steady_ms, wall_now) = both(wall);
        let keeper = Timekeeper::new(steady_ms, wall_now);
        let shared = Shared { keeper: Mutex::new(keeper), ahead_ms: AtomicI64::new(keeper.ahead_ms()) };
        Self { start: Instant::now(), wall, shared: Arc::new(shared) }
    }

    /// The time. Monotonic milliseconds count from the clock's start; the wall clock is the trusted one.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic_ms: self.start.elapsed().as_millis() as u64, wall: self.wall() }
    }

    /// The trusted time.
    #[must_use]
    pub fn wall(&self) -> TimestampMs {
        wall_at(steady_us() / 1_000, self.shared.ahead_ms.load(Ordering::Relaxed))
    }

    /// Looks whether the wall clock of this machine can still be trusted, and tells the operator what has changed. To be called
    /// with every tick by one core: what it finds holds for all.
    pub fn look(&self, counters: &ClockCounters) {
        let mut keeper = self.shared.keeper.lock();
        let (steady_ms, wall) = both(self.wall);
        let judgement = keeper.look(steady_ms, wall);
        self.shared.ahead_ms.store(keeper.ahead_ms(), Ordering::Relaxed);
        counters.doubted_ms.store(keeper.doubted_ms(), Ordering::Relaxed);
        let seconds = |ms| ms as f64 / 1e3;
        match judgement {
            None => {}
            Some(Judgement::Leapt(by_ms)) => {
                counters.leaps.one();
                let patience_s = CLOCK_TRUST_MS / 1_000;
                let by_s = seconds(by_ms);
                warn!(
                    by_s,
                    patience_s, "the clock of this machine leapt, and is not trusted until it has stayed there"
                );
            }
            Some(Judgement::Returned) => {
                info!("the clock of this machine has come back; nothing was dated by its leap")
            }
            Some(Judgement::TakenOver(by_ms)) => {
                let by_s = seconds(by_ms);
                warn!(by_s, "the clock of this machine stays where it leapt to: from now on that is the time");
            }
        }
    }

    /// How far the wall clock of this machine is from the trusted time, if it is not believed, in milliseconds; else 0.
    #[must_use]
    pub fn doubted_ms(&self) -> i64 {
        self.shared.keeper.lock().doubted_ms()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Both clocks of this machine at one moment, in milliseconds. What the wall clock is ahead by is rounded up: the trusted time is
/// ahead of it by a millisecond at most, and never behind, so that a token that was issued here just now is not of the future.
fn both(wall: fn() -> SystemTime) -> (u64, TimestampMs) {
    let (steady_us, wall_us) = at_one_moment(steady_us, || {
        // Before 1970 it is 1970.
        wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
    });
    let ahead_ms = wall_us.saturating_sub(steady_us).div_ceil(1_000);
    let steady_ms = steady_us / 1_000;
    (steady_ms, TimestampMs(steady_ms + ahead_ms))
}

/// Reads two clocks that count microseconds, and again if time passed in between: a thread that loses its processor there would take
/// its pause for an advance of the wall clock. The reading with the shortest pause counts.
fn at_one_moment(steady_us: impl Fn() -> u64, wall_us: impl Fn() -> u64) -> (u64, u64) {
    let mut best = None;
    for _ in 0..CLOCK_READINGS_MAX {
        let (before_us, wall_us, after_us) = (steady_us(), wall_us(), steady_us());
        let pause_us = after_us.saturating_sub(before_us);
        if best.is_none_or(|(shortest_us, _)| pause_us < shortest_us) {
            best = Some((pause_us, (before_us, wall_us)));
        }
        if pause_us <= CLOCK_PAUSE_US {
            break;
        }
    }
    best.map_or_else(|| (steady_us(), wall_us()), |(_, reading)| reading)
}

/// Microseconds since this machine was booted. `Instant` does not count while the machine is suspended: every wake would be a leap of
/// the wall clock.
fn steady_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use rim::utc::wall_now;

    /// Two clocks that agree but for `AHEAD`, and a thread that loses its processor between them for these times, one after the other.
    fn paused(pauses_us: &[u64]) -> u64 {
        const AHEAD: u64 = 1_000_000;
        let (time, reading) = (Cell::new(0), Cell::new(0));
        let steady = || time.replace(time.get() + 1);
        let wall = || {
            time.set(time.get() + pauses_us.get(reading.replace(reading.get() + 1)).unwrap_or(&0));
            time.get() + AHEAD
        };
        let (steady_us, wall_us) = at_one_moment(steady, wall);
        wall_us - steady_us - AHEAD
    }

    #[test]
    fn a_thread_that_is_held_up_between_the_clocks_reads_them_again() {
        assert!(paused(&[]) <= CLOCK_PAUSE_US);
        assert!(paused(&[20_000]) <= CLOCK_PAUSE_US);
        assert!(paused(&[20_000, 500_000, 9_000]) <= CLOCK_PAUSE_US);
        let held_up = [20_000; CLOCK_READINGS_MAX];
        assert_eq!(paused(&held_up), 20_001, "a machine that always holds it up gets an answer too");
        let mut once_less = held_up;
        once_less[1] = 3_000;
        assert_eq!(paused(&once_less), 3_001);
    }

    #[test]
    fn both_clocks_advance_and_the_trusted_one_is_never_behind_that_of_the_machine() {
        let clock = Clock::new();
        let (before, counters) = (clock.now(), ClockCounters::default());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let after = clock.clone().now();
        assert!(after.monotonic_ms >= before.monotonic_ms + 19 && after.wall > before.wall, "{before:?} {after:?}");
        for _ in 0..2_000 {
            clock.look(&counters);
            let machine = wall_now();
            let trusted = clock.wall();
            assert!(trusted >= machine && trusted.0 < machine.0 + 5_000, "{trusted} {machine}");
        }
        assert_eq!((clock.doubted_ms(), counters.leaps.get()), (0, 0));
    }
}
