//! Doorbell: what wakes a core that sleeps.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Wakes a core: an eventfd that the core's runtime watches, rung by its own ring and by other threads.
#[derive(Debug)]
pub struct Doorbell(pub(super) File);

impl Doorbell {
    /// A doorbell that nobody listens to yet.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(fd)))
    }

    /// Wakes the core, or makes its next sleep end at once.
    pub fn ring(&self) {
        // The only failure is a counter at its maximum, which means that the bell is ringing.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// For the runtime of the core to wait on. Edge-triggered: every ring is a new edge, so the count need not be read.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn listen(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let fd = self.0.as_fd().try_clone_to_owned()?;
        // SAFETY: the registration owns this copy of the descriptor, which therefore stays open as long as it lasts.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        registered.map_err(Into::into)
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
