//! What a node does to its whole process: these tests run again in processes of their own.

use std::{
    env,
    fs::File,
    io::{self, PipeReader, PipeWriter, Write as _},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rim::process::Usage;
use storage::{
    BatchId, Fence, Kind, LaneId, MemoryStore, Run, Store, StoreError,
    fold::Sorted,
    schema::Key,
    store::{Advanced, Holder, Range, Rows, Step, Tenure},
};

use super::{DEADLINE, World};
use crate::{
    core::CoreMessage,
    operator::{
        audit::AuditCounters,
        logging::{self, Format},
        metrics,
    },
    shard::topology::CoreId,
};

/// A store that panics, or never answers, in threads whose name begins like this.
struct TamperedStore {
    thread: &'static str,
    hangs: bool,
    store: MemoryStore,
}

impl TamperedStore {
    fn panicking_in(thread: &'static str) -> Self {
        Self { thread, hangs: false, store: MemoryStore::default() }
    }

    fn hanging_in(thread: &'static str) -> Self {
        Self { hangs: true, ..Self::panicking_in(thread) }
    }

    async fn here(&self) -> &MemoryStore {
        let is_named = thread::current().name().is_some_and(|name| name.starts_with(self.thread));
        if is_named && self.hangs {
            std::future::pending::<()>().await;
        }
        assert!(!is_named, "as a test asked for");
        &self.store
    }
}

impl Store for TamperedStore {
    fn kind(&self) -> Kind {
        self.store.kind()
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.here().await.get(key).await
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        self.here().await.range(range).await
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.here().await.commit(fence, run).await
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        self.here().await.take_over().await
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        self.here().await.advance(fence, steps, sorted).await
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        self.here().await.progress().await
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.here().await.tenure().await
    }

    async fn begin(&self, fence: Fence, holder: Holder) -> Result<(), StoreError> {
        self.here().await.begin(fence, holder).await
    }
}

/// Set in a process that a test has started for itself alone.
const CHILD: &str = "RINGPOST_TEST_CHILD";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// This test again, in a process of its own with a log.
fn in_a_process_of_its_own(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([&format!("io::tests::own_process::{test}"), "--exact", "--nocapture"]);
    command.env(CHILD, "1").env("RUST_LOG", "info");
    command
}

/// Runs this test again in a process of its own, in which it does what makes a thread panic, and checks how that process
/// ends and what it says.
fn ends_the_process(test: &str, thread: &str, panic: impl FnOnce()) {
    if is_child() {
        logging::init(None).unwrap();
        panic();
        return;
    }
    let mut command = in_a_process_of_its_own(test);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    let line = said.lines().find(|line| line.contains("the process ends")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(thread) && line.contains("restart"), "{line}");
    // It ends as well when nobody takes what it says.
    let (_reader, full_pipe) = full_pipe();
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(full_pipe), Stdio::from(full_disk)] {
        assert_eq!(command.stderr(stderr).status().unwrap().signal(), Some(libc::SIGABRT));
    }
}

/// A pipe that takes nothing more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let set = |flags: libc::c_int| {
        // SAFETY: it changes a flag of a descriptor that `writer` owns, and touches no memory.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set(libc::O_NONBLOCK);
    while (&writer).write(b"x").is_ok() {}
    set(0);
    (reader, writer)
}

fn wait_for_the_end() {
    thread::sleep(DEADLINE);
}

#[test]
fn a_core_that_panics_ends_the_process() {
    ends_the_process("a_core_that_panics_ends_the_process", "ringpost-core-0", || {
        let world = World::new(2);
        // Core 0 has nobody to tell that it is durable.
        let batch =
            CoreMessage::Batch { lane: LaneId(2), id: BatchId(1), bytes: b"of nobody".to_vec(), is_urgent: true };
        world.node().mailbox(CoreId(0)).put_waiting(batch);
        wait_for_the_end();
    });
}

#[test]
fn a_reader_that_panics_ends_the_process() {
    ends_the_process("a_reader_that_panics_ends_the_process", "ringpost-reader-", || {
        let world = World::on(TamperedStore::panicking_in("ringpost-reader-"), 1, |_| {});
        let mut client = world.connect();
        client.send(&[world.hello(1, 1)]);
        wait_for_the_end();
    });
}

#[test]
fn an_ingestion_that_panics_ends_the_process() {
    ends_the_process("an_ingestion_that_panics_ends_the_process", "ringpost-ingest", || {
        let store = TamperedStore::panicking_in("ringpost-ingest");
        let world = World::on(store, 1, |config| config.seal_after_ms = 1);
        world.login(1, 1).say(1, 2, "to be ingested");
        wait_for_the_end();
    });
}

#[test]
fn a_look_for_duties_that_panics_ends_the_process() {
    ends_the_process("a_look_for_duties_that_panics_ends_the_process", "ringpost-unfinished", || {
        let _world = World::on(TamperedStore::panicking_in("ringpost-unfinished"), 1, |_| {});
        wait_for_the_end();
    });
}

/// How far the wall clock of `set_clock` is ahead.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

fn set_clock() -> SystemTime {
    SystemTime::now() + Duration::from_millis(AHEAD_MS.load(Ordering::SeqCst))
}

#[test]
fn a_wall_clock_that_leaps_a_day_ahead_and_back_is_told_and_dates_nothing() {
    const DAY_MS: u64 = 24 * 3_600_000;
    if !is_child() {
        let test = "a_wall_clock_that_leaps_a_day_ahead_and_back_is_told_and_dates_nothing";
        let output = in_a_process_of_its_own(test).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines = ["the clock of this machine leapt", "the clock of this machine has come back"];
        let places = lines.map(|line| said.find(line).unwrap_or_else(|| panic!("{line}: {said}")));
        assert!(places.is_sorted(), "{said}");
        return;
    }
    logging::init(Some(Format::Text)).unwrap();
    let mut world = World::new(1);
    world.stop();
    world.wall = set_clock;
    world.start();
    let counters = world.node().counters();
    let audit = AuditCounters::default();
    let metric = |name: &str| -> f64 {
        let page = metrics::text(&counters, &audit, logging::counters(), 0, None, Usage::own());
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {page}"))
    };
    let (leaps, doubted) = ("ringpost_clock_leaps_total ", "ringpost_clock_doubted_seconds ");
    let (mut alice, mut number) = (world.login(1, 1), 0);
    let mut said_at = || {
        number += 1;
        alice.say(number, 2, "what time is it?");
        alice.expect_accepted(number)
    };

    let before = said_at();
    assert_eq!((metric(leaps), metric(doubted)), (0.0, 0.0));
    AHEAD_MS.store(DAY_MS, Ordering::SeqCst);
    world.until(|_| (metric(doubted) - 86_400.0).abs() < 1.0);
    let meanwhile = said_at();
    AHEAD_MS.store(0, Ordering::SeqCst);
    world.until(|_| metric(doubted) == 0.0);
    let after = said_at();
    assert_eq!(metric(leaps), 1.0);
    assert!(before <= meanwhile && meanwhile <= after, "{before} {meanwhile} {after}");
    assert!(after.0 < before.0 + DAY_MS / 2, "{before} {after}");
    world.stop();
    logging::flush();
}

#[test]
fn a_stop_does_not_wait_for_a_read_that_never_ends() {
    for thread in ["ringpost-unfinished", "ringpost-reader"] {
        let mut world = World::on(TamperedStore::hanging_in(thread), 1, |_| {});
        // Whose user a reader looks for.
        let mut client = world.connect();
        client.send(&[world.hello(1, 1)]);
        world.until(|node| node.counters().cores[0].queries.get() > 0);
        let node = world.node.take().unwrap();
        node.stop();
        node.join();
    }
}
