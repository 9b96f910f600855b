//! Threads of a node: each has a name, and none ends by a panic without the whole process.

use std::{
    io, process,
    thread::{self, Builder, JoinHandle},
};

use storage::step_back;
use tracing::{debug, warn};

/// Starts a thread of a node.
///
/// # Errors
/// The kernel has no thread for it.
pub(super) fn spawn(name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(move || {
        let _guard = AbortOnPanic;
        work();
    })
}

/// For what nobody waits for: puts the calling thread, and those that it starts, so far below the cores as `nice` counts. Where the kernel
/// does not allow it, they compete with the cores.
pub(super) fn stand_below(nicer: i32) {
    if let Err(error) = step_back(nicer) {
        let thread = thread::current();
        warn!(%error, thread = thread.name(), "this thread competes with the cores");
    }
}

/// For a core: has the kernel run the calling thread soon after it has something to do, whoever else wants the processor.
pub(super) fn be_prompt() {
    if let Err(error) = rim::process::take_short_slices() {
        debug!(%error, "a core waits for the processor as other threads do");
    }
}

/// A panic in a thread of the node ends the process, in builds that unwind too: a node with a dead core would accept
/// messages for users that nobody serves, one with a dead helper would wait for it for ever. The log gets the message by
/// the hook that [`crate::operator::logging`] sets.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}
