//! Later: what is to be done after a while that is the same for all, so in the order in which it was put off.

use std::collections::VecDeque;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Later<T> {
    delay_ms: u64,
    /// With the time of each, which does not go down.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Later<T> {
    pub(super) const fn new(delay_ms: u64) -> Self {
        Self { delay_ms, waiting: VecDeque::new() }
    }

    pub(super) fn push(&mut self, now_ms: u64, what: T) {
        self.waiting.push_back((now_ms + self.delay_ms, what));
    }

    /// Whether the time of one has come.
    pub(super) fn has_due(&self, now_ms: u64) -> bool {
        self.waiting.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms)
    }

    /// The next one whose time has come.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<T> {
        if self.has_due(now_ms) { self.waiting.pop_front().map(|(_, what)| what) } else { None }
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, what)| is_kept(what));
    }

    /// All that waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, what)| what)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_its_time_has_come_and_in_its_order() {
        let mut later = Later::new(100);
        for (now_ms, what) in [(1_000, 'a'), (1_000, 'b'), (1_050, 'c')] {
            later.push(now_ms, what);
        }
        assert!(!later.has_due(1_099) && later.take_due(1_099).is_none());
        assert!(later.has_due(1_100));
        assert_eq!([later.take_due(1_149), later.take_due(1_149), later.take_due(1_149)], [Some('a'), Some('b'), None]);
        assert_eq!((later.take_due(1_150), later.len()), (Some('c'), 0));
    }
}
