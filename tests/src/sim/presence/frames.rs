//! Frames: what leaves the server about presence is looked at.

use std::collections::BTreeSet;

use proto_spec::{ConversationId, Entry, Event, Presence, PresenceState, Recipient, RequestId, ServerFrame, UserId};
use server::shard::{presence::ShownTo, topology::CoreId};

use super::{
    super::{Simulation, network::LinkId},
    Line, Moment, Question, Told,
    hiding::What,
};

/// By what a user is told of another.
#[derive(Clone, Copy, Debug)]
enum By {
    /// What was asked for once, then.
    Pull {
        asked: Moment,
        asked_ms: u64,
    },
    /// What was asked for, and what is to be told from then on.
    Watch {
        asked: Moment,
    },
    Push,
}

impl Simulation {
    /// A frame leaves the server for a connection of a user.
    pub(in crate::sim) fn check_presence(&mut self, core: CoreId, link: LinkId, user: UserId, frame: &ServerFrame) {
        let now = self.watching.moment();
        match frame {
            ServerFrame::Welcome { .. } => {
                let line = Line {
                    user,
                    core,
                    is_away: false,
                    noticed: Default::default(),
                    questions: Default::default(),
                    has_watched: false,
                    watched: BTreeSet::new(),
                    watched_at: now,
                    crowded: BTreeSet::new(),
                    told: Default::default(),
                    pushed_ms: None,
                };
                self.watching.lines.insert(link, line);
                self.watching.moves(user, self.now.monotonic_ms);
            }
            ServerFrame::Marked { request } => self.watching.hidings.answered((link, *request), true, now),
            ServerFrame::Error { request, .. } => {
                self.watching.hidings.answered((link, *request), false, now);
                self.look_refused(link, *request);
            }
            ServerFrame::Presence { request: RequestId(0), states, .. } => self.pushed(link, states),
            ServerFrame::Presence { request, lifetime_ms, states } => {
                self.answered(link, *request, *lifetime_ms, states)
            }
            ServerFrame::Accepted { seq, recipient, .. } => {
                let entry = self.oracle.durable.get(&(user, *seq)).cloned();
                if let Some(Event::Sent { to: ConversationId::Person(to), .. }) = entry.map(|entry| entry.event) {
                    self.accepted(link, to, *recipient);
                }
            }
            ServerFrame::Deliver { entry } => self.receipted(user, entry),
            ServerFrame::Page(page) => page.entries.iter().for_each(|entry| self.receipted(user, entry)),
            ServerFrame::Typing { conversation, user: from, .. } => {
                if *conversation != ConversationId::Person(*from) {
                    self.oracle.fail(|| format!("user {user}: {frame:?} names another conversation"));
                }
                self.typing(user, *from);
            }
            _ => {}
        }
    }

    fn look_refused(&mut self, link: LinkId, request: RequestId) {
        let Some(line) = self.watching.lines.get_mut(&link) else { return };
        if let Some(question) = line.questions.remove(&request)
            && question.is_watch
        {
            // What of it counts is not said.
            line.watched.extend(question.users);
            line.told.values_mut().for_each(|told| *told = Told::Otherwise);
            self.reached("question about presence not answered");
        }
    }

    fn answered(&mut self, link: LinkId, request: RequestId, lifetime_ms: u64, states: &[PresenceState]) {
        let Some(line) = self.watching.lines.get_mut(&link) else { return };
        let user = line.user;
        let Some(Question { at, at_ms, users, is_watch }) = line.questions.remove(&request) else {
            return self.oracle.fail(|| format!("user {user}: {request:?} was not asked, or is answered twice"));
        };
        let listed: Vec<UserId> = states.iter().map(|state| state.user).collect();
        let lifetime_wanted = if is_watch && !users.is_empty() { self.watching.settings.lifetime_ms } else { 0 };
        if listed != users || lifetime_ms != lifetime_wanted {
            self.oracle
                .fail(|| format!("user {user}: asked for {users:?} and was told of {listed:?}, for {lifetime_ms} ms"));
        }
        let crowded = states.iter().filter(|state| state.ask_again_ms > 0).map(|state| state.user);
        let crowded: BTreeSet<UserId> = crowded.collect();
        if !crowded.is_empty() {
            self.reached("user with too many watchers");
        }
        for state in states {
            let by = match is_watch && state.ask_again_ms == 0 {
                true => By::Watch { asked: at },
                false => By::Pull { asked: at, asked_ms: at_ms },
            };
            self.check_state(link, state, by);
        }
        let now = self.watching.now;
        let Some(line) = self.watching.lines.get_mut(&link).filter(|_| is_watch) else { return };
        line.has_watched = true;
        line.told.extend(states.iter().map(|of| (of.user, Told::State(of.state, of.last_seen, now))));
        if at < line.watched_at {
            // It was answered after one that has replaced it.
            return;
        }
        line.watched_at = at;
        line.watched = users.into_iter().collect();
        line.crowded = crowded;
    }

    fn pushed(&mut self, link: LinkId, states: &[PresenceState]) {
        let now_ms = self.now.monotonic_ms;
        let Some(line) = self.watching.lines.get_mut(&link) else { return };
        let (user, before_ms) = (line.user, line.pushed_ms.replace(now_ms));
        let tick_ms = self.watching.settings.tick_ms;
        if before_ms.is_some_and(|before_ms| now_ms < before_ms + tick_ms) || states.is_empty() {
            self.oracle.fail(|| format!("user {user}: told {states:?} at {now_ms}, and something at {before_ms:?}, less than {tick_ms} ms before"));
        }
        if states.len() > 1 {
            self.reached("several changes of presence in a frame");
        }
        for state in states {
            self.check_state(link, state, By::Push);
            let now = self.watching.now;
            let Some(line) = self.watching.lines.get_mut(&link) else { return };
            let asked = line.questions.values().filter(|question| question.is_watch);
            let is_watched = line.watched.contains(&state.user)
                || asked.into_iter().any(|question| question.users.contains(&state.user));
            let before = line.told.insert(state.user, Told::State(state.state, state.last_seen, now));
            // Else the device was told by an earlier connection.
            let before = before.unwrap_or(Told::Otherwise);
            let is_same =
                matches!(before, Told::State(told, seen, _) if (told, seen) == (state.state, state.last_seen));
            if is_same || !is_watched || state.ask_again_ms > 0 {
                self.oracle
                    .fail(|| format!("user {user}: {state:?} is pushed after {before:?}, watched: {is_watched}"));
            }
        }
    }

    /// What is told of a user may have been announced, and may be known to who is told.
    fn check_state(&mut self, link: LinkId, told: &PresenceState, by: By) {
        let now_ms = self.now.monotonic_ms;
        let watching = &self.watching;
        let Some(line) = watching.lines.get(&link) else { return };
        let PresenceState { user, state, last_seen, .. } = *told;
        let granularity_ms = watching.settings.last_seen_ms;
        let is_odd = last_seen.0 % granularity_ms != 0 || (last_seen.0 > 0 && state != Presence::Offline);
        let home = self.machine.home_of(user);
        let known = if home == Some(line.core) { None } else { Some(watching.mails.known(line.core, user)) };
        let since_ms = watching.ticks_ms[0].min(match by {
            By::Pull { asked_ms, .. } => asked_ms,
            By::Watch { .. } | By::Push => now_ms,
        });
        let is_announced = match (by, known) {
            (_, _) if state == Presence::Unknown => true,
            (By::Push | By::Watch { .. }, Some(known)) => {
                known.iter().any(|(sight, _)| (sight.state, sight.last_seen) == (state, last_seen))
            }
            _ => watching.may_be(user, state, since_ms, now_ms),
        };
        // When what is told now was said, at the earliest.
        let said = match (by, known) {
            (By::Pull { asked, .. }, _) => Some(asked),
            (_, Some(known)) => known.first().map(|(_, said)| *said),
            (_, None) => None,
        };
        let asked = match by {
            By::Watch { asked } => Some(asked),
            _ => None,
        };
        // Once it was told that there is nothing to be known, nothing is.
        let unknown = line.told.get(&user).and_then(|told| match told {
            Told::State(Presence::Unknown, _, at) => Some(*at),
            _ => None,
        });
        let is_over = |hidden: Moment| {
            said.is_none_or(|said| said > hidden)
                || asked.is_some_and(|asked| asked > hidden)
                || (matches!(by, By::Push) && unknown.is_some_and(|at| at > hidden))
        };
        let all_hidden = watching.is_hidden_since(user, line.user);
        let seen_hidden = watching.hidings.since(user, What::LastSeen);
        let is_told = state != Presence::Unknown && all_hidden.is_some_and(is_over);
        let is_seen = last_seen.0 > 0 && seen_hidden.is_some_and(is_over);
        if is_odd || !is_announced || is_told || is_seen {
            let what = (is_odd, !is_announced, is_told, is_seen);
            let sentence = format!(
                "user {}: {told:?} by {by:?} at {now_ms}: odd, not announced, hidden, last seen hidden: {what:?}; \
                 hidden since {all_hidden:?}, {seen_hidden:?}, said {said:?}, known here {known:?}, {:?}",
                line.user,
                watching.times.get(&user),
            );
            self.oracle.fail(|| sentence);
        }
    }

    /// The answer to a message tells that its recipient is there, or not.
    fn accepted(&mut self, link: LinkId, to: UserId, recipient: Recipient) {
        let watching = &mut self.watching;
        let Some(line) = watching.lines.get_mut(&link) else { return };
        let user = line.user;
        if recipient == Recipient::Offline {
            line.told.entry(to).and_modify(|told| *told = Told::Otherwise);
        }
        if recipient != Recipient::Online {
            return;
        }
        self.reached("accepted with its recipient there");
        let hidden = self.watching.is_hidden_since(to, user);
        let is_there = self.is_served(to);
        if hidden.is_some() || !is_there {
            self.oracle
                .fail(|| format!("user {user} is told that {to} is there: {is_there}, and hidden since {hidden:?}"));
        }
    }

    /// It is told that somebody types: only between two who may see each other.
    fn typing(&mut self, to: UserId, from: UserId) {
        self.reached("typing passed on");
        let watching = &self.watching;
        let said = watching.mails.heard;
        let is_over = |hidden: &Moment| said.is_none_or(|said| said > *hidden);
        let hidden = [watching.is_hidden_since(from, to), watching.is_hidden_since(to, from)];
        if hidden.iter().flatten().any(is_over) {
            self.oracle.fail(|| format!("user {to} is told that {from} types, said {said:?}, hidden since {hidden:?}"));
        }
    }

    /// A receipt tells that a device of `peer` was there, who may have been hidden since before the message was.
    fn receipted(&mut self, user: UserId, entry: &Entry) {
        let Event::Delivered { peer, up_to } = entry.event else { return };
        let watching = &self.watching;
        let written = watching.durable_since.get(&(user, up_to)).copied();
        let hidden = watching.is_hidden_since(peer, user);
        // Where there is no presence there is nothing to hide.
        let is_off = watching.settings.shown_to == ShownTo::Nobody;
        if !is_off && hidden.zip(written).is_some_and(|(hidden, written)| hidden < written) {
            self.oracle.fail(|| {
                format!("user {user} is told that {peer} has {up_to}, and is hidden since before that: {hidden:?}")
            });
        }
    }
}
