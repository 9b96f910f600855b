//! Ledger: of one lane, which batch is being filled, which are on their way, and what waits for them.
//!
//! A batch is *released* when what waits for it may leave: it is on the disk or, if acknowledgements wait for that, in the
//! store. It is *stored* when it is in the store, and *ingested* when, besides, the shard may forget what it knows of it.
//!
//! Invariants: `ingested <= stored`, `stored <= released < filling`; `parked` and `once_stored` are ordered by batch; nothing
//! leaves `parked` before its batch is released (contract 1), nor `once_stored` before it is stored.

use std::collections::VecDeque;

use proto_spec::{ConversationId, DeviceId, EpochId, GroupId, RequestId, SendNumber, Seq, UserId};
use storage::BatchId;

use super::{
    devices::DevicesParked,
    groups::GroupMail,
    input::{ConnId, Connected, Envelope},
};
use crate::limits::{STORED_KEPT_BYTES_MAX, STORED_KEPT_MS};

/// What happens when a batch is released.
#[derive(Debug)]
pub(super) enum Parked {
    /// A send of this device is in its user's log: accept it, and push it to the user's other devices.
    Sent { user: UserId, device: DeviceId, number: SendNumber, seq: Seq },
    /// A number of this device is void: say so.
    GivenUp { user: UserId, device: DeviceId, number: SendNumber },
    /// An entry that others caused is in the log: push it to the user's devices and answer, if somebody waits.
    Entry { user: UserId, seq: Seq, answer: Option<Envelope> },
    /// An entry of a group is in its log: push it to those who follow, and answer its author, if somebody sent it.
    Group { group: GroupId, seq: Seq, answer: Option<Envelope> },
    /// An answer to something that had been done before.
    Answer(Envelope),
    /// What a group's home tells of what is so since then.
    Told(Box<GroupMail>),
    /// A mark is in the log: say so to who asked for it.
    Marked((ConnId, RequestId)),
    /// A device whose earlier connection had sends under way: its welcome names the last of them.
    Connect(Connected),
    /// Something about a user's devices.
    Devices(DevicesParked),
}

/// What happens when a batch is stored, where more than its acknowledgement waits for that ([`super::Promise::Store`]).
#[derive(Debug)]
pub(super) enum OnceStored {
    /// An entry: what it obliges to may begin, whoever waits for it is answered.
    Entry { user: UserId, seq: Seq, answer: Option<Envelope> },
    /// An entry of a group: those who follow hear of it, and its author is answered, if somebody sent it.
    Group { group: GroupId, seq: Seq, answer: Option<Envelope> },
    /// An answer to something that had been done before.
    Answer(Envelope),
    /// What a group's home tells of what is so since then.
    Told(Box<GroupMail>),
}

/// Batches that are in the store, and that the shard still knows.
#[derive(Debug)]
struct Kept {
    until_ms: u64,
    up_to: BatchId,
    bytes: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Ledger {
    epoch: EpochId,
    filling: BatchId,
    released: BatchId,
    stored: BatchId,
    ingested: BatchId,
    parked: VecDeque<(BatchId, Parked)>,
    once_stored: VecDeque<(BatchId, OnceStored)>,
    in_flight: VecDeque<(BatchId, usize)>,
    /// How many of these are released, and wait for the store.
    released_in_flight: usize,
    unreleased_bytes: usize,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Which batch changed which user, until it is ingested.
    users_changed: VecDeque<(BatchId, UserId)>,
    /// Which batch changed which conversation, until it is ingested.
    conversations_changed: VecDeque<(BatchId, (UserId, ConversationId))>,
    /// Which batch changed which group, until it is ingested.
    groups_changed: VecDeque<(BatchId, GroupId)>,
}

impl Ledger {
    /// Nothing is under way. What is appended is of this epoch.
    pub(super) fn new(epoch: EpochId) -> Self {
        Self {
            epoch,
            filling: BatchId(1),
            released: BatchId(0),
            stored: BatchId(0),
            ingested: BatchId(0),
            parked: VecDeque::new(),
            once_stored: VecDeque::new(),
            in_flight: VecDeque::new(),
            released_in_flight: 0,
            unreleased_bytes: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            users_changed: VecDeque::new(),
            conversations_changed: VecDeque::new(),
            groups_changed: VecDeque::new(),
        }
    }

    /// What is appended is of this epoch.
    pub(super) const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// The batch that records go to now.
    pub(super) const fn filling(&self) -> BatchId {
        self.filling
    }

    pub(super) const fn ingested(&self) -> BatchId {
        self.ingested
    }

    pub(super) fn is_stored(&self, batch: BatchId) -> bool {
        batch <= self.stored
    }

    pub(super) fn is_released(&self, batch: BatchId) -> bool {
        batch <= self.released
    }

    /// Bytes of batches on their way to the disk.
    pub(super) const fn unreleased_bytes(&self) -> usize {
        self.unreleased_bytes
    }

    /// Holds `what` until the batch that is being filled is released. The caller has put a record into it.
    pub(super) fn park(&mut self, what: Parked) {
        self.parked.push_back((self.filling, what));
    }

    /// Holds `what` until `batch`, which is not released, is; later if something later is parked already.
    pub(super) fn park_behind(&mut self, batch: BatchId, what: Parked) {
        assert!(!self.is_released(batch), "nothing waits for a batch that is released");
        let last = self.parked.back().map_or(batch, |(last, _)| *last);
        self.parked.push_back((batch.max(last), what));
    }

    /// Holds `what` until the batch that is being filled is stored. The caller has put a record into it.
    pub(super) fn park_until_stored(&mut self, what: OnceStored) {
        self.once_stored.push_back((self.filling, what));
    }

    /// As [`Ledger::park_behind`], until `batch` is stored.
    pub(super) fn park_behind_stored(&mut self, batch: BatchId, what: OnceStored) {
        assert!(!self.is_stored(batch), "nothing waits for a batch that is in the store");
        let last = self.once_stored.back().map_or(batch, |(last, _)| *last);
        self.once_stored.push_back((batch.max(last), what));
    }

    pub(super) fn nothing_is_parked(&self) -> bool {
        self.parked.is_empty()
    }

    /// Closes the batch that was being filled.
    pub(super) fn seal(&mut self, bytes: usize) -> BatchId {
        let sealed = self.filling;
        self.filling = BatchId(sealed.0 + 1);
        self.in_flight.push_back((sealed, bytes));
        self.unreleased_bytes += bytes;
        sealed
    }

    /// Batches up to `up_to` are released.
    pub(super) fn release(&mut self, up_to: BatchId) {
        assert!(up_to < self.filling, "a batch is durable after it was handed on");
        self.released = self.released.max(up_to);
        while self.in_flight.front().is_some_and(|(batch, _)| *batch <= up_to) {
            if let Some((_, bytes)) = self.in_flight.pop_front() {
                self.unreleased_bytes -= bytes;
            }
        }
    }

    /// As [`Ledger::release`], but that [`Ledger::store`] comes for the same batches.
    pub(super) fn release_before_stored(&mut self, up_to: BatchId) {
        assert!(up_to < self.filling, "a batch is durable after it was handed on");
        self.released = self.released.max(up_to);
        while let Some((batch, bytes)) = self.in_flight.get(self.released_in_flight)
            && *batch <= up_to
        {
            self.unreleased_bytes -= bytes;
            self.released_in_flight += 1;
        }
    }

    /// The next thing that no longer has to wait.
    pub(super) fn next_released(&mut self) -> Option<Parked> {
        match self.parked.front() {
            Some((batch, _)) if *batch <= self.released => self.parked.pop_front().map(|(_, what)| what),
            _ => None,
        }
    }

    /// Batches up to `up_to` are in the store, and may be forgotten.
    pub(super) fn ingest(&mut self, up_to: BatchId) {
        assert!(up_to <= self.released, "a batch is in the store after it was released");
        self.stored = self.stored.max(up_to);
        self.ingested = self.ingested.max(up_to);
    }

    /// Batches up to `up_to` are in the store, and what is known of them is kept for a while: it is what is asked for most.
    pub(super) fn store(&mut self, up_to: BatchId, now_ms: u64) {
        self.stored = self.stored.max(up_to);
        self.release_before_stored(up_to);
        let mut bytes = 0;
        while self.in_flight.front().is_some_and(|(batch, _)| *batch <= up_to) {
            bytes += self.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
            self.released_in_flight -= 1;
        }
        self.kept_bytes += bytes;
        self.kept.push_back(Kept { until_ms: now_ms + STORED_KEPT_MS, up_to, bytes });
    }

    /// The next thing that had to wait for the store.
    pub(super) fn next_stored(&mut self) -> Option<OnceStored> {
        match self.once_stored.front() {
            Some((batch, _)) if *batch <= self.stored => self.once_stored.pop_front().map(|(_, what)| what),
            _ => None,
        }
    }

    /// Ingests what has been kept long enough, or is too much.
    pub(super) fn ingest_kept(&mut self, now_ms: u64) {
        while let Some(kept) = self.kept.front()
            && (kept.until_ms <= now_ms || self.kept_bytes > STORED_KEPT_BYTES_MAX)
        {
            self.kept_bytes -= kept.bytes;
            self.ingested = self.ingested.max(kept.up_to);
            self.kept.pop_front();
        }
    }

    /// The batch that is being filled changes a user, who is not forgotten before it is ingested. `changed_in`: the last that did.
    #[inline]
    pub(super) fn change_user(&mut self, user: UserId, changed_in: &mut BatchId) {
        if *changed_in != self.filling {
            *changed_in = self.filling;
            self.users_changed.push_back((self.filling, user));
        }
    }

    /// As [`Ledger::change_user`], of one side of a conversation.
    #[inline]
    pub(super) fn change_conversation(&mut self, of: (UserId, ConversationId), changed_in: &mut BatchId) {
        if *changed_in != self.filling {
            *changed_in = self.filling;
            self.conversations_changed.push_back((self.filling, of));
        }
    }

    /// As [`Ledger::change_user`], of a group.
    pub(super) fn change_group(&mut self, group: GroupId, changed_in: &mut BatchId) {
        if *changed_in != self.filling {
            *changed_in = self.filling;
            self.groups_changed.push_back((self.filling, group));
        }
    }

    /// Whether a change of a user, a group or a conversation is ingested and has not been looked at.
    pub(super) fn has_ingested_changes(&self) -> bool {
        self.users_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested)
            || self.conversations_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested)
            || self.groups_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested)
    }

    /// The next group that an ingested batch has changed.
    pub(super) fn next_ingested_group(&mut self) -> Option<GroupId> {
        let is_ingested = self.groups_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested);
        is_ingested.then(|| self.groups_changed.pop_front().map(|(_, group)| group))?
    }

    /// The next user whom an ingested batch has changed.
    pub(super) fn next_ingested_user(&mut self) -> Option<UserId> {
        let is_ingested = self.users_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested);
        is_ingested.then(|| self.users_changed.pop_front().map(|(_, user)| user))?
    }

    /// The next conversation that an ingested batch has changed.
    pub(super) fn next_ingested_conversation(&mut self) -> Option<(UserId, ConversationId)> {
        let is_ingested = self.conversations_changed.front().is_some_and(|(batch, _)| *batch <= self.ingested);
        is_ingested.then(|| self.conversations_changed.pop_front().map(|(_, of)| of))?
    }

    /// The answers that wait, whatever for.
    pub(super) fn answers(&self) -> Vec<Envelope> {
        let parked = self.parked.iter().filter_map(|(_, what)| match what {
            Parked::Entry { answer, .. } | Parked::Group { answer, .. } => answer.clone(),
            Parked::Answer(answer) => Some(answer.clone()),
            Parked::Sent { .. }
            | Parked::GivenUp { .. }
            | Parked::Told(_)
            | Parked::Marked(_)
            | Parked::Connect(_)
            | Parked::Devices(_) => None,
        });
        let once_stored = self.once_stored.iter().filter_map(|(_, what)| match what {
            OnceStored::Entry { answer, .. } | OnceStored::Group { answer, .. } => answer.clone(),
            OnceStored::Answer(answer) => Some(answer.clone()),
            OnceStored::Told(_) => None,
        });
        parked.chain(once_stored).collect()
    }

    /// Everything that waits, when it is certain that no batch will be released any more.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Parked> + use<> {
        self.once_stored.clear();
        std::mem::take(&mut self.parked).into_iter().map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_whenever_it_was_released() {
        for early in [false, true] {
            let mut ledger = Ledger::new(EpochId(1));
            let batches = 5;
            for _ in 0..batches {
                ledger.seal(STORED_KEPT_BYTES_MAX / 2);
            }
            if early {
                ledger.release_before_stored(BatchId(4));
                assert_eq!(ledger.unreleased_bytes(), STORED_KEPT_BYTES_MAX / 2);
            }
            for batch in 1..=batches {
                ledger.store(BatchId(batch), 0);
                ledger.ingest_kept(0);
            }
            assert_eq!((ledger.unreleased_bytes(), ledger.released_in_flight, ledger.in_flight.len()), (0, 0, 0));
            assert_eq!(ledger.ingested(), BatchId(3), "as many as are too much, {early}");
            ledger.ingest_kept(STORED_KEPT_MS);
            assert_eq!(ledger.ingested(), BatchId(batches));
            assert_eq!(ledger.kept_bytes, 0);
        }
    }
}
