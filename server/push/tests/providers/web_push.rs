//! What a push service of browsers is sent.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Version};
use push::{
    Notice, Outcome, Provider, Refusal, Settings, Show,
    hosts::HostRules,
    keys::VapidKey,
    settings::{BadSubscription, WebPush},
};
use serde_json::{Value, json};
use web_push_native::{Auth, p256::SecretKey};

use crate::{
    endpoint::{Authority, Endpoint, Reply, Seen, Speaks},
    world::{World, clear, message, settings},
};

/// A browser that can read what it is sent.
pub(crate) struct Browser {
    private: SecretKey,
    p256dh: [u8; 65],
}

const AUTH: [u8; 16] = *b"sixteen bytes ok";

impl Browser {
    pub(crate) fn new() -> Self {
        use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;
        let private = SecretKey::from_slice(&[7; 32]).unwrap();
        let p256dh = private.public_key().to_encoded_point(false).as_bytes().try_into().unwrap();
        Self { private, p256dh }
    }

    pub(crate) fn subscription(&self, port: u16, path: &str) -> Provider {
        let endpoint = format!("https://localhost:{port}{path}");
        Provider::WebPush { endpoint, p256dh: self.p256dh, auth: AUTH }
    }

    /// What it reads, without the zeros behind it.
    pub(crate) fn read(&self, seen: &Seen) -> Value {
        let plaintext = web_push_native::decrypt(seen.body.clone(), &self.private, Auth::from_slice(&AUTH));
        serde_json::from_slice(&plaintext.expect("it is encrypted for this browser")).unwrap()
    }
}

/// Settings by which an endpoint on this machine is a push service.
pub(crate) fn web_push(authority: &Authority, port: u16) -> (Settings, VapidKey) {
    let key = VapidKey::from_pem(VapidKey::generate_pem().as_bytes()).unwrap();
    let inside = vec![format!("localhost:{port}").parse().unwrap()];
    let hosts = HostRules { inside, ..HostRules::default() };
    let web_push = WebPush { key: key.clone(), contact: "mailto:push@ringpost.test".parse().unwrap(), hosts };
    (Settings { web_push: Some(web_push), ..settings(authority.roots()) }, key)
}

/// The claims of a token, whose signature is checked with the key that stands beside it.
fn claims(seen: &Seen, key: &VapidKey) -> Value {
    let (token, public) = seen.header("authorization").strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
    let public = URL_SAFE_NO_PAD.decode(public).unwrap();
    assert_eq!(public, key.public());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(signed.as_bytes(), &signature).unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(json(header), json!({ "typ": "JWT", "alg": "ES256" }));
    json(claims)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn a_push_service_gets_an_encrypted_and_signed_request(speaks: Speaks, version: Version) {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, speaks, |_, _| Reply::Status(201));
    let (settings, key) = web_push(&authority, service.port);
    let world = World::start(settings);
    let began_s = now_s();
    assert_eq!(
        world.outcome_of(message(1, browser.subscription(service.port, "/wpush/v2/one?x=1"))),
        Outcome::Delivered
    );

    let seen = service.seen();
    assert_eq!((&seen.method, seen.path.as_str(), seen.version), (&Method::POST, "/wpush/v2/one?x=1", version));
    assert_eq!(seen.header("content-encoding"), "aes128gcm");
    assert_eq!(seen.header("urgency"), "high");
    let ttl: u64 = seen.header("ttl").parse().unwrap();
    assert!((3500..=3600).contains(&ttl), "TTL {ttl}");
    let topic = seen.header("topic");
    assert!(topic.len() <= 32 && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    // The port is a part of the audience.
    let claims = claims(&seen, &key);
    assert_eq!(claims["aud"], format!("https://localhost:{}", service.port));
    assert_eq!(claims["sub"], "mailto:push@ringpost.test");
    let until_s = claims["exp"].as_u64().unwrap();
    assert!(until_s > began_s + 3600 && until_s <= now_s() + 24 * 3600);

    assert_eq!(seen.body.len(), 86 + 512 + 17);
    assert_eq!(
        browser.read(&seen),
        json!({
            "v": 1, "tag": topic, "at": 1_764_531_000_123_u64, "count": 2, "conversation": "8", "from": "8", "text": "Are you there?"
        })
    );
}

#[test]
fn a_push_service_gets_an_encrypted_and_signed_request_by_http_1() {
    a_push_service_gets_an_encrypted_and_signed_request(Speaks::Http1, Version::HTTP_11);
}

#[test]
fn a_push_service_gets_an_encrypted_and_signed_request_by_http_2() {
    a_push_service_gets_an_encrypted_and_signed_request(Speaks::Http2, Version::HTTP_2);
}

#[test]
fn a_longer_text_shows_by_its_length_in_steps_alone_and_the_longest_fits() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(201));
    let world = World::start(web_push(&authority, service.port).0);
    for (length, body_bytes) in [(0, 512), (300, 512), (500, 1024), (16 * 1024, 3072)] {
        let text = "\u{fc}".repeat(length / 2);
        let kind = push::Kind::Message { from: proto_spec::UserId(8), text: Some(text.clone()), count: 1 };
        let notice = Notice { kind, ..message(1, browser.subscription(service.port, "/")) };
        assert_eq!(world.outcome_of(notice), Outcome::Delivered);
        let seen = service.seen();
        assert_eq!(seen.body.len(), 86 + body_bytes + 17, "of {length} bytes");
        let read = browser.read(&seen);
        let shown = read["text"].as_str().unwrap();
        assert!(shown == text || text.starts_with(shown.strip_suffix('…').unwrap()));
    }
}

#[test]
fn what_a_user_does_not_allow_is_not_in_the_payload() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(201));
    let world = World::start(web_push(&authority, service.port).0);
    for (show, keys) in [
        (Show::Nothing, "at count tag v"),
        (Show::Sender, "at conversation count from tag v"),
        (Show::Text, "at conversation count from tag text v"),
    ] {
        let mut notice = message(1, browser.subscription(service.port, "/"));
        notice.subscription.show = show;
        assert_eq!(world.outcome_of(notice), Outcome::Delivered);
        let read = browser.read(&service.seen());
        let mut names: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), keys);
    }
}

#[test]
fn tokens_are_kept_for_a_push_service_and_connections_too() {
    let (authority, browser) = (Authority::new(), Browser::new());
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let service = Endpoint::start(&authority, speaks, |_, _| Reply::Status(201));
        let world = World::start(web_push(&authority, service.port).0);
        let seen = [1, 2].map(|ticket| {
            assert_eq!(world.outcome_of(message(ticket, browser.subscription(service.port, "/"))), Outcome::Delivered);
            service.seen()
        });
        assert_eq!(seen[0].header("authorization"), seen[1].header("authorization"));
        assert_ne!(seen[0].header("topic"), seen[1].header("topic"), "two devices");
        // A service that answers by HTTP/2 is spoken to as such from then on, by other connections than the one that showed it.
        assert_eq!(seen[1].connection, usize::from(speaks == Speaks::Http2));
    }
}

#[test]
fn a_clear_has_the_topic_of_the_message_and_says_nothing_else() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(201));
    let world = World::start(web_push(&authority, service.port).0);
    let provider = || browser.subscription(service.port, "/");
    assert_eq!(world.outcome_of(message(1, provider())), Outcome::Delivered);
    assert_eq!(world.outcome_of(clear(1, provider())), Outcome::Delivered);
    let (shown, cleared) = (service.seen(), service.seen());
    assert_eq!(shown.header("topic"), cleared.header("topic"));
    assert_eq!(cleared.header("urgency"), "low");
    assert_eq!(
        browser.read(&cleared),
        json!({ "v": 1, "tag": cleared.header("topic"), "at": 1_764_531_000_123_u64, "clear": true })
    );
}

#[test]
fn a_browser_that_must_show_everything_gets_no_clear_and_not_the_message_that_waits() {
    let (settings, _) = web_push(&Authority::new(), 1);
    let world = World::start(settings);
    let Provider::WebPush { p256dh, auth, .. } = Browser::new().subscription(1, "/") else { unreachable!() };
    let provider = || Provider::WebPush { endpoint: "https://web.push.apple.com/x".to_owned(), p256dh, auth };
    // Another one, so that this one waits for what becomes of the host.
    world.offer(message(1, provider()));
    world.offer(message(2, provider()));
    world.offer(clear(2, provider()));
    let mut outcomes = [world.outcome(), world.outcome()];
    outcomes.sort_by_key(|(_, outcome)| *outcome != Outcome::Superseded);
    assert_eq!(outcomes.each_ref().map(|(notice, _)| notice.ticket), [2, 2]);
    assert_eq!(outcomes[0].1, Outcome::Superseded);
    assert_eq!(outcomes[1].1, Outcome::Refused(Refusal::CannotClear));
}

#[test]
fn a_subscription_that_may_not_be_used_is_refused_and_nothing_is_sent() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(201));
    let world = World::start(web_push(&authority, service.port).0);
    let refused = |provider| match world.outcome_of(message(1, provider)) {
        Outcome::Refused(Refusal::Subscription(bad)) => bad,
        other => panic!("{other:?}"),
    };
    let elsewhere = browser.subscription(service.port + 1, "/");
    assert!(matches!(refused(elsewhere), BadSubscription::Endpoint(_)));
    let Provider::WebPush { endpoint, auth, .. } = browser.subscription(service.port, "/") else { unreachable!() };
    assert_eq!(refused(Provider::WebPush { endpoint, p256dh: [4; 65], auth }), BadSubscription::Key);
    let token = "t".to_owned();
    assert_eq!(world.outcome_of(message(1, Provider::Fcm { token })), Outcome::Refused(Refusal::NotConfigured));
    assert!(service.seen_meanwhile().is_empty());
}

#[test]
fn a_name_that_leads_inside_is_not_followed() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(201));
    let (mut settings, _) = web_push(&authority, service.port);
    // As a provider's host whose name somebody has changed to lead here.
    let hosts = &mut settings.web_push.as_mut().unwrap().hosts;
    hosts.outside = std::mem::take(&mut hosts.inside);
    let world = World::start(settings);
    let notice =
        Notice { ttl: std::time::Duration::from_secs(1), ..message(1, browser.subscription(service.port, "/")) };
    assert_eq!(world.outcome_of(notice), Outcome::Expired { last: Some(push::Trouble::Inside) });
    assert!(service.seen_meanwhile().is_empty());
}
