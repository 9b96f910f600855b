//! What is kept in memory for apps that open: `[cache]`. Owns its keys, defaults and bounds, and what shards are given of it.

use proto_spec::limits::{INBOX_ROWS_MAX, PAGE_ENTRIES_MAX};

use super::{
    MIB, TIB,
    key::{Key, bytes, count},
};
use crate::{
    limits::{CACHE_CORE_BYTES_MIN, CACHE_USER_BYTES_MIN},
    shard::{CacheLimits, KeptOfUser},
};

/// What is kept in memory for apps that open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Conversations of a user of which messages are kept; 0: nothing is kept.
    pub conversations: u16,
    /// Messages of each of them; 0: nothing is kept.
    pub messages: u16,
    /// Bytes of one user at most.
    pub user_bytes_max: u64,
    /// Bytes of all users of a core at most.
    pub core_bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        let CacheLimits { user: KeptOfUser { conversations, messages, bytes }, core_bytes } = CacheLimits::DEFAULT;
        Self {
            conversations: conversations as u16,
            messages: messages as u16,
            user_bytes_max: bytes as u64,
            core_bytes_max: core_bytes as u64,
        }
    }
}

impl Cache {
    /// As shards take it.
    #[must_use]
    pub fn of_shards(&self) -> CacheLimits {
        let user = KeptOfUser {
            conversations: self.conversations.into(),
            messages: self.messages.into(),
            bytes: self.user_bytes_max as usize,
        };
        CacheLimits { user, core_bytes: self.core_bytes_max as usize }
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { conversations, messages, user_bytes_max, core_bytes_max } = self;
        const NOTHING: &str = "nothing is kept";
        let conversations = count(conversations, "conversations", 0..=INBOX_ROWS_MAX).or_zero(NOTHING);
        let messages = count(messages, "messages", 0..=PAGE_ENTRIES_MAX).or_zero(NOTHING);
        vec![
            Key { name: "cache.conversations", slot: conversations.into() },
            Key { name: "cache.messages", slot: messages.into() },
            Key { name: "cache.user_bytes_max", slot: bytes(user_bytes_max, CACHE_USER_BYTES_MIN..=MIB).into() },
            Key { name: "cache.core_bytes_max", slot: bytes(core_bytes_max, CACHE_CORE_BYTES_MIN..=TIB).into() },
        ]
    }
}
