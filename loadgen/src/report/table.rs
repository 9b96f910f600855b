//! The report as a table for a terminal.

use std::fmt::Write as _;

use super::{PERCENTILES, Report};

/// The whole table.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = format!("scenario {}\n", report.scenario);
    // Writing to a String can not fail.
    for (name, value) in &report.parameters {
        let _ = writeln!(out, "  {name:<38}{value:>14}");
    }
    for (name, value) in report.counts() {
        let _ = writeln!(out, "  {name:<38}{value:>14}");
    }
    let _ = writeln!(out, "  {:<38}{:>14.3}", "measured seconds", report.outcome.took.as_secs_f64());
    for (name, rate) in report.rates() {
        let _ = writeln!(out, "  {:<38}{rate:>14.0}", format!("{name} a second"));
    }
    for (name, unit, value) in report.costs() {
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
        let _ = writeln!(out, "  {name:<38}{value:>14.1}");
    }
    let latencies = report.latencies();
    if !latencies.is_empty() {
        let _ =
            writeln!(out, "  {:<30}{:>10}{:>10}{:>10}{:>10}{:>10}", "latency, us", "p50", "p90", "p99", "p99.9", "max");
    }
    for (name, latencies) in latencies {
        let _ = write!(out, "  {name:<30}");
        for percentile in PERCENTILES {
            let _ = write!(out, "{:>10}", latencies.at(percentile));
        }
        out.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(out, "  {note}");
    }
    let _ = writeln!(out, "  {}", verdict(report));
    out
}

/// In one line.
#[must_use]
pub fn verdict(report: &Report) -> String {
    match (report.outcome.faults.count(), report.outcome.is_whole) {
        (0, true) => "everything verified".to_owned(),
        (faults, true) => format!("{faults} FAULTS"),
        (0, false) => "CUT SHORT, no faults".to_owned(),
        (faults, false) => format!("CUT SHORT, {faults} FAULTS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_table_ends_with_the_verdict() {
        let mut report = report();
        assert!(table(&report).ends_with("  everything verified\n"));
        report.outcome.faults.add("x".to_owned());
        assert!(table(&report).ends_with("  1 FAULTS\n"));
        report.outcome.is_whole = false;
        assert!(table(&report).ends_with("  CUT SHORT, 1 FAULTS\n"));
    }
}
