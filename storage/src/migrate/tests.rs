use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{collection::vec, option, prelude::*, sample};

use super::*;
use proto_spec::{GroupId, UserId};

use crate::{
    contract::block_on,
    embedded::{EmbeddedConfig, EmbeddedStore},
    fold::{Fold, Sorted},
    memory::{CommitFault, MemoryStore},
    record::{Batch, BatchId, LaneId, Record},
    store::{Advanced, Holder, Step, Tenure},
    testing::history,
};

const OURS: HistoryId = HistoryId(7);

/// A few rows: every table is cut.
const RUN_BYTES: usize = 64;

fn run_of(records: &[Record]) -> Run {
    let mut batch = Batch::default();
    records.iter().for_each(|record| batch.push(record));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).unwrap();
    let sorted = fold.sort();
    let none = sorted.needed().iter().map(|_| None).collect();
    sorted.finish(none)
}

fn fill<S: Store>(store: S, records: &[Record]) -> S {
    let fence = block_on(store.take_over()).unwrap();
    block_on(store.commit(fence, &run_of(records))).unwrap();
    store
}

fn put(key: Key, value: &[u8]) -> Run {
    let mut run = RunBuilder::default();
    run.put(key, |out| out.extend_from_slice(value));
    run.finish()
}

fn delete(key: Key) -> Run {
    let mut run = RunBuilder::default();
    run.delete(key);
    run.finish()
}

/// Three users, and the groups beside them, who have rows in every table.
fn three_users() -> Vec<Record> {
    use proto_spec::{Act, Content, DeviceId, Entry, Event, GroupEntry, SendNumber, Seq, TimestampMs};
    let mut records = Vec::new();
    for user in [1, 2, 3] {
        let (peer, device) = (UserId(user % 3 + 1), DeviceId(9));
        let content = Content::text("hello");
        let events = [
            Event::Sent { to: peer.into(), device, number: SendNumber(1), content: content.clone() },
            Event::Received { from: peer, origin: Seq(1), content },
            Event::Delivered { peer, up_to: Seq(1) },
        ];
        for (event, seq) in events.into_iter().zip(1..) {
            let entry = Entry { seq: Seq(seq), time: TimestampMs(seq), event };
            records.push(Record::Append { user: UserId(user), entry, replaces: None, count: 0 });
        }
        records.push(Record::Marks { user: UserId(user), marks: crate::Marks::default(), idle: false });
        records.push(Record::Cursor { user: UserId(user), device, seq: Seq(3) });
        records.push(Record::Devices { user: UserId(user), notes: crate::DeviceNotes::default() });
        records.push(Record::Removed { user: UserId(user), device: DeviceId(8) });
        let (group, from, content) = (GroupId(user), UserId(user), Content::act(&Act::Add { user: peer }));
        let (seq, time, origin) = (Seq(1), TimestampMs(1), Seq(3));
        let entry = GroupEntry { seq, time, from, origin, messages: 0, content };
        records.push(Record::GroupAppend { group, entry, of: None });
        records.push(Record::GroupState { group, state: crate::GroupState::default() });
    }
    records
}

fn begin<'a, S: Store, D: Store>(source: &'a S, destination: &'a D) -> Result<Migration<'a, S, D>, MigrateError> {
    let fence = block_on(source.take_over()).unwrap();
    let mut migration = block_on(Migration::begin(source, fence, destination, OURS))?;
    migration.run_bytes = RUN_BYTES;
    Ok(migration)
}

/// To the end, every step again as long as it may succeed then.
fn finish<S: Store, D: Store>(migration: &mut Migration<'_, S, D>) -> Result<Totals, MigrateError> {
    loop {
        match block_on(migration.step()) {
            Ok(Progress::Done(totals)) => return Ok(totals),
            Err(error) if !error.is_retryable() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

fn migrate<S: Store, D: Store>(source: &S, destination: &D) -> Totals {
    finish(&mut begin(source, destination).unwrap()).unwrap()
}

/// Up to and including the last run.
fn copy<S: Store, D: Store>(migration: &mut Migration<'_, S, D>) {
    while matches!(migration.stage, Stage::Copying(_)) {
        block_on(migration.step()).unwrap();
    }
}

fn both_kinds() -> [MemoryStore; 2] {
    [MemoryStore::default(), MemoryStore::database()]
}

fn any_fault() -> impl Strategy<Value = CommitFault> {
    sample::select(vec![
        CommitFault::Unavailable,
        CommitFault::UnknownApplied,
        CommitFault::UnknownLost,
        CommitFault::UnknownHalf,
        CommitFault::Conflict,
        CommitFault::Full,
    ])
}

/// What happens to an attempt: before it begins, or after so many steps; and how many more it takes.
#[derive(Clone, Debug)]
struct Trouble {
    steps_before: Option<usize>,
    faults: Vec<CommitFault>,
    reads: [usize; 2],
    steps_after: usize,
}

fn any_trouble() -> impl Strategy<Value = Trouble> {
    let faults = vec(any_fault(), 0..3);
    (option::of(0..4usize), faults, [0..3usize, 0..3usize], 0..4usize)
        .prop_map(|(steps_before, faults, reads, steps_after)| Trouble { steps_before, faults, reads, steps_after })
}

/// Whether it came to the end.
fn attempt(source: &MemoryStore, destination: &MemoryStore, trouble: &Trouble) -> Result<bool, TestCaseError> {
    let strike = || {
        trouble.faults.iter().for_each(|fault| destination.fail_next_commit(*fault));
        source.fail_next_reads(trouble.reads[0]);
        destination.fail_next_reads(trouble.reads[1]);
    };
    if trouble.steps_before.is_none() {
        strike();
    }
    let mut migration = match begin(source, destination) {
        Ok(migration) => migration,
        // The last commit of an earlier attempt, of which it did not hear: that one was done.
        Err(MigrateError::Occupied { .. }) if destination.rows() == source.rows() => return Ok(true),
        Err(error) => {
            prop_assert!(error.is_retryable(), "{}", error);
            return Ok(false);
        }
    };
    for step in 0..trouble.steps_before.unwrap_or(0) + trouble.steps_after {
        if trouble.steps_before == Some(step) {
            strike();
        }
        match block_on(migration.step()) {
            Ok(Progress::Done(_)) => return Ok(true),
            Ok(_) => {}
            Err(error) => prop_assert!(error.is_retryable(), "{}", error),
        }
    }
    Ok(false)
}

proptest! {
    #[test]
    fn the_destination_has_the_rows_of_the_source(records in history(300), run_bytes in 1..2000usize) {
        let source = fill(MemoryStore::default(), &records);
        for destination in both_kinds() {
            let mut migration = begin(&source, &destination).unwrap();
            migration.run_bytes = run_bytes;
            let totals = finish(&mut migration).unwrap();
            prop_assert_eq!(destination.rows(), source.rows());
            prop_assert_eq!(totals.sum.rows, source.rows().len() as u64);
            prop_assert_eq!(totals.sum.rows, migration.copied.rows);
            prop_assert_eq!(totals.sum.bytes, migration.copied.bytes);
            prop_assert_eq!(block_on(migration.step()).unwrap(), Progress::Done(totals));
            prop_assert_eq!(block_on(compare(&source, &destination)).unwrap(), totals);
        }
    }

    #[test]
    fn whatever_fails_and_whenever_somebody_stops_it_is_done_in_the_end(
        records in history(200),
        troubles in vec(any_trouble(), 0..12),
    ) {
        let source = fill(MemoryStore::database(), &records);
        for destination in both_kinds() {
            for trouble in &troubles {
                let done = attempt(&source, &destination, trouble)?;
                destination.forget_faults();
                [&source, &destination].into_iter().for_each(|store| store.fail_next_reads(0));
                if done {
                    break;
                }
            }
            // Whatever was copied so far, nobody takes it for a history.
            let copied = destination.rows().len();
            let is_open = block_on(is_unfinished(&destination)).unwrap();
            prop_assert!(copied == 0 || copied == source.rows().len() || is_open);
            if copied == 0 || is_open {
                migrate(&source, &destination);
            }
            prop_assert_eq!(destination.rows(), source.rows());
        }
    }

    #[test]
    fn what_the_source_has_lost_and_got_in_between_is_so_in_the_destination(
        before in history(150), after in history(150), steps in 0..30usize,
    ) {
        for destination in both_kinds() {
            let source = fill(MemoryStore::default(), &before);
            let mut migration = begin(&source, &destination).unwrap();
            for _ in 0..steps.min(before.len()) {
                if matches!(migration.stage, Stage::Copying(_)) {
                    block_on(migration.step()).unwrap();
                }
            }
            let mut run = RunBuilder::default();
            source.rows().iter().step_by(2).for_each(|(key, _)| run.delete(*key));
            let fence = block_on(source.take_over()).unwrap();
            block_on(source.commit(fence, &run.finish())).unwrap();
            let source = fill(source, &after);
            migrate(&source, &destination);
            prop_assert_eq!(destination.rows(), source.rows());
        }
    }

    #[test]
    fn a_checksum_tells_what_a_user_has(records in history(60), at in any::<sample::Index>(), bit in 0..8u8) {
        let source = fill(MemoryStore::default(), &records);
        let rows = source.rows();
        prop_assume!(!rows.is_empty());
        let (key, value) = &rows[at.index(rows.len())];
        prop_assume!(!value.is_empty());
        let mut value = value.to_vec();
        let place = at.index(value.len());
        value[place] ^= 1 << bit;
        let destination = MemoryStore::default();
        let mut migration = begin(&source, &destination).unwrap();
        copy(&mut migration);
        block_on(destination.commit(migration.fence, &put(*key, &value))).unwrap();
        let named = named(&finish(&mut migration).unwrap_err());
        prop_assert_eq!(named, vec![owner_of(RowKey::decode(key).unwrap()).unwrap()]);
    }

    #[test]
    fn no_key_lies_between_one_and_the_next(a in vec(any::<u8>(), 0..28), b in vec(any::<u8>(), 0..28)) {
        let (a, b) = (Key::from_bytes(&a).unwrap(), Key::from_bytes(&b).unwrap());
        match a.successor() {
            Some(next) => prop_assert!(a < next && (b <= a || b >= next)),
            None => prop_assert_eq!(a, last_key()),
        }
    }

    #[test]
    fn a_marker_parses_back(of in any::<u128>(), fence in any::<u64>(), key in vec(any::<u8>(), 0..28)) {
        let up_to = Some(key).filter(|key| !key.is_empty()).map(|key| Key::from_bytes(&key).unwrap());
        let marker = Marker { of: HistoryId(of), source_fence: Fence(fence), up_to };
        let mut bytes = Vec::new();
        marker.put(&mut bytes);
        prop_assert_eq!(Marker::parse(&bytes), Some(marker));
        for cut in 0..25 {
            prop_assert_eq!(Marker::parse(&bytes[..cut]), None);
        }
    }
}

fn named(error: &MigrateError) -> Vec<RowOwner> {
    match error {
        MigrateError::Different(differences) => differences.named.iter().map(|named| named.owner).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn who_is_stopped_after_each_run_copies_each_row_once() {
    let source = fill(MemoryStore::default(), &three_users());
    for destination in both_kinds() {
        let (mut runs, mut rows) = (0, 0);
        loop {
            let mut migration = begin(&source, &destination).unwrap();
            block_on(migration.step()).unwrap();
            (runs, rows) = (runs + 1, rows + migration.copied.rows);
            assert!(block_on(is_unfinished(&destination)).unwrap());
            if matches!(migration.stage, Stage::Comparing(_)) {
                finish(&mut migration).unwrap();
                break;
            }
        }
        assert!(runs > 5, "{runs}");
        assert_eq!(rows, source.rows().len() as u64);
        assert_eq!(destination.rows(), source.rows());
        assert!(!block_on(is_unfinished(&destination)).unwrap());
    }
}

#[test]
fn who_is_stopped_while_comparing_need_not_copy_again() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::database();
    copy(&mut begin(&source, &destination).unwrap());
    let mut migration = begin(&source, &destination).unwrap();
    finish(&mut migration).unwrap();
    assert_eq!(migration.copied, Copied::default());
}

#[test]
fn an_empty_history_is_one_too() {
    let (source, destination) = (MemoryStore::default(), MemoryStore::database());
    assert_eq!(migrate(&source, &destination), Totals::default());
    assert!(destination.rows().is_empty());
}

#[test]
fn the_embedded_store_gives_and_takes_what_memory_does() {
    let dir = tempfile::tempdir().unwrap();
    let source = fill(MemoryStore::database(), &three_users());
    let embedded =
        EmbeddedStore::open(dir.path(), EmbeddedConfig { cache_bytes: 1 << 20, ..EmbeddedConfig::default() }).unwrap();
    let there = migrate(&source, &embedded);
    let destination = MemoryStore::default();
    let back = migrate(&embedded, &destination);
    assert_eq!(destination.rows(), source.rows());
    assert_eq!(there, back);
    assert_eq!((there.users, there.sum.rows), (3, source.rows().len() as u64));
}

#[test]
fn a_destination_with_a_history_is_refused_and_whoever_serves_from_it_goes_on() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = fill(MemoryStore::database(), &three_users()[..1]);
    let before = destination.rows();
    let refused = begin(&source, &destination).unwrap_err();
    assert!(matches!(refused, MigrateError::Occupied { .. }) && !refused.is_retryable());
    assert!(refused.to_string().contains("Timeline { user: UserId(1), seq: Seq(1) }"), "{refused}");
    assert_eq!((destination.rows(), block_on(destination.take_over()).unwrap()), (before, Fence(2)));
}

#[test]
fn a_destination_that_was_filled_is_not_filled_again() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::database();
    migrate(&source, &destination);
    assert!(matches!(begin(&source, &destination), Err(MigrateError::Occupied { .. })));
}

#[test]
fn who_does_not_hear_that_it_is_done_finds_a_whole_history_there() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::database();
    let mut migration = begin(&source, &destination).unwrap();
    copy(&mut migration);
    destination.fail_next_commit(CommitFault::UnknownApplied);
    while block_on(migration.step()).is_ok() {}
    assert_eq!(destination.rows(), source.rows());
    assert!(matches!(begin(&source, &destination), Err(MigrateError::Occupied { .. })));
    block_on(compare(&source, &destination)).unwrap();
}

#[test]
fn the_migration_of_another_history_is_neither_gone_on_with_nor_copied_from() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::database();
    block_on(begin(&source, &destination).unwrap().step()).unwrap();
    let before = destination.rows();
    let other = fill(MemoryStore::default(), &three_users());
    let refused = block_on(Migration::begin(&other, Fence(1), &destination, HistoryId(8))).unwrap_err();
    assert!(matches!(refused, MigrateError::OtherMigration));
    let refused = begin(&destination, &MemoryStore::default()).unwrap_err();
    assert!(matches!(refused, MigrateError::UnfinishedSource));
    assert_eq!(destination.rows(), before);
}

#[test]
fn a_row_that_is_not_understood_is_named_and_nothing_after_it_is_copied() {
    use proto_spec::{DeviceId, Seq};
    let user = UserId(2);
    let peer = UserId(3);
    let unknown_table = Key::from_bytes(&[10, 1, 2]).unwrap();
    let mut wrong_partition = RowKey::Marks { user }.encode().to_vec();
    wrong_partition[1] ^= 1;
    let group = GroupId(2);
    let bad: [(Key, &[u8], &str); 19] = [
        (unknown_table, b"", "0a0102"),
        (Key::from_bytes(&wrong_partition).unwrap(), b"", "not a key of a known table"),
        (RowKey::Timeline { user, seq: Seq(9) }.encode(), b"\x01\xff", "Timeline { user: UserId(2), seq: Seq(9) }"),
        (RowKey::Timeline { user, seq: Seq(9) }.encode(), b"\x02", "format version 2"),
        (RowKey::Conversation { user, peer, seq: Seq(9) }.encode(), b"x", "Conversation"),
        (RowKey::Device { user, device: DeviceId(1) }.encode(), b"", "Device"),
        (RowKey::Received { user, peer }.encode(), b"\x01\x01\x01", "Received"),
        (RowKey::Delivered { user, peer }.encode(), b"\x01", "Delivered"),
        (RowKey::Marks { user }.encode(), b"\x01", "Marks"),
        (RowKey::Unfinished { user }.encode(), b"x", "Unfinished"),
        (RowKey::Standing { user, group }.encode(), b"\x01", "Standing"),
        (RowKey::GroupLog { group, seq: Seq(9) }.encode(), b"\x02", "GroupLog"),
        (RowKey::GroupState { group }.encode(), b"\x01", "GroupState"),
        (RowKey::GroupMarks { group }.encode(), b"\x01", "GroupMarks"),
        (RowKey::GroupMember { group, user }.encode(), b"\x01", "GroupMember"),
        (RowKey::GroupCame { group, user }.encode(), b"\x01", "GroupCame"),
        (RowKey::GroupWants { group, user }.encode(), b"\x01", "GroupWants"),
        (RowKey::GroupShown { group, place: Seq(9) }.encode(), b"\x01", "GroupShown"),
        (RowKey::GroupUnfinished { group }.encode(), b"x", "GroupUnfinished"),
    ];
    for (key, value, words) in bad {
        let source = fill(MemoryStore::default(), &three_users());
        let fence = block_on(source.take_over()).unwrap();
        block_on(source.commit(fence, &put(key, value))).unwrap();
        let destination = MemoryStore::database();
        let refused = finish(&mut begin(&source, &destination).unwrap()).unwrap_err();
        assert!(matches!(refused, MigrateError::Row { side: Side::Source, .. }), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
        assert!(destination.rows().iter().all(|(at, _)| *at < key || *at == RowKey::Migration.encode()));
        assert!(block_on(is_unfinished(&destination)).unwrap());
    }
}

#[test]
fn what_differs_is_named_by_user_and_mended_by_the_next_attempt() {
    let source = fill(MemoryStore::default(), &three_users());
    let user = UserId(2);
    let first = RowKey::Timeline { user, seq: proto_spec::Seq(1) }.encode();
    let stranger = RowKey::Marks { user: UserId(55) }.encode();
    let group = GroupId(2);
    let said = RowKey::GroupLog { group, seq: proto_spec::Seq(1) }.encode();
    let changes = [
        (put(first, b"other"), "user 2"),
        (delete(first), "user 2"),
        (delete(RowKey::Unfinished { user }.encode()), "user 2"),
        (put(RowKey::Timeline { user, seq: proto_spec::Seq(77) }.encode(), b""), "user 2"),
        (put(stranger, b""), "user 55"),
        (put(RowKey::Unfinished { user: UserId(56) }.encode(), b""), "user 56"),
        (put(said, b"other"), "group 2"),
        (delete(RowKey::GroupCame { group, user }.encode()), "group 2"),
        (delete(RowKey::GroupUnfinished { group }.encode()), "group 2"),
        (put(RowKey::GroupState { group: GroupId(57) }.encode(), b""), "group 57"),
    ];
    for (change, owner) in changes {
        let destination = MemoryStore::database();
        let mut migration = begin(&source, &destination).unwrap();
        copy(&mut migration);
        block_on(destination.commit(migration.fence, &change)).unwrap();
        let different = finish(&mut migration).unwrap_err();
        assert_eq!(named(&different).iter().map(RowOwner::to_string).collect::<Vec<_>>(), [owner]);
        assert!(different.to_string().contains(&format!("\n{owner}: ")), "{different}");
        assert!(block_on(is_unfinished(&destination)).unwrap());
        migrate(&source, &destination);
        assert_eq!(destination.rows(), source.rows());
    }
}

#[test]
fn more_differences_than_are_named_are_counted() {
    let source = MemoryStore::default();
    let destination = MemoryStore::default();
    let mut migration = begin(&source, &destination).unwrap();
    copy(&mut migration);
    let mut run = RunBuilder::default();
    (1..=25).for_each(|user| run.put(RowKey::Marks { user: UserId(user) }.encode(), |_| ()));
    block_on(destination.commit(migration.fence, &run.finish())).unwrap();
    let different = finish(&mut migration).unwrap_err();
    assert_eq!(named(&different).len(), 20);
    assert!(different.to_string().ends_with("\nand 5 more"), "{different}");
}

#[test]
fn more_rows_than_one_run_takes_out_are_taken_out_by_several() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::default();
    let migration = begin(&source, &destination).unwrap();
    let mut run = RunBuilder::default();
    let key = |seq| RowKey::Timeline { user: UserId(4), seq: proto_spec::Seq(seq) }.encode();
    (0..2 * SURPLUS_MAX as u64 + 5).for_each(|seq| run.put(key(seq), |_| ()));
    block_on(destination.commit(migration.fence, &run.finish())).unwrap();
    migrate(&source, &destination);
    assert_eq!(destination.rows(), source.rows());
}

#[test]
fn who_loses_the_destination_changes_nothing_there_any_more() {
    let source = fill(MemoryStore::default(), &three_users());
    let destination = MemoryStore::database();
    let mut migration = begin(&source, &destination).unwrap();
    block_on(migration.step()).unwrap();
    let before = destination.rows();
    let mut second = begin(&source, &destination).unwrap();
    assert_eq!(destination.rows().len(), before.len());
    let refused = finish(&mut migration).unwrap_err();
    let is_fenced =
        matches!(refused, MigrateError::Store { side: Side::Destination, error: StoreError::Fenced { .. } });
    assert!(is_fenced, "{refused}");
    finish(&mut second).unwrap();
    assert_eq!(destination.rows(), source.rows());
}

#[test]
fn a_source_that_somebody_has_taken_meanwhile_is_copied_again() {
    let source = fill(MemoryStore::database(), &three_users());
    let destination = MemoryStore::database();
    let mut migration = begin(&source, &destination).unwrap();
    copy(&mut migration);
    block_on(source.take_over()).unwrap();
    let refused = finish(&mut migration).unwrap_err();
    let is_fenced = matches!(refused, MigrateError::Store { side: Side::Source, error: StoreError::Fenced { .. } });
    assert!(is_fenced, "{refused}");
    assert!(block_on(is_unfinished(&destination)).unwrap());
    let mut again = begin(&source, &destination).unwrap();
    finish(&mut again).unwrap();
    assert_eq!(again.copied.rows, source.rows().len() as u64);
}

/// A store of which every third range cannot be read.
struct Flaky {
    store: MemoryStore,
    ranges: AtomicUsize,
}

impl Store for Flaky {
    fn kind(&self) -> Kind {
        self.store.kind()
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        if self.ranges.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            self.store.fail_next_reads(1);
        }
        self.store.range(range).await
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.store.commit(fence, run).await
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        self.store.take_over().await
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        self.store.advance(fence, steps, sorted).await
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

#[test]
fn a_comparison_goes_on_where_a_read_has_failed() {
    let flaky = |store| Flaky { store, ranges: AtomicUsize::new(0) };
    let source = flaky(fill(MemoryStore::default(), &three_users()));
    let destination = flaky(MemoryStore::database());
    let totals = migrate(&source, &destination);
    assert_eq!((totals.users, totals.sum.rows), (3, source.store.rows().len() as u64));
    assert_eq!(destination.store.rows(), source.store.rows());
}
