//! The records of groups, and what users keep of them: the rows that they leave behind.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use proto_spec::{DeviceId, GroupId, SendNumber, Seq, Settings, UserId};

use super::Fold;
use crate::{
    changes::{ByUser, Changes, UserAt},
    codec::{self, StoredCameRow, StoredEvent, StoredGroupEntry, StoredGroupState, StoredMemberRow, StoredWants},
    group::{GroupMarks, GroupRewrite, StandingRow, beside},
    run::{Run, Value},
    schema::{ReadRow, RowKey, SettingsRow, partition_of},
};

/// The groups of a run that is being gathered.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Where in `groups` each group is.
    places: HashMap<GroupId, UserAt, RandomState>,
    groups: Vec<Group>,
    log: Changes<Seq, Value>,
    roll: Changes<(UserId, OfMember), Value>,
    shown: Changes<Seq, Value>,
}

/// A group, and the changes of rows of which a group has one.
#[derive(Clone, Copy, Debug)]
struct Group {
    id: GroupId,
    state: Option<Value>,
    marks: Option<GroupMarks>,
    unfinished: Option<bool>,
}

/// The rows of a roll about one user, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum OfMember {
    #[default]
    Member,
    Came,
    Wants,
}

/// What a user keeps of a group, in the order of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// How far it has been read.
    #[default]
    Read,
    /// How it is kept.
    Settings,
    /// That a message is deleted.
    Deleted(Seq),
}

impl Kept {
    pub(super) fn row(self, user: UserId, group: GroupId) -> RowKey {
        let conversation = group.into();
        match self {
            Self::Read => RowKey::Read { user, conversation },
            Self::Settings => RowKey::Settings { user, conversation },
            Self::Deleted(name) => RowKey::Deleted { user, conversation, name },
        }
    }
}

impl Fold {
    /// What an entry of a user's log says of a group. Nothing of it is in a conversation: that is the group's log.
    pub(super) fn of_group(&mut self, at: UserAt, seq: Seq, event: &StoredEvent<'_>, count: u64) {
        match *event {
            StoredEvent::SentToGroup { device, number, .. } => {
                self.sends.push(at, (DeviceId(device), SendNumber(number)), seq);
                self.users[at as usize].unfinished = Some(true);
            }
            StoredEvent::Group { group, standing, first, up_to, sent_up_to } => {
                let [first, up_to, sent_up_to] = [first, up_to, sent_up_to].map(Seq);
                let row = StandingRow { standing: codec::standing_of(standing), first, up_to, sent_up_to, at: seq };
                let value = self.run.value(|out| codec::put_standing(out, row));
                self.standings.push(at, GroupId(group), value);
            }
            StoredEvent::GroupRead { group, up_to, told, .. } => {
                if told != 0 {
                    self.users[at as usize].unfinished = Some(true);
                }
                let row = ReadRow { up_to: Seq(up_to), at: seq, count };
                let value = self.run.value(|out| codec::put_read(out, row));
                self.kept.push(at, (GroupId(group), Kept::Read), value);
            }
            StoredEvent::GroupSettings { group, settings } => {
                let row = SettingsRow { settings: Settings::from_bits(settings), at: seq };
                let value = self.run.value(|out| codec::put_settings(out, row));
                self.kept.push(at, (GroupId(group), Kept::Settings), value);
            }
            StoredEvent::GroupDeleted { group, place, .. } => {
                let value = self.run.value(|out| codec::put_seq(out, seq));
                self.kept.push(at, (GroupId(group), Kept::Deleted(Seq(place))), value);
            }
            StoredEvent::GroupRefused { .. }
            | StoredEvent::Received { .. }
            | StoredEvent::Sent { .. }
            | StoredEvent::Delivered { .. }
            | StoredEvent::Unknown { .. }
            | StoredEvent::Read { .. }
            | StoredEvent::Seen { .. }
            | StoredEvent::Settings { .. }
            | StoredEvent::Devices { .. }
            | StoredEvent::Deleted { .. }
            | StoredEvent::Visibility { .. } => {}
        }
    }
}

impl Groups {
    /// An entry of a group's log, whose row has this value.
    pub(super) fn append(
        &mut self,
        run: &mut Run,
        (id, seq): (GroupId, Seq),
        entry: &StoredGroupEntry<'_>,
        value: Value,
        of: Option<&GroupRewrite>,
    ) {
        let at = self.group(id);
        self.log.push(at, seq, value);
        if entry.origin > 0 {
            let came = run.value(|out| codec::put_came(out, Seq(entry.origin)));
            self.roll.push(at, (UserId(entry.from), OfMember::Came), came);
        }
        if entry.changes_standing() {
            self.groups[at as usize].unfinished = Some(true);
        }
        let Some(GroupRewrite { place, now, replaces }) = of else { return };
        replaces.iter().for_each(|seq| self.log.push(at, *seq, Value::DELETED));
        let shown = match now.says {
            Seq::ZERO => Value::DELETED,
            _ => run.value(|out| codec::put_group_shown(out, now)),
        };
        self.shown.push(at, *place, shown);
    }

    pub(super) fn state(&mut self, run: &mut Run, id: GroupId, state: &StoredGroupState<'_>) {
        let at = self.group(id);
        self.groups[at as usize].state = Some(run.value(|out| codec::put_stored_group_state(out, state)));
    }

    pub(super) fn member(&mut self, run: &mut Run, id: GroupId, user: UserId, row: &StoredMemberRow<'_>) {
        let at = self.group(id);
        let value = run.value(|out| codec::put_stored_member(out, row));
        self.roll.push(at, (user, OfMember::Member), value);
    }

    pub(super) fn came(&mut self, run: &mut Run, id: GroupId, from: UserId, row: &StoredCameRow<'_>) {
        let at = self.group(id);
        let value = run.value(|out| codec::put_stored_came(out, row));
        self.roll.push(at, (from, OfMember::Came), value);
    }

    pub(super) fn wants(&mut self, run: &mut Run, id: GroupId, user: UserId, wants: Option<StoredWants>) {
        let at = self.group(id);
        let value = wants.map_or(Value::DELETED, |wants| run.value(|out| codec::put_wants(out, wants)));
        self.roll.push(at, (user, OfMember::Wants), value);
    }

    pub(super) fn marks(&mut self, id: GroupId, marks: GroupMarks, idle: bool) {
        let at = self.group(id);
        let group = &mut self.groups[at as usize];
        group.marks = Some(marks);
        group.unfinished = Some(!idle);
    }

    fn group(&mut self, id: GroupId) -> UserAt {
        *self.places.entry(id).or_insert_with(|| {
            self.groups.push(Group { id, state: None, marks: None, unfinished: None });
            UserAt::try_from(self.groups.len() - 1).expect("a run has fewer than 4 billion groups")
        })
    }

    pub(super) fn sort(self) -> SortedGroups {
        let count = self.groups.len();
        let place = |(at, group): (_, &Group)| (partition_of(beside(group.id)), group.id, at);
        let mut order: Vec<_> = (0..).zip(&self.groups).map(place).collect();
        order.sort_unstable();
        SortedGroups {
            order: order.into_iter().map(|(_, id, at)| (id, at)).collect(),
            groups: self.groups,
            log: self.log.sort(count),
            roll: self.roll.sort(count),
            shown: self.shown.sort(count),
        }
    }
}

/// The groups of a run by ascending key.
#[derive(Debug)]
pub(super) struct SortedGroups {
    /// By partition and id: the order of the keys of all tables but one.
    order: Vec<(GroupId, UserAt)>,
    groups: Vec<Group>,
    log: ByUser<Seq, Value>,
    roll: ByUser<(UserId, OfMember), Value>,
    shown: ByUser<Seq, Value>,
}

impl SortedGroups {
    /// How many rows are counted before they are made.
    pub(super) const fn len(&self) -> usize {
        self.log.len() + self.roll.len()
    }

    /// Adds the rows, whose tables are behind all others.
    pub(super) fn put(&self, run: &mut Run) {
        for &(group, at) in &self.order {
            for &(seq, value) in self.log.of(at) {
                run.push(RowKey::GroupLog { group, seq }.encode(), value);
            }
        }
        for &(group, at) in &self.order {
            let Group { state, marks, .. } = self.groups[at as usize];
            if let Some(state) = state {
                run.push(RowKey::GroupState { group }.encode(), state);
            }
            if let Some(marks) = marks {
                run.put(RowKey::GroupMarks { group }.encode(), |out| codec::put_group_marks(out, marks));
            }
        }
        for &(group, at) in &self.order {
            for &((user, part), value) in self.roll.of(at) {
                let row = match part {
                    OfMember::Member => RowKey::GroupMember { group, user },
                    OfMember::Came => RowKey::GroupCame { group, user },
                    OfMember::Wants => RowKey::GroupWants { group, user },
                };
                run.push(row.encode(), value);
            }
        }
        for &(group, at) in &self.order {
            for &(place, value) in self.shown.of(at) {
                run.push(RowKey::GroupShown { group, place }.encode(), value);
            }
        }
        let unfinished = self.groups.iter().filter_map(|group| Some((group.id, group.unfinished?)));
        let mut unfinished: Vec<_> = unfinished.collect();
        // This table has no partition in its keys.
        unfinished.sort_unstable_by_key(|(group, _)| *group);
        for (group, unfinished) in unfinished {
            let value = if unfinished { Value::EMPTY } else { Value::DELETED };
            run.push(RowKey::GroupUnfinished { group }.encode(), value);
        }
    }
}
