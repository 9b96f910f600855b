//! Directory: who is connected, for any core to read without a hop. Written by a user's home core alone.

use dashmap::DashMap;
use foldhash::fast::RandomState;
use proto_spec::UserId;

use super::{effects::Registration, presence::Version};

/// A process-wide map from a connected user to the version in which others may know of it; none: nobody may.
#[derive(Debug, Default)]
pub struct Directory {
    online: DashMap<UserId, Option<Version>, RandomState>,
}

impl Directory {
    /// Whether any device of `user` is connected to this process. A hint: it may change at once.
    #[must_use]
    pub fn is_online(&self, user: UserId) -> bool {
        self.online.contains_key(&user)
    }

    /// The version in which others may know of a user who is connected; none: nobody may, or there is nobody.
    #[must_use]
    pub fn version(&self, user: UserId) -> Option<Version> {
        self.online.get(&user).and_then(|known| *known)
    }

    /// Whether any device of `user` is connected, for somebody who may see the user in this version: not, if that is not known to be so any
    /// more.
    #[must_use]
    pub fn is_here(&self, user: UserId, version: Version) -> bool {
        self.version(user) == Some(version)
    }

    /// A user has come, is shown otherwise, or has gone.
    pub fn set(&self, user: UserId, registration: Registration) {
        match registration {
            Registration::Here { version, is_hidden } => {
                self.online.insert(user, (!is_hidden).then_some(version));
            }
            Registration::Gone => {
                self.online.remove(&user);
            }
        }
    }

    /// How many users are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.online.len()
    }

    /// Each user who is connected.
    pub fn each(&self, mut see: impl FnMut(UserId)) {
        self.online.iter().for_each(|user| see(*user.key()));
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.online.is_empty()
    }
}
