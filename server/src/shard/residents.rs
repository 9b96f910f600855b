//! Residents: which users, or which conversations, are in memory, and what waits for those that are being loaded.
//!
//! Pure data; `loading` asks the store, and serves those who have waited. Invariants: what is being loaded is asked for once, by whoever
//! comes first; what waits is served in its order; [`Residents::held_bytes`] is the sum of all that waits; what is forgotten is in the
//! store as it was ([`User::is_unused`], [`Conversation::is_unused`]), so a load never sees an old state.

use std::{collections::HashMap, hash::Hash};

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, UserId};

use super::{
    loading::{ConversationWaiting, UserWaiting},
    user::{Conversation, User},
};

/// The users of a shard.
pub(super) type Users = Residents<UserId, Box<User>, UserWaiting>;

/// The conversations of a shard, by whose side it is.
pub(super) type Conversations = Residents<(UserId, ConversationId), Conversation, ConversationWaiting>;

/// Something that waits until something is loaded.
pub(super) trait Waits {
    /// What it takes in memory meanwhile, in bytes, if others decide how much that is.
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
enum Slot<T, W> {
    Loading(Vec<W>),
    Resident(T),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Residents<K, T, W> {
    slots: HashMap<K, Slot<T, W>, RandomState>,
    held_bytes: usize,
}

impl<K, T, W> Default for Residents<K, T, W> {
    fn default() -> Self {
        Self { slots: HashMap::default(), held_bytes: 0 }
    }
}

impl<K: Copy + Eq + Hash, T, W: Waits> Residents<K, T, W> {
    pub(super) fn resident(&mut self, key: K) -> Option<&mut T> {
        match self.slots.get_mut(&key) {
            Some(Slot::Resident(resident)) => Some(resident),
            Some(Slot::Loading(_)) | None => None,
        }
    }

    pub(super) fn is_resident(&self, key: K) -> bool {
        matches!(self.slots.get(&key), Some(Slot::Resident(_)))
    }

    /// All that are here.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slots.iter_mut().filter_map(|(key, slot)| match slot {
            Slot::Resident(resident) => Some((*key, resident)),
            Slot::Loading(_) => None,
        })
    }

    /// How much waits for one that is being loaded.
    pub(super) fn waiting(&self, key: K) -> usize {
        match self.slots.get(&key) {
            Some(Slot::Loading(waiting)) => waiting.len(),
            Some(Slot::Resident(_)) | None => 0,
        }
    }

    /// Lets something wait for one that is not resident. True: nobody has asked for it yet.
    #[must_use]
    pub(super) fn wait(&mut self, key: K, waits: W) -> bool {
        self.held_bytes += waits.bytes();
        match self.slots.entry(key).or_insert_with(|| Slot::Loading(Vec::new())) {
            Slot::Loading(waiting) => {
                waiting.push(waits);
                waiting.len() == 1
            }
            Slot::Resident(_) => unreachable!("nothing waits for what is here"),
        }
    }

    /// It is here. What has waited for it.
    pub(super) fn loaded(&mut self, key: K, resident: T) -> Vec<W> {
        let before = self.slots.insert(key, Slot::Resident(resident));
        self.served(before)
    }

    /// It could not be read. What has waited for it.
    pub(super) fn unreadable(&mut self, key: K) -> Vec<W> {
        let before = self.slots.remove(&key);
        self.served(before)
    }

    fn served(&mut self, before: Option<Slot<T, W>>) -> Vec<W> {
        let Some(Slot::Loading(waiting)) = before else { unreachable!("what was asked for is being loaded") };
        self.held_bytes -= waiting.iter().map(W::bytes).sum::<usize>();
        waiting
    }

    /// Forgets one that is not used. What was known of it.
    pub(super) fn forget_if(&mut self, key: K, is_unused: impl FnOnce(&T) -> bool) -> Option<T> {
        if !matches!(self.slots.get(&key), Some(Slot::Resident(resident)) if is_unused(resident)) {
            return None;
        }
        match self.slots.remove(&key) {
            Some(Slot::Resident(resident)) => Some(resident),
            Some(Slot::Loading(_)) | None => None,
        }
    }

    /// Forgets those of these that are here. What was known of them.
    pub(super) fn remove_where(&mut self, is_gone: impl Fn(&K) -> bool) -> Vec<(K, T)> {
        let gone = self.slots.extract_if(|key, slot| is_gone(key) && matches!(slot, Slot::Resident(_)));
        gone.filter_map(|(key, slot)| match slot {
            Slot::Resident(resident) => Some((key, resident)),
            Slot::Loading(_) => None,
        })
        .collect()
    }

    /// How many are here or being loaded.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
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
