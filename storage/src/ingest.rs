//! Sealed journal segments into the store, in runs. Recovery after a crash is the same.
//!
//! Owns the order of the steps, nothing else: reading and verifying is the journal's, meaning is the fold's, durability
//! is the store's. Blocks while it reads files. Memory is two to three times the bytes of a run.
//!
//! Invariants: runs are whole batches in the order of the journal, and the store takes a run as a whole, with how far it brings each
//! lane: so it always has what some beginning of the journal leaves behind, and knows which. Nothing is committed of a run whose
//! batches could not be read.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::{
    codec::CodecError,
    fold::Fold,
    journal::{JournalError, JournalRecord, Lsn, SealedSegment},
    pace::Pieces,
    record::{BatchId, LaneId},
    store::{Advanced, Fence, Kind, Step, Store, StoreError},
};

/// What an ingestion has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Batches read.
    pub batches: u64,
    /// Of these, how many the store had already.
    pub known: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the segments' records.
    pub journal_bytes: u64,
    /// Rows committed.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub row_bytes: u64,
    /// `sends` rows that had to be read for it.
    pub base_rows: u64,
}

/// Why segments were not ingested.
#[derive(Debug, Error)]
pub enum IngestError {
    /// A segment could not be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A batch is whole, but its records cannot be read.
    #[error("the batch at lsn {lsn} of {} cannot be understood: {source}", path.display())]
    Batch {
        /// Which file.
        path: std::path::PathBuf,
        /// Which batch.
        lsn: Lsn,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The store did not take the run, or did not give the rows that it must be merged with.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngestError {
    /// Whether there is no room: the same will work when there is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Journal(error) => error.is_full(),
            Self::Batch { .. } => false,
        }
    }

    /// Whether trying the same again may succeed. It is never harmful.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Journal(error) => matches!(error, JournalError::Io { .. }),
            Self::Batch { .. } => false,
        }
    }
}

/// Commits what the segments' records leave behind, but for batches that the store has already. The segments must follow each
/// other in the journal, and everything before them must have been ingested.
///
/// # Errors
/// A segment cannot be read or understood, or the store refused. The same segments may always be ingested again.
pub async fn ingest<S: Store>(
    store: &S,
    fence: Fence,
    segments: &[SealedSegment],
) -> Result<IngestReport, IngestError> {
    let run_bytes_max = store.kind().run_bytes_max();
    ingest_in_runs(store, fence, segments, run_bytes_max, |_| ()).await
}

/// As [`ingest`], in runs of at most so many bytes of records, unless a single batch has more. After each run `watch` is told what has been
/// done so far. Whatever ends it there: the store knows what it has, so the next attempt goes on from there.
///
/// # Errors
/// As [`ingest`].
pub async fn ingest_in_runs<S: Store>(
    store: &S,
    fence: Fence,
    segments: &[SealedSegment],
    run_bytes_max: u64,
    mut watch: impl FnMut(&IngestReport),
) -> Result<IngestReport, IngestError> {
    let mut report = IngestReport::default();
    let mut lanes = Lanes::of(store).await?;
    let mut run = GatheredRun::default();
    let pace = store.pace();
    let mut pieces = Pieces::new(&pace);
    for segment in segments {
        let mut records = segment.read()?;
        while let Some(batch) = records.next_record()? {
            pieces.step();
            let bytes = batch.payload.len() as u64;
            if run.bytes > 0 && run.bytes + bytes > run_bytes_max.min(store.kind().run_bytes_max()) {
                std::mem::take(&mut run).commit(store, fence, &mut report).await?;
                watch(&report);
            }
            report.batches += 1;
            report.journal_bytes += bytes;
            let step = match lanes.step(&batch)? {
                Found::Known => {
                    report.known += 1;
                    continue;
                }
                Found::New(step) => step,
            };
            let unreadable = |source| IngestError::Batch { path: segment.path.clone(), lsn: batch.lsn, source };
            run.add(&batch, step).map_err(unreadable)?;
        }
    }
    run.commit(store, fence, &mut report).await?;
    watch(&report);
    Ok(report)
}

/// How far each lane is in the store, or will be with the run that is gathered.
struct Lanes {
    at: HashMap<LaneId, BatchId, RandomState>,
    /// An engine that nobody has begun to serve from knows of no batches, but may have some: of a server before those that kept
    /// count. What its journal holds is brought in whole, however often.
    are_counted: bool,
}

/// What a batch is to the store.
enum Found {
    /// It has it.
    Known,
    /// It has not, and gets it with this step, if lanes are counted.
    New(Option<Step>),
}

impl Lanes {
    async fn of<S: Store>(store: &S) -> Result<Self, StoreError> {
        let are_counted = store.kind() == Kind::Database || store.tenure().await?.is_some();
        Ok(Self { at: store.progress().await?.into_iter().collect(), are_counted })
    }

    /// Moves the batch's lane on to it.
    fn step(&mut self, batch: &JournalRecord<'_>) -> Result<Found, StoreError> {
        if !self.are_counted {
            return Ok(Found::New(None));
        }
        let at = self.at.entry(batch.lane).or_default();
        if batch.batch <= *at {
            return Ok(Found::Known);
        }
        let step = Step { lane: batch.lane, term: 0, after: BatchId(batch.batch.0 - 1), up_to: batch.batch };
        if step.after != *at {
            return Err(StoreError::OutOfStep { step, found: *at });
        }
        *at = step.up_to;
        Ok(Found::New(Some(step)))
    }
}

/// Batches on their way into one run.
#[derive(Default)]
struct GatheredRun {
    fold: Fold,
    /// Of records.
    bytes: u64,
    steps: Vec<Step>,
}

impl GatheredRun {
    fn add(&mut self, batch: &JournalRecord<'_>, step: Option<Step>) -> Result<(), CodecError> {
        self.fold.add(batch.payload)?;
        self.bytes += batch.payload.len() as u64;
        let Some(step) = step else { return Ok(()) };
        match self.steps.iter_mut().find(|of| of.lane == step.lane) {
            Some(of) => of.up_to = step.up_to,
            None => self.steps.push(step),
        }
        Ok(())
    }

    async fn commit<S: Store>(self, store: &S, fence: Fence, report: &mut IngestReport) -> Result<(), StoreError> {
        if self.fold.records() == 0 && self.steps.is_empty() {
            return Ok(());
        }
        report.records += self.fold.records();
        let Advanced { rows, bytes, base_rows } = store.advance(fence, &self.steps, self.fold.sort()).await?;
        report.rows += rows;
        report.row_bytes += bytes;
        report.base_rows += base_rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        contract::block_on,
        journal::{JournalConfig, recover},
        memory::{CommitFault, MemoryStore},
        record::{Batch, Record},
        store::Holder,
        testing::{encoded, history, journal_of},
    };

    /// Two batches of 20,000 cursors.
    const PART_BYTES: u64 = 400 * 1024;

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 65536, journal_bytes_max: 256 * 65536, reserve_bytes: 0 };

    /// A journal of these batches, sealed after each `seal_every` of them.
    fn journal(batches: &[&[u8]], seal_every: usize) -> (TempDir, Vec<SealedSegment>) {
        journal_of(CONFIG, batches, seal_every)
    }

    /// The batches in one segment that holds them all.
    fn large_journal(batches: &[Batch]) -> (TempDir, Vec<SealedSegment>) {
        let config = JournalConfig { segment_bytes: 16 << 20, journal_bytes_max: 64 << 20, reserve_bytes: 0 };
        journal_of(config, &batches.iter().map(Batch::bytes).collect::<Vec<_>>(), usize::MAX)
    }

    fn begun(store: MemoryStore) -> (MemoryStore, Fence) {
        let fence = block_on(store.take_over()).unwrap();
        block_on(store.begin(fence, Holder(1))).unwrap();
        (store, fence)
    }

    fn taken_over() -> (MemoryStore, Fence) {
        begun(MemoryStore::default())
    }

    fn database_taken_over() -> (MemoryStore, Fence) {
        begun(MemoryStore::database())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn the_way_over_the_journal_in_any_runs_leaves_the_same_rows(
            records in history(200), batch_len in 5..20usize, seal_every in 2..10usize, run_len in 1..4usize,
        ) {
            let batches = encoded(&records, batch_len);
            let (dir, sealed) = journal(&batches.iter().map(Batch::bytes).collect::<Vec<_>>(), seal_every);
            let (store, fence) = taken_over();
            let (database, its_fence) = database_taken_over();
            for run in sealed.chunks(run_len) {
                block_on(ingest(&store, fence, run)).unwrap();
                block_on(ingest(&database, its_fence, run)).unwrap();
            }
            prop_assert_eq!(database.rows(), store.rows());

            // Recovery reads the same segments, and ingests them all again, at once.
            let recovered = recover(dir.path()).unwrap();
            prop_assert_eq!(&recovered.segments, &sealed);
            let (other, fence) = taken_over();
            let report = block_on(ingest(&other, fence, &recovered.segments)).unwrap();
            prop_assert_eq!(report.records, records.len() as u64);
            prop_assert_eq!(other.rows(), store.rows());
            block_on(ingest(&other, fence, &recovered.segments)).unwrap();
            prop_assert_eq!(other.rows(), store.rows());
        }

        #[test]
        fn a_run_that_failed_in_any_way_is_done_by_its_retry(records in history(100)) {
            let batches = encoded(&records, 7);
            let (_dir, sealed) = journal(&batches.iter().map(Batch::bytes).collect::<Vec<_>>(), 5);
            let (expected, fence) = taken_over();
            block_on(ingest(&expected, fence, &sealed)).unwrap();
            for (store, fence) in [taken_over(), database_taken_over()] {
                for segment in &sealed {
                    let faults = [
                        CommitFault::UnknownHalf,
                        CommitFault::Full,
                        CommitFault::UnknownApplied,
                        CommitFault::Conflict,
                        CommitFault::UnknownLost,
                    ];
                    for fault in faults {
                        store.fail_next_commit(fault);
                        match block_on(ingest(&store, fence, std::slice::from_ref(segment))) {
                            Err(refused) => prop_assert!(refused.is_retryable()),
                            // The store knows that it has been done, and the fault is left over.
                            Ok(report) => prop_assert_eq!(report.rows, 0),
                        }
                    }
                    store.forget_faults();
                    block_on(ingest(&store, fence, std::slice::from_ref(segment))).unwrap();
                }
                prop_assert_eq!(store.rows(), expected.rows());
            }
        }
    }

    #[test]
    fn a_batch_that_cannot_be_understood_stops_ingestion_and_commits_nothing() {
        let good = encoded(
            &[Record::Cursor { user: proto_spec::UserId(1), device: proto_spec::DeviceId(2), seq: proto_spec::Seq(3) }],
            1,
        );
        let (_dir, sealed) = journal(&[good[0].bytes(), &[0xff, 0xff]], 9);
        let (store, fence) = taken_over();
        let refused = block_on(ingest(&store, fence, &sealed)).unwrap_err();
        assert!(!refused.is_retryable());
        assert!(refused.to_string().contains("the batch at lsn 2 of"), "{refused}");
        assert!(store.rows().is_empty());
    }

    fn cursors(count: u64) -> Vec<Record> {
        let (user, device) = (proto_spec::UserId(1), proto_spec::DeviceId(2));
        (1..=count).map(|seq| Record::Cursor { user, device, seq: proto_spec::Seq(seq) }).collect()
    }

    #[test]
    fn a_store_gets_the_journal_in_parts_and_goes_on_where_it_was() {
        let batches = encoded(&cursors(240_000), 20_000);
        let (_dir, sealed) = large_journal(&batches);
        for (store, fence) in [taken_over(), database_taken_over()] {
            let mut parts = 0;
            let report = loop {
                store.fail_next_commit(CommitFault::UnknownApplied);
                match block_on(ingest_in_runs(&store, fence, &sealed, PART_BYTES, |_| ())) {
                    Err(IngestError::Store(StoreError::Unknown { .. })) => parts += 1,
                    other => break other.unwrap(),
                }
            };
            assert!((4..=12).contains(&parts), "{parts}");
            assert_eq!((report.batches, report.known, report.rows), (12, 12, 0));
            assert_eq!(block_on(store.progress()).unwrap(), [(LaneId(0), BatchId(12))]);
        }
    }

    #[test]
    fn after_each_run_it_is_told_how_far_it_is() {
        let batches = encoded(&cursors(240_000), 20_000);
        let (_dir, sealed) = large_journal(&batches);
        let (store, fence) = taken_over();
        let mut told = Vec::new();
        let watch = |done: &IngestReport| {
            let progress = block_on(store.progress()).unwrap();
            assert_eq!(progress, [(LaneId(0), BatchId(done.batches))]);
            told.push(done.batches);
        };
        block_on(ingest_in_runs(&store, fence, &sealed, PART_BYTES, watch)).unwrap();
        assert!(told.len() >= 4 && told.is_sorted() && told.last() == Some(&12), "{told:?}");
    }

    #[test]
    fn what_a_server_left_that_did_not_count_batches_is_brought_in_whole_however_often() {
        let batches = encoded(&cursors(3), 1);
        let (_dir, sealed) = journal(&batches.iter().map(Batch::bytes).collect::<Vec<_>>(), 1);
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        for _ in 0..2 {
            // Its first segments have been given up.
            let report = block_on(ingest(&store, fence, &sealed[1..])).unwrap();
            assert_eq!((report.batches, report.known), (2, 0));
        }
        assert_eq!(block_on(store.progress()).unwrap(), []);
    }

    #[test]
    fn a_store_that_lacks_a_batch_before_the_journal_takes_nothing() {
        let batches = encoded(&cursors(3), 1);
        let (_dir, sealed) = journal(&batches.iter().map(Batch::bytes).collect::<Vec<_>>(), 1);
        for (store, fence) in [taken_over(), database_taken_over()] {
            let refused = block_on(ingest(&store, fence, &sealed[1..])).unwrap_err();
            assert!(!refused.is_retryable());
            assert_eq!(refused.to_string(), "lane 0 is at batch 0 in the store, not at 1");
            assert!(store.rows().is_empty());
        }
    }

    #[test]
    fn a_segment_that_is_gone_stops_ingestion_by_name() {
        let (_dir, sealed) = journal(&[b""], 1);
        fs::remove_file(&sealed[0].path).unwrap();
        let (store, fence) = taken_over();
        let refused = block_on(ingest(&store, fence, &sealed)).unwrap_err().to_string();
        assert!(refused.contains("00000000000000000001.journal"), "{refused}");
    }
}
