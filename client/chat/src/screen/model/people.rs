//! Who of those on the screen is there, who types, and what others are told of the person who sits here.

use std::collections::{BTreeMap, BTreeSet};

use client::{
    ConversationId, FetchHandle, MonotonicMs, Settings, Status, UserId, UserPresence, Visibility, WATCHED_MAX,
};

use super::{Model, NOBODY};
use crate::screen::{
    draw,
    effect::{Effect, Now},
};

/// Without a key for so long nobody sits here, as far as others are told. Longer than somebody reads a page.
const AWAY_AFTER_MS: u64 = 5 * 60_000;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct People {
    /// Of those who are watched, whoever is not unknown.
    known: BTreeMap<UserId, UserPresence>,
    /// Where, and who.
    typing: BTreeSet<(ConversationId, UserId)>,
    /// What is hidden of the own presence, as far as the log has said.
    pub(crate) hidden: Visibility,
    /// A change of that is asked for, and what to say once it is done.
    asked: Option<(FetchHandle, &'static str)>,
    key_at: MonotonicMs,
    is_away: bool,
    /// Something was typed with this step.
    has_typed: bool,
}

impl People {
    /// The client has told of a user that is watched.
    pub(super) fn is(&mut self, presence: UserPresence) {
        match presence.state {
            client::Presence::Unknown => self.known.remove(&presence.user),
            _ => self.known.insert(presence.user, presence),
        };
    }

    pub(super) fn types(&mut self, conversation: ConversationId, user: UserId) {
        self.typing.insert((conversation, user));
    }

    pub(super) fn types_no_more(&mut self, conversation: ConversationId, user: UserId) {
        self.typing.remove(&(conversation, user));
    }

    /// Something was typed into the draft.
    pub(super) const fn typed(&mut self) {
        self.has_typed = true;
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.key_at = now.monotonic;
        if std::mem::take(&mut self.is_away) {
            effects.push(Effect::Status(Status::Here));
        }
    }

    fn away_at(&self) -> MonotonicMs {
        self.key_at.after(AWAY_AFTER_MS)
    }

    /// When others are told that nobody sits here.
    pub(super) fn deadline(&self) -> Option<MonotonicMs> {
        (!self.is_away).then(|| self.away_at())
    }

    /// The client has asked for a change of what is hidden.
    pub(crate) fn asked(&mut self, fetch: FetchHandle, set: Visibility, cleared: Visibility) {
        self.asked = Some((fetch, done(set, cleared)));
    }

    /// That change is made. None: nobody has asked for it here.
    pub(super) fn done(&mut self, fetch: FetchHandle) -> Option<&'static str> {
        self.asked.take_if(|(asked, _)| *asked == fetch).map(|(_, words)| words)
    }

    pub(crate) fn presence(&self, conversation: ConversationId) -> Option<&UserPresence> {
        let ConversationId::Person(user) = conversation else { return None };
        self.known.get(&user)
    }

    /// Who types there, by ascending user.
    pub(crate) fn typists(&self, conversation: ConversationId) -> impl Iterator<Item = UserId> {
        let there = (conversation, UserId(0))..=(conversation, UserId(u64::MAX));
        self.typing.range(there).map(|(_, user)| *user)
    }
}

impl Model {
    /// Whom the screen shows, and so whom the client is to watch: at most as many as it takes.
    pub(crate) fn watched(&self) -> Vec<UserId> {
        let listed = self.list.iter().map(|row| row.conversation);
        let rows = if self.list.is_open { usize::from(draw::message_rows(self)) } else { 0 };
        let listed = listed.skip(draw::first_row(self, rows)).take(rows);
        let all = std::iter::once(self.peer).chain(listed).filter(|conversation| self.is_of_interest(*conversation));
        let user_of = |conversation| match conversation {
            ConversationId::Person(user) => Some(user),
            ConversationId::Group(_) => None,
        };
        let users: BTreeSet<UserId> = all.filter_map(user_of).take(WATCHED_MAX).collect();
        users.into_iter().collect()
    }

    /// Of others, unless they are blocked.
    fn is_of_interest(&self, conversation: ConversationId) -> bool {
        let mut rows = self.list.iter();
        let is_blocked = rows.any(|row| row.conversation == conversation && row.settings.has(Settings::BLOCKED));
        conversation != NOBODY && Some(conversation) != self.me.map(ConversationId::Person) && !is_blocked
    }

    /// What others are told of the person who sits here: that they write to somebody, or sit here no more.
    pub(super) fn tell_of_oneself(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.people.has_typed) && self.is_message() && self.is_of_interest(self.peer) {
            effects.push(Effect::Typing(self.peer));
        }
        if !self.people.is_away && self.people.away_at() <= now.monotonic {
            self.people.is_away = true;
            effects.push(Effect::Status(Status::Away));
        }
    }

    /// The draft is going to be a message to the one whose conversation is shown: it is not blank, and no command.
    fn is_message(&self) -> bool {
        let draft = self.editor.text().trim_start();
        let is_command = !self.is_plain() && draft.starts_with('/') && !draft.starts_with("//");
        !self.list.is_open && !draft.is_empty() && !is_command
    }
}

/// What to say once this is hidden, or shown again.
fn done(set: Visibility, cleared: Visibility) -> &'static str {
    match (set, cleared) {
        (Visibility::INVISIBLE, _) => "Nobody sees any more whether you are here; /visible shows it again.",
        (_, Visibility::INVISIBLE) => "Others see again whether you are here.",
        (Visibility::HIDE_LAST_SEEN, _) => "Nobody sees any more when you were here last; /lastseen on shows it again.",
        _ => "Who sees whether you are here sees again when you were here last.",
    }
}
