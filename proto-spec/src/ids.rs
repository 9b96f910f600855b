//! Newtypes for every number that names something, so that two of them can never be swapped.

use crate::listed::listed;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A user, named by the application. Zero is not a user (SPEC 3.1).
    UserId
);
id!(
    /// A group, named at random by who creates it. Zero is not a group (SPEC 3.8).
    GroupId
);
id!(
    /// One of a user's devices, unique within the user. Zero is not a device (SPEC 3.1).
    DeviceId
);
id!(
    /// Position of an entry in one user's log: 1, 2, 3, ... Zero stands before the first entry (SPEC 3.2).
    Seq
);
id!(
    /// A device's own number of a send: 1, 2, 3, ... The idempotency key (SPEC 3.3).
    SendNumber
);
id!(
    /// Chosen by the client to match a page with its fetch; zero marks a page that the server pushed (SPEC 3.4).
    RequestId
);
id!(
    /// The random name of what one start of the server appended to a log (SPEC 3.7). Zero is not an epoch.
    EpochId
);
id!(
    /// Milliseconds since 1970-01-01T00:00:00Z, by the server's wall clock (SPEC 3.5).
    TimestampMs
);

/// A conversation as one of its members names it (SPEC 2.2): what is written to, and whose history is asked for.
///
/// A later kind is another variant here, another kind of `conversation` on the wire, and entry kinds and tables of its own, so that
/// clients and rows of today stay as they are. Whoever takes a conversation apart names every variant, so the compiler finds all
/// the places that must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversationId {
    /// The conversation with this user; with oneself: notes to self.
    Person(UserId),
    /// A group.
    Group(GroupId),
}

listed! {
    /// Kinds of conversations (SPEC 2.2).
    ConversationKind {
        /// With a user.
        User = 1 "user",
        /// A group.
        Group = 2 "group",
    }
}

impl ConversationId {
    /// Which kind it is of.
    #[must_use]
    pub const fn kind(self) -> ConversationKind {
        match self {
            Self::Person(_) => ConversationKind::User,
            Self::Group(_) => ConversationKind::Group,
        }
    }
}

impl From<UserId> for ConversationId {
    fn from(user: UserId) -> Self {
        Self::Person(user)
    }
}

impl From<GroupId> for ConversationId {
    fn from(group: GroupId) -> Self {
        Self::Group(group)
    }
}

/// A user is shown as a number, a group as one behind a `#`.
impl std::fmt::Display for ConversationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(user) => user.fmt(f),
            Self::Group(group) => write!(f, "#{group}"),
        }
    }
}

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The position after this one. Saturates: a peer may name any seq.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; that of zero is zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl SendNumber {
    /// The number that follows this one. Saturates: a peer may name any number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_numbers_are_their_own_neighbours() {
        assert_eq!(Seq(u64::MAX).next(), Seq(u64::MAX));
        assert_eq!(SendNumber(u64::MAX).next(), SendNumber(u64::MAX));
        assert_eq!(Seq::ZERO.previous(), Seq::ZERO);
    }
}
