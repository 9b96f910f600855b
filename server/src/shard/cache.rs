//! Cache: whose [`Opened`] is kept, so that an app opens without a read of the store.
//!
//! It is kept for users who have asked for their inbox, and who stay in memory for it after they have gone; those who have not asked for
//! longest make room. What is released goes into it in the same step in which devices may see it, so it is never stale.
//!
//! Invariant: [`Cache::bytes`] is the sum of [`cost`] over all users who have something kept, and no more than the core may take.

use std::collections::BTreeMap;

use proto_spec::{ConversationId, Entry, UserId};

use super::{
    Shard,
    opened::{KeptOfUser, Opened, Shown},
    residents::Conversations,
    user::{Device, Standing, User},
};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Of one user.
    pub user: KeptOfUser,
    /// Bytes of memory of all users of a core.
    pub core_bytes: usize,
}

impl CacheLimits {
    /// What the configuration says where an operator does not: a screen of messages of the conversations that are looked at most. Texts are
    /// short, so most users take a quarter of what one may take; and so a core has room for the 10,000 that it serves at a time.
    pub const DEFAULT: Self =
        Self { user: KeptOfUser { conversations: 5, messages: 15, bytes: 16 * 1024 }, core_bytes: 64 * 1024 * 1024 };

    /// Nothing.
    pub const OFF: Self = Self { user: KeptOfUser { conversations: 0, messages: 0, bytes: 0 }, core_bytes: 0 };

    const fn is_off(&self) -> bool {
        self.user.conversations == 0 || self.user.messages == 0
    }
}

/// What is kept of a user, and since when it was not used.
#[derive(Debug)]
pub(super) struct Kept {
    opened: Opened,
    /// Its place in the order of use.
    used: u64,
    /// What it counts for, in bytes.
    counted: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Cache {
    limits: CacheLimits,
    bytes: usize,
    /// Who has something kept, by their last use of it.
    order: BTreeMap<u64, UserId>,
    last_use: u64,
}

/// What a user costs who has something kept, in bytes: that, and what is in memory for it.
fn cost(user: &User, opened: &Opened) -> usize {
    let devices = user.devices.capacity() * size_of::<Device>();
    size_of::<User>() + size_of::<Kept>() + size_of::<(u64, UserId)>() + devices + opened.bytes() - size_of::<Opened>()
}

impl Cache {
    pub(super) const fn new(limits: CacheLimits) -> Self {
        Self { limits, bytes: 0, order: BTreeMap::new(), last_use: 0 }
    }

    pub(super) const fn is_off(&self) -> bool {
        self.limits.is_off()
    }

    /// What all users cost who have something kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many users have something kept.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Keeps what the first page of a user's inbox shows.
    pub(super) fn open(&mut self, user_id: UserId, user: &mut User, shown: &[Shown], is_all: bool) {
        if self.is_off() {
            return;
        }
        let before = self.forget(user);
        let opened = Opened::new(shown, is_all, before);
        self.last_use += 1;
        self.order.insert(self.last_use, user_id);
        self.keep(user, Box::new(Kept { opened, used: self.last_use, counted: 0 }));
    }

    /// The user has asked for something that is kept.
    pub(super) fn used(&mut self, user_id: UserId, user: &mut User) {
        if let Some(mut kept) = user.kept.take() {
            self.last_use += 1;
            self.order.remove(&kept.used);
            self.order.insert(self.last_use, user_id);
            kept.used = self.last_use;
            self.keep(user, kept);
        }
    }

    /// Takes in the entry of a user that was released last.
    pub(super) fn feed(&mut self, user_id: UserId, user: &mut User, conversations: &mut Conversations) {
        let Some(mut kept) = user.kept.take() else { return };
        let Some(tail) = user.tail.get(user.released) else {
            unreachable!("an entry leaves the tail after its release");
        };
        let learn = |conversation: ConversationId| -> Option<(u64, Standing)> {
            let known = conversations.resident((user_id, conversation))?;
            Some((user.received(conversation, known), known.released))
        };
        if kept.opened.take(&tail.entry, tail.count, self.limits.user, learn) {
            self.keep(user, kept);
        } else {
            self.leave(&kept);
        }
    }

    /// A page of the newest messages of a conversation was read from elsewhere.
    pub(super) fn fill(&mut self, user: &mut User, conversation: ConversationId, (newest, complete): (&[Entry], bool)) {
        if let Some(mut kept) = user.kept.take() {
            kept.opened.fill(conversation, newest, complete, self.limits.user);
            self.keep(user, kept);
        }
    }

    /// What was kept of a user is not kept any more.
    pub(super) fn forget(&mut self, user: &mut User) -> Option<Box<Opened>> {
        let kept = user.kept.take()?;
        self.leave(&kept);
        Some(Box::new(kept.opened))
    }

    /// Whoever has to make room next, if too much is kept.
    pub(super) fn too_much(&self) -> Option<UserId> {
        if self.bytes > self.limits.core_bytes { self.order.values().next().copied() } else { None }
    }

    /// Counts what is kept anew, and keeps it if it fits.
    fn keep(&mut self, user: &mut User, mut kept: Box<Kept>) {
        let around = cost(user, &kept.opened) - kept.opened.bytes();
        if kept.opened.fit(self.limits.user.bytes.saturating_sub(around)) {
            self.bytes -= kept.counted;
            kept.counted = cost(user, &kept.opened);
            self.bytes += kept.counted;
            user.kept = Some(kept);
        } else {
            self.leave(&kept);
        }
    }

    fn leave(&mut self, kept: &Kept) {
        self.bytes -= kept.counted;
        self.order.remove(&kept.used);
    }
}

impl User {
    /// What is kept of this user, for an app that opens.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.kept.as_ref().map(|kept| &kept.opened)
    }
}

impl Shard {
    /// Forgets of those who have not used it for longest what is kept of them, as long as that is too much.
    pub(super) fn make_room(&mut self) {
        while let Some(user_id) = self.cache.too_much() {
            let Some(user) = self.users.resident(user_id) else {
                unreachable!("whoever has something kept is in memory");
            };
            self.cache.forget(user);
            self.counters.cache_pushed_out += 1;
            self.forget_if_unused(user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_spec::{Content, Event, TimestampMs};
    use storage::{BatchId, UserSnapshot};

    use super::*;
    use crate::shard::tail::TailEntry;

    const LIMITS: CacheLimits =
        CacheLimits { user: KeptOfUser { conversations: 2, messages: 4, bytes: 1_500 }, core_bytes: 4_000 };

    /// The next entry of a user's log: a text from somebody.
    fn receive(user: &mut User, from: u64, bytes: usize) -> Entry {
        let (seq, content) = (user.head.next(), Content::text(&"x".repeat(bytes)));
        let event = Event::Received { from: UserId(from), origin: seq, content };
        let entry = Entry { seq, time: TimestampMs(1), event };
        user.tail.push(TailEntry { entry: entry.clone(), replaces: None, count: 1, batch: BatchId(1) });
        (user.head, user.released) = (seq, seq);
        entry
    }

    fn shown(last: Entry) -> Shown {
        let conversation = last.event.conversation().expect("it is a message");
        Shown { conversation, standing: Standing::default(), received: 1, last }
    }

    proptest! {
        /// Whatever happens, what is counted is what is held, of as many as are counted, and no more than is allowed.
        #[test]
        fn what_is_counted_is_what_is_held(steps in prop::collection::vec((0..6usize, 0..6u8, 1..5u64, 1..400usize), 1..200)) {
            let mut cache = Cache::new(LIMITS);
            let mut users: Vec<User> = (0..6).map(|_| User::load(&UserSnapshot::default())).collect();
            for (at, step, from, bytes) in steps {
                let (user_id, user) = (UserId(at as u64), &mut users[at]);
                match step {
                    0 => {
                        let last = receive(user, from, bytes);
                        cache.open(user_id, user, &[shown(last)], from == 1);
                    }
                    1 => cache.used(user_id, user),
                    2 => {
                        let newest: Vec<_> = (0..from).map(|_| receive(user, from, bytes)).collect();
                        cache.fill(user, UserId(from).into(), (&newest, true));
                    }
                    3 => drop(cache.forget(user)),
                    _ => {
                        receive(user, from, bytes);
                        cache.feed(user_id, user, &mut Conversations::default());
                    }
                }
                while let Some(UserId(oldest)) = cache.too_much() {
                    cache.forget(&mut users[oldest as usize]);
                }
                let kept = users.iter().filter_map(|user| Some((user, user.opened()?)));
                let costs: Vec<_> = kept.map(|(user, opened)| cost(user, opened)).collect();
                prop_assert_eq!((cache.bytes(), cache.len()), (costs.iter().sum(), costs.len()));
                prop_assert!(costs.iter().all(|cost| *cost <= LIMITS.user.bytes), "{:?}", costs);
                prop_assert!(cache.bytes() <= LIMITS.core_bytes);
            }
        }
    }
}
