//! What an author says of a message later: edits, and taking it back.

use proto_spec::{
    Body, ClientFrame, Content, ConversationId, Direction, Entry, ErrorCode, Event, MessageName, RequestId, Resume,
    SendNumber, Seq, ServerFrame, UserId, limits::REACTION_BYTES_MAX,
};
use server::shard::Limits;
use tests::{
    frames::{accepted, pages, refused, two_people},
    spec,
    world::{Link, World},
};

const ALICE: UserId = UserId(1);

fn name(author: UserId, seq: u64) -> MessageName {
    MessageName { author, seq: Seq(seq) }
}

fn say(world: &mut World, link: Link, number: u64, to: u64, content: Content) {
    world.frame(link, &ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content });
}

fn edit(world: &mut World, link: Link, number: u64, to: u64, of: MessageName, text: &str) {
    say(world, link, number, to, Content::edit(of, &Content::text(text), None));
}

/// What a page of a conversation shows: where, and what is said there; nothing of what was taken back.
fn shown(world: &mut World, link: Link, with: u64, direction: Direction, limit: u64) -> Vec<(u64, Option<String>)> {
    world.take(link);
    let (request, conversation) = (RequestId(1), UserId(with).into());
    world.frame(link, &ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit });
    world.settle();
    let page = pages(&world.take(link)).pop().expect("there is a page");
    let text = |entry: &Entry| match &entry.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => {
            match content.body().expect("it was decoded") {
                Body::Edit(edit) => edit.content().as_text().map(str::to_owned),
                _ => content.as_text().map(str::to_owned),
            }
        }
        _ => None,
    };
    page.entries.iter().map(|entry| (entry.place().expect("it is shown").0, text(entry))).collect()
}

fn some(place: u64, text: &str) -> (u64, Option<String>) {
    (place, Some(text.to_owned()))
}

/// Runs a claim with everything in the tail, and with everything that has been said in the store.
fn wherever_it_lies(claim: impl Fn(&mut World, Link, Link, u64, u64, &dyn Fn(&mut World))) {
    for is_stored in [false, true] {
        let (mut world, a, b, alice, bob) = two_people();
        let store = |world: &mut World| {
            world.settle();
            if is_stored {
                world.ingest();
                world.settle();
            }
        };
        claim(&mut world, a, b, alice, bob, &store);
    }
}

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

fn react(world: &mut World, link: Link, number: u64, to: u64, of: MessageName, reaction: &str) {
    say(world, link, number, to, Content::reaction(of, reaction, None));
}

/// What a page of a conversation shows of reactions: where the message stands, whether it is the user's own reaction, and which.
fn reactions(world: &mut World, link: Link, with: u64, limit: u64) -> Vec<(u64, bool, String)> {
    world.take(link);
    let (request, conversation, direction) = (RequestId(1), UserId(with).into(), Direction::Backwards);
    world.frame(link, &ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit });
    world.settle();
    let page = pages(&world.take(link)).pop().expect("there is a page");
    let mut shown = Vec::new();
    let mut message = None;
    for entry in &page.entries {
        let (Event::Received { content, .. } | Event::Sent { content, .. }) = &entry.event else {
            panic!("{entry:?} is of no conversation")
        };
        match content.body().expect("it was decoded") {
            Body::Reaction(reaction) => {
                let place = reaction.stands.expect("a server says where it is").place;
                assert_eq!(Some(place), message, "it comes behind its message");
                let is_own = matches!(entry.event, Event::Sent { .. });
                shown.push((place.0, is_own, reaction.reaction.to_owned()));
            }
            _ => message = entry.place(),
        }
    }
    shown
}

fn shows(place: u64, is_own: bool, reaction: &str) -> (u64, bool, String) {
    (place, is_own, reaction.to_owned())
}

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

fn shown_places(world: &mut World, link: Link, with: u64, limit: u64) -> Vec<u64> {
    world.take(link);
    let (request, conversation, direction) = (RequestId(1), UserId(with).into(), Direction::Backwards);
    world.frame(link, &ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit });
    world.settle();
    let page = pages(&world.take(link)).pop().expect("there is a page");
    page.entries.iter().map(|entry| entry.concerns().expect("it is shown").0).collect()
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

fn delete(world: &mut World, link: Link, with: u64, place: u64) -> bool {
    world.take(link);
    let (request, conversation) = (RequestId(5), UserId(with).into());
    world.frame(link, &ClientFrame::DeleteMessage { request, conversation, place: Seq(place) });
    world.settle();
    world.take(link).contains(&ServerFrame::Marked { request })
}

/// Of each conversation in the inbox: with whom, where the last message stands, and how many are unread.
fn inbox(world: &mut World, link: Link) -> Vec<(ConversationId, Seq, u64)> {
    world.take(link);
    world.frame(link, &ClientFrame::FetchInbox { request: RequestId(2), before: Seq(0), limit: 9, messages: 0 });
    world.settle();
    let frames = world.take(link);
    let Some(ServerFrame::Inbox(inbox)) = frames.iter().find(|frame| matches!(frame, ServerFrame::Inbox(_))) else {
        panic!("{frames:?}")
    };
    inbox.rows.iter().map(|row| (row.conversation, row.last.place().expect("it is a message"), row.unread)).collect()
}

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
