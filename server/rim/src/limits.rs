//! The bounds of a ring and of TLS and WebSocket over it, with their units and reasons. Those of a server are in `server/src/limits.rs`.

/// Operations that one core may begin between two system calls; more are handed over in several calls.
pub const SUBMISSION_ENTRIES: u32 = 2048;

/// Completions that fit before the kernel must set some aside: a burst of a thousand connections with several each.
pub const COMPLETION_ENTRIES: u32 = 16 * 1024;

/// Entries of the journal's ring: a write and its sync.
pub const JOURNAL_ENTRIES: u32 = 2;

/// Entries of the ring that a core's runtime makes for itself. Nothing is submitted to it.
pub const RUNTIME_ENTRIES: u32 = 1;

/// For how long a core runs on before others have their turn, if they want its processor, in microseconds: the shortest that the kernel
/// grants, and the time of a dozen messages. Who asks for short slices gets the processor sooner; usual are 2,800.
pub const SLICE_US: u64 = 100;

/// Bytes from which on a block of memory is a mapping of its own, which the kernel has back when it is freed: what glibc begins with. The
/// buffers of an ingestion and of the engine's merges are larger.
pub const MAPPED_FROM_BYTES: i32 = 128 * 1024;

/// Bytes of freed memory that a thread keeps at the end of what it has: half of what glibc takes from the kernel at once.
pub const KEPT_ON_TOP_BYTES: i32 = 32 * 1024 * 1024;

/// Receive buffers of one core. With 16 for 1,000 connections nearly every receive found none; with 256 none did.
/// More, because a core that waits for another one holds what it has received.
pub const RECEIVE_BUFFERS: u16 = 1024;

/// Bytes of a receive buffer: a dozen ordinary messages, so that a burst of one connection takes few of them.
pub const RECEIVE_BUFFER_BYTES: usize = 2048;

/// Largest record of TLS on the wire, in bytes: what rustls takes, 16 KiB and 2 KiB of overhead behind a header. A connection
/// holds at most one that is not whole, and nothing between two records.
pub const TLS_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2 * 1024;

/// Bytes of a client's part of the TLS handshake that are held until they make a message. A ClientHello with a key for a
/// post-quantum exchange and a ticket has less than 3 KiB.
pub const TLS_GREETING_BYTES_MAX: usize = 8 * 1024;

/// Bytes of the server's part of the TLS handshake that a client of ours holds until they make a message: the longest chain of
/// certificates that a message can have.
pub const TLS_SERVER_FLIGHT_BYTES_MAX: usize = 64 * 1024 + TLS_RECORD_BYTES_MAX;

/// Bytes that a WebSocket connection holds of a control frame that is not whole and of a pong that has not left: twice what these two
/// have at most, since room for them grows by doubling. One that is idle holds none.
pub const WEBSOCKET_HELD_BYTES_MAX: usize = 512;

/// Bytes of the answer to a request for WebSocket that a client of ours holds until it is whole. A server's has some 200.
pub const WEBSOCKET_ANSWER_BYTES_MAX: usize = 8 * 1024;

// The kernel takes powers of two.
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two());
