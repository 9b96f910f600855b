//! The seam to the ordered store: what every backend can do, and how it fails.
//!
//! Owns the contract; `contract` tests it. Knows keys and values as bytes in order, not what they mean.
//!
//! Invariants: a commit that returned `Ok` is durable; one that returned an error may have been applied in part (a run of a
//! migration is done again until it succeeds); committing the same run again is harmless; a commit under a fence that somebody
//! else has taken over never succeeds. An advance is applied as a whole or not at all, at most once, and only onto what
//! it goes on from; so one whose outcome is not known may be tried again, and one that comes late changes nothing. What is written in
//! an earlier term of a lane never succeeds.

use std::{future::Future, path::PathBuf, sync::Arc};

use bytes::Bytes;
use proto_spec::{Direction, TimestampMs};
use thiserror::Error;

use crate::{
    codec::CodecError,
    fold::Sorted,
    pace::Pace,
    record::{BatchId, LaneId},
    roll::{self, Roll, RollChange},
    run::Run,
    schema::{Key, KeyError},
};

/// What a backend is, as far as others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An engine in this process, on the disk of the journal. Reads block the thread. It is filled from the journal alone, in
    /// large runs.
    Engine,
    /// Somewhere else. Nothing blocks the thread, and small transactions of several lanes are under way at once.
    Database,
}

/// Most bytes of records that go into one run of a [`Kind::Engine`]: a segment of the default size. Larger runs cost less a
/// row, smaller ones less memory.
pub const ENGINE_RUN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most bytes of records that go into one run of a [`Kind::Engine`] when a start brings in what the journal holds: a fraction of a second of
/// work, which is what a stop or a kill in the middle of it costs. More runs are more tables to merge; that is for later.
pub const RECOVERY_RUN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most bytes of records that go into one advance of a [`Kind::Database`], by [`crate::Batch::weight`], unless a single batch has more. The
/// rows of records have about four times their bytes: a tenth of what FoundationDB allows a transaction, as its makers advise.
pub const DATABASE_RUN_BYTES_MAX: u64 = 256 * 1024;

impl Kind {
    /// Most bytes of records that go into one run, unless a single batch has more.
    #[must_use]
    pub const fn run_bytes_max(self) -> u64 {
        match self {
            Self::Engine => ENGINE_RUN_BYTES_MAX,
            Self::Database => DATABASE_RUN_BYTES_MAX,
        }
    }
}

/// An ordered key-value store.
pub trait Store: Send + Sync + 'static {
    /// What it is.
    fn kind(&self) -> Kind;

    /// How its long work on this machine goes on, for whoever knows how much of it waits. A database's is done elsewhere.
    fn pace(&self) -> Arc<Pace> {
        Arc::default()
    }

    /// Takes off the disk of this machine what rows were deleted, if it is time. Blocks until that is done: seconds. A database does it by
    /// itself.
    ///
    /// # Errors
    /// The store cannot be reached or failed; a retry may succeed.
    fn purge(&self, _now: TimestampMs) -> Result<Purged, StoreError> {
        Ok(Purged::Nothing)
    }

    /// Removes from the disk of this machine what it has rewritten, and says what it takes of it; nothing if it is a database. Cheap, if
    /// there is not much: for every second.
    ///
    /// # Errors
    /// The store failed, or its folder can not be read.
    fn trim(&self) -> Result<Option<DiskUse>, StoreError> {
        Ok(None)
    }

    /// The value of a row, if it is there.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// The values of several rows, in the order of the keys, and read at once or in this order. For backends where reads overlap.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<Option<Bytes>>, StoreError>> + Send {
        async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.get(key).await?);
            }
            Ok(values)
        }
    }

    /// Rows in the order of their keys.
    fn range(&self, range: &Range) -> impl Future<Output = Result<Rows, StoreError>> + Send;

    /// Makes a run durable. Several commits may be in flight if their keys are disjoint.
    fn commit(&self, fence: Fence, run: &Run) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Becomes the one who may commit: commits under every earlier fence fail from now on.
    fn take_over(&self) -> impl Future<Output = Result<Fence, StoreError>> + Send;

    /// Makes batches durable that follow on each other in their lanes: `steps` says which, `sorted` what they leave behind. Does
    /// nothing if all lanes have come so far already. Without steps nobody can tell: what is given is applied, as a commit is.
    fn advance(
        &self,
        fence: Fence,
        steps: &[Step],
        sorted: Sorted,
    ) -> impl Future<Output = Result<Advanced, StoreError>> + Send;

    /// The last batch of each lane that is in the store, of those that have any there, by ascending lane.
    fn progress(&self) -> impl Future<Output = Result<Vec<(LaneId, BatchId)>, StoreError>> + Send;

    /// Who began last. `None` before anybody has begun.
    fn tenure(&self) -> impl Future<Output = Result<Option<Tenure>, StoreError>> + Send;

    /// Begins to serve as `holder`: lanes count their batches from one again. Everything that the journal had must be in the
    /// store.
    fn begin(&self, fence: Fence, holder: Holder) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes the store that of the cluster of this name, unless it is so already. The first time a server that had it alone is
    /// fenced out, and where its lanes were is forgotten.
    ///
    /// # Errors
    /// It is another cluster's, or cannot be one's: refused.
    fn found(&self, _cluster: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Err(roll::is_one_servers()) }
    }

    /// The roll of the store's cluster.
    fn roll(&self) -> impl Future<Output = Result<Roll, StoreError>> + Send {
        async { Err(roll::is_one_servers()) }
    }

    /// The term of a slot of the store's cluster, as of a moment after it was asked for; 0 before the slot has had an owner.
    fn term(&self, _lane: LaneId) -> impl Future<Output = Result<u64, StoreError>> + Send {
        async { Err(roll::is_one_servers()) }
    }

    /// Changes the roll if everything is as expected, and says whether it was; if not, nothing is changed. A slot that begins a new term counts
    /// its batches from one.
    ///
    /// # Errors
    /// [`StoreError::Unknown`]: it may have been made, or may be made yet: the roll tells. It is not tried again by itself, since it would
    /// not find what it expects if it has been made.
    fn change_roll(&self, _change: &RollChange) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async { Err(roll::is_one_servers()) }
    }

    /// Ends when owners may have changed since the roll had this version. Says nothing of members.
    fn roll_changed(&self, _since: u64) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Err(roll::is_one_servers()) }
    }
}

/// What a store takes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes of the tables that have its rows.
    pub rows_bytes: u64,
    /// Bytes of all its tables: of those as well that are being made, and that were merged and are not removed yet.
    pub tables_bytes: u64,
}

/// What a purge has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Nothing: nothing is left of what was deleted, or it is not time.
    Nothing,
    /// Nothing: there is too much to go through.
    TooLarge {
        /// How much there is.
        bytes: u64,
        /// How much it may be.
        bytes_max: u64,
    },
    /// Nothing: it takes as much room as there is history, and more than the disk has.
    NoRoom {
        /// How much there is.
        bytes: u64,
        /// What the disk has.
        free: u64,
    },
    /// Nothing is left of what was deleted before.
    Merged {
        /// How much was gone through.
        bytes: u64,
    },
}

/// A journal's name for itself: random, made with its folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder(pub u128);

/// A time in which one holder served: the batches of its journal belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// Who.
    pub holder: Holder,
    /// Under which fence it began.
    pub fence: Fence,
}

/// Where an advance takes one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Which lane.
    pub lane: LaneId,
    /// In a cluster the term of the lane's owner, in which its batches were numbered: it must still be that. 0: the store is one server's, and
    /// the fence of the advance must be the store's.
    pub term: u64,
    /// The last batch that must be in the store before it.
    pub after: BatchId,
    /// The last batch that is in the store after it.
    pub up_to: BatchId,
}

/// What an advance has done. Zeros if its batches were in the store already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Rows committed.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Rows that had to be read for it.
    pub base_rows: u64,
}

/// Whether steps have been made, given where each of their lanes is.
///
/// # Errors
/// A lane is neither where its step begins nor where it ends, or some steps have been made and others have not.
pub(crate) fn are_made(steps: &[Step], found: impl Iterator<Item = BatchId>) -> Result<bool, StoreError> {
    let mut made = 0;
    for (step, found) in steps.iter().zip(found) {
        if found >= step.up_to {
            made += 1;
        } else if found != step.after {
            return Err(StoreError::OutOfStep { step: *step, found });
        }
    }
    match made {
        0 => Ok(false),
        _ if made == steps.len() => Ok(true),
        _ => {
            Err(StoreError::Damaged { what: format!("of the steps {steps:?} some have been made and others have not") })
        }
    }
}

/// The right to commit. A later one is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// A part of the key space, to be read in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Lowest key, included.
    pub first: Key,
    /// Highest key, included.
    pub last: Key,
    /// From which end to read.
    pub direction: Direction,
    /// Most rows to return; at least 1.
    pub rows_max: usize,
    /// Stop before the bytes of keys and values exceed this; the first row is returned whatever its size.
    pub bytes_max: usize,
}

/// What a range held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// In the direction of reading.
    pub rows: Vec<(Key, Bytes)>,
    /// Whether the whole range was read.
    pub complete: bool,
}

/// Why a store did not do what it was asked for.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached or is too busy. Nothing was changed.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
    /// The commit may or may not have happened, or may have happened in part.
    #[error("the outcome of a commit is not known: {reason}")]
    Unknown {
        /// What it said.
        reason: String,
    },
    /// Somebody else changed the same rows at the same time. Nothing was changed.
    #[error("a commit met a conflicting one")]
    Conflict,
    /// There is no room. The same will work when there is.
    #[error("the store has no room: {reason}")]
    Full {
        /// What it said.
        reason: String,
    },
    /// Somebody has taken over. Nothing was changed, and nothing ever will be under this fence.
    #[error("somebody else has taken over the store: fence {held:?} was replaced by {current:?}")]
    Fenced {
        /// The fence of the commit.
        held: Fence,
        /// The fence that holds now.
        current: Fence,
    },
    /// It will not do this, now or later: the request is wrong or forbidden. Nothing was changed. Trying again would be for ever.
    #[error("the store refuses: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Other owners have taken lanes. Nothing was changed, and nothing ever will be in these terms.
    #[error("slots have other owners: {}", lanes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Moved {
        /// All of the advance that are another's; at least one.
        lanes: Vec<MovedLane>,
    },
    /// A lane is not where the advance goes on from: somebody else has moved it. Nothing was changed.
    #[error("lane {} is at batch {} in the store, not at {}", step.lane.0, found.0, step.after.0)]
    OutOfStep {
        /// What was to be done.
        step: Step,
        /// Where the lane is.
        found: BatchId,
    },
    /// Another process uses the folder.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer version has written the folder.
    #[error("{} has format version {found}, this version reads up to {known}", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The highest version known here.
        known: u32,
    },
    /// Something in the store is not what was written.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What and where.
        what: String,
    },
}

/// A lane that another owner has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} is in term {current} and not in {held}", lane.0)]
pub struct MovedLane {
    /// Which.
    pub lane: LaneId,
    /// The term of the step.
    pub held: u64,
    /// The term that the lane is in now; 0: it has no owner.
    pub current: u64,
}

impl StoreError {
    /// Whether trying the same again may succeed. It is never harmful.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Unknown { .. } | Self::Conflict | Self::Full { .. } => true,
            Self::Fenced { .. }
            | Self::Refused { .. }
            | Self::Moved { .. }
            | Self::OutOfStep { .. }
            | Self::InUse { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. } => false,
        }
    }
}

impl StoreError {
    /// Whether there is no room: the same will work when there is.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}

impl From<KeyError> for StoreError {
    fn from(error: KeyError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}

impl<S: Store> Store for Arc<S> {
    fn kind(&self) -> Kind {
        S::kind(self)
    }

    fn pace(&self) -> Arc<Pace> {
        S::pace(self)
    }

    fn purge(&self, now: TimestampMs) -> Result<Purged, StoreError> {
        S::purge(self, now)
    }

    fn trim(&self) -> Result<Option<DiskUse>, StoreError> {
        S::trim(self)
    }

    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        S::get(self, key)
    }

    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<Option<Bytes>>, StoreError>> + Send {
        S::get_many(self, keys)
    }

    fn range(&self, range: &Range) -> impl Future<Output = Result<Rows, StoreError>> + Send {
        S::range(self, range)
    }

    fn commit(&self, fence: Fence, run: &Run) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::commit(self, fence, run)
    }

    fn take_over(&self) -> impl Future<Output = Result<Fence, StoreError>> + Send {
        S::take_over(self)
    }

    fn advance(
        &self,
        fence: Fence,
        steps: &[Step],
        sorted: Sorted,
    ) -> impl Future<Output = Result<Advanced, StoreError>> + Send {
        S::advance(self, fence, steps, sorted)
    }

    fn progress(&self) -> impl Future<Output = Result<Vec<(LaneId, BatchId)>, StoreError>> + Send {
        S::progress(self)
    }

    fn tenure(&self) -> impl Future<Output = Result<Option<Tenure>, StoreError>> + Send {
        S::tenure(self)
    }

    fn begin(&self, fence: Fence, holder: Holder) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::begin(self, fence, holder)
    }

    fn found(&self, cluster: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::found(self, cluster)
    }

    fn roll(&self) -> impl Future<Output = Result<Roll, StoreError>> + Send {
        S::roll(self)
    }

    fn change_roll(&self, change: &RollChange) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::change_roll(self, change)
    }

    fn roll_changed(&self, since: u64) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::roll_changed(self, since)
    }
}

/// Gathers rows until a range's bounds are reached. What the backends have in common.
#[derive(Debug)]
pub(crate) struct Gather {
    rows: Vec<(Key, Bytes)>,
    rows_max: usize,
    bytes_left: usize,
}

impl Gather {
    pub(crate) fn new(range: &Range) -> Self {
        Self { rows: Vec::new(), rows_max: range.rows_max.max(1), bytes_left: range.bytes_max }
    }

    /// Whether a row of this size is still wanted. The first always is.
    pub(crate) fn wants(&self, key: &[u8], value: &[u8]) -> bool {
        self.rows.is_empty() || (self.rows.len() < self.rows_max && key.len() + value.len() <= self.bytes_left)
    }

    /// How many rows and bytes there is room for.
    #[cfg(feature = "foundationdb")]
    pub(crate) const fn left(&self) -> (usize, usize) {
        (self.rows_max - self.rows.len(), self.bytes_left)
    }

    pub(crate) fn push(&mut self, key: Key, value: Bytes) {
        self.bytes_left = self.bytes_left.saturating_sub(key.len() + value.len());
        self.rows.push((key, value));
    }

    /// The rows; `complete` when the range ended before the bounds were reached.
    pub(crate) fn finish(self, complete: bool) -> Rows {
        Rows { rows: self.rows, complete }
    }
}
