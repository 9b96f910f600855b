//! The bare relay carries messages, and ordinary clients take it for a server.

use std::{io::ErrorKind, net::SocketAddr, thread};

use benches::{
    connection::{self, Connection, DEADLINE},
    relay,
};
use client::{Client, ClientEvent, Config, Events};
use proto_spec::{
    ClientFrame, Content, DeviceId, Direction, Durability, Entry, ErrorCode, Event, Recipient, RequestId, SendNumber,
    Seq, ServerFrame, UserId,
};
use server::{access::auth::generate_pem, io::listeners::listen};

/// A relay that lives as long as the process.
fn relay() -> SocketAddr {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || relay::run(&listener, 64).map(|never| match never {}).expect("a ring"));
    address
}

/// Signed with a key that the relay does not know.
fn token(user: u64) -> String {
    connection::token(&generate_pem().expect("a key"), UserId(user))
}

fn login(address: SocketAddr, user: u64) -> (Connection, Seq) {
    Connection::login(address, token(user)).expect("a welcome")
}

fn accepted(connection: &mut Connection) -> (SendNumber, Seq, Recipient) {
    match connection.frame().expect("a frame") {
        ServerFrame::Accepted { number, seq, durability: Durability::Memory, recipient, .. } => {
            (number, seq, recipient)
        }
        other => panic!("{other:?}"),
    }
}

fn delivered(connection: &mut Connection) -> (Seq, Event) {
    match connection.frame().expect("a frame") {
        ServerFrame::Deliver { entry: Entry { seq, event, .. } } => (seq, event),
        other => panic!("{other:?}"),
    }
}

fn message(number: u64, to: u64, text: &str) -> ClientFrame {
    ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content: Content::text(text) }
}

fn received(from: u64, origin: u64, text: &str) -> Event {
    Event::Received { from: UserId(from), origin: Seq(origin), content: Content::text(text) }
}

#[test]
fn two_connections_exchange_messages_of_any_length() {
    let address = relay();
    let ((mut one, _), (mut two, _)) = (login(address, 1), login(address, 2));
    let long = "x".repeat(16_384);
    one.send(&message(1, 2, "hello")).unwrap();
    assert_eq!(accepted(&mut one), (SendNumber(1), Seq(1), Recipient::Online));
    assert_eq!(delivered(&mut two), (Seq(1), received(1, 1, "hello")));
    two.send(&message(1, 1, &long)).unwrap();
    assert_eq!(accepted(&mut two), (SendNumber(1), Seq(2), Recipient::Online));
    assert_eq!(delivered(&mut one), (Seq(2), received(2, 2, &long)));
}

#[test]
fn bytes_may_come_in_any_cut() {
    let address = relay();
    let ((mut one, _), (mut two, _)) = (login(address, 1), login(address, 2));
    let mut bytes = Vec::new();
    message(1, 2, "first").encode(&mut bytes);
    message(2, 2, "second").encode(&mut bytes);
    for byte in bytes {
        one.bytes(&[byte]).unwrap();
    }
    assert_eq!(delivered(&mut two), (Seq(1), received(1, 1, "first")));
    assert_eq!(delivered(&mut two), (Seq(2), received(1, 2, "second")));
    assert_eq!(accepted(&mut one).1, Seq(1));
    assert_eq!(accepted(&mut one).1, Seq(2));
}

#[test]
fn who_is_away_misses_everything_and_comes_back_at_the_head() {
    let address = relay();
    let ((mut one, _), (two, _)) = (login(address, 1), login(address, 2));
    drop(two);
    // Until the relay has heard of it.
    let mut number = 0;
    loop {
        number += 1;
        one.send(&message(number, 2, "?")).unwrap();
        if accepted(&mut one).2 == Recipient::Offline {
            break;
        }
    }
    let (mut two, head) = login(address, 2);
    one.send(&message(number + 1, 2, "now")).unwrap();
    assert_eq!(delivered(&mut two), (head.next(), received(1, number + 1, "now")));
}

#[test]
fn pings_are_answered_and_histories_are_empty() {
    let (mut one, _) = login(relay(), 1);
    one.send(&ClientFrame::Ping { nonce: 7 }).unwrap();
    assert_eq!(one.frame().unwrap(), ServerFrame::Pong { nonce: 7 });
    let (request, direction) = (RequestId(3), Direction::Backwards);
    one.send(&ClientFrame::FetchLog { request, from: Seq(0), direction, limit: 10 }).unwrap();
    match one.frame().unwrap() {
        ServerFrame::Page(page) => assert_eq!((page.request, page.entries.len(), page.more), (request, 0, false)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_does_not_say_who_it_is_is_sent_away() {
    let mut nobody = Connection::open(relay(), "no token".to_owned()).unwrap();
    assert!(matches!(nobody.frame().unwrap(), ServerFrame::Bye { code: ErrorCode::TokenInvalid, .. }));
    assert_eq!(nobody.frame().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

/// Messages in each direction: several windows, and no more than a client queues.
const MESSAGES: u64 = 1_000;

#[test]
fn ordinary_clients_take_it_for_a_server() {
    let address = relay();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (one, mut one_events) = Client::connect(Config::new(address.to_string(), token(1), DeviceId(1))).unwrap();
        let (two, mut two_events) = Client::connect(Config::new(address.to_string(), token(2), DeviceId(1))).unwrap();
        welcomed(&mut one_events).await;
        welcomed(&mut two_events).await;
        for at in 0..MESSAGES {
            one.send(UserId(2), Content::text(&at.to_string())).unwrap();
            two.send(UserId(1), Content::text(&at.to_string())).unwrap();
        }
        let both = async { tokio::join!(count(&mut one_events), count(&mut two_events)) };
        tokio::time::timeout(DEADLINE, both).await.expect("everything arrives");
    });
}

async fn welcomed(events: &mut Events) {
    match tokio::time::timeout(DEADLINE, events.next()).await {
        Ok(Some(ClientEvent::Welcome(_))) => {}
        other => panic!("{other:?}"),
    }
}

/// Takes events until everything has been accepted and received, in order.
async fn count(events: &mut Events) {
    let (mut accepted, mut received) = (0, 0);
    while (accepted, received) != (MESSAGES, MESSAGES) {
        match events.next().await {
            Some(ClientEvent::MessageAccepted { .. }) => accepted += 1,
            Some(ClientEvent::Entry(Entry { event: Event::Received { content, .. }, .. })) => {
                assert_eq!(content.as_text(), Some(received.to_string().as_str()));
                received += 1;
            }
            Some(ClientEvent::Entry(_) | ClientEvent::CaughtUp) => {}
            other => panic!("{other:?} after {accepted} and {received}"),
        }
    }
}
