//! Seeds: what the tests of a simulator do with them, whichever it is (`sim`, `crowd`, `fleet`, `fleet::groups`).

use std::{env, fmt, panic, time::Instant};

use crate::{
    number_of,
    sim::{Coverage, Failure},
};

/// Runs one seed, with a deliberate fault or without.
type Run<F> = fn(u64, Option<F>) -> Result<Coverage, Failure>;

/// A simulator, and the deliberate faults that it knows.
#[derive(Debug)]
pub struct Simulator<F: 'static> {
    /// Says whether what must never happen has happened.
    pub run: Run<F>,
    /// The same, with a trace.
    pub run_traced: Run<F>,
    /// All of them.
    pub faults: &'static [F],
    /// Whether a panic finds a fault: the server itself, or the model of the store, asserts what it breaks. If not, a run never panics.
    pub may_panic: bool,
}

/// Lines of a trace that are shown of a seed that fails.
const LINES_SHOWN: usize = 200;

impl<F: Copy + fmt::Debug + panic::UnwindSafe> Simulator<F> {
    /// Runs a seed and, if it fails, runs it again to show what happened.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn check(&self, seed: u64) -> Coverage {
        match (self.run)(seed, None) {
            Ok(coverage) => coverage,
            Err(failure) => {
                let traced = (self.run_traced)(seed, None).expect_err("a seed does the same every time");
                assert_eq!(traced.what, failure.what, "a seed does the same every time");
                let lines: Vec<&str> = traced.trace.lines().collect();
                let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
                panic!("{last}\n\nseed {seed}: {}\n(SEED={seed} replays it)", failure.what);
            }
        }
    }

    /// The standard run: so many seeds, or as many as `SEEDS` says, hold, and reach each of these situations.
    ///
    /// # Panics
    /// They do not.
    pub fn standard_run(&self, seeds: u64, situations: &[&str]) {
        let mut reached = Coverage::default();
        for seed in 1..=number_of("SEEDS").unwrap_or(seeds) {
            for (situation, count) in self.check(seed).counts {
                *reached.counts.entry(situation).or_default() += count;
            }
        }
        println!("{:#?}", reached.counts);
        let missing: Vec<_> = situations.iter().filter(|name| !reached.counts.contains_key(*name)).collect();
        assert!(missing.is_empty(), "never reached: {missing:?}");
    }

    /// Each deliberate fault is found by one of so many seeds.
    ///
    /// # Panics
    /// One is not.
    pub fn finds_every_fault(&self, seeds: u64) {
        let Self { run, faults, may_panic, .. } = *self;
        let mut not_found = Vec::new();
        for &fault in faults {
            let found = |seed| match panic::catch_unwind(move || run(seed, Some(fault))) {
                Ok(result) => Some((seed, result.err()?.what)),
                Err(_) if may_panic => Some((seed, "a panic".to_owned())),
                Err(panic) => panic::resume_unwind(panic),
            };
            match (1..=seeds).find_map(found) {
                Some((seed, what)) => println!("{fault:?}: found by seed {seed}: {what}"),
                None => not_found.push(fault),
            }
        }
        assert!(not_found.is_empty(), "not found within {seeds} seeds: {not_found:?}");
    }

    /// The first seeds do the same every time, with this fault.
    ///
    /// # Panics
    /// They do not.
    pub fn repeats(&self, seeds: u64, fault: F) {
        for seed in 1..=seeds {
            let traces = [(); 2].map(|()| match (self.run_traced)(seed, Some(fault)) {
                Ok(coverage) => format!("{coverage:?}"),
                Err(failure) => failure.trace,
            });
            assert!(traces[0] == traces[1], "seed {seed}");
        }
    }

    /// The seed that `SEED` says, if it says one, with the fault that `FAULT` says; with all that happens if it fails.
    ///
    /// # Panics
    /// It fails.
    pub fn one_seed(&self) {
        let Some(seed) = number_of("SEED") else { return };
        let named = |name: String| {
            let fault = self.faults.iter().find(|fault| format!("{fault:?}") == name);
            *fault.unwrap_or_else(|| panic!("there is no fault {name}: there are {:?}", self.faults))
        };
        match (self.run_traced)(seed, env::var("FAULT").ok().map(named)) {
            Ok(coverage) => println!("seed {seed} holds: {coverage:#?}"),
            Err(failure) => panic!("{}\nseed {seed}: {}", failure.trace, failure.what),
        }
    }

    /// As many seeds as `SEEDS` says, others than those of the standard run, and how many a second.
    ///
    /// # Panics
    /// One fails.
    pub fn many_seeds(&self) {
        let Some(seeds) = number_of("SEEDS") else { return };
        let started = Instant::now();
        (1_000..1_000 + seeds).for_each(|seed| drop(self.check(seed)));
        println!("{seeds} seeds, {:.1} a second", seeds as f64 / started.elapsed().as_secs_f64());
    }
}
