//! Rights: whether somebody may say or do something in a group, as it is at that place of its log, and what it changes (SPEC 8.12).
//! The one place where that is decided.

use aws_lc_rs::digest;
use proto_spec::{Act, Body, Content, ErrorCode, Role, Rules, Seq, Standing, UserId};
use storage::{GroupState, MemberRow};

use super::roll::Roll;
use crate::limits::ROLL_TIMES_MEMBERS;

/// A group as it is at some place of its log.
#[derive(Debug, Default)]
pub struct Group {
    /// What it is called, and how it goes on there; none: it was never created.
    pub state: Option<GroupState>,
    /// Who is a member.
    pub roll: Roll,
}

/// Something that is taken: what becomes of it. [`Group::apply`] makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// As it stands in the log.
    pub content: Content,
    /// What the group is called from then on, if that changes.
    pub state: Option<GroupState>,
    /// Rows of the roll that change.
    pub rows: Vec<(UserId, MemberRow)>,
    /// Whose standing changes by it: one of those in `rows`.
    pub concerns: Option<UserId>,
}

impl Taken {
    fn unchanged(content: &Content) -> Self {
        Self { content: content.clone(), state: None, rows: Vec::new(), concerns: None }
    }
}

impl Group {
    /// Whether `from` may say this with the entry `at`, in a group that may have so many members.
    ///
    /// # Errors
    /// Why not (SPEC 6).
    pub fn judge(&self, from: UserId, content: &Content, at: Seq, members_max: usize) -> Result<Taken, ErrorCode> {
        let act = match content.body() {
            Ok(Body::Act(act)) => Some(act),
            Ok(_) => None,
            Err(_) => return Err(ErrorCode::ContentLimits),
        };
        let Some(state) = &self.state else {
            return match act {
                Some(Act::Create { name, picture, rules }) => Ok(created(from, content, at, (name, picture, rules))),
                Some(Act::Join { .. }) => Err(ErrorCode::NotInvited),
                _ => Err(ErrorCode::NoSuchGroup),
            };
        };
        if let Some(Act::Join { secret }) = act {
            return self.joins(from, state, secret, at, members_max);
        }
        let member = self.roll.member(from).ok_or(match act {
            // Somebody else's: the id is taken.
            Some(Act::Create { .. }) => ErrorCode::GroupExists,
            _ => ErrorCode::NoSuchGroup,
        })?;
        let leaves = matches!(act, Some(Act::Remove { user }) if user == from);
        if state.has_ended && !leaves {
            return Err(ErrorCode::GroupEnded);
        }
        let Some(act) = act else {
            needs(member, Role::Admin, state.rules.has(Rules::ADMINS_POST))?;
            return Ok(Taken::unchanged(content));
        };
        self.acts((from, member), state, &act, content, (at, members_max))
    }

    /// What was judged happens.
    pub fn apply(&mut self, taken: &Taken) {
        if let Some(state) = &taken.state {
            self.state = Some(state.clone());
        }
        for (user, row) in &taken.rows {
            self.roll.set(*user, row.clone());
        }
    }

    fn acts(
        &self,
        (from, member): (UserId, &MemberRow),
        state: &GroupState,
        act: &Act<'_>,
        content: &Content,
        (at, members_max): (Seq, usize),
    ) -> Result<Taken, ErrorCode> {
        let taken = Taken::unchanged(content);
        let with_row = |user, row| Taken { rows: vec![(user, row)], concerns: Some(user), ..taken.clone() };
        let with_state = |change: &dyn Fn(&mut GroupState)| {
            let mut state = state.clone();
            change(&mut state);
            Ok(Taken { state: Some(state), ..taken.clone() })
        };
        match *act {
            Act::Create { .. } => Err(ErrorCode::GroupExists),
            Act::Add { user } => {
                needs(member, Role::Admin, state.rules.has(Rules::ADMINS_ADD))?;
                Ok(with_row(user, self.admits(user, state, at, members_max)?))
            }
            Act::Remove { user } if user == from => {
                if member.role == Role::Owner && self.roll.members() > 1 && !state.has_ended {
                    // There is always somebody who can do everything.
                    return Err(ErrorCode::NotAllowed);
                }
                let mut taken = with_row(user, Roll::dismissed(member, Standing::Left, at));
                if self.roll.members() == 1 {
                    // Where nobody is, nobody can let anybody in.
                    taken.state = Some(GroupState { has_ended: true, ..state.clone() });
                }
                Ok(taken)
            }
            Act::Remove { user } => {
                let row = self.roll.member(user).ok_or(ErrorCode::NoSuchMember)?;
                outranks(member, row)?;
                Ok(with_row(user, Roll::dismissed(row, Standing::Removed, at)))
            }
            Act::Ban { user } => {
                needs(member, Role::Admin, true)?;
                // Who was never a member is no row of the roll: whoever may add members could fill it with strangers.
                let row = self.roll.row(user).ok_or(ErrorCode::NoSuchMember)?;
                if row.standing == Standing::Banned {
                    return Err(ErrorCode::Banned);
                }
                outranks(member, row)?;
                Ok(with_row(user, Roll::dismissed(row, Standing::Banned, at)))
            }
            Act::Unban { user } => {
                needs(member, Role::Admin, true)?;
                let row = self.roll.row(user).filter(|row| row.standing == Standing::Banned);
                let row = row.ok_or(ErrorCode::NoSuchMember)?;
                Ok(with_row(user, Roll::dismissed(row, Standing::Removed, at)))
            }
            Act::SetRole { user, role } => {
                needs(member, Role::Owner, true)?;
                if user == from {
                    return Err(ErrorCode::NotAllowed);
                }
                let row = self.roll.member(user).ok_or(ErrorCode::NoSuchMember)?;
                let mut rows = vec![(user, MemberRow { role, ..row.clone() })];
                if role == Role::Owner {
                    rows.push((from, MemberRow { role: Role::Admin, ..member.clone() }));
                }
                Ok(Taken { rows, ..taken })
            }
            Act::Describe { name, picture } => {
                needs(member, Role::Admin, state.rules.has(Rules::ADMINS_DESCRIBE))?;
                with_state(&|state| (state.name, state.picture) = (name.into(), picture.into()))
            }
            Act::SetRules { rules } => {
                needs(member, Role::Owner, true)?;
                with_state(&|state| state.rules = rules)
            }
            Act::Invite { digest } => {
                needs(member, Role::Admin, true)?;
                with_state(&|state| state.invitation = digest.copied())
            }
            Act::End => {
                needs(member, Role::Owner, true)?;
                with_state(&|state| state.has_ended = true)
            }
            Act::Join { .. } | Act::Unknown => Err(ErrorCode::ContentLimits),
        }
    }

    fn joins(
        &self,
        from: UserId,
        state: &GroupState,
        secret: &[u8],
        at: Seq,
        members_max: usize,
    ) -> Result<Taken, ErrorCode> {
        let is_invited =
            state.invitation.is_some_and(|digest| digest::digest(&digest::SHA256, secret).as_ref() == digest);
        if !is_invited {
            return Err(ErrorCode::NotInvited);
        }
        if state.has_ended {
            return Err(ErrorCode::GroupEnded);
        }
        let row = self.admits(from, state, at, members_max)?;
        // Whoever reads the log is not told by what secret others may join.
        let content = Content::act(&Act::Join { secret: &[] });
        Ok(Taken { content, state: None, rows: vec![(from, row)], concerns: Some(from) })
    }

    /// What is done next in the name of a member who was added with the entry `since` and declines; they could read `reads` before, from the first to the
    /// last. Who was
    /// made the owner meanwhile hands the group over, and then they leave. None: they are none any more, or have come anew.
    #[must_use]
    pub fn decline(&self, user: UserId, (since, reads): (Seq, (Seq, Seq)), at: Seq) -> Option<Taken> {
        let member = self.roll.member(user).filter(|row| row.since == since)?;
        let state = self.state.as_ref()?;
        if member.role == Role::Owner
            && !state.has_ended
            && let Some(heir) = self.roll.heir(user)
        {
            let content = Content::act(&Act::SetRole { user: heir, role: Role::Owner });
            return self.judge(user, &content, at, 0).ok();
        }
        let content = Content::act(&Act::Remove { user });
        let has_ended = self.roll.members() == 1;
        let state = has_ended.then(|| GroupState { has_ended, ..state.clone() });
        let rows = vec![(user, Roll::declined(member, reads, at))];
        Some(Taken { content, state, rows, concerns: Some(user) })
    }

    /// Whether a user may write: then others may see that they type.
    #[must_use]
    pub fn may_write(&self, user: UserId) -> bool {
        self.judge(user, &Content::text("."), Seq::ZERO, 0).is_ok()
    }

    /// The row of somebody who is let in.
    fn admits(&self, user: UserId, state: &GroupState, at: Seq, members_max: usize) -> Result<MemberRow, ErrorCode> {
        match self.roll.row(user).map(|row| row.standing) {
            Some(Standing::Member) => Err(ErrorCode::MemberAlready),
            Some(Standing::Banned) => Err(ErrorCode::Banned),
            _ if self.roll.members() >= members_max => Err(ErrorCode::GroupFull),
            None if self.roll.known() >= members_max * ROLL_TIMES_MEMBERS => Err(ErrorCode::GroupFull),
            _ => self.roll.admitted(user, Role::Member, at, state.rules).ok_or(ErrorCode::GroupFull),
        }
    }
}

fn created(from: UserId, content: &Content, at: Seq, (name, picture, rules): (&str, &str, Rules)) -> Taken {
    let state = GroupState { name: name.into(), picture: picture.into(), rules, ..GroupState::default() };
    let spans = vec![(at, MemberRow::OPEN)];
    let row = MemberRow {
        standing: Standing::Member,
        role: Role::Owner,
        since: at,
        spans,
        read: Seq::ZERO,
        delivered: Seq::ZERO,
    };
    Taken { state: Some(state), rows: vec![(from, row)], concerns: Some(from), ..Taken::unchanged(content) }
}

/// Only a member of this role may, if that is the rule.
fn needs(member: &MemberRow, role: Role, is_rule: bool) -> Result<(), ErrorCode> {
    if is_rule && member.role < role { Err(ErrorCode::NotAllowed) } else { Ok(()) }
}

/// Whoever sends others away stands above them.
fn outranks(member: &MemberRow, other: &MemberRow) -> Result<(), ErrorCode> {
    if member.role > Role::Member && member.role > other.role { Ok(()) } else { Err(ErrorCode::NotAllowed) }
}

#[cfg(test)]
mod tests;
