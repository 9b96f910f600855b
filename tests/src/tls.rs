//! Certificates for a server under test, and clients that trust them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use proto_spec::ALPN;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use server::files::certificate::create_if_missing;

use crate::process::Installation;

/// Gives an installation a certificate for `localhost`, in place of the one that it has, and the files' paths to its
/// configuration. Gives the certificate's path.
///
/// # Panics
/// There is no room for the files.
pub fn certify(installation: &mut Installation) -> PathBuf {
    let (certificate, key) = (installation.folder().join("cert.pem"), installation.folder().join("key.pem"));
    for old in [&certificate, &key] {
        let _ = fs::remove_file(old);
    }
    create_if_missing(&certificate, &key, &["localhost".to_owned()]).expect("a certificate can be made");
    installation.config.tls.cert_file.clone_from(&certificate);
    installation.config.tls.key_file = key;
    certificate
}

/// A client that trusts this certificate alone, and comes back with its tickets.
///
/// # Panics
/// There is none.
#[must_use]
pub fn trusting(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    roots.add(certificate).expect("it can be trusted");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("this version is there")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}
