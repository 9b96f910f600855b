//! The node's part: hands each notice to one of the processes, and to the next one if that does not take it.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::RootCertStore;

use super::{Handed, PATH};
use crate::{
    hosts::{HostRules, Reach},
    http::Http,
    keys::WebhookKey,
    limits::SERVICE_REST_MAX,
    notice::{Notice, Outcome, Provider, ProviderKind, Refusal, Subscription, Trouble},
    plan::{HostName, Moment, Verdict, circuit::Circuit},
    provider::Sending,
    settings::{BadSubscription, Pace, ServiceUrl},
};

/// Push services that are processes of their own, and what a node must know of what they do.
pub struct Services {
    /// Where they are. Each is good for each notice.
    pub urls: Vec<ServiceUrl>,
    /// What requests to them are signed with.
    pub key: WebhookKey,
    /// To whom they send.
    pub providers: Vec<ProviderKind>,
    /// What browsers subscribe with, if they send by Web Push.
    pub server_key: Option<[u8; 65]>,
    /// Which hosts endpoints may name. The processes look again, by a list of their own.
    pub hosts: HostRules,
    /// Whose certificates are believed, where a URL is one of https.
    pub roots: RootCertStore,
    /// How long to wait for what.
    pub pace: Pace,
    /// Is told when one of them does not answer, and when it does again. Must not wait for anything.
    pub tell: fn(&News<'_>),
}

/// What has become of a process.
#[derive(Debug)]
pub enum News<'a> {
    /// It takes nothing, for this reason: the others do its part.
    Away {
        /// Where it is.
        url: &'a str,
        /// Why.
        why: &'a str,
    },
    /// It has taken a notice again.
    Back {
        /// Where it is.
        url: &'a str,
    },
}

/// The processes, and how well they are.
pub(crate) struct Node {
    services: Services,
    http: Http,
    /// One for each, in the order of the URLs.
    circuits: RefCell<Vec<Circuit>>,
    began: Instant,
}

/// Why a process has not taken a notice.
enum Failure {
    /// It may take the next one.
    Once(String),
    /// It would not take the next one, either.
    Lasting(String),
}

impl Node {
    pub(crate) fn new(mut services: Services) -> Self {
        let roots = std::mem::replace(&mut services.roots, RootCertStore::empty());
        let pace = &mut services.pace;
        pace.rest_max = pace.rest_max.min(SERVICE_REST_MAX);
        // A process may have to ask for a token first.
        let answer_max = 2 * pace.answer_max + pace.connect_max;
        Self {
            http: Http::new(roots, Pace { answer_max, ..*pace }),
            circuits: RefCell::new(vec![Circuit::WELL; services.urls.len()]),
            services,
            began: Instant::now(),
        }
    }

    /// See [`crate::Settings::host_of`]. The host of a provider of which the processes know more is the provider.
    pub(crate) fn host_of(&self, subscription: &Subscription) -> Result<HostName, BadSubscription> {
        let kind = subscription.provider.kind();
        if !self.services.providers.contains(&kind) {
            return Err(BadSubscription::NotConfigured(kind));
        }
        subscription.provider.check(&self.services.hosts)?;
        Ok(match &subscription.provider {
            Provider::WebPush { endpoint, .. } => HostName::of(kind, &self.services.hosts.allow(endpoint)?.uri),
            Provider::Webhook { .. } | Provider::Fcm { .. } | Provider::Apns { .. } => {
                HostName { provider: kind, authority: kind.name().into() }
            }
        })
    }

    /// Has a process make an attempt to send a notice that is worth telling for so long.
    pub(crate) async fn send(&self, notice: &Notice, left: Duration) -> Verdict {
        let handed = serde_json::to_vec(&Handed::of(notice, left)).expect("nothing in it can be no JSON");
        let id = format!("{}-{}-{}", notice.user, notice.device, notice.ticket);
        for at in order(notice, &self.services.urls) {
            if !self.may_go(at) {
                continue;
            }
            match self.hand(&self.services.urls[at], &id, handed.clone()).await {
                Ok(verdict) => {
                    self.is_well(at);
                    return verdict;
                }
                Err(failure) => self.has_failed(at, &failure),
            }
        }
        Verdict::Again(Trouble::Services, None)
    }

    async fn hand(&self, url: &ServiceUrl, id: &str, handed: Vec<u8>) -> Result<Verdict, Failure> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self.services.key.post(url.joined(PATH), id, now_s, handed);
        let sending = Sending { request, reach: Reach::Any };
        let answer = self.http.exchange(sending, now_s).await;
        let answer = answer.map_err(|trouble| Failure::Once(format!("{trouble:?}")))?;
        match answer.status.as_u16() {
            200 => serde_json::from_slice(&answer.body)
                .map_err(|_| Failure::Lasting("its answer is not that of a push service".to_owned())),
            // That is of this notice, and another process would say the same.
            status @ (400 | 413) => {
                Ok(Verdict::Final(Outcome::Refused(Refusal::Answer { status, reason: answer.words() })))
            }
            // Of a proxy in front of it, which does not reach it.
            status @ 500..=599 => Err(Failure::Once(format!("{status} {}", answer.words().unwrap_or_default()))),
            status => Err(Failure::Lasting(format!("{status} {}", answer.words().unwrap_or_default()))),
        }
    }

    fn now(&self) -> Moment {
        Moment(self.began.elapsed())
    }

    /// Whether a request may go to a process. Then it does.
    fn may_go(&self, at: usize) -> bool {
        let circuit = &mut self.circuits.borrow_mut()[at];
        let may_go = circuit.opens_at().is_some_and(|opens| opens <= self.now());
        if may_go {
            *circuit = circuit.begun();
        }
        may_go
    }

    fn is_well(&self, at: usize) {
        let before = std::mem::replace(&mut self.circuits.borrow_mut()[at], Circuit::WELL);
        if before.is_open() {
            (self.services.tell)(&News::Back { url: &self.services.urls[at].to_string() });
        }
    }

    fn has_failed(&self, at: usize, failure: &Failure) {
        let (now, pace) = (self.now(), &self.services.pace);
        let circuit = &mut self.circuits.borrow_mut()[at];
        let before = *circuit;
        let why = match failure {
            Failure::Once(why) => {
                *circuit = before.failed(now, pace);
                why
            }
            Failure::Lasting(why) => {
                *circuit = before.refused(now, pace);
                why
            }
        };
        if circuit.is_open() && !before.is_open() {
            (self.services.tell)(&News::Away { url: &self.services.urls[at].to_string(), why });
        }
    }
}

/// Whose a device's notices are first, and whose if that one does not take them: for each device another order, which stays as it is when
/// processes come and go (rendezvous hashing).
fn order(notice: &Notice, urls: &[ServiceUrl]) -> Vec<usize> {
    let weight = |at: &usize| {
        let mut hasher = DefaultHasher::new();
        (notice.user.0, notice.device.0, urls[*at].to_string()).hash(&mut hasher);
        hasher.finish()
    };
    let mut order: Vec<usize> = (0..urls.len()).collect();
    order.sort_by_cached_key(weight);
    order
}
