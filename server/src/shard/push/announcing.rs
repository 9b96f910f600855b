//! Announcing: from the message that comes to the moment at which a notice of it is wanted.

use std::mem;

use proto_spec::{
    ConversationId, Direction, Event, Seq, Settings, UserId,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use storage::{Entries, Query, Record, Span, Wants};

use super::{
    dues::{Due, Dues, Said},
    notices::Told,
    why::PushVerdict,
};
use crate::{
    limits::ASK_AGAIN_MS,
    shard::{Admission, Shard, Turn, loading::ConversationWaiting, question::Question, user::User},
};

impl User {
    /// Whether a device wants notifications.
    pub(in crate::shard) fn is_subscribed(&self) -> bool {
        self.devices.iter().any(|device| device.subscription.is_some() && !device.is_leaving)
    }

    /// Whether a device wants to show what was written.
    pub(super) fn shows_text(&self) -> bool {
        let show = |device: &crate::shard::user::Device| device.subscription.as_ref().map(|of| of.show);
        self.devices.iter().any(|device| show(device) == Some(proto_spec::Show::Text))
    }
}

/// Of which messages of a group that is kept so its member is notified (SPEC 5.15).
pub(in crate::shard) const fn wanted(settings: Settings) -> Wants {
    match () {
        () if settings.has(Settings::MENTIONS_ONLY) => Wants::Named,
        () if settings.has(Settings::MUTED) => Wants::Nothing,
        () => Wants::All,
    }
}

/// Why nobody is notified of a conversation that is kept so.
fn unwanted(conversation: ConversationId, settings: Settings) -> Option<PushVerdict> {
    match conversation {
        ConversationId::Group(_) => (wanted(settings) == Wants::Nothing).then_some(PushVerdict::Muted),
        ConversationId::Person(_) if settings.has(Settings::MUTED) => Some(PushVerdict::Muted),
        ConversationId::Person(_) => settings.has(Settings::BLOCKED).then_some(PushVerdict::Blocked),
    }
}

impl Shard {
    /// An entry of this user has been appended that came from somebody: it may be due. In the step that appends it, so that the record which
    /// has a restart look at the user is of the same batch.
    pub(in crate::shard) fn has_come(&mut self, user_id: UserId, seq: Seq, cx: &mut Turn<'_>) {
        let Some(push) = self.settings.push else { return };
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id).filter(|user| user.dues.is_some()) else { return };
        let (is_connected, with_text) = (user.is_connected(), user.shows_text());
        let Some(tail) = user.tail.get(seq) else { return };
        let (said, time) = (Said::by(&tail.entry, with_text), tail.entry.time);
        let Some(dues) = &mut user.dues else { return };
        match said {
            Said::Come { conversation, last, text } => {
                let known = self.conversations.resident((user_id, conversation));
                let settings = known.map(|known| known.numbered.settings.settings);
                if settings.is_some_and(|settings| unwanted(conversation, settings) == Some(PushVerdict::Muted)) {
                    return;
                }
                let now_ms = cx.now.monotonic_ms;
                let due_ms = if is_connected { now_ms + push.delay_ms } else { now_ms };
                dues.add(conversation, (last, seq, time), text, (due_ms, push.delay_ms));
            }
            Said::Changed { from, place, text } => dues.change(from, place, seq, text),
            Said::Nothing => {}
        }
        if dues.is_open() && !mem::replace(&mut user.unfinished, true) {
            cx.effects.filling[at].batch.push(&Record::Due { user: user_id });
        }
    }

    /// An entry of this user is released: what is due by it may leave from now on, what it says was read is taken off screens, and what it
    /// says is not wanted any more is taken back.
    pub(in crate::shard) fn due_released(&mut self, user_id: UserId, seq: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(dues) = &mut user.dues else { return };
        let Some(tail) = user.tail.get(seq) else { return };
        match tail.entry.event {
            Event::Read { conversation, up_to, .. } => {
                dues.read(conversation, up_to);
                self.mark_dirty(user_id, cx.now.monotonic_ms);
            }
            Event::Settings { conversation, settings } if unwanted(conversation, settings).is_some() => {
                if dues.told_now().contains(&conversation) {
                    dues.drop_due(conversation);
                    self.mark_dirty(user_id, cx.now.monotonic_ms);
                }
            }
            Event::Received { .. } | Event::Group { .. } => {}
            _ => return,
        }
        self.look_at_dues(user_id, cx);
    }

    /// The last connection of this user has gone.
    pub(in crate::shard) fn gone_away(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        if let Some(dues) = self.dues(user_id) {
            dues.all_now(cx.now.monotonic_ms);
            self.look_at_dues(user_id, cx);
        }
    }

    /// Offers notices of what is ready, and sets when to look again.
    pub(super) fn look_at_dues(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        if self.draining || self.settings.push.is_none() {
            return;
        }
        let now_ms = cx.now.monotonic_ms;
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(dues) = &mut user.dues else { return };
        let (clears, ready) = (dues.take_clears(now_ms), dues.ready(now_ms, user.released));
        for conversation in clears {
            self.offer_clear(user_id, conversation, cx);
        }
        for conversation in ready {
            self.decide(user_id, conversation, cx);
        }
        self.set_wake(user_id, cx);
    }

    /// The time of a conversation has come: whether the user is notified, as it stands now.
    pub(in crate::shard) fn decide(&mut self, user_id: UserId, conversation: ConversationId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let (delivered, released, is_subscribed) = (user.delivered(), user.released, user.is_subscribed());
        let Some(due) = user.dues.as_mut().and_then(|dues| dues.get(conversation)) else { return };
        if !due.may_be_offered() {
            return;
        }
        let Some(known) = self.conversations.resident((user_id, conversation)) else {
            if !mem::replace(&mut due.is_loading, true) {
                self.wait_for_conversation(user_id, conversation, ConversationWaiting::Notify, cx);
            }
            return;
        };
        due.is_loading = false;
        if due.by > released {
            // More has come meanwhile: once that is released.
            return;
        }
        let (last, own, read, settings) =
            (due.last, due.own, known.released.read_up_to, known.numbered.settings.settings);
        let unread = known.numbered.received.count.saturating_sub(known.numbered.read.count);
        let unwanted = unwanted(conversation, settings);
        let verdict = match conversation {
            _ if !is_subscribed => PushVerdict::NotSubscribed,
            _ if own <= delivered => PushVerdict::Acknowledged,
            _ if let Some(unwanted) = unwanted => unwanted,
            _ if last <= read => PushVerdict::Read,
            ConversationId::Person(_) if unread == 0 => PushVerdict::Read,
            ConversationId::Person(from) => {
                return self.offer_message(user_id, conversation, Told { from, count: unread, up_to: last, last }, cx);
            }
            ConversationId::Group(group) => {
                return self.ask_what_is_new(user_id, group, (read, wanted(settings)), cx);
            }
        };
        if let (PushVerdict::Muted, ConversationId::Group(group)) = (&verdict, conversation) {
            self.say_wants(user_id, group, Some(Wants::Nothing), cx);
        }
        self.not_notified(user_id, conversation, last, verdict, cx);
    }

    /// It was decided that the user is not notified.
    pub(super) fn not_notified(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        last: Seq,
        verdict: PushVerdict,
        cx: &mut Turn<'_>,
    ) {
        self.counters.push_void += 1;
        self.decided(user_id, conversation, last, verdict, cx);
        if let Some(dues) = self.dues(user_id) {
            dues.drop_due(conversation);
        }
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// What is known of a conversation could not be read: it is tried again.
    pub(in crate::shard) fn notify_unreadable(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        cx: &mut Turn<'_>,
    ) {
        if let Some(Due { is_loading, due_ms, .. }) = self.dues(user_id).and_then(|dues| dues.get(conversation)) {
            (*is_loading, *due_ms) = (false, cx.now.monotonic_ms + ASK_AGAIN_MS);
        }
        self.set_wake(user_id, cx);
    }

    /// Notes when this user is to be looked at next: one moment, the earliest.
    pub(super) fn set_wake(&mut self, user_id: UserId, cx: &Turn<'_>) {
        let Some(dues) = self.users.resident(user_id).and_then(|user| user.dues.as_deref_mut()) else { return };
        let next_ms = dues.next_ms(cx.now.monotonic_ms);
        let wakes = &mut self.notifying.wakes;
        if dues.wakes_ms != next_ms {
            dues.wakes_ms.map(|at_ms| wakes.remove(&(at_ms, user_id)));
            next_ms.map(|at_ms| wakes.insert((at_ms, user_id)));
            dues.wakes_ms = next_ms;
        }
    }

    /// Part of the flush of a user: what was acknowledged is not due any more, what waits in the log is looked at, and the row is written
    /// when nothing is due.
    pub(in crate::shard) fn flush_dues(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let (delivered, head) = (user.delivered(), user.head);
        let Some(dues) = &mut user.dues else { return };
        dues.acknowledged(delivered);
        self.look_through_log(user_id, cx);
        self.look_at_dues(user_id, cx);
        let is_last = self.draining;
        let Some(user) = self.users.resident(user_id) else { return };
        let take_row = if is_last { Dues::take_last_row } else { Dues::take_row };
        if let Some(notified) = user.dues.as_mut().and_then(|dues| take_row(dues, head)) {
            cx.effects.filling[at].batch.push(&Record::Notified { user: user_id, notified });
            self.lanes[at].change_user(user_id, &mut user.changed_in);
        }
    }

    /// Looks at what waits in the log: after a restart, or since more was due than there was room for.
    fn look_through_log(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let (head, stored, with_text) = (user.head, user.stored, user.shows_text());
        let Some(dues) = user.dues.as_mut().filter(|_| !self.draining && self.admission == Admission::Open) else {
            return;
        };
        let Some(first) = dues.next_look(head) else { return };
        if first <= stored {
            dues.set_reading(true);
            let (direction, entries_max) = (Direction::Forwards, PAGE_ENTRIES_MAX as usize);
            let span = Span { first, last: stored, direction, entries_max, bytes_max: PAGE_BYTES_MAX };
            user.loading += 1;
            return self.ask(Query::Log { user: user_id, span }, Question::Dues { user: user_id, last: stored }, cx);
        }
        let newer = user.tail.range(first, head).map(|tail| &tail.entry);
        dues.look(newer, head, with_text, cx.now.monotonic_ms);
        // Whether that was all.
        dues.next_look(head);
    }

    /// A part of the log has been read for that.
    pub(in crate::shard) fn dues_read(&mut self, user_id: UserId, last: Seq, read: Option<Entries>, cx: &mut Turn<'_>) {
        // If the store could not be read: again at the next flush.
        self.mark_dirty(user_id, cx.now.monotonic_ms);
        if let Some(user) = self.users.resident(user_id) {
            let with_text = user.shows_text();
            let mut read = read;
            read.iter_mut().for_each(|read| user.drop_superseded(&mut read.entries));
            if let Some(dues) = &mut user.dues {
                dues.set_reading(false);
                if let Some(Entries { entries, complete }) = read {
                    let covered = entries.last().filter(|_| !complete).map_or(last, |entry| entry.seq);
                    dues.look(entries.iter(), covered, with_text, cx.now.monotonic_ms);
                }
            }
        }
        self.loading_ended(user_id);
    }
}
