//! Every bound of the push service, with its unit and reason.

use std::time::Duration;

use crate::encryption::{PADDED_TO_BYTES, PLAINTEXT_BYTES_MAX};

/// Longest endpoint of Web Push, in bytes. Those of today's providers have 150 to 500.
pub const ENDPOINT_BYTES_MAX: usize = 1024;

/// Longest address that another provider gives to a device, in bytes: FCM's have less than 300, APNs' 64 to 200.
pub const DEVICE_TOKEN_BYTES_MAX: usize = 4 * 1024;

/// For how long a notice may wait and a provider may keep it: four weeks, which is what FCM keeps at most.
pub const TTL_MAX: Duration = Duration::from_secs(28 * 24 * 3600);

/// What a notice is worth telling at least: providers count in seconds.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// Longest reason of a provider that is told on, in bytes. Theirs are words such as `BadDeviceToken`.
pub const REASON_BYTES_MAX: usize = 64;

/// Shortest and longest key of the webhook's signature, in bytes, as Standard Webhooks says.
pub const WEBHOOK_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

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

/// Notices that are held, waiting or under way. One has some hundred bytes, and at most 8 KiB.
pub const WAITING_MAX: usize = 16 * 1024;

/// Notices that have been offered and are not looked at yet: what comes while a turn of the service runs.
pub const OFFERED_MAX: usize = 1024;

/// Notices that are taken up between two looks at what is due, so that whoever offers without end does not hold up the rest.
pub const TAKEN_TURN_MAX: usize = 64;

/// Notices that wait for one host. A quarter, so that one that rests leaves room for the others.
pub const HOST_WAITING_MAX: usize = WAITING_MAX / 4;

/// Hosts that are known at a time. There are some ten in truth, but a subscription may name any below a provider's name.
pub const HOSTS_MAX: usize = 1024;

/// Requests under way.
pub const UNDER_WAY_MAX: usize = 1024;

/// Requests under way to one host: 4,000 a second if it answers after 100 ms. One that hangs leaves places for the others.
pub const HOST_UNDER_WAY_MAX: usize = 400;

/// Connections to one host that speaks HTTP/2: each carries a hundred requests at a time, or what the host allows.
pub const CONNECTIONS: usize = 4;

/// Longest body of an answer that is read, in bytes. Theirs have some hundred.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Longest JSON of a notice, in bytes. Web Push takes 3,993, FCM and APNs 4,096 with what is around it.
pub const PAYLOAD_BYTES_MAX: usize = 3 * 1024;

/// Longest text that a notice holds while it waits, in bytes: more than fits.
pub const TEXT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

/// For how long a token of Web Push is good, in seconds: the specification allows 24 hours (RFC 8292, 2).
pub const VAPID_TOKEN_S: u64 = 12 * 3600;

/// From when on a new one is made: half of that, so that clocks may differ.
pub const VAPID_RENEWED_AFTER_S: u64 = VAPID_TOKEN_S / 2;

/// For how long a token of APNs is used, in seconds. Apple takes none of more than an hour, and no new one within 20 minutes.
pub const APNS_TOKEN_S: u64 = 40 * 60;

/// How much earlier than it says a token of FCM is not used any more, in seconds.
pub const FCM_TOKEN_SPARE_S: u64 = 5 * 60;

/// Failures in a row until a host rests.
pub const FAILURES_MAX: u32 = 5;

/// When a notice for which there was no room can be offered again.
pub const LATER: Duration = Duration::from_secs(5);

const _: () = assert!(HOST_UNDER_WAY_MAX < UNDER_WAY_MAX && UNDER_WAY_MAX < HOST_WAITING_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX.next_multiple_of(PADDED_TO_BYTES) <= PLAINTEXT_BYTES_MAX);
// What an alert of APNs has beside the notice.
const _: () = assert!(PAYLOAD_BYTES_MAX + 512 <= 4096);

/// For how long a connection is kept that has nothing to do: servers often end them after a minute.
pub const IDLE_MAX: Duration = Duration::from_secs(50);

/// How often a connection of HTTP/2 with requests under way is asked whether it still leads somewhere.
pub const PING_EVERY: Duration = Duration::from_secs(5);

/// How long the answer to that may take.
pub const PING_MAX: Duration = Duration::from_secs(10);

/// For how long no token of FCM is asked for after one was not given, in seconds. Unlike a notice, it is asked for by all that wait.
pub const FCM_TOKEN_PAUSE_S: u64 = 5;

/// Threads that look up names. A lookup that hangs keeps its thread for as long as the system's resolver takes, half a minute or so.
pub const LOOKUPS_MAX: usize = 4;

/// Longest notice that a node hands to a process, in bytes of JSON: its text with each character escaped, and the longest token.
pub const HANDED_BYTES_MAX: usize = 32 * 1024;

/// How long a process waits for the whole of one: the way from a node takes milliseconds.
pub const HANDED_READ_MAX: Duration = Duration::from_secs(10);

/// Connections that a process has, each with one request at a time: what four nodes have under way at most. More wait until one ends.
pub const HANDED_CONNECTIONS_MAX: usize = 4 * UNDER_WAY_MAX;

/// For how long a process keeps a connection that says nothing: nodes end theirs before.
pub const HANDED_IDLE_MAX: Duration = IDLE_MAX.saturating_add(Duration::from_secs(10));

/// How long a process that stops waits for what it has: supervisors kill after 10 seconds or more.
pub const HANDED_STOP_MAX: Duration = Duration::from_secs(8);

/// How old a signature may be, in seconds, and how far clocks may differ: what Standard Webhooks recommends.
pub const SIGNATURE_AGE_MAX_S: u64 = 5 * 60;

/// For how long a process that does not answer is left alone at the longest. Others do its part meanwhile, so to ask costs little.
pub const SERVICE_REST_MAX: Duration = Duration::from_secs(30);

/// Processes that a node hands to: more than any number of notices needs.
pub const SERVICES_MAX: usize = 64;

const _: () = assert!(6 * TEXT_BYTES_MAX + DEVICE_TOKEN_BYTES_MAX + 1024 <= HANDED_BYTES_MAX);
