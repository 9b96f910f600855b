//! Status: what the admin endpoint tells, from before there is a node until the process ends.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use server::{
    admin::Readiness,
    audit::Audit,
    directory::Directory,
    io::{Counters, recovery},
    logging, metrics,
    process::Usage,
    utc::wall_now,
    validity::Validity,
};

#[derive(Debug)]
pub(crate) struct Status {
    counters: Arc<Counters>,
    audit: Audit,
    /// Who is connected, from the moment on that clients may connect.
    directory: OnceLock<Arc<Directory>>,
    is_stopping: AtomicBool,
    certificate: Mutex<Option<Validity>>,
}

impl Status {
    /// Of a server that starts.
    pub(crate) fn new(counters: Arc<Counters>, audit: Audit) -> Self {
        Self {
            counters,
            audit,
            directory: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            certificate: Mutex::default(),
        }
    }

    /// How long the certificate in use is good; none: there is none.
    pub(crate) fn has_certificate(&self, validity: Option<Validity>) {
        *self.certificate.lock() = validity;
    }

    pub(crate) fn certificate(&self) -> Option<Validity> {
        *self.certificate.lock()
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
        let not_ready = |why: &str| Readiness::NotReady(why.to_owned());
        if self.is_stopping.load(Ordering::Relaxed) {
            return not_ready("stopping");
        }
        if self.directory.get().is_some() {
            return Readiness::Ready;
        }
        Readiness::NotReady(recovery::in_words(&self.counters.journal).unwrap_or_else(|| "starting".to_owned()))
    }

    pub(crate) fn metrics(&self) -> String {
        let users_online = self.directory.get().map_or(0, |directory| directory.len());
        let left_s = self.certificate().map(|validity| validity.left_s(wall_now()));
        metrics::text(&self.counters, self.audit.counters(), logging::counters(), users_online, left_s, Usage::own())
    }
}
