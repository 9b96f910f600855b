//! A device: what it holds of groups by SPEC 8.12. Pointers, pushes and pages say how far a group has reached; what lacks of it is fetched.

use std::collections::{BTreeMap, BTreeSet};

use client::{ClientEvent, ClientState, FetchHandle};
use proto_spec::{Direction, Event, GroupEntry, GroupId, Seq};

/// What a device holds of a group.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// As far as it was told.
    pub(crate) reached: Seq,
    /// What it may read since its user is a member begins there.
    first: Seq,
    /// What it has, and seqs of which it knows that it has all there is.
    had: BTreeSet<Seq>,
    pub(crate) entries: BTreeMap<Seq, GroupEntry>,
}

/// What a device has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A page, and what follows it.
    On(GroupId),
    /// A page.
    Page,
    Other,
}

/// What a device makes of an event.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// It can not be.
    pub(crate) wrong: Option<String>,
    /// It is to fetch on from there.
    pub(crate) on: Option<(GroupId, Seq)>,
    /// A pointer has said before that there is this entry.
    pub(crate) is_pointed_at: bool,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Device {
    pub(crate) held: BTreeMap<GroupId, Held>,
    fetches: Vec<(FetchHandle, Asked)>,
}

impl Device {
    /// Nothing is asked for.
    pub(crate) const fn is_answered(&self) -> bool {
        self.fetches.is_empty()
    }

    /// What was asked for is not answered any more.
    pub(crate) fn forget_fetches(&mut self) {
        self.fetches.clear();
    }

    /// Something else is asked for.
    pub(crate) fn asks(&mut self, fetch: FetchHandle) {
        self.fetches.push((fetch, Asked::Other));
    }

    /// Something happens to the client. None: nothing that is about groups.
    pub(crate) fn hears(&mut self, event: &ClientEvent) -> Option<Heard> {
        let mut heard = Heard::default();
        match event {
            ClientEvent::Entry(entry) => {
                let Event::Group { group, first, up_to, .. } = entry.event else { return None };
                let held = self.held.entry(group).or_default();
                if first < held.first {
                    // What they could not read before they can read now.
                    held.had.retain(|seq| held.entries.contains_key(seq));
                }
                (held.reached, held.first) = (held.reached.max(up_to), first);
            }
            ClientEvent::GroupEntry { group, entry } => {
                heard.is_pointed_at = self.held.get(group).is_some_and(|held| held.reached > entry.seq);
                heard.wrong = self.holds(*group, entry);
            }
            ClientEvent::GroupPage { fetch, page, .. } => {
                let asked = self.answered(*fetch);
                let held = self.held.entry(page.group).or_default();
                held.had.extend((page.first.0..=page.last.0).map(Seq));
                heard.wrong = page.entries.iter().find_map(|entry| self.holds(page.group, entry));
                let goes_on = asked == Some(Asked::On(page.group)) && page.more;
                heard.on = goes_on.then(|| (page.group, page.last.next()));
            }
            ClientEvent::FetchRefused { fetch, .. }
            | ClientEvent::Groups { fetch, .. }
            | ClientEvent::Marked { fetch }
            | ClientEvent::Members { fetch, .. } => _ = self.answered(*fetch),
            _ => return None,
        }
        Some(heard)
    }

    fn answered(&mut self, fetch: FetchHandle) -> Option<Asked> {
        let at = self.fetches.iter().position(|(of, _)| *of == fetch)?;
        Some(self.fetches.remove(at).1)
    }

    /// It has an entry; what is wrong with that.
    fn holds(&mut self, group: GroupId, entry: &GroupEntry) -> Option<String> {
        let held = self.held.entry(group).or_default();
        held.reached = held.reached.max(entry.seq);
        held.had.insert(entry.seq);
        let before = held.entries.insert(entry.seq, entry.clone()).filter(|before| before != entry)?;
        Some(format!("it has {before:?} of {group:?}, and then {entry:?}"))
    }

    /// Fetches what lacks of some group; says whether something did that it had not asked for.
    pub(crate) fn fetch_lacking(&mut self, state: &mut ClientState, limit: u64) -> bool {
        let is_asked = |group: &GroupId| self.fetches.iter().any(|(_, asked)| *asked == Asked::On(*group));
        let lacks = |held: &Held| (held.first.0.max(1)..=held.reached.0).map(Seq).find(|seq| !held.had.contains(seq));
        let unasked = self.held.iter().filter(|(group, _)| !is_asked(group));
        let lacking = unasked.filter_map(|(group, held)| Some((*group, lacks(held)?))).next();
        lacking.is_some_and(|(group, from)| self.fetch(state, group, from, Direction::Forwards, limit))
    }

    /// Fetches a page, and forwards all that follows it.
    pub(crate) fn fetch(
        &mut self,
        state: &mut ClientState,
        group: GroupId,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> bool {
        let Ok(fetch) = state.fetch_conversation(group, from, direction, limit) else { return false };
        let asked = if direction == Direction::Forwards { Asked::On(group) } else { Asked::Page };
        self.fetches.push((fetch, asked));
        true
    }
}
