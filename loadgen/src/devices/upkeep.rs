//! Keeping the devices connected: what happens on the links, who connects when, and who has been silent for too long.

use std::{cmp::Reverse, io};

use proto_spec::ErrorCode;

use super::{Devices, Timer};
use crate::{
    limits::{BACKOFF_FIRST_US, BACKOFF_MAX_US, LOGIN_TIMEOUT_US, PONG_TIMEOUT_S, RETRY_AFTER_MAX_MS},
    links::News,
    session::{Ending, Happened, Redirect, Session, Turn},
    stats::{Count, Refused},
    verify::presence::Left,
};

impl Devices {
    pub(super) fn on_news(&mut self, news: News) {
        match news {
            News::Connected(slot) => self.greet(slot),
            News::Refused(slot, error) => self.refused(slot, &error),
            News::Bytes(slot, bytes) => {
                let seat = self.seat(slot);
                let Self { sessions, links, ledger, stats, happened, wakes, now_us, .. } = self;
                let session = &mut sessions[slot as usize];
                let was_ready = session.is_ready();
                let (outcome, fault) = links.receive(slot, bytes, |bytes, out| {
                    let ledger = &mut ledger.lock();
                    let mut turn = Turn { now_us: *now_us, slot, seat, ledger, stats, out, happened, wake: wakes };
                    session.on_bytes(&mut turn, bytes)
                });
                if !was_ready && session.is_ready() {
                    self.arrived(slot);
                }
                self.take_wakes(slot);
                match outcome {
                    Ok(()) => {
                        if let Some(why) = fault {
                            self.on_lost(slot, &why);
                        }
                    }
                    Err(Ending::Fault(words)) => {
                        self.fault(slot, &words);
                        self.lost(slot, 0, "the server broke the protocol");
                    }
                    Err(Ending::Redirect(redirect)) => self.sent_on(slot, &redirect),
                    Err(Ending::Bye { code, retry_after_ms, detail }) => {
                        self.on_bye(slot, code, retry_after_ms, &detail)
                    }
                }
            }
            News::Lost(slot, why) => self.on_lost(slot, &why),
            News::Free(slot) => {
                let place = &self.places[slot as usize];
                if place.is_wanted {
                    self.timers.push(Reverse((place.connect_at_us, slot, Timer::Connect)));
                }
                self.happened.push(Happened::Gone { slot });
            }
        }
    }

    fn on_lost(&mut self, slot: u32, why: &str) {
        // A bye and the end of the stream come together: the bye has said it all.
        if self.places[slot as usize].is_wanted && !self.sessions[slot as usize].is_away() {
            self.lost(slot, 0, why);
        }
    }

    fn on_bye(&mut self, slot: u32, code: ErrorCode, retry_after_ms: u64, detail: &str) {
        let words = format!("bye {} ({detail})", code.name());
        let what = if self.sessions[slot as usize].is_ready() { Refused::Connection } else { Refused::Login };
        self.stats.refused(what, code);
        match code {
            // Who follows no redirects comes again there (SPEC 8.11).
            ErrorCode::Elsewhere if !self.nodes.are_followed() => self.lost(slot, retry_after_ms, &words),
            ErrorCode::Stopping
            | ErrorCode::Overloaded
            | ErrorCode::TooManyConnections
            | ErrorCode::RateLimited
            | ErrorCode::StorageFailed
            | ErrorCode::HandshakeTimeout
            | ErrorCode::IdleTimeout => self.lost(slot, retry_after_ms, &words),
            ErrorCode::Elsewhere => {
                // However it came there, the nodes do not agree, unless it was about to move. A fault, unless nodes are meant to come and
                // go, as in `sent_on`.
                if !self.sessions[slot as usize].is_ready() || !self.nodes.is_moving(slot) {
                    if !self.manners.tolerates_disconnects {
                        self.fault(slot, &words);
                    }
                    self.nodes.begin_again(slot);
                }
                self.lost(slot, retry_after_ms, &words);
            }
            // Nobody else knows these users and devices, and the tokens are good: trying again would change nothing.
            _ => {
                self.fault(slot, &words);
                self.mark_unwanted(slot);
                self.gone(slot, Left::Lost);
                self.links.end(slot);
                if self.stats.ready == 0 {
                    self.give_up(words);
                }
            }
        }
    }

    fn greet(&mut self, slot: u32) {
        let hops = self.nodes.hops(slot);
        match self.manners.mint.token(self.crew.member(slot).user) {
            Ok(token) => self.turn(slot, |session, turn| session.greet(turn, token, hops)),
            Err(error) => self.give_up(format!("{error:#}")),
        }
    }

    fn arrived(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        (place.is_greeting, place.attempts) = (false, 0);
        self.handshakes -= 1;
        self.stats.ready += 1;
        self.nodes.welcome(slot);
        if let Some(homes) = &mut self.ledger.lock().homes {
            let first_slot = self.crew.member(slot).first;
            homes.served(self.manners.first_seat + first_slot, &self.nodes.of(slot).address);
        }
    }

    fn refused(&mut self, slot: u32, error: &io::Error) {
        let is_known = self.sessions[slot as usize].has_been_ready();
        if self.nodes.is_elsewhere(slot) || (self.manners.tolerates_disconnects && is_known) {
            self.lost(slot, 0, &format!("{}: {error}", self.nodes.of(slot).target));
        } else {
            self.gone(slot, Left::Lost);
            self.mark_unwanted(slot);
            self.give_up(format!("{}: {error}", self.manners.server));
        }
    }

    /// A wanted connection has ended, or could not be made: a fault or not, and another attempt.
    pub(super) fn lost(&mut self, slot: u32, retry_after_ms: u64, why: &str) {
        let was_ready = self.sessions[slot as usize].is_ready();
        if was_ready && self.nodes.is_moving(slot) {
            // The server may close before its time.
            self.moved(slot);
            return self.links.end(slot);
        }
        if !was_ready && retry_after_ms == 0 {
            self.nodes.begin_again(slot);
        }
        let place = &mut self.places[slot as usize];
        let exponent = u32::from(place.attempts).min(8);
        place.attempts = place.attempts.saturating_add(1);
        let jitter_us = self.draw.below((BACKOFF_FIRST_US << exponent).min(BACKOFF_MAX_US));
        let place = &mut self.places[slot as usize];
        place.connect_at_us = self.now_us + retry_after_ms.min(RETRY_AFTER_MAX_MS) * 1_000 + jitter_us;
        self.last_loss = Some(why.to_owned());
        if was_ready {
            self.stats[Count::Disconnects] += 1;
        } else {
            self.stats[Count::LoginsRefused] += 1;
        }
        // To be asked to come back later is an answer; anything else is not.
        let is_answer = !was_ready && retry_after_ms > 0;
        if !self.manners.tolerates_disconnects && !is_answer {
            self.fault(slot, why);
        }
        self.gone(slot, Left::Lost);
        self.links.end(slot);
    }

    /// Another node serves the device, in place of a welcome.
    fn sent_on(&mut self, slot: u32, redirect: &Redirect) {
        match self.nodes.follow(slot, self.now_us, redirect) {
            Ok(()) => {
                self.stats[Count::Redirects] += 1;
                self.places[slot as usize].connect_at_us = self.nodes.not_before_us(slot);
                self.gone(slot, Left::Lost);
                self.links.end(slot);
            }
            // A fault, unless nodes are meant to come and go: then some know more than others for a moment.
            Err(words) => self.lost(slot, 0, &words),
        }
    }

    /// The time may have come at which another node serves the device.
    pub(super) fn move_on(&mut self, slot: u32) {
        if self.sessions[slot as usize].is_ready() && self.nodes.is_move_due(slot, self.now_us) {
            self.turn(slot, Session::bye);
            self.moved(slot);
            self.links.end_when_sent(slot);
        }
    }

    /// The device leaves a node that has said where it goes next.
    fn moved(&mut self, slot: u32) {
        // The nodes may know nothing of each other's presence.
        self.gone(slot, Left::Lost);
        let at_us = self.now_us.max(self.nodes.not_before_us(slot));
        self.places[slot as usize].connect_at_us = at_us;
        // Of a login behind a redirect all of it is measured.
        self.sessions[slot as usize].begin(at_us);
    }

    /// The device has no connection any more, as far as it is concerned.
    pub(super) fn gone(&mut self, slot: u32, how: Left) {
        let session = &mut self.sessions[slot as usize];
        let place = &mut self.places[slot as usize];
        if session.is_ready() {
            self.stats.ready -= 1;
            self.happened.push(Happened::Left { slot, how });
        }
        self.handshakes -= usize::from(place.is_greeting);
        place.is_greeting = false;
        session.left();
        match self.nodes.moved(slot) {
            Ok(has_moved) => self.stats[Count::Redirects] += u64::from(has_moved),
            Err(words) => self.fault(slot, &words),
        }
    }

    /// The device should be connected from now on.
    pub(super) fn mark_wanted(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        self.wanted += u64::from(!place.is_wanted);
        place.is_wanted = true;
    }

    /// The device should not be connected any more.
    pub(super) fn mark_unwanted(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        self.wanted -= u64::from(place.is_wanted);
        place.is_wanted = false;
    }

    pub(super) fn want(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        if place.is_wanted && !place.is_queued && !place.is_greeting && self.links.is_free(slot) {
            place.is_queued = true;
            self.to_connect.push_back(slot);
        }
    }

    /// Begins as many connections as may be. Gives the time of the next, if only time is what it waits for.
    pub(super) fn connect_some(&mut self) -> Option<u64> {
        while self.handshakes < self.manners.handshakes_max && self.fatal.is_none() {
            let &slot = self.to_connect.front()?;
            if let Some(logins) = &mut self.logins
                && logins.due(self.now_us).is_none()
            {
                return logins.peek();
            }
            self.to_connect.pop_front();
            let place = &mut self.places[slot as usize];
            place.is_queued = false;
            if !place.is_wanted {
                continue;
            }
            (place.is_greeting, place.life) = (true, place.life.wrapping_add(1));
            self.login_timeouts.push_back((self.now_us + LOGIN_TIMEOUT_US, slot, place.life));
            self.handshakes += 1;
            if self.nodes.hops(slot) <= 1 {
                self.sessions[slot as usize].begin(self.now_us);
            }
            if let Err(error) = self.links.connect(slot, self.nodes.of(slot)) {
                self.give_up(format!("no further connection can be made: {error}"));
            }
        }
        None
    }

    /// Pings those who have heard nothing for long, and gives up those who got no pong.
    pub(super) fn sweep(&mut self) {
        let period = self.manners.ping_after_s.max(1);
        let second = (self.now_us / 1_000_000) as u32;
        let now_us = self.now_us;
        for slot in (second % period..self.sessions.len() as u32).step_by(period as usize) {
            let session = &self.sessions[slot as usize];
            if !session.is_ready() {
                continue;
            }
            match session.heard_and_pinged_us() {
                (_, Some(at)) if now_us - at > u64::from(PONG_TIMEOUT_S) * 1_000_000 => {
                    self.lost(slot, 0, &format!("no pong within {PONG_TIMEOUT_S} s"));
                }
                // Half a second less: the sweep comes by once in a period, and a little early is better than a period late.
                (heard_us, None) if now_us - heard_us + 500_000 >= u64::from(period) * 1_000_000 => {
                    self.turn(slot, Session::ping);
                }
                (_, Some(_) | None) => {}
            }
        }
    }
}
