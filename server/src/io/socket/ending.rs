//! The end of a connection: its last bytes are sent, the peer is waited for, operations in flight end, the descriptor is closed.
//! Owns the stages from flushing on, their deadlines, and what waits to be closed.
//!
//! Invariants: a descriptor is closed only when no operation of its connection is in flight; who does not read, or then does not
//! close, in time is cut.

use std::collections::VecDeque;

use rim::{
    ring::Ring,
    token::{Op, Token},
};

use super::{Connections, Stage, conn_of};
use crate::{
    core::origins::Origin,
    limits::{CLOSE_FLUSH_MS, CLOSE_LINGER_MS, CLOSES_TURN_MIN, CLOSES_TURN_SHARE},
    shard::ConnId,
};

impl Connections {
    /// Closes a connection once its queued bytes are sent, or cuts it when that takes too long.
    pub fn close(&mut self, now_ms: u64, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if !matches!(found.stage, Stage::Greeting | Stage::Leaving | Stage::Serving | Stage::Tunnelled) {
            return;
        }
        found.stage = Stage::Flushing;
        let buffer = found.stream.finish(&mut found.queued);
        self.reuse(buffer);
        let found = &mut self.table[conn.slot as usize];
        if !found.has_output() && !found.sending {
            self.linger(now_ms, conn, ring);
            return;
        }
        if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
        self.flush_deadlines.push_back((now_ms + CLOSE_FLUSH_MS, conn));
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
        self.take_stream(conn);
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
            match self.stage(conn) {
                // It still gets the goodbye of TLS, which leaves before the end of the socket.
                Stage::Awaiting if self.table[conn.slot as usize].stream.give_up() => {
                    self.flush_on(conn);
                    self.linger_deadlines.push_back((now_ms + CLOSE_LINGER_MS, conn));
                }
                Stage::Awaiting | Stage::Flushing | Stage::Lingering => self.abandon(conn, ring),
                _ => {}
            }
        }
        cut
    }

    /// Everything is sent: says so to the peer, and waits for it to close its side. A peer that speaks WebSocket has been told so in a
    /// frame, and answers that first: a proxy on the way might end both sides when one does, and lose the answer.
    pub(super) fn linger(&mut self, now_ms: u64, conn: ConnId, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.ended {
            self.abandon(conn, ring);
            return;
        }
        if found.stream.awaits_close() {
            found.stage = Stage::Awaiting;
            self.linger_deadlines.push_back((now_ms + CLOSE_LINGER_MS, conn));
            self.arm(conn, ring);
            return;
        }
        found.stage = Stage::Lingering;
        found.parting = true;
        ring.shutdown_write(conn.slot, conn.generation);
        self.linger_deadlines.push_back((now_ms + CLOSE_LINGER_MS, conn));
        self.arm(conn, ring);
    }

    /// What a peer says that has been told, or is being told, of the end by WebSocket: nothing counts but its answer.
    pub fn farewell(&mut self, now_ms: u64, conn: ConnId, mut bytes: Vec<u8>, ring: &mut Ring) {
        let Some(found) = self.get_mut(conn) else { return };
        if !found.stream.awaits_close() {
            return;
        }
        found.stream.receive(&mut bytes, &mut Vec::new());
        if found.stream.awaits_close() {
            return;
        }
        let buffer = found.stream.finish(&mut found.queued);
        self.reuse(buffer);
        let found = &mut self.table[conn.slot as usize];
        if found.has_output() {
            self.flush_on(conn);
        } else if !found.sending {
            self.linger(now_ms, conn, ring);
        }
    }

    /// What the stream has to say at its end leaves with the next flush.
    fn flush_on(&mut self, conn: ConnId) {
        let found = &mut self.table[conn.slot as usize];
        found.stage = Stage::Flushing;
        if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// A shutdown or a move has completed.
    pub fn parted(&mut self, token: Token) {
        let conn = conn_of(token);
        if let Some(found) = self.get_mut(conn) {
            found.parting = false;
            self.close_if_quiet(conn);
        }
    }

    pub(super) fn close_if_quiet(&mut self, conn: ConnId) {
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
}

fn take_due(deadlines: &mut VecDeque<(u64, ConnId)>, now_ms: u64) -> Option<ConnId> {
    let &(deadline, conn) = deadlines.front()?;
    (deadline <= now_ms).then(|| {
        deadlines.pop_front();
        conn
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::io::socket::{
        End,
        tests::{ClientTls, World},
    };

    /// What a client says whose TLS has failed.
    fn alert_of(client: &mut ClientTls) -> Vec<u8> {
        client
            .receive(&mut [0x17, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut Vec::new())
            .unwrap_err();
        let mut alert = Vec::new();
        client.seal(b"", &mut alert);
        assert!(!alert.is_empty());
        alert
    }

    /// Everything until the end of the socket, and whether TLS has said before that nothing more comes.
    fn read_to_the_end(socket: &mut std::net::TcpStream, client: &mut ClientTls) -> (Vec<u8>, bool) {
        let (mut bytes, mut text) = (Vec::new(), Vec::new());
        socket.read_to_end(&mut bytes).unwrap();
        let heard = client.receive(&mut bytes, &mut text).unwrap();
        (text, heard.half_closed)
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
        world.connections.flush(0, &mut world.ring);
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
    fn who_is_told_of_the_end_by_websocket_answers_before_the_end_of_the_socket() {
        let mut world = World::new();
        let (mut client, conn) = world.connect_websocket();
        world.connections.queue(conn, b"bye");
        world.connections.close(0, conn, &mut world.ring);
        world.until(|world| world.connections.stage(conn) == Stage::Awaiting);
        let mut said = [0; 9];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"\x82\x03bye\x88\x02\x03\xe8");
        // A ping is no answer; a close frame is, in two pieces.
        client.write_all(b"\x89\x80\0\0\0\0\x88\x82").unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut said).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is open");
        client.set_nonblocking(false).unwrap();
        client.write_all(b"\0\0\0\0\x03\xe8").unwrap();
        world.until(|world| world.connections.stage(conn) == Stage::Lingering);
        assert_eq!(client.read(&mut said).unwrap(), 0);
        drop(client);
        world.until(|world| world.connections.is_empty());
        assert_eq!(world.connections.websocket_len(), 0);
    }

    #[test]
    fn an_answer_that_comes_before_all_is_sent_counts_and_one_that_does_not_come_is_not_waited_for_long() {
        let mut world = World::new();
        let (mut crossing, early) = world.connect_websocket();
        let (mut silent, late) = world.connect_websocket();
        for conn in [early, late] {
            world.connections.queue(conn, &vec![7; 8 << 20]);
            world.connections.close(0, conn, &mut world.ring);
        }
        crossing.write_all(b"\x88\x80\0\0\0\0").unwrap();
        let readers = [crossing.try_clone().unwrap(), silent.try_clone().unwrap()].map(|mut client| {
            std::thread::spawn(move || {
                let mut first = vec![0; 1 << 20];
                client.read_exact(&mut first).unwrap();
                // In between the answer of the one is there.
                let mut all = Vec::new();
                let _ = client.read_to_end(&mut all);
                all.ends_with(b"\x88\x02\x03\xe8")
            })
        });
        world.until(|world| world.connections.stage(early) == Stage::Lingering);
        world.until(|world| world.connections.stage(late) == Stage::Awaiting);
        assert_eq!(world.connections.cut_late(CLOSE_LINGER_MS - 1, &mut world.ring), 0);
        assert_eq!(world.connections.stage(late), Stage::Awaiting);
        world.connections.cut_late(CLOSE_LINGER_MS, &mut world.ring);
        world.until(|world| world.connections.is_empty());
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
        silent.write_all(b"too late").unwrap();
    }

    #[test]
    fn who_says_by_tls_that_it_has_failed_is_told_nothing_by_websocket_and_not_waited_for() {
        let mut world = World::new();
        let (_socket, conn, mut client) = world.connect_wss();
        let World { connections, ring, .. } = &mut world;
        let mut alert = alert_of(&mut client);
        let (_, heard) = connections.stream(conn).unwrap().receive(&mut alert, &mut Vec::new());
        assert!(matches!(heard.end, Some(End::Tls(_))));
        connections.close(0, conn, ring);
        connections.flush(0, ring);
        assert_eq!(connections.stage(conn), Stage::Lingering);

        // Likewise if it comes in place of the answer to a close frame, before that has left or after.
        for has_left in [false, true] {
            let (_socket, conn, mut client) = world.connect_wss();
            world.connections.close(0, conn, &mut world.ring);
            if has_left {
                world.until(|world| world.connections.stage(conn) == Stage::Awaiting);
            }
            let World { connections, ring, .. } = &mut world;
            connections.farewell(0, conn, alert_of(&mut client), ring);
            connections.flush(0, ring);
            assert_eq!(connections.stage(conn), Stage::Lingering);
        }
    }

    #[test]
    fn who_ends_tls_but_not_websocket_is_answered_by_both_and_not_waited_for() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = world.connect_wss();
        let (mut goodbye, mut plain) = (Vec::new(), Vec::new());
        client.finish(&[]);
        client.seal(b"", &mut goodbye);
        let (_, heard) = world.connections.stream(conn).unwrap().receive(&mut goodbye, &mut plain);
        assert_eq!(heard.end, Some(End::Announced));
        world.connections.close(0, conn, &mut world.ring);
        world.until(|world| world.connections.stage(conn) != Stage::Flushing);
        assert_eq!(world.connections.stage(conn), Stage::Lingering);
        assert_eq!(read_to_the_end(&mut socket, &mut client), (b"\x88\x02\x03\xe8".to_vec(), true));
    }

    #[test]
    fn who_does_not_answer_within_tls_gets_its_goodbye_before_the_end_of_the_socket() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = world.connect_wss();
        world.connections.close(0, conn, &mut world.ring);
        world.until(|world| world.connections.stage(conn) == Stage::Awaiting);
        world.connections.cut_late(CLOSE_LINGER_MS, &mut world.ring);
        assert_eq!(world.connections.stage(conn), Stage::Flushing);
        world.until(|world| world.connections.stage(conn) != Stage::Flushing);
        assert_eq!(world.connections.stage(conn), Stage::Lingering);
        assert_eq!(read_to_the_end(&mut socket, &mut client), (b"\x88\x02\x03\xe8".to_vec(), true));
        assert_eq!(world.connections.cut_late(2 * CLOSE_LINGER_MS, &mut world.ring), 0);
        world.until(|world| world.connections.is_empty());
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
            connections.parted(Token::new(op, conn.slot, conn.generation));
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
}
