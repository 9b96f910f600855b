//! Two cores on one thread, turned by hand: what happens between them happens in the order that a test wants.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use proto_spec::{ClientFrame, DeviceId, EpochId, Resume, Seq, ServerKind, TimestampMs, UserId};
use rim::tls::ServerTls;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use storage::{
    MemoryStore,
    journal::{JournalConfig, Position, Writer},
};

use super::{super::tests::DEADLINE, *};
use crate::{
    access::{
        auth::{Keys, SigningKey, generate_pem, mint},
        revocation::{Change, Revocations, Subject},
    },
    config::Transport,
    core::{Common, Core, CoreConfig, OriginLimits},
    durability::committer::{Committer, OnStoreOutage},
    files::{
        certificate::{Tickets, testing::Files},
        credentials::Credentials,
    },
    host::capacity::Capacity,
    io::{
        Controls,
        listeners::Listener,
        socket::{Stage, Stream},
    },
    limits::{HELLOS_TURN_MAX, STOP_MS, WARN_MS},
    operator::{
        audit::{Audit, Reporter},
        counters::Counters,
    },
    shard::{CacheLimits, ConnId, Limits, PresenceSettings, Promise, Settings, topology::Topology},
};

const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 0 };

/// Core 0 accepts; the user has its home on core 1.
struct World {
    cores: Vec<Reactor>,
    shared: Arc<Shared>,
    key: SigningKey,
    hello: Vec<u8>,
    readers: Vec<JoinHandle<()>>,
}

impl World {
    /// Rings with tables of these sizes.
    fn new(descriptors: [u32; 2]) -> Self {
        Self::with(descriptors, Capacity::new(100, 2, 1_000).unwrap())
    }

    fn with(descriptors: [u32; 2], capacity: Capacity) -> Self {
        let topology = Topology::new(2).unwrap();
        let pem = generate_pem().unwrap();
        let mailboxes: Arc<[_]> = (0..2).map(|_| Mailbox::new().unwrap()).collect();
        let store = Arc::new(MemoryStore::default());
        let (readers, threads) = Readers::start(1, &store, &mailboxes, &Arc::default()).unwrap();
        let counters = Arc::new(Counters::new(2));
        let (revocations, origins) = (Revocations::default(), OriginLimits::default());
        let shared = Arc::new(Shared {
            common: Arc::new(Common::new(topology, counters, revocations, origins, capacity, 60_000)),
            clock: Clock::new(),
            inquiries: crate::io::shared::Inquiries::default(),
            push_inquiries: crate::io::shared::Inquiries::default(),
            to_push: crate::io::push::ToPush::default(),
            mailboxes,
            credentials: RwLock::new(Arc::new(Credentials {
                keys: Keys::from_pem(pem.as_bytes()).unwrap(),
                tls: None,
            })),
            audit: Audit::off(),
            luggage: Mutex::default(),
            listeners: vec![Listener {
                socket: TcpListener::bind("127.0.0.1:0").unwrap(),
                transport: Transport::Plain,
            }],
            websocket_origins: Vec::new(),
            pages: None,
            mesh_listener: None,
            mesh_tls: None,
            rings: (0..2).map(|_| AtomicI32::new(-1)).collect(),
            stopping: AtomicBool::new(false),
            lost: OnceLock::new(),
            loss: tokio::sync::Notify::new(),
        });
        let settings = Settings {
            ping_after_ms: 50_000,
            idle_timeout_ms: 120_000,
            expiry_warning_ms: 60_000,
            token_leeway_ms: 0,
            promise: Promise::Disk,
            limits: Limits::OFF,
            cache: CacheLimits::OFF,
            presence: PresenceSettings::DEFAULT,
            moves_per_s: 1_000,
            push: None,
        };
        let clock = shared.clock.clone();
        // Nothing is written in these tests.
        let writer = Writer::new(JOURNAL, Position::default());
        let journal = Some(Committer::new(writer, topology, settings.promise, 1_000, OnStoreOutage::Accept));
        let config = CoreConfig {
            settings,
            journal,
            slow_after_ms: 1_000,
            commits_max: 1,
            epoch: EpochId(1),
            queries_kept_max: 0,
        };
        let cores = Core::all(config, &shared.common).into_iter().enumerate().map(|(index, core)| {
            let ring = Ring::new(descriptors[index], shared.mailboxes[index].doorbell()).unwrap();
            shared.rings[index].store(ring.as_raw_fd(), Ordering::Release);
            let reads = Reads::Threads(readers.clone());
            let parts = Parts { ring, core, journal: None, reads, clock: clock.clone() };
            Reactor::new(parts, Arc::clone(&shared))
        });
        let mut cores: Vec<_> = cores.collect();
        // It never begins to accept.
        cores[1].accepts_idle.clear();

        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        let mut world = Self { cores, shared, key, hello: Vec::new(), readers: threads };
        world.hello = world.hellos(CoreId(1), 1).remove(0);
        world
    }

    /// Hellos of different users who have their home on this core.
    fn hellos(&self, home: CoreId, count: usize) -> Vec<Vec<u8>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = TimestampMs(now.as_millis() as u64);
        let users = (1..).map(UserId).filter(|&user| self.shared.common.topology.home_of(user) == home);
        let hello = |user| {
            let token = mint(&self.key, user, Duration::from_secs(3600), now).unwrap();
            let (device, resume) = (DeviceId(1), Resume::Stored);
            let mut hello = Vec::new();
            ClientFrame::Hello {
                version_min: 1,
                version_max: 1,
                device,
                resume,
                token,
                epoch: EpochId(0),
                since: Seq::ZERO,
                skip_above: 0,
                hops: 0,
            }
            .encode(&mut hello);
            hello
        };
        users.take(count).map(hello).collect()
    }

    /// Clients that core 0 has accepted, in this order, and that say these hellos.
    fn crowd(&mut self, hellos: &[Vec<u8>]) -> Vec<(TcpStream, ConnId)> {
        let before = self.cores[0].rim.connections.len();
        let mut clients = Vec::new();
        for _ in hellos {
            clients.push(TcpStream::connect(self.shared.listeners[0].socket.local_addr().unwrap()).unwrap());
            self.until(&[0], |world| world.cores[0].rim.connections.len() == before + clients.len());
        }
        let living: Vec<ConnId> = self.cores[0].rim.connections.living().collect();
        let received = self.cores[0].counters().receives.get();
        for (client, hello) in clients.iter_mut().zip(hellos) {
            client.write_all(hello).unwrap();
        }
        self.take(|core| core.counters().receives.get() == received + hellos.len() as u64);
        clients.into_iter().zip(living.into_iter().skip(before)).collect()
    }

    /// A user who is served by core 0.
    fn served(&mut self, hello: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(self.shared.listeners[0].socket.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        client.write_all(hello).unwrap();
        let mut bytes = [0; 1024];
        self.until(&[0], |_| client.read(&mut bytes).is_ok_and(|count| count > 0));
        client.set_nonblocking(false).unwrap();
        client
    }

    /// Takes completions of core 0, and nothing else, until something has happened.
    fn take(&mut self, happened: impl Fn(&Reactor) -> bool) {
        let start = Instant::now();
        let core = &mut self.cores[0];
        while !happened(core) {
            assert!(start.elapsed() < DEADLINE, "it did not happen");
            core.rim.ring.submit().unwrap();
            let now = core.clock.now();
            core.take_completions(now);
        }
    }

    /// One turn of core 0 is enough to answer this client, whatever else there is to do.
    fn is_answered_in_one_turn(&mut self, client: &mut TcpStream) {
        let mut ping = Vec::new();
        ClientFrame::Ping { nonce: 5 }.encode(&mut ping);
        client.write_all(&ping).unwrap();
        while !self.cores[0].rim.ring.is_ready() {
            std::thread::yield_now();
        }
        self.cores[0].rim.ring.submit().unwrap();
        self.cores[0].turn().unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut pong = [0; 64];
        assert!(client.read(&mut pong).unwrap() > 0);
    }

    /// Turns these cores until something has happened.
    fn until(&mut self, cores: &[usize], mut happened: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(start.elapsed() < DEADLINE, "it did not happen");
            for &core in cores {
                self.cores[core].turn().unwrap();
            }
        }
    }

    /// A client that core 0 has accepted.
    fn greeting(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.shared.listeners[0].socket.local_addr().unwrap()).unwrap();
        self.until(&[0], |world| world.cores[0].core.greetings() == 1);
        client
    }

    /// A client whose hello core 0 has read; core 1 knows nothing of it yet.
    fn leaving(&mut self) -> TcpStream {
        let mut client = self.greeting();
        client.write_all(&self.hello).unwrap();
        self.until(&[0], |world| world.cores[0].core.on_the_way().0 > 0);
        client
    }

    /// What each core says about its end.
    fn over(&mut self) -> [bool; 2] {
        [0, 1].map(|core| self.cores[core].is_over())
    }

    fn assert_nobody_is_left(&self) {
        for core in &self.cores {
            assert!(core.rim.connections.is_empty());
            assert_eq!((core.core.greetings(), core.core.on_the_way()), (0, (0, 0)));
            assert_eq!(core.core.shard_counters().sessions, 0);
        }
        assert_eq!(self.shared.common.connections.load(Ordering::Relaxed), 0);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.cores.clear();
        for thread in self.readers.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// What the client still gets; contains the text of the bye.
fn last_words(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    client.set_nonblocking(false).unwrap();
    client.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn who_is_on_the_way_when_the_server_stops_gets_a_bye_and_both_cores_wait_for_that() {
    let mut world = World::new([8, 8]);
    let mut client = world.greeting();
    let start = Instant::now();
    world.shared.stopping.store(true, Ordering::Relaxed);
    world.cores[1].turn().unwrap();
    assert!(!world.cores[1].is_over(), "but it has nothing to do");
    // The hello is there before core 0 hears of the stop.
    client.write_all(&world.hello).unwrap();
    while !world.cores[0].rim.ring.is_ready() {
        std::thread::yield_now();
    }
    world.cores[0].rim.ring.submit().unwrap();
    let now = world.cores[0].clock.now();
    world.cores[0].take_completions(now);
    world.until(&[0], |world| {
        // Lets the kernel bring the descriptor; core 1 does not look.
        world.cores[1].rim.ring.submit().unwrap();
        world.cores[0].rim.connections.is_empty()
    });
    assert_eq!(world.cores[0].counters().moved_out.get(), 1);
    assert!(!world.cores[0].is_over(), "though core 1 said that it had nothing to do");
    world.until(&[0, 1], |world| world.cores[1].rim.connections.living().count() == 1);
    let reader = std::thread::spawn(move || last_words(&mut client));
    world.until(&[0, 1], |world| world.over() == [true; 2]);
    assert!(start.elapsed() < Duration::from_millis(STOP_MS), "nothing was given up");
    assert!(reader.join().unwrap().contains("the server is stopping"));
    world.assert_nobody_is_left();
}

#[test]
fn who_comes_to_a_core_that_is_full_is_told_so_there() {
    let mut world = World::with([8, 8], Capacity { table: 8, core_max: 1, node_max: 100, tunnels_max: 0 });
    let _first = world.leaving();
    world
        .until(&[0, 1], |world| world.cores[0].rim.connections.is_empty() && world.cores[1].rim.connections.len() == 1);
    let mut second = world.leaving();
    let reader = std::thread::spawn(move || last_words(&mut second));
    world.until(&[0, 1], |world| world.cores[1].counters().refused.get() == 1);
    world.until(&[0, 1], |world| world.cores[1].rim.connections.len() == 1);
    assert!(reader.join().unwrap().contains("the user's core is full"));
    assert_eq!(world.shared.common.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn who_finds_no_room_on_the_home_core_is_refused_where_it_was_accepted() {
    let mut world = World::new([8, 1]);
    let first = world.leaving();
    world
        .until(&[0, 1], |world| world.cores[0].rim.connections.is_empty() && world.cores[1].rim.connections.len() == 1);
    let mut second = world.leaving();
    let reader = std::thread::spawn(move || last_words(&mut second));
    world.until(&[0, 1], |world| world.cores[0].rim.connections.is_empty());
    assert!(reader.join().unwrap().contains("takes no more connections"));
    assert_eq!(world.shared.common.connections.load(Ordering::Relaxed), 1);
    assert_eq!(world.cores[0].counters().moved_out.get(), 1);
    drop(first);
    world.until(&[0, 1], |world| world.cores[1].rim.connections.is_empty());
    world.assert_nobody_is_left();
}

#[test]
fn tls_goes_along_to_the_home_core_and_says_the_bye_when_there_is_no_room() {
    let mut world = World::new([8, 1]);
    let files = Files::new();
    let config = files.server(&Tickets::new().unwrap());
    let greet = |world: &mut World| {
        let socket = world.greeting();
        let conn = world.cores[0].rim.connections.living().last().unwrap();
        let tls = ServerTls::accept(Arc::clone(&config)).unwrap();
        world.cores[0].rim.connections.set_stream(conn, Stream::new(Some(Box::new(tls)), false));
        let tls = ClientConnection::new(files.client(&[]), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        let hello = world.hello.clone();
        let client = std::thread::spawn(move || {
            stream.write_all(&hello).unwrap();
            let mut words = vec![0; 1024];
            let count = stream.read(&mut words).unwrap();
            words.truncate(count);
            (stream, words)
        });
        world.until(&[0, 1], |_| client.is_finished());
        client.join().unwrap()
    };
    let (first, welcome) = greet(&mut world);
    assert_eq!(welcome[1], ServerKind::Welcome.byte());
    assert_eq!([0, 1].map(|core| world.cores[core].rim.connections.tls_len()), [0, 1]);
    let (second, bye) = greet(&mut world);
    assert!(String::from_utf8_lossy(&bye).contains("takes no more connections"), "{bye:?}");
    drop((first, second));
    world.until(&[0, 1], |world| world.cores.iter().all(|core| core.rim.connections.is_empty()));
    assert_eq!([0, 1].map(|core| world.cores[core].rim.connections.tls_len()), [0, 0]);
    world.assert_nobody_is_left();
}

#[test]
fn who_goes_away_while_it_moves_leaves_nothing_behind() {
    let mut world = World::new([8, 8]);
    drop(world.leaving());
    world.until(&[0, 1], |world| world.shared.common.counters.core(CoreId(1)).closed_by_peer.get() == 1);
    world.until(&[0, 1], |world| world.cores.iter().all(|core| core.rim.connections.is_empty()));
    world.assert_nobody_is_left();
}

#[test]
fn a_crowd_of_hellos_is_judged_in_its_order_over_several_turns_and_others_are_answered_in_between() {
    let mut world = World::new([64, 64]);
    let hellos = world.hellos(CoreId(0), 2 * HELLOS_TURN_MAX + 2);
    let mut served = world.served(&hellos[0]);
    let crowd = world.crowd(&hellos[1..]);
    for judged in [HELLOS_TURN_MAX, 2 * HELLOS_TURN_MAX] {
        assert!(world.cores[0].has_work());
        world.is_answered_in_one_turn(&mut served);
        for (at, (_, conn)) in crowd.iter().enumerate() {
            assert_eq!(world.cores[0].rim.connections.stage(*conn) == Stage::Serving, at < judged, "{at} of {judged}");
        }
    }
    world.cores[0].turn().unwrap();
    assert_eq!((world.cores[0].core.greetings(), world.cores[0].core.on_the_way()), (0, (0, 0)));
    assert_eq!(world.cores[0].rim.connections.len(), hellos.len());
}

#[test]
fn a_crowd_that_is_cut_off_is_seen_off_over_several_turns_and_others_are_answered_in_between() {
    let mut world = World::new([64, 64]);
    let hellos = world.hellos(CoreId(0), 2 * DEPARTURES_TURN_MAX + 2);
    let mut served = world.served(&hellos[0]);
    let crowd = world.crowd(&hellos[1..]);
    world.until(&[0], |world| world.cores[0].core.shard_counters().sessions == hellos.len() as u64);
    drop(crowd);
    world.take(|core| core.rim.departures.len() == hellos.len() - 1);
    for left in [DEPARTURES_TURN_MAX + 1, 1] {
        assert!(world.cores[0].has_work());
        world.is_answered_in_one_turn(&mut served);
        assert_eq!(world.cores[0].rim.departures.len(), left);
    }
    world.until(&[0], |world| world.cores[0].rim.connections.len() == 1);
    assert_eq!(world.cores[0].counters().closed_by_peer.get(), hellos.len() as u64 - 1);
    drop(served);
    world.until(&[0], |world| world.cores[0].rim.connections.is_empty());
    world.assert_nobody_is_left();
}

#[test]
fn who_goes_away_while_its_hello_waits_leaves_nothing_behind() {
    let mut world = World::new([8, 8]);
    let hello = world.hello.clone();
    drop(world.crowd(&[hello]));
    world.until(&[0, 1], |world| world.cores[1].counters().closed_by_peer.get() == 1);
    world.until(&[0, 1], |world| world.cores.iter().all(|core| core.rim.connections.is_empty()));
    world.assert_nobody_is_left();
}

#[test]
fn a_hello_that_waits_beyond_its_time_is_refused_and_not_judged() {
    let mut world = World::new([8, 8]);
    let hello = world.hello.clone();
    let (mut client, conn) = world.crowd(&[hello]).pop().unwrap();
    let now = world.cores[0].clock.now();
    let late = Now { monotonic_ms: now.monotonic_ms + world.shared.common.handshake_timeout_ms + 1, ..now };
    world.cores[0].take_time(late);
    world.cores[0].core.tick_at(0);
    assert_eq!(world.cores[0].rim.connections.stage(conn), Stage::Flushing);
    let reader = std::thread::spawn(move || last_words(&mut client));
    world.until(&[0, 1], |world| world.cores[0].rim.connections.is_empty());
    assert!(reader.join().unwrap().contains("the hello did not come in time"));
    assert_eq!(world.cores[0].counters().moved_out.get(), 0);
    assert_eq!(world.cores[0].core.on_the_way().1, 0);
    world.assert_nobody_is_left();
}

#[test]
fn those_whose_hello_waits_when_the_server_stops_get_a_bye_judged_or_not() {
    let mut world = World::new([64, 64]);
    let hellos = world.hellos(CoreId(1), HELLOS_TURN_MAX + 1);
    let crowd = world.crowd(&hellos);
    let readers: Vec<_> =
        crowd.into_iter().map(|(mut client, _)| std::thread::spawn(move || last_words(&mut client))).collect();
    let start = Instant::now();
    world.shared.stopping.store(true, Ordering::Relaxed);
    world.cores[0].core.tick_at(0);
    world.until(&[0, 1], |world| world.over() == [true; 2]);
    assert!(start.elapsed() < Duration::from_millis(STOP_MS), "nothing was given up");
    assert_eq!(world.cores[0].counters().moved_out.get(), HELLOS_TURN_MAX as u64);
    for reader in readers {
        assert!(reader.join().unwrap().contains("the server is stopping"));
    }
    world.assert_nobody_is_left();
}

#[test]
fn queries_that_fail_are_told_together_by_their_kind() {
    let mut world = World::new([64, 64]);
    let core = &mut world.cores[0];
    let away = || StoreError::Unavailable { reason: "a test asked for it".to_owned() };
    let now = Now { monotonic_ms: 1, ..Clock::new().now() };
    for error in [away(), away(), StoreError::Refused { reason: "a test asked for it".to_owned() }, away()] {
        core.on_query_failed(now, &error);
    }
    assert_eq!(core.counters().queries_failed.get(), 4);
    assert_eq!(core.query_warnings.rest(u64::MAX / 2), None, "the only one of its kind");
    assert_eq!(core.away_warnings.rest(WARN_MS), None, "not yet");
    assert_eq!(core.away_warnings.rest(1 + WARN_MS), Some(2));
}

/// A second core would take what the first one can not: here the only one that accepts has a table of one slot.
#[test]
fn an_accept_that_fails_is_told_once_a_second_and_tried_again_with_a_tick() {
    let mut world = World::new([1, 1]);
    let core = |world: &World| (world.cores[0].accepts_idle.len(), world.cores[0].counters().accepts_failed.get());
    let first = world.greeting();
    world.cores[0].core.tick_at(u64::MAX);
    let _no_slot = TcpStream::connect(world.shared.listeners[0].socket.local_addr().unwrap()).unwrap();
    world.until(&[0], |world| core(world) == (1, 1));
    for _ in 0..100 {
        world.cores[0].turn().unwrap();
    }
    assert_eq!(core(&world), (1, 1), "no tick, no attempt");
    let warnings = &mut world.cores[0].accept_warnings;
    assert_eq!(warnings.another(0), None, "the first one has just been told");
    assert_eq!(warnings.rest(u64::MAX / 2), Some(1));
    drop(first);
    world.cores[0].core.tick_at(0);
    world.until(&[0], |world| world.cores[0].rim.connections.is_empty());
    world.greeting();
}

/// The first user who has the home on core 1: the one of `World::hello`.
fn traveller(world: &World) -> UserId {
    let is_there = |user: &UserId| world.shared.common.topology.home_of(*user) == CoreId(1);
    (1..).map(UserId).find(is_there).unwrap()
}

fn revoke(world: &World, user: UserId) {
    let controls = Controls { shared: Arc::clone(&world.shared), steward: None };
    controls.change(Change::Revoke(Subject { user, device: None }, Clock::new().now().wall));
}

#[test]
fn who_was_let_in_before_a_revocation_and_comes_to_the_home_core_after_it_is_sent_away_there() {
    let mut world = World::new([8, 8]);
    let mut client = world.leaving();
    revoke(&world, traveller(&world));
    let reader = std::thread::spawn(move || last_words(&mut client));
    world.until(&[0, 1], |world| world.cores.iter().all(|core| core.rim.connections.is_empty()));
    assert!(reader.join().unwrap().contains("revoked"));
    assert_eq!(world.cores[1].core.shard_counters().logins, 0);
    world.until(&[0, 1], |world| world.shared.common.connections.load(Ordering::Relaxed) == 0);
    world.assert_nobody_is_left();
}

#[test]
fn who_has_come_to_the_home_core_before_a_revocation_is_found_there() {
    let mut world = World::new([8, 8]);
    let mut client = world.leaving();
    world.until(&[0, 1], |world| world.cores[1].rim.connections.len() == 1);
    revoke(&world, UserId(u64::MAX));
    world.cores[1].turn().unwrap();
    assert_eq!(world.cores[1].rim.connections.len(), 1, "it was somebody else's");
    revoke(&world, traveller(&world));
    let reader = std::thread::spawn(move || last_words(&mut client));
    world.until(&[0, 1], |world| world.cores[1].rim.connections.is_empty());
    assert!(reader.join().unwrap().contains("revoked"));
}

#[test]
fn while_the_audit_log_hangs_hellos_wait_without_work_and_who_is_served_is_answered() {
    let mut world = World::new([64, 64]);
    let hellos = world.hellos(CoreId(0), 5);
    let mut served = world.served(&hellos[0]);
    let (audit, disk) = Audit::hanging();
    world.cores[0].rim.reporter = Reporter::new(audit);
    let crowd = world.crowd(&hellos[1..]);
    let serving = |world: &World| {
        crowd.iter().filter(|(_, conn)| world.cores[0].rim.connections.stage(*conn) == Stage::Serving).count()
    };
    for _ in 0..3 {
        world.is_answered_in_one_turn(&mut served);
    }
    assert_eq!(serving(&world), 2, "as many as the log has room for");
    world.until(&[0], |world| !world.cores[0].has_work());
    assert!(world.cores[0].core.on_the_way().1 > 0);
    while disk.try_recv().is_ok() {}
    assert!(world.cores[0].has_work());
    world.cores[0].turn().unwrap();
    assert_eq!(serving(&world), 4);
    assert_eq!(disk.try_iter().count(), 2, "each is in the log");
}
