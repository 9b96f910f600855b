//! Sealed journal segments into the store, in one run. Recovery after a crash is the same.
//!
//! Owns the order of the steps, nothing else: reading and verifying is the journal's, meaning is the fold's, durability
//! is the store's. Memory is bounded by the segments that the caller passes: about three times their bytes.
//!
//! Invariant: nothing is committed of segments that could not be read whole.

use thiserror::Error;

use crate::{
    codec::{self, CodecError},
    fold::Fold,
    journal::{JournalError, Lsn, SealedSegment},
    record::records,
    store::{Fence, Store, StoreError},
};

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
            Self::Journal(_) | Self::Batch { .. } => false,
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
    let mut fold = Fold::default();
    for segment in segments {
        fold_segment(segment, &mut fold, &mut report)?;
    }
    report.records = fold.records();

    let needed: Vec<_> = fold.needed().collect();
    report.base_rows = needed.len() as u64;
    let mut base = Vec::with_capacity(needed.len());
    for value in store.get_many(&needed).await? {
        base.push(value.map(|value| codec::sends_block(&value)).transpose().map_err(StoreError::from)?);
    }

    let run = fold.finish(base);
    report.rows = run.len() as u64;
    report.row_bytes = run.bytes() as u64;
    store.commit(fence, &run).await?;
    Ok(report)
}

/// The segment's bytes are gone again when this returns.
fn fold_segment(segment: &SealedSegment, fold: &mut Fold, report: &mut IngestReport) -> Result<(), IngestError> {
    for batch in segment.read()?.iter() {
        let batch = batch?;
        for record in records(batch.payload) {
            let unreadable = |source| IngestError::Batch { path: segment.path.clone(), lsn: batch.lsn, source };
            fold.add(&record.map_err(unreadable)?);
        }
        report.batches += 1;
        report.journal_bytes += batch.payload.len() as u64;
    }
    Ok(())
}
