//! Key files: the only secrets on disk. A file that holds a secret and is open to others (`access` says when) is not used; a key
//! that exists is never overwritten. What the bytes mean is `auth`'s.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    access::{
        auth::{KeyError, Keys, SigningKey, generate_pem},
        jwks::{Jwks, JwksError},
    },
    files::permission::{AccessError, check_secret},
    limits::SMALL_FILE_BYTES_MAX,
};

const MODE: u32 = 0o600;

/// Why a key file can not be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("{path}: there is no such file", path = path.display())]
    NotFound {
        /// Where it should be.
        path: PathBuf,
    },
    /// Only others may read it.
    #[error("{path}: this user may not read it: let its owner allow that, or run this as another user", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
    },
    /// No file.
    #[error("{path}: this is a folder: name the file in it", path = path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
    },
    /// It could not be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others on this machine may have read it.
    #[error(transparent)]
    Access(#[from] Box<AccessError>),
    /// It holds something else.
    #[error("{path}: {error}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// It should hold a key set.
    #[error("{path}: {error}", path = path.display())]
    Jwks {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: JwksError,
    },
}

/// Where the keys are that tokens are checked with.
#[derive(Clone, Debug)]
pub struct KeyPaths {
    /// An Ed25519 key as PEM, private or public.
    pub key: PathBuf,
    /// A secret for HS256, if there is one.
    pub hs256_secret: Option<PathBuf>,
    /// A JSON Web Key Set, if there is one.
    pub jwks: Option<PathBuf>,
}

/// Keys that have been read.
#[derive(Debug)]
pub struct Loaded {
    /// Those that can be used.
    pub keys: Keys,
    /// Those of the key set that can not: a line each, for the log.
    pub passed_over: Vec<String>,
}

/// The keys that tokens are checked with, of all files.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_keys(paths: &KeyPaths) -> Result<Loaded, KeyFileError> {
    let mut keys = Keys::default();
    add_key(&mut keys, &paths.key)?;
    if let Some(path) = &paths.hs256_secret {
        add_hs256_secret(&mut keys, path)?;
    }
    let passed_over = paths.jwks.as_ref().map(|path| add_jwks(&mut keys, path)).transpose()?.unwrap_or_default();
    Ok(Loaded { keys, passed_over })
}

/// Adds the Ed25519 key of a PEM file, private or public. After an error the keys are what they were.
pub(crate) fn add_key(keys: &mut Keys, path: &Path) -> Result<(), KeyFileError> {
    let pem = read_key(path)?;
    *keys = keys.clone().with_pem(&pem).map_err(|error| key_error(path, error))?;
    Ok(())
}

/// As [`add_key`], for a secret.
pub(crate) fn add_hs256_secret(keys: &mut Keys, path: &Path) -> Result<(), KeyFileError> {
    let bytes = read_secret(path)?;
    // An editor or `echo` ends the file with a line break that the issuer's copy need not have.
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    *keys = keys.clone().with_hs256_secret(secret).map_err(|error| key_error(path, error))?;
    Ok(())
}

/// As [`add_key`], for a key set. Those of its keys that are not for this server are named, a line each.
pub(crate) fn add_jwks(keys: &mut Keys, path: &Path) -> Result<Vec<String>, KeyFileError> {
    let jwks_error = |error| KeyFileError::Jwks { path: path.to_owned(), error };
    let (file, bytes) = read(path)?;
    let jwks = Jwks::parse(&bytes).map_err(jwks_error)?;
    if jwks.holds_secret {
        check_secret(path, &file)?;
    }
    *keys = jwks.add_to(keys.clone()).map_err(jwks_error)?;
    Ok(jwks.passed_over.iter().map(|line| format!("{}: {line}", path.display())).collect())
}

/// The key that tokens are signed with.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_signing_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    SigningKey::from_pem(&read_key(path)?).map_err(|error| key_error(path, error))
}

/// Makes a new signing key, unless there is a file already. Whole or not at all, whenever the power fails.
///
/// # Errors
/// See [`KeyFileError`].
pub fn create_if_missing(path: &Path) -> Result<(), KeyFileError> {
    let pem = generate_pem().map_err(|error| key_error(path, error))?;
    write_if_missing(path, pem.as_bytes())
}

/// As [`create_if_missing`], for bytes that are there.
pub(crate) fn write_if_missing(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let io_error = |error| KeyFileError::Io { path: path.to_owned(), error };
    if path.try_exists().map_err(io_error)? {
        return Ok(());
    }
    let fresh = path.with_extension("pem.new");
    write_fresh(&fresh, bytes).map_err(io_error)?;
    // A link, not a rename: it fails when somebody else's key has appeared in the meantime.
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh).map_err(io_error)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(error)),
        _ => sync_folder_of(path).map_err(io_error),
    }
}

fn write_fresh(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        // Left over from a start that was cut short.
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The file too, so that what is asked about it is asked about the bytes that were read.
fn read(path: &Path) -> Result<(File, Vec<u8>), KeyFileError> {
    let read = || {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        (&file).take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok((file, bytes))
    };
    read().map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => KeyFileError::NotFound { path: path.to_owned() },
        ErrorKind::PermissionDenied => KeyFileError::Unreadable { path: path.to_owned() },
        ErrorKind::IsADirectory => KeyFileError::Folder { path: path.to_owned() },
        _ => KeyFileError::Io { path: path.to_owned(), error },
    })
}

/// A file that anybody may read.
pub(crate) fn read_public(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    Ok(read(path)?.1)
}

/// A file that is kept from others.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let (file, bytes) = read(path)?;
    check_secret(path, &file)?;
    Ok(bytes)
}

/// A PEM file. One that holds a public key may be read by anybody.
fn read_key(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let (file, bytes) = read(path)?;
    let is_public = pem::parse(&bytes).is_ok_and(|pem| pem.tag() == "PUBLIC KEY");
    if !is_public {
        check_secret(path, &file)?;
    }
    Ok(bytes)
}

fn key_error(path: &Path, error: KeyError) -> KeyFileError {
    KeyFileError::Key { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto_spec::{TimestampMs, UserId};

    use super::*;
    use crate::access::auth::mint;

    struct World {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { path: folder.path().join("token-key.pem"), _folder: folder }
        }

        fn beside(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
            let path = self.path.with_file_name(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn load(world: &World, hs256_secret: Option<&Path>) -> Result<Keys, KeyFileError> {
        let paths = KeyPaths { key: world.path.clone(), hs256_secret: hs256_secret.map(Path::to_owned), jwks: None };
        load_keys(&paths).map(|loaded| loaded.keys)
    }

    #[test]
    fn a_new_key_is_its_owners_alone_and_signs_what_it_checks() {
        let world = World::new();
        create_if_missing(&world.path).unwrap();
        assert_eq!(fs::metadata(&world.path).unwrap().permissions().mode() & 0o7777, 0o600);
        let now = TimestampMs(1_800_000_000_000);
        let token = mint(&load_signing_key(&world.path).unwrap(), UserId(7), Duration::from_secs(60), now).unwrap();
        assert_eq!(load(&world, None).unwrap().verify(&token, now).unwrap().user, UserId(7));
        assert_eq!(fs::read_dir(world.path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_exists_is_never_overwritten_even_if_it_is_damaged() {
        let world = World::new();
        fs::write(&world.path, "damaged").unwrap();
        create_if_missing(&world.path).unwrap();
        assert_eq!(fs::read(&world.path).unwrap(), b"damaged");
    }

    #[test]
    fn what_a_start_that_was_cut_short_left_behind_is_no_key() {
        let world = World::new();
        world.beside("token-key.pem.new", b"half a k", 0o644);
        create_if_missing(&world.path).unwrap();
        load_signing_key(&world.path).unwrap();
        assert!(!world.path.with_extension("pem.new").exists());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_and_the_error_says_what_to_do() {
        let world = World::new();
        create_if_missing(&world.path).unwrap();
        for mode in [0o644, 0o604, 0o620, 0o602] {
            fs::set_permissions(&world.path, Permissions::from_mode(mode)).unwrap();
            let error = load(&world, None).unwrap_err().to_string();
            assert!(error.contains(&format!("`chmod 600 {}`", world.path.display())), "{error}");
            assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
            assert!(
                matches!(load_signing_key(&world.path), Err(KeyFileError::Access(error)) if matches!(*error, AccessError::Secret { .. }))
            );
        }
        // The group is one of this process.
        for mode in [0o400, 0o440, 0o640] {
            fs::set_permissions(&world.path, Permissions::from_mode(mode)).unwrap();
            load(&world, None).unwrap();
        }
        let secret = world.beside("secret", &[b'x'; 32], 0o644);
        assert!(
            matches!(load(&world, Some(&secret)), Err(KeyFileError::Access(error)) if matches!(*error, AccessError::Secret { .. }))
        );
    }

    #[test]
    fn a_public_key_may_be_read_by_anybody_and_can_not_mint() {
        let world = World::new();
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
                   -----END PUBLIC KEY-----\n";
        let public = world.beside("public.pem", pem.as_bytes(), 0o644);
        load_keys(&KeyPaths { key: public.clone(), hs256_secret: None, jwks: None }).unwrap();
        let Err(error) = load_signing_key(&public) else { panic!() };
        assert!(error.to_string().contains("public.pem: it is a public key"), "{error}");
    }

    #[test]
    fn the_line_break_at_the_end_of_a_secret_does_not_count() {
        let world = World::new();
        create_if_missing(&world.path).unwrap();
        for (bytes, good) in [("x".repeat(32) + "\n", true), ("x".repeat(32), true), ("x".repeat(31) + "\r\n", false)] {
            let secret = world.beside("secret", bytes.as_bytes(), 0o600);
            assert_eq!(load(&world, Some(&secret)).is_ok(), good, "{bytes:?}");
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let world = World::new();
        let error = load(&world, None).unwrap_err();
        assert!(matches!(error, KeyFileError::NotFound { .. }));
        assert!(error.to_string().contains("token-key.pem"));
    }

    #[test]
    fn a_key_set_is_loaded_beside_the_key_and_kept_from_others_if_it_holds_a_secret() {
        let world = World::new();
        create_if_missing(&world.path).unwrap();
        let load = |jwks: &Path| {
            load_keys(&KeyPaths { key: world.path.clone(), hs256_secret: None, jwks: Some(jwks.to_owned()) })
        };
        let public = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty":"RSA","kid":"of the web"}]}"#;
        let loaded = load(&world.beside("public.json", public.as_bytes(), 0o644)).unwrap();
        let [line] = &loaded.passed_over[..] else { panic!("{:?}", loaded.passed_over) };
        assert!(line.contains("public.json: key \"of the web\""), "{line}");
        let secret = r#"{"keys":[{"kty":"oct","k":"dGhpcnR5LXR3byBieXRlcyBvZiBhIHNlY3JldCwgb2s"}]}"#;
        load(&world.beside("secret.json", secret.as_bytes(), 0o600)).unwrap();
        let open = load(&world.beside("open.json", secret.as_bytes(), 0o644));
        assert!(matches!(open, Err(KeyFileError::Access(error)) if matches!(*error, AccessError::Secret { .. })));
        let damaged = load(&world.beside("damaged.json", b"{", 0o600)).unwrap_err();
        assert!(damaged.to_string().contains("damaged.json: it is not a JSON Web Key Set"), "{damaged}");
    }
}
