//! Links: this core's part of the mesh. Which of them are open, who dials whom and when again, and what goes through them.
//!
//! There is one link for each pair of nodes, which the node with the lower number dials, from the core whose number the other node's
//! gives; it lies with whichever core has taken it there. All cores know which one has it ([`Mesh`]), and post what is for that node to
//! it. A link has a serial number, so a core that hears of an end and of a new beginning from two others knows which came last.
//!
//! A fault of this design would be an answer that is lost while the link lives: it is given up then, so that the other node asks again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use proto_spec::ErrorCode;
use storage::group::beside;
use tracing::{info, warn};

use super::{Core, CoreMessage, Order};
use crate::{
    cluster::{
        file::{Identity, Nodes},
        map::SLOTS,
    },
    limits::{DIAL_AGAIN_MS, LINKS_GREETING_MAX, RETRY_ELSEWHERE_MS},
    mesh::{
        certificate::Certificate,
        link::{Heard, Link, LinkError, NotPosted},
    },
    operator::{
        audit::{Event, What},
        throttle::Throttle,
    },
    shard::{
        Envelope, GroupMail, Input, Now,
        topology::{CoreId, Home, NodeId},
    },
};

/// What the cores of a node share of the mesh.
#[derive(Debug)]
pub struct Mesh {
    /// This node.
    pub own: NodeId,
    /// All nodes, as this one knows them now. For whoever asks now and then; a core has its own copy.
    nodes: RwLock<Arc<Nodes>>,
    /// By node: the core that has the link and the link's serial number, or 0.
    hosts: Box<[AtomicU64]>,
    /// Locked while a link is entered: later ones have higher numbers.
    serials: RwLock<u64>,
}

/// Bits of a host that are its core.
const CORE_BITS: u32 = 16;

impl Mesh {
    /// No link is open.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let Identity { nodes, own } = identity;
        // As many as there can ever be, where slots move.
        let hosts = if nodes.terms.is_some() { SLOTS } else { nodes.nodes.len() };
        let hosts = (0..hosts).map(|_| AtomicU64::new(0)).collect();
        Self { own, nodes: RwLock::new(nodes), hosts, serials: RwLock::new(0) }
    }

    /// All nodes, as this one knows them now.
    #[must_use]
    pub fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.nodes.read())
    }

    /// Something else is known of them.
    pub fn learn(&self, nodes: Arc<Nodes>) {
        *self.nodes.write() = nodes;
    }

    fn place(&self, node: NodeId) -> &AtomicU64 {
        &self.hosts[usize::from(node.0)]
    }

    /// The core that has the link to a node.
    #[must_use]
    pub fn host(&self, node: NodeId) -> Option<CoreId> {
        let host = self.place(node).load(Ordering::Acquire);
        (host > 0).then_some(CoreId(host as u16))
    }

    /// A core has a link to a node from now on. Its serial number, and the core that had one until then.
    fn open(&self, node: NodeId, core: CoreId) -> (u64, Option<CoreId>) {
        let mut serial = self.serials.write();
        *serial += 1;
        let before = self.place(node).swap(*serial << CORE_BITS | u64::from(core.0), Ordering::AcqRel);
        (*serial, (before > 0).then_some(CoreId(before as u16)))
    }

    /// The link with this number is not there any more.
    fn end(&self, node: NodeId, core: CoreId, serial: u64) {
        let known = serial << CORE_BITS | u64::from(core.0);
        // A later one may be there already.
        let _ = self.place(node).compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// How many nodes there are beside this one, and how many of them can be reached.
    #[must_use]
    pub fn reach(&self) -> (usize, usize) {
        let reachable = self.hosts.iter().filter(|host| host.load(Ordering::Relaxed) > 0).count();
        (self.nodes.read().nodes.len() - 1, reachable)
    }
}

/// A connection of this core to a node, or of one that has come. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// When a node is dialled.
#[derive(Debug, Default)]
struct Dial {
    /// It is, or its link is there.
    is_under_way: bool,
    at_ms: u64,
    wait_ms: u64,
    warnings: Throttle,
}

/// The links of one core.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) links: BTreeMap<LinkId, Link>,
    /// Of each node the link that is open, and its serial number.
    pub(super) open: BTreeMap<NodeId, (LinkId, u64)>,
    dials: BTreeMap<NodeId, Dial>,
    warnings: Throttle,
}

impl Core {
    // ---- what the rim says

    /// A connection to a node is there: one that this core has dialled, or of somebody who has come. `certified`: its
    /// certificate, if it has one.
    pub fn link_began(&mut self, now: Now, id: LinkId, dialled: Option<NodeId>, certified: Option<Certificate>) {
        let Some(identity) = &self.homes.cluster else { return };
        let greeting = self.links.links.values().filter(|link| link.peer().is_none()).count();
        if self.is_stopping() || (dialled.is_none() && greeting >= LINKS_GREETING_MAX) {
            return self.order(Order::CutLink(id, Vec::new()));
        }
        self.links.links.insert(id, Link::new(dialled, certified, identity, now.monotonic_ms));
    }

    /// A node could not be reached, for this reason.
    pub fn dial_failed(&mut self, now: Now, node: NodeId, why: &str) {
        self.dial_again(now, node, why);
    }

    /// Somebody has come as a node, and has not got as far as to say which.
    pub fn stranger(&mut self, now: Now, why: &str) {
        if let Some(times) = self.links.warnings.another(now.monotonic_ms) {
            warn!(core = self.id.0, why, times, "somebody came as a node, and was not let in");
            let (reason, count) = (Some(why.to_owned()), Some(times));
            self.report(Event { reason, count, ..Event::new(now.wall, What::NodeRefused) });
        }
    }

    /// Bytes of a link have come.
    pub fn link_bytes(&mut self, now: Now, id: LinkId, bytes: &[u8]) {
        let Some(identity) = &self.homes.cluster else { return };
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let mut heard = Vec::new();
        let result = link.receive(bytes, identity, now.monotonic_ms, |what| heard.push(what));
        let peer = link.peer();
        for what in heard {
            match (what, peer) {
                (Heard::Opened(node), _) => self.link_opened(now, id, node),
                (Heard::Envelope(envelope), Some(node)) => {
                    self.counters().mesh_received.one();
                    self.arrived_from(now, node, envelope);
                }
                (Heard::Presence(said), Some(node)) => self.presence_from(node, said),
                (Heard::Group(mail), Some(node)) => self.group_from(now, node, mail),
                (Heard::Envelope(_) | Heard::Presence(_) | Heard::Group(_), None) => {}
            }
        }
        if let Err(error) = result {
            self.link_ended(now, id, &error.to_string());
        }
    }

    /// The kernel took bytes of a link.
    pub fn link_sent(&mut self, id: LinkId, bytes: usize) {
        if let Some(link) = self.links.links.get_mut(&id) {
            link.left(bytes);
        }
    }

    /// A link has ended, for this reason, or is to.
    pub fn link_ended(&mut self, now: Now, id: LinkId, why: &str) {
        let Some(mut link) = self.links.links.remove(&id) else { return };
        // A refusal, for instance.
        let mut last_words = Vec::new();
        link.take_output(&mut last_words);
        self.order(Order::CutLink(id, last_words));
        let open = link.peer().and_then(|node| Some((node, *self.links.open.get(&node)?)));
        if let Some((node, (known, serial))) = open
            && known == id
        {
            warn!(core = self.id.0, node = self.node_name(node), why, "the link to a node has ended");
            if let Some(mesh) = &self.common.mesh {
                mesh.end(node, self.id, serial);
            }
            self.links.open.remove(&node);
            self.counters().links_ended.one();
            self.count_links();
            self.tell_link(now, node, serial, false);
        } else if link.dialled().is_none() {
            self.stranger(now, why);
        }
        if let Some(node) = link.dialled() {
            self.dial_again(now, node, why);
        }
    }

    /// All links of this core end.
    pub(super) fn end_links(&mut self, now: Now, why: &str) {
        let all: Vec<_> = self.links.links.keys().copied().collect();
        all.into_iter().for_each(|id| self.link_ended(now, id, why));
    }

    // ---- what cores say to each other

    /// Another core has a later link to a node.
    pub(super) fn link_moved(&mut self, now: Now, node: NodeId, serial: u64) {
        if let Some((id, _)) = self.links.open.get(&node).copied().filter(|(_, own)| *own < serial) {
            self.link_ended(now, id, "the node has opened another one");
        }
    }

    /// A link of another core is open, or has ended.
    pub(super) fn link_told(&mut self, now: Now, node: NodeId, serial: u64, is_up: bool) {
        self.link_changed(now, node, serial, is_up);
    }

    /// What this core does about it.
    fn link_changed(&mut self, now: Now, node: NodeId, serial: u64, is_up: bool) {
        // Unless there is a later one.
        if !is_up && self.common.mesh.as_ref().is_none_or(|mesh| mesh.host(node).is_none()) {
            self.end_tunnels(
                Some(node),
                (ErrorCode::Elsewhere, RETRY_ELSEWHERE_MS, "the node that serves this user is away"),
            );
        }
        self.feed(now, Input::Link { node, serial, is_up });
    }

    /// An envelope for a user of this core, as whoever posted it knew.
    pub(super) fn envelope(&mut self, now: Now, envelope: Envelope) {
        match self.homes.of(envelope.to) {
            Home::Here(core) if core == self.id => self.feed(now, Input::Envelope(envelope)),
            Home::Here(core) => self.post(core, CoreMessage::Envelope(envelope)),
            // The slot has gone since it was posted.
            Home::Elsewhere(_) => self.give_back(envelope),
        }
    }

    /// Posts what goes to another node, to the core that has the link there. Which node that is has been decided where it was posted: cores
    /// hear one after the other that a slot has moved, and what a shard counts as on the way must go where the shard thinks.
    pub(super) fn post_to_node(&mut self, now: Now, node: NodeId, envelope: Envelope) {
        match self.common.mesh.as_ref().and_then(|mesh| mesh.host(node)) {
            Some(core) if core == self.id => {
                let open = self.links.open.get(&node).map(|(id, _)| *id);
                let Some((id, link)) = open.and_then(|id| Some((id, self.links.links.get_mut(&id)?))) else {
                    return self.give_back(envelope);
                };
                match link.post(&envelope) {
                    Ok(()) => self.counters().mesh_sent.one(),
                    Err(NotPosted::PutOff) => self.give_back(envelope),
                    Err(NotPosted::Full) => self.link_ended(now, id, &LinkError::Full.to_string()),
                }
            }
            Some(core) => self.post(core, CoreMessage::ToNode(node, envelope)),
            None => self.give_back(envelope),
        }
    }

    /// What can not go to another node counts as put off there. An answer is asked for again by what it answers.
    fn give_back(&mut self, envelope: Envelope) {
        if let Some(put_off) = envelope.put_off() {
            self.counters().mesh_put_off.one();
            let core = self.common.topology.home_of(put_off.to);
            self.post(core, CoreMessage::Envelope(put_off));
        }
    }

    /// What is said of a group, for this node, as whoever posted it knew.
    pub(super) fn group_mail(&mut self, now: Now, mail: Box<GroupMail>) {
        match self.home_of_mail(&mail) {
            Home::Here(core) if core == self.id => self.feed(now, Input::Group(mail)),
            Home::Here(core) => self.post(core, CoreMessage::Group(mail)),
            // The slot has gone since: whoever follows or asks does so anew.
            Home::Elsewhere(_) => {}
        }
    }

    /// Posts what goes to another node, to the core that has the link there. While there is none it is lost, and a later link has whoever
    /// follows begin anew.
    pub(super) fn post_group_to_node(&mut self, now: Now, node: NodeId, mail: Box<GroupMail>) {
        match self.common.mesh.as_ref().and_then(|mesh| mesh.host(node)) {
            Some(core) if core == self.id => {
                let open = self.links.open.get(&node).map(|(id, _)| *id);
                let Some((id, link)) = open.and_then(|id| Some((id, self.links.links.get_mut(&id)?))) else { return };
                match link.post_group(&mail) {
                    Ok(()) => self.counters().mesh_sent.one(),
                    Err(_) => self.link_ended(now, id, &LinkError::Full.to_string()),
                }
            }
            Some(core) => self.post(core, CoreMessage::GroupToNode(node, mail)),
            None => {}
        }
    }

    /// Another node says something of a group. What is not its own to say, or not for here, is lost: the nodes may not have heard the same
    /// yet, and whoever follows begins anew when they have.
    fn group_from(&mut self, now: Now, node: NodeId, mut mail: Box<GroupMail>) {
        self.counters().mesh_received.one();
        let is_for_home = mail.said.is_for_home();
        let own = self.homes.cluster.as_ref().map(|cluster| cluster.own).unwrap_or_default();
        mail.core.node = if is_for_home { node } else { own };
        // Nor does a node ask, follow or say anything in the name of users who are not its own.
        let strangers = mail.said.leave_out(|user| self.homes.elsewhere(user) == Some(node));
        self.counters().mesh_astray.add(strangers as u64);
        if strangers > 0 && mail.said.is_of_nobody() {
            return;
        }
        let is_theirs = is_for_home || self.homes.elsewhere(beside(mail.group)) == Some(node);
        if is_theirs && matches!(self.home_of_mail(&mail), Home::Here(core) if core.0 < self.common.topology.cores()) {
            self.group_mail(now, mail);
        } else {
            self.counters().mesh_astray.one();
        }
    }

    /// Where it is to go.
    fn home_of_mail(&self, mail: &GroupMail) -> Home {
        if mail.said.is_for_home() { self.homes.of(beside(mail.group)) } else { Home::Here(mail.core.core) }
    }

    // ---- time

    /// Dials, pings, and ends what is silent.
    pub(super) fn tick_links(&mut self, now: Now) {
        let Some(Identity { nodes, own }) = &self.homes.cluster else { return };
        let cores = self.common.topology.cores();
        let mine = |node: &NodeId| node > own && node.0 % cores == self.id.0;
        for node in nodes.ids().filter(mine) {
            let dial = self.links.dials.entry(node).or_default();
            if !dial.is_under_way && now.monotonic_ms >= dial.at_ms && self.stop.is_none() {
                dial.is_under_way = true;
                self.orders.push_back(Order::Dial(node, nodes.node(node).mesh));
            }
        }
        // What has come may not have been looked at: this core is behind, and not the other node.
        let is_stalled = self.is_stalled();
        let ticked = self.links.links.iter_mut().map(|(id, link)| (*id, link.tick(now.monotonic_ms, is_stalled)));
        let over: Vec<_> = ticked.filter_map(|(id, result)| Some((id, result.err()?))).collect();
        for (id, error) in over {
            self.link_ended(now, id, &error.to_string());
        }
    }

    /// What the links have to say at the end of a turn.
    pub(super) fn flush_links(&mut self, mut send: impl FnMut(LinkId, Vec<u8>)) {
        for (id, link) in &mut self.links.links {
            let mut bytes = Vec::new();
            link.take_output(&mut bytes);
            if !bytes.is_empty() {
                send(*id, bytes);
            }
        }
    }

    // ---- inside

    /// The greetings are done.
    fn link_opened(&mut self, now: Now, id: LinkId, node: NodeId) {
        let Some(mesh) = &self.common.mesh else { return };
        let (serial, before) = mesh.open(node, self.id);
        info!(core = self.id.0, node = self.node_name(node), "a link to a node is open");
        self.counters().links_opened.one();
        if let Some(dial) = self.links.dials.get_mut(&node) {
            dial.wait_ms = 0;
        }
        // The other node has given up the one before: it lets in, or dials, as if there were none.
        if let Some((old, _)) = self.links.open.insert(node, (id, serial)) {
            self.links.links.remove(&old);
            self.order(Order::CutLink(old, Vec::new()));
        } else if let Some(core) = before.filter(|core| *core != self.id) {
            self.post(core, CoreMessage::LinkMoved { node, serial });
        }
        self.count_links();
        self.tell_link(now, node, serial, true);
    }

    /// All shards of this node are told.
    fn tell_link(&mut self, now: Now, node: NodeId, serial: u64, is_up: bool) {
        let own = self.id;
        for core in (0..self.common.topology.cores()).map(CoreId).filter(|core| *core != own) {
            self.post(core, CoreMessage::Link { node, serial, is_up });
        }
        self.link_changed(now, node, serial, is_up);
    }

    /// Another node says something to a user of this one. What is not its own to say, or not for here, is put off: the nodes may not have
    /// heard the same yet. The user's core judges that, by what it has told its own shard; where slots move anybody may say that something is put off.
    pub(super) fn arrived_from(&mut self, now: Now, node: NodeId, envelope: Envelope) {
        match self.homes.of(envelope.to) {
            Home::Here(core) if core != self.id => self.post(core, CoreMessage::FromNode(node, envelope)),
            Home::Here(_)
                if self.homes.elsewhere(envelope.from) == Some(node)
                    || (envelope.is_put_off() && self.homes.do_move()) =>
            {
                self.feed(now, Input::Envelope(envelope));
            }
            Home::Here(_) | Home::Elsewhere(_) => {
                self.counters().mesh_astray.one();
                if let Some(put_off) = envelope.put_off() {
                    self.post_to_node(now, node, put_off);
                }
            }
        }
    }

    fn dial_again(&mut self, now: Now, node: NodeId, why: &str) {
        let name = self.node_name(node).to_owned();
        let Some(dial) = self.links.dials.get_mut(&node) else { return };
        let [least, most] = DIAL_AGAIN_MS;
        dial.wait_ms = (2 * dial.wait_ms).clamp(least, most);
        dial.at_ms = now.monotonic_ms + dial.wait_ms;
        dial.is_under_way = false;
        if let Some(times) = dial.warnings.another(now.monotonic_ms) {
            warn!(core = self.id.0, node = name, why, times, "a node cannot be reached");
        }
    }

    fn count_links(&self) {
        self.counters().links.set(self.links.open.len() as u64);
    }

    pub(super) fn node_name(&self, node: NodeId) -> &str {
        self.homes.cluster.as_ref().map_or("", |cluster| &cluster.nodes.node(node).name)
    }
}
