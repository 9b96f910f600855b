//! What an application decides before it connects.

use std::path::PathBuf;

use proto_spec::{Content, ConversationId, DeviceId, EpochId, Resume, SendNumber, Seq, limits};
use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::limits::BACKOFF_MAX_MS;

/// What is needed to be one device of one user.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of the server: of any of its nodes, which knows the one that serves this user (SPEC 8.11).
    pub server: String,
    /// Whether it goes where redirects say. If not it stays at `server`, and is served through whichever node that leads to, which costs the
    /// server a connection more: for a network in which one address is all there is.
    pub follows_redirects: bool,
    /// How the bytes get there. The pure state does not look at it either.
    pub transport: Transport,
    /// Says who the user is.
    pub token: String,
    /// Whether the application has another token when the server takes this one no longer ([`crate::ClientEvent::TokenWanted`]). If not the
    /// client stops then.
    pub asks_for_tokens: bool,
    /// Which of the user's devices this is. Two programs must not share one: the newer connection ends the older.
    pub device: DeviceId,
    /// Where the log is handed out from, on the first connection. Later ones go on where the last one was.
    pub resume: Resume,
    /// With [`Resume::After`]: the newest epoch that an earlier run was told of ([`crate::ClientEvent::Epoch`]); zero if it was told of none.
    pub epoch: EpochId,
    /// With [`Resume::After`]: of what stands up to here, the application may lack something ([`crate::ClientEvent::Skipped`]); zero: it
    /// has everything up to where it resumes.
    pub since: Seq,
    /// If more seqs than this lie between where the device is and the end of the log, they are skipped instead of handed out, with
    /// [`crate::ClientEvent::Skipped`]; zero: never.
    pub skip_above: u64,
    /// When entries are acknowledged.
    pub acknowledging: Acknowledging,
    /// Whether the application keeps its unanswered messages over a restart.
    pub keeping: Keeping,
    /// Longest random delay before reconnecting. For programs of which there are few: the default spreads a storm.
    pub backoff_max_ms: u64,
    /// Messages that an earlier run of the application left unanswered, in the order in which they were sent.
    pub unanswered: Vec<Unanswered>,
}

impl Config {
    /// A device that connects without TLS, resumes where the server remembers it, acknowledges what it is handed, and keeps nothing.
    #[must_use]
    pub fn new(server: impl Into<String>, token: impl Into<String>, device: DeviceId) -> Self {
        Self {
            server: server.into(),
            follows_redirects: true,
            transport: Transport::Plain,
            token: token.into(),
            asks_for_tokens: false,
            device,
            resume: Resume::Stored,
            epoch: EpochId(0),
            since: Seq::ZERO,
            skip_above: 0,
            acknowledging: Acknowledging::WhenHandedOut,
            keeping: Keeping::InMemory,
            backoff_max_ms: BACKOFF_MAX_MS,
            unanswered: Vec::new(),
        }
    }

    /// What the state machine relies on.
    ///
    /// # Errors
    /// One of the fields has a value that no server would take.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.device == DeviceId(0) {
            return Err(ConfigError::Device);
        }
        check_token(&self.token)?;
        let mut numbers: Vec<_> = self.unanswered.iter().filter_map(|message| message.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) || numbers.first() == Some(&SendNumber(0)) {
            return Err(ConfigError::Numbers);
        }
        match &self.transport {
            Transport::Plain => Ok(()),
            Transport::Tls { name, .. } => name_at(&self.server, name.as_deref()).map(drop),
        }
    }
}

/// How the bytes of a connection get to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As they are. Whoever sees them can use the token.
    #[default]
    Plain,
    /// Within TLS 1.3.
    Tls {
        /// Who may vouch for the server.
        roots: Roots,
        /// The name that its certificate must have, on whichever node; none: the host that is connected to.
        name: Option<String>,
    },
}

/// The name that who answers at this address must prove with TLS: the one that was chosen, or the host.
pub(crate) fn name_at(address: &str, chosen: Option<&str>) -> Result<ServerName<'static>, ConfigError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = chosen.unwrap_or(host.trim_matches(['[', ']']));
    ServerName::try_from(name.to_owned()).map_err(|_| ConfigError::ServerName(name.to_owned()))
}

/// Who may vouch for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Whom this system trusts.
    #[default]
    System,
    /// The certificates in a PEM file alone: an authority of one's own, or the server's own certificate.
    File(PathBuf),
    /// The certificates in this text alone, which is as such a file's.
    Pem(String),
}

pub(crate) const fn check_token(token: &str) -> Result<(), ConfigError> {
    match token.len() {
        1..=limits::TOKEN_BYTES_MAX => Ok(()),
        size => Err(ConfigError::Token { size, max: limits::TOKEN_BYTES_MAX }),
    }
}

/// When the device tells the server that it has an entry. Until then the server would push it again after a restart of
/// the application that resumes with [`Resume::Stored`], and the sender is not told "delivered".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledging {
    /// As soon as the entry has been handed out as an event.
    WhenHandedOut,
    /// When the application calls `acknowledge`, for instance after it has stored the entry.
    ByApplication,
}

/// Who remembers unanswered messages and their numbers when the application stops. A number that was kept is what makes a
/// retry after a crash harmless; a message that is sent anew under a new number would be stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Nobody. The next run starts after the last number that the server knows.
    InMemory,
    /// The application. Each message is announced by [`crate::ClientEvent::Numbered`] and leaves after `kept` was called for that number. A
    /// message may be announced again under another number, after one in front of it was refused for good.
    ByApplication,
}

/// A message without its answer, as an application keeps it over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The number it was announced under last; none if it never was, or if it lost it since.
    pub number: Option<SendNumber>,
    /// To whom.
    pub to: ConversationId,
    /// What.
    pub content: Content,
}

/// Why a configuration can not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Zero is not a device.
    #[error("the device id must not be zero")]
    Device,
    /// No token, or one that no server takes.
    #[error("the token has {size} bytes, 1 to {max} are allowed")]
    Token {
        /// Its bytes.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The unanswered messages can not have these numbers.
    #[error("two unanswered messages have the same number, or one has the number zero")]
    Numbers,
    /// No certificate can have this name.
    #[error("`{0}` is no name that a certificate can have")]
    ServerName(String),
    /// Nobody could vouch for the server.
    #[error("no certificate can be trusted, {of}: {why}")]
    Roots {
        /// Where they should come from.
        of: String,
        /// Why not.
        why: String,
    },
    /// TLS could not be set up.
    #[error("TLS can not be set up: {0}")]
    Tls(String),
}
