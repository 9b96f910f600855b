//! Draft: a configuration that is being read, from a file and from flags. It gathers everything that is wrong, each with where
//! it was said, and becomes a [`Config`] only if nothing is.
//!
//! A value that is refused leaves its default behind, and what depends on it is not judged: one mistake is one problem.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, ErrorKind, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Check, Config, ConfigError, Place, Problem, Push,
    key::{Found, Key, Refusal, Slot},
    syntax, unknown,
};
use crate::{
    files::datadir,
    host::memory::Fitting,
    limits::{JOURNAL_SEGMENTS_MIN, SMALL_FILE_BYTES_MAX},
};

/// What of a value is shown: the beginning tells which one it is.
const SHOWN_CHARS_MAX: usize = 60;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Draft {
    config: Config,
    /// Where the keys were set that are not as in [`Config::default`].
    places: BTreeMap<&'static str, Place>,
    problems: Vec<Problem>,
}

impl Draft {
    /// Reads a file. What it does not mention is as in [`Config::default`].
    ///
    /// # Errors
    /// The file can not be read, or is no text.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unusable = |why: String| ConfigError::Unusable { path: path.to_owned(), why };
        let bytes = read(path).map_err(|error| unusable(in_words(&error)))?;
        if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
            return Err(unusable(format!(
                "it has more than {SMALL_FILE_BYTES_MAX} bytes, so it is no configuration: name the right file"
            )));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self::parse(text, path)),
            Err(_) if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => {
                Err(unusable("it is UTF-16 text: save it as UTF-8".to_owned()))
            }
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                Err(unusable(format!("line {line} is not UTF-8 text: save the file as UTF-8")))
            }
        }
    }

    /// As [`Draft::load`], for the text of the file `path`.
    #[must_use]
    pub fn parse(text: &str, path: &Path) -> Self {
        let mut draft = Self::default();
        let source = Source { text, path };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut wrong_lines = Vec::new();
        for error in errors {
            let start = error.span().map_or(0, |span| span.start);
            let line = source.line(start);
            // One mistake may have several consequences.
            if !wrong_lines.contains(&line) {
                let content = text.lines().nth(line - 1).unwrap_or_default();
                draft.problems.push(Problem {
                    key: "",
                    place: source.place(start),
                    subject: format!("column {}, `{}`", source.column(start), shown(content.trim())),
                    reason: syntax::advice(error.message(), content),
                });
                wrong_lines.push(line);
            }
        }
        // Below a section whose name can not be read nobody knows what is meant.
        let is_section =
            |line: &usize| text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with('['));
        if !wrong_lines.iter().any(is_section) {
            draft.take_table(&source, "", table.get_ref(), &wrong_lines);
        }
        draft.problems.sort_by_key(|problem| match &problem.place {
            Place::Line { line, .. } => *line,
            Place::Flag(_) | Place::Default => 0,
        });
        draft
    }

    fn take_table(&mut self, source: &Source<'_>, section: &str, table: &DeTable<'_>, wrong_lines: &[usize]) {
        for (key, value) in table {
            let name =
                if section.is_empty() { key.get_ref().to_string() } else { format!("{section}.{}", key.get_ref()) };
            let start = key.span().start;
            match value.get_ref() {
                _ if wrong_lines.contains(&source.line(start)) => {}
                DeValue::Table(inner) if unknown::is_section(&name) => {
                    self.take_table(source, &name, inner, wrong_lines)
                }
                DeValue::Array(inner)
                    if unknown::is_section(&name) && inner.iter().all(|one| one.get_ref().is_table()) =>
                {
                    self.complain(
                        source.place(start),
                        format!("[[{name}]]"),
                        format!("one pair of brackets begins a section: [{name}]"),
                    );
                }
                _ if unknown::is_section(&name) => {
                    let reason = format!("this is a section: its keys stand below a line [{name}]");
                    self.complain(source.place(start), format!("{name} = {}", source.shown(value.span())), reason);
                }
                _ => self.take(source, &name, start, value),
            }
        }
    }

    fn take(&mut self, source: &Source<'_>, name: &str, start: usize, value: &Spanned<DeValue<'_>>) {
        let place = source.place(start);
        let is_section = value.get_ref().is_table() && !source.shown(value.span()).starts_with('{');
        let subject = if is_section { format!("[{name}]") } else { format!("{name} = {}", source.shown(value.span())) };
        let found = found(value.get_ref());
        let Some(mut key) = self.config.keys().into_iter().find(|key| key.name == name) else {
            return self.complain(place, subject, unknown::advice(name, is_section));
        };
        let (name, read) = (key.name, key.slot.read(&found));
        self.places.insert(name, place.clone());
        if let Err(refusal) = read {
            let short = name.rsplit('.').next().unwrap_or(name);
            let reason = reason(name, refusal, |value| format!("{short} = {value}"));
            self.problems.push(Problem { key: name, place, subject, reason });
        }
    }

    fn complain(&mut self, place: Place, subject: String, reason: String) {
        self.problems.push(Problem { key: "", place, subject, reason });
    }

    /// Takes what stands behind a flag, which counts for more than what a file says.
    ///
    /// # Panics
    /// There is no such key.
    pub fn set(&mut self, flag: &'static str, name: &str, value: &OsStr) {
        let text = value.to_string_lossy();
        let mut key = find(self.config.keys(), name);
        let (name, read) = match &mut key.slot {
            // Not every path is text.
            Slot::Path { value: path, empty, .. } if empty.is_some() || !value.is_empty() => {
                **path = value.into();
                (key.name, Ok(()))
            }
            slot => (key.name, slot.read(&Found::of_flag(&text))),
        };
        self.problems.retain(|problem| problem.key != name);
        self.places.insert(name, Place::Flag(flag));
        if let Err(refusal) = read {
            let reason = reason(name, refusal, |value| format!("{flag} {}", value.trim_matches('"')));
            let subject = format!("{flag} {}", if text.is_empty() { "\"\"" } else { &text });
            self.problems.push(Problem { key: name, place: Place::Flag(flag), subject, reason });
        }
    }

    /// Lets the defaults of what takes memory follow how much there is: those of keys that nobody has set.
    pub fn fit(&mut self, memory_bytes: u64) {
        let Fitting { segment_bytes, journal_bytes_max, cache_bytes, core_memory_bytes, core_cache_bytes } =
            Fitting::into(memory_bytes, self.config.cores());
        let Config { journal, store, limits, cache, .. } = &mut self.config;
        for (name, value, fitting) in [
            ("journal.segment_bytes", &mut journal.segment_bytes, segment_bytes),
            ("journal.bytes_max", &mut journal.bytes_max, journal_bytes_max),
            ("store.cache_bytes", &mut store.cache_bytes, cache_bytes),
            ("limits.core_memory_bytes", &mut limits.core_memory_bytes, core_memory_bytes),
            ("cache.core_bytes_max", &mut cache.core_bytes_max, core_cache_bytes),
        ] {
            if !self.places.contains_key(name) {
                *value = fitting;
            }
        }
        // Segments of a size that somebody has set must fit.
        if !self.places.contains_key("journal.bytes_max") {
            let needed = journal.segment_bytes.saturating_mul(JOURNAL_SEGMENTS_MIN);
            journal.bytes_max = journal.bytes_max.max(needed.min(Fitting::AMPLE.journal_bytes_max));
        }
    }

    /// Names the certificate that the server makes itself in its data folder.
    pub fn make_certificate(&mut self) {
        if self.config.tls.files().is_none() {
            (self.config.tls.cert_file, self.config.tls.key_file) = datadir::tls_paths(&self.config.data_dir);
            return;
        }
        self.check().that(false, &["tls.cert_file"], || {
            "--tls-self-signed makes another certificate: leave the flag or this key out".to_owned()
        });
    }

    /// The configuration, without a look at how its values go together: a command that needs one or two of them takes it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every value that is wrong.
    pub fn values(self) -> Result<Config, ConfigError> {
        if self.problems.is_empty() { Ok(self.config) } else { Err(ConfigError::Invalid(self.problems)) }
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn finish(mut self) -> Result<Config, ConfigError> {
        let config = self.config.clone();
        config.check(&mut self.check());
        self.values()
    }

    /// What a push service that is a process of its own reads of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn finish_push_service(mut self) -> Result<Push, ConfigError> {
        let push = self.config.push.clone();
        push.check_process(&mut self.check());
        self.values().map(|config| config.push)
    }

    fn check(&mut self) -> Check<'_> {
        Check { config: self.config.clone(), places: &self.places, problems: &mut self.problems }
    }
}

pub(super) fn find<'a>(keys: Vec<Key<'a>>, name: &str) -> Key<'a> {
    keys.into_iter().find(|key| key.name == name).expect("whoever asks names a key that there is")
}

/// What is wrong with a value, what is allowed, and one that is.
fn reason(name: &str, refusal: Refusal, write: impl Fn(&str) -> String) -> String {
    let mut default = Config::default();
    let slot = find(default.keys(), name).slot;
    let why = refusal.why.map_or(String::new(), |why| format!("{why}; "));
    let example = refusal.meant.unwrap_or_else(|| slot.example());
    format!("{why}must be {}; for example: {}", slot.allowed(), write(&example))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no such file: name one that exists, or leave --config out for the defaults".to_owned()
        }
        ErrorKind::IsADirectory => "this is a folder: name the file in it".to_owned(),
        ErrorKind::PermissionDenied => {
            "this user may not read it: let its owner allow that (chmod), or run this as another user".to_owned()
        }
        _ => format!("it can not be read: {error}"),
    }
}

/// The text of a file.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    /// From 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
    }

    /// In characters, from 1.
    fn column(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        1 + before.rsplit('\n').next().unwrap_or_default().chars().count()
    }

    fn place(&self, offset: usize) -> Place {
        Place::Line { path: PathBuf::from(self.path), line: self.line(offset) }
    }

    fn shown(&self, span: Range<usize>) -> String {
        shown(self.text.get(span).unwrap_or_default())
    }
}

fn shown(text: &str) -> String {
    let first_line = text.lines().next().unwrap_or_default();
    let short: String = first_line.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

fn found(value: &DeValue<'_>) -> Found {
    match value {
        DeValue::String(text) => Found::Text(text.to_string()),
        DeValue::Integer(number) => Found::Whole(i128::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(_) => Found::Fraction,
        DeValue::Boolean(is_on) => Found::Switch(*is_on),
        DeValue::Datetime(_) => Found::Date,
        DeValue::Array(list) => Found::List(list.iter().map(|one| found(one.get_ref())).collect()),
        DeValue::Table(_) => Found::Section,
    }
}
