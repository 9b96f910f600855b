//! Notice: what is to be told to one device by way of its provider, and how that ended.

use std::{fmt, time::Duration};

use proto_spec::{ConversationId, DeviceId, TimestampMs, UserId};
use serde::{Deserialize, Serialize};

use crate::settings::BadSubscription;

/// What is to be told to one device, once. Each notice that was taken ends with exactly one [`Outcome`].
///
/// Two notices are for the same thing when user, device and conversation are equal: then the newer one takes the place of one that
/// still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The caller's own number, which means nothing here.
    pub ticket: u64,
    /// Whose device it is.
    pub user: UserId,
    /// The device. It has one subscription.
    pub device: DeviceId,
    /// Where to send it, and how much to say there.
    pub subscription: Subscription,
    /// The conversation, as the user names it.
    pub conversation: ConversationId,
    /// What there is to tell.
    pub kind: Kind,
    /// When it happened, which the device may show.
    pub at: TimestampMs,
    /// For how long it is worth telling, from when it is offered. At most [`crate::limits::TTL_MAX`] of it is used.
    pub ttl: Duration,
    /// Whether it may wake the device.
    pub urgency: Urgency,
}

/// What a notice tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is something to read.
    Message {
        /// Who wrote the last message.
        from: UserId,
        /// Its text, if it has one. What does not fit is cut off, see `docs/PUSH.md`.
        text: Option<String>,
        /// How many messages are unread in the conversation.
        count: u64,
    },
    /// It was read elsewhere: what is shown of the conversation may go.
    Clear,
}

/// How soon the device should have it (RFC 8030, 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// When the device is awake anyway and has power or Wi-Fi.
    Low,
    /// When the device is awake anyway.
    Normal,
    /// Now.
    High,
}

/// Where the notices of one device go, and how much they may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Who passes them on to the device, and how that one knows it.
    pub provider: Provider,
    /// What the user allows to be said.
    pub show: Show,
}

/// What the user allows a notice to say. How many messages are unread is said always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Show {
    /// Neither who wrote nor where.
    Nothing,
    /// Who wrote, and in which conversation.
    Sender,
    /// That, and the text.
    Text,
}

/// A provider with the address that it has given to the device. What it may be is said by [`Provider::check`]: whoever stores a
/// subscription asks there first.
///
/// It is shown without the address, with which anybody could write to the device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Web Push, as `PushSubscription` of the browser tells it.
    WebPush {
        /// The URL, at most [`crate::limits::ENDPOINT_BYTES_MAX`] bytes.
        endpoint: String,
        /// The browser's public key: a point of P-256, not compressed.
        #[serde(with = "base64url")]
        p256dh: [u8; 65],
        /// The secret that the browser shares with this server.
        #[serde(with = "base64url")]
        auth: [u8; 16],
    },
    /// The operator's own gateway.
    Webhook {
        /// By what the gateway knows the device, at most [`crate::limits::DEVICE_TOKEN_BYTES_MAX`] bytes.
        token: String,
    },
    /// Firebase Cloud Messaging.
    Fcm {
        /// The registration token, at most [`crate::limits::DEVICE_TOKEN_BYTES_MAX`] bytes.
        token: String,
    },
    /// The Apple Push Notification service.
    Apns {
        /// The device token in hexadecimal digits, at most [`crate::limits::DEVICE_TOKEN_BYTES_MAX`] bytes.
        token: String,
    },
}

impl Provider {
    /// Which one it is.
    #[must_use]
    pub const fn kind(&self) -> ProviderKind {
        match self {
            Self::WebPush { .. } => ProviderKind::WebPush,
            Self::Webhook { .. } => ProviderKind::Webhook,
            Self::Fcm { .. } => ProviderKind::Fcm,
            Self::Apns { .. } => ProviderKind::Apns,
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())
    }
}

/// The kinds of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Web Push.
    WebPush,
    /// The operator's gateway.
    Webhook,
    /// Firebase Cloud Messaging.
    Fcm,
    /// The Apple Push Notification service.
    Apns,
}

impl ProviderKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::WebPush, Self::Webhook, Self::Fcm, Self::Apns];

    /// What it is called in metrics and log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebPush => "web_push",
            Self::Webhook => "webhook",
            Self::Fcm => "fcm",
            Self::Apns => "apns",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a notice ended. The caller gets the notice back with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The provider has taken it. Whether the device gets it, nobody says.
    Delivered,
    /// The same, and the provider knows the device by another address from now on: store this one in the place of the notice's.
    Replaced(Provider),
    /// A newer notice for the same thing took its place before the provider had it.
    Superseded,
    /// The provider does not know the device any more: remove the subscription, unless the device has another one by now.
    Gone,
    /// It will never be taken, so it must not be repeated. The subscription stays.
    Refused(Refusal),
    /// Its time to live ended before the provider took it.
    Expired {
        /// Why the last attempt failed; absent if there was none.
        last: Option<Trouble>,
    },
    /// There is no room to let it wait here. Offer it again after this time.
    Later(Duration),
}

/// Why a notice was refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// This server has no configuration for the provider. The subscription may be good, and with one it would be used again.
    NotConfigured,
    /// The subscription is none that may be used: it can be removed.
    Subscription(BadSubscription),
    /// The provider has no quiet way to take something off a screen.
    CannotClear,
    /// The provider refused it, with this status of HTTP and, where it gives one, its own word for the reason.
    Answer {
        /// The status.
        status: u16,
        /// At most [`crate::limits::REASON_BYTES_MAX`] bytes, printable.
        reason: Option<String>,
    },
}

impl From<BadSubscription> for Refusal {
    fn from(bad: BadSubscription) -> Self {
        match bad {
            BadSubscription::NotConfigured(_) => Self::NotConfigured,
            BadSubscription::Endpoint(_) | BadSubscription::Key | BadSubscription::Token(_) => Self::Subscription(bad),
        }
    }
}

/// Why an attempt failed that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The name of the host was not found.
    Lookup,
    /// All addresses of the host are inside some network, where no provider is.
    Inside,
    /// No connection came to be, or TLS failed.
    Connect,
    /// There was no answer in time.
    Timeout,
    /// The connection ended before the answer, or what came was not HTTP.
    Broken,
    /// This status of HTTP.
    Status(u16),
    /// The provider's token for this server could not be had or was not taken.
    Token,
    /// No push service of those that are processes of their own takes it.
    Services,
}

impl Trouble {
    /// Whether it says that the host itself is not well. Else it has answered, and asks for patience.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        !matches!(self, Self::Status(429) | Self::Services)
    }
}

/// Keys as text.
mod base64url {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("a key of another length"))
    }
}
