//! Who comes as a node, before it has said which.

use super::*;
use crate::{cluster::file::Nodes, limits::LINKS_GREETING_MAX, shard::topology::NodeId};

const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\n\
                     [nodes.b]\nmesh = \"127.0.0.1:3\"\nclients = \"127.0.0.1:4\"\n";

#[test]
fn so_many_may_be_about_to_say_which_node_they_are_and_more_are_closed() {
    let identity = Identity { nodes: Arc::new(Nodes::parse(NODES).unwrap()), own: NodeId(0) };
    let mut world = World::among(Some(identity), Limits::OFF, OriginLimits::default());
    let begins = |world: &mut World, link, dialled| {
        world.core.link_began(world.now, LinkId(link), dialled, None);
        world.turn();
        std::mem::take(&mut world.rim.cut_links)
    };
    let last = LINKS_GREETING_MAX as u64;
    for link in 1..=last {
        assert_eq!(begins(&mut world, link, None), []);
    }
    assert_eq!(begins(&mut world, last + 1, None), [LinkId(last + 1)]);
    assert_eq!(begins(&mut world, last + 2, Some(NodeId(1))), [], "this node has dialled it");
    // Whoever goes, or is no node, makes room.
    world.core.link_ended(world.now, LinkId(1), "it went away");
    world.core.link_bytes(world.now, LinkId(2), &[0xff; 64]);
    world.turn();
    assert_eq!(std::mem::take(&mut world.rim.cut_links), [LinkId(1), LinkId(2)]);
    assert_eq!(begins(&mut world, last + 3, None), []);
}
