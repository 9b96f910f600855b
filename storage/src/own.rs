//! PURE: the rows of a backend itself, which stand in table zero, before those of the schema: how far each lane is, and who
//! serves.
//!
//! Owns their keys and values, as all backends have them. A database has more of its own (`fdb::keys`).
//!
//! Invariant: numbers of own rows are never reused.

use crate::{
    record::{BatchId, LaneId},
    schema::Key,
    store::{Fence, Holder, StoreError, Tenure},
};

/// The table of a backend's own rows.
pub(crate) const TABLE: u8 = 0;

// Others are a database's.
pub(crate) const TENURE: u8 = 3;
pub(crate) const PROGRESS: u8 = 4;

/// Where it stands who serves.
pub(crate) fn tenure_key() -> Key {
    key(&[TABLE, TENURE])
}

/// Where it stands how far a lane is.
pub(crate) fn progress_key(lane: LaneId) -> Key {
    let [high, low] = lane.0.to_be_bytes();
    key(&[TABLE, PROGRESS, high, low])
}

/// The way back from [`progress_key`].
pub(crate) fn parse_progress_key(bytes: &[u8]) -> Result<LaneId, StoreError> {
    let lane = bytes.strip_prefix(&[TABLE, PROGRESS]).and_then(|lane| lane.try_into().ok());
    lane.map(|lane| LaneId(u16::from_be_bytes(lane))).ok_or_else(|| damaged("the key of a lane's progress", bytes))
}

fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(bytes).expect("four bytes are not too long")
}

pub(crate) fn put_progress(batch: BatchId) -> [u8; 8] {
    batch.0.to_be_bytes()
}

/// No batch is in the store if there is no row.
pub(crate) fn parse_progress(bytes: Option<&[u8]>) -> Result<BatchId, StoreError> {
    number(bytes, "a lane's progress").map(BatchId)
}

pub(crate) fn put_tenure(tenure: Tenure) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&tenure.holder.0.to_be_bytes());
    bytes[16..].copy_from_slice(&tenure.fence.0.to_be_bytes());
    bytes
}

pub(crate) fn parse_tenure(bytes: &[u8]) -> Result<Tenure, StoreError> {
    let parse = |(holder, fence): (&[u8; 16], &[u8])| {
        let (holder, fence) = (u128::from_be_bytes(*holder), u64::from_be_bytes(fence.try_into().ok()?));
        Some(Tenure { holder: Holder(holder), fence: Fence(fence) })
    };
    bytes.split_first_chunk().and_then(parse).ok_or_else(|| damaged("the tenure", bytes))
}

pub(crate) fn number(bytes: Option<&[u8]>, what: &str) -> Result<u64, StoreError> {
    let Some(bytes) = bytes else { return Ok(0) };
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged(what, bytes))
}

pub(crate) fn damaged(what: &str, bytes: &[u8]) -> StoreError {
    StoreError::Damaged { what: format!("{what} in the store is {}", bytes.escape_ascii()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_rows_read_back_and_never_change() {
        for lane in [0, 1, 300, u16::MAX].map(LaneId) {
            assert_eq!(parse_progress_key(&progress_key(lane)).unwrap(), lane);
        }
        assert_eq!(&*progress_key(LaneId(258)), [0, 4, 1, 2]);
        assert_eq!(&*tenure_key(), [0, 3]);
        let tenure = Tenure { holder: Holder(1 << 100 | 7), fence: Fence(9) };
        assert_eq!(parse_tenure(&put_tenure(tenure)).unwrap(), tenure);
        assert_eq!(parse_progress(Some(&put_progress(BatchId(9)))).unwrap(), BatchId(9));
        assert_eq!(parse_progress(None).unwrap(), BatchId(0));
        assert!(parse_progress(Some(&[1])).is_err() && parse_tenure(&[0; 23]).is_err());
        assert!(parse_progress_key(&tenure_key()).is_err());
    }
}
