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
use proto_spec::UserId;
use storage::{
    Ahead, Fence, IngestError, IngestReport, NICER, Pace, Store, StoreError,
    group::beside,
    journal::{JournalError, JournalFolder, Prepared, Reuse, Salt, Sealed, SealedSegment, SegmentNumber},
};
use tracing::{debug, error, warn};

use super::{
    mailbox::Mailbox,
    recovery::{Ingestion, Recovery},
    start_error::StartError,
    thread::{spawn, stand_below},
};
use crate::{
    core::CoreMessage,
    durability::committer::{Fate, ingest_retry_ms},
    host::clock::Clock,
    limits::{INGEST_RETRY_MS, TICK_MS, UNFINISHED_PAGE, UNFINISHED_WAITING_MAX},
    operator::counters::Counters,
    shard::topology::CoreId,
};

/// What both threads need.
pub(super) struct Background<S> {
    pub(super) folder: JournalFolder,
    pub(super) store: Arc<S>,
    pub(super) fence: Fence,
    pub(super) mailboxes: Arc<[Mailbox<CoreMessage>]>,
    pub(super) counters: Arc<Counters>,
    /// Set when the node ends: a run that does not succeed is not tried again.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) clock: Clock,
    /// The last segment was full when it was sealed: much is being written.
    pub(super) is_busy: Arc<AtomicBool>,
}

impl<S> Clone for Background<S> {
    fn clone(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            store: Arc::clone(&self.store),
            fence: self.fence,
            mailboxes: Arc::clone(&self.mailboxes),
            counters: Arc::clone(&self.counters),
            ended: Arc::clone(&self.ended),
            clock: self.clock.clone(),
            is_busy: Arc::clone(&self.is_busy),
        }
    }
}

/// Where core 0 asks, and gets files.
#[derive(Debug)]
pub struct Threads {
    pub(super) to_segments: Sender<SegmentNumber>,
    pub(super) to_ingest: Sender<Fate>,
    pub(super) made: Receiver<(SegmentNumber, File)>,
    /// How fast ingestion is to be.
    pub(super) pace: Arc<Pace>,
}

/// What a start could not bring into the store, for want of room.
pub(super) struct Rest<S> {
    pub(super) recovery: Recovery,
    /// What reads see meanwhile.
    pub(super) ahead: Arc<Ahead<S>>,
    /// Told when it is done.
    pub(super) recovered: Sender<()>,
}

/// Starts both threads. They end when the channels' senders are gone.
pub(super) fn start<S: Store>(
    shared: &Background<S>,
    segments_max: u64,
    rest: Option<Rest<S>>,
) -> io::Result<(Threads, Vec<JoinHandle<()>>)> {
    // One segment is asked for at a time; no more can be sealed than there are.
    let (to_segments, wanted) = bounded(1);
    let (to_ingest, sealed) = bounded(segments_max as usize);
    let (to_files, made) = bounded(segments_max as usize);
    let (maker, mut ingester) = (shared.clone(), shared.clone());
    let threads = vec![
        spawn("ringpost-segments", move || maker.make(&wanted, &to_files))?,
        spawn("ringpost-ingest", move || ingester.ingest(&sealed, rest))?,
    ];
    Ok((Threads { to_segments, to_ingest, made, pace: shared.store.pace() }, threads))
}

/// So many segments wait behind the one that is being ingested, of so many that may.
pub(super) fn set_pace(pace: &Pace, waiting: usize, most: Option<usize>) {
    pace.waiting(waiting as u64 + 1, most.unwrap_or_default() as u64);
}

/// A segment is being brought into the store: for the longest turns meanwhile.
struct Ingesting<'a>(&'a Counters);

impl<'a> Ingesting<'a> {
    fn begin(counters: &'a Counters) -> Self {
        counters.journal.ingesting.set(1);
        Self(counters)
    }
}

impl Drop for Ingesting<'_> {
    fn drop(&mut self) {
        self.0.journal.ingesting.set(0);
    }
}

/// Makes a segment and opens it for writing.
pub(super) fn prepare(folder: &JournalFolder, number: SegmentNumber) -> Result<(Salt, File), JournalError> {
    opened(folder.prepare(number)?)
}

fn opened(Prepared { path, salt }: Prepared) -> Result<(Salt, File), JournalError> {
    let file = open(&path).map_err(|source| JournalError::Io { action: "open", path, source })?;
    Ok((salt, file))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

impl<S: Store> Background<S> {
    fn make(&self, wanted: &Receiver<SegmentNumber>, files: &Sender<(SegmentNumber, File)>) {
        stand_below(NICER);
        for segment in wanted {
            let reuse = if self.is_busy.load(Ordering::Relaxed) { Reuse::AsItIs } else { Reuse::Wiped };
            self.tell(match self.folder.prepare_gently(segment, &self.ended, reuse).and_then(opened) {
                Ok((salt, file)) => {
                    self.counters.journal.segments_prepared.one();
                    // Without core 0 nobody wants it.
                    let _ = files.send((segment, file));
                    CoreMessage::Prepared { segment, salt }
                }
                Err(_) if self.ended.load(Ordering::Relaxed) => return,
                Err(error) => {
                    warn!(%segment, %error, "a journal segment could not be made; it will be tried again");
                    CoreMessage::PrepareFailed { full: error.is_full() }
                }
            });
        }
    }

    /// What is left of a recovery goes first: nothing may overtake what the journal held before.
    fn ingest(&mut self, queue: &Receiver<Fate>, rest: Option<Rest<S>>) {
        stand_below(NICER);
        self.trim();
        if let Some(rest) = rest
            && !self.recover_until_done(rest)
        {
            return;
        }
        while let Some(fate) = self.next_fate(queue) {
            set_pace(&self.store.pace(), queue.len(), queue.capacity());
            // What is in the store already has only its file left.
            let (sealed, stored) = match fate {
                Fate::Ingest(sealed) => (sealed, None),
                Fate::Free(sealed) => (sealed, Some(IngestReport::default())),
            };
            if !self.ingest_until_done(&sealed, stored) {
                return;
            }
            // One that was sealed by its age is not full.
            self.is_busy.store(sealed.end > self.folder.segment_bytes() / 2, Ordering::Relaxed);
            self.tell(CoreMessage::Ingested(Box::new(sealed)));
        }
    }

    /// False when the node ended before the segment was in the store. The next start does it again.
    fn ingest_until_done(&self, sealed: &Sealed, mut stored: Option<IngestReport>) -> bool {
        let mut failures = 0;
        let segment = SealedSegment::new(&self.folder, sealed);
        while !self.ended.load(Ordering::Relaxed) {
            let started = Instant::now();
            let _ingesting = Ingesting::begin(&self.counters);
            let run_bytes_max = self.store.kind().run_bytes_max();
            let ingestion = Ingestion { store: &*self.store, fence: self.fence, folder: &self.folder, run_bytes_max };
            match ingestion.ingest_and_free(&segment, &mut stored, |_| ()) {
                // There was nothing to bring.
                Ok(report) if report.batches == 0 => return true,
                Ok(report) => {
                    let ms = started.elapsed().as_millis() as u64;
                    self.counters.journal.ingest_runs.one();
                    self.counters.journal.ingest_rows.add(report.rows);
                    self.counters.journal.ingest_ms_sum.add(ms);
                    self.trim();
                    debug!(segment = %sealed.segment, rows = report.rows, ms, "ingested");
                    return true;
                }
                Err(IngestError::Store(error @ (StoreError::Fenced { .. } | StoreError::OutOfStep { .. }))) => {
                    self.tell(CoreMessage::Lost(error.to_string()));
                    return false;
                }
                Err(error) => {
                    error!(segment = %sealed.segment, %error, "a journal segment could not be ingested; trying again");
                    self.counters.journal.ingest_retries.one();
                    if failures == 0 && stored.is_none() {
                        self.tell(CoreMessage::StoreAway);
                    }
                    failures += 1;
                    self.wait(ingest_retry_ms(failures, error.is_retryable()));
                }
            }
        }
        false
    }

    /// False when the node ended before it was done. The next start does it again.
    fn recover_until_done(&mut self, Rest { mut recovery, ahead, recovered }: Rest<S>) -> bool {
        let mut failures = 0;
        while !self.ended.load(Ordering::Relaxed) {
            match recovery.bring_in(&*self.store) {
                Ok(fence) => {
                    self.fence = fence;
                    // Before anything newer can come into the store.
                    ahead.drop_rows();
                    self.tell(CoreMessage::Recovered);
                    // It waits for this, or has ended.
                    let _ = recovered.send(());
                    return true;
                }
                Err(StartError::Stopped) => return false,
                Err(error) => {
                    if !error.is_full() {
                        error!(%error, "what the journal held at the start cannot be brought into the store; trying again");
                    }
                    failures += 1;
                    self.wait(ingest_retry_ms(failures, error.is_full()));
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

    /// Tells the cores of users whose duties are left over from before, while the node serves already.
    /// `home` says who is looked for, and where they live.
    pub(super) fn tell_unfinished(&self, home: impl Fn(UserId) -> Option<CoreId>) {
        stand_below(NICER);
        let read = |after| pollster::block_on(storage::unfinished(&*self.store, after, UNFINISHED_PAGE));
        self.tell_each("users", read, |user| Some((home(user)?, CoreMessage::Unfinished(user))));
    }

    /// The same of groups, of which few owe anything at any time.
    pub(super) fn tell_unfinished_groups(&self, home: impl Fn(UserId) -> Option<CoreId>) {
        let read = |after| pollster::block_on(storage::unfinished_groups(&*self.store, after, UNFINISHED_PAGE));
        self.tell_each("groups", read, |group| Some((home(beside(group))?, CoreMessage::UnfinishedGroup(group))));
    }

    /// `read` gives a page of those behind one, `told` which core is told what of one; none: they are not looked for.
    fn tell_each<T: Copy>(
        &self,
        who: &str,
        read: impl Fn(Option<T>) -> Result<Vec<T>, StoreError>,
        told: impl Fn(T) -> Option<(CoreId, CoreMessage)>,
    ) {
        let mut after = None;
        while !self.ended.load(Ordering::Relaxed) {
            match read(after) {
                Ok(page) => {
                    for (home, news) in page.iter().filter_map(|&one| told(one)) {
                        self.mailboxes[usize::from(home.0)].put_waiting(news);
                    }
                    // Until the cores have got on: their counters are of their last tick.
                    self.wait(2 * TICK_MS);
                    while self.unfinished_waiting() >= UNFINISHED_WAITING_MAX as u64
                        && !self.ended.load(Ordering::Relaxed)
                    {
                        self.wait(TICK_MS);
                    }
                    match page.last() {
                        Some(&last) => after = Some(last),
                        None => return,
                    }
                }
                Err(error) => {
                    warn!(%error, "{who} with unfinished duties could not be read; trying again");
                    self.wait(INGEST_RETRY_MS);
                }
            }
        }
    }

    /// Users with unfinished duties whom the cores have been told of and have not loaded.
    fn unfinished_waiting(&self) -> u64 {
        (0..self.mailboxes.len() as u16).map(|core| self.counters.shard(CoreId(core)).unfinished).sum()
    }

    fn tell(&self, news: CoreMessage) {
        self.mailboxes[0].put_waiting(news);
    }
}
