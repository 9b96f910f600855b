//! Keys: what this server shows push providers who it is with. Read from the files that operators have, checked once, and never shown.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    hkdf, hmac,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::{
    encryption,
    limits::{SIGNATURE_AGE_MAX_S, WEBHOOK_KEY_BYTES},
    settings::{ServiceUrl, TagKey},
};

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// What a signature begins with.
const VERSION: &str = "v1,";

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a private key of P-256 in PEM.
    #[error(
        "this is no private key of the curve P-256 in PEM (PKCS#8); one is made with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    NotP256,
    /// Not the JSON of a service account.
    #[error("this is not the JSON of a Google service account: {0}")]
    NotServiceAccount(String),
    /// What stands in the JSON as a key is none.
    #[error("`private_key` of the service account is no RSA key in PEM")]
    NotRsa,
    /// Not a key of a webhook.
    #[error(
        "this is no key of a webhook: it is \"whsec_\" and {} to {} bytes in base64; one is made with `echo whsec_$(openssl rand -base64 32)`",
        WEBHOOK_KEY_BYTES.start(),
        WEBHOOK_KEY_BYTES.end()
    )]
    NotWebhookKey,
    /// An identifier that is empty, or has characters in it that can stand in no path or header.
    #[error("{field} is {value:?}; it may have letters, digits, \".\", \"-\", \"_\" and \":\"")]
    Identifier {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: String,
    },
}

/// By what push services know this server (RFC 8292).
#[derive(Clone)]
pub struct VapidKey {
    private: EncodingKey,
    public: [u8; 65],
}

impl VapidKey {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        let (private, pair) = p256(pem)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| BadKey::NotP256)?;
        Ok(Self { private, public })
    }

    /// A new key in PEM, to be written down where only the server can read it.
    #[must_use]
    pub fn generate_pem() -> String {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("AWS-LC makes keys");
        let der = pair.to_pkcs8v1().expect("AWS-LC writes the keys that it makes");
        pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))
    }

    /// What a browser is given as `applicationServerKey`: the point, not compressed.
    #[must_use]
    pub const fn public(&self) -> &[u8; 65] {
        &self.public
    }

    /// The same as text, as browsers and push services of their own write it.
    #[must_use]
    pub fn public_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public)
    }

    /// A token of this key.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        sign(&Header::new(Algorithm::ES256), claims, &self.private)
    }
}

/// What [`VapidKey::public_text`] has written; none: it is no public key of P-256.
#[must_use]
pub fn public_from_text(text: &str) -> Option<[u8; 65]> {
    let key = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    encryption::is_public_key(&key).then_some(key)
}

/// What APNs knows this server by: a key of the developer's account, as the file `AuthKey_….p8` has it.
#[derive(Clone)]
pub struct ApnsKey {
    private: EncodingKey,
    key_id: String,
    team_id: String,
}

impl ApnsKey {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// When it is none, or what names it and its team is not what Apple gives out.
    pub fn from_pem(pem: &[u8], key_id: &str, team_id: &str) -> Result<Self, BadKey> {
        let (private, _) = p256(pem)?;
        Ok(Self { private, key_id: identifier("the key id", key_id)?, team_id: identifier("the team id", team_id)? })
    }

    /// A token that says it was issued at this time, in seconds since 1970.
    pub(crate) fn token(&self, issued_s: u64) -> String {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            iat: u64,
        }
        let header = Header { kid: Some(self.key_id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        sign(&header, &Claims { iss: &self.team_id, iat: issued_s }, &self.private)
    }
}

/// The name by which Apple knows an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleId(String);

impl BundleId {
    /// As it stands in a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BundleId {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        Ok(Self(identifier("the bundle id", text)?))
    }
}

/// What FCM knows this server by: the JSON file of a service account.
#[derive(Clone)]
pub struct ServiceAccount {
    private: EncodingKey,
    key_id: Option<String>,
    email: String,
    /// The project whose apps are written to.
    pub(crate) project: String,
    /// Where tokens are asked for.
    pub(crate) token_url: ServiceUrl,
}

impl ServiceAccount {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn from_json(json: &[u8]) -> Result<Self, BadKey> {
        #[derive(Deserialize)]
        struct Members {
            project_id: String,
            private_key_id: Option<String>,
            private_key: String,
            client_email: String,
            token_uri: String,
        }
        // The library's own words would show a part of the file.
        let not = |what: &str| BadKey::NotServiceAccount(what.to_owned());
        let file: Members = serde_json::from_slice(json).map_err(|error| {
            not(&format!(
                "line {}: it must have project_id, private_key, client_email and token_uri, all texts",
                error.line()
            ))
        })?;
        let token_url: ServiceUrl = file.token_uri.parse().map_err(|_| not("token_uri is no URL"))?;
        let private = EncodingKey::from_rsa_pem(file.private_key.as_bytes()).map_err(|_| BadKey::NotRsa)?;
        let account = Self {
            private,
            key_id: file.private_key_id,
            email: file.client_email,
            project: identifier("project_id", &file.project_id)?,
            token_url,
        };
        let probe = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &(), &account.private);
        probe.map(|_| account).map_err(|_| BadKey::NotRsa)
    }

    /// What a token is asked for with: good for an hour from this time, in seconds since 1970.
    pub(crate) fn assertion(&self, now_s: u64) -> String {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            scope: &'a str,
            aud: String,
            iat: u64,
            exp: u64,
        }
        let header = Header { kid: self.key_id.clone(), ..Header::new(Algorithm::RS256) };
        let claims = Claims {
            iss: &self.email,
            scope: "https://www.googleapis.com/auth/firebase.messaging",
            aud: self.token_url.0.to_string(),
            iat: now_s,
            exp: now_s + 3600,
        };
        sign(&header, &claims, &self.private)
    }
}

/// What a gateway knows this server's requests by: a secret that both have.
#[derive(Clone)]
pub struct WebhookKey(hmac::Key);

impl WebhookKey {
    /// Reads a key as Standard Webhooks writes it: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// When it is written otherwise, too short or too long.
    pub fn from_text(text: &str) -> Result<Self, BadKey> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(BadKey::NotWebhookKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| BadKey::NotWebhookKey)?;
        if !WEBHOOK_KEY_BYTES.contains(&bytes.len()) {
            return Err(BadKey::NotWebhookKey);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A request to post this JSON, signed as Standard Webhooks says, at a time in seconds since 1970. `id` is the same each time that it is
    /// sent.
    pub(crate) fn post(&self, url: Uri, id: &str, now_s: u64, body: Vec<u8>) -> Request<Bytes> {
        let timestamp = now_s.to_string();
        let signature = hmac::sign(&self.0, &signed(id, &timestamp, &body));
        Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(ID, id)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, format!("{VERSION}{}", STANDARD.encode(signature)))
            .body(body.into())
            .expect("a URL that was read, and headers that can stand there")
    }

    /// Whether a request is signed with this key, and lately. The time is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// It is not.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<(), BadSignature> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let parts = (header(ID), header(TIMESTAMP), header(SIGNATURE).and_then(|text| text.strip_prefix(VERSION)));
        let (Some(id), Some(timestamp), Some(signature)) = parts else { return Err(BadSignature::Key) };
        let signature = STANDARD.decode(signature).map_err(|_| BadSignature::Key)?;
        hmac::verify(&self.0, &signed(id, timestamp, body), &signature).map_err(|_| BadSignature::Key)?;
        let age_s = timestamp.parse().map_or(u64::MAX, |sent_s: u64| now_s.abs_diff(sent_s));
        if age_s > SIGNATURE_AGE_MAX_S { Err(BadSignature::Time) } else { Ok(()) }
    }
}

/// What a signature is of.
fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

/// Why a request is not taken for one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub enum BadSignature {
    /// It is not signed, or with another key.
    Key,
    /// It was signed at another time.
    Time,
}

impl BadSignature {
    /// What it says.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Key => "the request is not signed with the key of this service",
            Self::Time => "the request was signed minutes ago, or the clocks differ",
        }
    }
}

impl TagKey {
    /// Makes the key of any secret that all nodes have, such as the bytes of a file with one of the keys above.
    #[must_use]
    pub fn derived_from(secret: &[u8]) -> Self {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ringpost push tag").extract(secret);
        let mut bytes = [0; 32];
        let filled = key.expand(&[b"v1"], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut bytes));
        filled.expect("HKDF gives as many bytes as the hash has");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}

fn p256(pem: &[u8]) -> Result<(EncodingKey, EcdsaKeyPair), BadKey> {
    let parsed = pem::parse(pem).map_err(|_| BadKey::NotP256)?;
    if parsed.tag() != "PRIVATE KEY" {
        return Err(BadKey::NotP256);
    }
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, parsed.contents());
    Ok((EncodingKey::from_ec_der(parsed.contents()), pair.map_err(|_| BadKey::NotP256)?))
}

fn identifier(field: &'static str, value: &str) -> Result<String, BadKey> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if value.is_empty() || value.len() > 128 || !value.bytes().all(good) {
        return Err(BadKey::Identifier { field, value: value.to_owned() });
    }
    Ok(value.to_owned())
}

fn sign(header: &Header, claims: &impl Serialize, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("the key was tried when it was read")
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VapidKey")
    }
}

impl fmt::Debug for ApnsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApnsKey({})", self.key_id)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceAccount({})", self.email)
    }
}
