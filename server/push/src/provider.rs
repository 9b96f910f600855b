//! Provider: what each provider is sent, and what its answers mean. Requests and answers are values here.

pub(crate) mod apns;
pub(crate) mod fcm;
pub(crate) mod web_push;
pub(crate) mod webhook;

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER};

use crate::{
    hosts::Reach,
    limits::REASON_BYTES_MAX,
    notice::{Notice, Outcome, ProviderKind, Refusal, Trouble},
    plan::{HostName, Verdict},
};

/// What is to be sent, and where its host may be.
pub(crate) struct Sending {
    pub(crate) request: Request<Bytes>,
    pub(crate) reach: Reach,
}

/// One notice at the moment when it goes.
pub(crate) struct Going<'a> {
    pub(crate) notice: &'a Notice,
    /// See [`crate::payload::tag`].
    pub(crate) tag: &'a str,
    /// Seconds that it is still worth telling, one or more.
    pub(crate) ttl_s: u64,
    /// Seconds since 1970.
    pub(crate) now_s: u64,
}

/// What a provider said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// How long it wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: Bytes, now_s: u64) -> Self {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now_s));
        Self { status, retry_after, body }
    }

    /// What its status means where the provider has no meaning of its own. A redirect is followed by nobody: it is refused.
    fn verdict(&self, reason: Option<String>) -> Verdict {
        match self.status.as_u16() {
            200..=299 => Verdict::Final(Outcome::Delivered),
            status @ (408 | 429 | 500..=599) => Verdict::Again(Trouble::Status(status), self.retry_after),
            status => Verdict::Final(Outcome::Refused(Refusal::Answer { status, reason })),
        }
    }

    /// The beginning of its body, if it is something that can be shown.
    pub(crate) fn words(&self) -> Option<String> {
        reason(std::str::from_utf8(&self.body).ok()?)
    }
}

/// So much of a text as is told on: the printable characters that it begins with.
fn reason(text: &str) -> Option<String> {
    let shown = text.trim().chars().take_while(|char| *char == ' ' || char.is_ascii_graphic()).take(REASON_BYTES_MAX);
    let shown: String = shown.collect();
    (!shown.is_empty()).then_some(shown)
}

/// Seconds, or a date (RFC 9110, 10.2.3). What is neither says nothing.
fn retry_after(value: &str, now_s: u64) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(UNIX_EPOCH + Duration::from_secs(now_s)).unwrap_or_default())
}

/// Whether a provider can take something off a screen without showing something else.
pub(crate) fn can_clear(host: &HostName) -> bool {
    match host.provider {
        ProviderKind::WebPush => crate::hosts::may_be_quiet(&host.authority),
        ProviderKind::Webhook | ProviderKind::Fcm | ProviderKind::Apns => true,
    }
}

#[cfg(test)]
mod tests;
