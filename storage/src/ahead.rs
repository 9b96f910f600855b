//! Ahead: a store, and beside it in memory the rows that its journal has for it. For a start whose disk has no room: what reads see is
//! what they will see when the journal has been brought in, row by row.
//!
//! Owns the rows in memory. Does not own how they get into the store: that is ingestion, as always, and may go on meanwhile. Each row in
//! memory is what the last record about it leaves behind, so it hides whatever an ingestion has come to.
//!
//! Invariant: nothing but this journal is brought into the store before the rows are dropped, since they would hide it.

use std::{collections::BTreeMap, iter::Peekable, ops::Bound, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use proto_spec::{Direction, TimestampMs};

use crate::{
    codec,
    fold::Sorted,
    ingest::{IngestError, ingest_in_runs},
    journal::SealedSegment,
    pace::Pace,
    record::{BatchId, LaneId},
    run::Run,
    schema::Key,
    store::{
        Advanced, DiskUse, Fence, Gather, Holder, Kind, Purged, RECOVERY_RUN_BYTES_MAX, Range, Rows, Step, Store,
        StoreError, Tenure,
    },
};

/// By key; none: the row is gone.
type Changes = BTreeMap<Key, Option<Bytes>>;

/// See the head of this file.
#[derive(Debug)]
pub struct Ahead<S> {
    store: Arc<S>,
    /// Nothing in calm, and then this is the store.
    rows: RwLock<Option<Arc<Changes>>>,
}

impl<S: Store> Ahead<S> {
    /// The store alone.
    #[must_use]
    pub const fn new(store: Arc<S>) -> Self {
        Self { store, rows: RwLock::new(None) }
    }

    /// The store with what these segments have for it. They must follow each other in the journal, and everything before them must have
    /// been ingested. Changes nothing on disk. The rows take 3.4 times the bytes of the segments' records where
    /// texts have 100 bytes.
    ///
    /// # Errors
    /// As [`crate::ingest()`].
    pub async fn read_ahead(store: Arc<S>, segments: &[SealedSegment]) -> Result<Self, IngestError> {
        let ahead = Self { store, rows: RwLock::new(Some(Arc::default())) };
        ingest_in_runs(&ahead, Fence::default(), segments, RECOVERY_RUN_BYTES_MAX, |_| ()).await?;
        Ok(ahead)
    }

    /// Everything that the segments have is in the store.
    pub fn drop_rows(&self) {
        let rows = self.rows.write().take();
        // Outside of the lock: there may be millions.
        drop(rows);
    }

    fn rows(&self) -> Option<Arc<Changes>> {
        self.rows.read().clone()
    }

    fn apply(&self, run: Run) {
        let mut rows = self.rows.write();
        let rows = Arc::make_mut(rows.get_or_insert_default());
        run.into_changes(|key, value| drop(rows.insert(key, value)));
    }
}

impl<S: Store> Store for Ahead<S> {
    fn kind(&self) -> Kind {
        self.store.kind()
    }

    fn pace(&self) -> Arc<Pace> {
        self.store.pace()
    }

    fn purge(&self, now: TimestampMs) -> Result<Purged, StoreError> {
        self.store.purge(now)
    }

    fn trim(&self) -> Result<Option<DiskUse>, StoreError> {
        self.store.trim()
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.rows().and_then(|rows| rows.get(key).cloned()) {
            Some(value) => Ok(value),
            None => self.store.get(key).await,
        }
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        let Some(ahead) = self.rows().filter(|_| range.first <= range.last) else {
            return self.store.range(range).await;
        };
        let mut asked = *range;
        loop {
            let Rows { rows: stored, complete } = self.store.range(&asked).await?;
            // What the store has behind the last row that it gave is not known yet.
            let known_up_to = stored.last().filter(|_| !complete).map(|(key, _)| *key);
            let part = match (range.direction, known_up_to) {
                (_, None) => (range.first, range.last),
                (Direction::Forwards, Some(end)) => (range.first, end),
                (Direction::Backwards, Some(end)) => (end, range.last),
            };
            let inside = ahead.range((Bound::Included(part.0), Bound::Included(part.1)));
            let merged = match range.direction {
                Direction::Forwards => gather(range, stored, inside),
                Direction::Backwards => gather(range, stored, inside.rev()),
            };
            match merged {
                Gathered::Full(rows) => return Ok(rows.finish(false)),
                Gathered::All(rows) if complete => return Ok(rows.finish(true)),
                // Rows that are gone have hidden some of the store's.
                Gathered::All(_) => {
                    asked.rows_max = asked.rows_max.saturating_mul(2);
                    asked.bytes_max = asked.bytes_max.saturating_mul(2).max(1);
                }
            }
        }
    }

    /// Into memory.
    async fn advance(&self, _: Fence, _: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        let needed = sorted.needed();
        let run = sorted.finish(codec::sends_blocks(self.get_many(&needed).await?)?);
        let done = Advanced { rows: run.len() as u64, bytes: run.bytes() as u64, base_rows: needed.len() as u64 };
        self.apply(run);
        Ok(done)
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        self.store.progress().await
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.store.tenure().await
    }

    async fn commit(&self, _: Fence, _: &Run) -> Result<(), StoreError> {
        Err(for_reading())
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        Err(for_reading())
    }

    async fn begin(&self, _: Fence, _: Holder) -> Result<(), StoreError> {
        Err(for_reading())
    }
}

fn for_reading() -> StoreError {
    StoreError::Refused { reason: "what is ahead of a store is for reading".to_owned() }
}

/// What came of gathering.
enum Gathered {
    /// All that there was.
    All(Gather),
    /// As much as may be.
    Full(Gather),
}

/// The rows of a store, and those ahead of it, both in the direction of the range.
fn gather<'a>(
    range: &Range,
    stored: Vec<(Key, Bytes)>,
    ahead: impl Iterator<Item = (&'a Key, &'a Option<Bytes>)>,
) -> Gathered {
    let mut gather = Gather::new(range);
    let (mut stored, mut ahead) = (stored.into_iter().peekable(), ahead.peekable());
    while let Some((key, value)) = next_of(range.direction, &mut stored, &mut ahead) {
        let Some(value) = value else { continue };
        if !gather.wants(&key, &value) {
            return Gathered::Full(gather);
        }
        gather.push(key, value);
    }
    Gathered::All(gather)
}

/// The next row of both; of two with one key, the one that is ahead.
fn next_of<'a>(
    direction: Direction,
    stored: &mut Peekable<impl Iterator<Item = (Key, Bytes)>>,
    ahead: &mut Peekable<impl Iterator<Item = (&'a Key, &'a Option<Bytes>)>>,
) -> Option<(Key, Option<Bytes>)> {
    let is_before = |one: &Key, other: &Key| match direction {
        Direction::Forwards => one < other,
        Direction::Backwards => one > other,
    };
    match (stored.peek(), ahead.peek()) {
        (Some((stored_key, _)), Some((key, _))) if is_before(stored_key, key) => {}
        (Some((stored_key, _)), Some((key, _))) => {
            if stored_key == *key {
                stored.next();
            }
            return ahead.next().map(|(key, value)| (*key, value.clone()));
        }
        (None, _) => return ahead.next().map(|(key, value)| (*key, value.clone())),
        (Some(_), None) => {}
    }
    stored.next().map(|(key, value)| (key, Some(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        contract::block_on,
        journal::JournalConfig,
        memory::MemoryStore,
        record::Batch,
        store::Holder,
        testing::{encoded, history, journal_of},
    };

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 65536, journal_bytes_max: 256 * 65536, reserve_bytes: 0 };

    fn begun() -> (Arc<MemoryStore>, Fence) {
        let store = Arc::new(MemoryStore::default());
        let fence = block_on(store.take_over()).unwrap();
        block_on(store.begin(fence, Holder(1))).unwrap();
        (store, fence)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn reads_see_what_they_will_see_when_the_journal_is_in_the_store_however_far_that_is(
            records in history(120), batch_len in 2..9usize, seal_every in 1..6usize, before in 0..9usize,
            rows_max in 1..9usize, bytes_max in 0..400usize,
        ) {
            let batches = encoded(&records, batch_len);
            let (_dir, sealed) = journal_of(CONFIG, &batches.iter().map(Batch::bytes).collect::<Vec<_>>(), seal_every);
            let (whole, fence) = begun();
            block_on(crate::ingest(&*whole, fence, &sealed)).unwrap();
            let (store, fence) = begun();
            let before = before.min(sealed.len());
            block_on(crate::ingest(&*store, fence, &sealed[..before])).unwrap();
            let ahead = block_on(Ahead::read_ahead(Arc::clone(&store), &sealed[before..])).unwrap();
            for segment in &sealed[before..] {
                same(&ahead, &whole, rows_max, bytes_max)?;
                block_on(crate::ingest(&*store, fence, std::slice::from_ref(segment))).unwrap();
            }
            same(&ahead, &whole, rows_max, bytes_max)?;
            ahead.drop_rows();
            same(&ahead, &whole, rows_max, bytes_max)?;
            prop_assert_eq!(store.rows(), whole.rows());
        }
    }

    /// Every row, and pages of rows from everywhere.
    fn same(
        ahead: &Ahead<MemoryStore>,
        whole: &MemoryStore,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<(), TestCaseError> {
        let rows = whole.rows();
        for (key, value) in &rows {
            let read = block_on(ahead.get(key)).unwrap();
            prop_assert_eq!(read.as_ref(), Some(value));
        }
        let ends = [Key::from_bytes(&[1]).unwrap(), Key::from_bytes(&[u8::MAX; Key::LEN_MAX]).unwrap()];
        let middle = rows.get(rows.len() / 2).map_or(ends[1], |(key, _)| *key);
        for (first, last) in [(ends[0], ends[1]), (middle, ends[1]), (ends[0], middle), (ends[1], ends[0])] {
            for direction in [Direction::Forwards, Direction::Backwards] {
                for (rows_max, bytes_max) in [(rows_max, usize::MAX), (usize::MAX, bytes_max), (rows_max, bytes_max)] {
                    let range = Range { first, last, direction, rows_max, bytes_max };
                    prop_assert_eq!(block_on(ahead.range(&range)).unwrap(), block_on(whole.range(&range)).unwrap());
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_ahead_is_never_written_into_the_store() {
        let (store, fence) = begun();
        let ahead = Ahead::new(Arc::clone(&store));
        assert!(block_on(ahead.commit(fence, &Run::default())).is_err());
        assert!(block_on(ahead.begin(fence, Holder(2))).is_err() && block_on(ahead.take_over()).is_err());
        assert_eq!(block_on(store.tenure()).unwrap().unwrap().holder, Holder(1));
    }
}
