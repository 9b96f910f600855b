//! Notifications: how a device is subscribed to be told of messages while it is away.

use client::{PushState, Show, Subscription};

/// Who carries notifications to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum PushProvider {
    /// The operator's own gateway.
    Webhook,
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple Push Notification service.
    Apns,
}

/// What a notification may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum PushShow {
    /// That there is something.
    Nothing,
    /// Who wrote.
    Sender,
    /// What was written, too.
    Text,
}

/// Where notifications for a device go.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct PushSubscription {
    /// Who carries them.
    pub provider: PushProvider,
    /// The token by which the provider knows the device.
    pub token: String,
    /// What they may show.
    pub show: PushShow,
}

impl PushProvider {
    const ALL: [Self; 3] = [Self::Webhook, Self::Fcm, Self::Apns];

    const fn provider(self) -> client::Provider {
        match self {
            Self::Webhook => client::Provider::Webhook,
            Self::Fcm => client::Provider::Fcm,
            Self::Apns => client::Provider::Apns,
        }
    }

    fn number(self) -> u64 {
        self.provider().byte().into()
    }

    /// Those that a server has.
    pub(crate) fn offered(state: &PushState) -> Vec<Self> {
        Self::ALL.into_iter().filter(|provider| state.providers >> provider.number() & 1 == 1).collect()
    }
}

impl PushSubscription {
    /// That of a device; none: it is not subscribed, or as a browser.
    pub(crate) fn of(state: &PushState) -> Option<Self> {
        let provider = PushProvider::ALL.into_iter().find(|provider| provider.number() == state.provider)?;
        let show = match state.show {
            Show::Nothing => PushShow::Nothing,
            Show::Sender => PushShow::Sender,
            Show::Text => PushShow::Text,
        };
        Some(Self { provider, token: state.address.clone(), show })
    }
}

impl From<PushSubscription> for Subscription {
    fn from(of: PushSubscription) -> Self {
        let show = match of.show {
            PushShow::Nothing => Show::Nothing,
            PushShow::Sender => Show::Sender,
            PushShow::Text => Show::Text,
        };
        Self { provider: of.provider.number(), show, address: of.token, key: Vec::new(), secret: Vec::new() }
    }
}
