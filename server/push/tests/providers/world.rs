//! World: a push service with what a test configures, and the outcomes that it tells.

use std::{sync::mpsc, time::Duration};

use proto_spec::{ConversationId, DeviceId, TimestampMs, UserId};
use push::{
    Kind, Notice, Outcome, Provider, Push, Settings, Show, Subscription, Urgency, Way,
    settings::{Pace, TagKey},
};
use rustls::RootCertStore;

/// No waits that a test would have to wait for.
pub(crate) const QUICK: Pace = Pace {
    connect_max: Duration::from_secs(20),
    answer_max: Duration::from_secs(20),
    retry_first: Duration::from_millis(20),
    retry_max: Duration::from_millis(40),
    rest_first: Duration::from_millis(20),
    rest_max: Duration::from_millis(40),
};

pub(crate) struct World {
    push: Push,
    outcomes: mpsc::Receiver<(Notice, Outcome)>,
}

/// Settings without providers.
pub(crate) fn settings(roots: RootCertStore) -> Settings {
    let tag_key = TagKey::derived_from(b"the test's secret");
    Settings { web_push: None, webhook: None, fcm: None, apns: None, tag_key, roots, pace: QUICK }
}

impl World {
    pub(crate) fn start(way: impl Into<Way>) -> Self {
        let (tell, outcomes) = mpsc::channel();
        let push = Push::start(way, move |notice, outcome| {
            // A test that has seen enough does not listen any more.
            let _ = tell.send((notice, outcome));
        });
        Self { push: push.unwrap(), outcomes }
    }

    pub(crate) fn offer(&self, notice: Notice) {
        self.push.offers().offer(notice).expect("there is room");
    }

    /// The next outcome, which must come.
    pub(crate) fn outcome(&self) -> (Notice, Outcome) {
        self.outcomes.recv_timeout(Duration::from_secs(60)).expect("an outcome comes")
    }

    /// What becomes of one notice alone.
    pub(crate) fn outcome_of(&self, notice: Notice) -> Outcome {
        let ticket = notice.ticket;
        self.offer(notice);
        let (notice, outcome) = self.outcome();
        assert_eq!(notice.ticket, ticket);
        outcome
    }

    pub(crate) fn push(&self) -> &Push {
        &self.push
    }

    pub(crate) fn stop(self) -> Vec<(Notice, Outcome)> {
        self.push.stop();
        self.outcomes.try_iter().collect()
    }
}

/// A message from user 8 to user 7, of whom each ticket is another device.
pub(crate) fn message(ticket: u64, provider: Provider) -> Notice {
    Notice {
        ticket,
        user: UserId(7),
        device: DeviceId(ticket),
        subscription: Subscription { provider, show: Show::Text },
        conversation: ConversationId::Person(UserId(8)),
        kind: Kind::Message { from: UserId(8), text: Some("Are you there?".to_owned()), count: 2 },
        at: TimestampMs(1_764_531_000_123),
        ttl: Duration::from_secs(3600),
        urgency: Urgency::High,
    }
}

pub(crate) fn clear(ticket: u64, provider: Provider) -> Notice {
    Notice { kind: Kind::Clear, urgency: Urgency::Low, ..message(ticket, provider) }
}
