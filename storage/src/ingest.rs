//! Sealed journal segments into the store, in large runs. Recovery after a crash is the same.
//!
//! Owns the order of the steps, nothing else: reading and verifying is the journal's, meaning is the fold's, durability
//! is the store's. Blocks while it reads files. Memory is two to three times the bytes of a run: at most [`RUN_BYTES_MAX`] or, if that
//! is larger, one segment.
//!
//! Invariant: nothing is committed of a run whose segments could not be read whole.

use thiserror::Error;

use crate::{
    codec::{self, CodecError},
    fold::Fold,
    journal::{JournalError, Lsn, SealedSegment},
    store::{Fence, Store, StoreError},
};

/// Segments are taken into one run while their records do not exceed this: two of the default size. Larger runs cost less
/// a row, smaller ones less memory.
pub const RUN_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What an ingestion has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Batches read.
    pub batches: u64,
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

/// Commits what the segments' records leave behind. The segments must follow each other in the journal, and everything
/// before them must have been ingested.
///
/// # Errors
/// A segment cannot be read or understood, or the store refused. The same segments may always be ingested again.
pub async fn ingest<S: Store>(
    store: &S,
    fence: Fence,
    segments: &[SealedSegment],
) -> Result<IngestReport, IngestError> {
    let mut report = IngestReport::default();
    let mut rest = segments;
    while !rest.is_empty() {
        let (run, later) = rest.split_at(run_len(rest));
        ingest_run(store, fence, run, &mut report).await?;
        rest = later;
    }
    Ok(report)
}

/// How many of the segments make the next run: at least one.
fn run_len(segments: &[SealedSegment]) -> usize {
    let mut bytes = 0;
    let fits = |segment: &&SealedSegment| {
        bytes += segment.end;
        bytes <= RUN_BYTES_MAX
    };
    segments.iter().take_while(fits).count().max(1)
}

async fn ingest_run<S: Store>(
    store: &S,
    fence: Fence,
    segments: &[SealedSegment],
    report: &mut IngestReport,
) -> Result<(), IngestError> {
    let mut fold = Fold::default();
    for segment in segments {
        fold_segment(segment, &mut fold, report)?;
    }
    report.records += fold.records();

    let sorted = fold.sort();
    let needed = sorted.needed();
    report.base_rows += needed.len() as u64;
    let mut base = Vec::with_capacity(needed.len());
    for value in store.get_many(&needed).await? {
        base.push(value.map(|value| codec::sends_block(&value)).transpose().map_err(StoreError::from)?);
    }

    let run = sorted.finish(base);
    report.rows += run.len() as u64;
    report.row_bytes += run.bytes() as u64;
    store.commit(fence, &run).await?;
    Ok(())
}

fn fold_segment(segment: &SealedSegment, fold: &mut Fold, report: &mut IngestReport) -> Result<(), IngestError> {
    let mut records = segment.read()?;
    while let Some(batch) = records.next_record()? {
        let unreadable = |source| IngestError::Batch { path: segment.path.clone(), lsn: batch.lsn, source };
        fold.add(batch.payload).map_err(unreadable)?;
        report.batches += 1;
        report.journal_bytes += batch.payload.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::OpenOptions, os::unix::fs::FileExt};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        contract::block_on,
        journal::{JournalConfig, JournalFolder, Position, SegmentNumber, Writer, recover},
        memory::{CommitFault, MemoryStore},
        record::{Batch, BatchId, CoreId, Record},
        testing::history,
    };

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 65536, journal_bytes_max: 256 * 65536, reserve_bytes: 0 };

    /// A journal of these batches, sealed after each `seal_every` of them.
    fn journal(batches: &[&[u8]], seal_every: usize) -> (TempDir, Vec<SealedSegment>) {
        let dir = tempfile::tempdir().unwrap();
        let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
        let mut writer = Writer::new(CONFIG, Position::default());
        let mut sealed = Vec::new();
        for (at, batch) in batches.iter().enumerate() {
            while let Some(number) = writer.wants_segment() {
                writer.add_segment(number, folder.prepare(number).unwrap().salt);
            }
            writer.push(CoreId(0), BatchId(at as u64 + 1), batch);
            let write = writer.next_write().unwrap();
            let file = OpenOptions::new().write(true).open(folder.segment_path(write.segment)).unwrap();
            file.write_all_at(&write.bytes, write.offset).unwrap();
            sealed.extend(writer.written(write.bytes).sealed);
            if at % seal_every == seal_every - 1 {
                sealed.extend(writer.seal());
            }
        }
        sealed.extend(writer.seal());
        let sealed = sealed.iter().map(|sealed| SealedSegment::new(&folder, sealed)).collect();
        (dir, sealed)
    }

    fn encoded(records: &[Record], batch_len: usize) -> Vec<Batch> {
        let encode = |records: &[Record]| {
            let mut batch = Batch::default();
            records.iter().for_each(|record| batch.push(record));
            batch
        };
        records.chunks(batch_len).map(encode).collect()
    }

    fn taken_over() -> (MemoryStore, Fence) {
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        (store, fence)
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
            for run in sealed.chunks(run_len) {
                block_on(ingest(&store, fence, run)).unwrap();
            }

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
            let (store, fence) = taken_over();
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
                    let refused = block_on(ingest(&store, fence, std::slice::from_ref(segment))).unwrap_err();
                    prop_assert!(refused.is_retryable());
                }
                block_on(ingest(&store, fence, std::slice::from_ref(segment))).unwrap();
            }
            prop_assert_eq!(store.rows(), expected.rows());
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

    #[test]
    fn runs_are_bounded_by_bytes_and_have_at_least_one_segment() {
        let segments = |ends: &[u64]| -> Vec<_> {
            let segment = |&end| SealedSegment { number: SegmentNumber(1), path: "x".into(), end };
            ends.iter().map(segment).collect()
        };
        assert_eq!(run_len(&segments(&[RUN_BYTES_MAX / 2, RUN_BYTES_MAX / 2, 1])), 2);
        assert_eq!(run_len(&segments(&[RUN_BYTES_MAX + 1, 1])), 1);
        assert_eq!(run_len(&segments(&[1])), 1);
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
