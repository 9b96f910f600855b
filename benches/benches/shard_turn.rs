//! Shard turn: the bytes of 1, 16 or 256 sends arrive at their writer's home, which is also the reader's. Measured
//! until the writer has the acceptances and the reader the messages in their outboxes: framing, numbering, both logs,
//! the batch, its commit (fed back at once), and the forgetting of the tail every few thousand messages.
//!
//! Nearly everything is in the processor's cache: two users, one conversation, a short tail. A server with many users
//! pays cache misses on top. What stands in for the rim only counts bytes. Not measured: sockets, rings, mailboxes and
//! the journal; acknowledgements and the receipts that follow.

use benches::{
    SIZES,
    conversation::{Conversation, Sends},
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Turns whose bytes are made beforehand, outside of the measurement: a few megabytes of the largest.
const TURNS_PREPARED: u64 = 64;

fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_turn");
    for messages in SIZES {
        let mut conversation = Conversation::new();
        let mut sends = Sends::default();
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(BenchmarkId::from_parameter(messages), |b| {
            b.iter_batched_ref(
                || sends.next(messages),
                |received| conversation.turn(received, messages),
                BatchSize::NumIterations(TURNS_PREPARED),
            );
        });
        let counters = conversation.counters();
        assert_eq!((counters.accepted, counters.delivered), (sends.count(), sends.count()), "{counters:?}");
        assert_eq!(counters.unreleased_bytes, 0);
    }
}

criterion_group!(shard_turn, turn);
criterion_main!(shard_turn);
