//! A core's end: everybody is told, what is parked is released, and no core leaves while another one needs it, or while anything is on
//! its way between two. What the stop waits for is told when it is over.

use proto_spec::ErrorCode;
use tracing::error;

use super::{Core, Order};
use crate::{
    durability::{committer::Committer, lanes::Lanes},
    limits::{DRAIN_MS, NOTICES_STOP_MS, RETRY_STOPPING_MS, STOP_MS},
    shard::{Input, Now},
};

/// What a core still has to do before the process may end. The order is that in which a stop comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Other cores or the store have no room for what this one has for them.
    Room,
    /// Clients are owed answers that wait for the journal or the database.
    Answers,
    /// Clients have a place: they have not taken everything, or not closed.
    Clients,
    /// A connection is between two cores.
    Moves,
    /// Push providers have not said whether they take what is on its way to them.
    Notices,
    /// Cursors and marks have not been handed to the journal.
    Marks,
    /// The journal has not been written and synced.
    Journal,
    /// The database does not have what it can get.
    Database,
    /// Something is on its way from one core to another.
    Mail,
}

impl Awaited {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Room,
        Self::Answers,
        Self::Clients,
        Self::Moves,
        Self::Notices,
        Self::Marks,
        Self::Journal,
        Self::Database,
        Self::Mail,
    ];

    /// As the log says it, after "waited for".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Room => "room in a queue",
            Self::Answers => "commits that clients wait for",
            Self::Clients => "clients that go",
            Self::Moves => "connections between cores",
            Self::Notices => "push providers",
            Self::Marks => "cursors and marks",
            Self::Journal => "the journal's disk",
            Self::Database => "the database",
            Self::Mail => "mail between cores",
        }
    }
}

/// Milliseconds by what was waited for.
pub(super) type Waits = [u64; Awaited::ALL.len()];

/// A stop that is under way.
#[derive(Debug)]
pub(super) struct Stop {
    since_ms: u64,
    /// At the last look this core had nothing left to do, and the others may have been told so.
    is_drained: bool,
    /// What the last look found, and when that was.
    found: Option<Awaited>,
    looked_ms: u64,
    waits: Waits,
}

impl Stop {
    const fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, is_drained: false, found: None, looked_ms: now_ms, waits: [0; Awaited::ALL.len()] }
    }

    /// What was found last has been waited for until now.
    fn look(&mut self, now_ms: u64, found: Option<Awaited>) {
        let passed_ms = now_ms.saturating_sub(std::mem::replace(&mut self.looked_ms, now_ms));
        if let Some(awaited) = std::mem::replace(&mut self.found, found) {
            self.waits[awaited as usize] += passed_ms;
        }
    }
}

impl Core {
    /// The node stops: no new connections and sends from now on.
    pub fn stop(&mut self, now: Now) {
        self.stop = Some(Stop::new(now.monotonic_ms));
        for conn in self.greetings.all() {
            self.end_greeting(now, conn);
            self.refuse(conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping");
        }
        // What other nodes say would have to be numbered, and waited for. They say it again after the next start.
        self.end_links(now, "the server is stopping");
        self.end_tunnels(None, (ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping"));
        self.feed(now, Input::Drain);
    }

    /// Whether [`Core::stop`] was called.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether nothing but mail may give this core something to do: the others may have been told that it is drained, and the stop
    /// counts mail alone.
    pub(super) fn is_told_drained(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.is_drained)
    }

    /// Cuts what is still connected when the time to stop is over.
    pub(super) fn cut_if_late(&mut self, now: Now) {
        if self.stop.as_ref().is_some_and(|stop| now.monotonic_ms >= stop.since_ms + DRAIN_MS) {
            self.order(Order::CutAll);
        }
    }

    /// Whether this core, and every other, has nothing left to do before the process ends. A core goes on for the sake
    /// of the others: they may send it envelopes and batches. To be asked between turns. `is_rim_quiet`: no connection has its place
    /// in the table, and nothing that has been received waits.
    pub fn is_over(&mut self, now: Now, is_rim_quiet: bool) -> bool {
        let Some(Stop { since_ms, .. }) = self.stop else { return false };
        let own = self.awaited(now.monotonic_ms.saturating_sub(since_ms), is_rim_quiet);
        self.common.set_sent(self.id, self.sent);
        self.common.set_drained(self.id, own.is_none(), self.taken);
        // Who connects when all is over for the others is still told so, and gives back the place.
        let is_over = self.common.all_drained() && own.is_none();
        let Some(stop) = &mut self.stop else { return false };
        stop.is_drained = own.is_none();
        let found = own.or_else(|| self.common.awaited_between_cores());
        stop.look(now.monotonic_ms, found);
        let is_late = now.monotonic_ms >= stop.since_ms + STOP_MS;
        if is_over || is_late {
            self.common.waited(&stop.waits);
        }
        if is_late && !is_over {
            let (waits_for, sessions) = (found.map(Awaited::words), self.shard.counters().sessions);
            error!(core = self.id.0, sessions, waits_for, "stopping without being drained");
        }
        is_late || is_over
    }

    /// What this core has left to do, if anything, when it has been stopping for so long.
    fn awaited(&mut self, stopping_ms: u64, is_rim_quiet: bool) -> Option<Awaited> {
        let has_clients = !is_rim_quiet || !self.greetings.is_empty() || self.shard.counters().sessions > 0;
        let has_unreleased = !self.journal_failed && self.shard.counters().unreleased_bytes > 0;
        let commits = |lanes: &Lanes| !self.journal_failed && !lanes.is_away() && lanes.waiting().0 > 0;
        // After the journal's failure nobody could write down how they ended.
        let may_end = stopping_ms < NOTICES_STOP_MS && !self.journal_failed;
        let has_notices = may_end && self.shard.counters().push_under_way > 0;
        let has_commits = self.lanes.as_ref().is_some_and(commits);
        let has_unwritten = self.journal.as_ref().is_some_and(|journal| !journal.is_idle());
        match () {
            () if self.is_stalled() => Some(Awaited::Room),
            () if !self.shard.nothing_is_parked() => Some(Awaited::Answers),
            () if has_clients => Some(Awaited::Clients),
            () if !self.arrivals.is_empty() => Some(Awaited::Moves),
            () if has_notices => Some(Awaited::Notices),
            () if !self.shard.is_drained() => Some(Awaited::Marks),
            () if has_unreleased || has_unwritten => Some(Awaited::Journal),
            () if has_commits || !self.journal.as_mut().is_none_or(hand_over) => Some(Awaited::Database),
            () => None,
        }
    }
}

/// Brings into a database what it can get. Whether that is done.
fn hand_over(journal: &mut Committer) -> bool {
    journal.seal_rest();
    journal.is_idle() && journal.is_handed_over()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_for_what_was_found_when_it_began() {
        let mut stop = Stop::new(1_000);
        stop.look(1_005, Some(Awaited::Clients));
        stop.look(1_025, Some(Awaited::Clients));
        stop.look(1_100, Some(Awaited::Journal));
        stop.look(1_103, None);
        stop.look(1_500, None);
        assert_eq!(stop.waits[Awaited::Clients as usize], 95);
        assert_eq!(stop.waits[Awaited::Journal as usize], 3);
        assert_eq!(stop.waits.iter().sum::<u64>(), 98);
    }
}
