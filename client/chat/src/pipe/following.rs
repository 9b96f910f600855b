//! The groups of a run: what is told of each, once and in the order of its log, and what has to be fetched for that.
//!
//! Invariant: of each group everything up to `told` has been told, or was there before this run.

use std::collections::{BTreeMap, BTreeSet};

use client::{
    Body, Direction, Entry, Event, FetchHandle, Group, GroupEntry, GroupId, GroupPage, GroupRow, Groups, MessageName,
    Reaction, Seq, Standing, UserId,
};

use super::{
    group_line::{GroupLine, What},
    line::Origin,
};
use crate::{
    content::{names, shown},
    groups,
};

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Following {
    me: Option<UserId>,
    groups: Groups,
    followed: BTreeMap<GroupId, Followed>,
    /// Messages of others that were told.
    received: u64,
}

/// A group of which something has been heard.
#[derive(Debug, Default)]
struct Followed {
    /// None: nothing has come that says from where to tell.
    told: Option<Seq>,
    standing: Option<Standing>,
    fetching: Option<FetchHandle>,
    /// What this run has sent there, by its seq in the own log, and what became of it has not been told.
    awaited: BTreeSet<Seq>,
    /// What was sent up to the first was numbered up to the second.
    numbered: (Seq, Seq),
}

impl Followed {
    /// Everything up to here has been told.
    fn tell_up_to(&mut self, seq: Seq) {
        self.told = self.told.max(Some(seq));
        let (sent_up_to, up_to) = self.numbered;
        if self.told >= Some(up_to) {
            self.awaited.retain(|seq| *seq > sent_up_to);
        }
    }
}

impl Following {
    /// The newest entry of a group, as far as this has heard.
    pub(crate) fn newest(&self, group: GroupId) -> Seq {
        self.groups.get(group).map(|known| known.reached()).unwrap_or_default()
    }

    pub(crate) fn welcome(&mut self, me: UserId) {
        self.me = Some(me);
        self.groups.welcome(me);
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Something that was told is on its way, or what became of what was sent.
    pub(crate) fn is_fetching(&self) -> bool {
        self.followed.values().any(|followed| followed.fetching.is_some())
    }

    /// A group has not answered what this run has sent there.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.followed.values().any(|followed| !followed.awaited.is_empty())
    }

    /// The same of one group.
    pub(crate) fn awaits(&self, group: GroupId) -> bool {
        self.followed.get(&group).is_some_and(|followed| !followed.awaited.is_empty())
    }

    /// A group begins with this run: all of it is told.
    pub(crate) fn begins(&mut self, group: GroupId) {
        self.followed.entry(group).or_default().told = Some(Seq::ZERO);
    }

    /// This run has sent something to a group, which is in the own log as this.
    pub(crate) fn sent(&mut self, group: GroupId, seq: Seq) {
        self.followed.entry(group).or_default().awaited.insert(seq);
    }

    /// Takes an entry of the own log. With what it says, and whether something that this run has sent was refused by a group.
    pub(crate) fn entry(&mut self, entry: &Entry) -> (Vec<GroupLine>, bool) {
        self.groups.entry(entry);
        match &entry.event {
            Event::Group { group, standing, up_to, sent_up_to, .. } => {
                let followed = self.followed.entry(*group).or_default();
                let is_news = followed.standing.replace(*standing) != Some(*standing);
                followed.numbered = (*sent_up_to, *up_to);
                // What this run has sent is told even if it is the first that is heard of the group.
                let before = if followed.awaited.is_empty() { *up_to } else { up_to.previous() };
                let told = followed.told.unwrap_or(before);
                followed.tell_up_to(told);
                let line = GroupLine::Standing { group: *group, standing: *standing, up_to: *up_to };
                (is_news.then_some(line).into_iter().collect(), false)
            }
            Event::GroupRefused { group, origin, code } => {
                let of_this_run = self.followed.get_mut(group).is_some_and(|followed| followed.awaited.remove(origin));
                (vec![GroupLine::Refused { group: *group, origin: *origin, code: *code }], of_this_run)
            }
            _ => (Vec::new(), false),
        }
    }

    /// Takes a pushed entry of a group.
    pub(crate) fn pushed(&mut self, group: GroupId, entry: &GroupEntry) -> Vec<GroupLine> {
        self.groups.pushed(group, entry);
        self.followed.entry(group).or_default().told.get_or_insert(entry.seq.previous());
        self.tell_held(group)
    }

    /// What is missing before something that was heard of can be told: in which group, and from where.
    pub(crate) fn lacks(&self) -> Option<(GroupId, Seq)> {
        self.followed.iter().filter(|(_, followed)| followed.fetching.is_none()).find_map(|(group, followed)| {
            let told = followed.told?;
            (self.groups.get(*group)?.reached() > told).then(|| (*group, told.next()))
        })
    }

    /// That has been asked for.
    pub(crate) fn asked(&mut self, group: GroupId, fetch: FetchHandle) {
        if let Some(followed) = self.followed.get_mut(&group) {
            followed.fetching = Some(fetch);
        }
    }

    /// It can not be had: what was heard of is not waited for. None: nobody has asked for it here.
    pub(crate) fn refused(&mut self, fetch: FetchHandle) -> Option<GroupId> {
        let is_it = |followed: &Followed| followed.fetching == Some(fetch);
        let (group, followed) = self.followed.iter_mut().find(|(_, followed)| is_it(followed))?;
        followed.fetching = None;
        followed.tell_up_to(self.groups.get(*group).map_or(Seq::ZERO, Group::reached));
        Some(*group)
    }

    /// Takes a page that was asked for because something was missing. None: it was not.
    pub(crate) fn page(&mut self, fetch: FetchHandle, page: &GroupPage) -> Option<Vec<GroupLine>> {
        let followed = self.followed.get_mut(&page.group)?;
        followed.fetching.take_if(|fetching| *fetching == fetch)?;
        self.groups.page(Direction::Forwards, page);
        let is_empty = page.last < page.first && !page.more;
        let last = match self.groups.get(page.group) {
            // What was heard of is not this user's to read: it is not asked for again and again.
            Some(group) if is_empty && page.head < page.first => group.reached(),
            _ if page.more => page.last,
            _ => page.last.max(page.head),
        };
        let told = followed.told;
        followed.tell_up_to(last);
        let new = page.entries.iter().filter(|entry| Some(entry.seq) > told);
        let mut lines: Vec<_> = new.filter_map(|entry| self.tell(page.group, entry)).collect();
        lines.extend(self.tell_held(page.group));
        Some(lines)
    }

    /// Takes a page of older messages, which is told as such.
    pub(crate) fn history(&mut self, page: &GroupPage) -> Vec<GroupLine> {
        self.groups.page(Direction::Backwards, page);
        let followed = self.followed.entry(page.group).or_default();
        // With a gap before it, what is missing is told first, and this again.
        if followed.told.is_none_or(|told| page.first <= told.next()) {
            followed.tell_up_to(page.last);
        }
        page.entries.iter().filter_map(|entry| line(page.group, entry, self.me, Origin::History)).collect()
    }

    /// Where a picture of it lies, or empty.
    pub(crate) fn picture(&self, group: GroupId) -> &str {
        self.groups.get(group).map_or("", Group::picture)
    }

    pub(crate) fn rows(&mut self, at: Seq, rows: &[GroupRow]) {
        self.groups.rows(at, rows);
    }

    /// A message of a group: the one that stands there, or else the newest that is meant without a number.
    pub(crate) fn find(
        &self,
        group: GroupId,
        of: Option<Seq>,
        is_meant: impl Fn(UserId) -> bool,
    ) -> Option<(Seq, MessageName, &client::Content)> {
        let group = self.groups.get(group)?;
        let found = match of {
            Some(place) => group.message(place)?,
            None => group.messages().rev().find(|message| is_meant(message.author))?,
        };
        let name = MessageName { author: found.author, seq: found.place };
        Some((found.place, name, &found.entry.content))
    }

    /// What is held behind what was told.
    fn tell_held(&mut self, group: GroupId) -> Vec<GroupLine> {
        let (Some(held), Some(followed)) = (self.groups.get(group), self.followed.get_mut(&group)) else {
            return Vec::new();
        };
        let (Some((first, last)), Some(told)) = (held.held(), followed.told) else { return Vec::new() };
        if last <= told || first > told.next() {
            return Vec::new();
        }
        let new: Vec<GroupEntry> = held.entries().filter(|entry| entry.seq > told).cloned().collect();
        followed.tell_up_to(last);
        new.iter().filter_map(|entry| self.tell(group, entry)).collect()
    }

    fn tell(&mut self, group: GroupId, entry: &GroupEntry) -> Option<GroupLine> {
        let is_own = Some(entry.from) == self.me;
        if is_own && let Some(followed) = self.followed.get_mut(&group) {
            followed.awaited.remove(&entry.origin);
        }
        self.received += u64::from(!is_own && entry.content.is_message());
        line(group, entry, self.me, Origin::Now)
    }
}

/// What an entry of a group says.
fn line(group: GroupId, entry: &GroupEntry, me: Option<UserId>, origin: Origin) -> Option<GroupLine> {
    let (seq, time) = match entry.content.about() {
        Some((name, stands)) if entry.place().is_some() => (name.seq, stands.map_or(entry.time, |stands| stands.time)),
        Some((name, _)) => (name.seq, entry.time),
        None => (entry.seq, entry.time),
    };
    let what = match (entry.content.body().ok()?, origin) {
        (Body::Reaction(Reaction { reaction, .. }), _) => What::Reacted(reaction.to_owned()),
        (Body::Act(act), _) => What::Act(groups::act(&act)),
        (Body::Edit(edit), Origin::Now) => What::Edited(shown(&edit.content())),
        (Body::Unsend(_), Origin::Now) => What::Unsent,
        _ if me.is_some_and(|me| names(&entry.content, me)) => What::Mention(shown(&entry.content)),
        _ => What::Message(shown(&entry.content)),
    };
    Some(GroupLine::Happened { group, by: entry.from, seq, time, what, origin })
}

#[cfg(test)]
mod tests;
