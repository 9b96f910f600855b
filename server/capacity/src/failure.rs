//! What a failure moves, and how soon everybody is back.

use crate::{
    balance::{Balance, Weights},
    placement::{Node, Placement},
};

/// What follows when nodes die.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failure {
    /// Nodes that died.
    pub dead: usize,
    /// Units that they owned: the least that must move.
    pub units_dead: usize,
    /// Units that moved.
    pub units_moved: usize,
    /// Users who have to connect anew.
    pub users: f64,
    /// Nodes that get some of them.
    pub receivers: usize,
    /// Users whom the one gets that gets most.
    pub users_most: f64,
    /// The fullest node afterwards, against the mean of those that live, by users.
    pub uneven: f64,
}

impl Failure {
    /// Of nodes that died between two placements of units that weigh so much.
    #[must_use]
    pub fn of(before: &Placement, after: &Placement, weights: &Weights) -> Self {
        let died = |node: Node| before.alive[usize::from(node)] && !after.alive[usize::from(node)];
        let mut gets = vec![0.0; after.alive.len()];
        let (mut units_moved, mut users) = (0, 0.0);
        for (unit, _, to) in after.moved(before) {
            units_moved += 1;
            users += weights.users[unit as usize];
            gets[usize::from(to)] += weights.users[unit as usize];
        }
        Self {
            dead: (0..before.alive.len() as Node).filter(|&node| died(node)).count(),
            units_dead: before.owners.iter().filter(|&&owner| died(owner)).count(),
            units_moved,
            users,
            receivers: gets.iter().filter(|&&users| users > 0.0).count(),
            users_most: gets.iter().copied().fold(0.0, f64::max),
            uneven: Balance::of(after, weights).users,
        }
    }

    /// After how many seconds everybody is back who is connected, if each node lets in so many a second. Never sooner than the node
    /// that gets most can.
    #[must_use]
    pub fn back_s(&self, online: f64, logins_per_s: f64) -> f64 {
        self.users_most * online / logins_per_s
    }
}

/// The node that owns most users.
#[must_use]
pub fn fullest(placement: &Placement, weights: &Weights) -> Node {
    let users = weights.by_node(placement).users;
    let nodes = (0..users.len() as Node).rev();
    nodes.max_by(|a, b| users[usize::from(*a)].total_cmp(&users[usize::from(*b)])).unwrap_or(0)
}

/// The rack, so many nodes in a row, that owns most users.
#[must_use]
pub fn fullest_rack(placement: &Placement, weights: &Weights, nodes: Node) -> Vec<Node> {
    let users = weights.by_node(placement).users;
    let racks = users.chunks_exact(nodes.into()).map(|rack| rack.iter().sum::<f64>());
    let fullest = (0..).zip(racks).max_by(|a, b| a.1.total_cmp(&b.1));
    let first = fullest.map_or(0, |(at, _)| at * nodes);
    (first..first + nodes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_counted_and_so_is_who_gets_it() {
        let before = Placement { owners: vec![0, 0, 1, 2, 2], alive: vec![true; 4] };
        let after = Placement { owners: vec![1, 1, 1, 2, 3], alive: vec![false, true, true, true] };
        let weights = Weights { users: vec![10.0, 20.0, 30.0, 40.0, 50.0], messages: vec![0.0; 5] };
        assert_eq!(fullest(&before, &weights), 2);
        assert_eq!(fullest_rack(&before, &weights, 2), [2, 3]);
        let failure = Failure::of(&before, &after, &weights);
        // Two of the dead node's and one besides; 10 + 20 go to node 1, 50 to node 3. Afterwards 60, 40 and 50.
        let (users, users_most) = (80.0, 50.0);
        let expected = Failure { dead: 1, units_dead: 2, units_moved: 3, users, receivers: 2, users_most, uneven: 1.2 };
        assert_eq!(failure, expected);
        assert_eq!(failure.back_s(0.5, 5.0), 5.0);
    }
}
