//! Capacity: how many connections a node holds with the descriptors that it may have.
//!
//! The kernel bounds the table of each ring, not of the process, by the limit of descriptors; so a node passes that limit
//! by having several cores. Users are spread over the cores by a hash, so the cores fill evenly.

use tracing::warn;

use crate::limits::DESCRIPTORS_SPARE;

/// What a node's rings are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Slots in the table of each ring.
    pub table: u32,
    /// Most connections of one core. More are refused.
    pub core_max: u32,
    /// Most connections of the node. More are refused.
    pub node_max: u32,
}

impl Capacity {
    /// For `connections_max` connections on so many cores, under this limit of descriptors. One core may hold them all if
    /// the limit allows.
    #[must_use]
    pub fn new(connections_max: u32, cores: u16, limit: u64) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let table = connections_max.saturating_add(DESCRIPTORS_SPARE).min(limit);
        let core_max = table.saturating_sub(DESCRIPTORS_SPARE);
        let node_max = connections_max.min(core_max.saturating_mul(cores.into()));
        Self { table, core_max, node_max }
    }

    /// As [`Capacity::new`]; the log hears if it is less than wanted.
    #[must_use]
    pub fn told(connections_max: u32, cores: u16, limit: u64) -> Self {
        let this = Self::new(connections_max, cores, limit);
        if this.node_max < connections_max {
            let each = connections_max.div_ceil(cores.into()).saturating_add(DESCRIPTORS_SPARE);
            warn!(
                connections_max = this.node_max,
                "fewer connections than configured: the limit of descriptors is {limit} for each of {cores} cores, \
                 somewhat more than {each} are needed (`ulimit -n`, or LimitNOFILE= of the service), or more cores"
            );
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_may_hold_all_connections_if_the_limit_allows() {
        let capacity = Capacity::new(1_000, 4, 1 << 20);
        assert_eq!(capacity, Capacity { table: 1_000 + DESCRIPTORS_SPARE, core_max: 1_000, node_max: 1_000 });
    }

    #[test]
    fn cores_pass_the_limit_together() {
        let core_max = 20_000 - DESCRIPTORS_SPARE;
        let of = |cores| Capacity::new(50_000, cores, 20_000);
        assert_eq!(of(1), Capacity { table: 20_000, core_max, node_max: core_max });
        assert_eq!(of(2).node_max, 2 * core_max);
        assert_eq!(of(3).node_max, 50_000);
        assert_eq!(of(3).table, 20_000);
    }

    #[test]
    fn a_limit_below_the_spare_ones_allows_nothing_and_no_limit_everything() {
        assert_eq!(Capacity::new(10, 2, 100).node_max, 0);
        assert_eq!(Capacity::new(u32::MAX, 2, u64::MAX).node_max, u32::MAX);
    }
}
