//! Status: what the admin endpoint tells, from before there is a node until the process ends.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rim::{process::Usage, utc::wall_now};
use server::{
    access::validity::Validity,
    host::clock::Clock,
    io::{Node, recovery},
    operator::{admin::Readiness, audit::Audit, counters::Counters, logging, metrics, pulse::Pulse},
    shard::{Admission, directory::Directory, topology::CoreId},
};

#[derive(Debug)]
pub(crate) struct Status {
    counters: Arc<Counters>,
    audit: Audit,
    /// From the moment on that clients may connect.
    serving: OnceLock<Serving>,
    is_stopping: AtomicBool,
    certificate: Mutex<Option<Validity>>,
}

#[derive(Debug)]
struct Serving {
    /// Who is connected.
    directory: Arc<Directory>,
    /// That cores go by.
    clock: Clock,
}

impl Status {
    /// Of a server that starts.
    pub(crate) fn new(counters: Arc<Counters>, audit: Audit) -> Self {
        Self {
            counters,
            audit,
            serving: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            certificate: Mutex::default(),
        }
    }

    /// How long the certificate in use is good; none: there is none.
    pub(crate) fn has_certificate(&self, validity: Option<Validity>) {
        *self.certificate.lock() = validity;
    }

    /// Tells the operator time and again of a certificate that ends soon, or has ended. Whoever has put it into use has told it before.
    pub(crate) async fn watch_certificate(&self, every: Duration, tell: impl Fn(&str)) {
        loop {
            tokio::time::sleep(every).await;
            let notice = self.certificate().and_then(|validity| validity.notice(wall_now()));
            notice.iter().for_each(|notice| tell(notice));
        }
    }

    fn certificate(&self) -> Option<Validity> {
        *self.certificate.lock()
    }

    /// Clients may connect.
    pub(crate) fn serves(&self, node: &Node) {
        // It starts once.
        let _ = self.serving.set(Serving { directory: node.directory(), clock: node.controls().clock().clone() });
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
        if self.counters.journal.admission.get() == Admission::Failed as u64 {
            return Readiness::Broken("the journal has failed: nothing more is acknowledged, and reads go on");
        }
        let Some(Serving { clock, .. }) = self.serving.get() else {
            return Readiness::NotReady(
                recovery::in_words(&self.counters.journal).unwrap_or_else(|| "starting".to_owned()),
            );
        };
        let now_ms = clock.now().monotonic_ms;
        match self.lapsed_ms(now_ms) {
            Some(ms) => Readiness::NotReady(format!(
                "the lease of this node was over {} s ago: the database does not answer, and others may serve its users",
                ms / 1_000
            )),
            None => readiness_by(&self.counters.pulse, now_ms),
        }
    }

    /// How long the lease of the node has been over, if it is, where slots move.
    fn lapsed_ms(&self, now_ms: u64) -> Option<u64> {
        let until_ms = self.counters.lease_until_ms.get();
        (until_ms > 0 && now_ms >= until_ms).then(|| now_ms - until_ms)
    }

    pub(crate) fn metrics(&self) -> String {
        let users_online = self.serving.get().map_or(0, |serving| serving.directory.len());
        let left_s = self.certificate().map(|validity| validity.left_s(wall_now()));
        metrics::text(&self.counters, self.audit.counters(), logging::counters(), users_online, left_s, Usage::own())
    }
}

/// Of a node that serves: whether all its cores turn.
fn readiness_by(pulse: &Pulse, now_ms: u64) -> Readiness {
    match pulse.stuck(now_ms) {
        None => Readiness::Ready,
        Some((CoreId(core), silent_ms)) => {
            Readiness::NotReady(format!("core {core} is stuck: its last tick was {} s ago", silent_ms / 1_000))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use server::access::validity::WARN_BEFORE_S;

    use super::*;

    /// Much longer than it takes.
    const DEADLINE: Duration = Duration::from_secs(120);

    #[test]
    fn a_certificate_that_ends_soon_is_told_of_again_and_again_until_there_is_a_newer_one() {
        let status = Status::new(Arc::new(Counters::new(1)), Audit::off());
        let told = RefCell::new(Vec::new());
        let ending_in = |left_s| Validity { from_s: 0, until_s: wall_now().0 / 1_000 + left_s };
        let watch =
            status.watch_certificate(Duration::from_millis(1), |notice| told.borrow_mut().push(notice.to_owned()));
        let replaced = async {
            status.has_certificate(Some(ending_in(WARN_BEFORE_S - 3_600)));
            while told.borrow().len() < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(told.borrow().iter().all(|notice| notice.contains("in 20 days")), "{told:?}");
            status.has_certificate(Some(ending_in(WARN_BEFORE_S + 3_600)));
            told.borrow_mut().clear();
            // Many looks.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(*told.borrow(), Vec::<String>::new());
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = watch => unreachable!("it goes on"),
                done = tokio::time::timeout(DEADLINE, replaced) => done.unwrap(),
            }
        });
    }

    #[test]
    fn a_node_with_a_core_that_is_stuck_is_not_ready_and_says_which() {
        let pulse = Pulse::new(2);
        pulse.beat(CoreId(0), 60_000);
        pulse.beat(CoreId(1), 53_000);
        let why = "core 1 is stuck: its last tick was 7 s ago".to_owned();
        assert_eq!(readiness_by(&pulse, 60_000), Readiness::NotReady(why));
        pulse.beat(CoreId(1), 60_050);
        assert_eq!(readiness_by(&pulse, 60_050), Readiness::Ready);
    }
}
