//! Metrics: the counters of a node as Prometheus reads them. Every name begins with `ringpost_`; times are in seconds. Those of the process
//! itself have the names that all exporters give them.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering,
};

use push::{ProviderKind, counters::Number};
use rim::process::Usage;

use crate::{
    operator::{
        audit::AuditCounters,
        counters::{ClockCounters, CoreCounters, Counters, Described, JournalCounters, Kind},
        logging::LogCounters,
    },
    shard::{Class, Reason, ShardCounters, topology::CoreId},
};

/// The whole page. Of the certificate there is something only where there is one.
#[must_use]
pub fn text(
    counters: &Counters,
    audit: &AuditCounters,
    log: &LogCounters,
    users_online: usize,
    certificate_left_s: Option<i64>,
    process: Usage,
) -> String {
    let mut page = Page::default();
    page.begin("ringpost_users_online", "gauge", "Users with a connection");
    page.line("ringpost_users_online", users_online);
    let shards: Vec<_> = (0..counters.cores.len()).map(|core| counters.shard(CoreId(core as u16))).collect();
    page.by_core("shard", SHARD, &shards.iter().collect::<Vec<_>>());
    page.shed(&shards);
    page.by_core("core", CoreCounters::ALL, &counters.cores.iter().map(|core| &**core).collect::<Vec<_>>());
    page.begin("ringpost_connections_closed_total", "counter", "Connections closed by the server");
    for (reason, value) in counters.closed_by_reason() {
        page.line(&format!("ringpost_connections_closed_total{{reason=\"{}\"}}", reason.name()), value);
    }
    page.journal(&counters.journal);
    page.audit(audit);
    page.log(log);
    page.push(counters);
    page.clock(&counters.clock);
    page.begin("ringpost_slots", "gauge", "Slots that this node owns, where slots move");
    page.line("ringpost_slots", counters.slots.get());
    if let Some(left_s) = certificate_left_s {
        let name = "ringpost_tls_certificate_expires_in_seconds";
        page.begin(name, "gauge", "Seconds until the certificate expires; below zero: since it has");
        page.line(name, left_s);
    }
    page.process(process);
    page.text
}

/// What is shown of a shard, by the name that is shown.
const SHARD: &[Described<ShardCounters>] = &[
    counter("logins", "Connections welcomed", |shard| shard.logins),
    counter("refreshed", "Connections that went on with a newer token", |shard| shard.refreshed),
    counter("sends_accepted", "Sends accepted, repeated ones not counted", |shard| shard.accepted),
    counter("sends_refused", "Sends refused", |shard| shard.refused),
    counter("sends_repeated", "Sends that had been numbered before", |shard| shard.repeated),
    counter("entries", "Entries appended to logs", |shard| shard.entries),
    counter("duplicates", "Messages that came from a sender's home again", |shard| shard.duplicates),
    counter("inboxes", "Pages of the inbox sent", |shard| shard.inboxes),
    counter("delivered", "Entries delivered live", |shard| shard.delivered),
    counter("group_delivered", "Entries of groups delivered to connections", |shard| shard.group_delivered),
    counter("pages_pushed", "Pages pushed to connections that catch up", |shard| shard.pages_pushed),
    counter("pages_fetched", "Pages sent for fetches", |shard| shard.pages_fetched),
    counter(
        "cache_hits",
        "Requests for the inbox or the newest messages of a conversation that the cache answered",
        |shard| shard.cache_hits,
    ),
    counter("cache_misses", "Such requests for which the cache had too little", |shard| shard.cache_misses),
    counter("cache_pushed_out", "Users whom the cache forgot to make room for others", |shard| shard.cache_pushed_out),
    counter("fell_behind", "Times that a live connection fell behind", |shard| shard.fell_behind),
    counter("acknowledged", "Acknowledgements of something new", |shard| shard.acknowledged),
    counter("skipped", "Connections that began at the head, since more lay before it than they wanted", |shard| {
        shard.skipped
    }),
    counter("presence_pulled", "Users that clients asked about once", |shard| shard.presence_pulled),
    counter("presence_watched", "Users that clients asked to watch, renewals included", |shard| shard.presence_watched),
    counter("presence_announced", "Changes of users that were announced", |shard| shard.presence_announced),
    counter("presence_pushed", "Frames with changes of others", |shard| shard.presence_pushed),
    counter(
        "presence_merged",
        "Changes that a device was told with others, or not at all since they were undone",
        |shard| shard.presence_merged,
    ),
    counter("presence_late", "Questions about presence that were not answered in time", |shard| shard.presence_late),
    counter("typing", "That somebody types, passed on", |shard| shard.typing),
    counter("typing_dropped", "That somebody types, not passed on", |shard| shard.typing_dropped),
    counter("moved", "Clients that were sent to another node, to which their user has moved", |shard| shard.moved),
    counter("receipts", "Reports to senders", |shard| shard.receipts),
    counter("put_off", "Messages and reports put off because their user could not be read", |shard| shard.put_off),
    counter(
        "unreachable",
        "Messages and reports put off because the node of their user could not be reached",
        |shard| shard.unreachable,
    ),
    counter("push_offered", "Conversations of which notices were offered to the push service", |shard| {
        shard.push_offered
    }),
    counter("push_delivered", "Notices that a provider took", |shard| shard.push_delivered),
    counter("push_gone", "Notices whose subscription was gone, and was removed", |shard| shard.push_gone),
    counter("push_refused", "Notices that were refused for good", |shard| shard.push_refused),
    counter("push_expired", "Notices that no provider took in time", |shard| shard.push_expired),
    counter("push_superseded", "Notices whose place a newer one took", |shard| shard.push_superseded),
    counter("push_put_off", "Notices that there was no room for, and that are offered again", |shard| {
        shard.push_put_off
    }),
    counter("push_cleared", "Conversations taken off screens", |shard| shard.push_cleared),
    counter("push_void", "Conversations that were due and had been read, muted or acknowledged by then", |shard| {
        shard.push_void
    }),
    gauge("push_under_way", "Notices that have not ended", |shard| shard.push_under_way),
    gauge("push_waiting", "Users with something due who wait for their time or for room", |shard| shard.push_waiting),
    gauge("sessions", "Connections of users", |shard| shard.sessions),
    gauge("users", "Users in memory", |shard| shard.users),
    gauge("conversations", "Conversations in memory", |shard| shard.conversations),
    gauge("groups", "Groups in memory at their homes", |shard| shard.groups),
    gauge("groups_followed", "Groups that a core follows since a member is connected", |shard| shard.groups_followed),
    gauge("cache_users", "Users in the cache", |shard| shard.cache_users),
    gauge("cache_bytes", "Memory of the users in the cache, what is in memory for their logins included", |shard| {
        shard.cache_bytes
    }),
    gauge("presence_people", "Users who are there, or watched", |shard| shard.presence_people),
    gauge("presence_watches", "Devices that watch somebody", |shard| shard.presence_watches),
    gauge("unfinished", "Users with duties from before a restart who wait to be loaded", |shard| shard.unfinished),
    gauge("uncommitted_bytes", "Batches on their way to the disk", |shard| shard.unreleased_bytes),
    gauge(
        "held_bytes",
        "What clients have not read yet, frames that are not whole, and messages that wait for a user to be loaded",
        |shard| shard.held_bytes,
    ),
];

const fn counter<T>(name: &'static str, help: &'static str, of: fn(&T) -> u64) -> Described<T> {
    Described { name, kind: Kind::Counter, help, of }
}

const fn gauge<T>(name: &'static str, help: &'static str, of: fn(&T) -> u64) -> Described<T> {
    Described { name, kind: Kind::Gauge, help, of }
}

/// The states of the journal, by their number.
const ADMISSIONS: [&str; 5] = ["open", "behind", "full", "outage", "failed"];

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// All cores of one metric stand together, as the format demands.
    fn by_core<T>(&mut self, group: &str, metrics: &[Described<T>], cores: &[&T]) {
        for Described { name, kind, help, of } in metrics {
            let (kind, suffix) = match kind {
                Kind::Counter => ("counter", "_total"),
                Kind::Gauge => ("gauge", ""),
            };
            let name = format!("ringpost_{group}_{name}{suffix}");
            self.begin(&name, kind, help.trim().trim_end_matches('.'));
            for (core, counters) in cores.iter().enumerate() {
                self.line(&format!("{name}{{core=\"{core}\"}}"), of(counters));
            }
        }
    }

    /// What the push service did for each provider, if there is one.
    fn push(&mut self, counters: &Counters) {
        let Some(push) = counters.push.get() else { return };
        let of_providers = ProviderKind::ALL.map(|provider| (provider, push.of(provider).all()));
        let (_, names) = &of_providers[0];
        for (at, &Number { name, only_grows, help, .. }) in names.iter().enumerate() {
            let (kind, suffix) = if only_grows { ("counter", "_total") } else { ("gauge", "") };
            let name = format!("ringpost_push_{name}{suffix}");
            self.begin(&name, kind, help.trim().trim_end_matches('.'));
            for (provider, numbers) in &of_providers {
                self.line(&format!("{name}{{provider=\"{}\"}}", provider.name()), numbers[at].value);
            }
        }
    }

    fn shed(&mut self, shards: &[ShardCounters]) {
        let name = "ringpost_shard_shed_total";
        self.begin(name, "counter", "What was refused or put off because there was too much, by class and reason");
        for (core, shard) in shards.iter().enumerate() {
            for (class, class_name) in Class::ALL {
                for (reason, reason_name) in Reason::ALL {
                    let labels = format!("core=\"{core}\",class=\"{class_name}\",reason=\"{reason_name}\"");
                    self.line(&format!("{name}{{{labels}}}"), shard.shed.get(*class, *reason));
                }
            }
        }
    }

    fn journal(&mut self, journal: &JournalCounters) {
        let groups = journal.groups.get();
        let sync = "From handing a group to the kernel until it is durable";
        self.summary("ringpost_journal_sync_seconds", sync, seconds(journal.sync_us_sum.get(), 1e6), groups);
        self.begin("ringpost_journal_sync_seconds_max", "gauge", "The longest of them since the start");
        self.line("ringpost_journal_sync_seconds_max", seconds(journal.sync_us_max.get(), 1e6));
        self.summary("ringpost_journal_group_batches", "Batches of a group", journal.batches.get(), groups);
        self.summary("ringpost_journal_group_bytes", "Bytes of a group", journal.bytes.get(), groups);
        let ingest = "Time to bring a segment into the store";
        let (time, runs) = (seconds(journal.ingest_ms_sum.get(), 1e3), journal.ingest_runs.get());
        self.summary("ringpost_journal_ingest_seconds", ingest, time, runs);
        self.begin("ringpost_journal_ingesting", "gauge", "1 while a segment is brought into the store");
        self.line("ringpost_journal_ingesting", journal.ingesting.get());
        for (name, help, counter) in [
            ("ingest_rows", "Rows brought into the store", &journal.ingest_rows),
            ("ingest_retries", "Segments that the store did not take at first", &journal.ingest_retries),
            ("write_retries", "Groups written again because the disk was full", &journal.write_retries),
            ("segments_prepared", "Segments made ready", &journal.segments_prepared),
            ("segments_sealed", "Segments that became full or old", &journal.segments_sealed),
            ("segments_wiped", "Freed files that were overwritten with zeros", &journal.segments_wiped),
            ("purges", "Purges of the store of what was deleted", &journal.purges),
        ] {
            let name = format!("ringpost_journal_{name}_total");
            self.begin(&name, "counter", help);
            self.line(&name, counter.get());
        }
        for (name, help, counter) in [
            ("read_bytes", "Bytes of the journal's segments that the start reads", &journal.recovery_read_bytes),
            ("read_bytes_done", "Those of them that have been read", &journal.recovery_read_bytes_done),
            ("bytes", "Bytes of records that the start has found in the journal", &journal.recovery_bytes),
            ("bytes_done", "Those of them that are in the store", &journal.recovery_bytes_done),
        ] {
            let name = format!("ringpost_recovery_{name}");
            self.begin(&name, "gauge", help);
            self.line(&name, counter.get());
        }
        self.begin("ringpost_journal_admission", "gauge", "1 for the state that the journal is in");
        for (number, state) in ADMISSIONS.iter().enumerate() {
            let is_now = journal.admission.get() == number as u64;
            self.line(&format!("ringpost_journal_admission{{state=\"{state}\"}}"), u8::from(is_now));
        }
        let away = "1 while the store does not take what the journal has for it";
        self.begin("ringpost_store_away", "gauge", away);
        self.line("ringpost_store_away", journal.store_away.get());
        for (name, help, counter) in [
            ("rows_bytes", "Bytes of the embedded store's tables", &journal.store_rows_bytes),
            (
                "tables_bytes",
                "The same, with tables that are being made or are about to be removed",
                &journal.store_tables_bytes,
            ),
        ] {
            let name = format!("ringpost_store_{name}");
            self.begin(&name, "gauge", help);
            self.line(&name, counter.get());
        }
    }

    fn audit(&mut self, audit: &AuditCounters) {
        for (name, help, counter) in [
            ("ringpost_audit_lines_written_total", "Lines of the audit log", &audit.written),
            ("ringpost_audit_lines_lost_total", "Lines that its disk did not take in time", &audit.lost),
        ] {
            self.begin(name, "counter", help);
            self.line(name, counter.load(Ordering::Relaxed));
        }
    }

    fn log(&mut self, log: &LogCounters) {
        for (name, help, counter) in [
            ("ringpost_log_lines_written_total", "Lines of the log", &log.written),
            ("ringpost_log_lines_lost_total", "Lines that standard error did not take", &log.lost),
        ] {
            self.begin(name, "counter", help);
            self.line(name, counter.load(Ordering::Relaxed));
        }
    }

    fn clock(&mut self, clock: &ClockCounters) {
        let name = "ringpost_clock_leaps_total";
        self.begin(name, "counter", "Times that the clock of the machine leapt");
        self.line(name, clock.leaps.get());
        let name = "ringpost_clock_doubted_seconds";
        self.begin(name, "gauge", "How far the clock of the machine is from the time in use, while it is not trusted");
        self.line(name, clock.doubted_ms.load(Ordering::Relaxed) as f64 / 1e3);
    }

    fn process(&mut self, usage: Usage) {
        self.begin("process_cpu_seconds_total", "counter", "User and system time of the process");
        self.line("process_cpu_seconds_total", usage.cpu_s);
        self.begin("process_resident_memory_bytes", "gauge", "Resident memory of the process");
        self.line("process_resident_memory_bytes", usage.memory_bytes);
        if let Some(open_files) = usage.open_files {
            let help = "Descriptors of the process; connections are not among them";
            self.begin("process_open_fds", "gauge", help);
            self.line("process_open_fds", open_files);
        }
    }

    fn summary(&mut self, name: &str, help: &str, sum: impl Display, count: u64) {
        self.begin(name, "summary", help);
        self.line(&format!("{name}_sum"), sum);
        self.line(&format!("{name}_count"), count);
    }

    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, series: &str, value: impl Display) {
        let _ = writeln!(self.text, "{series} {value}");
    }
}

fn seconds(units: u64, units_per_second: f64) -> f64 {
    units as f64 / units_per_second
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proto_spec::ErrorCode;

    use super::*;
    use crate::shard::Admission;

    #[test]
    fn every_series_stands_once_below_the_help_and_type_of_its_metric() {
        let counters = Counters::new(2);
        counters.core(CoreId(1)).accepted.add(5);
        counters.core(CoreId(0)).connections.set(3);
        counters.set_shard(CoreId(0), ShardCounters { accepted: 9, ..ShardCounters::default() });
        counters.closed(ErrorCode::IdleTimeout);
        counters.journal.groups.add(2);
        counters.journal.batches.add(7);
        counters.journal.sync_us_sum.add(1_250);
        counters.journal.admission.set(Admission::Full as u64);
        let text = text(
            &counters,
            &AuditCounters::default(),
            &LogCounters::default(),
            4,
            Some(-60),
            Usage { cpu_s: 1.25, memory_bytes: 4096, open_files: Some(9) },
        );
        for line in [
            "# HELP ringpost_core_accepted_total Connections accepted\n# TYPE ringpost_core_accepted_total counter\n\
             ringpost_core_accepted_total{core=\"0\"} 0\nringpost_core_accepted_total{core=\"1\"} 5\n",
            "# TYPE ringpost_core_connections gauge\nringpost_core_connections{core=\"0\"} 3\n",
            "# TYPE ringpost_users_online gauge\nringpost_users_online 4\n",
            "ringpost_shard_sends_accepted_total{core=\"0\"} 9\n",
            "ringpost_connections_closed_total{reason=\"idle_timeout\"} 1\n",
            "ringpost_journal_sync_seconds_sum 0.00125\nringpost_journal_sync_seconds_count 2\n",
            "ringpost_journal_group_batches_sum 7\nringpost_journal_group_batches_count 2\n",
            "ringpost_tls_certificate_expires_in_seconds -60\n",
            "process_cpu_seconds_total 1.25\n",
            "process_resident_memory_bytes 4096\n",
            "process_open_fds 9\n",
            "{state=\"behind\"} 0\nringpost_journal_admission{state=\"full\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let mut seen = HashSet::new();
        let mut metric = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ").or(line.strip_prefix("# HELP ")) {
                Some(about) => metric = about.split(' ').next().unwrap(),
                None => assert!(line.starts_with(metric), "{line} below {metric}"),
            }
            assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "{line} twice");
        }
    }

    #[test]
    fn the_states_of_the_journal_have_their_numbers() {
        let all = [Admission::Open, Admission::Behind, Admission::Full, Admission::Outage, Admission::Failed];
        for admission in all {
            assert_eq!(ADMISSIONS[admission as usize], format!("{admission:?}").to_lowercase());
        }
    }

    /// The table of docs/OPERATING.md, in the order of the page.
    fn table(text: &str) -> String {
        let mut table = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|about| about.split_once(' ')) else {
                continue;
            };
            let kind = lines.next().unwrap().rsplit_once(' ').unwrap().1;
            let series = lines.next().unwrap();
            let label = series.split_once('{').map_or("", |(_, label)| label.split_once('=').unwrap().0);
            writeln!(table, "| `{name}` | {kind} | {label} | {help} |").unwrap();
        }
        table
    }

    #[test]
    fn every_metric_is_in_the_table_for_operators_and_nothing_else() {
        let guide = include_str!("../../../docs/OPERATING.md");
        let rows: String = guide
            .lines()
            .filter(|line| ["| `ringpost_", "| `process_"].iter().any(|name| line.starts_with(name)))
            .map(|row| format!("{row}\n"))
            .collect();
        let table = table(&text(
            &Counters::new(1),
            &AuditCounters::default(),
            &LogCounters::default(),
            0,
            Some(0),
            Usage { open_files: Some(0), ..Usage::default() },
        ));
        assert_eq!(rows, table, "docs/OPERATING.md should have:\n{table}");
    }
}
