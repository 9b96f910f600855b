//! Long polling as a script sees it: each request by itself, over sockets that come and go. What it carries is in `wires.rs`.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
};

use proto_spec::{
    ClientFrame, Content, Decoder, ErrorCode, Resume, ServerFrame, UserId, limits::SERVER_FRAME_BYTES_MAX,
};
use server::limits::{POLL_BODY_BYTES_MAX, POLLS_MAX};
use tests::{
    connection::hello,
    http::{self, Answer},
    process::{Installation, Server},
    spec, wait_until,
};

struct World {
    installation: Installation,
    server: Server,
    address: SocketAddr,
}

impl World {
    fn new(change: impl FnOnce(&mut Installation)) -> Self {
        let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        // The address is this test's own, so nobody else takes the port meanwhile.
        let listener = TcpListener::bind((installation.config.listen.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        installation.config.websocket.listen = Some(address);
        change(&mut installation);
        let server = installation.start();
        Self { installation, server, address }
    }

    fn socket(&self) -> TcpStream {
        http::connect(self.address)
    }

    /// One request by a socket of its own.
    fn ask(&self, method: &str, address: &str, headers: &str, body: &[u8]) -> Answer {
        http::ask(self.address, method, address, headers, body)
    }

    fn send(&self, socket: &mut TcpStream, method: &str, address: &str, headers: &str, body: &[u8]) {
        http::send(socket, self.address, (method, address, headers), body);
    }

    fn hello(&self, user: u64, device: u64) -> Vec<u8> {
        bytes(&hello(&self.installation.token(user), device, Resume::Stored))
    }

    /// A session that has said hello, and how much of it.
    fn open(&self, user: u64, device: u64) -> (String, usize) {
        let answer = self.ask("POST", "/v1/frames", "", &self.hello(user, device));
        assert_eq!(answer.status, 201, "{answer:?}");
        let (id, taken) = answer.text().split_once(' ').map(|(id, taken)| (id.to_owned(), taken.to_owned())).unwrap();
        (id, taken.parse().unwrap())
    }

    fn say(&self, id: &str, at: usize, body: &[u8]) -> Answer {
        self.ask("POST", &format!("/v1/frames?session={id}&at={at}"), "", body)
    }

    fn hear(&self, id: &str, at: usize) -> Answer {
        self.ask("GET", &format!("/v1/frames?session={id}&at={at}"), "", b"")
    }

    /// What the session is told until a frame comes that is wanted: all frames, and how far they go.
    fn hear_until(&self, id: &str, mut at: usize, wanted: impl Fn(&ServerFrame) -> bool) -> (Vec<ServerFrame>, usize) {
        let mut frames = Vec::new();
        while !frames.iter().any(&wanted) {
            let answer = self.hear(id, at);
            assert_eq!(answer.status, 200, "{answer:?} behind {frames:?}");
            at += answer.body.len();
            frames.extend(frames_of(&answer));
        }
        (frames, at)
    }
}

fn frames_of(answer: &Answer) -> Vec<ServerFrame> {
    let mut frames = Vec::new();
    let decoded = Decoder::new(SERVER_FRAME_BYTES_MAX as u32).decode(&answer.body, |raw| {
        frames.push(ServerFrame::decode(raw).unwrap());
        ControlFlow::Continue(())
    });
    decoded.unwrap();
    frames
}

fn bytes(frame: &ClientFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn send_of(number: u64, to: u64, text: &str) -> ClientFrame {
    let to = proto_spec::ConversationId::Person(UserId(to));
    ClientFrame::Send { number: proto_spec::SendNumber(number), to, content: Content::Text(text.as_bytes().into()) }
}

const fn is_welcome(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Welcome { .. })
}

#[test]
fn what_is_lost_of_a_request_or_its_answer_is_said_and_asked_again_and_happens_once() {
    let world = World::new(|_| {});
    let (id, taken) = world.open(1, 1);
    let (_, heard) = world.hear_until(&id, 0, is_welcome);
    let message = bytes(&send_of(1, 2, "once"));
    // The first half arrives, all of it is said, and its answer does not arrive: it is said once more.
    let half = message.len() / 2;
    assert_eq!(world.say(&id, taken, &message[..half]).text(), (taken + half).to_string());
    for _ in 0..2 {
        assert_eq!(world.say(&id, taken, &message).text(), (taken + message.len()).to_string());
    }
    let is_accepted = |frame: &ServerFrame| matches!(frame, ServerFrame::Accepted { .. });
    let (first, to) = world.hear_until(&id, heard, is_accepted);
    let (again, _) = world.hear_until(&id, heard, is_accepted);
    assert_eq!(first[0], again[0], "what was not let go of is told again");
    let (reader, _) = world.open(2, 1);
    let is_message = |frame: &ServerFrame| matches!(frame, ServerFrame::Page(_) | ServerFrame::Deliver { .. });
    let (frames, _) = world.hear_until(&reader, 0, is_message);
    let entries = frames.iter().map(|frame| match frame {
        ServerFrame::Page(page) => page.entries.len(),
        ServerFrame::Deliver { .. } => 1,
        _ => 0,
    });
    assert_eq!(entries.sum::<usize>(), 1, "{frames:?}");
    // Where neither side can go on.
    spec::says("| 409 | N is beyond what has been said, or before what has been let go of");
    let beyond = world.say(&id, taken + message.len() + 1, b"x");
    assert!(beyond.status == 409 && beyond.text().contains(&(taken + message.len()).to_string()), "{beyond:?}");
    assert_eq!(world.hear(&id, to + 1_000_000).status, 409);
    assert_eq!(world.hear(&id, heard - 1).status, 409);
}

#[test]
fn the_newest_who_asks_is_answered_and_the_one_before_is_let_go() {
    spec::says("204 if there were none in 25 s, or if a newer `GET` has come");
    let world = World::new(|_| {});
    let (id, taken) = world.open(1, 1);
    let (_, mut at) = world.hear_until(&id, 0, is_welcome);
    // Whatever else there is to say at the beginning.
    let is_pong = |frame: &ServerFrame| matches!(frame, ServerFrame::Pong { .. });
    let ping = bytes(&ClientFrame::Ping { nonce: 1 });
    world.say(&id, taken, &ping);
    (_, at) = world.hear_until(&id, at, is_pong);
    let address = format!("/v1/frames?session={id}&at={at}");
    let [mut old, mut new] = [(); 2].map(|()| {
        let mut socket = world.socket();
        world.send(&mut socket, "GET", &address, "", b"");
        // The server has it before the other one comes.
        world.ask("GET", "/v1/frames?session=x", "", b"");
        socket
    });
    assert_eq!(http::read(&mut old).status, 204);
    world.say(&id, taken + ping.len(), &ping);
    let answer = http::read(&mut new);
    assert!(answer.status == 200 && frames_of(&answer).iter().any(is_pong), "{answer:?}");
}

#[test]
fn a_session_ends_with_a_bye_that_may_still_be_asked_for() {
    let mut world = World::new(|_| {});
    let refused = bytes(&hello("nonsense", 1, Resume::Stored));
    let answer = world.ask("POST", "/v1/frames", "", &refused);
    let id = answer.text().split_once(' ').unwrap().0.to_owned();
    let is_bye = |frame: &ServerFrame| matches!(frame, ServerFrame::Bye { code: ErrorCode::TokenInvalid, .. });
    let (_, at) = world.hear_until(&id, 0, is_bye);
    let over = world.hear(&id, at);
    assert!(over.status == 410 && over.text().contains("begin a new one"), "{over:?}");
    assert_eq!(world.say(&id, refused.len(), b"more").status, 410);
    // One whose server stops, and who asks meanwhile.
    let (id, _) = world.open(1, 1);
    let (_, at) = world.hear_until(&id, 0, is_welcome);
    let mut socket = world.socket();
    world.send(&mut socket, "GET", &format!("/v1/frames?session={id}&at={at}"), "", b"");
    // That is there, and those before have gone.
    wait_until("it asks", || world.server.counted("page_connections") == 1);
    world.server.signal("TERM");
    let answer = http::read(&mut socket);
    let says_so = |frame: &ServerFrame| matches!(frame, ServerFrame::Bye { code: ErrorCode::Stopping, .. });
    assert!(frames_of(&answer).iter().any(says_so), "{answer:?}");
    world.server.wait();
}

#[test]
fn a_request_that_is_not_good_is_refused_with_a_status_and_a_reason() {
    let world = World::new(|_| {});
    let unknown = "A".repeat(22);
    let long = vec![0; POLL_BODY_BYTES_MAX + 1];
    for (method, address, headers, body, status, words) in [
        ("GET", "/v1/frame", "", &b""[..], 404, "/v1/frames"),
        ("PUT", "/v1/frames", "", b"", 405, "GET or POST"),
        ("GET", "/v1/frames", "", b"", 400, "?session=ID&at=NUMBER"),
        ("GET", &format!("/v1/frames?session={unknown}&at=0"), "", b"", 410, "no such session"),
        ("POST", &format!("/v1/frames?session={unknown}&at=0"), "", b"", 410, "no such session"),
        ("POST", "/v1/frames", "Origin: https://evil.example\r\n", b"", 403, "pages of this origin"),
        ("OPTIONS", "/v1/frames", "Origin: https://evil.example\r\n", b"", 403, "pages of this origin"),
        ("POST", "/v1/frames", "", &long, 413, "65536 bytes"),
    ] {
        let answer = world.ask(method, address, headers, body);
        assert!(answer.status == status && answer.text().contains(words), "{method} {address}: {answer:?}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
    }
    assert_eq!(world.server.counted("polls_total"), 0);
}

#[test]
fn pages_of_other_origins_poll_if_the_operator_names_them() {
    const PAGE: &str = "https://chat.example.org";
    let world = World::new(|installation| installation.config.websocket.origins = vec![PAGE.to_owned()]);
    let origin = format!("Origin: {PAGE}\r\n");
    let asked =
        format!("{origin}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n");
    let preflight = world.ask("OPTIONS", "/v1/frames", &asked, b"");
    assert!(preflight.status == 204 && preflight.head.contains("access-control-allow-methods: get, post\r\n"));
    for answer in [preflight, world.ask("POST", "/v1/frames", &origin, &world.hello(1, 1))] {
        assert!(answer.head.contains(&format!("access-control-allow-origin: {PAGE}\r\n")), "{answer:?}");
        assert!(answer.head.contains("vary: origin\r\n") && answer.head.contains("cache-control: no-store\r\n"));
    }
    let own = format!("Origin: http://{}\r\n", world.address);
    assert_eq!(world.ask("POST", "/v1/frames", &own, &world.hello(1, 1)).status, 403);
}

#[test]
fn a_node_has_so_many_sessions_and_others_are_told_when_to_come_back() {
    let world = World::new(|_| {});
    let mut socket = world.socket();
    let mut open = || {
        world.send(&mut socket, "POST", "/v1/frames", "", b"");
        http::read(&mut socket)
    };
    for number in 0..POLLS_MAX {
        let answer = open();
        assert_eq!(answer.status, 201, "{number}: {answer:?}");
    }
    let answer = open();
    assert!(answer.status == 503 && answer.head.contains("retry-after: 1\r\n"), "{answer:?}");
    assert!(answer.text().starts_with("overloaded: "), "{answer:?}");
}
