//! Survey: one look at a whole journal. What can be taken of it, and where damage begins. Changes nothing on disk.
//!
//! Damage is what recovery refuses, and a batch that is whole and cannot be understood: a start stops at either.
//! A file that the system does not let us read, and one of a newer version, is no damage but an error: another attempt may succeed.
//!
//! Invariants: [`Survey::whole`] can be ingested to its last byte; it holds everything before the damage, in order.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use proto_spec::{ConversationId, Event};
use storage::{
    BatchId, LaneId, LaneSpans, Record,
    journal::{
        JournalError, JournalRecord, Lsn, SealedSegment, SegmentNumber, Torn,
        format::{SEGMENT_HEADER_BYTES, SegmentHeaderError, record_len},
        recover,
    },
    records,
};

use super::JournalCommandError;

/// What a journal holds.
pub(super) struct Survey {
    /// Everything that can be taken. With damage, the last one may end at it.
    pub(super) whole: Vec<SealedSegment>,
    /// The segments without records, up to the damage.
    pub(super) empty: Vec<SegmentNumber>,
    /// A last group that was not written whole.
    pub(super) torn: Option<Torn>,
    /// The first place that cannot be taken.
    pub(super) damage: Option<Damage>,
    /// Which whole batches, by lane.
    pub(super) lanes: LaneSpans,
    /// The places of the first and the last whole batch.
    pub(super) lsns: Option<(Lsn, Lsn)>,
    /// How many whole records, by kind.
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// Bytes of whole records in the files.
    pub(super) bytes: u64,
}

/// Something durable that has changed or is missing, and what follows it.
pub(super) struct Damage {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) reason: String,
    /// The damaged file and all later ones.
    pub(super) files: Vec<SealedSegment>,
    /// What can still be read behind the place.
    pub(super) behind: Vec<Stretch>,
}

/// Whole batches of one file, without a gap.
pub(super) struct Stretch {
    pub(super) path: PathBuf,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
}

/// A record and where it stands.
pub(super) struct Located {
    pub(super) segment: SegmentNumber,
    /// Of its batch in the file.
    pub(super) offset: u64,
    pub(super) lsn: Lsn,
    pub(super) lane: LaneId,
    pub(super) batch: BatchId,
    pub(super) record: Record,
}

/// Looks at the journal in this folder.
pub(super) fn survey(folder: &Path) -> Result<Survey, JournalError> {
    let files = segment_files(folder)?;
    let mut survey = Survey {
        whole: Vec::new(),
        empty: Vec::new(),
        torn: None,
        damage: None,
        lanes: LaneSpans::default(),
        lsns: None,
        kinds: BTreeMap::new(),
        bytes: 0,
    };
    let refused = match recover(folder) {
        Ok(found) => {
            survey.whole = found.segments;
            survey.torn = found.torn;
            None
        }
        Err(error) => {
            let place = Place::of(error)?;
            survey.whole = whole_before(&files, &place)?;
            Some(place)
        }
    };
    // What cannot be understood stands before what recovery refused: only what is before that was read.
    let place = survey.count()?.or(refused);
    let first = match &place {
        Some(place) => files.iter().position(|file| file.path == place.path).expect("a segment of this folder"),
        None => files.len(),
    };
    let is_whole = |file: &&SealedSegment| survey.whole.iter().any(|whole| whole.number == file.number);
    survey.empty = files[..first].iter().filter(|file| !is_whole(file)).map(|file| file.number).collect();
    if let Some(Place { path, offset, reason }) = place {
        let behind = behind(&files[first..], offset)?;
        survey.damage = Some(Damage { path, offset, reason, files: files[first..].to_vec(), behind });
    }
    Ok(survey)
}

impl Survey {
    /// How many whole batches.
    pub(super) fn batches(&self) -> u64 {
        self.lsns.map_or(0, |(first, last)| last.0 - first.0 + 1)
    }

    /// How many whole records.
    pub(super) fn records(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// Hands out every whole record in order, until `each` has enough.
    pub(super) fn each_record(
        &self,
        mut each: impl FnMut(&Located) -> Result<ControlFlow<()>, JournalCommandError>,
    ) -> Result<(), JournalCommandError> {
        for segment in &self.whole {
            let mut offset = SEGMENT_HEADER_BYTES;
            let mut batches = segment.read()?;
            while let Some(JournalRecord { lsn, lane, batch, payload, .. }) = batches.next_record()? {
                for record in records(payload) {
                    let record = record.map_err(|error| misunderstood(segment, offset, lsn, &error))?;
                    let located = Located { segment: segment.number, offset, lsn, lane, batch, record };
                    if each(&located)?.is_break() {
                        return Ok(());
                    }
                }
                offset += record_len(payload.len()) as u64;
            }
        }
        Ok(())
    }

    /// Reads and counts the whole batches. Cuts `whole` before the first that cannot be understood, and gives its place.
    fn count(&mut self) -> Result<Option<Place>, JournalError> {
        for index in 0..self.whole.len() {
            let segment = self.whole[index].clone();
            let mut offset = SEGMENT_HEADER_BYTES;
            let mut batches = segment.read()?;
            while let Some(JournalRecord { lsn, lane, batch, payload, .. }) = batches.next_record()? {
                let understood: Result<Vec<_>, _> =
                    records(payload).map(|record| record.map(|r| kind_of(&r))).collect();
                let kinds = match understood {
                    Ok(kinds) => kinds,
                    Err(error) => {
                        self.whole.truncate(index + usize::from(offset > SEGMENT_HEADER_BYTES));
                        if let Some(cut) = self.whole.get_mut(index) {
                            cut.end = offset;
                        }
                        self.torn = None;
                        return Place::of(misunderstood(&segment, offset, lsn, &error)).map(Some);
                    }
                };
                for kind in kinds {
                    *self.kinds.entry(kind).or_default() += 1;
                }
                self.lanes.add(lane, batch);
                self.lsns = Some((self.lsns.map_or(lsn, |(first, _)| first), lsn));
                let len = record_len(payload.len()) as u64;
                self.bytes += len;
                offset += len;
            }
        }
        Ok(None)
    }
}

impl Damage {
    /// The number of the damaged file.
    pub(super) fn first_number(&self) -> SegmentNumber {
        self.files[0].number
    }
}

/// Whose log a record changes: a user's or a group's.
pub(super) const fn owner_of(record: &Record) -> ConversationId {
    match record {
        Record::Append { user, .. }
        | Record::Rewrite { user, .. }
        | Record::Cursor { user, .. }
        | Record::Marks { user, .. }
        | Record::Epoch { user, .. }
        | Record::Devices { user, .. }
        | Record::Removed { user, .. }
        | Record::GivenUp { user, .. }
        | Record::Subscribed { user, .. }
        | Record::Due { user }
        | Record::Notified { user, .. }
        | Record::LastSeen { user, .. } => ConversationId::Person(*user),
        Record::GroupAppend { group, .. }
        | Record::GroupState { group, .. }
        | Record::GroupMember { group, .. }
        | Record::GroupCame { group, .. }
        | Record::GroupWants { group, .. }
        | Record::GroupMarks { group, .. } => ConversationId::Group(*group),
    }
}

/// The kind of a record, in one word.
pub(super) const fn kind_of(record: &Record) -> &'static str {
    match record {
        Record::Append { entry, .. } | Record::Rewrite { entry, .. } => match entry.event {
            Event::Received { .. } => "received",
            Event::Sent { .. } => "sent",
            Event::Delivered { .. } => "delivered",
            Event::Deleted { .. } => "deleted",
            Event::Read { .. } => "read",
            Event::Seen { .. } => "seen",
            Event::Settings { .. } => "settings",
            Event::Visibility { .. } => "visibility",
            Event::Devices { .. } => "device_removed",
            Event::Group { .. } => "group",
            Event::GroupRefused { .. } => "group-refused",
            Event::Unknown { .. } => "unknown",
        },
        Record::Cursor { .. } => "cursor",
        Record::Marks { .. } => "marks",
        Record::Epoch { .. } => "epoch",
        Record::Devices { .. } => "devices",
        Record::Removed { .. } => "removed",
        Record::GivenUp { .. } => "given-up",
        Record::Subscribed { .. } => "subscribed",
        Record::Due { .. } => "due",
        Record::Notified { .. } => "notified",
        Record::LastSeen { .. } => "last-seen",
        Record::GroupAppend { .. } => "group-entry",
        Record::GroupState { .. } => "group-state",
        Record::GroupMember { .. } => "group-member",
        Record::GroupCame { .. } => "group-came",
        Record::GroupWants { .. } => "group-wants",
        Record::GroupMarks { .. } => "group-marks",
    }
}

/// Where a journal is damaged.
struct Place {
    path: PathBuf,
    offset: u64,
    reason: String,
}

impl Place {
    /// Tells damage from everything else that keeps a journal from being read.
    fn of(error: JournalError) -> Result<Self, JournalError> {
        match error {
            JournalError::Damaged { path, offset, reason } => Ok(Self { path, offset, reason }),
            JournalError::Header {
                path,
                reason: reason @ (SegmentHeaderError::Foreign | SegmentHeaderError::Damaged),
            } => Ok(Self { path, offset: 0, reason: reason.to_string() }),
            error @ (JournalError::Io { .. }
            | JournalError::Header { reason: SegmentHeaderError::Newer { .. }, .. }) => Err(error),
        }
    }
}

fn misunderstood(segment: &SealedSegment, offset: u64, lsn: Lsn, error: &storage::CodecError) -> JournalError {
    let reason = format!("the batch at lsn {lsn} is whole and cannot be understood: {error}");
    JournalError::Damaged { path: segment.path.clone(), offset, reason }
}

/// The segments' files by number, each as if its records had no end: for reading as far as they are whole.
fn segment_files(folder: &Path) -> Result<Vec<SealedSegment>, JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == "journal");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(number)) = (is_segment, number) {
            files.push(SealedSegment { number: SegmentNumber(number), path, end: u64::MAX });
        }
    }
    files.sort_by_key(|file| file.number);
    Ok(files)
}

/// What is whole before the place, of files that recovery has read up to there.
fn whole_before(files: &[SealedSegment], place: &Place) -> Result<Vec<SealedSegment>, JournalError> {
    let mut whole = Vec::new();
    for file in files {
        let is_damaged = file.path == place.path;
        let readable = SealedSegment { end: if is_damaged { place.offset } else { u64::MAX }, ..file.clone() };
        let end = batches(&readable)?.last().map_or(SEGMENT_HEADER_BYTES, |batch| batch.end);
        if end > SEGMENT_HEADER_BYTES {
            whole.push(SealedSegment { end, ..readable });
        }
        if is_damaged {
            break;
        }
    }
    Ok(whole)
}

/// What can be read behind the place at this offset of the first of the files.
fn behind(files: &[SealedSegment], offset: u64) -> Result<Vec<Stretch>, JournalError> {
    let mut stretches = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut read = batches(file)?;
        if index == 0 {
            read.retain(|batch| batch.end > offset);
        }
        if let (Some(first), Some(last)) = (read.first(), read.last()) {
            stretches.push(Stretch { path: file.path.clone(), first: first.lsn, last: last.lsn });
        }
    }
    Ok(stretches)
}

/// A whole batch of a file and where it ends.
struct WholeBatch {
    lsn: Lsn,
    end: u64,
}

/// The batches of a file up to the first that is not whole; none if it is not even known to be a segment.
fn batches(file: &SealedSegment) -> Result<Vec<WholeBatch>, JournalError> {
    let mut batches = Vec::new();
    let mut end = SEGMENT_HEADER_BYTES;
    let mut read = || {
        let mut records = file.read()?;
        while let Some(batch) = records.next_record()? {
            end += record_len(batch.payload.len()) as u64;
            batches.push(WholeBatch { lsn: batch.lsn, end });
        }
        Ok(())
    };
    match read() {
        Err(error @ JournalError::Io { .. }) => Err(error),
        Ok(()) | Err(JournalError::Header { .. } | JournalError::Damaged { .. }) => Ok(batches),
    }
}
