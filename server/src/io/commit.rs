//! Commit: the journal's writes, on core 0. One group at a time is written and synced through the core's ring while the
//! batches of all cores gather for the next one.
//!
//! What a group is and what a finished write means is decided by `storage::journal::Writer`; segments are made and
//! ingested by two threads (see `background`). Here is what goes wrong: a disk without room is tried again, with sends
//! refused meanwhile; any other failure, and every failed sync, ends the journal: nothing is committed after it.

use std::{collections::HashMap, fs::File, io, os::fd::AsFd as _, sync::Arc, time::Instant};

use crossbeam::channel::Sender;
use storage::{
    BatchId, CoreId,
    journal::{Room, Salt, Sealed, SegmentNumber, Writer},
};
use tracing::{error, info, warn};

use super::{
    counters::Counters,
    message::CoreMessage,
    ring::{Completion, Payload, Ring},
    token::Op,
};
use crate::{limits::COMMIT_RETRY_MS, shard::Admission};

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
    writer: Writer,
    files: HashMap<SegmentNumber, File>,
    flight: Option<Flight>,
    to_segments: Sender<SegmentNumber>,
    to_ingest: Sender<Sealed>,
    cores: u16,
    /// For each core what it has to be told.
    news: Vec<(CoreId, CoreMessage)>,
    announced: Admission,
    /// The disk had no room for the last write.
    write_full: bool,
    /// The disk had no room for the last segment that was asked for.
    prepare_full: bool,
    failed: bool,
    retry_at_ms: u64,
    prepare_at_ms: u64,
    /// When the current segment got its first group.
    begun_ms: Option<u64>,
    seal_after_ms: u64,
    counters: Arc<Counters>,
}

impl Commit {
    /// A journal that goes on with `writer`, whose first segments are in `files`.
    #[must_use]
    pub fn new(
        writer: Writer,
        files: HashMap<SegmentNumber, File>,
        seal_after_ms: u64,
        threads: (Sender<SegmentNumber>, Sender<Sealed>),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            writer,
            files,
            flight: None,
            to_segments: threads.0,
            to_ingest: threads.1,
            cores: counters.cores.len() as u16,
            news: Vec::new(),
            announced: Admission::Open,
            write_full: false,
            prepare_full: false,
            failed: false,
            retry_at_ms: 0,
            prepare_at_ms: 0,
            begun_ms: None,
            seal_after_ms,
            counters,
        }
    }

    /// Takes a batch into the next group.
    pub fn push(&mut self, core: CoreId, id: BatchId, bytes: &[u8]) {
        if !self.failed {
            self.writer.push(core, id, bytes);
        }
    }

    /// Ends a turn: begins the next group if none is in flight, and asks for a segment if one is wanted.
    pub fn begin(&mut self, now_ms: u64, ring: &mut Ring) {
        if self.failed {
            return;
        }
        if now_ms >= self.prepare_at_ms
            && let Some(segment) = self.writer.wants_segment()
            && self.to_segments.try_send(segment).is_err()
        {
            self.writer.prepare_failed();
        }
        if self.flight.is_none()
            && now_ms >= self.retry_at_ms
            && let Some(write) = self.writer.next_write()
        {
            let file = &self.files[&write.segment];
            self.begun_ms.get_or_insert(now_ms);
            self.flight = Some(Flight { started: Instant::now(), bytes: write.bytes.len(), write: None });
            ring.write_and_sync(file.as_fd(), write.offset, write.bytes);
        }
        self.announce();
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
                self.writer.add_segment(segment, salt);
                self.prepare_full = false;
            }
            Background::PrepareFailed { full } => {
                self.writer.prepare_failed();
                self.prepare_at_ms = now_ms + COMMIT_RETRY_MS;
                self.prepare_full = full;
            }
            Background::Ingested(Sealed { segment, completes, .. }) => {
                self.writer.released(segment);
                for (core, up_to) in completes {
                    self.news.push((core, CoreMessage::Ingested { up_to }));
                }
            }
        }
        self.announce();
    }

    /// Time has passed: seals a segment that is old enough, so that the store gets what is in it.
    pub fn tick(&mut self, now_ms: u64) {
        if !self.failed
            && self.begun_ms.is_some_and(|begun| now_ms >= begun + self.seal_after_ms)
            && let Some(sealed) = self.writer.seal()
        {
            self.sealed(sealed);
        }
    }

    /// What the cores have to be told since the last call.
    pub fn news(&mut self) -> Vec<(CoreId, CoreMessage)> {
        std::mem::take(&mut self.news)
    }

    /// Whether the cores have to be told something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Whether nothing waits for the disk; also when nothing will ever be written again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.failed || self.writer.is_idle()
    }

    /// The sync of the group in flight has completed; the write has, before it.
    fn synced(&mut self, now_ms: u64, result: i32) {
        let Some(Flight { started, bytes, write: Some((written, buffer)) }) = self.flight.take() else {
            self.poison("sync without a write", io::Error::other("completions out of order"));
            return;
        };
        let whole = usize::try_from(written).is_ok_and(|written| written == bytes);
        match (whole, result) {
            (true, 0) => self.durable(now_ms, started, buffer),
            (true, error) => self.poison("sync", io::Error::from_raw_os_error(-error)),
            (false, _) => self.not_written(now_ms, written, buffer),
        }
    }

    fn durable(&mut self, now_ms: u64, started: Instant, buffer: Vec<u8>) {
        let done = self.writer.written(buffer);
        self.write_full = false;
        let counters = &self.counters.journal;
        let sync_us = started.elapsed().as_micros() as u64;
        counters.groups.one();
        counters.batches.add(done.group.batches);
        counters.bytes.add(done.group.bytes);
        counters.sync_us_sum.add(sync_us);
        counters.sync_us_max.at_least(sync_us);
        self.news.extend(done.committed.into_iter().map(|(core, up_to)| (core, CoreMessage::Committed { up_to })));
        match done.sealed {
            Some(sealed) => self.sealed(sealed),
            None => self.tick(now_ms),
        }
    }

    /// The write failed or was short. Without room it is tried again: nothing that was synced is touched by that.
    fn not_written(&mut self, now_ms: u64, written: i32, buffer: Vec<u8>) {
        match -written {
            // A short write is how a disk becomes full; the next attempt says so.
            libc::ENOSPC | libc::EDQUOT | ..=0 => {
                if !self.write_full {
                    warn!(bytes = buffer.len(), written, "the disk is full: sends are refused until there is room");
                }
                self.write_full = true;
            }
            libc::EINTR | libc::EAGAIN => {}
            error => {
                self.poison("write", io::Error::from_raw_os_error(error));
                return;
            }
        }
        self.counters.journal.write_retries.one();
        self.writer.write_failed(buffer);
        self.retry_at_ms = now_ms + COMMIT_RETRY_MS;
        self.announce();
    }

    fn sealed(&mut self, sealed: Sealed) {
        self.begun_ms = None;
        self.files.remove(&sealed.segment);
        self.counters.journal.segments_sealed.one();
        self.to_ingest.try_send(sealed).expect("its queue has room for all segments, and it ends after this core");
    }

    /// What is on the disk behind the last good sync is not known: nothing more is committed by this process.
    fn poison(&mut self, step: &str, error: io::Error) {
        error!(step, %error, "the journal has failed: nothing more is acknowledged, reads go on; restart to recover");
        self.failed = true;
        self.announce();
    }

    fn announce(&mut self) {
        let admission = match self.writer.admission() {
            _ if self.failed => Admission::Failed,
            _ if self.write_full => Admission::Full,
            Room::Open => Admission::Open,
            Room::NoSegment if self.prepare_full => Admission::Full,
            Room::Behind | Room::NoSegment => Admission::Behind,
        };
        if admission != self.announced {
            info!(from = ?self.announced, to = ?admission, "journal admission");
            self.announced = admission;
            self.counters.journal.admission.set(admission as u64);
            let cores = (0..self.cores).map(CoreId);
            self.news.extend(cores.map(|core| (core, CoreMessage::Admission(admission))));
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::{Receiver, bounded};
    use storage::journal::{JournalConfig, JournalFolder, Position, recover};
    use tempfile::TempDir;

    use super::*;
    use crate::io::{background::prepare, ring::Doorbell};

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 4 * 1024 };

    /// A journal in a temporary folder, with the ends of the channels that its threads would have.
    struct World {
        commit: Commit,
        ring: Ring,
        folder: JournalFolder,
        dir: TempDir,
        wanted: Receiver<SegmentNumber>,
        sealed: Receiver<Sealed>,
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
            let commit = Commit::new(writer, files, 1_000, (to_segments, to_ingest), counters);
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
        (core, format!("{:?}", CoreMessage::Committed { up_to: BatchId(up_to) }))
    }

    fn admission(core: u16, admission: Admission) -> (u16, String) {
        (core, format!("{:?}", CoreMessage::Admission(admission)))
    }

    #[test]
    fn batches_of_all_cores_are_durable_when_their_cores_are_told() {
        let mut world = World::new();
        world.commit.push(CoreId(0), BatchId(1), b"a");
        world.commit.push(CoreId(1), BatchId(1), b"b");
        world.commit.push(CoreId(0), BatchId(2), b"c");
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
        world.commit.push(CoreId(1), BatchId(1), b"a");
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
        world.commit.push(CoreId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
        world.replace_file(real);
        world.now_ms += COMMIT_RETRY_MS;
        world.commit.push(CoreId(0), BatchId(2), b"b");
        world.turns();
        assert_eq!(world.news(), []);
        assert_eq!(world.batches_on_disk(), 0);
        assert!(world.commit.is_idle(), "a stop does not wait for what will never be written");
    }

    #[test]
    fn a_write_error_other_than_want_of_room_ends_the_journal() {
        let mut world = World::new();
        world.replace_file(File::open("/dev/null").unwrap());
        world.commit.push(CoreId(0), BatchId(1), b"a");
        world.turns();
        assert_eq!(world.news(), [admission(0, Admission::Failed), admission(1, Admission::Failed)]);
    }

    #[test]
    fn an_old_segment_is_sealed_and_its_cores_hear_when_it_is_in_the_store() {
        let mut world = World::new();
        world.commit.push(CoreId(1), BatchId(1), b"a");
        world.turns();
        let _ = world.news();
        world.commit.tick(999);
        assert!(world.sealed.is_empty());
        world.commit.tick(1_000);
        let sealed = world.sealed.try_recv().unwrap();
        assert_eq!(sealed.completes, [(CoreId(1), BatchId(1))]);
        world.commit.background(1_000, Background::Ingested(sealed));
        let ingested = format!("{:?}", CoreMessage::Ingested { up_to: BatchId(1) });
        assert!(world.news().contains(&(1, ingested)));
    }

    #[test]
    fn a_journal_without_its_next_segment_is_behind_and_goes_on_when_it_is_there() {
        let mut world = World::new();
        let batch = vec![7; 3 * 1024];
        let mut id = 0;
        while world.sealed.is_empty() {
            id += 1;
            world.commit.push(CoreId(0), BatchId(id), &batch);
            world.turns();
        }
        assert!(world.news().contains(&admission(0, Admission::Behind)));
        world.commit.push(CoreId(0), BatchId(id + 1), &batch);
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
