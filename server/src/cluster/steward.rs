//! PURE: a node's part in who owns what, where slots move: it enrols, renews its lease, takes what is to be its own, and gives what is to
//! be another's.
//!
//! All nodes go by the same roll and the same rule ([`Map::propose`]), so each does its own part and none has to be asked. What a node
//! wants to change it says as a [`RollChange`], which is made as a whole if everything is as it was read, or not at all: so a steward
//! that is late, that stood still, or that has read an old roll changes nothing. Whoever drives it asks the store, and tells it what
//! came of that.
//!
//! A node counts up its *beat*. Whoever has seen the same beat for a whole lease, by a clock that only counts, takes it for dead. Clocks
//! need not agree on what time it is, and a steward that is wrong about that takes slots from somebody who is alive: that one commits
//! nothing in them any more, so nothing is lost.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use storage::{Holder, LaneId, Member, MemberId, Owner, Roll, RollChange};
use thiserror::Error;

use super::{
    file::{Identity, Node, Nodes, Term},
    map::{Candidate, Map, SLOTS, Slot, WEIGHT_MAX},
};
use crate::{
    limits::{BEATS_A_LEASE, BEATS_UNREAD_MAX, GIVES_PER_S, SLOTS_CHANGE_MAX},
    shard::topology::NodeId,
};

/// What a node is in its cluster, and how it behaves there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stewardship {
    /// What the cluster is called.
    pub cluster: String,
    /// What the others are told of this node. Its number and its state are the roll's.
    pub node: Node,
    /// Random, of this start.
    pub holder: Holder,
    /// How long a node that says nothing is taken for alive, in milliseconds.
    pub lease_ms: u64,
    /// Clients a second that may be told to go to the next owner of a slot.
    pub moves_per_s: u32,
}

/// Why a node has no part any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unseated {
    /// There is another one of this name.
    #[error("another server has begun to serve as node {0}: each node has a name of its own")]
    Replaced(String),
    /// Somebody has changed the database by hand, or set it back.
    #[error(
        "the roll of the cluster has no row of node {0} any more: start it again when nobody changes the database by hand"
    )]
    Removed(String),
    /// Another one says that it is where this one is.
    #[error("node {0} of the cluster has the address {1} too: each node has its own")]
    Address(String, String),
    /// There have been too many.
    #[error(
        "the cluster has had {SLOTS} nodes, which is as many as there can be: give this one the name of a node that is gone"
    )]
    Full,
}

/// What an operator wants of who owns what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That a node, by its name, gives away what it owns, or that it does so no more.
    Leave(String, bool),
    /// That a slot is a node's and stays there while that is alive; none: that it stays nowhere in particular.
    Pin(Slot, Option<String>),
}

/// When a node was last seen to do something.
#[derive(Clone, Copy, Debug)]
struct Seen {
    beat: u64,
    holder: Holder,
    at_ms: u64,
}

/// Of each slot how many of its users are connected here.
pub type Users = Box<[usize; SLOTS]>;

/// See the head of this file.
#[derive(Debug)]
pub struct Steward {
    own: Stewardship,
    member: Option<MemberId>,
    roll: Roll,
    seen: BTreeMap<MemberId, Seen>,
    /// When it was read.
    read_ms: Option<u64>,
    /// When the beat was begun to be counted up that is in the roll.
    renewed_ms: Option<u64>,
    /// No slot is given away before.
    gives_ms: u64,
    /// It ends: everything is given away at once.
    is_ending: bool,
}

impl Steward {
    /// One that has read nothing.
    #[must_use]
    pub const fn new(own: Stewardship) -> Self {
        Self {
            own,
            member: None,
            roll: Roll { members: BTreeMap::new(), owners: BTreeMap::new() },
            seen: BTreeMap::new(),
            read_ms: None,
            renewed_ms: None,
            gives_ms: 0,
            is_ending: false,
        }
    }

    /// The roll has been read, and is here at `now_ms`. Who has not read it for some beats can not tell a node that was silent from one that
    /// could not be heard, and gives all of them another lease: else the first node that reaches the database again after all had lost it
    /// would take everything.
    ///
    /// # Errors
    /// This node has been replaced.
    pub fn read(&mut self, now_ms: u64, roll: Roll) -> Result<(), Unseated> {
        self.roll = roll;
        let last_ms = self.read_ms.replace(now_ms);
        if last_ms.is_some_and(|last_ms| now_ms >= last_ms + BEATS_UNREAD_MAX * self.beat_ms()) {
            self.seen.clear();
        }
        for (id, Member { beat, holder, .. }) in &self.roll.members {
            let (beat, holder) = (*beat, *holder);
            let seen = self.seen.entry(*id).or_insert(Seen { beat, holder, at_ms: now_ms });
            if (seen.beat, seen.holder) != (beat, holder) {
                *seen = Seen { beat, holder, at_ms: now_ms };
            }
        }
        match self.member.and_then(|own| self.roll.members.get(&own)) {
            Some(own) if own.holder != self.own.holder => Err(Unseated::Replaced(self.own.node.name.clone())),
            None if self.renewed_ms.is_some() => Err(Unseated::Removed(self.own.node.name.clone())),
            _ => Ok(()),
        }
    }

    /// What is to be changed next, if anything; answered with [`Steward::changed`], and the roll is to be read again then. `users` says of
    /// each slot how many of its users are connected here.
    ///
    /// # Errors
    /// There is no place for this node.
    pub fn next(&mut self, now_ms: u64, users: impl FnOnce() -> Users) -> Result<Option<RollChange>, Unseated> {
        let Some(own) = self.member else { return self.enrol(now_ms).map(Some) };
        // Who ends says so first: otherwise the others give it its share again.
        let says_so = self.roll.members.get(&own).is_none_or(|member| member.is_leaving);
        if self.is_beat_due(now_ms) || (self.is_ending && !says_so) {
            return Ok(Some(self.beat(own)));
        }
        let Some(target) = self.target(now_ms) else { return Ok(None) };
        let is_dead = |member| self.is_dead(member, now_ms);
        let taken = Slot::all().filter(|slot| {
            let owner = self.roll.owners.get(&slot.lane());
            target.owner(*slot) == node_of(own) && owner.is_none_or(|owner| is_dead(owner.member))
        });
        let taken: Vec<_> = taken.take(SLOTS_CHANGE_MAX).collect();
        if !taken.is_empty() {
            return Ok(Some(self.hand_over(&taken, |_| own)));
        }
        let given = Slot::all().filter(|slot| self.is_own(*slot) && target.owner(*slot) != node_of(own));
        let mut given = given.peekable();
        if given.peek().is_none() || (now_ms < self.gives_ms && !self.is_ending) {
            return Ok(None);
        }
        // Together no more users than go in a fraction of a second, but one slot at least.
        let most = (self.own.moves_per_s / GIVES_PER_S) as usize;
        let (users, mut moved) = (users(), 0);
        let given = given.take_while(|slot| {
            let is_first = moved == 0;
            moved += users[usize::from(slot.0)];
            is_first || moved <= most || self.is_ending
        });
        let given: Vec<_> = given.take(SLOTS_CHANGE_MAX).collect();
        let moved: usize = given.iter().map(|slot| users[usize::from(slot.0)]).sum();
        // Who comes a little late, as after each transaction, has lost nothing of the pace; who has not given for longer begins anew.
        let is_going_on = now_ms < self.gives_ms + 1_000 / u64::from(GIVES_PER_S);
        let since_ms = if is_going_on { self.gives_ms } else { now_ms };
        self.gives_ms = since_ms + moved as u64 * 1_000 / u64::from(self.own.moves_per_s.max(1));
        Ok(Some(self.hand_over(&given, |slot| member_of(target.owner(slot)))))
    }

    /// What [`Steward::next`] said, asked for at `asked_ms`, was changed; or something was not as it was read.
    pub fn changed(&mut self, asked_ms: u64, change: &RollChange, is_made: bool) {
        let own = |(id, member): &(MemberId, Member)| (member.holder == self.own.holder).then_some(*id);
        if is_made && let Some(own) = change.members.iter().find_map(own) {
            self.member = Some(own);
            self.renewed_ms = Some(asked_ms);
        }
    }

    /// The change that an operator wants; none: it is so already.
    ///
    /// # Errors
    /// Why it can not be, in words.
    pub fn wished(&self, wish: &Wish) -> Result<Option<RollChange>, String> {
        let find = |name: &str| {
            let mut members = self.roll.members.iter().filter(|(_, member)| member.name == *name);
            members.next().map(|(id, member)| (*id, member)).ok_or_else(|| {
                let names: Vec<_> = self.roll.members.values().map(|member| member.name.as_str()).collect();
                format!("there is no node {name}; there are {}", names.join(", "))
            })
        };
        match wish {
            Wish::Leave(name, is_leaving) => {
                let (id, member) = find(name)?;
                let wanted = Member { is_leaving: *is_leaving, ..member.clone() };
                Ok((wanted != *member).then(|| RollChange {
                    expects_members: vec![(id, Some(member.clone()))],
                    members: vec![(id, wanted)],
                    ..RollChange::default()
                }))
            }
            Wish::Pin(slot, node) => {
                let Some(before) = self.roll.owners.get(&slot.lane()).copied() else {
                    return Err("slots have no owners yet".to_owned());
                };
                let member = match node {
                    Some(name) => find(name)?.0,
                    None => before.member,
                };
                let term = if member == before.member { before.term } else { before.term + 1 };
                let wanted = Owner { member, term, is_pinned: node.is_some() };
                Ok((wanted != before).then(|| RollChange {
                    expects_owners: vec![(slot.lane(), Some(before))],
                    owners: vec![(slot.lane(), wanted)],
                    ..RollChange::default()
                }))
            }
        }
    }

    /// This node is about to end: from now on it gives all that it owns away, as fast as it can.
    pub const fn end(&mut self) {
        self.is_ending = true;
    }

    /// Whether it owns nothing, or there is nobody to give it to.
    #[must_use]
    pub fn has_given_all(&self, now_ms: u64) -> bool {
        let (Some(own), Some(target)) = (self.member, self.target(now_ms)) else { return true };
        Slot::all().all(|slot| !self.is_own(slot) || target.owner(slot) == node_of(own))
    }

    /// Until when others take this node for alive, at least, in milliseconds of the clock by which it renews; 0: nobody does.
    #[must_use]
    pub fn lease_until_ms(&self) -> u64 {
        self.renewed_ms.map_or(0, |renewed_ms| renewed_ms + self.own.lease_ms)
    }

    /// When something is to be done next, if nothing happens before, in milliseconds.
    #[must_use]
    pub fn wakes_at_ms(&self, now_ms: u64) -> u64 {
        let look_ms = now_ms + self.beat_ms();
        if self.gives_ms > now_ms { look_ms.min(self.gives_ms) } else { look_ms }
    }

    /// The version of the map that was read last.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.roll.version()
    }

    /// What this node knows of the cluster now; none before it is one of it and all slots have owners.
    #[must_use]
    pub fn identity(&self, now_ms: u64) -> Option<Identity> {
        let own = node_of(self.member?);
        if self.roll.owners.len() < SLOTS {
            return None;
        }
        let owners = self.roll.owners.values().map(|owner| owner.member);
        let last = self.roll.members.keys().copied().chain(owners).max()?.0.min(SLOTS as u16 - 1);
        let node = |id| self.node(MemberId(id), now_ms);
        let term = |slot: usize| {
            let owner = self.roll.owners.get(&LaneId(slot as u16));
            owner.map_or(Term::default(), |owner| Term { number: owner.term, is_pinned: owner.is_pinned })
        };
        let nodes = Nodes {
            name: self.own.cluster.clone(),
            nodes: (0..=last).map(node).collect(),
            map: self.map()?,
            terms: Some(Box::new(std::array::from_fn(term))),
        };
        Some(Identity { nodes: Arc::new(nodes), own })
    }

    fn node(&self, id: MemberId, now_ms: u64) -> Node {
        let Some(member) = self.roll.members.get(&id) else {
            // Numbers are given one after the other, so this one's row is damaged or was removed by hand.
            let mesh = SocketAddr::from(([0, 0, 0, 0], 0));
            let (name, weight) = (format!("?{}", id.0), 1);
            return Node { name, mesh, clients: None, clients_tls: None, weight, is_leaving: true, is_dead: true };
        };
        let Member { name, mesh, clients, clients_tls, weight, is_leaving, .. } = member.clone();
        let mesh = mesh.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        Node { name, mesh, clients, clients_tls, weight, is_leaving, is_dead: self.is_dead(id, now_ms) }
    }

    // ---- changes

    /// Under a new number or, as a node that has been there before, under the same one: then what it owned begins a new term, so that
    /// nothing of its earlier life is committed any more.
    fn enrol(&self, now_ms: u64) -> Result<RollChange, Unseated> {
        let Node { name, mesh, clients, clients_tls, weight, .. } = &self.own.node;
        let before = self.roll.members.iter().find(|(_, member)| member.name == *name);
        let id = match before {
            Some((id, _)) => *id,
            None => MemberId(self.roll.members.keys().next_back().map_or(0, |last| last.0 + 1)),
        };
        if usize::from(id.0) >= SLOTS {
            return Err(Unseated::Full);
        }
        let others = self.roll.members.iter().filter(|(of, _)| **of != id);
        let taken = others.filter(|(of, _)| !self.is_dead(**of, now_ms)).find_map(|(_, other)| {
            let places = [
                (Some(mesh.to_string()), Some(other.mesh.clone())),
                (clients.clone(), other.clients.clone()),
                (clients_tls.clone(), other.clients_tls.clone()),
            ];
            let same = places.into_iter().find_map(|(own, others)| own.filter(|own| Some(own) == others.as_ref()))?;
            Some(Unseated::Address(other.name.clone(), same))
        });
        if let Some(taken) = taken {
            return Err(taken);
        }
        let member = Member {
            name: name.clone(),
            holder: self.own.holder,
            beat: before.map_or(0, |(_, member)| member.beat) + 1,
            mesh: mesh.to_string(),
            clients: clients.clone(),
            clients_tls: clients_tls.clone(),
            weight: *weight,
            is_leaving: false,
            lease_ms: self.own.lease_ms,
        };
        let owned = self.roll.owners.iter().filter(|(_, owner)| owner.member == id);
        let owned: Vec<_> = owned.map(|(lane, owner)| (*lane, *owner)).collect();
        Ok(RollChange {
            expects_members: vec![(id, before.map(|(_, member)| member.clone()))],
            expects_owners: owned.iter().map(|(lane, owner)| (*lane, Some(*owner))).collect(),
            members: vec![(id, member)],
            owners: owned.into_iter().map(|(lane, owner)| (lane, Owner { term: owner.term + 1, ..owner })).collect(),
        })
    }

    /// Several times a lease: one that does not succeed is followed by others before it is over.
    const fn beat_ms(&self) -> u64 {
        self.own.lease_ms / BEATS_A_LEASE
    }

    fn is_beat_due(&self, now_ms: u64) -> bool {
        self.renewed_ms.is_none_or(|renewed_ms| now_ms >= renewed_ms + self.beat_ms())
    }

    fn beat(&self, own: MemberId) -> RollChange {
        let before = self.roll.members.get(&own).cloned();
        let next = before.clone().map(|member| Member {
            beat: member.beat + 1,
            is_leaving: member.is_leaving || self.is_ending,
            ..member
        });
        RollChange {
            expects_members: vec![(own, before)],
            members: next.map(|member| (own, member)).into_iter().collect(),
            ..RollChange::default()
        }
    }

    /// These slots begin a new term with another owner. Not if their owner has done anything since the roll was read.
    fn hand_over(&self, slots: &[Slot], to: impl Fn(Slot) -> MemberId) -> RollChange {
        let before = |slot: &Slot| self.roll.owners.get(&slot.lane()).copied();
        let after = |slot: &Slot| Owner { member: to(*slot), term: self.roll.term(slot.lane()) + 1, is_pinned: false };
        let mut owners: Vec<_> = slots.iter().filter_map(before).map(|owner| owner.member).collect();
        owners.sort_unstable();
        owners.dedup();
        // What a node gives away itself may go though it has renewed its lease meanwhile.
        owners.retain(|owner| Some(*owner) != self.member);
        RollChange {
            expects_members: owners.into_iter().map(|id| (id, self.roll.members.get(&id).cloned())).collect(),
            expects_owners: slots.iter().map(|slot| (slot.lane(), before(slot))).collect(),
            members: Vec::new(),
            owners: slots.iter().map(|slot| (slot.lane(), after(slot))).collect(),
        }
    }

    // ---- what the roll says

    fn is_own(&self, slot: Slot) -> bool {
        self.roll.owners.get(&slot.lane()).is_some_and(|owner| Some(owner.member) == self.member)
    }

    /// Whether others have to do what this node did.
    fn is_dead(&self, id: MemberId, now_ms: u64) -> bool {
        let lease_ms = self.roll.members.get(&id).map_or(0, |member| member.lease_ms);
        let is_silent = |seen: &Seen| now_ms.saturating_sub(seen.at_ms) >= lease_ms;
        Some(id) != self.member && self.seen.get(&id).is_none_or(is_silent)
    }

    fn map(&self) -> Option<Map> {
        // A number that can not be is nobody's, and he is dead.
        let number = |member: MemberId| node_of(MemberId(member.0.min(SLOTS as u16 - 1)));
        Map::of(|slot| self.roll.owners.get(&slot.lane()).map(|owner| number(owner.member)))
    }

    /// Who is to own what, of those who are alive and stay; of all who are alive, if none stays. None: nobody is, as far as has been read.
    fn target(&self, now_ms: u64) -> Option<Map> {
        let is_alive = |(id, _): &(&MemberId, &Member)| !self.is_dead(**id, now_ms);
        let ends = |id: &MemberId| self.is_ending && Some(*id) == self.member;
        let alive: Vec<_> = self.roll.members.iter().filter(is_alive).collect();
        let candidate = |(id, member): &(&MemberId, &Member)| Candidate {
            node: node_of(**id),
            name: member.name.clone(),
            weight: member.weight.clamp(1, WEIGHT_MAX),
        };
        let stay = alive.iter().filter(|(id, member)| !member.is_leaving && !ends(id));
        let mut candidates: Vec<_> = stay.map(candidate).collect();
        if candidates.is_empty() {
            candidates = alive.iter().filter(|(id, _)| !ends(id)).map(candidate).collect();
        }
        if candidates.is_empty() {
            candidates = alive.iter().map(candidate).collect();
        }
        let pinned = |slot: Slot| self.roll.owners.get(&slot.lane()).is_some_and(|owner| owner.is_pinned);
        (!candidates.is_empty()).then(|| Map::propose_around(self.map().as_ref(), pinned, &candidates))
    }
}

const fn node_of(member: MemberId) -> NodeId {
    NodeId(member.0)
}

const fn member_of(node: NodeId) -> MemberId {
    MemberId(node.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE_MS: u64 = 3_000;

    fn nobody() -> Users {
        Box::new([0; SLOTS])
    }

    fn stewardship(name: &str, holder: u128) -> Stewardship {
        let node = Node {
            name: name.to_owned(),
            mesh: "127.0.0.1:1".parse().unwrap(),
            clients: Some(format!("{name}:1")),
            clients_tls: None,
            weight: 1,
            is_leaving: false,
            is_dead: false,
        };
        let node = Node { mesh: SocketAddr::from(([127, 0, 0, 1], u16::from(name.as_bytes()[0]))), ..node };
        let holder = Holder(holder);
        Stewardship { cluster: "chat".to_owned(), node, holder, lease_ms: LEASE_MS, moves_per_s: 1_000 }
    }

    /// A database, and whoever asks it.
    #[derive(Debug, Default)]
    struct World {
        roll: Roll,
        now_ms: u64,
        holders: u128,
    }

    impl World {
        fn join(&mut self, name: &str) -> Steward {
            self.holders += 1;
            let mut steward = Steward::new(stewardship(name, self.holders));
            self.round(&mut steward).unwrap();
            steward
        }

        fn change(&mut self, change: &RollChange) -> bool {
            change.check().expect("a steward keeps the rules of the roll");
            let is_made = self.roll.is_as_expected(change);
            if is_made {
                let version = self.roll.version();
                self.roll.apply(change);
                assert!(self.roll.version() >= version);
            }
            is_made
        }

        fn round(&mut self, steward: &mut Steward) -> Result<(), Unseated> {
            for _ in 0..100 {
                steward.read(self.now_ms, self.roll.clone())?;
                let Some(change) = steward.next(self.now_ms, nobody)? else { return Ok(()) };
                let is_made = self.change(&change);
                steward.changed(self.now_ms, &change, is_made);
            }
            panic!("it changes the roll for ever: {:?}", steward.next(self.now_ms, nobody));
        }

        /// What a node changes at this moment, three things at most, with so many users in each slot.
        fn give(&mut self, steward: &mut Steward, users: usize) {
            for _ in 0..3 {
                steward.read(self.now_ms, self.roll.clone()).unwrap();
                let Some(change) = steward.next(self.now_ms, || Box::new([users; SLOTS])).unwrap() else { return };
                let is_made = self.change(&change);
                steward.changed(self.now_ms, &change, is_made);
            }
        }

        /// So much time, in which these nodes do what they have to.
        fn pass(&mut self, ms: u64, stewards: &mut [&mut Steward]) {
            for _ in 0..ms / 100 {
                self.now_ms += 100;
                stewards.iter_mut().for_each(|steward| self.round(steward).unwrap());
            }
        }

        fn owned(&self, steward: &Steward) -> usize {
            self.roll.owners.values().filter(|owner| Some(owner.member) == steward.member).count()
        }

        fn wish(&mut self, steward: &Steward, wish: &Wish) {
            if let Some(change) = steward.wished(wish).unwrap() {
                assert!(self.change(&change));
            }
        }
    }

    #[test]
    fn the_first_owns_all_and_who_joins_gets_a_share_from_the_others() {
        let mut world = World::default();
        let mut a = world.join("a");
        assert_eq!(world.owned(&a), SLOTS);
        let (mut b, mut c) = (world.join("b"), world.join("c"));
        world.pass(1_000, &mut [&mut a, &mut b, &mut c]);
        assert_eq!([&a, &b, &c].map(|node| world.owned(node) / 85), [1; 3]);
        let identity = b.identity(world.now_ms).unwrap();
        assert_eq!((identity.own, identity.nodes.map.owned(NodeId(1))), (NodeId(1), world.owned(&b)));
        assert_eq!(identity.nodes.version(), world.roll.version());
        assert_eq!(identity.nodes.node(NodeId(2)).clients.as_deref(), Some("c:1"));
    }

    #[test]
    fn a_node_that_is_silent_for_a_lease_loses_its_slots_and_not_before() {
        let mut world = World::default();
        let (mut a, mut b, c) = (world.join("a"), world.join("b"), world.join("c"));
        world.pass(100, &mut [&mut a, &mut b]);
        let before: Vec<_> =
            world.roll.owners.clone().into_iter().filter(|(_, owner)| Some(owner.member) == c.member).collect();
        world.pass(LEASE_MS - 200, &mut [&mut a, &mut b]);
        assert_eq!(world.owned(&c), before.len(), "its lease is not over");
        world.pass(200, &mut [&mut a, &mut b]);
        assert_eq!(world.owned(&c), 0);
        for (lane, owner) in before {
            assert!(world.roll.term(lane) > owner.term, "what it has under way fails");
        }
        assert!(a.identity(world.now_ms).unwrap().nodes.node(NodeId(2)).is_dead);
    }

    #[test]
    fn who_stood_still_takes_nobody_for_dead_that_has_done_something_since() {
        let mut world = World::default();
        let (mut a, mut b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a, &mut b]);
        // One of them stands still for less than a lease of the other's, as that one sees it.
        world.pass(LEASE_MS - 500, &mut [&mut b]);
        world.pass(100, &mut [&mut a]);
        assert_eq!((world.owned(&a), world.owned(&b)), (128, 128));
        // And a change that was decided before it stood still, and is made after, changes nothing.
        let takes_over = loop {
            world.now_ms += 100;
            a.read(world.now_ms, world.roll.clone()).unwrap();
            let Some(change) = a.next(world.now_ms, nobody).unwrap() else { continue };
            if !change.owners.is_empty() {
                break change;
            }
            let is_made = world.change(&change);
            a.changed(world.now_ms, &change, is_made);
        };
        world.pass(100, &mut [&mut b]);
        assert!(!world.change(&takes_over), "the other one has renewed its lease");
        assert_eq!(world.owned(&b), 128);
    }

    #[test]
    fn after_a_time_in_which_nobody_could_reach_the_database_the_first_takes_nothing() {
        let mut world = World::default();
        let (mut a, mut b, mut c) = (world.join("a"), world.join("b"), world.join("c"));
        world.pass(1_000, &mut [&mut a, &mut b, &mut c]);
        let before = world.roll.version();
        world.now_ms += 2 * LEASE_MS;
        world.pass(400, &mut [&mut a]);
        world.pass(1_000, &mut [&mut a, &mut b, &mut c]);
        assert_eq!(world.roll.version(), before);
        world.pass(LEASE_MS + 200, &mut [&mut a, &mut b]);
        assert_eq!(world.owned(&c), 0, "who is silent then is dead");
    }

    #[test]
    fn a_roll_that_somebody_has_changed_by_hand_ends_a_node_in_words_and_no_process() {
        let mut world = World::default();
        let (mut a, b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a]);
        let whole = world.roll.clone();
        world.roll.members.remove(&b.member.unwrap());
        world.roll.owners.insert(LaneId(7), Owner { member: MemberId(9_000), term: 9, is_pinned: false });
        a.read(world.now_ms, world.roll.clone()).unwrap();
        let nodes = a.identity(world.now_ms).unwrap().nodes;
        for slot in Slot::all() {
            assert!(!nodes.node(nodes.map.owner(slot)).name.is_empty());
        }
        world.roll = whole;
        world.roll.members.remove(&a.member.unwrap());
        assert_eq!(world.round(&mut a), Err(Unseated::Removed("a".to_owned())));
        let mut twin = Steward::new(Stewardship {
            node: Node { name: "x".to_owned(), ..stewardship("b", 1).node },
            ..stewardship("b", 99)
        });
        world
            .roll
            .members
            .insert(b.member.unwrap(), Member { beat: 7, ..world.roll.members.values().next().unwrap().clone() });
        assert!(matches!(world.round(&mut twin), Err(Unseated::Address(name, _)) if name == "b"));
    }

    #[test]
    fn a_node_that_leaves_gives_all_it_has_one_by_one_no_faster_than_clients_may_come_back() {
        let mut world = World::default();
        let (mut a, mut b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a, &mut b]);
        world.wish(&b, &Wish::Leave("a".to_owned(), true));
        let mut steps = 0;
        while world.owned(&a) > 0 {
            world.now_ms += 10;
            world.round(&mut b).unwrap();
            let owned = world.owned(&a);
            // A hundred and fifty users in a slot, of whom a thousand a second may go.
            world.give(&mut a, 150);
            assert!(owned - world.owned(&a) <= 1);
            steps += 1;
        }
        assert!((127 * 15..130 * 15).contains(&steps), "{steps}");
        assert!(a.has_given_all(world.now_ms));
        world.pass(1_000, &mut [&mut a, &mut b]);
        assert_eq!((world.owned(&a), world.owned(&b)), (0, SLOTS));
        world.wish(&b, &Wish::Leave("a".to_owned(), false));
        world.pass(3_000, &mut [&mut a, &mut b]);
        assert_eq!((world.owned(&a), world.owned(&b)), (128, 128), "it stays after all");
        a.end();
        world.round(&mut a).unwrap();
        assert!(a.has_given_all(world.now_ms) && world.owned(&a) == 0, "at once");
        b.end();
        world.round(&mut b).unwrap();
        assert!(
            !b.has_given_all(world.now_ms) || world.owned(&b) == 0,
            "while the other one is there, it has to take them"
        );
    }

    #[test]
    fn a_round_that_comes_late_keeps_the_pace() {
        let mut world = World::default();
        let (mut a, mut b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a, &mut b]);
        world.wish(&b, &Wish::Leave("a".to_owned(), true));
        world.pass(10, &mut [&mut b]);
        let begin_ms = world.now_ms;
        let owned = world.owned(&a) as u64;
        while world.owned(&a) > 0 {
            // A group may go every 150 ms, and the rounds are 100 ms apart.
            world.now_ms += 100;
            world.round(&mut b).unwrap();
            world.give(&mut a, 150);
        }
        let took_ms = world.now_ms - begin_ms;
        assert!((150 * (owned - 2)..150 * (owned + 2)).contains(&took_ms), "{took_ms} ms for {owned} slots");
    }

    #[test]
    fn what_a_node_that_ends_gives_away_nobody_gives_back() {
        let mut world = World::default();
        let (mut a, mut b, mut c) = (world.join("a"), world.join("b"), world.join("c"));
        world.pass(1_000, &mut [&mut a, &mut b, &mut c]);
        let before = world.roll.version();
        a.end();
        world.pass(LEASE_MS, &mut [&mut a, &mut b, &mut c]);
        assert_eq!([&a, &b, &c].map(|node| world.owned(node)), [0, 128, 128]);
        assert!(
            world.roll.version() - before <= 2 * SLOTS as u64,
            "each slot goes once, and some once more to be shared evenly"
        );
        let mut a = world.join("a");
        world.pass(1_000, &mut [&mut a, &mut b, &mut c]);
        assert!(world.owned(&a) >= SLOTS / 3, "it has come back");
    }

    #[test]
    fn a_slot_that_is_pinned_stays_where_it_is_pinned() {
        let mut world = World::default();
        let (mut a, mut b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a, &mut b]);
        let slot = Slot::all().find(|slot| world.roll.owners[&slot.lane()].member == MemberId(0)).unwrap();
        world.wish(&a, &Wish::Pin(slot, Some("b".to_owned())));
        world.pass(1_000, &mut [&mut a, &mut b]);
        assert_eq!(world.roll.owners[&slot.lane()].member, MemberId(1));
        assert_eq!((world.owned(&a), world.owned(&b)), (128, 128), "another one went for it");
        world.pass(2 * LEASE_MS, &mut [&mut a]);
        assert_eq!(world.roll.owners[&slot.lane()].member, MemberId(0), "b is dead");
        assert!(a.wished(&Wish::Pin(slot, Some("x".to_owned()))).unwrap_err().contains("a, b"));
        assert_eq!(a.wished(&Wish::Pin(slot, None)), Ok(None), "its pin went with its node");
    }

    #[test]
    fn of_two_of_one_name_the_later_one_serves_and_what_the_earlier_one_owned_begins_a_new_term() {
        let mut world = World::default();
        let (mut a, mut b) = (world.join("a"), world.join("b"));
        world.pass(1_000, &mut [&mut a, &mut b]);
        let terms = world.roll.clone();
        let mut again = world.join("a");
        assert_eq!((again.member, world.owned(&again)), (a.member, 128), "its slots are its own again at once");
        for (lane, owner) in terms.owners.iter().filter(|(_, owner)| Some(owner.member) == a.member) {
            assert_eq!(world.roll.term(*lane), owner.term + 1);
        }
        assert_eq!(world.round(&mut a), Err(Unseated::Replaced("a".to_owned())));
        world.pass(1_000, &mut [&mut again, &mut b]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Join(usize),
        Kill(usize),
        Read(usize),
        Decide(usize),
        Change(usize),
        Leave(usize, bool),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..4_usize).prop_map(Step::Join),
            1 => (0..4_usize).prop_map(Step::Kill),
            8 => (0..4_usize).prop_map(Step::Read),
            8 => (0..4_usize).prop_map(Step::Decide),
            8 => (0..4_usize).prop_map(Step::Change),
            1 => ((0..4_usize), any::<bool>()).prop_map(|(node, is_leaving)| Step::Leave(node, is_leaving)),
            4 => (1..2_000_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn whatever_happens_those_who_are_there_own_their_shares_in_the_end(steps in prop::collection::vec(step(), 0..300)) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let mut world = World::default();
            let mut nodes: [Option<Steward>; 4] = [const { None }; 4];
            // What each has decided, and when; it reaches the database later.
            let mut decided: [Option<(u64, RollChange)>; 4] = [const { None }; 4];
            for step in steps {
                match step {
                    Step::Join(at) => {
                        world.holders += 1;
                        nodes[at] = Some(Steward::new(stewardship(NAMES[at], world.holders)));
                        decided[at] = None;
                    }
                    Step::Kill(at) => nodes[at] = None,
                    Step::Read(at) => {
                        if let Some(node) = &mut nodes[at] {
                            node.read(world.now_ms, world.roll.clone()).expect("there is one of each name");
                        }
                    }
                    Step::Decide(at) => {
                        if let Some(node) = nodes[at].as_mut().filter(|_| decided[at].is_none()) {
                            decided[at] = node.next(world.now_ms, nobody).unwrap().map(|change| (world.now_ms, change));
                        }
                    }
                    Step::Change(at) => {
                        if let Some((asked_ms, change)) = decided[at].take() {
                            let is_made = world.change(&change);
                            if let Some(node) = &mut nodes[at] {
                                node.changed(asked_ms, &change, is_made);
                            }
                        }
                    }
                    Step::Leave(at, is_leaving) => {
                        if let Some(node) = &nodes[at]
                            && let Ok(Some(change)) = node.wished(&Wish::Leave(NAMES[at].to_owned(), is_leaving))
                        {
                            world.change(&change);
                        }
                    }
                    Step::Pass(ms) => world.now_ms += ms,
                }
            }
            let mut alive: Vec<_> = nodes.iter_mut().flatten().collect();
            world.pass(3 * LEASE_MS, &mut alive);
            let stays = |node: &&mut Steward| !world.roll.members[&node.member.unwrap()].is_leaving;
            let staying = alive.iter().filter(|node| stays(node)).count();
            for node in &alive {
                let is_one = staying == 0 || stays(node);
                let share = if is_one { SLOTS / if staying == 0 { alive.len() } else { staying } } else { 0 };
                prop_assert!((share..=share + 1).contains(&world.owned(node)), "{share}, {}", world.owned(node));
            }
            let members: Vec<_> = alive.iter().map(|node| node.member).collect();
            if !alive.is_empty() {
                prop_assert!(world.roll.owners.values().all(|owner| members.contains(&Some(owner.member))));
            }
        }
    }
}
