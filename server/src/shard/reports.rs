//! Reports: what a user's home owes to the authors of received messages, once a device has acknowledged them.
//!
//! An author is told the last of their messages that has arrived, which covers all before it: so one report is on the way to each,
//! the newest waits behind it, and an author whose home does not take it holds up nobody else.
//!
//! Pure data; `duties` reads the log, posts, and tries again. Invariant: [`Reports::confirmed_up_to`] never passes a message whose
//! author is not known to have been told.

use proto_spec::{Entry, Event, Seq, UserId};

use crate::limits::REPORTS_MAX;

/// What an author is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The last message that has arrived: a seq of the author's log.
    pub(super) up_to: Seq,
    /// The seq of that message in the reader's log.
    pub(super) received_as: Seq,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// The log has been looked at up to here.
    seen: Seq,
    /// A part of the log is being read.
    pub(super) reading: bool,
    open: Vec<Open>,
}

/// An author who has to be told something.
#[derive(Debug)]
struct Open {
    author: UserId,
    /// The first message of which the author has not been told, or an earlier place.
    first: Seq,
    on_the_way: Option<Report>,
    next: Option<Report>,
    /// The author's home has put it off, and is not tried again yet.
    rests: bool,
}

impl Reports {
    /// The authors of everything up to here have been told.
    pub(super) fn after(seen: Seq) -> Self {
        Self { seen, ..Self::default() }
    }

    /// Somebody has to be told something that has been looked at.
    pub(super) fn is_open(&self) -> bool {
        self.reading || !self.open.is_empty()
    }

    /// The authors of everything up to here have been told.
    pub(super) fn confirmed_up_to(&self) -> Seq {
        self.open.iter().map(|open| open.first.previous()).min().unwrap_or(self.seen)
    }

    /// Where to look on, if something up to `target` has not been looked at and can be now.
    pub(super) fn next(&self, target: Seq) -> Option<Seq> {
        (self.seen < target && !self.reading && self.open.len() < REPORTS_MAX).then(|| self.seen.next())
    }

    /// Looks at what the log of `me` has up to `covered`. Who is to be told what now.
    pub(super) fn look(&mut self, me: UserId, entries: &[Entry], covered: Seq) -> Vec<(UserId, Report)> {
        self.seen = covered;
        for entry in entries {
            let (from, origin) = match entry.event {
                Event::Received { from, origin, .. } => (from, origin),
                // It has arrived, or it could not have been deleted.
                Event::Deleted { conversation, of, .. } if conversation == of.author.into() && of.author != me => {
                    (of.author, of.seq)
                }
                _ => continue,
            };
            let report = Report { up_to: origin, received_as: entry.seq };
            if let Some(open) = self.open.iter_mut().find(|open| open.author == from) {
                // What was deleted is older than what may have been found behind it.
                let known = open.next.iter().chain(&open.on_the_way).map(|known| known.up_to).max().unwrap_or_default();
                open.next = Some(Report { up_to: report.up_to.max(known), ..report });
            } else if self.open.len() < REPORTS_MAX {
                let (first, next) = (entry.seq, Some(report));
                self.open.push(Open { author: from, first, on_the_way: None, next, rests: false });
            } else {
                self.seen = entry.seq.previous();
                break;
            }
        }
        self.open.iter_mut().filter_map(|open| Some((open.author, open.go_on()?))).collect()
    }

    /// The author's home has a report. What it is to be told next.
    pub(super) fn confirm(&mut self, received_as: Seq, author: UserId) -> Option<Report> {
        let at = self.place(received_as, author)?;
        let open = &mut self.open[at];
        open.on_the_way = None;
        open.first = received_as.next();
        if open.next.is_none() {
            self.open.swap_remove(at);
            self.open.shrink_to(1);
            return None;
        }
        open.go_on()
    }

    /// The author's home does not take a report now. True: it begins to rest, until [`Reports::wake`].
    pub(super) fn put_off(&mut self, received_as: Seq, author: UserId) -> bool {
        let Some(at) = self.place(received_as, author) else { return false };
        let open = &mut self.open[at];
        open.next = open.next.or(open.on_the_way);
        open.on_the_way = None;
        !std::mem::replace(&mut open.rests, true)
    }

    /// Whether something is on the way to one of these authors.
    pub(super) fn is_on_the_way_to(&self, is_meant: impl Fn(UserId) -> bool) -> bool {
        self.open.iter().any(|open| open.on_the_way.is_some() && is_meant(open.author))
    }

    /// These authors may not get what is on the way to them, nor answer it. Which of them begin to rest.
    pub(super) fn lose(&mut self, is_lost: impl Fn(UserId) -> bool) -> Vec<UserId> {
        let lost = self.open.iter().filter(|open| is_lost(open.author));
        let lost: Vec<_> = lost.filter_map(|open| Some((open.on_the_way?.received_as, open.author))).collect();
        lost.into_iter().filter(|(seq, author)| self.put_off(*seq, *author)).map(|(_, author)| author).collect()
    }

    /// An author whose home rested is to be told again. What.
    pub(super) fn wake(&mut self, author: UserId) -> Option<Report> {
        let open = self.open.iter_mut().find(|open| open.author == author)?;
        open.rests = false;
        open.go_on()
    }

    fn place(&self, received_as: Seq, author: UserId) -> Option<usize> {
        let is_it = |open: &Open| {
            open.author == author && open.on_the_way.is_some_and(|report| report.received_as == received_as)
        };
        self.open.iter().position(is_it)
    }
}

impl Open {
    fn go_on(&mut self) -> Option<Report> {
        if self.rests || self.on_the_way.is_some() {
            return None;
        }
        self.on_the_way = self.next.take();
        self.on_the_way
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, MessageName, TimestampMs};

    use super::*;

    fn received(seq: u64, from: u64, origin: u64) -> Entry {
        let event = Event::Received { from: UserId(from), origin: Seq(origin), content: Content::text("x") };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    const ME: UserId = UserId(1000);

    const fn report(up_to: u64, received_as: u64) -> Report {
        Report { up_to: Seq(up_to), received_as: Seq(received_as) }
    }

    #[test]
    fn an_author_who_can_not_be_told_holds_up_nobody_and_is_told_the_newest_in_the_end() {
        let mut reports = Reports::after(Seq(0));
        let told = reports.look(ME, &[received(1, 8, 10), received(2, 9, 20), received(3, 8, 11)], Seq(3));
        assert_eq!(told, [(UserId(8), report(11, 3)), (UserId(9), report(20, 2))]);
        assert!(reports.put_off(Seq(3), UserId(8)));
        assert_eq!(reports.confirm(Seq(2), UserId(9)), None);
        assert_eq!(reports.confirmed_up_to(), Seq(0));
        assert_eq!(reports.next(Seq(5)), Some(Seq(4)));
        let told = reports.look(ME, &[received(4, 8, 12), received(5, 9, 21)], Seq(5));
        assert_eq!(told, [(UserId(9), report(21, 5))], "the other one rests");
        assert_eq!(reports.wake(UserId(8)), Some(report(12, 4)));
        assert_eq!(reports.confirm(Seq(4), UserId(8)), None);
        assert_eq!(reports.confirmed_up_to(), Seq(4));
        assert_eq!(reports.confirm(Seq(5), UserId(9)), None);
        assert_eq!((reports.confirmed_up_to(), reports.is_open()), (Seq(5), false));
    }

    #[test]
    fn the_newest_waits_for_the_one_that_is_on_the_way() {
        let mut reports = Reports::after(Seq(0));
        assert_eq!(reports.look(ME, &[received(1, 8, 10)], Seq(1)), [(UserId(8), report(10, 1))]);
        assert_eq!(reports.look(ME, &[received(2, 8, 11), received(3, 8, 12)], Seq(3)), []);
        assert_eq!(reports.confirm(Seq(1), UserId(8)), Some(report(12, 3)));
        assert_eq!(reports.confirmed_up_to(), Seq(1));
        assert_eq!(reports.confirm(Seq(1), UserId(8)), None, "a second confirmation");
        assert_eq!(reports.confirm(Seq(3), UserId(8)), None);
        assert_eq!(reports.confirmed_up_to(), Seq(3));
    }

    #[test]
    fn looking_stops_where_too_many_authors_are_open() {
        let mut reports = Reports::after(Seq(0));
        let many: Vec<_> = (1..=REPORTS_MAX as u64 + 2).map(|seq| received(seq, seq, 1)).collect();
        assert_eq!(reports.look(ME, &many, Seq(many.len() as u64)).len(), REPORTS_MAX);
        assert_eq!(reports.next(Seq(many.len() as u64)), None);
        assert_eq!(reports.confirm(Seq(1), UserId(1)), None);
        assert_eq!(reports.next(Seq(many.len() as u64)), Some(Seq(REPORTS_MAX as u64 + 1)));
    }

    #[test]
    fn nobody_is_told_of_a_note_to_oneself_that_is_gone() {
        let deleted = |of: UserId| Event::Deleted {
            conversation: of.into(),
            of: MessageName { author: of, seq: Seq(1) },
            place: Seq(1),
            unread: 0,
        };
        let entry = |seq, of| Entry { seq: Seq(seq), time: TimestampMs(1), event: deleted(of) };
        let mut reports = Reports::after(Seq(1));
        let told = reports.look(ME, &[entry(2, ME), entry(3, UserId(8))], Seq(3));
        assert_eq!(told, [(UserId(8), report(1, 3))]);
    }
}
