//! The live line: what a run does right now, on a terminal, in one line that is written again and again.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use crate::{sample::Sample, stats::Latencies};

/// Characters of the progress bar.
const BAR_WIDTH: usize = 20;

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
            // A terminal that is gone shows nothing, which is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[2K{}", line(view));
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

fn line(View { phase, part, sample, accepted }: &View<'_>) -> String {
    let mut out = String::new();
    if let Some(part) = part {
        let done = ((part.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
        let _ = write!(out, "[{}{}] {:3.0}% ", "#".repeat(done), "-".repeat(BAR_WIDTH - done), part.min(1.0) * 100.0);
    }
    let _ = write!(out, "{phase}  {} connected", sample.connections);
    for (rate, what) in [(sample.accepted, "msg"), (sample.logins, "logins"), (sample.pages, "pages")] {
        if rate > 0.0 {
            let _ = write!(out, "  {rate:.0} {what}/s");
        }
    }
    if let Some(accepted) = accepted {
        let ms = |percentile| accepted.at(percentile) as f64 / 1e3;
        let _ = write!(out, "  accepted p50 {:.2} p99 {:.2} max {:.1} ms", ms(50.0), ms(99.0), ms(100.0));
    }
    if sample.under_way > 0 {
        let _ = write!(out, "  {} under way", sample.under_way);
    }
    if let Some(cores) = sample.server_cores {
        let _ = write!(out, "  server {cores:.2} cores");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_the_run_is_and_what_it_does() {
        let sample = Sample { connections: 20, accepted: 1234.4, under_way: 3, ..Sample::default() };
        let mut latencies = Latencies::new();
        latencies.record(2_000);
        let view = View { phase: "load", part: Some(0.5), sample: &sample, accepted: Some(&latencies) };
        let text = line(&view);
        assert!(
            text.starts_with("[##########----------]  50% load  20 connected  1234 msg/s  accepted p50 2.00"),
            "{text}"
        );
        assert!(text.ends_with("3 under way"), "{text}");
        let view = View { phase: "connecting", part: None, sample: &Sample::default(), accepted: None };
        assert_eq!(line(&view), "connecting  0 connected");
    }
}
