//! Any commands of any people to a group, well formed or not: nothing panics, nobody does what is not theirs to do, and the group stays one:
//! one owner, a roll that says of each what they may read, and a log that reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_spec::{
    Act, Body, Content, ContentKind, Direction, GroupEntry, Role, Rules, Seq, Standing, TimestampMs, UserId,
};
use server::group::{rights::Group, roll::Roll};
use storage::MemberRow;

/// So few that they have to do with each other.
const PEOPLE: u8 = 6;
const MEMBERS_MAX: usize = 4;
const SECRET: &[u8] = b"sixteen or more.";

fn person(byte: u8) -> UserId {
    UserId(u64::from(byte % PEOPLE) + 1)
}

/// What a byte or the bytes behind it say.
fn command(what: u8, rest: &mut &[u8]) -> Content {
    let mut byte = || {
        let (first, behind) = rest.split_first().unwrap_or((&0, &[]));
        *rest = behind;
        *first
    };
    match what % 13 {
        0 => Content::act(&Act::Create { name: "sea", picture: "", rules: Rules::from_bits(byte().into()) }),
        1 => Content::act(&Act::Add { user: person(byte()) }),
        2 => Content::act(&Act::Remove { user: person(byte()) }),
        3 => Content::act(&Act::Ban { user: person(byte()) }),
        4 => Content::act(&Act::Unban { user: person(byte()) }),
        5 => Content::act(&Act::SetRole { user: person(byte()), role: Role::ALL[usize::from(byte()) % 3] }),
        6 => Content::act(&Act::SetRules { rules: Rules::from_bits(byte().into()) }),
        7 => Content::act(&Act::Invite { digest: (byte() & 1 == 0).then_some(&SECRET_DIGEST) }),
        8 => Content::act(&Act::Join { secret: SECRET }),
        9 => Content::act(&Act::End),
        10 => Content::text("hello"),
        // Any bytes as an act, as a client may send them.
        _ => {
            let size = usize::from(byte()).min(rest.len());
            let (body, behind) = rest.split_at(size);
            *rest = behind;
            Content::from_parts(ContentKind::Act.byte(), body.into())
        }
    }
}

/// SHA-256 of the secret.
const SECRET_DIGEST: [u8; 32] = [
    0x71, 0xd7, 0x97, 0xc3, 0x9f, 0xb0, 0x31, 0x66, 0x6f, 0xc6, 0x31, 0x28, 0xea, 0xf3, 0x6c, 0x5b, 0xe1, 0xc2, 0x11,
    0xfb, 0x3e, 0x93, 0x2d, 0xd4, 0x86, 0x2f, 0x39, 0xd7, 0xe4, 0x0d, 0x69, 0xff,
];

fn check(group: &Group, head: Seq) {
    let (members, more) = group.roll.page(UserId(0), usize::MAX, true);
    assert!(!more && members.len() == group.roll.members() && members.len() <= MEMBERS_MAX);
    let owners = members.iter().filter(|member| member.role == Role::Owner).count();
    let has_ended = group.state.as_ref().is_some_and(|state| state.has_ended);
    assert!(owners <= 1 && (has_ended || owners == 1), "one owner as long as it goes on");
    for row in (1..=u64::from(PEOPLE)).filter_map(|user| group.roll.row(UserId(user))) {
        let is_open = row.spans.last().is_some_and(|(_, last)| *last == MemberRow::OPEN);
        assert_eq!(is_open, row.standing == Standing::Member);
        // Paging through what may be read meets each part once, and nothing else.
        let (mut from, mut seen) = (Seq(1), 0);
        while let Some(((first, last), more)) = Roll::clip(row, from, Direction::Forwards, head) {
            assert!(from <= first && first <= last && last <= head && Roll::may_read(row, first));
            (from, seen) = (last.next(), seen + 1);
            assert_eq!(more, Roll::clip(row, from, Direction::Forwards, head).is_some());
        }
        assert!(seen <= row.spans.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut group, mut head, mut rest) = (Group::default(), Seq::ZERO, data);
    while let [who, what, behind @ ..] = rest {
        rest = behind;
        let (from, content) = (person(*who), command(*what, &mut rest));
        if content.fault().is_some() {
            // The author's home refuses it.
            continue;
        }
        let was_member = group.roll.member(from).is_some();
        let Ok(taken) = group.judge(from, &content, head.next(), MEMBERS_MAX) else { continue };
        let begins = matches!(content.body(), Ok(Body::Act(Act::Create { .. } | Act::Join { .. })));
        assert!(was_member || begins, "who is no member does nothing");
        head = head.next();
        let messages = u64::from(taken.content.is_message());
        let entry = GroupEntry {
            seq: head,
            time: TimestampMs(1),
            from,
            origin: head,
            messages,
            content: taken.content.clone(),
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(GroupEntry::decode(&bytes), Ok(entry));
        group.apply(&taken);
        check(&group, head);
    }
});
