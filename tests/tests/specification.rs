//! Sentences of SPEC.md that a client's author may lean on, each beside what shows it. Whole rules have tests of their own; these
//! are the corners.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto_spec::{
    ClientFrame, ClientKind, Content, DeviceId, Direction, ErrorCode, RequestId, Resume, SendNumber, Seq, TimestampMs,
    UserId, limits::SEND_WINDOW,
};
use serde_json::{Value, json};
use server::{
    access::{
        auth::{Keys, TokenError},
        handshake::{Handshake, Step},
        revocation::{Change, Revocations, Subject},
    },
    config::Auth,
    limits,
    shard::Admission,
};
use tests::{
    frames::{accepted, pages, refused, two_people},
    spec,
    world::World,
};

#[test]
fn a_refusal_may_overtake_and_the_last_expected_counts() {
    spec::says("A `refused` may overtake the `accepted` of sends before it");
    spec::says("Of several `expected` on a connection the last one counts.");
    let (mut world, a, _, _, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "one");
    world.send(a, 3, bob, "three");
    world.send(a, 2, bob, "two");
    world.send(a, 3, bob, "");
    world.settle();
    let early = world.take(a);
    assert_eq!(refused(&early), [(3, ErrorCode::SendGap, 2), (3, ErrorCode::TextLength, 3)]);
    assert_eq!(accepted(&early), []);
    // What has its number and no answer may be lost.
    world.crash(1);
    let again = world.connect(1, 1, Resume::Stored);
    world.send(again, 1, bob, "one");
    world.disk_stalled = false;
    world.settle();
    assert_eq!(accepted(&world.take(again)), [(1, 1)]);
}

#[test]
fn what_is_wrong_with_a_send_is_looked_for_in_the_order_that_is_written() {
    spec::says(
        "a number that has been accepted before (answered as then, or `number_used`, 8.1), one that is void (`given_up`), a number that is not the next one (`send_gap`), `recipient`, `content_kind`, `text_length`, `content_limits`, what the server cannot take now",
    );
    spec::says("window, rates and what the server does while its store is away are for new sends");
    let (mut world, a, _, _, bob) = two_people();
    world.send(a, 1, bob, "one");
    world.settle();
    world.take(a);
    world.admission(Admission::Full);
    let odd = || Content::Unknown { kind: 77, body: Vec::new().into() };
    let (empty, text) = (|| Content::text(""), || Content::text("x"));
    for (number, to, content, code) in [
        (1, bob, Content::text("one"), None),
        (1, 0, empty(), Some(ErrorCode::NumberUsed)),
        (3, 0, empty(), Some(ErrorCode::SendGap)),
        (2, 0, odd(), Some(ErrorCode::Recipient)),
        (2, bob, odd(), Some(ErrorCode::ContentKind)),
        (2, bob, empty(), Some(ErrorCode::TextLength)),
        (2, bob, Content::opaque(b""), Some(ErrorCode::ContentLimits)),
        (2, bob, text(), Some(ErrorCode::StorageFull)),
    ] {
        world.frame(a, &ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content });
        world.settle();
        let frames = world.take(a);
        let codes: Vec<_> = refused(&frames).into_iter().map(|(_, code, _)| code).collect();
        assert_eq!((codes.first().copied(), accepted(&frames).len()), (code, usize::from(code.is_none())));
    }
    world.admission(Admission::Open);
    world.disk_stalled = true;
    (2..SEND_WINDOW + 2).for_each(|number| world.send(a, number, bob, "fills the window"));
    world.admission(Admission::Full);
    world.send(a, SEND_WINDOW + 2, bob, "no room, and no place in the window");
    world.send(a, 1, bob, "one");
    world.settle();
    let frames = world.take(a);
    assert_eq!(refused(&frames), [(SEND_WINDOW + 2, ErrorCode::StorageFull, SEND_WINDOW + 2)]);
    assert_eq!(accepted(&frames), [(1, 1)]);
}

#[test]
fn two_fetches_with_one_request_get_two_answers() {
    spec::says("two fetches with one request get two answers with it");
    let (mut world, a, _, _, bob) = two_people();
    world.send(a, 1, bob, "one");
    world.settle();
    world.take(a);
    for _ in 0..2 {
        let (request, from, direction) = (RequestId(5), Seq(0), Direction::Forwards);
        world.frame(a, &ClientFrame::FetchLog { request, from, direction, limit: 1 });
    }
    world.settle();
    let requests: Vec<_> = pages(&world.take(a)).into_iter().map(|page| page.request).collect();
    assert_eq!(requests, [RequestId(5); 2]);
}

const SECRET: &[u8] = b"thirty-two bytes of a secret, ok";
const NOW_S: u64 = 1_800_000_000;
const NOW: TimestampMs = TimestampMs(NOW_S * 1_000);

fn keys() -> Keys {
    Keys::default().with_hs256_secret(SECRET).unwrap()
}

/// A token for user 7 with these claims beside.
fn token(more: Value) -> String {
    let mut claims = json!({ "sub": "7", "exp": NOW_S + 60 });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

#[test]
fn a_token_is_read_as_it_is_written() {
    spec::says("in its one spelling: no sign, no leading zeros, no spaces. A number instead of a string is refused");
    for sub in [json!("+7"), json!("07"), json!(" 7"), json!(7)] {
        assert_eq!(keys().verify(&token(json!({ "sub": sub })), NOW), Err(TokenError::Claims), "{sub}");
    }
    assert_eq!(TokenError::Claims.code(), ErrorCode::TokenInvalid);
    spec::says("A time that no clock reaches, as 1e300, means for ever");
    assert!(keys().verify(&token(json!({ "exp": 1e300 })), TimestampMs(u64::MAX / 2)).is_ok());
    spec::says("`null` is as if the claim were not there, here and for all claims that are not required");
    let nothing = json!({ "aud": null, "iss": null, "nbf": null, "iat": null, "device": null });
    assert!(keys().verify(&token(nothing.clone()), NOW).is_ok());
    assert_eq!(keys().with_audience(Some("us")).verify(&token(nothing), NOW), Err(TokenError::Audience));
    assert_eq!(keys().verify(&token(json!({ "exp": null })), NOW), Err(TokenError::Claims));
}

#[test]
fn the_same_leeway_counts_at_all_times_of_a_token() {
    spec::says(
        "it is good so much earlier than `nbf` and `iat` and so much later than `exp` say. How many they are the operator sets; 30, if nothing else is set.",
    );
    let leeway_s = Auth::default().leeway_s;
    assert_eq!(leeway_s, 30);
    let keys = keys().with_leeway(Duration::from_secs(leeway_s));
    for (claim, last_good_s, refusal) in [
        ("nbf", NOW_S + leeway_s, TokenError::NotYet),
        ("iat", NOW_S + leeway_s, TokenError::NotYet),
        ("exp", NOW_S - leeway_s + 1, TokenError::Expired),
    ] {
        let of = |seconds: u64| {
            let mut claims = json!({});
            claims[claim] = json!(seconds);
            keys.verify(&token(claims), NOW).err()
        };
        assert_eq!(of(last_good_s), None, "{claim}");
        let bad_s = if claim == "exp" { last_good_s - 1 } else { last_good_s + 1 };
        assert_eq!(of(bad_s), Some(refusal), "{claim}");
    }
}

#[test]
fn a_token_without_a_fraction_of_the_second_of_a_revocation_is_void() {
    spec::says("in the second of the revocation, one whose `iat` has no fraction was not.");
    let mut revocations = Revocations::default();
    revocations.apply(Change::Revoke(Subject { user: UserId(7), device: None }, TimestampMs(NOW.0 + 400)));
    let is_revoked = |iat: f64| {
        let claims = keys().verify(&token(json!({ "iat": iat })), TimestampMs(NOW.0 + 900)).unwrap();
        revocations.is_revoked(UserId(7), DeviceId(1), claims.issued)
    };
    assert!(is_revoked(NOW_S as f64) && is_revoked(NOW_S as f64 + 0.4));
    assert!(!is_revoked(NOW_S as f64 + 0.401));
}

#[test]
fn a_bye_before_the_hello_is_not_now() {
    spec::says("any other kind, known or not, a `bye` among them, is answered with bye `not_now`");
    let step = Handshake::new().bytes(&[1, ClientKind::Bye.byte()], &keys(), NOW);
    assert!(matches!(step, Step::Refuse { code: ErrorCode::NotNow, .. }), "{step:?}");
}

#[test]
fn numbers_of_the_server_that_clients_meet_are_in_the_specification() {
    spec::says(&format!(
        "A user has at most {} devices: all that ever connected and were not removed",
        limits::DEVICES_MAX
    ));
    assert_eq!(limits::ADDRESS_ABUSE_FACTOR, 2);
    spec::says("An address that has twice as many connections as it may is closed without a bye.");
    assert_eq!(limits::OUTBOX_BYTES_MAX, 1024 * 1024);
    spec::says("makes more than 1 MiB of answers");
    assert_eq!((limits::SLOW_CONSUMER_PARTS, limits::CLOSE_FLUSH_MS), (2, 3_000));
    spec::says("waits three seconds at most for what is left to be read");
    let mut world = World::new(1);
    (1..=limits::DEVICES_MAX as u64).for_each(|device| {
        let link = world.connect(1, device, Resume::Stored);
        world.disconnect(link);
    });
    let link = world.connect(1, 1_000, Resume::Stored);
    assert_eq!(world.clients[link.0].closed, Some(Some(ErrorCode::DeviceRefused)), "also when the others have gone");
}

#[test]
fn so_many_epochs_are_remembered_as_the_specification_says() {
    spec::says(&format!("A server remembers the last {} epochs of a log", limits::EPOCHS_MAX));
}
