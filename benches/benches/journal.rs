//! Journal: a group of 1, 16 or 256 batches, of one message each. `writer`: gathering them, sealing the group with its
//! checksums, and accounting for the finished write; no I/O. `write_and_sync`: the bytes of such a group to the disk
//! with plain system calls, one write and one fdatasync, into a file that was filled with zeros as segments are.
//!
//! The file is in the build folder, not in a temporary folder, which may be memory. Not measured: the ring that the
//! server writes through, and the waiting of batches for the group before theirs.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    os::unix::fs::FileExt as _,
};

use benches::{SIZES, history::History};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use storage::{
    Batch, BatchId, LaneId,
    journal::{JournalConfig, Position, Salt, Write, Writer},
};

const USERS: usize = 1_000;

/// Written over from the front when it is full.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

fn writer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal/writer");
    for batches in SIZES {
        let payloads = payloads(batches);
        let mut groups = Groups::default();
        group.throughput(Throughput::Elements(batches as u64));
        group.bench_function(BenchmarkId::from_parameter(batches), |b| {
            b.iter(|| {
                let write = groups.next(&payloads);
                groups.finish(black_box(write));
            });
        });
    }
}

fn write_and_sync(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal/write_and_sync");
    // A sync takes milliseconds: as many of them in each sample, and not more and more.
    group.sample_size(50).sampling_mode(SamplingMode::Flat);
    let file = zeroed_file();
    for batches in SIZES {
        let bytes = Groups::default().next(&payloads(batches)).bytes;
        let len = bytes.len() as u64;
        let mut offset = 0;
        group.throughput(Throughput::Elements(batches as u64));
        group.bench_function(BenchmarkId::from_parameter(batches), |b| {
            b.iter(|| {
                if offset + len > FILE_BYTES {
                    offset = 0;
                }
                file.write_all_at(&bytes, offset).expect("a write");
                file.sync_data().expect("a sync");
                offset += len;
            });
        });
    }
}

/// A writer whose segments are always ready and, once full, always ingested.
struct Groups {
    writer: Writer,
    batch: BatchId,
}

impl Default for Groups {
    fn default() -> Self {
        Self { writer: Writer::new(JournalConfig::default(), Position::default()), batch: BatchId(0) }
    }
}

impl Groups {
    fn next(&mut self, payloads: &[Batch]) -> Write {
        while let Some(number) = self.writer.wants_segment() {
            self.writer.add_segment(number, Salt(number.0));
        }
        for payload in payloads {
            self.batch.0 += 1;
            self.writer.push(LaneId(0), self.batch, payload.bytes());
        }
        self.writer.next_write().expect("batches wait and nothing is in flight")
    }

    fn finish(&mut self, write: Write) {
        let done = self.writer.written(write.bytes);
        assert_eq!(done.synced, [(LaneId(0), self.batch)], "all of them are one group");
        if let Some(sealed) = done.sealed {
            self.writer.released(sealed.segment);
        }
    }
}

fn payloads(batches: usize) -> Vec<Batch> {
    let mut history = History::new(USERS);
    let mut batch = || {
        let mut batch = Batch::default();
        history.message(&mut batch);
        batch
    };
    (0..batches).map(|_| batch()).collect()
}

/// Has no name, so that nothing is left of it.
fn zeroed_file() -> File {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in the build folder");
    let path = dir.path().join("segment");
    let file = OpenOptions::new().create_new(true).write(true).open(path).expect("a new file");
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0).expect("room for the file");
    file.sync_all().expect("a sync");
    file
}

criterion_group!(journal, writer, write_and_sync);
criterion_main!(journal);
