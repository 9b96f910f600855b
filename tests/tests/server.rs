//! What the server promises to clients, over real sockets against the real process.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proto_spec::{
    ClientFrame, Content, Direction, ErrorCode, Event, Recipient, RequestId, Resume, SendNumber, Seq, ServerFrame,
    UserId,
    limits::{CLIENT_FRAME_BYTES_MAX, TEXT_BYTES_MAX},
    wire::put_varint,
};
use server::shard::topology::Topology;
use tests::{
    connection::{Connection, hello},
    device::{Device, Step},
    process::{Installation, Server, wall_now},
    rng::Rng,
    wait_until,
};

fn world(cores: u16) -> (Installation, Server) {
    world_with(|installation| installation.config.cores = cores)
}

fn world_with(change: impl FnOnce(&mut Installation)) -> (Installation, Server) {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    change(&mut installation);
    let server = installation.start();
    // The first send has a second segment made, and sends may be refused until it is there.
    let mut first = connected(&installation, 1_000_000, 1);
    first.say(1_000_000, "to myself");
    first.step_until("sends are taken", |first| first.unanswered() == 0);
    wait_until("there is a second segment", || server.metrics()["ringpost_journal_segments_prepared_total"] > 0.0);
    (installation, server)
}

fn send(number: u64, to: u64, text: &str) -> ClientFrame {
    ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content: Content::text(text) }
}

fn accepted(frame: ServerFrame) -> Option<(u64, u64)> {
    match frame {
        ServerFrame::Accepted { number, seq, .. } => Some((number.0, seq.0)),
        ServerFrame::Refused { code, .. } => panic!("refused: {code:?}"),
        _ => None,
    }
}

/// Two users that live on the same core, and one that lives on another if there is another.
fn neighbours_and_stranger(cores: u16) -> [u64; 3] {
    let topology = Topology::new(cores).unwrap();
    let home = |user: u64| topology.home_of(UserId(user));
    let neighbour = (2..).find(|&user| home(user) == home(1)).unwrap();
    let stranger = (2..).find(|&user| user != neighbour && (cores == 1 || home(user) != home(1))).unwrap();
    [1, neighbour, stranger]
}

fn connected(installation: &Installation, user: u64, device: u64) -> Device {
    let mut device = Device::new(user, device, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

#[test]
fn two_people_converse_on_one_core_and_across_cores() {
    for cores in [1, 4] {
        let (installation, server) = world(cores);
        let [a, b, c] = neighbours_and_stranger(cores);
        for (me, you) in [(a, b), (a, c)] {
            let mut mine = connected(&installation, me, you);
            let mut yours = connected(&installation, you, 1);
            let before = yours.received().len();
            for round in 0..10 {
                mine.say(you, &format!("ping {round}"));
                mine.step_until("it is accepted", |mine| mine.unanswered() == 0);
                yours.step_until("it arrives", |yours| yours.received().len() == before + round + 1);
                yours.say(me, &format!("pong {round}"));
                yours.step_until("it is accepted", |yours| yours.unanswered() == 0);
                mine.step_until("so does the answer", |mine| {
                    mine.received().last().is_some_and(|last| last.3 == format!("pong {round}"))
                });
            }
            yours.acknowledge();
            mine.step_until("the delivery is told", |mine| {
                let last = mine.accepted.values().last().copied().unwrap();
                mine.log.values().any(|entry| entry.event == Event::Delivered { peer: UserId(you), up_to: Seq(last) })
            });
        }
        server.stop();
    }
}

#[test]
fn what_a_recipient_missed_comes_in_order_and_then_live_without_a_hole_or_a_repeat() {
    let (installation, _server) = world_with(|installation| installation.config.journal.seal_after_ms = 200);
    let [alice, _, bob] = neighbours_and_stranger(2);
    let mut writer = connected(&installation, alice, 1);
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let writer = thread::spawn(move || {
        while !is_done.load(Ordering::SeqCst) {
            while writer.unanswered() < 8 {
                writer.say(bob, &format!("message {}", writer.sent() + 1));
            }
            writer.step(Duration::from_millis(20));
        }
        writer.step_until("all is answered", |writer| writer.unanswered() == 0);
        writer
    });
    // Each time it connects, traffic runs; the device itself looks for holes and repeats.
    let mut reader = Device::new(bob, 1, installation.token(bob));
    for round in 0..12 {
        let resume = if round % 3 == 0 { Resume::Stored } else { Resume::After(Seq(reader.position)) };
        reader.connect(installation.config.listen, resume);
        let before = reader.received().len();
        reader.step_until("it catches up and goes on", |reader| reader.received().len() >= before + 40);
        reader.acknowledge();
        reader.disconnect();
    }
    done.store(true, Ordering::SeqCst);
    let writer = writer.join().unwrap();
    reader.connect(installation.config.listen, Resume::After(Seq(reader.position)));
    reader.step_until("everything is there", |reader| reader.received().len() as u64 == writer.sent());
    for (message, (number, seq)) in reader.received().iter().zip(&writer.accepted) {
        assert_eq!((message.1, message.2, message.3), (alice, *seq, format!("message {number}").as_str()));
    }
}

#[test]
fn all_devices_of_a_user_see_one_log_whoever_of_them_writes() {
    let (installation, _server) = world(2);
    let [alice, _, bob] = neighbours_and_stranger(2);
    let mut devices = [1, 2, 3].map(|device| connected(&installation, alice, device));
    let mut other = connected(&installation, bob, 1);
    for round in 0..50 {
        for device in &mut devices[..2] {
            device.say(bob, &format!("{round} of {}", device.device));
        }
        other.say(alice, &format!("{round}"));
    }
    for device in &mut devices {
        device.step_until("the whole log is there", |device| device.counts() == (50, 100));
    }
    other.step_until("all messages are there", |other| other.counts() == (100, 50));
    assert_eq!(other.unanswered(), 0);
    let late = {
        let mut late = connected(&installation, alice, 4);
        late.step_until("a new device gets the whole log", |late| late.counts() == (50, 100));
        late
    };
    for device in &devices {
        assert_eq!(device.messages(), late.messages(), "{device}");
    }
}

#[test]
fn of_two_connections_of_one_device_the_newer_stays() {
    let (installation, _server) = world(2);
    let mut older = installation.login(1, 1, Resume::Stored);
    let mut newer = installation.login(1, 1, Resume::Stored);
    assert_eq!(older.bye(), ErrorCode::Replaced);
    newer.is_alive();
}

#[test]
fn a_retry_over_a_new_connection_gets_the_first_seq_and_stores_nothing() {
    let (installation, _server) = world(2);
    let [alice, _, bob] = neighbours_and_stranger(2);
    let mut first = installation.login(alice, 1, Resume::Stored);
    first.send(&[send(1, bob, "once")]);
    let answer = first.until(accepted);
    drop(first);
    let mut second = installation.login(alice, 1, Resume::Stored);
    second.send(&[send(1, bob, "once"), send(2, bob, "twice")]);
    assert_eq!(second.until(accepted), answer);
    assert_eq!(second.until(accepted), (2, 2));
    // The answer of this one is never read.
    second.send(&[send(3, bob, "thrice")]);
    drop(second);
    let mut third = installation.login(alice, 1, Resume::Stored);
    third.send(&[send(3, bob, "thrice"), send(4, bob, "end")]);
    assert_eq!((third.until(accepted).0, third.until(accepted).0), (3, 4));
    let mut reader = connected(&installation, bob, 1);
    reader.step_until("the end is there", |reader| reader.received().last().is_some_and(|last| last.3 == "end"));
    let texts: Vec<&str> = reader.received().iter().map(|message| message.3).collect();
    assert_eq!(texts, ["once", "twice", "thrice", "end"]);
}

#[test]
fn a_gap_in_the_send_numbers_is_refused_with_the_number_expected() {
    let (installation, _server) = world(2);
    let mut client = installation.login(1, 1, Resume::Stored);
    client.send(&[send(3, 2, "too early")]);
    let refusal = client.until(|frame| match frame {
        ServerFrame::Refused { number, code, expected, .. } => Some((number.0, code, expected.0)),
        _ => None,
    });
    assert_eq!(refusal, (3, ErrorCode::SendGap, 1));
    client.send(&[send(1, 2, "now")]);
    assert_eq!(client.until(accepted), (1, 1));
}

#[test]
fn pages_of_log_and_conversation_come_in_both_directions_from_store_and_memory() {
    let (mut installation, server) = world(2);
    let [alice, other, bob] = neighbours_and_stranger(2);
    let mut writer = connected(&installation, alice, 1);
    let say = |writer: &mut Device, from: u64, to: u64| {
        for number in from..=to {
            writer.say(if number % 3 == 0 { other } else { bob }, &format!("{number}"));
        }
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    };
    say(&mut writer, 1, 30);
    // A restart brings these into the store; the next stay in memory.
    server.kill();
    let _server = installation.start();
    writer.connect(installation.config.listen, Resume::After(Seq(writer.position)));
    say(&mut writer, 31, 60);
    let mut client = installation.login(alice, 2, Resume::Live);
    for direction in [Direction::Forwards, Direction::Backwards] {
        for peer in [None, Some(UserId(bob))] {
            let (mut found, mut from, mut request) = (Vec::new(), Seq::ZERO, 0);
            loop {
                request += 1;
                let frame = match peer {
                    None => ClientFrame::FetchLog { request: RequestId(request), from, direction, limit: 7 },
                    Some(peer) => ClientFrame::FetchConversation {
                        request: RequestId(request),
                        conversation: peer.into(),
                        from,
                        direction,
                        limit: 7,
                    },
                };
                let page = client.fetch(request, &frame);
                let seqs =
                    page.entries.iter().filter(|entry| entry.event.conversation().is_some()).map(|entry| entry.seq.0);
                match direction {
                    Direction::Forwards => found.extend(seqs),
                    Direction::Backwards => found.extend(seqs.rev()),
                }
                if !page.more {
                    break;
                }
                from = if direction == Direction::Forwards { page.last.next() } else { page.first.previous() };
            }
            let wanted = |seq: &u64| peer.is_none_or(|peer| writer.log[seq].event.conversation() == Some(peer.into()));
            let mut expected: Vec<u64> = writer.messages().into_keys().filter(wanted).collect();
            if direction == Direction::Backwards {
                expected.reverse();
            }
            assert_eq!(found, expected, "{direction:?} {peer:?}");
        }
    }
}

/// A connection whose kernel takes little before it is full.
fn narrow(address: SocketAddr) -> Connection {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    Connection::over(TcpStream::from(socket)).unwrap()
}

#[test]
fn readers_that_stop_cost_little_memory_hold_up_nobody_and_lose_nothing() {
    const DEAF: u64 = 24;
    const MESSAGES: u64 = 512;
    let (installation, server) = world(2);
    let address = installation.config.listen;
    let [alice, carol, bob] = neighbours_and_stranger(2);
    let mut writer = connected(&installation, alice, 1);
    let mut deaf: Vec<Device> = (1..=DEAF)
        .map(|device| {
            let mut device = Device::new(bob, device, installation.token(bob));
            assert!(device.try_connect_over(narrow(address), Resume::Stored));
            device
        })
        .collect();
    let mut listener = connected(&installation, carol, 1);
    let mut speaker = connected(&installation, bob, 30);
    let before = server.memory_bytes();
    let text = "x".repeat(TEXT_BYTES_MAX);
    for number in 1..=MESSAGES {
        writer.say(bob, &text);
        writer.step_until("there is room", |writer| writer.unanswered() < 16);
        // Neither the user whose devices are deaf nor anybody else waits for them.
        if number % 16 == 0 {
            speaker.step_until("it reads", |speaker| speaker.received().len() as u64 >= number - 16);
            speaker.say(carol, &format!("{number}"));
            speaker.step_until("it is accepted", |speaker| speaker.unanswered() == 0);
            listener.step_until("it arrives", |listener| listener.received().len() as u64 == number / 16);
        }
    }
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    let grown = server.memory_bytes().saturating_sub(before);
    println!("memory grew by {} KiB for {} KiB of messages to {DEAF} devices", grown >> 10, MESSAGES * 16);
    // Each of them has 8 MiB before it; a server that kept that for each would have grown by 192.
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
    for device in &mut deaf[..2] {
        device.step_until("it catches up", |device| device.received().len() as u64 == MESSAGES);
    }
}

#[test]
fn a_missing_wrong_or_expired_token_is_refused_with_its_code_and_closed() {
    let (installation, server) = world(2);
    let other_key =
        server::access::auth::SigningKey::from_pem(server::access::auth::generate_pem().unwrap().as_bytes()).unwrap();
    let foreign = server::access::auth::mint(&other_key, UserId(7), Duration::from_secs(60), wall_now()).unwrap();
    let mut long_ago = wall_now();
    long_ago.0 -= 3_600_000;
    let expired = installation.token_at(7, long_ago, Duration::from_secs(60));
    let mut changed = installation.token(7).into_bytes();
    let at = changed.len() / 2;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (token, code) in [
        ("", ErrorCode::TokenMissing),
        ("what", ErrorCode::TokenInvalid),
        (&foreign, ErrorCode::TokenInvalid),
        (&changed, ErrorCode::TokenInvalid),
        (&expired, ErrorCode::TokenExpired),
    ] {
        let mut client = installation.connect();
        // What follows a bad hello is not looked at.
        client.send(&[hello(token, 1, Resume::Stored), send(1, 8, "unheard")]);
        assert_eq!(client.bye(), code);
    }
    let mut client = installation.login(7, 1, Resume::Stored);
    client.send(&[send(1, 8, "heard")]);
    assert_eq!(client.until(accepted), (1, 1));
    server.stop();
}

#[test]
fn nothing_but_a_hello_is_looked_at_first() {
    let (installation, _server) = world(2);
    for first in [send(1, 8, "too early"), ClientFrame::Ping { nonce: 1 }, ClientFrame::Bye] {
        let mut client = installation.connect();
        client.send(&[first, hello(&installation.token(7), 1, Resume::Stored)]);
        assert_eq!(client.bye(), ErrorCode::NotNow);
    }
    let mut client = installation.login(7, 1, Resume::Stored);
    client.send(&[hello(&installation.token(7), 1, Resume::Stored)]);
    assert_eq!(client.bye(), ErrorCode::NotNow);
    let page = installation.login(7, 1, Resume::Stored).fetch(
        1,
        &ClientFrame::FetchLog { request: RequestId(1), from: Seq(0), direction: Direction::Forwards, limit: 9 },
    );
    assert_eq!(page.entries, []);
}

#[test]
fn a_hello_that_does_not_come_whole_in_time_is_not_waited_for() {
    let (installation, _server) = world_with(|installation| installation.config.connections.handshake_timeout_ms = 300);
    let mut silent = installation.connect();
    let mut slow = installation.connect();
    slow.bytes(&[0x40, 0x01, 0x01]);
    assert_eq!((silent.bye(), slow.bye()), (ErrorCode::HandshakeTimeout, ErrorCode::HandshakeTimeout));
}

#[test]
fn the_silent_are_asked_and_then_closed_and_who_answers_stays() {
    let (installation, _server) = world_with(|installation| {
        installation.config.connections.ping_after_ms = 2_000;
        installation.config.connections.idle_timeout_ms = 8_000;
    });
    let mut answers = connected(&installation, 1, 1);
    let mut silent = installation.login(2, 1, Resume::Stored);
    let start = Instant::now();
    // For twice as long as silence is allowed.
    while start.elapsed() < Duration::from_millis(16_000) {
        let step = answers.step(Duration::from_millis(50));
        assert!(!matches!(step, Step::Lost(_)), "{step:?} after {:?}", start.elapsed());
    }
    let asked = silent.until(|frame| Some(matches!(frame, ServerFrame::Ping { .. })));
    assert!(asked);
    assert_eq!(silent.bye(), ErrorCode::IdleTimeout);
}

/// Connects as SPEC 8.5 says until it is let in; gives the connection and the times that it was told to wait.
fn let_in(installation: &Installation, user: u64) -> (Connection, Vec<u64>) {
    let (token, mut rng, mut told) = (installation.token(user), Rng::new(user), Vec::new());
    loop {
        let mut client = installation.connect();
        // The way to a phone and back.
        thread::sleep(Duration::from_millis(100));
        let frame = client.try_send(&[hello(&token, 1, Resume::Stored)]).ok().and_then(|()| client.frame());
        match frame {
            Some(ServerFrame::Welcome { .. }) => return (client, told),
            Some(ServerFrame::Bye { code: ErrorCode::RateLimited, retry_after_ms, .. }) => {
                told.push(retry_after_ms);
                let jitter_ms = rng.within(0, (500 << told.len().min(7)) / 2);
                thread::sleep(Duration::from_millis(retry_after_ms + jitter_ms));
            }
            // It had been closed already: the bye may be lost.
            None => {}
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_crowd_behind_one_address_is_told_moments_one_after_the_other_and_comes_in_with_few_attempts() {
    const CROWD: u64 = 240;
    let (installation, _server) = world_with(|installation| {
        installation.config.limits.trusted_networks = Vec::new();
        installation.config.limits.address_handshakes = 24;
    });
    let installation = &installation;
    let told: Vec<u64> = thread::scope(|scope| {
        let clients: Vec<_> = (1..=CROWD).map(|user| scope.spawn(move || let_in(installation, user))).collect();
        // Nobody leaves before all are in.
        let in_there: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        in_there.into_iter().flat_map(|(_, told)| told).collect()
    });
    let moments: BTreeSet<u64> = told.iter().copied().collect();
    assert!(told.len() as u64 > CROWD / 4, "the test brings no crowd: {told:?}");
    assert!(moments.len() > told.len() / 4, "a herd: {told:?}");
    assert!(told.len() as u64 <= 6 * CROWD, "{} attempts in vain of {CROWD}", told.len());
}

#[test]
fn every_refused_vector_is_answered_as_the_specification_says() {
    // A server that takes all kinds of frames.
    let (installation, _server) = world_with(|installation| {
        installation.config.cores = 2;
        installation.notifies_by("http://127.0.0.1:9/nobody");
    });
    let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto-spec/vectors/refused.json")).unwrap();
    let vectors: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let mut tried = 0;
    for vector in vectors.iter().filter(|vector| vector["direction"] == "client") {
        let name = vector["name"].as_str().unwrap();
        let hex = vector["hex"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut client = installation.login(9, 1, Resume::Stored);
        client.bytes(&bytes);
        match vector["error"].as_str().unwrap() {
            "unknown_kind" => {
                let code = client.until(|frame| match frame {
                    ServerFrame::Error { code, .. } => Some(code),
                    _ => None,
                });
                assert_eq!(code, ErrorCode::UnknownKind, "{name}");
                client.is_alive();
            }
            "frame_too_large" => assert_eq!(client.bye(), ErrorCode::FrameTooLarge, "{name}"),
            _ => assert_eq!(client.bye(), ErrorCode::Malformed, "{name}"),
        }
        tried += 1;
    }
    assert!(tried > 10);
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_frame_comes() {
    let (installation, _server) = world(1);
    let mut client = installation.login(1, 1, Resume::Stored);
    let mut length = Vec::new();
    put_varint(&mut length, CLIENT_FRAME_BYTES_MAX as u64 + 1);
    client.bytes(&length);
    assert_eq!(client.bye(), ErrorCode::FrameTooLarge);
}

#[test]
fn a_session_that_comes_a_byte_at_a_time_is_a_session() {
    let (installation, _server) = world(2);
    for user in neighbours_and_stranger(2) {
        let mut client = installation.connect();
        let mut bytes = Vec::new();
        let (request, from, direction) = (RequestId(5), Seq(0), Direction::Backwards);
        for frame in [
            hello(&installation.token(user), 1, Resume::Stored),
            send(1, user, "note to self"),
            ClientFrame::FetchLog { request, from, direction, limit: 3 },
            ClientFrame::Ping { nonce: 77 },
        ] {
            frame.encode(&mut bytes);
        }
        for byte in bytes {
            client.bytes(&[byte]);
        }
        let (mut welcome, mut answer, mut page) = (false, None, false);
        client.until(|frame| match frame {
            ServerFrame::Welcome { .. } => {
                welcome = true;
                None
            }
            ServerFrame::Accepted { number, seq, .. } => {
                answer = Some((number.0, seq.0));
                None
            }
            ServerFrame::Page(found) if found.request == request => {
                page = true;
                None
            }
            ServerFrame::Pong { nonce: 77 } => Some(()),
            _ => None,
        });
        while answer.is_none() || !page {
            match client.frame().unwrap() {
                ServerFrame::Accepted { number, seq, .. } => answer = Some((number.0, seq.0)),
                ServerFrame::Page(found) => page |= found.request == request,
                _ => {}
            }
        }
        assert!(welcome && answer == Some((1, 1)));
    }
}

#[test]
fn noise_on_many_connections_disturbs_nobody() {
    let (installation, _server) = world(2);
    let mut witness = connected(&installation, 1, 1);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..50 {
        let mut client = if round % 2 == 0 { installation.connect() } else { installation.login(2, 1, Resume::Stored) };
        let noise: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        client.bytes(&noise);
        witness.say(1, "still here");
        witness.step_until("it is answered", |witness| witness.unanswered() == 0);
    }
    assert_eq!(witness.accepted.len(), 50);
}

/// What the answer to a send says of its recipient.
fn recipient_of(client: &mut Connection, number: u64, to: u64) -> Recipient {
    client.send(&[send(number, to, "x")]);
    client.until(|frame| match frame {
        ServerFrame::Accepted { recipient, .. } => Some(recipient),
        ServerFrame::Refused { code, .. } => panic!("refused: {code:?}"),
        _ => None,
    })
}

#[test]
fn accepted_says_whether_the_recipient_is_there() {
    let (installation, _server) = world(2);
    let [alice, _, bob] = neighbours_and_stranger(2);
    let mut client = installation.login(alice, 1, Resume::Stored);
    let mut ask = |number: u64, to: u64| recipient_of(&mut client, number, to);
    assert_eq!(ask(1, bob), Recipient::Offline);
    let there = installation.login(bob, 1, Resume::Stored);
    assert_eq!(ask(2, bob), Recipient::Offline, "who does not watch the recipient is told nothing");
    client.send(&[ClientFrame::Watch { request: RequestId(9), users: vec![UserId(bob)] }]);
    client.until(|frame| matches!(frame, ServerFrame::Presence { request: RequestId(9), .. }).then_some(()));
    let mut ask = |number: u64, to: u64| recipient_of(&mut client, number, to);
    assert_eq!(ask(3, bob), Recipient::Online);
    assert_eq!(ask(4, alice), Recipient::Yourself);
    drop(there);
    let mut number = 4;
    wait_until("the server has noticed", || {
        number += 1;
        ask(number, bob) == Recipient::Offline
    });
}
