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
    // Unlocked when it is closed, also by the end of the process, however it ends.
    _lock: File,
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
        Ok(Self { path: path.clone(), _lock: lock })
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
        Ok(Self { path: path.clone(), _lock: lock })
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
    let lock = File::open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
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

fn take_lock(path: &Path) -> Result<File, DataDirError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
    let file = open.map_err(|error| io_error(path, "can not open its file LOCK", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
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
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use super::*;

    struct World {
        _outer: tempfile::TempDir,
        path: PathBuf,
    }

    impl World {
        fn new() -> Self {
            let outer = tempfile::tempdir().unwrap();
            Self { path: outer.path().canonicalize().unwrap().join("data"), _outer: outer }
        }

        /// A folder that a server has used and left.
        fn used() -> Self {
            let world = Self::new();
            let data = DataDir::open(&world.path).unwrap();
            fs::write(data.journal().join("0001"), "records").unwrap();
            world
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::create_dir_all(&self.path).unwrap();
            fs::write(self.path.join(name), bytes).unwrap();
        }

        /// Tries to open the folder and checks that this changed nothing; the error must name the folder.
        fn refused(&self) -> DataDirError {
            let before = snapshot(&self.path);
            let error = DataDir::open(&self.path).unwrap_err();
            assert_eq!(before, snapshot(&self.path), "{error}");
            assert!(error.to_string().contains(self.path.to_str().unwrap()), "{error}");
            error
        }
    }

    /// Every path below `root` with its mode and its bytes.
    fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                let bytes = if path.is_dir() { None } else { Some(fs::read(&path).unwrap()) };
                if bytes.is_none() {
                    folders.push(path.clone());
                }
                found.insert(path, (mode, bytes));
            }
        }
        found
    }

    #[test]
    fn a_first_start_makes_the_folder_for_its_owner_alone() {
        let world = World::new();
        let data = DataDir::open(&world.path).unwrap();
        assert_eq!(data.path(), world.path);
        assert_eq!(fs::metadata(&world.path).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
        assert!(data.journal().is_dir() && data.store().is_dir());
        let relative = |path: PathBuf| path.strip_prefix(&world.path).unwrap().to_str().unwrap().to_owned();
        let names: Vec<_> = snapshot(&world.path).into_keys().map(relative).collect();
        assert_eq!(names, ["FORMAT", "ID", "LOCK", "journal", "journal/ID", "store", "store/ID"]);
        data.check_store().unwrap();
    }

    #[test]
    fn a_second_start_finds_the_folder_as_it_was_left() {
        let world = World::used();
        let before = snapshot(&world.path);
        drop(DataDir::open(&world.path).unwrap());
        assert_eq!(before, snapshot(&world.path));
    }

    #[test]
    fn a_folder_that_no_server_has_used_is_not_made_one_by_who_wants_an_existing_one() {
        let world = World::new();
        assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::Unused { .. })));
        assert!(!world.path.exists());
        fs::create_dir(&world.path).unwrap();
        assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::Unused { .. })));
        assert!(snapshot(&world.path).is_empty());
        let first = DataDir::open(&world.path).unwrap();
        assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::InUse { .. })));
        drop(first);
        DataDir::open_existing(&world.path).unwrap();
    }

    #[test]
    fn an_empty_folder_of_somebody_else_will_do() {
        let world = World::new();
        fs::create_dir(&world.path).unwrap();
        DataDir::open(&world.path).unwrap();
    }

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_free() {
        let world = World::new();
        let first = DataDir::open(&world.path).unwrap();
        assert!(matches!(world.refused(), DataDirError::InUse { .. }));
        drop(first);
        DataDir::open(&world.path).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_even_without_a_lock_file() {
        let world = World::used();
        fs::remove_file(world.path.join("LOCK")).unwrap();
        world.write("FORMAT", b"ringpost 6\n");
        assert!(matches!(world.refused(), DataDirError::Newer { found: 6, .. }));
    }

    #[test]
    fn a_damaged_format_is_refused() {
        for format in
            ["", "ringpost", "ringpost \n", "ringpost 1", "ringpost 0\n", "ringpost -1\n", "\0\0\0", "mango 1\n"]
        {
            let world = World::used();
            world.write("FORMAT", format.as_bytes());
            assert!(matches!(world.refused(), DataDirError::Damaged { .. }), "{format:?}");
        }
    }

    #[test]
    fn an_unreadable_format_is_refused() {
        let world = World::used();
        fs::remove_file(world.path.join("FORMAT")).unwrap();
        fs::create_dir(world.path.join("FORMAT")).unwrap();
        assert!(matches!(world.refused(), DataDirError::Io { .. }));
    }

    #[test]
    fn a_missing_journal_or_store_is_damage_and_not_a_fresh_start() {
        for name in ["journal", "store"] {
            let world = World::used();
            fs::remove_dir_all(world.path.join(name)).unwrap();
            assert!(world.refused().to_string().contains(&format!("its folder {name} is missing")));
        }
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let world = World::new();
        world.write("thesis.txt", b"all my work");
        let error = world.refused();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
    }

    #[test]
    fn a_used_folder_that_lost_its_format_is_refused() {
        let world = World::used();
        fs::remove_file(world.path.join("FORMAT")).unwrap();
        assert!(matches!(world.refused(), DataDirError::NotRingpost { .. }));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_refused() {
        let world = World::new();
        fs::write(&world.path, "a file").unwrap();
        let error = DataDir::open(&world.path).unwrap_err();
        assert!(error.to_string().contains(world.path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&world.path).unwrap(), b"a file");
    }

    #[test]
    fn a_key_is_made_with_the_folder_and_never_again() {
        let world = World::new();
        drop(DataDir::open_with_key(&world.path).unwrap());
        let key = token_key_path(&world.path);
        keyfile::load_signing_key(&key).unwrap();
        fs::remove_file(&key).unwrap();
        drop(DataDir::open_with_key(&world.path).unwrap());
        assert!(!key.exists());
    }

    #[test]
    fn a_key_that_was_there_first_is_that_of_the_folder() {
        let world = World::new();
        create_folder(&world.path).unwrap();
        keyfile::create_if_missing(&token_key_path(&world.path)).unwrap();
        let key = fs::read(token_key_path(&world.path)).unwrap();
        drop(DataDir::open_with_key(&world.path).unwrap());
        assert_eq!(fs::read(token_key_path(&world.path)).unwrap(), key);
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_carried_on() {
        let steps = [
            "LOCK",
            "token-key.pem.new",
            "token-key.pem",
            "journal",
            "store",
            "journal/ID.new",
            "journal/ID",
            "store/ID",
            "ID",
            "FORMAT.new",
        ];
        for done in 1..=steps.len() {
            let world = World::new();
            for name in &steps[..done] {
                match *name {
                    "journal" | "store" => create_folder(&world.path.join(name)).unwrap(),
                    _ => world.write(name, b""),
                }
            }
            DataDir::open(&world.path).unwrap().check_store().unwrap();
            assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
            assert!(!world.path.join("FORMAT.new").exists());
        }
    }

    /// What a volume that is not mounted leaves to be seen.
    fn empty(folder: &Path) {
        fs::remove_dir_all(folder).unwrap();
        create_folder(folder).unwrap();
    }

    #[test]
    fn an_empty_journal_or_store_is_lost_history_and_no_first_start() {
        let world = World::used();
        let kept = world.path.join("kept");
        fs::rename(world.path.join("journal"), &kept).unwrap();
        fs::create_dir(world.path.join("journal")).unwrap();
        let refused = world.refused().to_string();
        assert!(refused.contains("its folder journal is empty") && refused.contains("Mount the volume"), "{refused}");
        fs::create_dir(world.path.join("journal/lost+found")).unwrap();
        assert!(world.refused().to_string().contains("its folder journal is empty"), "an empty volume of ext4");
        fs::remove_dir_all(world.path.join("journal")).unwrap();
        fs::rename(kept, world.path.join("journal")).unwrap();

        empty(&world.path.join("store"));
        // Where the history is in a database, nobody needs it.
        let data = DataDir::open(&world.path).unwrap();
        let before = snapshot(&world.path);
        let refused = data.check_store().unwrap_err().to_string();
        assert!(refused.contains("its folder store is empty") && refused.contains("--data"), "{refused}");
        assert_eq!(before, snapshot(&world.path));
    }

    #[test]
    fn a_part_that_is_not_the_one_that_was_left_is_refused_by_what_it_is() {
        let (ours, theirs) = (World::used(), World::used());
        let swap = |a: PathBuf, b: PathBuf| {
            let aside = a.with_extension("aside");
            fs::rename(&a, &aside).unwrap();
            fs::rename(&b, &a).unwrap();
            fs::rename(aside, b).unwrap();
        };
        let part = |world: &World, name: &str| world.path.join(name);
        swap(part(&ours, "journal"), part(&theirs, "journal"));
        for world in [&ours, &theirs] {
            assert!(world.refused().to_string().contains("its folder journal belongs to another data folder"));
        }
        swap(part(&ours, "journal"), part(&theirs, "journal"));
        swap(part(&ours, "store"), part(&theirs, "store"));
        let refused = DataDir::open(&ours.path).unwrap().check_store().unwrap_err().to_string();
        assert!(refused.contains("its folder store belongs to another data folder"), "{refused}");
        swap(part(&ours, "store"), part(&theirs, "store"));
        swap(part(&ours, "journal"), part(&ours, "store"));
        assert!(ours.refused().to_string().contains("its folder journal is a store by its file ID"));
        swap(part(&ours, "journal"), part(&ours, "store"));
        fs::remove_file(part(&ours, "journal/ID")).unwrap();
        assert!(ours.refused().to_string().contains("its folder journal has no file ID"));
        ours.write("journal/ID", b"ringpost journal 7\n");
        assert!(
            ours.refused()
                .to_string()
                .contains("the file ID of its folder journal is damaged: it says \"ringpost journal 7\"")
        );
        fs::remove_file(part(&ours, "ID")).unwrap();
        assert!(ours.refused().to_string().contains("the data folder has no file ID"));
        DataDir::open(&theirs.path).unwrap().check_store().unwrap();
    }

    /// As the server before this one left it: its store made, a segment in its journal.
    fn of_the_first_format() -> World {
        let world = World::new();
        for folder in ["journal", "store/fjall/keyspaces/1/tables"] {
            create_folder(&world.path.join(folder)).unwrap();
        }
        for file in ["journal/00000000000000000001.journal", "store/fjall/keyspaces/1/tables/0", "audit.log"] {
            world.write(file, b"something");
        }
        world.write("store/format", b"ringpost store 1\n");
        world.write("FORMAT", b"ringpost 1\n");
        world
    }

    #[test]
    fn a_folder_of_a_later_format_keeps_its_names_when_it_is_upgraded() {
        for format in [&b"ringpost 2\n"[..], b"ringpost 3\n", b"ringpost 4\n"] {
            let world = World::used();
            world.write("FORMAT", format);
            let id = fs::read(world.path.join("ID")).unwrap();
            let data = DataDir::open(&world.path).unwrap();
            data.check_store().unwrap();
            assert!(data.lacks_last_messages().unwrap());
            assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), format, "until its journal is empty");
            data.upgrade().unwrap();
            assert!(!data.lacks_last_messages().unwrap());
            assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
            assert_eq!(fs::read(world.path.join("ID")).unwrap(), id);
        }
    }

    #[test]
    fn a_folder_of_the_first_format_gets_its_names_when_it_is_upgraded_and_not_before() {
        let world = of_the_first_format();
        let data = DataDir::open(&world.path).unwrap();
        data.check_store().unwrap();
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 1\n");
        assert!(!world.path.join("ID").exists());
        data.upgrade().unwrap();
        drop(data);
        let before = snapshot(&world.path);
        let data = DataDir::open(&world.path).unwrap();
        data.check_store().unwrap();
        data.upgrade().unwrap();
        assert_eq!(before, snapshot(&world.path), "once");
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
        // Cut short before the last step: done again.
        world.write("FORMAT", b"ringpost 1\n");
        data.upgrade().unwrap();
        data.check_store().unwrap();
    }

    #[test]
    fn what_a_folder_of_the_first_format_has_lost_is_noticed_too() {
        let world = of_the_first_format();
        empty(&world.path.join("journal"));
        assert!(world.refused().to_string().contains("its folder journal is empty"));
        fs::remove_file(world.path.join("audit.log")).unwrap();
        assert!(world.refused().to_string().contains("its folder journal is empty"), "the store has rows");
        empty(&world.path.join("store"));
        DataDir::open(&world.path).unwrap().check_store().unwrap();

        let world = of_the_first_format();
        empty(&world.path.join("store"));
        let refused = DataDir::open(&world.path).unwrap().check_store().unwrap_err().to_string();
        assert!(refused.contains("its folder store is empty"), "{refused}");
    }

    #[test]
    fn room_that_an_operator_has_made_for_a_history_becomes_the_store() {
        let world = World::used();
        let data = DataDir::open(&world.path).unwrap();
        let before = snapshot(&world.path);
        data.adopt_store().unwrap();
        assert_eq!(before, snapshot(&world.path));
        empty(&data.store());
        data.adopt_store().unwrap();
        data.check_store().unwrap();
        fs::write(data.store().join("ID"), "ringpost store 00000000000000000000000000000007\n").unwrap();
        data.adopt_store().unwrap();
        assert!(data.check_store().is_err(), "another's is left alone");
    }
}
