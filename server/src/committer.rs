//! Committer: the journal's decisions, on core 0, without its I/O. What the next write is, what a finished one means, when
//! a segment goes to the store and what the cores are told.
//!
//! What a group is, is decided by `storage::journal::Writer`. Here is what goes wrong: a disk without room is tried again,
//! with sends refused meanwhile; any other failed write, and every failed sync, ends the journal: nothing is committed
//! after it. A store that does not take a segment is tried again too, for ever: the segment is the log of what could not
//! be stored. Until it is back, acknowledgements say so, or are refused, as the operator chose.

use std::io;

use serde::{Deserialize, Serialize};
use storage::{
    BatchId, CoreId,
    journal::{GroupStats, Room, Salt, Sealed, SegmentNumber, Write, Writer},
};

use crate::{
    limits::{COMMIT_RETRY_MS, INGEST_RETRY_MAX_MS, INGEST_RETRY_MS},
    shard::{Admission, Input, StoreState},
};

/// What to do with sends while the store does not take what the journal has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreOutage {
    /// Accept them as `local`, as long as the journal has room.
    #[default]
    Accept,
    /// Refuse them.
    Refuse,
}

/// What a core has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Every batch of this core up to this one is durable.
    Committed {
        /// The last one.
        up_to: BatchId,
    },
    /// Every batch of this core up to this one is in the store.
    Ingested {
        /// The last one.
        up_to: BatchId,
    },
    /// Whether the journal takes new messages.
    Admission(Admission),
    /// Whether the store takes what the journal has.
    Store(StoreState),
}

impl News {
    /// What the core's shard hears.
    #[must_use]
    pub const fn input(self) -> Input<'static> {
        match self {
            Self::Committed { up_to } => Input::Committed { up_to },
            Self::Ingested { up_to } => Input::Ingested { up_to },
            Self::Admission(admission) => Input::Admission(admission),
            Self::Store(store) => Input::Store(store),
        }
    }
}

/// How a write and its sync ended.
#[derive(Debug)]
pub enum Outcome {
    /// All is on the disk.
    Durable,
    /// The write did not take all of its bytes, for this reason; nothing that was synced before is touched by that. `None`:
    /// it was short, which is how a disk becomes full: the next attempt says so.
    NotWritten(Option<io::Error>),
    /// The write was whole and the sync failed: what is on the disk is not known.
    NotSynced(io::Error),
}

/// What has been done, for the counters of the rim.
#[derive(Debug, Default)]
pub struct Finished {
    /// The group, if it is durable now.
    pub group: Option<GroupStats>,
    /// A segment that goes to the store.
    pub sealed: Option<Sealed>,
}

/// Wait before attempt `failures` + 1 to bring a segment into the store, in milliseconds.
#[must_use]
pub fn ingest_retry_ms(failures: u32, is_retryable: bool) -> u64 {
    if !is_retryable {
        // Somebody has to act first.
        return INGEST_RETRY_MAX_MS;
    }
    let doublings = failures.saturating_sub(1).min(INGEST_RETRY_MAX_MS.ilog2());
    (INGEST_RETRY_MS << doublings).min(INGEST_RETRY_MAX_MS)
}

/// See the head of this file.
#[derive(Debug)]
pub struct Committer {
    writer: Writer,
    on_store_outage: OnStoreOutage,
    seal_after_ms: u64,
    cores: u16,
    in_flight: bool,
    /// For each core what it has to be told.
    news: Vec<(CoreId, News)>,
    announced: Admission,
    store: StoreState,
    /// The disk had no room for the last write.
    write_full: bool,
    /// The disk had no room for the last segment that was asked for.
    prepare_full: bool,
    failure: Option<String>,
    retry_at_ms: u64,
    prepare_at_ms: u64,
    /// When the current segment got its first group.
    begun_ms: Option<u64>,
}

impl Committer {
    /// A journal that goes on with `writer`, for so many cores. A segment that has anything in it is sealed when it is
    /// `seal_after_ms` old.
    #[must_use]
    pub const fn new(writer: Writer, cores: u16, seal_after_ms: u64, on_store_outage: OnStoreOutage) -> Self {
        Self {
            writer,
            on_store_outage,
            seal_after_ms,
            cores,
            in_flight: false,
            news: Vec::new(),
            announced: Admission::Open,
            store: StoreState::Present,
            write_full: false,
            prepare_full: false,
            failure: None,
            retry_at_ms: 0,
            prepare_at_ms: 0,
            begun_ms: None,
        }
    }

    /// Takes a batch into the next group.
    pub fn push(&mut self, core: CoreId, id: BatchId, bytes: &[u8]) {
        if self.failure.is_none() {
            self.writer.push(core, id, bytes);
        }
    }

    /// The segment to make ready now, if one is wanted. Answered with [`Committer::prepared`] or
    /// [`Committer::prepare_failed`].
    pub fn wanted_segment(&mut self, now_ms: u64) -> Option<SegmentNumber> {
        if self.failure.is_some() || now_ms < self.prepare_at_ms {
            return None;
        }
        self.writer.wants_segment()
    }

    /// The write to begin now, if any: one is in flight at a time. Its sync follows it; answered with
    /// [`Committer::finished`].
    pub fn next_write(&mut self, now_ms: u64) -> Option<Write> {
        if self.failure.is_some() || self.in_flight || now_ms < self.retry_at_ms {
            return None;
        }
        let write = self.writer.next_write();
        if write.is_some() {
            self.in_flight = true;
            self.begun_ms.get_or_insert(now_ms);
        }
        self.announce();
        write
    }

    /// The write in flight and its sync have ended; its buffer comes back.
    ///
    /// # Panics
    /// No write is in flight.
    pub fn finished(&mut self, now_ms: u64, outcome: Outcome, buffer: Vec<u8>) -> Finished {
        assert!(self.in_flight, "no write is in flight");
        self.in_flight = false;
        match outcome {
            Outcome::Durable => return self.durable(now_ms, buffer),
            Outcome::NotWritten(reason) if may_be_repeated(reason.as_ref()) => {
                self.write_full |= reason.as_ref().is_none_or(is_full);
                self.writer.write_failed(buffer);
                self.retry_at_ms = now_ms + COMMIT_RETRY_MS;
            }
            Outcome::NotWritten(reason) => self.failure = reason.map(|error| format!("write: {error}")),
            Outcome::NotSynced(error) => self.failure = Some(format!("sync: {error}")),
        }
        self.announce();
        Finished::default()
    }

    fn durable(&mut self, now_ms: u64, buffer: Vec<u8>) -> Finished {
        let done = self.writer.written(buffer);
        self.write_full = false;
        self.news.extend(done.committed.into_iter().map(|(core, up_to)| (core, News::Committed { up_to })));
        if done.sealed.is_some() {
            self.begun_ms = None;
        }
        let sealed = done.sealed.or_else(|| self.seal_if_old(now_ms));
        self.announce();
        Finished { group: Some(done.group), sealed }
    }

    /// A segment that was wanted is there.
    pub fn prepared(&mut self, segment: SegmentNumber, salt: Salt) {
        self.writer.add_segment(segment, salt);
        self.prepare_full = false;
        self.announce();
    }

    /// A segment that was wanted could not be made, perhaps for want of room. It is wanted again later.
    pub fn prepare_failed(&mut self, now_ms: u64, full: bool) {
        self.writer.prepare_failed();
        self.prepare_at_ms = now_ms + COMMIT_RETRY_MS;
        self.prepare_full = full;
        self.announce();
    }

    /// A sealed segment is in the store and its file is free again. Segments come in the order in which they were sealed.
    pub fn ingested(&mut self, sealed: Sealed) {
        self.writer.released(sealed.segment);
        self.set_store(StoreState::Present);
        self.news.extend(sealed.completes.into_iter().map(|(core, up_to)| (core, News::Ingested { up_to })));
        self.announce();
    }

    /// The store did not take a segment. It is tried again until it does.
    pub fn store_away(&mut self) {
        self.set_store(StoreState::Away);
        self.announce();
    }

    /// Time has passed: seals a segment that is old enough, so that the store gets what is in it.
    pub fn seal_if_old(&mut self, now_ms: u64) -> Option<Sealed> {
        let is_old = self.begun_ms.is_some_and(|begun| now_ms >= begun + self.seal_after_ms);
        if !is_old || self.failure.is_some() {
            return None;
        }
        let sealed = self.writer.seal();
        if sealed.is_some() {
            self.begun_ms = None;
        }
        sealed
    }

    /// What the cores have to be told since the last call.
    pub fn news(&mut self) -> Vec<(CoreId, News)> {
        std::mem::take(&mut self.news)
    }

    /// Whether the cores have to be told something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Whether nothing waits for the disk; also when nothing will ever be written again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.failure.is_some() || (self.writer.is_idle() && !self.in_flight)
    }

    /// Why nothing is committed any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What the cores were last told of the journal.
    #[must_use]
    pub const fn admission(&self) -> Admission {
        self.announced
    }

    /// What the cores were last told of the store.
    #[must_use]
    pub const fn store(&self) -> StoreState {
        self.store
    }

    fn set_store(&mut self, store: StoreState) {
        if store != self.store {
            self.store = store;
            self.tell_all(News::Store(store));
        }
    }

    fn announce(&mut self) {
        let admission = match self.writer.admission() {
            _ if self.failure.is_some() => Admission::Failed,
            _ if self.write_full => Admission::Full,
            _ if self.store == StoreState::Away && self.on_store_outage == OnStoreOutage::Refuse => Admission::Outage,
            Room::Open => Admission::Open,
            Room::NoSegment if self.prepare_full => Admission::Full,
            Room::Behind | Room::NoSegment => Admission::Behind,
        };
        if admission != self.announced {
            self.announced = admission;
            self.tell_all(News::Admission(admission));
        }
    }

    fn tell_all(&mut self, news: News) {
        self.news.extend((0..self.cores).map(|core| (CoreId(core), news)));
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn may_be_repeated(reason: Option<&io::Error>) -> bool {
    let is_passing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
    reason.is_none_or(|error| is_full(error) || is_passing(error))
}

#[cfg(test)]
mod tests {
    use storage::journal::{JournalConfig, Position};

    use super::*;

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 4 * 1024 };
    const SEAL_AFTER_MS: u64 = 1_000;

    fn committer(on_store_outage: OnStoreOutage) -> Committer {
        let mut committer = Committer::new(Writer::new(CONFIG, Position::default()), 2, SEAL_AFTER_MS, on_store_outage);
        prepare(&mut committer);
        committer.news();
        committer
    }

    fn prepare(committer: &mut Committer) {
        while let Some(segment) = committer.wanted_segment(0) {
            committer.prepared(segment, Salt(segment.0 << 48 | 7));
        }
    }

    /// Pushes a batch of core 1 and commits it.
    fn commit(committer: &mut Committer, now_ms: u64, id: u64, bytes: usize) -> Finished {
        committer.push(CoreId(1), BatchId(id), &vec![7; bytes]);
        let write = committer.next_write(now_ms).expect("nothing is in flight");
        committer.finished(now_ms, Outcome::Durable, write.bytes)
    }

    fn to_all(news: News) -> [(CoreId, News); 2] {
        [(CoreId(0), news), (CoreId(1), news)]
    }

    fn committed(up_to: u64) -> (CoreId, News) {
        (CoreId(1), News::Committed { up_to: BatchId(up_to) })
    }

    #[test]
    fn a_full_disk_refuses_sends_until_the_same_group_is_written() {
        let mut committer = committer(OnStoreOutage::Accept);
        committer.push(CoreId(1), BatchId(1), b"one");
        let first = committer.next_write(0).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        committer.finished(5, Outcome::NotWritten(Some(full)), first.bytes.clone());
        assert_eq!(committer.news(), to_all(News::Admission(Admission::Full)));
        assert!(committer.next_write(5).is_none() && !committer.is_idle(), "not at once");
        let again = committer.next_write(5 + COMMIT_RETRY_MS).unwrap();
        assert_eq!((again.offset, &again.bytes), (first.offset, &first.bytes));
        committer.finished(600, Outcome::Durable, again.bytes);
        let [admission_0, admission_1] = to_all(News::Admission(Admission::Open));
        assert_eq!(committer.news(), [committed(1), admission_0, admission_1]);
    }

    #[test]
    fn a_short_write_is_a_disk_that_becomes_full_and_an_interrupted_one_is_not() {
        let interrupted = Some(io::Error::from(io::ErrorKind::Interrupted));
        for (reason, admission) in [(None, Admission::Full), (interrupted, Admission::Open)] {
            let mut committer = committer(OnStoreOutage::Accept);
            committer.push(CoreId(1), BatchId(1), b"one");
            let write = committer.next_write(0).unwrap();
            committer.finished(0, Outcome::NotWritten(reason), write.bytes);
            assert_eq!((committer.admission(), committer.is_idle()), (admission, false));
            assert!(committer.next_write(COMMIT_RETRY_MS).is_some());
        }
    }

    #[test]
    fn after_a_failed_write_or_sync_nothing_is_ever_committed() {
        let error = || io::Error::from_raw_os_error(5);
        for outcome in [Outcome::NotSynced(error()), Outcome::NotWritten(Some(error()))] {
            let mut committer = committer(OnStoreOutage::Accept);
            committer.push(CoreId(1), BatchId(1), b"one");
            let write = committer.next_write(0).unwrap();
            committer.push(CoreId(1), BatchId(2), b"two");
            let finished = committer.finished(0, outcome, write.bytes);
            assert!(finished.group.is_none() && finished.sealed.is_none());
            assert_eq!(committer.news(), to_all(News::Admission(Admission::Failed)));
            assert!(committer.failure().is_some_and(|why| why.contains("os error 5")));
            committer.push(CoreId(1), BatchId(3), b"three");
            assert!(committer.next_write(u64::MAX).is_none());
            assert!(committer.wanted_segment(u64::MAX).is_none() && committer.seal_if_old(u64::MAX).is_none());
            assert!(committer.is_idle() && !committer.has_news());
        }
    }

    #[test]
    fn a_segment_goes_to_the_store_when_it_is_old_and_its_cores_hear_when_it_is_there() {
        let mut committer = committer(OnStoreOutage::Accept);
        assert!(commit(&mut committer, 10, 1, 3).sealed.is_none());
        prepare(&mut committer);
        assert!(committer.seal_if_old(10 + SEAL_AFTER_MS - 1).is_none());
        let sealed = committer.seal_if_old(10 + SEAL_AFTER_MS).unwrap();
        assert!(committer.seal_if_old(u64::MAX).is_none(), "nothing is in the next one");
        committer.news();
        committer.ingested(sealed);
        assert_eq!(committer.news(), [(CoreId(1), News::Ingested { up_to: BatchId(1) })]);
    }

    #[test]
    fn while_the_store_is_away_all_cores_know_and_the_journal_goes_on_until_it_is_full() {
        let mut committer = committer(OnStoreOutage::Accept);
        let mut sealed = Vec::new();
        let mut id = 0;
        let mut commit_next = |committer: &mut Committer, sealed: &mut Vec<Sealed>| {
            id += 1;
            prepare(committer);
            sealed.extend(commit(committer, 0, id, 20_000).sealed);
        };
        while sealed.is_empty() {
            commit_next(&mut committer, &mut sealed);
        }
        committer.news();
        committer.store_away();
        committer.store_away();
        assert_eq!(committer.news(), to_all(News::Store(StoreState::Away)), "once");
        assert_eq!(committer.admission(), Admission::Open);
        while committer.admission() == Admission::Open {
            commit_next(&mut committer, &mut sealed);
        }
        assert_eq!(committer.admission(), Admission::Behind);
        committer.news();
        committer.ingested(sealed.remove(0));
        let news = committer.news();
        assert_eq!(news[..2], to_all(News::Store(StoreState::Present)), "before the entries that are owed");
        assert!(matches!(news[2], (CoreId(1), News::Ingested { .. })));
    }

    #[test]
    fn an_operator_may_have_sends_refused_while_the_store_is_away() {
        let mut committer = committer(OnStoreOutage::Refuse);
        commit(&mut committer, 0, 1, 3);
        let sealed = committer.seal_if_old(SEAL_AFTER_MS).unwrap();
        committer.store_away();
        assert_eq!(committer.admission(), Admission::Outage);
        // What was on its way is still made durable.
        prepare(&mut committer);
        commit(&mut committer, SEAL_AFTER_MS, 2, 3);
        prepare(&mut committer);
        committer.ingested(sealed);
        assert_eq!((committer.admission(), committer.store()), (Admission::Open, StoreState::Present));
    }

    #[test]
    fn a_store_is_asked_less_and_less_often_within_a_bound() {
        let waits: Vec<u64> = (1..9).map(|failures| ingest_retry_ms(failures, true)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(ingest_retry_ms(u32::MAX, true), INGEST_RETRY_MAX_MS);
        assert_eq!(ingest_retry_ms(1, false), INGEST_RETRY_MAX_MS);
    }
}
