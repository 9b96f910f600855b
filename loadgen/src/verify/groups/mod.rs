//! Groups: what is sent to them, their logs as all members together were told of them, and what each member has (SPEC 8.12). Pure.
//!
//! Everything in the groups of a run was sent by the run, so a log is known before it is told: each entry must be a send that was accepted,
//! once, and the same for everybody. Of each device of a member the ledger keeps the seqs that came, by push or by page; in the end these
//! must be the seqs between the entries that let the member in and the one that ended that, no more and no less (`finish`).
//!
//! Edits, reactions and messages that are taken back are entries as well, and supersede earlier ones (`log`). A device that missed an entry
//! that was superseded need not get it later, and in the end no page has it. So all devices end with the same state of each message. An
//! entry may be superseded before anybody is told of it: then its seq is empty for all. For each empty seq there must be an accepted change
//! that nobody was told of and that can stand there, as the order of its author has it (`unseen`).
//!
//! What is under way are the sends of which nobody knows what has come, and the entries that members lack.

mod contents;
mod finish;
mod log;
mod ranges;
mod unseen;
mod view;

use std::collections::{HashMap, HashSet};

use proto_spec::{ErrorCode, GroupEntry, GroupId, Seq, UserId};

use self::log::{Does, Log};
pub use self::{
    ranges::Ranges,
    view::{GroupFetch, Pointer, View},
};
use super::{
    Change, Faults, Label, StreamId,
    text::{Lines, Text, fingerprint, text_of},
};

/// A send to a group: its place among all of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentId(pub u32);

/// What is said or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Message(Text),
    /// A message that answers another one.
    Reply(Text, SentId),
    /// Something about a message, and how much was said about it before.
    Change(SentId, Change, u8),
    /// The group begins.
    Create,
    /// Somebody becomes a member.
    Add(UserId),
    /// Somebody is a member no more.
    Remove(UserId),
}

impl Said {
    /// Whether it is a message, not something about one or done to a group.
    #[must_use]
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Message(_) | Self::Reply(..))
    }
}

/// What has come of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Waiting,
    /// It is this entry of the group's log.
    Numbered(Seq),
    Refused(ErrorCode),
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    group: u32,
    seat: u32,
    said: Said,
    intended_us: u64,
    era: u8,
    /// In the author's log; zero: nobody has said yet.
    origin: Seq,
    is_accepted: bool,
    outcome: Outcome,
    /// So much was said about it.
    changes: u8,
}

/// What came of a send before the answer to the send itself: a retry is answered late.
#[derive(Clone, Copy, Debug)]
enum Early {
    Entry { group: u32, seq: Seq },
    Refused(ErrorCode),
}

/// A send was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When it should have been sent.
    pub intended_us: u64,
    /// What it says or does.
    pub said: Said,
}

/// An entry came to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// The member did not have it.
    pub is_new: bool,
    /// When it should have been sent, if it is a message.
    pub intended_us: Option<u64>,
}

/// A message came to a device of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it should have been sent.
    pub intended_us: u64,
    /// When it came.
    pub at_us: u64,
    /// Since when the device was connected then.
    pub ready_us: u64,
}

/// A send that a group has not taken, as the author's devices were told.
#[derive(Debug)]
struct Refusal {
    group: GroupId,
    code: ErrorCode,
    /// The seats of those that were.
    told: Vec<u32>,
    /// When the first one was.
    told_us: u64,
}

/// When the connected members had a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The part of the run in which it was sent.
    pub era: usize,
    /// From when it should have been sent to the first member who had it, in microseconds.
    pub first_us: u64,
    /// To the last one.
    pub last_us: u64,
}

/// The groups of a ledger.
#[derive(Debug, Default)]
pub struct Groups {
    run: u32,
    stream: StreamId,
    /// Messages without labels are those of a trace.
    lines: Option<Lines>,
    sends: Vec<Sent>,
    logs: Vec<Log>,
    by_id: HashMap<GroupId, u32>,
    views: Vec<View>,
    /// By seat: the groups and its views of them.
    of_seat: HashMap<u32, Vec<(u32, u32)>>,
    users: HashSet<UserId>,
    /// Accepted, by author and seq in their log, while nobody knows what has come of it.
    by_origin: HashMap<(UserId, Seq), SentId>,
    early: HashMap<(UserId, Seq), Early>,
    /// Of lines of a trace that are told before their authors are answered: when they came, and since when the devices were connected.
    unplaced: HashMap<(u32, Seq), Vec<(u64, u64)>>,
    /// Of those that were, and are placed now.
    arrivals: Vec<Arrival>,
    refusals: HashMap<(UserId, Seq), Refusal>,
    waiting: u64,
    /// Empty seqs among those that were folded: each is a send of which nobody knows what has come.
    holes: u64,
    /// Entries among those that were folded that are to come to members and have not.
    owed: i64,
    /// Views whose pointer says something else than the log.
    untold: u64,
    faults: Faults,
}

impl Groups {
    /// None. Texts have this run and stream in their labels, unless they are lines of a trace.
    #[must_use]
    pub fn new(run: u32, stream: StreamId, lines: Option<Lines>) -> Self {
        Self { run, stream, lines, ..Self::default() }
    }

    /// A further group; gives its place among them.
    pub fn add_group(&mut self, id: GroupId) -> u32 {
        let at = self.logs.len() as u32;
        self.logs.push(Log::new(id));
        self.by_id.insert(id, at);
        at
    }

    /// A device at a seat of the crew, which writes to the group and must have what is its user's of it.
    pub fn add_view(&mut self, group: u32, seat: u32, user: UserId) {
        let view = self.views.len() as u32;
        self.views.push(View::new(user));
        self.logs[group as usize].views.entry(user).or_default().push(view);
        self.of_seat.entry(seat).or_default().push((group, view));
        self.users.insert(user);
    }

    /// The id of a group.
    #[must_use]
    pub fn id(&self, group: u32) -> GroupId {
        self.logs[group as usize].id
    }

    /// Sends of which it is not known what has come, entries that members lack, and members who were not told how they stand.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.waiting.saturating_sub(self.holes) + self.owed.max(0) as u64 + self.untold
    }

    /// Sends of which it is not known what has come.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Something is about to be sent.
    ///
    /// # Panics
    /// There are 2^30 sends: what a label has room for.
    pub fn send(&mut self, seat: u32, group: u32, said: Said, intended_us: u64, era: usize) -> SentId {
        let id = SentId(self.sends.len() as u32);
        assert!(id.0 < 1 << 30, "a ledger has room for 2^30 sends to groups");
        let (origin, is_accepted, outcome, era) = (Seq::ZERO, false, Outcome::Waiting, era as u8);
        if let Said::Change(of, ..) = said {
            self.sends[of.0 as usize].changes += 1;
        }
        self.sends.push(Sent { group, seat, said, intended_us, era, origin, is_accepted, outcome, changes: 0 });
        self.waiting += 1;
        id
    }

    /// To which group a send goes.
    #[must_use]
    pub fn group_of(&self, sent: SentId) -> GroupId {
        self.id(self.sends[sent.0 as usize].group)
    }

    /// Whether a user is a member of a group, as its log says; of none that the run does not have.
    #[must_use]
    pub fn is_member(&self, user: UserId, group: GroupId) -> bool {
        let views = self.by_id.get(&group).and_then(|at| self.logs[*at as usize].views.get(&user));
        views.and_then(|views| views.first()).is_some_and(|view| self.views[*view as usize].is_member)
    }

    /// A send was accepted, under this seq of its author's log.
    pub fn accepted(&mut self, id: SentId, seq: Seq) -> Option<Taken> {
        let sent = &mut self.sends[id.0 as usize];
        if std::mem::replace(&mut sent.is_accepted, true) {
            self.fault(id, &format!("was accepted again, as {seq}"));
            return None;
        }
        let (told, seat) = (std::mem::replace(&mut sent.origin, seq), sent.seat);
        let taken = Taken { intended_us: sent.intended_us, said: sent.said };
        let outcome = sent.outcome;
        if told != Seq::ZERO && told != seq {
            self.fault(id, &format!("was accepted as {seq}, but its group has it as {told}"));
        }
        if outcome == Outcome::Waiting {
            let author = self.user_of(seat);
            match self.early.remove(&(author, seq)) {
                None => drop(self.by_origin.insert((author, seq), id)),
                Some(Early::Refused(code)) => self.came_out(id, Outcome::Refused(code)),
                Some(Early::Entry { group, seq }) => self.is_entry(id, group, seq),
            }
        }
        Some(taken)
    }

    /// The group has not taken what the user at a seat has under this seq. Each of their devices is told.
    pub fn refused(&mut self, seat: u32, group: GroupId, origin: Seq, code: ErrorCode, now_us: u64) {
        if !self.by_id.contains_key(&group) {
            // Of an earlier run. One of this run stays unanswered, and is named for that.
            return;
        }
        let author = self.user_of(seat);
        if let Some(before) = self.refusals.get_mut(&(author, origin)) {
            let is_same = (before.group, before.code) == (group, code) && !before.told.contains(&seat);
            before.told.push(seat);
            if !is_same {
                let words = format!("was refused by group {group}: {}, after {before:?}", code.name());
                self.faults.add(format!("seq {origin} of user {author} {words}"));
            }
            return;
        }
        self.refusals.insert((author, origin), Refusal { group, code, told: vec![seat], told_us: now_us });
        match self.by_origin.remove(&(author, origin)) {
            Some(id) if self.group_of(id) == group => self.came_out(id, Outcome::Refused(code)),
            Some(id) => self.fault(id, &format!("was refused by group {group}: {}", code.name())),
            None => drop(self.early.insert((author, origin), Early::Refused(code))),
        }
    }

    fn came_out(&mut self, id: SentId, outcome: Outcome) {
        let before = std::mem::replace(&mut self.sends[id.0 as usize].outcome, outcome);
        if before == Outcome::Waiting {
            self.waiting -= 1;
        } else {
            self.fault(id, &format!("is {outcome:?}, and is {before:?} too"));
        }
    }

    /// The entry of a group's log is this send.
    fn is_entry(&mut self, id: SentId, group: u32, seq: Seq) {
        let sent = self.sends[id.0 as usize];
        let content = self.content_of_entry(id);
        let known = self.logs[group as usize].known_mut(seq).expect("an entry is noted before it is looked for");
        known.sent = Some(id);
        let is_same = (known.kind, known.fingerprint) == (content.parts().0, fingerprint(content.parts().1));
        let (author, origin) = (known.from, known.origin);
        if sent.group != group || self.user_of(sent.seat) != author || !is_same {
            let words = format!("came as entry {seq} of group {} with another author or content", self.id(group));
            self.fault(id, &words);
        }
        if sent.is_accepted && sent.origin != origin {
            self.fault(id, &format!("was accepted as {}, but entry {seq} names {origin}", sent.origin));
        }
        self.sends[id.0 as usize].origin = origin;
        self.by_origin.remove(&(author, origin));
        self.came_out(id, Outcome::Numbered(seq));
        for (at_us, ready_us) in self.unplaced.remove(&(group, seq)).unwrap_or_default() {
            let arrival = Arrival { intended_us: sent.intended_us, at_us, ready_us };
            self.arrived(group, seq, arrival);
            self.arrivals.push(arrival);
        }
    }

    /// Somebody was told of an entry. None if it is of a group of somebody else.
    fn note(&mut self, group: u32, entry: &GroupEntry) -> Option<SentId> {
        let id = self.id(group);
        if !self.users.contains(&entry.from) {
            self.faults
                .add(format!("entry {} of group {id} is of user {}, who is not in this run", entry.seq, entry.from));
            return None;
        }
        let log = &mut self.logs[group as usize];
        let holes = log.holes.len();
        let outcome = log.note(entry);
        self.holes -= (holes - log.holes.len()) as u64;
        match outcome {
            Err(words) => self.faults.add(words),
            Ok(false) => {}
            Ok(true) => {
                match self.recognise(group, entry) {
                    Some(sent) => self.is_entry(sent, group, entry.seq),
                    None => {
                        let early = Early::Entry { group, seq: entry.seq };
                        self.early.insert((entry.from, entry.origin), early);
                    }
                }
                self.fold(group);
            }
        }
        self.logs[group as usize].known(entry.seq).and_then(|known| known.sent)
    }

    /// Which send an entry is, as far as it is known yet: of a message a label says it; of what is none, and of a line of a trace, the
    /// answer to its author does.
    fn recognise(&self, group: u32, entry: &GroupEntry) -> Option<SentId> {
        if self.lines.is_some() || !entry.content.is_message() {
            return self.by_origin.get(&(entry.from, entry.origin)).copied();
        }
        let label = Label::parse(text_of(&entry.content))
            .filter(|label| label.run == self.run && label.stream == self.stream)?;
        let id = SentId(label.index as u32);
        self.sends.get(id.0 as usize).filter(|sent| sent.group == group).map(|_| id)
    }

    /// What follows from the entries that are known from the first one on.
    fn fold(&mut self, group: u32) {
        let Self { logs, views, owed, untold, holes, .. } = self;
        let log = &mut logs[group as usize];
        loop {
            let Some(known) = log.next_to_fold() else {
                // A member whose page does not have what would be theirs knows that it is empty.
                let is_empty = |seq| {
                    let mut all = log.views.values().flatten().map(|view| &views[*view as usize]);
                    all.any(|view| view.is_member && view.passed.has(seq))
                };
                if !log.hole().is_some_and(is_empty) {
                    return;
                }
                log.pass_hole();
                *holes += 1;
                continue;
            };
            let (comes, goes) = match known.does {
                Some(Does::Create) => (Some(known.from), None),
                Some(Does::Add(user)) => (Some(user), None),
                Some(Does::Remove(user)) => (None, Some(user)),
                Some(Does::Write | Does::Edit(_) | Does::Unsend(_) | Does::React(_)) | None => (None, None),
            };
            let mut stands = |user: Option<UserId>, is_member: bool, here: &mut i64| {
                for view in user.and_then(|user| log.views.get(&user)).into_iter().flatten() {
                    let view = &mut views[*view as usize];
                    *here += i64::from(is_member) - i64::from(view.is_member);
                    *untold -= u64::from(view.is_untold());
                    view.is_member = is_member;
                    *untold += u64::from(view.is_untold());
                }
            };
            let mut here = log.here;
            stands(comes, true, &mut here);
            let owed_to = here;
            stands(goes, false, &mut here);
            log.here = here;
            let at = log.folded();
            if let Some(known) = log.known_mut(Seq(at)) {
                known.lacking += owed_to;
                *owed += known.lacking;
            }
            // What is wrong with it is named in the end.
            for seq in log.shows.take(at, &known).unwrap_or_default() {
                if let Some(gone) = log.known_mut(Seq(seq)).filter(|gone| !gone.is_superseded) {
                    gone.is_superseded = true;
                    *owed -= gone.lacking;
                }
            }
        }
    }

    /// Whose device sits there; user 0 of one that is in no group.
    fn user_of(&self, seat: u32) -> UserId {
        let first = self.of_seat.get(&seat).and_then(|views| views.first());
        first.map_or(UserId(0), |(_, view)| self.views[*view as usize].user)
    }

    /// The place of a group and of a seat's view of it.
    fn find(&self, seat: u32, id: GroupId) -> Option<(u32, u32)> {
        let group = *self.by_id.get(&id)?;
        self.of_seat.get(&seat)?.iter().find(|(of, _)| *of == group).copied()
    }

    fn fault(&mut self, id: SentId, what: &str) {
        let Sent { group, seat, said, .. } = self.sends[id.0 as usize];
        let group = self.id(group);
        self.faults.add(format!("send {} to group {group}, of seat {seat}, {said:?}, {what}", id.0));
    }

    /// What has gone wrong since the last call.
    pub fn take_faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests;
