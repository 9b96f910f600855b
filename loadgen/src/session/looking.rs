//! Looking: whom one device watches, what it was told of them, and whether that is how it is told (SPEC 8.10). Pure. Whether what was
//! told is true is for [`crate::verify::presence`].

use proto_spec::{ClientFrame, Presence, PresenceState, RequestId, UserId};

use crate::limits::{PUSHES_AHEAD, SEEN_EACH_MS};

/// Requests of this kind count from here on: fetches count from 1 on, an app that opens has the number between.
const REQUESTS_ABOVE: u64 = 1 << 33;

/// What a device was told last of a user whom it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of whom.
    pub user: UserId,
    /// What; none: nothing on this connection.
    pub state: Option<Presence>,
    /// The user has too many watchers: changes are not pushed.
    pub is_crowded: bool,
}

/// Something that is asked and not answered.
#[derive(Clone, Debug)]
struct Asked {
    request: RequestId,
    users: Vec<UserId>,
    is_watch: bool,
    asked_us: u64,
}

impl Asked {
    fn encode(&self, out: &mut Vec<u8>) {
        let (request, users) = (self.request, self.users.clone());
        let frame = match self.is_watch {
            true => ClientFrame::Watch { request, users },
            false => ClientFrame::FetchPresence { request, users },
        };
        frame.encode(out);
    }
}

/// What a `presence` was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The answer to a watch that stands, asked for so long ago, in microseconds. The watch is to be renewed at that time.
    Watched {
        /// See above.
        after_us: u64,
        /// None: nobody is watched.
        renew_us: Option<u64>,
    },
    /// The answer to a watch that another one has replaced meanwhile, or to a single question.
    Answered {
        /// See above.
        after_us: u64,
    },
    /// Changes.
    Pushed,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Looking {
    /// Whom the device watches, by ascending id.
    seen: Vec<Seen>,
    /// Whom it watched before, until the server has answered: it may not know better.
    before: Vec<UserId>,
    asked: Vec<Asked>,
    last_request: u64,
    /// When the watch is sent again; 0: not.
    renew_us: u64,
    /// Before this no frame with changes is due.
    next_push_us: u64,
    tick_us: u64,
}

impl Looking {
    /// Nobody is watched. `tick_us`: the server tells changes once in this time at most.
    pub(super) const fn new(tick_us: u64) -> Self {
        Self {
            seen: Vec::new(),
            before: Vec::new(),
            asked: Vec::new(),
            last_request: 0,
            renew_us: 0,
            next_push_us: 0,
            tick_us,
        }
    }

    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// What has no answer.
    pub(super) const fn asking(&self) -> usize {
        self.asked.len()
    }

    /// Watches these from now on and nobody else.
    pub(super) fn watch(&mut self, mut users: Vec<UserId>, now_us: u64, out: &mut Vec<u8>) {
        users.sort_unstable();
        users.dedup();
        let state_of =
            |user| self.place(user).map_or((None, false), |at| (self.seen[at].state, self.seen[at].is_crowded));
        let seen = users.iter().map(|user| {
            let (state, is_crowded) = state_of(*user);
            Seen { user: *user, state, is_crowded }
        });
        let seen = seen.collect();
        let before = std::mem::replace(&mut self.seen, seen);
        self.before.extend(before.iter().map(|seen| seen.user));
        // A watch that is replaced is not asked for again.
        self.send(users, true, now_us, out);
    }

    /// Asks once.
    pub(super) fn fetch(&mut self, users: Vec<UserId>, now_us: u64, out: &mut Vec<u8>) {
        self.send(users, false, now_us, out);
    }

    fn send(&mut self, users: Vec<UserId>, is_watch: bool, now_us: u64, out: &mut Vec<u8>) {
        self.last_request += 1;
        let asked = Asked { request: RequestId(REQUESTS_ABOVE + self.last_request), users, is_watch, asked_us: now_us };
        asked.encode(out);
        self.asked.push(asked);
    }

    /// A welcome: what was watched is watched again.
    pub(super) fn connected(&mut self, now_us: u64, out: &mut Vec<u8>) {
        if !self.seen.is_empty() {
            self.send(self.seen.iter().map(|seen| seen.user).collect(), true, now_us, out);
        }
    }

    /// The connection is gone, and with it what was told and asked.
    pub(super) fn left(&mut self) {
        self.asked.clear();
        self.before.clear();
        self.renew_us = 0;
        self.seen.iter_mut().for_each(|seen| (seen.state, seen.is_crowded) = (None, false));
    }

    /// Sends the watch again, if it is time.
    pub(super) fn renew(&mut self, now_us: u64, out: &mut Vec<u8>) -> bool {
        let is_time = self.renew_us > 0 && now_us >= self.renew_us;
        if is_time {
            self.renew_us = 0;
            self.send(self.seen.iter().map(|seen| seen.user).collect(), true, now_us, out);
        }
        is_time
    }

    /// Sends again what was refused for now. A watch that was replaced meanwhile is not wanted any more.
    pub(super) fn repeat(&mut self, request: RequestId, out: &mut Vec<u8>) {
        let Some(at) = self.asked.iter().position(|asked| asked.request == request) else { return };
        if self.asked[at].is_watch && self.asked[at + 1..].iter().any(|asked| asked.is_watch) {
            self.asked.remove(at);
        } else {
            self.asked[at].encode(out);
        }
    }

    /// A `presence`. Gives what it was.
    ///
    /// # Errors
    /// It is not what was asked for, in words.
    pub(super) fn take(
        &mut self,
        (request, lifetime_ms): (RequestId, u64),
        states: &[PresenceState],
        now_us: u64,
    ) -> Result<Told, String> {
        states.iter().try_for_each(check_state)?;
        if request == RequestId(0) {
            self.take_push(lifetime_ms, states, now_us)?;
            return Ok(Told::Pushed);
        }
        let Some(at) = self.asked.iter().position(|asked| asked.request == request) else {
            return Err(format!("who is there for request {request}, which nothing waits for"));
        };
        let asked = self.asked.remove(at);
        if !states.iter().map(|state| state.user).eq(once(&asked.users)) {
            return Err(format!("{} users were asked for, other {} are told of", asked.users.len(), states.len()));
        }
        if (lifetime_ms > 0) != (asked.is_watch && !states.is_empty()) {
            return Err(format!("a lifetime of {lifetime_ms} ms, asked for {} users", states.len()));
        }
        let after_us = now_us.saturating_sub(asked.asked_us);
        if !asked.is_watch || self.asked.iter().any(|later| later.is_watch && later.request > request) {
            return Ok(Told::Answered { after_us });
        }
        self.before.clear();
        for state in states {
            self.see(state);
        }
        let renew_us = (lifetime_ms > 0).then(|| now_us + lifetime_ms * 1_000 / 2);
        self.renew_us = renew_us.unwrap_or(0);
        Ok(Told::Watched { after_us, renew_us })
    }

    fn take_push(&mut self, lifetime_ms: u64, states: &[PresenceState], now_us: u64) -> Result<(), String> {
        if states.is_empty() || lifetime_ms > 0 || states.iter().any(|state| state.ask_again_ms > 0) {
            return Err(format!("changes of {} users with a time that only answers have", states.len()));
        }
        for (at, state) in states.iter().enumerate() {
            if states[..at].iter().any(|before| before.user == state.user) {
                return Err(format!("two changes of user {} in one frame", state.user));
            }
            if self.place(state.user).is_none() && !self.before.contains(&state.user) {
                return Err(format!("a change of user {}, who is not watched", state.user));
            }
            self.see(state);
        }
        // Frames that the network holds back come together: they are too many only if they come faster than they can have been sent.
        let ahead_us = self.next_push_us.saturating_sub(now_us);
        self.next_push_us = self.next_push_us.max(now_us) + self.tick_us;
        if ahead_us > PUSHES_AHEAD * self.tick_us {
            return Err(format!("frames with changes come {} ms before their time", ahead_us / 1_000));
        }
        Ok(())
    }

    fn place(&self, user: UserId) -> Option<usize> {
        self.seen.binary_search_by_key(&user, |seen| seen.user).ok()
    }

    fn see(&mut self, state: &PresenceState) {
        if let Some(at) = self.place(state.user) {
            let is_crowded = state.ask_again_ms > 0;
            self.seen[at] = Seen { user: state.user, state: Some(state.state), is_crowded };
        }
    }
}

/// Each of them in its first place.
fn once(users: &[UserId]) -> impl Iterator<Item = UserId> {
    users.iter().enumerate().filter(|(at, user)| !users[..*at].contains(user)).map(|(_, user)| *user)
}

/// A state as such.
fn check_state(state: &PresenceState) -> Result<(), String> {
    let PresenceState { user, state, last_seen, .. } = *state;
    let is_right = last_seen.0 == 0 || (state == Presence::Offline && last_seen.0.is_multiple_of(SEEN_EACH_MS));
    if is_right { Ok(()) } else { Err(format!("user {user} is {state:?} and was last seen at {}", last_seen.0)) }
}

/// Whether a request is of those that a device has while it looks who is there.
pub(super) const fn is_of_looking(request: RequestId) -> bool {
    request.0 > REQUESTS_ABOVE
}

#[cfg(test)]
mod tests {
    use proto_spec::TimestampMs;

    use super::*;

    const TICK_US: u64 = 1_000_000;

    fn state(user: u64, state: Presence) -> PresenceState {
        PresenceState { user: UserId(user), state, last_seen: TimestampMs(0), ask_again_ms: 0 }
    }

    fn watching(users: &[u64]) -> Looking {
        let mut looking = Looking::new(TICK_US);
        let out = &mut Vec::new();
        looking.watch(users.iter().copied().map(UserId).collect(), 0, out);
        let states: Vec<_> = users.iter().map(|user| state(*user, Presence::Online)).collect();
        let told = looking.take((RequestId(REQUESTS_ABOVE + 1), 20_000), &states, 5).unwrap();
        assert_eq!(told, Told::Watched { after_us: 5, renew_us: Some(10_000_005) });
        looking
    }

    fn push(looking: &mut Looking, now_us: u64, states: &[PresenceState]) -> Result<Told, String> {
        looking.take((RequestId(0), 0), states, now_us)
    }

    #[test]
    fn an_answer_has_everybody_who_was_asked_for_once_and_in_order() {
        let mut looking = watching(&[1, 2]);
        let out = &mut Vec::new();
        for (states, lifetime_ms) in [
            (vec![state(2, Presence::Online), state(1, Presence::Online)], 0),
            (vec![state(1, Presence::Online)], 0),
            (vec![state(1, Presence::Online), state(2, Presence::Online)], 5),
        ] {
            looking.fetch(vec![UserId(1), UserId(2)], 0, out);
            let request = RequestId(REQUESTS_ABOVE + looking.last_request);
            assert!(looking.take((request, lifetime_ms), &states, 5).is_err(), "{states:?}");
            assert!(looking.take((request, lifetime_ms), &states, 5).unwrap_err().contains("nothing waits"));
        }
    }

    #[test]
    fn who_is_asked_for_twice_is_told_of_once() {
        let mut looking = watching(&[1, 2]);
        looking.fetch(vec![UserId(2), UserId(1), UserId(2)], 0, &mut Vec::new());
        let states = [state(2, Presence::Online), state(1, Presence::Online)];
        assert_eq!(looking.take((RequestId(REQUESTS_ABOVE + 2), 0), &states, 5), Ok(Told::Answered { after_us: 5 }));
    }

    #[test]
    fn changes_are_of_those_who_are_watched_and_one_frame_a_tick() {
        let mut looking = watching(&[1, 2]);
        push(&mut looking, 10, &[state(2, Presence::Away)]).unwrap();
        assert_eq!(looking.seen()[1].state, Some(Presence::Away));
        let mut others = watching(&[1, 2]);
        assert!(push(&mut others, 10, &[state(3, Presence::Away)]).unwrap_err().contains("not watched"));
        assert!(push(&mut others, 10, &[]).is_err());
        assert!(push(&mut others, 10, &[state(1, Presence::Away), state(1, Presence::Online)]).is_err());
        // Held back by the network, and then too many.
        let outcomes: Vec<_> =
            (0..PUSHES_AHEAD + 3).map(|_| push(&mut looking, 20, &[state(1, Presence::Away)]).is_ok()).collect();
        assert!(outcomes[0] && outcomes.contains(&false), "{outcomes:?}");
    }

    #[test]
    fn who_is_watched_no_more_may_come_until_the_server_has_answered() {
        let mut looking = watching(&[1, 2]);
        looking.watch(vec![UserId(2), UserId(3)], 10, &mut Vec::new());
        push(&mut looking, 10, &[state(1, Presence::Away)]).unwrap();
        let states = [state(2, Presence::Online), state(3, Presence::Unknown)];
        looking.take((RequestId(REQUESTS_ABOVE + 2), 20_000), &states, 20).unwrap();
        assert!(push(&mut looking, 3 * TICK_US, &[state(1, Presence::Away)]).is_err());
    }

    #[test]
    fn a_watch_is_renewed_at_half_of_its_time_and_after_a_welcome() {
        let mut looking = watching(&[1, 2]);
        let out = &mut Vec::new();
        assert!(!looking.renew(10_000_004, out) && out.is_empty());
        assert!(looking.renew(10_000_005, out) && !out.is_empty());
        assert!(!looking.renew(10_000_006, out));
        looking.left();
        assert!(looking.seen().iter().all(|seen| seen.state.is_none()));
        out.clear();
        looking.connected(11_000_000, out);
        assert!(!out.is_empty());
    }

    #[test]
    fn when_somebody_was_last_seen_is_told_to_the_minute_and_only_of_who_is_gone() {
        let seen = |state, at| PresenceState { user: UserId(1), state, last_seen: TimestampMs(at), ask_again_ms: 0 };
        assert!(check_state(&seen(Presence::Offline, 3 * SEEN_EACH_MS)).is_ok());
        assert!(check_state(&seen(Presence::Offline, 3 * SEEN_EACH_MS + 1)).is_err());
        assert!(check_state(&seen(Presence::Online, 3 * SEEN_EACH_MS)).is_err());
    }
}
