//! What APNs is sent.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Version};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto_spec::{ConversationId, GroupId, TimestampMs, UserId};
use push::{
    Kind, Notice, Outcome, Provider, Refusal, Settings, Show, Trouble,
    hosts::HostRules,
    keys::{ApnsKey, VapidKey},
    settings::{Apns, BadSubscription},
};
use serde_json::{Value, json};

use crate::{
    endpoint::{Authority, Endpoint, Reply, Seen, Speaks},
    world::{World, clear, message, settings},
};

fn apns(authority: &Authority, port: u16) -> (Settings, DecodingKey) {
    let pem = VapidKey::generate_pem();
    let public = *VapidKey::from_pem(pem.as_bytes()).unwrap().public();
    let encode = |half: &[u8]| URL_SAFE_NO_PAD.encode(half);
    let public = DecodingKey::from_ec_components(&encode(&public[1..33]), &encode(&public[33..])).unwrap();
    let apns = Apns {
        key: ApnsKey::from_pem(pem.as_bytes(), "ABC123DEFG", "DEF123GHIJ").unwrap(),
        topic: "org.ringpost.app".parse().unwrap(),
        url: format!("https://localhost:{port}").parse().unwrap(),
    };
    (Settings { apns: Some(apns), ..settings(authority.roots()) }, public)
}

const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

fn provider() -> Provider {
    Provider::Apns { token: DEVICE.to_owned() }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[test]
fn an_alert_is_sent_with_a_signed_token_and_the_headers_that_apple_wants() {
    let authority = Authority::new();
    let apple = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(200));
    let (settings, public) = apns(&authority, apple.port);
    let world = World::start(settings);
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
    let seen = apple.seen();
    assert_eq!((&seen.method, seen.version), (&Method::POST, Version::HTTP_2));
    assert_eq!(seen.path, format!("/3/device/{DEVICE}"));
    for (name, value) in [("apns-topic", "org.ringpost.app"), ("apns-push-type", "alert"), ("apns-priority", "10")] {
        assert_eq!(seen.header(name), value);
    }
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    let token = seen.header("authorization").strip_prefix("bearer ").unwrap();
    let token = jsonwebtoken::decode::<Value>(token, &public, &validation).unwrap();
    assert_eq!(token.header.kid.as_deref(), Some("ABC123DEFG"));
    let issued_s = token.claims["iat"].as_u64().unwrap();
    assert_eq!(token.claims, json!({ "iss": "DEF123GHIJ", "iat": issued_s }));
    let until_s: u64 = seen.header("apns-expiration").parse().unwrap();
    assert!((issued_s + 3500..=issued_s + 3700).contains(&until_s));
    let tag = seen.header("apns-collapse-id");
    assert!(tag.len() <= 64);
    assert_eq!(
        body(&seen),
        json!({
            "aps": {
                "alert": { "title-loc-key": "RINGPOST_FROM", "title-loc-args": ["8"], "body": "Are you there?" },
                "mutable-content": 1, "sound": "default", "thread-id": tag,
            },
            "ringpost": { "v": 1, "tag": tag, "at": 1_764_531_000_123_u64, "count": 2, "conversation": "8", "from": "8" },
        })
    );
}

#[test]
fn an_alert_says_what_the_user_allows_and_a_clear_shows_nothing() {
    let authority = Authority::new();
    let apple = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(200));
    let world = World::start(apns(&authority, apple.port).0);
    for (show, alert) in [
        (Show::Nothing, json!({ "loc-key": "RINGPOST_UNREAD", "loc-args": ["2"] })),
        (
            Show::Sender,
            json!({ "title-loc-key": "RINGPOST_FROM", "title-loc-args": ["8"], "loc-key": "RINGPOST_UNREAD", "loc-args": ["2"] }),
        ),
    ] {
        let mut notice = message(1, provider());
        notice.subscription.show = show;
        assert_eq!(world.outcome_of(notice), Outcome::Delivered);
        assert_eq!(body(&apple.seen())["aps"]["alert"], alert);
    }
    assert_eq!(world.outcome_of(clear(1, provider())), Outcome::Delivered);
    let seen = apple.seen();
    assert_eq!((seen.header("apns-push-type"), seen.header("apns-priority")), ("background", "5"));
    assert_eq!(
        body(&seen),
        json!({
            "aps": { "content-available": 1 },
            "ringpost": { "v": 1, "tag": seen.header("apns-collapse-id"), "at": 1_764_531_000_123_u64, "clear": true },
        })
    );
}

#[test]
fn the_document_shows_the_body_that_apple_gets() {
    let authority = Authority::new();
    let apple = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(200));
    let world = World::start(apns(&authority, apple.port).0);
    let kind = Kind::Message { from: UserId(7), text: Some("Are you there?".to_owned()), count: 3 };
    let (conversation, at) = (ConversationId::Group(GroupId(12)), TimestampMs(1_764_531_000_000));
    assert_eq!(world.outcome_of(Notice { kind, conversation, at, ..message(1, provider()) }), Outcome::Delivered);
    let seen = apple.seen();
    let body = String::from_utf8(seen.body.clone()).unwrap().replace(seen.header("apns-collapse-id"), "TAG");
    let document = include_str!("../../../../docs/PUSH.md");
    assert!(document.contains(&format!("```json\n{body}\n```")), "docs/PUSH.md should show: {body}");
}

#[test]
fn the_largest_notice_has_no_more_than_apple_takes() {
    let authority = Authority::new();
    let apple = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(200));
    let world = World::start(apns(&authority, apple.port).0);
    for text in ["\u{1}", "x", "好"] {
        let kind = Kind::Message { from: UserId(u64::MAX), text: Some(text.repeat(16 * 1024)), count: u64::MAX };
        assert_eq!(world.outcome_of(Notice { kind, ..message(1, provider()) }), Outcome::Delivered);
        let length = apple.seen().body.len();
        assert!(length > 3000 && length <= 4096, "{length} bytes");
    }
}

#[test]
fn answers_mean_what_apple_says_that_they_mean() {
    let authority = Authority::new();
    let refused = |status, word: &str| Outcome::Refused(Refusal::Answer { status, reason: Some(word.to_owned()) });
    for (status, word, outcome) in [
        (410, "Unregistered", Outcome::Gone),
        (410, "ExpiredToken", Outcome::Gone),
        (400, "BadDeviceToken", refused(400, "BadDeviceToken")),
        (403, "InvalidProviderToken", refused(403, "InvalidProviderToken")),
        (413, "PayloadTooLarge", refused(413, "PayloadTooLarge")),
    ] {
        let apple = Endpoint::start(&authority, Speaks::Http2, move |_, _| {
            Reply::With(status, &[], json!({ "reason": word }).to_string())
        });
        let world = World::start(apns(&authority, apple.port).0);
        assert_eq!(world.outcome_of(message(1, provider())), outcome);
        assert_eq!(apple.seen_meanwhile().len(), 1);
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    let authority = Authority::new();
    for (status, word) in
        [(403, "ExpiredProviderToken"), (429, "TooManyRequests"), (500, "InternalServerError"), (503, "Shutdown")]
    {
        let apple = Endpoint::start(&authority, Speaks::Http2, move |_, before| match before {
            0 => Reply::With(status, &[], json!({ "reason": word }).to_string()),
            _ => Reply::Status(200),
        });
        let world = World::start(apns(&authority, apple.port).0);
        assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
        let tokens = [apple.seen(), apple.seen()].map(|seen| seen.header("authorization").to_owned());
        // Signatures of this kind differ each time, so another one is a new token.
        assert_eq!(tokens[0] != tokens[1], status == 403);
    }
    let apple = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(503));
    let world = World::start(apns(&authority, apple.port).0);
    let notice = Notice { ttl: std::time::Duration::from_secs(1), ..message(1, provider()) };
    assert_eq!(world.outcome_of(notice), Outcome::Expired { last: Some(Trouble::Status(503)) });
}

#[test]
fn keys_ids_and_tokens_that_are_none_are_refused() {
    let pem = VapidKey::generate_pem();
    assert!(ApnsKey::from_pem(b"text", "ABC", "DEF").is_err());
    assert!(ApnsKey::from_pem(pem.replace("PRIVATE", "PUBLIC").as_bytes(), "ABC", "DEF").is_err());
    assert!(ApnsKey::from_pem(pem.as_bytes(), "", "DEF").is_err());
    assert!(ApnsKey::from_pem(pem.as_bytes(), "ABC", "D/F").is_err());
    for token in ["", "xyz", "../../3/device"] {
        let provider = Provider::Apns { token: token.to_owned() };
        assert_eq!(provider.check(&HostRules::default()), Err(BadSubscription::Token(push::ProviderKind::Apns)));
    }
}
