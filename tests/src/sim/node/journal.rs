//! The node's journal on its disk: segments that are made ready, writes and syncs that are done, fail or are torn, and what the
//! cores and the oracle hear of it.
//!
//! One write is in flight at a time; a crash keeps a random part of it.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use server::{
    core::CoreMessage,
    durability::committer::{Committer, News, Outcome},
    limits::PATIENCE_MS,
    shard::{Admission, Now, StoreState, topology::CoreId},
};
use storage::{
    BatchId, LaneId, Record,
    journal::{JournalFolder, Prepared, Salt, SegmentNumber, Write},
};

use super::{
    super::{Happening, Simulation, faults::Fault},
    JOURNAL,
};

/// A torn write keeps or loses whole sectors.
const SECTOR: usize = 512;

impl Simulation {
    /// What the journal wants of its disk begins.
    pub(super) fn begin_write(&mut self, now: Now, journal: &mut Committer) {
        let number = self.machine.life;
        if let Some(segment) = journal.wanted_segment(now.monotonic_ms) {
            let delay = if self.rng.chance(10) { 400 } else { self.rng.within(0, 20) };
            self.schedule(delay, Happening::Prepared { life: number, segment });
        }
        // In every other life nothing waits for company: what comes apart into two groups there is in one elsewhere.
        let is_patient = (self.seed + u64::from(number)).is_multiple_of(2);
        let write_ms = now.monotonic_ms + if is_patient { 0 } else { PATIENCE_MS };
        let Some(life) = &mut self.machine.alive else { return };
        if let Some(write) = journal.next_write(write_ms) {
            life.in_flight = Some(write);
            let delay = if self.rng.chance(3) { self.rng.within(50, 600) } else { self.rng.within(0, 6) };
            self.schedule(delay, Happening::Written { life: number });
            if self.fault == Some(Fault::AcknowledgeBeforeCommit) {
                // The batches count although nothing is on the disk yet.
                let Some(life) = &mut self.machine.alive else { return };
                let topology = life.cores.common().topology;
                let early: Vec<(LaneId, BatchId)> = life.undecided.iter().map(|(lane, id, _)| (*lane, *id)).collect();
                for (lane, up_to) in early {
                    self.put(topology.core_of(lane), CoreMessage::News(News::Synced { lane, up_to }));
                }
            }
        }
    }

    pub(in crate::sim) fn on_written(&mut self) {
        let Some(life) = &mut self.machine.alive else { return };
        let Some(write) = life.in_flight.take() else { return };
        let outcome = self.disk_takes(&write);
        if matches!(outcome, Outcome::NotSynced(_)) {
            let delay = self.rng.within(100, 1_000);
            self.schedule(delay, Happening::Crash);
        }
        self.core_turn(CoreId(0), |core, now, rim| {
            let journal = core.journal_mut().expect("core 0 has the journal");
            let done = journal.finished(now.monotonic_ms, outcome, write.bytes);
            if done.group.is_some_and(|group| group.batches > 1) {
                rim.sim.reached("group of several batches");
            }
        });
    }

    /// A write and its sync reach the disk, or not.
    fn disk_takes(&mut self, write: &Write) -> Outcome {
        let disk_full = self.now.monotonic_ms < self.machine.disk_full_until_ms;
        let sync_fails = self.machine.chaos && self.rng.next().is_multiple_of(2_000);
        let Some(life) = &self.machine.alive else { return Outcome::Durable };
        let file = life.files[&write.segment].try_clone().expect("a file can be opened twice");
        if sync_fails {
            self.reached("failed sync");
            self.tear(&file, write);
            return Outcome::NotSynced(io::Error::other("the simulator's disk failed"));
        }
        if disk_full {
            self.reached("disk full");
            if self.fault != Some(Fault::SkipFailedGroup) {
                let short = self.rng.chance(50);
                return Outcome::NotWritten((!short).then(|| io::ErrorKind::StorageFull.into()));
            }
            return Outcome::Durable;
        }
        if !self.strikes(Fault::LyingSync, 100) {
            file.write_all_at(&write.bytes, write.offset).expect("a temporary file can be written");
        }
        Outcome::Durable
    }

    /// The oracle hears what has become durable, before the cores do.
    pub(super) fn hear_journal(&mut self, journal: &Committer) {
        let news = journal.untold().to_vec();
        let is_away = journal.store() == StoreState::Away;
        let committed: Vec<(LaneId, BatchId)> = news
            .iter()
            .filter_map(|(_, news)| match news {
                News::Synced { lane, up_to } => Some((*lane, *up_to)),
                _ => None,
            })
            .collect();
        self.decide(&committed);
        let Some(life) = &mut self.machine.alive else { return };
        if is_away {
            life.told_away.entry(CoreId(0)).or_insert_with(|| self.oracle.heads());
        } else if self.fault != Some(Fault::HideOutage) {
            // That deliberate fault keeps the core from hearing of it.
            life.told_away.remove(&CoreId(0));
        }
        for (_, news) in news {
            match news {
                News::Admission(Admission::Behind) => self.reached("ingestion behind"),
                News::Store(StoreState::Away) => self.reached("store away"),
                _ => {}
            }
        }
    }

    /// The oracle hears what has become durable, on the disk or in the database.
    pub(super) fn decide(&mut self, committed: &[(LaneId, BatchId)]) {
        let Some(life) = &mut self.machine.alive else { return };
        let is_durable = |lane: LaneId, id: BatchId| committed.iter().any(|(l, up_to)| *l == lane && id <= *up_to);
        for (lane, id, records) in std::mem::take(&mut life.undecided) {
            if !is_durable(lane, id) {
                life.undecided.push_back((lane, id, records));
                continue;
            }
            for record in &records {
                self.oracle.learns(record);
                if let Record::Append { user, entry, .. } = record {
                    self.watching.became_durable(*user, entry.seq);
                }
            }
        }
    }

    pub(in crate::sim) fn on_prepared(&mut self, segment: SegmentNumber) {
        if self.now.monotonic_ms < self.machine.disk_full_until_ms {
            self.reached("no room for a segment");
            return self.put(CoreId(0), CoreMessage::PrepareFailed { full: true });
        }
        let (salt, file) = self.prepare(segment);
        let Some(life) = &mut self.machine.alive else { return };
        life.files.insert(segment, file);
        self.put(CoreId(0), CoreMessage::Prepared { segment, salt });
    }

    pub(super) fn prepare(&mut self, segment: SegmentNumber) -> (Salt, File) {
        let folder =
            JournalFolder::open(self.machine.folder.path(), JOURNAL.segment_bytes).expect("the folder is good");
        let had_free = self.free_files() > 0;
        let Prepared { path, salt } = folder.prepare(segment).expect("the folder is good");
        if had_free {
            self.reached("segment reused");
        }
        (salt, File::options().write(true).open(path).expect("prepared just now"))
    }

    fn free_files(&self) -> usize {
        let files = std::fs::read_dir(self.machine.folder.path()).expect("the folder is good");
        files.flatten().filter(|file| file.path().extension().is_some_and(|end| end == "free")).count()
    }

    /// Some sectors of a write reach the disk, others do not.
    pub(super) fn tear(&mut self, file: &File, write: &Write) {
        let whole = self.rng.chance(25);
        for (index, sector) in write.bytes.chunks(SECTOR).enumerate() {
            if whole || self.rng.chance(50) {
                let offset = write.offset + (index * SECTOR) as u64;
                file.write_all_at(sector, offset).expect("a temporary file can be written");
            }
        }
    }
}
