//! What happens to a device, as far as a scenario may want to know it.

use proto_spec::{ConversationId, GroupPage, Inbox, Page, PresenceState, Seq, UserId};

use super::{Ask, Fetch, Opened, Told};
use crate::verify::{StreamId, groups::GroupFetch, presence::Left};

/// Something that a scenario may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The device is welcome.
    Ready {
        /// Where.
        slot: u32,
    },
    /// A send of the device was accepted.
    Accepted {
        /// Where.
        slot: u32,
        /// Of which stream.
        stream: StreamId,
    },
    /// A message of the run came to a device of its recipient.
    Delivered {
        /// Where.
        slot: u32,
        /// Of which stream.
        stream: StreamId,
    },
    /// A page of a fetch came.
    Page {
        /// Where.
        slot: u32,
        /// What was asked for.
        fetch: Fetch,
        /// What came.
        page: Page,
    },
    /// Everything that the device's app opens with has come.
    Opened {
        /// Where.
        slot: u32,
        /// What came.
        opened: Box<Opened>,
    },
    /// A page of the list of conversations came.
    Inbox {
        /// Where.
        slot: u32,
        /// What was asked for.
        before: Seq,
        /// What came.
        inbox: Inbox,
    },
    /// What was asked for is done: a mark, a setting, a deletion.
    Marked {
        /// Where.
        slot: u32,
        /// What.
        ask: Ask,
    },
    /// A page of a group came, which is compared with what the device was told.
    GroupPage {
        /// Where.
        slot: u32,
        /// What was asked for.
        fetch: GroupFetch,
        /// What came.
        page: GroupPage,
    },
    /// The list of the user's groups has come.
    Groups {
        /// Where.
        slot: u32,
    },
    /// A device was told who is there.
    Presence {
        /// Where.
        slot: u32,
        /// What that was.
        told: Told,
        /// What was told.
        states: Vec<PresenceState>,
    },
    /// A device was told that somebody types in a conversation of its user.
    Typing {
        /// Where.
        slot: u32,
        /// In which one.
        conversation: ConversationId,
        /// Who does.
        user: UserId,
    },
    /// A device that was welcome has no connection any more.
    Left {
        /// Where.
        slot: u32,
        /// How that came.
        how: Left,
    },
    /// A connection is gone and its slot is free, whoever ended it.
    Gone {
        /// Where.
        slot: u32,
    },
}
