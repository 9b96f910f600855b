//! Ring: the io_uring of one core for its client sockets and, on core 0, the journal. Safe to use: whatever memory an
//! operation points to belongs to the ring from the call until its completion has been taken.
//!
//! Owns: the ring, the direct descriptors in its table, the receive buffers, the bytes being sent and written. Does not
//! know what a connection is. Created, used and dropped on one thread. The load generator's connections run on it too: what a
//! server never does is opening a connection ([`Ring::connect`]) and sleeping in the ring itself ([`Ring::submit_and_wait`]).

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use io_uring::{
    IoUring, Probe, cqueue, opcode, squeue,
    types::{CancelBuilder, DestinationSlot, Fd, Fixed, FsyncFlags, SubmitArgs, Timespec},
};
use socket2::{SockAddr, SockAddrStorage};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

pub use crate::buffers::Filled;
use crate::{
    buffers::{Buffers, GROUP},
    limits::{COMPLETION_ENTRIES, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, SUBMISSION_ENTRIES},
    rlimit::{CLIENT_RING_BYTES, CORE_BYTES, LockedMemory, raise_descriptor_limit},
    token::{Op, Token},
};

/// Why a ring could not be set up: what is missing and how to get it.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A seccomp filter or a sysctl forbids io_uring, or the kernel was built without.
    #[error(
        "io_uring is forbidden here ({0}): set `sysctl kernel.io_uring_disabled=0`, and in a container allow \
         io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    Forbidden(io::Error),
    /// The kernel is too old.
    #[error("this kernel has no {what}: Linux {since} or newer is needed, 6.1 for everything that Ringpost uses")]
    Missing {
        /// Which feature.
        what: &'static str,
        /// First version that has it.
        since: &'static str,
    },
    /// RLIMIT_NOFILE bounds the descriptor table of each ring.
    #[error(
        "{wanted} descriptors a core are wanted, the limit is {limit}: raise it (`ulimit -n {wanted}`, LimitNOFILE= of \
         the service) or lower the number of connections"
    )]
    DescriptorLimit {
        /// What the configuration asks for.
        wanted: u64,
        /// What RLIMIT_NOFILE allows.
        limit: u64,
    },
    /// RLIMIT_MEMLOCK bounds the memory of rings.
    #[error("{0}")]
    MemoryLimit(LockedMemory),
    /// Something else.
    #[error("setting up io_uring failed at {step}: {error}")]
    Other {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl SetupError {
    /// What the kernel has refused in this step, which Linux knows since then.
    #[must_use]
    pub fn at(step: &'static str, since: &'static str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => Self::Forbidden(error),
            Some(libc::EINVAL) => Self::Missing { what: step, since },
            Some(libc::ENOMEM) => Self::MemoryLimit(LockedMemory::new(1, CLIENT_RING_BYTES)),
            _ => Self::Other { step, error },
        }
    }

    /// Said of all cores of a node, of which this is one: each needs as much.
    #[must_use]
    pub fn of_cores(self, cores: u16) -> Self {
        match self {
            Self::MemoryLimit(_) => Self::MemoryLimit(LockedMemory::new(cores, CORE_BYTES)),
            error @ (Self::Forbidden(_) | Self::Missing { .. } | Self::DescriptorLimit { .. } | Self::Other { .. }) => {
                error
            }
        }
    }
}

/// Wakes a core: an eventfd that the core's runtime watches, rung by its own ring and by other threads.
#[derive(Debug)]
pub struct Doorbell(File);

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
}

impl Doorbell {
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

/// Where the kernel puts the address of an accepted connection's peer.
#[derive(Debug)]
struct Peer {
    address: SockAddrStorage,
    address_bytes: libc::socklen_t,
    /// The kernel may write.
    awaited: bool,
}

impl Peer {
    fn new() -> Box<Self> {
        let address = SockAddrStorage::zeroed();
        let address_bytes = address.size_of();
        Box::new(Self { address, address_bytes, awaited: false })
    }

    /// What the kernel wrote; it is done with it.
    fn take(&mut self) -> SocketAddr {
        let Self { address, address_bytes, .. } = mem::replace(self, *Self::new());
        // SAFETY: all bytes were zero before the kernel wrote an address of this length into them.
        let address = unsafe { SockAddr::new(address, address_bytes) };
        address.as_socket().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }
}

/// A descriptor on its way into the table. The kernel reads which one it is, and writes where it has put it.
#[derive(Debug)]
struct Adoption {
    socket: OwnedFd,
    number: RawFd,
}

impl Adoption {
    /// The slot, or minus an error number; the kernel is done with it.
    fn end(self, result: i32) -> i32 {
        // The table has a reference of its own; if it has not, the peer hears that the socket is closed.
        drop(self.socket);
        match result {
            1.. => self.number,
            0 => -libc::ENFILE,
            error => error,
        }
    }
}

/// What a completed operation gives back.
#[derive(Debug)]
pub enum Payload {
    /// Nothing.
    None,
    /// Where an accepted connection comes from.
    Accepted(SocketAddr),
    /// What a receive brought.
    Received(Filled),
    /// The bytes of a send or of a journal write, whole, whatever part was taken.
    Returned(Vec<u8>),
}

/// One completion.
#[derive(Debug)]
#[must_use]
pub struct Completion {
    /// Of what.
    pub token: Token,
    /// The count or descriptor, or minus an error number.
    pub result: i32,
    /// Whether a multishot operation goes on.
    pub more: bool,
    /// What comes back.
    pub payload: Payload,
}

/// The ring of one core.
pub struct Ring {
    // Dropped in Ring::drop, and only if no operation is in flight.
    buffers: ManuallyDrop<Buffers>,
    /// By direct descriptor: the bytes being sent. Empty: no send in flight.
    sending: ManuallyDrop<Vec<Vec<u8>>>,
    /// The group being written. Empty: none.
    writing: ManuallyDrop<Vec<u8>>,
    /// Where connections have been opened to, as the kernel reads it: one or a few for the life of the ring.
    destinations: ManuallyDrop<Vec<(SocketAddr, Box<SockAddr>)>>,
    /// By place: where the connection that is accepted comes from.
    #[expect(clippy::vec_box, reason = "the kernel writes to where it is, and the Vec may move what it holds")]
    peers: ManuallyDrop<Vec<Box<Peer>>>,
    /// By place: what is put into the table.
    adopted: ManuallyDrop<Vec<Option<Box<Adoption>>>>,
    /// Operations begun since the last submit.
    waiting: VecDeque<squeue::Entry>,
    /// A write and its sync: a link holds only within one submission.
    linked: Option<[squeue::Entry; 2]>,
    /// Operations begun and not ended.
    in_flight: usize,
    uring: IoUring,
    descriptors: u32,
    /// SINGLE_ISSUER: one thread for ever.
    thread: PhantomData<*const ()>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.as_raw_fd()).field("in_flight", &self.in_flight).finish()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Ring {
    /// A ring with a table of `descriptors` sockets, which rings `doorbell` when something has completed.
    ///
    /// # Errors
    /// The kernel or the process's limits do not allow it; the error says what to change.
    pub fn new(descriptors: u32, doorbell: &Doorbell) -> Result<Self, SetupError> {
        let buffers = Buffers::new(RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES)
            .map_err(|error| SetupError::Other { step: "memory for received bytes", error })?;
        Self::with_buffers(descriptors, doorbell, buffers)
    }

    fn with_buffers(descriptors: u32, doorbell: &Doorbell, buffers: Buffers) -> Result<Self, SetupError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)
            .map_err(|error| SetupError::at("IORING_SETUP_DEFER_TASKRUN", "6.1", error))?;
        let mut probe = Probe::new();
        uring
            .submitter()
            .register_probe(&mut probe)
            .map_err(|error| SetupError::at("probe of operations", "5.6", error))?;
        need_opcodes(&probe)?;
        uring.submitter().register_files_sparse(descriptors).map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE) => {
                SetupError::DescriptorLimit { wanted: descriptors.into(), limit: raise_descriptor_limit() }
            }
            _ => SetupError::at("sparse descriptor table", "5.19", error),
        })?;
        uring
            .submitter()
            .register_eventfd(doorbell.as_raw_fd())
            .map_err(|error| SetupError::at("registered eventfd", "5.2", error))?;
        buffers
            .register(&uring.submitter())
            .map_err(|error| SetupError::at("ring of provided buffers", "5.19", error))?;
        Ok(Self {
            buffers: ManuallyDrop::new(buffers),
            sending: ManuallyDrop::default(),
            writing: ManuallyDrop::default(),
            destinations: ManuallyDrop::default(),
            peers: ManuallyDrop::default(),
            adopted: ManuallyDrop::default(),
            waiting: VecDeque::new(),
            linked: None,
            in_flight: 0,
            uring,
            descriptors,
            thread: PhantomData,
        })
    }

    /// Size of the descriptor table.
    #[must_use]
    pub fn descriptors(&self) -> u32 {
        self.descriptors
    }

    /// Accepts one connection into a direct descriptor, and learns where it comes from: a multishot accept would not tell. One
    /// accept of a place at a time; places count from 0 and may be of several listeners, which must stay open as long as this ring.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, place: u32) {
        let index = place as usize;
        if self.peers.len() <= index {
            self.peers.resize_with(index + 1, Peer::new);
        }
        let peer = &mut *self.peers[index];
        assert!(!mem::replace(&mut peer.awaited, true), "one accept of a place at a time");
        // The box stays where it is, and nobody looks into it until the completion.
        let address = (&raw mut peer.address).cast();
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address, &raw mut peer.address_bytes)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.push(entry, Token::new(Op::Accept, place, 0));
    }

    /// Puts a socket into a free slot of the table, which then owns it.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn install(&mut self, slot: u32, socket: OwnedFd) -> io::Result<()> {
        // The table holds a reference of its own, so the process's descriptor ends here.
        self.uring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop)
    }

    /// Puts a socket into a slot of the kernel's choice, which then owns it. The result of [`Op::Adopt`] is that slot; the place that
    /// its token names is given here, and is taken until then.
    pub fn adopt(&mut self, socket: OwnedFd) -> u32 {
        let free = self.adopted.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.adopted.push(None);
            self.adopted.len() - 1
        });
        let number = socket.as_raw_fd();
        let adoption = self.adopted[place].insert(Box::new(Adoption { socket, number }));
        // The box stays where it is, and nobody looks into it until the completion. An offset of all ones: the kernel chooses.
        let entry = opcode::FilesUpdate::new(&raw mut adoption.number, 1).offset(-1).build();
        self.push(entry, Token::new(Op::Adopt, place as u32, 0));
        place as u32
    }

    /// Opens the connection of an installed socket.
    pub fn connect(&mut self, slot: u32, generation: u32, to: SocketAddr) {
        let at = self.destinations.iter().position(|(known, _)| *known == to).unwrap_or_else(|| {
            self.destinations.push((to, Box::new(SockAddr::from(to))));
            self.destinations.len() - 1
        });
        // The box stays where it is for the life of the ring.
        let address = &*self.destinations[at].1;
        let entry = opcode::Connect::new(Fixed(slot), address.as_ptr().cast(), address.len()).build();
        self.push(entry, Token::new(Op::Connect, slot, generation));
    }

    /// Receives once into a provided buffer.
    pub fn receive_once(&mut self, slot: u32, generation: u32) {
        let entry = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.push(entry.flags(squeue::Flags::BUFFER_SELECT), Token::new(Op::Hello, slot, generation));
    }

    /// Receives into provided buffers until a completion says that there is no more.
    pub fn receive(&mut self, slot: u32, generation: u32) {
        let entry = opcode::RecvMulti::new(Fixed(slot), GROUP).build();
        self.push(entry, Token::new(Op::Receive, slot, generation));
    }

    /// Sends `bytes`; they come back with the completion. One send per descriptor at a time.
    pub fn send(&mut self, slot: u32, generation: u32, bytes: Vec<u8>) {
        let index = slot as usize;
        if self.sending.len() <= index {
            self.sending.resize_with(index + 1, Vec::new);
        }
        assert!(self.sending[index].is_empty() && !bytes.is_empty(), "one send at a time, of something");
        // WAITALL: the kernel goes on after a short send, so that a completion nearly always means everything.
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
        // Moving the Vec moves no bytes: the entry points to its heap memory, which stays until the completion.
        self.sending[index] = bytes;
        self.push(entry, Token::new(Op::Send, slot, generation));
    }

    /// Writes a journal group and then syncs the file's data. Two completions; the bytes come back with the first. A
    /// short or failed write cancels the sync. One group at a time.
    pub fn write_and_sync(&mut self, file: BorrowedFd<'_>, offset: u64, bytes: Vec<u8>) {
        assert!(self.writing.is_empty() && !bytes.is_empty(), "one group at a time, of something");
        let fd = Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset).build();
        *self.writing = bytes;
        let write = write.flags(squeue::Flags::IO_LINK).user_data(Token::of(Op::JournalWrite).pack());
        let sync = sync_entry(file).user_data(Token::of(Op::JournalSync).pack());
        self.linked = Some([write, sync]);
        self.in_flight += 2;
    }

    /// Syncs a file's data.
    pub fn sync(&mut self, file: BorrowedFd<'_>) {
        self.push(sync_entry(file), Token::of(Op::JournalSync));
    }

    /// Gives another ring a copy of a descriptor, in a slot of the other's choice. The other ring completes
    /// [`Op::Arrival`] with that slot, from `core` and with `ticket`; this one completes [`Op::Move`].
    pub fn move_descriptor(&mut self, slot: u32, generation: u32, target: RawFd, core: u16, ticket: u32) {
        let arrival = Token::new(Op::Arrival, core.into(), ticket).pack();
        let entry = opcode::MsgRingSendFd::new(Fd(target), Fixed(slot), DestinationSlot::auto_target(), arrival);
        self.push(entry.build(), Token::new(Op::Move, slot, generation));
    }

    /// Ends the sending half of a connection.
    pub fn shutdown_write(&mut self, slot: u32, generation: u32) {
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build();
        self.push(entry, Token::new(Op::Shutdown, slot, generation));
    }

    /// Cancels one operation, if it is still there. Its completion comes in any case.
    pub fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.pack()).build();
        self.push(entry, Token::of(Op::Cancel));
    }

    /// Closes a direct descriptor. When it completes the slot may be taken again.
    pub fn close(&mut self, slot: u32, generation: u32) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(entry, Token::new(Op::Close, slot, generation));
    }

    /// What a receive brought.
    #[must_use]
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    /// As [`Ring::bytes`], to be decrypted where they lie.
    #[must_use]
    pub fn bytes_mut(&mut self, filled: &Filled) -> &mut [u8] {
        self.buffers.bytes_mut(filled)
    }

    /// Makes a receive buffer free again.
    pub fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled);
    }

    /// Receive buffers that the kernel may fill.
    #[must_use]
    pub fn free_buffers(&self) -> usize {
        usize::from(RECEIVE_BUFFERS).saturating_sub(self.buffers.held())
    }

    /// Hands over everything that was begun, and runs what the kernel has deferred. No system call if there is neither.
    ///
    /// # Errors
    /// The ring is broken. A busy kernel is not an error: what was not taken is handed over next time.
    pub fn submit(&mut self) -> io::Result<()> {
        self.hand_over(0)
    }

    /// As [`Ring::submit`], and waits in the same call until something has completed. For a loop that has nothing else to
    /// wait for; a signal ends the wait too.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn wait(&mut self) -> io::Result<()> {
        self.hand_over(1)
    }

    fn hand_over(&mut self, completions: usize) -> io::Result<()> {
        loop {
            let mut linked = false;
            let (empty, work) = {
                let mut queue = self.uring.submission();
                // First into an empty queue, so that one call takes both: apart, the sync would not wait for the write.
                if queue.is_empty()
                    && let Some(pair) = self.linked.take()
                {
                    // SAFETY: Self::write_and_sync took the memory that the write points to into the ring's ownership.
                    unsafe { queue.push_multiple(&pair) }.expect("an empty queue has room for two");
                    linked = true;
                }
                while let Some(entry) = self.waiting.front() {
                    // SAFETY: Self::push took the memory that the entry points to into the ring's ownership.
                    if unsafe { queue.push(entry) }.is_err() {
                        break;
                    }
                    self.waiting.pop_front();
                }
                (queue.is_empty(), queue.taskrun() || queue.cq_overflow())
            };
            if empty && !work && completions == 0 {
                return Ok(());
            }
            let rest = !self.waiting.is_empty() || self.linked.is_some();
            match self.uring.submit_and_wait(if rest { 0 } else { completions }) {
                Ok(1) if linked => return Err(io::Error::other("the kernel took a write without its sync")),
                Ok(_) if !rest => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    return match error.raw_os_error() {
                        // Nothing was taken.
                        Some(libc::EBUSY | libc::EAGAIN | libc::EINTR) => Ok(()),
                        _ => Err(error),
                    };
                }
            }
        }
    }

    /// Hands over everything that was begun, and sleeps until something has completed, at most for `patience`.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn submit_and_wait(&mut self, patience: Duration) -> io::Result<()> {
        self.submit()?;
        if !self.uring.completion().is_empty() {
            return Ok(());
        }
        let patience = Timespec::from(patience);
        match self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience)) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EBUSY | libc::EAGAIN | libc::EINTR) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether something has completed, or would if [`Ring::submit`] were called.
    #[must_use]
    pub fn is_ready(&mut self) -> bool {
        let deferred = {
            let queue = self.uring.submission();
            queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
        };
        deferred || !self.waiting.is_empty() || self.linked.is_some() || !self.uring.completion().is_empty()
    }

    /// Appends everything that has completed to `out`.
    pub fn take(&mut self, out: &mut Vec<Completion>) {
        for entry in self.uring.completion() {
            let Some(token) = Token::unpack(entry.user_data()) else {
                debug_assert!(false, "only tokens are submitted");
                continue;
            };
            let more = cqueue::more(entry.flags());
            if !more && token.op != Op::Arrival {
                self.in_flight -= 1;
            }
            let mut result = entry.result();
            let payload = match (token.op, cqueue::buffer_select(entry.flags())) {
                (Op::Hello | Op::Receive, Some(id)) => {
                    Payload::Received(self.buffers.filled(id, entry.result().max(0) as u32))
                }
                (Op::Send, _) => Payload::Returned(mem::take(&mut self.sending[token.slot as usize])),
                (Op::JournalWrite, _) => Payload::Returned(mem::take(&mut self.writing)),
                (Op::Accept, _) => {
                    let peer = self.peers[token.slot as usize].take();
                    if entry.result() < 0 { Payload::None } else { Payload::Accepted(peer) }
                }
                (Op::Adopt, _) => {
                    result =
                        self.adopted[token.slot as usize].take().map_or(-libc::EBADF, |adoption| adoption.end(result));
                    Payload::None
                }
                _ => Payload::None,
            };
            out.push(Completion { token, result, more, payload });
        }
    }

    /// Makes completions ring the doorbell: before sleeping. Check [`Ring::is_ready`] afterwards.
    pub fn enable_doorbell(&mut self) {
        self.uring.completion().enable_eventfd();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Completions are taken without being told: while awake.
    pub fn disable_doorbell(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Begins an operation whose memory, if any, the caller has put into the ring's ownership.
    fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.waiting.push_back(entry.user_data(token.pack()));
        self.in_flight += 1;
    }

    /// Cancels everything and waits until it has ended.
    fn settle(&mut self) -> io::Result<()> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        self.push(cancel, Token::of(Op::Cancel));
        let mut ended = Vec::new();
        loop {
            self.submit()?;
            self.take(&mut ended);
            ended.clear();
            if self.in_flight == 0 {
                return Ok(());
            }
            match self.uring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
                _ => {}
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.settle().is_err() {
            // The kernel may still use the memory: leak it.
            return;
        }
        // SAFETY: no operation is in flight, so the kernel writes to no buffer; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: no operation is in flight, so the kernel reads none of the bytes; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.sending) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.writing) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.destinations) };
        // SAFETY: no operation is in flight, so the kernel writes no address; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.peers) };
        // SAFETY: no operation is in flight, so the kernel reads and writes no number; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.adopted) };
    }
}

fn sync_entry(file: BorrowedFd<'_>) -> squeue::Entry {
    opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build()
}

fn need_opcodes(probe: &Probe) -> Result<(), SetupError> {
    let needed = [
        (opcode::Accept::CODE, "IORING_OP_ACCEPT", "5.5"),
        (opcode::Recv::CODE, "IORING_OP_RECV", "5.6"),
        (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
        (opcode::Write::CODE, "IORING_OP_WRITE", "5.6"),
        (opcode::Fsync::CODE, "IORING_OP_FSYNC", "5.1"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
        (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
        (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN", "5.11"),
        (opcode::MsgRingSendFd::CODE, "IORING_OP_MSG_RING", "6.0"),
        (opcode::FilesUpdate::CODE, "IORING_OP_FILES_UPDATE", "5.6"),
    ];
    match needed.into_iter().find(|(code, ..)| !probe.is_supported(*code)) {
        Some((_, what, since)) => Err(SetupError::Missing { what, since }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
        os::unix::fs::FileExt as _,
    };

    use super::*;

    /// A ring and a listener that it accepts from.
    struct World {
        ring: Ring,
        listener: TcpListener,
        doorbell: Doorbell,
        taken: VecDeque<Completion>,
    }

    impl World {
        fn new() -> Self {
            Self::with_buffers(8)
        }

        fn with_buffers(count: u16) -> Self {
            let doorbell = Doorbell::new().unwrap();
            let buffers = Buffers::new(count, RECEIVE_BUFFER_BYTES).unwrap();
            let ring = Ring::with_buffers(64, &doorbell, buffers).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            Self { ring, listener, doorbell, taken: VecDeque::new() }
        }

        /// The next completion of an operation of this kind; others are left for later.
        fn next(&mut self, op: Op) -> Completion {
            loop {
                if let Some(at) = self.taken.iter().position(|completion| completion.token.op == op) {
                    return self.taken.remove(at).unwrap();
                }
                self.ring.submit().unwrap();
                let mut out = Vec::new();
                self.ring.take(&mut out);
                if out.is_empty() {
                    self.ring.uring.submit_and_wait(1).unwrap();
                }
                self.taken.extend(out);
            }
        }

        /// A connected client, and its slot here.
        fn connect(&mut self) -> (TcpStream, u32) {
            self.ring.accept(self.listener.as_fd(), 0);
            self.ring.submit().unwrap();
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let accepted = self.next(Op::Accept);
            match accepted.payload {
                Payload::Accepted(peer) => assert_eq!(peer, client.local_addr().unwrap()),
                other => panic!("from nowhere: {other:?}"),
            }
            (client, accepted.result.try_into().unwrap())
        }

        fn received(&mut self, completion: Completion) -> Vec<u8> {
            match completion.payload {
                Payload::Received(filled) => {
                    let bytes = self.ring.bytes(&filled).to_vec();
                    self.ring.give_back(filled);
                    bytes
                }
                other => panic!("no bytes: {other:?} {}", completion.result),
            }
        }
    }

    #[test]
    fn what_a_client_sends_comes_in_and_what_is_sent_comes_out() {
        let mut world = World::new();
        let (mut client, slot) = world.connect();
        world.ring.receive(slot, 7);
        client.write_all(b"one").unwrap();
        let completion = world.next(Op::Receive);
        assert_eq!(completion.token, Token::new(Op::Receive, slot, 7));
        assert!(completion.more);
        let bytes = world.received(completion);
        world.ring.send(slot, 7, bytes);
        let sent = world.next(Op::Send);
        assert_eq!(sent.result, 3);
        assert!(matches!(sent.payload, Payload::Returned(bytes) if bytes == b"one"));
        let mut echo = [0; 3];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"one");
    }

    #[test]
    fn a_connection_opened_by_the_ring_carries_bytes_both_ways() {
        let mut world = World::new();
        let to = world.listener.local_addr().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        world.ring.install(5, socket.into()).unwrap();
        world.ring.connect(5, 9, to);
        let connected = world.next(Op::Connect);
        assert_eq!((connected.token, connected.result), (Token::new(Op::Connect, 5, 9), 0));
        let (mut peer, _) = world.listener.accept().unwrap();
        world.ring.send(5, 9, b"there".to_vec());
        let mut there = [0; 5];
        assert_eq!(world.next(Op::Send).result, 5);
        peer.read_exact(&mut there).unwrap();
        world.ring.receive(5, 9);
        peer.write_all(b"back").unwrap();
        let completion = world.next(Op::Receive);
        assert_eq!(world.received(completion), b"back");
    }

    #[test]
    fn a_connection_to_nobody_is_refused() {
        let mut world = World::new();
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        world.ring.install(5, socket.into()).unwrap();
        world.ring.connect(5, 9, to);
        assert_eq!(world.next(Op::Connect).result, -libc::ECONNREFUSED);
    }

    #[test]
    fn a_sleep_in_the_ring_ends_when_something_completes_or_the_time_is_over() {
        let mut world = World::new();
        let (mut client, slot) = world.connect();
        world.ring.disable_doorbell();
        let mut out = Vec::new();
        world.ring.submit_and_wait(Duration::from_millis(1)).unwrap();
        world.ring.take(&mut out);
        assert!(out.is_empty(), "{out:?}");
        world.ring.receive(slot, 1);
        client.write_all(b"a").unwrap();
        world.ring.submit_and_wait(Duration::from_secs(60)).unwrap();
        world.ring.take(&mut out);
        let completion = out.pop().unwrap();
        assert_eq!(world.received(completion), b"a");
    }

    #[test]
    fn a_connection_that_moves_to_another_ring_is_served_there() {
        let mut from = World::new();
        let mut to = World::new();
        let (mut client, slot) = from.connect();
        from.ring.move_descriptor(slot, 1, to.ring.as_raw_fd(), 3, 99);
        from.ring.submit().unwrap();
        let arrival = to.next(Op::Arrival);
        assert!(from.next(Op::Move).result >= 0);
        from.ring.close(slot, 1);
        assert_eq!(from.next(Op::Close).result, 0);
        assert_eq!((arrival.token.slot, arrival.token.generation), (3, 99));
        let there: u32 = arrival.result.try_into().unwrap();
        to.ring.receive(there, 1);
        client.write_all(b"hello").unwrap();
        let completion = to.next(Op::Receive);
        assert_eq!(to.received(completion), b"hello");
        assert_eq!((from.ring.in_flight, to.ring.in_flight), (0, 1));
    }

    #[test]
    fn a_socket_of_the_process_gets_a_slot_that_no_accept_has() {
        let mut world = World::new();
        let (_client, taken) = world.connect();
        let mut client = TcpStream::connect(world.listener.local_addr().unwrap()).unwrap();
        let (socket, _) = world.listener.accept().unwrap();
        let place = world.ring.adopt(socket.into());
        let adopted = world.next(Op::Adopt);
        assert_eq!(adopted.token, Token::new(Op::Adopt, place, 0));
        let slot: u32 = adopted.result.try_into().unwrap();
        assert_ne!(slot, taken);
        world.ring.receive(slot, 1);
        client.write_all(b"hello").unwrap();
        let completion = world.next(Op::Receive);
        assert_eq!(world.received(completion), b"hello");
        world.ring.cancel(Token::new(Op::Receive, slot, 1));
        assert_eq!(world.next(Op::Receive).result, -libc::ECANCELED);
        world.ring.close(slot, 1);
        assert_eq!(world.next(Op::Close).result, 0);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "nobody else has it open");
    }

    #[test]
    fn a_socket_that_finds_no_slot_is_closed() {
        let mut world = World::new();
        let mut clients = Vec::new();
        let adopt = |world: &mut World| {
            let client = TcpStream::connect(world.listener.local_addr().unwrap()).unwrap();
            let (socket, _) = world.listener.accept().unwrap();
            world.ring.adopt(socket.into());
            (client, world.next(Op::Adopt).result)
        };
        for _ in 0..64 {
            let (client, result) = adopt(&mut world);
            assert!(result >= 0, "{result}");
            clients.push(client);
        }
        let (mut client, result) = adopt(&mut world);
        assert_eq!(result, -libc::ENFILE);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_receive_without_a_buffer_ends_and_goes_on_when_one_is_back() {
        let mut world = World::with_buffers(1);
        let (mut client, slot) = world.connect();
        world.ring.receive(slot, 1);
        world.ring.submit().unwrap();
        client.write_all(&[1; RECEIVE_BUFFER_BYTES + 1]).unwrap();
        let first = world.next(Op::Receive);
        let second = if first.more { world.next(Op::Receive) } else { panic!("the first has a buffer: {first:?}") };
        assert_eq!((second.result, second.more), (-libc::ENOBUFS, false));
        assert_eq!(world.received(first).len(), RECEIVE_BUFFER_BYTES);
        world.ring.receive(slot, 1);
        let third = world.next(Op::Receive);
        assert_eq!(world.received(third), [1]);
    }

    #[test]
    fn a_cancelled_receive_says_so_and_can_be_begun_again() {
        let mut world = World::new();
        let (mut client, slot) = world.connect();
        world.ring.receive(slot, 1);
        world.ring.submit().unwrap();
        world.ring.cancel(Token::new(Op::Receive, slot, 1));
        let ended = world.next(Op::Receive);
        assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
        world.ring.receive(slot, 1);
        client.write_all(b"again").unwrap();
        let completion = world.next(Op::Receive);
        assert_eq!(world.received(completion), b"again");
    }

    #[test]
    fn a_journal_group_is_written_and_then_synced() {
        let mut world = World::new();
        let file = tempfile::tempfile().unwrap();
        world.ring.write_and_sync(file.as_fd(), 4096, b"group".to_vec());
        let write = world.next(Op::JournalWrite);
        assert_eq!(write.result, 5);
        assert_eq!(world.next(Op::JournalSync).result, 0);
        let mut back = [0; 5];
        file.read_exact_at(&mut back, 4096).unwrap();
        assert_eq!(&back, b"group");
    }

    #[test]
    fn a_failed_write_cancels_its_sync() {
        let mut world = World::new();
        let full = File::options().write(true).open("/dev/full").unwrap();
        world.ring.write_and_sync(full.as_fd(), 0, b"group".to_vec());
        assert_eq!(world.next(Op::JournalWrite).result, -libc::ENOSPC);
        assert_eq!(world.next(Op::JournalSync).result, -libc::ECANCELED);
    }

    #[test]
    fn a_completion_rings_the_doorbell_only_while_it_is_enabled() {
        let mut world = World::new();
        let (mut client, slot) = world.connect();
        let count = |world: &World| {
            let mut count = [0; 8];
            (&world.doorbell.0).read(&mut count).map(|_| u64::from_ne_bytes(count)).unwrap_or_default()
        };
        world.ring.disable_doorbell();
        let _ = count(&world);
        world.ring.receive(slot, 1);
        world.ring.submit().unwrap();
        client.write_all(b"a").unwrap();
        let first = world.next(Op::Receive);
        assert_eq!(world.received(first), b"a");
        assert_eq!(count(&world), 0);
        world.ring.enable_doorbell();
        assert!(!world.ring.is_ready());
        client.write_all(b"b").unwrap();
        let mut poll = libc::pollfd { fd: world.doorbell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` lives on this stack for the call.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
        assert!(world.ring.is_ready());
        let second = world.next(Op::Receive);
        assert_eq!(world.received(second), b"b");
    }

    #[test]
    fn a_ring_with_operations_in_flight_can_be_dropped() {
        let mut world = World::new();
        let (_client, slot) = world.connect();
        world.ring.receive(slot, 1);
        world.ring.send(slot, 1, vec![0; 64 << 20]);
        world.ring.submit().unwrap();
    }

    #[test]
    fn too_many_descriptors_are_refused_with_the_limit() {
        let limit = raise_descriptor_limit();
        let wanted = u32::try_from(limit + 1).unwrap();
        match Ring::new(wanted, &Doorbell::new().unwrap()) {
            Err(SetupError::DescriptorLimit { limit: told, .. }) => assert_eq!(told, limit),
            other => panic!("{other:?}"),
        }
    }
}
