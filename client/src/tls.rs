//! TLS 1.3 between the driver's socket and the state: bytes in, bytes out. What is trusted, and the tickets that make the next
//! handshake short, outlive a connection.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use proto_spec::ALPN;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

use crate::config::{ConfigError, Roots, name_at};

/// How TLS connections to one server are made, to whichever of its nodes.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    /// That every certificate must have; none: the host that is connected to.
    name: Option<String>,
}

/// Why TLS can not go on, in words for a person.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Who has answered can not show that it is the server.
    Untrusted(String),
    /// Who has answered does not speak TLS.
    Foreign(String),
    /// Anything else.
    Other(String),
}

/// One connection.
pub(crate) struct Stream {
    connection: ClientConnection,
}

impl Connector {
    /// Reads what is trusted.
    ///
    /// # Errors
    /// There is nothing that could be trusted.
    pub(crate) fn new(roots: &Roots, name: Option<String>) -> Result<Self, ConfigError> {
        let mut store = RootCertStore::empty();
        match roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
                    return Err(ConfigError::Roots { of: "this system's certificates".to_owned(), why });
                }
            }
            Roots::File(path) => {
                let of = path.display().to_string();
                match CertificateDer::pem_file_iter(path) {
                    Ok(certificates) => add(certificates, &of, &mut store)?,
                    Err(error) => return Err(ConfigError::Roots { of, why: error.to_string() }),
                }
            }
            Roots::Pem(text) => {
                add(CertificateDer::pem_slice_iter(text.as_bytes()), "the given text", &mut store)?;
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ConfigError::Tls(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    /// A connection that has just been opened to this address, and what is to be said first, in `out`.
    pub(crate) fn begin(&self, address: &str, out: &mut Vec<u8>) -> Result<Stream, Fault> {
        let name = name_at(address, self.name.as_deref()).map_err(|error| Fault::Other(error.to_string()))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(fault)?;
        let mut stream = Stream { connection };
        // What is written before the handshake is done waits in there: the hello, and nothing else (SPEC 1.3). After it
        // everything goes on to where the driver counts it.
        stream.connection.set_buffer_limit(None);
        stream.flush(out);
        Ok(stream)
    }
}

impl Stream {
    /// Takes received bytes; what they say is appended to `plain`, and what is to be answered to `out`.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut result = Ok(());
        while !bytes.is_empty() && result.is_ok() {
            match self.connection.read_tls(&mut bytes) {
                // Nothing is taken after the server's close_notify.
                Ok(0) => break,
                Ok(_) => result = self.connection.process_new_packets().map(drop).map_err(fault),
                Err(error) => result = Err(Fault::Other(format!("TLS: {error}"))),
            }
            // That nothing more has come, and that nothing more will, is an error of a reader; what there was is there.
            let _ = self.connection.reader().read_to_end(plain);
        }
        self.flush(out);
        result
    }

    /// What is to be written to say `plain`, appended to `out`.
    pub(crate) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.connection.writer().write_all(plain).expect("there is no limit");
        self.flush(out);
    }

    /// What is to be written last.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(out).expect("memory takes everything");
        }
    }
}

/// All of these certificates, of which there must be one, are trusted.
fn add(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
    of: &str,
    store: &mut RootCertStore,
) -> Result<(), ConfigError> {
    let refused = |why: String| ConfigError::Roots { of: of.to_owned(), why };
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        store.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()));
    }
    Ok(())
}

fn fault(error: rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Fault::Untrusted(error.to_string())
        }
        rustls::Error::InvalidMessage(_) => Fault::Foreign("it does not answer in TLS".to_owned()),
        error => Fault::Other(format!("TLS: {error}")),
    }
}
