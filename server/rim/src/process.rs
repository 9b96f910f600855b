//! Process: what the kernel says of a process on this machine: its CPU time, memory and open files, from /proc. What a thread asks of the
//! kernel's scheduler. And the end of a process in a hurry.

use std::{fs, io};

use crate::limits::SLICE_US;

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

/// Asks for short slices of the processor for the calling thread, [`SLICE_US`] each: it gets one soon after it wakes up, from a thread with
/// longer ones that has had a short one. It gets no more of the processor than without. A kernel before 6.12 has one length for all.
///
/// # Errors
/// The kernel does not allow it. A thread that has been given another policy than the usual keeps it, and this is no error.
pub fn take_short_slices() -> io::Result<()> {
    let mut attributes = scheduling()?;
    let has_slices = [libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&(attributes.sched_policy as i32));
    if !has_slices {
        return Ok(());
    }
    attributes.sched_runtime = SLICE_US * 1_000;
    // SAFETY: the call reads `attributes`, which is there and says how long it is; 0 is this thread, and no flags are given.
    let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How the kernel schedules the calling thread.
fn scheduling() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call writes to `attributes` no more than the `size` bytes that it has; 0 is this thread, and no flags are given.
    let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(attributes) }
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
    fn short_slices_change_nothing_else_about_a_thread() {
        let before = scheduling().unwrap();
        let after = std::thread::spawn(|| {
            take_short_slices().unwrap();
            scheduling().unwrap()
        });
        let after = after.join().unwrap();
        assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
        // A kernel before 6.12 says 0 of all threads.
        let expected = if before.sched_runtime == 0 { 0 } else { SLICE_US * 1_000 };
        assert_eq!(after.sched_runtime, expected);
        assert_eq!(scheduling().unwrap().sched_runtime, before.sched_runtime);
    }

    #[test]
    fn this_process_uses_memory_and_has_files_open() {
        let own = Usage::own();
        assert!(own.memory_bytes > 0 && own.open_files >= Some(3), "{own:?}");
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
