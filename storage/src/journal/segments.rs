//! The files of a journal: preparing, freeing and reading segments, and recovery. Blocking; called from background
//! threads. The writes of groups are not done here.
//!
//! `<number>.journal` is a segment; `<number>.free` is a file that waits to be used again, and `<number>.clean` one that was wiped
//! meanwhile; `<number>.new` is a file that a crash kept from becoming one of these. Other names are left alone.
//!
//! Invariants: a segment has its full size and a synced header before it has its name; no salt is used twice, so nothing
//! that a file held before it was prepared passes for a record; the number in a file's name is at least as high as that
//! of any record in it, so a number above all names has never been used; reading and recovery change nothing on disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    format::{
        self, Lsn, Position, RECORD_ALIGNMENT, RecordHeader, SEGMENT_HEADER_BYTES, Salt, SegmentHeader,
        SegmentHeaderError, SegmentNumber, record_len,
    },
    writer::Sealed,
};
use crate::record::{BatchId, LaneId, LaneSpans};

/// Freed files that are kept for use as segments: a steady load turns over one or two, a burst leaves no more than this.
const FREE_FILES_MAX: usize = 4;

/// Bytes of a new segment that go to the disk at a time: a sync that comes in between waits for no more.
const GENTLE_BYTES: usize = 256 * 1024;

/// Longest pause between them: a disk that is very slow must get its segment all the same.
const GENTLE_PAUSE_MAX: Duration = Duration::from_millis(20);

static ZEROS: [u8; GENTLE_BYTES] = [0; GENTLE_BYTES];

/// Bytes of a sealed segment that are read at a time: they stay in the processor's cache until their rows have been made.
const PIECE_BYTES: u64 = 256 * 1024;

/// Bytes of a segment that a start reads before it says how far it is: a tenth of a second, or a slow disk's second.
const WATCHED_BYTES: u64 = 16 * 1024 * 1024;

/// How a segment is made.
#[derive(Clone, Copy, Debug)]
enum Making<'a> {
    AtOnce,
    /// With pauses, and no further when this is true.
    GentlyUntil(&'a AtomicBool),
}

impl Making<'_> {
    /// After a piece that was begun then.
    fn has_written(self, file: &File, begun: Instant) -> io::Result<()> {
        if let Self::GentlyUntil(ended) = self {
            file.sync_data()?;
            if ended.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            thread::sleep(begun.elapsed().min(GENTLE_PAUSE_MAX));
        }
        Ok(())
    }
}

/// What becomes of what a file holds that is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is overwritten with zeros: what was said and taken back must not stay for as long as nothing more is said.
    Wiped,
    /// It stays, and is overwritten by what comes: under load that is soon, and the disk has enough to do.
    AsItIs,
}

const SEGMENT: &str = "journal";
const FREE: &str = "free";
const CLEAN: &str = "clean";
const NEW: &str = "new";

/// Why the journal's files cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A segment that this version cannot read.
    #[error("cannot use {}: {reason}", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong with its header.
        reason: SegmentHeaderError,
    },
    /// Something durable has changed or is missing.
    #[error("{} is damaged at offset {offset}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
}

impl JournalError {
    /// Whether the disk (or a quota) has no room: the same will work when there is room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Header { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// An empty segment.
#[derive(Debug)]
pub struct Prepared {
    /// Its file.
    pub path: PathBuf,
    /// What [`super::Writer::add_segment`] has to know of it.
    pub salt: Salt,
}

/// The folder of a journal.
#[derive(Clone, Debug)]
pub struct JournalFolder {
    path: PathBuf,
    segment_bytes: u64,
}

impl JournalFolder {
    /// Opens the folder, making it if it is not there, and removes files that never became segments.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub fn open(path: &Path, segment_bytes: u64) -> Result<Self, JournalError> {
        fs::create_dir_all(path).map_err(during("make", path))?;
        for file in list(path)?.into_iter().filter(|file| file.state == FileState::New) {
            fs::remove_file(&file.path).map_err(during("remove", &file.path))?;
        }
        Ok(Self { path: path.to_owned(), segment_bytes })
    }

    /// How large its segments are.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Where a segment is.
    #[must_use]
    pub fn segment_path(&self, number: SegmentNumber) -> PathBuf {
        self.file_path(number, SEGMENT)
    }

    /// Makes an empty segment with a salt of its own: a freed file that is wiped and has a new header, or a new file filled with
    /// zeros, so that later syncs write data blocks and no metadata. Durable when this returns.
    ///
    /// # Errors
    /// No room, or another refusal of the operating system; a retry may succeed.
    pub fn prepare(&self, number: SegmentNumber) -> Result<Prepared, JournalError> {
        self.prepare_at(number, Making::AtOnce, Reuse::Wiped)
    }

    /// As [`JournalFolder::prepare`], and leaves the disk to others half of the time: for a server whose groups are synced on the
    /// same disk meanwhile.
    ///
    /// # Errors
    /// As [`JournalFolder::prepare`]. Once `ended` is true, nothing is made any more.
    pub fn prepare_gently(
        &self,
        number: SegmentNumber,
        ended: &AtomicBool,
        reuse: Reuse,
    ) -> Result<Prepared, JournalError> {
        self.prepare_at(number, Making::GentlyUntil(ended), reuse)
    }

    fn prepare_at(&self, number: SegmentNumber, making: Making<'_>, reuse: Reuse) -> Result<Prepared, JournalError> {
        let salt = Salt(rand::random());
        let header = SegmentHeader { number, bytes: self.segment_bytes, salt }.encode();
        let target = self.segment_path(number);
        let new = self.file_path(number, NEW);
        if let Some(state) = self.takes_spare(&new)? {
            let file = OpenOptions::new().read(true).write(true).open(&new).map_err(during("open", &new))?;
            // What the file holds is no record under the new salt.
            if state == FileState::Free && reuse == Reuse::Wiped {
                wipe(&file, making, || false).map_err(during("wipe", &new))?;
            }
            file.write_all_at(&header, 0).map_err(during("write", &new))?;
            file.sync_all().map_err(during("sync", &new))?;
        } else {
            let filled = self.fill_with_zeros(&new, &header, making);
            if filled.is_err() {
                // Half a segment would only take the room that is missing already.
                let _ = fs::remove_file(&new);
            }
            filled?;
        }
        fs::rename(&new, &target).map_err(during("rename", &new))?;
        self.sync()?;
        Ok(Prepared { path: target, salt })
    }

    /// Gives up a segment whose records are in the store. Segments are freed in ascending order.
    ///
    /// # Errors
    /// A refusal of the operating system; a retry may succeed.
    pub fn free(&self, number: SegmentNumber) -> Result<(), JournalError> {
        let segment = self.segment_path(number);
        let kept = list(&self.path)?.iter().filter(|file| file.state.is_spare()).count();
        let (action, done) = if kept < FREE_FILES_MAX {
            ("rename", fs::rename(&segment, self.file_path(number, FREE)))
        } else {
            ("remove", fs::remove_file(&segment))
        };
        match done {
            // An earlier call did this and could not sync. Its free file may be a segment again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(during(action, &segment))?,
        }
        self.sync()
    }

    /// Gives freed files, and these segments without records, back to a disk that has no room. How many bytes that were.
    ///
    /// # Errors
    /// A refusal of the operating system; a retry may succeed.
    pub fn give_back(&self, empty: &[SegmentNumber]) -> Result<u64, JournalError> {
        let mut bytes = 0;
        for file in list(&self.path)? {
            let is_spare = match file.state {
                FileState::Free | FileState::Clean => true,
                FileState::Segment => empty.contains(&file.number),
                FileState::New => false,
            };
            if is_spare {
                remove(&file.path)?;
                bytes += file.bytes;
            }
        }
        self.sync()?;
        Ok(bytes)
    }

    /// Overwrites what a freed file holds with zeros, gently. `stops` is asked before each piece: what is not done then is begun anew
    /// the next time. False: no file holds anything, or it was stopped.
    ///
    /// # Errors
    /// A refusal of the operating system; a retry may succeed.
    pub fn wipe_one(&self, stops: impl Fn() -> bool) -> Result<bool, JournalError> {
        for file in list(&self.path)?.into_iter().filter(|file| file.state == FileState::Free) {
            let (claimed, clean) = (self.file_path(file.number, NEW), self.file_path(file.number, CLEAN));
            if !is_claimed(&file.path, &claimed)? {
                continue;
            }
            let opened = OpenOptions::new().read(true).write(true).open(&claimed);
            let wiped = opened.and_then(|file| wipe(&file, Making::GentlyUntil(&AtomicBool::new(false)), stops));
            let name = if matches!(wiped, Ok(true)) { &clean } else { &file.path };
            fs::rename(&claimed, name).map_err(during("rename", &claimed))?;
            self.sync()?;
            return wiped.map_err(during("wipe", &file.path));
        }
        Ok(false)
    }

    /// Gives a file that waits to be used again this name, and says what it was. None: there is none.
    fn takes_spare(&self, name: &Path) -> Result<Option<FileState>, JournalError> {
        for file in list(&self.path)?.into_iter().filter(|file| file.state.is_spare()) {
            // The size of segments may have been configured anew.
            if file.bytes != self.segment_bytes {
                remove(&file.path)?;
            } else if is_claimed(&file.path, name)? {
                return Ok(Some(file.state));
            }
        }
        Ok(None)
    }

    fn fill_with_zeros(&self, path: &Path, header: &[u8], making: Making<'_>) -> Result<(), JournalError> {
        let mut file = File::create(path).map_err(during("create", path))?;
        file.write_all(header).map_err(during("write", path))?;
        let mut left = self.segment_bytes - header.len() as u64;
        while left > 0 {
            let begun = Instant::now();
            let bytes = left.min(ZEROS.len() as u64);
            file.write_all(&ZEROS[..bytes as usize]).map_err(during("write", path))?;
            left -= bytes;
            making.has_written(&file, begun).map_err(during("finish", path))?;
        }
        file.sync_all().map_err(during("sync", path))
    }

    fn file_path(&self, number: SegmentNumber, extension: &str) -> PathBuf {
        // As many digits as a u64 has, so that names sort as numbers do.
        self.path.join(format!("{:020}.{extension}", number.0))
    }

    fn sync(&self) -> Result<(), JournalError> {
        let folder = File::open(&self.path).map_err(during("open", &self.path))?;
        folder.sync_all().map_err(during("sync", &self.path))
    }
}

/// A segment that is not written any more, and where its records end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its number.
    pub number: SegmentNumber,
    /// Its file.
    pub path: PathBuf,
    /// Where its records end.
    pub end: u64,
}

impl SealedSegment {
    /// What the writer sealed, as a file of this folder.
    #[must_use]
    pub fn new(folder: &JournalFolder, sealed: &Sealed) -> Self {
        Self { number: sealed.segment, path: folder.segment_path(sealed.segment), end: sealed.end }
    }

    /// Bytes of its records, each with its header.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end.saturating_sub(SEGMENT_HEADER_BYTES)
    }

    /// Begins to read the segment's records.
    ///
    /// # Errors
    /// The file cannot be read or is not this segment.
    pub fn read(&self) -> Result<SegmentRecords, JournalError> {
        let Opened { file, header, .. } = Opened::open(&self.path)?;
        if header.number != self.number {
            return Err(damaged(&self.path, 0, format!("its header says that it is segment {}", header.number)));
        }
        let (path, walk) = (self.path.clone(), Walk::new(header.salt));
        Ok(SegmentRecords { path, file, end: self.end, walk, piece: Vec::new(), taken: 0 })
    }
}

/// The records of a sealed segment, read piece by piece: in memory are at most a piece and the largest record.
#[derive(Debug)]
pub struct SegmentRecords {
    path: PathBuf,
    /// Is read up to where `piece` ends.
    file: File,
    end: u64,
    walk: Walk,
    piece: Vec<u8>,
    /// How much of the piece belongs to records that were handed out.
    taken: usize,
}

/// One record of the journal: a batch and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRecord<'a> {
    /// Its place in the journal.
    pub lsn: Lsn,
    /// Where in the file its group begins.
    pub group: u64,
    /// Whose batch.
    pub lane: LaneId,
    /// The lane's number of it.
    pub batch: BatchId,
    /// The batch, as [`crate::Batch::bytes`] gave it.
    pub payload: &'a [u8],
}

impl SegmentRecords {
    /// The next record, or `None` at the segment's end. Every record up to there comes.
    ///
    /// # Errors
    /// The file cannot be read, or no whole record is here that belongs here.
    pub fn next_record(&mut self) -> Result<Option<JournalRecord<'_>>, JournalError> {
        if self.walk.offset >= self.end {
            return Ok(None);
        }
        while format::header(&self.piece[self.taken..]).is_none() && self.read_on()? {}
        let offset = self.walk.offset;
        match self.walk.step(&self.piece[self.taken..]) {
            Step::Record(record) => {
                self.taken += record_len(record.payload.len());
                Ok(Some(record))
            }
            Step::End => Err(damaged(&self.path, offset, format!("records are expected up to {}", self.end))),
            Step::Misplaced(reason) => Err(damaged(&self.path, offset, reason)),
        }
    }

    /// Reads the next piece, behind what is left of the last one. False at the end of the file.
    fn read_on(&mut self) -> Result<bool, JournalError> {
        self.piece.drain(..self.taken);
        self.taken = 0;
        let mut next = (&mut self.file).take(PIECE_BYTES);
        let read = next.read_to_end(&mut self.piece).map_err(during("read", &self.path))?;
        Ok(read > 0)
    }
}

/// What a journal holds after a stop or a crash.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The segments with records, in order. To be ingested, and then freed before the next segment is prepared.
    pub segments: Vec<SealedSegment>,
    /// The segments without records. To be freed.
    pub empty: Vec<SegmentNumber>,
    /// How many batches there are.
    pub batches: u64,
    /// Which they are.
    pub lanes: LaneSpans,
    /// Where the journal goes on.
    pub next: Position,
    /// A last group that was not written whole. Nothing of it was ever acknowledged.
    pub torn: Option<Torn>,
}

/// The place where a write was cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Which file.
    pub path: PathBuf,
    /// Where the first record that is not whole begins.
    pub offset: u64,
    /// From there to the last sign of the same write.
    pub bytes: u64,
}

/// Reads and verifies a whole journal. Changes nothing on disk. A folder that does not exist is an empty journal.
///
/// A record that is not whole at the end of the last segment with records is the torn tail of a write that nobody was
/// told of. Groups are written one at a time, each after the sync of the one before: so if anything follows that was
/// written later, what is not whole was durable once, and this is an error.
///
/// # Errors
/// A file cannot be read, is of a newer version, or is damaged.
pub fn recover(folder: &Path) -> Result<Recovered, JournalError> {
    recover_watched(folder, |_| ())
}

/// As [`recover`]. After each part of a segment `watch` is told how far the reading is.
///
/// # Errors
/// As [`recover`].
pub fn recover_watched(folder: &Path, mut watch: impl FnMut(Reading)) -> Result<Recovered, JournalError> {
    let files = match folder.try_exists().map_err(during("look for", folder))? {
        true => list(folder)?,
        false => Vec::new(),
    };
    let above_all = files.iter().map(|file| file.number.next()).max().unwrap_or(Position::default().segment);
    let mut recovered = Recovered {
        segments: Vec::new(),
        empty: Vec::new(),
        batches: 0,
        lanes: LaneSpans::default(),
        next: Position { segment: above_all, ..Position::default() },
        torn: None,
    };
    let segments: Vec<_> = files.into_iter().filter(|file| file.state == FileState::Segment).collect();
    let mut reading = Reading { bytes: 0, of: segments.iter().map(|file| file.bytes).sum() };
    for file in segments {
        let loaded = Loaded::read(&file.path, |bytes| {
            reading.bytes += bytes;
            watch(reading);
        })?;
        recovered.add(&loaded, file.number)?;
    }
    Ok(recovered)
}

/// How far a journal has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes of segments' files that have been read.
    pub bytes: u64,
    /// Bytes of all of them.
    pub of: u64,
}

impl Recovered {
    fn add(&mut self, segment: &Loaded, number: SegmentNumber) -> Result<(), JournalError> {
        if segment.number != number {
            return Err(segment.damaged(0, format!("its header says that it is segment {}", segment.number)));
        }
        let mut walk = Walk::new(segment.salt);
        // Behind a torn place every record is one too many, whatever its lsn.
        if !self.segments.is_empty() && self.torn.is_none() {
            walk.expected = Some(self.next.lsn);
        }
        loop {
            match walk.step(&segment.bytes[walk.offset as usize..]) {
                Step::Record(record) => {
                    self.batches += 1;
                    self.lanes.add(record.lane, record.batch);
                    self.next.lsn = record.lsn.next();
                }
                Step::End => break,
                Step::Misplaced(reason) => return Err(segment.damaged(walk.offset, reason)),
            }
        }
        let torn = segment.what_follows(walk.offset)?;
        let has_records = walk.offset > SEGMENT_HEADER_BYTES;
        if let Some(earlier) = &self.torn
            && (has_records || torn.is_some())
        {
            return Err(JournalError::Damaged {
                path: earlier.path.clone(),
                offset: earlier.offset,
                reason: format!("a record is not whole, and segment {number} was written later"),
            });
        }
        self.torn = self.torn.take().or(torn);
        if has_records {
            self.segments.push(SealedSegment { number, path: segment.path.clone(), end: walk.offset });
        } else {
            self.empty.push(number);
        }
        Ok(())
    }
}

/// A segment file whose header has been read.
struct Opened {
    /// Is read up to where the header's page ends.
    file: File,
    header: SegmentHeader,
    page: Vec<u8>,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, JournalError> {
        let mut file = File::open(path).map_err(during("open", path))?;
        let mut page = Vec::new();
        (&mut file).take(SEGMENT_HEADER_BYTES).read_to_end(&mut page).map_err(during("read", path))?;
        let header =
            SegmentHeader::decode(&page).map_err(|reason| JournalError::Header { path: path.to_owned(), reason })?;
        let found = file.metadata().map_err(during("look at", path))?.len();
        if found != header.bytes || found > format::SEGMENT_BYTES_MAX {
            let reason = format!("the file has {found} bytes, its header says {}", header.bytes);
            return Err(damaged(path, found.min(header.bytes), reason));
        }
        Ok(Self { file, header, page })
    }
}

fn damaged(path: &Path, offset: u64, reason: String) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), offset, reason }
}

/// A segment file in memory: at most [`format::SEGMENT_BYTES_MAX`].
#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    number: SegmentNumber,
    salt: Salt,
    bytes: Vec<u8>,
}

impl Loaded {
    /// After each part `watch` is told how many bytes more have been read.
    fn read(path: &Path, mut watch: impl FnMut(u64)) -> Result<Self, JournalError> {
        let Opened { mut file, header, page: mut bytes } = Opened::open(path)?;
        bytes.reserve_exact(header.bytes as usize - bytes.len());
        watch(bytes.len() as u64);
        loop {
            let read = (&mut file).take(WATCHED_BYTES).read_to_end(&mut bytes).map_err(during("read", path))? as u64;
            if read == 0 {
                break;
            }
            watch(read);
        }
        Ok(Self { path: path.to_owned(), number: header.number, salt: header.salt, bytes })
    }

    fn damaged(&self, offset: u64, reason: String) -> JournalError {
        damaged(&self.path, offset, reason)
    }

    /// Looks for what was written behind the first place that holds no whole record: nothing, the rest of the group
    /// that was torn there, or a later group, which is damage.
    fn what_follows(&self, end: u64) -> Result<Option<Torn>, JournalError> {
        let rest = &self.bytes[end as usize..];
        // The head of a record that is not whole.
        let mut last_sign = format::peek(rest, self.salt).map_or(0, |header| record_len(header.len) as u64);
        let mut at = RECORD_ALIGNMENT;
        while at < rest.len() {
            let Some((header, _)) = format::verify(&rest[at..], self.salt) else {
                at += RECORD_ALIGNMENT;
                continue;
            };
            if header.group > end {
                let later = end + at as u64;
                return Err(self.damaged(
                    end,
                    format!("no whole record is here, but the one at offset {later} was written later"),
                ));
            }
            at += record_len(header.len);
            last_sign = at as u64;
        }
        let torn = Torn { path: self.path.clone(), offset: end, bytes: last_sign };
        Ok((last_sign > 0).then_some(torn))
    }
}

/// Goes through the records of a segment.
#[derive(Debug)]
struct Walk {
    salt: Salt,
    offset: u64,
    /// Where the group began that the last record belongs to.
    group: u64,
    /// The lsn that comes next, if that is known.
    expected: Option<Lsn>,
}

enum Step<'a> {
    Record(JournalRecord<'a>),
    /// No whole record is here.
    End,
    /// A whole record that does not belong here.
    Misplaced(String),
}

impl Walk {
    const fn new(salt: Salt) -> Self {
        Self { salt, offset: SEGMENT_HEADER_BYTES, group: 0, expected: None }
    }

    /// `rest` is what the segment has from `offset` on: at least a whole record, if there is one.
    fn step<'a>(&mut self, rest: &'a [u8]) -> Step<'a> {
        let Some((header, payload)) = format::verify(rest, self.salt) else { return Step::End };
        let RecordHeader { len, lane, batch, lsn, group } = header;
        if let Some(expected) = self.expected
            && lsn != expected
        {
            return Step::Misplaced(format!("the record's lsn is {lsn}, {expected} is expected"));
        }
        // It begins a group or continues the one before it.
        if group != self.offset && group != self.group {
            return Step::Misplaced(format!("the record says that its group begins at {group}"));
        }
        self.group = group;
        self.expected = Some(lsn.next());
        self.offset += record_len(len) as u64;
        Step::Record(JournalRecord { lsn, group, lane, batch, payload })
    }
}

#[derive(Debug)]
struct JournalFile {
    number: SegmentNumber,
    state: FileState,
    path: PathBuf,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Segment,
    Free,
    Clean,
    New,
}

impl FileState {
    /// Whether it waits to be used again.
    const fn is_spare(self) -> bool {
        matches!(self, Self::Free | Self::Clean)
    }
}

/// Removes a file that waits. Another thread that is faster has given it another name.
fn remove(file: &Path) -> Result<(), JournalError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(during("remove", file)),
    }
}

/// Gives a file that waits another name, by which nobody else looks for one. False: another thread was faster.
fn is_claimed(file: &Path, name: &Path) -> Result<bool, JournalError> {
    match fs::rename(file, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        renamed => renamed.map(|()| true).map_err(during("rename", file)),
    }
}

/// Overwrites with zeros what a file holds. False: it was stopped.
fn wipe(file: &File, making: Making<'_>, stops: impl Fn() -> bool) -> io::Result<bool> {
    let (mut piece, mut at) = (vec![0; GENTLE_BYTES], 0);
    loop {
        if stops() {
            return Ok(false);
        }
        let begun = Instant::now();
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok(true);
        }
        if piece[..read].iter().any(|byte| *byte != 0) {
            file.write_all_at(&ZEROS[..read], at)?;
            making.has_written(file, begun)?;
        }
        at += read as u64;
    }
}

/// The journal's files, by ascending number.
fn list(folder: &Path) -> Result<Vec<JournalFile>, JournalError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(during("read", folder))? {
        let entry = entry.map_err(during("read", folder))?;
        let path = entry.path();
        let Some((number, state)) = parse_name(&path) else { continue };
        let bytes = match entry.metadata() {
            // The other thread of the journal has given it another name meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(during("look at", &path))?.len(),
        };
        files.push(JournalFile { number, state, path, bytes });
    }
    files.sort_by_key(|file| file.number);
    Ok(files)
}

fn parse_name(path: &Path) -> Option<(SegmentNumber, FileState)> {
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    let state = match path.extension()?.to_str()? {
        SEGMENT => FileState::Segment,
        FREE => FileState::Free,
        CLEAN => FileState::Clean,
        NEW => FileState::New,
        _ => return None,
    };
    Some((SegmentNumber(number), state))
}

fn during(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
