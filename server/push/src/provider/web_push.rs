//! Web Push: RFC 8030, with VAPID (RFC 8292) and an encrypted payload (RFC 8291).

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, header};
use serde::Serialize;

use super::{Answer, Going, Sending};
use crate::{
    encryption::{self, Fresh, PADDED_TO_BYTES},
    hosts::Endpoint,
    limits::{HOSTS_MAX, VAPID_RENEWED_AFTER_S, VAPID_TOKEN_S},
    notice::{Outcome, Provider, Urgency},
    payload::Payload,
    plan::Verdict,
    settings::{BadSubscription, WebPush},
};

/// What this server shows each push service who it is with, kept for some hours: a signature for each request would cost as much as all
/// the rest.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<String, (HeaderValue, u64)>);

impl Tokens {
    /// The header for a push service.
    fn authorization(&mut self, settings: &WebPush, endpoint: &Endpoint, now_s: u64) -> HeaderValue {
        #[derive(Serialize)]
        struct Claims<'a> {
            aud: &'a str,
            exp: u64,
            sub: &'a str,
        }
        let audience = origin(endpoint);
        // Also when the clock was set back.
        let is_fresh = |made_s: u64| now_s.checked_sub(made_s).is_some_and(|age| age < VAPID_RENEWED_AFTER_S);
        if let Some((header, _)) = self.0.get(&audience).filter(|(_, made_s)| is_fresh(*made_s)) {
            return header.clone();
        }
        let claims = Claims { aud: &audience, exp: now_s + VAPID_TOKEN_S, sub: &settings.contact.0 };
        let token = settings.key.sign(&claims);
        let header = format!("vapid t={token}, k={}", URL_SAFE_NO_PAD.encode(settings.key.public()));
        let mut header = HeaderValue::try_from(header).expect("base64url and dots can stand in a header");
        header.set_sensitive(true);
        if self.0.len() >= HOSTS_MAX {
            self.0.clear();
        }
        self.0.insert(audience, (header.clone(), now_s));
        header
    }
}

/// Scheme, host and, unless it is 443, port (RFC 6454, 6.2): the audience of a token.
fn origin(endpoint: &Endpoint) -> String {
    let authority =
        endpoint.uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).unwrap_or_default();
    format!("https://{}", authority.strip_suffix(":443").unwrap_or(&authority))
}

/// The request for a notice.
///
/// # Errors
///
/// When its subscription is none that may be used.
pub(crate) fn request(
    settings: &WebPush,
    tokens: &mut Tokens,
    going: &Going<'_>,
    fresh: &Fresh,
) -> Result<Sending, BadSubscription> {
    let Provider::WebPush { endpoint, p256dh, auth } = &going.notice.subscription.provider else {
        return Err(BadSubscription::NotConfigured(going.notice.subscription.provider.kind()));
    };
    let endpoint = settings.hosts.allow(endpoint)?;
    let payload = Payload::of(going.notice, going.tag).to_json();
    let padded = payload.len().next_multiple_of(PADDED_TO_BYTES);
    let body = encryption::encrypt(&payload, padded, p256dh, auth, fresh).map_err(|_| BadSubscription::Key)?;
    let urgency = match going.notice.urgency {
        Urgency::Low => "low",
        Urgency::Normal => "normal",
        Urgency::High => "high",
    };
    let authorization = tokens.authorization(settings, &endpoint, going.now_s);
    let request = Request::post(endpoint.uri)
        .header(header::AUTHORIZATION, authorization)
        .header(header::CONTENT_ENCODING, "aes128gcm")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header("ttl", going.ttl_s)
        .header("urgency", urgency)
        .header("topic", going.tag)
        .body(body.into())
        .expect("an endpoint that was read, and headers that can stand there");
    Ok(Sending { request, reach: endpoint.reach })
}

/// What an answer means.
pub(crate) fn verdict(answer: &Answer) -> Verdict {
    match answer.status.as_u16() {
        404 | 410 => Verdict::Final(Outcome::Gone),
        _ => answer.verdict(answer.words()),
    }
}
