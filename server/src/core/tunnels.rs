//! Tunnels: connections whose bytes somebody else than a shard of this core takes, in both directions. They are of clients whose user another
//! node serves, and who do not go there: they follow no redirect, or the transport that they use does not reach it. Each gets a connection of its own to that node, through which its bytes go in both directions, and is served there as if
//! it had come to it: by its limits, its keys and its clock. Here is who gets one, who is taken in by one, and when they end; the
//! bytes are the rim's.
//!
//! A connection for each client, and not a part of the link: a client that reads slowly holds up itself, in the kernel's buffers, and the
//! link goes on carrying nothing but what nodes say to each other.
//!
//! And they are of who asks by HTTP for something else than WebSocket: `pages` answers, in a thread of its own, and no core spends its time
//! on requests.

use std::{collections::BTreeMap, net::SocketAddr};

use proto_spec::ErrorCode;
use tracing::{debug, warn};

use super::{
    Core, Order,
    origins::{Origin, Verdict},
};
use crate::{
    access::{
        handshake::bye,
        rate::{Bucket, Rate},
    },
    cluster::file::Identity,
    limits::{PAGE_CONNECTIONS_MAX, RETRY_ELSEWHERE_MS, RETRY_FLOOD_MS, TUNNELS_PER_S_MAX},
    mesh::{
        certificate::Certificate,
        wire::{self, Greeting, Opening, Said, VERSIONS},
    },
    operator::throttle::Throttle,
    shard::{ConnId, Now, topology::NodeId},
};

/// The clients of one core who are served through another node.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    to: BTreeMap<ConnId, Tunnel>,
    /// How many of them lead to `pages`.
    pages: usize,
    /// How many are opened.
    pub(super) pace: Bucket,
    warnings: Throttle,
}

impl Tunnels {
    pub(super) fn add(&mut self, conn: ConnId, far: Far) {
        self.pages += usize::from(far == Far::Pages);
        self.to.insert(conn, Tunnel { far, is_open: far == Far::Pages, idle: Bucket::default() });
    }

    /// How many lead to other nodes.
    pub(super) fn to_nodes(&self) -> usize {
        self.to.len() - self.pages
    }

    fn remove(&mut self, conn: ConnId) -> Option<Tunnel> {
        let tunnel = self.to.remove(&conn)?;
        self.pages -= usize::from(tunnel.far == Far::Pages);
        Some(tunnel)
    }
}

/// Where a tunnel leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Far {
    Node(NodeId),
    /// What answers requests of HTTP, in this process.
    Pages,
}

#[derive(Clone, Copy, Debug)]
struct Tunnel {
    far: Far,
    /// The other end has taken the client in.
    is_open: bool,
    /// How many pieces have come of the client that carry nothing.
    idle: Bucket,
}

impl Core {
    // ---- where the client is

    /// Whether a client whose user that node serves is served through it from now on. `said`: all that it has said, in plain.
    pub(super) fn tunnel(&mut self, now: Now, (conn, client): (ConnId, SocketAddr), node: NodeId, said: &[u8]) -> bool {
        let Some(identity @ Identity { nodes, .. }) = &self.homes.cluster else { return false };
        let is_reached = self.common.mesh.as_ref().is_some_and(|mesh| mesh.host(node).is_some());
        let is_full = self.tunnels.to_nodes() as u64 >= u64::from(self.common.capacity.tunnels_max);
        if !is_reached || is_full || self.tunnels_pace().take(&mut self.tunnels.pace, now.monotonic_ms).is_err() {
            return false;
        }
        let to = nodes.node(node);
        let greeting = identity.greeting(&to.name, VERSIONS);
        let mut opening = Vec::new();
        wire::encode(&Said::Tunnel(Opening { greeting, client, said: said.to_vec() }), &mut opening);
        let (address, name) = (to.mesh, to.name.clone());
        debug!(core = self.id.0, slot = conn.slot, node = name, "served through another node");
        self.order(Order::Tunnel { conn, address, name, opening });
        self.tunnels.add(conn, Far::Node(node));
        self.count_tunnels();
        true
    }

    /// A request of HTTP has come that asks for no WebSocket: where it comes from, if `pages` is to answer it. If not, it is refused.
    pub fn page(&mut self, now: Now, conn: ConnId) -> Option<SocketAddr> {
        let peer = self.greetings.of(conn)?.peer;
        self.end_greeting(now, conn);
        if self.tunnels.pages >= PAGE_CONNECTIONS_MAX {
            self.counters().page_refused.one();
            return None;
        }
        self.tunnels.add(conn, Far::Pages);
        self.count_tunnels();
        Some(peer)
    }

    /// How often this core opens one: all cores together may so often.
    pub(super) fn tunnels_pace(&self) -> Rate {
        Rate::per_second((TUNNELS_PER_S_MAX / u32::from(self.common.topology.cores())).max(1))
    }

    /// The other node has taken the client of a tunnel in.
    pub fn tunnel_opened(&mut self, conn: ConnId) {
        self.counters().tunnels_opened.one();
        if let Some(tunnel) = self.tunnels.to.get_mut(&conn) {
            tunnel.is_open = true;
        }
    }

    /// It has not, for this reason, and the client has heard nothing yet. The reason is for the operator: it may name what is inside.
    pub fn tunnel_failed(&mut self, now: Now, conn: ConnId, why: &str) {
        self.counters().tunnels_failed.one();
        let Some(Tunnel { far: Far::Node(node), .. }) = self.tunnels.remove(conn) else { return };
        self.count_tunnels();
        let name = self.node_name(node).to_owned();
        if let Some(times) = self.tunnels.warnings.another(now.monotonic_ms) {
            warn!(core = self.id.0, node = name, why, times, "a client could not be served through another node");
        }
        let detail = format!("node {name} serves this user, and was not reached");
        self.refuse(conn, ErrorCode::Elsewhere, RETRY_ELSEWHERE_MS, &detail);
    }

    /// The client of a tunnel has gone, or the other node has ended it.
    pub fn tunnel_ended(&mut self, conn: ConnId) {
        self.tunnels.remove(conn);
        self.count_tunnels();
    }

    /// A piece of the client of a tunnel has come that carries nothing: the other node hears nothing of it, so it counts here, as a frame
    /// does there.
    pub fn tunnel_idles(&mut self, now: Now, conn: ConnId) {
        let rate = self.shard.settings().limits.frames;
        let Some(tunnel) = self.tunnels.to.get_mut(&conn) else { return };
        if rate.take(&mut tunnel.idle, now.monotonic_ms).is_err() {
            let is_open = tunnel.is_open;
            debug!(core = self.id.0, slot = conn.slot, "too many frames without content through a tunnel");
            self.end_tunnel(conn, is_open, (ErrorCode::RateLimited, RETRY_FLOOD_MS, "too many frames"));
            self.count_tunnels();
        }
    }

    /// All tunnels to a node end, or to all nodes: nothing comes from there any more, perhaps for a long time. Whose tunnel is not open yet is
    /// told why; of the others it is not known where what they are told would come to lie.
    pub(super) fn end_tunnels(&mut self, to: Option<NodeId>, why: (ErrorCode, u64, &str)) {
        let is_over = |far| matches!(far, Far::Node(node) if to.is_none_or(|to| to == node));
        let over = self.tunnels.to.iter().filter(|(_, tunnel)| is_over(tunnel.far));
        for (conn, is_open) in over.map(|(conn, tunnel)| (*conn, tunnel.is_open)).collect::<Vec<_>>() {
            self.end_tunnel(conn, is_open, why);
        }
        self.count_tunnels();
    }

    fn end_tunnel(&mut self, conn: ConnId, is_open: bool, (code, retry_ms, detail): (ErrorCode, u64, &str)) {
        self.tunnels.remove(conn);
        let last_words = if is_open { Vec::new() } else { bye(code, retry_ms, detail) };
        self.order(Order::EndTunnel(conn, last_words));
    }

    fn count_tunnels(&self) {
        self.counters().page_connections.set(self.tunnels.pages as u64);
        self.counters().tunnels.set(self.tunnels.to_nodes() as u64);
    }

    // ---- where it is served

    /// Another node wants a client of its served here: what it is told, as bytes of the mesh.
    ///
    /// # Errors
    /// It is refused, with these bytes.
    pub fn judge_tunnel(
        &mut self,
        now: Now,
        greeting: &Greeting,
        certified: Option<&Certificate>,
    ) -> Result<Vec<u8>, Vec<u8>> {
        let bytes = |said| {
            let mut bytes = Vec::new();
            wire::encode(&said, &mut bytes);
            bytes
        };
        let Some(identity) = &self.homes.cluster else { return Err(Vec::new()) };
        match identity.judge(greeting, certified) {
            Ok((_, version)) => Ok(bytes(Said::Greeting(identity.greeting(&greeting.node, [version; 2])))),
            Err(words) => {
                self.stranger(now, &words);
                Err(bytes(Said::Refused(words)))
            }
        }
    }

    /// Somebody comes by a tunnel: counted where the other node says that the connection comes from, as in [`Core::enter`].
    pub fn enter_by_tunnel(&mut self, now: Now, client: SocketAddr) -> (Origin, Verdict) {
        self.counters().tunnels_taken.one();
        if self.common.origins.is_balancer(client) {
            return (Origin::default(), Verdict::Welcome);
        }
        self.common.origins.enter(client, now.monotonic_ms)
    }

    /// A session of long polling begins, counted where its first request came from, as in [`Core::enter`].
    pub fn enter_by_poll(&mut self, now: Now, client: SocketAddr) -> (Origin, Verdict) {
        self.counters().polls.one();
        self.common.origins.enter(client, now.monotonic_ms)
    }

    /// As [`Core::accepted`], for a session of long polling: no balancer tells where it comes from.
    pub fn accepted_by_poll(
        &mut self,
        now: Now,
        (conn, client): (ConnId, SocketAddr),
        entered: (Origin, Verdict),
        taken: usize,
    ) {
        if self.begin_greeting(now, conn, client, entered, taken) {
            self.order(Order::Greet(conn));
        }
    }

    /// As [`Core::accepted`], for who has come by a tunnel, and has said this already.
    pub fn accepted_by_tunnel(
        &mut self,
        now: Now,
        (conn, client): (ConnId, SocketAddr),
        entered: (Origin, Verdict),
        taken: usize,
        said: Vec<u8>,
    ) {
        if self.begin_greeting(now, conn, client, entered, taken) {
            self.greetings.tunnelled(conn, said);
        }
    }
}
