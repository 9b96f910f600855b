//! Revocation file: what was revoked, over restarts. One line a change, appended and synced before it is confirmed.
//! Rewritten with what is in force when it is opened with anything else in it, before the first change, and after an append
//! that failed, whose trace on the disk is not known. There is none before the first change.
//!
//! Whoever opens it has the data folder's lock. A last line that is torn was never confirmed and is dropped; any other
//! damage is refused, since a revocation that is forgotten lets somebody in.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    access::revocation::{Change, ChangeError, Revocations},
    limits::REVOCATIONS_FILE_BYTES_MAX,
};

/// Why a revocation file can not be used.
#[derive(Debug, Error)]
pub enum RevocationFileError {
    /// A line that is not what was written.
    #[error(
        "{path}, line {line}: damaged. Restore the file from a backup; or delete that line, and revoke again what it may have said",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// Larger than it ever becomes.
    #[error("{path}: larger than {REVOCATIONS_FILE_BYTES_MAX} bytes, these are not revocations", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The change can not be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The system refused something. What was to be written is not in force.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub struct RevocationFile {
    path: PathBuf,
    /// For appending. None: it must be rewritten first.
    file: Option<File>,
    bytes: u64,
    revocations: Revocations,
}

impl RevocationFile {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// See [`RevocationFileError`].
    pub fn open(path: &Path) -> Result<Self, RevocationFileError> {
        let bytes = read(path)?;
        let revocations = parse(path, &bytes)?;
        let mut file = Self { path: path.to_owned(), file: None, bytes: 0, revocations };
        if bytes != file.text().as_bytes() {
            file.rewrite().map_err(|error| file.io_error(error))?;
        }
        Ok(file)
    }

    /// Whether the file can be opened, if there is one. Changes nothing.
    ///
    /// # Errors
    /// See [`RevocationFileError`].
    pub fn look_at(path: &Path) -> Result<(), RevocationFileError> {
        parse(path, &read(path)?).map(drop)
    }

    /// What is in force.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Makes a change, which is durable when this returns.
    ///
    /// # Errors
    /// See [`RevocationFileError`]; then the change is not in force.
    pub fn make(&mut self, change: Change) -> Result<(), RevocationFileError> {
        self.revocations.check(change)?;
        let line = change.line();
        if self.bytes + line.len() as u64 > REVOCATIONS_FILE_BYTES_MAX {
            self.file = None;
        }
        self.append(line.as_bytes()).map_err(|error| {
            self.file = None;
            self.io_error(error)
        })?;
        self.revocations.apply(change);
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.rewrite()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
            file.sync_data()?;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    /// Replaces the file by one with nothing but what is in force. Whole or not at all.
    fn rewrite(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        let text = self.text();
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.bytes = text.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// What is in force, and nothing else.
    fn text(&self) -> String {
        self.revocations.iter().map(|(subject, moment)| Change::Revoke(subject, moment).line()).collect()
    }

    fn io_error(&self, error: io::Error) -> RevocationFileError {
        RevocationFileError::Io { path: self.path.clone(), error }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RevocationFileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(REVOCATIONS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(size) if size as u64 > REVOCATIONS_FILE_BYTES_MAX => {
            Err(RevocationFileError::TooLarge { path: path.to_owned() })
        }
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(RevocationFileError::Io { path: path.to_owned(), error }),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Revocations, RevocationFileError> {
    let mut revocations = Revocations::default();
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        match line.strip_suffix(b"\n").and_then(Change::parse) {
            Some(change) => revocations.apply(change),
            None if lines.peek().is_none() && is_torn(line) => {}
            None => return Err(RevocationFileError::Damaged { path: path.to_owned(), line: index + 1 }),
        }
    }
    Ok(revocations)
}

/// Whether the last line can be what a write left behind that was cut short: its end is missing, or a sector of it, which
/// reads as zeros.
fn is_torn(line: &[u8]) -> bool {
    !line.ends_with(b"\n") || line.contains(&0)
}

#[cfg(test)]
mod tests {
    use proto_spec::{DeviceId, TimestampMs, UserId};

    use super::*;
    use crate::access::revocation::Subject;

    const AT: TimestampMs = TimestampMs(1_800_000_000_000);

    fn revoke(user: u64) -> Change {
        Change::Revoke(Subject { user: UserId(user), device: None }, AT)
    }

    struct World {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { path: folder.path().join("revocations"), _folder: folder }
        }

        fn open(&self) -> Result<RevocationFile, RevocationFileError> {
            RevocationFile::open(&self.path)
        }

        fn users(&self) -> Vec<u64> {
            self.open().unwrap().revocations().iter().map(|(subject, _)| subject.user.0).collect()
        }
    }

    #[test]
    fn what_was_confirmed_is_there_after_a_restart() {
        let world = World::new();
        let mut file = world.open().unwrap();
        for user in [7, 9, 8] {
            file.make(revoke(user)).unwrap();
        }
        file.make(Change::Lift(Subject { user: UserId(9), device: None })).unwrap();
        drop(file);
        assert_eq!(world.users(), [7, 8]);
        assert_eq!(fs::metadata(&world.path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_start_leaves_only_what_is_in_force() {
        let world = World::new();
        let mut file = world.open().unwrap();
        for _ in 0..50 {
            file.make(revoke(7)).unwrap();
            file.make(Change::Lift(Subject { user: UserId(7), device: None })).unwrap();
        }
        file.make(revoke(8)).unwrap();
        drop(file);
        world.open().unwrap();
        assert_eq!(fs::read_to_string(&world.path).unwrap(), revoke(8).line());
        assert_eq!(fs::read_dir(world.path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_last_line_was_never_confirmed() {
        let whole = [revoke(7).line(), revoke(8).line()].concat();
        let torn = revoke(9).line();
        for cut in 1..torn.len() {
            let world = World::new();
            fs::write(&world.path, format!("{whole}{}", &torn[..cut])).unwrap();
            assert_eq!(world.users(), [7, 8], "{cut}");
            // A sector that did not get to the disk, and the next one that did.
            fs::write(&world.path, format!("{whole}{}{}", "\0".repeat(cut), &torn[cut..])).unwrap();
            assert_eq!(world.users(), [7, 8], "{cut}");
        }
    }

    #[test]
    fn damage_is_refused_by_file_and_line_and_left_as_it_is() {
        let lines = [revoke(7).line(), revoke(8).line(), revoke(9).line()];
        for damaged in 0..lines.len() {
            let world = World::new();
            let mut bytes = lines.concat().into_bytes();
            bytes[lines[..damaged].concat().len() + 7] ^= 1;
            fs::write(&world.path, &bytes).unwrap();
            let error = world.open().unwrap_err().to_string();
            assert!(error.contains(&format!("revocations, line {}: damaged", damaged + 1)), "{error}");
            assert_eq!(fs::read(&world.path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_change_that_can_not_be_made_leaves_no_line() {
        let world = World::new();
        let mut file = world.open().unwrap();
        let phone = Subject { user: UserId(7), device: Some(DeviceId(3)) };
        assert!(matches!(file.make(Change::Lift(phone)), Err(RevocationFileError::Change(_))));
        assert!(!world.path.exists());
    }

    #[test]
    fn after_an_append_that_failed_the_file_is_written_anew() {
        let world = World::new();
        let mut file = world.open().unwrap();
        file.make(revoke(7)).unwrap();
        // As after an error: what is behind the last line is not known.
        fs::write(&world.path, format!("{}revo\0ke", revoke(7).line())).unwrap();
        file.file = None;
        file.make(revoke(8)).unwrap();
        assert_eq!(fs::read_to_string(&world.path).unwrap(), [revoke(7).line(), revoke(8).line()].concat());
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_nothing_is_in_force() {
        let world = World::new();
        let mut file = world.open().unwrap();
        file.file = None;
        fs::remove_dir_all(world.path.parent().unwrap()).unwrap();
        assert!(matches!(file.make(revoke(7)), Err(RevocationFileError::Io { .. })));
        assert!(file.revocations().is_empty());
    }

    #[test]
    fn a_file_that_has_grown_to_its_bound_is_written_anew() {
        let world = World::new();
        let mut file = world.open().unwrap();
        file.bytes = REVOCATIONS_FILE_BYTES_MAX;
        fs::write(&world.path, "as if it were long").unwrap();
        file.make(revoke(7)).unwrap();
        assert_eq!(fs::read_to_string(&world.path).unwrap(), revoke(7).line());
    }
}
