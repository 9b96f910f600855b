//! The certificate of a node at the other end of a link. Who has signed it was looked at before; here is whose it is.

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};

/// A certificate that a node's authority has signed, as DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate(pub Vec<u8>);

impl Certificate {
    /// Whether it is that of the node with this name: it has the name as a DNS name.
    #[must_use]
    pub fn is_of(&self, name: &str) -> bool {
        let der = CertificateDer::from(self.0.as_slice());
        let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(&der), ServerName::try_from(name)) else {
            return false;
        };
        verify_server_name(&certificate, &name).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_of_the_node_that_it_names_and_of_no_other() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a".to_owned(), "a.example.org".to_owned()]).unwrap();
        let certificate = Certificate(params.self_signed(&pair).unwrap().der().to_vec());
        assert!(
            certificate.is_of("a") && !certificate.is_of("b") && !certificate.is_of("") && !certificate.is_of("a b")
        );
        assert!(!Certificate(b"no certificate".to_vec()).is_of("a"));
    }
}
