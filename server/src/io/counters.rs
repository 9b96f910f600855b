//! Counters: what the rim did, for operators. Each core writes its own; anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use proto_spec::ErrorCode;
use storage::CoreId;

use crate::shard::ShardCounters;

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
        self.0.fetch_max(n, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Counter,)*
        }

        impl $name {
            /// Calls `show` with the name and value of each.
            pub fn each(&self, mut show: impl FnMut(&'static str, u64)) {
                $(show(stringify!($field), self.$field.get());)*
            }
        }
    };
}

counters! {
    /// What one core did.
    CoreCounters {
        /// Gauge: connections in the table, of whatever stage.
        connections,
        /// Gauge: connections whose hello has not come.
        handshakes,
        /// Connections accepted.
        accepted,
        /// Accepts that failed; tried again with the next tick.
        accepts_failed,
        /// Connections refused because there were too many.
        refused,
        /// Connections given to another core.
        moved_out,
        /// Connections taken from another core.
        moved_in,
        /// Hellos that were not good.
        handshakes_failed,
        /// Connections closed by the peer or the network.
        closed_by_peer,
        /// Connections closed after the client's bye.
        closed_after_bye,
        /// Connections cut because they did not take their last bytes in time.
        closed_by_deadline,
        /// Turns.
        turns,
        /// Times that the core slept.
        sleeps,
        /// Receives that brought something.
        receives,
        /// Bytes received.
        received_bytes,
        /// Sends that took something.
        sends,
        /// Bytes sent.
        sent_bytes,
        /// Receives that found no free buffer.
        receives_starved,
        /// Receives put off because another core's mailbox was full.
        receives_deferred,
        /// Messages that found a mailbox full.
        mailbox_full,
        /// Envelopes for other cores.
        envelopes,
        /// Queries asked.
        queries,
        /// Queries that could not be answered.
        queries_failed,
    }
}

counters! {
    /// What the journal did.
    JournalCounters {
        /// Groups synced.
        groups,
        /// Batches in them.
        batches,
        /// Bytes in them.
        bytes,
        /// Sum of the times from handing a group to the ring until it was durable, in microseconds.
        sync_us_sum,
        /// The longest of them.
        sync_us_max,
        /// Groups written again because the disk was full.
        write_retries,
        /// Segments made ready.
        segments_prepared,
        /// Segments that became full or old.
        segments_sealed,
        /// Runs brought into the store.
        ingest_runs,
        /// Rows in them.
        ingest_rows,
        /// Sum of the time that took, in milliseconds.
        ingest_ms_sum,
        /// Runs that failed and were tried again.
        ingest_retries,
        /// Gauge: 0 open, 1 behind, 2 full, 3 failed.
        admission,
    }
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
