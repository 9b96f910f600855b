//! What a call can fail with.

use client::{ConfigError, FetchError, SendError};

/// Why a call did nothing, with words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum RingpostError {
    /// The configuration can not work, or the token is one that no server takes.
    #[error("{words}")]
    Configuration {
        /// What is wrong.
        words: String,
    },
    /// No server takes this message, or not the one that is connected, or what is asked for is too much for one request.
    #[error("{words}")]
    Invalid {
        /// What is wrong.
        words: String,
    },
    /// Too many messages or requests wait. Take events until some are answered, then try again.
    #[error("{max} are waiting already")]
    Full {
        /// How many may wait.
        max: u64,
    },
    /// It names a place in a log that is void (`Event::LogReplaced`).
    #[error("the server's history was replaced, and this is a place in the one before")]
    LogReplaced,
    /// Another thread takes events just now, or this is called by a callback.
    #[error("another thread takes events")]
    Busy,
    /// The client has stopped. `Event::Ended` said why.
    #[error("the client has stopped")]
    Ended,
    /// A callback of the application has failed.
    #[error("the application has failed: {words}")]
    Application {
        /// How, as the application said it.
        words: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for RingpostError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Application { words: error.reason }
    }
}

impl From<ConfigError> for RingpostError {
    fn from(error: ConfigError) -> Self {
        Self::Configuration { words: error.to_string() }
    }
}

impl From<SendError> for RingpostError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::QueueFull { max } => Self::Full { max: max as u64 },
            SendError::LogReplaced => Self::LogReplaced,
            SendError::Ended => Self::Ended,
            SendError::TextLength { .. }
            | SendError::ContentLimits
            | SendError::ContentKind { .. }
            | SendError::ConversationKind
            | SendError::Recipient
            | SendError::ActToUser => Self::Invalid { words: error.to_string() },
        }
    }
}

impl From<FetchError> for RingpostError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::QueueFull { max } => Self::Full { max: max as u64 },
            FetchError::LogReplaced => Self::LogReplaced,
            FetchError::Ended => Self::Ended,
            FetchError::TooManyUsers { .. }
            | FetchError::NameLength { .. }
            | FetchError::AddressLength { .. }
            | FetchError::BadSubscription(_) => Self::Invalid { words: error.to_string() },
        }
    }
}
