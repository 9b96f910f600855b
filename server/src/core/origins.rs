//! Origins: how many connections come from where, and what they did. Shared by all cores, since each of them accepts; looked at
//! when a connection begins and ends, never for a message.

use std::net::{IpAddr, SocketAddr};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use ipnet::IpNet;
use proto_spec::ErrorCode;

use super::crowd::Crowd;
use crate::{
    access::rate::{Bucket, Rate},
    limits::{ADDRESS_ABUSE_FACTOR, RETRY_ADDRESS_MS},
};

/// Where a connection comes from, as far as limits go: an IPv4 address, or the /64 of an IPv6 address, of which one customer has
/// them all. The default is one that no limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(u64);

impl Default for Origin {
    fn default() -> Self {
        // The prefix of multicast addresses, from which nothing comes.
        Self(u64::MAX)
    }
}

impl Origin {
    /// Of an address. IPv4 addresses take the place of the prefix 0::/32, which nobody has.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

/// What one origin may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginLimits {
    /// Connections at a time; 0: no limit.
    pub connections: u32,
    /// Handshakes at a time; 0: no limit.
    pub handshakes: u32,
    /// Hellos that are not good.
    pub failures: Rate,
    /// Networks that none of this applies to.
    pub trusted: Vec<IpNet>,
    /// Networks of balancers. Nothing of this applies to their own addresses: a header tells first where each connection comes from.
    pub balancers: Vec<IpNet>,
}

/// What is to become of a connection that has been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may say hello.
    Welcome,
    /// It is told this, when to come back, and why.
    Refused(ErrorCode, u64, &'static str),
    /// It is closed without a word: its origin has been told often enough.
    Cut,
}

#[derive(Debug, Default)]
struct Counts {
    connections: u32,
    handshakes: u32,
    failures: Bucket,
    /// Those who found no place, or no room.
    crowd: Crowd,
}

/// See the head of this file. Holds an entry for each origin that has a connection, or had a hello refused lately.
#[derive(Debug)]
pub struct Origins {
    limits: OriginLimits,
    counts: DashMap<Origin, Counts, RandomState>,
}

impl Origins {
    /// Nobody is here.
    #[must_use]
    pub fn new(limits: OriginLimits) -> Self {
        Self { limits, counts: DashMap::default() }
    }

    /// Whether a connection from there begins with a header that tells where it comes from.
    #[must_use]
    pub fn is_balancer(&self, peer: SocketAddr) -> bool {
        is_among(&self.limits.balancers, peer)
    }

    /// A connection has come. It counts, whatever the verdict, until [`Origins::leave`]; if it is welcome, as a handshake too,
    /// until [`Origins::greeted`].
    pub fn enter(&self, peer: SocketAddr, now_ms: u64) -> (Origin, Verdict) {
        let limits = &self.limits;
        if is_among(&limits.trusted, peer) {
            return (Origin::default(), Verdict::Welcome);
        }
        let origin = Origin::of(peer.ip());
        let mut counts = self.counts.entry(origin).or_default();
        counts.connections += 1;
        let above = |count: u32, limit: u32| limit > 0 && count > limit;
        let verdict = if above(counts.connections, limits.connections.saturating_mul(ADDRESS_ABUSE_FACTOR)) {
            Verdict::Cut
        } else if above(counts.connections, limits.connections) {
            let (detail, places) = ("too many connections from this address", limits.handshakes);
            let wait_ms = RETRY_ADDRESS_MS + counts.crowd.wait_ms(places, now_ms);
            Verdict::Refused(ErrorCode::TooManyConnections, wait_ms, detail)
        } else if above(counts.handshakes + 1, limits.handshakes) {
            let wait_ms = counts.crowd.wait_ms(limits.handshakes, now_ms);
            Verdict::Refused(ErrorCode::RateLimited, wait_ms, "too many handshakes from this address")
        } else if let Err(wait_ms) = limits.failures.take(&mut { counts.failures }, now_ms) {
            Verdict::Refused(ErrorCode::RateLimited, wait_ms, "too many refused hellos from this address")
        } else {
            counts.handshakes += 1;
            Verdict::Welcome
        };
        (origin, verdict)
    }

    /// A connection that counts is on two cores for a moment: it counts twice, until the first one has left.
    pub fn move_on(&self, origin: Origin) {
        if origin != Origin::default() {
            self.counts.entry(origin).or_default().connections += 1;
        }
    }

    /// The place of a connection that was welcome is not needed.
    pub fn give_back(&self, origin: Origin) {
        if let Some(mut counts) = self.counts.get_mut(&origin) {
            counts.handshakes = counts.handshakes.saturating_sub(1);
        }
    }

    /// The handshake of a connection that was welcome is over, and has taken so long.
    pub fn greeted(&self, origin: Origin, held_ms: u64) {
        if let Some(mut counts) = self.counts.get_mut(&origin) {
            counts.handshakes = counts.handshakes.saturating_sub(1);
            counts.crowd.over(held_ms);
        }
    }

    /// The hello was not good.
    pub fn failed(&self, origin: Origin, now_ms: u64) {
        if let Some(mut counts) = self.counts.get_mut(&origin) {
            // More than is left: whoever it was that could still come in is counted as far as there is room to.
            let _ = self.limits.failures.take(&mut counts.failures, now_ms);
        }
    }

    /// A connection has been closed.
    pub fn leave(&self, origin: Origin, now_ms: u64) {
        if let Entry::Occupied(mut entry) = self.counts.entry(origin) {
            let counts = entry.get_mut();
            counts.connections = counts.connections.saturating_sub(1);
            if counts.connections == 0 && counts.failures.is_full(now_ms) {
                entry.remove();
            }
        }
    }

    /// Forgets those who have gone and whose refused hellos are long ago.
    pub fn sweep(&self, now_ms: u64) {
        self.counts.retain(|_, counts| counts.connections > 0 || !counts.failures.is_full(now_ms));
    }

    /// How many origins are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

fn is_among(networks: &[IpNet], peer: SocketAddr) -> bool {
    networks.iter().any(|network| network.contains(&peer.ip().to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn limits() -> OriginLimits {
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        OriginLimits { connections: 3, handshakes: 2, failures: Rate::per_second(1), trusted, balancers: Vec::new() }
    }

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 5_000)
    }

    fn refused(verdict: Verdict) -> ErrorCode {
        match verdict {
            Verdict::Refused(code, wait_ms, _) if wait_ms > 0 => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_has_so_many_connections_and_is_cut_off_when_it_does_not_stop() {
        let origins = Origins::new(limits());
        let mut verdicts = (0..8).map(|_| {
            let (origin, verdict) = origins.enter(peer("192.0.2.1"), NOW);
            if verdict == Verdict::Welcome {
                origins.greeted(origin, 100);
            }
            verdict
        });
        assert!(verdicts.by_ref().take(3).all(|verdict| verdict == Verdict::Welcome));
        assert!(verdicts.by_ref().take(3).all(|verdict| refused(verdict) == ErrorCode::TooManyConnections));
        assert!(verdicts.all(|verdict| verdict == Verdict::Cut));
        assert_eq!(origins.enter(peer("192.0.2.2"), NOW).1, Verdict::Welcome, "another address");
        let origin = Origin::of("192.0.2.1".parse().unwrap());
        (0..6).for_each(|_| origins.leave(origin, NOW));
        assert_eq!(origins.enter(peer("192.0.2.1"), NOW).1, Verdict::Welcome, "there is room again");
    }

    #[test]
    fn an_address_has_so_many_handshakes_at_a_time() {
        let origins = Origins::new(limits());
        let (origin, _) = origins.enter(peer("192.0.2.1"), NOW);
        assert_eq!(origins.enter(peer("192.0.2.1"), NOW).1, Verdict::Welcome);
        let (_, third) = origins.enter(peer("192.0.2.1"), NOW);
        assert_eq!(refused(third), ErrorCode::RateLimited);
        origins.leave(origin, NOW);
        origins.greeted(origin, 100);
        assert_eq!(origins.enter(peer("192.0.2.1"), NOW).1, Verdict::Welcome);
    }

    #[test]
    fn an_address_whose_hellos_are_refused_waits() {
        let origins = Origins::new(OriginLimits { connections: 0, ..limits() });
        let mut failures = 0;
        let wait_ms = loop {
            match origins.enter(peer("192.0.2.1"), NOW) {
                (origin, Verdict::Welcome) => {
                    origins.greeted(origin, 100);
                    origins.failed(origin, NOW);
                    origins.leave(origin, NOW);
                    failures += 1;
                }
                (origin, Verdict::Refused(ErrorCode::RateLimited, wait_ms, _)) => {
                    origins.leave(origin, NOW);
                    break wait_ms;
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failures, crate::limits::RATE_BURST_S);
        assert_eq!(origins.enter(peer("192.0.2.1"), NOW + wait_ms).1, Verdict::Welcome);
    }

    #[test]
    fn a_trusted_network_and_an_absent_limit_hold_nobody_back() {
        let origins = Origins::new(limits());
        for address in ["10.1.2.3", "::1", "::ffff:10.1.2.3"] {
            for _ in 0..20 {
                let (origin, verdict) = origins.enter(peer(address), NOW);
                assert_eq!(verdict, Verdict::Welcome);
                origins.failed(origin, NOW);
                origins.move_on(origin);
            }
        }
        assert!(origins.is_empty());
        let origins = Origins::new(OriginLimits::default());
        assert!((0..1_000).all(|_| origins.enter(peer("192.0.2.1"), NOW).1 == Verdict::Welcome));
    }

    #[test]
    fn one_customer_s_ipv6_network_is_one_origin() {
        let of = |address: &str| Origin::of(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_ne!(of("::1"), Origin::default(), "who is trusted is nobody else");
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn who_has_gone_is_forgotten_at_once_or_when_refusals_are_long_ago() {
        let origins = Origins::new(limits());
        let (origin, _) = origins.enter(peer("192.0.2.1"), NOW);
        origins.greeted(origin, 100);
        origins.move_on(origin);
        origins.leave(origin, NOW);
        origins.leave(origin, NOW);
        assert!(origins.is_empty());
        let (origin, _) = origins.enter(peer("192.0.2.1"), NOW);
        origins.greeted(origin, 100);
        origins.failed(origin, NOW);
        origins.leave(origin, NOW);
        origins.sweep(NOW);
        assert_eq!(origins.len(), 1);
        origins.sweep(NOW + 1_000);
        assert!(origins.is_empty());
    }
}
