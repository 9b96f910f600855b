//! Spool: log lines on their way to a stream that may be slow, full or gone.
//!
//! Owns the bytes that wait and the only thread that writes them. Does not know what is in a line.
//!
//! Invariants: whoever puts a line down never waits for the stream and never hears of its errors. No more than
//! [`LOG_QUEUE_BYTES_MAX`] wait. Each line is either written or counted as lost, and what was lost is said once the stream takes
//! lines again. That the thread hangs in a write, or the stream is gone, costs lines and nothing else.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::limits::{LOG_QUEUE_BYTES_MAX, LOG_RETRY_MS};

/// What became of the lines, for the metrics.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Lines that the stream took.
    pub written: AtomicU64,
    /// Lines that it did not take, or that found no room to wait.
    pub lost: AtomicU64,
}

impl LogCounters {
    pub(super) const fn new() -> Self {
        Self { written: AtomicU64::new(0), lost: AtomicU64::new(0) }
    }
}

/// Where lines are put down.
#[derive(Clone, Debug)]
pub(super) struct Spool(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    more: Condvar,
    /// There is nothing to write.
    idle: Condvar,
    counters: LogCounters,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Lines that found no room behind these.
    lost: u64,
    /// The thread has taken bytes and is not done with them.
    is_writing: bool,
}

impl Spool {
    /// Starts the thread. `note` is the line that says how many are missing.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        stream: impl Write + Send + 'static,
        note: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let spool = Self(Arc::clone(&shared));
        let stream = Stream { stream, is_torn: false };
        thread::Builder::new().name("ringpost-log".into()).spawn(move || write_all(&shared, stream, note))?;
        Ok(spool)
    }

    /// Puts lines down, each with the line break at its end.
    pub(super) fn put(&self, lines: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.bytes.len() + lines.len() <= LOG_QUEUE_BYTES_MAX {
            waiting.bytes.extend_from_slice(lines);
            self.0.more.notify_one();
        } else {
            let lost = count(lines);
            waiting.lost += lost;
            self.0.counters.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written or lost, but no longer than this.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut waiting = self.0.waiting.lock();
        while (waiting.is_writing || !waiting.bytes.is_empty())
            && !self.0.idle.wait_until(&mut waiting, until).timed_out()
        {}
    }

    pub(super) fn counters(&self) -> &LogCounters {
        &self.0.counters
    }
}

fn write_all(shared: &Shared, mut stream: Stream<impl Write>, note: impl Fn(u64) -> String) {
    let mut batch = Vec::new();
    // Lines that are lost, of which the stream has not heard.
    let mut unsaid = 0;
    loop {
        let lost_behind = shared.take(&mut batch, (unsaid > 0).then_some(Duration::from_millis(LOG_RETRY_MS)));
        if unsaid > 0 {
            let note = note(unsaid);
            if stream.write(note.as_bytes()) == note.len() {
                unsaid = 0;
            }
        }
        let taken = if unsaid == 0 { stream.write(&batch) } else { 0 };
        let (written, lost) = (count(&batch[..taken]), count(&batch[taken..]));
        shared.counters.written.fetch_add(written, Ordering::Relaxed);
        shared.counters.lost.fetch_add(lost, Ordering::Relaxed);
        unsaid += lost + lost_behind;
    }
}

impl Shared {
    /// Takes all that waits, in exchange for an empty buffer; waits for it, for a bounded time if there is one. How many lines
    /// were lost behind it.
    fn take(&self, batch: &mut Vec<u8>, patience: Option<Duration>) -> u64 {
        batch.clear();
        let mut waiting = self.waiting.lock();
        waiting.is_writing = false;
        self.idle.notify_all();
        match patience {
            None => self.more.wait_while(&mut waiting, |waiting| waiting.bytes.is_empty()),
            Some(patience) => {
                _ = self.more.wait_while_for(&mut waiting, |waiting| waiting.bytes.is_empty(), patience);
            }
        }
        waiting.is_writing = true;
        mem::swap(&mut waiting.bytes, batch);
        mem::take(&mut waiting.lost)
    }
}

struct Stream<W> {
    stream: W,
    /// The last write has ended within a line.
    is_torn: bool,
}

impl<W: Write> Stream<W> {
    /// Writes whole lines, for as long as it takes; what is not written when an error comes stays unwritten. How many bytes were
    /// written.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.is_torn && !lines.is_empty() {
            self.is_torn = self.write_bytes(b"\n") == 0;
        }
        if self.is_torn {
            return 0;
        }
        let written = self.write_bytes(lines);
        self.is_torn = lines[..written].last().is_some_and(|last| *last != b'\n');
        written
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever else has this stream has made it one that does not block: it is full, not broken.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(LOG_RETRY_MS));
                }
                Err(_) => break,
            }
        }
        written
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{BufRead as _, BufReader, PipeReader},
        os::fd::AsRawFd as _,
    };

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn note(lost: u64) -> String {
        format!("{lost} lost\n")
    }

    fn counts(spool: &Spool) -> (u64, u64) {
        let LogCounters { written, lost } = spool.counters();
        (written.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }

    /// Puts lines down until some found no room. How many there were.
    fn overflow(spool: &Spool) -> u64 {
        let line = format!("{}\n", "x".repeat(999));
        (1..)
            .find(|_| {
                spool.put(line.as_bytes());
                counts(spool).1 > 2
            })
            .unwrap()
    }

    /// Reads up to the note of what is missing. How many lines came before it, and how many it names.
    fn read_to_the_note(reader: PipeReader) -> (u64, u64) {
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap).enumerate();
        let (before, note) = lines.find(|(_, line)| line.ends_with(" lost")).unwrap();
        (before as u64, note.trim_end_matches(" lost").parse().unwrap())
    }

    #[test]
    fn lines_come_out_in_their_order() {
        let (reader, writer) = io::pipe().unwrap();
        let spool = Spool::start(writer, note).unwrap();
        for line in 0..100 {
            spool.put(format!("{line}\n").as_bytes());
        }
        spool.flush(PATIENCE);
        assert_eq!(counts(&spool), (100, 0));
        let lines: Vec<_> = BufReader::new(reader).lines().take(100).map(Result::unwrap).collect();
        assert_eq!(lines, (0..100).map(|line| line.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_hears_later_what_is_missing() {
        let (reader, writer) = io::pipe().unwrap();
        let spool = Spool::start(writer, note).unwrap();
        let put = overflow(&spool);
        spool.flush(Duration::from_millis(10));
        let (before, lost) = read_to_the_note(reader);
        assert_eq!((before + lost, lost), (put, 3));
    }

    #[test]
    fn a_full_stream_that_does_not_block_is_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        // SAFETY: it changes a flag of a descriptor that `writer` owns, and touches no memory.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
        let spool = Spool::start(writer, note).unwrap();
        let put = overflow(&spool);
        let (before, lost) = read_to_the_note(reader);
        assert_eq!((before + lost, lost), (put, 3));
    }

    #[test]
    fn what_a_reader_that_is_gone_or_a_full_disk_does_not_take_is_counted() {
        let (reader, gone) = io::pipe().unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        for spool in [Spool::start(gone, note).unwrap(), Spool::start(full, note).unwrap()] {
            for _ in 0..3 {
                spool.put(b"a line\nand one more\n");
                spool.flush(PATIENCE);
            }
            assert_eq!(counts(&spool), (0, 6));
        }
    }

    /// Takes so many bytes in all, and then none until it is told to.
    struct Disk {
        room: usize,
        written: Arc<Mutex<Vec<u8>>>,
        failures: u32,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 && self.failures > 0 {
                self.failures -= 1;
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = if self.failures > 0 { bytes.len().min(self.room) } else { bytes.len() };
            self.room = self.room.saturating_sub(taken);
            self.written.lock().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_stands_alone_and_what_follows_begins_a_line() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let spool = Spool::start(Disk { room: 8, written: Arc::clone(&written), failures: 2 }, note).unwrap();
        spool.put(b"first\nsecond\nthird\n");
        spool.flush(PATIENCE);
        // Without another line: the note is tried again by itself.
        let until = Instant::now() + PATIENCE;
        while !written.lock().ends_with(b"lost\n") && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        spool.put(b"fourth\n");
        spool.flush(PATIENCE);
        assert_eq!(String::from_utf8_lossy(&written.lock()), "first\nse\n2 lost\nfourth\n");
        assert_eq!(counts(&spool), (2, 2));
    }
}
