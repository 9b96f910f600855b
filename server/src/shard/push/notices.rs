//! Notices: what is offered to the service, one for each conversation and device, and what follows from how it ended.

use std::time::Duration;

use proto_spec::{ConversationId, DeviceId, Seq, Subscription, TimestampMs, UserId};
use push::{Kind, Notice, Outcome, Refusal, Urgency};

use super::{subscribing, why::PushVerdict};
use crate::{
    limits::{NOTICE_TTL_S, NOTICES_UNDER_WAY_MAX},
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
        let Some(due) = self.dues(user_id).and_then(|dues| dues.get(conversation)) else { return };
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
                dues.put_back_clear(conversation);
            }
            return self.wait_for_room(user_id);
        }
        for (device, subscription) in devices {
            let ticket = self.notifying.next_ticket();
            self.offer((user_id, device), ticket, subscription, (conversation, cx.now.wall), Kind::Clear, cx);
        }
        self.counters.push_cleared += 1;
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

    /// A notice of this shard has ended.
    pub(in crate::shard) fn notified(&mut self, notice: &Notice, outcome: &Outcome, cx: &mut Turn<'_>) {
        self.notifying.under_way -= 1;
        let conversation = notice.conversation;
        if let Outcome::Later(wait) = outcome {
            let from_ms = cx.now.monotonic_ms + wait.as_millis() as u64;
            self.notifying.room_from_ms = self.notifying.room_from_ms.max(from_ms);
        }
        if notice.kind != Kind::Clear {
            self.message_ended(notice, outcome, cx);
        } else if matches!(outcome, Outcome::Later(_))
            && let Some(dues) = self.dues(notice.user)
        {
            dues.put_back_clear(conversation);
            self.wait_for_room(notice.user);
        }
        // Last: without a subscription nothing is due any more.
        self.learn(notice, outcome, cx);
    }

    /// One of the notices of a conversation that is due has ended: when all have, it is told, or due again.
    fn message_ended(&mut self, notice: &Notice, outcome: &Outcome, cx: &mut Turn<'_>) {
        let Notice { ticket, user: user_id, device, conversation, .. } = *notice;
        let delay_ms = self.settings.push.map_or(0, |push| push.delay_ms);
        let is_later = matches!(outcome, Outcome::Later(_));
        let Some(dues) = self.dues(user_id) else { return };
        let Some(due) = dues.get(conversation) else { return };
        let Some(at) = due.tickets.iter().position(|of| *of == ticket) else { return };
        due.tickets.swap_remove(at);
        due.is_told |= matches!(outcome, Outcome::Delivered | Outcome::Replaced(_));
        due.put_off.extend(is_later.then_some(device));
        let (last, is_last, is_put_off) = (due.tells, due.tickets.is_empty(), !due.put_off.is_empty());
        if is_last {
            dues.ended(conversation, (cx.now.monotonic_ms, delay_ms));
        }
        if !is_later {
            self.decided(user_id, conversation, last, PushVerdict::Ended(device, outcome.clone()), cx);
        }
        if is_last && is_put_off {
            self.wait_for_room(user_id);
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
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        let is_same = device.subscription.as_deref().and_then(subscribing::as_sent).as_ref() == Some(sent_to);
        if is_same {
            self.set_subscription(user_id, device_id, new, cx);
        }
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
