//! The truth: what logs of groups and of users say, as it is decided and becomes durable, and what must hold of each entry on that account.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{
    Content, ConversationId, DeviceId, Entry, ErrorCode, Event, GroupEntry, GroupId, MemberInfo, SendNumber, Seq,
    Standing, UserId,
};
use storage::{CameRow, Record};

use super::law::Law;
use crate::world::BatchKey;

/// Something that somebody sent to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) group: GroupId,
    pub(crate) device: DeviceId,
    pub(crate) number: SendNumber,
    pub(crate) content: Content,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is this entry of the group's log.
    Placed(Seq),
    Refused(ErrorCode),
}

/// What a user's log says of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Where in the user's log.
    pub(crate) at: Seq,
    pub(crate) standing: Standing,
    pub(crate) first: Seq,
    pub(crate) up_to: Seq,
    pub(crate) sent_up_to: Seq,
    /// The first place of the group's log from which on that is how they stand.
    since: usize,
}

/// How far a user has read a group.
#[derive(Clone, Copy, Debug)]
struct Mark {
    group: GroupId,
    /// Zero: the others are not to know.
    up_to: Seq,
    /// How many entries the group's log had when the mark came to it.
    came_at: Option<usize>,
}

/// The log of a group.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) entries: Vec<GroupEntry>,
    /// After so many entries.
    pub(crate) laws: Vec<Law>,
    /// What has been superseded, and by what.
    superseded: BTreeMap<Seq, Seq>,
    /// So many are durable.
    pub(crate) durable: usize,
    /// Of so many somebody has been told.
    pub(crate) told: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: Vec::new(), laws: vec![Law::default()], superseded: BTreeMap::new(), durable: 0, told: 0 }
    }
}

impl Log {
    pub(crate) fn durable_law(&self) -> &Law {
        &self.laws[self.durable]
    }

    /// Somebody is told that it has come so far.
    pub(crate) fn tells(&mut self, seq: Seq) {
        self.told = self.told.max(seq.0 as usize);
    }

    pub(crate) fn head(&self) -> Seq {
        Seq(self.durable as u64)
    }

    /// An entry that is durable.
    pub(crate) fn entry(&self, seq: Seq) -> Option<&GroupEntry> {
        self.entries[..self.durable].get((seq.0 as usize).checked_sub(1)?)
    }

    /// All that a user may read and that has not been superseded.
    pub(crate) fn readable(&self, user: UserId) -> Vec<&GroupEntry> {
        let law = self.durable_law();
        let may_read = |entry: &&GroupEntry| law.may_read(user, entry.seq) && !self.is_gone(entry.seq, self.durable);
        self.entries[..self.durable].iter().filter(may_read).collect()
    }

    /// Whether an entry has been superseded by the first so many.
    pub(crate) fn is_gone(&self, seq: Seq, by: usize) -> bool {
        self.superseded.get(&seq).is_some_and(|gone| gone.0 <= by as u64)
    }
}

/// What a batch that is not durable says.
#[derive(Clone, Debug)]
enum Said {
    Entry(GroupId),
    Came(UserId, Seq),
    Sent(UserId, Seq),
    OfUser(UserId, Seq),
    Pointer(UserId, GroupId, Pointer),
    Refusal(UserId, Seq),
    Mark(UserId, Seq),
    MarkCame(UserId, Seq),
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    members_max: usize,
    /// Who has blocked whom.
    pub(crate) blocked: BTreeSet<(UserId, UserId)>,
    /// What is decided becomes durable in the order in which it was, so that what follows from it need not wait.
    is_one_order: bool,
    pub(crate) logs: BTreeMap<GroupId, Log>,
    pub(crate) sent: BTreeMap<(UserId, Seq), Sent>,
    pub(crate) outcomes: BTreeMap<(UserId, Seq), Outcome>,
    /// Refusals that their author's log tells.
    pub(crate) refusals: BTreeSet<(UserId, Seq)>,
    pub(crate) pointers: BTreeMap<(UserId, GroupId), Pointer>,
    /// How far users have said that they have read groups: by the entries of their logs.
    marks: BTreeMap<(UserId, Seq), Mark>,
    /// What devices have said that they have of groups: the most that any ever has, and the most since the node last died.
    had: BTreeMap<(UserId, GroupId), (Seq, Seq)>,
    /// Everything has come to rest: what is told of marks is what they have come to.
    pub(crate) is_at_rest: bool,
    /// What entries of users' logs say of groups.
    pub(crate) says: BTreeMap<(UserId, Seq), Event>,
    /// Entries of users that are not durable.
    fresh: BTreeSet<(UserId, Seq)>,
    /// Batches that are not durable, in order.
    waiting: Vec<(BatchKey, Vec<Said>)>,
    pub(crate) failure: Option<String>,
}

impl Truth {
    pub(crate) fn new(members_max: usize, is_one_order: bool, blocked: BTreeSet<(UserId, UserId)>) -> Self {
        Self { members_max, is_one_order, blocked, ..Self::default() }
    }

    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub(crate) fn log(&mut self, group: GroupId) -> &mut Log {
        self.logs.entry(group).or_default()
    }

    /// Whether an entry of a user's log is durable.
    pub(crate) fn is_durable(&self, user: UserId, seq: Seq) -> bool {
        !self.fresh.contains(&(user, seq))
    }

    // ---- what becomes of batches

    /// How many batches wait.
    pub(crate) const fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn waiting(&self) -> Vec<BatchKey> {
        self.waiting.iter().map(|(key, _)| *key).collect()
    }

    /// Of the batches that wait, these have become durable.
    pub(crate) fn become_durable(&mut self, are: &[bool]) {
        let waiting = std::mem::take(&mut self.waiting);
        for ((key, said), is_durable) in waiting.into_iter().zip(are) {
            if !is_durable {
                self.waiting.push((key, said));
                continue;
            }
            for said in said {
                match said {
                    Said::Entry(group) => self.log(group).durable += 1,
                    Said::OfUser(user, seq) => _ = self.fresh.remove(&(user, seq)),
                    Said::Came(..)
                    | Said::Sent(..)
                    | Said::Pointer(..)
                    | Said::Refusal(..)
                    | Said::Mark(..)
                    | Said::MarkCame(..) => {}
                }
            }
        }
    }

    /// The node has died; these batches are lost, and all others that waited are durable.
    pub(crate) fn lose(&mut self, lost: &[BatchKey]) {
        self.had.values_mut().for_each(|(_, lately)| *lately = Seq::ZERO);
        let are: Vec<bool> = self.waiting.iter().map(|(key, _)| !lost.contains(key)).collect();
        self.become_durable(&are);
        for said in std::mem::take(&mut self.waiting).into_iter().rev().flat_map(|(_, said)| said.into_iter().rev()) {
            match said {
                Said::Entry(group) => {
                    let log = self.log(group);
                    log.laws.pop();
                    let gone = log.entries.pop();
                    let head = log.entries.len() as u64;
                    log.superseded.retain(|_, by| by.0 <= head);
                    gone.map(|gone| self.outcomes.remove(&(gone.from, gone.origin)));
                }
                Said::Came(user, seq) => _ = self.outcomes.remove(&(user, seq)),
                Said::Sent(user, seq) => _ = self.sent.remove(&(user, seq)),
                Said::OfUser(user, seq) => {
                    self.fresh.remove(&(user, seq));
                    self.says.remove(&(user, seq));
                }
                Said::Pointer(user, group, before) if before.at == Seq::ZERO => {
                    _ = self.pointers.remove(&(user, group))
                }
                Said::Pointer(user, group, before) => _ = self.pointers.insert((user, group), before),
                Said::Refusal(user, seq) => _ = self.refusals.remove(&(user, seq)),
                Said::Mark(user, seq) => _ = self.marks.remove(&(user, seq)),
                Said::MarkCame(user, seq) => {
                    self.marks.entry((user, seq)).and_modify(|mark| mark.came_at = None);
                }
            }
        }
    }

    /// A core has decided a batch.
    pub(crate) fn decided(&mut self, key: BatchKey, records: &[Record]) {
        let mut said = Vec::new();
        for record in records {
            match record {
                Record::Append { user, entry, .. } => self.appended(*user, entry, &mut said),
                Record::Rewrite { user, entry, .. } => self.rewritten(*user, entry, &mut said),
                Record::GroupAppend { group, entry, of } => {
                    let replaces = of.as_ref().map_or(&[][..], |of| &of.replaces);
                    self.placed(*group, entry, replaces, &mut said);
                }
                Record::GroupCame { group, from, row } => self.came(*group, *from, row, &mut said),
                _ => {}
            }
        }
        self.waiting.push((key, said));
    }

    fn appended(&mut self, user: UserId, entry: &Entry, said: &mut Vec<Said>) {
        self.fresh.insert((user, entry.seq));
        said.push(Said::OfUser(user, entry.seq));
        if let Event::Read { conversation: ConversationId::Group(group), up_to, told, .. } = entry.event {
            let log = self.log(group);
            let last = log.durable_law().people.get(&user).map_or(Seq::ZERO, |person| person.last(log.head()));
            if up_to > last {
                self.fail(|| format!("user {user} has read {group:?} up to {up_to} of {last}"));
            }
            self.marks.insert((user, entry.seq), Mark { group, up_to: told, came_at: None });
            said.push(Said::Mark(user, entry.seq));
        }
        if let Event::Sent { to: ConversationId::Group(group), device, number, content } = &entry.event {
            let sent = Sent { group: *group, device: *device, number: *number, content: content.clone() };
            let twice = self
                .sent
                .iter()
                .find(|((of, _), other)| *of == user && (other.device, other.number) == (sent.device, sent.number));
            if let Some((before, _)) = twice {
                let sentence = format!("{before:?} was accepted again as {}: {sent:?}", entry.seq);
                self.fail(|| sentence);
            }
            self.sent.insert((user, entry.seq), sent);
            said.push(Said::Sent(user, entry.seq));
        }
    }

    // ---- logs of groups

    /// What somebody sent, if it may be decided now.
    fn comes(&mut self, group: GroupId, from: UserId, origin: Seq) -> Option<Sent> {
        let Some(sent) = self.sent.get(&(from, origin)).filter(|sent| sent.group == group).cloned() else {
            self.fail(|| format!("{group:?}: user {from} never sent {origin}"));
            return None;
        };
        if !self.is_one_order && !self.is_durable(from, origin) {
            self.fail(|| format!("{group:?}: {origin} of user {from} is decided and is not durable with them"));
        }
        if let Some(outcome) = self.outcomes.get(&(from, origin)).copied() {
            self.fail(|| format!("{group:?}: {origin} of user {from} is decided twice, first as {outcome:?}"));
        }
        let earlier = self.sent.range((from, Seq::ZERO)..(from, origin)).filter(|(_, sent)| sent.group == group);
        let overtaken = earlier.map(|(key, _)| *key).find(|key| !self.outcomes.contains_key(key));
        if let Some((_, earlier)) = overtaken {
            self.fail(|| format!("{group:?}: {origin} of user {from} has overtaken {earlier}"));
        }
        Some(sent)
    }

    /// What the server did in the name of a user who declines: they were added by somebody whom they have blocked.
    fn declined(&mut self, group: GroupId, entry: &GroupEntry, said: &mut Vec<Said>) {
        let told = self.pointers.get(&(entry.from, group));
        let reads = told.map(|told| (told.first, told.up_to)).unwrap_or_default();
        let blocked = std::mem::take(&mut self.blocked);
        let log = self.log(group);
        let law = &log.laws[log.entries.len()];
        let last = log.entries.last();
        let is_added = law.added_by(entry.from, &log.entries).is_some_and(|by| blocked.contains(&(entry.from, by)));
        let follows = entry.seq.0 == log.entries.len() as u64 + 1
            && last.is_some_and(|last| last.time <= entry.time && last.messages == entry.messages);
        let expected = law.declining(entry.from);
        let (is_right, expected) = (is_added && follows && entry.content == expected, format!("{expected:?}"));
        let next = law.after_declining(entry, reads);
        log.laws.push(next);
        log.entries.push(entry.clone());
        said.push(Said::Entry(group));
        self.blocked = blocked;
        if !is_right {
            self.fail(|| format!("{group:?} has {entry:?}, which nobody sent: {expected} is expected of who declines"));
        }
    }

    fn placed(&mut self, group: GroupId, entry: &GroupEntry, replaces: &[Seq], said: &mut Vec<Said>) {
        if entry.origin == Seq::ZERO {
            return self.declined(group, entry, said);
        }
        let Some(sent) = self.comes(group, entry.from, entry.origin) else { return };
        let members_max = self.members_max;
        let log = self.log(group);
        let (law, last) = (&log.laws[log.entries.len()], log.entries.last());
        let messages = last.map_or(0, |last| last.messages) + u64::from(entry.content.is_message());
        let wrong = if entry.seq.0 != log.entries.len() as u64 + 1 {
            Some(format!("it has {} entries", log.entries.len()))
        } else if last.is_some_and(|last| last.time > entry.time) || entry.messages != messages {
            Some(format!("it does not follow on {last:?}"))
        } else if entry.content != law.shown(&sent.content) {
            Some(format!("{sent:?} was sent"))
        } else {
            let objections = law.objections(entry.from, &sent.content, members_max);
            let is_wrong = !objections.is_empty();
            let (gone, mut known) = (law.superseded_by(entry), replaces.to_vec());
            known.sort_unstable();
            let is_other = gone.iter().copied().collect::<BTreeSet<_>>() != known.iter().copied().collect();
            is_wrong
                .then(|| format!("they may not: {objections:?}, {law:?}"))
                .or_else(|| is_other.then(|| format!("it supersedes {gone:?}, and not {known:?}")))
        };
        let gone = law.superseded_by(entry);
        let next = law.after(entry);
        log.superseded.extend(gone.into_iter().map(|gone| (gone, entry.seq)));
        log.laws.push(next);
        log.entries.push(entry.clone());
        self.outcomes.insert((entry.from, entry.origin), Outcome::Placed(entry.seq));
        said.push(Said::Entry(group));
        if let Some(wrong) = wrong {
            self.fail(|| format!("{group:?} has {entry:?}, but {wrong}"));
        }
    }

    /// Something has come of an author, and what of it was refused.
    fn came(&mut self, group: GroupId, from: UserId, row: &CameRow, said: &mut Vec<Said>) {
        self.mark_came(group, from, row.up_to, said);
        for (origin, code) in row.refused.iter().copied() {
            if let Some(outcome) = self.outcomes.get(&(from, origin)).copied() {
                if outcome != Outcome::Refused(code) {
                    self.fail(|| format!("{group:?}: {origin} of user {from} is {outcome:?}, and then {code:?}"));
                }
                continue;
            }
            let Some(sent) = self.comes(group, from, origin) else { return };
            let members_max = self.members_max;
            let log = self.log(group);
            let law = log.laws[log.entries.len()].clone();
            if !law.objections(from, &sent.content, members_max).contains(&code) {
                self.fail(|| format!("{group:?} refuses {origin} of user {from} with {code:?}: {sent:?}, {law:?}"));
            }
            self.outcomes.insert((from, origin), Outcome::Refused(code));
            said.push(Said::Came(from, origin));
        }
    }

    /// What has come of an author is a mark, if their log says so.
    fn mark_came(&mut self, group: GroupId, from: UserId, origin: Seq, said: &mut Vec<Said>) {
        let at = self.logs.get(&group).map_or(0, |log| log.entries.len());
        let Some(mark) = self.marks.get_mut(&(from, origin)).filter(|mark| mark.group == group) else { return };
        // Of what is refused afterwards the same row says so once more.
        if mark.came_at.is_none() {
            mark.came_at = Some(at);
            said.push(Said::MarkCame(from, origin));
        }
    }

    /// How far a member has read, as those marks say that have come since they have.
    fn has_read(&self, group: GroupId, user: UserId) -> Seq {
        let Some(log) = self.logs.get(&group) else { return Seq::ZERO };
        let Some(person) = log.durable_law().member(user) else { return Seq::ZERO };
        let marks = self.marks.range((user, Seq::ZERO)..=(user, Seq(u64::MAX))).filter(|(_, mark)| mark.group == group);
        let counting = marks.filter_map(|(_, mark)| {
            let at = mark.came_at.filter(|at| *at as u64 >= person.since.0)?;
            Some(mark.up_to.min(Seq(at as u64)))
        });
        counting.max().unwrap_or_default()
    }

    /// What is wrong with saying that a member has read so far.
    pub(crate) fn wrong_mark(&self, group: GroupId, user: UserId, read_up_to: Seq) -> Option<String> {
        if self.is_at_rest {
            let is = self.has_read(group, user);
            return (read_up_to != is).then(|| format!("user {user} has read {group:?} up to {is}"));
        }
        let mut marks = self.marks.range((user, Seq::ZERO)..=(user, Seq(u64::MAX)));
        let has_said = marks
            .any(|((_, seq), mark)| mark.group == group && mark.up_to == read_up_to && self.is_durable(user, *seq));
        let is_wrong = read_up_to > Seq::ZERO && !has_said;
        is_wrong.then(|| format!("user {user} has not said that they have read so far"))
    }

    /// A device says what it has.
    pub(crate) fn has_said(&mut self, user: UserId, group: GroupId, up_to: Seq) {
        let (ever, lately) = self.had.entry((user, group)).or_default();
        (*ever, *lately) = ((*ever).max(up_to), (*lately).max(up_to));
    }

    /// What is wrong with what is said of what a member has. What a core had not told when the node died it has forgotten.
    pub(crate) fn wrong_receipt(&self, group: GroupId, member: &MemberInfo) -> Option<String> {
        let MemberInfo { user, since, read_up_to, delivered_up_to, .. } = *member;
        let (ever, lately) = self.had.get(&(user, group)).copied().unwrap_or_default();
        if delivered_up_to < read_up_to || delivered_up_to > ever.max(read_up_to) {
            return Some(format!("devices of user {user} have {ever}"));
        }
        // What they said as a member before counts no more.
        let is_late = self.is_at_rest && lately >= since && delivered_up_to < lately;
        is_late.then(|| format!("devices of user {user} have said that they have {lately}"))
    }

    /// A mark that never came to its group, though none that goes further has taken its place. That one may be of those that the others are
    /// not to know: then they are not told of this one either, if it had not gone out.
    pub(crate) fn lost_mark(&self) -> Option<String> {
        let is_superseded = |user: UserId, group: GroupId, seq: Seq| {
            let mut later = self.marks.range((user, seq.next())..=(user, Seq(u64::MAX)));
            later.any(|(_, mark)| mark.group == group)
        };
        let open = self.marks.iter().filter(|(_, mark)| mark.came_at.is_none() && mark.up_to > Seq::ZERO);
        let mut lost = open.filter(|((user, seq), mark)| !is_superseded(*user, mark.group, *seq));
        lost.next().map(|((user, at), mark)| format!("{at} of user {user} never came to its group: {mark:?}"))
    }

    // ---- logs of users

    fn rewritten(&mut self, user: UserId, entry: &Entry, said: &mut Vec<Said>) {
        self.fresh.insert((user, entry.seq));
        said.push(Said::OfUser(user, entry.seq));
        self.says.insert((user, entry.seq), entry.event.clone());
        match entry.event {
            Event::Group { group, standing, first, up_to, sent_up_to } => {
                let pointer = Pointer { at: entry.seq, standing, first, up_to, sent_up_to, since: 0 };
                self.points(user, group, pointer, said);
            }
            Event::GroupRefused { group, origin, code } => {
                let outcome = self.outcomes.get(&(user, origin)).copied();
                let is_waiting =
                    self.waits(|said| matches!(said, Said::Came(of, seq) if (*of, *seq) == (user, origin)));
                if outcome != Some(Outcome::Refused(code)) || is_waiting {
                    self.fail(|| {
                        format!("user {user}: {origin} is told to be refused by {group:?} with {code:?}: {outcome:?}")
                    });
                }
                if !self.refusals.insert((user, origin)) {
                    self.fail(|| format!("user {user}: {origin} is told to be refused twice"));
                }
                said.push(Said::Refusal(user, origin));
            }
            _ => {}
        }
    }

    fn waits(&self, is_it: impl Fn(&Said) -> bool) -> bool {
        self.waiting.iter().flat_map(|(_, said)| said).any(is_it)
    }

    /// A pointer of a group: it says what holds by what is durable in the group's log, and nothing that is behind the one before.
    fn points(&mut self, user: UserId, group: GroupId, mut pointer: Pointer, said: &mut Vec<Said>) {
        let before = self.pointers.get(&(user, group)).copied().unwrap_or_default();
        let undecided = self.undecided(user, group, pointer.sent_up_to);
        let log = self.log(group);
        let stands = |law: &Law| law.standing(user) == (pointer.standing, pointer.first);
        let since = (before.since..=log.durable).find(|at| stands(&log.laws[*at]));
        let (law, head) = (log.durable_law(), log.head());
        let wrong = if since.is_none() {
            Some(format!("by its log {:?} to {:?}", log.laws[before.since].standing(user), law.standing(user)))
        } else if pointer.up_to > head || (pointer.up_to > Seq::ZERO && !law.may_read(user, pointer.up_to)) {
            Some(format!("they may read {:?} of {head}", law.people.get(&user).map(|person| &person.parts)))
        } else if pointer.sent_up_to < before.sent_up_to {
            Some(format!("{} was said to be decided", before.sent_up_to))
        } else {
            undecided
        };
        if let Some(wrong) = wrong {
            self.fail(|| format!("user {user} has {pointer:?} of {group:?} after {before:?}, but {wrong}"));
        }
        pointer.since = since.unwrap_or(before.since);
        self.pointers.insert((user, group), pointer);
        said.push(Said::Pointer(user, group, before));
    }

    /// What of that which a user sent up to there is not decided for sure.
    fn undecided(&self, user: UserId, group: GroupId, up_to: Seq) -> Option<String> {
        let sent = self.sent.range((user, Seq::ZERO)..=(user, up_to)).filter(|(_, sent)| sent.group == group);
        for (key, _) in sent {
            let is_decided = match self.outcomes.get(key) {
                Some(Outcome::Placed(seq)) => self.logs.get(&group).is_some_and(|log| *seq <= log.head()),
                Some(Outcome::Refused(_)) => self.refusals.contains(key),
                None => false,
            };
            if !is_decided {
                return Some(format!("{:?} has become of {key:?}", self.outcomes.get(key)));
            }
        }
        None
    }
}
