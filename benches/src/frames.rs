//! One sample of each frame kind. Matches without `_`: a kind without a sample does not compile.

use proto_spec::{
    Capabilities, ClientFrame, ClientKind, Content, DeviceId, DeviceInfo, Digests, Direction, Durability, Entry,
    EpochId, ErrorCode, Event, GroupEntry, GroupId, GroupPage, GroupRow, Inbox, InboxRow, MemberInfo, Page, Presence,
    PresenceState, Provider, PushState, Recipient, RedirectReason, RequestId, Resume, Role, Rules, SendNumber, Seq,
    ServerFrame, ServerKind, Settings, Show, Standing, Status, Subscription, TimestampMs, UserId, Visibility,
    limits::{
        DIGESTS_MAX, PAGE_ENTRIES_MAX, PRESENCE_USERS_MAX, PUSH_KEY_BYTES, PUSH_SECRET_BYTES, SEND_WINDOW,
        TEXT_BYTES_MAX,
    },
};

use crate::TEXT;

/// Entries of the sample page: what a screen shows and some more.
const PAGE_ENTRIES: u64 = 50;

/// A token is opaque to the codec; this is the length of a JWT with EdDSA.
const TOKEN_BYTES: usize = 200;

// Ids and times of a deployment that has grown: varints of four to six bytes.
const USER: UserId = UserId(81_234_567);
const PEER: UserId = UserId(76_543_210);
const DEVICE: DeviceId = DeviceId(3);
const SEQ: Seq = Seq(123_456);
const EPOCH: EpochId = EpochId(0x00c0_ffee_1234_5678);
const NUMBER: SendNumber = SendNumber(54_321);
const GROUP: GroupId = GroupId(9_000_000_000_000_000_000);
const MEMBERS: usize = 50;
const TIME: TimestampMs = TimestampMs(1_760_000_000_000);
const REQUEST: RequestId = RequestId(17);
const NONCE: u64 = 987_654_321;

/// The sample of a kind that clients send.
#[must_use]
pub fn client(kind: ClientKind) -> ClientFrame {
    let (from, direction, limit) = (SEQ, Direction::Backwards, PAGE_ENTRIES);
    match kind {
        ClientKind::Hello => ClientFrame::Hello {
            version_min: 1,
            version_max: 1,
            device: DEVICE,
            resume: Resume::After(SEQ),
            since: SEQ,
            skip_above: 2_000,
            hops: 1,
            token: "t".repeat(TOKEN_BYTES),
            epoch: EPOCH,
        },
        ClientKind::Send => ClientFrame::Send { number: NUMBER, to: PEER.into(), content: Content::text(TEXT) },
        ClientKind::Acknowledge => ClientFrame::Acknowledge { seq: SEQ },
        ClientKind::FetchLog => ClientFrame::FetchLog { request: REQUEST, from, direction, limit },
        ClientKind::FetchConversation => {
            ClientFrame::FetchConversation { request: REQUEST, conversation: PEER.into(), from, direction, limit }
        }
        ClientKind::FetchGroups => ClientFrame::FetchGroups { request: REQUEST, after: GroupId(0), limit: INBOX_ROWS },
        ClientKind::FetchMembers => ClientFrame::FetchMembers {
            request: REQUEST,
            group: GROUP,
            after: UserId(0),
            limit: MEMBERS as u64,
            seq: SEQ,
        },
        ClientKind::AcknowledgeGroup => ClientFrame::AcknowledgeGroup { group: GROUP, up_to: SEQ },
        ClientKind::Subscribe => ClientFrame::Subscribe { request: REQUEST, subscription: subscription() },
        ClientKind::Unsubscribe => ClientFrame::Unsubscribe { request: REQUEST },
        ClientKind::FetchSubscription => ClientFrame::FetchSubscription { request: REQUEST },
        ClientKind::Ping => ClientFrame::Ping { nonce: NONCE },
        ClientKind::Pong => ClientFrame::Pong { nonce: NONCE },
        ClientKind::Bye => ClientFrame::Bye,
        ClientKind::Refresh => ClientFrame::Refresh { token: "x".repeat(TOKEN_BYTES) },
        ClientKind::GiveUp => ClientFrame::GiveUp { number: NUMBER },
        ClientKind::MarkRead => {
            ClientFrame::MarkRead { request: REQUEST, conversation: PEER.into(), up_to: SEQ, tell: true }
        }
        ClientKind::FetchInbox => {
            ClientFrame::FetchInbox { request: REQUEST, before: Seq::ZERO, limit: INBOX_ROWS, messages: PAGE_ENTRIES }
        }
        ClientKind::SetConversation => ClientFrame::SetConversation {
            request: REQUEST,
            conversation: PEER.into(),
            set: Settings::MUTED,
            cleared: Settings::ARCHIVED,
        },
        ClientKind::FetchPresence => ClientFrame::FetchPresence { request: REQUEST, users: users(PRESENCE_USERS_MAX) },
        ClientKind::Watch => ClientFrame::Watch { request: REQUEST, users: users(WATCHED) },
        ClientKind::Typing => ClientFrame::Typing { conversation: PEER.into() },
        ClientKind::SetStatus => ClientFrame::SetStatus { status: Status::Away },
        ClientKind::SetVisibility => ClientFrame::SetVisibility {
            request: REQUEST,
            set: Visibility::INVISIBLE,
            cleared: Visibility::HIDE_LAST_SEEN,
        },
        ClientKind::FetchDigest => {
            ClientFrame::FetchDigest { request: REQUEST, first: SEQ, last: SEQ, width: 1, group: GroupId(0) }
        }
        ClientKind::DeleteMessage => {
            ClientFrame::DeleteMessage { request: REQUEST, conversation: PEER.into(), place: Seq(1_000) }
        }
        ClientKind::FetchDevices => ClientFrame::FetchDevices { request: REQUEST },
        ClientKind::RemoveDevice => ClientFrame::RemoveDevice { request: REQUEST, device: DEVICE },
        ClientKind::NameDevice => {
            ClientFrame::NameDevice { request: REQUEST, device: DEVICE, name: "Firefox at work".to_owned() }
        }
    }
}

/// That of a browser.
fn subscription() -> Subscription {
    let (address, key) = ("https://push.example.org/".to_owned() + &"x".repeat(160), vec![4; PUSH_KEY_BYTES]);
    let (provider, secret) = (Provider::WebPush.byte().into(), vec![7; PUSH_SECRET_BYTES]);
    Subscription { provider, show: Show::Sender, address, key, secret }
}

const INBOX_ROWS: u64 = 20;

/// What a screen shows.
const WATCHED: usize = 20;

fn users(count: usize) -> Vec<UserId> {
    (0..).map(|at| UserId(PEER.0 + at)).take(count).collect()
}

const fn offline(user: UserId) -> PresenceState {
    PresenceState { user, state: Presence::Offline, last_seen: TIME, ask_again_ms: 0 }
}

fn inbox_row(last: Seq) -> InboxRow {
    InboxRow {
        conversation: PEER.into(),
        settings: Settings::MUTED,
        unread: 3,
        read_up_to: SEQ,
        delivered_up_to: SEQ,
        seen_up_to: SEQ,
        left_out: 0,
        last: received(last),
    }
}

/// The sample of a kind that servers send.
#[must_use]
pub fn server(kind: ServerKind) -> ServerFrame {
    match kind {
        ServerKind::Welcome => ServerFrame::Welcome {
            version: 1,
            user: USER,
            server_time: TIME,
            head: SEQ,
            cursor: SEQ,
            last_number: NUMBER,
            send_window: SEND_WINDOW,
            text_bytes_max: TEXT_BYTES_MAX as u64,
            page_entries_max: PAGE_ENTRIES_MAX,
            idle_timeout_ms: 150_000,
            committed: SEQ,
            epoch: EPOCH,
            capabilities: Capabilities {
                edit_within_s: 15 * 60,
                unsend_within_s: 24 * 60 * 60,
                ..Capabilities::first()
            },
            skipped: 0,
            visibility: Visibility::default(),
            ping_after_ms: 25_000,
        },
        ServerKind::Epoch => ServerFrame::Epoch { first: SEQ, epoch: EPOCH },
        ServerKind::Digest => ServerFrame::Digest(Digests {
            request: REQUEST,
            at: SEQ,
            first: Seq(1),
            last: SEQ,
            width: SEQ.0.div_ceil(DIGESTS_MAX),
            digests: vec![[7; 32]; DIGESTS_MAX as usize],
        }),
        ServerKind::Devices => {
            let name = "Firefox at work".to_owned();
            let device = DeviceInfo { device: DEVICE, seen_day: 20_454, is_connected: true, cursor: SEQ, name };
            ServerFrame::Devices { request: REQUEST, devices: vec![device; 4] }
        }
        ServerKind::Accepted => ServerFrame::Accepted {
            number: NUMBER,
            seq: SEQ,
            time: TIME,
            durability: Durability::Committed,
            recipient: Recipient::Online,
        },
        ServerKind::Refused => {
            ServerFrame::Refused { number: NUMBER, code: ErrorCode::Overloaded, retry_after_ms: 200, expected: NUMBER }
        }
        ServerKind::Deliver => ServerFrame::Deliver { entry: received(SEQ) },
        ServerKind::Page => ServerFrame::Page(Page {
            request: REQUEST,
            first: SEQ,
            last: Seq(SEQ.0 + PAGE_ENTRIES - 1),
            more: true,
            entries: (0..PAGE_ENTRIES).map(|at| received(Seq(SEQ.0 + at))).collect(),
            delivered_up_to: SEQ,
            seen_up_to: SEQ,
        }),
        ServerKind::Inbox => ServerFrame::Inbox(Inbox {
            request: REQUEST,
            at: SEQ,
            more: true,
            rows: (0..INBOX_ROWS).map(|at| inbox_row(Seq(SEQ.0 - at))).collect(),
        }),
        ServerKind::Presence => ServerFrame::Presence {
            request: REQUEST,
            lifetime_ms: 120_000,
            states: users(WATCHED).into_iter().map(offline).collect(),
        },
        ServerKind::Typing => ServerFrame::Typing { conversation: PEER.into(), user: PEER, ends_in_ms: 5_000 },
        ServerKind::Redirect => ServerFrame::Redirect {
            address: "node2.example.org:7600".to_owned(),
            reason: RedirectReason::Moving,
            after_ms: 1_500,
            map_version: 12,
        },
        ServerKind::Marked => ServerFrame::Marked { request: REQUEST },
        ServerKind::Subscription => {
            let Subscription { provider, show, address, key, .. } = subscription();
            let state = PushState { providers: 2, server_key: key, provider, show, address };
            ServerFrame::Subscription { request: REQUEST, state }
        }
        ServerKind::DeliverGroup => ServerFrame::DeliverGroup { group: GROUP, entry: said_in_group(SEQ) },
        ServerKind::GroupPage => ServerFrame::GroupPage(GroupPage {
            request: REQUEST,
            group: GROUP,
            first: Seq(SEQ.0 - PAGE_ENTRIES + 1),
            last: SEQ,
            more: true,
            head: SEQ,
            entries: (SEQ.0 - PAGE_ENTRIES + 1..=SEQ.0).map(Seq).map(said_in_group).collect(),
        }),
        ServerKind::TypingInGroup => ServerFrame::TypingInGroup { group: GROUP, user: PEER, ends_in_ms: 5_000 },
        ServerKind::Groups => ServerFrame::Groups {
            request: REQUEST,
            at: SEQ,
            more: false,
            rows: (0..INBOX_ROWS).map(|at| group_row(GroupId(GROUP.0 + at))).collect(),
        },
        ServerKind::Members => ServerFrame::Members {
            request: REQUEST,
            group: GROUP,
            more: false,
            at: SEQ,
            members: users(MEMBERS)
                .into_iter()
                .map(|user| MemberInfo { user, role: Role::Member, since: SEQ, read_up_to: SEQ, delivered_up_to: SEQ })
                .collect(),
            delivered: 1,
            read: 1,
        },
        ServerKind::Error => ServerFrame::Error {
            code: ErrorCode::TooManyFetches,
            kind: ClientKind::FetchLog.byte(),
            request: REQUEST,
            retry_after_ms: 200,
            detail: "too many fetches await their page".to_owned(),
        },
        ServerKind::Ping => ServerFrame::Ping { nonce: NONCE },
        ServerKind::Pong => ServerFrame::Pong { nonce: NONCE },
        ServerKind::Bye => ServerFrame::Bye {
            code: ErrorCode::Stopping,
            retry_after_ms: 1_000,
            detail: "the server is stopping".to_owned(),
            devices: Vec::new(),
        },
        ServerKind::Committed => ServerFrame::Committed { up_to: SEQ },
        ServerKind::TokenExpiring => ServerFrame::TokenExpiring { expires_in_ms: 60_000 },
        ServerKind::Refreshed => ServerFrame::Refreshed { expires: TIME },
        ServerKind::GivenUp => ServerFrame::GivenUp { number: NUMBER, seq: Seq::ZERO },
    }
}

fn said_in_group(seq: Seq) -> GroupEntry {
    GroupEntry { seq, time: TIME, from: PEER, origin: SEQ, messages: seq.0, content: Content::text(TEXT) }
}

fn group_row(group: GroupId) -> GroupRow {
    GroupRow {
        group,
        standing: Standing::Member,
        role: Role::Member,
        rules: Rules::default(),
        members: MEMBERS as u64,
        head: SEQ,
        name: "people who sail".to_owned(),
        picture: String::new(),
        last: Some(said_in_group(SEQ)),
        settings: Settings::default(),
        read_up_to: SEQ,
        unread: 0,
    }
}

fn received(seq: Seq) -> Entry {
    Entry { seq, time: TIME, event: Event::Received { from: PEER, origin: SEQ, content: Content::text(TEXT) } }
}
