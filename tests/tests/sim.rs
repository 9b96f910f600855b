//! The simulator's standard run: a few hundred seeds, every deliberate fault, every rare situation.
//!
//! `SEED=n cargo test -p tests --test sim one_seed -- --nocapture` replays one seed and prints what happened; with `FAULT=LyingSync`
//! and so on, with that fault.
//! `SEEDS=100000 cargo test --release -p tests --test sim many_seeds -- --nocapture` runs as many as one likes.

use tests::{
    seeds::Simulator,
    sim::{self, SEEDS, SEEDS_TO_FIND, SITUATIONS, faults::Fault},
};

const SIMULATOR: Simulator<Fault> =
    Simulator { run: sim::run, run_traced: sim::run_traced, faults: Fault::ALL, may_panic: false };

#[test]
fn no_seed_breaks_a_promise_and_every_rare_situation_is_reached() {
    SIMULATOR.standard_run(SEEDS, SITUATIONS);
}

#[test]
fn every_deliberate_fault_is_found() {
    SIMULATOR.finds_every_fault(SEEDS_TO_FIND);
}

#[test]
fn a_seed_does_the_same_every_time() {
    SIMULATOR.repeats(5, Fault::LyingSync);
}

#[test]
fn one_seed() {
    SIMULATOR.one_seed();
}

#[test]
fn many_seeds() {
    SIMULATOR.many_seeds();
}
