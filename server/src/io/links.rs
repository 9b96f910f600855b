//! Links: the sockets between nodes. Tasks of a core's own runtime, away from the ring of its clients: a link is one socket that carries
//! much, and needs none of what a ring does for many. Beside the links there are the tunnels of single clients: at the end where the
//! client is they are such sockets too, and at the other end the ring takes them over, once the nodes have greeted. A tunnel to `pages` is no
//! socket but memory of this process.
//!
//! What has happened waits here until the core's next turn takes it ([`Sockets::take`]). A link is read again when what it said last has
//! been taken, so a core that is behind is waited for by the other node's kernel.

mod crypt;
mod pages;
mod tunnels;
mod wires;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rim::tls::{ServerTls, Tls};
use rustls::{ClientConfig, ServerConfig, client::UnbufferedClientConnection, pki_types::ServerName};
use tokio::{
    io::AsyncWrite,
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::timeout,
};

pub(super) use self::tunnels::Visitor;
use self::{
    crypt::{Crypt, hear, shake_hands},
    tunnels::Call,
    wires::{Socket, Source, Wires, read, write},
};
use super::pages::Polled;
use crate::{
    core::LinkId,
    files::certificate::MeshTls,
    limits::{LINK_GREETING_MS, LINKS_GREETING_MAX, LISTEN_RETRY_MS, TUNNEL_DEAF_MS},
    mesh::{
        certificate::Certificate,
        wire::{self, Opening, Said},
    },
    shard::{ConnId, topology::NodeId},
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
    Bytes(Line, Vec<u8>),
    /// The kernel took so many.
    Sent(Line, usize),
    /// The connection has ended.
    Ended(Line, String),
    /// The other node has taken in the client of a tunnel.
    Tunnelled(ConnId),
    /// It has not.
    NotTunnelled(ConnId, String),
    /// A client comes by a tunnel; the node that sends it has not been judged.
    Came(Visitor),
    /// The other node has been told that the client is taken in.
    Admitted(Visitor),
    /// A session of long polling begins.
    Polled(Polled),
}

impl Event {
    const fn is_of_link(&self) -> bool {
        match self {
            Self::Began(..)
            | Self::NotGreeted(_)
            | Self::NotReached(..)
            | Self::Bytes(Line::Link(_), _)
            | Self::Sent(Line::Link(_), _)
            | Self::Ended(Line::Link(_), _) => true,
            Self::Bytes(Line::Tunnel(_), _)
            | Self::Sent(Line::Tunnel(_), _)
            | Self::Ended(Line::Tunnel(_), _)
            | Self::Tunnelled(_)
            | Self::NotTunnelled(..)
            | Self::Came(_)
            | Self::Admitted(_)
            | Self::Polled(_) => false,
        }
    }
}

/// What carries bytes to and from another node, or `pages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// A link.
    Link(LinkId),
    /// What carries the bytes of one client.
    Tunnel(ConnId),
}

#[derive(Debug, Default)]
struct Happened {
    links: RefCell<VecDeque<Event>>,
    tunnels: RefCell<VecDeque<Event>>,
    /// Whose turn it is: what a crowd of clients says must not keep links waiting, nor the other way round.
    is_turn_of_tunnels: Cell<bool>,
    woken: Notify,
}

impl Happened {
    fn push(&self, event: Event) {
        let queue = if event.is_of_link() { &self.links } else { &self.tunnels };
        queue.borrow_mut().push_back(event);
        self.woken.notify_one();
    }

    fn pop(&self) -> Option<Event> {
        let is_turn_of_tunnels = self.is_turn_of_tunnels.replace(!self.is_turn_of_tunnels.get());
        let (first, second) =
            if is_turn_of_tunnels { (&self.tunnels, &self.links) } else { (&self.links, &self.tunnels) };
        let event = first.borrow_mut().pop_front();
        event.or_else(|| second.borrow_mut().pop_front())
    }

    fn is_empty(&self) -> bool {
        self.links.borrow().is_empty() && self.tunnels.borrow().is_empty()
    }
}

/// A connection whose TLS, if it has any, is open.
#[derive(Debug)]
struct Fresh {
    stream: TcpStream,
    crypt: Crypt,
    /// What came behind the handshake.
    first: Vec<u8>,
    what: What,
}

/// What a fresh connection is for.
#[derive(Debug)]
enum What {
    /// A link to this node.
    Dialled(NodeId),
    /// Somebody wants a link.
    Came,
    /// A tunnel: the other node has taken in this client.
    Tunnel(ConnId),
    /// Somebody wants a client to be served here.
    Visitor(Opening, Place),
}

/// A place among those who have come and have not been judged.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(places: &Rc<Cell<usize>>) -> Option<Self> {
        (places.get() < LINKS_GREETING_MAX).then(|| {
            places.set(places.get() + 1);
            Self(Rc::clone(places))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The links' sockets of one core. Made and used on its thread.
#[derive(Debug)]
pub(super) struct Sockets {
    tls: Option<MeshTls>,
    happened: Rc<Happened>,
    sockets: HashMap<Line, Socket>,
    /// Tunnels that are not open yet.
    calls: HashMap<ConnId, Call>,
    /// Of each node, by its address: whoever opens a tunnel there has one of them meanwhile.
    dials: HashMap<SocketAddr, Rc<Semaphore>>,
    /// New connections, before the core knows them.
    fresh: Rc<RefCell<VecDeque<Fresh>>>,
    last: u64,
}

impl Sockets {
    /// None yet. `tls`: what nodes prove to each other who they are with.
    pub(super) fn new(tls: Option<MeshTls>) -> Self {
        Self {
            tls,
            happened: Rc::default(),
            sockets: HashMap::new(),
            calls: HashMap::new(),
            dials: HashMap::new(),
            fresh: Rc::default(),
            last: 0,
        }
    }

    /// Takes in whoever comes to this socket, for as long as the runtime lives.
    pub(super) fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        let config = self.tls.as_ref().map(|tls| Arc::clone(&tls.server));
        tokio_uring::spawn(async move {
            let places = Rc::new(Cell::new(0_usize));
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        // Whoever opens connections and says nothing keeps nobody else out for long.
                        let Some(place) = Place::take(&places) else { continue };
                        let (fresh, happened) = (Rc::clone(&fresh), Rc::clone(&happened));
                        let config = config.clone();
                        tokio_uring::spawn(async move {
                            match within(LINK_GREETING_MS, admit(stream, config, place)).await {
                                Ok(one) => {
                                    fresh.borrow_mut().push_back(one);
                                    happened.woken.notify_one();
                                }
                                Err(why) => happened.push(Event::NotGreeted(format!("{peer}: {why}"))),
                            }
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
            match within(LINK_GREETING_MS, call(address, name, config)).await {
                Ok((stream, crypt, first)) => {
                    fresh.borrow_mut().push_back(Fresh { stream, crypt, first, what: What::Dialled(node) });
                    happened.woken.notify_one();
                }
                Err(why) => happened.push(Event::NotReached(node, format!("{address}: {why}"))),
            }
        });
    }

    /// Sends bytes, behind those that wait already.
    pub(super) fn send(&self, line: Line, bytes: &[u8]) {
        if let Some(Socket { wires, .. }) = self.sockets.get(&line)
            && !wires.is_broken.get()
        {
            wires.out.borrow_mut().extend_from_slice(bytes);
            wires.send.notify_one();
        }
    }

    /// Sends these bytes and closes. Nothing more is heard of the link.
    pub(super) fn cut(&mut self, link: LinkId, last_words: &[u8]) {
        let line = Line::Link(link);
        if let Some(Socket { wires, .. }) = self.sockets.get(&line) {
            // It counts as put off.
            wires.out.borrow_mut().clear();
        }
        self.send(line, last_words);
        self.finish(line);
    }

    /// Closes once everything has been sent. Nothing more is heard of it.
    fn finish(&mut self, line: Line) {
        if let Some(Socket { wires, reader, mut writer }) = self.sockets.remove(&line) {
            reader.abort();
            wires.is_closing.set(true);
            wires.send.notify_one();
            tokio_uring::spawn(async move {
                // A node that reads nothing more would keep what waits for it in memory.
                if timeout(Duration::from_millis(LINK_GREETING_MS), &mut writer).await.is_err() {
                    writer.abort();
                }
            });
        }
    }

    /// The next thing that has happened.
    pub(super) fn take(&mut self) -> Option<Event> {
        loop {
            let fresh = self.fresh.borrow_mut().pop_front();
            let Some(fresh) = fresh else { break };
            if let Some(event) = self.begin(fresh) {
                return Some(event);
            }
        }
        loop {
            let event = self.happened.pop()?;
            let is_heard = match &event {
                Event::Bytes(line, _) | Event::Sent(line, _) | Event::Ended(line, _) => {
                    let socket = self.sockets.get(line);
                    // What a client of a tunnel is told is taken when the client has taken it.
                    if let (Event::Bytes(Line::Link(_), _), Some(Socket { wires, .. })) = (&event, socket) {
                        wires.read_on.notify_one();
                    }
                    // What was cut is heard no more.
                    socket.is_some()
                }
                Event::NotTunnelled(conn, _) => self.calls.remove(conn).is_some(),
                Event::NotReached(..)
                | Event::NotGreeted(_)
                | Event::Began(..)
                | Event::Tunnelled(_)
                | Event::Came(_)
                | Event::Admitted(_)
                | Event::Polled(_) => true,
            };
            if is_heard {
                return Some(event);
            }
        }
    }

    /// Whether there is a link.
    pub(super) fn are_any(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Whether something has happened.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.borrow().is_empty() || !self.happened.is_empty()
    }

    /// Waits until something has happened.
    pub(super) async fn news(&self) {
        self.happened.woken.notified().await;
    }

    /// What a fresh connection means; nothing if it is not wanted any more.
    fn begin(&mut self, fresh: Fresh) -> Option<Event> {
        let Fresh { stream, crypt, first, what } = fresh;
        // Nothing is gained by waiting: a turn's output is one write. If the kernel refuses, it is slower.
        let _ = stream.set_nodelay(true);
        let (line, event) = match what {
            What::Visitor(opening, place) => return Some(Event::Came(Visitor::new(stream, crypt, opening, place))),
            What::Tunnel(conn) => {
                self.calls.remove(&conn)?;
                (Line::Tunnel(conn), Event::Tunnelled(conn))
            }
            What::Dialled(_) | What::Came => {
                self.last += 1;
                let dialled = if let What::Dialled(node) = what { Some(node) } else { None };
                let id = LinkId(self.last);
                (Line::Link(id), Event::Began(id, dialled, crypt.certificate()))
            }
        };
        let (from, to) = stream.into_split();
        self.carry(line, crypt, first, (from, to));
        Some(event)
    }

    /// Has the bytes of a line read and written from now on.
    fn carry(
        &mut self,
        line: Line,
        crypt: Crypt,
        first: Vec<u8>,
        (from, to): (impl Source + 'static, impl AsyncWrite + Unpin + 'static),
    ) {
        // A core takes what a link has said in its next turns, however long that is.
        let patience_ms = if let Line::Tunnel(_) = line { TUNNEL_DEAF_MS } else { u64::MAX };
        let waits = (line, Duration::from_millis(patience_ms));
        let wires = Rc::new(Wires { crypt: RefCell::new(crypt), ..Wires::default() });
        let reader = tokio_uring::spawn(read(waits, from, first, Rc::clone(&wires), Rc::clone(&self.happened)));
        let writer = tokio_uring::spawn(write(line, to, Rc::clone(&wires), Rc::clone(&self.happened)));
        self.sockets.insert(line, Socket { wires, reader, writer });
    }
}

/// What comes of it in so many milliseconds.
async fn within<T>(ms: u64, what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(Duration::from_millis(ms), what).await.unwrap_or_else(|_| Err(format!("no answer in {ms} ms")))
}

/// Connects: the socket, what lies over it, and what came behind the handshake.
async fn call(
    address: SocketAddr,
    name: String,
    config: Option<Arc<ClientConfig>>,
) -> Result<(TcpStream, Crypt, Vec<u8>), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut crypt, mut first) = (Crypt::Plain, Vec::new());
    if let Some(config) = config {
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let side = UnbufferedClientConnection::new(config, name).map_err(|error| error.to_string())?;
        let mut tls = Tls::new(side);
        first = shake_hands(&mut stream, &mut tls).await?;
        crypt = Crypt::Dialled(Box::new(tls));
    }
    Ok((stream, crypt, first))
}

/// Hears what somebody who has come says first.
async fn admit(mut stream: TcpStream, config: Option<Arc<ServerConfig>>, place: Place) -> Result<Fresh, String> {
    let (mut crypt, mut first) = (Crypt::Plain, Vec::new());
    if let Some(config) = config {
        let mut tls = ServerTls::accept(config).map_err(|error| error.to_string())?;
        first = shake_hands(&mut stream, &mut tls).await?;
        crypt = Crypt::Came(Box::new(tls));
    }
    let mut is_over = false;
    loop {
        match wire::decode(&first) {
            Ok(None) => is_over |= hear(&mut stream, &mut crypt, &mut first).await?,
            Ok(Some((Said::Tunnel(_), length))) if is_over || first.len() > length => {
                return Err("a tunnel ends, or goes on, before it is answered".to_owned());
            }
            Ok(Some((Said::Tunnel(opening), _))) => {
                let what = What::Visitor(opening, place);
                return Ok(Fresh { stream, crypt, first: Vec::new(), what });
            }
            // Whatever else it is, the core judges it.
            Ok(Some(_)) | Err(_) => return Ok(Fresh { stream, crypt, first, what: What::Came }),
        }
    }
}
