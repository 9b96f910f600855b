//! The law of a group: who may do what, and who may read what, at each place of its log. Written from SPEC 8.12, and not from the server,
//! so that it can disagree with that.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use proto_spec::{Act, Body, Content, ErrorCode, GroupEntry, Role, Rules, Seq, Standing, UserId};

use super::messages::Message;

/// Secrets that people know, and their digests.
pub(crate) const SECRETS: [(&str, [u8; 32]); 2] = [
    (
        "open sesame, please, once",
        [
            0x81, 0xde, 0x6d, 0x29, 0xbe, 0x72, 0x69, 0x04, 0x0f, 0x75, 0x93, 0x84, 0xd2, 0xd2, 0x04, 0x19, 0x79, 0xb9,
            0x58, 0xb8, 0xd9, 0xcc, 0xf6, 0x85, 0x3e, 0xe3, 0xbd, 0xf7, 0xae, 0x37, 0x4b, 0xe1,
        ],
    ),
    (
        "open sesame, please, twice",
        [
            0x6a, 0x74, 0x7b, 0x52, 0x58, 0xcb, 0x67, 0x5d, 0x71, 0xa2, 0x67, 0x74, 0xeb, 0xfa, 0x62, 0x13, 0x5a, 0xa9,
            0xdc, 0xe7, 0x15, 0x3c, 0x0f, 0xa9, 0x7f, 0xcb, 0xb2, 0xfe, 0x46, 0x2f, 0xad, 0xc1,
        ],
    ),
];

/// Somebody who is, or was, a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) standing: Standing,
    pub(crate) role: Role,
    /// The entry with which they came, or went.
    pub(crate) since: Seq,
    /// What they may read: from the first to the last; none: to the end.
    pub(crate) parts: Vec<(Seq, Option<Seq>)>,
}

impl Person {
    pub(crate) fn is_member(&self) -> bool {
        self.standing == Standing::Member
    }

    pub(crate) fn may_read(&self, seq: Seq) -> bool {
        self.parts.iter().any(|(first, last)| *first <= seq && last.is_none_or(|last| seq <= last))
    }

    /// The first seq that they may read since they are a member, or were last.
    pub(crate) fn first(&self) -> Seq {
        self.parts.last().map_or(Seq::ZERO, |(first, _)| *first)
    }

    /// The last seq that they may read since then, in a log that ends there.
    pub(crate) fn last(&self, end: Seq) -> Seq {
        self.parts.last().map_or(Seq::ZERO, |(_, last)| last.unwrap_or(end).min(end))
    }

    fn goes(&mut self, standing: Standing, at: Seq) {
        if let Some((_, last @ None)) = self.parts.last_mut() {
            *last = Some(at);
        }
        (self.standing, self.role, self.since) = (standing, Role::Member, at);
    }
}

/// A group as it is at one place of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Law {
    pub(crate) name: String,
    pub(crate) picture: String,
    pub(crate) rules: Rules,
    invitation: Option<[u8; 32]>,
    pub(crate) has_ended: bool,
    pub(crate) people: BTreeMap<UserId, Person>,
    /// By where they stand.
    pub(crate) messages: Arc<BTreeMap<Seq, Message>>,
}

/// What an act is, as it stands in a log.
fn act_of(content: &Content) -> Option<Act<'_>> {
    match content.body() {
        Ok(Body::Act(act)) => Some(act),
        _ => None,
    }
}

impl Law {
    /// How something stands in a group's log that was sent there.
    pub(crate) fn shown(&self, content: &Content) -> Content {
        match act_of(content) {
            Some(Act::Join { .. }) => Content::act(&Act::Join { secret: &[] }),
            _ => self.with_place(content),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        !self.people.is_empty()
    }

    pub(crate) fn member(&self, user: UserId) -> Option<&Person> {
        self.people.get(&user).filter(|person| person.is_member())
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (UserId, &Person)> {
        self.people.iter().filter(|(_, person)| person.is_member()).map(|(user, person)| (*user, person))
    }

    pub(crate) fn may_read(&self, user: UserId, seq: Seq) -> bool {
        self.people.get(&user).is_some_and(|person| person.may_read(seq))
    }

    /// How a user stands to it, and the first seq that they may read since they are a member.
    pub(crate) fn standing(&self, user: UserId) -> (Standing, Seq) {
        self.people.get(&user).map_or((Standing::Unknown, Seq::ZERO), |person| (person.standing, person.first()))
    }

    /// All that there is to say against somebody's saying or doing this here; nothing: they may.
    pub(crate) fn objections(&self, from: UserId, content: &Content, members_max: usize) -> Vec<ErrorCode> {
        let act = act_of(content);
        match (act, self.exists()) {
            (Some(Act::Create { .. }), true) => {
                let ended = (self.has_ended && self.member(from).is_some()).then_some(ErrorCode::GroupEnded);
                return [ErrorCode::GroupExists].into_iter().chain(ended).collect();
            }
            (Some(Act::Create { .. }), false) => return Vec::new(),
            (Some(Act::Join { .. }), false) => return vec![ErrorCode::NotInvited],
            (_, false) => return vec![ErrorCode::NoSuchGroup],
            _ => {}
        }
        let mut against = Vec::new();
        let mut object = |is_so: bool, code| {
            if is_so {
                against.push(code);
            }
        };
        if let Some(Act::Join { secret }) = act {
            let digest = SECRETS.iter().find(|(text, _)| text.as_bytes() == secret).map(|(_, digest)| *digest);
            object(digest.is_none() || digest != self.invitation, ErrorCode::NotInvited);
            object(self.has_ended, ErrorCode::GroupEnded);
            against.extend(self.not_let_in(from, members_max));
            return against;
        }
        let Some(own) = self.member(from) else { return vec![ErrorCode::NoSuchGroup] };
        let leaves = matches!(act, Some(Act::Remove { user }) if user == from);
        object(self.has_ended && !leaves, ErrorCode::GroupEnded);
        let is_admin = own.role >= Role::Admin;
        let is_owner = own.role == Role::Owner;
        let for_admins = |rule| self.rules.has(rule) && !is_admin;
        let Some(act) = act else {
            object(for_admins(Rules::ADMINS_POST), ErrorCode::NotAllowed);
            against.extend(self.objections_to_change(from, content));
            return against;
        };
        match act {
            Act::Add { user } => {
                object(for_admins(Rules::ADMINS_ADD), ErrorCode::NotAllowed);
                against.extend(self.not_let_in(user, members_max));
            }
            Act::Remove { .. } if leaves => {
                let is_last = self.members().count() == 1;
                object(is_owner && !is_last && !self.has_ended, ErrorCode::NotAllowed);
            }
            Act::Remove { user } | Act::Ban { user } => {
                let is_ban = matches!(act, Act::Ban { .. });
                let other = self.people.get(&user).filter(|person| is_ban || person.is_member());
                object(is_ban && !is_admin, ErrorCode::NotAllowed);
                match other {
                    None => object(true, ErrorCode::NoSuchMember),
                    Some(other) => {
                        object(other.standing == Standing::Banned, ErrorCode::Banned);
                        let others = if other.is_member() { other.role } else { Role::Member };
                        let stands_above = if is_owner { others < Role::Owner } else { others == Role::Member };
                        object(!is_admin || !stands_above, ErrorCode::NotAllowed);
                    }
                }
            }
            Act::Unban { user } => {
                object(!is_admin, ErrorCode::NotAllowed);
                object(self.standing(user).0 != Standing::Banned, ErrorCode::NoSuchMember);
            }
            Act::SetRole { user, .. } => {
                object(!is_owner || user == from, ErrorCode::NotAllowed);
                object(self.member(user).is_none(), ErrorCode::NoSuchMember);
            }
            Act::Describe { .. } => object(for_admins(Rules::ADMINS_DESCRIBE), ErrorCode::NotAllowed),
            Act::SetRules { .. } | Act::End => object(!is_owner, ErrorCode::NotAllowed),
            Act::Invite { .. } => object(!is_admin, ErrorCode::NotAllowed),
            Act::Create { .. } | Act::Join { .. } => {}
            Act::Unknown => object(true, ErrorCode::ContentLimits),
        }
        against
    }

    fn not_let_in(&self, user: UserId, members_max: usize) -> Vec<ErrorCode> {
        let (standing, _) = self.standing(user);
        let is_full = self.members().count() >= members_max;
        let codes = [
            (standing == Standing::Member, ErrorCode::MemberAlready),
            (standing == Standing::Banned, ErrorCode::Banned),
            (is_full, ErrorCode::GroupFull),
        ];
        codes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, code)| code).collect()
    }

    /// What it is after this entry.
    pub(crate) fn after(&self, entry: &GroupEntry) -> Self {
        let mut law = self.clone();
        let (at, from) = (entry.seq, entry.from);
        match act_of(&entry.content) {
            Some(Act::Create { name, picture, rules }) => {
                (law.name, law.picture, law.rules) = (name.to_owned(), picture.to_owned(), rules);
                law.comes(from, at, Role::Owner);
            }
            Some(Act::Add { user }) => law.comes(user, at, Role::Member),
            Some(Act::Join { .. }) => law.comes(from, at, Role::Member),
            Some(Act::Remove { user }) => {
                law.goes(user, if user == from { Standing::Left } else { Standing::Removed }, at);
                // Where nobody is left, nobody can let anybody in.
                let is_empty = law.members().next().is_none();
                law.has_ended |= is_empty;
            }
            Some(Act::Ban { user }) => law.goes(user, Standing::Banned, at),
            Some(Act::Unban { user }) => law.goes(user, Standing::Removed, at),
            Some(Act::SetRole { user, role }) => {
                if role == Role::Owner {
                    law.people.entry(from).and_modify(|person| person.role = Role::Admin);
                }
                law.people.entry(user).and_modify(|person| person.role = role);
            }
            Some(Act::Describe { name, picture }) => {
                (law.name, law.picture) = (name.to_owned(), picture.to_owned());
            }
            Some(Act::SetRules { rules }) => law.rules = rules,
            Some(Act::Invite { digest }) => law.invitation = digest.copied(),
            Some(Act::End) => law.has_ended = true,
            Some(Act::Unknown) => {}
            None => law.says(entry),
        }
        law
    }

    /// Who has added a member; nobody, if they came by themselves.
    pub(crate) fn added_by(&self, user: UserId, entries: &[GroupEntry]) -> Option<UserId> {
        let came = entries.get((self.member(user)?.since.0 as usize).checked_sub(1)?)?;
        (came.from != user).then_some(came.from)
    }

    /// What somebody does who declines: they leave, and the group is handed over before if it is theirs.
    pub(crate) fn declining(&self, user: UserId) -> Content {
        let is_owner = !self.has_ended && self.member(user).is_some_and(|own| own.role == Role::Owner);
        let others = self.members().filter(|(other, _)| *other != user);
        match others.max_by_key(|(_, person)| (person.role, Reverse(person.since))) {
            Some((heir, _)) if is_owner => Content::act(&Act::SetRole { user: heir, role: Role::Owner }),
            _ => Content::act(&Act::Remove { user }),
        }
    }

    /// What it is after that entry. `reads`: the part of it that they could read before, as their log has it.
    pub(crate) fn after_declining(&self, entry: &GroupEntry, reads: (Seq, Seq)) -> Self {
        let mut law = self.after(entry);
        if let Some(person) = law.people.get_mut(&entry.from).filter(|person| !person.is_member()) {
            let came = self.people.get(&entry.from).map_or(Seq::ZERO, |person| person.since);
            if let Some((first, _)) = person.parts.pop()
                && first < came
            {
                // What newcomers are shown was put in the place of what they could read.
                person.parts = if reads.1 > Seq::ZERO { vec![(reads.0, Some(reads.1))] } else { Vec::new() };
            }
        }
        law
    }

    fn comes(&mut self, user: UserId, at: Seq, role: Role) {
        let first = if self.rules.has(Rules::HISTORY) { Seq(1) } else { at };
        let mut parts = self.people.remove(&user).map(|person| person.parts).unwrap_or_default();
        parts.push((first, None));
        self.people.insert(user, Person { standing: Standing::Member, role, since: at, parts });
    }

    fn goes(&mut self, user: UserId, standing: Standing, at: Seq) {
        self.people.entry(user).and_modify(|person| person.goes(standing, at));
    }
}
