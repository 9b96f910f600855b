//! What must hold once everything has come to rest.

use proto_spec::{GroupId, Seq, UserId};

use super::{
    device::Device,
    truth::{Outcome, Truth},
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
        if person.is_some() != told.is_some() || told.is_some_and(|told| (told.standing, told.first) != stands) {
            return Some(format!("user {user} stands {stands:?} to {group:?}, and was told {told:?}"));
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
        let held = device.held.get(&group);
        let first = if is_all { Seq(1) } else { log.durable_law().standing(user).1 };
        log.readable(user).into_iter().filter(|entry| entry.seq >= first).find_map(|entry| {
            let has = held.and_then(|held| held.entries.get(&entry.seq)).filter(|has| *has == entry);
            has.is_none().then(|| format!("a device of user {user} has not got {entry:?} of {group:?}"))
        })
    }
}
