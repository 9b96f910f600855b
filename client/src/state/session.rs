//! A connection after its welcome, and when it is silent for too long.

use proto_spec::{Capabilities, RedirectReason, Seq};

use super::MonotonicMs;
use crate::limits::{
    MOMENT_MS, PING_AFTER_MIN_MS, PING_AFTER_MS, PONG_TIMEOUT_MS, PROBE_TIMEOUT_MS, RETRY_AFTER_MAX_MS, STABLE_AFTER_MS,
};

/// When this client pings, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum PingAfter {
    /// Nothing was heard for so long: the server pings more often than that, and is answered (SPEC 8.4).
    Unheard(u64),
    /// Nothing was heard, or nothing said, for so long: the server does not tell whether it pings.
    Quiet(u64),
}

impl PingAfter {
    /// What a welcome says of it.
    pub(super) fn told(ping_after_ms: u64, idle_timeout_ms: u64) -> Self {
        match ping_after_ms {
            // Twice in the server's patience, so that one lost ping does not end the connection.
            0 => Self::Quiet((idle_timeout_ms / 3).clamp(PING_AFTER_MIN_MS, PING_AFTER_MS)),
            told => Self::Unheard(told.min(idle_timeout_ms / 2).max(PING_AFTER_MIN_MS)),
        }
    }
}

/// A connection after its welcome.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) since: MonotonicMs,
    pub(super) window: usize,
    /// What the server takes.
    pub(super) capabilities: Capabilities,
    pub(super) ping_after: PingAfter,
    /// When the last byte came, and when the last frame left.
    pub(super) heard_at: MonotonicMs,
    pub(super) spoke_at: MonotonicMs,
    /// When a ping left after which nothing was heard.
    pub(super) pinged_at: Option<MonotonicMs>,
    /// The network may be another one, and nothing was heard since.
    pub(super) is_doubted: bool,
    pub(super) acknowledge_at: Option<MonotonicMs>,
    /// Where the log ended when the connection began, until the application is told that it has everything up to there.
    pub(super) catching_up_to: Option<Seq>,
    /// A message was accepted or an entry handed out: the server does its work.
    pub(super) has_progressed: bool,
    /// Where to connect, when its time has come or this connection has ended.
    pub(super) redirect: Option<Redirect>,
}

/// What a server said of another node (SPEC 4.40).
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    pub(super) address: String,
    pub(super) reason: RedirectReason,
    pub(super) map_version: u64,
    /// Not there before.
    pub(super) due: MonotonicMs,
}

impl Redirect {
    pub(super) fn new(
        now: MonotonicMs,
        address: String,
        reason: RedirectReason,
        after_ms: u64,
        map_version: u64,
    ) -> Self {
        Self { address, reason, map_version, due: now.after(after_ms.min(RETRY_AFTER_MAX_MS)) }
    }
}

impl Session {
    /// Whether the next wait is a first one again.
    pub(super) fn was_stable(&self, now: MonotonicMs) -> bool {
        now.since(self.since) >= STABLE_AFTER_MS
    }

    /// Whether it has served for nothing, and not for long.
    pub(super) fn was_of_a_moment(&self, now: MonotonicMs) -> bool {
        !self.has_progressed && now.since(self.since) < MOMENT_MS
    }

    pub(super) fn keepalive_deadline(&self) -> MonotonicMs {
        match self.pinged_at {
            Some(at) if self.is_doubted => at.after(PROBE_TIMEOUT_MS),
            Some(at) => at.after(PONG_TIMEOUT_MS),
            None if self.is_doubted => MonotonicMs(0),
            None => match self.ping_after {
                PingAfter::Unheard(ms) => self.heard_at.after(ms),
                PingAfter::Quiet(ms) => self.heard_at.min(self.spoke_at).after(ms),
            },
        }
    }
}
