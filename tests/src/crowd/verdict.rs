//! What must hold once everything has come to rest.

use proto_spec::{GroupId, Seq, Standing, UserId};

use super::{
    device::Device,
    law::Person,
    truth::{Outcome, Pointer, Truth},
};

impl Truth {
    /// Something that was sent and has had no outcome, or one that its author was not told.
    pub(crate) fn undecided_at_the_end(&self) -> Option<String> {
        self.sent.iter().find_map(|(key, sent)| {
            let outcome = self.outcomes.get(key).copied();
            let pointer = self.pointers.get(&(key.0, sent.group)).copied().unwrap_or_default();
            let is_told = match outcome {
                None => false,
                Some(Outcome::Placed(_)) => pointer.sent_up_to >= key.1,
                Some(Outcome::Refused(_)) => self.refusals.contains(key),
            };
            (!is_told).then(|| format!("{key:?} {sent:?} has become {outcome:?}, and its author has {pointer:?}"))
        })
    }

    /// A user who was not told how they stand to a group, or a device of theirs that does not know how far it is.
    pub(crate) fn wrong_standing<'a>(
        &self,
        group: GroupId,
        user: UserId,
        devices: impl Iterator<Item = &'a Device>,
    ) -> Option<String> {
        let log = self.logs.get(&group)?;
        let (law, head) = (log.durable_law(), log.head());
        let person = law.people.get(&user);
        let told = self.pointers.get(&(user, group)).copied();
        let stands = law.standing(user);
        // Who was removed and added again before their own log said so has stayed, as it were.
        let is_new = person.is_some_and(|person| person.parts.len() == 1);
        let added_by = law.added_by(user, &log.entries).filter(|_| is_new);
        if let Some(by) = added_by.filter(|by| self.blocked.contains(&(user, *by))) {
            return Some(format!("user {user} is a member of {group:?} by user {by}, whom they have blocked"));
        }
        if person.is_some_and(|person| !person.is_member() && person.parts.is_empty()) {
            // Who has declined and never was a member has heard of nothing, unless they wrote there or looked meanwhile.
            let is_member = told.is_some_and(|told| told.standing.is_member());
            return is_member.then(|| format!("user {user} has declined {group:?}, and was told {told:?}"));
        }
        // Nor has who was sent away by somebody whom they have blocked.
        let since = |person: &Person| log.entries.get(person.since.0 as usize - 1);
        let is_hidden = |person: &Person| {
            let by_blocked = since(person).is_some_and(|entry| self.blocked.contains(&(user, entry.from)));
            // What they wrote meanwhile leaves a pointer that says nothing of them.
            told.is_none_or(|told| told.standing == Standing::Unknown) && !person.is_member() && by_blocked
        };
        if person.is_some_and(is_hidden) {
            return None;
        }
        let has_declined = person.is_some_and(|person| since(person).is_some_and(|entry| entry.origin == Seq::ZERO));
        let is_so = |told: Pointer| {
            // Who declines has gone as they had before.
            let is_standing = told.standing == stands.0 || (has_declined && !told.standing.is_member());
            is_standing && told.first == stands.1
        };
        if person.is_some() != told.is_some() || told.is_some_and(|told| !is_so(told)) {
            return Some(format!("user {user} stands {stands:?} to {group:?}, and was told {told:?}"));
        }
        // Who has looked before they were none knows of more.
        if told.is_none() || has_declined {
            return None;
        }
        let last = person.map_or(Seq::ZERO, |person| person.last(head));
        let reached = |device: &Device| device.held.get(&group).map_or(Seq::ZERO, |held| held.reached);
        let mut wrong = devices.map(reached).filter(|reached| *reached != last);
        let reached = wrong.next()?;
        Some(format!("a device of user {user} knows of {group:?} up to {reached}, and not {last}: {told:?}"))
    }

    /// Something that a device of a user has in place of what it may read, from there on.
    pub(crate) fn wrong_held(&self, group: GroupId, user: UserId, device: &Device, is_all: bool) -> Option<String> {
        let log = self.logs.get(&group)?;
        // Who has heard of nothing does not look.
        self.pointers.get(&(user, group)).filter(|told| is_all || told.standing != Standing::Unknown)?;
        let held = device.held.get(&group);
        let first = if is_all { Seq(1) } else { log.durable_law().standing(user).1 };
        log.readable(user).into_iter().filter(|entry| entry.seq >= first).find_map(|entry| {
            let has = held.and_then(|held| held.entries.get(&entry.seq)).filter(|has| *has == entry);
            has.is_none().then(|| format!("a device of user {user} has not got {entry:?} of {group:?}"))
        })
    }
}
