//! A log that is not the one that the device holds, because the server was set back to an older copy (SPEC 8.2).
//!
//! The device begins anew. The application is told with the next welcome, when it is known what the new log has of the messages without an
//! answer, so that it can discard everything in one step. Until it has, what it says of places in the log is of the old one: such
//! acknowledgements are passed over, and such requests refused.

use proto_spec::{ErrorCode, SendNumber};

use super::{
    ClientState, Effects, MonotonicMs,
    ending::{Flow, Lately, Stop},
};
use crate::{
    event::{ClientEvent, DisconnectReason, EndReason},
    limits::{ANEW_MAX, ANEW_WITHIN_MS},
};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Replacing {
    /// How it was found, until the application is told.
    untold: Option<String>,
    /// Times that the application was told and has not said that it has discarded the log.
    undiscarded: u32,
    lately: Lately,
}

impl Replacing {
    /// Whether the application may still speak of the old log.
    pub(super) const fn is_going_on(&self) -> bool {
        self.untold.is_some() || self.undiscarded > 0
    }
}

impl ClientState {
    /// What the device holds is not the beginning of the log. It holds nothing from now on; unless that has not helped again and again.
    pub(super) fn begin_anew(&mut self, now: MonotonicMs, code: ErrorCode, detail: String) -> Flow {
        if self.replacing.lately.again(now, ANEW_WITHIN_MS) >= ANEW_MAX {
            return Flow::Break(Stop::End(EndReason::Refused { code, detail }));
        }
        self.position.begin_anew();
        self.receipts.forget();
        self.replacing.untold = Some(detail.clone());
        Flow::Break(DisconnectReason::OtherLog(detail).into())
    }

    /// The welcome to the new log, of which this is the device's last number.
    pub(super) fn tell_of_replacement(&mut self, last_number: SendNumber, effects: &mut Effects) {
        let Some(detail) = self.replacing.untold.take() else { return };
        self.replacing.undiscarded += 1;
        let dropped = self.outbox.drop_changes(last_number);
        effects.events.push(ClientEvent::LogReplaced { detail, dropped });
        let detail = "it names a place in a log that was replaced";
        effects.events.extend(self.fetches.drop_placed().into_iter().map(|fetch| ClientEvent::FetchRefused {
            fetch,
            code: ErrorCode::OtherLog,
            detail: detail.to_owned(),
        }));
    }

    /// The application has discarded everything that it held of the log, as [`ClientEvent::LogReplaced`] told it to.
    pub fn log_discarded(&mut self) {
        self.replacing.undiscarded = self.replacing.undiscarded.saturating_sub(1);
    }
}
