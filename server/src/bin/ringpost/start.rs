//! The node that a configuration describes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use server::{
    access::revocation::Revocations,
    commands::{
        backend::{UseStore, with_history},
        journal::{WAY_ON, unreadable},
    },
    config::{Ack, Backend, Config},
    durability::committer::OnStoreOutage,
    files::{self, cluster_file, credentials::Credentials, datadir::DataDir, membership},
    io::{ClusterConfig, DatabaseConfig, Node, NodeConfig, StartError, recovery::Progress},
    limits::UNRELEASED_BYTES_MAX,
    operator::{audit::Audit, counters::Counters},
    shard::{Promise, PushSettings, Settings},
};
use storage::{
    IngestError, Store,
    journal::{JournalConfig, Recovered, SealedSegment, recover_watched},
};

/// What a start needs of a disk for its own files, beside what the journal holds.
const START_ROOM_BYTES: u64 = 4 * 1024 * 1024;

/// The node that a configuration describes.
pub(crate) fn start_node(
    config: &Config,
    data: &Arc<DataDir>,
    credentials: Credentials,
    revocations: Revocations,
    audit: Audit,
    counters: Arc<Counters>,
) -> anyhow::Result<Node> {
    let in_data = || format!("{}", data.path().display());
    let cluster = cluster_file::load(config)?;
    files::push::make_key(&config.push, data.path())?;
    let push = files::push::load(&config.push, data.path())?;
    membership::claim(data, cluster.as_ref().and_then(ClusterConfig::fixed))?;
    // Read first: if the journal is damaged, the store has not been touched.
    let mut progress = Progress::of_reading(&counters.journal);
    let found = recover_watched(&data.journal(), |reading| progress.has_read(reading))
        .map_err(|error| anyhow!(unreadable(&error)));
    let found = found.with_context(in_data)?;
    let held_bytes = found.segments.iter().map(SealedSegment::bytes).sum();
    // Told before the store is opened: that may take its time, too.
    counters.journal.recovery_bytes.set(held_bytes);
    // Rows, and what they are merged with: twice the records is enough, and a little for the engine's own files.
    let room_bytes = 2 * held_bytes + START_ROOM_BYTES;
    let mut journal = JournalConfig {
        segment_bytes: config.journal.segment_bytes,
        journal_bytes_max: config.journal.bytes_max,
        // Each message under way becomes a record of its sender and one of its recipient.
        reserve_bytes: 2 * u64::from(config.cores()) * UNRELEASED_BYTES_MAX as u64,
    };
    // On many cores with small segments: what is in flight beyond it is written again when there is room.
    journal.reserve_bytes = journal.reserve_bytes.min(journal.segment_room());
    journal.validate()?;
    let database = &config.store.foundationdb;
    let node = NodeConfig {
        listen: config.listeners(),
        cores: config.cores(),
        connections_max: config.connections.max,
        handshake_timeout_ms: config.connections.handshake_timeout_ms,
        origins: config.of_origins(),
        settings: Settings {
            ping_after_ms: config.connections.ping_after_ms,
            idle_timeout_ms: config.connections.idle_timeout_ms,
            expiry_warning_ms: 1_000 * config.auth.expiry_warning_s,
            token_leeway_ms: 1_000 * config.auth.leeway_s,
            promise: match (config.store.backend, database.ack) {
                (Backend::Embedded, _) => Promise::Disk,
                (Backend::FoundationDb, Ack::Committed) => Promise::Store,
                (Backend::FoundationDb, Ack::Journal) => Promise::Journal,
            },
            limits: config.limits.of_shards(),
            cache: config.cache.of_shards(),
            presence: config.presence.of_shards(),
            // Each core paces what it sends away itself.
            moves_per_s: (config.cluster.moves_per_s / u32::from(config.cores())).max(1),
            push: push.as_ref().map(|way| of_shards(way, config.push.delay_ms)),
        },
        data: Arc::clone(data),
        journal,
        seal_after_ms: config.seal_after_ms(),
        journal_gap: Duration::from_micros(config.journal.gap_us),
        database: DatabaseConfig {
            lanes: database.lanes,
            slow_after_ms: database.slow_after_ms,
            reads_max: database.reads_max.into(),
        },
        // There is no journal that could take them, where the database is shared with other nodes.
        on_store_outage: match cluster.as_ref().and_then(ClusterConfig::moving) {
            Some(_) => OnStoreOutage::Refuse,
            None => config.journal.on_store_outage,
        },
        revocations,
        audit,
        websocket_origins: config.websocket.origins.clone(),
        shows_page: config.shows_page(),
        cluster,
    };
    let started =
        with_history(config, data, StartNode { config: &node, found, credentials, counters }).with_context(in_data)?;
    let started = started.map_err(|error| match error {
        error if error.is_full() => anyhow!(
            "{error}. Nothing is lost, and nobody is served before what the journal holds is in the store: make room for about {} MiB \
             on its disk, and start again",
            room_bytes.div_ceil(1024 * 1024)
        )
        .context(in_data()),
        error @ StartError::Ingest(IngestError::Batch { .. }) => anyhow!("{error}; {WAY_ON}").context(in_data()),
        error @ (StartError::Journal(_) | StartError::Ingest(_) | StartError::Store(_) | StartError::TakeOver(_)) => {
            anyhow::Error::from(error).context(in_data())
        }
        error => error.into(),
    })?;
    if let Some(push) = push {
        started.start_push(push).context("the push service")?;
    }
    Ok(started)
}

/// What shards must know of how people are notified.
fn of_shards(way: &push::Way, delay_ms: u64) -> PushSettings {
    let providers = files::push::providers(way).into_iter().map(|provider| 1 << provider.byte()).sum();
    // Once in a process.
    let hosts = Box::leak(Box::new(way.hosts()));
    PushSettings { delay_ms, providers, server_key: way.server_key(), hosts }
}

/// A node that starts on whatever store.
pub(crate) struct StartNode<'a> {
    config: &'a NodeConfig,
    found: Recovered,
    credentials: Credentials,
    counters: Arc<Counters>,
}

impl UseStore for StartNode<'_> {
    type Output = Result<Node, StartError>;

    fn with<S: Store>(self, store: S) -> Self::Output {
        Node::start(self.config, self.found, Arc::new(store), self.credentials, self.counters)
    }
}
