//! Common: what the cores of a node share. Looked at when connections come and go and when a stop ends, never for a message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use proto_spec::TimestampMs;

use super::origins::{OriginLimits, Origins};
use crate::{
    access::revocation::Revocations,
    host::capacity::Capacity,
    operator::counters::Counters,
    shard::{
        directory::Directory,
        topology::{CoreId, Topology},
    },
};

/// See the head of this file.
#[derive(Debug)]
pub struct Common {
    /// Where users live.
    pub topology: Topology,
    /// Who is connected.
    pub directory: Arc<Directory>,
    /// What has been done.
    pub counters: Arc<Counters>,
    /// Looked at when a connection becomes a shard's, and when it has a newer token.
    pub revocations: RwLock<Revocations>,
    /// Where connections come from.
    pub origins: Origins,
    /// How many there may be.
    pub capacity: Capacity,
    /// How long a client may take for its hello, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Places taken in the tables of all cores: for the bound, and so that no core ends while a connection is on its way to it.
    pub connections: AtomicU64,
    drained: Box<[AtomicBool]>,
    /// When the newest token that was let in says that it was issued, in milliseconds since 1970.
    newest_token_ms: AtomicU64,
}

impl Common {
    /// Of a node that nobody is connected to.
    #[must_use]
    pub fn new(
        topology: Topology,
        counters: Arc<Counters>,
        revocations: Revocations,
        origins: OriginLimits,
        capacity: Capacity,
        handshake_timeout_ms: u64,
    ) -> Self {
        Self {
            topology,
            directory: Arc::default(),
            counters,
            revocations: RwLock::new(revocations),
            origins: Origins::new(origins),
            capacity,
            handshake_timeout_ms,
            connections: AtomicU64::new(0),
            drained: (0..topology.cores()).map(|_| AtomicBool::new(false)).collect(),
            newest_token_ms: AtomicU64::new(0),
        }
    }

    /// A token has been let in that says that it was issued then.
    pub(super) fn saw_token(&self, issued: TimestampMs) {
        self.newest_token_ms.fetch_max(issued.0, Ordering::Relaxed);
    }

    /// Up to when tokens are void that are revoked now: no token that was let in before is newer, though the clock has gone back since, or
    /// its issuer's is ahead.
    #[must_use]
    pub fn revocation_moment(&self, now: TimestampMs) -> TimestampMs {
        now.max(TimestampMs(self.newest_token_ms.load(Ordering::Relaxed)))
    }

    /// A core has, or has not, something left to do before the node ends.
    pub(super) fn set_drained(&self, core: CoreId, is_drained: bool) {
        self.drained[usize::from(core.0)].store(is_drained, Ordering::Release);
    }

    /// Whether no core has anything left to do, and nobody is between two cores. A core that has sent a connection to
    /// another one looks drained, and so does the other one until it has taken its mail.
    pub(super) fn all_drained(&self) -> bool {
        self.drained.iter().all(|core| core.load(Ordering::Acquire)) && self.connections.load(Ordering::Relaxed) == 0
    }
}
