//! Homes: which node served each user when the load began, and how long messages take from the users of one node to those of another.
//! Pure.
//!
//! A home stays what it was when the load began, wherever its user is served later: so it can be told what a node that is drained, or
//! a link that stands still, does to those who have nothing to do with it.

use std::collections::BTreeMap;

use crate::{limits::HOMES_MAX, stats::Latencies};

/// Messages from the users of one node to those of one node.
#[derive(Clone, Debug, Default)]
pub struct Between {
    /// From the intended time of a send to its acceptance.
    pub accepted: Latencies,
    /// From the intended time of a send to a device of its recipient that was connected then.
    pub delivered: Latencies,
}

/// The homes of those who write to each other, and what was measured between these.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    /// Addresses as `--server` and redirects write them, at most [`HOMES_MAX`].
    nodes: Vec<String>,
    /// Which of the nodes, by seat of a user's first device; none: not served yet.
    of: Vec<Option<u8>>,
    between: BTreeMap<(u8, u8), Between>,
    has_begun: bool,
    /// Users were served at more nodes than there is room for.
    is_full: bool,
}

impl Homes {
    /// A device of the user whose first device sits there was welcome at this address. What comes after the beginning of the load
    /// counts only for a user who was not served before.
    pub fn served(&mut self, first_seat: u32, address: &str) {
        if !self.has_begun || self.home(first_seat).is_none() {
            let (at, node) = (first_seat as usize, self.node(address));
            self.of.resize(self.of.len().max(at + 1), None);
            self.of[at] = node;
        }
    }

    /// The load begins.
    pub const fn begin(&mut self) {
        self.has_begun = true;
    }

    /// What is measured between the users whose first devices sit there; none before the load.
    pub fn between(&mut self, author: u32, recipient: u32) -> Option<&mut Between> {
        let pair = (self.home(author)?, self.home(recipient)?);
        self.has_begun.then(|| self.between.entry(pair).or_default())
    }

    /// Adds what others measured who wrote to each other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.is_full |= other.is_full;
        for ((author, recipient), more) in &other.between {
            let [author, recipient] = [author, recipient].map(|node| self.node(&other.nodes[usize::from(*node)]));
            if let Some(pair) = author.zip(recipient) {
                let between = self.between.entry(pair).or_default();
                between.accepted.add(&more.accepted);
                between.delivered.add(&more.delivered);
            }
        }
        self
    }

    /// The addresses of author and recipient and what was measured between them, in the order of the addresses.
    #[must_use]
    pub fn rows(&self) -> Vec<(&str, &str, &Between)> {
        let address = |node: u8| self.nodes[usize::from(node)].as_str();
        let pairs = self.between.iter().filter(|_| !self.is_full);
        let rows = pairs.map(|(&(author, recipient), between)| (address(author), address(recipient), between));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(author, recipient, _)| (*author, *recipient));
        rows
    }

    /// What a reader of the rows must know, or why there are none.
    #[must_use]
    pub fn words(&self) -> String {
        if self.is_full {
            return format!("Latencies by node are not told: users were served at more than {HOMES_MAX} nodes.");
        }
        if self.between.is_empty() {
            return "Latencies by node are not told: nobody wrote to anybody.".to_owned();
        }
        "By node: each user is of the address at which they were served when the load began.".to_owned()
    }

    /// Which node it is; none if there is no room for it.
    fn node(&mut self, address: &str) -> Option<u8> {
        let known = self.nodes.iter().position(|known| known == address);
        if known.is_none() && self.nodes.len() == HOMES_MAX {
            self.is_full = true;
            return None;
        }
        if known.is_none() {
            self.nodes.push(address.to_owned());
        }
        Some(known.unwrap_or(self.nodes.len() - 1) as u8)
    }

    fn home(&self, first_seat: u32) -> Option<u8> {
        self.of.get(first_seat as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages each pair of nodes had, and their longest times.
    fn told(homes: &Homes) -> Vec<(&str, &str, u64, u64)> {
        let rows = homes.rows().into_iter();
        rows.map(|(author, recipient, between)| {
            (author, recipient, between.accepted.count(), between.delivered.at(100.0))
        })
        .collect()
    }

    fn message(homes: &mut Homes, author: u32, recipient: u32, us: u64) {
        let between = homes.between(author, recipient).unwrap();
        between.accepted.record(us);
        between.delivered.record(us);
    }

    #[test]
    fn a_home_is_where_the_load_found_its_user_wherever_they_are_served_later() {
        let mut homes = Homes::default();
        homes.served(0, "b:1");
        homes.served(0, "a:1");
        homes.served(3, "b:1");
        assert!(homes.between(0, 3).is_none(), "the load has not begun");
        homes.begin();
        homes.served(0, "b:1");
        homes.served(1, "b:1");
        message(&mut homes, 0, 3, 7);
        message(&mut homes, 0, 1, 9);
        message(&mut homes, 3, 0, 5);
        assert!(homes.between(0, 2).is_none() && homes.between(4, 0).is_none(), "who was never served has no home");
        assert_eq!(told(&homes), [("a:1", "b:1", 2, 9), ("b:1", "a:1", 1, 5)]);
        assert!(homes.words().contains("when the load began"), "{}", homes.words());
    }

    #[test]
    fn what_lanes_measured_is_added_by_address() {
        let lane = |first, second, us| {
            let mut homes = Homes::default();
            homes.served(0, first);
            homes.served(1, second);
            homes.begin();
            message(&mut homes, 0, 1, us);
            homes
        };
        let all =
            lane("a:1", "b:1", 3).and(lane("b:1", "a:1", 4)).and(lane("a:1", "b:1", 5)).and(lane("a:1", "c:1", 6));
        assert_eq!(told(&all), [("a:1", "b:1", 2, 5), ("a:1", "c:1", 1, 6), ("b:1", "a:1", 1, 4)]);
    }

    #[test]
    fn more_nodes_than_there_is_room_for_are_told_in_words() {
        let nodes = |range: std::ops::Range<usize>| {
            let mut homes = Homes::default();
            (0..).zip(range).for_each(|(seat, port)| homes.served(seat, &format!("a:{port}")));
            homes.begin();
            message(&mut homes, 0, 1, 1);
            homes
        };
        let most = nodes(0..HOMES_MAX).and(nodes(0..HOMES_MAX));
        assert_eq!(told(&most), [("a:0", "a:1", 2, 1)]);
        for more in [nodes(0..HOMES_MAX + 1), nodes(0..HOMES_MAX).and(nodes(HOMES_MAX..HOMES_MAX + 2))] {
            assert!(more.rows().is_empty() && more.words().contains("more than 8 nodes"), "{}", more.words());
        }
        assert!(Homes::default().words().contains("nobody wrote to anybody"));
    }
}
