//! What a gateway is sent, and how it knows that it is from here.

use std::{io::Write, process::Stdio};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use proto_spec::TimestampMs;
use push::{Notice, Outcome, Provider, Refusal, Settings, Urgency, keys::WebhookKey, settings::Webhook};
use serde_json::{Value, json};

use crate::{
    endpoint::{Authority, Endpoint, Reply, Seen, Speaks},
    world::{World, clear, message, settings},
};

const KEY: &[u8; 32] = b"a secret that two of us have got";

fn webhook(authority: &Authority, url: &str) -> Settings {
    let key = WebhookKey::from_text(&format!("whsec_{}", STANDARD.encode(KEY))).unwrap();
    Settings { webhook: Some(Webhook { url: url.parse().unwrap(), key }), ..settings(authority.roots()) }
}

fn provider() -> Provider {
    Provider::Webhook { token: "device-1".to_owned() }
}

/// As a gateway checks it.
fn is_signed(seen: &Seen, key: &[u8]) -> bool {
    let signature = STANDARD.decode(seen.header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let signed = [seen.header("webhook-id"), ".", seen.header("webhook-timestamp"), "."].concat();
    let signed = [signed.as_bytes(), &seen.body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed, &signature).is_ok()
}

#[test]
fn a_gateway_gets_a_signed_request_that_it_can_verify() {
    let authority = Authority::new();
    for (speaks, scheme) in [(Speaks::Http1, "https"), (Speaks::Http2, "https"), (Speaks::Plain, "http")] {
        let gateway = Endpoint::start(&authority, speaks, |_, _| Reply::Status(200));
        let world = World::start(webhook(&authority, &format!("{scheme}://localhost:{}/ringpost?x=1", gateway.port)));
        assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
        let mut seen = gateway.seen();
        assert_eq!((&seen.method, seen.path.as_str()), (&Method::POST, "/ringpost?x=1"));
        assert_eq!(seen.header("content-type"), "application/json");
        assert!(is_signed(&seen, KEY) && !is_signed(&seen, b"another key"));
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let tag = body["notice"]["tag"].as_str().unwrap();
        let ttl = body["ttl"].as_u64().unwrap();
        assert!((3500..=3600).contains(&ttl));
        assert_eq!(
            body,
            json!({
                "token": "device-1",
                "ttl": ttl,
                "urgency": "high",
                "notice": {
                    "v": 1, "tag": tag, "at": 1_764_531_000_123_u64, "count": 2,
                    "conversation": "8", "from": "8", "text": "Are you there?",
                },
            })
        );
        seen.body[20] ^= 1;
        assert!(!is_signed(&seen, KEY));
    }
}

/// What stands in the document between these two lines.
fn of_the_document(begin: &str, end: &str) -> &'static str {
    let document = include_str!("../../../../docs/PUSH.md");
    document.split_once(begin).unwrap().1.split_once(end).unwrap().0
}

#[test]
fn the_document_s_example_takes_a_request_and_refuses_one_that_was_changed_or_is_old() {
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(200));
    let world = World::start(webhook(&authority, &format!("https://localhost:{}/", gateway.port)));
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
    let seen = gateway.seen();
    let name = |name| (name, seen.header(name));
    let headers: std::collections::BTreeMap<&str, &str> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(name).into();
    let (headers, body) = (json!(headers), String::from_utf8(seen.body.clone()).unwrap());
    let secret = format!("whsec_{}", STANDARD.encode(KEY));
    let example = of_the_document("```python\n", "```");
    let program = format!(
        "{example}\nimport json, sys\nsecret, headers, body = json.load(sys.stdin)\nbody = body.encode()\n\
         print(is_from_ringpost(secret, headers, body), is_from_ringpost(secret, headers, body + b' '))\n\
         headers['webhook-timestamp'] = str(int(headers['webhook-timestamp']) - 301)\n\
         print(is_from_ringpost(secret, headers, body))\n"
    );
    let mut python = std::process::Command::new("python3");
    let python = python.args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("Python 3 is installed");
    python.stdin.take().unwrap().write_all(json!([secret, headers, body]).to_string().as_bytes()).unwrap();
    let said = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, "True False\nFalse\n");
}

#[test]
fn the_document_shows_the_body_that_a_gateway_gets() {
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(200));
    let world = World::start(webhook(&authority, &format!("https://localhost:{}/", gateway.port)));
    let notice = Notice { at: TimestampMs(1_764_531_000_000), urgency: Urgency::High, ..clear(1, provider()) };
    assert_eq!(world.outcome_of(notice), Outcome::Delivered);
    let body = String::from_utf8(gateway.seen().body).unwrap();
    let parts: Value = serde_json::from_str(&body).unwrap();
    // What differs each time.
    let (tag, ttl) = (parts["notice"]["tag"].as_str().unwrap(), parts["ttl"].to_string());
    let shown = of_the_document("at any address. The body:\n\n```json\n", "\n```");
    assert_eq!(body.replace(tag, "TAG").replace(&ttl, "3600"), shown);
}

#[test]
fn a_repetition_has_the_same_id_and_another_notice_another() {
    let authority = Authority::new();
    let gateway =
        Endpoint::start(&authority, Speaks::Http1, |_, before| Reply::Status(if before < 2 { 503 } else { 200 }));
    let world = World::start(webhook(&authority, &format!("https://localhost:{}/", gateway.port)));
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
    assert_eq!(world.outcome_of(clear(1, provider())), Outcome::Delivered);
    let ids: Vec<String> = (0..4).map(|_| gateway.seen().header("webhook-id").to_owned()).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
}

#[test]
fn a_gateway_may_name_a_device_anew_or_say_that_it_is_gone() {
    let authority = Authority::new();
    let refused = |status| Outcome::Refused(Refusal::Answer { status, reason: None });
    for (status, body, outcome) in [
        (200, r#"{"token":"device-2"}"#, Outcome::Replaced(Provider::Webhook { token: "device-2".to_owned() })),
        (200, r#"{"token":""}"#, Outcome::Delivered),
        (200, r#"{"token":"two words"}"#, Outcome::Delivered),
        (200, "{", Outcome::Delivered),
        (204, "", Outcome::Delivered),
        (410, "", Outcome::Gone),
        (404, "", refused(404)),
        (401, "", refused(401)),
    ] {
        let gateway = Endpoint::start(&authority, Speaks::Http1, move |_, _| Reply::With(status, &[], body.to_owned()));
        let world = World::start(webhook(&authority, &format!("https://localhost:{}/", gateway.port)));
        assert_eq!(world.outcome_of(message(1, provider())), outcome, "{status} {body}");
    }
}

#[test]
fn keys_are_read_as_they_are_written_and_short_ones_refused() {
    for text in
        ["", "whsec_", "whsec_AAAA", "whsec_!", &STANDARD.encode(KEY), &format!("whsec_{}", STANDARD.encode([0; 65]))]
    {
        assert!(WebhookKey::from_text(text).is_err(), "{text}");
    }
    assert!(WebhookKey::from_text(&format!(" whsec_{}\n", STANDARD.encode(KEY))).is_ok());
}
