//! Certificates: the files that a server proves with who it is, as rustls wants them. The key is a secret as in `keyfile`; a file
//! that exists is never overwritten.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use proto_spec::ALPN;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, default_provider},
    },
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier},
};
use thiserror::Error;

use crate::{
    access::validity::Validity,
    files::keyfile::{self, KeyFileError},
};

/// Why a server can not prove who it is.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file that can not be read, or a key that others can.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Not PEM, or not what it should hold.
    #[error("{path}: {what} can not be read from it: {error}", path = path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why, in words of our own: those of the library repeat what is in the file.
        error: &'static str,
    },
    /// The certificate and the key do not make a server.
    #[error("{certificate} with the key {key}: {why}", certificate = certificate.display(), key = key.display())]
    Unusable {
        /// File of the chain.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why, in words of our own.
        why: &'static str,
    },
    /// A certificate of our own could not be made.
    #[error("{path}: a certificate can not be made: {error}", path = path.display())]
    Make {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: rcgen::Error,
    },
    /// The library could not be set up.
    #[error("TLS can not be set up: {0}")]
    Setup(rustls::Error),
}

/// What tickets are sealed with: random keys that live as long as the process, so that a certificate can change without
/// a crowd that comes back paying for it with a signature each.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self, CertificateError> {
        Ticketer::new().map(Self).map_err(CertificateError::Setup)
    }
}

/// What connections are accepted with: the chain (the server's own certificate first) and its key, both PEM; and from when until when
/// the chain is good, if that can be read.
///
/// # Errors
/// See [`CertificateError`].
pub fn load(
    certificate: &Path,
    key: &Path,
    tickets: &Tickets,
) -> Result<(Arc<ServerConfig>, Option<Validity>), CertificateError> {
    let (chain, secret) = read_pair(certificate, key)?;
    let validity = Validity::of_chain(&chain);
    let unusable = |error: rustls::Error| CertificateError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why: of_pair(&error),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(CertificateError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.ticketer = Arc::clone(&tickets.0);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    Ok((Arc::new(config), validity))
}

/// What nodes prove to each other who they are with, at either end of a link.
#[derive(Clone, Debug)]
pub struct MeshTls {
    /// Of the node that is dialled.
    pub server: Arc<ServerConfig>,
    /// Of the node that dials.
    pub client: Arc<ClientConfig>,
}

/// Protocols that are spoken on a link: no client's.
const MESH_ALPN: &[u8] = b"ringpost-mesh";

/// A node's certificate and its key, and whoever signs those of nodes; all PEM.
///
/// # Errors
/// See [`CertificateError`].
pub fn load_mesh(certificate: &Path, key: &Path, authority: &Path) -> Result<MeshTls, CertificateError> {
    let (chain, secret) = read_pair(certificate, key)?;
    let unusable = |error: rustls::Error| CertificateError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why: of_pair(&error),
    };
    let mut roots = RootCertStore::empty();
    for root in read_chain(authority)? {
        roots.add(root).map_err(|_| CertificateError::Pem {
            path: authority.to_owned(),
            what: "a certificate that signs others",
            error: "it is damaged, or of a kind that signs nothing",
        })?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(provider()));
    let versions = &[&rustls::version::TLS13];
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| CertificateError::Setup(rustls::Error::General(error.to_string())))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(CertificateError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), secret.clone_key())
        .map_err(unusable)?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(CertificateError::Setup)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, secret)
        .map_err(unusable)?;
    // A link that is opened again shows its certificate again: that is looked at each time.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    client.resumption = Resumption::disabled();
    server.alpn_protocols = vec![MESH_ALPN.to_vec()];
    client.alpn_protocols = vec![MESH_ALPN.to_vec()];
    Ok(MeshTls { server: Arc::new(server), client: Arc::new(client) })
}

fn read_chain(certificate: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable =
        |path: &Path, what, error| CertificateError::Pem { path: path.to_owned(), what, error: in_words(&error) };
    let exchanged = |path: &Path, what, error| CertificateError::Pem { path: path.to_owned(), what, error };
    let bytes = keyfile::read_public(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(certificate, "a certificate", error))?;
    if chain.is_empty() {
        let why = if PrivateKeyDer::from_pem_slice(&bytes).is_ok() {
            KEY_INSTEAD
        } else {
            in_words(&pem::Error::NoItemsFound)
        };
        return Err(exchanged(certificate, "a certificate", why));
    }
    Ok(chain)
}

/// A chain, the own certificate first, and its key.
fn read_pair(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let unreadable =
        |path: &Path, what, error| CertificateError::Pem { path: path.to_owned(), what, error: in_words(&error) };
    let exchanged = |path: &Path, what, error| CertificateError::Pem { path: path.to_owned(), what, error };
    let chain = read_chain(certificate)?;
    // Before its mode: a certificate may be read by anybody.
    let bytes = keyfile::read_public(key)?;
    if !has_section(&bytes, "PRIVATE KEY") && has_section(&bytes, "CERTIFICATE") {
        return Err(exchanged(key, "a private key", CERTIFICATE_INSTEAD));
    }
    if has_section(&bytes, "ENCRYPTED PRIVATE KEY") {
        return Err(exchanged(key, "a private key", ENCRYPTED));
    }
    let secret = PrivateKeyDer::from_pem_slice(&keyfile::read_secret(key)?)
        .map_err(|error| unreadable(key, "a private key", error))?;
    Ok((chain, secret))
}

const KEY_INSTEAD: &str = "there is a private key in it: tls.cert_file and tls.key_file may be exchanged";
const CERTIFICATE_INSTEAD: &str = "there is a certificate in it: tls.cert_file and tls.key_file may be exchanged";
const ENCRYPTED: &str = "it is locked with a passphrase: write it without one with `openssl pkey -in OLD -out NEW`";

fn has_section(bytes: &[u8], tag: &str) -> bool {
    let line = format!("{tag}-----");
    bytes.windows(line.len()).any(|window| window == line.as_bytes())
}

/// Why a chain and a key do not make a server.
const fn of_pair(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InconsistentKeys(_) => "the certificate is of another key: name the key that it was made for",
        rustls::Error::InvalidCertificate(_) => "the certificate is damaged: get it again from whoever issued it",
        _ => {
            "the key is damaged, or of a kind that TLS does not take: RSA, ECDSA with P-256, P-384 or P-521, and Ed25519 are"
        }
    }
}

/// Nothing of the file: it may be a key.
const fn in_words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "there is none in it",
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should",
        pem::Error::Base64Decode(_) => "what is between the lines is not base64",
        _ => "it is not PEM",
    }
}

/// AWS-LC, with AES-128 and SHA-256 before AES-256 and SHA-384: a handshake is mostly hashing, which processors do for the
/// former only.
#[must_use]
pub fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Makes a key, and a certificate for these names that it has signed itself, unless there are files already. Each is whole or
/// not there, whenever the power fails; a certificate is made of the key that is there.
///
/// # Errors
/// See [`CertificateError`].
pub fn create_if_missing(certificate: &Path, key: &Path, names: &[String]) -> Result<(), CertificateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |error| CertificateError::Make { path, error }
    };
    let fresh = KeyPair::generate().map_err(failed(key))?;
    keyfile::write_if_missing(key, in_pem("PRIVATE KEY", fresh.serialize_der()).as_bytes())?;
    let secret = keyfile::read_secret(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| CertificateError::Pem {
        path: key.to_owned(),
        what: "a private key",
        error: in_words(&error),
    })?;
    let pair = KeyPair::try_from(&secret).map_err(failed(key))?;
    let made = CertificateParams::new(names).and_then(|params| params.self_signed(&pair));
    let made = made.map_err(failed(certificate))?;
    Ok(keyfile::write_if_missing(certificate, in_pem("CERTIFICATE", made.der().to_vec()).as_bytes())?)
}

fn in_pem(tag: &str, der: Vec<u8>) -> String {
    ::pem::encode(&::pem::Pem::new(tag, der))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A certificate for `localhost` and its key, in files of a folder of their own.
    #[derive(Debug)]
    pub(crate) struct Files {
        pub(crate) certificate: PathBuf,
        pub(crate) key: PathBuf,
        pub(super) _folder: tempfile::TempDir,
    }

    impl Files {
        pub(crate) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            create_if_missing(&certificate, &key, &["localhost".to_owned()]).unwrap();
            Self { certificate, key, _folder: folder }
        }

        pub(crate) fn server(&self, tickets: &Tickets) -> Arc<ServerConfig> {
            load(&self.certificate, &self.key, tickets).unwrap().0
        }

        /// A client that trusts the certificate and offers these protocols.
        pub(crate) fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&self.certificate).unwrap()).unwrap();
            let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::{testing::Files, *};

    fn refused(files: &Files) -> String {
        load(&files.certificate, &files.key, &Tickets::new().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_of_our_own_is_made_once_and_its_key_is_its_owners_alone() {
        let files = Files::new();
        let made = (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap());
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o7777, 0o600);
        create_if_missing(&files.certificate, &files.key, &["other".to_owned()]).unwrap();
        assert_eq!(made, (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap()));
        // A start that was cut short has left the key alone.
        fs::remove_file(&files.certificate).unwrap();
        create_if_missing(&files.certificate, &files.key, &["localhost".to_owned()]).unwrap();
        files.server(&Tickets::new().unwrap());
        assert_eq!(fs::read(&files.key).unwrap(), made.1);
    }

    #[test]
    fn files_that_make_no_server_are_refused_by_name() {
        let files = Files::new();
        let other = Files::new();
        let foreign = Files { key: other.key.clone(), ..Files::new() };
        let said = refused(&foreign);
        assert!(said.contains("cert.pem with the key") && said.contains("of another key"), "{said}");
        fs::write(&files.certificate, "no certificate\n").unwrap();
        let said = refused(&files);
        assert!(said.contains("cert.pem: a certificate can not be read from it"), "{said}");
        fs::write(&other.key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(refused(&other).contains("with the key"), "{}", refused(&other));
        fs::write(&other.key, "nothing").unwrap();
        assert!(refused(&other).contains("key.pem: a private key can not be read from it"), "{}", refused(&other));
        fs::remove_file(&other.key).unwrap();
        assert!(refused(&other).contains("key.pem: there is no such file"), "{}", refused(&other));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let files = Files::new();
        fs::set_permissions(&files.key, Permissions::from_mode(0o644)).unwrap();
        assert!(refused(&files).contains("chmod 600"), "{}", refused(&files));
    }
}
