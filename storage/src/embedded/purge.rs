//! Purge: what rows were deleted goes from the engine's files too.
//!
//! The engine drops a deleted row when it merges the table that has it with the one that says that it is deleted: sooner or later, and
//! where nothing more is written never. So every now and then all tables are merged into one level.

use std::sync::atomic::Ordering;

use fjall::AbstractTree;
use proto_spec::TimestampMs;
use rustix::fs::statvfs;

use super::{EmbeddedStore, PURGED_KEY, closed, committing, reading, unavailable};
use crate::store::{Purged, StoreError};

/// When all tables of an embedded store are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeConfig {
    /// So long after the last time, in milliseconds.
    pub after_ms: u64,
    /// If together they have at most so many bytes. The merge takes as many more while it goes on, and nothing is committed meanwhile.
    pub bytes_max: u64,
}

impl Default for PurgeConfig {
    /// A day, and 1 GiB: some four million messages, and some ten seconds.
    fn default() -> Self {
        Self { after_ms: 24 * 60 * 60 * 1000, bytes_max: 1024 * 1024 * 1024 }
    }
}

/// The disk keeps so many bytes more than the merge takes.
const ROOM_LEFT_BYTES: u64 = 64 * 1024 * 1024;

impl EmbeddedStore {
    /// See [`Store::purge`](crate::Store::purge).
    pub(super) fn purge_at(&self, TimestampMs(now_ms): TimestampMs) -> Result<Purged, StoreError> {
        let PurgeConfig { after_ms, bytes_max } = self.config.purge;
        // Never on an engine after a failure; and where one could not be opened again, nobody else may come to do it.
        self.revive()?;
        self.remove_merged()?;
        let (rows, last_ms) = {
            let engine = self.engine.read();
            let engine = engine.as_ref().ok_or_else(closed)?;
            if engine.rows.tree.tombstone_count() == 0 {
                return Ok(Purged::Nothing);
            }
            (engine.rows.clone(), engine.own_number(PURGED_KEY).map_err(|error| reading(&self.folder, &error))?)
        };
        let Some(last_ms) = last_ms.filter(|last_ms| *last_ms <= now_ms) else {
            self.note_purged(now_ms)?;
            return Ok(Purged::Nothing);
        };
        if now_ms - last_ms < after_ms {
            return Ok(Purged::Nothing);
        }
        let bytes = self.disk_use()?.rows_bytes;
        if bytes > bytes_max {
            return Ok(Purged::TooLarge { bytes, bytes_max });
        }
        let disk = statvfs(&self.folder).map_err(|error| unavailable(&self.folder, &error.into()))?;
        let free = disk.f_bavail * disk.f_frsize;
        if free < bytes + ROOM_LEFT_BYTES {
            return Ok(Purged::NoRoom { bytes, free });
        }
        // Not under the lock: readers would wait behind a commit that wants to open the engine again.
        rows.major_compact().map_err(|error| {
            self.suspect.store(true, Ordering::Release);
            committing(&self.folder, &error)
        })?;
        self.remove_merged()?;
        self.note_purged(now_ms)?;
        Ok(Purged::Merged { bytes })
    }

    fn note_purged(&self, now_ms: u64) -> Result<(), StoreError> {
        let engine = self.engine.read();
        let engine = engine.as_ref().ok_or_else(closed)?;
        engine.set_own_number(PURGED_KEY, now_ms).map_err(|error| committing(&self.folder, &error))
    }
}
