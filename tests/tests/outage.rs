//! The store goes away under a real server, or hangs, and comes back: what is accepted meanwhile is in the journal, and the store gets
//! all of it, in order.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{sync::Arc, time::Duration};

use proto_spec::{ErrorCode, Event, Resume, ServerFrame, UserId};
use server::{
    access::{
        auth::{Keys, SigningKey, generate_pem, mint},
        revocation::Revocations,
    },
    config::{Listen, Transport},
    core::OriginLimits,
    durability::committer::OnStoreOutage,
    files::{
        credentials::Credentials,
        datadir::DataDir,
        tenure::{self, Foreign, TakeOverError},
    },
    io::{DatabaseConfig, Node, NodeConfig, StartError},
    operator::{
        audit::Audit,
        counters::{CoreCounters, Counter, Counters},
    },
    shard::{CacheLimits, Limits, PresenceSettings, Promise, Settings},
};
use storage::{
    MemoryStore,
    journal::{JournalConfig, recover},
};
use tempfile::TempDir;
use tests::{
    connection::{Connection, Received, hello},
    device::{Device, Step},
    process::wall_now,
    wait_until,
};

const TEXT_BYTES: usize = 4_000;

/// Messages that a writer has under way at most.
const WINDOW: usize = 8;

/// Of the journal, which has room for four.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// Reads that a core has under way at most.
const READS_MAX: u16 = 4;

/// A server in this process, on a store that can be sent away or made to hang.
struct World {
    node: Node,
    store: Arc<MemoryStore>,
    key: SigningKey,
    folder: TempDir,
}

impl World {
    fn new(promise: Promise, on_store_outage: OnStoreOutage) -> Self {
        let is_database = promise != Promise::Disk;
        let store = if is_database { MemoryStore::database() } else { MemoryStore::default() };
        Self::on(Arc::new(store), tempfile::tempdir().unwrap(), promise, on_store_outage).unwrap()
    }

    fn on(
        store: Arc<MemoryStore>,
        folder: TempDir,
        promise: Promise,
        on_store_outage: OnStoreOutage,
    ) -> Result<Self, StartError> {
        let pem = generate_pem().unwrap();
        let config = NodeConfig {
            listen: vec![Listen { address: "127.0.0.1:0".parse().unwrap(), transport: Transport::Plain }],
            cores: 2,
            connections_max: 100,
            handshake_timeout_ms: 10_000,
            origins: OriginLimits::default(),
            settings: Settings {
                ping_after_ms: 50_000,
                idle_timeout_ms: 120_000,
                expiry_warning_ms: 60_000,
                token_leeway_ms: 0,
                promise,
                limits: Limits::OFF,
                cache: CacheLimits::DEFAULT,
                presence: PresenceSettings::DEFAULT,
                moves_per_s: 1_000,
                push: None,
            },
            data: Arc::new(DataDir::open(folder.path()).expect("a data folder")),
            journal: JournalConfig {
                segment_bytes: SEGMENT_BYTES,
                journal_bytes_max: 4 * SEGMENT_BYTES,
                reserve_bytes: 128 * 1024,
            },
            seal_after_ms: 100,
            journal_gap: Duration::ZERO,
            database: DatabaseConfig { lanes: 3, slow_after_ms: 200, reads_max: READS_MAX.into() },
            on_store_outage,
            revocations: Revocations::default(),
            audit: Audit::off(),
            websocket_origins: Vec::new(),
            shows_page: false,
            cluster: None,
        };
        let keys = Keys::from_pem(pem.as_bytes()).unwrap();
        let found = recover(&config.data.journal()).unwrap();
        let (credentials, counters) = (Credentials { keys, tls: None }, Arc::new(Counters::new(config.cores)));
        let node = Node::start(&config, found, Arc::clone(&store), credentials, counters)?;
        Ok(Self { node, store, key: SigningKey::from_pem(pem.as_bytes()).unwrap(), folder })
    }

    /// Stops as a signal does; gives back what another start needs.
    fn stop(self) -> (Arc<MemoryStore>, TempDir) {
        let Self { node, store, folder, .. } = self;
        node.stop();
        node.join();
        (store, folder)
    }

    fn token(&self, user: u64) -> String {
        mint(&self.key, UserId(user), Duration::from_secs(3_600), wall_now()).unwrap()
    }

    fn device(&self, user: u64, device: u64) -> Device {
        let mut device = Device::new(user, device, self.token(user));
        device.connect(self.node.address(), Resume::Stored);
        device
    }

    /// Of all cores.
    fn sum(&self, counter: impl Fn(&CoreCounters) -> &Counter) -> u64 {
        self.node.counters().cores.iter().map(|core| counter(core).get()).sum()
    }

    fn retries(&self) -> u64 {
        self.node.counters().journal.ingest_retries.get() + self.sum(|core| &core.commit_retries)
    }
}

/// A store that hangs, as long as this is there: a test that fails must not wait for it either.
struct Hanging(Arc<MemoryStore>);

impl Hanging {
    fn new(store: &Arc<MemoryStore>) -> Self {
        store.set_hanging(true);
        Self(Arc::clone(store))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.set_hanging(false);
    }
}

/// Sends one message after the other until `happened`. A refusal is nothing to stop at: while the next segment is made, or the machine is
/// busy, a server refuses for a moment, and the device sends again.
fn say_until(writer: &mut Device, what: &str, happened: impl Fn(&Device) -> bool) {
    let text = "x".repeat(TEXT_BYTES);
    wait_until(what, || {
        if writer.unanswered() < WINDOW {
            writer.say(2, &text);
        }
        writer.step(Duration::from_millis(5));
        happened(writer)
    });
}

/// Everything that `writer` was told is accepted is in both logs under its seq, once and in order.
fn check(world: &World, writer: &Device) {
    for (user, device) in [(writer.user, 7), (2, 7)] {
        let mut reader = world.device(user, device);
        let wanted = writer.accepted.len();
        let messages = |reader: &Device| -> Vec<u64> {
            let origin = |entry: &proto_spec::Entry| match &entry.event {
                Event::Sent { .. } => Some(entry.seq.0),
                Event::Received { origin, .. } => Some(origin.0),
                Event::Delivered { .. }
                | Event::Deleted { .. }
                | Event::Devices { .. }
                | Event::Read { .. }
                | Event::Seen { .. }
                | Event::Settings { .. }
                | Event::Visibility { .. }
                | Event::Group { .. }
                | Event::GroupRefused { .. }
                | Event::Unknown { .. } => None,
            };
            reader.log.values().filter_map(origin).collect()
        };
        reader.step_until("all is there", |reader| messages(reader).len() >= wanted);
        let accepted: Vec<u64> = writer.accepted.values().copied().collect();
        assert_eq!(messages(&reader), accepted, "user {user}");
    }
}

#[test]
fn messages_are_local_while_the_store_is_away_refused_when_the_journal_is_full_and_all_committed_in_the_end() {
    [Promise::Disk, Promise::Journal, Promise::Store].into_iter().for_each(go_away_and_come_back);
}

fn go_away_and_come_back(promise: Promise) {
    let world = World::new(promise, OnStoreOutage::Accept);
    let mut writer = world.device(1, 1);
    say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 10);
    writer.step_until("all are answered", |writer| writer.unanswered() == 0);
    match promise {
        Promise::Disk | Promise::Store => assert!(writer.uncommitted.is_empty()),
        Promise::Journal => writer.step_until("all are committed", |writer| writer.uncommitted.is_empty()),
    }

    for round in 1..=2 {
        world.store.set_away(true);
        say_until(&mut writer, "some are local", |writer| writer.uncommitted.len() >= 10);
        let journal = &world.node.counters().journal;
        let before = journal.bytes.get();
        say_until(&mut writer, "much is in the journal", |_| journal.bytes.get() - before >= SEGMENT_BYTES);
        writer.refused.clear();
        say_until(&mut writer, "the journal is full", |writer| writer.refused.contains_key("overloaded"));
        let retries = world.retries();
        assert!(retries > 0, "round {round}");
        // Who comes now is told what is there and what of it is committed: the writer, that nothing was taken back.
        let phone = world.device(1, 2 + round);
        assert!(phone.is_connected());
        writer.disconnect();
        writer.connect(world.node.address(), Resume::Stored);

        world.store.set_away(false);
        writer.refused.clear();
        writer.step_until("all is accepted and committed", |writer| {
            writer.unanswered() == 0 && writer.uncommitted.is_empty()
        });
        writer.refused.clear();
    }
    check(&world, &writer);
}

#[test]
fn who_was_not_there_when_the_store_came_back_learns_it_from_the_welcome() {
    [Promise::Disk, Promise::Journal, Promise::Store].into_iter().for_each(come_back_unseen);
}

fn come_back_unseen(promise: Promise) {
    let world = World::new(promise, OnStoreOutage::Accept);
    let mut writer = world.device(1, 1);
    world.store.set_away(true);
    say_until(&mut writer, "some are local", |writer| writer.uncommitted.len() >= 10);
    writer.step_until("all are answered", |writer| writer.unanswered() == 0);
    let mut phone = world.device(1, 2);
    writer.disconnect();
    assert!(!writer.uncommitted.is_empty());
    let rows = world.store.rows().len();
    world.store.set_away(false);
    phone.step_until("the store has something", |_| world.store.rows().len() > rows);
    // The last segment may be on its way: one more welcome tells.
    wait_until("it is committed", || {
        writer.disconnect();
        writer.connect(world.node.address(), Resume::Stored);
        writer.uncommitted.is_empty()
    });
    check(&world, &writer);
}

#[test]
fn an_operator_may_have_sends_refused_while_the_store_is_away() {
    [Promise::Disk, Promise::Journal, Promise::Store].into_iter().for_each(refuse_while_away);
}

fn refuse_while_away(promise: Promise) {
    let world = World::new(promise, OnStoreOutage::Refuse);
    let mut writer = world.device(1, 1);
    say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 10);
    world.store.set_away(true);
    say_until(&mut writer, "sends are refused", |writer| writer.refused.contains_key("storage_failed"));
    let is_few = promise == Promise::Journal || writer.uncommitted.len() <= WINDOW;
    assert!(is_few, "no more than what was under way is accepted as less than committed");
    let mut reader = world.device(2, 1);
    reader.step_until("reads go on", |reader| !reader.log.is_empty());
    world.store.set_away(false);
    writer.step_until("sends are accepted again, and all is committed", |writer| {
        writer.unanswered() == 0 && writer.uncommitted.is_empty()
    });
    check(&world, &writer);
}

#[test]
fn who_needs_nothing_from_a_database_that_hangs_goes_on() {
    for promise in [Promise::Journal, Promise::Store] {
        let world = World::new(promise, OnStoreOutage::Accept);
        let mut writer = world.device(1, 1);
        say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 10);
        writer.step_until("all is committed", |writer| writer.unanswered() == 0 && writer.uncommitted.is_empty());
        let (hanging, queries) = (Hanging::new(&world.store), world.sum(|core| &core.queries));
        // Each must be read from the database: far more than may be under way.
        let mut newcomers: Vec<Connection> = (100..100 + 16 * u64::from(READS_MAX))
            .map(|user| {
                let mut newcomer = Connection::open(world.node.address()).unwrap();
                newcomer.send(&[hello(&world.token(user), 1, Resume::Stored)]);
                newcomer
            })
            .collect();
        let all = queries + newcomers.len() as u64;
        wait_until("they have been asked for", || world.sum(|core| &core.queries) >= all);
        say_until(&mut writer, "some are local", |writer| writer.uncommitted.len() >= 10);
        for newcomer in &mut newcomers {
            assert!(matches!(newcomer.receive(Duration::ZERO), Received::Nothing));
        }
        drop(hanging);
        for newcomer in &mut newcomers {
            assert!(matches!(newcomer.frame(), Some(ServerFrame::Welcome { .. })));
        }
        writer.step_until("all is committed", |writer| writer.unanswered() == 0 && writer.uncommitted.is_empty());
        check(&world, &writer);
    }
}

#[test]
fn who_waits_for_a_database_that_hangs_is_answered_by_the_stop() {
    let world = World::new(Promise::Store, OnStoreOutage::Accept);
    let mut writer = world.device(1, 1);
    let text = "x".repeat(TEXT_BYTES);
    let nothing = world.sum(|core| &core.received_bytes);
    writer.say(2, &text);
    writer.step_until("it is committed", |writer| writer.unanswered() == 0 && writer.uncommitted.is_empty());
    let one = world.sum(|core| &core.received_bytes);
    let hanging = Hanging::new(&world.store);
    for _ in 0..WINDOW {
        writer.say(2, &text);
    }
    let all = one + (one - nothing) * WINDOW as u64;
    wait_until("they have been read", || world.sum(|core| &core.received_bytes) >= all);
    let (store, folder) = world.stop();
    let lost = loop {
        if let Step::Lost(code) = writer.step(Duration::from_millis(5)) {
            break code;
        }
    };
    assert_eq!(lost, Some(ErrorCode::Stopping));
    assert_eq!((writer.accepted.len(), writer.unanswered()), (1 + WINDOW, 0));
    assert_eq!(writer.uncommitted.len(), WINDOW);
    drop(hanging);
    let again = World::on(store, folder, Promise::Store, OnStoreOutage::Accept).unwrap();
    check(&again, &writer);
}

#[test]
fn a_server_whose_database_is_taken_over_stops_and_nothing_that_it_called_committed_is_lost() {
    let first = World::new(Promise::Store, OnStoreOutage::Accept);
    let mut writer = first.device(1, 1);
    say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 50);
    let second =
        World::on(Arc::clone(&first.store), tempfile::tempdir().unwrap(), Promise::Store, OnStoreOutage::Accept);
    let second = second.unwrap();
    // The first one learns it with its next commit, and says nothing but the truth until then.
    wait_until("the first one stops", || {
        if writer.is_connected() && writer.unanswered() < WINDOW {
            writer.say(2, "to whom?");
        }
        writer.step(Duration::from_millis(5));
        first.node.lost().is_some() && !writer.is_connected()
    });
    assert!(first.node.lost().unwrap().contains("somebody else has taken over"), "{:?}", first.node.lost());
    assert!(writer.uncommitted.is_empty());
    check(&second, &writer);

    // It leaves batches behind that must not be mixed with what has happened since.
    let (store, folder) = first.stop();
    let refused = World::on(store, folder, Promise::Store, OnStoreOutage::Accept).map(drop).unwrap_err();
    assert!(
        matches!(refused, StartError::TakeOver(TakeOverError::Foreign { why: Foreign::TakenOver, .. })),
        "{refused}"
    );
    let mut reader = second.device(2, 9);
    reader.step_until("the second one goes on", |reader| !reader.log.is_empty());
}

#[test]
fn a_server_with_nothing_to_commit_notices_too_that_it_was_taken_over() {
    for promise in [Promise::Journal, Promise::Store] {
        let first = World::new(promise, OnStoreOutage::Accept);
        let second = World::on(Arc::clone(&first.store), tempfile::tempdir().unwrap(), promise, OnStoreOutage::Accept);
        wait_until("the first one stops", || first.node.lost().is_some());
        assert!(second.unwrap().node.lost().is_none());
    }
}

#[test]
fn servers_that_stop_in_order_take_turns_with_a_database() {
    for promise in [Promise::Journal, Promise::Store] {
        let mut folders = vec![tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut store = Arc::new(MemoryStore::database());
        for turn in 1..=4 {
            let world = World::on(store, folders.remove(0), promise, OnStoreOutage::Accept).unwrap();
            let mut writer = world.device(1, turn);
            say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 10);
            writer.step_until("all are answered", |writer| writer.unanswered() == 0);
            let (same, folder) = world.stop();
            assert_eq!(recover(&folder.path().join("journal")).unwrap().batches, 0);
            folders.push(folder);
            store = same;
        }
    }
}

#[test]
fn a_journal_keeps_its_name_in_its_database_and_is_not_taken_for_that_of_another_though_it_is_empty() {
    let database = Arc::new(MemoryStore::database());
    let mut folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for _ in 0..2 {
        let world = World::on(Arc::clone(&database), folder, Promise::Store, OnStoreOutage::Accept).unwrap();
        folder = world.stop().1;
        let data = DataDir::open_existing(folder.path()).unwrap();
        names.push(tenure::load(&data).unwrap().unwrap().tenure.holder);
    }
    assert_eq!(names[0], names[1]);
    // An empty one: whoever began there would begin without the history.
    let other = Arc::new(MemoryStore::database());
    let refused = World::on(other, folder, Promise::Store, OnStoreOutage::Accept).map(drop).unwrap_err();
    assert!(
        matches!(refused, StartError::TakeOver(TakeOverError::Foreign { batches: 0, why: Foreign::OfAnother, .. })),
        "{refused}"
    );
}

#[test]
fn a_journal_of_an_engine_is_not_brought_into_a_database() {
    let engine = World::new(Promise::Disk, OnStoreOutage::Accept);
    let mut writer = engine.device(1, 1);
    engine.store.set_away(true);
    say_until(&mut writer, "some are accepted", |writer| writer.accepted.len() >= 10);
    let (_, folder) = engine.stop();
    let database = Arc::new(MemoryStore::database());
    let refused = World::on(database, folder, Promise::Store, OnStoreOutage::Accept).map(drop).unwrap_err();
    assert!(
        matches!(refused, StartError::TakeOver(TakeOverError::Foreign { why: Foreign::OfAnother, .. })),
        "{refused}"
    );
    assert!(refused.to_string().contains("journal export"), "{refused}");
}
