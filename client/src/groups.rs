//! What a client holds of the user's groups (SPEC 8.12): how the user stands to each, how far its log has come, and the newest part of that log.
//!
//! An application feeds it with everything that the client tells of groups, and asks it where to fetch. Pushes and pages are laid
//! together by the group's seqs, so it makes no difference by which of them an entry came, nor what a lost connection has swallowed: the
//! pointer says how far the group is, and [`Group::lacks`] where to go on.

mod window;

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{
    Act, Body, Content, ConversationId, Direction, Entry, Event, GroupEntry, GroupId, GroupPage, GroupRow, Role, Rules,
    Seq, Settings, Standing, UserId,
};

use self::window::Window;
use crate::limits::{GROUP_ENTRIES_MAX, QUEUED_MESSAGES_MAX};

/// See the head of this file. Begins with nothing known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Who the user is; nobody before the first welcome.
    me: UserId,
    groups: BTreeMap<GroupId, Group>,
}

/// What is known of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    standing: Standing,
    first: Seq,
    reached: Seq,
    window: Window,
    /// What the user sent and the group has not answered, by its seq in the own log.
    unanswered: BTreeMap<Seq, Content>,
    /// With the seq of the own log that says so.
    read_up_to: Latest<Seq>,
    settings: Latest<Settings>,
    /// As its row counted it.
    counted: Option<Counted>,
    /// Where messages stand that the user has deleted for themselves.
    deleted: BTreeSet<Seq>,
    role: Latest<Role>,
    rules: Latest<Rules>,
    description: Latest<Description>,
    /// How many members it had, when its row came.
    members: u64,
}

/// How much is unread up to some head: what a row said, and what was pushed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    head: Seq,
    unread: u64,
}

/// What a group is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Description {
    name: String,
    picture: String,
}

/// What the last entry says that says anything of it, and which one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Latest<T>(Option<(Seq, T)>);

impl<T> Latest<T> {
    fn set(&mut self, seq: Seq, what: T) {
        if self.0.as_ref().is_none_or(|(known, _)| seq >= *known) {
            self.0 = Some((seq, what));
        }
    }

    const fn get(&self) -> Option<&T> {
        match &self.0 {
            Some((_, what)) => Some(what),
            None => None,
        }
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// A message of a group, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMessage<'a> {
    /// Where it stands: the seq of the group's log that it had first, and its name with its author.
    pub place: Seq,
    /// Who wrote it.
    pub author: UserId,
    /// What says now what it says; an [`Content::Unsend`] if that is nothing any more.
    pub entry: &'a GroupEntry,
}

/// What a page has done to what was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageTaken {
    /// It goes on from what was held, or is the first.
    Joined,
    /// It is so much newer that something is missing between: what was held before is let go of, and this is what is held.
    Restarted,
    /// It does not touch what is held, or there is no room for more: nothing has changed.
    Left,
}

impl Groups {
    /// Who the user is, as the welcome says.
    pub const fn welcome(&mut self, me: UserId) {
        self.me = me;
    }

    /// The user's groups, as far as they are known, by ascending id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group)
    }

    /// Messages that the user has not read: those of others among what has come; if some of that are missing behind the read mark, as many as the
    /// group's row said, and what has come since. None: then there was no row, or something is missing behind it.
    #[must_use]
    pub fn unread(&self, group: GroupId) -> Option<u64> {
        self.get(group)?.unread(self.me)
    }

    /// The log was replaced ([`crate::ClientEvent::LogReplaced`]): nothing is known any more.
    pub fn discard(&mut self) {
        self.groups.clear();
    }

    /// This device has just begun a group ([`crate::Client::create_group`]): everything of its log is known so far, which is nothing.
    pub fn begun(&mut self, group: GroupId) {
        self.of(group).window.backwards(Seq(1), Seq::ZERO, &[], true);
    }

    /// Takes an entry of the user's log. Those that are not about a group change nothing.
    pub fn entry(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Group { group, standing, first, up_to, sent_up_to } => {
                let group = self.of(*group);
                if group.first == Seq::ZERO || *first < group.first {
                    let before = Some(group.first).filter(|first| *first > Seq::ZERO);
                    group.window.may_read_from(*first, before);
                }
                (group.standing, group.first) = (*standing, *first);
                group.reached = group.reached.max(*up_to);
                group.unanswered = group.unanswered.split_off(&sent_up_to.next());
            }
            Event::GroupRefused { group, origin, .. } => _ = self.of(*group).unanswered.remove(origin),
            Event::Sent { to: ConversationId::Group(group), content, .. } => {
                let unanswered = &mut self.of(*group).unanswered;
                unanswered.insert(entry.seq, content.clone());
                if unanswered.len() > QUEUED_MESSAGES_MAX {
                    unanswered.pop_first();
                }
            }
            Event::Read { conversation: ConversationId::Group(group), up_to, .. } => {
                let group = self.of(*group);
                let before = group.read_up_to.get().copied();
                group.read_up_to.set(entry.seq, *up_to);
                if group.read_up_to.get().copied() != before {
                    // How much of it stands behind the new mark is not known.
                    group.counted = group.counted.filter(|counted| *up_to >= counted.head);
                    group.counted.iter_mut().for_each(|counted| counted.unread = 0);
                }
            }
            Event::Settings { conversation: ConversationId::Group(group), settings } => {
                self.of(*group).settings.set(entry.seq, *settings);
            }
            Event::Deleted { conversation: ConversationId::Group(group), place, .. } => {
                let deleted = &mut self.of(*group).deleted;
                deleted.insert(*place);
                if deleted.len() > GROUP_ENTRIES_MAX {
                    deleted.pop_first();
                }
            }
            Event::Received { .. }
            | Event::Sent { to: ConversationId::Person(_), .. }
            | Event::Delivered { .. }
            | Event::Read { conversation: ConversationId::Person(_), .. }
            | Event::Seen { .. }
            | Event::Settings { conversation: ConversationId::Person(_), .. }
            | Event::Deleted { conversation: ConversationId::Person(_), .. }
            | Event::Visibility { .. }
            | Event::Devices { .. }
            | Event::Unknown { .. } => {}
        }
    }

    /// Takes a pushed entry of a group ([`crate::ClientEvent::GroupEntry`]).
    pub fn pushed(&mut self, group: GroupId, entry: &GroupEntry) {
        let me = self.me;
        let group = self.of(group);
        group.reached = group.reached.max(entry.seq);
        group.learn(me, entry);
        if let Some(counted) = group.counted.take_if(|counted| entry.seq > counted.head)
            && entry.seq == counted.head.next()
        {
            let is_unread = entry.content.is_message() && entry.from != me;
            group.counted = Some(Counted { head: entry.seq, unread: counted.unread + u64::from(is_unread) });
        }
        group.window.push(entry.clone());
    }

    /// Takes a page of a group ([`crate::ClientEvent::GroupPage`]).
    pub fn page(&mut self, direction: Direction, page: &GroupPage) -> PageTaken {
        let me = self.me;
        let group = self.of(page.group);
        group.reached = group.reached.max(page.head);
        page.entries.iter().for_each(|entry| group.learn(me, entry));
        match direction {
            // Behind the last page there is nothing up to the head.
            Direction::Forwards => {
                if page.last < page.first && page.head < page.first {
                    // What was heard of is not this user's to read: it is not asked for again and again.
                    group.reached = page.head.max(group.window.highest());
                }
                let last = if page.more { page.last } else { page.last.max(page.head) };
                group.window.forwards(page.first, last, &page.entries)
            }
            Direction::Backwards => {
                let first = if page.more { page.first } else { Seq(1) };
                group.window.backwards(first, page.last, &page.entries, !page.more)
            }
        }
    }

    /// Takes rows of the list of groups ([`crate::ClientEvent::Groups`]), with the place of the own log as of which they are.
    pub fn rows(&mut self, at: Seq, rows: &[GroupRow]) {
        let me = self.me;
        for row in rows {
            let group = self.of(row.group);
            group.settings.set(at, row.settings);
            if row.read_up_to > Seq::ZERO {
                group.read_up_to.set(at, row.read_up_to);
            }
            group.standing = row.standing;
            group.reached = group.reached.max(row.head);
            // Without a name the group could not be asked, or is none of the user's any more.
            if row.standing.is_member() && !row.name.is_empty() {
                group.members = row.members;
                let is_read_so_far = group.read_up_to.get().copied().unwrap_or_default() == row.read_up_to;
                group.counted = is_read_so_far.then(|| group.counted_on(row, me));
                group.role.set(row.head, row.role);
                group.rules.set(row.head, row.rules);
                let description = Description { name: row.name.clone(), picture: row.picture.clone() };
                group.description.set(row.head, description);
            }
        }
    }

    fn of(&mut self, group: GroupId) -> &mut Group {
        self.groups.entry(group).or_default()
    }
}

impl Group {
    /// How the user stands to it.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The first seq of its log that the user may read as the member that they are, or were last; zero if it is not known.
    #[must_use]
    pub const fn first(&self) -> Seq {
        self.first
    }

    /// How far its log has come, as far as it was told.
    #[must_use]
    pub const fn reached(&self) -> Seq {
        self.reached
    }

    /// The part of its log that is held without a gap: the first and the last seq, which is the one before the first if the log is known to be
    /// empty.
    #[must_use]
    pub const fn held(&self) -> Option<(Seq, Seq)> {
        self.window.span()
    }

    /// From where to fetch forwards what is missing behind what is held; none: nothing is, or nothing is held yet.
    #[must_use]
    pub fn lacks(&self) -> Option<Seq> {
        let (_, last) = self.held()?;
        (self.reached > last).then(|| last.next())
    }

    /// From where to fetch backwards what stands before what is held, or the newest (zero) if nothing is; none: there is nothing.
    #[must_use]
    pub fn older(&self) -> Option<Seq> {
        match self.held() {
            _ if self.window.is_whole() => None,
            None => Some(Seq::ZERO),
            Some((first, _)) => Some(first.previous()),
        }
    }

    /// What is held of its log, by ascending seq: what was said last of each message, of each user's reaction to it, and what was done to the
    /// group.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &GroupEntry> {
        self.window.entries()
    }

    /// The messages that stand in what is held, by ascending place, without those that the user has deleted.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = GroupMessage<'_>> {
        let messages = self.window.messages().filter(|(place, _)| !self.deleted.contains(place));
        // Whoever changes a message is its author.
        messages.map(|(place, entry)| GroupMessage { place, author: entry.from, entry })
    }

    /// The message that stands there, if it is held and not deleted.
    #[must_use]
    pub fn message(&self, place: Seq) -> Option<GroupMessage<'_>> {
        let entry = self.window.message(place).filter(|_| !self.deleted.contains(&place))?;
        Some(GroupMessage { place, author: entry.from, entry })
    }

    /// The reactions to a message, by ascending user; those that were taken back among them, with nothing in them.
    pub fn reactions(&self, place: Seq) -> impl Iterator<Item = &GroupEntry> {
        self.window.reactions(place)
    }

    /// What the user sent and the group has neither numbered nor refused, with its seq in the user's log.
    pub fn unanswered(&self) -> impl ExactSizeIterator<Item = (Seq, &Content)> {
        self.unanswered.iter().map(|(seq, content)| (*seq, content))
    }

    /// Up to where the user has read it.
    #[must_use]
    pub fn read_up_to(&self) -> Seq {
        self.read_up_to.get().copied().unwrap_or_else(|| self.first.previous())
    }

    /// What a row counts, and what was pushed before it came and stands behind it.
    fn counted_on(&self, row: &GroupRow, me: UserId) -> Counted {
        let goes_on = |(first, last): &(Seq, Seq)| *first <= row.head.next() && *last > row.head;
        let Some((_, last)) = self.held().filter(goes_on) else {
            return Counted { head: row.head, unread: row.unread };
        };
        let behind = self.messages().filter(|message| message.place > row.head && message.author != me);
        Counted { head: last, unread: row.unread + behind.count() as u64 }
    }

    fn unread(&self, me: UserId) -> Option<u64> {
        let read = self.read_up_to();
        if self.held().is_some_and(|(first, _)| first <= read.next() || self.window.is_whole()) {
            let is_unread = |message: &GroupMessage<'_>| message.place > read && message.author != me;
            let unread = self.messages().filter(is_unread).filter(|message| !message.entry.content.is_unsend());
            return Some(unread.count() as u64);
        }
        self.counted.filter(|counted| counted.head >= self.reached).map(|counted| counted.unread)
    }

    /// How the user keeps it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.get().copied().unwrap_or_default()
    }

    /// What the user may do there, if that is known.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role.get().copied()
    }

    /// Its rules, if they are known.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.rules.get().copied()
    }

    /// What people call it; empty if that is not known.
    #[must_use]
    pub fn name(&self) -> &str {
        self.description.get().map_or("", |description| &description.name)
    }

    /// Where a picture of it lies, or empty.
    #[must_use]
    pub fn picture(&self) -> &str {
        self.description.get().map_or("", |description| &description.picture)
    }

    /// How many members it had when its row came; zero if none has.
    #[must_use]
    pub const fn members(&self) -> u64 {
        self.members
    }

    /// What an entry says of the group itself. Its own messages are answered by it.
    fn learn(&mut self, me: UserId, entry: &GroupEntry) {
        if entry.from == me {
            self.unanswered.remove(&entry.origin);
        }
        let Ok(Body::Act(act)) = entry.content.body() else { return };
        let seq = entry.seq;
        match act {
            Act::Create { name, picture, rules } => {
                self.describe(seq, name, picture);
                self.rules.set(seq, rules);
                if entry.from == me {
                    self.role.set(seq, Role::Owner);
                }
            }
            Act::Describe { name, picture } => self.describe(seq, name, picture),
            Act::SetRules { rules } => self.rules.set(seq, rules),
            Act::SetRole { user, role } if user == me => self.role.set(seq, role),
            // Who hands the group over is an admin from now on.
            Act::SetRole { role: Role::Owner, .. } if entry.from == me => self.role.set(seq, Role::Admin),
            Act::Add { user } if user == me => self.role.set(seq, Role::Member),
            Act::Join { .. } if entry.from == me => self.role.set(seq, Role::Member),
            Act::Add { .. }
            | Act::Remove { .. }
            | Act::Ban { .. }
            | Act::Unban { .. }
            | Act::SetRole { .. }
            | Act::Invite { .. }
            | Act::Join { .. }
            | Act::End
            | Act::Unknown => {}
        }
    }

    fn describe(&mut self, seq: Seq, name: &str, picture: &str) {
        self.description.set(seq, Description { name: name.to_owned(), picture: picture.to_owned() });
    }
}

#[cfg(test)]
mod tests;
