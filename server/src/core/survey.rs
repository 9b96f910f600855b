//! Survey: what the cores of a node know of its cluster, for whoever asks.

use super::{common::Common, links::Mesh};
use crate::{
    cluster::map::Slot,
    mesh::link::Identity,
    operator::survey::{NodeKnown, Reach, SlotOwned, Survey},
    shard::topology::NodeId,
};

/// As it is at this moment; none: the node has no others beside it.
#[must_use]
pub fn survey(common: &Common) -> Option<Survey> {
    let mesh = common.mesh.as_ref()?;
    let Mesh { identity: Identity { nodes, own }, .. } = mesh;
    let known = |id: NodeId| {
        let node = nodes.node(id).clone();
        let owned = Slot::all().filter(|slot| nodes.map.owner(*slot) == id);
        let reach = match mesh.host(id) {
            _ if id == *own => Reach::Here,
            Some(_) => Reach::Linked,
            None => Reach::Away,
        };
        NodeKnown {
            name: node.name,
            mesh: node.mesh,
            clients: node.clients,
            clients_tls: node.clients_tls,
            weight: node.weight,
            // A map that is a file pins nothing, lets nobody leave, and has nobody who watches whether others are alive.
            slots: owned.map(|slot| SlotOwned { slot, is_pinned: false }).collect(),
            reach,
            is_leaving: false,
            is_alive: None,
        }
    };
    Some(Survey {
        cluster: nodes.name.clone(),
        digest: nodes.digest(),
        version: None,
        nodes: nodes.ids().map(known).collect(),
    })
}
