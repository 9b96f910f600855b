//! What a lane counts and measures, and hands to the coordinator a few times a second.

use std::ops::{Index, IndexMut};

use hdrhistogram::Histogram;
use proto_spec::ErrorCode;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)+) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $($(#[$doc])* $name,)+
        }

        impl Count {
            /// All of them, in the order to show them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// As reports call it.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)+
                }
            }
        }
    };
}

counts! {
    /// Sends that were accepted for the first time.
    Accepted = "messages accepted",
    /// Of them, those that had not reached the history store yet: it was away.
    AcceptedLocally = "accepted, not yet committed",
    /// Messages that came to a device of their recipient.
    Delivered = "messages delivered",
    /// Messages that came to another device of their sender.
    Copied = "messages copied",
    /// Messages to groups that were accepted for the first time.
    GroupAccepted = "group messages accepted",
    /// Edits, messages taken back and reactions in groups that were accepted for the first time.
    GroupChanged = "group changes accepted",
    /// What was done to groups: creations, members who come and go.
    Acts = "acts accepted",
    /// Entries of groups that came to members, by push or by page.
    GroupDelivered = "group entries delivered",
    /// Of them, those that came by page.
    GroupFetched = "of them, fetched",
    /// Entries of groups that a member had: told by push and by page.
    GroupAgain = "group entries told again",
    /// What groups have not taken.
    GroupRefused = "group sends refused",
    /// Entries of the own log that say how far a group has come.
    Pointers = "pointers to groups",
    /// Pages of groups.
    GroupPages = "pages of groups",
    /// Logs of groups that a member has read from end to end, and compared.
    GroupsChecked = "group logs checked",
    /// Edits, messages taken back and reactions that were accepted for the first time.
    Changed = "changes accepted",
    /// Those that came to another device.
    ChangesTold = "changes delivered",
    /// Changes that were refused because the message is too old, deleted or taken back.
    ChangesRefused = "changes refused for good",
    /// Read marks, settings and deletions that were answered.
    Marked = "marks and deletions done",
    /// Those that came to a device, and what others have read.
    MarksTold = "marks and deletions told",
    /// Users that devices watched when their watches began.
    Subscriptions = "users watched",
    /// Answers to watches and to questions who is there.
    PresenceAnswers = "answers who is there",
    /// Frames with changes of who is there, which the server pushed.
    PresencePushed = "presence frames pushed",
    /// Changes in them.
    PresenceChanges = "presence changes told",
    /// What devices were told of a user at the end, and was the truth.
    ViewsChecked = "views checked",
    /// Of users whom too many watch.
    ViewsCrowded = "views of crowded users",
    /// That somebody types, as devices said it.
    Typed = "typing sent",
    /// That somebody types, as devices were told.
    TypingTold = "typing told",
    /// Welcomes.
    Logins = "logins",
    /// Redirects that were followed to another node.
    Redirects = "redirects",
    /// TLS handshakes done.
    TlsHandshakes = "TLS handshakes",
    /// Of them, those that a ticket made short.
    TlsResumed = "TLS handshakes resumed",
    /// Answers to pings.
    Pongs = "pongs",
    /// Pages of fetches.
    Pages = "pages",
    /// Their entries.
    PageEntries = "page entries",
    /// Apps that have all that they open with.
    Opened = "apps opened",
    /// Pages of the list of conversations.
    Inboxes = "pages of the list",
    /// Connections lost that nobody had cut.
    Disconnects = "disconnects",
    /// Attempts to connect that failed and were made again.
    LoginsRefused = "logins refused",
    /// Sends refused for now.
    SendsRefused = "sends refused for now",
    /// Numbers of sends that were given up, so that one conversation holds up no other.
    GivenUp = "numbers given up",
    /// Fetches refused for now.
    FetchesRefused = "fetches refused for now",
    /// Entries at or below the position, which the protocol allows.
    PassedOver = "entries passed over",
    /// Pages of the push: a connection was behind.
    PagesPushed = "pages pushed",
    /// Connections cut by the scenario.
    Cuts = "connections cut",
    /// Histories that were read back and compared.
    HistoriesChecked = "histories checked",
    /// Lists of conversations, and all the conversations in them, that were read back and compared.
    ListsChecked = "lists checked",
    /// See above.
    TalksChecked = "conversations checked",
    /// Frames sent.
    FramesSent = "frames sent",
    /// Bytes received, as the protocol has them.
    BytesReceived = "bytes received",
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// From the intended time of a send to its acceptance.
    Accepted,
    /// From the intended time of a send to a device of its recipient that was connected then.
    Delivered,
    /// From the intended time of a send to a device of its recipient that was not connected then.
    CaughtUp,
    /// From the intended time of a send to a group to its acceptance.
    GroupAccepted,
    /// To a member who was connected then.
    GroupDelivered,
    /// To the first one of them.
    GroupFirst,
    /// To the last one of them.
    GroupLast,
    /// To a member who was not connected then.
    GroupCaughtUp,
    /// From a fetch of a group to its page.
    GroupPage,
    /// From the beginning of a connection to its welcome.
    Login,
    /// From a ping to its pong.
    Ping,
    /// From a fetch to its page.
    Page,
    /// From the time at which a person opens the app to the last of what it shows.
    Opened,
    /// From the hello of an app that opens to the last of what it shows.
    SinceHello,
    /// From the fetch of a list of conversations to its page.
    Inbox,
    /// From a watch, or a question who is there, to its answer.
    Presence,
    /// From the cut of a connection to the device's next welcome.
    Back,
    /// From the intended time of a send to when the generator got to it: what it adds to the latencies by itself.
    Late,
}

impl Measure {
    /// All of them, in the order to show them.
    pub const ALL: &[Self] = &[
        Self::Accepted,
        Self::Delivered,
        Self::CaughtUp,
        Self::GroupAccepted,
        Self::GroupDelivered,
        Self::GroupFirst,
        Self::GroupLast,
        Self::GroupCaughtUp,
        Self::GroupPage,
        Self::Login,
        Self::Ping,
        Self::Page,
        Self::Opened,
        Self::SinceHello,
        Self::Inbox,
        Self::Presence,
        Self::Back,
        Self::Late,
    ];

    /// As reports call it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Accepted => "send to accepted",
            Self::Delivered => "send to delivered",
            Self::CaughtUp => "send to delivered when back",
            Self::GroupAccepted => "group send to accepted",
            Self::GroupDelivered => "group send to a member",
            Self::GroupFirst => "group send to the first member",
            Self::GroupLast => "group send to the last member",
            Self::GroupCaughtUp => "group send to a member when back",
            Self::GroupPage => "fetch to page of a group",
            Self::Login => "connect to welcome",
            Self::Ping => "ping to pong",
            Self::Page => "fetch to page",
            Self::Opened => "app opened to all shown",
            Self::SinceHello => "its hello to all shown",
            Self::Inbox => "fetch to list",
            Self::Presence => "watch to who is there",
            Self::Back => "cut to welcome again",
            Self::Late => "generator late by",
        }
    }
}

/// What the server refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A send.
    Send,
    /// A fetch.
    Fetch,
    /// A connection, before its welcome.
    Login,
    /// A connection that had been welcome.
    Connection,
}

impl Refused {
    /// As reports call them.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Send => "sends refused",
            Self::Fetch => "fetches refused",
            Self::Login => "connections refused",
            Self::Connection => "connections closed",
        }
    }
}

/// So many parts of its run may a scenario tell apart, for instance calm and storm.
pub const ERAS_MAX: usize = 3;

/// Latencies in microseconds, to three digits, up to a minute; longer ones count as a minute.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    const US_MAX: u64 = 60_000_000;

    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, Self::US_MAX, 3);
        Self(bounds.expect("the bounds are ascending and the digits are 1 to 5"))
    }

    /// One more.
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.clamp(1, Self::US_MAX));
    }

    /// Those of another part of the run too.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds; 0 if there are none.
    #[must_use]
    pub fn at(&self, percentile: f64) -> u64 {
        self.0.value_at_percentile(percentile)
    }

    fn clear(&mut self) {
        self.0.reset();
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts and latencies. An idle measure owns no memory.
#[derive(Clone, Debug)]
pub struct Stats {
    counts: [u64; Count::ALL.len()],
    /// What was refused and why, how often. A handful of kinds.
    refusals: Vec<(Refused, ErrorCode, u64)>,
    latencies: [[Option<Box<Latencies>>; Measure::ALL.len()]; ERAS_MAX],
    /// Where new latencies go.
    pub era: usize,
    /// Connections that are ready. Not a sum over time: the newest value counts.
    pub ready: u64,
}

impl Default for Stats {
    fn default() -> Self {
        let (counts, latencies) = ([0; Count::ALL.len()], Default::default());
        Self { counts, refusals: Vec::new(), latencies, era: 0, ready: 0 }
    }
}

impl Index<Count> for Stats {
    type Output = u64;

    fn index(&self, count: Count) -> &u64 {
        &self.counts[count as usize]
    }
}

impl IndexMut<Count> for Stats {
    fn index_mut(&mut self, count: Count) -> &mut u64 {
        &mut self.counts[count as usize]
    }
}

impl Stats {
    /// Counts something that was refused, for this reason.
    pub fn refused(&mut self, what: Refused, code: ErrorCode) {
        self.add_refusals(what, code, 1);
    }

    fn add_refusals(&mut self, what: Refused, code: ErrorCode, more: u64) {
        match self.refusals.iter_mut().find(|(known, of, _)| (*known, *of) == (what, code)) {
            Some((.., count)) => *count += more,
            None => self.refusals.push((what, code, more)),
        }
    }

    /// What was refused and why, the most frequent first.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Refused, ErrorCode, u64)> {
        let mut refusals = self.refusals.clone();
        refusals.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
        refusals
    }

    /// A latency of the current era.
    pub fn record(&mut self, measure: Measure, us: u64) {
        self.latencies[self.era][measure as usize].get_or_insert_default().record(us);
    }

    /// The latencies of one era, if there are any.
    #[must_use]
    pub fn latencies(&self, era: usize, measure: Measure) -> Option<&Latencies> {
        self.latencies[era][measure as usize].as_deref().filter(|latencies| latencies.count() > 0)
    }

    /// Those of all eras together, if there are any.
    #[must_use]
    pub fn all(&self, measure: Measure) -> Option<Latencies> {
        let mut all: Option<Latencies> = None;
        for latencies in (0..ERAS_MAX).filter_map(|era| self.latencies(era, measure)) {
            all.get_or_insert_default().add(latencies);
        }
        all
    }

    /// Grows when something has happened that a run waits for. A pong is none: it says that the server lives, not that it works.
    #[must_use]
    pub fn progress(&self) -> u64 {
        let counts = [
            Count::Accepted,
            Count::Delivered,
            Count::GroupAccepted,
            Count::Acts,
            Count::GroupDelivered,
            Count::GroupPages,
            Count::GroupRefused,
            Count::Pointers,
            Count::Copied,
            Count::Changed,
            Count::ChangesTold,
            Count::Marked,
            Count::MarksTold,
            Count::Logins,
            Count::Pages,
            Count::Inboxes,
            Count::Opened,
            Count::PresenceAnswers,
        ];
        counts.iter().map(|count| self[*count]).sum()
    }

    /// The counts and gauges without the latencies.
    #[must_use]
    pub fn clone_counts(&self) -> Self {
        Self { counts: self.counts, ready: self.ready, ..Self::default() }
    }

    /// What was counted since `before`; gauges as they are.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone_counts();
        for (now, before) in since.counts.iter_mut().zip(&before.counts) {
            *now = now.saturating_sub(*before);
        }
        since
    }

    /// Adds the latencies of another part of the run.
    pub fn add_latencies(&mut self, other: &Self) {
        for (era, measure) in (0..ERAS_MAX).flat_map(|era| Measure::ALL.iter().map(move |measure| (era, *measure))) {
            if let Some(more) = other.latencies(era, measure) {
                self.latencies[era][measure as usize].get_or_insert_default().add(more);
            }
        }
    }

    /// Forgets all latencies.
    pub fn clear_latencies(&mut self) {
        self.latencies.iter_mut().flatten().flatten().for_each(|latencies| latencies.clear());
    }

    /// Moves everything to `other`; gauges replace what is there.
    pub fn move_to(&mut self, other: &mut Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&mut other.counts) {
            *theirs += std::mem::take(mine);
        }
        for (mine, theirs) in self.latencies.iter_mut().flatten().zip(other.latencies.iter_mut().flatten()) {
            if let Some(mine) = mine
                && mine.count() > 0
            {
                theirs.get_or_insert_default().add(mine);
                mine.clear();
            }
        }
        for (what, code, count) in self.refusals.drain(..) {
            other.add_refusals(what, code, count);
        }
        other.ready = self.ready;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_is_there_once() {
        let (mut lane, mut all) = (Stats::default(), Stats::default());
        for _ in 0..2 {
            lane[Count::Accepted] += 3;
            lane.ready = 7;
            lane.record(Measure::Accepted, 1_000);
            lane.refused(Refused::Send, ErrorCode::Overloaded);
            (0..5).for_each(|_| lane.refused(Refused::Login, ErrorCode::RateLimited));
            lane.era = 1;
            lane.move_to(&mut all);
        }
        assert_eq!((all[Count::Accepted], all.ready, all.progress()), (6, 7, 6));
        let refusals = [(Refused::Login, ErrorCode::RateLimited, 10), (Refused::Send, ErrorCode::Overloaded, 2)];
        assert_eq!((all.refusals().as_slice(), lane.refusals().len()), (refusals.as_slice(), 0));
        let count = |era| all.latencies(era, Measure::Accepted).map(Latencies::count);
        assert_eq!((count(0), count(1), all.all(Measure::Accepted).map(|l| l.count())), (Some(1), Some(1), Some(2)));
        assert!(all.latencies(0, Measure::Login).is_none() && all.all(Measure::Login).is_none());
    }

    #[test]
    fn latencies_of_more_than_a_minute_count_as_a_minute() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        latencies.record(0);
        assert_eq!((latencies.at(0.0), latencies.count()), (1, 2));
        assert!(latencies.at(100.0) >= Latencies::US_MAX);
    }
}
