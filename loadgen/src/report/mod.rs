//! What a run found, for people (`table`, `html`) and machines (`json`): counts, rates, latencies, costs, and what was wrong.

pub mod about;
pub mod html;
pub mod limited;
pub mod table;

use limited::limited_by;
use serde_json::{Map, Value, json};

use crate::{
    engine::{Outcome, Phase, Stage},
    homes::{Between, Homes},
    limits::{FAULTS_SHOWN_MAX, GROWTH_AFTER_S},
    stats::{Count, Latencies, Measure},
};

/// The percentiles that are reported.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Those of the latencies by node, of which there are many.
pub const BY_NODE_PERCENTILES: [f64; 2] = [50.0, 99.0];

const MIB: f64 = 1024.0 * 1024.0;

/// One run.
#[derive(Debug)]
pub struct Report {
    /// Its scenario.
    pub scenario: &'static str,
    /// When and where it was, and how it was called.
    pub about: Vec<(&'static str, String)>,
    /// What was asked for, in the order to show it.
    pub parameters: Vec<(&'static str, String)>,
    /// Names of the parts of the run whose latencies are told apart; none: it was one.
    pub eras: &'static [&'static str],
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
    /// What happened.
    pub outcome: Outcome,
}

impl Report {
    /// Nothing was wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.outcome.faults.count() == 0 && self.outcome.is_whole
    }

    /// The first faults, and how many more there are.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let kept = self.outcome.faults.kept();
        let shown = kept.len().min(FAULTS_SHOWN_MAX);
        let more = self.outcome.faults.count() - shown as u64;
        let rest = (more > 0).then(|| format!("and {more} faults more"));
        kept[..shown].iter().cloned().chain(rest)
    }

    /// What was counted in the whole run, without what is zero; the first two always.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let all = Count::ALL.iter().map(|count| (*count, self.outcome.total[*count]));
        let always = |count| matches!(count, Count::Accepted | Count::Delivered | Count::Disconnects);
        all.filter(|(count, value)| *value > 0 || always(*count)).map(|(count, value)| (count.words(), value)).collect()
    }

    /// Things a second in the load phase.
    #[must_use]
    pub fn rates(&self) -> Vec<(&'static str, f64)> {
        let seconds = self.outcome.took.as_secs_f64().max(1e-9);
        let rates = [
            ("messages", Count::Accepted),
            ("deliveries", Count::Delivered),
            ("group messages", Count::GroupAccepted),
            ("group entries delivered", Count::GroupDelivered),
            ("logins", Count::Logins),
            ("pages", Count::Pages),
            ("page entries", Count::PageEntries),
            ("apps opened", Count::Opened),
        ];
        let rates = rates.into_iter().map(|(what, count)| (what, self.outcome.load[count] as f64 / seconds));
        let mut rates: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        // Everybody logs in before the load, in most scenarios.
        let login_s = self.outcome.login_took.as_secs_f64();
        let before = self.outcome.total[Count::Logins] - self.outcome.load[Count::Logins];
        if login_s > 0.0 && before > 0 {
            rates.push(("logins before the load", before as f64 / login_s));
        }
        rates
    }

    /// Latencies by what was measured, and by era if there are some.
    #[must_use]
    pub fn latencies(&self) -> Vec<(String, Latencies)> {
        let total = &self.outcome.total;
        let of_all = |measure: &Measure| Some((measure.words().to_owned(), total.all(*measure)?));
        if self.eras.is_empty() {
            return Measure::ALL.iter().filter_map(of_all).collect();
        }
        let split = [Measure::Accepted, Measure::Delivered, Measure::Login, Measure::Opened, Measure::SinceHello];
        let by_era = |measure: &Measure| {
            let measure = *measure;
            self.eras.iter().enumerate().filter_map(move |(era, of)| {
                let name = format!("{}, {of}", measure.words());
                Some((name, total.latencies(era, measure)?.clone()))
            })
        };
        let rest = Measure::ALL.iter().filter(|measure| !split.contains(measure));
        split.iter().flat_map(by_era).chain(rest.filter_map(of_all)).collect()
    }

    /// By the addresses of the nodes of author and recipient: what was measured between them. Empty unless it was asked for.
    #[must_use]
    pub fn by_node(&self) -> Vec<(&str, &str, &Between)> {
        self.outcome.homes.as_ref().map_or_else(Vec::new, Homes::rows)
    }

    /// What the run cost: name, unit, value.
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static str, &'static str, f64)> {
        let (outcome, used) = (&self.outcome, &self.outcome.resources);
        let messages = outcome.load[Count::Accepted] as f64;
        // What messages between two cost beside those to groups can not be told apart, nor the reverse.
        let are_alike = outcome.load[Count::GroupAccepted] == 0;
        let per_message = |cpu_s: f64| (messages > 0.0 && are_alike).then(|| cpu_s * 1e6 / messages);
        let of_groups = |count: Count| (messages == 0.0 && outcome.load[count] > 0).then(|| outcome.load[count] as f64);
        let to_groups = |cpu_s: f64| Some(cpu_s * 1e6 / of_groups(Count::GroupAccepted)?);
        let to_member = |cpu_s: f64| Some(cpu_s * 1e6 / of_groups(Count::GroupDelivered)?);
        let logins = outcome.load[Count::Logins] as f64;
        let per_login = |cpu_s: f64| {
            (messages == 0.0 && of_groups(Count::GroupDelivered).is_none() && logins > 0.0)
                .then(|| cpu_s * 1e6 / logins)
        };
        let grown = used.own_bytes.saturating_sub(used.own_base_bytes) as f64;
        let per_connection = |bytes: f64| (used.connections > 0).then(|| bytes / used.connections as f64);
        let costs = [
            ("generator CPU", "s", Some(used.own_cpu_s)),
            ("generator CPU a message", "us", per_message(used.own_cpu_s)),
            ("generator memory", "MiB", Some(used.own_bytes as f64 / MIB)),
            ("generator memory a connection", "bytes", per_connection(grown)),
            ("server CPU", "s", used.server_cpu_s),
            ("server CPU a message", "us", used.server_cpu_s.and_then(per_message)),
            ("generator CPU a group entry delivered", "us", to_member(used.own_cpu_s)),
            ("server CPU a group message", "us", used.server_cpu_s.and_then(to_groups)),
            ("server CPU a group entry delivered", "us", used.server_cpu_s.and_then(to_member)),
            ("server CPU a login", "us", used.server_cpu_s.and_then(per_login)),
            ("server memory", "MiB", used.server_bytes.map(|bytes| bytes as f64 / MIB)),
            ("server memory growth, 2nd half", "MiB a minute", self.memory_growth()),
            ("server open files, begin", "", used.server_files.map(|(begin, _)| begin as f64)),
            ("server open files, end", "", used.server_files.map(|(_, end)| end as f64)),
            ("server failures and retries", "", used.server_failures),
            ("server queries to its store", "", used.queries),
            ("server cache hits", "", used.cache_hits),
            ("server cache misses", "", used.cache_misses),
            ("server presence announced", "", used.presence_announced.filter(|count| *count > 0.0)),
            ("server presence frames pushed", "", used.presence_pushed.filter(|count| *count > 0.0)),
            ("server memory a user watched", "bytes", self.memory_of_a_watch()),
            ("commits", "", used.commits),
            ("mean sync", "us", used.sync_us),
            ("mean batches of a group", "", used.group_batches),
        ];
        costs.into_iter().filter_map(|(name, unit, value)| Some((name, unit, value?))).collect()
    }

    /// What the server's memory grew by in the second stage, in which everybody began to watch, by those who are watched.
    fn memory_of_a_watch(&self) -> Option<f64> {
        let [before, watching, ..] = self.outcome.stages.as_slice() else { return None };
        let watched = Some(self.outcome.total[Count::Subscriptions]).filter(|watched| *watched > 0)?;
        Some((watching.server_bytes? as f64 - before.server_bytes? as f64) / watched as f64)
    }

    /// What each stage of the load was: its name, and then names and values.
    #[must_use]
    pub fn stages(&self) -> Vec<(&'static str, Vec<(&'static str, f64)>)> {
        let has_groups = self.outcome.total[Count::Acts] > 0;
        let values = |stage: &Stage| {
            let took_s = stage.took_s.max(1e-9);
            let values = [
                ("seconds", Some(stage.took_s)),
                ("messages a second", Some(stage.accepted as f64 / took_s)),
                ("presence frames a second", (!has_groups).then_some(stage.pushed as f64 / took_s)),
                ("group entries a second", has_groups.then_some(stage.delivered as f64 / took_s)),
                ("KiB received", has_groups.then_some(stage.received as f64 / 1024.0)),
                ("server cores", stage.server_cpu_s.map(|cpu_s| cpu_s / took_s)),
                ("server MiB", stage.server_bytes.map(|bytes| bytes as f64 / MIB)),
            ];
            values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
        };
        self.outcome.stages.iter().map(|stage| (stage.name, values(stage))).collect()
    }

    /// Of what is measured in parts of a run: the p99 of the last by that of the first.
    #[must_use]
    pub fn p99_ratios(&self) -> Vec<(String, f64)> {
        let [first, .., last] = self.eras else { return Vec::new() };
        let ratio = |measure: &Measure| {
            let p99 = |era| self.outcome.total.latencies(era, *measure).map(|latencies| latencies.at(99.0) as f64);
            let name = format!("{}, p99 {last} / {first}", measure.words());
            Some((name, p99(self.eras.len() - 1)? / p99(0)?.max(1.0)))
        };
        [Measure::Accepted, Measure::Delivered].iter().filter_map(ratio).collect()
    }

    /// The slope of the server's memory over the second half of the load, in MiB a minute: the line with the least squares.
    /// None for a load that is too short to have one.
    fn memory_growth(&self) -> Option<f64> {
        let took_s = self.outcome.took.as_secs_f64();
        if took_s < GROWTH_AFTER_S {
            return None;
        }
        let in_load = self.outcome.samples.iter().filter(|sample| sample.phase == Phase::Load.words());
        let end = in_load.clone().next_back()?.at;
        let late = in_load.filter(|sample| sample.at >= end - took_s / 2.0);
        let points: Vec<_> = late.filter_map(|sample| Some((sample.at / 60.0, sample.server_mib?))).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (minute, mib) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - minute).powi(2)).sum();
        let both: f64 = points.iter().map(|point| (point.0 - minute) * (point.1 - mib)).sum();
        (spread > 0.0).then(|| both / spread)
    }

    /// One line for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let parameter = |value: &String| value.parse::<f64>().map_or_else(|_| json!(value), |_| number(value));
        let object = |pairs: Vec<(String, Value)>| Value::Object(pairs.into_iter().collect::<Map<_, _>>());
        let latency = |latencies: &Latencies| {
            let named = ["p50", "p90", "p99", "p99.9", "max"].into_iter().zip(PERCENTILES);
            object(named.map(|(name, percentile)| (name.to_owned(), json!(latencies.at(percentile)))).collect())
        };
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        let costs = self.costs().into_iter().map(|(name, unit, value)| {
            let name = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
            (name, rounded(value))
        });
        json!({
            "scenario": self.scenario,
            "limited_by": limited_by(&self.outcome),
            "about": object(self.about.iter().map(|(name, value)| named((name, json!(value)))).collect()),
            "lanes": self.outcome.lanes,
            "parameters": object(self.parameters.iter().map(|(name, value)| named((name, parameter(value)))).collect()),
            "counts": object(self.counts().into_iter().map(|(name, value)| named((name, json!(value)))).collect()),
            "seconds": self.outcome.took.as_secs_f64(),
            "a_second": object(self.rates().into_iter().map(|(name, value)| named((name, json!(value)))).collect()),
            "latency_us": object(self.latencies().iter().map(|(name, all)| (name.clone(), latency(all))).collect()),
            "by_node": self.by_node().into_iter().map(|(author, recipient, Between { accepted, delivered })| json!({
                "from": author,
                "to": recipient,
                "messages": accepted.count(),
                "latency_us": object([(Measure::Accepted, accepted), (Measure::Delivered, delivered)].map(|(measure, all)| {
                    (measure.words().to_owned(), latency(all))
                }).into()),
            })).collect::<Vec<_>>(),
            "costs": object(costs.collect()),
            "ratios": object(self.p99_ratios().into_iter().map(|(name, ratio)| (name, rounded(ratio))).collect()),
            "stages": object(self.stages().into_iter().map(|(name, values)| {
                let values = values.into_iter().map(|(name, value)| (name.to_owned(), rounded(value)));
                (name.to_owned(), object(values.collect()))
            }).collect()),
            "notes": self.notes,
            "is_whole": self.outcome.is_whole,
            "faults": self.outcome.faults.count(),
            "first_faults": self.faults().collect::<Vec<_>>(),
        })
    }
}

/// To three digits behind the point.
fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}

/// A parameter that is a number, as a number.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::Asked,
        sample::{Resources, Sample},
        stats::Stats,
        verify::Faults,
    };

    pub(crate) fn report() -> Report {
        let mut total = Stats::default();
        total[Count::Accepted] = 10;
        total[Count::Delivered] = 10;
        total[Count::Logins] = 4;
        total.record(Measure::Accepted, 1_000);
        let mut load = Stats::default();
        load[Count::Accepted] = 8;
        let resources = Resources {
            own_cpu_s: 0.5,
            own_base_bytes: 1_000,
            own_bytes: 5_000,
            connections: 4,
            ..Resources::default()
        };
        let sample = Sample { at: 0.5, phase: "load", accepted_us: Some([1, 2, 3, 4]), ..Sample::default() };
        let outcome = Outcome {
            total,
            load,
            took: Duration::from_secs(2),
            login_took: Duration::from_secs(1),
            samples: vec![sample],
            asked: Asked::AsFastAsItGoes,
            lanes: 1,
            machine_cores: 8,
            shares_machine: true,
            stages: Vec::new(),
            homes: None,
            resources,
            faults: Faults::default(),
            is_whole: true,
            was_cut_short: false,
        };
        let parameters = vec![("pairs", "2".to_owned()), ("file", "a<b".to_owned())];
        let about =
            vec![("begun", "2026-11-28T15:00:00Z".to_owned()), ("command", "ringpost-loadgen chat '<b>'".to_owned())];
        let notes = vec!["A </script> note.".to_owned()];
        Report { scenario: "chat", about, parameters, eras: &[], notes, outcome }
    }

    /// As [`report`], with latencies between two nodes.
    pub(crate) fn by_node() -> Report {
        let mut homes = Homes::default();
        homes.served(0, "127.0.0.1:7600");
        homes.served(1, "node-b.of-the-cluster.example:7600");
        homes.begin();
        for (author, recipient, us) in [(0, 0, 1_000), (0, 1, 2_000), (1, 0, 3_000), (0, 1, 2_000)] {
            let between = homes.between(author, recipient).unwrap();
            between.accepted.record(us);
            between.delivered.record(us / 2);
        }
        let mut report = report();
        report.outcome.homes = Some(homes);
        report
    }

    #[test]
    fn latencies_by_node_are_those_of_each_pair_and_absent_if_nobody_asked_for_them() {
        let json = by_node().json();
        let pairs = json["by_node"].as_array().unwrap();
        assert_eq!(pairs.len(), 3);
        assert_eq!((&pairs[1]["from"], &pairs[1]["messages"]), (&json!("127.0.0.1:7600"), &json!(2)));
        assert_eq!(pairs[1]["to"], json!("node-b.of-the-cluster.example:7600"));
        assert_eq!(pairs[1]["latency_us"]["send to accepted"]["p99"], json!(2_000));
        assert_eq!(pairs[1]["latency_us"]["send to delivered"]["p50"], json!(1_000));
        assert_eq!(report().json()["by_node"], json!([]));
    }

    #[test]
    fn rates_and_costs_are_of_the_load_and_counts_of_the_whole_run() {
        let report = report();
        assert_eq!(report.rates(), [("messages", 4.0), ("logins before the load", 4.0)]);
        let costs = report.costs();
        assert!(costs.contains(&("generator CPU a message", "us", 62_500.0)), "{costs:?}");
        assert!(costs.contains(&("generator memory a connection", "bytes", 1_000.0)), "{costs:?}");
        assert_eq!(report.counts()[0], ("messages accepted", 10));
        let json = report.json();
        assert_eq!((&json["parameters"]["pairs"], &json["parameters"]["file"]), (&json!(2), &json!("a<b")));
        assert_eq!(json["latency_us"]["send to accepted"]["p50"], json!(1_000));
        assert!(json["limited_by"][0].as_str().unwrap().starts_with("the time that answers take"), "{json:#}");
        assert_eq!(json["about"]["begun"], json!("2026-11-28T15:00:00Z"));
    }

    #[test]
    fn what_a_message_costs_is_told_where_all_are_to_groups_or_none() {
        let costs = |to_people: u64, to_groups: u64| -> Vec<&str> {
            let mut report = report();
            report.outcome.load[Count::Accepted] = to_people;
            report.outcome.load[Count::GroupAccepted] = to_groups;
            report.outcome.resources.server_cpu_s = Some(1.0);
            report.costs().into_iter().map(|(name, ..)| name).filter(|name| name.starts_with("server CPU a")).collect()
        };
        assert_eq!(costs(8, 0), ["server CPU a message"]);
        assert_eq!(costs(0, 8), ["server CPU a group message"]);
        assert!(costs(8, 8).is_empty());
    }

    #[test]
    fn the_growth_of_memory_is_that_of_the_second_half() {
        let mut report = report();
        report.outcome.took = Duration::from_secs(119);
        let at = |second: u32| Sample {
            at: f64::from(second),
            phase: if second < 10 { "connecting" } else { "load" },
            // Falls steeply at first, then grows by 6 MiB a minute.
            server_mib: Some(if second < 69 { 500.0 - f64::from(second) } else { f64::from(second) / 10.0 }),
            ..Sample::default()
        };
        report.outcome.samples = (0..130).map(at).collect();
        assert_eq!(report.memory_growth(), None);
        report.outcome.took = Duration::from_secs(120);
        let growth = report.memory_growth().unwrap();
        assert!((growth - 6.0).abs() < 1e-6, "{growth}");
    }

    #[test]
    fn a_run_with_a_fault_or_that_was_cut_short_is_not_clean() {
        let mut faulty = report();
        assert!(faulty.is_clean());
        (0..30).for_each(|n| faulty.outcome.faults.add(format!("fault {n}")));
        assert!(!faulty.is_clean());
        let faults: Vec<_> = faulty.faults().collect();
        assert_eq!((faults.len(), faults[20].as_str()), (21, "and 10 faults more"));
        let mut short = report();
        short.outcome.is_whole = false;
        assert!(!short.is_clean());
    }

    #[test]
    fn a_run_of_two_parts_shows_the_latencies_of_each() {
        let mut report = report();
        report.eras = &["calm", "storm"];
        report.outcome.total.era = 1;
        report.outcome.total.record(Measure::Accepted, 9_000);
        let names: Vec<_> = report.latencies().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["send to accepted, calm", "send to accepted, storm"]);
    }
}
