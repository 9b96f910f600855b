//! The life of a connection: greeting, keepalive, reconnecting, ends. Values only.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::ops::ControlFlow;

use client::{
    Acknowledging, ClientEvent, ClientState, Config, ConfigError, Content, ContentKind, ConversationId, DeviceId,
    Direction, DisconnectReason, Durability, Effects, EndReason, Entry, EpochId, ErrorCode, Event, FetchError, Input,
    Keeping, Link, MessageName, MonotonicMs, Page, Recipient, Resume, Roots, SendError, SendNumber, Seq, TimestampMs,
    Transport, Unanswered, UserId, Visibility, limits,
};
use proto_spec::{Capabilities, ClientFrame, Decoder, Kinds, RequestId, ServerFrame};

struct World {
    client: ClientState,
    now: MonotonicMs,
    random: u64,
}

impl World {
    fn new() -> Self {
        Self::of(Config::new("", "secret", DeviceId(3)))
    }

    fn of(config: Config) -> Self {
        let client = ClientState::new(config).unwrap();
        Self { client, now: MonotonicMs(1_000), random: 0 }
    }

    fn ready() -> Self {
        let mut world = Self::new();
        assert_eq!(world.tick().link, Some(Link::Open));
        world.turn(Input::Connected);
        world.hear(&[welcome(10, 0)]);
        world
    }

    /// At a server that does not tell whether it pings.
    fn ready_without_pings() -> Self {
        let mut world = Self::new();
        world.tick();
        world.turn(Input::Connected);
        let mut welcome = welcome(10, 0);
        if let ServerFrame::Welcome { ping_after_ms, .. } = &mut welcome {
            *ping_after_ms = 0;
        }
        world.hear(&[welcome]);
        world
    }

    fn turn(&mut self, input: Input<'_>) -> Effects {
        let mut effects = Effects::default();
        self.client.handle(self.now, self.random, input, &mut effects);
        effects
    }

    fn tick(&mut self) -> Effects {
        self.turn(Input::Tick)
    }

    fn hear(&mut self, frames: &[ServerFrame]) -> Effects {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.turn(Input::Bytes(&bytes))
    }

    /// Goes to the next deadline and takes it.
    fn next_deadline(&mut self) -> (u64, Effects) {
        let at = self.client.deadline(self.now).unwrap();
        let waited = at.since(self.now);
        self.now = at;
        (waited, self.tick())
    }
}

/// Of a server that takes more than this client knows.
const EVERYTHING: Capabilities = Capabilities {
    content_kinds: Kinds(u64::MAX),
    conversation_kinds: Kinds(u64::MAX),
    frame_kinds: Kinds(u64::MAX),
    edit_within_s: 0,
    unsend_within_s: 0,
};

const SERVER_PINGS_AFTER_MS: u64 = 25_000;

/// Where the log ends, unless it is longer.
const HEAD: u64 = 20;

fn welcome(cursor: u64, last_number: u64) -> ServerFrame {
    ServerFrame::Welcome {
        version: 1,
        user: UserId(7),
        server_time: TimestampMs(5),
        head: Seq(cursor.max(HEAD)),
        cursor: Seq(cursor),
        last_number: SendNumber(last_number),
        send_window: 4,
        text_bytes_max: 20,
        page_entries_max: 50,
        idle_timeout_ms: 60_000,
        committed: Seq(cursor),
        epoch: EpochId(0),
        skipped: 0,
        visibility: Visibility::default(),
        ping_after_ms: SERVER_PINGS_AFTER_MS,
        capabilities: EVERYTHING,
    }
}

fn deliver(seq: u64) -> ServerFrame {
    ServerFrame::Deliver { entry: Entry { seq: Seq(seq), time: TimestampMs(1), event: Event::Unknown { kind: 99 } } }
}

fn bye(code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    ServerFrame::Bye { code, retry_after_ms, detail: "because".into(), devices: Vec::new() }
}

fn frames(effects: &Effects) -> Vec<ClientFrame> {
    let mut frames = Vec::new();
    Decoder::new(u32::MAX)
        .decode(&effects.bytes, |raw| {
            frames.push(ClientFrame::decode(raw).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    frames
}

fn resumed_with(effects: &Effects) -> Resume {
    match frames(effects)[..] {
        [ClientFrame::Hello { resume, .. }] => resume,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_but_the_hello_leaves_before_the_welcome() {
    let mut world = World::new();
    world.client.send(UserId(8), Content::text("early")).unwrap();
    world.client.fetch_log(Seq(0), Direction::Backwards, 5).unwrap();
    assert!(world.tick().bytes.is_empty());
    assert_eq!(resumed_with(&world.turn(Input::Connected)), Resume::Stored);
    let after = world.hear(&[welcome(10, 6)]);
    assert!(matches!(
        frames(&after)[..],
        [ClientFrame::Send { number: SendNumber(7), .. }, ClientFrame::FetchLog { request: RequestId(1), .. }]
    ));
}

#[test]
fn a_device_that_is_far_behind_is_told_of_the_gap_and_tells_of_it() {
    let config = Config { skip_above: 10, ..Config::new("x:1", "token", DeviceId(3)) };
    let mut world = World::of(config);
    world.tick();
    let wish = |effects: &Effects| match frames(effects)[..] {
        [ClientFrame::Hello { resume, since, skip_above, .. }] => (resume, since, skip_above),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(wish(&world.turn(Input::Connected)), (Resume::Stored, Seq::ZERO, 10));
    let mut far = welcome(300, 0);
    if let ServerFrame::Welcome { skipped, .. } = &mut far {
        *skipped = 250;
    }
    let events = world.hear(&[far, deliver(301)]).events;
    let skipped = ClientEvent::Skipped { after: Seq(50), up_to: Seq(300) };
    assert!(
        events[0] == skipped
            && matches!(events[1..], [ClientEvent::Welcome(_), ClientEvent::Entry(_), ClientEvent::CaughtUp]),
        "{events:?}"
    );
    world.turn(Input::Disconnected("gone".into()));
    world.now = world.now.after(60_000);
    world.tick();
    assert_eq!(wish(&world.turn(Input::Connected)), (Resume::After(Seq(301)), Seq(300), 10));
}

#[test]
fn that_a_device_has_what_was_there_is_told_once_a_connection() {
    let mut world = World::ready();
    let told = |effects: &Effects| effects.events.iter().filter(|event| **event == ClientEvent::CaughtUp).count();
    assert_eq!(told(&world.hear(&[deliver(11)])), 0);
    // What was superseded is covered without an entry.
    assert_eq!(told(&world.hear(&[ServerFrame::Page(pushed(12, HEAD, &[12]))])), 1);
    assert_eq!(told(&world.hear(&[deliver(HEAD + 1)])), 0);
    world.turn(Input::Disconnected("reset".into()));
    reconnect(&mut world);
    assert_eq!(told(&world.hear(&[welcome(HEAD + 1, 0)])), 1);
}

#[test]
fn acknowledgements_are_gathered() {
    let mut world = World::ready();
    assert!(frames(&world.hear(&[deliver(11), deliver(12)])).is_empty());
    world.now = world.now.after(50);
    world.hear(&[deliver(13)]);
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, frames(&effects)), (50, vec![ClientFrame::Acknowledge { seq: Seq(13) }]));
}

#[test]
fn a_lost_connection_is_resumed_after_the_last_entry() {
    let mut world = World::ready();
    world.hear(&[deliver(11), deliver(12)]);
    world.turn(Input::Disconnected("reset".into()));
    assert_eq!(world.next_deadline().1.link, Some(Link::Open));
    assert_eq!(resumed_with(&world.turn(Input::Connected)), Resume::After(Seq(12)));
    let effects = world.hear(&[welcome(12, 0), deliver(12), deliver(13)]);
    let seqs: Vec<Seq> = effects.events.iter().filter_map(entry_seq).collect();
    assert_eq!(seqs, [Seq(13)]);
}

fn entry_seq(event: &ClientEvent) -> Option<Seq> {
    match event {
        ClientEvent::Entry(entry) => Some(entry.seq),
        _ => None,
    }
}

#[test]
fn a_hole_in_the_push_drops_the_connection_and_hands_out_nothing_beyond_it() {
    let mut world = World::ready();
    let effects = world.hear(&[deliver(11), deliver(13), deliver(14)]);
    assert_eq!(effects.link, Some(Link::Close));
    assert_eq!(effects.events.iter().filter_map(entry_seq).collect::<Vec<_>>(), [Seq(11)]);
    let reason = DisconnectReason::Hole { position: Seq(11), next: Seq(13) };
    assert!(effects.events.contains(&ClientEvent::Disconnected { reason, retry_in_ms: 0 }));
}

/// SPEC 8.5: waits grow with the attempts since a connection was last ready for a minute, whatever has come through meanwhile.
#[test]
fn a_connection_that_was_ready_for_a_minute_begins_the_waits_anew() {
    let mut world = World::ready();
    // The most of a second wait, and almost that of a first one.
    world.random = 1_000;
    let waits: Vec<u64> = [1_000, 59_000, 60_000, 1_000]
        .into_iter()
        .map(|ready_ms| {
            world.hear(&[deliver(11)]);
            world.now = world.now.after(ready_ms);
            world.turn(Input::Disconnected("reset".into()));
            let (waited, _) = world.next_deadline();
            world.turn(Input::Connected);
            world.hear(&[welcome(11, 0)]);
            waited
        })
        .collect();
    assert_eq!(waits, [499, 1_000, 499, 1_000]);
}

/// SPEC 8.4: a server that tells when it pings is expected to.
#[test]
fn a_server_that_pings_is_pinged_only_when_it_does_not() {
    let mut world = World::ready();
    for _ in 0..5 {
        world.now = world.now.after(SERVER_PINGS_AFTER_MS - 1);
        let heard = world.hear(&[ServerFrame::Ping { nonce: 77 }]);
        assert_eq!(frames(&heard), [ClientFrame::Pong { nonce: 77 }], "no ping of its own");
    }
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, frames(&effects)), (SERVER_PINGS_AFTER_MS, vec![ClientFrame::Ping { nonce: 1 }]));
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, effects.link), (limits::PONG_TIMEOUT_MS, Some(Link::Close)));
}

#[test]
fn a_silent_server_is_pinged_and_then_given_up() {
    let mut world = World::ready_without_pings();
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, frames(&effects)), (limits::PING_AFTER_MS, vec![ClientFrame::Ping { nonce: 1 }]));
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, effects.link), (limits::PONG_TIMEOUT_MS, Some(Link::Close)));
    assert!(matches!(effects.events[..], [ClientEvent::Disconnected { reason: DisconnectReason::Silent, .. }]));
}

#[test]
fn any_byte_after_a_ping_proves_that_the_link_lives() {
    let mut world = World::ready_without_pings();
    world.next_deadline();
    world.hear(&[ServerFrame::Pong { nonce: 1 }]);
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, frames(&effects)), (limits::PING_AFTER_MS, vec![ClientFrame::Ping { nonce: 2 }]));
}

#[test]
fn a_client_that_only_listens_is_still_heard() {
    let mut world = World::ready_without_pings();
    for _ in 0..3 {
        world.now = world.now.after(limits::PING_AFTER_MS / 2 - 1);
        world.hear(&[ServerFrame::Pong { nonce: 0 }]);
    }
    let spoke = world.now.since(MonotonicMs(1_000)) >= limits::PING_AFTER_MS;
    assert!(spoke && world.client.deadline(world.now).unwrap() > world.now, "it has pinged meanwhile");
}

#[test]
fn the_servers_ping_is_answered_at_once() {
    let effects = World::ready().hear(&[ServerFrame::Ping { nonce: 77 }]);
    assert_eq!(frames(&effects), [ClientFrame::Pong { nonce: 77 }]);
}

#[test]
fn a_server_that_does_not_answer_the_hello_is_given_up() {
    let mut world = World::new();
    world.tick();
    world.turn(Input::Connected);
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, effects.link), (limits::WELCOME_TIMEOUT_MS, Some(Link::Close)));
}

#[test]
fn what_makes_coming_back_pointless_ends_the_client() {
    use ErrorCode::{DeviceRefused, TokenExpired, TokenInvalid, TokenMissing, Version};
    for code in [DeviceRefused, TokenExpired, TokenInvalid, TokenMissing, Version] {
        let mut world = World::new();
        world.tick();
        world.turn(Input::Connected);
        let effects = world.hear(&[bye(code, 0)]);
        let reason = EndReason::Refused { code, detail: "because".into() };
        assert_eq!((effects.link, &effects.events[..]), (Some(Link::Close), &[ClientEvent::Ended(reason)][..]));
        assert_eq!(world.client.deadline(world.now), None);
        assert!(world.client.send(UserId(8), Content::text("x")).is_err());
    }
}

/// SPEC 8.4: a hello that was given up may arrive after the one that followed it.
#[test]
fn a_replaced_client_comes_back_unless_that_happens_again_and_again() {
    let mut world = World::ready();
    let replace = |world: &mut World, pause_ms: u64| {
        world.now = world.now.after(pause_ms);
        let effects = world.hear(&[bye(ErrorCode::Replaced, 0)]);
        if let Some(ClientEvent::Ended(_)) = effects.events.last() {
            return false;
        }
        assert!(matches!(effects.events[..], [ClientEvent::Disconnected { .. }]), "{effects:?}");
        world.next_deadline();
        world.turn(Input::Connected);
        world.hear(&[welcome(0, 0)]);
        true
    };
    for pause_ms in [0, 1_000, limits::REPLACED_WITHIN_MS, 1_000] {
        assert!(replace(&mut world, pause_ms), "twice at a time is no other program");
    }
    assert!(!replace(&mut world, 1_000), "the third time it is");
}

#[test]
fn other_byes_are_followed_by_another_attempt_but_not_before_the_server_allows_it() {
    for code in [ErrorCode::Stopping, ErrorCode::IdleTimeout, ErrorCode::SlowConsumer, ErrorCode::Unknown(999)] {
        let mut world = World::ready();
        world.random = 100;
        world.hear(&[bye(code, 3_000)]);
        let (waited, effects) = world.next_deadline();
        assert_eq!((waited, effects.link), (3_100, Some(Link::Open)));
    }
}

#[test]
fn attempts_that_fail_become_rarer() {
    let mut world = World::new();
    world.random = limits::BACKOFF_MAX_MS;
    world.tick();
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.random = (limits::BACKOFF_FIRST_MS << waits.len()).min(limits::BACKOFF_MAX_MS);
        world.turn(Input::Disconnected("refused".into()));
        waits.push(world.next_deadline().0);
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
}

#[test]
fn a_server_that_is_not_trusted_is_told_apart_and_tried_again_ever_more_rarely() {
    let mut world = World::new();
    world.tick();
    for _ in 0..3 {
        world.turn(Input::Connected);
        let effects = world.turn(Input::Untrusted("expired".into()));
        let reason = DisconnectReason::Untrusted("expired".into());
        assert!(matches!(&effects.events[..], [ClientEvent::Disconnected { reason: said, .. }] if *said == reason));
        assert_eq!(effects.link, Some(Link::Close));
        world.random = u64::MAX;
        assert_eq!(world.next_deadline().1.link, Some(Link::Open));
    }
}

#[test]
fn who_speaks_another_protocol_is_told_apart_by_the_first_bytes() {
    let answers: [&[u8]; 7] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"HT",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example.org\r\n",
        b"-ERR unknown command\r\n",
        // TLS: an alert.
        &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46],
        &[0xff; 12],
    ];
    for answer in answers {
        let mut world = World::new();
        world.tick();
        world.turn(Input::Connected);
        let effects = world.turn(Input::Bytes(answer));
        let [ClientEvent::Disconnected { reason: DisconnectReason::NotRingpost(words), .. }] = &effects.events[..]
        else {
            panic!("{answer:?}: {effects:?}");
        };
        assert_eq!(words.contains("TLS"), answer[0] == 0x15);
    }
    let mut world = World::ready();
    let effects = world.turn(Input::Bytes(&[3, 0x50, 1, 2]));
    assert!(effects.events.is_empty(), "a kind that is not known is passed over after the welcome: {effects:?}");
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused_at_once() {
    let with = |server: &str, name: Option<&str>| {
        let mut config = Config::new(server, "secret", DeviceId(3));
        config.transport = Transport::Tls { roots: Roots::System, name: name.map(str::to_owned) };
        config.check()
    };
    for server in ["localhost:443", "127.0.0.1:443", "[::1]:443", "example.org"] {
        with(server, None).unwrap();
    }
    assert_eq!(with("localhost:443", Some("not a name")), Err(ConfigError::ServerName("not a name".into())));
    with("not a name:443", Some("example.org")).unwrap();
    assert!(with("not a name:443", None).is_err());
}

#[test]
fn a_protocol_fault_drops_the_connection_not_the_client() {
    let faulty: [&[ServerFrame]; 2] = [&[welcome(10, 0)], &[ServerFrame::Page(pushed(11, 12, &[13]))]];
    for frames in faulty {
        let mut world = World::ready();
        let effects = world.hear(frames);
        assert_eq!(effects.link, Some(Link::Close));
        assert_eq!(world.next_deadline().1.link, Some(Link::Open));
    }
}

fn pushed(first: u64, last: u64, seqs: &[u64]) -> Page {
    let entry = |&seq: &u64| Entry { seq: Seq(seq), time: TimestampMs(1), event: Event::Unknown { kind: 99 } };
    Page {
        request: RequestId(0),
        first: Seq(first),
        last: Seq(last),
        more: false,
        entries: seqs.iter().map(entry).collect(),
        delivered_up_to: Seq::ZERO,
        seen_up_to: Seq::ZERO,
    }
}

#[test]
fn bytes_of_a_connection_that_was_given_up_are_not_looked_at() {
    let mut world = World::ready();
    world.turn(Input::Disconnected("reset".into()));
    assert!(world.hear(&[deliver(11)]).events.is_empty());
    world.next_deadline();
    assert!(world.hear(&[deliver(11)]).events.is_empty(), "the next link is not open yet");
}

#[test]
fn a_kind_of_a_newer_server_is_passed_over() {
    let mut world = World::ready();
    let effects = world.turn(Input::Bytes(&[3, 0xf0, 1, 2]));
    assert!(effects.link.is_none() && effects.events.is_empty());
}

#[test]
fn a_fetch_refused_for_good_is_told_and_one_refused_for_now_is_repeated() {
    let mut world = World::ready();
    let fetch = world.client.fetch_log(Seq(0), Direction::Backwards, 5).unwrap();
    world.tick();
    let error = |retry_after_ms| ServerFrame::Error {
        code: ErrorCode::Overloaded,
        kind: 4,
        request: RequestId(1),
        retry_after_ms,
        detail: String::new(),
    };
    assert!(world.hear(&[error(30)]).events.is_empty());
    let (waited, effects) = world.next_deadline();
    assert_eq!((waited, frames(&effects).len()), (30, 1));
    let refused = ClientEvent::FetchRefused { fetch, code: ErrorCode::Overloaded, detail: String::new() };
    assert_eq!(world.hear(&[error(0)]).events, [refused]);
}

#[test]
fn closing_says_what_was_received_and_bye() {
    let mut world = World::ready();
    world.hear(&[deliver(11)]);
    world.client.close();
    let effects = world.tick();
    assert_eq!(frames(&effects), [ClientFrame::Acknowledge { seq: Seq(11) }, ClientFrame::Bye]);
    assert_eq!((effects.link, effects.events), (Some(Link::Close), vec![ClientEvent::Ended(EndReason::Closed)]));
}

#[test]
fn messages_that_no_server_takes_are_refused_at_once() {
    let mut world = World::ready();
    assert!(world.client.send(UserId(0), Content::text("x")).is_err());
    assert!(world.client.send(UserId(8), Content::text("")).is_err());
    assert!(world.client.send(UserId(8), Content::text("longer than this server takes")).is_err());
    assert_eq!(world.client.unanswered_count(), 0);
}

/// A server of before the welcome told what is taken.
fn first_of_its_kind(last_number: u64) -> ServerFrame {
    let mut welcome = welcome(0, last_number);
    if let ServerFrame::Welcome { capabilities, .. } = &mut welcome {
        *capabilities = Capabilities::default();
    }
    welcome
}

#[test]
fn what_the_server_does_not_take_gets_no_number_and_goes_back_to_the_application() {
    let mut world = World::of(Config::new("", "secret", DeviceId(3)));
    let to = ConversationId::from(UserId(8));
    let name = MessageName { author: UserId(7), seq: Seq(1) };
    let [text, opaque] = [Content::text("1"), Content::opaque(b"2")];
    let edits = [Content::edit(name, &text, None), Content::edit(name, &opaque, None)];
    // Before the welcome nobody knows.
    world.client.send(to, text.clone()).unwrap();
    let returned = world.client.send(to, opaque.clone()).unwrap();
    world.tick();
    world.turn(Input::Connected);
    let effects = world.hear(&[first_of_its_kind(4)]);
    let why = SendError::ContentKind { kind: ContentKind::Opaque.byte() };
    let event = ClientEvent::MessageReturned { handle: returned, to, content: opaque.clone(), why };
    assert!(effects.events.contains(&event), "{effects:?}");
    assert_eq!(frames(&effects), [ClientFrame::Send { number: SendNumber(5), to, content: text.clone() }]);
    assert_eq!(world.client.unanswered_count(), 1);
    assert_eq!(world.client.send(to, opaque.clone()), Err(why));
    assert_eq!(why.to_string(), "this server takes no encrypted contents");
    let edit_is_not_taken = SendError::ContentKind { kind: ContentKind::Edit.byte() };
    assert_eq!(world.client.send(to, edits[0].clone()), Err(edit_is_not_taken));
    // Of an edit, what it says counts too.
    let mut texts = welcome(0, 5);
    if let ServerFrame::Welcome { capabilities, .. } = &mut texts {
        capabilities.content_kinds =
            [ContentKind::Text, ContentKind::Edit].map(|kind| kind.byte()).into_iter().collect();
    }
    world.turn(Input::Disconnected("cut".into()));
    world.next_deadline();
    world.turn(Input::Connected);
    world.hear(&[texts]);
    assert!(world.client.send(to, edits[0].clone()).is_ok());
    assert_eq!(world.client.send(to, edits[1].clone()), Err(why));
}

#[test]
fn what_has_a_number_is_sent_whatever_the_server_takes_for_it_may_have_been_accepted() {
    let mut world = World::ready();
    let (to, content) = (ConversationId::from(UserId(8)), Content::opaque(b"x"));
    let handle = world.client.send(to, content.clone()).unwrap();
    let sent = frames(&world.tick());
    world.turn(Input::Disconnected("cut".into()));
    world.next_deadline();
    world.turn(Input::Connected);
    let [ClientFrame::Send { number, .. }] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(frames(&world.hear(&[first_of_its_kind(number.0 - 1)])), sent);
    let refused = ServerFrame::Refused { number, code: ErrorCode::ContentKind, retry_after_ms: 0, expected: number };
    let told = world.hear(&[refused]).events;
    assert_eq!(told, [ClientEvent::MessageRefused { handle, code: ErrorCode::ContentKind }]);
}

#[test]
fn what_the_server_does_not_have_is_not_asked_for() {
    let mut world = World::of(Config::new("", "secret", DeviceId(3)));
    let fetch = world.client.fetch_inbox(Seq::ZERO, 20, 0).unwrap();
    world.client.fetch_log(Seq(0), Direction::Backwards, 5).unwrap();
    world.tick();
    world.turn(Input::Connected);
    let effects = world.hear(&[first_of_its_kind(0)]);
    let detail = "this server does not have `fetch_inbox`".to_owned();
    assert!(effects.events.contains(&ClientEvent::FetchRefused { fetch, code: ErrorCode::UnknownKind, detail }));
    assert!(matches!(frames(&effects)[..], [ClientFrame::FetchLog { .. }]));
    world.client.set_token("another".to_owned()).unwrap();
    let effects = world.tick();
    assert!(frames(&effects).is_empty());
    assert!(matches!(effects.events[..], [ClientEvent::TokenRefused { code: ErrorCode::UnknownKind, .. }]));
}

/// The connection ends, because what the device holds is of another log.
fn is_of_another_log(effects: &Effects) -> bool {
    let last = effects.events.last();
    effects.link == Some(Link::Close)
        && matches!(last, Some(ClientEvent::Disconnected { reason: DisconnectReason::OtherLog(_), .. }))
}

/// What a hello asks for, and its epoch.
fn asks(effects: &Effects) -> (Resume, EpochId) {
    match frames(effects)[..] {
        [ClientFrame::Hello { resume, epoch, .. }] => (resume, epoch),
        ref other => panic!("{other:?}"),
    }
}

/// A device that was told of epoch 1, holds 1 to 3, and has acknowledged them.
fn holding_three() -> World {
    let mut config = Config::new("", "secret", DeviceId(3));
    config.acknowledging = Acknowledging::ByApplication;
    let mut world = World::of(config);
    world.tick();
    world.turn(Input::Connected);
    world.hear(&[welcome(0, 0), ServerFrame::Epoch { first: Seq(1), epoch: EpochId(1) }]);
    world.hear(&[deliver(1), deliver(2), deliver(3)]);
    world.client.acknowledge(Seq(3));
    world
}

fn reconnect(world: &mut World) -> Effects {
    world.next_deadline();
    world.turn(Input::Connected)
}

#[test]
fn a_log_that_was_replaced_is_told_once_and_handed_out_from_its_beginning() {
    for code in [ErrorCode::OtherLog, ErrorCode::CursorAhead] {
        let mut world = holding_three();
        world.turn(Input::Disconnected("cut".into()));
        assert_eq!(asks(&reconnect(&mut world)), (Resume::After(Seq(3)), EpochId(1)));
        let effects = world.hear(&[bye(code, 0)]);
        assert!(is_of_another_log(&effects) && effects.events.len() == 1, "{effects:?}");
        assert_eq!(asks(&reconnect(&mut world)), (Resume::After(Seq::ZERO), EpochId(0)));
        let effects = world.hear(&[welcome(0, 0), deliver(1)]);
        let [ClientEvent::LogReplaced { detail, dropped }, ClientEvent::Welcome(_), ClientEvent::Entry(first)] =
            &effects.events[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!((detail.as_str(), dropped.len(), first.seq), ("because", 0, Seq(1)));
        world.client.log_discarded();
        world.turn(Input::Disconnected("cut".into()));
        reconnect(&mut world);
        let told = world.hear(&[welcome(0, 0)]).events;
        assert!(matches!(told[..], [ClientEvent::Welcome(_)]), "{told:?}");
    }
}

#[test]
fn who_fetches_what_it_wants_to_see_begins_anew_at_the_end() {
    let mut config = Config::new("", "secret", DeviceId(3));
    config.resume = Resume::Live;
    let mut world = World::of(config);
    world.tick();
    world.turn(Input::Connected);
    world.hear(&[welcome(20, 0), deliver(21)]);
    world.turn(Input::Disconnected("cut".into()));
    assert_eq!(asks(&reconnect(&mut world)).0, Resume::After(Seq(21)));
    world.hear(&[bye(ErrorCode::CursorAhead, 0)]);
    assert_eq!(asks(&reconnect(&mut world)).0, Resume::Live);
}

#[test]
fn what_the_application_says_of_the_log_before_is_passed_over_until_it_has_discarded_it() {
    let mut world = holding_three();
    world.turn(Input::Disconnected("cut".into()));
    reconnect(&mut world);
    world.hear(&[bye(ErrorCode::OtherLog, 0)]);
    reconnect(&mut world);
    world.hear(&[welcome(0, 0), deliver(1), deliver(2), deliver(3), deliver(4)]);
    // An entry of the old log was still on its way to the application.
    world.client.acknowledge(Seq(3));
    world.client.filled(Seq(2));
    assert_eq!(world.client.mark_read(UserId(8), Seq(3), true), Err(FetchError::LogReplaced));
    let name = MessageName { author: UserId(7), seq: Seq(3) };
    assert_eq!(world.client.send(UserId(8), Content::unsend(name, None)), Err(SendError::LogReplaced));
    assert!(world.client.send(UserId(8), Content::text("a message")).is_ok());
    world.client.log_discarded();
    world.client.acknowledge(Seq(1));
    world.turn(Input::Disconnected("cut".into()));
    assert_eq!(asks(&reconnect(&mut world)).0, Resume::After(Seq(1)));
    assert!(world.client.send(UserId(8), Content::unsend(name, None)).is_ok());
}

#[test]
fn a_new_log_that_is_skipped_is_told_as_replaced_first() {
    let mut config = Config::new("", "secret", DeviceId(3));
    config.skip_above = 100;
    let mut world = World::of(config);
    world.tick();
    world.turn(Input::Connected);
    world.hear(&[welcome(0, 0), ServerFrame::Epoch { first: Seq(1), epoch: EpochId(1) }, deliver(1)]);
    world.turn(Input::Disconnected("cut".into()));
    reconnect(&mut world);
    world.hear(&[bye(ErrorCode::OtherLog, 0)]);
    reconnect(&mut world);
    let mut far = welcome(900, 0);
    if let ServerFrame::Welcome { skipped, .. } = &mut far {
        *skipped = 900;
    }
    let events = world.hear(&[far]).events;
    let told = [
        matches!(events[..], [ClientEvent::LogReplaced { .. }, ..]),
        events[1] == ClientEvent::Skipped { after: Seq::ZERO, up_to: Seq(900) },
        matches!(events[2..], [ClientEvent::Welcome(_), ClientEvent::CaughtUp]),
    ];
    assert_eq!(told, [true; 3], "{events:?}");
}

/// In the new log the names of the old one stand for other messages.
#[test]
fn a_change_that_is_not_in_the_new_log_is_dropped_and_messages_are_sent_to_it_under_its_numbers() {
    let mut world = holding_three();
    world.turn(Input::Disconnected("cut".into()));
    let name = MessageName { author: UserId(7), seq: Seq(2) };
    let to = ConversationId::from(UserId(8));
    reconnect(&mut world);
    world.hear(&[welcome(3, 40)]);
    let first = world.client.send(to, Content::text("1")).unwrap();
    world.tick();
    world.hear(&[ServerFrame::Accepted {
        number: SendNumber(41),
        seq: Seq(4),
        time: TimestampMs(4),
        durability: Durability::Committed,
        recipient: Recipient::Offline,
    }]);
    let edit = world.client.send(to, Content::edit(name, &Content::text("2"), None)).unwrap();
    let second = world.client.send(to, Content::text("3")).unwrap();
    let placed = world.client.fetch_log(Seq(4), Direction::Backwards, 9).unwrap();
    assert_eq!(frames(&world.tick()).len(), 3);
    world.turn(Input::Disconnected("cut".into()));
    let unsend = world.client.send(to, Content::unsend(name, None)).unwrap();
    world.client.fetch_log(Seq(0), Direction::Backwards, 9).unwrap();
    reconnect(&mut world);
    world.hear(&[bye(ErrorCode::OtherLog, 0)]);
    reconnect(&mut world);
    // The copy is older than all of them.
    let effects = world.hear(&[welcome(0, 17)]);
    let [
        ClientEvent::LogReplaced { dropped, .. },
        ClientEvent::FetchRefused { fetch, code, .. },
        ClientEvent::Welcome(_),
    ] = &effects.events[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((dropped, fetch, code), (&vec![edit, unsend], &placed, &ErrorCode::OtherLog));
    let sent = ClientFrame::Send { number: SendNumber(18), to, content: Content::text("3") };
    assert!(matches!(&frames(&effects)[..], [send, ClientFrame::FetchLog { from: Seq(0), .. }] if *send == sent));
    assert_eq!(world.client.unanswered().len(), 1);
    assert!(first < edit && edit < second);
}

#[test]
fn what_an_application_kept_has_no_number_twice_when_one_became_void_and_the_server_was_set_back() {
    let config = || Config { keeping: Keeping::ByApplication, ..Config::new("", "secret", DeviceId(3)) };
    let mut world = World::of(config());
    let mut kept = Vec::new();
    for (user, text) in [(9, "1"), (8, "2")] {
        let (to, content) = (UserId(user).into(), Content::text(text));
        let handle = world.client.send(to, content.clone()).unwrap();
        kept.push((handle, Unanswered { number: None, to, content }));
    }
    let mut keep = |world: &mut World, effects: &Effects| {
        for event in &effects.events {
            let ClientEvent::Numbered { handle, number } = event else { continue };
            let (_, message) = kept.iter_mut().find(|(of, _)| of == handle).unwrap();
            message.number = *number;
            if let Some(number) = number {
                world.client.kept(*handle, *number);
            }
        }
        assert_eq!(kept, world.client.unanswered());
        let unanswered = kept.iter().map(|(_, message)| message.clone()).collect();
        assert_eq!(Config { unanswered, ..config() }.check(), Ok(()));
    };
    world.tick();
    world.turn(Input::Connected);
    let effects = world.hear(&[welcome(10, 0)]);
    keep(&mut world, &effects);
    assert_eq!(frames(&world.tick()).len(), 3, "two messages, and that the number of the first is given up");
    let (number, code) = (SendNumber(1), ErrorCode::RateLimited);
    let effects = world.hear(&[
        ServerFrame::Refused { number, code, retry_after_ms: 60_000, expected: number },
        ServerFrame::GivenUp { number, seq: Seq::ZERO },
    ]);
    keep(&mut world, &effects);
    world.turn(Input::Disconnected("cut".into()));
    reconnect(&mut world);
    let effects = world.hear(&[welcome(10, 0)]);
    keep(&mut world, &effects);
    let sent = ClientFrame::Send { number, to: UserId(8).into(), content: Content::text("2") };
    assert_eq!(frames(&world.tick()), [sent], "the other one waits for its time");
}

#[test]
fn a_log_that_is_replaced_again_and_again_ends_the_client() {
    let again = |pause_ms: u64| {
        let mut world = holding_three();
        let mut last = Effects::default();
        world.turn(Input::Disconnected("cut".into()));
        for _ in 0..limits::ANEW_MAX {
            reconnect(&mut world);
            world.now = world.now.after(pause_ms);
            last = world.hear(&[bye(ErrorCode::OtherLog, 0)]);
        }
        last.events
    };
    let (code, detail) = (ErrorCode::OtherLog, "because".to_owned());
    assert_eq!(again(0), [ClientEvent::Ended(EndReason::Refused { code, detail })]);
    assert!(matches!(again(limits::ANEW_WITHIN_MS)[..], [ClientEvent::Disconnected { .. }]));
}

/// SPEC 8.2: the server knows where the connection resumes, and not what had been handed out before.
#[test]
fn what_was_handed_out_and_not_confirmed_is_of_another_log_if_an_epoch_begins_there_that_is_not_known() {
    let resumed = || {
        let mut config = Config::new("", "secret", DeviceId(3));
        config.acknowledging = Acknowledging::ByApplication;
        let mut world = World::of(config);
        world.tick();
        world.turn(Input::Connected);
        world.hear(&[welcome(0, 0), ServerFrame::Epoch { first: Seq(1), epoch: EpochId(1) }, deliver(1), deliver(2)]);
        world.hear(&[ServerFrame::Epoch { first: Seq(3), epoch: EpochId(2) }, deliver(3), deliver(4)]);
        world.client.acknowledge(Seq(1));
        world.turn(Input::Disconnected("cut".into()));
        world.next_deadline();
        world.turn(Input::Connected);
        world
    };
    let told = |effects: &Effects| effects.events.iter().filter(|event| matches!(event, ClientEvent::Epoch(_))).count();
    let again = ServerFrame::Epoch { first: Seq(3), epoch: EpochId(2) };
    let mut world = resumed();
    assert_eq!(told(&world.hear(&[welcome(1, 0), deliver(2), again, deliver(3), deliver(4)])), 0, "it is known");
    let other = ServerFrame::Epoch { first: Seq(2), epoch: EpochId(9) };
    assert!(is_of_another_log(&resumed().hear(&[welcome(1, 0), other, deliver(2)])));
    let mut short = welcome(1, 0);
    if let ServerFrame::Welcome { head, .. } = &mut short {
        *head = Seq(3);
    }
    assert!(is_of_another_log(&resumed().hear(&[short])), "it was handed four");
}
