//! Throttle: which of many failures of one kind are told to the operator, who must not have a line for each of a flood. PURE.

use crate::limits::WARN_MS;

/// Tells of the first failure at once, and at most once in [`WARN_MS`] of those that have come since.
#[derive(Debug, Default)]
pub struct Throttle {
    untold: u64,
    next_ms: u64,
}

impl Throttle {
    /// One more has happened. Whether it is to be told now: then for how many it stands.
    pub fn another(&mut self, now_ms: u64) -> Option<u64> {
        self.untold += 1;
        self.rest(now_ms)
    }

    /// How many have not been told, if they are to be told now.
    pub fn rest(&mut self, now_ms: u64) -> Option<u64> {
        if self.untold == 0 || now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + WARN_MS;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let mut throttle = Throttle::default();
        assert_eq!([7, 8, 9].map(|now_ms| throttle.another(now_ms)), [Some(1), None, None]);
        assert_eq!(
            [9, 6 + WARN_MS, 7 + WARN_MS, 8 + 2 * WARN_MS].map(|now_ms| throttle.rest(now_ms)),
            [None, None, Some(2), None]
        );
        assert_eq!([8, 9].map(|seconds| throttle.another(seconds * WARN_MS)), [Some(1), Some(1)]);
    }
}
