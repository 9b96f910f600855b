//! The journal's ring: one group at a time is written and synced through it. It is not the ring of the sockets, so that a core can wait for
//! its group and for nothing else.

use std::{
    io,
    mem::{self, ManuallyDrop},
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, FsyncFlags, SubmitArgs, Timespec},
};

use super::{Doorbell, SetupError};
use crate::limits::JOURNAL_ENTRIES;

const WRITE: u64 = 1;
const SYNC: u64 = 2;

/// A group whose write and sync have both ended.
#[derive(Debug)]
#[must_use]
pub struct Written {
    /// How many bytes the write took, or minus an error number.
    pub write: i32,
    /// 0, or minus an error number. A write that was short or failed has cancelled it.
    pub sync: i32,
    /// The bytes of the group, whole, whatever part was taken.
    pub bytes: Vec<u8>,
}

/// See the head of this file. Whatever memory the write points to belongs to the ring until both have ended.
pub struct JournalRing {
    /// The group being written. Empty: none. Dropped in [`JournalRing::drop`], and only if nothing is in flight.
    writing: ManuallyDrop<Vec<u8>>,
    /// What has ended of it.
    write: Option<i32>,
    sync: Option<i32>,
    /// The kernel has not taken the two yet.
    is_held: bool,
    uring: IoUring,
}

impl std::fmt::Debug for JournalRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalRing").field("is_writing", &self.is_writing()).finish_non_exhaustive()
    }
}

impl JournalRing {
    /// A ring that rings `doorbell` when something of a group has ended.
    ///
    /// # Errors
    /// The kernel or the process's limits do not allow it; the error says what to change.
    pub fn new(doorbell: &Doorbell) -> Result<Self, SetupError> {
        // Both are carried out by threads of the kernel, which complete by themselves: nothing is deferred to this one.
        let uring = IoUring::builder()
            .setup_submit_all()
            .build(JOURNAL_ENTRIES)
            .map_err(|error| SetupError::at("the journal's ring", "5.18", error))?;
        uring
            .submitter()
            .register_eventfd(doorbell.as_raw_fd())
            .map_err(|error| SetupError::at("registered eventfd", "5.2", error))?;
        Ok(Self { writing: ManuallyDrop::default(), write: None, sync: None, is_held: false, uring })
    }

    /// Writes a group and then syncs the file's data. A short or failed write cancels the sync. One group at a time; the file must stay
    /// open until it has ended. What the kernel does not take now, [`JournalRing::take`] hands over again.
    pub fn write_and_sync(&mut self, file: BorrowedFd<'_>, offset: u64, bytes: Vec<u8>) {
        assert!(!self.is_writing() && !bytes.is_empty(), "one group at a time, of something");
        let fd = Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset).build();
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
        // Moving the Vec moves no bytes: the entry points to its heap memory, which stays until the completion.
        *self.writing = bytes;
        let pair = [write.flags(squeue::Flags::IO_LINK).user_data(WRITE), sync.user_data(SYNC)];
        // SAFETY: the write points to memory that is the ring's from here on, until it has completed.
        unsafe { self.uring.submission().push_multiple(&pair) }.expect("the last group has left an empty queue");
        self.is_held = self.hand_over().is_err();
    }

    /// In one call: apart, the sync would not wait for the write.
    fn hand_over(&mut self) -> io::Result<()> {
        match self.uring.submit()? {
            2 => Ok(()),
            _ => Err(io::Error::other("the kernel took a write without its sync")),
        }
    }

    /// Whether a group was begun that has not been taken.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether something has ended, or the kernel was busy.
    #[must_use]
    pub fn is_ready(&mut self) -> bool {
        self.is_held || !self.uring.completion().is_empty()
    }

    /// The group, once both have ended.
    ///
    /// # Errors
    /// The ring is broken. A busy kernel is not an error.
    pub fn take(&mut self) -> io::Result<Option<Written>> {
        if self.is_held {
            match self.hand_over() {
                Ok(()) => self.is_held = false,
                Err(error) if is_busy(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        for entry in self.uring.completion() {
            let of = if entry.user_data() == WRITE { &mut self.write } else { &mut self.sync };
            *of = Some(entry.result());
        }
        let (Some(write), Some(sync)) = (self.write, self.sync) else { return Ok(None) };
        (self.write, self.sync) = (None, None);
        Ok(Some(Written { write, sync, bytes: mem::take(&mut self.writing) }))
    }

    /// Waits until the group in flight has ended, if there is one, at most for `patience`. A signal ends the wait too.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn wait(&mut self, patience: Duration) -> io::Result<()> {
        let ended = [self.write, self.sync].iter().flatten().count();
        if !self.is_writing() || self.is_held || ended == 2 {
            return Ok(());
        }
        let patience = Timespec::from(patience);
        match self.uring.submitter().submit_with_args(2 - ended, &SubmitArgs::new().timespec(&patience)) {
            Ok(_) => Ok(()),
            Err(error) if is_busy(&error) || error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As that of [`super::Ring`].
    pub fn enable_doorbell(&mut self) {
        self.uring.completion().enable_eventfd();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// As that of [`super::Ring`].
    pub fn disable_doorbell(&mut self) {
        self.uring.completion().disable_eventfd();
    }
}

impl Drop for JournalRing {
    /// Waits until the group in flight has ended: what was begun is written.
    fn drop(&mut self) {
        while self.is_writing() {
            match self.take() {
                Ok(Some(_)) => {}
                Ok(None) if self.wait(Duration::from_secs(1)).is_ok() => {}
                // The kernel may still use the memory: leak it.
                _ => return,
            }
        }
        // SAFETY: nothing is in flight, so the kernel reads none of the bytes; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.writing) };
    }
}

/// Nothing was taken, or the wait was cut short.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::{fd::AsFd as _, unix::fs::FileExt as _},
    };

    use super::*;

    fn written(ring: &mut JournalRing) -> Written {
        loop {
            if let Some(written) = ring.take().unwrap() {
                return written;
            }
            ring.wait(Duration::from_millis(100)).unwrap();
        }
    }

    #[test]
    fn a_group_is_written_and_then_synced_and_its_bytes_come_back() {
        let mut ring = JournalRing::new(&Doorbell::new().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        for offset in [4096, 0] {
            assert!(!ring.is_writing() && ring.take().unwrap().is_none());
            ring.write_and_sync(file.as_fd(), offset, b"group".to_vec());
            assert!(ring.is_writing());
            let Written { write, sync, bytes } = written(&mut ring);
            assert_eq!((write, sync, &bytes[..]), (5, 0, &b"group"[..]));
            let mut back = [0; 5];
            file.read_exact_at(&mut back, offset).unwrap();
            assert_eq!(&back, b"group");
        }
    }

    #[test]
    fn a_failed_write_cancels_its_sync() {
        let mut ring = JournalRing::new(&Doorbell::new().unwrap()).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        ring.write_and_sync(full.as_fd(), 0, b"group".to_vec());
        let Written { write, sync, bytes } = written(&mut ring);
        assert_eq!((write, sync, &bytes[..]), (-libc::ENOSPC, -libc::ECANCELED, &b"group"[..]));
    }

    #[test]
    fn a_wait_ends_with_the_group_and_without_one_at_once() {
        let mut ring = JournalRing::new(&Doorbell::new().unwrap()).unwrap();
        // Else this would take an hour.
        ring.wait(Duration::from_secs(3600)).unwrap();
        let file = tempfile::tempfile().unwrap();
        ring.write_and_sync(file.as_fd(), 0, b"group".to_vec());
        ring.wait(Duration::from_secs(3600)).unwrap();
        assert!(ring.is_ready() && ring.take().unwrap().is_some());
        assert!(!ring.is_ready());
    }

    #[test]
    fn the_end_of_a_group_rings_the_doorbell_while_that_is_enabled() {
        use std::io::Read as _;
        let doorbell = Doorbell::new().unwrap();
        let mut ring = JournalRing::new(&doorbell).unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut rings = |is_enabled| {
            if is_enabled {
                ring.enable_doorbell()
            } else {
                ring.disable_doorbell()
            }
            ring.write_and_sync(file.as_fd(), 0, b"group".to_vec());
            let _ = written(&mut ring);
            (&doorbell.0).read(&mut [0; 8]).is_ok()
        };
        assert_eq!([false, true, false].map(&mut rings), [false, true, false]);
    }

    #[test]
    fn a_ring_that_is_dropped_leaves_its_group_written() {
        let mut ring = JournalRing::new(&Doorbell::new().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        ring.write_and_sync(file.as_fd(), 0, vec![7; 1 << 20]);
        drop(ring);
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }
}
