//! Addresses as people write them, and what is wrong with those that are none. PURE.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::key::{Found, Refusal};

/// The port that is suggested where one is missing.
const PORT: u16 = 7600;

/// An IP address and a port.
///
/// # Errors
/// What is missing or too much.
pub(super) fn parse(found: &Found) -> Result<SocketAddr, Refusal> {
    let text = match found {
        Found::Text(text) => text,
        Found::Whole(Some(port)) if u16::try_from(*port).is_ok() => {
            return Err(Refusal::because("this is a port alone").meant(format!("\"127.0.0.1:{port}\"")));
        }
        other => return Err(Refusal::because(other.kind())),
    };
    text.parse().map_err(|_| refusal(text))
}

fn refusal(text: &str) -> Refusal {
    let quoted = |address: String| format!("\"{address}\"");
    if text.is_empty() {
        return Refusal::because("this is empty");
    }
    if let Some((_, rest)) = text.split_once("://") {
        let meant = rest.trim_end_matches('/');
        let refusal = Refusal::because("this is a URL");
        return if meant.parse::<SocketAddr>().is_ok() { refusal.meant(quoted(meant.to_owned())) } else { refusal };
    }
    if text.trim() != text {
        let refusal = Refusal::because("there is a space around it");
        return if text.trim().parse::<SocketAddr>().is_ok() {
            refusal.meant(quoted(text.trim().to_owned()))
        } else {
            refusal
        };
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Refusal::because("the port is missing").meant(quoted(format!("{ip}:{PORT}")));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        // The last group of `::1:7600` looks like a port, that of `fe80::1:2` does not.
        let (ip, port) = match text.rsplit_once(':') {
            Some((ip, port)) if port.len() > 3 && port.parse::<u16>().is_ok() && ip.parse::<Ipv6Addr>().is_ok() => {
                (ip, port)
            }
            _ => (text, "7600"),
        };
        let why = "an IPv6 address stands in brackets, and its port behind them";
        return Refusal::because(why).meant(quoted(format!("[{ip}]:{port}")));
    }
    if let Some(ip) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()) {
        return Refusal::because("the port is missing").meant(quoted(format!("[{ip}]:{PORT}")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Refusal::because("this is no IP address; names are not looked up");
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Refusal::because("what is behind the last colon is no port, which is a number from 0 to 65535");
    }
    let Ok(port) = port.parse::<u16>() else {
        return Refusal::because("the port is too large: it is a number from 0 to 65535");
    };
    match host {
        "" | "*" => Refusal::because("the IP address is missing; all addresses of this machine are 0.0.0.0")
            .meant(quoted(format!("0.0.0.0:{port}"))),
        "localhost" => {
            Refusal::because("this is a name, and names are not looked up").meant(quoted(format!("127.0.0.1:{port}")))
        }
        _ if host.starts_with('[') => Refusal::because("what is in the brackets is no IPv6 address"),
        _ if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Refusal::because("the IP address has not four numbers from 0 to 255, without leading zeros")
        }
        _ if host.contains(':') => Refusal::because("an IPv6 address stands in brackets, and its port behind them"),
        _ => Refusal::because("this is a name, and names are not looked up"),
    }
}

/// A network: an IP address and how many of its bits all addresses in it share.
///
/// # Errors
/// What is missing or too much.
pub(super) fn parse_network(found: &Found) -> Result<IpNet, Refusal> {
    let Found::Text(text) = found else { return Err(Refusal::because("something in the list is no text")) };
    if let Ok(network) = text.parse() {
        return Ok(network);
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text.as_str(), None),
    };
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Err(Refusal::because(format!("{text:?} does not begin with an IP address; names are not looked up")));
    };
    let (kind, all) = if ip.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    let refusal = match bits {
        None => Refusal::because(format!("{text:?} has no bits: `/{all}` stands for this one address")),
        Some(_) => Refusal::because(format!("{text:?}: the bits of an {kind} network are 0 to {all}")),
    };
    Err(refusal.meant(format!("[\"{ip}/{all}\"]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_told_what_is_wrong_and_what_was_meant() {
        for (text, why, meant) in [
            ("", "empty", None),
            ("127.0.0.1", "the port is missing", Some("\"127.0.0.1:7600\"")),
            ("::1", "brackets", Some("\"[::1]:7600\"")),
            ("::1:7601", "brackets", Some("\"[::1]:7601\"")),
            ("[::1]", "the port is missing", Some("\"[::1]:7600\"")),
            ("[::1]:", "no port", None),
            ("[::x]:1", "in the brackets", None),
            ("fe80::1::2:7600", "brackets", None),
            ("localhost:7601", "names are not looked up", Some("\"127.0.0.1:7601\"")),
            ("chat.example.org:7600", "names are not looked up", None),
            ("localhost", "names are not looked up", None),
            (":7600", "0.0.0.0", Some("\"0.0.0.0:7600\"")),
            ("*:7600", "0.0.0.0", Some("\"0.0.0.0:7600\"")),
            ("127.0.0.1:99999", "too large", None),
            ("127.0.0.1:http", "no port", None),
            ("127.0.0.1:-1", "no port", None),
            ("256.0.0.1:7600", "four numbers", None),
            ("127.0.1:7600", "four numbers", None),
            ("tcp://127.0.0.1:7600/", "URL", Some("\"127.0.0.1:7600\"")),
            (" 127.0.0.1:7600", "space", Some("\"127.0.0.1:7600\"")),
        ] {
            let refusal = parse(&Found::Text(text.to_owned())).unwrap_err();
            assert!(refusal.why.as_deref().unwrap().contains(why), "{text}: {refusal:?}");
            assert_eq!(refusal.meant.as_deref(), meant, "{text}");
        }
        assert_eq!(parse(&Found::Whole(Some(80))).unwrap_err().meant.as_deref(), Some("\"127.0.0.1:80\""));
    }

    #[test]
    fn a_network_that_is_none_is_told_what_is_wrong() {
        for (text, why) in [
            ("10.0.0.0/33", "0 to 32"),
            ("fe80::/129", "0 to 128"),
            ("10.0.0.0/x", "0 to 32"),
            ("10.0.0.0", "`/32`"),
            ("::1", "`/128`"),
            ("office", "names are not looked up"),
            ("", "IP address"),
        ] {
            let refusal = parse_network(&Found::Text(text.to_owned())).unwrap_err();
            assert!(refusal.why.as_deref().unwrap().contains(why), "{text}: {refusal:?}");
        }
        assert_eq!(parse_network(&Found::Text("10.0.0.0/8".to_owned())), Ok("10.0.0.0/8".parse().unwrap()));
    }
}
