//! Following: the groups of which a member is connected to this core. Their homes push to it what happens, and it passes that on to each
//! connection of a member, so many a turn.
//!
//! Nothing of it is stored. What a connection may have missed a pointer in its user's log tells (`own`): when it comes, when the core
//! follows again after a link was lost, and when it takes its pushes again after it did not. Pure data in [`Following`].
//!
//! Invariants: to one member each entry is pushed once, in order, and none that comes behind the one that sends them away; a core follows
//! a group as long as a member is connected.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;
use proto_spec::{Act, Body, GroupEntry, GroupId, Seq, ServerFrame, UserId};
use storage::{Wants, group::beside};

use super::{GroupMail, GroupSaid};
use crate::{
    limits::{ASK_AGAIN_MS, FANOUT_TURN_MAX, FOLLOW_USERS_MAX, OUTBOX_LIVE_BYTES_MAX, PUSHES_KEPT_BYTES_MAX},
    shard::{ConnId, Shard, Turn, presence::CoreAddress, topology::Home},
};

/// See the head of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Following {
    groups: HashMap<GroupId, Followed, RandomState>,
    /// Groups with entries that have not gone to all.
    due: VecDeque<GroupId>,
    /// Groups whose homes are to be told what members have, and when that is next.
    has_receipts: BTreeSet<GroupId>,
    pub(super) receipts_due_ms: u64,
}

#[derive(Debug, Default)]
struct Followed {
    /// Up to where the log has come, as far as this core was told.
    reached: Seq,
    /// Members who are connected, with the last seq that need not be pushed to them.
    members: BTreeMap<UserId, Seq>,
    /// Users of whom the group's home has been asked, and has not said yet whether they are members.
    asked: BTreeSet<UserId>,
    /// When it was asked last.
    asked_ms: u64,
    /// What devices of members have, as they said.
    had: BTreeMap<UserId, Seq>,
    /// Of whom the group's home is to be told so.
    untold: BTreeSet<UserId>,
    /// Entries that have not gone to all members.
    recent: VecDeque<Arc<GroupEntry>>,
    /// They go round: the next member, and how many have not had their turn since the last entry came.
    next: UserId,
    left: usize,
    recent_bytes: usize,
}

impl Followed {
    /// With those whom an entry sends away that not all have got, and is not kept any longer.
    fn push(&mut self, entry: Arc<GroupEntry>) -> Vec<UserId> {
        let mut away = Vec::new();
        self.reached = entry.seq;
        self.left = self.members.len();
        self.recent_bytes += push_bytes(&entry);
        self.recent.push_back(entry);
        while self.recent_bytes > PUSHES_KEPT_BYTES_MAX && self.recent.len() > 1 {
            // Those who have not got it see by the numbers of what follows that they lack it.
            if let Some(gone) = self.recent.pop_front() {
                self.recent_bytes -= push_bytes(&gone);
                away.extend(sent_away(&gone));
            }
        }
        away
    }

    /// The next members, so many, with the last seq that need not be pushed to them. Whether these are the last.
    fn take(&mut self, room: usize) -> (Vec<(UserId, Seq)>, bool) {
        let (reached, most) = (self.reached, room.min(self.left));
        let pass = |(user, up_to): (&UserId, &mut Seq)| (*user, std::mem::replace(up_to, reached));
        let mut taken: Vec<_> = self.members.range_mut(self.next..).take(most).map(pass).collect();
        let is_round = taken.len() < most;
        if is_round {
            let most = most - taken.len();
            taken.extend(self.members.range_mut(..self.next).take(most).map(pass));
        }
        self.next = taken.last().map_or(self.next, |(user, _)| UserId(user.0.saturating_add(1)));
        let is_all = taken.len() == self.left || taken.len() < most;
        self.left -= taken.len();
        (taken, is_all)
    }

    /// Everything has gone to all.
    fn clear(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
        self.next = UserId(0);
    }

    /// Something may have been lost: who is a member is asked again, and nothing is pushed to anybody until that is answered.
    fn doubt(&mut self, now_ms: u64) {
        self.clear();
        self.asked.extend(std::mem::take(&mut self.members).into_keys());
        self.asked_ms = now_ms;
    }
}

fn push_bytes(entry: &GroupEntry) -> usize {
    size_of::<GroupEntry>() + entry.content.parts().1.len()
}

impl Following {
    /// Up to where a group has come of which this user is a member who is connected.
    pub(super) fn reached(&self, group: GroupId, user: UserId) -> Option<Seq> {
        let followed = self.groups.get(&group)?;
        // Behind what sends them away nothing is theirs.
        let away = || followed.recent.iter().find(|entry| sent_away(entry) == Some(user)).map(|entry| entry.seq);
        followed.members.contains_key(&user).then(|| away().unwrap_or(followed.reached))
    }

    /// The members of a group who are connected here.
    pub(super) fn members(&self, group: GroupId) -> Vec<UserId> {
        self.groups.get(&group).map_or_else(Vec::new, |followed| followed.members.keys().copied().collect())
    }

    /// A device of a member, or of somebody who may be one, says that it has the log up to there. What of it is not so the home knows.
    pub(super) fn has(&mut self, group: GroupId, user: UserId, up_to: Seq) {
        let is_known =
            |followed: &&mut Followed| followed.members.contains_key(&user) || followed.asked.contains(&user);
        let Some(followed) = self.groups.get_mut(&group).filter(is_known) else { return };
        let had = followed.had.entry(user).or_default();
        if up_to > *had {
            *had = up_to;
            followed.untold.insert(user);
            self.has_receipts.insert(group);
        }
    }

    /// What the homes of groups are to be told of what members have.
    pub(super) fn take_receipts(&mut self) -> Vec<(GroupId, Vec<(UserId, Seq)>)> {
        let groups = std::mem::take(&mut self.has_receipts).into_iter();
        let of_group = groups.filter_map(|group| {
            let followed = self.groups.get_mut(&group)?;
            let untold = std::mem::take(&mut followed.untold).into_iter();
            Some((group, untold.filter_map(|user| Some((user, *followed.had.get(&user)?))).collect()))
        });
        of_group.collect()
    }

    /// How many groups this core follows.
    pub(in crate::shard) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether something waits to be passed on.
    pub(in crate::shard) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }
}

/// Whom an entry sends away.
fn sent_away(entry: &GroupEntry) -> Option<UserId> {
    match entry.content.body() {
        Ok(Body::Act(Act::Remove { user } | Act::Ban { user })) => Some(user),
        _ => None,
    }
}

impl Shard {
    /// Where this core is, for others.
    pub(in crate::shard) fn address(&self) -> CoreAddress {
        let node = self.homes.cluster.as_ref().map(|cluster| cluster.own).unwrap_or_default();
        CoreAddress { node, core: self.core }
    }

    /// A connection of the user is ready: the user's groups are followed, and what they lack is pointed at.
    pub(in crate::shard) fn follow_groups(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id).filter(|user| !user.groups.is_empty()) else { return };
        let members = user.groups.iter().filter(|(_, row)| row.standing.is_member());
        let groups: Vec<_> = members.map(|(group, _)| *group).collect();
        for group in groups {
            match self.following.reached(group, user_id) {
                Some(reached) => self.point_up_to(user_id, group, reached, cx),
                None => self.follow(user_id, group, cx),
            }
        }
    }

    /// A group is followed for this user, if they are connected.
    pub(super) fn follow(&mut self, user_id: UserId, group: GroupId, cx: &mut Turn<'_>) {
        if !self.users.resident(user_id).is_some_and(|user| user.is_connected()) {
            return;
        }
        let followed = self.following.groups.entry(group).or_default();
        if followed.asked.insert(user_id) {
            followed.asked_ms = cx.now.monotonic_ms;
            self.ask_home(group, GroupSaid::Follow { users: vec![user_id] }, cx);
            self.say_wants(user_id, group, None, cx);
        }
    }

    /// Tells the home of a group that a member is subscribed to notifications, if so. `wants`: of which messages, if that is known.
    pub(in crate::shard) fn say_wants(
        &mut self,
        user_id: UserId,
        group: GroupId,
        wants: Option<Wants>,
        cx: &mut Turn<'_>,
    ) {
        if self.settings.push.is_some()
            && let Some(user) = self.users.resident(user_id)
            && user.is_subscribed()
        {
            let is_here = user.is_connected();
            self.ask_home(group, GroupSaid::Wants { user: user_id, wants, is_here }, cx);
        }
    }

    /// The last connection of the user has gone, or the user is no member any more.
    pub(in crate::shard) fn unfollow(&mut self, user_id: UserId, group: GroupId, cx: &mut Turn<'_>) {
        let Some(followed) = self.following.groups.get_mut(&group) else { return };
        followed.members.remove(&user_id);
        followed.asked.remove(&user_id);
        // What they have is told before they are forgotten.
        let had = followed.had.remove(&user_id).filter(|_| followed.untold.remove(&user_id));
        if let Some(up_to) = had {
            self.ask_home(group, GroupSaid::Have { marks: vec![(user_id, up_to)] }, cx);
        }
        let is_subscribed = self.users.resident(user_id).is_some_and(|user| user.is_subscribed());
        if self.settings.push.is_some() && is_subscribed {
            self.ask_home(group, GroupSaid::Away { user: user_id }, cx);
        }
        self.unfollow_if_empty(group, cx);
    }

    fn unfollow_if_empty(&mut self, group: GroupId, cx: &mut Turn<'_>) {
        if self.following.groups.get(&group).is_some_and(|of| of.members.is_empty() && of.asked.is_empty()) {
            self.following.groups.remove(&group);
            self.ask_home(group, GroupSaid::Unfollow, cx);
        }
    }

    /// The user has no connection any more.
    pub(in crate::shard) fn unfollow_groups(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id).filter(|user| !user.groups.is_empty()) else { return };
        let groups: Vec<_> = user.groups.iter().map(|(group, _)| *group).collect();
        groups.into_iter().for_each(|group| self.unfollow(user_id, group, cx));
    }

    /// Says something to the home of a group.
    pub(super) fn ask_home(&mut self, group: GroupId, said: GroupSaid, cx: &mut Turn<'_>) {
        let mail = Box::new(GroupMail { group, core: self.address(), said });
        match self.homes.of(beside(group)) {
            Home::Here(core) if core == self.core => self.local_groups.push_back(mail),
            home @ Home::Here(_) => cx.effects.groups.push((home, mail)),
            // What can not be asked is asked once the node can be reached.
            home @ Home::Elsewhere(node) if self.elsewhere.reaches(node) => cx.effects.groups.push((home, mail)),
            Home::Elsewhere(_) => {}
        }
    }

    /// The home of a group has said who is a member, and from where on it pushes.
    pub(super) fn following_told(
        &mut self,
        group: GroupId,
        head: Seq,
        (members, strangers): (&[UserId], &[UserId]),
        cx: &mut Turn<'_>,
    ) {
        let Some(followed) = self.following.groups.get_mut(&group) else {
            // All have gone since. That was said when it was, perhaps before the home could hear it.
            return self.ask_home(group, GroupSaid::Unfollow, cx);
        };
        for user in members.iter().chain(strangers) {
            followed.asked.remove(user);
            followed.members.remove(user);
        }
        if followed.reached > Seq::ZERO && head > followed.reached {
            // What came between was lost.
            followed.doubt(followed.asked_ms);
        }
        followed.reached = followed.reached.max(head);
        let reached = followed.reached;
        let mut lacking: Vec<UserId> = Vec::new();
        for user in members {
            // Who has gone by their own log may have been let in again, and be about to decline.
            let is_here = self.users.resident(*user).is_some_and(|user| {
                user.is_connected() && user.group(group).is_some_and(|row| row.standing.is_member())
            });
            if is_here {
                followed.members.insert(*user, reached);
                followed.left += 1;
                lacking.push(*user);
                // The home may have lost what it was told.
                if followed.had.contains_key(user) {
                    followed.untold.insert(*user);
                    self.following.has_receipts.insert(group);
                }
            }
        }
        for user in lacking {
            self.point_up_to(user, group, reached, cx);
        }
        self.unfollow_if_empty(group, cx);
    }

    /// The home of a group pushes what has happened.
    pub(super) fn pushed(&mut self, group: GroupId, entry: Arc<GroupEntry>, cx: &mut Turn<'_>) {
        let Some(followed) = self.following.groups.get_mut(&group) else { return };
        if entry.seq <= followed.reached {
            return;
        }
        if entry.seq > followed.reached.next() && !followed.members.is_empty() {
            followed.doubt(cx.now.monotonic_ms);
            let asked = followed.asked.iter().copied().collect();
            return self.follow_users(vec![(group, asked)], cx);
        }
        let was_due = !followed.recent.is_empty();
        let away = followed.push(entry);
        if !was_due {
            self.following.due.push_back(group);
        }
        self.went_away(group, &away, cx);
    }

    /// Passes on what was pushed, as much as a turn takes.
    pub(in crate::shard) fn fan_out(&mut self, cx: &mut Turn<'_>) {
        let mut room = FANOUT_TURN_MAX;
        while room > 0
            && let Some(group) = self.following.due.pop_front()
        {
            room = self.fan_out_group(group, room, cx);
        }
    }

    /// Passes on what a group has, to so many members. How many more this turn takes.
    fn fan_out_group(&mut self, group: GroupId, room: usize, cx: &mut Turn<'_>) -> usize {
        let Some(followed) = self.following.groups.get_mut(&group) else { return room };
        let recent: Vec<_> = followed.recent.iter().map(Arc::clone).collect();
        let (members, is_all) = followed.take(room);
        let mut ranges = vec![None; recent.len()];
        let mut gone = Vec::new();
        for (user, up_to) in &members {
            let mut goes_on = true;
            for (entry, range) in recent.iter().zip(&mut ranges) {
                if !goes_on || entry.seq <= *up_to {
                    continue;
                }
                let range = range
                    .get_or_insert_with(|| {
                        let start = cx.effects.bytes.len();
                        ServerFrame::encode_deliver_group(group, entry, &mut cx.effects.bytes);
                        start..cx.effects.bytes.len()
                    })
                    .clone();
                self.push_to(*user, range, cx);
                if sent_away(entry) == Some(*user) {
                    goes_on = false;
                    gone.push(*user);
                }
            }
        }
        let Some(followed) = self.following.groups.get_mut(&group) else { return room };
        if is_all {
            followed.clear();
        } else {
            self.following.due.push_back(group);
        }
        self.went_away(group, &gone, cx);
        room - members.len()
    }

    /// These users are members no more.
    fn went_away(&mut self, group: GroupId, gone: &[UserId], cx: &mut Turn<'_>) {
        let Some(followed) = self.following.groups.get_mut(&group) else { return };
        gone.iter().for_each(|user| _ = followed.members.remove(user));
        for user in gone {
            // Their log may say already that they have come back.
            let row = self.users.resident(*user).and_then(|user| user.group(group));
            if row.is_some_and(|row| row.standing.is_member()) {
                self.follow(*user, group, cx);
            }
        }
        self.unfollow_if_empty(group, cx);
    }

    /// Pushes one frame to all connections of a user that take it now. Who does not is told by a pointer, once it has caught up.
    fn push_to(&mut self, user_id: UserId, range: std::ops::Range<usize>, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        for device in &user.devices {
            let Some(mut session) = device.session.and_then(|conn| self.sessions.get_mut(conn)) else { continue };
            if !session.is_ready() {
                continue;
            }
            if session.feed.is_live() && session.queued() + range.len() > OUTBOX_LIVE_BYTES_MAX {
                session.feed.fall_behind();
                self.counters.fell_behind += 1;
            }
            if session.feed.is_live() {
                session.queue(range.clone(), cx);
                self.counters.group_delivered += 1;
            } else {
                session.lacks_groups = true;
            }
        }
    }

    /// A connection is live again: what it may have missed of groups is pointed at.
    pub(in crate::shard) fn take_up_groups(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        if session.feed.is_live() && std::mem::take(&mut session.lacks_groups) {
            let user = session.user;
            self.follow_groups(user, cx);
        }
    }

    /// Asks anew the homes of groups that have not answered for long.
    pub(in crate::shard) fn follow_late(&mut self, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let late = self.following.groups.iter_mut();
        let late = late.filter(|(_, of)| !of.asked.is_empty() && of.asked_ms + ASK_AGAIN_MS <= now_ms);
        let late: Vec<_> = late
            .map(|(group, of)| {
                of.asked_ms = now_ms;
                (*group, of.asked.iter().copied().collect())
            })
            .collect();
        self.follow_users(late, cx);
    }

    /// The homes of these groups may know nothing of this core any more: it follows anew.
    pub(in crate::shard) fn follow_anew(&mut self, is_meant: impl Fn(UserId) -> bool, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let mut anew = Vec::new();
        for (group, of) in self.following.groups.iter_mut().filter(|(group, _)| is_meant(beside(**group))) {
            of.doubt(now_ms);
            anew.push((*group, of.asked.iter().copied().collect()));
        }
        self.follow_users(anew, cx);
    }

    fn follow_users(&mut self, mut groups: Vec<(GroupId, Vec<UserId>)>, cx: &mut Turn<'_>) {
        groups.sort_unstable_by_key(|(group, _)| *group);
        for (group, users) in groups {
            for users in users.chunks(FOLLOW_USERS_MAX) {
                self.ask_home(group, GroupSaid::Follow { users: users.to_vec() }, cx);
            }
            users.into_iter().for_each(|user| self.say_wants(user, group, None, cx));
        }
    }

    /// These users have another owner: their connections have gone.
    pub(in crate::shard) fn forget_followers(&mut self, is_gone: impl Fn(UserId) -> bool, cx: &mut Turn<'_>) {
        let mut groups: Vec<_> = self.following.groups.keys().copied().collect();
        groups.sort_unstable();
        for group in groups {
            if let Some(of) = self.following.groups.get_mut(&group) {
                of.members.retain(|user, _| !is_gone(*user));
                of.asked.retain(|user| !is_gone(*user));
                of.had.retain(|user, _| !is_gone(*user));
            }
            self.unfollow_if_empty(group, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, TimestampMs};

    use super::*;

    #[test]
    fn members_have_their_turn_one_after_the_other_while_more_comes() {
        let mut followed =
            Followed { members: (1..=10).map(|user| (UserId(user), Seq::ZERO)).collect(), ..Followed::default() };
        let mut turn = |seq: Option<u64>| {
            let entry = |seq| {
                let (time, from, origin) = (TimestampMs(0), UserId(1), Seq(seq));
                GroupEntry { seq: Seq(seq), time, from, origin, messages: seq, content: Content::text("x") }
            };
            seq.into_iter().for_each(|seq| _ = followed.push(Arc::new(entry(seq))));
            let (taken, is_all) = followed.take(4);
            (taken.into_iter().map(|(user, up_to)| (user.0, up_to.0)).collect::<Vec<_>>(), is_all)
        };
        assert_eq!(turn(Some(1)), (vec![(1, 0), (2, 0), (3, 0), (4, 0)], false));
        assert_eq!(turn(Some(2)), (vec![(5, 0), (6, 0), (7, 0), (8, 0)], false));
        assert_eq!(turn(Some(3)), (vec![(9, 0), (10, 0), (1, 1), (2, 1)], false));
        assert_eq!(turn(None), (vec![(3, 1), (4, 1), (5, 2), (6, 2)], false));
        assert_eq!(turn(None), (vec![(7, 2), (8, 2)], true));
        assert_eq!(followed.members.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([Seq(3)]));
    }
}
