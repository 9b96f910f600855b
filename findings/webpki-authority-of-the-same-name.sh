#!/usr/bin/env bash
# rustls 0.23.46 with rustls-webpki 0.103.17, certificates made by rcgen 0.14.10.
#
# Guess: a certificate that was signed by an authority other than the one that is trusted is an `UnknownIssuer`, as the error is called
# and as a chain that leads nowhere is reported.
#
# Behaviour: the issuer is looked for by its name first. If the other authority has the same name as the trusted one (two that were made
# with a library's default name have), the signature is then checked with the trusted key, and the error is `BadSignature`. With another
# name it is `UnknownIssuer`. Both are refused.
#
# Why it matters here: nodes of a cluster and clients log this word. `BadSignature` reads as if a file were damaged, and an operator who
# has made a second authority by the same commands looks in the wrong place: so OPERATING.md says what the word means.
#
# Needs Rust and a C compiler. Takes about a minute.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "seen"
version = "0.0.0"
edition = "2024"

[dependencies]
rcgen = { version = "=0.14.10", default-features = false, features = ["ring", "pem"] }
rustls = { version = "=0.23.46", default-features = false, features = ["ring", "std"] }
rustls-webpki = "=0.103.17"
TOML
cat >src/main.rs <<'RUST'
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a certificate that `signs` has signed is to one who trusts `trusted`.
fn seen(trusted: &CertifiedIssuer<'static, KeyPair>, signs: &CertifiedIssuer<'static, KeyPair>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.der().to_vec())).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["node.example".to_owned()]).unwrap();
    let certificate = CertificateDer::from(params.signed_by(&key, signs).unwrap().der().to_vec());
    let name = ServerName::try_from("node.example").unwrap();
    match verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn main() {
    let trusted = authority("one name");
    println!("its own authority: {}", seen(&trusted, &trusted));
    println!("another one, named otherwise: {}", seen(&trusted, &authority("another name")));
    println!("another one of the same name: {}", seen(&trusted, &authority("one name")));
}
RUST
cargo run --quiet >seen
cat seen
expected='its own authority: good
another one, named otherwise: invalid peer certificate: UnknownIssuer
another one of the same name: invalid peer certificate: BadSignature'
[ "$(cat seen)" = "$expected" ] || { echo "this is not what was seen before" >&2; exit 1; }
