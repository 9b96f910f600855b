//! What an acknowledgement says of its durability while the store is away (contract 1), against worlds of cores.

use proto_spec::{Durability, ErrorCode, Resume, Seq, ServerFrame};
use server::shard::{Admission, StoreState};
use tests::{
    frames::{refused, two_people},
    spec,
    world::{Link, World},
};

/// The levels that sends were accepted with: (number, level).
fn levels(frames: &[ServerFrame]) -> Vec<(u64, Durability)> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Accepted { number, durability, .. } => Some((number.0, *durability)),
            _ => None,
        })
        .collect()
}

fn committed(frames: &[ServerFrame]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Committed { up_to } => Some(up_to.0),
            _ => None,
        })
        .collect()
}

fn welcome_says(world: &mut World, link: Link) -> (Seq, Seq) {
    match world.take(link)[0] {
        ServerFrame::Welcome { head, committed, .. } => (head, committed),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn while_the_store_is_away_messages_are_local_and_every_device_hears_when_they_are_committed() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "before");
    world.settle();
    assert_eq!(levels(&world.take(a)), [(1, Durability::Committed)]);
    world.store_is(StoreState::Away);
    let phone = world.connect(alice, 2, Resume::Stored);
    world.take(phone);
    world.send(a, 2, bob, "meanwhile");
    world.settle();
    assert_eq!(levels(&world.take(a)), [(2, Durability::Local)]);
    // Known to be back, and not yet given what it missed: `committed` would speak for the second message too.
    world.store_is(StoreState::Present);
    world.send(a, 3, bob, "after");
    world.settle();
    let frames = world.take(a);
    assert_eq!((levels(&frames), committed(&frames)), (vec![(3, Durability::Local)], vec![]));
    world.ingest();
    world.settle();
    assert_eq!(committed(&world.take(a)), [3]);
    assert_eq!(committed(&world.take(phone)), [3]);
    assert_eq!(committed(&world.take(b)), [0; 0], "nothing was said to the recipient");
    world.send(a, 4, bob, "later");
    world.settle();
    world.ingest();
    world.settle();
    assert_eq!(committed(&world.take(a)), [0; 0], "said once");
}

/// What the device is told of its sends when it repeats them on a new connection, and what the welcome says: (head, committed).
fn told_again(world: &mut World, user: u64, to: u64, numbers: &[u64]) -> (Vec<(u64, Durability)>, (Seq, Seq)) {
    let link = world.connect(user, 1, Resume::Stored);
    let welcome = welcome_says(world, link);
    for &number in numbers {
        world.send(link, number, to, "again");
    }
    world.settle();
    // What the store has to look up is answered later.
    let mut told = levels(&world.take(link));
    told.sort_unstable();
    (told, welcome)
}

#[test]
fn what_was_once_committed_stays_so_whatever_the_store_does_later() {
    const IS: Durability = Durability::Committed;
    spec::says(
        "It is never taken back, whatever the store does later: not by another welcome, not in the answer to a retry, not after a restart.",
    );
    spec::says("until the store has all that came meanwhile");
    let (mut world, a, _, alice, bob) = two_people();
    world.send(a, 1, bob, "again");
    world.settle();
    world.ingest();
    world.send(a, 2, bob, "again");
    world.send(a, 3, bob, "again");
    world.settle();
    assert_eq!(levels(&world.take(a)), [(1, IS), (2, IS), (3, IS)]);
    for round in 0..2 {
        let last = 3 + round;
        world.store_is(StoreState::Away);
        let (again, welcome) = told_again(&mut world, alice, bob, &[1, 2, 3]);
        assert_eq!((again, welcome), (vec![(1, IS), (2, IS), (3, IS)], (Seq(last), Seq(3))), "round {round}");
        let link = world.connect(alice, 2, Resume::Stored);
        world.send(link, round + 1, bob, "what comes after");
        world.settle();
        assert_eq!(levels(&world.take(link)), [(round + 1, Durability::Local)]);
        // It comes back for a moment, in which nothing gets into it.
        world.store_is(StoreState::Present);
    }
    assert_eq!(told_again(&mut world, alice, bob, &[3]), (vec![(3, IS)], (Seq(5), Seq(3))));
    spec::says("What a server with an embedded store finds in its journal at a start counts as committed.");
    world.crash(1);
    assert_eq!(told_again(&mut world, alice, bob, &[2, 3]), (vec![(2, IS), (3, IS)], (Seq(5), Seq(5))));
}

#[test]
fn who_writes_without_a_pause_hears_what_has_come_into_the_store_so_far() {
    let (mut world, a, _, _, bob) = two_people();
    world.store_is(StoreState::Away);
    for number in 1..=3 {
        world.send(a, number, bob, "one after the other");
        world.settle();
    }
    world.seal();
    world.send(a, 4, bob, "and so on");
    world.settle();
    world.ingest_sealed();
    world.settle();
    assert_eq!(committed(&world.take(a)), [3], "however much has been added meanwhile");
    world.store_is(StoreState::Present);
    world.send(a, 5, bob, "after");
    world.settle();
    assert_eq!(levels(&world.take(a)), [(5, Durability::Local)], "the fourth is not in the store yet");
    world.ingest();
    world.send(a, 6, bob, "in calm again");
    world.settle();
    let frames = world.take(a);
    assert_eq!((committed(&frames), levels(&frames)), (vec![5], vec![(6, Durability::Committed)]));
}

#[test]
fn the_welcome_says_how_much_is_committed() {
    let (mut world, a, _, alice, bob) = two_people();
    world.send(a, 1, bob, "in the store");
    world.settle();
    world.ingest();
    world.store_is(StoreState::Away);
    world.send(a, 2, bob, "in the journal");
    world.settle();
    world.disconnect(a);
    let phone = world.connect(alice, 1, Resume::Stored);
    assert_eq!(welcome_says(&mut world, phone), (Seq(2), Seq(1)));
    // Who is told less than the head is told the rest.
    world.store_is(StoreState::Present);
    world.ingest();
    world.settle();
    assert_eq!(committed(&world.take(phone)), [2]);
    let again = world.connect(alice, 3, Resume::Stored);
    assert_eq!(welcome_says(&mut world, again), (Seq(2), Seq(2)));
}

#[test]
fn a_recipient_who_comes_during_an_outage_hears_of_its_end_too() {
    let (mut world, a, _, _, bob) = two_people();
    world.store_is(StoreState::Away);
    world.send(a, 1, bob, "hello");
    world.settle();
    let tablet = world.connect(bob, 2, Resume::Stored);
    assert_eq!(welcome_says(&mut world, tablet), (Seq(1), Seq(0)));
    world.store_is(StoreState::Present);
    world.ingest();
    world.settle();
    assert_eq!(committed(&world.take(tablet)), [1]);
}

#[test]
fn a_retry_is_answered_with_what_holds_now() {
    let (mut world, a, _, alice, bob) = two_people();
    world.store_is(StoreState::Away);
    world.send(a, 1, bob, "hello");
    world.settle();
    let retry = |world: &mut World| {
        let link = world.connect(alice, 1, Resume::Stored);
        world.take(link);
        world.send(link, 1, bob, "hello");
        world.settle();
        levels(&world.take(link))
    };
    assert_eq!(retry(&mut world), [(1, Durability::Local)]);
    world.store_is(StoreState::Present);
    assert_eq!(retry(&mut world), [(1, Durability::Local)], "it was local and is not in the store yet");
    world.ingest();
    world.settle();
    assert_eq!(retry(&mut world), [(1, Durability::Committed)]);
}

#[test]
fn an_operator_may_have_sends_refused_and_reads_go_on() {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "before");
    world.settle();
    world.take(a);
    world.store_is(StoreState::Away);
    world.admission(Admission::Outage);
    world.send(a, 2, bob, "meanwhile");
    world.settle();
    assert_eq!(refused(&world.take(a)), [(2, ErrorCode::StorageFailed, 2)]);
    world.disconnect(b);
    let again = world.connect(bob, 1, Resume::Stored);
    assert_eq!(tests::frames::offered(&world.take(again)).len(), 1);
    world.store_is(StoreState::Present);
    world.admission(Admission::Open);
    world.send(a, 2, bob, "meanwhile");
    world.settle();
    assert_eq!(levels(&world.take(a)), [(2, Durability::Committed)]);
}
