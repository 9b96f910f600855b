//! Owners: what this core does when slots come to this node or go.

use std::sync::Arc;

use super::{Core, CoreMessage};
use crate::{
    cluster::{
        file::{Identity, Nodes},
        map::Slot,
    },
    shard::{Input, Now},
};

impl Core {
    /// Something else is known of the nodes and of who owns what.
    pub(super) fn owners(&mut self, now: Now, nodes: Arc<Nodes>) {
        let Some(Identity { nodes: known, own }) = &mut self.homes.cluster else { return };
        let (before, own) = (std::mem::replace(known, Arc::clone(&nodes)), *own);
        let mut went_back = None;
        if let Some(lanes) = &mut self.lanes {
            let of_lanes = self.common.topology.lanes_of(self.id).map(|lane| (lane, Slot(lane.0 as u8)));
            for (lane, slot) in of_lanes {
                let is_own = |nodes: &Nodes| nodes.map.owner(slot) == own;
                match (is_own(&before), is_own(&nodes)) {
                    (true, true) if before.term(slot) == nodes.term(slot) => {}
                    (_, true) if nodes.term(slot) <= lanes.term(lane) => went_back = Some(slot),
                    (_, true) => lanes.begin(lane, nodes.term(slot)),
                    (true, false) => lanes.close(lane),
                    (false, false) => {}
                }
            }
        }
        if let Some(Slot(slot)) = went_back {
            let why = format!(
                "slot {slot} has a term in the roll of the cluster that it has had before: the database was set back, or its rows were \
                 changed by hand. Start this node again when that is done"
            );
            self.tell_core_0(now, CoreMessage::Lost(why));
        }
        // Before anything else: what the lanes have forgotten the shard must not wait for.
        self.feed(now, Input::Owners(nodes));
    }
}
