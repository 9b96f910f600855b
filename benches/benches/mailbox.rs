//! Mailbox: how envelopes go from core to core. `hand_off`: 1, 16 or 256 of them are sent, flushed and taken by one
//! thread, so this is the cost of the queue when nobody sleeps. `round_trip`: one goes to another thread and comes
//! back, and both sleep in between: two wake-ups through the doorbell.
//!
//! Not measured: two busy cores that share the queue's cache lines, and what the shards do with an envelope.

use std::{
    hint::black_box,
    os::fd::OwnedFd,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use benches::SIZES;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use proto_spec::{Seq, UserId};
use server::shard::topology::CoreId;
use server::{
    core::{Backlog, CoreMessage},
    io::mailbox::{Mailbox, Post},
    shard::{Envelope, EnvelopeBody},
};
use tokio::io::unix::AsyncFd;

/// Without a text: copying one is the codec's cost.
const ENVELOPE: Envelope =
    Envelope { to: UserId(1), from: UserId(2), body: EnvelopeBody::Forwarded { origin: Seq(3), is_unwanted: false } };

/// A core's mail on its way out.
struct Outgoing {
    post: Post<CoreMessage>,
    backlog: Backlog<(CoreId, CoreMessage)>,
}

impl Outgoing {
    fn new(mailboxes: Arc<[Mailbox<CoreMessage>]>) -> Self {
        Self { post: Post::new(mailboxes), backlog: Backlog::default() }
    }

    fn send(&mut self, to: CoreId, message: CoreMessage) {
        self.backlog.push((to, message));
    }

    fn flush(&mut self) {
        let post = &mut self.post;
        self.backlog.flush(|(to, message)| post.put(to, message).map_err(|message| (to, message)));
        post.wake();
    }
}

fn hand_off(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox/hand_off");
    for messages in SIZES {
        let mailboxes = mailboxes(1);
        let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(BenchmarkId::from_parameter(messages), |b| {
            b.iter(|| {
                for _ in 0..messages {
                    outgoing.send(CoreId(0), CoreMessage::Envelope(black_box(ENVELOPE)));
                }
                outgoing.flush();
                while let Some(message) = mailboxes[0].take() {
                    black_box(message);
                }
            });
        });
        assert_eq!(outgoing.backlog.kept(), 0, "the mailbox has room for {messages}");
    }
}

fn round_trip(criterion: &mut Criterion) {
    criterion.bench_function("mailbox/round_trip", |b| b.iter_custom(time_round_trips));
}

fn time_round_trips(rounds: u64) -> Duration {
    let mailboxes = mailboxes(2);
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            run_core(&mailboxes[1], &ready, async |core| {
                let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
                for _ in 0..rounds {
                    outgoing.send(CoreId(0), core.next().await);
                    outgoing.flush();
                }
            });
        });
        run_core(&mailboxes[0], &ready, async |core| {
            let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
            let begun = Instant::now();
            for _ in 0..rounds {
                outgoing.send(CoreId(1), CoreMessage::Envelope(ENVELOPE));
                outgoing.flush();
                black_box(core.next().await);
            }
            begun.elapsed()
        })
    })
}

/// The receiving half of a core: its mailbox and what wakes it.
struct Receiver<'a> {
    mailbox: &'a Mailbox<CoreMessage>,
    doorbell: AsyncFd<OwnedFd>,
}

impl Receiver<'_> {
    /// Sleeps, by the mailbox's protocol, until there is a message.
    async fn next(&self) -> CoreMessage {
        loop {
            if let Some(message) = self.mailbox.take() {
                return message;
            }
            if self.mailbox.fall_asleep() {
                self.doorbell.readable().await.expect("the doorbell is open").clear_ready();
                self.mailbox.awake();
            }
        }
    }
}

/// Runs `work` on this thread as a core does, once the other one is ready too.
fn run_core<T>(mailbox: &Mailbox<CoreMessage>, ready: &Barrier, work: impl AsyncFnOnce(Receiver<'_>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let doorbell = mailbox.doorbell().listen().expect("a doorbell can be listened to");
        ready.wait();
        work(Receiver { mailbox, doorbell }).await
    })
}

fn mailboxes(count: usize) -> Arc<[Mailbox<CoreMessage>]> {
    (0..count).map(|_| Mailbox::new().expect("there are descriptors for doorbells")).collect()
}

criterion_group!(mailbox, hand_off, round_trip);
criterion_main!(mailbox);
