//! Wheel: which connections to look at in which second. Holds each connection once; a connection that was heard of in
//! the meantime is put back by the caller, so hearing of one costs nothing here.

use super::input::ConnId;
use crate::limits::{PING_AFTER_MS_MIN, TICK_MS};

/// Seconds that one turn of the wheel takes. A later deadline is looked at early and put back.
const SLOTS: u64 = 512;

/// How long after its deadline a connection is looked at, at most, as long as ticks come in time, in milliseconds.
pub(super) const LATE_MS_MAX: u64 = 1_000 + TICK_MS;

const _: () = assert!(LATE_MS_MAX < PING_AFTER_MS_MIN);

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<ConnId>>,
    /// The first second that has not been looked at.
    next_s: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next_s: 0 }
    }

    /// Looks at `conn` once `due_ms` has passed, or somewhat earlier if that is more than [`SLOTS`] seconds away.
    pub(super) fn insert(&mut self, now_ms: u64, due_ms: u64, conn: ConnId) {
        let due_s = (due_ms / 1_000 + 1).clamp(self.next_s.max(now_ms / 1_000 + 1), now_ms / 1_000 + SLOTS - 1);
        self.slots[(due_s % SLOTS) as usize].push(conn);
    }

    /// Takes the connections whose second has come.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<ConnId> {
        let now_s = now_ms / 1_000;
        if self.next_s + SLOTS <= now_s {
            // The first call, or the thread slept for a whole turn: look at everything once.
            self.next_s = now_s + 1 - SLOTS;
        }
        let mut due = Vec::new();
        while self.next_s <= now_s {
            due.append(&mut self.slots[(self.next_s % SLOTS) as usize]);
            self.next_s += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 1, generation: 1 };

    #[test]
    fn a_connection_is_due_within_a_second_after_its_deadline() {
        let mut wheel = Wheel::new();
        assert!(wheel.due(10_000).is_empty());
        wheel.insert(10_000, 15_500, CONN);
        assert!(wheel.due(15_499).is_empty());
        assert_eq!(wheel.due(16_000), [CONN]);
        assert!(wheel.due(600_000).is_empty());
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_looked_at_early() {
        let mut wheel = Wheel::new();
        wheel.insert(0, 10_000_000, CONN);
        assert_eq!(wheel.due(600_000), [CONN]);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_the_next_second() {
        let mut wheel = Wheel::new();
        wheel.due(10_000);
        wheel.insert(10_000, 3_000, CONN);
        assert_eq!(wheel.due(11_000), [CONN]);
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new();
        wheel.insert(0, 5_000, CONN);
        assert_eq!(wheel.due(10_000_000), [CONN]);
    }
}
