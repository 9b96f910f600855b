//! Records of groups: any ones, and what a few groups and their members would make.

use std::collections::BTreeMap;

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
};
use proto_spec::{
    Act, Content, DeviceId, Entry, ErrorCode, Event, GroupEntry, GroupId, MessageName, Role, Rules, SendNumber, Seq,
    Settings, Standing, TimestampMs, UserId,
};

use super::any_content;
use crate::{
    group::{CameRow, GroupMarks, GroupRewrite, GroupState, MemberRow, Wants},
    record::{FirstResult, Record, Replaced, Rewrite, Shown},
};

/// Any record of a group, of any numbers.
pub(crate) fn any_group_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (any::<u64>(), any_group_entry(), option::of(any_group_rewrite()))
            .prop_map(|(group, entry, of)| { Record::GroupAppend { group: GroupId(group), entry, of } }),
        (any::<u64>(), any_state()).prop_map(|(group, state)| Record::GroupState { group: GroupId(group), state }),
        (any::<[u64; 2]>(), any_member()).prop_map(|([group, user], row)| Record::GroupMember {
            group: GroupId(group),
            user: UserId(user),
            row
        }),
        (any::<[u64; 3]>(), vec((any::<u64>(), any::<u16>()), 0..4)).prop_map(|([group, from, origin], refused)| {
            let refused = refused.into_iter().map(|(origin, code)| (Seq(origin), ErrorCode::from_number(code)));
            let row = CameRow { up_to: Seq(origin), refused: refused.collect() };
            Record::GroupCame { group: GroupId(group), from: UserId(from), row }
        }),
        (any::<[u64; 2]>(), option::of(any_wants())).prop_map(|([group, user], wants)| Record::GroupWants {
            group: GroupId(group),
            user: UserId(user),
            wants
        }),
        (any::<[u64; 2]>(), any::<bool>()).prop_map(|([group, told], idle)| Record::GroupMarks {
            group: GroupId(group),
            marks: GroupMarks { told: Seq(told) },
            idle
        }),
    ]
}

/// Any entry of a group's log, of any numbers.
pub(crate) fn any_group_entry() -> impl Strategy<Value = GroupEntry> {
    let content = prop_oneof![3 => any_content(), 1 => any_act()];
    let origin = prop_oneof![4 => any::<u64>(), 1 => Just(0)];
    (any::<[u64; 4]>(), origin, content).prop_map(|([seq, time, from, messages], origin, content)| GroupEntry {
        seq: Seq(seq),
        time: TimestampMs(time),
        from: UserId(from),
        origin: Seq(origin),
        messages,
        content,
    })
}

fn any_act() -> impl Strategy<Value = Content> {
    (0..12u8, any::<u64>()).prop_map(|(kind, number)| act(kind, number))
}

/// Something that is done to a group, of each kind.
fn act(kind: u8, number: u64) -> Content {
    let (user, rules) = (UserId(number), Rules::from_bits(number));
    Content::act(&match kind {
        0 => Act::Create { name: "climbers", picture: "", rules },
        1 => Act::Add { user },
        2 => Act::Remove { user },
        3 => Act::Ban { user },
        4 => Act::Join { secret: b"" },
        5 => Act::Unban { user },
        6 => Act::SetRole { user, role: Role::Admin },
        7 => Act::Describe { name: "hikers", picture: "" },
        8 => Act::SetRules { rules },
        9 => Act::Invite { digest: Some(&[7; 32]) },
        10 => Act::End,
        _ => Act::Unknown,
    })
}

fn any_group_rewrite() -> impl Strategy<Value = GroupRewrite> {
    let seqs = || btree_set(any::<u64>(), 0..4).prop_map(|seqs| seqs.into_iter().map(Seq).collect::<Vec<_>>());
    let says = prop_oneof![3 => any::<u64>(), 1 => Just(0)];
    (any::<u64>(), says, seqs(), seqs()).prop_map(|(place, says, reactions, replaces)| GroupRewrite {
        place: Seq(place),
        now: Shown { says: Seq(says), reactions },
        replaces,
    })
}

fn any_state() -> impl Strategy<Value = GroupState> {
    (any::<[String; 2]>(), any::<u64>(), option::of(any::<[u8; 32]>()), any::<bool>()).prop_map(
        |([name, picture], rules, invitation, has_ended)| GroupState {
            name: name.into(),
            picture: picture.into(),
            rules: Rules::from_bits(rules),
            invitation,
            has_ended,
        },
    )
}

fn any_wants() -> impl Strategy<Value = Wants> {
    select(&[Wants::All, Wants::Named, Wants::Nothing][..])
}

fn any_member() -> impl Strategy<Value = MemberRow> {
    let spans = vec(any::<[u64; 2]>().prop_map(|[first, last]| (Seq(first), Seq(last))), 0..4);
    (select(Standing::ALL), select(Role::ALL), any::<u64>(), spans).prop_map(|(standing, role, since, spans)| {
        MemberRow { standing, role, since: Seq(since), spans, read: Seq::ZERO, delivered: Seq::ZERO }
    })
}

/// Any event of a user's log that is about a group.
pub(super) fn any_event_of_a_group() -> impl Strategy<Value = Event> {
    let any_code = any::<u16>().prop_map(ErrorCode::from_number);
    prop_oneof![
        (any::<[u64; 3]>(), any_content()).prop_map(|([to, device, number], content)| Event::Sent {
            to: GroupId(to).into(),
            device: DeviceId(device),
            number: SendNumber(number),
            content
        }),
        (any::<[u64; 4]>(), select(Standing::ALL)).prop_map(|([group, first, up_to, sent_up_to], standing)| {
            let [first, up_to, sent_up_to] = [first, up_to, sent_up_to].map(Seq);
            Event::Group { group: GroupId(group), standing, first, up_to, sent_up_to }
        }),
        (any::<[u64; 2]>(), any_code).prop_map(|([group, origin], code)| Event::GroupRefused {
            group: GroupId(group),
            origin: Seq(origin),
            code
        }),
        any::<[u64; 4]>().prop_map(|[group, up_to, unread, told]| Event::Read {
            conversation: GroupId(group).into(),
            up_to: Seq(up_to),
            unread,
            told: Seq(told)
        }),
        any::<[u64; 2]>().prop_map(|[group, bits]| Event::Settings {
            conversation: GroupId(group).into(),
            settings: Settings::from_bits(bits)
        }),
        any::<[u64; 5]>().prop_map(|[group, author, seq, place, unread]| Event::Deleted {
            conversation: GroupId(group).into(),
            of: MessageName { author: UserId(author), seq: Seq(seq) },
            place: Seq(place),
            unread
        }),
    ]
}

/// A few groups, as their homes and those of their members have them.
#[derive(Default)]
pub(super) struct Groups {
    /// The last entry of each, and how many messages it has.
    heads: BTreeMap<u64, (u64, u64)>,
    /// What tells of each message, by group and where it stands; and the entries that react to it, by who does.
    messages: BTreeMap<(u64, u64), (Seq, BTreeMap<u64, Seq>)>,
    /// What each user has last sent to each group.
    came: BTreeMap<(u64, u64), u64>,
    /// Of each user and group, in the user's log: the entry that says how they stand, and what was sent and is neither numbered nor refused.
    pointers: BTreeMap<(u64, u64), Seq>,
    sent: BTreeMap<(u64, u64), Vec<(Seq, TimestampMs)>>,
}

impl Groups {
    /// What the home of a group writes.
    pub(super) fn step_of_home(&mut self, kind: u8, user: u64, group: u64, device: u64, idle: bool) -> Record {
        let (from, id) = (UserId(user), GroupId(group));
        let (head, messages) = self.heads.get(&group).copied().unwrap_or_default();
        let came = self.came.entry((user, group)).or_default();
        *came += 1;
        let origin = Seq(*came);
        let mut entry = GroupEntry {
            seq: Seq(head + 1),
            time: TimestampMs(1000 + head),
            from,
            origin,
            messages,
            content: Content::text("said to all"),
        };
        match kind {
            0 | 1 => {
                entry.messages += 1;
                self.heads.insert(group, (head + 1, entry.messages));
                self.messages.insert((group, head + 1), (entry.seq, BTreeMap::new()));
                Record::GroupAppend { group: id, entry, of: None }
            }
            2 => {
                entry.content = act((2 * user + device) as u8 % 12, user);
                self.heads.insert(group, (head + 1, messages));
                Record::GroupAppend { group: id, entry, of: None }
            }
            3 | 4 => {
                let here = self.messages.range_mut((group, 0)..=(group, u64::MAX));
                let nth = device as usize + 2 * usize::from(idle) - 1;
                let Some((&(_, place), (says, reactions))) = here.rev().nth(nth) else {
                    return refused(id, from, origin);
                };
                self.heads.insert(group, (head + 1, messages));
                let of = MessageName { author: from, seq: Seq(place) };
                let replaces = match (kind, user) {
                    (3, _) => {
                        entry.content = Content::reaction(of, "+", None);
                        reactions.insert(user, entry.seq).into_iter().collect()
                    }
                    (_, 1) => {
                        entry.content = Content::unsend(of, None);
                        let gone = std::mem::take(reactions).into_values();
                        gone.chain([std::mem::replace(says, entry.seq)]).collect()
                    }
                    _ => {
                        entry.content = Content::edit(of, &Content::text("said otherwise"), None);
                        vec![std::mem::replace(says, entry.seq)]
                    }
                };
                let mut replaces: Vec<_> = replaces;
                replaces.sort_unstable();
                let mut reactions: Vec<_> = reactions.values().copied().collect();
                reactions.sort_unstable();
                let now = Shown { says: *says, reactions };
                Record::GroupAppend { group: id, entry, of: Some(GroupRewrite { place: Seq(place), now, replaces }) }
            }
            5 => {
                let standing = if idle { Standing::Left } else { Standing::Member };
                let spans = vec![(Seq(device), MemberRow::OPEN)];
                let row = MemberRow {
                    standing,
                    role: Role::Admin,
                    since: Seq(head),
                    spans,
                    read: Seq::ZERO,
                    delivered: Seq::ZERO,
                };
                Record::GroupMember { group: id, user: from, row }
            }
            6 => {
                let state = GroupState { name: "walkers".into(), has_ended: idle, ..GroupState::default() };
                Record::GroupState { group: id, state }
            }
            7 => refused(id, from, origin),
            9 => {
                let wants = if idle { None } else { Some(Wants::Named) };
                Record::GroupWants { group: id, user: from, wants }
            }
            _ => Record::GroupMarks { group: id, marks: GroupMarks { told: Seq(head) }, idle },
        }
    }

    /// What the home of a user writes of a group, behind the head of their log. The number is the next one of the device.
    pub(super) fn step_of_member(
        &mut self,
        kind: u8,
        (user, head): (u64, u64),
        group: u64,
        (device, number): (u64, u64),
        idle: bool,
    ) -> Record {
        let (seq, time, id) = (Seq(head + 1), TimestampMs(1000 + head), GroupId(group));
        let sent = self.sent.entry((user, group)).or_default();
        let numbered =
            |(seq, time): (Seq, TimestampMs)| Replaced { seq, first: Some(FirstResult { time, said: [9; 16] }) };
        let (event, mut replaces) = match kind {
            0 => {
                sent.push((seq, time));
                let content = Content::text("sent to all");
                (
                    Event::Sent { to: id.into(), device: DeviceId(device), number: SendNumber(number), content },
                    Vec::new(),
                )
            }
            1 if !sent.is_empty() => {
                let refused = sent.remove(0);
                let event = Event::GroupRefused { group: id, origin: refused.0, code: ErrorCode::GroupEnded };
                (event, vec![numbered(refused)])
            }
            2 => {
                let conversation = id.into();
                let of = MessageName { author: UserId(device), seq: Seq(head) };
                return Record::Append {
                    user: UserId(user),
                    entry: Entry {
                        seq,
                        time,
                        event: Event::Deleted { conversation, of, place: Seq(device), unread: 0 },
                    },
                    replaces: None,
                    count: 0,
                };
            }
            _ => {
                let standing = if idle { Standing::Removed } else { Standing::Member };
                let (first, up_to, sent_up_to) = (Seq(device), Seq(head), Seq(head / 2));
                let before = self.pointers.insert((user, group), seq).map(|seq| Replaced { seq, first: None });
                let sent = sent.drain(..).map(numbered);
                (
                    Event::Group { group: id, standing, first, up_to, sent_up_to },
                    before.into_iter().chain(sent).collect(),
                )
            }
        };
        replaces.sort_unstable_by_key(|replaced| replaced.seq);
        let (user, entry) = (UserId(user), Entry { seq, time, event });
        match replaces[..] {
            [] => Record::Append { user, entry, replaces: None, count: 0 },
            [Replaced { seq, first: None }] => Record::Append { user, entry, replaces: Some(seq), count: 0 },
            _ => {
                let (place, now, received, last) = (Seq::ZERO, Shown::default(), None, None);
                Record::Rewrite { user, entry, of: Rewrite { place, now, replaces, received, last } }
            }
        }
    }
}

/// Something that a group has not taken.
fn refused(group: GroupId, from: UserId, origin: Seq) -> Record {
    let row = CameRow { up_to: origin, refused: vec![(origin, ErrorCode::NotAllowed)] };
    Record::GroupCame { group, from, row }
}
