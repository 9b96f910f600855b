use std::collections::BTreeMap;

use proptest::prelude::*;
use proto_spec::{Content, Entry, Event, Role, Standing, TimestampMs};

use super::*;
use crate::{
    contract::block_on,
    embedded::{EmbeddedConfig, EmbeddedStore},
    group::{CameRow, GroupMarks, GroupRewrite, GroupState, MemberRow, StandingRow, Wants},
    memory::MemoryStore,
    queries::{
        answer,
        tests::{WHOLE, any_span, commit, run_of, store_of},
    },
    query::{Answer, Query},
    record::Record,
    testing::{any_group_entry, history},
};

/// What a store should answer of groups, by the plainest means.
#[derive(Default)]
pub(crate) struct GroupModel {
    logs: BTreeMap<u64, BTreeMap<u64, GroupEntry>>,
    shown: BTreeMap<(u64, u64), Shown>,
    states: BTreeMap<u64, GroupState>,
    rolls: BTreeMap<(u64, u64), MemberRow>,
    came: BTreeMap<(u64, u64), CameRow>,
    wants: BTreeMap<(u64, u64), Wants>,
    marks: BTreeMap<u64, GroupMarks>,
    unfinished: BTreeMap<u64, bool>,
    /// By user and group.
    standings: BTreeMap<(u64, u64), StandingRow>,
}

impl GroupModel {
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut model = Self::default();
        for record in records {
            match record {
                Record::Append { user, entry, .. } | Record::Rewrite { user, entry, .. } => {
                    model.add_standing(*user, entry);
                }
                other => model.add(other),
            }
        }
        model
    }

    /// A record of a group; another one says nothing of groups.
    pub(crate) fn add(&mut self, record: &Record) {
        match record {
            Record::GroupAppend { group, entry, of } => {
                let log = self.logs.entry(group.0).or_default();
                log.insert(entry.seq.0, entry.clone());
                let came = CameRow { up_to: entry.origin, refused: Vec::new() };
                if entry.origin > Seq::ZERO {
                    self.came.insert((group.0, entry.from.0), came);
                }
                if let Some(GroupRewrite { place, now, replaces }) = of {
                    replaces.iter().for_each(|seq| drop(log.remove(&seq.0)));
                    self.shown.insert((group.0, place.0), now.clone());
                }
                if let Ok(proto_spec::Body::Act(act)) = entry.content.body() {
                    let kind = act.kind().map_or("unknown", |kind| kind.name());
                    if ["create", "add", "remove", "ban", "unban", "join"].contains(&kind) {
                        self.unfinished.insert(group.0, true);
                    }
                }
            }
            Record::GroupState { group, state } => drop(self.states.insert(group.0, state.clone())),
            Record::GroupMember { group, user, row } => drop(self.rolls.insert((group.0, user.0), row.clone())),
            Record::GroupCame { group, from, row } => drop(self.came.insert((group.0, from.0), row.clone())),
            Record::GroupWants { group, user, wants } => {
                self.wants.remove(&(group.0, user.0));
                self.wants.extend(wants.map(|wants| ((group.0, user.0), wants)));
            }
            Record::GroupMarks { group, marks, idle } => {
                self.marks.insert(group.0, *marks);
                self.unfinished.insert(group.0, !*idle);
            }
            _ => {}
        }
    }

    /// An entry of a user's log.
    pub(crate) fn add_standing(&mut self, user: UserId, entry: &Entry) {
        if let Event::Group { group, standing, first, up_to, sent_up_to } = entry.event {
            let row = StandingRow { standing, first, up_to, sent_up_to, at: entry.seq };
            self.standings.insert((user.0, group.0), row);
        }
    }

    pub(crate) fn standings(&self, user: u64) -> Vec<(GroupId, StandingRow)> {
        let of_user = self.standings.range((user, 0)..=(user, u64::MAX));
        of_user.map(|(&(_, group), row)| (GroupId(group), *row)).collect()
    }

    fn snapshot(&self, group: u64) -> GroupSnapshot {
        let of_group = (group, 0)..=(group, u64::MAX);
        GroupSnapshot {
            last: self.logs.get(&group).and_then(|log| log.values().next_back()).cloned(),
            state: self.states.get(&group).cloned(),
            roll: self.rolls.range(of_group.clone()).map(|((_, user), row)| (UserId(*user), row.clone())).collect(),
            came: self.came.range(of_group.clone()).map(|((_, user), row)| (UserId(*user), row.clone())).collect(),
            wants: self.wants.range(of_group).map(|((_, user), wants)| (UserId(*user), *wants)).collect(),
            marks: self.marks.get(&group).copied().unwrap_or_default(),
            unfinished: self.unfinished.get(&group).copied().unwrap_or_default(),
        }
    }

    fn message(&self, group: u64, place: u64) -> Option<GroupMessage> {
        let log = self.logs.get(&group)?;
        let entry = |seq: &Seq| log[&seq.0].clone();
        if let Some(now) = self.shown.get(&(group, place)) {
            let reactions = now.reactions.iter().map(entry).collect();
            return Some(GroupMessage { place: Seq(place), entry: entry(&now.says), reactions });
        }
        let said = log.get(&place).filter(|entry| entry.content.as_text().is_some())?;
        Some(GroupMessage { place: Seq(place), entry: said.clone(), reactions: Vec::new() })
    }

    pub(crate) fn check<S: Store>(&self, store: &S) {
        let ask = |query| block_on(answer(store, &query)).unwrap();
        for group in 1..5 {
            let id = GroupId(group);
            assert_eq!(ask(Query::Group(id)), Answer::Group(Box::new(self.snapshot(group))));
            for place in 0..40 {
                let query = Query::GroupMessage { group: id, place: Seq(place) };
                assert_eq!(ask(query), Answer::GroupMessage(self.message(group, place)));
            }
        }
        let expected: Vec<_> = self.unfinished.iter().filter(|(_, on)| **on).map(|(&id, _)| GroupId(id)).collect();
        assert_eq!(block_on(unfinished_groups(store, None, 100)).unwrap(), expected);
        if let Some(first) = expected.first() {
            assert_eq!(block_on(unfinished_groups(store, Some(*first), 100)).unwrap(), expected[1..]);
            assert_eq!(block_on(unfinished_groups(store, None, 1)).unwrap(), expected[..1]);
        }
    }

    fn check_span<S: Store>(&self, store: &S, group: u64, span: Span) {
        let query = Query::GroupLog { group: GroupId(group), span };
        let Answer::GroupEntries(GroupEntries { entries, complete }) = block_on(answer(store, &query)).unwrap() else {
            panic!("another kind of answer");
        };
        let log = self.logs.get(&group).cloned().unwrap_or_default();
        let all: Vec<_> = log.into_values().filter(|entry| span.first <= entry.seq && entry.seq <= span.last).collect();
        let part = match span.direction {
            Direction::Forwards => &all[..entries.len()],
            Direction::Backwards => &all[all.len() - entries.len()..],
        };
        assert_eq!(entries, part);
        assert_eq!(complete, entries.len() == all.len());
        assert!(entries.len() <= span.entries_max);
        let bytes: usize = entries.iter().map(wire_len).sum();
        assert!(bytes <= span.bytes_max || entries.len() == 1);
        assert!(complete || !entries.is_empty(), "an incomplete answer makes progress");
    }
}

fn wire_len(entry: &GroupEntry) -> usize {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes.len() + proto_spec::wire::varint_len(bytes.len() as u64)
}

fn said(seq: u64, content: Content) -> GroupEntry {
    let (from, origin, time) = (UserId(1), Seq(seq), TimestampMs(seq));
    GroupEntry { seq: Seq(seq), time, from, origin, messages: seq, content }
}

proptest! {
    #[test]
    fn a_span_of_a_groups_log_is_read_from_the_asked_end(
        records in history(300), group in 1..4u64, span in any_span(),
    ) {
        GroupModel::of(&records).check_span(&store_of(&[&records]), group, span);
    }

    /// The bound of a range in the store is a bound of a page on the wire.
    #[test]
    fn a_row_bounds_its_entry_on_the_wire(entry in any_group_entry(), text in 0..20_000usize) {
        let content = Content::Text(vec![b'x'; text].into());
        let large = GroupEntry { from: UserId(u64::MAX), origin: Seq(u64::MAX), content, ..entry.clone() };
        for entry in [large, entry] {
            let mut value = Vec::new();
            codec::put_group_entry(&mut value, &entry);
            let key = log_key(GroupId(1), entry.seq);
            prop_assert!(wire_len(&entry) <= key.len() + value.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_ingestion_between_two_reads_of_a_question_of_a_group_is_no_damage(
        records in history(300), cut in 0..300usize, place in (1..12u64).prop_map(Seq),
    ) {
        let (first, second) = records.split_at(cut.min(records.len()));
        let (before, after) = (store_of(&[first]), store_of(&[first, second]));
        let run = run_of(&before, second);
        let ask = |store: &MemoryStore, query: &Query| block_on(answer(store, query));
        for group in (1..4).map(GroupId) {
            let queries =
                [Query::Group(group), Query::GroupLog { group, span: WHOLE }, Query::GroupMessage { group, place }];
            for query in &queries {
                for reads in 0..6 {
                    let store = store_of(&[first]);
                    store.commit_after_reads(reads, run.clone());
                    let found = ask(&store, query);
                    prop_assert!(found.is_ok(), "{query:?} after {reads} reads: {found:?}");
                    // What is one message is as it was at one time.
                    if let Ok(found @ Answer::GroupMessage(_)) = found {
                        let is_at_once = found == ask(&before, query).unwrap() || found == ask(&after, query).unwrap();
                        prop_assert!(is_at_once, "{query:?} after {reads} reads: {found:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_embedded_store_answers_the_same_of_groups(records in history(300), span in any_span()) {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig { cache_bytes: 1024 * 1024, ..EmbeddedConfig::default() };
        let store = EmbeddedStore::open(dir.path(), config).unwrap();
        commit(&store, &records);
        let model = GroupModel::of(&records);
        model.check(&store);
        (1..4).for_each(|group| model.check_span(&store, group, span));
    }
}

#[test]
fn a_message_that_changes_between_two_reads_is_whole_before_or_after() {
    let group = GroupId(9);
    let first = Record::GroupAppend { group, entry: said(1, Content::text("first")), of: None };
    let now = Shown { says: Seq(2), reactions: Vec::new() };
    let of = Some(GroupRewrite { place: Seq(1), now, replaces: vec![Seq(1)] });
    let second = Record::GroupAppend { group, entry: said(2, Content::text("second")), of };
    let now = Shown { says: Seq(2), reactions: vec![Seq(3)] };
    let of = Some(GroupRewrite { place: Seq(1), now, replaces: Vec::new() });
    let third = Record::GroupAppend { group, entry: said(3, Content::text("third")), of };
    let query = Query::GroupMessage { group, place: Seq(1) };
    let ask = |records: &[&[Record]], reads, later: &[Record]| {
        let store = store_of(records);
        let run = run_of(&store, later);
        store.commit_after_reads(reads, run);
        let Answer::GroupMessage(found) = block_on(answer(&store, &query)).unwrap() else { panic!("no message") };
        found.map(|found| (found.entry.seq.0, found.reactions.len()))
    };
    let (first, later) = (std::slice::from_ref(&first), [second, third]);
    // The entry is read, then what tells of it; then the entries of that.
    assert_eq!([0, 1, 2].map(|reads| ask(&[first], reads, &later)), [Some((2, 1)), Some((2, 1)), Some((1, 0))]);
    // A message that comes with all that is said of it.
    let all = [first, &later].concat();
    assert_eq!([0, 1, 2].map(|reads| ask(&[], reads, &all)), [Some((2, 1)), Some((2, 1)), None]);
}

#[test]
fn no_message_stands_where_something_is_done_or_said_about_another() {
    let group = GroupId(9);
    let of = proto_spec::MessageName { author: UserId(1), seq: Seq(1) };
    let contents = [
        Content::text("hello"),
        Content::act(&proto_spec::Act::End),
        Content::edit(of, &Content::text("bye"), None),
        Content::unsend(of, None),
        Content::reaction(of, "+", None),
        Content::mention(&[UserId(2)], "hello"),
    ];
    let append = |(seq, content)| Record::GroupAppend { group, entry: said(seq, content), of: None };
    let store = store_of(&[&(1..).zip(contents).map(append).collect::<Vec<_>>()]);
    let is_there = |place| {
        let query = Query::GroupMessage { group, place: Seq(place) };
        matches!(block_on(answer(&store, &query)).unwrap(), Answer::GroupMessage(Some(_)))
    };
    assert_eq!((0..8).filter(|place| is_there(*place)).collect::<Vec<_>>(), [1, 6]);
}

#[test]
fn an_entry_that_is_superseded_is_a_hole_that_is_passed_over() {
    let group = GroupId(9);
    let append = |seq: u64, replaces: &[u64]| {
        let now = Shown { says: Seq(seq), reactions: Vec::new() };
        let replaces = replaces.iter().copied().map(Seq).collect();
        let of = Some(GroupRewrite { place: Seq(1), now, replaces });
        Record::GroupAppend { group, entry: said(seq, Content::text("hello")), of }
    };
    let store = store_of(&[&[append(1, &[]), append(2, &[1]), append(3, &[]), append(4, &[2, 3]), append(5, &[])]]);
    for direction in [Direction::Forwards, Direction::Backwards] {
        let query = Query::GroupLog { group, span: Span { direction, entries_max: 2, ..WHOLE } };
        let Answer::GroupEntries(found) = block_on(answer(&store, &query)).unwrap() else { panic!("no entries") };
        assert_eq!(found.entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [4, 5]);
        assert!(found.complete);
    }
}

#[test]
fn a_roll_of_a_large_group_is_read_whole_in_parts() {
    let (group, members) = (GroupId(u64::MAX), 10_000);
    let row = MemberRow {
        standing: Standing::Member,
        role: Role::Member,
        since: Seq(1),
        spans: Vec::new(),
        read: Seq::ZERO,
        delivered: Seq::ZERO,
    };
    let member = |user| Record::GroupMember { group, user: UserId(user), row: row.clone() };
    let came = |user| {
        let row = CameRow { up_to: Seq(user), refused: Vec::new() };
        Record::GroupCame { group, from: UserId(user), row }
    };
    let users = || (0..members - 1).chain([u64::MAX]);
    let store = store_of(&[&users().map(member).chain(users().map(came)).collect::<Vec<_>>()]);
    let Answer::Group(found) = block_on(answer(&store, &Query::Group(group))).unwrap() else { panic!("no group") };
    assert!(found.roll.iter().map(|(user, _)| user.0).eq(users()));
    assert!(found.came.iter().map(|(user, row)| (user.0, row.up_to.0)).eq(users().map(|user| (user, user))));
    let parts = (2 * members).div_ceil(ROLL_ROWS as u64);
    assert_eq!(store.ranges_read(), 1 + parts, "the head, and the roll");
}

#[test]
fn a_user_of_groups_is_read_with_no_range_more() {
    let user = UserId(1);
    let append = |seq: u64, group| {
        let standing = Standing::Member;
        let event = Event::Group { group, standing, first: Seq(1), up_to: Seq(seq), sent_up_to: Seq::ZERO };
        let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
        Record::Append { user, entry, replaces: None, count: 0 }
    };
    let device = |device| Record::Cursor { user, device: proto_spec::DeviceId(device), seq: Seq(1) };
    let numbers = [3, 7, u64::MAX];
    let records: Vec<_> = (1..).zip(numbers).map(|(seq, group)| append(seq, GroupId(group))).collect();
    let store = store_of(&[&records, &numbers.map(device)]);
    let Answer::User(found) = block_on(answer(&store, &Query::User(user))).unwrap() else { panic!("no user") };
    assert_eq!(
        found.groups.iter().map(|(group, row)| (group.0, row.at.0)).collect::<Vec<_>>(),
        [(3, 1), (7, 2), (u64::MAX, 3)]
    );
    assert_eq!(found.devices.iter().map(|device| device.device.0).collect::<Vec<_>>(), numbers);
    assert_eq!(store.ranges_read(), 2, "the head, and the devices");
}
