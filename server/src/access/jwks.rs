//! Jwks: keys from a JSON Web Key Set (RFC 7517): Ed25519 (`OKP`, RFC 8037) and HS256 secrets (`oct`). PURE; the file is
//! `keyfile`'s.
//!
//! A set is written by others, for others too: a key that is not for signing tokens in one of the two ways is passed over
//! and named. A key that is, and is damaged, makes the set unusable: whoever serves without it would refuse good tokens.

use aws_lc_rs::signature::ED25519_PUBLIC_KEY_LEN;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::Deserialize;
use thiserror::Error;

use crate::access::auth::{KeyError, Keys};

/// Why a key set can not be used. Never contains a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JwksError {
    /// Not JSON, or JSON of something else.
    #[error("it is not a JSON Web Key Set: {reason}, line {line}")]
    NotJwks {
        /// What the parser was missing; without the text that it read.
        reason: &'static str,
        /// Where, from 1; 0 for the whole.
        line: usize,
    },
    /// A key that is damaged.
    #[error("its key {key} has no usable `{member}`")]
    Member {
        /// Which key.
        key: String,
        /// Which of its members.
        member: &'static str,
    },
    /// A key that is whole and can not be used.
    #[error("its key {key}: {error}")]
    Key {
        /// Which key.
        key: String,
        /// Why.
        error: KeyError,
    },
    /// Nothing of use.
    #[error(
        "none of its keys is an Ed25519 key or an HS256 secret, and tokens with others (RS256, ES256) are not taken"
    )]
    Empty,
}

/// A key set that has been read.
#[derive(Debug)]
pub struct Jwks {
    keys: Vec<(String, Jwk)>,
    /// The keys that are passed over, with the reason: a line each.
    pub passed_over: Vec<String>,
    /// Whether the set must be kept from others.
    pub holds_secret: bool,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    d: Option<String>,
    k: Option<String>,
}

// Whatever shows a set must not show its keys.
impl std::fmt::Debug for Jwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwk").field("kty", &self.kty).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Jwk {
    /// Why this key is not for checking tokens here, if so.
    fn passed_over(&self) -> Option<&'static str> {
        let alg_is = |names: &[&str]| self.alg.as_deref().is_none_or(|alg| names.contains(&alg));
        let is_of_a_kind = match self.kty.as_str() {
            "OKP" => self.crv.as_deref() == Some("Ed25519") && alg_is(&["EdDSA", "Ed25519"]),
            "oct" => alg_is(&["HS256"]),
            _ => false,
        };
        if !is_of_a_kind {
            return Some("it is neither an Ed25519 key nor an HS256 secret");
        }
        let may_verify = |operations: &Vec<String>| operations.iter().any(|one| one == "verify" || one == "sign");
        if self.used_for.as_deref().is_some_and(|used_for| used_for != "sig")
            || self.key_ops.as_ref().is_some_and(|operations| !may_verify(operations))
        {
            return Some("it is not for signatures");
        }
        None
    }
}

impl Jwks {
    /// Reads a key set.
    ///
    /// # Errors
    /// It is none, or holds nothing of use.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        let set: Set = serde_json::from_slice(bytes).map_err(|error| JwksError::NotJwks {
            reason: if error.is_data() { "it must be {\"keys\": [{\"kty\": …}, …]}" } else { "it is not JSON" },
            line: error.line(),
        })?;
        let holds_secret = set.keys.iter().any(|key| key.d.is_some() || key.k.is_some());
        let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
        for (index, key) in set.keys.into_iter().enumerate() {
            let name = key.kid.clone().unwrap_or_else(|| format!("jwks_file#{}", index + 1));
            match key.passed_over() {
                Some(why) => passed_over.push(format!("key {name:?}: {why}")),
                None => keys.push((name, key)),
            }
        }
        if keys.is_empty() { Err(JwksError::Empty) } else { Ok(Self { keys, passed_over, holds_secret }) }
    }

    /// Checks tokens with these keys too.
    ///
    /// # Errors
    /// A key is damaged, or there are too many.
    pub fn add_to(&self, keys: Keys) -> Result<Keys, JwksError> {
        self.keys.iter().try_fold(keys, |keys, (name, key)| add(keys, name, key))
    }
}

fn add(keys: Keys, name: &str, key: &Jwk) -> Result<Keys, JwksError> {
    let id = key.kid.as_deref();
    let (member, text) = if key.kty == "oct" { ("k", &key.k) } else { ("x", &key.x) };
    let damaged = || JwksError::Member { key: name.to_owned(), member };
    let bytes = BASE64URL.decode(text.as_deref().ok_or_else(damaged)?).map_err(|_| damaged())?;
    let added = if key.kty == "oct" {
        keys.with_named_hs256_secret(id, name, &bytes)
    } else {
        let public_key: [u8; ED25519_PUBLIC_KEY_LEN] = bytes.try_into().map_err(|_| damaged())?;
        keys.with_named_ed25519_key(id, name, &public_key)
    };
    added.map_err(|error| JwksError::Key { key: name.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use proto_spec::TimestampMs;
    use serde_json::{Value, json};

    use super::*;

    /// RFC 8037, appendix A.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    /// The same key as PKCS#8.
    const PKCS8: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20\
        \x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\
        \x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
    const SECRET: &[u8] = b"thirty-two bytes of a secret, ok";
    const K: &str = "dGhpcnR5LXR3byBieXRlcyBvZiBhIHNlY3JldCwgb2s";
    const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

    fn parse(keys: &Value) -> Result<Jwks, JwksError> {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn keys(keys: &Value) -> Result<Keys, JwksError> {
        parse(keys)?.add_to(Keys::default())
    }

    fn token(algorithm: Algorithm, id: Option<&str>) -> String {
        let key = match algorithm {
            Algorithm::HS256 => EncodingKey::from_secret(SECRET),
            _ => EncodingKey::from_ed_der(PKCS8),
        };
        let mut header = Header::new(algorithm);
        header.kid = id.map(str::to_owned);
        jsonwebtoken::encode(&header, &json!({ "sub": "7", "exp": 1_900_000_000 }), &key).unwrap()
    }

    #[test]
    fn the_keys_of_a_set_check_tokens_by_their_id() {
        let keys = keys(&json!([
            { "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "2026-a", "alg": "EdDSA", "use": "sig" },
            { "kty": "oct", "k": K, "kid": "old", "key_ops": ["verify"] },
        ]))
        .unwrap();
        for (algorithm, id) in [(Algorithm::EdDSA, "2026-a"), (Algorithm::HS256, "old")] {
            assert_eq!(&*keys.verify(&token(algorithm, Some(id)), NOW).unwrap().key, id);
            assert_eq!(&*keys.verify(&token(algorithm, None), NOW).unwrap().key, id);
            assert!(keys.verify(&token(algorithm, Some("else")), NOW).is_err());
        }
    }

    #[test]
    fn a_key_without_an_id_has_a_name_for_people() {
        let keys = keys(&json!([{ "kty": "OKP", "crv": "Ed25519", "x": X }])).unwrap();
        assert_eq!(&*keys.verify(&token(Algorithm::EdDSA, Some("any")), NOW).unwrap().key, "jwks_file#1");
    }

    #[test]
    fn keys_for_other_purposes_are_passed_over_by_name() {
        let good = json!({ "kty": "oct", "k": K });
        for other in [
            json!({ "kty": "RSA", "kid": "other", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "OKP", "kid": "other", "crv": "X25519", "x": X }),
            json!({ "kty": "OKP", "kid": "other", "crv": "Ed25519", "x": X, "alg": "ES256" }),
            json!({ "kty": "oct", "kid": "other", "k": K, "alg": "HS512" }),
            json!({ "kty": "oct", "kid": "other", "k": K, "use": "enc" }),
            json!({ "kty": "oct", "kid": "other", "k": K, "key_ops": ["encrypt"] }),
        ] {
            let jwks = parse(&json!([other, good])).unwrap();
            assert!(jwks.passed_over.len() == 1 && jwks.passed_over[0].contains("other"), "{other}: {jwks:?}");
            assert_eq!(parse(&json!([other])).err(), Some(JwksError::Empty), "{other}");
        }
    }

    #[test]
    fn a_damaged_key_makes_the_set_unusable_and_is_named() {
        for (key, member) in [
            (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "bad" }), "`x`"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "bad", "x": &X[1..] }), "`x`"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "bad", "x": format!("{X}=") }), "`x`"),
            (json!({ "kty": "oct", "kid": "bad", "k": "ab+/" }), "`k`"),
            (json!({ "kty": "oct", "kid": "bad", "k": "c2hvcnQ" }), "5 bytes"),
        ] {
            let error = keys(&json!([key])).unwrap_err().to_string();
            assert!(error.contains("bad") && error.contains(member), "{error}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused_and_not_repeated() {
        for text in [
            "",
            "[]",
            "{}",
            "{\"keys\": 1}",
            "{\"keys\": [{\"kid\": \"secret\"}]}",
            "{\"keys\": [{\"kty\": secret",
            "\u{feff}{}",
        ] {
            let error = Jwks::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, JwksError::NotJwks { .. }) && !error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(Jwks::parse(b"{\"keys\": []}").err(), Some(JwksError::Empty));
    }

    #[test]
    fn a_set_with_a_secret_or_a_private_key_is_to_be_kept_from_others() {
        let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": X });
        assert!(!parse(&json!([public])).unwrap().holds_secret);
        for secret in [
            json!({ "kty": "oct", "k": K }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "d": D }),
            json!({ "kty": "RSA", "n": "AQAB", "d": "AQAB" }),
        ] {
            let jwks = parse(&json!([public, secret])).unwrap();
            assert!(jwks.holds_secret, "{secret}");
            assert!(!format!("{jwks:?}").contains(K) && !format!("{jwks:?}").contains(D));
        }
    }
}
