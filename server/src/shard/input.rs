//! Everything that can happen to a shard.

use std::sync::Arc;

use proto_spec::{
    Content, ConversationId, DeviceId, DeviceInfo, ErrorCode, Event, GroupId, Seq, Standing, TimestampMs, UserId,
};
use storage::{Answer, BatchId, LaneId};

use super::{groups::GroupMail, presence::PresenceMail, push::PushQuestion, shedding::Load, topology::NodeId};
use crate::{access::handshake::Resumption, cluster::file::Nodes, config::Transport, limits::ENVELOPE_BYTES};

/// The two clocks of one instant. Measure with the first, persist the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of the monotonic clock, from an arbitrary start.
    pub monotonic_ms: u64,
    /// Wall clock. May jump.
    pub wall: TimestampMs,
}

/// A connection of this core. Never given twice: `slot` is reused, `generation` tells lives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index of the connection in the core's table.
    pub slot: u32,
    /// Which life of that slot.
    pub generation: u32,
}

/// A shard's own number of a query: comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// The operator's own number of a question: comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What an operator wants of a user's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicesWish {
    /// To know them.
    List,
    /// To remove one, for ever.
    Remove(DeviceId),
}

/// The answer: the devices that the user has now, or why it was not done.
pub type DevicesTold = Result<Vec<DeviceInfo>, ErrorCode>;

/// What a token grants to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Until when it may stay; clocks that differ are not counted in.
    pub expires: TimestampMs,
    /// When the token was issued; 0: it does not say so.
    pub issued: TimestampMs,
}

/// A connection whose hello was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The connection, in the table of this shard's core.
    pub conn: ConnId,
    /// Who the token says it is. This shard is the user's home.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// The negotiated protocol version.
    pub version: u64,
    /// Where it begins.
    pub resumption: Resumption,
    /// How long it may stay.
    pub grant: Grant,
    /// By which transport it goes where a redirect says; none: its client follows none.
    pub follows: Option<Transport>,
}

/// What one shard tells another. In order per pair of shards, at least once; logs are exactly-once because the receiver
/// keeps a watermark per (recipient, sender).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The user it is for; goes to the home of this user. Of a group, the user that it lies beside.
    pub to: UserId,
    /// The user it is from, or the one that the group lies beside it is from.
    pub from: UserId,
    /// What it says.
    pub body: EnvelopeBody,
}

impl Envelope {
    /// What it takes in memory while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let text = match &self.body {
            EnvelopeBody::Forward { parcel: Parcel::Message(content), .. }
            | EnvelopeBody::GroupSend { content, .. } => content.parts().1.len(),
            EnvelopeBody::Placed { .. }
            | EnvelopeBody::NotPlaced { .. }
            | EnvelopeBody::GroupPutOff { .. }
            | EnvelopeBody::GroupRead { .. }
            | EnvelopeBody::GroupReadTaken { .. }
            | EnvelopeBody::Stand { .. }
            | EnvelopeBody::Stood { .. }
            | EnvelopeBody::Declined { .. }
            | EnvelopeBody::StandPutOff { .. }
            | EnvelopeBody::Reached { .. }
            | EnvelopeBody::ReachedTaken { .. }
            | EnvelopeBody::Forward { parcel: Parcel::Read(_), .. }
            | EnvelopeBody::Forwarded { .. }
            | EnvelopeBody::ForwardPutOff { .. }
            | EnvelopeBody::Receipt { .. }
            | EnvelopeBody::Receipted { .. }
            | EnvelopeBody::ReceiptPutOff { .. } => 0,
        };
        ENVELOPE_BYTES + text
    }

    /// The answer of one who can not take it now; none if it is an answer itself, or is told again unasked.
    pub(crate) fn put_off(&self) -> Option<Self> {
        let body = match self.body {
            EnvelopeBody::Forward { origin, .. } => EnvelopeBody::ForwardPutOff { origin },
            EnvelopeBody::Receipt { received_as, .. } => EnvelopeBody::ReceiptPutOff { received_as },
            EnvelopeBody::GroupSend { origin, .. } | EnvelopeBody::GroupRead { origin, .. } => {
                EnvelopeBody::GroupPutOff { origin }
            }
            EnvelopeBody::Stand { at, .. } => EnvelopeBody::StandPutOff { at },
            EnvelopeBody::Forwarded { .. }
            | EnvelopeBody::ForwardPutOff { .. }
            | EnvelopeBody::Receipted { .. }
            | EnvelopeBody::ReceiptPutOff { .. }
            | EnvelopeBody::Placed { .. }
            | EnvelopeBody::NotPlaced { .. }
            | EnvelopeBody::GroupReadTaken { .. }
            | EnvelopeBody::GroupPutOff { .. }
            | EnvelopeBody::Stood { .. }
            | EnvelopeBody::Declined { .. }
            | EnvelopeBody::StandPutOff { .. }
            | EnvelopeBody::Reached { .. }
            | EnvelopeBody::ReachedTaken { .. } => return None,
        };
        Some(Self { to: self.from, from: self.to, body })
    }
}

impl Envelope {
    /// Whether it says that something is to be sent again later.
    pub(crate) const fn is_put_off(&self) -> bool {
        matches!(
            self.body,
            EnvelopeBody::ForwardPutOff { .. }
                | EnvelopeBody::ReceiptPutOff { .. }
                | EnvelopeBody::GroupPutOff { .. }
                | EnvelopeBody::StandPutOff { .. }
        )
    }

    /// Whether it is about notifications alone.
    pub(crate) const fn is_of_notifications(&self) -> bool {
        matches!(self.body, EnvelopeBody::Reached { .. } | EnvelopeBody::ReachedTaken { .. })
    }

    /// Whether one of the two is a group.
    pub(crate) const fn is_of_group(&self) -> bool {
        match self.body {
            EnvelopeBody::GroupSend { .. }
            | EnvelopeBody::GroupRead { .. }
            | EnvelopeBody::GroupReadTaken { .. }
            | EnvelopeBody::Placed { .. }
            | EnvelopeBody::NotPlaced { .. }
            | EnvelopeBody::GroupPutOff { .. }
            | EnvelopeBody::Stand { .. }
            | EnvelopeBody::Stood { .. }
            | EnvelopeBody::Declined { .. }
            | EnvelopeBody::StandPutOff { .. }
            | EnvelopeBody::Reached { .. }
            | EnvelopeBody::ReachedTaken { .. } => true,
            EnvelopeBody::Forward { .. }
            | EnvelopeBody::Forwarded { .. }
            | EnvelopeBody::ForwardPutOff { .. }
            | EnvelopeBody::Receipt { .. }
            | EnvelopeBody::Receipted { .. }
            | EnvelopeBody::ReceiptPutOff { .. } => false,
        }
    }

    /// What is said in place of an answer that can not be given; none if it is none.
    pub(super) fn not_given(&self) -> Option<Self> {
        let body = match self.body {
            EnvelopeBody::Forwarded { origin, .. } => EnvelopeBody::ForwardPutOff { origin },
            EnvelopeBody::Receipted { received_as } => EnvelopeBody::ReceiptPutOff { received_as },
            EnvelopeBody::Placed { origin, .. }
            | EnvelopeBody::NotPlaced { origin, .. }
            | EnvelopeBody::GroupReadTaken { origin } => EnvelopeBody::GroupPutOff { origin },
            EnvelopeBody::Stood { at } | EnvelopeBody::Declined { at, .. } => EnvelopeBody::StandPutOff { at },
            EnvelopeBody::GroupSend { .. }
            | EnvelopeBody::GroupRead { .. }
            | EnvelopeBody::GroupPutOff { .. }
            | EnvelopeBody::Stand { .. }
            | EnvelopeBody::StandPutOff { .. }
            | EnvelopeBody::Reached { .. }
            | EnvelopeBody::ReachedTaken { .. }
            | EnvelopeBody::Forward { .. }
            | EnvelopeBody::ForwardPutOff { .. }
            | EnvelopeBody::Receipt { .. }
            | EnvelopeBody::ReceiptPutOff { .. } => return None,
        };
        Some(Self { body, ..self.clone() })
    }
}

/// What one side of a conversation says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A message.
    Message(Content),
    /// What the recipient wrote has been read up to this seq of the recipient's log; of a group, of the group's.
    Read(Seq),
}

impl Parcel {
    /// What an entry of the log of `user` says to the other side of its conversation, if it says anything to anybody.
    pub(super) fn by(user: UserId, event: &Event) -> Option<(ConversationId, Self)> {
        let (to, parcel) = match event {
            Event::Sent { to, content, .. } => (*to, Self::Message(content.clone())),
            Event::Read { conversation, told, .. } if *told > Seq::ZERO => (*conversation, Self::Read(*told)),
            Event::Received { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::Seen { .. }
            | Event::Settings { .. }
            | Event::Deleted { .. }
            | Event::Devices { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => return None,
        };
        (to != user.into()).then_some((to, parcel))
    }
}

/// The kinds of envelopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeBody {
    /// A message or a read mark, from the home of who made it to that of the other side.
    Forward {
        /// Its seq in the sender's log.
        origin: Seq,
        /// The message before it in this conversation, unless the recipient is known to have that. Who does not have it puts this
        /// one off: the watermark would swallow the one before.
        after: Seq,
        /// What is to be in the recipient's log.
        parcel: Parcel,
    },
    /// It is durable in the recipient's log, or dropped for good.
    Forwarded {
        /// A seq of `to`'s log.
        origin: Seq,
        /// It was dropped, as all will be that comes from `to`, and `to` is to be told.
        is_unwanted: bool,
    },
    /// The message can not be taken now: it, and what followed it, is to be sent again later.
    ForwardPutOff {
        /// A seq of `to`'s log.
        origin: Seq,
    },
    /// A device of `from` has acknowledged the messages of `to` up to `up_to`.
    Receipt {
        /// A seq of `to`'s log.
        up_to: Seq,
        /// The seq of that message in the log of `from`.
        received_as: Seq,
    },
    /// The receipt is durable.
    Receipted {
        /// From the receipt: a seq of `to`'s log.
        received_as: Seq,
    },
    /// The receipt can not be taken now: it, or a newer one, is to be sent again later.
    ReceiptPutOff {
        /// From the receipt: a seq of `to`'s log.
        received_as: Seq,
    },
    /// A message or an act, from the home of its author to that of the group.
    GroupSend {
        /// Its seq in the author's log.
        origin: Seq,
        /// As of [`EnvelopeBody::Forward`].
        after: Seq,
        /// What was sent.
        content: Content,
    },
    /// A read mark, from the home of a member to that of the group.
    GroupRead {
        /// Its seq in the member's log.
        origin: Seq,
        /// As of [`EnvelopeBody::Forward`].
        after: Seq,
        /// What has been read: up to this seq of the group's log.
        up_to: Seq,
    },
    /// The group has it.
    GroupReadTaken {
        /// A seq of `to`'s log.
        origin: Seq,
    },
    /// It is durable in the group's log.
    Placed {
        /// A seq of `to`'s log.
        origin: Seq,
        /// How the author stands to the group since.
        standing: GroupStanding,
    },
    /// It is durable that the group does not take it.
    NotPlaced {
        /// A seq of `to`'s log.
        origin: Seq,
        /// Why.
        code: ErrorCode,
    },
    /// It can not be taken now: it, and what followed it, is to be sent again later.
    GroupPutOff {
        /// A seq of `to`'s log.
        origin: Seq,
    },
    /// How a user stands to a group from now on, from the home of the group to that of the user.
    Stand {
        /// The entry of the group's log that says so.
        at: Seq,
        /// Whose entry that is.
        by: UserId,
        /// How.
        standing: GroupStanding,
    },
    /// It is durable in the user's log.
    Stood {
        /// From that: a seq of the group's log.
        at: Seq,
    },
    /// The user was added and is to be no member: by somebody whom they have blocked, or in too many groups already.
    Declined {
        /// From that: a seq of the group's log.
        at: Seq,
        /// From where up to where the user's log says that they may read the group; zero: it knows nothing of it.
        reads: (Seq, Seq),
    },
    /// It can not be taken now: it, or a newer one, is to be sent again later.
    StandPutOff {
        /// From that: a seq of the group's log.
        at: Seq,
    },
    /// There are messages in a group of which a member wants to be notified, from the home of the group to that of the user. Told again
    /// until it is taken.
    Reached {
        /// The last of them: a seq of the group's log.
        up_to: Seq,
    },
    /// The user's log says so, durably; or the user is no member by it.
    ReachedTaken {
        /// From that.
        up_to: Seq,
        /// Whether a device of the user is subscribed. If not, there is nothing to tell of any more.
        is_subscribed: bool,
    },
}

/// How a user stands to a group, and what of its log they may read since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStanding {
    /// How.
    pub standing: Standing,
    /// The first seq that the user may read.
    pub first: Seq,
    /// The last seq of the group's log, or of those that the user may read.
    pub up_to: Seq,
}

/// Whether the journal takes new messages. What was accepted before goes on in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// There is room.
    #[default]
    Open,
    /// Ingestion is behind: the journal has reached its bound.
    Behind,
    /// The disk is full.
    Full,
    /// The store is away, and the operator wants no message that it does not take.
    Outage,
    /// A write or sync failed: nothing more will be made durable by this process.
    Failed,
}

/// Whether the store takes what the journal has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// It does: what is durable in the journal counts as committed.
    #[default]
    Present,
    /// It refused, or could not be reached: what is durable in the journal is durable on this disk and no more.
    Away,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection passed the handshake and is now this core's.
    Connected(Connected),
    /// Bytes of an accepted connection, in any cut.
    Bytes {
        /// Which connection.
        conn: ConnId,
        /// Valid during this call.
        bytes: &'a [u8],
    },
    /// The kernel took bytes that [`super::Effects`] had queued.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// How many bytes.
        bytes: usize,
    },
    /// The peer or the network closed the connection. Not reported for connections that the shard closed.
    Disconnected {
        /// Which connection.
        conn: ConnId,
    },
    /// The token of a [`super::Refresh`] is good. Each refresh is answered by this or the next, whatever became of its connection.
    Refreshed {
        /// Which connection.
        conn: ConnId,
        /// What the token grants.
        grant: Grant,
    },
    /// The token of a [`super::Refresh`] is not good.
    RefreshRefused {
        /// Which connection.
        conn: ConnId,
        /// Why.
        code: ErrorCode,
        /// For the developer; without anything of the token.
        detail: &'a str,
    },
    /// Tokens of a user whose home is here have been revoked. Connections that come later are the rim's to refuse.
    Revoked {
        /// Whose.
        user: UserId,
        /// On which device; none: on all.
        device: Option<DeviceId>,
        /// Those that were issued up to here.
        issued_up_to: TimestampMs,
    },
    /// The operator asks about the devices of a user whose home is here. Each ticket is answered once.
    Devices {
        /// The question.
        ticket: Ticket,
        /// Whose devices.
        user: UserId,
        /// What is wanted.
        wish: DevicesWish,
    },
    /// The push service has no room for a notice.
    NotTaken(Box<push::Notice>),
    /// A notice of this shard has ended. Each that was taken is answered once.
    Notified {
        /// The notice.
        notice: Box<push::Notice>,
        /// How.
        outcome: push::Outcome,
    },
    /// The operator asks why a user whose home is here was or was not notified. Each ticket is answered once.
    Why {
        /// The question.
        ticket: Ticket,
        /// Of what.
        about: PushQuestion,
    },
    /// Another shard, or this one, says something about a user whose home is here.
    Envelope(Envelope),
    /// Another core says something about a group.
    Group(Box<GroupMail>),
    /// Left over from before a restart: this group has users to tell how they stand to it.
    UnfinishedGroup(GroupId),
    /// Another core says something about presence. Of another node's core only what is its own to say, of users of that node.
    Presence(Box<PresenceMail>),
    /// What waited for the batches of this lane, up to this one, may leave: they are on the disk, and that is what
    /// acknowledgements wait for now.
    Released {
        /// Which of the shard's lanes.
        lane: LaneId,
        /// The last of them.
        up_to: BatchId,
    },
    /// Every batch of this lane up to this one is in the store: queries see it.
    Stored {
        /// Which of the shard's lanes.
        lane: LaneId,
        /// The last stored batch.
        up_to: BatchId,
    },
    /// The store's answer to a query of this shard. `None`: the store could not be read, after retries.
    Answer {
        /// Which query.
        query: QueryId,
        /// What it says.
        answer: Option<Answer>,
    },
    /// The journal's admission changed.
    Admission(Admission),
    /// The store went away or came back.
    Store(StoreState),
    /// A node of the cluster can be reached from now on, or can not any more: what was on the way there, or from there, may be lost.
    Link {
        /// Which node.
        node: NodeId,
        /// Of its link: later ones have higher numbers.
        serial: u64,
        /// Whether it can be reached.
        is_up: bool,
    },
    /// Something else is known of the other nodes and of who owns what, where that can change.
    Owners(Arc<Nodes>),
    /// The core keeps up, or does not.
    Load(Load),
    /// Left over from before a restart: this user has messages to forward or receipts to report.
    Unfinished(UserId),
    /// Time has passed. At least every [`crate::limits::TICK_MS`] milliseconds.
    Tick,
    /// Stop taking sends and connections; what is parked is still released.
    Drain,
}
