//! Encryption: a payload for one browser alone (RFC 8291), as one record of the content coding `aes128gcm` (RFC 8188).
//!
//! The parts are AWS-LC's; what is here is the order in which the two specifications put them together.

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, ParsedPublicKey, PrivateKey, UnparsedPublicKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};

/// Longest plaintext in bytes: what a push service must take is 4,096 (RFC 8030, 7.2), less the header (86), the mark behind the
/// text (1) and the tag (16).
pub const PLAINTEXT_BYTES_MAX: usize = 4096 - HEADER_BYTES - 1 - TAG_BYTES;

/// Plaintexts are filled up to a multiple of so many bytes, so that a push service sees little of how long a text is.
pub const PADDED_TO_BYTES: usize = 512;

const PUBLIC_KEY_BYTES: usize = 65;
const HEADER_BYTES: usize = 16 + 4 + 1 + PUBLIC_KEY_BYTES;
const TAG_BYTES: usize = 16;

/// Of what each record has anew: the key that is agreed with, and the salt. With both known beforehand the result is always the same.
pub struct Fresh {
    key: PrivateKey,
    salt: [u8; 16],
}

impl Fresh {
    /// A key and a salt by chance.
    #[must_use]
    pub fn by_chance() -> Self {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).expect("AWS-LC gives random bytes");
        Self { key: PrivateKey::generate(&ECDH_P256).expect("AWS-LC makes keys"), salt }
    }

    /// These. Only for tests: each may be used once.
    ///
    /// # Panics
    ///
    /// When the bytes are no private key of P-256.
    #[must_use]
    pub fn of(private_key: &[u8; 32], salt: [u8; 16]) -> Self {
        Self { key: PrivateKey::from_private_key(&ECDH_P256, private_key).expect("a private key"), salt }
    }
}

/// The device is no one that can be written to: its public key is no point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("p256dh is not a point of the curve P-256")]
pub struct NotAPoint;

/// Whether this is the public key of a browser: a point of P-256, not compressed.
#[must_use]
pub fn is_public_key(p256dh: &[u8; PUBLIC_KEY_BYTES]) -> bool {
    p256dh[0] == 4 && ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, p256dh)).is_ok()
}

/// The body of a request: `plaintext`, filled up to `padded_bytes`, for the browser with this key and secret.
///
/// # Errors
///
/// When the browser's key is none.
///
/// # Panics
///
/// When what is to be encrypted is longer than [`PLAINTEXT_BYTES_MAX`].
pub fn encrypt(
    plaintext: &[u8],
    padded_bytes: usize,
    p256dh: &[u8; PUBLIC_KEY_BYTES],
    auth: &[u8; 16],
    fresh: &Fresh,
) -> Result<Vec<u8>, NotAPoint> {
    let padded_bytes = padded_bytes.max(plaintext.len());
    assert!(padded_bytes <= PLAINTEXT_BYTES_MAX, "{padded_bytes} bytes are to be encrypted");
    let public = fresh.key.compute_public_key().expect("AWS-LC knows the public half of its keys");
    let browser = UnparsedPublicKey::new(&ECDH_P256, p256dh);
    let input = agreement::agree(&fresh.key, browser, NotAPoint, |shared| {
        let key = Salt::new(HKDF_SHA256, auth).extract(shared);
        Ok(expand::<32>(&key, &[b"WebPush: info\0", p256dh, public.as_ref()]))
    })?;
    let key = Salt::new(HKDF_SHA256, &fresh.salt).extract(&input);
    let content_key: [u8; 16] = expand(&key, &[b"Content-Encoding: aes128gcm\0"]);
    let nonce: [u8; 12] = expand(&key, &[b"Content-Encoding: nonce\0"]);

    let record_bytes = padded_bytes + 1 + TAG_BYTES;
    let mut body = Vec::with_capacity(HEADER_BYTES + record_bytes);
    body.extend_from_slice(&fresh.salt);
    // How long records are but the last: more than this one has, so it is the last (RFC 8188, 2).
    body.extend_from_slice(&4096_u32.to_be_bytes());
    body.push(65);
    body.extend_from_slice(public.as_ref());
    body.extend_from_slice(plaintext);
    // The mark of a last record, and zeros behind it.
    body.push(2);
    body.resize(HEADER_BYTES + padded_bytes + 1, 0);

    let content_key = UnboundKey::new(&AES_128_GCM, &content_key).expect("a key of AES-128 has 16 bytes");
    let nonce = Nonce::assume_unique_for_key(nonce);
    let (_, record) = body.split_at_mut(HEADER_BYTES);
    let tag = LessSafeKey::new(content_key).seal_in_place_separate_tag(nonce, Aad::empty(), record);
    body.extend_from_slice(tag.expect("the record is far shorter than AES-GCM allows").as_ref());
    Ok(body)
}

/// `N` bytes of HKDF.
fn expand<const N: usize>(key: &Prk, info: &[&[u8]]) -> [u8; N] {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut bytes = [0; N];
    let filled = key.expand(info, Length(N)).and_then(|okm| okm.fill(&mut bytes));
    filled.expect("HKDF gives up to 255 times the bytes of its hash");
    bytes
}
