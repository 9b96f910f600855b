//! The node's store: sealed segments are ingested into it and given up, and queries are answered from it. It is away for a time,
//! or fails once.

use std::sync::Arc;

use server::{
    core::CoreMessage,
    durability::committer::{Committer, Fate, News, ingest_retry_ms},
    limits::DIGEST_PIECE_ENTRIES,
    shard::{QueryId, topology::CoreId},
};
use storage::{
    Answer, MemoryStore, Query, Store as _, StoreError,
    contract::block_on,
    journal::{JournalFolder, SealedSegment},
    memory::CommitFault,
    run::RunBuilder,
    schema::RowKey,
};

use super::{
    super::{Happening, Simulation, faults::Fault},
    JOURNAL, READS_MAX,
};

/// What the store has said; nothing: it could not be read.
pub(in crate::sim) type Read = Option<Answer>;

impl Simulation {
    /// Takes over what becomes of sealed segments. Gives news that a deliberate fault makes too early: they are for after what the
    /// journal says of itself.
    pub(super) fn take_segments(&mut self, journal: &mut Committer) -> Vec<(CoreId, CoreMessage)> {
        let mut early = Vec::new();
        while let Some(fate) = journal.next_fate() {
            let (Fate::Ingest(sealed) | Fate::Free(sealed)) = &fate;
            let Some(life) = &mut self.machine.alive else { break };
            life.files.remove(&sealed.segment);
            let topology = life.cores.common().topology;
            if self.fault == Some(Fault::IngestedTooEarly) && matches!(fate, Fate::Ingest(_)) {
                let completes = sealed.completes.iter().copied();
                early
                    .extend(completes.map(|(lane, up_to)| {
                        (topology.core_of(lane), CoreMessage::News(News::Stored { lane, up_to }))
                    }));
            }
            life.segments.push_back(fate);
            if life.segments.len() == 1 {
                self.ingest_next();
            }
        }
        early
    }

    /// One segment after the other, in the order in which they were sealed.
    fn ingest_next(&mut self) {
        let delay = self.rng.within(1, 300);
        let life = self.machine.life;
        self.schedule(delay, Happening::Ingest { life });
    }

    pub(in crate::sim) fn on_ingest(&mut self) {
        let life_number = self.machine.life;
        let Some(fate) = self.machine.alive.as_ref().and_then(|life| life.segments.front().cloned()) else { return };
        let (sealed, is_stored) = match fate {
            Fate::Ingest(sealed) => (sealed, false),
            Fate::Free(sealed) => (sealed, true),
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
            let (is_first, delay) = (life.ingest_failures == 1, ingest_retry_ms(life.ingest_failures, true));
            if is_first {
                self.put(CoreId(0), CoreMessage::StoreAway);
            }
            return self.schedule(delay, Happening::Ingest { life: life_number });
        }
        folder.free(sealed.segment).expect("the folder is good");
        let Some(life) = &mut self.machine.alive else { return };
        life.segments.pop_front();
        life.ingest_failures = 0;
        let has_more = !life.segments.is_empty();
        self.put(CoreId(0), CoreMessage::Ingested(Box::new(sealed)));
        if has_more {
            self.ingest_next();
        }
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
        for (key, value) in store.rows() {
            let row = RowKey::decode(&key).expect("the store's own keys");
            let forgotten = matches!(
                (self.fault, row),
                (Some(Fault::ForgetSendNumbers), RowKey::Sends { .. } | RowKey::LastSends { .. })
                    | (Some(Fault::ForgetReceived), RowKey::Received { .. })
                    | (Some(Fault::ForgetRead), RowKey::Read { .. })
                    | (Some(Fault::ForgetSent), RowKey::Sent { .. })
                    | (Some(Fault::ForgetDuties), RowKey::Unfinished { .. })
                    | (Some(Fault::ForgetDeleted), RowKey::Deleted { .. })
                    | (Some(Fault::ForgetRemoved), RowKey::Removed { .. })
                    | (Some(Fault::ForgetSubscriptions), RowKey::Subscription { .. })
                    | (Some(Fault::ForgetNotified), RowKey::Notified { .. })
                    | (Some(Fault::ForgetSettings), RowKey::Settings { .. })
            ) || (self.fault == Some(Fault::ForgetChanged)
                && matches!(row, RowKey::Conversation { .. })
                // That of a message as it was written says no more than whose it is.
                && !matches!(value[..], [] | [1, 0 | 1, ..]));
            if forgotten {
                forget.delete(key);
            }
        }
        block_on(store.commit(self.machine.fence, &forget.finish()))?;
        Ok(())
    }

    /// A core asks the store.
    pub(super) fn ask(&mut self, core: CoreId, id: QueryId, query: Query) -> Result<(), (QueryId, Query)> {
        let Some(life) = &mut self.machine.alive else { return Ok(()) };
        let reads = life.reads.entry(core).or_default();
        if *reads >= READS_MAX {
            self.reached("query waits for the store");
            return Err((id, query));
        }
        *reads += 1;
        let delay = if self.rng.chance(5) { self.rng.within(0, 200) } else { self.rng.within(0, 5) };
        let life = self.machine.life;
        // A store reads at any moment between question and answer.
        let read = if self.rng.chance(50) { Some(Box::new(self.read(&query))) } else { None };
        self.schedule(delay, Happening::Answer { life, core, id, query, read });
        Ok(())
    }

    pub(in crate::sim) fn on_answer(&mut self, core: CoreId, id: QueryId, query: &Query, read: Option<Read>) {
        if let Some(reads) = self.machine.alive.as_mut().and_then(|life| life.reads.get_mut(&core)) {
            *reads -= 1;
        }
        let answer = read.unwrap_or_else(|| self.read(query));
        self.act(core, |core, now| core.answer(now, id, answer));
    }

    /// What the store says now.
    fn read(&mut self, query: &Query) -> Read {
        let now_ms = self.now.monotonic_ms;
        let is_away = now_ms < self.machine.store_away_until_ms && self.rng.chance(50);
        let is_unreadable =
            self.machine.unreadable.is_some_and(|(user, until_ms)| now_ms < until_ms && query.user() == user);
        if is_away || is_unreadable {
            self.reached(if is_unreadable { "rows of one user can not be read" } else { "query failed" });
            // Deliberately, what can not be read is nothing.
            let is_empty = self.fault == Some(Fault::FailedReadIsEmpty);
            return is_empty
                .then(|| block_on(storage::answer(&MemoryStore::default(), query)).expect("it has nothing"));
        }
        let store = match (&self.machine.stale, self.rng.chance(30)) {
            (Some(stale), true) => stale,
            _ => &self.machine.store,
        };
        let mut answer = match block_on(storage::answer(&**store, query)) {
            Ok(answer) => answer,
            Err(error) => {
                self.oracle.fail(|| format!("{query:?} fails by itself: {error}"));
                return None;
            }
        };
        match &mut answer {
            Answer::Entries(entries) => {
                if !entries.entries.is_empty() {
                    self.reached("page read from the store");
                }
                if self.strikes(Fault::PageWithHole, 30) && entries.entries.len() > 1 {
                    entries.entries.remove(0);
                }
                let is_digest = matches!(query, Query::Log { span, .. } if span.entries_max == DIGEST_PIECE_ENTRIES);
                if self.fault == Some(Fault::DigestWithHole) && is_digest && entries.entries.len() > 1 {
                    entries.entries.remove(0);
                }
            }
            Answer::Message(Some(message)) => {
                if !message.reactions.is_empty() {
                    self.reached("message read with reactions to it");
                }
                if self.fault == Some(Fault::AddReactions) {
                    message.reactions.clear();
                }
            }
            Answer::Send(found) if self.fault == Some(Fault::ForgetGivenUp) => {
                found.take_if(|found| *found == storage::Sent::GivenUp);
            }
            Answer::User(known) if self.fault == Some(Fault::ForgetGivenUp) => {
                for device in &mut known.devices {
                    while self.machine.is_void(query.user(), device.device, device.last_number) {
                        device.last_number.0 -= 1;
                    }
                }
            }
            Answer::User(user) if self.fault == Some(Fault::CursorTooFar) => {
                user.devices.iter_mut().for_each(|device| device.cursor = device.cursor.next());
            }
            _ => {}
        }
        Some(answer)
    }
}
