//! The coordinator: starts the lanes, moves all of them from phase to phase, samples what the plots show, and ends a run that
//! stands still or can not go on.

use std::{
    num::NonZero,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rim::process::Usage;

use super::{Asked, Goal, LanePlan, Outcome, Phase, Plan, Shared, SharedLane, Stage, Stages, lane};
use crate::{
    devices::Manners,
    homes::Homes,
    limits::{HANDSHAKES_MAX, LOOK_EVERY_MS, SAMPLE_EVERY_MS, SAMPLES_MAX},
    live::{LiveLine, View},
    sample::{Look, Lookout, Metrics, Resources, Sample},
    stats::{Count, Latencies, Measure, Stats},
    verify::{Crew, Faults, Ledger, SharedLedger},
    world::World,
};

/// Runs a plan to its end.
///
/// # Errors
/// A lane could not be started. What goes wrong later is in the outcome.
pub fn run(world: &World, plan: Plan) -> anyhow::Result<Outcome> {
    let base = Usage::own();
    let count = plan.lanes.len();
    let mut lanes = Vec::new();
    lanes.resize_with(count, SharedLane::default);
    let shared = Arc::new(Shared { clock: Instant::now(), phase: 0.into(), lanes });
    let (ledgers, places) = ledgers(world, &plan);
    let mut threads = Vec::new();
    for (index, (lane_plan, (ledger, first_seat))) in plan.lanes.into_iter().zip(places).enumerate() {
        let manners = Manners {
            server: world.server.clone(),
            redirects: world.redirects,
            trust: world.trust.clone(),
            carrier: world.carrier,
            mint: Arc::clone(&world.mint),
            tolerates_disconnects: world.tolerates_disconnects,
            compares_histories: world.compares_histories,
            window: plan.window,
            handshakes_max: plan.handshakes_max.map_or(HANDSHAKES_MAX, |all| all.div_ceil(count)).min(HANDSHAKES_MAX),
            logins_a_second: plan.logins_a_second.map(|rate| rate / count as f64),
            ping_after_s: plan.ping_after_s,
            run: world.run,
            lane: index,
            ledger,
            first_seat,
            clock: shared.clock,
        };
        let (login, shared) = (plan.login, Arc::clone(&shared));
        let name = format!("lane-{index}");
        let body = move || lane::run(index, lane_plan, manners, login, shared);
        threads.push(thread::Builder::new().name(name).spawn(body).context("no thread for a lane")?);
    }
    let mut watch = Watch::new(world, Arc::clone(&shared), ledgers, plan.goal, base);
    (watch.asked, watch.stages) = (plan.asked, plan.stages);
    watch.until_over();
    let mut faults = std::mem::take(&mut watch.faults);
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            // It has told why before it ended.
            Ok(Err(_)) => {}
            Err(_) => faults.add("a lane's thread has panicked".to_owned()),
        }
    }
    watch.ledgers.iter().for_each(|ledger| faults.append(std::mem::take(&mut ledger.lock().faults)));
    let homes = watch.ledgers.iter().filter_map(|ledger| ledger.lock().homes.take()).reduce(Homes::and);
    watch.collect();
    Ok(Outcome { homes, ..watch.outcome(faults) })
}

/// The ledgers of a run, and for each lane which one is its own and where its devices begin there. The people of a trace write to
/// each other across lanes, so one ledger has them all.
fn ledgers(world: &World, plan: &Plan) -> (Vec<SharedLedger>, Vec<(SharedLedger, u32)>) {
    let new = |lane, crew, lines| {
        let mut ledger = Ledger::new(world.run as u32, lane, crew, lines);
        ledger.homes = world.by_node.then(Homes::default);
        SharedLedger::new(ledger)
    };
    match &plan.trace {
        None => {
            let own = |(lane, plan): (usize, &LanePlan)| new(lane as u32, plan.crew.clone(), None);
            let ledgers: Vec<_> = plan.lanes.iter().enumerate().map(own).collect();
            (ledgers.clone(), ledgers.into_iter().map(|ledger| (ledger, 0)).collect())
        }
        Some(lines) => {
            let mut everybody = Crew::default();
            let mut first_seats = Vec::new();
            for lane in &plan.lanes {
                first_seats.push(everybody.len() as u32);
                everybody.append(&lane.crew);
            }
            let ledger = new(0, everybody, Some(Arc::clone(lines)));
            let places = first_seats.into_iter().map(|seat| (ledger.clone(), seat)).collect();
            (vec![ledger], places)
        }
    }
}

/// Stats and costs at the moment at which a phase began.
#[derive(Clone, Debug, Default)]
struct Mark {
    at: Duration,
    /// Until when lanes have told what they counted, in seconds; the mean of all. They tell it a few times a second.
    counted_s: f64,
    counts: Stats,
    look: Look,
}

struct Watch<'a> {
    world: &'a World,
    shared: Arc<Shared>,
    ledgers: Vec<SharedLedger>,
    goal: Goal,
    asked: Asked,
    stages: Option<Stages>,
    /// When each of them began.
    stages_began: Vec<Mark>,
    live: LiveLine,
    lookout: Lookout,
    faults: Faults,
    total: Stats,
    /// Since the last sample.
    interval: Stats,
    base: Usage,
    login_took: Duration,
    load_began: Option<Mark>,
    load_ended: Option<Mark>,
    is_whole: bool,
    /// How many of the calls to stop have been followed.
    stops: u32,
    /// One of them came in the load.
    was_cut_short: bool,
    samples: Vec<Sample>,
    sample_every: Duration,
    last_sample: Mark,
    progress: u64,
    progressed_at: Instant,
}

impl<'a> Watch<'a> {
    fn new(world: &'a World, shared: Arc<Shared>, ledgers: Vec<SharedLedger>, goal: Goal, base: Usage) -> Self {
        let mut lookout = Lookout::new(world.sight);
        Self {
            world,
            ledgers,
            goal,
            asked: Asked::OwnTimes,
            stages: None,
            stages_began: Vec::new(),
            live: LiveLine::new(),
            faults: Faults::default(),
            total: Stats::default(),
            interval: Stats::default(),
            base,
            login_took: Duration::ZERO,
            load_began: None,
            load_ended: None,
            is_whole: true,
            stops: 0,
            was_cut_short: false,
            samples: Vec::new(),
            sample_every: Duration::from_millis(SAMPLE_EVERY_MS),
            last_sample: Mark { at: shared.clock.elapsed(), look: lookout.look(), ..Mark::default() },
            progress: 0,
            progressed_at: Instant::now(),
            shared,
            lookout,
        }
    }

    fn until_over(&mut self) {
        loop {
            thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
            let phase = self.shared.phase();
            let begun = self.stages.as_ref().map_or(0, Stages::begun);
            while self.stages_began.len() < begun {
                self.collect();
                let mark = self.mark();
                self.stages_began.push(mark);
            }
            let has_ended = |lane: &SharedLane| lane.ended.load(Ordering::Acquire) > phase as u8;
            if self.shared.lanes.iter().all(has_ended) {
                self.go_on(phase.next());
            } else if phase < Phase::Close {
                if let Some(why) = self.why_not_to_go_on() {
                    self.collect();
                    self.faults.add(format!("gave up while {}: {why}", phase.words()));
                    self.is_whole = false;
                    self.go_on(Phase::Close);
                } else if let Some(calls) = self.calls_to_stop() {
                    self.is_whole = false;
                    self.was_cut_short |= phase == Phase::Load;
                    self.go_on(if phase == Phase::Load && calls == 1 { Phase::Drain } else { Phase::Close });
                }
            }
            if self.shared.phase() == Phase::Over {
                self.live.clear();
                return;
            }
            if self.shared.clock.elapsed() >= self.last_sample.at + self.sample_every {
                self.sample();
            }
        }
    }

    /// How many calls to stop have come since the last time; none: none.
    fn calls_to_stop(&mut self) -> Option<u32> {
        let before = std::mem::replace(&mut self.stops, self.world.stops.load(Ordering::Relaxed));
        Some(self.stops - before).filter(|calls| *calls > 0)
    }

    /// The next phase begins everywhere.
    fn go_on(&mut self, next: Phase) {
        let before = self.shared.phase();
        self.collect();
        if before == Phase::Load {
            self.load_ended = Some(self.mark());
        }
        if next == Phase::Prepare {
            self.login_took = self.shared.clock.elapsed();
        }
        if next == Phase::Load {
            self.load_began = Some(self.mark());
        }
        if next == Phase::Close {
            self.ledgers.iter().for_each(|ledger| ledger.lock().check_finished());
        }
        self.progressed_at = Instant::now();
        self.shared.phase.store(next as u8, Ordering::Release);
    }

    fn why_not_to_go_on(&mut self) -> Option<String> {
        let told = |lane: &SharedLane| lane.fatal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(why) = self.shared.lanes.iter().find_map(told) {
            return Some(why);
        }
        let is_owed = self.shared.lanes.iter().any(|lane| lane.is_owed.load(Ordering::Relaxed));
        let progress = self.total.progress();
        if progress != self.progress || !is_owed {
            (self.progress, self.progressed_at) = (progress, Instant::now());
        }
        let patience = self.world.stall_after;
        (self.progressed_at.elapsed() > patience).then(|| {
            let owing = self.shared.lanes.iter().filter(|lane| lane.is_owed.load(Ordering::Relaxed));
            let missing = owing.map(|lane| lane.missing.lock().unwrap_or_else(PoisonError::into_inner).clone());
            format!("nothing happened for {} s: {}", patience.as_secs(), missing.collect::<Vec<_>>().join("; "))
        })
    }

    fn mark(&mut self) -> Mark {
        let lanes = &self.shared.lanes;
        let told_us: u64 = lanes.iter().map(|lane| lane.told_us.load(Ordering::Relaxed)).sum();
        Mark {
            at: self.shared.clock.elapsed(),
            counted_s: told_us as f64 / 1e6 / lanes.len() as f64,
            counts: self.total.clone_counts(),
            look: self.lookout.look(),
        }
    }

    /// Takes what the lanes have published.
    fn collect(&mut self) {
        let mut ready = 0;
        for lane in &self.shared.lanes {
            let mut stats = lane.stats.lock().unwrap_or_else(PoisonError::into_inner);
            ready += stats.ready;
            self.interval.add_latencies(&stats);
            stats.move_to(&mut self.total);
        }
        self.total.ready = ready;
    }

    fn sample(&mut self) {
        self.collect();
        let mark = self.mark();
        let sample = self.point(&mark);
        let accepted = self.interval.all(Measure::Accepted);
        self.interval.clear_latencies();
        self.show(&sample, accepted.as_ref());
        self.samples.push(sample);
        if self.samples.len() == SAMPLES_MAX {
            // Every second point is left out, and those that follow are twice as far apart.
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.sample_every *= 2;
        }
        self.last_sample = mark;
    }

    fn point(&self, mark: &Mark) -> Sample {
        let seconds = (mark.at - self.last_sample.at).as_secs_f64().max(1e-3);
        let counted_s = (mark.counted_s - self.last_sample.counted_s).max(1e-3);
        let rate = |count: Count| (mark.counts[count] - self.last_sample.counts[count]) as f64 / counted_s;
        let percentiles = |measure| {
            let latencies: Option<Latencies> = self.interval.all(measure);
            latencies.map(|latencies| [50.0, 99.0, 99.9, 100.0].map(|percentile| latencies.at(percentile)))
        };
        let (look, before) = (&mark.look, &self.last_sample.look);
        let server = look.server.zip(before.server);
        let metrics = look.metrics.zip(before.metrics);
        let grown = |of: fn(&Metrics) -> Option<f64>| metrics.and_then(|(now, before)| Some(of(&now)? - of(&before)?));
        let commits = grown(|metrics| metrics.commits);
        let per_commit = |grown: Option<f64>| grown.zip(commits.filter(|commits| *commits > 0.0)).map(|(a, b)| a / b);
        const MIB: f64 = 1024.0 * 1024.0;
        Sample {
            at: mark.at.as_secs_f64(),
            phase: self.shared.phase().words(),
            accepted: rate(Count::Accepted),
            delivered: rate(Count::Delivered),
            logins: rate(Count::Logins),
            pages: rate(Count::Pages),
            connections: self.total.ready,
            under_way: self.ledgers.iter().map(|ledger| ledger.lock().under_way()).sum(),
            accepted_us: percentiles(Measure::Accepted),
            delivered_us: percentiles(Measure::Delivered),
            own_cores: (look.own.cpu_s - before.own.cpu_s) / seconds,
            own_mib: look.own.memory_bytes as f64 / MIB,
            server_cores: server.map(|(now, before)| (now.cpu_s - before.cpu_s) / seconds),
            server_mib: look.server.map(|server| server.memory_bytes as f64 / MIB),
            commits: commits.map(|commits| commits / seconds),
            group_batches: per_commit(grown(|metrics| metrics.group_batches)),
            group_kib: per_commit(grown(|metrics| metrics.group_bytes)).map(|bytes| bytes / 1024.0),
        }
    }

    fn show(&mut self, sample: &Sample, accepted: Option<&Latencies>) {
        let phase = self.shared.phase();
        let since_load = self.load_began.as_ref().map(|mark| self.shared.clock.elapsed() - mark.at);
        let counted = |count: Count| self.total[count] - self.load_began.as_ref().map_or(0, |mark| mark.counts[count]);
        let part = match (phase, self.goal) {
            (Phase::Load, Goal::Time(all)) => since_load.map(|since| since.as_secs_f64() / all.as_secs_f64()),
            (Phase::Load, Goal::Messages(all)) => Some(counted(Count::Accepted) as f64 / all.max(1) as f64),
            (Phase::Load, Goal::Logins(all)) => Some(counted(Count::Logins) as f64 / all.max(1) as f64),
            (Phase::Login | Phase::Prepare | Phase::Drain | Phase::ReadBack | Phase::Close | Phase::Over, _) => None,
        };
        self.live.show(&View { phase: phase.words(), part, sample, accepted });
    }

    /// What each stage was. The last one ended with the load.
    fn stages(&self) -> Vec<Stage> {
        let names = self.stages.iter().flat_map(|stages| stages.names());
        let ends = self.stages_began.iter().skip(1).chain(&self.load_ended);
        let counted = |count, ended: &Mark, began: &Mark| ended.counts[count] - began.counts[count];
        let of = |((name, began), ended): ((&&'static str, &Mark), &Mark)| Stage {
            name,
            took_s: (ended.at - began.at).as_secs_f64(),
            accepted: counted(Count::Accepted, ended, began),
            pushed: counted(Count::PresencePushed, ended, began),
            delivered: counted(Count::GroupDelivered, ended, began),
            received: counted(Count::BytesReceived, ended, began),
            server_cpu_s: ended.look.server.zip(began.look.server).map(|(now, before)| now.cpu_s - before.cpu_s),
            server_bytes: ended.look.server.map(|server| server.memory_bytes),
        };
        let mut stages: Vec<Stage> = Vec::new();
        for stage in names.zip(&self.stages_began).zip(ends).map(of) {
            match stages.iter_mut().find(|known| known.name == stage.name) {
                Some(known) => known.add(&stage),
                None => stages.push(stage),
            }
        }
        stages
    }

    fn outcome(self, faults: Faults) -> Outcome {
        let end = Mark { at: self.shared.clock.elapsed(), counts: self.total.clone_counts(), ..Mark::default() };
        let (has_begun, stages) = (self.load_began.is_some(), self.stages());
        let began = self.load_began.unwrap_or_else(|| end.clone());
        let ended = self.load_ended.unwrap_or(end);
        let server = ended.look.server.zip(began.look.server);
        let metrics = ended.look.metrics.zip(began.look.metrics);
        let grown = |of: fn(&Metrics) -> Option<f64>| metrics.and_then(|(now, before)| Some(of(&now)? - of(&before)?));
        let commits = grown(|metrics| metrics.commits);
        let per_commit = |grown: Option<f64>| grown.zip(commits.filter(|commits| *commits > 0.0)).map(|(a, b)| a / b);
        let resources = Resources {
            own_cpu_s: if has_begun { (ended.look.own.cpu_s - began.look.own.cpu_s).max(0.0) } else { 0.0 },
            own_base_bytes: self.base.memory_bytes,
            own_bytes: ended.look.own.memory_bytes,
            connections: ended.counts.ready,
            server_cpu_s: server.map(|(now, before)| now.cpu_s - before.cpu_s),
            server_bytes: ended.look.server.map(|server| server.memory_bytes),
            server_files: server.and_then(|(now, before)| Some((before.open_files?, now.open_files?))),
            server_failures: grown(|metrics| metrics.failures),
            commits,
            sync_us: per_commit(grown(|metrics| metrics.sync_s)).map(|seconds| seconds * 1e6),
            group_batches: per_commit(grown(|metrics| metrics.group_batches)),
            queries: grown(|metrics| metrics.queries),
            cache_hits: grown(|metrics| metrics.cache_hits),
            cache_misses: grown(|metrics| metrics.cache_misses),
            presence_announced: grown(|metrics| metrics.presence_announced),
            presence_pushed: grown(|metrics| metrics.presence_pushed),
            server_cores: ended.look.metrics.and_then(|metrics| metrics.cores),
            server_restarts: ended.look.server_restarts - began.look.server_restarts,
        };
        // The lanes know better than the coordinator, who looks every few milliseconds. A load that was cut short ended for all at once.
        let times = |of: fn(&SharedLane) -> &AtomicU64| {
            self.shared.lanes.iter().map(move |lane| of(lane).load(Ordering::Relaxed)).filter(|us| *us > 0)
        };
        let first_us = times(|lane| &lane.load_began_us).min();
        let last_us = times(|lane| &lane.load_ended_us).max().filter(|_| self.is_whole);
        let took = first_us.zip(last_us).map(|(first, last)| Duration::from_micros(last.saturating_sub(first)));
        Outcome {
            stages,
            homes: None,
            load: ended.counts.since(&began.counts),
            took: took.unwrap_or(ended.at.saturating_sub(began.at)),
            login_took: self.login_took,
            total: self.total,
            samples: self.samples,
            asked: self.asked,
            lanes: self.shared.lanes.len(),
            machine_cores: thread::available_parallelism().map_or(1, NonZero::get),
            shares_machine: self.world.server.address.ip().is_loopback(),
            resources,
            faults,
            is_whole: self.is_whole,
            was_cut_short: self.was_cut_short,
        }
    }
}
