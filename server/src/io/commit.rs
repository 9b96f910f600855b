//! Commit: the journal's I/O on core 0. Writes and syncs one group at a time through a ring of its own, and asks the
//! two threads that make and ingest segments (see `background`), whose answers come by mail. What to write and what it means that
//! it was written, or not, is decided by [`crate::durability::committer`].

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, TrySendError};
use rim::ring::{JournalRing, Written};
use storage::{Pace, journal::SegmentNumber};
use tracing::{error, info, warn};

use super::background::{Threads, set_pace};
use crate::{
    durability::committer::{Committer, Fate, Finished, Outcome},
    operator::counters::Counters,
    shard::{Admission, StoreState},
};

/// The group in flight.
#[derive(Debug)]
struct Flight {
    started: Instant,
    bytes: usize,
}

/// The journal's files and threads, for the committer of core 0.
#[derive(Debug)]
pub struct Commit {
    files: HashMap<SegmentNumber, File>,
    flight: Option<Flight>,
    to_segments: Sender<SegmentNumber>,
    to_ingest: Sender<Fate>,
    /// Files of segments that were made ready; each is here before the committer hears of its segment.
    made: Receiver<(SegmentNumber, File)>,
    pace: Arc<Pace>,
    /// The state that the log was last told.
    told: (Admission, StoreState),
    counters: Arc<Counters>,
    /// Least time between the beginnings of two groups of a calm core.
    gap: Duration,
    /// When the last group began.
    begun: Option<Instant>,
    /// A group waits until then that could begin.
    held_until: Option<Instant>,
}

impl Commit {
    /// The I/O of a journal whose first segments are in `files`.
    #[must_use]
    pub fn new(files: HashMap<SegmentNumber, File>, threads: Threads, gap: Duration, counters: Arc<Counters>) -> Self {
        let Threads { to_segments, to_ingest, made, pace } = threads;
        let told = (Admission::default(), StoreState::default());
        Self {
            files,
            flight: None,
            to_segments,
            to_ingest,
            made,
            pace,
            told,
            counters,
            gap,
            begun: None,
            held_until: None,
        }
    }

    /// Ends a turn: begins the next group if none is in flight, asks for a segment if one is wanted, and hands on those that are
    /// sealed. A calm core lets what is to be written come together for a while: see [`Commit::held_until`].
    pub fn begin(&mut self, now_ms: u64, journal: &mut Committer, ring: &mut JournalRing, is_calm: bool) {
        if let Some(segment) = journal.wanted_segment(now_ms)
            && self.to_segments.try_send(segment).is_err()
        {
            journal.prepare_failed(now_ms, false);
        }
        let held_until = self.begun.map(|begun| begun + self.gap).filter(|until| is_calm && *until > Instant::now());
        self.held_until = held_until.filter(|_| journal.is_write_due(now_ms));
        if self.held_until.is_none()
            && let Some(write) = journal.next_write(now_ms)
        {
            let now = Instant::now();
            self.begun = Some(now);
            self.files.extend(self.made.try_iter());
            let file = &self.files[&write.segment];
            self.flight = Some(Flight { started: now, bytes: write.bytes.len() });
            ring.write_and_sync(file.as_fd(), write.offset, write.bytes);
        }
        self.hand_out(journal);
        self.tell_log(journal);
    }

    /// Until when a group waits that could begin, because the last one began only just now.
    #[must_use]
    pub const fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// The write and the sync of the group in flight have ended.
    pub fn written(&mut self, now_ms: u64, journal: &mut Committer, written: Written) {
        let Some(Flight { started, bytes }) = self.flight.take() else {
            debug_assert!(false, "{written:?} without a group in flight");
            return;
        };
        let Written { write, sync, bytes: buffer } = written;
        let outcome = match usize::try_from(write) {
            Ok(written) if written == bytes && sync == 0 => Outcome::Durable,
            Ok(written) if written == bytes => Outcome::NotSynced(io::Error::from_raw_os_error(-sync)),
            Ok(_) => Outcome::NotWritten(None),
            Err(_) => Outcome::NotWritten(Some(io::Error::from_raw_os_error(-write))),
        };
        let counters = &self.counters.journal;
        if matches!(outcome, Outcome::NotWritten(_)) {
            counters.write_retries.one();
        }
        let Finished { group, sealed } = journal.finished(now_ms, outcome, buffer);
        if let Some(group) = group {
            let sync_us = started.elapsed().as_micros() as u64;
            counters.groups.one();
            counters.batches.add(group.batches);
            counters.bytes.add(group.bytes);
            counters.sync_us_sum.add(sync_us);
            counters.sync_us_max.at_least(sync_us);
        }
        if sealed {
            self.counters.journal.segments_sealed.one();
        }
    }

    /// Hands sealed segments on.
    fn hand_out(&mut self, journal: &mut Committer) {
        while let Some(fate) = journal.next_fate() {
            let (Fate::Ingest(sealed) | Fate::Free(sealed)) = &fate;
            self.files.extend(self.made.try_iter());
            self.files.remove(&sealed.segment);
            match self.to_ingest.try_send(fate) {
                // Disconnected: its thread has ended, since another server has taken over the store. The next start ingests what
                // this segment holds.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {
                    set_pace(&self.pace, self.to_ingest.len(), self.to_ingest.capacity());
                }
                Err(TrySendError::Full(_)) => unreachable!("its queue has room for all segments"),
            }
        }
    }

    /// Tells log and counters what has changed for the operator.
    fn tell_log(&mut self, journal: &Committer) {
        let now = (journal.admission(), journal.store());
        let before = std::mem::replace(&mut self.told, now);
        let (admission, store) = now;
        if admission != before.0 {
            info!(from = ?before.0, to = ?admission, "journal admission");
            self.counters.journal.admission.set(admission as u64);
            match (admission, journal.failure()) {
                (Admission::Full, _) => warn!("the disk is full: sends are refused until there is room"),
                (Admission::Failed, Some(why)) => {
                    error!(
                        why,
                        "the journal has failed: nothing more is acknowledged, reads go on; restart to recover"
                    );
                }
                _ => {}
            }
        }
        if store != before.1 {
            self.counters.journal.store_away.set(u64::from(store == StoreState::Away));
            match store {
                StoreState::Away if !journal.has_journal() => {
                    warn!("the database is away: what is sent is refused until it is back");
                }
                StoreState::Away => {
                    warn!("the store is away: what is accepted is in the journal alone until it is back")
                }
                StoreState::Present => info!("the store is back"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::{Receiver, bounded};
    use storage::{
        BatchId, LaneId,
        journal::{JournalConfig, JournalFolder, Position, Writer, recover},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{
        durability::committer::{News, OnStoreOutage},
        io::background::prepare,
        limits::COMMIT_RETRY_MS,
        shard::{Promise, topology::Topology},
    };
    use rim::ring::Doorbell;

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 4 * 1024 };

    const GAP: Duration = Duration::from_secs(3600);

    /// A journal in a temporary folder, with the ends of the channels that its threads would have.
    struct World {
        journal: Committer,
        commit: Commit,
        ring: JournalRing,
        folder: JournalFolder,
        dir: TempDir,
        wanted: Receiver<SegmentNumber>,
        sealed: Receiver<Fate>,
        files: Sender<(SegmentNumber, File)>,
        now_ms: u64,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
            let mut writer = Writer::new(CONFIG, Position::default());
            let first = writer.wants_segment().unwrap();
            let (salt, file) = prepare(&folder, first).unwrap();
            let files = HashMap::from([(first, file)]);
            writer.add_segment(first, salt);
            let (to_segments, wanted) = bounded(1);
            let (to_ingest, sealed) = bounded(4);
            let (new_files, made) = bounded(4);
            let counters = Arc::new(Counters::new(2));
            let journal =
                Committer::new(writer, Topology::new(2).unwrap(), Promise::Disk, 1_000, OnStoreOutage::Accept);
            let commit =
                Commit::new(files, Threads { to_segments, to_ingest, made, pace: Arc::default() }, GAP, counters);
            let ring = JournalRing::new(&Doorbell::new().unwrap()).unwrap();
            Self { journal, commit, ring, folder, dir, wanted, sealed, files: new_files, now_ms: 0 }
        }

        /// Puts another file in the place of the first segment's; gives back the real one.
        fn replace_file(&mut self, file: File) -> File {
            self.commit.files.insert(SegmentNumber(1), file).unwrap()
        }

        /// Ends turns until no group is in flight.
        fn turns(&mut self) {
            loop {
                self.commit.begin(self.now_ms, &mut self.journal, &mut self.ring, false);
                if self.commit.flight.is_none() {
                    return;
                }
                self.ring.wait(Duration::from_secs(1)).unwrap();
                if let Some(written) = self.ring.take().unwrap() {
                    self.commit.written(self.now_ms, &mut self.journal, written);
                }
            }
        }

        /// The news, as (core, what).
        fn news(&mut self) -> Vec<(u16, String)> {
            self.journal.news().into_iter().map(|(core, message)| (core.0, format!("{message:?}"))).collect()
        }

        fn batches_on_disk(&self) -> u64 {
            recover(self.dir.path()).unwrap().batches
        }
    }

    fn synced(core: u16, up_to: u64) -> (u16, String) {
        (core, format!("{:?}", News::Synced { lane: LaneId(core), up_to: BatchId(up_to) }))
    }

    fn admission(core: u16, admission: Admission) -> (u16, String) {
        (core, format!("{:?}", News::Admission(admission)))
    }

    #[test]
    fn batches_of_all_cores_are_durable_when_their_cores_are_told() {
        let mut world = World::new();
        world.journal.push(LaneId(0), BatchId(1), b"a");
        world.journal.push(LaneId(1), BatchId(1), b"b");
        world.journal.push(LaneId(0), BatchId(2), b"c");
        world.turns();
        assert_eq!(world.news(), [synced(0, 2), synced(1, 1)]);
        assert_eq!(world.batches_on_disk(), 3);
        assert!(world.journal.is_idle());
        assert_eq!(world.wanted.try_recv(), Ok(SegmentNumber(2)), "one segment ahead is asked for");
    }

    #[test]
    fn a_calm_core_holds_a_group_that_follows_another_at_once() {
        let mut world = World::new();
        world.journal.push(LaneId(0), BatchId(1), b"a");
        world.turns();
        let begin = |world: &mut World, is_calm| {
            world.commit.begin(world.now_ms, &mut world.journal, &mut world.ring, is_calm);
            (world.commit.held_until().is_some(), world.commit.flight.is_some())
        };
        assert_eq!(begin(&mut world, true), (false, false), "there is nothing to hold");
        world.journal.push(LaneId(0), BatchId(2), b"b");
        assert_eq!(begin(&mut world, true), (true, false));
        assert_eq!(begin(&mut world, false), (false, true), "one that has much to do does not");
        world.turns();
        assert_eq!(world.batches_on_disk(), 2);
    }

    #[test]
    fn a_full_disk_refuses_sends_and_the_group_is_written_when_there_is_room() {
        let mut world = World::new();
        let real = world.replace_file(File::options().write(true).open("/dev/full").unwrap());
        world.journal.push(LaneId(1), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Full), admission(1, Admission::Full)]);
        assert!(!world.journal.is_idle());
        world.replace_file(real);
        world.now_ms += COMMIT_RETRY_MS;
        world.turns();
        let news = world.news();
        assert_eq!(news, [synced(1, 1), admission(0, Admission::Open), admission(1, Admission::Open)]);
        assert_eq!(world.batches_on_disk(), 1);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_synced_any_more() {
        let mut world = World::new();
        // Takes the write; has nothing to sync, and says so.
        let real = world.replace_file(File::options().write(true).open("/dev/null").unwrap());
        world.journal.push(LaneId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
        world.replace_file(real);
        world.now_ms += COMMIT_RETRY_MS;
        world.journal.push(LaneId(0), BatchId(2), b"b");
        world.turns();
        assert_eq!(world.news(), []);
        assert_eq!(world.batches_on_disk(), 0);
        assert!(world.journal.is_idle(), "a stop does not wait for what will never be written");
    }

    #[test]
    fn a_write_error_other_than_want_of_room_ends_the_journal() {
        let mut world = World::new();
        world.replace_file(File::open("/dev/null").unwrap());
        world.journal.push(LaneId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
    }

    #[test]
    fn an_old_segment_is_sealed_and_its_cores_hear_when_it_is_in_the_store() {
        let mut world = World::new();
        world.journal.push(LaneId(1), BatchId(1), b"a");
        world.turns();
        let _ = world.news();
        assert!(!world.journal.seal_if_old(999));
        assert!(world.journal.seal_if_old(1_000));
        world.turns();
        let Ok(Fate::Ingest(sealed)) = world.sealed.try_recv() else { panic!("a segment was sealed") };
        assert_eq!(sealed.completes, [(LaneId(1), BatchId(1))]);
        world.journal.ingested(sealed);
        let ingested = format!("{:?}", News::Stored { lane: LaneId(1), up_to: BatchId(1) });
        assert!(world.news().contains(&(1, ingested)));
    }

    #[test]
    fn a_journal_without_its_next_segment_is_behind_and_goes_on_when_it_is_there() {
        let mut world = World::new();
        let batch = vec![7; 3 * 1024];
        let mut id = 0;
        while world.sealed.is_empty() {
            id += 1;
            world.journal.push(LaneId(0), BatchId(id), &batch);
            world.turns();
        }
        assert!(world.news().contains(&admission(0, Admission::Behind)));
        world.journal.push(LaneId(0), BatchId(id + 1), &batch);
        world.turns();
        assert!(!world.journal.is_idle());
        let segment = world.wanted.try_recv().unwrap();
        let (salt, file) = prepare(&world.folder, segment).unwrap();
        world.files.send((segment, file)).unwrap();
        world.journal.prepared(segment, salt);
        world.turns();
        let news = world.news();
        assert!(news.contains(&admission(0, Admission::Open)) && news.contains(&synced(0, id + 1)), "{news:?}");
    }

    #[test]
    fn a_segment_sealed_after_the_ingestion_has_ended_leaves_the_stop_in_order() {
        let mut world = World::new();
        world.journal.push(LaneId(1), BatchId(1), b"a");
        world.turns();
        let _ = world.news();
        // The store is another server's: whoever ingests has said so, and is gone.
        world.sealed = bounded(0).1;
        assert!(world.journal.seal_if_old(1_000));
        world.turns();
        assert!(world.journal.is_idle());
        assert_eq!(world.batches_on_disk(), 1, "the next start brings it into the store");
    }
}
