//! Commit: the journal's I/O on core 0. Writes and syncs one group at a time through the core's ring, and speaks with the
//! two threads that make and ingest segments (see `background`). What to write and what it means that it was written, or
//! not, is decided by [`crate::committer`].

use std::{collections::HashMap, fs::File, io, os::fd::AsFd as _, sync::Arc, time::Instant};

use crossbeam::channel::Sender;
use storage::{
    BatchId, LaneId,
    journal::{Salt, Sealed, SegmentNumber},
};
use tracing::{error, info, warn};

use super::{
    ring::{Completion, Payload, Ring},
    token::Op,
};
use crate::{
    committer::{Committer, Duty, Finished, News, Outcome},
    counters::Counters,
    shard::{Admission, StoreState},
    topology::CoreId,
};

/// What the journal's threads tell core 0.
#[derive(Debug)]
pub enum Background {
    /// The segment that was asked for is there.
    Prepared {
        /// Which.
        segment: SegmentNumber,
        /// The salt of its records.
        salt: Salt,
        /// Its file, open for writing.
        file: File,
    },
    /// The segment that was asked for could not be made.
    PrepareFailed {
        /// Whether for want of room on the disk.
        full: bool,
    },
    /// A sealed segment is in the store and its file is free again.
    Ingested(Sealed),
    /// The store did not take a sealed segment. It is tried again.
    StoreAway,
    /// What an earlier server left in the journal is in the store, for which there was no room before.
    Recovered,
    /// The store is another server's.
    Lost(String),
}

/// The group in flight.
#[derive(Debug)]
struct Flight {
    started: Instant,
    bytes: usize,
    /// The write's result and its bytes, once it has completed.
    write: Option<(i32, Vec<u8>)>,
}

/// The journal of the node.
#[derive(Debug)]
pub struct Commit {
    committer: Committer,
    files: HashMap<SegmentNumber, File>,
    flight: Option<Flight>,
    to_segments: Sender<SegmentNumber>,
    to_ingest: Sender<Duty>,
    /// What the log was last told.
    told: (Admission, StoreState),
    counters: Arc<Counters>,
}

impl Commit {
    /// The I/O of `committer`, whose first segments are in `files`.
    #[must_use]
    pub fn new(
        committer: Committer,
        files: HashMap<SegmentNumber, File>,
        threads: (Sender<SegmentNumber>, Sender<Duty>),
        counters: Arc<Counters>,
    ) -> Self {
        let told = (Admission::Open, StoreState::Present);
        let mut commit =
            Self { committer, files, flight: None, to_segments: threads.0, to_ingest: threads.1, told, counters };
        commit.tell_log();
        commit
    }

    /// Takes a batch into the next group.
    pub fn push(&mut self, lane: LaneId, id: BatchId, bytes: &[u8]) {
        self.committer.push(lane, id, bytes);
    }

    /// Ends a turn: begins the next group if none is in flight, and asks for a segment if one is wanted.
    pub fn begin(&mut self, now_ms: u64, ring: &mut Ring) {
        if let Some(segment) = self.committer.wanted_segment(now_ms)
            && self.to_segments.try_send(segment).is_err()
        {
            self.committer.prepare_failed(now_ms, false);
        }
        if let Some(write) = self.committer.next_write(now_ms) {
            let file = &self.files[&write.segment];
            self.flight = Some(Flight { started: Instant::now(), bytes: write.bytes.len(), write: None });
            ring.write_and_sync(file.as_fd(), write.offset, write.bytes);
        }
        self.tell_log();
    }

    /// A write or sync of the ring has completed.
    pub fn completed(&mut self, now_ms: u64, completion: Completion) {
        let Some(flight) = &mut self.flight else {
            debug_assert!(false, "a completion without a group in flight");
            return;
        };
        match (completion.token.op, completion.payload) {
            (Op::JournalWrite, Payload::Returned(bytes)) => flight.write = Some((completion.result, bytes)),
            _ => self.synced(now_ms, completion.result),
        }
    }

    /// A thread of the journal has something to say.
    pub fn background(&mut self, now_ms: u64, news: Background) {
        match news {
            Background::Prepared { segment, salt, file } => {
                self.counters.journal.segments_prepared.one();
                self.files.insert(segment, file);
                self.committer.prepared(segment, salt);
            }
            Background::PrepareFailed { full } => self.committer.prepare_failed(now_ms, full),
            Background::Ingested(sealed) => self.committer.ingested(sealed),
            Background::StoreAway => self.committer.store_away(),
            Background::Recovered => self.committer.recovered(),
            Background::Lost(why) => self.committer.lost(why),
        }
        self.tell_log();
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        if self.committer.seal_if_old(now_ms) {
            self.counters.journal.segments_sealed.one();
        }
        self.hand_out();
    }

    /// A core has brought every batch of its lane up to this one into the database.
    pub fn stored(&mut self, lane: LaneId, up_to: BatchId) {
        self.committer.stored(lane, up_to);
        self.hand_out();
    }

    /// A core's lanes wait too long for the database, or do not any more.
    pub fn lanes_away(&mut self, core: CoreId, is_away: bool) {
        self.committer.lanes_away(core, is_away);
        self.tell_log();
    }

    /// The store is another server's: nothing may be promised any more.
    pub fn lost(&mut self, why: String) {
        self.committer.lost(why);
        self.tell_log();
    }

    /// What the cores have to be told since the last call.
    pub fn news(&mut self) -> Vec<(CoreId, News)> {
        self.committer.news()
    }

    /// Whether the cores have to be told something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.committer.has_news()
    }

    /// Whether nothing waits for the disk; also when nothing will ever be written again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.committer.is_idle()
    }

    /// The server stops: brings into a database what it can get. Whether that is done.
    pub fn settle(&mut self) -> bool {
        self.committer.settle();
        self.hand_out();
        self.committer.is_idle() && self.committer.is_settled()
    }

    /// The sync of the group in flight has completed; the write has, before it.
    fn synced(&mut self, now_ms: u64, result: i32) {
        let Some(Flight { started, bytes, write: Some((written, buffer)) }) = self.flight.take() else {
            // The ring's own fault: the core ends, and the process with it.
            panic!("the sync of a group completed before its write");
        };
        let outcome = match usize::try_from(written) {
            Ok(written) if written == bytes && result == 0 => Outcome::Durable,
            Ok(written) if written == bytes => Outcome::NotSynced(io::Error::from_raw_os_error(-result)),
            Ok(_) => Outcome::NotWritten(None),
            Err(_) => Outcome::NotWritten(Some(io::Error::from_raw_os_error(-written))),
        };
        let counters = &self.counters.journal;
        if matches!(outcome, Outcome::NotWritten(_)) {
            counters.write_retries.one();
        }
        let Finished { group, sealed } = self.committer.finished(now_ms, outcome, buffer);
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
        self.hand_out();
        self.tell_log();
    }

    /// Hands sealed segments on.
    fn hand_out(&mut self) {
        while let Some(duty) = self.committer.next_duty() {
            let (Duty::Ingest(sealed) | Duty::Free(sealed)) = &duty;
            self.files.remove(&sealed.segment);
            self.to_ingest.try_send(duty).expect("its queue has room for all segments, and it ends after this core");
        }
    }

    /// Tells log and counters what has changed for the operator.
    fn tell_log(&mut self) {
        let now = (self.committer.admission(), self.committer.store());
        let before = std::mem::replace(&mut self.told, now);
        let (admission, store) = now;
        if admission != before.0 {
            info!(from = ?before.0, to = ?admission, "journal admission");
            self.counters.journal.admission.set(admission as u64);
            match (admission, self.committer.failure()) {
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
    use storage::journal::{JournalConfig, JournalFolder, Position, Writer, recover};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        committer::OnStoreOutage,
        io::{background::prepare, ring::Doorbell},
        limits::COMMIT_RETRY_MS,
        shard::Promise,
        topology::Topology,
    };

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 4 * 1024 };

    /// A journal in a temporary folder, with the ends of the channels that its threads would have.
    struct World {
        commit: Commit,
        ring: Ring,
        folder: JournalFolder,
        dir: TempDir,
        wanted: Receiver<SegmentNumber>,
        sealed: Receiver<Duty>,
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
            let counters = Arc::new(Counters::new(2));
            let committer =
                Committer::new(writer, Topology::new(2).unwrap(), Promise::Disk, 1_000, OnStoreOutage::Accept);
            let commit = Commit::new(committer, files, (to_segments, to_ingest), counters);
            let ring = Ring::new(8, &Doorbell::new().unwrap()).unwrap();
            Self { commit, ring, folder, dir, wanted, sealed, now_ms: 0 }
        }

        /// Puts another file in the place of the first segment's; gives back the real one.
        fn replace_file(&mut self, file: File) -> File {
            self.commit.files.insert(SegmentNumber(1), file).unwrap()
        }

        /// Ends turns until no group is in flight.
        fn turns(&mut self) {
            loop {
                self.commit.begin(self.now_ms, &mut self.ring);
                if self.commit.flight.is_none() {
                    return;
                }
                self.ring.wait().unwrap();
                let mut completions = Vec::new();
                self.ring.take(&mut completions);
                for completion in completions {
                    self.commit.completed(self.now_ms, completion);
                }
            }
        }

        /// The news, as (core, what).
        fn news(&mut self) -> Vec<(u16, String)> {
            self.commit.news().into_iter().map(|(core, message)| (core.0, format!("{message:?}"))).collect()
        }

        fn batches_on_disk(&self) -> u64 {
            recover(self.dir.path()).unwrap().batches
        }
    }

    fn committed(core: u16, up_to: u64) -> (u16, String) {
        (core, format!("{:?}", News::Committed { lane: LaneId(core), up_to: BatchId(up_to) }))
    }

    fn admission(core: u16, admission: Admission) -> (u16, String) {
        (core, format!("{:?}", News::Admission(admission)))
    }

    #[test]
    fn batches_of_all_cores_are_durable_when_their_cores_are_told() {
        let mut world = World::new();
        world.commit.push(LaneId(0), BatchId(1), b"a");
        world.commit.push(LaneId(1), BatchId(1), b"b");
        world.commit.push(LaneId(0), BatchId(2), b"c");
        world.turns();
        assert_eq!(world.news(), [committed(0, 2), committed(1, 1)]);
        assert_eq!(world.batches_on_disk(), 3);
        assert!(world.commit.is_idle());
        assert_eq!(world.wanted.try_recv(), Ok(SegmentNumber(2)), "one segment ahead is asked for");
    }

    #[test]
    fn a_full_disk_refuses_sends_and_the_group_is_written_when_there_is_room() {
        let mut world = World::new();
        let real = world.replace_file(File::options().write(true).open("/dev/full").unwrap());
        world.commit.push(LaneId(1), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Full), admission(1, Admission::Full)]);
        assert!(!world.commit.is_idle());
        world.replace_file(real);
        world.now_ms += COMMIT_RETRY_MS;
        world.turns();
        let news = world.news();
        assert_eq!(news, [committed(1, 1), admission(0, Admission::Open), admission(1, Admission::Open)]);
        assert_eq!(world.batches_on_disk(), 1);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_committed_any_more() {
        let mut world = World::new();
        // Takes the write; has nothing to sync, and says so.
        let real = world.replace_file(File::options().write(true).open("/dev/null").unwrap());
        world.commit.push(LaneId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
        world.replace_file(real);
        world.now_ms += COMMIT_RETRY_MS;
        world.commit.push(LaneId(0), BatchId(2), b"b");
        world.turns();
        assert_eq!(world.news(), []);
        assert_eq!(world.batches_on_disk(), 0);
        assert!(world.commit.is_idle(), "a stop does not wait for what will never be written");
    }

    #[test]
    fn a_write_error_other_than_want_of_room_ends_the_journal() {
        let mut world = World::new();
        world.replace_file(File::open("/dev/null").unwrap());
        world.commit.push(LaneId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
    }

    #[test]
    fn an_old_segment_is_sealed_and_its_cores_hear_when_it_is_in_the_store() {
        let mut world = World::new();
        world.commit.push(LaneId(1), BatchId(1), b"a");
        world.turns();
        let _ = world.news();
        world.commit.tick(999);
        assert!(world.sealed.is_empty());
        world.commit.tick(1_000);
        let Ok(Duty::Ingest(sealed)) = world.sealed.try_recv() else { panic!("a segment was sealed") };
        assert_eq!(sealed.completes, [(LaneId(1), BatchId(1))]);
        world.commit.background(1_000, Background::Ingested(sealed));
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
            world.commit.push(LaneId(0), BatchId(id), &batch);
            world.turns();
        }
        assert!(world.news().contains(&admission(0, Admission::Behind)));
        world.commit.push(LaneId(0), BatchId(id + 1), &batch);
        world.turns();
        assert!(!world.commit.is_idle());
        let segment = world.wanted.try_recv().unwrap();
        let (salt, file) = prepare(&world.folder, segment).unwrap();
        world.commit.background(0, Background::Prepared { segment, salt, file });
        world.turns();
        let news = world.news();
        assert!(news.contains(&admission(0, Admission::Open)) && news.contains(&committed(0, id + 1)), "{news:?}");
    }
}
