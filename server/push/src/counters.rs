//! Counters: what the service did, for operators. The service writes, anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    notice::{Outcome, ProviderKind},
    plan::{Figures, Verdict},
};

/// The numbers of all providers.
#[derive(Debug, Default)]
pub struct Counters([OfProvider; ProviderKind::ALL.len()]);

macro_rules! numbers {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident,)*) => {
        #[derive(Debug, Default)]
        struct OfProvider {
            $($field: AtomicU64,)*
        }

        /// The numbers of one provider at a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[doc = $help])+ pub $field: u64,)*
        }

        impl OfProvider {
            fn snapshot(&self) -> Snapshot {
                Snapshot { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }

        impl Snapshot {
            /// Each of them: its name, whether it only grows, what it says, and the number.
            #[must_use]
            pub const fn all(&self) -> [Number; [$(stringify!($field)),*].len()] {
                [$(Number {
                    name: stringify!($field),
                    only_grows: numbers!(@ $kind),
                    help: concat!($($help),+),
                    value: self.$field,
                },)*]
            }
        }
    };
    (@ counter) => { true };
    (@ gauge) => { false };
}

/// One number, for whoever shows them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a counter. Else it is what is now, and may fall.
    pub only_grows: bool,
    /// What it says.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

numbers! {
    /// Notices that were taken.
    offered: counter,
    /// Requests that were begun, repetitions included.
    handed_over: counter,
    /// Notices that the provider took.
    delivered: counter,
    /// Notices in whose place a newer one went.
    superseded: counter,
    /// Notices whose subscription is gone.
    gone: counter,
    /// Notices that were refused for good.
    refused: counter,
    /// Notices that were not taken in time.
    expired: counter,
    /// Notices that were given back for lack of room or for a stop.
    given_back: counter,
    /// Requests that failed and are repeated, unless their time ends.
    retried: counter,
    /// Notices that wait.
    waiting: gauge,
    /// Hosts that are left alone because they do not answer.
    circuits_open: gauge,
}

impl Counters {
    /// The numbers of a provider.
    #[must_use]
    pub fn of(&self, provider: ProviderKind) -> Snapshot {
        self.at(provider).snapshot()
    }

    pub(crate) fn offered(&self, provider: ProviderKind) {
        one(&self.at(provider).offered);
    }

    pub(crate) fn handed_over(&self, provider: ProviderKind) {
        one(&self.at(provider).handed_over);
    }

    pub(crate) fn answered(&self, provider: ProviderKind, verdict: &Verdict) {
        if let Verdict::Again(..) = verdict {
            one(&self.at(provider).retried);
        }
    }

    pub(crate) fn ended(&self, provider: ProviderKind, outcome: &Outcome) {
        let counters = self.at(provider);
        one(match outcome {
            Outcome::Delivered | Outcome::Replaced(_) => &counters.delivered,
            Outcome::Superseded => &counters.superseded,
            Outcome::Gone => &counters.gone,
            Outcome::Refused(_) => &counters.refused,
            Outcome::Expired { .. } => &counters.expired,
            Outcome::Later(_) => &counters.given_back,
        });
    }

    pub(crate) fn show(&self, figures: [Figures; ProviderKind::ALL.len()]) {
        for (counters, figures) in self.0.iter().zip(figures) {
            counters.waiting.store(figures.waiting, Ordering::Relaxed);
            counters.circuits_open.store(figures.circuits_open, Ordering::Relaxed);
        }
    }

    const fn at(&self, provider: ProviderKind) -> &OfProvider {
        &self.0[provider as usize]
    }
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
