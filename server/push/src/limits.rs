//! Every bound of the push service, with its unit and reason.

use std::time::Duration;

/// Longest endpoint of Web Push, in bytes. Those of today's providers have 150 to 500.
pub const ENDPOINT_BYTES_MAX: usize = 1024;

/// Longest address that another provider gives to a device, in bytes: FCM's have less than 300, APNs' 64 to 200.
pub const DEVICE_TOKEN_BYTES_MAX: usize = 4 * 1024;

/// For how long a notice may wait and a provider may keep it: four weeks, which is what FCM keeps at most.
pub const TTL_MAX: Duration = Duration::from_secs(28 * 24 * 3600);

/// Longest reason of a provider that is told on, in bytes. Theirs are words such as `BadDeviceToken`.
pub const REASON_BYTES_MAX: usize = 64;

/// Shortest key of the webhook's signature, in bytes: half of what HMAC-SHA256 gives.
pub const WEBHOOK_KEY_BYTES_MIN: usize = 16;

/// Where FCM is.
pub const FCM_URL: &str = "https://fcm.googleapis.com";

/// Where APNs is. Apps that are being developed have their tokens from `https://api.sandbox.push.apple.com`.
pub const APNS_URL: &str = "https://api.push.apple.com";

/// Wait for a connection, TLS included.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Wait for an answer, from when the request begins: providers answer within a second when they are well.
pub const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Wait before the first repetition at the longest. The wait is drawn between nothing and twice as much each time.
pub const RETRY_FIRST: Duration = Duration::from_secs(2);

/// Wait before any repetition at the longest, unless the provider asks for more.
pub const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// For how long a host that fails is left alone first.
pub const REST_FIRST: Duration = Duration::from_secs(5);

/// For how long it is left alone at the longest.
pub const REST_MAX: Duration = Duration::from_secs(5 * 60);
