use http::HeaderMap;

use super::*;
use crate::{
    hosts::BadEndpoint,
    keys::{BadSignature, WebhookKey},
    limits::SIGNATURE_AGE_MAX_S,
    notice::{Outcome, Provider, ProviderKind, Refusal, Show, Trouble},
    plan::Verdict,
    settings::BadSubscription,
};

fn notice(provider: Provider, conversation: ConversationId, kind: Kind) -> Notice {
    Notice {
        ticket: u64::MAX,
        user: UserId(7),
        device: DeviceId(2),
        subscription: Subscription { provider, show: Show::Text },
        conversation,
        kind,
        at: TimestampMs(1_764_531_000_000),
        ttl: Duration::from_secs(3600),
        urgency: Urgency::High,
    }
}

fn over(notice: &Notice, left: Duration) -> Notice {
    let json = serde_json::to_vec(&Handed::of(notice, left)).unwrap();
    serde_json::from_slice::<Handed>(&json).unwrap().into_notice()
}

#[test]
fn a_notice_is_the_same_on_the_other_side_but_for_the_time_that_has_passed() {
    let token = || "device-1".to_owned();
    let message = Kind::Message { from: UserId(8), text: Some("\"Are\u{0} you there?".to_owned()), count: 3 };
    for provider in [
        Provider::WebPush { endpoint: "https://push.example.org/1".to_owned(), p256dh: [4; 65], auth: [9; 16] },
        Provider::Webhook { token: token() },
        Provider::Fcm { token: token() },
        Provider::Apns { token: token() },
    ] {
        let person = notice(provider.clone(), UserId(8).into(), message.clone());
        assert_eq!(over(&person, person.ttl), person);
        let mut shy = person.clone();
        shy.subscription.show = Show::Sender;
        assert!(matches!(over(&shy, shy.ttl).kind, Kind::Message { text: None, count: 3, .. }), "it is not shown");
        let group = notice(provider, ConversationId::Group(GroupId(12)), Kind::Clear);
        assert_eq!(over(&group, Duration::from_millis(1_900)), Notice { ttl: Duration::from_secs(1), ..group.clone() });
        assert_eq!(over(&group, Duration::ZERO).ttl, Duration::from_secs(1), "nothing is worth telling for no time");
    }
}

/// So that a process and a node of two releases understand each other: what stands here changes by additions alone.
#[test]
fn what_is_said_is_what_the_release_before_said() {
    let handed = notice(Provider::Webhook { token: "d".to_owned() }, UserId(8).into(), Kind::Clear);
    assert_eq!(
        serde_json::to_string(&Handed::of(&handed, handed.ttl)).unwrap(),
        r#"{"ticket":18446744073709551615,"user":7,"device":2,"subscription":{"provider":{"webhook":{"token":"d"}},"show":"text"},"conversation":{"person":8},"at":1764531000000,"ttl":3600,"urgency":"high"}"#
    );
    let refused = |why| Verdict::Final(Outcome::Refused(why));
    for (verdict, json) in [
        (Verdict::Final(Outcome::Delivered), r#"{"final":"delivered"}"#),
        (
            Verdict::Final(Outcome::Replaced(Provider::Webhook { token: "e".to_owned() })),
            r#"{"final":{"replaced":{"webhook":{"token":"e"}}}}"#,
        ),
        (Verdict::Final(Outcome::Gone), r#"{"final":"gone"}"#),
        (refused(Refusal::NotConfigured), r#"{"final":{"refused":"not_configured"}}"#),
        (
            refused(Refusal::Subscription(BadSubscription::Endpoint(BadEndpoint::HostNotAllowed))),
            r#"{"final":{"refused":{"subscription":{"endpoint":"host_not_allowed"}}}}"#,
        ),
        (
            refused(Refusal::Subscription(BadSubscription::Token(ProviderKind::Fcm))),
            r#"{"final":{"refused":{"subscription":{"token":"fcm"}}}}"#,
        ),
        (
            refused(Refusal::Answer { status: 413, reason: Some("TooLarge".to_owned()) }),
            r#"{"final":{"refused":{"answer":{"status":413,"reason":"TooLarge"}}}}"#,
        ),
        (
            Verdict::Again(Trouble::Status(503), Some(Duration::from_secs(7))),
            r#"{"again":[{"status":503},{"secs":7,"nanos":0}]}"#,
        ),
        (Verdict::Again(Trouble::Timeout, None), r#"{"again":["timeout",null]}"#),
    ] {
        assert_eq!(serde_json::to_string(&verdict).unwrap(), json);
        assert_eq!(serde_json::from_str::<Verdict>(json).unwrap(), verdict);
    }
}

#[test]
fn a_signature_is_of_one_key_one_body_and_of_lately() {
    let key = |text| WebhookKey::from_text(text).unwrap();
    let own = key("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let other = key("whsec_YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=");
    let now_s = 1_764_531_000;
    let request = own.post("http://localhost/".parse().unwrap(), "7-2-1", now_s, b"{}".to_vec());
    let headers = request.headers();
    assert_eq!(own.verify(headers, b"{}", now_s), Ok(()));
    assert_eq!(other.verify(headers, b"{}", now_s), Err(BadSignature::Key));
    assert_eq!(own.verify(headers, b"{ }", now_s), Err(BadSignature::Key));
    assert_eq!(own.verify(&HeaderMap::new(), b"{}", now_s), Err(BadSignature::Key));
    for (at_s, expected) in [
        (now_s - SIGNATURE_AGE_MAX_S, Ok(())),
        (now_s + SIGNATURE_AGE_MAX_S, Ok(())),
        (now_s - SIGNATURE_AGE_MAX_S - 1, Err(BadSignature::Time)),
        (now_s + SIGNATURE_AGE_MAX_S + 1, Err(BadSignature::Time)),
    ] {
        assert_eq!(own.verify(headers, b"{}", at_s), expected);
    }
    // The time and the id are signed, too.
    for name in ["webhook-timestamp", "webhook-id"] {
        let mut changed = headers.clone();
        changed.insert(name, "1764531001".parse().unwrap());
        assert_eq!(own.verify(&changed, b"{}", now_s), Err(BadSignature::Key));
    }
}
