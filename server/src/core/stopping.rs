//! A core's end: everybody is told, what is parked is committed, and no core leaves while another one needs it.

use proto_spec::ErrorCode;
use tracing::error;

use super::{Core, Order};
use crate::{
    durability::committer::Committer,
    limits::{DRAIN_MS, RETRY_STOPPING_MS, STOP_MS},
    shard::{Input, Now},
};

impl Core {
    /// The node stops: no new connections and sends from now on.
    pub fn stop(&mut self, now: Now) {
        self.draining_since_ms = Some(now.monotonic_ms);
        for conn in self.greetings.all() {
            self.end_greeting(now, conn);
            self.refuse(conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        }
        self.feed(now, Input::Drain);
    }

    /// Whether [`Core::stop`] was called.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.draining_since_ms.is_some()
    }

    /// Cuts what is still connected when the time to stop is over.
    pub(super) fn cut_if_late(&mut self, now: Now) {
        if self.draining_since_ms.is_some_and(|since| now.monotonic_ms >= since + DRAIN_MS) {
            self.order(Order::CutAll);
        }
    }

    /// Whether this core, and every other, has nothing left to do before the process ends. A core goes on for the sake
    /// of the others: they may send it envelopes and batches. `is_rim_quiet`: no connection has its place in the table, and nothing
    /// that has been received waits.
    pub fn is_over(&mut self, now: Now, is_rim_quiet: bool) -> bool {
        let Some(since) = self.draining_since_ms else { return false };
        let is_quiet = is_rim_quiet
            && self.greetings.is_empty()
            && self.arrivals.is_empty()
            && !self.is_stalled()
            && self.shard.is_drained()
            && (self.journal_failed || self.shard.counters().uncommitted_bytes == 0)
            && self.journal.as_ref().is_none_or(Committer::is_idle);
        let is_done = is_quiet && self.journal.as_mut().is_none_or(settle);
        self.common.set_drained(self.id, is_done);
        let late = now.monotonic_ms >= since + STOP_MS;
        if late && !is_done {
            error!(core = self.id.0, sessions = self.shard.counters().sessions, "stopping without being drained");
        }
        late || self.common.all_drained()
    }
}

/// Brings into a database what it can get. Whether that is done.
fn settle(journal: &mut Committer) -> bool {
    journal.settle();
    journal.is_idle() && journal.is_settled()
}
