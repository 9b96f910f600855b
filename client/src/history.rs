//! What a device has been handed of its log, by digests, so that it can show that the server has the same (SPEC 8.9).
//!
//! [`History`] takes the entries as they come and keeps 32 bytes and a few numbers of each that is not superseded. A [`Check`] is one
//! comparison: it says which digests to ask for, and what the answer means.

use std::collections::{BTreeMap, HashMap};

use proto_spec::{
    Content, ConversationId, Digests, Entry, Event, GroupId, Seq, Stands, TimestampMs, UserId,
    digest::{self, Digest, RangeDigest},
    limits::DIGESTS_MAX,
};

use crate::limits::HISTORY_ENTRIES_MAX;

/// See the head of this file. Begins with nothing.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first seq that is known with all that follow. Of what was before, nothing is said.
    first: Seq,
    last: Seq,
    held: BTreeMap<Seq, Held>,
    /// Where the entry is that says this.
    latest: HashMap<Says, Seq>,
    /// How many entries have been superseded.
    superseded: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    digest: Digest,
    says: Says,
    /// The message that it says.
    name: Option<Name>,
    /// When the message was written that it says something of.
    written: TimestampMs,
}

/// What a log says once: the entry that says it anew supersedes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Says {
    Message(Seq),
    /// What somebody feels about the message that stands here; oneself, if it is nobody else.
    Reaction(Option<UserId>, Seq),
    Delivered(UserId),
    Seen(UserId),
    Read(ConversationId),
    Settings(ConversationId),
    /// That the message is gone that stood here.
    Deleted(Seq),
    Devices,
    Visibility,
    /// How the user stands to a group.
    Group(GroupId),
    /// What was sent to a group, which has not numbered it yet.
    ToGroup(GroupId, Seq),
    /// That the group has not taken it.
    GroupRefused(Seq),
    /// That the message of a group is gone that stands there in the group's log.
    GroupDeleted(GroupId, Seq),
}

/// Who wrote a message, oneself if it is nobody else, and its seq there.
type Name = (Option<UserId>, Seq);

impl Says {
    fn is_reaction_to(&self, place: Seq) -> bool {
        matches!(self, Self::Reaction(_, to) if *to == place)
    }
}

fn is_unsend(entry: &Entry) -> bool {
    let (Event::Received { content, .. } | Event::Sent { content, .. }) = &entry.event else { return false };
    matches!(content, Content::Unsend(_))
}

impl History {
    /// The seqs that a check is of; none as long as nothing was handed out.
    #[must_use]
    pub fn range(&self) -> Option<(Seq, Seq)> {
        (self.first > Seq::ZERO && self.first <= self.last).then_some((self.first, self.last))
    }

    /// Takes the next entry, as [`crate::ClientEvent::Entry`] has it.
    pub fn entry(&mut self, entry: &Entry) {
        if entry.seq <= self.last {
            // The log has begun again: it is another one.
            *self = Self { superseded: self.superseded + 1, ..Self::default() };
        }
        if self.first == Seq::ZERO {
            self.first = entry.seq;
        }
        self.last = entry.seq;
        let Some(held) = self.held(entry) else {
            // What it supersedes, or what the log has of it, is not known: all is forgotten up to here.
            self.superseded += 1;
            return self.forget_before(entry.seq.next());
        };
        let emptied = match held.says {
            Says::Deleted(place) => {
                self.supersede(Says::Message(place));
                Some(place)
            }
            Says::Message(place) => Some(place).filter(|_| is_unsend(entry)),
            Says::Group(_) | Says::GroupRefused(_) => {
                self.numbered_by_group(&entry.event);
                None
            }
            _ => None,
        };
        if let Some(place) = emptied {
            let reactions: Vec<_> = self.latest.keys().filter(|says| says.is_reaction_to(place)).copied().collect();
            reactions.into_iter().for_each(|says| self.supersede(says));
        }
        self.supersede(held.says);
        self.latest.insert(held.says, entry.seq);
        self.held.insert(entry.seq, held);
        if self.held.len() > HISTORY_ENTRIES_MAX
            && let Some((oldest, _)) = self.held.first_key_value()
        {
            self.forget_before(oldest.next());
        }
    }

    /// A group has answered: what was sent to it is superseded.
    fn numbered_by_group(&mut self, answer: &Event) {
        let is_answered = |says: &&Says| match (answer, says) {
            (Event::Group { group, sent_up_to, .. }, Says::ToGroup(to, seq)) => group == to && seq <= sent_up_to,
            (Event::GroupRefused { group, origin, .. }, Says::ToGroup(to, seq)) => (group, origin) == (to, seq),
            _ => false,
        };
        let answered: Vec<_> = self.latest.keys().filter(is_answered).copied().collect();
        answered.into_iter().for_each(|says| self.supersede(says));
    }

    /// What stands up to here is not handed out ([`crate::ClientEvent::Skipped`]), so nothing is said of it.
    pub fn skipped(&mut self, up_to: Seq) {
        self.superseded += 1;
        self.forget_before(up_to.next());
    }

    fn supersede(&mut self, says: Says) {
        if let Some(before) = self.latest.remove(&says) {
            self.superseded += u64::from(self.held.remove(&before).is_some());
        }
    }

    fn held(&self, entry: &Entry) -> Option<Held> {
        let held = |says| Some(Held { digest: digest::of_entry(entry), says, name: None, written: entry.time });
        let (by, seq, content) = match &entry.event {
            Event::Delivered { peer, .. } => return held(Says::Delivered(*peer)),
            Event::Seen { peer, .. } => return held(Says::Seen(*peer)),
            Event::Read { conversation, .. } => return held(Says::Read(*conversation)),
            Event::Settings { conversation, .. } => return held(Says::Settings(*conversation)),
            Event::Deleted { conversation: ConversationId::Person(_), place, .. } => {
                return held(Says::Deleted(*place));
            }
            Event::Deleted { conversation: ConversationId::Group(group), place, .. } => {
                return held(Says::GroupDeleted(*group, *place));
            }
            Event::Group { group, .. } => return held(Says::Group(*group)),
            Event::GroupRefused { origin, .. } => return held(Says::GroupRefused(*origin)),
            // It stands in the log as it was sent.
            Event::Sent { to: ConversationId::Group(group), .. } => return held(Says::ToGroup(*group, entry.seq)),
            Event::Devices { .. } => return held(Says::Devices),
            Event::Visibility { .. } => return held(Says::Visibility),
            Event::Unknown { .. } => return None,
            Event::Received { from, origin, content } => (Some(*from), *origin, content),
            Event::Sent { content, .. } => (None, entry.seq, content),
        };
        let Some((of, stands)) = content.about() else {
            return Some(Held { name: Some((by, seq)), ..held(Says::Message(entry.seq))? });
        };
        let (logged, stands) = match (stands, &entry.event) {
            (Some(stands), _) => (entry.clone(), stands),
            // A change that this device has sent, as it has sent it: in the log it says besides where the message stands.
            (None, Event::Sent { to, device, number, content }) => {
                // Of what one says to oneself, who that is is not known: of older entries nothing is said then.
                let author = (*to == ConversationId::Person(of.author)).then_some(of.author);
                let stands = self.stands((author, of.seq))?;
                let (to, device, number, content) = (*to, *device, *number, content.standing(Some(stands)));
                (Entry { event: Event::Sent { to, device, number, content }, ..entry.clone() }, stands)
            }
            (None, _) => return None,
        };
        let (says, name) = match entry.is_reaction() {
            true => (Says::Reaction(by, stands.place), None),
            false => (Says::Message(stands.place), Some((by, of.seq))),
        };
        Some(Held { digest: digest::of_entry(&logged), says, name, written: stands.time })
    }

    /// Where the message of this name stands, if it is held.
    fn stands(&self, name: Name) -> Option<Stands> {
        let is_it = |held: &&Held| held.name == Some(name);
        let Held { says: Says::Message(place), written, .. } = *self.held.values().rev().find(is_it)? else {
            return None;
        };
        Some(Stands { place, time: written })
    }

    fn forget_before(&mut self, first: Seq) {
        self.first = self.first.max(first);
        let kept = self.held.split_off(&first);
        for (seq, gone) in std::mem::replace(&mut self.held, kept) {
            if self.latest.get(&gone.says) == Some(&seq) {
                self.latest.remove(&gone.says);
            }
        }
    }

    /// Begins a comparison with the server. None as long as nothing was handed out.
    #[must_use]
    pub fn check(&self) -> Option<Check> {
        let (first, last) = self.range()?;
        Some(Check { whole: (first, last), first, last, differs: false, superseded: self.superseded })
    }

    fn digest(&self, first: Seq, last: Seq) -> Digest {
        let mut range = RangeDigest::new();
        self.held.range(first..=last).for_each(|(_, held)| range.add(&held.digest));
        range.finish()
    }
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    whole: (Seq, Seq),
    /// What is left to be compared.
    first: Seq,
    last: Seq,
    /// It differed, taken as one.
    differs: bool,
    superseded: u64,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something differs, or not all has been compared: ask for the next digests ([`Check::ask`]).
    Goes(Check),
    /// The server's log has what this device holds from the first of these seqs to the last.
    Same(Seq, Seq),
    /// What the server's log has from the first of these seqs to the last is not what this device holds.
    Differs(Seq, Seq),
    /// The log has changed meanwhile: begin again.
    Changed,
}

impl Check {
    /// The arguments of the next [`crate::Client::fetch_digest`].
    #[must_use]
    pub const fn ask(&self) -> (Seq, Seq, u64) {
        let all = self.last.0 - self.first.0 + 1;
        (self.first, self.last, all.div_ceil(DIGESTS_MAX))
    }

    /// What the answer means.
    #[must_use]
    pub fn answer(self, history: &History, digests: &Digests) -> Verdict {
        let (first, last) = self.whole;
        let is_settled = history.last >= digests.at && history.superseded == self.superseded && history.first <= first;
        let (asked_first, asked_last, asked_width) = self.ask();
        let is_asked = (asked_first, asked_width) == (digests.first, digests.width)
            && (asked_first..=asked_last).contains(&digests.last)
            && digests.digests.len() as u64 == (digests.last.0 - asked_first.0 + 1).div_ceil(asked_width);
        if !is_settled || !is_asked {
            return Verdict::Changed;
        }
        let mut begin = self.first;
        for digest in &digests.digests {
            let end = Seq(begin.0.saturating_add(digests.width - 1)).min(digests.last);
            if history.digest(begin, end) != *digest {
                // The answer to the last question of all has ranges of one seq.
                return if begin == end {
                    Verdict::Differs(begin, end)
                } else {
                    Verdict::Goes(Self { first: begin, last: end, differs: true, ..self })
                };
            }
            begin = end.next();
        }
        match (begin <= self.last, self.differs) {
            // The server has told of a part.
            (true, _) => Verdict::Goes(Self { first: begin, ..self }),
            (false, false) => Verdict::Same(first, last),
            // A range differed, and none of its parts does.
            (false, true) => Verdict::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use proto_spec::{DeviceId, ErrorCode, MessageName, RequestId, SendNumber, Standing};

    use super::*;

    const ME: UserId = UserId(7);

    /// A log, by the plainest means: what stays of it, and what a device of its author is handed.
    #[derive(Default)]
    struct Log {
        stays: BTreeMap<Seq, Entry>,
        handed: Vec<Entry>,
    }

    impl Log {
        fn append(&mut self, event: Event, as_handed: Option<Event>, superseded: Option<Seq>) {
            let seq = Seq(self.handed.len() as u64 + 1);
            let entry = Entry { seq, time: TimestampMs(1_000 + seq.0), event };
            superseded.map(|seq| self.stays.remove(&seq));
            self.handed.push(Entry { event: as_handed.unwrap_or_else(|| entry.event.clone()), ..entry });
            self.stays.insert(seq, entry);
        }

        /// What happens next, by two numbers.
        fn grow(&mut self, what: u8, which: u64) {
            let conversation = UserId(8).into();
            let next = Seq(self.handed.len() as u64 + 1);
            let sent_to = |to, content| Event::Sent { to, device: DeviceId(1), number: SendNumber(1), content };
            let sent = |content| sent_to(conversation, content);
            let is_own = |entry: &&Entry| matches!(entry.event, Event::Sent { to: ConversationId::Person(_), .. });
            let own = || self.stays.values().filter(is_own).collect::<Vec<_>>();
            let group = GroupId(8);
            let is_to_group = |entry: &&Entry| matches!(entry.event, Event::Sent { to: ConversationId::Group(_), .. });
            match what % 9 {
                6 => self.append(sent_to(group.into(), Content::text("all")), None, None),
                7 => {
                    // What was sent there up to here is numbered, and the pointer before says nothing any more.
                    let sent_up_to = Seq(which % next.0);
                    let is_pointer = |entry: &Entry| matches!(entry.event, Event::Group { .. });
                    let is_done = |entry: &Entry| is_to_group(&entry) && entry.seq <= sent_up_to;
                    self.stays.retain(|_, entry| !is_pointer(entry) && !is_done(entry));
                    let (standing, up_to) = (Standing::Member, next);
                    self.append(Event::Group { group, standing, first: Seq(1), up_to, sent_up_to }, None, None);
                }
                8 => {
                    let pending = self.stays.values().find(is_to_group).map(|entry| entry.seq);
                    let (origin, code) = (pending.unwrap_or(next), ErrorCode::NotAllowed);
                    self.append(Event::GroupRefused { group, origin, code }, None, pending);
                }
                0 => {
                    let is_seen = |entry: &&Entry| matches!(entry.event, Event::Seen { .. });
                    let before = self.stays.values().find(is_seen).map(|entry| entry.seq);
                    self.append(Event::Seen { peer: UserId(8), up_to: next }, None, before);
                }
                1 => {
                    let content = Content::text("they");
                    self.append(Event::Received { from: UserId(8), origin: next, content }, None, None);
                }
                2 | 3 if !own().is_empty() => {
                    let own = own();
                    let known = own[which as usize % own.len()];
                    let (before, place) = (known.seq, known.place().unwrap());
                    let Event::Sent { content, .. } = &known.event else { unreachable!() };
                    let time = content.about().and_then(|(_, stands)| stands).map_or(known.time, |stands| stands.time);
                    let name = MessageName { author: ME, seq: place };
                    let edit = Content::edit(name, &Content::text("I, later"), Some(Stands { place, time }));
                    let as_handed = sent(edit.standing(None));
                    self.append(sent(edit), Some(as_handed), Some(before));
                }
                5 if !own().is_empty() => {
                    let own = own();
                    let known = own[which as usize % own.len()];
                    let (before, place) = (known.seq, known.place().unwrap());
                    let of = MessageName { author: ME, seq: place };
                    self.append(Event::Deleted { conversation, of, place, unread: 0 }, None, Some(before));
                }
                _ => self.append(sent(Content::text("I")), None, None),
            }
        }

        /// As the server answers, who tells of no more than so many seqs at once.
        fn answer(&self, (first, last, width): (Seq, Seq, u64), most: u64) -> Digests {
            let last = last.min(Seq(first.0 + (width * DIGESTS_MAX).min(most) - 1));
            let begins = (0..).map(|part| Seq(first.0 + part * width)).take_while(|begin| *begin <= last);
            let digests = begins.map(|begin| {
                let mut range = RangeDigest::new();
                let end = Seq(begin.0 + width - 1).min(last);
                self.stays.range(begin..=end).for_each(|(_, entry)| range.add(&digest::of_entry(entry)));
                range.finish()
            });
            let at = Seq(self.handed.len() as u64);
            Digests { request: RequestId(1), at, first, last, width, digests: digests.collect() }
        }
    }

    fn history(log: &Log, from: usize) -> History {
        let mut history = History::default();
        log.handed[from..].iter().for_each(|entry| history.entry(entry));
        history
    }

    fn verdict(log: &Log, history: &History, most: u64) -> (Verdict, u32) {
        let mut check = history.check().unwrap();
        for asked in 1.. {
            match check.answer(history, &log.answer(check.ask(), most)) {
                Verdict::Goes(on) => check = on,
                verdict => return (verdict, asked),
            }
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn what_was_handed_out_is_what_the_log_has_and_one_other_entry_is_found(
            grows in vec((any::<u8>(), any::<u64>()), 1..200), from in 0..50usize, most in 1..500u64,
            at in any::<proptest::sample::Index>()
        ) {
            let mut log = Log::default();
            grows.iter().for_each(|(what, which)| log.grow(*what, *which));
            let history = history(&log, from.min(log.handed.len() - 1));
            let Some((first, last)) = history.range() else { return Ok(()) };
            prop_assert_eq!(verdict(&log, &history, most).0, Verdict::Same(first, last));
            let inside: Vec<_> = log.stays.range(first..=last).map(|(seq, _)| *seq).collect();
            let other = inside[at.index(inside.len())];
            log.stays.get_mut(&other).unwrap().time.0 += 1;
            prop_assert_eq!(verdict(&log, &history, most).0, Verdict::Differs(other, other));
            log.stays.remove(&other);
            prop_assert_eq!(verdict(&log, &history, most).0, Verdict::Differs(other, other));
        }
    }

    #[test]
    fn one_difference_among_many_is_found_in_as_many_answers_as_a_tree_is_deep() {
        let mut log = Log::default();
        (0..10_000).for_each(|_| log.grow(1, 0));
        let history = history(&log, 0);
        log.stays.get_mut(&Seq(7_777)).unwrap().time.0 += 1;
        // 10,000 by 157, 157 by 3, 3 by 1.
        assert_eq!(verdict(&log, &history, u64::MAX), (Verdict::Differs(Seq(7_777), Seq(7_777)), 3));
    }

    #[test]
    fn what_the_log_has_superseded_meanwhile_is_no_difference() {
        let mut log = Log::default();
        [(1, 0), (0, 0), (4, 0)].iter().for_each(|(what, which)| log.grow(*what, *which));
        let mut history = history(&log, 0);
        let check = history.check().unwrap();
        log.grow(0, 0);
        let digests = log.answer(check.ask(), u64::MAX);
        assert_eq!(check.answer(&history, &digests), Verdict::Changed, "it has not come yet");
        history.entry(log.handed.last().unwrap());
        assert_eq!(check.answer(&history, &digests), Verdict::Changed, "it has come");
        assert_eq!(verdict(&log, &history, u64::MAX).0, Verdict::Same(Seq(1), Seq(4)));
    }

    #[test]
    fn an_answer_to_another_question_says_nothing() {
        let mut log = Log::default();
        (0..70).for_each(|_| log.grow(1, 0));
        let history = history(&log, 0);
        let check = history.check().unwrap();
        let right = log.answer(check.ask(), u64::MAX);
        let others: [fn(&mut Digests); 6] = [
            |digests| digests.digests.push([0; 32]),
            |digests| digests.digests.clear(),
            |digests| digests.width = u64::MAX,
            |digests| digests.width = 1,
            |digests| digests.last = Seq(u64::MAX),
            |digests| (digests.first, digests.last) = (Seq(1), Seq(0)),
        ];
        for other in others {
            let mut digests = right.clone();
            other(&mut digests);
            assert_eq!(check.answer(&history, &digests), Verdict::Changed, "{digests:?}");
        }
    }

    #[test]
    fn a_change_of_a_message_that_is_not_held_is_not_taken_for_one_of_another() {
        let mut log = Log::default();
        log.grow(4, 0);
        let mut history = history(&log, 0);
        let of = MessageName { author: UserId(8), seq: Seq(1) };
        let content = Content::reaction(of, "!", None);
        let event = Event::Sent { to: UserId(8).into(), device: DeviceId(1), number: SendNumber(2), content };
        history.entry(&Entry { seq: Seq(2), time: TimestampMs(1_002), event });
        assert_eq!(history.range(), None, "where their message stands, and when it was written, is not known");
    }

    #[test]
    fn of_what_was_skipped_and_what_was_before_nothing_is_said() {
        let mut log = Log::default();
        (0..9).for_each(|_| log.grow(1, 0));
        let mut history = History::default();
        history.entry(&log.handed[0]);
        history.skipped(Seq(5));
        assert_eq!(history.range(), None);
        log.handed[5..].iter().for_each(|entry| history.entry(entry));
        assert_eq!(verdict(&log, &history, u64::MAX).0, Verdict::Same(Seq(6), Seq(9)));
    }

    #[test]
    fn a_log_that_begins_again_is_another_one() {
        let mut log = Log::default();
        (0..5).for_each(|_| log.grow(1, 0));
        let mut history = history(&log, 0);
        log.handed[..2].iter().for_each(|entry| history.entry(entry));
        assert_eq!(history.range(), Some((Seq(1), Seq(2))));
    }

    #[test]
    fn a_history_keeps_so_many_entries_and_speaks_for_them_alone() {
        let mut log = Log::default();
        (0..HISTORY_ENTRIES_MAX + 10).for_each(|_| log.grow(1, 0));
        let history = history(&log, 0);
        assert_eq!(history.range(), Some((Seq(11), Seq(HISTORY_ENTRIES_MAX as u64 + 10))));
        assert!(history.latest.len() == HISTORY_ENTRIES_MAX && history.held.len() == HISTORY_ENTRIES_MAX);
    }
}
