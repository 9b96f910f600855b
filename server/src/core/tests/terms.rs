//! Where slots move: nobody is welcomed by what the node may have lost without having heard of it.

use super::{links::identity, tunnels::hello_of, *};
use crate::cluster::{
    file::Term,
    map::{Map, SLOTS, Slot},
};

/// All slots are this node's, each in this term.
const TERM: u64 = 4;

fn world() -> World {
    let mut place = identity(0);
    let nodes = Arc::make_mut(&mut place.nodes);
    nodes.map = Map::of(|_| Some(place.own)).unwrap();
    nodes.terms = Some(Box::new([Term { number: TERM, is_pinned: false }; SLOTS]));
    World::among(Some(place), Limits::OFF, OriginLimits::default())
}

/// Somebody connects.
fn comes(world: &mut World, user: UserId) -> ConnId {
    let bytes = hello_of(world, user, 1);
    let conn = world.accept(PEER);
    world.say(conn, &bytes);
    world.turn();
    conn
}

/// The database says in which term the slot is that was asked for first.
fn is_told(world: &mut World, term: u64) {
    let query = world.rim.terms.remove(0);
    world.core.answer(world.now, query, Some(Answer::Term(term)));
    world.turn();
}

fn is_welcome(world: &World, conn: ConnId) -> bool {
    world.rim.said.iter().any(|(to, frame)| *to == conn && matches!(frame, ServerFrame::Welcome { .. }))
}

#[test]
fn one_read_of_a_slot_lets_in_who_was_there_before_it_and_nobody_who_has_come_since() {
    let mut world = world();
    let slot = Slot::of(UserId(1));
    let of_slot: Vec<_> = (1..).map(UserId).filter(|user| Slot::of(*user) == slot).take(5).collect();
    let other = (1..).map(UserId).find(|user| Slot::of(*user) != slot).unwrap();
    let first = comes(&mut world, of_slot[0]);
    let later: Vec<_> = of_slot[1..3].iter().map(|user| comes(&mut world, *user)).collect();
    let elsewhere = comes(&mut world, other);
    assert_eq!(world.rim.terms.len(), 2, "one for each slot");
    is_told(&mut world, TERM);
    assert!(is_welcome(&world, first) && !later.iter().any(|conn| is_welcome(&world, *conn)));
    is_told(&mut world, TERM);
    assert!(is_welcome(&world, elsewhere));
    assert_eq!(world.rim.terms.len(), 1, "for those who came while the first one was under way, together");
    let last = comes(&mut world, of_slot[3]);
    is_told(&mut world, TERM);
    assert!(later.iter().all(|conn| is_welcome(&world, *conn)) && !is_welcome(&world, last));
    // Somebody else has taken the slot since.
    is_told(&mut world, TERM + 1);
    assert!(!is_welcome(&world, last));
    assert_eq!(world.bye(last), Some(ErrorCode::Elsewhere));
    assert_eq!(world.rim.terms, []);
    let again = comes(&mut world, of_slot[4]);
    let query = world.rim.terms.remove(0);
    world.core.answer(world.now, query, None);
    world.turn();
    assert_eq!(world.bye(again), Some(ErrorCode::StorageFailed), "the database can not be read");
}
