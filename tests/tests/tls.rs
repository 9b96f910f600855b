//! The real server over TLS: what is carried, how it ends, and what does not get in.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use proto_spec::{ClientFrame, ErrorCode, Resume, ServerFrame};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tests::{
    connection::{Connection, hello},
    process::{Installation, Server, wall_now},
    tls::{certify, trusting},
    wait_until,
    wires::{read_to_the_end, users_of_two_cores},
};

const DAY_MS: u64 = 24 * 3_600_000;

struct World {
    installation: Installation,
    server: Server,
    trust: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Installation)) -> Self {
        let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let trust = trusting(&certify(&mut installation));
        change(&mut installation);
        let server = installation.start();
        Self { installation, server, trust }
    }

    fn connect(&self) -> Connection {
        Connection::open_tls(self.installation.config.listen, &self.trust).unwrap()
    }

    fn login(&self, user: u64, device: u64) -> Connection {
        self.installation.login_over(self.connect(), user, device, Resume::Stored, &[])
    }

    /// A client's side without a socket of its own, and a socket that is connected.
    fn apart(&self) -> (ClientConnection, TcpStream) {
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(self.installation.config.listen).unwrap();
        socket.set_read_timeout(Some(tests::DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        (ClientConnection::new(Arc::clone(&self.trust), name).unwrap(), socket)
    }
}

#[test]
fn who_comes_back_resumes() {
    let world = World::new();
    for round in 0..4 {
        let mut connection = world.login(7, 1);
        connection.is_alive();
        assert_eq!(
            (world.server.counted("tls_handshakes_total"), world.server.counted("tls_resumed_total")),
            (round + 1, round)
        );
    }
    wait_until("the gauge falls", || world.server.counted("tls_connections") == 0);
}

#[test]
fn a_certificate_is_replaced_under_live_connections_and_files_that_can_not_be_used_change_nothing() {
    let mut world = World::new();
    let mut old = world.login(1, 1);
    fs::write(&world.installation.config.tls.cert_file, "damaged").unwrap();
    world.server.signal("HUP");
    wait_until("it says so", || world.server.logged().contains("keys and certificate stay as they were"));
    assert!(world.server.logged().contains("cert.pem: a certificate can not be read from it"));
    world.login(1, 2).is_alive();

    let new = trusting(&certify(&mut world.installation));
    let address = world.installation.config.listen;
    assert!(Connection::open_tls(address, &new).unwrap_err().to_string().contains("certificate"));
    world.server.signal("HUP");
    wait_until("the new one is shown", || Connection::open_tls(address, &new).is_ok());
    let stranger = trusting(&world.installation.config.tls.cert_file);
    world
        .installation
        .login_over(Connection::open_tls(address, &stranger).unwrap(), 2, 1, Resume::Stored, &[])
        .is_alive();
    old.is_alive();
    // Who has a ticket does not look at the certificate again.
    let resumed = world.server.counted("tls_resumed_total");
    world.login(1, 3).is_alive();
    assert_eq!(world.server.counted("tls_resumed_total"), resumed + 1);
}

/// Puts a certificate into use that is good for so many days and a half, in place of the one that is there.
fn good_for(days: u64, cert_file: &Path, key_file: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_millis(wall_now().0 + days * DAY_MS + DAY_MS / 2);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(key_file, key.serialize_pem()).unwrap();
    fs::write(cert_file, certificate.pem()).unwrap();
}

#[test]
fn a_certificate_that_expires_within_three_weeks_is_warned_of_at_start_and_reload_and_what_is_left_is_a_metric() {
    let mut files = Default::default();
    let world = World::with(|installation| {
        files = (installation.config.tls.cert_file.clone(), installation.config.tls.key_file.clone());
        good_for(10, &files.0, &files.1);
    });
    let days_left = || world.server.metrics()["ringpost_tls_certificate_expires_in_seconds"] / (24.0 * 3_600.0);
    let warned = |days: u64| world.server.logged().contains(&format!(", in {days} days: put a newer one"));
    wait_until("the start warns", || warned(10));
    assert!((10.0..=10.5).contains(&days_left()), "{}", days_left());

    good_for(90, &files.0, &files.1);
    world.server.signal("HUP");
    wait_until("the newer one counts", || (90.0..=90.5).contains(&days_left()));
    assert!(!warned(90));

    good_for(20, &files.0, &files.1);
    world.server.signal("HUP");
    wait_until("the reload warns", || warned(20));
    wait_until("what is left is shown", || (20.0..=20.5).contains(&days_left()));
    let (address, trust) = (world.installation.config.listen, trusting(&files.0));
    wait_until("clients are shown it", || Connection::open_tls(address, &trust).is_ok());
}

#[test]
fn a_plain_hello_is_told_that_tls_is_required() {
    let world = World::new();
    let mut plain = world.installation.connect();
    plain.send(&[hello(&world.installation.token(1), 1, Resume::Stored)]);
    assert_eq!(plain.bye(), ErrorCode::TlsRequired);
    let mut noise = TcpStream::connect(world.installation.config.listen).unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let said = read_to_the_end(&mut noise);
    assert!(String::from_utf8_lossy(&said).contains("this listener speaks TLS only"), "{said:?}");
}

#[test]
fn a_plain_listener_beside_tells_who_speaks_tls_to_it() {
    let ip = "127.0.0.1:0".parse().unwrap();
    let world = World::with(|installation| installation.config.tls.listen = Some(ip));
    let tls = world.server.tls_address();
    let plain = world.installation.config.listen;
    assert_ne!(tls, plain);
    let mut both = [
        world.installation.login(1, 1, Resume::Stored),
        world.installation.login_over(Connection::open_tls(tls, &world.trust).unwrap(), 2, 1, Resume::Stored, &[]),
    ];
    both.iter_mut().for_each(Connection::is_alive);
    let (mut client, mut socket) = world.apart();
    client.write_tls(&mut socket).unwrap();
    let said = read_to_the_end(&mut socket);
    assert!(String::from_utf8_lossy(&said).contains("this looks like TLS"), "{said:?}");
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let world = World::new();
    let (mut client, mut socket) = world.apart();
    let mut bytes = Vec::new();
    let mut frames = Vec::new();
    hello(&world.installation.token(users_of_two_cores()[1]), 1, Resume::Stored).encode(&mut frames);
    client.writer().write_all(&frames).unwrap();
    let mut welcome = Vec::new();
    while welcome.is_empty() {
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        for byte in std::mem::take(&mut bytes) {
            socket.write_all(&[byte]).unwrap();
        }
        client.read_tls(&mut socket).unwrap();
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut welcome);
    }
    assert_eq!(welcome[1], 0x81, "a welcome");
}

#[test]
fn a_handshake_that_stops_half_way_or_trickles_is_cut_when_its_time_is_over() {
    let world = World::with(|installation| installation.config.connections.handshake_timeout_ms = 300);
    // Before the hello of TLS is whole, before the end of the handshake, and after it.
    let (mut silent, mut socket) = world.apart();
    let mut bytes = Vec::new();
    silent.write_tls(&mut bytes).unwrap();
    socket.write_all(&bytes[..100]).unwrap();
    assert_eq!(read_to_the_end(&mut socket), b"", "nothing can be said yet");
    let (mut half, mut socket) = world.apart();
    half.write_tls(&mut socket).unwrap();
    assert!(!read_to_the_end(&mut socket).is_empty(), "the server's part");
    assert_eq!(world.connect().bye(), ErrorCode::HandshakeTimeout);
    let (mut slow, mut socket) = world.apart();
    let mut bytes = Vec::new();
    slow.write_tls(&mut bytes).unwrap();
    let cut = bytes.iter().any(|byte| {
        thread::sleep(Duration::from_millis(20));
        socket.write_all(&[*byte]).is_err()
    });
    assert!(cut, "it took seconds and was let in");
    wait_until("all are counted", || {
        world.server.metrics()["ringpost_connections_closed_total{reason=\"handshake_timeout\"}"] >= 4.0
    });
    assert_eq!(world.server.counted("tls_failed_total"), 0);
    assert_eq!(world.server.counted("tls_handshakes_total"), 1);
}

#[test]
fn garbage_ends_the_connection_with_an_alert_and_nobody_else_notices() {
    let world = World::new();
    let mut other = world.login(1, 1);
    // In place of the handshake, instead of its end, and after it.
    let mut socket = TcpStream::connect(world.installation.config.listen).unwrap();
    socket.write_all(b"\x16\x03\x01\x00\x08\x01\x00\x00\x04garb").unwrap();
    assert_eq!(read_to_the_end(&mut socket)[..5], [21, 3, 3, 0, 2], "an alert");
    let (mut half, mut socket) = world.apart();
    half.write_tls(&mut socket).unwrap();
    socket.write_all(b"\x17\x03\x03\x00\x20garbage, garbage and garbage!!!!").unwrap();
    assert!(!read_to_the_end(&mut socket).is_empty());
    // Right behind a hello that is good.
    for user in users_of_two_cores() {
        let (mut client, mut socket) = world.apart();
        while client.is_handshaking() {
            client.complete_io(&mut socket).unwrap();
        }
        let mut bytes = Vec::new();
        hello(&world.installation.token(user), 9, Resume::Stored).encode(&mut bytes);
        client.writer().write_all(&bytes).unwrap();
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        bytes.extend_from_slice(b"\x17\x03\x03\x00\x20garbage, garbage and garbage!!!!");
        socket.write_all(&bytes).unwrap();
        read_to_the_end(&mut socket);
    }
    let mut late = world.login(2, 1);
    late.raw_bytes(b"\x17\x03\x03\x00\x20garbage, garbage and garbage!!!!");
    assert!(late.frame().is_none());
    wait_until("all are counted", || world.server.counted("tls_failed_total") == 5);
    other.is_alive();
    wait_until("they are gone", || world.server.counted("connections") == 1);
    assert_eq!(world.server.counted("tls_connections"), 1);
}

#[test]
fn a_close_notify_alone_ends_a_connection_after_what_was_said_before_it() {
    let world = World::new();
    for user in users_of_two_cores() {
        let mut connection = world.login(user, 1);
        connection.send(&[ClientFrame::Ping { nonce: 5 }]);
        connection.close_notify();
        assert!(matches!(connection.frame(), Some(ServerFrame::Pong { nonce: 5 })));
        assert!(connection.frame().is_none(), "the server closes too");
    }
    // Before the hello, and right behind it.
    let mut early = world.connect();
    early.close_notify();
    assert!(early.frame().is_none());
    wait_until("nobody is left", || world.server.counted("connections") == 0);
    assert_eq!(world.server.counted("tls_failed_total"), 0);
}

#[test]
fn a_stop_says_goodbye_within_tls_and_is_not_held_up_by_handshakes() {
    let world = World::new();
    let mut connection = world.login(1, 1);
    let (mut half, mut socket) = world.apart();
    half.write_tls(&mut socket).unwrap();
    wait_until("the server has begun it", || world.server.counted("tls_connections") == 2);
    world.server.signal("TERM");
    assert_eq!(connection.bye(), ErrorCode::Stopping);
    read_to_the_end(&mut socket);
    drop((connection, socket));
    let mut server = world.server;
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_server_makes_its_own_certificate_once_and_prints_a_chat_command_that_trusts_it() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.more = vec!["--tls-self-signed"];
    let server = installation.start();
    let certificate = installation.data().join("tls-cert.pem");
    assert!(server.greeting().contains(&format!("--tls-ca {}", certificate.display())), "{}", server.greeting());
    let made = fs::read(&certificate).unwrap();
    let trust = trusting(&certificate);
    Connection::open_tls(installation.config.listen, &trust).unwrap();
    server.stop();
    let _server = installation.start();
    assert_eq!(fs::read(&certificate).unwrap(), made);
    Connection::open_tls(installation.config.listen, &trust).unwrap();
}

#[test]
fn a_certificate_that_can_not_be_used_is_named_at_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    certify(&mut installation);
    fs::set_permissions(&installation.config.tls.key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = installation.refused();
    assert!(code == 1 && said.contains("chmod 600"), "{code}: {said}");
    installation.more = vec!["--tls-self-signed"];
    let (code, said) = installation.refused();
    assert!(code == 2 && said.contains("--tls-self-signed makes another certificate"), "{code}: {said}");
    installation.more = Vec::new();
    installation.config.tls.key_file = "".into();
    let (code, said) = installation.refused();
    assert!(code == 2 && said.contains("tls.key_file"), "{code}: {said}");
}
