//! Pair: the two nodes of a static cluster, as a shard of one of them knows them, for tests of what goes between shards.

use std::sync::Arc;

use proto_spec::{EpochId, UserId};
use server::{
    cluster::{
        file::{Identity, Nodes},
        map::Slot,
    },
    shard::{
        CacheLimits, Limits, PresenceSettings, Promise, Settings, Shard,
        topology::{CoreId, Homes, NodeId, Topology},
    },
};

/// Nobody is held back or pinged.
const SETTINGS: Settings = Settings {
    ping_after_ms: 60_000_000,
    idle_timeout_ms: 150_000_000,
    expiry_warning_ms: 60_000,
    token_leeway_ms: 0,
    promise: Promise::Disk,
    limits: Limits::OFF,
    cache: CacheLimits::OFF,
    presence: PresenceSettings::DEFAULT,
    moves_per_s: 1_000,
    push: None,
};

const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:9\"\n\
                     [nodes.b]\nmesh = \"127.0.0.1:2\"\nclients = \"127.0.0.1:9\"\n";

/// Both, and who owns what.
///
/// # Panics
/// Never: it is the same text each time.
#[must_use]
pub fn nodes() -> Nodes {
    Nodes::parse(NODES).expect("they are nodes")
}

/// Users whose home is this node: 0 or 1.
pub fn users(of: NodeId) -> impl Iterator<Item = UserId> {
    let map = nodes().map;
    (1..).map(UserId).filter(move |user| map.owner(Slot::of(*user)) == of)
}

/// The shard of this node, which has one core.
///
/// # Panics
/// Never: one core is enough for a node.
#[must_use]
pub fn shard(own: NodeId) -> Shard {
    let topology = Topology::new(1).expect("it has a core");
    let cluster = Some(Identity { nodes: Arc::new(nodes()), own });
    Shard::new(CoreId(0), Homes { topology, cluster }, SETTINGS, EpochId(1))
}
