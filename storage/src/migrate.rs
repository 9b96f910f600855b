//! A history from one store into another: copied in the order of the keys, then compared user by user, and group by group.
//!
//! Owns what is copied, how far that has come, and what counts as the same. Does no I/O of its own and never waits for anything
//! but the stores: a step is a bounded piece of work, between two of them the caller may stop for good, and one that failed
//! retryably may be done again.
//!
//! Invariants: a row of the destination ([`RowKey::Migration`]) says that a migration into it is under way, from before its
//! first row until both sides have been found the same; where it is, nobody may serve. It says how far that has come, and is
//! written when a run is durable, never with it: runs may be torn. After a run its part of the destination has the rows of the
//! source and no others; so doing it again is harmless, and so is beginning again with the first row, which is done
//! whenever somebody else may have written to the source in between.

mod verify;

use std::fmt;

use bytes::Bytes;
use proto_spec::{ConversationId, Direction};
use thiserror::Error;

use crate::{
    codec::{self, CodecError},
    group::beside,
    run::{Run, RunBuilder},
    schema::{Key, KeyError, RowKey, partition_of},
    store::{Fence, Kind, Range, Rows, Store, StoreError},
};

use verify::Comparison;
pub use verify::{Difference, Differences, RowOwner, Sum, Totals};

/// Most bytes of rows that are read at once: what FoundationDB gives in a small part of the five seconds of a transaction.
const PAGE_BYTES: usize = 1024 * 1024;

/// Most rows that one run takes out of the destination: 3 MB of keys.
const SURPLUS_MAX: usize = 100_000;

/// Bytes of rows after which a run ends. An engine makes a sorted file of each; a database cuts it into transactions, and what
/// is under way when somebody stops the migration is done again.
const fn run_bytes(destination: Kind) -> usize {
    match destination {
        Kind::Engine => 32 * 1024 * 1024,
        Kind::Database => 4 * 1024 * 1024,
    }
}

/// A history's name for as long as it is on its way: random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryId(pub u128);

/// A history on its way.
#[derive(Debug)]
pub struct Migration<'a, S, D> {
    source: &'a S,
    source_fence: Fence,
    destination: &'a D,
    fence: Fence,
    of: HistoryId,
    run_bytes: usize,
    stage: Stage<'a, S, D>,
    copied: Copied,
}

#[derive(Debug)]
enum Stage<'a, S, D> {
    /// Everything up to this key is in the destination; of everything nothing yet, if there is none.
    Copying(Option<Key>),
    Comparing(Box<Comparison<'a, S, D>>),
    Done(Totals),
}

/// What an attempt has copied, rows included that were there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Where a migration is after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// Rows are being copied, table by table.
    Copying {
        /// Which table.
        table: &'static str,
        /// How much of it is behind, 0 to 1, if that can be told: by the partition, since users are spread over them evenly.
        part: Option<f64>,
        /// What has been copied.
        copied: Copied,
    },
    /// Both sides are being read and compared.
    Comparing {
        /// How many of the users are behind, 0 to 1.
        part: f64,
        /// What has been compared.
        totals: Totals,
    },
    /// The destination has the history, and may be served from.
    Done(Totals),
}

/// Which of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the history comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Why a migration does not go on.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// A store failed.
    #[error("the {side}: {error}")]
    Store {
        /// Which one.
        side: Side,
        /// What it said.
        error: StoreError,
    },
    /// A row is not what this version writes. Nothing of its run was copied.
    #[error("the {side} has a row that is not understood, {key:?}: {reason}")]
    Row {
        /// Where.
        side: Side,
        /// Which.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is in the destination that no migration has put there. It was left as it is.
    #[error("the destination has a history already (for instance the row {first:?})")]
    Occupied {
        /// Its first row.
        first: Key,
    },
    /// Another history is on its way into the destination. It was left as it is.
    #[error("the migration of another history into this destination has not been finished")]
    OtherMigration,
    /// The source lacks a part of its history.
    #[error("the source is itself the destination of a migration that has not been finished")]
    UnfinishedSource,
    /// Both sides were read, and differ. The next attempt begins with the first row.
    #[error(transparent)]
    Different(#[from] Differences),
}

impl MigrateError {
    /// Whether the same step may succeed if it is done again. It is never harmful.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Store { error, .. } => error.is_retryable(),
            Self::Row { .. }
            | Self::Occupied { .. }
            | Self::OtherMigration
            | Self::UnfinishedSource
            | Self::Different(_) => false,
        }
    }
}

/// Whether a migration into this store has not been finished: a part of the history may be missing. Who serves asks first.
///
/// # Errors
/// The store failed.
pub async fn is_unfinished<S: Store>(store: &S) -> Result<bool, StoreError> {
    Ok(store.get(&RowKey::Migration.encode()).await?.is_some())
}

/// Reads two stores, neither of which changes meanwhile, and compares them as the end of a migration does.
///
/// # Errors
/// A store failed, has a row that is not understood, or they differ.
pub async fn compare<S: Store, D: Store>(source: &S, destination: &D) -> Result<Totals, MigrateError> {
    let mut comparison = Comparison::new(source, destination, PAGE_BYTES);
    loop {
        if let Some(compared) = comparison.step().await? {
            return Ok(compared?);
        }
    }
}

impl<'a, S: Store, D: Store> Migration<'a, S, D> {
    /// Takes the destination over, and begins or goes on from where an earlier attempt was. `source_fence` has just been taken,
    /// and everything that the journal had is in the source; `of` tells this history from others.
    ///
    /// # Errors
    /// A store failed, the source is not whole, or something else is in the destination: then that has not been taken over.
    pub async fn begin(
        source: &'a S,
        source_fence: Fence,
        destination: &'a D,
        of: HistoryId,
    ) -> Result<Self, MigrateError> {
        if is_unfinished(source).await.map_err(of_source)? {
            return Err(MigrateError::UnfinishedSource);
        }
        // First a look, because taking over stops whoever serves from there; then again, because somebody may have been faster.
        look(destination, of).await?;
        let fence = destination.take_over().await.map_err(of_destination)?;
        let found = look(destination, of).await?;
        // Whoever writes to the source takes it over first: if nobody has in between, it is as it was.
        let is_unchanged = |found: &Marker| found.source_fence.0.checked_add(1) == Some(source_fence.0);
        let up_to = found.filter(is_unchanged).and_then(|found| found.up_to);
        let mut migration = Self {
            source,
            source_fence,
            destination,
            fence,
            of,
            run_bytes: run_bytes(destination.kind()),
            stage: Stage::Copying(None),
            copied: Copied::default(),
        };
        migration.mark(up_to).await?;
        migration.stage = migration.stage_after(up_to);
        Ok(migration)
    }

    /// Copies a run, or compares the next users, and says where the migration is then.
    ///
    /// # Errors
    /// See [`MigrateError`].
    pub async fn step(&mut self) -> Result<Progress, MigrateError> {
        match &mut self.stage {
            Stage::Copying(up_to) => {
                let after = *up_to;
                self.copy_run(after).await
            }
            Stage::Comparing(comparison) => match comparison.step().await? {
                None => Ok(comparison.progress()),
                Some(compared) => self.finish(compared).await,
            },
            Stage::Done(totals) => Ok(Progress::Done(*totals)),
        }
    }

    /// Makes the part of the destination that follows `after`, as long as a run is, that of the source.
    async fn copy_run(&mut self, after: Option<Key>) -> Result<Progress, MigrateError> {
        let part = self.read(after).await?;
        let surplus = self.surplus(after, &part).await?;
        let mut run = RunBuilder::default();
        surplus.iter().for_each(|key| run.delete(*key));
        // If there may be more of it, that goes first; the rows come with the next run.
        let has_room = surplus.len() < SURPLUS_MAX;
        if has_room {
            part.rows.iter().for_each(|(key, value)| run.put(*key, |out| out.extend_from_slice(value)));
        }
        self.destination.commit(self.fence, &run.finish()).await.map_err(of_destination)?;
        if has_room {
            self.mark(Some(part.end)).await?;
            self.copied.rows += part.rows.len() as u64;
            self.copied.bytes += part.bytes as u64;
            self.stage = self.stage_after(Some(part.end));
        }
        let last = part.rows.last().and_then(|(key, _)| RowKey::decode(key).ok());
        Ok(Progress::Copying {
            table: last.map_or("nothing", table_of),
            part: last.and_then(partition_in).map(behind),
            copied: self.copied,
        })
    }

    /// What is to be done when everything up to there has been copied.
    fn stage_after(&self, up_to: Option<Key>) -> Stage<'a, S, D> {
        match up_to == Some(last_key()) {
            false => Stage::Copying(up_to),
            true => Stage::Comparing(Box::new(Comparison::new(self.source, self.destination, self.page_bytes()))),
        }
    }

    /// The next rows of the source, all of them understood.
    async fn read(&self, after: Option<Key>) -> Result<Part, MigrateError> {
        let mut pages = Pages::new(self.source, after, last_key(), self.page_bytes());
        let mut part = Part { rows: Vec::new(), bytes: 0, end: last_key() };
        while let Some(page) = pages.next().await.map_err(of_source)? {
            for (key, value) in &page {
                understand(key, value).map_err(|reason| MigrateError::Row { side: Side::Source, key: *key, reason })?;
                part.bytes += key.len() + value.len();
            }
            part.rows.extend(page);
            if let Some((last, _)) = part.rows.last()
                && part.bytes >= self.run_bytes
            {
                part.end = *last;
                break;
            }
        }
        Ok(part)
    }

    /// Rows of the destination that the source does not have, in this part: an attempt has left them, before the source was
    /// written to. No more than [`SURPLUS_MAX`].
    async fn surplus(&self, after: Option<Key>, part: &Part) -> Result<Vec<Key>, MigrateError> {
        let is_known = |key: &Key| {
            *key == RowKey::Migration.encode() || part.rows.binary_search_by_key(key, |(key, _)| *key).is_ok()
        };
        let mut surplus = Vec::new();
        let mut pages = Pages::new(self.destination, after, part.end, self.page_bytes());
        while let Some(page) = pages.next().await.map_err(of_destination)? {
            surplus.extend(page.into_iter().map(|(key, _)| key).filter(|key| !is_known(key)));
            if surplus.len() >= SURPLUS_MAX {
                surplus.truncate(SURPLUS_MAX);
                break;
            }
        }
        Ok(surplus)
    }

    /// Says in the destination that everything up to there has been copied.
    async fn mark(&self, up_to: Option<Key>) -> Result<(), MigrateError> {
        let marker = Marker { of: self.of, source_fence: self.source_fence, up_to };
        let mut run = RunBuilder::default();
        run.put(RowKey::Migration.encode(), |out| marker.put(out));
        self.destination.commit(self.fence, &run.finish()).await.map_err(of_destination)
    }

    fn page_bytes(&self) -> usize {
        self.run_bytes.min(PAGE_BYTES)
    }

    async fn finish(&mut self, compared: Result<Totals, Differences>) -> Result<Progress, MigrateError> {
        let totals = match compared {
            Ok(totals) => totals,
            Err(differences) => {
                self.mark(None).await?;
                self.stage = Stage::Copying(None);
                return Err(differences.into());
            }
        };
        // The source has no such row: this finds out whether somebody has taken it over, and may have written to it.
        self.source.commit(self.source_fence, &without_marker()).await.map_err(of_source)?;
        self.destination.commit(self.fence, &without_marker()).await.map_err(of_destination)?;
        self.stage = Stage::Done(totals);
        Ok(Progress::Done(totals))
    }
}

/// Everything that the source has up to `end`.
struct Part {
    rows: Vec<(Key, Bytes)>,
    /// Of keys and values.
    bytes: usize,
    end: Key,
}

/// The value of the row that a migration has in its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marker {
    of: HistoryId,
    /// Under which the source was held.
    source_fence: Fence,
    /// Everything up to here was copied under that fence, or has not changed since.
    up_to: Option<Key>,
}

impl Marker {
    /// Its layout: a version byte, `of`, the fence, both big-endian, and the bytes of the key.
    const VERSION: u8 = 1;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(Self::VERSION);
        out.extend(self.of.0.to_be_bytes());
        out.extend(self.source_fence.0.to_be_bytes());
        out.extend_from_slice(self.up_to.as_deref().unwrap_or_default());
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[Self::VERSION])?;
        let (of, rest) = rest.split_first_chunk()?;
        let (fence, key) = rest.split_first_chunk()?;
        let up_to = if key.is_empty() { None } else { Some(Key::from_bytes(key)?) };
        Some(Self { of: HistoryId(u128::from_be_bytes(*of)), source_fence: Fence(u64::from_be_bytes(*fence)), up_to })
    }
}

/// What an earlier attempt has left in the destination. Nothing else may be there.
async fn look<D: Store>(destination: &D, of: HistoryId) -> Result<Option<Marker>, MigrateError> {
    let key = RowKey::Migration.encode();
    if let Some(value) = destination.get(&key).await.map_err(of_destination)? {
        let marker = Marker::parse(&value).ok_or_else(|| {
            let reason = "not how far a migration has come".to_owned();
            MigrateError::Row { side: Side::Destination, key, reason }
        })?;
        return if marker.of == of { Ok(Some(marker)) } else { Err(MigrateError::OtherMigration) };
    }
    let first = Pages::new(destination, None, last_key(), 1).next().await.map_err(of_destination)?;
    match first.as_deref() {
        None | Some([]) => Ok(None),
        Some([(first, _), ..]) => Err(MigrateError::Occupied { first: *first }),
    }
}

fn without_marker() -> Run {
    let mut run = RunBuilder::default();
    run.delete(RowKey::Migration.encode());
    run.finish()
}

fn of_source(error: StoreError) -> MigrateError {
    MigrateError::Store { side: Side::Source, error }
}

fn of_destination(error: StoreError) -> MigrateError {
    MigrateError::Store { side: Side::Destination, error }
}

/// Rows of a part of a store, a page at a time.
#[derive(Debug)]
struct Pages<'a, S> {
    store: &'a S,
    /// First key of the next page; nothing after the last one.
    first: Option<Key>,
    last: Key,
    page_bytes: usize,
}

impl<'a, S: Store> Pages<'a, S> {
    /// From the key behind `after`, or the first of all, up to `last`, included.
    fn new(store: &'a S, after: Option<Key>, last: Key, page_bytes: usize) -> Self {
        Self { store, first: after.map_or_else(|| Some(first_key()), Key::successor), last, page_bytes }
    }

    /// The next page; never an empty one. After an error the same again.
    async fn next(&mut self) -> Result<Option<Vec<(Key, Bytes)>>, StoreError> {
        let Some(first) = self.first else { return Ok(None) };
        let (last, direction) = (self.last, Direction::Forwards);
        let range = Range { first, last, direction, rows_max: usize::MAX, bytes_max: self.page_bytes };
        let Rows { rows, complete } = self.store.range(&range).await?;
        self.first = if complete { None } else { rows.last().and_then(|(key, _)| key.successor()) };
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// The first key of the first table. What is before it is a backend's own.
fn first_key() -> Key {
    Key::from_bytes(&[1]).expect("a byte is not too long")
}

/// Above the keys of all tables that there can be, and of none.
fn last_key() -> Key {
    Key::from_bytes(&[u8::MAX; Key::LEN_MAX]).expect("as long as the longest")
}

/// Whether this version would read the row; what is wrong with it otherwise.
fn understand(key: &Key, value: &[u8]) -> Result<(), String> {
    let row = RowKey::decode(key).map_err(|error: KeyError| error.to_string())?;
    let read: Result<(), CodecError> = match row {
        RowKey::Timeline { seq, .. } => codec::timeline_entry(seq, value).map(drop),
        RowKey::Sends { .. } => codec::sends_block(value).map(drop),
        RowKey::Device { .. } => codec::seq("a device row", value).map(drop),
        RowKey::LastSends { .. } => codec::last_sends(value).map(drop),
        RowKey::Received { .. } => codec::received(value).map(drop),
        RowKey::Delivered { .. } => codec::mark("a delivered row", value).map(drop),
        RowKey::Sent { .. } => codec::seq("a sent row", value).map(drop),
        RowKey::Last { .. } => codec::last(value).map(drop),
        RowKey::LastSeen { .. } => codec::last_seen(value).map(drop),
        RowKey::Visibility { .. } => codec::visibility(value).map(drop),
        RowKey::Notified { .. } => codec::notified(value).map(drop),
        RowKey::Subscription { .. } => codec::subscription(value).map(drop),
        RowKey::Read { .. } => codec::read(value).map(drop),
        RowKey::Seen { .. } => codec::mark("a seen row", value).map(drop),
        RowKey::Settings { .. } => codec::settings(value).map(drop),
        RowKey::Marks { .. } => codec::marks(value).map(drop),
        RowKey::Epoch { .. } => codec::epoch(value).map(drop),
        RowKey::First { .. } => codec::first(value).map(drop),
        RowKey::Deleted { .. } => codec::seq("a deleted row", value).map(drop),
        RowKey::Displaced { .. } => codec::displaced(value).map(drop),
        RowKey::Conversation { seq, .. } => codec::index(seq, value).map(drop),
        RowKey::DeviceNotes { .. } => codec::device_notes(value).map(drop),
        RowKey::Standing { .. } => codec::standing(value).map(drop),
        RowKey::GroupLog { seq, .. } => codec::group_entry(seq, value).map(drop),
        RowKey::GroupState { .. } => codec::group_state(value).map(drop),
        RowKey::GroupMarks { .. } => codec::group_marks(value).map(drop),
        RowKey::GroupMember { .. } => codec::group_member(value).map(drop),
        RowKey::GroupCame { .. } => codec::group_came(value).map(drop),
        RowKey::GroupWants { .. } => codec::group_wants(value).map(drop),
        RowKey::GroupShown { .. } => codec::group_shown(value).map(drop),
        RowKey::Removed { .. } | RowKey::Unfinished { .. } | RowKey::GroupUnfinished { .. } => match value.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { what: "a row without a value", bytes }),
        },
        // `begin` has seen that there is none.
        RowKey::Migration => return Err("it was not there when the migration began".to_owned()),
    };
    read.map_err(|error| error.to_string())
}

/// Whose row it is.
const fn owner_of(row: RowKey) -> Option<RowOwner> {
    match row {
        RowKey::Timeline { user, .. }
        | RowKey::Conversation { user, .. }
        | RowKey::Sends { user, .. }
        | RowKey::Device { user, .. }
        | RowKey::LastSends { user, .. }
        | RowKey::Received { user, .. }
        | RowKey::Delivered { user, .. }
        | RowKey::Sent { user, .. }
        | RowKey::Last { user, .. }
        | RowKey::LastSeen { user }
        | RowKey::Visibility { user }
        | RowKey::Notified { user }
        | RowKey::Subscription { user, .. }
        | RowKey::Read { user, .. }
        | RowKey::Seen { user, .. }
        | RowKey::Settings { user, .. }
        | RowKey::Marks { user }
        | RowKey::Epoch { user, .. }
        | RowKey::DeviceNotes { user }
        | RowKey::Removed { user, .. }
        | RowKey::First { user, .. }
        | RowKey::Deleted { user, .. }
        | RowKey::Displaced { user, .. }
        | RowKey::Standing { user, .. }
        | RowKey::Unfinished { user } => Some(RowOwner::User(user)),
        RowKey::GroupLog { group, .. }
        | RowKey::GroupState { group }
        | RowKey::GroupMarks { group }
        | RowKey::GroupMember { group, .. }
        | RowKey::GroupCame { group, .. }
        | RowKey::GroupWants { group, .. }
        | RowKey::GroupShown { group, .. }
        | RowKey::GroupUnfinished { group } => Some(RowOwner::Group(group)),
        RowKey::Migration => None,
    }
}

/// In which partition a row is, if its table has them.
fn partition_in(row: RowKey) -> Option<u16> {
    match row {
        RowKey::Unfinished { .. } | RowKey::GroupUnfinished { .. } => None,
        row => owner_of(row).map(|owner| match owner {
            RowOwner::User(user) => partition_of(user),
            RowOwner::Group(group) => partition_of(beside(group)),
        }),
    }
}

const fn table_of(row: RowKey) -> &'static str {
    match row {
        RowKey::Timeline { .. } => "timeline",
        RowKey::Conversation { .. } => "conversations",
        RowKey::Sends { .. } => "sends",
        RowKey::LastSeen { .. }
        | RowKey::Visibility { .. }
        | RowKey::Notified { .. }
        | RowKey::Subscription { .. }
        | RowKey::Device { .. }
        | RowKey::LastSends { .. }
        | RowKey::Standing { .. }
        | RowKey::Epoch { .. } => "devices",
        RowKey::Received { .. } | RowKey::Sent { .. } | RowKey::Last { .. } => "received",
        RowKey::Delivered { .. } => "delivered",
        RowKey::Read { conversation: ConversationId::Group(_), .. }
        | RowKey::Settings { conversation: ConversationId::Group(_), .. }
        | RowKey::Deleted { conversation: ConversationId::Group(_), .. } => "kept of groups",
        RowKey::Read { .. } => "read",
        RowKey::Seen { .. } => "seen",
        RowKey::Settings { .. } => "settings",
        RowKey::Marks { .. } => "marks",
        RowKey::DeviceNotes { .. } => "device notes",
        RowKey::Removed { .. } => "removed devices",
        RowKey::First { .. } => "firsts",
        RowKey::Deleted { .. } => "deleted messages",
        RowKey::Displaced { .. } => "displaced messages",
        RowKey::Unfinished { .. } => "unfinished",
        RowKey::GroupLog { .. } => "logs of groups",
        RowKey::GroupState { .. } | RowKey::GroupMarks { .. } => "groups",
        RowKey::GroupMember { .. } | RowKey::GroupCame { .. } | RowKey::GroupWants { .. } => "members of groups",
        RowKey::GroupShown { .. } => "changed messages of groups",
        RowKey::GroupUnfinished { .. } => "unfinished groups",
        RowKey::Migration => "migration",
    }
}

/// How many of the partitions are behind, 0 to 1.
fn behind(partition: u16) -> f64 {
    f64::from(partition) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests;
