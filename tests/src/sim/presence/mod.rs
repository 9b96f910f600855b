//! Presence: people who watch, hide and type, and what must hold of what they are told (SPEC 8.10).
//!
//! Followed from outside: what apps ask for (`people`), what they have hidden for sure (`hiding`), which state may have been announced
//! when (`states`), what homes say to other cores (`mail`), and every frame that leaves (`frames`). `ending` compares what everybody was
//! told with the truth, once all is quiet. `faults` are deliberate.

mod ending;
mod faults;
mod frames;
mod hiding;
mod mail;
mod people;
mod states;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto_spec::{Presence, RequestId, Seq, TimestampMs, UserId};
use server::shard::{PresenceSettings, presence::ShownTo, topology::CoreId};

use super::network::LinkId;
use crate::rng::Rng;

pub(super) use faults::Tricks;
use hiding::Hidings;
use mail::Mails;
use states::Times;

/// Somebody whom nobody is.
const NOBODY: UserId = UserId(4_000_000);

/// Counts what happens to presence: whatever has a higher one came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// What a connection was told of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// In a frame about presence, then.
    State(Presence, TimestampMs, Moment),
    /// By an answer to a message, or perhaps.
    Otherwise,
}

/// What a client has asked for and not been answered.
#[derive(Clone, Debug)]
struct Question {
    at: Moment,
    at_ms: u64,
    users: Vec<UserId>,
    is_watch: bool,
}

/// Something that the server notices when it has read so many bytes of a connection.
#[derive(Clone, Copy, Debug)]
enum Noticed {
    IsAway(bool),
    Bye,
}

/// A connection that was welcomed.
#[derive(Debug)]
struct Line {
    user: UserId,
    core: CoreId,
    is_away: bool,
    noticed: VecDeque<(u64, Noticed)>,
    questions: BTreeMap<RequestId, Question>,
    /// A watch was answered.
    has_watched: bool,
    watched: BTreeSet<UserId>,
    /// When that was asked for.
    watched_at: Moment,
    crowded: BTreeSet<UserId>,
    told: BTreeMap<UserId, Told>,
    pushed_ms: Option<u64>,
}

/// See the head of this file.
pub(super) struct Watching {
    pub(super) settings: PresenceSettings,
    /// People block others.
    blocks: bool,
    /// User 1 and user 2 do not write to each other.
    parted: bool,
    now: Moment,
    next_request: u64,
    lines: BTreeMap<LinkId, Line>,
    hidings: Hidings,
    times: BTreeMap<UserId, Times>,
    /// By core: until when who comes is taken for somebody who was there before the start.
    settles: BTreeMap<CoreId, u64>,
    /// When the cores had their tick before this one.
    ticks_ms: [u64; 2],
    /// They have it just now.
    is_tick: bool,
    mails: Mails,
    /// When entries of logs became durable.
    durable_since: BTreeMap<(UserId, Seq), Moment>,
    /// Who has ever written to whom.
    wrote: BTreeSet<(UserId, UserId)>,
    pub(super) tricks: Tricks,
}

impl Watching {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let (hold_ms, grace_ms, tick_ms) = (rng.within(50, 800), rng.within(100, 1_500), rng.within(100, 500));
        let shown_to = match rng.within(0, 19) {
            0 => ShownTo::Nobody,
            1..=6 => ShownTo::Written,
            _ => ShownTo::Conversation,
        };
        let watchers_max = if rng.chance(25) { rng.within(1, 3) } else { 10_000 };
        let last_seen_ms = *rng.pick(&[1, 100, 60_000]);
        let mut settings =
            PresenceSettings { shown_to, hold_ms, grace_ms, tick_ms, lifetime_ms: 0, watchers_max, last_seen_ms };
        // Short, so that watches end; or long enough for all that is told in the end.
        let long_ms = ending::lifetime_ms(&settings);
        settings.lifetime_ms =
            if rng.chance(30) { rng.within(300, 2_000) } else { rng.within(long_ms, long_ms + 3_000) };
        Self {
            settings,
            blocks: rng.chance(40),
            parted: rng.chance(50),
            now: Moment(1),
            next_request: 1 << 40,
            lines: BTreeMap::new(),
            hidings: Hidings::default(),
            times: BTreeMap::new(),
            settles: BTreeMap::new(),
            ticks_ms: [0; 2],
            is_tick: false,
            mails: Mails::default(),
            durable_since: BTreeMap::new(),
            wrote: BTreeSet::new(),
            tricks: Tricks::default(),
        }
    }

    fn moment(&mut self) -> Moment {
        self.now.0 += 1;
        self.now
    }

    /// Whether one of them never writes to the other.
    pub(super) fn are_parted(&self, from: UserId, to: UserId) -> bool {
        self.parted && from.0 + to.0 == 3 && from != to
    }

    /// Somebody writes.
    pub(super) fn writes(&mut self, from: UserId, to: UserId) {
        self.wrote.insert((from, to));
    }

    /// An entry became durable.
    pub(super) fn became_durable(&mut self, user: UserId, seq: Seq) {
        let now = self.moment();
        self.durable_since.entry((user, seq)).or_insert(now);
    }

    /// Since when `looks` may see nothing of `user`, if that is certain.
    fn is_hidden_since(&self, user: UserId, looks: UserId) -> Option<Moment> {
        if self.settings.shown_to == ShownTo::Nobody {
            return Some(Moment(0));
        }
        if user == looks {
            return self.hidings.since(user, hiding::What::All);
        }
        let has_written = self.wrote.contains(&(user, looks));
        let is_known = match self.settings.shown_to {
            ShownTo::Conversation => has_written || self.wrote.contains(&(looks, user)),
            ShownTo::Written => has_written,
            ShownTo::Nobody => false,
        };
        if !is_known {
            return Some(Moment(0));
        }
        let all = self.hidings.since(user, hiding::What::All);
        all.into_iter().chain(self.hidings.since(user, hiding::What::From(looks))).min()
    }

    /// What the connections of a user say together.
    fn presence_of(&self, user: UserId) -> Presence {
        let own = self.lines.values().filter(|line| line.user == user);
        own.map(|line| if line.is_away { Presence::Away } else { Presence::Online }).max().unwrap_or(Presence::Offline)
    }

    /// Something happens to a connection of a user.
    pub(super) fn moves(&mut self, user: UserId, now_ms: u64) {
        if let Some(times) = self.times.get_mut(&user) {
            times.moves(&self.settings, now_ms);
        }
    }

    /// Something happens to a connection that may change what its user is.
    pub(super) fn line_moves(&mut self, link: LinkId, now_ms: u64) {
        if let Some(line) = self.lines.get(&link) {
            self.moves(line.user, now_ms);
        }
    }

    /// A connection is over.
    pub(super) fn line_gone(&mut self, link: LinkId, now_ms: u64) {
        let now = self.moment();
        self.line_moves(link, now_ms);
        self.lines.remove(&link);
        self.hidings.line_gone(link, now);
    }
}
