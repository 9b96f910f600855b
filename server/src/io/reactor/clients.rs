//! The reactor's connections: accepted, greeted, handed to their home core, fed to the shard, ended. One log line for
//! each of these events.

use std::{io, net::SocketAddr, os::fd::AsFd as _, sync::atomic::Ordering};

use proto_spec::ErrorCode;
use tracing::{debug, warn};

use super::{
    super::{
        handoff::{Greeting, Guest},
        message::CoreMessage,
        ring::{Completion, Payload},
        socket::{Received, Sent, Stage, conn_of},
        token::Token,
    },
    Reactor,
};
use crate::{
    audit::{Event, What},
    auth::{Claims, TokenError},
    core::origins::Verdict,
    handshake::{Step, bye},
    limits::{HELLOS_TURN_MAX, RETRY_BUSY_MS, RETRY_STOPPING_MS},
    shard::{Close, ConnId, Connected, Grant, Input, Now, Refresh},
    topology::CoreId,
};

impl Reactor {
    pub(super) fn on_accept(&mut self, now: Now, completion: &Completion) {
        let Payload::Accepted(peer) = completion.payload else {
            self.accepts_idle.push(completion.token.slot);
            if completion.result != -libc::ECANCELED {
                self.on_accept_failed(now, completion.result);
            }
            return;
        };
        let (slot, place) = (completion.result.unsigned_abs(), completion.token.slot);
        if self.draining_since_ms.is_none() {
            self.ring.accept(self.shared.listener_of(place).0.as_fd(), place);
        } else {
            self.accepts_idle.push(place);
        }
        let (origin, verdict) = self.shared.origins.enter(peer, now.monotonic_ms);
        let conn = self.connections.open(slot, origin);
        self.counters().accepted.one();
        self.begin_tls(conn, place);
        let open = self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if self.draining_since_ms.is_some() {
            self.refuse(now, conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        } else if verdict != Verdict::Welcome {
            self.counters().refused.one();
            match verdict {
                Verdict::Refused(code, retry_after_ms, detail) => self.refuse(now, conn, code, retry_after_ms, detail),
                Verdict::Cut | Verdict::Welcome => self.connections.abandon(conn, &mut self.ring),
            }
        } else if open > u64::from(self.shared.capacity.node_max) || self.is_full() || !self.make_room_to_greet(now) {
            self.shared.origins.give_back(origin);
            self.counters().refused.one();
            self.refuse(now, conn, ErrorCode::TooManyConnections, RETRY_BUSY_MS, "the server is full");
        } else {
            self.greetings.begin(conn, peer, now.monotonic_ms, now.monotonic_ms + self.shared.handshake_timeout_ms);
            self.connections.greet(conn, &mut self.ring);
        }
    }

    /// Whether there is room for another handshake. If there is none, the oldest that waits for its client is given up for it: whoever
    /// opens connections and says nothing does not keep others out.
    fn make_room_to_greet(&mut self, now: Now) -> bool {
        if self.greetings.is_full()
            && let Some(oldest) = self.greetings.oldest_silent(now.monotonic_ms)
        {
            self.end_greeting(now, oldest);
            self.counters().handshakes_given_up.one();
            self.refuse(now, oldest, ErrorCode::Overloaded, RETRY_BUSY_MS, "too many handshakes");
        }
        !self.greetings.is_full()
    }

    /// The handshake is over, one way or the other.
    pub(super) fn end_greeting(&mut self, now: Now, conn: ConnId) {
        if let Some(held_ms) = self.greetings.end(conn, now.monotonic_ms) {
            self.shared.origins.greeted(self.connections.origin(conn), held_ms);
        }
    }

    /// Whether this core has taken up its last slot but the spare ones.
    fn is_full(&self) -> bool {
        self.connections.len() as u64 > u64::from(self.shared.capacity.core_max)
    }

    /// There is no descriptor, slot or memory for another connection. Tried again with the next tick, whatever it was:
    /// until then the others wait in the listener's queue.
    pub(super) fn on_accept_failed(&mut self, now: Now, result: i32) {
        self.counters().accepts_failed.one();
        if let Some(times) = self.accept_warnings.another(now.monotonic_ms) {
            warn!(core = self.core.0, error = %error_of(result), times, "accept failed");
        }
    }

    pub(super) fn on_receive(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, more, payload } = completion;
        let conn = conn_of(token);
        let received = self.connections.received(token, result, more);
        match (received, &payload) {
            (Received::Hello, Payload::Received(filled)) => {
                self.greetings.wait(conn, self.ring.bytes(filled));
                self.count_received(result);
            }
            (Received::Bytes, Payload::Received(filled)) => {
                self.count_received(result);
                if !self.on_ciphertext(now, conn, filled) {
                    let input = Input::Bytes { conn, bytes: self.ring.bytes(filled) };
                    self.shard.handle(now, input, &self.shared.directory, &mut self.effects);
                    self.bound_output(now);
                }
            }
            (Received::Starved, _) => self.counters().receives_starved.one(),
            (Received::Gone(stage), _) => self.on_gone(now, conn, stage, result),
            (Received::Hello | Received::Bytes | Received::Nothing, _) => {}
        }
        if let Payload::Received(filled) = payload {
            self.ring.give_back(filled);
        }
        // A hello is read on when what there is of it has been judged.
        if received != Received::Hello {
            self.connections.after_receive(token, received == Received::Starved, &mut self.ring);
        }
    }

    /// Judges some of the tokens that wait, those of hellos and those of live connections in turn. None while other cores or
    /// the reader threads are behind: who is let in wants something of both. None while the audit log is: nothing of it is left out.
    pub(super) fn judge_tokens(&mut self, now: Now) {
        for at in 0..HELLOS_TURN_MAX {
            if self.is_stalled() || self.reporter.is_stalled() {
                return;
            }
            let is_any = match at % 2 {
                0 => self.judge_next(now) || self.judge_refresh(now),
                _ => self.judge_refresh(now) || self.judge_next(now),
            };
            if !is_any {
                return;
            }
        }
    }

    /// False if none waits.
    fn judge_next(&mut self, now: Now) -> bool {
        let Some((conn, bytes)) = self.greetings.next_waiting() else { return false };
        self.judge(now, conn, bytes);
        self.connections.greet(conn, &mut self.ring);
        true
    }

    /// A piece of a hello.
    pub(super) fn judge_hello(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        let Some(Greeting { handshake, peer, .. }) = self.greetings.of(conn) else { return };
        let peer = *peer;
        let step = handshake.bytes(bytes, &self.credentials.keys, now.wall);
        self.on_step(now, conn, peer, step);
    }

    /// False if none waits.
    fn judge_refresh(&mut self, now: Now) -> bool {
        let Some(Refresh { conn, user, device, token }) = self.refreshes.pop_front() else { return false };
        let verdict = self.credentials.keys.verify_for(&token, user, device, now.wall).and_then(|claims| {
            let is_revoked = self.shared.revocations.read().is_revoked(user, device, claims.issued);
            if is_revoked { Err(TokenError::Revoked) } else { Ok(claims) }
        });
        let event = |what| Event { user: Some(user), device: Some(device), ..Event::new(now.wall, what) };
        match verdict {
            Ok(Claims { expires, issued, key, .. }) => {
                self.reporter.report(Event { key: Some(key), ..event(What::Refreshed) });
                self.feed(now, Input::Refreshed { conn, grant: Grant { expires, issued: issued.min(now.wall) } });
            }
            Err(error) => {
                let (code, detail) = (error.code(), error.to_string());
                debug!(core = self.core.0, %user, %device, slot = conn.slot, reason = code.name(), "refresh refused");
                self.reporter.report(Event { reason: Some(code.name().to_owned()), ..event(What::RefreshRefused) });
                self.feed(now, Input::RefreshRefused { conn, code, detail: &detail });
            }
        }
        true
    }

    pub(super) fn on_sent(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, payload, .. } = completion;
        let Payload::Returned(bytes) = payload else { return };
        let conn = conn_of(token);
        let stage = self.connections.stage(conn);
        match self.connections.sent(now.monotonic_ms, token, result, bytes, &mut self.ring) {
            Sent::Taken(bytes) => {
                let counters = self.shared.counters.core(self.core);
                counters.sends.one();
                counters.sent_bytes.add(bytes as u64);
                if stage == Stage::Serving {
                    self.feed(now, Input::Sent { conn, bytes });
                }
            }
            Sent::Broken(stage) => self.on_gone(now, conn, stage, result),
        }
    }

    /// The peer or the network ended a connection.
    fn on_gone(&mut self, now: Now, conn: ConnId, stage: Stage, result: i32) {
        match stage {
            Stage::Greeting => self.end_greeting(now, conn),
            Stage::Serving => {
                self.counters().closed_by_peer.one();
                let user = self.connections.user(conn);
                debug!(core = self.core.0, %user, slot = conn.slot, error = %error_of(result), "connection lost");
                self.feed(now, Input::Disconnected { conn });
            }
            _ => {}
        }
        self.connections.abandon(conn, &mut self.ring);
    }

    /// What the handshake made of the bytes so far.
    fn on_step(&mut self, now: Now, conn: ConnId, peer: SocketAddr, step: Step) {
        match step {
            Step::More => {}
            Step::Refuse { bytes, code, claims } => {
                self.end_greeting(now, conn);
                self.shared.origins.failed(self.connections.origin(conn), now.monotonic_ms);
                self.counters().handshakes_failed.one();
                self.shared.counters.closed(code);
                debug!(core = self.core.0, slot = conn.slot, %peer, reason = code.name(), "handshake refused");
                let (user, key) = claims.map(|claims| (claims.user, claims.key)).unzip();
                let (peer, reason) = (Some(peer), Some(code.name().to_owned()));
                self.reporter.report(Event { user, key, peer, reason, ..Event::new(now.wall, What::Refused) });
                self.connections.queue(conn, &bytes);
                self.connections.close(now.monotonic_ms, conn, &mut self.ring);
            }
            Step::Ready { claims, device, version, resume, rest } => {
                self.end_greeting(now, conn);
                let ticket = self.greetings.ticket();
                let Claims { user, expires, issued, key, .. } = claims;
                let mut guest = Guest {
                    from: self.core,
                    ticket,
                    user,
                    device,
                    version,
                    resume,
                    grant: Grant { expires, issued: issued.min(now.wall) },
                    key,
                    peer,
                    origin: self.connections.origin(conn),
                    rest,
                    tls: None,
                };
                let home = self.shared.topology.home_of(user);
                if home == self.core {
                    self.connect(now, conn, guest);
                } else {
                    self.connections.leave(conn);
                    guest.tls = self.connections.take_tls(conn);
                    let target = self.shared.ring_of(home);
                    self.ring.move_descriptor(conn.slot, conn.generation, target, self.core.0, ticket);
                    self.greetings.leave(conn, home, Box::new(guest));
                }
            }
        }
    }

    /// A descriptor has got to its home core, or has not.
    pub(super) fn on_moved(&mut self, now: Now, completion: &Completion) {
        let conn = conn_of(completion.token);
        self.connections.settled(completion.token);
        let Some((home, mut guest)) = self.greetings.left(conn) else { return };
        if completion.result < 0 {
            self.adopt_tls(conn, guest.tls.take());
            let error = error_of(completion.result);
            warn!(core = self.core.0, to = home.0, user = %guest.user, %error, "a connection could not be moved");
            self.refuse(now, conn, ErrorCode::Overloaded, RETRY_BUSY_MS, "the user's core takes no more connections");
            return;
        }
        self.counters().moved_out.one();
        // Counted once more, since the close of the slot here will count it off.
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        self.shared.origins.move_on(guest.origin);
        self.send(home, CoreMessage::Guest(guest));
        self.connections.abandon(conn, &mut self.ring);
    }

    pub(super) fn on_arrival(&mut self, now: Now, completion: &Completion) {
        let Token { slot: from, generation: ticket, .. } = completion.token;
        let Ok(slot) = u32::try_from(completion.result) else {
            debug_assert!(false, "a descriptor that could not be stored completes at its sender only");
            return;
        };
        if let Some(guest) = self.arrivals.descriptor(CoreId(from as u16), ticket, slot) {
            self.welcome(now, slot, *guest);
        }
    }

    /// A connection from another core is whole.
    pub(super) fn welcome(&mut self, now: Now, slot: u32, mut guest: Guest) {
        self.counters().moved_in.one();
        let conn = self.connections.open(slot, guest.origin);
        self.adopt_tls(conn, guest.tls.take());
        if self.is_full() {
            self.counters().refused.one();
            self.refuse(now, conn, ErrorCode::TooManyConnections, RETRY_BUSY_MS, "the user's core is full");
        } else {
            self.connect(now, conn, guest);
        }
    }

    /// The connection is the shard's.
    fn connect(&mut self, now: Now, conn: ConnId, guest: Guest) {
        let Guest { user, device, version, resume, grant, key, peer, origin, rest, from, .. } = guest;
        let event = |what| {
            let (user, device, peer, key) = (Some(user), Some(device), Some(peer), Some(key));
            Event { user, device, peer, key, ..Event::new(now.wall, what) }
        };
        // Here and not where the hello was judged: from now on a revocation finds the connection.
        if self.shared.revocations.read().is_revoked(user, device, grant.issued) {
            let code = ErrorCode::Revoked;
            self.reporter.report(Event { reason: Some(code.name().to_owned()), ..event(What::Refused) });
            self.shared.origins.failed(origin, now.monotonic_ms);
            return self.refuse(now, conn, code, 0, &TokenError::Revoked.to_string());
        }
        debug!(core = self.core.0, %user, %device, slot = conn.slot, %peer, accepted_by = from.0, "connected");
        self.connections.serve(conn, user, &mut self.ring);
        self.feed(now, Input::Connected(Connected { conn, user, device, version, resume, grant }));
        // Whom the shard sends away at once has not been let in, and may come back as often as it likes: see the bound of
        // refusals that are listed.
        let refusal = self.effects.closes.iter().find(|close| close.conn == conn).and_then(|close| close.reason);
        match refusal {
            None => self.reporter.report(event(What::Login)),
            Some(code) => {
                self.reporter.report(Event { reason: Some(code.name().to_owned()), ..event(What::Refused) });
                if code == ErrorCode::RateLimited {
                    self.shared.origins.failed(origin, now.monotonic_ms);
                }
                return;
            }
        }
        if !rest.is_empty() {
            self.feed(now, Input::Bytes { conn, bytes: &rest });
        }
    }

    /// Says bye to a connection that the shard does not know.
    pub(super) fn refuse(&mut self, now: Now, conn: ConnId, code: ErrorCode, retry_after_ms: u64, detail: &str) {
        self.shared.counters.closed(code);
        debug!(core = self.core.0, slot = conn.slot, reason = code.name(), "connection refused");
        self.connections.queue(conn, &bye(code, retry_after_ms, detail));
        self.connections.close(now.monotonic_ms, conn, &mut self.ring);
    }

    pub(super) fn close(&mut self, now: Now, Close { conn, user, device, reason }: Close) {
        if let Some(code @ (ErrorCode::TokenExpired | ErrorCode::Revoked)) = reason {
            let (user, device, reason) = (Some(user), Some(device), Some(code.name().to_owned()));
            self.reporter.report(Event { user, device, reason, ..Event::new(now.wall, What::TokenEnded) });
        }
        match reason {
            Some(code) => self.shared.counters.closed(code),
            None => self.counters().closed_after_bye.one(),
        }
        let reason = reason.map_or("bye", ErrorCode::name);
        debug!(core = self.core.0, %user, slot = conn.slot, reason, "closed");
        self.connections.close(now.monotonic_ms, conn, &mut self.ring);
    }

    fn count_received(&self, bytes: i32) {
        let counters = self.counters();
        counters.receives.one();
        counters.received_bytes.add(bytes.max(0) as u64);
    }
}

/// For a log line: what a result says.
fn error_of(result: i32) -> String {
    match result {
        0.. => "closed by the peer".to_owned(),
        error => io::Error::from_raw_os_error(-error).to_string(),
    }
}
