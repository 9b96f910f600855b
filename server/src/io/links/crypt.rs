//! What lies over the socket between two nodes: nothing, or TLS.

use rim::tls::{ServerTls, Side, Tls};
use rustls::client::UnbufferedClientConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{limits::LINK_READ_BYTES, mesh::certificate::Certificate};

/// What lies over a socket.
#[derive(Debug, Default)]
pub(super) enum Crypt {
    #[default]
    Plain,
    Dialled(Box<Tls<UnbufferedClientConnection>>),
    Came(Box<ServerTls>),
}

impl Crypt {
    /// Received bytes, in plain; and why nothing more comes, if so: what came before that counts.
    pub(super) fn receive(&mut self, mut bytes: Vec<u8>) -> (Vec<u8>, Option<String>) {
        let mut plain = Vec::new();
        let heard = match self {
            Self::Plain => return (bytes, None),
            Self::Dialled(tls) => tls.receive(&mut bytes, &mut plain),
            Self::Came(tls) => tls.receive(&mut bytes, &mut plain),
        };
        match heard {
            Ok(heard) => (plain, heard.half_closed.then(|| "the other node has closed it".to_owned())),
            Err(error) => (plain, Some(error.to_string())),
        }
    }

    /// Bytes to send, and whatever else is to be said. All of it is sent, or the socket ends.
    pub(super) fn seal(&mut self, plain: Vec<u8>) -> Vec<u8> {
        fn all<S: Side>(tls: &mut Tls<S>, plain: &[u8]) -> Vec<u8> {
            let mut out = Vec::new();
            tls.seal(plain, &mut out);
            // Nobody waits for a part of it; whoever has the connection next counts from here.
            tls.left(out.len());
            out
        }
        match self {
            Self::Plain => plain,
            Self::Dialled(tls) => all(tls, &plain),
            Self::Came(tls) => all(tls, &plain),
        }
    }

    /// Nothing more is sent.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Plain => {}
            Self::Dialled(tls) => tls.finish(&[]),
            Self::Came(tls) => tls.finish(&[]),
        }
        self.seal(Vec::new())
    }

    pub(in crate::io) fn certificate(&self) -> Option<Certificate> {
        let der = match self {
            Self::Plain => None,
            Self::Dialled(tls) => tls.peer_certificate(),
            Self::Came(tls) => tls.peer_certificate(),
        };
        der.map(|der| Certificate(der.to_vec()))
    }
}

/// Reads once, and appends what came, in plain. Whether that was the last: the other end has closed it, or does not speak TLS any more.
///
/// # Errors
/// Nothing more comes.
pub(super) async fn hear(stream: &mut TcpStream, crypt: &mut Crypt, plain: &mut Vec<u8>) -> Result<bool, String> {
    let mut bytes = Vec::with_capacity(LINK_READ_BYTES);
    if stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
        return Err("it was closed".to_owned());
    }
    let (heard, end) = crypt.receive(bytes);
    plain.extend_from_slice(&heard);
    match end {
        Some(why) if heard.is_empty() => Err(why),
        end => Ok(end.is_some()),
    }
}

/// Sends bytes, and waits until the kernel has them.
pub(super) async fn say(stream: &mut TcpStream, crypt: &mut Crypt, plain: Vec<u8>) -> Result<(), String> {
    let bytes = crypt.seal(plain);
    stream.write_all(&bytes).await.map_err(|error| error.to_string())
}

/// Opens the TLS of a connection. What came behind the handshake.
pub(super) async fn shake_hands<S: Side>(stream: &mut TcpStream, tls: &mut Tls<S>) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let mut heard = tls.receive(&mut [], &mut plain);
    loop {
        let mut out = Vec::new();
        tls.seal(&[], &mut out);
        // If it fails, so does the next read; an alert that does not get there is no loss.
        let written = stream.write_all(&out).await;
        heard.map_err(|error| error.to_string())?;
        written.map_err(|error| error.to_string())?;
        if tls.is_open() {
            return Ok(plain);
        }
        let mut bytes = Vec::with_capacity(LINK_READ_BYTES);
        if stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
            return Err("it was closed during the TLS handshake".to_owned());
        }
        heard = tls.receive(&mut bytes, &mut plain);
    }
}
