//! Groups (SPEC 4.43 to 4.46, 5.12, 5.17 and 8.12): the entries of a group's log, its members, and how a user stands to one.

use crate::{
    content::Content,
    entry::Settings,
    frame::flag,
    ids::{GroupId, RequestId, Seq, TimestampMs, UserId},
    listed::{bits, listed},
    wire::{DecodeError, Reader, put_bytes, put_sized, put_varint},
};

listed! {
    /// What a member may do (SPEC 8.12). Ordered: a later one may do all that an earlier one may.
    #[derive(PartialOrd, Ord)]
    Role {
        /// Reads, and does what the rules allow to all.
        Member = 1 "member",
        /// Does what the rules allow to admins, and removes members.
        Admin = 2 "admin",
        /// Makes admins, changes the rules, hands the group over or ends it. There is one.
        Owner = 3 "owner",
    }
}

listed! {
    /// How a user stands to a group (SPEC 5.12).
    #[derive(Default)]
    Standing {
        /// As of a newer version. Counts as not being a member.
        #[default]
        Unknown = 0 "unknown",
        /// Is a member.
        Member = 1 "member",
        /// Has left.
        Left = 2 "left",
        /// Was removed.
        Removed = 3 "removed",
        /// Was removed, and is not let in again.
        Banned = 4 "banned",
    }
}

impl Standing {
    /// Whether somebody who stands so is a member (SPEC 5.12).
    #[must_use]
    pub const fn is_member(self) -> bool {
        matches!(self, Self::Member)
    }
}

bits! {
    /// Who may do what in a group, and what newcomers see (SPEC 5.4.8). What a newer version has beside these is kept as it is.
    Rules {
        /// Only admins add members.
        ADMINS_ADD = 1,
        /// Only admins write.
        ADMINS_POST = 2,
        /// Only admins change name and picture.
        ADMINS_DESCRIBE = 4,
        /// Newcomers see what was before they came.
        HISTORY = 8,
    }
}

/// One entry of a group's log (SPEC 5.17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its position in the group's log: 1, 2, 3, ...
    pub seq: Seq,
    /// When the server numbered it; never decreases within a log.
    pub time: TimestampMs,
    /// Who has written, or done something to the group.
    pub from: UserId,
    /// Its seq in the log of `from`, under which it was accepted.
    pub origin: Seq,
    /// How many messages the log has had up to here, with this one.
    pub messages: u64,
    /// What was written or done.
    pub content: Content,
}

impl GroupEntry {
    /// Where it is shown as a message: at its own seq, or where the message stands that it changes. None: it is a reaction or an act.
    #[must_use]
    pub fn place(&self) -> Option<Seq> {
        match &self.content {
            content if content.is_message() => Some(self.seq),
            Content::Reaction(_) => None,
            // A message of a group is named by its seq in the group's log, which is where it stands.
            content => content.about().map(|(name, _)| name.seq),
        }
    }

    /// Appends its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.seq.0, self.time.0, self.from.0, self.origin.0, self.messages] {
            put_varint(out, value);
        }
        self.content.encode(out);
    }

    /// Reads an entry that fills `bytes`. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The bytes end inside a field, or a field is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seq: Seq(r.varint("seq")?),
            time: TimestampMs(r.varint("time")?),
            from: UserId(r.varint("from")?),
            origin: Seq(r.varint("origin")?),
            messages: r.varint("messages")?,
            content: Content::decode(r)?,
        })
    }
}

/// Bytes of the smallest entry of a group with its length: five varints, and a content without a body.
const ENTRY_BYTES_MIN: usize = 8;

/// A run of entries of a group and the range that it speaks for (SPEC 4.43).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPage {
    /// From the fetch.
    pub request: RequestId,
    /// Of which group.
    pub group: GroupId,
    /// First seq of the range that this page speaks for.
    pub first: Seq,
    /// Last seq of that range; `first - 1` when the range is empty.
    pub last: Seq,
    /// Whether there is more in the direction of the fetch.
    pub more: bool,
    /// The last seq that the user may read.
    pub head: Seq,
    /// What the user may read of that range, by ascending seq.
    pub entries: Vec<GroupEntry>,
}

impl GroupPage {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.request.0, self.group.0, self.first.0, self.last.0] {
            put_varint(out, value);
        }
        out.push(u8::from(self.more));
        put_varint(out, self.head.0);
        put_varint(out, self.entries.len() as u64);
        for entry in &self.entries {
            put_sized(out, |out| entry.encode(out));
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: RequestId(r.varint("request")?),
            group: GroupId(r.varint("group")?),
            first: Seq(r.varint("first")?),
            last: Seq(r.varint("last")?),
            more: flag(r, "more")?,
            head: Seq(r.varint("head")?),
            entries: items(r, "entries", ENTRY_BYTES_MIN, GroupEntry::decode)?,
        })
    }
}

/// A group in the list of a user's groups (SPEC 4.44). Of one that the user is no member of, rules and members are zero, name and picture
/// empty: a later name is not theirs to know. So they are if the group can not be asked just now: a member knows that by the empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Which.
    pub group: GroupId,
    /// How the user stands to it.
    pub standing: Standing,
    /// What the user may do there; [`Role::Member`] if the user is no member.
    pub role: Role,
    /// Its rules.
    pub rules: Rules,
    /// How many members it has.
    pub members: u64,
    /// The last seq of its log that the user may read.
    pub head: Seq,
    /// What people call it.
    pub name: String,
    /// Where a picture of it lies, or empty.
    pub picture: String,
    /// The last message that the user may read, its text cut off as in an inbox; none: there is none.
    pub last: Option<GroupEntry>,
    /// How the user keeps it.
    pub settings: Settings,
    /// The user's read mark; zero if there is none.
    pub read_up_to: Seq,
    /// Messages above the read mark, as the log counts them: at most [`UNREAD_MAX`](crate::limits::UNREAD_MAX) + 1.
    pub unread: u64,
}

impl GroupRow {
    /// Bytes of a row in the frame, its length included.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        let mut out = Vec::new();
        put_sized(&mut out, |out| self.encode(out));
        out.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.group.0);
        out.extend([self.standing.byte(), self.role.byte()]);
        for value in [self.rules.bits(), self.members, self.head.0] {
            put_varint(out, value);
        }
        put_bytes(out, self.name.as_bytes());
        put_bytes(out, self.picture.as_bytes());
        put_sized(out, |out| self.last.iter().for_each(|last| last.encode(out)));
        for value in [self.settings.bits(), self.read_up_to.0, self.unread] {
            put_varint(out, value);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(Self {
            group: GroupId(r.varint("group")?),
            standing: standing(r)?,
            role: role(r)?,
            rules: Rules::from_bits(r.varint("rules")?),
            members: r.varint("members")?,
            head: Seq(r.varint("head")?),
            name: r.str("name", usize::MAX)?.to_owned(),
            picture: r.str("picture", usize::MAX)?.to_owned(),
            last: match r.bytes("last", usize::MAX)? {
                [] => None,
                last => Some(GroupEntry::decode(last)?),
            },
            settings: Settings::from_bits(r.varint("settings")?),
            read_up_to: Seq(r.varint("read_up_to")?),
            unread: r.varint("unread")?,
        })
    }
}

/// Bytes of the smallest row with its length.
const ROW_BYTES_MIN: usize = 13;

pub(crate) fn put_rows(out: &mut Vec<u8>, rows: &[GroupRow]) {
    put_varint(out, rows.len() as u64);
    for row in rows {
        put_sized(out, |out| row.encode(out));
    }
}

pub(crate) fn rows(r: &mut Reader<'_>) -> Result<Vec<GroupRow>, DecodeError> {
    items(r, "rows", ROW_BYTES_MIN, GroupRow::decode)
}

/// A member of a group (SPEC 4.45).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// The entry of the group's log with which they came.
    pub since: Seq,
    /// They have read everything up to this seq of the group's log, as far as they let others know; zero: nothing.
    pub read_up_to: Seq,
    /// A device of theirs has everything up to this seq; zero: nothing, or it is not told.
    pub delivered_up_to: Seq,
}

impl MemberInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.user.0);
        out.push(self.role.byte());
        put_varint(out, self.since.0);
        put_varint(out, self.read_up_to.0);
        put_varint(out, self.delivered_up_to.0);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(Self {
            user: UserId(r.varint("user")?),
            role: role(r)?,
            since: Seq(r.varint("since")?),
            read_up_to: Seq(r.varint("read_up_to")?),
            delivered_up_to: Seq(r.varint("delivered_up_to")?),
        })
    }
}

/// Bytes of the smallest member with its length.
const MEMBER_BYTES_MIN: usize = 6;

pub(crate) fn put_members(out: &mut Vec<u8>, members: &[MemberInfo]) {
    put_varint(out, members.len() as u64);
    for member in members {
        put_sized(out, |out| member.encode(out));
    }
}

pub(crate) fn members(r: &mut Reader<'_>) -> Result<Vec<MemberInfo>, DecodeError> {
    items(r, "members", MEMBER_BYTES_MIN, MemberInfo::decode)
}

/// One that a newer version has may do what all may.
fn role(r: &mut Reader<'_>) -> Result<Role, DecodeError> {
    Ok(Role::from_byte(r.u8("role")?).unwrap_or(Role::Member))
}

/// Another one than these is of a newer version.
pub(crate) fn standing(r: &mut Reader<'_>) -> Result<Standing, DecodeError> {
    Ok(Standing::from_byte(r.u8("standing")?).unwrap_or_default())
}

/// A count and that many items. A count that lies is found before anything is allocated: the items must be there.
fn items<T>(
    r: &mut Reader<'_>,
    field: &'static str,
    bytes_min: usize,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = r.varint(field)?;
    if count > (r.rest().len() / bytes_min) as u64 {
        return Err(DecodeError::Truncated { field });
    }
    (0..count).map(|_| decode(r.bytes(field, usize::MAX)?)).collect()
}
