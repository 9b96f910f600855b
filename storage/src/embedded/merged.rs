//! Merged: tables that are part of the tree no more.
//!
//! The engine lets go of them when it merges others, and of those that were merged since the last ingestion not even then, for readers
//! that there may be: where nothing more is written never. Here all readers are known, since they hold the engine's lock.

use std::fs;

use fjall::AbstractTree;
use parking_lot::Mutex;

use super::{EmbeddedStore, Engine, closed, committing, names, tables_folder, unavailable};
use crate::store::{DiskUse, StoreError};

/// Tables of the tree as it was once. While this is there so are their files, whether they are part of the tree or not.
#[derive(Default)]
pub(super) struct Tables(Mutex<Option<Box<dyn Send>>>);

impl EmbeddedStore {
    /// Removes the files of tables that were merged.
    pub(super) fn remove_merged(&self) -> Result<(), StoreError> {
        let kept = {
            // Nobody reads, so nobody needs the tree as it was.
            let engine = self.engine.write();
            let engine = engine.as_ref().ok_or_else(closed)?;
            let done = engine.rows.tree.get_version_history_lock().maintenance(engine.rows.path(), u64::MAX);
            done.map_err(|error| committing(&self.folder, &error.into()))?;
            engine.keep_tables()
        };
        // A large file takes milliseconds, for which no reader is to wait.
        drop(kept);
        Ok(())
    }

    /// What it takes of the disk as it is.
    ///
    /// # Errors
    /// Its folder can not be read.
    pub fn disk_use(&self) -> Result<DiskUse, StoreError> {
        let tables = tables_folder(&self.folder);
        let bytes = |name: &String| fs::metadata(tables.join(name)).map_or(0, |table| table.len());
        // The engine's own figure counts neither indexes nor filters.
        let rows_bytes = self.with_engine(|engine| {
            engine.rows.tree.current_version().iter_tables().map(|table| bytes(&table.id().to_string())).sum()
        })?;
        let names = names(&tables).map_err(|error| unavailable(&self.folder, &error))?;
        Ok(DiskUse { rows_bytes, tables_bytes: names.iter().map(bytes).sum() })
    }
}

impl Engine {
    /// Keeps the tables that are part of the tree now, and gives those that were kept before.
    pub(super) fn keep_tables(&self) -> impl Sized + use<> {
        self.tables.0.lock().replace(Box::new(self.rows.tree.current_version()))
    }
}
