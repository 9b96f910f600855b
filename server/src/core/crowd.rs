//! Crowd: when those come back who found all places for handshakes of their address taken. PURE: time is an argument.
//!
//! Each is told a moment of its own, one after the other, as far apart as places become free: how long a handshake of this
//! address holds its place is measured. So about as many come back as can be let in, and nobody waits much longer than that
//! takes. If the guess was wrong, whoever comes too early is told another moment, by what was measured meanwhile.

use crate::limits::{ADDRESS_HANDSHAKE_GUESS_MS, ADDRESS_HANDSHAKE_MS_MIN, ADDRESS_HANDSHAKES_MEAN, RETRY_ADDRESS_MS};

/// Those of one address who wait outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// How long handshakes have held their places lately, in microseconds.
    held_us: u64,
    /// The last moment that somebody was told, in microseconds of the monotonic clock.
    told_us: u64,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { held_us: 1_000 * ADDRESS_HANDSHAKE_GUESS_MS, told_us: 0 }
    }
}

impl Crowd {
    /// A handshake is over, and has held its place for so long.
    pub(super) fn over(&mut self, held_ms: u64) {
        let held_us = 1_000 * held_ms.clamp(ADDRESS_HANDSHAKE_MS_MIN, RETRY_ADDRESS_MS);
        self.held_us = (self.held_us * (ADDRESS_HANDSHAKES_MEAN - 1) + held_us) / ADDRESS_HANDSHAKES_MEAN;
    }

    /// How long somebody who finds all `places` taken is to wait, in milliseconds: until those who are in there now are
    /// through, and then for as long as those take who were told before. Not beyond [`RETRY_ADDRESS_MS`]: there is not room
    /// for all, or most of those who were told will not come, so the round begins anew.
    pub(super) fn wait_ms(&mut self, places: u32, now_ms: u64) -> u64 {
        let now_us = 1_000 * now_ms;
        let apart_us = self.held_us / u64::from(places.max(1));
        let first_us = now_us + self.held_us + apart_us;
        let next_us = (self.told_us + apart_us).max(first_us);
        self.told_us = if next_us <= now_us + 1_000 * RETRY_ADDRESS_MS { next_us } else { first_us };
        (self.told_us - now_us).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cmp::Reverse,
        collections::{BTreeMap, BinaryHeap},
    };

    use super::*;

    /// What became of a crowd.
    struct Outcome {
        /// When the half of them, and when the last of them was in.
        median_ms: u64,
        last_ms: u64,
        /// Connections that were made for it, those that were refused included.
        attempts: u64,
        /// Most attempts within a tenth of a second, once the first rush was over.
        herd: u64,
    }

    /// As many clients as that connect at once, and wait as SPEC 8.5 says; a handshake takes as long as `handshake_ms` says.
    fn come_back(clients: u64, places: u32, handshake_ms: impl Fn(u64) -> u64) -> Outcome {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut crowd = Crowd::default();
        // By time: a client that connects for the n-th time, or the end of a handshake that took so long.
        let mut attempts: BinaryHeap<_> = (0..clients).map(|client| Reverse((client % 100, client, 0))).collect();
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let (mut in_at, mut count) = (Vec::new(), 0);
        let mut per_tenth: BTreeMap<u64, u64> = BTreeMap::new();
        while let Some(Reverse((now_ms, client, tries))) = attempts.pop() {
            while let Some(&Reverse((end_ms, held_ms))) = ends.peek()
                && end_ms <= now_ms
            {
                ends.pop();
                crowd.over(held_ms);
                in_at.push(end_ms);
            }
            count += 1;
            if now_ms >= 200 {
                *per_tenth.entry(now_ms / 100).or_default() += 1;
            }
            if ends.len() < places as usize {
                let held_ms = handshake_ms(below(1_000));
                ends.push(Reverse((now_ms + held_ms, held_ms)));
            } else {
                let jitter_ms = below((500_u64 << tries).min(60_000));
                let wait_ms = crowd.wait_ms(places, now_ms);
                attempts.push(Reverse((now_ms + wait_ms + jitter_ms, client, tries + 1)));
            }
        }
        in_at.extend(ends.into_iter().map(|Reverse((end_ms, _))| end_ms));
        in_at.sort_unstable();
        assert_eq!(in_at.len() as u64, clients);
        let herd = per_tenth.into_values().max().unwrap_or(0);
        Outcome { median_ms: in_at[in_at.len() / 2], last_ms: in_at[in_at.len() - 1], attempts: count, herd }
    }

    #[test]
    fn nine_hundred_behind_one_address_are_in_within_about_the_time_that_their_places_take() {
        // At home, on mobile networks, and where each takes a second; the time that all places take for them.
        for (handshake_ms, least_ms) in [(20, 1_000), (250, 2_250), (400, 3_600), (1_000, 9_000)] {
            let Outcome { median_ms, last_ms, attempts, herd } =
                come_back(900, 100, |random| handshake_ms / 2 + handshake_ms * random / 1_000);
            assert!(median_ms <= least_ms, "{handshake_ms}: half of them after {median_ms} ms");
            assert!(last_ms <= 2 * least_ms + 1_000, "{handshake_ms}: all after {last_ms} ms");
            assert!(attempts <= 4 * 900, "{handshake_ms}: {attempts} attempts");
            assert!(herd <= 200, "{handshake_ms}: {herd} at once");
        }
    }

    #[test]
    fn each_of_a_crowd_is_told_a_moment_of_its_own() {
        let mut crowd = Crowd::default();
        let told: Vec<u64> = (0..800).map(|_| crowd.wait_ms(100, 5_000)).collect();
        assert!(told.is_sorted());
        assert_eq!(told[0], ADDRESS_HANDSHAKE_GUESS_MS + 3);
        assert_eq!(told[799], ADDRESS_HANDSHAKE_GUESS_MS + 2_000, "eight times a hundred places");
        // Those who come later wait behind them, and nobody does when they have gone.
        assert!(crowd.wait_ms(100, 6_000) > 1_200);
        assert_eq!(crowd.wait_ms(100, 60_000), told[0]);
    }

    #[test]
    fn nobody_is_told_to_wait_for_longer_than_is_sensible() {
        let mut crowd = Crowd::default();
        let told: Vec<u64> = (0..100_000).map(|_| crowd.wait_ms(1, 5_000)).collect();
        assert!(told.iter().all(|wait_ms| (1..=RETRY_ADDRESS_MS).contains(wait_ms)));
        // Spread over all of that time, however many they are.
        let early = told.iter().filter(|wait_ms| **wait_ms <= RETRY_ADDRESS_MS / 2).count();
        assert!((40_000..60_000).contains(&early), "{early}");
    }

    #[test]
    fn places_that_are_held_for_long_bring_fewer_back() {
        let mut crowd = Crowd::default();
        (0..500).for_each(|_| crowd.over(4_000));
        let told: Vec<u64> = (0..100).map(|_| crowd.wait_ms(100, 5_000)).collect();
        assert!((3_900..=4_100).contains(&told[0]) && (7_900..=8_100).contains(&told[99]), "{told:?}");
        (0..500).for_each(|_| crowd.over(0));
        assert!(crowd.wait_ms(100, 50_000) <= ADDRESS_HANDSHAKE_MS_MIN + 3, "and more again when they are quick");
    }
}
