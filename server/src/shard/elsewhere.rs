//! Elsewhere: what is owed to users whose home is another node.
//!
//! An envelope for another node leaves when what it follows from is durable here: the other node's log must not have what this one's
//! lacks after a crash. While the node cannot be reached it is put off, as by a home that takes nothing: it waits in its author's log,
//! and goes out once the node can be reached again. So a link between nodes keeps nothing, and remembers nothing: when one has ended,
//! whatever had been sent and was not answered counts as put off, and what comes twice by that is found by the watermarks.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, Seq, UserId};
use storage::{BatchId, group::beside};

use super::{
    Promise, Shard, Turn,
    duties::Resting,
    input::{Envelope, Parcel},
    ledger::Ledger,
    topology::{Homes, NodeId},
    user::User,
};

/// The other nodes, as far as a shard knows.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Those that can be reached, with the number of the link.
    reachable: BTreeMap<NodeId, u64>,
    /// What is tried again when a node can be reached: one for each destination that rests, so bounded by what users have open.
    resting: BTreeMap<NodeId, Vec<(UserId, Resting)>>,
    /// Users who had something on the way, or still to send, when their duties were looked at last. All others who have are on the list of
    /// those whose duties are to be looked at.
    owing: HashSet<UserId, RandomState>,
}

impl Elsewhere {
    /// Whether a node can be reached.
    pub(super) fn reaches(&self, node: NodeId) -> bool {
        self.reachable.contains_key(&node)
    }

    /// The duties of a user have been looked at.
    pub(super) fn looked_at(&mut self, user: UserId, is_owing: bool) {
        if is_owing {
            self.owing.insert(user);
        } else {
            self.owing.remove(&user);
        }
    }

    /// These users are not in memory any more.
    pub(super) fn forget(&mut self, is_gone: impl Fn(UserId) -> bool) {
        self.owing.retain(|user| !is_gone(*user));
    }
}

impl Resting {
    /// Whose home it waits for.
    fn whom(self) -> UserId {
        match self {
            Self::Messages(to) => home_of(to),
            Self::Reports(user) | Self::Standing(_, user) => user,
        }
    }
}

/// The user at whose home a conversation goes on: of a group, the one that it lies beside.
const fn home_of(conversation: ConversationId) -> UserId {
    match conversation {
        ConversationId::Person(user) => user,
        ConversationId::Group(group) => beside(group),
    }
}

/// Whether what follows from this batch may leave for the home of a user.
pub(super) fn may_leave(promise: Promise, homes: &Homes, lane: &Ledger, batch: BatchId, to: ConversationId) -> bool {
    let to = home_of(to);
    match promise {
        Promise::Store => lane.is_stored(batch),
        // Inside the node everything is in one order, so what is not released yet may go too.
        Promise::Disk | Promise::Journal => homes.elsewhere(to).is_none() || lane.is_released(batch),
    }
}

impl Shard {
    /// Whether what is decided now for the home of a user may leave now, and not when it is durable.
    pub(super) fn leaves_now(&self, to: ConversationId) -> bool {
        let to = home_of(to);
        self.settings.promise != Promise::Store && self.homes.elsewhere(to).is_none()
    }

    /// An envelope leaves for another node.
    pub(super) fn post_elsewhere(&mut self, node: NodeId, envelope: Envelope, cx: &mut Turn<'_>) {
        if self.elsewhere.reaches(node) {
            return cx.effects.mesh.push((node, envelope));
        }
        // An answer is asked for again by what it answers.
        if let Some(put_off) = envelope.put_off() {
            self.counters.unreachable += 1;
            self.local.push_back(put_off);
        }
    }

    /// An entry is durable: what it says to a user of another node leaves, if it is on the way there.
    pub(super) fn leave_for_elsewhere(&mut self, user_id: UserId, seq: Seq, cx: &mut Turn<'_>) {
        if self.homes.cluster.is_none() || self.settings.promise == Promise::Store {
            return;
        }
        let Some(user) = self.users.resident(user_id).filter(|user| user.outgoing.is_on_the_way(seq)) else { return };
        let said = user.tail.get(seq).and_then(|tail| Parcel::by(user_id, &tail.entry.event));
        let Some((to, parcel)) = said else {
            // A read mark that a later one has superseded meanwhile, which is told in its place.
            return user.outgoing.forgo(seq);
        };
        let after = user.outgoing.before(seq, to);
        if self.homes.elsewhere(home_of(to)).is_some() {
            self.forward(user_id, to, (seq, after), parcel, cx);
        }
    }

    /// A link to a node is open, or has ended: what was on its way through one before is lost in either case.
    pub(super) fn link(&mut self, node: NodeId, serial: u64, is_up: bool, cx: &mut Turn<'_>) {
        let known = self.elsewhere.reachable.get(&node).copied();
        if known.is_some_and(|known| known > serial || (known == serial && is_up)) {
            // A later one is known already.
            return;
        }
        if known.is_some() {
            self.lose_what_is_on_the_way(node);
            self.sights.link_lost(node);
            self.followers_lost(node, cx);
        }
        if is_up {
            self.sights.link_open(&self.homes, node);
            self.elsewhere.reachable.insert(node, serial);
            for (user, what) in self.elsewhere.resting.remove(&node).unwrap_or_default() {
                self.resting.push(cx.now.monotonic_ms, (user, what));
            }
            let homes = self.homes.clone();
            self.ask_elsewhere_again(|user| homes.elsewhere(user) == Some(node), cx);
            self.follow_anew(|user| homes.elsewhere(user) == Some(node), cx);
        } else {
            self.elsewhere.reachable.remove(&node);
        }
    }

    fn lose_what_is_on_the_way(&mut self, node: NodeId) {
        let homes = self.homes.clone();
        let lost = self.lose_to(|user| homes.elsewhere(user) == Some(node));
        self.elsewhere.resting.entry(node).or_default().extend(lost);
    }

    /// Whatever is on the way to these users may not get there, or not be answered. What begins to rest by that.
    pub(super) fn lose_to(&mut self, is_lost: impl Fn(UserId) -> bool) -> Vec<(UserId, Resting)> {
        let mut owing: Vec<_> = self.elsewhere.owing.iter().chain(self.dirty.iter()).copied().collect();
        owing.sort_unstable();
        owing.dedup();
        let mut lost = Vec::new();
        for user_id in owing {
            let Some(user) = self.users.resident(user_id) else { continue };
            let messages = user.outgoing.lose(|to| is_lost(home_of(to)));
            lost.extend(messages.into_iter().map(|to| (user_id, Resting::Messages(to))));
            lost.extend(user.reports.lose(&is_lost).into_iter().map(|author| (user_id, Resting::Reports(author))));
        }
        let has_left = |user: &User| {
            !user.outgoing.is_on_the_way_to(|to| is_lost(home_of(to))) && !user.reports.is_on_the_way_to(&is_lost)
        };
        debug_assert!(self.users.iter_mut().all(|(_, user)| has_left(user)), "somebody has not been looked at");
        lost.extend(self.lose_standings(&is_lost));
        lost
    }

    /// What waited for nodes to be reached waits for their links no longer.
    pub(super) fn take_resting(&mut self) -> Vec<(UserId, Resting)> {
        std::mem::take(&mut self.elsewhere.resting).into_values().flatten().collect()
    }

    /// What is to be tried again waits for a node that can not be reached.
    pub(super) fn rests_longer(&mut self, user: UserId, what: Resting) -> bool {
        let node = self.homes.elsewhere(what.whom()).filter(|node| !self.elsewhere.reaches(*node));
        if let Some(node) = node {
            self.elsewhere.resting.entry(node).or_default().push((user, what));
        }
        node.is_some()
    }
}
