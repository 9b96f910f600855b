//! Batches on their way to where they are durable: to the journal, which core 0 has, and where acknowledgements wait for a database,
//! into that by lanes. And what is heard of both.

use storage::{Advanced, Batch, BatchId, LaneId, StoreError};
use tracing::{debug, error, warn};

use super::{Core, CoreMessage, Order};
use crate::{
    durability::{
        committer::{Committer, News},
        lanes::{Outcome, Work, WorkId},
    },
    limits::LANE_FAILURES_TOLD,
    shard::{Admission, Input, Now, topology::CoreId},
};

impl Core {
    /// The journal, on core 0.
    #[must_use]
    pub const fn journal(&self) -> Option<&Committer> {
        self.journal.as_ref()
    }

    /// The journal, on core 0: for what becomes of its writes.
    pub fn journal_mut(&mut self) -> Option<&mut Committer> {
        self.journal.as_mut()
    }

    /// Hands a batch to the journal and, where it is for them to bring it into the store, to the lanes.
    pub(super) fn commit(&mut self, now: Now, lane: LaneId, id: BatchId, batch: &Batch) {
        if let Some(lanes) = &mut self.lanes {
            lanes.push(now.monotonic_ms, lane, id, batch);
        }
        match &mut self.journal {
            // There the database has everything that anybody was promised.
            _ if self.homes.do_move() => {}
            Some(journal) if batch.is_urgent() => journal.push(lane, id, batch.bytes()),
            Some(journal) => journal.push_patient(now.monotonic_ms, lane, id, batch.bytes()),
            None => {
                let (bytes, is_urgent) = (batch.bytes().to_vec(), batch.is_urgent());
                self.post(CoreId(0), CoreMessage::Batch { lane, id, bytes, is_urgent });
            }
        }
    }

    /// Passes on what the journal has to say.
    pub(super) fn take_news(&mut self, now: Now) {
        let Some(journal) = &mut self.journal else { return };
        for (core, news) in journal.news() {
            if core == self.id {
                self.on_news(now, news);
            } else {
                self.post(core, CoreMessage::News(news));
            }
        }
    }

    pub(super) fn on_news(&mut self, now: Now, news: News) {
        self.journal_failed |= news == News::Admission(Admission::Failed);
        match (news, &mut self.lanes) {
            // Acknowledgements wait for the database, unless it is away.
            (News::Synced { lane, up_to }, Some(lanes)) => {
                if let Some(up_to) = lanes.synced(lane, up_to) {
                    self.feed(now, Input::Released { lane, up_to });
                }
            }
            (news, _) => self.feed(now, news.input()),
        }
    }

    /// Something for the journal, or about it.
    pub(super) fn on_journal(&mut self, now: Now, message: CoreMessage) {
        let Some(journal) = &mut self.journal else {
            debug_assert!(false, "{message:?} is for core 0");
            return;
        };
        match message {
            CoreMessage::Batch { lane, id, bytes, is_urgent: true } => journal.push(lane, id, &bytes),
            CoreMessage::Batch { lane, id, bytes, .. } => journal.push_patient(now.monotonic_ms, lane, id, &bytes),
            CoreMessage::Stored { lane, up_to } => journal.stored(lane, up_to),
            CoreMessage::Away { core, is_away } => journal.lanes_away(core, is_away),
            CoreMessage::Prepared { segment, salt } => journal.prepared(segment, salt),
            CoreMessage::PrepareFailed { full } => journal.prepare_failed(now.monotonic_ms, full),
            CoreMessage::Ingested(sealed) => journal.ingested(*sealed),
            CoreMessage::StoreAway => journal.store_away(),
            CoreMessage::Recovered => journal.recovered(),
            // The store is another server's: nothing more is promised, and this one ends.
            CoreMessage::Lost(why) => {
                journal.lost(why.clone());
                self.order(Order::Lose(why));
            }
            _ => debug_assert!(false, "it is not about the journal"),
        }
    }

    /// Time has passed: a segment may be old enough.
    pub(super) fn seal_if_old(&mut self, now_ms: u64) {
        if let Some(journal) = &mut self.journal
            && journal.seal_if_old(now_ms)
        {
            self.common.counters.journal.segments_sealed.one();
        }
    }

    /// The next commit to begin, if any; answered with [`Core::advanced`].
    pub(super) fn next_commit(&mut self, now: Now) -> Option<Work> {
        // With the journal's failure all promises end.
        if self.journal_failed { None } else { self.lanes.as_mut()?.next(now.monotonic_ms) }
    }

    /// A commit of so many batches has ended, after so many microseconds. `random` spreads what is tried again.
    pub fn advanced(
        &mut self,
        now: Now,
        work: WorkId,
        result: Result<Advanced, StoreError>,
        batches: usize,
        took_us: u64,
        random: u64,
    ) {
        // A stop waits for commits while the database takes them. What ends later is in the journal too, and the next start finds it.
        if self.is_told_drained() {
            return;
        }
        let Some(lanes) = &mut self.lanes else { return };
        let counters = self.common.counters.core(self.id);
        match lanes.done(now.monotonic_ms, work, result, random) {
            Outcome::Stored(stored) => {
                counters.commits.one();
                counters.commit_batches.add(batches as u64);
                counters.commit_us.add(took_us);
                counters.commit_us_max.at_least(took_us);
                for (lane, up_to) in stored {
                    self.feed(now, Input::Stored { lane, up_to });
                    if !self.homes.do_move() {
                        self.tell_core_0(now, CoreMessage::Stored { lane, up_to });
                    }
                }
            }
            Outcome::Retried { error, failures, lane } => {
                counters.commit_retries.one();
                let lane = lane.0;
                match (error.is_retryable(), failures % LANE_FAILURES_TOLD == 1) {
                    (true, true) => warn!(lane, failures, %error, "a commit failed; it is tried again"),
                    (false, true) => error!(lane, failures, %error, "a commit is refused; it is tried again"),
                    (_, false) => debug!(lane, failures, %error, "a commit failed; it is tried again"),
                }
            }
            // Who has it now, and where its users are to go, the roll says: it is on its way here.
            Outcome::Moved(lanes) => {
                counters.commits_moved.one();
                debug!(?lanes, "a commit found that slots of it have other owners");
            }
            Outcome::Void => {}
            Outcome::Lost(error) => self.tell_core_0(now, CoreMessage::Lost(error.to_string())),
        }
    }

    /// Looks whether the lanes wait too long.
    pub(super) fn look_at_lanes(&mut self, now: Now) {
        if self.is_told_drained() {
            return;
        }
        let Some(lanes) = &mut self.lanes else { return };
        let released = lanes.tick(now.monotonic_ms);
        let is_away = lanes.is_away();
        let (batches, bytes) = lanes.waiting();
        let counters = self.common.counters.core(self.id);
        counters.commit_waiting_batches.set(batches as u64);
        counters.commit_waiting_bytes.set(bytes as u64);
        for (lane, up_to) in released {
            self.feed(now, Input::Released { lane, up_to });
        }
        if is_away && self.is_stopping() && self.homes.do_move() && !self.journal_failed {
            // Without a journal nothing else will ever answer what waits, and a stop does not wait for a database.
            self.journal_failed = true;
            self.feed(now, Input::Admission(Admission::Failed));
        }
        if std::mem::replace(&mut self.lanes_away, is_away) != is_away {
            self.tell_core_0(now, CoreMessage::Away { core: self.id, is_away });
        }
    }

    pub(super) fn tell_core_0(&mut self, now: Now, message: CoreMessage) {
        if self.id == CoreId(0) {
            self.on_journal(now, message);
        } else {
            self.post(CoreId(0), message);
        }
    }
}
