//! A store in memory, for tests and simulation. Fails or hangs on demand, and only then. It is an engine or a database, whose
//! advances are as those of a real one: whole or not at all, onto what they go on from, with outcomes that may be unknown.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    mem,
    ops::Bound,
    task::{Poll, Waker},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use proto_spec::Direction;

use crate::{
    codec,
    fold::Sorted,
    record::{BatchId, LaneId},
    roll::{self, Roll, RollChange},
    run::{Change, Run},
    schema::Key,
    store::{Advanced, Fence, Gather, Holder, Kind, Range, Rows, Step, Store, StoreError, Tenure, are_made},
};

/// A store in memory. What is "durable" in it survives as long as the value does.
#[derive(Debug)]
pub struct MemoryStore {
    kind: Kind,
    state: Mutex<State>,
}

impl Default for MemoryStore {
    /// An engine.
    fn default() -> Self {
        Self { kind: Kind::Engine, state: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Bytes>,
    fence: Fence,
    progress: BTreeMap<LaneId, BatchId>,
    tenure: Option<Tenure>,
    /// Whose it is, if it is a cluster's.
    cluster: Option<String>,
    roll: Roll,
    /// How often owners were changed, and who waits for that.
    rung: u64,
    listening: Vec<Waker>,
    /// Of the commits to come; none: that one succeeds.
    commit_faults: VecDeque<Option<CommitFault>>,
    is_away: bool,
    hangs: bool,
    /// Who waits until it hangs no more.
    waiting: Vec<Waker>,
    reads_to_fail: usize,
    ranges_read: u64,
    rows_got: u64,
    /// What is committed after so many reads more.
    between_reads: VecDeque<(u64, Run)>,
}

/// A way in which a commit can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// [`StoreError::Unavailable`].
    Unavailable,
    /// [`StoreError::Unknown`], and the run was applied.
    UnknownApplied,
    /// [`StoreError::Unknown`], and nothing was applied.
    UnknownLost,
    /// [`StoreError::Unknown`], and the first half of the run was applied; nothing of an advance or of a change of the roll, which are never
    /// halved.
    UnknownHalf,
    /// [`StoreError::Conflict`].
    Conflict,
    /// [`StoreError::Full`].
    Full,
}

impl MemoryStore {
    /// How many ranges have been read.
    #[must_use]
    pub fn ranges_read(&self) -> u64 {
        self.state.lock().ranges_read
    }

    /// How many rows have been read one by one, whether they were there or not.
    #[must_use]
    pub fn rows_got(&self) -> u64 {
        self.state.lock().rows_got
    }

    /// An empty database.
    #[must_use]
    pub fn database() -> Self {
        Self { kind: Kind::Database, ..Self::default() }
    }

    /// The next commit or change of the roll that holds the fence or finds what it expects, and has no fault ahead of it, fails in this way.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.state.lock().commit_faults.push_back(Some(fault));
    }

    /// The next commit that has no fault ahead of it succeeds; the next fault is for the one after it.
    pub fn let_next_commit_succeed(&self) {
        self.state.lock().commit_faults.push_back(None);
    }

    /// Faults that have not happened yet never will.
    pub fn forget_faults(&self) {
        self.state.lock().commit_faults.clear();
    }

    /// From now on every commit finds the store unavailable, and whoever asks for the roll; or none does.
    pub fn set_away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
    }

    /// From now on whatever is asked has no answer, until the store hangs no more; then it goes on.
    pub fn set_hanging(&self, hangs: bool) {
        let waiting = {
            let mut state = self.state.lock();
            state.hangs = hangs;
            mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The next reads, as many as this, find the store unavailable.
    pub fn fail_next_reads(&self, count: usize) {
        self.state.lock().reads_to_fail = count;
    }

    /// After so many reads more a run is committed, as an ingestion might; of several, the reads of each count from the one before.
    pub fn commit_after_reads(&self, reads: u64, run: Run) {
        self.state.lock().between_reads.push_back((reads, run));
    }

    /// All rows, by ascending key.
    #[must_use]
    pub fn rows(&self) -> Vec<(Key, Bytes)> {
        self.state.lock().rows.iter().map(|(key, value)| (*key, value.clone())).collect()
    }

    fn is_clustered(&self) -> Result<(), StoreError> {
        if self.kind == Kind::Database { Ok(()) } else { Err(roll::is_one_servers()) }
    }

    /// The state, for whoever asks the store something: as soon as it does not hang.
    async fn answering(&self) -> MutexGuard<'_, State> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.hangs {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state)
        })
        .await
    }
}

impl State {
    fn apply<'a>(&mut self, changes: impl Iterator<Item = (&'a Key, Change<'a>)>) {
        for (key, change) in changes {
            match change {
                Change::Put(value) => drop(self.rows.insert(*key, Bytes::copy_from_slice(value))),
                Change::Delete => drop(self.rows.remove(key)),
            }
        }
    }

    fn read(&mut self) -> Result<&BTreeMap<Key, Bytes>, StoreError> {
        if self.between_reads.front().is_some_and(|(reads, _)| *reads == 0)
            && let Some((_, run)) = self.between_reads.pop_front()
        {
            self.apply(run.iter());
        }
        if let Some((reads, _)) = self.between_reads.front_mut() {
            *reads = reads.saturating_sub(1);
        }
        if self.reads_to_fail > 0 {
            self.reads_to_fail -= 1;
            return Err(StoreError::Unavailable { reason: "a test asked for it".to_owned() });
        }
        Ok(&self.rows)
    }

    fn check(&self, fence: Fence) -> Result<(), StoreError> {
        if fence != self.fence {
            return Err(StoreError::Fenced { held: fence, current: self.fence });
        }
        self.check_away()
    }

    fn check_away(&self) -> Result<(), StoreError> {
        match self.is_away {
            true => Err(StoreError::Unavailable { reason: "a test asked for it".to_owned() }),
            false => Ok(()),
        }
    }

    fn advance(&mut self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        if roll::is_fenced_by_terms(steps) {
            self.check_away()?;
        } else {
            self.check(fence)?;
        }
        let in_terms = steps.iter().filter(|step| step.term > 0);
        roll::check_terms(in_terms.map(|step| (*step, self.roll.owners.get(&step.lane).copied())))?;
        let found = steps.iter().map(|step| self.progress.get(&step.lane).copied().unwrap_or_default());
        if are_made(steps, found)? {
            return Ok(Advanced::default());
        }
        let needed = sorted.needed();
        let base = codec::sends_blocks(needed.iter().map(|key| self.rows.get(key).cloned()).collect())?;
        let run = sorted.finish(base);
        if !steps.is_empty() && self.commit_faults.front() == Some(&Some(CommitFault::UnknownHalf)) {
            self.commit_faults[0] = Some(CommitFault::UnknownLost);
        }
        let applies = matches!(self.commit_faults.front(), None | Some(None | Some(CommitFault::UnknownApplied)));
        if applies {
            self.progress.extend(steps.iter().map(|step| (step.lane, step.up_to)));
        }
        self.apply_or_fail(&run)?;
        Ok(Advanced { rows: run.len() as u64, bytes: run.bytes() as u64, base_rows: needed.len() as u64 })
    }

    fn commit(&mut self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.check(fence)?;
        self.apply_or_fail(run)
    }

    fn apply_or_fail(&mut self, run: &Run) -> Result<(), StoreError> {
        let fault = self.commit_faults.pop_front().flatten();
        match fault {
            None | Some(CommitFault::UnknownApplied) => self.apply(run.iter()),
            Some(CommitFault::UnknownHalf) => self.apply(run.iter().take(run.len() / 2)),
            Some(_) => {}
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn found(&mut self, cluster: &str) -> Result<(), StoreError> {
        self.check_away()?;
        match &self.cluster {
            Some(found) if found == cluster => {}
            Some(found) => return Err(roll::is_another_clusters(found, cluster)),
            None => {
                self.cluster = Some(cluster.to_owned());
                self.fence = Fence(self.fence.0 + 1);
                self.progress.clear();
                self.tenure = None;
            }
        }
        Ok(())
    }

    fn change_roll(&mut self, change: &RollChange) -> Result<bool, StoreError> {
        self.check_away()?;
        change.check()?;
        if !self.roll.is_as_expected(change) {
            return Ok(false);
        }
        let fault = self.commit_faults.pop_front().flatten();
        if matches!(fault, None | Some(CommitFault::UnknownApplied)) {
            let begun = change.begun();
            self.progress.retain(|lane, _| !begun.contains(lane));
            self.roll.apply(change);
            if !change.owners.is_empty() {
                self.rung += 1;
                mem::take(&mut self.listening).into_iter().for_each(Waker::wake);
            }
        }
        fault.map_or(Ok(true), |fault| Err(fault.error()))
    }
}

impl CommitFault {
    fn error(self) -> StoreError {
        let reason = "a test asked for it".to_owned();
        match self {
            Self::Unavailable => StoreError::Unavailable { reason },
            Self::UnknownApplied | Self::UnknownLost | Self::UnknownHalf => StoreError::Unknown { reason },
            Self::Conflict => StoreError::Conflict,
            Self::Full => StoreError::Full { reason },
        }
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> Kind {
        self.kind
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let mut state = self.answering().await;
        state.rows_got += 1;
        Ok(state.read()?.get(key).cloned())
    }

    async fn range(&self, range: &Range) -> Result<Rows, StoreError> {
        let mut state = self.answering().await;
        state.ranges_read += 1;
        let rows = state.read()?;
        let mut gather = Gather::new(range);
        if range.first > range.last {
            return Ok(gather.finish(true));
        }
        let mut inside = rows.range((Bound::Included(range.first), Bound::Included(range.last)));
        loop {
            let row = match range.direction {
                Direction::Forwards => inside.next(),
                Direction::Backwards => inside.next_back(),
            };
            match row {
                None => return Ok(gather.finish(true)),
                Some((key, value)) if gather.wants(key, value) => gather.push(*key, value.clone()),
                Some(_) => return Ok(gather.finish(false)),
            }
        }
    }

    async fn commit(&self, fence: Fence, run: &Run) -> Result<(), StoreError> {
        self.answering().await.commit(fence, run)
    }

    async fn take_over(&self) -> Result<Fence, StoreError> {
        let mut state = self.answering().await;
        if let Some(cluster) = &state.cluster {
            return Err(roll::is_a_clusters(cluster));
        }
        state.fence = Fence(state.fence.0 + 1);
        Ok(state.fence)
    }

    async fn advance(&self, fence: Fence, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        self.answering().await.advance(fence, steps, sorted)
    }

    async fn progress(&self) -> Result<Vec<(LaneId, BatchId)>, StoreError> {
        Ok(self.answering().await.progress.iter().map(|(lane, batch)| (*lane, *batch)).collect())
    }

    async fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        Ok(self.answering().await.tenure)
    }

    async fn begin(&self, fence: Fence, holder: Holder) -> Result<(), StoreError> {
        let mut state = self.answering().await;
        state.check(fence)?;
        state.progress.clear();
        state.tenure = Some(Tenure { holder, fence });
        Ok(())
    }

    async fn found(&self, cluster: &str) -> Result<(), StoreError> {
        self.is_clustered()?;
        self.answering().await.found(cluster)
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        self.is_clustered()?;
        let state = self.answering().await;
        state.check_away()?;
        Ok(state.roll.clone())
    }

    async fn term(&self, lane: LaneId) -> Result<u64, StoreError> {
        self.is_clustered()?;
        let state = self.answering().await;
        state.check_away()?;
        Ok(state.roll.term(lane))
    }

    async fn change_roll(&self, change: &RollChange) -> Result<bool, StoreError> {
        self.is_clustered()?;
        self.answering().await.change_roll(change)
    }

    async fn roll_changed(&self, since: u64) -> Result<(), StoreError> {
        self.is_clustered()?;
        let rung = self.answering().await.rung;
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.rung != rung || state.roll.version() != since {
                return Poll::Ready(Ok(()));
            }
            if !state.listening.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.listening.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{
        contract::{self, block_on},
        roll::{Member, MemberId},
    };

    #[test]
    fn the_memory_store_fulfils_the_contract_as_an_engine_and_as_a_database() {
        contract::check(|| (MemoryStore::default(), ()));
        contract::check(|| (MemoryStore::database(), ()));
    }

    #[test]
    fn each_fault_happens_once_and_a_retry_succeeds() {
        let applied = [
            (CommitFault::Unavailable, 0),
            (CommitFault::UnknownApplied, 2),
            (CommitFault::UnknownLost, 0),
            (CommitFault::UnknownHalf, 1),
            (CommitFault::Conflict, 0),
            (CommitFault::Full, 0),
        ];
        for (fault, rows) in applied {
            let store = MemoryStore::default();
            let fence = block_on(store.take_over()).unwrap();
            let run = contract::run([(1, Some(&b"one"[..])), (2, Some(&b"two"[..]))]);
            store.fail_next_commit(fault);
            let refused = block_on(store.commit(fence, &run)).unwrap_err();
            assert!(refused.is_retryable());
            assert_eq!(store.rows().len(), rows, "{fault:?}");
            block_on(store.commit(fence, &run)).unwrap();
            assert_eq!(store.rows().len(), 2);
        }
    }

    fn enrols() -> RollChange {
        let member = Member {
            name: "one".to_owned(),
            holder: Holder(1),
            beat: 1,
            mesh: String::new(),
            clients: None,
            clients_tls: None,
            weight: 1,
            is_leaving: false,
            lease_ms: 3_000,
        };
        RollChange {
            expects_members: vec![(MemberId(1), None)],
            members: vec![(MemberId(1), member)],
            ..RollChange::default()
        }
    }

    #[test]
    fn a_change_of_the_roll_meets_the_faults_of_commits() {
        let applied = [
            (CommitFault::Unavailable, false),
            (CommitFault::UnknownApplied, true),
            (CommitFault::UnknownLost, false),
            (CommitFault::UnknownHalf, false),
            (CommitFault::Conflict, false),
            (CommitFault::Full, false),
        ];
        for (fault, is_applied) in applied {
            let store = MemoryStore::database();
            block_on(store.found("a")).unwrap();
            store.fail_next_commit(fault);
            assert!(block_on(store.change_roll(&enrols())).unwrap_err().is_retryable(), "{fault:?}");
            assert_eq!(block_on(store.roll()).unwrap().members.len(), usize::from(is_applied), "{fault:?}");
            assert_eq!(block_on(store.change_roll(&enrols())).unwrap(), !is_applied, "{fault:?}");
        }
        let store = MemoryStore::database();
        block_on(store.found("a")).unwrap();
        store.set_away(true);
        for _ in 0..2 {
            assert!(block_on(store.change_roll(&enrols())).unwrap_err().is_retryable());
            assert!(block_on(store.roll()).unwrap_err().is_retryable());
            assert!(block_on(store.found("a")).unwrap_err().is_retryable());
        }
        store.set_away(false);
        assert!(block_on(store.change_roll(&enrols())).unwrap());
    }

    #[test]
    fn a_store_that_is_away_takes_nothing_until_it_is_back() {
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        let run = contract::run([(1, Some(&b"one"[..]))]);
        store.set_away(true);
        for _ in 0..3 {
            assert!(block_on(store.commit(fence, &run)).unwrap_err().is_retryable());
        }
        assert!(store.rows().is_empty());
        store.set_away(false);
        block_on(store.commit(fence, &run)).unwrap();
        assert_eq!(store.rows().len(), 1);
    }

    #[test]
    fn what_is_asked_of_a_store_that_hangs_is_answered_when_it_hangs_no_more() {
        let store = Arc::new(MemoryStore::default());
        let fence = block_on(store.take_over()).unwrap();
        store.set_hanging(true);
        let (asked, answer) = mpsc::channel();
        let other = Arc::clone(&store);
        let asking = thread::spawn(move || {
            let run = contract::run([(1, Some(&b"one"[..]))]);
            block_on(other.commit(fence, &run)).unwrap();
            asked.send(block_on(other.get(&contract::key(1)))).unwrap();
        });
        assert!(answer.recv_timeout(Duration::from_millis(20)).is_err());
        assert!(store.rows().is_empty());
        store.set_hanging(false);
        assert!(answer.recv().unwrap().unwrap().is_some());
        asking.join().unwrap();
    }

    #[test]
    fn reads_fail_as_often_as_asked() {
        let store = MemoryStore::default();
        store.fail_next_reads(1);
        assert!(block_on(store.get(&contract::key(1))).is_err());
        assert!(block_on(store.get(&contract::key(1))).is_ok());
    }
}
