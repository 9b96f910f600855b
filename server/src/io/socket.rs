//! Connections: the client sockets of one core, from accept to close.
//!
//! A connection lives in the slot of its direct descriptor. The slot is free again only when no operation of its old
//! life is in flight, so a completion always finds the connection that it belongs to. An idle connection owns no buffer.
//!
//! Stages: greeting -> serving -> flushing -> lingering -> ending -> (slot free); with WebSocket flushing -> awaiting -> flushing again; greeting -> leaving -> ending when the
//! home is another core; greeting -> tunnelled, and on as from serving, when another node serves the client through this one, or what it asks for is for `pages` to answer; any -> ending when the peer or the network ends it.
//!
//! Here: the table of connections, their way to serving, and what is received. How bytes travel
//! is `stream`'s, bytes to clients are `output`'s, the way from flushing to the free slot is `ending`'s.

mod ending;
mod output;
mod stream;

use std::collections::VecDeque;

use proto_spec::UserId;
use rim::{
    ring::Ring,
    token::{Op, Token},
};

use crate::{
    core::origins::Origin,
    shard::{ConnId, ReadState},
};
pub use output::Sent;
pub use stream::{End, Heard, NoUpgrade, Stream};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nobody is here.
    #[default]
    Free,
    /// The hello is not whole.
    Greeting,
    /// On its way to another core.
    Leaving,
    /// The shard's.
    Serving,
    /// Another node's, or that of `pages`, through a tunnel.
    Tunnelled,
    /// Sends what is left and takes no more.
    Flushing,
    /// Has told the peer of the end by WebSocket, and waits for the answer.
    Awaiting,
    /// Everything is sent; waits for the peer to close its side.
    Lingering,
    /// Waits until its operations have ended.
    Ending,
    /// The descriptor is being closed.
    Closing,
}

/// A connection. Small: a core holds hundreds of thousands.
#[derive(Debug, Default)]
struct Conn {
    /// Bytes that wait for the send in flight to end, not encrypted. Nothing allocated while idle.
    queued: Vec<u8>,
    stream: Stream,
    user: UserId,
    origin: Origin,
    generation: u32,
    stage: Stage,
    /// A receive is in flight.
    receiving: bool,
    /// A send is in flight; the ring has its bytes.
    sending: bool,
    /// A shutdown or a move is in flight. The kernel may look the slot up only when it gets to it.
    parting: bool,
    /// The shard does not want its bytes.
    paused: bool,
    /// It is in `dirty`.
    dirty: bool,
    /// The peer has ended its sending half.
    ended: bool,
}

/// What an idle connection costs the rim: this, and the ring's place for a send.
const _: () = assert!(size_of::<Conn>() + size_of::<Vec<u8>>() <= 100);

impl Conn {
    fn wants_bytes(&self) -> bool {
        match self.stage {
            // What is said to it first has left before more is read: so no send is in flight when the connection goes to another core.
            Stage::Greeting => !self.sending && !self.dirty,
            Stage::Serving | Stage::Tunnelled | Stage::Flushing => !self.paused && !self.ended,
            Stage::Awaiting | Stage::Lingering => !self.ended,
            Stage::Free | Stage::Leaving | Stage::Ending | Stage::Closing => false,
        }
    }

    /// Whether no operation is in flight.
    fn is_quiet(&self) -> bool {
        !self.receiving && !self.sending && !self.parting
    }

    fn has_output(&self) -> bool {
        !self.queued.is_empty() || self.stream.has_output()
    }

    fn invariants(&self) {
        debug_assert!(!matches!(self.stage, Stage::Free | Stage::Closing) || self.is_quiet());
        debug_assert!(self.stage != Stage::Lingering || !self.has_output());
    }
}

/// What a receive means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes of the handshake.
    Hello,
    /// Bytes for the shard.
    Bytes,
    /// Bytes for the other end of a tunnel.
    Tunnelled,
    /// Bytes behind the end, among which may be the answer to it.
    Farewell,
    /// Nothing, or bytes that nobody wants any more.
    Nothing,
    /// There was no free buffer.
    Starved,
    /// The peer or the network ended the connection while it was in this stage.
    Gone(Stage),
}

/// All connections of one core.
#[derive(Debug, Default)]
pub struct Connections {
    table: Vec<Conn>,
    open: usize,
    tls: usize,
    websocket: usize,
    /// Connections that got output in this turn.
    dirty: Vec<ConnId>,
    /// When flushing connections are cut. In order, since all have the same time; those that are past it are passed over.
    flush_deadlines: VecDeque<(u64, ConnId)>,
    /// When lingering connections are cut; likewise. A queue of their own: behind the longer time they would get it too.
    linger_deadlines: VecDeque<(u64, ConnId)>,
    /// Connections whose descriptor is to be closed.
    to_close: VecDeque<ConnId>,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnId>,
    /// Send buffers to reuse.
    spare: Vec<Vec<u8>>,
}

impl Connections {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many slots are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether no slot is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// How many connections speak TLS.
    #[must_use]
    pub fn tls_len(&self) -> usize {
        self.tls
    }

    /// How many connections speak WebSocket, or have to.
    #[must_use]
    pub fn websocket_len(&self) -> usize {
        self.websocket
    }

    /// All connections in one of the stages before their end.
    pub fn living(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.table.iter().enumerate().filter_map(|(slot, conn)| match conn.stage {
            Stage::Free | Stage::Ending | Stage::Closing => None,
            _ => Some(ConnId { slot: slot as u32, generation: conn.generation }),
        })
    }

    /// A new connection in the slot that the kernel chose. The slot's close may not have been heard of yet: the kernel
    /// frees a slot when it carries out the close, and promises nothing about the order of completions.
    pub fn open(&mut self, slot: u32, origin: Origin) -> ConnId {
        let index = slot as usize;
        if self.table.len() <= index {
            self.table.resize_with(index + 1, Conn::default);
        }
        let conn = &mut self.table[index];
        match conn.stage {
            Stage::Free => {}
            Stage::Closing => self.open -= 1,
            stage => panic!("the kernel gave slot {slot}, which is {stage:?}"),
        }
        *conn = Conn { generation: conn.generation.wrapping_add(1), stage: Stage::Greeting, origin, ..Conn::default() };
        self.open += 1;
        ConnId { slot, generation: self.table[index].generation }
    }

    /// The stage of a connection; `Free` when its life is over.
    #[must_use]
    pub fn stage(&self, conn: ConnId) -> Stage {
        match self.table.get(conn.slot as usize) {
            Some(found) if found.generation == conn.generation => found.stage,
            _ => Stage::Free,
        }
    }

    /// Whose connection it is; zero before the hello.
    #[must_use]
    pub fn user(&self, conn: ConnId) -> UserId {
        self.get(conn).map_or(UserId(0), |conn| conn.user)
    }

    /// From now on a connection's bytes travel by this stream.
    pub fn set_stream(&mut self, conn: ConnId, stream: Stream) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert!(found.stream.is_plain() && found.queued.is_empty(), "a connection begins with it");
            let (is_tls, is_websocket) = (stream.is_tls(), stream.is_websocket());
            found.stream = stream;
            self.tls += usize::from(is_tls);
            self.websocket += usize::from(is_websocket);
        }
    }

    /// The stream of a connection.
    pub fn stream(&mut self, conn: ConnId) -> Option<&mut Stream> {
        Some(&mut self.get_mut(conn)?.stream)
    }

    /// A connection goes on without TLS.
    pub fn drop_tls(&mut self, conn: ConnId) {
        let Some(stream) = self.stream(conn) else { return };
        let had_tls = stream.is_tls();
        stream.drop_tls();
        self.tls -= usize::from(had_tls);
    }

    /// Takes the stream of a connection that is over here.
    pub fn take_stream(&mut self, conn: ConnId) -> Stream {
        let stream = self.stream(conn).map(std::mem::take).unwrap_or_default();
        self.tls -= usize::from(stream.is_tls());
        self.websocket -= usize::from(stream.is_websocket());
        stream
    }

    /// Where a connection comes from.
    #[must_use]
    pub fn origin(&self, conn: ConnId) -> Origin {
        self.get(conn).map_or_else(Origin::default, |conn| conn.origin)
    }

    /// It is known now where a connection comes from.
    pub fn locate(&mut self, conn: ConnId, origin: Origin) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert!(found.stage == Stage::Greeting && found.origin == Origin::default(), "it counts nowhere yet");
            found.origin = origin;
        }
    }

    /// Receives for the handshake: at its start, and again after each part of a hello that has been judged.
    pub fn greet(&mut self, conn: ConnId, ring: &mut Ring) {
        self.arm(conn, ring);
    }

    /// The hello was good and this core is the user's home.
    pub fn serve(&mut self, conn: ConnId, user: UserId, ring: &mut Ring) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert_eq!(found.stage, Stage::Greeting);
            found.stage = Stage::Serving;
            found.user = user;
            self.arm(conn, ring);
        }
    }

    /// Somebody else than this core serves it, through a tunnel: nothing more is read until that is open.
    pub fn tunnel(&mut self, conn: ConnId) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert!(found.stage == Stage::Greeting && !found.receiving, "hellos are received one by one");
            found.stage = Stage::Tunnelled;
            found.paused = true;
        }
    }

    /// Whether bytes wait to leave, or are leaving.
    #[must_use]
    pub fn has_output(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|found| found.sending || !found.queued.is_empty())
    }

    /// The hello was good and another core is the user's home: nothing more is read here. The caller begins the move.
    pub fn leave(&mut self, conn: ConnId) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert!(found.stage == Stage::Greeting && !found.receiving, "hellos are received one by one");
            debug_assert!(!found.sending, "what was said before the hello has left before that was read");
            found.stage = Stage::Leaving;
            found.parting = true;
        }
    }

    /// A receive has completed.
    pub fn received(&mut self, token: Token, result: i32, more: bool) -> Received {
        let conn = conn_of(token);
        let Some(found) = self.get_mut(conn) else {
            debug_assert!(false, "a slot is freed after its operations have ended");
            return Received::Nothing;
        };
        if !more {
            found.receiving = false;
        }
        let stage = found.stage;
        match (result, stage) {
            (1.., Stage::Greeting) => Received::Hello,
            (1.., Stage::Serving) => Received::Bytes,
            (1.., Stage::Tunnelled) => Received::Tunnelled,
            (1.., Stage::Flushing | Stage::Awaiting) if found.stream.is_websocket() => Received::Farewell,
            (1.., _) => Received::Nothing,
            (0, Stage::Flushing) => {
                // It may still read what is left for it.
                found.ended = true;
                Received::Nothing
            }
            (0, Stage::Ending) => Received::Nothing,
            (_, Stage::Ending) => Received::Nothing,
            (error, _) if error == -libc::ENOBUFS => {
                self.starved.push_back(conn);
                Received::Starved
            }
            (error, _) if error == -libc::ECANCELED => Received::Nothing,
            _ => Received::Gone(stage),
        }
    }

    /// After a receive: receives again if that is wanted and not under way, and goes on with an end that waited for it.
    pub fn after_receive(&mut self, token: Token, starved: bool, ring: &mut Ring) {
        let conn = conn_of(token);
        if !starved {
            self.arm(conn, ring);
        }
        self.close_if_quiet(conn);
    }

    /// Receives for as many starved connections as there are buffers.
    pub fn feed_starved(&mut self, ring: &mut Ring) {
        let mut free = ring.free_buffers();
        while free > 0
            && let Some(conn) = self.starved.pop_front()
        {
            self.arm(conn, ring);
            free -= 1;
        }
    }

    /// The shard wants, or does not want, a connection's bytes.
    pub fn set_reading(&mut self, conn: ConnId, state: ReadState, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        found.paused = state == ReadState::Paused;
        if found.paused && found.receiving && matches!(found.stage, Stage::Serving | Stage::Tunnelled) {
            ring.cancel(Token::new(Op::Receive, conn.slot, conn.generation));
        }
        self.arm(conn, ring);
    }

    /// Receives if that is wanted and not under way.
    fn arm(&mut self, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.wants_bytes() && !found.receiving {
            found.receiving = true;
            match found.stage {
                Stage::Greeting => ring.receive_once(conn.slot, conn.generation),
                _ => ring.receive(conn.slot, conn.generation),
            }
        }
    }

    fn get(&self, conn: ConnId) -> Option<&Conn> {
        let found = self.table.get(conn.slot as usize)?;
        (found.generation == conn.generation && found.stage != Stage::Free).then_some(found)
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        let found = self.table.get_mut(conn.slot as usize)?;
        (found.generation == conn.generation && found.stage != Stage::Free).then_some(found)
    }
}

/// The connection that a token is about.
#[must_use]
pub fn conn_of(token: Token) -> ConnId {
    ConnId { slot: token.slot, generation: token.generation }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use rustls::{client::UnbufferedClientConnection, pki_types::ServerName};

    use super::*;
    use crate::{
        access::upgrade::Pages,
        files::certificate::{Tickets, testing::Files},
    };
    use rim::{
        ring::{Completion, Doorbell, Payload},
        tls::{ServerTls, Tls},
    };

    /// The client's end of TLS.
    pub(super) type ClientTls = Tls<UnbufferedClientConnection>;

    const REQUEST: &[u8] = b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: ringpost.v1\r\n\r\n";

    /// The connections of a core without its shard. Time stands still unless a test moves it.
    pub(super) struct World {
        pub(super) ring: Ring,
        pub(super) connections: Connections,
        listener: TcpListener,
        /// What happened to connections, in order.
        pub(super) received: Vec<(ConnId, Vec<u8>)>,
        pub(super) taken: usize,
        pub(super) sends: usize,
        gone: Vec<Stage>,
    }

    impl World {
        pub(super) fn new() -> Self {
            let ring = Ring::new(64, &Doorbell::new().unwrap()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connections = Connections::new();
            let (received, gone) = (Vec::new(), Vec::new());
            Self { ring, connections, listener, received, taken: 0, sends: 0, gone }
        }

        /// A connection that is served, and its client.
        pub(super) fn connect(&mut self) -> (TcpStream, ConnId) {
            self.ring.accept(self.listener.as_fd(), 0);
            self.ring.submit().unwrap();
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let before = self.connections.len();
            self.until(|world| world.connections.len() > before);
            let conn = self.connections.living().last().unwrap();
            self.connections.serve(conn, UserId(7), &mut self.ring);
            (client, conn)
        }

        /// A connection that is served by WebSocket, and its client, which has read the answer.
        pub(super) fn connect_websocket(&mut self) -> (TcpStream, ConnId) {
            let (mut client, conn) = self.connect();
            self.connections.set_stream(conn, Stream::new(None, true));
            self.upgrade(conn);
            let mut answer = vec![0; 4_096];
            let length = client.read(&mut answer).unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 101 ") && answer[..length].ends_with(b"\r\n\r\n"));
            assert_eq!(self.taken, 0, "that is none of the shard's");
            (client, conn)
        }

        /// The request of a connection that speaks WebSocket has come, and its answer has left.
        fn upgrade(&mut self, conn: ConnId) {
            let pages = Pages { origins: &[], is_tls: false };
            assert_eq!(self.connections.request(conn, REQUEST, pages), None);
            let sends = self.sends;
            self.until(|world| world.sends > sends);
        }

        /// A connection that is served by TLS, the client's end of it, and its socket.
        pub(super) fn connect_tls(&mut self) -> (TcpStream, ConnId, ClientTls) {
            self.connect_over_tls(false)
        }

        /// Likewise, by WebSocket within TLS. The client has read the answer.
        pub(super) fn connect_wss(&mut self) -> (TcpStream, ConnId, ClientTls) {
            let (mut socket, conn, mut client) = self.connect_over_tls(true);
            self.upgrade(conn);
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut bytes = [0; 4_096];
                let count = socket.read(&mut bytes).unwrap();
                client.receive(&mut bytes[..count], &mut answer).unwrap();
            }
            (socket, conn, client)
        }

        fn connect_over_tls(&mut self, speaks_websocket: bool) -> (TcpStream, ConnId, ClientTls) {
            let files = Files::new();
            let mut server = ServerTls::accept(files.server(&Tickets::new().unwrap())).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = Tls::new(UnbufferedClientConnection::new(files.client(&[]), name).unwrap());
            let mut bytes = Vec::new();
            while !server.is_open() {
                client.receive(&mut bytes, &mut Vec::new()).unwrap();
                let mut answer = Vec::new();
                client.seal(b"", &mut answer);
                server.receive(&mut answer, &mut Vec::new()).unwrap();
                bytes = Vec::new();
                if !server.is_open() {
                    server.seal(b"", &mut bytes);
                }
            }
            let (socket, conn) = self.connect();
            self.connections.set_stream(conn, Stream::new(Some(Box::new(server)), speaks_websocket));
            (socket, conn, client)
        }

        pub(super) fn until(&mut self, done: impl Fn(&Self) -> bool) {
            while !done(self) {
                self.connections.flush(0, &mut self.ring);
                self.connections.begin_closes(&mut self.ring, drop);
                self.ring.wait().unwrap();
                let mut completions = Vec::new();
                self.ring.take(&mut completions);
                for completion in completions {
                    self.on(completion);
                }
                self.ring.submit().unwrap();
            }
        }

        fn on(&mut self, Completion { token, result, more, payload }: Completion) {
            match (token.op, payload) {
                (Op::Accept, _) => _ = self.connections.open(result.try_into().unwrap(), Origin::default()),
                (Op::Receive, payload) => {
                    let received = self.connections.received(token, result, more);
                    if let Payload::Received(filled) = payload {
                        let bytes = self.ring.bytes(&filled).to_vec();
                        match received {
                            Received::Bytes => self.received.push((conn_of(token), bytes)),
                            Received::Farewell => self.connections.farewell(0, conn_of(token), bytes, &mut self.ring),
                            _ => {}
                        }
                        self.ring.give_back(filled);
                    }
                    if let Received::Gone(stage) = received {
                        self.gone.push(stage);
                        self.connections.abandon(conn_of(token), &mut self.ring);
                    }
                    self.connections.after_receive(token, received == Received::Starved, &mut self.ring);
                }
                (Op::Send, Payload::Returned(bytes)) => {
                    self.sends += 1;
                    match self.connections.sent(0, token, result, bytes, &mut self.ring) {
                        Sent::Taken(bytes) => self.taken += bytes,
                        Sent::Broken(stage) => self.gone.push(stage),
                    }
                }
                (Op::Shutdown, _) => self.connections.parted(token),
                (Op::Close, _) => self.connections.closed(token),
                _ => {}
            }
        }
    }

    #[test]
    fn a_paused_connection_is_not_read_and_goes_on_where_it_was() {
        let mut world = World::new();
        let (mut client, conn) = world.connect();
        client.write_all(b"a").unwrap();
        world.until(|world| world.received.len() == 1);
        world.connections.set_reading(conn, ReadState::Paused, &mut world.ring);
        world.until(|world| !world.connections.table[conn.slot as usize].receiving);
        client.write_all(b"b").unwrap();
        // Another connection's bytes pass it by.
        let (mut other, other_conn) = world.connect();
        other.write_all(b"c").unwrap();
        world.until(|world| world.received.len() == 2);
        assert_eq!(world.received[1], (other_conn, b"c".to_vec()));
        world.connections.set_reading(conn, ReadState::Reading, &mut world.ring);
        world.until(|world| world.received.len() == 3);
        assert_eq!(world.received[2], (conn, b"b".to_vec()));
    }

    #[test]
    fn a_connection_resumed_before_its_pause_has_taken_effect_is_read_again() {
        let mut world = World::new();
        let (mut client, conn) = world.connect();
        world.ring.submit().unwrap();
        world.connections.set_reading(conn, ReadState::Paused, &mut world.ring);
        world.connections.set_reading(conn, ReadState::Reading, &mut world.ring);
        client.write_all(b"a").unwrap();
        world.until(|world| world.received == [(conn, b"a".to_vec())]);
    }

    #[test]
    fn what_is_meant_for_an_old_life_of_a_slot_does_not_reach_the_new_one() {
        let mut world = World::new();
        let (client, old) = world.connect();
        drop(client);
        world.until(|world| world.connections.is_empty());
        assert_eq!(world.gone, [Stage::Serving]);
        // The kernel gives the lowest free slot after the last one it gave: fill up until it comes round.
        let mut clients = Vec::new();
        let new = loop {
            let (client, conn) = world.connect();
            clients.push(client);
            if conn.slot == old.slot {
                break conn;
            }
        };
        assert_ne!(new.generation, old.generation);
        world.connections.queue(old, b"secret");
        world.connections.close(0, old, &mut world.ring);
        assert_eq!(world.connections.stage(new), Stage::Serving);
        world.connections.queue(new, b"hello");
        world.until(|world| world.taken == 5);
    }
}
