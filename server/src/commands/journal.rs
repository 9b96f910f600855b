//! `ringpost journal`: what an operator sees of the journal of a stopped server, and does with it. Of a running one it tells
//! the status, from its metrics: the rest that server does by itself.
//!
//! Owns the five actions and their words; what is whole and where damage begins is `survey`'s, the form of a record
//! `show`'s, the change to disk that only replay makes is here. Holds the data folder's lock from its first look to its end.
//!
//! Invariants: all but replay change nothing in the data folder; nothing that could not be read is ever deleted; between
//! any two steps of a replay a crash leaves a journal that is either still refused or holds nothing but what is whole.

mod show;
mod survey;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    slice,
    time::{SystemTime, UNIX_EPOCH},
};

use proto_spec::UserId;
use rim::utc::utc;
use storage::{
    IngestError, IngestReport, Store, ingest,
    journal::{JournalError, JournalFolder, format::SegmentHeaderError},
};
use thiserror::Error;

use crate::{
    commands::backend::{BackendError, UseStore, with_history},
    config::Config,
    files::{
        datadir::{DataDir, DataDirError},
        tenure::{Extent, Held, TakeOverError, take_over},
    },
    operator::control,
};

pub use show::Text;
use survey::{Damage, Survey, survey};

/// What an operator reads when a damaged journal keeps the server from starting.
pub const WAY_ON: &str = "`ringpost journal verify` looks closer, `ringpost journal export FILE` saves what is whole, \
                          `ringpost journal replay --up-to-damage` goes on without the rest";

/// What an operator reads of a journal that cannot be read.
#[must_use]
pub fn unreadable(error: &JournalError) -> String {
    match error {
        JournalError::Io { .. } | JournalError::Header { reason: SegmentHeaderError::Newer { .. }, .. } => {
            error.to_string()
        }
        JournalError::Damaged { .. } | JournalError::Header { .. } => format!("{error}; {WAY_ON}"),
    }
}

/// What to do with a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell what it holds.
    Status,
    /// Tell it record by record.
    List(List),
    /// Read everything and judge it.
    Verify,
    /// Write everything into this new file.
    Export(PathBuf),
    /// Bring it into the store.
    Replay(OnDamage),
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Records of this user's log only.
    pub user: Option<UserId>,
    /// No more than these.
    pub records_max: Option<u64>,
    /// Whether to show what people wrote.
    pub text: Text,
}

/// What a replay does with a damaged journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Nothing at all.
    Refuse,
    /// Takes what is whole before the damage, and moves the damaged file and all later ones aside.
    SetAside,
}

/// Why an action was not done, or what it found.
#[derive(Debug, Error)]
pub enum JournalCommandError {
    /// The folder cannot be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Another process has the folder, and it does not say how far it is.
    #[error("{error}; it did not answer on admin.sock there ({reason}): it is no server, or one that is just starting")]
    Running {
        /// Which folder.
        error: DataDirError,
        /// Why it did not.
        reason: io::Error,
    },
    /// The journal's files cannot be read, or this version is too old for them.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something durable has changed or is missing.
    #[error("{} is damaged at offset {offset}: {reason}\n{consequence}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
        /// What that means for the action.
        consequence: String,
    },
    /// The file to export to is there already.
    #[error("{} exists already: an export overwrites nothing", .0.display())]
    Exists(PathBuf),
    /// A file or folder of the action's own.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is no store to bring it into.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// It does not belong into the store.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The store did not take what the journal holds.
    #[error("the journal cannot be brought into the store: {0}")]
    Ingest(#[from] IngestError),
    /// Nobody reads what the action says.
    #[error("stdout: {0}")]
    Output(io::Error),
}

/// Does it with the data folder of this configuration, and says on `out` what there is to say. `now` names a folder for
/// what is set aside.
///
/// # Errors
/// The folder is in use, is none, or something in it cannot be read; or the journal is damaged and that matters to the action.
pub fn run(action: &Action, config: &Config, now: SystemTime, out: &mut impl Write) -> Result<(), JournalCommandError> {
    let data = match (DataDir::open_existing(&config.data_dir), action) {
        (Ok(data), _) => data,
        (Err(error @ DataDirError::InUse { .. }), Action::Status) => {
            let metrics = control::ask_metrics(&config.data_dir);
            let metrics = metrics.map_err(|reason| JournalCommandError::Running { error, reason })?;
            return say(out, &show::running(&metrics));
        }
        (Err(error), _) => return Err(error.into()),
    };
    match action {
        Action::Status => status(&data, out),
        Action::List(what) => list(&data, *what, out),
        Action::Verify => verify(&data, out),
        Action::Export(file) => export(&data, file, out),
        Action::Replay(on_damage) => replay(&data, config, *on_damage, now, out),
    }
}

fn status(data: &DataDir, out: &mut impl Write) -> Result<(), JournalCommandError> {
    let survey = survey(&data.journal())?;
    say(out, &show::status(&data.journal(), &survey))
}

fn list(data: &DataDir, what: List, out: &mut impl Write) -> Result<(), JournalCommandError> {
    let survey = survey(&data.journal())?;
    let mut left = what.records_max.unwrap_or(u64::MAX);
    let listed = survey.each_record(|located| {
        if left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        if what.user.is_none_or(|user| survey::owner_of(&located.record) == user.into()) {
            left -= 1;
            writeln!(out, "{}", show::columns(located, what.text)).map_err(JournalCommandError::Output)?;
        }
        Ok(ControlFlow::Continue(()))
    });
    match listed.and_then(|()| out.flush().map_err(JournalCommandError::Output)) {
        // `list | head` has seen enough.
        Err(JournalCommandError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        listed => listed?,
    }
    refuse(&survey, "this is the list of what stands before it".into())
}

fn verify(data: &DataDir, out: &mut impl Write) -> Result<(), JournalCommandError> {
    let survey = survey(&data.journal())?;
    say(out, &show::whole(&survey))?;
    refuse(&survey, format!("nothing was changed; {WAY_ON}"))
}

fn export(data: &DataDir, path: &Path, out: &mut impl Write) -> Result<(), JournalCommandError> {
    let survey = survey(&data.journal())?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            JournalCommandError::Exists(path.to_owned())
        } else {
            file_error(path)(error)
        }
    })?;
    let written = write_lines(&survey, file, path);
    if written.is_err() {
        // Our own file of a moment ago: half an export would be taken for a whole one.
        let _ = fs::remove_file(path);
    }
    written?;
    say(out, &format!("{} records of {} batches are in {}\n", survey.records(), survey.batches(), path.display()))?;
    refuse(&survey, format!("{} has what stands before it, and nothing of what follows", path.display()))
}

fn write_lines(survey: &Survey, file: File, path: &Path) -> Result<(), JournalCommandError> {
    let mut lines = BufWriter::new(file);
    survey.each_record(|located| {
        writeln!(lines, "{}", show::json(located)).map_err(file_error(path))?;
        Ok(ControlFlow::Continue(()))
    })?;
    let file = lines.into_inner().map_err(|error| file_error(path)(error.into_error()))?;
    file.sync_all().map_err(file_error(path))
}

/// The steps of a start, with the store's answers told.
fn replay(
    data: &DataDir,
    config: &Config,
    on_damage: OnDamage,
    now: SystemTime,
    out: &mut impl Write,
) -> Result<(), JournalCommandError> {
    let survey = survey(&data.journal())?;
    match on_damage {
        OnDamage::Refuse => refuse(&survey, format!("nothing was changed; {WAY_ON}"))?,
        OnDamage::SetAside => {}
    }
    with_history(config, data, Replay { data, config, survey, now, out })?
}

/// What is replayed into a store.
struct Replay<'a, W> {
    data: &'a DataDir,
    config: &'a Config,
    survey: Survey,
    now: SystemTime,
    out: &'a mut W,
}

impl<W: Write> UseStore for Replay<'_, W> {
    type Output = Result<(), JournalCommandError>;

    /// With damage the order of the steps is what keeps a crash harmless: nothing is freed before the damage is out of the way,
    /// because the segments before a gap are what tells that it is one.
    fn with<S: Store>(self, store: S) -> Self::Output {
        let Self { data, config, survey, now, out } = self;
        // Who has nothing to bring ends no server that has the store.
        let extent = if survey.damage.is_none() { Extent::Whole } else { Extent::UpToDamage };
        let held = Held { batches: survey.batches(), lanes: &survey.lanes, extent };
        let fence = (held.batches > 0).then(|| take_over(&store, data, held)).transpose()?;
        let folder = JournalFolder::open(&data.journal(), config.journal.segment_bytes)?;
        let segments = survey.whole.len();
        for (index, segment) in survey.whole.iter().enumerate() {
            let report = match fence {
                Some(fence) => pollster::block_on(ingest(&store, fence, slice::from_ref(segment)))?,
                None => IngestReport::default(),
            };
            if survey.damage.is_none() {
                folder.free(segment.number)?;
            }
            let (nth, number) = (index + 1, segment.number);
            let taken = format!("{} batches, {} records", report.batches, report.records);
            say(out, &format!("segment {number} ({nth} of {segments}): {taken} are in the store\n"))?;
        }
        if let Some(damage) = &survey.damage {
            let aside = set_aside(&data.journal(), damage, &show::loss(&survey, damage), now)?;
            say(out, &format!("{}moved into {}\n", show::loss(&survey, damage), aside.display()))?;
            for segment in survey.whole.iter().filter(|segment| segment.number < damage.first_number()) {
                folder.free(segment.number)?;
            }
        }
        for &number in &survey.empty {
            folder.free(number)?;
        }
        let (batches, records) = (survey.batches(), survey.records());
        say(out, &format!("done: {batches} batches, {records} records; the journal is empty, the server can start\n"))
    }
}

/// Moves the damaged file and all later ones into a new folder beside them, with `loss` as a note. The last file goes
/// first: were the damaged one gone and a later one not, a start would take that for the whole journal.
fn set_aside(journal: &Path, damage: &Damage, loss: &str, now: SystemTime) -> Result<PathBuf, JournalCommandError> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs());
    let aside = journal.join(format!("damaged-{}Z", utc(seconds, '-')));
    DirBuilder::new().mode(0o700).create(&aside).map_err(file_error(&aside))?;
    sync(journal)?;
    let note = aside.join("report.txt");
    fs::write(&note, loss).and_then(|()| File::open(&note)?.sync_all()).map_err(file_error(&note))?;
    for file in damage.files.iter().rev() {
        let name = file.path.file_name().expect("a segment has a name");
        fs::rename(&file.path, aside.join(name)).map_err(file_error(&file.path))?;
        sync(&aside)?;
        sync(journal)?;
    }
    Ok(aside)
}

fn sync(folder: &Path) -> Result<(), JournalCommandError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(file_error(folder))
}

/// An error if there is damage.
fn refuse(survey: &Survey, consequence: String) -> Result<(), JournalCommandError> {
    match &survey.damage {
        None => Ok(()),
        Some(Damage { path, offset, reason, .. }) => Err(JournalCommandError::Damaged {
            path: path.clone(),
            offset: *offset,
            reason: reason.clone(),
            consequence,
        }),
    }
}

fn say(out: &mut impl Write, text: &str) -> Result<(), JournalCommandError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(JournalCommandError::Output)
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> JournalCommandError {
    let path = path.to_owned();
    move |error| JournalCommandError::File { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use storage::journal::{SealedSegment, SegmentNumber};

    use super::*;

    #[test]
    fn the_damaged_file_is_set_aside_last() {
        let journal = tempfile::tempdir().unwrap();
        let file = |number| SealedSegment {
            number: SegmentNumber(number),
            path: journal.path().join(format!("{number}.journal")),
            end: 0,
        };
        let files: Vec<_> = (1..=3).map(file).collect();
        // The first one is not there, so moving it fails: by then the others must be gone.
        files[1..].iter().for_each(|file| fs::write(&file.path, "records").unwrap());
        let path = files[0].path.clone();
        let damage = Damage { path, offset: 0, reason: String::new(), files, behind: Vec::new() };
        let refused = set_aside(journal.path(), &damage, "", UNIX_EPOCH).unwrap_err().to_string();
        assert!(refused.contains("1.journal: "), "{refused}");
        let aside = journal.path().join("damaged-1970-01-01T00-00-00Z");
        assert!(aside.join("2.journal").exists() && aside.join("3.journal").exists());
    }
}
