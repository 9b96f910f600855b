//! The journal's threads: `ringpost-segments` makes segments before they are needed, `ringpost-ingest` brings sealed
//! ones into the store and frees them. Both block; core 0 asks them through bounded channels and hears by mail.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, bounded};
use storage::{
    Fence, IngestError, IngestReport, Store, StoreError, ingest_in_runs,
    journal::{
        JournalError, JournalFolder, Position, Prepared, Recovered, Salt, Sealed, SealedSegment, SegmentNumber, Torn,
    },
    store::RECOVERY_RUN_BYTES_MAX,
};
use tracing::{debug, error, info, warn};

use super::{
    commit::Background, counters::Counters, mailbox::Mailbox, message::CoreMessage, node::AbortOnPanic,
    recovery::Progress,
};
use crate::{
    committer::{Duty, ingest_retry_ms},
    limits::{INGEST_RETRY_MS, TICK_MS, UNFINISHED_PAGE},
    topology::Topology,
};

/// What both threads need.
pub(super) struct World<S> {
    pub(super) folder: JournalFolder,
    pub(super) store: Arc<S>,
    pub(super) fence: Fence,
    pub(super) mailboxes: Arc<[Mailbox<CoreMessage>]>,
    pub(super) counters: Arc<Counters>,
    /// Set when the node ends: a run that does not succeed is not tried again.
    pub(super) ended: Arc<AtomicBool>,
}

impl<S> Clone for World<S> {
    fn clone(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            store: Arc::clone(&self.store),
            fence: self.fence,
            mailboxes: Arc::clone(&self.mailboxes),
            counters: Arc::clone(&self.counters),
            ended: Arc::clone(&self.ended),
        }
    }
}

/// Where core 0 asks.
pub(super) type Channels = (Sender<SegmentNumber>, Sender<Duty>);

/// Starts both threads. They end when the channels' senders are gone.
pub(super) fn start<S: Store>(world: &World<S>, segments_max: u64) -> io::Result<(Channels, Vec<JoinHandle<()>>)> {
    // One segment is asked for at a time; no more can be sealed than there are.
    let (to_segments, wanted) = bounded(1);
    let (to_ingest, sealed) = bounded(segments_max as usize);
    let (maker, ingester) = (world.clone(), world.clone());
    let threads = vec![
        thread::Builder::new().name("ringpost-segments".into()).spawn(move || maker.make(&wanted))?,
        thread::Builder::new().name("ringpost-ingest".into()).spawn(move || ingester.ingest(&sealed))?,
    ];
    Ok(((to_segments, to_ingest), threads))
}

/// Makes a segment and opens it for writing.
pub(super) fn prepare(folder: &JournalFolder, number: SegmentNumber) -> Result<(Salt, File), JournalError> {
    opened(folder.prepare(number)?)
}

/// Does something that takes room. If the disk has none, it is done again when the journal has given back what it keeps spare.
pub(super) fn with_room<T, E>(
    folder: &JournalFolder,
    empty: &[SegmentNumber],
    is_full: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match work() {
        Err(error) if is_full(&error) => match folder.give_back(empty) {
            Ok(0) => Err(error),
            Ok(bytes) => {
                warn!(bytes, "the disk has no room: the journal has given back segments that it kept spare");
                work()
            }
            Err(failed) => {
                warn!(error = %failed, "the disk has no room, and the journal could not give back what it keeps spare");
                Err(error)
            }
        },
        done => done,
    }
}

fn opened(Prepared { path, salt }: Prepared) -> Result<(Salt, File), JournalError> {
    let file = open(&path).map_err(|source| JournalError::Io { action: "open", path, source })?;
    Ok((salt, file))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

impl<S: Store> World<S> {
    fn make(&self, wanted: &Receiver<SegmentNumber>) {
        let _guard = AbortOnPanic;
        for segment in wanted {
            self.tell(match self.folder.prepare_gently(segment).and_then(opened) {
                Ok((salt, file)) => Background::Prepared { segment, salt, file },
                Err(error) => {
                    warn!(%segment, %error, "a journal segment could not be made; it will be tried again");
                    Background::PrepareFailed { full: error.is_full() }
                }
            });
        }
    }

    fn ingest(&self, queue: &Receiver<Duty>) {
        let _guard = AbortOnPanic;
        for duty in queue {
            // What is in the store already has only its file left.
            let (sealed, committed) = match duty {
                Duty::Ingest(sealed) => (sealed, None),
                Duty::Free(sealed) => (sealed, Some(IngestReport::default())),
            };
            if !self.ingest_until_done(&sealed, committed) {
                return;
            }
            self.tell(Background::Ingested(sealed));
        }
    }

    /// False when the node ended before the segment was in the store. The next start does it again.
    fn ingest_until_done(&self, sealed: &Sealed, mut committed: Option<IngestReport>) -> bool {
        let mut failures = 0;
        let segment = SealedSegment::new(&self.folder, sealed);
        while !self.ended.load(Ordering::Relaxed) {
            let started = Instant::now();
            match self.ingest_and_free(&segment, self.store.kind().run_bytes_max(), &mut committed, |_| ()) {
                // There was nothing to bring.
                Ok(report) if report.batches == 0 => return true,
                Ok(report) => {
                    let ms = started.elapsed().as_millis() as u64;
                    self.counters.journal.ingest_runs.one();
                    self.counters.journal.ingest_rows.add(report.rows);
                    self.counters.journal.ingest_ms_sum.add(ms);
                    debug!(segment = %sealed.segment, rows = report.rows, ms, "ingested");
                    return true;
                }
                Err(IngestError::Store(error @ (StoreError::Fenced { .. } | StoreError::OutOfStep { .. }))) => {
                    self.tell(Background::Lost(error.to_string()));
                    return false;
                }
                Err(error) => {
                    error!(segment = %sealed.segment, %error, "a journal segment could not be ingested; trying again");
                    self.counters.journal.ingest_retries.one();
                    if failures == 0 && committed.is_none() {
                        self.tell(Background::StoreAway);
                    }
                    failures += 1;
                    self.wait(ingest_retry_ms(failures, error.is_retryable()));
                }
            }
        }
        false
    }

    /// Sleeps for so many milliseconds, or until the node has ended.
    fn wait(&self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        while !self.ended.load(Ordering::Relaxed)
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            thread::sleep(left.min(Duration::from_millis(TICK_MS)));
        }
    }

    /// Brings a segment into the store, unless `committed` says that an earlier attempt came so far, and gives its file
    /// up. What failed may be done again, but the file may have its new name by then: only its folder was not synced.
    fn ingest_and_free(
        &self,
        segment: &SealedSegment,
        run_bytes_max: u64,
        committed: &mut Option<IngestReport>,
        watch: impl FnMut(&IngestReport),
    ) -> Result<IngestReport, IngestError> {
        let report = match *committed {
            Some(report) => report,
            None => pollster::block_on(ingest_in_runs(
                &*self.store,
                self.fence,
                std::slice::from_ref(segment),
                run_bytes_max,
                watch,
            ))?,
        };
        *committed = Some(report);
        self.folder.free(segment.number)?;
        Ok(report)
    }

    /// Brings everything that the journal holds after a stop or a crash into the store. Says where the journal goes on.
    pub(super) fn recover(&self, found: Recovered) -> Result<Position, IngestError> {
        let Recovered { segments, empty, batches, next, torn, .. } = found;
        if let Some(Torn { path, offset, bytes }) = torn {
            info!(path = %path.display(), offset, bytes, "the last group was not written whole; nobody was told of it");
        }
        let mut progress = Progress::of_bringing_in(&self.counters.journal);
        let mut done = 0;
        // One by one, in small runs: what is done is done if the next one fails, or the process ends.
        for segment in &segments {
            let mut committed = None;
            let bring_in = || {
                let watch = |run: &IngestReport| progress.has_done(done + run.journal_bytes);
                self.ingest_and_free(segment, RECOVERY_RUN_BYTES_MAX, &mut committed, watch)
            };
            with_room(&self.folder, &empty, IngestError::is_full, bring_in)?;
            done += segment.bytes();
            progress.has_done(done);
        }
        for segment in empty {
            self.folder.free(segment)?;
        }
        if batches > 0 {
            info!(batches, segments = segments.len(), "the journal has been brought into the store");
        }
        Ok(next)
    }

    /// Tells the cores of users whose duties are left over from before, while the node serves already.
    pub(super) fn tell_unfinished(&self, topology: Topology) {
        let mut after = None;
        while !self.ended.load(Ordering::Relaxed) {
            match pollster::block_on(storage::unfinished(&*self.store, after, UNFINISHED_PAGE)) {
                Ok(users) => {
                    for &user in &users {
                        let home = topology.home_of(user);
                        self.mailboxes[usize::from(home.0)].put_waiting(CoreMessage::Unfinished(user));
                    }
                    match users.last() {
                        Some(&last) => after = Some(last),
                        None => return,
                    }
                }
                Err(error) => {
                    warn!(%error, "users with unfinished duties could not be read; trying again");
                    self.wait(INGEST_RETRY_MS);
                }
            }
        }
    }

    fn tell(&self, news: Background) {
        self.mailboxes[0].put_waiting(CoreMessage::Background(Box::new(news)));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use proto_spec::{Content, DeviceId, Entry, Event, Seq, TimestampMs, UserId};
    use storage::{
        Batch, BatchId, CommitFault, Holder, LaneId, MemoryStore, Record,
        journal::{JournalConfig, Writer, recover},
    };

    use super::*;

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 0 };

    fn world(folder: JournalFolder) -> World<MemoryStore> {
        let store = Arc::new(MemoryStore::default());
        World {
            folder,
            fence: pollster::block_on(store.take_over()).unwrap(),
            store,
            mailboxes: Arc::new([]),
            counters: Arc::new(Counters::new(1)),
            ended: Arc::default(),
        }
    }

    /// A segment with one cursor in it.
    fn sealed(folder: &JournalFolder) -> SealedSegment {
        let mut writer = Writer::new(CONFIG, Position::default());
        let number = writer.wants_segment().unwrap();
        let (salt, file) = prepare(folder, number).unwrap();
        writer.add_segment(number, salt);
        let mut batch = Batch::default();
        batch.push(&Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(3) });
        writer.push(LaneId(0), BatchId(1), batch.bytes());
        let write = writer.next_write().unwrap();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        writer.written(write.bytes);
        SealedSegment::new(folder, &writer.seal().unwrap())
    }

    /// A segment of so many batches, of a mebibyte each.
    fn large(folder: &JournalFolder, config: JournalConfig, batches: u64) -> SealedSegment {
        let mut batch = Batch::default();
        for seq in 1..=256 {
            let content = Content::text(&"x".repeat(4096));
            let event = Event::Received { from: UserId(2), origin: Seq(seq), content };
            let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
            batch.push(&Record::Append { user: UserId(1), entry, replaces: None });
        }
        let mut writer = Writer::new(config, Position::default());
        let number = writer.wants_segment().unwrap();
        let (salt, file) = prepare(folder, number).unwrap();
        writer.add_segment(number, salt);
        for id in 1..=batches {
            writer.push(LaneId(0), BatchId(id), batch.bytes());
            let write = writer.next_write().unwrap();
            file.write_all_at(&write.bytes, write.offset).unwrap();
            writer.written(write.bytes);
        }
        SealedSegment::new(folder, &writer.seal().unwrap())
    }

    #[test]
    fn a_recovery_tells_how_far_it_is_within_a_segment_and_goes_on_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { segment_bytes: 64 << 20, journal_bytes_max: 256 << 20, reserve_bytes: 0 };
        let world = world(JournalFolder::open(dir.path(), config.segment_bytes).unwrap());
        pollster::block_on(world.store.begin(world.fence, Holder(1))).unwrap();
        let bytes = large(&world.folder, config, 40).bytes();
        let done = || world.counters.journal.recovery_bytes_done.get();
        world.store.let_next_commit_succeed();
        world.store.fail_next_commit(CommitFault::Unavailable);
        world.recover(recover(dir.path()).unwrap()).unwrap_err();
        let first_run = done();
        assert!((1..=RECOVERY_RUN_BYTES_MAX).contains(&first_run), "{first_run}");
        // The next start finds in the store what is there, and brings in the rest.
        assert_eq!(pollster::block_on(world.store.progress()).unwrap(), [(LaneId(0), BatchId(first_run >> 20))]);
        world.recover(recover(dir.path()).unwrap()).unwrap();
        assert_eq!(done(), bytes);
        assert_eq!(pollster::block_on(world.store.progress()).unwrap(), [(LaneId(0), BatchId(40))]);
    }

    #[test]
    fn a_segment_that_is_in_the_store_is_not_read_again_when_it_could_not_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap());
        let segment = sealed(&world.folder);
        let free = segment.path.with_extension("free");
        fs::create_dir(&free).unwrap();
        let mut committed = None;
        world.ingest_and_free(&segment, RECOVERY_RUN_BYTES_MAX, &mut committed, |_| ()).unwrap_err();
        // As a sync that failed leaves it: the file has its other name already.
        fs::remove_dir(&free).unwrap();
        fs::rename(&segment.path, &free).unwrap();
        assert_eq!(world.ingest_and_free(&segment, RECOVERY_RUN_BYTES_MAX, &mut committed, |_| ()).unwrap().batches, 1);
    }
}
