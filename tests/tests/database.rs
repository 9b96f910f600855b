//! What waits for a database, against worlds of cores: acknowledgements, unless it is away, and everything that others would
//! make of an entry, in any case.

use proto_spec::{Durability, Resume, ServerFrame, UserId};
use server::{limits::STORED_KEPT_MS, shard::topology::Topology};
use tests::{
    frames::{accepted, delivered_up_to, offered, text},
    rng::Rng,
    world::{Link, SLOW_AFTER_MS, World},
};

/// Two users of different cores, connected.
fn two_people() -> (World, Link, Link, u64) {
    let topology = Topology::new(2).expect("two cores");
    let home = |user| topology.home_of(UserId(user));
    let bob = (2..).find(|&user| home(user) != home(1)).expect("half of all users");
    let mut world = World::of_database(2, 3);
    let a = world.connect(1, 1, Resume::Stored);
    let b = world.connect(bob, 1, Resume::Stored);
    world.take(a);
    world.take(b);
    (world, a, b, bob)
}

fn levels(frames: &[ServerFrame]) -> Vec<Durability> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Accepted { durability, .. } => Some(*durability),
            _ => None,
        })
        .collect()
}

/// The disk takes what there is, and the database takes nothing for so long that it is waited for no longer.
fn fall_behind(world: &mut World) {
    world.disk_stalled = true;
    world.advance(2 * SLOW_AFTER_MS);
    world.sync_all();
    world.settle();
}

fn queries(world: &World) -> u64 {
    world.total(|core| core.queries)
}

#[test]
fn nothing_is_said_before_it_is_in_the_database() {
    let (mut world, a, b, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "hello");
    world.settle();
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    assert_eq!(offered(&world.take(b)), [text(1, "hello")]);
}

#[test]
fn a_message_is_forwarded_once_its_senders_log_has_it_in_the_database() {
    let (mut world, a, b, bob) = two_people();
    world.send(a, 1, bob, "hello");
    fall_behind(&mut world);
    assert_eq!(levels(&world.take(a)), [Durability::Local]);
    fall_behind(&mut world);
    assert_eq!(offered(&world.take(b)), [], "the recipient's log must not know what the sender's may lose");
    world.ingest();
    world.settle();
    assert!(matches!(world.take(a)[..], [ServerFrame::Committed { .. }]));
    fall_behind(&mut world);
    assert_eq!(offered(&world.take(b)), [text(1, "hello")], "what the journal has is shown, as it is accepted");
}

#[test]
fn a_sender_learns_of_the_delivery_once_the_recipients_log_is_in_the_database() {
    let (mut world, a, b, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.settle();
    world.take(a);
    world.acknowledge(b, 1);
    world.advance(1_000);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 1)]);
    world.send(a, 2, bob, "again");
    world.store_one(0);
    world.settle_without_commits();
    // The recipient's entry is in the journal alone.
    fall_behind(&mut world);
    assert_eq!(offered(&world.take(b)).last(), Some(&text(2, "again")));
    world.acknowledge(b, 2);
    fall_behind(&mut world);
    assert_eq!(delivered_up_to(&world.take(a)), []);
    world.ingest();
    world.disk_stalled = false;
    world.advance(1_000);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 3)]);
}

#[test]
fn what_was_said_last_is_known_for_a_while_without_asking_the_database() {
    let (mut world, a, _, bob) = two_people();
    world.send(a, 1, bob, "first");
    world.settle();
    let asked = queries(&world);
    world.send(a, 2, bob, "second");
    world.settle();
    world.advance(STORED_KEPT_MS / 2);
    assert_eq!(queries(&world), asked);
    world.advance(STORED_KEPT_MS);
    world.send(a, 3, bob, "later");
    world.settle();
    assert!(queries(&world) > asked, "and then it is forgotten");
}

#[test]
fn whatever_lane_is_faster_each_log_is_in_order_and_each_message_there_once() {
    const USERS: u64 = 12;
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut world = World::of_database(2, 4);
        let links: Vec<Link> = (1..=USERS).map(|user| world.connect(user, 1, Resume::Stored)).collect();
        world.disk_stalled = true;
        let mut numbers = vec![0; links.len()];
        for _ in 0..200 {
            let from = rng.within(0, USERS - 1) as usize;
            numbers[from] += 1;
            let to = rng.within(1, USERS);
            world.send(links[from], numbers[from], to, &format!("{} of {from}", numbers[from]));
            world.settle();
            for _ in 0..rng.within(0, 3) {
                let waiting = world.commits.len();
                if waiting > 0 {
                    let place = rng.within(0, waiting as u64 - 1) as usize;
                    world.store_one(place);
                    world.settle();
                }
            }
            if rng.chance(3) {
                let cores = rng.within(1, 3) as u16;
                // What no lane has committed is lost, and nobody was told anything of it.
                world.crash(cores);
                world.disk_stalled = false;
                world.settle();
                break;
            }
        }
        world.disk_stalled = false;
        world.advance(2_000);
        let mut received: Vec<(u64, String)> = Vec::new();
        let mut sent: Vec<(u64, String)> = Vec::new();
        for user in 1..=USERS {
            let messages = world.messages(user);
            assert!(messages.windows(2).all(|two| two[0].0 < two[1].0));
            for (_, is_sent, other, text) in messages {
                match is_sent {
                    true if other == user => {}
                    true => sent.push((other, text)),
                    false => received.push((user, text)),
                }
            }
        }
        sent.sort();
        received.sort();
        assert_eq!(received, sent, "seed {seed}: what one log has sent another one has received, once");
    }
}
