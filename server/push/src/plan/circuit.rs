//! Circuit: when a host that does not answer is left alone.
//!
//! After [`FAILURES_MAX`] failures without an answer in between it rests. Then one request goes there, the probe: if that fails too, it
//! rests for twice as long, up to a bound; if anything is answered, all goes on. The first request to a host that is not known yet is a
//! probe as well: so a crowd does not open a connection each, and a name that leads nowhere costs little.

use std::time::Duration;

use super::Moment;
use crate::{limits::FAILURES_MAX, settings::Pace};

/// The circuit of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// Requests go.
    Closed { failures: u32 },
    /// None goes until then.
    Resting { until: Moment, rest: Duration },
    /// One went, to see.
    Probing { rest: Duration },
}

impl Circuit {
    /// Of a host that is not known yet.
    pub(crate) const NEW: Self = Self::Resting { until: Moment::START, rest: Duration::ZERO };

    /// Of a host that has just answered.
    pub(crate) const WELL: Self = Self::Closed { failures: 0 };

    /// From when on a request may go. Absent while a probe is under way.
    pub(crate) const fn opens_at(self) -> Option<Moment> {
        match self {
            Self::Closed { .. } => Some(Moment::START),
            Self::Resting { until, .. } => Some(until),
            Self::Probing { .. } => None,
        }
    }

    /// A request goes.
    pub(crate) const fn begun(self) -> Self {
        match self {
            Self::Closed { .. } | Self::Probing { .. } => self,
            Self::Resting { rest, .. } => Self::Probing { rest },
        }
    }

    /// A request failed.
    pub(crate) fn failed(self, now: Moment, pace: &Pace) -> Self {
        let resting = |rest: Duration| Self::Resting { until: now.after(rest), rest };
        match self {
            Self::Closed { failures } if failures + 1 < FAILURES_MAX => Self::Closed { failures: failures + 1 },
            Self::Closed { .. } => resting(pace.rest_first),
            // It was sent before the host began to rest, and says nothing new.
            Self::Resting { .. } => self,
            Self::Probing { rest } => resting(rest.saturating_mul(2).max(pace.rest_first).min(pace.rest_max)),
        }
    }

    /// A request failed in a way that says that the next one would, too.
    pub(crate) fn refused(self, now: Moment, pace: &Pace) -> Self {
        match self {
            Self::Closed { .. } => Self::Closed { failures: FAILURES_MAX }.failed(now, pace),
            Self::Resting { .. } | Self::Probing { .. } => self.failed(now, pace),
        }
    }

    /// Whether requests are held back because some have failed.
    pub(crate) const fn is_open(self) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Resting { rest, .. } | Self::Probing { rest } => !rest.is_zero(),
        }
    }
}
