//! How a connection ends, and whether another one follows.

use std::ops::ControlFlow;

use proto_spec::{DeviceInfo, ErrorCode};

use super::{ClientState, Effects, Link, MonotonicMs, Phase, session::Redirect};
use crate::{
    event::{ClientEvent, DisconnectReason, EndReason},
    limits::{REPLACED_MAX, REPLACED_WITHIN_MS, RETRY_AFTER_MAX_MS},
    nodes::Circle,
};

/// What handling a frame led to. The connection ends with `Break`.
pub(super) type Flow = ControlFlow<Stop>;

/// Why a connection ends, and whether another follows.
pub(super) enum Stop {
    Retry {
        reason: DisconnectReason,
        retry_after_ms: u64,
    },
    /// The next connection goes to another node.
    Redirect(Redirect),
    /// Not before there is another token.
    Token {
        code: ErrorCode,
        detail: String,
    },
    Suspend,
    End(EndReason),
}

impl From<DisconnectReason> for Stop {
    fn from(reason: DisconnectReason) -> Self {
        Self::Retry { reason, retry_after_ms: 0 }
    }
}

/// How often something has happened of late, and when first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lately {
    times: u32,
    first: MonotonicMs,
}

impl Lately {
    /// It happens again. How often it has, with this time, in so many milliseconds.
    pub(super) fn again(&mut self, now: MonotonicMs, within_ms: u64) -> u32 {
        if self.times == 0 || now.since(self.first) >= within_ms {
            *self = Self { times: 0, first: now };
        }
        self.times += 1;
        self.times
    }
}

impl ClientState {
    /// Another connection of this device came: of another program, or an own one that was given up and came late.
    fn on_replaced(&mut self, now: MonotonicMs, detail: String) -> Flow {
        let code = ErrorCode::Replaced;
        Flow::Break(if self.replaced.again(now, REPLACED_WITHIN_MS) < REPLACED_MAX {
            DisconnectReason::Bye { code, detail }.into()
        } else {
            Stop::End(EndReason::Refused { code, detail })
        })
    }

    pub(super) fn on_lost(&self, reason: DisconnectReason) -> Flow {
        match self.phase {
            Phase::Opening { .. } | Phase::Greeting { .. } | Phase::Ready(_) => Flow::Break(reason.into()),
            Phase::Waiting { .. } | Phase::Tokenless { .. } | Phase::Suspended | Phase::Ended => Flow::Continue(()),
        }
    }

    pub(super) fn on_network_changed(&mut self) -> Flow {
        self.backoff.reset();
        match &mut self.phase {
            Phase::Waiting { open_at } => *open_at = (*open_at).min(self.not_before),
            Phase::Opening { .. } | Phase::Greeting { .. } => {
                return Flow::Break(DisconnectReason::NetworkChanged.into());
            }
            Phase::Ready(session) => session.is_doubted = true,
            Phase::Tokenless { .. } | Phase::Suspended | Phase::Ended => {}
        }
        Flow::Continue(())
    }

    pub(super) fn on_bye(
        &mut self,
        now: MonotonicMs,
        code: ErrorCode,
        retry_after_ms: u64,
        detail: String,
        devices: Vec<DeviceInfo>,
    ) -> Flow {
        if code == ErrorCode::Replaced {
            return self.on_replaced(now, detail);
        }
        if code == ErrorCode::DeviceRefused && !devices.is_empty() {
            return Flow::Break(Stop::End(EndReason::TooManyDevices { devices, detail }));
        }
        if matches!(code, ErrorCode::OtherLog | ErrorCode::CursorAhead) {
            return self.begin_anew(now, code, detail);
        }
        // It was the older token's fault: the next hello has the newer one.
        let is_outdated = is_of_the_token(code) && self.renewal.has_newer();
        Flow::Break(if is_of_the_token(code) && self.asks_for_tokens && !is_outdated {
            Stop::Token { code, detail }
        } else if is_final(code) && !is_outdated {
            Stop::End(EndReason::Refused { code, detail })
        } else {
            Stop::Retry { reason: DisconnectReason::Bye { code, detail }, retry_after_ms }
        })
    }

    /// Settles where the next connection goes (SPEC 8.11).
    fn route(&mut self, stop: Stop) -> Stop {
        let redirect = match &mut self.phase {
            Phase::Ready(session) => session.redirect.take(),
            Phase::Waiting { .. }
            | Phase::Opening { .. }
            | Phase::Greeting { .. }
            | Phase::Tokenless { .. }
            | Phase::Suspended
            | Phase::Ended => None,
        };
        match (stop, redirect) {
            (Stop::Redirect(redirect), _) | (Stop::Retry { .. }, Some(redirect)) => self.follow(redirect),
            (Stop::Retry { reason, retry_after_ms }, None) => {
                let is_elsewhere = matches!(reason, DisconnectReason::Bye { code: ErrorCode::Elsewhere, .. });
                let has_served = matches!(self.phase, Phase::Ready(_)) && !is_elsewhere;
                let elsewhere = self.nodes.elsewhere().map(str::to_owned);
                if has_served || is_said_by_the_node(&reason) {
                    return Stop::Retry { reason, retry_after_ms };
                }
                self.nodes.begin_again();
                let reason = match elsewhere {
                    Some(address) => DisconnectReason::Elsewhere { address, why: Box::new(reason) },
                    None => reason,
                };
                Stop::Retry { reason, retry_after_ms }
            }
            (stop @ (Stop::Token { .. } | Stop::Suspend | Stop::End(_)), _) => stop,
        }
    }

    fn follow(&mut self, redirect: Redirect) -> Stop {
        match self.nodes.follow(redirect.address.clone(), redirect.map_version) {
            Ok(()) => Stop::Redirect(redirect),
            Err(Circle) => {
                self.nodes.begin_again();
                DisconnectReason::Circle { address: redirect.address }.into()
            }
        }
    }

    fn wait(&mut self, now: MonotonicMs, retry_in_ms: u64, reason: DisconnectReason, effects: &mut Effects) {
        self.phase = Phase::Waiting { open_at: now.after(retry_in_ms) };
        effects.events.push(ClientEvent::Disconnected { reason, retry_in_ms });
    }

    pub(super) fn stop(&mut self, now: MonotonicMs, random: u64, stop: Stop, effects: &mut Effects) {
        match self.phase {
            Phase::Opening { .. } | Phase::Greeting { .. } | Phase::Ready(_) => effects.link = Some(Link::Close),
            Phase::Waiting { .. } | Phase::Tokenless { .. } | Phase::Suspended | Phase::Ended => {}
        }
        if let Phase::Ready(session) = &self.phase
            && session.was_stable(now)
        {
            self.backoff.reset();
        }
        let stop = self.route(stop);
        self.decoder = None;
        self.outbox.disconnected();
        self.fetches.disconnected();
        self.presence_ends(effects);
        match stop {
            Stop::Retry { reason, retry_after_ms } => {
                self.not_before = now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS));
                let retry_in_ms = self.backoff.delay_ms(random, retry_after_ms);
                self.wait(now, retry_in_ms, reason, effects);
            }
            Stop::Redirect(Redirect { address, reason, due, .. }) => {
                self.not_before = due;
                let mut retry_in_ms = due.since(now);
                // Nodes that each send on who is welcome there must not make a loop at the speed of the network.
                if matches!(&self.phase, Phase::Ready(session) if session.was_of_a_moment(now)) {
                    retry_in_ms = self.backoff.delay_ms(random, retry_in_ms);
                }
                self.wait(now, retry_in_ms, DisconnectReason::Redirected { address, reason }, effects);
            }
            Stop::Token { code, detail } => {
                let open_at = now.after(self.backoff.delay_ms(random, 0));
                self.phase = Phase::Tokenless { open_at };
                effects.events.push(ClientEvent::TokenWanted { code, detail });
            }
            Stop::Suspend => {
                self.phase = Phase::Suspended;
                effects.events.push(ClientEvent::Suspended);
            }
            Stop::End(reason) => {
                self.phase = Phase::Ended;
                effects.events.push(ClientEvent::Ended(reason));
            }
        }
    }
}

/// Whether who has answered is the server, and lets this client come back there.
fn is_said_by_the_node(reason: &DisconnectReason) -> bool {
    match reason {
        DisconnectReason::Bye { code, .. } => *code != ErrorCode::Elsewhere,
        DisconnectReason::OtherLog(_) => true,
        DisconnectReason::Link(_)
        | DisconnectReason::Untrusted(_)
        | DisconnectReason::NotRingpost(_)
        | DisconnectReason::OpenTimeout
        | DisconnectReason::WelcomeTimeout
        | DisconnectReason::Silent
        | DisconnectReason::NetworkChanged
        | DisconnectReason::Protocol(_)
        | DisconnectReason::Hole { .. }
        | DisconnectReason::Redirected { .. }
        | DisconnectReason::Circle { .. }
        | DisconnectReason::Elsewhere { .. } => false,
    }
}

/// What came instead of a welcome is no frame of a server.
pub(super) fn foreign(bytes: &[u8]) -> Flow {
    // An alert of TLS, of whatever version.
    let words = match bytes {
        [0x15, 0x03, ..] => "it answers in TLS",
        _ => "it answers in another protocol",
    };
    Flow::Break(DisconnectReason::NotRingpost(words.to_owned()).into())
}

pub(super) fn protocol_fault(what: String) -> Flow {
    Flow::Break(DisconnectReason::Protocol(what).into())
}

/// Whether another token may help.
const fn is_of_the_token(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TokenMissing | ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::Revoked)
}

/// Whether the same device with the same token would be sent away again.
const fn is_final(code: ErrorCode) -> bool {
    match code {
        ErrorCode::Version
        | ErrorCode::TlsRequired
        | ErrorCode::TokenMissing
        | ErrorCode::TokenInvalid
        | ErrorCode::TokenExpired
        | ErrorCode::Revoked
        | ErrorCode::DeviceRefused
        | ErrorCode::DeviceRemoved
        | ErrorCode::CursorAhead
        | ErrorCode::OtherLog => true,
        ErrorCode::Malformed
        | ErrorCode::FrameTooLarge
        | ErrorCode::UnknownKind
        | ErrorCode::NotNow
        | ErrorCode::NoSuchDevice
        | ErrorCode::HandshakeTimeout
        | ErrorCode::SendGap
        | ErrorCode::TextLength
        | ErrorCode::ContentKind
        | ErrorCode::ContentLimits
        | ErrorCode::Recipient
        | ErrorCode::WindowFull
        | ErrorCode::AcknowledgeAhead
        | ErrorCode::NoSuchMessage
        | ErrorCode::NotTheAuthor
        | ErrorCode::TooLate
        | ErrorCode::OtherKind
        | ErrorCode::TakenBack
        | ErrorCode::ReactionsFull
        | ErrorCode::Unwanted
        | ErrorCode::TooManyFetches
        | ErrorCode::NumberUsed
        | ErrorCode::GivenUp
        | ErrorCode::Overloaded
        | ErrorCode::StorageFull
        | ErrorCode::StorageFailed
        | ErrorCode::TooManyConnections
        | ErrorCode::RateLimited
        | ErrorCode::Replaced
        | ErrorCode::IdleTimeout
        | ErrorCode::Stopping
        | ErrorCode::SlowConsumer
        | ErrorCode::Elsewhere
        | ErrorCode::NoSuchGroup
        | ErrorCode::NotAllowed
        | ErrorCode::GroupExists
        | ErrorCode::GroupFull
        | ErrorCode::NoSuchMember
        | ErrorCode::MemberAlready
        | ErrorCode::Banned
        | ErrorCode::NotInvited
        | ErrorCode::GroupEnded
        | ErrorCode::TooManyGroups
        | ErrorCode::BadSubscription
        | ErrorCode::Unknown(_) => false,
    }
}
