//! A push service on this machine, for measuring a server: `cargo run --release -p push --example endpoint -- ca.pem`.
//!
//! It speaks HTTP/2 over TLS, looks at what RFC 8030, 8291 and 8292 ask of a request, decrypts nothing and answers 201, or 400. Writes the
//! authority that it is to be believed by into the file, prints where it is, and how many requests it has taken with each Enter.
#![expect(clippy::unwrap_used, reason = "a measurement that can not run has failed")]

#[path = "../tests/providers/endpoint.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod endpoint;

use std::{
    env, fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::endpoint::{Authority, Endpoint, Reply, Seen, Speaks};

/// The least that a request has: the head of a record, one block of padding, and the seal.
const BODY_BYTES_MIN: usize = 86 + 512;

fn main() {
    let file = env::args().nth(1).expect("usage: endpoint FILE");
    let authority = Authority::new();
    fs::write(file, authority.pem()).unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let endpoint = Endpoint::start(&authority, Speaks::Http2, move |seen, _| {
        let is_good = is_good(seen);
        count.fetch_add(u64::from(is_good), Ordering::Relaxed);
        Reply::Status(if is_good { 201 } else { 400 })
    });
    println!("https://localhost:{}", endpoint.port);
    for line in io::stdin().lines() {
        line.unwrap();
        // What has been looked at is not kept.
        endpoint.seen_meanwhile();
        println!("{}", taken.load(Ordering::Relaxed));
    }
}

fn is_good(seen: &Seen) -> bool {
    seen.header("authorization").starts_with("vapid t=")
        && seen.header("content-encoding") == "aes128gcm"
        && seen.header("ttl").parse::<u64>().is_ok()
        && seen.header("topic").len() == 32
        && seen.body.len() >= BODY_BYTES_MIN
}
