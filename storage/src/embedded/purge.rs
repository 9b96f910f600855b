//! Purge: what rows were deleted goes from the engine's files too.
//!
//! The engine drops a deleted row when it merges the table that has it with the one that says that it is deleted: sooner or later, and
//! where nothing more is written never. So every now and then all tables are merged into one level. What was merged stays on the disk
//! until the engine is opened again.

use std::sync::atomic::Ordering;

use fjall::AbstractTree;
use proto_spec::TimestampMs;
use rustix::fs::statvfs;

use super::{EmbeddedStore, PURGED_KEY, closed, committing, names, reading, tables_folder, unavailable};
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
        let (rows, last_ms) = {
            let engine = self.engine.read();
            let engine = engine.as_ref().ok_or_else(closed)?;
            // Where the engine has merged tables by itself, it keeps them.
            let kept = names(&tables_folder(&self.folder)).map_err(|error| unavailable(&self.folder, &error))?;
            if engine.rows.tree.tombstone_count() == 0 && kept.len() <= engine.rows.table_count() {
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
        let bytes = rows.disk_space();
        if bytes > bytes_max {
            return Ok(Purged::TooLarge { bytes, bytes_max });
        }
        let disk = statvfs(&self.folder).map_err(|error| unavailable(&self.folder, &error.into()))?;
        let free = disk.f_bavail * disk.f_frsize;
        if free < bytes + ROOM_LEFT_BYTES {
            return Ok(Purged::NoRoom { bytes, free });
        }
        // Not under the lock: readers would wait behind a commit that wants to open the engine again.
        let merged = if rows.tree.tombstone_count() > 0 { rows.major_compact() } else { Ok(()) };
        drop(rows);
        // Opened again it has no more on the disk than is part of it, or goes on after a merge that failed.
        self.suspect.store(true, Ordering::Release);
        merged.map_err(|error| committing(&self.folder, &error))?;
        self.note_purged(now_ms)?;
        self.revive()?;
        Ok(Purged::Merged { bytes })
    }

    fn note_purged(&self, now_ms: u64) -> Result<(), StoreError> {
        let engine = self.engine.read();
        let engine = engine.as_ref().ok_or_else(closed)?;
        engine.set_own_number(PURGED_KEY, now_ms).map_err(|error| committing(&self.folder, &error))
    }
}
