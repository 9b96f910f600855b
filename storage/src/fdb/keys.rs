//! PURE: where the rows of a Ringpost are in a database that others use too: all under one prefix.
//!
//! A key is the prefix, then the key of the schema. Table zero has the rows of the backend itself: the format version, the
//! fence, the tenure and the progress of each lane, whose values are numbers, big-endian, in the order of the fields; and of a cluster
//! its name and its roll (`codec::roll`), and a bell, which counts changes of owners as FoundationDB adds: little-endian.
//!
//! Invariants: a byte of a prefix is above every table number, so that no key of one prefix is among those of another, also if
//! one of the two begins with the other; numbers of own rows are never reused.

use std::ops::Range;

pub(super) use crate::own::{parse_progress, parse_tenure, put_progress, put_tenure};
use crate::{
    own::{self, PROGRESS, TABLE as OWN, TENURE},
    record::LaneId,
    roll::MemberId,
    schema::{Key, TABLES_BY_PARTITION, TABLES_BY_USER},
    store::{Fence, StoreError},
};

/// Most bytes of a prefix: it is in every key, so each of its bytes is stored millions of times.
pub const PREFIX_BYTES_MAX: usize = 32;

/// The byte after the prefix is below this in every key; those of a prefix are not.
const TABLES_END: u8 = b'!';

const _: () = {
    let tables = [TABLES_BY_PARTITION, TABLES_BY_USER];
    let (mut list, mut at) = (0, 0);
    while list < tables.len() {
        while at < tables[list].len() {
            assert!(tables[list][at] < TABLES_END);
            at += 1;
        }
        (list, at) = (list + 1, 0);
    }
};

// In the table of own rows, beside those of `own`.
const FORMAT: u8 = 1;
const FENCE: u8 = 2;
const CLUSTER: u8 = 5;
const MEMBER: u8 = 6;
const OWNER: u8 = 7;
const BELL: u8 = 8;

/// Makes and reads the keys under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    /// # Errors
    /// The prefix is not 1 to [`PREFIX_BYTES_MAX`] visible ASCII characters.
    pub(super) fn new(prefix: &str) -> Result<Self, StoreError> {
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = format!("the prefix {prefix:?} is not 1 to {PREFIX_BYTES_MAX} visible ASCII characters");
            return Err(StoreError::Refused { reason });
        }
        Ok(Self { prefix: prefix.into() })
    }

    fn under(&self, parts: [&[u8]; 2]) -> Vec<u8> {
        [&self.prefix, parts[0], parts[1]].concat()
    }

    /// Everything under the prefix.
    pub(super) fn all(&self) -> Range<Vec<u8>> {
        self.under([&[OWN], &[]])..self.under([&[TABLES_END], &[]])
    }

    pub(super) fn row(&self, key: &Key) -> Vec<u8> {
        self.under([key, &[]])
    }

    /// The way back from [`Keys::row`].
    pub(super) fn parse_row(&self, bytes: &[u8]) -> Result<Key, StoreError> {
        bytes.strip_prefix(&*self.prefix).and_then(Key::from_bytes).ok_or_else(|| own::damaged("a key", bytes))
    }

    pub(super) fn format(&self) -> Vec<u8> {
        self.under([&[OWN, FORMAT], &[]])
    }

    pub(super) fn fence(&self) -> Vec<u8> {
        self.under([&[OWN, FENCE], &[]])
    }

    pub(super) fn tenure(&self) -> Vec<u8> {
        self.under([&[OWN, TENURE], &[]])
    }

    pub(super) fn progress(&self, lane: LaneId) -> Vec<u8> {
        self.under([&[OWN, PROGRESS], &lane.0.to_be_bytes()])
    }

    /// The progress of all lanes.
    pub(super) fn all_progress(&self) -> Range<Vec<u8>> {
        self.under([&[OWN, PROGRESS], &[]])..self.under([&[OWN, PROGRESS + 1], &[]])
    }

    /// The way back from [`Keys::progress`].
    pub(super) fn parse_progress(&self, bytes: &[u8]) -> Result<LaneId, StoreError> {
        let lane = bytes.strip_prefix(&*self.prefix).and_then(|own| own.strip_prefix(&[OWN, PROGRESS]));
        let lane = lane.and_then(|lane| lane.try_into().ok()).map(u16::from_be_bytes);
        lane.map(LaneId).ok_or_else(|| own::damaged("the key of a lane's progress", bytes))
    }

    /// The name of the cluster whose the store is.
    pub(super) fn cluster(&self) -> Vec<u8> {
        self.under([&[OWN, CLUSTER], &[]])
    }

    pub(super) fn member(&self, id: MemberId) -> Vec<u8> {
        self.under([&[OWN, MEMBER], &id.0.to_be_bytes()])
    }

    pub(super) fn owner(&self, lane: LaneId) -> Vec<u8> {
        self.under([&[OWN, OWNER], &lane.0.to_be_bytes()])
    }

    pub(super) fn bell(&self) -> Vec<u8> {
        self.under([&[OWN, BELL], &[]])
    }

    /// The owners of all slots.
    pub(super) fn owners(&self) -> Range<Vec<u8>> {
        self.under([&[OWN, OWNER], &[]])..self.under([&[OWN, OWNER + 1], &[]])
    }

    /// All members and owners.
    pub(super) fn roll(&self) -> Range<Vec<u8>> {
        self.under([&[OWN, MEMBER], &[]])..self.owners().end
    }

    /// The way back from [`Keys::member`] and [`Keys::owner`].
    pub(super) fn parse_roll(&self, bytes: &[u8]) -> Result<RollRow, StoreError> {
        let own = bytes.strip_prefix(&*self.prefix).and_then(|own| own.strip_prefix(&[OWN]));
        match own {
            Some(&[MEMBER, high, low]) => Ok(RollRow::Member(MemberId(u16::from_be_bytes([high, low])))),
            Some(&[OWNER, high, low]) => Ok(RollRow::Owner(LaneId(u16::from_be_bytes([high, low])))),
            _ => Err(own::damaged("the key of a row of the roll", bytes)),
        }
    }
}

/// Whose a row of the roll is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RollRow {
    Member(MemberId),
    Owner(LaneId),
}

pub(super) fn put_format(version: u32) -> [u8; 4] {
    version.to_be_bytes()
}

pub(super) fn parse_format(bytes: &[u8]) -> Result<u32, StoreError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| own::damaged("the format version", bytes))
}

pub(super) fn put_fence(fence: Fence) -> [u8; 8] {
    fence.0.to_be_bytes()
}

/// Nobody has taken over yet if there is no row.
pub(super) fn parse_fence(bytes: Option<&[u8]>) -> Result<Fence, StoreError> {
    own::number(bytes, "the fence").map(Fence)
}

#[cfg(test)]
mod tests {
    use proto_spec::{Seq, UserId};

    use super::*;
    use crate::{
        record::BatchId,
        schema::RowKey,
        store::{Holder, Tenure},
    };

    fn keys(prefix: &str) -> Keys {
        Keys::new(prefix).unwrap()
    }

    fn some_of(keys: &Keys) -> Vec<Vec<u8>> {
        let row = |row: RowKey| keys.row(&row.encode());
        vec![
            keys.format(),
            keys.fence(),
            keys.tenure(),
            keys.progress(LaneId(0)),
            keys.progress(LaneId(u16::MAX)),
            keys.cluster(),
            keys.member(MemberId(0)),
            keys.member(MemberId(u16::MAX)),
            keys.owner(LaneId(0)),
            keys.owner(LaneId(u16::MAX)),
            keys.bell(),
            row(RowKey::Timeline { user: UserId(0), seq: Seq(0) }),
            row(RowKey::Unfinished { user: UserId(u64::MAX) }),
        ]
    }

    #[test]
    fn no_key_of_one_prefix_is_among_those_of_another() {
        let prefixes = ["a", "a!", "a~", "ab", "b", "!", "~"];
        for (a, b) in prefixes.iter().flat_map(|a| prefixes.iter().map(move |b| (a, b))) {
            let all = keys(b).all();
            for key in some_of(&keys(a)) {
                assert_eq!(all.contains(&key), a == b, "{} under {b}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn own_rows_ascend_and_are_never_rows_of_a_user() {
        let all = some_of(&keys("ringpost"));
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(keys("ringpost").all_progress().contains(&all[3]) && keys("ringpost").all_progress().contains(&all[4]));
        let of = |range: Range<Vec<u8>>| all.iter().filter(|key| range.contains(*key)).count();
        let keys = keys("ringpost");
        assert_eq!((of(keys.all_progress()), of(keys.owners()), of(keys.roll())), (2, 2, 4));
    }

    #[test]
    fn the_layout_of_own_rows_never_changes() {
        let keys = keys("rp");
        assert_eq!(keys.format(), b"rp\x00\x01");
        assert_eq!(keys.fence(), b"rp\x00\x02");
        assert_eq!(keys.tenure(), b"rp\x00\x03");
        assert_eq!(keys.progress(LaneId(258)), b"rp\x00\x04\x01\x02");
        assert_eq!(keys.cluster(), b"rp\x00\x05");
        assert_eq!(keys.member(MemberId(258)), b"rp\x00\x06\x01\x02");
        assert_eq!(keys.owner(LaneId(258)), b"rp\x00\x07\x01\x02");
        assert_eq!(keys.bell(), b"rp\x00\x08");
        let tenure = Tenure { holder: Holder(1), fence: Fence(2) };
        assert_eq!(put_tenure(tenure), *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02");
        assert_eq!(put_fence(Fence(258)), *b"\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn keys_and_values_parse_back_and_noise_does_not() {
        let keys = keys("rp");
        let key = RowKey::Timeline { user: UserId(7), seq: Seq(9) }.encode();
        assert_eq!(keys.parse_row(&keys.row(&key)).unwrap(), key);
        assert!(keys.parse_row(b"other").is_err());
        assert!(keys.parse_row(&[b"rp".as_slice(), &[1; Key::LEN_MAX + 1]].concat()).is_err());
        assert_eq!(keys.parse_progress(&keys.progress(LaneId(7))).unwrap(), LaneId(7));
        assert!(keys.parse_progress(&keys.fence()).is_err());
        assert_eq!(keys.parse_roll(&keys.member(MemberId(259))).unwrap(), RollRow::Member(MemberId(259)));
        assert_eq!(keys.parse_roll(&keys.owner(LaneId(259))).unwrap(), RollRow::Owner(LaneId(259)));
        assert!(keys.parse_roll(&keys.bell()).is_err() && keys.parse_roll(&keys.progress(LaneId(1))).is_err());
        let tenure = Tenure { holder: Holder(u128::MAX - 1), fence: Fence(u64::MAX - 1) };
        assert_eq!(parse_tenure(&put_tenure(tenure)).unwrap(), tenure);
        assert!(parse_tenure(&[0; 23]).is_err() && parse_tenure(&[0; 25]).is_err());
        assert_eq!(parse_fence(None).unwrap(), Fence(0));
        assert_eq!(parse_fence(Some(&put_fence(Fence(3)))).unwrap(), Fence(3));
        assert!(parse_fence(Some(b"")).is_err());
        assert_eq!(parse_progress(Some(&put_progress(BatchId(3)))).unwrap(), BatchId(3));
        assert_eq!(parse_format(&put_format(3)).unwrap(), 3);
    }

    #[test]
    fn a_prefix_is_short_and_visible() {
        let long = "x".repeat(PREFIX_BYTES_MAX + 1);
        for wrong in ["", "a b", "a\0", "\u{1}", "é", "\u{7f}", &long] {
            assert!(matches!(Keys::new(wrong), Err(StoreError::Refused { .. })), "{wrong:?}");
        }
        assert!(Keys::new(&long[1..]).is_ok());
    }
}
