//! PURE: the values of rows, as what they say. Their bytes are `codec`'s.

use proto_spec::{SendNumber, Seq, Settings, Visibility};

use crate::record::Shown;

/// Which 64 sends of a device a `sends` row is about: the send number divided by 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendsBlockNumber(pub u64);

/// The value of a `sends` row: the seqs of 64 sends, zero for a number that is not known to be used, [`SendsBlock::GIVEN_UP`] for one
/// that is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendsBlock {
    /// By the place of the send number in its block.
    pub seqs: [Seq; Self::LEN],
}

/// The value of a row of the conversation index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Which entries tell of the message.
    pub shown: Shown,
    /// Whose it is.
    pub whose: Whose,
}

/// Whose a message is, as its row in the conversation index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user's.
    Own,
    /// The other side's, and nothing has been said about it since it came: the seq that the entry has in the log of the other side.
    Came(Seq),
    /// The other side's, and something has been said about it since: its name.
    Named(Seq),
    /// The row is of before that was kept; the entry says it.
    Unsaid,
}

/// The value of a `displaced` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisplacedRow {
    /// Where the message stands.
    pub place: Seq,
    /// The seq that the change with which it came has in the log of the other side.
    pub came: Seq,
}

/// The value of a `received` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedRow {
    /// The highest seq of the other side's log that was received.
    pub up_to: Seq,
    /// The last message that was received, in the own log. Zero in a row of before it was kept.
    pub at: Seq,
    /// How many were received since they are counted.
    pub count: u64,
}

/// The value of a `delivered` or a `seen` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkRow {
    /// A seq of the sender's own log: the peer has, or has read, everything sent to them up to here.
    pub up_to: Seq,
    /// The entry of the sender's log that says so.
    pub at: Seq,
}

/// The value of a `last` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRow {
    /// Where the last message stands; zero: there is none. Its row, `received` or `sent`, may name one that is gone.
    pub place: Seq,
    /// As of this entry: a later message of the conversation is the last.
    pub at: Seq,
}

/// The value of a `read` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRow {
    /// A seq of the own log: everything in the conversation up to here has been read.
    pub up_to: Seq,
    /// The entry that says so.
    pub at: Seq,
    /// Of the messages that were received, how many have been read.
    pub count: u64,
}

/// The value of a `settings` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsRow {
    /// What they are.
    pub settings: Settings,
    /// The entry that says so.
    pub at: Seq,
}

/// The value of a `visibility` row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisibilityRow {
    /// What is hidden.
    pub visibility: Visibility,
    /// The entry that says so.
    pub at: Seq,
}

impl SendsBlock {
    /// Sends in a block. A power of two that makes the merge rare and the row small: 100 to 200 bytes when it is full.
    pub const LEN: usize = 64;

    /// In the place of the seq of a send whose number was given up: the last seq of all, which no log reaches.
    pub const GIVEN_UP: Seq = Seq(u64::MAX);

    /// The block of a send and its place in it.
    #[must_use]
    pub const fn place(number: SendNumber) -> (SendsBlockNumber, usize) {
        (SendsBlockNumber(number.0 / Self::LEN as u64), (number.0 % Self::LEN as u64) as usize)
    }

    /// The highest send number that is known, of this block of the given number.
    #[must_use]
    pub fn last_number(&self, block: SendsBlockNumber) -> Option<SendNumber> {
        let place = self.seqs.iter().rposition(|&seq| seq != Seq::ZERO)?;
        Some(SendNumber(block.0 * Self::LEN as u64 + place as u64))
    }

    /// Fills what is not known here from `older`.
    pub fn fill_from(&mut self, older: &Self) {
        for (seq, older) in self.seqs.iter_mut().zip(older.seqs) {
            if *seq == Seq::ZERO {
                *seq = older;
            }
        }
    }
}

impl Default for SendsBlock {
    fn default() -> Self {
        Self { seqs: [Seq::ZERO; Self::LEN] }
    }
}
