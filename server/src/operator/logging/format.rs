//! Format: how a line of the log is written.

use std::fmt;

use proto_spec::TimestampMs;
use rim::utc::{utc, wall_now};
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Format {
    /// A line that does not come by way of the subscriber, and so depends on no filter, in the form of those that do.
    pub(super) fn line(self, now: TimestampMs, level: &str, message: &str, fields: &[(&str, Value)]) -> String {
        match self {
            Self::Text => {
                let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{} {level:>5} ringpost: {message}{fields}\n", timestamp(now))
            }
            Self::Json => object(now, level, "ringpost", [("message", message.into())].iter().chain(fields)),
        }
    }
}

/// Writes events as JSON. Not the formatter of `tracing-subscriber`: that one shows where the source files of libraries lay on the
/// machine that built this.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Libraries that use the crate `log` have what they say of themselves in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut fields = Fields::default();
        event.record(&mut fields);
        writer.write_str(&object(wall_now(), metadata.level().as_str(), metadata.target(), &fields.0))
    }
}

#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        if !field.name().starts_with("log.") {
            self.0.push((field.name(), value.into()));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }
}

fn object<'a>(
    now: TimestampMs,
    level: &str,
    target: &str,
    fields: impl IntoIterator<Item = &'a (&'a str, Value)>,
) -> String {
    let mut text = format!("{{\"timestamp\":\"{}\",\"level\":\"{level}\"", timestamp(now));
    for (name, value) in fields {
        text += &format!(",\"{name}\":{value}");
    }
    text + &format!(",\"target\":{}}}\n", Value::from(target))
}

fn timestamp(now: TimestampMs) -> String {
    format!("{}.{:03}Z", utc(now.0 / 1000, ':'), now.0 % 1000)
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_line_that_no_filter_holds_back_looks_like_the_others() {
        let fields = [("thread", Value::from("ringpost-core-0")), ("reason", "a \"quoted\"\nword".into())];
        let write = |format: Format| format.line(TimestampMs(951_782_399_007), "ERROR", "a bug", &fields);
        assert_eq!(
            write(Format::Text),
            "2000-02-28T23:59:59.007Z ERROR ringpost: a bug thread=\"ringpost-core-0\" reason=\"a \\\"quoted\\\"\\nword\"\n"
        );
        let object: Value = serde_json::from_str(&write(Format::Json)).unwrap();
        assert_eq!(object["timestamp"], "2000-02-28T23:59:59.007Z");
        assert_eq!((&object["level"], &object["reason"]), (&Value::from("ERROR"), &fields[1].1));
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a library says by way of the crate `log` comes with the path of its source file.
    #[test]
    fn events_keep_their_values_and_lose_the_paths_of_libraries() {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(count = 3_u64, ok = true, who = "\"x\"", log.file = "/home/me/x.rs", "said");
        });
        let text = String::from_utf8(page.0.lock().clone()).unwrap();
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&object["message"], &object["level"]), (&Value::from("said"), &Value::from("INFO")));
        assert_eq!((&object["count"], &object["ok"], &object["who"]), (&3.into(), &true.into(), &"\"x\"".into()));
        assert!(!text.contains("/home") && text.ends_with("}\n"), "{text}");
    }
}
