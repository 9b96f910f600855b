//! Tls: one TLS 1.3 connection as a function of bytes, in both directions. No socket, clock or thread in it; it may go from
//! one core to another between any two calls. The load generator's links are its other side.
//!
//! Ciphertext is decrypted where it lies. Held are only an incomplete record, below [`Side::HELD_BYTES_MAX`] before the end
//! of the handshake and [`TLS_RECORD_BYTES_MAX`] after it, and ciphertext that has not left; an idle connection owns neither.
//! A fault ends the connection: the alert is in the output, and nothing is decrypted or encrypted any more.

use std::{fmt, sync::Arc};

use rustls::{
    HandshakeKind, ServerConfig,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedConnectionCommon,
        UnbufferedStatus, WriteTraffic,
    },
};
use thiserror::Error;

use crate::limits::{TLS_GREETING_BYTES_MAX, TLS_RECORD_BYTES_MAX, TLS_SERVER_FLIGHT_BYTES_MAX};

/// Bytes that encryption adds to a record: its header, the inner content type, the tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;

/// Plaintext bytes of the largest record (RFC 8446, 5.1).
const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// One of the two ends of a TLS connection.
pub trait Side {
    /// What rustls keeps for this end alone.
    type Data: 'static;

    /// Bytes of an incomplete flight of the other end that are held before the handshake is done.
    const HELD_BYTES_MAX: usize;

    /// Takes bytes, as far as it goes.
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both ends have.
    fn common(&self) -> &UnbufferedConnectionCommon<Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;
    const HELD_BYTES_MAX: usize = TLS_GREETING_BYTES_MAX;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn common(&self) -> &UnbufferedConnectionCommon<Self::Data> {
        self
    }
}

impl Side for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;
    const HELD_BYTES_MAX: usize = TLS_SERVER_FLIGHT_BYTES_MAX;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn common(&self) -> &UnbufferedConnectionCommon<Self::Data> {
        self
    }
}

/// Why a TLS connection can not go on.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TlsFault {
    /// The other end broke the protocol, or this one could not go on with it.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// A message that does not end.
    #[error("an incomplete message of more than {max} bytes")]
    TooLong {
        /// Bytes that are held at most.
        max: usize,
    },
}

/// What received bytes have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The handshake is done.
    pub opened: bool,
    /// The other end has said that nothing more comes from it.
    pub half_closed: bool,
}

/// One end of a TLS connection; see the head of this file.
pub struct Tls<S: Side> {
    side: S,
    /// Input that is not a whole record, or not a whole message of the handshake, yet.
    held: Vec<u8>,
    /// Ciphertext that leaves before whatever is encrypted next.
    pending: Vec<u8>,
    /// Plaintext bytes whose ciphertext has been handed out by [`Tls::seal`], less those that [`Tls::left`] has told of.
    unsent: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come.
    Fresh,
    /// The handshake is not done: no plaintext goes in either direction.
    Greeting,
    /// Both directions are open.
    Open,
    /// The other end has said that nothing more comes from it.
    HalfClosed,
    /// After a fault.
    Failed,
}

/// The server's end.
pub type ServerTls = Tls<UnbufferedServerConnection>;

impl ServerTls {
    /// A connection that has just been accepted.
    ///
    /// # Errors
    /// The configuration can not be used.
    pub fn accept(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(UnbufferedServerConnection::new(config)?))
    }
}

impl<S: Side> Tls<S> {
    /// An end at its beginning. A client's first words are in the first [`Tls::receive`], of nothing.
    #[must_use]
    pub const fn new(side: S) -> Self {
        Self { side, held: Vec::new(), pending: Vec::new(), unsent: 0, stage: Stage::Fresh }
    }

    /// Whether nothing has come yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.stage == Stage::Fresh
    }

    /// Whether the handshake is done, and plaintext goes out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::HalfClosed)
    }

    /// Whether the other end has said that nothing more comes from it.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.stage == Stage::HalfClosed
    }

    /// Whether a ticket of an earlier connection was used. Known when the handshake is done.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.side.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether ciphertext waits to leave.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of memory that are held for what is not whole or has not left.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity() + self.pending.capacity()
    }

    /// Takes received bytes, in any cut, and appends the plaintext that they make. They are overwritten. Answers of the
    /// handshake wait for [`Tls::seal`].
    ///
    /// # Errors
    /// The connection can not go on; what was decrypted before the fault is in `plain`.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<Heard, TlsFault> {
        if matches!(self.stage, Stage::HalfClosed | Stage::Failed) {
            return Ok(Heard::default());
        }
        let was_open = self.is_open();
        if self.stage == Stage::Fresh {
            self.stage = Stage::Greeting;
        }
        let was_held = !self.held.is_empty();
        if was_held {
            self.held.extend_from_slice(bytes);
        }
        let Self { side, held, pending, .. } = self;
        let input = if was_held { &mut held[..] } else { &mut *bytes };
        let Run { taken, is_closed } = match run(side, input, plain, pending, |_, _| Ok(())) {
            Ok(run) => run,
            Err(error) => return Err(self.fail(error)),
        };
        if was_held {
            held.drain(..taken);
        } else {
            held.extend_from_slice(&bytes[taken..]);
        }
        if is_closed {
            self.stage = Stage::HalfClosed;
            held.clear();
        } else if !side.common().is_handshaking() {
            self.stage = Stage::Open;
        }
        if held.is_empty() {
            self.held = Vec::new();
        }
        let max = if self.is_open() { TLS_RECORD_BYTES_MAX } else { S::HELD_BYTES_MAX };
        if self.held.len() > max {
            self.finish(&[]);
            self.end();
            return Err(TlsFault::TooLong { max });
        }
        Ok(Heard { opened: self.is_open() && !was_open, half_closed: is_closed })
    }

    /// Ciphertext for everything that waits and then for `plain`, in `out`, in as few records as can be. Plaintext that
    /// can not be encrypted, because the handshake is not done or there was a fault, is dropped.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.pending);
        self.pending = Vec::new();
        if self.is_open() && !plain.is_empty() {
            let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX);
            let likely = plain.len() + records * RECORD_OVERHEAD_BYTES;
            let sealed = self.write(out, |traffic, out| append(out, likely, |room| traffic.encrypt(plain, room)));
            match sealed {
                Ok(()) => self.unsent += plain.len(),
                Err(error) => drop(self.fail(error)),
            }
        }
    }

    /// As [`Tls::seal`] for the last plaintext, followed by a close_notify, if there are keys for one. All of it waits for
    /// the next [`Tls::seal`].
    pub fn finish(&mut self, plain: &[u8]) {
        let mut out = Vec::new();
        self.seal(plain, &mut out);
        if self.is_open() {
            let goodbye = |traffic: &mut WriteTraffic<'_, _>, out: &mut Vec<u8>| {
                append(out, 2 + RECORD_OVERHEAD_BYTES, |room| traffic.queue_close_notify(room))
            };
            if let Err(error) = self.write(&mut out, goodbye) {
                self.fail(error);
            }
        }
        self.keep(out);
    }

    /// Of the bytes that were handed out last, the first `taken` have left. Gives how much plaintext that is, not more than
    /// there was in them; all of it when all have left.
    pub fn left(&mut self, taken: usize) -> usize {
        let plain = taken.min(self.unsent);
        self.unsent -= plain;
        plain
    }

    /// Takes back what has not left of the bytes that were handed out last: it leaves first.
    pub fn keep(&mut self, mut leftover: Vec<u8>) {
        leftover.append(&mut self.pending);
        self.pending = leftover;
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, S::Data>, &mut Vec<u8>) -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        // Whatever is held has been looked at: nothing comes of it but the leave to write.
        let Run { taken, .. } = run(&mut self.side, &mut self.held, &mut Vec::new(), out, write)?;
        debug_assert_eq!(taken, 0, "a whole record was held");
        Ok(())
    }

    /// The alert is put behind what waits.
    fn fail(&mut self, error: rustls::Error) -> TlsFault {
        // As long as there is an alert to be said rustls looks at no input.
        while self.side.common().wants_write() {
            match self.side.process(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.pending),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => break,
            }
        }
        self.end();
        error.into()
    }

    fn end(&mut self) {
        self.stage = Stage::Failed;
        self.held = Vec::new();
    }
}

impl<S: Side> fmt::Debug for Tls<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, held, pending, unsent, .. } = self;
        let (held, pending) = (held.len(), pending.len());
        write!(f, "Tls {{ stage: {stage:?}, held: {held}, pending: {pending}, unsent: {unsent} }}")
    }
}

/// What a run has done.
struct Run {
    /// Bytes of the input that are done with.
    taken: usize,
    /// The other end has said that nothing more comes.
    is_closed: bool,
}

/// Goes on until more input is needed, and then calls `write` if plaintext may go out.
fn run<S: Side>(
    side: &mut S,
    input: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut WriteTraffic<'_, S::Data>, &mut Vec<u8>) -> Result<(), rustls::Error>,
) -> Result<Run, rustls::Error> {
    let mut taken = 0;
    let mut is_closed = false;
    loop {
        let UnbufferedStatus { discard, state } = side.process(&mut input[taken..]);
        taken += discard;
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    plain.extend_from_slice(record.payload);
                    taken += record.discard;
                }
            }
            ConnectionState::EncodeTlsData(data) => encode(data, out),
            // It leaves before anything that comes of the next call, which is all that rustls asks for.
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => is_closed = true,
            ConnectionState::WriteTraffic(mut traffic) => {
                write(&mut traffic, out)?;
                return Ok(Run { taken, is_closed });
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => return Ok(Run { taken, is_closed }),
            // No early data is allowed, and there is no other state in this version of rustls.
            state => return Err(rustls::Error::General(format!("unexpected state {state:?}"))),
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) else {
        return;
    };
    let start = out.len();
    out.resize(start + required_size, 0);
    data.encode(&mut out[start..]).expect("it said how much room it needs");
}

/// Appends what `fill` writes into the room that it is given: as much as is likely, and then as much as it asks for.
fn append(
    out: &mut Vec<u8>,
    likely: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    let mut room = likely;
    loop {
        out.resize(start + room, 0);
        match fill(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) if required_size > room => {
                room = required_size;
            }
            Err(error) => {
                out.truncate(start);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use rustls::{ClientConfig, pki_types::ServerName};

    use super::*;
    use crate::files::certificate::{ALPN, Tickets, testing::Files};

    type ClientTls = Tls<UnbufferedClientConnection>;

    struct World {
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
    }

    impl World {
        fn new() -> Self {
            let files = Files::new();
            Self { server: files.server(&Tickets::new().unwrap()), client: files.client(&[ALPN]) }
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
        let files = Files::new();
        let other = World { client: files.client(&[b"http/1.1"]), server: files.server(&Tickets::new().unwrap()) };
        let (mut server, mut client, hello) = other.begin();
        assert_eq!(refused(&mut server, &hello), TlsFault::Protocol(rustls::Error::NoApplicationProtocol));
        let alert = sealed(&mut server, b"");
        assert!(client.receive(&mut alert.clone(), &mut Vec::new()).unwrap_err().to_string().contains("Protocol"));
        let nothing = World { client: files.client(&[]), ..other };
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
        let (files, tickets) = (Files::new(), Tickets::new().unwrap());
        let mut world = World { server: files.server(&tickets), client: files.client(&[ALPN]) };
        assert!(!world.connect().0.is_resumed());
        world.server = Files::new().server(&tickets);
        let (mut server, mut client) = world.connect();
        assert!(server.is_resumed() && client.is_resumed());
        assert_eq!(opened(&mut server, &sealed(&mut client, b"again")), b"again");
        // Other keys, as after a restart: the full handshake, which this client refuses, since it does not know the new certificate.
        world.server = Files::new().server(&Tickets::new().unwrap());
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
}
