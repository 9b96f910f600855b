//! The driver on real sockets: a listener on loopback that serves the model, and cuts.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod model;

use client::{Client, ClientEvent, Config, Content, DisconnectReason, EndReason, Events, Seq};
use model::{DEVICE, PEER, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn listener() -> (TcpListener, Config) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, Config::new(address, "token", DEVICE))
}

/// Serves one connection until `bytes_max` bytes have come in, or the client has gone. Then cuts it.
async fn serve(server: &mut Server, stream: &mut TcpStream, bytes_max: usize) {
    server.connect();
    let mut buffer = [0; 64];
    let mut left = bytes_max;
    while left > 0 {
        let wanted = left.min(buffer.len());
        let size = stream.read(&mut buffer[..wanted]).await.unwrap_or(0);
        if size == 0 {
            break;
        }
        left -= size;
        server.receive(&buffer[..size]);
        server.commit();
        server.push(3);
        if stream.write_all(&std::mem::take(&mut server.out)).await.is_err() {
            break;
        }
    }
    server.cut();
}

/// The texts of the entries and the number of acceptances, until as many messages were accepted as wanted.
async fn accepted(events: &mut Events, wanted: usize) -> Vec<Seq> {
    let mut seqs = Vec::new();
    while seqs.len() < wanted {
        if let ClientEvent::MessageAccepted { seq, .. } = events.next().await.unwrap() {
            seqs.push(seq);
        }
    }
    seqs
}

#[tokio::test]
async fn messages_survive_connections_that_are_cut() {
    const MESSAGES: usize = 30;
    let (listener, config) = listener().await;
    let serving = tokio::spawn(async move {
        let mut server = Server::new();
        // Within the hello; after it; then in the middle of messages.
        for bytes_max in [5, 40, 71, 130, 260, usize::MAX] {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut server, &mut stream, bytes_max).await;
        }
        server
    });
    let (client, mut events) = Client::connect(config).unwrap();
    for n in 0..MESSAGES {
        client.send(PEER, Content::text(&format!("message {n}"))).unwrap();
    }
    let seqs = accepted(&mut events, MESSAGES).await;
    client.close();
    assert_eq!(seqs, (1..=MESSAGES as u64).map(Seq).collect::<Vec<_>>());
    assert_eq!(serving.await.unwrap().log.len(), MESSAGES);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let (listener, config) = listener().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (client, mut events) = Client::connect(config).unwrap();
    client.send(PEER, Content::text("patience")).unwrap();
    let first = events.next().await.unwrap();
    assert!(matches!(first, ClientEvent::Disconnected { reason: DisconnectReason::Link(_), .. }), "{first:?}");
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(&mut Server::new(), &mut stream, usize::MAX).await;
    });
    assert_eq!(accepted(&mut events, 1).await, [Seq(1)]);
}

/// An application that takes no events: the driver stops reading, the kernel's buffers fill, the server can not write any
/// more. Then the application takes them all.
#[tokio::test]
async fn an_application_that_does_not_read_stops_the_socket_and_loses_nothing() {
    const ENTRIES: u64 = 200_000;
    let (listener, config) = listener().await;
    let serving = tokio::spawn(async move {
        let mut server = Server::new();
        (0..ENTRIES).for_each(|_| server.others_write(&"x".repeat(100)));
        server.commit();
        let (mut stream, _) = listener.accept().await.unwrap();
        server.connect();
        let mut buffer = [0; 256];
        let size = stream.read(&mut buffer).await.unwrap();
        server.receive(&buffer[..size]);
        (0..ENTRIES.div_ceil(500)).for_each(|_| server.push(500));
        let out = std::mem::take(&mut server.out);
        let mut written = 0;
        // Until nothing more fits, however long one waits.
        let patience = std::time::Duration::from_millis(300);
        while let Ok(size) = tokio::time::timeout(patience, stream.write(&out[written..])).await {
            written += size.unwrap();
            if written == out.len() {
                break;
            }
        }
        let held_back = out.len() - written;
        let rest = tokio::spawn(async move {
            stream.write_all(&out[written..]).await.unwrap();
            stream
        });
        (held_back, rest)
    });
    let (_client, mut events) = Client::connect(config).unwrap();
    let (held_back, rest) = serving.await.unwrap();
    assert!(held_back > 0, "the driver has read {ENTRIES} entries that nobody took");
    let mut next = Seq(1);
    while next.0 <= ENTRIES {
        match events.next().await.unwrap() {
            ClientEvent::Entry(entry) => {
                assert_eq!(entry.seq, next);
                next = next.next();
            }
            ClientEvent::Welcome(_) | ClientEvent::Epoch(_) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(rest.await.unwrap());
}

#[tokio::test]
async fn closing_is_the_last_event_and_dropping_the_events_closes() {
    let (listener, config) = listener().await;
    let (client, mut events) = Client::connect(config.clone()).unwrap();
    client.close();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert_eq!(last, Some(ClientEvent::Ended(EndReason::Closed)));

    let (_client, events) = Client::connect(config).unwrap();
    let mut stream = loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The first client may have got as far as a connection.
        if stream.read_u8().await.is_ok() {
            break stream;
        }
    };
    drop(events);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

/// Answers the next hello with a redirect.
async fn send_on(listener: &TcpListener, address: &str, server: &mut Server) {
    let (mut stream, _) = listener.accept().await.unwrap();
    server.redirects = 1;
    server.redirects_to = address.to_owned();
    serve(server, &mut stream, usize::MAX).await;
}

#[tokio::test]
async fn a_user_who_is_served_elsewhere_is_found_there_and_again_at_the_first_address_when_that_node_is_gone() {
    let (first, config) = listener().await;
    let (other, at_other) = listener().await;
    let elsewhere = at_other.server.clone();
    let serving = tokio::spawn(async move {
        let mut server = Server::new();
        send_on(&first, &at_other.server, &mut server).await;
        // The hello, and not all of a message.
        let (mut stream, _) = other.accept().await.unwrap();
        serve(&mut server, &mut stream, 20).await;
        drop((stream, other));
        let (mut stream, _) = first.accept().await.unwrap();
        serve(&mut server, &mut stream, usize::MAX).await;
        server
    });
    let (client, mut events) = Client::connect(config).unwrap();
    client.send(PEER, Content::text("one")).unwrap();
    client.send(PEER, Content::text("two")).unwrap();
    let mut told = Vec::new();
    let mut answers = 0;
    while answers < 2 {
        match events.next().await.unwrap() {
            ClientEvent::Welcome(welcome) => told.push(welcome.elsewhere),
            ClientEvent::MessageAccepted { .. } => answers += 1,
            _ => {}
        }
    }
    client.close();
    assert_eq!(told, [Some(elsewhere), None]);
    assert_eq!(serving.await.unwrap().log.len(), 2);
}
