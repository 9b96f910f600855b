//! Rate limits: so many a second, and some more at once. PURE: time is an argument.
//!
//! A token bucket in one number (the generic cell rate algorithm): a [`Bucket`] holds the time at which it will be full again,
//! so one that nobody took from for a while is the same as a new one, and can be forgotten.

use std::{collections::HashMap, hash::Hash};

use foldhash::fast::RandomState;

use crate::limits::{RATE_BURST_S, RATED_MAX};

/// How often something may be done. The default is: as often as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds between two of a steady flow; 0: no limit.
    interval_us: u64,
    /// How far a bucket may be from full, in microseconds.
    burst_us: u64,
}

/// How much has been taken. The default is: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, in microseconds of the monotonic clock.
    full_at_us: u64,
}

impl Bucket {
    /// Whether it is as good as new.
    #[must_use]
    pub fn is_full(self, now_ms: u64) -> bool {
        self.full_at_us <= now_ms.saturating_mul(1_000)
    }
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self { interval_us: 0, burst_us: 0 };

    /// So many a second, and [`RATE_BURST_S`] times as many at once after a pause. 0: no limit.
    #[must_use]
    pub fn per_second(count: u32) -> Self {
        if count == 0 {
            return Self::OFF;
        }
        Self { interval_us: 1_000_000 / u64::from(count), burst_us: 1_000_000 * RATE_BURST_S }
    }

    /// Takes one from `bucket`, or says how long to wait, in milliseconds: until a second's worth can be taken, so that whoever
    /// waits can then do something worth while.
    ///
    /// # Errors
    /// There is nothing left.
    #[inline]
    pub fn take(self, bucket: &mut Bucket, now_ms: u64) -> Result<(), u64> {
        if self == Self::OFF {
            return Ok(());
        }
        let now_us = now_ms.saturating_mul(1_000);
        let full_at_us = bucket.full_at_us.max(now_us) + self.interval_us;
        if full_at_us <= now_us + self.burst_us {
            bucket.full_at_us = full_at_us;
            return Ok(());
        }
        let second_us = (1_000_000 / self.interval_us.max(1)).max(1) * self.interval_us;
        Err((bucket.full_at_us + second_us - now_us - self.burst_us).div_ceil(1_000).max(1))
    }

    /// Whether something could be taken.
    #[must_use]
    pub fn has(self, bucket: Bucket, now_ms: u64) -> bool {
        self.take(&mut { bucket }, now_ms).is_ok()
    }
}

/// Buckets of those who did something lately. Full ones are forgotten, so there are about as many as the rate of what they count
/// times the time that a bucket takes to fill.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket, RandomState>,
    /// Those that are full are looked for again when there are so many, and not before this time.
    sweep_at: usize,
    sweep_at_ms: u64,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Everybody's is full.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::default(), sweep_at: 1, sweep_at_ms: 0 }
    }

    /// As [`Rate::take`], for this one. A table that is full of others refuses those it does not know.
    ///
    /// # Errors
    /// There is nothing left.
    pub fn take(&mut self, key: K, now_ms: u64) -> Result<(), u64> {
        if self.rate == Rate::OFF {
            return Ok(());
        }
        if self.buckets.len() >= self.sweep_at && now_ms >= self.sweep_at_ms {
            self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            // Twice what is left: each is looked at about once for each one that comes. Where the table ends before, once a second.
            self.sweep_at = (2 * self.buckets.len()).clamp(1, RATED_MAX);
            self.sweep_at_ms = if self.sweep_at < RATED_MAX { 0 } else { now_ms + 1_000 };
        }
        if self.buckets.len() >= RATED_MAX && !self.buckets.contains_key(&key) {
            return Err(1_000 * RATE_BURST_S);
        }
        self.rate.take(self.buckets.entry(key).or_default(), now_ms)
    }

    /// Whether something could be taken.
    #[must_use]
    pub fn has(&self, key: &K, now_ms: u64) -> bool {
        self.buckets.get(key).is_none_or(|bucket| self.rate.has(*bucket, now_ms))
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn taken(rate: Rate, bucket: &mut Bucket, now_ms: u64) -> u64 {
        (0..100_000).take_while(|_| rate.take(bucket, now_ms).is_ok()).count() as u64
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_the_rate_holds() {
        let (rate, mut bucket) = (Rate::per_second(20), Bucket::default());
        assert_eq!(taken(rate, &mut bucket, NOW), 20 * RATE_BURST_S);
        assert_eq!(taken(rate, &mut bucket, NOW + 49), 0);
        assert_eq!(taken(rate, &mut bucket, NOW + 50), 1);
        assert_eq!(taken(rate, &mut bucket, NOW + 1_050), 20);
        assert_eq!(
            taken(rate, &mut bucket, NOW + 10_000_000),
            20 * RATE_BURST_S,
            "no more than a burst after any pause"
        );
    }

    #[test]
    fn whoever_waits_as_told_finds_a_second_s_worth() {
        for per_second in [1, 3, 20, 500] {
            let (rate, mut bucket) = (Rate::per_second(per_second), Bucket::default());
            taken(rate, &mut bucket, NOW);
            let wait_ms = rate.take(&mut bucket, NOW).unwrap_err();
            assert!((999..=1_000).contains(&wait_ms), "{wait_ms}");
            let found = taken(rate, &mut bucket, NOW + wait_ms);
            assert!((u64::from(per_second)..=u64::from(per_second) + 1).contains(&found), "{found} of {per_second}");
        }
    }

    #[test]
    fn no_limit_is_never_reached() {
        let mut bucket = Bucket::default();
        assert_eq!(taken(Rate::OFF, &mut bucket, NOW), 100_000);
        let mut buckets = Buckets::new(Rate::OFF);
        assert!((0..1_000).all(|key: u64| buckets.take(key, NOW).is_ok()));
        assert!(buckets.is_empty(), "nobody needs to be remembered");
    }

    #[test]
    fn each_has_a_bucket_and_full_ones_are_forgotten() {
        let mut buckets = Buckets::new(Rate::per_second(1));
        for key in 0..1_000_u64 {
            buckets.take(key, NOW).unwrap();
        }
        assert_eq!(buckets.len(), 1_000);
        for _ in 1..RATE_BURST_S {
            buckets.take(7, NOW).unwrap();
        }
        assert!(buckets.take(7, NOW).is_err() && !buckets.has(&7, NOW) && buckets.has(&8, NOW));
        for key in 1_000..4_000 {
            buckets.take(key, NOW + 1_000).unwrap();
        }
        assert!(buckets.len() < 4_000, "those of the first second are full again");
        assert!(buckets.take(7, NOW + 1_000).is_ok() && buckets.take(7, NOW + 1_000).is_err(), "but not this one");
    }

    #[test]
    fn a_table_that_is_full_refuses_strangers_and_keeps_whom_it_knows() {
        let mut buckets = Buckets::new(Rate::per_second(1));
        for key in 0..RATED_MAX as u64 {
            buckets.take(key, NOW).unwrap();
        }
        assert!(buckets.take(RATED_MAX as u64, NOW).is_err());
        assert!(buckets.take(0, NOW).is_ok());
        assert_eq!(buckets.len(), RATED_MAX);
        assert!(buckets.take(RATED_MAX as u64, NOW + 60_000).is_ok());
    }

    proptest! {
        #[test]
        fn no_window_of_time_has_more_than_a_burst_and_the_rate(per_second in 1u32..100, gaps: Vec<u16>) {
            let (rate, mut bucket) = (Rate::per_second(per_second), Bucket::default());
            let (mut now, mut times) = (NOW, Vec::new());
            for gap in gaps {
                now += u64::from(gap % 512);
                if rate.take(&mut bucket, now).is_ok() {
                    times.push(now);
                }
            }
            for (index, first) in times.iter().enumerate() {
                let span_ms = times[times.len() - 1] - first;
                let most = u64::from(per_second) * RATE_BURST_S + 1 + (span_ms + 1) * u64::from(per_second) / 1_000 + 1;
                prop_assert!((times.len() - index) as u64 <= most);
            }
        }
    }
}
