//! Config: every knob of an operator, with its unit in its name. `ringpost.example.toml` beside this crate tells unit,
//! default and reason of each; a test keeps the two the same.
//!
//! Parsing refuses unknown keys and wrong types by name; [`Config::validate`] names everything else that is wrong, at
//! once. Nothing in here opens a socket or touches the data folder.

use std::{
    fmt,
    fs::File,
    io::Read,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use proto_spec::limits::SEND_WINDOW;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{
    backend::{HAS_FOUNDATIONDB, NOT_BUILT, PREFIX_BYTES_MAX},
    committer::OnStoreOutage,
    io::{OriginLimits, TlsListen},
    limits::{
        CORES_MAX, JOURNAL_SEGMENT_BYTES_MAX, JOURNAL_SEGMENT_BYTES_MIN, JOURNAL_SEGMENTS_MIN, MEMORY_BYTES_MIN,
        RATE_PER_S_MAX, SEAL_AFTER_COMMITTED_MS, SEAL_AFTER_MS, SMALL_FILE_BYTES_MAX, TICK_MS,
    },
    rate::Rate,
    shard,
};

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
    /// Silence after which a connection is pinged, in milliseconds.
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

/// What the server proves with who it is, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain; empty: there is no TLS. See [`Tls::files`].
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// Where clients connect with TLS; none: at [`Config::listen`], and only so.
    #[serde(with = "address_or_none")]
    pub listen: Option<SocketAddr>,
}

/// How often clients may do things. 0: as often as they like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sends of one device a second.
    pub device_sends_per_s: u32,
    /// Sends of all devices of one user a second.
    pub user_sends_per_s: u32,
    /// Conversations that one user opens a second.
    pub opened_per_s: u32,
    /// Fetches of one user a second.
    pub fetches_per_s: u32,
    /// Connections of one user a second.
    pub logins_per_s: u32,
    /// Frames of one connection a second.
    pub frames_per_s: u32,
    /// Bytes that one core may hold for clients that have not read them yet.
    pub core_memory_bytes: u64,
    /// Connections from one address at a time.
    pub address_connections: u32,
    /// Handshakes from one address at a time.
    pub address_handshakes: u32,
    /// Hellos from one address that are refused, a second.
    pub address_failures_per_s: u32,
    /// Networks whose addresses are not counted.
    pub trusted_networks: Vec<IpNet>,
}

/// What is written down about who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Whether there is an audit log in the data folder.
    pub enabled: bool,
}

/// Where metrics and health are served: an address, or nowhere, which a file writes as `""`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// Not at all.
    Off,
    /// There.
    At(SocketAddr),
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its section.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it must be.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.allowed)
    }
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
        Self { max: 100_000, handshake_timeout_ms: 10_000, ping_after_ms: 50_000, idle_timeout_ms: 120_000 }
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            device_sends_per_s: 20,
            user_sends_per_s: 40,
            opened_per_s: 5,
            fetches_per_s: 20,
            logins_per_s: 2,
            frames_per_s: 500,
            core_memory_bytes: 256 * MIB,
            address_connections: 1000,
            address_handshakes: 100,
            address_failures_per_s: 5,
            trusted_networks: vec![
                IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
                IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            ],
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true }
    }
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

    /// Which listeners speak TLS.
    #[must_use]
    pub fn tls_listen(&self) -> TlsListen {
        match (self.tls.files(), self.tls.listen) {
            (None, _) => TlsListen::Nowhere,
            (Some(_), None) => TlsListen::Everywhere,
            (Some(_), Some(address)) => TlsListen::At(address),
        }
    }

    fn check_addresses(&self, check: &mut Check) {
        let admin = match self.admin_listen {
            AdminListen::Off => None,
            AdminListen::At(address) => Some(address),
        };
        let plain = Some(self.listen).filter(|_| self.tls_listen() != TlsListen::Everywhere);
        for (key, address) in [("listen", plain), ("admin_listen", admin)] {
            let Some(address) = address else { continue };
            let reachable = !address.ip().to_canonical().is_loopback();
            check.that(!reachable || self.allow_plain_tcp_beyond_loopback, key, address, || {
                "other machines could reach this address, and everything there, tokens included, would cross the \
                 network unencrypted: use TLS (tls.cert_file) or a loopback address such as 127.0.0.1, or set \
                 allow_plain_tcp_beyond_loopback = true if the network is trusted or encrypts by itself"
                    .to_owned()
            });
        }
        // Port 0 asks the system for a free port, a different one each time.
        check.that(admin != Some(self.listen) || self.listen.port() == 0, "admin_listen", self.listen, || {
            "must be an address other than `listen`, or \"\" for none".to_owned()
        });
        if let Some(address) = self.tls.listen {
            check.that(
                address.port() == 0 || (address != self.listen && Some(address) != admin),
                "tls.listen",
                address,
                || {
                    "must be an address other than `listen` and `admin_listen`, or \"\" if `listen` is to speak TLS"
                        .to_owned()
                },
            );
        }
    }
}

impl Connections {
    fn check(&self, check: &mut Check) {
        check.range("connections.max", self.max.into(), 1..=16_000_000);
        check.range("connections.handshake_timeout_ms", self.handshake_timeout_ms, 2 * TICK_MS..=600_000);
        check.range("connections.ping_after_ms", self.ping_after_ms, 2 * TICK_MS..=86_400_000);
        check.range("connections.idle_timeout_ms", self.idle_timeout_ms, 4 * TICK_MS..=172_800_000);
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

impl Store {
    fn check(&self, check: &mut Check) {
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
        check.range("store.foundationdb.timeout_ms", self.timeout_ms, 100..=60_000);
        check.range("store.foundationdb.lanes", self.lanes.into(), 1..=16);
        check.range("store.foundationdb.slow_after_ms", self.slow_after_ms, TICK_MS..=60_000);
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

impl Limits {
    /// None of them.
    #[must_use]
    pub fn off() -> Self {
        Self {
            device_sends_per_s: 0,
            user_sends_per_s: 0,
            opened_per_s: 0,
            fetches_per_s: 0,
            logins_per_s: 0,
            frames_per_s: 0,
            core_memory_bytes: 0,
            address_connections: 0,
            address_handshakes: 0,
            address_failures_per_s: 0,
            trusted_networks: Vec::new(),
        }
    }

    /// As the rim takes them.
    #[must_use]
    pub fn of_origins(&self) -> OriginLimits {
        OriginLimits {
            connections: self.address_connections,
            handshakes: self.address_handshakes,
            failures: Rate::per_second(self.address_failures_per_s),
            trusted: self.trusted_networks.clone(),
        }
    }

    /// As shards take them.
    #[must_use]
    pub fn of_shards(&self) -> shard::Limits {
        shard::Limits {
            device_sends: Rate::per_second(self.device_sends_per_s),
            user_sends: Rate::per_second(self.user_sends_per_s),
            opened: Rate::per_second(self.opened_per_s),
            fetches: Rate::per_second(self.fetches_per_s),
            logins: Rate::per_second(self.logins_per_s),
            frames: Rate::per_second(self.frames_per_s),
            memory_bytes: match self.core_memory_bytes {
                0 => usize::MAX,
                bytes => bytes as usize,
            },
        }
    }

    fn check(&self, check: &mut Check) {
        for (key, per_s) in [
            ("limits.device_sends_per_s", self.device_sends_per_s),
            ("limits.user_sends_per_s", self.user_sends_per_s),
            ("limits.opened_per_s", self.opened_per_s),
            ("limits.fetches_per_s", self.fetches_per_s),
            ("limits.logins_per_s", self.logins_per_s),
            ("limits.frames_per_s", self.frames_per_s),
            ("limits.address_failures_per_s", self.address_failures_per_s),
        ] {
            check.range(key, per_s.into(), 0..=RATE_PER_S_MAX.into());
        }
        let memory = self.core_memory_bytes;
        check.that(memory == 0 || memory >= MEMORY_BYTES_MIN, "limits.core_memory_bytes", memory, || {
            format!("must be 0, or at least {MEMORY_BYTES_MIN}: a page for each of some hundred clients")
        });
        // A window of sends may be refused at once, and each of its refusals is a frame that is repeated later.
        let least = SEND_WINDOW as u32;
        check.that(
            self.frames_per_s == 0 || self.frames_per_s >= least,
            "limits.frames_per_s",
            self.frames_per_s,
            || format!("must be 0, or at least {least}: a client may have so many sends under way"),
        );
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

impl Tls {
    /// The files of certificate and key, if there is TLS.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        (!self.cert_file.as_os_str().is_empty()).then_some((&self.cert_file, &self.key_file))
    }

    fn check(&self, check: &mut Check) {
        let (cert, key) = (self.cert_file.as_os_str(), self.key_file.as_os_str());
        check.that(cert.is_empty() || !key.is_empty(), "tls.key_file", "\"\"", || {
            "must be the file of the key of tls.cert_file".to_owned()
        });
        check.that(key.is_empty() || !cert.is_empty(), "tls.cert_file", "\"\"", || {
            "must be the file of the certificate of tls.key_file".to_owned()
        });
        if let Some(address) = self.listen {
            check.that(!cert.is_empty(), "tls.listen", address, || {
                "needs tls.cert_file and tls.key_file, or --tls-self-signed".to_owned()
            });
        }
    }
}

/// An address that a file may leave out by `""`.
mod address_or_none {
    use super::{Deserialize, Deserializer, Serializer, SocketAddr, de};

    pub(super) fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            None => serializer.serialize_str(""),
            Some(address) => serializer.collect_str(address),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error| de::Error::custom(format!("{error}; \"\" leaves it out")))
    }
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(""),
            Self::At(address) => serializer.collect_str(address),
        }
    }
}

impl<'de> Deserialize<'de> for AdminListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|error| de::Error::custom(format!("{error}; \"\" turns it off")))
    }
}

/// Gathers what is wrong.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn that(&mut self, holds: bool, key: &'static str, value: impl fmt::Display, allowed: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(Problem { key, value: value.to_string(), allowed: allowed() });
        }
    }

    fn range(&mut self, key: &'static str, value: u64, range: std::ops::RangeInclusive<u64>) {
        self.that(range.contains(&value), key, value, || format!("must be {} to {}", range.start(), range.end()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../ringpost.example.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("x.toml"))
    }

    fn problems(text: &str) -> Vec<Problem> {
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
            "data_dir = \"\"\ncores = 1000\n[connections]\nmax = 0\nidle_timeout_ms = 60000\n\
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
    fn plain_tcp_beyond_loopback_needs_its_own_key() {
        for address in ["0.0.0.0:7700", "192.168.0.1:7700", "[::]:7700", "[::ffff:10.0.0.1]:7700"] {
            for key in ["listen", "admin_listen"] {
                let text = format!("{key} = \"{address}\"");
                let found = problems(&text);
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].key == key && found[0].allowed.contains("allow_plain_tcp_beyond_loopback = true"));
                parse(&format!("{text}\nallow_plain_tcp_beyond_loopback = true")).unwrap().validate().unwrap();
            }
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7600", "[::ffff:127.0.0.1]:7600"] {
            parse(&format!("listen = \"{address}\"")).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn the_admin_endpoint_can_be_off_but_not_on_the_clients_address() {
        let off = parse("admin_listen = \"\"").unwrap();
        assert_eq!(off.admin_listen, AdminListen::Off);
        off.validate().unwrap();
        assert_eq!(problems("admin_listen = \"127.0.0.1:7600\"")[0].key, "admin_listen");
        parse("listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"").unwrap().validate().unwrap();
    }

    #[test]
    fn what_speaks_tls_may_be_anywhere_and_what_is_plain_beside_it_may_not() {
        let files = "cert_file = \"c\"\nkey_file = \"k\"";
        let both = format!("[tls]\nlisten = \"0.0.0.0:7443\"\n{files}");
        for text in [format!("listen = \"0.0.0.0:7600\"\n[tls]\n{files}"), both.clone()] {
            parse(&text).unwrap().validate().unwrap();
        }
        let found = problems(&format!("listen = \"0.0.0.0:7600\"\n{both}"));
        assert!(
            found.len() == 1 && found[0].key == "listen" && found[0].allowed.contains("tls.cert_file"),
            "{found:?}"
        );
        assert_eq!(parse(&both).unwrap().tls_listen(), TlsListen::At("0.0.0.0:7443".parse().unwrap()));
        let found = problems(&format!("listen = \"127.0.0.1:7443\"\n[tls]\nlisten = \"127.0.0.1:7443\"\n{files}"));
        assert_eq!(found[0].key, "tls.listen");
    }

    #[test]
    fn half_of_what_tls_needs_is_refused() {
        for (text, key) in [
            ("[tls]\ncert_file = \"c\"", "tls.key_file"),
            ("[tls]\nkey_file = \"k\"", "tls.cert_file"),
            ("[tls]\nlisten = \"127.0.0.1:1\"", "tls.listen"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }

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
            "timeout_ms = 100\nlanes = 16\nslow_after_ms = 60000\nreads_max = 1024\nack = \"committed\"",
            "timeout_ms = 60000\nlanes = 1\nslow_after_ms = 50\nreads_max = 1\nack = \"committed\"",
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
            "timeout_ms = 60001",
            "lanes = 0",
            "lanes = 17",
            "slow_after_ms = 49",
            "slow_after_ms = 60001",
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

    #[test]
    fn the_configuration_for_measuring_holds_nobody_back() {
        let config = parse(include_str!("../../benches/unlimited.toml")).unwrap();
        config.validate().unwrap();
        assert_eq!(config.limits.of_shards(), shard::Limits::OFF);
        let limits = Limits { trusted_networks: config.limits.trusted_networks.clone(), ..Limits::off() };
        assert_eq!(config.limits, limits);
    }

    #[test]
    fn a_limit_that_no_client_could_obey_is_refused() {
        for (text, key) in [
            ("frames_per_s = 255", "limits.frames_per_s"),
            ("core_memory_bytes = 1", "limits.core_memory_bytes"),
            ("device_sends_per_s = 1000001", "limits.device_sends_per_s"),
        ] {
            let found = problems(&format!("[limits]\n{text}"));
            assert_eq!(found.iter().map(|problem| problem.key).collect::<Vec<_>>(), [key]);
        }
        assert!(parse("[limits]\ntrusted_networks = [\"10.0.0.1/33\"]").is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/does/not/exist.toml")).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist.toml"), "{error}");
    }
}
