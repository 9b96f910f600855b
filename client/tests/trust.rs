//! Redirects with TLS (SPEC 8.11): whom a client trusts where it is sent. Nodes on loopback with a certificate for `localhost`.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use client::{
    Client, ClientEvent, Config, ConfigError, DeviceId, DisconnectReason, Events, RedirectReason, Roots, Transport,
};
use proto_spec::ServerFrame;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use welcome::welcome;

/// A certificate for `localhost`, in a file for a client to trust, and how a node shows it.
fn certificate(test: &str) -> (PathBuf, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.pem"));
    fs::write(&file, certificate.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (file, Arc::new(config))
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers what comes first on one connection, which is the hello. Whether any came.
fn node(listener: TcpListener, config: Arc<ServerConfig>, answer: ServerFrame) -> JoinHandle<bool> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(config).unwrap();
        let mut stream = Stream::new(&mut tls, &mut socket);
        let has_come = stream.read(&mut [0; 512]).is_ok_and(|size| size > 0);
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        // Who does not trust it has gone.
        let _ = stream.write_all(&bytes);
        has_come
    })
}

fn redirect(address: String) -> ServerFrame {
    ServerFrame::Redirect { address, reason: RedirectReason::Elsewhere, after_ms: 0, map_version: 1 }
}

fn connect(port: u16, trusted: PathBuf, name: Option<&str>) -> (Client, Events) {
    let mut config = Config::new(format!("localhost:{port}"), "token", DeviceId(3));
    config.transport = Transport::Tls { roots: Roots::File(trusted), name: name.map(str::to_owned) };
    Client::connect(config).unwrap()
}

async fn sent_on(events: &mut Events) {
    let event = events.next().await.unwrap();
    let is_redirect = |reason: &DisconnectReason| matches!(reason, DisconnectReason::Redirected { .. });
    assert!(matches!(&event, ClientEvent::Disconnected { reason, .. } if is_redirect(reason)), "{event:?}");
}

#[tokio::test]
async fn a_node_whose_certificate_is_for_another_host_gets_no_token() {
    let (trusted, config) = certificate("another_host");
    let ((first, port), (other, other_port)) = (listener(), listener());
    let address = format!("127.0.0.1:{other_port}");
    node(first, Arc::clone(&config), redirect(address.clone()));
    let asked = node(other, config, welcome(&[], 60_000));
    let (_client, mut events) = connect(port, trusted, None);
    sent_on(&mut events).await;
    let Some(ClientEvent::Disconnected { reason: DisconnectReason::Elsewhere { address: at, why }, .. }) =
        events.next().await
    else {
        panic!("it is not trusted");
    };
    assert!(at == address && matches!(*why, DisconnectReason::Untrusted(_)), "{at}: {why:?}");
    assert!(!asked.join().unwrap(), "the hello has been sent");
}

#[tokio::test]
async fn a_name_that_was_chosen_counts_at_every_node() {
    let (trusted, config) = certificate("chosen_name");
    let ((first, port), (other, other_port)) = (listener(), listener());
    let address = format!("127.0.0.1:{other_port}");
    node(first, Arc::clone(&config), redirect(address.clone()));
    let asked = node(other, config, welcome(&[], 60_000));
    let (_client, mut events) = connect(port, trusted, Some("localhost"));
    sent_on(&mut events).await;
    let event = events.next().await.unwrap();
    let ClientEvent::Welcome(welcome) = event else { panic!("{event:?}") };
    assert_eq!(welcome.elsewhere, Some(address));
    assert!(asked.join().unwrap());
}

#[tokio::test]
async fn certificates_may_be_given_as_text() {
    let (trusted, config) = certificate("as_text");
    let (first, port) = listener();
    let asked = node(first, config, welcome(&[], 60_000));
    let mut config = Config::new(format!("localhost:{port}"), "token", DeviceId(3));
    let with = |pem: String| Transport::Tls { roots: Roots::Pem(pem), name: None };
    config.transport = with("no certificate".to_owned());
    assert!(matches!(Client::connect(config.clone()), Err(ConfigError::Roots { .. })));
    config.transport = with(fs::read_to_string(trusted).unwrap());
    let (_client, mut events) = Client::connect(config).unwrap();
    let event = events.next().await.unwrap();
    assert!(matches!(event, ClientEvent::Welcome(_)), "{event:?}");
    assert!(asked.join().unwrap());
}

#[tokio::test]
async fn no_redirect_leads_from_tls_to_plain() {
    let (trusted, config) = certificate("to_plain");
    let ((first, port), (other, other_port)) = (listener(), listener());
    node(first, config, redirect(format!("127.0.0.1:{other_port}")));
    let heard = thread::spawn(move || {
        let (mut socket, _) = other.accept().unwrap();
        let mut first = [0; 2];
        socket.read_exact(&mut first).unwrap();
        first
    });
    let (_client, mut events) = connect(port, trusted, Some("localhost"));
    sent_on(&mut events).await;
    let event = events.next().await.unwrap();
    assert!(matches!(event, ClientEvent::Disconnected { .. }), "{event:?}");
    assert_eq!(heard.join().unwrap(), [0x16, 0x03], "a handshake of TLS");
}
