//! The simulator of a cluster with groups: its standard run, the deliberate faults that groups show, every rare situation.
//!
//! `SEED=n cargo test -p tests --test fleet_groups one_seed -- --nocapture` replays one seed and prints what happened; with
//! `FAULT=LosePush` and so on, with that fault.
//! `SEEDS=10000 cargo test --release -p tests --test fleet_groups many_seeds -- --nocapture` runs as many as one likes.

use std::panic;

use tests::{
    fleet::faults::Fault,
    fleet::groups::{self, FAULTS, SEEDS, SEEDS_TO_FIND, SITUATIONS},
    seeds::Simulator,
};

const SIMULATOR: Simulator<Fault> = Simulator { run: groups::run, run_traced: groups::run_traced, faults: FAULTS };

#[test]
fn no_seed_breaks_a_promise_and_every_rare_situation_is_reached() {
    SIMULATOR.standard_run(SEEDS, SITUATIONS);
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut not_found = Vec::new();
    for &fault in FAULTS {
        // Some are found by the server itself: by what it asserts.
        let run = |seed| match panic::catch_unwind(|| groups::run(seed, Some(fault))) {
            Ok(result) => Some((seed, result.err()?.what)),
            Err(_) => Some((seed, "a panic".to_owned())),
        };
        match (1..=SEEDS_TO_FIND).find_map(run) {
            Some((seed, what)) => println!("{fault:?}: found by seed {seed}: {what}"),
            None => not_found.push(fault),
        }
    }
    assert!(not_found.is_empty(), "not found within {SEEDS_TO_FIND} seeds: {not_found:?}");
}

#[test]
fn a_seed_does_the_same_every_time() {
    SIMULATOR.repeats(1, Fault::LosePush);
}

#[test]
fn one_seed() {
    SIMULATOR.one_seed();
}

#[test]
fn many_seeds() {
    SIMULATOR.many_seeds();
}
