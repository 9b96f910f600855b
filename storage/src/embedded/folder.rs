//! The folder of an embedded store: its markers and its format version, what the engine must find there, and what is synced of it. A
//! folder that is newer or damaged is left as it is.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    BLOCK_BYTES,
    errors::{damaged, unavailable},
};
use crate::{schema::FORMAT_VERSION, store::StoreError};

/// The folder's version, in words: `ringpost store 1`.
pub(super) const FORMAT_FILE: &str = "format";
const FORMAT_WORDS: &str = "ringpost store ";
/// There once the engine has been made whole: from then on something may be in it.
pub(super) const MADE_FILE: &str = "made";
/// fjall's own folder.
pub(super) const ENGINE_FOLDER: &str = "fjall";
pub(super) const KEYSPACES_FOLDER: &str = "keyspaces";
/// Without it fjall makes a new database.
pub(super) const VERSION_FILE: &str = "version";
/// fjall's number of the keyspace of rows, the first one that is made.
pub(super) const ROWS_FOLDER: &str = "1";
/// Names the list of tables that is in force.
pub(super) const CURRENT_FILE: &str = "current";
/// Written to see whether the disk takes writes.
const PROBE_FILE: &str = "probe";

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

pub(super) fn tables_folder(folder: &Path) -> PathBuf {
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
pub(super) fn check_folder(folder: &Path) -> Result<(), StoreError> {
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
pub(super) fn check_used(folder: &Path) -> Result<(), StoreError> {
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
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
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

pub(super) fn mark_made(folder: &Path) -> io::Result<()> {
    match File::create_new(folder.join(MADE_FILE)) {
        Ok(file) => file.sync_all().and_then(|()| sync_folder(folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the lists of tables durable that are seen: whoever was to do it may have been cut short, or told that it failed. fjall
/// removes what they do not name when it opens, and the lists before them may name it.
pub(super) fn sync_lists(engine: &Path) -> io::Result<()> {
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
pub(super) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(PROBE_FILE);
    let mut file = File::create(&path)?;
    file.write_all(&[0; BLOCK_BYTES as usize])?;
    file.sync_all()?;
    fs::remove_file(&path)
}
