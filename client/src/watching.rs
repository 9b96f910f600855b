//! Whom the application watches, what it was told last of each, and the watch that the server has of it (SPEC 4.34, 8.10). PURE.
//!
//! A watch ends by itself, so it is sent again at half of its lifetime, and that of a lost connection is gone. What the server tells no
//! more is not known: then every user is [`Presence::Unknown`] again, and the application is told.
//!
//! Invariants: at most `WATCHED_MAX` users; at most one watch awaits its answer.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{ClientFrame, Presence, PresenceState, RequestId, TimestampMs, UserId};

use crate::{event::UserPresence, limits::WATCH_AGAIN_AFTER_MIN_MS, state::MonotonicMs};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watching {
    users: BTreeMap<UserId, Told>,
    /// Of whom something was told and who are not watched any more: the application is told that they are unknown now.
    dropped: Vec<UserId>,
    stage: Stage,
    /// When the watch that the server has taken ends.
    ends_at: Option<MonotonicMs>,
}

/// What the application was told last of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    state: Presence,
    last_seen: Option<TimestampMs>,
}

/// The next watch that is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// None: nobody is watched, or the server does not take it.
    #[default]
    Idle,
    /// It leaves when the connection is ready, not before this.
    Due(MonotonicMs),
    /// It left, and nobody has answered yet.
    InFlight(RequestId),
    /// One of another set left, and nobody has answered yet. This one follows.
    Outdated(RequestId),
}

impl Watching {
    /// From now on these are watched, and no others. The same again changes nothing.
    pub(crate) fn watch(&mut self, users: &BTreeSet<UserId>) {
        if self.users.keys().eq(users) {
            return;
        }
        let dropped = self.users.iter().filter(|(user, told)| !users.contains(user) && **told != Told::default());
        self.dropped.extend(dropped.map(|(user, _)| *user));
        self.users.retain(|user, _| users.contains(user));
        users.iter().for_each(|user| _ = self.users.entry(*user).or_default());
        self.stage = match self.stage {
            Stage::InFlight(request) | Stage::Outdated(request) => Stage::Outdated(request),
            Stage::Idle | Stage::Due(_) => Stage::Due(MonotonicMs(0)),
        };
    }

    /// A server that knows of no watch.
    pub(crate) fn connected(&mut self) {
        self.stage = if self.users.is_empty() { Stage::Idle } else { Stage::Due(MonotonicMs(0)) };
    }

    /// The connection is gone, and with it the watch: whose states are not known any more.
    pub(crate) fn disconnected(&mut self) -> Vec<UserPresence> {
        self.stage = Stage::Idle;
        self.forget()
    }

    /// When the next watch is due, or the one that the server has ends.
    pub(crate) fn deadline(&self) -> Option<MonotonicMs> {
        let due = if let Stage::Due(at) = self.stage { Some(at) } else { None };
        [due, self.ends_at].into_iter().flatten().min()
    }

    /// The watch to be sent now under this request, if it is time.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs, request: impl FnOnce() -> RequestId) -> Option<ClientFrame> {
        if !matches!(self.stage, Stage::Due(at) if at <= now) {
            return None;
        }
        let request = request();
        self.stage = Stage::InFlight(request);
        Some(ClientFrame::Watch { request, users: self.users.keys().copied().collect() })
    }

    /// Whose states are not known any more, because the watch has ended, or they are not of it.
    pub(crate) fn ended(&mut self, now: MonotonicMs) -> Vec<UserPresence> {
        if self.ends_at.is_some_and(|at| at <= now) {
            return self.forget();
        }
        self.dropped.drain(..).map(unknown).collect()
    }

    /// What is new in the answer to the watch that was sent. None: this request is none.
    pub(crate) fn answered(
        &mut self,
        now: MonotonicMs,
        request: RequestId,
        lifetime_ms: u64,
        states: &[PresenceState],
    ) -> Option<Vec<UserPresence>> {
        let is_outdated = self.awaited(request)?;
        // Who has too many watchers is asked for with all the others: by then there may be room for one more.
        let asks = states.iter().map(|of| of.ask_again_ms).filter(|ms| *ms > 0);
        let again_ms = asks.fold(lifetime_ms / 2, u64::min).max(WATCH_AGAIN_AFTER_MIN_MS);
        self.stage = match (is_outdated, self.users.is_empty()) {
            (true, _) => Stage::Due(MonotonicMs(0)),
            (false, true) => Stage::Idle,
            (false, false) => Stage::Due(now.after(again_ms)),
        };
        self.ends_at = (!self.users.is_empty()).then_some(now.after(lifetime_ms.max(WATCH_AGAIN_AFTER_MIN_MS)));
        Some(self.changed(states))
    }

    /// The server has not taken the watch that was sent; it will from this time on, or never on this connection. What it had before stays
    /// until it ends. False: this request is none.
    pub(crate) fn refused(&mut self, request: RequestId, again_at: Option<MonotonicMs>) -> bool {
        let Some(is_outdated) = self.awaited(request) else { return false };
        self.stage = match again_at {
            Some(at) => Stage::Due(at),
            None if is_outdated => Stage::Due(MonotonicMs(0)),
            None => Stage::Idle,
        };
        true
    }

    /// What is new in what the server says of users. Nothing, where no watch is known to stand.
    pub(crate) fn changed(&mut self, states: &[PresenceState]) -> Vec<UserPresence> {
        if self.ends_at.is_none() {
            return Vec::new();
        }
        states.iter().map(UserPresence::from).filter_map(|now| self.tell(now)).collect()
    }

    /// No device of this user is connected, as far as one may know. What that changes, if anybody has been told that they are there.
    pub(crate) fn not_there(&mut self, user: UserId) -> Option<UserPresence> {
        let is_shown = self.users.get(&user).is_some_and(|told| told.state >= Presence::Away);
        let now = UserPresence { user, state: Presence::Offline, last_seen: None };
        if is_shown { self.tell(now) } else { None }
    }

    /// Whether another one is to follow the watch with this request, which awaits its answer. Zero, of a server that can not read it, is any.
    fn awaited(&self, request: RequestId) -> Option<bool> {
        match self.stage {
            Stage::InFlight(sent) if request == sent || request == RequestId(0) => Some(false),
            Stage::Outdated(sent) if request == sent || request == RequestId(0) => Some(true),
            Stage::Idle | Stage::Due(_) | Stage::InFlight(_) | Stage::Outdated(_) => None,
        }
    }

    fn tell(&mut self, now: UserPresence) -> Option<UserPresence> {
        let told = self.users.get_mut(&now.user)?;
        let state = Told { state: now.state, last_seen: now.last_seen };
        (std::mem::replace(told, state) != state).then_some(now)
    }

    fn forget(&mut self) -> Vec<UserPresence> {
        self.ends_at = None;
        for (user, told) in &mut self.users {
            self.dropped.extend((std::mem::take(told) != Told::default()).then_some(*user));
        }
        self.dropped.drain(..).map(unknown).collect()
    }
}

const fn unknown(user: UserId) -> UserPresence {
    UserPresence { user, state: Presence::Unknown, last_seen: None }
}
