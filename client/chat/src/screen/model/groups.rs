//! Groups: what is done to one, what the client tells of them, and what is missing of the one that is shown.

use client::{
    Act, Content, ConversationId, Direction, Entry, ErrorCode, Event, FetchHandle, Group, GroupEntry, GroupId,
    GroupPage, GroupRow, MemberInfo, Role, Rules, SendHandle, Seq, Settings, Standing, UNREAD_MAX, UserId,
};

use super::Model;
use crate::{
    content::names,
    screen::{
        effect::{Effect, Now},
        messages::Older,
    },
    visible::tame,
    words,
};

/// Entries of a group that are missing at most to be fetched one after the other. Of more the newest are shown, as when it is opened.
const MISSING_MAX: u64 = 500;

/// What is missing of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// It is to be asked for.
    Wanted,
    /// It is on its way.
    Asked(FetchHandle),
}

impl Model {
    /// The group that is shown.
    pub(super) fn group(&self) -> Result<GroupId, &'static str> {
        match self.peer {
            ConversationId::Group(group) => Ok(group),
            ConversationId::Person(_) => Err("This is no group: /to #ID opens one, and /group NAME begins one."),
        }
    }

    /// What a conversation is called: a user by number, a group by its name behind it.
    pub(crate) fn called(&self, conversation: ConversationId) -> String {
        let name = match conversation {
            ConversationId::Group(group) => self.groups.get(group).map_or("", Group::name),
            ConversationId::Person(_) => "",
        };
        if name.is_empty() { conversation.to_string() } else { format!("{conversation} {}", tame(name)) }
    }

    /// The name of the group that is shown is asked for, if it is not known.
    pub(super) fn ask_name(&self, effects: &mut Vec<Effect>) {
        if let Ok(group) = self.group()
            && self.groups.get(group).is_none_or(|known| known.name().is_empty())
        {
            effects.push(Effect::Name(group));
        }
    }

    pub(super) fn begin_group(&mut self, now: Now, name: String, draft: String, effects: &mut Vec<Effect>) {
        let act = Content::act(&Act::Create { name: &name, picture: "", rules: Rules::default() });
        let number = self.messages.wait(super::NOBODY, draft, act, now.wall);
        effects.push(Effect::Begin { number, name });
    }

    /// The client has drawn its id. It is shown, with nothing in it.
    pub(crate) fn begun(&mut self, number: u64, group: GroupId, handle: SendHandle) {
        self.messages.begun(number, group, handle);
        self.groups.begun(group);
        self.switch(group.into(), &mut Vec::new());
        self.messages.older = Older::Nothing;
        self.say(format!("The group is #{group}: /add USER lets somebody in, /to #{group} comes back."));
    }

    pub(super) fn on_entry_of_groups(&mut self, entry: &Entry) {
        let before = match &entry.event {
            Event::Group { group, .. } => self.groups.get(*group).map_or(Standing::Unknown, Group::standing),
            _ => Standing::Unknown,
        };
        self.groups.entry(entry);
        match &entry.event {
            Event::Group { group, sent_up_to, standing: now, .. } => {
                let is_here = self.group() == Ok(*group);
                if is_here {
                    self.messages.numbered(Seq::ZERO, *sent_up_to);
                }
                match (before, now) {
                    (Standing::Member, Standing::Member) => {}
                    // Whoever has just begun it knows.
                    (_, Standing::Member) if is_here => {}
                    (_, Standing::Member) => self.say(format!("You are in group #{group} now: /to #{group} opens it.")),
                    (Standing::Member, _) => {
                        let called = self.called((*group).into());
                        self.say(format!("You are no member of {called} any more."));
                    }
                    (_, _) => {}
                }
            }
            Event::GroupRefused { group, origin, code } => {
                let role = self.groups.get(*group).and_then(Group::role);
                let why = match (code, role) {
                    // There is nothing else that an owner may not do.
                    (ErrorCode::NotAllowed, Some(Role::Owner)) => {
                        "who owns it makes another one the owner: /role USER owner"
                    }
                    _ => words::refused(*code),
                };
                if let Some(waiting) = self.messages.refused_by_group(*group, *origin, *code) {
                    let draft = waiting.draft.clone();
                    self.give_back(draft, &format!("The group has not taken it: {why}"));
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_group_entry(&mut self, group: GroupId, entry: &GroupEntry) {
        let is_new = self.groups.get(group).is_none_or(|known| entry.seq > known.reached());
        self.groups.pushed(group, entry);
        let Some(me) = self.me else { return };
        let is_here = self.peer == group.into();
        let is_message = if is_here { self.messages.group_entry(entry, me) } else { entry.content.is_message() };
        let settings = self.groups.get(group).map(Group::settings).unwrap_or_default();
        let is_named = settings.has(Settings::MENTIONS_ONLY) && names(&entry.content, me);
        let is_muted = settings.has(Settings::MUTED) && !is_named;
        if !is_new || !is_message || entry.from == me {
            return;
        }
        if is_here && self.anchor.is_some() {
            self.unseen += 1;
        } else if !is_here && !is_muted {
            *self.unread.entry(group.into()).or_default() += 1;
        }
    }

    pub(super) fn on_group_page(&mut self, fetch: FetchHandle, direction: Direction, page: &GroupPage) {
        let is_filling = self.filling.take_if(|filling| *filling == Filling::Asked(fetch)).is_some();
        let fetching = self.fetching.take_if(|(fetching, _)| *fetching == fetch);
        let is_older = fetching.is_some_and(|(_, older)| older == self.messages.older);
        let Some(me) = self.me.filter(|_| is_filling || is_older) else { return };
        self.groups.page(direction, page);
        if is_filling {
            page.entries.iter().for_each(|entry| _ = self.messages.group_entry(entry, me));
        } else {
            self.messages.group_page(page, me);
        }
    }

    /// Asks for what is missing of the group that is shown, if anything is.
    pub(super) fn fill(&mut self, effects: &mut Vec<Effect>) {
        let Ok(group) = self.group() else { return };
        let known = self.groups.get(group);
        let Some(from) = known.and_then(Group::lacks).filter(|_| self.filling.is_none()) else { return };
        let reached = known.map_or(Seq::ZERO, Group::reached);
        if reached.0 - from.0 < MISSING_MAX {
            self.filling = Some(Filling::Wanted);
            return effects.push(Effect::Fill { group, from });
        }
        if self.fetching.is_none() {
            self.messages.switch(self.peer);
            self.follow();
            self.fetch(self.page(), effects);
        }
    }

    /// The client has asked for what is missing.
    pub(crate) const fn filling(&mut self, fetch: FetchHandle) {
        self.filling = Some(Filling::Asked(fetch));
    }

    /// It has not: the next event is another occasion.
    pub(crate) const fn not_filled(&mut self) {
        self.filling = None;
    }

    pub(super) fn on_groups(
        &mut self,
        fetch: FetchHandle,
        (at, more): (Seq, bool),
        rows: &[GroupRow],
        effects: &mut Vec<Effect>,
    ) {
        self.groups.rows(at, rows);
        if self.asked.take_if(|asked| *asked == fetch).is_none() {
            return;
        }
        let mut text = self.listing.take().unwrap_or_else(|| "Your groups\n\n".to_owned());
        for row in rows {
            let id = format!("#{}", row.group);
            let is = match row.standing {
                Standing::Member => row.role.name(),
                other => other.name(),
            };
            let unread = match self.groups.unread(row.group) {
                None | Some(0) => String::new(),
                Some(many) if many > UNREAD_MAX => format!(" ({UNREAD_MAX}+ unread)"),
                Some(few) => format!(" ({few} unread)"),
            };
            text += &format!("{id:<23}{is:<9}{}{unread}\n", tame(&row.name));
        }
        match rows.last().filter(|_| more) {
            Some(last) => effects.push(Effect::Groups(last.group)),
            None => text += "\n/to #ID     open one\n/group NAME begin one",
        }
        self.listing = Some(text);
    }

    pub(super) fn on_members(
        &mut self,
        fetch: FetchHandle,
        (group, more): (GroupId, bool),
        members: &[MemberInfo],
        (delivered, read): (u64, u64),
        effects: &mut Vec<Effect>,
    ) {
        if self.asked.take_if(|asked| *asked == fetch).is_none() {
            return;
        }
        let heading = || format!("Members of {}\n\n", self.called(group.into()));
        let mut text = self.listing.clone().unwrap_or_else(heading);
        for MemberInfo { user, role, read_up_to, delivered_up_to, .. } in members {
            let about = match (read_up_to, delivered_up_to) {
                _ if self.me == Some(*user) => "(you)".to_owned(),
                (&Seq::ZERO, &Seq::ZERO) => String::new(),
                (&Seq::ZERO, has) => format!("has #{has}"),
                (read, has) if has > read => format!("read up to #{read}, has #{has}"),
                (read, _) => format!("read up to #{read}"),
            };
            let line = format!("{:<23}{:<9}{about}", user.to_string(), role.name());
            text += &format!("{}\n", line.trim_end());
        }
        match members.last().filter(|_| more) {
            Some(last) => effects.push(Effect::Members(group, last.user)),
            None => {
                let newest = self.newest(group);
                if newest > Seq::ZERO {
                    text += &format!("\nOf the others {delivered} have #{newest}, and {read} have read it.\n");
                }
                text += "\n/add USER, /remove USER, /role USER admin (member, owner), /leave";
            }
        }
        self.listing = Some(text);
    }

    /// The newest entry of a group, as far as it was heard of.
    pub(crate) fn newest(&self, group: GroupId) -> Seq {
        self.groups.get(group).map(|known| known.reached()).unwrap_or_default()
    }

    /// Something is done to the group that is shown.
    pub(super) fn act(
        &mut self,
        now: Now,
        act: &Act<'_>,
        draft: String,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let group = self.group()?;
        self.send(now, group.into(), draft, Content::act(act), effects);
        Ok(())
    }

    /// What it looks like stays.
    pub(super) fn rename(
        &mut self,
        now: Now,
        name: &str,
        draft: String,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let picture = self.groups.get(self.group()?).map_or("", Group::picture).to_owned();
        self.act(now, &Act::Describe { name, picture: &picture }, draft, effects)
    }

    pub(super) fn invite(&mut self, now: Now, draft: String, effects: &mut Vec<Effect>) -> Result<(), &'static str> {
        let group = self.group()?;
        // What it says is known when the secret has been drawn, and shows nothing of it.
        let act = Content::act(&Act::Invite { digest: Some(&[0; 32]) });
        let number = self.messages.wait(group.into(), draft, act, now.wall);
        effects.push(Effect::Invite { number, group });
        Ok(())
    }

    /// The client has drawn the secret.
    pub(crate) fn invited(&mut self, number: u64, group: GroupId, handle: SendHandle, secret: &str) {
        self.messages.taken(number, handle);
        self.say(format!("Whoever types this comes in: /join #{group} {secret}"));
    }

    /// Who leaves removes themselves.
    pub(super) fn leave_group(
        &mut self,
        now: Now,
        draft: String,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let user: UserId = self.me.ok_or("Not connected yet: you can leave in a moment.")?;
        self.act(now, &Act::Remove { user }, draft, effects)
    }
}
