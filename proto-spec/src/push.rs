//! Subscriptions to notifications (SPEC 8.13): how a device is told of messages while it is away.

use crate::{
    limits::{PUSH_ADDRESS_BYTES_MAX, PUSH_KEY_BYTES, PUSH_SECRET_BYTES},
    listed::listed,
    wire::{DecodeError, Reader, put_bytes, put_varint},
};

listed! {
    /// Who carries notifications to a device (SPEC 4.49). On the wire a varint: others may come.
    Provider {
        /// A browser's push service (RFC 8030).
        WebPush = 1 "web_push",
        /// The operator's own gateway.
        Webhook = 2 "webhook",
        /// Firebase Cloud Messaging.
        Fcm = 3 "fcm",
        /// Apple Push Notification service.
        Apns = 4 "apns",
    }
}

listed! {
    /// What a notification may show (SPEC 4.49). Ordered: a later one shows more.
    #[derive(PartialOrd, Ord)]
    Show {
        /// That there is something.
        Nothing = 0 "nothing",
        /// Who wrote, and where.
        Sender = 1 "sender",
        /// What was written, too.
        Text = 2 "text",
    }
}

/// Where notifications for one device go (SPEC 4.49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The provider's number: [`Provider::from_byte`], if this version knows it.
    pub provider: u64,
    /// What they may show.
    pub show: Show,
    /// The endpoint of Web Push, else the token by which the provider knows the device. At most [`PUSH_ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
    /// Web Push: `p256dh`, the public key of the browser. Else empty.
    pub key: Vec<u8>,
    /// Web Push: `auth`. Else empty.
    pub secret: Vec<u8>,
}

impl Subscription {
    /// The provider, if this version knows it.
    #[must_use]
    pub fn provider(&self) -> Option<Provider> {
        u8::try_from(self.provider).ok().and_then(Provider::from_byte)
    }

    /// What is wrong with it, whoever takes it; none: its parts are those of its provider.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let Some(provider) = self.provider() else { return Some("a provider that this server does not know") };
        let keys = match provider {
            Provider::WebPush => (PUSH_KEY_BYTES, PUSH_SECRET_BYTES),
            Provider::Webhook | Provider::Fcm | Provider::Apns => (0, 0),
        };
        if self.address.is_empty() {
            return Some("no address");
        }
        let is_wrong = (self.key.len(), self.secret.len()) != keys;
        is_wrong.then_some("the key and the secret are not those that the provider needs: 65 and 16 bytes, or none")
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.provider);
        out.push(self.show.byte());
        for part in [self.address.as_bytes(), &self.key, &self.secret] {
            put_bytes(out, part);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            provider: r.varint("provider")?,
            show: r.listed("show", Show::from_byte)?,
            address: r.str("address", PUSH_ADDRESS_BYTES_MAX)?.to_owned(),
            key: r.bytes("key", PUSH_KEY_BYTES)?.to_vec(),
            secret: r.bytes("secret", PUSH_SECRET_BYTES)?.to_vec(),
        })
    }
}

/// What a server tells of notifications (SPEC 4.52).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushState {
    /// To whose devices it sends: a sum of bits, 2^k for the provider with the number k.
    pub providers: u64,
    /// What a browser subscribes with (`applicationServerKey`); empty: there is no Web Push.
    pub server_key: Vec<u8>,
    /// The number of the provider that this device is subscribed with; zero: it is not subscribed.
    pub provider: u64,
    /// What its notifications may show.
    pub show: Show,
    /// The address that they go to; empty if it is not subscribed.
    pub address: String,
}

impl PushState {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.providers);
        put_bytes(out, &self.server_key);
        put_varint(out, self.provider);
        out.push(self.show.byte());
        put_bytes(out, self.address.as_bytes());
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            providers: r.varint("providers")?,
            server_key: r.bytes("server_key", PUSH_KEY_BYTES)?.to_vec(),
            provider: r.varint("provider")?,
            show: r.listed("show", Show::from_byte)?,
            address: r.str("address", PUSH_ADDRESS_BYTES_MAX)?.to_owned(),
        })
    }

    /// Whether the server sends to devices of this provider.
    #[must_use]
    pub const fn sends_to(&self, provider: Provider) -> bool {
        self.providers >> provider.byte() & 1 == 1
    }
}
