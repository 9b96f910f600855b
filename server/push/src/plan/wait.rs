//! Wait: how long until a notice is tried again.

use std::time::Duration;

use crate::settings::Pace;

/// The wait before the next attempt, after so many that failed (one or more): exponential, with full jitter. `chance` is in 0.0..1.0.
/// What the provider asks for is a lower bound, to which the jitter is added, so that what was refused together does not come back
/// together.
pub(super) fn before_next(failed: u32, asked: Option<Duration>, chance: f64, pace: &Pace) -> Duration {
    let doubled = pace.retry_first.saturating_mul(1_u32.checked_shl(failed - 1).unwrap_or(u32::MAX));
    let jitter = doubled.min(pace.retry_max).mul_f64(chance);
    asked.unwrap_or_default().saturating_add(jitter)
}
