//! FCM: Firebase Cloud Messaging by its HTTP v1 API. A request carries a token of Google's, which is asked for with the key of a service
//! account and good for an hour.

use bytes::Bytes;
use http::{Request, header};
use serde::{Deserialize, Serialize};

use super::{Answer, Going, Sending, reason};
use crate::{
    hosts::Reach,
    keys::ServiceAccount,
    limits::FCM_TOKEN_SPARE_S,
    notice::{Outcome, Provider, Trouble, Urgency},
    payload::Payload,
    plan::Verdict,
    settings::{BadSubscription, Fcm},
};

/// A token of Google's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Until when it is used, in seconds since 1970.
    pub(crate) until_s: u64,
}

/// The request for a token (RFC 7523).
pub(crate) fn token_request(account: &ServiceAccount, now_s: u64) -> Request<Bytes> {
    // Dots and base64url need no escape in a form.
    let assertion = account.assertion(now_s);
    let body = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    Request::post(account.token_url.0.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body.into())
        .expect("a URL that was read, and headers that can stand there")
}

/// The token in an answer, if there is one that can stand in a header.
pub(crate) fn token(answer: &Answer, now_s: u64) -> Option<Token> {
    #[derive(Deserialize)]
    struct Body {
        access_token: String,
        expires_in: u64,
    }
    if !answer.status.is_success() {
        return None;
    }
    let Body { access_token: text, expires_in } = serde_json::from_slice(&answer.body).ok()?;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Token { text, until_s: now_s.saturating_add(expires_in.saturating_sub(FCM_TOKEN_SPARE_S)) })
}

/// The request for a notice.
///
/// # Errors
///
/// When its subscription is of another provider.
pub(crate) fn request(settings: &Fcm, going: &Going<'_>, token: &Token) -> Result<Sending, BadSubscription> {
    #[derive(Serialize)]
    struct Body<'a> {
        message: Message<'a>,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        token: &'a str,
        data: Data,
        android: Android<'a>,
    }
    /// Values of data are texts.
    #[derive(Serialize)]
    struct Data {
        ringpost: String,
    }
    #[derive(Serialize)]
    struct Android<'a> {
        collapse_key: &'a str,
        priority: &'a str,
        ttl: String,
    }
    let Provider::Fcm { token: device } = &going.notice.subscription.provider else {
        return Err(BadSubscription::NotConfigured(going.notice.subscription.provider.kind()));
    };
    let priority = match going.notice.urgency {
        Urgency::Low | Urgency::Normal => "NORMAL",
        Urgency::High => "HIGH",
    };
    let payload = String::from_utf8(Payload::of(going.notice, going.tag).to_json()).expect("JSON is UTF-8");
    let message = Message {
        token: device,
        data: Data { ringpost: payload },
        android: Android { collapse_key: going.tag, priority, ttl: format!("{}s", going.ttl_s) },
    };
    let body = serde_json::to_vec(&Body { message }).expect("nothing in it can be no JSON");
    let path = format!("/v1/projects/{}/messages:send", settings.account.project);
    let request = Request::post(settings.url.joined(&path))
        .header(header::AUTHORIZATION, format!("Bearer {}", token.text))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("a URL and headers whose parts were read");
    Ok(Sending { request, reach: Reach::Any })
}

/// What an answer means. 401 is about this server's token, which is then asked for anew.
pub(crate) fn verdict(answer: &Answer) -> Verdict {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        status: String,
        #[serde(default)]
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default, rename = "errorCode")]
        code: Option<String>,
    }
    let error = serde_json::from_slice(&answer.body).ok().map(|Body { error }| error);
    let code = error.map(|error| error.details.into_iter().find_map(|detail| detail.code).unwrap_or(error.status));
    match (answer.status.as_u16(), code.as_deref()) {
        // 404 without it is a project or a URL that is not there.
        (404, Some("UNREGISTERED")) => Verdict::Final(Outcome::Gone),
        (401, Some("THIRD_PARTY_AUTH_ERROR")) => answer.verdict(code.as_deref().and_then(reason)),
        (401, _) => Verdict::Again(Trouble::Token, answer.retry_after),
        _ => answer.verdict(code.as_deref().and_then(reason)),
    }
}

impl Token {
    /// Whether it can still be used.
    pub(crate) const fn is_good(&self, now_s: u64) -> bool {
        now_s < self.until_s
    }
}
