//! What FCM is sent, and how its tokens are had.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize, PublicKey},
    signature::KeyPair as _,
};
use http::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto_spec::UserId;
use push::{
    Kind, Notice, Outcome, Provider, Refusal, Settings, Trouble,
    hosts::HostRules,
    keys::ServiceAccount,
    settings::{BadSubscription, Fcm},
};
use serde_json::{Value, json};

use crate::{
    endpoint::{Authority, Endpoint, Reply, Seen, Speaks},
    world::{World, clear, message, settings},
};

/// Google on this machine: gives tokens `token-0`, `token-1`, ... and answers notices as the test says.
fn google(authority: &Authority, mut notices: impl FnMut(usize) -> Reply + Send + 'static) -> Endpoint {
    let (mut tokens, mut count) = (0, 0);
    Endpoint::start(authority, Speaks::Http2, move |seen, _| {
        if seen.path == "/token" {
            let body = json!({ "access_token": format!("token-{tokens}"), "expires_in": 3599, "token_type": "Bearer" });
            tokens += 1;
            return Reply::With(200, &[], body.to_string());
        }
        count += 1;
        notices(count - 1)
    })
}

fn fcm(authority: &Authority, port: u16) -> (Settings, PublicKey) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let account = json!({
        "type": "service_account",
        "project_id": "ringpost-test",
        "private_key_id": "key-1",
        "private_key": pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())),
        "client_email": "push@ringpost-test.iam.gserviceaccount.com",
        "token_uri": format!("https://localhost:{port}/token"),
    });
    let account = ServiceAccount::from_json(account.to_string().as_bytes()).unwrap();
    let fcm = Fcm { account, url: format!("https://localhost:{port}").parse().unwrap() };
    (Settings { fcm: Some(fcm), ..settings(authority.roots()) }, pair.public_key().clone())
}

fn provider() -> Provider {
    Provider::Fcm { token: "dpH5lCsTSSM:APA91bHqjZxM0VImWWqDRN7U0a3AycjUf4O".to_owned() }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[test]
fn a_token_is_asked_for_with_the_account_s_key_and_a_notice_sent_with_it() {
    let authority = Authority::new();
    let google =
        google(&authority, |_| Reply::With(200, &[], r#"{"name":"projects/ringpost-test/messages/1"}"#.to_owned()));
    let (settings, public) = fcm(&authority, google.port);
    let world = World::start(settings);
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);

    let asked = google.seen();
    assert_eq!((&asked.method, asked.path.as_str()), (&Method::POST, "/token"));
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    let form = String::from_utf8(asked.body.clone()).unwrap();
    let assertion =
        form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=").unwrap();
    let audience = format!("https://localhost:{}/token", google.port);
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[&audience]);
    let claims =
        jsonwebtoken::decode::<Value>(assertion, &DecodingKey::from_rsa_der(public.as_ref()), &validation).unwrap();
    assert_eq!(claims.header.kid.as_deref(), Some("key-1"));
    assert_eq!(claims.claims["iss"], "push@ringpost-test.iam.gserviceaccount.com");
    assert_eq!(claims.claims["scope"], "https://www.googleapis.com/auth/firebase.messaging");

    let seen = google.seen();
    assert_eq!((&seen.method, seen.path.as_str()), (&Method::POST, "/v1/projects/ringpost-test/messages:send"));
    assert_eq!(seen.header("authorization"), "Bearer token-0");
    assert_eq!(seen.header("content-type"), "application/json");
    let body = body(&seen);
    let payload: Value = serde_json::from_str(body["message"]["data"]["ringpost"].as_str().unwrap()).unwrap();
    let (tag, ttl) = (payload["tag"].as_str().unwrap(), body["message"]["android"]["ttl"].as_str().unwrap());
    assert!((3500..=3600).contains(&ttl.strip_suffix('s').unwrap().parse::<u32>().unwrap()));
    assert_eq!(
        body["message"],
        json!({
            "token": "dpH5lCsTSSM:APA91bHqjZxM0VImWWqDRN7U0a3AycjUf4O",
            "data": { "ringpost": body["message"]["data"]["ringpost"] },
            "android": { "collapse_key": tag, "priority": "HIGH", "ttl": ttl },
        })
    );
    assert_eq!(
        payload,
        json!({
            "v": 1, "tag": tag, "at": 1_764_531_000_123_u64, "count": 2, "conversation": "8", "from": "8", "text": "Are you there?"
        })
    );
}

#[test]
fn a_clear_is_a_quiet_message_with_the_same_key_to_collapse_by_and_the_token_is_kept() {
    let authority = Authority::new();
    let google = google(&authority, |_| Reply::Status(200));
    let world = World::start(fcm(&authority, google.port).0);
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
    assert_eq!(world.outcome_of(clear(1, provider())), Outcome::Delivered);
    let (asked, shown, cleared) = (google.seen(), body(&google.seen()), google.seen());
    assert_eq!(asked.path, "/token");
    assert_eq!(cleared.header("authorization"), "Bearer token-0");
    let cleared = body(&cleared);
    assert_eq!(cleared["message"]["android"]["priority"], "NORMAL");
    assert_eq!(cleared["message"]["android"]["collapse_key"], shown["message"]["android"]["collapse_key"]);
    assert!(cleared["message"]["data"]["ringpost"].as_str().unwrap().contains("\"clear\":true"));
}

#[test]
fn the_largest_notice_has_less_than_fcm_takes() {
    let authority = Authority::new();
    let google = google(&authority, |_| Reply::Status(200));
    let world = World::start(fcm(&authority, google.port).0);
    // Control characters are the longest in JSON.
    let kind = Kind::Message { from: UserId(u64::MAX), text: Some("\u{1}".repeat(16 * 1024)), count: u64::MAX };
    assert_eq!(world.outcome_of(Notice { kind, ..message(1, provider()) }), Outcome::Delivered);
    google.seen();
    let data = body(&google.seen())["message"]["data"].clone();
    assert!(data["ringpost"].as_str().unwrap().len() + "ringpost".len() <= 4096);
}

fn error(status: u16, word: &str, code: Option<&str>) -> Reply {
    let details =
        code.map(|code| json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }));
    let details: Vec<Value> = details.into_iter().collect();
    let body = json!({ "error": { "code": status, "message": "words", "status": word, "details": details } });
    Reply::With(status, &[], body.to_string())
}

#[test]
fn answers_mean_what_fcm_says_that_they_mean() {
    let authority = Authority::new();
    let refused = |status, word: &str| Outcome::Refused(Refusal::Answer { status, reason: Some(word.to_owned()) });
    for (reply, outcome) in [
        ((|| error(404, "NOT_FOUND", Some("UNREGISTERED"))) as fn() -> Reply, Outcome::Gone),
        (|| error(404, "NOT_FOUND", None), refused(404, "NOT_FOUND")),
        (|| error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT")), refused(400, "INVALID_ARGUMENT")),
        (|| error(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH")), refused(403, "SENDER_ID_MISMATCH")),
        (|| error(401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR")), refused(401, "THIRD_PARTY_AUTH_ERROR")),
    ] {
        let google = google(&authority, move |_| reply());
        let world = World::start(fcm(&authority, google.port).0);
        assert_eq!(world.outcome_of(message(1, provider())), outcome);
    }
}

#[test]
fn what_may_pass_is_tried_again_and_a_token_that_is_not_taken_is_asked_for_anew() {
    let authority = Authority::new();
    for fault in [
        (|| error(401, "UNAUTHENTICATED", None)) as fn() -> Reply,
        || error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
        || error(503, "UNAVAILABLE", Some("UNAVAILABLE")),
        || Reply::Reset,
    ] {
        let google = google(&authority, move |before| if before == 0 { fault() } else { Reply::Status(200) });
        let world = World::start(fcm(&authority, google.port).0);
        assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
        let seen = google.seen_meanwhile();
        let is_refused = matches!(fault(), Reply::With(401, ..));
        let last = seen.last().unwrap();
        assert_eq!(last.header("authorization"), if is_refused { "Bearer token-1" } else { "Bearer token-0" });
    }
}

#[test]
fn when_no_token_is_given_notices_wait_and_it_is_not_asked_for_without_end() {
    let authority = Authority::new();
    let google = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(500));
    let world = World::start(fcm(&authority, google.port).0);
    let notice = Notice { ttl: std::time::Duration::from_secs(2), ..message(1, provider()) };
    assert_eq!(world.outcome_of(notice), Outcome::Expired { last: Some(Trouble::Token) });
    assert_eq!(google.seen_meanwhile().len(), 1);
}

#[test]
fn files_that_are_no_service_account_are_refused_without_showing_what_is_in_them() {
    for file in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"project_id":"p","private_key":"secret","client_email":"e","token_uri":"https://t/"}"#,
    ] {
        let words = ServiceAccount::from_json(file.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(!words.contains("secret") && words.len() > 20, "{words}");
    }
    for token in ["", "two words", &"x".repeat(4097)] {
        let provider = Provider::Fcm { token: token.to_owned() };
        assert_eq!(provider.check(&HostRules::default()), Err(BadSubscription::Token(push::ProviderKind::Fcm)));
    }
}
