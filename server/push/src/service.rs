//! Service: the thread that hands notices to providers. The [`plan`](crate::plan) says what goes when, and the transport sends it; here is
//! the clock that the plan goes by.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet, LocalSet},
};

use crate::{
    counters::Counters,
    handover::node::Node,
    limits::{LOOKUPS_MAX, OFFERED_MAX, TAKEN_TURN_MAX, TEXT_BYTES_MAX},
    notice::{Kind, Notice, Outcome, Refusal, Subscription},
    plan::{Attempt, HostName, Moment, Next, Plan, Verdict},
    provider,
    settings::{BadSubscription, Way},
    transport::Transport,
};

/// The push service.
pub struct Push {
    offers: Offers,
    counters: Arc<Counters>,
    thread: JoinHandle<()>,
}

/// Where notices are offered, from any thread.
#[derive(Clone)]
pub struct Offers {
    notices: mpsc::Sender<Notice>,
    close: watch::Sender<()>,
}

impl Offers {
    /// Offers a notice. Never waits.
    ///
    /// # Errors
    ///
    /// The notice, when there is no room now or the service has stopped. It is the caller's, to be offered again later.
    #[expect(clippy::result_large_err, reason = "the notice is given back as it was")]
    pub fn offer(&self, mut notice: Notice) -> Result<(), Notice> {
        if let Kind::Message { text: Some(text), .. } = &mut notice.kind {
            cut(text);
        }
        self.notices.try_send(notice).map_err(|full| match full {
            mpsc::error::TrySendError::Full(notice) | mpsc::error::TrySendError::Closed(notice) => notice,
        })
    }

    /// Has the service end: it takes no more, gives back what waits as [`Outcome::Later`], and ends when what is under way has. Never
    /// waits.
    pub fn close(&self) {
        self.close.send_replace(());
    }
}

impl Push {
    /// Starts the service. `ended` is called on its thread, once for each notice that was taken, and must not wait for anything.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or no `epoll`.
    pub fn start(way: impl Into<Way>, ended: impl FnMut(Notice, Outcome) + Send + 'static) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // For lookups of names alone.
        let runtime = runtime.max_blocking_threads(LOOKUPS_MAX).enable_all().build()?;
        let counters = Arc::new(Counters::default());
        let (offers, offered) = mpsc::channel(OFFERED_MAX);
        let (close, closed) = watch::channel(());
        let (numbers, way) = (counters.clone(), way.into());
        let run = move || {
            let desk = Desk::new(way, numbers, ended);
            LocalSet::new().block_on(&runtime, desk.run(offered, closed));
            // A lookup may still hang, which nobody waits for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("push".to_owned()).spawn(run)?;
        Ok(Self { offers: Offers { notices: offers, close }, counters, thread })
    }

    /// Where notices are offered.
    #[must_use]
    pub fn offers(&self) -> Offers {
        self.offers.clone()
    }

    /// What it does.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Stops: as [`Offers::close`], and waits for what is under way, [`crate::settings::Pace::answer_max`] at the longest.
    ///
    /// # Panics
    ///
    /// When the service has panicked.
    pub fn stop(self) {
        self.offers.close();
        self.thread.join().expect("the push service does not panic");
    }
}

/// What the thread has.
struct Desk<E> {
    began: Instant,
    plan: Plan,
    hands: Rc<Hands>,
    counters: Arc<Counters>,
    attempts: JoinSet<(Attempt, Verdict)>,
    ended: E,
}

impl<E: FnMut(Notice, Outcome)> Desk<E> {
    fn new(way: Way, counters: Arc<Counters>, ended: E) -> Self {
        let pace = match &way {
            Way::Own(settings) => settings.pace,
            Way::Services(services) => services.pace,
        };
        Self {
            began: Instant::now(),
            plan: Plan::new(pace),
            hands: Rc::new(Hands::of(way)),
            counters,
            attempts: JoinSet::new(),
            ended,
        }
    }

    async fn run(mut self, mut offered: mpsc::Receiver<Notice>, mut closed: watch::Receiver<()>) {
        loop {
            self.begin_what_is_due();
            self.counters.show(self.plan.figures());
            let wake = self.plan.wake().map(|Moment(at)| self.began + at);
            tokio::select! {
                biased;
                // That all who could close it are gone says the same.
                _ = closed.changed() => break,
                Some(attempt) = self.attempts.join_next() => self.attempt_ended(attempt),
                Some(notice) = offered.recv(), if self.plan.has_room() => self.take(notice),
                () = sleep_until(wake) => {}
            }
            // What has come meanwhile, before the next look.
            while let Some(attempt) = self.attempts.try_join_next() {
                self.attempt_ended(attempt);
            }
            for _ in 0..TAKEN_TURN_MAX {
                if !self.plan.has_room() {
                    break;
                }
                let Ok(notice) = offered.try_recv() else { break };
                self.take(notice);
            }
        }
        offered.close();
        while let Ok(notice) = offered.try_recv() {
            self.give_back(notice);
        }
        loop {
            for notice in self.plan.give_back() {
                self.give_back(notice);
            }
            let Some(attempt) = self.attempts.join_next().await else { break };
            self.attempt_ended(attempt);
        }
    }

    fn now(&self) -> Moment {
        Moment(self.began.elapsed())
    }

    fn take(&mut self, notice: Notice) {
        self.counters.offered(notice.subscription.provider.kind());
        let host = match self.hands.host_of(&notice.subscription) {
            Ok(host) => host,
            Err(bad) => return self.end(notice, Outcome::Refused(bad.into())),
        };
        if notice.kind == Kind::Clear && !provider::can_clear(&host) {
            // What waits is not to be shown any more; what is shown stays.
            if let Some(older) = self.plan.withdraw(&notice) {
                self.end(older, Outcome::Superseded);
            }
            return self.end(notice, Outcome::Refused(Refusal::CannotClear));
        }
        let mut ended = Vec::new();
        self.plan.offer(self.now(), notice, host, &mut ended);
        self.end_all(ended);
    }

    fn begin_what_is_due(&mut self) {
        let now = self.now();
        while let Some(next) = self.plan.next(now) {
            match next {
                Next::Ended(notice, outcome) => self.end(notice, outcome),
                Next::Begin(attempt) => {
                    self.counters.handed_over(attempt.notice.subscription.provider.kind());
                    let (hands, left) = (self.hands.clone(), attempt.expires.0.saturating_sub(now.0));
                    self.attempts.spawn_local(async move {
                        let verdict = hands.send(&attempt.notice, left).await;
                        (attempt, verdict)
                    });
                }
            }
        }
    }

    fn attempt_ended(&mut self, attempt: Result<(Attempt, Verdict), JoinError>) {
        let (attempt, verdict) = attempt.expect("attempts neither panic nor are they given up");
        self.counters.answered(attempt.notice.subscription.provider.kind(), &verdict);
        let mut ended = Vec::new();
        self.plan.ended(self.now(), attempt, verdict, rand::random(), &mut ended);
        self.end_all(ended);
    }

    fn end_all(&mut self, ended: Vec<(Notice, Outcome)>) {
        for (notice, outcome) in ended {
            self.end(notice, outcome);
        }
    }

    fn end(&mut self, notice: Notice, outcome: Outcome) {
        self.counters.ended(notice.subscription.provider.kind(), &outcome);
        (self.ended)(notice, outcome);
    }

    fn give_back(&mut self, notice: Notice) {
        self.end(notice, Outcome::Later(Duration::ZERO));
    }
}

/// Who makes the attempts.
enum Hands {
    Own(Box<Transport>),
    Services(Box<Node>),
}

impl Hands {
    fn of(way: Way) -> Self {
        match way {
            Way::Own(settings) => Self::Own(Box::new(Transport::new(*settings))),
            Way::Services(services) => Self::Services(Box::new(Node::new(*services))),
        }
    }

    fn host_of(&self, subscription: &Subscription) -> Result<HostName, BadSubscription> {
        match self {
            Self::Own(transport) => transport.settings().host_of(subscription),
            Self::Services(node) => node.host_of(subscription),
        }
    }

    async fn send(&self, notice: &Notice, left: Duration) -> Verdict {
        match self {
            Self::Own(transport) => transport.send(notice, left).await,
            Self::Services(node) => node.send(notice, left).await,
        }
    }
}

/// Cuts a text that is longer than any provider takes, between two characters.
fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
