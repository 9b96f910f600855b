//! The simulator of a cluster: its standard run, every deliberate fault, every rare situation.
//!
//! `SEED=n cargo test -p tests --test fleet one_seed -- --nocapture` replays one seed and prints what happened; with `FAULT=KeepTerm` and
//! so on, with that fault.
//! `SEEDS=10000 cargo test --release -p tests --test fleet many_seeds -- --nocapture` runs as many as one likes.

use std::{env, panic, time::Instant};

use tests::{
    fleet::{self, SEEDS, SEEDS_TO_FIND, SITUATIONS, faults::Fault},
    number_of,
    sim::Coverage,
};

/// Runs a seed and, if it fails, runs it again to show what happened.
fn check(seed: u64) -> Coverage {
    match fleet::run(seed, None) {
        Ok(coverage) => coverage,
        Err(failure) => {
            let traced = fleet::run_traced(seed, None).expect_err("a seed does the same every time");
            assert_eq!(traced.what, failure.what, "a seed does the same every time");
            let lines: Vec<&str> = traced.trace.lines().collect();
            let last = lines[lines.len().saturating_sub(200)..].join("\n");
            panic!("{last}\n\nseed {seed}: {}\n(SEED={seed} replays it)", failure.what);
        }
    }
}

#[test]
fn no_seed_breaks_a_promise_and_every_rare_situation_is_reached() {
    let mut reached = Coverage::default();
    for seed in 1..=number_of("SEEDS").unwrap_or(SEEDS) {
        for (situation, count) in check(seed).counts {
            *reached.counts.entry(situation).or_default() += count;
        }
    }
    println!("{:#?}", reached.counts);
    let missing: Vec<_> = SITUATIONS.iter().filter(|name| !reached.counts.contains_key(*name)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut not_found = Vec::new();
    for &fault in Fault::ALL {
        // Some are found by the server itself: by what it asserts.
        let run = |seed| match panic::catch_unwind(|| fleet::run(seed, Some(fault))) {
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
    for seed in 1..=3 {
        let traces = [(); 2].map(|()| match fleet::run_traced(seed, Some(Fault::CheckTermEarly)) {
            Ok(coverage) => format!("{coverage:?}"),
            Err(failure) => failure.trace,
        });
        assert!(traces[0] == traces[1], "seed {seed}");
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = number_of("SEED") {
        let fault = env::var("FAULT").ok();
        let fault =
            fault.map(|name| Fault::ALL.iter().find(|fault| format!("{fault:?}") == name).expect("there is one"));
        match fleet::run_traced(seed, fault.copied()) {
            Ok(coverage) => println!("seed {seed} holds: {coverage:#?}"),
            Err(failure) => panic!("{}\nseed {seed}: {}", failure.trace, failure.what),
        }
    }
}

#[test]
fn many_seeds() {
    let Some(seeds) = number_of("SEEDS") else { return };
    let started = Instant::now();
    (1_000..1_000 + seeds).for_each(|seed| drop(check(seed)));
    println!("{seeds} seeds, {:.1} a second", seeds as f64 / started.elapsed().as_secs_f64());
}
