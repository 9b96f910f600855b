//! The simulator of groups: its standard run, every deliberate fault, every rare situation.
//!
//! `SEED=n cargo test -p tests --test crowd one_seed -- --nocapture` replays one seed and prints what happened; with `FAULT=PushEarly` and
//! so on, with that fault.
//! `SEEDS=10000 cargo test --release -p tests --test crowd many_seeds -- --nocapture` runs as many as one likes.

use std::panic;

use tests::{
    crowd::{self, SEEDS, SEEDS_TO_FIND, SITUATIONS, faults::Fault},
    seeds::Simulator,
};

const SIMULATOR: Simulator<Fault> = Simulator { run: crowd::run, run_traced: crowd::run_traced, faults: Fault::ALL };

#[test]
fn no_seed_breaks_a_promise_and_every_rare_situation_is_reached() {
    SIMULATOR.standard_run(SEEDS, SITUATIONS);
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut not_found = Vec::new();
    for &fault in Fault::ALL {
        // Some are found by the server itself, or by the model of the store: by what they assert.
        let run = |seed| match panic::catch_unwind(|| crowd::run(seed, Some(fault))) {
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
    SIMULATOR.repeats(3, Fault::LosePush);
}

#[test]
fn one_seed() {
    SIMULATOR.one_seed();
}

#[test]
fn many_seeds() {
    SIMULATOR.many_seeds();
}
