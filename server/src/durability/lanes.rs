//! PURE: the lanes of one core, where acknowledgements wait for a database: which batches are on their way into it, what is
//! committed next and when it is tried again, and when the journal's word has to do instead.
//!
//! Owns the batches until they are in the store. Does no I/O: the rim commits what [`Lanes::next`] gives and reports to
//! [`Lanes::done`].
//!
//! Invariants: one commit of a lane is under way at a time, and its batches follow those in the store; a commit is tried again
//! as it was until its outcome is known; nothing leaves a lane but into the store. A lane is *away* while its oldest batch
//! waits longer than it should; then what the journal has synced is released as `local`.

use std::collections::VecDeque;

use storage::{
    Advanced, BatchId, Kind, LaneId, Step, StoreError,
    fold::{Fold, Sorted},
};

use crate::limits::{LANE_RETRY_MAX_MS, LANE_RETRY_MS};

/// What is to be committed.
#[derive(Debug)]
pub struct Work {
    /// Of which lane, from where to where.
    pub step: Step,
    /// What its batches leave behind.
    pub sorted: Sorted,
    /// How many batches.
    pub batches: usize,
}

/// What has become of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// Every batch of the lane up to this one is in the store.
    Stored(BatchId),
    /// It will be tried again.
    Retried {
        /// Why it failed.
        error: StoreError,
        /// How often in a row.
        failures: u32,
    },
    /// The database is another's now: this server must not go on.
    Lost(StoreError),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Lanes {
    first: LaneId,
    lanes: Vec<Lane>,
    slow_after_ms: u64,
    /// Bytes of the records of all that waits.
    waiting_bytes: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Not known to be in the store, oldest first.
    waiting: VecDeque<Waiting>,
    /// How many of these are in the commit that is tried; it is under way unless `retry_at_ms` says when it will be.
    trying: usize,
    retry_at_ms: Option<u64>,
    failures: u32,
    stored: BatchId,
    synced: BatchId,
    is_away: bool,
}

#[derive(Debug)]
struct Waiting {
    id: BatchId,
    since_ms: u64,
    bytes: Vec<u8>,
}

impl Lanes {
    /// These lanes, with nothing in them. One is away when its oldest batch waits for `slow_after_ms` milliseconds.
    #[must_use]
    pub fn new(lanes: impl ExactSizeIterator<Item = LaneId>, slow_after_ms: u64) -> Self {
        let mut lanes = lanes.peekable();
        let first = lanes.peek().copied().unwrap_or_default();
        Self { first, lanes: lanes.map(|_| Lane::default()).collect(), slow_after_ms, waiting_bytes: 0 }
    }

    /// Takes a batch, whose number is the one after that of the lane's last.
    pub fn push(&mut self, now_ms: u64, lane: LaneId, id: BatchId, bytes: Vec<u8>) {
        self.waiting_bytes += bytes.len();
        let lane = self.lane(lane);
        assert!(lane.waiting.back().is_none_or(|last| last.id.0 + 1 == id.0), "the batches of a lane have no gaps");
        lane.waiting.push_back(Waiting { id, since_ms: now_ms, bytes });
    }

    /// The next commit to begin, if any.
    ///
    /// # Panics
    /// A shard's own batch cannot be read.
    pub fn next(&mut self, now_ms: u64) -> Option<Work> {
        let at = self.lanes.iter().position(|lane| lane.is_ready(now_ms))?;
        let id = LaneId(self.first.0 + at as u16);
        Some(self.lanes[at].begin(id))
    }

    /// When the next commit that failed is to be tried again, in milliseconds of the same clock.
    #[must_use]
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.retry_at_ms).min()
    }

    /// The commit of a lane has ended. `random` spreads what is tried again.
    pub fn done(&mut self, now_ms: u64, lane: LaneId, result: Result<Advanced, StoreError>, random: u64) -> Outcome {
        let lane = self.lane(lane);
        debug_assert!(lane.trying > 0 && lane.retry_at_ms.is_none(), "no commit is under way");
        match result {
            Ok(_) => {
                let mut stored_bytes = 0;
                for batch in lane.waiting.drain(..lane.trying) {
                    lane.stored = batch.id;
                    stored_bytes += batch.bytes.len();
                }
                lane.trying = 0;
                lane.failures = 0;
                let stored = lane.stored;
                self.waiting_bytes -= stored_bytes;
                Outcome::Stored(stored)
            }
            Err(error @ (StoreError::Fenced { .. } | StoreError::OutOfStep { .. })) => Outcome::Lost(error),
            Err(error) => {
                lane.failures += 1;
                lane.retry_at_ms = Some(now_ms + retry_ms(lane.failures, error.is_retryable(), random));
                Outcome::Retried { error, failures: lane.failures }
            }
        }
    }

    /// The journal has synced the lane's batches up to this one: what of them may be released now, as it is away.
    pub fn synced(&mut self, lane: LaneId, up_to: BatchId) -> Option<BatchId> {
        let lane = self.lane(lane);
        lane.synced = up_to;
        lane.releases()
    }

    /// Time has passed: which lanes may release what the journal has of theirs, up to where.
    pub fn tick(&mut self, now_ms: u64) -> Vec<(LaneId, BatchId)> {
        let (first, slow_after_ms) = (self.first.0, self.slow_after_ms);
        let mut released = Vec::new();
        for (id, lane) in (first..).map(LaneId).zip(&mut self.lanes) {
            let is_slow = lane.waiting.front().is_some_and(|oldest| now_ms >= oldest.since_ms + slow_after_ms);
            if std::mem::replace(&mut lane.is_away, is_slow) != is_slow {
                released.extend(lane.releases().map(|up_to| (id, up_to)));
            }
        }
        released
    }

    /// Whether a lane is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_away)
    }

    /// Batches that are not in the store, and the bytes of their records.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.lanes.iter().map(|lane| lane.waiting.len()).sum(), self.waiting_bytes)
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        &mut self.lanes[usize::from(lane.0 - self.first.0)]
    }
}

impl Lane {
    fn is_ready(&self, now_ms: u64) -> bool {
        match self.retry_at_ms {
            Some(at_ms) => at_ms <= now_ms,
            None => self.trying == 0 && !self.waiting.is_empty(),
        }
    }

    /// As many batches as go into one commit; those of the last time, if they are tried again.
    fn begin(&mut self, lane: LaneId) -> Work {
        if self.retry_at_ms.take().is_none() {
            let mut room = Kind::Database.run_bytes_max();
            let fits = |batch: &&Waiting| {
                let bytes = batch.bytes.len() as u64;
                let fits = bytes <= room;
                room = room.saturating_sub(bytes);
                fits
            };
            self.trying = self.waiting.iter().take_while(fits).count().max(1);
        }
        let mut fold = Fold::default();
        let mut up_to = self.stored;
        for batch in self.waiting.range(..self.trying) {
            fold.add(&batch.bytes).expect("a shard's own batch can be read");
            up_to = batch.id;
        }
        Work { step: Step { lane, term: 0, after: self.stored, up_to }, sorted: fold.sort(), batches: self.trying }
    }

    fn releases(&self) -> Option<BatchId> {
        (self.is_away && self.synced > self.stored).then_some(self.synced)
    }
}

/// Wait before a commit that has failed so many times is tried again, in milliseconds: half of it is chance, so that lanes and
/// servers do not come at once.
fn retry_ms(failures: u32, is_retryable: bool, random: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(LANE_RETRY_MAX_MS.ilog2());
    let most = match is_retryable {
        true => (LANE_RETRY_MS << doublings).min(LANE_RETRY_MAX_MS),
        // Somebody has to act first.
        false => LANE_RETRY_MAX_MS,
    };
    most / 2 + random % (most / 2 + 1)
}

#[cfg(test)]
mod tests {
    use proto_spec::{DeviceId, Seq, UserId};
    use storage::{Batch, Fence, Record};

    use super::*;

    const SLOW_AFTER_MS: u64 = 1_000;
    const A: LaneId = LaneId(4);
    const B: LaneId = LaneId(5);

    fn lanes() -> Lanes {
        Lanes::new([A, B].into_iter(), SLOW_AFTER_MS)
    }

    fn batch(records: u64) -> Vec<u8> {
        let mut batch = Batch::default();
        for seq in 1..=records {
            batch.push(&Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(seq) });
        }
        batch.bytes().to_vec()
    }

    /// Pushes batches with these numbers.
    fn push(lanes: &mut Lanes, now_ms: u64, lane: LaneId, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            lanes.push(now_ms, lane, BatchId(id), batch(1));
        }
    }

    fn step(lanes: &mut Lanes, now_ms: u64) -> Option<(u16, u64, u64)> {
        lanes.next(now_ms).map(|Work { step, .. }| (step.lane.0, step.after.0, step.up_to.0))
    }

    fn done(lanes: &mut Lanes, lane: LaneId) -> u64 {
        match lanes.done(0, lane, Ok(Advanced::default()), 0) {
            Outcome::Stored(up_to) => up_to.0,
            other => panic!("{other:?}"),
        }
    }

    fn unknown() -> Result<Advanced, StoreError> {
        Err(StoreError::Unknown { reason: "a test".to_owned() })
    }

    #[test]
    fn one_commit_of_a_lane_is_under_way_and_takes_what_has_gathered() {
        let mut lanes = lanes();
        assert_eq!(step(&mut lanes, 0), None);
        push(&mut lanes, 0, A, 1..=2);
        push(&mut lanes, 0, B, 1..=1);
        assert_eq!(step(&mut lanes, 0), Some((4, 0, 2)));
        push(&mut lanes, 0, A, 3..=5);
        assert_eq!(step(&mut lanes, 0), Some((5, 0, 1)), "lanes do not wait for each other");
        assert_eq!(step(&mut lanes, 0), None);
        assert_eq!(lanes.waiting().0, 6);
        assert_eq!(done(&mut lanes, A), 2);
        assert_eq!(step(&mut lanes, 0), Some((4, 2, 5)));
        assert_eq!((done(&mut lanes, A), done(&mut lanes, B)), (5, 1));
        assert_eq!((step(&mut lanes, 0), lanes.waiting()), (None, (0, 0)));
    }

    #[test]
    fn a_commit_whose_outcome_is_not_known_is_tried_again_as_it_was() {
        let mut lanes = lanes();
        push(&mut lanes, 0, A, 1..=2);
        assert_eq!(step(&mut lanes, 0), Some((4, 0, 2)));
        push(&mut lanes, 0, A, 3..=3);
        let mut now_ms = 0;
        for _ in 0..20 {
            assert!(matches!(lanes.done(now_ms, A, unknown(), 7), Outcome::Retried { .. }));
            assert_eq!(step(&mut lanes, now_ms), None, "not at once");
            now_ms = lanes.retry_at_ms().unwrap();
            assert_eq!(step(&mut lanes, now_ms), Some((4, 0, 2)));
            assert_eq!(step(&mut lanes, now_ms + 10_000), None, "once");
        }
        assert_eq!(done(&mut lanes, A), 2);
        assert_eq!(step(&mut lanes, now_ms), Some((4, 2, 3)));
    }

    #[test]
    fn a_commit_is_bounded_by_bytes_and_has_at_least_one_batch() {
        let mut lanes = lanes();
        let third = batch(Kind::Database.run_bytes_max() / 3 / batch(1).len() as u64);
        let too_large = batch(Kind::Database.run_bytes_max());
        for (id, bytes) in (1..).zip([&third, &third, &third, &too_large, &third, &too_large]) {
            lanes.push(0, A, BatchId(id), bytes.clone());
        }
        let mut steps = Vec::new();
        while let Some(step) = step(&mut lanes, 0) {
            steps.push(step);
            done(&mut lanes, A);
        }
        let last = steps.last().copied();
        assert_eq!(last.map(|last| last.2), Some(6));
        assert!(steps.len() >= 4 && steps.len() < 6, "{steps:?}");
        assert!(steps.windows(2).all(|two| two[0].2 == two[1].1), "{steps:?}");
    }

    #[test]
    fn while_a_lane_is_away_what_the_journal_has_is_released() {
        let mut lanes = lanes();
        push(&mut lanes, 100, A, 1..=2);
        step(&mut lanes, 100);
        assert_eq!(lanes.synced(A, BatchId(1)), None, "the database is waited for");
        assert_eq!(lanes.tick(100 + SLOW_AFTER_MS - 1), []);
        assert!(!lanes.is_away());
        assert_eq!(lanes.tick(100 + SLOW_AFTER_MS), [(A, BatchId(1))]);
        assert!(lanes.is_away());
        assert_eq!(lanes.tick(100 + 2 * SLOW_AFTER_MS), [], "once");
        assert_eq!(lanes.synced(A, BatchId(2)), Some(BatchId(2)), "at once from now on");
        assert_eq!(lanes.synced(B, BatchId(1)), None, "the other one is not away");
        assert_eq!(done(&mut lanes, A), 2);
        assert_eq!(lanes.tick(100 + 3 * SLOW_AFTER_MS), []);
        assert!(!lanes.is_away());
    }

    #[test]
    fn a_lane_stays_away_while_its_oldest_batch_is_old() {
        let mut lanes = lanes();
        push(&mut lanes, 0, A, 1..=1);
        step(&mut lanes, 0);
        push(&mut lanes, 10, A, 2..=2);
        lanes.tick(SLOW_AFTER_MS);
        assert_eq!(done(&mut lanes, A), 1);
        lanes.tick(SLOW_AFTER_MS + 10);
        assert!(lanes.is_away(), "batch 2 has waited as long");
        assert_eq!(lanes.synced(A, BatchId(2)), Some(BatchId(2)));
    }

    #[test]
    fn a_server_whose_fence_was_taken_or_whose_lane_was_moved_must_not_go_on() {
        let fenced = StoreError::Fenced { held: Fence(1), current: Fence(2) };
        let moved = StoreError::OutOfStep {
            step: Step { lane: A, term: 0, after: BatchId(0), up_to: BatchId(1) },
            found: BatchId(7),
        };
        for error in [fenced, moved] {
            let mut lanes = lanes();
            push(&mut lanes, 0, A, 1..=1);
            step(&mut lanes, 0);
            assert!(matches!(lanes.done(0, A, Err(error), 0), Outcome::Lost(_)));
            assert_eq!(step(&mut lanes, u64::MAX), None);
        }
    }

    #[test]
    fn a_database_is_asked_less_and_less_often_within_a_bound_and_by_chance() {
        let waits: Vec<u64> = (1..10).map(|failures| retry_ms(failures, true, 0)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(retry_ms(1, true, 5), 10);
        assert!((0..1_000).all(|random| (5..=10).contains(&retry_ms(1, true, random))));
        assert_eq!(retry_ms(u32::MAX, true, 0), LANE_RETRY_MAX_MS / 2);
        assert_eq!(retry_ms(1, false, 0), LANE_RETRY_MAX_MS / 2);
    }
}
