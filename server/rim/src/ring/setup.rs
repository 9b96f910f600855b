//! What a ring needs of the kernel and of the process's limits, and what is said when that is missing.

use std::io;

use io_uring::{Probe, opcode};
use thiserror::Error;

use crate::rlimit::{CLIENT_RING_BYTES, LockedMemory};

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
            Some(libc::ENOMEM) => Self::MemoryLimit(LockedMemory::of_ring(CLIENT_RING_BYTES)),
            _ => Self::Other { step, error },
        }
    }

    /// Said of all cores of a node, of which this is one: each needs as much.
    #[must_use]
    pub fn of_cores(self, cores: u16) -> Self {
        match self {
            Self::MemoryLimit(_) => Self::MemoryLimit(LockedMemory::of_node(cores)),
            error @ (Self::Forbidden(_) | Self::Missing { .. } | Self::DescriptorLimit { .. } | Self::Other { .. }) => {
                error
            }
        }
    }
}

/// Whether the kernel knows what a ring does; the versions are those that know it as it is done here.
pub(super) fn need_opcodes(probe: &Probe) -> Result<(), SetupError> {
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
        (opcode::FilesUpdate::CODE, "IORING_OP_FILES_UPDATE", "6.0"),
    ];
    match needed.into_iter().find(|(code, ..)| !probe.is_supported(*code)) {
        Some((_, what, since)) => Err(SetupError::Missing { what, since }),
        None => Ok(()),
    }
}
