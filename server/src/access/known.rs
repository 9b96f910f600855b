//! Known: tokens whose signature was good before, so that who comes back with the same one costs a hash and no signature. Shared by all
//! cores: nobody comes back to the core that they were at.
//!
//! It holds no token: a token is known by its SHA-256. What it says is what the keys have said, so it goes with these keys: others begin
//! with an empty one. Whether the time is right, and whether the token has been revoked, is looked at each time. What was refused is not
//! kept: anybody can make that up.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::auth::Claims;
use crate::limits::TOKENS_KNOWN_MAX;

/// The SHA-256 of a token.
type Hash = [u8; SHA256_OUTPUT_LEN];

/// See the head of this file. Each token has one place, by the beginning of its hash, and takes it from whichever had it before: so it
/// is bounded, and nothing has to be tidied up.
#[derive(Default)]
pub(super) struct Known {
    places: DashMap<u32, (Hash, Claims), RandomState>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("tokens", &self.places.len()).finish()
    }
}

impl Known {
    /// What `reads` says of the token, or said before.
    ///
    /// # Errors
    /// Those of `reads`.
    pub(super) fn read<E>(&self, token: &str, reads: impl FnOnce() -> Result<Claims, E>) -> Result<Claims, E> {
        let hash = sha256(token);
        let place = place_of(&hash);
        if let Some(claims) = self.places.get(&place).and_then(|at| (at.0 == hash).then(|| at.1.clone())) {
            return Ok(claims);
        }
        let claims = reads()?;
        self.places.insert(place, (hash, claims.clone()));
        Ok(claims)
    }
}

fn sha256(token: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn place_of(hash: &Hash) -> u32 {
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % TOKENS_KNOWN_MAX
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proto_spec::{TimestampMs, UserId};

    use super::*;

    fn claims(user: u64) -> Claims {
        let (not_before, expires, issued) = (TimestampMs(1), TimestampMs(2), TimestampMs(3));
        Claims { user: UserId(user), device: None, not_before, expires, issued, key: "k".into() }
    }

    #[test]
    fn a_token_is_read_once_and_what_was_refused_each_time() {
        let (known, reads) = (Known::default(), Cell::new(0));
        let read = |token: &str, says: Result<Claims, &'static str>| {
            known.read(token, || {
                reads.set(reads.get() + 1);
                says
            })
        };
        assert_eq!(read("a", Ok(claims(7))), Ok(claims(7)));
        assert_eq!(read("a", Err("not read")), Ok(claims(7)));
        assert_eq!(reads.get(), 1);
        for times in 2..4 {
            assert_eq!(read("b", Err("bad")), Err("bad"));
            assert_eq!(reads.get(), times);
        }
        assert_eq!(format!("{known:?}"), "Known { tokens: 1 }");
    }

    #[test]
    fn of_two_tokens_with_one_place_neither_is_taken_for_the_other() {
        let tokens: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
        let place = |token: &String| place_of(&sha256(token));
        let (first, second) = tokens
            .iter()
            .enumerate()
            .find_map(|(at, token)| Some((token, tokens[at + 1..].iter().find(|other| place(other) == place(token))?)))
            .expect("two of so many meet");
        let known = Known::default();
        let read = |token: &str, user| known.read(token, || Ok::<_, ()>(claims(user))).unwrap().user.0;
        assert_eq!([read(first, 1), read(second, 2), read(second, 3), read(first, 4), read(first, 5)], [1, 2, 2, 4, 4]);
        assert_eq!(known.places.len(), 1);
    }
}
