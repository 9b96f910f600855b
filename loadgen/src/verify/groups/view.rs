//! What one member has of a group, and what it has to ask for, as SPEC 8.12 tells a client to. Pure.

use proto_spec::{GroupEntry, GroupId, GroupPage, Seq, Standing, UserId, limits::PAGE_ENTRIES_MAX};

use super::{Arrival, Came, Does, Groups, Ranges, Sent};

/// A page of a group that is asked for, forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFetch {
    /// Of which group.
    pub group: GroupId,
    /// From where on.
    pub from: Seq,
    /// It is for what the member lacks. If not, it is compared with what the member has.
    pub is_for_gap: bool,
}

impl GroupFetch {
    /// What is wrong with a page as the answer.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self, page: &GroupPage) -> Result<(), String> {
        let mut before = page.first.previous();
        let is_ascending = page.entries.iter().all(|entry| std::mem::replace(&mut before, entry.seq) < entry.seq);
        let is_within = before <= page.last || page.entries.is_empty();
        let is_range = page.last.next() >= page.first && (!page.more || page.last >= page.first);
        let is_answer = page.group == self.group && page.first == self.from.max(Seq(1));
        let is_short = page.entries.len() as u64 <= PAGE_ENTRIES_MAX;
        if is_ascending
            && is_within
            && is_range
            && is_answer
            && is_short
            && page.last <= page.head.max(page.first.previous())
        {
            return Ok(());
        }
        let (first, last, more, head, entries) = (page.first, page.last, page.more, page.head, page.entries.len());
        Err(format!("{self:?} was answered with {first} to {last} of {head}, {entries} entries, more: {more}"))
    }

    /// The next page, if there is one.
    #[must_use]
    pub fn following(&self, page: &GroupPage) -> Option<Self> {
        page.more.then_some(Self { from: page.last.next(), ..*self })
    }
}

/// How a member stands to a group, as the own log says (SPEC 5.12), or a row of the groups (SPEC 4.44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// As a member, or how it ended.
    pub standing: Standing,
    /// The first seq that is to be read; none: a row does not say.
    pub first: Option<Seq>,
    /// How far the group has come, for this member.
    pub up_to: Seq,
}

/// What a seat has of a group.
#[derive(Debug)]
pub struct View {
    pub(super) user: UserId,
    /// Everything up to it is had, or nobody's to have.
    covered: u64,
    /// How far the group has come, as the seat was told.
    reached: u64,
    /// The last push of this connection.
    pushed: u64,
    /// Entries that came.
    pub(super) seen: Ranges,
    /// Seqs that a page covered and did not have: they are empty, or nothing of this member's.
    pub(super) passed: Ranges,
    pub(super) pointer: Option<Pointer>,
    /// As the group's log says.
    pub(super) is_member: bool,
    /// What is lacked is asked for, and how far the group had come then.
    fetching: Option<u64>,
    /// Nobody looks: what is lacked is not asked for.
    is_patient: bool,
}

impl View {
    pub(super) fn new(user: UserId) -> Self {
        Self {
            user,
            covered: 0,
            reached: 0,
            pushed: 0,
            seen: Ranges::default(),
            passed: Ranges::default(),
            pointer: None,
            is_member: false,
            fetching: None,
            is_patient: false,
        }
    }

    /// The own log says something else than that of the group.
    pub(super) fn is_untold(&self) -> bool {
        self.pointer.is_some_and(|pointer| pointer.standing.is_member() != self.is_member)
    }

    fn cover(&mut self, up_to: u64) {
        self.covered = self.covered.max(up_to);
        if let Some(end) = self.seen.end_of(self.covered + 1) {
            self.covered = end;
        }
    }

    const fn lacks(&self) -> bool {
        self.covered < self.reached && self.fetching.is_none() && !self.is_patient
    }
}

impl Groups {
    /// A push to a seat.
    ///
    /// # Errors
    /// It is of a group that the seat has nothing to do with, or came again or out of order on this connection.
    pub fn pushed(
        &mut self,
        seat: u32,
        id: GroupId,
        entry: &GroupEntry,
        now_us: u64,
        ready_us: u64,
    ) -> Result<Came, String> {
        let Some((group, view)) = self.find(seat, id) else {
            return Err(format!("a push of group {id}, which is not the user's"));
        };
        let seq = entry.seq.0;
        let before = std::mem::replace(&mut self.views[view as usize].pushed, seq);
        if seq <= before {
            return Err(format!("entry {seq} of group {id} was pushed after {before}"));
        }
        let came = self.came((group, view), entry, now_us, ready_us);
        let me = &mut self.views[view as usize];
        // With the entry that lets somebody in, nothing of before is theirs that they were not told of.
        let lets_in = match self.logs[group as usize].known(entry.seq).and_then(|known| known.does) {
            Some(Does::Add(user)) => user == me.user,
            Some(Does::Create) => true,
            Some(Does::Remove(_) | Does::Write | Does::Edit(_) | Does::Unsend(_) | Does::React(_)) | None => false,
        };
        if lets_in && me.covered >= me.reached {
            me.cover(seq);
        }
        me.reached = me.reached.max(seq);
        me.cover(0);
        Ok(came)
    }

    /// An answer to a fetch of what a seat lacks. Gives what came anew: when the messages of it should have been sent.
    ///
    /// # Errors
    /// It is no answer to it.
    pub fn fetched(
        &mut self,
        seat: u32,
        fetch: &GroupFetch,
        page: &GroupPage,
        now_us: u64,
        ready_us: u64,
    ) -> Result<Vec<Came>, String> {
        let Some((group, view)) = self.find(seat, fetch.group) else {
            return Err("a page of another group".to_owned());
        };
        // After a wrong answer nothing is asked for again: it would be wrong again, as fast as the network goes.
        fetch.check(page)?;
        let asked = self.views[view as usize].fetching.take();
        let came = page.entries.iter().map(|entry| self.came((group, view), entry, now_us, ready_us)).collect();
        let view = &mut self.views[view as usize];
        let mut next = page.first.0;
        for seq in page.entries.iter().map(|entry| entry.seq.0).chain([page.last.0.saturating_add(1)]) {
            view.passed.fill(next, seq.saturating_sub(1));
            next = seq.saturating_add(1);
        }
        if page.first.0 <= view.covered + 1 {
            let last = if page.more { page.last.0 } else { page.last.0.max(page.head.0) };
            view.cover(last);
            if !page.more && asked == Some(view.reached) {
                // What was told beyond is not this member's.
                view.reached = view.covered;
            }
        }
        self.fold(group);
        Ok(came)
    }

    /// An entry came to a view.
    fn came(&mut self, (group, view): (u32, u32), entry: &GroupEntry, now_us: u64, ready_us: u64) -> Came {
        let sent = self.note(group, entry).map(|id| self.sends[id.0 as usize]);
        let is_new = self.views[view as usize].seen.insert(entry.seq.0);
        let log = &mut self.logs[group as usize];
        let is_folded = entry.seq.0 <= log.folded();
        if let Some(known) = log.known_mut(entry.seq).filter(|_| is_new) {
            known.lacking -= 1;
            self.owed -= i64::from(is_folded && !known.is_superseded);
        }
        match sent.filter(|sent| sent.said.is_message()) {
            Some(Sent { intended_us, .. }) => {
                if is_new {
                    self.arrived(group, entry.seq, Arrival { intended_us, at_us: now_us, ready_us });
                }
                Came { is_new, intended_us: Some(intended_us) }
            }
            None => {
                if is_new && sent.is_none() && self.lines.is_some() && entry.content.is_message() {
                    self.unplaced.entry((group, entry.seq)).or_default().push((now_us, ready_us));
                }
                Came { is_new, intended_us: None }
            }
        }
    }

    /// A message came to somebody for the first time.
    pub(super) fn arrived(&mut self, group: u32, seq: Seq, arrival: Arrival) {
        let Arrival { intended_us, at_us, ready_us } = arrival;
        if ready_us <= intended_us {
            let known = self.logs[group as usize].known_mut(seq).expect("an entry is noted before it arrives");
            known.first_us = if known.first_us == 0 { at_us } else { known.first_us };
            known.last_us = at_us;
        }
    }

    /// When lines of a trace came of which it was not known then which ones they are, and now is.
    pub fn take_arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// How a seat stands to a group, as it was told. Groups that the run does not have are of earlier ones, whose users it goes on with;
    /// nobody writes there any more, so a push of one is a fault as ever.
    ///
    /// # Errors
    /// It has nothing to do with the group, which is one of the run's.
    pub fn told(&mut self, seat: u32, id: GroupId, pointer: Pointer) -> Result<(), String> {
        if !self.by_id.contains_key(&id) {
            return Ok(());
        }
        let Some((_, view)) = self.find(seat, id) else {
            return Err(format!("a pointer of group {id}, which is not the user's"));
        };
        let view = &mut self.views[view as usize];
        self.untold -= u64::from(view.is_untold());
        let first = pointer.first.or(view.pointer.and_then(|before| before.first));
        view.pointer = Some(Pointer { first, ..pointer });
        self.untold += u64::from(view.is_untold());
        view.reached = view.reached.max(pointer.up_to.0);
        if let Some(first) = pointer.first
            && view.covered == 0
        {
            view.covered = first.0.saturating_sub(1);
            view.cover(0);
        }
        Ok(())
    }

    /// A connection begins, or has ended: pushes begin anew.
    pub fn connected(&mut self, seat: u32) {
        for (_, view) in self.of_seat.get(&seat).into_iter().flatten() {
            self.views[*view as usize].pushed = 0;
        }
    }

    /// Whether the seat asks for what it lacks.
    pub fn set_patient(&mut self, seat: u32, is_patient: bool) {
        for (_, view) in self.of_seat.get(&seat).into_iter().flatten() {
            self.views[*view as usize].is_patient = is_patient;
        }
    }

    /// Whether the seat knows of each of its groups how far it has come.
    #[must_use]
    pub fn knows_all(&self, seat: u32) -> bool {
        let all = self.of_seat.get(&seat).into_iter().flatten();
        all.into_iter().all(|(group, view)| {
            let view = &self.views[*view as usize];
            !view.is_member || view.reached >= self.logs[*group as usize].head()
        })
    }

    /// What the seat has to ask for next; the next call gives something else.
    pub fn next_gap(&mut self, seat: u32) -> Option<GroupFetch> {
        let views = self.of_seat.get(&seat)?;
        let (group, view) = *views.iter().find(|(_, view)| self.views[*view as usize].lacks())?;
        let view = &mut self.views[view as usize];
        view.fetching = Some(view.reached);
        Some(GroupFetch { group: self.logs[group as usize].id, from: Seq(view.covered + 1), is_for_gap: true })
    }

    /// Whether the seat lacks something that it will ask for.
    #[must_use]
    pub fn has_gap(&self, seat: u32) -> bool {
        self.of_seat.get(&seat).is_some_and(|views| views.iter().any(|(_, view)| self.views[*view as usize].lacks()))
    }
}
