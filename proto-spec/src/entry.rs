//! Entries of a user's log as they travel in `deliver` and `page` frames (SPEC 5).

use crate::{
    content::{Content, MessageName},
    device::{self, Removal},
    ids::{ConversationId, DeviceId, SendNumber, Seq, TimestampMs, UserId},
    listed::{bits, listed},
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
        /// This user has read a conversation.
        Read = 4 "read",
        /// A peer has read what this user sent.
        Seen = 5 "seen",
        /// How this user keeps a conversation.
        Settings = 6 "settings",
        /// This user has deleted a message for themselves.
        Deleted = 7 "deleted",
        /// What this user hides of their presence.
        Visibility = 8 "visibility",
        /// A device of this user was removed.
        Devices = 10 "devices",
    }
}

bits! {
    /// How a user keeps a conversation (SPEC 5.7). What a newer version has beside these is kept as it is.
    Settings {
        /// Its messages are not announced.
        MUTED = 1,
        /// It is put away until somebody looks for it.
        ARCHIVED = 2,
        /// It stands above the others.
        PINNED = 4,
        /// What the other side sends is not taken.
        BLOCKED = 8,
    }
}

bits! {
    /// What a user hides of their presence (SPEC 5.10). What a newer version has beside these is kept as it is.
    Visibility {
        /// Nobody sees whether the user is there.
        INVISIBLE = 1,
        /// Nobody sees when they were last there.
        HIDE_LAST_SEEN = 2,
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
    /// This user has read a conversation, on whichever device. Supersedes the earlier such entry of the same conversation.
    Read {
        /// Which one.
        conversation: ConversationId,
        /// Everything in it up to this seq of the own log.
        up_to: Seq,
        /// Messages received in it after that: exact up to [`UNREAD_MAX`](crate::limits::UNREAD_MAX), and what is above means
        /// "many".
        unread: u64,
        /// A seq of the other side's log: what they sent up to there is read, and they are told so. Zero: they are not told.
        told: Seq,
    },
    /// `peer` has read everything that this user sent to `peer` up to `up_to`. Supersedes the earlier such entry of the
    /// same peer.
    Seen {
        /// Who has read.
        peer: UserId,
        /// A seq of this user's own log.
        up_to: Seq,
    },
    /// How this user keeps a conversation. Supersedes the earlier such entry of the same conversation.
    Settings {
        /// Which one.
        conversation: ConversationId,
        /// All of them.
        settings: Settings,
    },
    /// This user has deleted a message for themselves. Supersedes all entries that told of it.
    Deleted {
        /// In which conversation.
        conversation: ConversationId,
        /// Which message.
        of: MessageName,
        /// Where it stood.
        place: Seq,
        /// Messages received in the conversation that are not read: as in [`Event::Read`].
        unread: u64,
    },
    /// What this user hides of their presence. Supersedes the earlier such entry.
    Visibility {
        /// All of it.
        visibility: Visibility,
    },
    /// A device of this user was removed. Supersedes the earlier such entry.
    Devices {
        /// Which one.
        removed: DeviceId,
        /// Why.
        why: Removal,
        /// All that the user has now, by ascending id.
        devices: Vec<DeviceId>,
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
            Self::Read { conversation: ConversationId::Person(_), .. } => EntryKind::Read.byte(),
            Self::Seen { .. } => EntryKind::Seen.byte(),
            Self::Settings { conversation: ConversationId::Person(_), .. } => EntryKind::Settings.byte(),
            Self::Deleted { conversation: ConversationId::Person(_), .. } => EntryKind::Deleted.byte(),
            Self::Visibility { .. } => EntryKind::Visibility.byte(),
            Self::Devices { .. } => EntryKind::Devices.byte(),
            Self::Unknown { kind } => *kind,
        }
    }

    /// What was said, if it is a message or about one.
    #[must_use]
    pub const fn content(&self) -> Option<&Content> {
        match self {
            Self::Received { content, .. } | Self::Sent { content, .. } => Some(content),
            Self::Delivered { .. }
            | Self::Deleted { .. }
            | Self::Devices { .. }
            | Self::Read { .. }
            | Self::Seen { .. }
            | Self::Settings { .. }
            | Self::Visibility { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// The conversation in which this was said, if it is a message or about one.
    #[must_use]
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Received { from, .. } => Some(ConversationId::Person(*from)),
            Self::Sent { to, .. } => Some(*to),
            Self::Delivered { .. }
            | Self::Deleted { .. }
            | Self::Devices { .. }
            | Self::Read { .. }
            | Self::Seen { .. }
            | Self::Settings { .. }
            | Self::Visibility { .. }
            | Self::Unknown { .. } => None,
        }
    }
}

impl Entry {
    /// Where it is shown as a message of its conversation: at its own seq, or where the message stands that it changes. None: nowhere.
    #[must_use]
    pub fn place(&self) -> Option<Seq> {
        match self.event.content()? {
            Content::Reaction(_) => None,
            content if content.is_message() => Some(self.seq),
            // Whoever changes a message of their own names it by its place.
            content if matches!(self.event, Event::Sent { .. }) => content.about().map(|(name, _)| name.seq),
            content => content.about()?.1.map(|stands| stands.place),
        }
    }

    /// Whether it says what somebody feels about a message.
    #[must_use]
    pub const fn is_reaction(&self) -> bool {
        matches!(self.event.content(), Some(Content::Reaction(_)))
    }

    /// Whether it says that a message was taken back.
    #[must_use]
    pub const fn is_unsend(&self) -> bool {
        matches!(self.event.content(), Some(Content::Unsend(_)))
    }

    /// Where the message stands that it is, changes, reacts to or deletes, if that is known.
    #[must_use]
    pub fn concerns(&self) -> Option<Seq> {
        match &self.event {
            Event::Deleted { place, .. } => Some(*place),
            event if self.is_reaction() => event.content()?.about()?.1.map(|stands| stands.place),
            _ => self.place(),
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
            Event::Read { conversation: ConversationId::Person(peer), up_to, unread, told } => {
                put_varint(out, peer.0);
                put_varint(out, up_to.0);
                put_varint(out, *unread);
                put_varint(out, told.0);
            }
            Event::Seen { peer, up_to } => {
                put_varint(out, peer.0);
                put_varint(out, up_to.0);
            }
            Event::Settings { conversation: ConversationId::Person(peer), settings } => {
                put_varint(out, peer.0);
                put_varint(out, settings.bits());
            }
            Event::Deleted { conversation: ConversationId::Person(peer), of, place, unread } => {
                put_varint(out, peer.0);
                of.encode(out);
                put_varint(out, place.0);
                put_varint(out, *unread);
            }
            Event::Visibility { visibility } => put_varint(out, visibility.bits()),
            Event::Devices { removed, why, devices } => {
                put_varint(out, removed.0);
                out.push(why.byte());
                device::put_ids(out, devices);
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
            Some(EntryKind::Read) => Event::Read {
                conversation: ConversationId::Person(UserId(reader.varint("peer")?)),
                up_to: Seq(reader.varint("up_to")?),
                unread: reader.varint("unread")?,
                told: Seq(reader.varint("told")?),
            },
            Some(EntryKind::Seen) => {
                Event::Seen { peer: UserId(reader.varint("peer")?), up_to: Seq(reader.varint("up_to")?) }
            }
            Some(EntryKind::Settings) => Event::Settings {
                conversation: ConversationId::Person(UserId(reader.varint("peer")?)),
                settings: Settings::from_bits(reader.varint("settings")?),
            },
            Some(EntryKind::Deleted) => Event::Deleted {
                conversation: ConversationId::Person(UserId(reader.varint("peer")?)),
                of: MessageName::decode(&mut reader)?,
                place: Seq(reader.varint("place")?),
                unread: reader.varint("unread")?,
            },
            Some(EntryKind::Visibility) => {
                Event::Visibility { visibility: Visibility::from_bits(reader.varint("visibility")?) }
            }
            Some(EntryKind::Devices) => Event::Devices {
                removed: DeviceId(reader.varint("removed")?),
                why: reader.listed("why", Removal::from_byte)?,
                devices: device::ids(&mut reader)?,
            },
            None => Event::Unknown { kind },
        };
        Ok(Self { seq, time, event })
    }
}
