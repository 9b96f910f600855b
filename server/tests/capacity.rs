//! What `ringpost capacity` takes for granted of a cluster is what the server does.

use std::collections::BTreeMap;

use capacity::{
    balance,
    inputs::{Input, Inputs},
    placement::Ranks,
};
use proto_spec::{Content, Seq, UserId};
use server::{
    cluster::map::{Candidate, Map, SLOTS, Slot},
    mesh::wire::encode_envelope,
    shard::{Envelope, EnvelopeBody, Parcel, topology::NodeId},
};

fn nodes(count: u16) -> Vec<Candidate> {
    (0..count).map(|at| Candidate { node: NodeId(at), name: format!("node-{at}"), weight: 1 }).collect()
}

/// How many nodes own how many slots.
fn spread(owners: impl Iterator<Item = u16>) -> BTreeMap<usize, usize> {
    let (mut owned, mut spread) = (BTreeMap::new(), BTreeMap::new());
    owners.for_each(|owner| *owned.entry(owner).or_insert(0) += 1);
    owned.into_values().for_each(|slots: usize| *spread.entry(slots).or_insert(0) += 1);
    spread
}

#[test]
fn slots_are_shared_and_moved_in_the_simulation_as_in_the_server() {
    assert_eq!(SLOTS, balance::SLOTS as usize);
    let bound = Inputs::default().get(Input::Bound);
    for count in [3, 10, 30, 80, 100, 256, 300] {
        let (map, ranks) = (Map::propose(None, &nodes(count)), Ranks::new(balance::SLOTS, count));
        let before = ranks.place(&[], bound);
        let of_map = |map: &Map| spread(Slot::all().map(|slot| map.owner(slot).0));
        assert_eq!(of_map(&map), spread(before.owners.iter().copied()), "{count} nodes");
        // The first node that owns something goes: nothing but what it had moves, there and here.
        let gone = map.owner(Slot(0));
        let left: Vec<Candidate> = nodes(count).into_iter().filter(|node| node.node != gone).collect();
        let after = Map::propose(Some(&map), &left);
        let moved = Slot::all().filter(|slot| map.owner(*slot) != after.owner(*slot)).count();
        let after_here = before.after(&ranks, &[before.owners[0]], bound);
        let had = before.owners.iter().filter(|owner| **owner == before.owners[0]).count();
        assert_eq!((moved, after_here.moved(&before).count()), (map.owned(gone), had), "{count} nodes");
        assert_eq!(of_map(&after), spread(after_here.owners.iter().copied()), "{count} nodes, one less");
    }
}

#[test]
fn an_envelope_is_no_longer_than_the_model_says() {
    let text = "x".repeat(100);
    let parcel = Parcel::Message(Content::text(&text));
    let most = Seq(u64::MAX);
    let bodies = [
        EnvelopeBody::Forward { origin: most, after: most, parcel },
        EnvelopeBody::Forward { origin: most, after: most, parcel: Parcel::Read(most) },
        EnvelopeBody::Forwarded { origin: most, is_unwanted: true },
        EnvelopeBody::Receipt { up_to: most, received_as: most },
        EnvelopeBody::Receipted { received_as: most },
    ];
    let bytes = bodies.map(|body| {
        let mut bytes = Vec::new();
        let has_text = matches!(&body, EnvelopeBody::Forward { parcel: Parcel::Message(_), .. });
        encode_envelope(&Envelope { to: UserId(u64::MAX), from: UserId(u64::MAX), body }, &mut bytes);
        bytes.len() - if has_text { text.len() } else { 0 }
    });
    let longest = bytes.into_iter().max().unwrap();
    assert_eq!(Inputs::default().get(Input::EnvelopeBytes), longest as f64, "{bytes:?}");
}
