//! PURE: the lanes of one core, where acknowledgements wait for a database: which batches are on their way into it, what is
//! committed next and when it is tried again, and when the journal's word has to do instead.
//!
//! Owns the batches until they are in the store. Does no I/O: the rim commits what [`Lanes::next`] gives and reports to
//! [`Lanes::done`].
//!
//! A server alone has a few lanes, each with commits of its own. A node of a cluster has one for each slot, and commits take
//! several of them: those that are ready, in turns, so that none waits for ever. There a lane is *open* while its slot is this
//! node's, and counts its batches from one in each term; who has lost it has lost what was not committed.
//!
//! Invariants: one commit of a lane is under way at a time, and its batches follow those in the store; a commit is tried again
//! as it was until its outcome is known, but for lanes that were closed or begun anew meanwhile; nothing leaves an open lane but into the
//! store. A lane is *away* while its oldest batch waits longer than it should; then what the journal has synced is released as
//! `local`, where there is a journal.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use storage::{
    Advanced, Batch, BatchId, Kind, LaneId, Step, StoreError,
    fold::{Fold, Sorted},
};

use crate::limits::{LANE_RETRY_MAX_MS, LANE_RETRY_MS};

/// Whose the lanes are, and so who shares a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A server alone: a commit has one lane, and each lane may have one under way. All are open from the start, in no term.
    OneLane,
    /// A node of a cluster: a commit has all lanes that are ready. None is open before it is begun.
    Slots {
        /// Most commits under way, those that wait to be tried again among them; at least 1.
        commits_max: usize,
    },
}

/// The number of a commit, which it keeps when it is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u64);

/// What is to be committed.
#[derive(Debug)]
pub struct Work {
    /// For [`Lanes::done`].
    pub id: WorkId,
    /// Of which lanes, from where to where; at least one.
    pub steps: Vec<Step>,
    /// What their batches leave behind.
    pub sorted: Sorted,
    /// How many batches.
    pub batches: usize,
}

/// What has become of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// Every batch of each of these lanes up to this one is in the store; at least one.
    Stored(Vec<(LaneId, BatchId)>),
    /// It will be tried again.
    Retried {
        /// Why it failed.
        error: StoreError,
        /// How often in a row.
        failures: u32,
        /// The first of its lanes.
        lane: LaneId,
    },
    /// Other nodes have these lanes now, and they are closed here; the rest of the commit is tried again at once.
    Moved(Vec<LaneId>),
    /// Nothing: what it was about was closed meanwhile.
    Void,
    /// The database is another's now: this server must not go on.
    Lost(StoreError),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Lanes {
    first: LaneId,
    lanes: Vec<Lane>,
    sharing: Sharing,
    /// Under way, or waiting to be tried again.
    commits: BTreeMap<WorkId, Commit>,
    /// Commits that were ever made.
    works: u64,
    /// Where the next commit begins to look for lanes.
    next_at: usize,
    slow_after_ms: u64,
    /// Bytes of the records of all that waits.
    waiting_bytes: usize,
}

#[derive(Debug, Default)]
struct Lane {
    is_open: bool,
    /// In which it is open, or was last; 0 in a server alone.
    term: u64,
    /// Not known to be in the store, oldest first.
    waiting: VecDeque<Waiting>,
    /// Which has the oldest of these.
    commit: Option<WorkId>,
    stored: BatchId,
    synced: BatchId,
    is_away: bool,
}

#[derive(Debug)]
struct Waiting {
    id: BatchId,
    since_ms: u64,
    bytes: Vec<u8>,
    /// Of a commit.
    weight: u64,
}

#[derive(Debug)]
struct Commit {
    /// Those that are still wanted: each has this commit as its own.
    parts: Vec<Part>,
    /// It is under way unless this says when it will be.
    retry_at_ms: Option<u64>,
    failures: u32,
    /// The store will not have it, now or later: somebody has to act. It holds up no other lane.
    is_refused: bool,
}

/// The oldest batches of a lane.
#[derive(Clone, Copy, Debug)]
struct Part {
    lane: LaneId,
    batches: usize,
}

impl Lanes {
    /// These lanes, which have numbers without a gap, with nothing in them. One is away when its oldest batch waits for `slow_after_ms`
    /// milliseconds.
    #[must_use]
    pub fn new(lanes: impl ExactSizeIterator<Item = LaneId>, sharing: Sharing, slow_after_ms: u64) -> Self {
        let mut lanes = lanes.peekable();
        let first = lanes.peek().copied().unwrap_or_default();
        let is_open = sharing == Sharing::OneLane;
        Self {
            first,
            lanes: lanes.map(|_| Lane { is_open, ..Lane::default() }).collect(),
            sharing,
            commits: BTreeMap::new(),
            works: 0,
            next_at: 0,
            slow_after_ms,
            waiting_bytes: 0,
        }
    }

    /// Opens a lane in a term: its slot is this node's. What it had is forgotten, and its batches count from one.
    ///
    /// # Panics
    /// The lane has been open in this term or in a later one: the store would know its batches already.
    pub fn begin(&mut self, lane: LaneId, term: u64) {
        self.close(lane);
        let lane = self.lane(lane);
        assert!(term > lane.term, "a lane begins anew in a later term than {}, not in {term}", lane.term);
        *lane = Lane { is_open: true, term, ..Lane::default() };
    }

    /// The lane's slot is not this node's (any more): what it had is forgotten, and nothing is taken for it.
    pub fn close(&mut self, lane: LaneId) {
        let of = self.lane(lane);
        let closed = mem::replace(of, Lane { term: of.term, ..Lane::default() });
        self.waiting_bytes -= closed.waiting.iter().map(|batch| batch.bytes.len()).sum::<usize>();
        let Some(id) = closed.commit else { return };
        let Some(commit) = self.commits.get_mut(&id) else { return };
        commit.parts.retain(|part| part.lane != lane);
        if commit.parts.is_empty() && commit.retry_at_ms.is_some() {
            self.commits.remove(&id);
        }
    }

    /// Takes a batch, whose number is the one after that of the lane's last; nothing if the lane is closed.
    ///
    /// # Panics
    /// It has another number.
    pub fn push(&mut self, now_ms: u64, lane: LaneId, id: BatchId, batch: &Batch) {
        let lane = self.lane(lane);
        if !lane.is_open {
            return;
        }
        let last = lane.waiting.back().map_or(lane.stored, |last| last.id);
        assert!(last.0 + 1 == id.0, "the batches of a lane have no gaps");
        let (bytes, weight) = (batch.bytes().to_vec(), batch.weight() as u64);
        lane.waiting.push_back(Waiting { id, since_ms: now_ms, bytes, weight });
        self.waiting_bytes += batch.bytes().len();
    }

    /// The next commit to begin, if any.
    ///
    /// # Panics
    /// A shard's own batch cannot be read.
    pub fn next(&mut self, now_ms: u64) -> Option<Work> {
        let due = self.commits.iter_mut().find(|(_, commit)| commit.retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms));
        let id = match due {
            Some((id, commit)) => {
                commit.retry_at_ms = None;
                *id
            }
            None => self.gather()?,
        };
        Some(self.work(id))
    }

    /// When the next commit that failed is to be tried again, in milliseconds of the same clock.
    #[must_use]
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.commits.values().filter_map(|commit| commit.retry_at_ms).min()
    }

    /// A commit has ended. `random` spreads what is tried again.
    pub fn done(&mut self, now_ms: u64, id: WorkId, result: Result<Advanced, StoreError>, random: u64) -> Outcome {
        let Some(commit) = self.commits.get_mut(&id).filter(|commit| commit.retry_at_ms.is_none()) else {
            debug_assert!(false, "commit {} is not under way", id.0);
            return Outcome::Void;
        };
        let first = commit.parts.first().map(|part| part.lane);
        match (result, first) {
            (Err(error @ (StoreError::Fenced { .. } | StoreError::OutOfStep { .. })), _) => Outcome::Lost(error),
            (_, None) => {
                self.commits.remove(&id);
                Outcome::Void
            }
            (Ok(_), Some(_)) => Outcome::Stored(self.stored(id)),
            (Err(StoreError::Moved { lanes }), Some(_)) => {
                commit.retry_at_ms = Some(now_ms);
                let mut moved: Vec<_> = lanes.into_iter().map(|moved| moved.lane).collect();
                moved.retain(|lane| self.lane(*lane).commit == Some(id));
                moved.iter().for_each(|lane| self.close(*lane));
                if moved.is_empty() { Outcome::Void } else { Outcome::Moved(moved) }
            }
            // Which of its lanes it is about is not said: each is tried for itself, so that no other one waits with it.
            (Err(error), Some(lane)) if !error.is_retryable() && commit.parts.len() > 1 => {
                for part in mem::take(&mut commit.parts) {
                    self.works += 1;
                    let alone = WorkId(self.works);
                    self.lane(part.lane).commit = Some(alone);
                    let retry_at_ms = Some(now_ms);
                    self.commits
                        .insert(alone, Commit { parts: vec![part], retry_at_ms, failures: 0, is_refused: false });
                }
                self.commits.remove(&id);
                Outcome::Retried { error, failures: 1, lane }
            }
            (Err(error), Some(lane)) => {
                commit.failures += 1;
                commit.is_refused = !error.is_retryable();
                commit.retry_at_ms = Some(now_ms + retry_ms(commit.failures, error.is_retryable(), random));
                Outcome::Retried { error, failures: commit.failures, lane }
            }
        }
    }

    /// The journal has synced the lane's batches up to this one: what of them may be released now, as it is away.
    pub fn synced(&mut self, lane: LaneId, up_to: BatchId) -> Option<BatchId> {
        let lane = self.lane(lane);
        lane.synced = up_to;
        lane.releases()
    }

    /// Time has passed: which lanes may release what the journal has of theirs, up to where.
    pub fn tick(&mut self, now_ms: u64) -> Vec<(LaneId, BatchId)> {
        let (first, slow_after_ms) = (self.first.0, self.slow_after_ms);
        let mut released = Vec::new();
        for (id, lane) in (first..).map(LaneId).zip(&mut self.lanes) {
            let is_slow = lane.waiting.front().is_some_and(|oldest| now_ms >= oldest.since_ms + slow_after_ms);
            if mem::replace(&mut lane.is_away, is_slow) != is_slow {
                released.extend(lane.releases().map(|up_to| (id, up_to)));
            }
        }
        released
    }

    /// Whether a lane is away. Not for what the store refuses of a slot: there is nothing wrong with the others.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let is_refused = |id| self.commits.get(&id).is_some_and(|commit| commit.is_refused);
        let counts = |lane: &Lane| self.sharing == Sharing::OneLane || !lane.commit.is_some_and(is_refused);
        self.lanes.iter().any(|lane| lane.is_away && counts(lane))
    }

    /// The term in which a lane is open, or was last; 0 if never.
    #[must_use]
    pub fn term(&self, lane: LaneId) -> u64 {
        self.lanes[usize::from(lane.0 - self.first.0)].term
    }

    /// Batches that are not in the store, and the bytes of their records.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.lanes.iter().map(|lane| lane.waiting.len()).sum(), self.waiting_bytes)
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        &mut self.lanes[usize::from(lane.0 - self.first.0)]
    }

    /// Makes a commit of what is ready, beginning behind the last lane that was in one.
    fn gather(&mut self) -> Option<WorkId> {
        let (commits_max, lanes_max) = match self.sharing {
            Sharing::OneLane => (self.lanes.len(), 1),
            Sharing::Slots { commits_max } => (commits_max, self.lanes.len()),
        };
        if self.commits.values().filter(|commit| !commit.is_refused).count() >= commits_max {
            return None;
        }
        let id = WorkId(self.works + 1);
        let mut room = Kind::Database.run_bytes_max();
        let mut parts = Vec::new();
        let lanes = self.lanes.len();
        for at in (self.next_at..lanes).chain(0..self.next_at) {
            let lane = &mut self.lanes[at];
            if lane.waiting.is_empty() || lane.commit.is_some() {
                continue;
            }
            let batches = lane.fitting(&mut room).max(usize::from(parts.is_empty()));
            if batches > 0 {
                lane.commit = Some(id);
                parts.push(Part { lane: LaneId(self.first.0 + at as u16), batches });
                self.next_at = (at + 1) % lanes;
            }
            // The next commit begins with what had no room in this one.
            if batches < lane.waiting.len() || parts.len() == lanes_max {
                break;
            }
        }
        if parts.is_empty() {
            return None;
        }
        self.works = id.0;
        self.commits.insert(id, Commit { parts, retry_at_ms: None, failures: 0, is_refused: false });
        Some(id)
    }

    fn work(&mut self, id: WorkId) -> Work {
        let parts = self.commits[&id].parts.clone();
        let mut fold = Fold::default();
        let mut steps = Vec::with_capacity(parts.len());
        for Part { lane: id, batches } in &parts {
            let lane = self.lane(*id);
            let mut up_to = lane.stored;
            for batch in lane.waiting.range(..*batches) {
                fold.add(&batch.bytes).expect("a shard's own batch can be read");
                up_to = batch.id;
            }
            steps.push(Step { lane: *id, term: lane.term, after: lane.stored, up_to });
        }
        Work { id, steps, sorted: fold.sort(), batches: parts.iter().map(|part| part.batches).sum() }
    }

    /// What a commit had is in the store.
    fn stored(&mut self, id: WorkId) -> Vec<(LaneId, BatchId)> {
        let commit = self.commits.remove(&id);
        let mut stored = Vec::new();
        for Part { lane: id, batches } in commit.into_iter().flat_map(|commit| commit.parts) {
            let lane = self.lane(id);
            lane.commit = None;
            let mut bytes = 0;
            for batch in lane.waiting.drain(..batches) {
                lane.stored = batch.id;
                bytes += batch.bytes.len();
            }
            stored.push((id, lane.stored));
            self.waiting_bytes -= bytes;
        }
        stored
    }
}

impl Lane {
    /// How many of the oldest batches fit into this room, which becomes less by them.
    fn fitting(&self, room: &mut u64) -> usize {
        let fits = |batch: &&Waiting| {
            let fits = batch.weight <= *room;
            *room = room.saturating_sub(batch.weight);
            fits
        };
        self.waiting.iter().take_while(fits).count()
    }

    fn releases(&self) -> Option<BatchId> {
        (self.is_away && self.synced > self.stored).then_some(self.synced)
    }
}

/// Wait before a commit that has failed so many times is tried again, in milliseconds: half of it is chance, so that lanes and
/// servers do not come at once.
fn retry_ms(failures: u32, is_retryable: bool, random: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(LANE_RETRY_MAX_MS.ilog2());
    let most = match is_retryable {
        true => (LANE_RETRY_MS << doublings).min(LANE_RETRY_MAX_MS),
        // Somebody has to act first.
        false => LANE_RETRY_MAX_MS,
    };
    most / 2 + random % (most / 2 + 1)
}

#[cfg(test)]
mod tests;
