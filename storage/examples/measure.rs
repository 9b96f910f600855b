//! Measures ingestion and queries of the embedded store on this machine:
//! `cargo run --release -p storage --example measure -- [segments] [users] [random | same] [pairs | all] [calm]`.
//!
//! `gather`: from the segments' files to sorted changes; `advance`: merged with the rows that the store has, and into it; `compaction`:
//! what the engine's own thread does meanwhile and afterwards. All in microseconds of CPU a message. Each segment is a run, as in the server.
//! `calm`: the next segment comes when the engine has nothing to merge any more.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto_spec::{Content, DeviceId, Direction, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use storage::{
    Batch, BatchId, EmbeddedConfig, EmbeddedStore, Fence, Kind, LaneId, Marks, Query, Record, Run, Span, Store,
    StoreError, answer,
    contract::block_on,
    fold::Sorted,
    ingest,
    journal::{JournalConfig, JournalFolder, Position, SealedSegment, Writer},
    schema::Key,
    store::{Advanced, Holder, Range, Rows, Step, Tenure},
};

const MESSAGES_A_BATCH: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (segments, users) = (number(0, 4), number(1, 100_000));
    let texts_differ = arguments.get(2).is_none_or(|texts| texts == "random");
    let in_pairs = arguments.get(3).is_some_and(|with| with == "pairs");
    let is_calm = arguments.get(4).is_some_and(|pace| pace == "calm");
    let dir = tempfile::tempdir_in(".").expect("a folder here");
    let store = EmbeddedStore::open(&dir.path().join("store"), EmbeddedConfig::default()).expect("a store");
    let store = Timed { store, advance_ns: AtomicU64::new(0) };
    let fence = block_on(store.take_over()).expect("the fence");

    let mut journal = Journal::new(&dir.path().join("journal"));
    let mut traffic = Traffic::new(users, texts_differ, in_pairs);
    let mut made_ns = 0;
    let (mut ingest_ns, mut messages, mut rows, mut most) = (0, 0, 0, 0);
    let process_begun = process_cpu_ns();
    for _ in 0..segments {
        let begun = thread_cpu_ns();
        let before = traffic.messages;
        let sealed = journal.fill(&mut traffic);
        messages += traffic.messages - before;
        made_ns += thread_cpu_ns() - begun;
        let begun = thread_cpu_ns();
        let report = block_on(ingest(&store, fence, std::slice::from_ref(&sealed))).expect("ingestion");
        ingest_ns += thread_cpu_ns() - begun;
        rows += report.rows;
        journal.free(&sealed);
        if is_calm {
            settle(&store.store, &mut most);
        }
        most = most.max(disk_mib(&store.store));
        store.store.trim().expect("the folder can be read");
    }
    let begun = Instant::now();
    settle(&store.store, &mut most);
    let settled = begun.elapsed();
    store.store.trim().expect("the folder can be read");
    let advance_ns = store.advance_ns.load(Ordering::Relaxed);
    let compaction_ns = process_cpu_ns() - process_begun - made_ns - ingest_ns;
    let each = |ns: u64| ns as f64 / messages as f64 / 1e3;
    println!(
        "{messages} messages, {rows} rows: gather {:.3}, advance {:.3}, compaction {:.3}, all {:.3} us a message; \
         settled after {settled:.1?}; disk {} MiB, {most} at its highest; peak memory {} MiB",
        each(ingest_ns - advance_ns),
        each(advance_ns),
        each(compaction_ns),
        each(ingest_ns + compaction_ns),
        disk_mib(&store.store),
        memory_peak_mib(),
    );
    let store = &store.store;
    for round in ["cold", "warm"] {
        time_queries(store, &format!("{round} User"), &traffic, |user, _| Query::User(user));
        time_queries(store, &format!("{round} Log, last 50"), &traffic, |user, _| Query::Log { user, span: last(50) });
        time_queries(store, &format!("{round} ConversationLog, last 50"), &traffic, |user, peer| {
            Query::ConversationLog { user, conversation: peer.into(), span: last(50) }
        });
        time_queries(store, &format!("{round} Send"), &traffic, |user, _| Query::Send {
            user,
            device: DeviceId(1),
            number: SendNumber(1),
        });
    }
}

/// Knows what its advances have cost: reading `sends` rows, making rows and committing them.
struct Timed {
    store: EmbeddedStore,
    advance_ns: AtomicU64,
}

impl Store for Timed {
    fn kind(&self) -> Kind {
        self.store.kind()
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        self.store.range(range).await
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.store.commit(fence, run).await
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        self.store.take_over().await
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        let begun = thread_cpu_ns();
        let done = self.store.advance(fence, steps, sorted).await;
        self.advance_ns.fetch_add(thread_cpu_ns() - begun, Ordering::Relaxed);
        done
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        self.store.progress().await
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.store.tenure().await
    }

    async fn begin(&self, fence: Fence, holder: Holder) -> Result<(), StoreError> {
        self.store.begin(fence, holder).await
    }
}

/// Waits until nothing is merged. As in the server, what was merged is removed every second.
fn settle(store: &EmbeddedStore, most: &mut u64) {
    let mut trimmed = Instant::now();
    store.settle(|| {
        *most = (*most).max(disk_mib(store));
        if trimmed.elapsed() > Duration::from_secs(1) {
            store.trim().expect("the folder can be read");
            trimmed = Instant::now();
        }
    });
}

/// All files of the store's rows, in MiB.
fn disk_mib(store: &EmbeddedStore) -> u64 {
    store.disk_use().expect("the folder can be read").tables_bytes >> 20
}

fn last(entries_max: usize) -> Span {
    Span { first: Seq(1), last: Seq(u64::MAX), direction: Direction::Backwards, entries_max, bytes_max: 65_000 }
}

fn time_queries(store: &EmbeddedStore, name: &str, traffic: &Traffic, query: impl Fn(UserId, UserId) -> Query) {
    let mut random = Random(7);
    let mut took: Vec<Duration> = (0..2000)
        .map(|_| {
            let (user, peer) = traffic.pair(&mut random);
            let query = query(user, peer);
            let begun = Instant::now();
            block_on(answer(store, &query)).expect("an answer");
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("{name}: p50 {:.1?}, p99 {:.1?}, max {:.1?}", took[1000], took[1980], took[1999]);
}

struct Journal {
    folder: JournalFolder,
    writer: Writer,
    batch: u64,
}

impl Journal {
    fn new(path: &Path) -> Self {
        let config = JournalConfig::default();
        let folder = JournalFolder::open(path, config.segment_bytes).expect("a folder");
        Self { folder, writer: Writer::new(config, Position::default()), batch: 0 }
    }

    fn fill(&mut self, traffic: &mut Traffic) -> SealedSegment {
        let mut batch = Batch::default();
        loop {
            while let Some(number) = self.writer.wants_segment() {
                let prepared = self.folder.prepare(number).expect("a segment");
                self.writer.add_segment(number, prepared.salt);
            }
            for _ in 0..16 {
                batch.clear();
                (0..MESSAGES_A_BATCH).for_each(|_| traffic.message(&mut batch));
                self.batch += 1;
                self.writer.push(LaneId(0), BatchId(self.batch), batch.bytes());
            }
            let write = self.writer.next_write().expect("a group");
            let path = self.folder.segment_path(write.segment);
            let file = OpenOptions::new().write(true).open(path).expect("the segment");
            file.write_all_at(&write.bytes, write.offset).expect("a write");
            if let Some(sealed) = self.writer.written(write.bytes).sealed {
                return SealedSegment::new(&self.folder, &sealed);
            }
        }
    }

    fn free(&mut self, sealed: &SealedSegment) {
        self.folder.free(sealed.number).expect("a free");
        self.writer.released(sealed.number);
    }
}

/// Texts of 100 bytes between users, a few of whom write most; or between pairs of users who write equally much.
struct Traffic {
    users: u64,
    random: Random,
    logs: HashMap<UserId, Log>,
    time: u64,
    texts_differ: bool,
    in_pairs: bool,
    messages: u64,
}

#[derive(Default)]
struct Log {
    head: u64,
    number: u64,
    delivered_at: HashMap<UserId, Seq>,
}

impl Traffic {
    fn new(users: u64, texts_differ: bool, in_pairs: bool) -> Self {
        Self {
            users,
            random: Random(1),
            logs: HashMap::new(),
            time: 1_760_000_000_000,
            texts_differ,
            in_pairs,
            messages: 0,
        }
    }

    fn pair(&self, random: &mut Random) -> (UserId, UserId) {
        if self.in_pairs {
            let user = random.next() % self.users;
            return (UserId(user + 1), UserId((user ^ 1) + 1));
        }
        let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let user = (unit * unit * unit * self.users as f64) as u64 + 1;
        (UserId(user), UserId((user + random.next() % 20) % self.users + 1))
    }

    fn message(&mut self, batch: &mut Batch) {
        let mut random = Random(self.random.next());
        let (from, to) = self.pair(&mut random);
        self.time += 1;
        self.messages += 1;
        let text: Vec<u8> = match self.texts_differ {
            true => (0..100).map(|_| b' ' + (random.next() % 64) as u8).collect(),
            false => vec![b'x'; 100],
        };
        let content = Content::Text(text.into());
        let sender = self.logs.entry(from).or_default();
        sender.number += 1;
        let (device, number) = (DeviceId(1), SendNumber(sender.number));
        let sent = Event::Sent { to: to.into(), device, number, content: content.clone() };
        let origin = self.append(batch, from, sent, None);
        let seq = self.append(batch, to, Event::Received { from, origin, content }, None);
        // Cursors and receipts are gathered: one for about four messages.
        if random.next().is_multiple_of(4) {
            batch.push(&Record::Cursor { user: to, device, seq });
            let replaces = self.logs.get(&from).and_then(|log| log.delivered_at.get(&to).copied());
            let at = self.append(batch, from, Event::Delivered { peer: to, up_to: origin }, replaces);
            self.logs.entry(from).or_default().delivered_at.insert(to, at);
            let marks = Marks { forwarded: origin, receipted: Seq::ZERO };
            batch.push(&Record::Marks { user: from, marks, idle: true });
        }
    }

    fn append(&mut self, batch: &mut Batch, user: UserId, event: Event, replaces: Option<Seq>) -> Seq {
        let log = self.logs.entry(user).or_default();
        log.head += 1;
        let seq = Seq(log.head);
        let entry = Entry { seq, time: TimestampMs(self.time), event };
        batch.push(&Record::Append { user, entry, replaces, count: 0 });
        seq
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// User and system time of the whole process: all of its threads, which do not end before this is asked.
fn process_cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
    tasks.map(|task| cpu_ns(&task.expect("a thread").path().join("schedstat"))).sum()
}

/// User and system time of this thread.
fn thread_cpu_ns() -> u64 {
    cpu_ns(Path::new("/proc/thread-self/schedstat"))
}

fn cpu_ns(schedstat: &Path) -> u64 {
    let text = std::fs::read_to_string(schedstat).expect("proc");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
}

fn memory_peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}
