//! Capacity: how many connections a node holds with the open files that it may have, and whether these are enough to serve at all.
//!
//! The kernel bounds two things by the limit of open files (RLIMIT_NOFILE), each for itself: what the process has open, and the table
//! of each ring, where connections are. So a node has more connections than the limit says by having several cores. Users are spread
//! over the cores by a hash, so the cores fill evenly.

use std::fmt;

use tracing::warn;

use crate::limits::{
    CORE_CONNECTIONS_MIN, CORE_FILES, DESCRIPTORS_SPARE, ENGINE_TABLES_MAX, ENGINE_TABLES_MIN, ENGINE_WORK_FILES,
    PROCESS_FILES,
};

/// What a node's rings are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Slots in the table of each ring.
    pub table: u32,
    /// Most connections of one core. More are refused.
    pub core_max: u32,
    /// Most connections of the node. More are refused.
    pub node_max: u32,
    /// Most clients of one core that are served through another node, each of which needs an open file. Others are told where to go.
    pub tunnels_max: u32,
}

/// The limit of open files does not allow serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewFiles {
    limit: u64,
    needed: u32,
    cores: u16,
    connections_max: u32,
}

impl std::error::Error for TooFewFiles {}

impl fmt::Display for TooFewFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed, cores, connections_max } = *self;
        let cores = if cores == 1 { "one core".to_owned() } else { format!("{cores} cores") };
        write!(
            f,
            "this process may have {limit} files open, and a server with {cores} needs {needed} at least, {} for all of \
             connections.max: raise the limit (LimitNOFILE= of the service, `--ulimit nofile={needed}` of a container, `ulimit -n \
             {needed}` in a shell that may)",
            connections_max.saturating_add(DESCRIPTORS_SPARE).max(needed)
        )
    }
}

impl Capacity {
    /// For `connections_max` connections on so many cores, under this limit of open files. One core may hold them all if
    /// the limit allows.
    ///
    /// # Errors
    /// The limit does not allow serving.
    pub fn new(connections_max: u32, cores: u16, limit: u64) -> Result<Self, TooFewFiles> {
        let table_min = connections_max.min(CORE_CONNECTIONS_MIN) + DESCRIPTORS_SPARE;
        let needed = table_min.max(files_beside_tables(cores) + ENGINE_TABLES_MIN);
        if limit < needed.into() {
            return Err(TooFewFiles { limit, needed, cores, connections_max });
        }
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let table = connections_max.saturating_add(DESCRIPTORS_SPARE).min(limit);
        let core_max = table.saturating_sub(DESCRIPTORS_SPARE);
        let node_max = connections_max.min(core_max.saturating_mul(cores.into()));
        // Half of what nothing else may need.
        let left = limit.saturating_sub(files_beside_tables(cores) + ENGINE_TABLES_MAX) / 2;
        let tunnels_max = core_max.min(left / u32::from(cores.max(1)));
        Ok(Self { table, core_max, node_max, tunnels_max })
    }

    /// As [`Capacity::new`]; the log hears if it is less than wanted.
    ///
    /// # Errors
    /// See [`Capacity::new`].
    pub fn told(connections_max: u32, cores: u16, limit: u64) -> Result<Self, TooFewFiles> {
        let this = Self::new(connections_max, cores, limit)?;
        if this.node_max < connections_max {
            let each = connections_max.div_ceil(cores.into()).saturating_add(DESCRIPTORS_SPARE);
            warn!(
                connections_max = this.node_max,
                "fewer connections than configured: the limit of descriptors is {limit} for each of {cores} cores, \
                 somewhat more than {each} are needed (`ulimit -n`, or LimitNOFILE= of the service), or more cores"
            );
        }
        Ok(this)
    }
}

/// How many tables the engine may keep open for reads, under this limit of open files.
#[must_use]
pub fn engine_tables_max(cores: u16, limit: u64) -> usize {
    let left = limit.saturating_sub(files_beside_tables(cores).into());
    left.clamp(ENGINE_TABLES_MIN.into(), ENGINE_TABLES_MAX.into()) as usize
}

fn files_beside_tables(cores: u16) -> u32 {
    PROCESS_FILES + u32::from(cores) * CORE_FILES + ENGINE_WORK_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_may_hold_all_connections_if_the_limit_allows() {
        let capacity = Capacity::new(1_000, 4, 1 << 20).unwrap();
        let tunnels_max = 1_000;
        let table = 1_000 + DESCRIPTORS_SPARE;
        assert_eq!(capacity, Capacity { table, core_max: 1_000, node_max: 1_000, tunnels_max });
    }

    #[test]
    fn cores_pass_the_limit_together() {
        let core_max = 20_000 - DESCRIPTORS_SPARE;
        let of = |cores| Capacity::new(50_000, cores, 20_000).unwrap();
        let tunnels_max = (20_000 - 64 - 8 - 256 - 900) / 2;
        assert_eq!(of(1), Capacity { table: 20_000, core_max, node_max: core_max, tunnels_max });
        assert_eq!(of(2).tunnels_max, (20_000 - 64 - 16 - 256 - 900) / 4);
        assert_eq!(Capacity::new(50_000, 2, 1_024).unwrap().tunnels_max, 0, "the engine may need them");
        assert_eq!(of(2).node_max, 2 * core_max);
        assert_eq!(of(3).node_max, 50_000);
        assert_eq!(of(3).table, 20_000);
    }

    #[test]
    fn a_limit_that_nobody_can_be_served_with_is_refused_with_what_is_needed() {
        let needed = |connections_max, cores| {
            let said = Capacity::new(connections_max, cores, 64).unwrap_err().to_string();
            let (_, rest) = said.split_once(" needs ").unwrap();
            rest.split_once(" at least").unwrap().0.parse::<u32>().unwrap()
        };
        for (connections_max, cores, files) in [(100_000, 1, 512), (100_000, 16, 512), (100_000, 64, 896), (10, 1, 392)]
        {
            assert_eq!(needed(connections_max, cores), files);
            Capacity::new(connections_max, cores, u64::from(files) - 1).unwrap_err();
            let capacity = Capacity::new(connections_max, cores, files.into()).unwrap();
            assert!(capacity.core_max >= connections_max.min(CORE_CONNECTIONS_MIN), "{capacity:?}");
        }
        let said = Capacity::new(100_000, 2, 256).unwrap_err().to_string();
        for words in
            ["may have 256 files open", "2 cores needs 512 at least, 100256 for all", "LimitNOFILE=", "ulimit -n 512"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(Capacity::new(u32::MAX, 2, u64::MAX).unwrap().node_max, u32::MAX);
    }

    #[test]
    fn the_engine_keeps_as_many_tables_open_as_are_left_to_it() {
        assert_eq!(engine_tables_max(1, 512), 512 - 64 - 8 - 256);
        assert_eq!(engine_tables_max(1, 0), 64);
        assert_eq!(engine_tables_max(2, 1 << 20), 900);
    }
}
