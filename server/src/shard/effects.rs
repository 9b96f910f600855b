//! Everything that a shard can ask for. The rim carries it out after the turn, in the order of the fields.

use std::{fmt, ops::Range};

use proto_spec::{DeviceId, Entry, ErrorCode, ServerFrame, UserId};
use storage::{Batch, BatchId, LaneId, Query};

use super::{
    groups::GroupMail,
    input::{ConnId, DevicesTold, Envelope, QueryId, Ticket},
    presence::{PresenceMail, Version},
    push::PushTold,
};
use crate::{
    limits::OUTPUT_TURN_BYTES_MAX,
    shard::topology::{CoreId, Home, NodeId},
};

/// A connection to be closed once its queued bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Which connection.
    pub conn: ConnId,
    /// Whose it was, for the log line.
    pub user: UserId,
    /// Which device it was.
    pub device: DeviceId,
    /// Why; `None` when the client said bye.
    pub reason: Option<ErrorCode>,
}

/// A token to be judged for a live connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Refresh {
    /// Which connection.
    pub conn: ConnId,
    /// Whose it is.
    pub user: UserId,
    /// Which device it is.
    pub device: DeviceId,
    /// What the client sent, at most `TOKEN_BYTES_MAX` bytes.
    pub token: String,
}

// A token is a secret wherever it is shown.
impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conn, user, device, .. } = self;
        f.debug_struct("Refresh")
            .field("conn", conn)
            .field("user", user)
            .field("device", device)
            .finish_non_exhaustive()
    }
}

/// Whether a connection is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Keep receiving.
    Reading,
    /// Its answers do not drain: leave its bytes in the kernel.
    Paused,
}

/// What one turn of a shard asks for. Reused from turn to turn: [`Effects::clear`] keeps the allocations.
#[derive(Debug, Default)]
pub struct Effects {
    /// Batches that are full, in order: a turn that decides very much makes several.
    pub(super) full_batches: Vec<(LaneId, BatchId, Batch)>,
    /// Of each lane the batch that the turn's records go to.
    pub(super) filling: Vec<Filling>,
    /// Envelopes, in order, with the core of their home.
    pub envelopes: Vec<(CoreId, Envelope)>,
    /// Envelopes for other nodes, in order.
    pub mesh: Vec<(NodeId, Envelope)>,
    /// What is said about groups, in order, with where it goes.
    pub groups: Vec<(Home, Box<GroupMail>)>,
    /// Queries to the store.
    pub queries: Vec<(QueryId, Query)>,
    /// Frames for connections, in order, as ranges of `bytes`. One range may go to several connections.
    pub sends: Vec<(ConnId, Range<usize>)>,
    /// What `sends` refers to.
    pub bytes: Vec<u8>,
    /// Tokens to judge, one of a connection at most until it is answered.
    pub refreshes: Vec<Refresh>,
    /// Connections to pause or to resume.
    pub reads: Vec<(ConnId, ReadState)>,
    /// Connections to close after their queued bytes.
    pub closes: Vec<Close>,
    /// Answers for the operator.
    pub told: Vec<(Ticket, DevicesTold)>,
    /// Answers for the operator about notifications.
    pub push_told: Vec<(Ticket, PushTold)>,
    /// Notices for the push service. Each is answered by one [`Input::Notified`](super::Input::Notified), or [`Input::NotTaken`](super::Input::NotTaken).
    pub notices: Vec<Box<push::Notice>>,
    /// What is to stand in the directory of users.
    pub directory: Vec<(UserId, Registration)>,
    /// What other cores are told of presence, of this node and of others. May be lost, and waits for nothing.
    pub presence: Vec<Box<PresenceMail>>,
}

/// What the directory says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A device is connected.
    Here {
        /// Verdicts on who may know it are good for this one.
        version: Version,
        /// Nobody may know it.
        is_hidden: bool,
    },
    /// None is.
    Gone,
}

/// A batch of one lane; what it is called is known when the turn ends and it is not empty.
#[derive(Debug, Default)]
pub(super) struct Filling {
    pub(super) sealed: Option<(LaneId, BatchId)>,
    pub(super) batch: Batch,
}

impl Effects {
    /// The batches of the turn, those of a lane in order: for the journal.
    pub fn batches(&self) -> impl Iterator<Item = (LaneId, BatchId, &Batch)> {
        let full = self.full_batches.iter().map(|(lane, id, batch)| (*lane, *id, batch));
        full.chain(self.filling.iter().filter_map(|of| of.sealed.map(|(lane, id)| (lane, id, &of.batch))))
    }

    /// Empties everything, keeping allocations of the usual size.
    pub fn clear(&mut self) {
        self.full_batches.clear();
        for filling in &mut self.filling {
            filling.batch.clear();
            filling.sealed = None;
        }
        self.envelopes.clear();
        self.mesh.clear();
        self.groups.clear();
        self.queries.clear();
        self.sends.clear();
        self.bytes.clear();
        self.bytes.shrink_to(OUTPUT_TURN_BYTES_MAX);
        self.refreshes.clear();
        self.reads.clear();
        self.closes.clear();
        self.told.clear();
        self.push_told.clear();
        self.notices.clear();
        self.directory.clear();
        self.presence.clear();
    }

    /// Appends a frame and says where it stands.
    pub(super) fn frame(&mut self, frame: &ServerFrame) -> Range<usize> {
        let start = self.bytes.len();
        frame.encode(&mut self.bytes);
        start..self.bytes.len()
    }

    /// Appends a deliver frame and says where it stands.
    pub(super) fn deliver(&mut self, entry: &Entry) -> Range<usize> {
        let start = self.bytes.len();
        ServerFrame::encode_deliver(entry, &mut self.bytes);
        start..self.bytes.len()
    }
}
