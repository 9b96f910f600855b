//! The embedded store: fjall (an LSM tree) in a folder of its own, filled by bulk ingestion.
//!
//! Calls block: use it from threads that may block. Owns the folder and its format version; the folder's lock is what
//! keeps a second process out, the fence only tells apart those who share this value.
//!
//! How far each lane is, and who serves, are rows of the same tree (`own`): so they are committed with what they say.
//!
//! Invariants: a commit returns after its tables, their folder and the file that makes them part of the tree are
//! synced; a commit becomes visible as a whole or not at all; a folder that is in use, newer or damaged is left as it is;
//! after a failure nothing is committed before the engine has been opened again, from what the disk has.

mod errors;
mod folder;
mod merged;
mod purge;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy, PinningPolicy},
};
use parking_lot::{RwLock, RwLockReadGuard};
use proto_spec::{Direction, TimestampMs};

use crate::{
    codec,
    fold::Sorted,
    own,
    pace::{NICER, Pace, Pieces, step_back},
    record::{BatchId, LaneId},
    run::{Change, Run, RunBuilder},
    schema::Key,
    store::{
        Advanced, DiskUse, Fence, Gather, Holder, Kind, Purged, Range, Rows, Step, Store, StoreError, Tenure, are_made,
    },
};

pub use folder::{has_rows, look_at, was_made};
pub use purge::PurgeConfig;

use errors::{closed, committing, is_full, opening, reading, unavailable};
use folder::{
    CURRENT_FILE, ENGINE_FOLDER, KEYSPACES_FOLDER, ROWS_FOLDER, check_folder, check_used, mark_made, names, probe,
    sync_folder, sync_lists, tables_folder,
};
use merged::Tables;

/// Sizes of an embedded store, and when it is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Memory for blocks that were read, filters and indexes included.
    pub cache_bytes: u64,
    /// Tables that are kept open for reads. Others are opened when they are read.
    pub tables_open_max: usize,
    /// When what rows were deleted goes from its files.
    pub purge: PurgeConfig,
}

impl Default for EmbeddedConfig {
    /// 256 MiB: the indexes and filters of a few hundred million rows. 256 tables: those of a history of 16 GB.
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024, tables_open_max: 256, purge: PurgeConfig::default() }
    }
}

/// A store in a folder of this machine.
#[derive(Debug)]
pub struct EmbeddedStore {
    folder: PathBuf,
    config: EmbeddedConfig,
    engine: RwLock<Option<Engine>>,
    /// A commit has failed: what the engine holds in memory may not be what the disk has.
    suspect: AtomicBool,
    /// Read by commits while they work, written by whoever takes over.
    fence: RwLock<Fence>,
    pace: Arc<Pace>,
}

struct Engine {
    database: Database,
    rows: Keyspace,
    /// The store's own rows: the fence.
    own: Keyspace,
    /// Begun since it was opened.
    commits: AtomicUsize,
    /// As they were after the last commit.
    tables: Tables,
}

const ROWS: &str = "rows";
const OWN: &str = "own";
const FENCE_KEY: &[u8] = b"fence";

/// When all tables were merged last, in milliseconds since 1970.
const PURGED_KEY: &[u8] = b"purged";

/// Background threads of fjall. With more than one, its first worker hands compaction requests round in a busy loop
/// while another compacts.
const WORKERS: usize = 1;

/// A block is the unit of reading: a page of a log is a few of these, and 8 KiB compresses better than 4.
const BLOCK_BYTES: u32 = 8 * 1024;

/// Ingested tables that wait for compaction. Each is one more place to look for a key, and ingestion (unlike fjall's own
/// writes) is not slowed down by them, so commits wait while there are more.
const WAITING_TABLES_MAX: usize = 24;

/// Commits after an open that wait for no compaction. One that is cut short begins anew with the next open: a server that is ended
/// sooner than it takes, by a supervisor without patience, would never get through what its journal holds.
const COMMITS_WITHOUT_WAIT: usize = 4;

/// How long a commit waits for compaction before it gives up, to be tried again.
const COMPACTION_WAIT_MAX: Duration = Duration::from_secs(30);

/// How often it looks meanwhile: merging a table takes tens of milliseconds.
const COMPACTION_LOOK: Duration = Duration::from_millis(10);

/// Rows whose values are brought together before they are written. They lie wherever the journal had them: fetched one after the other,
/// between two writes, each would be waited for alone.
const GATHERED_ROWS: usize = 64;

impl EmbeddedStore {
    /// Opens the store in this folder, making it if there is nothing.
    ///
    /// # Errors
    /// The folder is in use by another process, of a newer format, or damaged (then nothing was changed); or the
    /// operating system refused.
    pub fn open(folder: &Path, config: EmbeddedConfig) -> Result<Self, StoreError> {
        check_folder(folder)?;
        let engine = Engine::open(folder, config)?;
        mark_made(folder).map_err(|error| unavailable(folder, &error))?;
        let fence = engine.fence().map_err(|error| reading(folder, &error))?;
        Ok(Self {
            folder: folder.to_owned(),
            config,
            engine: RwLock::new(Some(engine)),
            suspect: AtomicBool::new(false),
            fence: RwLock::new(fence),
            pace: Arc::default(),
        })
    }

    /// Waits until no compaction is going on, and does this every 20 ms meanwhile. For measurements.
    pub fn settle(&self, mut meanwhile: impl FnMut()) {
        while self.engine.read().as_ref().is_some_and(Engine::is_compacting) {
            thread::sleep(Duration::from_millis(20));
            meanwhile();
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Keyspace) -> fjall::Result<T>) -> Result<T, StoreError> {
        match &*self.engine.read() {
            Some(engine) => read(&engine.rows).map_err(|error| reading(&self.folder, &error)),
            None => Err(closed()),
        }
    }

    fn value(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read(|rows| rows.get(&**key))?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn rows(&self, range: &Range) -> Result<Rows, StoreError> {
        let mut gather = Gather::new(range);
        if range.first > range.last {
            return Ok(gather.finish(true));
        }
        let read = self.read(|rows| {
            let mut inside = rows.range(&*range.first..=&*range.last);
            loop {
                let row = match range.direction {
                    Direction::Forwards => inside.next(),
                    Direction::Backwards => inside.next_back(),
                };
                let Some(row) = row else { return Ok(Ok(true)) };
                let (key, value) = row.into_inner()?;
                if !gather.wants(&key, &value) {
                    return Ok(Ok(false));
                }
                let Some(known) = Key::from_bytes(&key) else { return Ok(Err(key)) };
                gather.push(known, Bytes::copy_from_slice(&value));
            }
        })?;
        match read {
            Ok(complete) => Ok(gather.finish(complete)),
            Err(key) => Err(StoreError::Damaged { what: format!("a key of {} bytes", key.len()) }),
        }
    }

    fn values(&self, keys: impl Iterator<Item = Key>) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.map(|key| self.value(&key)).collect()
    }

    /// How far each lane is, by ascending lane.
    fn lanes(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        let all = Range {
            first: own::progress_key(LaneId(0)),
            last: own::progress_key(LaneId(u16::MAX)),
            direction: Direction::Forwards,
            rows_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let read = |(key, value): &(Key, Bytes)| Ok((own::parse_progress_key(key)?, own::parse_progress(Some(value))?));
        self.rows(&all)?.rows.iter().map(read).collect()
    }

    /// After a failed compaction fjall refuses to go on until it is opened again. After a failed ingestion it would go on,
    /// but with a list of tables that may not be the one that the disk has: it would write the next list over the one that is
    /// in force, and a power cut in the middle of that would damage the store. So it is opened again then, too, which also
    /// removes what was written of tables that did not become part of the tree. What had been committed is durable, and what had
    /// not comes again from the journal.
    fn revive(&self) -> Result<(), StoreError> {
        let is_sound = |engine: &Engine| !self.suspect.load(Ordering::Acquire) && engine.is_running();
        let is_closed = match &*self.engine.read() {
            Some(engine) if is_sound(engine) => return Ok(()),
            engine => engine.is_none(),
        };
        if !is_closed {
            // While the disk takes no writes, the engine that is there answers reads as well as a new one would. But if it is full, what
            // this one keeps may be what fills it, and to open another one takes no room.
            probe(&self.folder)
                .or_else(|error| if is_full(&error) && self.has_leftovers() { Ok(()) } else { Err(error) })
                .map_err(|error| unavailable(&self.folder, &error))?;
        }
        check_used(&self.folder)?;
        let mut engine = self.engine.write();
        if !engine.as_ref().is_some_and(is_sound) {
            // The lock must be given back before the folder can be opened.
            *engine = None;
            *engine = Some(Engine::open(&self.folder, self.config)?);
            self.suspect.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Whether there are tables that are not part of the tree: of a merge or an ingestion that failed, or merged. An engine that is opened
    /// removes them.
    fn has_leftovers(&self) -> bool {
        self.disk_use().is_ok_and(|disk| disk.tables_bytes > disk.rows_bytes)
    }

    /// Commits both runs as one. `own` has rows of the store itself, which stand before all others.
    fn ingest(&self, own: &Run, run: &Run) -> Result<(), StoreError> {
        self.revive()?;
        self.wait_for_compaction()?;
        let before = self.list_in_force();
        let done = {
            let engine = self.engine.read();
            let engine = engine.as_ref().ok_or_else(closed)?;
            engine.ingest(own.iter().chain(run.iter()), &self.pace).inspect(|()| drop(engine.keep_tables()))
        };
        done.map_err(|error| {
            self.suspect.store(true, Ordering::Release);
            if before.is_none() || self.list_in_force() != before {
                // Its compaction would write over that list as well.
                *self.engine.write() = None;
                let _ = self.revive();
            }
            committing(&self.folder, &error)
        })
    }

    /// Waits until not too many tables wait for compaction, and removes those that were merged meanwhile.
    fn wait_for_compaction(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let look = |engine: &Engine| (engine.rows.l0_table_count(), engine.is_running());
        let commits_before = self.with_engine(|engine| engine.commits.fetch_add(1, Ordering::Relaxed))?;
        loop {
            self.remove_merged()?;
            let (tables, is_running) = self.with_engine(look)?;
            if !waits_for_compaction(commits_before, tables) {
                return Ok(());
            }
            if !is_running {
                return Err(StoreError::Unavailable { reason: "compaction has failed".to_owned() });
            }
            if begun.elapsed() > COMPACTION_WAIT_MAX {
                return Err(StoreError::Unavailable { reason: format!("{tables} tables wait for compaction") });
            }
            thread::sleep(COMPACTION_LOOK);
        }
    }

    fn with_engine<T>(&self, look: impl FnOnce(&Engine) -> T) -> Result<T, StoreError> {
        self.engine.read().as_ref().map(look).ok_or_else(closed)
    }

    /// Whoever holds what this returns holds the fence, and nobody takes over meanwhile.
    fn hold(&self, fence: Fence) -> Result<RwLockReadGuard<'_, Fence>, StoreError> {
        let current = self.fence.read();
        match *current == fence {
            true => Ok(current),
            false => Err(StoreError::Fenced { held: fence, current: *current }),
        }
    }

    /// Which list of tables the disk has, if it can be read.
    fn list_in_force(&self) -> Option<Vec<u8>> {
        fs::read(self.folder.join(ENGINE_FOLDER).join(KEYSPACES_FOLDER).join(ROWS_FOLDER).join(CURRENT_FILE)).ok()
    }
}

impl Store for EmbeddedStore {
    fn kind(&self) -> Kind {
        Kind::Engine
    }

    fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    fn purge(&self, now: TimestampMs) -> Result<Purged, StoreError> {
        self.purge_at(now)
    }

    fn trim(&self) -> Result<Option<DiskUse>, StoreError> {
        self.remove_merged()?;
        self.disk_use().map(Some)
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.value(key)
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        self.rows(range)
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        // Held until the end: nobody takes over in the middle of a commit.
        let _held = self.hold(fence)?;
        if run.is_empty() { Ok(()) } else { self.ingest(&Run::default(), run) }
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        let _held = self.hold(fence)?;
        let found = self.values(steps.iter().map(|step| own::progress_key(step.lane)))?;
        let found: Result<Vec<_>, _> = found.iter().map(|value| own::parse_progress(value.as_deref())).collect();
        if are_made(steps, found?.into_iter())? {
            return Ok(Advanced::default());
        }
        let needed = sorted.needed();
        let base = codec::sends_blocks(self.values(needed.iter().copied())?)?;
        let run = sorted.finish(base);
        let mut own = RunBuilder::default();
        for step in steps {
            own.put(own::progress_key(step.lane), |out| out.extend(own::put_progress(step.up_to)));
        }
        self.ingest(&own.finish(), &run)?;
        Ok(Advanced { rows: run.len() as u64, bytes: run.bytes() as u64, base_rows: needed.len() as u64 })
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        self.lanes()
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.value(&own::tenure_key())?.as_deref().map(own::parse_tenure).transpose()
    }

    async fn begin(&self, fence: Fence, holder: Holder) -> Result<(), StoreError> {
        let _held = self.hold(fence)?;
        let mut own = RunBuilder::default();
        own.put(own::tenure_key(), |out| out.extend(own::put_tenure(Tenure { holder, fence })));
        self.lanes()?.into_iter().for_each(|(lane, _)| own.delete(own::progress_key(lane)));
        self.ingest(&own.finish(), &Run::default())
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        let mut fence = self.fence.write();
        let next = Fence(fence.0 + 1);
        self.revive()?;
        let engine = self.engine.read();
        let engine = engine.as_ref().ok_or_else(closed)?;
        engine.set_fence(next).map_err(|error| committing(&self.folder, &error))?;
        *fence = next;
        Ok(next)
    }
}

impl Engine {
    fn open(folder: &Path, config: EmbeddedConfig) -> Result<Self, StoreError> {
        let path = folder.join(ENGINE_FOLDER);
        let open = || {
            let database = Database::builder(&path)
                .cache_size(config.cache_bytes)
                .max_cached_files(Some(config.tables_open_max))
                .worker_threads(WORKERS)
                .open()?;
            let rows = database.keyspace(ROWS, rows_options)?;
            let own = database.keyspace(OWN, KeyspaceCreateOptions::default)?;
            Ok(Self { database, rows, own, commits: AtomicUsize::new(0), tables: Tables::default() })
        };
        let refused = |error: io::Error| unavailable(folder, &error);
        sync_lists(&path).map_err(refused)?;
        // Its threads stand where the thread stands that starts them. A machine that does not allow that is served all the same.
        let opened = thread::scope(|scope| {
            let opener = thread::Builder::new().name("fjall:opener".into()).spawn_scoped(scope, || {
                let _ = step_back(NICER);
                open()
            });
            opener.map(|opener| opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let engine = opened.map_err(refused)?.map_err(|error| opening(folder, &error))?;
        // fjall syncs its files and their folders, but not the names of all folders that it makes.
        for made_in in [&path.join(KEYSPACES_FOLDER), &path, folder] {
            sync_folder(made_in).map_err(refused)?;
        }
        Ok(engine)
    }

    /// Whether no write or compaction has failed.
    fn is_running(&self) -> bool {
        self.database.persist(PersistMode::Buffer).is_ok()
    }

    fn fence(&self) -> fjall::Result<Fence> {
        Ok(Fence(self.own_number(FENCE_KEY)?.unwrap_or(0)))
    }

    fn set_fence(&self, fence: Fence) -> fjall::Result<()> {
        self.set_own_number(FENCE_KEY, fence.0)
    }

    fn own_number(&self, key: &[u8]) -> fjall::Result<Option<u64>> {
        let stored = self.own.get(key)?;
        Ok(stored.as_deref().and_then(<[u8]>::first_chunk).map(|bytes| u64::from_be_bytes(*bytes)))
    }

    fn set_own_number(&self, key: &[u8], number: u64) -> fjall::Result<()> {
        self.own.insert(key, number.to_be_bytes())?;
        self.database.persist(PersistMode::SyncAll)
    }

    fn ingest<'a>(&self, changes: impl Iterator<Item = (&'a Key, Change<'a>)>, pace: &Pace) -> fjall::Result<()> {
        let mut pieces = Pieces::new(pace);
        let mut ingestion = self.rows.start_ingestion()?;
        let mut changes = changes.peekable();
        let (mut values, mut rows) = (Vec::new(), Vec::new());
        while changes.peek().is_some() {
            values.clear();
            rows.clear();
            for (key, change) in changes.by_ref().take(GATHERED_ROWS) {
                let value = match change {
                    Change::Put(value) => {
                        let start = values.len();
                        values.extend_from_slice(value);
                        Some(start..values.len())
                    }
                    Change::Delete => None,
                };
                rows.push((key, value));
            }
            for (key, value) in rows.drain(..) {
                match value {
                    Some(range) => ingestion.write(&**key, &values[range])?,
                    None => ingestion.write_tombstone(&**key)?,
                }
            }
            pieces.step();
        }
        ingestion.finish()
    }

    fn is_compacting(&self) -> bool {
        self.database.active_compactions() > 0
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn rows_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        // fjall compresses from the third level on; a history is mostly disk, so all of it is compressed.
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        // Nothing is pinned: the cache's size is the bound.
        .index_block_pinning_policy(PinningPolicy::all(false))
        .filter_block_pinning_policy(PinningPolicy::all(false))
}

/// Whether a commit waits that comes after so many since the open, while so many tables wait for compaction.
const fn waits_for_compaction(commits_before: usize, waiting_tables: usize) -> bool {
    commits_before >= COMMITS_WITHOUT_WAIT && waiting_tables > WAITING_TABLES_MAX
}
