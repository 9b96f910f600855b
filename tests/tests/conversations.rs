//! What a person finds when the app opens: conversations, unread counts, read marks; against worlds of cores in one thread.

use proto_spec::{
    ClientFrame, Entry, ErrorCode, Event, Inbox, Page, RequestId, Resume, Seq, ServerFrame, Settings, UserId,
    limits::UNREAD_MAX,
};
use server::{limits::UNWANTED_MS, shard::Limits};
use tests::{
    frames::{accepted, pages, refused, two_people, two_people_in},
    spec,
    world::{Link, World},
};

fn fetch_inbox(world: &mut World, link: Link, limit: u64, messages: u64) -> (Inbox, Vec<Page>) {
    world.take(link);
    world.frame(link, &ClientFrame::FetchInbox { request: RequestId(7), before: Seq::ZERO, limit, messages });
    world.settle();
    let frames = world.take(link);
    let inbox = frames.iter().find_map(|frame| match frame {
        ServerFrame::Inbox(inbox) => Some(inbox.clone()),
        _ => None,
    });
    (inbox.unwrap_or_else(|| panic!("no inbox in {frames:?}")), pages(&frames))
}

/// With whom, how many are unread, and the last text.
fn rows(world: &mut World, link: Link) -> Vec<(u64, u64, String)> {
    let (inbox, _) = fetch_inbox(world, link, 20, 0);
    let text = |entry: &Entry| match &entry.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => {
            content.as_text().unwrap_or_default().to_owned()
        }
        other => panic!("{other:?} is no message"),
    };
    let row = |row: &proto_spec::InboxRow| {
        let proto_spec::ConversationId::Person(peer) = row.conversation else { panic!("{row:?} is of a group") };
        (peer.0, row.unread, text(&row.last))
    };
    inbox.rows.iter().map(row).collect()
}

fn mark_read(world: &mut World, link: Link, peer: u64, up_to: u64, tell: bool) {
    let conversation = UserId(peer).into();
    let mark = ClientFrame::MarkRead { request: RequestId(3), conversation, up_to: Seq(up_to), tell };
    world.frame(link, &mark);
    world.settle();
}

fn keep(world: &mut World, link: Link, peer: u64, set: Settings, cleared: Settings) {
    let conversation = UserId(peer).into();
    world.frame(link, &ClientFrame::SetConversation { request: RequestId(4), conversation, set, cleared });
    world.settle();
}

/// What a connection was told since the last look, of the kinds that are about conversations.
fn events(frames: &[ServerFrame]) -> Vec<Event> {
    let all = frames.iter().flat_map(|frame| match frame {
        ServerFrame::Deliver { entry } => vec![entry.clone()],
        ServerFrame::Page(page) => page.entries.clone(),
        _ => Vec::new(),
    });
    let is_mark = |event: &Event| matches!(event, Event::Read { .. } | Event::Seen { .. } | Event::Settings { .. });
    all.map(|entry| entry.event).filter(is_mark).collect()
}

fn is_marked(frames: &[ServerFrame], request: u64) -> bool {
    frames.iter().any(|frame| matches!(frame, ServerFrame::Marked { request: of } if of.0 == request))
}

#[test]
fn one_request_opens_the_app() {
    spec::says(
        "a `page` with the newest messages of the first conversation follows the `inbox`, with the same request",
    );
    let (mut world, a, b, alice, bob) = two_people();
    let carol = bob + 2;
    let c = world.connect(carol, 1, Resume::Stored);
    for number in 1..=3 {
        world.send(a, number, bob, &format!("from alice {number}"));
    }
    world.advance(1_000);
    world.send(c, 1, bob, "from carol");
    world.advance(1_000);
    for ingested in [false, true] {
        if ingested {
            world.ingest();
        }
        let (inbox, pages) = fetch_inbox(&mut world, b, 20, 2);
        assert_eq!((inbox.request, inbox.at, inbox.more), (RequestId(7), Seq(4), false));
        assert_eq!(rows(&mut world, b), [(carol, 1, "from carol".into()), (alice, 3, "from alice 3".into())]);
        let [page] = &pages[..] else { panic!("{pages:?}") };
        assert_eq!((page.request, page.entries.len(), page.first, page.last), (RequestId(7), 1, Seq(1), Seq(4)));
        // Page by page.
        let (inbox, _) = fetch_inbox(&mut world, b, 1, 0);
        assert!(inbox.more && inbox.rows.len() == 1, "{inbox:?}");
        let before = inbox.rows[0].last.seq;
        world.frame(b, &ClientFrame::FetchInbox { request: RequestId(8), before, limit: 1, messages: 0 });
        world.settle();
        let frames = world.take(b);
        let [ServerFrame::Inbox(inbox)] = &frames[..] else { panic!("{frames:?}") };
        assert!(!inbox.more && inbox.rows[0].conversation == UserId(alice).into(), "{inbox:?}");
    }
    // Who wrote sees the same conversation from the other end.
    assert_eq!(rows(&mut world, a), [(bob, 0, "from alice 3".into())]);
}

#[test]
fn a_read_mark_is_one_entry_whatever_it_covers_and_tells_all_devices_and_the_other_side() {
    spec::says("However many messages it covers, it is one entry.");
    let (mut world, a, b, alice, bob) = two_people();
    let b2 = world.connect(bob, 2, Resume::Stored);
    for number in 1..=5 {
        world.send(a, number, bob, &format!("message {number}"));
    }
    world.advance(1_000);
    [a, b, b2].into_iter().for_each(|link| drop(world.take(link)));
    world.ingest();
    let entries = |world: &World| world.store.users[&UserId(bob)].log.len();
    let before = entries(&world);
    mark_read(&mut world, b, alice, 5, true);
    world.advance(1_000);
    let mark = Event::Read { conversation: UserId(alice).into(), up_to: Seq(5), unread: 0, told: Seq(5) };
    let frames = world.take(b);
    assert!(is_marked(&frames, 3), "{frames:?}");
    assert_eq!((events(&frames), events(&world.take(b2))), (vec![mark.clone()], vec![mark]));
    assert_eq!(events(&world.take(a)), [Event::Seen { peer: UserId(bob), up_to: Seq(5) }]);
    world.ingest();
    assert_eq!(entries(&world), before + 1);
    assert_eq!(rows(&mut world, b2), [(alice, 0, "message 5".into())]);
    // Again, or lower: nothing changes, and the answer comes all the same.
    for up_to in [5, 2] {
        world.take(b);
        mark_read(&mut world, b, alice, up_to, true);
        let frames = world.take(b);
        assert!(is_marked(&frames, 3) && events(&frames).is_empty(), "{frames:?}");
    }
    // A page says what the other side has read.
    world.frame(
        a,
        &ClientFrame::FetchConversation {
            request: RequestId(1),
            conversation: UserId(bob).into(),
            from: Seq::ZERO,
            direction: proto_spec::Direction::Backwards,
            limit: 1,
        },
    );
    world.settle();
    assert_eq!(pages(&world.take(a))[0].seen_up_to, Seq(5));
}

#[test]
fn what_waits_for_one_conversation_is_answered_all_of_it() {
    let (mut world, a, _, alice, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.advance(1_000);
    world.crash(2);
    world.advance(1_000);
    let b = world.connect(bob, 1, Resume::Stored);
    world.take(b);
    // A page that is answered at once, and two things that need what was loaded for it.
    let conversation = UserId(alice).into();
    let fetch = |request| ClientFrame::FetchConversation {
        request: RequestId(request),
        conversation,
        from: Seq(1_000),
        direction: proto_spec::Direction::Forwards,
        limit: 1,
    };
    world.frame(b, &fetch(1));
    world.frame(b, &ClientFrame::MarkRead { request: RequestId(3), conversation, up_to: Seq(1), tell: true });
    world.frame(b, &fetch(2));
    world.settle();
    let frames = world.take(b);
    assert_eq!(pages(&frames).len(), 2);
    assert!(is_marked(&frames, 3), "{frames:?}");
}

#[test]
fn who_does_not_want_to_tell_what_was_read_does_not() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.advance(1_000);
    world.take(a);
    mark_read(&mut world, b, alice, 1, false);
    world.advance(1_000);
    assert_eq!(events(&world.take(a)), []);
    assert_eq!(rows(&mut world, b), [(alice, 0, "hello".into())]);
}

#[test]
fn a_mark_in_the_middle_counts_what_is_behind_it_in_the_store_and_in_the_tail() {
    let (mut world, a, b, alice, bob) = two_people();
    for number in 1..=10 {
        world.send(a, number, bob, &format!("message {number}"));
    }
    world.advance(1_000);
    world.ingest();
    world.send(b, 1, alice, "in between");
    for number in 11..=15 {
        world.send(a, number, bob, &format!("message {number}"));
    }
    world.advance(1_000);
    world.take(b);
    mark_read(&mut world, b, alice, 7, true);
    let Event::Read { unread, told, .. } = events(&world.take(b))[0] else { panic!() };
    assert_eq!((unread, told), (8, Seq(7)));
    assert_eq!(rows(&mut world, b), [(alice, 8, "message 15".into())]);
    // After a crash, from the rows alone, and with one more.
    world.advance(1_000);
    world.crash(3);
    world.advance(1_000);
    let (a, b) = (world.connect(alice, 1, Resume::Stored), world.connect(bob, 1, Resume::Stored));
    world.send(a, 16, bob, "message 16");
    world.advance(1_000);
    assert_eq!(rows(&mut world, b), [(alice, 9, "message 16".into())]);
    mark_read(&mut world, b, alice, u64::MAX, true);
    assert_eq!(rows(&mut world, b), [(alice, 0, "message 16".into())]);
}

#[test]
fn more_than_can_be_counted_are_many() {
    let (mut world, a, b, alice, bob) = two_people();
    for number in 1..=UNREAD_MAX + 5 {
        world.send(a, number, bob, "x");
        world.settle();
    }
    world.advance(1_000);
    assert_eq!(rows(&mut world, b), [(alice, UNREAD_MAX + 1, "x".into())]);
    world.ingest();
    mark_read(&mut world, b, alice, 2, true);
    let Event::Read { unread, .. } = events(&world.take(b))[0] else { panic!() };
    assert_eq!(unread, UNREAD_MAX + 1);
    mark_read(&mut world, b, alice, 5, true);
    assert_eq!(rows(&mut world, b), [(alice, UNREAD_MAX, "x".into())], "exactly, from here on");
}

#[test]
fn who_is_blocked_is_accepted_as_ever_and_nothing_of_it_comes() {
    spec::says("The one who is blocked learns nothing of it");
    spec::says("what was dropped does not come when the block is lifted");
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "before");
    world.advance(1_000);
    keep(&mut world, b, alice, Settings::BLOCKED, Settings::default());
    world.advance(1_000);
    [a, b].into_iter().for_each(|link| drop(world.take(link)));
    for ingested in [false, true] {
        if ingested {
            world.ingest();
        }
        let number = 2 + u64::from(ingested);
        world.send(a, number, bob, "unheard");
        world.advance(1_000);
        assert_eq!(accepted(&world.take(a)).len(), 1);
        assert_eq!(world.messages(bob).len(), 1);
    }
    assert!(world.store.unfinished.is_empty(), "nothing is tried again: {:?}", world.store.unfinished);
    // What the one who blocks reads, the other is not told.
    mark_read(&mut world, b, alice, 1, true);
    world.advance(1_000);
    assert_eq!(events(&world.take(a)), []);
    keep(&mut world, b, alice, Settings::default(), Settings::BLOCKED);
    world.crash(2);
    world.advance(1_000);
    let a = world.connect(alice, 1, Resume::Stored);
    world.send(a, 4, bob, "after");
    world.advance(1_000);
    let texts: Vec<_> = world.messages(bob).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["before", "after"]);
}

#[test]
fn who_is_blocked_is_refused_where_the_operator_wants_that_they_are_told() {
    spec::says("what they send in the next minute after one that was dropped is refused with `unwanted`");
    let world = World::limited(2, Limits { tell_blocked: true, ..Limits::OFF });
    let (mut world, a, b, alice, bob) = two_people_in(world);
    world.send(b, 1, alice, "goodbye");
    world.settle();
    keep(&mut world, b, alice, Settings::BLOCKED, Settings::default());
    mark_read(&mut world, a, bob, 1, true);
    world.send(a, 1, bob, "to have read something tells nothing");
    world.settle();
    assert_eq!(accepted(&world.take(a)).len(), 1);
    let say = |world: &mut World, number: u64, to: u64| {
        world.send(a, number, to, "?");
        world.settle();
        let frames = world.take(a);
        (accepted(&frames).len(), refused(&frames))
    };
    assert_eq!(say(&mut world, 2, bob), (0, vec![(2, ErrorCode::Unwanted, 2)]));
    assert_eq!(say(&mut world, 2, 99).0, 1, "of others nothing is known, and the number is free");
    keep(&mut world, b, alice, Settings::default(), Settings::BLOCKED);
    assert_eq!(say(&mut world, 3, bob).0, 0, "for at most a minute");
    for _ in 0..UNWANTED_MS / 10_000 {
        world.advance(10_000);
    }
    assert_eq!(say(&mut world, 3, bob).0, 1);
    assert_eq!(world.messages(bob).len(), 2, "Bob's own, and the one that asked");
    assert_eq!(say(&mut world, 4, bob).0, 1);
}

#[test]
fn how_a_conversation_is_kept_is_the_same_on_all_devices_and_unknown_bits_stay() {
    let (mut world, a, b, alice, bob) = two_people();
    let b2 = world.connect(bob, 2, Resume::Stored);
    world.send(a, 1, bob, "hello");
    world.advance(1_000);
    let later = Settings::from_bits(1 << 40);
    keep(&mut world, b, alice, Settings::MUTED.changed(later, Settings::default()), Settings::default());
    keep(&mut world, b2, alice, Settings::PINNED, Settings::MUTED);
    let (inbox, _) = fetch_inbox(&mut world, b, 1, 0);
    assert_eq!(inbox.rows[0].settings, Settings::PINNED.changed(later, Settings::default()));
    world.ingest();
    let log = world.store.users[&UserId(bob)].log.values();
    let settings = log.filter(|entry| matches!(entry.event, Event::Settings { .. }));
    assert_eq!(settings.count(), 1, "the last one");
}

#[test]
fn a_mark_that_a_later_one_supersedes_before_it_is_stored_holds_up_nothing() {
    let mut world = World::of_database(2, 1);
    let (alice, bob) = (1, 2);
    let (a, b) = (world.connect(alice, 1, Resume::Stored), world.connect(bob, 1, Resume::Stored));
    for number in 1..=3 {
        world.send(a, number, bob, "hello");
    }
    world.advance(2_000);
    [a, b].into_iter().for_each(|link| drop(world.take(link)));
    // All in one batch.
    for up_to in 1..=3 {
        let mark = ClientFrame::MarkRead {
            request: RequestId(up_to),
            conversation: UserId(alice).into(),
            up_to: Seq(up_to),
            tell: true,
        };
        world.frame(b, &mark);
    }
    world.send(b, 1, alice, "and an answer");
    world.advance(5_000);
    let seen = events(&world.take(a));
    assert_eq!(seen.last(), Some(&Event::Seen { peer: UserId(bob), up_to: Seq(3) }));
    assert!(world.messages(alice).iter().any(|(.., text)| text == "and an answer"));
    assert!(world.store.unfinished.is_empty(), "{:?}", world.store.unfinished);
}
