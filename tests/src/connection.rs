//! One connection to a server, blocking: frames in, frames out, and nothing remembered.

mod polling;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use proto_spec::{
    ClientFrame, Decoder, DeviceId, EpochId, ErrorCode, Page, RequestId, Resume, ServerFrame, WEBSOCKET_PATH,
    WEBSOCKET_PROTOCOL, limits::SERVER_FRAME_BYTES_MAX,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tungstenite::{
    Bytes, ClientRequestBuilder, Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use self::polling::Polling;
use crate::DEADLINE;

/// See the head of this file.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    decoder: Decoder,
    frames: VecDeque<ServerFrame>,
}

#[derive(Debug)]
enum Stream {
    Bare(Carrier),
    Web(Box<Web>),
    Polling(Box<Polling>),
}

/// What carries the protocol, or WebSocket.
#[derive(Debug)]
enum Carrier {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// The protocol within WebSocket.
#[derive(Debug)]
struct Web {
    socket: WebSocket<Carrier>,
    /// What has come and has not been read.
    rest: VecDeque<u8>,
    /// What the server's close frame said.
    closed: Option<u16>,
}

impl Carrier {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Carrier {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(tls) => tls.read(bytes),
        }
    }
}

impl Write for Carrier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Stream {
    fn carrier(&self) -> &Carrier {
        match self {
            Self::Bare(carrier) => carrier,
            Self::Web(web) => web.socket.get_ref(),
            Self::Polling(polling) => &polling.ask,
        }
    }

    fn socket(&self) -> &TcpStream {
        self.carrier().socket()
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bare(carrier) => carrier.read(bytes),
            Self::Web(web) => web.read(bytes),
            Self::Polling(polling) => polling.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Bare(carrier) => carrier.write_all(bytes).and_then(|()| carrier.flush()),
            Self::Web(web) => {
                let message = Message::Binary(Bytes::copy_from_slice(bytes));
                web.socket.send(message).map_err(io::Error::other)
            }
            Self::Polling(polling) => polling.write_all(bytes),
        }
    }
}

impl Web {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(said)) => self.rest.extend(said),
                Ok(Message::Close(frame)) => self.closed = frame.map(|frame| frame.code.into()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => return Err(io::Error::other(format!("the server says {other:?}"))),
                Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        self.rest.read(bytes)
    }
}

/// The request of a client that is no browser.
#[must_use]
pub fn upgrade_to(address: SocketAddr) -> ClientRequestBuilder {
    let url = format!("ws://{address}{WEBSOCKET_PATH}").parse().expect("an address makes a URL");
    ClientRequestBuilder::new(url).with_sub_protocol(WEBSOCKET_PROTOCOL)
}

/// What came of waiting for a frame.
#[derive(Debug)]
pub enum Received {
    /// A frame.
    Frame(ServerFrame),
    /// Nothing in the time given.
    Nothing,
    /// The server has closed, or is dead.
    Closed,
}

/// A hello of protocol version 1.
#[must_use]
pub fn hello(token: &str, device: u64, resume: Resume) -> ClientFrame {
    hello_of(token, device, resume, EpochId(0))
}

/// As [`hello`], of a device that was told of this epoch last.
#[must_use]
pub fn hello_of(token: &str, device: u64, resume: Resume, epoch: EpochId) -> ClientFrame {
    let (device, token) = (DeviceId(device), token.to_owned());
    ClientFrame::Hello {
        version_min: 1,
        version_max: 1,
        device,
        resume,
        token,
        epoch,
        since: proto_spec::Seq::ZERO,
        skip_above: 0,
        hops: 0,
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    /// Connects with TLS, to `localhost`, and waits until the handshake is done.
    ///
    /// # Errors
    /// Nobody listens there, or not with TLS, or not one who is trusted.
    pub fn open_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let Self { stream, decoder, frames } = Self::open(address)?;
        let Stream::Bare(Carrier::Plain(mut socket)) = stream else { unreachable!("it was just opened") };
        socket.set_read_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Self { stream: Stream::Bare(Carrier::Tls(Box::new(StreamOwned::new(tls, socket)))), decoder, frames })
    }

    /// Goes on within WebSocket.
    ///
    /// # Errors
    /// The server does not want it.
    pub fn upgrade(self, request: ClientRequestBuilder) -> io::Result<Self> {
        let Self { stream: Stream::Bare(carrier), decoder, frames } = self else { panic!("that it does already") };
        carrier.socket().set_read_timeout(Some(DEADLINE))?;
        let (socket, _) = tungstenite::client(request, carrier).map_err(io::Error::other)?;
        let web = Web { socket, rest: VecDeque::new(), closed: None };
        Ok(Self { stream: Stream::Web(Box::new(web)), decoder, frames })
    }

    /// Connects by WebSocket.
    ///
    /// # Errors
    /// Nobody listens there, or wants it.
    pub fn open_websocket(address: SocketAddr) -> io::Result<Self> {
        Self::open(address)?.upgrade(upgrade_to(address))
    }

    /// Goes on by long polling: by this connection what it says, by the other what it asks.
    ///
    /// # Panics
    /// The connections are no plain ones or TLS.
    #[must_use]
    pub fn poll_with(self, ask: Self, host: SocketAddr) -> Self {
        let Self { stream: Stream::Bare(say), decoder, frames } = self else { panic!("that has another form already") };
        let Stream::Bare(ask) = ask.stream else { panic!("that has another form already") };
        say.socket().set_read_timeout(Some(DEADLINE)).expect("a wait above zero is allowed");
        Self { stream: Stream::Polling(Box::new(Polling::new(say, ask, host))), decoder, frames }
    }

    /// Connects for long polling.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open_polling(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::open(address)?.poll_with(Self::open(address)?, address))
    }

    /// The client of WebSocket itself.
    ///
    /// # Panics
    /// It does not speak that.
    pub fn websocket(&mut self) -> &mut WebSocket<impl Read + Write> {
        let Stream::Web(web) = &mut self.stream else { panic!("no WebSocket") };
        &mut web.socket
    }

    /// Says the end of WebSocket, with this code. What comes of it is read as ever.
    ///
    /// # Panics
    /// It does not speak that, or the server is gone.
    pub fn close_websocket(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "enough".into() };
        self.websocket().close(Some(frame)).expect("the server takes bytes");
    }

    /// What the server's close frame has said.
    ///
    /// # Panics
    /// It does not speak WebSocket.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        let Stream::Web(web) = &self.stream else { panic!("no WebSocket") };
        web.closed
    }

    /// Sends bytes beneath TLS.
    ///
    /// # Panics
    /// The server is gone.
    pub fn raw_bytes(&mut self, bytes: &[u8]) {
        self.stream.socket().write_all(bytes).expect("the server takes bytes");
    }

    /// Says that nothing more comes, by TLS alone.
    ///
    /// # Panics
    /// It does not speak TLS, or the server is gone.
    pub fn close_notify(&mut self) {
        let Stream::Bare(Carrier::Tls(tls)) = &mut self.stream else { panic!("no TLS") };
        tls.conn.send_close_notify();
        tls.flush().expect("the server takes bytes");
    }

    /// Goes on with a socket.
    ///
    /// # Errors
    /// The socket is none.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let stream = Stream::Bare(Carrier::Plain(stream));
        Ok(Self { stream, decoder: Decoder::new(SERVER_FRAME_BYTES_MAX as u32), frames: VecDeque::new() })
    }

    /// Sends frames in one write.
    ///
    /// # Errors
    /// The server is gone.
    pub fn try_send(&mut self, frames: &[ClientFrame]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.stream.write_all(&bytes)
    }

    /// Sends frames in one write.
    ///
    /// # Panics
    /// The server is gone.
    #[track_caller]
    pub fn send(&mut self, frames: &[ClientFrame]) {
        self.try_send(frames).expect("the server takes frames");
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// The server is gone.
    #[track_caller]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes bytes");
    }

    /// Waits up to `wait` for the next frame.
    ///
    /// # Panics
    /// What comes are not frames.
    pub fn receive(&mut self, wait: Duration) -> Received {
        let end = Instant::now() + wait;
        let mut bytes = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Received::Frame(frame);
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.socket().set_read_timeout(Some(left)).expect("a wait above zero is allowed");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Received::Closed,
                Ok(count) => self.decode(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Received::Nothing;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Received::Closed,
            }
        }
    }

    fn decode(&mut self, bytes: &[u8]) {
        let frames = &mut self.frames;
        let cut = self.decoder.decode(bytes, |raw| {
            frames.push_back(ServerFrame::decode(raw).expect("the server's frames can be read"));
            ControlFlow::Continue(())
        });
        cut.expect("the server's stream can be cut into frames");
    }

    /// Waits for the next frame; none when the server has closed.
    ///
    /// # Panics
    /// Nothing comes.
    #[track_caller]
    pub fn frame(&mut self) -> Option<ServerFrame> {
        match self.receive(DEADLINE) {
            Received::Frame(frame) => Some(frame),
            Received::Closed => None,
            Received::Nothing => panic!("nothing came, not even the end"),
        }
    }

    /// Waits for a frame that `pick` takes, passing others over.
    ///
    /// # Panics
    /// It does not come.
    #[track_caller]
    pub fn until<T>(&mut self, mut pick: impl FnMut(ServerFrame) -> Option<T>) -> T {
        let mut passed = 0;
        loop {
            let frame = self.frame();
            let Some(frame) = frame else { panic!("closed after {passed} other frames") };
            if let Some(picked) = pick(frame) {
                return picked;
            }
            passed += 1;
        }
    }

    /// Waits for the bye, after which nothing may come, and gives its code.
    ///
    /// # Panics
    /// There is none, or something follows.
    #[track_caller]
    pub fn bye(&mut self) -> ErrorCode {
        let code = self.until(|frame| match frame {
            ServerFrame::Bye { code, .. } => Some(code),
            _ => None,
        });
        let after = self.frame();
        assert!(after.is_none(), "{after:?} after the bye");
        code
    }

    /// Whether the server still answers on this connection.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn is_alive(&mut self) {
        self.send(&[ClientFrame::Ping { nonce: 4711 }]);
        self.until(|frame| matches!(frame, ServerFrame::Pong { nonce: 4711 }).then_some(()));
    }

    /// The page that answers `frame`, whose request is `request`. A server on a busy machine refuses pages before anything else, and
    /// says when to ask again: then that is done, as SPEC 6 wants it.
    ///
    /// # Panics
    /// It is refused for another reason, or until the deadline.
    #[track_caller]
    pub fn fetch(&mut self, request: u64, frame: &ClientFrame) -> Page {
        let start = Instant::now();
        loop {
            self.send(std::slice::from_ref(frame));
            let answer = self.until(|frame| match frame {
                ServerFrame::Page(page) if page.request == RequestId(request) => Some(Ok(page)),
                ServerFrame::Error { code: ErrorCode::Overloaded, retry_after_ms, .. } => Some(Err(retry_after_ms)),
                ServerFrame::Error { code, detail, .. } => panic!("refused: {code:?} {detail}"),
                _ => None,
            });
            match answer {
                Ok(page) => return page,
                Err(retry_after_ms) => {
                    assert!(start.elapsed() < DEADLINE, "the server is busy all the time");
                    thread::sleep(Duration::from_millis(retry_after_ms));
                }
            }
        }
    }
}
