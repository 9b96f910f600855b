//! Where in the user's log this device is.
//!
//! Invariants: everything up to `position` has been handed out (or was superseded, or lies before the start); nothing
//! above it has; what was skipped up to `since` aside. `confirmed <= position`: what the application is done with, and from where a new connection resumes.
//! `acknowledged <= confirmed`: what the server was told.

use proto_spec::{Entry, EpochId, Page, RequestId, Resume, Seq};

use crate::{
    config::{Acknowledging, Config},
    epochs::{Epochs, Told},
    event::DisconnectReason,
};

#[derive(Clone, Debug)]
pub(crate) struct Position {
    resume: Resume,
    acknowledging: Acknowledging,
    /// More seqs than this are skipped; zero: none ever are.
    skip_above: u64,
    /// Of what stands up to here the application may lack something.
    since: Seq,
    /// Up to where this connection was brought, as the server counts it (SPEC 8.2): before `position` after a resume from what was
    /// confirmed.
    here: Seq,
    /// None before the first welcome: only the server knows where `Stored` and `Live` begin.
    at: Option<At>,
    epochs: Epochs,
}

#[derive(Clone, Copy, Debug)]
struct At {
    position: Seq,
    confirmed: Seq,
    acknowledged: Seq,
}

impl Position {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { resume, epoch, since, skip_above, acknowledging, .. } = *config;
        Self { skip_above, ..Self::begin(resume, epoch, since, acknowledging) }
    }

    fn begin(resume: Resume, epoch: EpochId, since: Seq, acknowledging: Acknowledging) -> Self {
        let at = match resume {
            Resume::After(seq) => Some(At { position: seq, confirmed: seq, acknowledged: seq }),
            Resume::Stored | Resume::Live => None,
        };
        // It says something of a position only.
        let epochs = if at.is_some() { Epochs::after(epoch) } else { Epochs::default() };
        let since = at.map_or(Seq::ZERO, |at| since.min(at.position));
        Self { resume, acknowledging, skip_above: 0, since, here: Seq::ZERO, at, epochs }
    }

    /// What the device holds is of another log. It holds nothing from now on, and resumes at the beginning of the log, or at its end if it
    /// fetches what it wants to see.
    pub(crate) fn begin_anew(&mut self) {
        let resume = match self.resume {
            Resume::Stored | Resume::After(_) => Resume::After(Seq::ZERO),
            Resume::Live => Resume::Live,
        };
        let skip_above = self.skip_above;
        *self = Self { skip_above, ..Self::begin(resume, EpochId(0), Seq::ZERO, self.acknowledging) };
    }

    /// What to ask for in a hello. With an application that has not confirmed everything, the server pushes again what
    /// it has been handed already; such entries are passed over, because resuming after them would acknowledge them.
    pub(crate) const fn resume(&self) -> Resume {
        match self.at {
            Some(at) => Resume::After(at.confirmed),
            None => self.resume,
        }
    }

    /// Of what stands up to here the application may lack something; and how much it wants at once.
    pub(crate) const fn wish(&self) -> (Seq, u64) {
        (self.since, self.skip_above)
    }

    /// The application has everything that stands after `since` by now.
    pub(crate) fn filled(&mut self, since: Seq) {
        self.since = self.since.min(since);
    }

    pub(crate) const fn position(&self) -> Option<Seq> {
        match self.at {
            Some(at) => Some(at.position),
            None => None,
        }
    }

    /// The newest epoch of which the device holds something; zero if there is none.
    pub(crate) fn epoch(&self) -> EpochId {
        self.position().map_or(EpochId(0), |position| self.epochs.newest(position))
    }

    /// From `first` on the log is of this epoch. Comes before anything of it is handed out.
    pub(crate) fn epoch_begins(&mut self, first: Seq, epoch: EpochId) -> Told {
        self.epochs.begins(first, epoch, self.position().unwrap_or(Seq::ZERO))
    }

    /// Whether a log that ends at `head` has less than this device holds.
    pub(crate) fn is_beyond(&self, head: Seq) -> bool {
        self.position().is_some_and(|position| position > head)
    }

    /// The server will push what follows `cursor`, which is of this epoch, and has skipped so many seqs before it. After which seq what
    /// was skipped begins.
    pub(crate) fn welcome(
        &mut self,
        cursor: Seq,
        epoch: EpochId,
        skipped: u64,
    ) -> Result<Option<Seq>, DisconnectReason> {
        if skipped > 0 {
            return self.skip(cursor, epoch, skipped).map(Some);
        }
        if self.epoch() == EpochId(0) {
            self.epochs = Epochs::after(epoch);
        }
        match &mut self.at {
            None => {
                self.at = Some(At { position: cursor, confirmed: cursor, acknowledged: cursor });
                if self.resume == Resume::Live {
                    self.since = cursor;
                }
            }
            Some(at) if cursor > at.position => {
                return Err(DisconnectReason::Hole { position: at.position, next: cursor.next() });
            }
            // `After` counts as an acknowledgement.
            Some(at) => at.acknowledged = at.confirmed,
        }
        self.here = cursor;
        self.invariants();
        Ok(None)
    }

    /// The log goes on behind a gap.
    fn skip(&mut self, cursor: Seq, epoch: EpochId, skipped: u64) -> Result<Seq, DisconnectReason> {
        let begins = cursor.0.checked_sub(skipped).filter(|_| self.skip_above > 0);
        let (Some(begins), false) = (begins, self.is_beyond(cursor)) else {
            return Err(DisconnectReason::Protocol(format!("{skipped} seqs were skipped before {cursor}")));
        };
        let after = self.position().unwrap_or(Seq(begins));
        self.epochs = Epochs::after(epoch);
        self.at = Some(At { position: cursor, confirmed: cursor, acknowledged: cursor });
        (self.here, self.since) = (cursor, cursor);
        Ok(after)
    }

    /// The next entry was pushed. Returns it if it is new.
    pub(crate) fn deliver(&mut self, entry: Entry) -> Result<Option<Entry>, DisconnectReason> {
        let seq = entry.seq;
        let is_new = self.cover(seq, seq)?;
        Ok(is_new.then_some(entry))
    }

    /// A page was pushed. Returns its entries that are new.
    pub(crate) fn page(&mut self, page: Page) -> Result<Vec<Entry>, DisconnectReason> {
        check_page(&page)?;
        let known = self.position().unwrap_or(Seq::ZERO);
        // An empty range speaks for nothing.
        if page.last < page.first || !self.cover(page.first, page.last)? {
            return Ok(Vec::new());
        }
        let mut entries = page.entries;
        entries.retain(|entry| entry.seq > known);
        Ok(entries)
    }

    /// An own message was accepted at `seq`. Whether that is the only time that this connection hears of the entry, and it is new.
    /// Otherwise the entry is already known, or will come in a page.
    pub(crate) fn accepted(&mut self, seq: Seq) -> bool {
        seq == self.here.next() && self.cover(seq, seq) == Ok(true)
    }

    /// The application is done with everything up to `seq`. What it was not handed is not taken.
    pub(crate) fn confirm(&mut self, seq: Seq) {
        if let Some(at) = &mut self.at {
            at.confirmed = at.confirmed.max(seq.min(at.position));
        }
        self.invariants();
    }

    /// What the server has not been told yet.
    pub(crate) fn unacknowledged(&self) -> Option<Seq> {
        let confirmed = self.at?.confirmed.min(self.here);
        self.at.filter(|at| at.acknowledged < confirmed).map(|_| confirmed)
    }

    pub(crate) fn acknowledged(&mut self, seq: Seq) {
        if let Some(at) = &mut self.at {
            at.acknowledged = seq;
        }
        self.invariants();
    }

    /// The server has spoken for `first..=last`. Whether any of it is new.
    fn cover(&mut self, first: Seq, last: Seq) -> Result<bool, DisconnectReason> {
        let Some(at) = &mut self.at else {
            return Err(DisconnectReason::Protocol("pushed before the welcome".into()));
        };
        if first > self.here.next() {
            return Err(DisconnectReason::Hole { position: self.here, next: first });
        }
        self.here = self.here.max(last);
        if last <= at.position {
            return Ok(false);
        }
        at.position = last;
        match self.acknowledging {
            Acknowledging::WhenHandedOut => at.confirmed = last,
            Acknowledging::ByApplication => {}
        }
        self.invariants();
        Ok(true)
    }

    fn invariants(&self) {
        if let Some(at) = self.at {
            debug_assert!(at.acknowledged <= at.confirmed && at.confirmed <= at.position);
        }
    }
}

/// Entries ascend and lie in the range that the page speaks for: by their seqs or, in a page of a conversation, by where they stand,
/// where reactions follow what they are about.
pub(crate) fn check_page(page: &Page) -> Result<(), DisconnectReason> {
    let wrong = |at: fn(&Entry) -> Option<Seq>| {
        let mut previous = None;
        page.entries.iter().find(|entry| {
            let at = at(entry);
            let is_inside = at.is_some_and(|at| page.first <= at && at <= page.last);
            let follows = at > previous || (at == previous && entry.is_reaction());
            let is_wrong = !is_inside || !follows;
            previous = at;
            is_wrong
        })
    };
    let is_pushed = page.request == RequestId(0);
    match wrong(|entry| Some(entry.seq)) {
        Some(entry) if is_pushed || wrong(Entry::concerns).is_some() => {
            let what = format!("seq {} in a page of {} to {}", entry.seq, page.first, page.last);
            Err(DisconnectReason::Protocol(what))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{DeviceId, Event, RequestId, TimestampMs};

    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry { seq: Seq(seq), time: TimestampMs(1), event: Event::Unknown { kind: 9 } }
    }

    fn page(first: u64, last: u64, seqs: &[u64]) -> Page {
        Page {
            request: RequestId(0),
            first: Seq(first),
            last: Seq(last),
            more: false,
            entries: seqs.iter().map(|&seq| entry(seq)).collect(),
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
        }
    }

    fn config(resume: Resume, acknowledging: Acknowledging) -> Config {
        Config { resume, acknowledging, skip_above: 10, ..Config::new("x:1", "token", DeviceId(1)) }
    }

    fn at(seq: u64, acknowledging: Acknowledging) -> Position {
        let mut position = Position::new(&config(Resume::Stored, acknowledging));
        position.welcome(Seq(seq), EpochId(1), 0).unwrap();
        position
    }

    #[test]
    fn an_entry_is_handed_out_once() {
        let mut position = at(4, Acknowledging::WhenHandedOut);
        assert!(position.deliver(entry(5)).unwrap().is_some());
        assert!(position.deliver(entry(5)).unwrap().is_none());
        assert_eq!(position.page(page(4, 7, &[4, 5, 7])).unwrap(), [entry(7)]);
        assert!(position.page(page(4, 7, &[4, 5, 7])).unwrap().is_empty());
    }

    #[test]
    fn the_newest_epoch_is_kept_whatever_a_welcome_says_of_an_older_position() {
        let mut position = at(4, Acknowledging::ByApplication);
        assert_eq!(position.epoch(), EpochId(1), "that of the first position");
        assert_eq!(position.epoch_begins(Seq(5), EpochId(2)), Told::New);
        position.welcome(Seq(4), EpochId(1), 0).unwrap();
        assert_eq!(position.epoch(), EpochId(1), "nothing of the newer one is here yet");
        assert_eq!(position.deliver(entry(5)), Ok(Some(entry(5))));
        assert_eq!(position.epoch(), EpochId(2));
        position.welcome(Seq(4), EpochId(1), 0).unwrap();
        assert_eq!((position.epoch(), position.epoch_begins(Seq(5), EpochId(2))), (EpochId(2), Told::Again));
        assert_eq!(position.epoch_begins(Seq(5), EpochId(3)), Told::OtherLog);
        assert!(!position.is_beyond(Seq(5)) && position.is_beyond(Seq(4)));
        // One that was given for a position says nothing where the server chooses the position.
        let epoch = EpochId(9);
        let mut live = Position::new(&Config { epoch, ..config(Resume::Live, Acknowledging::ByApplication) });
        live.welcome(Seq(7), EpochId(3), 0).unwrap();
        assert_eq!(live.epoch(), EpochId(3));
    }

    #[test]
    fn what_is_skipped_is_a_gap_that_is_told_and_claimed_by_no_resume() {
        let mut position = at(4, Acknowledging::ByApplication);
        position.deliver(entry(5)).unwrap();
        assert_eq!(position.welcome(Seq(30), EpochId(7), 26), Ok(Some(Seq(5))), "resumed from what was confirmed");
        assert_eq!((position.resume(), position.wish()), (Resume::After(Seq(30)), (Seq(30), 10)));
        assert_eq!(position.epoch(), EpochId(7));
        assert_eq!(position.deliver(entry(31)), Ok(Some(entry(31))));
        position.confirm(Seq(31));
        assert_eq!((position.resume(), position.wish().0), (Resume::After(Seq(31)), Seq(30)));
        position.filled(Seq(5));
        assert_eq!(position.wish().0, Seq(5));
        // A device that was never there learns how much it lacks.
        let mut new = Position::new(&config(Resume::Stored, Acknowledging::WhenHandedOut));
        assert_eq!(new.welcome(Seq(30), EpochId(7), 30), Ok(Some(Seq(0))));
        // Nobody skips unasked, nor behind what is held, nor more than there is.
        let mut whole =
            Position::new(&Config { skip_above: 0, ..config(Resume::Stored, Acknowledging::WhenHandedOut) });
        assert!(whole.welcome(Seq(30), EpochId(7), 30).is_err());
        assert!(at(40, Acknowledging::WhenHandedOut).welcome(Seq(30), EpochId(7), 11).is_err());
        assert!(at(0, Acknowledging::WhenHandedOut).welcome(Seq(30), EpochId(7), 31).is_err());
    }

    #[test]
    fn who_began_at_the_head_claims_nothing_before_it() {
        let mut live = Position::new(&config(Resume::Live, Acknowledging::WhenHandedOut));
        live.welcome(Seq(7), EpochId(0), 0).unwrap();
        live.deliver(entry(8)).unwrap();
        assert_eq!((live.resume(), live.wish().0), (Resume::After(Seq(8)), Seq(7)));
    }

    #[test]
    fn superseded_seqs_of_a_page_are_no_hole() {
        let mut position = at(0, Acknowledging::WhenHandedOut);
        assert_eq!(position.page(page(1, 9, &[3])).unwrap().len(), 1);
        assert!(position.deliver(entry(10)).unwrap().is_some());
    }

    #[test]
    fn a_hole_is_an_error_and_moves_nothing() {
        let mut position = at(4, Acknowledging::WhenHandedOut);
        let hole = DisconnectReason::Hole { position: Seq(4), next: Seq(6) };
        assert_eq!(position.deliver(entry(6)), Err(hole.clone()));
        assert_eq!(position.page(page(6, 8, &[6])), Err(hole.clone()));
        assert_eq!(position.welcome(Seq(5), EpochId(1), 0), Err(hole));
        assert_eq!(position.position(), Some(Seq(4)));
    }

    #[test]
    fn own_messages_cover_their_seq_only_when_it_is_next() {
        let mut position = at(4, Acknowledging::WhenHandedOut);
        assert!(!position.accepted(Seq(7)), "a page will bring it");
        assert!(position.accepted(Seq(5)));
        assert!(!position.accepted(Seq(5)));
        assert_eq!(position.page(page(5, 7, &[5, 6, 7])).unwrap().len(), 2);
    }

    #[test]
    fn what_the_application_has_not_confirmed_is_not_acknowledged_by_resuming() {
        let mut position = at(4, Acknowledging::ByApplication);
        position.page(page(5, 9, &[5, 6, 7, 8, 9])).unwrap();
        position.confirm(Seq(6));
        assert_eq!(position.unacknowledged(), Some(Seq(6)));
        assert_eq!(position.resume(), Resume::After(Seq(6)));
        position.welcome(Seq(6), EpochId(1), 0).unwrap();
        position.confirm(Seq(8));
        assert_eq!(position.unacknowledged(), None, "the server counts from where it resumed");
        assert!(!position.accepted(Seq(10)), "a page will bring it, and what is before it");
        assert_eq!(position.deliver(entry(10)), Err(DisconnectReason::Hole { position: Seq(6), next: Seq(10) }));
        assert!(position.page(page(7, 9, &[7, 8, 9])).unwrap().is_empty(), "handed out before");
        position.confirm(Seq(100));
        assert_eq!(position.unacknowledged(), Some(Seq(9)), "never above the position");
    }

    #[test]
    fn a_page_with_entries_out_of_range_or_order_is_a_fault() {
        for bad in [page(1, 3, &[2, 2]), page(1, 3, &[3, 1]), page(1, 3, &[4]), page(2, 3, &[1]), page(1, 0, &[1])] {
            assert!(at(0, Acknowledging::WhenHandedOut).page(bad).is_err());
        }
    }
}
