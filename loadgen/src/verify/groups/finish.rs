//! What must be true of groups in the end: each send is an entry or was rightly refused, each entry is of somebody who was a member there,
//! and each member has what was theirs to have, and nothing else. Pure.

use std::collections::HashMap;

use proto_spec::{ErrorCode, GroupPage, Seq, Standing, UserId};

use super::{Faults, Groups, Outcome, Ranges, Said, Sent, SentId, Spread, View, log::Log};

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

    /// Compares what a seat reads of a group, from its first entry to its last, with what it was told; the pages of one reading.
    pub fn check_read(&mut self, seat: u32, pages: &[GroupPage]) {
        let Some(id) = pages.first().map(|page| page.group) else { return };
        let Some((group, view)) = self.find(seat, id) else { return };
        let mut read = Ranges::default();
        for entry in pages.iter().flat_map(|page| &page.entries) {
            self.note(group, entry);
            read.insert(entry.seq.0);
        }
        let View { seen, user, .. } = &self.views[view as usize];
        if read != *seen {
            let words =
                format!("has entries {:?} in its pages, and came to user {user} as {:?}", read.all(), seen.all());
            self.faults.add(format!("group {id} {words}"));
        }
    }

    /// Names what is missing and what should not be. For the end of a run.
    pub fn check_finished(&mut self) -> Faults {
        let mut faults = self.take_faults();
        for (id, sent) in (0..).map(SentId).zip(&self.sends) {
            let Sent { group, seat, said, origin, .. } = *sent;
            let what = match (sent.is_accepted, sent.outcome) {
                (true, Outcome::Numbered(_) | Outcome::Refused(_)) => continue,
                (false, Outcome::Numbered(seq)) => format!("is entry {seq}, but was never answered"),
                (false, _) => "was never answered".to_owned(),
                (true, Outcome::Waiting) => format!("was accepted as {origin}, and is neither in the log nor refused"),
            };
            faults.add(format!("send {} to group {}, of seat {seat}, {said:?}, {what}", id.0, self.id(group)));
        }
        for ((author, origin), early) in &self.early {
            faults.add(format!("seq {origin} of user {author} is {early:?}, and was never accepted"));
        }
        for (at, log) in (0..).zip(&self.logs) {
            let times = times(log, &mut faults);
            self.check_refusals(at, log, &times, &mut faults);
            self.check_views(log, &times, &mut faults);
        }
        faults
    }

    fn check_views(&self, log: &Log, times: &HashMap<UserId, Times>, faults: &mut Faults) {
        for (user, views) in &log.views {
            let times = times.get(user).cloned().unwrap_or_default();
            let mut wanted = Ranges::default();
            times.spans.iter().for_each(|(first, last)| wanted.push(*first, last.unwrap_or(log.head())));
            // Spans that touch are one range of what came.
            let wanted =
                wanted.all().iter().flat_map(|(first, last)| *first..=*last).fold(Ranges::default(), |mut all, seq| {
                    all.insert(seq);
                    all
                });
            let standing = if times.is_member() { Standing::Member } else { times.ended };
            let first = times.spans.last().map_or(0, |(first, _)| *first);
            for view in views.iter().map(|view| &self.views[*view as usize]) {
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
    fn check_refusals(&self, group: u32, log: &Log, times: &HashMap<UserId, Times>, faults: &mut Faults) {
        let mut of_seat: HashMap<u32, Vec<SentId>> = HashMap::new();
        for (id, sent) in (0..).map(SentId).zip(&self.sends).filter(|(_, sent)| sent.group == group) {
            of_seat.entry(sent.seat).or_default().push(id);
        }
        let was =
            |user: &UserId, is_member, places| times.get(user).cloned().unwrap_or_default().was_ever(is_member, places);
        for ids in of_seat.values() {
            let (mut before, mut refused) = ((0, Seq::ZERO), Vec::new());
            let user = self.user_of(self.sends[ids[0].0 as usize].seat);
            let mut judge = |refused: &mut Vec<(SentId, ErrorCode, Said)>, places: std::ops::Range<u64>| {
                for (id, code, said) in refused.drain(..) {
                    let is_right = match (code, said) {
                        (ErrorCode::NoSuchGroup, _) => was(&user, false, places.clone()),
                        (ErrorCode::NoSuchMember, Said::Remove(whom)) => was(&whom, false, places.clone()),
                        (ErrorCode::MemberAlready, Said::Add(whom)) => was(&whom, true, places.clone()),
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
}

/// When each user was a member. Says what is wrong with the log by itself.
fn times(log: &Log, faults: &mut Faults) -> HashMap<UserId, Times> {
    let mut all: HashMap<UserId, Times> = HashMap::new();
    if let Some(words) = &log.wrong {
        faults.add(words.clone());
    }
    for (seq, known) in log.entries() {
        let Some(known) = known else {
            faults.add(format!(
                "nobody was told of entry {seq} of group {}, though some were of entry {}",
                log.id,
                log.head()
            ));
            continue;
        };
        let is_member = all.get(&known.from).is_some_and(Times::is_member);
        if is_member == (seq == 1) || (known.said == Some(Said::Create)) != (seq == 1) {
            faults.add(format!(
                "entry {seq} of group {} is {:?} of user {}, member: {is_member}",
                log.id, known.said, known.from
            ));
        }
        let (whom, comes) = match known.said {
            Some(Said::Create) => (known.from, true),
            Some(Said::Add(whom)) => (whom, true),
            Some(Said::Remove(whom)) => (whom, false),
            Some(Said::Message(_)) | None => continue,
        };
        let times = all.entry(whom).or_default();
        if times.is_member() == comes {
            faults.add(format!("entry {seq} of group {} is {:?}, member: {comes}", log.id, known.said));
        } else if comes {
            times.spans.push((seq, None));
        } else if let Some((_, last)) = times.spans.last_mut() {
            *last = Some(seq);
            times.ended = if whom == known.from { Standing::Left } else { Standing::Removed };
        }
    }
    all
}
