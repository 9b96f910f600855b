//! The end: nothing is lost any more, and what everybody is told is what they may know, by what they ask for and by what is pushed to them.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{Event, Presence, Settings, UserId, Visibility};
use server::shard::{PresenceSettings, presence::ShownTo};

use super::{
    super::{Simulation, node::STRANGERS, oracle::Oracle},
    NOBODY, Told,
    hiding::What,
};

/// How long a watch in the end lasts beyond what it waits for, in milliseconds.
pub(super) const SLACK_MS: u64 = 1_000;

/// How often people change while they are watched in the end.
const ROUNDS: u64 = 2;

/// How long a watch in the end lasts, in milliseconds.
pub(super) const fn lifetime_ms(settings: &PresenceSettings) -> u64 {
    ROUNDS * held_ms(settings) + ANSWERED_MS + SLACK_MS
}

/// After so long what has changed has been told, in milliseconds.
const fn held_ms(settings: &PresenceSettings) -> u64 {
    settings.hold_ms + settings.grace_ms + 2 * settings.tick_ms + 1_000
}

/// What is asked for in the end is answered in this time, in milliseconds.
const ANSWERED_MS: u64 = 1_500;

impl Oracle {
    /// Whether the log of a user says that this is hidden.
    pub(super) fn says_hidden(&self, user: UserId, what: What) -> bool {
        let log = self.durable.range((user, proto_spec::Seq::ZERO)..=(user, proto_spec::Seq(u64::MAX)));
        let said = log.rev().find_map(|(_, entry)| match (&entry.event, what) {
            (Event::Visibility { visibility }, What::All) => Some(visibility.has(Visibility::INVISIBLE)),
            (Event::Visibility { visibility }, What::LastSeen) => Some(visibility.has(Visibility::HIDE_LAST_SEEN)),
            (Event::Settings { conversation, settings }, What::From(peer)) if *conversation == peer.into() => {
                Some(settings.has(Settings::BLOCKED))
            }
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// Whether a user is shown to another, by what their log says.
    fn says_shown(&self, user: UserId, looks: UserId, shown_to: ShownTo) -> bool {
        let log = self.durable.range((user, proto_spec::Seq::ZERO)..=(user, proto_spec::Seq(u64::MAX)));
        let is_known = log.map(|(_, entry)| &entry.event).any(|event| match event {
            Event::Sent { to, content, .. } => *to == looks.into() && content.is_message(),
            Event::Received { from, .. } => shown_to == ShownTo::Conversation && *from == looks,
            _ => false,
        });
        let is_known = is_known || user == looks;
        is_known
            && shown_to != ShownTo::Nobody
            && !self.says_hidden(user, What::All)
            && !self.says_hidden(user, What::From(looks))
            && !self.says_hidden(looks, What::From(user))
    }
}

impl Simulation {
    /// Once all is quiet: people change, and those who look know it.
    pub(in crate::sim) fn end_presence(&mut self) {
        let settings = self.watching.settings;
        let held_ms = held_ms(&settings);
        self.change_people();
        self.go_on_until(self.now.monotonic_ms + held_ms);
        let people: BTreeSet<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let others = [UserId(*STRANGERS.start()), UserId(*STRANGERS.start() + 1), NOBODY];
        let users: Vec<UserId> = people.into_iter().chain(others).collect();
        for index in 0..self.apps.len() {
            self.look(index, users.clone(), true);
        }
        self.go_on_until(self.now.monotonic_ms + ANSWERED_MS);
        self.compare_views("asked");
        let rounds = (settings.lifetime_ms.saturating_sub(ANSWERED_MS + SLACK_MS) / held_ms).min(ROUNDS);
        for _ in 0..rounds {
            self.change_people();
            self.go_on_until(self.now.monotonic_ms + held_ms);
            self.compare_views("told");
        }
        let heads = self.oracle.heads();
        for index in 0..self.apps.len() {
            self.type_to(index);
        }
        self.go_on_until(self.now.monotonic_ms + 500);
        if self.oracle.heads() != heads {
            let now = self.oracle.heads();
            self.oracle.fail(|| format!("somebody has typed, and logs have grown from {heads:?} to {now:?}"));
        }
    }

    /// Some look away, hide, show themselves, leave with a goodbye or without one, and come back. One at least stays.
    fn change_people(&mut self) {
        for index in 0..self.apps.len() {
            if !self.apps[index].is_running() {
                if self.rng.chance(50) {
                    self.start_app(index);
                }
                continue;
            }
            match self.rng.within(0, 9) {
                0..=2 => self.set_status(index),
                3 => self.hide_or_show(index),
                4 | 5 if self.watching.blocks => self.block_or_not(index),
                6 | 7 if index > 0 => self.leave_for_good(index),
                _ => {}
            }
        }
    }

    fn leave_for_good(&mut self, index: usize) {
        let Some(link) = self.apps[index].welcomed_link() else { return };
        let is_clean = self.rng.chance(50);
        if is_clean {
            self.say_bye(index);
        }
        self.apps[index].state = None;
        if !is_clean {
            self.cut(link);
        }
    }

    /// What each connection was told is what its user may know.
    fn compare_views(&mut self, how: &str) {
        let shown_to = self.watching.settings.shown_to;
        let mut wrong = Vec::new();
        for line in self.watching.lines.values() {
            if !line.questions.is_empty() {
                wrong.push(format!("user {}: {:?} have no answer", line.user, line.questions));
            }
            // Who has come back has not asked again.
            let is_answered = |user: &&UserId| how == "asked" || !line.crowded.contains(user);
            let told: BTreeMap<UserId, Told> = line.told.clone();
            for user in line.watched.iter().filter(is_answered) {
                let state = match self.oracle.says_shown(*user, line.user, shown_to) {
                    true => self.watching.presence_of(*user),
                    false => Presence::Unknown,
                };
                let hides_seen = state != Presence::Offline || self.oracle.says_hidden(*user, What::LastSeen);
                let is_right = match told.get(user) {
                    Some(Told::State(told, seen, _)) => *told == state && (seen.0 == 0 || !hides_seen),
                    Some(Told::Otherwise) => true,
                    None => false,
                };
                if !is_right {
                    let told = told.get(user);
                    wrong.push(format!("user {} was {how} of {user} {told:?}, who is {state:?}", line.user));
                }
            }
        }
        if let Some(wrong) = wrong.into_iter().next() {
            self.oracle.fail(|| wrong);
        }
    }
}
