//! The simulator of a cluster with groups: its standard run, the deliberate faults that groups show, every rare situation.
//!
//! `SEED=n cargo test -p tests --test fleet_groups one_seed -- --nocapture` replays one seed and prints what happened; with
//! `FAULT=LosePush` and so on, with that fault.
//! `SEEDS=10000 cargo test --release -p tests --test fleet_groups many_seeds -- --nocapture` runs as many as one likes.

use tests::{
    fleet::faults::Fault,
    fleet::groups::{self, FAULTS, SEEDS, SEEDS_TO_FIND, SITUATIONS},
    seeds::Simulator,
};

const SIMULATOR: Simulator<Fault> =
    Simulator { run: groups::run, run_traced: groups::run_traced, faults: FAULTS, may_panic: true };

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
