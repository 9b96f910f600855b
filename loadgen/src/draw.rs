//! Random numbers, and the distributions that scenarios draw from. A seed gives the same run again.

/// A generator (SplitMix64): small, good enough for loads, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`; 0 if that is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.number() as u128 * end as u128) >> 64) as u64
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Times between events that know nothing of each other.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// A heavy-tailed length with this mean: most are short, few are long. `sigma` is the width of its logarithm.
    pub fn log_normal(&mut self, mean: f64, sigma: f64) -> f64 {
        // Box and Muller: two uniform numbers make a normal one.
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        (mean.ln() - sigma * sigma / 2.0 + sigma * normal).exp()
    }

    /// A rank below `count` (0 if that is 0): rank r with a probability of about 1 / (r + 1), as people write to their contacts.
    pub fn rank(&mut self, count: u64) -> u64 {
        let rank = (count as f64 + 1.0).powf(self.unit()) - 1.0;
        (rank as u64).min(count.saturating_sub(1))
    }
}

/// One number made into another that shows nothing of it.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 20_000;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..DRAWS).map(|_| draw()).sum::<f64>() / DRAWS as f64
    }

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let numbers = |seed| {
            let mut draw = Draw::new(seed);
            (0..10).map(|_| draw.number()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn distributions_have_the_mean_that_they_are_asked_for() {
        let mut draw = Draw::new(1);
        assert!((mean(|| draw.unit()) - 0.5).abs() < 0.02);
        assert!((mean(|| draw.exponential(100.0)) - 100.0).abs() < 3.0);
        assert!((mean(|| draw.log_normal(100.0, 0.9)) - 100.0).abs() < 5.0);
        assert!((mean(|| draw.below(11) as f64) - 5.0).abs() < 0.1);
    }

    #[test]
    fn low_ranks_are_drawn_more_often_and_none_is_out_of_range() {
        let mut draw = Draw::new(1);
        let mut seen = [0; 10];
        for _ in 0..DRAWS {
            seen[draw.rank(10) as usize] += 1;
        }
        assert!(seen.windows(2).all(|two| two[0] > two[1]), "{seen:?}");
        assert!(seen[9] > 0);
        assert_eq!((draw.rank(0), draw.rank(1), draw.below(0), draw.below(1)), (0, 0, 0, 0));
    }
}
