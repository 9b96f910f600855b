//! TLS on the links: whom they trust, and a ticket for each device that comes back. The connection itself is the server's own
//! `io::tls`, from the other end.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, anyhow, ensure};
use proto_spec::{ALPN, WEBSOCKET_ALPN};
use rim::tls::Tls;
use rustls::{
    ClientConfig, NamedGroup, RootCertStore,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, UnbufferedClientConnection,
    },
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::web::Carrier;

/// One end of a link that speaks TLS.
pub type LinkTls = Tls<UnbufferedClientConnection>;

/// What a device that comes back shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWith {
    /// Its last ticket.
    Ticket,
    /// Nothing: each handshake is a full one.
    Nothing,
}

/// Whom the links of a run trust, and under which name.
#[derive(Clone, Debug)]
pub struct Trust {
    config: ClientConfig,
    /// For every node; none: its host.
    name: Option<ServerName<'static>>,
    return_with: ReturnWith,
}

impl Trust {
    /// Trusts the certificates in this PEM file, or, without one, those that this system trusts.
    ///
    /// # Errors
    /// There is none, or the name is none that a certificate can have.
    pub fn new(
        roots: Option<&Path>,
        name: Option<&str>,
        return_with: ReturnWith,
        carrier: Carrier,
    ) -> anyhow::Result<Self> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(path) => {
                let at = || format!("--tls-ca {}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).with_context(at)? {
                    store.add(certificate.with_context(at)?).with_context(at)?;
                }
            }
            None => _ = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        ensure!(!store.is_empty(), "there is no certificate that could be trusted");
        let chosen = |name: &str| certificate_name(name).map_err(|why| anyhow!("--tls-name {why}"));
        let name = name.map(chosen).transpose()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(store)
            .with_no_client_auth();
        let protocol = match carrier {
            Carrier::Bytes => ALPN,
            Carrier::WebSocket => WEBSOCKET_ALPN,
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { config, name, return_with })
    }

    /// The name that a certificate must have on this host.
    ///
    /// # Errors
    /// None can have it.
    pub fn name_at(&self, host: &str) -> Result<ServerName<'static>, String> {
        self.name.clone().map_or_else(|| certificate_name(host), Ok)
    }
}

#[cfg(test)]
impl Trust {
    /// For tests of everything but trust.
    pub(crate) fn in_nobody(name: Option<&str>) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.map(|name| certificate_name(name).unwrap());
        Self { config, name, return_with: ReturnWith::Nothing }
    }
}

fn certificate_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name}: no certificate can have this name"))
}

/// Makes the TLS of one lane's links.
#[derive(Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
}

impl Connector {
    /// For so many links.
    #[must_use]
    pub fn new(trust: &Trust, links: usize) -> Self {
        let tickets = Arc::new(Tickets { slot: AtomicUsize::new(0), of: Mutex::default() });
        lock(&tickets.of).resize_with(links, || None);
        let mut config = trust.config.clone();
        config.resumption = match trust.return_with {
            ReturnWith::Ticket => Resumption::store(Arc::clone(&tickets) as _),
            ReturnWith::Nothing => Resumption::disabled(),
        };
        Self { config: Arc::new(config), tickets }
    }

    /// The beginning of a link to who must have this name: what it says first is pending.
    ///
    /// # Errors
    /// TLS can not be set up.
    pub fn begin(&self, slot: u32, name: ServerName<'static>) -> Result<Box<LinkTls>, String> {
        self.turn_to(slot);
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), name);
        let mut tls = Box::new(Tls::new(connection.map_err(|error| error.to_string())?));
        tls.receive(&mut [], &mut Vec::new()).map_err(|error| error.to_string())?;
        Ok(tls)
    }

    /// Tickets that come from now on are this link's.
    pub fn turn_to(&self, slot: u32) {
        self.tickets.slot.store(slot as usize, Ordering::Relaxed);
    }
}

/// The last ticket of each link. rustls knows servers and not devices, so it is told whose turn it is; a lane is one thread.
struct Tickets {
    slot: AtomicUsize,
    /// With the name of who gave it: another node is shown none of it.
    of: Mutex<Vec<Option<Ticket>>>,
}

type Ticket = (ServerName<'static>, Tls13ClientSessionValue);

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        lock(&self.of)[self.slot.load(Ordering::Relaxed)] = Some((server, value));
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = lock(&self.of)[self.slot.load(Ordering::Relaxed)].take();
        ticket.and_then(|(giver, value)| (giver == *server).then_some(value))
    }

    // The first group is the server's choice too.
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    // TLS 1.2 is not spoken.
    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
