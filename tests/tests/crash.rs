//! Contract 1 and 2 against `kill -9`: whatever was acknowledged as committed is in both logs exactly once.
//!
//! A server process is killed at random moments while the devices of several users write to each other with full windows,
//! and is started again on the same data folder and port. A killed process leaves what it has written to the kernel: that each
//! group is synced as well is proved by the journal's own tests.
//!
//! RINGPOST_KILLS (10) says how often, RINGPOST_SEED which moments.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proto_spec::{Entry, Event, Resume, Seq};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::{
    DEADLINE,
    device::{Device, Step},
    process::{Installation, Server},
    wait_until_within,
};

const USERS: u64 = 6;
const DEVICES: u64 = 2;
const MESSAGES_BETWEEN_KILLS: u64 = 150;

/// What the writers and the killer share.
#[derive(Default)]
struct Plan {
    phase: AtomicUsize,
    /// Devices all of whose sends are answered.
    settled: AtomicUsize,
    accepted: AtomicU64,
    /// How many messages each device may send until the next kill: what the logs have grown to must be read again at the
    /// end.
    allowed: AtomicU64,
    failed: AtomicBool,
    /// How long nothing may happen. A kill stops the store's compaction, which starts anew; while too many tables wait for
    /// it the journal is full and nobody is served with anything new. So it grows with the kills.
    patience: Duration,
    /// Messages to each user, and from each user.
    to: [AtomicU64; USERS as usize + 1],
    from: [AtomicU64; USERS as usize + 1],
}

const WRITE: usize = 0;
const SETTLE: usize = 1;
const CATCH_UP: usize = 2;

impl Plan {
    /// Messages that the user's log must have in the end: received ones, and sent ones.
    fn expected(&self, user: u64) -> (u64, u64) {
        (self.to[user as usize].load(Ordering::SeqCst), self.from[user as usize].load(Ordering::SeqCst))
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn is(&self, phase: usize) -> bool {
        self.phase.load(Ordering::SeqCst) == phase
    }
}

/// Tells the others that a device has found something wrong.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::SeqCst);
    }
}

/// A device's life: writes with a full window, reconnects, acknowledges now and then, and leaves with the whole log.
fn live(mut device: Device, plan: &Plan, address: SocketAddr, mut rng: StdRng) -> Device {
    let window = rng.random_range(16..=64);
    let (mut counted, mut settled) = (0, false);
    let _on_panic = OnPanic(&plan.failed);
    let mut changed = Instant::now();
    loop {
        assert!(changed.elapsed() < plan.patience, "nothing happens: {}", device.state());
        if !device.is_connected() {
            let resume = if rng.random() { Resume::Stored } else { Resume::After(Seq(device.position)) };
            if !device.try_connect(address, resume) {
                // The server is dead or not yet there.
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            changed = Instant::now();
        }
        let allowed = plan.allowed.load(Ordering::SeqCst);
        while plan.is(WRITE) && device.unanswered() < window && device.sent() < allowed {
            // Anybody but oneself.
            let to = (device.user - 1 + rng.random_range(1..USERS)) % USERS + 1;
            plan.to[to as usize].fetch_add(1, Ordering::SeqCst);
            plan.from[device.user as usize].fetch_add(1, Ordering::SeqCst);
            device.say(to, &text(device.user, device.device, device.sent() + 1));
        }
        // Who has settled has nothing to wait for until the others have.
        if device.step(Duration::from_millis(20)) == Step::Frame || (settled && plan.is(SETTLE)) {
            changed = Instant::now();
        }
        let accepted = device.accepted.len() as u64;
        plan.accepted.fetch_add(accepted - counted, Ordering::SeqCst);
        counted = accepted;
        if device.is_connected() && rng.random_range(0..100) == 0 {
            device.acknowledge();
        }
        if plan.is(SETTLE) && !settled && device.unanswered() == 0 {
            settled = true;
            plan.settled.fetch_add(1, Ordering::SeqCst);
        }
        if plan.has_failed() {
            return device;
        }
        if plan.is(CATCH_UP) {
            let expected = plan.expected(device.user);
            let (received, sent) = device.counts();
            assert!(received <= expected.0 && sent <= expected.1, "{device}: {received}, {sent} of {expected:?}");
            if (received, sent) == expected {
                device.disconnect();
                return device;
            }
        }
    }
}

/// Names the send, so that a text in the wrong place is found.
fn text(user: u64, device: u64, number: u64) -> String {
    let padding = (user * 31 + device * 17 + number * 7) % 300;
    format!("{user}.{device}.{number}{}", ".".repeat(padding as usize))
}

/// Lets the server run for a random time, often a time in which it is still starting, and kills it.
fn kill_at_a_random_moment(installation: &mut Installation, server: Option<Server>, plan: &Plan, rng: &mut StdRng) {
    let server = match server {
        Some(server) => {
            // Only a server that has acknowledged something can lose it.
            let before = plan.accepted.load(Ordering::SeqCst);
            plan.allowed.fetch_add(MESSAGES_BETWEEN_KILLS, Ordering::SeqCst);
            wait_until_within(plan.patience, "messages are accepted", || {
                plan.accepted.load(Ordering::SeqCst) > before || plan.has_failed()
            });
            thread::sleep(Duration::from_micros(rng.random_range(0..400_000)));
            if rng.random() {
                // The moment when an acknowledgement without its commit would be found out.
                let before = plan.accepted.load(Ordering::SeqCst);
                let start = Instant::now();
                while plan.accepted.load(Ordering::SeqCst) == before && start.elapsed() < Duration::from_secs(1) {
                    thread::yield_now();
                }
            }
            server
        }
        None => {
            let server = installation.spawn();
            thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
            server
        }
    };
    server.kill();
}

#[test]
fn what_was_acknowledged_as_committed_survives_kill_9_exactly_once_and_in_order() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let kills = number("RINGPOST_KILLS").unwrap_or(10);
    let seed = number("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("RINGPOST_KILLS={kills} RINGPOST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);

    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    // Small, so that the journal goes round, and is full at times.
    installation.config.journal.segment_bytes = 1024 * 1024;
    installation.config.journal.bytes_max = 8 * 1024 * 1024;
    installation.config.journal.seal_after_ms = 300;
    let mut server = Some(installation.start());
    let address = installation.config.listen;
    let patience = DEADLINE + Duration::from_secs(kills);
    let plan = Arc::new(Plan { patience, ..Plan::default() });
    let writers: Vec<_> = (1..=USERS)
        .flat_map(|user| (1..=DEVICES).map(move |device| (user, device)))
        .map(|(user, device)| {
            let device = Device::new(user, device, installation.token(user));
            let (plan, rng) = (Arc::clone(&plan), StdRng::seed_from_u64(rng.random()));
            thread::spawn(move || live(device, &plan, address, rng))
        })
        .collect();

    for _ in 0..kills {
        if plan.has_failed() {
            // Of use to whoever looks for the reason.
            if let Some(server) = &server {
                println!("{:#?}", server.metrics());
            }
            println!("{}", installation.log());
            break;
        }
        kill_at_a_random_moment(&mut installation, server.take(), &plan, &mut rng);
        // One in four is killed again while it recovers.
        if rng.random_range(0..4) != 0 {
            server = Some(installation.start());
        }
    }
    let running = server.unwrap_or_else(|| installation.start());
    plan.phase.store(SETTLE, Ordering::SeqCst);
    wait_until_within(patience, "every send is answered", || {
        plan.settled.load(Ordering::SeqCst) == writers.len() || plan.has_failed()
    });
    plan.phase.store(CATCH_UP, Ordering::SeqCst);
    let devices: Vec<Device> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    println!("{} messages were accepted", plan.accepted.load(Ordering::SeqCst));

    // What is left is judged by what the disk says.
    running.kill();
    let server = installation.start();
    let logs: BTreeMap<u64, Device> = (1..=USERS)
        .map(|user| {
            let mut reader = Device::new(user, 99, installation.token(user));
            reader.connect(address, Resume::Stored);
            let expected = plan.expected(user);
            reader.step_until("the whole log is pushed", |reader| reader.counts() == expected);
            (user, reader)
        })
        .collect();
    for device in &devices {
        let log = &logs[&device.user];
        assert!(device.messages() == log.messages(), "{device} saw another log");
        assert_eq!(device.accepted.len() as u64, device.sent());
    }
    // By recipient, author and seq in the author's log.
    let mut copies: BTreeMap<(u64, u64, u64), Vec<&str>> = BTreeMap::new();
    for (user, reader) in &logs {
        check_order(*user, reader.log.values());
        for (_, from, origin, text) in reader.received() {
            copies.entry((*user, from, origin)).or_default().push(text);
        }
    }
    for device in &devices {
        for (number, seq) in &device.accepted {
            check_message(&logs[&device.user].log[seq], &copies, device, *number);
        }
    }
    server.stop();
}

/// The message is in its author's log under the acknowledged seq, and once in its recipient's log; that there is nothing
/// else has been seen by counting.
fn check_message(entry: &Entry, copies: &BTreeMap<(u64, u64, u64), Vec<&str>>, device: &Device, number: u64) {
    let Event::Sent { to, device: by, number: stored, content } = &entry.event else { panic!("{entry:?}") };
    assert_eq!((by.0, stored.0), (device.device, number));
    let text = text(device.user, device.device, number);
    assert_eq!(content.as_text(), Some(text.as_str()));
    let copies = copies.get(&(to.0, device.user, entry.seq.0));
    assert_eq!(copies, Some(&vec![text.as_str()]), "{device}: {number} in the log of {to}");
}

/// One device's sends and one author's messages keep their order.
fn check_order<'a>(user: u64, log: impl Iterator<Item = &'a Entry>) {
    let (mut numbers, mut origins) = (BTreeMap::new(), BTreeMap::new());
    for entry in log {
        let (before, now) = match &entry.event {
            Event::Sent { device, number, .. } => (numbers.insert(device.0, number.0), number.0),
            Event::Received { from, origin, .. } => (origins.insert(from.0, origin.0), origin.0),
            Event::Delivered { .. } | Event::Unknown { .. } => continue,
        };
        assert!(before < Some(now), "user {user}: {entry:?} comes after {before:?}");
    }
}
