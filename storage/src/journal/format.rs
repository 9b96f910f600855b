//! PURE: the bytes of a journal segment.
//!
//! A segment file is a header of [`SEGMENT_HEADER_BYTES`] and then records, each a header, the payload (one batch) and
//! zeros up to the next multiple of eight. What follows the last record is zero or the stale content of a file that is
//! used again, and that may be what a client chose: a payload holds texts as they came. All integers are little-endian.
//!
//! Segment header: magic (8), format version (u32), reserved (u32), segment number (u64), segment bytes (u64),
//! salt (u64), crc32c (u32) of what stands before it. The first lsn is not in it: segments are prepared before it is
//! known. The salt is random and new for every use of a file.
//!
//! Record header: mark (u32), payload length (u32), crc32c (u32), lane (u16), reserved (u16), lsn (u64), group (u64),
//! batch (u64). The group is the offset in the file at which the group of the record begins: a record whose group begins
//! behind a place was written after everything at that place had become durable. The mark is one half of the segment's
//! salt; the crc begins with the other half and covers the header without the crc, the payload and the padding. So what
//! was not written to this segment since it was prepared, be it stale or made up by a client, is no record of it, nor
//! the torn head of one.

use std::fmt;

use thiserror::Error;

use crate::{
    record::{BatchId, LaneId},
    schema::FORMAT_VERSION,
};

/// Where records begin: one page, so that no write of records ever touches the header's page.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;

/// What a record adds to its payload, before padding.
pub const RECORD_HEADER_BYTES: usize = 40;

/// Records begin at multiples of this, so that a search for them takes an eighth of the looks.
pub const RECORD_ALIGNMENT: usize = 8;

/// Smallest segment: enough for two records of the longest text, so that small journals can be tested.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest segment: it is read into memory whole, and its rows take about four times its bytes.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Largest batch of a full-sized segment. A segment is sealed when less room than one such batch is left, so this is
/// also what a segment may waste: a sixteenth of 64 MiB. A turn that receives a megabyte makes half of this.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Segments that must fit in the journal: one that is written, one prepared ahead, one that is ingested.
pub const SEGMENTS_MIN: u64 = 3;

const SEGMENT_MAGIC: [u8; 8] = *b"RINGPJNL";
const SEGMENT_HEADER_USED: usize = 44;

const _: () = assert!(SEGMENT_HEADER_USED as u64 <= SEGMENT_HEADER_BYTES);
const _: () = assert!((SEGMENT_HEADER_BYTES as usize).is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(SEGMENT_BYTES_MAX < u32::MAX as u64);

/// Names a segment: 1, 2, 3, ... for the life of the data folder. The file may have had other numbers before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The number that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells the records of a segment from all other bytes: a random number that no client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub u64);

impl Salt {
    /// What every record of the segment begins with. Never zero: zeros are no record.
    const fn mark(self) -> u32 {
        (self.0 >> 32) as u32 | 1
    }

    /// What the crc of every record of the segment begins with.
    const fn seed(self) -> u32 {
        self.0 as u32
    }
}

/// The place of a batch in the one order of the journal: 1, 2, 3, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The place that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a journal goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first segment to prepare: higher than any that was ever used.
    pub segment: SegmentNumber,
    /// The next batch's place.
    pub lsn: Lsn,
}

impl Default for Position {
    fn default() -> Self {
        Self { segment: SegmentNumber(1), lsn: Lsn(1) }
    }
}

/// The sizes of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Most bytes of all segment files together.
    pub journal_bytes_max: u64,
    /// Room that must be left for new work to be admitted: what all shards may have in flight.
    pub reserve_bytes: u64,
}

impl Default for JournalConfig {
    /// 64 MiB segments: a run that the store ingests in about a second; a journal of 1 GiB: minutes of a store outage
    /// under load; a reserve of 16 MiB: a few turns of every core.
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, journal_bytes_max: 1024 * 1024 * 1024, reserve_bytes: 16 * 1024 * 1024 }
    }
}

/// Sizes that do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JournalConfigError {
    /// A segment that is too small, too large or not made of pages.
    #[error("segment_bytes is {bytes}; it must be a multiple of 4096 from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}")]
    Segment {
        /// What was asked for.
        bytes: u64,
    },
    /// A journal that cannot hold the segments it needs.
    #[error("journal_bytes_max is {bytes}; it must be at least {SEGMENTS_MIN} segments, which are {min}")]
    Journal {
        /// What was asked for.
        bytes: u64,
        /// What the segments need.
        min: u64,
    },
    /// A reserve that an empty journal could not offer.
    #[error("reserve_bytes is {bytes}; it must be at most {max}, the room of one segment")]
    Reserve {
        /// What was asked for.
        bytes: u64,
        /// The room of a segment.
        max: u64,
    },
}

impl JournalConfig {
    /// Whether a journal can work with these sizes.
    ///
    /// # Errors
    /// A size is out of its range; the error says which and what the range is.
    pub const fn validate(&self) -> Result<(), JournalConfigError> {
        let bytes = self.segment_bytes;
        if bytes < SEGMENT_BYTES_MIN || bytes > SEGMENT_BYTES_MAX || !bytes.is_multiple_of(4096) {
            return Err(JournalConfigError::Segment { bytes });
        }
        if self.segments_max() < SEGMENTS_MIN {
            let min = SEGMENTS_MIN * self.segment_bytes;
            return Err(JournalConfigError::Journal { bytes: self.journal_bytes_max, min });
        }
        if self.reserve_bytes > self.segment_room() {
            return Err(JournalConfigError::Reserve { bytes: self.reserve_bytes, max: self.segment_room() });
        }
        Ok(())
    }

    /// Largest payload of [`super::Writer::push`]: 4 MiB, or a little less than half of a small segment.
    #[must_use]
    pub const fn batch_bytes_max(&self) -> usize {
        let half = (self.segment_bytes - SEGMENT_HEADER_BYTES) / 2 - RECORD_HEADER_BYTES as u64;
        let max = if half < BATCH_BYTES_MAX { half } else { BATCH_BYTES_MAX } as usize;
        max - max % RECORD_ALIGNMENT
    }

    /// How many segment files there may be.
    #[must_use]
    pub const fn segments_max(&self) -> u64 {
        self.journal_bytes_max / self.segment_bytes
    }

    /// Bytes of records that a segment takes for certain before it is sealed.
    #[must_use]
    pub const fn segment_room(&self) -> u64 {
        self.segment_bytes - SEGMENT_HEADER_BYTES - record_len(self.batch_bytes_max()) as u64
    }
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number.
    pub number: SegmentNumber,
    /// The size of the file.
    pub bytes: u64,
    /// The salt of its records.
    pub salt: Salt,
}

/// Why the start of a file is not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentHeaderError {
    /// Something else, or nothing.
    #[error("it is not a journal segment")]
    Foreign,
    /// A format that this version does not know.
    #[error("it has format version {found}, this version reads up to {FORMAT_VERSION}")]
    Newer {
        /// The version of the file.
        found: u32,
    },
    /// The checksum does not match.
    #[error("its header is damaged")]
    Damaged,
}

impl SegmentHeader {
    /// The page that begins a segment file.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut page = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        page.extend(SEGMENT_MAGIC);
        page.extend(FORMAT_VERSION.to_le_bytes());
        page.extend(0u32.to_le_bytes());
        page.extend(self.number.0.to_le_bytes());
        page.extend(self.bytes.to_le_bytes());
        page.extend(self.salt.0.to_le_bytes());
        page.extend(crc32c::crc32c(&page).to_le_bytes());
        debug_assert_eq!(page.len(), SEGMENT_HEADER_USED);
        page.resize(SEGMENT_HEADER_BYTES as usize, 0);
        page
    }

    /// Reads the page that begins a segment file.
    ///
    /// # Errors
    /// The page was not written by [`SegmentHeader::encode`] of this version.
    pub fn decode(page: &[u8]) -> Result<Self, SegmentHeaderError> {
        let Some(head) = page.first_chunk::<SEGMENT_HEADER_USED>() else { return Err(SegmentHeaderError::Foreign) };
        if head[..8] != SEGMENT_MAGIC {
            return Err(SegmentHeaderError::Foreign);
        }
        // The version comes before the checksum: a newer version may have another header.
        let found = u32_at(head, 8);
        if found > FORMAT_VERSION {
            return Err(SegmentHeaderError::Newer { found });
        }
        if crc32c::crc32c(&head[..SEGMENT_HEADER_USED - 4]) != u32_at(head, SEGMENT_HEADER_USED - 4) {
            return Err(SegmentHeaderError::Damaged);
        }
        Ok(Self { number: SegmentNumber(u64_at(head, 16)), bytes: u64_at(head, 24), salt: Salt(u64_at(head, 32)) })
    }
}

/// What the header of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub len: usize,
    /// Whose batch.
    pub lane: LaneId,
    /// The lane's number of it.
    pub batch: BatchId,
    /// Its place in the journal.
    pub lsn: Lsn,
    /// Where in the file the records begin that were written and synced together with it.
    pub group: u64,
}

/// Bytes that a record with this payload takes, padding included.
#[must_use]
pub const fn record_len(payload: usize) -> usize {
    (RECORD_HEADER_BYTES + payload).next_multiple_of(RECORD_ALIGNMENT)
}

/// Appends a record that still lacks its mark, its group and its crc: they are known when the group is formed.
pub(super) fn put_unsealed(out: &mut Vec<u8>, lane: LaneId, batch: BatchId, lsn: Lsn, payload: &[u8]) {
    debug_assert!(out.len().is_multiple_of(RECORD_ALIGNMENT));
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..14].copy_from_slice(&lane.0.to_le_bytes());
    header[16..24].copy_from_slice(&lsn.0.to_le_bytes());
    header[32..40].copy_from_slice(&batch.0.to_le_bytes());
    let end = out.len() + record_len(payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out.resize(end, 0);
}

/// Gives a record its mark, its group and its crc.
pub(super) fn seal(record: &mut [u8], salt: Salt, group: u64) {
    record[0..4].copy_from_slice(&salt.mark().to_le_bytes());
    record[24..32].copy_from_slice(&group.to_le_bytes());
    let crc = crc(salt, record);
    record[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// The header at the front of `bytes`, if it has the mark of the segment and the record would fit. The rest of the record
/// is not looked at: it may be torn.
pub(super) fn peek(bytes: &[u8], salt: Salt) -> Option<RecordHeader> {
    if bytes.first_chunk() != Some(&salt.mark().to_le_bytes()) {
        return None;
    }
    header(bytes)
}

/// The header at the front of `bytes`, whatever its mark; `None` when the record would not fit.
pub(super) fn header(bytes: &[u8]) -> Option<RecordHeader> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let len = u32_at(header, 4) as usize;
    if record_len(len) > bytes.len() {
        return None;
    }
    Some(RecordHeader {
        len,
        lane: LaneId(u16::from_le_bytes([header[12], header[13]])),
        lsn: Lsn(u64_at(header, 16)),
        group: u64_at(header, 24),
        batch: BatchId(u64_at(header, 32)),
    })
}

/// The record at the front of `bytes` if it is whole and was written to this segment: its header and its payload.
#[must_use]
pub fn verify(bytes: &[u8], salt: Salt) -> Option<(RecordHeader, &[u8])> {
    let header = peek(bytes, salt)?;
    let record = &bytes[..record_len(header.len)];
    if u32_at(record, 8) != crc(salt, record) {
        return None;
    }
    Some((header, &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.len]))
}

/// Over the record with its padding, without the crc itself.
fn crc(salt: Salt, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt.seed(), &record[..8]);
    crc32c::crc32c_append(crc, &record[12..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_unsealed(&mut bytes, LaneId(3), BatchId(9), Lsn(12), payload);
        seal(&mut bytes, SALT, 4096);
        bytes
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = record(b"payload");
        let header = RecordHeader { len: 7, lane: LaneId(3), batch: BatchId(9), lsn: Lsn(12), group: 4096 };
        assert_eq!(verify(&bytes, SALT), Some((header, &b"payload"[..])));
        assert_eq!(bytes.len(), 48);
    }

    #[test]
    fn a_record_under_a_salt_that_differs_in_any_bit_is_not_taken() {
        let bytes = record(b"payload");
        for bit in 0..64 {
            // The lowest bit of the mark is always set.
            let is_taken = verify(&bytes, Salt(SALT.0 ^ 1 << bit)).is_some();
            assert_eq!(is_taken, bit == 32, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_no_record_whatever_the_salt() {
        assert_eq!(peek(&[0; 64], Salt(0)), None);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_of_a_record_is_seen() {
        let whole = record(b"payload");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&bytes, SALT), None, "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert_eq!(verify(&whole[..cut], SALT), None, "cut {cut}");
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_names_what_is_wrong() {
        let header = SegmentHeader { number: SegmentNumber(7), bytes: 65536, salt: SALT };
        let page = header.encode();
        assert_eq!(SegmentHeader::decode(&page), Ok(header));
        assert_eq!(SegmentHeader::decode(&page[..20]), Err(SegmentHeaderError::Foreign));
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(SegmentHeaderError::Foreign));
        let mut newer = page.clone();
        newer[8] = 2;
        assert_eq!(SegmentHeader::decode(&newer), Err(SegmentHeaderError::Newer { found: 2 }));
        let mut damaged = page;
        damaged[33] ^= 1;
        assert_eq!(SegmentHeader::decode(&damaged), Err(SegmentHeaderError::Damaged));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_with_the_range() {
        assert_eq!(JournalConfig::default().validate(), Ok(()));
        let small = JournalConfig { segment_bytes: 65536, journal_bytes_max: 3 * 65536, reserve_bytes: 0 };
        assert_eq!(small.validate(), Ok(()));
        assert!(small.batch_bytes_max() > 16 * 1024 + 256);
        let odd = JournalConfig { segment_bytes: 65537, ..small };
        assert_eq!(odd.validate(), Err(JournalConfigError::Segment { bytes: 65537 }));
        let tight = JournalConfig { journal_bytes_max: 2 * 65536, ..small };
        assert_eq!(tight.validate(), Err(JournalConfigError::Journal { bytes: 131_072, min: 196_608 }));
        let greedy = JournalConfig { reserve_bytes: 65536, ..small };
        assert!(matches!(greedy.validate(), Err(JournalConfigError::Reserve { bytes: 65536, .. })));
    }
}
