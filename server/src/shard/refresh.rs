//! Refresh: how long a connection may stay, as its token says, and a new token on a live connection.
//!
//! The shard has no keys. It hands a token to the rim to judge, one of a connection at a time, and goes on when the
//! judgement comes as an input.

use proto_spec::{ClientKind, DeviceId, ErrorCode, RequestId, ServerFrame, TimestampMs, UserId};

use super::{ConnId, Grant, Now, Refresh, Settings, Shard, Turn};
use crate::{
    access::rate::{Bucket, Rate},
    limits::{REFRESHES_MAX, REFRESHES_PER_S, RETRY_BUSY_MS},
};

/// What is known of a connection's token. `warn_at <= grant.expires`.
#[derive(Debug)]
pub(super) struct Permit {
    grant: Grant,
    /// When the client is told that the token expires.
    warn_at: TimestampMs,
    is_warned: bool,
    /// A newer token is being judged.
    is_in_flight: bool,
    /// Newer tokens lately.
    taken: Bucket,
}

impl Permit {
    pub(super) fn new(grant: Grant, settings: &Settings) -> Self {
        let warn_at = TimestampMs(grant.expires.0.saturating_sub(settings.expiry_warning_ms));
        Self { grant, warn_at, is_warned: false, is_in_flight: false, taken: Bucket::default() }
    }

    /// Goes on with a newer token. Never for shorter than before: the older token is still good.
    fn renew(&mut self, newer: Grant, settings: &Settings, now_wall: TimestampMs) {
        self.grant.expires = self.grant.expires.max(newer.expires);
        self.grant.issued = self.grant.issued.max(newer.issued);
        // Tokens that live for less than the warning must not be renewed in a circle.
        let left_ms = self.grant.expires.0.saturating_sub(now_wall.0);
        self.warn_at = TimestampMs(self.grant.expires.0 - settings.expiry_warning_ms.min(left_ms / 2));
        self.is_warned = false;
    }

    /// When to look at the token again, by the monotonic clock.
    pub(super) fn due_ms(&self, settings: &Settings, now: Now) -> u64 {
        let in_ms = if self.is_warned {
            // Half way to the end and not at the end: a newer token may call for a warning before that.
            end_of(self.grant, settings).0.saturating_sub(now.wall.0) / 2
        } else {
            self.warn_at.0.saturating_sub(now.wall.0)
        };
        now.monotonic_ms.saturating_add(in_ms)
    }
}

/// From when on a connection may not stay.
fn end_of(grant: Grant, settings: &Settings) -> TimestampMs {
    TimestampMs(grant.expires.0.saturating_add(settings.token_leeway_ms))
}

impl Shard {
    /// Warns a client whose token expires soon, closes the connection when it has expired.
    pub(super) fn look_at_token(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let is_ready = session.is_ready();
        let permit = &mut session.permit;
        if end_of(permit.grant, &self.settings) <= cx.now.wall {
            return self.close(conn, ErrorCode::TokenExpired, 0, "the token has expired", cx);
        }
        if permit.warn_at <= cx.now.wall && !permit.is_warned && is_ready {
            permit.is_warned = true;
            let expires_in_ms = permit.grant.expires.0.saturating_sub(cx.now.wall.0);
            self.send(conn, &ServerFrame::TokenExpiring { expires_in_ms }, cx);
        }
    }

    /// The client has a new token.
    pub(super) fn refresh(&mut self, conn: ConnId, token: String, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        if session.permit.is_in_flight || self.refreshes >= REFRESHES_MAX {
            let (code, detail) = (ErrorCode::Overloaded, "another token is being judged");
            return self.send_error(conn, code, ClientKind::Refresh.byte(), RequestId(0), RETRY_BUSY_MS, detail, cx);
        }
        let rate = Rate::per_second(REFRESHES_PER_S);
        if let Err(wait_ms) = rate.take(&mut session.permit.taken, cx.now.monotonic_ms) {
            let (code, detail) = (ErrorCode::RateLimited, "too many tokens");
            return self.send_error(conn, code, ClientKind::Refresh.byte(), RequestId(0), wait_ms, detail, cx);
        }
        session.permit.is_in_flight = true;
        self.refreshes += 1;
        cx.effects.refreshes.push(Refresh { conn, user: session.user, device: session.device, token });
    }

    /// The token of a refresh is good.
    pub(super) fn refreshed(&mut self, conn: ConnId, newer: Grant, cx: &mut Turn<'_>) {
        self.refreshes -= 1;
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.permit.is_in_flight = false;
        session.permit.renew(newer, &self.settings, cx.now.wall);
        self.counters.refreshed += 1;
        let expires = session.permit.grant.expires;
        self.send(conn, &ServerFrame::Refreshed { expires }, cx);
    }

    /// The token of a refresh is not good: the connection goes on with the one it had.
    pub(super) fn refresh_refused(&mut self, conn: ConnId, code: ErrorCode, detail: &str, cx: &mut Turn<'_>) {
        self.refreshes -= 1;
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.permit.is_in_flight = false;
        self.send_error(conn, code, ClientKind::Refresh.byte(), RequestId(0), 0, detail, cx);
    }

    /// The operator has revoked the tokens of a user, or of a device, that were issued up to a time. Looks at every
    /// connection, welcomed or not: it is rare, and no index is kept for it.
    pub(super) fn revoke(&mut self, user: UserId, device: Option<DeviceId>, up_to: TimestampMs, cx: &mut Turn<'_>) {
        let revoked = self.sessions.conns_where(|session| {
            session.user == user
                && device.is_none_or(|device| session.device == device)
                && session.permit.grant.issued <= up_to
        });
        for conn in revoked {
            self.close(conn, ErrorCode::Revoked, 0, "the token has been revoked: a newer one is needed", cx);
        }
    }
}
