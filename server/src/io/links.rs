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
    time::Duration,
};

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
    limits::{LINK_GREETING_MS, LINK_READ_BYTES, LISTEN_RETRY_MS},
    shard::topology::NodeId,
};

/// What has happened to the links of a core.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection is there: dialled, or of somebody who has come.
    Began(LinkId, Option<NodeId>),
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
#[derive(Debug, Default)]
struct Wires {
    out: RefCell<Vec<u8>>,
    /// Something is to be sent, or the link is to be closed.
    send: Notify,
    /// Once everything has been sent.
    is_closing: Cell<bool>,
    /// What was read last has been taken.
    read_on: Notify,
}

#[derive(Debug)]
struct Socket {
    wires: Rc<Wires>,
    reader: JoinHandle<()>,
}

/// A connection, and the node that was dialled.
type Fresh = (TcpStream, Option<NodeId>);

/// The links' sockets of one core. Made and used on its thread.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    happened: Rc<Happened>,
    sockets: HashMap<LinkId, Socket>,
    /// New connections, before the core knows them.
    fresh: Rc<RefCell<VecDeque<Fresh>>>,
    last: u64,
}

impl Sockets {
    /// Takes in whoever comes to this socket, for as long as the runtime lives.
    pub(super) fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        tokio_uring::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        fresh.borrow_mut().push_back((stream, None));
                        happened.woken.notify_one();
                    }
                    // Too many files, for instance: it may be better soon.
                    Err(_) => tokio::time::sleep(Duration::from_millis(LISTEN_RETRY_MS)).await,
                }
            }
        });
        Ok(())
    }

    /// Connects to a node.
    pub(super) fn dial(&self, node: NodeId, address: SocketAddr) {
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        tokio_uring::spawn(async move {
            let patience = Duration::from_millis(LINK_GREETING_MS);
            let failed = match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    fresh.borrow_mut().push_back((stream, Some(node)));
                    happened.woken.notify_one();
                    return;
                }
                Ok(Err(error)) => format!("{address}: {error}"),
                Err(_) => format!("{address}: no answer in {LINK_GREETING_MS} ms"),
            };
            happened.push(Event::NotReached(node, failed));
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
        self.send(link, last_words);
        if let Some(Socket { wires, reader }) = self.sockets.remove(&link) {
            reader.abort();
            wires.is_closing.set(true);
            wires.send.notify_one();
        }
    }

    /// The next thing that has happened.
    pub(super) fn take(&mut self) -> Option<Event> {
        let fresh = self.fresh.borrow_mut().pop_front();
        if let Some((stream, dialled)) = fresh {
            return Some(self.begin(stream, dialled));
        }
        loop {
            let event = self.happened.queue.borrow_mut().pop_front()?;
            match &event {
                Event::NotReached(..) => return Some(event),
                Event::Bytes(link, _) | Event::Sent(link, _) | Event::Ended(link, _) | Event::Began(link, _) => {
                    // What was cut is heard no more.
                    let Some(Socket { wires, .. }) = self.sockets.get(link) else { continue };
                    wires.read_on.notify_one();
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

    fn begin(&mut self, stream: TcpStream, dialled: Option<NodeId>) -> Event {
        self.last += 1;
        let id = LinkId(self.last);
        // Nothing is gained by waiting: a turn's output is one write. If the kernel refuses, it is slower.
        let _ = stream.set_nodelay(true);
        let (from, to) = stream.into_split();
        let wires = Rc::<Wires>::default();
        let reader = tokio_uring::spawn(read(id, from, Rc::clone(&wires), Rc::clone(&self.happened)));
        tokio_uring::spawn(write(id, to, Rc::clone(&wires), Rc::clone(&self.happened)));
        self.sockets.insert(id, Socket { wires, reader });
        Event::Began(id, dialled)
    }
}

async fn read(id: LinkId, mut from: OwnedReadHalf, wires: Rc<Wires>, happened: Rc<Happened>) {
    let why = loop {
        let mut bytes = Vec::with_capacity(LINK_READ_BYTES);
        match from.read_buf(&mut bytes).await {
            Ok(0) => break "the other node has closed it".to_owned(),
            Ok(_) => {
                happened.push(Event::Bytes(id, bytes));
                wires.read_on.notified().await;
            }
            Err(error) => break error.to_string(),
        }
    };
    happened.push(Event::Ended(id, why));
}

async fn write(id: LinkId, mut to: OwnedWriteHalf, wires: Rc<Wires>, happened: Rc<Happened>) {
    loop {
        let bytes = std::mem::take(&mut *wires.out.borrow_mut());
        if bytes.is_empty() {
            if wires.is_closing.get() {
                // It is closed when both halves are dropped; whoever reads has been ended.
                let _ = to.shutdown().await;
                return;
            }
            wires.send.notified().await;
            continue;
        }
        if let Err(error) = to.write_all(&bytes).await {
            return happened.push(Event::Ended(id, error.to_string()));
        }
        happened.push(Event::Sent(id, bytes.len()));
    }
}
