//! Counters: what the rim did, for operators. Each core writes its own; anybody reads.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use proto_spec::ErrorCode;

use crate::{
    operator::pulse::Pulse,
    shard::{ShardCounters, topology::CoreId},
};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts one more.
    pub fn one(&self) {
        self.add(1);
    }

    /// For a gauge: it is `n` now.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// For a maximum: at least `n`.
    pub fn at_least(&self, n: u64) {
        // Mostly it is: then nothing is written, and what other threads read stays in their caches.
        if n > self.get() {
            self.0.fetch_max(n, Ordering::Relaxed);
        }
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Is what is now, and may fall.
    Gauge,
}

/// One number of a `T`, for whoever shows them all.
#[derive(Debug)]
pub struct Described<T> {
    /// Its name in `T`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// The number.
    pub of: fn(&T) -> u64,
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $(#[doc = $help:literal] $field:ident: $kind:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl $name {
            /// Each of them.
            pub const ALL: &'static [Described<Self>] = &[
                $(Described {
                    name: stringify!($field),
                    kind: Kind::$kind,
                    help: $help,
                    of: |counters| counters.$field.get(),
                },)*
            ];
        }
    };
}

/// What was found about the wall clock of the machine.
#[derive(Debug, Default)]
pub struct ClockCounters {
    /// Times that it leapt.
    pub leaps: Counter,
    /// How far it is from the trusted time, while it is not trusted, in milliseconds.
    pub doubted_ms: AtomicI64,
}

counters! {
    /// What one core did.
    CoreCounters {
        /// Connections in the table, of whatever stage.
        connections: Gauge,
        /// Connections whose hello has not come, or waits to be judged.
        handshakes: Gauge,
        /// Connections that speak TLS.
        tls_connections: Gauge,
        /// Connections that speak WebSocket, and sessions of long polling.
        websocket_connections: Gauge,
        /// Connections whose requests of HTTP the pages' thread answers.
        page_connections: Gauge,
        /// Connections accepted.
        accepted: Counter,
        /// Accepts that failed; tried again with the next tick.
        accepts_failed: Counter,
        /// Connections refused because there were too many.
        refused: Counter,
        /// Connections that began with a PROXY header.
        proxied: Counter,
        /// Connections of balancers that were refused because no good PROXY header came first.
        proxy_refused: Counter,
        /// Handshakes given up for newer ones because there were too many.
        handshakes_given_up: Counter,
        /// Connections given to another core.
        moved_out: Counter,
        /// Connections taken from another core.
        moved_in: Counter,
        /// Hellos that were not good.
        handshakes_failed: Counter,
        /// TLS handshakes done.
        tls_handshakes: Counter,
        /// TLS handshakes that a ticket made short.
        tls_resumed: Counter,
        /// Connections that a fault of TLS has ended, during the handshake or after it.
        tls_failed: Counter,
        /// Requests of WebSocket that were answered with an upgrade.
        websocket_upgrades: Counter,
        /// Requests of WebSocket that were refused, and what was none.
        websocket_refused: Counter,
        /// Connections that a fault in the frames of WebSocket has ended.
        websocket_failed: Counter,
        /// Requests of HTTP that were refused because too many are answered already.
        page_refused: Counter,
        /// Sessions of long polling that have begun.
        polls: Counter,
        /// Connections closed by the peer or the network.
        closed_by_peer: Counter,
        /// Connections closed after the client's bye.
        closed_after_bye: Counter,
        /// Connections cut because they did not take their last bytes in time.
        closed_by_deadline: Counter,
        /// Turns.
        turns: Counter,
        /// The longest of them since the start, in microseconds.
        turn_us_max: Gauge,
        /// The longest of them while a segment was brought into the store, in microseconds.
        turn_ingesting_us_max: Gauge,
        /// Times that the core slept.
        sleeps: Counter,
        /// Receives that brought something.
        receives: Counter,
        /// Bytes received.
        received_bytes: Counter,
        /// Sends that took something.
        sends: Counter,
        /// Bytes sent.
        sent_bytes: Counter,
        /// Receives that found no free buffer.
        receives_starved: Counter,
        /// Receives put off because another core's mailbox was full.
        receives_deferred: Counter,
        /// Messages that found a mailbox full.
        mailbox_full: Counter,
        /// Envelopes for other cores, and what is said to them of groups.
        envelopes: Counter,
        /// Messages about presence for other cores that found no room, or other nodes no link or no room in it, and were dropped.
        presence_dropped: Counter,
        /// Clients that were sent to another node.
        redirected: Counter,
        /// Clients that are served through another node now.
        tunnels: Gauge,
        /// Clients that another node has taken in.
        tunnels_opened: Counter,
        /// Clients that another node should have taken in and has not.
        tunnels_failed: Counter,
        /// Clients of other nodes that were taken in here.
        tunnels_taken: Counter,
        /// Links to other nodes that are open.
        links: Gauge,
        /// Links to other nodes that were opened.
        links_opened: Counter,
        /// Links to other nodes that have ended.
        links_ended: Counter,
        /// Envelopes sent to other nodes.
        mesh_sent: Counter,
        /// Envelopes that came from other nodes.
        mesh_received: Counter,
        /// Envelopes for other nodes that were put off, since there was no link or no room in it.
        mesh_put_off: Counter,
        /// Envelopes from other nodes, and what they say of presence, that were not for here, or not theirs to say.
        mesh_astray: Counter,
        /// Queries asked.
        queries: Counter,
        /// Queries that could not be answered.
        queries_failed: Counter,
        /// Commits into the database.
        commits: Counter,
        /// Batches in them.
        commit_batches: Counter,
        /// Sum of the times that they took, in microseconds.
        commit_us: Counter,
        /// The longest of them, in microseconds.
        commit_us_max: Gauge,
        /// Commits that failed and were tried again.
        commit_retries: Counter,
        /// Commits that found that a slot of theirs has another owner.
        commits_moved: Counter,
        /// Batches that are not in the database yet.
        commit_waiting_batches: Gauge,
        /// Bytes of their records.
        commit_waiting_bytes: Gauge,
    }
}

/// What the journal did.
#[derive(Debug, Default)]
pub struct JournalCounters {
    /// Groups synced.
    pub groups: Counter,
    /// Batches in them.
    pub batches: Counter,
    /// Bytes in them.
    pub bytes: Counter,
    /// Sum of the times from handing a group to the ring until it was durable, in microseconds.
    pub sync_us_sum: Counter,
    /// The longest of them.
    pub sync_us_max: Counter,
    /// Groups written again because the disk was full.
    pub write_retries: Counter,
    /// Segments made ready.
    pub segments_prepared: Counter,
    /// Segments that became full or old.
    pub segments_sealed: Counter,
    /// Freed files that were wiped.
    pub segments_wiped: Counter,
    /// How often the store was purged of what was deleted.
    pub purges: Counter,
    /// 1 while a segment is brought into the store.
    pub ingesting: Counter,
    /// Runs brought into the store.
    pub ingest_runs: Counter,
    /// Rows in them.
    pub ingest_rows: Counter,
    /// Sum of the time that took, in milliseconds.
    pub ingest_ms_sum: Counter,
    /// Runs that failed and were tried again.
    pub ingest_retries: Counter,
    /// Bytes of the tables that have the embedded store's rows.
    pub store_rows_bytes: Counter,
    /// Bytes of all its tables.
    pub store_tables_bytes: Counter,
    /// 1 while the store does not take what the journal has for it.
    pub store_away: Counter,
    /// Bytes of the files that the start reads first of all, of the journal.
    pub recovery_read_bytes: Counter,
    /// Those of them that have been read.
    pub recovery_read_bytes_done: Counter,
    /// Bytes of records that the start has found in the journal, to be brought into the store.
    pub recovery_bytes: Counter,
    /// Those of them that are in the store.
    pub recovery_bytes_done: Counter,
    /// The [`Admission`](crate::shard::Admission) that was last announced, as a number.
    pub admission: Counter,
}

/// All counters of a node.
#[derive(Debug)]
pub struct Counters {
    /// By core.
    pub cores: Vec<CachePadded<CoreCounters>>,
    /// What each core's shard says, as of its last tick.
    shards: Vec<Mutex<ShardCounters>>,
    /// Connections closed by the server, by the position of the reason in [`ErrorCode::ALL`].
    closed: Vec<Counter>,
    /// The journal.
    pub journal: CachePadded<JournalCounters>,
    /// The clock.
    pub clock: ClockCounters,
    /// When each core had its last tick.
    pub pulse: Pulse,
    /// Slots that this node owns, where slots move.
    pub slots: Counter,
    /// Until when others take this node for alive, by the clock that cores go by, in milliseconds; 0: it has no lease.
    pub lease_until_ms: Counter,
    /// Those of the push service, if there is one.
    pub push: OnceLock<Arc<push::Counters>>,
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new(cores: u16) -> Self {
        Self {
            cores: (0..cores).map(|_| CachePadded::default()).collect(),
            shards: (0..cores).map(|_| Mutex::default()).collect(),
            closed: ErrorCode::ALL.iter().map(|_| Counter::default()).collect(),
            journal: CachePadded::default(),
            clock: ClockCounters::default(),
            pulse: Pulse::new(cores),
            slots: Counter::default(),
            lease_until_ms: Counter::default(),
            push: OnceLock::new(),
        }
    }

    /// The counters of one core.
    #[must_use]
    pub fn core(&self, core: CoreId) -> &CoreCounters {
        &self.cores[usize::from(core.0)]
    }

    /// What a core's shard said at its last tick.
    #[must_use]
    pub fn shard(&self, core: CoreId) -> ShardCounters {
        *self.shards[usize::from(core.0)].lock()
    }

    /// A shard's counters as of now.
    pub fn set_shard(&self, core: CoreId, counters: ShardCounters) {
        *self.shards[usize::from(core.0)].lock() = counters;
    }

    /// The server closed a connection, for this reason.
    pub fn closed(&self, reason: ErrorCode) {
        if let Some(index) = ErrorCode::ALL.iter().position(|&code| code == reason) {
            self.closed[index].one();
        }
    }

    /// How many connections the server closed, by reason.
    pub fn closed_by_reason(&self) -> impl Iterator<Item = (ErrorCode, u64)> + '_ {
        ErrorCode::ALL.iter().copied().zip(self.closed.iter().map(Counter::get))
    }
}
