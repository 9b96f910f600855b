//! The embedded engine on a disk that fails: whichever request of a commit goes wrong, what was committed stays, and the same
//! commit succeeds when it is tried again.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::fs::File;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use storage::{
    EmbeddedConfig, EmbeddedStore, Fence, Store as _, StoreError,
    contract::{block_on, key, run},
};
use tempfile::TempDir;
use tests::{
    disk::{Disk, Fault},
    number_of,
};

/// How often a commit is tried after a fault is over. One attempt may find that what ran in the background has failed.
const ATTEMPTS: usize = 3;

/// How many moments of the second attempt are tried for each failed sync of the first one.
const CUTS: usize = 6;

/// Of the requests that make a store, most of them writes of a few bytes, one in so many is tried at most.
const STRIDE: u64 = 12;

/// About as many requests as a commit has that opens the engine again.
const REQUESTS: u64 = 60;

/// A store in which the rows 1 and 2 are committed, on a disk of its own.
struct Trial {
    store: EmbeddedStore,
    fence: Fence,
    disk: Disk,
    folder: TempDir,
}

impl Trial {
    fn new(rng: &mut StdRng) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("disk"), rng.random())?;
        let trial = Self::on(disk, folder);
        // The store's folder is made durable by whoever makes the folder around it.
        File::open(trial.disk.path()).unwrap().sync_all().unwrap();
        trial.commit([(1, "one"), (2, "two")]).unwrap();
        Some(trial)
    }

    fn on(disk: Disk, folder: TempDir) -> Self {
        let store = open(&disk).unwrap();
        let fence = block_on(store.take_over()).unwrap();
        Self { store, fence, disk, folder }
    }

    /// The power fails, if it has not yet, and the store is opened again.
    fn lose_power(self) -> Self {
        let Self { store, disk, folder, .. } = self;
        disk.cut_power();
        disk.heal();
        drop(store);
        disk.restore_power();
        Self::on(disk, folder)
    }

    fn commit<const N: usize>(&self, rows: [(u64, &str); N]) -> Result<(), StoreError> {
        let rows = rows.map(|(number, text)| (number, Some(text.as_bytes())));
        block_on(self.store.commit(self.fence, &run(rows)))
    }

    /// What goes wrong in the trials.
    fn commit_changes(&self) -> Result<(), StoreError> {
        self.commit([(2, "new"), (3, "three")])
    }

    fn commit_changes_when_healed(&self) {
        let results: Vec<_> = (0..ATTEMPTS).map(|_| self.commit_changes()).take_while(Result::is_err).collect();
        assert!(results.len() < ATTEMPTS, "{results:?}");
        assert!(self.is_changed());
    }

    fn has(&self, rows: [&str; 3]) -> bool {
        let read = |number| block_on(self.store.get(&key(number))).unwrap().unwrap_or_default();
        [1, 2, 3].map(read).iter().zip(rows).all(|(found, row)| found == row.as_bytes())
    }

    fn is_changed(&self) -> bool {
        self.has(["one", "new", "three"])
    }

    /// All of a commit is there; or nothing, unless it has succeeded.
    fn is_whole(&self, committed: &Result<(), StoreError>) -> bool {
        self.is_changed() || (committed.is_err() && self.has(["one", "two", ""]))
    }
}

fn open(disk: &Disk) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(
        &disk.path().join("store"),
        EmbeddedConfig { cache_bytes: 1024 * 1024, ..EmbeddedConfig::default() },
    )
}

fn rng() -> StdRng {
    let seed = number_of("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("RINGPOST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn whichever_request_loses_power_a_store_that_was_being_made_can_be_made() {
    let mut rng = rng();
    let mut request = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::new(folder.path().join("disk"), rng.random()) else { return };
        disk.fail_once_after(request, "store", Fault::PowerCut);
        drop(open(&disk));
        let met = disk.met();
        disk.heal();
        disk.cut_power();
        disk.restore_power();
        let trial = Trial::on(disk, folder);
        trial.commit([(1, "one"), (2, "two")]).unwrap();
        if met == 0 {
            println!("{request} requests");
            return;
        }
        request += rng.random_range(1..STRIDE);
    }
}

#[test]
fn whichever_request_fails_the_same_commit_succeeds_later() {
    let mut rng = rng();
    for fault in [Fault::Sync, Fault::Write, Fault::FullForAll, Fault::ReadOnly] {
        for request in 0.. {
            let Some(trial) = Trial::new(&mut rng) else { return };
            trial.disk.fail_once_after(request, "store", fault);
            let committed = trial.commit_changes();
            let met = trial.disk.met();
            trial.disk.heal();
            assert!(trial.is_whole(&committed), "{fault:?} {request}");
            trial.commit_changes_when_healed();
            assert!(trial.lose_power().is_changed(), "{fault:?} {request}");
            if met == 0 {
                println!("{fault:?}: {request} requests");
                break;
            }
        }
    }
}

#[test]
fn whichever_request_loses_power_a_commit_is_whole_and_durable_if_it_succeeded() {
    let mut rng = rng();
    for request in 0.. {
        let Some(trial) = Trial::new(&mut rng) else { return };
        trial.disk.fail_once_after(request, "store", Fault::PowerCut);
        let committed = trial.commit_changes();
        let met = trial.disk.met();
        let trial = trial.lose_power();
        assert!(trial.is_whole(&committed), "{request}");
        trial.commit_changes_when_healed();
        if met == 0 {
            println!("{request} requests");
            return;
        }
    }
}

#[test]
fn a_power_cut_while_a_failed_commit_is_tried_again_harms_nothing() {
    let mut rng = rng();
    for request in 0.. {
        for _ in 0..CUTS {
            let Some(trial) = Trial::new(&mut rng) else { return };
            trial.disk.fail_once_after(request, "store", Fault::Sync);
            let first = trial.commit_changes();
            if trial.disk.met() == 0 {
                println!("{request} requests");
                return;
            }
            let later = rng.random_range(0..REQUESTS);
            trial.disk.fail_once_after(later, "store", Fault::PowerCut);
            let committed = trial.commit_changes().or(first);
            let trial = trial.lose_power();
            assert!(trial.is_whole(&committed), "{request} {later}");
            trial.commit_changes_when_healed();
        }
    }
}

/// Text that does not compress.
fn noise(rng: &mut StdRng, bytes: usize) -> String {
    (0..bytes).map(|_| char::from(rng.random_range(b' '..=b'~'))).collect()
}

#[test]
fn a_disk_that_is_full_of_what_the_engine_keeps_is_not_full_for_ever() {
    let mut rng = rng();
    let Some(trial) = Trial::new(&mut rng) else { return };
    trial.disk.leave_room(256 * 1024);
    let large = noise(&mut rng, 512 * 1024);
    // What of it has been written stays beside the tree, and leaves room for nothing.
    let full = trial.commit([(4, &large)]);
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert!(matches!(trial.commit([(4, &large)]), Err(StoreError::Full { .. })));
    assert!(trial.has(["one", "two", ""]), "it is read meanwhile");
    trial.commit_changes_when_healed();
    trial.disk.heal();
    trial.commit([(4, &large)]).unwrap();
    assert!(trial.lose_power().is_changed());
}

#[test]
fn a_store_is_opened_and_read_on_a_disk_that_takes_nothing() {
    let Some(trial) = Trial::new(&mut rng()) else { return };
    trial.disk.fail("store", Fault::FullForAll);
    let Trial { store, disk, folder, .. } = trial;
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(block_on(store.get(&key(1))).unwrap().as_deref(), Some(&b"one"[..]));
    assert!(matches!(block_on(store.take_over()), Err(StoreError::Full { .. } | StoreError::Unknown { .. })));
    drop((store, disk, folder));
}
