//! What must be true of groups in the end: each send is an entry or was rightly refused, each entry is of somebody who was a member there,
//! and each member has what was theirs to have and was not superseded, and nothing else. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto_spec::{ErrorCode, GroupPage, Seq, Standing, UserId};

use super::{
    Faults, Groups, Outcome, Ranges, Said, Sent, SentId, Spread, View,
    log::{Does, Log, Shows},
};
use crate::verify::Change;

/// When somebody was a member: from the entry that let them in to the one that ended it.
#[derive(Clone, Debug, Default)]
struct Times {
    spans: Vec<(u64, Option<u64>)>,
    /// How it ended the last time.
    ended: Standing,
}

impl Times {
    fn is_member(&self) -> bool {
        self.spans.last().is_some_and(|(_, last)| last.is_none())
    }

    /// At some place of `places`, or right behind the entry there, this was so.
    fn was_ever(&self, is_member: bool, places: std::ops::Range<u64>) -> bool {
        let covers =
            |(first, last): &(u64, Option<u64>)| *first <= places.start && last.is_none_or(|last| places.end <= last);
        let touches =
            |(first, last): &(u64, Option<u64>)| *first < places.end && last.is_none_or(|last| places.start < last);
        if is_member { self.spans.iter().any(touches) } else { !self.spans.iter().any(covers) }
    }
}

/// What follows from all entries of a log that anybody was told of.
#[derive(Debug)]
struct Told {
    times: HashMap<UserId, Times>,
    shows: Shows,
    /// Seqs that later entries have superseded.
    gone: BTreeSet<u64>,
    /// Those of them of which nobody was told.
    unseen: BTreeMap<u64, SentId>,
}

impl Groups {
    /// When the connected devices of members had each message that any of them had; each message once.
    pub fn take_spreads(&mut self) -> Vec<Spread> {
        let Self { logs, sends, .. } = self;
        let known = logs.iter_mut().flat_map(|log| log.known_of_all());
        let spreads = known.filter(|known| known.first_us > 0).filter_map(|known| {
            let sent = &sends[known.sent?.0 as usize];
            let since = |us: u64| us.saturating_sub(sent.intended_us);
            let first_us = since(std::mem::take(&mut known.first_us));
            Some(Spread { era: sent.era.into(), first_us, last_us: since(known.last_us) })
        });
        spreads.collect()
    }

    /// Compares what a seat reads of a group, from its first entry to its last, with what it was told and nothing has superseded; the pages
    /// of one reading, when everything has come.
    pub fn check_read(&mut self, seat: u32, pages: &[GroupPage]) {
        let Some(id) = pages.first().map(|page| page.group) else { return };
        let Some((group, view)) = self.find(seat, id) else { return };
        let mut read = Ranges::default();
        for entry in pages.iter().flat_map(|page| &page.entries) {
            self.note(group, entry);
            read.insert(entry.seq.0);
        }
        let View { seen, user, .. } = &self.views[view as usize];
        let log = &self.logs[group as usize];
        let mut left = seen.clone();
        let superseded = log.entries().filter(|(_, known)| known.is_some_and(|known| known.is_superseded));
        superseded.for_each(|(seq, _)| left.remove(seq));
        if read != left {
            let words =
                format!("has entries {:?} in its pages, and came to user {user} as {:?}", read.all(), left.all());
            self.faults.add(format!("group {id} {words}"));
        }
    }

    /// Names what is missing and what should not be. For the end of a run, whose messages could be edited and taken back so many seconds.
    pub fn check_finished(&mut self, within_s: [u64; 2]) -> Faults {
        let mut faults = self.take_faults();
        let all: Vec<Told> = (0..).zip(&self.logs).map(|(at, log)| self.all_told(at, log, &mut faults)).collect();
        let is_unseen = |id: SentId| all.iter().any(|told| told.unseen.values().any(|unseen| *unseen == id));
        for (id, sent) in (0..).map(SentId).zip(&self.sends) {
            let Sent { group, seat, said, origin, .. } = *sent;
            let what = match (sent.is_accepted, sent.outcome) {
                (true, Outcome::Numbered(_) | Outcome::Refused(_)) => continue,
                (true, Outcome::Waiting) if is_unseen(id) => continue,
                (false, Outcome::Numbered(seq)) => format!("is entry {seq}, but was never answered"),
                (false, _) => "was never answered".to_owned(),
                (true, Outcome::Waiting) => format!("was accepted as {origin}, and is neither in the log nor refused"),
            };
            faults.add(format!("send {} to group {}, of seat {seat}, {said:?}, {what}", id.0, self.id(group)));
        }
        for ((author, origin), early) in &self.early {
            faults.add(format!("seq {origin} of user {author} is {early:?}, and was never accepted"));
        }
        for ((at, log), told) in (0..).zip(&self.logs).zip(&all) {
            self.check_refusals(at, log, (told, within_s), &mut faults);
            self.check_views(log, told, &mut faults);
        }
        faults
    }

    /// What a log says. Says what is wrong with it by itself.
    fn all_told(&self, group: u32, log: &Log, faults: &mut Faults) -> Told {
        let (mut shows, mut gone) = (Shows::default(), BTreeSet::new());
        for (seq, known) in log.entries().filter_map(|(seq, known)| Some((seq, known?))) {
            match shows.take(seq, known) {
                Ok(superseded) => gone.extend(superseded),
                Err(words) => faults.add(format!("entry {seq} of group {} {words}", log.id)),
            }
        }
        let unseen = self.unseen(group, log, &shows);
        gone.extend(unseen.keys());
        Told { times: times(log, &unseen, faults), shows, gone, unseen }
    }

    fn check_views(&self, log: &Log, told: &Told, faults: &mut Faults) {
        for (user, views) in &log.views {
            let times = told.times.get(user).cloned().unwrap_or_default();
            let mut theirs = Ranges::default();
            times.spans.iter().for_each(|(first, last)| theirs.fill(*first, last.unwrap_or(log.head())));
            let standing = if times.is_member() { Standing::Member } else { times.ended };
            let first = times.spans.last().map_or(0, |(first, _)| *first);
            for view in views.iter().map(|view| &self.views[*view as usize]) {
                let mut wanted = theirs.clone();
                told.gone.iter().filter(|seq| !view.seen.has(**seq)).for_each(|seq| wanted.remove(*seq));
                if view.seen != wanted {
                    let (seen, wanted) = (view.seen.all(), wanted.all());
                    faults.add(format!("user {user} has {seen:?} of group {}, and {wanted:?} is theirs", log.id));
                }
                let Some(pointer) = view.pointer else { continue };
                if pointer.standing != standing || pointer.first.is_some_and(|told| told != Seq(first)) {
                    let words =
                        format!("was told {pointer:?} of group {}, and is {standing:?} from {first} on", log.id);
                    faults.add(format!("user {user} {words}"));
                }
            }
        }
    }

    /// What a group refuses must have been wrong at some place between the author's entries before and behind it.
    fn check_refusals(&self, group: u32, log: &Log, (told, within_s): (&Told, [u64; 2]), faults: &mut Faults) {
        let mut of_seat: HashMap<u32, Vec<SentId>> = HashMap::new();
        for (id, sent) in (0..).map(SentId).zip(&self.sends).filter(|(_, sent)| sent.group == group) {
            of_seat.entry(sent.seat).or_default().push(id);
        }
        let was = |user: &UserId, is_member, places| {
            told.times.get(user).cloned().unwrap_or_default().was_ever(is_member, places)
        };
        for ids in of_seat.values() {
            let (mut before, mut refused) = ((0, Seq::ZERO), Vec::new());
            let user = self.user_of(self.sends[ids[0].0 as usize].seat);
            let mut judge = |refused: &mut Vec<(SentId, ErrorCode, Said)>, places: std::ops::Range<u64>| {
                for (id, code, said) in refused.drain(..) {
                    let is_right = match (code, said) {
                        (ErrorCode::NoSuchGroup, _) => was(&user, false, places.clone()),
                        (ErrorCode::NoSuchMember, Said::Remove(whom)) => was(&whom, false, places.clone()),
                        (ErrorCode::MemberAlready, Said::Add(whom)) => was(&whom, true, places.clone()),
                        (ErrorCode::TakenBack, Said::Change(of, ..)) => {
                            let shown = told.shows.get(self.name(of).seq).filter(|shown| shown.is_taken_back);
                            shown.is_some_and(|shown| shown.says < places.end)
                        }
                        (ErrorCode::TooLate, Said::Change(of, change, _)) => self.may_be_late(id, of, change, within_s),
                        _ => false,
                    };
                    if !is_right {
                        let words = format!("{said:?}, was refused as {} between entries {places:?}", code.name());
                        faults.add(format!("send {} to group {} of user {user}, {words}", id.0, log.id));
                    }
                }
            };
            let mut disorder = Vec::new();
            for id in ids {
                let Sent { said, outcome, origin, .. } = self.sends[id.0 as usize];
                match outcome {
                    Outcome::Waiting => {}
                    Outcome::Refused(code) => refused.push((*id, code, said)),
                    Outcome::Numbered(seq) => {
                        judge(&mut refused, before.0..seq.0);
                        if seq.0 <= before.0 || origin <= before.1 {
                            disorder.push(format!("send {} of user {user} is entry {seq}, behind {}", id.0, before.0));
                        }
                        before = (seq.0, origin);
                    }
                }
            }
            judge(&mut refused, before.0..log.head() + 1);
            disorder.into_iter().for_each(|words| faults.add(format!("group {}: {words}", log.id)));
        }
    }

    /// Whether a change that was refused may have come too late: its message was written after it should have been sent, and the change was
    /// judged before its author was told.
    fn may_be_late(&self, id: SentId, of: SentId, change: Change, within_s: [u64; 2]) -> bool {
        let within_s = match change {
            Change::Edit => within_s[0],
            Change::Unsend => within_s[1],
            Change::React(_) => return false,
        };
        let [sent, message] = [id, of].map(|id| self.sends[id.0 as usize]);
        let told = self.refusals.get(&(self.user_of(sent.seat), sent.origin));
        told.is_some_and(|told| told.told_us.saturating_sub(message.intended_us) >= within_s.saturating_mul(1_000_000))
    }
}

/// When each user was a member. Says what is wrong with the log by itself.
fn times(log: &Log, unseen: &BTreeMap<u64, SentId>, faults: &mut Faults) -> HashMap<UserId, Times> {
    let mut all: HashMap<UserId, Times> = HashMap::new();
    if let Some(words) = &log.wrong {
        faults.add(words.clone());
    }
    for (seq, known) in log.entries() {
        let Some(known) = known else {
            if unseen.contains_key(&seq) {
                continue;
            }
            faults.add(format!(
                "nobody was told of entry {seq} of group {}, though some were of entry {}",
                log.id,
                log.head()
            ));
            continue;
        };
        let is_member = all.get(&known.from).is_some_and(Times::is_member);
        if is_member == (seq == 1) || (known.does == Some(Does::Create)) != (seq == 1) {
            faults.add(format!(
                "entry {seq} of group {} is {:?} of user {}, member: {is_member}",
                log.id, known.does, known.from
            ));
        }
        let (whom, comes) = match known.does {
            Some(Does::Create) => (known.from, true),
            Some(Does::Add(whom)) => (whom, true),
            Some(Does::Remove(whom)) => (whom, false),
            Some(Does::Write | Does::Edit(_) | Does::Unsend(_) | Does::React(_)) | None => continue,
        };
        let times = all.entry(whom).or_default();
        if times.is_member() == comes {
            faults.add(format!("entry {seq} of group {} is {:?}, member: {comes}", log.id, known.does));
        } else if comes {
            times.spans.push((seq, None));
        } else if let Some((_, last)) = times.spans.last_mut() {
            *last = Some(seq);
            times.ended = if whom == known.from { Standing::Left } else { Standing::Removed };
        }
    }
    all
}
