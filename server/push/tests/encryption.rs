//! What is encrypted for a browser is what RFC 8291 says, and what a receiver that is none of ours can read.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::{collection::vec, prelude::*};
use push::encryption::{Fresh, PLAINTEXT_BYTES_MAX, encrypt, is_public_key};
use web_push_native::{Auth, decrypt, p256::SecretKey};

fn bytes<const N: usize>(base64url: &str) -> [u8; N] {
    URL_SAFE_NO_PAD.decode(base64url).unwrap().try_into().unwrap()
}

/// The browser of RFC 8291, appendix A.
fn browser() -> (SecretKey, [u8; 65], [u8; 16]) {
    let private = bytes::<32>("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
    let public = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    (SecretKey::from_slice(&private).unwrap(), bytes(public), bytes("BTBZMqHH6r4Tts7J_aSIgg"))
}

#[test]
fn the_example_of_the_specification_is_encrypted_as_there() {
    let (_, p256dh, auth) = browser();
    let key = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
    let fresh = Fresh::of(&key, bytes("DGv6ra1nlYgDCS1FRnbzlw"));
    let body = encrypt(b"When I grow up, I want to be a watermelon", 0, &p256dh, &auth, &fresh).unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(body),
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95b\
         Qpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    );
}

proptest! {
    #[test]
    fn another_implementation_reads_what_was_encrypted(plaintext in vec(any::<u8>(), 0..=PLAINTEXT_BYTES_MAX), padded in 0..=PLAINTEXT_BYTES_MAX) {
        let (private, p256dh, auth) = browser();
        let body = encrypt(&plaintext, padded, &p256dh, &auth, &Fresh::by_chance()).unwrap();
        prop_assert_eq!(body.len(), 86 + plaintext.len().max(padded) + 17);
        prop_assert!(body.len() <= 4096);
        let read = decrypt(body, &private, Auth::from_slice(&auth)).unwrap();
        prop_assert_eq!(read, plaintext);
    }
}

#[test]
fn each_time_it_is_another_text() {
    let (_, p256dh, auth) = browser();
    let body = || encrypt(b"the same", 0, &p256dh, &auth, &Fresh::by_chance()).unwrap();
    assert_ne!(body(), body());
}

#[test]
fn what_is_no_point_of_the_curve_is_no_key() {
    let (_, good, auth) = browser();
    assert!(is_public_key(&good));
    let mut off_the_curve = good;
    off_the_curve[64] ^= 1;
    let mut compressed = good;
    compressed[0] = 2;
    for bad in [off_the_curve, compressed, [0; 65], [4; 65]] {
        assert!(!is_public_key(&bad));
        assert!(encrypt(b"text", 0, &bad, &auth, &Fresh::by_chance()).is_err());
    }
}
