//! The file in which a journal's folder remembers in whose name, and since which fence, its batches are written: where the
//! history is in a database, that is how a start knows that what the journal holds still belongs there.
//!
//! A journal that was left behind must not be brought into a database that somebody else has served since: the same numbers
//! would name other messages.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rand::random;
use serde::{Deserialize, Serialize};
use storage::{Fence, Holder, Kind, Store, StoreError, Tenure, migrate::is_unfinished};
use thiserror::Error;

/// The file's name, in the journal's folder's parent.
pub const TENURE_FILE: &str = "TENURE";

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum TenureError {
    /// The system refused something.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{}: {reason}: restore it from a backup, together with the journal beside it", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Why the batches of a journal do not belong into a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Foreign {
    /// The journal is that of a database, the store is not.
    #[error("they belong into a database")]
    OfDatabase,
    /// The journal has never been one of this database.
    #[error("they were not written for this database")]
    OfAnother,
    /// Another server has served since.
    #[error("another server has served this database since they were written")]
    TakenOver,
    /// The same server has served since, with a later journal: this one is from a backup.
    #[error("they are older than what the database has of this server")]
    Outdated,
}

/// Whether batches of the journal whose folder remembers `own` belong into a store of this kind that knows `last`.
///
/// # Errors
/// They do not.
pub fn check(kind: Kind, own: Option<Tenure>, last: Option<Tenure>) -> Result<(), Foreign> {
    match (kind, own, last) {
        (Kind::Engine, None, _) => Ok(()),
        (Kind::Engine, Some(_), _) => Err(Foreign::OfDatabase),
        (Kind::Database, None, _) | (Kind::Database, Some(_), None) => Err(Foreign::OfAnother),
        (Kind::Database, Some(own), Some(last)) if own == last => Ok(()),
        (Kind::Database, Some(own), Some(last)) if own.holder == last.holder => Err(Foreign::Outdated),
        (Kind::Database, Some(_), Some(_)) => Err(Foreign::TakenOver),
    }
}

/// Why what a journal holds cannot be brought into a store.
#[derive(Debug, Error)]
pub enum TakeOverError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file that says whose the journal is.
    #[error(transparent)]
    Tenure(#[from] TenureError),
    /// A migration into the store has begun since it was looked at.
    #[error("a migration into this store is under way: let it end, or run the same `ringpost migrate` again")]
    Unfinished,
    /// It belongs elsewhere.
    #[error(
        "the journal in {} holds {batches} batches that cannot be brought into this store: {why}. Start with the store that they \
         belong to, or move the folder away and keep it: `ringpost journal export` reads it",
        folder.display()
    )]
    Foreign {
        /// The journal.
        folder: PathBuf,
        /// How many.
        batches: u64,
        /// Why not.
        why: Foreign,
    },
}

/// Takes a store over, to bring into it the `batches` that the journal in `journal` holds: if they belong there. `file` says whose
/// they are.
///
/// # Errors
/// They do not, and then nobody lost the store; a part of the history is missing in it; or something could not be read, or the store
/// failed.
pub fn take_over<S: Store>(store: &S, file: &Path, journal: &Path, batches: u64) -> Result<Fence, TakeOverError> {
    let own = load(file)?;
    let belongs = || {
        if batches == 0 {
            return Ok(());
        }
        let last = pollster::block_on(store.tenure())?;
        let foreign = |why| TakeOverError::Foreign { folder: journal.to_owned(), batches, why };
        check(store.kind(), own, last).map_err(foreign)
    };
    // First a look, because taking over ends another server; then again, because one may have come meanwhile.
    belongs()?;
    let fence = pollster::block_on(store.take_over())?;
    belongs()?;
    if pollster::block_on(is_unfinished(store))? {
        return Err(TakeOverError::Unfinished);
    }
    Ok(fence)
}

/// A name that nobody else has.
#[must_use]
pub fn new_holder() -> Holder {
    Holder(random())
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// As 32 hexadecimal digits.
    holder: String,
    fence: u64,
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// See [`TenureError`].
pub fn load(path: &Path) -> Result<Option<Tenure>, TenureError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TenureError::Io { path: path.into(), error }),
    };
    parse(&text).map(Some).map_err(|reason| TenureError::Damaged { path: path.into(), reason })
}

/// Reads what [`text`] has made.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Tenure, String> {
    let Stored { holder, fence } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let is_whole = holder.len() == 32;
    let holder = u128::from_str_radix(&holder, 16).ok().filter(|_| is_whole);
    let holder = holder.ok_or("`holder` is not 32 hexadecimal digits")?;
    Ok(Tenure { holder: Holder(holder), fence: Fence(fence) })
}

/// A tenure, as it stands in a file.
#[must_use]
pub fn text(tenure: Tenure) -> String {
    let stored = Stored { holder: format!("{:032x}", tenure.holder.0), fence: tenure.fence.0 };
    toml::to_string(&stored).expect("two values can be written as TOML")
}

/// Replaces the file, as a whole or not at all, and makes that durable.
///
/// # Errors
/// The system refused something.
pub fn save(path: &Path, tenure: Tenure) -> Result<(), TenureError> {
    replace(path, &text(tenure)).map_err(|error| TenureError::Io { path: path.into(), error })
}

/// Replaces a file, as a whole or not at all, and makes that durable.
///
/// # Errors
/// The system refused something.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use storage::{
        MemoryStore,
        migrate::{HistoryId, Migration},
    };

    use super::*;

    const OURS: Tenure = Tenure { holder: Holder(7), fence: Fence(3) };

    #[test]
    fn it_is_read_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TENURE_FILE);
        assert_eq!(load(&path).unwrap(), None);
        for tenure in [OURS, Tenure { holder: new_holder(), fence: Fence(u32::MAX.into()) }] {
            save(&path, tenure).unwrap();
            assert_eq!(load(&path).unwrap(), Some(tenure));
        }
    }

    #[test]
    fn what_was_not_saved_here_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TENURE_FILE);
        for text in [
            "",
            "holder = 7\nfence = 1",
            "holder = \"+7\"\nfence = 1",
            "nonsense",
            "holder = \"00000000000000000000000000000007\"\nfence = -1",
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(TENURE_FILE) && error.contains("backup"), "{text}: {error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(load(&path), Err(TenureError::Io { .. })));
    }

    #[test]
    fn batches_belong_where_nobody_else_has_served_since() {
        let other = Tenure { holder: Holder(8), fence: Fence(4) };
        let later = Tenure { fence: Fence(4), ..OURS };
        assert_eq!(check(Kind::Engine, None, None), Ok(()));
        assert_eq!(check(Kind::Engine, Some(OURS), None), Err(Foreign::OfDatabase));
        assert_eq!(check(Kind::Database, Some(OURS), Some(OURS)), Ok(()));
        assert_eq!(check(Kind::Database, None, Some(OURS)), Err(Foreign::OfAnother));
        assert_eq!(check(Kind::Database, Some(OURS), None), Err(Foreign::OfAnother));
        assert_eq!(check(Kind::Database, Some(OURS), Some(later)), Err(Foreign::Outdated));
        assert_eq!(check(Kind::Database, Some(OURS), Some(other)), Err(Foreign::TakenOver));
    }

    #[test]
    fn a_store_that_somebody_moves_a_history_into_is_not_served_from() {
        let (source, database) = (MemoryStore::default(), MemoryStore::database());
        let fence = pollster::block_on(source.take_over()).unwrap();
        pollster::block_on(Migration::begin(&source, fence, &database, HistoryId(1))).unwrap();
        let nowhere = Path::new("nothing is read there");
        let refused = take_over(&database, nowhere, nowhere, 0).unwrap_err();
        assert!(matches!(refused, TakeOverError::Unfinished), "{refused}");
        assert!(refused.to_string().contains("ringpost migrate"), "{refused}");
    }
}
