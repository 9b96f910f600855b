//! Entries of a user's log as they travel in `deliver` and `page` frames (SPEC 5).

use crate::{
    content::Content,
    ids::{ConversationId, DeviceId, SendNumber, Seq, TimestampMs, UserId},
    listed::listed,
    wire::{DecodeError, Reader, put_varint},
};

listed! {
    /// Kinds of entries that this version knows (SPEC 5).
    EntryKind {
        /// Somebody wrote to this user.
        Received = 1 "received",
        /// This user wrote.
        Sent = 2 "sent",
        /// A device of a peer has what this user sent.
        Delivered = 3 "delivered",
    }
}

/// What happened, as one user's log tells it (SPEC 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wrote to this user.
    Received {
        /// Who wrote.
        from: UserId,
        /// The message's seq in the writer's log: (from, origin) names the message for ever.
        origin: Seq,
        /// What was written.
        content: Content,
    },
    /// This user wrote to somebody, or a note to self.
    Sent {
        /// To whom.
        to: ConversationId,
        /// From which of the user's devices.
        device: DeviceId,
        /// That device's number of the send.
        number: SendNumber,
        /// What was written.
        content: Content,
    },
    /// A device of `peer` has acknowledged everything that this user sent to `peer` up to `up_to`. Supersedes the
    /// earlier such entry of the same peer.
    Delivered {
        /// Who received.
        peer: UserId,
        /// A seq of this user's own log.
        up_to: Seq,
    },
    /// An entry of a newer version: it has a place in the log and nothing that this version understands. Its fields are
    /// not kept.
    Unknown {
        /// The kind on the wire, never one of [`EntryKind`].
        kind: u8,
    },
}

impl Event {
    /// The kind byte on the wire (SPEC 5).
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Received { .. } => EntryKind::Received.byte(),
            Self::Sent { to: ConversationId::Person(_), .. } => EntryKind::Sent.byte(),
            Self::Delivered { .. } => EntryKind::Delivered.byte(),
            Self::Unknown { kind } => *kind,
        }
    }

    /// The conversation that this entry is a message of, if it is one.
    #[must_use]
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Received { from, .. } => Some(ConversationId::Person(*from)),
            Self::Sent { to, .. } => Some(*to),
            Self::Delivered { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// One entry of a user's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub seq: Seq,
    /// When the server numbered it; never decreases within a log.
    pub time: TimestampMs,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// Appends kind, seq, time and the fields of the kind.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.event.kind());
        put_varint(out, self.seq.0);
        put_varint(out, self.time.0);
        match &self.event {
            Event::Received { from, origin, content } => {
                put_varint(out, from.0);
                put_varint(out, origin.0);
                content.encode(out);
            }
            Event::Sent { to: ConversationId::Person(to), device, number, content } => {
                put_varint(out, to.0);
                put_varint(out, device.0);
                put_varint(out, number.0);
                content.encode(out);
            }
            Event::Delivered { peer, up_to } => {
                put_varint(out, peer.0);
                put_varint(out, up_to.0);
            }
            Event::Unknown { .. } => {}
        }
    }

    /// Reads an entry that fills `bytes`. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The bytes end inside a field, or a field is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8("entry_kind")?;
        let seq = Seq(reader.varint("seq")?);
        let time = TimestampMs(reader.varint("time")?);
        let event = match EntryKind::from_byte(kind) {
            Some(EntryKind::Received) => Event::Received {
                from: UserId(reader.varint("from")?),
                origin: Seq(reader.varint("origin")?),
                content: Content::decode(&mut reader)?,
            },
            Some(EntryKind::Sent) => Event::Sent {
                to: ConversationId::Person(UserId(reader.varint("to")?)),
                device: DeviceId(reader.varint("device")?),
                number: SendNumber(reader.varint("number")?),
                content: Content::decode(&mut reader)?,
            },
            Some(EntryKind::Delivered) => {
                Event::Delivered { peer: UserId(reader.varint("peer")?), up_to: Seq(reader.varint("up_to")?) }
            }
            None => Event::Unknown { kind },
        };
        Ok(Self { seq, time, event })
    }
}
