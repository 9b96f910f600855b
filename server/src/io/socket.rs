//! Connections: the client sockets of one core, from accept to close.
//!
//! A connection lives in the slot of its direct descriptor. The slot is free again only when no operation of its old
//! life is in flight, so a completion always finds the connection that it belongs to. An idle connection owns no buffer.
//!
//! Stages: greeting -> serving -> flushing -> lingering -> ending -> (slot free); greeting -> leaving -> ending when the
//! home is another core; any -> ending when the peer or the network ends it.

use std::collections::VecDeque;

use proto_spec::UserId;

use super::{
    origins::Origin,
    ring::Ring,
    token::{Op, Token},
};
use crate::{
    limits::{
        CLOSE_FLUSH_MS, CLOSE_LINGER_MS, CLOSES_TURN_MIN, CLOSES_TURN_SHARE, OUTPUT_BUFFER_KEPT_BYTES,
        OUTPUT_BUFFERS_KEPT,
    },
    shard::{ConnId, ReadState},
};

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
    /// Sends what is left and takes no more.
    Flushing,
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
    /// Bytes that wait for the send in flight to end. Nothing allocated while idle.
    queued: Vec<u8>,
    user: UserId,
    origin: Origin,
    generation: u32,
    stage: Stage,
    /// A receive is in flight.
    receiving: bool,
    /// A send is in flight; the ring has its bytes.
    sending: bool,
    /// A shutdown or a move is in flight. The kernel may look the slot up only when it gets to it.
    settling: bool,
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
            Stage::Greeting => true,
            Stage::Serving | Stage::Flushing => !self.paused && !self.ended,
            Stage::Lingering => !self.ended,
            Stage::Free | Stage::Leaving | Stage::Ending | Stage::Closing => false,
        }
    }

    /// Whether no operation is in flight.
    fn is_quiet(&self) -> bool {
        !self.receiving && !self.sending && !self.settling
    }

    fn invariants(&self) {
        debug_assert!(!matches!(self.stage, Stage::Free | Stage::Closing) || self.is_quiet());
        debug_assert!(self.stage != Stage::Lingering || self.queued.is_empty());
    }
}

/// What a receive means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes of the handshake.
    Hello,
    /// Bytes for the shard.
    Bytes,
    /// Nothing, or bytes that nobody wants any more.
    Nothing,
    /// There was no free buffer.
    Starved,
    /// The peer or the network ended the connection while it was in this stage.
    Gone(Stage),
}

/// What a send means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took this many bytes.
    Taken(usize),
    /// The connection is broken; it was in this stage.
    Broken(Stage),
}

/// All connections of one core.
#[derive(Debug, Default)]
pub struct Connections {
    table: Vec<Conn>,
    open: usize,
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

    /// Where a connection comes from.
    #[must_use]
    pub fn origin(&self, conn: ConnId) -> Origin {
        self.get(conn).map_or_else(Origin::default, |conn| conn.origin)
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

    /// The hello was good and another core is the user's home: nothing more is read here. The caller begins the move.
    pub fn leave(&mut self, conn: ConnId) {
        if let Some(found) = self.get_mut(conn) {
            debug_assert!(found.stage == Stage::Greeting && !found.receiving, "hellos are received one by one");
            found.stage = Stage::Leaving;
            found.settling = true;
        }
    }

    /// A shutdown or a move has completed.
    pub fn settled(&mut self, token: Token) {
        let conn = conn_of(token);
        if let Some(found) = self.get_mut(conn) {
            found.settling = false;
            self.close_if_quiet(conn);
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
        if found.paused && found.receiving && found.stage == Stage::Serving {
            ring.cancel(Token::new(Op::Receive, conn.slot, conn.generation));
        }
        self.arm(conn, ring);
    }

    /// Output for a connection; leaves with the next [`Connections::flush`].
    pub fn queue(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(found) = self.table.get_mut(conn.slot as usize) else { return };
        if found.generation != conn.generation
            || !matches!(found.stage, Stage::Greeting | Stage::Leaving | Stage::Serving)
        {
            return;
        }
        if found.queued.capacity() == 0 {
            found.queued = self.spare.pop().unwrap_or_default();
        }
        found.queued.extend_from_slice(bytes);
        if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// One send for every connection that has output and none under way.
    pub fn flush(&mut self, ring: &mut Ring) {
        while let Some(conn) = self.dirty.pop() {
            let Some(found) = self.get_mut(conn) else { continue };
            found.dirty = false;
            let sends = matches!(found.stage, Stage::Greeting | Stage::Serving | Stage::Flushing);
            if sends && !found.sending && !found.queued.is_empty() {
                found.sending = true;
                ring.send(conn.slot, conn.generation, std::mem::take(&mut found.queued));
            }
        }
    }

    /// A send has completed and given its bytes back.
    pub fn sent(&mut self, now_ms: u64, token: Token, result: i32, mut bytes: Vec<u8>, ring: &mut Ring) -> Sent {
        let conn = conn_of(token);
        let Some(found) = self.get_mut(conn) else {
            debug_assert!(false, "a slot is freed after its operations have ended");
            return Sent::Taken(0);
        };
        found.sending = false;
        let stage = found.stage;
        let taken = usize::try_from(result).unwrap_or_default();
        if stage == Stage::Ending || taken == 0 {
            self.reuse(bytes);
            self.abandon(conn, ring);
            return if stage == Stage::Ending { Sent::Taken(taken) } else { Sent::Broken(stage) };
        }
        if taken < bytes.len() {
            bytes.drain(..taken);
            bytes.append(&mut found.queued);
            let queued = std::mem::replace(&mut found.queued, bytes);
            self.reuse(queued);
        } else {
            self.reuse(bytes);
        }
        let found = &mut self.table[conn.slot as usize];
        if found.queued.is_empty() {
            if stage == Stage::Flushing {
                self.linger(now_ms, conn, ring);
            }
        } else if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
        Sent::Taken(taken)
    }

    /// Closes a connection once its queued bytes are sent, or cuts it when that takes too long.
    pub fn close(&mut self, now_ms: u64, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if !matches!(found.stage, Stage::Greeting | Stage::Leaving | Stage::Serving) {
            return;
        }
        found.stage = Stage::Flushing;
        if found.queued.is_empty() && !found.sending {
            self.linger(now_ms, conn, ring);
        } else {
            self.flush_deadlines.push_back((now_ms + CLOSE_FLUSH_MS, conn));
        }
    }

    /// Ends a connection at once: nothing more is sent.
    pub fn abandon(&mut self, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if matches!(found.stage, Stage::Free | Stage::Closing) {
            return;
        }
        if found.stage != Stage::Ending {
            if found.receiving {
                let op = if found.stage == Stage::Greeting { Op::Hello } else { Op::Receive };
                ring.cancel(Token::new(op, conn.slot, conn.generation));
                if found.stage != Stage::Greeting {
                    // A receive of the handshake may have outlived it.
                    ring.cancel(Token::new(Op::Hello, conn.slot, conn.generation));
                }
            }
            if found.sending {
                ring.cancel(Token::new(Op::Send, conn.slot, conn.generation));
            }
            found.stage = Stage::Ending;
        }
        let queued = std::mem::take(&mut found.queued);
        self.reuse(queued);
        self.close_if_quiet(conn);
    }

    /// The descriptor is closed: the slot is free, unless the next connection is in it already.
    pub fn closed(&mut self, token: Token) {
        if let Some(found) = self.get_mut(conn_of(token)) {
            debug_assert_eq!(found.stage, Stage::Closing);
            found.stage = Stage::Free;
            found.invariants();
            self.open -= 1;
        }
    }

    /// Cuts connections whose time to close is over. Says how many.
    pub fn cut_late(&mut self, now_ms: u64, ring: &mut Ring) -> u64 {
        let mut cut = 0;
        while let Some(conn) = take_due(&mut self.flush_deadlines, now_ms) {
            if self.stage(conn) == Stage::Flushing {
                cut += 1;
                self.abandon(conn, ring);
            }
        }
        while let Some(conn) = take_due(&mut self.linger_deadlines, now_ms) {
            if self.stage(conn) == Stage::Lingering {
                self.abandon(conn, ring);
            }
        }
        cut
    }

    /// Everything is sent: says so to the peer, and waits for it to close its side.
    fn linger(&mut self, now_ms: u64, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.ended {
            self.abandon(conn, ring);
            return;
        }
        found.stage = Stage::Lingering;
        found.settling = true;
        ring.shutdown_write(conn.slot, conn.generation);
        self.linger_deadlines.push_back((now_ms + CLOSE_LINGER_MS, conn));
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

    fn close_if_quiet(&mut self, conn: ConnId) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.stage == Stage::Ending && found.is_quiet() {
            found.stage = Stage::Closing;
            found.invariants();
            self.to_close.push_back(conn);
        }
    }

    /// Closes some of those whose time has come. The kernel takes a descriptor apart within the submitting call, so a crowd
    /// that leaves at once is seen off over several turns. Says where each came from.
    pub fn begin_closes(&mut self, ring: &mut Ring, mut leave: impl FnMut(Origin)) {
        let waiting = self.to_close.len();
        let count = waiting.min(CLOSES_TURN_MIN.max(waiting / CLOSES_TURN_SHARE));
        for conn in self.to_close.drain(..count) {
            leave(self.table[conn.slot as usize].origin);
            ring.close(conn.slot, conn.generation);
        }
    }

    /// Whether [`Connections::begin_closes`] has more to do.
    #[must_use]
    pub fn has_closes(&self) -> bool {
        !self.to_close.is_empty()
    }

    fn reuse(&mut self, mut bytes: Vec<u8>) {
        let keep = bytes.capacity() > 0 && bytes.capacity() <= OUTPUT_BUFFER_KEPT_BYTES;
        if keep && self.spare.len() < OUTPUT_BUFFERS_KEPT {
            bytes.clear();
            self.spare.push(bytes);
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

fn take_due(deadlines: &mut VecDeque<(u64, ConnId)>, now_ms: u64) -> Option<ConnId> {
    let &(deadline, conn) = deadlines.front()?;
    (deadline <= now_ms).then(|| {
        deadlines.pop_front();
        conn
    })
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

    use super::*;
    use crate::io::ring::{Completion, Doorbell, Payload};

    /// The connections of a core without its shard. Time stands still unless a test moves it.
    struct World {
        ring: Ring,
        connections: Connections,
        listener: TcpListener,
        /// What happened to connections, in order.
        received: Vec<(ConnId, Vec<u8>)>,
        taken: usize,
        sends: usize,
        gone: Vec<Stage>,
    }

    impl World {
        fn new() -> Self {
            let ring = Ring::new(64, &Doorbell::new().unwrap()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connections = Connections::new();
            let (received, gone) = (Vec::new(), Vec::new());
            Self { ring, connections, listener, received, taken: 0, sends: 0, gone }
        }

        /// A connection that is served, and its client.
        fn connect(&mut self) -> (TcpStream, ConnId) {
            self.ring.accept(self.listener.as_fd(), 0);
            self.ring.submit().unwrap();
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let before = self.connections.len();
            self.until(|world| world.connections.len() > before);
            let conn = self.connections.living().last().unwrap();
            self.connections.serve(conn, UserId(7), &mut self.ring);
            (client, conn)
        }

        fn until(&mut self, done: impl Fn(&Self) -> bool) {
            while !done(self) {
                self.connections.flush(&mut self.ring);
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
                        if received == Received::Bytes {
                            self.received.push((conn_of(token), self.ring.bytes(&filled).to_vec()));
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
                (Op::Shutdown, _) => self.connections.settled(token),
                (Op::Close, _) => self.connections.closed(token),
                _ => {}
            }
        }
    }

    #[test]
    fn output_of_a_turn_leaves_in_one_send_and_an_idle_connection_owns_no_buffer() {
        let mut world = World::new();
        let (mut client, conn) = world.connect();
        for part in [&b"one "[..], b"two ", b"three"] {
            world.connections.queue(conn, part);
        }
        world.until(|world| world.taken == 13);
        assert_eq!(world.sends, 1);
        let mut text = [0; 13];
        client.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one two three");
        assert_eq!(world.connections.table[conn.slot as usize].queued.capacity(), 0);
        assert_eq!(world.connections.spare.len(), 1);
    }

    #[test]
    fn output_while_a_send_is_in_flight_follows_it_whole() {
        let mut world = World::new();
        let (mut client, conn) = world.connect();
        let first = vec![1; 8 << 20];
        world.connections.queue(conn, &first);
        world.connections.flush(&mut world.ring);
        world.connections.begin_closes(&mut world.ring, drop);
        world.ring.submit().unwrap();
        world.connections.queue(conn, &[2; 1000]);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; (8 << 20) + 1000];
            client.read_exact(&mut all).unwrap();
            all
        });
        world.until(|world| world.taken == (8 << 20) + 1000);
        let all = reader.join().unwrap();
        assert!(all[..8 << 20] == first[..] && all[8 << 20..] == [2; 1000]);
    }

    #[test]
    fn a_closed_connection_gets_its_last_bytes_and_its_slot_is_free_when_the_peer_closes() {
        let mut world = World::new();
        let (mut client, conn) = world.connect();
        world.connections.queue(conn, b"bye");
        world.connections.close(0, conn, &mut world.ring);
        world.until(|world| world.connections.stage(conn) == Stage::Lingering);
        // Bytes that nobody reads any more must not reset the connection before the bye is there.
        client.write_all(b"late").unwrap();
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"bye");
        drop(client);
        world.until(|world| world.connections.is_empty());
        assert_eq!(world.received, []);
    }

    #[test]
    fn a_peer_that_never_reads_is_cut_when_its_time_is_over() {
        let mut world = World::new();
        let (_deaf, conn) = world.connect();
        world.connections.queue(conn, &vec![0; 16 << 20]);
        world.connections.close(0, conn, &mut world.ring);
        world.connections.flush(&mut world.ring);
        world.connections.begin_closes(&mut world.ring, drop);
        world.ring.submit().unwrap();
        assert_eq!(world.connections.cut_late(CLOSE_FLUSH_MS - 1, &mut world.ring), 0);
        assert_eq!(world.connections.stage(conn), Stage::Flushing);
        assert_eq!(world.connections.cut_late(CLOSE_FLUSH_MS, &mut world.ring), 1);
        world.until(|world| world.connections.is_empty());
        assert_eq!(world.connections.spare.len(), 0, "a large buffer is not kept");
    }

    #[test]
    fn a_peer_that_does_not_close_its_side_is_waited_for_only_as_long_as_a_lingering_one() {
        let mut world = World::new();
        let (_deaf, flushing) = world.connect();
        let (_silent, conn) = world.connect();
        world.connections.queue(flushing, &vec![0; 16 << 20]);
        world.connections.close(0, flushing, &mut world.ring);
        world.connections.queue(conn, b"bye");
        world.connections.close(0, conn, &mut world.ring);
        world.until(|world| world.connections.stage(conn) == Stage::Lingering);
        assert_eq!(world.connections.cut_late(CLOSE_LINGER_MS - 1, &mut world.ring), 0);
        assert_eq!(world.connections.stage(conn), Stage::Lingering);
        assert_eq!(world.connections.cut_late(CLOSE_LINGER_MS, &mut world.ring), 0, "it got its last bytes");
        world.until(|world| world.connections.len() == 1);
        assert_eq!(world.connections.stage(flushing), Stage::Flushing);
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

    /// Otherwise the shutdown might end the slot's next connection.
    #[test]
    fn a_slot_is_closed_after_its_shutdown_and_its_move() {
        let mut world = World::new();
        let World { connections, ring, .. } = &mut world;
        let (lingering, leaving) = (connections.open(50, Origin::default()), connections.open(60, Origin::default()));
        connections.close(0, lingering, ring);
        connections.leave(leaving);
        connections.abandon(lingering, ring);
        connections.abandon(leaving, ring);
        let receive = Token::new(Op::Receive, lingering.slot, lingering.generation);
        connections.received(receive, -libc::ECANCELED, false);
        connections.after_receive(receive, false, ring);
        for (op, conn) in [(Op::Shutdown, lingering), (Op::Move, leaving)] {
            assert_eq!(connections.stage(conn), Stage::Ending);
            connections.settled(Token::new(op, conn.slot, conn.generation));
            assert_eq!(connections.stage(conn), Stage::Closing);
        }
    }

    #[test]
    fn a_crowd_that_leaves_at_once_is_seen_off_over_several_turns() {
        let mut world = World::new();
        let World { connections, ring, .. } = &mut world;
        for slot in 0..=CLOSES_TURN_MIN as u32 {
            let conn = connections.open(slot, Origin::default());
            connections.abandon(conn, ring);
        }
        connections.begin_closes(ring, drop);
        assert!(connections.has_closes());
        connections.begin_closes(ring, drop);
        assert!(!connections.has_closes());
    }

    #[test]
    fn a_slot_that_is_given_again_before_its_close_is_heard_of_is_the_new_connections() {
        let mut connections = Connections::new();
        let mut world = World::new();
        let old = connections.open(5, Origin::default());
        connections.abandon(old, &mut world.ring);
        assert_eq!(connections.stage(old), Stage::Closing);
        let new = connections.open(5, Origin::default());
        connections.closed(Token::new(Op::Close, old.slot, old.generation));
        assert_eq!((connections.stage(old), connections.stage(new)), (Stage::Free, Stage::Greeting));
        assert_eq!(connections.len(), 1);
        connections.abandon(new, &mut world.ring);
        connections.closed(Token::new(Op::Close, new.slot, new.generation));
        assert!(connections.is_empty());
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
