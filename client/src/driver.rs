//! [`ClientState`] on tokio: a task that owns the socket and does what the state asks for.
//!
//! Speaks TLS between the two if the configuration says so.
//!
//! The state is behind a mutex that is never held over an await: so `send` answers at once, and there is no second
//! queue with a second bound in front of the state's own.
//!
//! When the application does not take its events, the task stops reading the socket, and the state's clock stands still, lest it
//! takes its own silence for the server's. Reading and writing never wait for each other.

mod groups;
mod presence;

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto_spec::{Content, ConversationId, DeviceId, Direction, SendNumber, Seq, Settings, Subscription};
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    config::{Config, ConfigError, Transport, Unanswered},
    event::{ClientEvent, FetchError, FetchHandle, SendError, SendHandle},
    limits::{EVENTS_WAITING_MAX, READ_BYTES_MAX, UNWRITTEN_BYTES_MAX},
    state::{ClientState, Effects, Input, Link, MonotonicMs},
    tls::{Connector, Fault, Stream},
};

/// A device that is connected, or tries to be. Cheap to clone; all clones are the same device.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// The events of a [`Client`], in order. Dropping it stops the client.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<ClientEvent>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<ClientState>,
    /// Something was called that the next turn must look at.
    called: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, ClientState> {
        // No method of the state leaves it half changed but by a bug, which has already panicked elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Starts a task that connects, and connects again whenever that is needed. Returns at once; the first
    /// [`ClientEvent::Welcome`] says that the server is there. Reads the certificates that are trusted. Must be called within a tokio runtime, of either flavour.
    ///
    /// # Errors
    /// As [`Config::check`], or no certificate can be trusted.
    pub fn connect(config: Config) -> Result<(Self, Events), ConfigError> {
        let (client, events, driver) = Self::prepare(config)?;
        tokio::spawn(driver);
        Ok((client, events))
    }

    /// As [`Client::connect`], for who runs the task on a runtime of their own: nothing happens before it runs. It is done when the client has stopped
    /// and the last event is taken.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn prepare(config: Config) -> Result<(Self, Events, impl Future<Output = ()> + Send + 'static), ConfigError> {
        config.check()?;
        let connector = match &config.transport {
            Transport::Plain => None,
            Transport::Tls { roots, name } => Some(Connector::new(roots, name.clone())?),
        };
        let shared = Arc::new(Shared { state: Mutex::new(ClientState::new(config)?), called: Notify::new() });
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        let driver = Driver::new(Arc::clone(&shared), connector, sender).run();
        Ok((Self { shared }, Events { receiver }, driver))
    }

    /// Takes a message; its answer comes as an event. Works without a connection too, until the queue is full.
    ///
    /// # Errors
    /// The queue is full, the message is one that no server takes, or the client has stopped.
    pub fn send(&self, to: impl Into<ConversationId>, content: Content) -> Result<SendHandle, SendError> {
        self.call(|state| state.send(to, content))
    }

    /// Takes a message back that has no answer yet. The answer is [`ClientEvent::MessageCancelled`], or
    /// [`ClientEvent::MessageAccepted`] if it was too late; without a connection it may have to wait for the next one. Whether there is
    /// such a message.
    pub fn cancel(&self, handle: SendHandle) -> bool {
        self.call(|state| state.cancel(handle))
    }

    /// Asks for a page of the user's log. `from` is included; zero, going backwards, means the head.
    ///
    /// # Errors
    /// Too many fetches wait, or the client has stopped.
    pub fn fetch_log(&self, from: Seq, direction: Direction, limit: u64) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_log(from, direction, limit))
    }

    /// Asks for a page of one conversation; otherwise as [`Client::fetch_log`].
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_conversation(
        &self,
        conversation: impl Into<ConversationId>,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_conversation(conversation, from, direction, limit))
    }

    /// Asks for the conversations whose last message is before `before` (zero: all), from the newest on, and for the newest
    /// `messages` of the first of them.
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_inbox(&self, before: Seq, limit: u64, messages: u64) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_inbox(before, limit, messages))
    }

    /// The user has read everything in the conversation up to this seq of the own log. `tell`: the other side is told.
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn mark_read(
        &self,
        conversation: impl Into<ConversationId>,
        up_to: Seq,
        tell: bool,
    ) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.mark_read(conversation, up_to, tell))
    }

    /// From now on the user keeps the conversation with these set, and with those cleared.
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn set_conversation(
        &self,
        conversation: impl Into<ConversationId>,
        set: Settings,
        cleared: Settings,
    ) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.set_conversation(conversation, set, cleared))
    }

    /// Deletes the message that stands at `place` for this user alone. The answer is [`ClientEvent::Marked`].
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn delete_message(
        &self,
        conversation: impl Into<ConversationId>,
        place: Seq,
    ) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.delete_message(conversation, place))
    }

    /// Asks for the user's devices. The answer is [`ClientEvent::Devices`].
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_devices(&self) -> Result<FetchHandle, FetchError> {
        self.call(ClientState::fetch_devices)
    }

    /// Asks for digests of the log, from `first` to `last`, each of `width` seqs: what [`Check::ask`](crate::Check::ask) says. The answer
    /// is [`ClientEvent::Digest`].
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_digest(&self, range: (Seq, Seq, u64)) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_digest(range))
    }

    /// Removes a device of the user, for ever. The answer is [`ClientEvent::Devices`], or the end of this client if it was its own.
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn remove_device(&self, device: DeviceId) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.remove_device(device))
    }

    /// Gives a device of the user a name; empty: none. The answer is [`ClientEvent::Devices`].
    ///
    /// # Errors
    /// The name is too long; else as [`Client::fetch_log`].
    pub fn name_device(&self, device: DeviceId, name: &str) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.name_device(device, name))
    }

    /// Has notifications for this device sent there from now on, or to nobody. The answer is [`ClientEvent::Subscription`]. For after
    /// each start, and whenever the provider gives the device another address.
    ///
    /// # Errors
    /// The subscription has not what its provider needs; else as [`Client::fetch_log`].
    pub fn subscribe(&self, subscription: Option<Subscription>) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.subscribe(subscription))
    }

    /// Asks how this device is subscribed to notifications, and what it needs to be. The answer is [`ClientEvent::Subscription`].
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_subscription(&self) -> Result<FetchHandle, FetchError> {
        self.call(ClientState::fetch_subscription)
    }

    /// The application is done with everything up to `seq`. See [`crate::Acknowledging::ByApplication`].
    pub fn acknowledge(&self, seq: Seq) {
        self.call(|state| state.acknowledge(seq));
    }

    /// The application has discarded everything that it held of the log. See [`ClientEvent::LogReplaced`].
    pub fn log_discarded(&self) {
        self.call(ClientState::log_discarded);
    }

    /// The application has fetched what was skipped after `since`. See [`ClientEvent::Skipped`].
    pub fn filled(&self, since: Seq) {
        self.call(|state| state.filled(since));
    }

    /// The application has stored that this message has this number. See [`crate::Keeping::ByApplication`] and [`ClientState::kept`].
    pub fn kept(&self, handle: SendHandle, number: SendNumber) {
        self.call(|state| state.kept(handle, number));
    }

    /// The token from now on: for the next connection, and for the one that is there, which goes on with it. The answer is
    /// [`ClientEvent::TokenRefreshed`] or [`ClientEvent::TokenRefused`].
    ///
    /// # Errors
    /// It is one that no server takes.
    pub fn set_token(&self, token: String) -> Result<(), ConfigError> {
        self.call(|state| state.set_token(token))
    }

    /// Says bye and has no connection until [`Client::resume`]. See [`ClientState::suspend`].
    pub fn suspend(&self) {
        self.call(ClientState::suspend);
    }

    /// Connects at once after a suspension. See [`ClientState::resume`].
    pub fn resume(&self) {
        self.call(ClientState::resume);
    }

    /// The network may be another one. See [`ClientState::network_changed`].
    pub fn network_changed(&self) {
        self.call(ClientState::network_changed);
    }

    /// Says bye and stops, whatever is still unanswered. The last event is [`ClientEvent::Ended`].
    pub fn close(&self) {
        self.call(ClientState::close);
    }

    /// Messages without an answer, sent or not.
    #[must_use]
    pub fn unanswered_count(&self) -> usize {
        self.shared.state().unanswered_count()
    }

    /// The messages without an answer, as [`Config::unanswered`] takes them. Also after the end.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(SendHandle, Unanswered)> {
        self.shared.state().unanswered()
    }

    fn call<T>(&self, f: impl FnOnce(&mut ClientState) -> T) -> T {
        let result = f(&mut self.shared.state());
        self.shared.called.notify_one();
        result
    }
}

impl Events {
    /// The next event; none after [`ClientEvent::Ended`]. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.receiver.recv().await
    }

    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        self.receiver.try_recv().ok()
    }
}

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum Socket {
    None,
    Opening(Opening),
    Open(TcpStream),
}

/// What a socket was waited for.
enum SocketEvent {
    Opened(io::Result<TcpStream>),
    Ready(io::Result<Ready>),
}

struct Driver {
    shared: Arc<Shared>,
    /// Where the socket leads, or is to lead: what the state said when it asked for it.
    address: String,
    events: mpsc::Sender<ClientEvent>,
    /// Events that did not fit the channel: at most what one turn made.
    waiting: VecDeque<ClientEvent>,
    socket: Socket,
    /// How TLS connections are made, if they are.
    connector: Option<Connector>,
    /// The TLS of the open socket.
    tls: Option<Stream>,
    /// `unwritten[written..]` waits for the socket.
    unwritten: Vec<u8>,
    written: usize,
    effects: Effects,
    clock: Clock,
}

/// Time as the state sees it: it stands still while the application does not take its events.
struct Clock {
    start: Instant,
    paused: Duration,
    paused_at: Option<Instant>,
}

impl Clock {
    fn now(&self) -> MonotonicMs {
        let at = self.paused_at.unwrap_or_else(Instant::now);
        MonotonicMs((at - self.start).saturating_sub(self.paused).as_millis() as u64)
    }

    fn instant(&self, at: MonotonicMs) -> Instant {
        self.start + self.paused + Duration::from_millis(at.0)
    }

    fn pause(&mut self) {
        self.paused_at.get_or_insert_with(Instant::now);
    }

    fn go_on(&mut self) {
        if let Some(at) = self.paused_at.take() {
            self.paused += at.elapsed();
        }
    }
}

impl Driver {
    fn new(shared: Arc<Shared>, connector: Option<Connector>, events: mpsc::Sender<ClientEvent>) -> Self {
        Self {
            shared,
            address: String::new(),
            events,
            waiting: VecDeque::new(),
            socket: Socket::None,
            connector,
            tls: None,
            unwritten: Vec::new(),
            written: 0,
            effects: Effects::default(),
            clock: Clock { start: Instant::now(), paused: Duration::ZERO, paused_at: None },
        }
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let events = self.events.clone();
        let mut buffer = Vec::new();
        self.turn(Input::Tick);
        loop {
            let is_stalled = !self.waiting.is_empty();
            if is_stalled {
                self.clock.pause();
            } else if shared.state().is_ended() {
                return;
            } else {
                self.clock.go_on();
            }
            let now = self.clock.now();
            let deadline = shared.state().deadline(now).map(|at| self.clock.instant(at));
            let interest = self.interest(is_stalled);
            tokio::select! {
                () = shared.called.notified() => self.turn(Input::Tick),
                permit = events.reserve(), if is_stalled => {
                    let Ok(permit) = permit else { return };
                    if let Some(event) = self.waiting.pop_front() {
                        permit.send(event);
                    }
                    self.hand_out();
                }
                () = events.closed(), if !is_stalled => {
                    // Nobody listens any more: leave politely.
                    shared.state().close();
                    self.turn(Input::Tick);
                    return;
                }
                event = socket_event(&mut self.socket, interest) => self.on_socket(event, &mut buffer),
                () = sleep_until(deadline), if !is_stalled => self.turn(Input::Tick),
            }
        }
    }

    fn interest(&self, is_stalled: bool) -> Option<Interest> {
        let unwritten = self.unwritten.len() - self.written;
        let read = (!is_stalled && unwritten < UNWRITTEN_BYTES_MAX).then_some(Interest::READABLE);
        let write = (unwritten > 0).then_some(Interest::WRITABLE);
        match (read, write) {
            (Some(read), Some(write)) => Some(read | write),
            (read, write) => read.or(write),
        }
    }

    fn on_socket(&mut self, event: SocketEvent, buffer: &mut Vec<u8>) {
        match event {
            SocketEvent::Opened(Ok(stream)) => {
                // Frames are small and each is waited for; a failure costs latency only.
                let _ = stream.set_nodelay(true);
                self.socket = Socket::Open(stream);
                let begin = |connector: &Connector| connector.begin(&self.address, &mut self.unwritten);
                match self.connector.as_ref().map(begin).transpose() {
                    Ok(tls) => {
                        self.tls = tls;
                        // The hello waits for the end of the TLS handshake, which has the hello's time.
                        self.turn(Input::Connected);
                    }
                    Err(fault) => self.failed(fault),
                }
            }
            SocketEvent::Opened(Err(error)) => {
                let words = unreachable(&self.address, &error);
                self.lost(words);
            }
            SocketEvent::Ready(Ok(ready)) => {
                if ready.is_writable() {
                    self.write();
                }
                if ready.is_readable() && self.waiting.is_empty() {
                    self.read(buffer);
                }
            }
            SocketEvent::Ready(Err(error)) => self.lost(error.to_string()),
        }
    }

    fn read(&mut self, buffer: &mut Vec<u8>) {
        let Socket::Open(stream) = &self.socket else { return };
        buffer.resize(READ_BYTES_MAX, 0);
        match stream.try_read(buffer) {
            Ok(0) => self.lost("the server closed the connection".into()),
            Ok(size) => self.receive(&buffer[..size]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.lost(error.to_string()),
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.turn(Input::Bytes(bytes)) };
        let mut plain = Vec::new();
        let received = tls.receive(bytes, &mut plain, &mut self.unwritten);
        self.write();
        if !plain.is_empty() {
            self.turn(Input::Bytes(&plain));
        }
        if let Err(fault) = received {
            self.failed(fault);
        }
    }

    fn failed(&mut self, fault: Fault) {
        self.drop_socket();
        self.turn(match fault {
            Fault::Untrusted(words) => Input::Untrusted(words),
            Fault::Foreign(words) => Input::Foreign(words),
            Fault::Other(words) => Input::Disconnected(words),
        });
    }

    fn write(&mut self) {
        let Socket::Open(stream) = &self.socket else { return };
        while self.written < self.unwritten.len() {
            match stream.try_write(&self.unwritten[self.written..]) {
                Ok(size) => self.written += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The server has closed. Its last words may still be there to be read, and then the end is found.
                Err(_) => break,
            }
        }
        self.unwritten = Vec::new();
        self.written = 0;
    }

    fn lost(&mut self, words: String) {
        self.drop_socket();
        self.turn(Input::Disconnected(words));
    }

    fn drop_socket(&mut self) {
        self.socket = Socket::None;
        self.tls = None;
        self.unwritten = Vec::new();
        self.written = 0;
    }

    /// Gives the state its input and does what it asks for.
    fn turn(&mut self, input: Input<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.shared.state().handle(self.clock.now(), rand::random(), input, &mut effects);
        self.waiting.extend(effects.events.drain(..));
        if !effects.bytes.is_empty() {
            match &mut self.tls {
                Some(tls) => tls.send(&effects.bytes, &mut self.unwritten),
                None => self.unwritten.extend_from_slice(&effects.bytes),
            }
            effects.bytes.clear();
            self.write();
        }
        match effects.link.take() {
            Some(Link::Open) => {
                self.address = self.shared.state().address().to_owned();
                let address = self.address.clone();
                self.socket = Socket::Opening(Box::pin(async move { TcpStream::connect(address).await }));
            }
            Some(Link::Close) => {
                if let Some(tls) = &mut self.tls {
                    tls.finish(&mut self.unwritten);
                    self.write();
                }
                self.drop_socket();
            }
            None => {}
        }
        self.effects = effects;
        self.hand_out();
    }

    /// Moves events into the channel as long as they fit.
    fn hand_out(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                // The loop notices that nobody listens.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }
}

/// Why no connection could be made, in words for a person.
fn unreachable(server: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nothing listens on {server}"),
        _ if error.raw_os_error().is_none() => format!("{server} can not be found: {error}"),
        _ => format!("{server} can not be reached: {error}"),
    }
}

async fn socket_event(socket: &mut Socket, interest: Option<Interest>) -> SocketEvent {
    match (socket, interest) {
        (Socket::Opening(opening), _) => SocketEvent::Opened(opening.await),
        (Socket::Open(stream), Some(interest)) => SocketEvent::Ready(stream.ready(interest).await),
        (Socket::Open(_), None) | (Socket::None, _) => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
