//! PURE: the roll of a cluster: what its database says of which nodes there are, and which of them owns which slot.
//!
//! Owns what the rows mean and how they change. Does not own who should own what, or when somebody has gone: that is the cluster's.
//!
//! In a cluster the lane of a user *is* the user's slot, so a slot is named by its [`LaneId`].
//!
//! Invariants: a change is made as a whole, or nothing of it; it sets no row of which it does not say how it expects it, so one that
//! comes late finds its rows changed and does nothing; terms only grow, and within a term a slot has one owner; the batches of a lane are counted
//! from one in each term.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::LaneId,
    store::{Holder, MovedLane, Step, StoreError},
};

/// The number of a member. Given by whoever enrols it, and never to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u16);

/// What the roll says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its operators call it.
    pub name: String,
    /// Random, made with each start of the node: who finds another one here has been replaced.
    pub holder: Holder,
    /// Counted up by the node while it lives.
    pub beat: u64,
    /// Where other nodes reach it.
    pub mesh: String,
    /// Where clients reach it without TLS, if they do.
    pub clients: Option<String>,
    /// Where clients reach it by TLS, if they do.
    pub clients_tls: Option<String>,
    /// How much it should own, beside what the others should.
    pub weight: u16,
    /// It is to give away what it owns.
    pub is_leaving: bool,
    /// How long it is taken for alive after it has counted up its beat, in milliseconds.
    pub lease_ms: u64,
}

/// What the roll says of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose it is.
    pub member: MemberId,
    /// Grows with each owner; the first has 1. Who numbered entries in an earlier one can never commit them.
    pub term: u64,
    /// It stays with this member while that is alive.
    pub is_pinned: bool,
}

/// All rows, as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// The nodes.
    pub members: BTreeMap<MemberId, Member>,
    /// The slots that have or had an owner.
    pub owners: BTreeMap<LaneId, Owner>,
}

impl Roll {
    /// Of two rolls of one cluster that say different owners, the later one has the higher version: the sum of all terms.
    #[must_use]
    pub fn version(&self) -> u64 {
        version(self.owners.values())
    }

    /// The term of a slot; 0 before it has had an owner.
    #[must_use]
    pub fn term(&self, lane: LaneId) -> u64 {
        term(self.owners.get(&lane))
    }

    /// Whether everything is as the change expects it.
    #[must_use]
    pub fn is_as_expected(&self, change: &RollChange) -> bool {
        change.expects_members.iter().all(|(id, expected)| self.members.get(id) == expected.as_ref())
            && change.expects_owners.iter().all(|(lane, expected)| self.owners.get(lane) == expected.as_ref())
    }

    /// Sets what the change sets, whatever it expects.
    pub fn apply(&mut self, change: &RollChange) {
        self.members.extend(change.members.iter().cloned());
        self.owners.extend(change.owners.iter().copied());
    }
}

/// See [`Roll::version`].
pub(crate) fn version<'a>(owners: impl Iterator<Item = &'a Owner>) -> u64 {
    owners.fold(0, |version, owner| version.saturating_add(owner.term))
}

fn term(owner: Option<&Owner>) -> u64 {
    owner.map_or(0, |owner| owner.term)
}

/// What is to be written into the roll, if it is as expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollChange {
    /// How these must be; none: there is no such row.
    pub expects_members: Vec<(MemberId, Option<Member>)>,
    /// How these must be; none: there is no such row.
    pub expects_owners: Vec<(LaneId, Option<Owner>)>,
    /// What is set, of those that are expected somehow.
    pub members: Vec<(MemberId, Member)>,
    /// What is set, of those that are expected somehow.
    pub owners: Vec<(LaneId, Owner)>,
}

impl RollChange {
    /// Whether it keeps what the head of this file says.
    ///
    /// # Errors
    /// It names a row twice, sets one that it does not expect, takes a term back, or gives a slot to another member in the same term.
    pub fn check(&self) -> Result<(), StoreError> {
        let members = by_row("member", self.expects_members.iter().map(|(id, expected)| (id.0, expected.as_ref())))?;
        let owners = by_row("slot", self.expects_owners.iter().map(|(lane, expected)| (lane.0, expected.as_ref())))?;
        let set_members = by_row("member", self.members.iter().map(|(id, _)| (id.0, ())))?;
        let set_owners = by_row("slot", self.owners.iter().map(|(lane, owner)| (lane.0, owner)))?;
        if let Some(id) = set_members.keys().find(|id| !members.contains_key(id)) {
            return Err(refused(&format!("it does not say how it expects member {id}")));
        }
        for (lane, owner) in set_owners {
            let Some(expected) = owners.get(&lane) else {
                return Err(refused(&format!("it does not say how it expects slot {lane}")));
            };
            let (held, set) = (term(*expected), owner.term);
            if set < held || set == 0 {
                return Err(refused(&format!("slot {lane} is in term {held}, and would go to {set}")));
            }
            if set == held && expected.is_some_and(|expected| expected.member != owner.member) {
                return Err(refused(&format!("slot {lane} would have two owners in term {set}")));
            }
        }
        Ok(())
    }

    /// The slots that begin a new term with it.
    pub(crate) fn begun(&self) -> BTreeSet<LaneId> {
        let held: BTreeMap<LaneId, u64> =
            self.expects_owners.iter().map(|(lane, expected)| (*lane, term(expected.as_ref()))).collect();
        self.owners.iter().filter(|(lane, owner)| held.get(lane) != Some(&owner.term)).map(|(lane, _)| *lane).collect()
    }
}

fn by_row<T>(what: &str, rows: impl Iterator<Item = (u16, T)>) -> Result<BTreeMap<u16, T>, StoreError> {
    let mut by_row = BTreeMap::new();
    for (id, row) in rows {
        if by_row.insert(id, row).is_some() {
            return Err(refused(&format!("it names {what} {id} twice")));
        }
    }
    Ok(by_row)
}

fn refused(why: &str) -> StoreError {
    StoreError::Refused { reason: format!("a change of the roll is wrong: {why}") }
}

/// Whether the lanes of these steps, each with its owner, are in the terms in which their batches were numbered.
pub(crate) fn check_terms(steps: impl IntoIterator<Item = (Step, Option<Owner>)>) -> Result<(), StoreError> {
    let moved = steps.into_iter().filter_map(|(Step { lane, term: held, .. }, owner)| {
        let current = term(owner.as_ref());
        (current != held).then_some(MovedLane { lane, held, current })
    });
    let lanes: Vec<_> = moved.collect();
    if lanes.is_empty() { Ok(()) } else { Err(StoreError::Moved { lanes }) }
}

/// What an advance is fenced by: steps that have a term by that, everything else by the store's fence.
pub(crate) fn is_fenced_by_terms(steps: &[Step]) -> bool {
    !steps.is_empty() && steps.iter().all(|step| step.term > 0)
}

/// What is said to a server alone that comes to the store of a cluster.
pub(crate) fn is_a_clusters(name: &str) -> StoreError {
    let reason = format!(
        "this store is served by the nodes of the cluster {name:?}: give the server a [cluster] section with that name, or another \
         store"
    );
    StoreError::Refused { reason }
}

/// What is said to a node that comes to the store of another cluster.
pub(crate) fn is_another_clusters(found: &str, wanted: &str) -> StoreError {
    let reason = format!(
        "this store is that of the cluster {found:?}, and this node is of the cluster {wanted:?}: one of the two names is wrong, or \
         the place of the store is"
    );
    StoreError::Refused { reason }
}

/// What an embedded store says to all of this.
pub(crate) fn is_one_servers() -> StoreError {
    let reason = "an embedded store is one server's: a cluster whose slots move needs FoundationDB".to_owned();
    StoreError::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    fn member(beat: u64) -> Member {
        Member {
            name: "a".to_owned(),
            holder: Holder(1),
            beat,
            mesh: "a:1".to_owned(),
            clients: None,
            clients_tls: None,
            weight: 1,
            is_leaving: false,
            lease_ms: 3_000,
        }
    }

    const fn owner(member: MemberId, term: u64) -> Owner {
        Owner { member, term, is_pinned: false }
    }

    fn slot(expected: Option<Owner>, set: Owner) -> RollChange {
        RollChange {
            expects_owners: vec![(LaneId(7), expected)],
            owners: vec![(LaneId(7), set)],
            ..RollChange::default()
        }
    }

    #[test]
    fn a_change_that_could_come_late_unnoticed_or_takes_a_term_back_is_refused() {
        let right = slot(Some(owner(A, 2)), owner(B, 3));
        right.check().unwrap();
        slot(None, owner(A, 1)).check().unwrap();
        slot(Some(owner(A, 2)), Owner { is_pinned: true, ..owner(A, 2) }).check().unwrap();
        let enrols =
            RollChange { expects_members: vec![(A, None)], members: vec![(A, member(1))], ..RollChange::default() };
        enrols.check().unwrap();
        for wrong in [
            slot(Some(owner(A, 2)), owner(B, 1)),
            slot(Some(owner(A, 2)), owner(B, 2)),
            slot(None, owner(A, 0)),
            RollChange { expects_owners: vec![], ..right.clone() },
            RollChange {
                expects_owners: [right.expects_owners.clone(), right.expects_owners.clone()].concat(),
                ..right.clone()
            },
            RollChange { owners: [right.owners.clone(), right.owners.clone()].concat(), ..right.clone() },
            RollChange { expects_members: vec![], ..enrols.clone() },
            RollChange { members: [enrols.members.clone(), enrols.members.clone()].concat(), ..enrols.clone() },
            RollChange {
                expects_members: [enrols.expects_members.clone(), enrols.expects_members.clone()].concat(),
                ..enrols
            },
        ] {
            assert!(matches!(wrong.check(), Err(StoreError::Refused { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn the_slots_whose_term_changes_begin_anew() {
        let mut change = slot(Some(owner(A, 2)), owner(B, 3));
        change.expects_owners.push((LaneId(8), Some(owner(A, 5))));
        change.owners.push((LaneId(8), Owner { is_pinned: true, ..owner(A, 5) }));
        change.expects_owners.push((LaneId(9), None));
        change.owners.push((LaneId(9), owner(A, 1)));
        assert_eq!(change.begun().into_iter().collect::<Vec<_>>(), [LaneId(7), LaneId(9)]);
    }

    #[test]
    fn the_version_of_a_roll_grows_with_each_term() {
        let mut roll = Roll::default();
        assert_eq!((roll.version(), roll.term(LaneId(7))), (0, 0));
        roll.apply(&slot(None, owner(A, 1)));
        roll.owners.insert(LaneId(8), owner(A, 4));
        assert_eq!((roll.version(), roll.term(LaneId(7))), (5, 1));
        let moves = slot(Some(owner(A, 1)), owner(B, 2));
        assert!(roll.is_as_expected(&moves));
        roll.apply(&moves);
        assert_eq!((roll.version(), roll.term(LaneId(7))), (6, 2));
        assert!(!roll.is_as_expected(&moves));
        roll.owners.insert(LaneId(9), owner(A, u64::MAX));
        assert_eq!(roll.version(), u64::MAX);
    }

    #[test]
    fn steps_are_fenced_by_their_terms_if_they_have_any() {
        let step = |lane, term| Step { lane: LaneId(lane), term, ..Step::default() };
        assert!(!is_fenced_by_terms(&[]) && !is_fenced_by_terms(&[step(1, 0)]));
        assert!(!is_fenced_by_terms(&[step(1, 3), step(2, 0)]) && is_fenced_by_terms(&[step(1, 3), step(2, 1)]));
        let held = (step(1, 3), Some(owner(A, 3)));
        check_terms([held]).unwrap();
        let Err(error) = check_terms([(step(2, 2), Some(owner(A, 3))), held, (step(3, 1), None)]) else { panic!() };
        assert_eq!(
            error.to_string(),
            "slots have other owners: 2 is in term 3 and not in 2, 3 is in term 0 and not in 1"
        );
    }
}
