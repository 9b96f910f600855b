//! How evenly users, and what they write, lie on the nodes.

use storage::partition_of;

use crate::{activity::Activity, placement::Placement};

/// Logical partitions, fixed for ever.
pub const PARTITIONS: u32 = 1 << 16;

/// Slots: what a node of a cluster owns, 256 partitions that lie side by side.
pub const SLOTS: u32 = 256;

/// What lies in each partition, or in each of another kind of unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Users.
    pub users: Vec<f64>,
    /// Messages a day.
    pub messages: Vec<f64>,
}

impl Weights {
    /// No users yet, by partition.
    #[must_use]
    pub fn new() -> Self {
        Self { users: vec![0.0; PARTITIONS as usize], messages: vec![0.0; PARTITIONS as usize] }
    }

    /// Puts users into their partitions.
    pub fn add(&mut self, users: impl Iterator<Item = u64>, activity: &Activity) {
        for user in users {
            let partition = usize::from(partition_of(proto_spec::UserId(user)));
            self.users[partition] += 1.0;
            self.messages[partition] += activity.of(user);
        }
    }

    /// The same by fewer units, of as many partitions each.
    #[must_use]
    pub fn gathered(&self, units: u32) -> Self {
        let each = self.users.len() / units as usize;
        let sums = |all: &[f64]| all.chunks(each).map(|chunk| chunk.iter().sum()).collect();
        Self { users: sums(&self.users), messages: sums(&self.messages) }
    }

    /// What each node has of it.
    #[must_use]
    pub fn by_node(&self, placement: &Placement) -> Self {
        let sums = |all: &[f64]| {
            let mut sums = vec![0.0; placement.alive.len()];
            all.iter().zip(&placement.owners).for_each(|(weight, &owner)| sums[usize::from(owner)] += weight);
            sums
        };
        Self { users: sums(&self.users), messages: sums(&self.messages) }
    }
}

/// How uneven a placement is: the most that a node has, against the mean of all nodes that live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Of units.
    pub units: f64,
    /// Of users.
    pub users: f64,
    /// Of what they write.
    pub messages: f64,
    /// Nodes that own nothing.
    pub idle: usize,
}

impl Balance {
    /// Of a placement of units that weigh so much.
    #[must_use]
    pub fn of(placement: &Placement, weights: &Weights) -> Self {
        let nodes = weights.by_node(placement);
        let ones = Weights { users: vec![1.0; placement.owners.len()], messages: Vec::new() };
        let units = ones.by_node(placement).users;
        let idle = units.iter().zip(&placement.alive).filter(|&(&units, &alive)| alive && units == 0.0).count();
        let uneven = |all: &[f64]| most_to_mean(all, &placement.alive);
        Self { units: uneven(&units), users: uneven(&nodes.users), messages: uneven(&nodes.messages), idle }
    }
}

/// The largest of those that count against their mean.
pub(crate) fn most_to_mean(all: &[f64], counts: &[bool]) -> f64 {
    let counted = || all.iter().zip(counts).filter(|&(_, &counts)| counts).map(|(value, _)| *value);
    counted().fold(0.0, f64::max) * counted().count() as f64 / counted().sum::<f64>()
}

/// The most nodes up to which any number of nodes can share units so that none owns more than `uneven` times the mean, however they are
/// placed.
#[must_use]
pub fn even_up_to(units: u32, uneven: f64) -> u32 {
    let fits = |nodes: &u32| f64::from(units.div_ceil(*nodes)) * f64::from(*nodes) <= uneven * f64::from(units);
    (1..=units).take_while(fits).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activity::SPREAD, placement::Ranks};

    #[test]
    fn the_fullest_node_is_compared_with_the_mean_of_those_that_live() {
        let placement = Placement { owners: vec![0, 0, 1, 3], alive: vec![true, true, true, true, false] };
        let weights = Weights { users: vec![1.0, 2.0, 3.0, 2.0], messages: vec![5.0, 5.0, 1.0, 9.0] };
        let balance = Balance::of(&placement, &weights);
        // Of four who live one owns nothing. Units 2, 1, 0, 1; users 3, 3, 0, 2; messages 10, 1, 0, 9.
        assert_eq!(balance, Balance { units: 2.0, users: 1.5, messages: 2.0, idle: 1 });
    }

    #[test]
    fn slots_can_be_shared_evenly_by_few_nodes_and_partitions_by_many() {
        // By hand: 80 nodes own at most 4 of 256 slots each, 4 * 80 / 256 = 1.25; of 81 nodes the mean is less and somebody still owns 4.
        assert_eq!(even_up_to(256, 1.25), 80);
        // 16,384 nodes own 4 partitions each; before that there are always 5 and more of 4.x. With 16,385 somebody has 4 of 3.9998.
        let up_to = even_up_to(PARTITIONS, 1.25);
        assert!(f64::from(PARTITIONS.div_ceil(up_to + 1)) * f64::from(up_to + 1) > 1.25 * f64::from(PARTITIONS));
        assert_eq!(up_to, 20_480);
    }

    #[test]
    fn partitions_of_few_users_are_as_uneven_as_their_users() {
        let activity = Activity::new(40.0, SPREAD);
        let mut weights = Weights::new();
        weights.add(1..=2_000_000, &activity);
        assert_eq!(weights.users.iter().sum::<f64>(), 2e6);
        let slots = weights.gathered(SLOTS);
        assert_eq!((slots.users.len(), slots.users.iter().sum::<f64>()), (256, 2e6));
        let uneven = |all: &Vec<f64>| most_to_mean(all, &vec![true; all.len()]);
        assert!(uneven(&slots.users) < 1.05 && uneven(&weights.users) > 1.5, "{}", uneven(&weights.users));
        assert!(uneven(&weights.messages) > uneven(&weights.users) && uneven(&slots.messages) > uneven(&slots.users));
        // Placed on ten nodes slots and partitions are even, with the bound that holds.
        for (units, weights) in [(SLOTS, &slots), (PARTITIONS, &weights)] {
            let balance = Balance::of(&Ranks::new(units, 10).place(&[], 1.25), weights);
            assert!(balance.units <= 1.26 && balance.users < 1.3 && balance.idle == 0, "{balance:?}");
        }
    }
}
