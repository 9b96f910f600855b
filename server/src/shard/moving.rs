//! Moving: slots that come to this node, and slots that go, whoever has decided so ([`crate::cluster`]).
//!
//! A slot goes in one way: whether it was given, or taken while this node stood still, its new owner may have been at work for a while.
//! So nothing of its users is finished here. What their lane had under way fails or has failed, what waits for that is answered by
//! nobody, and what was known of them is forgotten; who is connected is told where to go, and sends again there what was not answered. What
//! is on the way to users whose owner has changed counts as lost, as when a link has ended.

use std::{
    collections::{HashSet, btree_map::Entry},
    sync::Arc,
};

use proto_spec::{ErrorCode, RedirectReason, ServerFrame, UserId};
use storage::{LaneId, Query};

use super::{
    ConnId, Connected, Shard, Turn,
    ledger::{Ledger, Parked},
    question::Question,
    sessions::Session,
    topology::{Home, NodeId},
};
use crate::{
    cluster::{
        file::{Identity, Nodes},
        map::Slot,
    },
    config::Transport,
    limits::{MOVED_AFTER_MS, RETRY_ELSEWHERE_MS, RETRY_STORAGE_MS, STRAY_MS},
};

/// Which slots have another owner than before, or the same one in another term.
struct Changed([bool; crate::cluster::map::SLOTS]);

impl Changed {
    fn between(before: &Nodes, after: &Nodes) -> Self {
        let is_changed =
            |slot| (before.map.owner(slot), before.term(slot)) != (after.map.owner(slot), after.term(slot));
        Self(std::array::from_fn(|slot| is_changed(Slot(slot as u8))))
    }

    fn has(&self, user: UserId) -> bool {
        self.0[usize::from(Slot::of(user).0)]
    }
}

impl Shard {
    /// Something else is known of who owns what.
    pub(super) fn owners(&mut self, nodes: Arc<Nodes>, cx: &mut Turn<'_>) {
        let Some(Identity { nodes: known, .. }) = &mut self.homes.cluster else { return };
        let before = std::mem::replace(known, Arc::clone(&nodes));
        let changed = Changed::between(&before, &nodes);
        if !changed.0.contains(&true) {
            return;
        }
        // Whoever is here is of a slot that was this node's: if it is another one's, or this node's in another term, nothing holds.
        self.send_away(&changed, &nodes, cx);
        self.left_over.forget(|user| changed.has(user));
        self.forget_lanes(&changed, cx);
        self.give_up_questions(|user| changed.has(user), cx);
        self.left_over.forget(|user| changed.has(user));
        self.forget_users(&changed);
        // Answers to questions that were given up may have been written by then.
        self.forget_lanes(&changed, cx);
        let mut resting = self.lose_to(|user| changed.has(user));
        resting.extend(self.take_resting());
        for (user, what) in resting.into_iter().filter(|(user, _)| !changed.has(*user)) {
            self.resting.push(cx.now.monotonic_ms, (user, what));
        }
        self.ask_elsewhere_again(|user| changed.has(user), cx);
        self.forget_followers(|user| changed.has(user), cx);
        self.follow_anew(|user| changed.has(user), cx);
        self.settle_strays(cx);
    }

    /// Who is connected is told where to go. Not all at once: the new owner lets so many in.
    fn send_away(&mut self, changed: &Changed, nodes: &Nodes, cx: &mut Turn<'_>) {
        let strays: HashSet<_> = self.strays.iter().map(|(_, connected)| connected.conn).collect();
        let conns = self.sessions.conns_where(|session| changed.has(session.user) && !strays.contains(&session.conn));
        let every_us = 1_000_000 / u64::from(self.settings.moves_per_s.max(1));
        for (at, conn) in conns.into_iter().enumerate() {
            let Some(session) = self.sessions.get(conn) else { continue };
            let Some(owner) = self.homes.elsewhere(session.user) else {
                // In another term: somebody else had it in between.
                let detail = "the node that serves this user was another one meanwhile";
                self.close(conn, ErrorCode::Elsewhere, MOVED_AFTER_MS, detail, cx);
                continue;
            };
            let address = session.goes_to(owner, nodes).map(str::to_owned);
            let after_ms = MOVED_AFTER_MS + at as u64 * every_us / 1_000;
            self.send_elsewhere(conn, owner, address, after_ms, nodes, cx);
        }
    }

    /// A connection ends, and its client is told where to go.
    fn send_elsewhere(
        &mut self,
        conn: ConnId,
        owner: NodeId,
        address: Option<String>,
        after_ms: u64,
        nodes: &Nodes,
        cx: &mut Turn<'_>,
    ) {
        let Some(address) = address else {
            // It comes again where it came before, and is served through that node; not at all if the nodes do not agree.
            let retry_ms = if after_ms > 0 { after_ms } else { RETRY_ELSEWHERE_MS };
            let detail = format!("node {} serves this user from now on", nodes.node(owner).name);
            return self.close(conn, ErrorCode::Elsewhere, retry_ms, &detail, cx);
        };
        let (reason, map_version) = (RedirectReason::Moving, nodes.version());
        self.counters.moved += 1;
        self.send(conn, &ServerFrame::Redirect { address, reason, after_ms, map_version }, cx);
        self.end(conn, Some(ErrorCode::Elsewhere), cx);
    }

    /// What waits for batches of lanes whose term is over waits for nothing any more.
    fn forget_lanes(&mut self, changed: &Changed, cx: &mut Turn<'_>) {
        let first = self.homes.topology.first_lane_of(self.core).0;
        for at in 0..self.lanes.len() {
            if !changed.0[usize::from(first) + at] {
                continue;
            }
            cx.effects.filling[at].batch.clear();
            cx.effects.full_batches.retain(|(lane, ..)| usize::from(lane.0 - first) != at);
            let mut ledger = std::mem::replace(
                &mut self.lanes[at],
                Ledger::new(self.homes.epoch(self.epoch, LaneId(first + at as u16))),
            );
            for answer in ledger.answers() {
                // Who has asked may know of this term already, and hear of no other that would have it asked again.
                if let Some(put_off) = answer.not_given() {
                    self.post(put_off, cx);
                }
            }
            for parked in ledger.abandon() {
                if let Parked::Devices(parked) = parked {
                    self.devices_abandoned(parked, cx);
                }
            }
        }
    }

    fn forget_users(&mut self, changed: &Changed) {
        let slots = self.homes.topology.lanes_of(self.core).map(|lane| Slot(lane.0 as u8));
        for slot in slots.filter(|slot| changed.0[usize::from(slot.0)]) {
            for (_, mut user) in self.users.remove_slot(slot) {
                self.cache.forget(&mut user);
            }
            self.conversations.remove_slot(slot);
            for (group, _) in self.groups.remove_slot(slot) {
                self.owing_groups.remove(&group);
            }
        }
        self.elsewhere.forget(|user| changed.has(user));
        self.unsettled.retain(|(user, ..), _| !changed.has(*user));
        self.sights.moved_away(|user| changed.has(user));
    }

    /// Before somebody is welcomed it is made sure that this node has not lost the user without having heard of it: it would say an older
    /// head of the log and an older last number than another one has said, and a client would use numbers again that are used. One read
    /// of the slot's row is enough for all who were there when it began; who comes while it is under way waits for the next one.
    pub(super) fn look_at_term(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let slot = Slot::of(connected.user);
        match self.terms.entry(slot) {
            Entry::Occupied(mut next) => next.get_mut().push(connected),
            Entry::Vacant(next) => {
                next.insert(Vec::new());
                self.read_term(slot, vec![connected], cx);
            }
        }
    }

    fn read_term(&mut self, slot: Slot, asked: Vec<Connected>, cx: &mut Turn<'_>) {
        let user = asked[0].user;
        self.ask(Query::Term { user, lane: slot.lane() }, Question::Term(slot, asked), cx);
    }

    /// The store has said in which term the slot was when these connections were there already.
    pub(super) fn term_read(&mut self, slot: Slot, asked: Vec<Connected>, term: Option<u64>, cx: &mut Turn<'_>) {
        match self.terms.remove(&slot) {
            Some(next) if !next.is_empty() => {
                self.terms.insert(slot, Vec::new());
                self.read_term(slot, next, cx);
            }
            Some(_) | None => {}
        }
        for connected in asked {
            let conn = connected.conn;
            match term {
                // It has gone meanwhile.
                _ if self.sessions.get(conn).is_none() => {}
                None => self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, "the store can not be read", cx),
                Some(term) if term == self.homes.term(slot) => self.admit(connected, cx),
                Some(_) => {
                    let detail = "another node serves this user, or has done so; this one has not heard yet";
                    self.close(conn, ErrorCode::Elsewhere, MOVED_AFTER_MS, detail, cx);
                }
            }
        }
    }

    /// A client was sent here, and this node does not know yet that the user is its own; or it knew so when the connection was let in. It
    /// waits for a moment, since whoever has sent it knew more.
    pub(super) fn strayed(&mut self, connected: Connected, cx: &Turn<'_>) {
        self.strays.push((cx.now.monotonic_ms + STRAY_MS, connected));
    }

    /// Those who wait to be at home are, or have waited long enough.
    pub(super) fn settle_strays(&mut self, cx: &mut Turn<'_>) {
        for (until_ms, connected) in std::mem::take(&mut self.strays) {
            let Connected { conn, user, .. } = connected;
            let Some(session) = self.sessions.get(conn) else { continue };
            let (Home::Elsewhere(owner), Some(Identity { nodes, .. })) = (self.homes.of(user), &self.homes.cluster)
            else {
                self.at_home(connected, cx);
                continue;
            };
            if cx.now.monotonic_ms < until_ms {
                self.strays.push((until_ms, connected));
                continue;
            }
            let (nodes, address) = (Arc::clone(nodes), session.goes_to(owner, nodes).map(str::to_owned));
            self.send_elsewhere(conn, owner, address, 0, &nodes, cx);
        }
    }
}

impl Session {
    /// Where its client reaches another node, if it follows redirects and can.
    fn goes_to<'a>(&self, node: NodeId, nodes: &'a Nodes) -> Option<&'a str> {
        let node = nodes.node(node);
        match self.follows? {
            Transport::Plain => node.clients.as_deref(),
            Transport::Tls => node.clients_tls.as_deref(),
            // The cluster's file names no addresses for it.
            Transport::WebSocket | Transport::WebSocketTls => None,
        }
    }
}
