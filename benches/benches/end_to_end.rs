//! End to end, in process: a whole node on the loopback, with its journal and store in the build folder, and two connections. A message is sent
//! when the one before has arrived, so the machine is idle but for it: `accepted` is from the sender's write to the acceptance, `delivered`
//! to the message at the other. Both wait for a sync of the journal. `relay` is the same through the bare relay: what the kernel,
//! two wake-ups and the loopback take of it.
//!
//! Not measured: load. What a server does under load is the load generator's to say.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use benches::{
    TEXT,
    connection::{Connection, token},
    relay,
};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use proto_spec::{ClientFrame, Content, SendNumber, ServerFrame, UserId};
use server::{
    access::{
        auth::{Keys, generate_pem},
        revocation::Revocations,
    },
    config::{Listen, Transport},
    core::OriginLimits,
    durability::committer::OnStoreOutage,
    files::{credentials::Credentials, datadir::DataDir},
    io::{DatabaseConfig, Node, NodeConfig, listeners::listen},
    operator::{audit::Audit, counters::Counters},
    shard::{CacheLimits, Limits, PresenceSettings, Promise, Settings},
};
use storage::{
    EmbeddedConfig, EmbeddedStore,
    journal::{JournalConfig, recover},
};

const WRITER: UserId = UserId(1);
const READER: UserId = UserId(2);

fn end_to_end(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in the build folder");
    let pem = generate_pem().expect("a key");
    let data = Arc::new(DataDir::open(dir.path()).expect("a data folder"));
    let store = EmbeddedStore::open(&data.store(), EmbeddedConfig::default()).expect("a new store");
    let config = NodeConfig {
        listen: vec![Listen { address: "127.0.0.1:0".parse().expect("an address"), transport: Transport::Plain }],
        cores: 1,
        connections_max: 16,
        handshake_timeout_ms: 10_000,
        origins: OriginLimits::default(),
        settings: Settings {
            ping_after_ms: 600_000,
            idle_timeout_ms: 1_200_000,
            expiry_warning_ms: 60_000,
            token_leeway_ms: 0,
            promise: Promise::Disk,
            limits: Limits::OFF,
            cache: CacheLimits::DEFAULT,
            presence: PresenceSettings::DEFAULT,
            moves_per_s: 1_000,
            push: None,
        },
        data,
        journal: JournalConfig {
            segment_bytes: 4 * 1024 * 1024,
            journal_bytes_max: 32 * 1024 * 1024,
            reserve_bytes: 64 * 1024,
        },
        seal_after_ms: 600_000,
        journal_gap: Duration::ZERO,
        database: DatabaseConfig::default(),
        on_store_outage: OnStoreOutage::Accept,
        revocations: Revocations::default(),
        audit: Audit::off(),
        websocket_origins: Vec::new(),
        shows_page: false,
        cluster: None,
    };
    let keys = Keys::from_pem(pem.as_bytes()).expect("a key");
    let journal = recover(&config.data.journal()).expect("no journal");
    let (credentials, counters) = (Credentials { keys, tls: None }, Arc::new(Counters::new(config.cores)));
    let node = Node::start(&config, journal, Arc::new(store), credentials, counters).expect("a node");
    let mut group = criterion.benchmark_group("end_to_end");
    bench(&mut group, "node", node.address(), &pem);
    node.stop();
    node.join();

    let listener = listen(config.listen[0].address).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    // Ends with the process.
    thread::spawn(move || relay::run(&listener, 16).map(|never| match never {}).expect("a ring"));
    bench(&mut group, "relay", address, &pem);
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, address: SocketAddr, pem: &str) {
    let login = |user| Connection::login(address, token(pem, user)).expect("a welcome").0;
    let (mut writer, mut reader) = (login(WRITER), login(READER));
    let mut number = SendNumber(0);
    let mut time = |rounds: u64, what: Event| {
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            let begun = Instant::now();
            send(&mut writer, &mut number);
            // The other one is taken too, unmeasured: a reader that does not read would soon be sent pages.
            match what {
                Event::Accepted => {
                    accepted(&mut writer, number);
                    total += begun.elapsed();
                    delivered(&mut reader);
                }
                Event::Delivered => {
                    delivered(&mut reader);
                    total += begun.elapsed();
                    accepted(&mut writer, number);
                }
            }
        }
        total
    };
    group.bench_function(format!("{name}/accepted"), |b| b.iter_custom(|rounds| time(rounds, Event::Accepted)));
    group.bench_function(format!("{name}/delivered"), |b| b.iter_custom(|rounds| time(rounds, Event::Delivered)));
}

/// What ends a measurement.
#[derive(Clone, Copy)]
enum Event {
    Accepted,
    Delivered,
}

fn send(writer: &mut Connection, number: &mut SendNumber) {
    *number = number.next();
    writer
        .send(&ClientFrame::Send { number: *number, to: READER.into(), content: Content::text(TEXT) })
        .expect("the node takes it");
}

fn accepted(writer: &mut Connection, expected: SendNumber) {
    match next(writer) {
        ServerFrame::Accepted { number, .. } if number == expected => {}
        other => panic!("{other:?}"),
    }
}

fn delivered(reader: &mut Connection) {
    match next(reader) {
        ServerFrame::Deliver { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// The next frame, but that a log begins.
fn next(connection: &mut Connection) -> ServerFrame {
    loop {
        match connection.frame().expect("a frame") {
            ServerFrame::Epoch { .. } => {}
            frame => return frame,
        }
    }
}

criterion_group!(both, end_to_end);
criterion_main!(both);
