//! The lines of groups that a script reads: each begins with `group #ID`.

use client::{ErrorCode, GroupId, GroupRow, MemberInfo, Seq, Standing, TimestampMs, UserId};

use super::line::{How, Origin, utc};
use crate::visible::escaped;

/// One thing to say of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupLine {
    /// The how many-th message of this run begins it.
    Begins {
        group: GroupId,
        ordinal: u64,
    },
    /// The how many-th message of this run invites whoever is told the secret.
    Invites {
        group: GroupId,
        ordinal: u64,
        secret: String,
    },
    /// How the user stands to it from now on, and how far it has come.
    Standing {
        group: GroupId,
        standing: Standing,
        up_to: Seq,
    },
    /// Somebody types there, or does not any more.
    Typing {
        group: GroupId,
        user: UserId,
        how: How,
    },
    /// The user has read it up to here.
    Read {
        group: GroupId,
        up_to: Seq,
    },
    /// What was sent there, under this seq of the own log, is not taken.
    Refused {
        group: GroupId,
        origin: Seq,
        code: ErrorCode,
    },
    /// Something has happened there.
    Happened {
        group: GroupId,
        by: UserId,
        /// Of the message that it is, changes or is about; or of what was done.
        seq: Seq,
        time: TimestampMs,
        what: What,
        origin: Origin,
    },
    /// So many groups follow.
    Groups(usize),
    Row(Box<GroupRow>),
    /// So many members follow.
    Members {
        group: GroupId,
        count: usize,
        /// How many others have the newest entry, and how many of these have read it.
        delivered: u64,
        read: u64,
    },
    Member {
        group: GroupId,
        member: MemberInfo,
    },
}

/// What has happened in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Message(String),
    /// The same, and it names the user.
    Mention(String),
    Edited(String),
    Unsent,
    Reacted(String),
    /// Something was done to the group.
    Act(String),
}

impl GroupLine {
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Begins { group, ordinal } => format!("group #{group} begins {ordinal}"),
            Self::Invites { group, ordinal, secret } => format!("group #{group} invites {ordinal} {secret}"),
            Self::Standing { group, standing, up_to } => {
                format!("group #{group} standing {} {up_to}", standing.name())
            }
            Self::Typing { group, user, how: How::Begins } => format!("group #{group} typing {user} begins"),
            Self::Typing { group, user, how: How::Ends } => format!("group #{group} typing {user} ends"),
            Self::Read { group, up_to } => format!("group #{group} read {up_to}"),
            Self::Refused { group, origin, code } => format!("group #{group} refused {origin} {}", code.name()),
            Self::Happened { group, by, seq, time, what, origin } => {
                let history = if *origin == Origin::History { "history " } else { "" };
                let (word, text) = match what {
                    What::Message(text) => ("message", text.as_str()),
                    What::Mention(text) => ("mention", text.as_str()),
                    What::Edited(text) => ("edited", text.as_str()),
                    What::Unsent => ("unsent", ""),
                    What::Reacted(text) => ("reacted", text.as_str()),
                    What::Act(text) => ("act", text.as_str()),
                };
                let line = format!("{history}group #{group} {word} {by} {seq} {} {}", utc(*time), escaped(text));
                line.trim_end().to_owned()
            }
            Self::Groups(count) => format!("groups {count}"),
            Self::Row(row) => {
                let GroupRow { group, standing, role, members, head, name, .. } = row.as_ref();
                let role = if standing.is_member() { role.name() } else { "-" };
                let standing = standing.name();
                let name = if name.is_empty() { "-".to_owned() } else { escaped(name) };
                format!("group #{group} row {standing} {role} {members} {head} {name}")
            }
            Self::Members { group, count, delivered, read } => {
                format!("group #{group} members {count} {delivered} {read}")
            }
            Self::Member { group, member: MemberInfo { user, role, since, read_up_to, delivered_up_to } } => {
                format!("group #{group} member {user} {} {since} {read_up_to} {delivered_up_to}", role.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{Role, Rules, Settings};

    use super::*;

    #[test]
    fn the_lines_of_groups_are_as_documented() {
        let group = GroupId(42);
        let happened = |what, origin| {
            let (by, seq, time) = (UserId(8), Seq(57), TimestampMs(1_767_268_800_123));
            GroupLine::Happened { group, by, seq, time, what, origin }.plain()
        };
        let message = happened(What::Message("a\nb\u{1b}[2J".into()), Origin::Now);
        assert_eq!(message, "group #42 message 8 57 2026-01-01T12:00:00Z a\\nb\\u{1b}[2J");
        let mention = happened(What::Mention("@7 look".into()), Origin::Now);
        assert_eq!(mention, "group #42 mention 8 57 2026-01-01T12:00:00Z @7 look");
        let (user, how) = (UserId(8), How::Ends);
        assert_eq!(GroupLine::Typing { group, user, how }.plain(), "group #42 typing 8 ends");
        assert_eq!(happened(What::Unsent, Origin::Now), "group #42 unsent 8 57 2026-01-01T12:00:00Z");
        let reacted = happened(What::Reacted("👍".into()), Origin::History);
        assert_eq!(reacted, "history group #42 reacted 8 57 2026-01-01T12:00:00Z 👍");
        assert_eq!(happened(What::Reacted(String::new()), Origin::Now), "group #42 reacted 8 57 2026-01-01T12:00:00Z");
        let (standing, up_to) = (Standing::Removed, Seq(57));
        assert_eq!(GroupLine::Standing { group, standing, up_to }.plain(), "group #42 standing removed 57");
        assert_eq!(GroupLine::Read { group, up_to }.plain(), "group #42 read 57");
        let (origin, code) = (Seq(9), ErrorCode::NotAllowed);
        assert_eq!(GroupLine::Refused { group, origin, code }.plain(), "group #42 refused 9 not_allowed");
        let row = GroupRow {
            group,
            standing: Standing::Member,
            role: Role::Owner,
            rules: Rules::default(),
            members: 3,
            head: Seq(57),
            name: "The\nsea".into(),
            picture: String::new(),
            last: None,
            settings: Settings::default(),
            read_up_to: Seq(0),
            unread: 0,
        };
        let left = GroupRow { standing: Standing::Left, name: String::new(), ..row.clone() };
        assert_eq!(GroupLine::Row(Box::new(row)).plain(), "group #42 row member owner 3 57 The\\nsea");
        assert_eq!(GroupLine::Row(Box::new(left)).plain(), "group #42 row left - 3 57 -");
        let (read_up_to, delivered_up_to) = (Seq(56), Seq(57));
        let member = MemberInfo { user: UserId(8), role: Role::Admin, since: Seq(2), read_up_to, delivered_up_to };
        assert_eq!(GroupLine::Member { group, member }.plain(), "group #42 member 8 admin 2 56 57");
        assert_eq!(GroupLine::Members { group, count: 2, delivered: 1, read: 0 }.plain(), "group #42 members 2 1 0");
        assert_eq!(GroupLine::Begins { group, ordinal: 1 }.plain(), "group #42 begins 1");
        let (ordinal, secret) = (2, "a7".to_owned());
        assert_eq!(GroupLine::Invites { group, ordinal, secret }.plain(), "group #42 invites 2 a7");
        assert_eq!(GroupLine::Groups(0).plain(), "groups 0");
    }
}
