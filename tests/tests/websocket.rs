//! The real server over WebSocket: what is carried, by a client library that is not ours, how it ends, and what does not get in.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use proto_spec::{ClientFrame, ErrorCode, Resume, ServerFrame};
use rustls::ClientConfig;
use server::limits::GREETING_IDLE_PIECES_MAX;
use tests::{
    connection::{Connection, Received, hello, upgrade_to},
    device::Device,
    process::{Installation, Server},
    spec,
    tls::{certify, trusting},
    wait_until,
    wires::{self, users_of_two_cores},
};
use tungstenite::{Message, http::Uri};

struct World {
    installation: Installation,
    server: Server,
    /// Without TLS and with it.
    addresses: [SocketAddr; 2],
    trust: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Installation)) -> Self {
        let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let mut trust = ClientConfig::clone(&trusting(&certify(&mut installation)));
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        // The address is this test's own, so nobody else takes the ports meanwhile.
        let ip = installation.config.listen.ip();
        installation.config.tls.listen = Some((ip, 0).into());
        let addresses = [(); 2].map(|()| TcpListener::bind((ip, 0)).unwrap());
        let addresses = addresses.map(|listener| listener.local_addr().unwrap());
        let [plain, tls] = addresses.map(Some);
        (installation.config.websocket.listen, installation.config.websocket.tls_listen) = (plain, tls);
        change(&mut installation);
        let server = installation.start();
        Self { installation, server, addresses, trust: Arc::new(trust) }
    }

    fn connect(&self) -> Connection {
        Connection::open_websocket(self.addresses[0]).unwrap()
    }

    fn connect_tls(&self) -> Connection {
        let [_, address] = self.addresses;
        Connection::open_tls(address, &self.trust).unwrap().upgrade(upgrade_to(address)).unwrap()
    }

    fn login(&self, user: u64, device: u64) -> Connection {
        self.installation.login_over(self.connect(), user, device, Resume::Stored, &[])
    }

    fn device(&self, connection: Connection, user: u64, device: u64) -> Device {
        let mut device = Device::new(user, device, self.installation.token(user));
        assert!(device.try_connect_over(connection, Resume::Stored), "{device}: not welcome");
        device
    }

    /// A socket to the plain listener.
    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addresses[0]).unwrap();
        socket.set_read_timeout(Some(tests::DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// What comes of a request, until the server has closed.
    fn asks(&self, request: &str) -> String {
        let mut socket = self.socket();
        socket.write_all(request.as_bytes()).unwrap();
        read_to_the_end(&mut socket)
    }

    fn request(&self) -> String {
        let [address, _] = self.addresses;
        format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: ringpost.v1\r\n\r\n"
        )
    }

    /// A connection whose frames are made by hand, upgraded.
    fn raw(&self) -> TcpStream {
        let mut socket = self.socket();
        socket.write_all(self.request().as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        socket
    }
}

/// Everything until the server closes.
fn read_to_the_end(socket: &mut TcpStream) -> String {
    String::from_utf8_lossy(&wires::read_to_the_end(socket)).into_owned()
}

/// A frame of a client of at most 125 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 17];
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | payload.len() as u8].into_iter().chain(mask).chain(masked).collect()
}

/// The payload of the next frame of a server, of at most 125 bytes, behind its first byte; none: the end.
fn next(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    match socket.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
        read => read.unwrap(),
    }
    let mut payload = vec![0; usize::from(head[1])];
    assert!(payload.len() < 126, "of these there is none longer");
    socket.read_exact(&mut payload).unwrap();
    Some((head[0], payload))
}

fn hello_bytes(world: &World, user: u64, device: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    hello(&world.installation.token(user), device, Resume::Stored).encode(&mut bytes);
    bytes
}

#[test]
fn a_stream_is_cut_into_messages_and_pieces_anywhere_and_pings_come_between_them() {
    spec::says("Each side sends its stream in binary messages, cut anywhere");
    spec::says("with the pong of the last one, if several came at once");
    let world = World::new();
    for user in users_of_two_cores() {
        let mut socket = world.raw();
        socket.write_all(&frame(0x89, b"before the hello")).unwrap();
        assert_eq!(next(&mut socket), Some((0x8a, b"before the hello".to_vec())));
        let hello = hello_bytes(&world, user, 1);
        let last = hello.len() - 1;
        for (at, byte) in hello.iter().enumerate() {
            // One message of many pieces, then one for each byte.
            let first = match at {
                0 => 0x02,
                1..50 => 0x00,
                50 => 0x80,
                _ => 0x82,
            };
            socket.write_all(&frame(first, &[*byte])).unwrap();
            if at % 20 == 0 && at != last {
                socket.write_all(&frame(0x89, &[at as u8])).unwrap();
                assert_eq!(next(&mut socket), Some((0x8a, vec![at as u8])));
            }
        }
        let (first, welcome) = next(&mut socket).unwrap();
        assert_eq!((first, welcome[1]), (0x82, 0x81), "a welcome");
        // Two pings in one piece, around a ping of the protocol.
        let bytes = [frame(0x89, b"one"), frame(0x82, &[2, 0x06, 7]), frame(0x89, b"two"), frame(0x8a, b"three")];
        socket.write_all(&bytes.concat()).unwrap();
        let answers = [next(&mut socket).unwrap(), next(&mut socket).unwrap()];
        assert_eq!(answers, [(0x82, vec![2, 0x88, 7]), (0x8a, b"two".to_vec())]);
    }
}

#[test]
fn a_request_that_is_not_good_is_refused_with_a_status_and_a_reason() {
    spec::says("| 403 | pages of this origin may not |");
    spec::says("the server chooses it; it agrees on no extension, compression neither");
    let world = World::new();
    let request = world.request();
    let [address, _] = world.addresses;
    let origin = |origin: &str| request.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    for (asked, status, words) in [
        (request.replace("GET", "POST"), 405, "must be GET"),
        (request.replace("/v1/ws", "/v1/ws?token=x"), 400, "must not have a query"),
        (request.replace("Upgrade: websocket\r\n", ""), 426, "WebSocket alone is spoken here"),
        (request.replace("Version: 13", "Version: 8"), 426, "must be 13"),
        (request.replace("ringpost.v1", "chat"), 400, "must offer ringpost.v1"),
        (request.replace("Sec-WebSocket-Key", "X-Key"), 400, "Sec-WebSocket-Key"),
        (origin("https://evil.example"), 403, "pages of this origin may not connect"),
        (origin("null"), 403, "pages of this origin may not connect"),
        (request.replace("Host:", &format!("Cookie: {}\r\nHost:", "x".repeat(8_192))), 431, "8192 bytes"),
        ("\u{16}\u{3}\u{1}".to_owned(), 400, "this looks like TLS"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_owned(), 400, "looks like a PROXY header"),
        (String::from_utf8(vec![0x47, 0x01]).unwrap(), 400, "speaks WebSocket"),
    ] {
        let said = world.asks(&asked);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.contains(words), "{asked}: {said}");
        assert!(!said.contains("token=x"));
    }
    assert_eq!(world.server.counted("websocket_refused_total"), 12);
    // A page from where it connects to, and a program that knows of no pages.
    for asked in [origin(&format!("http://{address}")), request.clone()] {
        let mut socket = world.socket();
        socket.write_all(asked.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
    let log = std::fs::read_to_string(world.installation.data().join("audit.log")).unwrap();
    assert!(log.contains("no upgrade: pages of this origin may not connect"), "{log}");
    assert!(!log.contains("token=x") && !world.server.logged().contains("token=x"));
}

#[test]
fn pages_of_the_origins_that_are_named_may_connect_and_no_others() {
    let origins = vec!["https://chat.example.org".to_owned()];
    let world = World::with(|installation| installation.config.websocket.origins = origins);
    let [address, _] = world.addresses;
    let page = |origin: &str| {
        let connection = Connection::open(address).unwrap();
        connection.upgrade(upgrade_to(address).with_header("Origin", origin))
    };
    world.installation.login_over(page("https://chat.example.org").unwrap(), 1, 1, Resume::Stored, &[]).is_alive();
    let refused = page(&format!("http://{address}")).unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[test]
fn what_is_said_before_the_answer_is_refused() {
    spec::says("A client must not send anything behind its request before it is answered.");
    let world = World::new();
    let said = world.asks(&format!("{}\u{2}", world.request()));
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("must wait for the answer"), "{said}");
}

#[test]
fn a_request_that_trickles_and_a_hello_that_does_not_come_are_cut_in_time() {
    spec::says("| 408 | the head did not come whole within the time for the hello (1.3) |");
    let world = World::with(|installation| installation.config.connections.handshake_timeout_ms = 300);
    let mut silent = world.socket();
    assert!(read_to_the_end(&mut silent).starts_with("HTTP/1.1 408 "));
    let mut slow = world.socket();
    let cut = world.request().bytes().any(|byte| {
        std::thread::sleep(Duration::from_millis(10));
        slow.write_all(&[byte]).is_err()
    });
    assert!(cut || read_to_the_end(&mut slow).starts_with("HTTP/1.1 408 "), "it took seconds and was let in");
    let mut upgraded = world.connect();
    assert_eq!((upgraded.bye(), upgraded.close_code()), (ErrorCode::HandshakeTimeout, Some(1000)));
    let mut upgraded = world.connect_tls();
    assert_eq!((upgraded.bye(), upgraded.close_code()), (ErrorCode::HandshakeTimeout, Some(1000)));
    wait_until("all are gone", || world.server.counted("websocket_connections") == 0);
}

#[test]
fn who_is_one_too_many_is_told_by_http() {
    spec::says("| 503 | not now: as a bye before the hello, whose code begins the text.");
    let world = World::with(|installation| installation.config.connections.max = 1);
    let mut one = world.login(1, 1);
    let said = world.asks(&world.request());
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("\r\nRetry-After: 1\r\n"), "{said}");
    assert!(said.ends_with("\r\n\r\ntoo_many_connections: the server is full\n"), "{said}");
    one.is_alive();
}

#[test]
fn what_breaks_websocket_ends_the_connection_with_its_code_and_nobody_else_notices() {
    spec::says(
        "with code 1003 for text, 1007 for the words of a close frame that are not UTF-8, and 1002 for everything",
    );
    let world = World::new();
    let mut other = world.login(1, 1);
    let unmasked = [0x82, 2, 1, 0x06].to_vec();
    let cases = [
        (unmasked, 1002),
        (frame(0x81, b"text"), 1003),
        (frame(0xc2, b"compressed"), 1002),
        (frame(0x83, b"what is this"), 1002),
        (frame(0x80, b"of nothing"), 1002),
        ([frame(0x02, &[]), frame(0x82, &[])].concat(), 1002),
        ([&[0x89, 0xfe, 0, 126][..], &[0; 130]].concat(), 1002),
        (frame(0x09, b"in pieces"), 1002),
        ([&[0x82, 0xfe, 0, 5][..], &[0; 9]].concat(), 1002),
        ([&[0x82, 0xff, 0x80][..], &[0; 11]].concat(), 1002),
        (frame(0x88, &[3]), 1002),
        (frame(0x88, &[0x03, 0xe8, 0xff]), 1007),
    ];
    for (at, (bytes, code)) in cases.iter().enumerate() {
        for says_hello in [false, true] {
            let mut socket = world.raw();
            if says_hello {
                hello_bytes(&world, 2, 1).chunks(125).for_each(|part| socket.write_all(&frame(0x82, part)).unwrap());
                assert_eq!(next(&mut socket).unwrap().0, 0x82);
            }
            socket.write_all(bytes).unwrap();
            let end = std::iter::from_fn(|| next(&mut socket)).last().unwrap();
            assert_eq!(end, (0x88, u16::to_be_bytes(*code).to_vec()), "{at} {says_hello}");
        }
    }
    let wanted = 2 * cases.len() as u64;
    wait_until("all are counted", || world.server.counted("websocket_failed_total") == wanted);
    other.is_alive();
    wait_until("they are gone", || world.server.counted("websocket_connections") == 1);
}

#[test]
fn a_bye_comes_before_the_close_frame_that_the_client_answers() {
    spec::says("and then sends a close frame with code 1000: the bye says why.");
    let mut world = World::new();
    // A hello that is not good, a device that comes again, a client's own bye, and a server that stops.
    for mut stranger in [world.connect(), world.connect_tls()] {
        stranger.send(&[hello("nonsense", 1, Resume::Stored)]);
        assert_eq!((stranger.bye(), stranger.close_code()), (ErrorCode::TokenInvalid, Some(1000)));
    }
    let mut first = world.login(1, 1);
    let second = world.login(1, 1);
    assert_eq!((first.bye(), first.close_code()), (ErrorCode::Replaced, Some(1000)));
    for mut leaving in [second, world.installation.login_over(world.connect_tls(), 1, 1, Resume::Stored, &[])] {
        leaving.send(&[ClientFrame::Bye]);
        while leaving.frame().is_some() {}
        assert_eq!(leaving.close_code(), Some(1000));
    }
    let (mut plain, mut tls) = (world.login(2, 1), world.connect_tls());
    tls = world.installation.login_over(tls, 2, 2, Resume::Stored, &[]);
    world.server.signal("TERM");
    for stopped in [&mut plain, &mut tls] {
        assert_eq!((stopped.bye(), stopped.close_code()), (ErrorCode::Stopping, Some(1000)));
    }
    world.server.wait();
}

#[test]
fn who_does_not_answer_a_close_frame_is_waited_for_and_then_cut() {
    spec::says("the server waits half a second for that, and then ends the TCP connection itself, either way.");
    let world = World::new();
    let mut socket = world.raw();
    socket.write_all(&frame(0x82, &[1, 0x06])).unwrap();
    let bye = next(&mut socket).unwrap();
    assert_eq!((bye.0, bye.1[1]), (0x82, 0x89));
    assert_eq!(next(&mut socket), Some((0x88, vec![0x03, 0xe8])));
    // Other frames are no answer.
    socket.write_all(&frame(0x82, b"more")).unwrap();
    socket.write_all(&frame(0x89, b"ping")).unwrap();
    assert_eq!(next(&mut socket), None);
    wait_until("its place is free", || world.server.counted("websocket_connections") == 0);
    assert_eq!(world.server.counted("closed_by_deadline_total"), 0);
}

#[test]
fn a_client_that_closes_is_answered_with_its_code_and_is_gone() {
    spec::says("It answers the close frame of a client with the code that this one had, or 1000.");
    let world = World::new();
    for code in [1000, 1001, 4000] {
        for connection in [world.connect(), world.connect_tls()] {
            let mut connection = world.installation.login_over(connection, 1, 1, Resume::Stored, &[]);
            connection.close_websocket(code);
            while connection.frame().is_some() {}
            assert_eq!(connection.close_code(), Some(code));
        }
    }
    let mut socket = world.raw();
    socket.write_all(&frame(0x88, &[])).unwrap();
    assert_eq!((next(&mut socket), next(&mut socket)), (Some((0x88, vec![0x03, 0xe8])), None));
    wait_until("they are gone", || world.server.counted("websocket_connections") == 0);
    wait_until("all were closed by their clients", || world.server.counted("closed_by_peer_total") == 6);
}

#[test]
fn who_vanishes_comes_back_and_misses_nothing_and_a_server_that_is_killed_does_too() {
    let mut world = World::new();
    let mut reader = world.device(world.connect(), 2, 1);
    let mut writer = world.device(world.connect(), 1, 1);
    writer.say(2, "one");
    reader.step_until("it arrives", |reader| reader.received().len() == 1);
    reader.disconnect();
    writer.say(2, "two");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    world.server.signal("KILL");
    world.server.wait();
    writer.disconnect();
    world.server = world.installation.start();
    assert!(reader.try_connect_over(world.connect_tls(), Resume::Stored));
    reader.step_until("the other one arrives", |reader| reader.received().len() == 2);
    assert_eq!(reader.received().last().unwrap().3, "two");
}

#[test]
fn the_header_of_a_balancer_comes_before_the_request() {
    let world = World::with(|installation| {
        installation.config.connections.proxy_networks = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let [address, _] = world.addresses;
    let mut connection = Connection::open(address).unwrap();
    connection.bytes(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 7680\r\n");
    let mut connection = connection.upgrade(upgrade_to(address)).unwrap();
    connection = world.installation.login_over(connection, 1, 1, Resume::Stored, &[]);
    connection.is_alive();
    // A thread of its own writes it.
    let mut log = String::new();
    for _ in 0..1_000 {
        log = std::fs::read_to_string(world.installation.data().join("audit.log")).unwrap();
        if log.contains("\"peer\":\"192.0.2.1:5000\"") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(log.contains("\"peer\":\"192.0.2.1:5000\""), "{log}");
    let said = world.asks(&world.request());
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("no PROXY header comes first"), "{said}");
}

#[test]
fn a_listener_that_speaks_tls_tells_so_and_takes_no_other_protocol_by_alpn() {
    let world = World::new();
    let [_, address] = world.addresses;
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(world.request().as_bytes()).unwrap();
    let said = read_to_the_end(&mut plain);
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("this listener speaks TLS only"), "{said}");
    spec::says("but that the protocol by ALPN is `http/1.1`");
    let offers = |alpn: &[&[u8]]| {
        let mut config = ClientConfig::clone(&world.trust);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Connection::open_tls(address, &Arc::new(config))
    };
    assert!(offers(&[]).is_ok() && offers(&[b"h2", b"http/1.1"]).is_ok());
    assert!(offers(&[b"ringpost/1"]).is_err() && offers(&[b"h2"]).is_err());
}

#[test]
fn pings_of_websocket_keep_nobody_connected() {
    spec::says("They are no frames: they keep nobody connected (8.4).");
    let world = World::with(|installation| {
        installation.config.connections.ping_after_ms = 2_000;
        installation.config.connections.idle_timeout_ms = 4_000;
    });
    let mut connection = world.login(1, 1);
    let bye = loop {
        if connection.websocket().send(Message::Ping("alive?".into())).is_err() {
            break None;
        }
        match connection.receive(Duration::from_millis(100)) {
            Received::Frame(ServerFrame::Bye { code, .. }) => break Some(code),
            Received::Closed => break None,
            _ => {}
        }
    };
    assert_eq!(bye, Some(ErrorCode::IdleTimeout));
}

#[test]
fn before_the_hello_so_many_pings_are_answered_and_then_the_connection_ends() {
    spec::says("before the hello end the connection with bye `rate_limited`.");
    let world = World::new();
    let mut socket = world.raw();
    for at in 0..GREETING_IDLE_PIECES_MAX {
        socket.write_all(&frame(0x89, &[at as u8])).unwrap();
        assert_eq!(next(&mut socket), Some((0x8a, vec![at as u8])));
    }
    socket.write_all(&frame(0x89, b"one more")).unwrap();
    let answers: Vec<_> = std::iter::from_fn(|| next(&mut socket)).collect();
    let bye = answers.iter().find(|(first, _)| *first == 0x82).unwrap();
    assert_eq!((bye.1[1], answers.last().unwrap()), (0x89, &(0x88, vec![0x03, 0xe8])));
    assert!(String::from_utf8_lossy(&bye.1).contains("send the hello first"));
    assert_eq!(world.server.counted("handshakes_failed_total"), 1);
}

/// What a script is given: the library reads the answer as a browser does.
#[test]
fn the_answer_has_the_subprotocol_and_no_extension() {
    let world = World::new();
    let [address, _] = world.addresses;
    let request = upgrade_to(address).with_header("Sec-WebSocket-Extensions", "permessage-deflate");
    let (_, answer) = tungstenite::client(request, TcpStream::connect(address).unwrap()).unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "ringpost.v1");
    assert!(!answer.headers().contains_key("Sec-WebSocket-Extensions"));
    let elsewhere: Uri = format!("ws://{address}/elsewhere").parse().unwrap();
    let request = tungstenite::ClientRequestBuilder::new(elsewhere).with_sub_protocol("ringpost.v1");
    let refused = tungstenite::client(request, TcpStream::connect(address).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("404"), "{refused}");
}
