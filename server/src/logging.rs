//! Logging: one line per event to standard error. People read it on a terminal, machines read JSON everywhere else.
//!
//! Best effort: no thread of the server waits for standard error, and none is ended by it. Lines go through a [`Spool`], whose thread
//! alone writes; so does what a panic says. Before the process ends, [`flush`] gives that thread [`LOG_LAST_WORDS_MS`].
//!
//! The crate tracing-appender has such a thread too. It was not taken because it bounds lines, not bytes; does not count what could
//! not be written; says nothing in the log about what is missing; cannot be flushed before an abort; and itself prints when it ends,
//! which panics when standard output is gone.

mod spool;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    fmt::Write as _,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd as _,
    panic,
    sync::OnceLock,
    thread,
    time::Duration,
};

use proto_spec::TimestampMs;
use serde_json::{Map, Value};
use thiserror::Error;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt::MakeWriter, util::SubscriberInitExt};

pub use self::spool::LogCounters;
use self::spool::Spool;
use crate::{
    limits::LOG_LAST_WORDS_MS,
    utc::{utc, wall_now},
};

/// What is shown when `RUST_LOG` does not say. The engine below the store reports its own housekeeping as information.
const DEFAULT_FILTER: &str = "info,fjall=warn,lsm_tree=warn";

/// Of the process, as the subscriber and the panic hook are.
static SPOOL: OnceLock<Spool> = OnceLock::new();

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
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
    /// Something else in this process logs already.
    #[error("logging was started twice")]
    Twice,
    /// There is no descriptor or thread for it.
    #[error("the log cannot be written: {0}")]
    Spool(#[from] io::Error),
}

/// Starts logging for the whole process, panics included.
///
/// # Errors
/// See [`LoggingError`].
pub fn init() -> Result<(), LoggingError> {
    let filter = filter(env::var("RUST_LOG").ok())?;
    let format = if io::stderr().is_terminal() { Format::Text } else { Format::Json };
    // A descriptor of the thread's own: whoever hangs in `io::stderr()` holds a lock that others need.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let spool = Spool::start(stderr, move |lost| {
        let lost = lost.to_string();
        line(format, wall_now(), "WARN", "log lines are missing: standard error did not take them", &[("lost", &lost)])
    })?;
    SPOOL.set(spool.clone()).map_err(|_| LoggingError::Twice)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(Pen(spool));
    let started = match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|_| LoggingError::Twice)?;
    // Not the usual one: it writes to standard error itself, and would wait there.
    panic::set_hook(Box::new(move |panic| {
        say(&last_words(format, panic));
        flush();
    }));
    Ok(())
}

/// Waits until everything that was logged is written or lost, no longer than [`LOG_LAST_WORDS_MS`]. For the end of the process.
pub fn flush() {
    if let Some(spool) = SPOOL.get() {
        spool.flush(Duration::from_millis(LOG_LAST_WORDS_MS));
    }
}

/// What became of the lines so far.
#[must_use]
pub fn counters() -> &'static LogCounters {
    static NONE: LogCounters = LogCounters::new();
    SPOOL.get().map_or(&NONE, Spool::counters)
}

/// Says something on standard error, behind what has been logged, whatever the filter is. Before logging has started, at once.
pub fn say(line: &str) {
    match SPOOL.get() {
        Some(spool) => spool.put(line.as_bytes()),
        // Nobody is left to tell when standard error is gone.
        None => _ = io::stderr().write_all(line.as_bytes()),
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
    let thread = thread::current();
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let payload = panic.payload();
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    let reason = formatted.or_else(|| payload.downcast_ref::<&str>().copied());
    let mut fields =
        vec![("thread", thread.name().unwrap_or_default()), ("at", &at), ("reason", reason.unwrap_or_default())];
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    fields.extend(backtrace.as_deref().map(|backtrace| ("backtrace", backtrace)));
    let message = "a bug, and the process ends; what was acknowledged is in the journal: restart, and report it";
    line(format, wall_now(), "ERROR", message, &fields)
}

/// A line in the form of the others, for what must not depend on a filter.
fn line(format: Format, now: TimestampMs, level: &str, message: &str, fields: &[(&str, &str)]) -> String {
    let time = format!("{}.{:03}Z", utc(now.0 / 1000, ':'), now.0 % 1000);
    match format {
        Format::Text => {
            let mut text = format!("{time} {level:>5} ringpost: {message}");
            for (name, value) in fields {
                // Writing to a String can not fail.
                let _ = write!(text, " {name}={value:?}");
            }
            text + "\n"
        }
        Format::Json => {
            let about = [("timestamp", time.as_str()), ("level", level), ("message", message), ("target", "ringpost")];
            let all = about.iter().chain(fields).map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
            Value::from(all.collect::<Map<_, _>>()).to_string() + "\n"
        }
    }
}

fn filter(value: Option<String>) -> Result<EnvFilter, LoggingError> {
    let value = value.filter(|value| !value.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
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
    fn a_line_that_no_filter_holds_back_looks_like_the_others() {
        let fields = [("thread", "ringpost-core-0"), ("reason", "a \"quoted\"\nword")];
        let write = |format| line(format, TimestampMs(951_782_399_007), "ERROR", "a bug", &fields);
        assert_eq!(
            write(Format::Text),
            "2000-02-28T23:59:59.007Z ERROR ringpost: a bug thread=\"ringpost-core-0\" reason=\"a \\\"quoted\\\"\\nword\"\n"
        );
        let object: Value = serde_json::from_str(&write(Format::Json)).unwrap();
        assert_eq!(object["timestamp"], "2000-02-28T23:59:59.007Z");
        assert_eq!((&object["level"], &object["reason"]), (&Value::from("ERROR"), &Value::from(fields[1].1)));
    }
}
