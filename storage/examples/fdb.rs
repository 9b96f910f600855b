//! Measures advances and pages of the FoundationDB backend on the cluster of a file:
//! `cargo run --release -p storage --features foundationdb --example fdb -- CLUSTER_FILE [lanes] [messages a batch] [seconds]`.
//!
//! Each lane has one advance in flight and 100 users, in pairs who send each other texts of 100 bytes. Uses a random prefix and leaves its
//! rows there: for a cluster that is there for trying.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use proto_spec::{Content, DeviceId, Direction, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use storage::{
    Batch, BatchId, FdbConfig, FdbStore, Kind, LaneId, Network, Query, Record, Span, Step, Store, answer,
    contract::block_on,
    fold::{Fold, Sorted},
};

/// Of one lane; even, since they are in pairs.
const USERS: u64 = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse::<u64>().expect("a number"));
    let cluster_file = PathBuf::from(arguments.first().expect("the cluster's file"));
    let (lanes, messages, seconds) = (number(1, 4), number(2, 64), number(3, 5));
    let network = Network::start().expect("the network");
    let prefix = format!("measure-{:016x}", rand::random::<u64>());
    let config = FdbConfig { cluster_file: Some(cluster_file), prefix, ..FdbConfig::default() };
    let store = block_on(FdbStore::open(&network, &config)).expect("a store");
    let fence = block_on(store.take_over()).expect("the fence");

    let mut writers: Vec<_> = (0..lanes)
        .map(|lane| Lane { lane: lane as u16, batch: 0, heads: [0; USERS as usize], sends: [0; USERS as usize] })
        .collect();
    let (cpu, begun) = (process_cpu_ns(), Instant::now());
    let end = begun + Duration::from_secs(seconds);
    let done = each(&mut writers, |lane| {
        let mut took = Vec::new();
        while Instant::now() < end {
            let (step, sorted) = lane.next(|written| written.messages < messages);
            let begun = Instant::now();
            block_on(store.advance(fence, &[step], sorted)).expect("an advance");
            took.push(begun.elapsed());
        }
        took
    });
    let (cpu, wall) = (process_cpu_ns() - cpu, begun.elapsed());
    let (advances, all) = (done.len() as f64, done.len() as f64 * messages as f64);
    println!(
        "{lanes} lanes, {messages} messages a batch: {:.0} advances a second, {:.0} messages a second, {:.1} us of the client's CPU a message",
        advances / wall.as_secs_f64(),
        all / wall.as_secs_f64(),
        cpu as f64 / all / 1e3,
    );
    print_times("an advance", done);

    for readers in [1, lanes.max(2)] {
        let mut readers: Vec<_> = (0..readers).collect();
        let (cpu, begun) = (process_cpu_ns(), Instant::now());
        let done = each(&mut readers, |reader| {
            let page = |at: u64| {
                let span = Span {
                    first: Seq(1),
                    last: Seq(u64::MAX),
                    direction: Direction::Backwards,
                    entries_max: 50,
                    bytes_max: 65_000,
                };
                let query = Query::Log { user: UserId((*reader * 7 + at) % (lanes * USERS) + 1), span };
                let begun = Instant::now();
                block_on(answer(&store, &query)).expect("a page");
                begun.elapsed()
            };
            (0..1_000).map(page).collect()
        });
        let (cpu, wall) = (process_cpu_ns() - cpu, begun.elapsed());
        println!(
            "{} readers: {:.0} pages a second, {:.1} us of the client's CPU a page",
            readers.len(),
            done.len() as f64 / wall.as_secs_f64(),
            cpu as f64 / done.len() as f64 / 1e3,
        );
        print_times("the last 50 of a log", done);
    }

    let mut took = Vec::new();
    for _ in 0..20 {
        let (step, sorted) = writers[0].next(|written| written.bytes < Kind::Database.run_bytes_max() as usize);
        let begun = Instant::now();
        let advanced = block_on(store.advance(fence, &[step], sorted)).expect("an advance");
        took.push(begun.elapsed());
        if took.len() == 1 {
            println!("a full advance: {advanced:?}");
        }
    }
    print_times("a full advance", took);
}

/// What each of them gives, each on its own thread.
fn each<T: Send>(all: &mut [T], work: impl Fn(&mut T) -> Vec<Duration> + Sync) -> Vec<Duration> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = all.iter_mut().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    })
}

fn print_times(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!("{name}: p50 {:.2?}, p99 {:.2?}, longest {:.2?}", at(0.5), at(0.99), at(1.0));
}

struct Lane {
    lane: u16,
    batch: u64,
    heads: [u64; USERS as usize],
    sends: [u64; USERS as usize],
}

struct Written {
    messages: u64,
    bytes: usize,
}

impl Lane {
    fn next(&mut self, goes_on: impl Fn(Written) -> bool) -> (Step, Sorted) {
        let mut batch = Batch::default();
        let mut messages = 0;
        while goes_on(Written { messages, bytes: batch.bytes().len() }) {
            let from = (self.batch + messages) % USERS;
            self.message(&mut batch, from, from ^ 1);
            messages += 1;
        }
        let mut fold = Fold::default();
        fold.add(batch.bytes()).expect("a batch");
        let (after, up_to) = (BatchId(self.batch), BatchId(self.batch + 1));
        self.batch += 1;
        (Step { lane: LaneId(self.lane), term: 0, after, up_to }, fold.sort())
    }

    fn message(&mut self, batch: &mut Batch, from: u64, to: u64) {
        let content = Content::text(&"x".repeat(100));
        let user = |at| UserId(u64::from(self.lane) * USERS + at + 1);
        let (from_user, to_user) = (user(from), user(to));
        let mut append = |at: u64, user, event| {
            self.heads[at as usize] += 1;
            let seq = Seq(self.heads[at as usize]);
            batch.push(&Record::Append {
                user,
                entry: Entry { seq, time: TimestampMs(seq.0), event },
                replaces: None,
                count: 0,
            });
            seq
        };
        self.sends[from as usize] += 1;
        let (device, number) = (DeviceId(1), SendNumber(self.sends[from as usize]));
        let origin =
            append(from, from_user, Event::Sent { to: to_user.into(), device, number, content: content.clone() });
        append(to, to_user, Event::Received { from: from_user, origin, content });
    }
}

/// User and system time of the whole process, also of threads that have ended, in its unit of 10 ms.
fn process_cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc");
    let (_, numbers) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks = |at| numbers.split(' ').nth(at).and_then(|ticks| ticks.parse::<u64>().ok()).expect("ticks");
    (ticks(11) + ticks(12)) * 10_000_000
}
