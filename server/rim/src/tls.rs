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

    /// The certificate of the other end, as DER, if it has shown one. Known when the handshake is done.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.side.common().peer_certificates()?.first().map(AsRef::as_ref)
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
mod tests;
