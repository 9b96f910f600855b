//! Survey: what the cores of a node know of its cluster, for whoever asks.

use super::common::Common;
use crate::{
    cluster::map::Slot,
    operator::survey::{NodeKnown, Reach, SlotOwned, Survey},
    shard::topology::NodeId,
};

/// As it is at this moment; none: the node has no others beside it.
#[must_use]
pub fn survey(common: &Common) -> Option<Survey> {
    let mesh = common.mesh.as_ref()?;
    let (nodes, own) = (mesh.nodes(), mesh.own);
    let do_move = nodes.terms.is_some();
    let known = |id: NodeId| {
        let node = nodes.node(id).clone();
        let owned = Slot::all().filter(|slot| nodes.map.owner(*slot) == id);
        let reach = match mesh.host(id) {
            _ if id == own => Reach::Here,
            Some(_) => Reach::Linked,
            None => Reach::Away,
        };
        NodeKnown {
            name: node.name,
            mesh: node.mesh,
            clients: node.clients,
            clients_tls: node.clients_tls,
            weight: node.weight,
            slots: owned.map(|slot| SlotOwned { slot, is_pinned: nodes.is_pinned(slot) }).collect(),
            reach,
            is_leaving: node.is_leaving,
            // By a map that is a file nobody watches that.
            is_alive: do_move.then_some(!node.is_dead),
        }
    };
    Some(Survey {
        cluster: nodes.name.clone(),
        digest: nodes.digest(),
        version: do_move.then(|| nodes.version()),
        nodes: nodes.ids().map(known).collect(),
    })
}
