//! Transport: one attempt to send one notice, by whichever provider. It has the wall clock, the dice and the tokens that are kept.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::RootCertStore;

use crate::{
    encryption::Fresh,
    hosts::Reach,
    http::Http,
    limits::FCM_TOKEN_PAUSE_S,
    notice::{Notice, Outcome, ProviderKind, Trouble},
    payload,
    plan::Verdict,
    provider::{Going, Sending, apns, fcm, web_push, webhook},
    settings::{BadSubscription, Fcm, Settings},
};

/// What sends notices to all providers.
pub(crate) struct Transport {
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

impl Transport {
    pub(crate) fn new(mut settings: Settings) -> Self {
        let roots = std::mem::replace(&mut settings.roots, RootCertStore::empty());
        Self {
            http: Http::new(roots, settings.pace),
            settings,
            vapid: RefCell::default(),
            apns: RefCell::default(),
            fcm: FcmToken::default(),
        }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends a notice that is worth telling for so long.
    pub(crate) async fn send(&self, notice: &Notice, left: Duration) -> Verdict {
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
        let answer = http.exchange(Sending { request, reach: Reach::Any }, now_s).await;
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
