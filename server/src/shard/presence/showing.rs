//! Showing: what happens to users of this core that others may see.

use proto_spec::{
    ClientKind, ConversationId, ErrorCode, Event, Presence, RequestId, Seq, Settings, Status, TimestampMs, UserId,
    Visibility,
};
use storage::{ConversationSnapshot, Record, VisibilityRow};

use super::{
    PresenceSettings, Shown, ShownTo, Version,
    rule::{self, Relation},
};
use crate::shard::{
    ConnId, Promise, Registration, Shard, Turn,
    ledger::{OnceStored, Parked},
    sequencer::some,
    sessions::Sessions,
    user::{Device, User},
};

impl User {
    /// What this user lets be seen.
    pub(in crate::shard) const fn shown(&self) -> Shown {
        Shown { visibility: self.visibility.visibility, last_seen: self.last_seen }
    }

    /// What the connections say, together.
    fn presence(&self, sessions: &mut Sessions) -> Presence {
        let of_device = |device: &Device| {
            let session = sessions.get_mut(device.session?)?;
            Some(if session.is_away { Presence::Away } else { Presence::Online })
        };
        self.devices.iter().filter_map(of_device).max().unwrap_or(Presence::Offline)
    }
}

impl PresenceSettings {
    /// Whether `user` shows to `looks` by a receipt that a device is there. Where nobody is shown, receipts go to all who are not hidden from.
    pub(in crate::shard) fn shows(&self, user: &User, looks: UserId, conversation: &ConversationSnapshot) -> bool {
        let relation = Relation {
            // Their conversation has begun with a message of who looks, or of the user: which it was matters to this rule alone.
            has_written: conversation.sent > Seq::ZERO
                || (self.shown_to == ShownTo::Written && user.has_lately_written(looks)),
            has_received: conversation.received.up_to > Seq::ZERO,
            is_blocked: conversation.settings.settings.has(Settings::BLOCKED),
        };
        let may = self.shown_to == ShownTo::Nobody || rule::may_see(self.shown_to, relation);
        !user.shown().is_hidden() && may
    }
}

impl Shard {
    /// A connection of a user has come, has gone, or says something else. `is_clean`: it went with a goodbye.
    pub(in crate::shard) fn presence_moved(&mut self, user_id: UserId, is_clean: bool, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let Some(user) = self.users.resident(user_id) else { return };
        let actual = user.presence(&mut self.sessions);
        let is_gone = actual == Presence::Offline;
        if is_gone {
            let granularity_ms = self.settings.presence.last_seen_ms;
            let seen = TimestampMs(cx.now.wall.0 / granularity_ms * granularity_ms);
            user.seen_dirty |= seen != user.last_seen;
            user.last_seen = seen;
        }
        let (shown, is_dirty) = (user.shown(), user.seen_dirty);
        let clocks = (now_ms, cx.now.wall);
        let version = self.sights.people.moved(user_id, actual, (is_clean, shown), clocks);
        let registration = if is_gone { Registration::Gone } else { here(version, shown.visibility) };
        cx.effects.directory.push((user_id, registration));
        if is_gone && is_dirty {
            self.mark_dirty(user_id, now_ms);
        }
    }

    /// Writes when a user was last seen, if they are still gone.
    pub(in crate::shard) fn write_last_seen(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        if user.seen_dirty && !user.is_connected() {
            user.seen_dirty = false;
            cx.effects.filling[at].batch.push(&Record::LastSeen { user: user_id, at: user.last_seen });
            self.lanes[at].change_user(user_id, &mut user.changed_in);
        }
    }

    /// What a connection says of its person.
    pub(in crate::shard) fn set_status(&mut self, conn: ConnId, status: Status, cx: &mut Turn<'_>) {
        let is_away = status == Status::Away;
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        if std::mem::replace(&mut session.is_away, is_away) != is_away {
            let user = session.user;
            self.presence_moved(user, false, cx);
        }
    }

    /// What a user wants to be seen of themselves. An entry of their log, as a mark is.
    pub(in crate::shard) fn set_visibility(
        &mut self,
        (conn, request): (ConnId, RequestId),
        (set, cleared): (Visibility, Visibility),
        cx: &mut Turn<'_>,
    ) {
        let kind = ClientKind::SetVisibility;
        let refusal = self.refuse_admission();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let Some(user) = self.users.resident(user_id) else { return };
        let rate = self.settings.limits.device_sends;
        let refused = match refusal {
            Some(refusal) => Some((refusal.code, refusal.retry_after_ms)),
            None => user
                .device(device_id)
                .and_then(|device| rate.take(&mut device.sends, cx.now.monotonic_ms).err())
                .map(|wait_ms| (ErrorCode::RateLimited, wait_ms)),
        };
        if let Some((code, wait_ms)) = refused {
            let detail = "what is seen of the user can not be set now";
            return self.send_error(conn, code, kind.byte(), request, wait_ms, detail, cx);
        }
        let before = user.visibility;
        let visibility = before.visibility.changed(set, cleared);
        let changed_in = user.changed_in;
        if visibility == before.visibility {
            return self.answer_marked(user_id, (conn, request), changed_in, cx);
        }
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        let event = Event::Visibility { visibility };
        let seq = Self::append(user_id, user, event, some(before.at), 0, (at, &mut self.lanes[at]), cx);
        user.visibility = VisibilityRow { visibility, at: seq };
        let is_connected = user.is_connected();
        self.counters.entries += 1;
        self.lanes[at].park(Parked::Entry { user: user_id, seq, answer: None });
        self.lanes[at].park(Parked::Marked((conn, request)));
        if self.settings.promise == Promise::Store {
            self.lanes[at].park_until_stored(OnceStored::Entry { user: user_id, seq, answer: None });
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
        let (outgoing, homes) = (&mut self.sights.outgoing, &self.homes);
        let tell = |viewer, change| outgoing.change(homes, viewer, change);
        if let Some(version) = self.sights.people.shows(user_id, visibility, tell)
            && is_connected
        {
            cx.effects.directory.push((user_id, here(version, visibility)));
        }
    }

    /// A user has blocked somebody, or does not block them any more: what those may see of the user, and the user of them, is to be asked
    /// again.
    pub(in crate::shard) fn blocks_or_not(&mut self, user_id: UserId, whom: ConversationId, cx: &mut Turn<'_>) {
        // Nobody is blocked in a group.
        let ConversationId::Person(whom) = whom else { return };
        self.related(user_id, whom, cx);
        self.hope(user_id, whom, true);
    }

    /// The devices of a user ask again what the user may see of another one; only if that was nothing, unless it may be so no more.
    fn hope(&mut self, user_id: UserId, of: UserId, is_other: bool) {
        if self.sights.viewer.len() == 0 {
            return;
        }
        let Some(user) = self.users.resident(user_id) else { return };
        for conn in user.devices.iter().filter_map(|device| device.session) {
            if let Some(watch) = self.sessions.get_mut(conn).and_then(|session| session.watch) {
                self.sights.viewer.hope(watch, of, is_other);
            }
        }
    }

    /// The verdict on what somebody may see of a user may be another from now on.
    fn related(&mut self, user_id: UserId, with: UserId, cx: &mut Turn<'_>) {
        let (outgoing, homes) = (&mut self.sights.outgoing, &self.homes);
        let tell = |viewer, change| outgoing.change(homes, viewer, change);
        let version = self.sights.people.related(user_id, with, cx.now.wall, tell);
        if let (Some(version), Some(user)) = (version, self.users.resident(user_id))
            && user.is_connected()
        {
            cx.effects.directory.push((user_id, here(version, user.visibility.visibility)));
        }
    }

    /// A user has a message of somebody, with whom they had a conversation or not: each may see the other now who might not before.
    pub(in crate::shard) fn heard_of(&mut self, user_id: UserId, of: UserId, was_known: bool, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let by_that = self.settings.presence.shown_to == ShownTo::Conversation;
        if by_that && !was_known && !user.has_lately_written(of) {
            self.related(user_id, of, cx);
        }
        self.hope(user_id, of, false);
    }

    /// Somebody has written to a user who may not be there: the author may have been told so.
    pub(in crate::shard) fn written_to(&mut self, user: UserId, cx: &Turn<'_>) {
        self.sights.people.doubt(user, cx.now.monotonic_ms);
    }
}

const fn here(version: Version, visibility: Visibility) -> Registration {
    Registration::Here { version, is_hidden: visibility.has(Visibility::INVISIBLE) }
}
