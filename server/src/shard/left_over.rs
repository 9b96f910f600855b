//! Left over: users whose duties a restart left open, and when each of them is loaded.
//!
//! They are loaded a few at a time, as earlier ones are done, so that people who come back after the restart go first. Who can not be
//! read is tried again later, behind the others. Pure data; `loading` asks the store.

use std::{collections::VecDeque, iter};

use proto_spec::UserId;

use super::later::Later;
use crate::limits::{ASK_AGAIN_MS, UNFINISHED_LOADING_MAX, UNFINISHED_QUERIES_MAX};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct LeftOver {
    waiting: VecDeque<UserId>,
    /// How many are being loaded for their duties.
    loading: usize,
    /// Those who could not be read, and are tried again.
    postponed: Later<UserId>,
}

impl Default for LeftOver {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), loading: 0, postponed: Later::new(ASK_AGAIN_MS) }
    }
}

impl LeftOver {
    /// One more.
    pub(super) fn push(&mut self, user: UserId) {
        self.waiting.push_back(user);
    }

    /// The next one to load, if so many queries of the shard are under way. Who is in memory has begun already.
    pub(super) fn next(&mut self, queries: usize, is_resident: impl Fn(UserId) -> bool) -> Option<UserId> {
        while self.loading < UNFINISHED_LOADING_MAX && queries < UNFINISHED_QUERIES_MAX {
            let user = self.waiting.pop_front()?;
            if !is_resident(user) {
                self.loading += 1;
                return Some(user);
            }
        }
        None
    }

    /// One of those from [`LeftOver::next`] is in memory.
    pub(super) const fn loaded(&mut self) {
        self.loading -= 1;
    }

    /// One of those from [`LeftOver::next`] could not be read. The rim has tried several times, so somebody or something has to act
    /// first.
    pub(super) fn unreadable(&mut self, user: UserId, now_ms: u64) {
        self.loading -= 1;
        self.postponed.push(now_ms, user);
    }

    /// Time has passed: those who could not be read are tried again.
    pub(super) fn wake(&mut self, now_ms: u64) {
        self.waiting.extend(iter::from_fn(|| self.postponed.take_due(now_ms)));
    }

    /// Those of these who have not begun to be loaded are another node's from now on.
    pub(super) fn forget(&mut self, is_gone: impl Fn(UserId) -> bool) {
        self.waiting.retain(|user| !is_gone(*user));
        self.postponed.retain(|user| !is_gone(*user));
    }

    /// How many are not in memory yet.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.loading + self.postponed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_over(users: u64) -> LeftOver {
        let mut left_over = LeftOver::default();
        (1..=users).for_each(|user| left_over.push(UserId(user)));
        left_over
    }

    const NOBODY: fn(UserId) -> bool = |_| false;

    #[test]
    fn a_few_are_loaded_at_a_time_and_the_next_when_one_is_done() {
        let most = UNFINISHED_LOADING_MAX as u64;
        let mut left_over = left_over(most + 3);
        let first: Vec<_> = iter::from_fn(|| left_over.next(0, NOBODY)).collect();
        assert_eq!(first, (1..=most).map(UserId).collect::<Vec<_>>());
        assert_eq!(left_over.len(), UNFINISHED_LOADING_MAX + 3, "those being loaded count");
        left_over.loaded();
        assert_eq!(left_over.next(UNFINISHED_QUERIES_MAX, NOBODY), None, "others go first");
        let is_resident = |user| user == UserId(most + 1);
        assert_eq!(left_over.next(0, is_resident), Some(UserId(most + 2)), "who is here needs no loading");
        assert_eq!(left_over.next(0, NOBODY), None);
        assert_eq!(left_over.len(), UNFINISHED_LOADING_MAX + 1);
    }

    #[test]
    fn who_can_not_be_read_holds_up_nobody_and_is_tried_again_later() {
        let mut left_over = left_over(2);
        assert_eq!(left_over.next(0, NOBODY), Some(UserId(1)));
        left_over.unreadable(UserId(1), 5_000);
        left_over.wake(5_000 + ASK_AGAIN_MS - 1);
        assert_eq!(left_over.next(0, NOBODY), Some(UserId(2)));
        assert_eq!((left_over.next(0, NOBODY), left_over.len()), (None, 2));
        left_over.wake(5_000 + ASK_AGAIN_MS);
        assert_eq!(left_over.next(0, NOBODY), Some(UserId(1)));
        (0..2).for_each(|_| left_over.loaded());
        assert_eq!((left_over.next(0, NOBODY), left_over.len()), (None, 0));
    }
}
