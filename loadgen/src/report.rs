//! What a run found: counts, rates, latencies, and what was wrong.

use std::{fmt::Write, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Faults beyond this many are counted, not listed: the first ones tell the story.
const FAULTS_SHOWN_MAX: usize = 20;

const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Latencies in microseconds, to three digits, up to a minute; longer ones count as a minute.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    const US_MAX: u64 = 60_000_000;

    pub(crate) fn new() -> Self {
        Self(
            Histogram::new_with_bounds(1, Self::US_MAX, 3).expect("the bounds are ascending and the digits are 1 to 5"),
        )
    }

    pub(crate) fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us.clamp(1, Self::US_MAX));
    }

    fn at(&self, percentile: f64) -> u64 {
        self.0.value_at_percentile(percentile)
    }
}

pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    /// What was asked for, in the order to show it.
    pub(crate) parameters: Vec<(&'static str, u64)>,
    /// What was counted, in the order to show it.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// Things a second: of what, and how many there were.
    pub(crate) rates: Vec<(&'static str, u64)>,
    pub(crate) latencies: Vec<(&'static str, Latencies)>,
    /// Of the part of the run that is measured.
    pub(crate) took: Duration,
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) const fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// The first faults, and how many more there are.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        let more = self.faults.len().saturating_sub(FAULTS_SHOWN_MAX);
        let rest = (more > 0).then(|| format!("and {more} faults more"));
        self.faults.iter().take(FAULTS_SHOWN_MAX).cloned().chain(rest)
    }

    fn a_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(crate) fn table(&self) -> String {
        let mut out = format!("scenario {}\n", self.scenario);
        // Writing to a String can not fail.
        for (name, value) in self.parameters.iter().chain(&self.counts) {
            let _ = writeln!(out, "  {name:<24}{value:>14}");
        }
        let _ = writeln!(out, "  {:<24}{:>14.3}", "measured seconds", self.took.as_secs_f64());
        for (name, count) in &self.rates {
            let _ = writeln!(out, "  {:<24}{:>14.0}", format!("{name} a second"), self.a_second(*count));
        }
        let _ =
            writeln!(out, "  {:<24}{:>10}{:>10}{:>10}{:>10}{:>10}", "latency, us", "p50", "p90", "p99", "p99.9", "max");
        for (name, latencies) in &self.latencies {
            let _ = write!(out, "  {name:<24}");
            for percentile in PERCENTILES {
                let _ = write!(out, "{:>10}", latencies.at(percentile));
            }
            out.push('\n');
        }
        let verdict = match self.faults.len() {
            0 => "everything verified".to_owned(),
            faults => format!("{faults} FAULTS"),
        };
        let _ = writeln!(out, "  {verdict}");
        out
    }

    pub(crate) fn json(&self) -> Value {
        let numbers = |pairs: &[(&str, u64)]| -> Value {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let rates: serde_json::Map<_, _> =
            self.rates.iter().map(|(name, count)| ((*name).to_owned(), json!(self.a_second(*count)))).collect();
        let latency = |l: &Latencies| json!({"p50": l.at(50.0), "p90": l.at(90.0), "p99": l.at(99.0), "p99.9": l.at(99.9), "max": l.at(100.0)});
        let latencies: serde_json::Map<_, _> =
            self.latencies.iter().map(|(name, l)| ((*name).to_owned(), latency(l))).collect();
        json!({
            "scenario": self.scenario,
            "parameters": numbers(&self.parameters),
            "counts": numbers(&self.counts),
            "seconds": self.took.as_secs_f64(),
            "a_second": rates,
            "latency_us": latencies,
            "faults": self.faults.len(),
            "first_faults": self.faults().collect::<Vec<_>>(),
        })
    }
}
