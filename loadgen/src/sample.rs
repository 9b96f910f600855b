//! What the machine says: CPU and memory of the generator and of the server, from /proc or from the server's metrics.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::limits::{METRICS_BYTES_MAX, METRICS_TIMEOUT_MS};

/// Of /proc/PID/stat. USER_HZ is 100 on every architecture that Rust has a Linux for.
const TICKS_A_SECOND: f64 = 100.0;

/// Of /proc/PID/statm. Others have larger pages, but not the machines that this runs on.
const PAGE_BYTES: u64 = 4096;

/// CPU and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time since its start, in seconds.
    pub cpu_s: f64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
}

impl Usage {
    /// Of a process on this machine; none if there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        Self::parse(&stat, &statm)
    }

    /// Of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }

    fn parse(stat: &str, statm: &str) -> Option<Self> {
        // The name of the program stands in parentheses and may contain anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let cpu_s = (ticks()? + ticks()?) as f64 / TICKS_A_SECOND;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { cpu_s, memory_bytes: pages * PAGE_BYTES })
    }
}

/// What the server's metrics page says. Sums over all cores; none where the page has no such metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Journal groups that were synced, since the start.
    pub commits: Option<f64>,
    /// Seconds from handing a group to the kernel until it is durable, together.
    pub sync_s: Option<f64>,
    /// Batches of these groups.
    pub group_batches: Option<f64>,
    /// Bytes of these groups.
    pub group_bytes: Option<f64>,
    /// CPU seconds of the process.
    pub cpu_s: Option<f64>,
    /// Resident bytes of the process.
    pub memory_bytes: Option<f64>,
}

impl Metrics {
    /// Asks the server.
    ///
    /// # Errors
    /// It does not answer in time, or not with a page.
    pub fn ask(address: SocketAddr) -> std::io::Result<Self> {
        let patience = Duration::from_millis(METRICS_TIMEOUT_MS);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ringpost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(METRICS_BYTES_MAX).read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200") => Ok(Self::parse(page)),
            _ => Err(std::io::Error::other("the answer is no metrics page")),
        }
    }

    /// Reads a page in the text format of Prometheus.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        let mut metrics = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let place = match series.split('{').next().unwrap_or_default() {
                "ringpost_journal_sync_seconds_count" => &mut metrics.commits,
                "ringpost_journal_sync_seconds_sum" => &mut metrics.sync_s,
                "ringpost_journal_group_batches_sum" => &mut metrics.group_batches,
                "ringpost_journal_group_bytes_sum" => &mut metrics.group_bytes,
                "process_cpu_seconds_total" | "ringpost_process_cpu_seconds_total" => &mut metrics.cpu_s,
                "process_resident_memory_bytes" | "ringpost_process_resident_memory_bytes" => &mut metrics.memory_bytes,
                _ => continue,
            };
            *place = Some(place.unwrap_or(0.0) + value);
        }
        metrics
    }
}

/// Where the server can be looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// Its process, if it is on this machine.
    pub pid: Option<u32>,
    /// Its metrics endpoint.
    pub metrics: Option<SocketAddr>,
}

/// One look at everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// The generator.
    pub own: Usage,
    /// The server; none if it can not be seen.
    pub server: Option<Usage>,
    /// The server's metrics; none if they can not be read.
    pub metrics: Option<Metrics>,
}

impl Sight {
    /// Looks.
    #[must_use]
    pub fn look(&self) -> Look {
        let metrics = self.metrics.and_then(|address| Metrics::ask(address).ok());
        let from_metrics =
            |metrics: Metrics| Some(Usage { cpu_s: metrics.cpu_s?, memory_bytes: metrics.memory_bytes? as u64 });
        let server = self.pid.map_or_else(|| metrics.and_then(from_metrics), Usage::of);
        Look { own: Usage::own(), server, metrics }
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// CPU seconds of the generator in the load phase.
    pub own_cpu_s: f64,
    /// Its memory before the first connection, in bytes.
    pub own_base_bytes: u64,
    /// Its memory at the end of the load phase, in bytes.
    pub own_bytes: u64,
    /// Connections at the end of the load phase.
    pub connections: u64,
    /// CPU seconds of the server in the load phase.
    pub server_cpu_s: Option<f64>,
    /// Memory of the server at the end of the load phase, in bytes.
    pub server_bytes: Option<u64>,
    /// Journal groups synced in the load phase.
    pub commits: Option<f64>,
    /// Mean time of these syncs, in microseconds.
    pub sync_us: Option<f64>,
    /// Mean batches of these groups.
    pub group_batches: Option<f64>,
}

/// One point of the plots. Rates are a second.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Sample {
    /// Seconds since the start of the run.
    pub at: f64,
    /// Phase of the run.
    pub phase: &'static str,
    /// Messages accepted.
    pub accepted: f64,
    /// Messages delivered.
    pub delivered: f64,
    /// Logins.
    pub logins: f64,
    /// Pages of fetches.
    pub pages: f64,
    /// Connections that are ready.
    pub connections: u64,
    /// Messages under way.
    pub under_way: u64,
    /// Microseconds to acceptance at 50, 99, 99.9 and 100 %; none if nothing was accepted.
    pub accepted_us: Option<[u64; 4]>,
    /// Microseconds to delivery, likewise.
    pub delivered_us: Option<[u64; 4]>,
    /// Cores that the generator kept busy.
    pub own_cores: f64,
    /// Its memory, in MiB.
    pub own_mib: f64,
    /// Cores that the server kept busy.
    pub server_cores: Option<f64>,
    /// Its memory, in MiB.
    pub server_mib: Option<f64>,
    /// Journal groups synced.
    pub commits: Option<f64>,
    /// Batches of a group.
    pub group_batches: Option<f64>,
    /// KiB of a group.
    pub group_kib: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 3 0 100 1000 50 18446744073709551615";
        let usage = Usage::parse(stat, "1000 50 30 10 0 20 0");
        assert_eq!(usage, Some(Usage { cpu_s: 4.0, memory_bytes: 50 * 4096 }));
        assert_eq!(Usage::parse("nonsense", ""), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::own().memory_bytes > 0);
        assert_eq!(Usage::of(u32::MAX), None);
    }

    #[test]
    fn metrics_are_summed_over_labels_and_what_is_missing_is_none() {
        let page = "# HELP ringpost_journal_sync_seconds x\n\
                    ringpost_journal_sync_seconds_sum 0.5\n\
                    ringpost_journal_sync_seconds_count 10\n\
                    ringpost_journal_group_batches_sum{core=\"0\"} 20\n\
                    ringpost_journal_group_batches_sum{core=\"1\"} 5\n\
                    nonsense\n";
        let metrics = Metrics::parse(page);
        assert_eq!((metrics.commits, metrics.sync_s, metrics.group_batches), (Some(10.0), Some(0.5), Some(25.0)));
        assert_eq!(metrics.cpu_s, None);
    }
}
