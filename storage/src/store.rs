//! The seam to the ordered store: what every backend can do, and how it fails.
//!
//! Owns the contract; `contract` tests it. Knows keys and values as bytes in order, not what they mean.
//!
//! Invariants: a commit that returned `Ok` is durable; one that returned an error may have been applied in part (the
//! embedded engine and a memory are atomic, but runs are redone from the journal until they succeed, so no backend has to
//! be); committing the same run again is harmless; a commit under a fence that somebody else has taken over never
//! succeeds.

use std::{future::Future, path::PathBuf, sync::Arc};

use bytes::Bytes;
use proto_spec::Direction;
use thiserror::Error;

use crate::{
    codec::CodecError,
    run::Run,
    schema::{Key, KeyError},
};

/// An ordered key-value store.
pub trait Store: Send + Sync + 'static {
    /// The value of a row, if it is there.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// The values of several rows, in the order of the keys. For backends where reads overlap.
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

impl StoreError {
    /// Whether trying the same again may succeed. It is never harmful.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Unknown { .. } | Self::Conflict | Self::Full { .. } => true,
            Self::Fenced { .. } | Self::InUse { .. } | Self::Newer { .. } | Self::Damaged { .. } => false,
        }
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

    pub(crate) fn push(&mut self, key: Key, value: Bytes) {
        self.bytes_left = self.bytes_left.saturating_sub(key.len() + value.len());
        self.rows.push((key, value));
    }

    /// The rows; `complete` when the range ended before the bounds were reached.
    pub(crate) fn finish(self, complete: bool) -> Rows {
        Rows { rows: self.rows, complete }
    }
}
