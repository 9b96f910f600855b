//! Settings: what an operator configures of push, read and checked. Each provider may be absent.

use std::{fmt, time::Duration};

use http::Uri;
use rustls::RootCertStore;

use crate::{
    hosts::{BadEndpoint, HostRules},
    keys::{ApnsKey, ServiceAccount, VapidKey},
    limits,
    notice::{Provider, ProviderKind, Subscription},
};

/// Everything that the push service is told at its start.
pub struct Settings {
    /// Web Push, to browsers.
    pub web_push: Option<WebPush>,
    /// The operator's gateway.
    pub webhook: Option<Webhook>,
    /// Firebase Cloud Messaging.
    pub fcm: Option<Fcm>,
    /// The Apple Push Notification service.
    pub apns: Option<Apns>,
    /// With what tags are made, by which a provider tells one user's conversations apart.
    pub tag_key: TagKey,
    /// Whose certificates are believed.
    pub roots: RootCertStore,
    /// How long to wait for what.
    pub pace: Pace,
}

/// Web Push.
pub struct WebPush {
    /// By what push services know this server. A subscription is bound to it: with another key every browser subscribes anew.
    pub key: VapidKey,
    /// Where a push service can write to when something is wrong.
    pub contact: Contact,
    /// Which hosts a subscription may name.
    pub hosts: HostRules,
}

/// A `mailto:` or `https:` URL of whoever runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact(String);

/// The operator's gateway.
pub struct Webhook {
    /// Where notices are posted to. It is the operator's word: any host, also by plain HTTP.
    pub url: Uri,
    /// What the signature is made with, at least [`limits::WEBHOOK_KEY_BYTES_MIN`] bytes.
    pub key: Vec<u8>,
}

/// Firebase Cloud Messaging.
pub struct Fcm {
    /// The project, and the key that tokens are asked for with.
    pub account: ServiceAccount,
    /// [`limits::FCM_URL`], but in tests.
    pub url: Uri,
}

/// The Apple Push Notification service.
pub struct Apns {
    /// The key that tokens are signed with.
    pub key: ApnsKey,
    /// The app's bundle id.
    pub topic: String,
    /// [`limits::APNS_URL`], or that of the sandbox.
    pub url: Uri,
}

/// The secret behind tags: the same on all nodes and over restarts, or a new notification stands beside the old one instead of
/// replacing it.
pub struct TagKey(pub(crate) [u8; 32]);

/// How long to wait for what. The defaults are the constants of [`limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For a connection, TLS included.
    pub connect_max: Duration,
    /// For an answer, from when the request begins.
    pub answer_max: Duration,
    /// Before the first repetition at the longest; twice as long before each further one.
    pub retry_first: Duration,
    /// Before any repetition, unless the provider asks for more.
    pub retry_max: Duration,
    /// For which a host that fails rests first; twice as long after each probe that fails.
    pub rest_first: Duration,
    /// For which it rests at the longest.
    pub rest_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect_max: limits::CONNECT_MAX,
            answer_max: limits::ANSWER_MAX,
            retry_first: limits::RETRY_FIRST,
            retry_max: limits::RETRY_MAX,
            rest_first: limits::REST_FIRST,
            rest_max: limits::REST_MAX,
        }
    }
}

/// What is wrong with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSubscription {
    /// The server does not send by this provider.
    #[error("this server does not send by {}", .0.name())]
    NotConfigured(ProviderKind),
    /// The endpoint may not be sent to.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// `p256dh` is not a public key.
    #[error("p256dh is not a point of the curve P-256")]
    Key,
    /// The token is empty, too long, or has characters in it that this provider's do not have.
    #[error("the token is not 1 to {} characters that a token of {} has", limits::DEVICE_TOKEN_BYTES_MAX, .0.name())]
    Token(ProviderKind),
}

impl Settings {
    /// Whether a subscription may be stored and sent to.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, subscription: &Subscription) -> Result<(), BadSubscription> {
        let kind = subscription.provider.kind();
        let configured = match kind {
            ProviderKind::WebPush => self.web_push.is_some(),
            ProviderKind::Webhook => self.webhook.is_some(),
            ProviderKind::Fcm => self.fcm.is_some(),
            ProviderKind::Apns => self.apns.is_some(),
        };
        if !configured {
            return Err(BadSubscription::NotConfigured(kind));
        }
        match &subscription.provider {
            Provider::WebPush { endpoint, p256dh, .. } => {
                let rules = &self.web_push.as_ref().expect("looked at above").hosts;
                rules.allow(endpoint)?;
                crate::encryption::is_public_key(p256dh).then_some(()).ok_or(BadSubscription::Key)
            }
            Provider::Webhook { token } | Provider::Fcm { token } => {
                let good = is_token(token) && token.bytes().all(|byte| byte.is_ascii_graphic());
                good.then_some(()).ok_or(BadSubscription::Token(kind))
            }
            Provider::Apns { token } => {
                let good = is_token(token) && token.bytes().all(|byte| byte.is_ascii_hexdigit());
                good.then_some(()).ok_or(BadSubscription::Token(kind))
            }
        }
    }
}

fn is_token(token: &str) -> bool {
    (1..=limits::DEVICE_TOKEN_BYTES_MAX).contains(&token.len())
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}
