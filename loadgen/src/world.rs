//! What every run works with, whatever its scenario.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use proto_spec::UserId;
use rim::rlimit::raise_descriptor_limit;

use crate::{
    devices::Redirects,
    limits::{LANE_CONNECTIONS_MAX, LANES_MAX, SLOTS_SPARE},
    place::Place,
    sample::Sight,
    tls::Trust,
    token::Mint,
    web::Carrier,
};

/// Where the server is, who the users are, and what is put up with.
#[derive(Debug)]
pub struct World {
    /// Where the server is.
    pub server: Place,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// Whom to trust, if it speaks TLS.
    pub trust: Option<Trust>,
    /// What carries the bytes of the protocol.
    pub carrier: Carrier,
    /// Makes tokens.
    pub mint: Arc<Mint>,
    /// First user id of the run; others follow.
    pub first_user: u64,
    /// Lost connections are part of the run.
    pub tolerates_disconnects: bool,
    /// Histories are read back in the end.
    pub compares_histories: bool,
    /// Latencies are told by the nodes of authors and recipients too.
    pub by_node: bool,
    /// A run in which nothing at all has happened for so long is given up.
    pub stall_after: Duration,
    /// Where the server can be looked at.
    pub sight: Sight,
    /// Told apart from what earlier runs left in the logs; also the seed of everything random.
    pub run: u64,
    /// Lanes that were asked for; none: as few as can hold the connections.
    pub lanes: Option<usize>,
    /// How often the run was asked to end before its time.
    pub stops: Arc<AtomicU32>,
}

impl World {
    /// The user with this place in the run: 0, 1, 2, ...
    #[must_use]
    pub const fn user(&self, at: u64) -> UserId {
        UserId(self.first_user + at)
    }

    /// How many lanes hold so many connections.
    ///
    /// # Errors
    /// There are too many connections.
    pub fn lanes_for(&self, connections: u64) -> anyhow::Result<usize> {
        let descriptors = raise_descriptor_limit();
        // A ring's table may have as many entries as the process may have open files.
        let in_lane = (LANE_CONNECTIONS_MAX as u64).min(descriptors.saturating_sub(SLOTS_SPARE as u64)).max(1);
        let lanes = (connections.div_ceil(in_lane).max(1) as usize).max(self.lanes.unwrap_or(1));
        let most = in_lane * LANES_MAX as u64;
        anyhow::ensure!(lanes <= LANES_MAX, "{connections} connections are too many: at most {most} fit in one run");
        Ok(lanes)
    }
}

/// The part of `total` that falls to one of `lanes`.
#[must_use]
pub const fn share(total: u64, lane: usize, lanes: usize) -> u64 {
    let (lane, lanes) = (lane as u64, lanes as u64);
    total / lanes + (lane < total % lanes) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for (total, lanes) in [(0, 3), (10, 3), (2, 5), (100_000, 7)] {
            let shares: Vec<u64> = (0..lanes).map(|lane| share(total, lane, lanes)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
