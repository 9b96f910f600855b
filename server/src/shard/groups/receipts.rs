//! Receipts: what devices of members have of a group's log. Cores gather it, and tell the group's home now and then how far each member
//! is; the home keeps it in its roll, so however many messages come it is one row for each member. It may be told late, and what a core
//! has not told is lost with it, until the member's device says it again with the next message; nothing rests on it.

use proto_spec::{GroupId, Seq, UserId};
use storage::{Record, group::beside};

use super::GroupSaid;
use crate::{
    group::roll::Roll,
    limits::{FOLLOW_USERS_MAX, GROUP_RECEIPTS_EVERY_MS},
    shard::{Shard, Turn},
};

impl Shard {
    /// A device says what it has of a group. Of who is hidden nobody is told.
    pub(in crate::shard) fn group_acknowledged(
        &mut self,
        user_id: UserId,
        group: GroupId,
        up_to: Seq,
        cx: &mut Turn<'_>,
    ) {
        if cx.directory.version(user_id).is_some() {
            self.following.has(group, user_id, up_to);
        }
    }

    /// Tells the homes of groups what members have, if it is time.
    pub(super) fn tell_receipts(&mut self, cx: &mut Turn<'_>) {
        if cx.now.monotonic_ms < self.following.receipts_due_ms {
            return;
        }
        self.following.receipts_due_ms = cx.now.monotonic_ms + GROUP_RECEIPTS_EVERY_MS;
        for (group, marks) in self.following.take_receipts() {
            for marks in marks.chunks(FOLLOW_USERS_MAX) {
                self.ask_home(group, GroupSaid::Have { marks: marks.to_vec() }, cx);
            }
        }
    }

    /// At the home of the group: members have so much of it.
    pub(super) fn members_have(&mut self, id: GroupId, marks: &[(UserId, Seq)], cx: &mut Turn<'_>) {
        let at = self.lane_of(beside(id));
        self.cut_batch_if_full(at, cx);
        let Some(group) = self.groups.resident(id) else { return };
        for (user, up_to) in marks {
            let row = group.book.roll.member(*user).and_then(|row| Roll::having(row, *up_to, group.released));
            let Some(row) = row else { continue };
            cx.effects.filling[at].batch.push(&Record::GroupMember { group: id, user: *user, row: row.clone() });
            group.book.roll.set(*user, row);
            self.lanes[at].change_group(id, &mut group.changed_in);
        }
    }
}
