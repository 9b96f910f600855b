//! What cores and the homes of groups say to each other beside envelopes: who follows, what is pushed, what is asked. In order from
//! core to core, and lost when a link ends: nothing is kept for it, since a core that follows again learns by the numbers what it lacks.

use std::sync::Arc;

use proto_spec::{Digests, Direction, ErrorCode, GroupEntry, GroupId, GroupRow, MemberInfo, Seq, UserId};
use storage::Wants;

use crate::shard::presence::CoreAddress;

/// A core's own number of a question, which comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Something that is said between the home of a group and a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMail {
    /// Which group.
    pub group: GroupId,
    /// The core: whoever says it to the group's home, or hears it from there.
    pub core: CoreAddress,
    /// What.
    pub said: GroupSaid,
}

/// The kinds of group mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSaid {
    /// To the home: these users are connected, and are members as far as the core knows. From now on it is told what happens.
    Follow {
        /// Who.
        users: Vec<UserId>,
    },
    /// To the home: nobody is connected any more.
    Unfollow,
    /// To the home: somebody asks something.
    Ask {
        /// Comes back in the answer.
        ask: AskId,
        /// Who asks.
        user: UserId,
        /// What.
        wish: GroupWish,
    },
    /// To the home: a user types.
    Types {
        /// Who.
        user: UserId,
    },
    /// To the home: devices of these members have the log up to there.
    Have {
        /// Who, and up to where.
        marks: Vec<(UserId, Seq)>,
    },
    /// To the home: a device of this member is subscribed to notifications.
    Wants {
        /// Who.
        user: UserId,
        /// Of which messages they are to be notified; none: as before, or of all.
        wants: Option<Wants>,
        /// Whether they are connected, so that they may get messages before anybody need notify them.
        is_here: bool,
    },
    /// To the home: a member who is subscribed is not connected any more.
    Away {
        /// Who.
        user: UserId,
    },
    /// To a core that follows: a member types. It may be left out.
    Typing {
        /// Who.
        user: UserId,
    },
    /// To a core: what is numbered from here on is pushed to it.
    Following {
        /// The last seq that is not.
        head: Seq,
        /// Of those who are connected, these are members.
        members: Vec<UserId>,
        /// And these are none.
        strangers: Vec<UserId>,
    },
    /// To a core that follows: the log goes on.
    Pushed(Arc<GroupEntry>),
    /// To a core: the answer.
    Told {
        /// From the question.
        ask: AskId,
        /// What there is, or why not.
        told: Result<GroupTold, ErrorCode>,
    },
}

impl GroupSaid {
    /// Whether it is said to the home of the group, and not to a core.
    #[must_use]
    pub const fn is_for_home(&self) -> bool {
        match self {
            Self::Follow { .. }
            | Self::Unfollow
            | Self::Ask { .. }
            | Self::Types { .. }
            | Self::Have { .. }
            | Self::Wants { .. }
            | Self::Away { .. } => true,
            Self::Following { .. } | Self::Pushed(_) | Self::Told { .. } | Self::Typing { .. } => false,
        }
    }
}

impl GroupSaid {
    /// Leaves out what is said to a home in the name of users who are not of the sender. How many that were.
    pub fn leave_out(&mut self, is_own: impl Fn(UserId) -> bool) -> usize {
        let users = match self {
            Self::Follow { users } => users,
            Self::Have { marks } => {
                let before = marks.len();
                marks.retain(|(user, _)| is_own(*user));
                return before - marks.len();
            }
            Self::Ask { user, .. } | Self::Types { user } | Self::Wants { user, .. } | Self::Away { user } => {
                return usize::from(!is_own(*user));
            }
            Self::Unfollow | Self::Following { .. } | Self::Pushed(_) | Self::Told { .. } | Self::Typing { .. } => {
                return 0;
            }
        };
        let before = users.len();
        users.retain(|user| is_own(*user));
        before - users.len()
    }

    /// Whether nothing is left of it once somebody was left out.
    #[must_use]
    pub const fn is_of_nobody(&self) -> bool {
        match self {
            Self::Follow { users } => users.is_empty(),
            Self::Have { marks } => marks.is_empty(),
            Self::Ask { .. } | Self::Types { .. } | Self::Wants { .. } | Self::Away { .. } => true,
            Self::Unfollow | Self::Following { .. } | Self::Pushed(_) | Self::Told { .. } | Self::Typing { .. } => {
                false
            }
        }
    }
}

/// What somebody wants to know of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupWish {
    /// A page of its log.
    Page {
        /// From where on; zero backwards: from the last that the user may read.
        from: Seq,
        /// Which way.
        direction: Direction,
        /// Most entries.
        limit: u64,
    },
    /// A page of its members.
    Members {
        /// Those with higher ids.
        after: UserId,
        /// Most of them.
        limit: u64,
        /// It is counted who has this entry; zero: nobody is counted.
        seq: Seq,
    },
    /// Digests of its log.
    Digests {
        /// The first seq.
        first: Seq,
        /// The last one; zero: that of the log.
        last: Seq,
        /// How many seqs each is of; zero: one of all.
        width: u64,
    },
    /// What a list of groups shows of it.
    Row {
        /// Up to where the user has read it.
        read: Seq,
    },
}

/// What is told of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupTold {
    /// A page of its log.
    Page {
        /// The first seq that it speaks for.
        first: Seq,
        /// The last one.
        last: Seq,
        /// There is more in its direction.
        more: bool,
        /// The last seq that the user may read.
        head: Seq,
        /// By ascending seq.
        entries: Vec<GroupEntry>,
    },
    /// A page of its members.
    Members {
        /// As of this entry.
        at: Seq,
        /// There are more.
        more: bool,
        /// By ascending id.
        members: Vec<MemberInfo>,
        /// How many others have the entry that was asked about, and how many of these have read it.
        counts: (u64, u64),
    },
    /// Digests of its log; the number of the request is not said.
    Digests(Digests),
    /// What a list of groups shows of it.
    Row(Box<GroupRow>),
}
