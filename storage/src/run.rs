//! PURE: a run: sorted changes of rows, on their way into a store.
//!
//! Owns the bytes of all values in one buffer, since a run of one journal segment has about a million rows. Does not
//! know what the rows mean.
//!
//! Invariants: keys ascend; each key is there once, with the last change that was made to it.

use bytes::Bytes;

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
    value: Value,
}

/// The value of a row: where it is in the run's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    start: u32,
    len: u32,
}

impl Value {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { start: 0, len: 0 };

    /// The row is gone.
    pub(crate) const DELETED: Self = Self { start: 0, len: u32::MAX };
}

impl RunBuilder {
    /// Sets a row to the value that `put` appends to the buffer it is given.
    ///
    /// # Panics
    /// The run's values exceed 4 GiB: whoever makes runs must bound them.
    pub fn put(&mut self, key: Key, put: impl FnOnce(&mut Vec<u8>)) {
        let value = self.run.value(put);
        self.run.rows.push(Row { key, value });
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Key) {
        self.run.rows.push(Row { key, value: Value::DELETED });
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
            let change = match row.value {
                Value::DELETED => Change::Delete,
                Value { start, len } => Change::Put(&self.values[start as usize..][..len as usize]),
            };
            (&row.key, change)
        })
    }

    /// Hands out the changes, by ascending key: none for a row that is gone. The values share one buffer.
    pub(crate) fn into_changes(self, mut take: impl FnMut(Key, Option<Bytes>)) {
        let values = Bytes::from(self.values);
        for Row { key, value } in self.rows {
            let value = match value {
                Value::DELETED => None,
                Value { start, len } => Some(values.slice(start as usize..start as usize + len as usize)),
            };
            take(key, value);
        }
    }

    /// Keeps the value that `put` appends to the buffer it is given, for [`Run::push`].
    ///
    /// # Panics
    /// The run's values exceed 4 GiB: whoever makes runs must bound them.
    pub(crate) fn value(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Value {
        let start = self.values.len();
        put(&mut self.values);
        let end = self.values.len();
        assert!(end < u32::MAX as usize, "a run of {end} bytes");
        Value { start: start as u32, len: (end - start) as u32 }
    }

    /// Makes room for as many rows more.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
    }

    /// Adds a row, whose key is above that of the last one.
    pub(crate) fn push(&mut self, key: Key, value: Value) {
        debug_assert!(self.rows.last().is_none_or(|last| last.key < key), "{key:?} does not ascend");
        self.rows.push(Row { key, value });
    }

    /// As [`Run::push`], with the value that `put` appends to the buffer it is given.
    pub(crate) fn put(&mut self, key: Key, put: impl FnOnce(&mut Vec<u8>)) {
        let value = self.value(put);
        self.push(key, value);
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
