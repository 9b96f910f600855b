//! `ringpost migrate`: moves the history of a stopped server from one store to another.
//!
//! Owns the order of the steps and what an operator is told; what is copied and compared is `storage::migrate`'s. Holds the data
//! folder's lock from its first look to its end, and the fences of both stores: whoever served from one of them stops.
//!
//! Invariants: the journal is empty before the first row is copied; the source keeps all of its rows; nothing is forgotten by
//! being stopped or killed at any moment, and the same command goes on.

mod show;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    slice,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use storage::{
    Fence, IngestError, Kind, Store, ingest,
    journal::{JournalError, JournalFolder, Recovered, format::SegmentHeaderError, recover},
    migrate::{HistoryId, MigrateError, Migration, Progress, Totals, compare, is_unfinished},
};
use thiserror::Error;

use crate::{
    commands::{
        backend::{BackendError, UseStore, open_embedded, with_foundationdb},
        journal::WAY_ON,
    },
    config::{Backend, Config},
    durability::committer::ingest_retry_ms,
    files::{
        datadir::{DataDir, DataDirError},
        tenure::{self, Extent, Held, Own, TakeOverError, take_over},
    },
};

pub use show::Terminal;
use show::{ProgressLines, done, make_room};

/// Tells this data folder's history from others, while a migration is under way.
const MIGRATION_FILE: &str = "MIGRATION";

/// How often a step is tried again before the operator is asked to look: half a minute, and a cluster that has lost a machine has
/// recovered by then.
const RETRIES_MAX: u32 = 12;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the data folder into the database.
    ToFoundationDb,
    /// And back.
    ToEmbedded,
}

impl Direction {
    /// The way from one store to another one.
    #[must_use]
    pub const fn between(from: Backend, to: Backend) -> Option<Self> {
        match (from, to) {
            (Backend::Embedded, Backend::FoundationDb) => Some(Self::ToFoundationDb),
            (Backend::FoundationDb, Backend::Embedded) => Some(Self::ToEmbedded),
            (Backend::Embedded, Backend::Embedded) | (Backend::FoundationDb, Backend::FoundationDb) => None,
        }
    }

    const fn to(self) -> Backend {
        match self {
            Self::ToFoundationDb => Backend::FoundationDb,
            Self::ToEmbedded => Backend::Embedded,
        }
    }
}

/// Why a history was not moved, or not all of it.
#[derive(Debug, Error)]
pub enum MigrateCommandError {
    /// The folder cannot be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// One of the stores cannot be had.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The journal's files cannot be read, or this version is too old for them.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something durable of the journal has changed or is missing.
    #[error("{0}; {WAY_ON}")]
    DamagedJournal(JournalError),
    /// What the journal holds cannot be brought into the source.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Another data folder's server was the last one on the database. Nothing was changed.
    #[error(
        "another server was the last one on this database, and its journal may hold what is not there yet: run this with its data \
         folder; if that is lost, start a server with this one on the database, stop it, and run this again"
    )]
    Elsewhere,
    /// The source did not take it.
    #[error("the journal cannot be brought into the store: {0}")]
    Ingest(#[from] IngestError),
    /// Nothing was changed.
    #[error("{error}: {remedy}")]
    Refused {
        /// Why.
        error: MigrateError,
        /// What to do.
        remedy: String,
    },
    /// It was begun, and is not done.
    #[error("{0}\nthe history is not moved; the same command goes on from what has been copied")]
    Failed(MigrateError),
    /// Somebody asked for it.
    #[error("stopped: the history is not moved; the same command goes on from what has been copied")]
    Stopped,
    /// A file of the command's own.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Nobody reads what the command says.
    #[error("stdout: {0}")]
    Output(io::Error),
}

/// Moves the history of this configuration's data folder, and says on `out` what has become of it. `progress` is told meanwhile how
/// far it is. Ends between two runs when `stop` is set.
///
/// # Errors
/// See [`MigrateCommandError`]. The same may always be tried again, and goes on.
pub fn run(
    direction: Direction,
    config: &Config,
    stop: &AtomicBool,
    terminal: Terminal,
    progress: &mut impl Write,
    out: &mut impl Write,
) -> Result<(), MigrateCommandError> {
    let told = with_foundationdb(config, Move::new(direction, config, stop, terminal, progress)?)??;
    out.write_all(told.as_bytes()).and_then(|()| out.flush()).map_err(MigrateCommandError::Output)
}

/// A history that is to be moved to or from a database. Has the data folder's lock.
#[derive(Debug)]
pub struct Move<'a, W> {
    direction: Direction,
    config: &'a Config,
    data: DataDir,
    found: Recovered,
    stop: &'a AtomicBool,
    lines: ProgressLines<'a, W>,
}

impl<'a, W: Write> Move<'a, W> {
    /// As for [`run`].
    ///
    /// # Errors
    /// The data folder cannot be had, or its journal cannot be read.
    pub fn new(
        direction: Direction,
        config: &'a Config,
        stop: &'a AtomicBool,
        terminal: Terminal,
        progress: &'a mut W,
    ) -> Result<Self, MigrateCommandError> {
        let data = DataDir::open_existing(&config.data_dir)?;
        // Read first: if the journal is damaged, no store has been touched.
        let found = recover(&data.journal()).map_err(|error| match error {
            JournalError::Io { .. } | JournalError::Header { reason: SegmentHeaderError::Newer { .. }, .. } => {
                error.into()
            }
            JournalError::Damaged { .. } | JournalError::Header { .. } => MigrateCommandError::DamagedJournal(error),
        })?;
        Ok(Self { direction, config, data, found, stop, lines: ProgressLines::new(terminal, progress) })
    }
}

impl<W: Write> UseStore for Move<'_, W> {
    /// What an operator is told.
    type Output = Result<String, MigrateCommandError>;

    /// Moves it to or from this database.
    fn with<S: Store>(mut self, database: S) -> Self::Output {
        if self.direction == Direction::ToEmbedded {
            self.data.adopt_store()?;
        }
        let embedded = open_embedded(self.config, &self.data)?;
        let moved = match self.direction {
            Direction::ToFoundationDb => self.copy(&embedded, &database),
            Direction::ToEmbedded => self.copy(&database, &embedded),
        };
        self.lines.end();
        Ok(done(self.direction, self.config, &self.data, &moved?))
    }
}

impl<W: Write> Move<'_, W> {
    fn copy<S: Store, D: Store>(&mut self, source: &S, destination: &D) -> Result<Totals, MigrateCommandError> {
        if pollster::block_on(is_unfinished(source)).map_err(BackendError::from)? {
            return Err(self.failed(MigrateError::UnfinishedSource));
        }
        let mark = Mark::read(&self.data)?;
        self.check_tenure(source, mark.as_ref())?;
        let held = Held { batches: self.found.batches, lanes: &self.found.lanes, extent: Extent::Whole };
        let fence = take_over(source, &self.data, held)?;
        self.empty_journal(source, fence)?;
        let is_known = mark.is_some();
        let of = mark.map_or_else(|| HistoryId(rand::random()), |mark| mark.of);
        if !is_known {
            Mark { of, was: None }.write(&self.data)?;
        }
        let mut migration = match pollster::block_on(Migration::begin(source, fence, destination, of)) {
            Ok(migration) => migration,
            Err(error @ MigrateError::Occupied { .. }) if is_known => {
                // Perhaps an attempt was killed between its last step and its last word.
                self.lines.note("the destination has a history: comparing it with that of the source");
                let totals = pollster::block_on(compare(source, destination)).map_err(|_| self.failed(error))?;
                return self.finish(of, totals);
            }
            Err(error) => {
                if !is_known {
                    Mark::forget(&self.data)?;
                }
                return Err(self.failed(error));
            }
        };
        let mut failures = 0;
        while !self.stop.load(Ordering::Relaxed) {
            match pollster::block_on(migration.step()) {
                Ok(Progress::Done(totals)) => return self.finish(of, totals),
                Ok(progress) => {
                    failures = 0;
                    self.lines.show(&progress);
                }
                Err(error) if error.is_retryable() && failures < RETRIES_MAX => {
                    failures += 1;
                    self.lines.note(&format!("{error}; trying again"));
                    thread::sleep(Duration::from_millis(ingest_retry_ms(failures, true)));
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(MigrateCommandError::Stopped)
    }

    fn finish(&self, of: HistoryId, totals: Totals) -> Result<Totals, MigrateCommandError> {
        // Whoever is killed between the two steps that follow must still know whose the journal was.
        if let was @ Some(_) = self.tenure()? {
            Mark { of, was }.write(&self.data)?;
        }
        tenure::forget(&self.data).map_err(TakeOverError::from)?;
        Mark::forget(&self.data)?;
        Ok(totals)
    }

    /// Whoever served from the source last may have a journal with what is not in it.
    fn check_tenure<S: Store>(&self, source: &S, mark: Option<&Mark>) -> Result<(), MigrateCommandError> {
        if source.kind() == Kind::Engine {
            // Nobody else can have.
            return Ok(());
        }
        let own = self.tenure()?.or(mark.and_then(|mark| mark.was)).map(|own| own.tenure);
        match pollster::block_on(source.tenure()).map_err(BackendError::from)? {
            Some(last) if own != Some(last) => Err(MigrateCommandError::Elsewhere),
            _ => Ok(()),
        }
    }

    fn tenure(&self) -> Result<Option<Own>, MigrateCommandError> {
        Ok(tenure::load(&self.data).map_err(TakeOverError::from)?)
    }

    fn failed(&self, error: MigrateError) -> MigrateCommandError {
        match make_room(self.direction, self.config, &self.data, &error) {
            Some(remedy) => MigrateCommandError::Refused { error, remedy },
            None => MigrateCommandError::Failed(error),
        }
    }

    /// Brings everything that the journal holds into the source, as a start does.
    fn empty_journal<S: Store>(&mut self, source: &S, fence: Fence) -> Result<(), MigrateCommandError> {
        let folder = JournalFolder::open(&self.data.journal(), self.config.journal.segment_bytes)?;
        for segment in &self.found.segments {
            pollster::block_on(ingest(source, fence, slice::from_ref(segment)))?;
            folder.free(segment.number)?;
        }
        for &segment in &self.found.empty {
            folder.free(segment)?;
        }
        if self.found.batches > 0 {
            self.lines.note(&format!("{} batches of the journal have been brought into the store", self.found.batches));
        }
        Ok(())
    }
}

/// What the file of a migration says.
struct Mark {
    of: HistoryId,
    /// Whose the journal was, when everything has been moved.
    was: Option<Own>,
}

impl Mark {
    fn path(data: &DataDir) -> PathBuf {
        data.path().join(MIGRATION_FILE)
    }

    /// What an earlier attempt has left.
    fn read(data: &DataDir) -> Result<Option<Self>, MigrateCommandError> {
        let path = Self::path(data);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        let (id, was) = text.split_once('\n').unwrap_or_default();
        let of = u128::from_str_radix(id, 16).ok().map(HistoryId);
        Ok(of.map(|of| Self { of, was: tenure::parse(was).ok() }))
    }

    fn write(&self, data: &DataDir) -> Result<(), MigrateCommandError> {
        let path = Self::path(data);
        let was = self.was.map(tenure::text).unwrap_or_default();
        tenure::replace(&path, &format!("{:032x}\n{was}", self.of.0)).map_err(file_error(&path))
    }

    fn forget(data: &DataDir) -> Result<(), MigrateCommandError> {
        let path = Self::path(data);
        fs::remove_file(&path).map_err(file_error(&path))
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> MigrateCommandError {
    let path = path.to_owned();
    move |error| MigrateCommandError::File { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use storage::{Holder, Tenure};

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_not_at_all_when_it_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        assert!(Mark::read(&data).unwrap().is_none());
        let tenure = Tenure { holder: Holder(7), fence: Fence(9) };
        for was in [None, Some(Own { tenure, kind: Kind::Database })] {
            Mark { of: HistoryId(5), was }.write(&data).unwrap();
            let read = Mark::read(&data).unwrap().unwrap();
            assert_eq!((read.of, read.was), (HistoryId(5), was));
        }
        for text in ["", "05", "not a number\n"] {
            fs::write(Mark::path(&data), text).unwrap();
            assert!(Mark::read(&data).unwrap().is_none(), "{text:?}");
        }
    }
}
