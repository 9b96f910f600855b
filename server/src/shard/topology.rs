//! PURE: which partition a user belongs to, and which shard owns a partition.

use std::sync::Arc;

use proto_spec::UserId;
use storage::LaneId;

use crate::cluster::map::{Map, Slot};

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

/// A core of this process, and the shard that lives on it: 0, 1, 2, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A node of a cluster. What the number stands for all nodes of a cluster know alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// Where a user's home is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// A core of this node.
    Here(CoreId),
    /// Another node, which knows the core.
    Elsewhere(NodeId),
}

/// What this node owns in its cluster.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// This node.
    pub node: NodeId,
    /// Who owns what.
    pub map: Arc<Map>,
}

/// Where users have their homes: in this node, or all over a cluster.
#[derive(Clone, Debug)]
pub struct Homes {
    /// Of this node.
    pub topology: Topology,
    /// None: this node is all that there is.
    pub ownership: Option<Ownership>,
}

impl From<Topology> for Homes {
    /// Of a node that is all that there is.
    fn from(topology: Topology) -> Self {
        Self { topology, ownership: None }
    }
}

impl Homes {
    /// The home of a user: the only shard that writes the user's log.
    #[must_use]
    pub fn of(&self, user: UserId) -> Home {
        self.elsewhere(user).map_or_else(|| Home::Here(self.topology.home_of(user)), Home::Elsewhere)
    }

    /// The node of a user's home, if it is another one.
    #[must_use]
    pub fn elsewhere(&self, user: UserId) -> Option<NodeId> {
        let Ownership { node, map } = self.ownership.as_ref()?;
        Some(map.owner(Slot::of(user))).filter(|owner| owner != node)
    }
}

/// Where users of this node live: how many cores it has, and how many lanes each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    cores: u16,
    lanes: u16,
}

impl Topology {
    /// One node with `cores` cores of one lane each; `None` for zero.
    #[must_use]
    pub const fn new(cores: u16) -> Option<Self> {
        Self::with_lanes(cores, 1)
    }

    /// One node with `cores` cores of `lanes` lanes each; `None` for zero of one of them, and for more lanes than have numbers.
    #[must_use]
    pub const fn with_lanes(cores: u16, lanes: u16) -> Option<Self> {
        match cores.checked_mul(lanes) {
            None | Some(0) => None,
            Some(_) => Some(Self { cores, lanes }),
        }
    }

    /// How many cores this node has.
    #[must_use]
    pub const fn cores(self) -> u16 {
        self.cores
    }

    /// How many lanes each core has.
    #[must_use]
    pub const fn lanes(self) -> u16 {
        self.lanes
    }

    /// The core of a user's home, if that is in this node.
    #[must_use]
    pub fn home_of(self, user: UserId) -> CoreId {
        // That of the user's lane, without a division.
        let partition = u32::from(partition_of(user).0);
        CoreId((partition * u32::from(self.cores) / PARTITIONS) as u16)
    }

    /// The lane of a user: each has its share of the partitions, which lie side by side in the store.
    #[must_use]
    pub fn lane_of(self, user: UserId) -> LaneId {
        let lanes = u32::from(self.cores) * u32::from(self.lanes);
        LaneId((u32::from(partition_of(user).0) * lanes / PARTITIONS) as u16)
    }

    /// Whose lane it is.
    #[must_use]
    pub const fn core_of(self, lane: LaneId) -> CoreId {
        CoreId(lane.0 / self.lanes)
    }

    /// The lanes of a core.
    pub fn lanes_of(self, core: CoreId) -> impl ExactSizeIterator<Item = LaneId> + use<> {
        let first = core.0 * self.lanes;
        (first..first + self.lanes).map(LaneId)
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
    fn a_user_lives_on_the_same_core_however_many_lanes_it_has() {
        for (cores, lanes) in [(1, 1), (1, 4), (3, 4), (7, 16), (64, 5)] {
            let (one, many) = (Topology::new(cores).unwrap(), Topology::with_lanes(cores, lanes).unwrap());
            for user in (1..5_000).map(UserId) {
                assert_eq!(many.home_of(user), one.home_of(user));
                assert!(many.lanes_of(many.home_of(user)).any(|lane| lane == many.lane_of(user)));
            }
        }
        assert_eq!(Topology::with_lanes(2, 0), None);
        assert_eq!(Topology::with_lanes(1_024, 64), None);
    }

    #[test]
    fn the_last_partition_has_an_owner() {
        let topology = Topology::new(64).unwrap();
        for user in 1..=200_000 {
            assert!(topology.home_of(UserId(user)).0 < 64);
        }
    }
}
