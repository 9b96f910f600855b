//! The words and lines of `ringpost migrate`. PURE, but for [`ProgressLines`], which looks at the clock to say something now and
//! then.

use std::{
    fmt::Write as _,
    io::Write,
    time::{Duration, Instant},
};

use storage::migrate::{MigrateError, Progress, Totals};

use super::Direction;
use crate::{
    config::{Backend, Config},
    files::datadir::DataDir,
    operator::shell::quoted,
};

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Before somebody's eyes: a bar that is drawn again and again.
    Bar,
    /// In a file or a pipe: lines.
    Lines,
}

impl Terminal {
    /// Time from one picture to the next.
    const fn interval(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Lines => Duration::from_secs(5),
        }
    }
}

/// Characters of the bar.
const BAR: usize = 30;

/// Shows progress, not too often.
#[derive(Debug)]
pub(super) struct ProgressLines<'a, W> {
    terminal: Terminal,
    out: &'a mut W,
    shown: Option<(Instant, String)>,
}

impl<'a, W: Write> ProgressLines<'a, W> {
    /// Nothing has been shown yet.
    pub(super) const fn new(terminal: Terminal, out: &'a mut W) -> Self {
        Self { terminal, out, shown: None }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        let Some(picture) = Picture::of(progress) else { return };
        let now = Instant::now();
        let is_due = match &self.shown {
            Some((at, what)) => *what != picture.what || now >= *at + self.terminal.interval(),
            None => true,
        };
        if is_due {
            let text = match self.terminal {
                Terminal::Bar => format!("\r{}\x1b[K", picture.bar()),
                Terminal::Lines => format!("{}\n", picture.line()),
            };
            self.write(&text);
            self.shown = Some((now, picture.what));
        }
    }

    /// Says something else, on a line of its own.
    pub(super) fn note(&mut self, text: &str) {
        self.end();
        self.write(&format!("{text}\n"));
    }

    /// What follows begins a new line.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() && self.terminal == Terminal::Bar {
            self.write("\n");
        }
    }

    fn write(&mut self, text: &str) {
        // A migration that nobody watches goes on.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// What there is to see of a progress.
struct Picture {
    what: String,
    part: Option<f64>,
    counts: String,
}

impl Picture {
    fn of(progress: &Progress) -> Option<Self> {
        Some(match progress {
            Progress::Copying { table, part, copied } => Self {
                what: format!("copying {table}"),
                part: *part,
                counts: format!("{} rows, {}", copied.rows, megabytes(copied.bytes)),
            },
            Progress::Comparing { part, totals } => Self {
                what: "comparing".to_owned(),
                part: Some(*part),
                counts: format!("{} users, {} rows, {}", totals.users, totals.sum.rows, megabytes(totals.sum.bytes)),
            },
            Progress::Done(_) => return None,
        })
    }

    fn line(&self) -> String {
        let part = self.part.map_or_else(String::new, |part| format!("{:.0} %, ", 100.0 * part));
        format!("{}: {part}{}", self.what, self.counts)
    }

    fn bar(&self) -> String {
        let Some(part) = self.part else { return format!("{:<24}{}", self.what, self.counts) };
        let filled = ((BAR as f64 * part) as usize).min(BAR);
        let bar = "#".repeat(filled) + &"-".repeat(BAR - filled);
        format!("{:<24}[{bar}] {:3.0} %  {}", self.what, 100.0 * part, self.counts)
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// What was moved, and what to do now.
pub(super) fn done(direction: Direction, config: &Config, data: &DataDir, totals: &Totals) -> String {
    let mut text = String::new();
    // Writing to a String can not fail.
    let mut line = |name: &str, value: &str| _ = writeln!(text, "{name:<10}{value}");
    line("users", &totals.users.to_string());
    line("rows", &totals.sum.rows.to_string());
    line("bytes", &totals.sum.bytes.to_string());
    line("checksum", &format!("{:08x}, of both sides", totals.sum.checksum));
    line("done", &format!("the history is in {}", place(direction.to(), config, data)));
    line("next", &change(direction.to(), config));
    line("then", "start the server; what it accepts from now on is not where the history was");
    let from = direction.to().other();
    let (place, clear) = (place(from, config, data), clear(from, config, data));
    line("old", &format!("all rows are still in {place}; when they are not needed any more, {clear}"));
    text
}

/// How to get out of it, if the migration cannot begin.
pub(super) fn make_room(direction: Direction, config: &Config, data: &DataDir, error: &MigrateError) -> Option<String> {
    let to = direction.to();
    let clear = clear(to, config, data);
    match (error, to) {
        (MigrateError::UnfinishedSource, _) => {
            Some(format!("`ringpost migrate --from {to} --to {}` goes on with that one", to.other()))
        }
        (MigrateError::Occupied { .. } | MigrateError::OtherMigration, Backend::Embedded) => {
            Some(format!("if it is not needed any more, {clear}"))
        }
        (MigrateError::Occupied { .. } | MigrateError::OtherMigration, Backend::FoundationDb) => {
            Some(format!("choose another store.foundationdb.prefix; or, if it is not needed any more, {clear}"))
        }
        (MigrateError::Store { .. } | MigrateError::Row { .. } | MigrateError::Different(_), _) => None,
    }
}

fn place(backend: Backend, config: &Config, data: &DataDir) -> String {
    match backend {
        Backend::Embedded => data.store().display().to_string(),
        Backend::FoundationDb => format!("FoundationDB, under the prefix {}", config.store.foundationdb.prefix),
    }
}

fn change(to: Backend, config: &Config) -> String {
    if config.store.backend == to {
        return "nothing: the configuration says already where the history is".to_owned();
    }
    match to {
        Backend::Embedded => {
            "in the configuration, set backend = \"embedded\" in [store], and take [store.foundationdb] out"
        }
        Backend::FoundationDb => "in the configuration, set backend = \"foundationdb\" in [store]",
    }
    .to_owned()
}

fn clear(backend: Backend, config: &Config, data: &DataDir) -> String {
    match backend {
        Backend::Embedded => {
            let (store, old) = (quoted(data.store()), quoted(data.path().join("store.old")));
            format!("move it away and make an empty folder in its place (`mv {store} {old} && mkdir -m 700 {store}`)")
        }
        Backend::FoundationDb => {
            let mut prefix = String::new();
            for byte in config.store.foundationdb.prefix.bytes() {
                // Letters and digits mean themselves to the tool and to a shell.
                match byte.is_ascii_alphanumeric() {
                    true => prefix.push(byte.into()),
                    false => _ = write!(prefix, "\\x{byte:02x}"),
                }
            }
            // All keys have a table number behind the prefix, which is below that of any sign.
            let cluster = config.store.foundationdb.cluster_file();
            let cluster = cluster.map_or_else(String::new, |file| format!(" -C {}", file.display()));
            format!("clear it: fdbcli{cluster} --exec 'writemode on; clearrange {prefix}\\x00 {prefix}\\x21'")
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::migrate::{Copied, Sum};

    use super::*;

    fn copying(table: &'static str, part: Option<f64>) -> Progress {
        Progress::Copying { table, part, copied: Copied { rows: 1_234, bytes: 56_789_000 } }
    }

    fn shown(terminal: Terminal, progress: &[Progress]) -> String {
        let mut out = Vec::new();
        let mut lines = ProgressLines::new(terminal, &mut out);
        progress.iter().for_each(|progress| lines.show(progress));
        lines.note("that was it");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_table() {
        let totals = Totals { users: 5, sum: Sum { rows: 10, bytes: 1_000_000, checksum: 7 } };
        let progress = [
            copying("timeline", Some(0.504)),
            copying("unfinished", None),
            Progress::Comparing { part: 0.0, totals },
            Progress::Done(totals),
        ];
        assert_eq!(
            shown(Terminal::Lines, &progress),
            "copying timeline: 50 %, 1234 rows, 56.8 MB\ncopying unfinished: 1234 rows, 56.8 MB\n\
             comparing: 0 %, 5 users, 10 rows, 1.0 MB\nthat was it\n"
        );
    }

    #[test]
    fn a_terminal_gets_a_bar_that_stays_on_its_line() {
        let text = shown(Terminal::Bar, &[copying("timeline", Some(0.5)), copying("sends", Some(1.0))]);
        let half = "#".repeat(15) + &"-".repeat(15);
        let full = "#".repeat(30);
        let expected = format!(
            "\rcopying timeline        [{half}]  50 %  1234 rows, 56.8 MB\x1b[K\
             \rcopying sends           [{full}] 100 %  1234 rows, 56.8 MB\x1b[K\nthat was it\n"
        );
        assert_eq!(text, expected);
    }
}
