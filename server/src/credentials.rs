//! Credentials: what a node judges clients by, read from the files that the configuration names. Replaced as a whole while the
//! node serves: a reload that fails half way leaves everything as it was.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use crate::{
    auth::Keys,
    config::Config,
    datadir,
    keyfile::{self, KeyFileError, KeyPaths, Loaded},
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
        let auth = &config.auth;
        let Loaded { keys, passed_over } = keyfile::load_keys(&KeyPaths {
            key: key_path(config),
            hs256_secret: auth.hs256_secret_file().map(Path::to_owned),
            jwks: auth.jwks_file().map(Path::to_owned),
        })?;
        for line in passed_over {
            warn!("a key is passed over: {line}");
        }
        let leeway = Duration::from_secs(auth.leeway_s);
        Ok(Self { keys: keys.with_leeway(leeway).with_audience(auth.audience()).with_issuer(auth.issuer()) })
    }
}

/// Where the Ed25519 key is.
#[must_use]
pub fn key_path(config: &Config) -> PathBuf {
    config.auth.key_file().map_or_else(|| datadir::token_key_path(&config.data_dir), Path::to_owned)
}
