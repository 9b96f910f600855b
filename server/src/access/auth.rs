//! Auth: who somebody is, from a signed token. PURE: keys and time are arguments; files are `keyfile`'s.
//!
//! A token is a JWT whose `sub` is the user id in decimal. It holds when its signature is of a key that the server has for its
//! algorithm and key id (the token never chooses how a key is used, `none` is not an algorithm), it is from the issuer and for
//! the audience that the server expects, and the given time lies between `nbf` and `exp`.
//!
//! Secrets are compared in constant time: an HMAC by AWS-LC (`hmac::verify`), a public key's signature has no secret here.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use proto_spec::{DeviceId, ErrorCode, TimestampMs, UserId, limits::TOKEN_BYTES_MAX};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::known::Known;
use crate::limits::{HS256_SECRET_BYTES_MIN, KEYS_MAX};

const PRIVATE_KEY: &str = "PRIVATE KEY";
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// What a token says whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who the bearer is.
    pub user: UserId,
    /// The only device that the token is good for; none: all of the user's.
    pub device: Option<DeviceId>,
    /// From when on the token is good; clocks that differ are not counted in.
    pub not_before: TimestampMs,
    /// From when on the token is no longer good; clocks that differ are not counted in.
    pub expires: TimestampMs,
    /// When it was issued; 0 if it does not say so. A revocation is of what was issued before it.
    pub issued: TimestampMs,
    /// Which key signed it.
    pub key: Arc<str>,
}

impl Claims {
    /// Whether the token is good for this device of its user.
    ///
    /// # Errors
    /// It is for another one.
    pub fn check_device(&self, device: DeviceId) -> Result<(), TokenError> {
        if self.device.is_some_and(|own| own != device) { Err(TokenError::Device) } else { Ok(()) }
    }
}

/// Why a token is refused. Never contains any of it: this goes to logs and to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// Longer than any token may be.
    #[error("the token has {size} bytes, at most {TOKEN_BYTES_MAX} are taken")]
    TooLong {
        /// Bytes of the token.
        size: usize,
    },
    /// Not three base64url parts whose first is a JSON header with an algorithm.
    #[error("the token is not a signed JWT")]
    Form,
    /// No key of this server goes with the algorithm.
    #[error("no key here is for the token's algorithm")]
    Algorithm,
    /// No key of this server that goes with the algorithm has the key id.
    #[error("no key here has the token's key id (`kid`)")]
    KeyId,
    /// Signed by somebody else, or changed since.
    #[error("the token's signature is not of a key of this server")]
    Signature,
    /// The header demands an extension, and there is none.
    #[error("the token's header demands an extension (`crit`)")]
    Critical,
    /// For a service that is not this one.
    #[error("the token is not for this server (`aud`)")]
    Audience,
    /// From somebody whose tokens are not taken here.
    #[error("the token is not from the issuer that this server expects (`iss`)")]
    Issuer,
    /// `sub`, `exp` or another claim is missing or not what it must be.
    #[error(
        "the token's claims are wrong: `sub` must be a user id as a decimal string, `device` likewise if it is there, \
         `exp` a time in seconds"
    )]
    Claims,
    /// For another device.
    #[error("the token is for another device of the user")]
    Device,
    /// For another user than the connection's.
    #[error("the token is another user's")]
    User,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// The operator has revoked it.
    #[error("the token has been revoked: a newer one is needed")]
    Revoked,
}

impl TokenError {
    /// The code that the peer is told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::TokenMissing,
            Self::TooLong { .. }
            | Self::Form
            | Self::Algorithm
            | Self::KeyId
            | Self::Signature
            | Self::Critical
            | Self::Audience
            | Self::Issuer
            | Self::Claims
            | Self::Device
            | Self::User => ErrorCode::TokenInvalid,
            Self::Expired | Self::NotYet => ErrorCode::TokenExpired,
            Self::Revoked => ErrorCode::Revoked,
        }
    }
}

/// Why a key can not be used. Never contains any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a PEM file.
    #[error("it is not PEM")]
    NotPem,
    /// PEM of something else.
    #[error("it is PEM, but neither an Ed25519 PRIVATE KEY (PKCS#8) nor an Ed25519 PUBLIC KEY")]
    NotEd25519,
    /// A public key where something is to be signed.
    #[error("it is a public key: this server can check tokens with it, but not mint them")]
    CannotMint,
    /// A secret that can be guessed.
    #[error("the secret has {size} bytes, at least {HS256_SECRET_BYTES_MIN} are needed")]
    SecretTooShort {
        /// Bytes of the secret.
        size: usize,
    },
    /// More keys than are tried for a token.
    #[error("there are more than {KEYS_MAX} keys, all files together")]
    TooMany,
    /// The random number generator or the signature failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// A key and the only way in which it is used.
#[derive(Clone, Debug)]
struct Verifier {
    /// The key id; a key without one is tried for every token of its algorithm.
    id: Option<Arc<str>>,
    /// For people: the key id, or where the key is from.
    name: Arc<str>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys that tokens are checked with, and what else is expected of a token.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    verifiers: Vec<Verifier>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway_ms: u64,
    /// What these keys have said, under this audience and issuer.
    known: Arc<Known>,
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: String,
    // NumericDate (RFC 7519, 2): seconds, with a fraction if the issuer likes.
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    device: Option<String>,
}

/// RFC 7519, 4.1.3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

impl Keys {
    /// Checks EdDSA tokens with the Ed25519 key in `pem`: a private key, whose public half is taken, or a public one.
    ///
    /// # Errors
    /// `pem` is neither.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::default().with_pem(pem)
    }

    /// As [`Keys::from_pem`], beside the keys that are there.
    pub(crate) fn with_pem(self, pem: &[u8]) -> Result<Self, KeyError> {
        let pem = pem::parse(pem).map_err(|_| KeyError::NotPem)?;
        let key = match pem.tag() {
            PRIVATE_KEY => DecodingKey::from_ed_der(key_pair(pem.contents())?.public_key().as_ref()),
            PUBLIC_KEY => DecodingKey::from_ed_pem(pem::encode(&pem).as_bytes()).map_err(|_| KeyError::NotEd25519)?,
            _ => return Err(KeyError::NotEd25519),
        };
        match key.try_get_as_bytes() {
            Ok(bytes) if bytes.len() == ED25519_PUBLIC_KEY_LEN => {}
            _ => return Err(KeyError::NotEd25519),
        }
        self.with(None, "key_file", Algorithm::EdDSA, key)
    }

    /// Checks HS256 tokens too, with this secret.
    ///
    /// # Errors
    /// The secret is shorter than [`HS256_SECRET_BYTES_MIN`], or there are too many keys.
    pub fn with_hs256_secret(self, secret: &[u8]) -> Result<Self, KeyError> {
        self.with_named_hs256_secret(None, "hs256_secret_file", secret)
    }

    /// As [`Keys::with_hs256_secret`], for tokens with this key id or none.
    pub(crate) fn with_named_hs256_secret(self, id: Option<&str>, name: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < HS256_SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort { size: secret.len() });
        }
        self.with(id, name, Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// Checks EdDSA tokens with this key id, or none, with an Ed25519 public key too.
    pub(crate) fn with_named_ed25519_key(
        self,
        id: Option<&str>,
        name: &str,
        public_key: &[u8; ED25519_PUBLIC_KEY_LEN],
    ) -> Result<Self, KeyError> {
        self.with(id, name, Algorithm::EdDSA, DecodingKey::from_ed_der(public_key))
    }

    fn with(mut self, id: Option<&str>, name: &str, algorithm: Algorithm, key: DecodingKey) -> Result<Self, KeyError> {
        if self.verifiers.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let verifier = Verifier { id: id.map(Arc::from), name: id.unwrap_or(name).into(), algorithm, key };
        self.verifiers.push(verifier);
        self.known = Arc::default();
        Ok(self)
    }

    /// Lets clocks differ by so much.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway_ms = millis(leeway);
        self
    }

    /// Takes tokens for this audience only; without it, a token that names any is refused.
    #[must_use]
    pub fn with_audience(mut self, audience: Option<&str>) -> Self {
        self.audience = audience.map(str::to_owned);
        self.known = Arc::default();
        self
    }

    /// Takes tokens from this issuer only; without it, from all.
    #[must_use]
    pub fn with_issuer(mut self, issuer: Option<&str>) -> Self {
        self.issuer = issuer.map(str::to_owned);
        self.known = Arc::default();
        self
    }

    /// What this token says, if it holds at `now`. For which device it is good and whether it has been revoked is left to the
    /// caller.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, token: &str, now: TimestampMs) -> Result<Claims, TokenError> {
        let claims = self.read(token)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    /// As [`Keys::verify`], for a connection that is this device of this user.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify_for(
        &self,
        token: &str,
        user: UserId,
        device: DeviceId,
        now: TimestampMs,
    ) -> Result<Claims, TokenError> {
        let claims = self.verify(token, now)?;
        if claims.user != user {
            return Err(TokenError::User);
        }
        claims.check_device(device)?;
        Ok(claims)
    }

    /// What this token says, whatever the time is: its signature, issuer and audience are good.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(&self, token: &str) -> Result<Claims, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { size: token.len() });
        }
        self.known.read(token, || self.judge(token))
    }

    /// The same of a token that was not there before.
    fn judge(&self, token: &str) -> Result<Claims, TokenError> {
        let parts = Parts::of(token).ok_or(TokenError::Form)?;
        let header: TokenHeader = json(parts.header).ok_or(TokenError::Form)?;
        let name = self.signer(&parts, &header)?;
        // The header was JSON, so what is not are the claims.
        let claims: TokenClaims = json(parts.claims).ok_or(TokenError::Claims)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let is_for_us = match (&claims.aud, &self.audience) {
            (None, None) => true,
            (Some(named), Some(own)) => named.contains(own),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_for_us {
            return Err(TokenError::Audience);
        }
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        Ok(Claims {
            user: parse_user(&claims.sub).ok_or(TokenError::Claims)?,
            device: match claims.device {
                Some(device) => Some(parse_device(&device).ok_or(TokenError::Claims)?),
                None => None,
            },
            not_before: TimestampMs(claims.nbf.map_or(0, ms_of_seconds)),
            expires: TimestampMs(ms_of_seconds(claims.exp)),
            issued: TimestampMs(claims.iat.map_or(0, ms_of_seconds)),
            key: name,
        })
    }

    /// Whether a token that says this holds at `now`.
    ///
    /// # Errors
    /// It is too early or too late for it.
    pub fn check(&self, claims: &Claims, now: TimestampMs) -> Result<(), TokenError> {
        // One that says that it was issued later would outlive every revocation.
        if claims.not_before.max(claims.issued).0 > now.0.saturating_add(self.leeway_ms) {
            return Err(TokenError::NotYet);
        }
        if claims.expires.0.saturating_add(self.leeway_ms) <= now.0 {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// The name of the first key whose signature this is.
    fn signer(&self, parts: &Parts<'_>, header: &TokenHeader) -> Result<Arc<str>, TokenError> {
        let algorithm = header.algorithm().ok_or(TokenError::Algorithm)?;
        let mut refusal = TokenError::Algorithm;
        for verifier in self.verifiers.iter().filter(|verifier| verifier.algorithm == algorithm) {
            let is_named = match (&header.kid, &verifier.id) {
                (Some(wanted), Some(id)) => **wanted == **id,
                (None, _) | (_, None) => true,
            };
            if !is_named {
                if refusal == TokenError::Algorithm {
                    refusal = TokenError::KeyId;
                }
                continue;
            }
            match jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &verifier.key, algorithm) {
                Ok(true) => return Ok(Arc::clone(&verifier.name)),
                Ok(false) => refusal = TokenError::Signature,
                // The signature is not base64url.
                Err(_) => return Err(TokenError::Form),
            }
        }
        Err(refusal)
    }
}

/// What of a token's header is looked at. Of the library only the signature is used: time is an argument here, and the library does
/// not know all names of an algorithm.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

impl TokenHeader {
    fn algorithm(&self) -> Option<Algorithm> {
        match self.alg.as_str() {
            // The same signature: RFC 9864 gives it the name of its curve, RFC 8037 that of the family.
            "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
            "HS256" => Some(Algorithm::HS256),
            _ => None,
        }
    }
}

/// The parts of a token, between its dots.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// What the signature is of.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self { header, claims, signature, signed })
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}

/// A user id in its one spelling: decimal, not zero, no sign, no leading zeros. Two spellings would be two tokens that
/// look like two users.
#[must_use]
pub fn parse_user(text: &str) -> Option<UserId> {
    let user = text.parse().ok().filter(|&user: &u64| user > 0)?;
    (user.to_string() == text).then_some(UserId(user))
}

/// A device id in its one spelling, as [`parse_user`].
#[must_use]
pub fn parse_device(text: &str) -> Option<DeviceId> {
    parse_user(text).map(|UserId(device)| DeviceId(device))
}

/// What is before 1970 is 1970, and what is too far away is the end of time: the cast saturates.
fn ms_of_seconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn key_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair, KeyError> {
    Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::NotEd25519)
}

/// The key that tokens are signed with. A server that only checks tokens has none in memory.
pub struct SigningKey(EncodingKey);

/// What a minted token says.
#[derive(Clone, Copy, Debug)]
pub struct Mint<'a> {
    /// Who the bearer is.
    pub user: UserId,
    /// The only device that it is good for, if that is so.
    pub device: Option<DeviceId>,
    /// How long it is good.
    pub ttl: Duration,
    /// Whom it is for, if the server expects that.
    pub audience: Option<&'a str>,
    /// Whom it is from, if the server expects that.
    pub issuer: Option<&'a str>,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: String,
    // To the millisecond: a token that is minted right after a revocation was issued after it.
    iat: f64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

impl SigningKey {
    /// The Ed25519 private key in `pem`.
    ///
    /// # Errors
    /// `pem` is something else.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let pem = pem::parse(pem).map_err(|_| KeyError::NotPem)?;
        match pem.tag() {
            PRIVATE_KEY => {
                key_pair(pem.contents())?;
                Ok(Self(EncodingKey::from_ed_der(pem.contents())))
            }
            PUBLIC_KEY => Err(KeyError::CannotMint),
            _ => Err(KeyError::NotEd25519),
        }
    }
}

/// A token that says until `now + ttl` that its bearer is `user`.
///
/// # Errors
/// The signature failed.
pub fn mint(key: &SigningKey, user: UserId, ttl: Duration, now: TimestampMs) -> Result<String, KeyError> {
    mint_with(key, &Mint { user, device: None, ttl, audience: None, issuer: None }, now)
}

/// A token that says all this, issued at `now`.
///
/// # Errors
/// The signature failed.
pub fn mint_with(key: &SigningKey, what: &Mint<'_>, now: TimestampMs) -> Result<String, KeyError> {
    let claims = MintedClaims {
        sub: what.user.to_string(),
        iat: now.0 as f64 / 1000.0,
        exp: now.0.saturating_add(millis(what.ttl)) / 1000,
        device: what.device.map(|device| device.to_string()),
        aud: what.audience,
        iss: what.issuer,
    };
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key.0).map_err(|_| KeyError::Library)
}

/// A new Ed25519 private key as PEM, in the form (PKCS#8 version 1) that `openssl pkey` reads too.
///
/// # Errors
/// The system gave no random numbers.
pub fn generate_pem() -> Result<String, KeyError> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError::Library)?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_config(&pem::Pem::new(PRIVATE_KEY, pkcs8.as_ref()), config))
}

#[cfg(test)]
mod tests;
