//! Wheel: which connections to look at with which tick. Holds each connection once; a connection that was heard of in
//! the meantime is put back by the caller, so hearing of one costs nothing here.

use super::input::ConnId;
use crate::limits::{PING_AFTER_MS_MIN, TICK_MS};

/// What one place of the wheel stands for, in milliseconds: ticks do not come oftener.
const SLOT_MS: u64 = TICK_MS;

/// Places of the wheel: a turn takes 51 seconds, twice what most operators have the silent pinged after. A later deadline is
/// looked at early and put back.
const SLOTS: u64 = 1024;

/// How long after its deadline a connection is looked at, at most, as long as ticks come in time, in milliseconds.
pub(super) const LATE_MS_MAX: u64 = SLOT_MS + TICK_MS;

const _: () = assert!(LATE_MS_MAX < PING_AFTER_MS_MIN);

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<ConnId>>,
    /// The first place that has not been looked at, counted from the beginning of time.
    next: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: 0 }
    }

    /// Looks at `conn` once `due_ms` has passed, or somewhat earlier if that is more than a turn away.
    pub(super) fn insert(&mut self, now_ms: u64, due_ms: u64, conn: ConnId) {
        let now = now_ms / SLOT_MS;
        let due = due_ms.div_ceil(SLOT_MS).clamp(self.next.max(now + 1), now + SLOTS - 1);
        self.slots[(due % SLOTS) as usize].push(conn);
    }

    /// Takes the connections whose time has come.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<ConnId> {
        let now = now_ms / SLOT_MS;
        if self.next + SLOTS <= now {
            // The first call, or the thread slept for a whole turn: look at everything once.
            self.next = now + 1 - SLOTS;
        }
        let mut due = Vec::new();
        while self.next <= now {
            due.append(&mut self.slots[(self.next % SLOTS) as usize]);
            self.next += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 1, generation: 1 };

    #[test]
    fn a_connection_is_due_with_the_first_ticks_after_its_deadline() {
        for begin_ms in [10_000, 10_001, 10_049] {
            for due_ms in 15_500..15_500 + 2 * TICK_MS {
                let mut wheel = Wheel::new();
                assert!(wheel.due(begin_ms).is_empty());
                wheel.insert(begin_ms, due_ms, CONN);
                let looked_ms = (begin_ms..).step_by(TICK_MS as usize).find(|&now_ms| wheel.due(now_ms) == [CONN]);
                assert!((due_ms..=due_ms + LATE_MS_MAX).contains(&looked_ms.unwrap()), "{due_ms}: {looked_ms:?}");
                assert!(wheel.due(600_000).is_empty());
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_looked_at_early() {
        let mut wheel = Wheel::new();
        wheel.insert(0, 10_000_000, CONN);
        assert_eq!(wheel.due(600_000), [CONN]);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_with_the_next_tick() {
        let mut wheel = Wheel::new();
        wheel.due(10_000);
        wheel.insert(10_000, 3_000, CONN);
        assert_eq!(wheel.due(10_000 + TICK_MS), [CONN]);
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new();
        wheel.insert(0, 5_000, CONN);
        assert_eq!(wheel.due(10_000_000), [CONN]);
    }
}
