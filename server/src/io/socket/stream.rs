//! Stream: what a connection's plaintext becomes on its socket. Every question to it is answered for every kind, so the
//! compiler names the places that a further kind has to think of.

use rim::tls::ServerTls;

/// How the plaintext of a connection travels.
#[derive(Debug, Default)]
pub enum Stream {
    /// As it is.
    #[default]
    Plain,
    /// Encrypted. In a box, so that a connection without TLS costs no more than a pointer.
    Tls(Box<ServerTls>),
}

impl Stream {
    /// Whether it is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(_) => true,
        }
    }

    /// Whether the stream itself has bytes that wait to leave, beside what is queued for the connection.
    pub(super) fn has_output(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(tls) => tls.has_pending(),
        }
    }

    /// Whether some of these bytes belong to a handshake, which waits for no other output.
    pub(super) fn has_answer(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(tls) => tls.has_pending() && !tls.is_open(),
        }
    }

    /// Of the bytes that were sent last, the first `taken` have left. Gives how much plaintext that is.
    pub(super) fn left(&mut self, taken: usize) -> usize {
        match self {
            Self::Plain => taken,
            Self::Tls(tls) => tls.left(taken),
        }
    }

    /// Takes back what has not left of the bytes that were sent last: it leaves before what is queued. Gives a buffer that
    /// can be used again.
    pub(super) fn keep(&mut self, mut leftover: Vec<u8>, queued: &mut Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain => {
                leftover.append(queued);
                std::mem::replace(queued, leftover)
            }
            Self::Tls(tls) => {
                tls.keep(leftover);
                Vec::new()
            }
        }
    }

    /// Nothing is queued after this: the stream puts its goodbye behind it, if it has one. Gives a buffer that can be used
    /// again.
    pub(super) fn finish(&mut self, queued: &mut Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain => Vec::new(),
            Self::Tls(tls) => {
                tls.finish(queued);
                std::mem::take(queued)
            }
        }
    }
}
