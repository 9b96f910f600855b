//! Service: the thread that hands notices to providers. The [`plan`](crate::plan) says what goes when; here are the clock, the dice and the
//! connections.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, LocalSet},
};

use crate::{
    counters::Counters,
    encryption::Fresh,
    http::Http,
    limits::{FCM_TOKEN_PAUSE_S, LOOKUPS_MAX, OFFERED_MAX, TAKEN_TURN_MAX, TEXT_BYTES_MAX},
    notice::{Kind, Notice, Outcome, ProviderKind, Refusal, Trouble},
    payload,
    plan::{Attempt, Moment, Next, Plan, Verdict},
    provider::{self, Going, Sending, apns, fcm, web_push, webhook},
    settings::{BadSubscription, Fcm, Settings},
};

/// The push service.
pub struct Push {
    offers: Offers,
    counters: Arc<Counters>,
    /// Dropped, it stops the service.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Where notices are offered, from any thread.
#[derive(Clone)]
pub struct Offers(mpsc::Sender<Notice>);

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
        self.0.try_send(notice).map_err(|full| match full {
            mpsc::error::TrySendError::Full(notice) | mpsc::error::TrySendError::Closed(notice) => notice,
        })
    }
}

impl Push {
    /// Starts the service. `ended` is called on its thread, once for each notice that was taken, and must not wait for anything.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or no `epoll`.
    pub fn start(settings: Settings, ended: impl FnMut(Notice, Outcome) + Send + 'static) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // For lookups of names alone.
        let runtime = runtime.max_blocking_threads(LOOKUPS_MAX).enable_all().build()?;
        let counters = Arc::new(Counters::default());
        let (offers, offered) = mpsc::channel(OFFERED_MAX);
        let (stop, stopped) = oneshot::channel();
        let numbers = counters.clone();
        let run = move || {
            let desk = Desk::new(settings, numbers, ended);
            LocalSet::new().block_on(&runtime, desk.run(offered, stopped));
            // A lookup may still hang, which nobody waits for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("push".to_owned()).spawn(run)?;
        Ok(Self { offers: Offers(offers), counters, stop, thread })
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

    /// Stops: waits for what is under way, [`crate::settings::Pace::answer_max`] at the longest, and gives the rest back as
    /// [`Outcome::Later`].
    ///
    /// # Panics
    ///
    /// When the service has panicked.
    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("the push service does not panic");
    }
}

/// What the thread has.
struct Desk<E> {
    began: Instant,
    plan: Plan,
    rim: Rc<Rim>,
    counters: Arc<Counters>,
    attempts: JoinSet<(Attempt, Verdict)>,
    ended: E,
}

impl<E: FnMut(Notice, Outcome)> Desk<E> {
    fn new(mut settings: Settings, counters: Arc<Counters>, ended: E) -> Self {
        let pace = settings.pace;
        let http = Http::new(std::mem::replace(&mut settings.roots, rustls::RootCertStore::empty()), pace);
        Self {
            began: Instant::now(),
            plan: Plan::new(pace),
            rim: Rc::new(Rim {
                settings,
                http,
                vapid: RefCell::default(),
                apns: RefCell::default(),
                fcm: FcmToken::default(),
            }),
            counters,
            attempts: JoinSet::new(),
            ended,
        }
    }

    async fn run(mut self, mut offered: mpsc::Receiver<Notice>, mut stopped: oneshot::Receiver<()>) {
        loop {
            self.begin_what_is_due();
            self.counters.show(self.plan.figures());
            let wake = self.plan.wake().map(|Moment(at)| self.began + at);
            tokio::select! {
                biased;
                _ = &mut stopped => break,
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
        let host = match self.rim.settings.host_of(&notice.subscription) {
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
                    let (rim, left) = (self.rim.clone(), attempt.expires.0.saturating_sub(now.0));
                    self.attempts.spawn_local(async move {
                        let verdict = rim.send(&attempt.notice, left).await;
                        (attempt, verdict)
                    });
                }
            }
        }
    }

    fn attempt_ended(&mut self, attempt: Result<(Attempt, Verdict), tokio::task::JoinError>) {
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

/// What attempts share.
struct Rim {
    settings: Settings,
    http: Http,
    vapid: RefCell<web_push::Tokens>,
    apns: RefCell<apns::Token>,
    fcm: FcmToken,
}

/// Who finds no good token asks for one, and the others wait for it.
#[derive(Default)]
struct FcmToken(tokio::sync::Mutex<FcmTokenState>);

#[derive(Default)]
enum FcmTokenState {
    #[default]
    Absent,
    Here(fcm::Token),
    /// None was given. Until then, in seconds since 1970, nobody asks again.
    NotGiven {
        until_s: u64,
    },
}

impl Rim {
    /// Sends a notice that is worth telling for so long.
    async fn send(&self, notice: &Notice, left: Duration) -> Verdict {
        let tag = payload::tag(&self.settings.tag_key, notice);
        // A clock before 1970 makes no token that anybody takes, which the answers then say.
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let going = Going { notice, tag: &tag, ttl_s: left.as_secs().max(1), now_s };
        let sent = match notice.subscription.provider.kind() {
            ProviderKind::WebPush => self.by_web_push(&going).await,
            ProviderKind::Webhook => self.by_webhook(&going).await,
            ProviderKind::Fcm => self.by_fcm(&going).await,
            ProviderKind::Apns => self.by_apns(&going).await,
        };
        sent.unwrap_or_else(|not_sent| match not_sent {
            NotSent::Bad(bad) => Verdict::Final(Outcome::Refused(bad.into())),
            NotSent::Trouble(trouble) => Verdict::Again(trouble, None),
        })
    }

    async fn by_web_push(&self, going: &Going<'_>) -> Result<Verdict, NotSent> {
        let settings = self.settings.web_push.as_ref().ok_or(BadSubscription::NotConfigured(ProviderKind::WebPush))?;
        let sending = web_push::request(settings, &mut self.vapid.borrow_mut(), going, &Fresh::by_chance())?;
        Ok(web_push::verdict(&self.http.exchange(sending, going.now_s).await?))
    }

    async fn by_webhook(&self, going: &Going<'_>) -> Result<Verdict, NotSent> {
        let settings = self.settings.webhook.as_ref().ok_or(BadSubscription::NotConfigured(ProviderKind::Webhook))?;
        let sending = webhook::request(settings, going, &payload::id(&self.settings.tag_key, going.notice))?;
        Ok(webhook::verdict(&self.http.exchange(sending, going.now_s).await?))
    }

    async fn by_fcm(&self, going: &Going<'_>) -> Result<Verdict, NotSent> {
        let settings = self.settings.fcm.as_ref().ok_or(BadSubscription::NotConfigured(ProviderKind::Fcm))?;
        let token = self.fcm.get(&self.http, settings, going.now_s).await.ok_or(Trouble::Token)?;
        let answer = self.http.exchange(fcm::request(settings, going, &token)?, going.now_s).await?;
        let verdict = fcm::verdict(&answer);
        if let Verdict::Again(Trouble::Token, _) = verdict {
            self.fcm.forget(&token).await;
        }
        Ok(verdict)
    }

    async fn by_apns(&self, going: &Going<'_>) -> Result<Verdict, NotSent> {
        let settings = self.settings.apns.as_ref().ok_or(BadSubscription::NotConfigured(ProviderKind::Apns))?;
        let sending = apns::request(settings, &mut self.apns.borrow_mut(), going)?;
        let verdict = apns::verdict(&self.http.exchange(sending, going.now_s).await?);
        if let Verdict::Again(Trouble::Token, _) = verdict {
            self.apns.borrow_mut().forget();
        }
        Ok(verdict)
    }
}

impl FcmToken {
    async fn get(&self, http: &Http, settings: &Fcm, now_s: u64) -> Option<fcm::Token> {
        let mut state = self.0.lock().await;
        match &*state {
            FcmTokenState::Here(token) if token.is_good(now_s) => return Some(token.clone()),
            FcmTokenState::NotGiven { until_s } if now_s < *until_s => return None,
            FcmTokenState::Here(_) | FcmTokenState::NotGiven { .. } | FcmTokenState::Absent => {}
        }
        let request = fcm::token_request(&settings.account, now_s);
        let answer = http.exchange(Sending { request, reach: crate::hosts::Reach::Any }, now_s).await;
        let token = answer.ok().and_then(|answer| fcm::token(&answer, now_s));
        *state = match &token {
            Some(token) => FcmTokenState::Here(token.clone()),
            None => FcmTokenState::NotGiven { until_s: now_s + FCM_TOKEN_PAUSE_S },
        };
        token
    }

    /// Unless there is another one by now.
    async fn forget(&self, refused: &fcm::Token) {
        let mut state = self.0.lock().await;
        if matches!(&*state, FcmTokenState::Here(token) if token == refused) {
            *state = FcmTokenState::Absent;
        }
    }
}

/// Why a notice was not sent.
enum NotSent {
    Bad(BadSubscription),
    Trouble(Trouble),
}

impl From<BadSubscription> for NotSent {
    fn from(bad: BadSubscription) -> Self {
        Self::Bad(bad)
    }
}

impl From<Trouble> for NotSent {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
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
