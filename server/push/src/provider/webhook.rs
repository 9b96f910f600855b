//! Webhook: a gateway of the operator's, by which any other way to a device can be attached. Requests are signed as Standard Webhooks
//! says, for which receivers in many languages have a library.

use serde::{Deserialize, Serialize};

use super::{Answer, Going, Sending};
use crate::{
    hosts::Reach,
    notice::{Outcome, Provider, Urgency},
    payload::Payload,
    plan::Verdict,
    settings::{BadSubscription, Webhook, is_token},
};

/// The request for a notice. `id` is the same each time that it is sent.
///
/// # Errors
///
/// When its subscription is of another provider.
pub(crate) fn request(settings: &Webhook, going: &Going<'_>, id: &str) -> Result<Sending, BadSubscription> {
    #[derive(Serialize)]
    struct Body<'a> {
        token: &'a str,
        ttl: u64,
        urgency: &'a str,
        notice: Payload<'a>,
    }
    let Provider::Webhook { token } = &going.notice.subscription.provider else {
        return Err(BadSubscription::NotConfigured(going.notice.subscription.provider.kind()));
    };
    let urgency = match going.notice.urgency {
        Urgency::Low => "low",
        Urgency::Normal => "normal",
        Urgency::High => "high",
    };
    let body = Body { token, ttl: going.ttl_s, urgency, notice: Payload::of(going.notice, going.tag) };
    let body = serde_json::to_vec(&body).expect("nothing in it can be no JSON");
    let request = settings.key.post(settings.url.0.clone(), id, going.now_s, body);
    Ok(Sending { request, reach: Reach::Any })
}

/// What an answer means. 404 is more probably a wrong URL than a device that has gone.
pub(crate) fn verdict(answer: &Answer) -> Verdict {
    #[derive(Deserialize)]
    struct Body {
        token: String,
    }
    match answer.status.as_u16() {
        410 => Verdict::Final(Outcome::Gone),
        200..=299 => {
            let new = serde_json::from_slice(&answer.body).ok().map(|Body { token }| token);
            let new = new.filter(|token| is_token(token)).map(|token| Provider::Webhook { token });
            Verdict::Final(new.map_or(Outcome::Delivered, Outcome::Replaced))
        }
        _ => answer.verdict(answer.words()),
    }
}
