//! Every bound of the load generator, with unit and reason.

/// Connections of one lane, which has one ring. Each ring's table is bounded by the open files that a process may have, often
/// 20,000; several rings in one process are not bounded together.
pub const LANE_CONNECTIONS_MAX: usize = 16_000;

/// Lanes of one run: a label has six bits for the lane. A million connections.
pub const LANES_MAX: usize = 64;

/// Slots of a ring's table beyond the connections, in slots.
pub const SLOTS_SPARE: usize = 16;

/// Connections of one lane that are on their way to their welcome, unless a scenario asks for less. Several lanes stay below what
/// a server core takes as handshakes, and below a listen queue of 4096.
pub const HANDSHAKES_MAX: usize = 256;

/// Connections that share a source address. A pair of addresses has 28,000 ephemeral ports, and those of closed connections are
/// not free for a minute.
pub const SOURCE_CONNECTIONS_MAX: usize = 4_000;

/// Source addresses that a connection takes in turn with its lives, in addresses: a port of an earlier life may still be waiting.
pub const SOURCE_LIVES: usize = 4;

/// Acknowledgements are gathered this long, in microseconds, as the client does.
pub const ACKNOWLEDGE_AFTER_US: u64 = 100_000;

/// How long acknowledgements of groups are gathered, as the client library does.
pub const ACKNOWLEDGE_GROUPS_AFTER_US: u64 = 2_000_000;

/// From the first attempt to connect to the welcome, in microseconds. As long as the client waits for both together.
pub const LOGIN_TIMEOUT_US: u64 = 20_000_000;

/// Silence after which a connection pings, in seconds: as the client does, and below what the strictest networks forget.
pub const PING_AFTER_S: u32 = 20;

/// A ping that has no answer for so long means that the connection is dead, in seconds.
pub const PONG_TIMEOUT_S: u32 = 20;

/// Upper end of the random delay before a reconnect that nobody has planned, in microseconds; doubled with each attempt up to
/// [`BACKOFF_MAX_US`].
pub const BACKOFF_FIRST_US: u64 = 250_000;

/// Longest random delay before a reconnect, in microseconds. A server that was killed on purpose is back soon, and a run should
/// not wait half a minute for its last user.
pub const BACKOFF_MAX_US: u64 = 2_000_000;

/// Longest `retry_after` that is waited for, in milliseconds. A run that is told to come back in an hour is over.
pub const RETRY_AFTER_MAX_MS: u64 = 30_000;

/// Nodes that one lane knows: the first one, and those that redirects have named. More than a cluster that one machine loads has.
pub const NODES_MAX: usize = 64;

/// Nodes whose users' latencies are told apart: a table of 64 rows is as long as one can be read, and each pair has two histograms,
/// 280 KB, so those of a lane take 18 MB at the worst.
pub const HOMES_MAX: usize = 8;

/// Wait before a gap in the numbers that nothing explains is tried again, in milliseconds: no loop at the speed of the network.
pub const GAP_RETRY_MS: u64 = 1_000;

/// Messages of one lane that an open loop has begun and nobody has answered. At 40 to 80 bytes each, 640 MB at the worst. Beyond
/// it the server is hopelessly behind: the run ends with a fault and a report.
pub const BACKLOG_MAX: u64 = 8_000_000;

/// Messages of one lane that may be changed, the newest ones: with two devices on each side some 300 bytes each, 5 MB. At 500 messages
/// a second those of the last half minute.
pub const KEPT_MAX: usize = 16_384;

/// Marks, settings and deletions of one device that wait for their answer: a person taps no faster.
pub const MARKS_IN_FLIGHT_MAX: usize = 8;

/// Conversations that one lane reads back at a time. Enough to keep the server busy, few enough for its queues.
pub const READERS_MAX: usize = 64;

/// How long who has left a group, was removed or lost the connection stays away, in microseconds: long enough for the others to write meanwhile.
pub const GROUP_AWAY_US: u64 = 1_000_000;

/// How long a stage in which somebody returns stays as it is when it is done, in microseconds: until the lanes have told what they counted.
pub const GROUP_STAGE_US: u64 = 3 * PUBLISH_EVERY_US;

/// Messages of one lane that are under way while conversations are filled: enough to keep the server busy, few enough for its queues.
pub const FILL_UNDER_WAY_MAX: u64 = 4_096;

/// Time after the last message in which its receipts come, in microseconds: so that nobody has missed anything who leaves then.
pub const SETTLE_US: u64 = 3_000_000;

/// Longest sleep of a lane, in microseconds: how late it may learn that the next phase has begun.
pub const LANE_SLEEP_MAX_US: u64 = 20_000;

/// How often a lane publishes its counts, in microseconds: what the live line needs.
pub const PUBLISH_EVERY_US: u64 = 200_000;

/// How often the coordinator looks at its lanes, in milliseconds.
pub const LOOK_EVERY_MS: u64 = 5;

/// Width of a point of the plots, in milliseconds; doubled whenever there are [`SAMPLES_MAX`] of them.
pub const SAMPLE_EVERY_MS: u64 = 500;

/// Points of a plot. More can not be told apart on a screen.
pub const SAMPLES_MAX: usize = 2_000;

/// Faults that are kept with their words, per lane; further ones are counted. The first ones tell the story.
pub const FAULTS_KEPT: usize = 100;

/// Faults that a report shows; further ones are counted.
pub const FAULTS_SHOWN_MAX: usize = 20;

/// How long closing all connections may take, in microseconds, before the run ends without it.
pub const CLOSE_TIMEOUT_US: u64 = 5_000_000;

/// How long it may take to find out which of several addresses of a name somebody listens at, each, in milliseconds.
pub const PLACE_TIMEOUT_MS: u64 = 1_000;

/// Part of a core from which on it counts as busy all the time: what is left goes to the kernel's other work.
pub const BUSY_PART: f64 = 0.85;

/// Part of the rate that was asked for from which on it counts as reached.
pub const REACHED_PART: f64 = 0.95;

/// How late half of an open loop's sends may be before the generator itself counts as the limit, in microseconds.
pub const LATE_US: u64 = 5_000;

/// How long one look at the server's metrics may take, in milliseconds.
pub const METRICS_TIMEOUT_MS: u64 = 1_000;

/// Longest metrics page that is read, in bytes. A server with 128 cores has half of that.
pub const METRICS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Send buffers that a lane keeps for reuse, and the capacity above which one is not kept, in bytes.
pub const BUFFERS_KEPT: usize = 1024;
/// See [`BUFFERS_KEPT`].
pub const BUFFER_KEPT_BYTES: usize = 4 * 1024;

/// Longest line of a trace, in bytes: the longest text and the columns before it.
pub const TRACE_LINE_BYTES_MAX: usize = proto_spec::limits::TEXT_BYTES_MAX + 256;

/// Largest trace, in bytes: it is held in memory. A hundred messages a second for a day.
pub const TRACE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What is told of when somebody was last seen is a multiple of this, in milliseconds (SPEC 4.38).
pub const SEEN_EACH_MS: u64 = 60_000;

/// Frames with changes that one device may get before their time, in ticks: what a busy machine has held back comes at once.
pub const PUSHES_AHEAD: u64 = 3;

/// Rows of a page of a list of conversations, as a screen shows: so that lists have several pages.
pub const LIST_ROWS: u64 = 15;

/// Length of a load from which on the growth of the server's memory means something, in seconds.
pub const GROWTH_AFTER_S: f64 = 120.0;

const _: () = assert!(LANES_MAX <= 1 << 6);
const _: () = assert!(SOURCE_CONNECTIONS_MAX * 4 < 28_000);
const _: () = assert!(LANE_CONNECTIONS_MAX * LANES_MAX / SOURCE_CONNECTIONS_MAX * SOURCE_LIVES < 250 * 250);
const _: () = assert!(FAULTS_SHOWN_MAX <= FAULTS_KEPT);
