use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::journal::{JournalConfig, Write, Writer};

const CONFIG: JournalConfig = JournalConfig { segment_bytes: 65536, journal_bytes_max: 8 * 65536, reserve_bytes: 0 };

/// A journal of real files, written as the server writes it.
struct World {
    dir: TempDir,
    folder: JournalFolder,
    writer: Writer,
    /// The payloads of all batches: of batch 1, 2, ...
    pushed: Vec<Vec<u8>>,
    /// Where each group went: file, offset, length.
    groups: Vec<(PathBuf, u64, usize)>,
    /// The bytes of each group.
    written: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: JournalConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = JournalFolder::open(dir.path(), config.segment_bytes).unwrap();
        let mut world = Self {
            dir,
            folder,
            writer: Writer::new(config, Position::default()),
            pushed: Vec::new(),
            groups: Vec::new(),
            written: Vec::new(),
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        while let Some(number) = self.writer.wants_segment() {
            let salt = self.folder.prepare(number).unwrap().salt;
            self.writer.add_segment(number, salt);
        }
    }

    fn push(&mut self, payload: Vec<u8>) {
        self.pushed.push(payload);
        let batch = BatchId(self.pushed.len() as u64);
        self.writer.push(LaneId(0), batch, self.pushed.last().unwrap());
    }

    /// Writes a group of batches with these payload sizes; gives what was sealed.
    fn group(&mut self, sizes: &[usize]) -> Option<Sealed> {
        for &size in sizes {
            self.push(payload(self.pushed.len() as u64 + 1, size));
        }
        self.write()
    }

    fn push_content(&mut self, content: &Content) {
        let mut payload = match content {
            Content::Plain(size) => payload(self.pushed.len() as u64 + 1, *size),
            Content::Forged => forged_text(),
            Content::Copy(_) if self.written.is_empty() => Vec::new(),
            Content::Copy(which) => which.get(&self.written).clone(),
        };
        payload.truncate(CONTENT_MAX);
        self.push(payload);
    }

    /// Writes what was pushed as one group; gives what was sealed.
    fn write(&mut self) -> Option<Sealed> {
        let (write, file) = self.begin_write();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        let sealed = self.writer.written(write.bytes).sealed;
        self.prepare();
        sealed
    }

    /// Writes of what was pushed only the parts that lie in these sectors of 512 bytes, and crashes.
    fn tear(&mut self, is_kept: impl Fn(usize) -> bool) {
        let (write, file) = self.begin_write();
        self.prepare();
        let mut at = 0;
        while at < write.bytes.len() {
            let place = write.offset as usize + at;
            let next = write.bytes.len().min(at + 512 - place % 512);
            if is_kept(place / 512 - write.offset as usize / 512) {
                file.write_all_at(&write.bytes[at..next], place as u64).unwrap();
            }
            at = next;
        }
    }

    fn begin_write(&mut self) -> (Write, File) {
        let write = self.writer.next_write().unwrap();
        let path = self.folder.segment_path(write.segment);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        self.groups.push((path, write.offset, write.bytes.len()));
        self.written.push(write.bytes.clone());
        (write, file)
    }

    /// The store has all of a sealed segment.
    fn ingested(&mut self, sealed: &Sealed) {
        self.folder.free(sealed.segment).unwrap();
        self.writer.released(sealed.segment);
    }

    /// The next start after a crash: what is found is ingested and freed.
    fn restart(&mut self) {
        let found = self.recover().unwrap();
        let numbers = found.segments.iter().map(|segment| segment.number).chain(found.empty);
        numbers.for_each(|number| self.folder.free(number).unwrap());
        self.writer = Writer::new(CONFIG, found.next);
        self.prepare();
    }

    fn recover(&self) -> Result<Recovered, JournalError> {
        recover(self.dir.path())
    }

    fn edit(&self, group: usize, change: impl FnOnce(&mut [u8])) {
        let (path, offset, len) = &self.groups[group];
        edit(path, *offset, *len, change);
    }

    /// The batches that recovery finds. Each has its payload.
    fn batches(&self, recovered: &Recovered) -> Vec<u64> {
        let mut read = Vec::new();
        for segment in &recovered.segments {
            let mut records = segment.read().unwrap();
            while let Some(record) = records.next_record().unwrap() {
                assert!(record.payload == self.pushed[record.batch.0 as usize - 1], "batch {}", record.batch.0);
                read.push(record.batch.0);
            }
        }
        read
    }
}

fn edit(path: &Path, offset: u64, len: usize, change: impl FnOnce(&mut [u8])) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).unwrap();
    change(&mut bytes);
    file.write_all_at(&bytes, offset).unwrap();
}

fn payload(batch: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (batch as usize * 7 + at) as u8 | 1).collect()
}

fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|p| (p.clone(), fs::read(p).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn an_empty_or_missing_folder_is_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_owned(), dir.path().join("missing")] {
        let recovered = recover(&folder).unwrap();
        assert_eq!(recovered.next, Position::default());
        assert_eq!((recovered.batches, recovered.segments, recovered.torn), (0, vec![], None));
    }
}

#[test]
fn what_was_written_over_several_segments_is_read_back_in_order() {
    let mut world = World::new();
    let sealed = (0..40).filter_map(|_| world.group(&[1, 2000, 0, 3001])).count();
    assert!(sealed >= 2);
    let recovered = world.recover().unwrap();
    assert_eq!(world.batches(&recovered), (1..=160).collect::<Vec<_>>());
    assert_eq!((recovered.batches, recovered.torn), (160, None));
    assert_eq!(recovered.next.lsn, Lsn(161));
    assert_eq!(recovered.next.segment.0, recovered.empty[0].0 + 1, "above the prepared spare");
}

#[test]
fn while_a_journal_is_read_it_is_told_how_far_that_is() {
    let mut world = World::new();
    while world.group(&[3000; 8]).is_none() {}
    let mut told = Vec::new();
    recover_watched(world.dir.path(), |reading| told.push((reading.bytes, reading.of))).unwrap();
    let segments = fs::read_dir(world.dir.path()).unwrap().filter(|file| is_segment(&file.as_ref().unwrap().path()));
    let of = segments.count() as u64 * CONFIG.segment_bytes;
    assert!(told.is_sorted() && told.iter().all(|(_, all)| *all == of), "{told:?}");
    assert!(told.len() >= 4 && told.last() == Some(&(of, of)), "{told:?}");
}

#[test]
fn a_segment_that_nobody_needs_any_more_is_not_made_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    let refused = folder.prepare_gently(SegmentNumber(1), &AtomicBool::new(true), Reuse::Wiped).unwrap_err();
    assert!(matches!(&refused, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "half of a file is no use");
    folder.prepare_gently(SegmentNumber(1), &AtomicBool::new(false), Reuse::Wiped).unwrap();
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == SEGMENT)
}

#[test]
fn a_last_group_cut_at_any_byte_keeps_whole_records_and_all_earlier_groups() {
    let mut world = World::new();
    world.group(&[10, 20]);
    world.group(&[30, 5, 40]);
    let (path, offset, len) = world.groups[1].clone();
    let whole = fs::read(&path).unwrap();
    for cut in 0..len {
        edit(&path, offset, len, |bytes| bytes[cut..].fill(0));
        let recovered = world.recover().unwrap();
        let read = world.batches(&recovered);
        assert!(read.starts_with(&[1, 2]) && read.len() <= 5, "cut at {cut}: {read:?}");
        assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn any_flipped_bit_in_an_earlier_group_is_damage_with_its_place() {
    let mut world = World::new();
    world.group(&[10]);
    world.group(&[9]);
    world.group(&[3]);
    let before = snapshot(world.dir.path());
    for group in 0..2 {
        let (path, offset, len) = world.groups[group].clone();
        for bit in 0..len * 8 {
            world.edit(group, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match world.recover() {
                Err(JournalError::Damaged { path: at, offset: place, .. }) => {
                    assert_eq!((at, place), (path.clone(), offset))
                }
                other => panic!("bit {bit} of group {group}: {other:?}"),
            }
            world.edit(group, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
    }
    assert_eq!(snapshot(world.dir.path()), before);
}

#[test]
fn any_flipped_bit_in_the_last_group_is_a_torn_tail_that_is_reported() {
    let mut world = World::new();
    world.group(&[10]);
    world.group(&[100]);
    let (path, offset, len) = world.groups[1].clone();
    // Not in the mark and the length: then nothing tells that there was a record.
    for bit in 64..len * 8 {
        world.edit(1, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let recovered = world.recover().unwrap();
        assert_eq!(world.batches(&recovered), [1]);
        assert_eq!(recovered.next.lsn, Lsn(2));
        assert_eq!(recovered.torn, Some(Torn { path: path.clone(), offset, bytes: len as u64 }), "bit {bit}");
        world.edit(1, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
}

#[test]
fn a_damaged_end_of_a_sealed_segment_is_damage_when_a_later_segment_has_records() {
    let mut world = World::new();
    while world.group(&[5000]).is_none() {}
    let last = world.groups.len() - 1;
    world.group(&[1]);
    world.edit(last, |bytes| bytes[50] ^= 1);
    let (path, offset, _) = world.groups[last].clone();
    match world.recover() {
        Err(JournalError::Damaged { path: at, offset: place, .. }) => assert_eq!((at, place), (path, offset)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_damage() {
    let mut world = World::new();
    for _ in 0..3 {
        while world.group(&[5000]).is_none() {}
    }
    fs::remove_file(world.folder.segment_path(SegmentNumber(2))).unwrap();
    let refused = world.recover().unwrap_err().to_string();
    assert!(refused.contains("00000000000000000003.journal is damaged at offset 4096"), "{refused}");
}

#[test]
fn stale_records_of_a_reused_file_are_never_read() {
    let mut world = World::new();
    while world.group(&[3000]).is_none() {}
    // The first file becomes the third segment, full of stale records.
    world.folder.free(SegmentNumber(1)).unwrap();
    world.writer.released(SegmentNumber(1));
    let begun = world.pushed.len() as u64 + 1;
    while world.group(&[3000]).is_none() {}
    assert!(!world.folder.segment_path(SegmentNumber(1)).exists());
    assert!(list(world.dir.path()).unwrap().iter().all(|file| file.state == FileState::Segment));

    let empty = world.recover().unwrap();
    assert_eq!(world.batches(&empty), (begun..=world.pushed.len() as u64).collect::<Vec<_>>());
    assert_eq!((empty.empty, empty.torn), (vec![SegmentNumber(3)], None));

    // Shorter groups over stale ones: every end falls into the middle of something stale.
    for _ in 0..5 {
        world.group(&[17, 400]);
        let recovered = world.recover().unwrap();
        assert_eq!(world.batches(&recovered), (begun..=world.pushed.len() as u64).collect::<Vec<_>>());
        assert_eq!(recovered.torn, None);
    }
}

/// What a client can put into a text who knows the format and guesses whatever is small and counts: a whole record.
fn forge(guess: u64, group: u64, lsn: u64) -> Vec<u8> {
    let mut record = Vec::new();
    format::put_unsealed(&mut record, LaneId(0), BatchId(lsn), Lsn(lsn), b"forged");
    format::seal(&mut record, Salt(guess), group);
    record
}

/// Forged records for many guesses, at every alignment.
fn forged_text() -> Vec<u8> {
    let records: Vec<u8> = (1..20).flat_map(|guess| forge(guess, 1 << 40, 1)).collect();
    [records, b" ".to_vec()].concat().repeat(RECORD_ALIGNMENT)
}

/// A journal whose third segment is the file of the first, which held this content, `FORGED_AT` in the file.
fn reused_after(content: Vec<u8>) -> World {
    let mut world = World::new();
    world.group(&[100]);
    world.push(content);
    let mut sealed = world.write();
    while sealed.is_none() {
        sealed = world.group(&[5000]);
    }
    world.ingested(&sealed.unwrap());
    while world.group(&[5000]).is_none() {}
    assert!(!world.folder.segment_path(SegmentNumber(1)).exists());
    world
}

/// Behind a record of 100 bytes and the header of the record that brings the content.
const FORGED_AT: u64 = SEGMENT_HEADER_BYTES + record_len(100) as u64 + format::RECORD_HEADER_BYTES as u64;

/// The payload of a first record that ends where the content begins.
const UP_TO_FORGED: usize = 140;

#[test]
fn records_in_a_text_do_not_make_the_reused_file_unreadable() {
    let mut world = reused_after(forged_text());
    let before = world.pushed.len() as u64;
    world.group(&[1]);
    let recovered = world.recover().unwrap();
    assert_eq!(world.batches(&recovered).last(), Some(&(before + 1)));
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_record_in_a_text_at_the_very_end_of_the_journal_is_not_taken_for_genuine() {
    let lsn = reused_after(Vec::new()).pushed.len() as u64 + 2;
    let mut world = reused_after(forge(3, FORGED_AT, lsn));
    world.group(&[UP_TO_FORGED]);
    let recovered = world.recover().unwrap();
    assert_eq!((recovered.next.lsn, recovered.torn.clone()), (Lsn(lsn), None));
    assert_eq!(world.batches(&recovered).last(), Some(&(lsn - 1)));
}

#[test]
fn the_head_of_a_record_in_a_text_at_the_end_of_a_sealed_segment_is_no_torn_write() {
    let mut forged = forge(3, FORGED_AT, 1);
    forged[8] ^= 1;
    let mut world = reused_after(forged);
    world.group(&[UP_TO_FORGED]);
    assert_eq!(world.writer.seal().unwrap().end, FORGED_AT);
    world.prepare();
    world.group(&[1]);
    let recovered = world.recover().unwrap();
    assert_eq!((recovered.torn, recovered.segments.len()), (None, 3));
}

#[test]
fn what_an_earlier_crash_left_in_the_spare_does_not_forbid_a_torn_tail() {
    let mut world = World::new();
    while world.group(&[5000]).is_none() {}
    // The first crash leaves the first sector of a record at the beginning of the second segment.
    world.push(vec![7; 2000]);
    world.tear(|sector| sector == 0);
    world.restart();
    // Its file is the spare of the segment that the second crash tears.
    world.group(&[10]);
    let whole = world.pushed.len() as u64;
    world.push(vec![7; 2000]);
    world.tear(|sector| sector == 0);
    let recovered = world.recover().unwrap();
    assert_eq!((world.batches(&recovered), &recovered.empty[..]), (vec![whole], &[SegmentNumber(5)][..]));
    assert!(recovered.torn.is_some());
}

#[test]
fn a_stale_record_is_no_torn_write_however_old_it_is() {
    let mut world = World::new();
    world.group(&[10]);
    world.folder.free(SegmentNumber(1)).unwrap();
    world.folder.free(SegmentNumber(2)).unwrap();
    world.writer = Writer::new(CONFIG, Position { segment: SegmentNumber(1000), lsn: Lsn(2) });
    world.prepare();
    assert!(!world.dir.path().join("00000000000000000001.free").exists(), "it is used again");
    let recovered = world.recover().unwrap();
    assert_eq!((recovered.empty, recovered.torn), (vec![SegmentNumber(1000)], None));
}

#[test]
fn a_segment_of_a_newer_format_is_refused_by_its_version() {
    let world = World::new();
    edit(&world.folder.segment_path(SegmentNumber(1)), 8, 1, |bytes| bytes[0] = 9);
    let refused = world.recover().unwrap_err().to_string();
    assert!(refused.ends_with("0001.journal: it has format version 9, this version reads up to 1"), "{refused}");
}

#[test]
fn a_file_that_is_cut_short_is_damage() {
    let world = World::new();
    let path = world.folder.segment_path(SegmentNumber(1));
    OpenOptions::new().write(true).open(path).unwrap().set_len(60000).unwrap();
    let refused = world.recover().unwrap_err().to_string();
    assert!(refused.ends_with("damaged at offset 60000: the file has 60000 bytes, its header says 65536"), "{refused}");
}

#[test]
fn records_are_whole_wherever_the_pieces_end_in_which_they_are_read() {
    let segment_bytes = 4 * 1024 * 1024;
    let mut world =
        World::with(JournalConfig { segment_bytes, journal_bytes_max: 8 * segment_bytes, reserve_bytes: 0 });
    for round in 0..10 {
        let small: Vec<usize> = (0..1000).map(|at| (at * 31 + round) % 127).collect();
        world.group(&small);
        world.group(&[PIECE_BYTES as usize + round]);
    }
    let recovered = world.recover().unwrap();
    assert!(recovered.segments.iter().any(|segment| segment.end > 8 * PIECE_BYTES));
    assert_eq!(world.batches(&recovered), (1..=10 * 1001).collect::<Vec<_>>());
}

#[test]
fn a_sealed_segment_that_ends_early_is_damage() {
    let mut world = World::new();
    world.group(&[10]);
    world.group(&[10]);
    let sealed = SealedSegment::new(&world.folder, &world.writer.seal().unwrap());
    // The last group is gone: to recovery this would be a torn tail, to whoever knows the end it is not.
    world.edit(1, |bytes| bytes.fill(0));
    let mut records = sealed.read().unwrap();
    assert!(records.next_record().unwrap().is_some());
    assert!(matches!(records.next_record(), Err(JournalError::Damaged { .. })));
}

#[test]
fn freed_files_are_used_again_and_only_a_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    (1..=8).for_each(|number| drop(folder.prepare(SegmentNumber(number)).unwrap()));
    (1..=8).for_each(|number| folder.free(SegmentNumber(number)).unwrap());
    assert_eq!(list(dir.path()).unwrap().len(), FREE_FILES_MAX);
    assert_eq!(recover(dir.path()).unwrap().next.segment, SegmentNumber(5));
    folder.prepare(SegmentNumber(9)).unwrap();
    assert_eq!(list(dir.path()).unwrap().len(), FREE_FILES_MAX);
    let larger = JournalFolder::open(dir.path(), 2 * CONFIG.segment_bytes).unwrap();
    let path = larger.prepare(SegmentNumber(10)).unwrap().path;
    assert_eq!(fs::metadata(path).unwrap().len(), 2 * CONFIG.segment_bytes);
}

#[test]
fn a_segment_can_be_freed_again_whatever_became_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    (1..=5).for_each(|number| drop(folder.prepare(SegmentNumber(number)).unwrap()));
    for number in 1..=5 {
        folder.free(SegmentNumber(number)).unwrap();
        // As after a sync that failed: the file is kept, or, the fifth, removed.
        folder.free(SegmentNumber(number)).unwrap();
    }
    folder.prepare(SegmentNumber(6)).unwrap();
    folder.free(SegmentNumber(1)).unwrap();
    assert!(folder.segment_path(SegmentNumber(6)).exists(), "the file of the first is in use again");
}

#[test]
fn a_file_that_never_became_a_segment_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("00000000000000000003.new");
    fs::write(&left, b"half").unwrap();
    assert_eq!(recover(dir.path()).unwrap().batches, 0);
    JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    assert!(!left.exists());
}

/// What clients send. The worst of it no client can make, for want of the salt.
#[derive(Clone, Debug)]
enum Content {
    Plain(usize),
    Forged,
    /// Real records, of this segment or another one.
    Copy(proptest::sample::Index),
}

/// Three of these fit in whatever a segment has left.
const CONTENT_MAX: usize = 8000;

const _: () = assert!(3 * record_len(CONTENT_MAX) <= record_len(CONFIG.batch_bytes_max()));

fn group_of_contents() -> impl Strategy<Value = Vec<Content>> {
    let content = prop_oneof![
        2 => (0..4000usize).prop_map(Content::Plain),
        1 => Just(Content::Forged),
        3 => any::<proptest::sample::Index>().prop_map(Content::Copy),
    ];
    proptest::collection::vec(content, 1..=3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to a file, what is read is the beginning of what was written, or an error.
    #[test]
    fn noise_anywhere_is_refused_or_leaves_a_beginning(
        groups in proptest::collection::vec(group_of_contents(), 1..12),
        which in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut world = World::new();
        let mut sealed = 0;
        for contents in &groups {
            contents.iter().for_each(|content| world.push_content(content));
            sealed += usize::from(world.write().is_some());
        }
        let paths: Vec<_> = (1..=sealed as u64 + 1).map(|number| world.folder.segment_path(SegmentNumber(number))).collect();
        let end = 65536 - noise.len();
        edit(&paths[which.index(paths.len())], at.index(end) as u64, noise.len(), |bytes| bytes.copy_from_slice(&noise));
        if let Ok(recovered) = world.recover() {
            let read = world.batches(&recovered);
            prop_assert_eq!(&read, &(1..=read.len() as u64).collect::<Vec<_>>());
            // The noise is shorter than two records: with their neighbours it can hit three groups.
            let may_be_lost: usize = groups.iter().rev().take(3).map(Vec::len).sum();
            prop_assert!(read.len() + may_be_lost >= world.pushed.len());
        }
    }

    /// A power loss in the middle of a write: any of its sectors may be missing.
    #[test]
    fn a_last_group_with_holes_is_a_torn_tail(
        sizes in proptest::collection::vec(0..3000usize, 1..8),
        page in prop_oneof![Just(512usize), Just(4096)],
        lost in any::<u64>(),
        stale in any::<bool>(),
    ) {
        let mut world = World::new();
        world.group(&[100, 200]);
        world.group(&sizes);
        let (_, offset, _) = world.groups[1];
        world.edit(1, |bytes| {
            for (at, byte) in bytes.iter_mut().enumerate() {
                let sector = (offset as usize + at) / page - offset as usize / page;
                if lost >> (sector % 64) & 1 == 1 {
                    *byte = if stale { 0x5a } else { 0 };
                }
            }
        });
        let recovered = world.recover().unwrap();
        let read = world.batches(&recovered);
        prop_assert!(read.starts_with(&[1, 2]));
        prop_assert_eq!(&read, &(1..=read.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(recovered.next.lsn.0, read.len() as u64 + 1);
    }

    /// Over crashes in the middle of writes, in files that are used again and again: every group that was whole is
    /// found, and nothing that was not written.
    #[test]
    fn no_content_keeps_a_journal_from_being_read(
        lives in proptest::collection::vec(
            (proptest::collection::vec(group_of_contents(), 0..12), group_of_contents(), any::<u64>()), 1..6
        ),
    ) {
        let mut world = World::new();
        for (groups, last, kept) in &lives {
            let mut begun = world.pushed.len() as u64 + 1;
            for contents in groups {
                contents.iter().for_each(|content| world.push_content(content));
                if let Some(sealed) = world.write() {
                    world.ingested(&sealed);
                    begun = world.pushed.len() as u64 + 1;
                }
            }
            let whole = world.pushed.len() as u64;
            last.iter().for_each(|content| world.push_content(content));
            world.tear(|sector| kept >> (sector % 64) & 1 == 1);

            let recovered = world.recover().unwrap();
            let read = world.batches(&recovered);
            prop_assert_eq!(&read, &(begun..begun + read.len() as u64).collect::<Vec<_>>());
            prop_assert!(begun + read.len() as u64 > whole, "{read:?}, and {whole} was whole");
            world.restart();
        }
    }
}

#[test]
fn segments_are_freed_while_others_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    let maker = folder.clone();
    let (made, to_free) = std::sync::mpsc::channel();
    let making = thread::spawn(move || {
        for number in (1..=400).map(SegmentNumber) {
            maker.prepare(number).unwrap();
            made.send(number).unwrap();
        }
    });
    for number in to_free {
        folder.free(number).unwrap();
    }
    making.join().unwrap();
    assert!(list(dir.path()).unwrap().iter().all(|file| file.state == FileState::Free));
}

/// Whether a file of the journal's folder has this in it.
fn holds(dir: &TempDir, text: &[u8]) -> bool {
    list(dir.path()).unwrap().iter().any(|file| {
        let bytes = fs::read(&file.path).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    })
}

#[test]
fn what_a_freed_file_held_is_gone_once_it_is_wiped() {
    let text = b"said and taken back";
    let mut world = World::new();
    world.push(text.to_vec());
    world.write();
    world.folder.free(SegmentNumber(1)).unwrap();
    assert!(!world.folder.wipe_one(|| true).unwrap() && holds(&world.dir, text), "it was stopped");
    assert!(world.dir.path().join("00000000000000000001.free").exists(), "and comes again");
    assert!(world.folder.wipe_one(|| false).unwrap() && !holds(&world.dir, text));
    assert!(!world.folder.wipe_one(|| false).unwrap(), "there is no other");
    // It is a spare file as before, for a start and for the next segment.
    assert_eq!(world.recover().unwrap().segments, []);
    let before = list(world.dir.path()).unwrap().len();
    world.folder.prepare(SegmentNumber(1000)).unwrap();
    assert_eq!(list(world.dir.path()).unwrap().len(), before);
    assert!(world.recover().unwrap().empty.contains(&SegmentNumber(1000)));
}

#[test]
fn files_are_wiped_and_used_again_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), CONFIG.segment_bytes).unwrap();
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                folder.wipe_one(|| false).unwrap();
            }
        });
        for number in (1..300).map(SegmentNumber) {
            let path = folder.prepare(number).unwrap().path;
            assert_eq!(fs::metadata(path).unwrap().len(), CONFIG.segment_bytes);
            assert!(recover(dir.path()).is_ok(), "its header was wiped");
            folder.free(number).unwrap();
        }
        ends.store(true, Ordering::Relaxed);
    });
    let left = list(dir.path()).unwrap();
    assert!(left.len() <= FREE_FILES_MAX + 1 && left.iter().all(|file| file.state.is_spare()), "{left:?}");
}

#[test]
fn what_a_file_held_that_is_used_again_stays_under_load_alone() {
    let text = b"said and taken back";
    for (reuse, is_kept) in [(Reuse::AsItIs, true), (Reuse::Wiped, false)] {
        let mut world = World::new();
        world.push(text.to_vec());
        world.write();
        world.folder.free(SegmentNumber(1)).unwrap();
        world.folder.prepare_gently(SegmentNumber(1000), &AtomicBool::new(false), reuse).unwrap();
        assert!(!world.dir.path().join("00000000000000000001.free").exists(), "it is used again");
        assert_eq!(holds(&world.dir, text), is_kept, "{reuse:?}");
        assert!(world.recover().unwrap().empty.contains(&SegmentNumber(1000)));
    }
}
