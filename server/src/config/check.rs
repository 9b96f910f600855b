//! What is wrong with a configuration, gathered: an operator hears of everything at once. Owns the words for a value that is out
//! of its range; all others are those of who checks.

use std::{fmt, ops::RangeInclusive};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its section.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it must be.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.allowed)
    }
}

/// Gathers what is wrong.
#[derive(Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
}

impl Check {
    pub(super) fn that(
        &mut self,
        holds: bool,
        key: &'static str,
        value: impl fmt::Display,
        allowed: impl FnOnce() -> String,
    ) {
        if !holds {
            self.problems.push(Problem { key, value: value.to_string(), allowed: allowed() });
        }
    }

    pub(super) fn range(&mut self, key: &'static str, value: u64, range: RangeInclusive<u64>) {
        self.that(range.contains(&value), key, value, || format!("must be {} to {}", range.start(), range.end()));
    }
}
