//! What the machine says: CPU and memory of the generator and of the server, from /proc or from the server's metrics.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use server::process::Usage;

use crate::limits::{METRICS_BYTES_MAX, METRICS_TIMEOUT_MS};

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
    /// Descriptors that the process has open.
    pub open_files: Option<f64>,
    /// Everything that failed or had to be tried again since the start.
    pub failures: Option<f64>,
    /// Cores that serve.
    pub cores: Option<f64>,
}

impl Metrics {
    /// Asks the server.
    ///
    /// # Errors
    /// It does not answer in time, or not with a page.
    pub fn ask(address: SocketAddr) -> io::Result<Self> {
        let patience = Duration::from_millis(METRICS_TIMEOUT_MS);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ringpost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(METRICS_BYTES_MAX).read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200") => {
                let metrics = Self::parse(page);
                metrics
                    .cores
                    .map(|_| metrics)
                    .ok_or_else(|| io::Error::other("this is not a Ringpost server's metrics page"))
            }
            _ => Err(io::Error::other("this is no metrics page")),
        }
    }

    /// Reads a page in the text format of Prometheus.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        let mut metrics = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if series.starts_with("ringpost_core_turns_total") {
                metrics.cores = Some(metrics.cores.unwrap_or(0.0) + 1.0);
            }
            let place = match series.split('{').next().unwrap_or_default() {
                "ringpost_journal_sync_seconds_count" => &mut metrics.commits,
                "ringpost_journal_sync_seconds_sum" => &mut metrics.sync_s,
                "ringpost_journal_group_batches_sum" => &mut metrics.group_batches,
                "ringpost_journal_group_bytes_sum" => &mut metrics.group_bytes,
                "process_cpu_seconds_total" => &mut metrics.cpu_s,
                "process_resident_memory_bytes" => &mut metrics.memory_bytes,
                "process_open_fds" => &mut metrics.open_files,
                name if name.ends_with("_failed_total") || name.ends_with("_retries_total") => &mut metrics.failures,
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
        let from_metrics = |metrics: Metrics| {
            let (memory_bytes, open_files) =
                (metrics.memory_bytes? as u64, metrics.open_files.map(|files| files as u64));
            Some(Usage { cpu_s: metrics.cpu_s?, memory_bytes, open_files })
        };
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
    /// Descriptors that the server had open at the begin and at the end of the load phase.
    pub server_files: Option<(u64, u64)>,
    /// What failed or had to be tried again in the server in the load phase.
    pub server_failures: Option<f64>,
    /// Journal groups synced in the load phase.
    pub commits: Option<f64>,
    /// Mean time of these syncs, in microseconds.
    pub sync_us: Option<f64>,
    /// Mean batches of these groups.
    pub group_batches: Option<f64>,
    /// Cores that the server serves with.
    pub server_cores: Option<f64>,
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
    fn metrics_are_summed_over_labels_and_what_is_missing_is_none() {
        let page = "# HELP ringpost_journal_sync_seconds x\n\
                    ringpost_journal_sync_seconds_sum 0.5\n\
                    ringpost_journal_sync_seconds_count 10\n\
                    ringpost_journal_group_batches_sum{core=\"0\"} 20\n\
                    ringpost_journal_group_batches_sum{core=\"1\"} 5\n\
                    ringpost_core_queries_failed_total{core=\"0\"} 2\n\
                    ringpost_journal_write_retries_total 1\n\
                    ringpost_core_turns_total{core=\"0\"} 7\n\
                    ringpost_core_turns_total{core=\"1\"} 0\n\
                    nonsense\n";
        let metrics = Metrics::parse(page);
        assert_eq!((metrics.commits, metrics.sync_s, metrics.group_batches), (Some(10.0), Some(0.5), Some(25.0)));
        assert_eq!((metrics.cpu_s, metrics.failures, metrics.cores), (None, Some(3.0), Some(2.0)));
    }
}
