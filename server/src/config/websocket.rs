//! `[websocket]`: where browsers connect, and from which pages. Owns the form of an origin.

use std::net::SocketAddr;

use super::{
    Check,
    key::{Key, Refusal, Slot},
};

/// Where clients connect by WebSocket, and from which pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    /// Without TLS; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// With the certificate of `[tls]`; none: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// The origins of pages that may connect; none: those of the host that they connect to.
    pub origins: Vec<String>,
}

impl WebSocket {
    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { listen, tls_listen, origins } = self;
        vec![
            Key { name: "websocket.listen", slot: Slot::AddressOrNone(listen) },
            Key { name: "websocket.tls_listen", slot: Slot::AddressOrNone(tls_listen) },
            Key {
                name: "websocket.origins",
                slot: Slot::Texts {
                    value: origins,
                    check: check_origin,
                    what: "origins, each as scheme://host or scheme://host:port",
                    example: "https://chat.example.org",
                },
            },
        ]
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        let has_tls = check.config.tls.files().is_some();
        check.that(self.tls_listen.is_none() || has_tls, &["websocket.tls_listen", "tls.cert_file"], || {
            "needs tls.cert_file and tls.key_file, or --tls-self-signed".to_owned()
        });
        let is_any = self.listen.is_some() || self.tls_listen.is_some();
        check.that(self.origins.is_empty() || is_any, &["websocket.origins", "websocket.listen"], || {
            "needs websocket.listen or websocket.tls_listen: without them no page can connect".to_owned()
        });
    }
}

/// Whether this is the origin of a page, as browsers write it.
///
/// # Errors
/// It is none.
fn check_origin(text: &str) -> Result<(), Refusal> {
    if text == "null" {
        return Ok(());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Refusal::because(format!("{text:?} has no scheme")).meant(format!("[\"https://{text}\"]")));
    };
    let host = rest.split('/').next().unwrap_or_default();
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
    };
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
    };
    if !is_scheme(scheme) || !is_host(host) {
        return Err(Refusal::because(format!("{text:?} is no origin")));
    }
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let named = if usual.is_empty() { host } else { host.strip_suffix(usual).unwrap_or(host) };
    if named.len() < rest.len() {
        let why = if host.len() < rest.len() {
            "an origin ends behind the host and its port"
        } else {
            "browsers leave out the usual port"
        };
        return Err(Refusal::because(format!("{text:?}: {why}")).meant(format!("[\"{scheme}://{named}\"]")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{
        Transport,
        tests::{parse, problems},
    };

    #[test]
    fn where_websocket_is_said_to_be_there_it_is() {
        assert_eq!(parse("").unwrap().listeners().len(), 1);
        let text = "[tls]\ncert_file = \"c\"\nkey_file = \"k\"\n[websocket]\nlisten = \"127.0.0.1:7680\"\ntls_listen = \"0.0.0.0:7681\"";
        let listeners = parse(text).unwrap().listeners();
        let found: Vec<_> = listeners.iter().map(|listen| (listen.address.port(), listen.transport)).collect();
        let websocket = [(7680, Transport::WebSocket), (7681, Transport::WebSocketTls)];
        assert_eq!(found, [&[(7600, Transport::Tls)][..], &websocket].concat());
    }

    #[test]
    fn what_is_plain_stays_on_loopback_and_what_is_not_needs_a_certificate() {
        let found = problems("[websocket]\nlisten = \"0.0.0.0:7680\"");
        assert!(found.len() == 1 && found[0].key == "websocket.listen", "{found:?}");
        parse("allow_plain_tcp_beyond_loopback = true\n[websocket]\nlisten = \"0.0.0.0:7680\"").unwrap();
        let found = problems("[websocket]\ntls_listen = \"0.0.0.0:7681\"");
        assert!(found.len() == 1 && found[0].key == "websocket.tls_listen", "{found:?}");
        for (text, key) in [
            ("[websocket]\nlisten = \"127.0.0.1:7600\"", "websocket.listen"),
            ("admin_listen = \"127.0.0.1:7601\"\n[websocket]\nlisten = \"127.0.0.1:7601\"", "websocket.listen"),
            ("[websocket]\norigins = [\"https://a.example\"]", "websocket.origins"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        let text = |origin: &str| format!("[websocket]\nlisten = \"127.0.0.1:0\"\norigins = {origin}");
        for origin in
            ["https://chat.example.org", "http://localhost:8000", "http://[::1]", "null", "capacitor://localhost"]
        {
            let parsed = parse(&text(&format!("[\"{origin}\"]"))).unwrap();
            assert_eq!(parsed.websocket.origins, [origin]);
        }
        for (origin, words) in [
            ("[\"chat.example.org\"]", "[\"https://chat.example.org\"]"),
            ("[\"https://chat.example.org/\"]", "[\"https://chat.example.org\"]"),
            ("[\"https://chat.example.org:443\"]", "[\"https://chat.example.org\"]"),
            ("[\"http://[::1]:80\"]", "[\"http://[::1]\"]"),
            ("[\"https://a b\"]", "is no origin"),
            ("[\"*\"]", "has no scheme"),
            ("[1]", "no text"),
            ("\"https://a.example\"", "brackets make it a list"),
        ] {
            let found = problems(&text(origin));
            assert!(found.len() == 1 && found[0].reason.contains(words), "{origin}: {found:?}");
        }
    }
}
