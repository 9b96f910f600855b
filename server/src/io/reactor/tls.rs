//! The reactor's TLS: which connections speak it, what comes of their bytes, and how they end.

use rim::{
    ring::Filled,
    tls::{Heard, ServerTls, TlsFault},
};
use tracing::debug;

use super::{
    super::socket::{Stage, Stream},
    Departure, Reactor,
};
use crate::{
    access::handshake::looks_like_tls,
    config::Transport,
    shard::{ConnId, Now},
};

impl Reactor {
    /// A connection that has been accepted speaks what its listener does.
    pub(super) fn begin_stream(&mut self, conn: ConnId, place: u32) {
        match self.rim.shared.listener_of(place).transport {
            Transport::Plain => {}
            Transport::Tls => {
                let Some(config) = self.credentials.tls.clone() else { return };
                let tls = ServerTls::accept(config).expect("a size of fragments could be wrong, and none is chosen");
                self.rim.connections.set_stream(conn, Stream::Tls(Box::new(tls)));
            }
        }
    }

    /// A piece of what comes before and with the hello.
    pub(super) fn judge(&mut self, now: Now, conn: ConnId, mut bytes: Vec<u8>) {
        let keys = &self.credentials.keys;
        let tls = match self.rim.connections.stream(conn) {
            None | Some(Stream::Plain) => return self.core.hello(now, keys, (conn, Transport::Plain), &bytes),
            Some(Stream::Tls(tls)) => tls,
        };
        if tls.is_fresh() && !looks_like_tls(&bytes) {
            self.rim.connections.take_stream(conn);
            return self.core.is_not_tls(now, conn, &bytes);
        }
        let mut plain = Vec::new();
        let heard = tls.receive(&mut bytes, &mut plain);
        if heard.as_ref().is_ok_and(|heard| heard.opened) {
            let is_resumed = tls.is_resumed();
            self.counters().tls_handshakes.one();
            self.counters().tls_resumed.add(is_resumed.into());
        }
        self.rim.connections.answer(conn);
        // Who has said hello and then garbage is not let in: nothing could be said to it any more.
        if heard.is_ok() && !plain.is_empty() {
            self.core.hello(now, &self.credentials.keys, (conn, Transport::Tls), &plain);
            self.obey(now);
        } else if heard.is_err() {
            self.core.tls_failed(now, conn);
        }
        self.after_ciphertext(now, conn, heard);
    }

    /// Bytes for the shard, if the connection speaks TLS. Says whether it does.
    pub(super) fn on_ciphertext(&mut self, now: Now, conn: ConnId, filled: &Filled) -> bool {
        let tls = match self.rim.connections.stream(conn) {
            None | Some(Stream::Plain) => return false,
            Some(Stream::Tls(tls)) => tls,
        };
        let mut plain = std::mem::take(&mut self.plain);
        let heard = tls.receive(self.rim.ring.bytes_mut(filled), &mut plain);
        if !plain.is_empty() {
            self.core.bytes(now, conn, &plain);
            self.obey(now);
            plain.clear();
        }
        self.plain = plain;
        self.after_ciphertext(now, conn, heard);
        true
    }

    pub(super) fn after_ciphertext(&mut self, now: Now, conn: ConnId, heard: Result<Heard, TlsFault>) {
        match heard {
            // After what it has said in this turn.
            Ok(heard) if heard.half_closed => self.rim.departures.push_back(Departure::Announced(conn)),
            Ok(_) => {}
            Err(fault) => {
                self.counters().tls_failed.one();
                debug!(core = self.core.id().0, slot = conn.slot, %fault, "TLS failed");
                self.part(now, conn);
            }
        }
    }

    /// The peer has said that nothing more comes from it.
    pub(super) fn on_announced(&mut self, now: Now, conn: ConnId) {
        if self.rim.connections.stage(conn) == Stage::Serving {
            self.counters().closed_by_peer.one();
            let user = self.rim.connections.user(conn);
            debug!(core = self.core.id().0, %user, slot = conn.slot, "closed by the peer");
        }
        self.part(now, conn);
    }

    /// Ends a connection that the peer does not speak on any more, with what TLS says to that.
    fn part(&mut self, now: Now, conn: ConnId) {
        match self.rim.connections.stage(conn) {
            Stage::Greeting => self.core.gone(now, conn),
            Stage::Serving => {
                self.core.disconnected(now, conn);
                self.obey(now);
            }
            Stage::Tunnelled => self.end_tunnel(conn),
            _ => return,
        }
        self.rim.connections.close(now.monotonic_ms, conn, &mut self.rim.ring);
    }
}
