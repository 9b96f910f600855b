use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use proto_spec::{DeviceId, TimestampMs, UserId};
use serde_json::json;

use super::{apns, fcm, web_push, *};
use crate::{
    encryption::Fresh,
    hosts::HostRules,
    keys::{ApnsKey, BundleId, VapidKey},
    notice::{Kind, Provider, Show, Subscription, Urgency},
    settings::{Apns, Contact, ServiceUrl, WebPush},
};

const HOUR_S: u64 = 3600;
const START_S: u64 = 1_764_531_000;

fn notice(provider: Provider) -> Notice {
    Notice {
        ticket: 1,
        user: UserId(7),
        device: DeviceId(1),
        subscription: Subscription { provider, show: Show::Nothing },
        conversation: UserId(8).into(),
        kind: Kind::Clear,
        at: TimestampMs(0),
        ttl: Duration::from_secs(60),
        urgency: Urgency::Normal,
    }
}

fn answer(status: u16, retry_after: &str, body: &str) -> Answer {
    let headers = [(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap())].into_iter().collect();
    Answer::new(StatusCode::from_u16(status).unwrap(), &headers, Bytes::copy_from_slice(body.as_bytes()), START_S)
}

#[test]
fn retry_after_is_a_number_of_seconds_or_a_date_and_else_nothing() {
    for (value, wait) in [
        ("0", Some(0)),
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("Sun, 30 Nov 2025 19:31:00 GMT", Some(60)),
        ("Sun, 30 Nov 2025 19:29:00 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("99999999999999999999999", None),
    ] {
        assert_eq!(answer(429, value, "").retry_after, wait.map(Duration::from_secs), "{value:?}");
    }
    // The longest that there is makes no sum overflow.
    let longest = answer(429, &u64::MAX.to_string(), "").verdict(None);
    assert_eq!(longest, Verdict::Again(Trouble::Status(429), Some(Duration::from_secs(u64::MAX))));
}

/// The token that a push service would be shown at a time.
fn vapid(tokens: &mut web_push::Tokens, settings: &WebPush, endpoint: &str, now_s: u64) -> HeaderValue {
    let mut p256dh = [0; 65];
    p256dh.copy_from_slice(settings.key.public());
    let notice = notice(Provider::WebPush { endpoint: endpoint.to_owned(), p256dh, auth: [0; 16] });
    let going = Going { notice: &notice, tag: "tag", ttl_s: 1, now_s };
    let sending = web_push::request(settings, tokens, &going, &Fresh::by_chance()).unwrap();
    sending.request.headers()[header::AUTHORIZATION].clone()
}

#[test]
fn a_push_service_is_shown_the_same_token_for_some_hours_and_each_its_own() {
    let key = VapidKey::from_pem(VapidKey::generate_pem().as_bytes()).unwrap();
    let mut hosts = HostRules::default();
    hosts.outside.push("push.ringpost.test:8443".parse().unwrap());
    let settings = WebPush { key, contact: "mailto:push@ringpost.test".parse().unwrap(), hosts };
    let mut tokens = web_push::Tokens::default();
    let mut at = |endpoint, now_s| vapid(&mut tokens, &settings, endpoint, now_s);

    let first = at("https://fcm.googleapis.com/one", START_S);
    assert_eq!(at("https://fcm.googleapis.com/two", START_S + 6 * HOUR_S - 1), first);
    assert_eq!(at("https://FCM.googleapis.com:443/two", START_S), first);
    assert_ne!(at("https://web.push.apple.com/", START_S), first);
    let second = at("https://fcm.googleapis.com/one", START_S + 6 * HOUR_S);
    assert_ne!(second, first);
    // A clock that was set back makes no token that is good for days.
    assert_ne!(at("https://fcm.googleapis.com/one", START_S), second);

    let audience = |header: HeaderValue| {
        let token = header.to_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token).unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["aud"].clone()
    };
    assert_eq!(audience(first), "https://fcm.googleapis.com");
    assert_eq!(audience(at("https://push.ringpost.test:8443/", START_S)), "https://push.ringpost.test:8443");
}

#[test]
fn apple_is_shown_the_same_token_for_forty_minutes_unless_it_does_not_take_it() {
    let settings = Apns {
        key: ApnsKey::from_pem(VapidKey::generate_pem().as_bytes(), "KEY", "TEAM").unwrap(),
        topic: "org.ringpost.app".parse().unwrap(),
        url: "https://api.push.apple.com".parse().unwrap(),
    };
    let notice = notice(Provider::Apns { token: "00ff".to_owned() });
    let mut token = apns::Token::default();
    let at = |token: &mut apns::Token, now_s| {
        let going = Going { notice: &notice, tag: "tag", ttl_s: 1, now_s };
        apns::request(&settings, token, &going).unwrap().request.headers()[header::AUTHORIZATION].clone()
    };
    let first = at(&mut token, START_S);
    assert_eq!(at(&mut token, START_S + 40 * 60 - 1), first);
    let second = at(&mut token, START_S + 40 * 60);
    assert_ne!(second, first);
    token.forget();
    assert_ne!(at(&mut token, START_S + 40 * 60), second);
}

#[test]
fn a_token_of_google_s_is_used_until_shortly_before_its_end() {
    let token = |status, body: &str| fcm::token(&answer(status, "", body), START_S);
    let good = token(200, r#"{"access_token":"ya29.x","expires_in":3599}"#).unwrap();
    assert!(good.is_good(START_S + 3298) && !good.is_good(START_S + 3299));
    assert!(!token(200, r#"{"access_token":"ya29.x","expires_in":10}"#).unwrap().is_good(START_S));
    for (status, body) in [
        (400, r#"{"access_token":"ya29.x","expires_in":3599}"#),
        (200, r#"{"access_token":"","expires_in":3599}"#),
        (200, r#"{"access_token":"two words","expires_in":3599}"#),
        (200, r#"{"access_token":"x"}"#),
        (200, "html"),
    ] {
        assert_eq!(token(status, body), None, "{body}");
    }
}

#[test]
fn a_reason_is_a_line_that_can_be_shown_and_no_longer_than_a_log_likes() {
    for (body, shown) in [
        ("", None),
        ("\u{1b}[2J", None),
        ("BadToken\r\nmore", Some("BadToken")),
        (&"x".repeat(200), Some(&*"x".repeat(REASON_BYTES_MAX))),
    ] {
        assert_eq!(answer(400, "", body).words().as_deref(), shown);
    }
}

#[test]
fn urls_contacts_and_bundle_ids_are_read_and_others_refused_with_what_to_write() {
    for url in ["http://gateway", "https://gateway.test:8443/a/b?c=d", "https://[::1]/"] {
        assert!(url.parse::<ServiceUrl>().is_ok(), "{url}");
    }
    for url in [
        "",
        "/path",
        "gateway.test",
        "ftp://gateway.test",
        "https://user:secret@gateway.test/",
        "https://gateway.test/#x",
    ] {
        assert!(url.parse::<ServiceUrl>().is_err(), "{url}");
    }
    let joined = |url: &str| url.parse::<ServiceUrl>().unwrap().joined("/v1/x").to_string();
    assert_eq!(joined("https://fcm.googleapis.com"), "https://fcm.googleapis.com/v1/x");
    assert_eq!(joined("http://localhost:1/below/"), "http://localhost:1/below/v1/x");

    for contact in ["mailto:push@ringpost.test", "https://ringpost.test/contact"] {
        assert!(contact.parse::<Contact>().is_ok(), "{contact}");
    }
    for contact in [
        "",
        "push@ringpost.test",
        "mailto:",
        "mailto:push",
        "mailto:@ringpost.test",
        "mailto:push@localhost",
        "https://localhost",
        "mailto:mail@example.com",
        "https://example.com/",
        "http://ringpost.test",
        "mailto:a b@ringpost.test",
    ] {
        assert!(contact.parse::<Contact>().is_err(), "{contact}");
    }
    assert!("org.ringpost.app".parse::<BundleId>().is_ok());
    for id in ["", "two words", "a\r\nb: c", "a/b"] {
        assert!(id.parse::<BundleId>().is_err(), "{id:?}");
    }
}

#[test]
fn what_fcm_answers_is_read_however_little_of_it_there_is() {
    for (status, body, verdict) in [
        (200, "not even json", Verdict::Final(Outcome::Delivered)),
        (401, "{}", Verdict::Again(Trouble::Token, None)),
        (404, "", Verdict::Final(Outcome::Refused(Refusal::Answer { status: 404, reason: None }))),
    ] {
        assert_eq!(fcm::verdict(&answer(status, "", body)), verdict);
    }
    let body = json!({ "error": { "details": [{}, { "errorCode": "UNREGISTERED" }] } }).to_string();
    assert_eq!(fcm::verdict(&answer(404, "", &body)), Verdict::Final(Outcome::Gone));
}
