//! Pulse: when each core had its last tick, so that who asks from outside learns whether all of them still turn. PURE: time is an
//! argument.
//!
//! A core ticks from its own event loop, every [`TICK_MS`](crate::limits::TICK_MS) though nothing happens. One that does not tick
//! takes no connections, bytes or mail either, while the kernel still accepts connections for it.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::{limits::CORE_STUCK_MS, shard::topology::CoreId};

/// See the head of this file. Each core writes its own; anybody reads.
#[derive(Debug)]
pub struct Pulse {
    /// By core, in milliseconds of the node's monotonic clock.
    ticked_ms: Box<[CachePadded<AtomicU64>]>,
}

impl Pulse {
    /// Of so many cores, as if all had ticked when the clock began.
    #[must_use]
    pub fn new(cores: u16) -> Self {
        Self { ticked_ms: (0..cores).map(|_| CachePadded::default()).collect() }
    }

    /// A core ticks, or is about to begin to.
    pub fn beat(&self, core: CoreId, now_ms: u64) {
        self.ticked_ms[usize::from(core.0)].store(now_ms, Ordering::Relaxed);
    }

    /// The core that has not ticked for longest, and for how many milliseconds, if that is longer than [`CORE_STUCK_MS`].
    #[must_use]
    pub fn stuck(&self, now_ms: u64) -> Option<(CoreId, u64)> {
        let silences = self.ticked_ms.iter().map(|ticked_ms| now_ms.saturating_sub(ticked_ms.load(Ordering::Relaxed)));
        let (silent_ms, core) = silences.zip(0..).max()?;
        (silent_ms > CORE_STUCK_MS).then_some((CoreId(core), silent_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICK_MS;

    #[test]
    fn a_core_that_does_not_tick_is_found_however_the_others_turn() {
        let pulse = Pulse::new(3);
        let begun_ms = 600_000;
        (0..3).for_each(|core| pulse.beat(CoreId(core), begun_ms));
        let mut found = Vec::new();
        for now_ms in (begun_ms..begun_ms + 2 * CORE_STUCK_MS).step_by(TICK_MS as usize) {
            for core in [0, 2] {
                pulse.beat(CoreId(core), now_ms);
            }
            found.extend(pulse.stuck(now_ms));
        }
        assert_eq!(found[0], (CoreId(1), CORE_STUCK_MS + TICK_MS));
        assert_eq!(found.last(), Some(&(CoreId(1), 2 * CORE_STUCK_MS - TICK_MS)));
        pulse.beat(CoreId(1), begun_ms + 2 * CORE_STUCK_MS);
        assert_eq!(pulse.stuck(begun_ms + 2 * CORE_STUCK_MS), None, "it turns again");
    }

    #[test]
    fn of_several_the_one_that_is_stuck_for_longest_is_named() {
        let pulse = Pulse::new(2);
        pulse.beat(CoreId(0), 1_000);
        pulse.beat(CoreId(1), 1_001);
        assert_eq!(pulse.stuck(1_000 + CORE_STUCK_MS), None);
        assert_eq!(pulse.stuck(2_000 + CORE_STUCK_MS), Some((CoreId(0), CORE_STUCK_MS + 1_000)));
    }
}
