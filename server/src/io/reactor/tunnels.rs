//! The reactor's tunnels: the bytes of a client that is here go to the node that serves it and come back, and a client that comes by a
//! tunnel gets its place in the ring. Who gets one is decided in `core/tunnels.rs`.
//!
//! Neither side gets far ahead: a client is not read while more than a little of it waits for the other node, and a tunnel is not read
//! until the client has taken what came last.

use std::net::SocketAddr;

use rim::ring::{Completion, Filled};
use tracing::debug;

use super::{
    super::{
        links::{Line, Visitor},
        socket::{Stage, Stream},
    },
    CoreRim, Reactor,
};
use crate::{
    limits::TUNNEL_WAITING_BYTES_MAX,
    shard::{ConnId, Now, ReadState},
};

/// A client that comes by a tunnel: what lies over the socket, where it comes from, and what it has said.
pub(super) type Adopted = (Stream, SocketAddr, Vec<u8>);

impl Reactor {
    // ---- where the client is

    pub(super) fn on_tunnel_opened(&mut self, conn: ConnId) {
        self.core.tunnel_opened(conn);
        self.rim.connections.set_reading(conn, ReadState::Reading, &mut self.rim.ring);
    }

    /// The other node has ended it: the client gets what came before that.
    pub(super) fn on_tunnel_ended(&mut self, now: Now, conn: ConnId) {
        self.end_tunnel(conn);
        self.rim.connections.close(now.monotonic_ms, conn, &mut self.rim.ring);
    }

    pub(super) fn end_tunnel(&mut self, conn: ConnId) {
        self.rim.links.end_tunnel(conn);
        self.core.tunnel_ended(conn);
    }

    /// What the client of a tunnel says.
    pub(super) fn on_tunnelled(&mut self, now: Now, conn: ConnId, filled: &Filled) {
        let Some(stream) = self.rim.connections.stream(conn) else { return };
        let mut plain = Vec::new();
        let (said, heard) = stream.receive(self.rim.ring.bytes_mut(filled), &mut plain);
        if !said.is_empty() {
            self.rim.links.send(Line::Tunnel(conn), said);
            if self.rim.links.waiting_in_tunnel(conn) > TUNNEL_WAITING_BYTES_MAX {
                self.rim.connections.set_reading(conn, ReadState::Paused, &mut self.rim.ring);
            }
        }
        if heard.idle {
            self.core.tunnel_idles(now, conn);
            self.obey(now);
        }
        self.rim.connections.answer(conn);
        self.after_stream(now, conn, heard.end);
    }

    // ---- where it is served

    pub(super) fn on_visitor(&mut self, now: Now, visitor: Visitor) {
        let (greeting, certificate) = visitor.sent_by();
        let answer = self.core.judge_tunnel(now, greeting, certificate.as_ref());
        self.rim.links.answer(visitor, answer);
    }

    pub(super) fn on_admitted(&mut self, visitor: Visitor) {
        match visitor.into_parts() {
            Ok((socket, stream, client, said)) => {
                let place = self.rim.ring.adopt(socket);
                self.rim.adopted.insert(place, (stream, client, said));
            }
            Err(error) => debug!(core = self.core.id().0, %error, "a tunnel could not be taken in"),
        }
    }

    /// The ring has the socket of a client that comes by a tunnel, or has no slot for it.
    pub(super) fn on_adopted(&mut self, now: Now, completion: &Completion) {
        let Some((stream, client, said)) = self.rim.adopted.remove(&completion.token.slot) else { return };
        let Ok(slot) = u32::try_from(completion.result) else {
            return self.on_accept_failed(now, completion.result);
        };
        let entered = self.core.enter_by_tunnel(now, client);
        let conn = self.rim.connections.open(slot, entered.0);
        self.rim.adopt(conn, stream);
        self.core.accepted_by_tunnel(now, (conn, client), entered, self.rim.connections.len(), said);
        self.obey(now);
    }
}

impl CoreRim {
    /// The other node has taken something of what a client has said.
    pub(super) fn read_tunnelled_on(&mut self, conn: ConnId) {
        if self.connections.stage(conn) == Stage::Tunnelled
            && self.links.waiting_in_tunnel(conn) <= TUNNEL_WAITING_BYTES_MAX
        {
            self.connections.set_reading(conn, ReadState::Reading, &mut self.ring);
        }
    }
}
