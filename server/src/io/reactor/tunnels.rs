//! The reactor's tunnels: the bytes of a client that is here go to the node that serves it, or to `pages`, and come back, and a client that
//! comes by a tunnel, or by long polling, gets its place in the ring. Who gets one is decided in `core/tunnels.rs`.
//!
//! Neither side gets far ahead: a client is not read while more than a little of it waits for the other end, and a tunnel is not read
//! until the client has taken what came last.

use std::net::SocketAddr;

use proto_spec::ErrorCode;
use rim::ring::{Completion, Filled};
use tracing::debug;

use super::{
    super::{
        links::{Line, Visitor},
        pages::{Polled, Visit},
        socket::{Stage, Stream},
    },
    CoreRim, Reactor,
};
use crate::{
    access::{handshake::bye, upgrade::instead_of},
    config::Transport,
    limits::{RETRY_BUSY_MS, TUNNEL_WAITING_BYTES_MAX},
    shard::{ConnId, Now, ReadState},
};

/// A client whose socket the ring is being given: what lies over that, and where the client comes from.
pub(super) struct Adopted {
    stream: Stream,
    client: SocketAddr,
    by: By,
}

/// By what it comes.
enum By {
    /// A tunnel, and what it has said.
    Tunnel(Vec<u8>),
    /// Long polling.
    Poll,
}

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
                self.rim.adopted.insert(place, Adopted { stream, client, by: By::Tunnel(said) });
            }
            Err(error) => debug!(core = self.core.id().0, %error, "a tunnel could not be taken in"),
        }
    }

    /// A session of long polling begins.
    pub(super) fn on_polled(&mut self, Polled { socket, client }: Polled) {
        let place = self.rim.ring.adopt(socket);
        self.rim.adopted.insert(place, Adopted { stream: Stream::polled(), client, by: By::Poll });
    }

    /// The ring has the socket of a client that comes by a tunnel or long polling, or has no slot for it.
    pub(super) fn on_adopted(&mut self, now: Now, completion: &Completion) {
        let Some(Adopted { stream, client, by }) = self.rim.adopted.remove(&completion.token.slot) else { return };
        let Ok(slot) = u32::try_from(completion.result) else {
            return self.on_accept_failed(now, completion.result);
        };
        let entered = match by {
            By::Tunnel(_) => self.core.enter_by_tunnel(now, client),
            By::Poll => self.core.enter_by_poll(now, client),
        };
        let conn = self.rim.connections.open(slot, entered.0);
        self.rim.adopt(conn, stream);
        let taken = self.rim.connections.len();
        match by {
            By::Tunnel(said) => self.core.accepted_by_tunnel(now, (conn, client), entered, taken, said),
            By::Poll => self.core.accepted_by_poll(now, (conn, client), entered, taken),
        }
        self.obey(now);
    }

    // ---- requests of HTTP

    /// A request of HTTP that asks for no WebSocket, and what has come behind its head: the connection is for `pages` from now on.
    pub(super) fn on_page(&mut self, now: Now, (conn, transport): (ConnId, Transport), said: Vec<u8>) {
        let client = self.core.page(now, conn);
        // What a balancer has told of it first.
        self.obey(now);
        self.rim.connections.tunnel(conn);
        let begun = client.is_some_and(|client| {
            let pages = self.rim.shared.pages.as_ref().expect("where HTTP is heard there are pages");
            self.rim
                .links
                .open_page(conn, said, |stream| pages.visit(Visit { stream, client, is_tls: transport.is_tls() }))
        });
        if begun {
            self.rim.connections.set_reading(conn, ReadState::Reading, &mut self.rim.ring);
        } else {
            self.core.tunnel_ended(conn);
            self.rim
                .connections
                .queue(conn, &instead_of(&bye(ErrorCode::Overloaded, RETRY_BUSY_MS, "too many requests")));
            self.rim.connections.close(now.monotonic_ms, conn, &mut self.rim.ring);
        }
    }
}

impl CoreRim {
    /// The other end has taken something of what a client has said.
    pub(super) fn read_tunnelled_on(&mut self, conn: ConnId) {
        if self.connections.stage(conn) == Stage::Tunnelled
            && self.links.waiting_in_tunnel(conn) <= TUNNEL_WAITING_BYTES_MAX
        {
            self.connections.set_reading(conn, ReadState::Reading, &mut self.ring);
        }
    }
}
