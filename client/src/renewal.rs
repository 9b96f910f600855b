//! Renewal: a newer token on a live connection. PURE. At most one refresh awaits its answer.

use proto_spec::ClientFrame;

use crate::state::MonotonicMs;

/// How far the device's newest token has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The connection has it, or the next hello will carry it.
    #[default]
    Done,
    /// It leaves when the connection is ready, not before this.
    Due(MonotonicMs),
    /// It left, and nobody has answered yet.
    InFlight,
    /// An older one left, and nobody has answered yet. This one follows.
    Outdated,
    /// The server does not take it: it will not be sent again.
    Refused,
}

impl Renewal {
    /// There is a newer token.
    pub(crate) fn begin(&mut self) {
        *self = match self {
            Self::InFlight | Self::Outdated => Self::Outdated,
            Self::Done | Self::Due(_) | Self::Refused => Self::Due(MonotonicMs(0)),
        };
    }

    /// Whether the connection was let in with another token than the newest, which has not been refused.
    pub(crate) const fn has_newer(self) -> bool {
        matches!(self, Self::Due(_) | Self::InFlight | Self::Outdated)
    }

    pub(crate) const fn deadline(self) -> Option<MonotonicMs> {
        match self {
            Self::Due(at) => Some(at),
            Self::Done | Self::InFlight | Self::Outdated | Self::Refused => None,
        }
    }

    /// Which of the newest token and the last good one the next hello carries.
    pub(crate) fn token_of_hello<'a>(&mut self, newest: &'a str, good: &'a str) -> &'a str {
        match self {
            Self::Refused => good,
            Self::Done | Self::Due(_) | Self::InFlight | Self::Outdated => {
                *self = Self::Done;
                newest
            }
        }
    }

    /// The frame to be sent now, if it is time.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs, token: &str) -> Option<ClientFrame> {
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        *self = Self::InFlight;
        Some(ClientFrame::Refresh { token: token.to_owned() })
    }

    /// The server has taken the token that was sent. False: nothing was sent.
    pub(crate) fn accepted(&mut self) -> bool {
        self.answered(Self::Done)
    }

    /// The server has not taken the token that was sent. False: nothing was sent.
    pub(crate) fn refused(&mut self) -> bool {
        self.answered(Self::Refused)
    }

    /// The server will judge the token later. False: nothing was sent.
    pub(crate) fn put_off(&mut self, not_before: MonotonicMs) -> bool {
        self.answered(Self::Due(not_before))
    }

    fn answered(&mut self, then: Self) -> bool {
        let (was_asked, next) = match self {
            Self::InFlight => (true, then),
            Self::Outdated => (true, Self::Due(MonotonicMs(0))),
            Self::Done | Self::Due(_) | Self::Refused => (false, *self),
        };
        *self = next;
        was_asked
    }
}
