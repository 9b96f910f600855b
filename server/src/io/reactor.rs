//! Reactor: the rim of one core. A turn takes everything that is ready (completions, mail, time), tells the core, and carries
//! out what the core orders: the batch to the journal first, then what depends on it, one send for each connection,
//! and one call into the kernel. What is decided is decided in [`crate::core`].
//!
//! Between turns the core sleeps in its tokio-uring runtime, on the doorbell that its rings and the other cores ring. The
//! descriptor of the sockets' ring is not watched: a ring with deferred task work never becomes readable. A calm core whose journal has
//! something to do pauses for that alone.

mod calm;
mod clients;
mod core_rim;
mod stopping;
mod streams;
#[cfg(test)]
mod tests;
mod tunnels;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rim::{
    ring::{Completion, JournalRing, Ring},
    token::Op,
};
use storage::StoreError;
use tracing::warn;

use self::{calm::Calm, core_rim::CoreRim};
use super::{
    commit::Commit,
    links::{Event, Line, Sockets},
    mailbox::{Mailbox, Post},
    query::Readers,
    shared::Shared,
    socket::Connections,
    tasks::{Database, Done, Tasks},
};
use crate::{
    core::{Core, CoreMessage},
    files::credentials::Credentials,
    host::clock::Clock,
    limits::{
        ACCEPTS_TURN_MAX, DEPARTURES_TURN_MAX, LINK_EVENTS_TURN_MAX, MAILBOX_TURN_MAX, PRESENCE_MAILS_TURN_MAX,
        QUERIES_WAITING_MAX, STALLED_SLEEP_MS, TURNS_BETWEEN_YIELDS,
    },
    operator::{audit::Reporter, counters::CoreCounters, throttle::Throttle},
    shard::{ConnId, Now, topology::CoreId},
};

/// One core and its rim.
pub(super) struct Reactor {
    // Before the others: see its ring.
    rim: CoreRim,
    core: Core,
    /// Keys and certificate by which new connections are judged, as they were at the last tick.
    credentials: Arc<Credentials>,
    clock: Clock,
    /// Completions of receives that wait until other cores and the reader threads have caught up, in order.
    deferred: VecDeque<Completion>,
    completions: Vec<Completion>,
    calm: Calm,
    /// Plaintext of a receive that was encrypted, while it is looked at.
    plain: Vec<u8>,
    /// Places of accepts that are not under way; begun with the next tick.
    accepts_idle: Vec<u32>,
    /// How many accepts are under way.
    accepts_begun: usize,
    /// Limits how often the log is told that an accept failed.
    accept_warnings: Throttle,
    /// The same for queries that failed because the store is away, and for those that found something wrong in it.
    away_warnings: Throttle,
    query_warnings: Throttle,
}

/// How a peer says that nothing more comes from it.
enum Departure {
    /// A receive says so.
    Ended(Completion),
    /// A close_notify does, or a close frame of WebSocket.
    Announced(ConnId),
}

/// What a core's rim is made from.
pub(super) struct Parts {
    pub(super) ring: Ring,
    pub(super) core: Core,
    pub(super) journal: Option<(JournalRing, Commit)>,
    pub(super) reads: Reads,
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

impl Reads {
    /// So many queries may wait for their turn before clients have to.
    pub(super) const fn queries_kept_max(&self) -> usize {
        match self {
            // Their queue is long enough.
            Self::Threads(_) => 0,
            // When the database hangs some queries wait here, so that clients which ask nothing are still served.
            Self::Tasks(_) => QUERIES_WAITING_MAX,
        }
    }
}

impl Reactor {
    pub(super) fn new(parts: Parts, shared: Arc<Shared>) -> Self {
        let (readers, tasks) = match parts.reads {
            Reads::Threads(readers) => (Some(readers), None),
            Reads::Tasks(database) => (None, Some(Tasks::new(database))),
        };
        Self {
            credentials: shared.credentials(),
            rim: CoreRim {
                ring: parts.ring,
                id: parts.core.id(),
                connections: Connections::new(),
                departures: VecDeque::new(),
                reporter: Reporter::new(shared.audit.clone()),
                post: Post::new(Arc::clone(&shared.mailboxes)),
                journal: parts.journal,
                is_calm: false,
                readers,
                tasks,
                links: Sockets::new(shared.mesh_tls.clone()),
                adopted: HashMap::new(),
                shared,
            },
            core: parts.core,
            clock: parts.clock,
            deferred: VecDeque::new(),
            completions: Vec::new(),
            calm: Calm::default(),
            plain: Vec::new(),
            accepts_idle: (0..ACCEPTS_TURN_MAX as u32).collect(),
            accepts_begun: 0,
            accept_warnings: Throttle::default(),
            away_warnings: Throttle::default(),
            query_warnings: Throttle::default(),
        }
    }

    /// Serves until the node stops.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.rim.shared);
        let mailbox = &shared.mailboxes[usize::from(self.core.id().0)];
        let doorbell = mailbox.doorbell().listen()?;
        if let Some(listener) = &shared.mesh_listener {
            self.rim.links.listen(listener.try_clone()?)?;
        }
        if let Some(pages) = &shared.pages {
            self.rim.links.take_in(pages.polled(self.core.id()));
        }
        let mut busy_turns = 0;
        while !self.is_over() {
            let begun = Instant::now();
            self.turn()?;
            self.note_turn(begun.elapsed());
            let has_work = self.has_work();
            let has_paused = !has_work && self.rim.is_calm && self.rim.pause()?;
            if has_paused || has_work || self.has_completions() {
                busy_turns += 1;
                // A commit or a read of a database begins when the runtime has its turn.
                if self.rim.tasks.is_some() || self.rim.links.are_any() || busy_turns % TURNS_BETWEEN_YIELDS == 0 {
                    tokio::task::yield_now().await;
                }
            } else if self.fall_asleep(mailbox) {
                busy_turns = 0;
                self.counters().sleeps.one();
                tokio::select! {
                    ready = doorbell.readable() => ready?.clear_ready(),
                    () = ended(self.rim.tasks.as_ref()) => {}
                    () = self.rim.links.news() => {}
                    () = tokio::time::sleep(self.sleep_max()) => {}
                }
                mailbox.awake();
                self.rim.disable_doorbell();
            }
        }
        mailbox.close();
        // Wakes the other cores: they may be able to end now, and would otherwise sleep on.
        shared.mailboxes.iter().for_each(|mailbox| mailbox.doorbell().ring());
        self.rim.reporter.finish();
        Ok(())
    }

    /// One turn.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.counters().turns.one();
        // Work that a crowd of clients piles up is done a small part each turn, so it delays nobody else for long.
        self.judge_tokens(now);
        self.see_off(now);
        self.take_deferred(now);
        self.take_written(now)?;
        self.take_completions(now);
        self.take_mail(now);
        self.take_ended(now);
        self.take_links(now);
        self.take_time(now);
        self.core.finish_turn(now, &mut self.rim);
        self.rim.submit(now)
    }

    fn note_turn(&self, took: Duration) {
        let (counters, us) = (self.counters(), took.as_micros() as u64);
        counters.turn_us_max.at_least(us);
        if self.core.common().counters.journal.ingesting.get() > 0 {
            counters.turn_ingesting_us_max.at_least(us);
        }
    }

    // ---- taking what is ready

    /// What the journal has on the disk.
    fn take_written(&mut self, now: Now) -> io::Result<()> {
        if let (Some((ring, commit)), Some(journal)) = (&mut self.rim.journal, self.core.journal_mut())
            && let Some(written) = ring.take()?
        {
            commit.written(now.monotonic_ms, journal, written);
        }
        Ok(())
    }

    fn take_completions(&mut self, now: Now) {
        let mut completions = std::mem::take(&mut self.completions);
        self.rim.ring.take(&mut completions);
        self.calm.note(now.monotonic_ms, completions.len());
        // A runtime that has tasks or links needs its turns.
        let is_alone = self.rim.tasks.is_none() && !self.rim.links.are_any();
        self.rim.is_calm = is_alone && self.calm.is_calm();
        for completion in completions.drain(..) {
            match completion.token.op {
                Op::Hello | Op::Receive if self.core.is_stalled() || !self.deferred.is_empty() => {
                    // Once one receive waits all later ones do, so the order within a connection is kept.
                    self.counters().receives_deferred.one();
                    self.deferred.push_back(completion);
                }
                Op::Hello | Op::Receive => self.receive(now, completion),
                Op::Send => self.on_sent(now, completion),
                Op::Accept => self.on_accept(now, &completion),
                Op::Move => self.on_moved(now, &completion),
                Op::Arrival => self.on_arrival(now, &completion),
                Op::Close => {
                    self.rim.connections.closed(completion.token);
                    self.core.closed();
                }
                Op::Shutdown => self.rim.connections.parted(completion.token),
                Op::Cancel => {}
                Op::Adopt => self.on_adopted(now, &completion),
                Op::Connect => debug_assert!(false, "a server opens no connections"),
            }
        }
        self.completions = completions;
    }

    fn take_deferred(&mut self, now: Now) {
        while !self.core.is_stalled()
            && let Some(completion) = self.deferred.pop_front()
        {
            self.receive(now, completion);
        }
    }

    /// A departure is put off behind everything that the connection has said.
    fn receive(&mut self, now: Now, completion: Completion) {
        if is_departure(&completion) {
            self.rim.departures.push_back(Departure::Ended(completion));
        } else {
            self.on_receive(now, completion);
        }
    }

    fn see_off(&mut self, now: Now) {
        for _ in 0..DEPARTURES_TURN_MAX {
            if self.core.is_stalled() {
                return;
            }
            match self.rim.departures.pop_front() {
                Some(Departure::Ended(completion)) => self.on_receive(now, completion),
                Some(Departure::Announced(conn)) => self.on_announced(now, conn),
                None => return,
            }
        }
    }

    fn take_mail(&mut self, now: Now) {
        let shared = Arc::clone(&self.rim.shared);
        let mailbox = &shared.mailboxes[usize::from(self.core.id().0)];
        for _ in 0..MAILBOX_TURN_MAX {
            let Some(message) = mailbox.take() else { break };
            if let CoreMessage::Answer { answer, .. } = &message
                && let Err(error) = &**answer
            {
                self.on_query_failed(now, error);
            }
            self.core.message(now, message);
            self.obey(now);
        }
        for _ in 0..PRESENCE_MAILS_TURN_MAX {
            let Some(mail) = mailbox.take_lossy() else { break };
            self.core.presence(now, mail);
            self.obey(now);
        }
    }

    /// Takes what has ended of the core's commits and reads.
    fn take_ended(&mut self, now: Now) {
        while let Some(done) = self.rim.tasks.as_mut().and_then(Tasks::take) {
            match done {
                Done::Answer(query, answer) => {
                    let answer = answer.inspect_err(|error| self.on_query_failed(now, error));
                    self.core.answer(now, query, answer.ok());
                }
                Done::Checked(Err(error @ StoreError::Fenced { .. })) => {
                    self.core.message(now, CoreMessage::Lost(error.to_string()));
                }
                // Any other error is met again, and handled, by the next commit.
                Done::Checked(_) => {}
                Done::Advanced { work, result, batches, took_us } => {
                    self.core.advanced(now, work, result, batches, took_us, rand::random());
                }
            }
            self.obey(now);
        }
    }

    /// Takes what the links to other nodes have said, unless other cores are behind.
    fn take_links(&mut self, now: Now) {
        for _ in 0..LINK_EVENTS_TURN_MAX {
            if self.core.is_stalled() {
                return;
            }
            match self.rim.links.take() {
                Some(Event::Began(link, dialled, certified)) => self.core.link_began(now, link, dialled, certified),
                Some(Event::NotGreeted(why)) => self.core.stranger(now, &why),
                Some(Event::NotReached(node, why)) => self.core.dial_failed(now, node, &why),
                Some(Event::Bytes(Line::Link(link), bytes)) => self.core.link_bytes(now, link, &bytes),
                Some(Event::Sent(Line::Link(link), bytes)) => self.core.link_sent(link, bytes),
                Some(Event::Ended(Line::Link(link), why)) => self.core.link_ended(now, link, &why),
                Some(Event::Polled(polled)) => self.on_polled(polled),
                Some(Event::Tunnelled(conn)) => self.on_tunnel_opened(conn),
                Some(Event::NotTunnelled(conn, why)) => self.core.tunnel_failed(now, conn, &why),
                Some(Event::Bytes(Line::Tunnel(conn), bytes)) => self.rim.connections.queue(conn, &bytes),
                Some(Event::Sent(Line::Tunnel(conn), _)) => self.rim.read_tunnelled_on(conn),
                Some(Event::Ended(Line::Tunnel(conn), _)) => self.on_tunnel_ended(now, conn),
                Some(Event::Came(visitor)) => self.on_visitor(now, visitor),
                Some(Event::Admitted(visitor)) => self.on_admitted(visitor),
                None => return,
            }
            self.obey(now);
        }
    }

    fn on_query_failed(&mut self, now: Now, error: &StoreError) {
        self.counters().queries_failed.one();
        let warnings = if error.is_retryable() { &mut self.away_warnings } else { &mut self.query_warnings };
        if let Some(times) = warnings.another(now.monotonic_ms) {
            warn!(core = self.core.id().0, %error, times, "a query failed");
        }
    }

    // ---- time

    /// Tells of the failures that were too many for a line each.
    fn tell_the_rest(&mut self, now: Now) {
        let core = self.core.id().0;
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
        if self.rim.shared.is_stopping() && !self.core.is_stopping() {
            self.cancel_accepts();
            self.core.stop(now);
            self.obey(now);
        }
        if !self.core.is_tick_due(now) {
            return;
        }
        self.credentials = self.rim.shared.credentials();
        self.tell_the_rest(now);
        if !self.core.is_stopping() {
            for place in std::mem::take(&mut self.accepts_idle) {
                self.begin_accept(place);
            }
        }
        let counters = &self.core.common().counters;
        if self.core.id() == CoreId(0) {
            self.clock.look(&counters.clock);
        }
        let cut = self.rim.connections.cut_late(now.monotonic_ms, &mut self.rim.ring);
        counters.core(self.core.id()).closed_by_deadline.add(cut);
        self.core.tick(now);
        self.obey(now);
        let counters = self.counters();
        counters.connections.set(self.rim.connections.len() as u64);
        counters.tls_connections.set(self.rim.connections.tls_len() as u64);
        counters.websocket_connections.set(self.rim.connections.websocket_len() as u64);
        counters.handshakes.set(self.core.greetings() as u64);
        self.core.common().counters.set_shard(self.core.id(), self.core.shard_counters());
    }

    /// Carries out what the core has ordered. After each call of the core.
    fn obey(&mut self, now: Now) {
        self.core.obey(now, &mut self.rim);
    }

    // ---- sleeping

    /// Whether something has completed.
    fn has_completions(&mut self) -> bool {
        self.rim.ring.is_ready() || self.rim.journal.as_mut().is_some_and(|(ring, _)| ring.is_ready())
    }

    /// Whether another turn has something to do now, beside what has completed.
    fn has_work(&mut self) -> bool {
        let mailbox = &self.rim.shared.mailboxes[usize::from(self.core.id().0)];
        mailbox.has_mail()
            || self.rim.tasks.as_ref().is_some_and(Tasks::has_ended)
            || (self.rim.links.has_news() && !self.core.is_stalled())
            || self.rim.connections.has_closes()
            || (self.has_put_off() && !self.core.is_stalled())
            || self.core.has_work(self.clock.now(), self.rim.reporter.is_stalled())
    }

    /// Whether something waits until other cores and the reader threads have caught up, or for its share of a turn.
    fn has_put_off(&self) -> bool {
        !self.deferred.is_empty() || !self.rim.departures.is_empty()
    }

    /// Announces that this core sleeps; false if something came in the meantime.
    fn fall_asleep(&mut self, mailbox: &Mailbox<CoreMessage>) -> bool {
        self.rim.enable_doorbell();
        if !mailbox.fall_asleep() {
            self.rim.disable_doorbell();
            return false;
        }
        if self.has_completions() {
            mailbox.awake();
            self.rim.disable_doorbell();
            return false;
        }
        true
    }

    fn sleep_max(&self) -> Duration {
        if self.core.is_stalled() {
            return Duration::from_millis(STALLED_SLEEP_MS);
        }
        let now_ms = self.clock.now().monotonic_ms;
        Duration::from_millis(self.core.wakes_at_ms().saturating_sub(now_ms).max(1))
    }

    fn counters(&self) -> &CoreCounters {
        self.core.common().counters.core(self.core.id())
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
