//! What is read of the store while changes go there from the tail: the answer is never of before.

use proto_spec::{
    ClientFrame, Content, Direction, Entry, ErrorCode, Event, RequestId, Seq, ServerFrame, Settings, UserId,
};
use server::limits::READ_TRIES_MAX;
use tests::{
    frames::{pages, two_people},
    said::{ALICE, edit, inbox, name, page_of, react, reactions, said, say, shown, some},
};

/// Two messages of Alice's in the store, and a change of the first one by her in the tail; Bob has asked for something that is read before the
/// change goes to the store, and answered afterwards.
fn while_it_moves(change: Content, ask: &ClientFrame) -> Vec<ServerFrame> {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "helo");
    world.send(a, 2, bob, "how are you?");
    world.settle();
    world.ingest();
    say(&mut world, a, 3, bob, change);
    world.settle();
    world.take(b);
    world.frame(b, ask);
    world.read_all();
    assert_eq!(world.answers.len(), 1, "the store is asked");
    world.ingest();
    world.settle();
    world.take(b)
}

#[test]
fn a_page_that_is_read_while_a_change_goes_to_the_store_shows_the_change() {
    let edit = || Content::edit(name(ALICE, 1), &Content::text("hello"), None);
    let (request, from, limit) = (RequestId(1), Seq(0), 10);
    for direction in [Direction::Forwards, Direction::Backwards] {
        let ask = ClientFrame::FetchConversation { request, conversation: ALICE.into(), from, direction, limit };
        let page = pages(&while_it_moves(edit(), &ask)).pop().expect("there is a page");
        let said: Vec<_> = page.entries.iter().map(said).collect();
        assert_eq!(said, [some(1, "hello"), some(2, "how are you?")]);
    }
    let ask = ClientFrame::FetchLog { request, from, direction: Direction::Forwards, limit };
    let page = pages(&while_it_moves(edit(), &ask)).pop().expect("there is a page");
    assert!(!page.entries.iter().any(|entry| entry.seq == Seq(1)), "what the edit superseded is shown: {page:?}");
}

#[test]
fn what_is_taken_back_while_it_is_deleted_lowers_no_count_twice() {
    let unsend = Content::unsend(name(ALICE, 1), None);
    let (request, conversation) = (RequestId(1), ALICE.into());
    let frames = while_it_moves(unsend, &ClientFrame::DeleteMessage { request, conversation, place: Seq(1) });
    assert!(frames.contains(&ServerFrame::Marked { request }), "{frames:?}");
    let deleted = |frame: &ServerFrame| match frame {
        ServerFrame::Deliver { entry: Entry { event: Event::Deleted { place, unread, .. }, .. } } => {
            Some((*place, *unread))
        }
        _ => None,
    };
    assert_eq!(frames.iter().find_map(deleted), Some((Seq(1), 1)));
}

#[test]
fn what_changes_faster_than_it_is_read_is_refused_in_the_end() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.settle();
    world.ingest();
    let (request, conversation, direction) = (RequestId(1), UserId(alice).into(), Direction::Forwards);
    let set_to = |is_muted: bool| {
        let (set, cleared) =
            if is_muted { (Settings::MUTED, Settings::default()) } else { (Settings::default(), Settings::MUTED) };
        ClientFrame::SetConversation { request: RequestId(2), conversation, set, cleared }
    };
    world.frame(b, &set_to(true));
    world.settle();
    world.take(b);
    world.frame(b, &ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit: 9 });
    for turn in 1..=READ_TRIES_MAX {
        world.read_all();
        let read = world.answers.pop_front().unwrap_or_else(|| panic!("it is asked again: {turn}"));
        world.frame(b, &set_to(turn % 2 == 0));
        world.settle();
        world.ingest();
        world.answers.push_back(read);
        world.answer_one();
    }
    assert!(world.queries.is_empty(), "no more");
    world.settle();
    let frames = world.take(b);
    let is_refused = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::StorageFailed, .. });
    assert!(frames.iter().any(is_refused), "{frames:?}");
    assert_eq!(shown(&mut world, b, alice, direction, 9), [some(1, "hello")], "as soon as it stands still");
}

#[test]
fn a_message_that_goes_to_the_store_while_the_one_before_it_is_deleted_stays_the_last() {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "one");
    world.send(a, 2, bob, "two");
    world.settle();
    world.ingest();
    world.send(a, 3, bob, "three");
    world.settle();
    let (request, conversation) = (RequestId(1), ALICE.into());
    world.frame(b, &ClientFrame::DeleteMessage { request, conversation, place: Seq(2) });
    world.read_all();
    world.ingest();
    world.settle();
    assert_eq!(inbox(&mut world, b), [(ALICE.into(), Seq(3), 2)]);
    world.ingest();
    assert_eq!(inbox(&mut world, b), [(ALICE.into(), Seq(3), 2)]);
}

#[test]
fn the_first_of_two_changes_that_goes_to_the_store_counts_though_the_other_one_is_in_the_tail() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "helo");
    world.settle();
    world.ingest();
    edit(&mut world, a, 2, bob, name(ALICE, 1), "hello");
    world.settle();
    world.seal();
    react(&mut world, b, 1, alice, name(ALICE, 1), "+");
    world.settle();
    world.take(a);
    let (request, conversation, direction) = (RequestId(1), UserId(bob).into(), Direction::Forwards);
    let from = Seq(0);
    world.frame(a, &ClientFrame::FetchConversation { request, conversation, from, direction, limit: 9 });
    // And a change that is looked for at the same time, on both sides.
    edit(&mut world, a, 3, bob, name(ALICE, 1), "Hello!");
    world.read_all();
    world.ingest_sealed();
    world.settle();
    let page = pages(&world.take(a)).pop().expect("there is a page");
    assert_ne!(said(&page.entries[0]), some(1, "helo"));
    for (link, with) in [(a, bob), (b, alice)] {
        let page = page_of(&mut world, link, with, Direction::Forwards, 9);
        assert_eq!(said(&page.entries[0]), some(1, "Hello!"));
        assert_eq!(reactions(&mut world, link, with, 9).len(), 1);
    }
}

#[test]
fn what_is_taken_back_while_a_page_is_read_is_not_in_the_part_that_was_in_the_tail() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "old");
    world.settle();
    world.ingest();
    world.send(a, 2, bob, "never mind");
    world.settle();
    for moves in [false, true] {
        let (request, conversation, direction) = (RequestId(1), UserId(alice).into(), Direction::Backwards);
        world.take(b);
        let from = Seq(0);
        world.frame(b, &ClientFrame::FetchConversation { request, conversation, from, direction, limit: 9 });
        world.store_stalled = true;
        if !moves {
            say(&mut world, a, 3, bob, Content::unsend(name(ALICE, 2), None));
        }
        world.settle();
        world.read_all();
        if moves {
            world.ingest();
        }
        world.store_stalled = false;
        world.settle();
        let page = pages(&world.take(b)).pop().expect("there is a page");
        let said: Vec<_> = page.entries.iter().map(said).collect();
        assert_eq!(said, [some(1, "old"), (2, None)], "{moves}");
    }
}
