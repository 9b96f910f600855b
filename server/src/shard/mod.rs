//! Shard: all users whose home is one core. The only writer of their logs.
//!
//! `Shard::handle(now, input, &mut effects)` is a function of its arguments: no socket, clock, thread, lock, async fn or
//! store in here. Bytes of a socket, an envelope of another shard, a finished commit, a tick: all are [`Input`]. Bytes to
//! send, envelopes, records to commit, connections to close: all go to [`Effects`].

// In the order of a message's journey.
mod duties;
mod effects;
mod fetch;
mod input;
mod ledger;
mod limits;
mod outbox;
mod question;
mod refresh;
mod residents;
mod router;
mod sequencer;
mod session;
mod shedding;
mod tail;
mod user;
mod wheel;

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use proto_spec::UserId;
use storage::{BatchId, CoreId, Query};

pub use effects::{Close, Effects, Presence, ReadState, Refresh};
pub use input::{Admission, ConnId, Connected, Envelope, EnvelopeBody, Grant, Input, Now, QueryId, StoreState};
pub use limits::Limits;
pub use shedding::{Class, Load, Reason, Shed};

use crate::{directory::Directory, limits::SPENT_SWEEP_MS, rate::Buckets, topology::Topology};
use ledger::{Ledger, Parked};
use limits::Spent;
use question::Question;
use residents::{Conversations, Users};
use session::Sessions;
use wheel::Wheel;

/// What an operator may set that shards must know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Silence after which a connection is pinged, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which a connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long before its token expires a client is told so, in milliseconds.
    pub expiry_warning_ms: u64,
    /// How long a connection stays after its token has expired, in milliseconds: clocks differ.
    pub token_leeway_ms: u64,
    /// What clients may ask for.
    pub limits: Limits,
}

/// What a shard has done since it was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Connections welcomed.
    pub logins: u64,
    /// Connections that went on with a newer token.
    pub refreshed: u64,
    /// Sends accepted, repeated ones not counted.
    pub accepted: u64,
    /// Sends refused.
    pub refused: u64,
    /// Sends that had been numbered before.
    pub repeated: u64,
    /// Entries appended to logs.
    pub entries: u64,
    /// Messages that arrived from a sender's home a second time.
    pub duplicates: u64,
    /// Entries delivered live.
    pub delivered: u64,
    /// Pages pushed to connections that catch up.
    pub pages_pushed: u64,
    /// Pages sent for fetches.
    pub pages_fetched: u64,
    /// Times that a live connection fell behind.
    pub fell_behind: u64,
    /// Acknowledgements that moved a cursor.
    pub acknowledged: u64,
    /// Reports to senders.
    pub receipts: u64,
    /// Queries to the store.
    pub queries: u64,
    /// Connections now.
    pub sessions: u64,
    /// Users in memory now.
    pub users: u64,
    /// Conversations in memory now.
    pub conversations: u64,
    /// Bytes of batches on their way to the disk now.
    pub uncommitted_bytes: u64,
    /// Bytes that wait for clients to read them, or for the rest of what they say, now.
    pub held_bytes: u64,
    /// What was refused or put off because there was too much.
    pub shed: Shed,
}

/// All users whose home is one core.
#[derive(Debug)]
pub struct Shard {
    core: CoreId,
    topology: Topology,
    settings: Settings,
    sessions: Sessions,
    users: Users,
    conversations: Conversations,
    ledger: Ledger,
    /// Which batch changed which user, until it is ingested.
    users_changed: VecDeque<(BatchId, UserId)>,
    /// Which batch changed which conversation, until it is ingested.
    conversations_changed: VecDeque<(BatchId, (UserId, UserId))>,
    questions: HashMap<QueryId, Question, RandomState>,
    next_query: QueryId,
    /// Queries that failed and are asked again, by when: one for each user and conversation that somebody waits for.
    postponed: VecDeque<(u64, Query, Question)>,
    /// Envelopes from this shard to itself.
    local: VecDeque<Envelope>,
    /// Users whose cursors, reports and marks are to be looked at, by when.
    dirty: VecDeque<(u64, UserId)>,
    wheel: Wheel,
    /// Tokens that the rim is judging, of connections that may have ended since.
    refreshes: usize,
    /// Connections of each user lately.
    logins: Buckets<UserId>,
    spent: Spent,
    next_sweep_ms: u64,
    admission: Admission,
    store: StoreState,
    load: Load,
    /// Bytes that wait for clients to read them, or for the rest of what they say.
    held_bytes: usize,
    next_stalled_look_ms: u64,
    draining: bool,
    counters: ShardCounters,
}

/// What one call of [`Shard::handle`] works with.
struct Turn<'a> {
    now: Now,
    directory: &'a Directory,
    effects: &'a mut Effects,
}

impl Shard {
    /// A shard that knows nobody yet.
    #[must_use]
    pub fn new(core: CoreId, topology: Topology, settings: Settings) -> Self {
        Self {
            core,
            topology,
            settings,
            sessions: Sessions::default(),
            users: Users::default(),
            conversations: Conversations::default(),
            ledger: Ledger::default(),
            users_changed: VecDeque::new(),
            conversations_changed: VecDeque::new(),
            questions: HashMap::default(),
            next_query: QueryId(0),
            postponed: VecDeque::new(),
            local: VecDeque::new(),
            dirty: VecDeque::new(),
            wheel: Wheel::new(),
            refreshes: 0,
            logins: Buckets::new(settings.limits.logins),
            spent: Spent::default(),
            next_sweep_ms: 0,
            admission: Admission::Open,
            store: StoreState::Present,
            load: Load::Calm,
            held_bytes: 0,
            next_stalled_look_ms: 0,
            draining: false,
            counters: ShardCounters::default(),
        }
    }

    /// Takes one input and appends what follows from it to `effects`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, directory: &Directory, effects: &mut Effects) {
        let cx = &mut Turn { now, directory, effects };
        match input {
            Input::Connected(connected) => self.connected(connected, cx),
            Input::Bytes { conn, bytes } => self.received(conn, bytes, cx),
            Input::Sent { conn, bytes } => self.drained(conn, bytes, cx),
            Input::Disconnected { conn } => {
                self.leave(conn, cx);
            }
            Input::Refreshed { conn, grant } => self.refreshed(conn, grant, cx),
            Input::RefreshRefused { conn, code, detail } => self.refresh_refused(conn, code, detail, cx),
            Input::Revoked { user, device, issued_up_to } => self.revoke(user, device, issued_up_to, cx),
            Input::Envelope(envelope) => self.envelope(envelope, cx),
            Input::Committed { up_to } => self.committed(up_to, cx),
            Input::Ingested { up_to } => {
                self.ledger.ingest(up_to);
                self.forget_ingested(cx);
            }
            Input::Answer { query, answer } => self.answered(query, answer, cx),
            Input::Admission(admission) => {
                self.admission = admission;
                if admission == Admission::Failed {
                    self.abandon_parked(cx);
                }
            }
            Input::Store(store) => self.store = store,
            Input::Unfinished(user) => self.unfinished(user, cx),
            Input::Tick => {
                self.ask_postponed(cx);
                self.look_at_silent(cx);
                self.close_stalled(cx);
                self.sweep_spent(now);
            }
            Input::Load(load) => self.load = load,
            Input::Drain => self.draining = true,
        }
        self.settle(cx);
        self.count_queued(cx);
    }

    /// Ends a turn: finishes what is done once a turn and, if the turn has records, numbers its batch.
    /// The rim hands `effects.batch` to the journal under the returned id, before it carries out anything else.
    pub fn end_turn(&mut self, now: Now, directory: &Directory, effects: &mut Effects) -> Option<BatchId> {
        let cx = &mut Turn { now, directory, effects };
        self.flush_if_due(cx);
        self.settle(cx);
        if self.draining && self.ledger.nothing_is_parked() && cx.effects.batch.is_empty() {
            self.dismiss_all(cx);
        }
        self.count_queued(cx);
        let bytes = cx.effects.batch.bytes().len();
        (!cx.effects.batch.is_empty()).then(|| self.ledger.seal(bytes))
    }

    /// Whether, after [`Input::Drain`], everybody has been sent away and nothing waits for a commit any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.ledger.nothing_is_parked() && self.sessions.len() == 0 && self.nothing_to_flush()
    }

    /// Whether something that can not wait for the next tick was left for another turn.
    #[must_use]
    pub fn has_due(&self, now: Now) -> bool {
        self.admission == Admission::Open && self.dirty.front().is_some_and(|(due_ms, _)| *due_ms <= now.monotonic_ms)
    }

    /// What this shard has done and holds.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        ShardCounters {
            sessions: self.sessions.len() as u64,
            users: self.users.len() as u64,
            conversations: self.conversations.len() as u64,
            uncommitted_bytes: self.ledger.uncommitted_bytes() as u64,
            held_bytes: self.held_bytes as u64,
            ..self.counters
        }
    }

    /// Batches are durable: what waited for them leaves, in the order in which it was numbered.
    fn committed(&mut self, up_to: BatchId, cx: &mut Turn<'_>) {
        self.ledger.commit(up_to);
        while let Some(parked) = self.ledger.released() {
            match parked {
                Parked::Sent { user, device, number, seq } => self.publish(user, seq, Some((device, number)), cx),
                Parked::Entry { user, seq, answer } => {
                    self.publish(user, seq, None, cx);
                    if let Some(answer) = answer {
                        self.post(answer, cx);
                    }
                }
                Parked::Answer(answer) => self.post(answer, cx),
                Parked::Connect(connected) => self.welcome(connected, cx),
            }
        }
    }

    /// Drops what is known of users who have gone and may begin anew.
    fn sweep_spent(&mut self, now: Now) {
        if now.monotonic_ms >= self.next_sweep_ms {
            self.next_sweep_ms = now.monotonic_ms + SPENT_SWEEP_MS;
            self.spent.sweep(now.monotonic_ms);
        }
    }

    /// No cursor or mark waits to be written, or none can be.
    fn nothing_to_flush(&self) -> bool {
        self.dirty.is_empty() || self.admission != Admission::Open
    }

    /// Carries out what a step caused inside this shard.
    fn settle(&mut self, cx: &mut Turn<'_>) {
        while let Some(envelope) = self.local.pop_front() {
            self.envelope(envelope, cx);
        }
    }
}
