//! Any bytes as a key set, as a token and as a line of revocations: nothing panics, nobody comes in without a signature, and what is
//! read is what would have been written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_spec::TimestampMs;
use server::access::{auth::Keys, jwks::Jwks, revocation::Change};

const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// Nobody has the private half.
const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

fuzz_target!(|data: &[u8]| {
    let keys = Keys::from_pem(KEY).expect("it is a key");
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(keys.verify(text, NOW).is_err(), "nobody can have signed this");
    }
    if let Ok(jwks) = Jwks::parse(data) {
        let _ = jwks.add_to(keys);
    }
    if let Some(change) = Change::parse(data) {
        assert_eq!(change.line().as_bytes().strip_suffix(b"\n"), Some(data));
    }
});
