//! Tidying: what the thread that ingests does while nothing comes. It wipes files that the journal has freed, and purges the store: so
//! what was edited, taken back or deleted is in no file of the data folder some time later. And it gives memory back that nobody has any
//! more: the allocator keeps what a segment's messages took until they were in the store, up to hundreds of megabytes, in pieces.
//!
//! Under load a file is written over by its next use; to wipe it before would take the disk twice.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use storage::{DiskUse, Purged, Store};
use tracing::{debug, info, warn};

use super::background::Background;
use crate::{
    durability::committer::Fate,
    limits::{GIVE_BACK_MS, TIDY_AFTER_FULL_MS, TIDY_AFTER_MS, TIDY_AGAIN_MS, TRIM_AGAIN_MS},
};

impl<S: Store> Background<S> {
    /// The next segment that is sealed. None: the node has ended.
    pub(super) fn next_fate(&self, queue: &Receiver<Fate>) -> Option<Fate> {
        let mut tidy_at_ms = if self.is_busy.load(Ordering::Relaxed) { TIDY_AFTER_FULL_MS } else { TIDY_AFTER_MS };
        let mut quiet_ms = 0;
        loop {
            match queue.recv_timeout(Duration::from_millis(TRIM_AGAIN_MS)) {
                Ok(fate) => return Some(fate),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.trim(),
            }
            quiet_ms += TRIM_AGAIN_MS;
            if quiet_ms % GIVE_BACK_MS == 0 {
                rim::allocator::give_back();
            }
            if quiet_ms >= tidy_at_ms {
                self.tidy(queue);
                tidy_at_ms = quiet_ms + TIDY_AGAIN_MS;
            }
        }
    }

    /// Removes what the store has rewritten, and notes what it takes of the disk.
    pub(super) fn trim(&self) {
        match self.store.trim() {
            Ok(Some(DiskUse { rows_bytes, tables_bytes })) => {
                self.counters.journal.store_rows_bytes.set(rows_bytes);
                self.counters.journal.store_tables_bytes.set(tables_bytes);
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "what the store has rewritten could not be removed; it will be tried again"),
        }
    }

    fn tidy(&self, queue: &Receiver<Fate>) {
        let stops = || !queue.is_empty() || self.ended.load(Ordering::Relaxed);
        loop {
            match self.folder.wipe_one(stops) {
                Ok(true) => self.counters.journal.segments_wiped.one(),
                Ok(false) => break,
                Err(error) => {
                    warn!(%error, "a freed file of the journal could not be wiped; it will be tried again");
                    break;
                }
            }
        }
        if stops() {
            return;
        }
        let begun = Instant::now();
        match self.store.purge(self.clock.now().wall) {
            Ok(Purged::Nothing) => {}
            Ok(Purged::Merged { bytes }) => {
                self.counters.journal.purges.one();
                info!(bytes, ms = begun.elapsed().as_millis() as u64, "the store was purged of what was deleted");
            }
            Ok(Purged::TooLarge { bytes, bytes_max }) => {
                debug!(bytes, bytes_max, "the store is larger than store.purge_bytes_max, and is not purged");
            }
            Ok(Purged::NoRoom { bytes, free }) => {
                warn!(bytes, free, "the disk has no room to purge the store of what was deleted");
            }
            Err(error) => warn!(%error, "the store could not be purged of what was deleted; it will be tried again"),
        }
    }
}
