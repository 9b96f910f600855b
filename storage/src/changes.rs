//! PURE: changes of the rows of one table, from the order in which they were made to that of their keys.
//!
//! Owns the sorting. Nearly nothing is compared: what each user has is counted and put where it belongs, and there it ascends already,
//! since what comes of one user comes in the order of its keys, or nearly so. Does not know the tables, nor the order of users.
//!
//! Invariant of [`ByUser`]: the keys of a user ascend; each is there once, with the last change that was made to it.

use std::ops::Range;

/// A user's place among those of a run.
pub(crate) type UserAt = u32;

/// Changes in the order in which they were made: whose, which row, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Changes<K, V>(Vec<(UserAt, K, V)>);

/// Changes by user.
#[derive(Clone, Debug)]
pub(crate) struct ByUser<K, V> {
    /// Where the rows of each user end; they begin where those of the one before end.
    ends: Vec<u32>,
    rows: Vec<(K, V)>,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for ByUser<K, V> {
    fn default() -> Self {
        Self { ends: Vec::new(), rows: Vec::new() }
    }
}

impl<K: Copy + Default + Ord, V: Copy + Default> Changes<K, V> {
    pub(crate) fn push(&mut self, at: UserAt, key: K, value: V) {
        self.0.push((at, key, value));
    }

    /// Sorts the changes of as many users.
    ///
    /// # Panics
    /// There are more than 4 billion changes: whoever makes runs must bound them.
    pub(crate) fn sort(self, users: usize) -> ByUser<K, V> {
        assert!(u32::try_from(self.0.len()).is_ok(), "a run of {} changes", self.0.len());
        if self.0.is_empty() {
            return ByUser::default();
        }
        let mut ends = vec![0; users];
        for &(at, ..) in &self.0 {
            ends[at as usize] += 1;
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        // Until here each is where its user's rows begin; it moves to where they end.
        let mut rows = vec![Default::default(); self.0.len()];
        for (at, key, value) in self.0 {
            let end = &mut ends[at as usize];
            rows[*end as usize] = (key, value);
            *end += 1;
        }
        let mut by_user = ByUser { ends, rows };
        by_user.keep_last_changes();
        by_user
    }
}

impl<K: Copy + Ord, V: Copy> ByUser<K, V> {
    fn keep_last_changes(&mut self) {
        let (mut begin, mut kept) = (0, 0);
        for end in &mut self.ends {
            let range = begin..*end as usize;
            begin = range.end;
            if !self.rows[range.clone()].is_sorted_by_key(|(key, _)| *key) {
                // Stable: the changes of a key stay in their order, with the last one last.
                self.rows[range.clone()].sort_by_key(|(key, _)| *key);
            }
            for at in range.clone() {
                let is_last = at + 1 == range.end || self.rows[at + 1].0 != self.rows[at].0;
                self.rows[kept] = self.rows[at];
                kept += usize::from(is_last);
            }
            *end = kept as u32;
        }
        self.rows.truncate(kept);
    }

    /// How many rows change.
    pub(crate) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// The changes of a user, by ascending key.
    pub(crate) fn of(&self, at: UserAt) -> &[(K, V)] {
        &self.rows[self.range(at)]
    }

    fn range(&self, at: UserAt) -> Range<usize> {
        if self.rows.is_empty() {
            return 0..0;
        }
        let at = at as usize;
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin as usize..self.ends[at] as usize
    }
}
