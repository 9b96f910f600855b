//! Tokens for users that exist only in a run, signed with the server's own key: made when a connection needs one and not kept.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proto_spec::UserId;
use serde::Serialize;

/// Longer than any run.
const TOKEN_SECONDS: u64 = 24 * 3600;

/// Signs tokens.
pub struct Mint {
    key: EncodingKey,
    header: Header,
    expires: u64,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

impl Mint {
    /// With the private key that the server makes on its first start.
    ///
    /// # Errors
    /// The file can not be read, or holds something else.
    pub fn ed25519(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let pem = std::fs::read(path).with_context(|| format!("--token-key {name}"))?;
        let key = EncodingKey::from_ed_pem(&pem).with_context(|| format!("--token-key {name} is no Ed25519 key"))?;
        Self::new(key, Algorithm::EdDSA)
    }

    /// With the secret that the server reads from `auth.hs256_secret_file`: a tenth of the work.
    ///
    /// # Errors
    /// The file can not be read.
    pub fn hs256(path: &Path) -> anyhow::Result<Self> {
        let secret = std::fs::read(path).with_context(|| format!("--hs256-secret-file {}", path.display()))?;
        // As the server does: a line break at the end does not count.
        let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        Self::new(EncodingKey::from_secret(secret), Algorithm::HS256)
    }

    fn new(key: EncodingKey, algorithm: Algorithm) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
        Ok(Self { key, header: Header::new(algorithm), expires: now + TOKEN_SECONDS })
    }

    /// A token of this user.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn token(&self, user: UserId) -> anyhow::Result<String> {
        let claims = Claims { sub: user.to_string(), exp: self.expires };
        encode(&self.header, &claims, &self.key).context("the token could not be signed")
    }
}
