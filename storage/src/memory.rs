//! A store in memory, for tests and simulation. Fails on demand, and only then.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto_spec::Direction;

use crate::{
    run::{Change, Run},
    schema::Key,
    store::{Fence, Gather, Range, Rows, Store, StoreError},
};

/// A store in memory. What is "durable" in it survives as long as the value does.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Bytes>,
    fence: Fence,
    commit_faults: VecDeque<CommitFault>,
    is_away: bool,
    reads_to_fail: usize,
}

/// A way in which a commit can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// [`StoreError::Unavailable`].
    Unavailable,
    /// [`StoreError::Unknown`], and the run was applied.
    UnknownApplied,
    /// [`StoreError::Unknown`], and nothing was applied.
    UnknownLost,
    /// [`StoreError::Unknown`], and the first half of the run was applied.
    UnknownHalf,
    /// [`StoreError::Conflict`].
    Conflict,
    /// [`StoreError::Full`].
    Full,
}

impl MemoryStore {
    /// The next commit that holds the fence, and has no fault ahead of it, fails in this way.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.state.lock().commit_faults.push_back(fault);
    }

    /// From now on every commit finds the store unavailable, or none does.
    pub fn set_away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
    }

    /// The next reads, as many as this, find the store unavailable.
    pub fn fail_next_reads(&self, count: usize) {
        self.state.lock().reads_to_fail = count;
    }

    /// All rows, by ascending key.
    #[must_use]
    pub fn rows(&self) -> Vec<(Key, Bytes)> {
        self.state.lock().rows.iter().map(|(key, value)| (*key, value.clone())).collect()
    }
}

impl State {
    fn apply<'a>(&mut self, changes: impl Iterator<Item = (&'a Key, Change<'a>)>) {
        for (key, change) in changes {
            match change {
                Change::Put(value) => drop(self.rows.insert(*key, Bytes::copy_from_slice(value))),
                Change::Delete => drop(self.rows.remove(key)),
            }
        }
    }

    fn read(&mut self) -> Result<&BTreeMap<Key, Bytes>, StoreError> {
        if self.reads_to_fail > 0 {
            self.reads_to_fail -= 1;
            return Err(StoreError::Unavailable { reason: "a test asked for it".to_owned() });
        }
        Ok(&self.rows)
    }

    fn commit(&mut self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        if fence != self.fence {
            return Err(StoreError::Fenced { held: fence, current: self.fence });
        }
        let reason = || "a test asked for it".to_owned();
        if self.is_away {
            return Err(StoreError::Unavailable { reason: reason() });
        }
        match self.commit_faults.pop_front() {
            None => {
                self.apply(run.iter());
                Ok(())
            }
            Some(CommitFault::Unavailable) => Err(StoreError::Unavailable { reason: reason() }),
            Some(CommitFault::UnknownApplied) => {
                self.apply(run.iter());
                Err(StoreError::Unknown { reason: reason() })
            }
            Some(CommitFault::UnknownLost) => Err(StoreError::Unknown { reason: reason() }),
            Some(CommitFault::UnknownHalf) => {
                self.apply(run.iter().take(run.len() / 2));
                Err(StoreError::Unknown { reason: reason() })
            }
            Some(CommitFault::Conflict) => Err(StoreError::Conflict),
            Some(CommitFault::Full) => Err(StoreError::Full { reason: reason() }),
        }
    }
}

impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.lock().read()?.get(key).cloned())
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        let mut state = self.state.lock();
        let rows = state.read()?;
        let mut gather = Gather::new(range);
        if range.first > range.last {
            return Ok(gather.finish(true));
        }
        let mut inside = rows.range((Bound::Included(range.first), Bound::Included(range.last)));
        loop {
            let row = match range.direction {
                Direction::Forwards => inside.next(),
                Direction::Backwards => inside.next_back(),
            };
            match row {
                None => return Ok(gather.finish(true)),
                Some((key, value)) if gather.wants(key, value) => gather.push(*key, value.clone()),
                Some(_) => return Ok(gather.finish(false)),
            }
        }
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.state.lock().commit(fence, run)
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        let mut state = self.state.lock();
        state.fence = Fence(state.fence.0 + 1);
        Ok(state.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, block_on};

    #[test]
    fn the_memory_store_fulfils_the_contract() {
        contract::check(|| (MemoryStore::default(), ()));
    }

    #[test]
    fn each_fault_happens_once_and_a_retry_succeeds() {
        let applied = [
            (CommitFault::Unavailable, 0),
            (CommitFault::UnknownApplied, 2),
            (CommitFault::UnknownLost, 0),
            (CommitFault::UnknownHalf, 1),
            (CommitFault::Conflict, 0),
            (CommitFault::Full, 0),
        ];
        for (fault, rows) in applied {
            let store = MemoryStore::default();
            let fence = block_on(store.take_over()).unwrap();
            let run = contract::run([(1, Some(&b"one"[..])), (2, Some(&b"two"[..]))]);
            store.fail_next_commit(fault);
            let refused = block_on(store.commit(fence, &run)).unwrap_err();
            assert!(refused.is_retryable());
            assert_eq!(store.rows().len(), rows, "{fault:?}");
            block_on(store.commit(fence, &run)).unwrap();
            assert_eq!(store.rows().len(), 2);
        }
    }

    #[test]
    fn a_store_that_is_away_takes_nothing_until_it_is_back() {
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        let run = contract::run([(1, Some(&b"one"[..]))]);
        store.set_away(true);
        for _ in 0..3 {
            assert!(block_on(store.commit(fence, &run)).unwrap_err().is_retryable());
        }
        assert!(store.rows().is_empty());
        store.set_away(false);
        block_on(store.commit(fence, &run)).unwrap();
        assert_eq!(store.rows().len(), 1);
    }

    #[test]
    fn reads_fail_as_often_as_asked() {
        let store = MemoryStore::default();
        store.fail_next_reads(1);
        assert!(block_on(store.get(&contract::key(1))).is_err());
        assert!(block_on(store.get(&contract::key(1))).is_ok());
    }
}
