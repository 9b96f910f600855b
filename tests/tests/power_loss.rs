//! Contract 1 and 2 against a power cut: whatever was acknowledged as committed is in both logs exactly once, though the disk
//! keeps what was synced and of the rest a random part, torn at sectors.
//!
//! Journal and store are on the disk of `tests::disk`. Segments are small and sealed early, so that a cut hits groups,
//! segments being made, ingestion, and the store's compaction.
//!
//! RINGPOST_POWER_LOSSES (10) says how often, RINGPOST_SEED which moments and which sectors.

use std::{thread, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::{
    DEADLINE,
    disk::{Disk, Fault},
    load::Load,
    number_of,
    process::{Installation, Server},
};

const STORE: &str = "data/store";

/// About as many changes and syncs as a first start has.
const FIRST_REQUESTS: u64 = 150;

/// Power losses within which a lying disk is found out.
const LIES_MAX: usize = 10;

fn on_a_disk(seed: u64) -> Option<(Installation, Disk)> {
    Installation::on_a_disk(env!("CARGO_BIN_EXE_tested-ringpost"), seed)
}

fn losses_and_rng() -> (u64, StdRng) {
    let losses = number_of("RINGPOST_POWER_LOSSES").unwrap_or(10);
    let seed = number_of("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("RINGPOST_POWER_LOSSES={losses} RINGPOST_SEED={seed}");
    (losses, StdRng::seed_from_u64(seed))
}

/// The power fails, under a server that runs or one that is just being started.
fn lose_power(installation: &Installation, disk: &Disk, server: Option<Server>, load: &Load, rng: &mut StdRng) {
    let server = match server {
        Some(server) => {
            load.run_to_a_random_moment(rng);
            disk.cut_power();
            server.kill();
            None
        }
        None => {
            let server = installation.spawn();
            thread::sleep(Duration::from_micros(rng.random_range(0..100_000)));
            disk.cut_power();
            Some(server)
        }
    };
    // One that was starting may have ended by itself for want of a disk.
    drop(server);
    disk.restore_power();
}

#[test]
fn what_was_acknowledged_as_committed_survives_power_losses_exactly_once_and_in_order() {
    let (losses, mut rng) = losses_and_rng();
    let Some((mut installation, disk)) = on_a_disk(rng.random()) else { return };
    let mut server = Some(installation.start());
    let load = Load::start(&installation, DEADLINE + Duration::from_secs(losses), &mut rng);
    for _ in 0..losses {
        if load.has_failed() {
            println!("{}", installation.log());
            break;
        }
        // One in four hits a store that has had trouble before.
        if rng.random_range(0..4) == 0 {
            disk.fail(STORE, Fault::Sync);
        }
        lose_power(&installation, &disk, server.take(), &load, &mut rng);
        disk.heal();
        // One in four fails again while the server recovers.
        if rng.random_range(0..4) != 0 {
            server = Some(installation.start());
        }
    }
    let running = server.unwrap_or_else(|| installation.start());
    let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{} messages were accepted, {} syncs", finished.accepted(), disk.synced());

    disk.cut_power();
    running.kill();
    disk.restore_power();
    let server = installation.start();
    finished.verify(&installation);
    server.stop();
}

#[test]
fn a_first_start_that_loses_power_is_carried_on() {
    let (losses, mut rng) = losses_and_rng();
    for _ in 0..losses.div_ceil(2) {
        let Some((mut installation, disk)) = on_a_disk(rng.random()) else { return };
        for _ in 0..rng.random_range(1..4) {
            disk.fail_once_after(rng.random_range(0..FIRST_REQUESTS), "data", Fault::PowerCut);
            // It ends, or was faster.
            let mut starting = installation.spawn();
            let _ = starting.greets();
            disk.cut_power();
            drop(starting);
            disk.heal();
            disk.restore_power();
        }
        installation.start().stop();
    }
}

/// The checks must be able to fail: what such a disk has lost they find at the next connection, or a power loss or two later
/// if nothing had been acknowledged on its word.
fn a_lie_is_found_out(part: &str) {
    let mut rng = StdRng::seed_from_u64(rand::random());
    let Some((mut installation, disk)) = on_a_disk(rng.random()) else { return };
    let mut server = installation.start();
    let load = Load::start(&installation, DEADLINE, &mut rng);
    load.run_to_a_random_moment(&mut rng);
    disk.fail(part, Fault::SyncLies);
    for _ in 0..LIES_MAX {
        load.run_to_a_random_moment(&mut rng);
        if load.has_failed() {
            break;
        }
        lose_power(&installation, &disk, Some(server), &load, &mut rng);
        server = installation.spawn();
        if !server.greets() {
            // The store has what the journal does not have any more.
            let said = server.logged();
            assert!(said.contains("does not go with the store"), "{said}");
            return;
        }
    }
    let wrong = load.finish().expect_err("the lies are found out");
    // A device that has seen what is gone says so in one of several ways.
    assert!(!wrong.contains("nothing happens"), "{wrong}");
}

#[test]
fn a_disk_that_lies_about_the_journal_is_found_out() {
    a_lie_is_found_out("data/journal");
}

#[test]
fn a_disk_that_lies_about_the_store_is_found_out() {
    a_lie_is_found_out(STORE);
}
