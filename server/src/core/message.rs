//! What cores, and the threads that work for them, tell each other.

use std::sync::Arc;

use proto_spec::{GroupId, TimestampMs, UserId};
use storage::{
    Answer, BatchId, LaneId, StoreError,
    journal::{Salt, Sealed, SegmentNumber},
};

use super::greetings::Guest;
use crate::{
    access::revocation::Subject,
    cluster::file::Nodes,
    durability::committer::News,
    shard::{
        DevicesWish, Envelope, GroupMail, PushQuestion, QueryId, Ticket,
        topology::{CoreId, NodeId},
    },
};

/// One message in a core's mailbox.
#[derive(Debug)]
pub enum CoreMessage {
    /// From a shard to a shard.
    Envelope(Envelope),
    /// From a shard to one of another node, to the core that has the link there.
    ToNode(NodeId, Envelope),
    /// From another node, to the core of the user that it is for.
    FromNode(NodeId, Envelope),
    /// From a core to another one, about a group.
    Group(Box<GroupMail>),
    /// The same, to the core that has the link to a node.
    GroupToNode(NodeId, Box<GroupMail>),
    /// The link to another node is open, or has ended.
    Link {
        /// To which node.
        node: NodeId,
        /// The number of the link.
        serial: u64,
        /// Whether it is open.
        is_up: bool,
    },
    /// The link to another node lies with another core from now on.
    LinkMoved {
        /// To which node.
        node: NodeId,
        /// The number of the new one.
        serial: u64,
    },
    /// To core 0: a batch for the journal.
    Batch {
        /// Of which lane.
        lane: LaneId,
        /// Its number.
        id: BatchId,
        /// Its records.
        bytes: Vec<u8>,
        /// Somebody waits for it.
        is_urgent: bool,
    },
    /// To core 0: every batch of a lane up to this one is in the database.
    Stored {
        /// Which lane.
        lane: LaneId,
        /// The last one.
        up_to: BatchId,
    },
    /// To core 0: the lanes of a core wait too long for the database, or do not any more.
    Away {
        /// Whose lanes.
        core: CoreId,
        /// Whether they do.
        is_away: bool,
    },
    /// To core 0: the store is another server's now, as it said itself.
    Lost(String),
    /// From core 0: about the journal and the store.
    News(News),
    /// From a reader thread.
    Answer {
        /// To which query.
        query: QueryId,
        /// What the store says, or why it could not be read.
        answer: Box<Result<Answer, StoreError>>,
    },
    /// A connection that moves here: who it is. Its descriptor comes through the rim.
    Guest(Box<Guest>),
    /// To core 0, from the threads that work for the journal: the segment that was asked for is there.
    Prepared {
        /// Which.
        segment: SegmentNumber,
        /// The salt of its records.
        salt: Salt,
    },
    /// To core 0, from these threads: the segment that was asked for could not be made.
    PrepareFailed {
        /// Whether for want of room on the disk.
        full: bool,
    },
    /// To core 0, from these threads: a sealed segment is in the store and its file is free again.
    Ingested(Box<Sealed>),
    /// To core 0, from these threads: the store did not take a sealed segment. It is tried again.
    StoreAway,
    /// To core 0, from these threads: what an earlier server left in the journal is in the store, for which there was no room before.
    Recovered,
    /// At the start: a user with duties left over from before.
    Unfinished(UserId),
    /// At the start: a group with duties left over from before.
    UnfinishedGroup(GroupId),
    /// Tokens that were issued up to this moment have been revoked.
    Revoked(Subject, TimestampMs),
    /// Something else is known of the nodes and of who owns what.
    Owners(Arc<Nodes>),
    /// The operator asks about a user's devices.
    Devices(Ticket, UserId, DevicesWish),
    /// The operator asks why a user was notified of a message, or was not.
    Why(Ticket, PushQuestion),
    /// From the push service: a notice of this core has ended.
    Notified(Box<(push::Notice, push::Outcome)>),
}

impl CoreMessage {
    /// Whether a stop waits until it has arrived: what cores alone tell each other. What threads say is no reason to wait.
    #[must_use]
    pub const fn is_waited_for(&self) -> bool {
        match self {
            Self::Envelope(_)
            | Self::ToNode(..)
            | Self::FromNode(..)
            | Self::Group(_)
            | Self::GroupToNode(..)
            | Self::Batch { .. }
            | Self::Stored { .. }
            | Self::Away { .. }
            | Self::News(_)
            | Self::Guest(_) => true,
            Self::Answer { .. }
            | Self::Link { .. }
            | Self::LinkMoved { .. }
            | Self::Lost(_)
            | Self::Prepared { .. }
            | Self::PrepareFailed { .. }
            | Self::Ingested(_)
            | Self::StoreAway
            | Self::Recovered
            | Self::Unfinished(_)
            | Self::UnfinishedGroup(_)
            | Self::Revoked(..)
            | Self::Owners(_)
            | Self::Devices(..)
            | Self::Why(..)
            | Self::Notified(_) => false,
        }
    }
}

// What a mailbox holds is allocated at once: 8,192 messages of a core are half a megabyte.
const _: () = assert!(size_of::<CoreMessage>() <= 80);
