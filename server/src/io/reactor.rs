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
use storage::{BatchId, CoreId};
use tracing::warn;

use super::{
    clock::Clock,
    commit::Commit,
    counters::CoreCounters,
    handoff::{Arrivals, Greetings},
    load::LoadMeter,
    mailbox::{Delivery, Mailbox, Outgoing},
    message::CoreMessage,
    node::Shared,
    query::Readers,
    ring::{Completion, Ring},
    socket::Connections,
    token::Op,
};
use crate::{
    audit::Reporter,
    committer::News,
    credentials::Credentials,
    limits::{
        ACCEPTS_TURN_MAX, DEPARTURES_TURN_MAX, MAILBOX_TURN_MAX, ORIGINS_SWEEP_MS, OUTPUT_TURN_BYTES_MAX,
        STALLED_SLEEP_MS, TICK_MS, TURNS_BETWEEN_YIELDS,
    },
    revocation::Subject,
    shard::{Admission, ConnId, Effects, Input, Now, Presence, Refresh, Shard},
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
    readers: Readers,
    /// Completions of receives that wait until other cores and the reader threads have caught up, in order.
    deferred: VecDeque<Completion>,
    /// Peers that have gone, each twice at most, with and without words: seen off some a turn.
    departures: VecDeque<Departure>,
    completions: Vec<Completion>,
    /// Plaintext of a receive, while it is looked at.
    plain: Vec<u8>,
    /// Places of accepts that are not under way; begun with the next tick.
    accepts_idle: Vec<u32>,
    /// Accepts that have failed since that was last told, and when it may be told again.
    accepts_failed: u64,
    accept_warn_at_ms: u64,
    next_tick_ms: u64,
    origins_sweep_ms: u64,
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
    pub(super) readers: Readers,
    pub(super) clock: Clock,
}

impl Reactor {
    pub(super) fn new(parts: Parts, shared: Arc<Shared>) -> Self {
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
            readers: parts.readers,
            deferred: VecDeque::new(),
            departures: VecDeque::new(),
            completions: Vec::new(),
            plain: Vec::new(),
            accepts_idle: (0..ACCEPTS_TURN_MAX as u32).collect(),
            accepts_failed: 0,
            accept_warn_at_ms: 0,
            next_tick_ms: 0,
            origins_sweep_ms: 0,
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
                if busy_turns % TURNS_BETWEEN_YIELDS == 0 {
                    tokio::task::yield_now().await;
                }
            } else if self.fall_asleep(mailbox) {
                busy_turns = 0;
                self.counters().sleeps.one();
                if let Ok(ready) = tokio::time::timeout(self.sleep_max(), doorbell.readable()).await {
                    ready?.clear_ready();
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
        self.take_time(now);
        self.take_news(now);
        self.carry_out(now);
        self.connections.feed_starved(&mut self.ring);
        self.connections.flush(&mut self.ring);
        if let Some(commit) = &mut self.commit {
            commit.begin(now.monotonic_ms, &mut self.ring);
        }
        let origins = &self.shared.origins;
        self.connections.begin_closes(&mut self.ring, |origin| origins.leave(origin, now.monotonic_ms));
        self.readers.flush();
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
        self.outgoing.is_stalled() || self.readers.is_stalled()
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
            CoreMessage::News(news) => {
                self.journal_failed |= news == News::Admission(Admission::Failed);
                self.feed(now, news.input());
            }
            CoreMessage::Answer { query, answer } => {
                if answer.is_none() {
                    self.counters().queries_failed.one();
                }
                self.feed(now, Input::Answer { query, answer: answer.map(|answer| *answer) });
            }
            CoreMessage::Unfinished(user) => self.feed(now, Input::Unfinished(user)),
            CoreMessage::Revoked(Subject { user, device }, issued_up_to) => {
                self.feed(now, Input::Revoked { user, device, issued_up_to });
            }
            CoreMessage::Guest(guest) => {
                if let Some((slot, guest)) = self.arrivals.guest(guest) {
                    self.welcome(now, slot, *guest);
                }
            }
            CoreMessage::Batch { core, id, bytes } => {
                if let Some(commit) = &mut self.commit {
                    commit.push(core, id, &bytes);
                }
            }
            CoreMessage::Background(news) => {
                if let Some(commit) = &mut self.commit {
                    commit.background(now.monotonic_ms, *news);
                }
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
        if self.draining_since_ms.is_none() {
            for place in self.accepts_idle.drain(..) {
                self.ring.accept(self.shared.listener_of(place).0.as_fd(), place);
            }
        }
        while let Some(conn) = self.greetings.take_late(now.monotonic_ms) {
            self.end_greeting(conn);
            self.refuse(now, conn, ErrorCode::HandshakeTimeout, 0, "the hello did not come in time");
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
        let last = self.shard.end_turn(now, &self.shared.directory, &mut effects);
        // First: an envelope must not be faster than the batch that it follows from.
        for (id, batch) in effects.full_batches.drain(..) {
            self.commit(id, batch.bytes());
        }
        if let Some(id) = last {
            self.commit(id, effects.batch.bytes());
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
            self.readers.ask(self.core, id, query);
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

    /// Hands a batch to the journal.
    fn commit(&mut self, id: BatchId, bytes: &[u8]) {
        match &mut self.commit {
            Some(commit) => commit.push(self.core, id, bytes),
            None => self.send(CoreId(0), CoreMessage::Batch { core: self.core, id, bytes: bytes.to_vec() }),
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
        Duration::from_millis(self.next_tick_ms.saturating_sub(now).max(1))
    }

    fn counters(&self) -> &CoreCounters {
        self.shared.counters.core(self.core)
    }
}

/// Whether a receive says that nothing more will come. Its connection's slot stays taken until that has been looked at.
fn is_departure(completion: &Completion) -> bool {
    completion.result <= 0 && !completion.more && ![-libc::ENOBUFS, -libc::ECANCELED].contains(&completion.result)
}
