//! The live line: what a run does right now, on a terminal, in one line that is written again and again.

use std::io::{self, IsTerminal as _, Write as _};

use terminal_size::{Width, terminal_size_of};

use crate::{sample::Sample, stats::Latencies};

/// Columns of the progress bar.
const BAR_WIDTH: usize = 20;

/// Columns of a terminal that does not say how many it has.
const COLUMNS_GUESS: usize = 80;

/// What is shown.
pub struct View<'a> {
    /// Phase of the run.
    pub phase: &'static str,
    /// How much of the load is done, if that is known.
    pub part: Option<f64>,
    /// The last half second.
    pub sample: &'a Sample,
    /// Latencies of it.
    pub accepted: Option<&'a Latencies>,
}

/// One line of standard error, if that is a terminal.
pub struct LiveLine {
    is_on: bool,
}

impl LiveLine {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new() -> Self {
        Self { is_on: io::stderr().is_terminal() }
    }

    /// Replaces what is shown.
    pub fn show(&self, view: &View<'_>) {
        if self.is_on {
            // Asked each time: people make windows smaller and larger.
            let columns = terminal_size_of(io::stderr()).map_or(COLUMNS_GUESS, |(Width(columns), _)| columns.into());
            // A terminal that is gone shows nothing, which is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[2K{}", line(view, columns));
        }
    }

    /// Leaves an empty line.
    pub fn clear(&self) {
        if self.is_on {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

impl Default for LiveLine {
    fn default() -> Self {
        Self::new()
    }
}

/// What fits into so many columns, the most important first: a line that is too long would scroll the terminal with each look.
/// All of it is ASCII, so a byte is a column. The last column stays free, since writing there wraps on some terminals.
fn line(view: &View<'_>, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    // From the longest way to say it to the shortest.
    let heads = [format!("{}{}", bar(view.part), view.phase), view.phase.to_owned()];
    let Some(mut out) = heads.into_iter().find(|head| head.len() <= room) else {
        return view.phase[..view.phase.len().min(room)].to_owned();
    };
    for part in parts(view) {
        debug_assert!(part.is_ascii(), "{part}");
        if out.len() + 2 + part.len() <= room {
            out += "  ";
            out += &part;
        }
    }
    out
}

fn bar(part: Option<f64>) -> String {
    let Some(part) = part.map(|part| part.clamp(0.0, 1.0)) else { return String::new() };
    let done = ((part * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
    format!("[{}{}] {:3.0}% ", "#".repeat(done), "-".repeat(BAR_WIDTH - done), part * 100.0)
}

fn parts(View { sample, accepted, .. }: &View<'_>) -> Vec<String> {
    let mut parts = vec![format!("{} connected", sample.connections)];
    for (rate, what) in [(sample.accepted, "msg"), (sample.logins, "logins"), (sample.pages, "pages")] {
        if rate > 0.0 {
            parts.push(format!("{rate:.0} {what}/s"));
        }
    }
    if let Some(accepted) = accepted {
        let ms = |percentile| accepted.at(percentile) as f64 / 1e3;
        parts.push(format!("accepted p50 {:.2} p99 {:.2} max {:.1} ms", ms(50.0), ms(99.0), ms(100.0)));
    }
    if sample.under_way > 0 {
        parts.push(format!("{} under way", sample.under_way));
    }
    if let Some(cores) = sample.server_cores {
        parts.push(format!("server {cores:.2} cores"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> (Sample, Latencies) {
        let sample =
            Sample { connections: 20, accepted: 1234.4, under_way: 3, server_cores: Some(1.5), ..Sample::default() };
        let mut latencies = Latencies::new();
        latencies.record(2_000);
        (sample, latencies)
    }

    #[test]
    fn the_line_says_how_far_the_run_is_and_what_it_does() {
        let (sample, latencies) = busy();
        let view = View { phase: "load", part: Some(0.5), sample: &sample, accepted: Some(&latencies) };
        let text = line(&view, 200);
        assert!(
            text.starts_with("[##########----------]  50% load  20 connected  1234 msg/s  accepted p50 2.00"),
            "{text}"
        );
        assert!(text.ends_with("3 under way  server 1.50 cores"), "{text}");
        let view = View { phase: "connecting", part: None, sample: &Sample::default(), accepted: None };
        assert_eq!(line(&view, 80), "connecting  0 connected");
    }

    #[test]
    fn the_line_fits_every_terminal_and_keeps_what_matters_most() {
        let (sample, latencies) = busy();
        let view = View { phase: "load", part: Some(0.5), sample: &sample, accepted: Some(&latencies) };
        for columns in 0..200 {
            let text = line(&view, columns);
            assert!(text.len() < columns.max(1), "{columns}: {text}");
            assert!(columns < 5 || text.contains("load"), "{columns}: {text}");
        }
        let narrow = line(&view, 80);
        assert!(narrow.starts_with("[##########----------]  50% load  20 connected  1234 msg/s"), "{narrow}");
    }
}
