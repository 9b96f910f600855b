//! Endpoints lead to the hosts that are allowed and nowhere else.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use push::hosts::{BadEndpoint, HostRule, HostRules, Reach, is_public, may_be_quiet};

fn rules() -> HostRules {
    let inside = ["push.inside:8443", "127.0.0.1:8080"].map(|rule| rule.parse().unwrap());
    HostRules { inside: inside.to_vec(), ..HostRules::default() }
}

#[test]
fn endpoints_of_the_known_providers_are_allowed_at_public_addresses() {
    for endpoint in [
        "https://fcm.googleapis.com/fcm/send/dpH5lCsTSSM:APA91bHqjZxM0VImWWqDRN7U0a3AycjUf4O-byuxb_wJsKRaKvV",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk",
        "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAAx%2f",
        "https://web.push.apple.com/QGf9wWrA",
        "https://FCM.googleapis.com:443/fcm/send/x",
    ] {
        assert_eq!(rules().allow(endpoint).map(|allowed| allowed.reach), Ok(Reach::Public), "{endpoint}");
    }
}

#[test]
fn hosts_inside_are_those_that_the_operator_named() {
    assert_eq!(rules().allow("https://push.inside:8443/x").map(|allowed| allowed.reach), Ok(Reach::Any));
    assert_eq!(rules().allow("https://127.0.0.1:8080/").map(|allowed| allowed.reach), Ok(Reach::Any));
    assert_eq!(rules().allow("https://push.inside/x"), Err(BadEndpoint::HostNotAllowed));
    assert_eq!(rules().allow("https://127.0.0.1/"), Err(BadEndpoint::HostNotAllowed));
}

#[test]
fn everything_else_is_refused_with_what_is_wrong() {
    use BadEndpoint::{HostNotAllowed, NotHttps, NotPlain};
    for (endpoint, wrong) in [
        ("http://fcm.googleapis.com/x", NotHttps),
        ("ftp://fcm.googleapis.com/x", NotHttps),
        ("//fcm.googleapis.com/x", NotPlain),
        ("/fcm/send", NotPlain),
        ("fcm.googleapis.com", NotPlain),
        ("", NotPlain),
        ("https://", NotPlain),
        ("https:///x", NotPlain),
        ("https://fcm.googleapis.com/x#fragment", NotPlain),
        ("https://user@fcm.googleapis.com/x", NotPlain),
        ("https://fcm.googleapis.com@10.0.0.1/x", NotPlain),
        ("https://fcm.googleapis.com:443@10.0.0.1/x", NotPlain),
        ("https://10.0.0.1\\@fcm.googleapis.com/x", NotPlain),
        ("https://fcm.googleapis.com%2f.evil.org/x", NotPlain),
        ("https://fcm.googleapis.com:0443/x", NotPlain),
        ("https://fcm.googleapis.com:/x", NotPlain),
        ("https://fcm.googleapis.com./x", NotPlain),
        ("https://fcm..googleapis.com/x", NotPlain),
        ("https://fcm.googleapis.com /x", NotPlain),
        ("https://fcm.googleapis.com/\r\nHost: other", NotPlain),
        ("https://fcm.googleapis.c\u{f6}m/x", NotPlain),
        ("https://[::1]/x", NotPlain),
        ("https://fcm.googleapis.com:8443/x", HostNotAllowed),
        ("https://sub.fcm.googleapis.com/x", HostNotAllowed),
        ("https://evilfcm.googleapis.com/x", HostNotAllowed),
        ("https://notify.windows.com/x", HostNotAllowed),
        ("https://evilnotify.windows.com/x", HostNotAllowed),
        ("https://notify.windows.com.evil.org/x", HostNotAllowed),
        ("https://localhost/x", HostNotAllowed),
        ("https://169.254.169.254/latest/meta-data", HostNotAllowed),
        ("https://2130706433/x", HostNotAllowed),
        ("https://0x7f000001/x", HostNotAllowed),
    ] {
        assert_eq!(rules().allow(endpoint).map(|_| ()), Err(wrong), "{endpoint}");
    }
    let long = format!("https://fcm.googleapis.com/{}", "x".repeat(1024));
    assert_eq!(rules().allow(&long).map(|_| ()), Err(BadEndpoint::TooLong(long.len())));
}

#[test]
fn a_rule_that_could_be_meant_otherwise_is_refused() {
    for rule in [
        "",
        "*",
        "*.",
        ".example.org",
        "*example.org",
        "a.*.org",
        "Example.org",
        "https://example.org",
        "example.org/",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "[::1]",
        "::1",
        "a b",
    ] {
        assert!(rule.parse::<HostRule>().is_err(), "{rule:?}");
    }
    for rule in ["example.org", "*.example.org", "example.org:8443", "*.example.org:1", "10.0.0.1"] {
        assert_eq!(rule.parse::<HostRule>().unwrap().to_string(), rule);
    }
    assert_eq!("example.org:443".parse::<HostRule>().unwrap().to_string(), "example.org");
}

#[test]
fn addresses_inside_networks_are_not_public_however_they_are_written() {
    for inside in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(inside.parse().unwrap()), "{inside}");
    }
    for public in [
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "2a00:1450:4001::200e",
        "2001:4860:4860::8888",
        "64:ff9b::8.8.8.8",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

proptest! {
    /// What the standard library says of addresses, where it says something, is never contradicted.
    #[test]
    fn what_the_standard_library_knows_to_be_inside_is_not_public(four: u32, six: u128) {
        let four = Ipv4Addr::from(four);
        let inside = four.is_private() || four.is_loopback() || four.is_link_local() || four.is_broadcast()
            || four.is_documentation() || four.is_multicast() || four.is_unspecified();
        prop_assert!(!(inside && is_public(IpAddr::V4(four))), "{four}");
        for six in [Ipv6Addr::from(six), four.to_ipv6_mapped(), four.to_ipv6_compatible()] {
            let inside = six.is_loopback() || six.is_multicast() || six.is_unspecified() || six.is_unique_local()
                || six.is_unicast_link_local() || six.to_ipv4().is_some();
            prop_assert!(!(inside && is_public(IpAddr::V6(six))), "{six}");
        }
    }

    /// Whatever somebody writes: what is allowed leads to a host and port of the rules, by https.
    #[test]
    fn what_is_allowed_has_a_host_of_the_rules(
        scheme in "https://|HTTPS://|http://|",
        before in "|user@|fcm.googleapis.com@|[a-z.@:/\\\\#?%]{0,4}",
        host in "fcm.googleapis.com|x.notify.windows.com|push.inside:8443|127.0.0.1:8080|10.0.0.1|evil.org",
        after in "|/|:443|:80|.evil.org|@evil.org|#@evil.org|[a-z.@:/\\\\#?%0-9]{0,8}",
        path in "(/[ -~]{0,20})?",
    ) {
        let endpoint = format!("{scheme}{before}{host}{after}{path}");
        if let Ok(allowed) = rules().allow(&endpoint) {
            prop_assert_eq!(allowed.uri.scheme_str(), Some("https"));
            let name = allowed.uri.host().unwrap().to_ascii_lowercase();
            let port = allowed.uri.port_u16().unwrap_or(443);
            let outside = port == 443 && (name == "fcm.googleapis.com" || name.ends_with(".notify.windows.com"));
            let inside = [("push.inside", 8443), ("127.0.0.1", 8080)].contains(&(name.as_str(), port));
            prop_assert!(if allowed.reach == Reach::Any { inside } else { outside }, "{}", endpoint);
            prop_assert!(!allowed.uri.authority().unwrap().as_str().contains('@'));
        }
    }
}

#[test]
fn only_browsers_that_must_show_everything_are_never_told_quietly() {
    assert!(!may_be_quiet("web.push.apple.com"));
    assert!(may_be_quiet("fcm.googleapis.com"));
}
