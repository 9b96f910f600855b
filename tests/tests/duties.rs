//! What a user's home owes to others arrives, in order and once, whoever cannot be reached and whenever the node dies; against worlds
//! of cores in one thread.

use proto_spec::{DeviceId, Event, Resume, Seq, ServerFrame, UserId};
use server::limits;
use tests::{
    frames::{accepted, delivered_up_to, pages, two_people},
    spec,
    world::World,
};

#[test]
fn a_message_waits_for_a_recipient_who_can_not_be_read_and_the_store_is_not_asked_without_pause() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    world.advance(1_000);
    world.ingest();
    world.store_fails = true;
    world.send(a, 1, bob, "hello");
    world.advance(5 * limits::ASK_AGAIN_MS);
    assert!((4..=7).contains(&world.failed_queries), "{} queries", world.failed_queries);
    world.store_fails = false;
    world.advance(2 * limits::ASK_AGAIN_MS);
    assert_eq!(world.messages(bob).len(), 1);
}

#[test]
fn an_accepted_message_reaches_its_recipient_although_the_node_died_in_between() {
    spec::says("it will be in the recipient's log too, once, though perhaps not yet");
    // The sender's batch is durable, the recipient's is not, and then a newer message follows.
    let (mut world, a, _, alice, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "first");
    world.settle();
    world.sync_one();
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    world.crash(2);
    assert_eq!(world.messages(bob), []);
    world.disk_stalled = false;
    // The restart has not yet looked at the duties when the sender is back with a newer message.
    let a = world.connect_only(alice, 1, Resume::Stored);
    world.answer_one();
    world.send(a, 2, bob, "second");
    world.settle();
    world.advance(1_000);
    let texts: Vec<String> = world.messages(bob).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["first", "second"]);
    assert!(world.store.unfinished.is_empty(), "{:?}", world.store.unfinished);
}

#[test]
fn a_receipt_reaches_the_sender_although_the_node_died_in_between() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.settle();
    world.advance(1_000);
    world.acknowledge(b, 1);
    world.disk_stalled = true;
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    // Bob's cursor is durable, the receipt in Alice's log is not.
    world.sync_one();
    world.crash(2);
    let rows = |user| &world.store.users[&UserId(user)];
    assert_eq!((rows(bob).cursors[&DeviceId(1)], rows(alice).log.len()), (Seq(1), 1));
    world.disk_stalled = false;
    world.advance(1_000);
    let a = world.connect(alice, 1, Resume::After(Seq(1)));
    let page = pages(&world.take(a)).remove(0);
    assert_eq!(page.entries[0].event, Event::Delivered { peer: UserId(bob), up_to: Seq(1) });
}

#[test]
fn after_a_restart_a_recipient_who_can_not_be_read_holds_up_nobody_else() {
    // The writer lives with the journal: what follows from her messages is mail for another core when they are written.
    let (mut world, _, a, bob, alice) = two_people();
    let carol = (alice + 1..).find(|&user| world.home_of(UserId(user)) == world.home_of(UserId(bob)));
    let carol = carol.expect("half of all users");
    world.disk_stalled = true;
    for number in [1, 3, 5] {
        world.send(a, number, bob, &format!("to bob {number}"));
        world.send(a, number + 1, carol, &format!("to carol {number}"));
    }
    // Alice's log is durable, and what follows from it is lost.
    world.sync_all();
    world.crash(2);
    assert_eq!((world.messages(alice).len(), world.messages(bob).len(), world.messages(carol).len()), (6, 0, 0));
    world.disk_stalled = false;
    world.unreadable = Some(UserId(bob));
    world.advance(3 * limits::ASK_AGAIN_MS);
    let a = world.connect(alice, 1, Resume::Stored);
    world.send(a, 7, carol, "to carol 7");
    world.send(a, 8, bob, "to bob 8");
    world.advance(limits::ASK_AGAIN_MS);
    let texts =
        |world: &mut World, user| -> Vec<String> { world.messages(user).into_iter().map(|(.., text)| text).collect() };
    assert_eq!(texts(&mut world, carol), ["to carol 1", "to carol 3", "to carol 5", "to carol 7"]);
    assert_eq!(texts(&mut world, bob), [""; 0]);
    assert_eq!(world.store.unfinished.iter().collect::<Vec<_>>(), [&UserId(alice)]);
    world.unreadable = None;
    world.advance(3 * limits::ASK_AGAIN_MS);
    assert_eq!(texts(&mut world, bob), ["to bob 1", "to bob 3", "to bob 5", "to bob 8"]);
    assert!(world.store.unfinished.is_empty(), "{:?}", world.store.unfinished);
}

#[test]
fn an_author_who_can_not_be_read_holds_up_nobody_elses_receipts() {
    let (mut world, a, b, alice, bob) = two_people();
    let carol = bob + 2;
    let c = world.connect(carol, 1, Resume::Stored);
    world.send(a, 1, bob, "from alice");
    world.send(c, 1, bob, "from carol");
    world.advance(1_000);
    world.disconnect(a);
    world.advance(1_000);
    world.ingest();
    world.unreadable = Some(UserId(alice));
    world.acknowledge(b, 2);
    world.advance(3 * limits::ASK_AGAIN_MS);
    assert_eq!(delivered_up_to(&world.take(c)), [(bob, 1)]);
    // Nor later ones: the receipt was the second entry of her log.
    world.send(c, 2, bob, "again");
    world.advance(1_000);
    world.acknowledge(b, 3);
    world.advance(1_000);
    assert_eq!(delivered_up_to(&world.take(c)), [(bob, 3)]);
    world.unreadable = None;
    world.advance(2 * limits::ASK_AGAIN_MS);
    let a = world.connect(alice, 1, Resume::After(Seq(1)));
    assert_eq!(pages(&world.take(a))[0].entries[0].event, Event::Delivered { peer: UserId(bob), up_to: Seq(1) });
}

#[test]
fn what_waits_for_a_user_who_is_not_loaded_is_bounded_and_counted_and_comes_in_order() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    world.advance(1_000);
    world.ingest();
    world.store_stalled = true;
    let held = |world: &World| world.total(|core| core.held_bytes);
    let (before, long) = (held(&world), "x".repeat(8_000));
    let count = 3 * limits::WAITING_ENVELOPES_MAX as u64;
    for number in 1..=count {
        world.send(a, number, bob, &format!("{number} {long}"));
        world.settle();
    }
    let most = limits::WAITING_ENVELOPES_MAX as u64 * (limits::ENVELOPE_BYTES as u64 + 8_100);
    assert!((8_000..=most).contains(&(held(&world) - before)), "{} bytes", held(&world) - before);
    world.store_fails = true;
    world.store_stalled = false;
    world.advance(2 * limits::ASK_AGAIN_MS);
    assert_eq!(held(&world), before, "nothing waits for who can not be read");
    world.store_fails = false;
    world.advance(5 * limits::ASK_AGAIN_MS);
    let texts = world.messages(bob).into_iter().map(|(.., text)| text);
    assert!(texts.eq((1..=count).map(|number| format!("{number} {long}"))));
    assert_eq!(held(&world), before);
}

#[test]
fn after_a_restart_users_with_duties_are_loaded_a_few_at_a_time_and_newcomers_meanwhile() {
    let mut world = World::new(1);
    let people = 20 * limits::UNFINISHED_LOADING_MAX as u64;
    for user in 1..=people {
        let link = world.connect(user, 1, Resume::Stored);
        world.send(link, 1, user % people + 1, "x");
        world.settle_without_commits();
    }
    world.sync_all();
    world.crash(1);
    assert_eq!(world.queries.len(), limits::UNFINISHED_LOADING_MAX);
    let newcomer = world.connect_only(people + 1, 1, Resume::Stored);
    assert_eq!(world.queries.len(), limits::UNFINISHED_LOADING_MAX + 1);
    // Whoever can not be read takes nobody's place.
    world.unreadable = Some(UserId(1));
    world.advance(limits::ASK_AGAIN_MS / 2);
    assert!(matches!(world.take(newcomer)[..], [ServerFrame::Welcome { .. }]));
    world.ingest();
    assert!(world.store.unfinished.len() <= 2, "{:?}", world.store.unfinished);
    world.unreadable = None;
    world.advance(3 * limits::ASK_AGAIN_MS);
    world.ingest();
    assert!(world.store.unfinished.is_empty(), "{:?}", world.store.unfinished);
}

#[test]
fn what_a_segment_has_changed_is_forgotten_in_pieces() {
    let mut world = World::new(1);
    let people = 3 * limits::FORGOTTEN_TURN_MAX as u64;
    let links: Vec<_> = (1..=people).map(|user| world.connect(user, 1, Resume::Stored)).collect();
    links.iter().for_each(|link| world.send(*link, 1, people + 1, "x"));
    world.advance(1_000);
    links.iter().for_each(|link| world.disconnect(*link));
    world.advance(1_000);
    let users = |world: &World| world.total(|core| core.users);
    let before = users(&world);
    world.ingest();
    let left = users(&world);
    assert!(before - left <= limits::FORGOTTEN_TURN_MAX as u64, "{before} to {left}");
    assert!(world.has_work(), "the rest does not wait for a tick");
    world.advance(1_000);
    assert_eq!((users(&world), world.has_work()), (0, false));
}

#[test]
fn a_message_that_arrives_twice_is_stored_once_and_confirmed() {
    let (mut world, a, _, alice, bob) = two_people();
    world.send(a, 1, bob, "once");
    world.settle();
    // The restart does not know that the message had been confirmed, and forwards it again.
    world.crash(2);
    world.settle();
    world.advance(1_000);
    assert_eq!(world.messages(bob).len(), 1);
    assert!(world.store.unfinished.is_empty());
    let a = world.connect(alice, 1, Resume::Stored);
    world.send(a, 2, bob, "twice");
    world.settle();
    assert_eq!(world.messages(bob).len(), 2);
}

#[test]
fn a_user_without_duties_and_connections_is_forgotten_after_ingestion() {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "x");
    world.settle();
    world.acknowledge(b, 1);
    world.advance(1_000);
    world.disconnect(a);
    world.disconnect(b);
    world.advance(1_000);
    let held = |world: &World| world.total(|core| core.users + core.conversations);
    assert!(held(&world) > 0);
    world.ingest();
    assert_eq!(held(&world), 0);
    let b = world.connect(bob, 1, Resume::Stored);
    assert!(matches!(world.take(b)[..], [ServerFrame::Welcome { head: Seq(1), cursor: Seq(1), .. }]));
}
