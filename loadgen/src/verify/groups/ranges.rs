//! Sets of seqs that are mostly neighbours.

/// Ranges of seqs, both ends included, ascending and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Puts a seq in; false if it was.
    pub fn insert(&mut self, seq: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| last + 1 < seq);
        match self.0.get_mut(at) {
            Some((first, last)) if (*first..=*last).contains(&seq) => return false,
            Some((_, last)) if *last + 1 == seq => *last = seq,
            Some((first, _)) if *first == seq + 1 => *first = seq,
            Some(_) | None => self.0.insert(at, (seq, seq)),
        }
        if let Some((next_first, next_last)) = self.0.get(at + 1).copied()
            && self.0[at].1 + 1 == next_first
        {
            self.0[at].1 = next_last;
            self.0.remove(at + 1);
        }
        true
    }

    /// Adds a range behind all others.
    pub fn push(&mut self, first: u64, last: u64) {
        if first <= last {
            self.0.push((first, last));
        }
    }

    /// The last of the seqs in a row that begins with this one; none if it is not in.
    #[must_use]
    pub fn end_of(&self, seq: u64) -> Option<u64> {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        self.0.get(at).filter(|(first, _)| *first <= seq).map(|(_, last)| *last)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[(u64, u64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Draw;

    #[test]
    fn ranges_are_the_set_of_what_was_put_in() {
        let mut draw = Draw::new(5);
        for _ in 0..50 {
            let (mut ranges, mut set) = (Ranges::default(), std::collections::BTreeSet::new());
            for _ in 0..40 {
                let seq = 1 + draw.below(50);
                assert_eq!(ranges.insert(seq), set.insert(seq));
            }
            let all: Vec<u64> = ranges.all().iter().flat_map(|(first, last)| *first..=*last).collect();
            assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
            assert!(ranges.all().windows(2).all(|two| two[0].1 + 1 < two[1].0), "{ranges:?}");
            for seq in 1..=50 {
                let end = set.contains(&seq).then(|| (seq..).find(|at| !set.contains(&(at + 1))).unwrap());
                assert_eq!(ranges.end_of(seq), end);
            }
        }
    }
}
