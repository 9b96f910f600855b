//! Every bound of the client, with unit and reason.

/// Messages that wait for their answer or for being sent. Four windows: enough to ride out a short loss of connection,
/// and at most 16 MiB of text. When it is full, [`crate::SendError::QueueFull`] tells the caller to slow down.
pub const QUEUED_MESSAGES_MAX: usize = 1024;

/// Conversations that are known to be open on a connection. Half of the 64 that a server remembers of all devices together, and few
/// enough to be searched for each message.
pub const OPEN_CONVERSATIONS_MAX: usize = 32;

/// Fetches that wait for their page or for being sent. A person scrolls one or two conversations at a time.
pub const QUEUED_FETCHES_MAX: usize = 64;

/// Acknowledgements are gathered this long: ten a second serve as well as a thousand.
pub const ACKNOWLEDGE_AFTER_MS: u64 = 100;

/// What this device has of groups is gathered this long (SPEC 4.48).
pub const ACKNOWLEDGE_GROUPS_AFTER_MS: u64 = 2_000;

/// A connection attempt that has not succeeded by then has failed. Several SYN retries fit.
pub const OPEN_TIMEOUT_MS: u64 = 10_000;

/// From the open connection to the welcome. As long as opening it.
pub const WELCOME_TIMEOUT_MS: u64 = 10_000;

/// Silence in either direction after which a ping is sent, if the server does not tell that it pings. Below the 30 s after which the
/// strictest carrier networks forget an idle TCP connection.
pub const PING_AFTER_MS: u64 = 20_000;

/// No ping follows a silence that is shorter, whatever the server tells: a healthy connection is that silent all the time.
pub const PING_AFTER_MIN_MS: u64 = 1_000;

/// A link that has been silent for this long after a ping is dead.
pub const PONG_TIMEOUT_MS: u64 = 10_000;

/// The same, when the network may have changed. Longer than the round trip of a slow mobile network, and short for who looks at a screen.
pub const PROBE_TIMEOUT_MS: u64 = 3_000;

/// Upper end of the first random delay before reconnecting, in milliseconds (SPEC 8.5).
pub const BACKOFF_FIRST_MS: u64 = 500;

/// Upper end of every later delay, in milliseconds (SPEC 8.5). A storm of a million clients is then spread over a minute.
pub const BACKOFF_MAX_MS: u64 = 60_000;

/// After a connection that was ready for so long, in milliseconds, the next delay is a first one again (SPEC 8.5).
pub const STABLE_AFTER_MS: u64 = 60_000;

/// A connection that was ready for less, in milliseconds, and moved nothing, was one of a moment: a redirect then waits as a reconnect does.
pub const MOMENT_MS: u64 = 10_000;

/// Times that a client is replaced by a connection of its own device before it takes that for another program. A hello of
/// its own that was given up and arrives late does it too, once or twice.
pub const REPLACED_MAX: u32 = 3;

/// Within this time they count, in milliseconds. Longer than a hello can be on its way.
pub const REPLACED_WITHIN_MS: u64 = 300_000;

/// Times that a client begins its log anew before it takes that for a fault of the server, or for servers that take turns under one name.
pub const ANEW_MAX: u32 = 3;

/// Within this time they count, in milliseconds. Longer than a server needs to start.
pub const ANEW_WITHIN_MS: u64 = 60_000;

/// A refusal says when to try again; a gap in the numbers does not. One that was not the consequence of another refusal
/// comes from a disagreement with the server, and must not become a loop at the speed of the network.
pub const GAP_RETRY_MS: u64 = 1_000;

/// Longest delay that a server's retry-after is believed for. One hour; more would be a way to switch clients off.
pub const RETRY_AFTER_MAX_MS: u64 = 3_600_000;

/// Bytes that one read of the socket takes. A hundred messages; a large page comes in a few reads.
pub const READ_BYTES_MAX: usize = 16 * 1024;

/// Bytes that wait for the socket. Beyond it the driver stops reading, because answers to what it reads would pile up.
/// A whole window of the longest texts fits, so that it is never reached by sending alone.
pub const UNWRITTEN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Epochs of the log that a client remembers: more than the 64 that a server may tell of again.
pub const EPOCHS_KEPT: usize = 256;

/// Entries of which a history keeps digests and what they say, some 4 MiB in all: of a longer log it speaks for the newest part.
pub const HISTORY_ENTRIES_MAX: usize = 16 * 1024;

/// Entries that are held of a group's log, the newest: what a person scrolls through in one sitting. The server has the rest.
pub const GROUP_ENTRIES_MAX: usize = 1_000;

/// Pushed entries of a group that are kept behind a gap until it is filled: what comes while a page is on its way.
pub const GROUP_AHEAD_MAX: usize = 64;

/// A watch is not sent again sooner after its answer, whatever that says: a server must not make it a loop at the speed of the network.
pub const WATCH_AGAIN_AFTER_MIN_MS: u64 = 1_000;

/// That somebody types is said of a conversation at most once in this time (SPEC 8.10).
pub const TYPING_AGAIN_AFTER_MS: u64 = 3_000;

/// Conversations in which somebody types here, and people of whom it is told, at a time. More are passed over: nobody sees as many.
pub const TYPING_MAX: usize = 64;

/// Longest time that a server is believed that somebody types, without saying it again.
pub const TYPING_SHOWN_MAX_MS: u64 = 60_000;

/// Events that wait for the application, in the channel between it and the driver.
pub const EVENTS_WAITING_MAX: usize = 1024;

const _: () = assert!(QUEUED_MESSAGES_MAX as u64 >= proto_spec::limits::SEND_WINDOW);
const _: () = assert!(proto_spec::limits::FETCHES_IN_FLIGHT_MAX <= QUEUED_FETCHES_MAX);
const _: () = assert!(BACKOFF_FIRST_MS <= BACKOFF_MAX_MS && BACKOFF_MAX_MS <= RETRY_AFTER_MAX_MS);
const _: () = assert!(
    UNWRITTEN_BYTES_MAX > proto_spec::limits::SEND_WINDOW as usize * proto_spec::limits::CLIENT_FRAME_BYTES_MAX
);
