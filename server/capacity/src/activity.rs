//! How much each user writes: few write most. Log-normal, without chance: a user's share follows from the id alone.
//!
//! Log-normal because what a person does in a day is a product of many things; the spread is assumed, as nobody has measured it here.
//! Whoever has a trace sets it. A power law was not taken: with hundreds of millions of users its largest would write more than the
//! server's rates let anybody.

/// Of the logarithm of what a user writes, the standard deviation. With 2 one user in a hundred writes more than a third of all.
pub const SPREAD: f64 = 2.0;

/// Steps of the table: a cache of a core has room for it.
const STEPS: usize = 1 << 16;

/// Messages a day by user.
#[derive(Clone, Debug)]
pub struct Activity {
    mean: f64,
    spread: f64,
    steps: Vec<f64>,
}

impl Activity {
    /// Log-normal with this mean, of users whose logarithms have this standard deviation.
    #[must_use]
    pub fn new(mean: f64, spread: f64) -> Self {
        let mut activity = Self { mean, spread, steps: Vec::new() };
        activity.steps = (0..STEPS).map(|step| activity.at((step as f64 + 0.5) / STEPS as f64)).collect();
        activity
    }

    /// What the user below whom this part of all users write less writes.
    fn at(&self, part: f64) -> f64 {
        self.mean * (self.spread * quantile(part) - self.spread * self.spread / 2.0).exp()
    }

    /// Messages a day of a user.
    #[must_use]
    pub fn of(&self, user: u64) -> f64 {
        let bits = mix(user ^ 0x5bd1_e995_7b93_1d0d);
        let step = (bits >> 48) as usize;
        // Of the highest step those who write most by far are told apart.
        if step == STEPS - 1 {
            let above = ((bits & 0xffff_ffff_ffff) as f64 + 0.5) / (STEPS as f64 * (1u64 << 48) as f64);
            return self.at(1.0 - above);
        }
        self.steps[step]
    }

    /// Which part of all messages the users write who are the first part of those who write most.
    #[must_use]
    pub fn share_of_first(&self, part: f64) -> f64 {
        normal(self.spread + quantile(part))
    }
}

/// The finalizer of splitmix64.
#[must_use]
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Below which value this part of a normal distribution lies: Acklam's approximation, good to nine digits.
fn quantile(part: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_8,
        -275.928_510_446_969,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_4,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    const LOW: f64 = 0.024_25;
    let tail = |part: f64| {
        let q = (-2.0 * part.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    };
    if part < LOW {
        tail(part)
    } else if part > 1.0 - LOW {
        -tail(1.0 - part)
    } else {
        let q = part - 0.5;
        q * horner(&A, q * q) / horner(&B, q * q)
    }
}

/// A polynomial, its highest coefficient first.
fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// Which part of a normal distribution lies below a value, by the quantile turned around.
fn normal(value: f64) -> f64 {
    let (mut low, mut high) = (1e-12, 1.0 - 1e-12);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if quantile(middle) < value { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (part, value) in [(0.5, 0.0), (0.841_344_746, 1.0), (0.99, 2.326_347_874), (0.001, -3.090_232_306)] {
            assert!((quantile(part) - value).abs() < 1e-7, "{part}: {}", quantile(part));
        }
        assert!((normal(1.0) - 0.841_344_746).abs() < 1e-7);
    }

    #[test]
    fn people_write_as_much_as_the_mean_says_and_few_of_them_most_of_it() {
        let activity = Activity::new(40.0, SPREAD);
        let users = 3_000_000;
        let mut all: Vec<f64> = (1..=users).map(|user| activity.of(user)).collect();
        let sum: f64 = all.iter().sum();
        assert!((sum / users as f64 / 40.0 - 1.0).abs() < 0.02, "{}", sum / users as f64);
        all.sort_by(|a, b| b.total_cmp(a));
        let first: f64 = all[..users as usize / 100].iter().sum();
        // By hand: the part below 2 - 2.326 of a normal distribution, 0.372.
        assert!((activity.share_of_first(0.01) - 0.372).abs() < 0.001, "{}", activity.share_of_first(0.01));
        assert!((first / sum - 0.372).abs() < 0.02, "{}", first / sum);
        assert!(all[0] > 1_000.0 * all[users as usize / 2], "{} {}", all[0], all[users as usize / 2]);
    }
}
