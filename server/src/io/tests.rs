//! A node in process: real sockets and rings, the store in memory, the journal in a temporary folder.

mod own_process;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use proto_spec::{
    ClientFrame, Content, Decoder, DeviceId, Durability, EpochId, ErrorCode, Event, RequestId, Resume, SendNumber, Seq,
    ServerFrame, TimestampMs, UserId, limits::SERVER_FRAME_BYTES_MAX,
};
use storage::{MemoryStore, Store, journal::JournalConfig, run::RunBuilder, schema::RowKey};
use tempfile::TempDir;

use super::{DatabaseConfig, Node, NodeConfig};
use crate::{
    access::{
        auth::{Keys, SigningKey, generate_pem, mint},
        revocation::Revocations,
    },
    config::{Listen, Transport},
    core::OriginLimits,
    durability::committer::OnStoreOutage,
    files::{credentials::Credentials, datadir::DataDir},
    host::clock::Clock,
    limits::RETRY_BUSY_MS,
    operator::{audit::Audit, counters::Counters},
    shard::{CacheLimits, Limits, PresenceSettings, Promise, Settings, topology::Topology},
};

/// How long anything that must happen may take. Only a test that fails waits for it: a sync of a disk that others write to takes
/// many seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// A server and what is needed to talk to it.
struct World<S: Store = MemoryStore> {
    node: Option<Node>,
    config: NodeConfig,
    /// Of the machine.
    wall: fn() -> SystemTime,
    store: Arc<S>,
    pem: String,
    _dir: TempDir,
}

impl World {
    fn new(cores: u16) -> Self {
        Self::with(cores, |_| {})
    }

    fn with(cores: u16, change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::on(MemoryStore::default(), cores, change)
    }
}

impl<S: Store> World<S> {
    fn on(store: S, cores: u16, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = NodeConfig {
            listen: vec![Listen { address: "127.0.0.1:0".parse().unwrap(), transport: Transport::Plain }],
            cores,
            connections_max: 1000,
            handshake_timeout_ms: 10_000,
            origins: OriginLimits::default(),
            settings: Settings {
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
            },
            data: Arc::new(DataDir::open(dir.path()).expect("a data folder")),
            journal: JournalConfig {
                segment_bytes: 1024 * 1024,
                journal_bytes_max: 8 * 1024 * 1024,
                reserve_bytes: 64 * 1024,
            },
            seal_after_ms: 60_000,
            journal_gap: Duration::ZERO,
            database: DatabaseConfig::default(),
            on_store_outage: OnStoreOutage::Accept,
            revocations: Revocations::default(),
            audit: Audit::off(),
            websocket_origins: Vec::new(),
            shows_page: false,
            cluster: None,
        };
        change(&mut config);
        let (store, pem) = (Arc::new(store), generate_pem().unwrap());
        let mut world = Self { node: None, config, wall: SystemTime::now, store, pem, _dir: dir };
        world.start();
        world
    }

    fn start(&mut self) {
        let keys = Keys::from_pem(self.pem.as_bytes()).unwrap();
        let found = storage::journal::recover(&self.config.data.journal()).unwrap();
        let (store, counters) = (Arc::clone(&self.store), Arc::new(Counters::new(self.config.cores)));
        let (clock, credentials) = (Clock::set_by(self.wall), Credentials { keys, tls: None });
        let node = Node::start_by(clock, &self.config, found, store, credentials, counters);
        self.node = Some(node.unwrap());
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn stop(&mut self) {
        let node = self.node.take().unwrap();
        node.stop();
        node.join();
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.node().address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { stream, decoder: Decoder::new(SERVER_FRAME_BYTES_MAX as u32), frames: Vec::new() }
    }

    fn hello(&self, user: u64, device: u64) -> ClientFrame {
        let key = SigningKey::from_pem(self.pem.as_bytes()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = TimestampMs(now.as_millis() as u64);
        let token = mint(&key, UserId(user), Duration::from_secs(3600), now).unwrap();
        ClientFrame::Hello {
            version_min: 1,
            version_max: 1,
            device: DeviceId(device),
            resume: Resume::Stored,
            token,
            epoch: EpochId(0),
            since: Seq::ZERO,
            skip_above: 0,
            hops: 0,
        }
    }

    fn login(&self, user: u64, device: u64) -> Client {
        self.login_with(user, device, &[])
    }

    /// With frames that follow the hello at once. Who is told that the server is busy comes back: the machine may be.
    fn login_with(&self, user: u64, device: u64, more: &[ClientFrame]) -> Client {
        let start = Instant::now();
        let mut frames = vec![self.hello(user, device)];
        frames.extend_from_slice(more);
        loop {
            let mut client = self.connect();
            client.send(&frames);
            match client.next() {
                Some(ServerFrame::Welcome { user: named, .. }) => {
                    assert_eq!(named, UserId(user));
                    return client;
                }
                Some(ServerFrame::Bye { code: ErrorCode::Overloaded, .. }) if start.elapsed() < DEADLINE => {
                    thread::sleep(Duration::from_millis(RETRY_BUSY_MS));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until something that other threads do has happened.
    fn until(&self, mut happened: impl FnMut(&Node) -> bool) {
        let start = Instant::now();
        while !happened(self.node()) {
            assert!(start.elapsed() < DEADLINE, "it did not happen");
            thread::yield_now();
        }
    }
}

struct Client {
    stream: TcpStream,
    decoder: Decoder,
    frames: Vec<ServerFrame>,
}

impl Client {
    fn send(&mut self, frames: &[ClientFrame]) {
        let mut bytes = Vec::new();
        for frame in frames {
            frame.encode(&mut bytes);
        }
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next frame, or none when the server has closed.
    fn next(&mut self) -> Option<ServerFrame> {
        let mut bytes = [0; 4096];
        while self.frames.is_empty() {
            match self.stream.read(&mut bytes).unwrap() {
                0 => return None,
                n => self
                    .decoder
                    .decode(&bytes[..n], |raw| {
                        self.frames.push(ServerFrame::decode(raw).unwrap());
                        ControlFlow::Continue(())
                    })
                    .unwrap(),
            }
        }
        Some(self.frames.remove(0))
    }

    fn expect_bye(&mut self, expected: ErrorCode) {
        loop {
            match self.next() {
                Some(ServerFrame::Bye { code, .. }) => {
                    assert_eq!(code, expected);
                    assert_eq!(self.next(), None, "nothing follows a bye");
                    return;
                }
                Some(_) => {}
                None => panic!("closed without a bye"),
            }
        }
    }

    fn say(&mut self, number: u64, to: u64, text: &str) {
        self.send(&[ClientFrame::Send {
            number: SendNumber(number),
            to: UserId(to).into(),
            content: Content::text(text),
        }]);
    }

    /// Gives the time of the entry.
    fn expect_accepted(&mut self, expected: u64) -> TimestampMs {
        loop {
            match self.next().expect("still connected") {
                ServerFrame::Accepted { number, durability, time, .. } => {
                    assert_eq!((number.0, durability), (expected, Durability::Committed));
                    return time;
                }
                ServerFrame::Refused { code, .. } => panic!("refused: {code:?}"),
                _ => {}
            }
        }
    }

    /// Waits for a text, live or in a page.
    fn expect_text(&mut self, expected: &str) {
        loop {
            let entries = match self.next().expect("still connected") {
                ServerFrame::Deliver { entry } => vec![entry],
                ServerFrame::Page(page) => page.entries,
                _ => Vec::new(),
            };
            let texts = entries.iter().any(|entry| match &entry.event {
                Event::Received { content: Content::Text(text), .. } => text[..] == *expected.as_bytes(),
                _ => false,
            });
            if texts {
                return;
            }
        }
    }
}

/// Users with their home on each core.
fn users_of(cores: u16) -> Vec<u64> {
    let topology = Topology::new(cores).unwrap();
    (0..cores).map(|core| (1..).find(|&user| topology.home_of(UserId(user)).0 == core).unwrap()).collect()
}

#[test]
fn a_message_goes_from_one_core_to_another_and_is_acknowledged() {
    let world = World::new(2);
    let users = users_of(2);
    let mut alice = world.login(users[0], 1);
    let mut bob = world.login(users[1], 1);
    for number in 1..=20 {
        alice.say(number, users[1], &format!("message {number}"));
        alice.expect_accepted(number);
        bob.expect_text(&format!("message {number}"));
    }
    bob.say(1, users[0], "back");
    bob.expect_accepted(1);
    alice.expect_text("back");
    assert!(world.node().counters().journal.groups.get() > 0);
}

#[test]
fn a_connection_is_served_by_its_users_home_core_whoever_accepts_it() {
    let world = World::new(2);
    let users = users_of(2);
    let clients: Vec<_> =
        (1..=16).flat_map(|device| [world.login(users[0], device), world.login(users[1], device)]).collect();
    let counters = world.node().counters();
    let sum = |pick: fn(&crate::operator::counters::CoreCounters) -> u64| {
        counters.cores.iter().map(|core| pick(core)).sum::<u64>()
    };
    assert_eq!(sum(|core| core.accepted.get()), 32);
    assert!(sum(|core| core.moved_out.get()) > 0);
    world.until(|_| sum(|core| core.connections.get()) == 32);
    assert_eq!(sum(|core| core.moved_in.get()), sum(|core| core.moved_out.get()));
    drop(clients);
    world.until(|node| sum(|core| core.connections.get()) == 0 && node.directory().is_empty());
}

#[test]
fn frames_that_follow_the_hello_at_once_are_not_lost_on_the_way_to_the_home_core() {
    let world = World::new(2);
    for user in users_of(2) {
        for device in 1..=8 {
            let mut client = world.login_with(user, device, &[ClientFrame::Ping { nonce: 77 }]);
            loop {
                match client.next().expect("still connected") {
                    ServerFrame::Pong { nonce } => break assert_eq!(nonce, 77),
                    _ => continue,
                }
            }
        }
    }
}

#[test]
fn a_hello_in_single_bytes_is_a_hello() {
    let world = World::new(2);
    let mut client = world.connect();
    let mut bytes = Vec::new();
    world.hello(users_of(2)[1], 1).encode(&mut bytes);
    client.stream.set_nodelay(true).unwrap();
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert!(matches!(client.next(), Some(ServerFrame::Welcome { .. })));
}

#[test]
fn what_is_not_a_hello_is_told_so_and_closed() {
    let world = World::new(1);
    let mut client = world.connect();
    client.send(&[ClientFrame::Ping { nonce: 1 }]);
    client.expect_bye(ErrorCode::NotNow);
}

#[test]
fn a_hello_that_does_not_come_is_not_waited_for() {
    let world = World::with(1, |config| config.handshake_timeout_ms = 100);
    let mut client = world.connect();
    client.expect_bye(ErrorCode::HandshakeTimeout);
}

#[test]
fn more_connections_than_configured_are_refused_and_room_is_given_again() {
    let world = World::with(2, |config| config.connections_max = 2);
    let users = users_of(2);
    let first = world.login(users[0], 1);
    let _second = world.login(users[1], 1);
    world.connect().expect_bye(ErrorCode::TooManyConnections);
    drop(first);
    // The server hears of the end, and closes its side, some time later.
    world.until(|_| {
        let mut third = world.connect();
        third.send(&[world.hello(users[0], 2)]);
        match third.next() {
            Some(ServerFrame::Welcome { .. }) => true,
            Some(ServerFrame::Bye { code: ErrorCode::TooManyConnections, .. }) => false,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn segments_that_the_batch_of_a_turn_may_not_fit_are_refused() {
    let mut world = World::new(1);
    world.stop();
    world.config.journal.segment_bytes = 512 * 1024;
    let keys = Keys::from_pem(world.pem.as_bytes()).unwrap();
    let found = storage::journal::recover(&world.config.data.journal()).unwrap();
    let (store, counters) = (Arc::clone(&world.store), Arc::new(Counters::new(1)));
    let started = Node::start(&world.config, found, store, Credentials { keys, tls: None }, counters);
    let refused = started.unwrap_err();
    assert!(refused.to_string().contains("at least 1048576 are needed"), "{refused}");
}

#[test]
fn a_stop_says_bye_to_everybody_and_ends() {
    let mut world = World::new(2);
    let users = users_of(2);
    let mut clients = [world.login(users[0], 1), world.login(users[1], 1), world.connect()];
    world.until(|node| node.counters().cores.iter().map(|core| core.accepted.get()).sum::<u64>() == 3);
    world.node().stop();
    for client in &mut clients {
        client.expect_bye(ErrorCode::Stopping);
    }
    drop(clients);
    world.stop();
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut world = World::new(2);
    let users = users_of(2);
    let mut alice = world.login(users[0], 1);
    for number in 1..=10 {
        alice.say(number, users[1], &format!("before {number}"));
    }
    for number in 1..=10 {
        alice.expect_accepted(number);
    }
    drop(alice);
    world.stop();
    world.start();
    let mut bob = world.login(users[1], 1);
    bob.expect_text("before 10");
}

#[test]
fn a_folder_of_before_there_were_inboxes_lists_all_its_conversations() {
    let mut world = World::new(2);
    let users = users_of(2);
    let mut alice = world.login(users[0], 1);
    alice.say(1, users[1], "of before");
    alice.expect_accepted(1);
    let mut bob = world.login(users[1], 1);
    bob.expect_text("of before");
    drop((alice, bob));
    world.stop();
    // Brings everything into the store.
    world.start();
    world.stop();
    // As a server of before would have left it.
    let store = Arc::clone(&world.store);
    let mut old = RunBuilder::default();
    for (key, _) in store.rows() {
        match RowKey::decode(&key).unwrap() {
            RowKey::Sent { .. } | RowKey::LastSends { .. } => old.delete(key),
            // The version of the value, and a number.
            RowKey::Received { .. } => old.put(key, |out| out.extend([1, 1])),
            _ => {}
        }
    }
    let fence = pollster::block_on(store.take_over()).unwrap();
    pollster::block_on(store.commit(fence, &old.finish())).unwrap();
    fs::write(world.config.data.path().join("FORMAT"), "ringpost 2\n").unwrap();
    world.start();
    for (user, peer) in [(users[0], users[1]), (users[1], users[0])] {
        let fetch = ClientFrame::FetchInbox { request: RequestId(1), before: Seq::ZERO, limit: 10, messages: 0 };
        let mut client = world.login_with(user, 1, &[fetch]);
        let inbox = loop {
            if let ServerFrame::Inbox(inbox) = client.next().expect("still connected") {
                break inbox;
            }
        };
        let [row] = &inbox.rows[..] else { panic!("{inbox:?}") };
        assert_eq!(
            (row.conversation, row.unread, inbox.more),
            (UserId(peer).into(), 0, false),
            "all of before is read"
        );
    }
    // From now on they are counted.
    let (mut alice, mut bob) = (world.login(users[0], 1), world.login(users[1], 1));
    alice.say(2, users[1], "of now");
    bob.expect_text("of now");
    bob.send(&[ClientFrame::FetchInbox { request: RequestId(2), before: Seq::ZERO, limit: 10, messages: 0 }]);
    let inbox = loop {
        if let ServerFrame::Inbox(inbox) = bob.next().expect("still connected") {
            break inbox;
        }
    };
    assert_eq!(inbox.rows[0].unread, 1);
}

/// More than the whole journal goes through it, so segments are sealed, ingested, freed and used again.
#[test]
fn the_journal_goes_round_while_messages_come() {
    let world = World::with(2, |config| {
        config.journal =
            JournalConfig { segment_bytes: 1024 * 1024, journal_bytes_max: 4 * 1024 * 1024, reserve_bytes: 128 * 1024 };
    });
    let users = users_of(2);
    let mut alice = world.login(users[0], 1);
    let text = "x".repeat(8 * 1024);
    let mut number = 1;
    let counters = world.node().counters();
    while counters.journal.bytes.get() < 12 * 1024 * 1024 {
        alice.say(number, users[1], &text);
        loop {
            match alice.next().expect("still connected") {
                ServerFrame::Accepted { .. } => number += 1,
                // Ingestion is behind: the same send again.
                ServerFrame::Refused { code: ErrorCode::Overloaded, .. } => {}
                ServerFrame::Deliver { .. } | ServerFrame::Epoch { .. } => continue,
                other => panic!("{other:?}"),
            }
            break;
        }
    }
    world.until(|_| counters.journal.ingest_runs.get() >= 8);
}

#[test]
fn a_peer_that_stops_reading_keeps_little_memory_and_a_stop_is_not_held_up_by_it() {
    let mut world = World::new(1);
    let mut deaf = world.login(1, 1);
    // Answers to pings that are never read: the server stops reading them before long.
    let mut pings = Vec::new();
    for nonce in 0..1000 {
        ClientFrame::Ping { nonce }.encode(&mut pings);
    }
    deaf.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    while let Ok(n) = deaf.stream.write(&pings) {
        written += n;
        assert!(written < 256 << 20, "the server reads for ever");
    }
    // Others are served meanwhile.
    world.login(2, 1).send(&[ClientFrame::Bye]);
    world.stop();
    let _ = deaf.stream.shutdown(Shutdown::Both);
}
