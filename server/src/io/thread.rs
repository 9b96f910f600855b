//! Threads of a node: each has a name, and none ends by a panic without the whole process.

use std::{
    io, process,
    thread::{self, Builder, JoinHandle},
};

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
