//! APNs: the Apple Push Notification service, by HTTP/2 with tokens that this server signs.

use http::{HeaderValue, Request, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Going, Sending, reason};
use crate::{
    hosts::Reach,
    limits::APNS_TOKEN_S,
    notice::{Kind, Outcome, Provider, Trouble, Urgency},
    payload::Payload,
    plan::Verdict,
    settings::{Apns, BadSubscription},
};

/// The token of now, kept: Apple refuses whoever makes a new one more often than every 20 minutes.
#[derive(Default)]
pub(crate) struct Token(Option<(HeaderValue, u64)>);

impl Token {
    fn authorization(&mut self, settings: &Apns, now_s: u64) -> HeaderValue {
        // Also when the clock was set back.
        let is_fresh = |made_s: u64| now_s.checked_sub(made_s).is_some_and(|age| age < APNS_TOKEN_S);
        if let Some((header, _)) = self.0.as_ref().filter(|(_, made_s)| is_fresh(*made_s)) {
            return header.clone();
        }
        let header = format!("bearer {}", settings.key.token(now_s));
        let mut header = HeaderValue::try_from(header).expect("base64url and dots can stand in a header");
        header.set_sensitive(true);
        self.0 = Some((header.clone(), now_s));
        header
    }

    /// Apple does not take it any more.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// The request for a notice.
///
/// # Errors
///
/// When its subscription is of another provider.
pub(crate) fn request(settings: &Apns, token: &mut Token, going: &Going<'_>) -> Result<Sending, BadSubscription> {
    let Provider::Apns { token: device } = &going.notice.subscription.provider else {
        return Err(BadSubscription::NotConfigured(going.notice.subscription.provider.kind()));
    };
    let (push_type, priority) = match (&going.notice.kind, going.notice.urgency) {
        // Apple takes what runs in the background with this priority alone.
        (Kind::Clear, _) => ("background", 5),
        (Kind::Message { .. }, Urgency::Low) => ("alert", 1),
        (Kind::Message { .. }, Urgency::Normal) => ("alert", 5),
        (Kind::Message { .. }, Urgency::High) => ("alert", 10),
    };
    let request = Request::post(settings.url.joined(&format!("/3/device/{device}")))
        .header(header::AUTHORIZATION, token.authorization(settings, going.now_s))
        .header("apns-topic", settings.topic.as_str())
        .header("apns-push-type", push_type)
        .header("apns-priority", priority)
        .header("apns-expiration", going.now_s + going.ttl_s)
        .header("apns-collapse-id", going.tag)
        .body(body(going).into())
        .expect("a URL and headers whose parts were read");
    Ok(Sending { request, reach: Reach::Any })
}

/// An alert in words that the app has in its user's language, which an extension of the app may put better; or the quiet request to
/// take it away. The text stands in the alert alone.
fn body(going: &Going<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        aps: Value,
        ringpost: Payload<'a>,
    }
    let mut payload = Payload::of(going.notice, going.tag);
    let text = payload.text.take();
    let aps = match payload.count {
        None => json!({ "content-available": 1 }),
        Some(count) => {
            let mut alert = match text {
                Some(text) => json!({ "body": text }),
                None => json!({ "loc-key": "RINGPOST_UNREAD", "loc-args": [count.to_string()] }),
            };
            if let Some(from) = &payload.from {
                alert["title-loc-key"] = Value::from("RINGPOST_FROM");
                alert["title-loc-args"] = json!([from]);
            }
            json!({ "alert": alert, "mutable-content": 1, "sound": "default", "thread-id": going.tag })
        }
    };
    serde_json::to_vec(&Body { aps, ringpost: payload }).expect("nothing in it can be no JSON")
}

/// What an answer means.
pub(crate) fn verdict(answer: &Answer) -> Verdict {
    #[derive(Deserialize)]
    struct Body {
        reason: String,
    }
    let said = serde_json::from_slice(&answer.body).ok().and_then(|Body { reason: said }| reason(&said));
    match (answer.status.as_u16(), said.as_deref()) {
        (410, _) => Verdict::Final(Outcome::Gone),
        (403, Some("ExpiredProviderToken")) => Verdict::Again(Trouble::Token, answer.retry_after),
        _ => answer.verdict(said),
    }
}
