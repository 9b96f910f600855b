//! Recovery: what a start finds in the journal comes into the store, and the store is served from. How far that is, is told to the
//! counters, to the log every few seconds, and in words to whoever asks whether the server is ready.
//!
//! Invariant: a recovery that failed, or was cut short, goes on where it was.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use storage::{
    Ahead, Fence, IngestError, IngestReport, LaneSpans, Store, ingest_in_runs,
    journal::{JournalFolder, Position, Reading, Recovered, SealedSegment, Torn},
    note_last_messages, note_last_sends,
    store::RECOVERY_RUN_BYTES_MAX,
};
use tracing::{info, warn};

use super::start_error::StartError;
use crate::{
    files::{
        datadir::DataDir,
        tenure::{self, Extent, Held},
    },
    limits::RECOVERY_LOG_MS,
    operator::counters::{Counter, Counters, JournalCounters},
};

const MIB: u64 = 1024 * 1024;

/// What a start has found in the journal, on its way into the store.
#[derive(Debug)]
pub(super) struct Recovery {
    folder: JournalFolder,
    data: Arc<DataDir>,
    counters: Arc<Counters>,
    /// Set when the node ends: no other segment is begun.
    ended: Arc<AtomicBool>,
    /// What is left of it: segments that are in the store are gone from it.
    found: Recovered,
    /// The first of these is in the store, and its file was not given up.
    stored: Option<IngestReport>,
    /// Bytes of records that are in the store.
    done: u64,
}

impl Recovery {
    pub(super) fn new(
        folder: JournalFolder,
        data: Arc<DataDir>,
        counters: Arc<Counters>,
        ended: Arc<AtomicBool>,
        found: Recovered,
    ) -> Self {
        if let Some(Torn { path, offset, bytes }) = &found.torn {
            info!(path = %path.display(), offset, bytes, "the last group was not written whole; nobody was told of it");
        }
        counters.journal.recovery_bytes.set(found.segments.iter().map(SealedSegment::bytes).sum());
        Self { folder, data, counters, ended, found, stored: None, done: 0 }
    }

    /// Where the journal goes on.
    pub(super) const fn next(&self) -> Position {
        self.found.next
    }

    /// What is not in the store yet, read into memory: for reads, until it is.
    ///
    /// # Errors
    /// It is more than `bytes_max`, or cannot be read; or the store failed.
    pub(super) fn read_ahead<S: Store>(&self, store: &Arc<S>, bytes_max: u64) -> Result<Ahead<S>, StartError> {
        // One that is in the store has only its file left, if that.
        let segments = &self.found.segments[usize::from(self.stored.is_some())..];
        let bytes = segments.iter().map(SealedSegment::bytes).sum();
        if bytes > bytes_max {
            return Err(StartError::TooMuch { bytes, bytes_max });
        }
        Ok(pollster::block_on(Ahead::read_ahead(Arc::clone(store), segments))?)
    }

    /// Takes the store over, brings everything in that the journal holds, and begins to serve: batches count from one then. Where the
    /// disk has no room, what the journal keeps spare is given back first.
    ///
    /// # Errors
    /// The journal does not belong to the store, cannot be read, or the store failed. The same may be done again.
    pub(super) fn bring_in<S: Store>(&mut self, store: &S) -> Result<Fence, StartError> {
        loop {
            match self.try_to_bring_in(store) {
                // Each time there is less to give back, or more is in the store.
                Err(error) if error.is_full() && self.gives_back() => {}
                done => return done,
            }
        }
    }

    fn try_to_bring_in<S: Store>(&mut self, store: &S) -> Result<Fence, StartError> {
        let Recovered { batches, lanes, .. } = &self.found;
        let fence = tenure::take_over(store, &self.data, Held { batches: *batches, lanes, extent: Extent::Whole })?;
        self.ingest(store, fence)?;
        if self.data.lacks_last_messages()? {
            let conversations = pollster::block_on(note_last_messages(store, fence))?;
            let devices = pollster::block_on(note_last_sends(store, fence))?;
            info!(conversations, devices, "conversations and last sends of a folder of an earlier format are listed");
        }
        self.data.upgrade()?;
        tenure::begin(store, &self.data, fence)?;
        Ok(fence)
    }

    fn ingest<S: Store>(&mut self, store: &S, fence: Fence) -> Result<(), StartError> {
        let mut progress = Progress::of_bringing_in(&self.counters.journal);
        let ingestion = Ingestion { store, fence, folder: &self.folder, run_bytes_max: RECOVERY_RUN_BYTES_MAX };
        // One by one, in small runs: what is done is done if the next one fails, or the process ends.
        while let Some(segment) = self.found.segments.first() {
            if self.ended.load(Ordering::Relaxed) {
                return Err(StartError::Stopped);
            }
            let done = self.done;
            let watch = |run: &IngestReport| progress.has_done(done + run.journal_bytes);
            ingestion.ingest_and_free(segment, &mut self.stored, watch)?;
            self.stored = None;
            self.done += segment.bytes();
            progress.has_done(self.done);
            self.found.segments.remove(0);
        }
        while let Some(&segment) = self.found.empty.first() {
            self.folder.free(segment)?;
            self.found.empty.remove(0);
        }
        self.found.lanes = LaneSpans::default();
        match mem::take(&mut self.found.batches) {
            0 => {}
            batches => info!(batches, "the journal has been brought into the store"),
        }
        Ok(())
    }

    /// Gives a disk that has no room what the journal keeps spare. Whether there was any.
    fn gives_back(&self) -> bool {
        match self.folder.give_back(&self.found.empty) {
            Ok(0) => false,
            Ok(bytes) => {
                warn!(bytes, "the disk has no room: the journal has given back segments that it kept spare");
                true
            }
            Err(error) => {
                warn!(%error, "the disk has no room, and the journal could not give back what it keeps spare");
                false
            }
        }
    }
}

/// How segments come into a store.
pub(super) struct Ingestion<'a, S> {
    pub(super) store: &'a S,
    pub(super) fence: Fence,
    pub(super) folder: &'a JournalFolder,
    pub(super) run_bytes_max: u64,
}

impl<S: Store> Ingestion<'_, S> {
    /// Brings a segment into the store, unless `stored` says that an earlier attempt came so far, and gives its file
    /// up. What failed may be done again, but the file may have its new name by then: only its folder was not synced.
    pub(super) fn ingest_and_free(
        &self,
        segment: &SealedSegment,
        stored: &mut Option<IngestReport>,
        watch: impl FnMut(&IngestReport),
    ) -> Result<IngestReport, IngestError> {
        let report = match *stored {
            Some(report) => report,
            None => {
                let segments = std::slice::from_ref(segment);
                let ingested = ingest_in_runs(self.store, self.fence, segments, self.run_bytes_max, watch);
                pollster::block_on(ingested)?
            }
        };
        *stored = Some(report);
        self.folder.free(segment.number)?;
        Ok(report)
    }
}

/// Tells how far it is with one of the two.
#[derive(Debug)]
pub struct Progress<'a> {
    doing: &'static str,
    done: &'a Counter,
    of: &'a Counter,
    told: Instant,
}

impl<'a> Progress<'a> {
    /// Of a start that reads its journal.
    #[must_use]
    pub fn of_reading(journal: &'a JournalCounters) -> Self {
        Self::new("reading the journal", &journal.recovery_read_bytes_done, &journal.recovery_read_bytes)
    }

    /// Of a start that brings what it has read into the store.
    #[must_use]
    pub fn of_bringing_in(journal: &'a JournalCounters) -> Self {
        Self::new("recovering", &journal.recovery_bytes_done, &journal.recovery_bytes)
    }

    fn new(doing: &'static str, done: &'a Counter, of: &'a Counter) -> Self {
        Self { doing, done, of, told: Instant::now() }
    }

    /// So much has been read.
    pub fn has_read(&mut self, reading: Reading) {
        self.of.set(reading.of);
        self.has_done(reading.bytes);
    }

    /// So many bytes are done.
    pub fn has_done(&mut self, bytes: u64) {
        self.done.set(bytes);
        if self.told.elapsed() >= Duration::from_millis(RECOVERY_LOG_MS) {
            self.told = Instant::now();
            info!(done_mib = bytes / MIB, of_mib = self.of.get() / MIB, "{}", self.doing);
        }
    }
}

/// What a start is doing with its journal, if it is.
#[must_use]
pub fn in_words(journal: &JournalCounters) -> Option<String> {
    let words = |doing: &str, done: &Counter, of: &Counter| {
        let (done, of) = (done.get(), of.get());
        // The last mebibyte is not done before it is.
        (done < of).then(|| format!("{doing}, {} of {} MiB", done / MIB, of.div_ceil(MIB)))
    };
    words("reading the journal", &journal.recovery_read_bytes_done, &journal.recovery_read_bytes)
        .or_else(|| words("recovering", &journal.recovery_bytes_done, &journal.recovery_bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use proto_spec::{Content, DeviceId, Entry, Event, Seq, TimestampMs, UserId};
    use storage::{
        Batch, BatchId, CommitFault, LaneId, MemoryStore, Query, Record, answer,
        journal::{JournalConfig, Writer, recover},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::io::background::prepare;

    /// Two runs and a half, of batches of a mebibyte, in one segment.
    const BATCHES: u64 = 40;
    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * MIB, journal_bytes_max: 256 * MIB, reserve_bytes: 0 };

    /// A data folder of a server that was killed, and its store, which has nothing of what the journal holds.
    struct World {
        store: Arc<MemoryStore>,
        counters: Arc<Counters>,
        data: Arc<DataDir>,
        _dir: TempDir,
    }

    impl World {
        fn new(batch: &Batch, batches: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let data = Arc::new(DataDir::open(dir.path()).unwrap());
            let (store, counters) = (Arc::default(), Arc::new(Counters::new(1)));
            let world = Self { store, counters, data, _dir: dir };
            world.recovery().bring_in(&*world.store).unwrap();
            let mut writer = Writer::new(CONFIG, Position::default());
            let number = writer.wants_segment().unwrap();
            let (salt, file) = prepare(&world.folder(), number).unwrap();
            writer.add_segment(number, salt);
            for id in 1..=batches {
                writer.push(LaneId(0), BatchId(id), batch.bytes());
                let write = writer.next_write().unwrap();
                file.write_all_at(&write.bytes, write.offset).unwrap();
                writer.written(write.bytes);
            }
            world
        }

        fn folder(&self) -> JournalFolder {
            JournalFolder::open(&self.data.journal(), CONFIG.segment_bytes).unwrap()
        }

        /// Of the next start.
        fn recovery(&self) -> Recovery {
            let found = recover(&self.data.journal()).unwrap();
            Recovery::new(self.folder(), Arc::clone(&self.data), Arc::clone(&self.counters), Arc::default(), found)
        }

        fn progress(&self) -> Vec<(LaneId, BatchId)> {
            pollster::block_on(self.store.progress()).unwrap()
        }
    }

    fn cursor() -> Batch {
        let mut batch = Batch::default();
        batch.push(&Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(3) });
        batch
    }

    fn mebibyte() -> Batch {
        let mut batch = Batch::default();
        for seq in 1..=256 {
            let event =
                Event::Received { from: UserId(2), origin: Seq(seq), content: Content::text(&"x".repeat(4096)) };
            let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
            batch.push(&Record::Append { user: UserId(1), entry, replaces: None, count: 0 });
        }
        batch
    }

    #[test]
    fn it_tells_how_far_it_is_within_a_segment_and_the_next_start_goes_on_from_there() {
        let world = World::new(&mebibyte(), BATCHES);
        let (done, of) = (&world.counters.journal.recovery_bytes_done, &world.counters.journal.recovery_bytes);
        world.store.let_next_commit_succeed();
        world.store.fail_next_commit(CommitFault::Unavailable);
        let mut recovery = world.recovery();
        recovery.bring_in(&*world.store).unwrap_err();
        assert!((1..=RECOVERY_RUN_BYTES_MAX).contains(&done.get()) && of.get() > BATCHES * MIB, "{done:?} of {of:?}");
        let first_run = world.progress();
        assert!(matches!(first_run[..], [(LaneId(0), BatchId(8..=16))]), "{first_run:?}");

        drop(recovery);
        world.store.let_next_commit_succeed();
        world.store.fail_next_commit(CommitFault::Unavailable);
        world.recovery().bring_in(&*world.store).unwrap_err();
        assert!(done.get() > RECOVERY_RUN_BYTES_MAX && world.progress()[0].1 > first_run[0].1, "{done:?}");
        world.recovery().bring_in(&*world.store).unwrap();
        assert_eq!((done.get(), world.progress()), (of.get(), vec![]), "batches count from one again");
    }

    #[test]
    fn without_room_it_goes_on_where_it_was_and_reads_see_all_of_it_meanwhile() {
        let world = World::new(&mebibyte(), BATCHES);
        let mut recovery = world.recovery();
        world.store.let_next_commit_succeed();
        world.store.fail_next_commit(CommitFault::Full);
        // What the journal keeps spare is given back, and does not help.
        fs::write(world.data.journal().join("00000000000000000009.free"), "spare").unwrap();
        world.store.fail_next_commit(CommitFault::Full);
        assert!(recovery.bring_in(&*world.store).unwrap_err().is_full());
        assert!(!world.data.journal().join("00000000000000000009.free").exists());
        let ahead = recovery.read_ahead(&world.store, CONFIG.journal_bytes_max).unwrap();
        let head = |store: &Ahead<MemoryStore>| pollster::block_on(answer(store, &Query::User(UserId(1)))).unwrap();
        let seen = head(&ahead);
        recovery.bring_in(&*world.store).unwrap();
        assert_eq!(head(&ahead), seen);
        ahead.drop_rows();
        assert_eq!(head(&ahead), seen);
        assert_eq!(recover(&world.data.journal()).unwrap().batches, 0);
    }

    #[test]
    fn more_than_memory_is_meant_for_is_not_read_into_it() {
        let world = World::new(&mebibyte(), 2);
        let refused = world.recovery().read_ahead(&world.store, MIB).unwrap_err();
        assert!(matches!(refused, StartError::TooMuch { bytes: 2_000_000.., bytes_max: MIB }), "{refused}");
    }

    #[test]
    fn a_node_that_ends_begins_no_other_segment() {
        let world = World::new(&cursor(), 1);
        let mut recovery = world.recovery();
        recovery.ended.store(true, Ordering::Relaxed);
        assert!(matches!(recovery.bring_in(&*world.store), Err(StartError::Stopped)));
        assert_eq!(recover(&world.data.journal()).unwrap().batches, 1);
    }

    #[test]
    fn a_recovery_whose_last_step_had_no_room_is_done_by_its_retry() {
        let world = World::new(&cursor(), 1);
        let mut recovery = world.recovery();
        let new = world.data.tenure_file().with_extension("new");
        fs::create_dir(&new).unwrap();
        recovery.bring_in(&*world.store).unwrap_err();
        fs::remove_dir(&new).unwrap();
        recovery.bring_in(&*world.store).unwrap();
        world.recovery().bring_in(&*world.store).unwrap();
    }

    #[test]
    fn a_segment_that_is_in_the_store_is_not_read_again_when_it_could_not_be_given_up() {
        let world = World::new(&cursor(), 1);
        let mut recovery = world.recovery();
        let segment = recovery.found.segments[0].path.clone();
        let free = segment.with_extension("free");
        fs::create_dir(&free).unwrap();
        recovery.bring_in(&*world.store).unwrap_err();
        // As a sync that failed leaves it: the file has its other name already.
        fs::remove_dir(&free).unwrap();
        fs::rename(&segment, &free).unwrap();
        recovery.bring_in(&*world.store).unwrap();
    }

    #[test]
    fn the_words_follow_a_start_from_the_first_byte_to_the_last() {
        let journal = JournalCounters::default();
        assert_eq!(in_words(&journal), None);
        let mut progress = Progress::of_reading(&journal);
        progress.has_read(Reading { bytes: 4096, of: 128 * MIB });
        assert_eq!(in_words(&journal).unwrap(), "reading the journal, 0 of 128 MiB");
        progress.has_read(Reading { bytes: 128 * MIB, of: 128 * MIB });
        assert_eq!(in_words(&journal), None);
        journal.recovery_bytes.set(100 * MIB + 1);
        let mut progress = Progress::of_bringing_in(&journal);
        assert_eq!(in_words(&journal).unwrap(), "recovering, 0 of 101 MiB");
        progress.has_done(100 * MIB);
        assert_eq!(in_words(&journal).unwrap(), "recovering, 100 of 101 MiB");
        progress.has_done(100 * MIB + 1);
        assert_eq!(in_words(&journal), None);
    }
}
