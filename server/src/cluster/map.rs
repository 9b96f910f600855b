//! PURE: the map of a cluster: which node owns which slot.
//!
//! The partitions of users are gathered into [`SLOTS`] slots of partitions that lie side by side: a slot is what a node owns as a
//! whole. A map is proposed by weighted rendezvous hashing with a bound: every node has a score for each slot, and a slot goes to the
//! node with the highest score that has less than its share. What has an owner with room stays there, so a change moves no more than it
//! has to.

use proto_spec::UserId;
use storage::LaneId;

use crate::shard::topology::{NodeId, PARTITIONS, partition_of};

/// So many slots does a cluster have, for ever: stored epochs name them.
pub const SLOTS: usize = 256;

/// Partitions of a slot.
pub const SLOT_PARTITIONS: u32 = PARTITIONS / SLOTS as u32;

/// Weights are small: each counts a draw for each slot.
pub const WEIGHT_MAX: u16 = 100;

/// A slot: 0 to [`SLOTS`] - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

impl Slot {
    /// The slot of a user: that of the user's partition. The same for ever.
    #[must_use]
    pub fn of(user: UserId) -> Self {
        Self((u32::from(partition_of(user).0) / SLOT_PARTITIONS) as u8)
    }

    /// Where slots move: the lane of its users.
    #[must_use]
    pub const fn lane(self) -> LaneId {
        LaneId(self.0 as u16)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

/// A node that may own slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// What it is called: of that its scores are made.
    pub name: String,
    /// How much it owns in proportion to others: 1 to [`WEIGHT_MAX`].
    pub weight: u16,
}

/// Who owns what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    owners: [NodeId; SLOTS],
}

impl Map {
    /// A map for these nodes, which are at least one, each with another name. What is owned by one of them in `current` stays there,
    /// as long as that is no more than its share.
    #[must_use]
    pub fn propose(current: Option<&Self>, nodes: &[Candidate]) -> Self {
        Self::propose_around(current, |_| false, nodes)
    }

    /// The same, but that these slots stay where they are in `current` whatever a node's share is, if that is one of the nodes.
    #[must_use]
    pub fn propose_around(current: Option<&Self>, is_pinned: impl Fn(Slot) -> bool, nodes: &[Candidate]) -> Self {
        let mut room = shares(nodes);
        let place_of = |node| nodes.iter().position(|candidate| candidate.node == node);
        let mut owners: [Option<usize>; SLOTS] = [None; SLOTS];
        if let Some(current) = current {
            let kept = Slot::all().filter_map(|slot| Some((slot, place_of(current.owner(slot))?)));
            let mut kept: Vec<_> =
                kept.map(|(slot, at)| (is_pinned(slot), score(&nodes[at], slot), slot, at)).collect();
            // Of a node that has too much the slots go for which its score is the lowest.
            kept.sort_unstable_by(|a, b| b.cmp(a));
            for (stays, _, slot, at) in kept {
                if stays || room[at] > 0 {
                    room[at] = room[at].saturating_sub(1);
                    owners[usize::from(slot.0)] = Some(at);
                }
            }
        }
        let owners = std::array::from_fn(|slot| {
            let at = owners[slot].unwrap_or_else(|| {
                let free = (0..nodes.len()).filter(|at| room[*at] > 0);
                let best = free.max_by_key(|at| (score(&nodes[*at], Slot(slot as u8)), &nodes[*at].name));
                let best = best.expect("the shares of all nodes are all slots");
                room[best] -= 1;
                best
            });
            nodes[at].node
        });
        Self { owners }
    }

    /// One of which somebody says whose each slot is; none if one has no owner.
    #[must_use]
    pub fn of(owner: impl Fn(Slot) -> Option<NodeId>) -> Option<Self> {
        let owners: Vec<_> = Slot::all().map(owner).collect::<Option<_>>()?;
        owners.try_into().ok().map(|owners| Self { owners })
    }

    /// Whose a slot is.
    #[must_use]
    pub const fn owner(&self, slot: Slot) -> NodeId {
        self.owners[slot.0 as usize]
    }

    /// How many slots a node owns.
    #[must_use]
    pub fn owned(&self, node: NodeId) -> usize {
        self.owners.iter().filter(|owner| **owner == node).count()
    }

    /// A number that two maps of the same nodes have in common if and, but for chance, only if they are the same. `name_of` says what the
    /// nodes are called, since their numbers are nobody else's.
    #[must_use]
    pub fn digest<'a>(&self, cluster: &str, mut name_of: impl FnMut(NodeId) -> &'a str) -> u64 {
        let begin = fold(0, cluster.as_bytes());
        self.owners.iter().fold(begin, |digest, owner| fold(digest, name_of(*owner).as_bytes()))
    }
}

/// How many slots each node is to have: in proportion to its weight, and all together. What does not go into whole slots goes to those
/// who lack most of one.
fn shares(nodes: &[Candidate]) -> Vec<usize> {
    let all: usize = nodes.iter().map(|node| usize::from(node.weight)).sum();
    let part = |node: &Candidate| SLOTS * usize::from(node.weight);
    let mut shares: Vec<_> = nodes.iter().map(|node| part(node) / all).collect();
    let left = SLOTS - shares.iter().sum::<usize>();
    let mut by_rest: Vec<_> = (0..nodes.len()).collect();
    by_rest.sort_by_key(|at| (std::cmp::Reverse(part(&nodes[*at]) % all), &nodes[*at].name));
    by_rest.into_iter().take(left).for_each(|at| shares[at] += 1);
    shares
}

/// The best of as many draws as the node weighs: so it is the best of all with a chance in proportion to that.
fn score(node: &Candidate, slot: Slot) -> u64 {
    let of_node = fold(0, node.name.as_bytes());
    (0..u64::from(node.weight)).map(|draw| mix(of_node ^ mix(u64::from(slot.0) << 32 | draw))).max().unwrap_or(0)
}

/// Bytes and their number, into what was folded before.
fn fold(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(before ^ bytes.len() as u64), |all, byte| mix(all ^ u64::from(*byte)))
}

/// The finalizer of splitmix64.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(weights: &[u16]) -> Vec<Candidate> {
        let node = |(at, weight): (usize, &u16)| Candidate {
            node: NodeId(at as u16),
            name: format!("node-{at}"),
            weight: *weight,
        };
        weights.iter().enumerate().map(node).collect()
    }

    fn moved(a: &Map, b: &Map) -> usize {
        Slot::all().filter(|slot| a.owner(*slot) != b.owner(*slot)).count()
    }

    #[test]
    fn a_map_is_the_same_for_ever() {
        let map = Map::propose(None, &nodes(&[1, 1, 1]));
        let first: Vec<_> = Slot::all().take(16).map(|slot| map.owner(slot).0).collect();
        assert_eq!(
            first,
            [1, 0, 0, 1, 0, 2, 1, 0, 1, 0, 2, 1, 1, 1, 1, 0],
            "of a static cluster it says where data lies"
        );
        let digest = map.digest("chat", |node| ["a", "b", "c"][usize::from(node.0)]);
        assert_eq!(digest, 0x27d8_b4c8_a2a4_632a);
    }

    #[test]
    fn slots_are_partitions_side_by_side() {
        for user in (1..10_000).map(UserId) {
            assert_eq!(u32::from(Slot::of(user).0), u32::from(partition_of(user).0) / 256);
        }
        assert_eq!(Slot::all().count(), SLOTS);
    }

    proptest! {
        #[test]
        fn each_node_has_its_share_within_a_slot(weights in prop::collection::vec(1..=WEIGHT_MAX, 1..40)) {
            let nodes = nodes(&weights);
            let map = Map::propose(None, &nodes);
            let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for node in &nodes {
                let share = SLOTS as f64 * f64::from(node.weight) / all;
                prop_assert!((map.owned(node.node) as f64 - share).abs() < 1.0);
            }
        }

        #[test]
        fn who_comes_gets_its_share_and_nothing_else_moves(count in 1..30_usize, weight in 1..=3_u16) {
            let (before, mut after) = (nodes(&vec![2; count]), nodes(&vec![2; count]));
            after.push(Candidate { node: NodeId(99), name: "new".into(), weight });
            let old = Map::propose(None, &before);
            let new = Map::propose(Some(&old), &after);
            prop_assert_eq!(moved(&old, &new), new.owned(NodeId(99)));
            // Of nodes that are alike: a share of those that there are then, and a hundredth.
            if weight == 2 {
                prop_assert!(moved(&old, &new) as f64 <= SLOTS as f64 * (1.0 / (count + 1) as f64 + 0.01));
            }
        }

        #[test]
        fn who_goes_leaves_its_slots_to_the_others_and_hardly_anything_else_moves(count in 2..30_usize, goes in 0..30_usize) {
            let before = nodes(&vec![1; count]);
            let gone = goes % count;
            let mut after = before.clone();
            after.remove(gone);
            let old = Map::propose(None, &before);
            let new = Map::propose(Some(&old), &after);
            prop_assert_eq!(new.owned(NodeId(gone as u16)), 0);
            prop_assert!(moved(&old, &new) as f64 <= SLOTS as f64 * (1.0 / count as f64 + 0.01) + 1.0);
            prop_assert_eq!(Map::propose(Some(&new), &after), new, "and then it stands");
        }

        #[test]
        fn the_order_of_nodes_does_not_matter(weights in prop::collection::vec(1..5_u16, 1..12), seed in any::<u64>()) {
            let nodes = nodes(&weights);
            let mut other = nodes.clone();
            other.sort_by_key(|node| mix(seed ^ u64::from(node.node.0)));
            let name_of = |node: NodeId| nodes[usize::from(node.0)].name.as_str();
            let [a, b] = [&nodes, &other].map(|nodes| Map::propose(None, nodes));
            prop_assert_eq!(a.digest("x", name_of), b.digest("x", name_of));
            prop_assert_ne!(a.digest("x", name_of), a.digest("y", name_of));
        }
    }
}
