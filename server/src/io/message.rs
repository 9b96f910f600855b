//! What cores, and the threads that work for them, tell each other.

use proto_spec::{TimestampMs, UserId};
use storage::{Answer, BatchId, LaneId, StoreError};

use super::{commit::Background, handoff::Guest};
use crate::{
    committer::News,
    revocation::Subject,
    shard::{Envelope, QueryId},
    topology::CoreId,
};

/// One message in a core's mailbox.
#[derive(Debug)]
pub enum CoreMessage {
    /// From a shard to a shard.
    Envelope(Envelope),
    /// To core 0: a batch for the journal.
    Batch {
        /// Of which lane.
        lane: LaneId,
        /// Its number.
        id: BatchId,
        /// Its records.
        bytes: Vec<u8>,
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
    /// To core 0: the database is another server's now, as it said itself.
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
    /// A connection that moves here: who it is. Its descriptor comes through the ring.
    Guest(Box<Guest>),
    /// To core 0, from the threads that work for the journal.
    Background(Box<Background>),
    /// At the start: a user with duties left over from before.
    Unfinished(UserId),
    /// Tokens that were issued up to this moment have been revoked.
    Revoked(Subject, TimestampMs),
}

// What a mailbox holds is allocated at once: 8,192 messages of a core are half a megabyte.
const _: () = assert!(size_of::<CoreMessage>() <= 80);
