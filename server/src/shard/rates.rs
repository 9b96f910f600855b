//! Rates: how often a client may ask, and how much a core may hold (the rates are `crate::access::rate`'s, the memory is counted where
//! bytes are queued). What does not fit is refused with a time to try again, before anything is spent on it.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, DeviceId, UserId};

use super::user::User;
use crate::{
    access::rate::{Bucket, Rate},
    limits::{GROUP_MEMBERS_MAX, RATED_MAX, RECENT_PEERS_MAX, SPENT_SWEEP_MS, USER_GROUPS_MAX},
};

/// What clients may ask of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sends of one device.
    pub device_sends: Rate,
    /// Sends of all devices of one user together.
    pub user_sends: Rate,
    /// Sends of one user in other conversations than the [`RECENT_PEERS_MAX`] written to last.
    pub opened: Rate,
    /// Pages that one user asks for.
    pub fetches: Rate,
    /// Connections of one user.
    pub logins: Rate,
    /// Frames of one connection, whatever they say. Beyond it the connection is closed.
    pub frames: Rate,
    /// Bytes that may wait for clients to read them, or for the rest of what they say.
    pub memory_bytes: usize,
    /// Days after which a device that has not been seen makes room for a new one; 0: never.
    pub device_unseen_days: u64,
    /// How long after it was written a message may be edited, in milliseconds.
    pub edit_within_ms: u64,
    /// How long after it was written a message may be taken back, in milliseconds.
    pub unsend_within_ms: u64,
    /// Who is blocked is told so when they write.
    pub tell_blocked: bool,
    /// Most members of a group.
    pub group_members: usize,
    /// Most members of a group in which each is told how far each is.
    pub group_receipts_members: usize,
    /// Most groups that one user is in.
    pub user_groups: usize,
}

impl Limits {
    /// As much as they like.
    pub const OFF: Self = Self {
        device_sends: Rate::OFF,
        user_sends: Rate::OFF,
        opened: Rate::OFF,
        fetches: Rate::OFF,
        logins: Rate::OFF,
        frames: Rate::OFF,
        memory_bytes: usize::MAX,
        device_unseen_days: 0,
        edit_within_ms: u64::MAX,
        unsend_within_ms: u64::MAX,
        tell_blocked: false,
        group_members: GROUP_MEMBERS_MAX as usize,
        group_receipts_members: GROUP_MEMBERS_MAX as usize,
        user_groups: USER_GROUPS_MAX as usize,
    };
}

/// What users who are not in memory have used of their rates: who goes and comes back does not begin anew.
#[derive(Debug, Default)]
pub(super) struct Spent {
    buckets: HashMap<UserId, UserBuckets, RandomState>,
    next_sweep_ms: u64,
}

/// The buckets of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UserBuckets {
    /// Sends, of all devices.
    pub(super) sends: Bucket,
    /// Conversations opened.
    pub(super) opened: Bucket,
    /// Pages asked for.
    pub(super) fetches: Bucket,
}

impl Spent {
    /// The user is forgotten. A table that is full forgets this too.
    pub(super) fn keep(&mut self, user: UserId, buckets: UserBuckets) {
        if buckets != UserBuckets::default() && self.buckets.len() < RATED_MAX {
            self.buckets.insert(user, buckets);
        }
    }

    /// The user is back.
    pub(super) fn take(&mut self, user: UserId) -> UserBuckets {
        self.buckets.remove(&user).unwrap_or_default()
    }

    /// Drops what is as good as new, once in [`SPENT_SWEEP_MS`].
    pub(super) fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = now_ms + SPENT_SWEEP_MS;
        let is_spent = |bucket: Bucket| !bucket.is_full(now_ms);
        let is_any_spent = |of: &UserBuckets| [of.sends, of.opened, of.fetches].into_iter().any(is_spent);
        self.buckets.retain(|_, of| is_any_spent(of));
    }
}

impl User {
    /// Counts a send, or says how long to wait, in milliseconds. `to` is where it opens a conversation, if the user did not write
    /// there lately; a number that is given up opens none.
    pub(super) fn take_send(
        &mut self,
        limits: &Limits,
        device: DeviceId,
        to: Option<ConversationId>,
        now_ms: u64,
    ) -> Result<(), u64> {
        let opens = to.filter(|to| limits.opened != Rate::OFF && !self.wrote_lately(*to));
        let UserBuckets { sends: mut user_sends, mut opened, .. } = self.buckets;
        limits.user_sends.take(&mut user_sends, now_ms)?;
        if opens.is_some() {
            limits.opened.take(&mut opened, now_ms)?;
        }
        if let Some(device) = self.device(device) {
            limits.device_sends.take(&mut device.sends, now_ms)?;
        }
        // All of them or none.
        (self.buckets.sends, self.buckets.opened) = (user_sends, opened);
        if let Some(to) = opens {
            if self.recent_peers.len() == RECENT_PEERS_MAX {
                self.recent_peers.pop_front();
            }
            self.recent_peers.push_back(to);
        }
        Ok(())
    }

    /// Whether `to` is among the last that this user wrote to; it is the very last then.
    fn wrote_lately(&mut self, to: ConversationId) -> bool {
        if self.recent_peers.back() == Some(&to) {
            return true;
        }
        let found = self.recent_peers.iter().position(|known| *known == to);
        let Some(known) = found.and_then(|index| self.recent_peers.remove(index)) else { return false };
        self.recent_peers.push_back(known);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_and_comes_back_does_not_begin_anew_before_the_bucket_is_full() {
        let rate = Rate::per_second(1);
        let mut buckets = UserBuckets::default();
        rate.take(&mut buckets.sends, 0).unwrap();
        let mut spent = Spent::default();
        spent.keep(UserId(1), buckets);
        spent.keep(UserId(2), UserBuckets::default());
        assert_eq!(spent.buckets.len(), 1, "who has spent nothing is not remembered");
        assert_eq!((spent.take(UserId(1)), spent.take(UserId(1))), (buckets, UserBuckets::default()));
        spent.keep(UserId(1), buckets);
        spent.sweep(999);
        assert_eq!(spent.buckets.len(), 1);
        spent.sweep(1_000);
        assert_eq!(spent.buckets.len(), 1, "it was swept a moment ago");
        spent.sweep(999 + SPENT_SWEEP_MS);
        assert_eq!(spent.buckets.len(), 0);
    }
}
