//! The file in which a journal remembers in whose name, and since which fence, its batches are written; the store remembers the same of
//! whoever served last. That is how a start knows that the two belong together, and are of one moment.
//!
//! A journal that was left behind must not be brought into a store that somebody else has served from since, or into an older or a
//! newer copy of its own: the same numbers would name other messages. Within a tenure batches are numbered by lane, and the store knows how far
//! each lane is: so a copy that was made while the server ran is told apart too.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rand::random;
use serde::{Deserialize, Serialize};
use storage::{BatchId, Fence, Holder, Kind, LaneId, LaneSpans, Store, StoreError, Tenure, migrate::is_unfinished};
use thiserror::Error;

use crate::files::datadir::{DataDir, JOURNAL};

/// The file's name, in the journal's folder.
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

/// Why a journal does not go with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Foreign {
    /// The journal has never been one of this store.
    #[error("it was not written for this store")]
    OfAnother,
    /// Another server has served from the store since.
    #[error("another server has served from this store since it was written")]
    TakenOver,
    /// The same server has served since, with a later journal: this one is from a backup.
    #[error("it is older than what the store has of this server")]
    Outdated,
    /// The store is from a backup.
    #[error("the store is an older one than it was written for")]
    StoreOutdated,
    /// It was copied while the server ran, and the store later.
    #[error(
        "it ends at batch {held} of lane {lane}, and the store has that lane up to batch {stored}, so the two were not copied at the \
         same time. The store has all that the journal holds"
    )]
    Behind {
        /// Of which lane.
        lane: u16,
        /// The journal's last batch.
        held: u64,
        /// The store's.
        stored: u64,
    },
    /// It was copied while the server ran, and the store before.
    #[error(
        "it begins with batch {held} of lane {lane}, and the store has that lane up to batch {stored}, so the two were not copied at \
         the same time, and what was between them is missing"
    )]
    Ahead {
        /// Of which lane.
        lane: u16,
        /// The journal's first batch.
        held: u64,
        /// The store's last.
        stored: u64,
    },
}

/// What a journal holds, as far as it must fit its store.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// How many batches.
    pub batches: u64,
    /// Which.
    pub lanes: &'a LaneSpans,
    /// Whether these are all that it had. After damage the store may have more than can be read.
    pub extent: Extent,
}

/// How much of a journal could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// What is before a damage.
    UpToDamage,
}

/// Whose a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The tenure in which its batches were written.
    pub tenure: Tenure,
    /// What the store was.
    pub kind: Kind,
}

/// Whether a journal that is `own`, and has batches or not, goes with a store of this kind whose last tenure is `last`.
///
/// # Errors
/// It does not.
pub fn check(kind: Kind, batches: u64, own: Option<Own>, last: Option<Tenure>) -> Result<(), Foreign> {
    if own.is_some_and(|own| own.kind != kind) {
        return Err(Foreign::OfAnother);
    }
    match (own.map(|own| own.tenure), last) {
        (Some(own), Some(last)) if own == last => Ok(()),
        // Nobody has served from it who kept count.
        (None, None) if kind == Kind::Engine => Ok(()),
        // A folder that has no journal yet, or gave it up.
        (None, _) if batches == 0 => Ok(()),
        (None, _) | (Some(_), None) => Err(Foreign::OfAnother),
        (Some(own), Some(last)) if own.fence >= last.fence => Err(Foreign::StoreOutdated),
        // Whoever has nothing to bring may come after others, or after a start of its own that was cut short.
        (Some(_), Some(_)) if batches == 0 => Ok(()),
        (Some(own), Some(last)) if own.holder == last.holder || kind == Kind::Engine => Err(Foreign::Outdated),
        (Some(_), Some(_)) => Err(Foreign::TakenOver),
    }
}

/// Whether what a journal holds follows what a store of the same tenure has.
///
/// # Errors
/// It does not.
pub fn check_progress(kind: Kind, held: Held<'_>, stored: &[(LaneId, BatchId)]) -> Result<(), Foreign> {
    for (lane, first, last) in held.lanes.iter() {
        let stored = stored.iter().find(|(of, _)| *of == lane).map_or(0, |(_, stored)| stored.0);
        if first.0 > stored + 1 {
            return Err(Foreign::Ahead { lane: lane.0, held: first.0, stored });
        }
        // Into a database the cores bring what the journal need not have yet.
        if last.0 < stored && kind == Kind::Engine && held.extent == Extent::Whole {
            return Err(Foreign::Behind { lane: lane.0, held: last.0, stored });
        }
    }
    Ok(())
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
        "the journal in {folder} ({batches} batches) does not go with the store: {why}. Nothing was changed. Restore both from one backup that was \
         made while no server ran, or name the store that the journal belongs to (`ringpost migrate` moves a history \
         to another one). To go on with what the store has, and without what only \
         the journal has, move the journal's files away and keep them (`ringpost journal export` reads them): \
         mkdir {folder}/aside && mv {folder}/*.journal {folder}/{TENURE_FILE} {folder}/aside/",
        folder = folder.display()
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

impl TakeOverError {
    /// Whether there is no room: the same will work when there is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Tenure(TenureError::Io { error, .. }) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Tenure(TenureError::Damaged { .. }) | Self::Unfinished | Self::Foreign { .. } => false,
        }
    }
}

/// Takes a store over, to bring into it what the journal of a data folder holds: if it belongs there.
///
/// # Errors
/// It does not, and then nobody lost the store; a part of the history is missing in it; or something could not be read, or the store
/// failed.
pub fn take_over<S: Store>(store: &S, data: &DataDir, held: Held<'_>) -> Result<Fence, TakeOverError> {
    let own = load(data)?;
    let belongs = || -> Result<(), TakeOverError> {
        let last = pollster::block_on(store.tenure())?;
        let foreign = |why| TakeOverError::Foreign { folder: data.journal(), batches: held.batches, why };
        check(store.kind(), held.batches, own, last).map_err(foreign)?;
        if last.is_some() {
            let stored = pollster::block_on(store.progress())?;
            check_progress(store.kind(), held, &stored).map_err(foreign)?;
        }
        Ok(())
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

/// Begins to serve from a store under this fence: batches count from one. The journal has nothing that is not in the store.
///
/// # Errors
/// The store failed, or the file cannot be read or written.
pub fn begin<S: Store>(store: &S, data: &DataDir, fence: Fence) -> Result<(), TakeOverError> {
    let last = pollster::block_on(store.tenure())?.map(|last| last.holder);
    // A name is of one database: elsewhere the same fences may count another time. So they may in a copy of an engine's folder, and there
    // each start has a name of its own.
    let is_kept = |own: &Holder| store.kind() == Kind::Database && Some(*own) == last;
    let holder = load(data)?.map(|own| own.tenure.holder).filter(is_kept).unwrap_or_else(new_holder);
    pollster::block_on(store.begin(fence, holder))?;
    Ok(save(&data.tenure_file(), Own { tenure: Tenure { holder, fence }, kind: store.kind() })?)
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
    /// Not there in files of the first format, which were written for databases alone.
    #[serde(default)]
    store: StoredKind,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Embedded,
    #[default]
    FoundationDb,
}

/// Whose the journal of a data folder is; `None` if nobody's yet.
///
/// # Errors
/// See [`TenureError`].
pub fn load(data: &DataDir) -> Result<Option<Own>, TenureError> {
    look_at(data.path())
}

/// The same, of a folder that nobody has opened.
///
/// # Errors
/// See [`TenureError`].
pub fn look_at(folder: &Path) -> Result<Option<Own>, TenureError> {
    match load_file(&folder.join(JOURNAL).join(TENURE_FILE))? {
        // Servers that wrote the first format had it beside the journal.
        None => load_file(&folder.join(TENURE_FILE)),
        own => Ok(own),
    }
}

fn load_file(path: &Path) -> Result<Option<Own>, TenureError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TenureError::Io { path: path.into(), error }),
    };
    parse(&text).map(Some).map_err(|reason| TenureError::Damaged { path: path.into(), reason })
}

/// Forgets whose the journal of a data folder was, which has nothing in it.
///
/// # Errors
/// The file cannot be removed.
pub fn forget(data: &DataDir) -> Result<(), TenureError> {
    for path in [data.old_tenure_file(), data.tenure_file()] {
        let folder = path.parent().expect("a file of a folder");
        let removed = match fs::remove_file(&path) {
            Ok(()) => File::open(folder).and_then(|folder| folder.sync_all()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| TenureError::Io { path, error })?;
    }
    Ok(())
}

/// Reads what [`text`] has made.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Own, String> {
    let Stored { holder, fence, store } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let is_whole = holder.len() == 32;
    let holder = u128::from_str_radix(&holder, 16).ok().filter(|_| is_whole);
    let holder = holder.ok_or("`holder` is not 32 hexadecimal digits")?;
    let kind = match store {
        StoredKind::Embedded => Kind::Engine,
        StoredKind::FoundationDb => Kind::Database,
    };
    Ok(Own { tenure: Tenure { holder: Holder(holder), fence: Fence(fence) }, kind })
}

/// What [`parse`] reads, as it stands in a file.
#[must_use]
pub fn text(Own { tenure, kind }: Own) -> String {
    let store = match kind {
        Kind::Engine => StoredKind::Embedded,
        Kind::Database => StoredKind::FoundationDb,
    };
    let stored = Stored { holder: format!("{:032x}", tenure.holder.0), fence: tenure.fence.0, store };
    toml::to_string(&stored).expect("three values can be written as TOML")
}

/// Replaces the file, as a whole or not at all, and makes that durable.
///
/// # Errors
/// The system refused something.
pub fn save(path: &Path, own: Own) -> Result<(), TenureError> {
    replace(path, &text(own)).map_err(|error| TenureError::Io { path: path.into(), error })
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

    #[expect(clippy::unnecessary_wraps, reason = "as it is loaded")]
    const fn own(kind: Kind, tenure: Tenure) -> Option<Own> {
        Some(Own { tenure, kind })
    }

    #[test]
    fn it_is_read_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(load(&data).unwrap(), None);
        fs::write(data.old_tenure_file(), "holder = \"00000000000000000000000000000007\"\nfence = 3\n").unwrap();
        assert_eq!(load(&data).unwrap(), own(Kind::Database, OURS), "as an older server left it");
        for kind in [Kind::Engine, Kind::Database] {
            let tenure = Tenure { holder: new_holder(), fence: Fence(u32::MAX.into()) };
            save(&data.tenure_file(), Own { tenure, kind }).unwrap();
            assert_eq!(load(&data).unwrap(), own(kind, tenure));
        }
        forget(&data).unwrap();
        assert_eq!(load(&data).unwrap(), None);
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
            let error = load_file(&path).unwrap_err().to_string();
            assert!(error.contains(TENURE_FILE) && error.contains("backup"), "{text}: {error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(load_file(&path), Err(TenureError::Io { .. })));
    }

    #[test]
    fn batches_belong_where_nobody_else_has_served_since() {
        let other = Tenure { holder: Holder(8), fence: Fence(4) };
        let later = Tenure { fence: Fence(4), ..OURS };
        for kind in [Kind::Engine, Kind::Database] {
            let check = |of: Option<_>, last| check(kind, 7, of.and_then(|of| own(kind, of)), last);
            assert_eq!(check(Some(OURS), Some(OURS)), Ok(()));
            assert_eq!(check(Some(OURS), None), Err(Foreign::OfAnother));
            assert_eq!(check(None, Some(OURS)), Err(Foreign::OfAnother));
            assert_eq!(check(Some(OURS), Some(later)), Err(Foreign::Outdated));
            assert_eq!(check(Some(later), Some(OURS)), Err(Foreign::StoreOutdated));
        }
        assert_eq!(check(Kind::Engine, 7, None, None), Ok(()), "of a server that kept no count");
        assert_eq!(check(Kind::Database, 7, None, None), Err(Foreign::OfAnother));
        assert_eq!(check(Kind::Engine, 7, own(Kind::Engine, OURS), Some(other)), Err(Foreign::Outdated));
        assert_eq!(check(Kind::Database, 7, own(Kind::Database, OURS), Some(other)), Err(Foreign::TakenOver));
        for (of, kind) in [(Kind::Engine, Kind::Database), (Kind::Database, Kind::Engine)] {
            for batches in [0, 7] {
                assert_eq!(check(kind, batches, own(of, OURS), Some(other)), Err(Foreign::OfAnother));
            }
        }
    }

    #[test]
    fn an_empty_journal_comes_after_others_and_never_before() {
        let other = Tenure { holder: Holder(8), fence: Fence(4) };
        let earlier = Tenure { holder: Holder(8), fence: Fence(2) };
        for kind in [Kind::Engine, Kind::Database] {
            let check = |of: Option<_>, last| check(kind, 0, of.and_then(|of| own(kind, of)), last);
            for of in [None, Some(OURS)] {
                assert_eq!(check(of, Some(other)), Ok(()));
            }
            assert_eq!(check(None, None), Ok(()));
            assert_eq!(check(Some(OURS), None), Err(Foreign::OfAnother), "a store that was emptied, or is another");
            assert_eq!(check(Some(OURS), Some(earlier)), Err(Foreign::StoreOutdated));
            assert_eq!(check(Some(OURS), Some(Tenure { holder: Holder(8), ..OURS })), Err(Foreign::StoreOutdated));
        }
    }

    #[test]
    fn a_journal_overlaps_its_store_or_follows_it() {
        let check = |kind, extent, (first, last): (u64, u64), stored: u64| {
            let mut lanes = LaneSpans::default();
            (first..=last).for_each(|batch| lanes.add(LaneId(3), BatchId(batch)));
            let held = Held { batches: last - first + 1, lanes: &lanes, extent };
            check_progress(kind, held, &[(LaneId(2), BatchId(99)), (LaneId(3), BatchId(stored))])
        };
        use Extent::{UpToDamage, Whole};
        for kind in [Kind::Engine, Kind::Database] {
            for fits in [(5, 9), (6, 9), (1, 5), (2, 7)] {
                assert_eq!(check(kind, Whole, fits, 5), Ok(()), "{fits:?}");
            }
            assert_eq!(check(kind, Whole, (7, 9), 5), Err(Foreign::Ahead { lane: 3, held: 7, stored: 5 }));
        }
        assert_eq!(check(Kind::Engine, Whole, (1, 4), 5), Err(Foreign::Behind { lane: 3, held: 4, stored: 5 }));
        assert_eq!(check(Kind::Engine, UpToDamage, (1, 4), 5), Ok(()));
        assert_eq!(
            check(Kind::Database, Whole, (1, 4), 5),
            Ok(()),
            "what the lanes bring need not be in the journal yet"
        );
    }

    #[test]
    fn a_store_that_somebody_moves_a_history_into_is_not_served_from() {
        let (source, database) = (MemoryStore::default(), MemoryStore::database());
        let fence = pollster::block_on(source.take_over()).unwrap();
        pollster::block_on(Migration::begin(&source, fence, &database, HistoryId(1))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let held = Held { batches: 0, lanes: &LaneSpans::default(), extent: Extent::Whole };
        let refused = take_over(&database, &data, held).unwrap_err();
        assert!(matches!(refused, TakeOverError::Unfinished), "{refused}");
        assert!(refused.to_string().contains("ringpost migrate"), "{refused}");
    }
}
