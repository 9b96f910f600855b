//! Notifications: which messages a user is to be notified of, when, and by which of their devices' subscriptions (SPEC 8.13; the reasons
//! in `docs/PUSH.md`). Decided at the user's home; the service of the crate `push` hands a [`Notice`] to its provider.
//!
//! In the order of a message's journey: it comes and is due (`announcing`), which is remembered for each conversation (`dues`); its time
//! comes, of a group its home is asked what there is (`new_in_group`), a notice is offered, and the service says how that ended (`notices`). Devices subscribe in `subscribing`; `why` answers the
//! operator.
//!
//! Invariants: a user with something due is unfinished, in the store too; no notice shows what is not released, nor more than its device
//! allows; of a notice that was offered exactly one outcome is told.

mod announcing;
mod dues;
mod new_in_group;
mod notices;
mod subscribing;
mod why;

use std::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    mem,
};

use proto_spec::{Provider, Subscription, UserId, limits::PUSH_KEY_BYTES};
use push::{Notice, hosts::HostRules};

use self::why::Decisions;
pub use self::why::{PushDecision, PushQuestion, PushTold, PushVerdict, PushWhy};
pub(super) use self::{announcing::wanted, dues::Dues, new_in_group::NewInGroup, why::Asked};
use super::{Shard, Turn};
use crate::limits::WOKEN_TICK_MAX;

/// What shards must know of notifications, where there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushSettings {
    /// How long a message of a user who is connected waits to be acknowledged before they are notified, in milliseconds. Of one
    /// conversation they are notified once in this time at most.
    pub delay_ms: u64,
    /// Whose devices can be notified: a sum of bits, 2^k for the provider with the number k.
    pub providers: u64,
    /// What browsers subscribe with, if they can.
    pub server_key: Option<[u8; PUSH_KEY_BYTES]>,
    /// Which hosts their endpoints may name. They are the same as long as the process runs.
    pub hosts: &'static HostRules,
}

impl PushSettings {
    /// Why notifications are not sent there, if so. What a name leads to is looked up when something is sent, by the service.
    fn fault(&self, subscription: &Subscription) -> Option<Cow<'static, str>> {
        let is_offered = |provider: Provider| self.providers >> provider.byte() & 1 == 1;
        if !subscription.provider().is_some_and(is_offered) {
            return Some("this server sends no notifications by that provider".into());
        }
        if let Some(fault) = subscription.fault() {
            return Some(fault.into());
        }
        let sent = subscribing::as_sent(subscription)?;
        sent.provider.check(self.hosts).err().map(|bad| bad.to_string().into())
    }
}

/// What the notifications of all users of a shard have in common.
#[derive(Debug, Default)]
pub(super) struct Notifying {
    /// Notices that were offered and whose outcome is not known.
    under_way: usize,
    last_ticket: u64,
    /// Users whose time comes: one moment of each.
    wakes: BTreeSet<(u64, UserId)>,
    /// Users whose notices wait for room, each once. Until then nothing is offered.
    for_room: VecDeque<UserId>,
    /// Clears for which there was no room. They count as under way.
    not_taken: VecDeque<Box<Notice>>,
    room_from_ms: u64,
    decisions: Decisions,
}

impl Notifying {
    fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Notices whose outcome is awaited.
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Users who wait for their time or for room.
    pub(super) fn waiting(&self) -> usize {
        self.wakes.len() + self.for_room.len()
    }

    /// The next user whose time has come.
    fn take_woken(&mut self, now_ms: u64) -> Option<UserId> {
        let (at_ms, user) = *self.wakes.first()?;
        (at_ms <= now_ms).then(|| {
            self.wakes.remove(&(at_ms, user));
            user
        })
    }

    /// The next user who waits for room, if there may be some.
    fn take_for_room(&mut self, now_ms: u64) -> Option<UserId> {
        if now_ms < self.room_from_ms { None } else { self.for_room.pop_front() }
    }
}

impl Shard {
    /// Time has passed: looks at those whose time has come, and at those who wait for room.
    pub(super) fn tick_push(&mut self, cx: &mut Turn<'_>) {
        if self.settings.push.is_none() || self.draining {
            return;
        }
        let now_ms = cx.now.monotonic_ms;
        for _ in 0..WOKEN_TICK_MAX {
            let Some(user_id) = self.notifying.take_woken(now_ms) else { break };
            if let Some(dues) = self.dues(user_id) {
                dues.wakes_ms = None;
            }
            self.look_at_dues(user_id, cx);
        }
        if self.notifying.room_from_ms <= now_ms {
            let again = self.notifying.not_taken.len().min(WOKEN_TICK_MAX);
            cx.effects.notices.extend(self.notifying.not_taken.drain(..again));
        }
        for _ in 0..self.notifying.for_room.len().min(WOKEN_TICK_MAX) {
            let Some(user_id) = self.notifying.take_for_room(now_ms) else { break };
            if let Some(dues) = self.dues(user_id) {
                dues.waits_for_room = false;
            }
            self.look_at_dues(user_id, cx);
        }
    }

    /// The server stops. What was told is written down though more is due, so that the next start does not tell it again.
    pub(super) fn drain_push(&mut self, cx: &Turn<'_>) {
        // A clear is best effort over a stop.
        self.notifying.under_way -= mem::take(&mut self.notifying.not_taken).len();
        let users =
            self.users.iter_mut().filter(|(_, user)| user.dues.as_ref().is_some_and(|dues| dues.has_last_row()));
        let users: Vec<UserId> = users.map(|(user_id, _)| user_id).collect();
        users.into_iter().for_each(|user_id| self.mark_dirty(user_id, cx.now.monotonic_ms));
    }

    /// What a user who is here is to be notified of, if any device has ever subscribed.
    fn dues(&mut self, user_id: UserId) -> Option<&mut Dues> {
        self.users.resident(user_id)?.dues.as_deref_mut()
    }
}
