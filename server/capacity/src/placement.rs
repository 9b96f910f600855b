//! Which node owns what: rendezvous hashing over the nodes that live, with a bound on what one may own.
//!
//! A unit (a slot or a partition) belongs to the node with the highest score for it that lives and has room. All nodes weigh the same.
//! Placement follows from the living nodes alone, so every node finds the same.

use crate::activity::mix;

/// First choices of a unit that are kept: a unit that finds no room there is looked for a place among all nodes.
const CHOICES: usize = 8;

/// A unit of placement, and a node.
pub type Unit = u32;
/// A node: 0, 1, 2, ...
pub type Node = u16;

/// How high a node stands with a unit.
const fn score(unit: u64, node: u64) -> u64 {
    mix(unit ^ node)
}

/// A number of its own for a unit, and for a node.
fn names(first: u64, count: u32) -> Vec<u64> {
    (0..u64::from(count)).map(|at| mix(first + at)).collect()
}

/// The first choices of all units among all nodes, dead or alive.
#[derive(Clone, Debug)]
pub struct Ranks {
    units: Vec<u64>,
    nodes: Vec<u64>,
    choices: Vec<[Node; CHOICES]>,
}

/// Who owns what, and which nodes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The owner of each unit.
    pub owners: Vec<Node>,
    /// Whether each node lives.
    pub alive: Vec<bool>,
}

impl Ranks {
    /// Of so many units and nodes.
    ///
    /// # Panics
    /// There is no node.
    #[must_use]
    pub fn new(units: u32, nodes: u16) -> Self {
        assert!(nodes > 0, "no node");
        let (units, nodes) = (names(1 << 32, units), names(1 << 40, nodes.into()));
        let choices = units.iter().map(|&unit| first_choices(unit, &nodes)).collect();
        Self { units, nodes, choices }
    }

    /// How many nodes there are, dead ones too.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Places all units on the nodes that live. None owns more than `bound` times its share, rounded up; with 1 it is as many as any
    /// other, or one more.
    ///
    /// # Panics
    /// No node lives, or the bound is below one.
    #[must_use]
    pub fn place(&self, dead: &[Node], bound: f64) -> Placement {
        assert!(bound >= 1.0, "{bound}: nobody would own the rest");
        let mut alive = vec![true; self.nodes.len()];
        dead.iter().for_each(|&node| alive[usize::from(node)] = false);
        let mut room = rooms(self.units.len(), &alive, bound);
        let mut owners = Vec::with_capacity(self.units.len());
        for (&unit, choices) in self.units.iter().zip(&self.choices) {
            let takes = |node: &Node| room[usize::from(*node)] > 0;
            let first = choices.iter().copied().find(takes);
            let owner = first.or_else(|| {
                let all = (0..self.nodes.len() as Node).filter(takes);
                all.max_by_key(|&node| score(unit, self.nodes[usize::from(node)]))
            });
            let owner = owner.expect("all together have room for all units");
            room[usize::from(owner)] -= 1;
            owners.push(owner);
        }
        Placement { owners, alive }
    }
}

/// How many units each node may own: the dead none.
fn rooms(units: usize, alive: &[bool], bound: f64) -> Vec<u32> {
    let living = alive.iter().filter(|&&alive| alive).count();
    assert!(living > 0, "no node lives");
    let room = (bound * units as f64 / living as f64).ceil() as u32;
    // With the least bound those whose share is one more are as many as there are units left over.
    let mut full = if bound > 1.0 || units.is_multiple_of(living) { living } else { units % living };
    let mut room_of = |alive: bool| match (alive, full) {
        (false, _) => 0,
        (true, 0) => room - 1,
        (true, _) => {
            full -= 1;
            room
        }
    };
    alive.iter().map(|&alive| room_of(alive)).collect()
}

/// The nodes with the highest scores, the highest first; of few nodes the last one again.
fn first_choices(unit: u64, nodes: &[u64]) -> [Node; CHOICES] {
    let mut best = [(0u64, 0 as Node); CHOICES];
    let mut found = 0;
    for (node, &name) in nodes.iter().enumerate() {
        let score = score(unit, name);
        if found == CHOICES && score <= best[CHOICES - 1].0 {
            continue;
        }
        let at = best[..found].partition_point(|&(other, _)| other >= score);
        found = (found + 1).min(CHOICES);
        best[at..found].rotate_right(1);
        best[at] = (score, node as Node);
    }
    let last = best[found - 1];
    best[found..].fill(last);
    best.map(|(_, node)| node)
}

impl Placement {
    /// As the server does: moves the units of dead nodes alone: each to the node with the highest score that lives and has room, when all others stay.
    #[must_use]
    pub fn after(&self, ranks: &Ranks, dead: &[Node], bound: f64) -> Self {
        let mut alive = self.alive.clone();
        dead.iter().for_each(|&node| alive[usize::from(node)] = false);
        let mut room = rooms(self.owners.len(), &alive, bound);
        for &owner in &self.owners {
            room[usize::from(owner)] = room[usize::from(owner)].saturating_sub(1);
        }
        let mut owners = self.owners.clone();
        for (at, owner) in owners.iter_mut().enumerate().filter(|(_, owner)| !alive[usize::from(**owner)]) {
            let all = (0..alive.len() as Node).filter(|node| room[usize::from(*node)] > 0);
            let next = all.max_by_key(|&node| score(ranks.units[at], ranks.nodes[usize::from(node)]));
            *owner = next.expect("all together have room for all units");
            room[usize::from(*owner)] -= 1;
        }
        Self { owners, alive }
    }

    /// Units that another node owns than before.
    pub fn moved<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (Unit, Node, Node)> + 'a {
        let pairs = (0..).zip(before.owners.iter().zip(&self.owners));
        pairs.filter(|(_, (was, is))| was != is).map(|(unit, (was, is))| (unit, *was, *is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No bound at all.
    const FREE: f64 = 1e9;

    fn owned(placement: &Placement) -> Vec<usize> {
        let mut owned = vec![0; placement.alive.len()];
        placement.owners.iter().for_each(|&owner| owned[usize::from(owner)] += 1);
        owned
    }

    fn most(placement: &Placement) -> usize {
        owned(placement).into_iter().max().unwrap()
    }

    #[test]
    fn a_unit_belongs_to_the_node_that_a_search_through_all_finds() {
        for nodes in [1, 3, 8, 100] {
            let ranks = Ranks::new(500, nodes);
            for (unit, owner) in ranks.place(&[], FREE).owners.iter().enumerate() {
                let best = (0..nodes).max_by_key(|&node| score(ranks.units[unit], ranks.nodes[usize::from(node)]));
                assert_eq!(Some(*owner), best);
            }
        }
    }

    #[test]
    fn nobody_owns_more_than_the_bound_and_without_one_somebody_does() {
        let ranks = Ranks::new(4_096, 100);
        assert!(most(&ranks.place(&[], FREE)) > 56, "{}", most(&ranks.place(&[], FREE)));
        for (bound, room) in [(1.25, 52), (1.1, 46), (1.0, 41)] {
            assert!(most(&ranks.place(&[], bound)) <= room, "{bound}");
        }
        // 4,096 are 40 for each of a hundred, and one more for 96; 42 for each of 97, and one more for 22.
        for (dead, share, more) in [(&[][..], 40, 96), (&[3, 50, 99], 42, 22)] {
            let owned = owned(&ranks.place(dead, 1.0));
            let (fewer, full) = [share, share + 1].map(|units| owned.iter().filter(|&&of| of == units).count()).into();
            assert_eq!((fewer, full), (100 - dead.len() - more, more), "without {dead:?}");
        }
    }

    #[test]
    fn without_a_bound_only_what_the_dead_owned_moves() {
        let ranks = Ranks::new(4_096, 100);
        let before = ranks.place(&[], FREE);
        let after = ranks.place(&[7, 8], FREE);
        let owned = before.owners.iter().filter(|&&owner| owner == 7 || owner == 8).count();
        assert!(after.moved(&before).all(|(_, was, _)| was == 7 || was == 8));
        assert_eq!((after.moved(&before).count(), before.after(&ranks, &[7, 8], FREE)), (owned, after));
    }

    #[test]
    fn with_a_bound_others_move_too_unless_they_are_kept_where_they_are() {
        let ranks = Ranks::new(4_096, 100);
        let before = ranks.place(&[], 1.1);
        let owned = before.owners.iter().filter(|&&owner| owner == 7).count();
        assert!(ranks.place(&[7], 1.1).moved(&before).count() > owned);
        let kept = before.after(&ranks, &[7], 1.1);
        assert_eq!(kept.moved(&before).count(), owned);
        assert!(kept.moved(&before).all(|(_, was, is)| was == 7 && is != 7) && most(&kept) <= 46);
    }
}
