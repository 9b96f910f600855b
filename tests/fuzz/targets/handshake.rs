//! Any bytes before the hello, in pieces, and before that as the header of a balancer: nothing panics, no more than one frame is held, the cut does not change the outcome, and
//! nobody comes in without a signature.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proto_spec::{TimestampMs, limits::CLIENT_FRAME_BYTES_MAX};
use server::{
    access::{
        auth::Keys,
        handshake::{Handshake, Step},
        proxy::{self, Cut},
    },
    limits::PROXY_HEADER_BYTES_MAX,
};

const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// Nobody has the private half.
const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::from_pem(KEY).expect("it is a key"));

fn run(pieces: &[&[u8]]) -> Step {
    let mut handshake = Handshake::new();
    for piece in pieces {
        let step = handshake.bytes(piece, &KEYS, NOW);
        assert!(handshake.held_bytes() < CLIENT_FRAME_BYTES_MAX + 10);
        if step != Step::More {
            return step;
        }
    }
    Step::More
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, input)) = data.split_first() else { return };
    let (head, tail) = input.split_at(usize::from(cut).min(input.len()));
    let whole = run(&[input]);
    assert!(!matches!(whole, Step::Ready { .. }), "nobody can have signed this");
    assert_eq!(run(&[head, tail]), whole);
    let said = proxy::cut(input);
    match proxy::cut(head) {
        Ok(Cut::Incomplete) => assert!(head.len() < PROXY_HEADER_BYTES_MAX),
        early => assert_eq!(early, said),
    }
    if let Ok(Cut::Header { taken, .. }) = said {
        assert!(taken <= input.len().min(PROXY_HEADER_BYTES_MAX));
    }
});
