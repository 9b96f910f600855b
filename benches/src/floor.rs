//! Floor of the disk: what the bytes of a load cost when nobody decides anything about them. [`journal`] writes groups through a ring, each with
//! its linked sync; [`ingestion`] hands sorted rows to the embedded store. With the bare relay they are what a server at default durability is
//! compared with, measured in the same run.
//!
//! CPU is that of the whole process, threads of the kernel's ring and of the store included: nothing else may be going on in it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
    time::{Duration, Instant},
};

use rim::ring::{Doorbell, JournalRing, SetupError};
use rustix::time::{ClockId, clock_gettime};
use storage::{
    Batch, EmbeddedConfig, EmbeddedStore, Run, Store as _, StoreError, contract::block_on, fold::Fold,
    journal::JournalConfig,
};
use thiserror::Error;

use crate::history::History;

/// How long one wait for a group lasts at most; then it is waited again.
const GROUP_TIME_MAX: Duration = Duration::from_secs(1);

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time of the process.
    pub cpu: Duration,
    /// Time that has passed.
    pub wall: Duration,
}

/// Why a floor could not be measured.
#[derive(Debug, Error)]
pub enum FloorError {
    /// The ring could not be had.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The disk or the ring.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Meter {
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    fn start() -> Self {
        Self { cpu: process_cpu(), wall: Instant::now() }
    }

    fn stop(&self) -> Cost {
        Cost { cpu: process_cpu().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What is written to the journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalLoad {
    /// How many groups, one after the other.
    pub groups: u64,
    /// Bytes of each; at least 1, at most a segment of the default size.
    pub group_bytes: usize,
}

/// What the journal's floor has cost.
#[derive(Clone, Debug)]
pub struct JournalFloor {
    /// All groups.
    pub cost: Cost,
    /// From the begin of a write to the end of its sync, by ascending time: one for each group.
    pub groups: Vec<Duration>,
}

/// Writes groups, each after the sync of the one before, into a file in `folder` that is as large as a segment, and zeroed as segments are
/// (which is not measured). It is written over from the front when it is full, and removed at the end.
///
/// # Errors
/// There is no room, or no ring.
///
/// # Panics
/// A group is empty or larger than the file.
pub fn journal(folder: &Path, load: JournalLoad) -> Result<JournalFloor, FloorError> {
    let file_bytes = JournalConfig::default().segment_bytes;
    assert!((1..=file_bytes).contains(&(load.group_bytes as u64)), "a group fits a segment and is not empty");
    let path = folder.join("floor-journal");
    let file = OpenOptions::new().create_new(true).write(true).open(&path)?;
    // The file goes with the descriptor.
    fs::remove_file(&path)?;
    file.write_all_at(&vec![0; file_bytes as usize], 0)?;
    file.sync_all()?;

    let mut ring = JournalRing::new(&Doorbell::new()?)?;
    ring.disable_doorbell();
    let mut bytes = vec![0x5a; load.group_bytes];
    let mut groups = Vec::with_capacity(load.groups as usize);
    let mut offset = 0;
    let meter = Meter::start();
    for _ in 0..load.groups {
        if offset + load.group_bytes as u64 > file_bytes {
            offset = 0;
        }
        let begun = Instant::now();
        ring.write_and_sync(file.as_fd(), offset, bytes);
        let written = loop {
            ring.wait(GROUP_TIME_MAX)?;
            if let Some(written) = ring.take()? {
                break written;
            }
        };
        if let Some(error) = [written.write, written.sync].into_iter().find(|result| *result < 0) {
            return Err(io::Error::from_raw_os_error(-error).into());
        }
        if written.write as usize != written.bytes.len() {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = written.bytes;
        groups.push(begun.elapsed());
        offset += load.group_bytes as u64;
    }
    let cost = meter.stop();
    groups.sort_unstable();
    Ok(JournalFloor { cost, groups })
}

/// Whose rows are ingested.
#[derive(Clone, Copy, Debug)]
pub struct IngestionLoad {
    /// Users who write to each other; at least two.
    pub users: usize,
    /// Messages of 100 bytes. All their rows are in memory at once, about 600 bytes a message.
    pub messages: u64,
    /// Messages whose rows go into the store together.
    pub messages_per_run: u64,
}

/// What the ingestion's floor has cost.
#[derive(Clone, Copy, Debug)]
pub struct IngestionFloor {
    /// All runs, and the compaction that followed from them.
    pub cost: Cost,
    /// Rows that were ingested.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub row_bytes: u64,
}

/// Ingests the rows of a history, sorted, into a new store in `folder`, which stays. They are the rows that the server would have made of it;
/// making and sorting them is not measured.
///
/// # Errors
/// The store does not take them.
///
/// # Panics
/// There are fewer than two users, or no messages in a run.
pub fn ingestion(folder: &Path, load: IngestionLoad) -> Result<IngestionFloor, FloorError> {
    let runs = runs(load);
    let rows = runs.iter().map(|run| run.len() as u64).sum();
    let row_bytes = runs.iter().map(|run| run.bytes() as u64).sum();
    let store = EmbeddedStore::open(folder, EmbeddedConfig::default())?;
    let fence = block_on(store.take_over())?;
    let meter = Meter::start();
    for run in &runs {
        block_on(store.commit(fence, run))?;
    }
    store.settle(|| ());
    Ok(IngestionFloor { cost: meter.stop(), rows, row_bytes })
}

fn runs(load: IngestionLoad) -> Vec<Run> {
    assert!(load.messages_per_run > 0, "a run has messages");
    let mut history = History::new(load.users);
    let mut batch = Batch::default();
    let mut left = load.messages;
    let mut runs = Vec::new();
    while left > 0 {
        let mut fold = Fold::default();
        for _ in 0..left.min(load.messages_per_run) {
            batch.clear();
            history.message(&mut batch);
            fold.add(batch.bytes()).expect("what a batch took can be read");
        }
        left = left.saturating_sub(load.messages_per_run);
        // As if the store had nothing to merge with: the rows are as many and as long.
        let sorted = fold.sort();
        let base = vec![None; sorted.needed().len()];
        runs.push(sorted.finish(base));
    }
    runs
}

#[cfg(test)]
mod tests {
    use storage::{Answer, Query, answer};

    use super::*;

    #[test]
    fn every_group_is_written_and_timed_and_no_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let floor = journal(dir.path(), JournalLoad { groups: 5, group_bytes: 300 }).unwrap();
        assert_eq!(floor.groups.len(), 5);
        assert!(floor.groups.is_sorted() && floor.cost.wall >= floor.groups.iter().sum::<Duration>());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn groups_beyond_the_end_of_the_file_begin_again_at_its_front() {
        let dir = tempfile::tempdir().unwrap();
        let group_bytes = JournalConfig::default().segment_bytes as usize / 2 + 1;
        assert_eq!(journal(dir.path(), JournalLoad { groups: 2, group_bytes }).unwrap().groups.len(), 2);
    }

    #[test]
    fn the_rows_of_all_messages_are_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let load = IngestionLoad { users: 2, messages: 250, messages_per_run: 100 };
        let floor = ingestion(dir.path(), load).unwrap();
        assert_eq!(floor.rows, runs(load).iter().map(|run| run.len() as u64).sum::<u64>());
        assert!(floor.row_bytes > 250 * 2 * 100, "each text is in two logs: {floor:?}");
        let store = EmbeddedStore::open(dir.path(), EmbeddedConfig::default()).unwrap();
        let head = |user| match block_on(answer(&store, &Query::User(proto_spec::UserId(user)))).unwrap() {
            Answer::User(snapshot) => snapshot.head.0,
            other => panic!("{other:?}"),
        };
        assert_eq!((head(1), head(2)), (250, 250), "each of the two has every message");
    }
}
