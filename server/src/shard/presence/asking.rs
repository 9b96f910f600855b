//! Asking: a client wants to know who is there; the homes are asked, and answer by the rule.
//!
//! A home answers from memory who has a verdict already, and asks the store about all others: by the same steps whether a user exists or
//! not, is there or not, hides or not. What happens meanwhile is noticed by the version, and asked again.
//!
//! Of users of other nodes nothing is known while their node can not be reached or does not answer, and that is the answer then: one node
//! that is away leaves the others' users to be seen.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use proto_spec::{
    ClientKind, ErrorCode, Presence, PresenceState, RequestId, Seq, ServerFrame, Settings, TimestampMs, UserId,
};
use storage::{PresenceRows, Query};

use super::{
    Answer, Ask, Asked, CoreAddress, LookId, Shown, ShownTo, Sight, Sights, Told, Verdict, Version, WatchId,
    rule::{self, Relation},
    viewer::Flush,
};
use crate::{
    limits::{
        LOOKS_MAX, PRESENCE_FOREIGN_USERS_MAX, PRESENCE_NODE_USERS_MAX, READ_TRIES_MAX, RETRY_BUSY_MS, USERS_A_FETCH,
    },
    shard::{
        ConnId, Shard, Turn,
        question::Question,
        shedding::Class,
        topology::{Home, NodeId},
    },
};

/// A question of this core that is not answered by all homes.
#[derive(Debug)]
pub(super) struct Look {
    what: LookFor,
    looks: UserId,
    /// How many homes of this node have not answered.
    waits: usize,
    /// About whom other nodes have not.
    elsewhere: BTreeSet<UserId>,
    /// What was said so far, as far as no watch keeps it.
    told: Vec<Told>,
    is_failed: bool,
}

impl Look {
    fn is_done(&self) -> bool {
        self.waits == 0 && self.elsewhere.is_empty()
    }

    /// It waits no longer for what other nodes say of these users. Which.
    fn no_longer_waits(&mut self, is_meant: impl Fn(UserId) -> bool) -> BTreeSet<UserId> {
        let (meant, others) = std::mem::take(&mut self.elsewhere).into_iter().partition(|user| is_meant(*user));
        self.elsewhere = others;
        meant
    }
}

/// A question about users of other nodes that waits for what the store of this one has: whom of them who looks blocks.
#[derive(Debug)]
pub(in crate::shard) struct Blocks {
    look: LookId,
    looks: UserId,
    homes: BTreeMap<Home, Vec<Asked>>,
    /// Of whom that is asked.
    users: Vec<UserId>,
}

/// What it was asked for.
#[derive(Debug)]
enum LookFor {
    /// To answer a client, which asked for these in this order.
    Pull { conn: ConnId, request: RequestId, users: Vec<UserId> },
    /// To answer a client that watches these from now on.
    Watch { conn: ConnId, request: RequestId, users: Vec<UserId>, watch: WatchId },
    /// To know again what a watch may see.
    Again { watch: WatchId, conn: ConnId },
}

impl LookFor {
    const fn watch(&self) -> Option<WatchId> {
        match self {
            Self::Pull { .. } => None,
            Self::Watch { watch, .. } | Self::Again { watch, .. } => Some(*watch),
        }
    }
}

/// A question of another core that is not answered yet.
#[derive(Debug)]
pub(in crate::shard) struct Reading {
    to: CoreAddress,
    look: LookId,
    looks: UserId,
    /// What is asked, with the verdicts so far.
    asked: Vec<Asked>,
    /// About which of them the store is asked.
    unjudged: Vec<Unjudged>,
    /// How often it was.
    tries: u8,
}

/// One of whom the store is asked, and what was so then.
#[derive(Clone, Copy, Debug)]
struct Unjudged {
    /// Its place among those who were asked about.
    at: usize,
    version: Version,
    /// Whether the user, and their conversation with who looks, were in memory, which is newer than the store.
    in_memory: [bool; 2],
}

impl Sights {
    /// The store is to be asked for a question, if that is not too much for another node. All users of it count: it is kept meanwhile.
    fn begin_foreign_read(&mut self, of: &Reading) -> bool {
        let (node, users) = (of.to.node, of.asked.len());
        if node == self.outgoing.own().node {
            return true;
        }
        let all: usize = self.foreign_reads.values().sum();
        let of_node = self.foreign_reads.get(&node).copied().unwrap_or_default();
        let has_room = all + users <= PRESENCE_FOREIGN_USERS_MAX && of_node + users <= PRESENCE_NODE_USERS_MAX;
        if has_room {
            self.foreign_reads.insert(node, of_node + users);
        }
        has_room
    }

    /// The store has answered.
    fn end_foreign_read(&mut self, of: &Reading) {
        if let Entry::Occupied(mut known) = self.foreign_reads.entry(of.to.node) {
            *known.get_mut() -= of.asked.len();
            if *known.get() == 0 {
                known.remove();
            }
        }
    }
}

/// Each of them once, in its first place.
fn once(users: Vec<UserId>) -> Vec<UserId> {
    let mut seen = BTreeSet::new();
    users.into_iter().filter(|user| seen.insert(*user)).collect()
}

impl Shard {
    // ---- who looks

    /// A client wants to know of these users.
    pub(in crate::shard) fn fetch_presence(
        &mut self,
        (conn, request): (ConnId, RequestId),
        users: Vec<UserId>,
        cx: &mut Turn<'_>,
    ) {
        let users = once(users);
        let asks = (ClientKind::FetchPresence, users.len());
        let Some(user_id) = self.may_look((conn, request), asks, cx) else { return };
        self.counters.presence_pulled += users.len() as u64;
        let asked = users.iter().map(|user| Asked { user: *user, verdict: None, count: 0, blocks: None }).collect();
        self.look(user_id, asked, LookFor::Pull { conn, request, users }, cx);
    }

    /// A client watches these users and no others.
    pub(in crate::shard) fn watch(
        &mut self,
        (conn, request): (ConnId, RequestId),
        users: Vec<UserId>,
        cx: &mut Turn<'_>,
    ) {
        let users = once(users);
        let asks = (ClientKind::Watch, users.len());
        let Some(user_id) = self.may_look((conn, request), asks, cx) else { return };
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let (device, before) = (session.device, session.watch);
        if users.is_empty() {
            session.watch = None;
            before.into_iter().for_each(|before| self.watch_left(before, true));
            return self.look(user_id, Vec::new(), LookFor::Pull { conn, request, users }, cx);
        }
        self.counters.presence_watched += users.len() as u64;
        let mut sorted = users.clone();
        sorted.sort_unstable();
        let by = (user_id, device, conn);
        let (watch, fewer) = self.sights.viewer.watch(by, before, sorted.into(), cx.now.monotonic_ms);
        if let Some(mut session) = self.sessions.get_mut(conn) {
            session.watch = Some(watch);
        }
        self.tell_fewer(fewer);
        let asked = self.sights.viewer.asked(watch);
        self.look(user_id, asked, LookFor::Watch { conn, request, users, watch }, cx);
    }

    /// Who looks, unless they have to wait: then they are told so.
    fn may_look(
        &mut self,
        (conn, request): (ConnId, RequestId),
        (kind, users): (ClientKind, usize),
        cx: &mut Turn<'_>,
    ) -> Option<UserId> {
        let shed = self.sheds(Class::Presence);
        let mut session = self.sessions.get_mut(conn)?;
        let user_id = session.user;
        let user = self.users.resident(user_id)?;
        let is_too_many = session.looks >= LOOKS_MAX;
        let refused = if let Some(reason) = shed {
            self.counters.shed.count(Class::Presence, reason);
            Some((ErrorCode::Overloaded, RETRY_BUSY_MS, reason.detail()))
        } else if is_too_many {
            Some((ErrorCode::TooManyFetches, RETRY_BUSY_MS, "too many questions are unanswered"))
        } else {
            let fetches = self.settings.limits.fetches;
            let mut bucket = user.buckets.fetches;
            let mut each =
                (0..users.div_ceil(USERS_A_FETCH).max(1)).map(|_| fetches.take(&mut bucket, cx.now.monotonic_ms));
            let taken = each.find(Result::is_err).unwrap_or(Ok(()));
            if taken.is_ok() {
                // All of them or none.
                user.buckets.fetches = bucket;
            }
            taken.err().map(|wait_ms| (ErrorCode::RateLimited, wait_ms, "too many questions"))
        };
        let Some((code, wait_ms, detail)) = refused else {
            session.looks += 1;
            return Some(user_id);
        };
        self.send_error(conn, code, kind.byte(), request, wait_ms, detail, cx);
        None
    }

    /// Asks the homes.
    fn look(&mut self, looks: UserId, asked: Vec<Asked>, what: LookFor, cx: &mut Turn<'_>) {
        let look = LookId(self.sights.last_look.0 + 1);
        self.sights.last_look = look;
        let of = Look { what, looks, waits: 0, elsewhere: BTreeSet::new(), told: Vec::new(), is_failed: false };
        self.sights.looks.insert(look, of);
        self.sights.late.push(cx.now.monotonic_ms, look);
        self.ask_about(look, asked, cx);
        self.look_may_be_done(look, cx);
    }

    /// Asks the homes of these users for a question.
    fn ask_about(&mut self, look: LookId, asked: Vec<Asked>, cx: &mut Turn<'_>) {
        let Some(of) = self.sights.looks.get(&look) else { return };
        let (looks, watch) = (of.looks, of.what.watch());
        let mut homes: BTreeMap<Home, Vec<Asked>> = BTreeMap::new();
        let mut elsewhere = BTreeSet::new();
        for mut of in asked {
            of.blocks = self.blocks(looks, of.user);
            if of.blocks == Some(true) {
                of.verdict = None;
            }
            let home = self.homes.of(of.user);
            match home {
                Home::Elsewhere(node) if !self.elsewhere.reaches(node) => {
                    self.sights.viewer.unreachable(watch, of.user);
                    continue;
                }
                Home::Elsewhere(_) => drop(elsewhere.insert(of.user)),
                Home::Here(_) => {}
            }
            homes.entry(home).or_default().push(of);
        }
        let others = homes.split_off(&Home::Elsewhere(NodeId(0)));
        if let Some(of) = self.sights.looks.get_mut(&look) {
            of.waits += homes.len();
            of.elsewhere.append(&mut elsewhere);
        }
        self.ask_homes(look, looks, homes);
        // Where all nodes have one store, the homes read there whom who looks blocks.
        let is_shared = self.homes.do_move();
        let may = |of: &Asked| of.verdict.is_some_and(|verdict| verdict.may);
        let unknown = |of: &&Asked| of.blocks.is_none() && !may(of) && !is_shared;
        let users: Vec<_> = others.values().flatten().filter(unknown).map(|of| of.user).collect();
        if users.is_empty() {
            return self.ask_homes(look, looks, others);
        }
        let query = Query::Presence { looks, users: users.clone() };
        self.ask(query, Question::Blocks(Box::new(Blocks { look, looks, homes: others, users })), cx);
    }

    /// What other nodes were asked about these users, or have answered, may be lost, or these users are another's by now: asks again.
    pub(in crate::shard) fn ask_elsewhere_again(&mut self, is_meant: impl Fn(UserId) -> bool, cx: &mut Turn<'_>) {
        let waits_for = |look: &Look| look.elsewhere.iter().any(|user| is_meant(*user));
        let looks = self.sights.looks.iter().filter(|(_, look)| waits_for(look));
        let mut looks: Vec<_> = looks.map(|(look, _)| *look).collect();
        looks.sort_unstable();
        for look in looks {
            let Some(of) = self.sights.looks.get_mut(&look) else { continue };
            match of.what {
                LookFor::Pull { .. } => {
                    let asked = |user| Asked { user, verdict: None, count: 0, blocks: None };
                    let asked = of.no_longer_waits(&is_meant).into_iter().map(asked);
                    self.ask_about(look, asked.collect(), cx);
                }
                LookFor::Watch { watch, .. } | LookFor::Again { watch, .. } => {
                    self.leave_to_watch(look, watch, &is_meant);
                }
            }
            self.look_may_be_done(look, cx);
        }
    }

    /// A question is not to wait for what is said of these users: the watch that it is for asks again, and what was told stands until then.
    fn leave_to_watch(&mut self, look: LookId, watch: WatchId, is_meant: impl Fn(UserId) -> bool) {
        let Some(of) = self.sights.looks.get_mut(&look) else { return };
        for user in of.no_longer_waits(is_meant) {
            self.sights.viewer.hope(watch, user, true);
        }
    }

    fn ask_homes(&mut self, look: LookId, looks: UserId, homes: BTreeMap<Home, Vec<Asked>>) {
        for (home, users) in homes {
            self.sights.outgoing.to(home.into(), 1 + users.len()).asks.push(Ask { look, looks, users });
        }
    }

    /// The store of this node has said whom of other nodes' users a user of this one blocks, or can not be read.
    pub(in crate::shard) fn blocks_read(&mut self, of: Blocks, rows: Option<Vec<PresenceRows>>, cx: &mut Turn<'_>) {
        let Blocks { look, looks, mut homes, users } = of;
        let Some(rows) = rows else {
            let Some(known) = self.sights.looks.get_mut(&look) else { return };
            known.is_failed = true;
            known.elsewhere.clear();
            return self.look_may_be_done(look, cx);
        };
        let blocks = rows.iter().map(|rows| rows.of_looks.settings.has(Settings::BLOCKED));
        let stored: BTreeMap<_, _> = users.into_iter().zip(blocks).collect();
        for asked in homes.values_mut().flatten() {
            // What is in memory is newer.
            let known = self.blocks(looks, asked.user).or_else(|| stored.get(&asked.user).copied());
            asked.blocks = known.or(asked.blocks);
            if asked.blocks == Some(true) {
                asked.verdict = None;
            }
        }
        self.ask_homes(look, looks, homes);
    }

    /// A home has answered.
    pub(super) fn look_answered(&mut self, from: CoreAddress, answer: Answer, cx: &mut Turn<'_>) {
        let Some(look) = self.sights.looks.get_mut(&answer.look) else { return };
        let is_here = from.node == self.sights.outgoing.own().node;
        if is_here {
            look.waits -= 1;
            look.is_failed |= answer.told.is_none();
        }
        let (watch, looks) = (look.what.watch(), look.looks);
        if let (false, None, Some(watch)) = (is_here, &answer.told, watch) {
            let homes = self.homes.clone();
            self.leave_to_watch(answer.look, watch, |user| homes.elsewhere(user) == Some(from.node));
            return self.look_may_be_done(answer.look, cx);
        }
        // Where there is no watch, another node that can not say is as one that says nothing: its users are unknown when the question is
        // late, and no others.
        let Some(look) = self.sights.looks.get_mut(&answer.look) else { return };
        for mut told in answer.told.into_iter().flatten() {
            // By a home that is none any more, or none yet, as this core knows, nothing is told.
            let is_home = is_here || self.homes.elsewhere(told.user) == Some(from.node);
            if !is_home || (!is_here && !look.elsewhere.remove(&told.user)) {
                continue;
            }
            let known = self.conversations.resident((looks, told.user.into()));
            if known.is_some_and(|known| known.is_blocked()) {
                // Since the question.
                (told.verdict.may, told.sight, told.is_crowded) = (false, Sight::NONE, false);
            }
            self.sights.viewer.take(&told, watch);
            if watch.is_none() || told.is_crowded {
                look.told.push(told);
            }
        }
        self.look_may_be_done(answer.look, cx);
    }

    fn look_may_be_done(&mut self, look: LookId, cx: &mut Turn<'_>) {
        if self.sights.looks.get(&look).is_some_and(Look::is_done)
            && let Some(look) = self.sights.looks.remove(&look)
        {
            self.look_done(look, cx);
        }
    }

    /// A question was not answered in time: it, or its answer, may have been lost.
    pub(super) fn look_is_late(&mut self, look: LookId, cx: &mut Turn<'_>) {
        if let Some(mut look) = self.sights.looks.remove(&look) {
            self.counters.presence_late += 1;
            look.is_failed |= look.waits > 0;
            for user in std::mem::take(&mut look.elsewhere) {
                self.sights.viewer.unreachable(look.what.watch(), user);
            }
            self.look_done(look, cx);
        }
    }

    /// Tells the client what the homes have said.
    fn look_done(&mut self, look: Look, cx: &mut Turn<'_>) {
        let Look { what, told, is_failed, .. } = look;
        let now_ms = cx.now.monotonic_ms;
        let crowded_ms = self.settings.presence.lifetime_ms;
        let of_told = |told: &Told| {
            let Sight { state, last_seen } = told.sight;
            let ask_again_ms = if told.is_crowded { crowded_ms } else { 0 };
            (told.user, PresenceState { user: told.user, state, last_seen, ask_again_ms })
        };
        let (conn, request, users, lifetime_ms, kind, mut states) = match what {
            LookFor::Again { watch, conn } => {
                let crowded = told.iter().filter_map(|told| self.sights.viewer.tell_crowded(watch, told));
                let states: Vec<_> = crowded.collect();
                if !states.is_empty() {
                    self.send(conn, &ServerFrame::Presence { request: RequestId(0), lifetime_ms: 0, states }, cx);
                }
                return self.sights.viewer.asked_again(watch, now_ms);
            }
            LookFor::Pull { conn, request, users } => (
                conn,
                request,
                users,
                0,
                ClientKind::FetchPresence,
                told.iter().map(of_told).collect::<BTreeMap<_, _>>(),
            ),
            LookFor::Watch { conn, request, users, watch } if is_failed => {
                self.sights.viewer.asked_again(watch, now_ms);
                (conn, request, users, 0, ClientKind::Watch, BTreeMap::new())
            }
            LookFor::Watch { conn, request, users, watch } => {
                let states = self.sights.viewer.asked_all(watch, &users, now_ms);
                let mut states: BTreeMap<_, _> = states.into_iter().map(|state| (state.user, state)).collect();
                states.extend(told.iter().map(of_told));
                (conn, request, users, crowded_ms, ClientKind::Watch, states)
            }
        };
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.looks -= 1;
        if is_failed {
            let detail = "who is there can not be known now";
            return self.send_error(conn, ErrorCode::Overloaded, kind.byte(), request, RETRY_BUSY_MS, detail, cx);
        }
        let unknown =
            |user| PresenceState { user, state: Presence::Unknown, last_seen: TimestampMs(0), ask_again_ms: 0 };
        let states = users.into_iter().map(|user| states.remove(&user).unwrap_or_else(|| unknown(user))).collect();
        self.send(conn, &ServerFrame::Presence { request, lifetime_ms, states }, cx);
    }

    /// Tells a connection what has changed for it, and asks again what it may see.
    pub(super) fn tell_watch(&mut self, flush: Flush, cx: &mut Turn<'_>) {
        let Flush { watch, conn, looks, states, unsure } = flush;
        if !states.is_empty() {
            self.counters.presence_pushed += 1;
            self.send(conn, &ServerFrame::Presence { request: RequestId(0), lifetime_ms: 0, states }, cx);
        }
        if !unsure.is_empty() {
            self.look(looks, unsure, LookFor::Again { watch, conn }, cx);
        }
    }

    /// Tells the homes of whom fewer connections watch than before.
    pub(super) fn tell_fewer(&mut self, fewer: Vec<(UserId, u32)>) {
        for (user, count) in fewer {
            let home = self.homes.of(user).into();
            self.sights.outgoing.to(home, 1).counts.push((user, count));
        }
    }

    /// A connection has ended, with a goodbye or without one.
    pub(in crate::shard) fn watch_left(&mut self, watch: WatchId, is_clean: bool) {
        let viewer = &mut self.sights.viewer;
        let fewer = if is_clean { viewer.end(watch) } else { viewer.lose(watch) };
        self.tell_fewer(fewer);
    }

    // ---- who is looked at

    /// A core asks about users whose home is here.
    pub(super) fn asked(&mut self, to: CoreAddress, ask: Ask, cx: &mut Turn<'_>) {
        let Ask { look, looks, mut users } = ask;
        let people = &self.sights.people;
        let is_foreign = to.node != self.sights.outgoing.own().node;
        // Another node could find out in which version those are who hide, by what is answered without the store.
        let is_hidden = |user| is_foreign && people.sight(user).is_some_and(|(sight, _)| sight == Sight::NONE);
        // Who might not see may do so by now: that they have written to each other is no new version.
        let is_good = |user, verdict: &Verdict| verdict.may && people.believes(user, to) && !is_hidden(user);
        users.iter_mut().for_each(|of| of.verdict = of.verdict.filter(|verdict| is_good(of.user, verdict)));
        // Remembered until the answer leaves: what happens to any of them meanwhile is seen by their versions.
        for asked in &users {
            self.sights.people.begin_read(asked.user, cx.now.wall);
        }
        self.judge(Reading { to, look, looks, asked: users, unjudged: Vec::new(), tries: 0 }, cx);
    }

    /// Answers, if there is a verdict on each that is good now; else asks the store about the others.
    fn judge(&mut self, mut reading: Reading, cx: &mut Turn<'_>) {
        let people = &self.sights.people;
        let is_judged = |asked: &Asked| {
            let known = people.sight(asked.user);
            known.is_some_and(|(_, version)| asked.verdict.is_some_and(|verdict| verdict.version == version))
        };
        let unjudged = reading.asked.iter().enumerate().filter(|(_, asked)| !is_judged(asked));
        let unjudged = unjudged.map(|(at, asked)| Unjudged {
            at,
            version: people.version(asked.user),
            in_memory: self.in_memory(asked.user, reading.looks),
        });
        reading.unjudged = unjudged.collect();
        if reading.unjudged.is_empty() {
            let told = reading.asked.iter().filter_map(|asked| self.tell_of(reading.to, *asked, cx)).collect();
            return self.answer_ask(&reading, Some(told));
        }
        let shed = self.sheds(Class::Presence);
        if let Some(reason) = shed {
            self.counters.shed.count(Class::Presence, reason);
        }
        if shed.is_some() || reading.tries == READ_TRIES_MAX || !self.sights.begin_foreign_read(&reading) {
            return self.answer_ask(&reading, None);
        }
        reading.tries += 1;
        let users = reading.unjudged.iter().map(|of| reading.asked[of.at].user).collect();
        let query = Query::Presence { looks: reading.looks, users };
        self.ask(query, Question::Presence(Box::new(reading)), cx);
    }

    /// The store has answered, or can not be read.
    pub(in crate::shard) fn presence_read(
        &mut self,
        mut reading: Reading,
        rows: Option<Vec<PresenceRows>>,
        cx: &mut Turn<'_>,
    ) {
        self.sights.end_foreign_read(&reading);
        let Some(rows) = rows else { return self.answer_ask(&reading, None) };
        for (of, rows) in std::mem::take(&mut reading.unjudged).into_iter().zip(rows) {
            let Unjudged { at, version, in_memory } = of;
            let user = reading.asked[at].user;
            let has_left = in_memory.into_iter().zip(self.in_memory(user, reading.looks)).any(|(was, is)| was && !is);
            if has_left {
                // It may have got into the store after this was read: it is asked again.
                continue;
            }
            let blocks = reading.asked[at].blocks.unwrap_or(rows.of_looks.settings.has(Settings::BLOCKED));
            let (shown, mut relation) = self.what_is_so(user, reading.looks, &rows);
            relation.is_blocked |= blocks;
            self.sights.people.learn(user, shown);
            let shown_to = self.settings.presence.shown_to;
            let is_self = user == reading.looks && shown_to != ShownTo::Nobody;
            let may = is_self || rule::may_see(shown_to, relation);
            // Good for the version in which it was asked for: if that is over by now, it is asked again.
            reading.asked[at].verdict = Some(Verdict { version, may });
        }
        self.judge(reading, cx);
    }

    /// Whether a user, and their conversation with who looks, are in memory.
    fn in_memory(&self, user: UserId, looks: UserId) -> [bool; 2] {
        [self.users.is_resident(user), self.conversations.is_resident((user, looks.into()))]
    }

    /// Tells the core that has asked, and remembers those it has asked about no more for its sake.
    fn answer_ask(&mut self, reading: &Reading, told: Option<Vec<Told>>) {
        for asked in &reading.asked {
            self.sights.people.end_read(asked.user);
        }
        self.sights.outgoing.answer(reading.to, Answer { look: reading.look, told });
    }

    /// Whether a user of this core blocks another one, if that is in memory: what is not in the store is.
    fn blocks(&mut self, user: UserId, other: UserId) -> Option<bool> {
        self.conversations.resident((user, other.into())).map(|known| known.is_blocked())
    }

    /// What a user shows, and what their log says of who looks: what is in memory is newer than the store.
    fn what_is_so(&mut self, user_id: UserId, looks: UserId, rows: &PresenceRows) -> (Shown, Relation) {
        let mut shown = Shown { visibility: rows.visibility.visibility, last_seen: rows.last_seen };
        let mut relation = Relation {
            has_written: rows.sent > Seq::ZERO,
            has_received: rows.received > Seq::ZERO,
            is_blocked: rows.settings.settings.has(Settings::BLOCKED),
        };
        if let Some(user) = self.users.resident(user_id) {
            shown = user.shown();
            relation.has_written |= user.has_lately_written(looks);
        }
        if let Some(conversation) = self.conversations.resident((user_id, looks.into())) {
            relation.has_received |= conversation.numbered.received.up_to > Seq::ZERO;
            relation.is_blocked = conversation.is_blocked();
        }
        (shown, relation)
    }

    /// What is said of one user; the core watches them from now on, if that was asked for.
    fn tell_of(&mut self, to: CoreAddress, asked: Asked, cx: &Turn<'_>) -> Option<Told> {
        let Asked { user, count, verdict, .. } = asked;
        let ((sight, _), verdict) = (self.sights.people.sight(user)?, verdict?);
        let is_full = count > 0 && !self.sights.people.watch(user, to, (count, verdict.may), cx.now.monotonic_ms);
        let (sight, is_crowded) = if verdict.may { (sight, is_full) } else { (Sight::NONE, false) };
        Some(Told { user, verdict, sight, is_crowded })
    }
}
