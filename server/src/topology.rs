//! PURE: which partition a user belongs to, and which shard owns a partition.

use proto_spec::UserId;
use storage::CoreId;

/// A large fixed number of logical partitions, mapped to few places now and to more later without rewriting keys.
pub const PARTITIONS: u32 = 65_536;

/// A logical partition: 0 to [`PARTITIONS`] - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

/// The partition of a user. The same for ever: stored keys contain it.
#[must_use]
pub fn partition_of(user: UserId) -> Partition {
    Partition(storage::partition_of(user))
}

/// Where users live: how many cores this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    cores: u16,
}

impl Topology {
    /// One node with `cores` cores; `None` for zero.
    #[must_use]
    pub const fn new(cores: u16) -> Option<Self> {
        if cores == 0 { None } else { Some(Self { cores }) }
    }

    /// How many cores this node has.
    #[must_use]
    pub const fn cores(self) -> u16 {
        self.cores
    }

    /// The home of a user: the only shard that writes the user's log.
    #[must_use]
    pub fn home_of(self, user: UserId) -> CoreId {
        let partition = u32::from(partition_of(user).0);
        CoreId((partition * u32::from(self.cores) / PARTITIONS) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_owns_its_share_of_users() {
        let topology = Topology::new(3).unwrap();
        let mut users = [0u32; 3];
        for user in 1..=30_000 {
            users[usize::from(topology.home_of(UserId(user)).0)] += 1;
        }
        assert!(users.iter().all(|&n| (9_000..11_000).contains(&n)), "{users:?}");
    }

    #[test]
    fn the_last_partition_has_an_owner() {
        let topology = Topology::new(64).unwrap();
        for user in 1..=200_000 {
            assert!(topology.home_of(UserId(user)).0 < 64);
        }
    }
}
