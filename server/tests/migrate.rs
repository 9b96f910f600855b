//! `ringpost migrate` as an operator meets it: what it moves and leaves alone, what it says, and that it goes on wherever it was
//! stopped or killed. The database is one in memory, and a real one where RINGPOST_FDB_CLUSTER_FILE names a cluster.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::HashMap,
    env, fs,
    fs::OpenOptions,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use proto_spec::{Content, DeviceId, Direction as Reading, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use server::{
    commands::{
        backend::UseStore as _,
        migrate::{Direction, MigrateCommandError, Move, Terminal},
    },
    config::Config,
    files::{
        datadir::DataDir,
        keyfile,
        tenure::{self, Own, TENURE_FILE, new_holder},
    },
};
use storage::{
    Batch, BatchId, CommitFault, EmbeddedConfig, EmbeddedStore, Fence, Kind, LaneId, MemoryStore, Record, Run, Store,
    StoreError, Tenure,
    fold::{Fold, Sorted},
    journal::{JournalConfig, JournalFolder, Position, Writer},
    migrate::is_unfinished,
    run::RunBuilder,
    schema::{Key, RowKey},
    store::{Advanced, Holder, Range, Rows, Step},
};

const JOURNAL: JournalConfig = JournalConfig { segment_bytes: 16 << 20, journal_bytes_max: 64 << 20, reserve_bytes: 0 };

/// Messages of the histories that are moved; RINGPOST_MIGRATE_MESSAGES has other ideas.
fn messages() -> u64 {
    env::var("RINGPOST_MIGRATE_MESSAGES").map_or(20_000, |number| number.parse().unwrap())
}

/// Messages of a batch of which a run is made at once.
const BATCH_MESSAGES: u64 = 10_000;

/// What a messenger would have made of people who write to each other: of every pair of neighbours the lower one begins.
struct People {
    users: u64,
    logs: HashMap<u64, u64>,
    written: u64,
}

impl People {
    fn new(users: u64) -> Self {
        Self { users, logs: HashMap::new(), written: 0 }
    }

    fn append(&mut self, batch: &mut Batch, user: u64, event: Event) -> Seq {
        let head = self.logs.entry(user).or_default();
        *head += 1;
        let entry = Entry { seq: Seq(*head), time: TimestampMs(1_700_000_000_000 + self.written), event };
        batch.append(UserId(user), &entry, None, 0);
        Seq(*head)
    }

    /// A message, with everything that it leaves behind.
    fn say(&mut self, batch: &mut Batch) {
        self.written += 1;
        let from = self.written % self.users + 1;
        let to = from % self.users + 1;
        let text = format!("message {} {}", self.written, "lorem ipsum ".repeat((self.written % 20) as usize));
        let (device, number) = (DeviceId(from * 10), SendNumber(self.written / self.users + 1));
        let content = Content::text(&text);
        let sent = Event::Sent { to: UserId(to).into(), device, number, content: content.clone() };
        let origin = self.append(batch, from, sent);
        let received = self.append(batch, to, Event::Received { from: UserId(from), origin, content });
        if self.written.is_multiple_of(4) {
            batch.push(&Record::Cursor { user: UserId(to), device: DeviceId(to * 10), seq: received });
            self.append(batch, from, Event::Delivered { peer: UserId(to), up_to: origin });
            let marks = storage::Marks { forwarded: origin, receipted: Seq(0) };
            batch.push(&Record::Marks { user: UserId(from), marks, idle: self.written.is_multiple_of(8) });
        }
    }

    fn batch(&mut self, messages: u64) -> Batch {
        let mut batch = Batch::default();
        (0..messages).for_each(|_| self.say(&mut batch));
        batch
    }
}

/// A stopped server's data folder.
struct World {
    folder: tempfile::TempDir,
}

/// As `mkdir -m 700`.
fn make_empty(folder: &Path) {
    fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
}

impl World {
    /// With so many messages in its embedded store, and a few more in its journal.
    fn new(messages: u64) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let data = DataDir::open(&world.data()).unwrap();
        let mut people = People::new(messages / 50 + 10);
        let store = world.store();
        let fence = pollster::block_on(store.take_over()).unwrap();
        let mut left = messages;
        while left > 0 {
            let mut fold = Fold::default();
            fold.add(people.batch(left.min(BATCH_MESSAGES)).bytes()).unwrap();
            pollster::block_on(store.advance(fence, &[], fold.sort())).unwrap();
            left -= left.min(BATCH_MESSAGES);
        }
        write_journal(&data, &mut people, 100);
        world
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn config(&self) -> Config {
        Config { data_dir: self.data(), ..Config::default() }
    }

    fn store(&self) -> EmbeddedStore {
        let path = self.data().join("store");
        EmbeddedStore::open(&path, EmbeddedConfig { cache_bytes: 64 << 20, ..EmbeddedConfig::default() }).unwrap()
    }

    /// As the operator does who wants the history back in a folder that had it once.
    fn make_room(&self) {
        let path = self.data().join("store");
        fs::rename(&path, path.with_extension("old")).unwrap();
        make_empty(&path);
    }

    /// Says whose the journal is.
    fn belongs(&self, own: Own) {
        tenure::save(&self.data().join("journal").join(TENURE_FILE), own).unwrap();
    }

    fn has_tenure(&self) -> bool {
        self.data().join("journal").join(TENURE_FILE).exists()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.data()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What `ringpost migrate` does, with this database.
    fn migrate<S: Store>(&self, direction: Direction, database: S) -> Result<Told, MigrateCommandError> {
        self.migrate_until(direction, database, &AtomicBool::new(false))
    }

    fn migrate_until<S: Store>(
        &self,
        direction: Direction,
        database: S,
        stop: &AtomicBool,
    ) -> Result<Told, MigrateCommandError> {
        let (config, mut progress) = (self.config(), Vec::new());
        let told = Move::new(direction, &config, stop, Terminal::Lines, &mut progress)?.with(database);
        Ok(Told { out: told?, progress: String::from_utf8(progress).unwrap() })
    }

    /// The real program, with more arguments.
    /// A configuration without the endpoint for metrics, whose port another server may have.
    fn quiet(&self) -> PathBuf {
        let config = self.folder.path().join("quiet.toml");
        fs::write(&config, "admin_listen = \"\"\n").unwrap();
        config
    }

    fn ringpost(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command.args(arguments).arg("--data").arg(self.data());
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

#[derive(Debug)]
struct Told {
    out: String,
    progress: String,
}

fn write_journal(data: &DataDir, people: &mut People, batches: u64) {
    let folder = JournalFolder::open(&data.journal(), JOURNAL.segment_bytes).unwrap();
    let mut writer = Writer::new(JOURNAL, Position::default());
    for id in 1..=batches {
        while let Some(number) = writer.wants_segment() {
            writer.add_segment(number, folder.prepare(number).unwrap().salt);
        }
        writer.push(LaneId(0), BatchId(id), people.batch(2).bytes());
        let write = writer.next_write().unwrap();
        let file = OpenOptions::new().write(true).open(folder.segment_path(write.segment)).unwrap();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        writer.written(write.bytes);
    }
}

/// Every row of a store, but a backend's own.
fn rows<S: Store>(store: &S) -> Vec<(Key, Bytes)> {
    pollster::block_on(store.range(&everything())).unwrap().rows
}

fn everything() -> Range {
    Range {
        first: Key::from_bytes(&[1]).unwrap(),
        last: Key::from_bytes(&[u8::MAX; Key::LEN_MAX]).unwrap(),
        direction: Reading::Forwards,
        rows_max: usize::MAX,
        bytes_max: usize::MAX,
    }
}

fn database() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::database())
}

/// As a server does that begins to serve from a database: whose the journal is from then on.
fn serve(database: &Arc<MemoryStore>) -> Own {
    let (fence, holder) = (pollster::block_on(database.take_over()).unwrap(), new_holder());
    pollster::block_on(database.begin(fence, holder)).unwrap();
    Own { tenure: Tenure { holder, fence }, kind: Kind::Database }
}

fn count(told: &str, name: &str) -> u64 {
    let line = told.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_history_moves_to_a_database_and_back_with_what_the_journal_held() {
    let messages = messages();
    let world = World::new(messages);
    let database = database();
    let before = rows(&world.store()).len();
    let there = world.migrate(Direction::ToFoundationDb, database.clone()).unwrap();
    assert!(there.progress.contains("100 batches of the journal have been brought into the store\n"), "{there:?}");
    assert!(there.progress.contains("copying unfinished: "), "{there:?}");
    let moved = rows(&world.store());
    assert!(moved.len() > before, "the journal had some");
    assert_eq!(database.rows(), moved);
    assert_eq!((count(&there.out, "users"), count(&there.out, "rows")), (messages / 50 + 10, moved.len() as u64));
    assert!(there.out.contains("set backend = \"foundationdb\" in [store]"), "{}", there.out);
    assert_eq!(world.files(), ["FORMAT", "ID", "LOCK", "journal", "store"]);

    // A server on the database has left this behind, and nothing in the journal.
    let tenure = serve(&database);
    world.belongs(tenure);
    world.make_room();
    let back = world.migrate(Direction::ToEmbedded, database.clone()).unwrap();
    assert_eq!(rows(&world.store()), moved);
    assert_eq!(there.out.lines().take(4).collect::<Vec<_>>(), back.out.lines().take(4).collect::<Vec<_>>());
    assert_eq!(world.files(), ["FORMAT", "ID", "LOCK", "journal", "store", "store.old"]);
    assert_eq!(database.rows(), moved);
}

/// A database that ends something when it has been asked so many times.
struct Breaking<'a> {
    store: Arc<MemoryStore>,
    left: AtomicUsize,
    then: &'a (dyn Fn() + Send + Sync),
}

impl Breaking<'_> {
    fn ask(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.then)();
        }
    }
}

impl Store for Breaking<'static> {
    fn kind(&self) -> Kind {
        self.store.kind()
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.ask();
        self.store.get(key).await
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        self.ask();
        self.store.range(range).await
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        let done = self.store.commit(fence, run).await;
        self.ask();
        done
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        self.ask();
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
fn who_is_killed_at_any_moment_goes_on() {
    let world = World::new(8_000);
    let database = database();
    for direction in [Direction::ToFoundationDb, Direction::ToEmbedded] {
        if direction == Direction::ToEmbedded {
            world.make_room();
        }
        let mut deaths = 0;
        let told = loop {
            let left = AtomicUsize::new(1 + deaths);
            let dying = Breaking { store: database.clone(), left, then: &|| resume_unwind(Box::new(())) };
            match catch_unwind(AssertUnwindSafe(|| world.migrate(direction, dying))) {
                Ok(told) => break told.unwrap(),
                Err(_) => deaths += 1,
            }
        };
        assert!(deaths > 10, "{deaths}");
        assert_eq!(database.rows(), rows(&world.store()));
        assert_eq!(count(&told.out, "rows"), database.rows().len() as u64);
        assert!(!world.files().contains(&"MIGRATION".to_owned()));
    }
}

#[test]
fn who_is_killed_between_the_last_two_steps_is_done_unless_another_server_has_served_since() {
    let world = World::new(8_000);
    let database = database();
    world.migrate(Direction::ToFoundationDb, database.clone()).unwrap();
    let tenure = serve(&database);
    world.belongs(tenure);
    world.make_room();
    let dying = Breaking { store: database.clone(), left: AtomicUsize::new(8), then: &|| resume_unwind(Box::new(())) };
    catch_unwind(AssertUnwindSafe(|| world.migrate(Direction::ToEmbedded, dying))).unwrap_err();
    let mark = world.data().join("MIGRATION");
    let killed = fs::read_to_string(&mark).unwrap() + &tenure::text(tenure);
    // Nothing is forgotten that has not been written down before.
    let in_the_way = mark.with_extension("new");
    fs::create_dir(&in_the_way).unwrap();
    let failed = world.migrate(Direction::ToEmbedded, database.clone()).unwrap_err();
    assert!(matches!(&failed, MigrateCommandError::File { path, .. } if *path == mark), "{failed}");
    assert!(world.has_tenure());
    fs::remove_dir(&in_the_way).unwrap();
    let moved = world.migrate(Direction::ToEmbedded, database.clone()).unwrap();
    assert!(!mark.exists());

    fs::write(&mark, &killed).unwrap();
    let again = world.migrate(Direction::ToEmbedded, database.clone()).unwrap();
    assert_eq!(again.out, moved.out);
    assert!(!mark.exists());

    // It may have a journal with what has not come into the database.
    serve(&database);
    for left in [Some(&killed), None] {
        left.into_iter().for_each(|killed| fs::write(&mark, killed).unwrap());
        let elsewhere = world.migrate(Direction::ToEmbedded, database.clone()).unwrap_err();
        assert!(matches!(elsewhere, MigrateCommandError::Elsewhere), "{elsewhere}");
        let _ = fs::remove_file(&mark);
    }
}

#[test]
fn who_is_stopped_is_told_so_and_nobody_serves_from_a_part_of_the_history() {
    let world = World::new(20_000);
    let database = database();
    world.migrate(Direction::ToFoundationDb, database.clone()).unwrap();
    world.make_room();
    let stop: &'static AtomicBool = Box::leak(Box::default());
    let then: &'static (dyn Fn() + Send + Sync) = Box::leak(Box::new(|| stop.store(true, Ordering::Relaxed)));
    let stopping = Breaking { store: database.clone(), left: AtomicUsize::new(8), then };
    let stopped = world.migrate_until(Direction::ToEmbedded, stopping, stop).unwrap_err();
    assert!(
        matches!(stopped, MigrateCommandError::Stopped) && stopped.to_string().contains("the same command goes on")
    );
    assert!(pollster::block_on(is_unfinished(&world.store())).unwrap());
    keyfile::create_if_missing(&world.data().join("token-key.pem")).unwrap();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["journal", "replay"]] {
        let Output { status, stderr, .. } =
            world.ringpost(arguments).arg("--config").arg(world.quiet()).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("`ringpost migrate --from foundationdb --to embedded --config "), "{stderr}");
    }
    let refused = world.migrate(Direction::ToFoundationDb, Arc::new(MemoryStore::database())).unwrap_err().to_string();
    assert!(refused.contains("`ringpost migrate --from foundationdb --to embedded` goes on"), "{refused}");
    world.migrate(Direction::ToEmbedded, database.clone()).unwrap();
    assert_eq!(rows(&world.store()), database.rows());
}

#[test]
fn a_destination_in_use_is_left_alone_and_the_error_says_what_to_do() {
    let world = World::new(100);
    let taken = database();
    let fence = pollster::block_on(taken.take_over()).unwrap();
    let mut run = RunBuilder::default();
    run.put(RowKey::Unfinished { user: UserId(5) }.encode(), |_| ());
    pollster::block_on(taken.commit(fence, &run.finish())).unwrap();
    let refused = world.migrate(Direction::ToFoundationDb, taken.clone()).unwrap_err().to_string();
    for words in
        ["has a history already", "store.foundationdb.prefix", "clearrange ringpost\\x2f\\x00 ringpost\\x2f\\x21"]
    {
        assert!(refused.contains(words), "{refused}");
    }
    // Whoever serves from there goes on.
    pollster::block_on(taken.commit(fence, &Run::default())).unwrap();
    let refused = world.migrate(Direction::ToEmbedded, database()).unwrap_err().to_string();
    assert!(refused.contains("has a history already") && refused.contains(" && mkdir -m 700 "), "{refused}");
    assert_eq!(world.files(), ["FORMAT", "ID", "LOCK", "journal", "store"]);
    let _running = DataDir::open(&world.data()).unwrap();
    let refused = world.migrate(Direction::ToFoundationDb, database()).unwrap_err();
    assert!(matches!(refused, MigrateCommandError::DataDir(_)), "{refused}");
}

#[test]
fn a_damaged_row_is_named_and_the_history_stays_where_it_is() {
    let world = World::new(100);
    let key = RowKey::Timeline { user: UserId(5), seq: Seq(1) }.encode();
    {
        let store = world.store();
        let fence = pollster::block_on(store.take_over()).unwrap();
        let mut run = RunBuilder::default();
        run.put(key, |out| out.extend(b"\x01nonsense"));
        pollster::block_on(store.commit(fence, &run.finish())).unwrap();
    }
    let database = database();
    let refused = world.migrate(Direction::ToFoundationDb, database.clone()).unwrap_err().to_string();
    assert!(refused.contains("Timeline { user: UserId(5), seq: Seq(1) }"), "{refused}");
    assert!(refused.contains("the history is not moved"), "{refused}");
    assert!(pollster::block_on(is_unfinished(&database)).unwrap());
    assert!(!pollster::block_on(is_unfinished(&world.store())).unwrap());
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let world = World::new(100);
    let database = database();
    let faults = [CommitFault::Unavailable, CommitFault::UnknownHalf, CommitFault::Conflict];
    let store = database.clone();
    let failing: &'static (dyn Fn() + Send + Sync) =
        Box::leak(Box::new(move || faults.iter().for_each(|fault| store.fail_next_commit(*fault))));
    // After the commit that marks the beginning.
    let breaking = Breaking { store: database.clone(), left: AtomicUsize::new(6), then: failing };
    let told = world.migrate(Direction::ToFoundationDb, breaking).unwrap();
    assert_eq!(told.progress.matches("; trying again\n").count(), 3, "{}", told.progress);
    assert_eq!(database.rows(), rows(&world.store()));
}

#[test]
fn a_journal_of_somewhere_else_is_not_brought_into_the_source() {
    let world = World::new(100);
    world.belongs(Own { tenure: Tenure { holder: new_holder(), fence: Fence(7) }, kind: Kind::Database });
    let before = rows(&world.store());
    for direction in [Direction::ToFoundationDb, Direction::ToEmbedded] {
        let database = database();
        let refused = world.migrate(direction, database.clone()).unwrap_err();
        assert!(matches!(refused, MigrateCommandError::TakeOver(_)), "{refused}");
        assert!(refused.to_string().contains("100 batches"), "{refused}");
        assert!(database.rows().is_empty() && world.has_tenure());
    }
    assert_eq!(rows(&world.store()), before);
}

#[test]
fn a_database_from_which_another_folders_server_has_served_is_left_to_that_one() {
    let (ours, theirs) = (World::new(100), World::new(10));
    let database = database();
    ours.migrate(Direction::ToFoundationDb, database.clone()).unwrap();
    theirs.migrate(Direction::ToFoundationDb, self::database()).unwrap();
    let tenure = serve(&database);
    ours.belongs(tenure);
    [&ours, &theirs].into_iter().for_each(World::make_room);
    let refused = theirs.migrate(Direction::ToEmbedded, database.clone()).unwrap_err();
    assert!(matches!(refused, MigrateCommandError::Elsewhere), "{refused}");
    // Its server goes on.
    pollster::block_on(database.commit(tenure.tenure.fence, &Run::default())).unwrap();
    ours.migrate(Direction::ToEmbedded, database.clone()).unwrap();
    assert_eq!(rows(&ours.store()), database.rows());
}

#[test]
fn a_folder_that_has_served_from_a_database_does_not_serve_from_its_own_store_without_a_migration() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    drop(DataDir::open_with_key(&world.data()).unwrap());
    world.belongs(Own { tenure: Tenure { holder: new_holder(), fence: Fence(7) }, kind: Kind::Database });
    let config = world.quiet();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--config", config.to_str().unwrap()];
    let Output { status, stderr, .. } = world.ringpost(&arguments).args(["--log-format", "text"]).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && said.contains("was not written for this store"), "{said}");
    assert!(said.contains("ringpost migrate"), "{said}");
    assert!(world.has_tenure());
}

#[test]
fn the_command_line_tells_what_is_wrong_with_it() {
    let world = World::new(10);
    let run = |arguments: &[&str]| {
        let Output { status, stderr, .. } = world.ringpost(arguments).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let (code, said) = run(&["migrate", "--from", "embedded", "--to", "embedded"]);
    assert!(code == Some(2) && said.contains("the same store, embedded"), "{said}");
    let (code, said) = run(&["migrate", "--from", "embedded", "--to", "postgres"]);
    assert!(code == Some(2) && said.contains("embedded or foundationdb"), "{said}");
    if !server::config::HAS_FOUNDATIONDB {
        let (code, said) = run(&["migrate", "--from", "embedded", "--to", "foundationdb"]);
        assert!(code == Some(1) && said.contains("--features foundationdb"), "{said}");
    }
}

#[cfg(not(feature = "foundationdb"))]
#[test]
fn a_history_moves_to_a_real_database_and_back() {
    println!("NOT RUN: built without the feature foundationdb");
}

#[cfg(feature = "foundationdb")]
mod real {
    use std::{
        io::{BufRead as _, BufReader},
        process::Child,
        time::Instant,
    };

    use storage::{FdbConfig, FdbStore, Network, migrate::compare};

    use super::*;

    /// What is under its prefix is taken out again.
    struct Cleared(FdbStore);

    impl Cleared {
        fn clear(&self) {
            let fence = pollster::block_on(self.0.take_over()).unwrap();
            loop {
                let found =
                    pollster::block_on(self.0.range(&Range { rows_max: 100_000, ..everything() })).unwrap().rows;
                if found.is_empty() {
                    return;
                }
                let mut run = RunBuilder::default();
                found.iter().for_each(|(key, _)| run.delete(*key));
                pollster::block_on(self.0.commit(fence, &run.finish())).unwrap();
            }
        }

        fn is_unfinished(&self) -> bool {
            pollster::block_on(is_unfinished(&self.0)).unwrap()
        }
    }

    impl Drop for Cleared {
        fn drop(&mut self) {
            self.clear();
        }
    }

    /// How often an attempt may come to its end before it is killed or stopped.
    const TOO_FAST_MAX: usize = 20;

    /// Starts a migration, and returns when its first run has been copied.
    fn begun(world: &World, arguments: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
        let mut child = world.ringpost(arguments).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("copying") && stderr.read_line(&mut line).unwrap() > 0 {}
        (child, stderr)
    }

    fn finished(world: &World, arguments: &[&str]) -> String {
        let begun = Instant::now();
        let Output { status, stdout, stderr } = world.ringpost(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        println!("{arguments:?}: {:.1} s\n{stderr}{stdout}", begun.elapsed().as_secs_f32());
        assert!(status.success(), "{stderr}");
        stdout
    }

    #[test]
    fn a_history_moves_to_a_real_database_and_back() {
        let Ok(cluster) = env::var("RINGPOST_FDB_CLUSTER_FILE") else {
            println!("NOT RUN: RINGPOST_FDB_CLUSTER_FILE is not set");
            return;
        };
        let world = World::new(messages().max(50_000));
        let prefix = format!("test-{:016x}/", new_holder().0 as u64);
        let file = world.folder.path().join("ringpost.toml");
        let section = format!("[store.foundationdb]\ncluster_file = {cluster:?}\nprefix = {prefix:?}\n");
        fs::write(&file, format!("[store]\nbackend = \"foundationdb\"\n{section}")).unwrap();
        let network = Network::start().unwrap();
        let config = FdbConfig { cluster_file: Some(cluster.into()), prefix, timeout_ms: 5_000 };
        let database = Cleared(pollster::block_on(FdbStore::open(&network, &config)).unwrap());

        let file = file.to_str().unwrap();
        let there = ["migrate", "--from", "embedded", "--to", "foundationdb", "--config", file];
        let (mut kills, mut too_fast) = (0, 0);
        while kills < 3 {
            let (mut child, _) = begun(&world, &there);
            child.kill().unwrap();
            child.wait().unwrap();
            if database.is_unfinished() {
                kills += 1;
            } else {
                too_fast += 1;
                assert!(too_fast < TOO_FAST_MAX);
                database.clear();
            }
        }
        keyfile::create_if_missing(&world.data().join("token-key.pem")).unwrap();
        let Output { status, stderr, .. } = world.ringpost(&["serve", "--config", file]).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && stderr.contains("`ringpost migrate --from embedded"), "{stderr}");
        let moved = finished(&world, &there);
        let totals = pollster::block_on(compare(&world.store(), &database.0)).unwrap();
        assert_eq!(count(&moved, "rows"), totals.sum.rows);
        assert!(!database.is_unfinished());

        world.make_room();
        let back = ["migrate", "--from", "foundationdb", "--to", "embedded", "--config", file];
        let mut too_fast = 0;
        loop {
            let (mut child, stderr) = begun(&world, &back);
            let interrupt = format!("kill -INT {}", child.id());
            let _ = Command::new("sh").args(["-c", &interrupt]).stderr(Stdio::null()).status().unwrap();
            let said: Vec<_> = stderr.lines().map(Result::unwrap).collect();
            if child.wait().unwrap().success() {
                too_fast += 1;
                assert!(too_fast < TOO_FAST_MAX);
                fs::remove_dir_all(world.data().join("store")).unwrap();
                make_empty(&world.data().join("store"));
                continue;
            }
            assert!(said.iter().any(|line| line.contains("stopped: the history is not moved")), "{said:?}");
            break;
        }
        let returned = finished(&world, &back);
        assert!(moved.lines().take(4).eq(returned.lines().take(4)), "{moved}{returned}");
        assert_eq!(pollster::block_on(compare(&database.0, &world.store())).unwrap(), totals);
    }
}
