//! PURE: which partition a user belongs to, and which shard owns a partition.

use proto_spec::{EpochId, UserId};
use storage::LaneId;

use crate::cluster::{
    file::Identity,
    map::{SLOTS, Slot},
};

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

/// Where users have their homes: in this node, or all over a cluster.
#[derive(Clone, Debug)]
pub struct Homes {
    /// Of this node.
    pub topology: Topology,
    /// This node among others, and who owns what; none: this node is all that there is.
    pub cluster: Option<Identity>,
}

impl From<Topology> for Homes {
    /// Of a node that is all that there is.
    fn from(topology: Topology) -> Self {
        Self { topology, cluster: None }
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
        let Identity { nodes, own } = self.cluster.as_ref()?;
        Some(nodes.map.owner(Slot::of(user))).filter(|owner| owner != own)
    }

    /// Whether what a node owns may change while it serves.
    #[must_use]
    pub fn do_move(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.nodes.terms.is_some())
    }

    /// The term in which a slot is owned; 0 where slots do not move.
    #[must_use]
    pub fn term(&self, slot: Slot) -> u64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.term(slot))
    }

    /// The slots of a core that this node owns, where slots move; none elsewhere.
    pub fn slots_of(&self, core: CoreId) -> impl Iterator<Item = Slot> {
        let cluster = self.cluster.as_ref().filter(|_| self.do_move());
        cluster.into_iter().flat_map(move |Identity { nodes, own }| {
            let slots = self.topology.lanes_of(core).map(|lane| Slot(lane.0 as u8));
            slots.filter(move |slot| nodes.map.owner(*slot) == *own)
        })
    }

    /// What is appended to logs of a lane, after a start whose own epoch this is: where lanes are slots that move, each term has another
    /// one, since somebody else may have appended between two terms of a node.
    #[must_use]
    pub fn epoch(&self, of_start: EpochId, lane: LaneId) -> EpochId {
        // Where slots do not move, lanes are not slots, and all terms are 0.
        let term = self.term(Slot(lane.0 as u8));
        if term == 0 { of_start } else { EpochId(mix(mix(of_start.0) ^ (term << 8 | u64::from(lane.0))) >> 8 | 1) }
    }
}

/// Spreads what differs in a few bits over all of them.
const fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Where users of this node live: how many cores it has, and how many lanes all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    cores: u16,
    /// Of all cores.
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
            Some(lanes) => Some(Self { cores, lanes }),
        }
    }

    /// A node whose slots move: each is a lane, whether it is this node's or not. `None` for zero cores, and for more than there are slots.
    #[must_use]
    pub const fn with_slots(cores: u16) -> Option<Self> {
        if cores == 0 || cores as usize > SLOTS { None } else { Some(Self { cores, lanes: SLOTS as u16 }) }
    }

    /// How many cores this node has.
    #[must_use]
    pub const fn cores(self) -> u16 {
        self.cores
    }

    /// The core of a user's home, if that is in this node.
    #[must_use]
    pub fn home_of(self, user: UserId) -> CoreId {
        self.core_of(self.lane_of(user))
    }

    /// The lane of a user: each has its share of the partitions, which lie side by side in the store.
    #[must_use]
    pub fn lane_of(self, user: UserId) -> LaneId {
        LaneId((u32::from(partition_of(user).0) * u32::from(self.lanes) / PARTITIONS) as u16)
    }

    /// Whose lane it is.
    #[must_use]
    pub fn core_of(self, lane: LaneId) -> CoreId {
        CoreId((u32::from(lane.0) * u32::from(self.cores) / u32::from(self.lanes)) as u16)
    }

    /// The first lane of a core; those that follow up to the next core's are its own too.
    #[must_use]
    pub fn first_lane_of(self, core: CoreId) -> LaneId {
        LaneId((u32::from(core.0) * u32::from(self.lanes)).div_ceil(u32::from(self.cores)) as u16)
    }

    /// The lanes of a core.
    pub fn lanes_of(self, core: CoreId) -> impl ExactSizeIterator<Item = LaneId> + use<> {
        let (first, next) = (self.first_lane_of(core).0, self.first_lane_of(CoreId(core.0 + 1)).0);
        (first..next).map(LaneId)
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
    fn each_slot_is_a_lane_of_one_core() {
        for cores in [1, 2, 3, 7, 255, 256] {
            let topology = Topology::with_slots(cores).unwrap();
            let mut lanes = Vec::new();
            for core in (0..cores).map(CoreId) {
                let own: Vec<_> = topology.lanes_of(core).collect();
                assert!(!own.is_empty() && own.iter().all(|lane| topology.core_of(*lane) == core));
                lanes.extend(own);
            }
            assert_eq!(lanes, Slot::all().map(Slot::lane).collect::<Vec<_>>());
            for user in (1..2_000).map(UserId) {
                assert_eq!(topology.lane_of(user), Slot::of(user).lane());
            }
        }
        assert_eq!((Topology::with_slots(0), Topology::with_slots(257)), (None, None));
    }

    #[test]
    fn the_last_partition_has_an_owner() {
        let topology = Topology::new(64).unwrap();
        for user in 1..=200_000 {
            assert!(topology.home_of(UserId(user)).0 < 64);
        }
    }
}
