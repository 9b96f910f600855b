//! Links: the sockets between nodes. Tasks of a core's own runtime, away from the ring of its clients: a link is one socket that carries
//! much, and needs none of what a ring does for many.
//!
//! What has happened waits here until the core's next turn takes it ([`Sockets::take`]). A link is read again when what it said last has
//! been taken, so a core that is behind is waited for by the other node's kernel.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rim::tls::{ServerTls, Side, Tls};
use rustls::{ClientConfig, ServerConfig, client::UnbufferedClientConnection, pki_types::ServerName};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    core::LinkId,
    files::certificate::MeshTls,
    limits::{LINK_GREETING_MS, LINK_READ_BYTES, LINKS_GREETING_MAX, LISTEN_RETRY_MS},
    mesh::certificate::Certificate,
    shard::topology::NodeId,
};

/// What has happened to the links of a core.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection is there: dialled, or of somebody who has come; with the certificate of the other end, if it has shown one.
    Began(LinkId, Option<NodeId>, Option<Certificate>),
    /// Somebody has come, and has not got as far as to say anything.
    NotGreeted(String),
    /// A node could not be reached.
    NotReached(NodeId, String),
    /// Bytes have come.
    Bytes(LinkId, Vec<u8>),
    /// The kernel took so many.
    Sent(LinkId, usize),
    /// The connection has ended.
    Ended(LinkId, String),
}

#[derive(Debug, Default)]
struct Happened {
    queue: RefCell<VecDeque<Event>>,
    woken: Notify,
}

impl Happened {
    fn push(&self, event: Event) {
        self.queue.borrow_mut().push_back(event);
        self.woken.notify_one();
    }
}

/// What is shared with the tasks of one link.
#[derive(Debug)]
struct Wires {
    crypt: RefCell<Crypt>,
    out: RefCell<Vec<u8>>,
    /// Something is to be sent, or the link is to be closed.
    send: Notify,
    /// Once everything has been sent.
    is_closing: Cell<bool>,
    /// What was read last has been taken.
    read_on: Notify,
}

impl Default for Wires {
    fn default() -> Self {
        Self {
            crypt: RefCell::new(Crypt::Plain),
            out: RefCell::default(),
            send: Notify::default(),
            is_closing: Cell::default(),
            read_on: Notify::default(),
        }
    }
}

#[derive(Debug)]
struct Socket {
    wires: Rc<Wires>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// A connection whose TLS, if it has any, is open.
#[derive(Debug)]
struct Fresh {
    stream: TcpStream,
    dialled: Option<NodeId>,
    crypt: Crypt,
    /// What came behind the handshake.
    first: Vec<u8>,
}

/// What lies over a socket.
#[derive(Debug)]
enum Crypt {
    Plain,
    Dialled(Box<Tls<UnbufferedClientConnection>>),
    Came(Box<ServerTls>),
}

impl Crypt {
    /// Received bytes, in plain; and why nothing more comes, if so: what came before that counts.
    fn receive(&mut self, mut bytes: Vec<u8>) -> (Vec<u8>, Option<String>) {
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

    /// Bytes to send, and whatever else is to be said.
    fn seal(&mut self, plain: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Plain => return plain,
            Self::Dialled(tls) => tls.seal(&plain, &mut out),
            Self::Came(tls) => tls.seal(&plain, &mut out),
        }
        out
    }

    /// Nothing more is sent.
    fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Plain => {}
            Self::Dialled(tls) => tls.finish(&[]),
            Self::Came(tls) => tls.finish(&[]),
        }
        self.seal(Vec::new())
    }

    fn certificate(&self) -> Option<Certificate> {
        let der = match self {
            Self::Plain => None,
            Self::Dialled(tls) => tls.peer_certificate(),
            Self::Came(tls) => tls.peer_certificate(),
        };
        der.map(|der| Certificate(der.to_vec()))
    }
}

/// The links' sockets of one core. Made and used on its thread.
#[derive(Debug)]
pub(super) struct Sockets {
    tls: Option<MeshTls>,
    happened: Rc<Happened>,
    sockets: HashMap<LinkId, Socket>,
    /// New connections, before the core knows them.
    fresh: Rc<RefCell<VecDeque<Fresh>>>,
    last: u64,
}

impl Sockets {
    /// None yet. `tls`: what nodes prove to each other who they are with.
    pub(super) fn new(tls: Option<MeshTls>) -> Self {
        Self { tls, happened: Rc::default(), sockets: HashMap::new(), fresh: Rc::default(), last: 0 }
    }

    /// Takes in whoever comes to this socket, for as long as the runtime lives.
    pub(super) fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        let config = self.tls.as_ref().map(|tls| Arc::clone(&tls.server));
        tokio_uring::spawn(async move {
            let greeting = Rc::new(Cell::new(0_usize));
            loop {
                match listener.accept().await {
                    // Whoever opens connections and says nothing keeps nobody else out for long.
                    Ok((stream, _)) if greeting.get() >= LINKS_GREETING_MAX => drop(stream),
                    Ok((stream, peer)) => {
                        let (fresh, happened) = (Rc::clone(&fresh), Rc::clone(&happened));
                        let (config, greeting) = (config.clone(), Rc::clone(&greeting));
                        greeting.set(greeting.get() + 1);
                        tokio_uring::spawn(async move {
                            match within(LINK_GREETING_MS, admit(stream, config)).await {
                                Ok(one) => {
                                    fresh.borrow_mut().push_back(one);
                                    happened.woken.notify_one();
                                }
                                Err(why) => happened.push(Event::NotGreeted(format!("{peer}: {why}"))),
                            }
                            greeting.set(greeting.get() - 1);
                        });
                    }
                    // Too many files, for instance: it may be better soon.
                    Err(_) => tokio::time::sleep(Duration::from_millis(LISTEN_RETRY_MS)).await,
                }
            }
        });
        Ok(())
    }

    /// Connects to the node of this name.
    pub(super) fn dial(&self, node: NodeId, address: SocketAddr, name: String) {
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        let config = self.tls.as_ref().map(|tls| Arc::clone(&tls.client));
        tokio_uring::spawn(async move {
            match within(LINK_GREETING_MS, call(node, address, name, config)).await {
                Ok(one) => {
                    fresh.borrow_mut().push_back(one);
                    happened.woken.notify_one();
                }
                Err(why) => happened.push(Event::NotReached(node, format!("{address}: {why}"))),
            }
        });
    }

    /// Sends bytes, behind those that wait already.
    pub(super) fn send(&self, link: LinkId, bytes: &[u8]) {
        if let Some(Socket { wires, .. }) = self.sockets.get(&link) {
            wires.out.borrow_mut().extend_from_slice(bytes);
            wires.send.notify_one();
        }
    }

    /// Sends these bytes and closes. Nothing more is heard of the link.
    pub(super) fn cut(&mut self, link: LinkId, last_words: &[u8]) {
        if let Some(Socket { wires, .. }) = self.sockets.get(&link) {
            // It counts as put off.
            wires.out.borrow_mut().clear();
        }
        self.send(link, last_words);
        if let Some(Socket { wires, reader, writer }) = self.sockets.remove(&link) {
            reader.abort();
            wires.is_closing.set(true);
            wires.send.notify_one();
            tokio_uring::spawn(async move {
                // A node that reads nothing more would keep what waits for it in memory.
                tokio::time::sleep(Duration::from_millis(LINK_GREETING_MS)).await;
                writer.abort();
            });
        }
    }

    /// The next thing that has happened.
    pub(super) fn take(&mut self) -> Option<Event> {
        let fresh = self.fresh.borrow_mut().pop_front();
        if let Some(fresh) = fresh {
            return Some(self.begin(fresh));
        }
        loop {
            let event = self.happened.queue.borrow_mut().pop_front()?;
            match &event {
                Event::NotReached(..) | Event::NotGreeted(_) => return Some(event),
                Event::Bytes(link, _) | Event::Sent(link, _) | Event::Ended(link, _) | Event::Began(link, ..) => {
                    // What was cut is heard no more.
                    let Some(Socket { wires, .. }) = self.sockets.get(link) else { continue };
                    if matches!(event, Event::Bytes(..)) {
                        wires.read_on.notify_one();
                    }
                    return Some(event);
                }
            }
        }
    }

    /// Whether there is a link.
    pub(super) fn are_any(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Whether something has happened.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.borrow().is_empty() || !self.happened.queue.borrow().is_empty()
    }

    /// Waits until something has happened.
    pub(super) async fn news(&self) {
        self.happened.woken.notified().await;
    }

    fn begin(&mut self, fresh: Fresh) -> Event {
        let Fresh { stream, dialled, crypt, first } = fresh;
        self.last += 1;
        let id = LinkId(self.last);
        // Nothing is gained by waiting: a turn's output is one write. If the kernel refuses, it is slower.
        let _ = stream.set_nodelay(true);
        let (from, to) = stream.into_split();
        let certificate = crypt.certificate();
        let wires = Rc::new(Wires { crypt: RefCell::new(crypt), ..Wires::default() });
        let reader = tokio_uring::spawn(read(id, from, first, Rc::clone(&wires), Rc::clone(&self.happened)));
        let writer = tokio_uring::spawn(write(id, to, Rc::clone(&wires), Rc::clone(&self.happened)));
        self.sockets.insert(id, Socket { wires, reader, writer });
        Event::Began(id, dialled, certificate)
    }
}

/// What comes of it in so many milliseconds.
async fn within<T>(ms: u64, what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(Duration::from_millis(ms), what).await.unwrap_or_else(|_| Err(format!("no answer in {ms} ms")))
}

async fn call(
    node: NodeId,
    address: SocketAddr,
    name: String,
    config: Option<Arc<ClientConfig>>,
) -> Result<Fresh, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut crypt, mut first) = (Crypt::Plain, Vec::new());
    if let Some(config) = config {
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let side = UnbufferedClientConnection::new(config, name).map_err(|error| error.to_string())?;
        let mut tls = Tls::new(side);
        first = shake_hands(&mut stream, &mut tls).await?;
        crypt = Crypt::Dialled(Box::new(tls));
    }
    Ok(Fresh { stream, dialled: Some(node), crypt, first })
}

async fn admit(mut stream: TcpStream, config: Option<Arc<ServerConfig>>) -> Result<Fresh, String> {
    let (mut crypt, mut first) = (Crypt::Plain, Vec::new());
    if let Some(config) = config {
        let mut tls = ServerTls::accept(config).map_err(|error| error.to_string())?;
        first = shake_hands(&mut stream, &mut tls).await?;
        crypt = Crypt::Came(Box::new(tls));
    }
    Ok(Fresh { stream, dialled: None, crypt, first })
}

/// Opens the TLS of a connection. What came behind the handshake.
async fn shake_hands<S: Side>(stream: &mut TcpStream, tls: &mut Tls<S>) -> Result<Vec<u8>, String> {
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

async fn read(id: LinkId, mut from: OwnedReadHalf, first: Vec<u8>, wires: Rc<Wires>, happened: Rc<Happened>) {
    let (mut plain, mut end) = (first, None);
    let why = loop {
        if !plain.is_empty() {
            happened.push(Event::Bytes(id, std::mem::take(&mut plain)));
            wires.read_on.notified().await;
        }
        if let Some(why) = end {
            break why;
        }
        let mut bytes = Vec::with_capacity(LINK_READ_BYTES);
        match from.read_buf(&mut bytes).await {
            Ok(0) => break "the other node has closed it".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        (plain, end) = wires.crypt.borrow_mut().receive(bytes);
    };
    happened.push(Event::Ended(id, why));
}

async fn write(id: LinkId, mut to: OwnedWriteHalf, wires: Rc<Wires>, happened: Rc<Happened>) {
    loop {
        let plain = std::mem::take(&mut *wires.out.borrow_mut());
        let length = plain.len();
        if length == 0 {
            if wires.is_closing.get() {
                let goodbye = wires.crypt.borrow_mut().finish();
                // It is closed when both halves are dropped; whoever reads has been ended.
                let _ = to.write_all(&goodbye).await;
                let _ = to.shutdown().await;
                return;
            }
            wires.send.notified().await;
            continue;
        }
        let bytes = wires.crypt.borrow_mut().seal(plain);
        if let Err(error) = to.write_all(&bytes).await {
            return happened.push(Event::Ended(id, error.to_string()));
        }
        happened.push(Event::Sent(id, length));
    }
}
