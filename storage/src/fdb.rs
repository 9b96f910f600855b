//! FoundationDB as the store: rows under one prefix of a database that may be shared.
//!
//! Owns the keys (`keys`), what errors mean (`errors`) and the client's thread (`network`). Nothing blocks: futures are woken by
//! that thread, on any runtime. Does not back off: an advance is tried once, and whoever asks again decides when.
//!
//! Reads are snapshot reads, which conflict with nothing. What a transaction that writes must not be wrong about, it reads so
//! that a change of it is a conflict: the fence, and what tells whether the same has been done already. Rows are not among it:
//! nobody but the holder of the fence writes them, and of a user's rows nobody but the user's lane, whose progress is read.
//!
//! Invariants: a commit that timed out can still be on its way, so each transaction writes a row that it has also read (an
//! advance the progress of its lanes, a part of a run its first row, a take-over the fence, a beginning the tenure, a change of the roll what
//! it changes): once a
//! later attempt has committed, the earlier one cannot; a transaction is within the limits of FoundationDB, most are far below.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use foundationdb::{
    Database, FdbError, FdbResult, KeySelector, RangeOption, Transaction,
    future::FdbSlice,
    options::{ConflictRangeType, DatabaseOption, StreamingMode, TransactionOption},
};
use proto_spec::Direction;

use crate::{
    codec,
    fold::Sorted,
    record::{BatchId, LaneId},
    roll::{self as rolls, Roll, RollChange},
    run::{Change, Run},
    schema::{FORMAT_VERSION, Key},
    store::{Advanced, Fence, Gather, Holder, Kind, Range, Rows, Step, Store, StoreError, Tenure, are_made},
};

mod errors;
mod keys;
mod network;
mod roll;

use keys::Keys;
pub use keys::PREFIX_BYTES_MAX;
pub use network::Network;

/// Where the database is, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbConfig {
    /// The file that says where the cluster is; `None` for the one that the client finds by its own rules: the environment's
    /// `FDB_CLUSTER_FILE`, `fdb.cluster` in the current folder, `/etc/foundationdb/fdb.cluster`.
    pub cluster_file: Option<PathBuf>,
    /// Begins every key: 1 to [`PREFIX_BYTES_MAX`] visible ASCII characters. Whoever shares the database must keep off it.
    pub prefix: String,
    /// Milliseconds that a call may take, its retries included: [`TIMEOUT_MS_MIN`] to [`TIMEOUT_MS_MAX`].
    pub timeout_ms: u64,
}

impl Default for FdbConfig {
    /// Five seconds: FoundationDB gives up a transaction that is older.
    fn default() -> Self {
        Self { cluster_file: None, prefix: "ringpost".to_owned(), timeout_ms: 5_000 }
    }
}

/// Less than a commit takes while a database is merely busy, and every commit would be given up.
pub const TIMEOUT_MS_MIN: u64 = 100;

/// Longer than a database takes to recover from the loss of a machine: whoever waits longer is better told.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// Most attempts of a call that repeats itself. FoundationDB waits longer before each, up to a second.
const RETRIES_MAX: i32 = 20;

/// Most bytes of a transaction, as FoundationDB counts them: what it allows. A full advance has about one million, and up to eight
/// if it is nothing but users' first acknowledgements, which leave the most rows for their weight. The client refuses what is larger.
const TRANSACTION_BYTES_MAX: i32 = 10_000_000;

/// Most bytes of a transaction that commits a part of a run, unless a single row has more: a tenth of what is allowed, as
/// FoundationDB's makers advise.
const RUN_PART_BYTES_MAX: usize = 1_000_000;
const _: () = assert!(RUN_PART_BYTES_MAX * 10 <= TRANSACTION_BYTES_MAX as usize);

/// What a row without a value has of that at most: a deletion has two keys.
const ROW_BYTES_MAX: usize = 2 * (PREFIX_BYTES_MAX + Key::LEN_MAX) + 64;

/// Most rows that one call reads at the same time.
const READS_MAX: usize = 1_000;

/// Most bytes of rows that one request asks for: a page has less, and whoever reads all holds no more than this twice.
const REQUEST_BYTES_MAX: usize = 1_000_000;

/// The format of a store of a cluster: its rows are the same, and programs that know of no clusters must not write them.
const CLUSTER_FORMAT_VERSION: u32 = FORMAT_VERSION + 1;

/// Conflicts with nothing.
const SNAPSHOT: bool = true;
/// Conflicts with whoever writes it before this transaction commits.
const GUARDED: bool = false;

/// A store in a FoundationDB cluster.
pub struct FdbStore {
    // Dropped first: it must not outlive the network.
    database: Database,
    keys: Keys,
    _network: Network,
}

impl std::fmt::Debug for FdbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdbStore").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Why an attempt did not succeed.
enum Failure {
    /// The database said so: it may be worth another attempt.
    Database(FdbError),
    /// What was read says so.
    Store(StoreError),
}

impl From<FdbError> for Failure {
    fn from(error: FdbError) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl FdbStore {
    /// Opens the store, making it if there is nothing under the prefix.
    ///
    /// # Errors
    /// The configuration is out of its bounds, the database does not answer in time, or what is under the prefix is of a newer
    /// format or not a store.
    pub async fn open(network: &Network, config: &FdbConfig) -> Result<Self, StoreError> {
        let keys = Keys::new(&config.prefix)?;
        let database = open_database(config)?;
        let store = Self { database, keys, _network: network.clone() };
        store.check_format(&config.prefix).await.map_err(|error| {
            let file = config.cluster_file.as_ref().map_or("the default place".into(), |path| path.display().to_string());
            match error {
                StoreError::Unavailable { reason } | StoreError::Unknown { reason } => StoreError::Unavailable {
                    reason: format!(
                        "the FoundationDB cluster of {file} does not answer within {} ms: {reason}. Is it running, is it of \
                         the same version as the client library?",
                        config.timeout_ms
                    ),
                },
                StoreError::Refused { reason } => {
                    StoreError::Refused { reason: format!("the FoundationDB cluster of {file}: {reason}") }
                }
                error => error,
            }
        })?;
        Ok(store)
    }

    async fn check_format(&self, prefix: &str) -> Result<(), StoreError> {
        self.write(|transaction| async move {
            if let Some(version) = transaction.get(&self.keys.format(), GUARDED).await? {
                let found = keys::parse_format(&version)?;
                if found > CLUSTER_FORMAT_VERSION {
                    let path = format!("foundationdb:{prefix}").into();
                    return Err(StoreError::Newer { path, found, known: CLUSTER_FORMAT_VERSION }.into());
                }
                return Ok(());
            }
            let any = RangeOption { limit: Some(1), mode: StreamingMode::Exact, ..self.keys.all().into() };
            if !transaction.get_range(&any, 1, GUARDED).await?.is_empty() {
                let what = format!("there are keys under the prefix {prefix:?}, and none that says their format");
                return Err(StoreError::Damaged { what }.into());
            }
            transaction.set(&self.keys.format(), &keys::put_format(FORMAT_VERSION));
            Ok(())
        })
        .await
    }

    fn transaction(&self) -> Result<Transaction, StoreError> {
        self.database.create_trx().map_err(errors::store_error)
    }

    /// Reads until an attempt succeeds, within the bounds of time and attempts.
    async fn read<T, F>(&self, attempt: impl Fn(Arc<Transaction>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut transaction = Arc::new(self.transaction()?);
        loop {
            match attempt(transaction.clone()).await {
                Ok(read) => return Ok(read),
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Database(error)) => {
                    let again = alone(transaction).on_error(error).await.map_err(errors::store_error)?;
                    transaction = Arc::new(again);
                }
            }
        }
    }

    /// As [`FdbStore::read`], and commits what the attempt has set. An attempt may come after one that was committed, without
    /// that being known.
    async fn write<T, F>(&self, attempt: impl Fn(Arc<Transaction>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut transaction = Arc::new(self.transaction()?);
        let mut may_have_committed = false;
        loop {
            let done = attempt(transaction.clone()).await;
            let transaction_alone = alone(transaction);
            let again = match done {
                Ok(done) => match transaction_alone.commit().await {
                    Ok(_) => return Ok(done),
                    Err(error) => {
                        may_have_committed |= errors::may_have_committed(*error);
                        error.on_error().await
                    }
                },
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Database(error)) => transaction_alone.on_error(error).await,
            };
            transaction = Arc::new(again.map_err(|error| match may_have_committed {
                true => StoreError::Unknown { reason: errors::words(error) },
                false => errors::store_error(error),
            })?);
        }
    }

    /// Reads of rows, all under way.
    fn start_reads(
        &self,
        transaction: &Transaction,
        keys: &[Key],
    ) -> Vec<impl Future<Output = FdbResult<Option<FdbSlice>>> + use<>> {
        keys.iter().map(|key| transaction.get(&self.keys.row(key), SNAPSHOT)).collect()
    }

    async fn current_fence(&self, transaction: &Transaction) -> Result<Fence, Failure> {
        Ok(keys::parse_fence(transaction.get(&self.keys.fence(), GUARDED).await?.as_deref())?)
    }

    async fn check_fence(&self, transaction: &Transaction, held: Fence) -> Result<(), Failure> {
        let current = self.current_fence(transaction).await?;
        if current == held { Ok(()) } else { Err(StoreError::Fenced { held, current }.into()) }
    }

    /// Changes a row. Nothing needs to conflict with it, since rows are read in no way that could; to say so of each row halves the bytes of
    /// a transaction.
    fn set_row(&self, transaction: &Transaction, key: &Key, change: Change<'_>) -> FdbResult<()> {
        transaction.set_option(TransactionOption::NextWriteNoWriteConflictRange)?;
        match change {
            Change::Put(value) => transaction.set(&self.keys.row(key), value),
            Change::Delete => transaction.clear(&self.keys.row(key)),
        }
        Ok(())
    }

    /// All of an advance but its commit.
    async fn prepare(
        &self,
        transaction: &Transaction,
        fence: Fence,
        steps: &[Step],
        sorted: Sorted,
    ) -> Result<Option<Advanced>, Failure> {
        transaction.set_option(TransactionOption::ReadYourWritesDisable)?;
        // All reads are under way before the first is waited for; a run is small.
        let progress: Vec<_> =
            steps.iter().map(|step| transaction.get(&self.keys.progress(step.lane), GUARDED)).collect();
        let needed = sorted.needed();
        let base = self.start_reads(transaction, &needed);
        let owners = self.start_owners(transaction, steps);
        if !rolls::is_fenced_by_terms(steps) {
            self.check_fence(transaction, fence).await?;
        }
        Self::check_terms(owners).await?;
        let mut found = Vec::with_capacity(steps.len());
        for read in progress {
            found.push(keys::parse_progress(read.await?.as_deref())?);
        }
        if are_made(steps, found.into_iter())? {
            return Ok(None);
        }
        let base = codec::sends_blocks(values_of(base).await?).map_err(StoreError::from)?;
        let run = sorted.finish(base);
        for (key, change) in run.iter() {
            self.set_row(transaction, key, change)?;
        }
        for step in steps {
            transaction.set(&self.keys.progress(step.lane), &keys::put_progress(step.up_to));
        }
        Ok(Some(Advanced { rows: run.len() as u64, bytes: run.bytes() as u64, base_rows: needed.len() as u64 }))
    }

    async fn commit_part(&self, fence: Fence, part: &[(&Key, Change<'_>)]) -> Result<(), StoreError> {
        self.write(|transaction| async move {
            transaction.set_option(TransactionOption::ReadYourWritesDisable)?;
            self.check_fence(&transaction, fence).await?;
            let [(first, _), ..] = part else { return Ok(()) };
            let first = self.keys.row(first);
            for conflict in [ConflictRangeType::Read, ConflictRangeType::Write] {
                transaction.add_conflict_range(&first, &after(&first), conflict)?;
            }
            for (key, change) in part {
                self.set_row(&transaction, key, *change)?;
            }
            Ok(())
        })
        .await
    }
}

fn open_database(config: &FdbConfig) -> Result<Database, StoreError> {
    let timeout = match config.timeout_ms {
        timeout @ TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX => timeout as i32,
        other => {
            let reason = format!("a timeout of {other} ms is not within {TIMEOUT_MS_MIN} and {TIMEOUT_MS_MAX}");
            return Err(StoreError::Refused { reason });
        }
    };
    let path = match &config.cluster_file {
        None => None,
        Some(path) => Some(path.to_str().filter(|path| !path.contains('\0')).ok_or_else(|| StoreError::Refused {
            reason: format!("the path of the cluster file, {path:?}, is not text"),
        })?),
    };
    let open = || {
        let database = Database::new(path)?;
        database.set_option(DatabaseOption::TransactionTimeout(timeout))?;
        database.set_option(DatabaseOption::TransactionRetryLimit(RETRIES_MAX))?;
        database.set_option(DatabaseOption::TransactionSizeLimit(TRANSACTION_BYTES_MAX))?;
        Ok(database)
    };
    open().map_err(errors::store_error)
}

/// An attempt has ended, and with it what else held its transaction.
fn alone(transaction: Arc<Transaction>) -> Transaction {
    Arc::into_inner(transaction).expect("an attempt keeps its transaction no longer than it lasts")
}

async fn values_of(
    reads: Vec<impl Future<Output = FdbResult<Option<FdbSlice>>>>,
) -> Result<Vec<Option<Bytes>>, Failure> {
    let mut values = Vec::with_capacity(reads.len());
    for read in reads {
        values.push(read.await?.map(|value| Bytes::copy_from_slice(&value)));
    }
    Ok(values)
}

/// The rows of a range, whose number is bounded by what its keys can be.
async fn all_rows(
    transaction: &Transaction,
    range: std::ops::Range<Vec<u8>>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Failure> {
    let mut ask = RangeOption { mode: StreamingMode::WantAll, ..range.into() };
    let mut rows = Vec::new();
    loop {
        let read = transaction.get_range(&ask, 1, SNAPSHOT).await?;
        rows.extend(read.iter().map(|row| (row.key().to_vec(), row.value().to_vec())));
        match read.last() {
            Some(last) if read.more() => ask.begin = KeySelector::first_greater_than(last.key().to_vec()),
            _ => return Ok(rows),
        }
    }
}

/// The key that comes next after this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Store for FdbStore {
    fn kind(&self) -> Kind {
        Kind::Database
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.read(|transaction| async move {
            let value = transaction.get(&self.keys.row(key), SNAPSHOT).await?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
        .await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read(|transaction| async move {
            let mut values = Vec::with_capacity(keys.len());
            for keys in keys.chunks(READS_MAX) {
                values.extend(values_of(self.start_reads(&transaction, keys)).await?);
            }
            Ok(values)
        })
        .await
    }

    /// A range that takes more than one request may be read at several versions of the database.
    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        let mut gather = Gather::new(range);
        if range.first > range.last {
            return Ok(gather.finish(true));
        }
        let mut ask = RangeOption {
            begin: KeySelector::first_greater_or_equal(self.keys.row(&range.first)),
            end: KeySelector::first_greater_than(self.keys.row(&range.last)),
            reverse: range.direction == Direction::Backwards,
            mode: StreamingMode::Exact,
            ..RangeOption::default()
        };
        let mut transaction = self.transaction()?;
        loop {
            let (rows_left, bytes_left) = gather.left();
            // One more row than is wanted tells whether there are more.
            ask.limit = Some(rows_left.saturating_add(1));
            ask.target_bytes = bytes_left.clamp(1, REQUEST_BYTES_MAX);
            let read = match transaction.get_range(&ask, 1, SNAPSHOT).await {
                Ok(read) => read,
                Err(error) => {
                    transaction = transaction.on_error(error).await.map_err(errors::store_error)?;
                    continue;
                }
            };
            for row in &read {
                let key = self.keys.parse_row(row.key())?;
                if !gather.wants(&key, row.value()) {
                    return Ok(gather.finish(false));
                }
                gather.push(key, Bytes::copy_from_slice(row.value()));
            }
            if !read.more() {
                return Ok(gather.finish(true));
            }
            if let Some(last) = read.last() {
                match range.direction {
                    Direction::Forwards => ask.begin = KeySelector::first_greater_than(last.key().to_vec()),
                    Direction::Backwards => ask.end = KeySelector::first_greater_or_equal(last.key().to_vec()),
                }
            }
        }
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        let mut changes = run.iter().peekable();
        let mut part = Vec::new();
        let mut parts = 0;
        // Also an empty run must be refused under an older fence.
        while parts == 0 || changes.peek().is_some() {
            part.clear();
            let mut bytes = 0;
            while let Some((key, change)) = changes.next_if(|(_, change)| {
                bytes += ROW_BYTES_MAX + value_bytes(change);
                part.is_empty() || bytes <= RUN_PART_BYTES_MAX
            }) {
                part.push((key, change));
            }
            self.commit_part(fence, &part).await.map_err(|error| match error {
                error if parts > 0 && error.is_retryable() => {
                    StoreError::Unknown { reason: format!("after {parts} parts of a run: {error}") }
                }
                error => error,
            })?;
            parts += 1;
        }
        Ok(())
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        self.write(|transaction| async move {
            if let Some(cluster) = self.cluster(&transaction).await? {
                return Err(rolls::is_a_clusters(&cluster).into());
            }
            let next = Fence(self.current_fence(&transaction).await?.0 + 1);
            transaction.set(&self.keys.fence(), &keys::put_fence(next));
            Ok(next)
        })
        .await
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        let transaction = self.transaction()?;
        match self.prepare(&transaction, fence, steps, sorted).await {
            Ok(None) => Ok(Advanced::default()),
            Ok(Some(advanced)) => match transaction.commit().await {
                Ok(_) => Ok(advanced),
                Err(error) => Err(errors::commit_error(*error)),
            },
            Err(Failure::Database(error)) => Err(errors::store_error(error)),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        self.read(|transaction| async move {
            let mut progress = Vec::new();
            for (lane, batch) in all_rows(&transaction, self.keys.all_progress()).await? {
                progress.push((self.keys.parse_progress(&lane)?, keys::parse_progress(Some(&batch))?));
            }
            Ok(progress)
        })
        .await
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.read(|transaction| async move {
            let tenure = transaction.get(&self.keys.tenure(), SNAPSHOT).await?;
            Ok(tenure.map(|tenure| keys::parse_tenure(&tenure)).transpose()?)
        })
        .await
    }

    async fn begin(&self, fence: Fence, holder: Holder) -> Result<(), StoreError> {
        let tenure = keys::put_tenure(Tenure { holder, fence });
        let lanes = &self.keys.all_progress();
        self.write(|transaction| async move {
            let before = transaction.get(&self.keys.tenure(), GUARDED);
            self.check_fence(&transaction, fence).await?;
            before.await?;
            transaction.clear_range(&lanes.start, &lanes.end);
            transaction.set(&self.keys.tenure(), &tenure);
            Ok(())
        })
        .await
    }

    async fn found(&self, cluster: &str) -> Result<(), StoreError> {
        self.found_cluster(cluster).await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        self.read_roll().await
    }

    async fn term(&self, lane: LaneId) -> Result<u64, StoreError> {
        self.read_term(lane).await
    }

    async fn change_roll(&self, change: &RollChange) -> Result<bool, StoreError> {
        self.write_roll(change).await
    }

    async fn roll_changed(&self, since: u64) -> Result<(), StoreError> {
        self.wait_for_roll(since).await
    }
}

fn value_bytes(change: &Change<'_>) -> usize {
    match change {
        Change::Put(value) => value.len(),
        Change::Delete => 0,
    }
}
