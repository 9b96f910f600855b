//! What nodes tell each other of groups beside envelopes, as bytes; frames and everything else that is said are [`super::wire`]'s.

use std::sync::Arc;

use bincode::{BorrowDecode, Encode};
use proto_spec::{
    Content, Digests, Direction, ErrorCode, GroupEntry, GroupId, GroupRow, MemberInfo, RequestId, Role, Rules, Seq,
    Settings, Standing, TimestampMs, UserId, digest::Digest,
};

use storage::Wants;

use crate::shard::{
    AskId, GroupMail, GroupSaid, GroupTold, GroupWish,
    presence::CoreAddress,
    topology::{CoreId, NodeId},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct GroupBytes<'a> {
    group: u64,
    core: u16,
    said: SaidBytes<'a>,
}

#[derive(Encode, BorrowDecode)]
enum SaidBytes<'a> {
    Follow(Vec<u64>),
    Unfollow,
    Page { ask: u64, user: u64, from: u64, is_forwards: bool, limit: u64 },
    Members { ask: u64, user: u64, after: u64, limit: u64, seq: u64 },
    Row { ask: u64, user: u64, read: u64 },
    Following { head: u64, members: Vec<u64>, strangers: Vec<u64> },
    Pushed(EntryBytes<'a>),
    PageTold { ask: u64, first: u64, last: u64, more: bool, head: u64, entries: Vec<EntryBytes<'a>> },
    MembersTold { ask: u64, at: u64, more: bool, members: Vec<MemberBytes>, counts: (u64, u64) },
    RowTold { ask: u64, row: RowBytes<'a> },
    NotTold { ask: u64, code: u16 },
    Types { user: u64 },
    Typing { user: u64 },
    Have(Vec<(u64, u64)>),
    Digests { ask: u64, user: u64, first: u64, last: u64, width: u64 },
    DigestsTold { ask: u64, at: u64, first: u64, last: u64, width: u64, digests: Vec<Digest> },
    Wants { user: u64, wants: Option<WantsBytes>, is_here: bool },
    Away { user: u64 },
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
enum WantsBytes {
    All,
    Named,
    Nothing,
}

impl From<Wants> for WantsBytes {
    fn from(wants: Wants) -> Self {
        match wants {
            Wants::All => Self::All,
            Wants::Named => Self::Named,
            Wants::Nothing => Self::Nothing,
        }
    }
}

impl From<WantsBytes> for Wants {
    fn from(bytes: WantsBytes) -> Self {
        match bytes {
            WantsBytes::All => Self::All,
            WantsBytes::Named => Self::Named,
            WantsBytes::Nothing => Self::Nothing,
        }
    }
}

/// Who, their role, since when, up to where they have read, and up to where they have the log.
type MemberBytes = (u64, u8, u64, u64, u64);

#[derive(Encode, BorrowDecode)]
struct EntryBytes<'a> {
    seq: u64,
    time: u64,
    from: u64,
    origin: u64,
    messages: u64,
    kind: u8,
    body: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct RowBytes<'a> {
    standing: u8,
    role: u8,
    rules: u64,
    members: u64,
    head: u64,
    name: &'a str,
    picture: &'a str,
    last: Option<EntryBytes<'a>>,
    unread: u64,
}

impl<'a> From<&'a GroupEntry> for EntryBytes<'a> {
    fn from(entry: &'a GroupEntry) -> Self {
        let GroupEntry { seq, time, from, origin, messages, content } = entry;
        let (kind, body) = content.parts();
        Self { seq: seq.0, time: time.0, from: from.0, origin: origin.0, messages: *messages, kind, body }
    }
}

impl EntryBytes<'_> {
    fn entry(self) -> Result<GroupEntry, &'static str> {
        let Self { seq, time, from, origin, messages, kind, body } = self;
        let content = Content::from_parts(kind, body.into());
        content.body().map_err(|_| "the content of an entry is not of its kind")?;
        let (seq, time, from, origin) = (Seq(seq), TimestampMs(time), UserId(from), Seq(origin));
        Ok(GroupEntry { seq, time, from, origin, messages, content })
    }
}

fn numbers(users: &[UserId]) -> Vec<u64> {
    users.iter().map(|user| user.0).collect()
}

fn users(numbers: Vec<u64>) -> Vec<UserId> {
    numbers.into_iter().map(UserId).collect()
}

impl<'a> GroupBytes<'a> {
    pub(super) fn of(mail: &'a GroupMail) -> Self {
        let GroupMail { group, core, said } = mail;
        let said = match said {
            GroupSaid::Follow { users } => SaidBytes::Follow(numbers(users)),
            GroupSaid::Unfollow => SaidBytes::Unfollow,
            GroupSaid::Types { user } => SaidBytes::Types { user: user.0 },
            GroupSaid::Typing { user } => SaidBytes::Typing { user: user.0 },
            GroupSaid::Wants { user, wants, is_here } => {
                SaidBytes::Wants { user: user.0, wants: wants.map(Into::into), is_here: *is_here }
            }
            GroupSaid::Away { user } => SaidBytes::Away { user: user.0 },
            GroupSaid::Have { marks } => SaidBytes::Have(marks.iter().map(|(user, up_to)| (user.0, up_to.0)).collect()),
            GroupSaid::Ask { ask, user, wish: GroupWish::Page { from, direction, limit } } => SaidBytes::Page {
                ask: ask.0,
                user: user.0,
                from: from.0,
                is_forwards: *direction == Direction::Forwards,
                limit: *limit,
            },
            GroupSaid::Ask { ask, user, wish: GroupWish::Members { after, limit, seq } } => {
                SaidBytes::Members { ask: ask.0, user: user.0, after: after.0, limit: *limit, seq: seq.0 }
            }
            GroupSaid::Ask { ask, user, wish: GroupWish::Digests { first, last, width } } => {
                SaidBytes::Digests { ask: ask.0, user: user.0, first: first.0, last: last.0, width: *width }
            }
            GroupSaid::Ask { ask, user, wish: GroupWish::Row { read } } => {
                SaidBytes::Row { ask: ask.0, user: user.0, read: read.0 }
            }
            GroupSaid::Following { head, members, strangers } => {
                SaidBytes::Following { head: head.0, members: numbers(members), strangers: numbers(strangers) }
            }
            GroupSaid::Pushed(entry) => SaidBytes::Pushed((&**entry).into()),
            GroupSaid::Told { ask, told: Ok(GroupTold::Page { first, last, more, head, entries }) } => {
                SaidBytes::PageTold {
                    ask: ask.0,
                    first: first.0,
                    last: last.0,
                    more: *more,
                    head: head.0,
                    entries: entries.iter().map(EntryBytes::from).collect(),
                }
            }
            GroupSaid::Told { ask, told: Ok(GroupTold::Members { at, more, members, counts }) } => {
                let member =
                    |of: &MemberInfo| (of.user.0, of.role.byte(), of.since.0, of.read_up_to.0, of.delivered_up_to.0);
                let members = members.iter().map(member).collect();
                SaidBytes::MembersTold { ask: ask.0, at: at.0, more: *more, members, counts: *counts }
            }
            GroupSaid::Told { ask, told: Ok(GroupTold::Digests(told)) } => {
                let Digests { request: _, at, first, last, width, digests } = told;
                let (first, last, width, digests) = (first.0, last.0, *width, digests.clone());
                SaidBytes::DigestsTold { ask: ask.0, at: at.0, first, last, width, digests }
            }
            GroupSaid::Told { ask, told: Ok(GroupTold::Row(row)) } => {
                // How the user keeps it their own core knows.
                let GroupRow { standing, role, rules, members, head, name, picture, last, unread, .. } = &**row;
                let row = RowBytes {
                    standing: standing.byte(),
                    role: role.byte(),
                    rules: rules.bits(),
                    members: *members,
                    head: head.0,
                    name,
                    picture,
                    last: last.as_ref().map(EntryBytes::from),
                    unread: *unread,
                };
                SaidBytes::RowTold { ask: ask.0, row }
            }
            GroupSaid::Told { ask, told: Err(code) } => SaidBytes::NotTold { ask: ask.0, code: code.number() },
        };
        Self { group: group.0, core: core.core.0, said }
    }

    /// What it means, unless it has something that nobody says. Of which node the core is, whoever has the link knows.
    pub(super) fn mail(self) -> Result<GroupMail, &'static str> {
        let group = GroupId(self.group);
        let core = CoreAddress { node: NodeId::default(), core: CoreId(self.core) };
        let asked = |ask: u64, user: u64, wish| GroupSaid::Ask { ask: AskId(ask), user: UserId(user), wish };
        let told = |ask: u64, told| GroupSaid::Told { ask: AskId(ask), told };
        let said = match self.said {
            SaidBytes::Follow(numbers) => GroupSaid::Follow { users: users(numbers) },
            SaidBytes::Unfollow => GroupSaid::Unfollow,
            SaidBytes::Types { user } => GroupSaid::Types { user: UserId(user) },
            SaidBytes::Typing { user } => GroupSaid::Typing { user: UserId(user) },
            SaidBytes::Wants { user, wants, is_here } => {
                GroupSaid::Wants { user: UserId(user), wants: wants.map(Into::into), is_here }
            }
            SaidBytes::Away { user } => GroupSaid::Away { user: UserId(user) },
            SaidBytes::Have(marks) => {
                GroupSaid::Have { marks: marks.into_iter().map(|(user, up_to)| (UserId(user), Seq(up_to))).collect() }
            }
            SaidBytes::Page { ask, user, from, is_forwards, limit } => {
                let direction = if is_forwards { Direction::Forwards } else { Direction::Backwards };
                asked(ask, user, GroupWish::Page { from: Seq(from), direction, limit })
            }
            SaidBytes::Members { ask, user, after, limit, seq } => {
                asked(ask, user, GroupWish::Members { after: UserId(after), limit, seq: Seq(seq) })
            }
            SaidBytes::Row { ask, user, read } => asked(ask, user, GroupWish::Row { read: Seq(read) }),
            SaidBytes::Digests { ask, user, first, last, width } => {
                asked(ask, user, GroupWish::Digests { first: Seq(first), last: Seq(last), width })
            }
            SaidBytes::DigestsTold { ask, at, first, last, width, digests } => {
                let (request, at, first, last) = (RequestId(0), Seq(at), Seq(first), Seq(last));
                told(ask, Ok(GroupTold::Digests(Digests { request, at, first, last, width, digests })))
            }
            SaidBytes::Following { head, members, strangers } => {
                GroupSaid::Following { head: Seq(head), members: users(members), strangers: users(strangers) }
            }
            SaidBytes::Pushed(entry) => GroupSaid::Pushed(Arc::new(entry.entry()?)),
            SaidBytes::PageTold { ask, first, last, more, head, entries } => {
                let entries = entries.into_iter().map(EntryBytes::entry).collect::<Result<_, _>>()?;
                let (first, last, head) = (Seq(first), Seq(last), Seq(head));
                told(ask, Ok(GroupTold::Page { first, last, more, head, entries }))
            }
            SaidBytes::MembersTold { ask, at, more, members, counts } => {
                let mut known = Vec::with_capacity(members.len());
                for (user, role, since, read, had) in members {
                    let role = Role::from_byte(role).ok_or("a role that nobody has")?;
                    let (user, since) = (UserId(user), Seq(since));
                    known.push(MemberInfo { user, role, since, read_up_to: Seq(read), delivered_up_to: Seq(had) });
                }
                told(ask, Ok(GroupTold::Members { at: Seq(at), more, members: known, counts }))
            }
            SaidBytes::RowTold { ask, row } => {
                let RowBytes { standing, role, rules, members, head, name, picture, last, unread } = row;
                let row = GroupRow {
                    group,
                    standing: Standing::from_byte(standing).ok_or("a standing that nobody has")?,
                    role: Role::from_byte(role).ok_or("a role that nobody has")?,
                    rules: Rules::from_bits(rules),
                    members,
                    head: Seq(head),
                    name: name.to_owned(),
                    picture: picture.to_owned(),
                    last: last.map(EntryBytes::entry).transpose()?,
                    settings: Settings::default(),
                    read_up_to: Seq::ZERO,
                    unread,
                };
                told(ask, Ok(GroupTold::Row(Box::new(row))))
            }
            SaidBytes::NotTold { ask, code } => told(ask, Err(ErrorCode::from_number(code))),
        };
        Ok(GroupMail { group, core, said })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proto_spec::digest::DIGEST_BYTES;

    use super::*;

    fn entry(content: Content) -> GroupEntry {
        let (seq, time, from, origin) = (Seq(9), TimestampMs(1_000), UserId(7), Seq(4));
        GroupEntry { seq, time, from, origin, messages: 3, content }
    }

    fn row(last: Option<GroupEntry>) -> GroupRow {
        let (name, picture) = ("crew".to_owned(), String::new());
        let (standing, role, rules) = (Standing::Member, Role::Admin, Rules::from_bits(3));
        let (settings, read_up_to, unread) = (Settings::default(), Seq::ZERO, 1);
        GroupRow {
            group: GROUP,
            standing,
            role,
            rules,
            members: 2,
            head: Seq(9),
            name,
            picture,
            last,
            settings,
            read_up_to,
            unread,
        }
    }

    const GROUP: GroupId = GroupId(300);
    const CORE: CoreAddress = CoreAddress { node: NodeId(0), core: CoreId(3) };

    /// One of each kind that is said of a group, in the order of their numbers.
    pub(in crate::mesh) fn said() -> Vec<GroupMail> {
        let (ask, user, other) = (AskId(5), UserId(7), UserId(300));
        let page = GroupWish::Page { from: Seq(2), direction: Direction::Forwards, limit: 50 };
        let member = MemberInfo { user, role: Role::Owner, since: Seq(1), read_up_to: Seq(8), delivered_up_to: Seq(9) };
        let entries = vec![entry(Content::text("hello"))];
        let told = |told| GroupSaid::Told { ask, told };
        let (request, at, first, last, width) = (RequestId(0), Seq(9), Seq(2), Seq(9), 4);
        let digests = Digests { request, at, first, last, width, digests: vec![[1; DIGEST_BYTES], [2; DIGEST_BYTES]] };
        let said = [
            GroupSaid::Follow { users: vec![user, other] },
            GroupSaid::Unfollow,
            GroupSaid::Ask { ask, user, wish: page },
            GroupSaid::Ask { ask, user, wish: GroupWish::Members { after: other, limit: 50, seq: Seq(9) } },
            GroupSaid::Ask { ask, user, wish: GroupWish::Row { read: Seq(8) } },
            GroupSaid::Following { head: Seq(9), members: vec![user], strangers: vec![other] },
            GroupSaid::Pushed(Arc::new(entry(Content::text("hello")))),
            told(Ok(GroupTold::Page { first: Seq(2), last: Seq(9), more: true, head: Seq(12), entries })),
            told(Ok(GroupTold::Members { at: Seq(9), more: false, members: vec![member], counts: (1, 0) })),
            told(Ok(GroupTold::Row(Box::new(row(Some(entry(Content::text("hello")))))))),
            told(Err(ErrorCode::NoSuchGroup)),
            GroupSaid::Types { user },
            GroupSaid::Typing { user: other },
            GroupSaid::Have { marks: vec![(user, Seq(9))] },
            GroupSaid::Ask { ask, user, wish: GroupWish::Digests { first: Seq(2), last: Seq(9), width: 4 } },
            told(Ok(GroupTold::Digests(digests))),
            GroupSaid::Wants { user, wants: Some(Wants::Named), is_here: true },
            GroupSaid::Away { user },
        ];
        said.into_iter().map(|said| GroupMail { group: GROUP, core: CORE, said }).collect()
    }

    #[test]
    fn what_nobody_says_of_groups_is_refused() {
        let row = row(None);
        let mail = GroupMail { group: GROUP, core: CORE, said: GroupSaid::Unfollow };
        let bytes = |said| GroupBytes { said, ..GroupBytes::of(&mail) };
        let plain = |standing, role| RowBytes {
            standing,
            role,
            rules: 0,
            members: row.members,
            head: row.head.0,
            name: &row.name,
            picture: &row.picture,
            last: None,
            unread: 0,
        };
        let (standing, role) = (row.standing.byte(), row.role.byte());
        assert!(bytes(SaidBytes::RowTold { ask: 1, row: plain(standing, role) }).mail().is_ok());
        assert!(bytes(SaidBytes::RowTold { ask: 1, row: plain(200, role) }).mail().is_err());
        assert!(bytes(SaidBytes::RowTold { ask: 1, row: plain(standing, 200) }).mail().is_err());
        let members = vec![(1, 200, 1, 0, 0)];
        assert!(bytes(SaidBytes::MembersTold { ask: 1, at: 1, more: false, members, counts: (0, 0) }).mail().is_err());
        let garbled = EntryBytes { seq: 1, time: 1, from: 1, origin: 1, messages: 0, kind: 0, body: &[0xff] };
        let text = Content::text("").parts().0;
        assert!(bytes(SaidBytes::Pushed(EntryBytes { kind: text, ..garbled })).mail().is_err());
    }
}
