//! What a shard promises, claim by claim, against worlds of cores in one thread.

use proto_spec::{
    ClientFrame, ClientKind, Content, Direction, Entry, ErrorCode, Event, MessageName, Recipient, Reply, RequestId,
    Resume, SendNumber, Seq, ServerFrame, UserId, limits::SEND_WINDOW,
};
use server::{limits, shard::Admission};
use tests::{
    frames::{accepted, delivered_up_to, offered, pages, refused, text, two_people},
    spec,
    world::{Link, World},
};

#[test]
fn a_message_travels_from_sender_to_recipient_and_back_as_delivered() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "hello");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    let got = world.take(b);
    assert_eq!(offered(&got), [text(1, "hello")]);
    let [ServerFrame::Epoch { first: Seq(1), .. }, ServerFrame::Deliver { entry }] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(entry.event, Event::Received { from: UserId(alice), origin: Seq(1), content: Content::text("hello") });
    world.acknowledge(b, 1);
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 1)]);
}

#[test]
fn nothing_leaves_before_its_commit() {
    let (mut world, a, b, _, bob) = two_people();
    let other = world.connect(1, 2, Resume::Stored);
    world.take(other);
    world.disk_stalled = true;
    world.send(a, 1, bob, "hello");
    world.settle();
    assert!(world.take(a).is_empty() && world.take(b).is_empty() && world.take(other).is_empty());
    let c = world.connect(bob, 2, Resume::Stored);
    let request = RequestId(1);
    let (from, direction) = (Seq(0), Direction::Backwards);
    world.frame(c, &ClientFrame::FetchLog { request, from, direction, limit: 10 });
    world.settle();
    assert_eq!(pages(&world.take(c))[0].entries, [], "a page shows what is committed");
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    for link in [b, c] {
        assert_eq!(offered(&world.take(link)), [text(1, "hello")]);
    }
}

#[test]
fn the_senders_other_devices_get_the_message_under_the_same_seq() {
    let (mut world, a, _, _, bob) = two_people();
    let phone = world.connect(1, 2, Resume::Stored);
    world.take(phone);
    world.send(a, 1, bob, "hello");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
    assert_eq!(offered(&world.take(phone)), [text(1, "hello")]);
}

#[test]
fn a_note_to_self_is_one_entry() {
    let (mut world, a, _, alice, _) = two_people();
    let phone = world.connect(alice, 2, Resume::Stored);
    world.take(phone);
    world.send(a, 1, alice, "milk");
    world.settle();
    let frames = world.take(a);
    let [ServerFrame::Epoch { first: Seq(1), .. }, ServerFrame::Accepted { recipient: Recipient::Yourself, .. }] =
        frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!(offered(&world.take(phone)), [text(1, "milk")]);
    assert_eq!(world.messages(alice).len(), 1);
}

#[test]
fn accepted_says_whether_the_recipient_is_connected() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(b, 1, alice, "hello");
    world.settle();
    world.frame(a, &ClientFrame::Watch { request: RequestId(1), users: vec![UserId(bob)] });
    world.settle();
    world.take(a);
    let recipients = |frames: Vec<ServerFrame>| -> Vec<Recipient> {
        frames
            .iter()
            .filter_map(|f| if let ServerFrame::Accepted { recipient, .. } = f { Some(*recipient) } else { None })
            .collect()
    };
    world.send(a, 1, bob, "are you there");
    world.settle();
    assert_eq!(recipients(world.take(a)), [Recipient::Online]);
    world.disconnect(b);
    world.send(a, 2, bob, "and now");
    world.send(a, 3, 999_999, "a stranger");
    world.settle();
    assert_eq!(recipients(world.take(a)), [Recipient::Offline, Recipient::Offline]);
}

#[test]
fn what_came_while_offline_is_pushed_before_what_comes_live_without_a_seam() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    for number in 1..=30 {
        world.send(a, number, bob, &format!("m{number}"));
        world.settle();
        if number == 10 {
            world.ingest();
        }
    }
    // While the first page is read from the store, more arrives.
    world.store_stalled = true;
    let b = world.connect_only(bob, 1, Resume::Stored);
    world.settle();
    world.store_stalled = false;
    while world.clients[b.0].frames.is_empty() {
        world.answer_one();
        world.drain(b, usize::MAX);
    }
    world.send(a, 31, bob, "m31");
    world.settle();
    let expected: Vec<_> = (1..=31).map(|n| text(n, &format!("m{n}"))).collect();
    assert_eq!(offered(&world.take(b)), expected);
}

#[test]
fn who_leaves_while_the_user_is_loaded_takes_nothing_from_the_other_devices() {
    for resume in [Resume::Stored, Resume::After(Seq(99))] {
        let mut world = World::new(1);
        world.store_stalled = true;
        let leaves = world.connect_only(1, 1, resume);
        let stays = world.connect_only(1, 2, Resume::Stored);
        if resume == Resume::Stored {
            world.disconnect(leaves);
        }
        world.store_stalled = false;
        world.settle();
        // The other one is refused for its cursor, which is beyond the head.
        assert!(world.clients[leaves.0].closed.is_some());
        assert!(matches!(world.take(stays)[..], [ServerFrame::Welcome { .. }]), "{resume:?}");
    }
}

#[test]
fn the_answer_to_a_retry_counts_for_the_position_as_any_accepted_does() {
    let (mut world, a, _, alice, bob) = two_people();
    for number in 1..=3 {
        world.send(a, number, bob, "x");
    }
    world.settle();
    world.ingest();
    world.disconnect(a);
    // The page with the sent entries is still being read when the answers to the retries come.
    world.store_stalled = true;
    let a = world.connect_only(alice, 1, Resume::Stored);
    while !world.queries.iter().any(|(_, _, query)| matches!(query, storage::Query::Log { .. })) {
        assert!(world.answer_one());
    }
    world.send(a, 1, bob, "x");
    world.send(a, 2, bob, "x");
    world.queries.rotate_left(1);
    world.answer_one();
    world.answer_one();
    world.acknowledge(a, 2);
    world.settle();
    let frames = world.take(a);
    assert_eq!(accepted(&frames), [(1, 1), (2, 2)]);
    assert!(!frames.iter().any(|frame| matches!(frame, ServerFrame::Error { .. })), "{frames:?}");
    world.store_stalled = false;
    world.settle();
    let pages = pages(&world.take(a));
    assert_eq!((pages[0].first, pages[0].last, pages.len()), (Seq(1), Seq(3), 1));
    world.send(a, 4, bob, "y");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(4, 4)]);
}

#[test]
fn a_retry_gets_the_first_result_and_stores_nothing() {
    let (mut world, a, _, alice, bob) = two_people();
    for number in 1..=3 {
        world.send(a, number, bob, "once");
    }
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1), (2, 2), (3, 3)]);
    world.send(a, 2, bob, "once");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(2, 2)]);
    // From the store, too, and after a restart.
    world.crash(1);
    let a = world.connect(alice, 1, Resume::Stored);
    world.take(a);
    world.send(a, 2, bob, "once");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(2, 2)]);
    assert_eq!(world.messages(alice).len(), 3);
    assert_eq!(world.messages(bob).len(), 3);
}

#[test]
fn a_number_stands_for_one_message_whoever_uses_it_again() {
    spec::says(
        "the same recipient and the same content are answered with the first result, another recipient or content with `number_used`.",
    );
    let (mut world, a, _, alice, bob) = two_people();
    let carol = 999_999;
    world.send(a, 1, bob, "one");
    world.settle();
    world.take(a);
    let used = |world: &mut World, a: Link| {
        world.send(a, 1, bob, "other");
        world.send(a, 1, carol, "one");
        world.send(a, 1, bob, "one");
        world.settle();
        let frames = world.take(a);
        assert_eq!(refused(&frames), [(1, ErrorCode::NumberUsed, 2); 2]);
        assert_eq!(accepted(&frames), [(1, 1)]);
    };
    used(&mut world, a);
    // From the store, too, and after a restart.
    world.ingest();
    used(&mut world, a);
    world.crash(1);
    let a = world.connect(alice, 1, Resume::Stored);
    world.take(a);
    used(&mut world, a);
    world.send(a, 2, bob, "two");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(2, 2)], "the numbers go on");
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    assert_eq!((world.messages(bob).len(), world.messages(carol).len()), (2, 0));
}

#[test]
fn another_message_under_a_number_that_is_not_durable_yet_is_told_so() {
    let (mut world, a, _, _, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "one");
    world.send(a, 1, bob, "other");
    world.settle();
    assert_eq!(refused(&world.take(a)), [(1, ErrorCode::NumberUsed, 2)]);
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
}

#[test]
fn a_retry_before_the_commit_is_answered_once_on_the_newest_connection() {
    let (mut world, a, _, alice, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "hello");
    world.disconnect(a);
    let again = world.connect(alice, 1, Resume::Stored);
    assert!(world.take(again).is_empty(), "the welcome waits, since it names the last accepted send");
    world.send(again, 1, bob, "hello");
    world.disk_stalled = false;
    world.settle();
    let frames = world.take(again);
    assert!(matches!(frames[0], ServerFrame::Welcome { last_number: SendNumber(1), .. }), "{frames:?}");
    assert_eq!(accepted(&frames), [(1, 1)]);
    assert_eq!(world.messages(bob).len(), 1);
}

#[test]
fn a_gap_in_send_numbers_is_refused_with_the_number_expected() {
    let (mut world, a, _, _, bob) = two_people();
    world.send(a, 2, bob, "too early");
    world.send(a, 0, bob, "never");
    world.settle();
    assert_eq!(refused(&world.take(a)), [(2, ErrorCode::SendGap, 1), (0, ErrorCode::SendGap, 1)]);
}

#[test]
fn what_will_never_be_taken_is_refused_without_using_up_its_number() {
    let (mut world, a, _, _, bob) = two_people();
    world.send(a, 1, 0, "nobody");
    world.send(a, 1, bob, "");
    world.send(a, 1, bob, &"x".repeat(proto_spec::limits::TEXT_BYTES_MAX + 1));
    let content = Content::Unknown { kind: 10, body: [b'?'].into() };
    world.frame(a, &ClientFrame::Send { number: SendNumber(1), to: UserId(bob).into(), content });
    let content = Content::opaque(b"");
    world.frame(a, &ClientFrame::Send { number: SendNumber(1), to: UserId(bob).into(), content });
    world.send(a, 1, bob, "at last");
    world.settle();
    let frames = world.take(a);
    let codes: Vec<_> = refused(&frames).into_iter().map(|(_, code, _)| code).collect();
    use ErrorCode::{ContentKind, ContentLimits, Recipient, TextLength};
    assert_eq!(codes, [Recipient, TextLength, TextLength, ContentKind, ContentLimits]);
    assert_eq!(accepted(&frames), [(1, 1)]);
}

#[test]
fn each_kind_of_content_gets_to_the_other_side_as_it_was_sent() {
    let (mut world, a, b, _, bob) = two_people();
    let to = MessageName { author: UserId(bob), seq: Seq(1) };
    let contents = [
        Content::text("text"),
        Content::reply(&Reply { to, quote: "quote", text: "text" }),
        Content::from_parts(3, [&[1, 5][..], &[7; 32], &[0, 1, b'k', 0, 0, 0, 0, 0, b'+']].concat().into()),
        Content::opaque(b"\xff"),
        Content::mention(&[UserId(bob)], "@2 look"),
    ];
    assert_eq!(contents.len(), server::shard::CONTENT_KINDS.iter().filter(|kind| kind.is_message()).count());
    for (number, content) in (1..).zip(&contents) {
        let frame = ClientFrame::Send { number: SendNumber(number), to: UserId(bob).into(), content: content.clone() };
        world.frame(a, &frame);
    }
    world.settle();
    assert_eq!(accepted(&world.take(a)).len(), contents.len());
    let received: Vec<_> = world
        .take(b)
        .into_iter()
        .filter_map(|frame| match frame {
            ServerFrame::Deliver { entry: Entry { event: Event::Received { content, .. }, .. } } => Some(content),
            _ => None,
        })
        .collect();
    assert_eq!(received, contents);
}

#[test]
fn a_send_beyond_the_window_is_refused() {
    spec::says("A time with `window_full` is a proposal: resend when answers have come, be it sooner.");
    let (mut world, a, _, _, bob) = two_people();
    world.disk_stalled = true;
    for number in 1..=SEND_WINDOW + 1 {
        world.send(a, number, bob, "x");
    }
    world.settle();
    assert_eq!(refused(&world.take(a)), [(SEND_WINDOW + 1, ErrorCode::WindowFull, SEND_WINDOW + 1)]);
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(a)).len() as u64, SEND_WINDOW);
}

#[test]
fn a_full_disk_refuses_sends_and_serves_reads_and_recovers() {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "before");
    world.settle();
    world.take(a);
    for (admission, code) in [(Admission::Full, ErrorCode::StorageFull), (Admission::Behind, ErrorCode::Overloaded)] {
        world.admission(admission);
        world.send(a, 2, bob, "now");
        let (request, from, direction) = (RequestId(5), Seq(0), Direction::Backwards);
        world.frame(b, &ClientFrame::FetchLog { request, from, direction, limit: 10 });
        world.settle();
        assert_eq!(refused(&world.take(a)), [(2, code, 2)]);
        assert_eq!(pages(&world.take(b))[0].entries.len(), 1);
    }
    world.admission(Admission::Open);
    world.send(a, 2, bob, "after");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(2, 2)]);
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_and_the_unknown_is_not_answered() {
    let (mut world, a, _, alice, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "unknown");
    world.settle();
    assert!(world.sync_fails());
    world.settle();
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::StorageFailed)));
    assert_eq!(accepted(&world.take(a)), []);
    let phone = world.connect(alice, 2, Resume::Stored);
    world.take(phone);
    world.send(phone, 1, bob, "more");
    world.settle();
    assert_eq!(refused(&world.take(phone)), [(1, ErrorCode::StorageFailed, 1)]);
}

#[test]
fn the_same_device_connecting_again_ends_the_older_connection() {
    let (mut world, a, _, alice, bob) = two_people();
    let again = world.connect(alice, 1, Resume::Stored);
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::Replaced)));
    assert!(matches!(world.take(a)[..], [ServerFrame::Bye { code: ErrorCode::Replaced, .. }]));
    assert!(world.directory().is_online(UserId(alice)));
    world.send(again, 1, bob, "hello");
    world.settle();
    assert_eq!(accepted(&world.take(again)), [(1, 1)]);
}

#[test]
fn a_device_is_welcomed_although_its_dead_connection_was_the_users_only_one() {
    let (mut world, a, _, alice, _) = two_people();
    world.advance(1_000);
    world.ingest();
    // The network changed: the old connection still looks alive.
    let again = world.connect(alice, 1, Resume::Stored);
    assert!(matches!(world.take(again)[..], [ServerFrame::Welcome { .. }]));
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::Replaced)));
    assert!(world.directory().is_online(UserId(alice)));
    world.disconnect(again);
    assert!(!world.directory().is_online(UserId(alice)));
}

#[test]
fn a_welcome_waits_for_sends_and_for_nothing_else() {
    let (mut world, a, b, alice, bob) = two_people();
    world.disconnect(b);
    world.advance(1_000);
    world.ingest();
    // The send's commit is slow, its recipient is not loaded: the next flush has nothing to write.
    world.disk_stalled = true;
    world.store_stalled = true;
    world.send(a, 1, bob, "hello");
    world.advance(1_000);
    let again = world.connect(alice, 1, Resume::Stored);
    assert!(world.take(again).is_empty());
    world.disk_stalled = false;
    world.settle();
    assert!(matches!(world.take(again)[0], ServerFrame::Welcome { last_number: SendNumber(1), .. }));
}

#[test]
fn a_turn_that_decides_very_much_makes_several_batches() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    world.advance(1_000);
    world.ingest();
    world.store_stalled = true;
    let long = "x".repeat(proto_spec::limits::TEXT_BYTES_MAX);
    for number in 1..=200 {
        world.send(a, number, bob, &long);
        world.settle();
    }
    world.store_stalled = false;
    world.settle();
    assert!(world.largest_batch < limits::BATCH_BYTES_MAX + 2 * long.len(), "{} bytes", world.largest_batch);
    assert_eq!(world.messages(bob).len(), 200);
}

#[test]
fn nobody_is_closed_for_silence_without_having_been_asked() {
    let (mut world, a, b, _, _) = two_people();
    // The core did not run for ten minutes, nor did it listen.
    world.now.monotonic_ms += 600_000;
    world.advance(limits::TICK_MS);
    for link in [a, b] {
        assert!(matches!(world.take(link)[..], [ServerFrame::Ping { .. }]));
    }
    world.frame(a, &ClientFrame::Pong { nonce: 0 });
    world.advance(limits::PONG_MS_MIN + 1_000);
    assert_eq!(world.clients[a.0].closed, None);
    assert_eq!(world.clients[b.0].closed, Some(Some(ErrorCode::IdleTimeout)));
}

#[test]
fn bytes_of_a_frame_that_never_gets_whole_are_no_sign_of_life() {
    spec::says("Any frame counts when it is whole; bytes of one that is not yet whole do not.");
    let (mut world, a, b, _, bob) = two_people();
    let mut frame = Vec::new();
    ClientFrame::Send { number: SendNumber(1), to: UserId(bob).into(), content: Content::text(&"x".repeat(5_000)) }
        .encode(&mut frame);
    let mut closed_after_ms = 0;
    for byte in frame.chunks(1) {
        world.bytes(a, byte);
        world.frame(b, &ClientFrame::Pong { nonce: 0 });
        world.advance(1_000);
        closed_after_ms += 1_000;
        if world.clients[a.0].closed.is_some() {
            break;
        }
    }
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::IdleTimeout)));
    assert_eq!((closed_after_ms, world.clients[b.0].closed), (150_000, None));
}

#[test]
fn what_follows_the_hello_at_once_is_handled_after_the_welcome_and_bounded_before_it() {
    spec::says("The server takes up to 64 KiB of them before the welcome, and reads the rest after it.");
    assert_eq!(limits::EARLY_BYTES_MAX, 64 * 1024);
    let mut world = World::new(1);
    world.store_stalled = true;
    let link = world.connect_only(1, 1, Resume::Stored);
    world.send(link, 1, 2, "with the hello");
    assert!(!world.clients[link.0].paused);
    world.bytes(link, &[2, ClientKind::Ping.byte(), 9].repeat(limits::EARLY_BYTES_MAX / 3));
    assert!(world.clients[link.0].paused);
    world.store_stalled = false;
    world.settle();
    let frames = world.take(link);
    assert!(matches!(frames[0], ServerFrame::Welcome { last_number: SendNumber(0), .. }), "{:?}", frames[0]);
    assert_eq!(
        frames.iter().filter(|frame| matches!(frame, ServerFrame::Pong { .. })).count(),
        limits::EARLY_BYTES_MAX / 3
    );
    assert_eq!((accepted(&frames).len(), world.clients[link.0].paused), (1, false));
}

#[test]
fn the_silent_are_pinged_and_then_closed_and_any_frame_counts_as_a_sign_of_life() {
    let (mut world, a, b, _, _) = two_people();
    world.advance(62_000);
    assert!(matches!(world.take(a)[..], [ServerFrame::Ping { .. }]));
    assert!(matches!(world.take(b)[..], [ServerFrame::Ping { .. }]));
    world.frame(a, &ClientFrame::Pong { nonce: 0 });
    world.advance(91_000);
    assert_eq!(world.clients[b.0].closed, Some(Some(ErrorCode::IdleTimeout)));
    assert_eq!(world.clients[a.0].closed, None);
    world.advance(120_000);
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::IdleTimeout)));
    assert!(world.directory().is_empty());
}

/// What a proxy between sees: bytes both ways at least as often as the operator has set, for hours, whenever a client came.
#[test]
fn a_silent_connection_carries_a_ping_and_a_pong_as_often_as_is_set() {
    let mut world = World::new(1);
    // Each comes at another moment of a second.
    let links: Vec<Link> = (1..=6)
        .map(|user| {
            world.advance(170);
            world.connect(user, 1, Resume::Stored)
        })
        .collect();
    let ping_after_ms = 60_000;
    let mut pings = vec![vec![world.now.monotonic_ms]; links.len()];
    links.iter().for_each(|&link| drop(world.take(link)));
    for _ in 0..3_600 * 20 {
        world.advance(limits::TICK_MS);
        for (&link, pings) in links.iter().zip(&mut pings) {
            for frame in world.take(link) {
                let ServerFrame::Ping { nonce } = frame else { panic!("{frame:?} on a silent connection") };
                pings.push(world.now.monotonic_ms);
                world.frame(link, &ClientFrame::Pong { nonce });
            }
        }
    }
    for pings in pings {
        let longest_ms = pings.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest_ms.is_some_and(|longest_ms| longest_ms <= ping_after_ms), "{pings:?}");
        assert!((60..=62).contains(&pings.len()), "{} in an hour", pings.len());
    }
}

#[test]
fn an_unknown_kind_is_named_and_the_connection_goes_on() {
    let (mut world, a, _, _, _) = two_people();
    world.bytes(a, &[3, 0x3f, 1, 2]);
    world.frame(a, &ClientFrame::Ping { nonce: 5 });
    world.settle();
    let frames = world.take(a);
    assert!(
        matches!(
            frames[..],
            [ServerFrame::Error { code: ErrorCode::UnknownKind, kind: 0x3f, .. }, ServerFrame::Pong { nonce: 5 }]
        ),
        "{frames:?}"
    );
}

#[test]
fn malformed_and_misplaced_frames_close_with_their_code() {
    for (bytes, code) in [
        (vec![0x80, 0x00], ErrorCode::Malformed),
        (vec![0x00], ErrorCode::Malformed),
        (vec![0xff, 0xff, 0x7f], ErrorCode::FrameTooLarge),
        (vec![2, 0x03, 0x80], ErrorCode::Malformed),
        (vec![7, 0x01, 1, 1, 1, 0, 0, 0], ErrorCode::NotNow),
    ] {
        let (mut world, a, _, _, _) = two_people();
        world.bytes(a, &bytes);
        world.settle();
        assert_eq!(world.clients[a.0].closed, Some(Some(code)), "{bytes:x?}");
    }
}

#[test]
fn frames_may_arrive_in_any_cut() {
    let (mut world, a, b, _, bob) = two_people();
    let mut bytes = Vec::new();
    for number in 1..=3 {
        let content = Content::text("cut");
        ClientFrame::Send { number: SendNumber(number), to: UserId(bob).into(), content }.encode(&mut bytes);
    }
    bytes.iter().for_each(|byte| world.bytes(a, &[*byte]));
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(offered(&world.take(b)).len(), 3);
}

#[test]
fn frames_ahead_of_the_welcome_are_held_and_answered_in_order() {
    let mut world = World::new(1);
    let a = world.connect_only(1, 1, Resume::Stored);
    world.send(a, 1, 2, "early");
    assert!(world.take(a).is_empty());
    world.settle();
    let frames = world.take(a);
    assert!(matches!(frames[0], ServerFrame::Welcome { .. }));
    assert_eq!(accepted(&frames), [(1, 1)]);
}

#[test]
fn a_user_has_a_bounded_number_of_devices() {
    let mut world = World::new(1);
    for device in 1..=limits::DEVICES_MAX as u64 {
        world.connect(1, device, Resume::Stored);
    }
    let link = world.connect(1, 1_000, Resume::Stored);
    assert_eq!(world.clients[link.0].closed, Some(Some(ErrorCode::DeviceRefused)));
}

#[test]
fn a_draining_shard_commits_what_is_parked_then_says_bye() {
    let (mut world, a, b, _, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "last");
    world.stop();
    world.send(a, 2, bob, "too late");
    world.settle();
    assert!(!world.is_stopped());
    assert_eq!(refused(&world.take(a)), [(2, ErrorCode::Stopping, 2)]);
    world.disk_stalled = false;
    world.settle();
    world.advance(1_000);
    let frames = world.take(a);
    assert_eq!(accepted(&frames), [(1, 1)]);
    assert!(matches!(frames.last(), Some(ServerFrame::Bye { code: ErrorCode::Stopping, .. })));
    assert_eq!(world.clients[b.0].closed, Some(Some(ErrorCode::Stopping)));
    assert!(world.is_stopped());
    assert_eq!(world.messages(bob).len(), 1);
}

#[test]
fn two_devices_see_two_people_writing_at_once_in_one_order() {
    let (mut world, a, b, alice, bob) = two_people();
    let phone = world.connect(alice, 2, Resume::Stored);
    world.take(phone);
    for number in 1..=20 {
        world.send(a, number, bob, &format!("a{number}"));
        world.send(b, number, alice, &format!("b{number}"));
        if number % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
    let log = world.messages(alice);
    let on_phone = offered(&world.take(phone));
    assert_eq!(on_phone, log.iter().map(|(seq, _, _, text)| (*seq, text.clone())).collect::<Vec<_>>());
    let frames = world.take(a);
    let mut on_desk: Vec<u64> = offered(&frames).into_iter().map(|(seq, _)| seq).collect();
    on_desk.extend(accepted(&frames).into_iter().map(|(_, seq)| seq));
    on_desk.sort_unstable();
    assert_eq!(on_desk, (1..=40).collect::<Vec<_>>(), "accepted and delivered together cover the log");
}

#[test]
fn times_of_a_log_stand_still_for_a_clock_that_is_a_little_behind_and_are_right_again_after_one_that_was_far_ahead() {
    let (mut world, a, _, alice, bob) = two_people();
    let noon = world.now.wall.0;
    let year_ms = 365 * 86_400_000;
    let clocks = [noon, noon - limits::CLOCK_LEAP_MS, noon + 1, noon + year_ms, noon + 2];
    for (number, wall_ms) in (1..).zip(clocks) {
        world.now.wall.0 = wall_ms;
        world.send(a, number, bob, "what time is it?");
        world.settle();
    }
    world.ingest();
    let times: Vec<u64> = world.store.users[&UserId(alice)].log.values().map(|entry| entry.time.0).collect();
    assert_eq!(times, [noon, noon, noon + 1, noon + year_ms, noon + 2]);
}
