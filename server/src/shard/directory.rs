//! Directory: who is connected, for any core to read without a hop. Written by a user's home core alone.

use dashmap::DashMap;
use foldhash::fast::RandomState;
use proto_spec::UserId;

use crate::shard::topology::CoreId;

/// A process-wide map from a connected user to the core that holds the connections.
#[derive(Debug, Default)]
pub struct Directory {
    online: DashMap<UserId, CoreId, RandomState>,
}

impl Directory {
    /// Whether any device of `user` is connected to this process. A hint: it may change at once.
    #[must_use]
    pub fn is_online(&self, user: UserId) -> bool {
        self.online.contains_key(&user)
    }

    /// The first device of `user` has connected.
    pub fn insert(&self, user: UserId, core: CoreId) {
        self.online.insert(user, core);
    }

    /// The last device of `user` has gone.
    pub fn remove(&self, user: UserId) {
        self.online.remove(&user);
    }

    /// How many users are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.online.len()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.online.is_empty()
    }
}
