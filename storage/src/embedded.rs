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

use std::{
    fs::{self, File},
    io::{self, Write},
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
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy, PinningPolicy},
};
use parking_lot::{RwLock, RwLockReadGuard};
use proto_spec::Direction;

use crate::{
    codec,
    fold::Sorted,
    own,
    pace::{Pace, Pieces, step_back},
    record::{BatchId, LaneId},
    run::{Change, Run, RunBuilder},
    schema::{FORMAT_VERSION, Key},
    store::{Advanced, Fence, Gather, Holder, Kind, Range, Rows, Step, Store, StoreError, Tenure, are_made},
};

/// Sizes of an embedded store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Memory for blocks that were read, filters and indexes included.
    pub cache_bytes: u64,
    /// Tables that are kept open for reads. Others are opened when they are read.
    pub tables_open_max: usize,
}

impl Default for EmbeddedConfig {
    /// 256 MiB: the indexes and filters of a few hundred million rows. 256 tables: those of a history of 16 GB.
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024, tables_open_max: 256 }
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
}

/// The folder's version, in words: `ringpost store 1`.
const FORMAT_FILE: &str = "format";
const FORMAT_WORDS: &str = "ringpost store ";
/// There once the engine has been made whole: from then on something may be in it.
const MADE_FILE: &str = "made";
/// fjall's own folder.
const ENGINE_FOLDER: &str = "fjall";
const KEYSPACES_FOLDER: &str = "keyspaces";
/// Without it fjall makes a new database.
const VERSION_FILE: &str = "version";
/// fjall's number of the keyspace of rows, the first one that is made.
const ROWS_FOLDER: &str = "1";
/// Names the list of tables that is in force.
const CURRENT_FILE: &str = "current";
/// Written to see whether the disk takes writes.
const PROBE_FILE: &str = "probe";

const ROWS: &str = "rows";
const OWN: &str = "own";
const FENCE_KEY: &[u8] = b"fence";

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

    /// Bytes of the store's files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.engine.read().as_ref().map_or(0, |engine| engine.rows.disk_space())
    }

    /// Waits until no compaction is going on. For measurements.
    pub fn settle(&self) {
        while self.engine.read().as_ref().is_some_and(Engine::is_compacting) {
            thread::sleep(Duration::from_millis(20));
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
                .or_else(|error| if is_full(&error) && self.leftover_bytes() > 0 { Ok(()) } else { Err(error) })
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

    /// Bytes of tables that are not part of the tree (any more): of a merge or an ingestion that failed, and those that were merged, which the
    /// engine keeps for readers that there may be. An engine that is opened removes them.
    fn leftover_bytes(&self) -> u64 {
        let tables = tables_folder(&self.folder);
        let bytes = |name: String| fs::metadata(tables.join(name)).map_or(0, |table| table.len());
        let on_disk: u64 = names(&tables).map_or(0, |tables| tables.into_iter().map(bytes).sum());
        on_disk.saturating_sub(self.disk_bytes())
    }

    /// Commits both runs as one. `own` has rows of the store itself, which stand before all others.
    fn ingest(&self, own: &Run, run: &Run) -> Result<(), StoreError> {
        self.revive()?;
        let before = self.list_in_force();
        let done = {
            let engine = self.engine.read();
            let engine = engine.as_ref().ok_or_else(closed)?;
            engine.wait_for_compaction()?;
            engine.ingest(own.iter().chain(run.iter()), &self.pace)
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
            Ok(Self { database, rows, own, commits: AtomicUsize::new(0) })
        };
        let refused = |error: io::Error| unavailable(folder, &error);
        sync_lists(&path).map_err(refused)?;
        // Its threads stand where the thread stands that starts them. A machine that does not allow that is served all the same.
        let opened = thread::scope(|scope| {
            let opener = thread::Builder::new().name("fjall:opener".into()).spawn_scoped(scope, || {
                let _ = step_back();
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
        let stored = self.own.get(FENCE_KEY)?;
        let number = stored.as_deref().and_then(<[u8]>::first_chunk).map(|bytes| u64::from_be_bytes(*bytes));
        Ok(Fence(number.unwrap_or(0)))
    }

    fn set_fence(&self, fence: Fence) -> fjall::Result<()> {
        self.own.insert(FENCE_KEY, fence.0.to_be_bytes())?;
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

    fn wait_for_compaction(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let commits_before = self.commits.fetch_add(1, Ordering::Relaxed);
        while waits_for_compaction(commits_before, self.rows.l0_table_count()) {
            if !self.is_running() {
                return Err(StoreError::Unavailable { reason: "compaction has failed".to_owned() });
            }
            if begun.elapsed() > COMPACTION_WAIT_MAX {
                let tables = self.rows.l0_table_count();
                return Err(StoreError::Unavailable { reason: format!("{tables} tables wait for compaction") });
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
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

/// Whether a store was ever begun in this folder.
#[must_use]
pub fn was_made(folder: &Path) -> bool {
    folder.join(FORMAT_FILE).exists() || folder.join(MADE_FILE).exists()
}

/// Whether there are rows in the store of this folder.
#[must_use]
pub fn has_rows(folder: &Path) -> bool {
    names(&tables_folder(folder)).is_ok_and(|tables| !tables.is_empty())
}

fn tables_folder(folder: &Path) -> PathBuf {
    folder.join(ENGINE_FOLDER).join(KEYSPACES_FOLDER).join(ROWS_FOLDER).join("tables")
}

/// Whether a folder has a store of this version, or none yet, as far as can be told without opening it. Changes nothing.
///
/// # Errors
/// It is of a newer format or damaged, or cannot be read.
pub fn look_at(folder: &Path) -> Result<(), StoreError> {
    match fs::read_to_string(folder.join(FORMAT_FILE)) {
        Ok(words) => check_format(folder, &words),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_unmade(folder),
        Err(error) => Err(unreadable_format(folder, &error)),
    }
}

/// Of a store that has been begun: whether this version reads it, and whether what the engine would take for nothing is there.
fn check_format(folder: &Path, words: &str) -> Result<(), StoreError> {
    let engine = folder.join(ENGINE_FOLDER);
    let refused = |error: io::Error| unavailable(folder, &error);
    let found = words.trim_end().strip_prefix(FORMAT_WORDS).and_then(|version| version.parse().ok());
    match found {
        Some(found) if found > FORMAT_VERSION => {
            return Err(StoreError::Newer { path: folder.to_owned(), found, known: FORMAT_VERSION });
        }
        Some(_) => {}
        None => return Err(damaged(folder, "the file `format` says nothing that is understood")),
    }
    if let Some(marker) = missing_marker(&engine).map_err(refused)? {
        return Err(damaged(folder, &format!("the file `{ENGINE_FOLDER}/{marker}` is missing")));
    }
    let is_made = folder.join(MADE_FILE).try_exists().map_err(refused)?;
    if is_made && names(&engine.join(KEYSPACES_FOLDER)).map_err(refused)?.is_empty() {
        return Err(damaged(folder, &format!("nothing is in `{ENGINE_FOLDER}/{KEYSPACES_FOLDER}`")));
    }
    Ok(())
}

/// Of a folder without a format: that no store was ever in it.
fn check_unmade(folder: &Path) -> Result<(), StoreError> {
    for trace in [ENGINE_FOLDER, MADE_FILE] {
        if folder.join(trace).try_exists().map_err(|error| unavailable(folder, &error))? {
            return Err(damaged(folder, "the file `format` is missing"));
        }
    }
    Ok(())
}

fn unreadable_format(folder: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::InvalidData => damaged(folder, "the file `format` is not text"),
        _ => unavailable(folder, error),
    }
}

/// Makes a new folder, or checks that an old one is of this version, without changing anything that was ever used.
fn check_folder(folder: &Path) -> Result<(), StoreError> {
    let format_file = folder.join(FORMAT_FILE);
    let engine = folder.join(ENGINE_FOLDER);
    let refused = |error: io::Error| unavailable(folder, &error);
    match fs::read_to_string(&format_file) {
        Ok(words) => {
            check_format(folder, &words)?;
            let is_empty = names(&engine.join(KEYSPACES_FOLDER)).map_err(refused)?.is_empty();
            // Cut short on its first start, before there was anything. fjall would stumble over what it has left behind.
            if is_empty && engine.try_exists().map_err(refused)? {
                fs::remove_dir_all(&engine).map_err(refused)?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_unmade(folder)?;
            fs::create_dir_all(folder).and_then(|()| write_format(&format_file)).map_err(refused)
        }
        Err(error) => Err(unreadable_format(folder, &error)),
    }
}

/// Checks that a folder that an engine has used is still there. Never makes one: what was in the store would be missing.
fn check_used(folder: &Path) -> Result<(), StoreError> {
    let engine = folder.join(ENGINE_FOLDER);
    let missing = missing_marker(&engine).and_then(|marker| match marker {
        None if !engine.join(VERSION_FILE).try_exists()? => Ok(Some(VERSION_FILE.to_owned())),
        marker => Ok(marker),
    });
    match missing.map_err(|error| unavailable(folder, &error))? {
        Some(marker) => Err(damaged(folder, &format!("the file `{ENGINE_FOLDER}/{marker}` is missing"))),
        None => Ok(()),
    }
}

/// A file without which fjall takes what is there for nothing, and begins anew beside it or over it.
fn missing_marker(engine: &Path) -> io::Result<Option<String>> {
    for keyspace in names(&engine.join(KEYSPACES_FOLDER))? {
        let folder = engine.join(KEYSPACES_FOLDER).join(&keyspace);
        // A keyspace without tables may be one that a crash kept from being made.
        if names(&folder.join("tables"))?.is_empty() {
            continue;
        }
        if !engine.join(VERSION_FILE).try_exists()? {
            return Ok(Some(VERSION_FILE.to_owned()));
        }
        // Without it the engine's sequence numbers begin anew, and old rows would hide new ones.
        if !names(engine)?.iter().any(|name| name.ends_with(".jnl")) {
            return Ok(Some("0.jnl".to_owned()));
        }
        if !folder.join(CURRENT_FILE).try_exists()? {
            return Ok(Some(format!("{KEYSPACES_FOLDER}/{keyspace}/{CURRENT_FILE}")));
        }
    }
    Ok(None)
}

/// What is in a folder, if it exists.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn write_format(path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT_WORDS}{FORMAT_VERSION}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

fn mark_made(folder: &Path) -> io::Result<()> {
    match File::create_new(folder.join(MADE_FILE)) {
        Ok(file) => file.sync_all().and_then(|()| sync_folder(folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the lists of tables durable that are seen: whoever was to do it may have been cut short, or told that it failed. fjall
/// removes what they do not name when it opens, and the lists before them may name it.
fn sync_lists(engine: &Path) -> io::Result<()> {
    let keyspaces = engine.join(KEYSPACES_FOLDER);
    for keyspace in names(&keyspaces)? {
        let folder = keyspaces.join(keyspace);
        match File::open(folder.join(CURRENT_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            current => current?.sync_all()?,
        }
        sync_folder(&folder)?;
    }
    Ok(())
}

/// Succeeds if the disk takes writes.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(PROBE_FILE);
    let mut file = File::create(&path)?;
    file.write_all(&[0; BLOCK_BYTES as usize])?;
    file.sync_all()?;
    fs::remove_file(&path)
}

fn damaged(folder: &Path, what: &str) -> StoreError {
    StoreError::Damaged { what: format!("{}: {what}", folder.display()) }
}

fn closed() -> StoreError {
    StoreError::Unavailable { reason: "it could not be opened again after a fault".to_owned() }
}

fn unavailable(folder: &Path, error: &io::Error) -> StoreError {
    let reason = format!("{}: {error}", folder.display());
    if is_full(error) { StoreError::Full { reason } } else { StoreError::Unavailable { reason } }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn opening(folder: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::InUse { path: folder.to_owned() },
        error => reading(folder, error),
    }
}

fn reading(folder: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => io_error(folder, error),
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => {
            StoreError::Unavailable { reason: format!("{}: {error}", folder.display()) }
        }
        error => StoreError::Damaged { what: format!("{}: {error}", folder.display()) },
    }
}

/// A file that is missing, too short or there against expectation is not the operating system's fault.
fn io_error(folder: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData => StoreError::Damaged { what: format!("{}: {error}", folder.display()) },
        _ => unavailable(folder, error),
    }
}

/// An ingestion that fails before its last step has changed nothing; in the last step nobody can tell.
fn committing(folder: &Path, error: &fjall::Error) -> StoreError {
    match reading(folder, error) {
        StoreError::Unavailable { reason } => StoreError::Unknown { reason },
        other => other,
    }
}

/// Whether a commit waits that comes after so many since the open, while so many tables wait for compaction.
const fn waits_for_compaction(commits_before: usize, waiting_tables: usize) -> bool {
    commits_before >= COMMITS_WITHOUT_WAIT && waiting_tables > WAITING_TABLES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, block_on};

    fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
        EmbeddedStore::open(folder, EmbeddedConfig { cache_bytes: 1024 * 1024, ..EmbeddedConfig::default() })
    }

    fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn the_embedded_store_fulfils_the_contract() {
        contract::check(|| {
            let dir = tempfile::tempdir().unwrap();
            (open(dir.path()).unwrap(), dir)
        });
    }

    #[test]
    fn what_was_committed_is_there_after_reopening_and_can_be_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = Fence(0);
        for round in 0..5u8 {
            let store = open(dir.path()).unwrap();
            let fence = block_on(store.take_over()).unwrap();
            assert!(fence > last);
            last = fence;
            let key = contract::key(7);
            let before = block_on(store.get(&key)).unwrap();
            assert_eq!(before.as_deref(), round.checked_sub(1).map(|round| vec![round]).as_deref());
            block_on(store.commit(fence, &contract::run([(7, Some(&[round][..])), (9, None)]))).unwrap();
        }
    }

    #[test]
    fn every_open_gets_some_commits_further_however_much_waits_for_compaction() {
        // As a server that is ended again and again before a compaction is done, which begins anew each time.
        let (mut tables, mut to_bring_in) = (WAITING_TABLES_MAX + 1, 50);
        for _start in 0..13 {
            let mut commits = 0;
            while to_bring_in > 0 && !waits_for_compaction(commits, tables) {
                (commits, tables, to_bring_in) = (commits + 1, tables + 1, to_bring_in - 1);
            }
        }
        assert_eq!(to_bring_in, 0);
        assert!(waits_for_compaction(COMMITS_WITHOUT_WAIT, WAITING_TABLES_MAX + 1), "who goes on does wait");
    }

    #[test]
    fn an_engine_that_could_not_go_on_is_opened_again_by_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let store = open(dir.path()).unwrap();
        let fence = block_on(store.take_over()).unwrap();
        *store.engine.write() = None;
        assert!(matches!(block_on(store.get(&contract::key(1))), Err(StoreError::Unavailable { .. })));
        block_on(store.commit(fence, &contract::run([(5, Some(&b"five"[..]))]))).unwrap();
        for number in [1, 2, 5] {
            assert!(block_on(store.get(&contract::key(number))).unwrap().is_some());
        }
    }

    #[test]
    fn an_engine_whose_folder_is_gone_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let store = open(dir.path()).unwrap();
        let fence = block_on(store.take_over()).unwrap();
        store.suspect.store(true, Ordering::Release);
        fs::rename(dir.path().join(ENGINE_FOLDER), dir.path().join("elsewhere")).unwrap();
        let five = contract::run([(5, Some(&b"five"[..]))]);
        assert!(matches!(block_on(store.commit(fence, &five)), Err(StoreError::Damaged { .. })));
        fs::rename(dir.path().join("elsewhere"), dir.path().join(ENGINE_FOLDER)).unwrap();
        block_on(store.commit(fence, &five)).unwrap();
        assert!(block_on(store.get(&contract::key(1))).unwrap().is_some());
    }

    #[test]
    fn what_a_first_start_that_was_cut_short_has_left_is_taken_away() {
        let remove = |version: &Path| fs::remove_file(version).unwrap();
        let empty = |version: &Path| fs::write(version, "").unwrap();
        let changes: [&dyn Fn(&Path); 2] = [&remove, &empty];
        for change in changes {
            let dir = tempfile::tempdir().unwrap();
            drop(open(dir.path()).unwrap());
            let engine = dir.path().join(ENGINE_FOLDER);
            change(&engine.join(VERSION_FILE));
            fs::remove_dir_all(engine.join(KEYSPACES_FOLDER)).unwrap();
            fs::remove_file(dir.path().join(MADE_FILE)).unwrap();
            assert!(engine.join("0.jnl").exists());
            open(dir.path()).unwrap();
        }
    }

    #[test]
    fn an_engine_that_has_lost_everything_is_no_first_start() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        fs::remove_dir_all(dir.path().join(ENGINE_FOLDER).join(KEYSPACES_FOLDER)).unwrap();
        refused_and_left_alone(dir.path(), "fjall/keyspaces");
        fs::remove_dir_all(dir.path().join(ENGINE_FOLDER)).unwrap();
        refused_and_left_alone(dir.path(), "fjall/keyspaces");
    }

    #[test]
    fn a_folder_in_use_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _held = open(dir.path()).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(&refused, StoreError::InUse { path } if path == dir.path()), "{refused}");
    }

    #[test]
    fn a_newer_folder_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join(FORMAT_FILE), "ringpost store 2\n").unwrap();
        let before = files(dir.path());
        assert!(matches!(open(dir.path()), Err(StoreError::Newer { found: 2, known: 1, .. })));
        assert_eq!(files(dir.path()), before);
    }

    #[test]
    fn a_folder_without_its_markers_is_refused_and_left_alone() {
        let of_the_engine = ["fjall/version", "fjall/0.jnl", "fjall/keyspaces/0/current", "fjall/keyspaces/1/current"];
        for marker in of_the_engine.into_iter().chain([FORMAT_FILE]) {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path());
            fs::remove_file(dir.path().join(marker)).unwrap();
            refused_and_left_alone(dir.path(), marker);
        }
    }

    #[test]
    fn a_missing_or_shortened_file_is_damage_and_the_folder_is_left_alone() {
        let shorten = |path: &Path| File::options().write(true).open(path).unwrap().set_len(100).unwrap();
        let remove = |path: &Path| fs::remove_file(path).unwrap();
        let changes: [&dyn Fn(&Path); 2] = [&shorten, &remove];
        for change in changes {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path());
            change(&files(&dir.path().join("fjall/keyspaces/1/tables"))[0].0);
            refused_and_left_alone(dir.path(), &dir.path().display().to_string());
        }
    }

    /// A store with two tables.
    fn fill(folder: &Path) {
        let store = open(folder).unwrap();
        let fence = block_on(store.take_over()).unwrap();
        for number in 1..3 {
            block_on(store.commit(fence, &contract::run([(number, Some(&[7; 1000][..]))]))).unwrap();
        }
    }

    fn refused_and_left_alone(folder: &Path, named: &str) {
        let before = files(folder);
        let refused = open(folder).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains(named), "{refused}");
        // fjall takes away lists of tables that have been superseded, before it looks at the next part of the folder.
        let superseded = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'));
        let after = files(folder);
        for (path, bytes) in before.into_iter().filter(|(path, _)| !superseded(path)) {
            let same = after.iter().any(|(other, now)| *other == path && *now == bytes);
            assert!(same, "{} was changed", path.display());
        }
    }

    #[test]
    fn a_changed_block_is_damage_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let rows = dir.path().join("fjall/keyspaces/1/tables");
        let (path, mut bytes) = files(&rows).remove(0);
        bytes[40] ^= 1;
        fs::write(path, bytes).unwrap();
        let read = open(dir.path()).and_then(|store| block_on(store.get(&contract::key(1))));
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    }
}
