//! Settings: what an operator configures of push, read and checked. Each provider may be absent.

use std::{fmt, str::FromStr, time::Duration};

use http::Uri;
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};

use crate::{
    encryption,
    handover::node::Services,
    hosts::{BadEndpoint, HostRules},
    keys::{ApnsKey, BundleId, ServiceAccount, VapidKey, WebhookKey},
    limits,
    notice::{Provider, ProviderKind, Subscription},
    plan::HostName,
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

/// Who hands notices to providers.
pub enum Way {
    /// This process.
    Own(Box<Settings>),
    /// Processes of their own.
    Services(Box<Services>),
}

impl From<Settings> for Way {
    fn from(settings: Settings) -> Self {
        Self::Own(Box::new(settings))
    }
}

impl From<Services> for Way {
    fn from(services: Services) -> Self {
        Self::Services(Box::new(services))
    }
}

impl Way {
    /// The providers that notices go to.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderKind> {
        match self {
            Self::Own(settings) => settings.providers(),
            Self::Services(services) => services.providers.clone(),
        }
    }

    /// What browsers subscribe with, if they can.
    #[must_use]
    pub fn server_key(&self) -> Option<[u8; 65]> {
        match self {
            Self::Own(settings) => settings.web_push.as_ref().map(|web_push| *web_push.key.public()),
            Self::Services(services) => services.server_key,
        }
    }

    /// Which hosts their endpoints may name.
    #[must_use]
    pub fn hosts(&self) -> HostRules {
        match self {
            Self::Own(settings) => {
                settings.web_push.as_ref().map_or(HostRules::NONE, |web_push| web_push.hosts.clone())
            }
            Self::Services(services) => services.hosts.clone(),
        }
    }
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
pub struct Contact(pub(crate) String);

/// What is wrong with a contact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no contact: write \"mailto:\" and an address, or an https URL, that is yours; examples are refused by push services"
)]
pub struct BadContact(pub String);

/// The operator's gateway.
pub struct Webhook {
    /// Where notices are posted to. It is the operator's word: any host, also by plain HTTP.
    pub url: ServiceUrl,
    /// What the signature is made with.
    pub key: WebhookKey,
}

/// Firebase Cloud Messaging.
pub struct Fcm {
    /// The project, and the key that tokens are asked for with.
    pub account: ServiceAccount,
    /// [`limits::FCM_URL`], but in tests.
    pub url: ServiceUrl,
}

/// The Apple Push Notification service.
pub struct Apns {
    /// The key that tokens are signed with.
    pub key: ApnsKey,
    /// The app's bundle id.
    pub topic: BundleId,
    /// [`limits::APNS_URL`], or that of the sandbox.
    pub url: ServiceUrl,
}

/// Where a provider of the operator's choice is: an absolute URL of http or https without a user's name and without a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(pub(crate) Uri);

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no URL to send to: write http or https, a host and perhaps a path, and no user or fragment")]
pub struct BadUrl(pub String);

/// The secret behind tags: the same on all nodes and over restarts, or a new notification stands beside the old one instead of
/// replacing it.
pub struct TagKey(pub(crate) aws_lc_rs::hmac::Key);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Provider {
    /// Whether notices can go to this address, as far as it shows by itself: nothing is looked up. `hosts` are those that endpoints of Web
    /// Push may name.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, hosts: &HostRules) -> Result<(), BadSubscription> {
        match self {
            Self::WebPush { endpoint, p256dh, .. } => endpoint_of(endpoint, p256dh, hosts).map(|_| ()),
            Self::Webhook { token } | Self::Fcm { token } | Self::Apns { token } => check_token(self.kind(), token),
        }
    }
}

/// Where Web Push goes.
fn endpoint_of(endpoint: &str, p256dh: &[u8; 65], hosts: &HostRules) -> Result<Uri, BadSubscription> {
    let endpoint = hosts.allow(endpoint)?;
    if encryption::is_public_key(p256dh) { Ok(endpoint.uri) } else { Err(BadSubscription::Key) }
}

fn check_token(kind: ProviderKind, token: &str) -> Result<(), BadSubscription> {
    let is_hexadecimal = || token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_good = is_token(token) && (kind != ProviderKind::Apns || is_hexadecimal());
    if is_good { Ok(()) } else { Err(BadSubscription::Token(kind)) }
}

impl Settings {
    /// The providers that are there.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderKind> {
        let is_there = |kind: &ProviderKind| match kind {
            ProviderKind::WebPush => self.web_push.is_some(),
            ProviderKind::Webhook => self.webhook.is_some(),
            ProviderKind::Fcm => self.fcm.is_some(),
            ProviderKind::Apns => self.apns.is_some(),
        };
        ProviderKind::ALL.into_iter().filter(is_there).collect()
    }

    /// Which host a notice for this subscription goes to, if it may.
    ///
    /// # Errors
    ///
    /// What is wrong with the subscription.
    pub(crate) fn host_of(&self, subscription: &Subscription) -> Result<HostName, BadSubscription> {
        let kind = subscription.provider.kind();
        let absent = BadSubscription::NotConfigured(kind);
        let uri = match &subscription.provider {
            Provider::WebPush { endpoint, p256dh, .. } => {
                endpoint_of(endpoint, p256dh, &self.web_push.as_ref().ok_or(absent)?.hosts)?
            }
            Provider::Webhook { token } | Provider::Fcm { token } | Provider::Apns { token } => {
                let url = match kind {
                    ProviderKind::Fcm => self.fcm.as_ref().map(|fcm| &fcm.url),
                    ProviderKind::Apns => self.apns.as_ref().map(|apns| &apns.url),
                    ProviderKind::Webhook | ProviderKind::WebPush => self.webhook.as_ref().map(|webhook| &webhook.url),
                };
                let url = url.ok_or(absent)?;
                check_token(kind, token)?;
                url.0.clone()
            }
        };
        Ok(HostName::of(kind, &uri))
    }
}

/// Whether this may be what a gateway, FCM or APNs gives to a device.
pub(crate) fn is_token(token: &str) -> bool {
    let length = 1..=limits::DEVICE_TOKEN_BYTES_MAX;
    length.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl FromStr for ServiceUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let good = uri.filter(|uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@')));
        good.filter(|_| !text.contains('#')).map(Self).ok_or_else(|| BadUrl(text.to_owned()))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ServiceUrl {
    /// The URL of a path below this one.
    pub(crate) fn joined(&self, path: &str) -> Uri {
        let mut parts = self.0.clone().into_parts();
        let joined = format!("{}{path}", self.0.path().trim_end_matches('/'));
        parts.path_and_query = Some(joined.parse().expect("paths of parts that were read"));
        Uri::from_parts(parts).expect("scheme and host stay")
    }
}

impl FromStr for Contact {
    type Err = BadContact;

    fn from_str(text: &str) -> Result<Self, BadContact> {
        let address = text.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
        let host = match address {
            Some((name, host)) if !name.is_empty() => Some(host.to_owned()),
            Some(_) => None,
            None => {
                let url = text.parse::<Uri>().ok().filter(|url| url.scheme_str() == Some("https"));
                url.and_then(|url| url.host().map(str::to_owned))
            }
        };
        // Apple refuses a host without a dot, and some services know the examples of others.
        let names_somebody = |host: &String| {
            host.contains('.') && !["example.com", "example.org", "example.net"].contains(&host.as_str())
        };
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if plain && host.as_ref().is_some_and(names_somebody) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadContact(text.to_owned()))
        }
    }
}
