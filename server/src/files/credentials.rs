//! Credentials: what a node judges clients by, read from the files that the configuration names. Replaced as a whole while the
//! node serves: a reload that fails half way leaves everything as it was.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use proto_spec::{TimestampMs, WEBSOCKET_ALPN};
use rustls::ServerConfig;
use thiserror::Error;

use crate::{
    access::{auth::Keys, validity::Validity},
    config::Config,
    files::{
        certificate::{self, CertificateError, Tickets},
        datadir,
        keyfile::{self, KeyFileError},
    },
    operator::shell::quoted,
};

/// See the head of this file.
#[derive(Debug)]
pub struct Credentials {
    /// What tokens are checked with.
    pub keys: Keys,
    /// What TLS connections are accepted with, if any are.
    pub tls: Option<Accepting>,
}

/// What TLS connections are accepted with: one certificate, and by what is spoken within.
#[derive(Clone, Debug)]
pub struct Accepting {
    /// Where the protocol itself is.
    pub protocol: Arc<ServerConfig>,
    /// Where WebSocket is.
    pub websocket: Arc<ServerConfig>,
}

impl Accepting {
    fn with(protocol: Arc<ServerConfig>) -> Self {
        let mut websocket = ServerConfig::clone(&protocol);
        websocket.alpn_protocols = vec![WEBSOCKET_ALPN.to_vec()];
        Self { protocol, websocket: Arc::new(websocket) }
    }
}

/// Credentials as their files have them.
#[derive(Debug)]
pub struct Loaded {
    /// Themselves.
    pub credentials: Credentials,
    /// From when until when the certificate is good, if there is one.
    pub validity: Option<Validity>,
    /// Keys of the key set that are not used: a line each.
    pub passed_over: Vec<String>,
}

impl Loaded {
    /// What an operator is to be told of them.
    #[must_use]
    pub fn warnings(&self, now: TimestampMs) -> Vec<String> {
        warnings(&self.passed_over, self.validity, now)
    }
}

fn warnings(passed_over: &[String], validity: Option<Validity>, now: TimestampMs) -> Vec<String> {
    let passed_over = passed_over.iter().map(|line| format!("a key is passed over: {line}"));
    passed_over.chain(validity.and_then(|validity| validity.notice(now))).collect()
}

/// Why a file of credentials can not be used.
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

impl CredentialsError {
    /// The file that is not there, if it is that.
    #[must_use]
    pub fn missing(&self) -> Option<&Path> {
        match self {
            Self::Key(KeyFileError::NotFound { path })
            | Self::Certificate(CertificateError::File(KeyFileError::NotFound { path })) => Some(path),
            Self::Key(_) | Self::LostKey { .. } | Self::Certificate(_) => None,
        }
    }
}

/// Why the credentials can not be used: all of it.
#[derive(Debug, Error)]
pub struct CredentialsErrors {
    /// File by file.
    pub errors: Vec<CredentialsError>,
    /// As in [`Loaded`], of the files that can be used.
    validity: Option<Validity>,
    passed_over: Vec<String>,
}

impl CredentialsErrors {
    /// As [`Loaded::warnings`], of the files that can be used.
    #[must_use]
    pub fn warnings(&self, now: TimestampMs) -> Vec<String> {
        warnings(&self.passed_over, self.validity, now)
    }
}

impl fmt::Display for CredentialsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.errors.iter().map(CredentialsError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Credentials {
    /// Reads the files. The tickets are the same over all reloads.
    ///
    /// # Errors
    /// Some of them are missing, open to others, or hold something else.
    pub fn load(config: &Config, tickets: &Tickets) -> Result<Loaded, CredentialsErrors> {
        let auth = &config.auth;
        let mut errors = Vec::new();
        // A file that can not be used leaves the keys of the others, so that those are read too.
        let mut keys = Keys::default();
        let mut passed_over = Vec::new();
        let added = keyfile::add_key(&mut keys, &key_path(config)).map_err(|error| lost_key(config, error));
        errors.extend(added.err());
        let mut read = |taken: Result<(), KeyFileError>| errors.extend(taken.err().map(CredentialsError::from));
        if let Some(path) = auth.hs256_secret_file() {
            read(keyfile::add_hs256_secret(&mut keys, path));
        }
        if let Some(path) = auth.jwks_file() {
            read(keyfile::add_jwks(&mut keys, path).map(|lines| passed_over = lines));
        }
        let keys = keys
            .with_leeway(Duration::from_secs(auth.leeway_s))
            .with_audience(auth.audience())
            .with_issuer(auth.issuer());
        let files = config.tls.files();
        let certificate = files.map(|(certificate, key)| certificate::load(certificate, key, tickets)).transpose();
        let (tls, validity) = match certificate {
            Ok(certificate) => certificate.unzip(),
            Err(error) => {
                errors.push(error.into());
                (None, None)
            }
        };
        let validity = validity.flatten();
        if errors.is_empty() {
            Ok(Loaded { credentials: Self { keys, tls: tls.map(Accepting::with) }, validity, passed_over })
        } else {
            Err(CredentialsErrors { errors, validity, passed_over })
        }
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
