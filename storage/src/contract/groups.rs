//! What every backend must do with the rows of groups.

use proto_spec::{
    Act, Content, DeviceId, Direction, Entry, Event, GroupEntry, GroupId, Role, Seq, Standing, TimestampMs, UserId,
};

use super::{sorted, step, take_over};
use crate::{
    group::{
        CameRow, GroupEntries, GroupMarks, GroupMessage, GroupRewrite, GroupSnapshot, GroupState, MemberRow,
        StandingRow, Wants,
    },
    queries,
    query::{Answer, Query, Span},
    record::{Record, Shown},
    store::Store,
};

/// More than are read at once.
const MEMBERS: u64 = 5_000;

pub(super) async fn a_group_is_read_back_whole<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let (group, author) = (GroupId(u64::MAX), UserId(1));
    let came = |up_to| CameRow { up_to: Seq(up_to), refused: Vec::new() };
    let entry = |seq: u64, messages, content| {
        let (time, origin) = (TimestampMs(seq), Seq(seq + 10));
        GroupEntry { seq: Seq(seq), time, from: author, origin, messages, content }
    };
    let created = entry(1, 0, Content::act(&Act::End));
    let said = entry(2, 1, Content::text("hello"));
    let name = proto_spec::MessageName { author, seq: said.origin };
    let edited = entry(3, 1, Content::edit(name, &Content::text("hello all"), None));
    let reaction = entry(4, 1, Content::reaction(name, "+", None));
    let added = entry(5, 1, Content::act(&Act::Add { user: UserId(2) }));
    // Nobody has sent it: of its author nothing has come by it.
    let unsent = GroupEntry { origin: Seq::ZERO, ..entry(6, 1, Content::act(&Act::Remove { user: author })) };
    let append = |entry: &GroupEntry, of| Record::GroupAppend { group, entry: entry.clone(), of };
    let rewrite = |reactions: &[Seq], replaces: &[Seq]| {
        let now = Shown { says: Seq(3), reactions: reactions.to_vec() };
        Some(GroupRewrite { place: Seq(2), now, replaces: replaces.to_vec() })
    };
    let spans = vec![(Seq(1), MemberRow::OPEN)];
    let row = MemberRow {
        standing: Standing::Member,
        role: Role::Member,
        since: Seq(1),
        spans,
        read: Seq::ZERO,
        delivered: Seq::ZERO,
    };
    let member = |user| Record::GroupMember { group, user: UserId(user), row: row.clone() };
    let state = GroupState { name: "all".into(), ..GroupState::default() };
    let mut first: Vec<_> = (1..=MEMBERS).map(member).collect();
    first.extend([append(&created, None), Record::GroupState { group, state: state.clone() }, append(&said, None)]);
    store.advance(fence, &[step(0, 0, 1)], sorted(&first)).await.expect("advance");
    let marks = GroupMarks { told: Seq(1) };
    let second = [
        append(&edited, rewrite(&[], &[Seq(2)])),
        append(&reaction, rewrite(&[Seq(4)], &[])),
        append(&added, None),
        append(&unsent, None),
        Record::GroupMarks { group, marks, idle: false },
        Record::GroupCame { group, from: UserId(7), row: came(8) },
        Record::GroupWants { group, user: UserId(8), wants: Some(Wants::Named) },
        Record::GroupWants { group, user: UserId(9), wants: None },
    ];
    store.advance(fence, &[step(0, 1, 2)], sorted(&second)).await.expect("advance");

    let ask = async |query| queries::answer(store, &query).await.expect("answer");
    let snapshot = GroupSnapshot {
        last: Some(unsent.clone()),
        state: Some(state),
        roll: (1..=MEMBERS).map(|user| (UserId(user), row.clone())).collect(),
        came: vec![(author, came(added.origin.0)), (UserId(7), came(8))],
        wants: vec![(UserId(8), Wants::Named)],
        marks,
        unfinished: true,
    };
    assert!(ask(Query::Group(group)).await == Answer::Group(Box::new(snapshot)), "the group is another one");
    for direction in [Direction::Forwards, Direction::Backwards] {
        let span = |entries_max| Span { first: Seq(1), last: Seq(9), direction, entries_max, bytes_max: usize::MAX };
        let all = vec![created.clone(), edited.clone(), reaction.clone(), added.clone(), unsent.clone()];
        let part = match direction {
            Direction::Forwards => all[..2].to_vec(),
            Direction::Backwards => all[3..].to_vec(),
        };
        for (entries, span) in [(all, span(5)), (part, span(2))] {
            let complete = entries.len() == 5;
            let wanted = Answer::GroupEntries(GroupEntries { entries, complete });
            assert_eq!(ask(Query::GroupLog { group, span }).await, wanted);
        }
    }
    let message = GroupMessage { place: Seq(2), entry: edited, reactions: vec![reaction] };
    let wanted = [None, Some(message), None];
    for (place, wanted) in (1..).map(Seq).zip(wanted) {
        assert_eq!(ask(Query::GroupMessage { group, place }).await, Answer::GroupMessage(wanted));
    }
    let unfinished = |after| queries::unfinished_groups(store, after, 9);
    assert_eq!(unfinished(None).await.expect("read"), [group]);
    assert_eq!(unfinished(Some(group)).await.expect("read"), []);
    let idle = Record::GroupMarks { group, marks, idle: true };
    store.advance(fence, &[step(0, 2, 3)], sorted(&[idle])).await.expect("advance");
    assert_eq!(unfinished(None).await.expect("read"), []);
}

pub(super) async fn a_user_is_read_with_their_groups<S: Store>(store: &S) {
    let fence = take_over(store).await;
    let user = UserId(5);
    let numbers = [0, 9, u64::MAX];
    let stands = |number, seq: u64| {
        let (standing, first, up_to, sent_up_to) = (Standing::Member, Seq(1), Seq(seq), Seq::ZERO);
        let event = Event::Group { group: GroupId(number), standing, first, up_to, sent_up_to };
        let entry = Entry { seq: Seq(seq), time: TimestampMs(seq), event };
        let row = StandingRow { standing, first, up_to, sent_up_to, at: Seq(seq) };
        (Record::Append { user, entry, replaces: None, count: 0 }, (GroupId(number), row))
    };
    let (mut records, groups): (Vec<_>, Vec<_>) =
        numbers.into_iter().zip(1..).map(|(number, seq)| stands(number, seq)).unzip();
    // Devices of the same numbers, and groups of other users.
    records.extend(numbers.map(|number| Record::Cursor { user, device: DeviceId(number), seq: Seq(1) }));
    for other in [UserId(4), UserId(6)] {
        let (Record::Append { entry, .. }, _) = stands(3, 1) else { unreachable!("it is an entry") };
        records.push(Record::Append { user: other, entry, replaces: None, count: 0 });
    }
    store.advance(fence, &[step(0, 0, 1)], sorted(&records)).await.expect("advance");
    match queries::answer(store, &Query::User(user)).await.expect("answer") {
        Answer::User(found) => {
            assert_eq!(found.groups, groups);
            assert!(found.devices.iter().map(|device| device.device.0).eq(numbers));
        }
        other => panic!("{other:?}"),
    }
}
