//! Node: a whole server in one process. Recovers the journal, binds the socket, starts the threads, stops them in order.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::{Mutex, RwLock};
use proto_spec::EpochId;
use rim::ring::{JournalRing, Ring, SetupError};
use rim::rlimit::raise_descriptor_limit;
use storage::{
    Ahead, Fence, Kind, Pace, Store,
    journal::{JournalConfig, JournalFolder, Recovered, Writer},
};
use tokio::sync::{Notify, mpsc};
use tracing::{error, warn};

use super::{
    background::{self, Background, Rest},
    commit::Commit,
    listeners::{Listener, listen},
    mailbox::Mailbox,
    pages::Pages,
    push::ToPush,
    query::Readers,
    reactor::{Parts, Reactor, Reads},
    recovery::Recovery,
    shared::{Controls, Inquiries, Shared},
    start_error::StartError,
    steward::{Gained, Office, ToSteward},
    tasks::Database,
    thread::{be_prompt, spawn},
};
use crate::{
    access::revocation::Revocations,
    cluster::{file::Identity, map::Slot, steward::Stewardship},
    config::{Listen, Transport},
    core::{Common, Core, CoreConfig, OriginLimits},
    durability::committer::{Committer, OnStoreOutage},
    files::certificate::MeshTls,
    files::{credentials::Credentials, datadir::DataDir},
    host::{capacity::Capacity, clock::Clock},
    limits::{ERRANDS_MAX, HELPERS_STOP_MS, JOURNAL_SEGMENT_BYTES_MIN, READER_THREADS},
    operator::{audit::Audit, counters::Counters, logging},
    shard::{
        Promise, Settings,
        directory::Directory,
        topology::{Home, Topology},
    },
};

/// How cores use a database. Nothing for an engine.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseConfig {
    /// Commits that a core has under way at a time, if acknowledgements wait for them.
    pub lanes: u16,
    /// When a commit takes longer than this, in milliseconds, acknowledgements leave once the journal has synced.
    pub slow_after_ms: u64,
    /// Reads that a core has under way at a time.
    pub reads_max: usize,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { lanes: 4, slow_after_ms: 1_000, reads_max: 64 }
    }
}

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where clients connect: one place at least. What TLS needs is in the [`Credentials`].
    pub listen: Vec<Listen>,
    /// How many cores serve.
    pub cores: u16,
    /// Most connections at a time.
    pub connections_max: u32,
    /// How long a client may take for its hello, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// What connections of one address may do.
    pub origins: OriginLimits,
    /// For the shards.
    pub settings: Settings,
    /// Has the journal.
    pub data: Arc<DataDir>,
    /// Sizes of the journal.
    pub journal: JournalConfig,
    /// Age at which a segment is ingested though it is not full, in milliseconds.
    pub seal_after_ms: u64,
    /// Least time between the beginnings of two groups of the journal while the first core is calm.
    pub journal_gap: Duration,
    /// For the lanes, if the store is a database.
    pub database: DatabaseConfig,
    /// What to do with sends while the store is away.
    pub on_store_outage: OnStoreOutage,
    /// Whose tokens are void from the start.
    pub revocations: Revocations,
    /// Where it is reported who comes and who is refused.
    pub audit: Audit,
    /// Pages of which origins may connect by WebSocket; none: those of the host that they connect to.
    pub websocket_origins: Vec<String>,
    /// The web page is shown to whoever asks for it.
    pub shows_page: bool,
    /// The other nodes, and where they connect; none: there are no others.
    pub cluster: Option<ClusterConfig>,
}

/// A node's place among others.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Who says who owns what.
    pub part: Part,
    /// Where the others connect.
    pub listen: SocketAddr,
    /// What nodes prove to each other who they are with; none: they talk in plain.
    pub tls: Option<MeshTls>,
}

/// Who says which nodes there are and who owns what.
#[derive(Clone, Debug)]
pub enum Part {
    /// A file, for ever. Which node this is.
    Fixed(Identity),
    /// The database. What it is told of this node.
    Moving(Stewardship),
}

impl ClusterConfig {
    /// What a database is told of the node, if slots move.
    #[must_use]
    pub const fn moving(&self) -> Option<&Stewardship> {
        match &self.part {
            Part::Moving(stewardship) => Some(stewardship),
            Part::Fixed(_) => None,
        }
    }

    /// What a file says for ever, if one does.
    #[must_use]
    pub const fn fixed(&self) -> Option<&Identity> {
        match &self.part {
            Part::Fixed(identity) => Some(identity),
            Part::Moving(_) => None,
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    shared: Arc<Shared>,
    ended: Arc<AtomicBool>,
    pace: Arc<Pace>,
    cores: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
    /// Where slots move.
    steward: Option<ToSteward>,
}

impl Node {
    /// Starts a node: when this returns, clients may connect. Where the disk has no room for what the journal holds, they may read, and
    /// sends are refused until it has. `journal` is what was found in the journal's folder; it is read
    /// before the store is opened, so that a damaged journal leaves everything as it was. To bring it into the store may take
    /// minutes; `counters`, which are for as many cores as the configuration says, tell how far that is. Nothing is lost when the
    /// process ends meanwhile.
    ///
    /// # Errors
    /// Something that a node needs is missing or damaged; nothing is left running.
    pub fn start<S: Store>(
        config: &NodeConfig,
        journal: Recovered,
        store: Arc<S>,
        credentials: Credentials,
        counters: Arc<Counters>,
    ) -> Result<Self, StartError> {
        Self::start_by(Clock::new(), config, journal, store, credentials, counters)
    }

    /// As [`Node::start`], by a clock that the caller has.
    pub(super) fn start_by<S: Store>(
        clock: Clock,
        config: &NodeConfig,
        journal: Recovered,
        store: Arc<S>,
        credentials: Credentials,
        counters: Arc<Counters>,
    ) -> Result<Self, StartError> {
        assert_eq!(counters.cores.len(), usize::from(config.cores), "counters are for as many cores as there are");
        let (kind, promise) = (store.kind(), config.settings.promise);
        if (kind == Kind::Engine) != (promise == Promise::Disk) {
            return Err(StartError::Promise { promise, kind });
        }
        let moving = config.cluster.as_ref().and_then(ClusterConfig::moving);
        if moving.is_some() && promise != Promise::Store {
            return Err(StartError::Promise { promise, kind });
        }
        // What is in the order of the journal needs no more.
        let lanes = if promise == Promise::Store { config.database.lanes } else { 1 };
        let topology = match moving {
            Some(_) => Topology::with_slots(config.cores),
            None => Topology::with_lanes(config.cores, lanes),
        };
        let topology = topology.ok_or(StartError::NoCores)?;
        if config.journal.segment_bytes < JOURNAL_SEGMENT_BYTES_MIN {
            return Err(StartError::SegmentBytes(config.journal.segment_bytes));
        }
        let capacity = Capacity::told(config.connections_max, config.cores, raise_descriptor_limit())?;
        let ended = Arc::new(AtomicBool::new(false));
        let mailboxes: Arc<[_]> = (0..config.cores).map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?.into();

        let folder = JournalFolder::open(&config.data.journal(), config.journal.segment_bytes)?;
        let open = |&Listen { address, transport }: &Listen| {
            let socket = listen(address).map_err(|error| StartError::Listen { address, error })?;
            Ok(Listener { socket, transport })
        };
        let listeners = config.listen.iter().map(open).collect::<Result<Vec<_>, StartError>>()?;
        let mesh_listener = config.cluster.as_ref().map(|ClusterConfig { listen: address, .. }| {
            listen(*address).map_err(|error| StartError::Listen { address: *address, error })
        });
        let mesh_listener = mesh_listener.transpose()?;
        let batches = journal.batches;
        let mut recovery =
            Recovery::new(folder.clone(), Arc::clone(&config.data), Arc::clone(&counters), Arc::clone(&ended), journal);
        let mut writer = Writer::new(config.journal, recovery.next());
        let (recovered, is_recovered) = bounded(1);
        let office = match moving {
            Some(_) if batches > 0 => return Err(StartError::Journalled { batches }),
            Some(stewardship) => Some(Office::open(&store, &clock, stewardship.clone())?),
            None => None,
        };
        let brought_in = match &office {
            // Nothing is ever in the journal.
            Some(_) => Ok(Fence::default()),
            None => recovery.bring_in(&*store),
        };
        let (fence, ahead, rest) = match brought_in {
            Ok(fence) => {
                let _ = recovered.send(());
                (fence, Arc::new(Ahead::new(Arc::clone(&store))), None)
            }
            Err(error) if error.is_full() && kind == Kind::Engine => {
                warn!(%error, "the disk has no room for what the journal holds: reads are served, sends are refused until it has");
                let ahead = Arc::new(recovery.read_ahead(&store, config.journal.journal_bytes_max)?);
                // Whoever brings in the rest takes the store over for it.
                (Fence::default(), Arc::clone(&ahead), Some(Rest { recovery, ahead, recovered }))
            }
            Err(error) => return Err(error),
        };
        let background = Background {
            folder,
            store: Arc::clone(&store),
            fence,
            mailboxes: Arc::clone(&mailboxes),
            counters: Arc::clone(&counters),
            ended: Arc::clone(&ended),
            clock: clock.clone(),
            is_busy: Arc::default(),
        };
        let mut files = HashMap::new();
        // Prepare every spare now, so that the first send is admitted. Without room for them reads are served.
        let recovers = rest.is_some();
        let mut has_room = !recovers && office.is_none();
        while has_room && let Some(segment) = writer.wants_segment() {
            match background::prepare(&background.folder, segment) {
                Ok((salt, file)) => {
                    files.insert(segment, file);
                    writer.add_segment(segment, salt);
                }
                Err(error) if error.is_full() => {
                    warn!(%segment, %error, "the disk has no room for the journal: sends are refused until it has");
                    has_room = false;
                }
                Err(error) => return Err(error.into()),
            }
        }

        let address = listeners.first().expect("a node listens somewhere").socket.local_addr()?;
        let (threads, mut helpers) = background::start(&background, config.journal.segments_max(), rest)?;
        let reads = match kind {
            Kind::Engine => {
                let (readers, more) = Readers::start(READER_THREADS, &ahead, &mailboxes, &ended)?;
                helpers.extend(more);
                Reads::Threads(readers)
            }
            Kind::Database => Reads::Tasks(Database::new(&store, fence, config.database.reads_max)),
        };
        let mut committer = Committer::new(writer, topology, promise, config.seal_after_ms, config.on_store_outage);
        if office.is_some() {
            committer.go_without_journal();
        } else if recovers {
            committer.recover();
        } else if !has_room {
            committer.prepare_failed(0, true);
        }
        let journal = (committer, Commit::new(files, threads, config.journal_gap, Arc::clone(&counters)));
        let (revocations, origins) = (config.revocations.clone(), config.origins.clone());
        let common = Common::new(topology, counters, revocations, origins, capacity, config.handshake_timeout_ms);
        let (office, identity) = match office {
            Some((office, identity)) => (Some(office), Some(identity)),
            None => (None, config.cluster.as_ref().and_then(ClusterConfig::fixed).cloned()),
        };
        let common = match identity {
            Some(identity) => common.in_cluster(identity),
            None => common,
        };
        let has_pages = listeners.iter().any(|listener| listener.transport.is_websocket());
        let pages = has_pages
            .then(|| Pages::start(config.cores, config.websocket_origins.clone(), config.shows_page))
            .transpose()?;
        let pages = pages.map(|(pages, thread)| {
            helpers.push(thread);
            pages
        });
        let shared = Arc::new(Shared {
            common: Arc::new(common),
            mesh_listener,
            mesh_tls: config.cluster.as_ref().and_then(|cluster| cluster.tls.clone()),
            mailboxes,
            credentials: RwLock::new(Arc::new(credentials)),
            audit: config.audit.clone(),
            to_push: ToPush::default(),
            inquiries: Inquiries::default(),
            push_inquiries: Inquiries::default(),
            luggage: Mutex::default(),
            listeners,
            websocket_origins: config.websocket_origins.clone(),
            pages,
            rings: (0..config.cores).map(|_| AtomicI32::new(-1)).collect(),
            stopping: AtomicBool::new(false),
            lost: OnceLock::new(),
            loss: Notify::new(),
            clock,
        });
        let mut node = Self { address, shared, ended, pace: store.pace(), cores: Vec::new(), helpers, steward: None };
        node.start_cores(config, journal, &reads)?;
        let homes = node.shared.common.homes();
        let gained = match office {
            Some(office) => Some(node.start_steward(office)?),
            None => None,
        };
        let tell = move || {
            // Of a user whose home is another node nothing is owed from here.
            let here = |user| match homes.of(user) {
                Home::Here(core) => Some(core),
                Home::Elsewhere(_) => None,
            };
            match gained {
                // Slots that come later, too.
                Some(gained) => gained.iter().for_each(|mut slots: Gained| {
                    // One look for all that have come.
                    for more in gained.try_iter() {
                        slots.iter_mut().zip(more.iter()).for_each(|(slot, more)| *slot |= more);
                    }
                    let is_gained = |user| slots[usize::from(Slot::of(user).0)];
                    let gained = |user| is_gained(user).then(|| homes.topology.home_of(user));
                    background.tell_unfinished(gained);
                    background.tell_unfinished_groups(gained);
                }),
                // Not before the journal takes what they owe.
                None if is_recovered.recv().is_ok() => {
                    background.tell_unfinished(here);
                    background.tell_unfinished_groups(here);
                }
                None => {}
            }
        };
        node.helpers.push(spawn("ringpost-unfinished", tell)?);
        Ok(node)
    }

    /// Where slots move: renews the lease of this node, and takes and gives slots. Which come is told to who looks for what they owe.
    fn start_steward<S: Store>(&mut self, office: Office<S>) -> Result<Receiver<Gained>, StartError> {
        let (errands, wanted) = mpsc::channel(ERRANDS_MAX);
        let (tell, gained) = unbounded();
        let (shared, ended) = (Arc::clone(&self.shared), Arc::clone(&self.ended));
        self.helpers.push(spawn("ringpost-steward", move || office.serve(shared, ended, wanted, tell))?);
        self.steward = Some(ToSteward(errands));
        Ok(gained)
    }

    fn start_cores(
        &mut self,
        config: &NodeConfig,
        journal: (Committer, Commit),
        reads: &Reads,
    ) -> Result<(), StartError> {
        let (ready, are_ready) = bounded(config.cores.into());
        let mut go = Vec::new();
        let common = &self.shared.common;
        let (journal, commit) = journal;
        let core_config = CoreConfig {
            settings: config.settings,
            journal: Some(journal),
            slow_after_ms: config.database.slow_after_ms,
            commits_max: config.database.lanes.into(),
            epoch: new_epoch(),
            queries_kept_max: reads.queries_kept_max(),
        };
        // Core 0 comes first, and has the journal.
        let mut commit = Some(commit);
        for core in Core::all(core_config, common) {
            let (start, started) = bounded(1);
            go.push(start);
            // One that does not get to its first turn is missed like any other.
            common.counters.pulse.beat(core.id(), self.shared.clock.now().monotonic_ms);
            let name = format!("ringpost-core-{}", core.id().0);
            let seed = Seed {
                core,
                descriptors: common.capacity.table,
                commit: commit.take(),
                reads: reads.clone(),
                shared: Arc::clone(&self.shared),
                ready: ready.clone(),
                started,
            };
            self.cores.push(spawn(name, move || seed.run())?);
        }
        drop(ready);
        // A core that fails says why; if its thread could not even do that, its guard has ended the process.
        let all_ready = are_ready.iter().take(config.cores.into()).collect::<Result<(), SetupError>>();
        all_ready.map_err(|error| error.of_cores(config.cores))?;
        for start in go {
            let _ = start.send(());
        }
        Ok(())
    }

    /// Where clients connect: the first place.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect with TLS, if they can.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn tls_address(&self) -> io::Result<Option<SocketAddr>> {
        self.address_of(Transport::Tls)
    }

    /// Where clients connect in this way, if they can.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn address_of(&self, transport: Transport) -> io::Result<Option<SocketAddr>> {
        let found = self.shared.listeners.iter().find(|listener| listener.transport == transport);
        found.map(|listener| listener.socket.local_addr()).transpose()
    }

    /// What can be changed while it runs.
    #[must_use]
    pub fn controls(&self) -> Controls {
        Controls { shared: Arc::clone(&self.shared), steward: self.steward.clone() }
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.common.counters)
    }

    /// Who is connected.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.shared.common.directory)
    }

    #[cfg(test)]
    pub(super) fn mailbox(&self, core: crate::shard::topology::CoreId) -> &Mailbox<crate::core::CoreMessage> {
        &self.shared.mailboxes[usize::from(core.0)]
    }

    /// Why it stops by itself, if it does.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.shared.lost.get().map(String::as_str)
    }

    /// Begins a graceful stop: where slots move they are given away, and who is connected is told where to go; else no new connections and
    /// sends, what is parked is released, everybody gets a bye.
    pub fn stop(&self) {
        if let Some(steward) = self.steward.as_ref().filter(|_| self.lost().is_none()) {
            steward.leave();
        }
        self.shared.stop();
    }

    /// Starts the service that notifies people who are away. Until then what is due waits.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start_push(&self, way: push::Way) -> io::Result<()> {
        super::push::start(&self.shared, way)
    }

    /// Waits until the node has stopped. Says what that waited for, the longest first, as in "clients that go 812 ms, the
    /// journal's disk 30 ms"; "nothing" if it never had to.
    pub fn join(mut self) -> String {
        let helpers_ms = self.end();
        let mut waits: Vec<_> = self.shared.common.waits().map(|(awaited, ms)| (awaited.words(), ms)).collect();
        waits.push(("the threads of the store", helpers_ms));
        waits.retain(|(_, ms)| *ms > 0);
        waits.sort_by_key(|(_, ms)| Reverse(*ms));
        let words: Vec<_> = waits.iter().map(|(what, ms)| format!("{what} {ms} ms")).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }

    /// How long it took after the cores, in milliseconds.
    fn end(&mut self) -> u64 {
        // A segment that is being ingested is to be in the store when the cores have ended.
        self.pace.hurry();
        for thread in self.cores.drain(..) {
            // A core's panic has ended the process.
            let _ = thread.join();
        }
        self.ended.store(true, Ordering::Relaxed);
        self.steward.iter().for_each(ToSteward::ended);
        let start = Instant::now();
        let deadline = start + Duration::from_millis(HELPERS_STOP_MS);
        for helper in self.helpers.drain(..) {
            while !helper.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if helper.is_finished() {
                let _ = helper.join();
            } else {
                let name = helper.thread().name().unwrap_or_default();
                warn!(name, "the store does not answer a thread: the server ends without it");
            }
        }
        start.elapsed().as_millis() as u64
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.stop();
        self.end();
    }
}

/// A random name. Of so many bits that it is short on the wire and on the disk, and that no log has one twice.
fn new_epoch() -> EpochId {
    EpochId(rand::random::<u64>() >> 8 | 1)
}

/// What a core's thread starts with. Its rings must be made on that thread.
struct Seed {
    core: Core,
    descriptors: u32,
    commit: Option<Commit>,
    reads: Reads,
    shared: Arc<Shared>,
    ready: Sender<Result<(), SetupError>>,
    started: Receiver<()>,
}

impl Seed {
    fn run(self) {
        be_prompt();
        let (ring, journal_ring, runtime) = match self.rings() {
            Ok(rings) => rings,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return;
            }
        };
        self.shared.rings[usize::from(self.core.id().0)].store(ring.as_raw_fd(), Ordering::Release);
        let _ = self.ready.send(Ok(()));
        drop(self.ready);
        if self.started.recv().is_err() {
            // Another core has failed.
            return;
        }
        let Self { core, commit, reads, shared, .. } = self;
        let (id, clock) = (core.id(), shared.clock.clone());
        let journal = journal_ring.zip(commit);
        let reactor = Reactor::new(Parts { ring, core, journal, reads, clock }, shared);
        if let Err(error) = runtime.block_on(reactor.run()) {
            error!(core = id.0, %error, "a core's ring has failed");
            logging::flush();
            process::abort();
        }
    }

    /// All that the kernel may refuse a core: the ring of its sockets, that of the journal, and the runtime, which has a ring of its own.
    fn rings(&self) -> Result<(Ring, Option<JournalRing>, tokio_uring::Runtime), SetupError> {
        let doorbell = self.shared.mailboxes[usize::from(self.core.id().0)].doorbell();
        let ring = Ring::new(self.descriptors, doorbell)?;
        let journal_ring = self.commit.as_ref().map(|_| JournalRing::new(doorbell)).transpose()?;
        let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(rim::limits::RUNTIME_ENTRIES))
            .map_err(|error| SetupError::at("the runtime's ring", "6.1", error))?;
        Ok((ring, journal_ring, runtime))
    }
}
