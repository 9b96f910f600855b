//! Common: what the cores of a node share. Looked at when connections come and go and when a stop ends, never for a message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;

use super::origins::{OriginLimits, Origins};
use crate::{
    capacity::Capacity,
    counters::Counters,
    directory::Directory,
    revocation::Revocations,
    topology::{CoreId, Topology},
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
        }
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
