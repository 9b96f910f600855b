//! What nodes pass on for others, at the size of the simulation: exactly, from what each node's users write and get.
//!
//! People write to anybody: who gets a message lives on a node as often as that has users. That is the worst case for a mesh, since
//! nobody's acquaintances live near.

use crate::{balance::most_to_mean, mesh::square};

/// What those in between have to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routes {
    /// Links that a message passes in the mean, if it leaves its node.
    pub hops: f64,
    /// Who passes on most, against the mean.
    pub uneven: f64,
    /// Pairs of living nodes that can not reach each other.
    pub cut_off: u64,
}

/// Nodes in rows of `columns`; a message goes to the node in its author's row and its recipient's column, and if that is dead to the one in its
/// author's column and its recipient's row.
#[derive(Debug)]
struct Square<'a> {
    columns: usize,
    alive: &'a [bool],
    /// What each node's users write and get, as parts of all: nothing where nobody lives.
    sends: Vec<f64>,
    gets: Vec<f64>,
}

impl Square<'_> {
    fn at(&self, row: usize, column: usize) -> Option<usize> {
        let node = row * self.columns + column;
        (column < self.columns && node < self.alive.len()).then_some(node)
    }

    fn lives(&self, node: Option<usize>) -> bool {
        node.is_some_and(|node| self.alive[node])
    }

    /// One who must not pass on: dead, or not there since the last row is not full.
    fn gaps(&self) -> Vec<(usize, usize)> {
        let rows = self.alive.len().div_ceil(self.columns);
        let all = (0..rows).flat_map(|row| (0..self.columns).map(move |column| (row, column)));
        all.filter(|&(row, column)| !self.lives(self.at(row, column))).collect()
    }

    /// What each node passes on, as a part of all messages.
    fn passed_on(&self) -> Vec<f64> {
        let rows = self.alive.len().div_ceil(self.columns);
        let (mut of_row, mut of_column) = (vec![0.0; rows], vec![0.0; self.columns]);
        for node in 0..self.alive.len() {
            of_row[node / self.columns] += self.sends[node];
            of_column[node % self.columns] += self.gets[node];
        }
        let gaps = self.gaps();
        (0..self.alive.len())
            .map(|node| {
                let (row, column) = (node / self.columns, node % self.columns);
                if !self.alive[node] {
                    return 0.0;
                }
                let usual = (of_row[row] - self.sends[node]) * (of_column[column] - self.gets[node]);
                // Instead of a gap, of which nobody sends or gets: from this column's node in the gap's row, to this row's node in the gap's column.
                let instead = gaps.iter().map(|&(other, of)| {
                    let (from, to) = (self.at(other, column), self.at(row, of));
                    from.map_or(0.0, |from| self.sends[from]) * to.map_or(0.0, |to| self.gets[to])
                });
                usual + instead.sum::<f64>()
            })
            .collect()
    }

    /// Ordered pairs of living nodes both of whose ways lead through a gap.
    fn cut_off(&self) -> u64 {
        let gaps = self.gaps();
        let both = gaps.iter().flat_map(|a| gaps.iter().map(move |b| (a, b)));
        let lost = both.filter(|((row, column), (other, of))| {
            row != other && column != of && self.lives(self.at(*row, *of)) && self.lives(self.at(*other, *column))
        });
        lost.count() as u64
    }
}

/// Parts of the whole, of those that live.
fn parts(all: &[f64], alive: &[bool]) -> Vec<f64> {
    let living: Vec<f64> = all.iter().zip(alive).map(|(value, &alive)| if alive { *value } else { 0.0 }).collect();
    let sum: f64 = living.iter().sum();
    living.iter().map(|value| value / sum).collect()
}

/// The part of all messages that leaves its node.
fn leaving(sends: &[f64], gets: &[f64]) -> f64 {
    1.0 - sends.iter().zip(gets).map(|(sends, gets)| sends * gets).sum::<f64>()
}

/// Groups of nodes, as [`crate::mesh::Shape::Groups`]: what each node's users write and how many users it has.
#[must_use]
pub fn groups(messages: &[f64], users: &[f64], alive: &[bool]) -> Routes {
    let (columns, _) = square(alive.len() as f64);
    let (sends, gets) = (parts(messages, alive), parts(users, alive));
    let square = Square { columns: columns as usize, alive, sends, gets };
    let passed_on = square.passed_on();
    let hops = 1.0 + passed_on.iter().sum::<f64>() / leaving(&square.sends, &square.gets);
    Routes { hops, uneven: most_to_mean(&passed_on, alive), cut_off: square.cut_off() }
}

/// So many relays, as [`crate::mesh::Shape::Relays`]: node after node has the next relay, and the one behind that if it is dead.
#[must_use]
pub fn relays(messages: &[f64], users: &[f64], relays: usize, dead: &[usize]) -> Routes {
    let all = vec![true; messages.len()];
    let (sends, gets) = (parts(messages, &all), parts(users, &all));
    let lives = |relay: &usize| !dead.contains(relay);
    let of_node = |node: usize| [node % relays, (node + 1) % relays].into_iter().find(|relay| lives(relay));
    let (mut out, mut into) = (vec![0.0; relays], vec![0.0; relays]);
    let mut lost = 0;
    for node in 0..sends.len() {
        let Some(relay) = of_node(node) else {
            lost += 1;
            continue;
        };
        out[relay] += sends[node];
        into[relay] += gets[node];
    }
    // Who is the relay of both sides passes a message on once, the others each once.
    let within: Vec<f64> = out.iter().zip(&into).map(|(out, into)| out * into).collect();
    let passed_on: Vec<f64> = (0..relays).map(|relay| out[relay] + into[relay] - within[relay]).collect();
    let own: f64 = sends.iter().zip(&gets).map(|(sends, gets)| sends * gets).sum();
    let hops = 3.0 - (within.iter().sum::<f64>() - own) / leaving(&sends, &gets);
    let living: Vec<bool> = (0..relays).map(|relay| lives(&relay)).collect();
    let reached = sends.len() as u64 - lost;
    let pairs = |nodes: u64| nodes * nodes.saturating_sub(1);
    Routes { hops, uneven: most_to_mean(&passed_on, &living), cut_off: pairs(sends.len() as u64) - pairs(reached) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by going each way of each pair.
    fn walked(sends: &[f64], gets: &[f64], alive: &[bool], columns: usize) -> (Vec<f64>, u64) {
        let (mut passed_on, mut lost) = (vec![0.0; alive.len()], 0);
        let lives = |node: usize| alive.get(node) == Some(&true);
        let living = || (0..alive.len()).filter(|&node| alive[node]);
        for (from, to) in living().flat_map(|from| living().map(move |to| (from, to))) {
            let ((row, column), (other, of)) = ((from / columns, from % columns), (to / columns, to % columns));
            if row == other || column == of {
                continue;
            }
            match [row * columns + of, other * columns + column].into_iter().find(|&node| lives(node)) {
                Some(between) => passed_on[between] += sends[from] * gets[to],
                None => lost += 1,
            }
        }
        (passed_on, lost)
    }

    #[test]
    fn sums_over_rows_and_columns_are_what_walking_every_way_finds() {
        let sizes = [(9, vec![]), (9, vec![4]), (11, vec![]), (14, vec![0, 5, 10]), (30, vec![1, 2, 3, 17, 29])];
        for (nodes, dead) in sizes {
            let alive: Vec<bool> = (0..nodes).map(|node| !dead.contains(&node)).collect();
            let weights = |by: usize| (0..nodes).map(|node| 1.0 + (node * by % 7) as f64).collect::<Vec<_>>();
            let (sends, gets) = (parts(&weights(3), &alive), parts(&weights(5), &alive));
            let (columns, _) = square(nodes as f64);
            let columns = columns as usize;
            let square = Square { columns, alive: &alive, sends: sends.clone(), gets: gets.clone() };
            let (passed_on, lost) = walked(&sends, &gets, &alive, columns);
            for (found, walked) in square.passed_on().iter().zip(&passed_on) {
                assert!((found - walked).abs() < 1e-12, "{nodes} nodes without {dead:?}: {found} {walked}");
            }
            assert_eq!(square.cut_off(), lost, "{nodes} nodes without {dead:?}");
        }
    }

    #[test]
    fn a_square_of_nine_passes_half_on_and_loses_two_pairs_when_two_corners_die() {
        let even = [1.0; 9];
        let whole = groups(&even, &even, &[true; 9]);
        assert!((whole.hops - 1.5).abs() < 1e-12 && (whole.uneven - 1.0).abs() < 1e-12 && whole.cut_off == 0);
        let mut alive = [true; 9];
        (alive[0], alive[4]) = (false, false);
        // (0, 1) and (1, 0) had only these two between them.
        assert_eq!(groups(&even, &even, &alive).cut_off, 2);
    }

    #[test]
    fn three_relays_share_what_nine_nodes_say() {
        let even = [1.0; 9];
        let whole = relays(&even, &even, 3, &[]);
        assert!((whole.hops - 2.75).abs() < 1e-12 && (whole.uneven - 1.0).abs() < 1e-12 && whole.cut_off == 0);
        let one_dead = relays(&even, &even, 3, &[0]);
        // One has the six nodes that were two relays' before: 1/3 * 2 - 1/9 against 2/3 * 2 - 4/9.
        assert!((one_dead.uneven - (8.0 / 9.0) / (13.0 / 18.0)).abs() < 1e-12 && one_dead.cut_off == 0);
        // Three nodes are alone: of 72 pairs the 30 of the six others are left.
        assert_eq!(relays(&even, &even, 3, &[0, 1]).cut_off, 42);
    }
}
