use proptest::prelude::*;
use proto_spec::{
    Content, DeviceId, GroupEntry, GroupId, MessageName, Seq, TimestampMs, UserId, limits::REACTIONS_MAX,
};
use storage::{
    Batch, CommitFault, Fence, GroupRewrite, MemberId, MemoryStore, MovedLane, Owner, Record, RollChange, Shown,
    Store as _, contract::block_on,
};

use super::*;

const SLOW_AFTER_MS: u64 = 1_000;
const A: LaneId = LaneId(4);
const B: LaneId = LaneId(5);

fn lanes() -> Lanes {
    Lanes::new([A, B].into_iter(), Sharing::OneLane, SLOW_AFTER_MS)
}

fn batch(records: u64) -> Batch {
    let mut batch = Batch::default();
    for seq in 1..=records {
        batch.push(&Record::Cursor { user: UserId(1), device: DeviceId(2), seq: Seq(seq) });
    }
    batch
}

/// So many messages of a group are taken back, each with as many reactions as it may have.
fn unsends(count: u64) -> Batch {
    let mut batch = Batch::default();
    for seq in 1..=count {
        let (seq, place) = (Seq(1_000 + seq), Seq(seq));
        let content = Content::unsend(MessageName { author: UserId(1), seq: place }, None);
        let entry = GroupEntry { seq, time: TimestampMs(1), from: UserId(1), origin: seq, messages: 1, content };
        let replaces = (1..=1 + REACTIONS_MAX as u64).map(Seq).collect();
        let of = GroupRewrite { place, now: Shown { says: seq, reactions: Vec::new() }, replaces };
        batch.push(&Record::GroupAppend { group: GroupId(1), entry, of: Some(of) });
    }
    batch
}

/// Pushes batches with these numbers.
fn push(lanes: &mut Lanes, now_ms: u64, lane: LaneId, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        lanes.push(now_ms, lane, BatchId(id), &batch(1));
    }
}

/// A lane, from where to where.
type Stepped = (u16, u64, u64);

fn step(lanes: &mut Lanes, now_ms: u64) -> Option<Stepped> {
    lanes.next(now_ms).map(|work| match steps_of(&work)[..] {
        [only] => only,
        ref several => panic!("{several:?} in one commit"),
    })
}

fn steps_of(work: &Work) -> Vec<Stepped> {
    work.steps.iter().map(|step| (step.lane.0, step.after.0, step.up_to.0)).collect()
}

/// The commit that has the lane.
fn of(lanes: &Lanes, lane: LaneId) -> WorkId {
    lanes.lanes[usize::from(lane.0 - lanes.first.0)].commit.unwrap()
}

fn done(lanes: &mut Lanes, lane: LaneId) -> u64 {
    match lanes.done(0, of(lanes, lane), Ok(Advanced::default()), 0) {
        Outcome::Stored(stored) if stored[..] == [(lane, stored[0].1)] => stored[0].1.0,
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
        assert!(matches!(lanes.done(now_ms, of(&lanes, A), unknown(), 7), Outcome::Retried { .. }));
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
    let third = batch(Kind::Database.run_bytes_max() / 3 / batch(1).bytes().len() as u64);
    let too_large = batch(Kind::Database.run_bytes_max());
    for (id, bytes) in (1..).zip([&third, &third, &third, &too_large, &third, &too_large]) {
        lanes.push(0, A, BatchId(id), bytes);
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
        assert!(matches!(lanes.done(0, of(&lanes, A), Err(error), 0), Outcome::Lost(_)));
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

// ---- of a node of a cluster

const SLOTS: [u16; 4] = [10, 11, 12, 13];

fn slots(commits_max: usize) -> Lanes {
    let mut lanes = Lanes::new(SLOTS.map(LaneId).into_iter(), Sharing::Slots { commits_max }, SLOW_AFTER_MS);
    SLOTS.into_iter().for_each(|slot| lanes.begin(LaneId(slot), 3));
    lanes
}

fn next(lanes: &mut Lanes, now_ms: u64) -> Option<(WorkId, Vec<Stepped>)> {
    lanes.next(now_ms).map(|work| (work.id, steps_of(&work)))
}

fn stored(lanes: &mut Lanes, id: WorkId) -> Vec<(u16, u64)> {
    match lanes.done(0, id, Ok(Advanced::default()), 0) {
        Outcome::Stored(stored) => stored.into_iter().map(|(lane, up_to)| (lane.0, up_to.0)).collect(),
        other => panic!("{other:?}"),
    }
}

fn moved(lanes: &[u16]) -> Result<Advanced, StoreError> {
    let moved = |lane: &u16| MovedLane { lane: LaneId(*lane), held: 3, current: 4 };
    Err(StoreError::Moved { lanes: lanes.iter().map(moved).collect() })
}

#[test]
fn a_commit_takes_all_slots_that_are_ready_each_in_its_term() {
    let mut lanes = slots(2);
    lanes.begin(LaneId(11), 9);
    push(&mut lanes, 0, LaneId(10), 1..=2);
    push(&mut lanes, 0, LaneId(11), 1..=1);
    push(&mut lanes, 0, LaneId(13), 1..=3);
    let work = lanes.next(0).unwrap();
    assert_eq!((steps_of(&work), work.batches), (vec![(10, 0, 2), (11, 0, 1), (13, 0, 3)], 6));
    assert_eq!(work.steps.iter().map(|step| step.term).collect::<Vec<_>>(), [3, 9, 3]);
    assert_eq!(work.sorted.finish(Vec::new()).len(), 2, "all write the same two rows");
    push(&mut lanes, 0, LaneId(11), 2..=2);
    push(&mut lanes, 0, LaneId(12), 1..=1);
    let (second, steps) = next(&mut lanes, 0).unwrap();
    assert_eq!(steps, [(12, 0, 1)], "what is in a commit is in no other");
    assert_eq!(stored(&mut lanes, second), [(12, 1)]);
    assert_eq!(stored(&mut lanes, work.id), [(10, 2), (11, 1), (13, 3)]);
    assert_eq!(next(&mut lanes, 0).unwrap().1, [(11, 1, 2)]);
    assert_eq!(lanes.waiting(), (1, batch(1).bytes().len()));
}

#[test]
fn no_more_commits_are_under_way_than_may_be_those_that_are_tried_again_among_them() {
    let mut lanes = slots(2);
    let ids: Vec<WorkId> = SLOTS
        .into_iter()
        .filter_map(|slot| {
            push(&mut lanes, 0, LaneId(slot), 1..=1);
            next(&mut lanes, 0).map(|(id, _)| id)
        })
        .collect();
    assert_eq!(ids.len(), 2);
    assert!(matches!(lanes.done(0, ids[0], unknown(), 0), Outcome::Retried { lane: LaneId(10), failures: 1, .. }));
    assert_eq!(next(&mut lanes, 0), None);
    let at_ms = lanes.retry_at_ms().unwrap();
    assert_eq!(next(&mut lanes, at_ms), Some((ids[0], vec![(10, 0, 1)])), "the same again");
    stored(&mut lanes, ids[1]);
    assert_eq!(next(&mut lanes, 0).unwrap().1, [(12, 0, 1), (13, 0, 1)], "what has gathered");
}

#[test]
fn slots_take_turns_where_a_commit_has_no_room_for_all() {
    let mut lanes = slots(1);
    // Two have room.
    let large = batch(Kind::Database.run_bytes_max() / 3 / batch(1).bytes().len() as u64);
    let mut turns = vec![];
    for round in 1..=6 {
        SLOTS.into_iter().for_each(|slot| lanes.push(0, LaneId(slot), BatchId(round), &large));
    }
    for _ in 0..12 {
        let (id, steps) = next(&mut lanes, 0).unwrap();
        turns.extend(steps.iter().map(|step| step.0));
        let bytes: u64 = steps.iter().map(|step| (step.2 - step.1) * large.bytes().len() as u64).sum();
        assert!(bytes <= Kind::Database.run_bytes_max());
        stored(&mut lanes, id);
    }
    assert_eq!(turns, SLOTS.repeat(3));
    assert_eq!(lanes.waiting(), (0, 0));
}

/// A record of a few bytes clears 65 rows, each of which a transaction has twice.
#[test]
fn few_of_the_batches_that_clear_many_rows_go_into_one_commit() {
    let mut lanes = slots(1);
    let batch = unsends(10);
    for id in 1..=100 {
        SLOTS.into_iter().for_each(|slot| lanes.push(0, LaneId(slot), BatchId(id), &batch));
    }
    let mut largest = 0;
    while let Some(work) = lanes.next(0) {
        largest = largest.max(work.batches);
        stored(&mut lanes, work.id);
    }
    assert_eq!(lanes.waiting(), (0, 0));
    assert_eq!(largest, Kind::Database.run_bytes_max() as usize / batch.weight());
    assert!(largest * 10 * (1 + REACTIONS_MAX) < 10_000, "{largest} batches");
}

#[test]
fn what_is_larger_than_a_commit_goes_alone() {
    let mut lanes = slots(1);
    let too_large = batch(Kind::Database.run_bytes_max());
    push(&mut lanes, 0, LaneId(10), 1..=1);
    lanes.push(0, LaneId(11), BatchId(1), &too_large);
    push(&mut lanes, 0, LaneId(12), 1..=1);
    for wanted in [10, 11, 12] {
        let (id, steps) = next(&mut lanes, 0).unwrap();
        assert_eq!(steps, [(wanted, 0, 1)]);
        stored(&mut lanes, id);
    }
}

#[test]
fn slots_that_were_lost_go_and_the_rest_is_tried_again_at_once() {
    let mut lanes = slots(1);
    SLOTS.into_iter().for_each(|slot| push(&mut lanes, 0, LaneId(slot), 1..=2));
    let (id, _) = next(&mut lanes, 0).unwrap();
    push(&mut lanes, 0, LaneId(10), 3..=3);
    assert!(matches!(lanes.done(0, id, unknown(), 0), Outcome::Retried { .. }));
    let at_ms = lanes.retry_at_ms().unwrap();
    next(&mut lanes, at_ms).unwrap();
    assert!(
        matches!(lanes.done(at_ms, id, moved(&[11, 13]), 0), Outcome::Moved(gone) if gone == [LaneId(11), LaneId(13)])
    );
    assert_eq!(lanes.retry_at_ms(), Some(at_ms));
    assert_eq!(
        next(&mut lanes, at_ms),
        Some((id, vec![(10, 0, 2), (12, 0, 2)])),
        "as it was, but for those that are lost"
    );
    push(&mut lanes, 0, LaneId(11), 3..=3);
    assert_eq!(lanes.waiting().0, 5, "nothing is kept of what is lost");
    assert_eq!(stored(&mut lanes, id), [(10, 2), (12, 2)]);
    assert_eq!(next(&mut lanes, at_ms).unwrap().1, [(10, 2, 3)]);
    lanes.begin(LaneId(11), 5);
    push(&mut lanes, 0, LaneId(11), 1..=1);
    let id = of(&lanes, LaneId(10));
    stored(&mut lanes, id);
    let work = lanes.next(0).unwrap();
    assert_eq!((work.steps[0].term, steps_of(&work)), (5, vec![(11, 0, 1)]), "the new term counts from one");
    assert!(matches!(lanes.done(0, work.id, moved(&[11]), 0), Outcome::Moved(_)));
    assert_eq!((next(&mut lanes, u64::MAX), lanes.retry_at_ms(), lanes.waiting()), (None, None, (0, 0)));
}

#[test]
fn what_is_told_of_a_slot_that_was_closed_or_begun_anew_is_ignored() {
    for result in [Ok(Advanced::default()), unknown(), moved(&[10])] {
        let mut lanes = slots(1);
        push(&mut lanes, 0, LaneId(10), 1..=2);
        let (id, _) = next(&mut lanes, 0).unwrap();
        lanes.begin(LaneId(10), 4);
        push(&mut lanes, 0, LaneId(10), 1..=1);
        assert_eq!(next(&mut lanes, 0), None, "one commit may be under way");
        assert!(matches!(lanes.done(0, id, result, 0), Outcome::Void));
        assert_eq!(lanes.retry_at_ms(), None);
        assert_eq!(next(&mut lanes, 0).unwrap().1, [(10, 0, 1)]);
    }
    for result in [Ok(Advanced::default()), moved(&[10])] {
        let mut lanes = slots(1);
        push(&mut lanes, 0, LaneId(10), 1..=2);
        push(&mut lanes, 0, LaneId(11), 1..=1);
        let (id, _) = next(&mut lanes, 0).unwrap();
        lanes.close(LaneId(10));
        assert_eq!(lanes.waiting(), (1, batch(1).bytes().len()));
        let is_lost = result.is_err();
        match lanes.done(0, id, result, 0) {
            Outcome::Void => {
                assert!(is_lost);
                assert_eq!(next(&mut lanes, 0), Some((id, vec![(11, 0, 1)])), "the rest at once");
            }
            Outcome::Stored(stored) => assert!(!is_lost && stored == [(LaneId(11), BatchId(1))]),
            other => panic!("{other:?}"),
        }
    }
    let mut lanes = slots(1);
    push(&mut lanes, 0, LaneId(10), 1..=2);
    let (id, _) = next(&mut lanes, 0).unwrap();
    assert!(matches!(lanes.done(0, id, unknown(), 0), Outcome::Retried { .. }));
    lanes.close(LaneId(10));
    assert_eq!((lanes.retry_at_ms(), next(&mut lanes, u64::MAX)), (None, None), "nothing of it is tried again");
}

#[test]
fn a_slot_takes_nothing_before_it_is_begun_and_begins_in_ever_later_terms() {
    let mut lanes = Lanes::new(SLOTS.map(LaneId).into_iter(), Sharing::Slots { commits_max: 1 }, SLOW_AFTER_MS);
    push(&mut lanes, 0, LaneId(10), 1..=1);
    assert_eq!((next(&mut lanes, 0), lanes.waiting()), (None, (0, 0)));
    lanes.begin(LaneId(10), 1);
    lanes.close(LaneId(10));
    for (slot, term) in [(10, 1), (11, 0)] {
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lanes.begin(LaneId(slot), term)));
        assert!(again.is_err(), "slot {slot} in term {term}");
    }
    lanes.begin(LaneId(10), 2);
    push(&mut lanes, 0, LaneId(10), 1..=1);
    assert_eq!(next(&mut lanes, 0).unwrap().1, [(10, 0, 1)]);
}

#[test]
fn where_there_is_no_journal_a_slot_that_is_away_releases_nothing() {
    let mut lanes = slots(1);
    push(&mut lanes, 0, LaneId(10), 1..=2);
    next(&mut lanes, 0);
    assert_eq!(lanes.tick(SLOW_AFTER_MS), []);
    assert!(lanes.is_away());
    lanes.close(LaneId(10));
    assert_eq!(lanes.tick(SLOW_AFTER_MS), []);
    assert!(!lanes.is_away(), "what is not this node's is not waited for");
}

/// What happens to a node that shares a database with others.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A batch of a slot.
    Push(u16),
    /// A commit begins, if one may.
    Next,
    /// One of those under way ends, perhaps badly.
    Done(usize, Option<CommitFault>),
    /// Another node takes a slot; this one does not know.
    Taken(u16),
    /// This node takes a slot, perhaps from itself, and knows.
    Take(u16),
    /// This node gives up a slot.
    Close(u16),
}

fn any_slot() -> impl Strategy<Value = u16> {
    proptest::sample::select(SLOTS.to_vec())
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let faults =
        [CommitFault::Unavailable, CommitFault::UnknownApplied, CommitFault::UnknownLost, CommitFault::Conflict];
    let fault = prop_oneof![2 => Just(None), 3 => proptest::sample::select(faults.to_vec()).prop_map(Some)];
    prop_oneof![
        6 => any_slot().prop_map(Happening::Push),
        3 => Just(Happening::Next),
        4 => (0..4usize, fault).prop_map(|(at, fault)| Happening::Done(at, fault)),
        1 => any_slot().prop_map(Happening::Taken),
        1 => any_slot().prop_map(Happening::Take),
        1 => any_slot().prop_map(Happening::Close),
    ]
}

/// A node, the database, and what is true of both.
struct Node {
    store: MemoryStore,
    lanes: Lanes,
    under_way: Vec<Work>,
    /// The last batch that was taken for each slot that is open here, and the last of which it was told that it is stored.
    open: BTreeMap<LaneId, (u64, u64)>,
}

impl Node {
    const HERE: MemberId = MemberId(1);
    const THERE: MemberId = MemberId(2);

    fn new(commits_max: usize) -> Self {
        let store = MemoryStore::database();
        block_on(store.found("test")).unwrap();
        let lanes = Lanes::new(SLOTS.map(LaneId).into_iter(), Sharing::Slots { commits_max }, SLOW_AFTER_MS);
        let mut node = Self { store, lanes, under_way: vec![], open: BTreeMap::new() };
        SLOTS.into_iter().for_each(|slot| node.take(LaneId(slot)));
        node
    }

    fn give(&self, lane: LaneId, member: MemberId) -> u64 {
        let roll = block_on(self.store.roll()).unwrap();
        let term = roll.term(lane) + 1;
        let change = RollChange {
            expects_owners: vec![(lane, roll.owners.get(&lane).copied())],
            owners: vec![(lane, Owner { member, term, is_pinned: false })],
            ..RollChange::default()
        };
        assert!(block_on(self.store.change_roll(&change)).unwrap());
        term
    }

    fn take(&mut self, lane: LaneId) {
        let term = self.give(lane, Self::HERE);
        self.lanes.begin(lane, term);
        self.open.insert(lane, (0, 0));
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Push(slot) => {
                let lane = LaneId(slot);
                match self.open.get_mut(&lane) {
                    Some((last, _)) => {
                        *last += 1;
                        self.lanes.push(0, lane, BatchId(*last), &batch(1));
                    }
                    None => self.lanes.push(0, lane, BatchId(77), &batch(1)),
                }
            }
            Happening::Next => self.under_way.extend(self.lanes.next(u64::MAX)),
            Happening::Done(at, fault) => {
                if at < self.under_way.len() {
                    let work = self.under_way.remove(at);
                    self.done(work, fault);
                }
            }
            Happening::Taken(slot) => {
                let lane = LaneId(slot);
                let term = self.give(lane, Self::THERE);
                // Which writes something of its own.
                let step = Step { lane, term, after: BatchId(0), up_to: BatchId(1000) };
                block_on(self.store.advance(Fence(0), &[step], Fold::default().sort())).unwrap();
            }
            Happening::Take(slot) => self.take(LaneId(slot)),
            Happening::Close(slot) => {
                self.lanes.close(LaneId(slot));
                self.open.remove(&LaneId(slot));
            }
        }
    }

    fn done(&mut self, work: Work, fault: Option<CommitFault>) {
        fault.into_iter().for_each(|fault| self.store.fail_next_commit(fault));
        let result = block_on(self.store.advance(Fence(0), &work.steps, work.sorted));
        self.store.forget_faults();
        match self.lanes.done(0, work.id, result, 0) {
            Outcome::Stored(stored) => {
                for (lane, up_to) in stored {
                    let (last, told) = self.open.get_mut(&lane).expect("nothing is told of what is closed");
                    assert!(*told < up_to.0 && up_to.0 <= *last);
                    *told = up_to.0;
                }
            }
            Outcome::Moved(lanes) => {
                let roll = block_on(self.store.roll()).unwrap();
                for lane in lanes {
                    assert_eq!(roll.owners[&lane].member, Self::THERE);
                    self.open.remove(&lane).expect("it was open");
                }
            }
            Outcome::Retried { .. } | Outcome::Void => {}
            Outcome::Lost(error) => panic!("{error}"),
        }
    }

    /// The database is well, and everything that is under way ends.
    fn settle(&mut self) {
        loop {
            self.happens(Happening::Next);
            match self.under_way.pop() {
                Some(work) => self.done(work, None),
                None => return,
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_slot_has_all_its_batches_in_the_store_or_is_known_to_be_lost(
        happenings in proptest::collection::vec(any_happening(), 0..120), commits_max in 1..4usize,
    ) {
        let mut node = Node::new(commits_max);
        happenings.into_iter().for_each(|happening| node.happens(happening));
        node.settle();
        prop_assert_eq!(node.lanes.waiting(), (0, 0));
        let owners = block_on(node.store.roll()).unwrap().owners;
        let progress: BTreeMap<LaneId, BatchId> = block_on(node.store.progress()).unwrap().into_iter().collect();
        for (lane, owner) in owners {
            let found = progress.get(&lane).map_or(0, |batch| batch.0);
            match node.open.get(&lane) {
                Some((last, told)) if owner.member == Node::HERE => prop_assert_eq!((*last, *told), (found, found)),
                // It had nothing to write since it was taken from it.
                Some((last, told)) => prop_assert_eq!((last, found), (told, 1000)),
                None if owner.member == Node::THERE => prop_assert_eq!(found, 1000),
                None => {}
            }
        }
    }
}

#[test]
fn what_the_store_refuses_of_one_slot_holds_up_no_other_and_does_not_count_as_an_outage() {
    let refused = || Err(StoreError::Damaged { what: "a test".to_owned() });
    let mut lanes = slots(1);
    for slot in [10, 11, 13] {
        push(&mut lanes, 0, LaneId(slot), 1..=1);
    }
    let (id, steps) = next(&mut lanes, 0).unwrap();
    assert_eq!(steps.len(), 3);
    assert!(matches!(lanes.done(0, id, refused(), 0), Outcome::Retried { .. }));
    // Each is tried alone, at once.
    let alone: Vec<_> = std::iter::from_fn(|| next(&mut lanes, 0)).collect();
    assert_eq!(
        alone.iter().map(|(_, steps)| steps[..].to_vec()).collect::<Vec<_>>(),
        [[(10, 0, 1)], [(11, 0, 1)], [(13, 0, 1)]]
    );
    assert_eq!((stored(&mut lanes, alone[0].0), stored(&mut lanes, alone[2].0)), (vec![(10, 1)], vec![(13, 1)]));
    assert!(matches!(lanes.done(0, alone[1].0, refused(), 0), Outcome::Retried { lane: LaneId(11), .. }));
    lanes.tick(SLOW_AFTER_MS);
    assert!(!lanes.is_away(), "there is nothing wrong with the others");
    push(&mut lanes, SLOW_AFTER_MS, LaneId(10), 2..=2);
    let mut work = Vec::new();
    while let Some((id, steps)) = next(&mut lanes, u64::MAX / 2) {
        work.extend(steps);
        let result = if steps_is_refused(&work) { refused() } else { Ok(Advanced::default()) };
        lanes.done(u64::MAX / 2, id, result, 0);
        if work.len() > 3 {
            break;
        }
    }
    assert!(work.contains(&(10, 1, 2)), "it goes on, though one commit may be under way: {work:?}");
}

fn steps_is_refused(work: &[Stepped]) -> bool {
    work.last().is_some_and(|(lane, ..)| *lane == 11)
}
