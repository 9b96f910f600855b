//! Owed: how users stand to a group is told to their homes, in order, until it is confirmed. As `duties` does for messages: what is on
//! the way is remembered (`outgoing`), what is not is read from the group's log.

use proto_spec::{ConversationId, Direction, GroupEntry, GroupId, Seq, UserId, limits::PAGE_BYTES_MAX};
use storage::{GroupEntries, Query, Span};

use super::home::{Group, concerns};
use crate::{
    limits::{FLUSHES_TURN_MAX, OWED_SCAN_ENTRIES},
    shard::{Admission, Shard, Turn, duties::Resting, question::Question},
};

/// Those of these entries that go out now, with whose standing each changes and who wrote it.
fn offered<'a>(group: &mut Group, entries: impl Iterator<Item = &'a GroupEntry>) -> Vec<(UserId, (Seq, UserId))> {
    let mut due = Vec::new();
    for entry in entries {
        if let Some(user) = concerns(entry.from, &entry.content)
            && group.owed.offer(entry.seq, user.into())
        {
            due.push((user, (entry.seq, entry.from)));
        }
    }
    due
}

impl Shard {
    /// Looks at groups whose time has come.
    pub(in crate::shard) fn flush_groups_if_due(&mut self, cx: &mut Turn<'_>) {
        if self.admission != Admission::Open {
            return;
        }
        let now_ms = if self.draining { u64::MAX } else { cx.now.monotonic_ms };
        for _ in 0..FLUSHES_TURN_MAX.min(self.dirty_groups.len()) {
            let Some(group) = self.dirty_groups.take_due(now_ms) else { return };
            self.flush_group(group, cx);
        }
    }

    /// Tells, in order, those whose standing waits in the log and who can be told.
    pub(super) fn owe_from_log(&mut self, id: GroupId, cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        if !group.owed.waits_in_log() || self.admission != Admission::Open || self.draining {
            return;
        }
        let Some(next) = group.owed.begin_scan() else { return };
        if next <= group.stored {
            let last = group.stored;
            group.held += 1;
            let (direction, entries_max) = (Direction::Forwards, OWED_SCAN_ENTRIES);
            let span = Span { first: next, last, direction, entries_max, bytes_max: PAGE_BYTES_MAX };
            return self.ask(Query::GroupLog { group: id, span }, Question::Owed { group: id, last }, cx);
        }
        let entries: Vec<_> = group.tail_range((next, group.head), Seq::ZERO).cloned().collect();
        let due = offered(group, entries.iter().map(|entry| &**entry));
        group.owed.end_scan(group.head, true);
        let released = group.released;
        // What is not durable goes out when it is.
        self.tell_all(id, due.into_iter().filter(|(_, (seq, _))| *seq <= released), cx);
    }

    /// A part of a group's log has been read for that.
    pub(in crate::shard) fn owed_read(
        &mut self,
        id: GroupId,
        last: Seq,
        read: Option<GroupEntries>,
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        group.held -= 1;
        // If the store could not be read: again at the next flush.
        self.mark_group_dirty(id, cx);
        let Some(group) = self.groups.resident(id) else { return };
        let Some(GroupEntries { entries, complete }) = read.filter(|_| !self.draining) else {
            return group.owed.abandon_scan();
        };
        let covered = match entries.last() {
            Some(entry) if !complete => entry.seq,
            _ => last,
        };
        let due = offered(group, entries.iter());
        group.owed.end_scan(covered, covered == group.head);
        self.tell_all(id, due.into_iter(), cx);
        self.owe_from_log(id, cx);
    }

    fn tell_all(&mut self, id: GroupId, due: impl Iterator<Item = (UserId, (Seq, UserId))>, cx: &mut Turn<'_>) {
        for (user, entry) in due {
            self.tell_standing(id, user, entry, cx);
        }
    }

    /// The home of a user knows how they stand to the group.
    pub(super) fn stood(&mut self, id: GroupId, user: UserId, at: Seq, cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        group.owed.confirm(at, user.into());
        if group.owed.waits_in_log() {
            self.owe_from_log(id, cx);
        }
        self.mark_group_dirty(id, cx);
    }

    /// The home of a user can not be told now.
    pub(super) fn stand_put_off(&mut self, id: GroupId, user: UserId, at: Seq, cx: &Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        if group.owed.put_off(at, user.into()) {
            let what = Resting::Standing(id, user);
            self.resting.push(cx.now.monotonic_ms, (storage::group::beside(id), what));
        }
    }

    /// A user who could not be told has rested long enough.
    pub(in crate::shard) fn wake_standing(&mut self, id: GroupId, user: UserId, cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        group.owed.wake(user.into());
        self.owe_from_log(id, cx);
        self.mark_group_dirty(id, cx);
    }

    /// What is on the way to these users may not get there. What begins to rest by that.
    pub(in crate::shard) fn lose_standings(&mut self, is_lost: &impl Fn(UserId) -> bool) -> Vec<(UserId, Resting)> {
        let mut lost = Vec::new();
        for id in &self.owing_groups {
            let Some(group) = self.groups.resident(*id) else { continue };
            for to in group.owed.lose(|to| matches!(to, ConversationId::Person(user) if is_lost(user))) {
                if let ConversationId::Person(user) = to {
                    lost.push((storage::group::beside(*id), Resting::Standing(*id, user)));
                }
            }
        }
        lost
    }
}
