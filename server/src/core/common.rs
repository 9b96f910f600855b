//! Common: what the cores of a node share. Looked at when connections come and go and when a stop ends, never for a message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use proto_spec::TimestampMs;

use super::{
    links::Mesh,
    origins::{OriginLimits, Origins},
    stopping::{Awaited, Waits},
};
use crate::{
    access::revocation::Revocations,
    cluster::file::Identity,
    host::capacity::Capacity,
    operator::counters::Counters,
    shard::{
        directory::Directory,
        topology::{CoreId, Homes, Topology},
    },
};

/// What a core says of itself while the node stops.
///
/// `sent` is told before what it counts leaves, `taken` after what follows from it has been done: a look that finds as much taken as sent
/// has found nothing on its way.
#[derive(Debug, Default)]
struct Account {
    is_drained: AtomicBool,
    /// Messages for other cores.
    sent: AtomicU64,
    /// Messages of other cores.
    taken: AtomicU64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Common {
    /// Where users of this node live.
    pub topology: Topology,
    /// The other nodes; none: there are no others.
    pub mesh: Option<Mesh>,
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
    /// Of each core, while the node stops.
    accounts: Box<[Account]>,
    /// Once it is true for one core that all is done, it is for all: whoever leaves answers nobody any more.
    all_drained: AtomicBool,
    /// The longest that a core waited for each thing, in milliseconds.
    waits: [AtomicU64; Awaited::ALL.len()],
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
            mesh: None,
            directory: Arc::default(),
            counters,
            revocations: RwLock::new(revocations),
            origins: Origins::new(origins),
            capacity,
            handshake_timeout_ms,
            connections: AtomicU64::new(0),
            accounts: (0..topology.cores()).map(|_| Account::default()).collect(),
            all_drained: AtomicBool::new(false),
            waits: Default::default(),
            newest_token_ms: AtomicU64::new(0),
        }
    }

    /// The same, of a node among others.
    #[must_use]
    pub fn in_cluster(mut self, identity: Identity) -> Self {
        self.mesh = Some(Mesh::new(identity));
        self
    }

    /// Where users have their homes, as this node knows it now.
    #[must_use]
    pub fn homes(&self) -> Homes {
        let cluster = self.mesh.as_ref().map(|mesh| Identity { nodes: mesh.nodes(), own: mesh.own });
        Homes { topology: self.topology, cluster }
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

    /// A core has so many messages for others, those included that it has not handed over yet.
    pub(super) fn set_sent(&self, core: CoreId, sent: u64) {
        self.accounts[usize::from(core.0)].sent.store(sent, Ordering::SeqCst);
    }

    /// A core has, or has not, something left to do before the node ends, now that it is done with so many messages of others.
    pub(super) fn set_drained(&self, core: CoreId, is_drained: bool, taken: u64) {
        let account = &self.accounts[usize::from(core.0)];
        account.is_drained.store(is_drained, Ordering::SeqCst);
        account.taken.store(taken, Ordering::SeqCst);
    }

    /// Whether no core has anything left to do, and nothing is on its way to one. A core that has sent something to
    /// another one looks drained, and so does the other one until it has taken its mail; so the order of the looks matters. All that
    /// was taken by the first look had been sent; if no more was sent by the last one, then at the moment of the first
    /// nothing was on its way, and since then nobody has had a reason to go on. The last core that becomes drained finds that.
    pub(super) fn all_drained(&self) -> bool {
        if self.is_all_over() {
            return true;
        }
        let sum = |of: fn(&Account) -> &AtomicU64| -> u64 {
            self.accounts.iter().map(|account| of(account).load(Ordering::SeqCst)).sum()
        };
        let taken = sum(|account| &account.taken);
        let are_drained = self.accounts.iter().all(|account| account.is_drained.load(Ordering::SeqCst))
            && self.connections.load(Ordering::SeqCst) == 0;
        let is_over = are_drained && taken == sum(|account| &account.sent);
        if is_over {
            self.all_drained.store(true, Ordering::SeqCst);
        }
        is_over
    }

    /// Whether [`Self::all_drained`] has found that it is so: cores may have left since.
    pub(super) fn is_all_over(&self) -> bool {
        self.all_drained.load(Ordering::SeqCst)
    }

    /// What is on its way when no core has anything left to do and the stop is not over; nothing while others have.
    #[must_use]
    pub fn awaited_between_cores(&self) -> Option<Awaited> {
        let are_drained = self.accounts.iter().all(|account| account.is_drained.load(Ordering::SeqCst));
        let moves = self.connections.load(Ordering::SeqCst) > 0;
        match (are_drained, moves) {
            (false, _) => None,
            (true, true) => Some(Awaited::Moves),
            (true, false) => Some(Awaited::Mail),
        }
    }

    /// A core that leaves has waited so long for each thing.
    pub(super) fn waited(&self, waits: &Waits) {
        for (all, own) in self.waits.iter().zip(waits) {
            all.fetch_max(*own, Ordering::Relaxed);
        }
    }

    /// What a stop that is over has waited for, and how long in milliseconds: for each thing that of the core which waited longest.
    pub fn waits(&self) -> impl Iterator<Item = (Awaited, u64)> {
        let waits = Awaited::ALL.into_iter().zip(&self.waits);
        waits.map(|(awaited, ms)| (awaited, ms.load(Ordering::Relaxed))).filter(|(_, ms)| *ms > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        let topology = Topology::new(2).unwrap();
        let (counters, revocations) = (Arc::new(Counters::new(2)), Revocations::default());
        let capacity = Capacity::new(10, 2, 1_000).unwrap();
        Common::new(topology, counters, revocations, OriginLimits::default(), capacity, 1_000)
    }

    #[test]
    fn cores_that_are_drained_wait_for_mail_that_nobody_has_taken_or_is_not_done_with() {
        let common = common();
        let [a, b] = [CoreId(0), CoreId(1)];
        common.set_drained(b, true, 0);
        assert!(!common.all_drained(), "one core has something to do");
        common.set_sent(a, 1);
        common.set_drained(a, true, 0);
        assert!(!common.all_drained(), "it has sent something to the other, which does not know of it");
        assert_eq!(common.awaited_between_cores(), Some(Awaited::Mail));
        // The other one takes it, and answers before it says so.
        common.set_sent(b, 1);
        assert!(!common.all_drained());
        common.set_drained(b, true, 1);
        assert!(!common.all_drained(), "its answer is on the way");
        common.set_drained(a, true, 1);
        assert!(common.all_drained());
    }

    #[test]
    fn once_one_core_may_leave_all_may() {
        let common = common();
        common.set_drained(CoreId(0), true, 0);
        common.set_drained(CoreId(1), true, 0);
        assert!(common.all_drained());
        // An answer of the store, which nobody waits for, makes one of them send something to a core that has left.
        common.set_sent(CoreId(1), 1);
        common.set_drained(CoreId(1), false, 0);
        assert!(common.all_drained());
    }

    #[test]
    fn a_place_that_is_taken_is_waited_for() {
        let common = common();
        common.set_drained(CoreId(0), true, 0);
        common.set_drained(CoreId(1), true, 0);
        common.connections.store(1, Ordering::Relaxed);
        assert!(!common.all_drained());
        assert_eq!(common.awaited_between_cores(), Some(Awaited::Moves));
    }
}
