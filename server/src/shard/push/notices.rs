//! Notices: what is offered to the service, one for each conversation and device, and what follows from how it ended.

use std::time::Duration;

use proto_spec::{ConversationId, DeviceId, Seq, Subscription, TimestampMs, UserId};
use push::{Kind, Notice, Outcome, Refusal, Urgency};

use super::{subscribing, why::PushVerdict};
use crate::{
    limits::{ASK_AGAIN_MS, NOTICE_TTL_S, NOTICES_UNDER_WAY_MAX, USER_NOTICES_MAX},
    shard::{Shard, Turn},
};

/// What a user is told of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Who wrote the last message.
    pub(super) from: UserId,
    /// How many are unread.
    pub(super) count: u64,
    /// Up to where all is told with that: see [`Due::last`](super::dues::Due).
    pub(super) up_to: Seq,
    /// Where the last message stands.
    pub(super) last: Seq,
}

impl Shard {
    /// Notifies a user of a conversation on each of their devices that want it, if there is room.
    pub(super) fn offer_message(
        &mut self,
        user_id: UserId,
        conversation: ConversationId,
        told: Told,
        cx: &mut Turn<'_>,
    ) {
        let mut devices = self.subscriptions(user_id);
        let Some(dues) = self.dues(user_id) else { return };
        if dues.under_way() + devices.len() > USER_NOTICES_MAX {
            // Once another one has ended.
            return;
        }
        let Some(due) = dues.get(conversation) else { return };
        if due.last == due.offered && !due.put_off.is_empty() {
            devices.retain(|(device, _)| due.put_off.contains(device));
        }
        if !self.has_room_for(devices.len(), cx) {
            return self.wait_for_room(user_id);
        }
        let tickets: Vec<u64> = devices.iter().map(|_| self.notifying.next_ticket()).collect();
        let times = (cx.now.monotonic_ms, self.settings.push.map_or(0, |push| push.delay_ms));
        let Some(dues) = self.dues(user_id) else { return };
        dues.offers(conversation, (told.up_to, told.last), tickets.clone(), times);
        if devices.is_empty() {
            // Those that were left want nothing any more.
            dues.ended(conversation, times);
            return self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        let Some(due) = dues.get(conversation) else { return };
        let at = due.at;
        let text = due.text.as_deref().map(str::to_owned);
        for ((device, subscription), ticket) in devices.into_iter().zip(tickets) {
            let kind = Kind::Message { from: told.from, text: text.clone(), count: told.count };
            self.offer((user_id, device), ticket, subscription, (conversation, at), kind, cx);
        }
        self.counters.push_offered += 1;
        self.decided(user_id, conversation, told.last, PushVerdict::Offered, cx);
    }

    /// Takes a conversation off the screens of a user's devices.
    pub(super) fn offer_clear(&mut self, user_id: UserId, conversation: ConversationId, cx: &mut Turn<'_>) {
        let devices = self.subscriptions(user_id);
        if !self.has_room_for(devices.len(), cx) {
            if let Some(dues) = self.dues(user_id) {
                dues.put_back_clear(conversation, 0);
            }
            return self.wait_for_room(user_id);
        }
        for (device, subscription) in devices {
            self.offer_clear_to((user_id, device), subscription, conversation, cx);
        }
        self.counters.push_cleared += 1;
    }

    fn offer_clear_to(
        &mut self,
        device: (UserId, DeviceId),
        subscription: push::Subscription,
        conversation: ConversationId,
        cx: &mut Turn<'_>,
    ) {
        let ticket = self.notifying.next_ticket();
        self.offer(device, ticket, subscription, (conversation, cx.now.wall), Kind::Clear, cx);
    }

    /// A device is to be told nothing any more: what is under way to it is taken back, as a clear that takes its place. There need be no
    /// room for that, since there was for what goes.
    pub(in crate::shard) fn take_back_from(&mut self, user_id: UserId, device_id: DeviceId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let conversations = user.dues.as_ref().map(|dues| dues.told_now()).unwrap_or_default();
        let Some(device) = user.devices.iter().find(|device| device.id == device_id) else { return };
        let Some(subscription) = device.subscription.as_deref().and_then(subscribing::as_sent) else { return };
        for conversation in conversations {
            self.offer_clear_to((user_id, device_id), subscription.clone(), conversation, cx);
        }
    }

    fn offer(
        &mut self,
        (user, device): (UserId, DeviceId),
        ticket: u64,
        subscription: push::Subscription,
        (conversation, at): (ConversationId, TimestampMs),
        kind: Kind,
        cx: &mut Turn<'_>,
    ) {
        let urgency = if kind == Kind::Clear { Urgency::Normal } else { Urgency::High };
        let ttl = Duration::from_secs(NOTICE_TTL_S);
        self.notifying.under_way += 1;
        cx.effects.notices.push(Box::new(Notice {
            ticket,
            user,
            device,
            subscription,
            conversation,
            kind,
            at,
            ttl,
            urgency,
        }));
    }

    /// The devices of a user that want notifications, and where these go.
    fn subscriptions(&mut self, user_id: UserId) -> Vec<(DeviceId, push::Subscription)> {
        let Some(user) = self.users.resident(user_id) else { return Vec::new() };
        let devices = user.devices.iter().filter(|device| !device.is_leaving);
        let subscribed = devices.filter_map(|device| {
            let subscription = device.subscription.as_deref().and_then(subscribing::as_sent)?;
            Some((device.id, subscription))
        });
        subscribed.collect()
    }

    fn has_room_for(&self, notices: usize, cx: &Turn<'_>) -> bool {
        cx.now.monotonic_ms >= self.notifying.room_from_ms
            && self.notifying.under_way + notices <= NOTICES_UNDER_WAY_MAX
    }

    fn wait_for_room(&mut self, user_id: UserId) {
        let Some(dues) = self.dues(user_id) else { return };
        if !std::mem::replace(&mut dues.waits_for_room, true) {
            self.notifying.for_room.push_back(user_id);
        }
    }

    /// The service has no room for a notice. Nothing is offered for a while: there is none for those of others either.
    pub(in crate::shard) fn not_taken(&mut self, notice: Box<Notice>, cx: &mut Turn<'_>) {
        self.notifying.room_from_ms = cx.now.monotonic_ms + ASK_AGAIN_MS;
        if notice.kind == Kind::Clear && !self.draining {
            // It may be of a device that nothing is known of any more.
            return self.notifying.not_taken.push_back(notice);
        }
        self.notified(&notice, &Outcome::Later(Duration::from_millis(ASK_AGAIN_MS)), cx);
    }

    /// A notice of this shard has ended.
    pub(in crate::shard) fn notified(&mut self, notice: &Notice, outcome: &Outcome, cx: &mut Turn<'_>) {
        self.notifying.under_way -= 1;
        if notice.kind != Kind::Clear {
            self.message_ended(notice, outcome, cx);
        } else if let Outcome::Later(wait) = outcome
            && self.is_subscribed_as((notice.user, notice.device), &notice.subscription)
            && let Some(dues) = self.dues(notice.user)
        {
            dues.put_back_clear(notice.conversation, cx.now.monotonic_ms + wait.as_millis() as u64);
            self.set_wake(notice.user, cx);
        }
        // Last: without a subscription nothing is due any more.
        self.learn(notice, outcome, cx);
    }

    /// One of the notices of a conversation that is due has ended: when all have, it is told, or due again.
    fn message_ended(&mut self, notice: &Notice, outcome: &Outcome, cx: &mut Turn<'_>) {
        let Notice { ticket, user: user_id, device, conversation, .. } = *notice;
        let delay_ms = self.settings.push.map_or(0, |push| push.delay_ms);
        let now_ms = cx.now.monotonic_ms;
        let Some(dues) = self.dues(user_id) else { return };
        let Some(due) = dues.get(conversation) else { return };
        let Some(at) = due.tickets.iter().position(|of| *of == ticket) else { return };
        due.tickets.swap_remove(at);
        due.is_told |= matches!(outcome, Outcome::Delivered | Outcome::Replaced(_));
        if let Outcome::Later(wait) = outcome {
            due.put_off.push(device);
            due.again_ms = now_ms + wait.as_millis() as u64;
        }
        let (last, is_last) = (due.tells, due.tickets.is_empty());
        if is_last {
            dues.ended(conversation, (now_ms, delay_ms));
        }
        if !matches!(outcome, Outcome::Later(_)) {
            self.decided(user_id, conversation, last, PushVerdict::Ended(device, outcome.clone()), cx);
        }
        if is_last {
            self.set_wake(user_id, cx);
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }

    /// Counts how a notice ended, and takes up what that says of its subscription.
    fn learn(&mut self, notice: &Notice, outcome: &Outcome, cx: &mut Turn<'_>) {
        let subscription = &notice.subscription;
        let counters = &mut self.counters;
        let (counter, new) = match outcome {
            Outcome::Delivered => (&mut counters.push_delivered, None),
            Outcome::Replaced(provider) => {
                let new = push::Subscription { provider: provider.clone(), show: subscription.show };
                (&mut counters.push_delivered, Some(subscribing::as_stored(&new)))
            }
            Outcome::Gone => (&mut counters.push_gone, Some(None)),
            Outcome::Refused(Refusal::Subscription(_)) => (&mut counters.push_refused, Some(None)),
            Outcome::Refused(_) => (&mut counters.push_refused, None),
            Outcome::Expired { .. } => (&mut counters.push_expired, None),
            Outcome::Superseded => (&mut counters.push_superseded, None),
            Outcome::Later(_) => (&mut counters.push_put_off, None),
        };
        *counter += 1;
        if let Some(new) = new {
            self.change_subscription((notice.user, notice.device), subscription, new, cx);
        }
    }

    /// The provider says that a device is known otherwise, or not any more: unless it has subscribed anew meanwhile, that is kept.
    fn change_subscription(
        &mut self,
        (user_id, device_id): (UserId, DeviceId),
        sent_to: &push::Subscription,
        new: Option<Subscription>,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        if self.refuse_admission().is_some() {
            // The provider says the same of the next notice.
            return;
        }
        if self.is_subscribed_as((user_id, device_id), sent_to) {
            self.set_subscription(user_id, device_id, new, cx);
        }
    }

    /// Whether this is how the device is subscribed now.
    fn is_subscribed_as(&mut self, (user_id, device_id): (UserId, DeviceId), sent_to: &push::Subscription) -> bool {
        let device = self.users.resident(user_id).and_then(|user| user.device(device_id));
        let subscription = device.and_then(|device| device.subscription.as_deref());
        subscription.and_then(subscribing::as_sent).as_ref() == Some(sent_to)
    }

    /// Notes what was decided of the messages of a conversation up to `last`.
    pub(super) fn decided(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        last: Seq,
        verdict: PushVerdict,
        cx: &Turn<'_>,
    ) {
        let decision = super::PushDecision { user, conversation, up_to: last, at: cx.now.wall, verdict };
        self.notifying.decisions.push(decision);
    }
}
