//! Core: all that one core decides. The logs of its users are [`crate::shard`]'s; here is what lies around it: who is let in and
//! where to, what goes to other cores and in which order, what the journal, the store and the operator say, and how it ends.
//!
//! A function of its arguments, as the shard is: no socket, ring, file, clock, thread or task is in this folder. What has happened
//! comes in by a method call with the time; what is to be done goes to a [`Rim`]: [`Order`]s after each call ([`Core::obey`]), the
//! rest at the end of a turn ([`Core::finish_turn`]). What the rim has no room for waits in a `Backlog`; while something waits
//! there the core is stalled, and takes no more from clients. The server's rim is `io::reactor`; the simulator and the
//! world of a test have their own.
//!
//! On core 0 lies the journal's [`Committer`] too. Its writes and threads are the rim's, what they mean is decided there.

mod backlog;
mod commits;
mod common;
mod cores;
mod crowd;
mod door;
mod greetings;
mod links;
mod load;
mod message;
mod order;
pub mod origins;
mod owners;
mod presence;
mod rim;
mod stopping;
mod survey;
#[cfg(test)]
mod tests;
mod tunnels;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use proto_spec::{EpochId, ErrorCode};
use storage::{Answer, Query};
use tracing::{debug, warn};

pub use self::{
    backlog::Backlog,
    common::Common,
    cores::Cores,
    door::Judged,
    greetings::Guest,
    links::{LinkId, Mesh},
    message::CoreMessage,
    order::Order,
    origins::OriginLimits,
    rim::Rim,
    stopping::Awaited,
    survey::survey,
};
use self::{
    greetings::{Arrivals, Greetings},
    links::Links,
    load::LoadMeter,
    stopping::Stop,
    tunnels::Tunnels,
};
use crate::{
    access::revocation::Subject,
    durability::{
        committer::Committer,
        lanes::{Lanes, Sharing},
    },
    limits::{FENCE_CHECK_MS, ORIGINS_SWEEP_MS, OUTPUT_TURN_BYTES_MAX, TICK_MS},
    operator::{
        audit::{self, What},
        counters::CoreCounters,
        throttle::Throttle,
    },
    shard::{
        Close, ConnId, Effects, Input, Now, PresenceMail, Promise, QueryId, Refresh, Settings, Shard, ShardCounters,
        presence::To,
        topology::{CoreId, Home, Homes},
    },
};

/// What the cores of a node are made from.
#[derive(Debug)]
pub struct CoreConfig {
    /// For the shards.
    pub settings: Settings,
    /// The journal; core 0 gets it.
    pub journal: Option<Committer>,
    /// Where acknowledgements wait for a database: when a commit takes longer than this, in milliseconds, they leave once the journal
    /// has synced.
    pub slow_after_ms: u64,
    /// Most commits of a core under way at a time, where slots move; elsewhere each lane has one.
    pub commits_max: usize,
    /// A random name for what is appended to logs from this start on.
    pub epoch: EpochId,
    /// So many queries may wait at the rim of a core before clients have to.
    pub queries_kept_max: usize,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Core {
    id: CoreId,
    common: Arc<Common>,
    /// Where users have their homes, as far as this core has heard.
    homes: Homes,
    shard: Shard,
    /// What the shard has asked for in this turn.
    effects: Effects,
    orders: VecDeque<Order>,
    greetings: Greetings,
    arrivals: Arrivals,
    links: Links,
    tunnels: Tunnels,
    /// Tokens of live connections that wait to be judged, in order; at most `REFRESHES_MAX`.
    refreshes: VecDeque<Refresh>,
    /// For other cores. One for all of them: a batch is in the journal's mailbox before an envelope of the same turn is in anybody's.
    mail: Backlog<(CoreId, CoreMessage)>,
    /// For the store.
    queries: Backlog<(QueryId, Query)>,
    queries_kept_max: usize,
    journal: Option<Committer>,
    lanes: Option<Lanes>,
    /// What core 0 was last told of them.
    lanes_away: bool,
    /// Then the node must look whether it still is this server's. Not where slots move: there each has a fence of its own.
    is_database: bool,
    /// Limits how often the log is told that a balancer does not send what it has to.
    header_warnings: Throttle,
    load: LoadMeter,
    next_tick_ms: u64,
    origins_sweep_ms: u64,
    /// When to look again whether the database is still this server's.
    next_check_ms: u64,
    /// The journal has failed: nothing is synced any more.
    journal_failed: bool,
    /// Messages for other cores, and messages of theirs that have been taken: a stop waits until all have arrived.
    sent: u64,
    taken: u64,
    /// The stop that is under way.
    stop: Option<Stop>,
}

impl Core {
    /// All cores of a node, by number; nobody is connected.
    #[must_use]
    pub fn all(config: CoreConfig, common: &Arc<Common>) -> Vec<Self> {
        let CoreConfig { settings, journal, slow_after_ms, commits_max, epoch, queries_kept_max } = config;
        let homes = common.homes();
        let mut journals = std::iter::once(journal).flatten();
        let core = |id| {
            let lanes = || {
                let sharing = if homes.do_move() { Sharing::Slots { commits_max } } else { Sharing::OneLane };
                let mut lanes = Lanes::new(common.topology.lanes_of(id), sharing, slow_after_ms);
                homes.slots_of(id).for_each(|slot| lanes.begin(slot.lane(), homes.term(slot)));
                lanes
            };
            Self {
                id,
                homes: homes.clone(),
                shard: Shard::new(id, homes.clone(), settings, epoch),
                common: Arc::clone(common),
                effects: Effects::default(),
                orders: VecDeque::new(),
                greetings: Greetings::default(),
                arrivals: Arrivals::default(),
                links: Links::default(),
                tunnels: Tunnels::default(),
                refreshes: VecDeque::new(),
                mail: Backlog::default(),
                queries: Backlog::default(),
                queries_kept_max,
                // Core 0 comes first.
                journal: journals.next(),
                lanes: (settings.promise == Promise::Store).then(lanes),
                lanes_away: false,
                is_database: settings.promise != Promise::Disk && !homes.do_move(),
                header_warnings: Throttle::default(),
                load: LoadMeter::default(),
                next_tick_ms: 0,
                origins_sweep_ms: 0,
                next_check_ms: 0,
                journal_failed: false,
                sent: 0,
                taken: 0,
                stop: None,
            }
        };
        (0..common.topology.cores()).map(CoreId).map(core).collect()
    }

    // ---- connections that are served

    /// Bytes of a connection that is served, in any cut.
    pub fn bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.feed(now, Input::Bytes { conn, bytes });
    }

    /// The kernel took bytes of a connection that is served.
    pub fn sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.feed(now, Input::Sent { conn, bytes });
    }

    /// The peer or the network has ended a connection that was served, or its TLS has failed.
    pub fn disconnected(&mut self, now: Now, conn: ConnId) {
        self.feed(now, Input::Disconnected { conn });
    }

    /// A place in the table of this core is free again.
    pub fn closed(&mut self) {
        self.common.connections.fetch_sub(1, Ordering::Relaxed);
    }

    // ---- what others say

    /// Mail: of another core, of a thread that works for them, or of the operator.
    pub fn message(&mut self, now: Now, message: CoreMessage) {
        self.taken += u64::from(message.is_waited_for());
        match message {
            CoreMessage::Envelope(envelope) => self.envelope(now, envelope),
            CoreMessage::ToNode(node, envelope) => self.post_to_node(now, node, envelope),
            CoreMessage::FromNode(node, envelope) => self.arrived_from(now, node, envelope),
            CoreMessage::Link { node, serial, is_up } => self.link_told(now, node, serial, is_up),
            CoreMessage::LinkMoved { node, serial } => self.link_moved(now, node, serial),
            CoreMessage::News(news) => self.on_news(now, news),
            CoreMessage::Answer { query, answer } => self.answer(now, query, answer.ok()),
            CoreMessage::Group(mail) => self.group_mail(now, mail),
            CoreMessage::GroupToNode(node, mail) => self.post_group_to_node(now, node, mail),
            CoreMessage::UnfinishedGroup(group) => self.feed(now, Input::UnfinishedGroup(group)),
            CoreMessage::Unfinished(user) => self.feed(now, Input::Unfinished(user)),
            CoreMessage::Revoked(Subject { user, device }, issued_up_to) => {
                self.feed(now, Input::Revoked { user, device, issued_up_to });
            }
            CoreMessage::Owners(nodes) => self.owners(now, nodes),
            CoreMessage::Devices(ticket, user, wish) => self.feed(now, Input::Devices { ticket, user, wish }),
            CoreMessage::Why(ticket, about) => self.feed(now, Input::Why { ticket, about }),
            CoreMessage::Notified(ended) => self.notified(now, *ended),
            CoreMessage::Guest(guest) => self.guest(guest),
            message @ (CoreMessage::Batch { .. }
            | CoreMessage::Stored { .. }
            | CoreMessage::Away { .. }
            | CoreMessage::Lost(_)
            | CoreMessage::Prepared { .. }
            | CoreMessage::PrepareFailed { .. }
            | CoreMessage::Ingested(_)
            | CoreMessage::StoreAway
            | CoreMessage::Recovered) => self.on_journal(now, message),
        }
    }

    /// The store's answer to a query; none if it could not be read.
    pub fn answer(&mut self, now: Now, query: QueryId, answer: Option<Answer>) {
        // A stop does not wait for reads. What waits for this one is a message or a report that has not been confirmed: it comes again
        // after the next start.
        if !self.is_told_drained() {
            self.feed(now, Input::Answer { query, answer });
        }
    }

    /// How a notice has ended. A stop waits for that, but not for ever: what ends later is due again after the next start.
    fn notified(&mut self, now: Now, (notice, outcome): (push::Notice, push::Outcome)) {
        if !self.is_told_drained() {
            self.feed(now, Input::Notified { notice: Box::new(notice), outcome });
        }
    }

    /// What another core says about presence, to this one or to another node whose link is here. Taken after all other mail, since it may
    /// be lost.
    pub fn presence(&mut self, now: Now, mail: Box<PresenceMail>) {
        if mail.to == To::Core(self.id) {
            self.feed(now, Input::Presence(mail));
        } else if !self.presence_to_link(&mail) {
            self.counters().presence_dropped.one();
        }
    }

    // ---- time

    /// Whether it is time for [`Core::tick`].
    #[must_use]
    pub const fn is_tick_due(&self, now: Now) -> bool {
        now.monotonic_ms >= self.next_tick_ms
    }

    /// When this core has something to do without anything happening, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn wakes_at_ms(&self) -> u64 {
        let retry_at_ms = self.lanes.as_ref().and_then(Lanes::retry_at_ms).unwrap_or(u64::MAX);
        let write_at_ms = self.journal.as_ref().and_then(Committer::write_at_ms).unwrap_or(u64::MAX);
        self.next_tick_ms.min(retry_at_ms).min(write_at_ms)
    }

    /// [`TICK_MS`] have passed, or more.
    pub fn tick(&mut self, now: Now) {
        let now_ms = now.monotonic_ms;
        self.next_tick_ms = now_ms + TICK_MS;
        self.common.counters.pulse.beat(self.id, now_ms);
        self.refuse_late(now);
        if let Some(times) = self.header_warnings.rest(now_ms) {
            warn!(core = self.id.0, times, "a connection from connections.proxy_networks was refused");
        }
        if self.id == CoreId(0) {
            if self.is_database && now_ms >= self.next_check_ms {
                self.next_check_ms = now_ms + FENCE_CHECK_MS;
                self.order(Order::CheckFence);
            }
            if now_ms >= self.origins_sweep_ms {
                self.origins_sweep_ms = now_ms + ORIGINS_SWEEP_MS;
                self.common.origins.sweep(now_ms);
            }
        }
        self.seal_if_old(now_ms);
        if let Some(load) = self.load.tick(now_ms) {
            warn!(core = self.id.0, ?load, "the load of a core has changed");
            self.feed(now, Input::Load(load));
        }
        self.look_at_lanes(now);
        self.tick_links(now);
        self.feed(now, Input::Tick);
        self.cut_if_late(now);
    }

    // ---- the end of a turn, see `rim`

    /// Ends the turn of the shard. What it asks of this core is done already; the rest is for the rim.
    fn end_shard_turn(&mut self, now: Now, rim: &mut impl Rim) -> Effects {
        self.shard.end_turn(now, &self.common.directory, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for (lane, id, batch) in effects.batches() {
            rim.decided(lane, id, batch);
            self.commit(now, lane, id, batch);
        }
        for (user, registration) in effects.directory.drain(..) {
            self.common.directory.set(user, registration);
        }
        for (home, envelope) in effects.envelopes.drain(..) {
            self.counters().envelopes.one();
            self.post(home, CoreMessage::Envelope(envelope));
        }
        for (node, envelope) in effects.mesh.drain(..) {
            self.post_to_node(now, node, envelope);
        }
        for (home, mail) in effects.groups.drain(..) {
            match home {
                Home::Here(core) => {
                    self.counters().envelopes.one();
                    self.post(core, CoreMessage::Group(mail));
                }
                Home::Elsewhere(node) => self.post_group_to_node(now, node, mail),
            }
        }
        for query in effects.queries.drain(..) {
            self.counters().queries.one();
            self.queries.push(query);
        }
        self.refreshes.extend(effects.refreshes.drain(..));
        for (ticket, told) in effects.told.drain(..) {
            self.order(Order::Tell(ticket, told));
        }
        for (ticket, told) in effects.push_told.drain(..) {
            self.order(Order::TellPush(ticket, told));
        }
        for close in &effects.closes {
            self.note_close(now, close);
        }
        effects
    }

    /// Whether a turn says so much that it should be carried out in parts.
    const fn is_output_due(&self) -> bool {
        self.effects.bytes.len() >= OUTPUT_TURN_BYTES_MAX
    }

    /// The others may be about to end: they wait for what is on its way to them.
    fn tell_sent(&self) {
        if self.is_stopping() {
            self.common.set_sent(self.id, self.sent);
        }
    }

    // ---- what is to be known

    /// Whether others are behind: client bytes have to wait.
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.mail.kept() > 0 || self.queries.kept() > self.queries_kept_max
    }

    /// Whether another turn has something to do though nothing happens. `audit_is_behind`: as for [`Core::judge`].
    #[must_use]
    pub fn has_work(&self, now: Now, audit_is_behind: bool) -> bool {
        let has_tokens = !self.refreshes.is_empty() || self.greetings.has_waiting();
        self.journal.as_ref().is_some_and(Committer::has_news)
            || (has_tokens && !audit_is_behind && !self.is_stalled())
            || self.shard.has_due(now)
    }

    /// Which core it is.
    #[must_use]
    pub const fn id(&self) -> CoreId {
        self.id
    }

    /// What it shares with the others.
    #[must_use]
    pub const fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// What its shard has done and holds.
    #[must_use]
    pub fn shard_counters(&self) -> ShardCounters {
        self.shard.counters()
    }

    /// How many hellos are awaited or wait to be judged.
    #[must_use]
    pub fn greetings(&self) -> usize {
        self.greetings.len()
    }

    /// Who is on the way from here, or to here: how many leave or are half here, and how many hellos wait.
    #[cfg(test)]
    pub(crate) fn on_the_way(&self) -> (usize, usize) {
        (self.greetings.leaving_len() + self.arrivals.len(), self.greetings.waiting_len())
    }

    /// The next tick is due then.
    #[cfg(test)]
    pub(crate) const fn tick_at(&mut self, ms: u64) {
        self.next_tick_ms = ms;
    }

    // ---- inside

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.shard.handle(now, input, &self.common.directory, &mut self.effects);
    }

    fn post(&mut self, to: CoreId, message: CoreMessage) {
        // Of what a thread or the store still said, nobody wants to hear any more.
        if self.is_stopping() && self.common.is_all_over() {
            return;
        }
        self.sent += u64::from(message.is_waited_for());
        self.mail.push((to, message));
    }

    fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    fn report(&mut self, event: audit::Event) {
        self.order(Order::Report(event));
    }

    /// The shard closes a connection.
    fn note_close(&mut self, now: Now, close: &Close) {
        let Close { conn, user, device, reason } = *close;
        if let Some(code @ (ErrorCode::TokenExpired | ErrorCode::Revoked | ErrorCode::DeviceRemoved)) = reason {
            let (user, device, reason) = (Some(user), Some(device), Some(code.name().to_owned()));
            self.report(audit::Event { user, device, reason, ..audit::Event::new(now.wall, What::TokenEnded) });
        }
        match reason {
            Some(code) => self.common.counters.closed(code),
            None => self.counters().closed_after_bye.one(),
        }
        let reason = reason.map_or("bye", ErrorCode::name);
        debug!(core = self.id.0, %user, slot = conn.slot, reason, "closed");
    }

    fn counters(&self) -> &CoreCounters {
        self.common.counters.core(self.id)
    }
}
