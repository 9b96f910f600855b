//! Status: what the admin endpoint tells, from before there is a node until the process ends.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use server::{admin::Readiness, audit::Audit, directory::Directory, io::Counters, logging, metrics, process::Usage};

#[derive(Debug)]
pub(crate) struct Status {
    counters: Arc<Counters>,
    audit: Audit,
    /// Who is connected, from the moment on that clients may connect.
    directory: OnceLock<Arc<Directory>>,
    is_stopping: AtomicBool,
}

impl Status {
    /// Of a server that starts.
    pub(crate) fn new(counters: Arc<Counters>, audit: Audit) -> Self {
        Self { counters, audit, directory: OnceLock::new(), is_stopping: AtomicBool::new(false) }
    }

    /// Clients may connect.
    pub(crate) fn serves(&self, directory: Arc<Directory>) {
        // It starts once.
        let _ = self.directory.set(directory);
    }

    /// They may no more.
    pub(crate) fn stops(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn readiness(&self) -> Readiness {
        if self.is_stopping.load(Ordering::Relaxed) {
            Readiness::NotReady("stopping".to_owned())
        } else if self.directory.get().is_none() {
            Readiness::NotReady("starting".to_owned())
        } else {
            Readiness::Ready
        }
    }

    pub(crate) fn metrics(&self) -> String {
        let users_online = self.directory.get().map_or(0, |directory| directory.len());
        metrics::text(&self.counters, self.audit.counters(), logging::counters(), users_online, Usage::own())
    }
}
