//! Output: the bytes on their way to clients. Owns what is queued, the one send of each connection, and the buffers
//! that are used again.
//!
//! Output is kept as plaintext until it is flushed, with the frames of WebSocket in it if the connection speaks that, and is encrypted then
//! if it speaks TLS: one turn's output is one send, of as few frames and records as can be. What the shard is told of as sent are the
//! protocol's own bytes.
//!
//! Invariants: one send of a connection is in flight at a time; what it leaves over goes before what came later.

use rim::{ring::Ring, token::Token};

use super::{Connections, NoUpgrade, Stage, conn_of};
use crate::{
    access::upgrade::Pages,
    limits::{OUTPUT_BUFFER_KEPT_BYTES, OUTPUT_BUFFERS_KEPT},
    shard::ConnId,
};

/// What a send means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took this many of the bytes that were queued.
    Taken(usize),
    /// The connection is broken; it was in this stage.
    Broken(Stage),
}

impl Connections {
    /// What TLS has to say for its handshake, and WebSocket in answer to a ping, leaves with the next [`Connections::flush`]. Tickets
    /// wait for the first output.
    pub fn answer(&mut self, conn: ConnId) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.stream.has_answer() && !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Bytes of the request of a connection that begins with one, in any cut. The answer leaves with the next [`Connections::flush`]; if
    /// the request is refused, the caller closes.
    pub fn request(&mut self, conn: ConnId, bytes: &[u8], pages: Pages<'_>) -> Option<NoUpgrade> {
        let found = self.get_mut(conn)?;
        let why = found.stream.request(bytes, pages, &mut found.queued);
        if !found.queued.is_empty() && !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
        self.websocket -= usize::from(matches!(why, Some(NoUpgrade::Elsewhere(_))));
        why
    }

    /// Output for a connection; leaves with the next [`Connections::flush`].
    pub fn queue(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(found) = self.table.get_mut(conn.slot as usize) else { return };
        if found.generation != conn.generation
            || !matches!(found.stage, Stage::Greeting | Stage::Leaving | Stage::Serving | Stage::Tunnelled)
        {
            return;
        }
        if found.queued.capacity() == 0 {
            found.queued = self.spare.pop().unwrap_or_default();
        }
        found.stream.put(bytes, &mut found.queued);
        if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// One send for every connection that has output and none under way. One that ends, and of whose output nothing can leave any more,
    /// goes on to its end.
    pub fn flush(&mut self, now_ms: u64, ring: &mut Ring) {
        while let Some(conn) = self.dirty.pop() {
            let Some(found) = self.get_mut(conn) else { continue };
            found.dirty = false;
            let stage = found.stage;
            let sends = matches!(stage, Stage::Greeting | Stage::Serving | Stage::Tunnelled | Stage::Flushing);
            if !sends || found.sending {
                continue;
            }
            let plain = std::mem::take(&mut found.queued);
            let bytes = if plain.is_empty() && !found.has_output() { plain } else { self.seal(conn, plain) };
            if !bytes.is_empty() {
                self.table[conn.slot as usize].sending = true;
                ring.send(conn.slot, conn.generation, bytes);
            } else if stage == Stage::Flushing {
                self.linger(now_ms, conn, ring);
            }
        }
    }

    /// What is queued for a connection that is in the table, as it goes to its socket. Empty if TLS can not say anything.
    fn seal(&mut self, conn: ConnId, queued: Vec<u8>) -> Vec<u8> {
        let spare = &mut self.spare;
        let (out, used) = self.table[conn.slot as usize].stream.seal(queued, || spare.pop().unwrap_or_default());
        self.reuse(used);
        out
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
        let told = found.stream.left(taken);
        if taken < bytes.len() {
            bytes.drain(..taken);
            bytes = found.stream.keep(bytes, &mut found.queued);
        }
        self.reuse(bytes);
        let found = &mut self.table[conn.slot as usize];
        if !found.has_output() {
            match stage {
                Stage::Flushing => self.linger(now_ms, conn, ring),
                // The answer to what was said before the hello has left.
                Stage::Greeting => self.arm(conn, ring),
                _ => {}
            }
        } else if !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
        Sent::Taken(told)
    }

    pub(super) fn reuse(&mut self, mut bytes: Vec<u8>) {
        let keep = bytes.capacity() > 0 && bytes.capacity() <= OUTPUT_BUFFER_KEPT_BYTES;
        if keep && self.spare.len() < OUTPUT_BUFFERS_KEPT {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::io::socket::tests::World;
    use rim::token::Op;

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
        world.connections.flush(0, &mut world.ring);
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
    fn tickets_and_a_turns_output_leave_in_one_send_and_the_shard_is_told_of_plaintext() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = world.connect_tls();
        world.connections.answer(conn);
        assert!(world.connections.dirty.is_empty(), "tickets wait for company");
        for part in [&b"one "[..], b"two ", b"three"] {
            world.connections.queue(conn, part);
        }
        world.until(|world| world.taken == 13);
        assert_eq!(world.sends, 1);
        let mut text = Vec::new();
        while text.len() < 13 {
            let mut bytes = [0; 4096];
            let count = socket.read(&mut bytes).unwrap();
            client.receive(&mut bytes[..count], &mut text).unwrap();
        }
        assert_eq!(text, b"one two three");
        let idle = &mut world.connections.table[conn.slot as usize];
        assert_eq!((idle.queued.capacity(), idle.stream.tls().unwrap().held_bytes()), (0, 0));
        assert_eq!(world.connections.tls_len(), 1);
    }

    #[test]
    fn a_turns_output_is_one_frame_and_the_shard_is_told_of_what_is_in_it() {
        let mut world = World::new();
        let (mut client, conn) = world.connect_websocket();
        let sends = world.sends;
        for part in [&b"one "[..], b"two ", b"three"] {
            world.connections.queue(conn, part);
        }
        world.until(|world| world.taken == 13);
        assert_eq!(world.sends, sends + 1);
        let mut frame = [0; 15];
        client.read_exact(&mut frame).unwrap();
        assert_eq!(&frame, b"\x82\x0done two three");
        assert_eq!(world.connections.table[conn.slot as usize].queued.capacity(), 0);
        assert_eq!((world.connections.websocket_len(), world.connections.tls_len()), (1, 0));
    }

    /// As after a send that the kernel has taken in part.
    #[test]
    fn what_has_not_left_of_a_frame_goes_before_the_next_one() {
        let mut world = World::new();
        let (mut client, conn) = world.connect_websocket();
        let World { connections, ring, .. } = &mut world;
        connections.queue(conn, &[b'1'; 200]);
        let queued = std::mem::take(&mut connections.table[conn.slot as usize].queued);
        let bytes = connections.seal(conn, queued);
        connections.dirty.clear();
        connections.table[conn.slot as usize].dirty = false;
        connections.queue(conn, b"2");
        let mut received = bytes[..100].to_vec();
        let token = Token::new(Op::Send, conn.slot, conn.generation);
        let Sent::Taken(told) = connections.sent(0, token, 100, bytes, ring) else { panic!("broken") };
        connections.queue(conn, b"3");
        world.taken = told;
        world.until(|world| world.taken == 202);
        received.resize(204 + 3 + 3, 0);
        client.read_exact(&mut received[100..]).unwrap();
        let expected = [&b"\x82\x7e\x00\xc8"[..], &[b'1'; 200], b"\x82\x012", b"\x82\x013"].concat();
        assert_eq!(received, expected);
    }

    /// As after a send that the kernel has taken in part.
    #[test]
    fn ciphertext_that_has_not_left_goes_first() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = world.connect_tls();
        let World { connections, ring, .. } = &mut world;
        connections.queue(conn, b"first");
        let plain = std::mem::take(&mut connections.table[conn.slot as usize].queued);
        let bytes = connections.seal(conn, plain);
        connections.dirty.clear();
        connections.table[conn.slot as usize].dirty = false;
        connections.queue(conn, b", second");
        let half = bytes.len() / 2;
        let mut received = bytes[..half].to_vec();
        let token = Token::new(Op::Send, conn.slot, conn.generation);
        let Sent::Taken(told) = connections.sent(0, token, half as i32, bytes, ring) else { panic!("broken") };
        connections.close(0, conn, ring);
        world.taken = told;
        world.until(|world| world.connections.stage(conn) == Stage::Lingering);
        assert_eq!(world.taken, "first, second".len());
        socket.read_to_end(&mut received).unwrap();
        let mut text = Vec::new();
        let heard = client.receive(&mut received, &mut text).unwrap();
        assert_eq!((&text[..], heard.half_closed), (&b"first, second"[..], true));
    }
}
