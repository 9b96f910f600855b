//! Entries of a user's log as they travel in `deliver` and `page` frames (SPEC 5).

use crate::{
    code::ErrorCode,
    content::{Content, MessageName},
    device::{self, Removal},
    group::{self, Standing},
    ids::{ConversationId, DeviceId, GroupId, SendNumber, Seq, TimestampMs, UserId},
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
        /// This user wrote to a group, which has not numbered it yet.
        SentToGroup = 9 "sent_to_group",
        /// A device of this user was removed.
        Devices = 10 "devices",
        /// How this user stands to a group, and how far that has come.
        Group = 11 "group",
        /// A group has not taken what this user sent.
        GroupRefused = 12 "group_refused",
        /// This user has read a group.
        GroupRead = 13 "group_read",
        /// How this user keeps a group.
        GroupSettings = 14 "group_settings",
        /// This user has deleted a message of a group for themselves.
        GroupDeleted = 15 "group_deleted",
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
        /// Of a group only messages that name the user are announced.
        MENTIONS_ONLY = 16,
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
    /// This user has read a conversation, on whichever device. Supersedes the earlier such entry of the same conversation. Of a group
    /// nothing stands behind `up_to`: its members count what they have not read, and are not told.
    Read {
        /// Which one.
        conversation: ConversationId,
        /// Everything in it up to this seq of the own log; of a group, of the group's log.
        up_to: Seq,
        /// Messages received in it after that: exact up to [`UNREAD_MAX`](crate::limits::UNREAD_MAX), and what is above means
        /// "many". Zero for a group.
        unread: u64,
        /// A seq of the other side's log: what they sent up to there is read, and they are told so. Zero: they are not told, as
        /// for a group.
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
    /// This user has deleted a message for themselves. Supersedes all entries that told of it. Of a group it says the place alone: the
    /// message stays in the group's log, and who shows that leaves it out.
    Deleted {
        /// In which conversation.
        conversation: ConversationId,
        /// Which message. In a group its author is not told, and is zero.
        of: MessageName,
        /// Where it stood; in a group, its seq in the group's log.
        place: Seq,
        /// Messages received in the conversation that are not read: as in [`Event::Read`]. Zero for a group.
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
    /// How this user stands to a group, and how far that has come. Supersedes the earlier such entry of the same group, and what this
    /// user sent to it up to `sent_up_to`.
    Group {
        /// Which.
        group: GroupId,
        /// How the user stands to it.
        standing: Standing,
        /// The first seq of the group's log that the user may read, since they are a member.
        first: Seq,
        /// The last seq of the group's log when this was written, or of those that the user may read.
        up_to: Seq,
        /// What the user sent to the group up to this seq of the own log has been numbered there, or was refused.
        sent_up_to: Seq,
    },
    /// A group has not taken what this user sent. Supersedes what was sent.
    GroupRefused {
        /// Which.
        group: GroupId,
        /// What was sent: its seq in the own log.
        origin: Seq,
        /// Why.
        code: ErrorCode,
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
            Self::Sent { to: ConversationId::Group(_), .. } => EntryKind::SentToGroup.byte(),
            Self::Delivered { .. } => EntryKind::Delivered.byte(),
            Self::Read { conversation: ConversationId::Person(_), .. } => EntryKind::Read.byte(),
            Self::Read { conversation: ConversationId::Group(_), .. } => EntryKind::GroupRead.byte(),
            Self::Seen { .. } => EntryKind::Seen.byte(),
            Self::Settings { conversation: ConversationId::Person(_), .. } => EntryKind::Settings.byte(),
            Self::Settings { conversation: ConversationId::Group(_), .. } => EntryKind::GroupSettings.byte(),
            Self::Deleted { conversation: ConversationId::Person(_), .. } => EntryKind::Deleted.byte(),
            Self::Deleted { conversation: ConversationId::Group(_), .. } => EntryKind::GroupDeleted.byte(),
            Self::Visibility { .. } => EntryKind::Visibility.byte(),
            Self::Devices { .. } => EntryKind::Devices.byte(),
            Self::Group { .. } => EntryKind::Group.byte(),
            Self::GroupRefused { .. } => EntryKind::GroupRefused.byte(),
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
            | Self::Group { .. }
            | Self::GroupRefused { .. }
            | Self::Read { .. }
            | Self::Seen { .. }
            | Self::Settings { .. }
            | Self::Visibility { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// The conversation in which this was said, if it is a message or about one. What was sent to a group is none of this log's messages:
    /// those of a group are in its own log.
    #[must_use]
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Received { from, .. } => Some(ConversationId::Person(*from)),
            Self::Sent { to: to @ ConversationId::Person(_), .. } => Some(*to),
            Self::Sent { to: ConversationId::Group(_), .. }
            | Self::Delivered { .. }
            | Self::Deleted { .. }
            | Self::Devices { .. }
            | Self::Group { .. }
            | Self::GroupRefused { .. }
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
        self.event.conversation()?;
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

    /// Where the message stands in the own log that it is, changes, reacts to or deletes, if that is known.
    #[must_use]
    pub fn concerns(&self) -> Option<Seq> {
        match &self.event {
            Event::Deleted { conversation: ConversationId::Person(_), place, .. } => Some(*place),
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
            Event::Sent { to, device, number, content } => {
                put_peer(out, *to);
                put_varint(out, device.0);
                put_varint(out, number.0);
                content.encode(out);
            }
            Event::Delivered { peer, up_to } => {
                put_varint(out, peer.0);
                put_varint(out, up_to.0);
            }
            Event::Read { conversation, up_to, unread, told } => {
                put_peer(out, *conversation);
                put_varint(out, up_to.0);
                if matches!(conversation, ConversationId::Person(_)) {
                    put_varint(out, *unread);
                    put_varint(out, told.0);
                }
            }
            Event::Seen { peer, up_to } => {
                put_varint(out, peer.0);
                put_varint(out, up_to.0);
            }
            Event::Settings { conversation, settings } => {
                put_peer(out, *conversation);
                put_varint(out, settings.bits());
            }
            Event::Deleted { conversation, of, place, unread } => {
                put_peer(out, *conversation);
                if matches!(conversation, ConversationId::Person(_)) {
                    of.encode(out);
                    put_varint(out, place.0);
                    put_varint(out, *unread);
                } else {
                    put_varint(out, place.0);
                }
            }
            Event::Visibility { visibility } => put_varint(out, visibility.bits()),
            Event::Devices { removed, why, devices } => {
                put_varint(out, removed.0);
                out.push(why.byte());
                device::put_ids(out, devices);
            }
            Event::Group { group, standing, first, up_to, sent_up_to } => {
                put_varint(out, group.0);
                out.push(standing.byte());
                for seq in [first, up_to, sent_up_to] {
                    put_varint(out, seq.0);
                }
            }
            Event::GroupRefused { group, origin, code } => {
                for value in [group.0, origin.0, code.number().into()] {
                    put_varint(out, value);
                }
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
            Some(of @ (EntryKind::Sent | EntryKind::SentToGroup)) => Event::Sent {
                to: peer(&mut reader, of == EntryKind::SentToGroup, "to")?,
                device: DeviceId(reader.varint("device")?),
                number: SendNumber(reader.varint("number")?),
                content: Content::decode(&mut reader)?,
            },
            Some(EntryKind::Delivered) => {
                Event::Delivered { peer: UserId(reader.varint("peer")?), up_to: Seq(reader.varint("up_to")?) }
            }
            Some(EntryKind::Read) => Event::Read {
                conversation: UserId(reader.varint("peer")?).into(),
                up_to: Seq(reader.varint("up_to")?),
                unread: reader.varint("unread")?,
                told: Seq(reader.varint("told")?),
            },
            Some(EntryKind::GroupRead) => Event::Read {
                conversation: GroupId(reader.varint("group")?).into(),
                up_to: Seq(reader.varint("up_to")?),
                unread: 0,
                told: Seq::ZERO,
            },
            Some(EntryKind::Seen) => {
                Event::Seen { peer: UserId(reader.varint("peer")?), up_to: Seq(reader.varint("up_to")?) }
            }
            Some(of @ (EntryKind::Settings | EntryKind::GroupSettings)) => Event::Settings {
                conversation: peer(&mut reader, of == EntryKind::GroupSettings, "peer")?,
                settings: Settings::from_bits(reader.varint("settings")?),
            },
            Some(EntryKind::Deleted) => Event::Deleted {
                conversation: UserId(reader.varint("peer")?).into(),
                of: MessageName::decode(&mut reader)?,
                place: Seq(reader.varint("place")?),
                unread: reader.varint("unread")?,
            },
            Some(EntryKind::GroupDeleted) => {
                let (conversation, place) = (GroupId(reader.varint("group")?).into(), Seq(reader.varint("place")?));
                Event::Deleted { conversation, of: MessageName { author: UserId(0), seq: place }, place, unread: 0 }
            }
            Some(EntryKind::Visibility) => {
                Event::Visibility { visibility: Visibility::from_bits(reader.varint("visibility")?) }
            }
            Some(EntryKind::Devices) => Event::Devices {
                removed: DeviceId(reader.varint("removed")?),
                why: reader.listed("why", Removal::from_byte)?,
                devices: device::ids(&mut reader)?,
            },
            Some(EntryKind::Group) => Event::Group {
                group: GroupId(reader.varint("group")?),
                standing: group::standing(&mut reader)?,
                first: Seq(reader.varint("first")?),
                up_to: Seq(reader.varint("up_to")?),
                sent_up_to: Seq(reader.varint("sent_up_to")?),
            },
            Some(EntryKind::GroupRefused) => Event::GroupRefused {
                group: GroupId(reader.varint("group")?),
                origin: Seq(reader.varint("origin")?),
                code: ErrorCode::read(&mut reader)?,
            },
            None => Event::Unknown { kind },
        };
        Ok(Self { seq, time, event })
    }
}

/// The user or the group of a conversation: the kind of the entry says which.
fn put_peer(out: &mut Vec<u8>, conversation: ConversationId) {
    match conversation {
        ConversationId::Person(UserId(id)) | ConversationId::Group(GroupId(id)) => put_varint(out, id),
    }
}

/// Reads it. In the entry of a group the field has the group's name.
fn peer(reader: &mut Reader<'_>, is_group: bool, field: &'static str) -> Result<ConversationId, DecodeError> {
    if is_group { Ok(GroupId(reader.varint("group")?).into()) } else { Ok(UserId(reader.varint(field)?).into()) }
}
