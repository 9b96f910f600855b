//! Config: every knob of an operator, with its unit in its name. `ringpost.example.toml` beside this crate tells unit,
//! default and reason of each; a test keeps the two the same.
//!
//! Reading a file gathers everything that is wrong with it ([`Draft`]); [`Config::validate`] does the same for one that is made in
//! a program. Nothing in here opens a socket or touches the data folder.
//!
//! Here: the file as a whole, and the sections that are short. Addresses and TLS are `listen`'s, where the history is `store`'s, what
//! clients may do `limits`'s, what is kept for apps that open `cache`'s, who is told who is there `presence`'s, which other
//! nodes there are `cluster`'s. A section declares its keys (`key`); `draft` reads them, `check` gathers what is wrong, and the rest
//! are words for mistakes: `address`, `quantity`, `unknown`, `syntax`.

mod address;
mod cache;
mod check;
mod cluster;
mod draft;
mod key;
mod limits;
mod listen;
mod presence;
mod push;
mod quantity;
mod store;
mod syntax;
mod unknown;
mod web;
mod websocket;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    core::OriginLimits,
    durability::committer::OnStoreOutage,
    limits::{
        CORES_MAX, JOURNAL_GAP_US_MAX, JOURNAL_SEGMENT_BYTES_MAX, JOURNAL_SEGMENT_BYTES_MIN, JOURNAL_SEGMENTS_MIN,
        PING_AFTER_MS_MIN, SEAL_AFTER_COMMITTED_MS, SEAL_AFTER_MS, TICK_MS,
    },
};
pub use cache::Cache;
use check::Check;
pub use check::{Place, Problem};
pub use cluster::Cluster;
pub use draft::Draft;
use key::{Key, Slot, Words, bytes, count, millis, seconds};
pub use limits::Limits;
pub use listen::{AdminListen, Listen, Tls, Transport};
pub use presence::Presence;
pub use push::{Apns, Push, Services, WebPush};
use quantity::{Unit, human};
pub use store::{Ack, Backend, FoundationDb, HAS_FOUNDATIONDB, NOT_BUILT, Store};
pub use web::{Page, Web};
pub use websocket::WebSocket;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

/// What a file may say. Reasons for the defaults are in `ringpost.example.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Where browsers connect.
    pub websocket: WebSocket,
    /// The web page.
    pub web: Web,
    /// What is written down about that.
    pub audit: Audit,
    /// How often clients may do things.
    pub limits: Limits,
    /// What is kept in memory for apps that open.
    pub cache: Cache,
    /// Who is told who is there, and when.
    pub presence: Presence,
    /// Whom people are notified by while they are away.
    pub push: Push,
    /// The server's place among others.
    pub cluster: Cluster,
}

/// Limits on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections of the whole node, handshakes included. More are refused.
    pub max: u32,
    /// From accept to a whole hello, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Silence of either side that no connection goes beyond without a ping, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which a connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Networks of balancers: a connection from there begins with a PROXY header, which tells where it comes from.
    pub proxy_networks: Vec<IpNet>,
}

/// The log on the way to the acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Size of all segments, in bytes. Sends are refused while it is full.
    pub bytes_max: u64,
    /// Age at which a segment that is neither full nor empty is sealed, in milliseconds; zero for what [`Config::seal_after_ms`]
    /// says.
    pub seal_after_ms: u64,
    /// Least time between the beginnings of two groups while a node is calm, in microseconds.
    pub gap_us: u64,
    /// What to do with sends while the store does not take what the journal has for it.
    pub on_store_outage: OnStoreOutage,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether there is an audit log in the data folder.
    pub enabled: bool,
}

/// Why a configuration can not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read, or is no text.
    #[error("{path}: {why}", path = path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// What is wrong with it, all of it.
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
            admin_listen: AdminListen::Auto,
            allow_plain_tcp_beyond_loopback: false,
            data_dir: PathBuf::from("ringpost-data"),
            cores: 0,
            connections: Connections::default(),
            journal: Journal::default(),
            store: Store::default(),
            auth: Auth::default(),
            tls: Tls::default(),
            websocket: WebSocket::default(),
            web: Web::default(),
            audit: Audit::default(),
            limits: Limits::default(),
            cache: Cache::default(),
            presence: Presence::default(),
            push: Push::default(),
            cluster: Cluster::default(),
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max: 100_000,
            handshake_timeout_ms: 10_000,
            ping_after_ms: 25_000,
            idle_timeout_ms: 120_000,
            proxy_networks: Vec::new(),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            bytes_max: GIB,
            seal_after_ms: 0,
            gap_us: 300,
            on_store_outage: OnStoreOutage::Accept,
        }
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
    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self {
            listen,
            admin_listen,
            allow_plain_tcp_beyond_loopback,
            data_dir,
            cores,
            connections,
            journal,
            store,
            auth,
            tls,
            websocket,
            web,
            audit,
            limits,
            cache,
            presence,
            push,
            cluster,
        } = self;
        let data_dir = Slot::Path { value: data_dir, what: "a folder", example: "/var/lib/ringpost", empty: None };
        let cores = count(cores, "threads", 0..=CORES_MAX.into()).or_zero("as many as the machine has");
        let mut keys = vec![
            Key { name: "listen", slot: Slot::Address(listen) },
            Key { name: "admin_listen", slot: Slot::Admin(admin_listen) },
            Key { name: "allow_plain_tcp_beyond_loopback", slot: Slot::Switch(allow_plain_tcp_beyond_loopback) },
            Key { name: "data_dir", slot: data_dir },
            Key { name: "cores", slot: cores.into() },
        ];
        keys.extend(connections.keys());
        keys.extend(journal.keys());
        keys.extend(store.keys());
        keys.extend(auth.keys());
        keys.extend(audit.keys());
        keys.extend(tls.keys());
        keys.extend(websocket.keys());
        keys.extend(web.keys());
        keys.extend(limits.keys());
        keys.extend(cache.keys());
        keys.extend(presence.keys());
        keys.extend(push.keys());
        keys.extend(cluster.keys());
        keys
    }

    /// All of it as a file, with what its sizes and times mean.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut config = self.clone();
        let (mut text, mut section) = (String::new(), "");
        for Key { name, slot } in config.keys() {
            let (of, short) = name.rsplit_once('.').unwrap_or(("", name));
            if of != section {
                section = of;
                // Writing to a String can not fail.
                let _ = writeln!(text, "\n[{section}]");
            }
            let meaning = slot.meaning().map_or(String::new(), |meaning| format!("  # {meaning}"));
            let _ = writeln!(text, "{short} = {slot}{meaning}");
        }
        text
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

    /// What connections of one address may do, and who tells the addresses of others.
    #[must_use]
    pub fn of_origins(&self) -> OriginLimits {
        OriginLimits { balancers: self.connections.proxy_networks.clone(), ..self.limits.of_origins() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut check = Check { config: self.clone(), places: &BTreeMap::new(), problems: &mut problems };
        for Key { name, slot } in self.clone().keys() {
            check.that(slot.is_allowed(), &[name], || format!("must be {}", slot.allowed()));
        }
        self.check(&mut check);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(problems)) }
    }

    /// How the values go together.
    fn check(&self, check: &mut Check<'_>) {
        self.check_addresses(check);
        self.connections.check(check);
        self.journal.check(check);
        self.store.check(check);
        self.tls.check(check);
        self.websocket.check(check);
        self.push.check(check);
        self.cluster.check(check);
    }
}

impl Connections {
    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { max, handshake_timeout_ms, ping_after_ms, idle_timeout_ms, proxy_networks } = self;
        vec![
            Key { name: "connections.max", slot: count(max, "connections", 1..=16_000_000).into() },
            Key {
                name: "connections.handshake_timeout_ms",
                slot: millis(handshake_timeout_ms, 2 * TICK_MS..=600_000).into(),
            },
            Key {
                name: "connections.ping_after_ms",
                slot: millis(ping_after_ms, PING_AFTER_MS_MIN..=86_400_000).into(),
            },
            Key {
                name: "connections.idle_timeout_ms",
                slot: millis(idle_timeout_ms, 2 * PING_AFTER_MS_MIN..=172_800_000).into(),
            },
            Key { name: "connections.proxy_networks", slot: Slot::Networks(proxy_networks) },
        ]
    }

    fn check(&self, check: &mut Check<'_>) {
        let ping_after_ms = self.ping_after_ms;
        check.that(
            self.idle_timeout_ms >= ping_after_ms.saturating_mul(2),
            &["connections.idle_timeout_ms", "connections.ping_after_ms"],
            || {
                let said = |ms| human(ms, &Unit::Millis).unwrap_or_default();
                format!(
                    "must be at least twice connections.ping_after_ms ({}), so that a pong has time to arrive: make it {} or \
                     more, or lower that one",
                    said(ping_after_ms),
                    said(2 * ping_after_ms)
                )
            },
        );
    }
}

impl Journal {
    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { segment_bytes, bytes_max, seal_after_ms, gap_us, on_store_outage } = self;
        let sizes = JOURNAL_SEGMENT_BYTES_MIN..=JOURNAL_SEGMENT_BYTES_MAX;
        let all = JOURNAL_SEGMENTS_MIN * JOURNAL_SEGMENT_BYTES_MIN..=TIB;
        let seal_after = millis(seal_after_ms, 2 * TICK_MS..=86_400_000);
        vec![
            Key { name: "journal.segment_bytes", slot: bytes(segment_bytes, sizes).into() },
            Key { name: "journal.bytes_max", slot: bytes(bytes_max, all).into() },
            Key {
                name: "journal.seal_after_ms",
                slot: seal_after.or_zero("a minute, or half a second where people wait for it").into(),
            },
            Key { name: "journal.gap_us", slot: count(gap_us, "microseconds", 0..=JOURNAL_GAP_US_MAX).into() },
            Key { name: "journal.on_store_outage", slot: Slot::Choice(on_store_outage) },
        ]
    }

    fn check(&self, check: &mut Check<'_>) {
        let segment_bytes = self.segment_bytes;
        check.that(segment_bytes.is_multiple_of(4 * KIB), &["journal.segment_bytes"], || {
            "must be a multiple of 4096, the page of the journal; for example: segment_bytes = \"64 MiB\"".to_owned()
        });
        let least = segment_bytes.saturating_mul(JOURNAL_SEGMENTS_MIN);
        check.that(self.bytes_max >= least, &["journal.bytes_max", "journal.segment_bytes"], || {
            let least = human(least, &Unit::Bytes).unwrap_or_default();
            format!(
                "must be at least {JOURNAL_SEGMENTS_MIN} times journal.segment_bytes: make it {least} or more, or lower that one"
            )
        });
    }
}

impl Words for OnStoreOutage {
    const ALL: &'static [(Self, &'static str)] = &[(Self::Accept, "accept"), (Self::Refuse, "refuse")];
}

impl Auth {
    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { key_file, hs256_secret_file, jwks_file, audience, issuer, leeway_s, expiry_warning_s } = self;
        let own = "token-key.pem in data_dir";
        vec![
            Key { name: "auth.key_file", slot: file(key_file, "/etc/ringpost/token-key.pem", own) },
            Key {
                name: "auth.hs256_secret_file",
                slot: file(hs256_secret_file, "/etc/ringpost/hs256-secret", "that HS256 tokens are refused"),
            },
            Key { name: "auth.jwks_file", slot: file(jwks_file, "/etc/ringpost/jwks.json", "none") },
            Key { name: "auth.audience", slot: Slot::Text { value: audience, example: "ringpost" } },
            Key { name: "auth.issuer", slot: Slot::Text { value: issuer, example: "https://login.example.org" } },
            Key { name: "auth.leeway_s", slot: seconds(leeway_s, 0..=600).into() },
            Key { name: "auth.expiry_warning_s", slot: seconds(expiry_warning_s, 0..=86_400).into() },
        ]
    }

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

impl Audit {
    fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { enabled } = self;
        vec![Key { name: "audit.enabled", slot: Slot::Switch(enabled) }]
    }
}

/// The path of a file that may be left out.
fn file<'a>(value: &'a mut PathBuf, example: &'static str, empty: &'static str) -> Slot<'a> {
    Slot::Path { value, what: "a file", example, empty: Some(empty) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../../ringpost.example.toml");

    pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
        Draft::parse(text, Path::new("x.toml")).finish()
    }

    pub(super) fn problems(text: &str) -> Vec<Problem> {
        match parse(text) {
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
    fn defaults_follow_the_memory_and_what_a_file_says_does_not() {
        const MIB: u64 = super::MIB;
        let fit = |text: &str, mib: u64| {
            let mut draft = Draft::parse(text, Path::new("x.toml"));
            draft.fit(mib * MIB);
            let Config { journal, store, limits, cache, .. } = draft.finish().unwrap();
            let of_all = [journal.segment_bytes, journal.bytes_max, store.cache_bytes];
            let of_core = [limits.core_memory_bytes, cache.core_bytes_max];
            [of_all[0], of_all[1], of_all[2], of_core[0], of_core[1]].map(|bytes| bytes / MIB)
        };
        assert_eq!(fit("cores = 2", 512), [8, 64, 32, 16, 8]);
        assert_eq!(fit("cores = 2", 8192), [64, 1024, 256, 256, 64], "as in the example");
        let said = "cores = 2\n[journal]\nsegment_bytes = 67108864\n[limits]\ncore_memory_bytes = 0";
        assert_eq!(fit(said, 512), [64, 192, 32, 0, 8], "three segments of the size that was set");
        let said = "[journal]\nbytes_max = \"1 GiB\"\n[store]\ncache_bytes = \"256 MiB\"";
        assert_eq!(fit(said, 512)[1..3], [1024, 256]);
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
        real.extend(Config::default().keys().iter().map(|key| key.name.to_owned()));
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
    fn what_is_printed_is_the_same_configuration_again() {
        let text = "cores = 3\ndata_dir = \"a \\\"b\\\" \\\\\"\n[journal]\nbytes_max = \"2 GiB\"\non_store_outage = \"refuse\"\n\
                    [limits]\ntrusted_networks = [\"10.0.0.0/8\"]";
        for config in [Config::default(), parse(text).unwrap()] {
            assert_eq!(parse(&config.to_toml()).unwrap(), config);
        }
        let printed = parse(text).unwrap().to_toml();
        for line in ["cores = 3\n", "bytes_max = 2147483648  # 2 GiB\n", "handshake_timeout_ms = 10000  # 10 s\n"] {
            assert!(printed.contains(line), "{printed}");
        }
    }

    #[test]
    fn sizes_and_times_may_have_units_and_mean_the_same_without() {
        let with =
            "[connections]\nping_after_ms = \"25 s\"\n[journal]\nbytes_max = \"1 GiB\"\n[auth]\nleeway_s = \"5 min\"";
        let without = "[connections]\nping_after_ms = 25000\n[journal]\nbytes_max = 1073741824\n[auth]\nleeway_s = 300";
        assert_eq!(parse(with).unwrap(), parse(without).unwrap());
    }

    #[test]
    fn every_key_refuses_what_is_of_another_kind_with_its_name_line_and_example() {
        for key in Config::default().keys() {
            for value in ["[1, 2]", "1979-05-27", "1.5", "{ a = 1 }"] {
                let found = problems(&format!("\n{} = {value}", key.name));
                let [problem] = &found[..] else { panic!("{}: {found:?}", key.name) };
                let text = problem.to_string();
                assert!(text.starts_with(&format!("x.toml, line 2, {}", key.name)), "{text}");
                assert!(text.contains("must be") && text.contains("for example: "), "{text}");
            }
        }
    }

    #[test]
    fn every_example_that_a_message_gives_is_taken() {
        for key in Config::default().keys() {
            let text = format!("{} = {}", key.name, key.slot.example());
            assert!(Draft::parse(&text, Path::new("x.toml")).values().is_ok(), "{text}");
        }
    }

    #[test]
    fn all_problems_are_named_at_once_in_the_order_of_the_file() {
        let found = problems(
            "data_dir = \"\"\ncores = 1000\nlisten = 127.0.0.1:7600\nlisen = 1\n[connections]\nmax = 0\nidle_timeout_ms = 40000\n\
             [journal]\nsegment_bytes = 1048577\nbytes_max = 1\n[auth]\nleeway_s = 3600",
        );
        let lines: Vec<_> = found.iter().map(|problem| problem.place.clone()).collect();
        let expected = [1, 2, 3, 4, 6, 10, 12].map(|line| Place::Line { path: PathBuf::from("x.toml"), line });
        assert_eq!(lines[..7], expected, "{found:#?}");
        let keys: Vec<_> = found[7..].iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["connections.idle_timeout_ms", "journal.segment_bytes"]);
        assert_eq!(
            found[1].to_string(),
            "x.toml, line 2, cores = 1000: must be a whole number of threads, 0 to 128, where 0 means as many as the machine has; \
             for example: cores = 0"
        );
    }

    #[test]
    fn a_mistake_in_one_value_does_not_make_another_one_look_wrong() {
        let found = problems("[connections]\nping_after_ms = \"70\"\nidle_timeout_ms = 40000");
        assert_eq!(found.iter().map(|problem| problem.key).collect::<Vec<_>>(), ["connections.ping_after_ms"]);
    }

    #[test]
    fn a_flag_counts_for_more_than_the_file_and_is_named_when_it_is_wrong() {
        let mut draft = Draft::parse("cores = 1000\nlisten = \"127.0.0.1:1\"", Path::new("x.toml"));
        draft.set("--cores", "cores", "2".as_ref());
        draft.set("--listen", "listen", "localhost:1".as_ref());
        let Err(ConfigError::Invalid(found)) = draft.finish() else { panic!() };
        let [problem] = &found[..] else { panic!("{found:?}") };
        let text = problem.to_string();
        assert!(
            text.starts_with("--listen localhost:1: ") && text.ends_with("for example: --listen 127.0.0.1:1"),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_in_a_program_is_named_too() {
        let config = Config { cores: 1000, ..Config::default() };
        let Err(ConfigError::Invalid(found)) = config.validate() else { panic!() };
        assert_eq!(found.iter().map(|problem| problem.key).collect::<Vec<_>>(), ["cores"]);
    }
}
