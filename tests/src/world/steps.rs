//! Steps: what happens in a world one by one, for who draws the next one by chance (`crowd`), and what it has decided and made durable.

use std::collections::BTreeSet;

use proto_spec::{DeviceId, UserId};
use server::{
    access::handshake::Resumption,
    core::{Core, CoreMessage},
    durability::committer::Fate,
    shard::{CacheLimits, Limits, Promise, PushSettings, QueryId, topology::CoreId},
};
use storage::{Answer, BatchId, LaneId, Record};

use super::{CORE_0, Link, SETTINGS, World, clients::FOREVER};

/// A batch of a world: its lane, and its place there.
pub type BatchKey = (LaneId, BatchId);

impl World {
    /// As [`World::new`], with limits, nothing kept for apps that open, and with a database that acknowledgements wait for if it has lanes.
    ///
    /// # Panics
    /// `cores` is zero.
    #[must_use]
    pub fn crowded(cores: u16, database_lanes: Option<u16>, limits: Limits, push: Option<PushSettings>) -> Self {
        let promise = if database_lanes.is_some() { Promise::Store } else { Promise::Disk };
        Self::with(
            cores,
            database_lanes.unwrap_or(1),
            super::Settings { limits, promise, push, cache: CacheLimits::OFF, ..SETTINGS },
        )
    }

    // ---- what happens

    /// Cores for which something lies in their mailbox.
    pub fn with_mail(&mut self) -> Vec<CoreId> {
        let cores = &mut self.cores;
        cores.ids().filter(|core| !cores.mailbox(*core).is_empty()).collect()
    }

    /// The next that lies in the mailbox of a core.
    pub fn take_mail(&mut self, core: CoreId) -> Option<CoreMessage> {
        self.cores.take(core)
    }

    /// A core hears of something.
    pub fn hear(&mut self, core: CoreId, message: CoreMessage) {
        self.tell(core, message);
    }

    /// A core hears of all of this in one turn, as of mail that has gathered.
    pub fn hear_at_once(&mut self, core: CoreId, messages: Vec<CoreMessage>) {
        self.turn(core, |core, now| messages.into_iter().for_each(|message| core.message(now, message)));
    }

    /// Lays something into the mailbox of a core, or of all.
    pub fn put(&mut self, core: CoreId, message: CoreMessage) {
        self.cores.put(core, message);
    }

    /// The cores.
    #[must_use]
    pub fn core_ids(&self) -> Vec<CoreId> {
        self.cores.ids().collect()
    }

    /// A core that has something to do has a turn; says whether there was one.
    pub fn work_one(&mut self) -> bool {
        let Some(core) = self.with_work() else { return false };
        self.judge_one_of(core);
        true
    }

    /// One query is read, as `meddle` leaves the answer; the answer comes later. Says whether there was one.
    pub fn read_next(&mut self, meddle: impl FnOnce(&mut Answer)) -> bool {
        let is_read = self.read_one();
        if is_read && let Some((_, _, Some(answer))) = self.answers.back_mut() {
            meddle(answer);
        }
        is_read
    }

    /// One answer comes that was read, whichever; says whether there was one.
    pub fn answer_at(&mut self, place: usize) -> bool {
        let Some((core, id, answer)): Option<(CoreId, QueryId, _)> = self.answers.remove(place) else { return false };
        self.turn(core, |core, now| core.answer(now, id, answer));
        true
    }

    /// Queries that nobody has read, and answers that have not come.
    #[must_use]
    pub fn reads(&self) -> (usize, usize) {
        (self.queries.len(), self.answers.len())
    }

    /// Whether the journal is writing.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// What is on the disk becomes a segment, and the store takes the next one that is sealed; says whether there was one.
    pub fn ingest_next(&mut self) -> bool {
        self.seal();
        let Some(fate) = self.segments.pop_front() else { return false };
        if let Fate::Ingest(sealed) = &fate {
            sealed.completes.iter().for_each(|(lane, up_to)| self.store_up_to(*lane, *up_to));
        }
        let (Fate::Ingest(sealed) | Fate::Free(sealed)) = fate;
        self.tell(CORE_0, CoreMessage::Ingested(Box::new(sealed)));
        true
    }

    /// So much time passes, and cores tick when they have to. Nothing else happens.
    pub fn tick(&mut self, ms: u64) {
        let end_ms = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < end_ms {
            let wakes_at_ms = self.cores.iter().map(Core::wakes_at_ms).min().unwrap_or(end_ms);
            let passed_ms = wakes_at_ms.clamp(self.now.monotonic_ms + 1, end_ms) - self.now.monotonic_ms;
            self.now.monotonic_ms += passed_ms;
            self.now.wall.0 += passed_ms;
            for core in self.cores.ids() {
                self.turn(core, |core: &mut Core, now| {
                    if core.is_tick_due(now) {
                        core.tick(now);
                    }
                });
            }
        }
    }

    /// The node dies and starts again. `survives` says, for each batch that was not durable, in order, whether the disk or the database has
    /// got it nevertheless; what follows one that it has not got is lost, in the journal or in its lane of the database. `forgets`, for a deliberate fault: what groups owe is
    /// not looked for.
    pub fn die(&mut self, cores: u16, forgets: bool, mut survives: impl FnMut() -> bool) -> Vec<BatchKey> {
        let is_one_order = self.settings.promise != Promise::Store;
        let mut lost: Vec<BatchKey> = Vec::new();
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_synced) {
            let is_behind = lost.iter().any(|(lane, _)| is_one_order || *lane == batch.lane);
            batch.is_synced = !is_behind && survives();
            if !batch.is_synced {
                lost.push((batch.lane, batch.id));
            }
        }
        if forgets {
            for batch in self.batches.drain(..).filter(|batch| batch.is_synced) {
                batch.records.iter().for_each(|record| self.store.apply(record));
            }
            self.store.unfinished_groups.clear();
        }
        self.crash(cores);
        lost
    }

    // ---- what was decided

    /// The batches behind those that `known` names by their number, with what is in them, in the order in which they were decided.
    pub fn decided_since(&self, known: u64) -> impl Iterator<Item = (BatchKey, &[Record])> {
        let new = self.decided_count.saturating_sub(known) as usize;
        let first = self.batches.len().saturating_sub(new);
        self.batches.range(first..).map(|batch| ((batch.lane, batch.id), &batch.records[..]))
    }

    /// How many batches have ever been decided.
    #[must_use]
    pub const fn decided_count(&self) -> u64 {
        self.decided_count
    }

    /// Changes what is in the newest batches before the journal or the database has them.
    pub fn meddle_with_decided(&mut self, known: u64, mut meddle: impl FnMut(&mut Vec<Record>)) {
        let new = self.decided_count.saturating_sub(known) as usize;
        let first = self.batches.len().saturating_sub(new);
        self.batches.range_mut(first..).for_each(|batch| meddle(&mut batch.records));
    }

    /// How many batches a crash would take.
    #[must_use]
    pub fn open_batches(&self) -> usize {
        self.batches.iter().filter(|batch| !batch.is_synced).count()
    }

    /// Which of these batches a crash leaves: the disk has them, or the store.
    #[must_use]
    pub fn are_durable(&self, keys: &[BatchKey]) -> Vec<bool> {
        let open = self.batches.iter().filter(|batch| !batch.is_synced).map(|batch| (batch.lane, batch.id));
        let open: BTreeSet<_> = open.collect();
        keys.iter().map(|key| !open.contains(key)).collect()
    }

    // ---- clients

    /// A device connects.
    pub fn open(&mut self, user: UserId, device: DeviceId, resumption: Resumption) -> Link {
        self.connect_from(user.0, device.0, resumption, FOREVER)
    }

    /// The kernel takes up to `bytes_max` from the server for this client; how many it were.
    pub fn drain_some(&mut self, link: Link, bytes_max: usize) -> usize {
        if self.clients[link.0].closed.is_some() {
            return 0;
        }
        let client = &mut self.clients[link.0];
        let (taken, core, conn) = (client.receive(bytes_max), client.core, client.conn);
        if taken > 0 {
            self.turn(core, |core, now| core.sent(now, conn, taken));
        }
        taken
    }

    /// What waits for a client behind the first `skip` bytes.
    #[must_use]
    pub fn waiting_behind(&self, link: Link, skip: usize) -> Vec<u8> {
        self.clients[link.0].outbox.iter().skip(skip).copied().collect()
    }
}
