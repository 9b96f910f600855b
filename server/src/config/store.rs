//! Where the history is: `[store]` and `[store.foundationdb]`. Owns their keys, defaults and bounds.
//!
//! Invariant: what somebody has set counts for something with the backend and the `ack` that they chose, or they are told.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Check, GIB, MIB, TIB,
    key::{Key, Slot, Words, bytes, count, millis, seconds},
};
use crate::limits::{PURGE_AFTER_S_MAX, PURGE_BYTES_MAX, SLOW_AFTER_MAX_MS, TICK_MS, TRANSACTION_MAX_MS};

/// Whether this program was built with FoundationDB.
pub const HAS_FOUNDATIONDB: bool = cfg!(feature = "foundationdb");

/// What an operator reads when it was not.
pub const NOT_BUILT: &str = "this ringpost was built without FoundationDB: install FoundationDB's client library (the package \
                             foundationdb-clients) and libclang, and build it with `cargo build --release -p server \
                             --features foundationdb`";

/// Most bytes of what all keys in a database begin with, 32: they are in each of millions of keys.
pub(super) const PREFIX_BYTES_MAX: usize = 32;
#[cfg(feature = "foundationdb")]
const _: () = assert!(PREFIX_BYTES_MAX == storage::fdb::PREFIX_BYTES_MAX);

/// The history store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where the history is.
    pub backend: Backend,
    /// Memory for blocks read from disk, in bytes. Of the embedded store.
    pub cache_bytes: u64,
    /// How long after the last time what was edited, taken back or deleted goes from the store's files, in seconds. Of the embedded store.
    pub purge_after_s: u64,
    /// Most bytes of a store for which that is done: it goes through all of it. Of the embedded store.
    pub purge_bytes_max: u64,
    /// How a database is used.
    pub foundationdb: FoundationDb,
}

/// Where the history is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// In the data folder.
    #[default]
    Embedded,
    /// In a FoundationDB cluster.
    FoundationDb,
}

impl Backend {
    /// The one that this is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Embedded => Self::FoundationDb,
            Self::FoundationDb => Self::Embedded,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::FoundationDb => "foundationdb",
        })
    }
}

impl Words for Backend {
    const ALL: &'static [(Self, &'static str)] = &[(Self::Embedded, "embedded"), (Self::FoundationDb, "foundationdb")];
}

impl Words for Ack {
    const ALL: &'static [(Self, &'static str)] = &[(Self::Committed, "committed"), (Self::Journal, "journal")];
}

/// How a FoundationDB cluster is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDb {
    /// The file that says where the cluster is; empty: FoundationDB's own default. See [`FoundationDb::cluster_file`].
    pub cluster_file: PathBuf,
    /// What all keys begin with.
    pub prefix: String,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: u64,
    /// Commits that a core has under way at a time.
    pub lanes: u16,
    /// When a commit takes longer than this, in milliseconds, acknowledgements leave as `local`.
    pub slow_after_ms: u64,
    /// Reads that a core has under way at a time.
    pub reads_max: u16,
    /// What acknowledgements wait for.
    pub ack: Ack,
}

/// What acknowledgements wait for, where the history is in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The database: they say `committed`.
    #[default]
    Committed,
    /// The journal's sync: they say `local`, and `committed` follows.
    Journal,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            cache_bytes: 256 * MIB,
            purge_after_s: 24 * 60 * 60,
            purge_bytes_max: GIB,
            foundationdb: FoundationDb::default(),
        }
    }
}

impl Default for FoundationDb {
    fn default() -> Self {
        Self {
            cluster_file: PathBuf::new(),
            prefix: "ringpost/".to_owned(),
            timeout_ms: 5_000,
            lanes: 4,
            slow_after_ms: 1_000,
            reads_max: 64,
            ack: Ack::default(),
        }
    }
}

impl Store {
    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { backend, cache_bytes, purge_after_s, purge_bytes_max, foundationdb } = self;
        let mut keys = vec![
            Key { name: "store.backend", slot: Slot::Choice(backend) },
            Key { name: "store.cache_bytes", slot: bytes(cache_bytes, MIB..=TIB).into() },
            Key { name: "store.purge_after_s", slot: seconds(purge_after_s, 1..=PURGE_AFTER_S_MAX).into() },
            Key { name: "store.purge_bytes_max", slot: bytes(purge_bytes_max, 0..=PURGE_BYTES_MAX).into() },
        ];
        keys.extend(foundationdb.keys());
        keys
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        self.foundationdb.check(check);
        match self.backend {
            Backend::Embedded => self.foundationdb.check_unused(check),
            Backend::FoundationDb => {
                check.that(self.cache_bytes == Self::default().cache_bytes, &["store.cache_bytes"], || {
                    "nobody reads it with store.backend = \"foundationdb\", which has its caches in the cluster: take it out"
                        .to_owned()
                });
                let default = Self::default();
                let told = || {
                    "nobody reads it with store.backend = \"foundationdb\", which forgets by itself: take it out"
                        .to_owned()
                };
                check.that(self.purge_after_s == default.purge_after_s, &["store.purge_after_s"], told);
                check.that(self.purge_bytes_max == default.purge_bytes_max, &["store.purge_bytes_max"], told);
                check.that(HAS_FOUNDATIONDB, &["store.backend"], || NOT_BUILT.to_owned());
            }
        }
    }
}

impl FoundationDb {
    /// The file that says where the cluster is, if it is not FoundationDB's own default.
    #[must_use]
    pub fn cluster_file(&self) -> Option<&Path> {
        (!self.cluster_file.as_os_str().is_empty()).then_some(&self.cluster_file)
    }

    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { cluster_file, prefix, timeout_ms, lanes, slow_after_ms, reads_max, ack } = self;
        let cluster_file = Slot::Path {
            value: cluster_file,
            what: "a file",
            example: "/etc/foundationdb/fdb.cluster",
            empty: Some("where FoundationDB's own tools look"),
        };
        vec![
            Key { name: "store.foundationdb.cluster_file", slot: cluster_file },
            Key { name: "store.foundationdb.prefix", slot: Slot::Text { value: prefix, example: "ringpost/" } },
            Key { name: "store.foundationdb.timeout_ms", slot: millis(timeout_ms, 100..=TRANSACTION_MAX_MS).into() },
            Key { name: "store.foundationdb.lanes", slot: count(lanes, "lanes", 1..=16).into() },
            Key {
                name: "store.foundationdb.slow_after_ms",
                slot: millis(slow_after_ms, TICK_MS..=SLOW_AFTER_MAX_MS).into(),
            },
            Key { name: "store.foundationdb.reads_max", slot: count(reads_max, "reads", 1..=1_024).into() },
            Key { name: "store.foundationdb.ack", slot: Slot::Choice(ack) },
        ]
    }

    fn check(&self, check: &mut Check<'_>) {
        let prefix = &self.prefix;
        let is_prefix =
            (1..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        check.that(is_prefix, &["store.foundationdb.prefix"], || {
            format!("must be 1 to {PREFIX_BYTES_MAX} ASCII letters, digits and signs, without spaces; for example: prefix = \"ringpost/\"")
        });
        if self.ack == Ack::Journal {
            let default = Self::default();
            let told = || "nobody reads it with ack = \"journal\": take it out, or set ack = \"committed\"".to_owned();
            check.that(self.lanes == default.lanes, &["store.foundationdb.lanes"], told);
            check.that(self.slow_after_ms == default.slow_after_ms, &["store.foundationdb.slow_after_ms"], told);
        }
    }

    /// What somebody has set counts for something, or they are told.
    fn check_unused(&self, check: &mut Check<'_>) {
        let (mut own, mut default) = (self.clone(), Self::default());
        for (key, default) in own.keys().iter().zip(default.keys()) {
            check.that(key.slot.to_string() == default.slot.to_string(), &[key.name, "store.backend"], || {
                "nobody reads it with store.backend = \"embedded\": take it out, or set store.backend = \"foundationdb\""
                    .to_owned()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ConfigError, Problem,
        tests::{parse, problems},
    };

    #[test]
    fn what_only_a_database_needs_is_refused_without_one() {
        for line in [
            "cluster_file = \"c\"",
            "prefix = \"p\"",
            "timeout_ms = 100",
            "lanes = 1",
            "slow_after_ms = 50",
            "reads_max = 1",
            "ack = \"journal\"",
        ] {
            let found = problems(&format!("[store.foundationdb]\n{line}"));
            let key = format!("store.foundationdb.{}", line.split(' ').next().unwrap());
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
            assert!(found[0].reason.contains("store.backend"), "{found:?}");
        }
    }

    /// What is wrong with the keys of a database, in a build with or without one.
    fn database_problems(text: &str) -> Vec<Problem> {
        match parse(&format!("[store]\nbackend = \"foundationdb\"\n{text}")) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(mut problems)) => {
                problems.retain(|problem| problem.key != "store.backend");
                problems
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_database_is_described_within_bounds() {
        let longest = format!("prefix = \"{}\"", "p".repeat(PREFIX_BYTES_MAX));
        for line in [
            "",
            "cluster_file = \"c\"",
            &longest,
            "prefix = \"~!a/Z\"",
            "timeout_ms = 100\nlanes = 16\nslow_after_ms = 4000\nreads_max = 1024\nack = \"committed\"",
            "timeout_ms = 5000\nlanes = 1\nslow_after_ms = 50\nreads_max = 1\nack = \"committed\"",
            "reads_max = 1\nack = \"journal\"",
        ] {
            assert_eq!(database_problems(&format!("[store.foundationdb]\n{line}")), []);
        }
        let too_long = format!("prefix = \"{}\"", "p".repeat(PREFIX_BYTES_MAX + 1));
        for line in [
            &too_long,
            "prefix = \"\"",
            "prefix = \"a b\"",
            "prefix = \"a\\u0000\"",
            "prefix = \"é\"",
            "timeout_ms = 99",
            "timeout_ms = 5001",
            "lanes = 0",
            "lanes = 17",
            "slow_after_ms = 49",
            "slow_after_ms = 4001",
            "reads_max = 0",
            "reads_max = 1025",
            "lanes = 2\nack = \"journal\"",
            "slow_after_ms = 200\nack = \"journal\"",
        ] {
            let found = database_problems(&format!("[store.foundationdb]\n{line}"));
            let key = format!("store.foundationdb.{}", line.split(' ').next().unwrap());
            assert!(found.len() == 1 && found[0].key == key, "{line}: {found:?}");
        }
        assert!(parse("[store.foundationdb]\nack = \"never\"").is_err());
        for line in ["cache_bytes = 1048576", "purge_after_s = 60", "purge_bytes_max = 0"] {
            let key = format!("store.{}", line.split(' ').next().unwrap());
            assert_eq!(database_problems(line)[0].key, key);
        }
    }

    #[test]
    fn a_store_that_does_not_exist_is_refused_and_one_that_was_not_built_in_says_how_to_get_it() {
        let error = parse("[store]\nbackend = \"postgres\"").unwrap_err().to_string();
        assert!(error.contains("postgres") && error.contains("embedded") && error.contains("foundationdb"), "{error}");
        let checked = parse("[store]\nbackend = \"foundationdb\"");
        assert_eq!(checked.is_ok(), HAS_FOUNDATIONDB);
        if let Err(error) = checked {
            assert!(error.to_string().contains("--features foundationdb"), "{error}");
        }
    }
}
