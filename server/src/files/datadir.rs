//! Data folder: everything durable of one server, held by one process at a time.
//!
//! `LOCK` (flock), `FORMAT` (`ringpost 5`), `ID`, `token-key.pem`, `tls-cert.pem` and `tls-key.pem` if the server made itself a
//! certificate, `revocations`, `audit.log`, `admin.sock`, `journal/`, `store/`. `FORMAT` is written last, when
//! everything else is there: a folder with it is whole, a folder without it was never used. `journal/` and `store/` may be
//! volumes of their own, so each names the data folder that it belongs to (`parts`). A folder that is refused is left as it was, to
//! the byte.
//!
//! In the first format nothing had a name, and what tells of a history was looked for instead. Such a folder becomes one of this format when a
//! start has brought in what its journal holds, before anything is written that an older server would misunderstand.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    files::{
        keyfile::{self, KeyFileError},
        permission::{AccessError, Privacy, check_folder},
        tenure::TENURE_FILE,
    },
    limits::SMALL_FILE_BYTES_MAX,
};

mod parts;

use parts::{Part, PartError};

/// The version of everything in the folder. Grows when a server that knows only the old one could not read it.
pub const FORMAT_VERSION: u32 = 5;

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const TOKEN_KEY: &str = "token-key.pem";
const TOKEN_KEY_NEW: &str = "token-key.pem.new";
const TLS_CERTIFICATE: &str = "tls-cert.pem";
const TLS_KEY: &str = "tls-key.pem";
pub(crate) const REVOCATIONS: &str = "revocations";
pub(crate) const AUDIT_LOG: &str = "audit.log";
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const STORE: &str = "store";

/// What others on this machine may do with the parts of a folder, beside the keys, which are judged where they are read. Files in
/// `journal` and `store` need no more than that nobody else gets to them.
const PARTS: [(&str, Privacy); 7] = [
    (JOURNAL, Privacy::Private),
    (STORE, Privacy::Private),
    (REVOCATIONS, Privacy::Private),
    (LOCK, Privacy::Seen),
    (FORMAT, Privacy::Seen),
    (AUDIT_LOG, Privacy::Seen),
    (TENURE_FILE, Privacy::Seen),
];

/// Why a folder can not be used. It is as it was before.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// A running server has it.
    #[error(
        "{path}: this data folder is in use by another process (`fuser {path}/LOCK` names it): stop that one, or choose \
         another folder with --data",
        path = path.display()
    )]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
    /// Written by a newer server.
    #[error(
        "{path}: this data folder has format {found}, and this server knows up to {FORMAT_VERSION}: use the newer \
         server that wrote it",
        path = path.display()
    )]
    Newer {
        /// Which folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Somebody else's folder.
    #[error(
        "{path}: this folder is not empty and not a Ringpost data folder (it has `{entry}` and no FORMAT): choose an \
         empty or new folder with --data",
        path = path.display()
    )]
    NotRingpost {
        /// Which folder.
        path: PathBuf,
        /// Something that is in it.
        entry: String,
    },
    /// Nothing there, or nothing that a server has used.
    #[error("{path}: no server has ever used this as its data folder: name the right one with --data or --config",
        path = path.display())]
    Unused {
        /// Which folder.
        path: PathBuf,
    },
    /// Parts of it are missing or changed.
    #[error("{path}: this data folder is damaged: {what}. Restore it from a backup, or choose another one with --data",
        path = path.display())]
    Damaged {
        /// Which folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others can get at it, or it is another user's.
    #[error(transparent)]
    Access(#[from] Box<AccessError>),
    /// Its key could not be made.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A folder of it is not the one that was left there.
    #[error(
        "{path}: {what}. This server would begin without the history, so it does not start. Mount the volume that belongs there, or \
         restore journal/ and store/ from one backup. To begin anew without the history, choose a new folder with --data",
        path = path.display()
    )]
    Lost {
        /// Which folder.
        path: PathBuf,
        /// What is there instead.
        what: PartError,
    },
    /// Something else is there.
    #[error("{path}: this is a file, and the data is kept in a folder: choose another path with --data", path = path.display())]
    NotAFolder {
        /// What is a file.
        path: PathBuf,
    },
    /// Nothing can be made there.
    #[error("{path}: {why}: choose another folder with --data, or let its owner allow it",
        path = path.display())]
    ReadOnly {
        /// The folder in which nothing can be made.
        path: PathBuf,
        /// Why nothing can be made.
        why: &'static str,
    },
    /// The system refused something.
    #[error("{path}: {what}: {error}", path = path.display())]
    Io {
        /// Which folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

/// A data folder that is this process's until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not used"))]
    lock: Lock,
}

/// A file that is locked until the value is dropped, or the process ends, however it ends.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing alone does not unlock while a process that another thread starts has a copy of the file, which it has till
    /// it runs its program.
    fn drop(&mut self) {
        // What can not be unlocked is closed with this value all the same.
        let _ = self.0.unlock();
    }
}

/// What a look at a folder tells.
enum Found {
    /// Nothing, or what a first start that was cut short left behind.
    Fresh,
    /// A whole data folder, of this format.
    Ours(u32),
}

/// What a start would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No folder, or one that no server has used.
    New,
    /// A whole data folder.
    Used,
    /// One that another process has at the moment.
    InUse,
}

impl DataDir {
    /// What [`DataDir::open`] would find; changes nothing.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn look_at(path: &Path) -> Result<Look, DataDirError> {
        let existing = path.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
        let existing = existing.unwrap_or(Path::new("."));
        if !existing.is_dir() {
            return Err(DataDirError::NotAFolder { path: existing.to_owned() });
        }
        if path != existing {
            return check_writable(existing).map(|()| Look::New);
        }
        let path = &fs::canonicalize(path).map_err(|error| io_error(path, "can not find the folder", error))?;
        let found = look(path)?;
        match check_access(path) {
            Err(DataDirError::InUse { .. }) => return Ok(Look::InUse),
            checked => checked?,
        }
        check_writable(path)?;
        match found {
            Found::Fresh => Ok(Look::New),
            Found::Ours(_) if is_in_use(path) => Ok(Look::InUse),
            Found::Ours(_) => Ok(Look::Used),
        }
    }

    /// Takes the folder, which is made if it does not exist.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        Self::open_making(path, |_| Ok(()))
    }

    /// As [`DataDir::open`]. A new folder gets a key that signs tokens; one that has been used keeps what it has, or has lost.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open_with_key(path: &Path) -> Result<Self, DataDirError> {
        Self::open_making(path, |path| keyfile::create_if_missing(&token_key_path(path)))
    }

    fn open_making(path: &Path, make: impl FnOnce(&Path) -> Result<(), KeyFileError>) -> Result<Self, DataDirError> {
        create_folder(path).map_err(|error| io_error(path, "can not make the folder", error))?;
        let path = &fs::canonicalize(path).map_err(|error| io_error(path, "can not find the folder", error))?;
        // First a look, because taking the lock makes a file; then again, because somebody may have been faster.
        look(path)?;
        check_access(path)?;
        let lock = take_lock(path)?;
        match look(path)? {
            Found::Ours(_) => {}
            Found::Fresh => {
                make(path)?;
                set_up(path).map_err(|error| io_error(path, "can not set up the folder", error))?;
            }
        }
        Ok(Self { path: path.clone(), lock })
    }

    /// Takes a folder that a server has used. Never makes one.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        let path = &match fs::canonicalize(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(DataDirError::Unused { path: path.to_owned() });
            }
            found => found.map_err(|error| io_error(path, "can not find the folder", error))?,
        };
        match look(path)? {
            Found::Fresh => return Err(DataDirError::Unused { path: path.clone() }),
            Found::Ours(_) => {}
        }
        check_access(path)?;
        let lock = take_lock(path)?;
        // Again: somebody may have been faster.
        look(path)?;
        Ok(Self { path: path.clone(), lock })
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal's segments live.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Where it is remembered whose tokens are void.
    #[must_use]
    pub fn revocations(&self) -> PathBuf {
        self.path.join(REVOCATIONS)
    }

    /// Where it is written down who came and who was refused.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.path.join(AUDIT_LOG)
    }

    /// Where the store lives, if it is the embedded one.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Where it is remembered whose the journal is. In the journal's folder: they stay together.
    #[must_use]
    pub fn tenure_file(&self) -> PathBuf {
        self.journal().join(TENURE_FILE)
    }

    /// Where that was in the first format.
    #[must_use]
    pub fn old_tenure_file(&self) -> PathBuf {
        self.path.join(TENURE_FILE)
    }

    /// Whether the folder of the embedded store is the one that was left there. Only whoever uses that store needs to know.
    ///
    /// # Errors
    /// It is empty, or another's.
    pub fn check_store(&self) -> Result<(), DataDirError> {
        check_store(&self.path)
    }

    /// Makes an empty folder the one of the embedded store: the operator has made room there for a history that is to be moved into it.
    /// Another one is left as it is.
    ///
    /// # Errors
    /// The system refused something.
    pub fn adopt_store(&self) -> Result<(), DataDirError> {
        match self.check_store() {
            Err(DataDirError::Lost { what: PartError::Empty(Part::Store), .. }) => {
                parts::name_store(&self.path).map_err(|error| io_error(&self.path, "can not write store/ID", error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a folder of an earlier format one of this: the parts of the first have no names, the logs of the second no epochs, the third has
    /// them, and what its devices sent last, under other keys; the fourth knows nothing of presence, nor to whom a user has written. Its
    /// journal must be empty: what is written from now on is not understood by servers of before.
    ///
    /// # Errors
    /// The system refused something; the next attempt goes on.
    pub fn upgrade(&self) -> Result<(), DataDirError> {
        let names = match self.format()? {
            FORMAT_VERSION => return Ok(()),
            1 => parts::make(&self.path),
            _ => Ok(()),
        };
        let upgraded = names.and_then(|()| write_format(&self.path));
        upgraded.map_err(|error| io_error(&self.path, "can not make it a folder of the present format", error))
    }

    /// Whether the store does not know the last message of each conversation, or not whether it is the user's own: those of earlier formats
    /// do not.
    ///
    /// # Errors
    /// The folder can not be read.
    pub fn lacks_last_messages(&self) -> Result<bool, DataDirError> {
        Ok(self.format()? < FORMAT_VERSION)
    }

    fn format(&self) -> Result<u32, DataDirError> {
        format_of(&self.path)
    }
}

/// As [`DataDir::check_store`], of a folder that nobody has taken. Changes nothing.
///
/// # Errors
/// As [`DataDir::check_store`].
pub fn check_store(path: &Path) -> Result<(), DataDirError> {
    let checked = match format_of(path)? {
        1 => parts::check_first_format_store(path),
        _ => parts::check(path, Part::Store),
    };
    checked.map_err(lost(path))
}

fn format_of(path: &Path) -> Result<u32, DataDirError> {
    match look(path)? {
        Found::Ours(format) => Ok(format),
        Found::Fresh => Err(DataDirError::Unused { path: path.to_owned() }),
    }
}

/// Whether a server has used this as its data folder.
#[must_use]
pub fn is_used(path: &Path) -> bool {
    path.join(FORMAT).exists()
}

/// Where the key that signs tokens lives in a data folder. Reading it needs no lock: it never changes.
#[must_use]
pub fn token_key_path(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN_KEY)
}

/// Where a certificate that the server has made itself is, and its key.
#[must_use]
pub fn tls_paths(data_dir: &Path) -> (PathBuf, PathBuf) {
    (data_dir.join(TLS_CERTIFICATE), data_dir.join(TLS_KEY))
}

/// Makes a folder, and those above it that are missing. Their names are durable when this returns: what is in a folder whose
/// name is lost is lost with it.
fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_folder(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Somebody was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

/// Reads only.
fn look(path: &Path) -> Result<Found, DataDirError> {
    if let Some(format) = read_format(path)? {
        return check_format(path, &format).map(Found::Ours);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(|error| io_error(path, "can not list the folder", error))? {
        let name = entry.file_name();
        let is_left_over = match name.to_str() {
            Some(LOCK | FORMAT_NEW | TOKEN_KEY | TOKEN_KEY_NEW) => true,
            Some(JOURNAL | STORE) => fs::read_dir(entry.path()).is_ok_and(parts::is_unused),
            Some(name) => parts::is_name(name),
            None => false,
        };
        if !is_left_over {
            let entry = name.to_string_lossy().into_owned();
            return Err(DataDirError::NotRingpost { path: path.to_owned(), entry });
        }
    }
    Ok(Found::Fresh)
}

fn read_format(path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    let mut format = Vec::new();
    let read = File::open(path.join(FORMAT)).and_then(|file| file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut format));
    match read {
        Ok(_) => Ok(Some(format)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, "can not read its file FORMAT", error)),
    }
}

fn check_format(path: &Path, format: &[u8]) -> Result<u32, DataDirError> {
    let damaged = |what| DataDirError::Damaged { path: path.to_owned(), what };
    let version = std::str::from_utf8(format)
        .ok()
        .and_then(|text| text.strip_prefix("ringpost ")?.strip_suffix('\n')?.parse::<u32>().ok());
    let version = match version {
        None | Some(0) => return Err(damaged("its file FORMAT does not say `ringpost` and a number".to_owned())),
        Some(found) if found > FORMAT_VERSION => return Err(DataDirError::Newer { path: path.to_owned(), found }),
        Some(version) => version,
    };
    // A server that made an empty journal in the place of a lost one would lose messages without a word.
    if let Some(missing) = [JOURNAL, STORE].into_iter().find(|name| !path.join(name).is_dir()) {
        return Err(damaged(format!("its folder {missing} is missing")));
    }
    let checked = match version {
        1 => parts::check_first_format_journal(path),
        _ => parts::check(path, Part::Folder).and_then(|()| parts::check(path, Part::Journal)),
    };
    checked.map(|()| version).map_err(lost(path))
}

/// Before the lock, which makes a file. A folder that is in use is that first of all: whoever serves there may be asked.
fn check_access(path: &Path) -> Result<(), DataDirError> {
    match check_folder(path, &PARTS) {
        Err(_) if is_in_use(path) => Err(DataDirError::InUse { path: path.to_owned() }),
        Err(error) => Err(match parts::check(path, Part::Store) {
            // The mount point of a volume is another's as a rule: that the volume is missing comes first.
            Err(empty @ PartError::Empty(Part::Store)) => lost(path)(empty),
            _ => error.into(),
        }),
        Ok(()) => Ok(()),
    }
}

fn is_in_use(path: &Path) -> bool {
    let file = File::open(path.join(LOCK)).map(Lock);
    file.is_ok_and(|file| matches!(file.0.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Makes a file that has no name and ends with this call: what that needs is what a start needs.
fn check_writable(path: &Path) -> Result<(), DataDirError> {
    let made = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(path);
    let why = match made.map_err(|error| error.kind()) {
        Err(ErrorKind::PermissionDenied) => "this user may not write here",
        Err(ErrorKind::ReadOnlyFilesystem) => "this file system is read-only",
        // Not every file system has such files: then the start finds out.
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(DataDirError::ReadOnly { path: path.to_owned(), why })
}

fn take_lock(path: &Path) -> Result<Lock, DataDirError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
    let file = open.map_err(|error| io_error(path, "can not open its file LOCK", error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(path, "can not lock its file LOCK", error)),
    }
}

fn set_up(path: &Path) -> io::Result<()> {
    for name in [JOURNAL, STORE] {
        create_folder(&path.join(name))?;
    }
    parts::make(path)?;
    write_format(path)
}

fn write_format(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    let fresh = path.join(FORMAT_NEW);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(format!("ringpost {FORMAT_VERSION}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path.join(FORMAT))?;
    File::open(path)?.sync_all()
}

fn lost(path: &Path) -> impl FnOnce(PartError) -> DataDirError {
    let path = path.to_owned();
    move |what| match what {
        PartError::Io { path, error } => DataDirError::Io { path, what: "can not look at it", error },
        what => DataDirError::Lost { path, what },
    }
}

fn io_error(path: &Path, what: &'static str, error: io::Error) -> DataDirError {
    DataDirError::Io { path: path.to_owned(), what, error }
}

#[cfg(test)]
mod tests;
