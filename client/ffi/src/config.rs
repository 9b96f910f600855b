//! What an application decides before it connects, keeps over a restart, and is called for.

use std::fmt;

use client::{Acknowledging, DeviceId, EpochId, Keeping, Resume, Roots, SendNumber, Seq, Transport};

use crate::{
    content::{Content, Conversation},
    errors::RingpostError,
    event::Event,
};

/// What is needed to be one device of one user.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Config {
    /// `host:port` of the server: of any of its nodes.
    pub server: String,
    /// How the bytes get there.
    pub tls: Tls,
    /// Says who the user is.
    pub token: String,
    /// Which of the user's devices this is: a number above zero that it keeps. Two programs must not share one.
    pub device: u64,
    /// Where the log is handed out from.
    pub begin: Begin,
    /// If more seqs than this lie between where the device is and the end of the log, they are skipped (`Event::Skipped`) and fetched when somebody
    /// looks; zero: never. For a phone: as many as it shows at once.
    #[uniffi(default = 0)]
    pub skip_above: u64,
    /// The messages that an earlier run left without an answer, in the order in which they were sent. Their handles are 1, 2, 3, ...
    #[uniffi(default = [])]
    pub unanswered: Vec<Unanswered>,
}

/// How the bytes of a connection get to the server.
#[derive(Clone, Debug, uniffi::Enum)]
pub enum Tls {
    /// As they are. Whoever sees them can use the token.
    Off,
    /// Within TLS 1.3, to a server for which somebody vouches whom this system trusts. Systems for phones do not all show whom they trust: see
    /// `Tls::Certificates`.
    System {
        /// The name that the server's certificate must have; none: the host that is connected to.
        name: Option<String>,
    },
    /// Within TLS 1.3, to a server for which one of these certificates vouches.
    Certificates {
        /// The text of a PEM file.
        pem: String,
        /// As of `Tls::System`.
        name: Option<String>,
    },
}

/// Where the log is handed out from.
#[derive(Clone, Debug, uniffi::Enum)]
pub enum Begin {
    /// Behind what this device has stored: the cursor of the last batch. Whoever has none yet and stores what comes takes `Cursor` with zeros.
    After {
        /// As `Batch::cursor` was.
        cursor: Cursor,
    },
    /// At the end of the log: what was before is fetched when somebody looks. For a device that stores nothing.
    Live,
}

/// How far a device has stored the user's log. Stored beside what the batch says, in one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct Cursor {
    /// The seq of the last entry.
    pub position: u64,
    /// Names the log: see SPEC 3.7.
    pub epoch: u64,
    /// Up to here something was skipped, or never asked for; zero: nothing was.
    pub since: u64,
}

/// A message without its answer, as an application keeps it over a restart.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Unanswered {
    /// The number that the last `Event::Numbered` of it said; none if there was no such event, or if it said none.
    pub number: Option<u64>,
    /// To whom.
    pub to: Conversation,
    /// What: the same as it was when it was sent.
    pub content: Content,
}

/// What has happened, to be stored in one transaction.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Batch {
    /// In this order: at least one, unless the time was over.
    pub events: Vec<Event>,
    /// How far the log has been handed out with this batch. None: nothing is known yet.
    pub cursor: Option<Cursor>,
}

/// Gives tokens. Called by the thread that takes events; it may take as long as a request of its own takes.
#[uniffi::export(with_foreign)]
pub trait TokenProvider: Send + Sync + fmt::Debug {
    /// A token that is good now: the one that there was expires soon, or is taken no longer.
    ///
    /// # Errors
    /// There is none. It is asked for again later.
    fn token(&self) -> Result<String, RingpostError>;
}

/// Stores what has happened, for `Client::catch_up`. Called by the thread that called that.
#[uniffi::export(with_foreign)]
pub trait Store: Send + Sync + fmt::Debug {
    /// Stores a batch in one transaction. The server is told that this device has it when this returns.
    ///
    /// # Errors
    /// It is not stored: the call ends, and the server sends it again.
    fn store(&self, batch: Batch) -> Result<(), RingpostError>;
}

impl Config {
    /// As the client crate has it. Whether the application can give other tokens.
    ///
    /// # Errors
    /// One of the messages without an answer can not have been sent.
    pub(crate) fn into_client(self, asks_for_tokens: bool) -> Result<client::Config, RingpostError> {
        let mut config = client::Config::new(self.server, self.token, DeviceId(self.device));
        (config.resume, config.epoch, config.since) = match self.begin {
            Begin::After { cursor } => (Resume::After(Seq(cursor.position)), EpochId(cursor.epoch), Seq(cursor.since)),
            Begin::Live => (Resume::Live, EpochId(0), Seq::ZERO),
        };
        config.transport = match self.tls {
            Tls::Off => Transport::Plain,
            Tls::System { name } => Transport::Tls { roots: Roots::System, name },
            Tls::Certificates { pem, name } => Transport::Tls { roots: Roots::Pem(pem), name },
        };
        config.asks_for_tokens = asks_for_tokens;
        config.skip_above = self.skip_above;
        config.acknowledging = Acknowledging::ByApplication;
        config.keeping = Keeping::ByApplication;
        config.unanswered = self.unanswered.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(config)
    }
}

impl TryFrom<Unanswered> for client::Unanswered {
    type Error = RingpostError;

    fn try_from(of: Unanswered) -> Result<Self, RingpostError> {
        Ok(Self { number: of.number.map(SendNumber), to: of.to.into(), content: of.content.try_into()? })
    }
}
