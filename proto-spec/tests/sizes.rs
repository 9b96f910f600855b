//! What a message costs on the wire, and that the largest frames fit their limits.

use proto_spec::{
    ClientFrame, Content, DeviceId, Entry, Event, GroupEntry, GroupId, GroupPage, GroupRow, MemberInfo, Presence,
    PresenceState, RequestId, Role, Rules, SendNumber, Seq, ServerFrame, Settings, Show, Standing, Subscription,
    TimestampMs, UserId, limits,
};

const SPEC: &str = include_str!("../SPEC.md");
const TEXT_BYTES: usize = 100;
const TIME: TimestampMs = TimestampMs(1_767_225_600_000);

fn send_overhead(number: SendNumber, to: UserId) -> usize {
    let mut out = Vec::new();
    ClientFrame::Send { number, to: to.into(), content: Content::text(&"x".repeat(TEXT_BYTES)) }.encode(&mut out);
    out.len() - TEXT_BYTES
}

fn push_overhead(seq: Seq, from: UserId, origin: Seq) -> usize {
    let content = Content::text(&"x".repeat(TEXT_BYTES));
    let mut out = Vec::new();
    ServerFrame::encode_deliver(&Entry { seq, time: TIME, event: Event::Received { from, origin, content } }, &mut out);
    out.len() - TEXT_BYTES
}

/// The target of the protocol: at most 24 bytes around a sent text of 100 bytes and 32 around a pushed one.
#[test]
fn overheads_are_what_the_specification_says() {
    let large = (1 << 28) - 1;
    assert_eq!(send_overhead(SendNumber(1), UserId(1)), 7);
    assert_eq!(send_overhead(SendNumber(large), UserId(u64::MAX)), 19);
    assert_eq!(push_overhead(Seq(1), UserId(1), Seq(1)), 14);
    assert_eq!(push_overhead(Seq(large), UserId(u64::MAX), Seq(large)), 30);
    assert!(SPEC.contains("a `send` has 7 to 19 bytes, a pushed `received` 14 to 30"));
    // Typical: a year of heavy use, and users numbered by a 64-bit generator that embeds the time.
    assert_eq!(send_overhead(SendNumber(20_000), UserId(1 << 60)), 17);
    assert_eq!(push_overhead(Seq(60_000), UserId(1 << 60), Seq(60_000)), 26);
}

#[test]
fn the_least_entry_has_the_bytes_that_the_specification_says() {
    let mut out = Vec::new();
    let entry = Entry { seq: Seq(1), time: TimestampMs(1), event: Event::Unknown { kind: 99 } };
    ServerFrame::encode_deliver(&entry, &mut out);
    assert_eq!(out.len() - 2, 3, "without length and kind of the frame");
    assert!(SPEC.contains("least entry has 3 bytes, of a kind that the receiver does not know, and 4 in a list."));
}

#[test]
fn the_largest_frames_of_each_limit_fit() {
    let text = Content::text(&"x".repeat(limits::TEXT_BYTES_MAX));
    let mut out = Vec::new();
    ClientFrame::Send { number: SendNumber(u64::MAX), to: UserId(u64::MAX).into(), content: text.clone() }
        .encode(&mut out);
    assert!(out.len() <= limits::CLIENT_FRAME_BYTES_MAX);
    out.clear();
    let max = u64::MAX;
    let event = Event::Sent { to: UserId(max).into(), device: DeviceId(max), number: SendNumber(max), content: text };
    Entry { seq: Seq(max), time: TimestampMs(max), event }.encode(&mut out);
    assert!(out.len() + 3 <= limits::PAGE_BYTES_MAX, "with its length");
    out.clear();
    let users = vec![UserId(max); limits::PRESENCE_USERS_MAX];
    let mentioned = vec![UserId(max); limits::MENTIONS_MAX];
    let mention = Content::mention(&mentioned, &"x".repeat(limits::CONTENT_BYTES_MAX - 1 - 10 * mentioned.len() - 2));
    assert_eq!((mention.fault(), mention.parts().1.len()), (None, limits::CONTENT_BYTES_MAX));
    ClientFrame::FetchPresence { request: RequestId(max), users }.encode(&mut out);
    assert!(out.len() <= limits::CLIENT_FRAME_BYTES_MAX);
    out.clear();
    let (address, key) = ("x".repeat(limits::PUSH_ADDRESS_BYTES_MAX), vec![4; limits::PUSH_KEY_BYTES]);
    let secret = vec![7; limits::PUSH_SECRET_BYTES];
    let subscription = Subscription { provider: max, show: Show::Text, address, key, secret };
    ClientFrame::Subscribe { request: RequestId(max), subscription }.encode(&mut out);
    assert!(out.len() <= limits::CLIENT_FRAME_BYTES_MAX);
    out.clear();
    let state =
        PresenceState { user: UserId(max), state: Presence::Online, last_seen: TimestampMs(max), ask_again_ms: max };
    let states = vec![state; limits::PRESENCE_USERS_MAX];
    ServerFrame::Presence { request: RequestId(max), lifetime_ms: max, states }.encode(&mut out);
    assert!(out.len() <= limits::SERVER_FRAME_BYTES_MAX);
}

#[test]
fn the_largest_frames_about_groups_fit() {
    let max = u64::MAX;
    let (request, group, seq) = (RequestId(max), GroupId(max), Seq(max));
    let content = Content::text(&"x".repeat(limits::TEXT_BYTES_MAX));
    let entry = GroupEntry { seq, time: TimestampMs(max), from: UserId(max), origin: seq, messages: max, content };
    let member = MemberInfo { user: UserId(max), role: Role::Owner, since: seq, read_up_to: seq, delivered_up_to: seq };
    let row = GroupRow {
        group,
        standing: Standing::Member,
        role: Role::Owner,
        rules: Rules::from_bits(max),
        members: max,
        head: seq,
        name: "x".repeat(limits::GROUP_NAME_BYTES_MAX),
        picture: "x".repeat(limits::LOCATION_BYTES_MAX),
        last: Some(entry.clone()),
        settings: Settings::from_bits(max),
        read_up_to: seq,
        unread: max,
    };
    let members = vec![member; limits::MEMBERS_PAGE_MAX as usize];
    let page = GroupPage { request, group, first: seq, last: seq, more: true, head: seq, entries: vec![entry.clone()] };
    for frame in [
        ServerFrame::DeliverGroup { group, entry },
        ServerFrame::GroupPage(page),
        ServerFrame::Groups { request, at: seq, more: true, rows: vec![row] },
        ServerFrame::Members { request, group, more: true, at: seq, members, delivered: max, read: max },
    ] {
        let mut out = Vec::new();
        frame.encode(&mut out);
        assert!(out.len() <= limits::SERVER_FRAME_BYTES_MAX, "{:?}: {} bytes", frame.kind(), out.len());
    }
}
