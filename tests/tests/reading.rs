//! What a shard promises to those who read: pushing, acknowledging, receipts and pages, claim by claim.

use proto_spec::{ClientFrame, ClientKind, Direction, ErrorCode, Event, RequestId, Resume, Seq, ServerFrame, UserId};
use server::limits;
use tests::{
    frames::{accepted, delivered_up_to, offered, pages, text, two_people},
    spec,
    world::{Link, World},
};

#[test]
fn a_slow_reader_falls_behind_bounded_and_catches_up_complete() {
    let (mut world, a, b, _, bob) = two_people();
    world.clients[b.0].stuck = true;
    let long = "x".repeat(2_000);
    for number in 1..=400 {
        world.send(a, number, bob, &long);
        world.settle();
        assert!(world.waiting(b) <= limits::OUTBOX_LIVE_BYTES_MAX, "{} bytes wait", world.waiting(b));
        if number == 200 {
            world.ingest();
        }
    }
    assert_eq!(accepted(&world.take(a)).len(), 400, "nobody else waits");
    world.clients[b.0].stuck = false;
    world.settle();
    let seqs: Vec<u64> = offered(&world.take(b)).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
    world.send(a, 401, bob, "live again");
    world.settle();
    assert!(matches!(world.take(b)[..], [ServerFrame::Deliver { .. }]));
}

#[test]
fn who_asks_and_does_not_read_is_not_read_from_and_at_last_closed() {
    let (mut world, a, _, alice, _) = two_people();
    let long = "x".repeat(10_000);
    for number in 1..=40 {
        world.send(a, number, alice, &long);
        world.settle();
    }
    world.clients[a.0].stuck = true;
    let (from, direction) = (Seq(0), Direction::Backwards);
    for request in 1..=5 {
        world.frame(a, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 500 });
        world.settle();
    }
    assert!(world.clients[a.0].paused);
    // A burst that had arrived before reading stopped: more pages are refused, so it costs what its answers cost.
    for request in 6..=50 {
        world.frame(a, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 500 });
    }
    assert!(world.waiting(a) < limits::FETCH_OUTBOX_BYTES_MAX + 2 * proto_spec::limits::SERVER_FRAME_BYTES_MAX);
    assert_eq!(world.clients[a.0].closed, None);
    world.bytes(a, &[1, 0x3f].repeat(40_000));
    assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::SlowConsumer)));
    let received: usize = world.take(a).iter().map(|frame| encoded(frame).len()).sum();
    assert!(received < limits::OUTBOX_BYTES_MAX + 1_000, "{received} bytes were queued");
}

/// The client asks and does not read, until nothing is read of it either.
fn pile_up(world: &mut World, link: Link) {
    world.clients[link.0].stuck = true;
    while !world.clients[link.0].paused {
        world.bytes(link, &[2, ClientKind::Ping.byte(), 9].repeat(3_000));
    }
    assert_eq!(world.clients[link.0].closed, None);
}

#[test]
fn who_writes_and_never_reads_is_closed_as_that_within_half_of_the_idle_timeout() {
    spec::says("If it reads nothing at all of them for half of `idle_timeout_ms`, it is closed with `slow_consumer`");
    let half_ms = 150_000 / 2;
    for taken_at_ms in [None, Some(40_000)] {
        let (mut world, a, b, _, _) = two_people();
        // The other one says little, and reads.
        let pass = |world: &mut World, ms| {
            world.advance(ms);
            world.frame(b, &ClientFrame::Pong { nonce: 0 });
        };
        pile_up(&mut world, a);
        if let Some(ms) = taken_at_ms {
            pass(&mut world, ms);
            assert!(world.drain(a, 100), "not enough to be read from again");
        }
        pass(&mut world, half_ms - 100);
        assert_eq!(world.clients[a.0].closed, None);
        pass(&mut world, 300);
        assert_eq!(world.clients[a.0].closed, Some(Some(ErrorCode::SlowConsumer)));
        assert_eq!(world.clients[b.0].closed, None);
    }
}

#[test]
fn who_reads_again_after_a_long_pause_is_not_taken_for_silent() {
    let (mut world, a, _, _, _) = two_people();
    pile_up(&mut world, a);
    // It takes a little now and then: it is alive, and can not be heard.
    for _ in 0..10 {
        world.advance(50_000);
        assert!(world.drain(a, 100));
    }
    assert_eq!(world.clients[a.0].closed, None);
    world.clients[a.0].stuck = false;
    world.settle();
    world.advance(40_000);
    assert_eq!((world.clients[a.0].closed, world.clients[a.0].paused), (None, false));
}

fn encoded(frame: &ServerFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

#[test]
fn a_client_that_reads_has_all_its_fetches_answered() {
    let (mut world, a, _, alice, _) = two_people();
    let long = "x".repeat(10_000);
    for number in 1..=40 {
        world.send(a, number, alice, &long);
        world.settle();
    }
    world.take(a);
    let (from, direction) = (Seq(0), Direction::Backwards);
    for request in 1..=proto_spec::limits::FETCHES_IN_FLIGHT_MAX as u64 {
        world.frame(a, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 500 });
    }
    world.settle();
    assert_eq!(pages(&world.take(a)).len(), proto_spec::limits::FETCHES_IN_FLIGHT_MAX);
}

#[test]
fn reading_goes_on_when_the_answers_have_drained() {
    let (mut world, a, _, alice, _) = two_people();
    let long = "x".repeat(10_000);
    for number in 1..=40 {
        world.send(a, number, alice, &long);
        world.settle();
    }
    world.clients[a.0].stuck = true;
    for request in 1..=4 {
        let (from, direction) = (Seq(0), Direction::Backwards);
        world.frame(a, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 500 });
    }
    assert!(world.clients[a.0].paused);
    world.clients[a.0].stuck = false;
    world.settle();
    assert!(!world.clients[a.0].paused);
}

#[test]
fn an_acknowledgement_is_durable_and_resume_starts_behind_it() {
    let (mut world, a, b, _, bob) = two_people();
    for number in 1..=5 {
        world.send(a, number, bob, &format!("m{number}"));
    }
    world.settle();
    world.acknowledge(b, 3);
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    world.crash(2);
    let b = world.connect(bob, 1, Resume::Stored);
    let frames = world.take(b);
    assert!(matches!(frames[0], ServerFrame::Welcome { cursor: Seq(3), .. }));
    assert_eq!(offered(&frames), [text(4, "m4"), text(5, "m5")]);
}

#[test]
fn an_acknowledgement_beyond_what_was_offered_is_refused() {
    let (mut world, _, b, _, _) = two_people();
    world.acknowledge(b, 1);
    world.settle();
    assert!(matches!(world.take(b)[..], [ServerFrame::Error { code: ErrorCode::AcknowledgeAhead, .. }]));
}

#[test]
fn a_resume_cursor_counts_as_acknowledged_and_one_beyond_the_log_is_refused() {
    let (mut world, a, b, _, bob) = two_people();
    world.send(a, 1, bob, "one");
    world.settle();
    world.disconnect(b);
    let b = world.connect(bob, 1, Resume::After(Seq(1)));
    assert!(matches!(world.take(b)[..], [ServerFrame::Welcome { cursor: Seq(1), .. }]));
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 1)]);
    let c = world.connect(bob, 3, Resume::After(Seq(2)));
    assert_eq!(world.clients[c.0].closed, Some(Some(ErrorCode::CursorAhead)));
}

#[test]
fn live_resume_pushes_nothing_old() {
    let (mut world, a, _, _, bob) = two_people();
    world.send(a, 1, bob, "old");
    world.settle();
    let phone = world.connect(bob, 2, Resume::Live);
    assert_eq!(offered(&world.take(phone)), []);
    world.send(a, 2, bob, "new");
    world.settle();
    assert_eq!(offered(&world.take(phone)), [text(2, "new")]);
}

#[test]
fn receipts_are_gathered_and_supersede_each_other() {
    let (mut world, a, b, alice, bob) = two_people();
    for number in 1..=10 {
        world.send(a, number, bob, "x");
        world.settle();
        world.acknowledge(b, number);
    }
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 10)]);
    world.send(a, 11, bob, "x");
    world.settle();
    // Eleven messages; the answer to the receipt took a seq in between.
    world.acknowledge(b, 11);
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 12)]);
    world.ingest();
    let log = &world.store.users[&UserId(alice)].log;
    let receipts: Vec<u64> =
        log.values().filter(|e| matches!(e.event, Event::Delivered { .. })).map(|e| e.seq.0).collect();
    assert_eq!(receipts, [13], "the older receipt is superseded");
}

#[test]
fn a_page_over_a_superseded_entry_says_that_it_covers_it() {
    let (mut world, a, b, alice, bob) = two_people();
    for number in 1..=2 {
        world.send(a, number, bob, "x");
        world.settle();
        world.acknowledge(b, number);
        world.advance(2 * limits::RECEIPT_DELAY_MS);
    }
    let phone = world.connect(alice, 2, Resume::Stored);
    let page = pages(&world.take(phone)).remove(0);
    assert_eq!((page.first, page.last), (Seq(1), Seq(4)));
    let seqs: Vec<u64> = page.entries.iter().map(|entry| entry.seq.0).collect();
    assert_eq!(seqs, [1, 3, 4]);
}

#[test]
fn pages_in_both_directions_cover_the_log_wherever_it_lies() {
    for ingest_after in [0, 1, 5, 9, 10] {
        let (mut world, a, _, _, bob) = two_people();
        for number in 1..=10 {
            world.send(a, number, bob, &format!("m{number}"));
            world.settle();
            if number == ingest_after {
                world.ingest();
            }
        }
        let reader = world.connect(bob, 7, Resume::Live);
        for (direction, start) in [(Direction::Forwards, 1), (Direction::Backwards, 0)] {
            for limit in [1, 3, 4, 100] {
                world.take(reader);
                let (mut from, mut seen) = (Seq(start), Vec::new());
                loop {
                    world.frame(reader, &ClientFrame::FetchLog { request: RequestId(9), from, direction, limit });
                    world.settle();
                    let page = pages(&world.take(reader)).remove(0);
                    assert!(page.entries.len() as u64 <= limit);
                    let seqs: Vec<u64> = page.entries.iter().map(|e| e.seq.0).collect();
                    assert_eq!(seqs, (page.first.0..=page.last.0).collect::<Vec<_>>(), "nothing is missing in it");
                    match direction {
                        Direction::Forwards => {
                            assert_eq!(page.first, from);
                            seen.extend(seqs);
                            from = page.last.next();
                        }
                        Direction::Backwards => {
                            assert_eq!(page.last, if from.0 == 0 { Seq(10) } else { from });
                            seen.splice(0..0, seqs);
                            from = page.first.previous();
                        }
                    }
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(seen, (1..=10).collect::<Vec<_>>(), "ingested {ingest_after}, {direction:?}, {limit}");
            }
        }
    }
}

#[test]
fn a_page_of_a_conversation_shows_it_alone_and_how_far_it_was_delivered() {
    let (mut world, a, b, alice, bob) = two_people();
    world.send(a, 1, bob, "to bob");
    world.send(a, 2, 77, "to another");
    world.settle();
    world.acknowledge(b, 1);
    world.advance(2 * limits::RECEIPT_DELAY_MS);
    for stored in [false, true] {
        if stored {
            world.ingest();
        }
        let reader = world.connect(alice, 5, Resume::Live);
        world.take(reader);
        let (request, from, direction) = (RequestId(3), Seq(0), Direction::Backwards);
        let peer = UserId(bob);
        world.frame(
            reader,
            &ClientFrame::FetchConversation { request, conversation: peer.into(), from, direction, limit: 10 },
        );
        world.settle();
        let page = pages(&world.take(reader)).remove(0);
        assert_eq!((page.request, page.first, page.last, page.more), (request, Seq(1), Seq(3), false));
        let seqs: Vec<u64> = page.entries.iter().map(|e| e.seq.0).collect();
        assert_eq!((seqs, page.delivered_up_to), (vec![1], Seq(1)));
    }
}

#[test]
fn fetches_beyond_the_bound_are_refused_and_reach_their_pages_later() {
    let (mut world, _, _, alice, bob) = two_people();
    let a = world.connect(alice, 3, Resume::Stored);
    world.send(a, 1, bob, "x");
    world.settle();
    world.ingest();
    world.take(a);
    world.store_stalled = true;
    for request in 1..=proto_spec::limits::FETCHES_IN_FLIGHT_MAX as u64 + 1 {
        let (from, direction) = (Seq(1), Direction::Forwards);
        world.frame(a, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 1 });
    }
    world.settle();
    let frames = world.take(a);
    assert!(matches!(frames[..], [ServerFrame::Error { code: ErrorCode::TooManyFetches, request: RequestId(5), .. }]));
    world.store_stalled = false;
    world.settle();
    assert_eq!(pages(&world.take(a)).len(), proto_spec::limits::FETCHES_IN_FLIGHT_MAX);
}
