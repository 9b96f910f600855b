//! Config: every knob of an operator, with its unit in its name. `ringpost.example.toml` beside this crate tells unit,
//! default and reason of each; a test keeps the two the same.
//!
//! Parsing refuses unknown keys and wrong types by name; [`Config::validate`] names everything else that is wrong, at
//! once. Nothing in here opens a socket or touches the data folder.
//!
//! Here: reading, what the file as a whole says, and the sections that are short. Addresses and TLS are `listen`'s, where the
//! history is `store`'s, what clients may do `limits`'s; `check` gathers what is wrong.

mod check;
mod limits;
mod listen;
mod store;

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    committer::OnStoreOutage,
    limits::{
        CORES_MAX, JOURNAL_SEGMENT_BYTES_MAX, JOURNAL_SEGMENT_BYTES_MIN, JOURNAL_SEGMENTS_MIN, PING_AFTER_MS_MIN,
        SEAL_AFTER_COMMITTED_MS, SEAL_AFTER_MS, SMALL_FILE_BYTES_MAX, TICK_MS,
    },
};
use check::Check;
pub use check::Problem;
pub use limits::Limits;
pub use listen::{AdminListen, Tls};
pub use store::{Ack, Backend, FoundationDb, Store};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// What a file may say. Reasons for the defaults are in `ringpost.example.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where metrics and health are served.
    pub admin_listen: AdminListen,
    /// Whether plain listeners, [`Config::admin_listen`] among them, may be reached from other machines.
    pub allow_plain_tcp_beyond_loopback: bool,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Threads that serve, one a core; 0: as many as the machine has. See [`Config::cores`].
    pub cores: u16,
    /// Limits on connections.
    pub connections: Connections,
    /// The log on the way to the acknowledgement.
    pub journal: Journal,
    /// The history store.
    pub store: Store,
    /// Who may connect.
    pub auth: Auth,
    /// What the server proves with who it is.
    pub tls: Tls,
    /// What is written down about that.
    pub audit: Audit,
    /// How often clients may do things.
    pub limits: Limits,
}

/// Limits on connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Connections of the whole node, handshakes included. More are refused.
    pub max: u32,
    /// From accept to a whole hello, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Silence of either side that no connection goes beyond without a ping, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which a connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
}

/// The log on the way to the acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Size of all segments, in bytes. Sends are refused while it is full.
    pub bytes_max: u64,
    /// Age at which a segment that is neither full nor empty is sealed, in milliseconds; zero for what [`Config::seal_after_ms`]
    /// says.
    pub seal_after_ms: u64,
    /// What to do with sends while the store does not take what the journal has for it.
    pub on_store_outage: OnStoreOutage,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// PEM file of the Ed25519 key that tokens are checked with; empty: the data folder's own. See [`Auth::key_file`].
    pub key_file: PathBuf,
    /// File of the HS256 secret; empty: HS256 tokens are refused. See [`Auth::hs256_secret_file`].
    pub hs256_secret_file: PathBuf,
    /// File of a JSON Web Key Set with more keys; empty: none. See [`Auth::jwks_file`].
    pub jwks_file: PathBuf,
    /// What the `aud` of a token must name; empty: tokens that name any are refused.
    pub audience: String,
    /// What the `iss` of a token must be; empty: anything.
    pub issuer: String,
    /// How far the clocks of issuer and server may differ, in seconds.
    pub leeway_s: u64,
    /// How long before its token expires a connected client is told so, in seconds.
    pub expiry_warning_s: u64,
}

/// What is written down about who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Whether there is an audit log in the data folder.
    pub enabled: bool,
}

/// Why a configuration can not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: {error}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Larger than any configuration.
    #[error("{path}: larger than {SMALL_FILE_BYTES_MAX} bytes, this is not a configuration", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Not TOML, or a key that does not exist, or a value of the wrong type.
    #[error("{path}, line {line}, `{text}`: {message}", path = path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What it says.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// Values that are not allowed, all of them.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
            admin_listen: AdminListen::At(SocketAddr::from(([127, 0, 0, 1], 7601))),
            allow_plain_tcp_beyond_loopback: false,
            data_dir: PathBuf::from("ringpost-data"),
            cores: 0,
            connections: Connections::default(),
            journal: Journal::default(),
            store: Store::default(),
            auth: Auth::default(),
            tls: Tls::default(),
            audit: Audit::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: 100_000, handshake_timeout_ms: 10_000, ping_after_ms: 25_000, idle_timeout_ms: 120_000 }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_bytes: 64 * MIB, bytes_max: GIB, seal_after_ms: 0, on_store_outage: OnStoreOutage::Accept }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            key_file: PathBuf::new(),
            hs256_secret_file: PathBuf::new(),
            jwks_file: PathBuf::new(),
            audience: String::new(),
            issuer: String::new(),
            leeway_s: 30,
            expiry_warning_s: 60,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Config {
    /// Reads a file. What it does not mention is as in [`Config::default`]. Values are not validated yet, so that the
    /// command line can change some first.
    ///
    /// # Errors
    /// The file can not be read, or is not TOML, or has an unknown key or a value of the wrong type.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        let size = file.take(SMALL_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if size as u64 > SMALL_FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text, path)
    }

    /// As [`Config::load`], for the text of the file `path`.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown key or a value of the wrong type.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text[..start].matches('\n').count();
            ConfigError::Syntax {
                path: path.to_owned(),
                line: line + 1,
                text: text.lines().nth(line).unwrap_or_default().trim().to_owned(),
                message: error.message().replace('\n', ", "),
            }
        })
    }

    /// Age at which a segment of the journal that is neither full nor empty is sealed, in milliseconds. If nobody has said:
    /// a minute, or [`SEAL_AFTER_COMMITTED_MS`] where people wait for it.
    #[must_use]
    pub fn seal_after_ms(&self) -> u64 {
        let is_waited_for = self.store.backend == Backend::FoundationDb && self.store.foundationdb.ack == Ack::Journal;
        match self.journal.seal_after_ms {
            0 if is_waited_for => SEAL_AFTER_COMMITTED_MS,
            0 => SEAL_AFTER_MS,
            said => said,
        }
    }

    /// Threads that serve, one a core.
    #[must_use]
    pub fn cores(&self) -> u16 {
        match self.cores {
            0 => {
                let available = std::thread::available_parallelism().map_or(1, NonZero::get);
                u16::try_from(available).unwrap_or(CORES_MAX).min(CORES_MAX)
            }
            cores => cores,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Check::default();
        self.check_addresses(&mut check);
        check.that(!self.data_dir.as_os_str().is_empty(), "data_dir", "\"\"", || {
            "must be the path of a folder".to_owned()
        });
        check.range("cores", self.cores.into(), 0..=CORES_MAX.into());
        self.connections.check(&mut check);
        self.journal.check(&mut check);
        self.store.check(&mut check);
        check.range("auth.leeway_s", self.auth.leeway_s, 0..=600);
        self.tls.check(&mut check);
        check.range("auth.expiry_warning_s", self.auth.expiry_warning_s, 0..=86_400);
        self.limits.check(&mut check);
        if check.problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(check.problems)) }
    }
}

impl Connections {
    fn check(&self, check: &mut Check) {
        check.range("connections.max", self.max.into(), 1..=16_000_000);
        check.range("connections.handshake_timeout_ms", self.handshake_timeout_ms, 2 * TICK_MS..=600_000);
        check.range("connections.ping_after_ms", self.ping_after_ms, PING_AFTER_MS_MIN..=86_400_000);
        check.range("connections.idle_timeout_ms", self.idle_timeout_ms, 2 * PING_AFTER_MS_MIN..=172_800_000);
        let ping_after_ms = self.ping_after_ms;
        check.that(
            self.idle_timeout_ms >= ping_after_ms.saturating_mul(2),
            "connections.idle_timeout_ms",
            self.idle_timeout_ms,
            || format!("must be at least twice connections.ping_after_ms ({ping_after_ms}), so that a pong has time to arrive"),
        );
    }
}

impl Journal {
    fn check(&self, check: &mut Check) {
        let segment_bytes = self.segment_bytes;
        let allowed = JOURNAL_SEGMENT_BYTES_MIN..=JOURNAL_SEGMENT_BYTES_MAX;
        check.range("journal.segment_bytes", segment_bytes, allowed);
        check.that(segment_bytes.is_multiple_of(4 * KIB), "journal.segment_bytes", segment_bytes, || {
            "must be a multiple of 4096, the page of the journal".to_owned()
        });
        let least = segment_bytes.saturating_mul(JOURNAL_SEGMENTS_MIN);
        check.that(self.bytes_max >= least, "journal.bytes_max", self.bytes_max, || {
            format!("must be at least {least}, which is {JOURNAL_SEGMENTS_MIN} times journal.segment_bytes")
        });
        if self.seal_after_ms > 0 {
            check.range("journal.seal_after_ms", self.seal_after_ms, 2 * TICK_MS..=86_400_000);
        }
    }
}

impl Auth {
    /// The file of the key that tokens are checked with, if it is not the data folder's own.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        (!self.key_file.as_os_str().is_empty()).then_some(&self.key_file)
    }

    /// The file of the HS256 secret, if there is one.
    #[must_use]
    pub fn hs256_secret_file(&self) -> Option<&Path> {
        (!self.hs256_secret_file.as_os_str().is_empty()).then_some(&self.hs256_secret_file)
    }

    /// The file of the key set, if there is one.
    #[must_use]
    pub fn jwks_file(&self) -> Option<&Path> {
        (!self.jwks_file.as_os_str().is_empty()).then_some(&self.jwks_file)
    }

    /// Whom tokens must be for, if that is expected.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        (!self.audience.is_empty()).then_some(&self.audience)
    }

    /// Whom tokens must be from, if that is expected.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        (!self.issuer.is_empty()).then_some(&self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../ringpost.example.toml");

    pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("x.toml"))
    }

    pub(super) fn problems(text: &str) -> Vec<Problem> {
        match parse(text).unwrap().validate() {
            Err(ConfigError::Invalid(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    fn keys_of(table: &toml::Table, prefix: &str, keys: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(table) => keys_of(table, &format!("{prefix}{key}."), keys),
                _ => assert!(keys.insert(format!("{prefix}{key}"))),
            }
        }
    }

    #[test]
    fn the_example_is_exactly_the_defaults() {
        assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_example_has_every_key_and_no_other() {
        let (mut documented, mut real) = (BTreeSet::new(), BTreeSet::new());
        keys_of(&EXAMPLE.parse().unwrap(), "", &mut documented);
        keys_of(&toml::Table::try_from(Config::default()).unwrap(), "", &mut real);
        assert_eq!(documented, real);
    }

    #[test]
    fn every_key_of_the_example_is_preceded_by_unit_default_and_reason() {
        let mut comment = String::new();
        for line in EXAMPLE.lines() {
            match line.strip_prefix("# ") {
                Some(text) => comment.push_str(text),
                None if line.contains(" = ") => {
                    for part in ["Unit: ", "Default: ", "because"] {
                        assert!(comment.contains(part), "no `{part}` before `{line}`");
                    }
                    comment.clear();
                }
                None => comment.clear(),
            }
        }
    }

    #[test]
    fn a_key_that_is_not_mentioned_keeps_its_default_whatever_its_section_says() {
        let parsed = parse("[auth]\nkey_file = \"k\"\n[connections]\nmax = 5\n[journal]\n[store]").unwrap();
        let mut expected = Config::default();
        expected.auth.key_file = PathBuf::from("k");
        expected.connections.max = 5;
        assert_eq!(parsed, expected);
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
        assert!(Config::default().cores() > 0);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (text, name) in [("lisen = \"x\"", "lisen"), ("[journal]\nsize = 1", "size"), ("[tsl]\n", "tsl")] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown field `{name}`")) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_line() {
        for text in [
            "listen = \"localhost\"",
            "admin_listen = \"off\"",
            "cores = -1",
            "cores = \"all\"",
            "journal.on_store_outage = \"ignore\"",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.toml, line 1, `{text}`: ")), "{error}");
        }
    }

    #[test]
    fn all_problems_are_named_at_once_with_key_value_and_what_is_allowed() {
        let found = problems(
            "data_dir = \"\"\ncores = 1000\n[connections]\nmax = 0\nidle_timeout_ms = 40000\n\
             [journal]\nsegment_bytes = 1048577\nbytes_max = 1\n[auth]\nleeway_s = 3600",
        );
        let keys: Vec<_> = found.iter().map(|problem| problem.key).collect();
        assert_eq!(
            keys,
            [
                "data_dir",
                "cores",
                "connections.max",
                "connections.idle_timeout_ms",
                "journal.segment_bytes",
                "journal.bytes_max",
                "auth.leeway_s"
            ],
        );
        assert_eq!(found[1].to_string(), "cores = 1000: must be 0 to 128");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/does/not/exist.toml")).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist.toml"), "{error}");
    }
}
