//! What is wrong with a configuration, gathered: an operator hears of everything at once, each with where it was said.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{Config, draft::find};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// On the command line.
    Flag(&'static str),
    /// Nowhere: it is the default.
    Default,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its section; empty if it is of none.
    pub key: &'static str,
    /// Where it was set.
    pub place: Place,
    /// What is wrong: the key and its value, or what stands in the file.
    pub subject: String,
    /// Why, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, reason, .. } = self;
        match &self.place {
            Place::Line { path, line } => write!(f, "{}, line {line}, {subject}: {reason}", path.display()),
            Place::Flag(_) => write!(f, "{subject}: {reason}"),
            Place::Default => write!(f, "{subject} (the default): {reason}"),
        }
    }
}

/// Gathers what is wrong.
pub(super) struct Check<'a> {
    pub(super) config: Config,
    pub(super) places: &'a BTreeMap<&'static str, Place>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    /// Something that must hold between these keys; the first one is to be changed. Where one of them is wrong by itself, nothing
    /// can be said.
    pub(super) fn that(&mut self, holds: bool, keys: &[&'static str], allowed: impl FnOnce() -> String) {
        if holds || self.problems.iter().any(|problem| keys.contains(&problem.key)) {
            return;
        }
        let key = keys[0];
        let slot = find(self.config.keys(), key).slot;
        let (value, meaning) =
            (slot.to_string(), slot.meaning().map_or(String::new(), |meaning| format!(" ({meaning})")));
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        let subject = match place {
            Place::Flag(flag) => format!("{flag} {}", value.trim_matches('"')),
            Place::Line { .. } | Place::Default => format!("{key} = {value}{meaning}"),
        };
        self.problems.push(Problem { key, place, subject, reason: allowed() });
    }
}
