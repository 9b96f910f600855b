//! What a client says and hears of groups, frame by frame: it asks no server for what that can not read.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;
mod wire;

use client::{
    Act, ClientEvent, Content, ConversationId, Direction, DisconnectReason, ErrorCode, FetchHandle, GroupEntry,
    GroupId, GroupPage, Input, Kinds, Rules, SendError, Seq, TimestampMs, UserId, limits::ACKNOWLEDGE_GROUPS_AFTER_MS,
};
use proto_spec::{ClientFrame, ClientKind, ContentKind, ConversationKind, Digests, ServerFrame, digest::DIGEST_BYTES};

use crate::{welcome::welcome, wire::Wire};

const GROUP: GroupId = GroupId(42);

/// The welcome of a server that has groups.
fn with_groups() -> ServerFrame {
    let mut welcome = welcome(ClientKind::ALL, 60_000);
    if let ServerFrame::Welcome { capabilities, .. } = &mut welcome {
        capabilities.content_kinds = ContentKind::ALL.iter().map(|kind| kind.byte()).collect();
        capabilities.conversation_kinds = ConversationKind::ALL.iter().map(|kind| kind.byte()).collect();
    }
    welcome
}

fn connected(welcome: &ServerFrame) -> Wire {
    let mut wire = Wire::new("server:7600", "token");
    wire.open();
    wire.hear(welcome);
    wire
}

fn refused(events: &[ClientEvent]) -> Vec<(FetchHandle, ErrorCode)> {
    let refused = |event: &ClientEvent| match event {
        ClientEvent::FetchRefused { fetch, code, .. } => Some((*fetch, *code)),
        _ => None,
    };
    events.iter().filter_map(refused).collect()
}

#[test]
fn a_server_without_groups_is_asked_for_none_and_sent_none() {
    // It takes all frames and contents, but no conversation of this kind.
    let mut welcome = with_groups();
    if let ServerFrame::Welcome { capabilities, .. } = &mut welcome {
        capabilities.conversation_kinds = Kinds::from_iter([ConversationKind::User.byte()]);
    }
    let mut wire = connected(&welcome);
    assert_eq!(wire.client.send(GROUP, Content::text("all")), Err(SendError::ConversationKind));
    let asked = [
        wire.client.fetch_conversation(GROUP, Seq(0), Direction::Backwards, 10).unwrap(),
        wire.client.mark_read(GROUP, Seq(3), false).unwrap(),
        wire.client.delete_message(GROUP, Seq(3)).unwrap(),
    ];
    wire.client.typing(GROUP);
    let (effects, frames) = wire.turn(Input::Tick);
    assert_eq!(frames, []);
    assert_eq!(refused(&effects.events), asked.map(|fetch| (fetch, ErrorCode::UnknownKind)));
    // With a user all of this is said.
    wire.client.fetch_conversation(UserId(8), Seq(0), Direction::Backwards, 10).unwrap();
    assert_eq!(wire.turn(Input::Tick).1.len(), 1);
}

#[test]
fn a_group_is_begun_under_the_number_that_was_drawn_and_acts_go_to_groups_alone() {
    let mut wire = connected(&with_groups());
    let rules = Rules::HISTORY;
    let (group, _) = wire.client.create_group(0, "Sea", "", rules).unwrap();
    assert_eq!(group, GroupId(1), "zero is no group");
    let (group, _) = wire.client.create_group(GROUP.0, "Sea", "", rules).unwrap();
    assert_eq!(group, GROUP);
    let add = Content::act(&Act::Add { user: UserId(8) });
    wire.client.send(GROUP, add.clone()).unwrap();
    assert_eq!(wire.client.send(UserId(8), add), Err(SendError::ActToUser));
    assert_eq!(wire.client.send(GroupId(0), Content::text("nobody")), Err(SendError::Recipient));
    assert_eq!(wire.client.create_group(5, "", "", rules), Err(SendError::ContentLimits));
    let frames = wire.turn(Input::Tick).1;
    let sent: Vec<_> = frames
        .iter()
        .filter_map(|frame| match frame {
            ClientFrame::Send { to, content, .. } => Some((*to, content.clone())),
            _ => None,
        })
        .collect();
    let create = Content::act(&Act::Create { name: "Sea", picture: "", rules });
    let to = ConversationId::Group;
    // Whoever is added waits for the group.
    assert_eq!(sent, [(to(GroupId(1)), create.clone()), (to(GROUP), create)]);
}

fn entry(seq: u64) -> GroupEntry {
    GroupEntry {
        seq: Seq(seq),
        time: TimestampMs(1),
        from: UserId(8),
        origin: Seq(1),
        messages: seq,
        content: Content::text("hi"),
    }
}

#[test]
fn what_is_asked_for_is_answered_with_the_direction_in_which_it_was_asked() {
    let mut wire = connected(&with_groups());
    let page_of = wire.client.fetch_conversation(GROUP, Seq(0), Direction::Backwards, 2).unwrap();
    let groups = wire.client.fetch_groups(GroupId(0), 50).unwrap();
    let members = wire.client.fetch_members(GROUP, UserId(3), 9, Seq(5)).unwrap();
    let frames = wire.turn(Input::Tick).1;
    let [
        ClientFrame::FetchConversation { request, .. },
        ClientFrame::FetchGroups { request: second, after: GroupId(0), limit: 50 },
        ClientFrame::FetchMembers { request: third, group: GROUP, after: UserId(3), limit: 9, seq: Seq(5) },
    ] = frames[..]
    else {
        panic!("{frames:?}")
    };
    let (first, last, head) = (Seq(1), Seq(2), Seq(2));
    let page = GroupPage { request, group: GROUP, first, last, more: false, head, entries: vec![entry(1), entry(2)] };
    let events = wire.hear(&ServerFrame::GroupPage(page.clone())).0;
    assert_eq!(
        events,
        [ClientEvent::GroupPage { fetch: page_of, direction: Direction::Backwards, page: page.clone() }]
    );
    let events = wire.hear(&ServerFrame::Groups { request: second, at: Seq(4), more: true, rows: Vec::new() }).0;
    assert_eq!(events, [ClientEvent::Groups { fetch: groups, at: Seq(4), more: true, rows: Vec::new() }]);
    let answer = ServerFrame::Members {
        request: third,
        group: GROUP,
        more: false,
        at: head,
        members: Vec::new(),
        delivered: 2,
        read: 1,
    };
    let told = ClientEvent::Members {
        fetch: members,
        group: GROUP,
        more: false,
        at: head,
        members: Vec::new(),
        delivered: 2,
        read: 1,
    };
    assert_eq!(wire.hear(&answer).0, [told]);
    // Nobody has asked for it a second time.
    assert_eq!((wire.hear(&ServerFrame::GroupPage(page)).0, wire.client.unasked_answers()), (Vec::new(), 1));
}

#[test]
fn a_pushed_entry_of_a_group_moves_no_position_and_is_not_acknowledged() {
    let mut wire = connected(&with_groups());
    let push = ServerFrame::DeliverGroup { group: GROUP, entry: entry(57) };
    let (events, frames) = wire.hear(&push);
    assert_eq!((events, frames), (vec![ClientEvent::GroupEntry { group: GROUP, entry: entry(57) }], Vec::new()));
    assert_eq!(wire.client.position(), Some(Seq(0)));
    // Whether it comes again is for the application to see.
    assert_eq!(wire.hear(&push).0.len(), 1);
}

#[test]
fn what_a_group_has_pushed_is_acknowledged_once_for_all_that_came_meanwhile() {
    let mut wire = connected(&with_groups());
    for seq in [1, 2, 3] {
        let (_, frames) = wire.hear(&ServerFrame::DeliverGroup { group: GROUP, entry: entry(seq) });
        assert_eq!(frames, []);
    }
    let later = |wire: &mut Wire| {
        wire.now = wire.now.after(ACKNOWLEDGE_GROUPS_AFTER_MS);
        wire.turn(Input::Tick).1
    };
    assert_eq!(later(&mut wire), [ClientFrame::AcknowledgeGroup { group: GROUP, up_to: Seq(3) }]);
    assert_eq!(later(&mut wire), [], "nothing came since");
    let digests = wire.client.fetch_group_digest(GROUP, (Seq(1), Seq(3), 2)).unwrap();
    let frames = wire.turn(Input::Tick).1;
    let [ClientFrame::FetchDigest { request, first: Seq(1), last: Seq(3), width: 2, group: GROUP }] = frames[..] else {
        panic!("{frames:?}")
    };
    let (at, first, last, width) = (Seq(3), Seq(1), Seq(3), 2);
    let told = Digests { request, at, first, last, width, digests: vec![[1; DIGEST_BYTES], [2; DIGEST_BYTES]] };
    let events = wire.hear(&ServerFrame::Digest(told.clone())).0;
    assert_eq!(events, [ClientEvent::Digest { fetch: digests, digests: told }]);
}

#[test]
fn a_page_with_entries_out_of_order_or_range_is_a_fault() {
    for (first, last, seqs) in [(1, 3, [2, 2]), (1, 3, [3, 1]), (1, 3, [3, 4]), (2, 3, [1, 2])] {
        let mut wire = connected(&with_groups());
        wire.client.fetch_conversation(GROUP, Seq(0), Direction::Backwards, 2).unwrap();
        let frames = wire.turn(Input::Tick).1;
        let [ClientFrame::FetchConversation { request, .. }] = frames[..] else { panic!("{frames:?}") };
        let entries = seqs.map(entry).to_vec();
        let (first, last, head) = (Seq(first), Seq(last), Seq(9));
        let page = GroupPage { request, group: GROUP, first, last, more: true, head, entries };
        let events = wire.hear(&ServerFrame::GroupPage(page)).0;
        let is_fault = |event: &ClientEvent| {
            matches!(event, ClientEvent::Disconnected { reason: DisconnectReason::Protocol(_), .. })
        };
        assert!(events.iter().any(is_fault), "{seqs:?}: {events:?}");
    }
}

#[test]
fn a_fetch_of_a_group_that_is_nobodys_to_see_is_refused_for_good() {
    let mut wire = connected(&with_groups());
    let fetch = wire.client.fetch_members(GROUP, UserId(0), 9, Seq(0)).unwrap();
    let frames = wire.turn(Input::Tick).1;
    let [ClientFrame::FetchMembers { request, .. }] = frames[..] else { panic!("{frames:?}") };
    let (code, kind) = (ErrorCode::NoSuchGroup, ClientKind::FetchMembers.byte());
    let error = ServerFrame::Error { code, kind, request, retry_after_ms: 0, detail: String::new() };
    assert_eq!(refused(&wire.hear(&error).0), [(fetch, code)]);
}
