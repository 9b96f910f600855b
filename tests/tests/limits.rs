//! Limits: each holds, and who stays below it notices nothing. The defaults of the configuration, against shards with time as an
//! argument. `docs/SECURITY.md` has the table.

use proto_spec::{ClientFrame, Direction, ErrorCode, RequestId, Resume, Seq, ServerFrame, limits::SEND_WINDOW};
use server::{
    config,
    limits::{RATE_BURST_S, RECENT_PEERS_MAX, RETRY_FLOOD_MS},
};
use tests::{
    frames::{accepted, pages},
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
    ClientFrame::Send { number, to, content: proto_spec::Content::text("x") }.encode(&mut gap);
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
