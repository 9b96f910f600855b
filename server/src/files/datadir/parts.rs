//! Which folders belong together: the data folder, its `journal/` and its `store/` each have a file `ID` that says what they are, and the
//! same random id. So a part that is empty because its volume is not mounted, that was swapped with another, or that is from elsewhere is
//! told apart from the one that was left there.
//!
//! Owns these files. When they are looked at, and what that means for a start, is the data folder's.

use std::{
    fmt,
    fs::{self, File, OpenOptions, ReadDir},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rand::random;
use storage::embedded;
use thiserror::Error;

use super::{AUDIT_LOG, JOURNAL, STORE};

const ID: &str = "ID";
const ID_NEW: &str = "ID.new";

/// What a file system's maker puts into the root of every volume.
const LOST_AND_FOUND: &str = "lost+found";

/// A folder that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The data folder itself.
    Folder,
    /// Its journal.
    Journal,
    /// Its embedded store.
    Store,
}

impl Part {
    const ALL: [Self; 3] = [Self::Journal, Self::Store, Self::Folder];

    /// Within the data folder.
    const fn folder(self) -> &'static str {
        match self {
            Self::Folder => "",
            Self::Journal => JOURNAL,
            Self::Store => STORE,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Journal => "journal",
            Self::Store => "store",
        }
    }

    fn id_file(self, data_dir: &Path) -> PathBuf {
        data_dir.join(self.folder()).join(ID)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("the data folder"),
            Self::Journal | Self::Store => write!(f, "its folder {}", self.folder()),
        }
    }
}

/// Why a part is not the one that was left there.
#[derive(Debug, Error)]
pub enum PartError {
    /// There was something.
    #[error("{0} is empty, and it was not when the server last ran")]
    Empty(Part),
    /// Something is there, but not what the server left.
    #[error("{0} has no file ID, so it is not the one that the server left there")]
    Unnamed(Part),
    /// The file is damaged.
    #[error("the file ID of {part} is damaged: it says {found:?}, not `ringpost {}` and an id", part.word())]
    Unknown {
        /// Of which part.
        part: Part,
        /// What it says.
        found: String,
    },
    /// A part is in the place of another one.
    #[error("{part} is a {found} by its file ID, so two folders were swapped", found = found.word())]
    Swapped {
        /// Which.
        part: Part,
        /// What it is.
        found: Part,
    },
    /// Of another server, or of another time.
    #[error("{part} belongs to another data folder: its file ID says {found:032x}, that of the data folder {own:032x}")]
    Foreign {
        /// Which.
        part: Part,
        /// Its id.
        found: u128,
        /// That of the data folder.
        own: u128,
    },
    /// The system refused something.
    #[error("{}: {error}", path.display())]
    Io {
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

/// Names all parts, anew. Durable when this returns.
pub(super) fn make(data_dir: &Path) -> io::Result<()> {
    let id = random();
    Part::ALL.into_iter().try_for_each(|part| write(data_dir, part, id))
}

/// Names the store as its data folder is.
pub(super) fn name_store(data_dir: &Path) -> io::Result<()> {
    let id = read(data_dir, Part::Folder).map_err(io::Error::other)?;
    write(data_dir, Part::Store, id)
}

fn write(data_dir: &Path, part: Part, id: u128) -> io::Result<()> {
    let path = part.id_file(data_dir);
    let new = path.with_file_name(ID_NEW);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "ringpost {} {id:032x}", part.word())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(data_dir.join(part.folder()))?.sync_all()
}

/// Whether a part is the one that was left in this data folder.
pub(super) fn check(data_dir: &Path, part: Part) -> Result<(), PartError> {
    let own = read(data_dir, Part::Folder)?;
    let found = read(data_dir, part)?;
    if found == own { Ok(()) } else { Err(PartError::Foreign { part, found, own }) }
}

fn read(data_dir: &Path, part: Part) -> Result<u128, PartError> {
    let path = part.id_file(data_dir);
    let text = match fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = data_dir.join(part.folder());
            let is_unused = is_unused(fs::read_dir(&folder).map_err(io_error(&folder))?);
            return Err(if is_unused { PartError::Empty(part) } else { PartError::Unnamed(part) });
        }
        Err(error) => return Err(io_error(&path)(error)),
    };
    let parsed =
        parse(&text).ok_or_else(|| PartError::Unknown { part, found: text.trim_end().chars().take(80).collect() });
    match parsed? {
        (found, id) if found == part => Ok(id),
        (found, _) => Err(PartError::Swapped { part, found }),
    }
}

fn parse(text: &str) -> Option<(Part, u128)> {
    let (word, id) = text.strip_prefix("ringpost ")?.strip_suffix('\n')?.split_once(' ')?;
    let part = Part::ALL.into_iter().find(|part| part.word() == word)?;
    let is_whole = id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    Some((part, u128::from_str_radix(id, 16).ok().filter(|_| is_whole)?))
}

/// Whether nothing is in a folder but what a first start that was cut short, or the file system, has left there.
pub(super) fn is_unused(mut entries: ReadDir) -> bool {
    entries.all(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| is_name(name) || name == LOST_AND_FOUND))
    })
}

/// Whether a file of this name says what a folder is.
pub(super) fn is_name(name: &str) -> bool {
    matches!(name, ID | ID_NEW)
}

/// In the first format parts have no names. A server that has served has left segments, and has told the audit log so; a store with
/// rows is filled from segments.
pub(super) fn check_first_format_journal(data_dir: &Path) -> Result<(), PartError> {
    let has_segments = has_segments(data_dir)?;
    let has_served = has_served(data_dir)? || embedded::has_rows(&data_dir.join(STORE));
    if has_served && !has_segments { Err(PartError::Empty(Part::Journal)) } else { Ok(()) }
}

/// The same of the embedded store, which was made before the first segment.
pub(super) fn check_first_format_store(data_dir: &Path) -> Result<(), PartError> {
    let has_served = has_segments(data_dir)? || has_served(data_dir)?;
    if has_served && !embedded::was_made(&data_dir.join(STORE)) { Err(PartError::Empty(Part::Store)) } else { Ok(()) }
}

fn has_segments(data_dir: &Path) -> Result<bool, PartError> {
    let folder = data_dir.join(JOURNAL);
    let mut entries = fs::read_dir(&folder).map_err(io_error(&folder))?;
    let is_segment =
        |name: &Path| name.extension().is_some_and(|extension| extension == "journal" || extension == "free");
    Ok(entries.any(|entry| entry.is_ok_and(|entry| is_segment(&entry.path()))))
}

fn has_served(data_dir: &Path) -> Result<bool, PartError> {
    let log = data_dir.join(AUDIT_LOG);
    match fs::metadata(&log) {
        Ok(log) => Ok(log.len() > 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(&log)(error)),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PartError {
    let path = path.to_owned();
    move |error| PartError::Io { path, error }
}
