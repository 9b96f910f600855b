//! How far a start is with what the journal holds: first it is all read, then it is brought into the store. Told to the counters, to the
//! log every few seconds, and in words to whoever asks whether the server is ready.

use std::time::{Duration, Instant};

use storage::journal::{Reading, Recovered, SealedSegment};
use tracing::info;

use super::counters::{Counter, JournalCounters};
use crate::limits::RECOVERY_LOG_MS;

const MIB: u64 = 1024 * 1024;

/// Tells how far it is with one of the two.
#[derive(Debug)]
pub struct Progress<'a> {
    doing: &'static str,
    done: &'a Counter,
    of: &'a Counter,
    told: Instant,
}

impl<'a> Progress<'a> {
    /// Of a start that reads its journal.
    #[must_use]
    pub fn of_reading(journal: &'a JournalCounters) -> Self {
        Self::new("reading the journal", &journal.recovery_read_bytes_done, &journal.recovery_read_bytes)
    }

    /// Of a start that brings what it has read into the store.
    #[must_use]
    pub fn of_bringing_in(journal: &'a JournalCounters) -> Self {
        Self::new("recovering", &journal.recovery_bytes_done, &journal.recovery_bytes)
    }

    fn new(doing: &'static str, done: &'a Counter, of: &'a Counter) -> Self {
        Self { doing, done, of, told: Instant::now() }
    }

    /// So much has been read.
    pub fn has_read(&mut self, reading: Reading) {
        self.of.set(reading.of);
        self.has_done(reading.bytes);
    }

    /// So many bytes are done.
    pub fn has_done(&mut self, bytes: u64) {
        self.done.set(bytes);
        if self.told.elapsed() >= Duration::from_millis(RECOVERY_LOG_MS) {
            self.told = Instant::now();
            info!(done_mib = bytes / MIB, of_mib = self.of.get() / MIB, "{}", self.doing);
        }
    }
}

/// What is to be brought in of what was found.
pub fn found(journal: &JournalCounters, found: &Recovered) {
    journal.recovery_bytes.set(found.segments.iter().map(SealedSegment::bytes).sum());
}

/// What a start is doing with its journal, if it is.
#[must_use]
pub fn in_words(journal: &JournalCounters) -> Option<String> {
    let words = |doing: &str, done: &Counter, of: &Counter| {
        let (done, of) = (done.get(), of.get());
        // The last mebibyte is not done before it is.
        (done < of).then(|| format!("{doing}, {} of {} MiB", done / MIB, of.div_ceil(MIB)))
    };
    words("reading the journal", &journal.recovery_read_bytes_done, &journal.recovery_read_bytes)
        .or_else(|| words("recovering", &journal.recovery_bytes_done, &journal.recovery_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_follow_a_start_from_the_first_byte_to_the_last() {
        let journal = JournalCounters::default();
        assert_eq!(in_words(&journal), None);
        let mut progress = Progress::of_reading(&journal);
        progress.has_read(Reading { bytes: 4096, of: 128 * MIB });
        assert_eq!(in_words(&journal).unwrap(), "reading the journal, 0 of 128 MiB");
        progress.has_read(Reading { bytes: 128 * MIB, of: 128 * MIB });
        assert_eq!(in_words(&journal), None);
        journal.recovery_bytes.set(100 * MIB + 1);
        let mut progress = Progress::of_bringing_in(&journal);
        assert_eq!(in_words(&journal).unwrap(), "recovering, 0 of 101 MiB");
        progress.has_done(100 * MIB);
        assert_eq!(in_words(&journal).unwrap(), "recovering, 100 of 101 MiB");
        progress.has_done(100 * MIB + 1);
        assert_eq!(in_words(&journal), None);
    }
}
