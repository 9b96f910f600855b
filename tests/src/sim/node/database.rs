//! The node's lanes into a store that is a database: when a commit begins, how it ends, and what is acknowledged meanwhile.
//!
//! A commit is done, conflicts or ends unknown, and the database may be away: the lane is told, and decides what is next. The oracle
//! hears what is in the database, whatever the lane was told. Taking the database over, and a crash with commits in flight, are
//! of a life: they are with it, in the parent.

use server::{
    lanes::{self, Work},
    shard::Input,
    topology::CoreId,
};
use storage::{Advanced, LaneId, Step, Store as _, StoreError, contract::block_on, fold::Sorted, memory::CommitFault};

use super::{
    super::{Happening, Simulation, faults::Fault},
    Mail,
};

impl Simulation {
    pub(super) fn begin_commits(&mut self, core: usize) {
        let (now_ms, number) = (self.now.monotonic_ms, self.machine.life);
        loop {
            let Some(life) = &mut self.machine.alive else { return };
            // The rim: with the journal's failure all promises end.
            if life.committer.failure().is_some() {
                return;
            }
            let Some(work) = life.lanes.as_mut().and_then(|lanes| lanes[core].next(now_ms)) else { return };
            let lane = work.step.lane;
            life.commits.insert(lane, work);
            let delay = if self.rng.chance(3) { self.rng.within(100, 1_500) } else { self.rng.within(1, 10) };
            self.schedule(delay, Happening::Advanced { life: number, core, lane });
        }
    }

    /// A commit ends, in one way or another.
    pub(in crate::sim) fn on_advanced(&mut self, core: usize, lane: LaneId) {
        let Some(life) = &mut self.machine.alive else { return };
        let Some(Work { step, sorted, .. }) = life.commits.remove(&lane) else { return };
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
            result = self.advance(step, sorted);
            // One that had been done was not attempted.
            self.machine.store.forget_faults();
        }
        if result.is_ok() || fault == Some(CommitFault::UnknownApplied) {
            self.decide(&[(lane, step.up_to)]);
        }
        if matches!(&result, Ok(done) if done.rows == 0) && !skips {
            self.reached("commit found done");
        }
        let (now_ms, random) = (self.now.monotonic_ms, self.rng.next());
        let Some(lanes) = self.machine.alive.as_mut().and_then(|life| life.lanes.as_mut()) else { return };
        match lanes[core].done(now_ms, lane, result, random) {
            lanes::Outcome::Stored(up_to) => {
                self.feed(core, Input::Stored { lane, up_to });
                self.mail(core, 0, Mail::Stored(lane, up_to));
            }
            lanes::Outcome::Retried { .. } => {
                if let Some(at_ms) = lanes[core].retry_at_ms() {
                    let life = self.machine.life;
                    self.schedule(at_ms.saturating_sub(now_ms), Happening::Retry { life, core });
                }
            }
            lanes::Outcome::Lost(error) => self.oracle.fail(|| format!("a lane was moved by somebody else: {error}")),
        }
        self.begin_commits(core);
    }

    pub(in crate::sim) fn on_retry(&mut self, core: usize) {
        self.begin_commits(core);
    }

    fn advance(&mut self, step: Step, sorted: Sorted) -> Result<Advanced, StoreError> {
        let advanced = block_on(self.machine.store.advance(self.machine.fence, &[step], sorted))?;
        self.forget_rows().map(|()| advanced)
    }

    pub(super) fn look_at_lanes(&mut self) {
        let now_ms = self.now.monotonic_ms;
        for core in 0..self.machine.alive.as_ref().map_or(0, |life| life.shards.len()) {
            let Some(life) = &mut self.machine.alive else { return };
            let Some(lanes) = &mut life.lanes else { return };
            let released = lanes[core].tick(now_ms);
            let is_away = lanes[core].is_away();
            let has_changed = std::mem::replace(&mut life.lanes_away[core], is_away) != is_away;
            for (lane, up_to) in released {
                self.feed(core, Input::Committed { lane, up_to });
            }
            if has_changed {
                self.mail(core, 0, Mail::Away(CoreId(core as u16), is_away));
            }
        }
    }
}
