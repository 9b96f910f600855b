//! PURE: the bytes of a stored key, and their order. What is in them is `schema`'s.

use std::{cmp::Ordering, fmt, ops::Deref};

use proto_spec::UserId;
use thiserror::Error;

use super::{RowKey, partition_of};

/// A stored key: at most [`Key::LEN_MAX`] bytes, kept in place. Orders as its bytes do.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    // The padding is zero, and the length decides last: so the order is that of the bytes.
    bytes: [u8; Self::LEN_MAX],
    len: u8,
}

impl Key {
    /// The bytes as numbers that order as they do; the last one takes up some of the one before it again.
    fn words(&self) -> [u64; 4] {
        [0, 8, 16, Self::LEN_MAX - 8].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[at..at + 8]);
            u64::from_be_bytes(word)
        })
    }
}

// By words: a run of a journal segment sorts millions of keys.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words().cmp(&other.words()).then(self.len.cmp(&other.len))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bytes that are not a key of this version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a key of a known table: {}", hex(bytes))]
pub struct KeyError {
    /// What was found.
    pub bytes: Vec<u8>,
}

impl Key {
    /// Table, partition, user and two more numbers.
    pub const LEN_MAX: usize = 1 + 2 + 3 * 8;

    /// A key of these bytes, if it is not too long to be one.
    #[must_use]
    pub fn from_bytes(source: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::LEN_MAX];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self { bytes, len: source.len() as u8 })
    }

    /// The key that follows immediately.
    pub(crate) fn successor(self) -> Option<Self> {
        let mut bytes = self.to_vec();
        if bytes.len() < Self::LEN_MAX {
            bytes.push(0);
        } else {
            while bytes.last() == Some(&u8::MAX) {
                bytes.pop();
            }
            *bytes.last_mut()? += 1;
        }
        Self::from_bytes(&bytes)
    }

    pub(super) fn of_table(table: u8) -> Self {
        let mut bytes = [0; Self::LEN_MAX];
        bytes[0] = table;
        Self { bytes, len: 1 }
    }

    /// The highest key that a table can have.
    pub(super) const fn last_of_table(table: u8) -> Self {
        let mut last = Self { bytes: [u8::MAX; Self::LEN_MAX], len: Self::LEN_MAX as u8 };
        last.bytes[0] = table;
        last
    }

    /// Of a group: of the user beside whom it is.
    pub(super) fn of_user(table: u8, user: UserId) -> Self {
        let mut key = Self::of_table(table);
        key.bytes[1..3].copy_from_slice(&partition_of(user).to_be_bytes());
        key.len = 3;
        key.then(user.0)
    }

    pub(super) fn then_byte(mut self, byte: u8) -> Self {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
        self
    }

    pub(super) fn then(mut self, number: u64) -> Self {
        let start = usize::from(self.len);
        self.bytes[start..start + 8].copy_from_slice(&number.to_be_bytes());
        self.len += 8;
        self
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RowKey::decode(self) {
            Ok(row) => row.fmt(f),
            Err(_) => write!(f, "Key({})", hex(self)),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
