//! PURE: a run: sorted changes of rows, on their way into a store.
//!
//! Owns the bytes of all values in one buffer, since a run of one journal segment has about a million rows. Does not
//! know what the rows mean.
//!
//! Invariants: keys ascend; each key is there once, with the last change that was made to it.

use crate::schema::Key;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It has this value now.
    Put(&'a [u8]),
    /// It is gone, if it was there.
    Delete,
}

/// Sorted changes, one for each key.
#[derive(Clone, Debug, Default)]
pub struct Run {
    rows: Vec<Row>,
    values: Vec<u8>,
}

/// Changes in the order in which they were made.
#[derive(Debug, Default)]
pub struct RunBuilder {
    run: Run,
}

/// 36 bytes: there are millions.
#[derive(Clone, Copy, Debug)]
struct Row {
    key: Key,
    /// Where the value begins.
    start: u32,
    /// How long it is; [`DELETED`] if the row is gone.
    len: u32,
}

const DELETED: u32 = u32::MAX;

impl RunBuilder {
    /// Sets a row to the value that `put` appends to the buffer it is given.
    ///
    /// # Panics
    /// The run's values exceed 4 GiB: whoever makes runs must bound them.
    pub fn put(&mut self, key: Key, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.run.values.len();
        put(&mut self.run.values);
        let end = self.run.values.len();
        assert!(end < DELETED as usize, "a run of {end} bytes");
        self.run.rows.push(Row { key, start: start as u32, len: (end - start) as u32 });
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Key) {
        self.run.rows.push(Row { key, start: 0, len: DELETED });
    }

    /// Sorts the changes; of several to one key the last one stays.
    #[must_use]
    pub fn finish(self) -> Run {
        let Run { mut rows, values } = self.run;
        // Stable: the changes of a key stay in their order, with the last one last.
        rows.sort_by_key(|row| row.key);
        rows.dedup_by(|later, earlier| {
            let same = later.key == earlier.key;
            if same {
                *earlier = *later;
            }
            same
        });
        Run { rows, values }
    }
}

impl Run {
    /// The changes, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Change<'_>)> {
        self.rows.iter().map(|row| {
            let change = match row.len {
                DELETED => Change::Delete,
                len => Change::Put(&self.values[row.start as usize..][..len as usize]),
            };
            (&row.key, change)
        })
    }

    /// How many rows change.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter()
            .map(|(key, change)| match change {
                Change::Put(value) => key.len() + value.len(),
                Change::Delete => key.len(),
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_bytes(&[0, byte]).unwrap()
    }

    #[test]
    fn a_run_is_sorted_and_keeps_the_last_change_of_each_key() {
        let mut builder = RunBuilder::default();
        builder.put(key(3), |out| out.push(1));
        builder.put(key(1), |out| out.extend([2, 3]));
        builder.delete(key(3));
        builder.delete(key(2));
        builder.put(key(2), |_| ());
        let run = builder.finish();
        let rows: Vec<_> = run.iter().map(|(key, change)| (key[1], change)).collect();
        assert_eq!(rows, [(1, Change::Put(&[2, 3])), (2, Change::Put(&[])), (3, Change::Delete)]);
        assert_eq!((run.len(), run.bytes()), (3, 8));
    }
}
