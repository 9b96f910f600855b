//! Residents: which users, or which conversations, are in memory, and what waits for those that are being loaded.
//!
//! Pure data; `loading` asks the store, and serves those who have waited. Invariants: what is being loaded is asked for once, by whoever
//! comes first; what waits is served in its order; [`Residents::held_bytes`] is the sum of all that waits; what is forgotten is in the
//! store as it was ([`User::is_unused`], [`Conversation::is_unused`]), so a load never sees an old state; where slots move, what is of one
//! slot is in one place, so that a slot goes without a look at what stays.

use std::{collections::HashMap, hash::Hash, iter};

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, GroupId, UserId};
use storage::{LaneId, group::beside};

use super::{
    loading::{ConversationWaiting, UserWaiting},
    user::{Conversation, User},
};
use crate::cluster::map;

/// The users of a shard.
pub(super) type Users = Residents<UserId, Box<User>, UserWaiting>;

/// The conversations of a shard, by whose side it is.
pub(super) type Conversations = Residents<(UserId, ConversationId), Conversation, ConversationWaiting>;

/// Something that waits until something is loaded.
pub(super) trait Waits {
    /// What it takes in memory meanwhile, in bytes, if others decide how much that is.
    fn bytes(&self) -> usize;
}

/// What residents are found by.
pub(super) trait Key: Copy + Eq + Hash {
    /// Whose it is; of a group, whom it lies beside.
    fn user(self) -> UserId;
}

impl Key for UserId {
    fn user(self) -> UserId {
        self
    }
}

impl Key for GroupId {
    fn user(self) -> UserId {
        beside(self)
    }
}

impl Key for (UserId, ConversationId) {
    fn user(self) -> UserId {
        self.0
    }
}

#[derive(Debug)]
enum Slot<T, W> {
    Loading(Vec<W>),
    Resident(T),
}

type Place<K, T, W> = HashMap<K, Slot<T, W>, RandomState>;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Residents<K, T, W> {
    /// All, where slots do not move.
    all: Place<K, T, W>,
    /// Where they do: those of each slot that is a lane of this core.
    of_slots: Box<[Place<K, T, W>]>,
    /// The first of these.
    first: LaneId,
    held_bytes: usize,
}

impl<K, T, W> Default for Residents<K, T, W> {
    fn default() -> Self {
        Self { all: HashMap::default(), of_slots: Box::default(), first: LaneId(0), held_bytes: 0 }
    }
}

impl<K, T, W> Residents<K, T, W> {
    /// Those of these slots, which lie side by side.
    pub(super) fn by_slot(mut slots: impl ExactSizeIterator<Item = LaneId>) -> Self {
        let of_slots = (0..slots.len()).map(|_| HashMap::default()).collect();
        Self { of_slots, first: slots.next().unwrap_or_default(), ..Self::default() }
    }
}

impl<K: Key, T, W: Waits> Residents<K, T, W> {
    /// Which of the places is a slot's.
    fn at(&self, slot: map::Slot) -> usize {
        usize::from(slot.lane().0.wrapping_sub(self.first.0)) % self.of_slots.len()
    }

    #[inline]
    fn place(&mut self, key: K) -> &mut Place<K, T, W> {
        if self.of_slots.is_empty() { &mut self.all } else { self.place_of_slot(key) }
    }

    // Not inlined, as the other one: where slots do not move that would cost each message and each login another 2 %.
    #[inline(never)]
    fn place_of_slot(&mut self, key: K) -> &mut Place<K, T, W> {
        let at = self.at(map::Slot::of(key.user()));
        &mut self.of_slots[at]
    }

    #[inline]
    fn get(&self, key: K) -> Option<&Slot<T, W>> {
        if self.of_slots.is_empty() { self.all.get(&key) } else { self.get_of_slot(key) }
    }

    #[inline(never)]
    fn get_of_slot(&self, key: K) -> Option<&Slot<T, W>> {
        self.of_slots[self.at(map::Slot::of(key.user()))].get(&key)
    }

    pub(super) fn resident(&mut self, key: K) -> Option<&mut T> {
        match self.place(key).get_mut(&key) {
            Some(Slot::Resident(resident)) => Some(resident),
            Some(Slot::Loading(_)) | None => None,
        }
    }

    pub(super) fn is_resident(&self, key: K) -> bool {
        matches!(self.get(key), Some(Slot::Resident(_)))
    }

    /// All that are here.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        iter::once(&mut self.all).chain(&mut self.of_slots).flatten().filter_map(|(key, slot)| match slot {
            Slot::Resident(resident) => Some((*key, resident)),
            Slot::Loading(_) => None,
        })
    }

    /// How much waits for one that is being loaded.
    pub(super) fn waiting(&self, key: K) -> usize {
        match self.get(key) {
            Some(Slot::Loading(waiting)) => waiting.len(),
            Some(Slot::Resident(_)) | None => 0,
        }
    }

    /// Lets something wait for one that is not resident. True: nobody has asked for it yet.
    #[must_use]
    pub(super) fn wait(&mut self, key: K, waits: W) -> bool {
        self.held_bytes += waits.bytes();
        match self.place(key).entry(key).or_insert_with(|| Slot::Loading(Vec::new())) {
            Slot::Loading(waiting) => {
                waiting.push(waits);
                waiting.len() == 1
            }
            Slot::Resident(_) => unreachable!("nothing waits for what is here"),
        }
    }

    /// It is here. What has waited for it.
    pub(super) fn loaded(&mut self, key: K, resident: T) -> Vec<W> {
        let before = self.place(key).insert(key, Slot::Resident(resident));
        self.served(before)
    }

    /// It could not be read. What has waited for it.
    pub(super) fn unreadable(&mut self, key: K) -> Vec<W> {
        let before = self.place(key).remove(&key);
        self.served(before)
    }

    fn served(&mut self, before: Option<Slot<T, W>>) -> Vec<W> {
        let Some(Slot::Loading(waiting)) = before else { unreachable!("what was asked for is being loaded") };
        self.held_bytes -= waiting.iter().map(W::bytes).sum::<usize>();
        waiting
    }

    /// Forgets one that is not used. What was known of it.
    pub(super) fn forget_if(&mut self, key: K, is_unused: impl FnOnce(&T) -> bool) -> Option<T> {
        if !matches!(self.get(key), Some(Slot::Resident(resident)) if is_unused(resident)) {
            return None;
        }
        match self.place(key).remove(&key) {
            Some(Slot::Resident(resident)) => Some(resident),
            Some(Slot::Loading(_)) | None => None,
        }
    }

    /// Forgets those that are here of a slot, which is a lane of this core. What was known of them: nothing, where slots do not move.
    pub(super) fn remove_slot(&mut self, slot: map::Slot) -> Vec<(K, T)> {
        if self.of_slots.is_empty() {
            return Vec::new();
        }
        let is_gone =
            |key: &K, known: &mut Slot<T, W>| matches!(known, Slot::Resident(_)) && map::Slot::of(key.user()) == slot;
        let at = self.at(slot);
        let gone = self.of_slots[at].extract_if(is_gone);
        gone.filter_map(|(key, slot)| match slot {
            Slot::Resident(resident) => Some((key, resident)),
            Slot::Loading(_) => None,
        })
        .collect()
    }

    /// How many are here or being loaded.
    pub(super) fn len(&self) -> usize {
        self.all.len() + self.of_slots.iter().map(HashMap::len).sum::<usize>()
    }

    /// What all that waits takes in memory, in bytes.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// So many bytes.
    #[derive(Debug, PartialEq)]
    struct Waiter(usize);

    impl Waits for Waiter {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    impl Key for u8 {
        fn user(self) -> UserId {
            UserId(self.into())
        }
    }

    type Known = Residents<u8, &'static str, Waiter>;

    #[test]
    fn who_comes_first_asks_and_all_are_served_in_their_order() {
        let mut residents = Known::default();
        assert!(residents.wait(1, Waiter(10)));
        assert!(!residents.wait(1, Waiter(20)), "it has been asked for");
        assert!(residents.wait(2, Waiter(5)));
        assert_eq!((residents.waiting(1), residents.held_bytes(), residents.len()), (2, 35, 2));
        assert_eq!(residents.resident(1), None, "not yet");
        assert_eq!(residents.loaded(1, "one"), [Waiter(10), Waiter(20)]);
        assert_eq!(residents.resident(1), Some(&mut "one"));
        assert_eq!(residents.unreadable(2), [Waiter(5)]);
        assert!(residents.is_resident(1) && !residents.is_resident(2));
        assert_eq!((residents.held_bytes(), residents.len()), (0, 1));
        assert!(residents.wait(2, Waiter(7)), "it is asked for again");
    }

    #[test]
    fn what_is_used_or_being_loaded_is_not_forgotten() {
        let mut residents = Known::default();
        assert!(residents.wait(1, Waiter(10)));
        assert_eq!(residents.forget_if(1, |_| true), None, "it is being loaded");
        residents.loaded(1, "one");
        assert_eq!(residents.forget_if(1, |_| false), None);
        assert_eq!(residents.forget_if(1, |known| *known == "one"), Some("one"));
        assert_eq!((residents.forget_if(1, |_| true), residents.len()), (None, 0));
    }

    #[test]
    fn a_slot_goes_with_all_that_is_here_of_it_and_nothing_else() {
        let slots = || (64..128).map(LaneId);
        let users =
            || (1..1_000_u64).map(UserId).filter(|user| slots().any(|slot| slot == map::Slot::of(*user).lane()));
        let mut residents = Residents::<UserId, UserId, Waiter>::by_slot(slots());
        for user in users() {
            assert!(residents.wait(user, Waiter(1)));
        }
        let loading = users().nth(3).unwrap();
        for user in users().filter(|user| *user != loading) {
            residents.loaded(user, user);
        }
        assert!(users().all(|user| residents.is_resident(user) != (user == loading)));
        let (all, lost) = (residents.len(), map::Slot::of(loading));
        let gone: Vec<_> = residents.remove_slot(lost).into_iter().map(|(user, _)| user).collect();
        let expected = users().filter(|user| map::Slot::of(*user) == lost && *user != loading);
        assert!(
            !gone.is_empty() && expected.clone().all(|user| gone.contains(&user)) && gone.len() == expected.count()
        );
        assert_eq!((residents.len(), residents.waiting(loading)), (all - gone.len(), 1), "it is still loaded");
        assert!(residents.iter_mut().all(|(user, known)| user == *known && !gone.contains(&user)));
        let sizes = residents.of_slots.iter().map(HashMap::len);
        assert!(sizes.max() <= Some(20), "what is of other slots is not looked at");
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_what_waits(steps in prop::collection::vec((0..5u8, 0..4u8, 0..1_000usize), 0..200)) {
            let mut residents = Known::default();
            let mut waiting: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
            for (key, step, bytes) in steps {
                match (step, waiting.contains_key(&key)) {
                    (0 | 1, is_asked) if !residents.is_resident(key) => {
                        prop_assert_eq!(residents.wait(key, Waiter(bytes)), !is_asked);
                        waiting.entry(key).or_default().push(bytes);
                    }
                    (2, true) => {
                        let served: Vec<_> = residents.loaded(key, "").into_iter().map(|waiter| waiter.0).collect();
                        prop_assert_eq!(Some(served), waiting.remove(&key));
                    }
                    (3, true) => {
                        let served: Vec<_> = residents.unreadable(key).into_iter().map(|waiter| waiter.0).collect();
                        prop_assert_eq!(Some(served), waiting.remove(&key));
                    }
                    _ => drop(residents.forget_if(key, |_| true)),
                }
                prop_assert_eq!(residents.held_bytes(), waiting.values().flatten().sum::<usize>());
                prop_assert_eq!(residents.waiting(key), waiting.get(&key).map_or(0, Vec::len));
            }
        }
    }
}
