//! The file of a static cluster: the same on all of its nodes, so that each computes the same map. PURE: text in, nodes out.
//!
//! ```toml
//! name = "chat"
//!
//! [nodes.a]
//! mesh = "10.0.0.1:7650"        # where the other nodes reach it
//! clients = "10.0.0.1:7600"     # where clients do, by IP address or name
//! clients_tls = "a.example.org:7443"
//! weight = 1                    # how much it owns, beside the others
//! ```

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use proto_spec::limits::ADDRESS_BYTES_MAX;
use serde::Deserialize;

use super::map::{Candidate, Map, SLOTS, Slot, WEIGHT_MAX};
use crate::shard::topology::NodeId;

/// Bytes of the name of a cluster or a node, so that a line of a log and a certificate have room for it.
pub const NAME_BYTES_MAX: usize = 63;

/// The nodes of a cluster, and who owns what: as a file says for ever, or as the roll of a database said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// What the cluster is called: nodes of another one are refused.
    pub name: String,
    /// By [`NodeId`]: of a file in the order of their names, of a roll in the order in which they came.
    pub nodes: Vec<Node>,
    /// Who owns what.
    pub map: Map,
    /// Where slots move: the term of each. None: they stay where they are.
    pub terms: Option<Box<[Term; SLOTS]>>,
}

/// How a slot is owned, where slots move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// Grows with each owner.
    pub number: u64,
    /// It stays with this owner while that is alive.
    pub is_pinned: bool,
}

/// One node among others, as it knows them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// All of them.
    pub nodes: Arc<Nodes>,
    /// Which of them it is.
    pub own: NodeId,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// Where other nodes reach it.
    pub mesh: SocketAddr,
    /// Where clients reach it without TLS, if they can.
    pub clients: Option<String>,
    /// Where clients reach it with TLS, if they can.
    pub clients_tls: Option<String>,
    /// How much it owns, in proportion to others.
    pub weight: u16,
    /// It is to give away what it owns, where slots move.
    pub is_leaving: bool,
    /// It has said nothing for longer than its lease, where slots move.
    pub is_dead: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    nodes: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    mesh: SocketAddr,
    clients: Option<String>,
    clients_tls: Option<String>,
    #[serde(default = "one")]
    weight: u16,
}

const fn one() -> u16 {
    1
}

impl Nodes {
    /// Reads what a file says.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Text { name, nodes } = toml::from_str(text).map_err(|error| error.to_string())?;
        check_name("name", &name)?;
        if nodes.is_empty() || nodes.len() > SLOTS {
            return Err(format!(
                "there are {} nodes: a cluster has 1 to {SLOTS}, each with its [nodes.NAME]",
                nodes.len()
            ));
        }
        let nodes = nodes.into_iter().map(|(name, entry)| {
            let Entry { mesh, clients, clients_tls, weight } = entry;
            Node { name, mesh, clients, clients_tls, weight, is_leaving: false, is_dead: false }
        });
        let nodes: Vec<_> = nodes.collect();
        for (at, node) in nodes.iter().enumerate() {
            node.check(&nodes[..at])?;
        }
        let candidate = |(at, node): (usize, &Node)| Candidate {
            node: NodeId(at as u16),
            name: node.name.clone(),
            weight: node.weight,
        };
        let candidates: Vec<_> = nodes.iter().enumerate().map(candidate).collect();
        Ok(Self { name, map: Map::propose(None, &candidates), nodes, terms: None })
    }

    /// The node of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(|at| NodeId(at as u16))
    }

    /// One of them.
    ///
    /// # Panics
    /// It is of another cluster.
    #[must_use]
    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[usize::from(node.0)]
    }

    /// Whether a slot stays with its owner while that is alive.
    #[must_use]
    pub fn is_pinned(&self, slot: Slot) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms[usize::from(slot.0)].is_pinned)
    }

    /// The term in which a slot is owned; 0 where slots do not move.
    #[must_use]
    pub fn term(&self, slot: Slot) -> u64 {
        self.terms.as_ref().map_or(0, |terms| terms[usize::from(slot.0)].number)
    }

    /// The version of the map: of two the later one has the higher one. 1 where slots do not move.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.terms.as_ref().map_or(1, |terms| terms.iter().map(|term| term.number).sum())
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u16).map(NodeId)
    }

    /// See [`Map::digest`]. The same for ever where slots move: there nodes may know maps of different versions.
    #[must_use]
    pub fn digest(&self) -> u64 {
        match self.terms {
            Some(_) => 0,
            None => self.map.digest(&self.name, |node| &self.node(node).name),
        }
    }
}

impl Node {
    /// Whether others may be told of it, beside those before it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, before: &[Self]) -> Result<(), String> {
        let Self { name, mesh, clients, clients_tls, weight, .. } = self;
        check_name("the name of a node", name)?;
        if mesh.port() == 0 || mesh.ip().is_unspecified() {
            return Err(format!(
                "nodes.{name}.mesh = \"{mesh}\": must be an address and a port that the other nodes can connect to"
            ));
        }
        if let Some(other) = before.iter().find(|other| other.mesh == *mesh) {
            return Err(format!("nodes.{name}.mesh = \"{mesh}\": that is where node {} is", other.name));
        }
        if clients.is_none() && clients_tls.is_none() {
            return Err(format!(
                "nodes.{name}: needs clients or clients_tls, the address that clients are told to connect to"
            ));
        }
        for (key, address) in [("clients", clients), ("clients_tls", clients_tls)] {
            let Some(address) = address else { continue };
            if !is_place(address) {
                return Err(format!(
                    "nodes.{name}.{key} = \"{address}\": must be a name or an IP address, a colon, and a port other than 0; for example \
                     \"a.example.org:7443\" or \"[2001:db8::1]:7443\""
                ));
            }
        }
        if !(1..=WEIGHT_MAX).contains(weight) {
            return Err(format!("nodes.{name}.weight = {weight}: must be 1 to {WEIGHT_MAX}"));
        }
        Ok(())
    }
}

/// Whether a cluster or a node may be called so.
///
/// # Errors
/// Not, and what names look like.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_fit) {
        return Err(format!("{what} is \"{name}\": must be 1 to {NAME_BYTES_MAX} of a to z, 0 to 9 and -"));
    }
    Ok(())
}

/// Whether it is a host and a port.
fn is_place(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_');
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    text.len() <= ADDRESS_BYTES_MAX && (is_v6 || is_name) && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "name = \"chat\"\n[nodes.b]\nmesh = \"127.0.0.1:2\"\nclients = \"127.0.0.1:4\"\n\
                       [nodes.a]\nmesh = \"127.0.0.1:1\"\nclients_tls = \"a.example.org:3\"\nweight = 3\n";

    #[test]
    fn nodes_are_numbered_by_name_and_own_what_they_weigh() {
        let nodes = Nodes::parse(TWO).unwrap();
        assert_eq!([nodes.find("a"), nodes.find("b"), nodes.find("c")], [Some(NodeId(0)), Some(NodeId(1)), None]);
        assert_eq!(nodes.ids().map(|node| nodes.map.owned(node)).collect::<Vec<_>>(), [192, 64]);
        assert_eq!(nodes.node(NodeId(1)).clients.as_deref(), Some("127.0.0.1:4"));
        assert_ne!(nodes.digest(), Nodes::parse(&TWO.replace("weight = 3", "weight = 2")).unwrap().digest());
        assert_eq!(nodes.digest(), Nodes::parse(&TWO.replace("127.0.0.1:4", "127.0.0.1:5")).unwrap().digest());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_name() {
        for (from, to, words) in [
            ("name = \"chat\"", "name = \"Chat\"", "name is \"Chat\""),
            ("name = \"chat\"\n", "", "missing field `name`"),
            ("mesh = \"127.0.0.1:2\"", "mesh = \"127.0.0.1:1\"", "that is where node a is"),
            ("mesh = \"127.0.0.1:2\"", "mesh = \"0.0.0.0:1\"", "nodes.b.mesh"),
            ("mesh = \"127.0.0.1:2\"", "mesh = \"b:2\"", "line 3"),
            ("127.0.0.1:4", "127.0.0.1", "nodes.b.clients = "),
            ("127.0.0.1:4", "::1:4", "nodes.b.clients = "),
            ("a.example.org:3", "a.example.org:0", "nodes.a.clients_tls = "),
            ("clients = \"127.0.0.1:4\"\n", "", "nodes.b: needs clients"),
            ("weight = 3", "weight = 101", "nodes.a.weight = 101"),
            ("weight = 3", "wait = 3", "unknown field `wait`"),
            ("nodes.b", "nodes.B", "the name of a node is \"B\""),
        ] {
            let text = TWO.replace(from, to);
            assert_ne!(text, TWO);
            let error = Nodes::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(Nodes::parse("name = \"x\"\n[nodes]").unwrap_err().contains("there are 0 nodes"));
    }
}
