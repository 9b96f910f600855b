//! Tokens and keys, good and bad, old and new.

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
    let key = "key_file".into();
    let (not_before, expires, issued) = (TimestampMs(0), later(3600), NOW);
    assert_eq!(claims, Claims { user: UserId(7), device: None, not_before, expires, issued, key });
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
fn a_token_of_the_future_is_not_valid_yet() {
    let keys = keys().with_leeway(Duration::from_secs(30));
    let issued = |iat: u64| keys.verify(&signed(&json!({ "sub": "7", "exp": NOW_S + 3600, "iat": iat })), NOW);
    assert_eq!(issued(NOW_S + 30).unwrap().user, UserId(7));
    assert_eq!(issued(NOW_S + 31), Err(TokenError::NotYet), "no revocation would reach it");
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
    let raw = keys().verifiers[0].key.try_get_as_bytes().unwrap().to_vec();
    for secret in [raw.as_slice(), PUBLIC_PEM.as_bytes()] {
        let token = hs256(&good_claims(), secret);
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::Algorithm));
        let both = keys().with_hs256_secret(SECRET).unwrap();
        assert_eq!(both.verify(&token, NOW), Err(TokenError::Signature));
    }
}

#[test]
fn the_algorithm_of_an_ed25519_key_has_two_names() {
    let claims = BASE64URL.encode(json!({ "sub": "7", "exp": NOW_S + 60 }).to_string());
    for (name, expected) in
        [("EdDSA", Ok(UserId(7))), ("Ed25519", Ok(UserId(7))), ("Ed448", Err(TokenError::Algorithm))]
    {
        let signed = format!("{}.{claims}", BASE64URL.encode(json!({ "alg": name }).to_string()));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &signing_key().0, Algorithm::EdDSA).unwrap();
        assert_eq!(keys().verify(&format!("{signed}.{signature}"), NOW).map(|claims| claims.user), expected, "{name}");
    }
}

#[test]
fn the_algorithm_none_is_refused() {
    // {"alg":"none"} and {"sub":"7","exp":9999999999}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb05lIn0"] {
        for signature in ["", "AAAA"] {
            let token = format!("{header}.eyJzdWIiOiI3IiwiZXhwIjo5OTk5OTk5OTk5fQ.{signature}");
            assert_eq!(keys().verify(&token, NOW), Err(TokenError::Algorithm));
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
fn a_token_with_critical_extensions_is_refused() {
    let mut header = Header::new(Algorithm::EdDSA);
    header.crit = Some(vec!["b64".to_owned()]);
    let crit = jsonwebtoken::encode(&header, &good_claims(), &signing_key().0).unwrap();
    assert_eq!(keys().verify(&crit, NOW), Err(TokenError::Critical));
}

fn with(claim: &str, value: serde_json::Value) -> serde_json::Value {
    let mut claims = good_claims();
    claims[claim] = value;
    claims
}

#[test]
fn a_token_is_for_the_audience_that_the_server_has_or_for_none() {
    let of = |aud| keys().verify(&signed(&with("aud", aud)), NOW).err();
    for aud in [json!("chat"), json!(["chat"]), json!("")] {
        assert_eq!(of(aud), Some(TokenError::Audience));
    }
    let own = keys().with_audience(Some("chat"));
    assert_eq!(own.verify(&signed(&good_claims()), NOW), Err(TokenError::Audience));
    for (aud, refusal) in [
        (json!("chat"), None),
        (json!(["mail", "chat"]), None),
        (json!("Chat"), Some(TokenError::Audience)),
        (json!([]), Some(TokenError::Audience)),
        (json!(["mail"]), Some(TokenError::Audience)),
        (json!(7), Some(TokenError::Claims)),
        (json!(["chat", 7]), Some(TokenError::Claims)),
    ] {
        assert_eq!(own.verify(&signed(&with("aud", aud.clone())), NOW).err(), refusal, "{aud}");
    }
}

#[test]
fn a_token_is_from_the_issuer_that_the_server_expects_or_from_anybody() {
    assert!(keys().verify(&signed(&with("iss", json!("anybody"))), NOW).is_ok());
    let own = keys().with_issuer(Some("id.example"));
    assert!(own.verify(&signed(&with("iss", json!("id.example"))), NOW).is_ok());
    assert_eq!(own.verify(&signed(&with("iss", json!("id.example.org"))), NOW), Err(TokenError::Issuer));
    assert_eq!(own.verify(&signed(&good_claims()), NOW), Err(TokenError::Issuer));
}

#[test]
fn a_token_may_be_for_one_device() {
    let device = |value| keys().verify(&signed(&with("device", value)), NOW).map(|claims| claims.device);
    assert_eq!(device(json!("3")), Ok(Some(DeviceId(3))));
    for wrong in [json!(3), json!("0"), json!("03"), json!(""), json!("phone")] {
        assert_eq!(device(wrong), Err(TokenError::Claims));
    }
}

#[test]
fn a_live_connection_takes_tokens_of_its_own_user_and_device_only() {
    let keys = keys();
    let of = |claims: serde_json::Value, user, device| {
        keys.verify_for(&signed(&claims), UserId(user), DeviceId(device), NOW).err()
    };
    assert_eq!(of(good_claims(), 7, 3), None);
    assert_eq!(of(with("device", json!("3")), 7, 3), None);
    assert_eq!(of(with("device", json!("3")), 7, 4), Some(TokenError::Device));
    assert_eq!(of(good_claims(), 8, 3), Some(TokenError::User));
    assert_eq!(of(with("exp", json!(NOW_S)), 7, 3), Some(TokenError::Expired));
}

#[test]
fn a_token_says_to_the_millisecond_when_it_was_issued_or_nothing() {
    let now = TimestampMs(NOW.0 + 123);
    let minted = mint(&signing_key(), UserId(7), HOUR, now).unwrap();
    assert_eq!(keys().verify(&minted, now).unwrap().issued, now);
    assert_eq!(keys().verify(&signed(&good_claims()), NOW).unwrap().issued, TimestampMs(0));
}

#[test]
fn what_is_minted_is_taken_by_a_server_that_expects_it() {
    let own = keys().with_audience(Some("chat")).with_issuer(Some("us"));
    let what =
        Mint { user: UserId(7), device: Some(DeviceId(3)), ttl: HOUR, audience: Some("chat"), issuer: Some("us") };
    let claims = own.verify(&mint_with(&signing_key(), &what, NOW).unwrap(), NOW).unwrap();
    assert_eq!((claims.user, claims.device), (UserId(7), Some(DeviceId(3))));
    assert_eq!(own.verify(&token_of_7(), NOW), Err(TokenError::Audience));
}

const OTHER_SECRET: &[u8] = b"another secret of thirty-two byt";

fn hs256_with_id(id: Option<&str>, secret: &[u8]) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = id.map(str::to_owned);
    jsonwebtoken::encode(&header, &good_claims(), &EncodingKey::from_secret(secret)).unwrap()
}

#[test]
fn a_key_id_chooses_among_the_keys_of_the_algorithm_and_those_without_an_id() {
    let keys = keys()
        .with_named_hs256_secret(Some("a"), "", SECRET)
        .and_then(|keys| keys.with_named_hs256_secret(Some("b"), "", OTHER_SECRET))
        .unwrap();
    let key_of = |id, secret| keys.verify(&hs256_with_id(id, secret), NOW).map(|claims| claims.key.to_string());
    assert_eq!(key_of(Some("a"), SECRET), Ok("a".to_owned()));
    assert_eq!(key_of(Some("b"), OTHER_SECRET), Ok("b".to_owned()));
    assert_eq!(key_of(None, OTHER_SECRET), Ok("b".to_owned()));
    assert_eq!(key_of(Some("a"), OTHER_SECRET), Err(TokenError::Signature));
    assert_eq!(key_of(Some("c"), SECRET), Err(TokenError::KeyId));
    let with_fallback = keys.clone().with_hs256_secret(&[b'z'; 32]).unwrap();
    let token = hs256_with_id(Some("c"), &[b'z'; 32]);
    assert_eq!(&*with_fallback.verify(&token, NOW).unwrap().key, "hs256_secret_file");
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("a".to_owned());
    let eddsa = jsonwebtoken::encode(&header, &good_claims(), &signing_key().0).unwrap();
    assert_eq!(&*keys.verify(&eddsa, NOW).unwrap().key, "key_file", "a key of another algorithm is not asked");
}

#[test]
fn there_are_at_most_so_many_keys() {
    let mut keys = keys();
    for _ in 1..KEYS_MAX {
        keys = keys.with_hs256_secret(SECRET).unwrap();
    }
    assert_eq!(keys.with_hs256_secret(SECRET).err(), Some(KeyError::TooMany));
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

#[test]
fn a_token_that_is_known_expires_and_is_known_to_no_other_keys() {
    let keys = keys();
    let token = signed(&json!({ "sub": "7", "exp": NOW_S + 3600, "aud": "us", "iss": "them" }));
    let ours = keys.with_audience(Some("us")).with_issuer(Some("them"));
    let claims = ours.verify(&token, NOW).unwrap();
    assert_eq!(ours.verify(&token, later(3599)), Ok(claims.clone()));
    assert_eq!(ours.verify(&token, later(3600)), Err(TokenError::Expired));
    assert_eq!(ours.verify_for(&token, UserId(8), DeviceId(1), NOW), Err(TokenError::User));
    let mut changed = token.clone().into_bytes();
    let middle = changed.len() - 30;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    assert_eq!(ours.verify(&changed, NOW), Err(TokenError::Signature));
    // What these say of it is another matter.
    assert_eq!(ours.clone().with_audience(Some("else")).verify(&token, NOW), Err(TokenError::Audience));
    assert_eq!(ours.clone().with_issuer(Some("else")).verify(&token, NOW), Err(TokenError::Issuer));
    assert_eq!(ours.clone().verify(&token, NOW), Ok(claims));
    assert_eq!(Keys::default().with_audience(Some("us")).verify(&token, NOW), Err(TokenError::Algorithm));
}
