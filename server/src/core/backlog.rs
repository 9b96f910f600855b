//! Backlog: what a core has for somebody who may have no room for it, in order. PURE.
//!
//! Nothing is dropped and nothing overtakes. Whoever causes what goes in must stop while something is kept.

use std::collections::VecDeque;

/// See the head of this file.
#[derive(Debug)]
pub struct Backlog<T> {
    queue: VecDeque<T>,
    /// So many of `queue` were offered in vain, or lie behind one that was.
    kept: usize,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), kept: 0 }
    }
}

impl<T> Backlog<T> {
    /// One more.
    pub fn push(&mut self, item: T) {
        self.queue.push_back(item);
    }

    /// Offers everything, in order, until something comes back. Says how many are kept that were not before.
    pub fn flush(&mut self, mut put: impl FnMut(T) -> Result<(), T>) -> usize {
        let before = self.kept;
        while let Some(item) = self.queue.pop_front() {
            if let Err(item) = put(item) {
                self.queue.push_front(item);
                break;
            }
        }
        self.kept = self.queue.len();
        self.kept.saturating_sub(before)
    }

    /// How many were offered in vain, or lie behind one that was.
    #[must_use]
    pub const fn kept(&self) -> usize {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_kept_in_order_and_offered_again() {
        let mut backlog = Backlog::default();
        (0..5).for_each(|n| backlog.push(n));
        assert_eq!(backlog.kept(), 0, "nobody has said no");
        let mut got = Vec::new();
        let mut take = |room: usize, got: &mut Vec<i32>| {
            let mut left = room;
            backlog.flush(|n| match left.checked_sub(1) {
                Some(less) => {
                    left = less;
                    got.push(n);
                    Ok(())
                }
                None => Err(n),
            })
        };
        assert_eq!(take(2, &mut got), 3);
        assert_eq!(take(1, &mut got), 0, "known to be kept");
        assert_eq!(take(9, &mut got), 0);
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!((backlog.kept(), backlog.queue.is_empty()), (0, true));
    }
}
