//! What the records of groups change, by the plainest means; and what they must leave behind.

use proto_spec::{Act, Content, ErrorCode, GroupEntry, Role, Rules, Standing};

use super::*;
use crate::{
    group::{CameRow, GroupRewrite, GroupState, MemberRow, Wants},
    record::{FirstResult, Shown},
};

type Rows = BTreeMap<Key, Option<Vec<u8>>>;

fn set(changes: &mut Rows, row: RowKey, put: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    put(&mut value);
    changes.insert(row.encode(), Some(value));
}

/// As [`super::reference`], of a group's record.
pub(super) fn reference(changes: &mut Rows, record: &Record) {
    match record {
        Record::GroupAppend { group, entry, of } => {
            let group = *group;
            set(changes, RowKey::GroupLog { group, seq: entry.seq }, |out| codec::put_group_entry(out, entry));
            if entry.origin > Seq::ZERO {
                set(changes, RowKey::GroupCame { group, user: entry.from }, |out| codec::put_came(out, entry.origin));
            }
            let kind = match entry.content.body() {
                Ok(proto_spec::Body::Act(act)) => act.kind(),
                _ => None,
            };
            if kind.is_some_and(|kind| ["create", "add", "remove", "ban", "unban", "join"].contains(&kind.name())) {
                set(changes, RowKey::GroupUnfinished { group }, |_| ());
            }
            let Some(GroupRewrite { place, now, replaces }) = of else { return };
            for seq in replaces {
                changes.insert(RowKey::GroupLog { group, seq: *seq }.encode(), None);
            }
            let shown = RowKey::GroupShown { group, place: *place };
            match now.says {
                Seq::ZERO => drop(changes.insert(shown.encode(), None)),
                _ => set(changes, shown, |out| codec::put_group_shown(out, now)),
            }
        }
        Record::GroupState { group, state } => {
            set(changes, RowKey::GroupState { group: *group }, |out| codec::put_group_state(out, state));
        }
        Record::GroupMember { group, user, row } => {
            let (group, user) = (*group, *user);
            set(changes, RowKey::GroupMember { group, user }, |out| codec::put_group_member_row(out, row));
        }
        Record::GroupCame { group, from, row } => {
            set(changes, RowKey::GroupCame { group: *group, user: *from }, |out| codec::put_came_row(out, row));
        }
        Record::GroupWants { group, user, wants } => {
            let row = RowKey::GroupWants { group: *group, user: *user };
            match wants {
                Some(wants) => set(changes, row, |out| codec::put_wants(out, (*wants).into())),
                None => drop(changes.insert(row.encode(), None)),
            }
        }
        Record::GroupMarks { group, marks, idle } => {
            let group = *group;
            set(changes, RowKey::GroupMarks { group }, |out| codec::put_group_marks(out, *marks));
            match idle {
                true => drop(changes.insert(RowKey::GroupUnfinished { group }.encode(), None)),
                false => set(changes, RowKey::GroupUnfinished { group }, |_| ()),
            }
        }
        other => panic!("{other:?} is of no group"),
    }
}

/// What an entry of a user's log says of a group.
pub(super) fn reference_of_user(changes: &mut Rows, user: UserId, entry: &Entry, count: u64) {
    let at = entry.seq;
    match entry.event {
        Event::Group { group, standing, first, up_to, sent_up_to } => {
            let row = StandingRow { standing, first, up_to, sent_up_to, at };
            set(changes, RowKey::Standing { user, group }, |out| codec::put_standing(out, row));
        }
        Event::Read { conversation: conversation @ ConversationId::Group(_), up_to, told, .. } => {
            let row = ReadRow { up_to, at, count };
            set(changes, RowKey::Read { user, conversation }, |out| codec::put_read(out, row));
            if told != Seq::ZERO {
                set(changes, RowKey::Unfinished { user }, |_| ());
            }
        }
        Event::Settings { conversation: conversation @ ConversationId::Group(_), settings } => {
            let row = SettingsRow { settings, at };
            set(changes, RowKey::Settings { user, conversation }, |out| codec::put_settings(out, row));
        }
        Event::Deleted { conversation: conversation @ ConversationId::Group(_), place, .. } => {
            let row = RowKey::Deleted { user, conversation, name: place };
            set(changes, row, |out| codec::put_seq(out, at));
        }
        _ => {}
    }
}

/// Gives a record numbers of a small range.
pub(super) fn collide(record: &mut Record, (id, small, peer, replaced): (u64, u64, u64, Option<u64>)) {
    let (to, of) = (GroupId(id), UserId(peer));
    match record {
        Record::GroupAppend { group, entry, of: rewrite } => {
            (*group, entry.seq, entry.from) = (to, Seq(small), of);
            if let Some(rewrite) = rewrite {
                rewrite.place = Seq(peer);
                rewrite.replaces.iter_mut().zip(replaced.unwrap_or(small)..).for_each(|(seq, new)| *seq = Seq(new));
            }
        }
        Record::GroupMember { group, user, .. }
        | Record::GroupCame { group, from: user, .. }
        | Record::GroupWants { group, user, .. } => {
            (*group, *user) = (to, of);
        }
        Record::GroupState { group, .. } | Record::GroupMarks { group, .. } => *group = to,
        other => panic!("{other:?} is of no group"),
    }
}

const GROUP: GroupId = GroupId(9);

fn said(seq: u64, content: Content, of: Option<GroupRewrite>) -> Record {
    let (from, origin) = (UserId(1), Seq(seq + 10));
    let entry = GroupEntry { seq: Seq(seq), time: TimestampMs(1), from, origin, messages: seq, content };
    Record::GroupAppend { group: GROUP, entry, of }
}

fn bytes_of(rows: &super::Rows) -> Vec<u8> {
    rows.values().flatten().copied().collect()
}

fn times(rows: &super::Rows, text: &str) -> usize {
    bytes_of(rows).windows(text.len()).filter(|part| *part == text.as_bytes()).count()
}

#[test]
fn the_text_of_a_message_is_stored_once_and_what_is_superseded_is_gone() {
    let of = MessageName { author: UserId(1), seq: Seq(11) };
    let rewrite = |says, reactions: &[u64], replaces: &[u64]| {
        let now = Shown { says: Seq(says), reactions: reactions.iter().copied().map(Seq).collect() };
        Some(GroupRewrite { place: Seq(1), now, replaces: replaces.iter().copied().map(Seq).collect() })
    };
    let mut records = vec![said(1, Content::text("the first words"), None)];
    assert_eq!(times(&folded(&records), "the first words"), 1);
    records.push(said(2, Content::reaction(of, "the first feeling", None), rewrite(1, &[2], &[])));
    records.push(said(3, Content::edit(of, &Content::text("other words"), None), rewrite(3, &[2], &[1])));
    let rows = folded(&records);
    assert_eq!(["the first words", "the first feeling", "other words"].map(|text| times(&rows, text)), [0, 1, 1]);
    records.push(said(4, Content::unsend(of, None), rewrite(4, &[], &[3, 2])));
    let rows = folded(&records);
    assert_eq!(["the first words", "the first feeling", "other words"].map(|text| times(&rows, text)), [0, 0, 0]);
    let shown = codec::group_shown(&rows[&RowKey::GroupShown { group: GROUP, place: Seq(1) }.encode()]);
    assert_eq!(shown, Ok(Shown { says: Seq(4), reactions: Vec::new() }));
    let came = &rows[&RowKey::GroupCame { group: GROUP, user: UserId(1) }.encode()];
    assert_eq!(codec::group_came(came), Ok(CameRow { up_to: Seq(14), refused: Vec::new() }));
}

#[test]
fn what_was_sent_to_a_group_leaves_the_authors_log_when_the_group_has_it() {
    let (user, device) = (UserId(1), DeviceId(2));
    let entry = |seq, event| Entry { seq: Seq(seq), time: TimestampMs(1), event };
    let content = Content::text("to all of you");
    let sent = Event::Sent { to: GROUP.into(), device, number: SendNumber(1), content };
    let sent = Record::Append { user, entry: entry(1, sent), replaces: None, count: 0 };
    let rows = folded(std::slice::from_ref(&sent));
    assert_eq!(times(&rows, "to all of you"), 1);
    let keys: Vec<_> = rows.keys().map(|key| RowKey::decode(key).unwrap()).collect();
    let block = SendsBlockNumber(0);
    let wanted = [
        RowKey::Timeline { user, seq: Seq(1) },
        RowKey::Sends { user, device, block },
        RowKey::LastSends { user, device },
        RowKey::Unfinished { user },
    ];
    assert_eq!(keys, wanted, "no row of a conversation");
    let standing = Standing::Member;
    let numbered = Event::Group { group: GROUP, standing, first: Seq(1), up_to: Seq(1), sent_up_to: Seq(1) };
    let refused = Event::GroupRefused { group: GROUP, origin: Seq(1), code: ErrorCode::GroupEnded };
    for event in [numbered, refused] {
        let first = FirstResult { time: TimestampMs(1), said: [7; 16] };
        let replaces = vec![Replaced { seq: Seq(1), first: Some(first) }];
        let (place, now, received, last) = (Seq::ZERO, Shown::default(), None, None);
        let of = Rewrite { place, now, replaces, received, last };
        let has_standing = matches!(event, Event::Group { .. });
        let rows = folded(&[sent.clone(), Record::Rewrite { user, entry: entry(2, event), of }]);
        assert_eq!(times(&rows, "to all of you"), 0);
        assert_eq!(codec::first(&rows[&RowKey::First { user, seq: Seq(1) }.encode()]), Ok(first));
        assert_eq!(rows.contains_key(&RowKey::Standing { user, group: GROUP }.encode()), has_standing);
        assert!(rows.keys().all(|key| !matches!(RowKey::decode(key), Ok(RowKey::Conversation { .. }))));
    }
}

#[test]
fn a_group_is_unfinished_from_a_change_of_a_standing_to_idle_marks() {
    let key = RowKey::GroupUnfinished { group: GROUP }.encode();
    let act = |act: &Act<'_>| said(1, Content::act(act), None);
    let user = UserId(5);
    let rules = Rules::default();
    let changing = [
        Act::Create { name: "n", picture: "", rules },
        Act::Add { user },
        Act::Remove { user },
        Act::Ban { user },
        Act::Unban { user },
        Act::Join { secret: b"" },
    ];
    let marks = |idle| Record::GroupMarks { group: GROUP, marks: GroupMarks::default(), idle };
    for changing in changing.each_ref().map(act) {
        assert!(folded(std::slice::from_ref(&changing)).contains_key(&key));
        assert!(folded(&[changing.clone(), marks(false)]).contains_key(&key));
        assert!(!folded(&[changing.clone(), marks(true)]).contains_key(&key));
        assert!(folded(&[changing.clone(), marks(true), changing]).contains_key(&key));
    }
    let others = [
        Act::SetRole { user, role: Role::Owner },
        Act::Describe { name: "n", picture: "" },
        Act::SetRules { rules },
        Act::Invite { digest: None },
        Act::End,
        Act::Unknown,
    ];
    for record in others.each_ref().map(act).into_iter().chain([said(1, Content::text("hello"), None)]) {
        assert!(!folded(&[record]).contains_key(&key));
    }
}

#[test]
fn a_member_what_has_come_of_them_and_what_they_want_are_three_rows() {
    let user = UserId(1);
    let spans = vec![(Seq(1), Seq(3)), (Seq(7), MemberRow::OPEN)];
    let row = MemberRow {
        standing: Standing::Member,
        role: Role::Owner,
        since: Seq(7),
        spans,
        read: Seq::ZERO,
        delivered: Seq::ZERO,
    };
    let state = GroupState { name: "n".into(), ..GroupState::default() };
    let came = CameRow { up_to: Seq(4), refused: vec![(Seq(3), ErrorCode::NotAllowed)] };
    let records = [
        Record::GroupMember { group: GROUP, user, row: row.clone() },
        Record::GroupCame { group: GROUP, from: user, row: came.clone() },
        Record::GroupWants { group: GROUP, user, wants: Some(Wants::Named) },
        Record::GroupState { group: GROUP, state: state.clone() },
    ];
    let rows = folded(&records);
    assert_eq!(rows.len(), 4);
    assert_eq!(codec::group_wants(&rows[&RowKey::GroupWants { group: GROUP, user }.encode()]), Ok(Wants::Named));
    assert_eq!(codec::group_member(&rows[&RowKey::GroupMember { group: GROUP, user }.encode()]), Ok(row));
    assert_eq!(codec::group_came(&rows[&RowKey::GroupCame { group: GROUP, user }.encode()]), Ok(came));
    assert_eq!(codec::group_state(&rows[&RowKey::GroupState { group: GROUP }.encode()]), Ok(state));
}
