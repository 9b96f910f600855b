//! Provided buffers: where the kernel puts received bytes. One set a ring; an idle connection owns none.
//!
//! A buffer is either the kernel's (in the entry ring), or a [`Filled`] that somebody holds until it is given back.
//! Every buffer is exactly one of the two: `held <= count`.

use std::{
    io,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{Submitter, types::BufRingEntry};

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// Received bytes, in a buffer that is to be given back. Dropping one loses the buffer until the ring ends.
#[derive(Debug)]
#[must_use]
pub struct Filled {
    id: u16,
    bytes: u32,
}

/// Anonymous memory of whole pages, as the kernel wants it.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours; `Pages` owns it.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("a mapping without MAP_FIXED is never at zero");
        Ok(Self { start, bytes })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and ends here; Ring::drop sees to it that no operation uses it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// All buffers of a ring.
#[derive(Debug)]
pub(crate) struct Buffers {
    entries: Pages,
    data: Pages,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    held: usize,
}

impl Buffers {
    /// `count` buffers, a power of two, of `buffer_bytes` each; all are the kernel's as soon as they are registered.
    pub(crate) fn new(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Pages::new(usize::from(count) * buffer_bytes)?;
        let mut buffers = Self { entries, data, count, buffer_bytes, tail: 0, held: count.into() };
        for id in 0..count {
            buffers.give_back(Filled { id, bytes: 0 });
        }
        Ok(buffers)
    }

    /// Tells the kernel of the buffers.
    pub(crate) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.start.as_ptr() as u64;
        // SAFETY: `entries` and `data` are owned by these buffers, which the ring keeps until no operation is in flight.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0) }
    }

    /// How many buffers are not the kernel's.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The kernel has filled a buffer.
    pub(crate) fn filled(&mut self, id: u16, bytes: u32) -> Filled {
        assert!(id < self.count && bytes as usize <= self.buffer_bytes, "the kernel fills what it was given");
        self.held += 1;
        debug_assert!(self.held <= usize::from(self.count));
        Filled { id, bytes }
    }

    /// What was received.
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        let offset = usize::from(filled.id) * self.buffer_bytes;
        // SAFETY: `id < count`, so the buffer lies in `data`.
        let start = unsafe { self.data.start.as_ptr().add(offset) };
        // SAFETY: `data` owns the bytes; the kernel wrote them before the completion and leaves them alone until the
        // buffer is given back, which needs `filled` by value and `self` mutably, so not during this borrow.
        unsafe { std::slice::from_raw_parts(start, filled.bytes as usize) }
    }

    /// As [`Buffers::bytes`], to be decrypted where they lie.
    pub(crate) fn bytes_mut(&mut self, filled: &Filled) -> &mut [u8] {
        let offset = usize::from(filled.id) * self.buffer_bytes;
        // SAFETY: `id < count`, so the buffer lies in `data`.
        let start = unsafe { self.data.start.as_ptr().add(offset) };
        // SAFETY: as for `bytes`; `self` is borrowed mutably, so nobody else here looks at them.
        unsafe { std::slice::from_raw_parts_mut(start, filled.bytes as usize) }
    }

    /// Makes a buffer the kernel's again.
    pub(crate) fn give_back(&mut self, filled: Filled) {
        let base: *mut BufRingEntry = self.entries.start.as_ptr().cast();
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.data.start.as_ptr() as u64 + (usize::from(filled.id) * self.buffer_bytes) as u64;
        // SAFETY: `index < count`, so the entry lies in `entries`.
        let entry = unsafe { base.add(index) };
        // SAFETY: `entries` owns the entry, and the kernel reads entries below the tail only: this one is not yet.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(filled.id);
        self.tail = self.tail.wrapping_add(1);
        self.held -= 1;
        // SAFETY: `base` is the first entry of the ring, initialised by the mapping's zeroes.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: the tail lies in `entries`, aligned to two bytes; both sides access it as an atomic.
        let tail = unsafe { &*tail.cast::<AtomicU16>() };
        // Release: the entry is whole before the kernel sees that it is there.
        tail.store(self.tail, Ordering::Release);
    }
}
