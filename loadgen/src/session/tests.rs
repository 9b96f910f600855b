use proto_spec::{
    Act, Capabilities, Content, ConversationId, DeviceId, Direction, Durability, Entry, EpochId, Event, GroupEntry,
    Inbox, Page, Recipient, Rules, TimestampMs, UserId, Visibility, framing,
};

use super::*;
use crate::verify::{Crew, StreamId, Text, Written};

const A: UserId = UserId(7);
const B: UserId = UserId(8);

/// The device of user 7, whose connection is made of values. User 8 is there for the ledger only.
struct World {
    session: Session,
    ledger: Ledger,
    stats: Stats,
    out: Vec<u8>,
    happened: Vec<Happened>,
    wake: Vec<Wake>,
    now_us: u64,
    /// From user 7 to user 8 and back.
    streams: [StreamId; 2],
}

impl World {
    fn new() -> Self {
        let mut crew = Crew::default();
        let (a, b) = (crew.add(A, 1), crew.add(B, 1));
        let mut ledger = Ledger::new(5, 0, crew, None);
        let streams = [ledger.open(a, b), ledger.open(b, a)];
        let (stats, out, happened, wake) = (Stats::default(), Vec::new(), Vec::new(), Vec::new());
        Self { session: Session::new(2), ledger, stats, out, happened, wake, now_us: 1, streams }
    }

    /// Connected, at the head 10 of a log.
    fn ready() -> Self {
        let mut world = Self::new();
        world.connect();
        world.frame(&welcome(A, 10, 10)).unwrap();
        world.happened.clear();
        world
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Session, &mut Turn<'_>) -> T) -> T {
        let Self { session, ledger, stats, out, happened, wake, now_us, .. } = self;
        act(session, &mut Turn { now_us: *now_us, slot: 0, seat: 0, ledger, stats, out, happened, wake })
    }

    /// Gives the hello.
    fn connect(&mut self) -> ClientFrame {
        self.connect_with(1)
    }

    fn connect_with(&mut self, hops: u64) -> ClientFrame {
        self.turn(|session, turn| session.greet(turn, "token".to_owned(), hops));
        self.sent().remove(0)
    }

    fn frame(&mut self, frame: &ServerFrame) -> Result<(), Ending> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.bytes(&bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.turn(|session, turn| session.on_bytes(turn, bytes))
    }

    /// What the device has sent since the last call.
    fn sent(&mut self) -> Vec<ClientFrame> {
        let bytes = std::mem::take(&mut self.out);
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while let Ok(framing::Cut::Frame { frame, taken }) = framing::cut(rest, limits::CLIENT_FRAME_BYTES_MAX) {
            frames.push(ClientFrame::decode(frame).unwrap());
            rest = &rest[taken..];
        }
        frames
    }

    fn sent_numbers(&mut self) -> Vec<u64> {
        let number = |frame| if let ClientFrame::Send { number, .. } = frame { Some(number.0) } else { None };
        self.sent().into_iter().filter_map(number).collect()
    }

    fn push(&mut self) {
        let stream = self.streams[0];
        let written = Written::text(Text::Made(40));
        let index = self.ledger.send(stream, self.now_us, &written);
        self.turn(|session, turn| session.push(turn, Pending::Message { stream, index, written }));
    }

    /// Message `index` of user 8, as an entry.
    fn received(&mut self, seq: u64, index: u64) -> Entry {
        let stream = self.streams[1];
        while self.ledger.sent(stream) <= index {
            self.ledger.send(stream, 0, &Written::text(Text::Made(40)));
        }
        let content = self.ledger.content(stream, index, &Written::text(Text::Made(40)));
        let event = Event::Received { from: B, origin: Seq(index + 1), content };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    fn deliver(&mut self, seq: u64, index: u64) -> Result<(), Ending> {
        let entry = self.received(seq, index);
        self.frame(&ServerFrame::Deliver { entry })
    }

    fn faults(&self) -> &[String] {
        self.ledger.faults.kept()
    }
}

fn welcome(user: UserId, head: u64, cursor: u64) -> ServerFrame {
    ServerFrame::Welcome {
        version: 1,
        user,
        server_time: TimestampMs(1),
        head: Seq(head),
        cursor: Seq(cursor),
        last_number: SendNumber(20),
        send_window: 256,
        text_bytes_max: 16_384,
        page_entries_max: 500,
        idle_timeout_ms: 120_000,
        committed: Seq(head),
        epoch: EpochId(0),
        capabilities: Capabilities::default(),
        skipped: 0,
        visibility: Visibility::default(),
        ping_after_ms: 25_000,
    }
}

fn accepted(number: u64, seq: u64) -> ServerFrame {
    ServerFrame::Accepted {
        number: SendNumber(number),
        seq: Seq(seq),
        time: TimestampMs(1),
        durability: Durability::Committed,
        recipient: Recipient::Online,
    }
}

fn refused(number: u64, code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    ServerFrame::Refused { number: SendNumber(number), code, retry_after_ms, expected: SendNumber(21) }
}

fn pushed(first: u64, last: u64, entries: Vec<Entry>) -> ServerFrame {
    let (request, more) = (RequestId(0), false);
    ServerFrame::Page(Page {
        request,
        first: Seq(first),
        last: Seq(last),
        more,
        entries,
        delivered_up_to: Seq::ZERO,
        seen_up_to: Seq::ZERO,
    })
}

#[test]
fn a_device_comes_live_and_comes_back_after_its_position() {
    let mut world = World::new();
    assert!(matches!(world.connect(), ClientFrame::Hello { device: DeviceId(1), resume: Resume::Live, .. }));
    world.frame(&welcome(A, 10, 10)).unwrap();
    assert_eq!((world.session.is_ready(), world.session.start()), (true, Seq(10)));
    world.deliver(11, 0).unwrap();
    world.session.left();
    assert!(matches!(world.connect(), ClientFrame::Hello { resume: Resume::After(Seq(11)), .. }));
    world.frame(&welcome(A, 12, 11)).unwrap();
    assert_eq!(world.faults(), [""; 0]);
}

#[test]
fn a_welcome_of_somebody_else_or_somewhere_else_is_a_fault() {
    for wrong in [welcome(B, 10, 10), welcome(A, 10, 9), welcome(A, 9, 10)] {
        let mut world = World::new();
        world.connect();
        assert!(matches!(world.frame(&wrong), Err(Ending::Fault(_))), "{wrong:?}");
    }
}

#[test]
fn deliveries_and_pages_move_the_position_and_a_hole_is_a_fault() {
    let mut world = World::ready();
    world.deliver(11, 0).unwrap();
    let entry = world.received(13, 1);
    // Seq 12 has been superseded.
    world.frame(&pushed(11, 14, vec![entry])).unwrap();
    world.deliver(15, 2).unwrap();
    assert_eq!((world.session.position, world.stats[Count::Delivered], world.faults().len()), (Seq(15), 3, 0));
    assert!(matches!(world.deliver(17, 3), Err(Ending::Fault(words)) if words.contains("a hole: entry 17")));
    assert!(matches!(world.frame(&pushed(17, 17, vec![])), Err(Ending::Fault(words)) if words.contains("a hole")));
}

#[test]
fn what_is_at_or_below_the_position_is_passed_over() {
    let mut world = World::ready();
    world.deliver(11, 0).unwrap();
    world.deliver(11, 0).unwrap();
    let entry = world.received(11, 0);
    world.frame(&pushed(11, 11, vec![entry])).unwrap();
    assert_eq!((world.stats[Count::PassedOver], world.stats[Count::Delivered], world.faults().len()), (2, 1, 0));
}

#[test]
fn a_message_that_is_delivered_under_a_second_seq_is_a_fault() {
    let mut world = World::ready();
    world.deliver(11, 0).unwrap();
    world.deliver(12, 0).unwrap();
    assert!(world.faults()[0].contains("came twice"), "{:?}", world.faults());
}

#[test]
fn frames_of_newer_servers_are_passed_over() {
    let mut world = World::ready();
    world.bytes(&[3, 0xbf, 1, 2]).unwrap();
    let newer = Entry { seq: Seq(11), time: TimestampMs(1), event: Event::Unknown { kind: 60 } };
    world.frame(&ServerFrame::Deliver { entry: newer }).unwrap();
    assert_eq!((world.session.position, world.faults().len()), (Seq(11), 0));
}

#[test]
fn sends_go_on_at_the_servers_number_and_fill_the_window() {
    let mut world = World::ready();
    (0..3).for_each(|_| world.push());
    assert_eq!(world.sent_numbers(), [21, 22]);
    world.frame(&accepted(21, 11)).unwrap();
    assert_eq!((world.sent_numbers(), world.session.position), (vec![23], Seq(11)));
    assert_eq!(world.happened, [Happened::Accepted { slot: 0, stream: world.streams[0] }]);
    world.frame(&accepted(21, 11)).unwrap();
    assert!(world.faults()[0].contains("send 21 was answered"), "{:?}", world.faults());
}

#[test]
fn after_a_reconnect_the_unanswered_are_sent_again() {
    let mut world = World::ready();
    (0..2).for_each(|_| world.push());
    world.sent();
    world.session.left();
    world.connect();
    world.frame(&welcome(A, 10, 10)).unwrap();
    assert_eq!(world.sent_numbers(), [21, 22]);
}

#[test]
fn refused_sends_leave_again_when_the_time_has_come() {
    let mut world = World::ready();
    (0..2).for_each(|_| world.push());
    world.sent();
    world.frame(&refused(21, ErrorCode::Overloaded, 200)).unwrap();
    world.frame(&refused(22, ErrorCode::SendGap, 0)).unwrap();
    let Some(Wake::Pump(at_us)) = world.wake.pop() else { panic!("{:?}", world.wake) };
    assert_eq!(world.sent_numbers(), [0; 0]);
    world.now_us = at_us;
    world.turn(Session::pump);
    assert_eq!((world.sent_numbers(), world.faults().len()), (vec![21, 22], 0));
}

#[test]
fn a_refusal_for_good_is_a_fault_with_its_reason() {
    let mut world = World::ready();
    world.push();
    world.frame(&refused(21, ErrorCode::Recipient, 0)).unwrap();
    assert!(world.faults()[0].contains("user 7 device 1: send 21, message 0, was refused for good: recipient"));
}

#[test]
fn acknowledgements_are_gathered_and_pings_are_answered_at_once() {
    let mut world = World::ready();
    world.deliver(11, 0).unwrap();
    world.deliver(12, 1).unwrap();
    assert_eq!((world.sent(), world.wake.as_slice()), (vec![], &[Wake::Acknowledge][..]));
    world.turn(Session::acknowledge);
    world.turn(Session::acknowledge);
    assert_eq!(world.sent(), [ClientFrame::Acknowledge { seq: Seq(12) }]);
    world.frame(&ServerFrame::Ping { nonce: 9 }).unwrap();
    assert_eq!(world.sent(), [ClientFrame::Pong { nonce: 9 }]);
}

#[test]
fn a_pong_must_be_of_the_ping() {
    let mut world = World::ready();
    world.turn(Session::ping);
    world.frame(&ServerFrame::Pong { nonce: world.now_us }).unwrap();
    assert_eq!((world.stats[Count::Pongs], world.faults().len()), (1, 0));
    world.frame(&ServerFrame::Pong { nonce: 5 }).unwrap();
    assert!(world.faults()[0].contains("which no ping had"));
}

#[test]
fn a_page_must_be_asked_for_and_answer_its_fetch() {
    let mut world = World::ready();
    let fetch = Fetch { peer: Some(B), from: Seq(11), direction: Direction::Forwards, limit: 5 };
    world.turn(|session, turn| session.ask(turn, Ask::Page(fetch)));
    let asked = world.sent().remove(0);
    assert!(
        matches!(
            asked,
            ClientFrame::FetchConversation { request: RequestId(1), conversation: ConversationId::Person(B), .. }
        ),
        "{asked:?}"
    );
    let page = |request, first| {
        let (request, last, more, entries) = (RequestId(request), Seq(first), false, Vec::new());
        ServerFrame::Page(Page {
            request,
            first: Seq(first),
            last,
            more,
            entries,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
        })
    };
    world.frame(&page(1, 12)).unwrap();
    assert!(world.faults()[0].contains("was answered with 12 to 12"), "{:?}", world.faults());
    world.frame(&page(1, 11)).unwrap();
    assert!(world.faults()[1].contains("which nothing waits for"), "{:?}", world.faults());
    assert_eq!(world.stats[Count::Pages], 1);
}

#[test]
fn a_fetch_that_is_refused_for_now_is_made_again() {
    let mut world = World::ready();
    let fetch = Fetch { peer: None, from: Seq(1), direction: Direction::Forwards, limit: 5 };
    world.turn(|session, turn| session.ask(turn, Ask::Page(fetch)));
    let asked = world.sent();
    let (code, request, detail) = (ErrorCode::Overloaded, RequestId(1), String::new());
    world.frame(&ServerFrame::Error { code, kind: 4, request, retry_after_ms: 200, detail }).unwrap();
    assert_eq!(world.wake, [Wake::Repeat(world.now_us + 200_000, request)]);
    world.turn(|session, turn| session.repeat(turn, request));
    assert_eq!((world.sent(), world.faults().len()), (asked, 0));
}

#[test]
fn committed_never_goes_back() {
    let mut world = World::ready();
    world.frame(&ServerFrame::Committed { up_to: Seq(12) }).unwrap();
    assert_eq!(world.faults().len(), 0);
    world.frame(&ServerFrame::Committed { up_to: Seq(11) }).unwrap();
    assert!(world.faults()[0].contains("committed up to 11, after 12"));
}

#[test]
fn an_app_that_opens_asks_behind_its_hello_and_has_opened_when_both_have_come() {
    let mut world = World::new();
    let screen = Screen { rows: 20, messages: 15 };
    world.session.will_open(screen);
    world.turn(|session, turn| session.greet(turn, "token".to_owned(), 1));
    let ask = |frames: Vec<ClientFrame>| match frames.last() {
        Some(ClientFrame::FetchInbox { request, before: Seq(0), limit: 20, messages: 15 }) => *request,
        _ => panic!("{frames:?}"),
    };
    let request = ask(world.sent());
    world.frame(&welcome(A, 10, 10)).unwrap();
    // Refused for now: asked again later.
    let (code, kind, detail) = (ErrorCode::RateLimited, 0x0c, String::new());
    world.frame(&ServerFrame::Error { code, kind, request, retry_after_ms: 5, detail }).unwrap();
    assert_eq!(world.wake.pop(), Some(Wake::Repeat(world.now_us + 5_000, request)));
    world.turn(|session, turn| session.repeat(turn, request));
    assert_eq!(ask(world.sent()), request);

    let content = Content::text("hello");
    let last = Entry { seq: Seq(9), time: TimestampMs(1), event: Event::Received { from: B, origin: Seq(3), content } };
    let row = proto_spec::InboxRow {
        conversation: B.into(),
        settings: proto_spec::Settings::default(),
        unread: 1,
        read_up_to: Seq::ZERO,
        delivered_up_to: Seq::ZERO,
        seen_up_to: Seq::ZERO,
        left_out: 0,
        last: last.clone(),
    };
    let inbox = Inbox { request, at: Seq(10), more: false, rows: vec![row] };
    world.happened.clear();
    world.frame(&ServerFrame::Inbox(inbox.clone())).unwrap();
    assert!(world.happened.is_empty());
    let page = Page {
        request,
        first: Seq(1),
        last: Seq(10),
        more: false,
        entries: vec![last],
        delivered_up_to: Seq::ZERO,
        seen_up_to: Seq::ZERO,
    };
    world.now_us += 7;
    world.frame(&ServerFrame::Page(page.clone())).unwrap();
    let opened = Box::new(Opened { inbox: inbox.clone(), page: Some(page), since_hello_us: 7 });
    assert_eq!(world.happened, [Happened::Opened { slot: 0, opened }]);
    assert_eq!(world.ledger.faults.count(), 0);
    world.frame(&ServerFrame::Inbox(inbox)).unwrap();
    assert!(world.ledger.faults.kept()[0].contains("that no app waits for"));
}

#[test]
fn a_mark_is_asked_for_again_after_a_reconnect_and_is_done_once() {
    let mut world = World::ready();
    let ask = Ask::Read { author: B, up_to: Seq(11) };
    world.ledger.read(0, 1, Seq(11));
    assert!(world.turn(|session, turn| session.ask(turn, ask)));
    let asked = world.sent();
    assert!(matches!(asked[0], ClientFrame::MarkRead { up_to: Seq(11), tell: true, .. }), "{asked:?}");
    world.session.left();
    world.connect();
    world.frame(&welcome(A, 10, 10)).unwrap();
    assert_eq!(world.sent(), asked);
    let done = ServerFrame::Marked { request: RequestId(1) };
    world.frame(&done).unwrap();
    assert_eq!((world.stats[Count::Marked], world.faults().len()), (1, 0));
    world.frame(&done).unwrap();
    assert!(world.faults()[0].contains("request 1 is done, which nothing waits for"), "{:?}", world.faults());
}

#[test]
fn more_marks_than_a_person_makes_are_not_asked_for_and_fetches_have_room_beside_them() {
    let mut world = World::ready();
    let ask = |up_to| Ask::Read { author: B, up_to: Seq(up_to) };
    let asked = (0..20).filter(|up_to| world.turn(|session, turn| session.ask(turn, ask(*up_to)))).count();
    assert_eq!(asked, crate::limits::MARKS_IN_FLIGHT_MAX);
    assert!(!world.session.has_room(ask(1)) && world.session.has_room(Ask::Inbox { before: Seq::ZERO, limit: 1 }));
}

#[test]
fn what_was_said_and_watched_is_said_and_watched_again_after_a_welcome() {
    let mut world = World::ready();
    world.turn(|session, turn| session.set_status(turn, Status::Away));
    world.turn(|session, turn| session.watch(turn, vec![B], 1_000_000));
    let watch = |sent: &[ClientFrame]| {
        sent.iter().any(|frame| matches!(frame, ClientFrame::Watch { users, .. } if users == &[B]))
    };
    assert!(watch(&world.sent()));
    world.turn(|session, _| session.left());
    world.connect();
    world.frame(&welcome(A, 10, 10)).unwrap();
    let sent = world.sent();
    assert!(watch(&sent) && sent.contains(&ClientFrame::SetStatus { status: Status::Away }), "{sent:?}");
}

fn redirect() -> (ServerFrame, Redirect) {
    let (address, after_ms, map_version) = ("node2:1".to_owned(), 7, 3);
    let reason = proto_spec::RedirectReason::Elsewhere;
    let frame = ServerFrame::Redirect { address: address.clone(), reason, after_ms, map_version };
    (frame, Redirect { address, after_ms, map_version })
}

#[test]
fn a_redirect_in_place_of_the_welcome_ends_the_connection() {
    let mut world = World::new();
    let hello = world.connect();
    assert!(matches!(hello, ClientFrame::Hello { hops: 1, .. }), "{hello:?}");
    let (frame, redirect) = redirect();
    assert_eq!(world.frame(&frame), Err(Ending::Redirect(redirect)));
}

#[test]
fn a_device_that_follows_no_redirects_takes_one_for_a_fault() {
    let mut world = World::new();
    let hello = world.connect_with(0);
    assert!(matches!(hello, ClientFrame::Hello { hops: 0, .. }), "{hello:?}");
    let words = "a redirect to \"node2:1\" for a device that said that it follows none";
    let (frame, _) = redirect();
    assert_eq!(world.frame(&frame), fault(words.to_owned()));
    world.connect_with(0);
    world.frame(&welcome(A, 10, 10)).unwrap();
    assert_eq!(world.frame(&frame), fault(words.to_owned()));
}

#[test]
fn a_device_that_is_ready_goes_on_until_it_is_told_to_move() {
    let mut world = World::ready();
    world.wake.clear();
    let (frame, redirect) = redirect();
    world.frame(&frame).unwrap();
    assert_eq!(world.wake, [Wake::Move(redirect)]);
    world.deliver(11, 0).unwrap();
    assert!(world.session.is_ready() && world.faults().is_empty());
}

#[test]
fn that_somebody_types_in_a_group_is_told_to_its_members_alone_and_of_another_member() {
    const GROUP: GroupId = GroupId(77);
    let told = |who_is_added: UserId, group, user, ends_in_ms| {
        let mut world = World::ready();
        let at = world.ledger.groups.add_group(GROUP);
        [(0, A), (1, B)].into_iter().for_each(|(seat, user)| world.ledger.groups.add_view(at, seat, user));
        let create = Content::act(&Act::Create { name: "load", picture: "", rules: Rules::default() });
        let add = Content::act(&Act::Add { user: who_is_added });
        for (seq, content) in [(Seq(1), create), (Seq(2), add)] {
            let entry = GroupEntry { seq, time: TimestampMs(1), from: B, origin: seq, messages: 0, content };
            world.ledger.groups.pushed(1, GROUP, &entry, 1, 0).unwrap();
        }
        world.frame(&ServerFrame::TypingInGroup { group, user, ends_in_ms }).unwrap();
        (world.happened.len(), world.faults().len())
    };
    assert_eq!(told(A, GROUP, B, 6_000), (1, 0));
    for (added, group, user, ends_in_ms) in [
        // The device is of no member, the other one is none, it types itself, in no group of the run, for no time.
        (UserId(9), GROUP, B, 6_000),
        (A, GROUP, UserId(9), 6_000),
        (A, GROUP, A, 6_000),
        (A, GroupId(78), B, 6_000),
        (A, GROUP, B, 0),
    ] {
        assert_eq!(told(added, group, user, ends_in_ms), (0, 1), "{user} in {group}");
    }
}
