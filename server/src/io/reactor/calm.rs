//! Calm: whether so little goes on at a core that it may let several things come together before it looks at them. What a turn costs, and a
//! sync above all, it costs once for all that is in it; where much goes on that is so by itself.

use crate::limits::{CALM_COMPLETIONS_MAX, CALM_MS};

/// See the head of this file. Begins calm.
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// Until when completions are counted, and how many there were.
    until_ms: u64,
    completions: usize,
    /// More than [`CALM_COMPLETIONS_MAX`] were there the last time.
    was_busy: bool,
}

impl Calm {
    /// A turn had so many completions to take.
    pub(super) const fn note(&mut self, now_ms: u64, completions: usize) {
        if now_ms >= self.until_ms {
            self.was_busy = self.is_busy() && now_ms < self.until_ms + CALM_MS;
            (self.until_ms, self.completions) = (now_ms + CALM_MS, 0);
        }
        self.completions += completions;
    }

    const fn is_busy(&self) -> bool {
        self.completions > CALM_COMPLETIONS_MAX
    }

    pub(super) const fn is_calm(&self) -> bool {
        !self.was_busy && !self.is_busy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_calm_as_long_as_not_too_much_completes_in_a_while() {
        let mut calm = Calm::default();
        calm.note(1_000, CALM_COMPLETIONS_MAX);
        assert!(calm.is_calm());
        calm.note(1_001, 1);
        assert!(!calm.is_calm(), "at once");
        calm.note(1_000 + CALM_MS, 0);
        assert!(!calm.is_calm(), "for as long again");
        calm.note(1_000 + 2 * CALM_MS, CALM_COMPLETIONS_MAX);
        assert!(calm.is_calm());
        calm.note(1_001 + 2 * CALM_MS, 1);
        calm.note(1_000 + 4 * CALM_MS, 0);
        assert!(calm.is_calm(), "it was long ago");
    }
}
