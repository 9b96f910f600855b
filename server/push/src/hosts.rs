//! Hosts: which endpoints of Web Push may be sent to. An endpoint is a user's input, and must lead nowhere but to a push provider.
//!
//! Two looks: at the endpoint, when it is stored and again before each request; and at each address that the host's name leads to,
//! when a connection is made. A connection goes to an address that was looked at, not to the name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use http::Uri;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::limits::ENDPOINT_BYTES_MAX;

/// Hosts of the known providers: Chrome and most that are made of it, Firefox, Edge, Safari.
pub const KNOWN: [&str; 4] =
    ["fcm.googleapis.com", "*.push.services.mozilla.com", "*.notify.windows.com", "*.push.apple.com"];

/// Under these a browser that is told something which it shows nothing of takes away the site's permission.
const SHOWS_EVERYTHING: &str = ".push.apple.com";

/// One host, or all below a name: `fcm.googleapis.com`, `*.notify.windows.com`, `push.example.org:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// Lower case, without the `*`; below a name with the dot in front.
    name: String,
    port: u16,
}

/// Which hosts endpoints may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRules {
    /// Hosts of providers. Their addresses must be public.
    pub outside: Vec<HostRule>,
    /// Hosts that are the operator's own. Their addresses may be any.
    pub inside: Vec<HostRule>,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: write a name in lower case such as \"push.example.org\", \"*.example.org\" for all below a name, and \":PORT\" behind it if it is not 443"
)]
pub struct BadRule(pub String);

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadEndpoint {
    /// Longer than [`ENDPOINT_BYTES_MAX`].
    #[error("the endpoint has {0} bytes, more than {ENDPOINT_BYTES_MAX}")]
    TooLong(usize),
    /// Not an absolute URL, or with a user's name, a fragment or a host that is written in an unusual way.
    #[error("the endpoint is not a plain URL: scheme, host, perhaps a port, and a path")]
    NotPlain,
    /// Another scheme.
    #[error("the endpoint is not https")]
    NotHttps,
    /// No rule has its host and port.
    #[error("the endpoint's host is none that this server sends to")]
    HostNotAllowed,
}

/// Which addresses a host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Public ones.
    Public,
    /// Any.
    Any,
}

/// An endpoint that may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL.
    pub uri: Uri,
    /// Where its host may be.
    pub reach: Reach,
}

impl Default for HostRules {
    fn default() -> Self {
        let known = KNOWN.iter().map(|rule| rule.parse().expect("a test reads all of them"));
        Self { outside: known.collect(), inside: Vec::new() }
    }
}

impl HostRules {
    /// No host at all.
    pub const NONE: Self = Self { outside: Vec::new(), inside: Vec::new() };

    /// The endpoint, if it may be sent to.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn allow(&self, endpoint: &str) -> Result<Endpoint, BadEndpoint> {
        if endpoint.len() > ENDPOINT_BYTES_MAX {
            return Err(BadEndpoint::TooLong(endpoint.len()));
        }
        // The parser drops a fragment in silence.
        if endpoint.contains('#') || !endpoint.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadEndpoint::NotPlain);
        }
        let uri: Uri = endpoint.parse().map_err(|_| BadEndpoint::NotPlain)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(BadEndpoint::NotPlain);
        };
        if scheme != "https" {
            return Err(BadEndpoint::NotHttps);
        }
        let host = authority.host();
        let port = authority.port_u16().unwrap_or(443);
        // Nothing but host and port: no user's name, no empty or leading-zero port, no percent signs.
        let plain = authority.as_str() == host || authority.as_str() == format!("{host}:{port}");
        if !plain || !is_plain_host(host) {
            return Err(BadEndpoint::NotPlain);
        }
        let host = host.to_ascii_lowercase();
        let named = |rules: &[HostRule]| rules.iter().any(|rule| rule.names(&host, port));
        if named(&self.inside) {
            Ok(Endpoint { uri, reach: Reach::Any })
        } else if named(&self.outside) {
            Ok(Endpoint { uri, reach: Reach::Public })
        } else {
            Err(BadEndpoint::HostNotAllowed)
        }
    }
}

impl HostRule {
    fn names(&self, host: &str, port: u16) -> bool {
        let matches = if self.name.starts_with('.') {
            host.len() > self.name.len() && host.ends_with(&self.name)
        } else {
            host == self.name
        };
        matches && port == self.port
    }
}

impl FromStr for HostRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.to_owned());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
            None => (text, 443),
        };
        let name = host.strip_prefix("*").filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let plain = is_plain_host(name.strip_prefix('.').unwrap_or(name)) && (name != host || !name.starts_with('.'));
        if !plain || name.bytes().any(|byte| byte.is_ascii_uppercase()) || port == 0 {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all_below = if self.name.starts_with('.') { "*" } else { "" };
        write!(f, "{all_below}{}", self.name)?;
        if self.port == 443 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Labels of letters, digits and hyphens with single dots between them: names, and addresses of IPv4. An address of IPv6 can be in no
/// rule.
fn is_plain_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// Whether a browser behind this host may be told something that it shows nothing of.
#[must_use]
pub fn may_be_quiet(host: &str) -> bool {
    !host.to_ascii_lowercase().ends_with(SHOWS_EVERYTHING)
}

/// Networks of IPv4 that are not the public one (IANA's registry of special-purpose addresses, multicast, and what is reserved).
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Where public addresses of IPv6 are. Loopback, unique local, link-local, site-local and multicast addresses, and those that have one
/// of IPv4 in them, are elsewhere.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What in there is not: protocol assignments with Teredo, examples, 6to4 (which leads to any address of IPv4), examples again.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// NAT64 (RFC 6052): how a network that has IPv6 alone reaches an address of IPv4, which then decides.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is a public one, where a provider can be.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| holds_v4(*net, address)),
        IpAddr::V6(address) if holds_v6(NAT64, address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(address) => holds_v6(PUBLIC_V6, address) && !NOT_PUBLIC_V6.iter().any(|net| holds_v6(*net, address)),
    }
}

fn holds_v4((net, bits): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    Ipv4Net::new_assert(net, bits).contains(&address)
}

fn holds_v6((net, bits): (Ipv6Addr, u8), address: Ipv6Addr) -> bool {
    Ipv6Net::new_assert(net, bits).contains(&address)
}
