//! Stages: parts of a load that a scenario names, so that what each cost can be told. The lanes say when one begins, the coordinator
//! looks at the costs then.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The stages of a load, which all lanes share.
#[derive(Clone, Debug)]
pub struct Stages {
    /// One after the other; a name may come again.
    names: Arc<[&'static str]>,
    begun: Arc<AtomicUsize>,
}

impl Stages {
    /// None has begun. The names are in the order in which they begin; those of one name are counted together.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self { names: names.into_iter().collect(), begun: Arc::default() }
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
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

/// What a stage was, all times that it came together. Lanes tell a few times a second what they have counted, so the counts are not
/// exact.
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
    /// Entries of groups that came to members in it.
    pub delivered: u64,
    /// Bytes that came to devices in it.
    pub received: u64,
    /// CPU seconds of the server in it.
    pub server_cpu_s: Option<f64>,
    /// Memory of the server at its end, the first time, in bytes.
    pub server_bytes: Option<u64>,
}

impl Stage {
    /// Adds the same stage of a later time.
    pub fn add(&mut self, later: &Self) {
        self.took_s += later.took_s;
        self.accepted += later.accepted;
        self.pushed += later.pushed;
        self.delivered += later.delivered;
        self.received += later.received;
        self.server_cpu_s = self.server_cpu_s.zip(later.server_cpu_s).map(|(before, more)| before + more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_comes_again_is_added_and_its_memory_is_that_of_the_first_time() {
        let stage = |took_s, server_cpu_s| Stage {
            name: "calm",
            took_s,
            accepted: 3,
            pushed: 4,
            delivered: 5,
            received: 6,
            server_cpu_s,
            server_bytes: Some(took_s as u64),
        };
        let mut all = stage(1.0, Some(0.5));
        all.add(&stage(2.0, Some(0.25)));
        assert_eq!((all.took_s, all.accepted, all.pushed, all.delivered, all.received), (3.0, 6, 8, 10, 12));
        assert_eq!((all.server_cpu_s, all.server_bytes), (Some(0.75), Some(1)));
        all.add(&stage(1.0, None));
        assert_eq!(all.server_cpu_s, None, "not known for a part, not known for all");
    }
}
