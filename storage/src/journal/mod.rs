//! The node's write-ahead journal: the only log on the way to an acknowledgement, and the redo log after a crash.
//!
//! `format` owns the bytes, `writer` decides what is written when (pure; the server does the writing), `segments` owns
//! the files and reads them back. Whose batches these are, and what their records mean, is not known here.

pub mod format;
pub mod segments;
pub mod writer;

pub use format::{
    JournalConfig, JournalConfigError, Lsn, Position, SEGMENT_BYTES_MAX, SEGMENTS_MIN, Salt, SegmentNumber,
};
pub use segments::{
    JournalError, JournalFolder, JournalRecord, Prepared, Reading, Recovered, Reuse, SealedSegment, SegmentRecords,
    Torn, recover, recover_watched,
};
pub use writer::{Counters, Done, GroupStats, Room, Sealed, Write, Writer};
