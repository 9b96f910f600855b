//! Links: the connections of one lane on its ring, from connect to close. Knows bytes, not frames.
//!
//! A link lives in the slot of its direct descriptor, which is also its device's place in the crew. The slot is used again only when no
//! operation of its old life is in flight. Output of a turn leaves in one send; an idle link owns no buffer. What is written and what is
//! received is the protocol's bytes, whether links speak TLS, WebSocket or both; what is written before their handshakes are done waits for
//! them.
//!
//! Stages: free -> connecting -> open -> ending -> closing -> free.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use rim::{
    ring::{Completion, Doorbell, Filled, Payload, Ring, SetupError},
    token::{Op, Token},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::devices::Node;
use crate::limits::{BUFFER_KEPT_BYTES, BUFFERS_KEPT, SLOTS_SPARE, SOURCE_CONNECTIONS_MAX, SOURCE_LIVES};
use crate::tls::{Connector, LinkTls, Trust};
use crate::web::{Carrier, Web};

/// Error numbers of Linux that mean something here; the ring gives them as they are.
const ENOBUFS: i32 = 105;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Connecting,
    Open,
    /// Waits until its operations have ended.
    Ending,
    Closing,
}

#[derive(Debug, Default)]
struct Link {
    /// Bytes that wait for the end of the turn, or of the send in flight. Nothing allocated while idle.
    queued: Vec<u8>,
    tls: Option<Box<LinkTls>>,
    /// Above TLS.
    web: Option<Box<Web>>,
    generation: u32,
    stage: Stage,
    is_connecting: bool,
    is_receiving: bool,
    is_sending: bool,
    is_dirty: bool,
    /// Ends when everything queued has been sent.
    ends_when_sent: bool,
}

/// With the ring's place for a send.
const _: () = assert!(size_of::<Link>() + size_of::<Vec<u8>>() <= 80);

impl Link {
    fn has_output(&self) -> bool {
        let has_output = match &self.web {
            None => !self.queued.is_empty(),
            Some(web) => web.has_output(&self.queued),
        };
        match &self.tls {
            None => has_output,
            Some(tls) => tls.has_pending() || (tls.is_open() && has_output),
        }
    }
}

/// What happened to a link.
#[derive(Debug)]
pub enum News {
    /// It is open.
    Connected(u32),
    /// It could not be opened. [`News::Free`] follows.
    Refused(u32, io::Error),
    /// Bytes came: [`Links::receive`].
    Bytes(u32, Bytes),
    /// The other side or the network has ended it. [`News::Free`] follows.
    Lost(u32, String),
    /// The slot is free.
    Free(u32),
}

/// Received bytes that have not been looked at.
#[derive(Debug)]
#[must_use]
pub struct Bytes(Filled);

/// Where connections come from: one pair of addresses has too few ports for a lane.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// Of those to this machine; for others the kernel chooses.
    network: u8,
    lane: usize,
}

impl Sources {
    /// Runs that follow each other use different networks, so that ports of closed connections are free.
    #[must_use]
    pub fn new(run: u64, lane: usize) -> Self {
        Self { network: 64 + (run % 128) as u8, lane }
    }

    /// For a life of a slot that leads there.
    #[must_use]
    pub fn address(&self, target: SocketAddr, slot: usize, generation: u32) -> Option<Ipv4Addr> {
        let groups = crate::limits::LANE_CONNECTIONS_MAX / SOURCE_CONNECTIONS_MAX;
        let group = self.lane * groups + slot / SOURCE_CONNECTIONS_MAX;
        let at = group * SOURCE_LIVES + generation as usize % SOURCE_LIVES;
        is_loopback(target).then(|| Ipv4Addr::new(127, self.network, (at / 250) as u8, (at % 250) as u8 + 1))
    }
}

/// TLS handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// All that are done.
    pub done: u64,
    /// Those that a ticket made short.
    pub resumed: u64,
}

/// The links of one lane.
#[derive(Debug)]
pub struct Links {
    ring: Ring,
    table: Vec<Link>,
    dirty: Vec<u32>,
    spare: Vec<Vec<u8>>,
    completions: Vec<Completion>,
    connector: Option<Connector>,
    carrier: Carrier,
    /// Plaintext of a receive, while it is looked at.
    plain: Vec<u8>,
    /// TLS handshakes done, and those of them that a ticket made short.
    handshakes: Handshakes,
    sources: Sources,
    // The ring rings it when it must; nobody listens, since the lane sleeps in the ring.
    _doorbell: Doorbell,
}

impl Links {
    /// Room for `count` links, which speak TLS if somebody is to be trusted, and carry their bytes like this.
    ///
    /// # Errors
    /// The kernel or the process's limits do not allow it.
    pub fn new(count: usize, sources: Sources, trust: Option<&Trust>, carrier: Carrier) -> Result<Self, SetupError> {
        let doorbell = Doorbell::new().map_err(|error| SetupError::Other { step: "eventfd", error })?;
        let mut ring = Ring::new((count + SLOTS_SPARE) as u32, &doorbell)?;
        ring.disable_doorbell();
        let mut table = Vec::new();
        table.resize_with(count, Link::default);
        Ok(Self {
            ring,
            table,
            dirty: Vec::new(),
            spare: Vec::new(),
            completions: Vec::new(),
            connector: trust.map(|trust| Connector::new(trust, count)),
            carrier,
            plain: Vec::new(),
            handshakes: Handshakes::default(),
            sources,
            _doorbell: doorbell,
        })
    }

    /// TLS handshakes since the last call.
    pub fn take_handshakes(&mut self) -> Handshakes {
        std::mem::take(&mut self.handshakes)
    }

    /// Whether nothing of the slot's last life is left.
    #[must_use]
    pub fn is_free(&self, slot: u32) -> bool {
        self.table[slot as usize].stage == Stage::Free
    }

    /// Opens a link to a node in a free slot. The answer is [`News::Connected`] or [`News::Refused`].
    ///
    /// # Errors
    /// The process or the machine has no socket left for it.
    pub fn connect(&mut self, slot: u32, node: &Node) -> io::Result<()> {
        let link = &mut self.table[slot as usize];
        assert!(link.stage == Stage::Free, "a slot has one life at a time");
        let generation = link.generation.wrapping_add(1);
        let socket = self.sources.socket(node.target, slot as usize, generation)?;
        let tls = match (&self.connector, &node.name) {
            (Some(connector), Some(name)) => Some(connector.begin(slot, name.clone()).map_err(io::Error::other)?),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(io::Error::other("a node with TLS among others without")),
        };
        let web = match self.carrier {
            Carrier::Bytes => None,
            Carrier::WebSocket => Some(Box::new(Web::asking(&node.address, slot ^ generation.rotate_left(16)))),
        };
        self.ring.install(slot, socket)?;
        *link = Link { tls, web, generation, stage: Stage::Connecting, is_connecting: true, ..Link::default() };
        self.ring.connect(slot, generation, node.target);
        Ok(())
    }

    /// Lets `write` append output, which leaves with [`Links::flush`].
    pub fn write<T>(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let link = &mut self.table[slot as usize];
        if link.queued.capacity() == 0 {
            link.queued = self.spare.pop().unwrap_or_default();
        }
        let result = write(&mut link.queued);
        self.written(slot);
        result
    }

    /// Hands received bytes to `take`, together with the place for output. Gives what it says, and why the link is over behind these bytes, if
    /// TLS or WebSocket have ended it.
    pub fn receive<T>(
        &mut self,
        slot: u32,
        bytes: Bytes,
        take: impl FnOnce(&[u8], &mut Vec<u8>) -> T,
    ) -> (T, Option<String>) {
        let link = &mut self.table[slot as usize];
        if link.queued.capacity() == 0 {
            link.queued = self.spare.pop().unwrap_or_default();
        }
        let mut fault = None;
        let received = match (&mut link.tls, &self.connector) {
            (Some(tls), Some(connector)) => {
                connector.turn_to(slot);
                match tls.receive(self.ring.bytes_mut(&bytes.0), &mut self.plain) {
                    Ok(heard) => {
                        self.handshakes.done += u64::from(heard.opened);
                        self.handshakes.resumed += u64::from(heard.opened && tls.is_resumed());
                    }
                    Err(error) => fault = Some(format!("TLS: {error}")),
                }
                &mut self.plain[..]
            }
            // Came before the link was ended.
            (None, Some(_)) => &mut [],
            (_, None) => self.ring.bytes_mut(&bytes.0),
        };
        let received = match &mut link.web {
            None => received,
            Some(web) => web.receive(received).unwrap_or_else(|words| {
                fault = fault.take().or(Some(words));
                &mut []
            }),
        };
        let result = take(received, &mut link.queued);
        self.plain.clear();
        self.ring.give_back(bytes.0);
        self.written(slot);
        if fault.is_some() {
            self.end(slot);
        }
        (result, fault)
    }

    fn written(&mut self, slot: u32) {
        let link = &mut self.table[slot as usize];
        if link.queued.is_empty() || link.stage != Stage::Open {
            keep(&mut self.spare, std::mem::take(&mut link.queued));
        }
        if link.stage == Stage::Open && link.has_output() && !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Ends a link, whatever is under way. [`News::Free`] follows.
    pub fn end(&mut self, slot: u32) {
        let link = &mut self.table[slot as usize];
        let generation = link.generation;
        match link.stage {
            Stage::Connecting | Stage::Open => {
                link.stage = Stage::Ending;
                link.queued = Vec::new();
                link.tls = None;
                let flights =
                    [(Op::Connect, link.is_connecting), (Op::Receive, link.is_receiving), (Op::Send, link.is_sending)];
                for (op, _) in flights.into_iter().filter(|(_, is_in_flight)| *is_in_flight) {
                    self.ring.cancel(Token::new(op, slot, generation));
                }
                self.close_if_quiet(slot);
            }
            Stage::Free | Stage::Ending | Stage::Closing => {}
        }
    }

    /// Ends a link when everything queued has been sent.
    pub fn end_when_sent(&mut self, slot: u32) {
        let link = &mut self.table[slot as usize];
        if let Some(web) = &mut link.web {
            link.queued = web.finish(std::mem::take(&mut link.queued));
        }
        if let Some(tls) = &mut link.tls {
            tls.finish(&std::mem::take(&mut link.queued));
            if tls.has_pending() && !link.is_dirty {
                link.is_dirty = true;
                self.dirty.push(slot);
            }
        }
        if !link.has_output() && !link.is_sending {
            self.end(slot);
        } else {
            link.ends_when_sent = true;
        }
    }

    /// Begins the sends of this turn: one for each link that has output.
    pub fn flush(&mut self) {
        for slot in std::mem::take(&mut self.dirty) {
            let link = &mut self.table[slot as usize];
            link.is_dirty = false;
            if link.stage == Stage::Open && !link.is_sending && link.has_output() {
                link.is_sending = true;
                let is_open = link.tls.as_ref().is_none_or(|tls| tls.is_open());
                let plain = match &mut link.web {
                    _ if !is_open => Vec::new(),
                    None => std::mem::take(&mut link.queued),
                    Some(web) => {
                        let mut framed = self.spare.pop().unwrap_or_default();
                        web.seal(&mut link.queued, &mut framed);
                        if link.queued.is_empty() {
                            keep(&mut self.spare, std::mem::take(&mut link.queued));
                        }
                        framed
                    }
                };
                let bytes = match &mut link.tls {
                    None => plain,
                    Some(tls) => {
                        let mut bytes = self.spare.pop().unwrap_or_default();
                        tls.seal(&plain, &mut bytes);
                        keep(&mut self.spare, plain);
                        bytes
                    }
                };
                self.ring.send(slot, link.generation, bytes);
            }
        }
    }

    /// Hands everything over, sleeps until something has happened, at most for `patience`, and tells it.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn wait(&mut self, patience: Duration, news: &mut Vec<News>) -> io::Result<()> {
        self.ring.submit_and_wait(patience)?;
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.take(&mut completions);
        for completion in completions.drain(..) {
            self.on_completion(completion, news);
        }
        self.completions = completions;
        Ok(())
    }

    fn on_completion(&mut self, Completion { token, result, more, payload }: Completion, news: &mut Vec<News>) {
        let Token { op, slot, generation } = token;
        let Some(link) = self.table.get_mut(slot as usize).filter(|link| link.generation == generation) else {
            // A cancel names no slot and needs no answer. Bytes always find their link: the slot is not used again before.
            debug_assert!(matches!(op, Op::Cancel), "{token:?}");
            return;
        };
        match (op, payload) {
            (Op::Connect, _) => {
                link.is_connecting = false;
                if link.stage == Stage::Connecting && result == 0 {
                    (link.stage, link.is_receiving) = (Stage::Open, true);
                    self.ring.receive(slot, generation);
                    // What TLS says first.
                    self.written(slot);
                    news.push(News::Connected(slot));
                } else if link.stage == Stage::Connecting {
                    link.stage = Stage::Ending;
                    news.push(News::Refused(slot, io::Error::from_raw_os_error(-result)));
                }
            }
            (Op::Receive, payload) => {
                link.is_receiving = more;
                let is_open = link.stage == Stage::Open;
                match payload {
                    Payload::Received(filled) if is_open && result > 0 => news.push(News::Bytes(slot, Bytes(filled))),
                    Payload::Received(filled) => self.ring.give_back(filled),
                    Payload::None | Payload::Accepted(_) | Payload::Returned(_) => {}
                }
                if is_open && !more {
                    if result > 0 || result == -ENOBUFS {
                        self.table[slot as usize].is_receiving = true;
                        self.ring.receive(slot, generation);
                    } else {
                        news.push(News::Lost(slot, in_words(result)));
                        self.end(slot);
                    }
                }
            }
            (Op::Send, Payload::Returned(bytes)) => {
                link.is_sending = false;
                let whole = usize::try_from(result) == Ok(bytes.len());
                keep(&mut self.spare, bytes);
                if link.stage == Stage::Open && !whole {
                    // A short send cannot be: the kernel was told to go on until everything is sent.
                    news.push(News::Lost(slot, in_words(result.min(0))));
                    self.end(slot);
                } else if link.stage == Stage::Open && link.has_output() && !link.is_dirty {
                    link.is_dirty = true;
                    self.dirty.push(slot);
                } else if link.stage == Stage::Open && link.ends_when_sent && !link.has_output() {
                    self.end(slot);
                }
            }
            (Op::Close, _) => {
                link.stage = Stage::Free;
                link.web = None;
                news.push(News::Free(slot));
            }
            _ => {}
        }
        self.close_if_quiet(slot);
    }

    fn close_if_quiet(&mut self, slot: u32) {
        let link = &mut self.table[slot as usize];
        if link.stage == Stage::Ending && !(link.is_connecting || link.is_receiving || link.is_sending) {
            link.stage = Stage::Closing;
            self.ring.close(slot, link.generation);
        }
    }
}

impl Sources {
    fn socket(&self, target: SocketAddr, slot: usize, generation: u32) -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(address) = self.address(target, slot, generation) {
            socket.bind(&SockAddr::from(SocketAddr::from((address, 0))))?;
        }
        Ok(socket.into())
    }
}

fn is_loopback(target: SocketAddr) -> bool {
    matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

fn keep(spare: &mut Vec<Vec<u8>>, mut bytes: Vec<u8>) {
    if bytes.capacity() > 0 && bytes.capacity() <= BUFFER_KEPT_BYTES && spare.len() < BUFFERS_KEPT {
        bytes.clear();
        spare.push(bytes);
    }
}

fn in_words(result: i32) -> String {
    match result {
        0 => "closed by the server".to_owned(),
        error => io::Error::from_raw_os_error(-error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        devices::{Nodes, Redirects},
        limits::LANE_CONNECTIONS_MAX,
        place::Place,
    };

    struct World {
        listener: TcpListener,
        node: Node,
        links: Links,
        seen: Vec<String>,
    }

    fn node(target: SocketAddr) -> Node {
        let first = Place { host: target.ip().to_string(), address: target };
        Nodes::new(&first, None, Redirects::ToThisMachine, 1).unwrap().of(0).clone()
    }

    impl World {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let target = listener.local_addr().unwrap();
            let node = node(target);
            let links = Links::new(4, Sources::new(3, 0), None, Carrier::Bytes).unwrap();
            Self { listener, node, links, seen: Vec::new() }
        }

        /// Takes what happens until the last news begin with these words.
        fn until(&mut self, words: &str) {
            let mut news = Vec::new();
            while !self.seen.last().is_some_and(|last| last.starts_with(words)) {
                self.links.flush();
                self.links.wait(Duration::from_secs(30), &mut news).unwrap();
                for news in news.drain(..) {
                    self.seen.push(match news {
                        News::Connected(slot) => format!("connected {slot}"),
                        News::Refused(slot, error) => format!("refused {slot} {:?}", error.kind()),
                        News::Lost(slot, why) => format!("lost {slot} {why}"),
                        News::Free(slot) => format!("free {slot}"),
                        News::Bytes(slot, bytes) => {
                            let say = |bytes: &[u8], out: &mut Vec<u8>| {
                                out.extend_from_slice(b"!");
                                format!("bytes {slot} {}", String::from_utf8_lossy(bytes))
                            };
                            self.links.receive(slot, bytes, say).0
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn a_link_carries_bytes_both_ways_and_its_slot_is_used_again() {
        let mut world = World::new();
        for _ in 0..3 {
            world.links.connect(2, &world.node).unwrap();
            world.until("connected 2");
            let (mut peer, from) = world.listener.accept().unwrap();
            assert!(from.ip().is_loopback() && from.ip() != world.listener.local_addr().unwrap().ip());
            world.links.write(2, |out| out.extend_from_slice(b"hello"));
            peer.write_all(b"there").unwrap();
            world.until("bytes 2 there");
            world.links.end_when_sent(2);
            world.until("free 2");
            let mut all = String::new();
            peer.read_to_string(&mut all).unwrap();
            assert_eq!(all, "hello!");
        }
    }

    #[test]
    fn a_link_that_the_other_side_closes_is_lost_and_then_free() {
        let mut world = World::new();
        world.links.connect(0, &world.node).unwrap();
        world.until("connected 0");
        drop(world.listener.accept().unwrap());
        world.until("free 0");
        assert_eq!(world.seen, ["connected 0", "lost 0 closed by the server", "free 0"]);
    }

    #[test]
    fn a_link_to_nobody_is_refused_and_then_free() {
        let mut world = World::new();
        let target = world.listener.local_addr().unwrap();
        drop(std::mem::replace(&mut world.listener, TcpListener::bind("127.0.0.1:0").unwrap()));
        world.node = node(target);
        world.links.connect(1, &world.node).unwrap();
        world.until("free 1");
        assert_eq!(world.seen, ["refused 1 ConnectionRefused", "free 1"]);
    }

    #[test]
    fn a_link_can_be_ended_while_it_connects_or_sends_to_somebody_who_does_not_read() {
        let mut world = World::new();
        world.links.connect(0, &world.node).unwrap();
        world.links.end(0);
        world.until("free 0");
        world.links.connect(0, &world.node).unwrap();
        world.until("connected 0");
        world.links.write(0, |out| out.resize(64 << 20, 0));
        world.links.flush();
        world.links.end(0);
        world.until("free 0");
    }

    #[test]
    fn no_source_address_has_more_connections_than_ports() {
        let target = "127.0.0.1:7600".parse().unwrap();
        for lane in [0, 5] {
            let sources = Sources::new(9, lane);
            let mut per_address = std::collections::HashMap::new();
            for slot in 0..LANE_CONNECTIONS_MAX {
                *per_address.entry(sources.address(target, slot, 1).unwrap()).or_insert(0) += 1;
            }
            assert!(per_address.values().all(|count| *count <= SOURCE_CONNECTIONS_MAX));
        }
        let lives = |lane| (0..4).map(move |life| Sources::new(9, lane).address(target, 0, life).unwrap());
        assert_eq!(lives(0).chain(lives(1)).collect::<HashSet<_>>().len(), 8);
        assert!(Sources::new(9, 0).address("192.0.2.1:7600".parse().unwrap(), 0, 0).is_none());
    }
}
