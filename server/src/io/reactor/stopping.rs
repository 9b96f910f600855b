//! The reactor's end: what it does with its connections when the node stops.

use rim::token::{Op, Token};
use tracing::warn;

use super::{CoreRim, Reactor};
use crate::{limits::ACCEPTS_TURN_MAX, shard::ConnId};

impl Reactor {
    pub(super) fn cancel_accepts(&mut self) {
        for place in (0..ACCEPTS_TURN_MAX as u32).filter(|place| !self.accepts_idle.contains(place)) {
            self.rim.ring.cancel(Token::new(Op::Accept, place, 0));
        }
    }

    /// Whether the process may end, as far as this core can tell.
    pub(super) fn is_over(&mut self) -> bool {
        // An accept that was cancelled may have brought somebody before.
        let comes = self.accepts_begun > 0 || !self.rim.adopted.is_empty();
        let is_quiet = self.rim.connections.is_empty() && self.deferred.is_empty() && !comes;
        self.core.is_stopping() && self.core.is_over(self.clock.now(), is_quiet)
    }
}

impl CoreRim {
    /// Cuts what is still connected: the time to stop is over.
    pub(super) fn cut_all(&mut self) {
        let late: Vec<ConnId> = self.connections.living().collect();
        if !late.is_empty() {
            warn!(core = self.id.0, connections = late.len(), "cut when stopping took too long");
        }
        for conn in late {
            self.connections.abandon(conn, &mut self.ring);
        }
    }
}
