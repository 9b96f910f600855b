//! Reactor: one core. A turn takes everything that is ready (completions, mail, time), feeds the shard, and then carries
//! out what the shard asked for: the batch to the journal first, then what depends on it, one send for each connection,
//! and one call into the kernel.
//!
//! Between turns the core sleeps in its tokio-uring runtime, on the doorbell that its ring and the other cores ring. The
//! ring's own descriptor is not watched: a ring with deferred task work never becomes readable.

mod clients;
mod stopping;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto_spec::ErrorCode;
use storage::{Answer, BatchId, LaneId, StoreError};
use tracing::{debug, error, warn};

use super::{
    clock::Clock,
    commit::{Background, Commit},
    handoff::{Arrivals, Greetings},
    mailbox::{Delivery, Mailbox, Outgoing},
    message::CoreMessage,
    node::Shared,
    query::Readers,
    ring::{Completion, Ring},
    socket::Connections,
    tasks::{Database, Done, Tasks},
    throttle::Throttle,
    token::Op,
};
use crate::{
    audit::Reporter,
    committer::News,
    core::load::LoadMeter,
    counters::CoreCounters,
    credentials::Credentials,
    lanes::{Lanes, Outcome},
    limits::{
        ACCEPTS_TURN_MAX, DEPARTURES_TURN_MAX, FENCE_CHECK_MS, LANE_FAILURES_TOLD, MAILBOX_TURN_MAX, ORIGINS_SWEEP_MS,
        OUTPUT_TURN_BYTES_MAX, STALLED_SLEEP_MS, TICK_MS, TURNS_BETWEEN_YIELDS,
    },
    revocation::Subject,
    shard::{Admission, ConnId, Effects, Input, Now, Presence, QueryId, Refresh, Shard},
    topology::CoreId,
};

/// One core: its ring, its connections and its shard.
pub(super) struct Reactor {
    // First, so that it is dropped first: it waits for operations on files that others here own.
    ring: Ring,
    core: CoreId,
    shared: Arc<Shared>,
    /// As of the last tick.
    credentials: Arc<Credentials>,
    clock: Clock,
    shard: Shard,
    effects: Effects,
    connections: Connections,
    greetings: Greetings,
    /// Tokens of live connections that wait to be judged, in order; at most `REFRESHES_MAX`.
    refreshes: VecDeque<Refresh>,
    reporter: Reporter,
    arrivals: Arrivals,
    outgoing: Outgoing<CoreMessage>,
    /// Core 0 has the journal.
    commit: Option<Commit>,
    /// Of an engine.
    readers: Option<Readers>,
    /// Of a database: its readers' and its lanes'.
    tasks: Option<Tasks>,
    /// Where acknowledgements wait for a database.
    lanes: Option<Lanes>,
    /// What core 0 was last told of them.
    lanes_away: bool,
    /// Completions of receives that wait until other cores and the reader threads have caught up, in order.
    deferred: VecDeque<Completion>,
    /// Peers that have gone, each twice at most, with and without words: seen off some a turn.
    departures: VecDeque<Departure>,
    completions: Vec<Completion>,
    /// Plaintext of a receive, while it is looked at.
    plain: Vec<u8>,
    /// Places of accepts that are not under way; begun with the next tick.
    accepts_idle: Vec<u32>,
    /// What is told of accepts that fail.
    accept_warnings: Throttle,
    /// And of queries: of those that found the store away, and of those that found something wrong in it.
    away_warnings: Throttle,
    query_warnings: Throttle,
    next_tick_ms: u64,
    origins_sweep_ms: u64,
    /// When to look again whether the database is still this server's.
    next_check_ms: u64,
    load: LoadMeter,
    /// Nothing is committed any more.
    journal_failed: bool,
    /// When the stop was asked for.
    draining_since_ms: Option<u64>,
}

/// How a peer says that nothing more comes from it.
enum Departure {
    /// A receive says so.
    Ended(Completion),
    /// A close_notify does.
    Announced(ConnId),
}

/// What a core is made from.
pub(super) struct Parts {
    pub(super) core: CoreId,
    pub(super) ring: Ring,
    pub(super) shard: Shard,
    pub(super) commit: Option<Commit>,
    pub(super) reads: Reads,
    pub(super) lanes: Option<Lanes>,
    pub(super) clock: Clock,
}

/// How a core reads the store.
#[derive(Clone)]
pub(super) enum Reads {
    /// By threads, since it blocks.
    Threads(Readers),
    /// By tasks of its own runtime.
    Tasks(Database),
}

impl Reactor {
    pub(super) fn new(parts: Parts, shared: Arc<Shared>) -> Self {
        let (readers, tasks) = match parts.reads {
            Reads::Threads(readers) => (Some(readers), None),
            Reads::Tasks(database) => (None, Some(Tasks::new(database))),
        };
        Self {
            ring: parts.ring,
            core: parts.core,
            outgoing: Outgoing::new(Arc::clone(&shared.mailboxes)),
            credentials: shared.credentials(),
            reporter: Reporter::new(shared.audit.clone()),
            shared,
            clock: parts.clock,
            shard: parts.shard,
            effects: Effects::default(),
            connections: Connections::new(),
            greetings: Greetings::default(),
            refreshes: VecDeque::new(),
            arrivals: Arrivals::default(),
            commit: parts.commit,
            readers,
            tasks,
            lanes: parts.lanes,
            lanes_away: false,
            deferred: VecDeque::new(),
            departures: VecDeque::new(),
            completions: Vec::new(),
            plain: Vec::new(),
            accepts_idle: (0..ACCEPTS_TURN_MAX as u32).collect(),
            accept_warnings: Throttle::default(),
            away_warnings: Throttle::default(),
            query_warnings: Throttle::default(),
            next_tick_ms: 0,
            origins_sweep_ms: 0,
            next_check_ms: 0,
            load: LoadMeter::default(),
            journal_failed: false,
            draining_since_ms: None,
        }
    }

    /// Serves until the node stops.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mailbox = &shared.mailboxes[usize::from(self.core.0)];
        let doorbell = mailbox.doorbell().listen()?;
        let mut busy_turns = 0;
        while !self.is_over() {
            self.turn()?;
            if self.has_work() {
                busy_turns += 1;
                // A commit or a read of a database begins when the runtime has its turn.
                if self.tasks.is_some() || busy_turns % TURNS_BETWEEN_YIELDS == 0 {
                    tokio::task::yield_now().await;
                }
            } else if self.fall_asleep(mailbox) {
                busy_turns = 0;
                self.counters().sleeps.one();
                tokio::select! {
                    ready = doorbell.readable() => ready?.clear_ready(),
                    () = ended(self.tasks.as_ref()) => {}
                    () = tokio::time::sleep(self.sleep_max()) => {}
                }
                mailbox.awake();
                self.ring.disable_doorbell();
            }
        }
        mailbox.close();
        self.reporter.finish();
        Ok(())
    }

    /// One turn.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.counters().turns.one();
        // What a crowd brings, in small parts: the output of the last turn has left, and what came since is served next.
        self.judge_tokens(now);
        self.see_off(now);
        self.take_deferred(now);
        self.take_completions(now);
        self.take_mail(now);
        self.take_ended(now);
        self.take_time(now);
        self.take_news(now);
        self.carry_out(now);
        self.begin_commits(now);
        self.connections.feed_starved(&mut self.ring);
        self.connections.flush(&mut self.ring);
        if let Some(commit) = &mut self.commit {
            commit.begin(now.monotonic_ms, &mut self.ring);
        }
        let origins = &self.shared.origins;
        self.connections.begin_closes(&mut self.ring, |origin| origins.leave(origin, now.monotonic_ms));
        self.readers.iter_mut().for_each(Readers::flush);
        self.tasks.iter_mut().for_each(Tasks::flush);
        self.outgoing.flush();
        self.reporter.flush();
        self.ring.submit()
    }

    // ---- taking what is ready

    fn take_completions(&mut self, now: Now) {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.take(&mut completions);
        for completion in completions.drain(..) {
            match completion.token.op {
                Op::Hello | Op::Receive if self.is_stalled() || !self.deferred.is_empty() => {
                    // Order within a connection: once one waits, all wait.
                    self.counters().receives_deferred.one();
                    self.deferred.push_back(completion);
                }
                Op::Hello | Op::Receive => self.receive(now, completion),
                Op::Send => self.on_sent(now, completion),
                Op::Accept => self.on_accept(now, &completion),
                Op::Move => self.on_moved(now, &completion),
                Op::Arrival => self.on_arrival(now, &completion),
                Op::JournalWrite | Op::JournalSync => {
                    if let Some(commit) = &mut self.commit {
                        commit.completed(now.monotonic_ms, completion);
                    }
                }
                Op::Close => {
                    self.connections.closed(completion.token);
                    self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                }
                Op::Shutdown => self.connections.settled(completion.token),
                Op::Cancel => {}
                Op::Connect => debug_assert!(false, "a server opens no connections"),
            }
        }
        self.completions = completions;
    }

    /// Whether other cores or the reader threads are behind: client bytes have to wait.
    fn is_stalled(&self) -> bool {
        self.outgoing.is_stalled()
            || self.readers.as_ref().is_some_and(Readers::is_stalled)
            || self.tasks.as_ref().is_some_and(Tasks::is_stalled)
    }

    fn take_deferred(&mut self, now: Now) {
        while !self.is_stalled()
            && let Some(completion) = self.deferred.pop_front()
        {
            self.receive(now, completion);
        }
    }

    /// A departure is put off behind everything that the connection has said.
    fn receive(&mut self, now: Now, completion: Completion) {
        if is_departure(&completion) {
            self.departures.push_back(Departure::Ended(completion));
        } else {
            self.on_receive(now, completion);
        }
    }

    fn see_off(&mut self, now: Now) {
        for _ in 0..DEPARTURES_TURN_MAX {
            if self.is_stalled() {
                return;
            }
            match self.departures.pop_front() {
                Some(Departure::Ended(completion)) => self.on_receive(now, completion),
                Some(Departure::Announced(conn)) => self.on_announced(now, conn),
                None => return,
            }
        }
    }

    fn take_mail(&mut self, now: Now) {
        let shared = Arc::clone(&self.shared);
        let mailbox = &shared.mailboxes[usize::from(self.core.0)];
        for _ in 0..MAILBOX_TURN_MAX {
            let Some(message) = mailbox.take() else { break };
            self.on_message(now, message);
        }
    }

    fn on_message(&mut self, now: Now, message: CoreMessage) {
        match message {
            CoreMessage::Envelope(envelope) => self.feed(now, Input::Envelope(envelope)),
            CoreMessage::News(news) => self.on_news(now, news),
            CoreMessage::Answer { query, answer } => self.on_answer(now, query, *answer),
            CoreMessage::Unfinished(user) => self.feed(now, Input::Unfinished(user)),
            CoreMessage::Revoked(Subject { user, device }, issued_up_to) => {
                self.feed(now, Input::Revoked { user, device, issued_up_to });
            }
            CoreMessage::Guest(guest) => {
                if let Some((slot, guest)) = self.arrivals.guest(guest) {
                    self.welcome(now, slot, *guest);
                }
            }
            CoreMessage::Batch { lane, id, bytes } => {
                if let Some(commit) = &mut self.commit {
                    commit.push(lane, id, &bytes);
                }
            }
            CoreMessage::Stored { lane, up_to } => {
                if let Some(commit) = &mut self.commit {
                    commit.stored(lane, up_to);
                }
            }
            CoreMessage::Away { core, is_away } => {
                if let Some(commit) = &mut self.commit {
                    commit.lanes_away(core, is_away);
                }
            }
            CoreMessage::Lost(why) => self.lose(why),
            CoreMessage::Background(news) => {
                if let Background::Lost(why) = *news {
                    return self.lose(why);
                }
                if let Some(commit) = &mut self.commit {
                    commit.background(now.monotonic_ms, *news);
                }
            }
        }
    }

    fn on_news(&mut self, now: Now, news: News) {
        self.journal_failed |= news == News::Admission(Admission::Failed);
        match (news, &mut self.lanes) {
            // Acknowledgements wait for the database, unless it is away.
            (News::Committed { lane, up_to }, Some(lanes)) => {
                if let Some(up_to) = lanes.synced(lane, up_to) {
                    self.feed(now, Input::Committed { lane, up_to });
                }
            }
            (news, _) => self.feed(now, news.input()),
        }
    }

    // ---- the database

    /// Takes what has ended of the core's commits and reads.
    fn take_ended(&mut self, now: Now) {
        while let Some(done) = self.tasks.as_mut().and_then(Tasks::take) {
            match done {
                Done::Answer(query, answer) => self.on_answer(now, query, answer),
                Done::Checked(Err(error @ StoreError::Fenced { .. })) => self.lose(error.to_string()),
                // Whoever has something to commit sees to it.
                Done::Checked(_) => {}
                Done::Advanced { lane, result, batches, took_us } => {
                    let Some(lanes) = &mut self.lanes else { continue };
                    let counters = self.shared.counters.core(self.core);
                    match lanes.done(now.monotonic_ms, lane, result, rand::random()) {
                        Outcome::Stored(up_to) => {
                            counters.commits.one();
                            counters.commit_batches.add(batches as u64);
                            counters.commit_us.add(took_us);
                            counters.commit_us_max.at_least(took_us);
                            self.feed(now, Input::Stored { lane, up_to });
                            self.tell_core_0(now, CoreMessage::Stored { lane, up_to });
                        }
                        Outcome::Retried { error, failures } => {
                            counters.commit_retries.one();
                            let lane = lane.0;
                            match (error.is_retryable(), failures % LANE_FAILURES_TOLD == 1) {
                                (true, true) => warn!(lane, failures, %error, "a commit failed; it is tried again"),
                                (false, true) => {
                                    error!(lane, failures, %error, "a commit is refused; it is tried again")
                                }
                                (_, false) => debug!(lane, failures, %error, "a commit failed; it is tried again"),
                            }
                        }
                        Outcome::Lost(error) => self.tell_core_0(now, CoreMessage::Lost(error.to_string())),
                    }
                }
            }
        }
    }

    fn begin_commits(&mut self, now: Now) {
        // With the journal's failure all promises end.
        if self.journal_failed {
            return;
        }
        if let (Some(lanes), Some(tasks)) = (&mut self.lanes, &self.tasks) {
            while let Some(work) = lanes.next(now.monotonic_ms) {
                tasks.commit(work);
            }
        }
    }

    /// Looks whether the lanes wait too long.
    fn look_at_lanes(&mut self, now: Now) {
        let Some(lanes) = &mut self.lanes else { return };
        let released = lanes.tick(now.monotonic_ms);
        let is_away = lanes.is_away();
        let (batches, bytes) = lanes.waiting();
        let counters = self.shared.counters.core(self.core);
        counters.commit_waiting_batches.set(batches as u64);
        counters.commit_waiting_bytes.set(bytes as u64);
        for (lane, up_to) in released {
            self.feed(now, Input::Committed { lane, up_to });
        }
        if std::mem::replace(&mut self.lanes_away, is_away) != is_away {
            self.tell_core_0(now, CoreMessage::Away { core: self.core, is_away });
        }
    }

    /// The store is another server's: nothing more is promised, and this one ends.
    fn lose(&mut self, why: String) {
        if let Some(commit) = &mut self.commit {
            self.shared.lose(&why);
            commit.lost(why);
        }
    }

    fn tell_core_0(&mut self, now: Now, message: CoreMessage) {
        if self.core == CoreId(0) {
            self.on_message(now, message);
        } else {
            self.send(CoreId(0), message);
        }
    }

    fn on_answer(&mut self, now: Now, query: QueryId, answer: Result<Answer, StoreError>) {
        let answer = answer.inspect_err(|error| self.on_query_failed(now, error)).ok();
        self.feed(now, Input::Answer { query, answer });
    }

    fn on_query_failed(&mut self, now: Now, error: &StoreError) {
        self.counters().queries_failed.one();
        let warnings = if error.is_retryable() { &mut self.away_warnings } else { &mut self.query_warnings };
        if let Some(times) = warnings.another(now.monotonic_ms) {
            warn!(core = self.core.0, %error, times, "a query failed");
        }
    }

    // ---- time

    /// Tells of the failures that were too many for a line each.
    fn tell_the_rest(&mut self, now: Now) {
        let core = self.core.0;
        if let Some(times) = self.accept_warnings.rest(now.monotonic_ms) {
            warn!(core, times, "accept failed");
        }
        for warnings in [&mut self.away_warnings, &mut self.query_warnings] {
            if let Some(times) = warnings.rest(now.monotonic_ms) {
                warn!(core, times, "a query failed");
            }
        }
    }

    fn take_time(&mut self, now: Now) {
        if self.shared.is_stopping() && self.draining_since_ms.is_none() {
            self.begin_drain(now);
        }
        if now.monotonic_ms < self.next_tick_ms {
            return;
        }
        self.next_tick_ms = now.monotonic_ms + TICK_MS;
        self.credentials = self.shared.credentials();
        self.tell_the_rest(now);
        if self.draining_since_ms.is_none() {
            for place in self.accepts_idle.drain(..) {
                self.ring.accept(self.shared.listener_of(place).0.as_fd(), place);
            }
        }
        while let Some(conn) = self.greetings.take_late(now.monotonic_ms) {
            self.end_greeting(now, conn);
            self.refuse(now, conn, ErrorCode::HandshakeTimeout, 0, "the hello did not come in time");
        }
        if self.core.0 == 0
            && now.monotonic_ms >= self.next_check_ms
            && let Some(tasks) = &mut self.tasks
        {
            self.next_check_ms = now.monotonic_ms + FENCE_CHECK_MS;
            tasks.check();
        }
        if self.core.0 == 0 {
            self.clock.look(&self.shared.counters.clock);
        }
        if self.core.0 == 0 && now.monotonic_ms >= self.origins_sweep_ms {
            self.origins_sweep_ms = now.monotonic_ms + ORIGINS_SWEEP_MS;
            self.shared.origins.sweep(now.monotonic_ms);
        }
        let cut = self.connections.cut_late(now.monotonic_ms, &mut self.ring);
        if let Some(commit) = &mut self.commit {
            commit.tick(now.monotonic_ms);
        }
        if let Some(load) = self.load.tick(now.monotonic_ms) {
            warn!(core = self.core.0, ?load, "the load of a core has changed");
            self.feed(now, Input::Load(load));
        }
        self.look_at_lanes(now);
        self.feed(now, Input::Tick);
        let counters = self.shared.counters.core(self.core);
        counters.closed_by_deadline.add(cut);
        counters.connections.set(self.connections.len() as u64);
        counters.tls_connections.set(self.connections.tls_len() as u64);
        counters.handshakes.set(self.greetings.len() as u64);
        self.shared.counters.set_shard(self.core, self.shard.counters());
        self.cut_drain(now);
    }

    /// Passes on what the journal has to say.
    fn take_news(&mut self, now: Now) {
        let Some(commit) = &mut self.commit else { return };
        for (core, news) in commit.news() {
            if core == self.core {
                self.on_message(now, CoreMessage::News(news));
            } else {
                self.send(core, CoreMessage::News(news));
            }
        }
    }

    // ---- the shard and what it asks for

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.shard.handle(now, input, &self.shared.directory, &mut self.effects);
        self.bound_output(now);
    }

    /// A turn that says very much is carried out in parts.
    fn bound_output(&mut self, now: Now) {
        if self.effects.bytes.len() >= OUTPUT_TURN_BYTES_MAX {
            self.carry_out(now);
        }
    }

    /// Ends the shard's turn and does what it asks for.
    fn carry_out(&mut self, now: Now) {
        let mut effects = std::mem::take(&mut self.effects);
        self.shard.end_turn(now, &self.shared.directory, &mut effects);
        // First: an envelope must not be faster than the batch that it follows from.
        for (lane, id, batch) in effects.batches() {
            self.commit(now, lane, id, batch.bytes());
        }
        for (user, presence) in effects.presence.drain(..) {
            match presence {
                Presence::Online => self.shared.directory.insert(user, self.core),
                Presence::Offline => self.shared.directory.remove(user),
            }
        }
        for (home, envelope) in effects.envelopes.drain(..) {
            self.counters().envelopes.one();
            self.send(home, CoreMessage::Envelope(envelope));
        }
        for (id, query) in effects.queries.drain(..) {
            self.counters().queries.one();
            match (&mut self.readers, &mut self.tasks) {
                (Some(readers), _) => readers.ask(self.core, id, query),
                (None, Some(tasks)) => tasks.ask(id, query),
                (None, None) => debug_assert!(false, "a core reads in one way or the other"),
            }
        }
        for (conn, range) in effects.sends.drain(..) {
            self.connections.queue(conn, &effects.bytes[range]);
        }
        self.refreshes.extend(effects.refreshes.drain(..));
        for (conn, state) in effects.reads.drain(..) {
            self.connections.set_reading(conn, state, &mut self.ring);
        }
        for close in effects.closes.drain(..) {
            self.close(now, close);
        }
        effects.clear();
        self.effects = effects;
    }

    /// Hands a batch to the journal and, where it is for them to bring it into the store, to the lanes.
    fn commit(&mut self, now: Now, lane: LaneId, id: BatchId, bytes: &[u8]) {
        if let Some(lanes) = &mut self.lanes {
            lanes.push(now.monotonic_ms, lane, id, bytes.to_vec());
        }
        match &mut self.commit {
            Some(commit) => commit.push(lane, id, bytes),
            None => self.send(CoreId(0), CoreMessage::Batch { lane, id, bytes: bytes.to_vec() }),
        }
    }

    fn send(&mut self, to: CoreId, message: CoreMessage) {
        if self.outgoing.send(to, message) == Delivery::Kept {
            self.counters().mailbox_full.one();
        }
    }

    // ---- sleeping

    /// Whether another turn has something to do now.
    fn has_work(&mut self) -> bool {
        let mailbox = &self.shared.mailboxes[usize::from(self.core.0)];
        self.commit.as_ref().is_some_and(Commit::has_news)
            || mailbox.has_mail()
            || self.tasks.as_ref().is_some_and(Tasks::has_ended)
            || self.connections.has_closes()
            || (self.has_put_off() && !self.is_stalled())
            || self.ring.is_ready()
            || self.shard.has_due(self.clock.now())
    }

    /// Whether something waits until other cores and the reader threads have caught up, or for its share of a turn.
    fn has_put_off(&self) -> bool {
        let has_tokens = !self.refreshes.is_empty() || self.greetings.has_waiting();
        !self.deferred.is_empty() || !self.departures.is_empty() || (has_tokens && !self.reporter.is_stalled())
    }

    /// Announces that this core sleeps; false if something came in the meantime.
    fn fall_asleep(&mut self, mailbox: &Mailbox<CoreMessage>) -> bool {
        self.ring.enable_doorbell();
        if !mailbox.fall_asleep() {
            self.ring.disable_doorbell();
            return false;
        }
        if self.ring.is_ready() {
            mailbox.awake();
            self.ring.disable_doorbell();
            return false;
        }
        true
    }

    fn sleep_max(&self) -> Duration {
        if self.is_stalled() {
            return Duration::from_millis(STALLED_SLEEP_MS);
        }
        let now = self.clock.now().monotonic_ms;
        let retry_at_ms = self.lanes.as_ref().and_then(Lanes::retry_at_ms).unwrap_or(u64::MAX);
        Duration::from_millis(self.next_tick_ms.min(retry_at_ms).saturating_sub(now).max(1))
    }

    fn counters(&self) -> &CoreCounters {
        self.shared.counters.core(self.core)
    }
}

/// Waits until a task has ended.
async fn ended(tasks: Option<&Tasks>) {
    match tasks {
        Some(tasks) => tasks.ended().await,
        None => std::future::pending().await,
    }
}

/// Whether a receive says that nothing more will come. Its connection's slot stays taken until that has been looked at.
fn is_departure(completion: &Completion) -> bool {
    completion.result <= 0 && !completion.more && ![-libc::ENOBUFS, -libc::ECANCELED].contains(&completion.result)
}
