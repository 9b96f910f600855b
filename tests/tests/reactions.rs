//! Reactions: one a user and message.

use proto_spec::{
    ClientFrame, Content, Entry, ErrorCode, RequestId, Seq, ServerFrame, UserId, limits::REACTION_BYTES_MAX,
};
use tests::{
    frames::{accepted, refused},
    said::{ALICE, edit, name, react, reactions, say, shown_places, shows, wherever_it_lies},
    spec,
};

#[test]
fn of_each_user_one_reaction_counts_and_both_sides_know_it() {
    spec::says("Of each user one counts for a message: it **supersedes** that user's earlier one there.");
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "one");
        world.send(a, 2, bob, "two");
        store(world);
        react(world, b, 1, alice, name(ALICE, 1), "👍");
        world.settle();
        react(world, a, 3, bob, name(ALICE, 1), "!");
        store(world);
        assert_eq!(reactions(world, a, bob, 9), [shows(1, false, "👍"), shows(1, true, "!")]);
        react(world, b, 2, alice, name(ALICE, 1), "❤");
        store(world);
        assert_eq!(reactions(world, a, bob, 9), [shows(1, true, "!"), shows(1, false, "❤")]);
        assert_eq!(reactions(world, b, alice, 9), [shows(1, false, "!"), shows(1, true, "❤")]);
        // And no entry tells of the one before.
        let log = world.log(alice);
        assert_eq!(log.iter().filter(|entry| entry.is_reaction()).count(), 2, "{log:?}");
        react(world, b, 3, alice, name(ALICE, 1), "");
        store(world);
        assert_eq!(reactions(world, a, bob, 9), [shows(1, true, "!"), shows(1, false, "")]);
        // They are not counted as messages of a page.
        assert_eq!(shown_places(world, a, bob, 1), [2]);
        assert_eq!(shown_places(world, a, bob, 2), [1, 1, 1, 2]);
    });
}

#[test]
fn an_edit_keeps_the_reactions_and_taking_back_removes_those_of_both() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "helo");
        store(world);
        react(world, b, 1, alice, name(ALICE, 1), "?");
        react(world, a, 2, bob, name(ALICE, 1), "!");
        store(world);
        edit(world, a, 3, bob, name(ALICE, 1), "hello");
        store(world);
        let kept = reactions(world, b, alice, 9);
        assert!(
            kept.len() == 2 && kept.contains(&shows(1, false, "!")) && kept.contains(&shows(1, true, "?")),
            "{kept:?}"
        );
        say(world, a, 4, bob, Content::unsend(name(ALICE, 1), None));
        store(world);
        for (link, with, user) in [(a, bob, alice), (b, alice, bob)] {
            assert_eq!(reactions(world, link, with, 9), []);
            assert!(!world.log(user).iter().any(Entry::is_reaction));
        }
        react(world, b, 2, alice, name(ALICE, 1), "late");
        store(world);
        assert_eq!(refused(&world.take(b)), [(2, ErrorCode::TakenBack, 2)]);
        // A retry of what went with the message gets its first answer.
        react(world, b, 1, alice, name(ALICE, 1), "?");
        world.settle();
        assert_eq!(accepted(&world.take(b)).len(), 1);
    });
}

#[test]
fn a_reaction_makes_nothing_unread_and_moves_no_conversation() {
    spec::says(
        "A reaction is no message: it is never unread nor the last message of a conversation, and moves none in the inbox.",
    );
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(a, 1, bob, "to bob");
        world.send(a, 2, 9, "to somebody else");
        store(world);
        react(world, b, 1, alice, name(ALICE, 1), "👍");
        store(world);
        let before = Seq(0);
        world.take(a);
        world.frame(a, &ClientFrame::FetchInbox { request: RequestId(2), before, limit: 9, messages: 0 });
        world.settle();
        let frames = world.take(a);
        let Some(ServerFrame::Inbox(inbox)) = frames.iter().find(|frame| matches!(frame, ServerFrame::Inbox(_))) else {
            panic!("{frames:?}")
        };
        let rows: Vec<_> = inbox.rows.iter().map(|row| (row.conversation, row.last.seq, row.unread)).collect();
        assert_eq!(rows, [(UserId(9).into(), Seq(2), 0), (UserId(bob).into(), Seq(1), 0)]);
    });
}

#[test]
fn who_reacts_to_what_is_not_there_is_told_so() {
    wherever_it_lies(|world, a, b, alice, bob, store| {
        world.send(b, 1, alice, "a message");
        store(world);
        world.take(a);
        for of in [name(ALICE, 1), name(ALICE, 99), name(UserId(bob), 99), name(UserId(77), 1)] {
            react(world, a, 1, bob, of, "?");
            store(world);
            assert_eq!(refused(&world.take(a)), [(1, ErrorCode::NoSuchMessage, 1)], "{of:?}");
        }
        let long = "x".repeat(REACTION_BYTES_MAX + 1);
        react(world, a, 1, bob, name(UserId(bob), 1), &long);
        store(world);
        assert_eq!(refused(&world.take(a)), [(1, ErrorCode::ContentLimits, 1)]);
        react(world, a, 1, bob, name(UserId(bob), 1), &long[1..]);
        store(world);
        assert_eq!(accepted(&world.take(a)).len(), 1);
    });
}
