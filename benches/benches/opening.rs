//! Opening: an app opens, and a device resumes. Measured in the shard, from the hello to the last byte in the outbox, with the end of the
//! connection before. Of a device that has read everything: hello alone (`login`), and with the inbox of 20 and the newest 15 messages of its
//! first conversation, which the shard keeps (`warm`). `cold`: the shard keeps nothing, and the store was opened anew for each, so nothing is
//! in the engine's cache; the kernel's has its files. `resume`: a device has missed ten entries of a log that is short or long.
//!
//! The store has this user alone, in one ingestion. Not measured: token, sockets, the reader threads, and the client's part. What a real
//! server costs with many users says `ringpost-loadgen open`.

use std::{path::Path, time::Duration};

use benches::{TEXT, conversation::Conversation, past::Past};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use proto_spec::{ClientFrame, RequestId, Resume, Seq};
use server::shard::CacheLimits;
use storage::{EmbeddedConfig, EmbeddedStore};
use tempfile::TempDir;

/// What an app asks for when it opens.
const ROWS: u64 = 20;
const MESSAGES: u64 = 15;

/// Entries that a device has missed.
const MISSED: u64 = 10;

fn opening(criterion: &mut Criterion) {
    let mut inbox = Vec::new();
    let (request, before, limit, messages) = (RequestId(1), Seq::ZERO, ROWS, MESSAGES);
    ClientFrame::FetchInbox { request, before, limit, messages }.encode(&mut inbox);
    let mut group = criterion.benchmark_group("opening");

    let (folder, head) = stored(Past::of_conversations(ROWS));
    let mut warm = open(folder.path(), CacheLimits::DEFAULT);
    warm.come_back(Resume::After(head), &inbox);
    let misses = warm.counters().cache_misses;
    for (name, bytes) in [("login", &[][..]), ("warm", &inbox)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let sent = warm.come_back(Resume::After(head), bytes);
                // A welcome has less than a text.
                let least = if bytes.is_empty() { 1 } else { ROWS as usize * TEXT.len() };
                assert!(sent >= least, "{sent} bytes");
            });
        });
    }
    assert_eq!(warm.counters().cache_misses, misses, "all of it is kept");

    for conversations in [ROWS, 10_000] {
        let (folder, head) = stored(Past::of_conversations(conversations));
        // One a sample: so the samples have percentiles.
        group.sample_size(200).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_millis(1));
        group.bench_function(format!("cold/{conversations}"), |b| {
            b.iter_batched_ref(
                || open(folder.path(), CacheLimits::OFF),
                |cold| {
                    let before = cold.counters().queries;
                    let sent = cold.come_back(Resume::After(head), &inbox);
                    assert!(sent > ROWS as usize * TEXT.len(), "{sent} bytes");
                    assert!(cold.counters().queries >= before + 2, "list and page are of the store");
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn resuming(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resume");
    for messages in [1_000, 100_000] {
        let (folder, head) = stored(Past::of_messages(messages));
        let mut conversation = open(folder.path(), CacheLimits::OFF);
        group.bench_function(format!("{MISSED}/{messages}"), |b| {
            b.iter(|| {
                let before = conversation.counters().queries;
                let sent = conversation.come_back(Resume::After(Seq(head.0 - MISSED)), &[]);
                assert!(conversation.counters().queries > before, "what was missed is of the store");
                assert!((MISSED as usize..2 * MISSED as usize).contains(&(sent / TEXT.len())), "{sent} bytes");
            });
        });
    }
}

/// A store in the build folder, since a temporary folder may be memory, and the head of the reader's log.
fn stored(past: Past) -> (TempDir, Seq) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in the build folder");
    let head = past.store_in(folder.path());
    (folder, head)
}

fn open(folder: &Path, cache: CacheLimits) -> Conversation {
    let store = EmbeddedStore::open(folder, EmbeddedConfig::default()).expect("a store that is there");
    Conversation::with_store(store, cache)
}

criterion_group!(openings, opening, resuming);
criterion_main!(openings);
