//! What a shard promises about tokens that expire, are renewed or revoked. Time is an argument.

use proto_spec::{ClientFrame, ClientKind, ErrorCode, Resume, ServerFrame, TimestampMs};
use server::{
    limits::{RATE_BURST_S, REFRESHES_MAX, REFRESHES_PER_S},
    shard::Grant,
};
use tests::world::{Link, World};

const SECOND: u64 = 1_000;

/// A device of user 1 with a token that is good for so long.
fn connect(world: &mut World, device: u64, ttl_ms: u64) -> Link {
    let expires = TimestampMs(world.now.wall.0 + ttl_ms);
    let grant = Grant { expires, issued: world.now.wall };
    let link = world.connect_with(1, device, Resume::Stored, grant);
    world.settle();
    link
}

/// A device of user 1 sends a token that expires then.
fn refresh(world: &mut World, link: Link, expires: u64) {
    let token = world.token(1, TimestampMs(expires));
    refresh_with(world, link, &token);
}

fn refresh_with(world: &mut World, link: Link, token: &str) {
    world.frame(link, &ClientFrame::Refresh { token: token.to_owned() });
    world.settle();
}

/// What the client was told about its token. A warning comes within a tick or two, so what is left counts as the whole second.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    ExpiringIn(u64),
    Refreshed(u64),
    Refused(ErrorCode),
    Bye(ErrorCode),
}

fn told(world: &mut World, link: Link) -> Vec<Told> {
    let refused = ClientKind::Refresh.byte();
    let told = |frame| match frame {
        ServerFrame::TokenExpiring { expires_in_ms } => Some(Told::ExpiringIn(expires_in_ms.div_ceil(SECOND))),
        ServerFrame::Refreshed { expires } => Some(Told::Refreshed(expires.0)),
        ServerFrame::Error { code, kind, .. } if kind == refused => Some(Told::Refused(code)),
        ServerFrame::Bye { code, .. } => Some(Told::Bye(code)),
        _ => None,
    };
    world.take(link).into_iter().filter_map(told).collect()
}

#[test]
fn a_connection_is_warned_a_minute_before_its_token_expires_and_closed_when_the_leeway_is_over() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 100 * SECOND);
    world.advance(39 * SECOND);
    assert_eq!(told(&mut world, link), []);
    world.advance(2 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(60)]);
    world.advance(63 * SECOND);
    assert_eq!(told(&mut world, link), [], "once, and not closed within the leeway");
    world.advance(2 * SECOND);
    assert_eq!(told(&mut world, link), [Told::Bye(ErrorCode::TokenExpired)]);
    assert_eq!(world.clients[link.0].closed, Some(Some(ErrorCode::TokenExpired)));
}

#[test]
fn who_comes_with_less_than_a_minute_left_is_told_at_once() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 20 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(20)]);
}

#[test]
fn who_comes_with_a_token_that_has_expired_on_the_way_is_not_welcomed() {
    let mut world = World::new(1);
    let expires = TimestampMs(world.now.wall.0 - 6 * SECOND);
    let grant = Grant { expires, issued: TimestampMs(0) };
    let link = world.connect_with(1, 1, Resume::Stored, grant);
    world.settle();
    let frames = world.take(link);
    assert!(matches!(frames[..], [ServerFrame::Bye { code: ErrorCode::TokenExpired, .. }]), "{frames:?}");
}

#[test]
fn a_connection_goes_on_with_a_newer_token() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 70 * SECOND);
    world.advance(12 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(60)]);
    let expires = world.now.wall.0 + 80 * SECOND;
    refresh(&mut world, link, expires);
    assert_eq!(told(&mut world, link), [Told::Refreshed(expires)]);
    world.advance(41 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(40)], "of less than two minutes the second half");
    world.advance(46 * SECOND);
    assert_eq!(told(&mut world, link), [Told::Bye(ErrorCode::TokenExpired)]);
}

#[test]
fn a_token_that_is_refused_leaves_the_connection_to_the_one_it_has() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 50 * SECOND);
    refresh_with(&mut world, link, "no token");
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(50), Told::Refused(ErrorCode::TokenInvalid)]);
    let earlier = world.now.wall.0 + 10 * SECOND;
    let expires = world.now.wall.0 + 50 * SECOND;
    refresh(&mut world, link, earlier);
    assert_eq!(told(&mut world, link), [Told::Refreshed(expires)], "a token that expires earlier takes nothing away");
    world.advance(54 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(25)]);
    world.advance(2 * SECOND);
    assert_eq!(told(&mut world, link), [Told::Bye(ErrorCode::TokenExpired)]);
}

#[test]
fn a_connection_has_one_token_judged_at_a_time() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 500 * SECOND);
    world.audit_stalled = true;
    let expires = world.now.wall.0 + 900 * SECOND;
    refresh(&mut world, link, expires);
    refresh(&mut world, link, expires);
    assert_eq!(told(&mut world, link), [Told::Refused(ErrorCode::Overloaded)]);
    world.audit_stalled = false;
    world.settle();
    assert_eq!(told(&mut world, link), [Told::Refreshed(expires)]);
    refresh(&mut world, link, expires);
    assert_eq!(told(&mut world, link), [Told::Refreshed(expires)]);
}

#[test]
fn a_connection_does_not_send_tokens_without_end() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 500 * SECOND);
    let expires = world.now.wall.0 + 900 * SECOND;
    let mut renewed = 0;
    let refusal = loop {
        refresh(&mut world, link, expires);
        match told(&mut world, link)[..] {
            [Told::Refreshed(_)] => renewed += 1,
            [Told::Refused(code)] => break code,
            ref other => panic!("{other:?}"),
        }
    };
    assert_eq!((renewed, refusal), (u64::from(REFRESHES_PER_S) * RATE_BURST_S, ErrorCode::RateLimited));
    world.advance(1_000);
    told(&mut world, link);
    refresh(&mut world, link, expires);
    assert!(matches!(told(&mut world, link)[..], [Told::Refreshed(_)]), "a second later there is room for one");
}

#[test]
fn a_shard_has_a_bounded_number_of_tokens_judged_whatever_becomes_of_their_connections() {
    let mut world = World::new(1);
    let expires = world.now.wall.0 + 900 * SECOND;
    world.audit_stalled = true;
    let user_of = |index: usize| 1 + index as u64;
    let links: Vec<Link> =
        (0..=REFRESHES_MAX).map(|index| world.connect_only(user_of(index), 1, Resume::Stored)).collect();
    world.settle();
    for (index, link) in links.iter().enumerate() {
        let token = world.token(user_of(index), TimestampMs(expires));
        world.frame(*link, &ClientFrame::Refresh { token });
    }
    world.settle();
    let last = links[REFRESHES_MAX];
    let token = world.token(user_of(REFRESHES_MAX), TimestampMs(expires));
    assert_eq!(told(&mut world, last), [Told::Refused(ErrorCode::Overloaded)]);
    world.disconnect(links[0]);
    refresh_with(&mut world, last, &token);
    assert_eq!(told(&mut world, last), [Told::Refused(ErrorCode::Overloaded)], "the core still has that token");
    world.audit_stalled = false;
    world.judge_one();
    world.audit_stalled = true;
    refresh_with(&mut world, last, &token);
    world.audit_stalled = false;
    world.settle();
    assert_eq!(told(&mut world, last).len(), 1);
    assert_eq!(world.total(|core| core.refreshed), REFRESHES_MAX as u64);
}

#[test]
fn short_tokens_are_not_asked_for_in_a_circle() {
    let mut world = World::new(1);
    let link = connect(&mut world, 1, 30 * SECOND);
    assert_eq!(told(&mut world, link), [Told::ExpiringIn(30)]);
    let mut warnings = 0;
    for _ in 0..60 {
        let expires = world.now.wall.0 + 30 * SECOND;
        if told(&mut world, link).iter().any(|told| matches!(told, Told::ExpiringIn(_))) || warnings == 0 {
            warnings += 1;
            refresh(&mut world, link, expires);
        }
        world.advance(SECOND);
    }
    assert!((3..=5).contains(&warnings), "every fifteen seconds or so, not at once: {warnings}");
}

fn revoke(world: &mut World, device: Option<u64>, issued_up_to: TimestampMs) {
    world.revoke(1, device, issued_up_to);
    world.settle();
}

#[test]
fn a_revocation_ends_the_connections_of_the_user_or_the_device_and_of_nobody_else() {
    let mut world = World::new(1);
    let [phone, laptop] = [1, 2].map(|device| connect(&mut world, device, 900 * SECOND));
    let other = world.connect(2, 1, Resume::Stored);
    let now = world.now.wall;
    revoke(&mut world, Some(2), now);
    assert_eq!(told(&mut world, laptop), [Told::Bye(ErrorCode::Revoked)]);
    assert_eq!(told(&mut world, phone), []);
    revoke(&mut world, None, now);
    assert_eq!(told(&mut world, phone), [Told::Bye(ErrorCode::Revoked)]);
    assert_eq!(told(&mut world, other), []);
}

#[test]
fn who_has_a_token_that_was_issued_after_the_revocation_stays() {
    let mut world = World::new(1);
    let [old, renewed, new] = [1, 2, 3].map(|device| {
        world.now.wall.0 += u64::from(device == 3);
        connect(&mut world, device, 900 * SECOND)
    });
    let revoked_at = TimestampMs(world.now.wall.0 - 1);
    // Tokens expire with a whole second.
    let expires = world.now.wall.0 / SECOND * SECOND + 900 * SECOND;
    refresh(&mut world, renewed, expires);
    revoke(&mut world, None, revoked_at);
    assert_eq!(told(&mut world, old), [Told::Bye(ErrorCode::Revoked)]);
    assert_eq!(told(&mut world, renewed), [Told::Refreshed(expires)]);
    assert_eq!(told(&mut world, new), []);
}

#[test]
fn a_revocation_reaches_a_connection_whose_user_is_being_loaded() {
    let mut world = World::new(1);
    world.store_stalled = true;
    let link = connect(&mut world, 1, 900 * SECOND);
    let now = world.now.wall;
    revoke(&mut world, None, now);
    assert_eq!(told(&mut world, link), [Told::Bye(ErrorCode::Revoked)]);
    world.store_stalled = false;
    world.settle();
    assert_eq!(world.total(|core| core.users), 0);
}
