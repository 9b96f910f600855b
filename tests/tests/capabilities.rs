//! What a welcome tells of what the server takes is what it takes (SPEC 8.7): no less, no more.

use proto_spec::{
    Act, Attachment, AttachmentKind, Capabilities, ClientFrame, Content, ContentKind, ErrorCode, GroupId, MessageName,
    Reply, Resume, Rules, SendNumber, Seq, ServerFrame, UserId, wire::put_varint,
};
use server::shard::Limits;
use tests::{
    frames::{accepted, refused},
    world::{Link, World},
};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const FIRST: MessageName = MessageName { author: UserId(ALICE), seq: Seq(1) };
const SECOND: MessageName = MessageName { author: UserId(ALICE), seq: Seq(2) };

/// Alice connects, is told this, and has said something to Bob.
fn connect(world: &mut World, device: u64) -> (Link, Capabilities) {
    let link = world.connect(ALICE, device, Resume::Live);
    let frames = world.take(link);
    let [ServerFrame::Welcome { capabilities, .. }, ..] = frames[..] else { panic!("{frames:?}") };
    (link, capabilities)
}

fn say(world: &mut World, link: Link, number: u64, content: Content) -> Vec<ServerFrame> {
    // Something is done to groups alone.
    let to = if matches!(content, Content::Act(_)) { GroupId(BOB).into() } else { UserId(BOB).into() };
    world.frame(link, &ClientFrame::Send { number: SendNumber(number), to, content });
    world.settle();
    world.take(link)
}

/// One of this kind that follows the rules.
fn sample(kind: ContentKind) -> Content {
    match kind {
        ContentKind::Text => Content::text("text"),
        ContentKind::Reply => Content::reply(&Reply { to: FIRST, quote: "", text: "yes" }),
        ContentKind::Attachment => Content::attachment(&Attachment {
            kind: AttachmentKind::Image,
            size: 1,
            sha256: &[7; 32],
            content_type: "image/png",
            location: "https://files.example/1",
            width: 640,
            height: 480,
            duration_ms: 0,
            thumbnail: "",
            caption: "",
        }),
        ContentKind::Opaque => Content::opaque(b"\xff"),
        ContentKind::Edit => Content::edit(FIRST, &Content::text("other words"), None),
        ContentKind::Unsend => Content::unsend(FIRST, None),
        ContentKind::Reaction => Content::reaction(SECOND, "👍", None),
        ContentKind::Act => Content::act(&Act::Create { name: "sea", picture: "", rules: Rules::default() }),
        ContentKind::Mention => Content::mention(&[UserId(BOB)], "@bob"),
    }
}

#[test]
fn each_content_kind_that_is_told_is_accepted_and_each_other_is_refused() {
    let mut world = World::new(1);
    let (alice, told) = connect(&mut world, 1);
    say(&mut world, alice, 1, Content::text("a message to be changed"));
    say(&mut world, alice, 2, Content::text("a message to be reacted to"));
    let mut next = 3;
    for kind in 0..64 {
        let content = match ContentKind::from_byte(kind) {
            Some(known) => sample(known),
            None => Content::Unknown { kind, body: b"?".as_slice().into() },
        };
        let frames = say(&mut world, alice, next, content);
        if told.content_kinds.contains(kind) {
            assert!(matches!(accepted(&frames)[..], [(number, _)] if number == next), "kind {kind}: {frames:?}");
            next += 1;
        } else {
            assert_eq!(refused(&frames), [(next, ErrorCode::ContentKind, next)], "kind {kind}");
        }
    }
    assert!(told.content_kinds.contains(ContentKind::Text.byte()));
}

#[test]
fn an_edit_takes_the_kinds_that_are_told_and_no_other() {
    let mut world = World::new(1);
    let (alice, told) = connect(&mut world, 1);
    let mut next = 1;
    let is_change = |kind| matches!(ContentKind::from_byte(kind), Some(known) if !sample(known).is_message());
    for kind in 0..64 {
        let takes = told.content_kinds.contains(kind) && !is_change(kind);
        let content = Content::from_parts(
            kind,
            ContentKind::from_byte(kind).map_or(b"?".as_slice().into(), |kind| sample(kind).parts().1.clone()),
        );
        let edited = if takes {
            say(&mut world, alice, next, content.clone());
            next += 1;
            MessageName { author: UserId(ALICE), seq: Seq(next - 1) }
        } else {
            FIRST
        };
        let frames = say(&mut world, alice, next, Content::edit(edited, &content, None));
        if takes {
            assert!(matches!(accepted(&frames)[..], [(number, _)] if number == next), "kind {kind}: {frames:?}");
            next += 1;
        } else {
            assert_eq!(refused(&frames), [(next, ErrorCode::ContentKind, next)], "kind {kind}");
        }
    }
}

#[test]
fn each_frame_kind_that_is_told_is_known_and_each_other_is_answered_as_unknown() {
    let mut world = World::new(1);
    for kind in 0..0x80 {
        let (link, told) = connect(&mut world, 1);
        world.bytes(link, &[1, kind]);
        world.settle();
        let frames = world.take(link);
        let is_unknown = frames.iter().any(|frame| {
            matches!(frame, ServerFrame::Error { code: ErrorCode::UnknownKind, kind: named, .. } if *named == kind)
        });
        assert_eq!(is_unknown, !told.frame_kinds.contains(kind), "kind {kind:#04x}: {frames:?}");
    }
}

#[test]
fn each_conversation_kind_that_is_told_is_accepted_and_each_other_is_malformed() {
    let mut world = World::new(1);
    let mut next = 1;
    for kind in 0..64 {
        let (link, told) = connect(&mut world, 1);
        let mut body = vec![0x02];
        [next, u64::from(kind), BOB].iter().for_each(|value| put_varint(&mut body, *value));
        body.extend([ContentKind::Text.byte(), 1, b'x']);
        world.bytes(link, &[&[u8::try_from(body.len()).expect("a short frame")][..], &body].concat());
        world.settle();
        let frames = world.take(link);
        if told.conversation_kinds.contains(kind) {
            assert_eq!(accepted(&frames).len(), 1, "kind {kind}: {frames:?}");
            next += 1;
        } else {
            assert!(
                matches!(frames[..], [ServerFrame::Bye { code: ErrorCode::Malformed, .. }]),
                "kind {kind}: {frames:?}"
            );
        }
    }
    assert_eq!(next, 3, "there are users and groups");
}

#[test]
fn a_message_can_be_changed_for_as_long_as_is_told() {
    let limits = Limits { edit_within_ms: 10_000, unsend_within_ms: 20_000, ..Limits::OFF };
    let mut world = World::limited(1, limits);
    let (alice, told) = connect(&mut world, 1);
    assert_eq!((told.edit_within_s, told.unsend_within_s), (10, 20));
    let changes = [(ContentKind::Edit, told.edit_within_s), (ContentKind::Unsend, told.unsend_within_s)];
    let mut next = 1;
    for (kind, within_s) in changes {
        for late_ms in [0, 1] {
            let frames = say(&mut world, alice, next, Content::text("text"));
            let [(_, seq)] = accepted(&frames)[..] else { panic!("{frames:?}") };
            let of = MessageName { author: UserId(ALICE), seq: Seq(seq) };
            world.advance(within_s * 1_000 + late_ms);
            world.take(alice);
            let change = match kind {
                ContentKind::Edit => Content::edit(of, &Content::text("other words"), None),
                _ => Content::unsend(of, None),
            };
            let frames = say(&mut world, alice, next + 1, change);
            if late_ms == 0 {
                assert_eq!(accepted(&frames).len(), 1, "{kind:?}: {frames:?}");
                next += 2;
            } else {
                assert_eq!(refused(&frames), [(next + 1, ErrorCode::TooLate, next + 1)], "{kind:?}");
                next += 1;
            }
        }
    }
}

#[test]
fn where_messages_can_be_changed_for_ever_no_time_is_told() {
    let (_, told) = connect(&mut World::new(1), 1);
    assert_eq!((told.edit_within_s, told.unsend_within_s), (0, 0));
}

#[test]
fn a_text_of_the_length_that_is_told_is_accepted_and_a_longer_one_is_refused() {
    let mut world = World::new(1);
    let link = world.connect(ALICE, 1, Resume::Live);
    let frames = world.take(link);
    let [ServerFrame::Welcome { text_bytes_max, .. }, ..] = frames[..] else { panic!("{frames:?}") };
    let text = "x".repeat(usize::try_from(text_bytes_max).expect("a text fits memory") + 1);
    assert_eq!(refused(&say(&mut world, link, 1, Content::text(&text))), [(1, ErrorCode::TextLength, 1)]);
    assert_eq!(accepted(&say(&mut world, link, 1, Content::text(&text[1..]))), [(1, 1)]);
}
