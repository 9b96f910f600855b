//! Process: what the kernel says of a process on this machine: its CPU time, memory and open files, from /proc. And its end in a
//! hurry.

use std::fs;

/// Of /proc/PID/stat. USER_HZ is 100 on every architecture that Rust has a Linux for.
const TICKS_A_SECOND: f64 = 100.0;

/// Bytes of a page. Others have larger pages, but not the machines that this runs on.
pub const PAGE_BYTES: u64 = 4096;

/// CPU and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time since its start, in seconds.
    pub cpu_s: f64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// Descriptors of its table; none if it is somebody else's. Connections are not among them: they live in the rings.
    pub open_files: Option<u64>,
}

impl Usage {
    /// Of a process on this machine; none if there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let open_files = fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|files| files.count() as u64);
        let (cpu_s, memory_bytes) = parse(&stat, &statm)?;
        Some(Self { cpu_s, memory_bytes, open_files })
    }

    /// Of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }
}

/// Ends this process at once: nothing is run that usually is at an exit. Other threads, such as that of FoundationDB's network, may be
/// in the middle of something and must not see what they use taken apart.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: it takes a number, touches no memory, and does not come back.
    unsafe { libc::_exit(status) }
}

fn parse(stat: &str, statm: &str) -> Option<(f64, u64)> {
    // The name of the program stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let cpu_s = (ticks()? + ticks()?) as f64 / TICKS_A_SECOND;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some((cpu_s, pages * PAGE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 3 0 100 1000 50 18446744073709551615";
        assert_eq!(parse(stat, "1000 50 30 10 0 20 0"), Some((4.0, 50 * 4096)));
        assert_eq!(parse("nonsense", ""), None);
    }

    #[test]
    fn this_process_uses_memory_and_has_files_open() {
        let own = Usage::own();
        assert!(own.memory_bytes > 0 && own.open_files >= Some(3), "{own:?}");
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
