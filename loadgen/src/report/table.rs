//! The report as a table for a terminal.

use std::fmt::Write as _;

use super::{BY_NODE_PERCENTILES, PERCENTILES, Report, limited::limited_by};
use crate::homes::Between;

/// Columns of the widest part, the latencies: one less than the narrowest terminal has.
const WIDTH: usize = 79;

/// The whole table.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = format!("scenario {}\n", report.scenario);
    // Writing to a String can not fail.
    for reason in limited_by(&report.outcome) {
        out += &wrapped("  limited by: ", &reason);
    }
    for (name, value) in &report.about {
        out += &wrapped(&format!("  {name}: "), value);
    }
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
    out += &by_node(report);
    for (name, ratio) in report.p99_ratios() {
        let _ = writeln!(out, "  {name:<65}{ratio:>10.2}");
    }
    for (name, values) in report.stages() {
        let values: Vec<_> = values.iter().map(|(what, value)| format!("{what} {value:.2}")).collect();
        out += &wrapped(&format!("  stage {name}: "), &values.join(", "));
    }
    for note in &report.notes {
        let _ = writeln!(out, "  {note}");
    }
    let _ = writeln!(out, "  {}", verdict(report));
    out
}

/// Latencies by the nodes of author and recipient, if they were asked for.
fn by_node(report: &Report) -> String {
    let (mut out, mut from) = (String::new(), None);
    for (author, recipient, Between { accepted, delivered }) in report.by_node() {
        if from.is_none() {
            let _ =
                writeln!(out, "  {:<40}{:>20}{:>20}", "latency by node, us", "send to accepted", "send to delivered");
            let _ = writeln!(out, "{:>42}{:>10}{:>10}{:>10}{:>10}", "messages", "p50", "p99", "p50", "p99");
        }
        if from != Some(author) {
            from = Some(author);
            let _ = writeln!(out, "  from {author}");
        }
        let name = format!("    to {recipient}");
        // Of a long name the numbers are on the next line.
        let place = if name.chars().count() < 32 { format!("{name:<32}") } else { format!("{name}\n{:32}", "") };
        let _ = write!(out, "{place}{:>10}", accepted.count());
        for latencies in [accepted, delivered] {
            for percentile in BY_NODE_PERCENTILES {
                let _ = write!(out, "{:>10}", latencies.at(percentile));
            }
        }
        out.push('\n');
    }
    out
}

/// Words behind a name, in lines as wide as the table, indented below the name.
fn wrapped(name: &str, words: &str) -> String {
    let (mut out, mut line) = (String::new(), name.to_owned());
    for word in words.split(' ') {
        if line.chars().count() + word.chars().count() > WIDTH && !line.trim().is_empty() && line != name {
            out += line.trim_end();
            line = format!("\n{:name_width$}", "", name_width = name.len());
        }
        line += word;
        line.push(' ');
    }
    out + line.trim_end() + "\n"
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
    use proto_spec::ErrorCode;

    use super::*;
    use crate::{
        report::tests::{by_node as by_node_of_tests, report},
        stats::Refused,
    };

    #[test]
    fn no_line_of_the_table_is_wider_than_a_terminal() {
        let mut report = by_node_of_tests();
        report.outcome.total.refused(Refused::Send, ErrorCode::RateLimited);
        report.outcome.total.refused(Refused::Login, ErrorCode::Overloaded);
        for line in table(&report).lines() {
            assert!(line.len() <= 82, "{line}");
        }
        assert_eq!(wrapped("  x: ", "one two"), "  x: one two\n");
        let long = format!("{} {} end", "a".repeat(60), "b".repeat(90));
        let lines = wrapped("  x: ", &long);
        assert_eq!(lines, format!("  x: {}\n     {}\n     end\n", "a".repeat(60), "b".repeat(90)));
    }

    #[test]
    fn latencies_by_node_stand_below_each_other_however_long_the_names_are() {
        let table = table(&by_node_of_tests());
        let at = table.find("  latency by node, us").unwrap();
        let lines: Vec<_> = table[at..].lines().collect();
        assert_eq!(lines[0], "  latency by node, us                         send to accepted   send to delivered");
        assert_eq!(lines[1], "                                  messages       p50       p99       p50       p99");
        assert_eq!(lines[2], "  from 127.0.0.1:7600");
        assert_eq!(lines[3], "    to 127.0.0.1:7600                    1      1000      1000       500       500");
        assert_eq!(lines[4], "    to node-b.of-the-cluster.example:7600");
        assert_eq!(lines[5], "                                         2      2000      2000      1000      1000");
        assert_eq!(lines[6], "  from node-b.of-the-cluster.example:7600");
        assert!(!super::table(&report()).contains("by node"));
    }

    #[test]
    fn the_table_begins_with_what_limited_the_run_and_ends_with_the_verdict() {
        let mut report = report();
        report.outcome.total.refused(Refused::Send, ErrorCode::RateLimited);
        assert!(
            table(&report)
                .starts_with("scenario chat\n  limited by: sends refused as `rate_limited` (1): the limits of")
        );
        assert!(table(&report).contains("  begun: 2026-11-28T15:00:00Z\n"));
        assert!(table(&report).ends_with("  everything verified\n"));
        report.outcome.faults.add("x".to_owned());
        assert!(table(&report).ends_with("  1 FAULTS\n"));
        report.outcome.is_whole = false;
        assert!(table(&report).ends_with("  CUT SHORT, 1 FAULTS\n"));
    }
}
