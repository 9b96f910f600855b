//! Stages: parts of a load that a scenario names, so that what each cost can be told. The lanes say when one begins, the coordinator
//! looks at the costs then.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The stages of a load, which all lanes share.
#[derive(Clone, Debug)]
pub struct Stages {
    names: &'static [&'static str],
    begun: Arc<AtomicUsize>,
}

impl Stages {
    /// None has begun. The names are in the order in which they begin.
    #[must_use]
    pub fn new(names: &'static [&'static str]) -> Self {
        Self { names, begun: Arc::default() }
    }

    /// This stage has begun here, and so all before it. The first one is 0.
    pub fn begin(&self, stage: usize) {
        self.begun.fetch_max(stage + 1, Ordering::Relaxed);
    }

    /// How many have begun anywhere.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Their names.
    #[must_use]
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }
}

/// What a stage was. Lanes tell a few times a second what they have counted, so the counts are not exact.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// Messages accepted in it.
    pub accepted: u64,
    /// Presence frames that were pushed in it.
    pub pushed: u64,
    /// CPU seconds of the server in it.
    pub server_cpu_s: Option<f64>,
    /// Memory of the server at its end, in bytes.
    pub server_bytes: Option<u64>,
}
