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

    /// Puts all seqs of a range in, some of which may be.
    pub fn fill(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let joined = self.0[from..to].iter().fold((first, last), |(begin, end), (a, b)| (begin.min(*a), end.max(*b)));
        self.0.splice(from..to, [joined]);
    }

    /// Whether a seq is in.
    #[must_use]
    pub fn has(&self, seq: u64) -> bool {
        self.end_of(seq).is_some()
    }

    /// Takes a seq out, if it is in.
    pub fn remove(&mut self, seq: u64) {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        if let Some((first, last)) = self.0.get(at).copied().filter(|(first, _)| *first <= seq) {
            let rest = [(first, seq - 1), (seq + 1, last)].into_iter().filter(|(first, last)| first <= last);
            self.0.splice(at..=at, rest);
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
            let all =
                |ranges: &Ranges| ranges.all().iter().flat_map(|(first, last)| *first..=*last).collect::<Vec<u64>>();
            assert_eq!(all(&ranges), set.iter().copied().collect::<Vec<_>>());
            assert!(ranges.all().windows(2).all(|two| two[0].1 + 1 < two[1].0), "{ranges:?}");
            for seq in 1..=50 {
                assert_eq!(ranges.has(seq), set.contains(&seq));
                let end = set.contains(&seq).then(|| (seq..).find(|at| !set.contains(&(at + 1))).unwrap());
                assert_eq!(ranges.end_of(seq), end);
            }
            let (first, more) = (1 + draw.below(50), draw.below(10));
            ranges.fill(first, first + more);
            set.extend(first..=first + more);
            let gone = 1 + draw.below(50);
            ranges.remove(gone);
            set.remove(&gone);
            assert_eq!(all(&ranges), set.iter().copied().collect::<Vec<_>>());
            assert!(ranges.all().windows(2).all(|two| two[0].1 + 1 < two[1].0), "{ranges:?}");
        }
    }
}
