//! Token files: a token on disk, for its owner alone, whole or not at all. Owns what may be replaced by one: a token, or nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use proto_spec::limits::TOKEN_BYTES_MAX;
use thiserror::Error;

/// Why a token was not written. What was there is as it was.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// A folder, a link, a device.
    #[error("{path}: this is there and no file: name another one for the token", path = path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{path}: this file belongs to user {owner}: name another one for the token", path = path.display())]
    OfAnother {
        /// What was named.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It would be lost.
    #[error("{path}: this file holds something else than a token: name another one, or remove it", path = path.display())]
    HoldsElse {
        /// What was named.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{path}: the token cannot be written there: {error}", path = path.display())]
    Io {
        /// What was named.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

/// Writes a token into a file of mode 0600 that `user` owns, who is this process's. A file that holds a token is replaced.
///
/// # Errors
/// See [`TokenFileError`].
pub fn write(path: &Path, token: &str, user: u32) -> Result<(), TokenFileError> {
    let io_error = |error| TokenFileError::Io { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
        Ok(there) if !there.is_file() => return Err(TokenFileError::NoFile { path: path.to_owned() }),
        Ok(there) if there.uid() != user => {
            return Err(TokenFileError::OfAnother { path: path.to_owned(), owner: there.uid() });
        }
        Ok(_) => {
            let mut text = Vec::new();
            let file = File::open(path).map_err(io_error)?;
            file.take(TOKEN_BYTES_MAX as u64 + 2).read_to_end(&mut text).map_err(io_error)?;
            if !is_token_or_nothing(&text) {
                return Err(TokenFileError::HoldsElse { path: path.to_owned() });
            }
        }
    }
    // Beside it, and of a name that no other process takes: whoever reads the file meanwhile finds a whole token.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", process::id()));
    let fresh = path.with_file_name(name);
    let written = write_new(&fresh, token).and_then(|()| fs::rename(&fresh, path));
    written.map_err(|error| {
        // What could not be written may not be there either.
        let _ = fs::remove_file(&fresh);
        io_error(error)
    })
}

fn write_new(path: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{token}\n").as_bytes())
}

/// A JWT (RFC 7519) in its compact form: three parts of base64url with points between them.
fn is_token_or_nothing(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let is_part = |part: &[u8]| !part.is_empty() && part.iter().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c));
    text.is_empty()
        || text.len() <= TOKEN_BYTES_MAX
            && text.split(|c| *c == b'.').filter(|part| is_part(part)).count() == 3
            && text.iter().filter(|c| **c == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiI3In0.c2ln-_";

    struct World {
        folder: tempfile::TempDir,
        user: u32,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let user = fs::metadata(folder.path()).unwrap().uid();
            Self { folder, user }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("t7")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    #[test]
    fn a_token_is_its_owners_alone_and_may_be_replaced_by_another() {
        let world = World::new();
        for before in [None, Some(""), Some("\n"), Some("a.b.c\n"), Some(TOKEN)] {
            if let Some(before) = before {
                fs::write(world.path(), before).unwrap();
                fs::set_permissions(world.path(), fs::Permissions::from_mode(0o644)).unwrap();
            }
            write(&world.path(), TOKEN, world.user).unwrap();
            assert_eq!(fs::read_to_string(world.path()).unwrap(), format!("{TOKEN}\n"));
            assert_eq!(fs::metadata(world.path()).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(world.names(), ["t7"]);
        }
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_as_it_was() {
        let world = World::new();
        let long = "a".repeat(TOKEN_BYTES_MAX);
        for before in
            ["listen = 1.2.3\n", "-----BEGIN", "a.b", "a.b.c.d", "a..c", "..", "a.b.c\nx.y.z", &format!("a.{long}.c")]
        {
            fs::write(world.path(), before).unwrap();
            let refused = write(&world.path(), TOKEN, world.user).unwrap_err();
            assert!(matches!(refused, TokenFileError::HoldsElse { .. }), "{refused}");
            assert_eq!(fs::read_to_string(world.path()).unwrap(), before);
        }
    }

    #[test]
    fn what_is_no_file_or_somebody_elses_is_refused() {
        let world = World::new();
        fs::write(world.path(), TOKEN).unwrap();
        let refused = write(&world.path(), TOKEN, world.user + 1).unwrap_err();
        assert!(matches!(refused, TokenFileError::OfAnother { owner, .. } if owner == world.user), "{refused}");
        let link = world.folder.path().join("link");
        symlink(world.path(), &link).unwrap();
        for path in [&link, world.folder.path(), Path::new("/dev/null")] {
            let refused = write(path, TOKEN, world.user).unwrap_err();
            assert!(matches!(refused, TokenFileError::NoFile { .. }), "{refused}");
        }
        let refused = write(&world.folder.path().join("missing/t7"), TOKEN, world.user).unwrap_err();
        assert!(matches!(refused, TokenFileError::Io { .. }), "{refused}");
    }
}
