//! What every backend must do, as checks that run against any [`Store`]. Public, so that a backend elsewhere can be held
//! to the same.
//!
//! Each check gets a fresh, empty store. A check that fails panics and says which claim does not hold.

mod groups;
mod roll;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use proto_spec::{
    Content, DeviceId, Direction, Entry, Event, SendNumber, Seq, Settings, TimestampMs, UserId, Visibility,
};

use crate::{
    fold::{Fold, Sorted},
    queries,
    query::{Answer, PresenceRows, Query, Sent},
    record::{Batch, BatchId, LaneId, Record},
    run::{Run, RunBuilder},
    schema::{Key, RowKey, SettingsRow, VisibilityRow},
    store::{Advanced, Fence, Holder, Kind, Range, Rows, Step, Store, StoreError, Tenure},
};

/// Runs all checks. `fresh` makes an empty store, and something that is dropped after it.
///
/// # Panics
/// A claim does not hold.
pub fn check<S: Store, G>(mut fresh: impl FnMut() -> (S, G)) {
    let mut each = |name: &str, check: &dyn Fn(&S)| {
        let (store, _guard) = fresh();
        let named = CheckName(name);
        check(&store);
        drop(named);
    };
    each("a_commit_is_read_back", &|store| block_on(a_commit_is_read_back(store)));
    each("a_delete_removes_and_may_find_nothing", &|store| block_on(a_delete_removes_and_may_find_nothing(store)));
    each("committing_a_run_twice_equals_once", &|store| block_on(committing_a_run_twice_equals_once(store)));
    each("a_later_commit_wins", &|store| block_on(a_later_commit_wins(store)));
    each("ranges_include_both_ends_in_both_directions", &|store| block_on(ranges_include_both_ends(store)));
    each("a_range_stops_at_its_bounds", &|store| block_on(a_range_stops_at_its_bounds(store)));
    each("a_range_sees_no_other_table", &|store| block_on(a_range_sees_no_other_table(store)));
    each("an_older_fence_never_commits", &|store| block_on(an_older_fence_never_commits(store)));
    each("a_large_run_is_read_back_in_order", &|store| block_on(a_large_run_is_read_back_in_order(store)));
    each("many_small_runs_are_read_back", &|store| block_on(many_small_runs_are_read_back(store)));
    each("an_advance_is_made_once", &|store| block_on(an_advance_is_made_once(store)));
    each("an_advance_goes_on_from_the_one_before", &|store| block_on(an_advance_goes_on_from_the_one_before(store)));
    each("lanes_advance_together_or_not_at_all", &|store| block_on(lanes_advance_together_or_not_at_all(store)));
    each("lanes_advance_side_by_side", &|store| block_on(lanes_advance_side_by_side(store)));
    each("an_older_fence_never_advances", &|store| block_on(an_older_fence_never_advances(store)));
    each("sends_of_earlier_advances_are_kept", &|store| block_on(sends_of_earlier_advances_are_kept(store)));
    each("a_number_that_is_given_up_stays_used", &|store| block_on(a_number_that_is_given_up_stays_used(store)));
    each("what_says_who_is_seen_comes_in_the_order_asked_for", &|store| {
        block_on(what_says_who_is_seen_comes_in_the_order_asked_for(store));
    });
    each("a_group_is_read_back_whole", &|store| block_on(groups::a_group_is_read_back_whole(store)));
    each("a_user_is_read_with_their_groups", &|store| block_on(groups::a_user_is_read_with_their_groups(store)));
    each("own_rows_are_in_no_table", &|store| block_on(own_rows_are_in_no_table(store)));
    each("who_begins_counts_from_one", &|store| block_on(who_begins_counts_from_one(store)));
    each("a_store_is_one_clusters_or_one_servers", &|store| {
        block_on(roll::a_store_is_one_clusters_or_one_servers(store));
    });
    let mut each_cluster = |name: &str, check: &dyn Fn(&S)| {
        each(name, &|store| {
            if store.kind() == Kind::Database {
                check(store);
            }
        });
    };
    each_cluster("members_enrol_once_and_count_their_beats", &|store| {
        block_on(roll::members_enrol_once_and_count_their_beats(store));
    });
    each_cluster("a_change_of_the_roll_is_made_as_a_whole_and_onto_what_it_expects", &|store| {
        block_on(roll::a_change_of_the_roll_is_made_as_a_whole_and_onto_what_it_expects(store));
    });
    each_cluster("in_an_older_term_nothing_is_committed_and_batches_count_from_one_in_each", &|store| {
        block_on(roll::in_an_older_term_nothing_is_committed_and_batches_count_from_one_in_each(store));
    });
    each_cluster("whoever_waits_for_other_owners_is_told", &|store| {
        block_on(roll::whoever_waits_for_other_owners_is_told(store));
    });
    each("a_full_advance_is_one_transaction", &|store| block_on(a_full_advance_is_one_transaction(store)));
}

async fn an_advance_is_made_once<S: Store>(store: &S) {
    let fence = take_over(store).await;
    assert_eq!(store.progress().await.expect("progress"), []);
    let first = store.advance(fence, &[step(3, 0, 2)], cursor(1, 10)).await.expect("advance");
    assert_eq!(first.rows, 2, "the cursor, and that there may be something to do");
    store.advance(fence, &[step(3, 2, 3)], cursor(1, 20)).await.expect("advance");
    // As if its outcome had not been known.
    let again = store.advance(fence, &[step(3, 0, 2)], cursor(1, 10)).await.expect("advance");
    assert_eq!(again, Advanced::default());
    assert_eq!(cursor_of(store, 1).await, 20);
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(3), BatchId(3))]);
}

async fn an_advance_goes_on_from_the_one_before<S: Store>(store: &S) {
    let fence = take_over(store).await;
    store.advance(fence, &[step(0, 0, 2)], cursor(1, 10)).await.expect("advance");
    for wrong in [step(0, 3, 4), step(0, 1, 4), step(1, 5, 6)] {
        match store.advance(fence, &[wrong], cursor(1, 20)).await {
            Err(StoreError::OutOfStep { step, .. }) => assert_eq!(step, wrong),
            other => panic!("an advance of a lane that is elsewhere gave {other:?}"),
        }
    }
    assert_eq!(cursor_of(store, 1).await, 10);
}

async fn lanes_advance_together_or_not_at_all<S: Store>(store: &S) {
    let fence = take_over(store).await;
    store.advance(fence, &[step(0, 0, 1), step(1, 0, 5)], cursor(1, 10)).await.expect("advance");
    let refused = store.advance(fence, &[step(0, 1, 2), step(1, 0, 5)], cursor(1, 20)).await;
    assert!(refused.is_err(), "{refused:?}");
    let refused = store.advance(fence, &[step(0, 1, 2), step(1, 4, 6)], cursor(1, 20)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(cursor_of(store, 1).await, 10);
    let progress = store.progress().await.expect("progress");
    assert_eq!(progress, [(LaneId(0), BatchId(1)), (LaneId(1), BatchId(5))]);
}

async fn lanes_advance_side_by_side<S: Store>(store: &S) {
    let fence = take_over(store).await;
    for batch in 0..20 {
        let (a, b) = (step(0, batch, batch + 1), step(1, batch, batch + 1));
        let mut a = pin!(store.advance(fence, std::slice::from_ref(&a), cursor(1, batch + 1)));
        let mut b = pin!(store.advance(fence, std::slice::from_ref(&b), cursor(2, batch + 1)));
        let (mut done_a, mut done_b) = (None, None);
        std::future::poll_fn(|context| {
            if done_a.is_none()
                && let Poll::Ready(done) = a.as_mut().poll(context)
            {
                done_a = Some(done);
            }
            if done_b.is_none()
                && let Poll::Ready(done) = b.as_mut().poll(context)
            {
                done_b = Some(done);
            }
            if done_a.is_some() && done_b.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(matches!((&done_a, &done_b), (Some(Ok(_)), Some(Ok(_)))), "{done_a:?} {done_b:?}");
    }
    assert_eq!((cursor_of(store, 1).await, cursor_of(store, 2).await), (20, 20));
}

async fn an_older_fence_never_advances<S: Store>(store: &S) {
    let first = take_over(store).await;
    let second = take_over(store).await;
    for refused in
        [store.advance(first, &[step(0, 0, 1)], cursor(1, 10)).await.map(drop), store.begin(first, Holder(1)).await]
    {
        match refused {
            Err(StoreError::Fenced { held, current }) => assert_eq!((held, current), (first, second)),
            other => panic!("under an older fence: {other:?}"),
        }
    }
    assert_eq!((store.progress().await.expect("progress"), store.tenure().await.expect("tenure")), (vec![], None));
    store.advance(second, &[step(0, 0, 1)], cursor(1, 10)).await.expect("advance");
}

async fn sends_of_earlier_advances_are_kept<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let (user, device) = (UserId(1), DeviceId(9));
    let mut entries = Vec::new();
    for number in 1..=130 {
        let event =
            Event::Sent { to: UserId(2).into(), device, number: SendNumber(number), content: Content::text("hello") };
        let entry = Entry { seq: Seq(number), time: TimestampMs(number), event };
        let sorted = sorted(&[Record::Append { user, entry: entry.clone(), replaces: None, count: 0 }]);
        entries.push(entry);
        store.advance(fence, &[step(0, number - 1, number)], sorted).await.expect("advance");
    }
    for (number, entry) in (1..).zip(entries) {
        let query = Query::Send { user, device, number: SendNumber(number) };
        let answer = queries::answer(store, &query).await.expect("answer");
        assert_eq!(answer, Answer::Send(Some(Sent::Entry(entry))));
    }
}

async fn a_number_that_is_given_up_stays_used<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let (user, device) = (UserId(1), DeviceId(9));
    let first = Record::Cursor { user, device, seq: Seq::ZERO };
    let given_up = |number| Record::GivenUp { user, device, number: SendNumber(number) };
    store.advance(fence, &[step(0, 0, 1)], sorted(&[first, given_up(1), given_up(2)])).await.expect("advance");
    let event = Event::Sent { to: UserId(2).into(), device, number: SendNumber(3), content: Content::text("hello") };
    let entry = Entry { seq: Seq(1), time: TimestampMs(1), event };
    let sent = Record::Append { user, entry: entry.clone(), replaces: None, count: 0 };
    store.advance(fence, &[step(0, 1, 2)], sorted(&[sent])).await.expect("advance");
    store.advance(fence, &[step(0, 2, 3)], sorted(&[given_up(4)])).await.expect("advance");
    let ask = async |number| {
        let query = Query::Send { user, device, number: SendNumber(number) };
        queries::answer(store, &query).await.expect("answer")
    };
    for number in [1, 2, 4] {
        assert_eq!(ask(number).await, Answer::Send(Some(Sent::GivenUp)), "{number}");
    }
    assert_eq!(ask(3).await, Answer::Send(Some(Sent::Entry(entry))));
    match queries::answer(store, &Query::User(user)).await.expect("answer") {
        Answer::User(snapshot) => assert_eq!(snapshot.devices[0].last_number, SendNumber(4)),
        other => panic!("{other:?}"),
    }
}

async fn what_says_who_is_seen_comes_in_the_order_asked_for<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let (looks, user, nobody) = (UserId(1), UserId(2), UserId(3));
    let append = |seq, event, replaces| {
        let entry = Entry { seq: Seq(seq), time: TimestampMs(seq), event };
        Record::Append { user, entry, replaces, count: 0 }
    };
    let last_seen = |at| Record::LastSeen { user, at: TimestampMs(at) };
    let visible = |visibility| Event::Visibility { visibility };
    let content = Content::text("hello");
    let written = Event::Sent { to: looks.into(), device: DeviceId(9), number: SendNumber(1), content };
    let muted = Event::Settings { conversation: looks.into(), settings: Settings::MUTED };
    let first = [append(1, visible(Visibility::INVISIBLE), None), last_seen(70), append(2, written, None)];
    store.advance(fence, &[step(0, 0, 1)], sorted(&first)).await.expect("advance");
    // A clock may have been set back: the newest record counts.
    let received = Event::Received { from: looks, origin: Seq(1), content: Content::text("hello yourself") };
    let received = Entry { seq: Seq(5), time: TimestampMs(5), event: received };
    let received = Record::Append { user, entry: received, replaces: None, count: 1 };
    let visible_now = append(3, visible(Visibility::HIDE_LAST_SEEN), Some(Seq(1)));
    let kept = Event::Settings { conversation: user.into(), settings: Settings::BLOCKED };
    let kept = Entry { seq: Seq(1), time: TimestampMs(6), event: kept };
    let kept = Record::Append { user: looks, entry: kept, replaces: None, count: 0 };
    let second = [last_seen(60), visible_now, append(4, muted, None), received, kept];
    store.advance(fence, &[step(0, 1, 2)], sorted(&second)).await.expect("advance");

    let visibility = VisibilityRow { visibility: Visibility::HIDE_LAST_SEEN, at: Seq(3) };
    let settings = SettingsRow { settings: Settings::MUTED, at: Seq(4) };
    let of_looks = SettingsRow { settings: Settings::BLOCKED, at: Seq(1) };
    let last_seen = TimestampMs(60);
    let of_user = PresenceRows { visibility, last_seen, sent: Seq(2), received: Seq(1), settings, of_looks };
    let none = PresenceRows::default();
    let query = Query::Presence { looks, users: vec![nobody, user, user, looks] };
    let found = queries::answer(store, &query).await.expect("answer");
    assert_eq!(found, Answer::Presence(vec![none, of_user, of_user, none]));
    // They have written to nobody else.
    let query = Query::Presence { looks: nobody, users: vec![user] };
    let found = queries::answer(store, &query).await.expect("answer");
    assert_eq!(found, Answer::Presence(vec![PresenceRows { visibility, last_seen, ..none }]));
    match queries::answer(store, &Query::User(user)).await.expect("answer") {
        Answer::User(known) => assert_eq!((known.visibility, known.last_seen), (visibility, last_seen)),
        other => panic!("{other:?}"),
    }
}

async fn own_rows_are_in_no_table<S: Store>(store: &S) {
    let fence = take_over(store).await;
    store.begin(fence, Holder(5)).await.expect("begin");
    store.advance(fence, &[step(0, 0, 7), step(u16::MAX, 0, 1)], cursor(1, 10)).await.expect("advance");
    let ends = [[1; 1].as_slice(), &[u8::MAX; Key::LEN_MAX]].map(|key| Key::from_bytes(key).expect("short enough"));
    let [first, last] = ends;
    let all = Range { first, last, direction: Direction::Forwards, rows_max: usize::MAX, bytes_max: usize::MAX };
    let rows = store.range(&all).await.expect("range").rows;
    assert_eq!(rows.len(), 2, "the cursor, and that there may be something to do: {rows:?}");
}

async fn who_begins_counts_from_one<S: Store>(store: &S) {
    assert_eq!(store.tenure().await.expect("tenure"), None);
    let fence = take_over(store).await;
    store.advance(fence, &[step(0, 0, 7)], cursor(1, 10)).await.expect("advance");
    assert_eq!(store.tenure().await.expect("tenure"), None, "it has not begun");
    store.begin(fence, Holder(5)).await.expect("begin");
    assert_eq!(store.tenure().await.expect("tenure"), Some(Tenure { holder: Holder(5), fence }));
    assert_eq!(store.progress().await.expect("progress"), []);
    store.advance(fence, &[step(0, 0, 1)], cursor(1, 20)).await.expect("advance");
    let later = take_over(store).await;
    assert_eq!(store.tenure().await.expect("tenure"), Some(Tenure { holder: Holder(5), fence }));
    assert_eq!(store.progress().await.expect("progress"), [(LaneId(0), BatchId(1))]);
    store.begin(later, Holder(u128::MAX)).await.expect("begin");
    assert_eq!(store.tenure().await.expect("tenure"), Some(Tenure { holder: Holder(u128::MAX), fence: later }));
}

/// As many records as ever come at once: the most rows for their bytes, and the most bytes.
async fn a_full_advance_is_one_transaction<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let bytes_max = Kind::Database.run_bytes_max() as usize;
    let mut batch = Batch::default();
    let mut user = 0;
    while batch.bytes().len() < bytes_max {
        user += 1;
        batch.push(&Record::Cursor { user: UserId(user), device: DeviceId(1), seq: Seq(1) });
    }
    let mut fold = Fold::default();
    fold.add(batch.bytes()).expect("a batch");
    store.advance(fence, &[step(0, 0, 1)], fold.sort()).await.expect("many small rows");
    assert_eq!(cursor_of(store, user).await, 1);
    let text = "x".repeat(8 * 1024);
    let mut batch = Batch::default();
    let mut seq = 0;
    while batch.bytes().len() < bytes_max {
        seq += 1;
        let event = Event::Received { from: UserId(2), origin: Seq(seq), content: Content::text(&text) };
        let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
        batch.push(&Record::Append { user: UserId(1), entry, replaces: None, count: 0 });
    }
    let mut fold = Fold::default();
    fold.add(batch.bytes()).expect("a batch");
    store.advance(fence, &[step(0, 1, 2)], fold.sort()).await.expect("long texts");
    assert_eq!(range(store, 0, u64::MAX, Direction::Forwards).await.rows.len() as u64, seq);
}

fn step(lane: u16, after: u64, up_to: u64) -> Step {
    Step { lane: LaneId(lane), term: 0, after: BatchId(after), up_to: BatchId(up_to) }
}

fn sorted(records: &[Record]) -> Sorted {
    let mut batch = Batch::default();
    records.iter().for_each(|record| batch.push(record));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).expect("a batch");
    fold.sort()
}

/// What the acknowledgement of a user's only device leaves behind.
fn cursor(user: u64, seq: u64) -> Sorted {
    sorted(&[Record::Cursor { user: UserId(user), device: DeviceId(1), seq: Seq(seq) }])
}

async fn cursor_of<S: Store>(store: &S, user: u64) -> u64 {
    match queries::answer(store, &Query::User(UserId(user))).await.expect("answer") {
        Answer::User(snapshot) => snapshot.devices.first().map_or(0, |device| device.cursor.0),
        other => panic!("{other:?}"),
    }
}

async fn a_commit_is_read_back<S: Store>(store: &S) {
    let fence = take_over(store).await;
    assert_eq!(get(store, 1).await, None);
    commit(store, fence, run([(1, Some(&b"one"[..])), (2, Some(&b""[..]))])).await;
    assert_eq!(get(store, 1).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(get(store, 2).await.as_deref(), Some(&b""[..]), "an empty value is a value");
    let many = store.get_many(&[key(2), key(9), key(1)]).await.expect("get_many");
    assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    commit(store, fence, Run::default()).await;
}

async fn a_delete_removes_and_may_find_nothing<S: Store>(store: &S) {
    let fence = take_over(store).await;
    commit(store, fence, run([(1, Some(&b"one"[..])), (2, Some(&b"two"[..]))])).await;
    commit(store, fence, run([(1, None), (5, None)])).await;
    assert_eq!(get(store, 1).await, None);
    assert_eq!(numbers(&range(store, 0, 9, Direction::Forwards).await), [2]);
    assert_eq!(numbers(&range(store, 0, 9, Direction::Backwards).await), [2]);
}

async fn committing_a_run_twice_equals_once<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let run = run([(1, Some(&b"one"[..])), (2, None), (3, Some(&b"three"[..]))]);
    commit(store, fence, run.clone()).await;
    let once = range(store, 0, 9, Direction::Forwards).await;
    commit(store, fence, run).await;
    assert_eq!(range(store, 0, 9, Direction::Forwards).await, once);
}

async fn a_later_commit_wins<S: Store>(store: &S) {
    let fence = take_over(store).await;
    for value in 0..20u8 {
        commit(store, fence, run([(1, Some(&[value][..])), (2, (value % 2 == 0).then_some(&[value][..]))])).await;
        assert_eq!(get(store, 1).await.as_deref(), Some(&[value][..]));
        assert_eq!(get(store, 2).await.is_some(), value % 2 == 0);
    }
}

async fn ranges_include_both_ends<S: Store>(store: &S) {
    let fence = take_over(store).await;
    commit(store, fence, run((1..=9).map(|number| (number, Some(&b"x"[..]))))).await;
    assert_eq!(numbers(&range(store, 3, 6, Direction::Forwards).await), [3, 4, 5, 6]);
    assert_eq!(numbers(&range(store, 3, 6, Direction::Backwards).await), [6, 5, 4, 3]);
    assert_eq!(numbers(&range(store, 5, 5, Direction::Backwards).await), [5]);
    for nothing in [range(store, 20, 30, Direction::Forwards).await, range(store, 6, 3, Direction::Backwards).await] {
        assert_eq!(nothing, Rows { rows: Vec::new(), complete: true });
    }
}

async fn a_range_stops_at_its_bounds<S: Store>(store: &S) {
    let fence = take_over(store).await;
    commit(store, fence, run((1..=9).map(|number| (number, Some(&[0u8; 100][..]))))).await;
    let row_bytes = key(1).len() + 100;
    for direction in [Direction::Forwards, Direction::Backwards] {
        let ask = |rows_max, bytes_max| Range { first: key(1), last: key(9), direction, rows_max, bytes_max };
        let read = async |ask: Range| store.range(&ask).await.expect("range");
        let some = read(ask(4, usize::MAX)).await;
        assert_eq!((some.rows.len(), some.complete), (4, false));
        let exactly_all = read(ask(9, 9 * row_bytes)).await;
        assert_eq!((exactly_all.rows.len(), exactly_all.complete), (9, true));
        let by_bytes = read(ask(9, 3 * row_bytes)).await;
        assert_eq!((by_bytes.rows.len(), by_bytes.complete), (3, false));
        let too_large = read(ask(9, 1)).await;
        assert_eq!((too_large.rows.len(), too_large.complete), (1, false), "the first row always comes");
    }
}

async fn a_range_sees_no_other_table<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let user = UserId(1);
    let mut builder = RunBuilder::default();
    builder.put(RowKey::Marks { user }.encode(), |out| out.push(1));
    builder.put(RowKey::Unfinished { user }.encode(), |_| ());
    builder.put(RowKey::Timeline { user: UserId(2), seq: Seq(3) }.encode(), |out| out.push(1));
    commit(store, fence, builder.finish()).await;
    assert_eq!(numbers(&range(store, 0, u64::MAX, Direction::Backwards).await), [0; 0]);
}

async fn an_older_fence_never_commits<S: Store>(store: &S) {
    let first = take_over(store).await;
    let second = take_over(store).await;
    assert!(second > first);
    let refused = store.commit(first, &run([(1, Some(&b"one"[..]))])).await;
    match refused {
        Err(StoreError::Fenced { held, current }) => assert_eq!((held, current), (first, second)),
        other => panic!("a commit under an older fence gave {other:?}"),
    }
    assert_eq!(get(store, 1).await, None);
    let refused = store.commit(first, &Run::default()).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { .. })),
        "nor does it seem to with nothing to commit: {refused:?}"
    );
    commit(store, second, Run::default()).await;
    commit(store, second, run([(1, Some(&b"two"[..]))])).await;
}

async fn a_large_run_is_read_back_in_order<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let value = [7u8; 200];
    commit(store, fence, run((0..20_000).map(|number| (number, Some(&value[..]))))).await;
    let all = range(store, 0, u64::MAX, Direction::Forwards).await;
    assert_eq!(numbers(&all), (0..20_000).collect::<Vec<_>>());
    let middle = range(store, 9_990, 10_010, Direction::Backwards).await;
    assert_eq!(numbers(&middle), (9_990..=10_010).rev().collect::<Vec<_>>());
}

async fn many_small_runs_are_read_back<S: Store>(store: &S) {
    let fence = take_over(store).await;
    for number in 0..60 {
        commit(store, fence, run([(number, Some(&b"x"[..])), (1000 - number, Some(&b"y"[..]))])).await;
    }
    assert_eq!(range(store, 0, 2000, Direction::Forwards).await.rows.len(), 120);
}

/// The key of the given place in one user's timeline: what the checks use.
#[must_use]
pub fn key(number: u64) -> Key {
    RowKey::Timeline { user: UserId(1), seq: Seq(number) }.encode()
}

/// A run of changes to keys of [`key`]: a value, or `None` to delete.
#[must_use]
pub fn run<'a>(changes: impl IntoIterator<Item = (u64, Option<&'a [u8]>)>) -> Run {
    let mut builder = RunBuilder::default();
    for (number, value) in changes {
        match value {
            Some(value) => builder.put(key(number), |out| out.extend_from_slice(value)),
            None => builder.delete(key(number)),
        }
    }
    builder.finish()
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

async fn take_over<S: Store>(store: &S) -> Fence {
    store.take_over().await.expect("take_over")
}

async fn get<S: Store>(store: &S, number: u64) -> Option<bytes::Bytes> {
    store.get(&key(number)).await.expect("get")
}

async fn commit<S: Store>(store: &S, fence: Fence, run: Run) {
    store.commit(fence, &run).await.expect("commit");
}

async fn range<S: Store>(store: &S, first: u64, last: u64, direction: Direction) -> Rows {
    let range = Range { first: key(first), last: key(last), direction, rows_max: usize::MAX, bytes_max: usize::MAX };
    store.range(&range).await.expect("range")
}

fn numbers(rows: &Rows) -> Vec<u64> {
    rows.rows
        .iter()
        .map(|(key, _)| match RowKey::decode(key) {
            Ok(RowKey::Timeline { seq, .. }) => seq.0,
            other => panic!("a key of another table: {other:?}"),
        })
        .collect()
}

/// Names the claim when a check panics.
struct CheckName<'a>(&'a str);

impl Drop for CheckName<'_> {
    #[expect(clippy::print_stderr, reason = "it speaks to whoever runs a test, and no server calls it")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the store does not keep this claim: {}", self.0);
        }
    }
}
