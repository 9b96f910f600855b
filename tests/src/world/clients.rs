//! The world's clients: they connect, say something, and receive what the kernel takes from the server for them.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use proto_spec::{
    ClientFrame, Content, Decoder, DeviceId, ErrorCode, RawFrame, Resume, SendNumber, Seq, ServerFrame, TimestampMs,
    UserId, limits::SERVER_FRAME_BYTES_MAX,
};
use server::{
    access::handshake::Resumption,
    core::{Guest, origins::Origin},
    shard::{ConnId, Grant, topology::CoreId},
};

use super::World;

pub(super) const FOREVER: Grant = Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) };

/// Where all clients come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

/// A connection of the world, by the order of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub usize);

/// What a client has of its connection.
#[derive(Debug)]
pub struct Client {
    pub(super) core: CoreId,
    pub(super) conn: ConnId,
    decoder: Decoder,
    /// Bytes that the kernel has not taken from the server yet.
    pub(super) outbox: VecDeque<u8>,
    /// The client does not read: the kernel takes nothing.
    pub stuck: bool,
    /// The server does not read from this connection.
    pub paused: bool,
    /// Everything received, in order.
    pub frames: Vec<ServerFrame>,
    /// The connection is over. If the server said bye, with this reason.
    pub closed: Option<Option<ErrorCode>>,
}

impl Client {
    /// The client receives up to `bytes_max` of what the server has queued; says how many.
    pub(super) fn receive(&mut self, bytes_max: usize) -> usize {
        let count = self.outbox.len().min(bytes_max);
        let bytes: Vec<u8> = self.outbox.drain(..count).collect();
        let frames = &mut self.frames;
        let result = self.decoder.decode(&bytes, |raw: RawFrame<'_>| {
            frames.push(ServerFrame::decode(raw).expect("the server's frames can be read"));
            ControlFlow::Continue(())
        });
        result.expect("the server's stream can be cut into frames");
        count
    }
}

impl World {
    /// Connects a device and lets everything settle.
    pub fn connect(&mut self, user: u64, device: u64, resume: Resume) -> Link {
        let link = self.connect_only(user, device, resume);
        self.settle();
        link
    }

    /// Connects a device with a token that outlives the test.
    pub fn connect_only(&mut self, user: u64, device: u64, resume: Resume) -> Link {
        self.connect_with(user, device, resume, FOREVER)
    }

    /// Connects a device with a token that grants this: another core has judged it, and its connection comes to its user's home.
    pub fn connect_with(&mut self, user: u64, device: u64, resume: Resume, grant: Grant) -> Link {
        self.connect_from(user, device, Resumption::whole(resume), grant)
    }

    /// Connects a device that says what it holds and how much it wants; lets everything settle.
    pub fn resume(&mut self, user: u64, device: u64, resumption: Resumption) -> Link {
        let link = self.connect_from(user, device, resumption, FOREVER);
        self.settle();
        link
    }

    pub(super) fn connect_from(&mut self, user: u64, device: u64, resumption: Resumption, grant: Grant) -> Link {
        let (user, device, link) = (UserId(user), DeviceId(device), Link(self.clients.len()));
        let core = self.home_of(user);
        let conn = ConnId { slot: self.clients.len() as u32, generation: 1 };
        self.clients.push(Client {
            core,
            conn,
            decoder: Decoder::new(SERVER_FRAME_BYTES_MAX as u32),
            outbox: VecDeque::new(),
            stuck: false,
            paused: false,
            frames: Vec::new(),
            closed: None,
        });
        self.by_conn.insert((core, conn), link);
        // Counted where it was accepted.
        self.cores.common().connections.fetch_add(1, Ordering::Relaxed);
        let (key, origin, taken) = (Arc::from("key"), Origin::default(), self.by_conn.len());
        let (from, ticket, version, peer, rest) = (core, 1, 1, PEER, Vec::new());
        let guest =
            Guest { from, ticket, user, device, version, resumption, grant, key, peer, origin, follows: None, rest };
        self.turn(core, |core, now| core.welcome(now, conn, guest, taken));
        link
    }

    /// The client goes away without a word.
    pub fn disconnect(&mut self, link: Link) {
        let Client { core, conn, .. } = self.clients[link.0];
        self.by_conn.remove(&(core, conn));
        self.clients[link.0].closed = Some(None);
        self.turn(core, |core, now| {
            core.disconnected(now, conn);
            core.closed();
        });
    }

    /// The client sends a frame.
    pub fn frame(&mut self, link: Link, frame: &ClientFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.bytes(link, &bytes);
    }

    /// The client sends bytes.
    pub fn bytes(&mut self, link: Link, bytes: &[u8]) {
        let Client { core, conn, .. } = self.clients[link.0];
        self.turn(core, |core, now| core.bytes(now, conn, bytes));
    }

    /// The client sends a text.
    pub fn send(&mut self, link: Link, number: u64, to: u64, text: &str) {
        let frame =
            ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content: Content::text(text) };
        self.frame(link, &frame);
    }

    /// The client acknowledges.
    pub fn acknowledge(&mut self, link: Link, seq: u64) {
        self.frame(link, &ClientFrame::Acknowledge { seq: Seq(seq) });
    }

    /// Takes what a client has received since the last call.
    pub fn take(&mut self, link: Link) -> Vec<ServerFrame> {
        std::mem::take(&mut self.clients[link.0].frames)
    }

    /// The kernel takes up to `bytes_max` from the server for this client; says whether it were any.
    pub fn drain(&mut self, link: Link, bytes_max: usize) -> bool {
        self.drain_some(link, bytes_max) > 0
    }

    /// Bytes that wait in the server for this client.
    #[must_use]
    pub fn waiting(&self, link: Link) -> usize {
        self.clients[link.0].outbox.len()
    }
}
