//! Typing: that a member types, passed on to the others who are connected, and forgotten. A word that may be left out anywhere.

use proto_spec::{GroupId, ServerFrame, UserId};

use super::GroupSaid;
use crate::{
    limits::{TYPING_MEMBERS_MAX, TYPING_SHOWN_MS, TYPING_WAITING_BYTES_MAX},
    shard::{Shard, Turn},
};

impl Shard {
    /// A user types in a group. Of who is hidden nobody is told.
    pub(in crate::shard) fn typing_in_group(&mut self, user_id: UserId, group: GroupId, cx: &mut Turn<'_>) {
        let row = self.users.resident(user_id).and_then(|user| user.group(group).copied());
        let may = row.is_some_and(|row| row.standing.is_member()) && cx.directory.version(user_id).is_some();
        if may {
            self.counters.typing += 1;
            self.ask_home(group, GroupSaid::Types { user: user_id }, cx);
        } else {
            self.counters.typing_dropped += 1;
        }
    }

    /// At the home of the group: the cores that follow are told, if the member may write and there are not too many who would see it.
    pub(super) fn member_types(&mut self, id: GroupId, user: UserId, cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        if group.book.roll.members() > TYPING_MEMBERS_MAX || !group.book.may_write(user) {
            return;
        }
        for core in group.followers() {
            self.group_mail_to(core, id, GroupSaid::Typing { user }, cx);
        }
    }

    /// At a core that follows: the members who are connected are told.
    pub(super) fn tell_typing(&mut self, group: GroupId, user: UserId, cx: &mut Turn<'_>) {
        let mut range = None;
        for member in self.following.members(group).into_iter().filter(|member| *member != user) {
            let Some(known) = self.users.resident(member) else { continue };
            for conn in known.devices.iter().filter_map(|device| device.session) {
                let Some(mut session) = self.sessions.get_mut(conn) else { continue };
                if session.is_ready() && session.queued() <= TYPING_WAITING_BYTES_MAX {
                    let frame = ServerFrame::TypingInGroup { group, user, ends_in_ms: TYPING_SHOWN_MS };
                    let range = range.get_or_insert_with(|| cx.effects.frame(&frame)).clone();
                    session.queue(range, cx);
                }
            }
        }
    }
}
