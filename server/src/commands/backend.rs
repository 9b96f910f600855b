//! Which store has the history: opened as the configuration says, for whoever can work with any.
//!
//! Owns the choice, and what must be known of a store before it is used. Does not own what is done with it.

use rim::rlimit::raise_descriptor_limit;
use storage::{EmbeddedConfig, EmbeddedStore, PurgeConfig, Store, StoreError, migrate::is_unfinished};
use thiserror::Error;

use crate::{
    config::{Backend, Config, NOT_BUILT},
    files::datadir::{DataDir, DataDirError},
    host::capacity::engine_tables_max,
};

/// Why there is no store.
#[derive(Debug, Error)]
pub enum BackendError {
    /// It cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder has none of its own, or another's.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Not by this program.
    #[error("{NOT_BUILT}")]
    NotBuilt,
    /// A part of the history may be missing.
    #[error(
        "a migration into this store has not been finished: `ringpost migrate --from {from} --to {to}` goes on with it; until \
         then the history is where it comes from"
    )]
    Unfinished {
        /// Where it comes from.
        from: Backend,
        /// This one.
        to: Backend,
    },
}

/// Something that is done with a store, whichever it is.
pub trait UseStore {
    /// What comes of it.
    type Output;

    /// Does it.
    fn with<S: Store>(self, store: S) -> Self::Output;
}

/// Does something with the store that has the history by this configuration. All of it is there.
///
/// # Errors
/// There is no such store, it cannot be opened, or a migration into it has not been finished.
pub fn with_history<U: UseStore>(config: &Config, data: &DataDir, user: U) -> Result<U::Output, BackendError> {
    let whole = Whole { user, backend: config.store.backend };
    match config.store.backend {
        Backend::Embedded => whole.with(open_embedded(config, data)?),
        Backend::FoundationDb => with_foundationdb(config, whole)?,
    }
}

/// Opens the store in a data folder, making it if nothing was ever in it.
///
/// # Errors
/// The folder is not the one that was left there, or see [`EmbeddedStore::open`].
pub fn open_embedded(config: &Config, data: &DataDir) -> Result<EmbeddedStore, BackendError> {
    data.check_store()?;
    let tables_open_max = engine_tables_max(config.cores(), raise_descriptor_limit());
    let cache_bytes = config.store.cache_bytes;
    let purge = PurgeConfig { after_ms: config.store.purge_after_s * 1_000, bytes_max: config.store.purge_bytes_max };
    Ok(EmbeddedStore::open(&data.store(), EmbeddedConfig { cache_bytes, tables_open_max, purge })?)
}

/// Does something with the store in the database that a configuration describes, chosen or not.
///
/// # Errors
/// This program was built without FoundationDB, or the store cannot be opened.
#[cfg(feature = "foundationdb")]
pub fn with_foundationdb<U: UseStore>(config: &Config, user: U) -> Result<U::Output, BackendError> {
    let database = &config.store.foundationdb;
    let network = storage::Network::start()?;
    let cluster_file = database.cluster_file().map(Into::into);
    let (prefix, timeout_ms) = (database.prefix.clone(), database.timeout_ms);
    let config = storage::FdbConfig { cluster_file, prefix, timeout_ms };
    Ok(user.with(pollster::block_on(storage::FdbStore::open(&network, &config))?))
}

/// Does something with the store in the database that a configuration describes, chosen or not.
///
/// # Errors
/// This program was built without FoundationDB.
#[cfg(not(feature = "foundationdb"))]
pub fn with_foundationdb<U: UseStore>(_: &Config, _: U) -> Result<U::Output, BackendError> {
    Err(BackendError::NotBuilt)
}

/// Of whom only a store without gaps is used.
struct Whole<U> {
    user: U,
    backend: Backend,
}

impl<U: UseStore> UseStore for Whole<U> {
    type Output = Result<U::Output, BackendError>;

    fn with<S: Store>(self, store: S) -> Self::Output {
        let to = self.backend;
        match pollster::block_on(is_unfinished(&store))? {
            true => Err(BackendError::Unfinished { from: to.other(), to }),
            false => Ok(self.user.with(store)),
        }
    }
}
