//! Logging: one line per event to standard error, all of them in one [`Format`], the last words of the process included.
//!
//! Best effort: no thread of the server waits for standard error, and none is ended by it. Lines go through a `Spool`, whose thread
//! alone writes; so does what a panic says. Before the process ends, [`flush`] gives that thread [`LOG_LAST_WORDS_MS`].
//!
//! The crate tracing-appender has such a thread too. It was not taken because it bounds lines, not bytes; does not count what could
//! not be written; says nothing in the log about what is missing; cannot be flushed before an abort; and itself prints when it ends,
//! which panics when standard output is gone.

mod format;
mod spool;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd as _,
    panic,
    sync::OnceLock,
    thread,
    time::Duration,
};

use rim::utc::wall_now;
use thiserror::Error;
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
    fmt::MakeWriter,
    util::SubscriberInitExt,
};

pub use self::{format::Format, spool::LogCounters};
use self::{format::Json, spool::Spool};
use crate::limits::LOG_LAST_WORDS_MS;

/// What is shown when `RUST_LOG` does not say. The engine below the store reports its own housekeeping as information.
const DEFAULT_FILTER: &str = "info,fjall=warn,lsm_tree=warn";

/// What logs, by the names that a filter may use. A word that is none of them, and no level, would silence everything.
const PARTS: [&str; 5] = ["ringpost", "server", "storage", "fjall", "lsm_tree"];

/// Of the process, as the subscriber and the panic hook are.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    spool: Spool,
    format: Format,
}

/// Why logging did not start.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// `RUST_LOG` is not a filter.
    #[error("RUST_LOG = {value:?} is not a log filter: {error}; for example: info, or warn,server=debug")]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong.
        error: ParseError,
    },
    /// `RUST_LOG` names nothing that logs.
    #[error(
        "RUST_LOG = {value:?}: {word:?} is no level (off, error, warn, info, debug or trace), and nothing of this name logs ({}); \
         for example: info, or warn,server=debug",
        PARTS.join(", ")
    )]
    Word {
        /// Its value.
        value: String,
        /// What is wrong in it.
        word: String,
    },
    /// Something else in this process logs already.
    #[error("logging was started twice")]
    Twice,
    /// There is no descriptor or thread for it.
    #[error("the log cannot be written: {0}")]
    Spool(#[from] io::Error),
}

/// Starts logging for the whole process, panics included: as text if standard error is a terminal and nothing else is asked for, as
/// JSON otherwise. From then on [`fail`] speaks this format too, even if the filter is none.
///
/// # Errors
/// See [`LoggingError`].
pub fn init(format: Option<Format>) -> Result<(), LoggingError> {
    let is_terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if is_terminal { Format::Text } else { Format::Json });
    // A descriptor of the thread's own: whoever hangs in `io::stderr()` holds a lock that others need.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let spool = Spool::start(stderr, move |lost| {
        let message = "log lines are missing: standard error did not take them";
        format.line(wall_now(), "WARN", message, &[("lost", lost.into())])
    })?;
    LOG.set(Log { spool: spool.clone(), format }).map_err(|_| LoggingError::Twice)?;
    // Not the usual one: it writes to standard error itself, and would wait there.
    panic::set_hook(Box::new(move |panic| {
        put(&last_words(format, panic));
        flush();
    }));
    let builder = tracing_subscriber::fmt().with_env_filter(filter(env::var("RUST_LOG").ok())?);
    let builder = builder.log_internal_errors(false).with_writer(Pen(spool));
    let started = match format {
        Format::Text if is_terminal => builder.finish().try_init(),
        Format::Text => builder.with_ansi(false).finish().try_init(),
        Format::Json => builder.event_format(Json).finish().try_init(),
    };
    started.map_err(|_| LoggingError::Twice)
}

/// Says why the process ends, behind what has been logged, whatever the filter is. Before logging has started, as text and at once.
pub fn fail(reason: &str) {
    match LOG.get() {
        Some(Log { format: Format::Json, .. }) => put(&Format::Json.line(wall_now(), "ERROR", reason, &[])),
        _ => put(&reason.lines().map(|line| format!("ringpost: {line}\n")).collect::<String>()),
    }
}

/// Waits until everything that was logged is written or lost, no longer than [`LOG_LAST_WORDS_MS`]. For the end of the process.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.spool.flush(Duration::from_millis(LOG_LAST_WORDS_MS));
    }
}

/// Whether people read the log.
#[must_use]
pub fn is_text() -> bool {
    LOG.get().is_some_and(|log| log.format == Format::Text)
}

/// What became of the lines so far.
#[must_use]
pub fn counters() -> &'static LogCounters {
    static NONE: LogCounters = LogCounters::new();
    LOG.get().map_or(&NONE, |log| log.spool.counters())
}

fn put(lines: &str) {
    match LOG.get() {
        Some(log) => log.spool.put(lines.as_bytes()),
        // Nobody is left to tell when standard error is gone.
        None => _ = io::stderr().write_all(lines.as_bytes()),
    }
}

/// Puts each event down in the spool, as one write.
struct Pen(Spool);

impl<'a> MakeWriter<'a> for Pen {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Pen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a panic says: in the words of the log, with what to do, and whatever the filter is.
fn last_words(format: Format, panic: &panic::PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    let reason = formatted.or_else(|| payload.downcast_ref::<&str>().copied());
    let at = panic.location().map(|at| format!("{}:{}", from_its_package_on(at.file()), at.line()));
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let mut fields = vec![("thread", thread::current().name().into()), ("at", at.into()), ("reason", reason.into())];
    fields.extend(backtrace.map(|backtrace| ("backtrace", backtrace.into())));
    let message = "a bug, and the process ends; what was acknowledged is in the journal: restart, and report it";
    format.line(wall_now(), "ERROR", message, &fields)
}

/// A source file without the folders of the machine that built this: `/home/me/.cargo/registry/src/index/fjall-3.1.0/src/db.rs` is
/// `fjall-3.1.0/src/db.rs`.
fn from_its_package_on(file: &str) -> &str {
    let Some(source) = file.rfind("/src/") else { return file };
    file[..source].rfind('/').map_or(file, |package| &file[package + 1..])
}

fn filter(value: Option<String>) -> Result<EnvFilter, LoggingError> {
    let value = value.filter(|value| !value.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let is_word = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
    let mut words = value.split(',').map(str::trim).filter(|part| !part.is_empty()).filter(is_word);
    let is_known = |word: &str| {
        word.parse::<LevelFilter>().is_ok() || PARTS.contains(&word.split("::").next().unwrap_or_default())
    };
    if let Some(word) = words.find(|word| !is_known(word)) {
        return Err(LoggingError::Word { word: word.to_owned(), value });
    }
    EnvFilter::try_new(&value).map_err(|error| LoggingError::Filter { value, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_filter_information_is_shown() {
        for value in [None, Some(String::new()), Some(" ".to_owned())] {
            let shown = filter(value).unwrap().to_string();
            assert!(shown.split(',').any(|part| part == "info"), "{shown}");
        }
        assert_eq!(filter(Some("warn,server=debug".to_owned())).unwrap().to_string(), "server=debug,warn");
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let error = filter(Some("server=loud".to_owned())).unwrap_err().to_string();
        assert!(error.contains("RUST_LOG = \"server=loud\""), "{error}");
    }

    #[test]
    fn a_word_that_would_silence_everything_is_refused_with_what_is_allowed() {
        for value in ["verbose", "warn,sever", "all", "info,core::shard"] {
            let error = filter(Some(value.to_owned())).unwrap_err().to_string();
            assert!(error.contains(value) && error.contains("off, error, warn, info, debug or trace"), "{error}");
        }
        for value in ["off", "INFO", "3", "server", "server::io::reactor", "warn, fjall", "info,rustls=debug", "[span]"]
        {
            filter(Some(value.to_owned())).unwrap();
        }
    }

    #[test]
    fn a_source_file_is_named_from_its_package_on() {
        for (file, named) in [
            ("server/src/io/reactor.rs", "server/src/io/reactor.rs"),
            ("/home/me/.cargo/registry/src/a-registry-1/fjall-3.1.0/src/db.rs", "fjall-3.1.0/src/db.rs"),
            ("/rustc/0123/library/core/src/panicking.rs", "core/src/panicking.rs"),
            ("build.rs", "build.rs"),
        ] {
            assert_eq!(from_its_package_on(file), named);
        }
    }
}
