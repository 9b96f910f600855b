//! Tokens for users that exist only in a run, signed with the server's own key.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use client::UserId;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

/// Longer than any run.
const TOKEN_SECONDS: u64 = 24 * 3600;

pub(crate) struct Mint {
    key: EncodingKey,
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

impl Mint {
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let pem = std::fs::read(path).with_context(|| format!("--token-key {name}"))?;
        let key = EncodingKey::from_ed_pem(&pem).with_context(|| format!("--token-key {name} is no Ed25519 key"))?;
        Ok(Self { key })
    }

    pub(crate) fn token(&self, user: UserId) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
        let claims = Claims { sub: user.to_string(), exp: now + TOKEN_SECONDS };
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).context("the token could not be signed")
    }
}
