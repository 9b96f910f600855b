//! PURE: group commit. Decides which batches are written together, where, and what a finished write means.
//!
//! While a write and its sync are on their way, batches gather; then they are the next group. Does no I/O: the caller
//! writes the bytes of a [`Write`] at their place, syncs the file's data, and reports. After a failed *sync* the caller
//! must not call this again: what a failed sync left on the disk is not known.
//!
//! Invariants: one write is in flight at a time; a batch is never split over groups or segments; batches are written
//! in the order in which they were pushed; the current segment always has room for one batch of the largest size
//! (else it is sealed), so that a group is only ever held up by a missing segment.

use std::collections::VecDeque;

use super::format::{self, JournalConfig, Lsn, Position, SEGMENT_HEADER_BYTES, Salt, SegmentNumber, record_len};
use crate::record::{BatchId, LaneId};

/// Most bytes of a group, unless a single batch is larger: a disk of 1 GB/s writes this in a millisecond, and a sync per
/// megabyte costs less than the write.
pub const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// One group, to be written at its place and then synced (data only) by the caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// Which file.
    pub segment: SegmentNumber,
    /// Where in the file.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a finished write has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Everything up to and including this batch of the lane is durable. Each lane at most once.
    pub synced: Vec<(LaneId, BatchId)>,
    /// The write filled its segment.
    pub sealed: Option<Sealed>,
    /// How large the group was.
    pub group: GroupStats,
}

/// A segment that will not be written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which.
    pub segment: SegmentNumber,
    /// Where in the file its records end.
    pub end: u64,
    /// Everything up to and including this batch of the lane is in this segment or an earlier one.
    pub completes: Vec<(LaneId, BatchId)>,
}

/// The size of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Batches in it.
    pub batches: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Whether new work may be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room for at least the reserve.
    Open,
    /// The journal has its full size: ingestion is behind.
    Behind,
    /// There would be room, but the segments for it have not been prepared (yet): the disk is slow or full.
    NoSegment,
}

/// What a writer has done since it was made, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Groups that became durable.
    pub groups: u64,
    /// Batches that became durable.
    pub batches: u64,
    /// Bytes that became durable.
    pub bytes: u64,
    /// Writes that failed and were handed out again.
    pub write_failures: u64,
    /// Bytes that wait for their group.
    pub pending_bytes: u64,
    /// Segments that are sealed and not released.
    pub sealed_segments: u64,
}

/// The state of group commit.
#[derive(Debug)]
pub struct Writer {
    config: JournalConfig,
    next_lsn: Lsn,
    /// Records of the batches that wait, in order, without their mark, group and crc.
    pending: Vec<u8>,
    /// A buffer that came back from a write.
    recycled: Vec<u8>,
    in_flight: InFlight,
    current: Option<Current>,
    /// Prepared and not begun, by ascending number.
    prepared: VecDeque<(SegmentNumber, Salt)>,
    /// Asked for and not yet prepared.
    asked: bool,
    next_segment: SegmentNumber,
    sealed_segments: u64,
    counters: Counters,
}

#[derive(Debug)]
enum InFlight {
    Nothing,
    /// Handed out; the counts are those of the group.
    Group(Group),
    /// Failed; to be handed out again, the same bytes at the same place.
    Failed(Group, Vec<u8>),
}

#[derive(Debug)]
struct Group {
    stats: GroupStats,
    synced: Vec<(LaneId, BatchId)>,
}

#[derive(Debug)]
struct Current {
    segment: SegmentNumber,
    salt: Salt,
    /// Where the next group goes: everything before is durable.
    offset: u64,
    completes: Vec<(LaneId, BatchId)>,
}

impl Writer {
    /// A writer that goes on at `next`. It has no segment yet.
    ///
    /// # Panics
    /// The sizes do not pass [`JournalConfig::validate`].
    #[must_use]
    pub fn new(config: JournalConfig, next: Position) -> Self {
        config.validate().expect("the caller has validated the sizes");
        Self {
            config,
            next_lsn: next.lsn,
            pending: Vec::new(),
            recycled: Vec::new(),
            in_flight: InFlight::Nothing,
            current: None,
            prepared: VecDeque::new(),
            asked: false,
            next_segment: next.segment,
            sealed_segments: 0,
            counters: Counters::default(),
        }
    }

    /// The segment that the caller should prepare now, if any: a spare is kept ahead as far as the journal's size
    /// allows, or two where one would not hold the reserve beside what is written. Each is asked for once.
    pub fn wants_segment(&mut self) -> Option<SegmentNumber> {
        if self.asked || self.prepared.len() >= self.spares() || self.segments_held() >= self.config.segments_max() {
            return None;
        }
        self.asked = true;
        Some(self.next_segment)
    }

    /// The segment that was asked for is an empty file now, which was prepared with this salt.
    ///
    /// # Panics
    /// It is not the segment that was asked for.
    pub fn add_segment(&mut self, number: SegmentNumber, salt: Salt) {
        assert!(self.asked && number == self.next_segment, "segment {number} was not asked for");
        self.asked = false;
        self.next_segment = number.next();
        self.prepared.push_back((number, salt));
    }

    /// How many prepared segments are kept ahead.
    fn spares(&self) -> usize {
        1 + usize::from(2 * self.config.reserve_bytes > self.config.segment_room())
    }

    /// The segment that was asked for could not be prepared: it will be asked for again.
    pub fn prepare_failed(&mut self) {
        self.asked = false;
    }

    /// Takes a batch into the next group.
    ///
    /// # Panics
    /// The payload exceeds [`JournalConfig::batch_bytes_max`]: what makes batches must bound them.
    pub fn push(&mut self, lane: LaneId, batch: BatchId, payload: &[u8]) {
        let max = self.config.batch_bytes_max();
        assert!(payload.len() <= max, "a batch of {} bytes, at most {max} are allowed", payload.len());
        format::put_unsealed(&mut self.pending, lane, batch, self.next_lsn, payload);
        self.next_lsn = self.next_lsn.next();
    }

    /// The next group, if one can be written: none is in flight, batches wait, and there is a segment.
    pub fn next_write(&mut self) -> Option<Write> {
        match std::mem::replace(&mut self.in_flight, InFlight::Nothing) {
            InFlight::Nothing => self.form_group(),
            InFlight::Failed(group, bytes) => {
                self.in_flight = InFlight::Group(group);
                let current = self.current.as_ref().expect("a failed write has a segment");
                Some(Write { segment: current.segment, offset: current.offset, bytes })
            }
            group @ InFlight::Group(_) => {
                self.in_flight = group;
                None
            }
        }
    }

    fn form_group(&mut self) -> Option<Write> {
        if self.pending.is_empty() {
            return None;
        }
        let config = self.config;
        let current = match &mut self.current {
            Some(current) => current,
            none => {
                let (segment, salt) = self.prepared.pop_front()?;
                none.insert(Current::begin(segment, salt))
            }
        };
        let room = (config.segment_bytes - current.offset) as usize;
        let (len, group) = seal_group(&mut self.pending, current, room);
        // At least one batch fits: the segment would have been sealed otherwise.
        assert!(len > 0 && current.offset + len as u64 <= config.segment_bytes);

        let mut rest = std::mem::take(&mut self.recycled);
        rest.clear();
        rest.extend_from_slice(&self.pending[len..]);
        let mut bytes = std::mem::replace(&mut self.pending, rest);
        bytes.truncate(len);

        self.in_flight = InFlight::Group(group);
        Some(Write { segment: current.segment, offset: current.offset, bytes })
    }

    /// The write in flight and its sync have succeeded; its buffer comes back.
    ///
    /// # Panics
    /// No write is in flight.
    pub fn written(&mut self, recycled: Vec<u8>) -> Done {
        let InFlight::Group(group) = std::mem::replace(&mut self.in_flight, InFlight::Nothing) else {
            panic!("no write is in flight");
        };
        self.recycled = recycled;
        self.counters.groups += 1;
        self.counters.batches += group.stats.batches;
        self.counters.bytes += group.stats.bytes;

        let current = self.current.as_mut().expect("a write has a segment");
        current.offset += group.stats.bytes;
        for &(lane, batch) in &group.synced {
            raise(&mut current.completes, lane, batch);
        }
        let full = current.offset + record_len(self.config.batch_bytes_max()) as u64 > self.config.segment_bytes;
        let sealed = if full { self.seal() } else { None };
        Done { synced: group.synced, sealed, group: group.stats }
    }

    /// The write in flight has failed, for want of room for example: the same group is handed out again. Not for a
    /// failed sync.
    ///
    /// # Panics
    /// No write is in flight.
    pub fn write_failed(&mut self, bytes: Vec<u8>) {
        let InFlight::Group(group) = std::mem::replace(&mut self.in_flight, InFlight::Nothing) else {
            panic!("no write is in flight");
        };
        assert_eq!(bytes.len() as u64, group.stats.bytes, "not the bytes of the write in flight");
        self.counters.write_failures += 1;
        self.in_flight = InFlight::Failed(group, bytes);
    }

    /// Seals the current segment before it is full. `None` if nothing is in it or a write is in flight (or must be
    /// repeated).
    pub fn seal(&mut self) -> Option<Sealed> {
        if !matches!(self.in_flight, InFlight::Nothing) || self.current.as_ref()?.is_empty() {
            return None;
        }
        let Current { segment, offset: end, completes, .. } = self.current.take()?;
        self.sealed_segments += 1;
        Some(Sealed { segment, end, completes })
    }

    /// A sealed segment has been ingested and its file freed: its room counts again.
    ///
    /// # Panics
    /// More segments are released than were sealed.
    pub fn released(&mut self, segment: SegmentNumber) {
        assert!(self.sealed_segments > 0, "segment {segment} is released but none is sealed");
        self.sealed_segments -= 1;
    }

    /// Whether new work may be admitted: whether the room left is at least the reserve.
    #[must_use]
    pub fn admission(&self) -> Room {
        let room = self.config.segment_room();
        let (used, begun) = self.current.as_ref().map_or((0, 0), |current| (current.offset - SEGMENT_HEADER_BYTES, 1));
        let needed = used + self.pending.len() as u64 + self.in_flight_bytes() + self.config.reserve_bytes;
        let prepared = begun + self.prepared.len() as u64;
        if needed > (self.config.segments_max() - self.sealed_segments) * room {
            Room::Behind
        } else if needed > prepared * room {
            Room::NoSegment
        } else {
            Room::Open
        }
    }

    /// Whether everything that was pushed is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && matches!(self.in_flight, InFlight::Nothing)
    }

    /// What has been done and what is held.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { pending_bytes: self.pending.len() as u64, sealed_segments: self.sealed_segments, ..self.counters }
    }

    fn in_flight_bytes(&self) -> u64 {
        match &self.in_flight {
            InFlight::Nothing => 0,
            InFlight::Group(group) | InFlight::Failed(group, _) => group.stats.bytes,
        }
    }

    fn segments_held(&self) -> u64 {
        self.sealed_segments + u64::from(self.current.is_some()) + self.prepared.len() as u64
    }
}

impl Current {
    const fn begin(segment: SegmentNumber, salt: Salt) -> Self {
        Self { segment, salt, offset: SEGMENT_HEADER_BYTES, completes: Vec::new() }
    }

    const fn is_empty(&self) -> bool {
        self.offset == SEGMENT_HEADER_BYTES
    }
}

/// Makes a group of the records at the front of `pending`: as many as fit in the room, but no more than
/// [`GROUP_BYTES_MAX`] unless the first alone is larger. Gives the group's length.
fn seal_group(pending: &mut [u8], current: &Current, room: usize) -> (usize, Group) {
    let mut group = Group { stats: GroupStats::default(), synced: Vec::new() };
    let mut end = 0;
    while let Some(header) = format::header(&pending[end..]) {
        let next = end + record_len(header.len);
        if next > room || (next > GROUP_BYTES_MAX && end > 0) {
            break;
        }
        format::seal(&mut pending[end..next], current.salt, current.offset);
        raise(&mut group.synced, header.lane, header.batch);
        group.stats.batches += 1;
        end = next;
    }
    group.stats.bytes = end as u64;
    (end, group)
}

/// Sets the lane's watermark, which never decreases.
fn raise(marks: &mut Vec<(LaneId, BatchId)>, lane: LaneId, batch: BatchId) {
    match marks.iter_mut().find(|(of, _)| *of == lane) {
        Some((_, mark)) => {
            assert!(*mark < batch, "batches of a lane are pushed in order");
            *mark = batch;
        }
        None => marks.push((lane, batch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: JournalConfig =
        JournalConfig { segment_bytes: 65536, journal_bytes_max: 4 * 65536, reserve_bytes: 1000 };
    const CORE: LaneId = LaneId(0);

    fn writer() -> Writer {
        Writer::new(CONFIG, Position::default())
    }

    /// A writer with a segment and a spare.
    fn ready() -> Writer {
        let mut writer = writer();
        prepare(&mut writer);
        writer
    }

    fn prepare(writer: &mut Writer) {
        while let Some(number) = writer.wants_segment() {
            writer.add_segment(number, salt(number));
        }
    }

    fn salt(number: SegmentNumber) -> Salt {
        Salt(number.0 << 48 | 7)
    }

    fn read(write: &Write) -> Vec<(Lsn, u64, BatchId)> {
        let mut at = 0;
        let mut read = Vec::new();
        while at < write.bytes.len() {
            let (header, _) = format::verify(&write.bytes[at..], salt(write.segment)).expect("a whole record");
            read.push((header.lsn, header.group, header.batch));
            at += record_len(header.len);
        }
        read
    }

    #[test]
    fn what_is_pushed_during_a_write_is_the_next_group() {
        let mut writer = ready();
        writer.push(CORE, BatchId(1), b"one");
        let first = writer.next_write().unwrap();
        writer.push(CORE, BatchId(2), b"two");
        writer.push(LaneId(1), BatchId(1), b"three");
        assert_eq!(writer.next_write(), None);
        assert_eq!(read(&first), [(Lsn(1), first.offset, BatchId(1))]);
        assert_eq!(first.offset, SEGMENT_HEADER_BYTES);
        let len = first.bytes.len() as u64;

        let done = writer.written(first.bytes);
        assert_eq!(done.synced, [(CORE, BatchId(1))]);
        assert_eq!(done.group, GroupStats { batches: 1, bytes: len });
        let second = writer.next_write().unwrap();
        assert_eq!(second.offset, SEGMENT_HEADER_BYTES + len);
        assert_eq!(read(&second), [(Lsn(2), second.offset, BatchId(2)), (Lsn(3), second.offset, BatchId(1))]);
        assert_eq!(writer.written(second.bytes).synced, [(CORE, BatchId(2)), (LaneId(1), BatchId(1))]);
        assert!(writer.is_idle());
    }

    #[test]
    fn a_lane_is_named_once_with_its_last_batch() {
        let mut writer = ready();
        (1..=3).for_each(|batch| writer.push(CORE, BatchId(batch), b"x"));
        let write = writer.next_write().unwrap();
        assert_eq!(writer.written(write.bytes).synced, [(CORE, BatchId(3))]);
    }

    #[test]
    fn a_failed_write_is_handed_out_again_unchanged() {
        let mut writer = ready();
        writer.push(CORE, BatchId(1), b"one");
        let write = writer.next_write().unwrap();
        let (offset, bytes) = (write.offset, write.bytes.clone());
        writer.write_failed(write.bytes);
        writer.push(CORE, BatchId(2), b"two");
        assert_eq!(writer.seal(), None);
        let again = writer.next_write().unwrap();
        assert_eq!((again.offset, &again.bytes), (offset, &bytes));
        assert_eq!(writer.next_write(), None);
        assert_eq!(writer.written(again.bytes).synced, [(CORE, BatchId(1))]);
        assert_eq!(writer.counters().write_failures, 1);
    }

    #[test]
    fn without_a_segment_batches_wait() {
        let mut writer = writer();
        assert_eq!(writer.admission(), Room::NoSegment);
        writer.push(CORE, BatchId(1), b"one");
        assert_eq!(writer.next_write(), None);
        assert_eq!(writer.wants_segment(), Some(SegmentNumber(1)));
        assert_eq!(writer.wants_segment(), None);
        writer.prepare_failed();
        prepare(&mut writer);
        assert_eq!(writer.admission(), Room::Open);
        assert!(writer.next_write().is_some());
        assert_eq!(writer.wants_segment(), Some(SegmentNumber(2)), "a spare is wanted once the first is begun");
    }

    #[test]
    fn a_reserve_of_half_a_segment_keeps_two_spares_so_that_a_start_admits_sends() {
        let config = JournalConfig { reserve_bytes: CONFIG.segment_room(), ..CONFIG };
        let mut writer = Writer::new(config, Position::default());
        while let Some(segment) = writer.wants_segment() {
            writer.add_segment(segment, Salt(segment.0));
        }
        assert_eq!(writer.prepared.len(), 2);
        writer.push(CORE, BatchId(1), b"x");
        assert!(writer.next_write().is_some());
        assert_eq!(writer.admission(), Room::Open);
    }

    #[test]
    fn a_segment_that_may_not_hold_the_next_batch_is_sealed() {
        let mut writer = ready();
        let largest = vec![7; CONFIG.batch_bytes_max()];
        writer.push(CORE, BatchId(1), &largest);
        let write = writer.next_write().unwrap();
        assert_eq!(writer.written(write.bytes).sealed, None);
        writer.push(CORE, BatchId(2), &largest);
        let write = writer.next_write().unwrap();
        let end = write.offset + write.bytes.len() as u64;
        let done = writer.written(write.bytes);
        assert_eq!(done.sealed, Some(Sealed { segment: SegmentNumber(1), end, completes: vec![(CORE, BatchId(2))] }));
        assert_eq!(writer.counters().sealed_segments, 1);
    }

    #[test]
    fn a_group_never_exceeds_its_segment() {
        let mut writer = ready();
        (1..=200).for_each(|batch| writer.push(CORE, BatchId(batch), &[7; 1000]));
        let mut durable = 0;
        let mut segments = Vec::new();
        while !writer.is_idle() {
            prepare(&mut writer);
            let write = writer.next_write().unwrap();
            assert!(write.offset + write.bytes.len() as u64 <= CONFIG.segment_bytes);
            segments.push(write.segment.0);
            let done = writer.written(write.bytes);
            durable += done.group.batches;
            assert_eq!(done.synced, [(CORE, BatchId(durable))]);
        }
        assert_eq!(durable, 200);
        assert_eq!(segments, [1, 2, 3, 4]);
    }

    #[test]
    fn a_group_is_bounded_in_a_large_segment() {
        let mut writer = Writer::new(JournalConfig::default(), Position::default());
        prepare(&mut writer);
        (1..=40).for_each(|batch| writer.push(CORE, BatchId(batch), &[7; 100_000]));
        writer.push(CORE, BatchId(41), &vec![7; 2 * GROUP_BYTES_MAX]);
        let mut groups = Vec::new();
        while let Some(write) = writer.next_write() {
            groups.push(writer.written(write.bytes).group.batches);
        }
        assert_eq!(groups, [10, 10, 10, 10, 1]);
    }

    #[test]
    fn sealing_early_takes_what_is_there_and_nothing_twice() {
        let mut writer = ready();
        assert_eq!(writer.seal(), None);
        writer.push(CORE, BatchId(1), b"one");
        let write = writer.next_write().unwrap();
        assert_eq!(writer.seal(), None, "a write is in flight");
        writer.written(write.bytes);
        assert_eq!(writer.seal().unwrap().completes, [(CORE, BatchId(1))]);
        assert_eq!(writer.seal(), None);
    }

    #[test]
    fn a_full_journal_closes_and_opens_again_when_a_segment_is_released() {
        let mut writer = ready();
        let mut batch = 0;
        while writer.admission() == Room::Open {
            batch += 1;
            writer.push(CORE, BatchId(batch), &[7; 900]);
            let write = writer.next_write().unwrap();
            writer.written(write.bytes);
            prepare(&mut writer);
        }
        assert_eq!(writer.admission(), Room::Behind);
        assert_eq!(writer.wants_segment(), None);
        // What was admitted before is still written: that is what the reserve is for.
        writer.push(CORE, BatchId(batch + 1), &[7; 900]);
        let write = writer.next_write().unwrap();
        writer.written(write.bytes);
        writer.released(SegmentNumber(1));
        assert_eq!(writer.admission(), Room::NoSegment);
        prepare(&mut writer);
        assert_eq!(writer.admission(), Room::Open);
    }

    #[test]
    #[should_panic(expected = "a batch of 30721 bytes")]
    fn a_batch_beyond_the_bound_is_a_fault_of_the_caller() {
        assert!(CONFIG.batch_bytes_max() < 30721);
        ready().push(CORE, BatchId(1), &[0; 30721]);
    }
}
