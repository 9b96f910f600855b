//! Auth: who somebody is, from a signed token. PURE: keys and time are arguments; files are `keyfile`'s.
//!
//! A token is a JWT whose `sub` is the user id in decimal. It holds when its algorithm is the one of a key that the
//! server has (the token never chooses how it is checked, `none` is not an algorithm), its signature is that key's, and
//! the given time lies between `nbf` and `exp`. A token that names an audience is for somebody else.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto_spec::{ErrorCode, TimestampMs, UserId, limits::TOKEN_BYTES_MAX};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::HS256_SECRET_BYTES_MIN;

const PRIVATE_KEY: &str = "PRIVATE KEY";
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// What a good token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who the bearer is.
    pub user: UserId,
    /// From when on the token is no longer good; clocks that differ are not counted in.
    pub expires: TimestampMs,
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
    /// Not three base64url parts whose first is a JSON header with an algorithm known to JWT.
    #[error("the token is not a signed JWT")]
    Form,
    /// No key of this server goes with the algorithm.
    #[error("no key here is for the token's algorithm")]
    Algorithm,
    /// Signed by somebody else, or changed since.
    #[error("the token's signature is not of a key of this server")]
    Signature,
    /// The header demands an extension, and there is none.
    #[error("the token's header demands an extension (`crit`)")]
    Critical,
    /// For a service that is not this one.
    #[error("the token names an audience (`aud`), this server has no name")]
    Audience,
    /// `sub`, `exp` or `nbf` is missing or not what it must be.
    #[error("the token's claims are wrong: `sub` must be a user id as a decimal string, `exp` a time in seconds")]
    Claims,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
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
            | Self::Signature
            | Self::Critical
            | Self::Audience
            | Self::Claims => ErrorCode::TokenInvalid,
            Self::Expired | Self::NotYet => ErrorCode::TokenExpired,
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
    /// The random number generator or the signature failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// A key and the only way in which it is used.
#[derive(Clone, Debug)]
struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        // Time is an argument here, and the library would read the clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        Self { key, validation }
    }
}

/// The keys that tokens are checked with.
#[derive(Clone, Debug)]
pub struct Keys {
    eddsa: Verifier,
    hs256: Option<Verifier>,
    leeway_ms: u64,
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: String,
    // NumericDate (RFC 7519, 2): seconds, with a fraction if the issuer likes.
    exp: f64,
    nbf: Option<f64>,
}

impl Keys {
    /// Checks EdDSA tokens with the Ed25519 key in `pem`: a private key, whose public half is taken, or a public one.
    ///
    /// # Errors
    /// `pem` is neither.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
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
        Ok(Self { eddsa: Verifier::new(key, Algorithm::EdDSA), hs256: None, leeway_ms: 0 })
    }

    /// Checks HS256 tokens too, with this secret.
    ///
    /// # Errors
    /// The secret is shorter than [`HS256_SECRET_BYTES_MIN`].
    pub fn with_hs256_secret(mut self, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < HS256_SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort { size: secret.len() });
        }
        self.hs256 = Some(Verifier::new(DecodingKey::from_secret(secret), Algorithm::HS256));
        Ok(self)
    }

    /// Lets clocks differ by so much.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway_ms = millis(leeway);
        self
    }

    /// Whose token this is, if it holds at `now`.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, token: &str, now: TimestampMs) -> Result<Claims, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { size: token.len() });
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Form)?;
        let verifier = self.verifier(header.alg).ok_or(TokenError::Algorithm)?;
        let claims = jsonwebtoken::decode::<TokenClaims>(token, &verifier.key, &verifier.validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let not_before = claims.nbf.map_or(0, ms_of_seconds);
        if not_before > now.0.saturating_add(self.leeway_ms) {
            return Err(TokenError::NotYet);
        }
        let expires = ms_of_seconds(claims.exp);
        if expires.saturating_add(self.leeway_ms) <= now.0 {
            return Err(TokenError::Expired);
        }
        let user = parse_user(&claims.sub).ok_or(TokenError::Claims)?;
        Ok(Claims { user, expires: TimestampMs(expires) })
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        match algorithm {
            Algorithm::EdDSA => Some(&self.eddsa),
            Algorithm::HS256 => self.hs256.as_ref(),
            _ => None,
        }
    }
}

fn refusal(kind: &jsonwebtoken::errors::ErrorKind) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAudience => TokenError::Audience,
        // The header was read before, so what is not JSON now are the claims.
        ErrorKind::Json(_) => TokenError::Claims,
        _ => TokenError::Form,
    }
}

/// A user id in its one spelling: decimal, not zero, no sign, no leading zeros. Two spellings would be two tokens that
/// look like two users.
#[must_use]
pub fn parse_user(text: &str) -> Option<UserId> {
    let user = text.parse().ok().filter(|&user: &u64| user > 0)?;
    (user.to_string() == text).then_some(UserId(user))
}

/// What is before 1970 is 1970, and what is too far away is the end of time: the cast saturates.
fn ms_of_seconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn key_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair, KeyError> {
    Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::NotEd25519)
}

/// The key that tokens are signed with. A server that only checks tokens has none in memory.
pub struct SigningKey(EncodingKey);

#[derive(Serialize)]
struct MintedClaims {
    sub: String,
    iat: u64,
    exp: u64,
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
    let claims =
        MintedClaims { sub: user.to_string(), iat: now.0 / 1000, exp: now.0.saturating_add(millis(ttl)) / 1000 };
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_800_000_000_000);
    const NOW_S: u64 = NOW.0 / 1000;
    const HOUR: Duration = Duration::from_secs(3600);
    const SECRET: &[u8] = b"thirty-two bytes of a secret, ok";

    /// One key for all tests: making one is slow in a debug build.
    const PRIVATE_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
    const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

    fn keys() -> Keys {
        Keys::from_pem(PRIVATE_PEM.as_bytes()).unwrap()
    }

    fn signing_key() -> SigningKey {
        SigningKey::from_pem(PRIVATE_PEM.as_bytes()).unwrap()
    }

    fn token_of_7() -> String {
        mint(&signing_key(), UserId(7), HOUR, NOW).unwrap()
    }

    fn signed(claims: &serde_json::Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &signing_key().0).unwrap()
    }

    fn hs256(claims: &serde_json::Value, secret: &[u8]) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn good_claims() -> serde_json::Value {
        json!({ "sub": "7", "exp": NOW_S + 3600 })
    }

    fn later(seconds: u64) -> TimestampMs {
        TimestampMs(NOW.0 + seconds * 1000)
    }

    #[test]
    fn a_minted_token_names_its_user_until_it_expires() {
        let claims = keys().verify(&token_of_7(), NOW).unwrap();
        assert_eq!(claims, Claims { user: UserId(7), expires: later(3600) });
        assert_eq!(keys().verify(&token_of_7(), later(3599)), Ok(claims));
        assert_eq!(keys().verify(&token_of_7(), later(3600)), Err(TokenError::Expired));
    }

    #[test]
    fn a_public_key_checks_tokens_and_cannot_mint() {
        let keys = Keys::from_pem(PUBLIC_PEM.as_bytes()).unwrap();
        assert_eq!(keys.verify(&token_of_7(), NOW).unwrap().user, UserId(7));
        assert_eq!(SigningKey::from_pem(PUBLIC_PEM.as_bytes()).err(), Some(KeyError::CannotMint));
    }

    #[test]
    fn a_generated_key_signs_what_it_checks_and_is_never_the_same() {
        let pem = generate_pem().unwrap();
        assert_ne!(pem, generate_pem().unwrap());
        let token = mint(&SigningKey::from_pem(pem.as_bytes()).unwrap(), UserId(u64::MAX), HOUR, NOW).unwrap();
        assert_eq!(Keys::from_pem(pem.as_bytes()).unwrap().verify(&token, NOW).unwrap().user, UserId(u64::MAX));
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn leeway_counts_at_both_ends() {
        let keys = keys().with_leeway(Duration::from_secs(30));
        let token = signed(&json!({ "sub": "7", "nbf": NOW_S + 100, "exp": NOW_S + 200 }));
        assert_eq!(keys.verify(&token, later(69)), Err(TokenError::NotYet));
        assert!(keys.verify(&token, later(70)).is_ok());
        assert!(keys.verify(&token, later(229)).is_ok());
        assert_eq!(keys.verify(&token, later(230)), Err(TokenError::Expired));
    }

    #[test]
    fn times_may_have_fractions_and_absurd_times_do_no_harm() {
        let fraction = signed(&json!({ "sub": "7", "exp": NOW_S as f64 + 0.5 }));
        assert_eq!(keys().verify(&fraction, NOW).unwrap().expires, TimestampMs(NOW.0 + 500));
        let forever = signed(&json!({ "sub": "7", "exp": u64::MAX }));
        assert_eq!(keys().verify(&forever, NOW).unwrap().expires, TimestampMs(u64::MAX));
        let before_1970 = signed(&json!({ "sub": "7", "exp": -5 }));
        assert_eq!(keys().verify(&before_1970, NOW), Err(TokenError::Expired));
    }

    #[test]
    fn hs256_needs_its_secret_to_be_configured() {
        let token = hs256(&good_claims(), SECRET);
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::Algorithm));
        let keys = keys().with_hs256_secret(SECRET).unwrap();
        assert_eq!(keys.verify(&token, NOW).unwrap().user, UserId(7));
        assert_eq!(keys.verify(&token_of_7(), NOW).unwrap().user, UserId(7));
        let other = hs256(&good_claims(), b"another secret of thirty-two byt");
        assert_eq!(keys.verify(&other, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(keys().with_hs256_secret(&SECRET[1..]).err(), Some(KeyError::SecretTooShort { size: 31 }));
    }

    /// The classic confusion: the public key is no secret, so an HMAC made with it must prove nothing.
    #[test]
    fn an_hmac_made_with_the_public_key_is_refused() {
        let raw = keys().eddsa.key.try_get_as_bytes().unwrap().to_vec();
        for secret in [raw.as_slice(), PUBLIC_PEM.as_bytes()] {
            let token = hs256(&good_claims(), secret);
            assert_eq!(keys().verify(&token, NOW), Err(TokenError::Algorithm));
            let both = keys().with_hs256_secret(SECRET).unwrap();
            assert_eq!(both.verify(&token, NOW), Err(TokenError::Signature));
        }
    }

    #[test]
    fn the_algorithm_none_is_refused() {
        // {"alg":"none"} and {"sub":"7","exp":9999999999}
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb05lIn0"] {
            for signature in ["", "AAAA"] {
                let token = format!("{header}.eyJzdWIiOiI3IiwiZXhwIjo5OTk5OTk5OTk5fQ.{signature}");
                assert_eq!(keys().verify(&token, NOW), Err(TokenError::Form));
            }
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let token = token_of_7();
        for i in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let error = keys().verify(&changed, NOW).unwrap_err();
            assert_eq!(error.code(), ErrorCode::TokenInvalid, "{i}: {changed}");
        }
    }

    #[test]
    fn any_part_of_a_token_is_refused() {
        let token = token_of_7();
        for end in 1..token.len() {
            assert_eq!(keys().verify(&token[..end], NOW).unwrap_err().code(), ErrorCode::TokenInvalid, "{end}");
        }
        assert_eq!(keys().verify("", NOW).unwrap_err().code(), ErrorCode::TokenMissing);
    }

    #[test]
    fn garbage_and_huge_tokens_are_refused() {
        for garbage in [".", "..", "...", "a.b.c", "\0\0.\0.\0", "eyJhbGciOiJFZERTQSJ9..", "Bearer x"] {
            assert_eq!(keys().verify(garbage, NOW).unwrap_err().code(), ErrorCode::TokenInvalid, "{garbage}");
        }
        let huge = format!("{}.{}", token_of_7(), "a".repeat(60_000));
        assert_eq!(keys().verify(&huge, NOW), Err(TokenError::TooLong { size: huge.len() }));
        let long = signed(&json!({ "sub": "7", "exp": NOW_S + 1, "more": "x".repeat(TOKEN_BYTES_MAX / 2) }));
        assert!(keys().verify(&long, NOW).is_ok());
    }

    #[test]
    fn only_the_one_spelling_of_a_user_id_is_a_user() {
        for sub in ["0", "-1", "+7", "07", " 7", "7 ", "", "seven", "18446744073709551616", "٧"] {
            let token = signed(&json!({ "sub": sub, "exp": NOW_S + 1 }));
            assert_eq!(keys().verify(&token, NOW), Err(TokenError::Claims), "{sub}");
        }
        assert_eq!(parse_user("18446744073709551615"), Some(UserId(u64::MAX)));
    }

    #[test]
    fn claims_that_are_missing_or_of_another_type_are_refused() {
        for claims in [
            json!({ "sub": "7" }),
            json!({ "exp": NOW_S + 1 }),
            json!({ "sub": 7, "exp": NOW_S + 1 }),
            json!({ "sub": "7", "exp": "9999999999" }),
            json!({ "sub": "7", "exp": null }),
            json!({ "sub": "7", "exp": NOW_S + 1, "nbf": "soon" }),
            json!([]),
            json!("7"),
        ] {
            assert_eq!(keys().verify(&signed(&claims), NOW), Err(TokenError::Claims), "{claims}");
        }
    }

    #[test]
    fn a_token_for_an_audience_or_with_critical_extensions_is_refused() {
        let aud = signed(&json!({ "sub": "7", "exp": NOW_S + 1, "aud": "another service" }));
        assert_eq!(keys().verify(&aud, NOW), Err(TokenError::Audience));
        let mut header = Header::new(Algorithm::EdDSA);
        header.crit = Some(vec!["b64".to_owned()]);
        let crit = jsonwebtoken::encode(&header, &good_claims(), &signing_key().0).unwrap();
        assert_eq!(keys().verify(&crit, NOW), Err(TokenError::Critical));
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        assert_eq!(Keys::from_pem(b"").err(), Some(KeyError::NotPem));
        assert_eq!(Keys::from_pem(b"not a key").err(), Some(KeyError::NotPem));
        for pem in [
            PRIVATE_PEM.replace("PRIVATE KEY", "PUBLIC KEY"),
            PUBLIC_PEM.replace("PUBLIC KEY", "PRIVATE KEY"),
            PUBLIC_PEM.replace("PUBLIC KEY", "CERTIFICATE"),
        ] {
            assert_eq!(Keys::from_pem(pem.as_bytes()).err(), Some(KeyError::NotEd25519), "{pem}");
        }
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let shown = format!("{:?}", keys().with_hs256_secret(SECRET).unwrap());
        let secret_bytes = format!("{SECRET:?}");
        assert!(shown.contains("redacted") && !shown.contains(secret_bytes.trim_matches(['[', ']'])), "{shown}");
    }

    proptest! {
        #[test]
        fn noise_is_refused_without_a_panic(noise in ".{0,300}", now: u64) {
            prop_assert!(keys().verify(&noise, TimestampMs(now)).is_err());
        }

        #[test]
        fn noise_in_the_parts_is_refused_without_a_panic(
            header in "[A-Za-z0-9_-]{0,80}", claims in "[A-Za-z0-9_-]{0,80}", signature in "[A-Za-z0-9_-]{0,90}",
        ) {
            let token = format!("{header}.{claims}.{signature}");
            prop_assert!(keys().verify(&token, NOW).is_err());
        }

        #[test]
        fn every_user_and_time_comes_back(user in 1u64.., ttl_s in 1u64..1_000_000_000, now in 0u64..1 << 50) {
            let token = mint(&signing_key(), UserId(user), Duration::from_secs(ttl_s), TimestampMs(now)).unwrap();
            let claims = keys().verify(&token, TimestampMs(now)).unwrap();
            prop_assert_eq!(claims.user, UserId(user));
            prop_assert_eq!(claims.expires.0, now / 1000 * 1000 + ttl_s * 1000);
        }

        #[test]
        fn signed_noise_is_judged_without_a_panic(exp: f64, nbf: f64, now: u64, leeway_s: u64) {
            let keys = keys().with_leeway(Duration::from_secs(leeway_s));
            let _ = keys.verify(&signed(&json!({ "sub": "7", "exp": exp, "nbf": nbf })), TimestampMs(now));
        }
    }
}
