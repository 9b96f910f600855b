//! Deeds: what people write to groups and do to them, whether they may or not.

use client::Input;
use proto_spec::{Act, Content, GroupId, MessageName, Role, Rules, Seq, UserId};

use super::{
    Crowd,
    law::{Law, SECRETS},
    truth::Truth,
};
use crate::rng::Rng;

impl Crowd {
    /// Somebody writes to a group, or does something to it.
    pub(super) fn act(&mut self) {
        let index = self.rng.within(0, self.apps.len() as u64 - 1) as usize;
        if self.apps[index].state.is_none() {
            return;
        }
        for _ in 0..self.rng.within(1, 3) {
            let user = self.apps[index].user;
            let Some(group) = self.truth.group_for(&mut self.rng, &self.groups, user) else { continue };
            let text = self.next_text();
            let log = self.truth.log(group);
            let law = &log.laws[log.entries.len()];
            let content = self.habits.deed(&mut self.rng, law, user, &text);
            let Some(state) = &mut self.apps[index].state else { return };
            if state.send(group, content).is_err() {
                break;
            }
        }
        self.turn(index, Input::Tick);
    }

    /// A text that nobody has written before.
    pub(super) fn next_text(&mut self) -> String {
        self.next_text += 1;
        format!("m{}", self.next_text)
    }
}

impl Truth {
    /// A group to which somebody writes: mostly one of theirs, or one that nobody has begun.
    pub(crate) fn group_for(&self, rng: &mut Rng, groups: &[GroupId], user: UserId) -> Option<GroupId> {
        if rng.chance(15) {
            return Some(*rng.pick(groups));
        }
        let is_theirs = |group: &&GroupId| {
            let law = self.logs.get(group).map(|log| &log.laws[log.entries.len()]).filter(|law| law.exists());
            law.is_none_or(|law| law.member(user).is_some())
        };
        let theirs: Vec<GroupId> = groups.iter().filter(is_theirs).copied().collect();
        (!theirs.is_empty()).then(|| *rng.pick(&theirs))
    }
}

/// What people do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// How many there are, by number.
    pub(crate) users: u64,
    /// Somebody may end a group.
    pub(crate) ends: bool,
    /// They write much at once.
    pub(crate) floods: bool,
}

impl Habits {
    /// What somebody writes, or does to a group that is so. `text`: what nobody has written before.
    pub(crate) fn deed(self, rng: &mut Rng, law: &Law, user: UserId, text: &str) -> Content {
        let rules = Rules::from_bits(rng.within(0, 15));
        let rules = if rng.chance(60) { Rules::HISTORY } else { rules };
        let picture = format!("of {text}");
        if !law.exists() && rng.chance(80) {
            return Content::act(&Act::Create { name: text, picture: &picture, rules });
        }
        let is_admin = law.member(user).is_some_and(|own| own.role >= Role::Admin);
        let other = UserId(rng.within(1, self.users));
        let outsider = (1..=self.users).map(UserId).find(|user| law.member(*user).is_none());
        match rng.within(0, if is_admin { 100 } else { 130 }) {
            0..=9 => Content::act(&Act::Add { user: outsider.unwrap_or(other) }),
            10..=14 => Content::act(&Act::Add { user: other }),
            15..=19 => Content::act(&Act::Remove { user: other }),
            20..=23 => Content::act(&Act::Remove { user }),
            24..=25 => Content::act(&Act::Ban { user: other }),
            26..=29 => Content::act(&Act::Unban { user: other }),
            30..=33 => Content::act(&Act::SetRole { user: other, role: *rng.pick(&[Role::Member, Role::Admin]) }),
            34 => Content::act(&Act::SetRole { user: other, role: Role::Owner }),
            35..=37 => Content::act(&Act::Describe { name: text, picture: &picture }),
            38..=40 => Content::act(&Act::SetRules { rules }),
            41..=44 => {
                let digest = rng.chance(80).then(|| &rng.pick(&SECRETS).1);
                Content::act(&Act::Invite { digest })
            }
            45..=49 => Content::act(&Act::Join { secret: rng.pick(&SECRETS).0.as_bytes() }),
            50 if self.ends => Content::act(&Act::End),
            51 => Content::act(&Act::Create { name: text, picture: &picture, rules }),
            52..=64 => change(rng, user, law, text),
            _ => {
                let is_long = rng.chance(if self.floods { 70 } else { 4 });
                let long = if is_long { rng.within(1_000, 16_000) as usize } else { 0 };
                Content::text(&format!("{text}{}", "x".repeat(long)))
            }
        }
    }
}

/// Something about a message, mostly one that there is.
fn change(rng: &mut Rng, user: UserId, law: &Law, text: &str) -> Content {
    let places: Vec<Seq> = law.messages.keys().copied().collect();
    let place = if places.is_empty() { Seq(1) } else { *rng.pick(&places) };
    let author = law.messages.get(&place).map_or(user, |message| message.author);
    let author = if rng.chance(5) { user } else { author };
    let of = MessageName { author, seq: place };
    match rng.within(0, if author == user { 9 } else { 11 }) {
        0..=4 => Content::edit(of, &Content::text(text), None),
        5 => Content::unsend(of, None),
        6 => Content::reaction(of, "", None),
        _ => Content::reaction(of, text, None),
    }
}
