//! Load: whether a core keeps up, told from how late its ticks come. PURE.

use crate::{
    limits::{BUSY_TICK_MS, LOAD_TICKS, OVERLOADED_TICK_MS},
    shard::Load,
};

/// Looks at the times between ticks.
#[derive(Debug, Default)]
pub(super) struct LoadMeter {
    load: Load,
    last_tick_ms: Option<u64>,
    /// Ticks in a row that say something else than `load`.
    others: u32,
}

impl LoadMeter {
    /// The core ticks. Gives the load when it changes: one step at a time, after [`LOAD_TICKS`] ticks that agree on the direction.
    pub(super) fn tick(&mut self, now_ms: u64) -> Option<Load> {
        let gap_ms = now_ms.saturating_sub(self.last_tick_ms.replace(now_ms).unwrap_or(now_ms));
        let seen = match gap_ms {
            OVERLOADED_TICK_MS.. => Load::Overloaded,
            BUSY_TICK_MS.. => Load::Busy,
            _ => Load::Calm,
        };
        if seen == self.load {
            self.others = 0;
            return None;
        }
        self.others += 1;
        if self.others < LOAD_TICKS {
            return None;
        }
        self.others = 0;
        self.load = match (self.load, seen > self.load) {
            (Load::Calm, _) | (Load::Overloaded, _) => Load::Busy,
            (Load::Busy, true) => Load::Overloaded,
            (Load::Busy, false) => Load::Calm,
        };
        Some(self.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICK_MS;

    struct World {
        meter: LoadMeter,
        now_ms: u64,
    }

    impl World {
        /// What changes in some ticks of this length.
        fn ticks(&mut self, count: u32, gap_ms: u64) -> Vec<Load> {
            let mut changes = Vec::new();
            for _ in 0..count {
                self.now_ms += gap_ms;
                changes.extend(self.meter.tick(self.now_ms));
            }
            changes
        }
    }

    #[test]
    fn a_load_that_lasts_is_told_step_by_step_and_so_is_its_end() {
        let mut world = World { meter: LoadMeter::default(), now_ms: 1_000_000 };
        assert_eq!(world.ticks(100, TICK_MS), []);
        assert_eq!(world.ticks(LOAD_TICKS, BUSY_TICK_MS), [Load::Busy]);
        assert_eq!(world.ticks(100, BUSY_TICK_MS), []);
        assert_eq!(world.ticks(LOAD_TICKS, OVERLOADED_TICK_MS), [Load::Overloaded]);
        assert_eq!(world.ticks(100, TICK_MS), [Load::Busy, Load::Calm]);
    }

    #[test]
    fn one_long_turn_is_no_load() {
        let mut world = World { meter: LoadMeter::default(), now_ms: 0 };
        for _ in 0..10 {
            assert_eq!(world.ticks(LOAD_TICKS - 1, 10 * OVERLOADED_TICK_MS), []);
            assert_eq!(world.ticks(1, TICK_MS), []);
        }
    }
}
