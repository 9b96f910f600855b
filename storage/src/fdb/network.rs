//! The client's network thread: one for the process, started once, stopped when nothing uses it any more.
#![expect(
    unsafe_code,
    reason = "the client library asks for a promise that no type can give: that its thread ends before the process"
)]

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use foundationdb::api::{FdbApiBuilder, NetworkAutoStop, get_max_api_version};

use super::errors;
use crate::store::StoreError;

/// The version of the client's interface that is used here: that of FoundationDB 7.3.
const API_VERSION: i32 = 730;

/// Keeps the client's network thread running. Stores hold on to it too: the thread ends when the last of them is dropped.
///
/// That must be before the process exits, and not by a waker, which that thread calls. Whoever has started it drops it last, at the
/// end of `main`; a process that must end at once aborts. (A function for `atexit` is no way: by then the library has taken parts of itself
/// down, and stopping it crashes.)
#[derive(Clone)]
pub struct Network {
    _running: Arc<NetworkAutoStop>,
}

impl Network {
    /// Starts the thread.
    ///
    /// # Errors
    /// The client library is too old, or this process has started its network before: it cannot be started twice.
    pub fn start() -> Result<Self, StoreError> {
        check_version(get_max_api_version())?;
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(refused("a process can start the network of FoundationDB only once"));
        }
        let network = FdbApiBuilder::default().set_runtime_version(API_VERSION).build().map_err(errors::store_error)?;
        // SAFETY: what it gives is dropped before the process exits: by the end of `main`, as the documentation above demands. Who is in a
        // hurry ends the process without what is run at an exit.
        let running = unsafe { network.boot() }.map_err(errors::store_error)?;
        Ok(Self { _running: Arc::new(running) })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

fn check_version(found: i32) -> Result<(), StoreError> {
    if found >= API_VERSION {
        return Ok(());
    }
    Err(refused(&format!(
        "the FoundationDB client library (libfdb_c) knows API versions up to {found}, this program needs {API_VERSION}: \
         install the clients package of FoundationDB 7.3 or newer"
    )))
}

fn refused(reason: &str) -> StoreError {
    StoreError::Refused { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_library_that_is_too_old_is_refused_with_both_versions() {
        assert!(check_version(API_VERSION).is_ok() && check_version(740).is_ok());
        let told = check_version(710).unwrap_err().to_string();
        assert!(told.contains("710") && told.contains("730") && told.contains("install"), "{told}");
    }
}
