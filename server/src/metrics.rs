//! Metrics: the counters of a node as Prometheus reads them. Every name begins with `ringpost_`.

use std::fmt::Write as _;

use crate::io::Counters;

/// Counters that may fall: what is now, or a maximum. The others only grow, and end in `_total`.
const GAUGES: [&str; 4] = ["connections", "handshakes", "sync_us_max", "admission"];

/// The whole page.
#[must_use]
pub fn text(counters: &Counters) -> String {
    let mut page = Page::default();
    // All cores of one counter stand together, as the format demands.
    let mut by_core: Vec<(&'static str, Vec<u64>)> = Vec::new();
    for core in &counters.cores {
        let mut index = 0;
        core.each(|name, value| {
            match by_core.get_mut(index) {
                Some((_, values)) => values.push(value),
                None => by_core.push((name, vec![value])),
            }
            index += 1;
        });
    }
    for (name, values) in by_core {
        let name = page.begin("core", name);
        for (core, value) in values.iter().enumerate() {
            page.line(&format!("{name}{{core=\"{core}\"}}"), *value);
        }
    }
    counters.journal.each(|name, value| {
        let name = page.begin("journal", name);
        page.line(&name, value);
    });
    let name = page.begin("connections", "closed");
    for (reason, value) in counters.closed_by_reason() {
        page.line(&format!("{name}{{reason=\"{}\"}}", reason.name()), value);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn begin(&mut self, group: &str, name: &str) -> String {
        let (kind, suffix) = if GAUGES.contains(&name) { ("gauge", "") } else { ("counter", "_total") };
        let name = format!("ringpost_{group}_{name}{suffix}");
        // Writing to a String can not fail.
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        name
    }

    fn line(&mut self, series: &str, value: u64) {
        let _ = writeln!(self.text, "{series} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proto_spec::ErrorCode;
    use storage::CoreId;

    use super::*;

    #[test]
    fn every_series_stands_once_below_the_type_of_its_metric() {
        let counters = Counters::new(2);
        counters.core(CoreId(1)).accepted.add(5);
        counters.core(CoreId(0)).connections.set(3);
        counters.closed(ErrorCode::IdleTimeout);
        let text = text(&counters);
        for line in [
            "# TYPE ringpost_core_accepted_total counter\nringpost_core_accepted_total{core=\"0\"} 0\n\
             ringpost_core_accepted_total{core=\"1\"} 5\n",
            "# TYPE ringpost_core_connections gauge\nringpost_core_connections{core=\"0\"} 3\n",
            "ringpost_connections_closed_total{reason=\"idle_timeout\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let mut seen = HashSet::new();
        let mut metric = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(of_type) => metric = of_type.split(' ').next().unwrap(),
                None => assert!(line.starts_with(metric), "{line} below {metric}"),
            }
            assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "{line} twice");
        }
    }
}
