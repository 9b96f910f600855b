//! Why a node did not start: all that a start meets, in words for the operator.

use std::{io, net::SocketAddr};

use rim::ring::SetupError;
use storage::{Kind, journal::JournalError};
use thiserror::Error;

use crate::{
    files::{datadir::DataDirError, tenure::TakeOverError},
    host::capacity::TooFewFiles,
    limits::JOURNAL_SEGMENT_BYTES_MIN,
    shard::Promise,
};

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The kernel or the process's limits.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The process's limit of open files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The socket.
    #[error(
        "cannot listen on {address}: {error}. If another program has it, stop that one, or choose another address with --listen"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The journal's files.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal was read, but the store did not take what was in it.
    #[error("the journal cannot be brought into the store: {0}")]
    Ingest(#[from] storage::IngestError),
    /// The store has no room for what is in the journal, nor has memory.
    #[error(
        "the disk has no room for what the journal holds, {} MiB, and more than journal.bytes_max = {} MiB of it is not kept in memory \
         to serve reads from",
        bytes.div_ceil(1024 * 1024), bytes_max / 1024 / 1024
    )]
    TooMuch {
        /// Of records in the journal.
        bytes: u64,
        /// The journal's bound, which memory is planned for.
        bytes_max: u64,
    },
    /// The node was told to end before everything was in the store.
    #[error("stopped before all of the journal was in the store; the next start goes on with it")]
    Stopped,
    /// The store.
    #[error("the store does not answer: {0}")]
    Store(#[from] storage::StoreError),
    /// The data folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal's batches, or the store.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The store does not go with what acknowledgements are to wait for.
    #[error("acknowledgements cannot be of the kind {promise:?} with a store that is {kind:?}")]
    Promise {
        /// What was asked for.
        promise: Promise,
        /// What the store is.
        kind: Kind,
    },
    /// One turn of a shard may fill more than half a segment.
    #[error("journal segments of {0} bytes are too small, at least {JOURNAL_SEGMENT_BYTES_MIN} are needed")]
    SegmentBytes(u64),
    /// No cores were asked for.
    #[error("a node needs at least one core")]
    NoCores,
    /// The node's place in its cluster.
    #[error("the cluster does not take this node: {0}")]
    Cluster(String),
    /// The journal of a server that was alone has what the store lacks.
    #[error(
        "the journal holds {batches} batches of a server that was alone, which may not be in the store: start it without [cluster] once, and stop it"
    )]
    Journalled {
        /// How many.
        batches: u64,
    },
    /// A thread or descriptor could not be had.
    #[error("cannot start: {0}")]
    Process(#[from] io::Error),
}

impl StartError {
    /// Whether there is no room: the same will work when there is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_full(),
            Self::Ingest(error) => error.is_full(),
            Self::Store(error) => error.is_full(),
            Self::TakeOver(error) => error.is_full(),
            Self::TooMuch { .. } => true,
            Self::Stopped
            | Self::Setup(_)
            | Self::Files(_)
            | Self::Listen { .. }
            | Self::DataDir(_)
            | Self::Promise { .. }
            | Self::SegmentBytes(_)
            | Self::NoCores
            | Self::Cluster(_)
            | Self::Journalled { .. }
            | Self::Process(_) => false,
        }
    }
}
