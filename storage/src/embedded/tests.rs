use super::{
    folder::{FORMAT_FILE, MADE_FILE, VERSION_FILE},
    *,
};
use crate::{
    contract::{self, block_on},
    fold::Fold,
    queries::answer,
    query::{Answer, Message, Query},
    record::{Batch, FirstResult, Record, Replaced, Rewrite, Shown},
    schema::ReceivedRow,
};
use fjall::AbstractTree as _;
use proto_spec::{Content, DeviceId, Entry, Event, MessageName, SendNumber, Seq, UserId};

fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(folder, EmbeddedConfig { cache_bytes: 1024 * 1024, ..EmbeddedConfig::default() })
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_embedded_store_fulfils_the_contract() {
    contract::check(|| {
        let dir = tempfile::tempdir().unwrap();
        (open(dir.path()).unwrap(), dir)
    });
}

#[test]
fn what_was_committed_is_there_after_reopening_and_can_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Fence(0);
    for round in 0..5u8 {
        let store = open(dir.path()).unwrap();
        let fence = block_on(store.take_over()).unwrap();
        assert!(fence > last);
        last = fence;
        let key = contract::key(7);
        let before = block_on(store.get(&key)).unwrap();
        assert_eq!(before.as_deref(), round.checked_sub(1).map(|round| vec![round]).as_deref());
        block_on(store.commit(fence, &contract::run([(7, Some(&[round][..])), (9, None)]))).unwrap();
    }
}

#[test]
fn every_open_gets_some_commits_further_however_much_waits_for_compaction() {
    // As a server that is ended again and again before a compaction is done, which begins anew each time.
    let (mut tables, mut to_bring_in) = (WAITING_TABLES_MAX + 1, 50);
    for _start in 0..13 {
        let mut commits = 0;
        while to_bring_in > 0 && !waits_for_compaction(commits, tables) {
            (commits, tables, to_bring_in) = (commits + 1, tables + 1, to_bring_in - 1);
        }
    }
    assert_eq!(to_bring_in, 0);
    assert!(waits_for_compaction(COMMITS_WITHOUT_WAIT, WAITING_TABLES_MAX + 1), "who goes on does wait");
}

#[test]
fn an_engine_that_could_not_go_on_is_opened_again_by_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let store = open(dir.path()).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    *store.engine.write() = None;
    assert!(matches!(block_on(store.get(&contract::key(1))), Err(StoreError::Unavailable { .. })));
    block_on(store.commit(fence, &contract::run([(5, Some(&b"five"[..]))]))).unwrap();
    for number in [1, 2, 5] {
        assert!(block_on(store.get(&contract::key(number))).unwrap().is_some());
    }
}

#[test]
fn an_engine_whose_folder_is_gone_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let store = open(dir.path()).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    store.suspect.store(true, Ordering::Release);
    fs::rename(dir.path().join(ENGINE_FOLDER), dir.path().join("elsewhere")).unwrap();
    let five = contract::run([(5, Some(&b"five"[..]))]);
    assert!(matches!(block_on(store.commit(fence, &five)), Err(StoreError::Damaged { .. })));
    fs::rename(dir.path().join("elsewhere"), dir.path().join(ENGINE_FOLDER)).unwrap();
    block_on(store.commit(fence, &five)).unwrap();
    assert!(block_on(store.get(&contract::key(1))).unwrap().is_some());
}

#[test]
fn what_a_first_start_that_was_cut_short_has_left_is_taken_away() {
    let remove = |version: &Path| fs::remove_file(version).unwrap();
    let empty = |version: &Path| fs::write(version, "").unwrap();
    let changes: [&dyn Fn(&Path); 2] = [&remove, &empty];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let engine = dir.path().join(ENGINE_FOLDER);
        change(&engine.join(VERSION_FILE));
        fs::remove_dir_all(engine.join(KEYSPACES_FOLDER)).unwrap();
        fs::remove_file(dir.path().join(MADE_FILE)).unwrap();
        assert!(engine.join("0.jnl").exists());
        open(dir.path()).unwrap();
    }
}

#[test]
fn an_engine_that_has_lost_everything_is_no_first_start() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::remove_dir_all(dir.path().join(ENGINE_FOLDER).join(KEYSPACES_FOLDER)).unwrap();
    refused_and_left_alone(dir.path(), "fjall/keyspaces");
    fs::remove_dir_all(dir.path().join(ENGINE_FOLDER)).unwrap();
    refused_and_left_alone(dir.path(), "fjall/keyspaces");
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path()).unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(&refused, StoreError::InUse { path } if path == dir.path()), "{refused}");
}

#[test]
fn a_newer_folder_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    fs::write(dir.path().join(FORMAT_FILE), "ringpost store 2\n").unwrap();
    let before = files(dir.path());
    assert!(matches!(open(dir.path()), Err(StoreError::Newer { found: 2, known: 1, .. })));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_folder_without_its_markers_is_refused_and_left_alone() {
    let of_the_engine = ["fjall/version", "fjall/0.jnl", "fjall/keyspaces/0/current", "fjall/keyspaces/1/current"];
    for marker in of_the_engine.into_iter().chain([FORMAT_FILE]) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        fs::remove_file(dir.path().join(marker)).unwrap();
        refused_and_left_alone(dir.path(), marker);
    }
}

#[test]
fn a_missing_or_shortened_file_is_damage_and_the_folder_is_left_alone() {
    let shorten = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let changes: [&dyn Fn(&Path); 2] = [&shorten, &remove];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        change(&files(&dir.path().join("fjall/keyspaces/1/tables"))[0].0);
        refused_and_left_alone(dir.path(), &dir.path().display().to_string());
    }
}

/// A store with two tables.
fn fill(folder: &Path) {
    let store = open(folder).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    for number in 1..3 {
        block_on(store.commit(fence, &contract::run([(number, Some(&[7; 1000][..]))]))).unwrap();
    }
}

fn refused_and_left_alone(folder: &Path, named: &str) {
    let before = files(folder);
    let refused = open(folder).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains(named), "{refused}");
    // fjall takes away lists of tables that have been superseded, before it looks at the next part of the folder.
    let superseded = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'));
    let after = files(folder);
    for (path, bytes) in before.into_iter().filter(|(path, _)| !superseded(path)) {
        let same = after.iter().any(|(other, now)| *other == path && *now == bytes);
        assert!(same, "{} was changed", path.display());
    }
}

#[test]
fn a_changed_block_is_damage_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let rows = dir.path().join("fjall/keyspaces/1/tables");
    let (path, mut bytes) = files(&rows).remove(0);
    bytes[40] ^= 1;
    fs::write(path, bytes).unwrap();
    let read = open(dir.path()).and_then(|store| block_on(store.get(&contract::key(1))));
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
}

/// What all files of a folder hold, one after the other.
fn holds(folder: &Path, text: &str) -> bool {
    files(folder).iter().any(|(_, bytes)| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn what_was_taken_back_or_deleted_is_in_no_file_once_the_store_was_purged() {
    // What no compression makes smaller.
    const SECRETS: [&str; 2] = ["qX7#vL2!mZ9@kT4$wR8%jB1^nC6&hF3*", "Zt5&Wq8!Lb2#Yv9@Kd4%Rm7^Hx3$Np6*"];
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    let (user, name) = (UserId(1), MessageName { author: UserId(1), seq: Seq(1) });
    let entry = |seq: u64, content: Content| {
        let (device, number) = (DeviceId(1), SendNumber(seq));
        let event = Event::Sent { to: UserId(2).into(), device, number, content };
        Entry { seq: Seq(seq), time: TimestampMs(seq), event }
    };
    let commit = |record: &Record| {
        let mut batch = Batch::default();
        batch.push(record);
        let mut fold = Fold::default();
        fold.add(batch.bytes()).unwrap();
        let sorted = fold.sort();
        let base = vec![None; sorted.needed().len()];
        block_on(store.commit(fence, &sorted.finish(base))).unwrap();
    };
    for (seq, secret) in (1..).zip(SECRETS) {
        commit(&Record::Append { user, entry: entry(seq, Content::text(secret)), replaces: None, count: 0 });
        assert!(holds(dir.path(), secret));
    }
    let first = Some(FirstResult { time: TimestampMs(1), said: [7; 16] });
    let replaces = vec![Replaced { seq: Seq(1), first }];
    let now = Shown { says: Seq(3), reactions: Vec::new() };
    let of = Rewrite { place: Seq(1), now, replaces, received: None, last: None };
    commit(&Record::Rewrite { user, entry: entry(3, Content::unsend(name, None)), of });
    let conversation = UserId(2).into();
    let event = Event::Deleted { conversation, of: MessageName { seq: Seq(2), ..name }, place: Seq(2), unread: 0 };
    let of = Rewrite {
        place: Seq(2),
        now: Shown::default(),
        replaces: vec![Replaced { seq: Seq(2), first }],
        received: Some(ReceivedRow::default()),
        last: Some(Seq(1)),
    };
    commit(&Record::Rewrite { user, entry: Entry { seq: Seq(4), time: TimestampMs(4), event }, of });
    let purge = |now_ms: u64| store.purge(TimestampMs(now_ms)).unwrap();
    let PurgeConfig { after_ms, bytes_max } = PurgeConfig::default();
    assert_eq!([purge(1_000), purge(999 + after_ms)], [Purged::Nothing; 2], "it is not time");
    assert!(SECRETS.iter().all(|secret| holds(dir.path(), secret)));
    let merged = purge(1_000 + after_ms);
    assert!(matches!(merged, Purged::Merged { bytes } if bytes > 0 && bytes <= bytes_max), "{merged:?}");
    assert!(SECRETS.iter().all(|secret| !holds(dir.path(), secret)));
    let query = Query::Message { user, conversation, place: Seq(1) };
    let found = block_on(answer(&store, &query)).unwrap();
    assert!(matches!(found, Answer::Message(Some(Message { entry: Entry { seq: Seq(3), .. }, .. }))), "{found:?}");
    let query = Query::Message { user, conversation, place: Seq(2) };
    assert_eq!(block_on(answer(&store, &query)).unwrap(), Answer::Message(None));
}

#[test]
fn a_store_that_is_large_is_not_purged_and_one_whose_clock_went_back_some_time_later() {
    let dir = tempfile::tempdir().unwrap();
    let purge = PurgeConfig { after_ms: 10, bytes_max: 1 };
    let store = EmbeddedStore::open(dir.path(), EmbeddedConfig { purge, ..EmbeddedConfig::default() }).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    block_on(store.commit(fence, &contract::run([(1, Some(&b"one"[..]))]))).unwrap();
    assert_eq!([0, 10, 20].map(|now_ms| store.purge(TimestampMs(now_ms)).unwrap()), [Purged::Nothing; 3]);
    block_on(store.commit(fence, &contract::run([(1, None)]))).unwrap();
    let purge = |now_ms| store.purge(TimestampMs(now_ms)).unwrap();
    assert_eq!(purge(100), Purged::Nothing);
    assert!(matches!(purge(110), Purged::TooLarge { bytes_max: 1, .. }));
    assert_eq!(purge(50), Purged::Nothing, "it begins anew");
    assert_eq!(purge(59), Purged::Nothing);
    assert!(matches!(purge(60), Purged::TooLarge { .. }));
}

#[test]
fn an_engine_that_could_not_be_opened_again_is_by_the_next_purge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    block_on(store.commit(fence, &contract::run([(1, Some(&b"one"[..]))]))).unwrap();
    *store.engine.write() = None;
    assert!(block_on(store.get(&contract::key(1))).is_err());
    assert_eq!(store.purge(TimestampMs(1)).unwrap(), Purged::Nothing);
    assert!(block_on(store.get(&contract::key(1))).unwrap().is_some());
}

#[test]
fn what_the_engine_has_merged_by_itself_is_removed_when_the_store_is_trimmed() {
    const SECRET: &str = "qX7#vL2!mZ9@kT4$wR8%jB1^nC6&hF3*";
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let fence = block_on(store.take_over()).unwrap();
    let commit = |number, value| block_on(store.commit(fence, &contract::run([(number, value)]))).unwrap();
    commit(1, Some(SECRET.as_bytes()));
    commit(1, None);
    for number in 2.. {
        commit(number, Some(&b"more"[..]));
        // The engine's own thread is asked after a commit, and may begin a little later.
        thread::sleep(Duration::from_millis(20));
        store.settle(|| ());
        if store.engine.read().as_ref().unwrap().rows.tree.tombstone_count() == 0 {
            break;
        }
        assert!(number < 1_000, "it merges some day");
    }
    let used = store.disk_use().unwrap();
    assert!(used.rows_bytes > 0 && used.tables_bytes > used.rows_bytes, "{used:?}");
    // The engine's thread may not have done with them yet.
    let is_trimmed = |used: DiskUse| used.tables_bytes == used.rows_bytes;
    for looked in 0.. {
        if is_trimmed(store.trim().unwrap().unwrap()) {
            break;
        }
        assert!(looked < 1_000, "{:?}", store.disk_use());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!holds(dir.path(), SECRET));
}
