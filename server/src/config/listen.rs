//! Where the server listens and what it proves there: the addresses, and `[tls]`. Owns `[tls]`, the forms of the
//! addresses and what must hold between them.
//!
//! Invariant: in a valid configuration nothing that is plain can be reached from other machines, unless the operator allows it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{
    Check, Config, file,
    key::{Key, Slot},
};

/// A place where clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// What is spoken there, and nothing else.
    pub transport: Transport,
}

/// What carries the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
    /// TLS over it.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls,
}

impl Transport {
    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        match self {
            Self::Tls | Self::WebSocketTls => true,
            Self::Plain | Self::WebSocket => false,
        }
    }

    /// Whether it is WebSocket.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        match self {
            Self::WebSocket | Self::WebSocketTls => true,
            Self::Plain | Self::Tls => false,
        }
    }
}

/// Where metrics and health are served: an address, `"auto"`, or nowhere, which a file writes as `""` or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// At [`AdminListen::USUAL`], or at another port of loopback if somebody has that one.
    Auto,
    /// Not at all.
    Off,
    /// There.
    At(SocketAddr),
}

/// What the server proves with who it is, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the certificate chain; empty: there is no TLS. See [`Tls::files`].
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// Where clients connect with TLS; none: at [`Config::listen`], and only so.
    pub listen: Option<SocketAddr>,
}

impl AdminListen {
    /// Next to where clients connect usually.
    pub const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7601);
}

impl Config {
    /// Where clients connect: one place at least.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listen> {
        let at = |address, transport| Listen { address, transport };
        let mut listeners = match (self.tls.files(), self.tls.listen) {
            (None, _) => vec![at(self.listen, Transport::Plain)],
            (Some(_), None) => vec![at(self.listen, Transport::Tls)],
            (Some(_), Some(tls)) => vec![at(self.listen, Transport::Plain), at(tls, Transport::Tls)],
        };
        listeners.extend(self.websocket.listen.map(|address| at(address, Transport::WebSocket)));
        listeners.extend(self.websocket.tls_listen.map(|address| at(address, Transport::WebSocketTls)));
        listeners
    }

    pub(super) fn check_addresses(&self, check: &mut Check<'_>) {
        let admin = match self.admin_listen {
            // What is chosen is on loopback, and nobody else's.
            AdminListen::Off | AdminListen::Auto => None,
            AdminListen::At(address) => Some(address),
        };
        let plain = self.listeners().into_iter().find(|listen| listen.transport == Transport::Plain);
        for (key, address) in [
            ("listen", plain.map(|plain| plain.address)),
            ("admin_listen", admin),
            ("websocket.listen", self.websocket.listen),
        ] {
            let Some(address) = address else { continue };
            let reachable = !address.ip().to_canonical().is_loopback();
            check.that(
                !reachable || self.allow_plain_tcp_beyond_loopback,
                &[key, "allow_plain_tcp_beyond_loopback"],
                || {
                    "other machines could reach this address, and everything there, tokens included, would cross the \
                 network unencrypted: use TLS (tls.cert_file) or a loopback address such as 127.0.0.1, or set \
                 allow_plain_tcp_beyond_loopback = true if the network is trusted or encrypts by itself"
                        .to_owned()
                },
            );
        }
        // Port 0 asks the system for a free port, a different one each time.
        check.that(admin != Some(self.listen) || self.listen.port() == 0, &["admin_listen", "listen"], || {
            "must be an address other than `listen`, or off for none".to_owned()
        });
        if let Some(address) = self.tls.listen {
            check.that(
                address.port() == 0 || (address != self.listen && Some(address) != admin),
                &["tls.listen", "listen", "admin_listen"],
                || {
                    "must be an address other than `listen` and `admin_listen`, or \"\" if `listen` is to speak TLS"
                        .to_owned()
                },
            );
        }
        let mut taken = vec![Some(self.listen), self.tls.listen, admin];
        for (key, address) in
            [("websocket.listen", self.websocket.listen), ("websocket.tls_listen", self.websocket.tls_listen)]
        {
            let Some(own) = address else { continue };
            check.that(own.port() == 0 || !taken.contains(&address), &[key, "listen", "tls.listen"], || {
                "must be an address of its own, other than `listen`, `tls.listen`, `admin_listen` and the other one of \
                 [websocket], or \"\" for none"
                    .to_owned()
            });
            taken.push(address);
        }
    }
}

impl Tls {
    /// The files of certificate and key, if there is TLS.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        (!self.cert_file.as_os_str().is_empty()).then_some((&self.cert_file, &self.key_file))
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { cert_file, key_file, listen } = self;
        vec![
            Key { name: "tls.cert_file", slot: file(cert_file, "/etc/ringpost/cert.pem", "no TLS") },
            Key { name: "tls.key_file", slot: file(key_file, "/etc/ringpost/key.pem", "no TLS") },
            Key { name: "tls.listen", slot: Slot::AddressOrNone(listen) },
        ]
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        let (cert, key) = (self.cert_file.as_os_str(), self.key_file.as_os_str());
        check.that(cert.is_empty() || !key.is_empty(), &["tls.cert_file", "tls.key_file"], || {
            "needs tls.key_file too, the file of its private key; for example: key_file = \"/etc/ringpost/key.pem\""
                .to_owned()
        });
        check.that(key.is_empty() || !cert.is_empty(), &["tls.key_file", "tls.cert_file"], || {
            "needs tls.cert_file too, the file of its certificate; for example: cert_file = \"/etc/ringpost/cert.pem\"".to_owned()
        });
        check.that(self.listen.is_none() || !cert.is_empty(), &["tls.listen", "tls.cert_file"], || {
            "needs tls.cert_file and tls.key_file, or --tls-self-signed".to_owned()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{parse, problems};

    #[test]
    fn plain_tcp_beyond_loopback_needs_its_own_key() {
        for address in ["0.0.0.0:7700", "192.168.0.1:7700", "[::]:7700", "[::ffff:10.0.0.1]:7700"] {
            for key in ["listen", "admin_listen"] {
                let text = format!("{key} = \"{address}\"");
                let found = problems(&text);
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].key == key && found[0].reason.contains("allow_plain_tcp_beyond_loopback = true"));
                parse(&format!("{text}\nallow_plain_tcp_beyond_loopback = true")).unwrap();
            }
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7600", "[::ffff:127.0.0.1]:7600"] {
            parse(&format!("listen = \"{address}\"")).unwrap();
        }
    }

    #[test]
    fn the_admin_endpoint_can_be_off_but_not_on_the_clients_address() {
        for word in ["", "off"] {
            assert_eq!(parse(&format!("admin_listen = \"{word}\"")).unwrap().admin_listen, AdminListen::Off);
        }
        assert_eq!(parse("admin_listen = \"auto\"").unwrap().admin_listen, AdminListen::Auto);
        assert_eq!(parse("").unwrap().admin_listen, AdminListen::Auto);
        assert_eq!(problems("admin_listen = \"127.0.0.1:7600\"")[0].key, "admin_listen");
        parse("listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"").unwrap();
    }

    #[test]
    fn what_speaks_tls_may_be_anywhere_and_what_is_plain_beside_it_may_not() {
        let files = "cert_file = \"c\"\nkey_file = \"k\"";
        let both = format!("[tls]\nlisten = \"0.0.0.0:7443\"\n{files}");
        for text in [format!("listen = \"0.0.0.0:7600\"\n[tls]\n{files}"), both.clone()] {
            parse(&text).unwrap();
        }
        let found = problems(&format!("listen = \"0.0.0.0:7600\"\n{both}"));
        assert!(found.len() == 1 && found[0].key == "listen" && found[0].reason.contains("tls.cert_file"), "{found:?}");
        let listeners = parse(&both).unwrap().listeners();
        let tls = Listen { address: "0.0.0.0:7443".parse().unwrap(), transport: Transport::Tls };
        assert!(listeners.len() == 2 && listeners[0].transport == Transport::Plain && listeners[1] == tls);
        let found = problems(&format!("listen = \"127.0.0.1:7443\"\n[tls]\nlisten = \"127.0.0.1:7443\"\n{files}"));
        assert_eq!(found[0].key, "tls.listen");
    }

    #[test]
    fn half_of_what_tls_needs_is_refused() {
        for (text, key) in [
            ("[tls]\ncert_file = \"c\"", "tls.cert_file"),
            ("[tls]\nkey_file = \"k\"", "tls.key_file"),
            ("[tls]\nlisten = \"127.0.0.1:1\"", "tls.listen"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }
}
