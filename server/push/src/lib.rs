//! Push: hands notices to push providers and says how each ended ([`notice`]).
//!
//! Which messages are due for whom, and that nothing due is forgotten over a crash, is the caller's part. In short:
//!
//! ```text
//! subscription.provider.check(&hosts)?;              // before a subscription is stored
//! let push = Push::start(settings, ended)?;          // a thread; ended: FnMut(Notice, Outcome) + Send + 'static
//! push.offers().offer(notice)                        // Result<(), Notice>: no room, offer it again later
//! push.counters().of(ProviderKind::WebPush)          // for the metrics
//! push.stop()                                        // ends what is under way, gives back what waits
//! ```
//!
//! With [`settings::Way::Services`] processes of their own talk to the providers, which is [`handover`].

pub mod counters;
pub mod encryption;
pub mod handover;
pub mod hosts;
mod http;
pub mod keys;
pub mod limits;
pub mod notice;
mod payload;
pub mod plan;
mod provider;
pub mod service;
pub mod settings;
mod transport;

pub use counters::Counters;
pub use notice::{Kind, Notice, Outcome, Provider, ProviderKind, Refusal, Show, Subscription, Trouble, Urgency};
pub use service::{Offers, Push};
pub use settings::{BadSubscription, Settings, Way};
