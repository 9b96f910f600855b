//! Reactor: one core. A turn takes everything that is ready (completions, mail, time), feeds the shard, and then carries
//! out what the shard asked for: the batch to the journal first, then what depends on it, one send for each connection,
//! and one call into the kernel.
//!
//! Between turns the core sleeps in its tokio-uring runtime, on the doorbell that its ring and the other cores ring. The
//! ring's own descriptor is not watched: a ring with deferred task work never becomes readable.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto_spec::ErrorCode;
use storage::CoreId;
use tracing::{debug, error, info, warn};

use super::{
    clock::Clock,
    commit::Commit,
    counters::CoreCounters,
    handoff::{Arrivals, Greetings, Guest},
    mailbox::{Delivery, Mailbox, Outgoing},
    message::CoreMessage,
    node::Shared,
    query::Readers,
    ring::{Completion, Payload, Ring},
    socket::{Connections, Received, Sent, Stage, conn_of},
    token::{Op, Token},
};
use crate::{
    handshake::{Step, bye},
    limits::{
        BATCH_TURN_BYTES_MAX, DRAIN_MS, HANDSHAKES_MAX, MAILBOX_TURN_MAX, RETRY_BUSY_MS, RETRY_STOPPING_MS,
        STALLED_SLEEP_MS, STOP_MS, TICK_MS, TURNS_BETWEEN_YIELDS,
    },
    shard::{Admission, Close, ConnId, Connected, Effects, Input, Now, Presence, Shard},
};

/// One core: its ring, its connections and its shard.
pub(super) struct Reactor {
    // First, so that it is dropped first: it waits for operations on files that others here own.
    ring: Ring,
    core: CoreId,
    shared: Arc<Shared>,
    clock: Clock,
    shard: Shard,
    effects: Effects,
    connections: Connections,
    greetings: Greetings,
    arrivals: Arrivals,
    outgoing: Outgoing<CoreMessage>,
    /// Core 0 has the journal.
    commit: Option<Commit>,
    readers: Readers,
    /// Completions of receives that wait until other cores and the reader threads have caught up, in order.
    deferred: VecDeque<Completion>,
    completions: Vec<Completion>,
    accepting: bool,
    next_tick_ms: u64,
    /// Nothing is committed any more.
    journal_failed: bool,
    /// When the stop was asked for.
    draining_since_ms: Option<u64>,
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
            shared,
            clock: parts.clock,
            shard: parts.shard,
            effects: Effects::default(),
            connections: Connections::new(),
            greetings: Greetings::default(),
            arrivals: Arrivals::default(),
            commit: parts.commit,
            readers: parts.readers,
            deferred: VecDeque::new(),
            completions: Vec::new(),
            accepting: false,
            next_tick_ms: 0,
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
        Ok(())
    }

    /// One turn.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.counters().turns.one();
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
        self.readers.flush();
        self.outgoing.flush();
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
                Op::Hello | Op::Receive => self.on_receive(now, completion),
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
                Op::Cancel | Op::Shutdown => {}
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
            self.on_receive(now, completion);
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
            CoreMessage::Committed { up_to } => self.feed(now, Input::Committed { up_to }),
            CoreMessage::Ingested { up_to } => self.feed(now, Input::Ingested { up_to }),
            CoreMessage::Admission(admission) => {
                self.journal_failed |= admission == Admission::Failed;
                self.feed(now, Input::Admission(admission));
            }
            CoreMessage::Answer { query, answer } => {
                if answer.is_none() {
                    self.counters().queries_failed.one();
                }
                self.feed(now, Input::Answer { query, answer: answer.map(|answer| *answer) });
            }
            CoreMessage::Unfinished(user) => self.feed(now, Input::Unfinished(user)),
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
        if !self.accepting && self.draining_since_ms.is_none() {
            self.accepting = true;
            self.ring.accept(self.shared.listener.as_fd());
        }
        while let Some(conn) = self.greetings.take_late(now.monotonic_ms) {
            self.refuse(now, conn, ErrorCode::HandshakeTimeout, 0, "the hello did not come in time");
        }
        let cut = self.connections.cut_late(now.monotonic_ms, &mut self.ring);
        if let Some(commit) = &mut self.commit {
            commit.tick(now.monotonic_ms);
        }
        self.feed(now, Input::Tick);
        let counters = self.shared.counters.core(self.core);
        counters.closed_by_deadline.add(cut);
        counters.connections.set(self.connections.len() as u64);
        counters.handshakes.set(self.greetings.len() as u64);
        self.shared.counters.set_shard(self.core, self.shard.counters());
        self.cut_drain(now);
    }

    /// Passes on what the journal has to say.
    fn take_news(&mut self, now: Now) {
        let Some(commit) = &mut self.commit else { return };
        for (core, message) in commit.news() {
            if core == self.core {
                self.on_message(now, message);
            } else {
                self.send(core, message);
            }
        }
    }

    // ---- connections

    fn on_accept(&mut self, now: Now, completion: &Completion) {
        self.accepting &= completion.more;
        let Ok(slot) = u32::try_from(completion.result) else {
            // Tried again with the next tick.
            if completion.result != -libc::ECANCELED {
                warn!(core = self.core.0, error = %error_of(completion.result), "accept failed");
            }
            return;
        };
        let conn = self.connections.open(slot);
        self.counters().accepted.one();
        let open = self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if self.draining_since_ms.is_some() {
            self.refuse(now, conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        } else if open > self.shared.connections_max || self.greetings.len() >= HANDSHAKES_MAX {
            self.counters().refused.one();
            self.refuse(now, conn, ErrorCode::TooManyConnections, RETRY_BUSY_MS, "the server is full");
        } else {
            self.greetings.begin(conn, now.monotonic_ms + self.shared.handshake_timeout_ms);
            self.connections.greet(conn, &mut self.ring);
        }
    }

    fn on_receive(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, more, payload } = completion;
        let conn = conn_of(token);
        let received = self.connections.received(token, result, more);
        match (received, &payload) {
            (Received::Hello, Payload::Received(filled)) => {
                let step = self
                    .greetings
                    .handshake(conn)
                    .map(|handshake| handshake.bytes(self.ring.bytes(filled), &self.shared.keys, now.wall));
                self.count_received(result);
                if let Some(step) = step {
                    self.on_step(now, conn, step);
                }
            }
            (Received::Bytes, Payload::Received(filled)) => {
                let input = Input::Bytes { conn, bytes: self.ring.bytes(filled) };
                self.shard.handle(now, input, &self.shared.directory, &mut self.effects);
                self.count_received(result);
                self.bound_batch(now);
            }
            (Received::Starved, _) => self.counters().receives_starved.one(),
            (Received::Gone(stage), _) => self.on_gone(now, conn, stage, result),
            (Received::Hello | Received::Bytes | Received::Nothing, _) => {}
        }
        if let Payload::Received(filled) = payload {
            self.ring.give_back(filled);
        }
        self.connections.after_receive(token, received == Received::Starved, &mut self.ring);
    }

    fn on_sent(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, payload, .. } = completion;
        let Payload::Returned(bytes) = payload else { return };
        let conn = conn_of(token);
        let stage = self.connections.stage(conn);
        match self.connections.sent(now.monotonic_ms, token, result, bytes, &mut self.ring) {
            Sent::Taken(bytes) => {
                let counters = self.shared.counters.core(self.core);
                counters.sends.one();
                counters.sent_bytes.add(bytes as u64);
                if stage == Stage::Serving {
                    self.feed(now, Input::Sent { conn, bytes });
                }
            }
            Sent::Broken(stage) => self.on_gone(now, conn, stage, result),
        }
    }

    /// The peer or the network ended a connection.
    fn on_gone(&mut self, now: Now, conn: ConnId, stage: Stage, result: i32) {
        match stage {
            Stage::Greeting => self.greetings.end(conn),
            Stage::Serving => {
                self.counters().closed_by_peer.one();
                let user = self.connections.user(conn);
                info!(core = self.core.0, %user, slot = conn.slot, error = %error_of(result), "connection lost");
                self.feed(now, Input::Disconnected { conn });
            }
            _ => {}
        }
        self.connections.abandon(conn, &mut self.ring);
    }

    /// What the handshake made of the bytes so far.
    fn on_step(&mut self, now: Now, conn: ConnId, step: Step) {
        match step {
            Step::More => {}
            Step::Refuse { bytes, code } => {
                self.greetings.end(conn);
                self.counters().handshakes_failed.one();
                self.shared.counters.closed(code);
                info!(core = self.core.0, slot = conn.slot, reason = code.name(), "handshake refused");
                self.connections.queue(conn, &bytes);
                self.connections.close(now.monotonic_ms, conn, &mut self.ring);
            }
            Step::Ready { user, device, version, resume, expires: _, rest } => {
                self.greetings.end(conn);
                let ticket = self.greetings.ticket();
                let guest = Guest { from: self.core, ticket, user, device, version, resume, rest };
                let home = self.shared.topology.home_of(user);
                if home == self.core {
                    self.connect(now, conn, guest);
                } else {
                    self.connections.leave(conn);
                    let target = self.shared.ring_of(home);
                    self.ring.move_descriptor(conn.slot, conn.generation, target, self.core.0, ticket);
                    self.greetings.leave(conn, home, Box::new(guest));
                }
            }
        }
    }

    /// A descriptor has got to its home core, or has not.
    fn on_moved(&mut self, now: Now, completion: &Completion) {
        let conn = conn_of(completion.token);
        let Some((home, guest)) = self.greetings.left(conn) else { return };
        if completion.result < 0 {
            let error = error_of(completion.result);
            warn!(core = self.core.0, to = home.0, user = %guest.user, %error, "a connection could not be moved");
            self.refuse(now, conn, ErrorCode::Overloaded, RETRY_BUSY_MS, "the user's core takes no more connections");
            return;
        }
        self.counters().moved_out.one();
        self.send(home, CoreMessage::Guest(guest));
        // Counted once more, since the close of the slot here will count it off.
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        self.connections.abandon(conn, &mut self.ring);
    }

    fn on_arrival(&mut self, now: Now, completion: &Completion) {
        let Token { slot: from, generation: ticket, .. } = completion.token;
        let Ok(slot) = u32::try_from(completion.result) else {
            debug_assert!(false, "a descriptor that could not be stored completes at its sender only");
            return;
        };
        if let Some(guest) = self.arrivals.descriptor(CoreId(from as u16), ticket, slot) {
            self.welcome(now, slot, *guest);
        }
    }

    /// A connection from another core is whole.
    fn welcome(&mut self, now: Now, slot: u32, guest: Guest) {
        self.counters().moved_in.one();
        let conn = self.connections.open(slot);
        self.connect(now, conn, guest);
    }

    /// The connection is the shard's.
    fn connect(&mut self, now: Now, conn: ConnId, guest: Guest) {
        let Guest { user, device, version, resume, rest, from, .. } = guest;
        info!(core = self.core.0, %user, %device, slot = conn.slot, accepted_by = from.0, "connected");
        self.connections.serve(conn, user, &mut self.ring);
        self.feed(now, Input::Connected(Connected { conn, user, device, version, resume }));
        if !rest.is_empty() {
            self.feed(now, Input::Bytes { conn, bytes: &rest });
        }
    }

    /// Says bye to a connection that the shard does not know.
    fn refuse(&mut self, now: Now, conn: ConnId, code: ErrorCode, retry_after_ms: u64, detail: &str) {
        self.shared.counters.closed(code);
        debug!(core = self.core.0, slot = conn.slot, reason = code.name(), "connection refused");
        self.connections.queue(conn, &bye(code, retry_after_ms, detail));
        self.connections.close(now.monotonic_ms, conn, &mut self.ring);
    }

    // ---- the shard and what it asks for

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.shard.handle(now, input, &self.shared.directory, &mut self.effects);
        self.bound_batch(now);
    }

    /// A batch must fit the journal's records: a turn that decides very much is carried out in parts.
    fn bound_batch(&mut self, now: Now) {
        if self.effects.batch.bytes().len() >= BATCH_TURN_BYTES_MAX {
            self.carry_out(now);
        }
    }

    /// Ends the shard's turn and does what it asks for.
    fn carry_out(&mut self, now: Now) {
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(id) = self.shard.end_turn(now, &self.shared.directory, &mut effects) {
            // First: an envelope must not be faster than the batch that it follows from.
            match &mut self.commit {
                Some(commit) => commit.push(self.core, id, effects.batch.bytes()),
                None => {
                    let bytes = effects.batch.bytes().to_vec();
                    self.send(CoreId(0), CoreMessage::Batch { core: self.core, id, bytes });
                }
            }
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
        for (conn, state) in effects.reads.drain(..) {
            self.connections.set_reading(conn, state, &mut self.ring);
        }
        for close in effects.closes.drain(..) {
            self.close(now, close);
        }
        effects.clear();
        self.effects = effects;
    }

    fn close(&mut self, now: Now, Close { conn, user, reason }: Close) {
        match reason {
            Some(code) => self.shared.counters.closed(code),
            None => self.counters().closed_after_bye.one(),
        }
        let reason = reason.map_or("bye", ErrorCode::name);
        info!(core = self.core.0, %user, slot = conn.slot, reason, "closed");
        self.connections.close(now.monotonic_ms, conn, &mut self.ring);
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
            || (!self.deferred.is_empty() && !self.is_stalled())
            || self.ring.is_ready()
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

    // ---- stopping

    fn begin_drain(&mut self, now: Now) {
        self.draining_since_ms = Some(now.monotonic_ms);
        if self.accepting {
            self.ring.cancel(Token::of(Op::Accept));
        }
        for conn in self.greetings.take_all() {
            self.refuse(now, conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        }
        self.feed(now, Input::Drain);
    }

    /// Cuts what is still connected when the time to stop is over.
    fn cut_drain(&mut self, now: Now) {
        if self.draining_since_ms.is_some_and(|since| now.monotonic_ms >= since + DRAIN_MS) {
            let late: Vec<ConnId> = self.connections.living().collect();
            if !late.is_empty() {
                warn!(core = self.core.0, connections = late.len(), "cut when stopping took too long");
            }
            for conn in late {
                self.connections.abandon(conn, &mut self.ring);
            }
        }
    }

    /// Whether this core, and every other, has nothing left to do before the process ends. A core goes on for the sake
    /// of the others: they may send it envelopes and batches.
    fn is_over(&mut self) -> bool {
        let Some(since) = self.draining_since_ms else { return false };
        let done = self.connections.is_empty()
            && self.greetings.is_empty()
            && self.arrivals.is_empty()
            && self.deferred.is_empty()
            && !self.is_stalled()
            && self.shard.is_drained()
            && (self.journal_failed || self.shard.counters().uncommitted_bytes == 0)
            && self.commit.as_ref().is_none_or(Commit::is_idle);
        self.shared.set_drained(self.core, done);
        let late = self.clock.now().monotonic_ms >= since + STOP_MS;
        if late && !done {
            error!(core = self.core.0, connections = self.connections.len(), "stopping without being drained");
        }
        late || self.shared.all_drained()
    }

    fn counters(&self) -> &CoreCounters {
        self.shared.counters.core(self.core)
    }

    fn count_received(&self, bytes: i32) {
        let counters = self.counters();
        counters.receives.one();
        counters.received_bytes.add(bytes.max(0) as u64);
    }
}

/// For a log line: what a result says.
fn error_of(result: i32) -> String {
    match result {
        0.. => "closed by the peer".to_owned(),
        error => io::Error::from_raw_os_error(-error).to_string(),
    }
}
