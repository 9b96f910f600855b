//! Clock: the two clocks of a core, read once a turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto_spec::TimestampMs;

use crate::shard::Now;

/// Reads the time for one process. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The time. Monotonic milliseconds count from the clock's start.
    #[must_use]
    pub fn now(&self) -> Now {
        // A wall clock before 1970 is wrong anyway, and a shard never lets time go backwards.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: self.start.elapsed().as_millis() as u64, wall: TimestampMs(wall.as_millis() as u64) }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
