//! TLS between two ends in one thread.

use std::thread;

use proptest::prelude::*;
use proto_spec::ALPN;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, ProducesTickets},
};

use super::*;

type Tickets = Arc<dyn ProducesTickets>;

fn tickets() -> Tickets {
    Ticketer::new().unwrap()
}

/// A certificate for `localhost`, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn server(&self, tickets: &Tickets) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::try_from(self.key.clone()).unwrap())
            .unwrap();
        config.ticketer = Arc::clone(tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config)
    }

    /// A client that trusts the certificate and offers these protocols.
    fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

type ClientTls = Tls<UnbufferedClientConnection>;

struct World {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        let identity = Identity::new();
        Self { server: identity.server(&tickets()), client: identity.client(&[ALPN]) }
    }

    /// Both ends, and what the client says first.
    fn begin(&self) -> (ServerTls, ClientTls, Vec<u8>) {
        let name = ServerName::try_from("localhost").unwrap();
        let client = UnbufferedClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut client = Tls::new(client);
        client.receive(&mut [], &mut Vec::new()).unwrap();
        let hello = sealed(&mut client, b"");
        (ServerTls::accept(Arc::clone(&self.server)).unwrap(), client, hello)
    }

    /// Both ends after the handshake, tickets taken.
    fn connect(&self) -> (ServerTls, ClientTls) {
        let (mut server, mut client, mut bytes) = self.begin();
        while !bytes.is_empty() {
            assert_eq!(opened(&mut server, &bytes), b"");
            bytes = sealed(&mut server, b"");
            assert_eq!(opened(&mut client, &bytes), b"");
            bytes = sealed(&mut client, b"");
        }
        assert!(server.is_open() && client.is_open());
        (server, client)
    }
}

fn sealed<S: Side>(tls: &mut Tls<S>, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    tls.seal(plain, &mut out);
    out
}

fn opened<S: Side>(tls: &mut Tls<S>, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    tls.receive(&mut bytes.to_vec(), &mut plain).unwrap();
    plain
}

fn refused<S: Side>(tls: &mut Tls<S>, bytes: &[u8]) -> TlsFault {
    let fault = tls.receive(&mut bytes.to_vec(), &mut Vec::new()).unwrap_err();
    // Nothing more is taken or said but the alert.
    assert_eq!(opened(tls, bytes), b"");
    fault
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * i % 251) as u8).collect()
}

#[test]
fn what_is_said_is_heard_and_an_idle_connection_owns_no_buffer() {
    let (mut server, mut client) = World::new().connect();
    for plain in [&b"hello"[..], b"", &noise(16 * 1024), &noise(100_000)] {
        let bytes = sealed(&mut client, plain);
        let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX);
        assert_eq!(bytes.len(), plain.len() + records * RECORD_OVERHEAD_BYTES);
        assert_eq!(opened(&mut server, &bytes), plain);
        assert_eq!(opened(&mut client, &sealed(&mut server, plain)), plain);
        assert_eq!((server.held_bytes(), client.held_bytes()), (0, 0));
    }
}

#[test]
fn a_handshake_and_what_follows_it_may_come_byte_by_byte() {
    let world = World::new();
    let (mut server, mut client, mut bytes) = world.begin();
    let mut heard = Vec::new();
    let mut has_spoken = false;
    while !bytes.is_empty() {
        for byte in bytes {
            heard.extend(opened(&mut server, &[byte]));
        }
        let answer = sealed(&mut server, b"");
        for byte in answer {
            assert_eq!(opened(&mut client, &[byte]), b"");
        }
        let word = if client.is_open() && !has_spoken { &b"finished and spoken in one piece"[..] } else { b"" };
        has_spoken |= !word.is_empty();
        bytes = sealed(&mut client, word);
    }
    assert_eq!(heard, b"finished and spoken in one piece");
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn one_record_at_most_is_held() {
    let (mut server, mut client) = World::new().connect();
    let bytes = sealed(&mut client, &noise(3 * RECORD_PLAIN_BYTES_MAX));
    let mut heard = Vec::new();
    for piece in bytes.chunks(2048) {
        heard.extend(opened(&mut server, piece));
        assert!(server.held.len() < RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES);
    }
    assert!(heard == noise(3 * RECORD_PLAIN_BYTES_MAX));
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn what_has_not_left_leaves_first_and_plaintext_is_told_of_once() {
    let (mut server, mut client) = World::new().connect();
    let first = sealed(&mut server, &noise(1000));
    // The kernel took 300 bytes and then 800 in two more calls.
    assert_eq!(server.left(300), 300);
    server.keep(first[300..].to_vec());
    let second = sealed(&mut server, b"next");
    assert_eq!(second[..first.len() - 300], first[300..]);
    assert_eq!(server.left(800), 704, "all of both, and not the overhead");
    assert_eq!(server.left(100), 0);
    let mut heard = opened(&mut client, &first[..300]);
    heard.extend(opened(&mut client, &second));
    assert!(heard == [&noise(1000)[..], b"next"].concat());
}

#[test]
fn before_the_handshake_nothing_can_be_said() {
    let (mut server, _, hello) = World::new().begin();
    assert!(server.is_fresh());
    assert_eq!(sealed(&mut server, b"bye"), b"");
    opened(&mut server, &hello[..10]);
    assert!(!server.is_fresh() && !server.is_open());
    server.finish(b"bye");
    assert!(!server.has_pending());
    assert_eq!(server.left(10), 0);
}

#[test]
fn a_goodbye_follows_the_last_words_and_ends_one_direction() {
    let (mut server, mut client) = World::new().connect();
    server.finish(b"bye");
    let last = sealed(&mut server, b"");
    assert_eq!(opened(&mut client, &last), b"bye");
    assert!(client.is_half_closed());
    assert_eq!(opened(&mut client, b"whatever follows"), b"");
    assert_eq!(opened(&mut server, &sealed(&mut client, b"still")), b"still");
}

#[test]
fn a_change_of_any_byte_of_a_record_is_found() {
    let world = World::new();
    let length = sealed(&mut world.connect().1, b"something").len();
    // All but the outer type and the lower byte of the version, which say nothing of what is within (RFC 8446, 5.2).
    for at in (0..length).filter(|at| ![0, 2].contains(at)) {
        let (mut server, mut client) = world.connect();
        let mut bytes = sealed(&mut client, b"something");
        bytes[at] ^= 1;
        // A longer record is waited for; the next one makes it whole.
        bytes.extend(sealed(&mut client, &noise(600)));
        refused(&mut server, &bytes);
        let alert = sealed(&mut server, b"not said any more");
        assert!(matches!(
            client.receive(&mut alert.clone(), &mut Vec::new()),
            Err(TlsFault::Protocol(rustls::Error::AlertReceived(_)))
        ));
    }
}

#[test]
fn records_that_are_left_out_or_repeated_are_found() {
    let world = World::new();
    let (mut server, mut client) = world.connect();
    let first = sealed(&mut client, b"one");
    let second = sealed(&mut client, b"two");
    refused(&mut server, &second);
    let (mut server, mut client) = world.connect();
    let again = sealed(&mut client, b"one");
    assert_eq!(opened(&mut server, &again), b"one");
    refused(&mut server, &again);
    assert_ne!(first, again);
}

#[test]
fn what_was_said_before_a_fault_is_heard() {
    let (mut server, mut client) = World::new().connect();
    let mut bytes = sealed(&mut client, b"good");
    bytes.extend_from_slice(b"\x17\x03\x03\x00\x20garbage, garbage and garbage!!!!");
    let mut plain = Vec::new();
    assert_eq!(
        server.receive(&mut bytes, &mut plain),
        Err(TlsFault::Protocol(rustls::Error::DecryptError)),
        "{server:?}"
    );
    assert_eq!(plain, b"good");
}

#[test]
fn other_versions_and_protocols_are_refused_with_an_alert() {
    let world = World::new();
    let identity = Identity::new();
    let other = World { client: identity.client(&[b"http/1.1"]), server: identity.server(&tickets()) };
    let (mut server, mut client, hello) = other.begin();
    assert_eq!(refused(&mut server, &hello), TlsFault::Protocol(rustls::Error::NoApplicationProtocol));
    let alert = sealed(&mut server, b"");
    assert!(client.receive(&mut alert.clone(), &mut Vec::new()).unwrap_err().to_string().contains("Protocol"));
    let nothing = World { client: identity.client(&[]), ..other };
    nothing.connect();
    // The extension that offers version 1.3 renamed: what is left is a hello of version 1.2.
    let (mut server, _, mut hello) = world.begin();
    let offer = hello.windows(7).position(|bytes| bytes == [0, 43, 0, 3, 2, 3, 4]).unwrap();
    hello[offer + 1] = 99;
    let said = refused(&mut server, &hello).to_string();
    assert!(said.contains("Tls13") || said.contains("SupportedVersions"), "{said}");
    assert_eq!(sealed(&mut server, b"")[..5], [21, 3, 3, 0, 2], "an alert");
}

#[test]
fn a_handshake_message_that_does_not_end_is_not_held_beyond_the_bound() {
    let world = World::new();
    let (mut server, _, hello) = world.begin();
    // A hello that says that it has 60,000 bytes, in records of 1,000.
    let mut fault = None;
    let mut record = [22, 3, 1, 3, 232].to_vec();
    record.extend_from_slice(&[1, 0, 234, 96]);
    record.extend_from_slice(&hello[9..]);
    record.resize(1005, 0);
    for _ in 0..9 {
        fault = server.receive(&mut record.clone(), &mut Vec::new()).err();
        assert!(server.held_bytes() <= 2 * TLS_GREETING_BYTES_MAX);
        record[5..9].fill(0);
    }
    assert_eq!(fault, Some(TlsFault::TooLong { max: TLS_GREETING_BYTES_MAX }));
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn who_comes_back_resumes_even_after_the_certificate_has_changed() {
    let (identity, tickets) = (Identity::new(), tickets());
    let mut world = World { server: identity.server(&tickets), client: identity.client(&[ALPN]) };
    assert!(!world.connect().0.is_resumed());
    world.server = Identity::new().server(&tickets);
    let (mut server, mut client) = world.connect();
    assert!(server.is_resumed() && client.is_resumed());
    assert_eq!(opened(&mut server, &sealed(&mut client, b"again")), b"again");
    // Other keys, as after a restart: the full handshake, which this client refuses, since it does not know the new certificate.
    world.server = Identity::new().server(&self::tickets());
    let (mut server, mut client, hello) = world.begin();
    opened(&mut server, &hello);
    let fault = refused(&mut client, &sealed(&mut server, b""));
    assert!(matches!(fault, TlsFault::Protocol(rustls::Error::InvalidCertificate(_))), "{fault}");
}

#[test]
fn a_connection_goes_on_in_another_thread() {
    let (mut server, mut client) = World::new().connect();
    let bytes = sealed(&mut client, b"half here, half there");
    opened(&mut server, &bytes[..20]);
    let mut server = thread::spawn(move || {
        assert_eq!(opened(&mut server, &bytes[20..]), b"half here, half there");
        server
    })
    .join()
    .unwrap();
    assert_eq!(opened(&mut client, &sealed(&mut server, b"back")), b"back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_gives_the_same_plaintext(parts: Vec<Vec<u8>>, large in 0..40_000usize, cuts: Vec<prop::sample::Index>) {
        let (mut server, mut client) = World::new().connect();
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| sealed(&mut client, part)).collect();
        bytes.extend(sealed(&mut client, &noise(large)));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut heard = Vec::new();
        let mut start = 0;
        for cut in cuts {
            heard.extend(opened(&mut server, &bytes[start..cut]));
            start = cut;
        }
        prop_assert!(heard == [parts.concat(), noise(large)].concat());
        prop_assert_eq!(server.held_bytes(), 0);
    }

    #[test]
    fn noise_never_panics_and_is_not_held_beyond_the_bound(pieces: Vec<Vec<u8>>, is_open: bool) {
        let world = World::new();
        let mut server = if is_open { world.connect().0 } else { world.begin().0 };
        for mut piece in pieces {
            let failed = server.receive(&mut piece, &mut Vec::new()).is_err();
            prop_assert!(server.held.len() <= TLS_RECORD_BYTES_MAX);
            if failed {
                break;
            }
        }
        server.finish(b"bye");
        sealed(&mut server, b"");
    }
}
