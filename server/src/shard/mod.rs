//! Shard: all users whose home is one core. The only writer of their logs.
//!
//! `Shard::handle(now, input, &mut effects)` is a function of its arguments: no socket, clock, thread, lock, async fn or
//! store in here. Bytes of a socket, an envelope of another shard, a batch that is durable, a tick: all are [`Input`]. Bytes to
//! send, envelopes, batches for the journal, connections to close: all go to [`Effects`].

// In the order of a message's journey.
mod cache;
mod capabilities;
mod changes;
mod contents;
mod deletions;
mod devices;
mod digest;
pub mod directory;
mod duties;
mod effects;
mod elsewhere;
mod epochs;
mod feed;
mod fetch;
mod groups;
mod inbox;
mod input;
mod keepalive;
mod later;
mod ledger;
mod left_over;
mod levels;
mod loading;
mod looking;
mod marks;
mod moving;
mod opened;
mod outbox;
mod outgoing;
pub mod presence;
mod push;
mod question;
mod rates;
mod refresh;
mod repeated;
mod reports;
mod residents;
mod rewrites;
mod router;
mod sequencer;
mod session;
mod sessions;
mod shedding;
mod tail;
mod told;
pub mod topology;
mod unwanted;
mod user;
mod wheel;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use proto_spec::{Durability, EpochId, ErrorCode, GroupId, SendNumber, Seq, UserId};
use storage::{BatchId, LaneId, group::beside};

pub use cache::CacheLimits;
pub use contents::CONTENT_KINDS;
pub use effects::{Close, Effects, ReadState, Refresh, Registration};
pub use groups::{AskId, GroupMail, GroupSaid, GroupTold, GroupWish};
pub use input::{
    Admission, ConnId, Connected, DevicesTold, DevicesWish, Envelope, EnvelopeBody, Grant, GroupStanding, Input, Now,
    Parcel, QueryId, StoreState, Ticket,
};
pub use opened::KeptOfUser;
pub use presence::{PresenceMail, PresenceSettings};
pub use push::{PushDecision, PushQuestion, PushSettings, PushTold, PushVerdict, PushWhy};
pub use rates::Limits;
pub use shedding::{Class, Load, Reason, Shed};

use crate::{
    access::rate::Buckets,
    cluster::map::Slot,
    limits::{ASK_AGAIN_MS, RECEIPT_DELAY_MS},
    shard::{
        directory::Directory,
        topology::{CoreId, Homes},
    },
};
use cache::Cache;
use duties::Resting;
use effects::Filling;
use elsewhere::Elsewhere;
use groups::{Asks, Following, Groups, Outcome};
use later::Later;
use ledger::{Ledger, OnceStored, Parked};
use left_over::LeftOver;
use looking::Looking;
use presence::Sights;
use push::Notifying;
use question::Questions;
use rates::Spent;
use repeated::Asked;
use residents::{Conversations, Users};
use sessions::Sessions;
use wheel::Wheel;

/// What an acknowledgement waits for, and how much it says then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// The journal's sync, and the store is on the same disk: `committed`.
    #[default]
    Disk,
    /// The journal's sync, and the store is a database that gets it later: `local`.
    Journal,
    /// The database: `committed`. While it is slow or away the journal's sync: `local`. What depends on the entry (its way to
    /// the recipient, an answer) waits for the database in any case, so that no log there knows what another one lost.
    Store,
}

/// What an operator may set that shards must know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest time without anything said, or without anything heard, before a connection is pinged, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which a connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long before its token expires a client is told so, in milliseconds.
    pub expiry_warning_ms: u64,
    /// How long a connection stays after its token has expired, in milliseconds: clocks differ.
    pub token_leeway_ms: u64,
    /// What acknowledgements wait for.
    pub promise: Promise,
    /// What clients may ask for.
    pub limits: Limits,
    /// What is kept in memory for apps that open.
    pub cache: CacheLimits,
    /// Who is told who is there, and when.
    pub presence: PresenceSettings,
    /// Clients a second that are told to go to the next owner of a slot.
    pub moves_per_s: u32,
    /// Who is notified, and when; none: nobody.
    pub push: Option<PushSettings>,
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
    /// Pages of the inbox sent.
    pub inboxes: u64,
    /// Pages sent for fetches.
    pub pages_fetched: u64,
    /// Requests for the inbox or the newest messages of a conversation that were answered from what is kept.
    pub cache_hits: u64,
    /// Such requests for which that was not enough.
    pub cache_misses: u64,
    /// Users of whom nothing is kept any more, to make room for others.
    pub cache_pushed_out: u64,
    /// Entries of groups delivered to connections.
    pub group_delivered: u64,
    /// Groups in memory now.
    pub groups: u64,
    /// Groups that this core follows now, since a member is connected.
    pub groups_followed: u64,
    /// Times that a live connection fell behind.
    pub fell_behind: u64,
    /// Acknowledgements of something new.
    pub acknowledged: u64,
    /// Connections that began at the head, since more lay before it than they wanted.
    pub skipped: u64,
    /// Reports to senders.
    pub receipts: u64,
    /// Messages and reports that were put off, because their user or conversation could not be read or too many waited for it.
    pub put_off: u64,
    /// Queries to the store.
    pub queries: u64,
    /// Connections now.
    pub sessions: u64,
    /// Users in memory now.
    pub users: u64,
    /// Conversations in memory now.
    pub conversations: u64,
    /// Users of whom something is kept for an app that opens, now.
    pub cache_users: u64,
    /// What they take in memory for it, in bytes.
    pub cache_bytes: u64,
    /// Connections whose clients were sent to another node, to which their user has moved.
    pub moved: u64,
    /// What was put off because the node of its recipient could not be reached.
    pub unreachable: u64,
    /// Users with duties left over from before a restart who wait to be loaded now.
    pub unfinished: u64,
    /// Users that clients asked about once.
    pub presence_pulled: u64,
    /// Users that clients asked to watch, renewals included.
    pub presence_watched: u64,
    /// Users whose state was announced to those who watch, if anybody does.
    pub presence_announced: u64,
    /// Frames with changes that were pushed.
    pub presence_pushed: u64,
    /// Changes that a connection was told as a part of a later one, or not at all since they were undone.
    pub presence_merged: u64,
    /// Questions about presence that were not answered in time.
    pub presence_late: u64,
    /// That somebody types, passed on.
    pub typing: u64,
    /// That somebody types, not passed on.
    pub typing_dropped: u64,
    /// Users who are there, or watched, now.
    pub presence_people: u64,
    /// Devices that watch somebody now.
    pub presence_watches: u64,
    /// Conversations of which notices were offered, one for each subscribed device.
    pub push_offered: u64,
    /// Notices that a provider took.
    pub push_delivered: u64,
    /// Notices that ended, and with them their subscription: the provider does not know the device any more.
    pub push_gone: u64,
    /// Notices that were refused for good.
    pub push_refused: u64,
    /// Notices whose time ended before a provider took them.
    pub push_expired: u64,
    /// Notices whose place a newer one took before a provider had them.
    pub push_superseded: u64,
    /// Notices that the service had no room for, and that were offered again.
    pub push_put_off: u64,
    /// Conversations that were taken off screens.
    pub push_cleared: u64,
    /// Conversations that were due and were not told: acknowledged, read or muted by then.
    pub push_void: u64,
    /// Notices whose outcome is awaited now.
    pub push_under_way: u64,
    /// Users who have something due and wait for their time or for room now.
    pub push_waiting: u64,
    /// Bytes of batches on their way to the disk now.
    pub unreleased_bytes: u64,
    /// Bytes that wait for clients to read them, or for the rest of what they say, now.
    pub held_bytes: u64,
    /// What was refused or put off because there was too much.
    pub shed: Shed,
}

/// All users whose home is one core.
#[derive(Debug)]
pub struct Shard {
    core: CoreId,
    /// That of this start.
    epoch: EpochId,
    homes: Homes,
    settings: Settings,
    sessions: Sessions,
    users: Users,
    conversations: Conversations,
    cache: Cache,
    /// One for each lane.
    lanes: Box<[Ledger]>,
    groups: Groups,
    /// Of these, those that may have something on the way to the homes of users.
    owing_groups: BTreeSet<GroupId>,
    /// Groups whose duties are to be looked at.
    dirty_groups: Later<GroupId>,
    /// Groups with duties from before a restart that could not be read.
    unread_groups: Later<GroupId>,
    /// Groups of which members are to be told that there is something to notify them of: when each is looked at.
    telling: BTreeSet<(u64, GroupId)>,
    /// What has become of something that was sent to a group, while that is not known of what was sent there before: at most as much as may
    /// be on the way.
    unsettled: BTreeMap<(UserId, GroupId, Seq), Outcome>,
    following: Following,
    asks: Asks,
    questions: Questions,
    left_over: LeftOver,
    looking: Looking,
    elsewhere: Elsewhere,
    sights: Sights,
    notifying: Notifying,
    /// Connections whose user may be this node's soon, and until when they wait for that.
    strays: Vec<(u64, Connected)>,
    /// Of each slot whose term is being read, who has connected since that began.
    terms: BTreeMap<Slot, Vec<Connected>>,
    /// Envelopes from this shard to itself.
    local: VecDeque<Envelope>,
    /// What this shard says to itself about groups.
    local_groups: VecDeque<Box<GroupMail>>,
    /// Repeated sends that are looked up later, by when: at most a window of them a user who is connected.
    lookups: BinaryHeap<Reverse<(u64, ConnId, SendNumber, Asked)>>,
    /// Destinations that have put something off, and are tried again: one for each that rests, so bounded by what users have open.
    resting: Later<(UserId, Resting)>,
    /// Users whose cursors, reports and marks are to be looked at.
    dirty: Later<UserId>,
    wheel: Wheel,
    /// Tokens that the rim is judging, of connections that may have ended since.
    refreshes: usize,
    /// Connections of each user lately.
    logins: Buckets<UserId>,
    spent: Spent,
    admission: Admission,
    store: StoreState,
    load: Load,
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
    /// What an operator has chosen for it.
    #[must_use]
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A shard that knows nobody yet.
    #[must_use]
    pub fn new(core: CoreId, homes: Homes, settings: Settings, epoch: EpochId) -> Self {
        let (users, conversations, groups) = if homes.do_move() {
            let slots = || homes.topology.lanes_of(core);
            (Users::by_slot(slots()), Conversations::by_slot(slots()), Groups::by_slot(slots()))
        } else {
            (Users::default(), Conversations::default(), Groups::default())
        };
        Self {
            core,
            epoch,
            sights: Sights::new(core, &homes, settings.presence),
            lanes: homes.topology.lanes_of(core).map(|lane| Ledger::new(homes.epoch(epoch, lane))).collect(),
            homes,
            settings,
            sessions: Sessions::default(),
            users,
            conversations,
            groups,
            owing_groups: BTreeSet::new(),
            dirty_groups: Later::new(RECEIPT_DELAY_MS),
            unread_groups: Later::new(ASK_AGAIN_MS),
            telling: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            following: Following::default(),
            asks: Asks::default(),
            cache: Cache::new(settings.cache),
            questions: Questions::default(),
            left_over: LeftOver::default(),
            looking: Looking::default(),
            elsewhere: Elsewhere::default(),
            notifying: Notifying::default(),
            strays: Vec::new(),
            terms: BTreeMap::new(),
            local: VecDeque::new(),
            local_groups: VecDeque::new(),
            lookups: BinaryHeap::new(),
            resting: Later::new(ASK_AGAIN_MS),
            dirty: Later::new(RECEIPT_DELAY_MS),
            wheel: Wheel::new(),
            refreshes: 0,
            logins: Buckets::new(settings.limits.logins),
            spent: Spent::default(),
            admission: Admission::Open,
            store: StoreState::Present,
            load: Load::Calm,
            next_stalled_look_ms: 0,
            draining: false,
            counters: ShardCounters::default(),
        }
    }

    /// Takes one input and appends what follows from it to `effects`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, directory: &Directory, effects: &mut Effects) {
        let cx = &mut Turn { now, directory, effects };
        self.fit_lanes(cx);
        match input {
            Input::Connected(connected) => self.connected(connected, cx),
            Input::Bytes { conn, bytes } => self.received(conn, bytes, cx),
            Input::Sent { conn, bytes } => self.drained(conn, bytes, cx),
            Input::Disconnected { conn } => {
                self.leave(conn, false, cx);
            }
            Input::Refreshed { conn, grant } => self.refreshed(conn, grant, cx),
            Input::RefreshRefused { conn, code, detail } => self.refresh_refused(conn, code, detail, cx),
            Input::Revoked { user, device, issued_up_to } => self.revoke(user, device, issued_up_to, cx),
            Input::Why { ticket, about } if self.homes.elsewhere(about.user).is_some() => {
                cx.effects.push_told.push((ticket, Err(ErrorCode::Elsewhere)));
            }
            Input::Why { ticket, about: PushQuestion { user, group, seq } } => {
                self.why(user, push::Asked { ticket, group, seq }, cx);
            }
            Input::NotTaken(notice) => self.not_taken(notice, cx),
            Input::Notified { notice, outcome } => self.notified(&notice, &outcome, cx),
            Input::Devices { ticket, user, .. } if self.homes.elsewhere(user).is_some() => {
                cx.effects.told.push((ticket, Err(ErrorCode::Elsewhere)));
            }
            Input::Devices { ticket, user, wish } => self.operator_asks(ticket, user, wish, cx),
            Input::Envelope(envelope) => self.envelope(envelope, cx),
            Input::Group(mail) => self.group_mail(mail, cx),
            Input::UnfinishedGroup(group) => {
                if self.homes.elsewhere(beside(group)).is_none() {
                    self.load_unfinished_group(group, cx);
                }
            }
            Input::Presence(mail) => self.presence_mail(*mail, cx),
            Input::Released { lane, up_to } => self.released(self.place_of(lane), up_to, cx),
            Input::Stored { lane, up_to } => self.stored(self.place_of(lane), up_to, cx),
            Input::Answer { query, answer } => self.answered(query, answer, cx),
            Input::Admission(admission) => {
                self.admission = admission;
                if admission == Admission::Failed {
                    self.abandon_parked(cx);
                }
            }
            Input::Store(store) => self.store = store,
            Input::Unfinished(user) => {
                if self.homes.elsewhere(user).is_none() {
                    self.left_over.push(user);
                    self.load_left_over(cx);
                }
            }
            Input::Tick => {
                self.lanes.iter_mut().for_each(|lane| lane.ingest_kept(now.monotonic_ms));
                self.left_over.wake(now.monotonic_ms);
                self.load_left_over(cx);
                self.wake_resting(cx);
                self.look_up_due(cx);
                self.look_at_silent(cx);
                self.close_stalled(cx);
                self.spent.sweep(now.monotonic_ms);
                self.tick_presence(cx);
                self.tick_groups(cx);
                self.tick_push(cx);
                self.settle_strays(cx);
            }
            Input::Link { node, serial, is_up } => self.link(node, serial, is_up, cx),
            Input::Owners(nodes) => self.owners(nodes, cx),
            Input::Load(load) => self.load = load,
            Input::Drain => {
                self.draining = true;
                self.drain_push(cx);
            }
        }
        self.take_local(cx);
    }

    /// Ends a turn: finishes what is done once a turn, and numbers the batches that the turn's records are in.
    /// The rim hands them on ([`Effects::batches`]) before it carries out anything else.
    pub fn end_turn(&mut self, now: Now, directory: &Directory, effects: &mut Effects) {
        let cx = &mut Turn { now, directory, effects };
        self.fit_lanes(cx);
        self.flush_if_due(cx);
        self.flush_groups_if_due(cx);
        self.fan_out(cx);
        for at in 0..self.lanes.len() {
            if self.lanes[at].has_ingested_changes() {
                self.forget_ingested(at, cx);
            }
        }
        self.post_presence(cx);
        self.tell_presence(cx);
        self.post_presence(cx);
        self.take_local(cx);
        if self.draining
            && self.nothing_is_parked()
            && cx.effects.filling.iter().all(|filling| filling.batch.is_empty())
        {
            self.dismiss_all(cx);
        }
        let lanes = self.homes.topology.lanes_of(self.core).zip(&mut self.lanes);
        for (filling, (lane, ledger)) in effects.filling.iter_mut().zip(lanes) {
            if !filling.batch.is_empty() {
                filling.sealed = Some((lane, ledger.seal(filling.batch.bytes().len())));
            }
        }
    }

    /// Whether, after [`Input::Drain`], everybody has been sent away and nothing waits for a batch any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.nothing_is_parked() && self.sessions.len() == 0 && self.nothing_to_flush()
    }

    /// Whether something that can not wait for the next tick was left for another turn.
    #[must_use]
    pub fn has_due(&self, now: Now) -> bool {
        let is_dirty = self.dirty.has_due(now.monotonic_ms);
        (is_dirty && self.admission == Admission::Open)
            || self.lanes.iter().any(Ledger::has_ingested_changes)
            || self.has_presence_to_tell()
            || self.following.has_due()
            || (self.dirty_groups.has_due(now.monotonic_ms) && self.admission == Admission::Open)
    }

    /// What this shard has done and holds.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        ShardCounters {
            sessions: self.sessions.len() as u64,
            users: self.users.len() as u64,
            conversations: self.conversations.len() as u64,
            groups: self.groups.len() as u64,
            groups_followed: self.following.len() as u64,
            cache_users: self.cache.len() as u64,
            cache_bytes: self.cache.bytes() as u64,
            unfinished: self.left_over.len() as u64,
            presence_people: self.sights.people() as u64,
            presence_watches: self.sights.watches() as u64,
            presence_merged: self.sights.merged(),
            push_under_way: self.notifying.under_way() as u64,
            push_waiting: self.notifying.waiting() as u64,
            unreleased_bytes: self.unreleased_bytes() as u64,
            held_bytes: self.held_bytes() as u64,
            ..self.counters
        }
    }

    /// Batches of a lane are released: what waited for them leaves, in the order in which it was numbered.
    fn released(&mut self, at: usize, up_to: BatchId, cx: &mut Turn<'_>) {
        match self.settings.promise {
            Promise::Disk | Promise::Journal => self.lanes[at].release(up_to),
            Promise::Store => self.lanes[at].release_before_stored(up_to),
        }
        self.unpark(at, cx);
    }

    /// What waited for the batches that are released now.
    fn unpark(&mut self, at: usize, cx: &mut Turn<'_>) {
        while let Some(parked) = self.lanes[at].next_released() {
            match parked {
                Parked::Sent { user, device, number, seq } => {
                    self.publish(user, seq, Some((device, number)), cx);
                    self.leave_for_elsewhere(user, seq, cx);
                }
                Parked::GivenUp { user, device, number } => self.number_given_up(user, device, number, cx),
                Parked::Entry { user, seq, answer } => {
                    self.publish(user, seq, None, cx);
                    self.leave_for_elsewhere(user, seq, cx);
                    if let Some(answer) = answer {
                        self.post(answer, cx);
                    }
                }
                Parked::Group { group, seq, answer } => self.group_released(group, seq, answer, cx),
                Parked::Answer(answer) => self.post(answer, cx),
                Parked::Told(mail) => self.told_once_durable(*mail, cx),
                Parked::Marked(by) => self.marked(by, cx),
                Parked::Connect(connected) => self.welcome(connected, cx),
                Parked::Devices(parked) => self.devices_released(parked, cx),
            }
        }
    }

    /// Batches of a lane are in the store.
    fn stored(&mut self, at: usize, up_to: BatchId, cx: &mut Turn<'_>) {
        if self.settings.promise == Promise::Store && self.admission == Admission::Failed {
            // What waited for it has been given up.
            return;
        }
        if self.settings.promise != Promise::Store {
            return self.lanes[at].ingest(up_to);
        }
        self.lanes[at].store(up_to, cx.now.monotonic_ms);
        self.unpark(at, cx);
        let mut owed = Vec::new();
        while let Some(waiting) = self.lanes[at].next_stored() {
            match waiting {
                OnceStored::Entry { user, seq, answer } => {
                    if self.entry_stored(user, seq, cx) {
                        owed.push(user);
                    }
                    if let Some(answer) = answer {
                        self.post(answer, cx);
                    }
                }
                OnceStored::Group { group, seq, answer } => self.group_released(group, seq, answer, cx),
                OnceStored::Answer(answer) => self.post(answer, cx),
                OnceStored::Told(mail) => self.told_once_durable(*mail, cx),
            }
        }
        // Once for each user, however many entries that is.
        owed.sort_unstable();
        owed.dedup();
        owed.into_iter().for_each(|user| self.tell_committed(user, cx));
        self.lanes[at].ingest_kept(cx.now.monotonic_ms);
    }

    /// The place of the lane among those of this shard.
    fn place_of(&self, lane: LaneId) -> usize {
        usize::from(lane.0 - self.homes.topology.first_lane_of(self.core).0)
    }

    /// The place of the user's lane among those of this shard.
    fn lane_of(&self, user: UserId) -> usize {
        if self.lanes.len() == 1 { 0 } else { self.place_of(self.homes.topology.lane_of(user)) }
    }

    fn fit_lanes(&self, cx: &mut Turn<'_>) {
        if cx.effects.filling.len() != self.lanes.len() {
            cx.effects.filling.resize_with(self.lanes.len(), Filling::default);
        }
    }

    /// Nothing waits for a batch to be released, or none will be.
    pub(crate) fn nothing_is_parked(&self) -> bool {
        self.admission == Admission::Failed || self.lanes.iter().all(Ledger::nothing_is_parked)
    }

    /// Bytes of batches of all lanes that are not released yet.
    fn unreleased_bytes(&self) -> usize {
        self.lanes.iter().map(Ledger::unreleased_bytes).sum()
    }

    /// Bytes that wait for clients to read them, for the rest of what they say, or for a user or conversation to be loaded.
    fn held_bytes(&self) -> usize {
        self.sessions.held_bytes()
            + self.users.held_bytes()
            + self.conversations.held_bytes()
            + self.groups.held_bytes()
            + self.looking.held_bytes()
    }

    /// What the journal's sync is worth now.
    fn synced(&self) -> Durability {
        match (self.settings.promise, self.store) {
            (Promise::Disk, StoreState::Present) => Durability::Committed,
            _ => Durability::Local,
        }
    }

    /// No cursor or mark waits to be written, or none can be.
    fn nothing_to_flush(&self) -> bool {
        (self.dirty.len() == 0 && self.dirty_groups.len() == 0) || self.admission != Admission::Open
    }

    /// Takes the envelopes that a step has sent to this shard itself, and those that they cause.
    fn take_local(&mut self, cx: &mut Turn<'_>) {
        loop {
            if let Some(envelope) = self.local.pop_front() {
                self.envelope(envelope, cx);
            } else if let Some(mail) = self.local_groups.pop_front() {
                self.group_mail(mail, cx);
            } else {
                return;
            }
        }
    }
}
