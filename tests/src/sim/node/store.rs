//! The node's store: sealed segments are ingested into it and given up, and queries are answered from it. It is away for a time,
//! or fails once.

use std::sync::Arc;

use server::{
    committer::{Duty, News, ingest_retry_ms},
    shard::{Input, QueryId},
    topology::CoreId,
};
use storage::{
    MemoryStore, Query, Store as _, StoreError,
    contract::block_on,
    journal::{JournalFolder, SealedSegment},
    memory::CommitFault,
    run::RunBuilder,
    schema::RowKey,
};

use super::{
    super::{Happening, Simulation, faults::Fault},
    JOURNAL, Mail,
};

impl Simulation {
    /// Takes over what becomes of sealed segments.
    pub(super) fn take_duties(&mut self) {
        while let Some(duty) = self.machine.alive.as_mut().and_then(|life| life.committer.next_duty()) {
            let (Duty::Ingest(sealed) | Duty::Free(sealed)) = &duty;
            let Some(life) = &mut self.machine.alive else { return };
            life.files.remove(&sealed.segment);
            let topology = life.topology;
            if self.fault == Some(Fault::IngestedTooEarly) && matches!(duty, Duty::Ingest(_)) {
                for (lane, up_to) in sealed.completes.clone() {
                    let core = topology.core_of(lane);
                    self.put(usize::from(core.0), Mail::News(News::Stored { lane, up_to }));
                }
            }
            let Some(life) = &mut self.machine.alive else { return };
            life.duties.push_back(duty);
            if life.duties.len() == 1 {
                self.ingest_next();
            }
        }
    }

    /// One segment after the other, in the order in which they were sealed.
    fn ingest_next(&mut self) {
        let delay = self.rng.within(1, 300);
        let life = self.machine.life;
        self.schedule(delay, Happening::Ingest { life });
    }

    pub(in crate::sim) fn on_ingest(&mut self) {
        let life_number = self.machine.life;
        let Some(duty) = self.machine.alive.as_ref().and_then(|life| life.duties.front().cloned()) else { return };
        let (sealed, is_stored) = match duty {
            Duty::Ingest(sealed) => (sealed, false),
            Duty::Free(sealed) => (sealed, true),
        };
        let folder =
            JournalFolder::open(self.machine.folder.path(), JOURNAL.segment_bytes).expect("the folder is good");
        let segment = SealedSegment::new(&folder, &sealed);
        if is_stored {
            self.reached("segment given up that the lanes had stored");
        } else if self.now.monotonic_ms < self.machine.store_away_until_ms {
            let faults =
                [CommitFault::Unavailable, CommitFault::UnknownLost, CommitFault::UnknownHalf, CommitFault::Full];
            let fault = *self.rng.pick(&faults);
            self.machine.store.fail_next_commit(fault);
        } else if self.machine.chaos && self.rng.chance(5) {
            self.machine.store.fail_next_commit(CommitFault::UnknownApplied);
        }
        let skip = self.strikes(Fault::FreeWithoutIngesting, 100);
        if !skip && !is_stored && self.ingest(std::slice::from_ref(&segment)).is_err() {
            self.reached("ingestion failed");
            let Some(life) = &mut self.machine.alive else { return };
            life.ingest_failures += 1;
            life.committer.store_away();
            let delay = ingest_retry_ms(life.ingest_failures, true);
            self.pass_news();
            return self.schedule(delay, Happening::Ingest { life: life_number });
        }
        folder.free(sealed.segment).expect("the folder is good");
        let Some(life) = &mut self.machine.alive else { return };
        life.duties.pop_front();
        life.ingest_failures = 0;
        life.committer.ingested(sealed);
        if !life.duties.is_empty() {
            self.ingest_next();
        }
        self.begin_write();
    }

    pub(super) fn ingest(&mut self, segments: &[SealedSegment]) -> Result<(), storage::IngestError> {
        let store = &self.machine.store;
        if self.fault == Some(Fault::StaleReads) && self.machine.stale.is_none() {
            let stale = MemoryStore::default();
            let fence = block_on(stale.take_over())?;
            let mut copy = RunBuilder::default();
            store.rows().iter().for_each(|(key, value)| copy.put(*key, |out| out.extend_from_slice(value)));
            block_on(stale.commit(fence, &copy.finish()))?;
            self.machine.stale = Some(Arc::new(stale));
        }
        let known = block_on(storage::ingest(&**store, self.machine.fence, segments))?.known;
        if known > 0 {
            self.reached("batch of the journal found in the database");
        }
        // One that had been done was not attempted.
        self.machine.store.forget_faults();
        Ok(self.forget_rows()?)
    }

    /// Deliberate faults in what the store keeps.
    pub(super) fn forget_rows(&mut self) -> Result<(), StoreError> {
        if self.fault.is_none() {
            return Ok(());
        }
        let store = &self.machine.store;
        let mut forget = RunBuilder::default();
        for (key, _) in store.rows() {
            let row = RowKey::decode(&key).expect("the store's own keys");
            let forgotten = matches!(
                (self.fault, row),
                (Some(Fault::ForgetSendNumbers), RowKey::Sends { .. })
                    | (Some(Fault::ForgetReceived), RowKey::Received { .. })
                    | (Some(Fault::ForgetDuties), RowKey::Unfinished { .. })
            );
            if forgotten {
                forget.delete(key);
            }
        }
        block_on(store.commit(self.machine.fence, &forget.finish()))?;
        Ok(())
    }

    pub(in crate::sim) fn on_answer(&mut self, core: CoreId, id: QueryId, query: &Query) {
        let is_away = self.now.monotonic_ms < self.machine.store_away_until_ms;
        let answer = if is_away && self.rng.chance(50) {
            self.reached("query failed");
            None
        } else {
            let store = match (&self.machine.stale, self.rng.chance(30)) {
                (Some(stale), true) => stale,
                _ => &self.machine.store,
            };
            let mut answer = block_on(storage::answer(&**store, query)).expect("reads do not fail by themselves");
            if let storage::Answer::Entries(entries) = &mut answer {
                if !entries.entries.is_empty() {
                    self.reached("page read from the store");
                }
                if self.strikes(Fault::PageWithHole, 30) && entries.entries.len() > 1 {
                    entries.entries.remove(0);
                }
            }
            Some(answer)
        };
        self.feed(usize::from(core.0), Input::Answer { query: id, answer });
    }
}
