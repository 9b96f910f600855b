//! What an author says of a message later: edits, and taking it back.

use proto_spec::{ClientFrame, Content, Direction, ErrorCode, Resume, SendNumber, Seq, ServerFrame, UserId};
use server::shard::Limits;
use tests::{
    frames::{accepted, refused, two_people},
    said::{ALICE, edit, name, say, shown, some, wherever_it_lies},
    spec,
    world::World,
};

#[test]
fn an_edit_is_shown_where_the_message_stood_on_both_sides() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "helo");
        world.send(a, 2, bob, "how are you?");
        store(world);
        edit(world, a, 3, bob, name(ALICE, 1), "hello");
        store(world);
        assert_eq!(accepted(&world.take(a)).last(), Some(&(3, 3)));
        for direction in [Direction::Forwards, Direction::Backwards] {
            let expected = [some(1, "hello"), some(2, "how are you?")];
            assert_eq!(shown(world, a, bob, direction, 10), expected);
            assert_eq!(shown(world, b, alice, direction, 10), expected);
        }
        assert_eq!(shown(world, b, alice, Direction::Forwards, 1), [some(1, "hello")]);
        assert_eq!(shown(world, b, alice, Direction::Backwards, 1), [some(2, "how are you?")]);
        // And again: the name is that of the message.
        edit(world, a, 4, bob, name(ALICE, 1), "Hello!");
        store(world);
        assert_eq!(shown(world, b, alice, Direction::Forwards, 10)[0], some(1, "Hello!"));
        assert_eq!(shown(world, a, bob, Direction::Forwards, 10)[0], some(1, "Hello!"));
    });
}

#[test]
fn what_was_taken_back_keeps_its_place_and_says_nothing() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "never mind");
        world.send(a, 2, bob, "hello");
        store(world);
        say(world, a, 3, bob, Content::unsend(name(ALICE, 1), None));
        store(world);
        assert_eq!(shown(world, a, bob, Direction::Forwards, 10), [(1, None), some(2, "hello")]);
        assert_eq!(shown(world, b, alice, Direction::Backwards, 10), [(1, None), some(2, "hello")]);
        let log: Vec<String> = world.messages(bob).into_iter().map(|(.., text)| text).collect();
        assert!(!log.contains(&"never mind".to_owned()), "{log:?}");
        edit(world, a, 4, bob, name(ALICE, 1), "after all");
        store(world);
        assert_eq!(refused(&world.take(a)), [(4, ErrorCode::TakenBack, 4)]);
    });
}

#[test]
fn a_retry_of_what_was_edited_since_gets_the_first_answer() {
    spec::says("A retried send of a message that was edited since gets the first `seq` and `time`.");
    wherever_it_lies(|world, a, _, _, bob, store| {
        world.send(a, 1, bob, "helo");
        store(world);
        let time = |frames: &[ServerFrame]| {
            let of = |frame: &ServerFrame| match frame {
                ServerFrame::Accepted { number: SendNumber(1), seq: Seq(1), time, .. } => Some(*time),
                _ => None,
            };
            frames.iter().find_map(of).expect("it is accepted as the first")
        };
        let first = time(&world.take(a));
        world.advance(5_000);
        edit(world, a, 2, bob, name(ALICE, 1), "hello");
        edit(world, a, 3, bob, name(ALICE, 1), "Hello");
        store(world);
        world.take(a);
        world.send(a, 1, bob, "helo");
        edit(world, a, 2, bob, name(ALICE, 1), "hello");
        world.settle();
        let frames = world.take(a);
        assert_eq!(accepted(&frames), [(1, 1), (2, 2)]);
        assert_eq!(time(&frames), first);
        // And another message under its number is told from it.
        world.send(a, 1, bob, "hello");
        world.settle();
        assert_eq!(refused(&world.take(a)), [(1, ErrorCode::NumberUsed, 4)]);
    });
}

#[test]
fn what_can_not_be_changed_is_refused_for_good_with_the_reason() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(b, 1, alice, "mine");
        store(world);
        world.send(a, 1, bob, "text");
        say(world, a, 2, 9, Content::opaque(b"to somebody else"));
        store(world);
        world.take(a);
        // The log of a: 1 received, 2 text, 3 opaque (perhaps with receipts between).
        let seqs: Vec<u64> =
            world.messages(alice).into_iter().filter(|(_, sent, ..)| *sent).map(|(seq, ..)| seq).collect();
        let [text, opaque] = seqs[..] else { panic!("{seqs:?}") };
        let cases = [
            (bob, Content::unsend(name(UserId(bob), 1), None), ErrorCode::NotTheAuthor),
            (bob, Content::unsend(name(ALICE, 1), None), ErrorCode::NotTheAuthor),
            (bob, Content::unsend(name(ALICE, 99), None), ErrorCode::NoSuchMessage),
            (bob, Content::unsend(name(ALICE, opaque), None), ErrorCode::NoSuchMessage),
            (9, Content::unsend(name(ALICE, text), None), ErrorCode::NoSuchMessage),
            (bob, Content::edit(name(ALICE, text), &Content::opaque(b"x"), None), ErrorCode::OtherKind),
            (bob, Content::edit(name(ALICE, text), &Content::text(""), None), ErrorCode::TextLength),
            (
                bob,
                Content::edit(name(ALICE, text), &Content::unsend(name(ALICE, text), None), None),
                ErrorCode::ContentKind,
            ),
            (bob, Content::unsend(name(ALICE, 0), None), ErrorCode::ContentLimits),
        ];
        for (to, content, code) in cases {
            say(world, a, 3, to, content.clone());
            world.settle();
            let frames = world.take(a);
            assert_eq!(refused(&frames), [(3, code, 3)], "{content:?} {frames:?} {seqs:?}");
        }
        edit(world, a, 3, 9, name(ALICE, opaque), "a text");
        world.settle();
        assert_eq!(refused(&world.take(a)), [(3, ErrorCode::OtherKind, 3)]);
    });
}

#[test]
fn after_its_time_nothing_is_changed() {
    let limits = Limits { edit_within_ms: 10_000, unsend_within_ms: 20_000, ..Limits::OFF };
    let mut world = World::limited(1, limits);
    let a = world.connect(1, 1, Resume::Stored);
    world.send(a, 1, 2, "text");
    world.settle();
    world.advance(9_000);
    edit(&mut world, a, 2, 2, name(ALICE, 1), "in time");
    world.settle();
    world.advance(2_000);
    world.take(a);
    // The time counts from the message, not from its last edit.
    edit(&mut world, a, 3, 2, name(ALICE, 1), "too late");
    world.settle();
    assert_eq!(refused(&world.take(a)), [(3, ErrorCode::TooLate, 3)]);
    world.advance(10_000);
    world.take(a);
    say(&mut world, a, 3, 2, Content::unsend(name(ALICE, 1), None));
    world.settle();
    assert_eq!(refused(&world.take(a)), [(3, ErrorCode::TooLate, 3)]);
}

#[test]
fn what_follows_a_change_on_its_connection_is_answered_after_it_in_order() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "helo");
    world.settle();
    world.ingest();
    world.settle();
    world.take(a);
    // In one piece, and cut anywhere: the change is looked for in the store meanwhile.
    let mut bytes = Vec::new();
    let changed = Content::edit(name(ALICE, 1), &Content::text("hello"), None);
    let contents = [changed, Content::text("two"), Content::unsend(name(ALICE, 1), None), Content::text("four")];
    for (number, content) in (2..).zip(contents) {
        ClientFrame::Send { number: SendNumber(number), to: UserId(bob).into(), content }.encode(&mut bytes);
    }
    ClientFrame::Ping { nonce: 7 }.encode(&mut bytes);
    let (first, rest) = bytes.split_at(20);
    world.bytes(a, first);
    world.bytes(a, rest);
    world.settle();
    let frames = world.take(a);
    assert_eq!(accepted(&frames), [(2, 2), (3, 3), (4, 4), (5, 5)]);
    assert!(frames.contains(&ServerFrame::Pong { nonce: 7 }));
    assert_eq!(shown(&mut world, b, alice, Direction::Forwards, 9), [(1, None), some(3, "two"), some(5, "four")]);
}
