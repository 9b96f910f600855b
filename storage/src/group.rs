//! What is stored of groups, beside the entries of their logs. A group lies in the partition of the user with its number, and has one
//! home with them.

use proto_spec::{ErrorCode, GroupEntry, GroupId, Role, Rules, Seq, Standing, TimestampMs, UserId};

use crate::record::Shown;

/// The user in whose partition and at whose home a group is: the one with its number. Nothing else of them is the group's.
#[must_use]
pub const fn beside(group: GroupId) -> UserId {
    UserId(group.0)
}

/// What a group is called, and how it goes on there: a row of its own, written as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// What people call it.
    pub name: Box<str>,
    /// Where a picture of it lies, or empty.
    pub picture: Box<str>,
    /// Its rules.
    pub rules: Rules,
    /// SHA-256 of the secret by which one may join.
    pub invitation: Option<[u8; 32]>,
    /// Nothing more happens in it.
    pub has_ended: bool,
}

/// A row of a group's roll: somebody who is, or was, a member, or may not become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// How the user stands to the group.
    pub standing: Standing,
    /// What the user may do there, or might while a member.
    pub role: Role,
    /// The entry of the group's log that says so of the standing.
    pub since: Seq,
    /// The parts of the log that the user may read, by ascending seq: from the first to the last, both included. While the user is a member
    /// the last part has no end: [`MemberRow::OPEN`].
    pub spans: Vec<(Seq, Seq)>,
    /// The user has read everything up to here, and lets the others know.
    pub read: Seq,
    /// A device of the user has everything up to here, and the others may know.
    pub delivered: Seq,
}

impl MemberRow {
    /// The end of a part that goes on.
    pub const OPEN: Seq = Seq(u64::MAX);
}

/// What has come to a group of one author.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameRow {
    /// The last seq of the author's log.
    pub up_to: Seq,
    /// What was refused of it, with the reason: as much as the author's home may still ask for, by ascending seq.
    pub refused: Vec<(Seq, ErrorCode)>,
}

/// Of which messages of a group a member's home wants to be told, for notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Of all.
    All,
    /// Of those that name the member.
    Named,
    /// Of none: the member has muted the group.
    Nothing,
}

/// How a user stands to a group, in the user's own part of the store: the last entry that says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandingRow {
    /// How.
    pub standing: Standing,
    /// The first seq of the group's log that the user may read, since they are a member.
    pub first: Seq,
    /// The last seq of the group's log that the user was told of.
    pub up_to: Seq,
    /// What the user sent to the group up to here, in the own log, has been numbered there or was refused.
    pub sent_up_to: Seq,
    /// The entry that says so.
    pub at: Seq,
}

/// How far a group's home has told users how they stand to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMarks {
    /// Of every entry up to here that changes a standing, the home of that user knows.
    pub told: Seq,
}

/// What an entry of a group's log changes of what earlier ones say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRewrite {
    /// Which message: its seq.
    pub place: Seq,
    /// Which entries tell of it from now on.
    pub now: Shown,
    /// Those that told of it until now, and are gone.
    pub replaces: Vec<Seq>,
}

/// What the store knows of a group. The default is a group of which the store knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// The last entry of its log.
    pub last: Option<GroupEntry>,
    /// What it is called; none: it was never created.
    pub state: Option<GroupState>,
    /// By ascending user.
    pub roll: Vec<(UserId, MemberRow)>,
    /// What has come of each author, by ascending user.
    pub came: Vec<(UserId, CameRow)>,
    /// The members who have subscribed to notifications, by ascending user.
    pub wants: Vec<(UserId, Wants)>,
    /// What it owes to others.
    pub marks: GroupMarks,
    /// Something may be owed.
    pub unfinished: bool,
}

impl GroupSnapshot {
    /// The last seq of its log.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.last.as_ref().map_or(Seq::ZERO, |last| last.seq)
    }

    /// The time of its last entry.
    #[must_use]
    pub fn head_time(&self) -> TimestampMs {
        self.last.as_ref().map_or(TimestampMs(0), |last| last.time)
    }
}

/// Entries of a part of a group's log, by ascending seq whatever the direction they were read in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupEntries {
    /// What is there.
    pub entries: Vec<GroupEntry>,
    /// Whether the whole part was read. If not, it was covered up to the last entry in the direction of reading.
    pub complete: bool,
}

/// A message of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMessage {
    /// Where it stands: the seq that it had first.
    pub place: Seq,
    /// What says now what it says.
    pub entry: GroupEntry,
    /// The reactions to it, by ascending seq.
    pub reactions: Vec<GroupEntry>,
}
