//! Credentials: what a node judges clients by, read from the files that the configuration names. Replaced as a whole while the
//! node serves: a reload that fails half way leaves everything as it was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use thiserror::Error;
use tracing::warn;

use crate::{
    auth::Keys,
    certificate::{self, CertificateError, Tickets},
    config::Config,
    datadir,
    keyfile::{self, KeyFileError, KeyPaths, Loaded},
    shell::quoted,
};

/// See the head of this file.
#[derive(Debug)]
pub struct Credentials {
    /// What tokens are checked with.
    pub keys: Keys,
    /// What TLS connections are accepted with, if any are.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Why the credentials can not be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The keys.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The data folder has lost its key.
    #[error(
        "{path}: the key that signs tokens is gone from this data folder, and no token is good without it. Put it back from a backup; \
         or, if there is none, make another one, after which everybody needs a new token: ringpost new-key --data {folder}",
        path = path.display(),
        folder = quoted(folder)
    )]
    LostKey {
        /// Where it was.
        path: PathBuf,
        /// The data folder.
        folder: PathBuf,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Credentials {
    /// Reads the files. The tickets are the same over all reloads.
    ///
    /// # Errors
    /// One of them is missing, open to others, or holds something else.
    pub fn load(config: &Config, tickets: &Tickets) -> Result<Self, CredentialsError> {
        let auth = &config.auth;
        let Loaded { keys, passed_over } = keyfile::load_keys(&KeyPaths {
            key: key_path(config),
            hs256_secret: auth.hs256_secret_file().map(Path::to_owned),
            jwks: auth.jwks_file().map(Path::to_owned),
        })
        .map_err(|error| lost_key(config, error))?;
        for line in passed_over {
            warn!("a key is passed over: {line}");
        }
        let keys = keys
            .with_leeway(Duration::from_secs(auth.leeway_s))
            .with_audience(auth.audience())
            .with_issuer(auth.issuer());
        let files = config.tls.files();
        let tls = files.map(|(certificate, key)| certificate::load(certificate, key, tickets)).transpose()?;
        Ok(Self { keys, tls })
    }
}

/// What it means that there is no key, if it is the data folder's own and the folder has been used.
#[must_use]
pub fn lost_key(config: &Config, error: KeyFileError) -> CredentialsError {
    let folder = &config.data_dir;
    match error {
        KeyFileError::NotFound { path } if path == datadir::token_key_path(folder) && datadir::is_used(folder) => {
            CredentialsError::LostKey { path, folder: std::path::absolute(folder).unwrap_or_else(|_| folder.clone()) }
        }
        error => error.into(),
    }
}

/// Where the Ed25519 key is.
#[must_use]
pub fn key_path(config: &Config) -> PathBuf {
    config.auth.key_file().map_or_else(|| datadir::token_key_path(&config.data_dir), Path::to_owned)
}
