//! Own: what the log of a user says of groups: what was sent there until the group has it, and of each group one pointer, which says how
//! the user stands to it and how far it has come.

use proto_spec::{
    Act, Body, ClientKind, Content, ConversationId, Direction, Entry, ErrorCode, Event, GroupId, MessageName,
    RequestId, Seq, Standing, UserId,
};
use storage::{Entries, Message, Query, Replaced, Rewrite, Shown, Span, StandingRow, group::beside};

use crate::{
    limits::{OWN_ROWS_TIMES_GROUPS, RETRY_BUSY_MS, RETRY_STORAGE_MS, ROWS_TIMES_GROUPS},
    shard::{
        ConnId, Shard, Turn, changes,
        input::{Envelope, EnvelopeBody, GroupStanding},
        loading::ConversationWaiting,
        question::Question,
        user::User,
    },
};

/// What has become of something that was sent to a group.
pub(in crate::shard) type Outcome = Result<GroupStanding, ErrorCode>;

/// Whether what somebody sent makes them a member.
fn comes(sent: &Entry) -> bool {
    let Event::Sent { content, .. } = &sent.event else { return false };
    matches!(content, Content::Act(_)) && matches!(content.body(), Ok(Body::Act(Act::Create { .. } | Act::Join { .. })))
}

impl User {
    /// How the user stands to a group, as the last entry says that is numbered.
    pub(in crate::shard) fn group(&self, group: GroupId) -> Option<&StandingRow> {
        let at = self.groups.binary_search_by_key(&group, |(id, _)| *id).ok()?;
        Some(&self.groups[at].1)
    }

    /// Whether the user may come into this group as well, where one may be in so many: by themselves, or because others want it. Their log
    /// would know of it from then on.
    pub(in crate::shard) fn has_room_for_group(&self, group: GroupId, groups_max: usize, by_themselves: bool) -> bool {
        let members = self.groups.iter().filter(|(_, row)| row.standing.is_member()).count();
        let times = if by_themselves { OWN_ROWS_TIMES_GROUPS } else { ROWS_TIMES_GROUPS };
        members < groups_max && (self.group(group).is_some() || self.groups.len() < groups_max * times)
    }

    pub(super) fn set_group(&mut self, group: GroupId, row: StandingRow) {
        match self.groups.binary_search_by_key(&group, |(id, _)| *id) {
            Ok(at) => self.groups[at].1 = row,
            Err(at) => self.groups.insert(at, (group, row)),
        }
    }
}

impl Shard {
    /// A group's home has numbered what this user sent, or refuses it.
    pub(in crate::shard) fn placed(
        &mut self,
        user_id: UserId,
        group: GroupId,
        origin: Seq,
        outcome: Outcome,
        cx: &mut Turn<'_>,
    ) {
        let Some(user) = self.users.resident(user_id).filter(|user| user.outgoing.is_on_the_way(origin)) else {
            // It has been said before.
            return;
        };
        if user.outgoing.before(origin, group.into()) > Seq::ZERO {
            // What is said of all that was sent up to there is said once it holds.
            self.unsettled.insert((user_id, group, origin), outcome);
            return;
        }
        if let Some(tail) = user.tail.get(origin) {
            let entry = tail.entry.clone();
            return self.settle(user_id, group, &entry, outcome, cx);
        }
        // It is in the store since, and something of it is kept for who sends it again.
        user.loading += 1;
        let span =
            Span { first: origin, last: origin, direction: Direction::Forwards, entries_max: 1, bytes_max: usize::MAX };
        let question = Question::Placed { user: user_id, group, origin, outcome };
        self.ask(Query::Log { user: user_id, span }, question, cx);
    }

    /// The entry of what was sent has been read.
    pub(in crate::shard) fn placed_read(
        &mut self,
        (user_id, group, origin): (UserId, GroupId, Seq),
        outcome: Outcome,
        read: Option<Entries>,
        cx: &mut Turn<'_>,
    ) {
        match read {
            Some(read) => {
                if let Some(entry) = read.entries.first() {
                    self.settle(user_id, group, entry, outcome, cx);
                }
            }
            // The group's home is asked again, and says the same.
            None => self.forward_put_off(user_id, group.into(), origin, cx),
        }
        self.loading_ended(user_id);
    }

    /// The log says what has become of it, in place of what was sent.
    fn settle(&mut self, user_id: UserId, group: GroupId, sent: &Entry, outcome: Outcome, cx: &mut Turn<'_>) {
        let origin = sent.seq;
        let Some(user) = self.users.resident(user_id).filter(|user| user.outgoing.is_on_the_way(origin)) else {
            return;
        };
        user.outgoing.confirm(origin, group.into());
        let replaces = vec![changes::replaced(sent)];
        match outcome {
            Ok(standing) => {
                // How they stand may have changed while this waited, and they were told that by itself.
                let is_newer = user.group(group).is_none_or(|row| {
                    standing.up_to > row.up_to || (standing.up_to == row.up_to && row.standing.is_member())
                });
                // That others have made them a member is told by itself, and may be declined.
                let was_member = user.group(group).is_some_and(|row| row.standing.is_member());
                let is_theirs = was_member || !standing.standing.is_member() || comes(sent);
                self.point(user_id, group, (is_newer && is_theirs).then_some(standing), (origin, replaces), cx);
            }
            Err(code) => {
                let event = Event::GroupRefused { group, origin, code };
                self.append_superseding(user_id, event, replaces, cx);
            }
        }
        self.confirmed(user_id, cx);
        let of_group = (user_id, group, origin)..=(user_id, group, Seq(u64::MAX));
        let next = self.unsettled.range(of_group).next().map(|(key, _)| *key);
        if let Some(key) = next
            && let Some(outcome) = self.unsettled.remove(&key)
        {
            self.placed(user_id, group, key.2, outcome, cx);
        }
    }

    /// A group's home tells how this user stands to it, on account of the entry `at` of somebody.
    pub(in crate::shard) fn stand(
        &mut self,
        (user_id, group): (UserId, GroupId),
        at: Seq,
        by: UserId,
        standing: GroupStanding,
        cx: &mut Turn<'_>,
    ) {
        let groups_max = self.settings.limits.user_groups;
        let Some(user) = self.users.resident(user_id) else { return };
        let known = user.group(group).copied().filter(|row| row.standing != Standing::Unknown);
        let was_member = known.is_some_and(|row| row.standing.is_member());
        let mut answer = EnvelopeBody::Stood { at };
        // Of what was never theirs to read nobody hears.
        let is_nothing = !standing.standing.is_member() && standing.first == Seq::ZERO;
        let mut is_told = known.map_or(is_nothing, |row| {
            // Who has declined has gone as they had before.
            let has_gone = by == user_id && !was_member && !standing.standing.is_member();
            let is_same = (row.standing == standing.standing || has_gone) && row.first == standing.first;
            // What the group's home has answered to this user meanwhile may say what came after.
            row.up_to > standing.up_to.max(at) || (row.up_to >= standing.up_to && is_same)
        });
        let asks = known.is_none() || (standing.standing.is_member() && !was_member);
        if by != user_id && asks && !is_told {
            let has_room = user.has_room_for_group(group, groups_max, false);
            let Some(conversation) = self.conversations.resident((user_id, by.into())) else {
                let body = EnvelopeBody::Stand { at, by, standing };
                return self.wait_for_who_adds(Envelope { to: user_id, from: beside(group), body }, by, cx);
            };
            if standing.standing.is_member() && (conversation.is_blocked() || !has_room) {
                let reads = known.map(|row| (row.first, row.up_to)).unwrap_or_default();
                answer = EnvelopeBody::Declined { at, reads };
                is_told = true;
            } else if known.is_none() && (conversation.is_blocked() || !has_room) {
                // They have come and gone by now.
                is_told = true;
            }
        }
        if !is_told {
            self.point(user_id, group, Some(standing), (Seq::ZERO, Vec::new()), cx);
        }
        let lane = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let changed_in = user.changed_in;
        self.answer_once_durable(lane, changed_in, Envelope { to: beside(group), from: user_id, body: answer }, cx);
    }

    /// Lets it wait until it is known whether the user has blocked who adds them.
    fn wait_for_who_adds(&mut self, envelope: Envelope, by: UserId, cx: &mut Turn<'_>) {
        let user = envelope.to;
        if self.may_wait(self.conversations.waiting((user, by.into()))) {
            self.wait_for_conversation(user, by.into(), ConversationWaiting::Envelope(envelope), cx);
        } else {
            self.put_off(&envelope, cx);
        }
    }

    /// Appends the pointer of a group: how the user stands to it, if that is told anew, and how far it has come. It takes the place of the
    /// one before, and of what was sent up to `sent_up_to`.
    pub(super) fn point(
        &mut self,
        user_id: UserId,
        group: GroupId,
        standing: Option<GroupStanding>,
        (sent_up_to, mut replaces): (Seq, Vec<Replaced>),
        cx: &mut Turn<'_>,
    ) {
        let Some(user) = self.users.resident(user_id) else { return };
        let before = user.group(group).copied().unwrap_or_default();
        let told =
            standing.unwrap_or(GroupStanding { standing: before.standing, first: before.first, up_to: before.up_to });
        let row = StandingRow {
            standing: told.standing,
            first: told.first,
            // Whoever is none any more has come to the end.
            up_to: if told.standing.is_member() { told.up_to.max(before.up_to) } else { told.up_to },
            sent_up_to: sent_up_to.max(before.sent_up_to),
            at: user.head.next(),
        };
        if before.at > Seq::ZERO {
            replaces.push(Replaced { seq: before.at, first: None });
        }
        let StandingRow { standing, first, up_to, sent_up_to, .. } = row;
        user.set_group(group, row);
        let event = Event::Group { group, standing, first, up_to, sent_up_to };
        self.append_superseding(user_id, event, replaces, cx);
        if standing.is_member() && up_to > before.up_to {
            self.has_come(user_id, row.at, cx);
        }
        match (before.standing.is_member(), standing.is_member()) {
            // Who was sent away and came back at once may be told both as one.
            (_, true) if self.following.reached(group, user_id).is_none() => {
                self.follow(user_id, group, cx);
                let is_away = self.users.resident(user_id).is_some_and(|user| !user.is_connected());
                if is_away && !before.standing.is_member() {
                    self.say_wants(user_id, group, None, cx);
                }
            }
            (true, false) => self.unfollow(user_id, group, cx),
            _ => {}
        }
    }

    /// A group's home tells that there are messages of which this user is to be notified.
    pub(super) fn group_reached_to(&mut self, user_id: UserId, group: GroupId, up_to: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let is_subscribed = user.is_subscribed();
        if is_subscribed && user.group(group).is_some_and(|row| row.standing.is_member()) {
            self.point_up_to(user_id, group, up_to, cx);
        }
        let lane = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let (changed_in, body) = (user.changed_in, EnvelopeBody::ReachedTaken { up_to, is_subscribed });
        self.answer_once_durable(lane, changed_in, Envelope { to: beside(group), from: user_id, body }, cx);
        self.forget_if_unused(user_id);
    }

    /// Appends an entry that takes the place of others.
    fn append_superseding(&mut self, user_id: UserId, event: Event, replaces: Vec<Replaced>, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let of = Rewrite { place: Seq::ZERO, now: Shown::default(), replaces, received: None, last: None };
        let seq = Self::append_change(user_id, user, event, of, 0, (at, &mut self.lanes[at]), cx);
        self.counters.entries += 1;
        self.park_entry(at, user_id, seq, None);
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// What of a group up to this seq this user can have been told. None: that is not known until the group's home has answered a core that
    /// follows it, and what was asked is to be asked again.
    pub(in crate::shard) fn group_reached(&mut self, user_id: UserId, group: GroupId, seq: Seq) -> Option<Seq> {
        let row = self.users.resident(user_id).and_then(|user| user.group(group).copied()).unwrap_or_default();
        match self.following.reached(group, user_id) {
            Some(reached) => Some(seq.min(reached.max(row.up_to))),
            None if row.standing.is_member() && seq > row.up_to => None,
            None => Some(seq.min(row.up_to)),
        }
    }

    /// A user deletes a message of a group for themselves: their devices leave it out from now on, and nobody else hears of it.
    pub(in crate::shard) fn delete_in_group(
        &mut self,
        user_id: UserId,
        by: (ConnId, RequestId),
        group: GroupId,
        place: Seq,
        cx: &mut Turn<'_>,
    ) {
        let conversation = group.into();
        let Some(reached) = self.group_reached(user_id, group, place) else {
            return self.mark_failed(by, ClientKind::DeleteMessage, ErrorCode::Overloaded, RETRY_BUSY_MS, cx);
        };
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        if place == Seq::ZERO || place > reached {
            let changed_in = known.changed_in;
            return self.answer_marked(user_id, by, changed_in, cx);
        }
        // Held meanwhile: what is known of them must not be read anew.
        user.loading += 1;
        known.held += 1;
        let query = Query::Origin { user: user_id, conversation, origin: place };
        self.ask(query, Question::GroupDelete { user: user_id, group, by, place }, cx);
    }

    /// The store has said whether it was deleted before.
    pub(in crate::shard) fn group_deletion_read(
        &mut self,
        (user_id, group, place): (UserId, GroupId, Seq),
        by: (ConnId, RequestId),
        read: Option<Option<Message>>,
        cx: &mut Turn<'_>,
    ) {
        let conversation = group.into();
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(known) = self.conversations.resident((user_id, conversation)) else { return };
        known.held -= 1;
        let changed_in = known.changed_in;
        let is_it = |event: &Event| matches!(event, Event::Deleted { conversation: of, place: at, .. } if *of == conversation && *at == place);
        let was_deleted = user.tail.range(user.stored.next(), user.head).any(|tail| is_it(&tail.entry.event));
        match (read, self.refuse_admission()) {
            _ if was_deleted => self.answer_marked(user_id, by, changed_in, cx),
            (Some(Some(_)), _) => self.answer_marked(user_id, by, changed_in, cx),
            (_, Some(refusal)) => {
                self.mark_failed(by, ClientKind::DeleteMessage, refusal.code, refusal.retry_after_ms, cx);
            }
            (None, None) => {
                self.mark_failed(by, ClientKind::DeleteMessage, ErrorCode::StorageFailed, RETRY_STORAGE_MS, cx);
            }
            (Some(None), None) => {
                let of = MessageName { author: UserId(0), seq: place };
                let event = Event::Deleted { conversation, of, place, unread: 0 };
                self.append_mark((user_id, by), conversation, event, (Seq::ZERO, 0), cx);
            }
        }
        self.forget_conversation_if_unused(user_id, conversation);
        self.loading_ended(user_id);
    }

    /// The pointer of a group that has come so far.
    pub(super) fn point_up_to(&mut self, user_id: UserId, group: GroupId, reached: Seq, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(row) = self.users.resident(user_id).and_then(|user| user.group(group)) else { return };
        if reached > row.up_to {
            let standing = GroupStanding { standing: row.standing, first: row.first, up_to: reached };
            self.point(user_id, group, Some(standing), (Seq::ZERO, Vec::new()), cx);
        }
    }
}

/// The group that something was sent to.
pub(in crate::shard) const fn group_of(to: ConversationId) -> Option<GroupId> {
    match to {
        ConversationId::Group(group) => Some(group),
        ConversationId::Person(_) => None,
    }
}
