//! Where a device connects: one address, or the nodes of a cluster and where they send it (SPEC 8.11).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto_spec::limits::REDIRECTS_MAX;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where it begins, one after the other.
    addresses: Vec<SocketAddr>,
    next: usize,
    /// Where it was sent, and from when on it may go there.
    sent: Option<(SocketAddr, Instant)>,
    /// How often in a row; none: it does not follow.
    redirects: Option<u64>,
}

impl Route {
    /// To one server, and never to where that sends it.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        Self { addresses: vec![address], next: 0, sent: None, redirects: None }
    }

    /// To any of these, and to where they send it.
    ///
    /// # Panics
    /// There are none.
    #[must_use]
    pub fn through(addresses: Vec<SocketAddr>) -> Self {
        assert!(!addresses.is_empty(), "it has to begin somewhere");
        Self { addresses, next: 0, sent: None, redirects: Some(0) }
    }

    /// Whether it goes where it is sent.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.redirects.is_some()
    }

    /// What its hello says.
    pub(crate) fn hops(&self) -> u64 {
        self.redirects.map_or(0, |redirects| redirects + 1)
    }

    /// Where to connect now; none: not yet.
    pub(crate) fn take(&mut self) -> Option<SocketAddr> {
        match self.sent {
            Some((_, at)) if Instant::now() < at => None,
            Some((address, _)) => {
                self.sent = None;
                Some(address)
            }
            None => {
                self.redirects = self.redirects.map(|_| 0);
                self.next += 1;
                Some(self.addresses[self.next % self.addresses.len()])
            }
        }
    }

    /// It was welcome.
    pub(crate) fn arrived(&mut self) {
        self.redirects = self.redirects.map(|_| 0);
    }

    /// It was sent somewhere. After too many in a row it begins anew: nodes that have not heard of the latest change yet may send it in a
    /// circle.
    ///
    /// # Panics
    /// It does not follow, or the address is none.
    pub(crate) fn send(&mut self, address: &str, after_ms: u64) {
        let redirects = self.redirects.as_mut().expect("only who follows is sent");
        *redirects += 1;
        let address = address.parse().expect("nodes of a test have addresses");
        let at = Instant::now() + Duration::from_millis(after_ms);
        self.sent = (*redirects < REDIRECTS_MAX).then_some((address, at));
    }
}
