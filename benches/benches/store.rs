//! Store: the embedded store with a small history in it. `ingest`: one sealed segment, from its file to a committed
//! run in an empty store, syncs included. `read`: what shards ask for, each about a user chosen at random.
//!
//! The history is small and was just written, so every read finds its blocks in memory: this is the cost of the engine
//! and of the decoding, not of the disk. Not measured: a large store and its compaction (for those there is the
//! example `measure` of the package storage), reader threads, and the shard's part of a page.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use benches::history::{History, Random};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use proto_spec::{DeviceId, Direction, SendNumber, Seq, UserId};
use storage::{
    Answer, Batch, BatchId, EmbeddedConfig, EmbeddedStore, LaneId, Query, Span, Store as _, answer,
    contract::block_on,
    ingest,
    journal::{JournalConfig, JournalFolder, Position, Prepared, SealedSegment, Writer},
};
use tempfile::TempDir;

const MESSAGES: usize = 20_000;
const USERS: usize = 200;
const PAGE: usize = 50;

/// Takes all messages before it is full.
const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 16 * 1024 * 1024, journal_bytes_max: 48 * 1024 * 1024, reserve_bytes: 0 };

fn store(criterion: &mut Criterion) {
    let dir = temporary_folder();
    let (history, segment) = sealed_segment(dir.path());
    bench_ingest(criterion, &segment);

    let filled = Filled::empty();
    filled.ingest(&segment);
    let mut group = criterion.benchmark_group("store/read");
    let last_page = Span {
        first: Seq(1),
        last: Seq(u64::MAX),
        direction: Direction::Backwards,
        entries_max: PAGE,
        bytes_max: 65_000,
    };
    bench_read(&mut group, "log_page", &filled, &history, |user, _| Query::Log { user, span: last_page });
    bench_read(&mut group, "conversation_page", &filled, &history, |user, peer| Query::ConversationLog {
        user,
        conversation: peer.into(),
        span: last_page,
    });
    bench_read(&mut group, "user", &filled, &history, |user, _| Query::User(user));
    // The watermark is on the side of the one who is written to.
    bench_read(&mut group, "conversation", &filled, &history, |user, peer| Query::Conversation {
        user: peer,
        conversation: user.into(),
    });
    bench_read(&mut group, "send", &filled, &history, |user, _| Query::Send {
        user,
        device: DeviceId(1),
        number: SendNumber(1),
    });
}

fn bench_ingest(criterion: &mut Criterion, segment: &SealedSegment) {
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("ingest", |b| {
        b.iter_batched_ref(Filled::empty, |store| store.ingest(segment), BatchSize::PerIteration);
    });
}

fn bench_read(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    filled: &Filled,
    history: &History,
    query: impl Fn(UserId, UserId) -> Query,
) {
    let mut random = Random(7);
    let mut read = || {
        let (user, peer) = history.pair(&mut random);
        block_on(answer(&filled.store, &query(user, peer))).expect("the store can be read")
    };
    assert!(found_something(&read()), "{name}");
    group.bench_function(name, |b| b.iter(&mut read));
}

fn found_something(answer: &Answer) -> bool {
    match answer {
        Answer::User(user) => user.head > Seq::ZERO,
        Answer::Conversation(conversation) => conversation.received.up_to > Seq::ZERO,
        Answer::Conversations(of) => of.iter().any(|conversation| conversation.received.up_to > Seq::ZERO),
        Answer::Inbox(inbox) => !inbox.rows.is_empty(),
        Answer::Entries(page) => !page.entries.is_empty(),
        Answer::ToDelete(known) => known.message.is_some(),
        Answer::Message(message) => message.is_some(),
        Answer::Send(send) => send.is_some(),
        Answer::IsRemoved(is_removed) => *is_removed,
        Answer::Term(term) => *term > 0,
        Answer::Presence(of) => of.iter().any(|of| of.sent > Seq::ZERO),
        Answer::Group(group) => group.last.is_some(),
        Answer::GroupEntries(page) => !page.entries.is_empty(),
        Answer::GroupMessage(message) => message.is_some(),
    }
}

/// A store and its folder, in this order: the folder goes last.
struct Filled {
    store: EmbeddedStore,
    _dir: TempDir,
}

impl Filled {
    fn empty() -> Self {
        let dir = temporary_folder();
        let store = EmbeddedStore::open(dir.path(), EmbeddedConfig::default()).expect("a new store");
        Self { store, _dir: dir }
    }

    fn ingest(&self, segment: &SealedSegment) {
        let fence = block_on(self.store.take_over()).expect("the fence");
        let report = block_on(ingest(&self.store, fence, std::slice::from_ref(segment))).expect("an ingestion");
        assert_eq!(report.batches, MESSAGES as u64);
    }
}

/// A segment with all messages, and the history that is in it.
fn sealed_segment(dir: &Path) -> (History, SealedSegment) {
    let folder = JournalFolder::open(dir, JOURNAL.segment_bytes).expect("a new journal");
    let mut writer = Writer::new(JOURNAL, Position::default());
    let number = writer.wants_segment().expect("a writer without a segment wants one");
    let Prepared { path, salt } = folder.prepare(number).expect("room for a segment");
    let file = OpenOptions::new().write(true).open(path).expect("the segment's file");
    writer.add_segment(number, salt);

    let mut history = History::new(USERS);
    let mut batch = Batch::default();
    for at in 1..=MESSAGES as u64 {
        batch.clear();
        history.message(&mut batch);
        writer.push(LaneId(0), BatchId(at), batch.bytes());
    }
    write_all(&mut writer, &file);
    let sealed = writer.seal().expect("something is in the segment");
    assert_eq!(sealed.completes, [(LaneId(0), BatchId(MESSAGES as u64))], "one segment takes all messages");
    (history, SealedSegment::new(&folder, &sealed))
}

fn write_all(writer: &mut Writer, file: &File) {
    while let Some(write) = writer.next_write() {
        file.write_all_at(&write.bytes, write.offset).expect("a write");
        let done = writer.written(write.bytes);
        assert_eq!(done.sealed, None, "one segment takes all messages");
    }
}

/// In the build folder: a temporary folder may be memory.
fn temporary_folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in the build folder")
}

criterion_group!(benches, store);
criterion_main!(benches);
