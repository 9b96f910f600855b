//! Output: the bytes on their way to clients. Owns what is queued, the one send of each connection, and the buffers
//! that are used again.
//!
//! Output is kept as plaintext until it is flushed, and is encrypted then if the connection speaks TLS: one turn's output is
//! one send, of as few records as can be. What the shard is told of as sent is plaintext.
//!
//! Invariants: one send of a connection is in flight at a time; what it leaves over goes before what came later.

use rim::{ring::Ring, token::Token};

use super::{Connections, Stage, Stream, conn_of};
use crate::{
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
    /// What TLS has to say for its handshake leaves with the next [`Connections::flush`]. Tickets wait for the first output:
    /// so no send is in flight when the connection goes to another core.
    pub fn answer(&mut self, conn: ConnId) {
        let Some(found) = self.get_mut(conn) else { return };
        if found.stream.has_answer() && !found.dirty {
            found.dirty = true;
            self.dirty.push(conn);
        }
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
            let sends = matches!(found.stage, Stage::Greeting | Stage::Serving | Stage::Tunnelled | Stage::Flushing);
            if !sends || found.sending || !found.has_output() {
                continue;
            }
            let plain = std::mem::take(&mut found.queued);
            let bytes = self.seal(conn, plain);
            if !bytes.is_empty() {
                self.table[conn.slot as usize].sending = true;
                ring.send(conn.slot, conn.generation, bytes);
            }
        }
    }

    /// What the plaintext of a connection that is in the table becomes on its socket. Empty if TLS can not say anything.
    fn seal(&mut self, conn: ConnId, plain: Vec<u8>) -> Vec<u8> {
        match &mut self.table[conn.slot as usize].stream {
            Stream::Plain => plain,
            Stream::Tls(tls) => {
                let mut out = self.spare.pop().unwrap_or_default();
                tls.seal(&plain, &mut out);
                self.reuse(plain);
                out
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
        let told = found.stream.left(taken);
        if taken < bytes.len() {
            bytes.drain(..taken);
            bytes = found.stream.keep(bytes, &mut found.queued);
        }
        self.reuse(bytes);
        let found = &mut self.table[conn.slot as usize];
        if !found.has_output() {
            if stage == Stage::Flushing {
                self.linger(now_ms, conn, ring);
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
    use std::{io::Read as _, net::TcpStream};

    use rustls::{client::UnbufferedClientConnection, pki_types::ServerName};

    use super::*;
    use crate::{
        files::certificate::{Tickets, testing::Files},
        io::socket::tests::World,
    };
    use rim::{
        tls::{ServerTls, Tls},
        token::Op,
    };

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

    /// A served connection that speaks TLS, the client's end of it, and its socket.
    fn connect_tls(world: &mut World) -> (TcpStream, ConnId, Tls<UnbufferedClientConnection>) {
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
        let (socket, conn) = world.connect();
        world.connections.set_stream(conn, Stream::Tls(Box::new(server)));
        (socket, conn, client)
    }

    #[test]
    fn tickets_and_a_turns_output_leave_in_one_send_and_the_shard_is_told_of_plaintext() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = connect_tls(&mut world);
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
        let idle = &world.connections.table[conn.slot as usize];
        let Stream::Tls(tls) = &idle.stream else { panic!("{:?}", idle.stream) };
        assert_eq!((idle.queued.capacity(), tls.held_bytes()), (0, 0));
        assert_eq!(world.connections.tls_len(), 1);
    }

    /// As after a send that the kernel has taken in part.
    #[test]
    fn ciphertext_that_has_not_left_goes_first() {
        let mut world = World::new();
        let (mut socket, conn, mut client) = connect_tls(&mut world);
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
