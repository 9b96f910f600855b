//! When an open loop sends: a plan made before anything is known of the server, which therefore can not slow it down. Pure.

use crate::draw::Draw;

/// How far apart the sends of an open loop are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// All the same.
    Even,
    /// As those of many people who know nothing of each other: exponential.
    Random,
}

/// The intended times of one lane's sends, in microseconds, ascending. Each is handed out once, however late it is asked for.
#[derive(Clone, Debug)]
pub struct Schedule {
    spacing: Spacing,
    draw: Draw,
    /// Nanoseconds between two sends, on average.
    gap_ns: f64,
    /// Of the next one. In floating point nanoseconds: exact to a microsecond for a month.
    next_ns: f64,
    end_us: u64,
}

impl Schedule {
    /// `rate` sends a second from `start_us` on, none at or after `end_us`. The first comes after `part` of a gap: lanes that share
    /// a rate do not all send at the same moments.
    #[must_use]
    pub fn new(spacing: Spacing, rate: f64, part: f64, start_us: u64, end_us: u64, draw: Draw) -> Self {
        let gap_ns = 1e9 / rate.max(1e-6);
        Self { spacing, draw, gap_ns, next_ns: start_us as f64 * 1e3 + part * gap_ns, end_us }
    }

    /// When the next send should leave; none when there is no further one.
    #[must_use]
    pub fn peek(&self) -> Option<u64> {
        let next_us = (self.next_ns / 1e3) as u64;
        (next_us < self.end_us).then_some(next_us)
    }

    /// The intended time of the next send, if it has come.
    pub fn due(&mut self, now_us: u64) -> Option<u64> {
        let intended_us = self.peek().filter(|intended_us| *intended_us <= now_us)?;
        self.next_ns += match self.spacing {
            Spacing::Even => self.gap_ns,
            Spacing::Random => self.draw.exponential(self.gap_ns),
        };
        Some(intended_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spacing: Spacing, rate: f64) -> Vec<u64> {
        let mut schedule = Schedule::new(spacing, rate, 0.0, 1_000, 1_001_000, Draw::new(3));
        std::iter::from_fn(|| schedule.due(u64::MAX)).collect()
    }

    #[test]
    fn even_sends_are_even_and_as_many_as_asked_for() {
        assert_eq!(times(Spacing::Even, 4.0), [1_000, 251_000, 501_000, 751_000]);
        assert_eq!(times(Spacing::Even, 3_000.0).len(), 3_000);
    }

    #[test]
    fn random_sends_are_about_as_many_and_never_go_back() {
        let times = times(Spacing::Random, 5_000.0);
        assert!((4_700..5_300).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
    }

    #[test]
    fn who_asks_late_gets_every_send_with_the_time_it_was_meant_for() {
        let mut schedule = Schedule::new(Spacing::Even, 10.0, 0.5, 0, 1_000_000, Draw::new(3));
        assert_eq!(schedule.due(49_999), None);
        assert_eq!(schedule.peek(), Some(50_000));
        let late: Vec<u64> = std::iter::from_fn(|| schedule.due(350_000)).collect();
        assert_eq!(late, [50_000, 150_000, 250_000, 350_000]);
    }

    #[test]
    fn a_schedule_ends() {
        let mut schedule = Schedule::new(Spacing::Even, 1.0, 0.0, 0, 1_500_000, Draw::new(3));
        assert_eq!((schedule.due(9_000_000), schedule.due(9_000_000)), (Some(0), Some(1_000_000)));
        assert_eq!((schedule.due(9_000_000), schedule.peek()), (None, None));
    }
}
