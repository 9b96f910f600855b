//! A ring with sockets and files of the machine, alone on its thread.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsFd as _,
};

use super::*;

/// A ring and a listener that it accepts from.
struct World {
    ring: Ring,
    listener: TcpListener,
    doorbell: Doorbell,
    taken: VecDeque<Completion>,
}

impl World {
    fn new() -> Self {
        Self::with_buffers(8)
    }

    fn with_buffers(count: u16) -> Self {
        let doorbell = Doorbell::new().unwrap();
        let buffers = Buffers::new(count, RECEIVE_BUFFER_BYTES).unwrap();
        let ring = Ring::with_buffers(64, &doorbell, buffers).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { ring, listener, doorbell, taken: VecDeque::new() }
    }

    /// The next completion of an operation of this kind; others are left for later.
    fn next(&mut self, op: Op) -> Completion {
        loop {
            if let Some(at) = self.taken.iter().position(|completion| completion.token.op == op) {
                return self.taken.remove(at).unwrap();
            }
            self.ring.submit().unwrap();
            let mut out = Vec::new();
            self.ring.take(&mut out);
            if out.is_empty() {
                self.ring.uring.submit_and_wait(1).unwrap();
            }
            self.taken.extend(out);
        }
    }

    /// A connected client, and its slot here.
    fn connect(&mut self) -> (TcpStream, u32) {
        self.ring.accept(self.listener.as_fd(), 0);
        self.ring.submit().unwrap();
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let accepted = self.next(Op::Accept);
        match accepted.payload {
            Payload::Accepted(peer) => assert_eq!(peer, client.local_addr().unwrap()),
            other => panic!("from nowhere: {other:?}"),
        }
        (client, accepted.result.try_into().unwrap())
    }

    fn received(&mut self, completion: Completion) -> Vec<u8> {
        match completion.payload {
            Payload::Received(filled) => {
                let bytes = self.ring.bytes(&filled).to_vec();
                self.ring.give_back(filled);
                bytes
            }
            other => panic!("no bytes: {other:?} {}", completion.result),
        }
    }
}

#[test]
fn what_a_client_sends_comes_in_and_what_is_sent_comes_out() {
    let mut world = World::new();
    let (mut client, slot) = world.connect();
    world.ring.receive(slot, 7);
    client.write_all(b"one").unwrap();
    let completion = world.next(Op::Receive);
    assert_eq!(completion.token, Token::new(Op::Receive, slot, 7));
    assert!(completion.more);
    let bytes = world.received(completion);
    world.ring.send(slot, 7, bytes);
    let sent = world.next(Op::Send);
    assert_eq!(sent.result, 3);
    assert!(matches!(sent.payload, Payload::Returned(bytes) if bytes == b"one"));
    let mut echo = [0; 3];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"one");
}

#[test]
fn a_connection_opened_by_the_ring_carries_bytes_both_ways() {
    let mut world = World::new();
    let to = world.listener.local_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    world.ring.install(5, socket.into()).unwrap();
    world.ring.connect(5, 9, to);
    let connected = world.next(Op::Connect);
    assert_eq!((connected.token, connected.result), (Token::new(Op::Connect, 5, 9), 0));
    let (mut peer, _) = world.listener.accept().unwrap();
    world.ring.send(5, 9, b"there".to_vec());
    let mut there = [0; 5];
    assert_eq!(world.next(Op::Send).result, 5);
    peer.read_exact(&mut there).unwrap();
    world.ring.receive(5, 9);
    peer.write_all(b"back").unwrap();
    let completion = world.next(Op::Receive);
    assert_eq!(world.received(completion), b"back");
}

#[test]
fn a_connection_to_nobody_is_refused() {
    let mut world = World::new();
    let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    world.ring.install(5, socket.into()).unwrap();
    world.ring.connect(5, 9, to);
    assert_eq!(world.next(Op::Connect).result, -libc::ECONNREFUSED);
}

#[test]
fn a_sleep_in_the_ring_ends_when_something_completes_or_the_time_is_over() {
    let mut world = World::new();
    let (mut client, slot) = world.connect();
    world.ring.disable_doorbell();
    let mut out = Vec::new();
    world.ring.submit_and_wait(Duration::from_millis(1)).unwrap();
    world.ring.take(&mut out);
    assert!(out.is_empty(), "{out:?}");
    world.ring.receive(slot, 1);
    client.write_all(b"a").unwrap();
    world.ring.submit_and_wait(Duration::from_secs(60)).unwrap();
    world.ring.take(&mut out);
    let completion = out.pop().unwrap();
    assert_eq!(world.received(completion), b"a");
}

#[test]
fn a_connection_that_moves_to_another_ring_is_served_there() {
    let mut from = World::new();
    let mut to = World::new();
    let (mut client, slot) = from.connect();
    from.ring.move_descriptor(slot, 1, to.ring.as_raw_fd(), 3, 99);
    from.ring.submit().unwrap();
    let arrival = to.next(Op::Arrival);
    assert!(from.next(Op::Move).result >= 0);
    from.ring.close(slot, 1);
    assert_eq!(from.next(Op::Close).result, 0);
    assert_eq!((arrival.token.slot, arrival.token.generation), (3, 99));
    let there: u32 = arrival.result.try_into().unwrap();
    to.ring.receive(there, 1);
    client.write_all(b"hello").unwrap();
    let completion = to.next(Op::Receive);
    assert_eq!(to.received(completion), b"hello");
    assert_eq!((from.ring.in_flight, to.ring.in_flight), (0, 1));
}

#[test]
fn a_socket_of_the_process_gets_a_slot_that_no_accept_has() {
    let mut world = World::new();
    let (_client, taken) = world.connect();
    let mut client = TcpStream::connect(world.listener.local_addr().unwrap()).unwrap();
    let (socket, _) = world.listener.accept().unwrap();
    let place = world.ring.adopt(socket.into());
    let adopted = world.next(Op::Adopt);
    assert_eq!(adopted.token, Token::new(Op::Adopt, place, 0));
    let slot: u32 = adopted.result.try_into().unwrap();
    assert_ne!(slot, taken);
    world.ring.receive(slot, 1);
    client.write_all(b"hello").unwrap();
    let completion = world.next(Op::Receive);
    assert_eq!(world.received(completion), b"hello");
    world.ring.cancel(Token::new(Op::Receive, slot, 1));
    assert_eq!(world.next(Op::Receive).result, -libc::ECANCELED);
    world.ring.close(slot, 1);
    assert_eq!(world.next(Op::Close).result, 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "nobody else has it open");
}

#[test]
fn a_socket_that_finds_no_slot_is_closed() {
    let mut world = World::new();
    let mut clients = Vec::new();
    let adopt = |world: &mut World| {
        let client = TcpStream::connect(world.listener.local_addr().unwrap()).unwrap();
        let (socket, _) = world.listener.accept().unwrap();
        world.ring.adopt(socket.into());
        (client, world.next(Op::Adopt).result)
    };
    for _ in 0..64 {
        let (client, result) = adopt(&mut world);
        assert!(result >= 0, "{result}");
        clients.push(client);
    }
    let (mut client, result) = adopt(&mut world);
    assert_eq!(result, -libc::ENFILE);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_receive_without_a_buffer_ends_and_goes_on_when_one_is_back() {
    let mut world = World::with_buffers(1);
    let (mut client, slot) = world.connect();
    world.ring.receive(slot, 1);
    world.ring.submit().unwrap();
    client.write_all(&[1; RECEIVE_BUFFER_BYTES + 1]).unwrap();
    let first = world.next(Op::Receive);
    let second = if first.more { world.next(Op::Receive) } else { panic!("the first has a buffer: {first:?}") };
    assert_eq!((second.result, second.more), (-libc::ENOBUFS, false));
    assert_eq!(world.received(first).len(), RECEIVE_BUFFER_BYTES);
    world.ring.receive(slot, 1);
    let third = world.next(Op::Receive);
    assert_eq!(world.received(third), [1]);
}

#[test]
fn a_cancelled_receive_says_so_and_can_be_begun_again() {
    let mut world = World::new();
    let (mut client, slot) = world.connect();
    world.ring.receive(slot, 1);
    world.ring.submit().unwrap();
    world.ring.cancel(Token::new(Op::Receive, slot, 1));
    let ended = world.next(Op::Receive);
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    world.ring.receive(slot, 1);
    client.write_all(b"again").unwrap();
    let completion = world.next(Op::Receive);
    assert_eq!(world.received(completion), b"again");
}

#[test]
fn a_completion_rings_the_doorbell_only_while_it_is_enabled() {
    let mut world = World::new();
    let (mut client, slot) = world.connect();
    let count = |world: &World| {
        let mut count = [0; 8];
        (&world.doorbell.0).read(&mut count).map(|_| u64::from_ne_bytes(count)).unwrap_or_default()
    };
    world.ring.disable_doorbell();
    let _ = count(&world);
    world.ring.receive(slot, 1);
    world.ring.submit().unwrap();
    client.write_all(b"a").unwrap();
    let first = world.next(Op::Receive);
    assert_eq!(world.received(first), b"a");
    assert_eq!(count(&world), 0);
    world.ring.enable_doorbell();
    assert!(!world.ring.is_ready());
    client.write_all(b"b").unwrap();
    let mut poll = libc::pollfd { fd: world.doorbell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` lives on this stack for the call.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
    assert!(world.ring.is_ready());
    let second = world.next(Op::Receive);
    assert_eq!(world.received(second), b"b");
}

#[test]
fn a_ring_with_operations_in_flight_can_be_dropped() {
    let mut world = World::new();
    let (_client, slot) = world.connect();
    world.ring.receive(slot, 1);
    world.ring.send(slot, 1, vec![0; 64 << 20]);
    world.ring.submit().unwrap();
}

#[test]
fn too_many_descriptors_are_refused_with_the_limit() {
    let limit = raise_descriptor_limit();
    let wanted = u32::try_from(limit + 1).unwrap();
    match Ring::new(wanted, &Doorbell::new().unwrap()) {
        Err(SetupError::DescriptorLimit { limit: told, .. }) => assert_eq!(told, limit),
        other => panic!("{other:?}"),
    }
}
