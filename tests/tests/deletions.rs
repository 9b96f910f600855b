//! What a user deletes for themselves.

use proto_spec::{ClientFrame, Content, Direction, ErrorCode, Event, RequestId, Seq, UserId};
use server::limits::RECEIPT_DELAY_MS;
use tests::{
    frames::{accepted, delivered_up_to, refused},
    said::{ALICE, delete, edit, inbox, name, react, say, shown, shown_places, wherever_it_lies},
    spec,
};

#[test]
fn what_is_deleted_is_gone_for_oneself_and_stays_with_the_other() {
    spec::says(
        "Deletes a message for this user alone: it goes from the own log on all devices, and the other side keeps it.",
    );
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "one");
        world.send(a, 2, bob, "two");
        world.send(a, 3, bob, "three");
        store(world);
        react(world, b, 1, alice, name(ALICE, 2), "+");
        store(world);
        // The receiver deletes the last, the author one in the middle.
        assert!(delete(world, b, alice, 3) && delete(world, a, bob, 2));
        store(world);
        assert_eq!(shown_places(world, b, alice, 9), [1, 2, 2]);
        assert_eq!(shown_places(world, a, bob, 9), [1, 3]);
        assert_eq!(inbox(world, b), [(UserId(alice).into(), Seq(2), 2)]);
        assert_eq!(inbox(world, a), [(UserId(bob).into(), Seq(3), 0)]);
        let log = world.log(alice);
        assert!(!log.iter().any(|entry| entry.is_reaction() || entry.place() == Some(Seq(2))), "{log:?}");
        // Again, and what never was.
        assert!(delete(world, b, alice, 3) && delete(world, b, alice, 99));
        assert_eq!(world.log(bob).iter().filter(|entry| matches!(entry.event, Event::Deleted { .. })).count(), 1);
        // The rest, the last one first: then there is no conversation.
        assert!(delete(world, b, alice, 2));
        store(world);
        assert_eq!(inbox(world, b), [(UserId(alice).into(), Seq(1), 1)]);
        assert!(delete(world, b, alice, 1));
        store(world);
        assert_eq!(inbox(world, b), []);
        world.send(a, 4, bob, "four");
        store(world);
        assert_eq!(inbox(world, b).len(), 1);
    });
}

#[test]
fn what_is_said_later_about_what_was_deleted_changes_nothing_and_breaks_nothing() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "one");
        world.send(a, 2, bob, "two");
        store(world);
        assert!(delete(world, b, alice, 1));
        store(world);
        edit(world, a, 3, bob, name(ALICE, 1), "ONE");
        react(world, a, 4, bob, name(ALICE, 1), "+");
        say(world, a, 5, bob, Content::unsend(name(ALICE, 1), None));
        world.send(a, 6, bob, "three");
        store(world);
        assert_eq!(accepted(&world.take(a)).last().map(|(number, _)| *number), Some(6));
        let said: Vec<_> = shown(world, b, alice, Direction::Forwards, 9).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, [Some("two".to_owned()), Some("three".to_owned())]);
        world.take(b);
        react(world, b, 1, alice, name(ALICE, 1), "?");
        store(world);
        assert_eq!(refused(&world.take(b)), [(1, ErrorCode::NoSuchMessage, 1)]);
    });
}

#[test]
fn a_retry_of_what_was_deleted_since_gets_the_first_answer() {
    wherever_it_lies(|world, a, _, _, bob, store| {
        world.send(a, 1, bob, "one");
        store(world);
        assert!(delete(world, a, bob, 1));
        store(world);
        world.take(a);
        world.send(a, 1, bob, "one");
        world.settle();
        assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    });
}

#[test]
fn several_that_are_deleted_at_once_leave_the_one_before_them_the_last() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        for number in 1..=5 {
            world.send(a, number, bob, "one more");
        }
        store(world);
        // All are asked for before one is answered.
        let conversation = UserId(alice).into();
        for place in 2..=5 {
            world.frame(b, &ClientFrame::DeleteMessage { request: RequestId(place), conversation, place: Seq(place) });
        }
        store(world);
        assert_eq!(inbox(world, b), [(UserId(alice).into(), Seq(1), 1)]);
        assert_eq!(shown_places(world, b, alice, 9), [1]);
    });
}

#[test]
fn what_leaves_nothing_is_delivered_with_what_comes_later() {
    spec::says(
        "What leaves nothing in the log of `peer`, such as an edit of a message that was deleted there, is covered when something later has arrived.",
    );
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "one");
        store(world);
        assert!(delete(world, b, alice, 1));
        world.acknowledge(b, 2);
        store(world);
        world.advance(RECEIPT_DELAY_MS);
        store(world);
        assert_eq!(delivered_up_to(&world.take(a)), [(bob, 1)], "it had arrived before it was deleted");
        edit(world, a, 2, bob, name(ALICE, 1), "ONE");
        store(world);
        world.advance(RECEIPT_DELAY_MS);
        store(world);
        assert_eq!(delivered_up_to(&world.take(a)), []);
        // In the log of Alice 2 is the receipt, and 3 the edit.
        world.send(a, 3, bob, "two");
        store(world);
        world.acknowledge(b, 3);
        world.advance(RECEIPT_DELAY_MS);
        store(world);
        assert_eq!(delivered_up_to(&world.take(a)), [(bob, 4)]);
    });
}
