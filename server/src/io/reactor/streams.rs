//! The reactor's streams: which connections speak TLS and WebSocket, what comes of their bytes, and how they end.

use rim::{ring::Filled, tls::ServerTls};
use tracing::debug;

use super::{
    super::socket::{End, Heard, NoUpgrade, Stage, Stream},
    Departure, Reactor,
};
use crate::{
    access::{handshake::looks_like_tls, upgrade::Pages},
    config::Transport,
    shard::{ConnId, Now},
};

impl Reactor {
    /// A connection that has been accepted speaks what its listener does.
    pub(super) fn begin_stream(&mut self, conn: ConnId, place: u32) {
        let transport = self.rim.shared.listener_of(place).transport;
        let accepting = self.credentials.tls.as_ref();
        let config = match transport {
            Transport::Plain | Transport::WebSocket => None,
            Transport::Tls => accepting.map(|accepting| &accepting.protocol),
            Transport::WebSocketTls => accepting.map(|accepting| &accepting.websocket),
        };
        let accept =
            |config| ServerTls::accept(config).expect("a size of fragments could be wrong, and none is chosen");
        let tls = config.cloned().map(|config| Box::new(accept(config)));
        self.rim.connections.set_stream(conn, Stream::new(tls, transport.is_websocket()));
    }

    /// A piece of what comes before and with the hello.
    pub(super) fn judge(&mut self, now: Now, conn: ConnId, mut bytes: Vec<u8>) {
        let Some(stream) = self.rim.connections.stream(conn) else { return };
        if stream.tls().is_some_and(|tls| tls.is_fresh()) && !looks_like_tls(&bytes) {
            self.rim.connections.drop_tls(conn);
            return self.core.is_not_tls(now, conn, &bytes);
        }
        let transport = stream.transport();
        let mut plain = Vec::new();
        let (said, Heard { opened, idle, end }) = stream.receive(&mut bytes, &mut plain);
        let (is_resumed, awaits_request) = (stream.tls().is_some_and(|tls| tls.is_resumed()), stream.awaits_request());
        if opened {
            self.counters().tls_handshakes.one();
            self.counters().tls_resumed.add(is_resumed.into());
        }
        self.rim.connections.answer(conn);
        match end {
            // Who has said hello and then garbage is not let in: nothing could be said to it any more.
            Some(End::Tls(_) | End::WebSocket(_)) => self.core.stream_failed(now, conn),
            None if idle => {
                self.core.idles(now, conn);
                self.obey(now);
            }
            Some(End::Announced) | None if said.is_empty() => {}
            Some(End::Announced) | None if awaits_request => self.on_request(now, (conn, transport), said),
            Some(End::Announced) | None => {
                self.core.hello(now, &self.credentials.keys, (conn, transport), said);
                self.obey(now);
            }
        }
        self.after_stream(now, conn, end);
    }

    /// A piece of the request with which a WebSocket connection begins.
    fn on_request(&mut self, now: Now, (conn, transport): (ConnId, Transport), bytes: &[u8]) {
        let pages = Pages { origins: &self.rim.shared.websocket_origins, is_tls: transport.is_tls() };
        match self.rim.connections.request(conn, bytes, pages) {
            None if self.rim.connections.stream(conn).is_some_and(|stream| !stream.awaits_request()) => {
                self.counters().websocket_upgrades.one();
            }
            None => {}
            Some(NoUpgrade::Refused(refusal)) => {
                self.core.not_upgraded(now, conn, &refusal);
                self.obey(now);
                self.rim.connections.close(now.monotonic_ms, conn, &mut self.rim.ring);
            }
            Some(NoUpgrade::Elsewhere(said)) => self.on_page(now, (conn, transport), said),
        }
    }

    /// Bytes for the shard, if they do not travel as they are. Says whether that is so.
    pub(super) fn on_wrapped(&mut self, now: Now, conn: ConnId, filled: &Filled) -> bool {
        let stream = match self.rim.connections.stream(conn) {
            Some(stream) if !stream.is_plain() => stream,
            Some(_) | None => return false,
        };
        let mut plain = std::mem::take(&mut self.plain);
        let (said, heard) = stream.receive(self.rim.ring.bytes_mut(filled), &mut plain);
        // Frames of WebSocket with nothing in them are pieces that make no frame of the protocol: they count.
        if !said.is_empty() || heard.idle {
            self.core.bytes(now, conn, said);
            self.obey(now);
        }
        plain.clear();
        self.plain = plain;
        self.rim.connections.answer(conn);
        self.after_stream(now, conn, heard.end);
        true
    }

    pub(super) fn after_stream(&mut self, now: Now, conn: ConnId, end: Option<End>) {
        let core = self.core.id().0;
        match end {
            None => {}
            // After what it has said in this turn.
            Some(End::Announced) => self.rim.departures.push_back(Departure::Announced(conn)),
            Some(End::Tls(fault)) => {
                self.counters().tls_failed.one();
                debug!(core, slot = conn.slot, %fault, "TLS failed");
                self.part(now, conn);
            }
            Some(End::WebSocket(fault)) => {
                self.counters().websocket_failed.one();
                debug!(core, slot = conn.slot, %fault, "WebSocket failed");
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

    /// Ends a connection that the peer does not speak on any more, with what TLS and WebSocket say to that.
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
