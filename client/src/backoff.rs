//! How long to wait before the next attempt: exponential with full jitter, and not before the server allows.

use crate::limits::{BACKOFF_FIRST_MS, RETRY_AFTER_MAX_MS};

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    delay_max_ms: u64,
}

impl Backoff {
    pub(crate) const fn new(delay_max_ms: u64) -> Self {
        Self { failures: 0, delay_max_ms }
    }

    /// The delay after another failure. `random` is any number; the same number gives the same delay.
    pub(crate) fn delay_ms(&mut self, random: u64, retry_after_ms: u64) -> u64 {
        let ceiling = BACKOFF_FIRST_MS.saturating_mul(1 << self.failures.min(20)).min(self.delay_max_ms);
        self.failures = self.failures.saturating_add(1);
        // Full jitter comes on top of the server's wish, or all clients would return in the same millisecond.
        retry_after_ms.min(RETRY_AFTER_MAX_MS) + random % ceiling.saturating_add(1)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BACKOFF_MAX_MS;

    #[test]
    fn delays_grow_to_the_maximum_and_are_spread_from_zero() {
        let mut backoff = Backoff::new(BACKOFF_MAX_MS);
        let ceilings: Vec<u64> = (0..10)
            .map(|_| {
                let ceiling = BACKOFF_FIRST_MS * (1 << backoff.failures);
                backoff.delay_ms(ceiling.min(BACKOFF_MAX_MS), 0)
            })
            .collect();
        assert_eq!(ceilings[..4], [500, 1000, 2000, 4000]);
        assert_eq!(ceilings[9], BACKOFF_MAX_MS);
        assert_eq!(backoff.delay_ms(0, 0), 0);
    }

    #[test]
    fn no_attempt_before_the_server_allows_one() {
        for random in [0, 1, 77, u64::MAX] {
            assert!(Backoff::new(BACKOFF_MAX_MS).delay_ms(random, 5_000) >= 5_000);
        }
    }

    #[test]
    fn a_good_connection_starts_the_delays_anew() {
        let mut backoff = Backoff::new(BACKOFF_MAX_MS);
        for _ in 0..100 {
            backoff.delay_ms(u64::MAX, 0);
        }
        backoff.reset();
        assert!(backoff.delay_ms(u64::MAX, 0) <= BACKOFF_FIRST_MS);
    }
}
