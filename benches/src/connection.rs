//! One connection to a server, blocking: for tests of the relay and for measuring from outside.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto_spec::{
    ClientFrame, Decoder, DeviceId, EpochId, Resume, Seq, ServerFrame, TimestampMs, UserId,
    limits::SERVER_FRAME_BYTES_MAX,
};
use server::access::auth::{SigningKey, mint};

/// How long a frame that must come is waited for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// See the head of this file.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    frames: VecDeque<ServerFrame>,
}

/// A token for a user, signed with this key.
///
/// # Panics
/// The key is none.
#[must_use]
pub fn token(key_pem: &str, user: UserId) -> String {
    let key = SigningKey::from_pem(key_pem.as_bytes()).expect("a private key");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    mint(&key, user, TOKEN_LIFE, TimestampMs(now)).expect("a key can sign")
}

impl Connection {
    /// Connects and says hello.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(address: SocketAddr, token: String) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let decoder = Decoder::new(SERVER_FRAME_BYTES_MAX as u32);
        let mut connection = Self { stream, decoder, frames: VecDeque::new() };
        let (device, resume) = (DeviceId(1), Resume::Live);
        connection.send(&ClientFrame::Hello {
            version_min: 1,
            version_max: 1,
            device,
            resume,
            token,
            epoch: EpochId(0),
            since: Seq::ZERO,
            skip_above: 0,
            hops: 0,
        })?;
        Ok(connection)
    }

    /// Connects and waits for the welcome, which says where the user's log ends.
    ///
    /// # Errors
    /// Nobody listens there, or there is no welcome.
    pub fn login(address: SocketAddr, token: String) -> io::Result<(Self, Seq)> {
        let mut connection = Self::open(address, token)?;
        match connection.frame()? {
            ServerFrame::Welcome { head, .. } => Ok((connection, head)),
            other => Err(io::Error::other(format!("{other:?} instead of a welcome"))),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The server is gone.
    pub fn send(&mut self, frame: &ClientFrame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.bytes(&bytes)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The server is gone.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame.
    ///
    /// # Errors
    /// None comes, the server has closed, or what comes is no frame.
    pub fn frame(&mut self) -> io::Result<ServerFrame> {
        let mut bytes = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bad = None;
            let cut = self.decoder.decode(&bytes[..count], |raw| match ServerFrame::decode(raw) {
                Ok(frame) => {
                    self.frames.push_back(frame);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    bad = Some(error);
                    ControlFlow::Break(())
                }
            });
            cut.map_err(io::Error::other)?;
            if let Some(error) = bad {
                return Err(io::Error::other(error));
            }
        }
    }
}
