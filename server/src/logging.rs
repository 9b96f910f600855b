//! Logging: one line per event to stderr. People read it on a terminal, machines read JSON everywhere else.

use std::{env, io, io::IsTerminal, panic, thread};

use thiserror::Error;
use tracing::error;
use tracing_subscriber::{EnvFilter, filter::ParseError, util::SubscriberInitExt};

/// What is shown when `RUST_LOG` does not say. The engine below the store reports its own housekeeping as information.
const DEFAULT_FILTER: &str = "info,fjall=warn,lsm_tree=warn";

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
}

/// Starts logging for the whole process, panics included.
///
/// # Errors
/// See [`LoggingError`].
pub fn init() -> Result<(), LoggingError> {
    let filter = filter(env::var("RUST_LOG").ok())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        builder.finish().try_init()
    } else {
        builder.json().flatten_event(true).finish().try_init()
    };
    started.map_err(|_| LoggingError::Twice)?;
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        usual(panic);
        report(panic);
    }));
    Ok(())
}

/// In words of the log, and with what to do.
fn report(panic: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let payload = panic.payload();
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    error!(
        thread = thread.name(),
        at = panic.location().map(tracing::field::display),
        reason = formatted.or_else(|| payload.downcast_ref::<&str>().copied()),
        "a bug, and the process ends; what was acknowledged is in the journal: restart, and report it"
    );
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
}
