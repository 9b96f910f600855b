//! The FoundationDB backend against a real cluster: that of `RINGPOST_FDB_CLUSTER_FILE`. Every store has a random prefix, which is
//! cleared in the end. Without the variable it says that nothing has run.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    env,
    path::PathBuf,
    pin::pin,
    process::Command,
    task::{Context, Waker},
    thread,
    time::Duration,
};

use foundationdb::{Database, FdbError, options::DatabaseOption};
use proto_spec::{
    Content, DeviceId, Direction, Entry, Event, GroupEntry, GroupId, MessageName, SendNumber, Seq, TimestampMs, UserId,
    limits::REACTIONS_MAX,
};
use storage::{
    Advanced, Batch, BatchId, FORMAT_VERSION, FdbConfig, FdbStore, Fence, GroupRewrite, Holder, Kind, LaneId, Member,
    MemberId, MovedLane, Network, Owner, Record, Roll, RollChange, Shown, Step, Store, StoreError, Tenure,
    contract::{self, block_on},
    fold::{Fold, Sorted},
    store::{Range, Rows},
};

macro_rules! checks {
    ($($check:ident,)*) => { [$((stringify!($check), $check)),*] };
}

/// A claim, and what checks it.
type Check = (&'static str, fn(&Cluster));

const CHECKS: &[Check] = &checks![
    foundationdb_fulfils_the_contract,
    pages_in_the_middle_of_a_large_log_are_bounded_by_bytes_and_join,
    rows_without_a_value_are_in_ranges,
    the_progress_of_every_lane_is_told,
    readers_and_the_writer_of_a_log_never_conflict,
    an_advance_in_flight_is_in_the_store_when_another_takes_over_or_never,
    an_advance_in_flight_is_in_the_store_before_the_term_that_ends_its_own_or_never,
    of_two_who_take_a_slot_one_has_it,
    two_changes_that_each_expect_what_the_other_sets_are_never_both_made,
    changes_of_different_slots_go_side_by_side,
    whatever_fills_an_advance_fits_into_a_transaction,
    who_waits_for_other_owners_is_told_long_after_a_call_would_have_been_given_up,
    a_damaged_roll_is_named,
    an_advance_that_is_dropped_is_made_whole_or_not_at_all,
    prefixes_keep_two_apart_also_if_one_begins_with_the_other,
    a_newer_format_is_refused_and_named,
    what_is_not_a_store_is_left_alone,
    a_cluster_that_does_not_answer_is_unavailable_and_named,
    a_wrong_configuration_is_refused,
    what_is_tried_again_under_faults_is_done_once_and_late_commits_change_nothing,
];

/// As the harness of `cargo test` would, but for one thing: it stops the network in the end, without which no process may exit.
fn main() {
    let Some(file) = env::var_os("RINGPOST_FDB_CLUSTER_FILE") else {
        println!("NOT RUN: {} tests of the FoundationDB backend: RINGPOST_FDB_CLUSTER_FILE is not set", CHECKS.len());
        return;
    };
    let cluster = Cluster { file: file.into(), network: Network::start().unwrap() };
    let wanted: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, check) in CHECKS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part)) {
            println!("test {name} ...");
            check(&cluster);
            println!("test {name} ... ok");
        }
    }
}

struct Cluster {
    file: PathBuf,
    network: Network,
}

/// A prefix of its own in the cluster.
struct Place {
    config: FdbConfig,
    /// To do what a store does not.
    database: Database,
    network: Network,
}

impl Place {
    fn new(cluster: &Cluster) -> Self {
        let database = Database::from_path(cluster.file.to_str().unwrap()).unwrap();
        database.set_option(DatabaseOption::TransactionTimeout(20_000)).unwrap();
        let prefix = format!("test-{:016x}", rand::random::<u64>());
        let config = FdbConfig { cluster_file: Some(cluster.file.clone()), prefix, timeout_ms: 20_000 };
        Self { config, database, network: cluster.network.clone() }
    }

    fn try_open(&self) -> Result<FdbStore, StoreError> {
        block_on(FdbStore::open(&self.network, &self.config))
    }

    fn open(&self) -> FdbStore {
        self.try_open().unwrap()
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        let transaction = self.database.create_trx().unwrap();
        transaction.set(&[self.config.prefix.as_bytes(), key].concat(), value);
        block_on(transaction.commit()).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let prefix = self.config.prefix.as_bytes();
        let clear = async || {
            let transaction = self.database.create_trx()?;
            transaction.clear_range(&[prefix, b"\0"].concat(), &[prefix, b"!"].concat());
            transaction.commit().await?;
            Ok::<_, FdbError>(())
        };
        // Also under faults.
        if !(0..20).any(|_| block_on(clear()).is_ok()) {
            eprintln!("{} is left behind", self.config.prefix);
        }
    }
}

fn step(lane: u16, after: u64, up_to: u64) -> Step {
    Step { lane: LaneId(lane), term: 0, after: BatchId(after), up_to: BatchId(up_to) }
}

fn sorted(records: impl IntoIterator<Item = Record>) -> Sorted {
    let mut batch = Batch::default();
    records.into_iter().for_each(|record| batch.push(&record));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).unwrap();
    fold.sort()
}

/// The seq is the send's number as well.
fn sent(user: u64, seq: u64, text: &str) -> Record {
    let (device, number) = (DeviceId(9), SendNumber(seq));
    let event = Event::Sent { to: UserId(1000).into(), device, number, content: Content::text(text) };
    Record::Append {
        user: UserId(user),
        entry: Entry { seq: Seq(seq), time: TimestampMs(seq), event },
        replaces: None,
        count: 0,
    }
}

fn log(first: u64, last: u64, direction: Direction) -> Range {
    let (first, last) = (contract::key(first), contract::key(last));
    Range { first, last, direction, rows_max: usize::MAX, bytes_max: usize::MAX }
}

fn seqs(rows: &Rows) -> Vec<u64> {
    rows.rows.iter().map(|(key, _)| u64::from_be_bytes(*key.last_chunk().unwrap())).collect()
}

fn foundationdb_fulfils_the_contract(cluster: &Cluster) {
    contract::check(|| {
        let place = Place::new(cluster);
        (place.open(), place)
    });
}

fn pages_in_the_middle_of_a_large_log_are_bounded_by_bytes_and_join(cluster: &Cluster) {
    const ENTRIES: u64 = 4_000;
    let place = Place::new(cluster);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    let text = vec![7; 1_000];
    let run = contract::run((1..=ENTRIES).map(|seq| (seq, Some(&text[..]))));
    block_on(store.commit(fence, &run)).unwrap();
    // From a few rows to more than one request of the client brings.
    for (bytes_max, direction) in
        [(10_000, Direction::Forwards), (300_000, Direction::Backwards), (2_500_000, Direction::Forwards)]
    {
        let (mut first, mut last) = (500, 3_500);
        let mut read = Vec::new();
        loop {
            let page = block_on(store.range(&Range { bytes_max, ..log(first, last, direction) })).unwrap();
            let bytes: usize = page.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(bytes <= bytes_max);
            assert!(
                page.complete || bytes + 2_000 > bytes_max,
                "a page of {bytes} bytes where {bytes_max} were asked for"
            );
            read.extend(seqs(&page));
            match direction {
                _ if page.complete => break,
                Direction::Forwards => first = read.last().unwrap() + 1,
                Direction::Backwards => last = read.last().unwrap() - 1,
            }
        }
        if direction == Direction::Backwards {
            read.reverse();
        }
        assert_eq!(read, (500..=3_500).collect::<Vec<_>>());
    }
}

fn rows_without_a_value_are_in_ranges(cluster: &Cluster) {
    let place = Place::new(cluster);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    let run = contract::run([(1, Some(&b""[..])), (2, Some(&b"two"[..])), (3, Some(&b""[..]))]);
    block_on(store.commit(fence, &run)).unwrap();
    let rows = block_on(store.range(&log(0, 9, Direction::Backwards))).unwrap().rows;
    assert_eq!(rows.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), [b"".as_slice(), b"two", b""]);
    let only = block_on(store.range(&log(3, 3, Direction::Forwards))).unwrap().rows;
    assert_eq!((only.len(), only[0].1.len()), (1, 0));
}

/// As many as the largest server has, under the longest prefix.
fn the_progress_of_every_lane_is_told(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    place.config.prefix = format!("{:x<32}", place.config.prefix);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    let lanes = 128 * 16;
    let steps: Vec<Step> = (0..lanes).map(|lane| step(lane, 0, u64::from(lane) + 1)).collect();
    block_on(store.advance(fence, &steps, sorted([]))).unwrap();
    let progress = block_on(store.progress()).unwrap();
    let wanted = (0..lanes).map(|lane| (LaneId(lane), BatchId(u64::from(lane) + 1)));
    assert_eq!(progress.len(), usize::from(lanes));
    assert!(progress.into_iter().eq(wanted));
}

fn readers_and_the_writer_of_a_log_never_conflict(cluster: &Cluster) {
    const BATCHES: u64 = 200;
    let place = Place::new(cluster);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for batch in 1..=BATCHES {
                // Merges the row of sends of the batch before.
                block_on(store.advance(fence, &[step(0, batch - 1, batch)], sorted([sent(1, batch, "x")]))).unwrap();
            }
        });
        let mut known = 0;
        while !writer.is_finished() {
            let rows = block_on(store.range(&log(0, u64::MAX, Direction::Forwards))).unwrap();
            let found = seqs(&rows);
            assert!(
                found.iter().copied().eq(1..=found.len() as u64) && found.len() >= known,
                "{known}, then {found:?}"
            );
            known = found.len();
        }
    });
    assert_eq!(block_on(store.range(&log(0, u64::MAX, Direction::Backwards))).unwrap().rows.len() as u64, BATCHES);
}

fn an_advance_in_flight_is_in_the_store_when_another_takes_over_or_never(cluster: &Cluster) {
    let place = Place::new(cluster);
    let (old, new) = (place.open(), place.open());
    let mut batch = 0;
    for round in 0..60 {
        let held = block_on(old.take_over()).unwrap();
        let steps = [step(0, batch, batch + 1)];
        let (advanced, later) = thread::scope(|scope| {
            let advance = scope.spawn(|| block_on(old.advance(held, &steps, sorted([sent(1, batch + 1, "x")]))));
            // The two meet at different places.
            thread::sleep(Duration::from_micros(round * 100));
            let later = block_on(new.take_over()).unwrap();
            let found = block_on(new.progress()).unwrap();
            let found = found.first().map_or(0, |(_, batch)| batch.0);
            let advanced = advance.join().unwrap();
            assert_eq!(found, batch + u64::from(advanced.is_ok()), "{advanced:?}");
            (advanced, later)
        });
        assert_eq!(later, Fence(held.0 + 1));
        match advanced {
            Ok(_) => batch += 1,
            Err(StoreError::Conflict | StoreError::Fenced { .. }) => {
                let again = block_on(old.advance(held, &steps, sorted([sent(1, batch + 1, "x")])));
                let Err(StoreError::Fenced { held: refused, current }) = again else { panic!("{again:?}") };
                assert_eq!((refused, current), (held, later));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Gives a slot to a member, in the next term.
fn takes(roll: &Roll, lane: u16, member: u16) -> RollChange {
    let lane = LaneId(lane);
    RollChange {
        expects_owners: vec![(lane, roll.owners.get(&lane).copied())],
        owners: vec![(lane, Owner { member: MemberId(member), term: roll.term(lane) + 1, is_pinned: false })],
        ..RollChange::default()
    }
}

fn an_advance_in_flight_is_in_the_store_before_the_term_that_ends_its_own_or_never(cluster: &Cluster) {
    let place = Place::new(cluster);
    let (old, new) = (&place.open(), place.open());
    block_on(old.found("test")).unwrap();
    assert!(block_on(old.change_roll(&takes(&Roll::default(), 7, 1))).unwrap());
    let mut entries = 0;
    for round in 0..60 {
        let roll = block_on(new.roll()).unwrap();
        let held = roll.term(LaneId(7));
        let steps = &[Step { term: held, ..step(7, 0, 1) }];
        let next = entries + 1;
        let text = || sorted([sent(1, next, "x")]);
        let advanced = thread::scope(|scope| {
            // The two meet at different places.
            let [first, second] = [30u64.saturating_sub(round), round.saturating_sub(30)];
            let pause = |hundreds| thread::sleep(Duration::from_micros(hundreds * 100));
            let advance = scope.spawn(move || {
                pause(first);
                block_on(old.advance(Fence(0), steps, text()))
            });
            pause(second);
            assert!(block_on(new.change_roll(&takes(&roll, 7, 2))).unwrap());
            let found = seqs(&block_on(new.range(&log(0, u64::MAX, Direction::Forwards))).unwrap());
            let advanced = advance.join().unwrap();
            assert_eq!(found.len() as u64, entries + u64::from(advanced.is_ok()), "{advanced:?}");
            advanced
        });
        assert_eq!(block_on(new.progress()).unwrap(), [], "the new term counts from one");
        match advanced {
            Ok(_) => entries = next,
            Err(StoreError::Conflict | StoreError::Moved { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        match block_on(old.advance(Fence(0), steps, text())) {
            Err(StoreError::Moved { lanes }) => {
                assert_eq!(lanes, [MovedLane { lane: LaneId(7), held, current: held + 1 }]);
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{entries} of 60 advances came first");
    assert_eq!(seqs(&block_on(new.range(&log(0, u64::MAX, Direction::Forwards))).unwrap()).len() as u64, entries);
}

fn of_two_who_take_a_slot_one_has_it(cluster: &Cluster) {
    let place = Place::new(cluster);
    let (a, b) = (place.open(), place.open());
    block_on(a.found("test")).unwrap();
    for _ in 0..40 {
        let roll = block_on(a.roll()).unwrap();
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| block_on(a.change_roll(&takes(&roll, 7, 1))).unwrap());
            let second = block_on(b.change_roll(&takes(&roll, 7, 2))).unwrap();
            (first.join().unwrap(), second)
        });
        assert!(first != second, "{first} {second}");
        let after = block_on(a.roll()).unwrap();
        assert_eq!(after.version(), roll.version() + 1);
        assert_eq!(after.owners[&LaneId(7)].member, MemberId(if first { 1 } else { 2 }));
    }
}

/// As of a node that lives after all, and whoever takes over from it.
fn two_changes_that_each_expect_what_the_other_sets_are_never_both_made(cluster: &Cluster) {
    let place = Place::new(cluster);
    let (a, b) = (place.open(), place.open());
    block_on(a.found("test")).unwrap();
    for _ in 0..40 {
        let roll = block_on(a.roll()).unwrap();
        let held = roll.members.get(&MemberId(1)).cloned();
        let take = RollChange { expects_members: vec![(MemberId(1), held)], ..takes(&roll, 7, 2) };
        let beat = RollChange { owners: vec![], members: vec![(MemberId(1), member(roll.version()))], ..take.clone() };
        let (lives, is_taken) = thread::scope(|scope| {
            let lives = scope.spawn(|| block_on(a.change_roll(&beat)).unwrap());
            let is_taken = block_on(b.change_roll(&take)).unwrap();
            (lives.join().unwrap(), is_taken)
        });
        assert!(lives != is_taken, "{lives} {is_taken}");
        // The next two differ from what is there.
        assert!(block_on(a.change_roll(&takes(&block_on(a.roll()).unwrap(), 9, 1))).unwrap());
    }
}

fn member(beat: u64) -> Member {
    Member {
        name: "one".to_owned(),
        holder: Holder(1),
        beat,
        mesh: String::new(),
        clients: None,
        clients_tls: None,
        weight: 1,
        is_leaving: false,
        lease_ms: 3_000,
    }
}

/// Though both ring the bell.
fn changes_of_different_slots_go_side_by_side(cluster: &Cluster) {
    let place = Place::new(cluster);
    let (a, b) = (place.open(), place.open());
    block_on(a.found("test")).unwrap();
    for round in 0..20 {
        let roll = block_on(a.roll()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| assert!(block_on(a.change_roll(&takes(&roll, 7, 1))).unwrap()));
            assert!(block_on(b.change_roll(&takes(&roll, 8, 1))).unwrap());
        });
        assert_eq!(block_on(a.roll()).unwrap().version(), (round + 1) * 2);
    }
}

/// Under the longest prefix: records that leave the most rows for what they weigh, as many as an advance has room for.
fn whatever_fills_an_advance_fits_into_a_transaction(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    place.config.prefix = format!("{:x<32}", place.config.prefix);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    let cursor = |at: u64| Record::Cursor { user: UserId(at), device: DeviceId(1), seq: Seq(0) };
    // Of a young group each: their numbers take the fewest bytes, and their keys as many as any.
    let unsend = |at: u64| {
        let (seq, time, from) = (Seq(67), TimestampMs(1), UserId(1));
        let content = Content::unsend(MessageName { author: from, seq: Seq(2) }, None);
        let entry = GroupEntry { seq, time, from, origin: Seq(3), messages: 1, content };
        let replaces = (2..=2 + REACTIONS_MAX as u64).map(Seq).collect();
        let of = GroupRewrite { place: Seq(2), now: Shown { says: seq, reactions: Vec::new() }, replaces };
        Record::GroupAppend { group: GroupId(at), entry, of: Some(of) }
    };
    let fillings: [(&str, &dyn Fn(u64) -> Record); 2] =
        [("first acknowledgements", &cursor), ("messages taken back", &unsend)];
    for (batch_id, (what, record)) in fillings.into_iter().enumerate() {
        let mut batch = Batch::default();
        let room = Kind::Database.run_bytes_max() as usize;
        for at in 1.. {
            batch.push(&record(at));
            if batch.weight() >= room {
                break;
            }
        }
        let (after, records) = (batch_id as u64, batch.len());
        let mut fold = Fold::default();
        fold.add(batch.bytes()).unwrap();
        let advanced = block_on(store.advance(fence, &[step(0, after, after + 1)], fold.sort())).unwrap();
        println!("{records} {what}, {} bytes: {} rows", batch.bytes().len(), advanced.rows);
    }
}

fn who_waits_for_other_owners_is_told_long_after_a_call_would_have_been_given_up(cluster: &Cluster) {
    let mut place = Place::new(cluster);
    block_on(place.open().found("test")).unwrap();
    place.config.timeout_ms = 1_000;
    let (waiting, taking) = (place.open(), place.open());
    thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(waiting.roll_changed(0)));
        thread::sleep(Duration::from_millis(3_000));
        assert!(!waits.is_finished(), "{:?}", waits.join().unwrap());
        assert!(block_on(taking.change_roll(&takes(&Roll::default(), 7, 1))).unwrap());
        waits.join().unwrap().unwrap();
    });
}

fn a_damaged_roll_is_named(cluster: &Cluster) {
    let rows: [(&[u8], &[u8], &str); 4] = [
        (b"\0\x06\0\x01", b"\x01noise", "the row of a member"),
        (b"\0\x07\0\x01", b"\x02", "the row of an owner"),
        (b"\0\x06\0", b"", "the key of a row of the roll"),
        (b"\0\x05", b"", "the name of the store's cluster"),
    ];
    for (key, value, what) in rows {
        let place = Place::new(cluster);
        let store = place.open();
        place.set(key, value);
        let (roll, found) = (block_on(store.roll()), block_on(store.found("test")));
        match roll.map(drop).and(found) {
            Err(StoreError::Damaged { what: told }) => assert!(told.contains(what), "{told}"),
            other => panic!("{other:?}"),
        }
    }
}

fn an_advance_that_is_dropped_is_made_whole_or_not_at_all(cluster: &Cluster) {
    let place = Place::new(cluster);
    let store = place.open();
    let fence = block_on(store.take_over()).unwrap();
    for batch in 0..50 {
        let steps = [step(0, batch, batch + 1)];
        let advance = || store.advance(fence, &steps, sorted([sent(1, batch + 1, "x")]));
        {
            let mut dropped = pin!(advance());
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..batch {
                if dropped.as_mut().poll(&mut context).is_ready() {
                    // A fast database: then it is whole.
                    break;
                }
                thread::yield_now();
            }
        }
        retried(|| block_on(advance()));
    }
    assert_eq!(seqs(&block_on(store.range(&log(0, u64::MAX, Direction::Forwards))).unwrap()).len(), 50);
    assert_eq!(block_on(store.progress()).unwrap(), [(LaneId(0), BatchId(50))]);
}

fn prefixes_keep_two_apart_also_if_one_begins_with_the_other(cluster: &Cluster) {
    let place = Place::new(cluster);
    let mut longer = Place::new(cluster);
    longer.config.prefix = format!("{}!", place.config.prefix);
    let (a, b) = (place.open(), longer.open());
    let fence = block_on(a.take_over()).unwrap();
    block_on(a.begin(fence, Holder(1))).unwrap();
    block_on(a.advance(fence, &[step(0, 0, 1)], sorted([sent(1, 1, "x")]))).unwrap();
    assert_eq!(block_on(b.take_over()).unwrap(), fence, "both count from one");
    assert_eq!((block_on(b.tenure()).unwrap(), block_on(b.progress()).unwrap()), (None, vec![]));
    assert_eq!(
        block_on(b.range(&log(0, u64::MAX, Direction::Forwards))).unwrap(),
        Rows { rows: vec![], complete: true }
    );
    drop((b, longer));
    // What was cleared were the rows of the other.
    assert_eq!(block_on(a.tenure()).unwrap(), Some(Tenure { holder: Holder(1), fence }));
    assert_eq!(seqs(&block_on(a.range(&log(0, u64::MAX, Direction::Forwards))).unwrap()), [1]);
}

fn a_newer_format_is_refused_and_named(cluster: &Cluster) {
    let place = Place::new(cluster);
    drop(place.open());
    drop(place.open());
    // A cluster's is the next one: programs that know of no clusters leave it alone.
    place.set(b"\0\x01", &(FORMAT_VERSION + 1).to_be_bytes());
    drop(place.open());
    place.set(b"\0\x01", &(FORMAT_VERSION + 2).to_be_bytes());
    match place.try_open() {
        Err(StoreError::Newer { path, found, known }) => {
            assert_eq!(path, PathBuf::from(format!("foundationdb:{}", place.config.prefix)));
            assert_eq!((found, known), (FORMAT_VERSION + 2, FORMAT_VERSION + 1));
        }
        other => panic!("{other:?}"),
    }
}

fn what_is_not_a_store_is_left_alone(cluster: &Cluster) {
    let place = Place::new(cluster);
    place.set(b"\x01somebody", b"else");
    assert!(matches!(place.try_open(), Err(StoreError::Damaged { .. })));
    assert!(matches!(place.try_open(), Err(StoreError::Damaged { .. })), "it was made a store");
}

fn a_cluster_that_does_not_answer_is_unavailable_and_named(cluster: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nobody.cluster");
    // Nobody listens on this port.
    std::fs::write(&file, "nobody:nobody@127.0.0.1:1").unwrap();
    let config = FdbConfig { cluster_file: Some(file), timeout_ms: 300, ..FdbConfig::default() };
    match block_on(FdbStore::open(&cluster.network, &config)) {
        Err(StoreError::Unavailable { reason }) => assert!(reason.contains("nobody.cluster"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

fn a_wrong_configuration_is_refused(cluster: &Cluster) {
    let right = Place::new(cluster).config.clone();
    let folder = tempfile::tempdir().unwrap();
    let (missing, noise) = (folder.path().join("missing"), folder.path().join("noise"));
    std::fs::write(&noise, "what is this").unwrap();
    for wrong in [
        FdbConfig { prefix: String::new(), ..right.clone() },
        FdbConfig { timeout_ms: 0, ..right.clone() },
        FdbConfig { timeout_ms: 3_600_000, ..right.clone() },
        FdbConfig { cluster_file: Some(missing), ..right.clone() },
        FdbConfig { cluster_file: Some(noise), ..right.clone() },
        FdbConfig { cluster_file: Some("a\0b".into()), ..right },
    ] {
        match block_on(FdbStore::open(&cluster.network, &wrong)) {
            Err(StoreError::Refused { reason }) => println!("{reason}"),
            other => panic!("{wrong:?} gave {other:?}"),
        }
    }
    assert!(matches!(Network::start(), Err(StoreError::Refused { .. })), "the network was started twice");
}

/// The client of FoundationDB itself makes calls fail: commits that happen, do not happen, or happen seconds after they have timed
/// out; reads that are too old. Its faults are chosen for a process, so this test runs itself again in others.
fn what_is_tried_again_under_faults_is_done_once_and_late_commits_change_nothing(cluster: &Cluster) {
    const FAULTS: &str = "FDB_NETWORK_OPTION_CLIENT_BUGGIFY_ENABLE";
    if env::var_os(FAULTS).is_some() {
        under_faults(&Place::new(cluster));
        return a_cluster_under_faults(&Place::new(cluster));
    }
    let processes: Vec<_> = (0..4)
        .map(|_| {
            let mut again = Command::new(env::current_exe().unwrap());
            again.arg("what_is_tried_again_under_faults");
            // Of the places where the client can fail, all do.
            again.env(FAULTS, "").env("FDB_NETWORK_OPTION_CLIENT_BUGGIFY_SECTION_ACTIVATED_PROBABILITY", "100");
            again.spawn().unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
}

fn under_faults(place: &Place) {
    const ROUNDS: u64 = 40;
    let store = retried(|| place.try_open());
    let mut fence = retried(|| block_on(store.take_over()));
    for round in 1..=ROUNDS {
        // Seldom: nothing is late under an older fence.
        if round % 15 == 0 {
            let later = retried(|| block_on(store.take_over()));
            assert!(later > fence);
            fence = later;
        }
        // A late commit of an earlier round would bring its values back.
        let value = round.to_be_bytes();
        let run = contract::run((500..510).map(|key| (key, (key % 2 == round % 2).then_some(&value[..]))));
        retried(|| block_on(store.commit(fence, &run)));
        // A late beginning would clear the progress that is made after it.
        retried(|| block_on(store.begin(fence, Holder(u128::from(round)))));
        for batch in 1..=3 {
            let seq = (round - 1) * 3 + batch;
            retried(|| block_on(store.advance(fence, &[step(0, batch - 1, batch)], sorted([sent(1, seq, "x")]))));
        }
        check_round(&store, fence, round);
    }
    // Nothing is later than this: FoundationDB refuses what is five seconds old.
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(500));
        check_round(&store, fence, ROUNDS);
    }
}

/// The slot moves in each round, and is filled in its new term.
fn a_cluster_under_faults(place: &Place) {
    const ROUNDS: u64 = 40;
    let store = retried(|| place.try_open());
    retried(|| block_on(store.found("test")));
    for round in 1..=ROUNDS {
        let mut is_unknown = false;
        let (held, roll) = loop {
            let roll = retried(|| block_on(store.roll()));
            let held = roll.term(LaneId(7));
            match block_on(store.change_roll(&takes(&roll, 7, 1))) {
                Ok(true) => break (held, retried(|| block_on(store.roll()))),
                Ok(false) => assert!(is_unknown, "who changes the roll alone finds what it expects"),
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    is_unknown |= matches!(error, StoreError::Unknown { .. });
                }
            }
        };
        assert_eq!(roll.term(LaneId(7)), held + 1);
        for batch in 1..=3 {
            let seq = (round - 1) * 3 + batch;
            let in_term = |term| [Step { term, ..step(7, batch - 1, batch) }];
            retried(|| block_on(store.advance(Fence(0), &in_term(held + 1), sorted([sent(1, seq, "x")]))));
            // The first owner follows nobody.
            if held == 0 {
                continue;
            }
            let older =
                retried(|| match block_on(store.advance(Fence(0), &in_term(held), sorted([sent(1, 999, "x")]))) {
                    Err(error) if error.is_retryable() => Err(error),
                    other => Ok(other),
                });
            assert!(matches!(older, Err(StoreError::Moved { .. })), "{older:?}");
        }
        // A late change of the roll would clear the progress.
        assert_eq!(retried(|| block_on(store.progress())), [(LaneId(7), BatchId(3))]);
        assert_eq!(retried(|| block_on(store.roll())), roll);
        let found = retried(|| block_on(store.range(&log(0, u64::MAX, Direction::Forwards))));
        assert_eq!(found.rows.len() as u64, round * 3);
    }
}

/// The store has what the rounds have left behind, and nothing that came late.
fn check_round(store: &FdbStore, fence: Fence, round: u64) {
    let found = retried(|| block_on(store.range(&log(0, u64::MAX, Direction::Forwards))));
    let (entries, values): (Vec<_>, Vec<_>) = found.rows.iter().partition(|(key, _)| **key < *contract::key(500));
    assert_eq!(entries.len() as u64, round * 3);
    assert_eq!(values.len(), 5);
    assert!(values.iter().all(|(_, value)| **value == round.to_be_bytes()), "round {round}: {values:?}");
    assert_eq!(retried(|| block_on(store.progress())), [(LaneId(0), BatchId(3))]);
    assert_eq!(retried(|| block_on(store.tenure())), Some(Tenure { holder: Holder(u128::from(round)), fence }));
    let again = retried(|| block_on(store.advance(fence, &[step(0, 2, 3)], sorted([sent(1, round * 3, "x")]))));
    assert_eq!(again, Advanced::default());
}

/// Tries again for as long as that may succeed.
fn retried<T>(call: impl Fn() -> Result<T, StoreError>) -> T {
    loop {
        match call() {
            Ok(done) => return done,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}
