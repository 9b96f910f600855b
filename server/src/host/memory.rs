//! How much memory this process may take, and which defaults fit into it. PURE, but for [`available`], which reads what the kernel says.
//!
//! A process that takes more than its control group allows is killed without a word. What grows with the load is bounded by five keys of the
//! configuration; where a file does not set them, they follow the memory.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::limits::{CACHE_CORE_BYTES_MIN, MEMORY_BYTES_MIN};

const MIB: u64 = 1024 * 1024;

/// Where the kernel shows control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory that a process may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// How much.
    pub bytes: u64,
    /// Who says so.
    pub says: Bound,
}

/// What bounds the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine has no more.
    Machine,
    /// This file of a control group: the process's own, or one above it.
    Group(PathBuf),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes / MIB;
        match &self.says {
            Bound::Machine => write!(f, "the machine has {mib} MiB"),
            Bound::Group(file) => write!(f, "{} allows {mib} MiB", file.display()),
        }
    }
}

/// What this process may take. Nothing if the kernel does not say.
#[must_use]
pub fn available() -> Option<Memory> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let mut least =
        machine_bytes(&read(Path::new("/proc/meminfo"))?).map(|bytes| Memory { bytes, says: Bound::Machine });
    for file in limit_files(&read(Path::new("/proc/self/cgroup")).unwrap_or_default()) {
        // "max" is no number, and means that there is no limit.
        let limit = read(&file).and_then(|text| text.trim().parse().ok());
        if let Some(bytes) = limit
            && least.as_ref().is_none_or(|least| bytes < least.bytes)
        {
            least = Some(Memory { bytes, says: Bound::Group(file) });
        }
    }
    least
}

/// What `/proc/meminfo` says.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Where the limits of a process stand, by its `/proc/self/cgroup`: of its group, and of those above. In a container the path may be
/// that of the host, which is not to be seen; then the root that is seen is the container's group.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (PathBuf::from(CGROUPS), "memory.max"),
            controllers if controllers.split(',').any(|one| one == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|ancestor| root.join(ancestor).join(file)));
    }
    files
}

/// The defaults that fit into a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitting {
    /// `journal.segment_bytes`.
    pub segment_bytes: u64,
    /// `journal.bytes_max`.
    pub journal_bytes_max: u64,
    /// `store.cache_bytes`.
    pub cache_bytes: u64,
    /// `limits.core_memory_bytes`.
    pub core_memory_bytes: u64,
    /// `cache.core_bytes_max`.
    pub core_cache_bytes: u64,
}

impl Fitting {
    /// With as much memory as one likes: what is good on a machine of its own.
    pub const AMPLE: Self = Self {
        segment_bytes: 64 * MIB,
        journal_bytes_max: 1024 * MIB,
        cache_bytes: 256 * MIB,
        core_memory_bytes: 256 * MIB,
        core_cache_bytes: 64 * MIB,
    };

    /// An eighth of the memory for the journal, because what it holds and the store does not have takes up to four times as much memory; a
    /// sixteenth for the store's cache; a sixteenth for what clients have not read, and a thirty-second for what apps open with, both over all cores. A segment is a thirty-second: to bring it
    /// into the store takes three times as much. Together that is nine tenths at the worst, which do not all come at once; the rest is for
    /// connections and the program. Never more than what is good on a machine of its own, nor less than what works.
    #[must_use]
    pub fn into(bytes: u64, cores: u16) -> Self {
        // A segment is made of pages, and the journal of segments.
        let segment_bytes = (bytes / 32).next_power_of_two() / 2;
        let segment_bytes = segment_bytes.clamp(2 * MIB, Self::AMPLE.segment_bytes);
        let segments = (bytes / 8 / segment_bytes).max(4);
        Self {
            segment_bytes,
            journal_bytes_max: (segments * segment_bytes).min(Self::AMPLE.journal_bytes_max),
            cache_bytes: (bytes / 16).clamp(4 * MIB, Self::AMPLE.cache_bytes),
            core_memory_bytes: (bytes / 16 / u64::from(cores.max(1)))
                .clamp(MEMORY_BYTES_MIN, Self::AMPLE.core_memory_bytes),
            core_cache_bytes: (bytes / 32 / u64::from(cores.max(1)))
                .clamp(CACHE_CORE_BYTES_MIN, Self::AMPLE.core_cache_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_the_group_and_of_all_above_it_is_looked_for() {
        let files = |groups: &str| -> Vec<String> {
            limit_files(groups).into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"], "a container with a name space of its own");
        assert_eq!(
            files("0::/system.slice/ringpost.service\n"),
            [
                "/sys/fs/cgroup/system.slice/ringpost.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/docker/7\n1:name=systemd:/b\n"),
            [
                "/sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert_eq!(files("nonsense\n0:\n"), [""; 0]);
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(machine_bytes("MemTotal:       16384256 kB\nMemFree: 1 kB\n"), Some(16_384_256 * 1024));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(available().is_some_and(|memory| memory.bytes > 64 * MIB));
    }

    #[test]
    fn the_defaults_fit_into_the_memory() {
        let table = [
            // Memory, cores: segment, journal, the store's cache, core memory, a core's cache, all in MiB.
            (64, 1, [2, 8, 4, 16, 2]),
            (128, 1, [2, 16, 8, 16, 4]),
            (256, 2, [4, 32, 16, 16, 4]),
            (512, 2, [8, 64, 32, 16, 8]),
            (1024, 4, [16, 128, 64, 16, 8]),
            (2048, 4, [32, 256, 128, 32, 16]),
            (4096, 4, [64, 512, 256, 64, 32]),
            (8192, 2, [64, 1024, 256, 256, 64]),
            (1 << 20, 64, [64, 1024, 256, 256, 64]),
        ];
        for (mib, cores, expected) in table {
            let Fitting { segment_bytes, journal_bytes_max, cache_bytes, core_memory_bytes, core_cache_bytes } =
                Fitting::into(mib * MIB, cores);
            let found = [segment_bytes, journal_bytes_max, cache_bytes, core_memory_bytes, core_cache_bytes];
            let found = found.map(|bytes| bytes / MIB);
            assert_eq!(found, expected, "{mib} MiB");
        }
    }

    #[test]
    fn whatever_the_memory_the_defaults_go_together_and_leave_room() {
        for bytes in (1..4_000).map(|n| n * 3 * MIB + 1234) {
            for cores in [1, 2, 16] {
                let fitting = Fitting::into(bytes, cores);
                assert!(fitting.segment_bytes.is_multiple_of(4096));
                assert!(fitting.journal_bytes_max >= 3 * fitting.segment_bytes, "{bytes}: {fitting:?}");
                if bytes > 128 * MIB {
                    let worst = 4 * fitting.journal_bytes_max
                        + 3 * fitting.segment_bytes
                        + fitting.cache_bytes
                        + u64::from(cores) * (fitting.core_memory_bytes + fitting.core_cache_bytes);
                    assert!(
                        worst <= bytes / 10 * 9 || bytes < 512 * MIB * u64::from(cores),
                        "{bytes}: {fitting:?} take {worst}"
                    );
                }
            }
        }
    }
}
