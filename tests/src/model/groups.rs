//! What the model has of groups, and what it makes sure of: that logs grow by one, that nothing is told of what did not happen.

use std::collections::BTreeMap;

use proto_spec::{Direction, Entry, Event, GroupEntry, Seq, Standing, UserId};
use storage::{
    Answer, CameRow, GroupEntries, GroupMarks, GroupMessage, GroupRewrite, GroupSnapshot, GroupState, MemberRow, Query,
    Record, Rewrite, Span, StandingRow, Wants,
};

use super::{Model, UserRows};

/// One group's part of the model.
#[derive(Clone, Debug, Default)]
pub struct GroupRows {
    /// The log, without what has been superseded.
    pub log: BTreeMap<Seq, GroupEntry>,
    /// What it is called.
    pub state: Option<GroupState>,
    /// Who is, or was, a member.
    pub roll: BTreeMap<UserId, MemberRow>,
    came: BTreeMap<UserId, CameRow>,
    wants: BTreeMap<UserId, Wants>,
    marks: GroupMarks,
}

impl UserRows {
    /// An entry takes the place of others: the pointer of a group, or what became of something that was sent to one.
    pub(super) fn supersede(&mut self, user: UserId, entry: &Entry, of: &Rewrite) {
        let mut gone = Vec::new();
        for replaced in &of.replaces {
            let old = self.log.remove(&replaced.seq).expect("what is superseded is there");
            assert_eq!(matches!(old.event, Event::Sent { .. }), replaced.first.is_some(), "{user}: {old:?}");
            replaced.first.map(|first| self.firsts.insert(replaced.seq, first));
            gone.push(old);
        }
        let head = self.log.last_key_value().map(|(head, _)| *head).unwrap_or_default();
        assert!(head < entry.seq, "{user}: {} is appended after {head}", entry.seq);
        match &entry.event {
            Event::Group { group, standing, first, up_to, sent_up_to } => {
                let row = StandingRow {
                    standing: *standing,
                    first: *first,
                    up_to: *up_to,
                    sent_up_to: *sent_up_to,
                    at: entry.seq,
                };
                let before = self.groups.insert(*group, row);
                let pointers =
                    gone.iter().filter(|old| matches!(old.event, Event::Group { group: of, .. } if of == *group));
                assert_eq!(pointers.count(), usize::from(before.is_some()), "{user} has one pointer of {group}");
                let before = before.unwrap_or_default();
                assert!(*sent_up_to >= before.sent_up_to, "{user}: what was sent to {group} is not any more");
                if before.standing == *standing && *standing == Standing::Member {
                    assert!(*up_to >= before.up_to, "{user}: {group} goes back");
                }
                let waits = |old: &&Entry| matches!(old.event, Event::Sent { to, .. } if to == (*group).into());
                let left = self.log.values().filter(waits).find(|old| old.seq <= *sent_up_to);
                assert_eq!(left, None, "{user}: it has been numbered by {group}");
            }
            Event::GroupRefused { origin, .. } => {
                assert_eq!(gone.iter().map(|old| old.seq).collect::<Vec<_>>(), [*origin], "{user}");
            }
            other => panic!("{other:?} takes the place of nothing like that"),
        }
        self.log.insert(entry.seq, entry.clone());
    }
}

impl Model {
    pub(super) fn apply_to_group(&mut self, record: &Record) {
        match record {
            Record::GroupAppend { group, entry, of } => {
                let rows = self.groups.entry(*group).or_default();
                let head = rows.log.last_key_value().map(|(head, _)| *head).unwrap_or_default();
                assert_eq!(entry.seq, head.next(), "the log of {group} has a gap");
                let messages = rows.log.last_key_value().map_or(0, |(_, last)| last.messages);
                assert_eq!(entry.messages, messages + u64::from(entry.content.is_message()), "{group}: {entry:?}");
                for gone in of.iter().flat_map(|GroupRewrite { replaces, .. }| replaces) {
                    rows.log.remove(gone).expect("what is superseded is there");
                }
                // What nobody has sent did not come of them.
                if entry.origin > Seq::ZERO {
                    let came = rows.came.insert(entry.from, CameRow { up_to: entry.origin, refused: Vec::new() });
                    assert!(came.is_none_or(|came| came.up_to < entry.origin), "{group}: {entry:?} came before");
                }
                if let Ok(proto_spec::Body::Act(act)) = entry.content.body()
                    && act.concerns(entry.from).is_some()
                {
                    self.unfinished_groups.insert(*group);
                }
                rows.log.insert(entry.seq, entry.clone());
            }
            Record::GroupState { group, state } => {
                self.groups.entry(*group).or_default().state = Some(state.clone());
            }
            Record::GroupMember { group, user, row } => {
                self.groups.entry(*group).or_default().roll.insert(*user, row.clone());
            }
            Record::GroupCame { group, from, row } => {
                let before = self.groups.entry(*group).or_default().came.insert(*from, row.clone());
                assert!(before.is_none_or(|before| before.up_to <= row.up_to), "{group}: {from} goes back");
            }
            Record::GroupWants { group, user, wants } => {
                let of_group = &mut self.groups.entry(*group).or_default().wants;
                of_group.remove(user);
                of_group.extend(wants.map(|wants| (*user, wants)));
            }
            Record::GroupMarks { group, marks, idle } => {
                let rows = self.groups.entry(*group).or_default();
                assert!(marks.told >= rows.marks.told, "{group}: what was told is not any more");
                rows.marks = *marks;
                match idle {
                    true => self.unfinished_groups.remove(group),
                    false => self.unfinished_groups.insert(*group),
                };
            }
            other => panic!("{other:?} is of no group"),
        }
    }

    pub(super) fn answer_of_group(&self, query: &Query) -> Answer {
        let none = GroupRows::default();
        match query {
            Query::Group(group) => {
                let rows = self.groups.get(group).unwrap_or(&none);
                Answer::Group(Box::new(GroupSnapshot {
                    last: rows.log.last_key_value().map(|(_, last)| last.clone()),
                    state: rows.state.clone(),
                    roll: rows.roll.clone().into_iter().collect(),
                    came: rows.came.clone().into_iter().collect(),
                    wants: rows.wants.clone().into_iter().collect(),
                    marks: rows.marks,
                    unfinished: self.unfinished_groups.contains(group),
                }))
            }
            Query::GroupLog { group, span } => {
                Answer::GroupEntries(read(&self.groups.get(group).unwrap_or(&none).log, span))
            }
            Query::GroupMessage { group, place } => {
                let rows = self.groups.get(group).unwrap_or(&none);
                let says = rows.log.values().rev().find(|entry| entry.place() == Some(*place));
                let is_reaction = |entry: &&GroupEntry| {
                    entry.place().is_none() && entry.content.about().is_some_and(|(name, _)| name.seq == *place)
                };
                let reactions = rows.log.values().filter(is_reaction).cloned().collect();
                Answer::GroupMessage(says.map(|entry| GroupMessage { place: *place, entry: entry.clone(), reactions }))
            }
            other => panic!("{other:?} is of no group"),
        }
    }
}

fn read(log: &BTreeMap<Seq, GroupEntry>, span: &Span) -> GroupEntries {
    if span.first > span.last {
        return GroupEntries { entries: Vec::new(), complete: true };
    }
    let range = log.range(span.first..=span.last).map(|(_, entry)| entry.clone());
    let mut entries: Vec<_> = match span.direction {
        Direction::Forwards => range.collect(),
        Direction::Backwards => range.rev().collect(),
    };
    let mut bytes = 0;
    let fitting = entries.iter().take(span.entries_max).take_while(|entry| {
        bytes += 64 + entry.content.parts().1.len();
        bytes <= span.bytes_max
    });
    let count = fitting.count().max(1).min(entries.len());
    let complete = count == entries.len();
    entries.truncate(count);
    if span.direction == Direction::Backwards {
        entries.reverse();
    }
    GroupEntries { entries, complete }
}
