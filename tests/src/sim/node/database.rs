//! The node's lanes into a store that is a database: when a commit begins, how it ends, and what is acknowledged meanwhile.
//!
//! A commit is done, conflicts or ends unknown, and the database may be away: the lane is told, and decides what is next. The oracle
//! hears what is in the database, whatever the lane was told. Taking the database over, and a crash with commits in flight, are
//! of a life: they are with it, in the parent.

use server::{durability::lanes::Work, shard::topology::CoreId};
use storage::{Advanced, LaneId, Step, Store as _, StoreError, contract::block_on, fold::Sorted, memory::CommitFault};

use super::super::{Happening, Simulation, faults::Fault};

impl Simulation {
    pub(super) fn begin_commit(&mut self, core: CoreId, work: Work) {
        let Some(life) = &mut self.machine.alive else { return };
        let [Step { lane, .. }, ..] = work.steps[..] else { return };
        life.commits.insert(lane, work);
        let delay = if self.rng.chance(3) { self.rng.within(100, 1_500) } else { self.rng.within(1, 10) };
        let life = self.machine.life;
        self.schedule(delay, Happening::Advanced { life, core, lane });
    }

    /// A commit ends, in one way or another.
    pub(in crate::sim) fn on_advanced(&mut self, core: CoreId, lane: LaneId) {
        let Some(life) = &mut self.machine.alive else { return };
        let Some(Work { id, steps, sorted, batches }) = life.commits.remove(&lane) else { return };
        let is_away = self.now.monotonic_ms < self.machine.store_away_until_ms;
        let fault = if is_away {
            self.reached("commit failed");
            Some(*self.rng.pick(&[CommitFault::Unavailable, CommitFault::UnknownLost, CommitFault::UnknownApplied]))
        } else if self.machine.chaos && self.rng.chance(5) {
            Some(*self.rng.pick(&[CommitFault::Conflict, CommitFault::UnknownApplied, CommitFault::UnknownLost]))
        } else {
            None
        };
        let mut result = Ok(Advanced::default());
        let skips = self.strikes(Fault::IngestedTooEarly, 50)
            || (fault.is_some() && self.fault == Some(Fault::FailedCommitCounts));
        if !skips {
            fault.into_iter().for_each(|fault| self.machine.store.fail_next_commit(fault));
            result = self.advance(&steps, sorted);
            // One that had been done was not attempted.
            self.machine.store.forget_faults();
        }
        if result.is_ok() || fault == Some(CommitFault::UnknownApplied) {
            self.decide(&steps.iter().map(|step| (step.lane, step.up_to)).collect::<Vec<_>>());
        }
        if matches!(&result, Ok(done) if done.rows == 0) && !skips {
            self.reached("commit found done");
        }
        let random = self.rng.next();
        self.act(core, |core, now| core.advanced(now, id, result, batches, 0, random));
        // A commit that failed is tried again when its time has come.
        let Some(wakes_at_ms) = self.machine.alive.as_ref().map(|life| life.cores.get(core).wakes_at_ms()) else {
            return;
        };
        let life = self.machine.life;
        self.schedule(wakes_at_ms.saturating_sub(self.now.monotonic_ms), Happening::Turn { life, core });
    }

    fn advance(&mut self, steps: &[Step], sorted: Sorted) -> Result<Advanced, StoreError> {
        let advanced = block_on(self.machine.store.advance(self.machine.fence, steps, sorted))?;
        self.forget_rows().map(|()| advanced)
    }
}
