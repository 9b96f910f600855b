//! The report as one page that needs no network: tables made here, plots drawn by a little JavaScript from the samples.

use std::fmt::Write as _;

use super::{BY_NODE_PERCENTILES, PERCENTILES, Report, limited::limited_by, table::verdict};
use crate::homes::Between;

const PAGE: &str = include_str!("page.html");

/// Of the table of latencies by node, which a page has only if they were asked for.
const BY_NODE_HEAD: &str = "<h2>Latency by node, milliseconds</h2>
<div class=\"wide\"><table><thead><tr><th>from</th><th>to</th><td>messages</td><td>half accepted within</td><td>99 %</td>\
    <td>half delivered within</td><td>99 %</td></tr></thead>
<tbody>";

/// The whole page.
#[must_use]
pub fn html(report: &Report) -> String {
    let data = serde_json::json!({ "samples": report.outcome.samples });
    let parameters: Vec<String> = report.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let replacements = [
        ("{{title}}", escape(&format!("Ringpost load: {}", report.scenario))),
        ("{{parameters}}", escape(&parameters.join(", "))),
        ("{{limited}}", list(limited_by(&report.outcome).into_iter())),
        ("{{about}}", about(report)),
        ("{{verdict}}", escape(&verdict(report))),
        ("{{verdict_class}}", if report.is_clean() { "good" } else { "bad" }.to_owned()),
        ("{{faults}}", list(report.faults())),
        ("{{notes}}", list(report.notes.iter().cloned())),
        ("{{numbers}}", numbers(report)),
        ("{{latencies}}", latencies(report)),
        ("{{by_node}}", by_node(report)),
        ("{{data}}", for_script(&data.to_string())),
    ];
    replacements.iter().fold(PAGE.to_owned(), |page, (place, text)| page.replace(place, text))
}

fn about(report: &Report) -> String {
    let row = |(name, value): &(&str, String)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    report.about.iter().map(row).collect()
}

fn numbers(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String can not fail.
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&value));
    };
    row("measured seconds", format!("{:.3}", report.outcome.took.as_secs_f64()));
    for (name, rate) in report.rates() {
        row(&format!("{name} a second"), format!("{rate:.0}"));
    }
    for (name, value) in report.counts() {
        row(name, value.to_string());
    }
    for (name, ratio) in report.p99_ratios() {
        row(&name, format!("{ratio:.2}"));
    }
    for (stage, values) in report.stages() {
        for (name, value) in values {
            row(&format!("{stage}: {name}"), format!("{value:.2}"));
        }
    }
    for (name, unit, value) in report.costs() {
        row(name, format!("{value:.1} {unit}"));
    }
    out
}

fn latencies(report: &Report) -> String {
    let mut out = String::new();
    for (name, latencies) in report.latencies() {
        let _ = write!(out, "<tr><th>{}</th>", escape(&name));
        for percentile in PERCENTILES {
            let _ = write!(out, "<td>{:.2}</td>", latencies.at(percentile) as f64 / 1e3);
        }
        let _ = writeln!(out, "<td>{}</td></tr>", latencies.count());
    }
    out
}

fn by_node(report: &Report) -> String {
    let mut out = String::new();
    for (author, recipient, Between { accepted, delivered }) in report.by_node() {
        let _ =
            write!(out, "<tr><th>{}</th><th>{}</th><td>{}</td>", escape(author), escape(recipient), accepted.count());
        for latencies in [accepted, delivered] {
            for percentile in BY_NODE_PERCENTILES {
                let _ = write!(out, "<td>{:.2}</td>", latencies.at(percentile) as f64 / 1e3);
            }
        }
        out += "</tr>\n";
    }
    if out.is_empty() { out } else { format!("{BY_NODE_HEAD}{out}</tbody></table></div>") }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| format!("<li>{}</li>", with_code(&escape(&item)))).collect();
    if items.is_empty() { String::new() } else { format!("<ul>{}</ul>", items.concat()) }
}

/// What stands between backticks is code.
fn with_code(escaped: &str) -> String {
    let mut parts = escaped.split('`');
    let mut out = parts.next().unwrap_or_default().to_owned();
    while let Some(code) = parts.next() {
        match parts.next() {
            Some(text) => out += &format!("<code>{code}</code>{text}"),
            None => out += &format!("`{code}"),
        }
    }
    out
}

/// Text for a place between tags or in an attribute. Braces too: what was put in is not looked through for places again.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '{' => out.push_str("&#123;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON for a script element, which a string in it must not end.
fn for_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{by_node as by_node_of_tests, report};

    #[test]
    fn nothing_that_a_run_says_becomes_markup() {
        assert_eq!(
            escape("<a href=\"x\">'&'{{data}}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&#123;&#123;data}}"
        );
        assert_eq!(with_code("as `a_b` (3), `c` and `"), "as <code>a_b</code> (3), <code>c</code> and `");
        assert_eq!(for_script("\"</script>\""), "\"\\u003c/script>\"");
        let mut report = report();
        report.outcome.faults.add("user <b>7</b> {{data}}".to_owned());
        let page = html(&report);
        assert!(page.contains("user &lt;b&gt;7&lt;/b&gt;") && page.contains("file a&lt;b") && !page.contains("{{"));
        assert_eq!(page.matches("</script>").count(), 1);
    }

    #[test]
    fn a_page_has_latencies_by_node_if_they_were_asked_for() {
        let page = html(&by_node_of_tests());
        let row = "<th>127.0.0.1:7600</th><th>node-b.of-the-cluster.example:7600</th><td>2</td><td>2.00</td><td>2.00</td>\
            <td>1.00</td><td>1.00</td>";
        assert!(page.contains("Latency by node") && page.contains(row), "{page}");
        assert!(!html(&report()).contains("Latency by node"));
    }

    #[test]
    fn the_page_stands_alone() {
        let page = html(&report());
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let allowed = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(outside), "{outside}");
        }
        for needed in ["content=\"width=device-width", "prefers-color-scheme: dark", "place.clientWidth"] {
            assert!(page.contains(needed), "{needed}: a page for phones, and for the dark");
        }
        assert!(page.contains("ringpost-loadgen chat &#39;&lt;b&gt;&#39;") && page.contains("2026-11-28T15:00:00Z"));
        assert!(page.contains("<li>the time that answers take"));
        assert!(page.contains("everything verified") && page.contains("\"accepted_us\":[1,2,3,4]"));
    }
}
