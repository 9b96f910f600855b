//! Committer: the journal's decisions, on core 0, without its I/O. What the next write is, what a finished one means, when
//! a segment goes to the store and what the cores are told.
//!
//! What a group is, is decided by `storage::journal::Writer`. Here is what goes wrong: a disk without room is tried again,
//! with sends refused meanwhile; any other failed write, and every failed sync, ends the journal: nothing is synced
//! after it. A store that does not take a segment is tried again too, for ever: the segment is the log of what could not
//! be stored. Until it is back, acknowledgements say so, or are refused, as the operator chose. Where the cores themselves bring
//! their batches into a database ([`Promise::Store`]), the journal is what a restart needs: a segment is given up when all of it
//! is in the database.

use std::{
    collections::{HashMap, VecDeque},
    io,
};

use storage::{
    BatchId, LaneId,
    journal::{GroupStats, Room, Salt, Sealed, SegmentNumber, Write, Writer},
};

use crate::{
    limits::{COMMIT_RETRY_MS, INGEST_RETRY_MAX_MS, INGEST_RETRY_MS, PATIENCE_MS},
    shard::{
        Admission, Input, Promise, StoreState,
        topology::{CoreId, Topology},
    },
};

/// What to do with sends while the store does not take what the journal has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Every batch of this lane up to this one is on the disk.
    Synced {
        /// Which lane.
        lane: LaneId,
        /// The last one.
        up_to: BatchId,
    },
    /// Every batch of this lane up to this one is in the store.
    Stored {
        /// Which lane.
        lane: LaneId,
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
            Self::Synced { lane, up_to } => Input::Released { lane, up_to },
            Self::Stored { lane, up_to } => Input::Stored { lane, up_to },
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

/// What becomes of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is brought into the store, and its file is free then.
    Ingest(Sealed),
    /// It is in the store; its file is free.
    Free(Sealed),
}

/// What has been done, for the counters of the rim.
#[derive(Debug, Default)]
pub struct Finished {
    /// The group, if it is durable now.
    pub group: Option<GroupStats>,
    /// Whether a segment was sealed.
    pub sealed: bool,
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
    topology: Topology,
    in_flight: bool,
    /// Somebody waits for a batch that is in no group yet.
    is_urgent: bool,
    /// Until when batches wait for one of which that is so.
    patient_until_ms: Option<u64>,
    /// For each core what it has to be told.
    news: Vec<(CoreId, News)>,
    promise: Promise,
    /// Sealed segments, of which nobody has been told yet what becomes of them.
    sealed: VecDeque<Sealed>,
    /// Segments of which somebody has been told what becomes of them, and that are not free yet.
    pending: usize,
    /// How far each lane is in the database, where cores say so.
    stored: HashMap<LaneId, BatchId>,
    /// Of each core, whether a lane of its is away.
    away: Vec<bool>,
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
    /// What an earlier server left in the journal is not in the store yet.
    recovers: bool,
    /// There is none: batches are brought into a database by the cores, and nowhere else. Then only what that is like is told here.
    has_no_journal: bool,
}

impl Committer {
    /// A journal that goes on with `writer`, for these cores. A segment that has anything in it is sealed when it is
    /// `seal_after_ms` old.
    #[must_use]
    pub fn new(
        writer: Writer,
        topology: Topology,
        promise: Promise,
        seal_after_ms: u64,
        on_store_outage: OnStoreOutage,
    ) -> Self {
        Self {
            writer,
            on_store_outage,
            seal_after_ms,
            topology,
            in_flight: false,
            is_urgent: false,
            patient_until_ms: None,
            news: Vec::new(),
            promise,
            sealed: VecDeque::new(),
            pending: 0,
            stored: HashMap::new(),
            away: vec![false; topology.cores().into()],
            announced: Admission::Open,
            store: StoreState::Present,
            write_full: false,
            prepare_full: false,
            failure: None,
            retry_at_ms: 0,
            prepare_at_ms: 0,
            begun_ms: None,
            recovers: false,
            has_no_journal: false,
        }
    }

    /// Whether anything is ever written.
    #[must_use]
    pub const fn has_journal(&self) -> bool {
        !self.has_no_journal
    }

    /// From now on nothing is written, and there is always room.
    pub const fn go_without_journal(&mut self) {
        self.has_no_journal = true;
    }

    /// The disk has no room for what an earlier server left in the journal to be brought into the store. Until it has been, no
    /// segment is wanted, so nothing is written: batches are counted from one again when the store has all of the earlier ones.
    pub fn recover(&mut self) {
        self.recovers = true;
        self.set_store(StoreState::Away);
        self.announce();
    }

    /// It is in the store now.
    pub fn recovered(&mut self) {
        self.recovers = false;
        self.set_store(StoreState::Present);
        self.announce();
    }

    /// Takes a batch into the next group, which begins as soon as it can.
    pub fn push(&mut self, lane: LaneId, id: BatchId, bytes: &[u8]) {
        if self.failure.is_none() && !self.has_no_journal {
            self.writer.push(lane, id, bytes);
            self.is_urgent = true;
        }
    }

    /// Takes a batch that nobody waits for into the next group, which for its sake begins within [`PATIENCE_MS`]: a sync costs more than all
    /// else that a message does.
    pub fn push_patient(&mut self, now_ms: u64, lane: LaneId, id: BatchId, bytes: &[u8]) {
        if self.failure.is_none() && !self.has_no_journal {
            self.writer.push(lane, id, bytes);
            self.patient_until_ms.get_or_insert(now_ms + PATIENCE_MS);
        }
    }

    /// When the next group begins, if nothing comes before that somebody waits for.
    #[must_use]
    pub fn write_at_ms(&self) -> Option<u64> {
        let is_held_up = self.in_flight || self.failure.is_some();
        self.patient_until_ms.filter(|_| !is_held_up).map(|until_ms| until_ms.max(self.retry_at_ms))
    }

    /// The segment to make ready now, if one is wanted. Answered with [`Committer::prepared`] or
    /// [`Committer::prepare_failed`].
    pub fn wanted_segment(&mut self, now_ms: u64) -> Option<SegmentNumber> {
        if self.failure.is_some() || self.recovers || self.has_no_journal || now_ms < self.prepare_at_ms {
            return None;
        }
        self.writer.wants_segment()
    }

    /// Whether there is a group to begin now, if there is a segment for it.
    #[must_use]
    pub fn is_write_due(&self, now_ms: u64) -> bool {
        let is_due = self.is_urgent || self.patient_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        is_due && self.failure.is_none() && !self.in_flight && now_ms >= self.retry_at_ms
    }

    /// The write to begin now, if any: one is in flight at a time. Its sync follows it; answered with
    /// [`Committer::finished`].
    pub fn next_write(&mut self, now_ms: u64) -> Option<Write> {
        if !self.is_write_due(now_ms) {
            return None;
        }
        let write = self.writer.next_write();
        if write.is_some() {
            self.in_flight = true;
            self.begun_ms.get_or_insert(now_ms);
            // What had no room in the segment goes next.
            (self.is_urgent, self.patient_until_ms) = (self.writer.counters().pending_bytes > 0, None);
        } else if self.patient_until_ms.is_some() {
            // There is no segment: nothing is asked of the clock until there may be one.
            self.patient_until_ms = Some(now_ms + PATIENCE_MS);
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
                self.is_urgent = true;
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
        let synced = done.synced.into_iter();
        let core_of = |lane| self.topology.core_of(lane);
        self.news.extend(synced.map(|(lane, up_to)| (core_of(lane), News::Synced { lane, up_to })));
        let sealed = match done.sealed {
            Some(sealed) => {
                self.begun_ms = None;
                self.sealed.push_back(sealed);
                true
            }
            None => self.seal_if_old(now_ms),
        };
        self.announce();
        Finished { group: Some(done.group), sealed }
    }

    /// What is to become of the next sealed segment, once that is known. Segments come in the order in which they were sealed.
    pub fn next_fate(&mut self) -> Option<Fate> {
        let is_stored = |(lane, up_to): &(LaneId, BatchId)| self.stored.get(lane).is_some_and(|stored| stored >= up_to);
        let fate = match self.promise {
            Promise::Disk | Promise::Journal => self.sealed.pop_front().map(Fate::Ingest),
            Promise::Store if self.sealed.front()?.completes.iter().all(is_stored) => {
                self.sealed.pop_front().map(Fate::Free)
            }
            Promise::Store => None,
        };
        self.pending += usize::from(fate.is_some());
        fate
    }

    /// The server stops: what a database has or can get is not left to the journal, so that another server may go on with it.
    pub fn seal_rest(&mut self) {
        if self.promise != Promise::Disk && self.is_idle() {
            self.seal_if_old(u64::MAX);
        }
    }

    /// Whether the journal holds nothing that a database has or can get now.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        let is_empty = self.begun_ms.is_none() && self.sealed.is_empty() && self.pending == 0;
        self.promise == Promise::Disk || self.failure.is_some() || self.store == StoreState::Away || is_empty
    }

    /// A core has brought every batch of its lane up to this one into the database.
    pub fn stored(&mut self, lane: LaneId, up_to: BatchId) {
        self.stored.insert(lane, up_to);
    }

    /// A core's lanes wait too long for the database, or do not any more.
    pub fn lanes_away(&mut self, core: CoreId, is_away: bool) {
        self.away[usize::from(core.0)] = is_away;
        let away = self.away.contains(&true);
        self.set_store(if away { StoreState::Away } else { StoreState::Present });
        self.announce();
    }

    /// The store is another server's: nothing may be promised any more.
    pub fn lost(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.announce();
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
        self.pending -= 1;
        if self.promise == Promise::Store {
            return self.announce();
        }
        self.set_store(StoreState::Present);
        let stored = sealed.completes.into_iter();
        let core_of = |lane| self.topology.core_of(lane);
        self.news.extend(stored.map(|(lane, up_to)| (core_of(lane), News::Stored { lane, up_to })));
        self.announce();
    }

    /// The store did not take a segment. It is tried again until it does.
    pub fn store_away(&mut self) {
        self.set_store(StoreState::Away);
        self.announce();
    }

    /// Time has passed: seals a segment that is old enough, so that the store gets what is in it. Whether it did. Not while an
    /// earlier one waits for the store: an outage would use up the journal with segments that have little in them.
    pub fn seal_if_old(&mut self, now_ms: u64) -> bool {
        let is_old = self.begun_ms.is_some_and(|begun| now_ms >= begun + self.seal_after_ms);
        if !is_old || self.failure.is_some() || self.pending > 0 || !self.sealed.is_empty() {
            return false;
        }
        let sealed = self.writer.seal();
        let has_sealed = sealed.is_some();
        if has_sealed {
            self.begun_ms = None;
        }
        self.sealed.extend(sealed);
        has_sealed
    }

    /// What the cores have to be told since the last call.
    pub fn news(&mut self) -> Vec<(CoreId, News)> {
        std::mem::take(&mut self.news)
    }

    /// What [`Committer::news`] would give.
    #[must_use]
    pub fn untold(&self) -> &[(CoreId, News)] {
        &self.news
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

    /// Why nothing is synced any more, if so.
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
            _ if self.write_full || self.recovers => Admission::Full,
            _ if self.store == StoreState::Away && self.on_store_outage == OnStoreOutage::Refuse => Admission::Outage,
            _ if self.has_no_journal => Admission::Open,
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
        self.news.extend((0..self.topology.cores()).map(|core| (CoreId(core), news)));
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
        let mut committer = Committer::new(
            Writer::new(CONFIG, Position::default()),
            Topology::new(2).unwrap(),
            Promise::Disk,
            SEAL_AFTER_MS,
            on_store_outage,
        );
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
        committer.push(LaneId(1), BatchId(id), &vec![7; bytes]);
        let write = committer.next_write(now_ms).expect("nothing is in flight");
        committer.finished(now_ms, Outcome::Durable, write.bytes)
    }

    fn to_ingest(committer: &mut Committer) -> Sealed {
        match committer.next_fate() {
            Some(Fate::Ingest(sealed)) => sealed,
            other => panic!("{other:?}"),
        }
    }

    fn to_all(news: News) -> [(CoreId, News); 2] {
        [(CoreId(0), news), (CoreId(1), news)]
    }

    fn synced(up_to: u64) -> (CoreId, News) {
        (CoreId(1), News::Synced { lane: LaneId(1), up_to: BatchId(up_to) })
    }

    #[test]
    fn what_nobody_waits_for_is_written_with_what_somebody_does_or_a_little_later() {
        let mut committer = committer(OnStoreOutage::Accept);
        let write = |committer: &mut Committer, now_ms| {
            let write = committer.next_write(now_ms)?;
            Some(committer.finished(now_ms, Outcome::Durable, write.bytes).group.unwrap().batches)
        };
        committer.push_patient(10, LaneId(1), BatchId(1), b"cursor");
        committer.push_patient(12, LaneId(1), BatchId(2), b"receipt");
        assert_eq!(committer.write_at_ms(), Some(10 + PATIENCE_MS));
        assert_eq!(write(&mut committer, 9 + PATIENCE_MS), None);
        assert!(!committer.is_idle(), "a stop waits for them");
        committer.push(LaneId(1), BatchId(3), b"message");
        assert_eq!(write(&mut committer, 13), Some(3));
        assert_eq!((committer.write_at_ms(), committer.news()), (None, vec![synced(3)]));
        committer.push_patient(20, LaneId(1), BatchId(4), b"cursor");
        assert_eq!(write(&mut committer, 20 + PATIENCE_MS), Some(1));
        // One that has failed is not held up, and asks nothing of the clock.
        committer.push_patient(30, LaneId(1), BatchId(5), b"cursor");
        let first = committer.next_write(30 + PATIENCE_MS).unwrap();
        committer.push_patient(36, LaneId(1), BatchId(6), b"cursor");
        assert_eq!(committer.write_at_ms(), None, "one is in flight");
        committer.finished(40, Outcome::NotWritten(None), first.bytes);
        assert_eq!(committer.write_at_ms(), Some(40 + COMMIT_RETRY_MS));
        assert_eq!(write(&mut committer, 40 + COMMIT_RETRY_MS), Some(1));
        assert_eq!(write(&mut committer, 40 + COMMIT_RETRY_MS), Some(1));
        assert!(committer.is_idle());
    }

    #[test]
    fn without_a_segment_what_nobody_waits_for_asks_for_no_turn_after_turn() {
        let mut committer = committer(OnStoreOutage::Accept);
        let mut ids = (1..).map(BatchId);
        loop {
            committer.push(LaneId(1), ids.next().unwrap(), &[7; 8 * 1024]);
            let Some(write) = committer.next_write(0) else { break };
            committer.finished(0, Outcome::Durable, write.bytes);
        }
        committer.is_urgent = false;
        committer.push_patient(10, LaneId(1), ids.next().unwrap(), b"cursor");
        assert!(committer.next_write(10 + PATIENCE_MS).is_none());
        assert_eq!(committer.write_at_ms(), Some(10 + 2 * PATIENCE_MS));
    }

    #[test]
    fn a_full_disk_refuses_sends_until_the_same_group_is_written() {
        let mut committer = committer(OnStoreOutage::Accept);
        committer.push(LaneId(1), BatchId(1), b"one");
        let first = committer.next_write(0).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        committer.finished(5, Outcome::NotWritten(Some(full)), first.bytes.clone());
        assert_eq!(committer.news(), to_all(News::Admission(Admission::Full)));
        assert!(committer.next_write(5).is_none() && !committer.is_idle(), "not at once");
        let again = committer.next_write(5 + COMMIT_RETRY_MS).unwrap();
        assert_eq!((again.offset, &again.bytes), (first.offset, &first.bytes));
        committer.finished(600, Outcome::Durable, again.bytes);
        let [admission_0, admission_1] = to_all(News::Admission(Admission::Open));
        assert_eq!(committer.news(), [synced(1), admission_0, admission_1]);
    }

    #[test]
    fn a_short_write_is_a_disk_that_becomes_full_and_an_interrupted_one_is_not() {
        let interrupted = Some(io::Error::from(io::ErrorKind::Interrupted));
        for (reason, admission) in [(None, Admission::Full), (interrupted, Admission::Open)] {
            let mut committer = committer(OnStoreOutage::Accept);
            committer.push(LaneId(1), BatchId(1), b"one");
            let write = committer.next_write(0).unwrap();
            committer.finished(0, Outcome::NotWritten(reason), write.bytes);
            assert_eq!((committer.admission(), committer.is_idle()), (admission, false));
            assert!(committer.next_write(COMMIT_RETRY_MS).is_some());
        }
    }

    #[test]
    fn after_a_failed_write_or_sync_nothing_is_ever_synced() {
        let error = || io::Error::from_raw_os_error(5);
        for outcome in [Outcome::NotSynced(error()), Outcome::NotWritten(Some(error()))] {
            let mut committer = committer(OnStoreOutage::Accept);
            committer.push(LaneId(1), BatchId(1), b"one");
            let write = committer.next_write(0).unwrap();
            committer.push(LaneId(1), BatchId(2), b"two");
            let finished = committer.finished(0, outcome, write.bytes);
            assert!(finished.group.is_none() && !finished.sealed);
            assert_eq!(committer.news(), to_all(News::Admission(Admission::Failed)));
            assert!(committer.failure().is_some_and(|why| why.contains("os error 5")));
            committer.push(LaneId(1), BatchId(3), b"three");
            assert!(committer.next_write(u64::MAX).is_none());
            assert!(committer.wanted_segment(u64::MAX).is_none() && !committer.seal_if_old(u64::MAX));
            assert!(committer.is_idle() && !committer.has_news());
        }
    }

    #[test]
    fn a_segment_goes_to_the_store_when_it_is_old_and_its_cores_hear_when_it_is_there() {
        let mut committer = committer(OnStoreOutage::Accept);
        assert!(!commit(&mut committer, 10, 1, 3).sealed);
        prepare(&mut committer);
        assert!(!committer.seal_if_old(10 + SEAL_AFTER_MS - 1));
        assert!(committer.seal_if_old(10 + SEAL_AFTER_MS));
        assert!(!committer.seal_if_old(u64::MAX), "nothing is in the next one");
        let sealed = to_ingest(&mut committer);
        commit(&mut committer, 20, 2, 3);
        assert!(!committer.seal_if_old(u64::MAX), "one at a time waits for the store");
        committer.news();
        committer.ingested(sealed);
        assert_eq!(committer.news(), [(CoreId(1), News::Stored { lane: LaneId(1), up_to: BatchId(1) })]);
    }

    #[test]
    fn while_the_store_is_away_all_cores_know_and_the_journal_goes_on_until_it_is_full() {
        let mut committer = committer(OnStoreOutage::Accept);
        let mut sealed = Vec::new();
        let mut id = 0;
        let mut commit_next = |committer: &mut Committer, sealed: &mut Vec<Sealed>| {
            id += 1;
            prepare(committer);
            commit(committer, 0, id, 20_000);
            while let Some(Fate::Ingest(next)) = committer.next_fate() {
                sealed.push(next);
            }
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
        assert!(matches!(news[2], (CoreId(1), News::Stored { .. })));
    }

    #[test]
    fn an_operator_may_have_sends_refused_while_the_store_is_away() {
        let mut committer = committer(OnStoreOutage::Refuse);
        commit(&mut committer, 0, 1, 3);
        assert!(committer.seal_if_old(SEAL_AFTER_MS));
        let sealed = to_ingest(&mut committer);
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
    fn a_segment_is_given_up_when_the_cores_have_brought_all_of_it_into_the_database() {
        let topology = Topology::with_lanes(1, 2).unwrap();
        let writer = Writer::new(CONFIG, Position::default());
        let mut committer = Committer::new(writer, topology, Promise::Store, SEAL_AFTER_MS, OnStoreOutage::Accept);
        prepare(&mut committer);
        for (lane, id) in [(0, 1), (1, 1), (0, 2)] {
            committer.push(LaneId(lane), BatchId(id), b"x");
        }
        let write = committer.next_write(0).unwrap();
        committer.finished(0, Outcome::Durable, write.bytes);
        assert!(committer.seal_if_old(SEAL_AFTER_MS));
        assert_eq!(committer.next_fate(), None);
        committer.stored(LaneId(0), BatchId(2));
        assert_eq!(committer.next_fate(), None, "lane 1 has a batch in it");
        committer.stored(LaneId(1), BatchId(1));
        let Some(Fate::Free(sealed)) = committer.next_fate() else { panic!("all of it is stored") };
        committer.news();
        committer.ingested(sealed);
        let knows = |(_, news): &(CoreId, News)| !matches!(news, News::Stored { .. });
        assert!(committer.news().iter().all(knows), "the cores know themselves");
        assert_eq!(committer.next_fate(), None);
    }

    #[test]
    fn the_store_is_away_while_the_lanes_of_any_core_wait_too_long() {
        let mut committer = committer(OnStoreOutage::Refuse);
        committer.lanes_away(CoreId(0), true);
        committer.lanes_away(CoreId(1), true);
        assert_eq!((committer.store(), committer.admission()), (StoreState::Away, Admission::Outage));
        committer.lanes_away(CoreId(0), false);
        assert_eq!(committer.store(), StoreState::Away);
        committer.lanes_away(CoreId(1), false);
        assert_eq!((committer.store(), committer.admission()), (StoreState::Present, Admission::Open));
    }

    #[test]
    fn nothing_is_written_before_an_earlier_journal_is_in_the_store() {
        let writer = Writer::new(CONFIG, Position::default());
        let topology = Topology::new(2).unwrap();
        let mut committer = Committer::new(writer, topology, Promise::Disk, SEAL_AFTER_MS, OnStoreOutage::Accept);
        committer.recover();
        let [store_0, store_1] = to_all(News::Store(StoreState::Away));
        let [admission_0, admission_1] = to_all(News::Admission(Admission::Full));
        assert_eq!(committer.news(), [store_0, store_1, admission_0, admission_1]);
        committer.push(LaneId(1), BatchId(1), b"one");
        assert!(committer.wanted_segment(u64::MAX).is_none() && committer.next_write(u64::MAX).is_none());
        committer.recovered();
        prepare(&mut committer);
        assert_eq!((committer.admission(), committer.store()), (Admission::Open, StoreState::Present));
        assert!(committer.next_write(0).is_some());
    }

    #[test]
    fn nothing_is_promised_once_the_store_is_anothers() {
        let mut committer = committer(OnStoreOutage::Accept);
        committer.lost("taken over".to_owned());
        assert_eq!(committer.news(), to_all(News::Admission(Admission::Failed)));
        committer.push(LaneId(1), BatchId(1), b"one");
        assert!(committer.next_write(0).is_none() && committer.is_idle() && committer.is_handed_over());
    }

    #[test]
    fn a_stop_leaves_nothing_to_the_journal_that_a_database_can_get() {
        for promise in [Promise::Journal, Promise::Store] {
            let topology = Topology::new(2).unwrap();
            let writer = Writer::new(CONFIG, Position::default());
            let mut committer = Committer::new(writer, topology, promise, SEAL_AFTER_MS, OnStoreOutage::Accept);
            prepare(&mut committer);
            assert!(committer.is_handed_over());
            committer.push(LaneId(1), BatchId(1), b"one");
            let write = committer.next_write(0).unwrap();
            committer.seal_rest();
            committer.finished(0, Outcome::Durable, write.bytes);
            assert!(!committer.is_handed_over());
            committer.seal_rest();
            committer.stored(LaneId(1), BatchId(1));
            let (Fate::Ingest(sealed) | Fate::Free(sealed)) = committer.next_fate().unwrap();
            assert!(!committer.is_handed_over(), "not yet");
            committer.store_away();
            assert!(committer.is_handed_over(), "nobody waits for a store that is away");
            committer.ingested(sealed);
            committer.lanes_away(CoreId(0), false);
            assert!(committer.is_handed_over());
        }
    }

    #[test]
    fn a_store_is_asked_less_and_less_often_within_a_bound() {
        let waits: Vec<u64> = (1..9).map(|failures| ingest_retry_ms(failures, true)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(ingest_retry_ms(u32::MAX, true), INGEST_RETRY_MAX_MS);
        assert_eq!(ingest_retry_ms(1, false), INGEST_RETRY_MAX_MS);
    }
}
