//! What the integration tests share: a world of cores in one thread with a model of the store, the simulator, and the
//! real server as a child process with clients that check every frame they get.

pub mod attack;
pub mod connection;
pub mod crowd;
pub mod database;
pub mod device;
pub mod disk;
pub mod fleet;
pub mod foreign;
pub mod frames;
pub mod gateway;
pub mod http;
pub mod kills;
pub mod load;
pub mod model;
pub mod pair;
pub mod process;
pub mod relay;
pub mod rng;
pub mod route;
pub mod said;
pub mod seeds;
pub mod sim;
pub mod spec;
pub mod tls;
pub mod wires;
pub mod world;

use std::time::{Duration, Instant};

/// How long anything that must happen may take. Only a test that fails waits for it: on a machine that builds something else, a program gets
/// a tenth of a processor, and a sync takes many seconds.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `happened`.
///
/// # Panics
/// It does not happen before [`DEADLINE`].
#[track_caller]
pub fn wait_until(what: &str, happened: impl FnMut() -> bool) {
    wait_until_within(DEADLINE, what, happened);
}

/// As `wait_until`, for what may take longer.
///
/// # Panics
/// It does not happen before the deadline.
#[track_caller]
pub fn wait_until_within(deadline: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < deadline, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What an environment variable says, if it is a number.
#[must_use]
pub fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
