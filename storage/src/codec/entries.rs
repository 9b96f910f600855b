//! The entries of users' logs, in a record and in a row.

use super::*;

/// An entry without its seq, in a record and in a row.
// The time stands first: `timeline_time` reads it alone.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredEntry<'a> {
    time: u64,
    pub(crate) event: StoredEvent<'a>,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum StoredEvent<'a> {
    Received { from: u64, origin: u64, content: StoredContent<'a> },
    Sent { to: u64, device: u64, number: u64, content: StoredContent<'a> },
    Delivered { peer: u64, up_to: u64 },
    Unknown { kind: u8 },
    Read { peer: u64, up_to: u64, unread: u64, told: u64 },
    Seen { peer: u64, up_to: u64 },
    Settings { peer: u64, settings: u64 },
    Devices { removed: u64, why: StoredRemoval, devices: StoredIds<'a> },
    Deleted { peer: u64, author: u64, author_seq: u64, place: u64, unread: u64 },
    Visibility { visibility: u64 },
    SentToGroup { group: u64, device: u64, number: u64, content: StoredContent<'a> },
    Group { group: u64, standing: u8, first: u64, up_to: u64, sent_up_to: u64 },
    GroupRefused { group: u64, origin: u64, code: u16 },
    GroupRead { group: u64, up_to: u64, unread: u64, told: u64 },
    GroupSettings { group: u64, settings: u64 },
    GroupDeleted { group: u64, author: u64, author_seq: u64, place: u64, unread: u64 },
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum StoredRemoval {
    User,
    Room,
    Operator,
}

impl From<Removal> for StoredRemoval {
    fn from(why: Removal) -> Self {
        match why {
            Removal::User => Self::User,
            Removal::Room => Self::Room,
            Removal::Operator => Self::Operator,
        }
    }
}

impl From<StoredRemoval> for Removal {
    fn from(why: StoredRemoval) -> Self {
        match why {
            StoredRemoval::User => Self::User,
            StoredRemoval::Room => Self::Room,
            StoredRemoval::Operator => Self::Operator,
        }
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredContent<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

impl StoredContent<'_> {
    /// The name of the message that it is about.
    pub(crate) fn about(&self) -> Option<MessageName> {
        // Nearly all content is a message: its body is not looked at.
        if ContentKind::from_byte(self.kind).is_none_or(ContentKind::is_message) {
            return None;
        }
        Content::from_parts(self.kind, self.body.into()).about().map(|(name, _)| name)
    }
}

impl<'a> From<&'a Entry> for StoredEntry<'a> {
    fn from(entry: &'a Entry) -> Self {
        let event = match &entry.event {
            Event::Received { from, origin, content } => {
                StoredEvent::Received { from: from.0, origin: origin.0, content: content.into() }
            }
            Event::Sent { to: ConversationId::Person(to), device, number, content } => {
                StoredEvent::Sent { to: to.0, device: device.0, number: number.0, content: content.into() }
            }
            Event::Sent { to: ConversationId::Group(group), device, number, content } => {
                StoredEvent::SentToGroup { group: group.0, device: device.0, number: number.0, content: content.into() }
            }
            Event::Delivered { peer, up_to } => StoredEvent::Delivered { peer: peer.0, up_to: up_to.0 },
            Event::Read { conversation: ConversationId::Person(peer), up_to, unread, told } => {
                StoredEvent::Read { peer: peer.0, up_to: up_to.0, unread: *unread, told: told.0 }
            }
            Event::Read { conversation: ConversationId::Group(group), up_to, unread, told } => {
                StoredEvent::GroupRead { group: group.0, up_to: up_to.0, unread: *unread, told: told.0 }
            }
            Event::Seen { peer, up_to } => StoredEvent::Seen { peer: peer.0, up_to: up_to.0 },
            Event::Settings { conversation: ConversationId::Person(peer), settings } => {
                StoredEvent::Settings { peer: peer.0, settings: settings.bits() }
            }
            Event::Settings { conversation: ConversationId::Group(group), settings } => {
                StoredEvent::GroupSettings { group: group.0, settings: settings.bits() }
            }
            Event::Deleted { conversation: ConversationId::Person(peer), of, place, unread } => StoredEvent::Deleted {
                peer: peer.0,
                author: of.author.0,
                author_seq: of.seq.0,
                place: place.0,
                unread: *unread,
            },
            Event::Deleted { conversation: ConversationId::Group(group), of, place, unread } => {
                StoredEvent::GroupDeleted {
                    group: group.0,
                    author: of.author.0,
                    author_seq: of.seq.0,
                    place: place.0,
                    unread: *unread,
                }
            }
            Event::Group { group, standing, first, up_to, sent_up_to } => StoredEvent::Group {
                group: group.0,
                standing: standing.byte(),
                first: first.0,
                up_to: up_to.0,
                sent_up_to: sent_up_to.0,
            },
            Event::GroupRefused { group, origin, code } => {
                StoredEvent::GroupRefused { group: group.0, origin: origin.0, code: code.number() }
            }
            Event::Visibility { visibility } => StoredEvent::Visibility { visibility: visibility.bits() },
            Event::Unknown { kind } => StoredEvent::Unknown { kind: *kind },
            Event::Devices { removed, why, devices } => {
                StoredEvent::Devices { removed: removed.0, why: (*why).into(), devices: StoredIds::Ids(devices) }
            }
        };
        Self { time: entry.time.0, event }
    }
}

impl StoredEntry<'_> {
    pub(super) fn into_entry(self, seq: Seq) -> Entry {
        let event = match self.event {
            StoredEvent::Received { from, origin, content } => {
                Event::Received { from: UserId(from), origin: Seq(origin), content: content.into() }
            }
            StoredEvent::Sent { to, device, number, content } => Event::Sent {
                to: UserId(to).into(),
                device: DeviceId(device),
                number: SendNumber(number),
                content: content.into(),
            },
            StoredEvent::Delivered { peer, up_to } => Event::Delivered { peer: UserId(peer), up_to: Seq(up_to) },
            StoredEvent::Read { peer, up_to, unread, told } => {
                Event::Read { conversation: UserId(peer).into(), up_to: Seq(up_to), unread, told: Seq(told) }
            }
            StoredEvent::Seen { peer, up_to } => Event::Seen { peer: UserId(peer), up_to: Seq(up_to) },
            StoredEvent::Settings { peer, settings } => {
                Event::Settings { conversation: UserId(peer).into(), settings: Settings::from_bits(settings) }
            }
            StoredEvent::Deleted { peer, author, author_seq, place, unread } => Event::Deleted {
                conversation: UserId(peer).into(),
                of: MessageName { author: UserId(author), seq: Seq(author_seq) },
                place: Seq(place),
                unread,
            },
            StoredEvent::SentToGroup { group, device, number, content } => Event::Sent {
                to: GroupId(group).into(),
                device: DeviceId(device),
                number: SendNumber(number),
                content: content.into(),
            },
            StoredEvent::Group { group, standing, first, up_to, sent_up_to } => Event::Group {
                group: GroupId(group),
                standing: standing_of(standing),
                first: Seq(first),
                up_to: Seq(up_to),
                sent_up_to: Seq(sent_up_to),
            },
            StoredEvent::GroupRefused { group, origin, code } => {
                Event::GroupRefused { group: GroupId(group), origin: Seq(origin), code: ErrorCode::from_number(code) }
            }
            StoredEvent::GroupRead { group, up_to, unread, told } => {
                Event::Read { conversation: GroupId(group).into(), up_to: Seq(up_to), unread, told: Seq(told) }
            }
            StoredEvent::GroupSettings { group, settings } => {
                Event::Settings { conversation: GroupId(group).into(), settings: Settings::from_bits(settings) }
            }
            StoredEvent::GroupDeleted { group, author, author_seq, place, unread } => Event::Deleted {
                conversation: GroupId(group).into(),
                of: MessageName { author: UserId(author), seq: Seq(author_seq) },
                place: Seq(place),
                unread,
            },
            StoredEvent::Visibility { visibility } => {
                Event::Visibility { visibility: Visibility::from_bits(visibility) }
            }
            StoredEvent::Unknown { kind } => Event::Unknown { kind },
            StoredEvent::Devices { removed, why, devices } => {
                Event::Devices { removed: DeviceId(removed), why: why.into(), devices: devices.into() }
            }
        };
        Entry { seq, time: TimestampMs(self.time), event }
    }
}

impl<'a> From<&'a Content> for StoredContent<'a> {
    fn from(content: &'a Content) -> Self {
        let (kind, body) = content.parts();
        Self { kind, body }
    }
}

impl From<StoredContent<'_>> for Content {
    fn from(stored: StoredContent<'_>) -> Self {
        Self::from_parts(stored.kind, stored.body.into())
    }
}
