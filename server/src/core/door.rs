//! The door: who is let in. Connections are accepted, their hellos judged, and each comes to the shard of its user, here or on another
//! core. Newer tokens of live connections are judged in turn with the hellos, within the same bound.

use std::{net::SocketAddr, sync::atomic::Ordering};

use proto_spec::{ErrorCode, RedirectReason, ServerFrame, UserId, limits::REDIRECTS_MAX};
use tracing::{debug, warn};

use super::{
    Core, CoreMessage, Order,
    greetings::{Form, Greeting, Guest},
    origins::{Origin, Verdict},
};
use crate::{
    access::{
        auth::{Claims, Keys, TokenError},
        handshake::{Step, bye},
        proxy::{self, Cut, HeaderError, NO_HEADER_EXPECTED, Source, looks_like_header},
        upgrade::Refusal,
    },
    cluster::file::Identity,
    config::Transport,
    limits::{GREETING_IDLE_PIECES_MAX, RETRY_BUSY_MS, RETRY_ELSEWHERE_MS, RETRY_FLOOD_MS, RETRY_STOPPING_MS},
    operator::audit::{Event, What},
    shard::{
        ConnId, Connected, Grant, Input, Now, Refresh,
        topology::{CoreId, NodeId},
    },
};

/// Somebody who has said hello, and whom another node serves.
struct Stray {
    conn: ConnId,
    transport: Transport,
    peer: SocketAddr,
    hops: u64,
    is_tunnelled: bool,
    /// All that has come of it, in plain.
    said: Vec<u8>,
}

/// What [`Core::judge`] has found.
#[derive(Debug)]
pub enum Judged {
    /// What a connection has said before it was let in: the caller gives it to [`Core::hello`], without its TLS if it speaks that.
    /// Then it reads on. It may be empty: a balancer has told, or begun to tell, where the connection comes from.
    Hello(ConnId, Vec<u8>),
    /// Likewise, of somebody who has come by a tunnel: whatever lies over the connection did not lie over these bytes.
    Plain(ConnId, Vec<u8>),
    /// A token of a live connection, which has been judged.
    Refresh,
}

impl Core {
    /// Somebody comes. What is to become of the connection is told with [`Core::accepted`], once it has its place in the table.
    pub fn enter(&mut self, now: Now, peer: SocketAddr) -> (Origin, Verdict) {
        self.counters().accepted.one();
        if self.common.origins.is_balancer(peer) {
            // It counts where its header says that it comes from.
            return (Origin::default(), Verdict::Welcome);
        }
        self.common.origins.enter(peer, now.monotonic_ms)
    }

    /// A connection has its place in the table, of which so many are taken.
    pub fn accepted(&mut self, now: Now, conn: ConnId, peer: SocketAddr, entered: (Origin, Verdict), taken: usize) {
        if self.begin_greeting(now, conn, peer, entered, taken) {
            if self.common.origins.is_balancer(peer) {
                self.greetings.await_header(conn);
            }
            self.order(Order::Greet(conn));
        }
    }

    /// Whether a connection may say hello; if not, it is refused.
    pub(super) fn begin_greeting(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: SocketAddr,
        entered: (Origin, Verdict),
        taken: usize,
    ) -> bool {
        let (origin, verdict) = entered;
        let open = self.common.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_stopping() {
            self.refuse(conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
            return false;
        }
        if !self.lets_in(conn, verdict) {
            return false;
        }
        if open > u64::from(self.common.capacity.node_max) || self.is_full(taken) || !self.make_room_to_greet(now) {
            self.common.origins.give_back(origin);
            self.counters().refused.one();
            self.refuse(conn, ErrorCode::TooManyConnections, RETRY_BUSY_MS, "the server is full");
            return false;
        }
        let deadline_ms = now.monotonic_ms + self.common.handshake_timeout_ms;
        self.greetings.begin(conn, peer, origin, now.monotonic_ms, deadline_ms);
        true
    }

    /// Whether the limits of its address let a connection in; if not, it is refused.
    fn lets_in(&mut self, conn: ConnId, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Welcome => return true,
            Verdict::Refused(code, retry_after_ms, detail) => self.refuse(conn, code, retry_after_ms, detail),
            Verdict::Cut => self.order(Order::Cut(conn)),
        }
        self.counters().refused.one();
        false
    }

    /// Whether this core has taken up its last place but the spare ones.
    fn is_full(&self, taken: usize) -> bool {
        taken as u64 > u64::from(self.common.capacity.core_max)
    }

    /// Whether there is room for another handshake. If there is none, the oldest that waits for its client is given up for it: whoever
    /// opens connections and says nothing does not keep others out.
    fn make_room_to_greet(&mut self, now: Now) -> bool {
        if self.greetings.is_full()
            && let Some(oldest) = self.greetings.oldest_silent(now.monotonic_ms)
        {
            self.end_greeting(now, oldest);
            self.counters().handshakes_given_up.one();
            self.refuse(oldest, ErrorCode::Overloaded, RETRY_BUSY_MS, "too many handshakes");
        }
        !self.greetings.is_full()
    }

    /// The handshake is over, one way or the other.
    pub(super) fn end_greeting(&mut self, now: Now, conn: ConnId) {
        if let Some((origin, held_ms)) = self.greetings.end(conn, now.monotonic_ms) {
            self.common.origins.greeted(origin, held_ms);
        }
    }

    /// Refuses those whose hello did not come, or was not judged, in time.
    pub(super) fn refuse_late(&mut self, now: Now) {
        while let Some(conn) = self.greetings.take_late(now.monotonic_ms) {
            self.end_greeting(now, conn);
            self.refuse(conn, ErrorCode::HandshakeTimeout, 0, "the hello did not come in time");
        }
    }

    /// What a connection has said before it was let in, as it came. It waits until it is judged; nothing more is to be read of it.
    pub fn wait(&mut self, conn: ConnId, bytes: &[u8]) {
        self.greetings.wait(conn, bytes);
    }

    /// Before it was let in a connection has ended, or its TLS has.
    pub fn gone(&mut self, now: Now, conn: ConnId) {
        self.end_greeting(now, conn);
    }

    /// The next thing of somebody who is to be judged, hellos and tokens of live connections in turn: `at` counts them in a turn. None
    /// while others are behind: who is let in wants something of them. None while the audit log is: nothing of it is left out.
    pub fn judge(&mut self, now: Now, keys: &Keys, at: usize, audit_is_behind: bool) -> Option<Judged> {
        if self.is_stalled() || audit_is_behind {
            return None;
        }
        if at % 2 == 1 && self.judge_refresh(now, keys) {
            return Some(Judged::Refresh);
        }
        match self.greetings.next_waiting() {
            Some((conn, bytes, Form::Raw)) => Some(Judged::Hello(conn, self.behind_header(now, conn, bytes))),
            Some((conn, bytes, Form::Plain)) => Some(Judged::Plain(conn, bytes)),
            None => self.judge_refresh(now, keys).then_some(Judged::Refresh),
        }
    }

    /// What of a connection's first bytes are its client's: what stands behind the header of a balancer. All of it if none is
    /// awaited; nothing while that is not whole, or if the connection is refused.
    fn behind_header(&mut self, now: Now, conn: ConnId, bytes: Vec<u8>) -> Vec<u8> {
        let Some(greeting) = self.greetings.of(conn) else { return bytes };
        let Some(mut header) = greeting.header.take() else { return bytes };
        header.extend_from_slice(&bytes);
        match proxy::cut(&header) {
            Ok(Cut::Incomplete) => {
                greeting.header = Some(header);
                Vec::new()
            }
            Ok(Cut::Header { source, taken }) => {
                self.counters().proxied.one();
                let is_welcome = match source {
                    Source::Client(peer) => self.locate(now, conn, peer),
                    Source::Balancer => true,
                };
                if is_welcome { header.split_off(taken) } else { Vec::new() }
            }
            Err(error) => {
                let peer = greeting.peer;
                self.refuse_header(now, conn, peer, error);
                Vec::new()
            }
        }
    }

    /// A balancer has told where a connection comes from: from now on it counts there. Whether it is welcome; if not, it is refused.
    fn locate(&mut self, now: Now, conn: ConnId, peer: SocketAddr) -> bool {
        let (origin, verdict) = self.common.origins.enter(peer, now.monotonic_ms);
        self.order(Order::Locate(conn, origin));
        if verdict != Verdict::Welcome {
            self.end_greeting(now, conn);
        } else if let Some(greeting) = self.greetings.of(conn) {
            (greeting.peer, greeting.origin, greeting.since_ms) = (peer, origin, now.monotonic_ms);
        }
        self.lets_in(conn, verdict)
    }

    /// A connection of a balancer does not begin with a header that is taken.
    fn refuse_header(&mut self, now: Now, conn: ConnId, peer: SocketAddr, error: HeaderError) {
        self.end_greeting(now, conn);
        self.counters().proxy_refused.one();
        if let Some(times) = self.header_warnings.another(now.monotonic_ms) {
            warn!(core = self.id.0, %peer, %error, times, "a connection from connections.proxy_networks was refused");
        }
        let code = ErrorCode::Malformed;
        let reason = Some(format!("{}: {error}", code.name()));
        self.report(Event { peer: Some(peer), reason, ..Event::new(now.wall, What::Refused) });
        self.refuse(conn, code, 0, &error.to_string());
    }

    /// A piece of what a connection says before it is let in, in plain, whatever carries it.
    pub fn hello(&mut self, now: Now, keys: &Keys, (conn, transport): (ConnId, Transport), bytes: &[u8]) {
        let Some(Greeting { handshake, peer, origin, is_tunnelled, .. }) = self.greetings.of(conn) else { return };
        let (peer, origin, is_tunnelled) = (*peer, *origin, *is_tunnelled);
        match handshake.bytes(bytes, keys, now.wall) {
            Step::More => {}
            Step::Refuse { bytes, code, claims } => {
                self.end_greeting(now, conn);
                self.common.origins.failed(origin, now.monotonic_ms);
                self.counters().handshakes_failed.one();
                self.common.counters.closed(code);
                debug!(core = self.id.0, slot = conn.slot, %peer, reason = code.name(), "handshake refused");
                let (user, key) = claims.map(|claims| (claims.user, claims.key)).unzip();
                let (peer, reason) = (Some(peer), Some(code.name().to_owned()));
                self.report(Event { user, key, peer, reason, ..Event::new(now.wall, What::Refused) });
                self.order(Order::Dismiss(conn, bytes));
            }
            // Whoever has been sent here waits at the user's core, where slots move: this node may be the last to hear that it has the user.
            Step::Ready { claims, hops, .. }
                if let Some(node) = self.homes.elsewhere(claims.user)
                    && (!(is_tunnelled || (2..=REDIRECTS_MAX).contains(&hops)) || !self.homes.do_move()) =>
            {
                let said = handshake.said(bytes).to_vec();
                self.end_greeting(now, conn);
                self.send_on(now, &Stray { conn, transport, peer, hops, is_tunnelled, said }, claims.user, node);
            }
            Step::Ready { claims, device, version, resumption, rest, hops } => {
                self.end_greeting(now, conn);
                let ticket = self.greetings.ticket();
                let Claims { user, expires, issued, key, .. } = claims;
                self.common.saw_token(issued);
                let grant = Grant { expires, issued: issued.min(now.wall) };
                // Behind a tunnel it is not known by which transport the client came, and it could not go there anyway.
                let (from, follows) = (self.id, (hops > 0 && !is_tunnelled).then_some(transport));
                let guest =
                    Guest { from, ticket, user, device, version, resumption, grant, key, peer, origin, follows, rest };
                let home = self.common.topology.home_of(user);
                if home == self.id {
                    self.connect(now, conn, guest);
                } else {
                    self.order(Order::Move { conn, home, ticket });
                    self.greetings.leave(conn, home, Box::new(guest));
                }
            }
        }
    }

    /// The user's home is another node: the client is told so if it can go there, and else is served through this one, if that can be.
    fn send_on(&mut self, now: Now, stray: &Stray, user: UserId, node: NodeId) {
        let Some(Identity { nodes, .. }) = self.homes.cluster.clone() else { return };
        let Stray { conn, transport, peer, hops, is_tunnelled, ref said } = *stray;
        let to = nodes.node(node);
        let address = match transport {
            Transport::Plain => &to.clients,
            Transport::Tls => &to.clients_tls,
            // The cluster's file names no addresses for it.
            Transport::WebSocket | Transport::WebSocketTls => &None,
        };
        let name = &to.name;
        let detail = match address {
            _ if hops > REDIRECTS_MAX || is_tunnelled => {
                format!("the nodes do not agree on who serves user {user}; this one says {name}")
            }
            Some(address) if hops > 0 => {
                debug!(core = self.id.0, %user, slot = conn.slot, node = name, hops, "redirected");
                let (address, map_version) = (address.clone(), nodes.version());
                let frame =
                    ServerFrame::Redirect { address, reason: RedirectReason::Elsewhere, after_ms: 0, map_version };
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                self.counters().redirected.one();
                return self.order(Order::Dismiss(conn, bytes));
            }
            _ if self.tunnel(now, (conn, peer), node, said) => return,
            Some(address) => format!("node {name} at {address} serves user {user}"),
            None => format!("node {name} serves user {user}, and is not reached by the transport of this connection"),
        };
        self.refuse(conn, ErrorCode::Elsewhere, RETRY_ELSEWHERE_MS, &detail);
    }

    /// A connection to a listener that speaks TLS began with something else: this.
    pub fn is_not_tls(&mut self, now: Now, conn: ConnId, first: &[u8]) {
        self.stream_failed(now, conn);
        self.end_greeting(now, conn);
        self.counters().handshakes_failed.one();
        let detail = if looks_like_header(first) { NO_HEADER_EXPECTED } else { "this listener speaks TLS only" };
        self.refuse(conn, ErrorCode::TlsRequired, 0, detail);
    }

    /// The request with which a WebSocket connection begins is refused, with an answer that says so.
    pub fn not_upgraded(&mut self, now: Now, conn: ConnId, refusal: &Refusal) {
        let Some(Greeting { peer, .. }) = self.greetings.of(conn) else { return };
        let peer = *peer;
        // A page of somebody else may ask as often as it likes, and must not keep out whom its visitor's address is shared with.
        if *refusal != Refusal::Origin {
            self.stream_failed(now, conn);
        }
        self.end_greeting(now, conn);
        self.counters().websocket_refused.one();
        debug!(core = self.id.0, slot = conn.slot, %peer, %refusal, "upgrade refused");
        let (peer, reason) = (Some(peer), Some(format!("no upgrade: {refusal}")));
        self.report(Event { peer, reason, ..Event::new(now.wall, What::Refused) });
    }

    /// A piece of what a connection says before it is let in carries nothing.
    pub fn idles(&mut self, now: Now, conn: ConnId) {
        let Some(Greeting { idle, peer, .. }) = self.greetings.of(conn) else { return };
        *idle += 1;
        if *idle <= GREETING_IDLE_PIECES_MAX {
            return;
        }
        let (peer, code) = (*peer, ErrorCode::RateLimited);
        self.stream_failed(now, conn);
        self.end_greeting(now, conn);
        self.counters().handshakes_failed.one();
        self.report(Event {
            peer: Some(peer),
            reason: Some(code.name().to_owned()),
            ..Event::new(now.wall, What::Refused)
        });
        self.refuse(conn, code, RETRY_FLOOD_MS, "too many frames of WebSocket before the hello; send the hello first");
    }

    /// The TLS or the WebSocket of a connection has failed before it was let in.
    pub fn stream_failed(&mut self, now: Now, conn: ConnId) {
        if let Some(greeting) = self.greetings.of(conn) {
            self.common.origins.failed(greeting.origin, now.monotonic_ms);
        }
    }

    /// False if none waits.
    fn judge_refresh(&mut self, now: Now, keys: &Keys) -> bool {
        let Some(Refresh { conn, user, device, token }) = self.refreshes.pop_front() else { return false };
        let verdict = keys.verify_for(&token, user, device, now.wall).and_then(|claims| {
            let is_revoked = self.common.revocations.read().is_revoked(user, device, claims.issued);
            if is_revoked { Err(TokenError::Revoked) } else { Ok(claims) }
        });
        let event = |what| Event { user: Some(user), device: Some(device), ..Event::new(now.wall, what) };
        match verdict {
            Ok(Claims { expires, issued, key, .. }) => {
                self.common.saw_token(issued);
                self.report(Event { key: Some(key), ..event(What::Refreshed) });
                self.feed(now, Input::Refreshed { conn, grant: Grant { expires, issued: issued.min(now.wall) } });
            }
            Err(error) => {
                let (code, detail) = (error.code(), error.to_string());
                debug!(core = self.id.0, %user, %device, slot = conn.slot, reason = code.name(), "refresh refused");
                self.report(Event { reason: Some(code.name().to_owned()), ..event(What::RefreshRefused) });
                self.feed(now, Input::RefreshRefused { conn, code, detail: &detail });
            }
        }
        true
    }

    // ---- between cores

    /// The descriptor of an [`Order::Move`] has got to its home core: gives the ticket. Or it has not, for this reason: the client is
    /// told to come back, and there is no ticket.
    pub fn moved(&mut self, conn: ConnId, result: Result<(), String>) -> Option<u32> {
        let (home, guest) = self.greetings.left(conn)?;
        if let Err(error) = result {
            warn!(core = self.id.0, to = home.0, user = %guest.user, %error, "a connection could not be moved");
            self.refuse(conn, ErrorCode::Overloaded, RETRY_BUSY_MS, "the user's core takes no more connections");
            return None;
        }
        self.counters().moved_out.one();
        // Counted once more, since the close of the place here will count it off.
        self.common.connections.fetch_add(1, Ordering::Relaxed);
        self.common.origins.move_on(guest.origin);
        let ticket = guest.ticket;
        self.post(home, CoreMessage::Guest(guest));
        self.order(Order::Cut(conn));
        Some(ticket)
    }

    /// A descriptor has come from another core, into this place of the table.
    pub fn arrived(&mut self, from: CoreId, ticket: u32, slot: u32) {
        if let Some(guest) = self.arrivals.descriptor(from, ticket, slot) {
            self.order(Order::Open { slot, guest });
        }
    }

    /// Who it is that comes from another core.
    pub(super) fn guest(&mut self, guest: Box<Guest>) {
        if let Some((slot, guest)) = self.arrivals.guest(guest) {
            self.order(Order::Open { slot, guest });
        }
    }

    /// A connection from another core is whole and has its place in the table, of which so many are taken.
    pub fn welcome(&mut self, now: Now, conn: ConnId, guest: Guest, taken: usize) {
        self.counters().moved_in.one();
        if self.is_full(taken) {
            self.counters().refused.one();
            self.refuse(conn, ErrorCode::TooManyConnections, RETRY_BUSY_MS, "the user's core is full");
        } else {
            self.connect(now, conn, guest);
        }
    }

    /// The connection is the shard's.
    fn connect(&mut self, now: Now, conn: ConnId, guest: Guest) {
        let Guest { user, device, version, resumption, grant, key, peer, origin, follows, rest, from, .. } = guest;
        let event = |what| {
            let (user, device, peer, key) = (Some(user), Some(device), Some(peer), Some(key));
            Event { user, device, peer, key, ..Event::new(now.wall, what) }
        };
        // Here and not where the hello was judged: from now on a revocation finds the connection.
        if self.common.revocations.read().is_revoked(user, device, grant.issued) {
            let code = ErrorCode::Revoked;
            self.report(Event { reason: Some(code.name().to_owned()), ..event(What::Refused) });
            self.common.origins.failed(origin, now.monotonic_ms);
            return self.refuse(conn, code, 0, &TokenError::Revoked.to_string());
        }
        debug!(core = self.id.0, %user, %device, slot = conn.slot, %peer, accepted_by = from.0, "connected");
        self.order(Order::Serve(conn, user));
        let closes_before = self.effects.closes.len();
        self.feed(now, Input::Connected(Connected { conn, user, device, version, resumption, grant, follows }));
        // Whom the shard sends away at once has not been let in, and may come back as often as it likes: see the bound of
        // refusals that are listed.
        let refusal = self.effects.closes[closes_before..].iter().find(|close| close.conn == conn);
        match refusal.and_then(|close| close.reason) {
            None => self.report(event(What::Login)),
            Some(code) => {
                self.report(Event { reason: Some(code.name().to_owned()), ..event(What::Refused) });
                if code == ErrorCode::RateLimited {
                    self.common.origins.failed(origin, now.monotonic_ms);
                }
                return;
            }
        }
        if !rest.is_empty() {
            self.feed(now, Input::Bytes { conn, bytes: &rest });
        }
    }

    /// Says bye to a connection that the shard does not know.
    pub(super) fn refuse(&mut self, conn: ConnId, code: ErrorCode, retry_after_ms: u64, detail: &str) {
        self.common.counters.closed(code);
        debug!(core = self.id.0, slot = conn.slot, reason = code.name(), "connection refused");
        self.order(Order::Dismiss(conn, bye(code, retry_after_ms, detail)));
    }
}
