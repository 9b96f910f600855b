//! What members do to a group (SPEC 5.4.8): a content of its own, so it is sent, numbered and retried as a message is.

use crate::{
    group::{Role, Rules},
    ids::UserId,
    limits::{GROUP_NAME_BYTES_MAX, LOCATION_BYTES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN},
    listed::listed,
    wire::{DecodeError, Reader, put_bytes, put_varint},
};

listed! {
    /// What can be done to a group (SPEC 5.4.8).
    ActKind {
        /// [`Act::Create`].
        Create = 1 "create",
        /// [`Act::Add`].
        Add = 2 "add",
        /// [`Act::Remove`].
        Remove = 3 "remove",
        /// [`Act::Ban`].
        Ban = 4 "ban",
        /// [`Act::Unban`].
        Unban = 5 "unban",
        /// [`Act::SetRole`].
        SetRole = 6 "set_role",
        /// [`Act::Describe`].
        Describe = 7 "describe",
        /// [`Act::SetRules`].
        SetRules = 8 "set_rules",
        /// [`Act::Invite`].
        Invite = 9 "invite",
        /// [`Act::Join`].
        Join = 10 "join",
        /// [`Act::End`].
        End = 11 "end",
    }
}

/// Something that is done to a group (SPEC 5.4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'a> {
    /// It begins, with who does this as its owner.
    Create {
        /// What people call it.
        name: &'a str,
        /// Where a picture of it lies, or empty.
        picture: &'a str,
        /// Its rules.
        rules: Rules,
    },
    /// Somebody becomes a member.
    Add {
        /// Who.
        user: UserId,
    },
    /// Somebody is a member no more; who does this about themselves leaves.
    Remove {
        /// Who.
        user: UserId,
    },
    /// Somebody is a member no more, and is not let in again.
    Ban {
        /// Who.
        user: UserId,
    },
    /// Somebody may be let in again.
    Unban {
        /// Who.
        user: UserId,
    },
    /// A member may do more or less from now on. An owner who makes another one the owner becomes an admin.
    SetRole {
        /// Which member.
        user: UserId,
        /// What they are from now on.
        role: Role,
    },
    /// Another name or picture.
    Describe {
        /// As of [`Act::Create`].
        name: &'a str,
        /// As of [`Act::Create`].
        picture: &'a str,
    },
    /// Other rules.
    SetRules {
        /// All of them.
        rules: Rules,
    },
    /// Whoever knows a secret may join from now on; there is one invitation at a time.
    Invite {
        /// SHA-256 of the secret; none: nobody is invited any more.
        digest: Option<&'a [u8; 32]>,
    },
    /// Who does this becomes a member, by an invitation.
    Join {
        /// The secret. Empty in the group's log.
        secret: &'a [u8],
    },
    /// Nothing more happens in it.
    End,
    /// An act of a newer version, or one with a role of a newer version.
    Unknown,
}

impl<'a> Act<'a> {
    /// Which kind it is of, unless it is of a newer version.
    #[must_use]
    pub const fn kind(&self) -> Option<ActKind> {
        Some(match self {
            Self::Create { .. } => ActKind::Create,
            Self::Add { .. } => ActKind::Add,
            Self::Remove { .. } => ActKind::Remove,
            Self::Ban { .. } => ActKind::Ban,
            Self::Unban { .. } => ActKind::Unban,
            Self::SetRole { .. } => ActKind::SetRole,
            Self::Describe { .. } => ActKind::Describe,
            Self::SetRules { .. } => ActKind::SetRules,
            Self::Invite { .. } => ActKind::Invite,
            Self::Join { .. } => ActKind::Join,
            Self::End => ActKind::End,
            Self::Unknown => return None,
        })
    }

    /// Who stands to the group otherwise, once `from` has done this.
    #[must_use]
    pub const fn concerns(&self, from: UserId) -> Option<UserId> {
        match self {
            Self::Create { .. } | Self::Join { .. } => Some(from),
            Self::Add { user } | Self::Remove { user } | Self::Ban { user } | Self::Unban { user } => Some(*user),
            Self::SetRole { .. }
            | Self::Describe { .. }
            | Self::SetRules { .. }
            | Self::Invite { .. }
            | Self::End
            | Self::Unknown => None,
        }
    }

    /// Whether its fields keep to their limits (SPEC 5.4.8).
    pub(crate) fn is_within_limits(&self) -> bool {
        match self {
            Self::Create { name, picture, .. } | Self::Describe { name, picture } => {
                (1..=GROUP_NAME_BYTES_MAX).contains(&name.len()) && picture.len() <= LOCATION_BYTES_MAX
            }
            Self::Add { user }
            | Self::Remove { user }
            | Self::Ban { user }
            | Self::Unban { user }
            | Self::SetRole { user, .. } => *user != UserId(0),
            Self::Join { secret } => (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()),
            Self::SetRules { .. } | Self::Invite { .. } | Self::End => true,
            Self::Unknown => false,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.kind().map_or(0, |kind| kind.byte().into()));
        match self {
            Self::Create { name, picture, rules } => {
                put_bytes(out, name.as_bytes());
                put_bytes(out, picture.as_bytes());
                put_varint(out, rules.bits());
            }
            Self::Add { user } | Self::Remove { user } | Self::Ban { user } | Self::Unban { user } => {
                put_varint(out, user.0);
            }
            Self::SetRole { user, role } => {
                put_varint(out, user.0);
                out.push(role.byte());
            }
            Self::Describe { name, picture } => {
                put_bytes(out, name.as_bytes());
                put_bytes(out, picture.as_bytes());
            }
            Self::SetRules { rules } => put_varint(out, rules.bits()),
            Self::Invite { digest } => put_bytes(out, digest.map_or(&[][..], |digest| digest)),
            Self::Join { secret } => put_bytes(out, secret),
            Self::End | Self::Unknown => {}
        }
    }

    pub(crate) fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = r.varint("act")?;
        let user = |r: &mut Reader<'a>| r.varint("user").map(UserId);
        Ok(match u8::try_from(kind).ok().and_then(ActKind::from_byte) {
            Some(ActKind::Create) => Self::Create {
                name: r.str("name", usize::MAX)?,
                picture: r.str("picture", usize::MAX)?,
                rules: Rules::from_bits(r.varint("rules")?),
            },
            Some(ActKind::Add) => Self::Add { user: user(r)? },
            Some(ActKind::Remove) => Self::Remove { user: user(r)? },
            Some(ActKind::Ban) => Self::Ban { user: user(r)? },
            Some(ActKind::Unban) => Self::Unban { user: user(r)? },
            Some(ActKind::SetRole) => {
                let user = user(r)?;
                Role::from_byte(r.u8("role")?).map_or(Self::Unknown, |role| Self::SetRole { user, role })
            }
            Some(ActKind::Describe) => {
                Self::Describe { name: r.str("name", usize::MAX)?, picture: r.str("picture", usize::MAX)? }
            }
            Some(ActKind::SetRules) => Self::SetRules { rules: Rules::from_bits(r.varint("rules")?) },
            Some(ActKind::Invite) => Self::Invite { digest: digest(r.bytes("digest", 32)?)? },
            Some(ActKind::Join) => Self::Join { secret: r.bytes("secret", usize::MAX)? },
            Some(ActKind::End) => Self::End,
            None => Self::Unknown,
        })
    }
}

/// Who invites nobody any more gives none.
fn digest(bytes: &[u8]) -> Result<Option<&[u8; 32]>, DecodeError> {
    match bytes.len() {
        0 => Ok(None),
        size => bytes.try_into().map(Some).map_err(|_| DecodeError::Unlisted { field: "digest", value: size as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        code::ErrorCode,
        content::{Body, Content, MessageName},
        ids::Seq,
        limits::{CONTENT_BYTES_MAX, MENTIONS_MAX},
    };

    const USER: UserId = UserId(8);

    fn create<'a>(name: &'a str, picture: &'a str) -> Act<'a> {
        Act::Create { name, picture, rules: Rules::from_bits(u64::MAX) }
    }

    #[test]
    fn an_act_at_its_limits_has_no_fault_and_one_beyond_them_has() {
        let long = "x".repeat(LOCATION_BYTES_MAX + 1);
        let (name, picture) = (&long[..GROUP_NAME_BYTES_MAX], &long[..LOCATION_BYTES_MAX]);
        let secret = &long.as_bytes()[..SECRET_BYTES_MAX];
        for act in [
            create("x", ""),
            create(name, picture),
            Act::Describe { name, picture },
            Act::SetRole { user: USER, role: Role::Owner },
            Act::Invite { digest: None },
            Act::Invite { digest: Some(&[7; 32]) },
            Act::Join { secret },
            Act::Join { secret: &secret[..SECRET_BYTES_MIN] },
            Act::End,
        ] {
            let content = Content::act(&act);
            assert_eq!((content.fault(), content.body()), (None, Ok(Body::Act(act))));
        }
        let nobody = UserId(0);
        for act in [
            create("", ""),
            create(&long[..GROUP_NAME_BYTES_MAX + 1], ""),
            create("x", &long),
            Act::Describe { name: "", picture: "" },
            Act::Add { user: nobody },
            Act::Remove { user: nobody },
            Act::Ban { user: nobody },
            Act::Unban { user: nobody },
            Act::SetRole { user: nobody, role: Role::Member },
            Act::Join { secret: &secret[..SECRET_BYTES_MIN - 1] },
            Act::Join { secret: &long.as_bytes()[..SECRET_BYTES_MAX + 1] },
            Act::Unknown,
        ] {
            assert_eq!(Content::act(&act).fault(), Some(ErrorCode::ContentLimits), "{act:?}");
        }
    }

    #[test]
    fn an_act_is_no_message_and_no_edit_says_one() {
        let act = Content::act(&Act::End);
        assert!(!act.is_message() && act.about().is_none());
        let of = MessageName { author: USER, seq: Seq(1) };
        assert_eq!(Content::edit(of, &act, None).fault(), Some(ErrorCode::ContentKind));
    }

    #[test]
    fn a_mention_has_so_many_users_and_a_text() {
        let users = [USER; MENTIONS_MAX + 1];
        let text = "x".repeat(CONTENT_BYTES_MAX);
        assert_eq!(Content::mention(&users[1..], "all").fault(), None);
        assert_eq!(Content::mention(&[], "nobody").fault(), None);
        for (users, text) in [(&users[..], "all"), (&[UserId(0)], "all"), (&users[1..], &text)] {
            assert_eq!(Content::mention(users, text).fault(), Some(ErrorCode::ContentLimits));
        }
        assert_eq!(Content::mention(&users[1..], "").fault(), Some(ErrorCode::TextLength));
    }
}
