//! Where the history is: `[store]` and `[store.foundationdb]`. Owns their keys, defaults and bounds.
//!
//! Invariant: what somebody has set counts for something with the backend and the `ack` that they chose, or they are told.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Check, GIB, MIB};
use crate::{
    backend::{HAS_FOUNDATIONDB, NOT_BUILT, PREFIX_BYTES_MAX},
    limits::{SLOW_AFTER_MAX_MS, TICK_MS, TRANSACTION_MAX_MS},
};

/// The history store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Where the history is.
    pub backend: Backend,
    /// Memory for blocks read from disk, in bytes. Of the embedded store.
    pub cache_bytes: u64,
    /// How a database is used.
    pub foundationdb: FoundationDb,
}

/// Where the history is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// How a FoundationDB cluster is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// The database: they say `committed`.
    #[default]
    Committed,
    /// The journal's sync: they say `local`, and `committed` follows.
    Journal,
}

impl Default for Store {
    fn default() -> Self {
        Self { backend: Backend::default(), cache_bytes: 256 * MIB, foundationdb: FoundationDb::default() }
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
    pub(super) fn check(&self, check: &mut Check) {
        check.range("store.cache_bytes", self.cache_bytes, MIB..=1024 * GIB);
        self.foundationdb.check(check);
        match self.backend {
            Backend::Embedded => self.foundationdb.check_unused(check),
            Backend::FoundationDb => {
                check.that(HAS_FOUNDATIONDB, "store.backend", "foundationdb", || NOT_BUILT.to_owned());
                check.that(self.cache_bytes == Self::default().cache_bytes, "store.cache_bytes", self.cache_bytes, || {
                    "nobody reads it with store.backend = \"foundationdb\", which has its caches in the cluster: take it out"
                        .to_owned()
                });
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

    fn check(&self, check: &mut Check) {
        let prefix = &self.prefix;
        let is_prefix =
            (1..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        check.that(is_prefix, "store.foundationdb.prefix", format!("{prefix:?}"), || {
            format!("must be 1 to {PREFIX_BYTES_MAX} ASCII letters, digits and signs, without spaces")
        });
        check.range("store.foundationdb.timeout_ms", self.timeout_ms, 100..=TRANSACTION_MAX_MS);
        check.range("store.foundationdb.lanes", self.lanes.into(), 1..=16);
        check.range("store.foundationdb.slow_after_ms", self.slow_after_ms, TICK_MS..=SLOW_AFTER_MAX_MS);
        check.range("store.foundationdb.reads_max", self.reads_max.into(), 1..=1_024);
        if self.ack == Ack::Journal {
            let default = Self::default();
            let told = || "nobody reads it with ack = \"journal\": take it out, or set ack = \"committed\"".to_owned();
            check.that(self.lanes == default.lanes, "store.foundationdb.lanes", self.lanes, told);
            let is_default = self.slow_after_ms == default.slow_after_ms;
            check.that(is_default, "store.foundationdb.slow_after_ms", self.slow_after_ms, told);
        }
    }

    /// What somebody has set counts for something, or they are told.
    fn check_unused(&self, check: &mut Check) {
        let default = Self::default();
        let keys: [(_, &dyn fmt::Debug, _); 7] = [
            ("store.foundationdb.cluster_file", &self.cluster_file, self.cluster_file == default.cluster_file),
            ("store.foundationdb.prefix", &self.prefix, self.prefix == default.prefix),
            ("store.foundationdb.timeout_ms", &self.timeout_ms, self.timeout_ms == default.timeout_ms),
            ("store.foundationdb.lanes", &self.lanes, self.lanes == default.lanes),
            ("store.foundationdb.slow_after_ms", &self.slow_after_ms, self.slow_after_ms == default.slow_after_ms),
            ("store.foundationdb.reads_max", &self.reads_max, self.reads_max == default.reads_max),
            ("store.foundationdb.ack", &self.ack, self.ack == default.ack),
        ];
        for (key, value, is_default) in keys {
            check.that(is_default, key, format_args!("{value:?}"), || {
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
            assert!(found[0].allowed.contains("store.backend"), "{found:?}");
        }
    }

    /// What is wrong with the keys of a database, in a build with or without one.
    fn database_problems(text: &str) -> Vec<Problem> {
        let parsed = parse(&format!("[store]\nbackend = \"foundationdb\"\n{text}")).unwrap();
        match parsed.validate() {
            Ok(()) => Vec::new(),
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
        assert_eq!(database_problems("cache_bytes = 1048576")[0].key, "store.cache_bytes");
    }

    #[test]
    fn a_store_that_does_not_exist_is_refused_and_one_that_was_not_built_in_says_how_to_get_it() {
        let error = parse("[store]\nbackend = \"postgres\"").unwrap_err().to_string();
        assert!(error.contains("postgres") && error.contains("embedded") && error.contains("foundationdb"), "{error}");
        let checked = parse("[store]\nbackend = \"foundationdb\"").unwrap().validate();
        assert_eq!(checked.is_ok(), HAS_FOUNDATIONDB);
        if let Err(error) = checked {
            assert!(error.to_string().contains("--features foundationdb"), "{error}");
        }
    }
}
