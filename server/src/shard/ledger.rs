//! Ledger: which batch is being filled, which are on their way to the disk, and what waits for them.
//!
//! Invariants: `ingested <= committed < filling`; `parked` is ordered by batch; nothing leaves `parked` before its batch
//! is committed (contract 1).

use std::collections::VecDeque;

use proto_spec::{DeviceId, SendNumber, Seq, UserId};
use storage::BatchId;

use super::input::{Connected, Envelope};

/// What happens when a batch is committed.
#[derive(Debug)]
pub(super) enum Parked {
    /// A send of this device is in its user's log: accept it, and push it to the user's other devices.
    Sent { user: UserId, device: DeviceId, number: SendNumber, seq: Seq },
    /// An entry that others caused is in the log: push it to the user's devices and answer, if somebody waits.
    Entry { user: UserId, seq: Seq, answer: Option<Envelope> },
    /// An answer to something that had been done before.
    Answer(Envelope),
    /// A device whose earlier connection had sends under way: its welcome names the last of them.
    Connect(Connected),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Ledger {
    filling: BatchId,
    committed: BatchId,
    ingested: BatchId,
    parked: VecDeque<(BatchId, Parked)>,
    in_flight: VecDeque<(BatchId, usize)>,
    uncommitted_bytes: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            filling: BatchId(1),
            committed: BatchId(0),
            ingested: BatchId(0),
            parked: VecDeque::new(),
            in_flight: VecDeque::new(),
            uncommitted_bytes: 0,
        }
    }
}

impl Ledger {
    /// The batch that records go to now.
    pub(super) const fn filling(&self) -> BatchId {
        self.filling
    }

    pub(super) const fn ingested(&self) -> BatchId {
        self.ingested
    }

    pub(super) fn is_committed(&self, batch: BatchId) -> bool {
        batch <= self.committed
    }

    /// Bytes of batches on their way to the disk.
    pub(super) const fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// Holds `what` until the batch that is being filled is committed. The caller has put a record into it.
    pub(super) fn park(&mut self, what: Parked) {
        self.parked.push_back((self.filling, what));
    }

    /// Holds `what` until `batch`, which is not committed, is; later if something later is parked already.
    pub(super) fn park_behind(&mut self, batch: BatchId, what: Parked) {
        debug_assert!(!self.is_committed(batch));
        let last = self.parked.back().map_or(batch, |(last, _)| *last);
        self.parked.push_back((batch.max(last), what));
    }

    pub(super) fn nothing_is_parked(&self) -> bool {
        self.parked.is_empty()
    }

    /// Closes the batch that was being filled.
    pub(super) fn seal(&mut self, bytes: usize) -> BatchId {
        let sealed = self.filling;
        self.filling = BatchId(sealed.0 + 1);
        self.in_flight.push_back((sealed, bytes));
        self.uncommitted_bytes += bytes;
        sealed
    }

    /// Batches up to `up_to` are durable.
    pub(super) fn commit(&mut self, up_to: BatchId) {
        debug_assert!(up_to < self.filling);
        self.committed = self.committed.max(up_to);
        while self.in_flight.front().is_some_and(|(batch, _)| *batch <= up_to) {
            if let Some((_, bytes)) = self.in_flight.pop_front() {
                self.uncommitted_bytes -= bytes;
            }
        }
    }

    /// The next thing that no longer has to wait.
    pub(super) fn released(&mut self) -> Option<Parked> {
        match self.parked.front() {
            Some((batch, _)) if *batch <= self.committed => self.parked.pop_front().map(|(_, what)| what),
            _ => None,
        }
    }

    /// Batches up to `up_to` are in the store.
    pub(super) fn ingest(&mut self, up_to: BatchId) {
        debug_assert!(up_to <= self.committed);
        self.ingested = self.ingested.max(up_to);
    }

    /// Everything that waits, when it is certain that no batch will be committed any more.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Parked> + use<> {
        std::mem::take(&mut self.parked).into_iter().map(|(_, what)| what)
    }
}
