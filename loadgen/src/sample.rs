//! What the machine says: CPU and memory of the generator and of the server, from /proc or from the server's metrics.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rim::process::Usage;

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
    /// Queries to the store.
    pub queries: Option<f64>,
    /// Requests for what an app opens with that the cache answered.
    pub cache_hits: Option<f64>,
    /// Such requests for which it had too little.
    pub cache_misses: Option<f64>,
    /// Changes of who is there that were announced.
    pub presence_announced: Option<f64>,
    /// Frames with such changes that were pushed.
    pub presence_pushed: Option<f64>,
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

    /// What a process counts from its start on; the other fields say how it is right now.
    const fn counters(&self) -> [Option<f64>; 11] {
        let Self {
            commits,
            sync_s,
            group_batches,
            group_bytes,
            queries,
            cache_hits,
            cache_misses,
            presence_announced,
            presence_pushed,
            cpu_s,
            failures,
            ..
        } = *self;
        [
            commits,
            sync_s,
            group_batches,
            group_bytes,
            queries,
            cache_hits,
            cache_misses,
            presence_announced,
            presence_pushed,
            cpu_s,
            failures,
        ]
    }

    const fn counters_mut(&mut self) -> [&mut Option<f64>; 11] {
        let Self {
            commits,
            sync_s,
            group_batches,
            group_bytes,
            queries,
            cache_hits,
            cache_misses,
            presence_announced,
            presence_pushed,
            cpu_s,
            failures,
            ..
        } = self;
        [
            commits,
            sync_s,
            group_batches,
            group_bytes,
            queries,
            cache_hits,
            cache_misses,
            presence_announced,
            presence_pushed,
            cpu_s,
            failures,
        ]
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
                "ringpost_core_queries_total" => &mut metrics.queries,
                "ringpost_shard_cache_hits_total" => &mut metrics.cache_hits,
                "ringpost_shard_cache_misses_total" => &mut metrics.cache_misses,
                "ringpost_shard_presence_announced_total" => &mut metrics.presence_announced,
                "ringpost_shard_presence_pushed_total" => &mut metrics.presence_pushed,
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
    /// How often the server was seen to be another process than before.
    pub server_restarts: u32,
}

/// Looks again and again. What the server counts never falls here: a counter that fell back is that of a new process, which counts
/// on from where the last look found the old one.
#[derive(Debug, Default)]
pub struct Lookout {
    sight: Sight,
    /// What the processes that have ended had counted when they were seen last.
    ended: Metrics,
    /// What the process of now had counted when it was seen last.
    last: Metrics,
    restarts: u32,
}

impl Lookout {
    /// Has not looked yet.
    #[must_use]
    pub fn new(sight: Sight) -> Self {
        Self { sight, ..Self::default() }
    }

    /// Looks.
    #[must_use]
    pub fn look(&mut self) -> Look {
        let page = self.sight.metrics.and_then(|address| Metrics::ask(address).ok());
        let mut found = page.unwrap_or_default();
        // A process that was named and has ended is looked for in the metrics of the one that came after it.
        if let Some(usage) = self.sight.pid.and_then(Usage::of) {
            found.cpu_s = Some(usage.cpu_s);
            found.memory_bytes = Some(usage.memory_bytes as f64);
            found.open_files = usage.open_files.map(|files| files as f64);
        }
        let counted = self.count_on(found);
        let server = counted.cpu_s.zip(counted.memory_bytes).map(|(cpu_s, memory_bytes)| Usage {
            cpu_s,
            memory_bytes: memory_bytes as u64,
            open_files: counted.open_files.map(|files| files as u64),
        });
        Look { own: Usage::own(), server, metrics: page.map(|_| counted), server_restarts: self.restarts }
    }

    /// What was found, with what the processes before had counted.
    fn count_on(&mut self, mut found: Metrics) -> Metrics {
        let counters = || found.counters().into_iter().zip(self.last.counters());
        if counters().any(|(now, last)| now.zip(last).is_some_and(|(now, last)| now < last)) {
            self.restarts += 1;
            for (ended, last) in self.ended.counters_mut().into_iter().zip(self.last.counters()) {
                *ended = Some(ended.unwrap_or(0.0) + last.unwrap_or(0.0));
            }
            self.last = Metrics::default();
        }
        for (last, now) in self.last.counters_mut().into_iter().zip(found.counters()) {
            *last = now.or(*last);
        }
        for (now, ended) in found.counters_mut().into_iter().zip(self.ended.counters()) {
            *now = now.map(|now| now + ended.unwrap_or(0.0));
        }
        found
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
    /// Queries of the server to its store in the load phase.
    pub queries: Option<f64>,
    /// Requests for what an app opens with that the server's cache answered in the load phase.
    pub cache_hits: Option<f64>,
    /// Such requests for which it had too little.
    pub cache_misses: Option<f64>,
    /// Changes of who is there that the server announced in the load phase.
    pub presence_announced: Option<f64>,
    /// Frames with such changes that it pushed in the load phase.
    pub presence_pushed: Option<f64>,
    /// Cores that the server serves with.
    pub server_cores: Option<f64>,
    /// How often the server was started again in the load phase.
    pub server_restarts: u32,
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

    #[test]
    fn a_counter_that_fell_back_is_that_of_a_new_process_and_counts_on() {
        let mut lookout = Lookout::default();
        let mut look = |commits, cpu_s, memory_bytes| {
            let found = Metrics { commits, cpu_s, memory_bytes, ..Metrics::default() };
            let counted = lookout.count_on(found);
            (counted.commits, counted.cpu_s, counted.memory_bytes)
        };
        assert_eq!(look(Some(100.0), Some(2.0), Some(9.0)), (Some(100.0), Some(2.0), Some(9.0)));
        assert_eq!(look(Some(150.0), Some(3.0), Some(8.0)), (Some(150.0), Some(3.0), Some(8.0)));
        // Nobody answers; then a process that has done little yet, though one of its counters is above the old one.
        assert_eq!(look(None, None, None), (None, None, None));
        assert_eq!(look(Some(5.0), Some(3.5), Some(1.0)), (Some(155.0), Some(6.5), Some(1.0)));
        assert_eq!(look(Some(7.0), Some(3.5), Some(2.0)), (Some(157.0), Some(6.5), Some(2.0)));
        assert_eq!(look(Some(1.0), Some(0.5), Some(1.0)), (Some(158.0), Some(7.0), Some(1.0)));
        assert_eq!(lookout.restarts, 2);
    }
}
