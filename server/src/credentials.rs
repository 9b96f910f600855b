//! Credentials: what a node judges clients by, read from the files that the configuration names. Replaced as a whole while the
//! node serves: a reload that fails half way leaves everything as it was.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    auth::Keys,
    config::Config,
    datadir,
    keyfile::{self, KeyFileError},
};

/// See the head of this file.
#[derive(Debug)]
pub struct Credentials {
    /// What tokens are checked with.
    pub keys: Keys,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is missing, open to others, or holds something else.
    pub fn load(config: &Config) -> Result<Self, KeyFileError> {
        let keys = keyfile::load_keys(&key_path(config), config.auth.hs256_secret_file())?;
        Ok(Self { keys: keys.with_leeway(Duration::from_secs(config.auth.leeway_s)) })
    }
}

/// Where the Ed25519 key is.
#[must_use]
pub fn key_path(config: &Config) -> PathBuf {
    config.auth.key_file().map_or_else(|| datadir::token_key_path(&config.data_dir), Path::to_owned)
}
