//! A connection after its welcome, and when it is silent for too long.

use proto_spec::Capabilities;

use super::MonotonicMs;
use crate::limits::PONG_TIMEOUT_MS;

/// A connection after its welcome.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) since: MonotonicMs,
    pub(super) window: usize,
    /// What the server takes.
    pub(super) capabilities: Capabilities,
    pub(super) ping_after_ms: u64,
    /// When the last byte came, and when the last frame left.
    pub(super) heard_at: MonotonicMs,
    pub(super) spoke_at: MonotonicMs,
    /// When a ping left after which nothing was heard.
    pub(super) pinged_at: Option<MonotonicMs>,
    pub(super) acknowledge_at: Option<MonotonicMs>,
    /// A message was accepted or an entry handed out: the server does its work.
    pub(super) has_progressed: bool,
}

impl Session {
    pub(super) fn keepalive_deadline(&self) -> MonotonicMs {
        match self.pinged_at {
            Some(at) => at.after(PONG_TIMEOUT_MS),
            None => self.heard_at.min(self.spoke_at).after(self.ping_after_ms),
        }
    }
}
