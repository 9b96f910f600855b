//! How the program ends: a code for scripts, words for people.

use std::fmt;

/// Every exit code but 0, as [`CODES`] tells them. 2 is clap's, for a command line that can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Input = 3,
    Identity = 4,
    Server = 5,
    Unanswered = 6,
    Refused = 7,
}

pub(crate) const CODES: &str = "Exit codes:
  0  everything was sent, accepted and waited for
  1  something else failed, as standard error says
  2  the command line can not be read
  3  from a pipe: a line is no command, too long, or not UTF-8; nothing after it was sent
  4  the server does not let this user or device in: token, revocation, device
  5  what answers is not the wanted server: it is no Ringpost, not trusted, or wants TLS or another version
  6  something was not answered in time, or not before the end
  7  the server has refused messages for good
  128 + N  ended by signal N";

/// An end that is not the wanted one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) words: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, words: impl Into<String>) -> Self {
        Self { exit, words: words.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}
