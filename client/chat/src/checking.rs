//! `/check`: whether what this run was handed is what the server's log has.

use client::{Check, Digests, Entry, FetchHandle, History, Seq, Verdict};

/// Comparisons that are begun anew because the log has changed meanwhile. In a conversation that goes on, one of a few finds a moment.
const TRIES_MAX: u8 = 8;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checking {
    history: History,
    open: Option<(FetchHandle, Check)>,
    tries: u8,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The server has the same from the first seq to the last.
    Same(Seq, Seq),
    /// The server has something else there.
    Differs(Seq, Seq),
    /// Nothing was handed out yet.
    Nothing,
    /// The log changes faster than it is compared.
    Changing,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask for these digests, and say so with [`Checking::asked`].
    Ask(Check),
    Done(Found),
}

impl Checking {
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.history.entry(entry);
    }

    pub(crate) fn skipped(&mut self, up_to: Seq) {
        self.history.skipped(up_to);
    }

    pub(crate) fn begin(&mut self) -> Next {
        self.tries = TRIES_MAX;
        self.begin_again()
    }

    fn begin_again(&mut self) -> Next {
        match (self.history.check(), self.tries.checked_sub(1)) {
            (None, _) => Next::Done(Found::Nothing),
            (Some(_), None) => Next::Done(Found::Changing),
            (Some(check), Some(left)) => {
                self.tries = left;
                Next::Ask(check)
            }
        }
    }

    pub(crate) const fn asked(&mut self, fetch: FetchHandle, check: Check) {
        self.open = Some((fetch, check));
    }

    /// None: it is of an older comparison.
    pub(crate) fn answered(&mut self, fetch: FetchHandle, digests: &Digests) -> Option<Next> {
        let (_, check) = self.open.take_if(|(open, _)| *open == fetch)?;
        Some(match check.answer(&self.history, digests) {
            Verdict::Goes(on) => Next::Ask(on),
            Verdict::Same(first, last) => Next::Done(Found::Same(first, last)),
            Verdict::Differs(first, last) => Next::Done(Found::Differs(first, last)),
            Verdict::Changed => self.begin_again(),
        })
    }

    /// Whether it was of this comparison, which is over.
    pub(crate) fn refused(&mut self, fetch: FetchHandle) -> bool {
        self.open.take_if(|(open, _)| *open == fetch).is_some()
    }
}
