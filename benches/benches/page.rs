//! Page: a reader asks for the last 50 entries of the log, or of the conversation, and gets a page. Measured from the request's bytes to the
//! page in the outbox. `store`: all of it has been ingested; `tail`: nothing of it; `across`: half of it.
//!
//! The store is small and was just written, so its blocks are in memory. Not measured: the reader threads, which answer the shard's
//! queries in a server and are a function call here, and the client's part.

use benches::conversation::{Conversation, Sends, WRITER};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto_spec::{ClientFrame, Direction, RequestId, Seq};
use server::shard::CacheLimits;
use storage::{EmbeddedConfig, EmbeddedStore};

/// What a screen shows and some more.
const PAGE_ENTRIES: usize = 50;

/// Messages before those that are read.
const BEFORE: usize = 5_000;

fn page(criterion: &mut Criterion) {
    for (name, in_tail) in [("store", 0), ("across", PAGE_ENTRIES / 2), ("tail", PAGE_ENTRIES)] {
        // In the build folder: a temporary folder may be memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in the build folder");
        let store = EmbeddedStore::open(dir.path(), EmbeddedConfig::default()).expect("a new store");
        let mut conversation = Conversation::with_store(store, CacheLimits::DEFAULT);
        let mut sends = Sends::default();
        let mut write = |conversation: &mut Conversation, messages: usize| {
            for _ in 0..messages {
                conversation.turn(&sends.next(1), 1);
            }
        };
        write(&mut conversation, BEFORE);
        conversation.ingest();
        write(&mut conversation, in_tail);

        let (request, from, direction, limit) = (RequestId(1), Seq::ZERO, Direction::Backwards, PAGE_ENTRIES as u64);
        let of_log = ClientFrame::FetchLog { request, from, direction, limit };
        let of_conversation =
            ClientFrame::FetchConversation { request, conversation: WRITER.into(), from, direction, limit };
        let mut group = criterion.benchmark_group(format!("page/{name}"));
        group.throughput(Throughput::Elements(PAGE_ENTRIES as u64));
        for (name, frame) in [("log", of_log), ("conversation", of_conversation)] {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            group.bench_function(name, |b| {
                b.iter(|| {
                    let sent = conversation.ask(&bytes);
                    assert!(sent > PAGE_ENTRIES * benches::TEXT.len(), "a page of {sent} bytes");
                });
            });
        }
    }
}

criterion_group!(pages, page);
criterion_main!(pages);
