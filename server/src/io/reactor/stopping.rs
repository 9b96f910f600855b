//! The reactor's end: everybody is told, what is parked is committed, and no core leaves while another one needs it.

use proto_spec::ErrorCode;
use tracing::{error, warn};

use super::{
    super::{
        commit::Commit,
        token::{Op, Token},
    },
    Reactor,
};
use crate::{
    limits::{ACCEPTS_TURN_MAX, DRAIN_MS, RETRY_STOPPING_MS, STOP_MS},
    shard::{ConnId, Input, Now},
};

impl Reactor {
    pub(super) fn begin_drain(&mut self, now: Now) {
        self.draining_since_ms = Some(now.monotonic_ms);
        for place in (0..ACCEPTS_TURN_MAX as u32).filter(|place| !self.accepts_idle.contains(place)) {
            self.ring.cancel(Token::new(Op::Accept, place, 0));
        }
        for conn in self.greetings.all() {
            self.end_greeting(now, conn);
            self.refuse(now, conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        }
        self.feed(now, Input::Drain);
    }

    /// Cuts what is still connected when the time to stop is over.
    pub(super) fn cut_drain(&mut self, now: Now) {
        if self.draining_since_ms.is_some_and(|since| now.monotonic_ms >= since + DRAIN_MS) {
            let late: Vec<ConnId> = self.connections.living().collect();
            if !late.is_empty() {
                warn!(core = self.core.0, connections = late.len(), "cut when stopping took too long");
            }
            for conn in late {
                self.connections.abandon(conn, &mut self.ring);
            }
        }
    }

    /// Whether this core, and every other, has nothing left to do before the process ends. A core goes on for the sake
    /// of the others: they may send it envelopes and batches.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(since) = self.draining_since_ms else { return false };
        let is_quiet = self.connections.is_empty()
            && self.greetings.is_empty()
            && self.arrivals.is_empty()
            && self.deferred.is_empty()
            && !self.is_stalled()
            && self.shard.is_drained()
            && (self.journal_failed || self.shard.counters().uncommitted_bytes == 0)
            && self.commit.as_ref().is_none_or(Commit::is_idle);
        let done = is_quiet && self.commit.as_mut().is_none_or(Commit::settle);
        self.shared.set_drained(self.core, done);
        let late = self.clock.now().monotonic_ms >= since + STOP_MS;
        if late && !done {
            error!(core = self.core.0, connections = self.connections.len(), "stopping without being drained");
        }
        late || self.shared.all_drained()
    }
}
