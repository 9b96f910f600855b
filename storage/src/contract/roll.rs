//! What every database must do for a cluster.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use super::{cursor, cursor_of, step, take_over};
use crate::{
    record::{BatchId, LaneId},
    roll::{Member, MemberId, Owner, Roll, RollChange},
    store::{Advanced, Fence, Holder, Kind, Step, Store, StoreError},
};

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);

fn member(name: &str, beat: u64) -> Member {
    Member {
        name: name.to_owned(),
        holder: Holder(u128::MAX),
        beat,
        mesh: format!("{name}.example:7000"),
        clients: None,
        clients_tls: Some(format!("{name}.example:443")),
        weight: 100,
        is_leaving: false,
        lease_ms: 3_000,
    }
}

fn enrol(id: MemberId, name: &str) -> RollChange {
    RollChange { expects_members: vec![(id, None)], members: vec![(id, member(name, 1))], ..RollChange::default() }
}

/// Gives slots that are as in the roll to a member, each in the next term.
fn take(roll: &Roll, lanes: &[u16], member: MemberId) -> RollChange {
    let lanes = || lanes.iter().map(|lane| LaneId(*lane));
    RollChange {
        expects_owners: lanes().map(|lane| (lane, roll.owners.get(&lane).copied())).collect(),
        owners: lanes().map(|lane| (lane, Owner { member, term: roll.term(lane) + 1, is_pinned: false })).collect(),
        ..RollChange::default()
    }
}

const fn in_term(term: u64, step: Step) -> Step {
    Step { term, ..step }
}

async fn roll<S: Store>(store: &S) -> Roll {
    let roll = store.roll().await.expect("roll");
    for lane in roll.owners.keys().copied().chain([LaneId(u16::MAX)]) {
        assert_eq!(store.term(lane).await.expect("term"), roll.term(lane), "{lane:?}");
    }
    roll
}

async fn make<S: Store>(store: &S, change: &RollChange) {
    assert!(store.change_roll(change).await.expect("change_roll"), "{change:?}");
}

async fn is_refused<S: Store>(store: &S, change: &RollChange) {
    let before = roll(store).await;
    assert!(!store.change_roll(change).await.expect("change_roll"), "{change:?}");
    assert_eq!(roll(store).await, before);
}

pub(super) async fn a_store_is_one_clusters_or_one_servers<S: Store>(store: &S) {
    if store.kind() == Kind::Engine {
        let refused = [
            store.found("a").await.err(),
            store.roll().await.err(),
            store.term(LaneId(0)).await.err(),
            store.change_roll(&RollChange::default()).await.err(),
            store.roll_changed(0).await.err(),
        ];
        assert!(refused.iter().all(|error| matches!(error, Some(StoreError::Refused { .. }))), "{refused:?}");
        return;
    }
    let fence = take_over(store).await;
    store.begin(fence, Holder(1)).await.expect("begin");
    store.advance(fence, &[step(3, 0, 2)], cursor(1, 10)).await.expect("advance");
    assert_eq!(roll(store).await, Roll::default());
    store.found("a").await.expect("found");
    assert_eq!((store.progress().await.expect("progress"), store.tenure().await.expect("tenure")), (vec![], None));
    let alone = store.advance(fence, &[step(3, 2, 3)], cursor(1, 20)).await;
    assert!(matches!(alone, Err(StoreError::Fenced { .. })), "who was alone goes on: {alone:?}");
    let takes_over = store.take_over().await;
    assert!(
        matches!(&takes_over, Err(StoreError::Refused { reason }) if reason.contains("\"a\"")),
        "a server alone begins on a cluster's store: {takes_over:?}"
    );
    let other = store.found("b").await;
    assert!(matches!(&other, Err(StoreError::Refused { reason }) if reason.contains("\"a\"")), "{other:?}");
    make(store, &take(&Roll::default(), &[3], A)).await;
    store.advance(Fence(0), &[in_term(1, step(3, 0, 1))], cursor(1, 30)).await.expect("advance");
    store.found("a").await.expect("found again");
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(3), BatchId(1))], "what is founded stays so");
}

pub(super) async fn members_enrol_once_and_count_their_beats<S: Store>(store: &S) {
    store.found("a").await.expect("found");
    make(store, &enrol(A, "one")).await;
    is_refused(store, &enrol(A, "two")).await;
    make(store, &enrol(B, "two")).await;
    let beats = |from: u64| RollChange {
        expects_members: vec![(A, Some(member("one", from)))],
        members: vec![(A, member("one", from + 1))],
        ..RollChange::default()
    };
    make(store, &beats(1)).await;
    make(store, &beats(2)).await;
    is_refused(store, &beats(2)).await;
    let found = roll(store).await;
    assert_eq!(found.members.into_iter().collect::<Vec<_>>(), [(A, member("one", 3)), (B, member("two", 1))]);
    assert_eq!(found.owners.len(), 0);
}

pub(super) async fn a_change_of_the_roll_is_made_as_a_whole_and_onto_what_it_expects<S: Store>(store: &S) {
    store.found("a").await.expect("found");
    make(store, &enrol(A, "one")).await;
    make(store, &take(&Roll::default(), &[0, 7, 255], A)).await;
    let first = roll(store).await;
    assert_eq!((first.version(), first.owners.len()), (3, 3));
    // Node one seems dead: who takes its slots over says how it was seen last.
    let mut takes = take(&first, &[0, 7], B);
    takes.expects_members.push((A, Some(member("one", 1))));
    let mut lives = enrol(A, "one");
    lives.expects_members[0].1 = Some(member("one", 1));
    lives.members[0].1.beat = 2;
    make(store, &lives).await;
    is_refused(store, &takes).await;
    takes.expects_members[0].1 = Some(member("one", 2));
    make(store, &takes).await;
    is_refused(store, &takes).await;
    // One row of several is not as expected, whichever.
    is_refused(store, &take(&first, &[255, 7], B)).await;
    is_refused(store, &take(&first, &[7, 255], B)).await;
    let second = roll(store).await;
    assert_eq!((second.version(), second.owners[&LaneId(7)].member, second.owners[&LaneId(255)].member), (5, B, A));
    let mut pins = take(&second, &[7], B);
    pins.owners[0].1 = Owner { member: B, term: 2, is_pinned: true };
    make(store, &pins).await;
    let third = roll(store).await;
    assert_eq!((third.version(), third.owners[&LaneId(7)].is_pinned), (5, true));
    for wrong in [RollChange { expects_owners: vec![], ..pins.clone() }, take(&Roll::default(), &[7, 7], A)] {
        let refused = store.change_roll(&wrong).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(roll(store).await, third);
}

pub(super) async fn in_an_older_term_nothing_is_committed_and_batches_count_from_one_in_each<S: Store>(store: &S) {
    store.found("a").await.expect("found");
    let unowned = store.advance(Fence(0), &[in_term(1, step(7, 0, 1))], cursor(1, 10)).await;
    have_moved(&unowned, &[(7, 0)]);
    make(store, &take(&Roll::default(), &[7, 8], A)).await;
    let both = |term| [in_term(1, step(8, 0, 4)), in_term(term, step(7, 0, 9))];
    store.advance(Fence(0), &both(1), cursor(1, 20)).await.expect("advance");
    // A change that leaves the term as it is leaves the progress, too.
    let held = roll(store).await;
    let mut pins = take(&held, &[7], A);
    pins.owners[0].1 = Owner { member: A, term: 1, is_pinned: true };
    make(store, &pins).await;
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(7), BatchId(9)), (LaneId(8), BatchId(4))]);
    make(store, &take(&roll(store).await, &[7], B)).await;
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(8), BatchId(4))]);
    // Also what had been made is refused: whoever asks must learn that the lane is another's.
    for late in [step(7, 0, 9), step(7, 9, 10), step(7, 0, 1)] {
        let steps = [in_term(1, step(8, 4, 5)), in_term(1, late)];
        let moved = store.advance(Fence(0), &steps, cursor(1, 30)).await;
        have_moved(&moved, &[(7, 2)]);
        assert!(moved.is_err_and(|error| !error.is_retryable()));
    }
    assert_eq!(cursor_of(store, 1).await, 20);
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(8), BatchId(4))], "the other lane moved alone");
    let steps = [in_term(2, step(7, 0, 1)), in_term(1, step(8, 4, 5))];
    store.advance(Fence(0), &steps, cursor(1, 40)).await.expect("advance");
    assert_eq!(store.advance(Fence(0), &steps, cursor(1, 40)).await.expect("again"), Advanced::default());
    let skips = store.advance(Fence(0), &[in_term(2, step(7, 9, 10))], cursor(1, 50)).await;
    assert!(matches!(skips, Err(StoreError::OutOfStep { .. })), "{skips:?}");
    // What has no term is fenced as ever, also beside what has one.
    let mixed = store.advance(Fence(0), &[in_term(2, step(7, 1, 2)), step(9, 0, 1)], cursor(1, 60)).await;
    assert!(matches!(mixed, Err(StoreError::Fenced { .. })), "{mixed:?}");
    // All that have gone are named at once.
    make(store, &take(&roll(store).await, &[7, 8], A)).await;
    let steps = [in_term(2, step(7, 1, 2)), in_term(1, step(8, 5, 6)), in_term(1, step(9, 0, 1))];
    have_moved(&store.advance(Fence(0), &steps, cursor(1, 70)).await, &[(7, 3), (8, 2), (9, 0)]);
    assert_eq!(cursor_of(store, 1).await, 40);
}

/// These lanes have gone, with the terms that they are in.
fn have_moved(result: &Result<Advanced, StoreError>, wanted: &[(u16, u64)]) {
    let Err(StoreError::Moved { lanes }) = result else { panic!("{result:?}") };
    let found: Vec<_> = lanes.iter().map(|moved| (moved.lane.0, moved.current)).collect();
    assert_eq!(found, wanted, "{result:?}");
}

pub(super) async fn whoever_waits_for_other_owners_is_told<S: Store>(store: &S) {
    store.found("a").await.expect("found");
    make(store, &take(&Roll::default(), &[7], A)).await;
    store.roll_changed(0).await.expect("it has changed already");
    let before = roll(store).await;
    let mut waits = pin!(store.roll_changed(before.version()));
    let mut told = None;
    // What is no news: who enrols. The reads give it time to be heard.
    beside(waits.as_mut(), &mut told, make(store, &enrol(A, "one"))).await;
    for _ in 0..50 {
        beside(waits.as_mut(), &mut told, store.roll()).await.expect("roll");
    }
    assert!(told.is_none(), "told of nothing: {told:?}");
    beside(waits.as_mut(), &mut told, make(store, &take(&before, &[7], B))).await;
    let told = match told {
        Some(told) => told,
        None => waits.await,
    };
    told.expect("roll_changed");
}

/// Ends with `other`; what `waits` ends with meanwhile is told.
async fn beside<T, W: Future>(
    mut waits: Pin<&mut W>,
    told: &mut Option<W::Output>,
    other: impl Future<Output = T>,
) -> T {
    let mut other = pin!(other);
    poll_fn(|context| {
        if told.is_none()
            && let Poll::Ready(done) = waits.as_mut().poll(context)
        {
            *told = Some(done);
        }
        other.as_mut().poll(context)
    })
    .await
}
