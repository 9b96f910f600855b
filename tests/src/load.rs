//! Load: the devices of several users that write to each other with full windows through all deaths of the server, and
//! the judgement over what is left: whatever was acknowledged is in both logs exactly once, in order, under its seq.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use proto_spec::{ConversationId, Entry, Event, Resume, Seq};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    device::{Device, Step},
    process::Installation,
    route::Route,
    wait_until_within,
};

/// On one server.
const USERS: u64 = 6;
const DEVICES: u64 = 2;

/// How many messages each device may send between two deaths: what the logs have grown to must be read again at the end.
const MESSAGES_BETWEEN_DEATHS: u64 = 150;

/// Devices at work, each on a thread of its own.
#[derive(Debug)]
pub struct Load {
    plan: Arc<Plan>,
    writers: Vec<JoinHandle<Device>>,
}

/// What they have seen.
#[derive(Debug)]
pub struct Finished {
    plan: Arc<Plan>,
    devices: Vec<Device>,
}

impl Load {
    /// Starts the devices, on a server that runs. `patience` is how long nothing may happen.
    #[must_use]
    pub fn start(installation: &Installation, patience: Duration, rng: &mut StdRng) -> Self {
        Self::along(&Route::to(installation.config.listen), installation, USERS, patience, rng)
    }

    /// As `start`, of so many users, on the nodes of a cluster, of which this is one, or wherever the route leads.
    #[must_use]
    pub fn along(route: &Route, installation: &Installation, users: u64, patience: Duration, rng: &mut StdRng) -> Self {
        let counters = || (0..=users).map(|_| AtomicU64::new(0)).collect();
        let plan = Arc::new(Plan {
            users,
            route: route.clone(),
            phase: AtomicUsize::new(WRITE),
            settled: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            patience,
            to: counters(),
            from: counters(),
        });
        let writers = (1..=users)
            .flat_map(|user| (1..=DEVICES).map(move |device| (user, device)))
            .map(|(user, device)| {
                let device = Device::new(user, device, installation.token(user)).along(route.clone());
                let (plan, rng) = (Arc::clone(&plan), StdRng::seed_from_u64(rng.random()));
                thread::spawn(move || live(device, &plan, rng))
            })
            .collect();
        Self { plan, writers }
    }

    /// Whether a device has found something wrong.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.plan.has_failed()
    }

    /// How many messages have been accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.plan.accepted.load(Ordering::SeqCst)
    }

    /// Lets the devices send some more messages.
    pub fn allow_more(&self) {
        self.plan.allowed.fetch_add(MESSAGES_BETWEEN_DEATHS, Ordering::SeqCst);
    }

    /// Lets the devices write until a random moment, before which something was accepted: only a server that has acknowledged
    /// something can lose it.
    pub fn run_to_a_random_moment(&self, rng: &mut StdRng) {
        let before = self.accepted();
        self.allow_more();
        wait_until_within(self.plan.patience, "messages are accepted", || {
            self.accepted() > before || self.has_failed()
        });
        thread::sleep(Duration::from_micros(rng.random_range(0..400_000)));
        if rng.random() {
            // The moment when an acknowledgement without its commit would be found out.
            let before = self.accepted();
            let start = Instant::now();
            while self.accepted() == before && start.elapsed() < Duration::from_secs(1) {
                thread::yield_now();
            }
        }
    }

    /// Lets the devices send no more, get an answer to everything, and leave with their whole logs.
    ///
    /// # Errors
    /// What the first device that failed has found wrong.
    pub fn finish(self) -> Result<Finished, String> {
        let Self { plan, writers } = self;
        plan.phase.store(SETTLE, Ordering::SeqCst);
        wait_until_within(plan.patience, "every send is answered", || {
            plan.settled.load(Ordering::SeqCst) == writers.len() || plan.has_failed()
        });
        plan.phase.store(CATCH_UP, Ordering::SeqCst);
        let joined: Vec<_> = writers.into_iter().map(JoinHandle::join).collect();
        let devices = joined.into_iter().collect::<Result<_, _>>().map_err(|panic| words(&*panic))?;
        Ok(Finished { plan, devices })
    }
}

/// What a thread has panicked with.
fn words(panic: &(dyn Any + Send)) -> String {
    let formatted = panic.downcast_ref::<String>().cloned();
    formatted.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

impl Finished {
    /// How many messages were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.plan.accepted.load(Ordering::SeqCst)
    }

    /// Compares what the devices have seen with what a server has that was started after they left.
    ///
    /// # Panics
    /// Something is lost, doubled, or out of order.
    pub fn verify(&self, installation: &Installation) {
        let logs: BTreeMap<u64, Device> = (1..=self.plan.users)
            .map(|user| {
                let mut reader = Device::new(user, 99, installation.token(user)).along(self.plan.route.clone());
                let expected = self.plan.expected(user);
                wait_until_within(self.plan.patience, "the whole log is pushed", || {
                    // In a cluster it may be sent on at any time.
                    if reader.is_connected() || reader.try_go(Resume::Stored) {
                        while reader.step(Duration::from_millis(1)) == Step::Frame {}
                    }
                    reader.counts() == expected
                });
                (user, reader)
            })
            .collect();
        for device in &self.devices {
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
        for device in &self.devices {
            for (number, seq) in &device.accepted {
                check_message(&logs[&device.user].log[seq], &copies, device, *number);
            }
        }
    }
}

/// What the writers and whoever kills the server share.
#[derive(Debug)]
struct Plan {
    users: u64,
    route: Route,
    phase: AtomicUsize,
    /// Devices all of whose sends are answered.
    settled: AtomicUsize,
    accepted: AtomicU64,
    /// How many messages each device may send until the next death.
    allowed: AtomicU64,
    failed: AtomicBool,
    /// How long nothing may happen.
    patience: Duration,
    /// Messages to each user, and from each user.
    to: Vec<AtomicU64>,
    from: Vec<AtomicU64>,
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
fn live(mut device: Device, plan: &Plan, mut rng: StdRng) -> Device {
    let window = rng.random_range(16..=64);
    let (mut counted, mut settled) = (0, false);
    let _on_panic = OnPanic(&plan.failed);
    let mut changed = Instant::now();
    loop {
        assert!(changed.elapsed() < plan.patience, "nothing happens: {}", device.state());
        if !device.is_connected() {
            let resume = if rng.random() { Resume::Stored } else { Resume::After(Seq(device.position)) };
            if !device.try_go(resume) {
                // The server is dead or not yet there.
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            changed = Instant::now();
        }
        let allowed = plan.allowed.load(Ordering::SeqCst);
        while plan.is(WRITE) && device.unanswered() < window && device.sent() < allowed {
            // Anybody but oneself.
            let to = (device.user - 1 + rng.random_range(1..plan.users)) % plan.users + 1;
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

/// The message is in its author's log under the acknowledged seq, and once in its recipient's log; that there is nothing
/// else has been seen by counting.
fn check_message(entry: &Entry, copies: &BTreeMap<(u64, u64, u64), Vec<&str>>, device: &Device, number: u64) {
    let Event::Sent { to: ConversationId::Person(to), device: by, number: stored, content } = &entry.event else {
        panic!("{entry:?}")
    };
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
            Event::Delivered { .. }
            | Event::Deleted { .. }
            | Event::Devices { .. }
            | Event::Read { .. }
            | Event::Seen { .. }
            | Event::Settings { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => continue,
        };
        assert!(before < Some(now), "user {user}: {entry:?} comes after {before:?}");
    }
}
