//! Limits: each holds, and who stays below it notices nothing. The defaults of the configuration, against shards with time as an
//! argument. `docs/SECURITY.md` has the table.

use proto_spec::{ClientFrame, Direction, ErrorCode, RequestId, Resume, Seq, ServerFrame, limits::SEND_WINDOW};
use server::{
    config,
    limits::{
        BUSY_TICK_MS, MEMORY_BYTES_MIN, OUTBOX_LIVE_BYTES_MAX, OVERLOADED_TICK_MS, QUERIES_IN_FLIGHT_MAX, RATE_BURST_S,
        RECENT_PEERS_MAX, RETRY_FLOOD_MS, STALLED_LOOK_MS, TICK_MS,
    },
    shard::{Class, Limits, Reason},
};
use tests::{
    frames::{accepted, offered, pages},
    world::{Link, World},
};

/// As a server has it whose operator has not thought about it.
fn world() -> (World, config::Limits) {
    let limits = config::Limits::default();
    (World::limited(1, limits.of_shards()), limits)
}

fn burst(per_s: u32) -> u64 {
    u64::from(per_s) * RATE_BURST_S
}

fn refusals(frames: &[ServerFrame]) -> Vec<(u64, ErrorCode, u64)> {
    let refusal = |frame: &ServerFrame| match frame {
        ServerFrame::Refused { number, code, retry_after_ms, .. } => Some((number.0, *code, *retry_after_ms)),
        _ => None,
    };
    frames.iter().filter_map(refusal).collect()
}

/// Sends from `first` on until one is refused: the number of that one, and the wait it names.
fn send_until_refused(world: &mut World, link: Link, first: u64, mut to: impl FnMut(u64) -> u64) -> (u64, u64) {
    for number in first..first + 100_000 {
        world.send(link, number, to(number), "x");
        world.settle();
        if let [(refused, code, wait_ms)] = refusals(&world.take(link))[..] {
            assert_eq!((refused, code), (number, ErrorCode::RateLimited));
            return (number, wait_ms);
        }
    }
    panic!("nothing holds {} back", first);
}

#[test]
fn a_device_sends_no_faster_than_its_rate() {
    let (mut world, limits) = world();
    let link = world.connect(1, 1, Resume::Stored);
    world.take(link);
    let (first, wait_ms) = send_until_refused(&mut world, link, 1, |_| 2);
    assert_eq!(first, burst(limits.device_sends_per_s) + 1);
    // The number is not used up, and a second's worth goes when the time has come.
    world.advance(wait_ms);
    let (second, _) = send_until_refused(&mut world, link, first, |_| 2);
    let sent = second - first;
    assert!(
        (u64::from(limits.device_sends_per_s)..=u64::from(limits.device_sends_per_s) + 2).contains(&sent),
        "{sent}"
    );
}

#[test]
fn all_devices_of_a_user_send_no_faster_than_its_rate() {
    let (mut world, limits) = world();
    let links: Vec<_> = (1..=3).map(|device| world.connect(1, device, Resume::Stored)).collect();
    links.iter().for_each(|link| drop(world.take(*link)));
    let sent: u64 = links.iter().map(|link| send_until_refused(&mut world, *link, 1, |_| 2).0 - 1).sum();
    assert_eq!(sent, burst(limits.user_sends_per_s));
}

#[test]
fn a_user_opens_no_more_conversations_than_its_rate() {
    let (mut world, limits) = world();
    let link = world.connect(1, 1, Resume::Stored);
    world.take(link);
    let (first, _) = send_until_refused(&mut world, link, 1, |number| 100 + number);
    assert_eq!(first, burst(limits.opened_per_s) + 1);
    // Those that are open go on.
    world.send(link, first, 100 + first - 1, "x");
    world.settle();
    assert_eq!(accepted(&world.take(link)).len(), 1);
}

#[test]
fn who_writes_to_the_same_people_again_opens_nothing() {
    let (mut world, limits) = world();
    let link = world.connect(1, 1, Resume::Stored);
    world.take(link);
    let peers = RECENT_PEERS_MAX.min(burst(limits.opened_per_s) as usize) as u64;
    for number in 1..=10 * peers {
        world.send(link, number, 100 + number % peers, "x");
        world.settle();
        assert_eq!(refusals(&world.take(link)), [], "{number}");
        world.advance(1_000 / u64::from(limits.device_sends_per_s));
    }
}

#[test]
fn a_user_fetches_no_more_pages_than_its_rate() {
    let (mut world, limits) = world();
    let links: Vec<_> = (1..=2).map(|device| world.connect(1, device, Resume::Stored)).collect();
    links.iter().for_each(|link| drop(world.take(*link)));
    let fetch = |request: u64, world: &mut World| {
        let link = links[request as usize % 2];
        let (from, direction) = (Seq(0), Direction::Backwards);
        world.frame(link, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 10 });
        world.settle();
        world.take(link)
    };
    let most = burst(limits.fetches_per_s);
    for request in 1..=most {
        assert_eq!(pages(&fetch(request, &mut world)).len(), 1, "{request}");
    }
    let refused = fetch(most + 1, &mut world);
    let [ServerFrame::Error { code: ErrorCode::RateLimited, request, retry_after_ms, .. }] = refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(request, RequestId(most + 1));
    world.advance(retry_after_ms);
    assert_eq!(pages(&fetch(most + 2, &mut world)).len(), 1);
}

#[test]
fn sends_are_repeated_no_faster_than_pages_are_fetched_and_each_gets_its_first_result() {
    let (mut world, limits) = world();
    let link = world.connect(1, 1, Resume::Stored);
    let mut number = 1;
    while number <= SEND_WINDOW {
        let (refused, wait_ms) = match number {
            1 => send_until_refused(&mut world, link, 1, |_| 1),
            _ => send_until_refused(&mut world, link, number, |_| 1),
        };
        number = refused;
        world.advance(wait_ms);
    }
    world.advance(60_000);
    world.ingest();
    let again = world.connect(1, 1, Resume::Live);
    world.take(again);
    world.store_stalled = true;
    (1..=SEND_WINDOW).for_each(|number| world.send(again, number, 1, "x"));
    world.settle();
    assert_eq!(world.queries.len() as u64, burst(limits.fetches_per_s));
    world.store_stalled = false;
    world.advance(1_000 * SEND_WINDOW / u64::from(limits.fetches_per_s));
    let mut answered = accepted(&world.take(again));
    answered.sort_unstable();
    assert_eq!(answered, (1..=SEND_WINDOW).map(|number| (number, number)).collect::<Vec<_>>());
}

#[test]
fn who_goes_and_comes_back_does_not_begin_anew() {
    let (mut world, limits) = world();
    let mut fetched = 0;
    for _ in 0..5 {
        let link = world.connect(1, 1, Resume::Stored);
        world.take(link);
        // Nothing was written or acknowledged, so the user is forgotten when the connection ends.
        fetched += (1..=100).filter(|request| pages(&page(&mut world, link, *request)).len() == 1).count() as u64;
        world.disconnect(link);
        world.advance(600);
        world.ingest();
        assert_eq!(world.total(|core| core.users), 0);
    }
    assert!(fetched <= burst(limits.fetches_per_s) + 3 * u64::from(limits.fetches_per_s), "{fetched}");
}

#[test]
fn pieces_that_make_no_frame_count_as_frames() {
    // The last is what frames of WebSocket with nothing in them are.
    for piece in [&[0x02, 0x02][..], &[]] {
        let (mut world, limits) = world();
        let link = world.connect(1, 1, Resume::Stored);
        let mut sent = 0;
        while world.clients[link.0].closed.is_none() {
            sent += 1;
            assert!(sent <= burst(limits.frames_per_s) + 3, "not closed");
            world.bytes(link, if sent == 1 { &[0xff, 0x7f] } else { piece });
        }
        assert_eq!(world.clients[link.0].closed, Some(Some(ErrorCode::RateLimited)));
    }
}

#[test]
fn a_user_connects_no_faster_than_its_rate_and_nobody_else_waits_for_it() {
    let (mut world, limits) = world();
    for _ in 0..burst(limits.logins_per_s) {
        let link = world.connect(1, 1, Resume::Stored);
        assert!(matches!(world.take(link)[0], ServerFrame::Welcome { .. }));
        world.disconnect(link);
    }
    let late = world.connect(1, 1, Resume::Stored);
    let said = world.take(late);
    let [ServerFrame::Bye { code: ErrorCode::RateLimited, retry_after_ms, .. }] = said[..] else { panic!("{said:?}") };
    let other = world.connect(2, 1, Resume::Stored);
    assert!(matches!(world.take(other)[0], ServerFrame::Welcome { .. }));
    world.advance(retry_after_ms);
    let again = world.connect(1, 1, Resume::Stored);
    assert!(matches!(world.take(again)[0], ServerFrame::Welcome { .. }));
}

#[test]
fn a_connection_that_floods_is_closed_whatever_it_sends() {
    let noise = [0x05, 0x3f, 1, 2, 3, 4];
    let mut ping = Vec::new();
    ClientFrame::Ping { nonce: 1 }.encode(&mut ping);
    let mut gap = Vec::new();
    let (number, to) = (proto_spec::SendNumber(7), proto_spec::UserId(2));
    ClientFrame::Send { number, to: to.into(), content: proto_spec::Content::text("x") }.encode(&mut gap);
    for flood in [&noise[..], &ping, &gap] {
        let (mut world, limits) = world();
        let link = world.connect(1, 1, Resume::Stored);
        let other = world.connect(1, 2, Resume::Stored);
        let mut sent = 0;
        while world.clients[link.0].closed.is_none() {
            sent += 1;
            assert!(sent <= burst(limits.frames_per_s) + 1, "not closed");
            world.bytes(link, flood);
            world.settle();
        }
        assert_eq!(sent, burst(limits.frames_per_s) + 1);
        let said = world.take(link);
        let Some(ServerFrame::Bye { code, retry_after_ms, .. }) = said.last() else { panic!("{said:?}") };
        assert_eq!((*code, *retry_after_ms), (ErrorCode::RateLimited, RETRY_FLOOD_MS));
        assert_eq!(world.clients[other.0].closed, None);
    }
}

#[test]
fn a_client_that_waits_as_it_is_told_is_never_closed_however_much_it_has_to_say() {
    let (mut world, _) = world();
    let link = world.connect(1, 1, Resume::Stored);
    world.take(link);
    let (mut next, last) = (1, 3_000);
    while next <= last {
        // As SPEC 8.1: a whole window, then wait for all answers and for as long as the first refusal says.
        for number in next..(next + SEND_WINDOW).min(last + 1) {
            world.send(link, number, 2, "x");
        }
        world.settle();
        assert_eq!(world.clients[link.0].closed, None, "at {next}");
        let frames = world.take(link);
        next += accepted(&frames).len() as u64;
        let wait_ms =
            refusals(&frames).iter().find(|refusal| refusal.1 == ErrorCode::RateLimited).map_or(0, |first| first.2);
        world.advance(wait_ms);
        world.take(link);
    }
}

#[test]
fn a_busy_person_notices_no_limit() {
    let (mut world, _) = world();
    let links: Vec<_> = (1..=3).map(|device| world.connect(1, device, Resume::Stored)).collect();
    let mut requests = 0;
    let mut numbers = [0; 3];
    // Ten minutes: a text a second, a new acquaintance every ten, two pages a second while scrolling, a device that reconnects.
    for second in 0..600_u64 {
        let device = (second % 3) as usize;
        let link = links[device];
        numbers[device] += 1;
        world.send(link, numbers[device], 100 + second / 10 + second % 2, "x");
        for _ in 0..2 {
            requests += 1;
            let (from, direction) = (Seq(0), Direction::Backwards);
            let request = RequestId(requests);
            world.frame(links[0], &ClientFrame::FetchLog { request, from, direction, limit: 50 });
        }
        world.settle();
        if second % 30 == 29 {
            let fourth = world.connect(1, 4, Resume::Live);
            world.disconnect(fourth);
        }
        world.advance(1_000);
        for link in &links {
            let frames = world.take(*link);
            assert_eq!(refusals(&frames), []);
            assert!(!frames.iter().any(|frame| matches!(frame, ServerFrame::Error { .. } | ServerFrame::Bye { .. })));
        }
    }
}

fn page(world: &mut World, link: Link, request: u64) -> Vec<ServerFrame> {
    let (from, direction) = (Seq(0), Direction::Backwards);
    world.frame(link, &ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 10 });
    world.settle();
    world.take(link)
}

fn is_overloaded(frame: &ServerFrame) -> bool {
    matches!(
        frame,
        ServerFrame::Refused { code: ErrorCode::Overloaded, retry_after_ms: 1.., .. }
            | ServerFrame::Error { code: ErrorCode::Overloaded, retry_after_ms: 1.., .. }
            | ServerFrame::Bye { code: ErrorCode::Overloaded, retry_after_ms: 1.., .. }
    )
}

/// What a send gets for an answer.
fn send(world: &mut World, link: Link, number: u64, to: u64) -> Vec<ServerFrame> {
    world.send(link, number, to, "x");
    world.settle();
    world.take(link)
}

#[test]
fn a_core_that_is_late_sheds_pages_and_one_that_is_very_late_sends_and_connections_too() {
    let mut world = World::new(1);
    let (alice, bob) = (world.connect(1, 1, Resume::Stored), world.connect(2, 1, Resume::Stored));
    world.take(alice);
    world.take(bob);
    let mut number = 0;
    let mut tries = |world: &mut World| {
        number += 1;
        let page = page(world, bob, number);
        let send = send(world, alice, number, 2);
        if accepted(&send).is_empty() {
            number -= 1;
        }
        let newcomer = world.connect(100 + number, 1, Resume::Stored);
        let greeting = world.take(newcomer);
        let delivered = world.take(bob);
        ([&page, &send, &greeting].map(|frames| is_overloaded(&frames[0])), offered(&delivered).len())
    };
    assert_eq!(tries(&mut world), ([false; 3], 1));
    world.lag(BUSY_TICK_MS);
    assert_eq!(tries(&mut world), ([true, false, false], 1));
    // What was accepted before is committed and pushed all the same.
    world.disk_stalled = true;
    world.send(alice, 3, 2, "on its way");
    world.lag(OVERLOADED_TICK_MS);
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(alice)).len(), 1);
    assert_eq!(offered(&world.take(bob)).len(), 1);
    world.acknowledge(bob, 3);
    assert_eq!(world.take(bob), [], "an acknowledgement is never shed");
    let shed = |world: &World, class| world.total(|core| core.shed.get(class, Reason::Time));
    let late =
        |world: &mut World| (page(world, bob, 9), send(world, alice, 4, 2), world.connect(300, 1, Resume::Stored));
    let (page, send, newcomer) = late(&mut world);
    assert!(is_overloaded(&page[0]) && is_overloaded(&send[0]) && is_overloaded(&world.take(newcomer)[0]));
    assert_eq!([Class::Read, Class::Login, Class::Send, Class::Push].map(|class| shed(&world, class)), [2, 1, 1, 0]);
    world.lag(TICK_MS);
    world.lag(TICK_MS);
    let (page, send, newcomer) = late(&mut world);
    assert!(![&page, &send, &world.take(newcomer)].iter().any(|frames| is_overloaded(&frames[0])));
}

/// A world whose core has little memory for clients, an honest couple, and a crowd that is written to and does not read.
fn crowded() -> (World, Link, Link, Vec<Link>) {
    let limits = Limits { memory_bytes: MEMORY_BYTES_MIN as usize, ..Limits::OFF };
    let mut world = World::limited(1, limits);
    let (alice, bob) = (world.connect(1, 1, Resume::Stored), world.connect(2, 1, Resume::Stored));
    let crowd = MEMORY_BYTES_MIN as usize / (OUTBOX_LIVE_BYTES_MAX / 2);
    let crowd: Vec<_> = (0..crowd as u64).map(|index| world.connect(1_000 + index, 1, Resume::Stored)).collect();
    world.take(alice);
    world.take(bob);
    for link in &crowd {
        world.clients[link.0].stuck = true;
    }
    (world, alice, bob, crowd)
}

#[test]
fn a_crowd_that_does_not_read_fills_no_more_than_the_memory_of_a_core() {
    let (mut world, alice, bob, crowd) = crowded();
    let mut number = 0;
    let text = "x".repeat(16_000);
    let mut firsts = [None; 2];
    let held = |world: &World| world.total(|core| core.held_bytes);
    for round in 0..20 {
        for index in 0..crowd.len() as u64 {
            world.send(alice, number + 1, 1_000 + index, &text);
            world.settle();
            let answer = world.take(alice);
            if is_overloaded(&answer[0]) {
                firsts[1].get_or_insert(held(&world));
                break;
            }
            number += 1;
            assert_eq!(accepted(&answer).len(), 1, "{round} {answer:?}");
            if is_overloaded(&page(&mut world, bob, number)[0]) {
                firsts[0].get_or_insert(held(&world));
            }
        }
        assert!(held(&world) <= MEMORY_BYTES_MIN + 64 * 1024, "{}", held(&world));
    }
    let [Some(first_page), Some(first_send)] = firsts else { panic!("{firsts:?}") };
    assert!(
        MEMORY_BYTES_MIN / 2 < first_page && first_page < first_send && MEMORY_BYTES_MIN / 4 * 3 < first_send,
        "{firsts:?}"
    );
    for class in [Class::Read, Class::Send] {
        assert!(world.total(|core| core.shed.get(class, Reason::Memory)) > 0, "{class:?}");
    }

    // Who has taken nothing between two looks is sent away; then there is room for everybody.
    world.advance(3 * STALLED_LOOK_MS);
    assert!(crowd.iter().any(|link| world.clients[link.0].closed == Some(Some(ErrorCode::SlowConsumer))));
    assert!(held(&world) <= MEMORY_BYTES_MIN / 2);
    assert_eq!([alice, bob].map(|link| world.clients[link.0].closed), [None, None]);
    assert_eq!(accepted(&send(&mut world, alice, number + 1, 2)).len(), 1);
    assert_eq!(offered(&world.take(bob)).len(), 1);
    assert_eq!(pages(&page(&mut world, bob, 1 << 20)).len(), 1);
}

#[test]
fn a_client_that_reads_slowly_is_not_closed_for_the_crowd_and_misses_nothing() {
    let (mut world, alice, _, crowd) = crowded();
    let slow = crowd[0];
    let text = "x".repeat(16_000);
    let mut number = 0;
    let mut got = 0;
    for _ in 0..400 {
        for index in 0..crowd.len() as u64 {
            if !accepted(&{
                world.send(alice, number + 1, 1_000 + index, &text);
                world.settle();
                world.take(alice)
            })
            .is_empty()
            {
                number += 1;
            }
        }
        // A phone on a bad line: some bytes every five seconds.
        world.drain(slow, 20_000);
        world.advance(STALLED_LOOK_MS / 2);
        got += offered(&world.take(slow)).len();
        if crowd[1..].iter().any(|link| world.clients[link.0].closed.is_some()) {
            break;
        }
    }
    assert!(crowd[1..].iter().any(|link| world.clients[link.0].closed.is_some()), "the others are closed");
    assert_eq!(world.clients[slow.0].closed, None);
    world.clients[slow.0].stuck = false;
    world.settle();
    got += offered(&world.take(slow)).len();
    assert_eq!(got, world.messages(1_000).len());
}

#[test]
fn pages_are_refused_while_there_is_room_for_connections() {
    let mut world = World::new(1);
    let readers: Vec<_> =
        (0..QUERIES_IN_FLIGHT_MAX as u64 / 8 + 1).map(|index| world.connect(10 + index, 1, Resume::Live)).collect();
    let writer = world.connect(1, 1, Resume::Live);
    for (index, _) in readers.iter().enumerate() {
        world.send(writer, index as u64 + 1, 10 + index as u64, "x");
        world.settle();
    }
    world.ingest();
    readers.iter().for_each(|link| drop(world.take(*link)));
    world.store_stalled = true;
    let mut refused = 0;
    for link in &readers {
        for request in 1..=4 {
            refused += page(&mut world, *link, request).iter().filter(|frame| is_overloaded(frame)).count();
        }
    }
    assert!((1..=4).contains(&refused), "{refused}");
    let newcomer = world.connect(5, 1, Resume::Stored);
    assert_eq!(world.take(newcomer), [], "it waits for the store");
    world.store_stalled = false;
    world.settle();
    assert!(matches!(world.take(newcomer)[0], ServerFrame::Welcome { .. }));
}
