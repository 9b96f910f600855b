//! What the kernel lets this process have: open files (RLIMIT_NOFILE) and locked memory (RLIMIT_MEMLOCK).
//!
//! Linux 6.14 and newer count the memory of rings as locked, for all processes of a user together, unless a process has
//! CAP_IPC_LOCK. Linux 5.12 to 6.13 count none of it. So nothing is refused beforehand: what is computed here is said when the
//! kernel has refused a ring.

use std::fmt;

use io_uring::{cqueue, squeue, types::BufRingEntry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    limits::{COMPLETION_ENTRIES, JOURNAL_ENTRIES, RECEIVE_BUFFERS, RUNTIME_ENTRIES, SUBMISSION_ENTRIES},
    process::PAGE_BYTES,
};

/// Counters and flags before the completions of a ring (`struct io_rings`), rounded up.
const RING_HEAD_BYTES: u64 = 320;

/// What the kernel counts as locked for a client ring: the ring, and the entries of its receive buffers (not the buffers).
pub const CLIENT_RING_BYTES: u64 = ring_bytes(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)
    + (RECEIVE_BUFFERS as u64 * size_of::<BufRingEntry>() as u64).next_multiple_of(PAGE_BYTES);

/// The same for a core, whose runtime has a ring too.
pub const CORE_BYTES: u64 = CLIENT_RING_BYTES + ring_bytes(RUNTIME_ENTRIES, 2 * RUNTIME_ENTRIES);

/// The same for the ring of a node's journal.
pub const JOURNAL_RING_BYTES: u64 = ring_bytes(JOURNAL_ENTRIES, 2 * JOURNAL_ENTRIES);

const fn ring_bytes(submissions: u32, completions: u32) -> u64 {
    let (submissions, completions) = (submissions as u64, completions as u64);
    let entries = submissions * size_of::<squeue::Entry>() as u64;
    let indices = submissions * size_of::<u32>() as u64;
    let ring = RING_HEAD_BYTES + completions * size_of::<cqueue::Entry>() as u64 + indices;
    entries.next_multiple_of(PAGE_BYTES) + ring.next_multiple_of(PAGE_BYTES)
}

/// How much memory some rings need locked, and how much may be. Says so in a sentence, with the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedMemory {
    /// How many rings, or cores with the rings that they have.
    pub count: u16,
    /// What the kernel counts for each.
    pub each_bytes: u64,
    /// What it counts beside them.
    pub more_bytes: u64,
    /// RLIMIT_MEMLOCK, if there is a limit.
    pub limit_bytes: Option<u64>,
}

impl LockedMemory {
    /// For one ring of so many bytes, under the limit of this process.
    #[must_use]
    pub fn of_ring(bytes: u64) -> Self {
        Self { count: 1, each_bytes: bytes, more_bytes: 0, limit_bytes: getrlimit(Resource::Memlock).current }
    }

    /// For a node of so many cores, under the limit of this process.
    #[must_use]
    pub fn of_node(cores: u16) -> Self {
        Self { count: cores, more_bytes: JOURNAL_RING_BYTES, ..Self::of_ring(CORE_BYTES) }
    }
}

impl fmt::Display for LockedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, each_bytes, more_bytes, limit_bytes } = *self;
        let total_bytes = u64::from(count) * each_bytes + more_bytes;
        let kib = |bytes: u64| bytes.div_ceil(1024);
        match count {
            1 => write!(f, "the rings of one core need {} KiB of locked memory", kib(total_bytes))?,
            _ => write!(f, "the rings of {count} cores need {} KiB of locked memory", kib(total_bytes))?,
        }
        let Some(limit_bytes) = limit_bytes else {
            return write!(
                f,
                ", which is not limited, and the kernel has none left: look at the memory of the machine or container"
            );
        };
        write!(f, ", and all processes of this user together may lock {} KiB", limit_bytes / 1024)?;
        if total_bytes <= limit_bytes {
            write!(f, ", some of which others of them have")?;
        }
        write!(
            f,
            ": raise the limit (LimitMEMLOCK={0}K or more of the service, `--ulimit memlock={total_bytes}` of a container, \
             `ulimit -l {0}` in a shell that may)",
            kib(total_bytes)
        )?;
        match limit_bytes.saturating_sub(more_bytes) / each_bytes {
            enough @ 1.. if enough < count.into() => write!(f, ", or start with fewer cores (--cores {enough})"),
            _ => Ok(()),
        }
    }
}

/// Raises the limit of open files to what the process may have, and says what it is then.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_what_a_core_needs() {
        let document = include_str!("../../../docs/OPERATING.md");
        let [core, journal] = [CORE_BYTES, JOURNAL_RING_BYTES].map(|bytes| bytes / 1024);
        assert!(document.contains(&format!("| locked memory: {core} KiB a core, and {journal} |")));
        let cores = ((8 << 20) - JOURNAL_RING_BYTES) / CORE_BYTES;
        assert!(document.contains(&format!("8 MiB are enough for {cores} cores")));
    }

    fn memory(count: u16, limit_kib: u64) -> LockedMemory {
        let [each_bytes, more_bytes] = [440, 8].map(|kib| kib * 1024);
        LockedMemory { count, each_bytes, more_bytes, limit_bytes: Some(limit_kib * 1024) }
    }

    #[test]
    fn the_message_says_what_is_needed_what_is_allowed_and_how_few_cores_fit() {
        let said = memory(19, 8192).to_string();
        for words in ["19 cores need 8368 KiB", "may lock 8192 KiB:", "LimitMEMLOCK=8368K", "--cores 18"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let said = memory(1, 100).to_string();
        assert!(said.contains("one core need 448 KiB") && !said.contains("--cores"), "{said}");
        let said = memory(2, 8192).to_string();
        assert!(said.contains("some of which others of them have") && !said.contains("--cores"), "{said}");
    }
}
