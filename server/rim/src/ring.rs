//! Ring: the io_uring of one core for its client sockets; core 0 has another one for the journal ([`JournalRing`]). Safe to use: whatever memory an
//! operation points to belongs to the ring from the call until its completion has been taken.
//!
//! Owns: the ring, the direct descriptors in its table, the receive buffers, the bytes being sent. Does not
//! know what a connection is. Created, used and dropped on one thread. The load generator's connections run on it too: what a
//! server never does is opening a connection ([`Ring::connect`]) and sleeping in the ring itself ([`Ring::submit_and_wait`]).

mod doorbell;
mod journal;
mod setup;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use io_uring::{
    IoUring, Probe, cqueue, opcode, squeue,
    types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec},
};
use socket2::{SockAddr, SockAddrStorage};

use self::setup::need_opcodes;
pub use self::{
    doorbell::Doorbell,
    journal::{JournalRing, Written},
    setup::SetupError,
};
pub use crate::buffers::Filled;
use crate::{
    buffers::{Buffers, GROUP},
    limits::{COMPLETION_ENTRIES, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, SUBMISSION_ENTRIES},
    rlimit::raise_descriptor_limit,
    token::{Op, Token},
};

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
    /// The bytes of a send, whole, whatever part was taken.
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
    /// Where connections have been opened to, as the kernel reads it: one or a few for the life of the ring.
    destinations: ManuallyDrop<Vec<(SocketAddr, Box<SockAddr>)>>,
    /// By place: where the connection that is accepted comes from.
    #[expect(clippy::vec_box, reason = "the kernel writes to where it is, and the Vec may move what it holds")]
    peers: ManuallyDrop<Vec<Box<Peer>>>,
    /// By place: what is put into the table.
    adopted: ManuallyDrop<Vec<Option<Box<Adoption>>>>,
    /// Operations begun since the last submit.
    waiting: VecDeque<squeue::Entry>,
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
            destinations: ManuallyDrop::default(),
            peers: ManuallyDrop::default(),
            adopted: ManuallyDrop::default(),
            waiting: VecDeque::new(),
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
            let (empty, work) = {
                let mut queue = self.uring.submission();
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
            let rest = !self.waiting.is_empty();
            match self.uring.submit_and_wait(if rest { 0 } else { completions }) {
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
        deferred || !self.waiting.is_empty() || !self.uring.completion().is_empty()
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
        unsafe { ManuallyDrop::drop(&mut self.destinations) };
        // SAFETY: no operation is in flight, so the kernel writes no address; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.peers) };
        // SAFETY: no operation is in flight, so the kernel reads and writes no number; not used again after this.
        unsafe { ManuallyDrop::drop(&mut self.adopted) };
    }
}
