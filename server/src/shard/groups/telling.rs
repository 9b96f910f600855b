//! Telling: members who have subscribed to notifications are told, at their homes, that a group has messages for them. Whoever is connected is
//! given time to say that a device has them; whoever is not is told at once. What the user's home makes of it is in `push`.
//!
//! Nothing of it is stored but who wants what, and that somebody may be left to tell: after a restart all are told again, and their homes
//! find in their logs what they knew. So each is told until its home has said that its log has it, at most once in a while, and with one
//! number however many messages came.
//!
//! Invariants: a group with somebody left to tell is unfinished, in the store too; nobody is told of what is not released.

use std::collections::BTreeMap;

use proto_spec::{Body, Content, GroupEntry, GroupId, Seq, UserId};
use storage::{MemberRow, Record, Wants, group::beside};

use crate::{
    group::roll::Roll,
    limits::{ASK_AGAIN_MS, TOLD_TURN_MAX, WOKEN_TICK_MAX},
    shard::{
        Admission, Shard, Turn,
        input::{Envelope, EnvelopeBody},
        presence::CoreAddress,
    },
};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Telling {
    wants: BTreeMap<UserId, Wants>,
    /// Those of them who are connected, and where.
    here: BTreeMap<UserId, CoreAddress>,
    /// The last message, and the last of anybody else than its author.
    last: Option<(Seq, UserId)>,
    last_of_others: Seq,
    /// The last message that names each of those who want to be told of no others.
    named: BTreeMap<UserId, Seq>,
    /// Whom messages up to here name is not known any more: a restart was between.
    unknown_up_to: Seq,
    /// What the homes of members know.
    told: BTreeMap<UserId, Seq>,
    /// What they were told, and when, in milliseconds of the monotonic clock.
    under_way: BTreeMap<UserId, (Seq, u64)>,
    /// Whoever is connected has had the time to say that they have what is up to here.
    waited_up_to: Seq,
    /// When all are looked at next.
    wakes_ms: Option<u64>,
    /// When that is once the time of those who are connected is over.
    round_ms: u64,
    /// The last message that somebody is to be told of and that is numbered, released or not.
    numbered: Seq,
    /// Somebody may be left to tell of what is released.
    is_open: bool,
}

/// Who is to be told now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    told: Vec<(UserId, Seq)>,
    /// There are more than a turn takes.
    more: bool,
}

impl Telling {
    /// Of a group in a log that ends at `head`, that may owe something since a restart.
    pub(super) fn load(wants: Vec<(UserId, Wants)>, head: Seq, unfinished: bool) -> Self {
        let is_open = unfinished && !wants.is_empty();
        let up_to = if is_open { head } else { Seq::ZERO };
        Self {
            wants: wants.into_iter().collect(),
            last_of_others: up_to,
            unknown_up_to: up_to,
            waited_up_to: up_to,
            is_open,
            ..Self::default()
        }
    }

    /// Somebody may be left to tell.
    pub(super) fn is_open(&self) -> bool {
        self.is_open || self.last.map_or(Seq::ZERO, |(seq, _)| seq) < self.numbered
    }

    /// Whether somebody may have to be told of a message of this author.
    fn concerns_others(&self, author: UserId) -> bool {
        self.wants.iter().any(|(user, wants)| *user != author && *wants != Wants::Nothing)
    }

    /// A message is released.
    fn note(&mut self, seq: Seq, author: UserId, content: &Content) {
        if let Some((last, by)) = self.last
            && by != author
        {
            self.last_of_others = last;
        }
        self.last = Some((seq, author));
        if let Ok(Body::Mention(mention)) = content.body() {
            for user in mention.users().filter(|user| self.wants.get(user) == Some(&Wants::Named)) {
                self.named.insert(user, seq);
            }
        }
    }

    /// The last message of which this member is to be notified, whoever has told them.
    fn due(&self, user: UserId, wants: Wants) -> Seq {
        let of_others = match self.last {
            Some((seq, author)) if author != user => seq,
            _ => self.last_of_others,
        };
        match wants {
            Wants::All => of_others,
            Wants::Named => self.named.get(&user).copied().unwrap_or_default().max(of_others.min(self.unknown_up_to)),
            Wants::Nothing => Seq::ZERO,
        }
    }

    /// Looks at all, in a group with this roll: who is to be told now, at most so many. Whoever was told and has not answered in `again_ms` is
    /// told again.
    fn round(&mut self, roll: &Roll, (now_ms, again_ms): (u64, u64), most: usize) -> Round {
        let mut round = Round::default();
        let is_over = now_ms >= self.round_ms;
        self.is_open = false;
        for (user, wants) in &self.wants {
            let Some(row) = roll.member(*user) else { continue };
            let due = self.due(*user, *wants);
            let known = known(row).max(self.told.get(user).copied().unwrap_or_default());
            if due <= known {
                continue;
            }
            self.is_open = true;
            let is_under_way =
                self.under_way.get(user).is_some_and(|(seq, at_ms)| *seq >= due && at_ms + again_ms > now_ms);
            let has_time = self.here.contains_key(user) && known >= due.min(self.waited_up_to);
            if is_under_way || has_time {
                continue;
            }
            if round.told.len() == most {
                round.more = true;
                break;
            }
            round.told.push((*user, due));
        }
        round.told.iter().for_each(|(user, seq)| _ = self.under_way.insert(*user, (*seq, now_ms)));
        if is_over && !round.more {
            self.waited_up_to = self.last.map_or(self.waited_up_to, |(seq, _)| seq);
            self.round_ms = now_ms + again_ms;
        }
        round
    }

    /// These are not connected any more. Whether somebody is to be told sooner for that.
    fn leave(&mut self, has_left: impl Fn(UserId, CoreAddress) -> bool) -> bool {
        let before = self.here.len();
        self.here.retain(|user, core| !has_left(*user, *core));
        self.is_open() && self.here.len() < before
    }
}

/// Up to where a member needs no notification: their devices have it, it was read, or is not theirs to read.
fn known(row: &MemberRow) -> Seq {
    let (first, _) = Roll::readable(row, MemberRow::OPEN);
    row.delivered.max(row.read).max(first.previous())
}

impl Shard {
    /// How long whoever is connected has time, and whoever was told, in milliseconds; none: nobody is notified.
    fn telling_ms(&self) -> Option<u64> {
        self.settings.push.map(|push| push.delay_ms.max(ASK_AGAIN_MS))
    }

    /// A message of a group is being appended: a restart looks at the group, if somebody is to be told. In the batch of the message.
    pub(super) fn message_numbered(&mut self, id: GroupId, author: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(beside(id));
        let is_notifying = self.settings.push.is_some();
        let Some(group) = self.groups.resident(id) else { return };
        if !is_notifying || !group.telling.concerns_others(author) {
            return;
        }
        group.telling.numbered = group.head;
        if !std::mem::replace(&mut group.unfinished, true) {
            let record = Record::GroupMarks { group: id, marks: group.marks, idle: false };
            group.marks_written = group.marks;
            cx.effects.filling[at].batch.push(&record);
        }
    }

    /// It is released.
    pub(super) fn message_released(&mut self, id: GroupId, entry: &GroupEntry, cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id).filter(|group| group.telling.numbered >= entry.seq) else { return };
        group.telling.is_open = true;
        group.telling.note(entry.seq, entry.from, &entry.content);
        let at_ms = if group.telling.wakes_ms.is_some() { u64::MAX } else { cx.now.monotonic_ms };
        self.wake_telling(id, at_ms);
    }

    /// All are looked at by then.
    pub(super) fn wake_telling(&mut self, id: GroupId, at_ms: u64) {
        let Some(group) = self.groups.resident(id) else { return };
        let wakes_ms = &mut group.telling.wakes_ms;
        if wakes_ms.is_some_and(|wakes_ms| wakes_ms <= at_ms) {
            return;
        }
        if let Some(before) = wakes_ms.replace(at_ms) {
            self.telling.remove(&(before, id));
        }
        self.telling.insert((at_ms, id));
    }

    /// Tells those whose time has come.
    pub(in crate::shard) fn tick_telling(&mut self, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        if self.draining || self.admission != Admission::Open {
            return;
        }
        for _ in 0..WOKEN_TICK_MAX {
            let Some((_, id)) = self.telling.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) else { return };
            self.telling.pop_first();
            self.tell_members(id, cx);
        }
    }

    fn tell_members(&mut self, id: GroupId, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let Some(again_ms) = self.telling_ms() else { return };
        let Some(group) = self.groups.resident(id) else { return };
        group.telling.wakes_ms = None;
        let round = group.telling.round(&group.book.roll, (now_ms, again_ms), TOLD_TURN_MAX);
        let (is_open, round_ms) = (group.telling.is_open(), group.telling.round_ms);
        for (user, up_to) in round.told {
            self.post(Envelope { to: user, from: beside(id), body: EnvelopeBody::Reached { up_to } }, cx);
        }
        match is_open {
            true => self.wake_telling(id, if round.more { now_ms + 1 } else { round_ms.max(now_ms + 1) }),
            false => self.mark_group_dirty(id, cx),
        }
    }

    /// The home of a member knows it.
    pub(super) fn reached_taken(
        &mut self,
        id: GroupId,
        user: UserId,
        up_to: Seq,
        is_subscribed: bool,
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        let telling = &mut group.telling;
        if telling.under_way.get(&user).is_some_and(|(seq, _)| *seq <= up_to) {
            telling.under_way.remove(&user);
        }
        let told = telling.told.entry(user).or_default();
        *told = up_to.max(*told);
        if !is_subscribed {
            self.set_wants(id, user, None, cx);
        }
    }

    /// A core says that a member is subscribed.
    pub(super) fn member_wants(
        &mut self,
        id: GroupId,
        core: CoreAddress,
        user: UserId,
        (wants, is_here): (Option<Wants>, bool),
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        if group.book.roll.member(user).is_some() {
            let wants = wants.or(group.telling.wants.get(&user).copied()).unwrap_or(Wants::All);
            if is_here {
                group.telling.here.insert(user, core);
            }
            self.set_wants(id, user, Some(wants), cx);
        }
        self.forget_group_if_unused(id);
    }

    /// What a member wants from now on. What was there before they wanted anything is not told.
    pub(super) fn set_wants(&mut self, id: GroupId, user: UserId, wants: Option<Wants>, cx: &mut Turn<'_>) {
        let at = self.lane_of(beside(id));
        self.cut_batch_if_full(at, cx);
        let Some(group) = self.groups.resident(id) else { return };
        let telling = &mut group.telling;
        let before = match wants {
            Some(wants) => telling.wants.insert(user, wants),
            None => {
                [&mut telling.named, &mut telling.told].into_iter().for_each(|of| _ = of.remove(&user));
                telling.here.remove(&user);
                telling.wants.remove(&user)
            }
        };
        if before == wants {
            return;
        }
        if before.is_none() {
            telling.told.insert(user, group.released);
        }
        cx.effects.filling[at].batch.push(&Record::GroupWants { group: id, user, wants });
        self.lanes[at].change_group(id, &mut group.changed_in);
    }

    /// A member who is subscribed is not connected any more.
    pub(super) fn member_away(&mut self, id: GroupId, user: UserId, cx: &mut Turn<'_>) {
        self.members_left(id, |of, _| of == user, cx);
    }

    /// Those whom this means are not connected any more.
    pub(super) fn members_left(
        &mut self,
        id: GroupId,
        has_left: impl Fn(UserId, CoreAddress) -> bool,
        cx: &mut Turn<'_>,
    ) {
        if let Some(group) = self.groups.resident(id)
            && group.telling.leave(has_left)
        {
            self.wake_telling(id, cx.now.monotonic_ms);
        }
    }
}

#[cfg(test)]
mod tests;
