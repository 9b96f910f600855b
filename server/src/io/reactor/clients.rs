//! The reactor's connections: accepted, greeted, moved to their home core, received from and sent to, ended by their peers. What is
//! to become of them the core says.

use std::{io, os::fd::AsFd as _};

use rim::{
    ring::{Completion, Payload},
    token::Token,
};
use tracing::{debug, warn};

use super::{
    super::socket::{Received, Sent, Stage, conn_of},
    Reactor,
};
use crate::{
    config::Transport,
    core::Judged,
    limits::HELLOS_TURN_MAX,
    shard::{ConnId, Now, topology::CoreId},
};

impl Reactor {
    pub(super) fn begin_accept(&mut self, place: u32) {
        self.accepts_begun += 1;
        self.rim.ring.accept(self.rim.shared.listener_of(place).socket.as_fd(), place);
    }

    pub(super) fn on_accept(&mut self, now: Now, completion: &Completion) {
        self.accepts_begun -= 1;
        let Payload::Accepted(peer) = completion.payload else {
            self.accepts_idle.push(completion.token.slot);
            if completion.result != -libc::ECANCELED {
                self.on_accept_failed(now, completion.result);
            }
            return;
        };
        let (slot, place) = (completion.result.unsigned_abs(), completion.token.slot);
        if self.core.is_stopping() {
            self.accepts_idle.push(place);
        } else {
            self.begin_accept(place);
        }
        let entered = self.core.enter(now, peer);
        let conn = self.rim.connections.open(slot, entered.0);
        self.begin_stream(conn, place);
        self.core.accepted(now, conn, peer, entered, self.rim.connections.len());
        self.obey(now);
    }

    /// There is no descriptor, slot or memory for another connection. Tried again with the next tick, whatever it was:
    /// until then the others wait in the listener's queue.
    pub(super) fn on_accept_failed(&mut self, now: Now, result: i32) {
        self.counters().accepts_failed.one();
        if let Some(times) = self.accept_warnings.another(now.monotonic_ms) {
            warn!(core = self.core.id().0, error = %error_of(result), times, "accept failed");
        }
    }

    pub(super) fn on_receive(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, more, payload } = completion;
        let conn = conn_of(token);
        let received = self.rim.connections.received(token, result, more);
        match (received, &payload) {
            (Received::Hello, Payload::Received(filled)) => {
                self.core.wait(conn, self.rim.ring.bytes(filled));
                self.count_received(result);
            }
            (Received::Bytes, Payload::Received(filled)) => {
                self.count_received(result);
                if !self.on_wrapped(now, conn, filled) {
                    self.core.bytes(now, conn, self.rim.ring.bytes(filled));
                    self.obey(now);
                }
            }
            (Received::Tunnelled, Payload::Received(filled)) => {
                self.count_received(result);
                self.on_tunnelled(now, conn, filled);
            }
            (Received::Farewell, Payload::Received(filled)) => {
                let Self { rim, .. } = self;
                let bytes = rim.ring.bytes(filled).to_vec();
                rim.connections.farewell(now.monotonic_ms, conn, bytes, &mut rim.ring);
            }
            (Received::Starved, _) => self.counters().receives_starved.one(),
            (Received::Gone(stage), _) => self.on_gone(now, conn, stage, result),
            (Received::Hello | Received::Bytes | Received::Tunnelled | Received::Farewell | Received::Nothing, _) => {}
        }
        if let Payload::Received(filled) = payload {
            self.rim.ring.give_back(filled);
        }
        // A hello is read on when what there is of it has been judged.
        if received != Received::Hello {
            self.rim.connections.after_receive(token, received == Received::Starved, &mut self.rim.ring);
        }
    }

    /// Judges some of the tokens that wait.
    pub(super) fn judge_tokens(&mut self, now: Now) {
        for at in 0..HELLOS_TURN_MAX {
            let audit_is_behind = self.rim.reporter.is_stalled();
            match self.core.judge(now, &self.credentials.keys, at, audit_is_behind) {
                None => return,
                Some(Judged::Refresh) => self.obey(now),
                Some(Judged::Hello(conn, bytes)) => {
                    if !bytes.is_empty() {
                        self.judge(now, conn, bytes);
                    }
                    self.obey(now);
                    // Reads on, whatever became of it.
                    self.rim.connections.greet(conn, &mut self.rim.ring);
                }
                Some(Judged::Plain(conn, bytes)) => {
                    self.core.hello(now, &self.credentials.keys, (conn, Transport::Plain), &bytes);
                    self.obey(now);
                    self.rim.connections.greet(conn, &mut self.rim.ring);
                }
            }
        }
    }

    pub(super) fn on_sent(&mut self, now: Now, completion: Completion) {
        let Completion { token, result, payload, .. } = completion;
        let Payload::Returned(bytes) = payload else { return };
        let conn = conn_of(token);
        let stage = self.rim.connections.stage(conn);
        match self.rim.connections.sent(now.monotonic_ms, token, result, bytes, &mut self.rim.ring) {
            Sent::Taken(bytes) => {
                let counters = self.counters();
                counters.sends.one();
                counters.sent_bytes.add(bytes as u64);
                match stage {
                    Stage::Serving => {
                        self.core.sent(now, conn, bytes);
                        self.obey(now);
                    }
                    Stage::Tunnelled if !self.rim.connections.has_output(conn) => self.rim.links.read_tunnel_on(conn),
                    _ => {}
                }
            }
            Sent::Broken(stage) => self.on_gone(now, conn, stage, result),
        }
    }

    /// The peer or the network ended a connection.
    fn on_gone(&mut self, now: Now, conn: ConnId, stage: Stage, result: i32) {
        match stage {
            Stage::Greeting => self.core.gone(now, conn),
            Stage::Serving => {
                self.counters().closed_by_peer.one();
                let user = self.rim.connections.user(conn);
                debug!(core = self.core.id().0, %user, slot = conn.slot, error = %error_of(result), "connection lost");
                self.core.disconnected(now, conn);
                self.obey(now);
            }
            Stage::Tunnelled => self.end_tunnel(conn),
            _ => {}
        }
        self.rim.connections.abandon(conn, &mut self.rim.ring);
    }

    /// A descriptor has got to its home core, or has not.
    pub(super) fn on_moved(&mut self, now: Now, completion: &Completion) {
        let conn = conn_of(completion.token);
        self.rim.connections.parted(completion.token);
        let result = if completion.result < 0 { Err(error_of(completion.result)) } else { Ok(()) };
        let ticket = self.core.moved(conn, result);
        // What lies over it is there before who it is gets there by mail. A plain connection takes nothing along.
        if let Some(ticket) = ticket {
            let stream = self.rim.connections.take_stream(conn);
            if !stream.is_plain() {
                self.rim.shared.luggage.lock().insert((self.core.id(), ticket), stream);
            }
        }
        self.obey(now);
    }

    pub(super) fn on_arrival(&mut self, now: Now, completion: &Completion) {
        let Token { slot: from, generation: ticket, .. } = completion.token;
        let Ok(slot) = u32::try_from(completion.result) else {
            debug_assert!(false, "a descriptor that could not be stored completes at its sender only");
            return;
        };
        self.core.arrived(CoreId(from as u16), ticket, slot);
        self.obey(now);
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
